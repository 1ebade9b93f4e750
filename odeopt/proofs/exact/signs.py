r"""Exact signs of expressions: numbers, quotients on a domain of parameters, definiteness of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, Rational

from odeopt.checks import is_number
from odeopt.proofs.exact.domain import Bound, Domain
from odeopt.proofs.exact.field import Field
from odeopt.proofs.exact.roots import UndecidedError

__all__ = [
    "exact_number", "is_positive_semidefinite", "is_zero", "nearest_float", "number_sign",
    "proves_nonnegative", "short_text", "simplest_fraction",
]  # fmt: skip


def exact_number(value: Any, name: str = "value") -> Expr:
    """Return a number as an exact sympy number; a float is read as the decimal it prints as.

    >>> exact_number(0.1), exact_number(sympy.sqrt(2) / 2)
    (1/10, sqrt(2)/2)
    """
    if isinstance(value, Expr):
        exact = value.replace(lambda e: e.is_Float, lambda e: exact_number(float(e), name))
        if exact.has(sympy.nan, sympy.oo, sympy.zoo, sympy.I):
            raise ValueError(f"{name} must be a finite real number, got {value}")
        return exact
    if not is_number(value) or value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    exact = Fraction(repr(float(value))) if isinstance(value, float) else Fraction(value)
    return Rational(exact.numerator, exact.denominator)


def number_sign(value: Expr) -> int:
    """Return the sign of a real algebraic number, exactly; ValueError if it is none, or undecided."""
    if value.is_Rational:
        return bool(value > 0) - bool(value < 0)
    return Field(()).read(value).sign()


def nearest_float(value: Expr) -> float:
    """Return a real algebraic number as a float, inf beyond them; evalf loses digits that cancel."""
    field = Field(())
    number = field.read(value)
    if number.is_zero():
        return 0.0
    for bits in (128, 512, 2048, 8192, 32768):
        num, den = (field.balls(bits, part) for part in (number.num, number.den))
        if min(num.rel_accuracy_bits(), den.rel_accuracy_bits()) > 60:
            exact = num.mid().fmpq() / den.mid().fmpq()
            if abs(exact) >= 2**1024:
                return math.inf if exact > 0 else -math.inf
            return int(exact.p) / int(exact.q)  # correctly rounded
    raise UndecidedError(f"undecided: the digits of {value} need more than 32768 bits")


def short_text(value: Expr) -> str:
    """Write an expression, a long number to 9 digits.

    >>> short_text(Rational(1, 3)), short_text(Rational(1, 10**30)), short_text(sympy.sqrt(2) + sympy.sqrt(3))
    ('1/3', '1e-30', 'sqrt(2) + sqrt(3)')
    """
    text = str(value)
    number = math.inf if value.free_symbols or len(text) < 20 else nearest_float(value)
    return f"{number:.9g}" if math.isfinite(number) else text


def is_zero(value: Expr) -> bool:
    """Tell whether a quotient of polynomials in parameters, or an algebraic number, is zero."""
    return value == 0 or Field(value.free_symbols).read(value).is_zero()


def proves_nonnegative(value: Expr, domain: Sequence[Bound] = ()) -> bool:
    """Tell whether an expression is provably nonnegative on a domain; False where no proof is found."""
    field = _field((value,), domain)
    return Domain(field, domain).nonnegative(field.read(value))


def is_positive_semidefinite(matrix: sympy.Matrix, domain: Sequence[Bound] = ()) -> bool:
    """Tell whether a symmetric matrix is provably positive semidefinite on a domain."""
    field = _field(matrix, domain)
    return Domain(field, domain).semidefinite([[field.read(e) for e in row] for row in matrix.tolist()])


def _field(expressions, domain: Sequence[Bound]) -> Field:
    free = set().union(*(e.free_symbols for e in expressions))
    return Field((*(b.symbol for b in domain), *sorted(free, key=str)))


def simplest_fraction(low: float, high: float) -> Expr:
    """Return the fraction of smallest denominator in an interval, for short proofs.

    >>> simplest_fraction(3.14, 3.145), simplest_fraction(0.3, 0.4)
    (22/7, 1/3)
    """
    fraction = _simplest(Fraction(low), Fraction(high))
    return Rational(fraction.numerator, fraction.denominator)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Descend the continued fractions that the two ends share."""
    whole = low.numerator // low.denominator
    if whole == low or whole + 1 <= high:
        return Fraction(whole if whole == low else whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))
