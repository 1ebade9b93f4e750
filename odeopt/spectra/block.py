r"""Lanczos with all starts at once: one orthonormal basis, in which each output has the products of all.

:math:`\Delta_0=Q_1R` of c columns, and m products of H with a block, give orthonormal
:math:`Q=(Q_1,\dots,Q_m)` with

.. math:: HQ=QT+Q_{m+1}B_m^\top E_m^\top,\qquad T\ \text{block tridiagonal},\qquad
    \Delta_0^\top f(H)\,\Delta_0\approx R^\top E_1^\top f(T)E_1R,

exact for polynomials of degree 2m - 1 as with one start, entry by entry: of powers i, j up to m - 1 both
factors of :math:`(H^i\Delta_0)^\top H(H^j\Delta_0)` lie in the space. Blocks shrink where what is left of a
direction is rounding, as it is of starts that depend on each other (Golub and Van Loan, Matrix Computations,
section 10.3).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy

from odeopt.spectra.lanczos import Chain, ColumnRun, lanczos, require_symmetric

__all__ = ["BlockChain", "BlockRun"]

_EPS = float(np.finfo(float).eps)
# Of starts of norm 1: what is less of a direction is rounding.
_DEPENDENT = 8 * _EPS
# Passes at most, and the part of the shortest direction that the last one may take off.
_PASSES, _SMALL = 5, 0.1
# Up to so many multiplications OpenBLAS starts no second thread, which waits longer than it works where they
# are few; then vectors of a slab are so few, but not fewer, else many.
_ALONE, _FEW, _MANY = 2**18, 8, 256


@dataclass(frozen=True)
class BlockChain:
    r"""The block tridiagonal matrix of all starts.

    `matrix` (N, N) is T, in blocks of `widths`; `last` (b, b') is :math:`B_m`, `start` (b, c) is R, of which
    the first `errors` columns are errors; `error` and `basis` are as of a `Chain`.
    """

    matrix: np.ndarray
    widths: tuple[int, ...]
    last: np.ndarray
    start: np.ndarray
    errors: int
    error: float
    basis: tuple[np.ndarray, ...] = field(default=(), repr=False)
    _eigen: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Number of steps m."""
        return len(self.widths)

    @property
    def alpha(self) -> np.ndarray:
        """The diagonal of T."""
        return self.matrix.diagonal()

    @property
    def exhausted(self) -> bool:
        """Whether the Krylov space is invariant."""
        return not self.last.size

    def leading(self, steps: int) -> BlockChain:
        """That of the first steps."""
        if steps == self.size:
            return self
        end = sum(self.widths[:steps])
        last = self.matrix[end - self.widths[steps - 1] : end, end : end + self.widths[steps]]
        return replace(self, matrix=self.matrix[:end, :end], widths=self.widths[:steps], last=last, _eigen=[])

    @property
    def eigen(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues, ascending, and eigenvectors of T."""
        if not self._eigen:
            self._eigen.append(scipy.linalg.eigh(self.matrix, driver="evd", check_finite=False))
        return self._eigen[0]

    @property
    def along(self) -> np.ndarray:
        """Components of the starts in the eigenvectors of T, (N, c)."""
        return self.eigen[1][: len(self.start)].T @ self.start

    @property
    def left(self) -> np.ndarray:
        """What is left of each eigenvector, its entries in the last block times B_m, (N, b')."""
        return self.eigen[1][len(self.matrix) - len(self.last) :].T @ self.last

    def columns(self) -> tuple[Chain, ...]:
        """The Lanczos matrices of as many steps of the errors one by one: those of T with its border."""
        size, (b, more) = len(self.matrix), self.last.shape
        bordered = np.zeros((size + more, size + more))
        bordered[:size, :size] = self.matrix
        bordered[size - b : size, size:], bordered[size:, size - b : size] = self.last, self.last.T
        starts = np.zeros((size + more, self.errors))
        starts[: len(self.start)] = self.start[:, : self.errors]
        found = lanczos(lambda v: bordered @ v, starts, self.size)
        return tuple(replace(chain, error=chain.error + self.error) for chain in found)


class BlockRun(ColumnRun):
    """The run from all columns: `alpha` and `beta` hold the blocks of T, beta_j (b_j, b_(j+1))."""

    errors: int
    dropped: float
    slab: int
    norm: float
    scale: float
    squared_asymmetry: float
    count: int
    done: bool
    single: bool | None
    slabs: list[np.ndarray]

    def __init__(self, start: np.ndarray, bound: float, precision: float, errors: int) -> None:
        few = _ALONE // start.size
        self.errors, self.dropped, self.slab = errors, 0.0, few if few >= _FEW else _MANY
        super().__init__(start, bound, precision)

    def _begin(self, start: np.ndarray) -> None:
        powers = np.frexp(np.abs(start).max(axis=0))[1]  # no square leaves the range of float64
        scaled = np.ldexp(start, -powers)
        lengths = np.linalg.norm(scaled, axis=0)
        unit = scaled / np.where(lengths > 0, lengths, 1.0)
        vectors, sizes, turn = np.linalg.svd(unit, full_matrices=False)
        kept = sizes > _DEPENDENT * sizes[0]
        norms = np.ldexp(lengths, powers)
        self.start: np.ndarray = sizes[kept, None] * turn[kept] * norms
        self.norm = float(norms.max())
        self._extend(vectors.T[kept])

    def _extend(self, rows: np.ndarray) -> None:
        for row in rows:
            self._append(row)

    @property
    def widths(self) -> list[int]:
        """Of all blocks, that of the front included."""
        return [len(self.start), *(beta.shape[1] for beta in self.beta)]

    @property
    def front(self) -> np.ndarray:
        """The last block."""
        return np.stack([self.vector(j) for j in range(self.count - self.widths[-1], self.count)])

    def first_product(self) -> np.ndarray:
        """H q_1 as T has it."""
        row = np.concatenate([self.alpha[0][0], self.beta[0][0]])
        return sum((entry * self.vector(j) for j, entry in enumerate(row)), np.zeros(self.n))

    @staticmethod
    def advance_all(active: list[Any], vectors: np.ndarray, left: np.ndarray, name: str) -> None:
        """Take the step of the one run."""
        (run,) = active
        run.advance_block(left, name)

    def advance_block(self, rows: np.ndarray, name: str) -> None:
        """Make H Q_j orthogonal to all blocks, and orthonormal; append A_j, B_j and Q_(j+1)."""
        b = len(rows)
        taken, rest = np.zeros((b, self.count)), np.eye(b)
        # Of the last two blocks first, then of all. What rounding leaves of them in a direction that nearly
        # vanishes, division by its length makes large: passes follow until little is taken off.
        for turn in range(_PASSES):
            more = self._taken_off(rows, self.count - sum(self.widths[-2:]) if turn == 0 else 0)
            taken += rest @ more
            squares, axes = np.linalg.eigh(rows @ rows.T)
            lengths = np.sqrt(np.maximum(squares, max(squares[-1] * _EPS**2, 1e-300)))
            rows, rest = (axes / lengths).T @ rows, rest @ (axes * lengths)
            if turn and lengths[-1] <= 2 * lengths[0] and np.linalg.norm(more) <= _SMALL * lengths[0]:
                break
        alpha, before = taken[:, -b:], self.beta[-1].T if self.beta else np.zeros((b, 0))
        expected = np.zeros_like(taken)
        expected[:, self.count - b - before.shape[1] : self.count - b] = before
        expected[:, self.count - b :] = (alpha + alpha.T) / 2
        off = float(np.linalg.norm(taken - expected))
        axes, sizes, mix = np.linalg.svd(rest)
        parts = (np.linalg.norm(alpha, 2), sizes[0], np.linalg.norm(before, 2) if before.size else 0.0)
        scale = max(self.scale, float(sum(parts)))
        require_symmetric(off, scale, len(self.alpha) + 1, self.n, name)
        kept = sizes > self.roundings * _EPS * scale
        kept[self.n - self.count :] = False
        self.scale, self.dropped = scale, math.hypot(self.dropped, *sizes[~kept])
        self.squared_asymmetry += off**2
        self.alpha.append(expected[:, self.count - b :])
        self.beta.append(axes[:, kept] * sizes[kept])
        self._extend(mix[kept] @ rows)
        self.done = not kept.any()

    def _taken_off(self, rows: np.ndarray, first: int) -> np.ndarray:
        """Take the projections on all vectors from the first on off rows, in place; return them."""
        taken = np.zeros((len(rows), self.count))
        for begin, block in zip(range(0, self.count, self.slab), self._blocks(), strict=True):
            here = block[max(first - begin, 0) :]
            part = slice(begin + len(block) - len(here), begin + len(block))
            taken[:, part] = rows @ here.T
            rows -= taken[:, part] @ here
        return taken

    @property
    def error(self) -> float:
        """Bound on the norm of E: as of a column, and what was dropped of directions that ended."""
        return super().error + math.sqrt(2) * self.dropped

    def chain(self, keep: bool = False) -> Any:
        """The block tridiagonal matrix."""
        widths = self.widths[:-1]
        ends, N = np.cumsum([0, *widths]), sum(widths)
        matrix = np.zeros((N, N))
        for j, (alpha, beta) in enumerate(zip(self.alpha, self.beta, strict=True)):
            here = slice(ends[j], ends[j + 1])
            matrix[here, here] = alpha
            if j + 1 < len(widths):
                after = slice(ends[j + 1], ends[j + 2])
                matrix[here, after], matrix[after, here] = beta, beta.T
        last = self.beta[-1] if self.beta else np.zeros((0, 0))
        basis = self._kept(N) if keep else ()
        return BlockChain(matrix, tuple(widths), last, self.start, self.errors, self.error, basis)

    def arrays(self, i: int) -> dict[str, np.ndarray]:
        """What a file keeps."""
        flat = (
            {"alpha": np.empty(0), "beta": np.empty(0)}
            if not self.alpha
            else {
                name: np.concatenate([block.ravel() for block in getattr(self, name)])
                for name in ("alpha", "beta")
            }
        )
        numbers = [self.squared_asymmetry, self.done, -1 if self.single is None else self.single]
        return {
            **{f"{name}{i}": value for name, value in flat.items()},
            f"widths{i}": np.array(self.widths),
            f"numbers{i}": np.array([*numbers, self.dropped, self.scale]),
            f"basis{i}": np.concatenate([*self._blocks()]),
        }

    def restore(self, held: Any, i: int) -> None:
        """Fill in what a file kept."""
        if f"widths{i}" not in held:
            raise ValueError("it was begun without block=True")
        widths, basis = held[f"widths{i}"], held[f"basis{i}"]
        if (
            basis.shape != (widths.sum(), self.n)
            or widths[0] != len(self.start)
            or not np.isfinite(basis).all()
        ):
            raise ValueError(
                f"its basis has shape {basis.shape} for blocks of {widths.tolist()}, or is not finite"
            )
        self.squared_asymmetry, done, single, self.dropped, self.scale = held[f"numbers{i}"].tolist()
        self.done, self.single = bool(done), None if single < 0 else bool(single)
        pairs = list(itertools.pairwise(widths))
        for name, shapes in (("alpha", [(b, b) for b, _ in pairs]), ("beta", pairs)):
            ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])[:-1]
            blocks = np.split(held[f"{name}{i}"], ends) if shapes else []
            setattr(self, name, [block.reshape(shape) for block, shape in zip(blocks, shapes, strict=True)])
        self.slabs, self.count = [], 0
        self._extend(basis)
