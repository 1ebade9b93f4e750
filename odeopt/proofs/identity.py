r"""Quadratic forms in vectors as polynomials in commuting symbols, and how quotients grow."""

from __future__ import annotations

from collections.abc import Sequence

import sympy
from flint import fmpq
from sympy import ImmutableMatrix, Symbol

from odeopt.proofs.exact.domain import Domain, Rows
from odeopt.proofs.exact.field import Element
from odeopt.proofs.flow import time

__all__ = ["Rows", "ends_time", "growth", "matrix_of", "quadratic_rows"]


def quadratic_rows(
    element: Element, gens: Sequence[Symbol], vectors: Sequence[Symbol]
) -> list[list[Element]]:
    """Return the symmetric matrix of a quadratic form in the vectors, as rows; ValueError for other forms."""
    field = element.field
    places = {symbol: place for place, symbol in enumerate(vectors)}
    zero, half = field.number(fmpq(0)), field.number(fmpq(1, 2))
    rows = [[zero] * len(vectors) for _ in vectors]
    for monomial, coefficient in element.collect(gens).items():
        if len(monomial) != 2 or not places.keys() >= set(monomial):
            if coefficient.is_zero():
                continue
            raise ValueError(f"it holds ({coefficient.expr()}) {sympy.Mul(*monomial)}")
        i, j = (places[symbol] for symbol in monomial)
        rows[i][j] = rows[j][i] = coefficient if i == j else coefficient * half
    return rows


def matrix_of(rows: Rows) -> ImmutableMatrix:
    """Return rows as a matrix of factored expressions."""
    return ImmutableMatrix(len(rows), len(rows), [e.factored() for row in rows for e in row])


def growth(element: Element, symbol: Symbol, domain: Domain) -> int:
    r"""Return a power of a symbol that a quotient does not outgrow as the symbol goes to infinity.

    ValueError if the leading coefficient of the denominator is not proved to be nonzero for all parameters.
    """
    field = element.field
    place = field.index[symbol]
    num, den = field.lift(element.num), field.lift(element.den)
    degrees = [int(p.degrees()[place]) for p in (num, den)]
    leading = Element(field, field.powers(den, place)[degrees[1]], field.one)
    if not domain.never_zero(leading):
        raise ValueError(f"the growth of {element.expr()} in {symbol} is not the same for all parameters")
    return degrees[0] - degrees[1]


def ends_time(domain: Domain, moving: set[Symbol]) -> Symbol | None:
    """Return a symbol whose range may end the times for which the domain holds, None where none does."""
    for bound in domain.bounds:
        tied = set().union(*(e.free_symbols for e in bound.limits)) & moving
        if bound.symbol == time:
            ends = bound.upper is not None or tied
        elif bound.symbol in moving:
            ends = bound.is_bounded
        else:  # a parameter may be bounded from below by what goes to 0 from above, such as 1/t^2
            lower = bound.lower if tied == {time} and bound.upper is None else None
            ends = tied and (
                lower is None
                or not domain.nonnegative(domain.field.read(lower))
                or growth(domain.field.read(lower), time, domain) >= 0
            )
        if ends:
            return bound.symbol
    return None
