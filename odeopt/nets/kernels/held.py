r"""A module at weights held apart from it: exchanged for the time of an action, then as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.func import functional_call

from odeopt.nets.module_state import left_as_it_was, plain_arithmetic

__all__ = ["HeldWeights"]

_T = TypeVar("_T")


class _Inside(nn.Module):
    """Runs an action while the weights of a module are exchanged, backward passes included."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, action: Callable[[], Any]) -> Any:
        return action()


class HeldWeights:
    """Copies of the weights and buffers of a module; `leaves` are those named, open to derivatives."""

    def __init__(self, module: nn.Module, names: Iterable[str], dtype: torch.dtype, *, lifted: bool) -> None:
        def copied(t: torch.Tensor) -> torch.Tensor:
            kind = dtype.to_complex() if t.is_complex() else dtype if t.is_floating_point() else t.dtype
            return t.detach().to(kind, copy=True)

        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._tensors = {f"module.{name}": copied(t) for name, t in named.items()}
        self.leaves = [self._tensors[f"module.{name}"].requires_grad_() for name in names]
        self._module = module
        self._modes = [(part, part.training) for part in module.modules()]
        # what a lifted module makes of its own, such as torch.zeros(...), is to be as precise as its weights
        self._default = dtype if lifted else None

    def run(self, action: Callable[[], _T]) -> _T:
        """Run an action with these weights in the module, in the modes of the time when they were copied."""
        device = self.leaves[0].device
        with left_as_it_was(self._module), plain_arithmetic(device, self._default):
            for part, mode in self._modes:
                part.training = mode
            return functional_call(_Inside(self._module), self._tensors, (action,))
