r"""Equations of second order with a pole, :math:`\varphi''+(\frac rt+d)\varphi'+(q+\frac et)\varphi=0`."""

from __future__ import annotations

import sympy
from sympy import Expr

from odeopt.dynamics.error import ErrorDynamics

__all__ = ["vanishing_friction"]


def vanishing_friction(dynamics: ErrorDynamics) -> tuple[Expr, Expr, Expr, Expr] | None:
    """The coefficients r, d, q, e, if the equation has this form and starts regularly, from velocity -e/r."""
    t, (a0, a1, a2) = dynamics.t, dynamics.coefficients
    friction, stiffness = sympy.expand(sympy.cancel(a1 / a2)), sympy.expand(sympy.cancel(a0 / a2))
    r, d, e, q = (c.coeff(t, power) for c in (friction, stiffness) for power in (-1, 0))
    whole = sympy.simplify(friction - r / t - d) == 0 and sympy.simplify(stiffness - q - e / t) == 0
    regular = sympy.simplify(r * dynamics.initial[0] + e) == 0
    return (r, d, q, e) if whole and regular and not r.has(dynamics.lam) else None
