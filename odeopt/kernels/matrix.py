r"""What is checked and known of a large symmetric matrix without decomposing it.

Its entries are checked in blocks of rows. Its spectrum is bounded as by Collatz and Wielandt: for a positive
vector x and :math:`D=\mathrm{diag}(x)`, the largest row sum of :math:`D^{-1}|H|D`, which is
:math:`\max_i(|H|x)_i/x_i`, bounds every eigenvalue of H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy

from odeopt.checks import real_array

__all__ = ["array_bound", "norm_bound", "require_range", "require_square", "symmetric_array"]

_ROWS, _READ = 512, 64  # of an array at a time: checks of a large kernel copy little, and read it once
_TILE = 128  # both a tile and its transpose stay in the cache of a core
_TOLERANCE = 1e-3  # a product that lowers a bound by less, relatively, is the last


def require_range(size: float, storage: str = "float64") -> None:
    """Refuse what is of the order of a kernel that Lanczos cannot square, or float32 cannot store."""
    single = storage == "float32"
    least, most = (1e-20, 1e38) if single else (1e-150, 1e150)
    if size and not least <= size <= most:
        lost = (
            f"which float32 holds from {least:g} to {most:g}; take storage = 'float64', or"
            if single
            else "whose square leaves the range of float64 in Lanczos;"
        )
        raise ValueError(
            f"kernel is of the size {size:.3g}, {lost} multiply it by a power of two, and divide learning "
            "rates or times to match"
        )


def require_square(matrix: Any) -> int:
    """Return n of a real (n, n) matrix or operator, or raise ValueError."""
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"kernel must be square, got shape {matrix.shape}; pass H = J J^T of shape (n, n)")
    if np.dtype(matrix.dtype if matrix.dtype is not None else float).kind not in "biuf":
        raise ValueError(f"kernel must be real, got dtype {matrix.dtype}; pass a float64 operator")
    return int(matrix.shape[0])


def symmetric_array(kernel: Any) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Return the symmetric part as a float array, a bound on what was left out, and its range of entries."""
    known = isinstance(kernel, np.ndarray) and kernel.dtype in (np.float64, np.float32)
    # a masked array, or a matrix, is an array by its class alone
    kernel = (
        np.asarray(kernel) if known and not np.ma.is_masked(kernel) else real_array(kernel, "kernel", ndim=2)
    )
    if kernel.ndim != 2 or kernel.size == 0:
        raise ValueError(f"kernel must be a nonempty matrix of shape (n, n), got shape {kernel.shape}")
    n = require_square(kernel)
    rows = (kernel[i : i + _READ] for i in range(0, n, _READ))
    ends = np.array([(block.min(), block.max()) for block in rows], dtype=float)
    least, most = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not np.isfinite(least + most):  # or where both are huge
        real_array(kernel, "kernel", ndim=2)  # names the entry
    gap, place = 0.0, (0, 0)
    corners = range(0, n, _TILE)
    for i, j in ((i, j) for i in corners for j in corners if j >= i):
        here, there = kernel[i : i + _TILE, j : j + _TILE], kernel[j : j + _TILE, i : i + _TILE].T
        if (here == there).all():
            continue
        difference = np.abs(here - there)
        if (largest := float(difference.max())) > gap:
            a, b = np.unravel_index(difference.argmax(), difference.shape)
            gap, place = largest, (i + int(a), j + int(b))
    if gap == 0:
        return kernel, 0.0, (least, most)
    if gap > 1e-10 * (largest := max(most, -least)):  # as in validate_kernel
        raise ValueError(
            f"kernel must be symmetric, but entries {place} and {place[::-1]} differ by {gap:.3g} (largest "
            f"entry {largest:.3g}); if that is rounding, pass (H + H.T) / 2"
        )
    # Halved first: the sum of two large entries could overflow. In float64: float32 would round the mean.
    half = kernel.astype(np.float64) / 2
    return half + half.T, n * gap / 2, (least, most)


def symmetric_product(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return x -> H x for one vector, reading half of the array where it is float64 and contiguous.

    A product is bound by memory, so half the array is half the time.
    """
    if matrix.dtype == np.float64 and matrix.flags.c_contiguous:
        # the transposed view is in the order that BLAS reads without a copy
        return lambda x: scipy.linalg.blas.dsymv(1.0, matrix.T, x, lower=1)
    return lambda x: matrix @ x


def array_bound(matrix: np.ndarray, least: float) -> float:
    """Bound the spectrum of a symmetric array with this least entry, see :func:`norm_bound`."""
    if least >= 0:
        return norm_bound(symmetric_product(matrix), len(matrix))
    blocks = range(0, len(matrix), _ROWS)
    return norm_bound(
        lambda x: np.concatenate([np.abs(matrix[i : i + _ROWS]) @ x for i in blocks]), len(matrix)
    )


def norm_bound(absolute_product: Callable[[np.ndarray], np.ndarray], n: int, iterations: int = 12) -> float:
    """Bound the spectrum of H, shape (n, n), by max (abs(H) x)_i / x_i, x from a few power iterations."""
    x, best = np.ones(n), np.inf
    vectors, products = [], []
    for _ in range(iterations):
        y = absolute_product(x)
        before, best = best, min(best, float((y / x).max()))
        if best > (1 - _TOLERANCE) * before or y.max() <= 0:
            break
        vectors.append(x)
        products.append(y)
        x = _next_vector(vectors, products)
    # The n products and sums of each entry round by at most n eps.
    return float(best * (1 + 2 * n * np.finfo(float).eps))


def _next_vector(vectors: list[np.ndarray], products: list[np.ndarray]) -> np.ndarray:
    """A positive vector: of the products with the Ritz vector of all vectors, or else with the last one."""
    basis, triangle = np.linalg.qr(np.stack(vectors, axis=1))
    size = np.abs(np.diag(triangle))
    if size.size == len(vectors) and size.min() > 1e-8 * size.max():
        images = scipy.linalg.solve_triangular(triangle, np.array(products), trans="T").T
        _, ritz = np.linalg.eigh((basis.T @ images + images.T @ basis) / 2)
        found = images @ ritz[:, -1]
        found /= found[np.abs(found).argmax()]
        if found.min() > 0:
            return found
    # Zero rows are kept positive: any positive x gives a bound.
    return products[-1] / products[-1].max() + 1e-12
