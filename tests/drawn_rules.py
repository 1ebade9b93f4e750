"""Random linear rules whose hyperparameters are functions of a time step h, exact in rational numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import mpmath
import numpy as np

from odeopt import UpdateRule

__all__ = ["Average", "Drawn", "draw_rule", "in_floats", "matrix_of_a_period", "matrix_of_a_step", "start_of"]

# Momenta with roots on the unit circle: -1, twice -1, +-i, -1 and 1.
CIRCLE = ((-1,), (-2, -1), (0, -1), (0, 1))


def draw_decimals(rng, low: float, high: float, count: int) -> tuple[Fraction, ...]:
    """Decimals of two digits, as a user writes them."""
    return tuple(Fraction(round(100 * float(v)), 100) for v in rng.uniform(low, high, count))


@dataclass(frozen=True)
class Average:
    """A memory: of the iterates, of the last gradient, or a sum of gradients that forgets.

    A slow one keeps 1 - rate h of itself in a step, another the fixed share rate.
    """

    kind: str  # "iterates", "gradients" or "buffer"
    slow: bool
    rate: Fraction
    weight: Fraction
    in_point: Fraction


@dataclass(frozen=True)
class Drawn:
    """Coefficients of a drawn rule; an inertial one has lr = h^2 and momenta of sum 1 - friction h."""

    inertial: bool
    momenta: tuple[Fraction, ...]
    friction: Fraction
    averages: tuple[Average, ...]
    shifts: tuple[tuple[Fraction, ...], ...]
    pulls: tuple[Fraction, ...]
    nested: Fraction
    sizes: tuple[Fraction, ...]
    waves: tuple[Fraction, ...]
    decay: Fraction

    def momenta_at(self, k: int, h: Any) -> tuple[Any, ...]:
        """Weights of x_k - x_{k-1}, x_{k-1} - x_{k-2}, ..."""
        if not self.momenta:
            return ()
        first, *rest = self.momenta
        lead = 1 - sum(rest) - self.friction * h if self.inertial else first
        return (lead * self.waves[k % len(self.waves)], *rest)

    def rule(self, h: Any) -> UpdateRule:
        """The rule at a time step: a symbol, or an exact number."""
        return _class_of(self)(h)


@functools.cache  # a limit is derived once for equal rules, and rules of two classes are not equal
def _class_of(drawn: Drawn) -> type[UpdateRule]:
    averages, points = drawn.averages, len(drawn.shifts)

    @dataclass(frozen=True)
    class DrawnRule(UpdateRule):
        h: Any
        history: ClassVar[int] = len(drawn.momenta) + 1
        gradients: ClassVar[int] = points
        period: ClassVar[int] = len(drawn.sizes)

        def initial_memory(self, x0):
            return tuple(x0 if m.kind == "iterates" else 0 * x0 for m in averages) or None

        def step(self, k, iterates, memory, grad):
            x, memory, h = iterates[0], memory or (), self.h
            lr = (h**2 if drawn.inertial else h) * drawn.sizes[k % len(drawn.sizes)]
            found: list = []
            for row in drawn.shifts:
                y = x if not found else x - drawn.nested * lr * found[-1]
                for s, newer, older in zip(row, iterates, iterates[1:], strict=False):
                    y = y + s * (newer - older)
                for average, m in zip(averages, memory, strict=True):
                    y = y + average.in_point * (m - x if average.kind == "iterates" else -h * m)
                found.append(grad(y))
            x_next = x - lr * drawn.decay * x
            for b, newer, older in zip(drawn.momenta_at(k, h), iterates, iterates[1:], strict=False):
                x_next = x_next + b * (newer - older)
            for pull, g in zip(drawn.pulls, found, strict=True):
                x_next = x_next - lr * pull * g
            after = []
            for average, m in zip(averages, memory, strict=True):
                weight, keep = average.weight, 1 - average.rate * h if average.slow else average.rate
                if average.kind == "iterates":
                    x_next = x_next + weight * h ** (average.slow + drawn.inertial) * (m - x)
                    after.append(keep * m + (1 - keep) * x)
                else:
                    takes = 1 if average.kind == "buffer" else 1 - keep
                    after.append(keep * m + takes * found[-1])
                    scale = lr * h if average.kind == "buffer" and average.slow else lr
                    x_next = x_next - weight * scale * after[-1]
            return x_next, tuple(after) or None

    return DrawnRule


def draw_rule(seed: int) -> Drawn:
    """1-4 iterates, 0-3 averages, 1-2 gradient points, period 1-4, with and without decay."""
    rng = np.random.default_rng([11, seed])
    size, count, points = (int(rng.integers(*r)) for r in ((1, 5), (0, 4), (1, 3)))
    cycle = int(rng.choice([1, 1, 2, 3, 4]))
    inertial = size > 1 and bool(rng.random() < 0.35)
    momenta = draw_decimals(rng, -0.45, 0.55, size - 1)
    special = CIRCLE[rng.integers(len(CIRCLE))]
    if rng.random() < 0.1 and not inertial and size > len(special):
        momenta = tuple(map(Fraction, special)) + (Fraction(0),) * (size - 1 - len(special))
    averages = []
    for _ in range(count):
        # several steps of a period with slow averages take long to eliminate
        slow = bool(rng.random() < (0.3 if cycle == 1 else 0.05))
        averages.append(
            Average(
                kind=str(rng.choice(["iterates", "gradients", "buffer"])),
                slow=slow,
                rate=draw_decimals(rng, *((0.5, 2) if slow else (0, 0.8)), 1)[0],
                weight=Fraction(0) if rng.random() < 0.1 else draw_decimals(rng, -0.1, 0.4, 1)[0],
                in_point=draw_decimals(rng, -0.3, 0.5, 1)[0] if rng.random() < 0.3 else Fraction(0),
            )
        )
    waves = draw_decimals(rng, 0.7, 1.1, cycle) if not inertial and rng.random() < 0.3 else (Fraction(1),)
    return Drawn(
        inertial=inertial,
        momenta=momenta,
        friction=draw_decimals(rng, 0.2, 2, 1)[0],
        averages=tuple(averages),
        shifts=tuple(draw_decimals(rng, -0.4, 0.6, size - 1) for _ in range(points)),
        pulls=draw_decimals(rng, -0.15, 1.2, points),
        nested=draw_decimals(rng, 0.1, 0.6, 1)[0] if rng.random() < 0.5 else Fraction(0),
        sizes=draw_decimals(rng, 0.4, 1.5, cycle),
        waves=waves,
        decay=draw_decimals(rng, 0.1, 0.6, 1)[0] if rng.random() < 0.4 else Fraction(0),
    )


def start_of(rule: UpdateRule, x0: Any) -> list[Any]:
    """The first state: iterates, newest first, and memories."""
    return [x0] * rule.history + list(rule.initial_memory(x0) or ())


def matrix_of_a_step(rule: UpdateRule, lam: Any, k: int) -> np.ndarray:
    """One step on the mode lam; its columns are the step run on unit states."""
    p, size = rule.history, len(start_of(rule, 0))
    columns = []
    for i in range(size):
        unit = [Fraction(int(i == j)) for j in range(size)]
        x, memory = rule.step(k, tuple(unit[:p]), tuple(unit[p:]) or None, lambda z: lam * z)
        columns.append([x, *unit[: p - 1], *(memory or ())])
    return np.array(columns, dtype=object).T


def matrix_of_a_period(rule: UpdateRule, lam: Any, steps: int | None = None) -> np.ndarray:
    """The product of the steps of a period, or of its first few."""
    product = matrix_of_a_step(rule, lam, 0) if steps != 0 else np.eye(len(start_of(rule, 0)), dtype=object)
    for k in range(1, rule.period if steps is None else steps):
        product = matrix_of_a_step(rule, lam, k) @ product
    return product


def in_floats(matrix: np.ndarray) -> np.ndarray:
    """Exact entries at the working precision of mpmath."""
    number: Callable = np.vectorize(lambda v: mpmath.mpf(v.numerator) / v.denominator, otypes=[object])
    return number(matrix)
