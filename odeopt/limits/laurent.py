r"""Laurent coefficients of scalar functions of h at h = 0: weights, moments, coefficients of vectors."""

from __future__ import annotations

import functools
import math

import sympy
from sympy import Add, Expr, Integer, Symbol

from odeopt.limits.elimination import cancelled, shortened
from odeopt.limits.failures import FAILURES, NoLimitError, is_infinite
from odeopt.limits.slow import Slow, expanded, with_symbols
from odeopt.limits.transients import without_transients

__all__ = ["analytic", "counted_powers", "laurent", "taylor"]


def taylor(coefficient: Expr, h: Symbol, order: int) -> list[Expr]:
    r"""Taylor coefficients :math:`c_0,\dots,c_N` of a scalar function of h at h = 0; a pole is refused.

    >>> from sympy.abc import b, h
    >>> taylor((1 - b * h) / (1 + b * h), h, 2)
    [1, -2*b, 2*b**2]
    """
    found = laurent(coefficient, h, order)
    if min(found, default=0) < 0:
        raise NoLimitError(f"the step has a pole at {h} = 0: {coefficient}")
    return [found.get(q, Integer(0)) for q in range(order + 1)]


@functools.lru_cache(maxsize=8192)
def laurent(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    r"""Coefficients of the powers of h up to `order` in a function with at most a pole at h = 0.

    >>> from sympy.abc import h, t
    >>> laurent(1 / (h * (t + h)), h, 0)
    {-1: 1/t, 0: -1/t**2}
    """
    if not coefficient.has(h):
        return {0: coefficient} if coefficient != 0 and order >= 0 else {}
    coefficient = counted_powers(coefficient, h, order + 2)
    numerator, denominator = _polynomials(coefficient, h, order)
    if numerator.is_polynomial(h) and denominator.is_polynomial(h):
        return _divide_series(numerator, denominator, h, order)
    roots = _roots(coefficient, h)
    if roots > 1:
        return _by_roots(coefficient, h, order, roots)
    found = _by_derivatives(coefficient, h, order)
    if found is not None:
        return found
    numerator, denominator = _polynomials(coefficient, h, order, radicals=True)
    if numerator.is_polynomial(h) and denominator.is_polynomial(h):  # sympy's series loses terms of roots
        return _divide_series(numerator, denominator, h, order)
    return _by_series(coefficient, h, order)


def _polynomials(coefficient: Expr, h: Symbol, order: int, radicals: bool = False) -> tuple[Expr, Expr]:
    """Numerator and denominator; roots, and functions of slow time, expanded as far as a pole asks for."""
    smooth, pole = radicals or coefficient.has(Slow), 2
    while True:
        expr = expanded(coefficient, h, order + pole) if smooth else coefficient
        expr = _without_radicals(expr, h, order + pole) if radicals else expr
        numerator, denominator = sympy.fraction(sympy.together(expr))
        if not smooth or not denominator.is_polynomial(h):
            return numerator, denominator
        powers = [e for (e,), _ in sympy.Poly(denominator, h).terms()]
        if min(powers) <= pole:
            return numerator, denominator
        pole = min(powers)


def _radicals(expr: Expr, h: Symbol) -> dict[Expr, Expr]:
    """Roots of functions of h that are finite and not 0 at h = 0, to these functions, cancelled."""
    powers = [p for p in expr.atoms(sympy.Pow) if p.base.has(h) and p.exp.is_Rational and p.exp.q > 1]
    bases = {p: shortened(p.base) for p in powers if not any(p.base.has(q) for q in powers)}
    return {p: b for p, b in bases.items() if not is_infinite(v := b.subs(h, 0)) and v != 0}


def _without_radicals(expr: Expr, h: Symbol, depth: int) -> Expr:
    """Taylor polynomials in their place, the innermost first."""
    while found := _radicals(expr, h):
        expr = expr.xreplace({p: _power(base, p.exp, h, depth) for p, base in found.items()})
    return expr


def _power(base: Expr, exponent: Expr, h: Symbol, depth: int) -> Expr:
    r"""Taylor polynomial of :math:`b^p`: :math:`nb_0y_n=\sum_{k=1}^n(kp-n+k)b_ky_{n-k}`."""
    b = laurent(base, h, depth)
    first = sympy.factor(b[0])
    found = [sympy.powdenest(first**exponent)]
    for n in range(1, depth + 1):
        terms = ((k * exponent - n + k) * b[k] * found[n - k] for k in range(1, n + 1) if k in b)
        found.append(shortened(Add(*terms) / (n * first)))
    return Add(*(c * h**n for n, c in enumerate(found)))


def counted_powers(expr: Expr, h: Symbol, order: int) -> Expr:
    r"""Expand powers that count steps: :math:`(1-ah)^{t/h}=e^{-at}(1+\dots)`, :math:`\beta^{t/h}\to0`."""
    expr = without_transients(expr, h)
    return expr.replace(
        lambda e: e.is_Pow and e.exp.has(h) and e.base is not sympy.S.Exp1, lambda e: _counted(e, h, order)
    )


@functools.lru_cache(maxsize=1024)
def _counted(power: Expr, h: Symbol, order: int) -> Expr:
    base, exponent = power.args
    if not base.has(h):
        shrinks = sympy.limit(exponent, h, 0, "+") is sympy.oo and not (base.is_number and abs(base) >= 1)
        return Integer(0) if shrinks else power
    series = _by_series(exponent * sympy.log(base), h, order)
    limit = sympy.exp(series.pop(0, Integer(0)))
    if min(series, default=0) < 0:
        return limit * sympy.exp(Add(*(c * h**q for q, c in series.items())))
    return limit * _exponential(series, h, order)  # a polynomial: quotients of it are divided as such


def _exponential(series: dict[int, Expr], h: Symbol, order: int) -> Expr:
    r"""Taylor polynomial of :math:`e^c`, :math:`c=\sum_{q\ge1}c_qh^q`: :math:`ne_n=\sum_qqc_qe_{n-q}`."""
    found = [sympy.S.One]
    for n in range(1, order + 1):
        found.append(sympy.expand(Add(*(q * c * found[n - q] for q, c in series.items() if q <= n)) / n))
    return Add(*(e * h**n for n, e in enumerate(found)))


def _by_derivatives(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr] | None:
    """Taylor coefficients by differentiation; None where the function is not regular at h = 0."""
    found, derivative = {}, coefficient
    for q in range(order + 1):
        value = derivative.subs(h, 0)
        if is_infinite(value):
            return None
        value = sympy.simplify(value / sympy.factorial(q))
        if value != 0:
            found[q] = value
        derivative = derivative.diff(h)
    return found


def _by_series(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    remedy = (
        f"write the hyperparameters as functions analytic at {h} = 0, and schedules as functions of k*{h}"
    )
    refusal = NoLimitError(f"the step has no Taylor series in {h}: it contains {coefficient}; {remedy}")
    try:
        series = with_symbols(coefficient, h, order + 2, lambda e: sympy.series(e, h, 0, order + 1).removeO())
    except FAILURES as error:
        raise refusal from error
    found: dict[int, Expr] = {}
    for term in Add.make_args(sympy.expand(series)):
        scalar, power = term.as_coeff_exponent(h)
        if scalar.has(h) or not power.is_Integer:
            raise refusal
        if power <= order:
            found[int(power)] = found.get(int(power), Integer(0)) + scalar
    found = {q: sympy.simplify(c) for q, c in found.items()}
    return {q: c for q, c in sorted(found.items()) if c != 0}


def analytic(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    """The same, refused where the remainder holds a root of h, so that it is not of the next order."""
    found = laurent(coefficient, h, order + 1 if _roots(coefficient, h) > 1 else order)
    return {q: c for q, c in found.items() if q <= order}


def _roots(coefficient: Expr, h: Symbol) -> int:
    """The q for which h occurs in powers of h^(1/q)."""
    return math.lcm(*(e.exp.q for e in coefficient.atoms(sympy.Pow) if e.base == h and e.exp.is_Rational))


def _by_roots(coefficient: Expr, h: Symbol, order: int, roots: int) -> dict[int, Expr]:
    """The same where h occurs under roots, which must cancel."""
    u = sympy.Dummy("u", positive=True)
    found = laurent(sympy.powdenest(coefficient.subs(h, u**roots)), u, order * roots)
    if any(q % roots for q in found):
        raise NoLimitError(
            f"the step has no Taylor series in {h}: it contains {coefficient}, with roots of {h}"
        )
    return {q // roots: c for q, c in found.items()}


def _divide_series(numerator: Expr, denominator: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    top, bottom = (sympy.Poly(e, h).all_coeffs()[::-1] for e in (numerator, denominator))
    pole = next(i for i, c in enumerate(bottom) if c != 0)
    bottom = bottom[pole:]
    quotient: list[Expr] = []
    for q in range(order + pole + 1):
        known = Add(*(bottom[i] * quotient[q - i] for i in range(1, min(q, len(bottom) - 1) + 1)))
        value = (top[q] if q < len(top) else Integer(0)) - known
        quotient.append(cancelled(value / bottom[0]))
    return {q - pole: c for q, c in enumerate(quotient) if c != 0}
