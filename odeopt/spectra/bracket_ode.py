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
import sympy

from odeopt.checks import is_number
from odeopt.dynamics.modes import ModeSolution
from odeopt.spectra.bracket import Integrand, bessel_zero_bound
from odeopt.spectra.bracket_rule import PANEL_POINTS, PANEL_RATIO, panel_bounds
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz, ritz

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


# Phase of the fastest mode on half a panel of time: Chebyshev coefficients beyond PANEL_POINTS are those of
# exp(8 i x), at most 2 I_36(8) = 3e-20.
_HALF_PHASE = 8.0
_MOST_EVALUATIONS = 4e6
# Eigenvalues on which Lanczos has converged are fast and leave almost no residual: all together this much,
# they are bounded by their envelopes, so that panels need not follow them.
_CONVERGED = 1e-15


def mode_half_widths(
    mode: ModeSolution, t: np.ndarray, measure: SpectralMeasure
) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound the distance of the Gauss loss of an ODE from the true one, by its residual.

    :math:`\tilde\Delta(t)=Q\varphi(t;T)Q^\top\Delta_0` obeys the ODE of the kernel H + E, E from the rounding
    of Lanczos, but for the force :math:`s\,q_{m+1}\beta_m\rho(t)`,
    :math:`\rho=\lVert\Delta_0\rVert\,e_m^\top\varphi(t;T)e_1`. So it obeys that of H but for this force and
    :math:`-sE\tilde\Delta`. The response at t to a unit impulse at :math:`\tau` is at most g on every mode:
    1 for gradient flow, :math:`\min(t-\tau,1/b)` with friction b, and with friction r/t
    :math:`\min(t-\tau,\tau/(r-1))`, where the second is that of :math:`\lambda=0`, which bounds the first
    maximum of the others and so, by the energy, all that follow. Hence

    .. math::
        \lVert\Delta-\tilde\Delta\rVert
        \le s\int_0^tg\,\bigl(\beta_m|\rho(\tau)|+\lVert E\rVert\lVert\tilde\Delta(\tau)\rVert\bigr)
        \,d\tau+\delta=:\epsilon,\qquad
        |L-L^{\rm Gauss}|\le\lVert\tilde\Delta(t)\rVert\,\epsilon+\tfrac12\epsilon^2,

    with :math:`\delta` for rounding in the modes and in the vectors of T. Unlike a priori bounds it needs no
    upper end of the spectrum, and its allowance for rounding falls with :math:`\lVert\tilde\Delta(t)\rVert`.

    Examples
    --------
    >>> from odeopt import Nesterov, error_dynamics, mode_solution, ode_limit, spectral_measure
    >>> measure = spectral_measure(np.diag(0.5 ** np.arange(50.0)), np.ones(50), num_matvecs=15)
    >>> mode = mode_solution(error_dynamics(ode_limit(Nesterov(0.01, r=3))))
    >>> half, rounding = mode_half_widths(mode, np.array([60.0]), measure)
    >>> bool(half[0] < 1e-6), bool(rounding[0] < 1e-8)
    (True, True)
    """
    family = _FAMILIES.get(mode.family, lambda mode, t: None)(mode, t)
    if family is None:
        return np.full(t.size, np.inf), np.full(t.size, np.inf)
    ode = _Ode(mode)
    # Modes are at most this large at the times asked for.
    largest = math.sqrt(np.max(family.get("ceiling", 1.0)))
    pairs = [ritz(chain, *measure.interval) for chain in measure.chains if chain.size]
    half, rounding = np.sum([_chain_half_widths(ode, t, found, largest) for found in pairs], axis=0)
    return half, rounding


def _chain_half_widths(ode: _Ode, t: np.ndarray, found: Ritz, largest: float) -> np.ndarray:
    fast = ode.fast(found)
    edges = ode.edges(float(t.max()), found.values, fast)
    residual, size = _largest_on_panels(ode, edges, found, fast)
    # Of the modes, and of the vectors of T, whose first and last rows meet in the residual.
    noise = largest * (ode.accuracy * np.abs(found.vectors[-1] * found.vectors[0]).sum() + 3 * found.skew)
    forces = (
        found.residual * residual,
        found.residual * noise + found.perturbation * (size + largest * (ode.accuracy + found.skew)),
    )
    shares = ode.shares(t, edges)
    at_t = ode.mode(t, found.values)
    delta = found.norm * (ode.accuracy + found.skew * np.abs(at_t).max(axis=1))
    now = found.norm * np.sqrt(at_t**2 @ found.vectors[0] ** 2)
    from_residual, rounding = (ode.s * found.norm * (shares @ force) for force in forces)
    rounding = np.where(t > edges[-1], np.inf, rounding + delta)
    with np.errstate(invalid="ignore"):  # 0 times inf
        widths = [now * e + e**2 / 2 + 64 * _EPS * now**2 for e in (from_residual + rounding, rounding)]
    return np.where(np.isnan(widths), np.inf, widths)


class _Ode:
    """Numbers of a mode, and what they say of its size and of its response to an impulse."""

    def __init__(self, mode: ModeSolution):
        a, time = mode.dynamics.coefficients, mode.dynamics.t
        self.mode, self.s, self.b, self.r, self.slope = mode, _stiffness(mode), 0.0, 1.0, 0.0
        if mode.family == "oscillator":
            self.b = float(sympy.cancel(a[1] / a[2]))
            self.slope = self.b / 2 + float(mode.dynamics.initial[0])
        if mode.family == "bessel":
            self.r = float(sympy.cancel(time * a[1] / a[2]))
        self.accuracy = _BESSEL_ERROR if mode.family == "bessel" else _ELEMENTARY_ERROR

    def fast(self, found: Ritz) -> np.ndarray:
        """Which eigenvalues, the largest ones, are left to their envelopes, shape (m,)."""
        if self.mode.family == "exponential":
            return np.zeros(found.values.size, bool)
        left = np.cumsum(np.abs(found.vectors[-1] * found.vectors[0])[::-1])[::-1]
        fast = (left <= _CONVERGED) & (self.s * found.values > self.b**2 / 2)
        fast[0] = False
        return fast

    def envelope(self, t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """Bound fast modes from t on, shape (T, N)."""
        frequency = np.sqrt(self.s * lam - self.b**2 / 4)
        if self.mode.family == "oscillator":
            return np.exp(-self.b * t / 2)[:, None] * (1 + self.slope / frequency)
        # Gamma(nu + 1) (2/x)^nu J_nu(x), with |J_nu| <= 1
        nu = (self.r - 1) / 2
        with np.errstate(divide="ignore"):
            log = math.lgamma(nu + 1) - nu * np.log(t[:, None] * frequency / 2) if nu else np.zeros(1)
        return np.exp(np.minimum(log, 0.0)) * np.ones((t.size, lam.size))

    def edges(self, last: float, lam: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Ends of panels of time; as many as evaluations allow: times beyond the last have no bound."""
        affordable = int(_MOST_EVALUATIONS / (PANEL_POINTS * np.count_nonzero(~fast)))
        if self.mode.family == "exponential":
            begin = (PANEL_RATIO - 1) / max(self.s * lam[-1], 1e-300)
            count = math.ceil(math.log(max(last / begin, 1.0)) / math.log(PANEL_RATIO))
            return np.concatenate([[0.0], begin * PANEL_RATIO ** np.arange(min(count, affordable) + 1.0)])
        short, long = (
            2 * _HALF_PHASE / max(math.sqrt(self.s * top), self.b, 1e-300)
            for top in (lam[-1], lam[~fast][-1])
        )
        if fast.any() and self.b > 0:
            long = min(long, 2 / self.b)  # in which the envelope falls to 1/e
        ends = [0.0, short]
        while ends[-1] < last and len(ends) <= affordable:
            ends.append(ends[-1] + min(max((PANEL_RATIO - 1) * ends[-1], short), max(long, short)))
        return np.array(ends)

    def shares(self, t: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Of the integral of the response up to t, the share of each panel, shape (T, panels)."""
        t = t[:, None]
        at = np.minimum(edges, t)
        if self.mode.family == "exponential":
            whole = at
        elif self.mode.family == "bessel":
            turn = t * (self.r - 1) / self.r  # where t - tau meets tau / (r - 1)
            early = np.minimum(at, turn) ** 2 / (2 * max(self.r - 1, 1e-300))
            whole = early + ((t - turn) ** 2 - (t - np.maximum(at, turn)) ** 2) / 2
        else:
            b, reach = self.b, t - at
            inverse = 1 / b if b > 0 else math.inf
            with np.errstate(invalid="ignore"):
                late = reach * inverse - inverse**2 / 2
            whole = -np.where(reach < inverse, reach**2 / 2, late)
        return np.diff(whole, axis=1)


def _largest_on_panels(ode: _Ode, edges: np.ndarray, found: Ritz, fast) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on |e_m' phi(t; T) e_1| and |phi(t; T) e_1| on each panel."""
    ends, start, lam = found.vectors[-1] * found.vectors[0], found.vectors[0] ** 2, found.values
    envelope = ode.envelope(edges[:-1], lam[fast])
    residual, size = panel_bounds(lambda t: ode.mode(t, lam[~fast]), edges, ends[~fast], start[~fast])
    return residual + envelope @ np.abs(ends[fast]), np.sqrt(size**2 + envelope**2 @ start[fast])
