r"""What a schedule is made of: expressions in the symbol of k from one break to the next."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from odeopt.checks import is_finite, is_symbolic
from odeopt.rules.counter import fraction_meant

if TYPE_CHECKING:
    import sympy

__all__ = [
    "Piece", "compiled", "exact_expression", "exact_number", "require_number", "steps_symbol",
    "sympy_function", "value_range",
]  # fmt: skip

# Iterations at which the range of a schedule is looked for: all up to here, later ones in geometric steps.
_EVERY = 100_000
# The same of a recursion without an end, whose values cost one step each.
_LISTED = 10_000


class Piece(NamedTuple):
    """An expression in the symbol of k that holds below `end`, which is None for ever."""

    end: Any
    expr: Any


@functools.cache
def steps_symbol() -> sympy.Symbol:
    """The symbol of k in the pieces of schedules."""
    import sympy

    return sympy.Symbol("k", nonnegative=True)


def exact_number(value: Any) -> Any:
    """A number as sympy takes it, a float as the decimal that it prints as."""
    import sympy

    if is_symbolic(value):
        return value
    exact = value if isinstance(value, numbers.Rational) else Fraction(repr(float(value)))
    return sympy.Rational(int(exact.numerator), int(exact.denominator))


def exact_expression(expr: Any) -> Any:
    """A sympy expression with the decimals that its floats print as; nsimplify would look for roots."""
    import sympy

    return expr.xreplace({f: exact_number(float(f)) for f in expr.atoms(sympy.Float)})


def require_number(name: str, value: Any) -> None:
    """Refuse what is neither a finite number nor a sympy expression."""
    if not is_symbolic(value) and not is_finite(value):
        raise ValueError(f"{name} must be a finite number or a sympy expression, got {value!r}")


@functools.lru_cache(maxsize=256)
def compiled(schedule: Any) -> tuple[list[float], list[Callable[..., Any]], list[Callable[..., Any]]]:
    """Ends of the pieces, and the pieces as functions of a float and of an array."""
    import sympy

    pieces, k = schedule.pieces(), steps_symbol()
    ends = [math.inf if p.end is None else float(p.end) for p in pieces]
    return (
        ends,
        [sympy.lambdify(k, p.expr, "math") for p in pieces],
        [sympy.lambdify(k, p.expr, "numpy") for p in pieces],
    )


@functools.lru_cache(maxsize=256)
def value_range(schedule: Any) -> tuple[float, float]:
    """Smallest and largest value at integers k."""
    import numpy as np

    if not schedule.has_formula:
        count = _LISTED if schedule.last is None else schedule.last + 1
        values = [schedule(k) for k in range(count)]
        return min(values), max(values)
    last, far = schedule.last, max(schedule.breaks, default=0)
    k = np.arange(min(_EVERY, 1000 + 2 * far if last is None else last + 1))
    if last is None or last > k[-1]:
        k = np.concatenate([k, np.geomspace(k[-1] + 1, 1e15 if last is None else last, 2000).round()])
        near = np.array([b + d for b in schedule.breaks for d in (-1, 0, 1) if b + d >= 0])
        k = np.concatenate([k, near.round()])
    values = schedule(k)
    return float(values.min()), float(values.max())


@functools.lru_cache(maxsize=256)
def sympy_function(schedule: Any, name: str) -> Any:
    """A sympy function that prints as `name`, with the values of the schedule at integers."""
    import sympy

    def evaluate(cls: Any, k: Any) -> Any:
        if k.is_Integer and k >= 0 and schedule.is_numeric:
            return exact_number(fraction_meant(schedule(int(k))))
        return None

    body = {"eval": classmethod(evaluate), "schedule": schedule, "_imp_": staticmethod(schedule.__call__)}
    return type(name, (sympy.Function,), body)
