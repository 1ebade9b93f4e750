r"""Lanczos tridiagonalisation with full reorthogonalisation, interruptible and resumable.

From the start :math:`q_1=\Delta_0/\lVert\Delta_0\rVert`, m products with H give orthonormal
:math:`Q=(q_1,\dots,q_m)` and

.. math:: HQ=QT+\beta_mq_{m+1}e_m^\top,\qquad T=\mathrm{tridiag}(\beta,\alpha,\beta).

Each product is made orthogonal to the last two vectors, then to all, again where much is taken off. In
floating point T is then the exact Lanczos matrix of :math:`H+E` with a small symmetric E, whose size
:attr:`Chain.error` states.

Sums of n terms are taken to round as independent roundings do, :math:`\sqrt n` of them. The precision of the
products is that of their type; an operator that hides a lower one behind float64 is told by products of
which every entry is a float32, and by one that is repeated with a third of its vector; one more, of a random
vector, tells an asymmetry that few steps do not see.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from odeopt.kernels.matrix import require_range
from odeopt.spectra.lanczos_state import State

__all__ = ["Chain", "ColumnRun", "lanczos", "require_symmetric"]

_EPS = float(np.finfo(float).eps)
_SINGLE_EPS = float(np.finfo(np.float32).eps)
# Vectors of a basis are kept in slabs of so many: projections are BLAS-2 products with a slab, and the
# basis grows without being copied.
_SLAB = 32
# A pass that takes off less than this part of a vector leaves it orthogonal but for its rounding; two passes
# always do ("twice is enough": Parlett, The Symmetric Eigenvalue Problem, section 6.9).
_SMALL, _PASSES = 0.1, 2
# Beyond it, relative to the largest entry of T, an operator is called asymmetric. Products in single
# precision are asymmetric by some 1e-7.
_ASYMMETRY = 1e-6
# Other products may be as many times noisier, or less symmetric, than those that were tried.
_NOISY = 8
_SEED = 20_012


@dataclass(frozen=True)
class Chain:
    r"""The tridiagonal matrix of one start vector.

    Attributes
    ----------
    alpha : numpy.ndarray, shape (m,)
        Diagonal of T.
    beta : numpy.ndarray, shape (m,)
        Off-diagonal, and at the end the norm of the last residual: 0 where the Krylov space is invariant.
    mass : float
        :math:`\lVert\Delta_0\rVert^2`.
    error : float
        Bound on :math:`\lVert E\rVert_2`: twice :math:`(10+2\sqrt n)\epsilon\lVert H\rVert` for the rounding
        of products and as much for that of projections, and the asymmetry that products were seen to have.
    basis : tuple of numpy.ndarray, shape (s, n)
        The m vectors of Q, in rows of slabs, where they were to be kept.
    """

    alpha: np.ndarray
    beta: np.ndarray
    mass: float
    error: float
    basis: tuple[np.ndarray, ...] = field(default=(), repr=False)
    # eigenpairs of T, once, where there is a basis: by `tridiagonal_eigen`
    _eigen: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list, repr=False, compare=False)

    @property
    def size(self) -> int:
        """Number of steps m."""
        return self.alpha.size

    @property
    def exhausted(self) -> bool:
        """Whether the Krylov space is invariant, so that the Gauss rule is the measure itself."""
        return self.size == 0 or bool(self.beta[-1] == 0.0)


class ColumnRun:
    """One start vector: its basis, and the entries of T found so far."""

    slab: int = _SLAB
    bound: float
    precision: float
    seen_noise: float
    scale: float
    squared_asymmetry: float
    count: int
    n: int
    norm: float
    done: bool

    def __init__(self, start: np.ndarray, bound: float, precision: float):
        self.bound, self.precision = bound, precision
        self.seen_noise = 0.0
        self.single: bool | None = None  # whether every entry of a product of other vectors was a float32
        self.alpha: list[Any] = []
        self.beta: list[Any] = []
        self.scale = 0.0  # an entry-wise bound on the norm of T
        self.squared_asymmetry = 0.0
        self.slabs: list[np.ndarray] = []
        self.count = 0
        self.n = len(start)
        # how often the unit roundoff, relative to the norm of H, a product or projection is off
        self.roundings: float = 10 + 2 * math.sqrt(self.n)
        self.done = False
        self._begin(start)

    def _begin(self, start: np.ndarray) -> None:
        self.norm = _norm(start)
        self.done = self.norm == 0.0
        if not self.done:
            self._append(start / self.norm)

    @property
    def front(self) -> np.ndarray:
        """The vectors that are multiplied next, in rows."""
        return self.vector(self.count - 1)[None]

    def first_product(self) -> np.ndarray:
        """H q_1 as T has it."""
        first = self.slabs[0]
        return self.alpha[0] * first[0] + (self.beta[0] * first[1] if self.count > 1 else 0.0)

    def noise(self, product: Callable[[np.ndarray], np.ndarray]) -> float:
        """How far, beyond rounding, H (q_1 / 3) is from H q_1 / 3, or r'H q_1 from q_1'H r for a random r."""
        first, expected = self.slabs[0], self.first_product()
        other = np.random.default_rng(_SEED).standard_normal(self.n)
        third, turned = np.asarray(product(np.stack([first[0] / 3, other], axis=1)), dtype=float).T
        gap = max(
            float(np.linalg.norm(3 * third - expected)), abs(float(other @ expected - first[0] @ turned))
        )
        return gap if gap > 4 * self.roundings * _EPS * max(self.scale, self.bound) else 0.0

    def _append(self, vector: np.ndarray) -> None:
        if self.count % self.slab == 0:
            self.slabs.append(np.empty((min(self.slab, self.n), self.n)))
        self.slabs[-1][self.count % self.slab] = vector
        self.count += 1

    def _append_row(self, alpha: float, beta: float) -> None:
        self.scale = max(self.scale, abs(alpha) + beta + (self.beta[-1] if self.beta else 0.0))
        self.alpha.append(alpha)
        self.beta.append(beta)

    def _blocks(self):
        for index, slab in enumerate(self.slabs):
            yield slab[: min(self.slab, self.count - index * self.slab)]

    def vector(self, j: int) -> np.ndarray:
        return self.slabs[j // self.slab][j % self.slab]

    def see_precision(self, product: np.ndarray, vector: np.ndarray) -> None:
        if product.dtype.kind == "f" and product.dtype != np.float64:
            self.precision = max(self.precision, float(np.finfo(product.dtype).eps))
        if self.single is False:
            return
        if not _is_single(product):
            self.single = False
        elif not _is_single(vector):
            self.single = True

    @staticmethod
    def advance_all(active: list[Any], vectors: np.ndarray, left: np.ndarray, name: str) -> None:
        """Take a step of all, whose products are rows of `left`."""
        for run, w, alpha in zip(active, left, _recurred(active, vectors, left), strict=True):
            run.advance(w, float(alpha), name)

    def advance(self, w: np.ndarray, alpha: float, name: str) -> None:
        """Take H q_j less what T knows of q_(j-1) and q_j; append alpha_j, beta_j and q_(j+1)."""
        taken = np.zeros(self.count)
        # The recurrence leaves what rounding and cancellation spoiled, of the order of eps |H q| / beta; a
        # pass that takes a small part off leaves eps.
        for _ in range(_PASSES):
            before = _length(w)
            more = self._take_off(w)
            taken += more
            if _length(more) <= _SMALL * before:
                break
        alpha += float(taken[-1])
        # For a symmetric H the projections before the last two vanish, and the last but one is beta.
        off, beta = _length(taken[:-1]), _length(w)
        scale = max(self.scale, abs(alpha) + beta)
        require_symmetric(off, scale, len(self.alpha) + 1, self.n, name)
        self._append_row(alpha, beta)
        self.squared_asymmetry += off**2
        if beta <= self.roundings * _EPS * self.scale or self.count == self.n:
            self.beta[-1], self.done = 0.0, True
        else:
            self._append(w / beta)

    def _take_off(self, w: np.ndarray) -> np.ndarray:
        """Take the projections on all vectors off w, in place, a slab at a time; return them."""
        taken = np.empty(self.count)
        for index, block in enumerate(self._blocks()):
            here = taken[index * self.slab : index * self.slab + len(block)]
            np.matmul(block, w, out=here)
            w -= here @ block
        return taken

    def chain(self, keep: bool = False) -> Chain:
        alpha, beta = np.array(self.alpha), np.array(self.beta)
        return Chain(alpha, beta, self.norm**2, self.error, self._kept(alpha.size) if keep else ())

    def _kept(self, count: int) -> tuple[np.ndarray, ...]:
        slabs = [slab[: count - i * self.slab] for i, slab in enumerate(self.slabs)]
        return tuple(slab for slab in slabs if len(slab))

    @property
    def error(self) -> float:
        """Bound on the norm of E, as of :class:`Chain`."""
        return (
            # of products and projections, each once more for the residual that was dropped at a breakdown
            self.roundings * (_EPS + self.product_precision) * max(self.scale, self.bound)
            + float(np.sqrt(2 * self.squared_asymmetry))
            + _NOISY * float(np.sqrt(len(self.alpha))) * self.seen_noise
        )

    @property
    def product_precision(self) -> float:
        """Unit roundoff of the products."""
        return max(self.precision, _SINGLE_EPS) if self.single else self.precision

    def arrays(self, i: int) -> dict[str, np.ndarray]:
        return {
            f"alpha{i}": np.array(self.alpha),
            f"beta{i}": np.array(self.beta),
            f"numbers{i}": np.array(
                [self.squared_asymmetry, self.done, -1 if self.single is None else self.single]
            ),
            f"basis{i}": np.concatenate([*self._blocks()]) if self.count else np.zeros((0, self.n)),
        }

    def restore(self, held: Any, i: int) -> None:
        if f"widths{i}" in held:
            raise ValueError("it was begun with block=True")
        self.alpha, self.beta, self.scale = [], [], 0.0
        alpha, beta = held[f"alpha{i}"].tolist(), held[f"beta{i}"].tolist()
        for row in zip(alpha, beta, strict=False):
            self._append_row(*row)
        self.squared_asymmetry, done, single = held[f"numbers{i}"].tolist()
        self.done, self.single = bool(done), None if single < 0 else bool(single)
        basis, steps = held[f"basis{i}"], len(alpha)
        whole = basis.shape == (steps + (not self.done), self.n) or (not self.norm and not basis.size)
        if not whole or len(beta) != steps or not np.isfinite(basis).all():
            raise ValueError(f"its basis has shape {basis.shape} after {steps} steps, or is not finite")
        self.slabs, self.count = [], 0
        for vector in basis:
            self._append(vector)


def lanczos(
    product: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    num_matvecs: int,
    *,
    stop: Callable[[tuple[Chain, ...]], bool] | None = None,
    every: int = 10,
    bound: float = 0.0,
    precision: float = _EPS,
    trusted: bool = True,
    state: str | os.PathLike[str] | None = None,
    save_seconds: float = 30.0,
    progress: Callable[[str, int, int], object] | None = None,
    name: str = "kernel",
    keep_basis: bool = False,
    block: Callable[[np.ndarray, float, float], ColumnRun] | None = None,
) -> tuple[Any, ...]:
    r"""Run Lanczos from each column of `starts`, one product with all of them a step.

    >>> (chain,) = lanczos(lambda v: np.diag([1.0, 4.0]) @ v, np.ones((2, 1)), 2)
    >>> chain.alpha.round(12), chain.beta.round(12), chain.exhausted
    (array([2.5, 2.5]), array([1.5, 0. ]), True)
    """
    runs = (
        [block(starts, bound, precision)]
        if block
        else [ColumnRun(np.ascontiguousarray(column), bound, precision) for column in starts.T]
    )
    file = None if state is None else State(state, starts, product, name)
    done = 0 if file is None else file.load(runs)
    saved = time.monotonic()
    try:
        while done < num_matvecs and not all(run.done for run in runs):
            active = [run for run in runs if not run.done]
            vectors = np.concatenate([run.front for run in active])
            products = product(vectors.T)
            _require_shape(products, (starts.shape[0], len(vectors)), name)
            _advance_all(active, vectors, products, name)
            done += 1
            if progress is not None:
                progress("lanczos", done, num_matvecs)
            if file is not None and time.monotonic() - saved > save_seconds:
                file.save(runs)
                saved = time.monotonic()
            if stop is not None and done % every == 0 and stop(tuple(run.chain() for run in runs)):
                break
    finally:
        # Also after an interrupt or an error of the product: no finished step is lost.
        if file is not None and len({len(run.alpha) for run in runs if not run.done}) <= 1:
            file.save(runs)
    if not trusted:
        seen = next((run for run in runs if run.alpha), None)
        noise = 0.0 if seen is None else seen.noise(product)
        for run in runs:
            run.seen_noise = noise
    return tuple(run.chain(keep_basis) for run in runs)


def _advance_all(active: list[Any], vectors: np.ndarray, products: np.ndarray, name: str) -> None:
    # Either all chains take the step or none: an interrupt in between would leave them at different ones.
    before = [(len(run.alpha), dict(run.__dict__)) for run in active]
    try:
        for run, column, vector in zip(active, products.T, vectors, strict=False):  # of a block the first
            run.see_precision(column, vector)
        left = np.array(products.T, dtype=float, order="C")
        _require_entries(left, name, len(active[0].alpha) + 1)
        active[0].advance_all(active, vectors, left, name)
    except BaseException:
        for run, (size, held) in zip(active, before, strict=True):
            run.__dict__.update(held)  # but for the lists, which grew
            del run.alpha[size:], run.beta[size:], run.slabs[-(-run.count // run.slab) :]
        raise


def require_symmetric(off: float, scale: float, step: int, n: int, name: str) -> None:
    """Refuse what is farther from symmetric than rounding, also of products in single precision."""
    if off > max(_ASYMMETRY * scale, 100 * n * _EPS * scale):
        raise ValueError(
            f"{name} must be symmetric, but step {step} of Lanczos found q_i'H q_j and q_j'H q_i {off:.3g} "
            f"apart (entries of T up to {scale:.3g}); pass (H + H.T) / 2"
        )


def _recurred(active: list[Any], vectors: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Take what T knows of the vectors before, and alpha times the last ones, off rows, in place; alpha."""
    if active[0].beta:
        left -= np.stack([run.beta[-1] * run.vector(run.count - 2) for run in active])
    alpha = np.matmul(vectors[:, None], left[:, :, None])[:, 0]
    left -= alpha * vectors
    return alpha[:, 0]


def _require_entries(rows: np.ndarray, name: str, step: int) -> None:
    largest = max(float(rows.max()), -float(rows.min()))
    if not math.isfinite(largest):
        row = rows[np.flatnonzero(~np.isfinite(rows).all(axis=1))[0]]
        bad = np.flatnonzero(~np.isfinite(row))
        raise ValueError(
            f"{name} returned {row[bad[0]]} at entry {bad[0]} of its product in step {step} ({bad.size} such "
            "in all); its entries must be finite and its products within the range of float64"
        )
    if largest > 1:  # what is near an eigenvector of 0 may be as small as it likes
        require_range(largest)


def _length(vector: np.ndarray) -> float:
    """The Euclidean norm where squares stay in the range of float64."""
    return math.sqrt(float(vector @ vector))


def _norm(vector: np.ndarray) -> float:
    """The Euclidean norm, also where squares leave the range of float64."""
    power = int(np.frexp(np.abs(vector).max(initial=0.0))[1])
    return float(np.ldexp(np.linalg.norm(np.ldexp(vector, -power)), power))


def _is_single(vector: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool((vector.astype(np.float32) == vector).all())


def _require_shape(products: np.ndarray, shape: tuple[int, int], name: str) -> None:
    if np.shape(products) != shape:
        raise ValueError(f"{name} returned a product of shape {np.shape(products)}, expected {shape}")
    if np.iscomplexobj(products) and np.imag(products).any():
        raise ValueError(f"{name} must be real, but returned complex numbers; pass a real operator")
