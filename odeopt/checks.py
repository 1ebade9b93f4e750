r"""What an argument must be: every check of a public argument that more than one wing makes."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

__all__ = [
    "frozen",
    "is_number",
    "is_symbolic",
    "iteration_grid",
    "nonnegative_grid",
    "predictions_and_targets",
    "real_array",
    "require_integer",
    "spectral_interval",
    "validate_error",
    "validate_kernel",
]


def is_number(value: Any) -> bool:
    """Tell whether a hyperparameter is a plain number (bools and sympy expressions are not)."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_symbolic(value: Any) -> bool:
    """Tell whether a hyperparameter is a sympy expression."""
    return hasattr(value, "free_symbols")


def predictions_and_targets(u0, y, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `u0` and `y` as finite vectors of length n, or raise ValueError.

    Parameters
    ----------
    u0, y : array_like, shape (n,)
    n : int
        Size of the kernel.

    Returns
    -------
    u0, y : numpy.ndarray, shape (n,)
    """
    vectors = real_array(u0, "u0", ndim=1), real_array(y, "y", ndim=1)
    for name, vector in zip(("u0", "y"), vectors, strict=True):
        if vector.size != n:
            raise ValueError(f"{name} must have shape ({n},) like the kernel, got {vector.shape}")
    return vectors


def nonnegative_grid(values, name: str) -> np.ndarray:
    """Return `values` as a nonempty float64 vector without negative or nonfinite entries."""
    grid = np.atleast_1d(np.asarray(values, dtype=float))
    if grid.ndim != 1 or grid.size == 0:
        raise ValueError(f"{name} must be a nonempty one-dimensional grid, got shape {np.shape(values)}")
    if not np.all(np.isfinite(grid)):
        raise ValueError(f"{name} must be finite, got {grid[~np.isfinite(grid)][0]} in the grid")
    if np.any(grid < 0):
        raise ValueError(f"{name} must be nonnegative, got {grid.min():.6g}; start the grid at 0")
    return grid


def real_array(value: Any, name: str, *, ndim: int | None) -> np.ndarray:
    """Return `value` as a new float64 array, or say what is wrong with it.

    Parameters
    ----------
    value : array_like
        Integers, booleans or floats.
    name : str
        How the error message calls it.
    ndim : int or None
        Required number of dimensions; None for any but zero.

    Returns
    -------
    numpy.ndarray
        A copy in float64.

    Raises
    ------
    ValueError
        If `value` is not real, is empty, has another number of dimensions, or is not finite.

    Examples
    --------
    >>> real_array([1, float("nan")], "y", ndim=1)
    Traceback (most recent call last):
        ...
    ValueError: y must be finite, but y[1] is nan (1 such entry in all); remove or repair it
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is not an array of numbers ({error}); pass a numeric array") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float64")
    if array.ndim != ndim and not (ndim is None and array.ndim):
        wanted = {1: "(n,)", 2: "(n, d)"}.get(ndim, "(n, ...)")
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}; reshape it")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}; pass at least one entry")
    array = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{name} must be finite, but {name}[{', '.join(map(str, index))}] is {array[index]} "
            f"({len(bad)} such entr{'y' if len(bad) == 1 else 'ies'} in all); remove or repair it"
        )
    return array


def validate_kernel(kernel: Any, *, name: str = "kernel") -> np.ndarray:
    r"""Return a kernel matrix as float64, or say why it is none.

    Parameters
    ----------
    kernel : array_like, shape (n, n)
        The matrix :math:`H=JJ^\top`.
    name : str, optional
        How the error message calls it.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        The symmetric part, read-only; equal to `kernel` but for rounding.

    Raises
    ------
    ValueError
        If `kernel` is not a real, finite, non-empty, square matrix; if it differs from its
        transpose by more than 1e-10 of its largest entry; or if an eigenvalue is negative beyond
        rounding, :math:`\lambda<-10n\epsilon\max\lvert\lambda\rvert`.

    Examples
    --------
    >>> validate_kernel([[1, 2], [2, 1]])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: kernel must be positive semidefinite, but its smallest eigenvalue is -1 (largest 3); ...
    """
    kernel = real_array(kernel, name, ndim=2)
    n, columns = kernel.shape
    if n != columns:
        raise ValueError(f"{name} must be square, got shape {kernel.shape}; pass H = J J^T of shape (n, n)")
    asymmetry = np.abs(kernel - kernel.T)
    size = np.abs(kernel).max()
    if asymmetry.max() > 1e-10 * size:
        i, j = (int(index) for index in np.unravel_index(asymmetry.argmax(), asymmetry.shape))
        raise ValueError(
            f"{name} must be symmetric, but entries ({i}, {j}) and ({j}, {i}) differ by "
            f"{asymmetry[i, j]:.3g} (largest entry {size:.3g}); if that is rounding, pass (H + H.T) / 2"
        )
    kernel = kernel / 2 + kernel.T / 2  # halved first: the sum of two large entries could overflow
    values = np.linalg.eigvalsh(kernel)
    if values[0] < -10 * n * np.finfo(float).eps * np.abs(values).max():
        raise ValueError(
            f"{name} must be positive semidefinite, but its smallest eigenvalue is {values[0]:.6g} "
            f"(largest {values[-1]:.6g}); compute it in float64 as J @ J.T, or project it on its "
            "nonnegative eigenvalues"
        )
    kernel.setflags(write=False)
    return kernel


def validate_error(delta0, n: int, *, columns: bool = False) -> np.ndarray:
    """Return `delta0` as a finite float64 vector of length n (or several columns), or raise ValueError."""
    delta0 = np.asarray(delta0, dtype=float)
    if delta0.shape != (n,) and not (columns and delta0.ndim == 2 and delta0.shape[0] == n and delta0.size):
        raise ValueError(f"delta0 must have shape ({n},) like the kernel, got {delta0.shape}")
    if not np.all(np.isfinite(delta0)):
        bad = np.argwhere(~np.isfinite(delta0))[0]
        value = delta0[tuple(bad)]
        raise ValueError(f"delta0 must be finite, got {value} at entry {int(bad[0])}; remove that sample")
    return delta0


def iteration_grid(grid, name: str = "grid") -> np.ndarray:
    """Return iteration numbers as a nonempty vector of nonnegative integers, or raise ValueError."""
    k = nonnegative_grid(grid, name)
    if not np.array_equal(k, np.round(k)):
        bad = k[k != np.round(k)][0]
        raise ValueError(
            f"{name} must hold iteration numbers, got {bad!r}; a rule is defined at integers only"
        )
    return k.astype(int)


def spectral_interval(mu: float, L: float | None) -> tuple[float, float]:
    """Return 0 < mu <= L as floats, L = mu if it is None, or raise ValueError."""
    L = mu if L is None else L
    for name, value in (("mu", mu), ("L", L)):
        if not is_number(value) or not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if mu <= 0:
        raise ValueError(f"mu must be positive, got {mu!r}; a singular kernel has no rate")
    if L < mu:
        raise ValueError(f"L must be at least mu, got mu = {mu!r}, L = {L!r}")
    return float(mu), float(L)


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def frozen(values, dtype: type = np.float64) -> np.ndarray:
    """Return a read-only array."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
