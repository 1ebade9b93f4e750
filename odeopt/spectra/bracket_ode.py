r"""Squared modes :math:`\varphi(t;\lambda)^2` as functions of the eigenvalue: what is known of each family.

With stiffness :math:`s\lambda`, and :math:`(-1)^n\partial_\lambda^n\varphi^2\ge0` called "signed at n":

- gradient flow, :math:`e^{-2s\lambda t}`: signed at every n; with a schedule t is its intrinsic time;
- friction b, :math:`\varphi=e^{-bt/2}[\cosh t\sqrt z+c\,\sinh(t\sqrt z)/\sqrt z]`,
  :math:`z=\frac{b^2}4-s\lambda`, :math:`c=\frac b2+\varphi'(0)\ge0`: positive Taylor coefficients in z, so
  signed at every n where overdamped; elsewhere the square consists of :math:`\cosh2t\sqrt z`,
  :math:`\sinh(2t\sqrt z)/\sqrt z` and :math:`(\cosh2t\sqrt z-1)/z`, signed at n while
  :math:`2t\sqrt{s\lambda_{\max}-b^2/4}<j_{n-1/2,1}`;
- friction r/t, by :math:`J_\nu^2(x)=\frac2\pi\int_0^{\pi/2}J_{2\nu}(2x\cos\theta)\,d\theta`: signed at n
  while :math:`2t\sqrt{s\lambda_{\max}}<j_{r-1+n,1}`.

Perturbing :math:`\ddot\Delta+b\dot\Delta+H\Delta=0` and solving by variation of constants gives the operator
Lipschitz constants; growth in the complex plane, on ellipses around the interval, the number of
Chebyshev points that suffice. Other modes have no theorem here, and nothing of theirs is called proved.

A second bound, sharp where Lanczos has converged, needs no upper end of the spectrum.
:math:`\tilde\Delta(t)=Q\varphi(t;T)Q^\top\Delta_0` obeys the ODE of the kernel H + E, E of rounding, but for
the force :math:`s\,q_{m+1}\beta_m\rho(t)`, :math:`\rho=\lVert\Delta_0\rVert\,e_m^\top\varphi(t;T)e_1`. So it
obeys that of H but for this force and :math:`-sE\tilde\Delta`. The response at t to a unit impulse at
:math:`\tau` is at most g on every mode: 1 for gradient flow, :math:`\min(t-\tau,1/b)` with friction b, and
with friction r/t :math:`\min(t-\tau,\tau/(r-1))`, where the second is that of :math:`\lambda=0`, which bounds
the first maximum of the others and so, by the energy, all that follow. Hence

.. math::
    \lVert\Delta-\tilde\Delta\rVert
    \le s\int_0^tg\,\bigl(\beta_m|\rho(\tau)|+\lVert E\rVert\lVert\tilde\Delta(\tau)\rVert\bigr)
    \,d\tau+\delta=:\epsilon,\qquad
    |L-L^{\rm Gauss}|\le\lVert\tilde\Delta(t)\rVert\,\epsilon+\tfrac12\epsilon^2,

with :math:`\delta` for rounding in the modes and in the vectors of T.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable

import numpy as np
import sympy

from odeopt.checks import is_number
from odeopt.dynamics.modes import ModeSolution
from odeopt.spectra.bracket import Integrand, bessel_zero_bound
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.panels import PANEL_POINTS, PANEL_RATIO, panel_bounds
from odeopt.spectra.quadrature import Ritz

__all__ = ["Mode", "mode_half_widths", "mode_integrand"]

_EPS = float(np.finfo(float).eps)
# Parameters of Bernstein ellipses that are tried; a small one suits slow functions, a large one fast.
_ELLIPSES = (1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0)
# What is left of a Chebyshev series beyond the points taken: below the rounding of values up to 1.
_SERIES_LEFT = 1e-17
# Accuracy of the Bessel functions, relative to their largest value, and of sine and exponential.
_BESSEL_ERROR, _ELEMENTARY_ERROR = 1e-13, 64 * _EPS
# Phase of the fastest mode on half a panel of time: Chebyshev coefficients beyond PANEL_POINTS are those of
# exp(8 i x), at most 2 I_36(8) = 3e-20.
_HALF_PHASE = 8.0
_MOST_EVALUATIONS = 4e6
# Eigenvalues on which Lanczos has converged are fast and leave almost no residual: all together this much,
# they are bounded by their envelopes, so that panels need not follow them.
_CONVERGED = 1e-15


Values = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Mode(Integrand, abc.ABC):
    """The squares of a mode with stiffness s * lam at the times t, where it is at most `largest`."""

    covered = True
    accuracy = _ELEMENTARY_ERROR
    damping: float = 0.0  # the friction, where it is constant

    def __init__(self, mode: Values, t: np.ndarray, s: float, largest: np.ndarray | float = 1.0) -> None:
        super().__init__(lambda lam, rows: mode(t[rows], lam) ** 2, t.size)
        self.mode: Values = mode
        self.t: np.ndarray = t
        self.s: float = s
        self.largest: np.ndarray | float = largest
        self.ceiling: np.ndarray | float = largest**2
        # a value of the mode is off by its accuracy, so its square by twice that
        self.evaluation: np.ndarray | float = 2 * self.accuracy * self.ceiling

    def points(self, low: float, high: float, rows: np.ndarray) -> int:
        r"""Chebyshev points that leave less than rounding of a function bounded on ellipses.

        If :math:`|f|\le M` on the ellipse with foci a, b and parameter :math:`\rho`, then
        :math:`|c_j|\le2M\rho^{-j}`; with N points, what is left and what is aliased is at most
        :math:`4M\rho^{-N}/(1-\rho^{-1})`.
        """
        best, latest = math.inf, float(self.t[rows].max())
        for rho in _ELLIPSES:
            radius = (high + low) / 2 + (high - low) / 4 * (rho + 1 / rho)
            log_left = math.log(4 / (1 - 1 / rho) / _SERIES_LEFT) + max(self.log_growth(radius, latest), 0.0)
            best = min(best, log_left / math.log(rho))
        return math.ceil(best) + 1

    def worth(self, degree: int, high: float) -> np.ndarray:
        """cos(2 t sqrt(s lam)) fills the degrees up to t sqrt(s lam_max)."""
        return degree > 0.7 * self.t * math.sqrt(self.s * high)

    @abc.abstractmethod
    def lipschitz(self, low: float, high: float) -> np.ndarray:
        """Operator Lipschitz constants on [low, high], shape (T,)."""

    @abc.abstractmethod
    def log_growth(self, radius: float, time: float) -> float:
        """Logarithm of a bound on the square for all complex eigenvalues up to a radius."""

    def fast(self, found: Ritz) -> np.ndarray:
        """Which eigenvalues, the largest ones, are left to their envelopes, shape (m,)."""
        left = np.cumsum(found.shares[::-1])[::-1]
        fast = (left <= _CONVERGED) & (self.s * found.values > self.damping**2 / 2)
        fast[0] = False
        return fast

    @abc.abstractmethod
    def envelope(self, t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """Bound fast modes from t on, shape (T, N)."""

    def shares(self, t: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Of the integral of the response up to t, the share of each panel, shape (T, panels)."""
        return np.diff(self.response(t[:, None], np.minimum(edges, t[:, None])), axis=1)

    @abc.abstractmethod
    def response(self, t: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The integral of the response g up to `at`, but for a constant."""

    def edges(self, last: float, lam: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Ends of panels of time; as many as evaluations allow: times beyond the last have no bound."""
        affordable = int(_MOST_EVALUATIONS / (PANEL_POINTS * np.count_nonzero(~fast)))
        short, long = (
            2 * _HALF_PHASE / max(math.sqrt(self.s * top), self.damping, 1e-300)
            for top in (lam[-1], lam[~fast][-1])
        )
        if fast.any() and self.damping > 0:
            long = min(long, 2 / self.damping)  # in which the envelope falls to 1/e
        ends = [0.0, short]
        while ends[-1] < last and len(ends) <= affordable:
            ends.append(ends[-1] + min(max((PANEL_RATIO - 1) * ends[-1], short), max(long, short)))
        return np.array(ends)


class Flow(Mode):
    """Gradient flow, exp(-s lam t)."""

    needs_high = False

    def alternating(self, n: int, high: float) -> np.ndarray:
        """Signed at every n."""
        return np.ones(self.size, bool)

    def lipschitz(self, low: float, high: float) -> np.ndarray:
        """|exp(-2st(H+E)) - exp(-2stH)| <= 2st |E| exp(-2st low)."""
        return 2 * self.s * self.t * np.exp(-2 * self.s * self.t * low)

    def log_growth(self, radius: float, time: float) -> float:
        """Of an exponential."""
        return 2 * self.s * radius * time

    def worth(self, degree: int, high: float) -> np.ndarray:
        """Signs say all."""
        return np.zeros(self.size, bool)

    def fast(self, found: Ritz) -> np.ndarray:
        """All modes decay alike."""
        return np.zeros(found.values.size, bool)

    def envelope(self, t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """Of no mode."""
        return np.ones((t.size, lam.size))

    def response(self, t: np.ndarray, at: np.ndarray) -> np.ndarray:
        """g = 1."""
        return at

    def edges(self, last: float, lam: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Panels of one ratio."""
        begin = (PANEL_RATIO - 1) / max(self.s * lam[-1], 1e-300)
        count = math.ceil(math.log(max(last / begin, 1.0)) / math.log(PANEL_RATIO))
        affordable = int(_MOST_EVALUATIONS / (PANEL_POINTS * lam.size))
        return np.concatenate([[0.0], begin * PANEL_RATIO ** np.arange(min(count, affordable) + 1.0)])


class Friction(Mode):
    """Constant friction b and initial velocity v, b/2 + v >= 0."""

    def __init__(self, mode: ModeSolution, t: np.ndarray, s: float, b: float, v: float) -> None:
        super().__init__(mode, t, s, 1 + abs(v) * t)  # |phi| <= 1 + |v| t
        self.damping: float = b
        self.slope: float = b / 2 + v

    def alternating(self, n: int, high: float) -> np.ndarray:
        """Signed at n up to the first zero of a Bessel function."""
        excess = self.s * high - self.damping**2 / 4
        return 2 * self.t * math.sqrt(max(excess, 0.0)) < bessel_zero_bound(n - 0.5)

    def lipschitz(self, low: float, high: float) -> np.ndarray:
        """By the response to a unit impulse, at most min(t, 1/b)."""
        t, b = self.t, self.damping
        impulse = np.minimum(t**2 / 2, t / b) if b > 0 else t**2 / 2
        return 2 * self.ceiling * self.s * impulse

    def log_growth(self, radius: float, time: float) -> float:
        """Of cosh and sinh on the largest root."""
        b = self.damping
        return 2 * (time * (math.sqrt(self.s * radius + b**2 / 4) - b / 2) + math.log1p(self.slope * time))

    def envelope(self, t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """exp(-b t / 2) (1 + slope / frequency)."""
        frequency = np.sqrt(self.s * lam - self.damping**2 / 4)
        return np.exp(-self.damping * t / 2)[:, None] * (1 + self.slope / frequency)

    def response(self, t: np.ndarray, at: np.ndarray) -> np.ndarray:
        """g = min(t - tau, 1/b)."""
        reach = t - at
        inverse = 1 / self.damping if self.damping > 0 else math.inf
        with np.errstate(invalid="ignore"):
            late = reach * inverse - inverse**2 / 2
        return -np.where(reach < inverse, reach**2 / 2, late)


class VanishingFriction(Mode):
    """Friction r/t, r >= 1, where the mode is an average of cosines and bounded by 1."""

    accuracy = _BESSEL_ERROR

    def __init__(self, mode: ModeSolution, t: np.ndarray, s: float, r: float) -> None:
        super().__init__(mode, t, s)
        self.r = r

    def alternating(self, n: int, high: float) -> np.ndarray:
        """Signed at n up to the first zero of a Bessel function."""
        return 2 * self.t * math.sqrt(self.s * high) < bessel_zero_bound(self.r - 1 + n)

    def lipschitz(self, low: float, high: float) -> np.ndarray:
        """The mode is an average of cos(u t sqrt(s lam)) over u, with E u^2 = 1 / (r + 1)."""
        return self.s * self.t**2 / (self.r + 1)

    def log_growth(self, radius: float, time: float) -> float:
        """Of the cosines."""
        return 2 * time * math.sqrt(self.s * radius)

    def envelope(self, t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        """Gamma(nu + 1) (2/x)^nu J_nu(x), with |J_nu| <= 1."""
        nu = (self.r - 1) / 2
        with np.errstate(divide="ignore"):
            frequency = np.sqrt(self.s * lam)
            log = math.lgamma(nu + 1) - nu * np.log(t[:, None] * frequency / 2) if nu else np.zeros(1)
        return np.exp(np.minimum(log, 0.0)) * np.ones((t.size, lam.size))

    def response(self, t: np.ndarray, at: np.ndarray) -> np.ndarray:
        """g = min(t - tau, tau / (r - 1))."""
        turn = t * (self.r - 1) / self.r  # where the two meet
        early = np.minimum(at, turn) ** 2 / (2 * max(self.r - 1, 1e-300))
        return early + ((t - turn) ** 2 - (t - np.maximum(at, turn)) ** 2) / 2


class CorrectedFlow(Integrand):
    r"""First order with a rate q(lam) of nonnegative coefficients, q(0) = 0: :math:`e^{-2q(\lambda)t}`."""

    covered = True
    ceiling: np.ndarray | float = 1.0
    evaluation: np.ndarray | float = 2 * _ELEMENTARY_ERROR

    def __init__(self, mode: ModeSolution, t: np.ndarray, rate: np.ndarray) -> None:
        super().__init__(lambda lam, rows: mode(t[rows], lam) ** 2, t.size)
        self.t: np.ndarray = t
        self.slope: np.polynomial.Polynomial = np.polynomial.Polynomial(rate).deriv()

    def lipschitz(self, low: float, high: float) -> np.ndarray:
        """|exp(-2tq(H+E)) - exp(-2tq(H))| <= 2t |q(H+E) - q(H)| <= 2t q'(high) |E|, with room for E in q'."""
        return 2 * self.t * float(self.slope(high * (1 + 1e-6)))


def mode_integrand(mode: ModeSolution, t: np.ndarray) -> Integrand:
    """Return the squares of a mode at the times t, with what is known of them."""
    if mode.clock is not None:
        sigma = mode.clock(t)
        if np.all(sigma >= 0):  # gradient flow at another time
            return Flow(lambda at, lam: np.exp(-np.multiply.outer(at, lam)), sigma, 1.0)
    found, s = None, _stiffness(mode)
    a, time = mode.dynamics.coefficients, mode.dynamics.t
    if mode.family == "exponential":
        found = _flow(mode, t) if s is None else Flow(mode, t, s)
    elif mode.family == "oscillator" and s is not None:
        b, v = sympy.cancel(a[1] / a[2]), mode.dynamics.initial[0]
        if is_number(b) and is_number(v) and b >= 0 and b / 2 + v >= 0:
            found = Friction(mode, t, s, float(b), float(v))
    elif mode.family == "bessel" and s is not None:
        r = sympy.cancel(time * a[1] / a[2])
        if is_number(r) and r >= 1:
            found = VanishingFriction(mode, t, s, float(r))
    return found or Integrand(lambda lam, rows: mode(t[rows], lam) ** 2, t.size)


def _stiffness(mode: ModeSolution) -> float | None:
    """Return s if the stiffness is s * lam, s > 0."""
    dynamics = mode.dynamics
    slope = sympy.cancel(dynamics.coefficients[0] / (dynamics.coefficients[-1] * dynamics.lam))
    return float(slope) if is_number(slope) and slope > 0 and dynamics.start == 1 else None


def _flow(mode: ModeSolution, t: np.ndarray) -> CorrectedFlow | None:
    dynamics = mode.dynamics
    rate = sympy.cancel(dynamics.coefficients[0] / dynamics.coefficients[-1])
    if dynamics.start != 1 or not rate.is_polynomial(dynamics.lam):
        return None
    terms = [float(c) for c in reversed(sympy.Poly(rate, dynamics.lam).all_coeffs())]
    return CorrectedFlow(mode, t, np.array(terms)) if min(terms) >= 0 and terms[0] == 0 else None


def mode_half_widths(integrand: Integrand, measure: SpectralMeasure) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound the distance of the computed loss of an ODE from the true one, by its residual, shape (T,).

    The second is the part that is left without the residual; inf where no bound applies or it would cost too
    much.
    """
    if not isinstance(integrand, Mode):
        return np.full(integrand.size, np.inf), np.full(integrand.size, np.inf)
    half, rounding = np.sum([_half_widths(integrand, found) for found in measure.pairs], axis=0)
    return half, rounding


def _half_widths(ode: Mode, found: Ritz) -> np.ndarray:
    t, fast = ode.t, ode.fast(found)
    edges = ode.edges(float(t.max()), found.values, fast)
    residual, size = _largest_on_panels(ode, edges, found, fast)
    largest, accuracy = float(np.max(ode.largest)), ode.accuracy
    # Of the modes, and of the vectors of T, whose first and last rows meet in the residual.
    noise = largest * (accuracy * found.shares.sum() + 3 * found.skew)
    forces = (
        found.residual * residual,
        found.residual * noise + found.perturbation * (size + largest * (accuracy + found.skew)),
    )
    shares = ode.shares(t, edges)
    at_t = ode.mode(t, found.values)
    delta = found.norm * (largest * accuracy + found.skew * np.abs(at_t).max(axis=1))
    now = found.norm * np.sqrt(at_t**2 @ found.start**2)
    from_residual, rounding = (ode.s * found.norm * (shares @ force) for force in forces)
    rounding = np.where(t > edges[-1], np.inf, rounding + delta)
    with np.errstate(over="ignore", invalid="ignore"):  # inf, and 0 times inf
        widths = [now * e + e**2 / 2 + 64 * _EPS * now**2 for e in (from_residual + rounding, rounding)]
    return np.where(np.isnan(widths), np.inf, widths)


def _largest_on_panels(
    ode: Mode, edges: np.ndarray, found: Ritz, fast: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on |e_m' phi(t; T) e_1| and |phi(t; T) e_1| on each panel."""
    ends, start, lam = found.ends, found.start**2, found.values
    envelope = ode.envelope(edges[:-1], lam[fast])
    residual, size = panel_bounds(lambda t: ode.mode(t, lam[~fast]), edges, ends[~fast], start[~fast])
    return residual + envelope @ found.shares[fast], np.sqrt(size**2 + envelope**2 @ start[fast])
