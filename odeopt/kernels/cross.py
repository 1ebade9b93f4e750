r"""Kernels between two sets of inputs as operators: entries are computed in blocks, and none is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.kernels.blocks import LinearOperator
from odeopt.kernels.inputs import WORK_ENTRIES
from odeopt.kernels.relu import gram_between, validate_architecture
from odeopt.kernels.shared_rows import points_and_rows

__all__ = ["CrossOperator", "relu_cross_operator"]


class CrossOperator(LinearOperator):
    r"""A kernel :math:`K(x_i,x'_j)` of shape (p, n) that acts without being stored.

    Parameters
    ----------
    between : callable
        From rows of `x` and of `x2` to the block of the kernel between them.
    x : numpy.ndarray, shape (p, d)
        Inputs of the rows.
    x2 : numpy.ndarray, shape (n, d)
        Inputs of the columns.

    Attributes
    ----------
    row_norms : numpy.ndarray, shape (p,), or None
        Norms of its rows, once a product has seen them.

    Examples
    --------
    >>> linear = CrossOperator(lambda rows, columns: rows @ columns.T, np.eye(2), np.array([[3.0, 4.0]]))
    >>> linear @ [1.0], linear.row_norms
    (array([3., 4.]), array([3., 4.]))
    """

    def __init__(
        self, between: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray, x2: np.ndarray
    ) -> None:
        super().__init__(np.dtype(np.float64), (len(x), len(x2)))
        self._between, self._x, self._x2 = between, x, x2
        self.row_norms: np.ndarray | None = None

    def _blocks(self) -> Iterator[tuple[slice, slice, np.ndarray]]:
        """Tiles near squares: of a few long rows each would read and scale all columns anew."""
        rows = min(math.isqrt(WORK_ENTRIES), len(self._x))
        columns = WORK_ENTRIES // rows
        for i in range(0, len(self._x), rows):
            for j in range(0, len(self._x2), columns):
                here, there = slice(i, i + rows), slice(j, j + columns)
                yield here, there, self._between(self._x[here], self._x2[there])

    def _matmat(self, X: Any) -> np.ndarray:
        X, norms = np.asarray(X), np.zeros(len(self._x))
        products = np.zeros((len(self._x), X.shape[1]), np.result_type(X, float))
        for here, there, block in self._blocks():
            products[here] += block @ X[there]
            norms[here] = np.hypot(norms[here], np.linalg.norm(block, axis=1))
        self.row_norms = norms
        return products

    def _matvec(self, x: Any) -> np.ndarray:
        return self._matmat(np.reshape(x, (-1, 1)))[:, 0]

    def _rmatmat(self, X: Any) -> np.ndarray:
        X = np.asarray(X)
        products = np.zeros((len(self._x2), X.shape[1]), np.result_type(X, float))
        for here, there, block in self._blocks():
            products[there] += block.T @ X[here]
        return products

    def _rmatvec(self, x: Any) -> np.ndarray:
        return self._rmatmat(np.reshape(x, (-1, 1)))[:, 0]


def relu_cross_operator(
    x: npt.ArrayLike, x2: npt.ArrayLike, *, layers: Literal["first", "both"] = "first", depth: int = 1
) -> CrossOperator:
    r"""Kernel of the infinitely wide ReLU network between two sets of inputs, as an operator.

    Parameters
    ----------
    x : array_like, shape (p, d)
        Inputs of the rows, as the points of :func:`odeopt.spectra.predict`.
    x2 : array_like, shape (n, d)
        Inputs of the columns, the training examples.
    layers : {"first", "both"}, optional
        Which layers are trained, as in :func:`odeopt.relu_gram`.
    depth : int, optional
        Number of hidden layers.

    Returns
    -------
    CrossOperator
        Of shape (p, n). Every product computes all entries anew, in blocks of 32 MB.

    Raises
    ------
    ValueError
        If the inputs are no finite matrices with as many columns, or an option is unknown.

    Examples
    --------
    >>> from odeopt import relu_gram
    >>> test, train = [[0.0, 3.0]], [[1.0, 0.0], [1.0, 1.0]]
    >>> relu_cross_operator(test, train) @ [1.0, 2.0], relu_gram(test, train)
    (array([2.25]), array([[0.   , 1.125]]))
    """
    validate_architecture(layers, depth)
    x, x2 = points_and_rows(x, x2)
    whole = len(x) * len(x2)
    return CrossOperator(lambda rows, columns: gram_between(rows, columns, layers, depth, whole), x, x2)
