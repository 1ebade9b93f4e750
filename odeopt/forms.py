r"""The parts of a certificate: multipliers, and quadratic forms as polynomials in commuting symbols."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy
from sympy import Expr, ImmutableMatrix, Integer

from odeopt.exactness import is_zero, number_sign
from odeopt.flows import Flow, Iteration

__all__ = [
    "Multiplier",
    "Search",
    "coefficients",
    "polynomial_terms",
    "quadratic_form",
    "remainder",
    "same_polynomial",
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


def coefficients(polynomial: Expr, flow: Flow | Iteration) -> list[tuple[Expr, Expr]]:
    """Return (monomial in the vectors and values, coefficient) for each term of a polynomial."""
    return polynomial_terms(polynomial, (*flow.values, *flow.vectors))


def polynomial_terms(polynomial: Expr, gens: Iterable) -> list[tuple[Expr, Expr]]:
    """Monomials in the vectors and values, with their coefficients."""
    poly = sympy.Poly(sympy.expand(polynomial), *gens, domain="EX") if polynomial != 0 else None
    if poly is None:
        return []
    return [(sympy.Mul(*(s**p for s, p in zip(poly.gens, m, strict=True))), c) for m, c in poly.terms()]


def same_polynomial(first: Expr, second: Expr, gens: Iterable) -> bool:
    return first == second or all(is_zero(c) for _, c in polynomial_terms(first - second, gens))


def quadratic_form(polynomial: Expr, vectors: tuple) -> sympy.Matrix:
    """Return the symmetric matrix of a quadratic form in the vectors.

    Raises ValueError if the polynomial is not a quadratic form in these vectors alone.
    """
    matrix = sympy.zeros(len(vectors))
    others = [s for s in polynomial.free_symbols if s in _ALL and s not in vectors]
    for monomial, coefficient in polynomial_terms(polynomial, (*vectors, *others)):
        coefficient = sympy.expand(coefficient) if coefficient.is_number else sympy.cancel(coefficient)
        if coefficient == 0 or (not coefficient.free_symbols and number_sign(coefficient) == 0):
            continue
        powers = monomial.as_powers_dict()
        if set(powers) - set(vectors) - {Integer(1)} or sum(powers[s] for s in vectors) != 2:
            raise ValueError(f"it holds ({coefficient}) {monomial}")
        places = [i for i, s in enumerate(vectors) for _ in range(int(powers[s]))]
        matrix[places[0], places[1]] += coefficient / 2
        matrix[places[1], places[0]] += coefficient / 2
    return matrix


def remainder(flow: Flow | Iteration, energy: Expr, decay: Expr, multipliers: Iterable, vectors):
    """Return S from all the rest of a certificate; ValueError if the left-over is no quadratic form."""
    left = flow.decrease(energy, decay) - sympy.Add(*(m.value * m.inequality for m in multipliers))
    return ImmutableMatrix(quadratic_form(left, tuple(vectors)))


_ALL = {*Flow((Integer(1), Integer(1))).vectors, *Flow((Integer(1),), hessian=Integer(1)).vectors}
_ALL |= {*Flow().values, *Iteration(Integer(1), Integer(1)).vectors, *Iteration(Integer(1)).values}
