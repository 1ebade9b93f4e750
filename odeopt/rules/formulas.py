r"""Formulas as a mathematician writes them, as text and as LaTeX.

sympy prints ``-1/(beta - 1)`` and ``-b*h + 1``; a paper has :math:`1/(1-\beta)` and :math:`1-bh`. Here a sum
begins with its constant and goes on by degree, a difference in a denominator has the sign that makes it
positive for small symbols, vectors stand last in a product, long numbers are rounded. Expressions themselves
stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Add, Expr, Mul, Order, Pow, Rational, S, Symbol
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

if TYPE_CHECKING:

    class AnyExpr:
        """What a checker is told of sympy's classes, which come without types."""

        args: tuple[Any, ...]

        def __new__(cls, *args: Any, **assumptions: Any) -> Any: ...
        def __getattr__(self, name: str) -> Any: ...

    Name = AnyExpr
else:
    Name = Symbol

__all__ = ["ROUNDED", "VectorName", "latex", "normal", "text", "vector_name"]

# What grows: a sum of its powers begins with the highest, and t - 1 may be as good as 1 - t.
_LARGE = frozenset({"t", "tau", "k", "N", "lam", "lambda", "lambda_", "L"})
_LONGEST = 8  # digits of a numerator or denominator that is printed whole
ROUNDED = "..."  # ends a rational number that is printed to six digits


class VectorName(Name):
    """A symbol that prints in place of a vector, as a curve or one of its derivatives, last in a product."""

    is_coordinate: bool = True
    derivative: int = 0


def vector_name(write: Callable[[str, int], str], name: str, derivative: int) -> VectorName:
    """The symbol that prints in place of a derivative of a curve."""
    found = VectorName(write(name, derivative))
    found.derivative = derivative
    return found


class _Digits(Symbol):
    """A positive number that is printed rounded."""

    @classmethod
    def class_key(cls) -> tuple[int, int, str]:
        return 1, 0, cls.__name__


def text(expr: Any) -> str:
    """Print an expression as text, powers as ``**``.

    >>> from sympy.abc import b, beta, h
    >>> text(-1 / (beta - 1)), text(-b * h + 1), text(Rational(2947853383768011, 2500000000000000))
    ('1/(1 - beta)', '1 - b*h', '1.17914...')
    """
    return _Text().doprint(normal(sympy.sympify(expr, strict=True)))


def latex(expr: Any) -> str:
    r"""Print an expression as LaTeX.

    >>> from sympy.abc import beta, h, lamda
    >>> print(latex(-h * (beta + 1) / (2 * (beta - 1) ** 3)), latex(Symbol("lam") * 0.1))
    \frac{h \left(1 + \beta\right)}{2 \left(1 - \beta\right)^{3}} 0.1 \lambda
    """
    if isinstance(expr, sympy.Eq):
        return f"{latex(expr.lhs)} = {latex(expr.rhs)}"
    return _Latex().doprint(normal(sympy.sympify(expr, strict=True)))


def normal(expr: Expr) -> Expr:
    """Give factors the sign that is printed, and long rationals their digits.

    >>> from sympy.abc import beta, h
    >>> normal(-h / (beta - 1) ** 3), normal(2 / (h * (beta - 1)))
    (h/(1 - beta)**3, -2/(h*(1 - beta)))
    """
    if not isinstance(expr, Expr) or isinstance(expr, Order):
        return expr
    found = expr.replace(lambda e: isinstance(e, (Mul, Pow)) and e.has(Add), _signed)
    return found.replace(_is_long, _digits) if any(map(_is_long, found.atoms(Rational))) else found


def _is_long(expr: Expr) -> bool:
    return isinstance(expr, Rational) and expr.q != 1 and max(abs(expr.p), expr.q) >= 10**_LONGEST


def _digits(number: Rational) -> Expr:
    sign = -1 if number < 0 else 1
    digits = _decimal(sympy.Float(abs(number), 15))
    return sign * _Digits(digits if Rational(digits) == abs(number) else digits + ROUNDED, positive=True)


def _signed(expr: Expr) -> Expr:
    """The product with 1 - beta in place of beta - 1."""
    factors = list(Mul.make_args(expr))
    for i, factor in enumerate(factors):
        base, power = factor.as_base_exp()
        if not (base.is_Add and power.is_Integer and _is_backward(base)):
            continue
        if power.is_odd and power > 0 and len(factors) == 1:
            continue
        negative = factors[0].is_Number and factors[0].is_negative
        if not negative and any(s.name in _LARGE for s in base.free_symbols):
            continue
        factors[i] = Pow(-base, power)
        if power.is_odd:
            factors = [-factors[0], *factors[1:]] if factors[0].is_Number else [S.NegativeOne, *factors]
            return _signed(Mul(*factors))
    return Mul(*factors)


def _is_backward(total: Add) -> bool:
    """Whether a sum begins with a negative number, and nothing else in it is negative."""
    number, rest = total.as_coeff_Add()
    return bool(number.is_negative) and not any(_is_minus(term) for term in Add.make_args(rest))


def _is_minus(term: Expr) -> bool:
    number = term.as_coeff_Mul()[0]
    return bool(number.is_extended_real) and bool(number.is_negative)


def _degree(term: Expr) -> Any:
    """The total degree in the symbols."""
    powers = [factor.as_base_exp() for factor in Mul.make_args(term)]
    return sum(
        power * (max(map(_degree, base.args)) if base.is_Add else int(isinstance(base, Symbol)))
        for base, power in powers
        if power.is_Number
    )


def _ordered(terms: list[Expr]) -> list[Expr]:
    """Terms of an expansion by powers, of vectors by rank, else the constant and then by degree."""
    small = [term.expr.free_symbols for term in terms if isinstance(term, Order)]
    if small:
        h = next(iter(small[0]))
        return sorted(terms, key=lambda e: (isinstance(e, Order), e.as_coeff_exponent(h)[1].sort_key()))
    if any(map(_is_vector, terms)):
        ranks = {term: _rank(term) for term in terms}
        falling = any(gradient for _, gradient, *_ in ranks.values())  # an equation; a point is X + t X'
        return sorted(terms, key=lambda e: (*ranks[e][:4], -ranks[e][4] if falling else abs(ranks[e][4])))
    return _by_degree(terms)


def _by_degree(terms: list[Expr]) -> list[Expr]:
    """Powers of what grows fall, others rise; a minus is not at the head where a plus is."""
    terms = sorted(
        terms, key=lambda term: (not term.is_number and not isinstance(term, _Digits), _degree(term))
    )
    names = {s.name for term in terms for s in term.free_symbols}
    fallen = terms[::-1]
    if not _is_minus(fallen[0]) and (_is_minus(terms[0]) or (names & _LARGE and _is_growing(fallen[0]))):
        return fallen
    head = next((i for i, term in enumerate(terms) if not _is_minus(term)), 0)
    return [terms[head], *terms[:head], *terms[head + 1 :]]


def _is_growing(term: Expr) -> bool:
    return any(
        isinstance(base, Symbol) and base.name in {"t", "tau", "k", "N"} and power.is_positive
        for base, power in (factor.as_base_exp() for factor in Mul.make_args(term))
    )


def _is_vector(expr: Expr) -> bool:
    return any(getattr(e, "is_coordinate", False) for e in sympy.preorder_traversal(expr))


def _rank(term: Expr) -> tuple:
    """Where a term of a sum of vectors stands: names of vectors, what is made of them, gradients, numbers."""
    vectors = [f for f in Mul.make_args(term) if _is_vector(f)]
    gradients = [f.directions for f in vectors if hasattr(f, "directions")]
    names = [f.derivative for f in vectors if isinstance(f, VectorName)]
    return not vectors, bool(gradients), not names, sum(map(len, gradients)), max(names, default=0)


def _decimal(number: Any) -> str:
    """A float to six digits, or to as many as it takes to be no integer that it is not."""
    value = float(number)
    digits = f"{value:.6g}"
    if float(digits).is_integer() and abs(value) < 1e6 and abs(value - float(digits)) > 1e-12 * abs(value):
        digits = f"{value:.15g}"
    mantissa, _, exponent = digits.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _power_of_ten(number: str, dots: str = "") -> str:
    """A decimal as LaTeX."""
    mantissa, _, exponent = number.partition("e")
    if not exponent:
        return mantissa + dots
    return rf"10^{{{exponent}}}" if mantissa + dots == "1" else rf"{mantissa}{dots} \cdot 10^{{{exponent}}}"


class _Text(StrPrinter):
    """sympy's text with sums in order."""

    def _as_ordered_terms(self, expr: Expr, order: Any = None) -> list[Expr]:
        return _ordered(super()._as_ordered_terms(expr, order))

    def _print_Mul(self, expr: Mul) -> str:
        factors = expr.as_ordered_factors()
        vectors = [f for f in factors if isinstance(f, VectorName)]
        if len(vectors) != 1 or not any(f.is_Add for f in factors):
            return super()._print_Mul(expr)
        if _is_minus(expr):
            return "-" + self._print(-expr)
        scalar = Mul(*(f for f in factors if f is not vectors[0]))
        return f"{self.parenthesize(scalar, PRECEDENCE['Mul'])}*{vectors[0].name}"

    def _print_Float(self, expr: sympy.Float) -> str:
        return _decimal(expr)

    def _print_Symbol(self, expr: Symbol) -> str:
        return _named(expr.name)


class _Latex(LatexPrinter):
    """sympy's LaTeX with sums in order and vectors last."""

    def _as_ordered_terms(self, expr: Expr, order: Any = None) -> list[Expr]:
        return _ordered(super()._as_ordered_terms(expr, order))

    def _print_Float(self, expr: sympy.Float) -> str:
        return _power_of_ten(_decimal(expr))

    def _print_Pow(self, expr: Pow) -> str:
        base, power = expr.args
        if base.is_Float and "^" in self._print(base):  # else the power would stand on that of ten
            return rf"\left({self._print(base)}\right)^{{{self._print(power)}}}"
        return super()._print_Pow(expr)

    def _print_Symbol(self, expr: Symbol, style: str = "plain") -> str:
        if isinstance(expr, _Digits):
            return _power_of_ten(expr.name.removesuffix(ROUNDED), r"\ldots" * expr.name.endswith(ROUNDED))
        return super()._print_Symbol(Symbol(_named(expr.name)), style)

    def _print_VectorName(self, expr: VectorName) -> str:
        return re.sub(r"_(\w{2,})", r"_{\1}", expr.name)

    def _print_Mul(self, expr: Mul) -> str:
        if _is_minus(expr):
            return "- " + self._print(-expr)
        vectors = [f for f in expr.args if getattr(f, "is_coordinate", False)]
        scalar = Mul(*(f for f in expr.args if f not in vectors))
        if not vectors or scalar == 1 or _is_vector(scalar):
            return super()._print_Mul(expr)
        factor = self._print(scalar)
        factor = rf"\left({factor}\right)" if scalar.is_Add else factor
        return " ".join([factor, *(self._print(v) for v in sorted(vectors, key=sympy.default_sort_key))])


def _named(name: str) -> str:
    """The name of a symbol; Python has no lambda."""
    return "lambda" if name in ("lam", "lambda_", "lamda") else name
