r"""Domains of parameters, and the signs of quotients on them.

An expression is written in the distances of its symbols from their bounds. It has a sign where all
coefficients of its numerator and of its denominator have one, or, with one distance left, where it has no
root of odd multiplicity. A test that finds no proof says no.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sympy
from flint import fmpq, fmpq_mpoly, fmpq_poly
from sympy import Expr, Symbol

from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.exact.roots import UndecidedError

__all__ = ["Bound", "Domain", "Rows", "determinant", "squares"]

Rows = Sequence[Sequence[Element]]
_HIGHEST_DEGREE = 60  # of a polynomial whose roots are counted


@dataclass(frozen=True)
class Bound:
    r"""A parameter and its range, lower <= symbol, symbol <= upper, lower <= symbol < upper, or any.

    Attributes
    ----------
    symbol : sympy.Symbol
    lower : sympy.Expr or None
        In terms of symbols bounded before.
    upper : sympy.Expr or None
        Without either bound the parameter may be any real number.
    strict : bool
        Whether the bound itself is excluded; beside a lower bound an upper one always is.
    """

    symbol: Symbol
    lower: Expr | None = sympy.S.Zero
    upper: Expr | None = None
    strict: bool = False

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.lower is not None or self.upper is not None

    @property
    def distance(self) -> Symbol:
        """The distance of the symbol from its bound, the symbol itself where that is 0."""
        own = self.lower == 0 and self.upper is None
        return self.symbol if own else Symbol(f"d_{self.symbol.name}", real=True)

    @property
    def limits(self) -> tuple[Expr, ...]:
        """The bounds that there are."""
        return tuple(e for e in (self.lower, self.upper) if e is not None)


class Domain:
    """The ranges of the parameters of a field."""

    def __init__(self, field: Field, bounds: Sequence[Bound]) -> None:
        self.field: Field = field
        self.bounds: tuple[Bound, ...] = tuple(bounds)
        # generator of each bounded symbol, later of its distance: True where that is positive
        self.strict: dict[int, bool] = {field.index[b.symbol]: b.strict for b in bounds if b.is_bounded}
        self._values: list | None = None

    def values(self) -> list[tuple[int, Element]]:
        """Each symbol that differs from its distance, in terms of that; the last symbol first."""
        if self._values is None:
            self._values = []
            for bound in reversed(self.bounds):
                if not bound.is_bounded or (bound.lower == 0 and bound.upper is None):
                    continue
                distance = self.field.read(bound.symbol)
                limits = [self.field.read(e) for e in bound.limits]
                if len(limits) == 2:
                    one = self.field.number(fmpq(1))
                    value = (limits[0] + limits[1] * distance) / (one + distance)
                else:
                    value = limits[0] - distance if bound.lower is None else limits[0] + distance
                self._values.append((self.field.index[bound.symbol], value))
        return self._values

    def on_distances(self, element: Element) -> Element:
        """Write an element in the distances, which take the place of their symbols."""
        field, values = self.field, self.values()
        num, den = field.lift(element.num), field.lift(element.den)
        for place, value in values:
            top, bottom = field.lift(value.num), field.lift(value.den)
            num, m = _homogeneous(field, num, place, top, bottom)
            den, n = _homogeneous(field, den, place, top, bottom)
            num, den = num * bottom ** max(n - m, 0), den * bottom ** max(m - n, 0)
            num, den = field.reduced(num), field.reduced(den)
            field.spend(len(num) + len(den))
        return Element.quotient(field, num, den)

    def nonnegative(self, element: Element) -> bool:
        """Tell whether an element is provably nonnegative; False where no proof is found."""
        number = element.rational
        if number is not None:
            return number >= 0
        return self.sign(element) > 0

    def positive(self, element: Element) -> bool:
        """Tell whether an element is provably positive."""
        return self.nonnegative(element) and self.never_zero(element)

    def never_zero(self, element: Element) -> bool:
        """Tell whether an element is provably defined and not zero anywhere."""
        number = element.rational
        return number != 0 if number is not None else self.sign(element, strict=True) != 0

    def sign(self, element: Element, strict: bool = False) -> int:
        """1 or -1 for a weak sign that holds everywhere, or with `strict` one without zeros; 0 if unknown."""
        written = self.on_distances(element)
        below = self._sign(written.den, strict=True)
        return below and below * self._sign(written.num, strict)

    def signed_by(self, element: Element) -> str:
        """How a sign is seen: by the coefficients, those of the factors, or the roots in one distance."""
        written = self.on_distances(element)
        if all(self._factor_sign(p, False) for p in (written.num, written.den)):
            return "coefficients"
        for polynomial in (written.num, written.den):
            factors = polynomial.factor()[1]
            if not all(self._factor_sign(p, False) for p, power in factors if power % 2):
                return "roots"
        return "factors"

    def weakly_signed(self, element: Element, sign: int) -> bool:
        """Tell whether an element has a weak sign wherever it is defined."""
        written = self.on_distances(element)
        below = self._sign(written.den)
        return (below != 0 and sign * below * self._sign(written.num) > 0) or written.num.is_zero()

    def _sign(self, polynomial: fmpq_mpoly, strict: bool = False) -> int:
        """By the coefficients, or by those of the factors."""
        if polynomial.is_zero():
            return 0 if strict else 1
        if (sign := self._factor_sign(polynomial, strict)) or len(polynomial) == 1:
            return sign
        words = sum(1 + (int(c.p).bit_length() + int(c.q).bit_length()) // 64 for c in polynomial.coeffs())
        self.field.spend(2 * max(words, sum(map(int, polynomial.degrees()))) ** 2)
        constant, factors = polynomial.factor()
        sign = self.field.sign(constant)
        for factor, power in factors:
            if power % 2 == 1:
                sign *= self._factor_sign(factor, strict) or self._sign_by_roots(factor, strict)
            elif strict:
                sign *= abs(self._factor_sign(factor, True) or self._sign_by_roots(factor, True))
        return sign

    def _factor_sign(self, polynomial: fmpq_mpoly, strict: bool) -> int:
        coefficients = [(e, self.field.sign(c)) for e, c in self.field.coefficients(polynomial)]
        coefficients = [(e, s) for e, s in coefficients if s]
        if not coefficients:
            return 0 if strict else 1
        signs = {s for _, s in coefficients}
        return next((sign for sign in signs if self._has_sign(coefficients, sign, strict)), 0)

    def _has_sign(self, coefficients, sign: int, strict: bool) -> bool:
        """Whether all coefficients have the sign, and with `strict` one monomial never vanishes."""
        never_zero = False
        for exponents, found in coefficients:
            if found != sign:
                return False
            powers = [(place, e) for place, e in enumerate(exponents) if e]
            if any(place not in self.strict and e % 2 for place, e in powers):
                return False
            never_zero |= all(self.strict.get(place, False) for place, _ in powers)
        return never_zero or not strict

    def _sign_by_roots(self, polynomial: fmpq_mpoly, strict: bool) -> int:
        """Sign of an irreducible polynomial in one distance: no root in (0, oo)."""
        places = [place for place, degree in enumerate(polynomial.degrees()) if degree]
        if len(places) != 1 or places[0] not in self.strict or places[0] >= self.field.size:
            return 0
        (place,) = places
        if (degree := int(polynomial.degrees()[place])) > _HIGHEST_DEGREE:
            raise UndecidedError(f"undecided: the roots of a polynomial of degree {degree}")
        powers = {int(e[place]): c for e, c in polynomial.to_dict().items()}
        found = fmpq_poly([powers.get(e, fmpq(0)) for e in range(degree + 1)]).numer()
        if found[0] == 0:  # irreducible, so it is the distance itself
            return 0 if strict and not self.strict[place] else 1
        return 0 if self.field.has_positive_root(found) else 1 if found[degree] > 0 else -1

    def semidefinite(self, rows: Rows) -> bool:
        r"""Tell whether a symmetric matrix is provably positive semidefinite.

        Numbers by elimination; others as a sum of squares with nonnegative weights, whose forms may divide
        by what vanishes on a set without interior, since the matrix is continuous and the domain lies in the
        closure of its interior; or else by Sylvester's criterion: every principal minor is nonnegative.
        """
        n = len(rows)
        if any(len(row) != n for row in rows):
            raise ValueError(f"a matrix of {n} rows must have {n} columns")
        if any(not (rows[i][j] - rows[j][i]).is_zero() for i, j in itertools.combinations(range(n), 2)):
            return False
        if all(entry.is_number for row in rows for entry in row):
            return self._eliminated(rows)
        if (found := squares(rows)) and all(self.weakly_signed(weight, 1) for weight, _ in found):
            return True
        kept = [i for i in range(n) if not all(e.is_zero() for e in rows[i])]
        return all(self.nonnegative(determinant(rows, part, part)) for part in _subsets(kept))

    def _eliminated(self, rows: Rows) -> bool:
        """Eliminate symmetrically; a zero pivot must have a zero row."""
        n, rest = len(rows), [list(row) for row in rows]
        for k in range(n):
            pivot = rest[k][k]
            sign = pivot.sign()
            if sign < 0 or (sign == 0 and any(not rest[k][j].is_zero() for j in range(k + 1, n))):
                return False
            if sign == 0:
                continue
            for i in range(k + 1, n):
                if rest[i][k].num.is_zero():
                    continue
                factor = rest[i][k] / pivot
                for j in range(i, n):
                    rest[i][j] = rest[j][i] = rest[i][j] - factor * rest[k][j]
        return True


def squares(rows: Rows) -> list[tuple[Element, list[Element]]] | None:
    """Return a form as a sum of weight * (linear form)^2, the last vector first; None at a zero pivot."""
    rest, found = [list(row) for row in rows], []
    n = len(rest)
    for k in reversed(range(n)):
        pivot, column = rest[k][k], [row[k] for row in rest]
        if pivot.is_zero():
            if not all(e.is_zero() for e in column):
                return None
            continue
        linear = [e / pivot for e in column]
        rest = [[rest[i][j] - pivot * linear[i] * linear[j] for j in range(n)] for i in range(n)]
        found.append((pivot, linear))
    return found


def _homogeneous(field: Field, polynomial: fmpq_mpoly, place: int, top: fmpq_mpoly, bottom: fmpq_mpoly):
    """Return bottom^m polynomial(top / bottom) and the degree m in that generator."""
    m = int(polynomial.degrees()[place])
    if m == 0:
        return polynomial, 0
    parts = field.powers(polynomial, place)
    result, power = field.zero, field.one
    for e in reversed(range(m + 1)):  # Horner's rule, power = bottom^(m - e)
        field.spend(len(result) * len(top) + len(parts.get(e, field.zero)) * len(power) + len(power))
        result = result * top + parts.get(e, field.zero) * power
        power *= bottom
    return result, m


def _subsets(items: Sequence[int]) -> Iterator[tuple[int, ...]]:
    sizes = range(1, len(items) + 1)
    return itertools.chain.from_iterable(itertools.combinations(items, m) for m in sizes)


def determinant(rows: Rows, chosen: Sequence[int], columns: Sequence[int]) -> Element:
    """Expand along the first row: the forms of a proof have at most four vectors."""
    first = rows[chosen[0]]
    if len(chosen) == 1:
        return first[columns[0]]
    terms = []
    for place, column in enumerate(columns):
        if not first[column].num.is_zero():
            rest = (*columns[:place], *columns[place + 1 :])
            term = first[column] * determinant(rows, chosen[1:], rest)
            terms.append(-term if place % 2 else term)
    return first[0].field.total(terms)
