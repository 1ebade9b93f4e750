r"""The discrete method in function space: predictions of a linear model, step by step, for any loss."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from odeopt.checks import nonnegative_grid, predictions_and_targets, validate_kernel
from odeopt.dynamics.losses import PredictionLoss
from odeopt.rules.base import UpdateRule, iterate

__all__ = ["PredictionIterates", "predict_iterates"]


@dataclass(frozen=True)
class PredictionIterates:
    r"""Predictions of a linear model, step by step.

    Attributes
    ----------
    k : numpy.ndarray, shape (K,)
        Iterations.
    u : numpy.ndarray, shape (K, n)
        Predictions; inf or nan where an unstable iteration has overflowed.
    loss : numpy.ndarray, shape (K,)
        :math:`\ell(u_k)`, summed over the examples.
    """

    k: np.ndarray
    u: np.ndarray
    loss: np.ndarray

    def __post_init__(self):
        for name in ("k", "u", "loss"):
            getattr(self, name).setflags(write=False)


def predict_iterates(rule: UpdateRule, kernel, loss: PredictionLoss, u0, y, k) -> PredictionIterates:
    r"""Run the rule's own step on the predictions, with the gradient :math:`H\nabla\ell(u)`.

    For a model that is linear in its weights these are its predictions, exactly: with
    :math:`u=Jw+\text{const}` each step is the image under J of the step in the weights.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters, linear in iterates and gradients.
    kernel : array_like, shape (n, n)
        H, constant.
    loss : PredictionLoss
    u0 : array_like, shape (n,)
        Initial predictions.
    y : array_like, shape (n,)
        Targets.
    k : array_like of int, shape (K,)
        Increasing iteration numbers at which to report.

    Returns
    -------
    PredictionIterates

    Raises
    ------
    ValueError
        If an argument is invalid, or the rule is not linear, so that it does not close in (u, H).

    Examples
    --------
    >>> from odeopt import GradientDescent, SquaredLoss
    >>> predict_iterates(GradientDescent(lr=0.5), [[1.0]], SquaredLoss(), [0.0], [1.0], [0, 1, 2]).u[:, 0]
    array([0.  , 0.5 , 0.75])
    """
    if not rule.is_numeric:
        raise ValueError(f"rule {rule.label} holds symbols; give them numbers with rule.at(...)")
    matrix = validate_kernel(kernel)
    u0, y = predictions_and_targets(u0, y, matrix.shape[0])
    k = nonnegative_grid(k, "k")
    if np.any(k != np.round(k)) or np.any(np.diff(k) <= 0):
        raise ValueError(f"k must hold increasing iteration numbers, got {k.tolist()[:6]}...")
    k = k.astype(int)
    _require_linear(rule)
    run = iterate(rule, u0, lambda u: matrix @ loss.gradient(u, y))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = set(k.tolist())
        u = np.array([v for i, v in enumerate(itertools.islice(run, int(k[-1]) + 1)) if i in wanted])
        values = np.array([float(loss.value(v, y)) for v in u])
    return PredictionIterates(k, u, values)


def _require_linear(rule: UpdateRule) -> None:
    """Refuse a rule whose step does not commute with a linear map, found by trying one."""
    jacobian = np.array([[1.0, -2.0, 0.5], [0.5, 1.0, 3.0]])
    w0, steps = np.array([0.3, -0.7, 0.2]), 5

    def force(u):  # any smooth function will do
        return np.tanh(u) + 0.1

    weights = itertools.islice(iterate(rule, w0, lambda w: jacobian.T @ force(jacobian @ w)), steps)
    images = np.array([jacobian @ w for w in weights])
    direct = itertools.islice(iterate(rule, jacobian @ w0, lambda u: jacobian @ jacobian.T @ force(u)), steps)
    # Rounding is 1e-16 of the largest number; a componentwise division is wrong in the first digit.
    if not np.allclose(images, np.array(list(direct)), rtol=0, atol=1e-10 * np.abs(images).max()):
        raise ValueError(
            f"rule {rule.label} is not linear in iterates and gradients, so its predictions depend on more "
            "than (u, H); train a network with nets.train instead"
        )
