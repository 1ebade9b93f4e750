r"""The upper envelope of a loss curve: what an oscillating curve decays like."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["upper_envelope"]

# With fewer dominant peaks than this a line through them means little; all touching points are kept.
_MIN_PEAKS = 8


def upper_envelope(x: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Points at which a curve touches its smallest nonincreasing majorant."""
    x, loss = np.asarray(x, dtype=float), np.asarray(loss, dtype=float)
    touching = _suffix_maxima(loss)
    inner = np.zeros_like(touching)
    inner[1:-1] = (loss[1:-1] >= loss[:-2]) & (loss[1:-1] > loss[2:])
    peaks = np.flatnonzero(inner)
    if peaks.size:
        place, height = _refined_peaks(x, loss, peaks)
        dominant = _suffix_maxima(height)
        if _reach_the_end(place[dominant], x[-1]):
            return place[dominant], height[dominant]
    # A monotone curve, or one that wiggles without peaks enough for a line, is its own envelope.
    return x[touching], loss[touching]


def _reach_the_end(peaks: np.ndarray, end: float) -> bool:
    """Whether there are peaks enough, and up to the end: an oscillation may die out before the decay."""
    return peaks.size >= _MIN_PEAKS and end - peaks[-1] <= 3 * np.max(np.diff(peaks[-_MIN_PEAKS:]))


def _suffix_maxima(values: np.ndarray) -> np.ndarray:
    """Where no later value is larger, up to the error 1e-3 of a refined peak."""
    later = np.maximum.accumulate(values[::-1])[::-1]
    return values >= later * (1 - 1e-3)


def _refined_peaks(x: np.ndarray, loss: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the parabolas through log loss at each peak and its neighbours."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(loss)
        left, right = x[peaks - 1] - x[peaks], x[peaks + 1] - x[peaks]
        down, up = (y[peaks - 1] - y[peaks]) / left, (y[peaks + 1] - y[peaks]) / right
        curvature = (up - down) / (right - left)
        slope = down - curvature * left
        shift = -slope / (2 * curvature)
        top = y[peaks] - slope**2 / (4 * curvature)
    sound = np.isfinite(shift) & np.isfinite(top) & (shift >= left) & (shift <= right)
    return x[peaks] + np.where(sound, shift, 0.0), np.exp(np.where(sound, top, y[peaks]))
