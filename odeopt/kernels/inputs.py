r"""Inputs of a ReLU kernel: checked, scaled to unit rows, and gathered in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from odeopt.checks import real_array

__all__ = ["WORK_ENTRIES", "index_chunks", "require_independent_pairs", "unit_rows", "validate_inputs"]

WORK_ENTRIES = 2**22  # entries of a work array: 32 MB of float64


def validate_inputs(x: Any, *, allow_parallel: bool = False) -> np.ndarray:
    r"""Return the inputs as float64, or say why their ReLU kernel is undefined or singular.

    A kernel of a bias-free ReLU network is positive definite when no two inputs are parallel [1]_.
    Rows with the same direction make it singular. An antipodal pair :math:`\pm x` does not
    (its kernel has :math:`\lambda_{\min}=1/2` at unit norm): with antipodal pairs
    :math:`\pm x_1,\dots,\pm x_p` and no rows of the same direction the kernel is singular exactly
    when :math:`x_1,\dots,x_p` are linearly dependent.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row.
    allow_parallel : bool, optional
        Accept rows that make the kernel singular; only non-finite and zero rows are then refused.

    Returns
    -------
    numpy.ndarray, shape (n, d)
        A copy in float64.

    Raises
    ------
    ValueError
        If `x` is not a real, finite, non-empty matrix, has a zero row, or (unless allowed) has
        two rows of the same direction or linearly dependent antipodal pairs. The rows are named.

    References
    ----------
    .. [1] S. S. Du, X. Zhai, B. Poczos, A. Singh, "Gradient descent provably optimizes
       over-parameterized neural networks", ICLR 2019, Theorem 3.1.

    Examples
    --------
    >>> validate_inputs([[1, 0], [0, 1], [-1, 0]]).shape
    (3, 2)
    >>> validate_inputs([[1, 2], [0, 1], [3, 6]])
    Traceback (most recent call last):
        ...
    ValueError: x has parallel rows 0 and 2, so its ReLU kernel is singular; drop one of them
    """
    x = real_array(x, "x", ndim=2)
    zero = np.flatnonzero(~x.any(axis=1))
    if len(zero):
        raise ValueError(
            f"x has a row of zero norm: row {zero[0]} ({len(zero)} in all), on which a bias-free "
            "ReLU network is constant; drop it or append a constant feature"
        )
    if not allow_parallel:
        _require_independent_directions(x)
    return x


def unit_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows at unit norm, and their norms."""
    # Dividing by the largest entry first keeps the squares inside the range of float64.
    scale = np.abs(x).max(axis=1)
    unit = x / scale[:, None]
    norm = np.linalg.norm(unit, axis=1)
    return unit / norm[:, None], scale * norm


def _require_independent_directions(x: np.ndarray) -> None:
    # Two unit rows at distance delta give lambda_min <= delta / (2 pi) (to first order), and the
    # eigenvalues of the computed kernel carry errors of about n eps: below this distance
    # lambda_min is zero in float64. The normalisation itself moves a row by a few eps.
    unit, _ = unit_rows(x)
    n = len(unit)
    tolerance = 8 * n * np.finfo(float).eps
    antipodal = []
    rows = max(1, WORK_ENTRIES // n)
    for start in range(0, n, rows):
        cosine = unit[start : start + rows] @ unit.T
        # The cosine only preselects (its rounding hides angles below 1e-8); differences decide.
        i, j = np.nonzero(np.triu(np.abs(cosine) > 1 - 1e-10, k=start + 1))
        sign = np.sign(cosine[i, j])
        i = i + start
        for near_i, near_j, near_sign in index_chunks(unit.shape[1], i, j, sign):
            gap = np.linalg.norm(unit[near_i] - near_sign[:, None] * unit[near_j], axis=1)
            hit = gap <= tolerance
            for a, b in zip(near_i[hit & (near_sign > 0)], near_j[hit & (near_sign > 0)], strict=True):
                kind = "identical" if np.array_equal(x[a], x[b]) else "parallel"
                raise ValueError(
                    f"x has {kind} rows {a} and {b}, so its ReLU kernel is singular; drop one of them"
                )
            antipodal.extend(zip(near_i[hit].tolist(), near_j[hit].tolist(), strict=True))
    if antipodal:
        require_independent_pairs(unit, antipodal)


def index_chunks(d: int, *arrays: np.ndarray):
    """Cut index arrays so that the rows they gather fit in a block."""
    size = max(1, WORK_ENTRIES // d)
    for start in range(0, len(arrays[0]), size):
        yield tuple(a[start : start + size] for a in arrays)


def require_independent_pairs(unit: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    # relu(w.x) - relu(-w.x) = w.x is linear: over the pairs +-x_1 ... +-x_p the kernel contains
    # the linear kernel X X', whose smallest eigenvalue is the square of the singular value.
    values = np.linalg.svd(unit[[i for i, _ in pairs]], compute_uv=False)
    smallest = values[-1] if len(pairs) <= unit.shape[1] else 0.0
    if smallest**2 <= 8 * len(unit) * np.finfo(float).eps:
        shown = ", ".join(f"{i} and {j}" for i, j in pairs[:4]) + (", ..." if len(pairs) > 4 else "")
        raise ValueError(
            f"x has {len(pairs)} antipodal pairs of rows ({shown}) whose directions are linearly "
            "dependent, so its ReLU kernel is singular; drop one row of some of the pairs"
        )
