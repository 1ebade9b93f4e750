r"""Closed forms of modes, with symbols for their parameters: each is substituted into its equation, once."""

from __future__ import annotations

import functools

import sympy
from sympy import Expr, Integer, Symbol

__all__ = [
    "verified_bessel", "verified_characteristic", "verified_exponential", "verified_kummer",
    "verified_oscillator",
]  # fmt: skip


def _require_zero(residual: Expr, family: str) -> Expr:
    if residual != 0:
        raise ArithmeticError(f"the {family} closed form leaves the residual {residual}")
    return residual


@functools.cache
def verified_exponential() -> tuple[Expr, tuple[Symbol, ...], Expr]:
    """The mode of phi' + s phi = 0, its symbols, and what is left of the equation."""
    t, s = sympy.symbols("t s")
    phi = sympy.exp(-s * t)
    return phi, (t, s), _require_zero(sympy.simplify(phi.diff(t) + s * phi), "exponential")


@functools.cache
def verified_oscillator() -> tuple[Expr, tuple[Symbol, ...], Expr]:
    """The mode of phi'' + b phi' + q phi = 0 with phi'(0) = v."""
    t, b, q, v, w = sympy.symbols("t b q v w")  # w = sqrt(q - b^2/4): with it the residual is a polynomial

    def derivative(a: Expr, c: Expr) -> tuple[Expr, Expr]:
        """That of exp(-bt/2) (a cos wt + c sin wt)."""
        return sympy.expand(w * c - b * a / 2), sympy.expand(-w * a - b * c / 2)

    phi = Integer(1), (b / 2 + v) / w
    first = derivative(*phi)
    terms = zip(derivative(*first), first, phi, strict=True)
    residual = sum(abs(sympy.expand(z2 + b * z1 + (w**2 + b**2 / 4) * z)) for z2, z1, z in terms)
    residual += abs(sympy.expand(first[0] - v))
    expr = sympy.exp(-b * t / 2) * (phi[0] * sympy.cos(w * t) + phi[1] * sympy.sin(w * t))
    return expr.subs(w, sympy.sqrt(q - b**2 / 4)), (t, b, q, v), _require_zero(residual, "oscillator")


@functools.cache
def verified_bessel() -> tuple[Expr, tuple[Symbol, ...], Expr]:
    """The mode of phi'' + (r/t + d) phi' + (q + r d / 2t) phi = 0 that starts regularly."""
    t, r, q, d = sympy.symbols("t r q d", positive=True)
    nu, w = (r - 1) / 2, sympy.Symbol("w", positive=True)
    x = t * w  # w = sqrt(q - d^2/4); a symbol of its own keeps the residual rational
    scale = sympy.gamma(nu + 1) * (2 / x) ** nu * sympy.exp(-d * t / 2)
    growth = sympy.expand(scale.diff(t) / scale)

    def derivative(a: Expr, b: Expr) -> tuple[Expr, Expr]:
        """That of scale (a J_nu + b J_(nu+1)), by x J_nu' = nu J_nu - x J_(nu+1) and its like."""
        of_next = b.diff(t) + (growth - (nu + 1) / t) * b - w * a
        return a.diff(t) + (growth + nu / t) * a + w * b, of_next

    phi = Integer(1), Integer(0)
    first = derivative(*phi)
    second = derivative(*first)
    stiffness = w**2 + d**2 / 4 + r * d / (2 * t)
    terms = (c + (r / t + d) * b + stiffness * a for c, b, a in zip(second, first, phi, strict=True))
    residual = sum(abs(sympy.expand(term)) for term in terms)
    expr = (scale * sympy.besselj(nu, x)).subs(w, sympy.sqrt(q - d**2 / 4))
    return expr, (t, r, q, d), _require_zero(residual, "Bessel")


@functools.cache
def verified_kummer() -> tuple[Expr, tuple[Symbol, ...], Expr]:
    """The mode of phi'' + (r/t + d) phi' + (a d / t) phi = 0 that starts regularly, power by power of t."""
    t, r, d, a = sympy.symbols("t r d a", positive=True)
    k = sympy.Symbol("k", integer=True, nonnegative=True)
    # of t^k in t phi'' + (r + d t) phi' + a d phi, for the coefficients c of 1F1(a; r; -d t)
    c = sympy.rf(a, k) / sympy.rf(r, k) * (-d) ** k / sympy.factorial(k)
    left = (k + 1) * (k + r) * c.subs(k, k + 1) + d * (k + a) * c
    residual = sympy.simplify(sympy.gammasimp((left / c).rewrite(sympy.gamma)))
    return sympy.hyper([a], [r], -d * t), (t, r, d, a), _require_zero(residual, "hypergeometric")


@functools.cache
def verified_characteristic(n: int) -> tuple[Expr, tuple[Symbol, ...], Expr]:
    r"""Lagrange form for distinct roots: W_i = sum_k d_k [w^k] prod_{j != i} (w - z_j) / (z_i - z_j)."""
    t, w = sympy.symbols("t w")
    z = sympy.symbols(f"z1:{n + 1}")
    d = (Integer(1), *sympy.symbols(f"d1:{n}"))
    phi = Integer(0)
    for i in range(n):
        others = [z[j] for j in range(n) if j != i]
        cardinal = sympy.Poly(sympy.prod((w - o) for o in others), w).all_coeffs()[::-1]
        weight = sum(c * dk for c, dk in zip(cardinal, d, strict=True))
        phi += weight / sympy.prod(z[i] - o for o in others) * sympy.exp(z[i] * t)
    monic = sympy.Poly(sympy.prod((w - zi) for zi in z), w).all_coeffs()[::-1]
    equation = sum(c * phi.diff(t, k) for k, c in enumerate(monic))
    start = sum(abs(sympy.cancel(phi.diff(t, k).subs(t, 0) - dk)) for k, dk in enumerate(d))
    residual = sympy.Add(*(sympy.cancel(term) for term in _collect_exponentials(equation, z, t)))
    return phi, (t, *z, *d[1:]), _require_zero(residual + start, "characteristic")


def _collect_exponentials(expr: Expr, z: tuple, t: Symbol) -> list[Expr]:
    """Coefficients of exp(z_i t) in a sum of exponentials."""
    return [sympy.expand(expr, mul=True).coeff(sympy.exp(zi * t)) for zi in z]
