r"""Functions of time that stand for many at once: bounds on panels, by Chebyshev series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy

__all__ = ["PANEL_POINTS", "PANEL_RATIO", "panel_bounds"]

# Chebyshev points of a panel of time, and the ratio of its ends. On such a panel the series of a decay
# exp(-x) has no further coefficients above 1e-20.
PANEL_POINTS, PANEL_RATIO = 36, 1.25


def panel_bounds(
    function: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, ends: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    r"""Bound :math:`|\sum_ie_if_i(t)|` and :math:`(\sum_iw_if_i(t)^2)^{1/2}` on panels of time.

    The e_i are vectors, `ends` (N, L); the sum of the absolute Chebyshev coefficients of a function is at
    least its largest value.

    >>> wave = lambda t: np.stack([np.cos(t), np.sin(t)], axis=1)
    >>> largest, size = panel_bounds(wave, np.array([0.0, 1.0]), np.ones((2, 1)), np.ones(2))
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
        largest[block] = np.linalg.norm(_chebyshev_sums(values @ ends), axis=-1)
        size[block] = np.sqrt(_chebyshev_sums(values) ** 2 @ start)
    return largest, size


def _chebyshev_sums(values: np.ndarray) -> np.ndarray:
    """Sum of the absolute coefficients of polynomials given at Chebyshev points along axis 1."""
    found = np.abs(scipy.fft.dct(values, axis=1)) / values.shape[1]
    found[:, 0] /= 2
    return found.sum(axis=1)
