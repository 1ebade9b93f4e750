r"""Equations of second order with a pole, :math:`\varphi''+(\frac rt+d)\varphi'+(q+\frac et)\varphi=0`."""

from __future__ import annotations

import sympy
from sympy import Expr

from odeopt.dynamics.error import ErrorDynamics

__all__ = ["agree", "vanishing_friction"]


def agree(a: Expr, b: Expr) -> bool:
    """Whether two coefficients are equal; decimals, written with 15 digits, but for their rounding."""
    gap = sympy.simplify(a - b)
    if gap == 0 or not gap.has(sympy.Float) or b == 0:
        return bool(gap == 0)
    share = sympy.simplify(gap / b)
    return bool(share.is_number and abs(share) < 1e-14)


def vanishing_friction(dynamics: ErrorDynamics) -> tuple[Expr, Expr, Expr, Expr] | None:
    """The coefficients r, d, q, e, if the equation has this form and starts regularly, from velocity -e/r."""
    t, (a0, a1, a2) = dynamics.t, dynamics.coefficients
    friction, stiffness = sympy.expand(sympy.cancel(a1 / a2)), sympy.expand(sympy.cancel(a0 / a2))
    r, d, e, q = (c.coeff(t, power) for c in (friction, stiffness) for power in (-1, 0))
    whole = agree(friction, r / t + d) and agree(stiffness, q + e / t)
    regular = agree(r * dynamics.initial[0], -e)
    return (r, d, q, e) if whole and regular and not r.has(dynamics.lam) else None
