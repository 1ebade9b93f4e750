r"""The empirical kernel between two sets of inputs, from products with two Jacobians of one module.

:math:`H_*c=J_*(J^\top c)` is one reverse sweep over the examples and one forward sweep over the points.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from odeopt.kernels.blocks import LinearOperator
from odeopt.nets.kernels.jacobian import Jacobian
from odeopt.nets.kernels.matrix import product_matrix

__all__ = ["EmpiricalCross"]


class EmpiricalCross(LinearOperator):
    r"""Kernel :math:`H_*=\mathrm{scale}\cdot J_*J^\top` at fixed weights; see :func:`empirical_operator`.

    Parameters
    ----------
    points, examples : Jacobian
        :math:`J_*` of the points and J of the examples.
    scale : float
        1 for ``reduction="sum"``, 2/N for "mean".

    Attributes
    ----------
    shape : tuple of int
        (P, N): outputs of the points, and of the examples, example by example.
    predictions : numpy.ndarray, shape (P,)
        Outputs of the points at these weights, read-only: the `start` of :func:`odeopt.predict`.
    example_predictions : numpy.ndarray, shape (N,)
        Those of the examples.

    Examples
    --------
    >>> from odeopt.nets import TwoLayerReLU, empirical_operator
    >>> cross = empirical_operator(TwoLayerReLU(3, 50), np.ones((1, 3)), np.eye(3))
    >>> cross.shape, bool(np.allclose(cross @ np.ones(3), cross.gram().sum(axis=1)))
    ((1, 3), True)
    """

    def __init__(self, points: Jacobian, examples: Jacobian, scale: float) -> None:
        self.predictions: np.ndarray = points.predictions
        self.example_predictions: np.ndarray = examples.predictions
        super().__init__(np.dtype(np.float64), (points.predictions.size, examples.predictions.size))
        self.scale = scale
        self._points, self._examples = points, examples

    @functools.cached_property
    def origin(self) -> np.ndarray:
        r""":math:`J_*w_0`, shape (P,): the `points_origin` of :func:`odeopt.predict`.

        Examples
        --------
        >>> from odeopt.nets import TwoLayerReLU, empirical_operator
        >>> cross = empirical_operator(TwoLayerReLU(3, 50), np.ones((1, 3)), np.eye(3))
        >>> np.allclose(cross.origin, cross.predictions)
        True
        """
        found = self._points.origin()
        found.setflags(write=False)
        return found

    def gram(self) -> np.ndarray:
        r"""Return the kernel as an array, by layers as :meth:`EmpiricalOperator.gram` and checked alike.

        Returns
        -------
        numpy.ndarray, shape (P, N)
            In float64, read-only.

        Examples
        --------
        >>> from torch import nn
        >>> from odeopt.nets import empirical_operator
        >>> cross = empirical_operator(nn.Linear(2, 1, bias=False), [[3.0, 1.0]], [[1.0, 2.0], [0.0, 1.0]])
        >>> cross.gram()
        array([[5., 1.]])
        """
        found = self.scale * product_matrix(self._points, self._examples)
        found.setflags(write=False)
        return found

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._through(self._points, self._examples, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._through(self._examples, self._points, X)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, (-1, 1)))[:, 0]

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(np.reshape(x, (-1, 1)))[:, 0]

    def _through(self, left: Jacobian, right: Jacobian, columns: np.ndarray) -> np.ndarray:
        device = right.device
        products = [
            left.push_forward(right.pull_back(torch.tensor(c, dtype=torch.float64, device=device)))
            for c in np.asarray(columns, dtype=float).T
        ]
        return self.scale * torch.stack(products, dim=1).cpu().numpy()
