r"""The solution of a system with a regular pole at t = 0, from its value there to a first time beyond.

.. math:: t\,\dot y=Ey+w(t,y),\qquad y(t)=b(t)+t^{a/q}\,p(t^{1/q}),

with a numeric matrix E, known data b and w = O(t^{a/q}). The polynomial p is found by collocation,
:math:`(\theta+\frac aq-E)p=t^{-a/q}w`, :math:`\theta=t\,\mathrm d/\mathrm dt`, iterated in w: for linear
systems a Frobenius series, and as good for any smooth w, of which no derivative is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

__all__ = ["NODES", "RegularStart", "regular_start"]

NODES = 20
_MOST_SWEEPS = 40
# The interval is shortened by this factor until the series on it has converged; at most so often.
_SHORTER, _MOST_TRIALS = 8.0, 60


@dataclass(frozen=True)
class RegularStart:
    r"""A solution on [0, time], shape (N, d) at each moment."""

    time: float
    base: Callable[[float], np.ndarray]
    first: int
    root: int
    values: np.ndarray  # of the polynomial p at the nodes, shape (M, N, d), in units of time^(a/q)

    def __call__(self, t: float) -> np.ndarray:
        x = (t / self.time) ** (1 / self.root)
        return self.base(t) + x**self.first * self._polynomial(x)

    def leading(self) -> np.ndarray:
        """p(0), shape (N, d)."""
        return self._polynomial(0.0)

    def _polynomial(self, x: float) -> np.ndarray:
        """Barycentric interpolation."""
        gaps = x - _nodes()
        if np.any(gaps == 0):
            return self.values[int(np.argmin(np.abs(gaps)))]
        weights = 1 / (_slopes() * gaps)
        return np.tensordot(weights / weights.sum(), self.values, axes=1)


def regular_start(
    remainder: Callable[[float, np.ndarray], np.ndarray],
    base: Callable[[float], np.ndarray],
    euler: np.ndarray,
    *,
    first: int,
    root: int = 1,
    longest: float,
    tolerance: float,
    scales: Sequence[int],
    guess: Callable[[float], np.ndarray] | None = None,
) -> RegularStart | None:
    """Find the start on the longest interval on which it converges; None if there is no such.

    `remainder(t, y)` is w; `scales[i]` is the row of y by whose size the error of row i is measured; `guess`
    is where the iteration begins, if not at b.
    """
    size = len(euler)
    nodes, theta = _nodes(), _theta()
    operator = np.kron(theta / root, np.eye(size)) + np.kron(
        np.eye(NODES), first / root * np.eye(size) - euler
    )
    factors = scipy.linalg.lu_factor(operator)
    time = longest
    with np.errstate(all="ignore"):
        for _ in range(_MOST_TRIALS):
            trial = _Trial(remainder, base, time * nodes**root, nodes**first, factors, scales)
            values = trial.converge(tolerance, guess or base)
            if values is not None:
                return RegularStart(time, base, first, root, values)
            time /= _SHORTER
    return None


class _Trial:
    """The iteration on one interval."""

    def __init__(self, remainder, base, times, lift, factors, scales):
        self.remainder, self.times, self.factors = remainder, times, factors
        self.scales = list(scales)
        self.lift = lift[:, None, None]
        self.base = np.array([base(t) for t in times])

    def converge(self, tolerance: float, guess: Callable[[float], np.ndarray]) -> np.ndarray | None:
        """Values of p at the nodes; None where they do not converge, or to no polynomial."""
        values = (np.array([guess(t) for t in self.times]) - self.base) / self.lift
        first_change = None
        for _ in range(_MOST_SWEEPS):
            states = self.base + self.lift * values
            w = np.array([self.remainder(t, y) for t, y in zip(self.times, states, strict=True)])
            if not np.all(np.isfinite(w)):
                return None
            shape = values.shape
            new = scipy.linalg.lu_solve(self.factors, (w / self.lift).reshape(shape[0] * shape[1], -1))
            new = new.reshape(shape)
            change, values = np.abs(new - values).max(axis=(0, 2)), new
            sizes = np.abs(self.base + self.lift * values).max(axis=(0, 2))[self.scales]
            if not np.all(np.isfinite(sizes)):
                return None
            allowed = tolerance * np.maximum(sizes, np.finfo(float).tiny)
            if np.all(change <= 0.1 * allowed):
                tail = np.abs(np.einsum("mk,knd->mnd", _to_chebyshev()[-3:], values)).max(axis=(0, 2))
                return values if np.all(tail <= allowed) else None
            if first_change is None:
                first_change = change.max()
            elif change.max() > first_change:
                return None
        return None


@functools.cache
def _nodes() -> np.ndarray:
    """Chebyshev-Radau nodes on (0, 1], the end included and the pole left out."""
    return (1 + np.cos(2 * np.pi * np.arange(NODES) / (2 * NODES - 1))) / 2


@functools.cache
def _slopes() -> np.ndarray:
    """The product of the distances from each node to the others."""
    x = _nodes()
    return (x[:, None] - x[None, :] + np.eye(x.size)).prod(axis=1)


@functools.cache
def _theta() -> np.ndarray:
    """The matrix of x d/dx on polynomials given at the nodes."""
    x, slopes = _nodes(), _slopes()
    gaps = x[:, None] - x[None, :] + np.eye(x.size)
    matrix = slopes[:, None] / slopes[None, :] / gaps
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, (1 / gaps).sum(axis=1) - 1)
    return x[:, None] * matrix


@functools.cache
def _to_chebyshev() -> np.ndarray:
    """Chebyshev coefficients on [0, 1] from values at the nodes."""
    return np.linalg.inv(np.polynomial.chebyshev.chebvander(2 * _nodes() - 1, NODES - 1))
