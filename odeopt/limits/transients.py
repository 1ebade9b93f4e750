r"""Powers of numbers that count steps, :math:`\beta^{t/h}`: of a sum the largest is all as h tends to 0."""

from __future__ import annotations

import sympy
from sympy import Add, Expr, Integer, Symbol

from odeopt.limits.failures import NoLimitError

__all__ = ["without_transients"]


def _counts(power: Expr, h: Symbol) -> bool:
    """Whether a power of a positive number counts steps: its exponent is a + b/h."""
    if not (power.is_Pow and power.base.is_number and power.base.is_positive and power.exp.has(h)):
        return False
    exponent = sympy.expand(power.exp * h)
    return bool(exponent.is_polynomial(h)) and sympy.degree(exponent, h) <= 1


def without_transients(expr: Expr, h: Symbol) -> Expr:
    r"""Leave out what is smaller than every power of h beside powers of numbers, :math:`(2/3)^{t/h}` say.

    Numerator and denominator are sums of products of such powers; those of the largest growth rate decide.
    """
    powers = [p for p in expr.atoms(sympy.Pow) if p.base is not sympy.S.Exp1 and _counts(p, h)]
    if not powers:
        return expr
    names, growth = {p: sympy.Dummy(positive=True) for p in powers}, []
    for p in powers:
        exponent = sympy.expand(p.exp * h)
        constant, rate = exponent.coeff(h, 1), exponent.coeff(h, 0)
        names[p] = p.base**constant * names[p]
        growth.append(sympy.expand(rate * sympy.log(p.base)))
    dummies = [names[p].atoms(sympy.Dummy).pop() for p in powers]
    fraction = sympy.fraction(sympy.together(expr.xreplace(names)))
    if not all(part.is_polynomial(*dummies) for part in fraction):
        return expr  # under a root, say, where powers are taken to their limits one by one
    parts = [_largest(part, dummies, growth) for part in fraction]
    (top, top_rate), (bottom, bottom_rate) = parts
    gap = _compared(top_rate, bottom_rate) if top != 0 else 0
    if gap > 0:
        raise NoLimitError(f"the step has no limit: its coefficient {expr} grows like a power of a number")
    return top / bottom if gap == 0 else Integer(0)


def _largest(part: Expr, dummies: list[Symbol], growth: list[Expr]) -> tuple[Expr, Expr]:
    """The terms of the largest growth rate that do not cancel, without their powers, and that rate."""
    found: list[tuple[Expr, Expr]] = []
    for exponents, c in sympy.Poly(sympy.expand(part), *dummies).terms():
        rate = Add(*(n * g for n, g in zip(exponents, growth, strict=True)))
        same = next((i for i, (_, r) in enumerate(found) if _compared(r, rate) == 0), None)
        if same is None:
            found.append((c, rate))
        else:
            found[same] = found[same][0] + c, rate
    alive = [(c, rate) for c, rate in ((sympy.cancel(c), rate) for c, rate in found) if c != 0]
    largest = alive[0] if alive else (Integer(0), Integer(0))
    for term in alive[1:]:
        largest = term if _compared(term[1], largest[1]) > 0 else largest
    return largest


def _compared(one: Expr, other: Expr) -> int:
    """Sign of the difference of two growth rates, multiples of t > 0 by sums of logarithms."""
    difference = (one - other).subs(dict.fromkeys((one - other).free_symbols, 1)).evalf(30)
    return 0 if abs(difference) < 1e-20 else int(sympy.sign(difference))
