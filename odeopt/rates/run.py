r"""One run of a finite number of steps on a whole interval of eigenvalues, by exact propagation.

The residual polynomials :math:`P_0,\dots,P_K` are computed on a mesh of equidistant theta,
:math:`\lambda=a+(b-a)\sin^2\frac\theta2`, which is refined where it matters. Between two of its points,
h apart, :math:`|P_k|` exceeds the larger of their values by at most :math:`\frac{h^2}8d_k^2B`, because
:math:`P_k` is a trigonometric polynomial of its degree :math:`d_k` in theta (Bernstein); of their maximum B
N intervals of [0, pi] show at least :math:`\cos(\pi d/2N)B` (Ehlich and Zeller, Math. Z. 86, 1964).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import degrees
from odeopt.rules.loop import first_memory
from odeopt.rules.reading import require_linear
from odeopt.spectra.responses import Matrices, advanced, step_floats

__all__ = ["Largest", "Run", "places"]

# Intervals of the first mesh for each degree, and parts into which an interval is refined.
_INTERVALS, _PARTS = 4, 8
# The same of the mesh that bounds all at first; powers of 2 and sections in the search for a limit.
_COARSE, _OCTAVES, _SECTIONS = 2, 100, 129
# Relative to a largest value: how far its bound may be above it. Evaluations round by less.
RESOLUTION = 1e-8
# Eigenvalues at a time, so that the state of all stays in the cache, and points of all refinements together.
_BLOCK, _MOST_POINTS = 2**14, 2**22


@dataclass(frozen=True)
class Largest:
    """The largest of the values met, a bound on all, and where it stands."""

    value: float
    bound: float
    step: int
    lam: float


class Run:
    """The steps 0, ..., K - 1 of a linear rule, as matrices.

    >>> from odeopt import GradientDescent
    >>> found = Run(GradientDescent(0.5), 3).largest(0.0, 6.0)  # (1 - 0.5 * 6)^3
    >>> found.value, found.step, found.lam
    (8.0, 3, 6.0)
    """

    def __init__(self, rule: UpdateRule, steps: int) -> None:
        reading = require_linear(rule, "residual polynomials", k=steps)
        self.steps: int = steps
        self.matrices: list[Matrices] = step_floats(reading, steps)
        self.degree: np.ndarray = degrees(rule, np.arange(steps + 1)).astype(float)
        memory = first_memory(rule, 1.0) or ()
        self.start: np.ndarray = np.array([1.0] * rule.history + [float(m) for m in memory])

    def sizes(self, lam: np.ndarray, slack: float, *, last: bool = False) -> tuple[np.ndarray, ...]:
        r"""Maxima over k (or of the last k alone) of :math:`|P_k|` and of that and slack d_k^2, and the k."""
        found = [
            self._sizes(lam[i : i + _BLOCK], slack * self.degree**2, last) for i in range(0, lam.size, _BLOCK)
        ]
        size, above, step = map(np.concatenate, zip(*found, strict=True))
        return size, above, step

    def _sizes(self, lam: np.ndarray, slack: np.ndarray, last: bool) -> tuple[np.ndarray, ...]:
        state = np.repeat(self.start[:, None], lam.size, axis=1)
        size, above, step = np.abs(state[0]), np.abs(state[0]) + slack[0], np.zeros(lam.size, dtype=int)
        with np.errstate(over="ignore", invalid="ignore"):
            for k, matrices in enumerate(self.matrices, start=1):
                state = advanced(matrices, lam, state)
                if last and k < self.steps:
                    continue
                now = np.abs(state[0])
                now[np.isnan(now)] = np.inf
                if last:
                    return now, now + slack[k], np.full(lam.size, k)
                step[now > size] = k
                size, above = np.maximum(size, now), np.maximum(above, now + slack[k])
        return size, above, step

    def ceiling(self, low: float, high: float, *, last: bool = False) -> float:
        """A bound on all polynomials over [low, high], or on the last, from a coarse mesh."""
        theta = self.mesh(_COARSE)
        size, _, _ = self.sizes(places(theta, low, high), 0.0, last=last)
        return float(size.max()) / math.cos(self.degree[-1] * theta[1] / 2)

    def largest(self, low: float, high: float, level: float = 0.0, *, last: bool = False) -> Largest:
        """Maximum over [low, high] of all k, or of the last; left coarse where it is below `level`."""
        limit = self.ceiling(low, high, last=last)
        theta = self.mesh(_INTERVALS)[None]
        width = theta[0, 1]
        best, closed, points = Largest(-1.0, math.inf, 0, low), 0.0, theta.size
        while True:
            slack = width**2 / 8 * limit if high > low and math.isfinite(limit) else 0.0
            lam = places(theta, low, high)
            size, above, step = (v.reshape(theta.shape) for v in self.sizes(lam.ravel(), slack, last=last))
            top = np.unravel_index(np.argmax(size), size.shape)
            if size[top] > best.value:
                best = Largest(float(size[top]), math.inf, int(step[top]), float(lam[top]))
            if not math.isfinite(limit):
                return best
            between = np.maximum(above[:, :-1], above[:, 1:])
            wide = between > max(best.value, level) * (1 + RESOLUTION)
            points += int(wide.sum()) * (_PARTS - 1)
            if not wide.any() or points > _MOST_POINTS:
                return dataclasses.replace(best, bound=min(limit, max(closed, float(between.max()))))
            closed = max(closed, float(between[~wide].max(initial=0.0)))
            left, right = theta[:, :-1][wide], theta[:, 1:][wide]
            theta = left[:, None] + (right - left)[:, None] * np.linspace(0, 1, _PARTS + 1)
            width /= _PARTS

    def first_above(self, growth: float) -> Largest | None:
        """Smallest eigenvalue from which on an iterate exceeds `growth`; None if none ever does."""
        level, top = growth * (1 + RESOLUTION), self._octave(growth)
        while top is not None:
            found = self._crossing(places(self.mesh(_INTERVALS), 0.0, top), level)
            below = self.largest(0.0, found.lam, level)
            if below.value <= level:
                return dataclasses.replace(found, bound=below.bound)
            top = below.lam
        return None

    def seen_above(self, growth: float) -> float | None:
        """The same as a coarse mesh shows it, which is never too small."""
        top = self._octave(growth)
        if top is None:
            return None
        return self._crossing(places(self.mesh(_COARSE), 0.0, top), growth * (1 + RESOLUTION)).lam

    def _octave(self, growth: float) -> float | None:
        octaves = np.exp2(np.arange(-_OCTAVES, _OCTAVES + 1.0))
        over = np.flatnonzero(self.sizes(octaves, 0.0)[0] > growth * (1 + RESOLUTION))
        return float(octaves[over[0]]) if over.size else None

    def _crossing(self, lam: np.ndarray, level: float) -> Largest:
        """The first place on a grid, of which the last point is above the level, narrowed to rounding."""
        while True:
            size, _, step = self.sizes(lam, 0.0)
            first = int(np.argmax(size > level))
            low, high = float(lam[max(first - 1, 0)]), float(lam[first])
            if high - low <= 1e-14 * high:
                return Largest(float(size[max(first - 1, 0)]), math.inf, int(step[first]), low)
            lam = np.linspace(low, high, _SECTIONS)

    def mesh(self, intervals: int) -> np.ndarray:
        """Points in theta, so many for each degree."""
        return np.linspace(0, math.pi, max(intervals * int(self.degree[-1]), 1) + 1)


def places(theta: np.ndarray, low: float, high: float) -> np.ndarray:
    """Eigenvalues of a mesh in theta."""
    return low + (high - low) * np.sin(theta / 2) ** 2
