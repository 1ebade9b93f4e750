r"""The matrix :math:`JJ'^\top` of the Jacobians of one module on two sets of inputs, checked.

Routes, each faster than the next: by layers, for all examples at once, and what is no layer by a batched
Jacobian of these leaves alone; example by example; each row among all examples. Whatever a route gives must
be what the products are: for random c and d its :math:`J^\top c` is that of a backward pass of the module on
all examples, and :math:`c^\top(JJ'^\top d)=(J^\top c)^\top(J'^\top d)`, so that neither a dependence between
examples, nor a weight that acts elsewhere, nor a backward pass that is not linear goes unseen.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from odeopt.nets.kernels.contraction import Pair, Rows, contracted, held_entries, is_less_as_pair, parts_of
from odeopt.nets.kernels.held import HeldWeights
from odeopt.nets.kernels.layers import Factor, factors_of, layers_of
from odeopt.nets.kernels.tape import Tape, equal_to_rounding, real_size, vectors

__all__ = [
    "Parts", "Plan", "gram_of", "parts_at", "planned_by_all", "product_matrix", "pulled_back", "pushed",
]  # fmt: skip

_BLOCK = 2**25  # entries of rows held at a time: two blocks of 256 MB of float64, and one to make them
_TRIED = 3  # examples on which the layers are tried
_BATCHED = 2**22  # entries of batched rows at a time

# What a module raises that one example, or a batching of it, does not suit.
_UNSUITED = (RuntimeError, ValueError, IndexError, TypeError, AttributeError)


class Plan(NamedTuple):
    """Layers, by their leaves: in which form, and which axis of the rows of a product is the example.

    `rest` are the leaves of no layer; `entries` are held, and `recorded` on the way, of one example.
    """

    as_pair: dict[tuple[int, ...], bool]
    batched: dict[tuple[int, ...], bool]
    rest: tuple[int, ...]
    rest_of: Callable[..., Rows]  # of a Jacobian, examples and leaves
    entries: int
    recorded: int


class Side(Protocol):
    """A Jacobian by the leaves of held weights, and how to record a pass of its module on some examples."""

    x: torch.Tensor
    batches: tuple[torch.Tensor, ...]
    names: tuple[str, ...]
    size: int
    outputs: int
    device: torch.device
    module: nn.Module
    held: HeldWeights
    plan: Plan | None  # of the layers, kept where the weights are moved
    whole: Parts | None  # of all examples, until used, for which the layers were tried if `is_tried`
    is_tried: bool

    def record(self, x: torch.Tensor) -> Tape: ...
    def each_tape(self) -> Iterator[Tape]: ...
    def probe(self, size: int, seed: int = 0) -> torch.Tensor: ...
    def probed(self, seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor]]: ...


Parts = list[Rows | Pair]
_Parted = Callable[[Side, range], Parts | None]
# Entries of one example; parts of some; those of all columns, if they are known to give J'c, leaf by leaf.
_Routed = tuple[int, _Parted, Parts | None]
_Route = Callable[[Side, Side], _Routed]


def product_matrix(rows: Side, columns: Side) -> np.ndarray:
    """The matrix, shape (N', N), by the first route that passes the checks."""
    d, of_columns = columns.probed()
    c, of_rows = (d, of_columns) if rows is columns else rows.probed(1)
    probes, parts = (c, d), (of_rows, of_columns)
    routes = [_by_layers, _by_examples]
    if len(rows.batches) == len(columns.batches) == 1:
        routes.append(_among_all)
    gap = np.nan
    for route in routes:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch says of a batch of one is not the user's doing
                found = _assembled(route, rows, columns, probes)
        except _UNSUITED:  # statistics of a batch, of which one example has none
            if route is _among_all:
                raise
            continue
        if found is not None:
            matrix, pulled = found
            if _is_right(matrix, pulled, parts, probes):
                return matrix.cpu().numpy()
            if pulled:
                expected = torch.cat(parts[0])
                size = expected.norm().clamp(min=torch.finfo(torch.float64).tiny)
                gap = float((pulled[0] - expected).norm() / size)
    if gap < 1e-3:
        raise ValueError(
            f"module computes in less than double precision inside: its derivatives agree to {gap:.0e} "
            "only; remove the cast"
        )
    raise ValueError(
        "module has no Jacobian: its backward pass is not linear (a hook or a function of its own changes "
        "it), its outputs depend on other examples and batch_size cuts between them, or on what is trained "
        "by rounding alone (a bias before a normalisation); remove that"
    )


def _is_right(
    matrix: torch.Tensor,
    pulled: Sequence[torch.Tensor],
    expected: Sequence[list[torch.Tensor]],
    probes: Sequence[torch.Tensor],
) -> bool:
    """Whether the rows are those of backward passes, and the matrix is their product."""
    if not all(
        equal_to_rounding(one, torch.cat(other)) for one, other in zip(pulled, expected, strict=False)
    ):
        return False
    (c, d), (left, right) = probes, expected
    inner = torch.stack([one @ other for one, other in zip(left, right, strict=True)]).sum()
    sizes = [inner] if left is right else [torch.cat(side).norm() for side in expected]
    scale = math.prod(map(float, sizes))
    if not math.isfinite(scale):
        return True  # entries beyond floats are inf, as they should be
    product = (c @ matrix.to(c.device) @ d)[None]
    return equal_to_rounding(product, inner[None], scale=scale)


def _assembled(
    route: _Route, rows: Side, columns: Side, probes: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
    r"""Matrix and :math:`J^\top c` of both if not known, in blocks; second ones are made for each first."""
    same, k, c = rows is columns, rows.outputs, columns.outputs
    entries, of, whole = route(rows, columns)
    if same and whole is not None:
        return contracted(whole, whole, (len(rows.x) * k,) * 2).cpu(), []

    def parts(side: Side, examples: range) -> Parts | None:
        return side.held.run(lambda: of(side, examples))

    step = max(1, _BLOCK // entries)
    high, wide = (
        [range(i, min(i + step, len(side.x))) for i in range(0, len(side.x), step)]
        for side in (rows, columns)
    )
    matrix = torch.zeros(len(rows.x) * k, len(columns.x) * c, dtype=torch.float64)
    pulled = [torch.zeros(side.size, dtype=torch.float64, device=side.device) for side in (rows, columns)]
    for number, first in enumerate(high):
        left, at = parts(rows, first), slice(first.start * k, first.stop * k)
        if left is None:
            return None
        pulled[0] += pulled_back(left, probes[0][at])
        for second in wide[: number + 1] if same else wide:
            to = slice(second.start * c, second.stop * c)
            right = left if same and second == first else parts(columns, second)
            if right is None:
                return None
            if not same and number == 0:
                pulled[1] += pulled_back(right, probes[1][to])
            part = contracted(left, right, (len(first) * k, len(second) * c)).cpu()
            matrix[at, to] = part
            if same:
                matrix[to, at] = part.T
    return matrix, [pulled[0], pulled[0] if same else pulled[1]]


def _cut(examples: range, step: int) -> list[range]:
    """Blocks of so many examples, none of one alone, which torch may compute by other operations."""
    step = max(2, step)
    starts = [
        i for i in range(examples.start, examples.stop, step) if i == examples.start or i + 1 < examples.stop
    ]
    return [range(*pair) for pair in itertools.pairwise([*starts, examples.stop])]


def pulled_back(parts: Parts, c: torch.Tensor) -> torch.Tensor:
    """The sum of the rows times c, over all leaves in their order."""
    found = {leaf: values for part in parts for leaf, values in part.pulled(c).items()}
    return torch.cat([found[leaf].reshape(-1) for leaf in sorted(found)])


# --- routes -----------------------------------------------------------------------------------


def _by_examples(rows: Side, columns: Side) -> _Routed:
    def parts(side: Side, examples: range) -> Parts:
        return [_alone(side, examples, range(len(side.names)))]

    return rows.size * rows.outputs, parts, None


def _among_all(rows: Side, columns: Side) -> _Routed:
    """A backward pass through all examples for each row."""

    def parts(side: Side, examples: range) -> Parts:
        (tape,) = side.each_tape()
        of = range(examples.start * side.outputs, examples.stop * side.outputs)
        sizes = tuple(real_size(leaf) for leaf in tape.leaves)
        return [Rows(torch.stack(list(tape.rows(of))), tuple(range(len(sizes))), sizes)]

    return rows.size * rows.outputs, parts, None


def _by_layers(rows: Side, columns: Side) -> _Routed:
    (plan, whole), columns.whole = (columns.plan, columns.whole), None
    if plan is None and not columns.is_tried and columns.outputs == len(columns.batches) == 1:
        plan, whole = columns.held.run(lambda: planned_by_all(columns))
    plan = columns.plan = plan or columns.held.run(lambda: _planned_by_few(columns))

    def parts(side: Side, examples: range) -> Parts | None:
        is_known = whole is not None and side is columns and len(examples) == len(side.x)
        return whole if is_known else _of_layers(side, examples, plan)

    return plan.entries, parts, whole


def _alone(side: Side, examples: range, leaves: Sequence[int]) -> Rows:
    """Rows by some leaves, of each example recorded alone."""
    found, sizes = [], ()
    for i in examples:
        tape = side.record(side.x[i : i + 1])
        tape = Tape(tape.output, [tape.leaves[leaf] for leaf in leaves])
        sizes = tuple(real_size(leaf) for leaf in tape.leaves)
        found += tape.rows(range(side.outputs))
    return Rows(torch.stack(found), tuple(leaves), sizes)


def _vectorised(side: Side, examples: range, leaves: Sequence[int]) -> Rows:
    """Rows by some leaves, of many examples at a time, each a batch of its own."""
    names = [side.names[leaf] for leaf in leaves]
    values = tuple(side.held.leaves[leaf].detach() for leaf in leaves)
    sizes = tuple(real_size(value) for value in values)

    def output(values: tuple[torch.Tensor, ...], example: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, values, strict=True))
        return functional_call(side.module, weights, (example[None],)).reshape(-1).double()

    chunk = max(1, _BATCHED // (side.outputs * side.size))
    with torch.no_grad():
        parts = vmap(jacrev(output), (None, 0), chunk_size=chunk)(
            values, side.x[examples.start : examples.stop]
        )
    return Rows(
        torch.cat([p.reshape(len(examples) * side.outputs, -1) for p in parts], 1), tuple(leaves), sizes
    )


def _planned_by_few(side: Side) -> Plan:
    """Try on few examples what is a layer, and whether the other leaves can be batched."""
    few = range(min(_TRIED, len(side.x)))
    tape = side.record(side.x[: len(few)])
    c = side.probe(len(tape.output))
    expected = torch.autograd.grad(tape.output, tape.leaves, c, retain_graph=True, allow_unused=True)
    agrees = _agreement(c, vectors(expected, tape.leaves))
    plan, _ = _planned(side, tape, agrees)
    if plan.rest and not _can_be_vectorised(side, few, plan.rest, agrees):
        plan = plan._replace(rest_of=_alone)
    return plan


def planned_by_all(side: Side) -> tuple[Plan | None, Parts | None]:
    """The same on all examples, and their parts of J; None where these are not all of it, or too many."""
    tape, (c, expected) = next(side.each_tape()), side.probed()
    try:
        plan, parts = _planned(side, tape, _agreement(c, expected), keep=_BLOCK)
    except _UNSUITED:
        return None, None
    if plan.rest or len(side.x) * plan.recorded > _BLOCK:
        return None, None
    return plan, parts


def _agreement(c: torch.Tensor, expected: Sequence[torch.Tensor]) -> Callable[[Parts], bool]:
    """Whether the product of parts with c is what is expected, leaf by leaf."""
    scales = [float(part.norm()) for part in expected]
    floor = math.hypot(*scales)

    def agrees(found: Parts) -> bool:
        return all(
            one.numel() == other.numel()
            and equal_to_rounding(one.reshape(-1), other, scale=scales[leaf], floor=floor)
            for part in found
            for leaf, one, other in part.compared(c, expected)
        )

    return agrees


def _planned(
    side: Side, tape: Tape, agrees: Callable[[Parts], bool], keep: int | None = None
) -> tuple[Plan, Parts]:
    """Try by a recorded pass what is a layer; with `keep` only up to so many entries, and their parts."""
    n, m, leaves = len(side.x), len(tape.output) // side.outputs, side.held.leaves
    plan, found = Plan({}, {}, (), _vectorised, 0, 0), []
    layers, entries, recorded = layers_of(tape.output, leaves), 0, 0
    for batched in (True, False):
        layers, tried = [], [layer._replace(batched=batched) for layer in layers]
        for layer, factor in zip(tried, factors_of(tape.output, tried, leaves, m), strict=True):
            if factor is None:
                continue
            as_pair = is_less_as_pair(factor, n)
            held = entries + held_entries(factor, as_pair)
            if (keep is None or m * held <= keep) and agrees(parts := parts_of(factor, as_pair)):
                plan.as_pair[layer.leaves], plan.batched[layer.leaves] = as_pair, batched
                entries, recorded = held, recorded + factor.recorded_entries()
                found += parts if keep else []
            else:
                layers.append(layer)
    rest = tuple(i for i in range(len(leaves)) if not any(i in each for each in plan.as_pair))
    entries += side.outputs * sum(real_size(leaves[i]) for i in rest)
    return plan._replace(rest=rest, entries=entries, recorded=max(1, recorded)), found


def _can_be_vectorised(
    side: Side, examples: range, leaves: Sequence[int], agrees: Callable[[Parts], bool]
) -> bool:
    if any(side.held.leaves[leaf].is_complex() for leaf in leaves):
        return False  # its conventions are others
    try:
        return agrees([_vectorised(side, examples, leaves)])
    except _UNSUITED:
        return False


def _of_layers(side: Side, examples: range, plan: Plan) -> Parts | None:
    """The parts of some examples, recorded in blocks; None where a layer is not found again."""
    found: list[Parts] = []
    for block in _cut(examples, min(_BLOCK // plan.recorded, len(side.batches[0]))):
        whole = len(block) == len(side.batches[0]) == len(side.x)
        tape = next(side.each_tape()) if whole else side.record(side.x[block.start : block.stop])
        factors = _found_again(side, tape, plan)
        if factors is None:
            return None
        parts = _in_form(factors, plan)
        found.append([*parts, plan.rest_of(side, block, plan.rest)] if plan.rest else parts)
    return [first.followed_by(others) if others else first for first, *others in zip(*found, strict=True)]


def _found_again(
    side: Side, tape: Tape, plan: Plan, weights: torch.Tensor | None = None
) -> list[Factor] | None:
    """The factors of the planned layers in another pass; None where one is missing."""
    known = {layer.leaves: layer for layer in layers_of(tape.output, tape.leaves)}
    layers = [known[of]._replace(batched=flag) for of, flag in plan.batched.items() if of in known]
    m = len(tape.output) // side.outputs
    factors = factors_of(tape.output, layers, tape.leaves, m, weights)
    found = [factor for factor in factors if factor is not None]
    return found if len(found) == len(plan.batched) else None


def _in_form(factors: Sequence[Factor], plan: Plan) -> Parts:
    return [p for f, form in zip(factors, plan.as_pair.values(), strict=True) for p in parts_of(f, form)]


# --- at moved weights -------------------------------------------------------------------------


def parts_at(side: Side) -> Parts | None:
    """The layers of a module whose plan was found, and checked, at other weights; None if it is not theirs.

    A layer is one at any weights; that examples do not act on each other, and that the backward pass is
    linear, is checked again: the cotangents for a random c are the weighted sums of those of the outputs.
    """
    plan, n = side.plan, len(side.x)
    if plan is None or plan.rest or len(side.batches) > 1 or n * max(plan.entries, plan.recorded) > _BLOCK:
        return None

    def found() -> Parts | None:
        tape, c = next(side.each_tape()), side.probe(n * side.outputs)
        factors, sums = _found_again(side, tape, plan), _found_again(side, tape, plan, c)
        if factors is None or sums is None:
            return None
        one = torch.ones(n, dtype=c.dtype, device=c.device)
        pairs = [(f.weighted(c), g.weighted(one)) for f, g in zip(factors, sums, strict=True)]
        same = all(equal_to_rounding(f, g) or not f.isfinite().all() for f, g in pairs)
        return _in_form(factors, plan) if same else None

    return side.held.run(found)


def gram_of(parts: Parts, size: int) -> np.ndarray:
    r""":math:`JJ^\top` of the parts of J."""
    return contracted(parts, parts, (size, size)).cpu().numpy()


def pushed(parts: Parts, tangents: Sequence[torch.Tensor]) -> torch.Tensor:
    r""":math:`Jv` of the parts of J and of v, a leaf each."""
    return torch.stack([part.pushed(tangents) for part in parts]).sum(0)
