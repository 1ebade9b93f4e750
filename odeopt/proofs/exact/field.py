r"""Exact arithmetic: quotients of polynomials with rational coefficients, and roots of numbers.

A :class:`Field` knows the symbols of one proof. Its elements are quotients of flint's polynomials, reduced;
each root :math:`r=d^{1/n}` of a number is one more generator with the rule :math:`r^n=d`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sympy
from flint import fmpq, fmpq_mpoly
from sympy import Expr, Integer, Rational, Symbol

from odeopt.proofs.exact.roots import WORK, Roots, UndecidedError

__all__ = ["Element", "Field"]

Monomial = tuple[Any, ...]
# A proof is meant to be read: no polynomial in it has anywhere near so many terms.
_MOST_TERMS, _HIGHEST_DEGREE = 2000, 4096
_MOST_ROOTS, _HIGHEST_ROOT, _HIGHEST_POWER = 8, 8, 512


class Field(Roots):
    """The quotients of polynomials in some symbols.

    >>> x, t = sympy.symbols("x t")
    >>> field = Field((x, t))
    >>> field.read((x + 1 / t) ** 2 * t).expr()
    t*x**2 + 2*x + 1/t
    """

    def __init__(self, symbols: Iterable[Symbol], work: int = WORK) -> None:
        self.symbols: tuple[Symbol, ...] = tuple(dict.fromkeys(symbols))
        super().__init__(len(self.symbols), work)
        self.index: dict[Symbol, int] = {symbol: place for place, symbol in enumerate(self.symbols)}
        self.divisors: dict[Expr, Element] = {}  # of all that was read
        self._known: dict[Expr, Element] = {}

    def number(self, value: Any) -> Element:
        """Return a rational number as an element."""
        return Element(self, self.context.constant(fmpq(value.numerator, value.denominator)), self.one)

    def read(self, expr: Expr) -> Element:
        """Expand an expression; ValueError for what is no quotient, or divides by zero."""
        known = self._known.get(expr)
        if known is None:
            known = self._known[expr] = self._read(expr)
        return known

    def _read(self, expr: Expr) -> Element:
        if expr.is_Symbol:
            place = self.index.get(expr)
            if place is None:
                raise ValueError(f"no bounds, or no rules, are given for {expr}")
            return Element(self, self.context.gen(place), self.one)
        if expr.is_Rational:
            p, q = int(expr.p), int(expr.q)
            self._long |= p.bit_length() + q.bit_length() > 512
            return Element(self, self.context.constant(fmpq(p, q)), self.one)
        if expr.is_Add:
            return self.total([self.read(term) for term in expr.args])
        if expr.is_Mul:
            result = self.read(expr.args[0])
            for factor in expr.args[1:]:
                result = result * self.read(factor)
            return result
        if expr.is_Pow and expr.exp.is_Rational:
            base = self.read(expr.base)
            if not isinstance(expr.exp, Integer):
                base = self._root(base, int(expr.exp.q))
            if expr.exp.p < 0:
                self.divisors[expr.base] = base
            return base ** int(expr.exp.p)
        raise ValueError(f"{expr} is not a known algebraic number, nor a quotient of polynomials")

    def total(self, parts: Sequence[Element]) -> Element:
        """Return the sum."""
        result = Element(self, self.zero, self.one)
        for part in parts:
            result = result + part
        return result

    def _root(self, base: Element, n: int) -> Element:
        if not base.is_number:
            raise ValueError(f"a root of {base.expr()} is no quotient of polynomials; take it as a parameter")
        if (sign := base.sign()) <= 0:
            if sign == 0:
                return base
            raise ValueError(f"the root of the negative number {base.expr()} is not real")
        # (a / b)^(1/n) = (a b^(n-1))^(1/n) / b with an integer b
        b = math.lcm(*(int(c.q) for c in base.num.coeffs())) * (1 if base.den.is_one() else 0)
        if b == 0:
            raise ValueError(f"the root of {base.expr()} is too deeply nested")
        radicand = self.lift(base.num) * fmpq(b) ** n
        for place, (_, m, d) in enumerate(self.roots, len(self.symbols)):
            if m == n and self.lift(d) == radicand:
                return Element(self, self.context.gen(place) / b, self.one)
        if len(self.roots) == _MOST_ROOTS or n > _HIGHEST_ROOT:
            raise UndecidedError(f"undecided: more than {_MOST_ROOTS} roots, or one of order {n}")
        self.roots.append((sympy.root(self._expr(radicand), n), n, radicand))
        self._enter(len(self.symbols) + len(self.roots))
        return Element(self, self.context.gen(self.context.nvars() - 1) / b, self.one)

    def _expr(self, polynomial: fmpq_mpoly) -> Expr:
        gens = (*self.symbols, *(root for root, _, _ in self.roots))
        return sympy.Add(
            *(
                sympy.Mul(_rational(c), *(g ** int(e) for g, e in zip(gens, exponents, strict=False) if e))
                for exponents, c in polynomial.to_dict().items()
            )
        )


def _replaced(field: Field, polynomial: fmpq_mpoly, places: Mapping[int, Element]) -> Element:
    """A polynomial with elements in place of some generators."""
    degrees = polynomial.degrees()
    used = {place: value for place, value in places.items() if degrees[place]}
    if not used:
        return Element(field, polynomial, field.one)
    if all(value.den.is_one() for value in used.values()):
        gens = [field.lift(used[i].num) if i in used else field.context.gen(i) for i in range(len(degrees))]
        return Element.quotient(field, field.reduced(polynomial.compose(*gens)), field.one)
    parts = []
    for exponents, c in polynomial.to_dict().items():
        kept = tuple(0 if i in used else e for i, e in enumerate(exponents))
        part = Element(field, field.context.from_dict({kept: c}), field.one)
        for place, value in used.items():
            if exponents[place]:
                part = part * value ** int(exponents[place])
        parts.append(part)
    return field.total(parts)


def _rational(value: fmpq) -> Rational:
    return Rational(int(value.p), int(value.q))


class Element:
    """A quotient num / den, reduced; made by :meth:`Field.read`, never changed."""

    __slots__ = ("den", "field", "num")

    def __init__(self, field: Field, num: fmpq_mpoly, den: fmpq_mpoly) -> None:
        self.field: Field = field
        self.num: fmpq_mpoly = num
        self.den: fmpq_mpoly = den

    @classmethod
    def quotient(cls, field: Field, num: fmpq_mpoly, den: fmpq_mpoly) -> Element:
        """Return num / den in lowest terms, the leading coefficient of den being 1."""
        if len(num) > _MOST_TERMS or len(den) > _MOST_TERMS:
            raise UndecidedError(f"undecided: a product has more than {_MOST_TERMS} terms")
        if max((*num.degrees(), *den.degrees(), 0)) > _HIGHEST_DEGREE:
            raise UndecidedError(f"undecided: a power beyond {_HIGHEST_DEGREE}")
        if not den.is_constant():
            common = num.gcd(den)
            if not common.is_one():
                num, den = num / common, den / common
        if not den.is_one():
            lead = den.leading_coefficient()
            num, den = num / lead, den / lead
        return cls(field, num, den)

    def _parts(self) -> tuple[fmpq_mpoly, fmpq_mpoly]:
        if not self.field.roots:
            return self.num, self.den
        return self.field.lift(self.num), self.field.lift(self.den)

    def __add__(self, other: Element) -> Element:
        field = self.field
        (a, b), (c, d) = self._parts(), other._parts()
        if b == d:
            num = a + c
            return Element(field, num, b) if b.is_one() else Element.quotient(field, num, b)
        field.spend(len(a) * len(d) + len(b) * len(c))
        return Element.quotient(field, field.reduced(a * d + b * c), field.reduced(b * d))

    def __neg__(self) -> Element:
        return Element(self.field, -self.num, self.den)

    def __sub__(self, other: Element) -> Element:
        return self + -other

    def __mul__(self, other: Element) -> Element:
        field = self.field
        (a, b), (c, d) = self._parts(), other._parts()
        field.spend(len(a) * len(c) + len(b) * len(d), a, c)
        if b.is_one() and d.is_one() and len(a) < 9 and len(c) < 9:
            return Element(field, field.reduced(a * c), b)
        return Element.quotient(field, field.reduced(a * c), field.reduced(b * d))

    def inverse(self) -> Element:
        """Return 1 / self; ValueError if it is zero."""
        if self.is_zero():
            raise ValueError(f"the divisor {self.expr()} is zero")
        num, den = self._parts()
        if self.is_number and not num.is_constant():
            factor, num = self.field.inverse_number(num)
            den = self.field.reduced(den * factor)
        return Element.quotient(self.field, den, num)

    def __truediv__(self, other: Element) -> Element:
        return self * other.inverse()

    def __pow__(self, exponent: int) -> Element:
        if exponent < 0:
            return self.inverse() ** -exponent
        if len(self.num) == 1 == len(self.den) and not self.field.roots:
            if exponent * max((*self.num.degrees(), *self.den.degrees(), 0)) > _HIGHEST_DEGREE:
                raise UndecidedError(f"undecided: a power beyond {_HIGHEST_DEGREE}")
            return Element(self.field, self.num**exponent, self.den**exponent)
        if exponent > _HIGHEST_POWER:
            raise UndecidedError(f"undecided: the power {exponent} of a sum is too long to be expanded")
        result = Element(self.field, self.field.one, self.field.one)
        for _ in range(exponent):
            result = result * self
        return result

    @property
    def is_number(self) -> bool:
        """Whether it holds no symbol."""
        n = len(self.field.symbols)
        return all(p.is_constant() or not any(p.degrees()[:n]) for p in (self.num, self.den))

    @property
    def rational(self) -> fmpq | None:
        """The element as a rational number, None where it holds more."""
        if self.den.is_one() and self.num.is_constant():
            return self.num.leading_coefficient() if not self.num.is_zero() else fmpq(0)
        return None

    def is_zero(self) -> bool:
        """Tell whether it is zero, exactly."""
        if self.num.is_zero() or not self.field.roots:
            return self.num.is_zero()
        return all(self.field.sign(c) == 0 for _, c in self.field.coefficients(self.field.lift(self.num)))

    def sign(self) -> int:
        """Return the sign of a number; ValueError for what holds symbols."""
        if not self.is_number:
            raise ValueError(f"{self.expr()} holds symbols, and has no sign of its own")
        return self.field.sign(self.num) * self.field.sign(self.den)

    def symbols(self) -> set[Symbol]:
        """Return the symbols that it holds."""
        used = [any(pair) for pair in zip(self.num.degrees(), self.den.degrees(), strict=False)]
        return {symbol for symbol, there in zip(self.field.symbols, used, strict=False) if there}

    def diff(self, symbol: Symbol) -> Element:
        """Return the derivative with respect to a symbol."""
        field, place = self.field, self.field.index[symbol]
        num, den = self._parts()
        slope = Element(field, num.derivative(place), den)
        if den.degrees()[place] == 0:
            return slope if den.is_one() else Element.quotient(field, slope.num, den)
        return Element.quotient(field, slope.num * den - num * den.derivative(place), den * den)

    def substitute(self, values: Mapping[Symbol, Element]) -> Element:
        """Return it with elements in place of symbols, all at once."""
        field = self.field
        places = {field.index[symbol]: value for symbol, value in values.items() if symbol in field.index}
        num, den = (_replaced(field, field.lift(p), places) for p in (self.num, self.den))
        return num if den.rational == 1 else num / den

    def collect(self, gens: Sequence[Symbol]) -> dict[Monomial, Element]:
        """Return the coefficient of each monomial in some symbols, a tuple of them in their order.

        >>> b, x, v = sympy.symbols("b x v")
        >>> found = Field((b, x, v)).read(b * x * (x + 2 * v) - 3).collect((x, v))
        >>> found[x, x].expr(), found[x, v].expr(), found[()].expr()
        (b, 2*b, -3)
        """
        field = self.field
        num, den = self._parts()
        places = [(field.index[symbol], symbol) for symbol in gens]
        degrees = den.degrees()
        for place, symbol in places:
            if degrees[place]:
                raise ValueError(f"{self.expr()} divides by {symbol}: no polynomial in it")
        found: dict[Monomial, dict] = {}
        for exponents, c in num.to_dict().items():
            monomial: Monomial = ()
            rest = list(exponents)
            for place, symbol in places:
                if rest[place]:
                    monomial += (symbol,) * int(rest[place])
                    rest[place] = 0
            found.setdefault(monomial, {})[tuple(rest)] = c
        return {
            monomial: Element.quotient(field, field.context.from_dict(part), den)
            for monomial, part in found.items()
        }

    def expr(self) -> Expr:
        """Return it as an expression, expanded where it divides by a monomial only."""
        top, bottom = self.field._expr(self.num), self.field._expr(self.den)
        return sympy.expand(top / bottom) if len(self.den) == 1 else top / bottom

    def factored(self) -> Expr:
        """Return it as an expression in factors."""
        if (number := self.rational) is not None:
            return _rational(number)
        if self.is_number:
            return self.expr()
        number, parts = Integer(1), []
        for polynomial, power in ((self.num, 1), (self.den, -1)):
            constant, factors = polynomial.factor()
            number *= _rational(constant) ** power
            parts += [(p, power * int(e)) for p, e in factors]
        for i, (p, e) in enumerate(parts):  # as few minus signs as can be
            surplus = sum(-1 if c < 0 else 1 for c in p.coeffs())
            if surplus < 0 or (surplus == 0 and e % 2 and number < 0):
                parts[i], number = (-p, e), -number if e % 2 else number
        return number * sympy.Mul(*(self.field._expr(p) ** e for p, e in parts))

    def __repr__(self) -> str:
        return f"Element({self.expr()})"
