r"""Weights that are known by their part in the error: what a step that is no shift of iterates does with q.

In a linear model :math:`u=u_0+J(w-w_0)` with :math:`q=\Delta_0-Jw_0` every vector of a linear step has the
image :math:`Jz=s-\tau q`, iterates with :math:`\tau=1`, so that s is their error. The weight :math:`\tau` is
kept exactly, and moved into s once a step: a decay of :math:`10^{-12}` is then seen to full accuracy.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from odeopt.rules.base import UpdateRule
from odeopt.rules.vectors import VectorLike

__all__ = ["Shifted", "first_pull", "states_of_origin"]

# Weights of iterates sum to 1 up to this: what a few float literals in a step leave.
_ROUNDING = 1e-15
_EPS = sys.float_info.epsilon


class Shifted(VectorLike):
    r"""The vector :math:`s-\tau q` along q: `part` is s as a multiple of q, `weight` the exact :math:`\tau`.

    `slack` bounds what rounded factors of the step did to the weight; a part that counts roundings is told.
    """

    def __init__(self, part: Any, weight: Fraction, slack: float = 0.0) -> None:
        self.part: Any = part
        self.weight: Fraction = weight
        self.slack: float = slack

    def at(self, weight: Fraction) -> Shifted:
        """The same vector with another weight of q."""
        change = weight - self.weight
        if not change and not self.slack:
            return self
        moved = getattr(self.part, "moved", None)
        part = self.part + float(change) if moved is None else moved(float(change), self.slack)
        return Shifted(part, weight)

    def __add__(self, other: Any) -> Shifted:
        if not isinstance(other, Shifted):
            return +self  # a zero, as the start of a sum: nothing else passes the reader
        return Shifted(self.part + other.part, self.weight + other.weight, self.slack + other.slack)

    __radd__ = __add__

    def __neg__(self) -> Shifted:
        return Shifted(-self.part, -self.weight, self.slack)

    def __pos__(self) -> Shifted:
        return Shifted(self.part, self.weight, self.slack)

    def __sub__(self, other: Any) -> Shifted:
        return self + (-other if isinstance(other, Shifted) else 0)

    def __rsub__(self, other: Any) -> Shifted:
        return -self

    def __mul__(self, factor: Any) -> Shifted:
        factor = float(factor)
        weight = self.weight * Fraction(factor)
        # as many roundings of a factor as rounded numbers count
        slack = abs(factor) * self.slack + 4 * _EPS * abs(float(weight))
        return Shifted(self.part * factor, weight, slack)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Shifted:
        return self * (1 / float(divisor))


def states_of_origin(
    rule: UpdateRule,
    zero: Any,
    gradient: Callable[[Any], Any],
    settled: Callable[[Any], Any] = lambda part: part,
) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    r"""Yield error and memory as multiples of q, of the rule run from :math:`\Delta_0=0`, for ever.

    `gradient` is that of an error; `settled` is applied to each part once it has been yielded.
    """
    one = Fraction(1)
    start = Shifted(zero, one)
    iterates, memory = (start,) * rule.history, rule.initial_memory(start)
    weights = [m.weight for m in memory or ()]

    def taken(z: Shifted) -> Shifted:
        return Shifted(gradient(z.at(one).part), Fraction(0))

    for k in itertools.count():
        yield iterates[0].part, tuple(m.part for m in memory or ())
        iterates = (Shifted(settled(iterates[0].part), one), *iterates[1:])
        if memory:
            memory = tuple(Shifted(settled(m.part), m.weight) for m in memory)
        x_next, memory = rule.step(k, iterates, memory, taken)
        iterates = (x_next.at(one), *iterates[:-1])
        if memory:
            memory = tuple(m.at(weight) for m, weight in zip(memory, weights, strict=True))


@functools.lru_cache(maxsize=256)
def first_pull(rule: UpdateRule, last: int, slack: float = _ROUNDING) -> int | None:
    """The first k below `last` whose step is none in the error alone; None if there is none."""
    nothing, one = Fraction(0), Fraction(1)
    start = Shifted(0.0, one)
    iterates, memory = (start,) * rule.history, rule.initial_memory(start)
    for k in range(last):
        points: list[Shifted] = []

        def taken(z: Shifted, points: list[Shifted] = points) -> Shifted:
            points.append(z)
            return Shifted(0.0, nothing)

        x_next, memory = rule.step(k, iterates, memory, taken)
        if any(abs(z.weight - 1) > slack for z in (*points, x_next)):
            return k
        iterates = (x_next.at(one), *iterates[:-1])
        memory = tuple(Shifted(0.0, Fraction(float(m.weight))) for m in memory) if memory else memory
    return None
