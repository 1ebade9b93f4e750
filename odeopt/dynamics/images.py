r"""From a gradient on the examples to the moves of all predictions: the kernel, and rows of other points.

Predictions of shape (n, c) move by :math:`HG` under one kernel (n, n) of all outputs, and by the product with
all entries of G, example by example, under a kernel (n c, n c) between outputs. Points that are not trained
on move by the same gradient under :math:`H_*=J_*J^\top`: as rows below H they go along with every rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from odeopt.checks import predictions_and_targets, real_array, validate_kernel
from odeopt.kernels.matrix import require_square

__all__ = ["Rows", "kernel_of", "product", "rows_of"]


def kernel_of(kernel: Any) -> Any:
    """A kernel as a checked array, or the operator that it is, whose entries nobody sees."""
    if isinstance(kernel, np.ndarray) or not hasattr(kernel, "matvec"):
        return validate_kernel(kernel)
    require_square(kernel)
    return kernel


def product(matrix: Any, g: np.ndarray) -> np.ndarray:
    """The flat image of a gradient, of one column or of c."""
    columns = matrix.shape[1]
    return matrix @ g if g.size == columns else (matrix @ g.reshape(columns, -1)).ravel()


@dataclass(frozen=True)
class Rows:
    """The matrix of all rows, and the flat predictions of examples and points, of shapes `shape` and `at`."""

    matrix: Any
    shape: tuple[int, ...]
    at: tuple[int, ...] | None

    def vector(self, origin: Any, points_origin: Any) -> np.ndarray:
        """The images of the weights themselves, J w_0 and J_* w_0, in one vector."""
        given = [("origin", origin, self.shape)]
        given += [] if self.at is None else [("points_origin", points_origin, self.at)]
        found = []
        for name, value, shape in given:
            if value is None:
                raise ValueError(f"{name} = J_* w_0 is missing beside origin; unseen weights decay too")
            array = real_array(value, name, ndim=len(shape))
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape} of the predictions, got {array.shape}")
            found.append(array.ravel())
        return np.concatenate(found)

    def examples(self, v: np.ndarray) -> np.ndarray:
        """The predictions of the examples, of any number of flat vectors."""
        size = int(np.prod(self.shape))
        return v[..., :size].reshape(*v.shape[:-1], *self.shape)

    def points(self, v: np.ndarray) -> np.ndarray | None:
        """Those of the points, None without any."""
        if self.at is None:
            return None
        size = int(np.prod(self.shape))
        return v[..., size:].reshape(*v.shape[:-1], *self.at)


def rows_of(
    kernel: Any, u0: Any, y: Any, cross_kernel: Any = None, start: Any = None
) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Check kernels and predictions; return the rows, all first predictions as a vector, and the targets."""
    u0, y = predictions_and_targets(u0, y, kernel.shape[0])
    if (cross_kernel is None) != (start is None):
        given, missing = ("start", "cross_kernel") if cross_kernel is None else ("cross_kernel", "start")
        raise ValueError(f"{given} was given without {missing}; points need both, or neither")
    if cross_kernel is None:
        return Rows(kernel, u0.shape, None), u0.ravel(), y
    first = real_array(start, "start", ndim=u0.ndim)
    if first.shape[1:] != u0.shape[1:]:
        raise ValueError(f"start must have the {u0.shape[1]} outputs of u0, got shape {first.shape}")
    each = kernel.shape[0] // len(u0)  # rows of an example: 1, or all of its outputs
    operator = not isinstance(cross_kernel, np.ndarray) and hasattr(cross_kernel, "matvec")
    cross = cross_kernel if operator else real_array(cross_kernel, "cross_kernel", ndim=2)
    wanted = (each * len(first), kernel.shape[1])
    if tuple(cross.shape) != wanted:
        raise ValueError(
            f"cross_kernel must have shape {wanted}, of the points of start and of the kernel, got "
            f"{tuple(cross.shape)}"
        )
    both = np.concatenate([u0.ravel(), first.ravel()])
    return Rows(_stacked(kernel, cross), u0.shape, first.shape), both, y


def _stacked(kernel: Any, cross: Any) -> Any:
    if isinstance(kernel, np.ndarray) and isinstance(cross, np.ndarray):
        return np.vstack([kernel, cross])

    def moves(g: np.ndarray) -> np.ndarray:
        return np.concatenate([kernel @ g, cross @ g])

    shape = (kernel.shape[0] + cross.shape[0], kernel.shape[1])
    return scipy.sparse.linalg.LinearOperator(shape, matvec=moves, matmat=moves, dtype=np.float64)
