"""A point of a domain, which shows that it is not empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flint import fmpq
from sympy import Expr, Symbol

from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.exact.roots import UndecidedError

__all__ = ["holds_at", "point_of"]

# Distances from the bounds that are tried, the same for all symbols.
_DISTANCES = (fmpq(1), fmpq(1, 3), fmpq(5), fmpq(1, 50), fmpq(100))


def point_of(bounds: Sequence[Bound]) -> dict[Symbol, Expr]:
    """Return a number for each symbol so that all its bounds hold, ValueError where none is found."""
    for distance in _DISTANCES:
        field, values = Field(b.symbol for b in bounds), {}
        for bound in bounds:
            value = _value(field, bound, values, distance)
            if value is None:
                break
            values[bound.symbol] = value
        else:
            return {symbol: value.expr() for symbol, value in values.items()}
    raise UndecidedError("undecided: no point of the domain was found")


def holds_at(bounds: Sequence[Bound], point: Mapping[Symbol, Expr]) -> bool:
    """Tell whether a point, a number for each symbol, lies in a domain."""
    if {b.symbol for b in bounds} != set(point):
        return False
    field = Field(b.symbol for b in bounds)
    values = {symbol: field.read(value) for symbol, value in point.items()}
    if not all(value.is_number for value in values.values()):
        return False
    for bound in bounds:
        value, both = values[bound.symbol], None not in (bound.lower, bound.upper)
        limits = [e if e is None else _at(field, e, values) for e in (bound.lower, bound.upper)]
        below, above = (
            1 if e is None else (e - value).sign() * s for e, s in zip(limits, (-1, 1), strict=True)
        )
        if below < 0 or above < 0 or (bound.strict and 0 in (below, above)) or (both and above == 0):
            return False
    return True


def _value(field: Field, bound: Bound, values: dict[Symbol, Element], distance) -> Element | None:
    lower, upper = (e if e is None else _at(field, e, values) for e in (bound.lower, bound.upper))
    step = field.number(distance)
    if lower is not None and upper is not None:
        inside = (lower + upper * step) / (field.number(fmpq(1)) + step)
        return inside if (upper - lower).sign() > 0 else None
    if lower is not None:
        return lower + step
    return step if upper is None else upper - step


def _at(field: Field, expr: Expr, values: dict[Symbol, Element]) -> Element:
    return field.read(expr).substitute(values)
