r"""Products with a symmetric matrix whose upper half is stored in panels of rows, each from the diagonal on.

Consecutive panels of about equal area form a chunk. Threads compute the shares of chunks, which are added in
the order of the chunks: the result hangs neither on the number of threads nor on which is first. An engine
computes the share of a chunk, from a stored entry to the sums in float64:

* ``numba`` reads each entry once for its two uses, see :mod:`odeopt.kernels.compiled`;
* ``numpy`` converts a panel tile by tile, inside the cache, and hands the tiles to BLAS.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from odeopt.kernels.packing import Packing

__all__ = ["Engine", "chosen_engine", "equal_chunks", "panel_product", "share_by"]

Engine = Literal["auto", "numba", "numpy"]
_ENGINES = ("auto", "numba", "numpy")
# A tile fits in the cache of a core, and is small enough for one thread: two that share its work wait
# for each other longer than they compute.
TILE = (128, 1000)
# Chunks at most, and entries of one at least: a thread is handed one in less time than it takes to read it.
CHUNKS, LEAST = 32, 2**19
# From this n on the product of 200 Lanczos steps saves more than numba takes to load.
FEW = 3000
# Vectors up to which reading the entries by pairs of them is faster than the products of matrices of BLAS.
WIDE = 32


def chosen_engine(engine: str, n: int, storage: str) -> str:
    """The engine of a plan, followed by the reason where another one was passed over, or ValueError."""
    if engine not in _ENGINES:
        raise ValueError(f"engine must be 'auto', 'numba' or 'numpy', got {engine!r}")
    missing = importlib.util.find_spec("numba") is None
    if engine == "numba" and missing:
        raise ValueError("engine = 'numba' needs numba, which is not installed; pip install 'odeopt[fast]'")
    if engine == "numpy":
        return "numpy"
    if storage == "recompute":
        return "numpy (entries are computed anew in each product)"
    if engine == "auto" and n < FEW:
        return f"numpy (n is below {FEW})"
    return "numpy (numba is not installed)" if missing else "numba"


def equal_chunks(packing: Packing, least: int, most: int) -> list[range]:
    """Consecutive panels of about equal area, of `least` entries or more, in at most `most` chunks."""
    panels = -(-packing.width // packing.rows)
    count = max(1, min(most, packing.size // least))
    labels = [packing.offset(panel) * count // packing.size for panel in range(panels)]
    cuts = [0, *(k for k in range(1, panels) if labels[k] != labels[k - 1]), panels]
    return [range(a, b) for a, b in itertools.pairwise(cuts)]


Share = Callable[[Iterable[tuple[int, Any]], np.ndarray, bool], np.ndarray]


def share_by(engine: str, storage: str) -> tuple[Share, str]:
    """What maps panels, each with its first row, and vectors to their share, and the engine that it is."""
    if engine != "numba":
        return _share_by_numpy, engine
    try:
        from odeopt.kernels.compiled import compiled_share

        _, reason = compiled_share(storage, False)
    except ImportError as error:  # numba refuses, say, a numpy that is newer than it knows
        reason = str(error)
    if reason:
        return _share_by_numpy, f"numpy ({reason})"
    return functools.partial(_share_by_numba, storage), engine


def _share_by_numba(
    storage: str, panels: Iterable[tuple[int, Any]], vectors: np.ndarray, absolute: bool
) -> np.ndarray:
    from odeopt.kernels.compiled import compiled_share

    add, _ = compiled_share(storage, absolute)
    if add is None or vectors.shape[1] > WIDE:
        return _share_by_numpy(panels, vectors, absolute)
    rows = np.ascontiguousarray(vectors.T)
    result = np.zeros(rows.shape)
    for start, panel in panels:
        add(panel, start, rows, result)
    return result.T


def _share_by_numpy(panels: Iterable[tuple[int, Any]], vectors: np.ndarray, absolute: bool) -> np.ndarray:
    result, buffer = np.zeros(vectors.shape), np.empty(TILE)
    for start, panel in panels:
        panel_product(panel, start, vectors, result, buffer, absolute)
    return result


def panel_product(
    panel: Any, start: int, vectors: Any, result: Any, buffer: Any, absolute: bool = False
) -> None:
    """Add to `result` the share of a symmetric matrix that one panel of its upper half holds.

    The panel has the rows and columns from `start` on, its leading square symmetric; `buffer` is work space
    for a tile in float64.
    """
    rows, columns = panel.shape
    height, width = buffer.shape
    for i in range(0, rows, height):
        high = slice(start + i, start + min(i + height, rows))
        for j in range(0, columns, width):
            tile = panel[i : i + height, j : j + width]
            if tile.dtype != buffer.dtype or absolute:
                held = buffer[: tile.shape[0], : tile.shape[1]]
                held[...] = tile
                tile = abs(held) if absolute else held
            wide = slice(start + j, start + j + tile.shape[1])
            result[high] += tile @ vectors[wide]
            # The leading square holds both halves already; what lies right of it counts once more.
            skip = max(0, rows - j)
            if skip < tile.shape[1]:
                result[start + j + skip : wide.stop] += tile[:, skip:].T @ vectors[high]
