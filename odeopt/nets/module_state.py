r"""What a pass through a module may change beside its weights: seen, refused, and put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["ModuleState", "left_as_it_was", "plain_arithmetic"]

_PASSES = 4  # that tell a module's draws from those of other threads


class ModuleState:
    """Buffers, attributes, modes and gradients of a module, and the random generators, at one moment.

    With `weights` also its weights, which no pass is expected to change.
    """

    def __init__(self, module: nn.Module, *, weights: bool = False) -> None:
        # the tables themselves (of weights, buffers, parts, and of one's own: caches), so that what a pass
        # adds, replaces or removes is undone as well
        self._parts = [
            (part, dict(part.__dict__), [(t, _held(t)) for t in vars(part).values() if _is_table(t)])
            for part in module.modules()
        ]
        self._buffers = [(part, dict(part._buffers)) for part in module.modules()]
        named = [("buffer", *pair) for pair in module.named_buffers()]
        if weights:
            named += [("weight", *pair) for pair in module.named_parameters()]
        self._values = [(f"{kind} {name}", t, t.detach().clone()) for kind, name, t in named]
        self._parameters = [(p, p.requires_grad, p.grad) for p in module.parameters()]
        self._random = _random_states(module)
        self.was_kept: bool = True  # once restored: whether no value had to be, and no number was drawn

    def require_unchanged(self, again: Callable[[], object]) -> None:
        """Refuse a module whose pass, as `again` repeats it, has drawn random numbers or changed a buffer."""
        for name in self._drawn_by(again):
            raise ValueError(
                f"module draws random numbers of {name} in its forward pass, so that it gives other "
                "outputs at each pass; make it deterministic"
            )
        replaced = self.replaced()
        for name, tensor, before in self._values:
            if id(tensor) in replaced or not _same(tensor, before):
                raise ValueError(
                    f"module changes its {name} in a forward pass, so that it is another network in "
                    "the next one; call module.eval(), or leave it alone"
                )

    def replaced(self) -> set[int]:
        """The ids of buffers in whose place the module has others, or none."""
        return {
            id(b) for part, held in self._buffers for k, b in held.items() if part._buffers.get(k) is not b
        }

    def _drawn_by(self, again: Callable[[], object]) -> list[str]:
        """Generators that two passes from the same state leave in the same other one.

        A change alone says little: other threads, those of a cluster's worker say, draw from them as well.
        """
        drawn = self._drawn()
        for _ in range(_PASSES):
            if not drawn:
                break
            _set_random_states(self._random)
            again()
            before, drawn = drawn, self._drawn()
            if found := [name for name, state in drawn.items() if before.get(name) == state]:
                return found
        return []

    def _drawn(self) -> dict[str, object]:
        """The generators whose state is another, with it."""
        now = {name: _digest(state) for name, state in _random_states(self._parts[0][0]).items()}
        return {name: state for name, state in now.items() if state != _digest(self._random[name])}

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back."""
        self.was_kept = not (self.replaced() or self._drawn())
        for part, attributes, tables in self._parts:
            part.__dict__.clear()
            part.__dict__.update(attributes)
            for table, held in tables:
                table.clear()
                table.extend(held) if isinstance(table, list) else table.update(held)
        for _, tensor, before in self._values:
            if not _same(tensor, before):
                self.was_kept = False
                tensor.copy_(before)
        for p, requires_grad, grad in self._parameters:
            p.requires_grad_(requires_grad)
            p.grad = grad
        _set_random_states(self._random)


@contextlib.contextmanager
def left_as_it_was(module: nn.Module, *, weights: bool = False) -> Iterator[ModuleState]:
    """Whatever happens inside, the module and the random generators are then as before."""
    state = ModuleState(module, weights=weights)
    try:
        yield state
    finally:
        state.restore()


@contextlib.contextmanager
def plain_arithmetic(device: torch.device) -> Iterator[None]:
    """Derivatives recorded, whatever the caller has set, by kernels that can be differentiated twice.

    Products are those of the dtype: convolutions of float32 on a GPU would round to ten bits by default.
    """
    cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            cudnn.flags(enabled=cudnn.enabled, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(products)


def _is_table(value: object) -> bool:
    return isinstance(value, (dict, list, set))


def _held(table: Any) -> dict | list:
    return dict(table) if isinstance(table, dict) else list(table)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    # the rest is for nan
    return torch.equal(one, other) or bool(((one == other) | ((one != one) & (other != other))).all())


def _random_states(module: nn.Module) -> dict[str, Any]:
    found = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "random": random.getstate()}  # noqa: NPY002
    for device in {p.device for p in module.parameters() if p.device.type == "cuda"}:
        found[str(device)] = torch.cuda.get_rng_state(device)
    return found


def _digest(state: Any) -> object:
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes()
    return tuple(part.tobytes() if isinstance(part, np.ndarray) else part for part in state)


def _set_random_states(states: dict[str, Any]) -> None:
    for name, state in states.items():
        if name == "torch":
            torch.set_rng_state(state)
        elif name == "numpy":
            np.random.set_state(state)  # noqa: NPY002
        elif name == "random":
            random.setstate(state)
        else:
            torch.cuda.set_rng_state(state, name)
