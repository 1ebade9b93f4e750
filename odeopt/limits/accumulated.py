r"""Integrals of schedules, :math:`\sigma(t)=\int_0^ts`: closed forms piece by piece, differentiated back."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import sympy
from sympy import Expr, Integer, Piecewise, Symbol
from sympy.simplify.fu import TR8

from odeopt.limits.intervals import cases
from odeopt.rules.pieces import exact_expression

__all__ = ["accumulated", "evaluator"]

# Numerators and denominators beyond it stem from floats.
_LONG = 10_000
# Operations of a formula, beyond which a search for its integral takes minutes.
_LONGEST = 60
# Functions whose reciprocals have no integral in closed form, or one that a search takes minutes for.
_TRANSCENDENTAL = (sympy.cos, sympy.sin, sympy.exp, sympy.log)
# Digits of an evaluation: differences of antiderivatives lose some, and the result is rounded to 16.
_DIGITS = 40


def accumulated(rate: Expr, t: Symbol) -> Expr:
    r"""The integral of a rate from 0 to t, its numbers exact as the rate prints them.

    >>> t = Symbol("t", positive=True)
    >>> accumulated(Piecewise((1 - t / 4, t < 4), (0, True)), t)
    Piecewise((t*(8 - t)/8, t < 4), (2, True))
    """
    total, start, found = Integer(0), Integer(0), []
    for end, formula in cases(rate, t):
        primitive = _primitive(exact_expression(formula), t)
        value = total + primitive - primitive.subs(t, start)
        if not _long_numbers(value):
            value = sympy.simplify(value)
        found.append((value, True if end is None else t < end))
        if end is not None:
            start = exact_expression(end)
            total = value.subs(t, start)
    return Piecewise(*found) if len(found) > 1 else found[0][0]


def _long_numbers(expr: Expr) -> list[Expr]:
    """Rationals that stem from floats."""
    return sorted(r for r in expr.atoms(sympy.Rational) if r.q > _LONG or abs(r.p) > _LONG)


def _primitive(formula: Expr, t: Symbol) -> Expr:
    """An antiderivative, whose derivative is the formula, for any numbers in the place of long ones."""
    rational = formula.is_rational_function(t)  # of which numbers, not symbols, are integrated fast
    if not rational and sympy.count_ops(formula) > _LONGEST:
        raise ValueError(
            f"no closed form is sought for the integral over t of a formula with {sympy.count_ops(formula)} "
            f"operations, more than {_LONGEST}; integrate numerically"
        )
    if any(p.base.has(*_TRANSCENDENTAL) and not p.exp.is_nonnegative for p in formula.atoms(sympy.Pow)):
        raise ValueError(
            f"no closed form is sought for the integral over t of {formula}, which divides by a cosine or an "
            "exponential of t; integrate numerically"
        )
    numbers = [] if rational else _long_numbers(formula)
    names = {r: sympy.Dummy(positive=True) for r in numbers if r > 0}
    names |= {r: -names.get(-r, sympy.Dummy(positive=True)) for r in numbers if r < 0}
    named = formula.xreplace(names)
    if not rational:
        named = TR8(sympy.expand(named))  # products of cosines as sums, which are integrated at once
    found = sympy.integrate(named, t)
    left = sympy.simplify(found.diff(t) - named)
    meant = {(-d if r < 0 else d): abs(r) for r, d in names.items()}
    if found.has(sympy.Integral, sympy.RootSum) or (left != 0 and not left.subs(meant).equals(0)):
        raise ValueError(
            f"no closed form of the integral of {formula} over t was found; integrate numerically"
        )
    return found.subs(meant)


def evaluator(expr: Expr, t: Symbol) -> Callable[[np.ndarray], np.ndarray]:
    """A function of times for a closed form in t, exact to rounding."""
    function = sympy.lambdify(t, expr, "mpmath")

    def evaluate(times: np.ndarray) -> np.ndarray:
        with mpmath.workdps(_DIGITS):
            return np.array([float(function(mpmath.mpf(float(s)))) for s in times])

    return evaluate
