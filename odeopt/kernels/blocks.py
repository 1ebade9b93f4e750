r"""The infinite-width ReLU kernel as an operator in blocks, for data whose dense kernel is too large.

Of the symmetric matrix one half is stored, in panels of rows from the diagonal on; a product reads each
panel once and uses it twice. In single precision a panel is converted to float64 tile by tile, inside the
cache, so that products and sums are those of float64: all that single precision costs is the rounding of
the stored entries, :attr:`ReluGramOperator.storage_error`.

The functions on panels take the arrays of numpy or torch, whose module is their argument `xp`; with those of
torch :mod:`odeopt.kernels.device` runs them on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from odeopt.kernels.inputs import parallel_tolerance, require_independent_pairs
from odeopt.kernels.matrix import norm_bound
from odeopt.kernels.memory import PANEL, MemoryPlan
from odeopt.kernels.relu import gram_diagonal, unit_profile

if TYPE_CHECKING:

    class LinearOperator:
        """What is used of scipy's class, which comes without types."""

        shape: tuple[int, int]
        dtype: np.dtype[np.float64]

        def __init__(self, dtype: np.dtype[np.float64], shape: tuple[int, int]) -> None: ...
        def matvec(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]: ...
        def matmat(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]: ...
        def __matmul__(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]: ...
else:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["ReluGramOperator", "SymmetricOperator", "gram_panel", "panel_product"]

# A tile fits in the cache of a core, and is small enough for one thread: two that share its work wait
# for each other longer than they compute.
TILE = (128, 1000)
# A cosine nearer to +-1 has lost half of the digits of its angle, which then follows from differences.
# Before that the angle is accurate to eps / sin(theta) < 2e-13.
_NEAR = 1e-6


class SymmetricOperator(LinearOperator):
    """A symmetric matrix that acts through `_product`, on columns of float64 numbers."""

    _product: Callable[[np.ndarray], np.ndarray]

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._product(np.asarray(vector, dtype=float).reshape(-1, 1))[:, 0]

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        return self._product(np.ascontiguousarray(vectors, dtype=float))

    def _adjoint(self) -> SymmetricOperator:
        return self


class ReluGramOperator(SymmetricOperator):
    r"""The kernel of :func:`odeopt.relu_gram`, symmetric, with products in float64.

    Attributes
    ----------
    plan : MemoryPlan
    interval : tuple of float
        0 and a bound on the largest eigenvalue, by Collatz and Wielandt.
    frobenius : float
        The Frobenius norm of H, before its entries are stored.
    storage_error : float
        Bound on the norm of the difference from the exact kernel that single precision causes,
        :math:`2^{-24}\lVert H\rVert_F`: each eigenvalue moves by at most as much. Where it is not far below
        :math:`\lambda_{\min}`, late losses need float64. 0 for the other storages.
    """

    _library: Any = np
    _tile = TILE

    def __init__(
        self,
        unit: np.ndarray,
        norms: np.ndarray,
        layers: str,
        depth: int,
        plan: MemoryPlan,
        progress: Callable[[str, int, int], object] | None,
        refuse: bool,
    ) -> None:
        super().__init__(np.dtype(np.float64), (plan.n, plan.n))
        self._unit, self._norms = self._placed(unit), self._placed(norms)
        self._layers, self._depth = layers, depth
        self.plan: MemoryPlan = plan
        self._rows = plan.rows
        self._panels: list[Any] = []
        squares, nonnegative = 0.0, True
        antipodal: list[tuple[int, int]] = []
        for start in range(0, plan.n, self._rows):
            panel, pairs = self._compute(start, refuse=refuse)
            antipodal += pairs
            nonnegative = nonnegative and bool(panel.min() >= 0)
            rows = panel.shape[0]
            # Off the leading square an entry counts for its mirror image too.
            squares += float(self._library.linalg.norm(panel[:, :rows])) ** 2
            squares += 2 * float(self._library.linalg.norm(panel[:, rows:])) ** 2
            if plan.storage != "recompute":
                self._panels.append(self._stored(panel))
            if progress is not None:
                progress("kernel", min(start + self._rows, plan.n), plan.n)
        if refuse and antipodal and depth == 1:
            require_independent_pairs(unit, antipodal)
        self._nonnegative = nonnegative
        self.frobenius: float = float(np.sqrt(squares))
        self.storage_error: float = 2.0**-24 * self.frobenius if plan.storage == "float32" else 0.0
        # Recomputed products are dear, and the first bound, the largest row sum, is a bound already.
        products = 2 if plan.storage == "recompute" else 12
        bound = norm_bound(lambda v: self._product(v[:, None], absolute=True)[:, 0], plan.n, products)
        self.interval: tuple[float, float] = (0.0, bound + self.storage_error)

    # Where arrays live, which another library changes.

    def _placed(self, array: np.ndarray) -> Any:
        return array

    def _returned(self, array: Any) -> np.ndarray:
        return array

    def _stored(self, panel: Any) -> Any:
        return panel.astype(self.plan.storage)

    def _compute(self, start: int, *, refuse: bool = False) -> tuple[Any, list[tuple[int, int]]]:
        return gram_panel(
            self._unit,
            self._norms,
            start,
            self._rows,
            layers=self._layers,
            depth=self._depth,
            refuse=refuse,
            xp=self._library,
        )

    def _each_panel(self) -> Iterator[tuple[int, Any]]:
        for index, start in enumerate(range(0, self.plan.n, self._rows)):
            yield start, self._panels[index] if self._panels else self._compute(start)[0]

    def _product(self, vectors: np.ndarray, absolute: bool = False) -> np.ndarray:
        vectors, result = self._placed(vectors), self._placed(np.zeros(vectors.shape))
        absolute = absolute and not self._nonnegative
        buffer = self._placed(np.empty(self._tile))
        for start, panel in self._each_panel():
            panel_product(panel, start, vectors, result, buffer, absolute)
        return self._returned(result)


def gram_panel(
    unit: Any,
    norms: Any,
    start: int,
    rows: int,
    *,
    layers: str,
    depth: int,
    refuse: bool = False,
    xp: Any = np,
) -> tuple[Any, list[tuple[int, int]]]:
    """Rows of the kernel from `start` on, columns from the diagonal on, and antipodal pairs of rows.

    With `refuse` parallel rows raise ValueError. `xp` is the module of the arrays, numpy or torch.
    """
    block = slice(start, min(start + rows, len(unit)))
    cosine = unit[block] @ unit[start:].T
    xp.clip(cosine, -1, 1, out=cosine)
    overlap = xp.arccos(-cosine)
    pairs = _repair(unit, overlap, cosine, start, refuse, xp)
    panel = unit_profile(cosine, overlap, layers, depth, xp)
    panel *= (norms[block] / (2 * np.pi))[:, None]
    panel *= norms[start:]
    diagonal = xp.arange(block.stop - start)
    square = panel[:, : len(diagonal)]
    # A product of blocks need not be symmetric to the last bit; the upper half counts.
    square[...] = xp.triu(square) + xp.triu(square, 1).T
    square[diagonal, diagonal] = gram_diagonal(norms, layers, depth, xp)[block]
    return panel, pairs


def _repair(unit, overlap, cosine, start: int, refuse: bool, xp) -> list[tuple[int, int]]:
    """Take the angles of nearly parallel pairs from differences, and refuse parallel ones."""
    i, j = xp.where(xp.abs(cosine) > 1 - _NEAR)
    keep = j > i
    i, j = i[keep], j[keep]
    found: list[tuple[int, int]] = []
    step = max(1, PANEL // unit.shape[1])
    tolerance = parallel_tolerance(len(unit))
    for cut in range(0, len(i), step):
        a, b = i[cut : cut + step], j[cut : cut + step]
        u, v = unit[start + a], unit[start + b]
        near, far = xp.linalg.norm(u - v, axis=1), xp.linalg.norm(u + v, axis=1)
        overlap[a, b] = 2 * xp.arctan2(far, near)
        if refuse and near.min() <= tolerance:
            k = int(near.argmin())
            raise ValueError(
                f"x has parallel rows {start + a[k]} and {start + b[k]}, so its ReLU kernel is singular; "
                "drop one of them"
            )
        opposite = far <= tolerance
        found += zip((start + a[opposite]).tolist(), (start + b[opposite]).tolist(), strict=True)
    return found


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
