r"""The Jacobian of any module at fixed weights, in float64, checked against the module's own passes.

The products must be those of the module as its user trains it. So before any number leaves, its own backward
pass is run twice (randomness shows in derivatives where outputs of 0 hide it), and compared with the one by
held weights (a list, a view or a closure of weights is not reached by those).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from odeopt.nets.kernels.held import HeldWeights
from odeopt.nets.kernels.matrix import (
    Parts,
    Plan,
    gram_of,
    parts_at,
    planned_by_all,
    product_matrix,
    pulled_back,
    pushed,
)
from odeopt.nets.kernels.tape import Tape, equal_to_rounding, flat, probe, real_size, split, vectors
from odeopt.nets.module_checks import differentiable, fitting, require_outputs
from odeopt.nets.module_state import ModuleState, left_as_it_was, plain_arithmetic

__all__ = ["Jacobian", "own_tape"]


def _own_outputs(
    module: nn.Module,
    leaves: dict[str, nn.Parameter],
    x: torch.Tensor,
    state: ModuleState | None,
    *,
    columns: int | None,
) -> torch.Tensor:
    """The outputs of one pass, refused if not finite or if it changes x (or, by its state, the module)."""
    before = x.clone()
    for p in leaves.values():
        p.requires_grad_()
        p.grad = None
    with fitting(x):
        output = require_outputs(module(x), len(x), columns=columns).reshape(-1)
    if state is not None:
        state.require_unchanged(lambda: module(x))
    if not torch.equal(x, before):
        raise ValueError("module changes its inputs in place; let its forward pass begin with x.clone()")
    if not output.detach().isfinite().all():
        raise ValueError("module has non-finite outputs at these weights; initialise it again, or scale x")
    return output


def own_tape(
    module: nn.Module,
    leaves: dict[str, nn.Parameter],
    x: torch.Tensor,
    state: ModuleState,
    *,
    columns: int | None,
) -> Tape:
    """The outputs of the module itself, refused if those, or `backward()`, of another pass are others."""
    output = _own_outputs(module, leaves, x, state, columns=columns)
    tape, again = Tape(output, tuple(leaves.values())), module(x).reshape(-1)
    c = probe(len(output), output)
    with differentiable():
        pulled = tape.pull_back(c)
        again.backward(c)
    if not pulled.isfinite().all():
        raise ValueError("module has a derivative that is not finite at these weights; change them, or x")
    repeated = flat([p.grad for p in leaves.values()], tuple(leaves.values()))
    same = equal_to_rounding(output.detach(), again.detach())
    if same and equal_to_rounding(pulled, repeated):
        return tape
    if same and equal_to_rounding(pulled, Tape(module(x).reshape(-1), tuple(leaves.values())).pull_back(c)):
        raise ValueError(
            "module has another gradient by backward() than by torch.autograd.grad (a reentrant "
            "checkpoint?); use checkpoint(..., use_reentrant=False)"
        )
    raise ValueError(
        "module gives other outputs at each pass, or other derivatives, so it is random or counts its "
        "passes; make it deterministic"
    )


class Jacobian:
    """J of the outputs of a module by some of its weights, shape (N, P), in float64."""

    def __init__(
        self, module: nn.Module, chosen: dict[str, nn.Parameter], x: torch.Tensor, batch_size: int | None
    ) -> None:
        self.names: tuple[str, ...] = tuple(chosen)
        self.size: int = sum(real_size(p) for p in chosen.values())
        self.device: torch.device = next(iter(chosen.values())).device
        self.x: torch.Tensor = x.to(self.device)
        self.module = module
        self.batches: tuple[torch.Tensor, ...] = (self.x,) if batch_size is None else self.x.split(batch_size)
        self._tape: Tape | None = None
        self.plan: Plan | None = None
        self.whole: Parts | None = None
        self.is_tried: bool = False
        self._parts: Parts | None = None  # of moved weights
        self._is_moved = False
        self.outputs: int = 1  # of one example
        self._probed: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self.held: HeldWeights = HeldWeights(module, self.names)
        self._require_reached(chosen)
        if _is_below_double(module):
            self.held = HeldWeights(module, self.names, lifted=True)
            self._tape = self._probed = None
        self.predictions: np.ndarray = self._outputs()
        self.outputs = len(self.predictions) // len(self.x)
        if len(self.batches) > 1:
            self._require_independent()

    def _require_reached(self, chosen: dict[str, nn.Parameter]) -> None:
        """Refuse a module whose own backward pass is not that by held weights, in its own dtype."""
        dtype, x = _own_dtype(chosen), self.batches[0]
        x = x.to(dtype) if x.is_floating_point() else x
        if self._is_reached(chosen, x):
            return
        with left_as_it_was(self.module, weights=True) as state, plain_arithmetic(self.device):
            own = own_tape(self.module, chosen, x, state, columns=None)
            c = probe(len(own.output), own.output)
            with differentiable():
                parts = torch.autograd.grad(own.output, own.leaves, c, allow_unused=True)
        others = self.held.run(lambda: self._recorded(x, c))
        for name, agrees in zip(self.names, self._agreement(parts, others), strict=True):
            if not agrees:
                if chosen[name]._backward_hooks:
                    raise ValueError(
                        f"module has a hook that changes the gradient of its weight {name}, so that it has "
                        "no Jacobian; remove the hook"
                    )
                raise ValueError(
                    f"module reads its weight {name} from elsewhere than its attribute (a list, a view or a "
                    "closure made before), so that its kernel at held weights is not known; read it as an "
                    "attribute in forward"
                )

    def _is_reached(self, chosen: dict[str, nn.Parameter], x: torch.Tensor) -> bool:
        """Whether one pass of the module with `backward()`, and the next by held weights, already agree.

        The second is from where the first has left the module: one that counts its passes gives others.
        """
        with left_as_it_was(self.module, weights=True) as state, plain_arithmetic(self.device):
            output = _own_outputs(self.module, chosen, x, None, columns=None)
            if state.replaced():
                return False
            c = probe(len(output), output)
            with differentiable():
                output.backward(c, retain_graph=True)
            parts, own = [p.grad for p in chosen.values()], output.detach()
            del output  # and with it what it recorded: the next pass takes its memory
            same = self.held.run_as_it_is(lambda: self._is_same(x, c, own, parts))
        return same and state.was_kept  # else the passes of its own say why

    def _is_same(
        self, x: torch.Tensor, c: torch.Tensor, own: torch.Tensor, parts: Sequence[torch.Tensor | None]
    ) -> bool:
        """Whether a pass by held weights has these outputs, and derivatives by c.

        Where one backward pass holds all rows, those of its layers are tried first: they give the matrix too.
        """
        self._tape, self._probed, leaves = None, None, self.held.leaves
        output = self.module(x).reshape(-1)
        if (
            not output.requires_grad
            or output.shape != own.shape
            or not equal_to_rounding(own, output.detach())
        ):
            return False
        if len(own) == len(self.x) and len(self.batches) == 1 and not _is_below_double(self.module):
            self._tape, self._probed = Tape(output, leaves), (c, vectors(parts, leaves))
            self.plan, self.whole, self.is_tried = *planned_by_all(self), True
            if self.whole is not None:
                return True
        return all(self._agreement(parts, self._derivatives(output, c)))

    def _recorded(self, x: torch.Tensor, c: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """Derivatives by held weights, none of outputs that are not open to them."""
        output = self.module(x).reshape(-1)
        if not output.requires_grad or output.shape != c.shape:
            return [None] * len(self.held.leaves)
        return self._derivatives(output, c)

    def _derivatives(self, output: torch.Tensor, c: torch.Tensor) -> Sequence[torch.Tensor | None]:
        """Those of outputs by c; both are kept where they are of all inputs."""
        leaves = self.held.leaves
        with differentiable():
            found = torch.autograd.grad(output, leaves, c, allow_unused=True, retain_graph=True)
        if len(self.batches) == 1:  # of what is double, the products'
            self._tape, self._probed = Tape(output.double(), leaves), (c, vectors(found, leaves))
        return found

    def _agreement(
        self, parts: Sequence[torch.Tensor | None], others: Sequence[torch.Tensor | None]
    ) -> Iterator[bool]:
        """Whether two derivatives are equal, leaf by leaf."""
        leaves = self.held.leaves
        pairs = list(zip(vectors(parts, leaves), vectors(others, leaves), strict=True))
        if all(torch.equal(*pair) for pair in pairs):  # the usual case, without norms
            yield from (True for _ in pairs)
            return
        floor = math.hypot(*(float(one.norm()) for one, _ in pairs))
        for one, other in pairs:
            yield equal_to_rounding(one, other, floor=floor)

    # --- products ---

    def _outputs(self) -> np.ndarray:
        if self._tape is not None:
            outputs = self._tape.output.detach().clone()
        else:
            outputs = self.held.run(lambda: torch.cat([tape.output.detach() for tape in self.each_tape()]))
        found = outputs.cpu().numpy()
        found.setflags(write=False)
        return found

    def record(self, x: torch.Tensor) -> Tape:
        with self.held.fitting(x):
            output = require_outputs(self.module(x), len(x), columns=None)
        return Tape(output.reshape(-1).double(), self.held.leaves)

    def each_tape(self) -> Iterator[Tape]:
        if len(self.batches) > 1:
            yield from (self.record(batch) for batch in self.batches)
            return
        if self._tape is None:  # recorded once, and replayed in each product
            self._tape = self.record(self.x)
        yield self._tape

    def pull_back(self, cotangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`J^\top c`, shape (P,)."""
        if self._parts is not None:
            return pulled_back(self._parts, cotangent)
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        parts = cotangent.split([len(b) * self.outputs for b in self.batches])

        def pulled() -> torch.Tensor:
            for tape, part in zip(self.each_tape(), parts, strict=True):
                total.add_(tape.pull_back(part))
            return total

        return self.held.run(pulled)

    def product(self, cotangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`JJ^\top c`, shape (N,)."""
        return self.push_forward(self.pull_back(cotangent))

    def push_forward(self, tangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`Jv`, shape (N,)."""
        if self._parts is not None:
            return pushed(self._parts, split(tangent.double(), self.held.leaves))
        return self.held.run(lambda: torch.cat([tape.push_forward(tangent) for tape in self.each_tape()]))

    def origin(self) -> np.ndarray:
        r"""Return :math:`Jw`, shape (N,), of the held weights themselves."""

        def pushed() -> torch.Tensor:
            leaves = [leaf.detach() for leaf in self.held.leaves]
            weights = flat(leaves, leaves).double()
            return torch.cat([tape.push_forward(weights) for tape in self.each_tape()])

        return self.held.run(pushed).detach().cpu().numpy()

    def differentiable_twice(self) -> bool:
        """Whether a product is two passes, not a pass for each row."""
        return self.held.run(lambda: next(self.each_tape()).differentiable_twice())

    # --- other weights ---

    def moved(self, weights: Sequence[torch.Tensor]) -> Jacobian:
        """J at other weights of the same module, without the first checks, and by layers if it has those."""
        other = copy.copy(self)
        other.held, other._tape, other._probed = self.held.moved(weights), None, None
        other.whole, other._parts, other._is_moved = None, None, True
        other.predictions = other._outputs()
        return other

    # --- the matrix ---

    def gram(self) -> np.ndarray:
        r""":math:`JJ^\top`."""
        self._parts = parts_at(self) if self._is_moved else None
        if self._parts is not None:
            return gram_of(self._parts, len(self.predictions))
        return product_matrix(self, self)

    def probe(self, size: int, seed: int = 0) -> torch.Tensor:
        return probe(size, torch.empty(0, dtype=torch.float64, device=self.device), seed)

    def probed(self, seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]:
        r"""A random c, and :math:`J^\top c` by a backward pass through all examples, leaf by leaf."""
        if self._probed is None or seed:
            c = self.probe(len(self.predictions), seed)
            found = c, list(self.pull_back(c).split([real_size(leaf) for leaf in self.held.leaves]))
            if seed:
                return found
            self._probed = found
        return self._probed

    def _require_independent(self) -> None:
        """Refuse examples that influence each other: of the first batch, or the first two, and its parts."""
        batch = max(self.batches[0], self.x[:2], key=len)
        c, cut = self.probe(len(batch) * self.outputs), len(batch) // 2

        def pulled(x: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            return self.held.run(lambda: self.record(x).pull_back(part))

        for x in (batch, batch.flip(0)):  # in both orders: what sorts examples leaves sorted ones alone
            parts = ((x[:cut], c[: cut * self.outputs]), (x[cut:], c[cut * self.outputs :]))
            if not equal_to_rounding(pulled(x, c), torch.stack([pulled(*part) for part in parts]).sum(0)):
                raise ValueError(
                    "batch_size is for modules whose outputs do not depend on other examples, and this one's "
                    "do; leave it out"
                )


def _is_below_double(module: nn.Module) -> bool:
    tensors = itertools.chain(module.parameters(), module.buffers())
    kinds = {t.dtype for t in tensors if t.is_floating_point() or t.is_complex()}
    return bool(kinds - {torch.float64, torch.complex128})


def _own_dtype(chosen: dict[str, nn.Parameter]) -> torch.dtype:
    """The real dtype that the chosen weights are promoted to."""
    found = torch.bfloat16
    for number, p in enumerate(chosen.values()):
        dtype = p.dtype.to_real() if p.is_complex() else p.dtype
        found = dtype if number == 0 else torch.promote_types(found, dtype)
    return found
