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

import math
from collections.abc import Callable

import numpy as np
import scipy.fft
import sympy

from odeopt.bounds import Integrand, bessel_zero_bound
from odeopt.lanczos import Chain
from odeopt.modes import ModeSolution
from odeopt.quadrature import tridiagonal_eigen
from odeopt.rule import is_number
from odeopt.spectrum import SpectralMeasure

__all__ = ["mode_half_widths", "mode_integrand"]

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
        "points": _points(log_growth, t),
        "worth": _worth(s, t),
        "ceiling": (1 + abs(float(velocity)) * t) ** 2,
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
        "points": _points(lambda radius, at: 2 * at * math.sqrt(s * radius), t),
        "worth": _worth(s, t),
        "ceiling": 1.0,
        "evaluation": _BESSEL_ERROR,
    }


def _worth(s: float, t: np.ndarray) -> Callable[[int, float], np.ndarray]:
    # cos(2 t sqrt(s lam)) fills the degrees up to t sqrt(s lam_max)
    return lambda degree, high: degree > 0.7 * t * math.sqrt(s * high)


def _points(log_growth: Callable[[float, float], float], t: np.ndarray) -> Callable:
    r"""Chebyshev points that leave less than rounding of a function bounded on ellipses.

    If :math:`|f|\le M` on the ellipse with foci a, b and parameter :math:`\rho`, then
    :math:`|c_j|\le2M\rho^{-j}`; with N points, what is left and what is aliased is at most
    :math:`4M\rho^{-N}/(1-\rho^{-1})`.
    """

    def points(low: float, high: float, rows: np.ndarray) -> int:
        best, latest = math.inf, float(t[rows].max())
        for rho in _ELLIPSES:
            radius = (high + low) / 2 + (high - low) / 4 * (rho + 1 / rho)
            log_left = math.log(4 / (1 - 1 / rho) / _SERIES_LEFT) + max(log_growth(radius, latest), 0.0)
            best = min(best, log_left / math.log(rho))
        return math.ceil(best) + 1

    return points


_FAMILIES = {"exponential": _exponential, "oscillator": _oscillator, "bessel": _bessel}


# The residual on panels of time, each with so many Chebyshev points for a phase of twice the half-phase:
# coefficients beyond are those of exp(8 i x), at most 2 I_36(8) = 3e-20.
_PANEL_POINTS, _HALF_PHASE = 36, 8.0
_MOST_EVALUATIONS = 4e6


def mode_half_widths(mode: ModeSolution, t: np.ndarray, measure: SpectralMeasure) -> np.ndarray:
    r"""Bound the distance of the Gauss loss of a second-order ODE from the true one, by its residual.

    :math:`\tilde\Delta(t)=Q\varphi(t;T)Q^\top\Delta_0` obeys the ODE but for the force
    :math:`s\,q_{m+1}\beta_m\rho(t)`, :math:`\rho=\lVert\Delta_0\rVert\,e_m^\top\varphi(t;T)e_1`.
    With friction the response to a unit impulse after a time u is at most :math:`\min(u,1/b)` on every mode
    (u for friction r/t, by the energy), so that

    .. math::
        \lVert\Delta-\tilde\Delta\rVert
        \le s\beta_m\int_0^t\min(t-\tau,\tfrac1b)\,|\rho(\tau)|\,d\tau=:\epsilon,\qquad
        |L-L^{\rm Gauss}|\le\lVert\tilde\Delta\rVert\epsilon+\tfrac12\epsilon^2 .

    Unlike a priori bounds it needs no upper end of the spectrum.

    Parameters
    ----------
    mode : ModeSolution
    t : numpy.ndarray, shape (T,)
    measure : SpectralMeasure
        With chains.

    Returns
    -------
    numpy.ndarray, shape (T,)
        inf where the bound does not apply or would cost too much.

    Examples
    --------
    >>> from odeopt import Nesterov, error_dynamics, mode_solution, ode_limit, spectral_measure
    >>> measure = spectral_measure(np.diag(0.5 ** np.arange(50.0)), np.ones(50), num_matvecs=15)
    >>> mode = mode_solution(error_dynamics(ode_limit(Nesterov(0.01, r=3))))
    >>> bool(mode_half_widths(mode, np.array([60.0]), measure)[0] < 1e-6)
    True
    """
    family = _FAMILIES.get(mode.family, lambda mode, t: None)(mode, t)
    if mode.family not in ("oscillator", "bessel") or family is None:
        return np.full(t.size, np.inf)
    s, b = _stiffness(mode), 0.0
    if mode.family == "oscillator":
        b = float(sympy.cancel(mode.dynamics.coefficients[1] / mode.dynamics.coefficients[2]))
    parts = [_chain_half_widths(mode, t, chain, s, b) for chain in measure.chains if not chain.exhausted]
    return np.sum(parts, axis=0) if parts else np.zeros(t.size)


def _chain_half_widths(mode: ModeSolution, t: np.ndarray, chain: Chain, s: float, b: float) -> np.ndarray:
    lam, vectors = tridiagonal_eigen(chain)
    lam, norm = np.maximum(lam, 0.0), math.sqrt(chain.mass)
    scale = max(math.sqrt(s * lam[-1]), b, 1e-300)
    # As many panels as evaluations allow; times beyond the last have no bound.
    affordable = int(_MOST_EVALUATIONS / (_PANEL_POINTS * lam.size))
    length = 2 * _HALF_PHASE / scale
    count = min(max(1, math.ceil(float(t.max()) / length)), affordable)
    edges = length * np.arange(count + 1)
    largest = _largest_on_panels(mode, edges, lam, vectors[-1] * vectors[0])
    # Of the integral of min(t - tau, 1/b) up to t, the share of each panel.
    reach = np.maximum(t[:, None] - edges, 0.0)
    whole = reach**2 / 2 if b == 0 else np.where(reach < 1 / b, reach**2 / 2, reach / b - 1 / (2 * b**2))
    error = s * chain.beta[-1] * norm * ((whole[:, :-1] - whole[:, 1:]) @ largest)
    error = np.where(t > edges[-1], np.inf, error)
    size = norm * np.sqrt((mode(t, lam) ** 2) @ vectors[0] ** 2)
    return size * error + error**2 / 2


def _largest_on_panels(mode: ModeSolution, edges: np.ndarray, lam, ends: np.ndarray) -> np.ndarray:
    """Bounds on |e_m' phi(t; T) e_1| on each panel, by sums of Chebyshev coefficients."""
    theta = (np.arange(_PANEL_POINTS) + 0.5) * np.pi / _PANEL_POINTS
    inside = np.cos(theta / 2) ** 2
    largest = np.empty(edges.size - 1)
    rows = max(1, 2**20 // (_PANEL_POINTS * lam.size))
    for start in range(0, largest.size, rows):
        stop = min(start + rows, largest.size)
        width = edges[1] - edges[0]
        times = edges[start:stop, None] + width * inside
        values = mode(times.ravel(), lam)
        found = np.abs(scipy.fft.dct((values @ ends).reshape(times.shape), axis=1)) / _PANEL_POINTS
        found[:, 0] /= 2
        # rounding of the modes and of a sum in which they cancel
        noise = _BESSEL_ERROR * np.abs(ends).sum()
        largest[start:stop] = found.sum(axis=1) + noise
    return largest
