r"""A bound from the residual that Lanczos leaves in a discrete method, sharp where Lanczos has converged.

Run on the Lanczos matrix, the iterates :math:`\tilde x_k=Q\,\xi_k` obey the rule with the gradient
:math:`(H+E)\tilde y_k-\beta_mq_{m+1}\,e_m^\top\eta_k`, where :math:`\tilde y_k=Q\eta_k` is where step k
takes it: of :math:`(H+E)Q=QT+\beta_mq_{m+1}e_m^\top`, with E from the rounding of Lanczos, the last term is
missing. The rule is linear, so that

.. math::
    x_K-\tilde x_K=\sum_{j<K}G_{K,j}(H)\,(q_{m+1}\,\beta_m\,e_m^\top\eta_j-E\tilde y_j),\qquad
    \lVert x_K-\tilde x_K\rVert\le\sum_j\max_{[a,b]}|G_{K,j}|\,
        \bigl(\beta_m|e_m^\top\eta_j|+\lVert E\rVert\lVert\tilde y_j\rVert\bigr)=:\epsilon_K,

with the response :math:`G_{K,j}(\lambda)` of iterate K to a unit gradient added in step j, which the rule's
own step yields. As :math:`\tfrac12\lVert\tilde x_K\rVert^2` is the Gauss value,
:math:`|L_K-L_K^{\rm Gauss}|\le\lVert\tilde x_K\rVert\epsilon_K+\tfrac12\epsilon_K^2`. The a priori bound
of :mod:`odeopt.spectra.bracket` knows the degree of a polynomial alone; this one sees how small the last
component is, and its allowance for rounding falls with :math:`\lVert\tilde x_K\rVert`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import scipy.fft

from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.linear import degrees, descent_speed, residual_polynomials
from odeopt.rules.reading import require_linear
from odeopt.spectra.bracket import Integrand
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz, ritz

__all__ = ["PANEL_POINTS", "PANEL_RATIO", "panel_bounds", "residual_half_widths"]

_EPS = float(np.finfo(float).eps)
# Entries of all responses together: where steps depend on k, each step has its own. Iterations beyond have no
# bound.
_MOST_STEADY, _MOST_CHANGING = 7000, 500
# Points for each degree of a response. On M Chebyshev points a polynomial of degree N < M is seen up to a
# factor cos(pi N / 2M) (Ehlich and Zeller, Math. Z. 86, 1964).
_OVERSAMPLING = 2
# Chebyshev points of a panel of time, and the ratio of its ends. On such a panel the series of a decay
# exp(-x) has no further coefficients above 1e-20.
PANEL_POINTS, PANEL_RATIO = 36, 1.25
# Steps of a descent that are panels of their own.
_SINGLE = 8
# Steps from which a steady rule repeats itself; the first may be others.
_SETTLED = 2


def residual_half_widths(
    rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure
) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound the distance of the Gauss loss from the true one at each iteration.

    Examples
    --------
    >>> from odeopt import HeavyBall, spectral_measure
    >>> kernel = np.diag(0.5 ** np.arange(50.0))
    >>> measure = spectral_measure(kernel, np.ones(50), num_matvecs=15)
    >>> half, rounding = residual_half_widths(HeavyBall(1.0, 0.5), np.array([60]), measure)
    >>> bool(half[0] < 1e-6), bool(rounding[0] < 1e-8)
    (True, True)
    """
    half, rounding = np.full(k.size, np.inf), np.full(k.size, np.inf)
    steady = _is_steady(rule)
    if steady is None:
        return half, rounding
    pairs = [ritz(chain, *measure.interval) for chain in measure.chains if chain.size]
    descent = _Descent.of(rule, measure.interval) if steady else None
    if descent is not None:
        half, rounding = np.sum([descent.half_widths(k, found) for found in pairs], axis=0)
        return half, rounding
    within = k <= (_MOST_STEADY if steady else _MOST_CHANGING)
    if not within.any():
        return half, rounding
    wanted, place = np.unique(k[within], return_inverse=True)
    responses = _Responses(rule, wanted, steady, measure.interval)
    found = np.sum([_half_widths(rule, wanted, pair, responses) for pair in pairs], axis=0)
    half[within], rounding[within] = found[:, place]
    return half, rounding


def _half_widths(rule: UpdateRule, k: np.ndarray, found: Ritz, responses: _Responses) -> np.ndarray:
    points, iterates = _gradient_points(rule, found.values, int(k[-1]))
    ends, start = found.vectors[-1] * found.vectors[0], found.vectors[0] ** 2
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        residual = found.residual * np.abs(points @ ends)
        # A polynomial of degree below m - 1 in T has no entry (m, 1).
        residual[: start.size - 1] = 0.0
        largest = np.abs(points).max(axis=1, initial=0.0)
        # Of sums in which values cancel, and of the vectors of T, whose first and last rows meet here.
        noise = 64 * _EPS * (np.abs(points) @ np.abs(ends)) + 3 * found.skew * largest
        size = np.sqrt(iterates**2 @ start)
        # A step rounds its terms, which are differences of iterates: as if its gradient were off.
        before = np.concatenate([size[:1], size[:-2]])
        step = 8 * _EPS * (size[1:] + 2 * size[:-1] + before[: size.size - 1]) / responses.first
        met = np.sqrt(points**2 @ start) + found.skew * largest
        rounded = found.residual * noise + found.perturbation * met + step
        from_residual, rounding = (found.norm * responses.bound(force) for force in (residual, rounded))
        rounding += found.norm * (found.skew * np.abs(iterates[k]).max(axis=1))
        return _widths(found.norm * size[k], from_residual, rounding)


def _widths(now: np.ndarray, from_residual: np.ndarray, rounding: np.ndarray) -> np.ndarray:
    """From bounds on the distance of iterates to those on the loss, with and without the residual."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = [now * e + e**2 / 2 + 64 * _EPS * now**2 for e in (from_residual + rounding, rounding)]
    return np.where(np.isnan(found), np.inf, found)


class _Descent:
    r"""Gradient descent, x_(k+1) = p(lam) x_k with an affine p of size at most 1, for any number of steps.

    The response to a gradient never grows, and the iterates decay as :math:`e^{-\mu j}`, so that sums over
    steps are bounded on panels of j, as integrals over time are for an ODE.
    """

    def __init__(self, factor: Callable[[np.ndarray], np.ndarray], first: float, point: float):
        self.factor, self.first, self.point = factor, first, point

    @classmethod
    def of(cls, rule: UpdateRule, interval: tuple[float, float]) -> _Descent | None:
        """Return what is known of a steady rule; None if it is no descent, or not a stable one."""
        ends = np.array(interval)
        if rule.history != 1 or rule.initial_memory(ends):
            return None
        points, iterates = _gradient_points(rule, ends, 4)
        # a rule that is steady from the first step on: equal up to the rounding of four steps
        if (
            not np.allclose(iterates[4], iterates[1] ** 4, rtol=1e-13, atol=1e-13)
            or np.abs(iterates[1]).max() > 1
        ):
            return None
        first = float(np.abs(next(_impulse(rule, ends, 0))[0]))
        return cls(lambda lam: _gradient_points(rule, lam, 1)[1][1], first, float(np.abs(points[0, 0])))

    def half_widths(self, k: np.ndarray, found: Ritz) -> np.ndarray:
        count = max(0, int(np.ceil(np.log(max(k.max() / _SINGLE, 1)) / np.log(PANEL_RATIO))))
        later = np.ceil(_SINGLE * PANEL_RATIO ** np.arange(1, count + 1))
        edges = np.concatenate([np.arange(_SINGLE + 1.0), later])
        factor = self.factor(found.values)
        residual, size = self._largest(edges, factor, found)
        # A polynomial of degree below m - 1 in T has no entry (m, 1).
        residual[edges[1:] <= factor.size - 1] = 0.0
        noise = 64 * _EPS * np.abs(found.vectors[-1] * found.vectors[0]).sum() + 3 * found.skew
        met = self.point * (size + found.skew)
        # a step rounds its terms: as if its gradient were off
        rounded = found.residual * self.point * noise + found.perturbation * met
        if self.first > 0:
            rounded += 32 * _EPS * size / self.first
        shares = np.diff(np.minimum(edges, k[:, None]), axis=1)
        from_residual, rounding = (
            self.first * found.norm * (shares @ force)
            for force in (found.residual * self.point * residual, rounded)
        )
        rounding += found.norm * found.skew
        now = found.norm * np.sqrt(np.abs(factor) ** (2 * k[:, None]) @ found.vectors[0] ** 2)
        return _widths(now, from_residual, rounding)

    def _largest(self, edges: np.ndarray, factor: np.ndarray, found: Ritz) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on |e_m' p(T)^j e_1| and |p(T)^j e_1| for the steps j of each panel."""
        ends, start = found.vectors[-1] * found.vectors[0], found.vectors[0] ** 2
        single = factor ** np.arange(_SINGLE)[:, None]
        begun = edges[_SINGLE:-1, None]
        # Of factors that alternate, or underflow, only the size is used.
        plain = factor > 1e-100
        rest = np.abs(factor[~plain]) ** begun
        decay = -np.log(factor[plain])
        residual, size = panel_bounds(
            lambda j: np.exp(-j[:, None] * decay), edges[_SINGLE:], ends[plain], start[plain]
        )
        residual += rest @ np.abs(ends[~plain])
        size = np.sqrt(size**2 + rest**2 @ start[~plain])
        return (
            np.concatenate([np.abs(single @ ends), residual]),
            np.concatenate([np.sqrt(single**2 @ start), size]),
        )


def panel_bounds(
    function: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, ends: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound :math:`|\sum_ie_if_i(t)|` and :math:`(\sum_iw_if_i(t)^2)^{1/2}` on panels of time.

    The sum of the absolute Chebyshev coefficients of a function is at least its largest value.

    Examples
    --------
    >>> wave = lambda t: np.stack([np.cos(t), np.sin(t)], axis=1)
    >>> largest, size = panel_bounds(wave, np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.ones(2))
    >>> bool(np.sqrt(2) < largest[0] < 1.6), bool(1 < size[0] < 1.6)
    (True, True)
    """
    theta = (np.arange(PANEL_POINTS) + 0.5) * np.pi / PANEL_POINTS
    inside = np.cos(theta / 2) ** 2
    largest, size = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    rows = max(1, 2**20 // (PANEL_POINTS * max(1, start.size)))
    for begin in range(0, largest.size if start.size else 0, rows):
        block = slice(begin, min(begin + rows, largest.size))
        times = edges[block, None] + np.diff(edges)[block, None] * inside
        values = function(times.ravel()).reshape(*times.shape, -1)
        largest[block] = _chebyshev_sums(values @ ends)
        size[block] = np.sqrt(_chebyshev_sums(values) ** 2 @ start)
    return largest, size


def _chebyshev_sums(values: np.ndarray) -> np.ndarray:
    """Sum of the absolute coefficients of polynomials given at Chebyshev points along axis 1."""
    found = np.abs(scipy.fft.dct(values, axis=1)) / values.shape[1]
    found[:, 0] /= 2
    return found.sum(axis=1)


def _gradient_points(rule: UpdateRule, lam: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each step takes its gradient, shape (last, m), and the iterates, shape (last + 1, m)."""
    points = []

    def grad(z):
        points.append(z)
        return lam * z

    with np.errstate(over="ignore", invalid="ignore"):
        iterates = list(itertools.islice(iterate(rule, np.ones_like(lam), grad), last + 1))
    return np.array(points).reshape(-1, lam.size), np.array(iterates)


class _Responses:
    """Bounds on |G_(K,j)| over the interval, j = 0 ... K - 1, for iterates K = k."""

    def __init__(self, rule: UpdateRule, k: np.ndarray, steady: bool, interval: tuple[float, float]):
        self.k, self.last = k, int(k[-1])
        low, high = interval
        count = _OVERSAMPLING * self.last
        theta = (np.arange(count) + 0.5) * np.pi / count
        lam = low + (high - low) * np.cos(theta / 2) ** 2
        self.steady = steady
        with np.errstate(over="ignore", invalid="ignore"):
            if steady:
                starts = range(min(_SETTLED + 1, self.last))
                self.sizes = [_after_each_step(rule, lam, j, self.last - j) for j in starts]
                first = [size[0] for size in self.sizes]
                self.first = np.array(first + first[-1:] * (self.last - len(first)))
            else:
                self.sizes, self.first = _of_each_step(rule, lam, k)

    def bound(self, force: np.ndarray) -> np.ndarray:
        """Return the sum over j of |G_(K,j)| force_j for each K, shape (len(k),)."""
        if not self.steady:
            return self.sizes @ force
        total = np.zeros(self.last + 1)
        for j, size in enumerate(self.sizes[:_SETTLED]):
            total[j + 1 :] += size * force[j]
        if len(self.sizes) > _SETTLED:
            size = self.sizes[_SETTLED]
            total[_SETTLED + 1 :] += np.convolve(size, force[_SETTLED:])[: size.size]
        return total[self.k]


def _after_each_step(rule: UpdateRule, lam: np.ndarray, j: int, count: int) -> np.ndarray:
    """Bounds on the response of x_(j+1), x_(j+2), ... over the interval."""
    seen = [np.abs(x).max() for x in itertools.islice(_impulse(rule, lam, j), count)]
    return np.array(seen) / _share_seen(np.arange(count), lam.size)


def _of_each_step(rule: UpdateRule, lam: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on |G_(K,j)|, shape (len(k), last), and |G_(j+1,j)|: all impulses in one run, a row for each."""
    last = int(k[-1])
    zero = np.zeros((last, lam.size))
    iterates, memory = (zero,) * rule.history, rule.initial_memory(zero)
    sizes, first = np.zeros((k.size, last)), np.empty(last)
    wanted = dict(zip(k.tolist(), range(k.size), strict=True))
    for step in range(last):
        kick = np.zeros((last, 1))
        kick[step] = 1.0
        x, memory = rule.step(step, iterates, memory, lambda z, kick=kick: lam * z + kick)
        iterates = (x, *iterates[:-1])
        first[step] = np.abs(x[step, 0])
        if step + 1 in wanted:
            seen = np.abs(x[: step + 1]).max(axis=1)
            sizes[wanted[step + 1], : step + 1] = seen / _share_seen(step - np.arange(step + 1), lam.size)
    return sizes, first


def _share_seen(degree: np.ndarray, points: int) -> np.ndarray:
    """Of the largest value of a polynomial on an interval, what Chebyshev points show at least."""
    return np.cos(np.pi * degree / (2 * points))


def _impulse(rule: UpdateRule, lam: np.ndarray, j: int) -> Iterator[np.ndarray]:
    """Yield what a unit gradient added in step j makes of x_(j+1), x_(j+2), ..."""
    zero = np.zeros_like(lam)
    kicks = iter(itertools.chain([1.0], itertools.repeat(0.0)))
    states = rule.states_from(
        j, (zero,) * rule.history, rule.initial_memory(zero), lambda z: lam * z + next(kicks)
    )
    return (iterates[0] for iterates, _ in itertools.islice(states, 1, None))


def _is_steady(rule: UpdateRule) -> bool | None:
    """Whether the step is the same for all late k; None if it takes another number of gradients than one."""
    reading = require_linear(rule, "residual polynomials")
    if reading.calls != {1}:
        return None
    return reading.steady_from is not None and reading.steady_from <= _SETTLED and reading.period == 1


def _rule_integrand(rule: UpdateRule, k: np.ndarray, scale: float) -> Integrand:
    """Squares of the residual polynomials at the iterations k, with what is known of them."""

    def values(lam, rows):
        with np.errstate(over="ignore", invalid="ignore"):
            return residual_polynomials(rule, lam, k[rows]) ** 2

    nowhere = np.zeros(k.size, bool)
    known = {"degree": 2 * degrees(rule, k), "alternating": lambda n, high: nowhere}
    speed = descent_speed(rule)
    if speed is not None:
        # (1 - c lam)^(2k) is completely monotone up to 1/c, and its even derivatives never change sign
        known["alternating"] = lambda n, high: np.full(k.size, speed * high <= 1)
        known["convex"] = True

        def lipschitz(low, high):
            with np.errstate(over="ignore"):
                return 2 * k * speed * max(1.0, abs(1 - speed * high)) ** np.maximum(2 * k - 1, 0)

        known["lipschitz"] = lipschitz
    # k steps of the recursion round some k times, relative to values of at most 1 where it is stable
    return Integrand(values, k.size, evaluation=4 * np.finfo(float).eps * k, **known)
