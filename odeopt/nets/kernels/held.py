r"""A module at weights held apart from it: exchanged for the time of an action, then as it was."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.func import functional_call

from odeopt.nets.module_checks import first_words, fitting
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
    """Copies of the weights and buffers of a module; `leaves` are those named, open to derivatives.

    `lifted` copies are of double precision.
    """

    def __init__(self, module: nn.Module, names: Iterable[str], *, lifted: bool = False) -> None:
        def copied(t: torch.Tensor) -> torch.Tensor:
            double = torch.complex128 if t.is_complex() else torch.float64
            keep = not lifted or not (t.is_floating_point() or t.is_complex())
            return t.detach().to(t.dtype if keep else double, copy=True)

        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._tensors = {f"module.{name}": copied(t) for name, t in named.items()}
        self._names = [f"module.{name}" for name in names]
        self.leaves: list[torch.Tensor] = [self._tensors[name].requires_grad_() for name in self._names]
        self._module = module
        self._modes = [(part, part.training) for part in module.modules()]
        self._lifted = lifted

    def moved(self, weights: Sequence[torch.Tensor]) -> HeldWeights:
        """The same with other weights as leaves, which must stay as they are."""
        other = copy.copy(self)
        other.leaves = [
            weight.detach().to(leaf).requires_grad_()
            for weight, leaf in zip(weights, self.leaves, strict=True)
        ]
        other._tensors = self._tensors | dict(zip(self._names, other.leaves, strict=True))
        return other

    def run(self, action: Callable[[], _T]) -> _T:
        """Run an action with these weights in the module, in the modes of the time when they were copied."""
        with left_as_it_was(self._module), plain_arithmetic(self.leaves[0].device):
            return self.run_as_it_is(action)

    def run_as_it_is(self, action: Callable[[], _T]) -> _T:
        """The same, where the caller puts the module back and has set the arithmetic."""
        for part, mode in self._modes:
            part.training = mode
        return functional_call(_Inside(self._module), self._tensors, (action,))

    @contextlib.contextmanager
    def fitting(self, x: torch.Tensor) -> Iterator[None]:
        """As :func:`odeopt.nets.module_checks.fitting`: what a module took at first fails by its dtype."""
        try:
            with fitting(x):
                yield
        except ValueError as error:
            if not self._lifted:
                raise
            raise ValueError(
                f"module cannot be evaluated in double precision ({first_words(error.__cause__ or error)}); "
                "remove casts to another dtype from forward, and convert it with module.double()"
            ) from error
