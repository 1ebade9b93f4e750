r"""The parts of a certificate: multipliers, and quadratic forms as polynomials in commuting symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sympy
from sympy import Expr, ImmutableMatrix

from odeopt.exactness import is_zero
from odeopt.flows import Flow, Iteration
from odeopt.polynomials import combine, gather

__all__ = [
    "Check",
    "Multiplier",
    "Search",
    "minus_multipliers",
    "nonzero",
    "quadratic_form",
    "remainder",
    "same_polynomial",
    "schur_complement",
]


@dataclass(frozen=True)
class Multiplier:
    """An inequality of the class, <= 0 (= 0 where its name begins with E), and its multiplier."""

    name: str
    value: Expr
    inequality: Expr


@dataclass(frozen=True)
class Search:
    """How a certificate was found: the bisected optimum of its form, and what the proof lost against it.

    Attributes
    ----------
    optimum : float
        Smallest rate that the search found infeasible, or a bound above which no rate can be true.
    gap : float
        Optimum minus the verified rate.
    bound : str
        What the optimum is: "bisected", "quadratics" (their exact rate) or "closed form".
    steps : int
        Feasibility problems solved.
    """

    optimum: float
    gap: float
    bound: str
    steps: int


@dataclass(frozen=True)
class Check:
    """One line of a verification."""

    claim: str
    holds: bool
    reason: str = ""


def same_polynomial(first: Expr, second: Expr, gens: Sequence) -> bool:
    """Tell whether two polynomials in the vectors and values have the same coefficients, exactly."""
    return first == second or not nonzero(gather(first - second, gens))


def nonzero(polynomial: dict) -> dict:
    """Return the terms of a gathered polynomial whose coefficients are not zero, decided exactly."""
    return {monomial: c for monomial, c in polynomial.items() if not is_zero(c)}


def quadratic_form(polynomial: dict, vectors: Sequence, tidy: bool = True) -> sympy.Matrix:
    """Return the symmetric matrix of a gathered quadratic form in the vectors.

    Raises ValueError if the polynomial is not a quadratic form in these vectors alone.
    """
    matrix = sympy.zeros(len(vectors))
    places = {symbol: place for place, symbol in enumerate(vectors)}
    for monomial, coefficient in nonzero(polynomial).items():
        if len(monomial) != 2 or not set(monomial) <= set(vectors):
            raise ValueError(f"it holds ({coefficient}) {sympy.Mul(*monomial)}")
        i, j = (places[symbol] for symbol in monomial)
        half = (tidied(coefficient) if tidy else coefficient) / 2
        matrix[i, j] += half
        matrix[j, i] += half
    return matrix


def minus_multipliers(polynomial: dict, multipliers: Iterable[Multiplier], gens: Sequence, sign=-1) -> dict:
    """Take multiplier * inequality off a gathered polynomial; with sign 1 add it."""
    return combine(
        (sympy.S.One, polynomial), *((sign * m.value, gather(m.inequality, gens)) for m in multipliers)
    )


def remainder(flow: Flow | Iteration, energy: Expr, decay: Expr, multipliers: Iterable, vectors):
    """Return S from all the rest of a certificate; ValueError if the left-over is no quadratic form."""
    left = minus_multipliers(flow.decrease(energy, decay), multipliers, flow.gens)
    return ImmutableMatrix(quadratic_form(left, tuple(vectors)))


def tidied(coefficient: Expr) -> Expr:
    """One normal form of a coefficient."""
    if coefficient.is_Rational:
        return coefficient
    return sympy.expand(coefficient) if coefficient.is_number else sympy.cancel(coefficient)


def schur_complement(matrix: sympy.Matrix) -> Expr:
    """Return the least value of a positive semidefinite form over all vectors with first entry 1.

    Parameters
    ----------
    matrix : sympy.Matrix, shape (n, n)

    Returns
    -------
    sympy.Expr

    Examples
    --------
    >>> schur_complement(sympy.Matrix([[5, 2, 0], [2, 1, 0], [0, 0, 0]]))
    1
    """
    rest = sympy.Matrix(matrix)
    for k in reversed(range(1, rest.rows)):
        pivot = sympy.radsimp(rest[k, k])
        if not is_zero(pivot):  # else the row is zero, since the matrix is semidefinite
            rest = (rest - rest[:, k] * rest[k, :] / pivot).applyfunc(
                lambda e: sympy.radsimp(sympy.expand(e))
            )
    return rest[0, 0]
