r"""Dynamics of averages, :math:`\varphi=\frac1t\int_0^t\psi`: the mean of a mode :math:`\psi=(t\varphi)'`."""

from __future__ import annotations

from dataclasses import replace

import sympy
from sympy import Add, Expr

from odeopt.dynamics.error import ErrorDynamics

__all__ = ["averaged_dynamics", "mean_expression"]


def averaged_dynamics(dynamics: ErrorDynamics) -> ErrorDynamics | None:
    r"""The dynamics of :math:`\psi=(t\varphi)'` where their coefficients are constant, else None."""
    t, a, n = dynamics.t, dynamics.coefficients, dynamics.order
    found = []
    for j in range(n + 1):  # of the derivatives of Y = t phi, for (1/t)^(i) = (-1)^i i! / t^(i+1)
        terms = (
            a[i] * sympy.binomial(i, j) * (-1) ** (i - j) * sympy.factorial(i - j) / t ** (i - j)
            for i in range(j, n + 1)
        )
        found.append(sympy.cancel(Add(*terms) / a[n]))
    if found[0] != 0 or n < 2 or any(c.has(t) for c in found):
        return None
    initial = tuple(sympy.expand((j + 1) * value) for j, value in enumerate(dynamics.initial, 1))
    return replace(dynamics, coefficients=tuple(found[1:]), initial=initial[:-1])


def mean_expression(averaged: ErrorDynamics, psi: Expr) -> Expr:
    r""":math:`\frac1t\int_0^t\psi`, by the equation of :math:`\psi` from its derivatives."""
    t, (force, *others) = averaged.t, averaged.coefficients
    start = (averaged.start, *averaged.initial)
    gaps = (c * (value - psi.diff(t, j)) for j, (c, value) in enumerate(zip(others, start, strict=True)))
    return Add(*gaps) / (force * t)
