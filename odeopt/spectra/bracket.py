r"""Bounds on :math:`\Delta_0^\top f(H)\Delta_0` from the decompositions on which a measure rests.

Three theorems, the first that applies at each point of a curve:

- the Gauss rule is exact where f is a polynomial of degree at most 2m - 1, or nothing is left to Lanczos;
- Gauss and Radau (or Lobatto) rules enclose the integral where the derivatives of f have known signs;
- always, with the Chebyshev series :math:`\sum_jc_jT_j` of f on an interval that holds the spectrum,

.. math:: |I-I_G|\le2\lVert\Delta_0\rVert^2\sum_{j\ge2m}|c_j|,

because the Gauss rule integrates the partial sum of degree 2m - 1 exactly, and :math:`|T_j|\le1`. A fourth,
from the residual of the method itself, narrows what these leave wide (:mod:`odeopt.spectra.bracket_rule`,
:mod:`odeopt.spectra.bracket_ode`).

To each belongs an allowance for rounding. The decomposition is exact for H + E, and
:math:`\lVert f(H+E)-f(H)\rVert\le\Lambda\lVert E\rVert` with an operator Lipschitz constant
:math:`\Lambda`, for a Chebyshev series :math:`\frac2{b-a}\sum_jj^2|c_j|`. Where no such constant is known for
a family of functions, nothing is called proved, not even on an exhausted Krylov space. The allowance knows
nothing of :math:`\Delta_0` but its norm, so that it stays where it is while the loss falls, and at 1e-7 of
the start is nearly as large as the loss. The bound from the residual takes E as a force on the iterates
themselves instead, so that its allowance falls with the root of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from odeopt.spectra.block import BlockChain
from odeopt.spectra.lanczos import Chain
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz, lobatto, radau, radau_size

__all__ = ["PERTURBATIONS", "Bracket", "Integrand", "Series", "bessel_zero_bound", "bracket"]

_EPS = float(np.finfo(float).eps)
_BLOCK = 2**22  # entries of a work array: 32 MB of float64
# Perturbations of H that one bound meets: E of the decomposition, the shift of a prescribed node by
# |E| off the spectrum, and its return to the interval.
PERTURBATIONS = 3
# Roundings in the evaluation of f at a node and in the sum over nodes, relative to the value.
_EVALUATION = 64 * _EPS
# An interval without proof of resolution is sampled until the last quarter of the series is this small.
_PLATEAU = 1e-13
_MAX_POINTS = 2**13


class Integrand:
    r"""What is known of functions :math:`f_i(\lambda)\ge0`, one for each of `size` points of a curve.

    Here nothing is: families of functions say more. `covered` tells whether a theorem bounds what rounding of
    the kernel does, `convex` whether all derivatives of even order are nonnegative everywhere, `needs_high`
    whether the signs of derivatives depend on the upper end; `degree` are those of polynomials, `ceiling`
    bounds f, `evaluation` bounds the absolute error of a value of f beside 64 roundings of itself.
    """

    covered: Any = False
    convex = False
    needs_high = True
    degree: np.ndarray | None = None
    ceiling: np.ndarray | float = math.inf
    evaluation: np.ndarray | float = _EVALUATION

    def __init__(self, function: Callable[[np.ndarray, Any], np.ndarray], size: int) -> None:
        # of (N,) eigenvalues and an index of the T points: (rows, N)
        self.values: Callable[[np.ndarray, Any], np.ndarray] = function
        self.size: int = size

    def alternating(self, n: int, high: float) -> np.ndarray:
        r"""For which points :math:`(-1)^nf^{(n)}\ge0` on [0, high], shape (T,)."""
        return np.zeros(self.size, bool)

    def lipschitz(self, low: float, high: float) -> np.ndarray | None:
        """Operator Lipschitz constants on [low, high], shape (T,); None: of the Chebyshev series."""
        return None

    def points(self, low: float, high: float, rows: np.ndarray) -> int | None:
        """How many Chebyshev points resolve f to rounding, by a theorem; None: none is known."""
        return None if self.degree is None else int(self.degree[rows].max()) + 1

    def worth(self, degree: int, high: float) -> np.ndarray:
        """For which points a series from `degree` on may be small; for others none is computed."""
        return np.ones(self.size, bool)


@dataclass(frozen=True)
class Bracket:
    r"""Values :math:`\frac12\int f_i\,d\mu` with bounds; `rounding` is what in each bound allows for it."""

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    proved: np.ndarray
    rounding: np.ndarray

    def narrowed(self, half: np.ndarray, rounding: np.ndarray, proved: np.ndarray | bool) -> Bracket:
        """Return what is left of the bracket within `half` of the value."""
        with np.errstate(invalid="ignore"):
            lower, upper = np.maximum(self.value - half, 0.0), self.value + half
        known = np.isfinite(half)
        lower, upper = np.where(known, lower, 0.0), np.where(known, upper, np.inf)
        return self.met(Bracket(self.value, lower, upper, known & proved, rounding))

    def met(self, other: Bracket) -> Bracket:
        """Intersect two brackets of one value where both are theorems, or none is; else take the theorem."""
        alike = self.proved == other.proved
        theirs = np.where(alike, other.upper - other.lower < self.upper - self.lower, other.proved)
        lower = np.where(theirs, other.lower, self.lower)
        upper = np.where(theirs, other.upper, self.upper)
        return Bracket(
            self.value,
            np.where(alike, np.fmax(self.lower, other.lower), lower),
            np.where(alike, np.fmin(self.upper, other.upper), upper),
            self.proved | other.proved,
            np.where(theirs, other.rounding, self.rounding),
        )


def bracket(integrand: Integrand, measure: SpectralMeasure) -> Bracket:
    r"""Enclose half the integral of each function over a measure.

    >>> from odeopt import spectral_measure
    >>> kernel = np.diag(np.linspace(0, 4, 200))
    >>> measure = spectral_measure(kernel, np.ones(200), num_matvecs=8)
    >>> wave = Integrand(lambda lam, rows: np.cos(lam)[None] ** 2, 1)
    >>> found = bracket(wave, measure)
    >>> bool(found.lower[0] < 0.5 * (np.cos(np.diag(kernel)) ** 2).sum() < found.upper[0]), found.proved
    (True, array([False]))
    """
    chains = [chain for chain in measure.chains if chain.size]
    low, high = measure.interval or (0.0, measure.lam_max)
    series = Series(integrand, low, high, 2 * max((chain.size for chain in chains), default=0))
    parts = [
        _part(integrand, pair, chain, series, measure.interval_proved)
        for pair, chain in zip(measure.pairs, chains or [None], strict=True)
    ]
    value, lower, upper, rounding = (
        np.sum([getattr(part, name) for part in parts], axis=0)
        for name in ("value", "lower", "upper", "rounding")
    )
    proved = np.logical_and.reduce([part.proved for part in parts])
    return Bracket(value, np.maximum(lower, 0.0), upper, proved, rounding)


def _part(
    integrand: Integrand, pair: Ritz, chain: Chain | BlockChain | None, series: Series, interval_proved: bool
) -> Bracket:
    low, high, mass = series.low, series.end, pair.norm**2
    with np.errstate(over="ignore", invalid="ignore"):
        f = integrand.values(pair.values, slice(None))
        value = 0.5 * mass * (f @ pair.start**2)
    value = np.where(np.isnan(value), np.inf, value)
    finite = np.isfinite(value)
    exact = np.full(integrand.size, pair.residual == 0)
    if integrand.degree is not None:
        exact |= integrand.degree <= 2 * pair.steps - 1
    signed_low, signed_high, outer = _signed(integrand, chain, low, high, exact)
    open_ = ~exact & ~(signed_low & signed_high)
    lower, upper, proved = value.copy(), value.copy(), exact.copy()
    if np.any(open_):
        # An iteration that leaves the range of float64 makes inf, and inf - inf, which is replaced below.
        with np.errstate(over="ignore", invalid="ignore"):
            half, whole = mass * series.tail(2 * pair.steps), 0.5 * mass * series.total()
            lower = np.where(open_ & ~signed_low, np.maximum(value - half, 0.0), lower)
            upper = np.where(open_ & ~signed_high, np.minimum(value + half, whole), upper)
    upper = np.where(~exact & signed_high, np.maximum(outer, value), upper)
    by_sign = signed_low & signed_high & (interval_proved or not integrand.needs_high)
    proved |= by_sign | (series.proved & interval_proved)
    with np.errstate(over="ignore", invalid="ignore"):
        rounding = _rounding(integrand, pair, f, series, exact) + _EVALUATION * np.abs(upper)
        lower, upper = lower - rounding, upper + rounding
    # An iteration that left the range of float64, or has no allowance, has no bounds but the trivial ones.
    known = finite & np.isfinite(rounding)
    lower, upper = np.where(known, lower, 0.0), np.where(known, upper, np.inf)
    return Bracket(value, lower, upper, proved & integrand.covered & known, np.where(known, rounding, 0.0))


def _signed(
    integrand: Integrand, chain: Chain | BlockChain | None, low: float, high: float, exact: np.ndarray
):
    """Where Gauss is a lower and an outer rule an upper bound, and the value of that rule."""
    none = np.zeros(integrand.size, bool)
    if exact.all() or not isinstance(chain, Chain):  # of a block no such theorem is known
        return none, none, np.zeros(integrand.size)
    signed_low = integrand.alternating(2 * chain.size, high) | integrand.convex
    # Nodes are prescribed a rounding outside the interval, where T has no eigenvalue.
    node, outer = low - chain.error, np.zeros(integrand.size)
    signed_high = integrand.alternating(2 * radau_size(chain, node) - 1, high)
    if signed_high.any():
        outer = _integral(integrand, *radau(chain, node), low, high)
    if integrand.convex and not signed_high.all():
        ends = _integral(integrand, *lobatto(chain, node, high + chain.error), low, high)
        outer = np.where(signed_high, outer, ends)
        signed_high = np.ones_like(signed_high)
    return signed_low, signed_high, outer


def _integral(integrand: Integrand, nodes, weights, low: float, high: float) -> np.ndarray:
    # Rounding puts a node off the interval by less than the error that the allowance counts.
    with np.errstate(over="ignore", invalid="ignore"):
        result = 0.5 * integrand.values(np.clip(nodes, low, high), slice(None)) @ weights
    return np.where(np.isnan(result), np.inf, result)


def _rounding(
    integrand: Integrand, pair: Ritz, f: np.ndarray, series: Series, exact: np.ndarray
) -> np.ndarray:
    """Of the decomposition, of its vectors, and of the values of f."""
    lipschitz = integrand.lipschitz(series.low, series.end)
    if lipschitz is None and exact.all() and not np.any(integrand.covered):
        # An estimate is enough: what the functions change by where all nodes move.
        moved = [np.maximum(pair.values + shift, 0.0) for shift in (-pair.perturbation, pair.perturbation)]
        change = sum(np.abs(integrand.values(lam, slice(None)) - f) for lam in moved) @ pair.start**2
    else:
        change = pair.perturbation * (series.lipschitz() if lipschitz is None else lipschitz)
    skew = 2 * pair.skew * np.sqrt(f**2 @ pair.start**2) + pair.skew**2 * np.abs(f).max(axis=1)
    return 0.5 * pair.norm**2 * (PERTURBATIONS * change + skew + integrand.evaluation)


class Series:
    """Chebyshev coefficients of all functions on [low, high], computed when first asked for."""

    def __init__(self, integrand: Integrand, low: float, high: float, degree: int):
        self.integrand: Integrand = integrand
        self.low: float = low
        self.end: float = high
        self.rows: np.ndarray = np.flatnonzero(integrand.worth(degree, high))
        # An interval of one point is widened, so that the map to [-1, 1] exists.
        self.high: float = high if high > low else low + max(_EPS * abs(low), 1e-300)
        self.count: int | None = integrand.points(low, high, self.rows) if self.rows.size else 1
        self.proved: bool = self.count is not None
        self._absolute: np.ndarray | None = None

    def absolute(self) -> np.ndarray:
        r"""Return :math:`|c_j|`, shape (len(rows), N)."""
        if self._absolute is None:
            if self.rows.size == 0:
                self._absolute = np.zeros((0, 1))
            else:
                self._absolute = (
                    self._until_plateau() if self.count is None else self._coefficients(_fast(self.count))
                )
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
        """Coefficients of all rows, some at a time on as many points as resolve these."""
        found = np.zeros((self.rows.size, count))
        for rows in np.array_split(np.arange(self.rows.size), -(-self.rows.size * count // _BLOCK)):
            points = self.integrand.points(self.low, self.end, self.rows[rows])
            size = count if points is None else min(_fast(points), count)
            theta = (np.arange(size) + 0.5) * np.pi / size
            lam = self.low + (self.high - self.low) * np.cos(theta / 2) ** 2
            with np.errstate(over="ignore", invalid="ignore"):
                values = self.integrand.values(lam, self.rows[rows])
                found[rows, :size] = np.abs(scipy.fft.dct(values, axis=1)) / size
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


def _fast(points: int) -> int:
    """As many points or some more, of a length without large prime factors, which the transform halves."""
    return int(scipy.fft.next_fast_len(points, real=True))


def bessel_zero_bound(nu: float) -> float:
    r"""Lower bound on the first positive zero :math:`j_{\nu,1}` of :math:`J_\nu`, proved by comparison.

    :math:`y=\sqrt xJ_\nu` solves :math:`y''+(1-x_0^2/x^2)y=0` with :math:`x_0^2=\nu^2-\frac14`. It is
    convex and increasing up to :math:`x_0`; from there to its first zero z the coefficient is at most
    :math:`c^2=1-x_0^2/z^2`, and a solution of :math:`y''+c^2y=0` that begins increasing needs at least
    :math:`\pi/(2c)` to vanish. So :math:`(z-x_0)\sqrt{1-x_0^2/z^2}\ge\pi/2`, whose left side increases.
    """
    if not nu >= 0.5:
        raise ValueError(f"nu must be at least 1/2, got {nu!r}")
    x0 = math.sqrt(nu**2 - 0.25)
    if x0 == 0.0:
        return math.pi / 2

    def excess(z: float) -> float:
        return (z - x0) * math.sqrt(max(1 - (x0 / z) ** 2, 0.0)) - math.pi / 2

    low, high = x0, x0 + 4 + 2 * x0 ** (1 / 3)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return low * (1 - 1e-12)  # of which values below 1e-13 may be rounding
