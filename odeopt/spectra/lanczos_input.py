r"""What Lanczos is given: the product with a kernel, its precision, bounds of its spectrum, the starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from odeopt.checks import is_finite, is_number, real_array, validate_error
from odeopt.kernels.matrix import array_bound, symmetric_array, symmetric_product

__all__ = [
    "columns_of", "interval_of", "matrix_of", "measured_error", "origin_of", "precision_of",
    "product_of", "require_options", "steps_of",
]  # fmt: skip

# Without `num_matvecs` an adaptive run stops here at the latest.
_MAX_MATVECS = 2000
# Up to so many multiplications OpenBLAS copies no factor of a product; with few vectors copying is half of
# its time, and strips of at least so many rows of the matrix need none. More vectors than fill two registers
# are no faster.
_STRIP, _UNPACKED, _WIDEST = 16, 10**6, 16
# Squares of smaller errors are subnormal, or 0: what a growing mode makes of them is more than rounding.
_LEAST_ERROR = 1e-146


def precision_of(matrix: Any) -> float:
    """Unit roundoff of the products of an array or operator, as far as its type says."""
    dtype: Any = np.dtype(float if matrix.dtype is None else matrix.dtype)
    return float(np.finfo(dtype if dtype.kind == "f" else float).eps)


def steps_of(num_matvecs: int | None, n: int) -> int:
    """The largest number of Lanczos steps."""
    if num_matvecs is None:
        return min(n, _MAX_MATVECS)
    if not isinstance(num_matvecs, (int, np.integer)) or isinstance(num_matvecs, bool) or num_matvecs < 1:
        raise ValueError(f"num_matvecs must be an integer of at least 1, got {num_matvecs!r}")
    if num_matvecs > n:
        raise ValueError(
            f"num_matvecs must be at most n = {n}, with which the measure is exact, got {num_matvecs}"
        )
    return int(num_matvecs)


def measured_error(delta0: Any, n: int) -> np.ndarray:
    """The errors, each of them 0 or of a size whose square float64 holds."""
    delta0 = validate_error(delta0, n, columns=True)
    largest = np.abs(delta0).max(axis=0)
    least = float(np.min(largest, where=largest > 0, initial=1.0))
    if least < _LEAST_ERROR:
        raise ValueError(
            f"delta0 has {'a column' if delta0.ndim == 2 else 'entries'} of at most {least:.3g}, whose "
            "squares leave the range of float64; multiply it by a power of two, and divide losses by the "
            "square of that"
        )
    return delta0


def require_options(block: Any, num_matvecs: int | None, rtol: Any, curves: Any) -> None:
    """Refuse a tolerance without curves, and a block that `eigh` has no use for."""
    listed = isinstance(curves, Sequence) and all(map(callable, curves))
    if rtol is not None and not (is_number(rtol) and 0 < rtol < 1 and listed and curves):
        raise ValueError(f"rtol = {rtol!r} must lie in (0, 1), with curves, a list of callables, to apply to")
    if not isinstance(block, bool):
        raise ValueError(f"block must be True or False, got {block!r}")
    if block and num_matvecs is None and rtol is None:
        raise ValueError("block is for Lanczos, but the measure would be by eigh: give num_matvecs or rtol")


def columns_of(delta0: Any, n: int) -> np.ndarray:
    """The errors as columns."""
    delta0 = measured_error(delta0, n)
    if not delta0.any():
        raise ValueError(
            "delta0 is zero: the network already fits its targets, and every loss is 0 unless weights decay; "
            "eigh, for an array without num_matvecs, takes it"
        )
    return delta0.reshape(n, -1)


def matrix_of(kernel: Any) -> tuple[Any, float, tuple[float, float]]:
    """What Lanczos multiplies with, a bound on its distance from the kernel, the range of known entries."""
    if isinstance(kernel, LinearOperator):
        return kernel, float(getattr(kernel, "storage_error", 0.0)), (0.0, 0.0)
    matrix, slack, entries = symmetric_array(kernel)
    # Converted once: a product of a float32 array with float64 vectors would convert it every time.
    return matrix.astype(np.float64, copy=False), slack, entries


def product_of(matrix: Any) -> Callable[[np.ndarray], np.ndarray]:
    """From columns to their products with the kernel."""
    if isinstance(matrix, np.ndarray):
        single = symmetric_product(matrix)
        return lambda vectors: (
            single(vectors[:, 0])[:, None] if vectors.shape[1] == 1 else _columns_product(matrix, vectors)
        )
    return lambda vectors: np.asarray(
        matrix.matvec(vectors[:, 0])[:, None] if vectors.shape[1] == 1 else matrix.matmat(vectors)
    )


def _columns_product(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The product with few columns: of strips with columns to a power of two, or of rows."""
    n, c = vectors.shape
    width = 1 << (c - 1).bit_length()
    strip = _UNPACKED // (n * width)
    if strip >= n or strip < _STRIP or width > _WIDEST:
        return (np.ascontiguousarray(vectors.T) @ matrix).T
    padded, found = np.zeros((n, width)), np.empty((n, width))
    padded[:, :c] = vectors
    for i in range(0, n, strip):
        np.matmul(matrix[i : i + strip], padded, out=found[i : i + strip])
    return found[:, :c]


def interval_of(matrix: Any, interval: Any, least: float | None = None) -> tuple[float, float | None, bool]:
    """Return a, b (None: to be estimated), whether b is certain; from the least entry, where it is known."""
    if interval is None:
        interval = getattr(matrix, "interval", None)
    if interval is not None:
        ends = (
            interval if isinstance(interval, (tuple, list)) and len(interval) == 2 else (math.nan, math.nan)
        )
        low, high = (float(end) if is_finite(end) else math.nan for end in ends)
        if not 0 <= low <= high:
            raise ValueError(f"interval must be finite numbers 0 <= a <= b, got {interval!r}")
        return low, high, True
    if isinstance(matrix, np.ndarray):
        return 0.0, array_bound(matrix, float(matrix.min()) if least is None else least), True
    return 0.0, None, False


def origin_of(origin: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The image J w_0 of the weights, of the shape of delta0."""
    origin = real_array(origin, "origin", ndim=len(shape))
    if origin.shape != shape:
        raise ValueError(
            f"origin must have the shape {shape} of delta0, got {origin.shape}; it is J w_0, the image of "
            "the weights under the Jacobian of the outputs"
        )
    return origin
