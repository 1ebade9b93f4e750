r"""Modes of first order with a rate in time, :math:`e^{-\sum_p\lambda^p\sigma_p(t)}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import sympy
from sympy import Add, Expr, Integer

from odeopt.dynamics.error import ErrorDynamics
from odeopt.limits.accumulated import accumulated, evaluator
from odeopt.limits.text import readable

__all__ = ["IntrinsicMode", "intrinsic_mode"]


class IntrinsicMode(NamedTuple):
    """The mode, its values, and its time of gradient flow where it is one."""

    expr: Expr
    values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    clock: Callable[[np.ndarray], np.ndarray] | None


def intrinsic_mode(dynamics: ErrorDynamics) -> IntrinsicMode:
    """Integrate the rate of a mode, power by power of the eigenvalue, verified by differentiation."""
    t, lam = dynamics.t, dynamics.lam
    force, lead = (sympy.Poly(a, lam) for a in dynamics.coefficients)
    if lead.degree() > 0:
        raise ValueError(f"no closed form is known for {dynamics}, whose velocity has a factor in H")
    powers = {p: c / lead.nth(0) for (p,), c in force.terms() if c != 0}
    times = {p: accumulated(rate, t) for p, rate in powers.items()}
    exponent = Add(*(readable(sigma) * lam**p for p, sigma in times.items()))
    expr = dynamics.start * sympy.exp(-exponent)
    if not dynamics.is_numeric:
        return IntrinsicMode(expr, None, None)
    clocks = {p: evaluator(sigma, t) for p, sigma in times.items()}
    start = sympy.lambdify(lam, dynamics.start, "numpy")

    def values(at: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
        total = sum((np.multiply.outer(clock(at), eigenvalues**p) for p, clock in clocks.items()), 0.0)
        return start(eigenvalues) * np.exp(-total)

    flow = set(clocks) == {1} and dynamics.start == Integer(1)
    return IntrinsicMode(expr, values, clocks[1] if flow else None)
