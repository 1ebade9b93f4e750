r"""Bounds on :math:`\Delta_0^\top f(H)\Delta_0` from the Lanczos matrices of a measure.

Three theorems, the first that applies at each point of a curve:

- the Gauss rule is exact where f is a polynomial of degree at most 2m - 1;
- Gauss and Radau (or Lobatto) rules enclose the integral where the derivatives of f have known signs;
- always, with the Chebyshev series :math:`\sum_jc_jT_j` of f on an interval that holds the spectrum,

.. math:: |I-I_G|\le2\lVert\Delta_0\rVert^2\sum_{j\ge2m}|c_j|,

because the Gauss rule integrates the partial sum of degree 2m - 1 exactly, and :math:`|T_j|\le1`. A fourth,
from the residual of the method itself, narrows what these leave wide (:mod:`odeopt.spectra.bracket_rule`,
:func:`odeopt.spectra.bracket_ode.mode_half_widths`).

To each belongs an allowance for rounding. The Lanczos matrix is exact for H + E, and
:math:`\lVert f(H+E)-f(H)\rVert\le\Lambda\lVert E\rVert` with an operator Lipschitz constant
:math:`\Lambda`, for a Chebyshev series :math:`\frac2{b-a}\sum_jj^2|c_j|`. That knows nothing of
:math:`\Delta_0` but its norm, so that the allowance stays where it is while the loss falls, and at 1e-7 of
the start is nearly as large as the loss. The bound from the residual takes E as a force on the iterates
themselves instead, so that its allowance falls with the root of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import scipy.optimize

from odeopt.spectra.lanczos import Chain
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import gauss, lobatto, radau

__all__ = ["Bracket", "Integrand", "bessel_zero_bound", "bracket"]

_EPS = float(np.finfo(float).eps)
_BLOCK = 2**22  # entries of a work array: 32 MB of float64
# Perturbations of H that one bound meets: E of the Lanczos matrix, the shift of a prescribed node by
# |E| off the spectrum, and its return to the interval.
_PERTURBATIONS = 3
# Roundings in the evaluation of f at a node and in the sum over nodes, relative to the value.
_EVALUATION = 64 * _EPS
# An interval without proof of resolution is sampled until the last quarter of the series is this small.
_PLATEAU = 1e-13
_MAX_POINTS = 2**15


@dataclass(frozen=True)
class Integrand:
    r"""What is known of the functions :math:`f_i(\lambda)\ge0`, one for each of T points of a curve."""

    values: Callable[[np.ndarray, Any], np.ndarray]
    size: int
    alternating: Callable[[int, float], np.ndarray]
    needs_high: bool = True
    convex: bool = False
    degree: np.ndarray | None = None
    lipschitz: Callable[[float, float], np.ndarray] | None = None
    points: Callable[[float, float, np.ndarray], int] | None = None
    worth: Callable[[int, float], np.ndarray] | None = None
    ceiling: np.ndarray | float = math.inf
    evaluation: np.ndarray | float = 0.0

    @property
    def series_proved(self) -> bool:
        """Whether the Chebyshev series is known to be complete up to rounding."""
        return self.degree is not None or self.points is not None


@dataclass(frozen=True)
class Bracket:
    r"""Values :math:`\frac12\int f_i\,d\mu` with bounds."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    proved: np.ndarray
    rounding: np.ndarray

    def narrowed(self, half: np.ndarray, rounding: np.ndarray, *, proved: bool) -> Bracket:
        """Return the part of the bracket within `half` of the value."""
        with np.errstate(invalid="ignore"):
            low, high = self.value - half, self.value + half
            tighter = 2 * half < self.upper - self.lower
        alone = proved & ~self.proved & np.isfinite(half)
        # An estimate narrows no theorem; and fmax, because inf - inf is no bound.
        kept = self.proved & (not proved)
        lower = np.where(alone, np.maximum(low, 0.0), np.where(kept, self.lower, np.fmax(self.lower, low)))
        upper = np.where(alone, high, np.where(kept, self.upper, np.fmin(self.upper, high)))
        rounding = np.where(alone | (tighter & ~kept), rounding, self.rounding)
        return Bracket(self.value, lower, upper, self.proved | alone, rounding)


def bracket(integrand: Integrand, measure: SpectralMeasure) -> Bracket:
    r"""Enclose half the integral of each function over a measure found by Lanczos.

    Examples
    --------
    >>> from odeopt import spectral_measure
    >>> kernel = np.diag(np.linspace(0, 4, 200))
    >>> measure = spectral_measure(kernel, np.ones(200), num_matvecs=8)
    >>> decay = Integrand(lambda lam, rows: np.exp(-3 * lam)[None], 1, lambda n, high: np.ones(1, bool))
    >>> found = bracket(decay, measure)
    >>> bool(found.lower[0] < 0.5 * np.exp(-3 * np.diag(kernel)).sum() < found.upper[0])
    True
    """
    low, high = measure.interval
    series = _Series(integrand, low, high, 2 * max(chain.size for chain in measure.chains))
    parts = [_chain_bracket(integrand, chain, series, measure) for chain in measure.chains if chain.size]
    value, lower, upper, rounding = (
        np.sum([getattr(part, name) for part in parts], axis=0)
        for name in ("value", "lower", "upper", "rounding")
    )
    proved = np.logical_and.reduce([part.proved for part in parts])
    return Bracket(value, np.maximum(lower, 0.0), upper, proved, rounding)


def _chain_bracket(integrand: Integrand, chain: Chain, series: _Series, measure: SpectralMeasure) -> Bracket:
    low, high = measure.interval
    value = _integral(integrand, *gauss(chain), low, high)
    finite = np.isfinite(value)
    exact = np.full(integrand.size, chain.exhausted)
    if integrand.degree is not None:
        exact |= integrand.degree <= 2 * chain.size - 1
    signed_low, signed_high, outer = _signed(integrand, chain, low, high, exact)
    open_ = ~exact & ~(signed_low & signed_high)
    lower, upper, proved = value.copy(), value.copy(), exact.copy()
    if np.any(open_):
        # An iteration that leaves the range of float64 makes inf, and inf - inf, which is replaced below.
        with np.errstate(over="ignore", invalid="ignore"):
            half, whole = chain.mass * series.tail(2 * chain.size), 0.5 * chain.mass * series.total()
            lower = np.where(open_ & ~signed_low, np.maximum(value - half, 0.0), lower)
            upper = np.where(open_ & ~signed_high, np.minimum(value + half, whole), upper)
    upper = np.where(~exact & signed_high, np.maximum(outer, value), upper)
    by_sign = signed_low & signed_high & (measure.interval_proved or not integrand.needs_high)
    proved |= by_sign | (integrand.series_proved & measure.interval_proved)
    rounding = _rounding(integrand, chain, series, low, high) + _EVALUATION * np.abs(upper)
    with np.errstate(invalid="ignore"):
        lower, upper = lower - rounding, upper + rounding
    # An iteration that left the range of float64 has no bounds but the trivial ones.
    lower, upper = np.where(finite, lower, 0.0), np.where(finite, upper, np.inf)
    return Bracket(value, lower, upper, proved, np.where(finite, rounding, 0.0))


def _signed(integrand: Integrand, chain: Chain, low: float, high: float, exact: np.ndarray):
    """Where Gauss is a lower and an outer rule an upper bound, and the value of that rule."""
    m = chain.size
    none = np.zeros(integrand.size, bool)
    if exact.all():
        return none, none, np.zeros(integrand.size)
    signed_low = integrand.alternating(2 * m, high) | integrand.convex
    # Nodes are prescribed a rounding outside the interval, where T has no eigenvalue.
    rule = radau(chain, low - chain.error)
    signed_high = integrand.alternating(2 * rule[0].size - 1, high)
    outer = _integral(integrand, *rule, low, high)
    if integrand.convex and not signed_high.all():
        ends = _integral(integrand, *lobatto(chain, low - chain.error, high + chain.error), low, high)
        outer = np.where(signed_high, outer, ends)
        signed_high = np.ones_like(signed_high)
    return signed_low, signed_high, outer


def _integral(integrand: Integrand, nodes, weights, low: float, high: float) -> np.ndarray:
    # Rounding puts a node off the interval by less than the error that the allowance counts.
    with np.errstate(over="ignore", invalid="ignore"):
        result = 0.5 * integrand.values(np.clip(nodes, low, high), slice(None)) @ weights
    return np.where(np.isnan(result), np.inf, result)


def _rounding(integrand: Integrand, chain: Chain, series: _Series, low: float, high: float) -> np.ndarray:
    lipschitz = series.lipschitz() if integrand.lipschitz is None else integrand.lipschitz(low, high)
    with np.errstate(over="ignore"):
        return 0.5 * chain.mass * (_PERTURBATIONS * chain.error * lipschitz + integrand.evaluation)


class _Series:
    """Chebyshev coefficients of all functions on [low, high], computed when first asked for."""

    def __init__(self, integrand: Integrand, low: float, high: float, degree: int):
        self.integrand, self.low = integrand, low
        worth = np.ones(integrand.size, bool) if integrand.worth is None else integrand.worth(degree, high)
        self.rows = np.flatnonzero(worth)
        # An interval of one point is widened, so that the map to [-1, 1] exists.
        self.high = high if high > low else low + max(_EPS * abs(low), 1e-300)
        self._absolute: np.ndarray | None = None

    def absolute(self) -> np.ndarray:
        r"""Return :math:`|c_j|`, shape (len(rows), N)."""
        if self._absolute is None:
            f = self.integrand
            if self.rows.size == 0:
                self._absolute = np.zeros((0, 1))
            elif f.degree is not None:
                self._absolute = self._coefficients(int(f.degree.max()) + 1)
            elif f.points is not None:
                self._absolute = self._coefficients(f.points(self.low, self.high, self.rows))
            else:
                self._absolute = self._until_plateau()
        return self._absolute

    def _until_plateau(self) -> np.ndarray:
        count = 64
        while True:
            found = self._coefficients(count)
            last = found[:, -count // 4 :].max(axis=1)
            if count >= _MAX_POINTS or np.all(last <= _PLATEAU * found.max(axis=1)):
                return found
            count *= 2

    def _coefficients(self, count: int) -> np.ndarray:
        theta = (np.arange(count) + 0.5) * np.pi / count
        lam = self.low + (self.high - self.low) * np.cos(theta / 2) ** 2
        height = max(1, _BLOCK // count)
        found = np.empty((self.rows.size, count))
        for start in range(0, self.rows.size, height):
            block = slice(start, start + height)
            with np.errstate(over="ignore", invalid="ignore"):
                values = self.integrand.values(lam, self.rows[block])
                found[block] = np.abs(scipy.fft.dct(values, axis=1)) / count
        found[:, 0] /= 2
        return np.where(np.isnan(found), np.inf, found)

    def tail(self, degree: int) -> np.ndarray:
        """Sum of the coefficients from `degree` on, which bounds the error of the best approximation."""
        return self._spread(self.absolute()[:, degree:], math.inf)

    def total(self) -> np.ndarray:
        """Upper bounds on the functions."""
        return np.minimum(self._spread(self.absolute(), math.inf), self.integrand.ceiling)

    def _spread(self, coefficients: np.ndarray, missing: float) -> np.ndarray:
        result = np.full(self.integrand.size, missing)
        with np.errstate(over="ignore"):
            result[self.rows] = coefficients.sum(axis=1)
        return result

    def lipschitz(self) -> np.ndarray:
        coefficients = self.absolute()
        square = np.arange(coefficients.shape[1], dtype=float) ** 2
        with np.errstate(over="ignore", invalid="ignore"):
            return 2 / (self.high - self.low) * self._spread(coefficients * square, math.inf)


def bessel_zero_bound(nu: float) -> float:
    r"""Lower bound on the first positive zero :math:`j_{\nu,1}` of :math:`J_\nu`, proved by comparison.

    :math:`y=\sqrt xJ_\nu` solves :math:`y''+(1-x_0^2/x^2)y=0` with :math:`x_0^2=\nu^2-\frac14`. It is
    convex and increasing up to :math:`x_0`; from there to its first zero z the coefficient is at most
    :math:`c^2=1-x_0^2/z^2`, and a solution of :math:`y''+c^2y=0` that begins increasing needs at least
    :math:`\pi/(2c)` to vanish. So :math:`(z-x_0)\sqrt{1-x_0^2/z^2}\ge\pi/2`, whose left side increases.

    Examples
    --------
    >>> bessel_zero_bound(0.5) <= np.pi, round(bessel_zero_bound(100.0), 1)  # the zero: 108.8
    (True, 105.1)
    """
    if not nu >= 0.5:
        raise ValueError(f"nu must be at least 1/2, got {nu!r}")
    x0 = math.sqrt(nu**2 - 0.25)
    if x0 == 0.0:
        return math.pi / 2

    def excess(z: float) -> float:
        return (z - x0) * math.sqrt(max(1 - (x0 / z) ** 2, 0.0)) - math.pi / 2

    z = scipy.optimize.brentq(excess, x0, x0 + 4 + 2 * x0 ** (1 / 3), xtol=1e-13 * (1 + x0))
    return z * (1 - 1e-12)  # the root is found to 1e-13
