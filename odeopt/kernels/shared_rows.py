r"""Two sets of inputs of one kernel, and the rows that both hold."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array
from odeopt.kernels.inputs import unit_rows

__all__ = ["points_and_rows", "shared_directions", "shared_rows", "warn_of_shared_rows"]


def points_and_rows(x: npt.ArrayLike, x2: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of inputs of one dimension, one array if they are equal; shared rows are warned of."""
    x, x2 = real_array(x, "x", ndim=2), real_array(x2, "x2", ndim=2)
    if x.shape[1] != x2.shape[1]:
        raise ValueError(
            f"x2 must have {x.shape[1]} columns like x, got shape {x2.shape}; both hold one input a row"
        )
    if np.array_equal(x, x2):
        return x, x
    warn_of_shared_rows(x, x2)
    return x, x2


def warn_of_shared_rows(x: np.ndarray, x2: np.ndarray) -> None:
    """Say which rows of x are rows of x2 too, unless the two are one."""
    if np.array_equal(x, x2):
        return
    if shared := shared_rows(x, x2):
        i, j = shared[0]
        warnings.warn(
            f"{len(shared)} of the {len(x)} rows of x are rows of x2 too (row {i} is row {j} of x2): a curve "
            "on what is trained on is no test",
            UserWarning,
            stacklevel=4,
        )


def shared_rows(x: np.ndarray, x2: np.ndarray) -> list[tuple[int, int]]:
    """The rows i of x that are a row j of x2 too."""
    places = {row.tobytes(): j for j, row in enumerate(x2 + 0.0)}  # -0.0 and 0.0 are one
    return [(i, j) for i, row in enumerate(x + 0.0) if (j := places.get(row.tobytes())) is not None]


def shared_directions(x: np.ndarray, x2: np.ndarray) -> list[tuple[int, int]]:
    """The rows i of x that are a row j of x2 too at unit norm, to 12 decimals: scaled rows round."""
    return shared_rows(*(np.round(unit_rows(rows)[0], 12) for rows in (x, x2)))
