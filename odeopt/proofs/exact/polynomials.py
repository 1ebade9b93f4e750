r"""Exact polynomials: sums of monomials with rational coefficients, in which proofs are expanded.

Each exponent may be negative, and what is neither a rational number nor a symbol, such as
:math:`\sqrt2` or :math:`1/(3c-4)`, is an atom with a power of its own. Only where such atoms occur
is a polynomial without terms not the only zero; :attr:`Polynomial.is_plain` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import sympy
from sympy import Expr, Integer, Rational, Symbol

__all__ = ["Polynomial", "read"]

Key = frozenset  # of pairs (atom, exponent), exponents not zero
Monomial = tuple[Symbol, ...]
_EMPTY: Key = frozenset()
# A proof is meant to be read: no polynomial in it has anywhere near so many terms.
_MOST_TERMS = 500


class Polynomial:
    """A polynomial, also with negative exponents; made by :func:`read`, never changed.

    Parameters
    ----------
    terms : dict
        Monomial, a frozenset of pairs (atom, exponent), to its coefficient, which is not zero.

    Examples
    --------
    >>> x, t = sympy.symbols("x t")
    >>> p = read((x + 1 / t) ** 2 * t)
    >>> p.expr(), p.diff(x).expr()
    (t*x**2 + 2*x + 1/t, 2*t*x + 2)
    """

    __slots__ = ("terms",)

    def __init__(self, terms: dict[Key, Fraction]) -> None:
        self.terms = terms

    @property
    def is_plain(self) -> bool:
        """Whether all atoms are symbols, so that only the sum without terms is zero."""
        return all(atom.is_Symbol for key in self.terms for atom, _ in key)

    @property
    def number(self) -> Fraction | None:
        """The polynomial as a rational number, None where it holds atoms."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(_EMPTY) if len(self.terms) == 1 else None

    def __add__(self, other: Polynomial) -> Polynomial:
        return total((self, other))

    def __neg__(self) -> Polynomial:
        return Polynomial({key: -c for key, c in self.terms.items()})

    def __sub__(self, other: Polynomial) -> Polynomial:
        return total((self, -other))

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Key, Fraction] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                key = _joined(m, n)
                terms[key] = terms[key] + c * d if key in terms else c * d
            if len(terms) > _MOST_TERMS:
                raise ValueError(f"a product has more than {_MOST_TERMS} terms; too long to be expanded")
        return _without_zeros(terms)

    def power(self, exponent: int) -> Polynomial:
        """Return the power; a sum with a negative exponent is an atom.

        Parameters
        ----------
        exponent : int

        Returns
        -------
        Polynomial
        """
        if len(self.terms) == 1:
            ((key, c),) = self.terms.items()
            return Polynomial({frozenset((atom, e * exponent) for atom, e in key): c**exponent})
        if exponent < 0:
            return Polynomial({frozenset(((self.expr(), exponent),)): Fraction(1)})
        result = _ONE
        for _ in range(exponent):
            result = result * self
        return result

    def diff(self, symbol: Symbol) -> Polynomial:
        """Return the derivative with respect to a symbol, also of what atoms hold.

        Parameters
        ----------
        symbol : sympy.Symbol

        Returns
        -------
        Polynomial
        """
        parts = []
        for key, c in self.terms.items():
            for atom, e in key:
                if atom == symbol or (not atom.is_Symbol and symbol in atom.free_symbols):
                    less = _joined(key, frozenset(((atom, -1),)))
                    slope = _ONE if atom == symbol else read(sympy.diff(atom, symbol))
                    parts.append(Polynomial({less: c * e}) * slope)
        return total(parts)

    def substitute(self, values: Mapping[Symbol, Polynomial]) -> Polynomial:
        """Return the polynomial with polynomials in place of symbols, all at once; atoms stay.

        Parameters
        ----------
        values : mapping
            Symbol to polynomial.

        Returns
        -------
        Polynomial
        """
        parts = []
        for key, c in self.terms.items():
            kept = frozenset((atom, e) for atom, e in key if atom not in values)
            part = Polynomial({kept: c})
            for atom, e in key:
                if atom in values:
                    part = part * values[atom].power(e)
            parts.append(part)
        return total(parts)

    def symbols(self) -> set[Symbol]:
        """Return the symbols in it.

        Returns
        -------
        set of sympy.Symbol
        """
        return set().union(*({atom} if atom.is_Symbol else atom.free_symbols for atom in self._atoms()))

    def _atoms(self) -> set[Expr]:
        return {atom for key in self.terms for atom, _ in key}

    def collect(self, gens: Sequence[Symbol]) -> dict[Monomial, Polynomial]:
        """Return the coefficient of each monomial in some of the symbols.

        Parameters
        ----------
        gens : sequence of sympy.Symbol

        Returns
        -------
        dict
            Monomials are tuples of symbols in the order of `gens`, repeated as often as their power.

        Raises
        ------
        ValueError
            If it is no polynomial in `gens`.

        Examples
        --------
        >>> b, x, v = sympy.symbols("b x v")
        >>> found = read(b * x * (x + 2 * v) - 3).collect((x, v))
        >>> found[x, x].expr(), found[x, v].expr(), found[()].expr()
        (b, 2*b, -3)
        """
        order = {symbol: place for place, symbol in enumerate(gens)}
        found: dict[Monomial, dict[Key, Fraction]] = {}
        for key, c in self.terms.items():
            monomial: list[Symbol] = []
            for atom, e in key:
                if atom in order:
                    monomial += [atom] * e
                if (atom in order and e < 0) or (not atom.is_Symbol and atom.free_symbols & order.keys()):
                    raise ValueError(f"{atom**e} is no polynomial in {', '.join(map(str, gens))}")
            if len(monomial) > 1:
                monomial.sort(key=order.__getitem__)
            rest = frozenset(pair for pair in key if pair[0] not in order) if monomial else key
            found.setdefault(tuple(monomial), {})[rest] = c
        return {monomial: Polynomial(terms) for monomial, terms in found.items()}

    def expr(self) -> Expr:
        """Return it as a sympy expression, expanded.

        Returns
        -------
        sympy.Expr
        """
        return sympy.Add(
            *(
                sympy.Mul(Rational(c.numerator, c.denominator), *(sympy.Pow(a, e) for a, e in key))
                for key, c in self.terms.items()
            )
        )

    def __repr__(self) -> str:
        return f"Polynomial({self.expr()})"


_ONE = Polynomial({_EMPTY: Fraction(1)})


def read(expr: Expr) -> Polynomial:
    """Expand an expression.

    Parameters
    ----------
    expr : sympy.Expr

    Returns
    -------
    Polynomial

    Examples
    --------
    >>> x, y = sympy.symbols("x y")
    >>> read((x - y) * (x + y) - x**2).expr()
    -y**2
    >>> read(1 / (x + y)).is_plain
    False
    """
    if expr.is_Symbol:
        return Polynomial({frozenset(((expr, 1),)): Fraction(1)})
    if expr.is_Rational:
        return Polynomial({_EMPTY: Fraction(int(expr.p), int(expr.q))} if expr.p else {})
    if expr.is_Add:
        return total(map(read, expr.args))
    if expr.is_Mul:
        result = _ONE
        for factor in expr.args:
            result = result * read(factor)
        return result
    if expr.is_Pow and isinstance(expr.exp, Integer):
        base = read(expr.base)
        # 1/0 stays an atom: no test of signs or zeros accepts it
        if base.terms:
            return base.power(int(expr.exp))
    return Polynomial({frozenset(((expr, 1),)): Fraction(1)})


def total(parts: Iterable[Polynomial]) -> Polynomial:
    """Return the sum of polynomials.

    Parameters
    ----------
    parts : iterable of Polynomial

    Returns
    -------
    Polynomial

    Examples
    --------
    >>> total(map(read, sympy.symbols("x y x"))).expr()
    2*x + y
    """
    terms: dict[Key, Fraction] = {}
    for part in parts:
        for key, c in part.terms.items():
            terms[key] = terms[key] + c if key in terms else c
    return _without_zeros(terms)


def _without_zeros(terms: dict[Key, Fraction]) -> Polynomial:
    return Polynomial({key: c for key, c in terms.items() if c} if not all(terms.values()) else terms)


def _joined(first: Key, second: Key) -> Key:
    """Product of two monomials."""
    if not first or not second:
        return first or second
    exponents = dict(first)
    for atom, e in second:
        exponents[atom] = exponents.get(atom, 0) + e
    return frozenset(pair for pair in exponents.items() if pair[1])
