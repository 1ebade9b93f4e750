r"""A kernel between two sets of inputs as an array: by several threads, in tiles that the caches hold.

A cosine of unit rows is wrong by some eps, and the angle by :math:`\epsilon/\sin\theta`: at most 7 eps up to
cosines of 0.99. Nearer to 0 and pi it follows from half-angles,
:math:`\tan\tfrac\theta2=\lVert u-v\rVert/\lVert u+v\rVert`. Both engines keep to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from odeopt.kernels.inputs import index_chunks
from odeopt.kernels.products import share_by
from odeopt.kernels.threads import allowed_threads, in_order

__all__ = ["Write", "kernel_between"]

# Sides of a tile, and rows of it that are passed through a formula in numpy at a time.
_SIDE, _ROWS = 512, 128
_STEEP = 0.99
# From so many entries on numba saves about the half second that it takes to load.
MANY = 2**26

# See :func:`odeopt.kernels.compiled.compiled_entries`.
Write = Callable[..., tuple[float, int, int]]


class _Formula(Protocol):
    """What is taken of :class:`odeopt.kernels.blocks.Formula`."""

    def entries(self, cosine: Any, overlap: Any, left: Any, right: Any) -> Any: ...
    def diagonal(self, norms: Any) -> Any: ...
    def compiled(self) -> Write | None: ...


def kernel_between(
    left: tuple[np.ndarray, np.ndarray],
    right: tuple[np.ndarray, np.ndarray],
    formula: _Formula,
    whole: int = 0,
) -> np.ndarray:
    """Entries from directions and norms, of `whole` in all; symmetric to the last bit if both are one."""
    (unit, norms), (other, norms2), same = left, right, right is left
    gram = np.empty((len(norms), len(norms2)))
    fast = max(gram.size, whole) >= MANY and share_by("numba", "float64")[1] == "numba"
    write = formula.compiled() if fast else None

    def fill(corner: tuple[int, int]) -> None:
        here, there = (slice(k, k + _SIDE) for k in corner)
        u, v, p, q = unit[here], other[there], norms[here], norms2[there]
        cosines, rows = u @ v.T, gram[here]
        if write is not None:
            if write(cosines, 0, len(u), p, q, rows, there.start, _STEEP)[2]:
                i, j = np.nonzero(np.abs(cosines) > _STEEP)
                near = np.clip(cosines[i, j], -1, 1)
                rows[i, there.start + j] = formula.entries(near, _near_angles(u, v, i, j), p[i], q[j])
        else:
            for top in range(0, len(u), _ROWS):
                part = slice(top, top + _ROWS)
                cosine = np.clip(cosines[part], -1, 1, out=cosines[part])
                overlap = _overlap(cosine, u[part], v)
                rows[part, there] = formula.entries(cosine, overlap, p[part, None], q)
        if same:  # a product need not be symmetric to the last bit: the upper half counts
            tile = rows[:, there]
            gram[there, here] = np.triu(tile) + np.triu(tile, 1).T if here == there else tile.T

    tops, corners = range(0, len(norms), _SIDE), range(0, len(norms2), _SIDE)
    tiles = [(i, j) for i in tops for j in corners if j >= i or not same]
    for _ in in_order(fill, tiles, allowed_threads()):
        pass
    if same:
        np.fill_diagonal(gram, formula.diagonal(norms))
    gram.setflags(write=False)
    return gram


def _overlap(cosine: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    r"""Return :math:`\pi-\theta_{ij}`, the angle of the wedge on which both neurons are active."""
    overlap = np.arccos(-cosine)
    if max(cosine.max(), -cosine.min()) > _STEEP:
        i, j = np.nonzero(np.abs(cosine) > _STEEP)
        overlap[i, j] = _near_angles(u, v, i, j)
    return overlap


def _near_angles(u: np.ndarray, v: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """The same of nearly parallel rows, from half-angles."""
    found = np.empty(len(i))
    for k, a, b in index_chunks(u.shape[1], np.arange(len(i)), i, j):
        near, far = (np.linalg.norm(each, axis=1) for each in (u[a] - v[b], u[a] + v[b]))
        found[k] = 2 * np.arctan2(far, near)
    return found
