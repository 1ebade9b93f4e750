r"""The Jacobian of any module at fixed weights, in float64, checked against the module's own passes.

The products must be those of the module as its user trains it. So before any number leaves, its own backward
pass is run twice (randomness shows in derivatives where outputs of 0 hide it), and compared with the one by
held weights (a list, a view or a closure of weights is not reached by those).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn

from odeopt.nets.kernels.held import HeldWeights
from odeopt.nets.kernels.tape import Tape, equal_to_rounding, flat, probe, real_size
from odeopt.nets.module_checks import differentiable, fitting, require_outputs
from odeopt.nets.module_state import ModuleState, left_as_it_was, plain_arithmetic

__all__ = ["Jacobian", "own_tape"]

_BLOCK = 2**25  # entries of the Jacobian held at a time: two blocks of 256 MB of float64


def own_tape(
    module: nn.Module, leaves: dict[str, nn.Parameter], x: torch.Tensor, state: ModuleState, *, columns: str
) -> Tape:
    """The outputs of the module itself, refused if those, or `backward()`, of another pass are others."""
    before = x.clone()
    for p in leaves.values():
        p.requires_grad_()
        p.grad = None
    with fitting(x):
        output = require_outputs(module(x), len(x), columns=columns).reshape(-1)
    state.require_unchanged()
    if not torch.equal(x, before):
        raise ValueError("module changes its inputs in place; let its forward pass begin with x.clone()")
    if not output.detach().isfinite().all():
        raise ValueError("module has non-finite outputs at these weights; initialise it again, or scale x")
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
        self._module = module
        self._batches = (self.x,) if batch_size is None else self.x.split(batch_size)
        self._tape: Tape | None = None
        self._require_reached(chosen)
        self._held = HeldWeights(module, self.names, lifted=_is_below_double(module))
        outputs = self._held.run(lambda: torch.cat([tape.output.detach() for tape in self._each_tape()]))
        self.predictions: np.ndarray = outputs.cpu().numpy()
        self.predictions.setflags(write=False)
        self.outputs: int = len(self.predictions) // len(self.x)  # of one example
        if len(self._batches) > 1:
            self._require_independent()

    def _require_reached(self, chosen: dict[str, nn.Parameter]) -> None:
        """Refuse a module whose own backward pass is not that by held weights, in its own dtype."""
        dtype, x = _own_dtype(chosen), self._batches[0]
        x = x.to(dtype) if x.is_floating_point() else x
        with left_as_it_was(self._module, weights=True) as state, plain_arithmetic(self.device):
            own = own_tape(self._module, chosen, x, state, columns="c")
            c = probe(len(own.output), own.output)
            with differentiable():
                parts = torch.autograd.grad(own.output, own.leaves, c, allow_unused=True)
        held = HeldWeights(self._module, self.names)

        def pulled() -> tuple:
            output = self._module(x).reshape(-1)
            if not output.requires_grad:
                return (None,) * len(parts)
            return torch.autograd.grad(output, held.leaves, c, allow_unused=True)

        floor = float(flat(parts, own.leaves).norm())
        for name, p, one, other in zip(self.names, own.leaves, parts, held.run(pulled), strict=True):
            if not equal_to_rounding(flat([one], [p]), flat([other], [p]), floor=floor):
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

    # --- products ---

    def _record(self, x: torch.Tensor) -> Tape:
        with self._held.fitting(x):
            output = require_outputs(self._module(x), len(x), columns="c")
        return Tape(output.reshape(-1).double(), self._held.leaves)

    def _each_tape(self) -> Iterator[Tape]:
        if len(self._batches) > 1:
            yield from (self._record(batch) for batch in self._batches)
            return
        if self._tape is None:  # recorded once, and replayed in each product
            self._tape = self._record(self.x)
        yield self._tape

    def pull_back(self, cotangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`J^\top c`, shape (P,)."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        parts = cotangent.split([len(b) * self.outputs for b in self._batches])

        def pulled() -> torch.Tensor:
            for tape, part in zip(self._each_tape(), parts, strict=True):
                total.add_(tape.pull_back(part))
            return total

        return self._held.run(pulled)

    def product(self, cotangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`JJ^\top c`, shape (N,)."""
        return self.push_forward(self.pull_back(cotangent))

    def push_forward(self, tangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`Jv`, shape (N,)."""
        return self._held.run(lambda: torch.cat([tape.push_forward(tangent) for tape in self._each_tape()]))

    def origin(self) -> np.ndarray:
        r"""Return :math:`Jw`, shape (N,), of the held weights themselves."""

        def pushed() -> torch.Tensor:
            leaves = [leaf.detach() for leaf in self._held.leaves]
            weights = flat(leaves, leaves).double()
            return torch.cat([tape.push_forward(weights) for tape in self._each_tape()])

        return self._held.run(pushed).detach().cpu().numpy()

    def differentiable_twice(self) -> bool:
        """Whether a product is two passes, not a pass for each row."""
        return self._held.run(lambda: next(self._each_tape()).differentiable_twice())

    # --- the matrix ---

    def gram(self) -> np.ndarray:
        r""":math:`JJ^\top` by rows: of each example alone, if its derivatives are those among the others."""
        c = self._probe(len(self.predictions))
        expected = self.pull_back(c)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch says of a batch of one is not the user's doing
                gram, pulled = self._held.run(lambda: self._blocks(self._rows_of_examples, c))
        except (RuntimeError, ValueError, IndexError):  # statistics of a batch, of which one example has none
            gram, pulled = np.empty(0), torch.full_like(expected, torch.nan)
        if not equal_to_rounding(pulled, expected) and len(self._batches) == 1:
            gram, pulled = self._held.run(lambda: self._blocks(self._rows_of_all, c))
        gap = float((pulled - expected).norm() / expected.norm().clamp(min=torch.finfo(c.dtype).tiny))
        if not equal_to_rounding(pulled, expected) and gap < 1e-3:
            raise ValueError(
                f"module computes in less than double precision inside: its derivatives agree to {gap:.0e} "
                "only; remove the cast"
            )
        if not equal_to_rounding(pulled, expected):
            raise ValueError(
                "module has no Jacobian: its backward pass is not linear (a hook or a function of its own "
                "changes it), or its outputs depend on other examples and batch_size cuts between them; "
                "remove that"
            )
        return gram

    def _probe(self, size: int) -> torch.Tensor:
        return probe(size, torch.empty(0, dtype=torch.float64, device=self.device))

    def _blocks(
        self, rows: Callable[[range], torch.Tensor], c: torch.Tensor
    ) -> tuple[np.ndarray, torch.Tensor]:
        r"""Gram matrix and :math:`J^\top c`; rows of the second factor are remade for each of the first."""
        n, k = len(self.x), self.outputs
        step = max(1, _BLOCK // (self.size * k))
        blocks = [range(i, min(i + step, n)) for i in range(0, n, step)]
        gram, pulled = np.zeros((n * k, n * k)), torch.zeros(self.size, dtype=c.dtype, device=c.device)
        for number, first in enumerate(blocks):
            left, high = rows(first), slice(first.start * k, first.stop * k)
            pulled += left.T @ c[high]
            for second in blocks[: number + 1]:
                right = left if second is first else rows(second)
                wide = slice(second.start * k, second.stop * k)
                part = (left @ right.T).cpu().numpy()
                gram[high, wide], gram[wide, high] = part, part.T
        return gram, pulled

    def _rows_of_examples(self, examples: range) -> torch.Tensor:
        """Rows of some examples, each recorded alone, shape (examples * c, P)."""
        tapes = (self._record(self.x[i : i + 1]) for i in examples)
        return torch.stack([row for tape in tapes for row in tape.rows(range(self.outputs))])

    def _rows_of_all(self, examples: range) -> torch.Tensor:
        """Rows of some examples among all the others."""
        (tape,) = self._each_tape()
        return torch.stack(
            list(tape.rows(range(examples.start * self.outputs, examples.stop * self.outputs)))
        )

    def _require_independent(self) -> None:
        """Refuse examples that influence each other: of the first batch, or the first two, and its parts."""
        batch = max(self._batches[0], self.x[:2], key=len)
        c, cut = self._probe(len(batch) * self.outputs), len(batch) // 2

        def pulled(x: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
            return self._held.run(lambda: self._record(x).pull_back(part))

        whole = pulled(batch, c)
        halves = pulled(batch[:cut], c[: cut * self.outputs]) + pulled(batch[cut:], c[cut * self.outputs :])
        if not equal_to_rounding(whole, halves):
            raise ValueError(
                "batch_size is for modules whose outputs do not depend on other examples, and this one's do; "
                "leave it out"
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
