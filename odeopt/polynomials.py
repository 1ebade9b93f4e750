"""Polynomials in commuting symbols for vectors, gathered by monomial, as :class:`sympy.Poly` but faster."""

from __future__ import annotations

from collections.abc import Sequence

import sympy
from sympy import Expr, Symbol

__all__ = ["combine", "gather", "product"]

Monomial = tuple[Symbol, ...]


def gather(expr: Expr, gens: Sequence[Symbol]) -> dict[Monomial, Expr]:
    """Return the coefficient of each monomial, not simplified.

    Parameters
    ----------
    expr : sympy.Expr
        Polynomial in `gens`; everything else belongs to the coefficients.
    gens : sequence of sympy.Symbol

    Returns
    -------
    dict
        Monomials are tuples of symbols in the order of `gens`, repeated as often as their power.

    Raises
    ------
    ValueError
        If it is no polynomial.

    Examples
    --------
    >>> b, x, v = sympy.symbols("b x v")
    >>> gather(b * x * (x + 2 * v) - 3, (x, v))
    {(): -3, (x, x): b, (x, v): 2*b}
    """
    return _gather(expr, {symbol: place for place, symbol in enumerate(gens)})


def combine(*polynomials: tuple[Expr, dict[Monomial, Expr]]) -> dict[Monomial, Expr]:
    """Return a combination of gathered polynomials.

    Parameters
    ----------
    *polynomials : tuple of (sympy.Expr, dict)
        Factor, and polynomial in the same order of symbols.

    Returns
    -------
    dict

    Examples
    --------
    >>> x, y = sympy.symbols("x y")
    >>> combine((sympy.Integer(2), gather(x * y, (x, y))), (sympy.Integer(-1), gather(y, (x, y))))
    {(x, y): 2, (y,): -1}
    """
    parts: dict[Monomial, list] = {}
    for factor, polynomial in polynomials:
        for monomial, c in polynomial.items():
            parts.setdefault(monomial, []).append(c if factor is sympy.S.One else factor * c)
    return _summed(parts)


def product(first: dict[Monomial, Expr], second: dict[Monomial, Expr], gens: Sequence[Symbol]) -> dict:
    """Return the product of two gathered polynomials.

    Parameters
    ----------
    first, second : dict
    gens : sequence of sympy.Symbol
        The order of both.

    Returns
    -------
    dict

    Examples
    --------
    >>> x, y = sympy.symbols("x y")
    >>> product(gather(x + y, (x, y)), gather(3 * x, (x, y)), (x, y))
    {(x, x): 3, (x, y): 3}
    """
    return _times(first, second, {symbol: place for place, symbol in enumerate(gens)})


def _summed(parts: dict[Monomial, list]) -> dict[Monomial, Expr]:
    return {m: c[0] if len(c) == 1 else sympy.Add(*c) for m, c in parts.items()}


def _gather(expr: Expr, order: dict) -> dict[Monomial, Expr]:
    if expr.is_Symbol:
        return {(expr,): sympy.S.One} if expr in order else {(): expr}
    if expr.is_Number:
        return {(): expr}
    if expr.is_Add:
        parts: dict[Monomial, list] = {}
        for term in expr.args:
            for monomial, coefficient in _gather(term, order).items():
                parts.setdefault(monomial, []).append(coefficient)
        return _summed(parts)
    if expr.is_Mul:
        factors = [_gather(factor, order) for factor in expr.args]
        constants = [factor[()] for factor in factors if factor.keys() == {()}]
        found = {(): sympy.Mul(*constants) if len(constants) > 1 else (*constants, sympy.S.One)[0]}
        for factor in factors:
            if factor.keys() != {()}:
                found = _times(found, factor, order)
        return found
    if expr.is_Pow:
        base = _gather(expr.base, order)
        if base.keys() == {()}:
            return {(): expr}
        if expr.exp.is_Integer and expr.exp > 0:
            power = base
            for _ in range(int(expr.exp) - 1):
                power = _times(power, base, order)
            return power
    if not any(s in order for s in expr.free_symbols):
        return {(): expr}
    raise ValueError(f"{expr} is no polynomial in {', '.join(map(str, order))}")


def _times(first: dict, second: dict, order: dict) -> dict[Monomial, Expr]:
    parts: dict[Monomial, list] = {}
    for m, c in first.items():
        for n, d in second.items():
            key = m + n if not m or not n else tuple(sorted(m + n, key=order.__getitem__))
            parts.setdefault(key, []).append(d if c is sympy.S.One else c if d is sympy.S.One else c * d)
    return _summed(parts)
