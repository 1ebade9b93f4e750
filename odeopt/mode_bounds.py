r"""What is known of the squared modes :math:`\varphi(t;\lambda)^2` as functions of the eigenvalue.

With stiffness :math:`s\lambda`, and :math:`(-1)^n\partial_\lambda^n\varphi^2\ge0` called "signed at n":

- gradient flow, :math:`e^{-2s\lambda t}`: signed at every n;
- friction b, :math:`\varphi=e^{-bt/2}[\cosh t\sqrt z+c\,\sinh(t\sqrt z)/\sqrt z]`,
  :math:`z=\frac{b^2}4-s\lambda`, :math:`c=\frac b2+\varphi'(0)\ge0`: positive Taylor coefficients in z, so
  signed at every n where overdamped; elsewhere the square consists of :math:`\cosh2t\sqrt z`,
  :math:`\sinh(2t\sqrt z)/\sqrt z` and :math:`(\cosh2t\sqrt z-1)/z`, signed at n while
  :math:`2t\sqrt{s\lambda_{\max}-b^2/4}<j_{n-1/2,1}`;
- friction r/t, by :math:`J_\nu^2(x)=\frac2\pi\int_0^{\pi/2}J_{2\nu}(2x\cos\theta)\,d\theta`: signed at n
  while :math:`2t\sqrt{s\lambda_{\max}}<j_{r-1+n,1}`.

Perturbing :math:`\ddot\Delta+b\dot\Delta+H\Delta=0` and solving by variation of constants gives the operator
Lipschitz constants; growth in the complex plane, on ellipses around the interval, the number of
Chebyshev points that suffice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import sympy

from odeopt.bounds import Integrand, bessel_zero_bound
from odeopt.modes import ModeSolution
from odeopt.rule import is_number

__all__ = ["mode_integrand"]

_EPS = float(np.finfo(float).eps)
# Parameters of Bernstein ellipses that are tried; a small one suits slow functions, a large one fast.
_ELLIPSES = (1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0)
# What is left of a Chebyshev series beyond the points taken: below the rounding of values up to 1.
_SERIES_LEFT = 1e-17
# Accuracy of the Bessel functions, relative to their largest value, and of sine and exponential.
_BESSEL_ERROR, _ELEMENTARY_ERROR = 1e-13, 64 * _EPS


def mode_integrand(mode: ModeSolution, t: np.ndarray) -> Integrand:
    """Return the squares of a mode at the times t, with what is known of them.

    Parameters
    ----------
    mode : ModeSolution
    t : numpy.ndarray, shape (T,)

    Returns
    -------
    Integrand

    Examples
    --------
    >>> from odeopt import Nesterov, error_dynamics, mode_solution, ode_limit
    >>> mode = mode_solution(error_dynamics(ode_limit(Nesterov(0.01, r=3))))
    >>> mode_integrand(mode, np.array([1.0, 10.0])).alternating(20, 4.0)  # 4 t against j_22 = 27.6
    array([ True, False])
    """

    def values(lam, rows):
        return mode(t[rows], lam) ** 2

    found = _FAMILIES.get(mode.family, lambda mode, t: None)(mode, t)
    if found is None:
        nowhere = np.zeros(t.size, bool)
        return Integrand(values, t.size, lambda n, high: nowhere, evaluation=_ELEMENTARY_ERROR)
    return Integrand(values, t.size, **found)


def _stiffness(mode: ModeSolution) -> float | None:
    """Return s if the stiffness is s * lam, s > 0."""
    dynamics = mode.dynamics
    slope = sympy.cancel(dynamics.coefficients[0] / (dynamics.coefficients[-1] * dynamics.lam))
    return float(slope) if is_number(slope) and slope > 0 and dynamics.start == 1 else None


def _exponential(mode: ModeSolution, t: np.ndarray) -> dict | None:
    s = _stiffness(mode)
    if s is None:
        return None
    always = np.ones(t.size, bool)
    return {
        "alternating": lambda n, high: always,
        "needs_high": False,
        # |exp(-2st(H+E)) - exp(-2stH)| <= 2st |E| exp(-2st low)
        "lipschitz": lambda low, high: 2 * s * t * np.exp(-2 * s * t * low),
        "points": None,
    }


def _oscillator(mode: ModeSolution, t: np.ndarray) -> dict | None:
    s, a = _stiffness(mode), mode.dynamics.coefficients
    friction, velocity = sympy.cancel(a[1] / a[2]), mode.dynamics.initial[0]
    if s is None or not (is_number(friction) and is_number(velocity)):
        return None
    b, c = float(friction), float(friction) / 2 + float(velocity)
    if b < 0 or c < 0:
        return None

    def alternating(n, high):
        excess = s * high - b**2 / 4
        return 2 * t * math.sqrt(max(excess, 0.0)) < bessel_zero_bound(n - 0.5)

    def lipschitz(low, high):
        # |phi| <= 1 + |velocity| t, and the response to a unit impulse is at most min(t, 1/b)
        size = 1 + abs(float(velocity)) * t
        impulse = np.minimum(t**2 / 2, t / b) if b > 0 else t**2 / 2
        return 2 * size**2 * s * impulse

    def log_growth(radius, time):
        return 2 * (time * (math.sqrt(s * radius + b**2 / 4) - b / 2) + math.log1p(c * time))

    return {
        "alternating": alternating,
        "lipschitz": lipschitz,
        "points": _points(log_growth, float(t.max())),
        "evaluation": _ELEMENTARY_ERROR,
    }


def _bessel(mode: ModeSolution, t: np.ndarray) -> dict | None:
    s, a, time = _stiffness(mode), mode.dynamics.coefficients, mode.dynamics.t
    r = sympy.cancel(time * a[1] / a[2])
    if s is None or not is_number(r) or r < 1:
        # r >= 1, where the mode is an average of cosines and bounded by 1
        return None
    r = float(r)

    def alternating(n, high):
        return 2 * t * math.sqrt(s * high) < bessel_zero_bound(r - 1 + n)

    return {
        "alternating": alternating,
        # the mode is an average of cos(u t sqrt(s lam)) over u, with E u^2 = 1 / (r + 1)
        "lipschitz": lambda low, high: s * t**2 / (r + 1),
        "points": _points(lambda radius, at: 2 * at * math.sqrt(s * radius), float(t.max())),
        "evaluation": _BESSEL_ERROR,
    }


def _points(log_growth: Callable[[float, float], float], latest: float) -> Callable[[float, float], int]:
    r"""Chebyshev points that leave less than rounding of a function bounded on ellipses.

    If :math:`|f|\le M` on the ellipse with foci a, b and parameter :math:`\rho`, then
    :math:`|c_j|\le2M\rho^{-j}`; with N points, what is left and what is aliased is at most
    :math:`4M\rho^{-N}/(1-\rho^{-1})`.
    """

    @functools.cache
    def points(low: float, high: float) -> int:
        best = math.inf
        for rho in _ELLIPSES:
            radius = (high + low) / 2 + (high - low) / 4 * (rho + 1 / rho)
            log_left = math.log(4 / (1 - 1 / rho) / _SERIES_LEFT) + max(log_growth(radius, latest), 0.0)
            best = min(best, log_left / math.log(rho))
        return math.ceil(best) + 1

    return points


_FAMILIES = {"exponential": _exponential, "oscillator": _oscillator, "bessel": _bessel}
