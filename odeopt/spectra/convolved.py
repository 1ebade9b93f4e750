"""Convolutions of bounds: sums of sizes, each to a few roundings of itself."""

from __future__ import annotations

import numpy as np

__all__ = ["convolved"]


def convolved(size: np.ndarray, force: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Entries of the convolution of two bounds, 0 at negative places; inf times 0 bounds nothing, inf."""
    if not places.size or places[-1] < 0 or (not force.any() and np.all(np.isfinite(size))):
        return np.zeros(places.size)
    with np.errstate(over="ignore", invalid="ignore"):
        if places.size > size.size / 16:
            sums = np.where(
                places >= 0, _causal(size, force, int(places[-1]) + 1)[np.maximum(places, 0)], 0.0
            )
        else:
            backwards, starts = size[::-1].copy(), np.maximum(places, -1)
            sums = np.array([_overlap(backwards[size.size - 1 - p :], force[: p + 1]) for p in starts])
    return np.where(np.isnan(sums), np.inf, sums)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[: b.size] @ b[: a.size])


def _causal(size: np.ndarray, force: np.ndarray, count: int) -> np.ndarray:
    r"""First entries of a convolution: of blocks of B entries the products :math:`y_n=\sum_lT_lf_{n-l}`."""
    if force.size < count or not np.all(np.isfinite(force)):  # what is not finite spreads over its block
        return np.convolve(size, force)[:count]
    block = int(np.ceil(np.sqrt(count)))
    blocks = -(-count // block)
    forces, padded = np.zeros(blocks * block), np.zeros((blocks + 1) * block)
    forces[:count] = force[:count]
    padded[block : block + min(count, size.size)] = size[:count]
    forces, found = forces.reshape(blocks, block), np.zeros((blocks, block))
    tiles = np.lib.stride_tricks.sliding_window_view(padded[1:], block)[:, ::-1]
    for lag in range(blocks):
        tile = np.ascontiguousarray(tiles[lag * block : (lag + 1) * block])
        found[lag:] += forces[: blocks - lag] @ tile.T
    return found.ravel()[:count]
