r"""The infinite-width ReLU kernel as an operator in blocks, for data whose dense kernel is too large.

Of the symmetric matrix one half is stored, in panels of rows from the diagonal on; a product reads each
panel once and uses it twice (:mod:`odeopt.kernels.products`). Products and sums are those of float64: all
that single precision costs is the rounding of the stored entries, :attr:`ReluGramOperator.storage_error`.

A panel is computed in strips of columns that stay inside the cache, panels by as many threads as products;
where numba multiplies, it also writes the entries of a strip in one pass.
:func:`gram_panel` takes the arrays of numpy or torch, whose module is its argument `xp`; with those of torch
:mod:`odeopt.kernels.device` runs it on any device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from odeopt.kernels.between import Write
from odeopt.kernels.inputs import parallel_tolerance, require_independent_pairs
from odeopt.kernels.matrix import norm_bound, require_range
from odeopt.kernels.memory import PANEL, STRIP, MemoryPlan
from odeopt.kernels.packing import Packing
from odeopt.kernels.products import CHUNKS, LEAST, equal_chunks, share_by
from odeopt.kernels.threads import in_order

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

__all__ = ["Facts", "Formula", "ReluGramOperator", "SymmetricOperator", "gram_panel", "storage_error"]

# Entries of a strip that are passed through the formula at a time: half a megabyte of each array.
_PART = 2**16
# A cosine nearer to +-1 has lost half of the digits of its angle, which then follows from differences.
# Before that the angle is accurate to eps / sin(theta) < 2e-13.
_NEAR = 1e-6


class Formula(Protocol):
    """Entries of a kernel, from the cosines, angles pi - theta and norms of inputs of numpy or torch."""

    @property
    def depth(self) -> int: ...
    @property
    def parts(self) -> int: ...
    def entries(self, cosine: Any, overlap: Any, left: Any, right: Any, xp: Any) -> Any: ...
    def diagonal(self, norms: Any, xp: Any) -> Any: ...
    def compiled(self) -> Write | None: ...


class SymmetricOperator(LinearOperator):
    """A symmetric matrix that acts through `_product`, on columns of float64 numbers."""

    _product: Callable[[np.ndarray], np.ndarray]

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(vector, (-1, 1)))[:, 0]

    def _matmat(self, vectors: np.ndarray) -> np.ndarray:
        if np.iscomplexobj(vectors):  # a cast would drop the imaginary part
            return self._matmat(np.real(vectors)) + 1j * self._matmat(np.imag(vectors))
        return self._product(np.ascontiguousarray(vectors, dtype=float))

    def _adjoint(self) -> SymmetricOperator:
        return self


class ReluGramOperator(SymmetricOperator):
    r"""A kernel of infinite width, symmetric, with products in float64.

    Parameters
    ----------
    unit : numpy.ndarray, shape (n, d)
        Inputs at unit norm.
    norms : numpy.ndarray, shape (n,)
        Their norms.
    formula : Formula
        Entries from cosines, angles and norms.
    plan : MemoryPlan
        Storage, rows of a panel, engine and threads.
    progress : callable or None
        Called as ``progress("kernel", done, n)`` with the number of rows computed.
    refuse : bool
        Whether parallel rows, and of one hidden layer dependent antipodal pairs, raise ValueError.

    Attributes
    ----------
    engine : str
        What multiplies, "numba" or "numpy", and why where it is not the one of choice.
    interval : tuple of float
        0 and a bound on the largest eigenvalue, by Collatz and Wielandt.
    frobenius : float
        The Frobenius norm of H, before its entries are stored.
    storage_error : float
        Bound on the norm of the difference from the exact kernel that single precision causes,
        :math:`2^{-24}\lVert H\rVert_F+2^{-126}n`: each eigenvalue moves by at most as much. Where it is not
        far below :math:`\lambda_{\min}`, late losses need float64. 0 for the other storages.

    Examples
    --------
    >>> from odeopt import relu_gram_operator
    >>> operator = relu_gram_operator(np.eye(4), storage="float32", engine="numpy")
    >>> operator.shape, operator.engine, round(operator.frobenius, 12), operator.storage_error == 2.0**-24
    ((4, 4), 'numpy', 1.0, True)
    """

    _library: Any = np
    _strip: int | None = STRIP

    def __init__(
        self,
        unit: np.ndarray,
        norms: np.ndarray,
        formula: Formula,
        plan: MemoryPlan,
        progress: Callable[[str, int, int], object] | None,
        refuse: bool,
    ) -> None:
        require_range(float(formula.diagonal(norms, np).max()), plan.storage)
        super().__init__(np.dtype(np.float64), (plan.n, plan.n))
        self._unit, self._norms = self._placed(unit), self._placed(norms)
        self._formula = formula
        self.plan: MemoryPlan = plan
        self._packing = self._packed(plan)
        self._chunks = equal_chunks(self._packing, LEAST, CHUNKS)
        self._panels: list[Any] = []
        self._share, engine = share_by(plan.engine, plan.storage)
        self._write = formula.compiled() if engine == "numba" else None
        facts = self._build(progress, refuse)
        self.engine: str = engine
        self.plan = dataclasses.replace(plan, engine=engine)
        antipodal = [pair for each in facts for pair in each.antipodal]
        if refuse and antipodal and formula.depth == 1:
            require_independent_pairs(unit, antipodal)
        self._nonnegative = all(each.nonnegative for each in facts)
        self.frobenius: float = float(np.sqrt(sum(each.squares for each in facts)))
        self.storage_error: float = storage_error(plan.storage, self.frobenius, plan.n)
        # Recomputed products are dear, and the first bound, the largest row sum, is a bound already.
        products = 2 if plan.storage == "recompute" else 12
        bound = norm_bound(lambda v: self._product(v[:, None], absolute=True)[:, 0], plan.n, products)
        self.interval: tuple[float, float] = (0.0, bound + self.storage_error)

    def _build(self, progress: Callable[[str, int, int], object] | None, refuse: bool) -> list[Facts]:
        """Compute the panels in the order of their rows, and keep them unless they are to be recomputed."""
        found, n, kept = [], self.plan.n, self.plan.storage != "recompute"
        computed = in_order(lambda k: self._compute(k, refuse, kept), self._indices(), self.plan.threads)
        with contextlib.closing(computed):  # also where `progress` raises, to end the work
            for index, (panel, facts) in enumerate(computed):
                found.append(facts)
                if kept:
                    self._panels.append(panel)
                if progress is not None:
                    progress("kernel", min((index + 1) * self.plan.rows, n), n)
        return found

    def _indices(self) -> range:
        return range(-(-self.plan.n // self.plan.rows))

    def _compute(self, index: int, refuse: bool = False, kept: bool = False) -> tuple[Any, Facts]:
        """A panel, in float64 unless it is `kept`, and what was seen of its entries."""
        start = index * self.plan.rows
        panel = self._room(index, (min(self.plan.rows, self.plan.n - start), self.plan.n - start), kept)
        facts = gram_panel(
            self._unit,
            self._norms,
            start,
            panel,
            formula=self._formula,
            refuse=refuse,
            strip=self._strip,
            xp=self._library,
            write=self._write if kept else None,
        )
        return panel, facts

    def _panel(self, index: int) -> Any:
        return self._panels[index] if self._panels else self._compute(index)[0]

    # Where arrays live, which another library changes.

    def _placed(self, array: np.ndarray) -> Any:
        return array

    def _packed(self, plan: MemoryPlan) -> Packing:
        return Packing(plan.n, plan.rows)

    def _room(self, index: int, shape: tuple[int, int], kept: bool) -> Any:
        return np.empty(shape, self.plan.storage if kept else "float64")

    def _product(self, vectors: np.ndarray, absolute: bool = False) -> np.ndarray:
        absolute, rows = absolute and not self._nonnegative, self.plan.rows

        def share(chunk: range) -> np.ndarray:
            first = chunk[0] * rows
            panels = ((index * rows - first, self._panel(index)) for index in chunk)
            return self._share(panels, vectors[first:], absolute)

        result = np.zeros(vectors.shape)
        for chunk, found in zip(self._chunks, in_order(share, self._chunks, self.plan.threads), strict=True):
            result[chunk[0] * rows :] += found
        return result


def storage_error(storage: str, frobenius: float, n: int) -> float:
    """What single precision adds to a kernel of this norm: a rounding, or a number below the normal ones."""
    return 2.0**-24 * frobenius + 2.0**-126 * n if storage == "float32" else 0.0


class Facts(NamedTuple):
    """Of a panel: squares of the entries of H that it stands for, whether none is below 0, antipodal rows."""

    squares: float
    nonnegative: bool
    antipodal: list[tuple[int, int]]


def gram_panel(
    unit: Any,
    norms: Any,
    start: int,
    panel: Any,
    *,
    formula: Formula,
    refuse: bool = False,
    strip: int | None = STRIP,
    xp: Any = np,
    write: Write | None = None,
) -> Facts:
    """Write rows of the kernel from `start` on, columns from the diagonal on, into `panel`, in its precision.

    With `refuse` parallel rows raise ValueError. `xp` is the module of the arrays, numpy or torch; without
    `strip` all columns right of the leading square are computed at once. `write` is of the formula.
    """
    rows, columns = panel.shape
    squares, nonnegative, antipodal = 0.0, True, []
    scale = norms[start : start + rows]
    cuts = sorted({0, rows, *range(rows, columns, strip or columns), columns})
    for left, right in itertools.pairwise(cuts):
        cosines = unit[start : start + rows] @ unit[start + left : start + right].T
        across = norms[start + left : start + right]
        # of the leading square both halves at once, that one may be mirrored
        size = rows * (right - left) // formula.parts if strip is None else _PART
        height = rows if left == 0 else max(1, size // (right - left))
        for top in range(0, rows, height):
            end, counted = min(top + height, rows), 1 if left == 0 else 2  # an entry and its mirror image
            if left > 0 and write is not None:
                square, below, near = write(cosines, top, end, scale, across, panel, left, 1 - _NEAR)
                if not near:
                    squares += counted * square
                    nonnegative = nonnegative and not below
                    continue
            part, place = slice(top, end), (start + top, start + left)
            overlap, pairs = _angles(unit, cosines[part], place, refuse, xp)
            antipodal += pairs
            gram = formula.entries(cosines[part], overlap, scale[part, None], across, xp)
            if left == 0:
                # A product of blocks need not be symmetric to the last bit; the upper half counts.
                gram[...] = xp.triu(gram) + xp.triu(gram, 1).T
                diagonal = xp.arange(rows)
                gram[diagonal, diagonal] = formula.diagonal(scale, xp)
            squares += counted * float(xp.linalg.norm(gram)) ** 2
            nonnegative = nonnegative and bool(gram.min() >= 0)
            panel[part, left:right] = gram
    return Facts(squares, nonnegative, antipodal)


def _angles(
    unit: Any, cosine: Any, corner: tuple[int, int], refuse: bool, xp: Any
) -> tuple[Any, list[tuple[int, int]]]:
    r"""Return :math:`\pi-\theta`, and the pairs of antipodal rows; cosines are clipped in place."""
    largest = max(float(cosine.max()), -float(cosine.min()))
    if largest > 1:
        xp.clip(cosine, -1, 1, out=cosine)
    overlap = xp.arccos(-cosine)
    return overlap, _repair(unit, overlap, cosine, corner, refuse, xp) if largest > 1 - _NEAR else []


def _repair(
    unit: Any, overlap: Any, cosine: Any, corner: tuple[int, int], refuse: bool, xp: Any
) -> list[tuple[int, int]]:
    """Take the angles of nearly parallel pairs from differences, and refuse parallel ones."""
    row, column = corner
    i, j = xp.where(xp.abs(cosine) > 1 - _NEAR)
    keep = column + j > row + i
    i, j = i[keep], j[keep]
    found: list[tuple[int, int]] = []
    step = max(1, PANEL // unit.shape[1])
    tolerance = parallel_tolerance(len(unit))
    for cut in range(0, len(i), step):
        a, b = i[cut : cut + step], j[cut : cut + step]
        u, v = unit[row + a], unit[column + b]
        near, far = xp.linalg.norm(u - v, axis=1), xp.linalg.norm(u + v, axis=1)
        overlap[a, b] = 2 * xp.arctan2(far, near)
        if refuse and near.min() <= tolerance:
            k = int(near.argmin())
            raise ValueError(
                f"x has parallel rows {row + a[k]} and {column + b[k]}, so its ReLU kernel is singular; "
                "drop one of them"
            )
        opposite = far <= tolerance
        found += zip((row + a[opposite]).tolist(), (column + b[opposite]).tolist(), strict=True)
    return found
