r"""The discrete method in function space: predictions of a linear model, step by step, for any loss."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid, predictions_and_targets, validate_kernel
from odeopt.dynamics.losses import PredictionLoss
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.linear import error_row, require_numeric
from odeopt.rules.reading import require_linear

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

    k: npt.NDArray[np.int64]
    u: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        for name in ("k", "u", "loss"):
            getattr(self, name).setflags(write=False)


def predict_iterates(
    rule: UpdateRule,
    kernel: npt.ArrayLike,
    loss: PredictionLoss,
    u0: npt.ArrayLike,
    y: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    origin: npt.ArrayLike | None = None,
) -> PredictionIterates:
    r"""Run the rule's own step on the predictions, with the gradient :math:`H\nabla\ell(u)`.

    For a model linear in its weights, :math:`u=Jw+\text{const}`, these are its predictions, exactly.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters, linear in iterates and gradients.
    kernel : array_like, shape (n, n)
    loss : PredictionLoss
    u0, y : array_like, shape (n,)
        Initial predictions and targets.
    k : array_like of increasing int, shape (K,)
    origin : array_like, shape (n,), optional
        :math:`Jw_0`, from which the step is run where weights decay to 0.

    Returns
    -------
    PredictionIterates

    Raises
    ------
    ValueError
        If an argument is invalid, or the step is not linear or none in the error alone.

    Examples
    --------
    >>> from odeopt import GradientDescent, SquaredLoss
    >>> predict_iterates(GradientDescent(lr=0.5), [[1.0]], SquaredLoss(), [0.0], [1.0], [0, 1, 2]).u[:, 0]
    array([0.  , 0.5 , 0.75])
    """
    require_numeric(rule)
    if not isinstance(loss, PredictionLoss):
        raise ValueError(f"loss must be a PredictionLoss, got {loss!r}; subclass it, or take SquaredLoss()")
    matrix, k = validate_kernel(kernel), iteration_grid(k, "k")
    u0, y = predictions_and_targets(u0, y, matrix.shape[0])
    if np.any(np.diff(k) <= 0):
        raise ValueError(f"k must hold increasing iteration numbers, got {k.tolist()[:6]}...")
    if origin is None:
        start = u0
        require_linear(rule, "iterates in prediction space", equivariant=True, k=k)
    else:
        start, _ = predictions_and_targets(origin, y, matrix.shape[0])
        error_row(rule, k)  # which refuses what has no image under J
    rest = u0 - start
    steps = iterate(rule, start, lambda v: matrix @ loss.gradient(v + rest, y))
    run = (v + rest for v in itertools.islice(steps, int(k[-1]) + 1))
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = set(k.tolist())
        u = np.array([v for i, v in enumerate(run) if i in wanted])
        return PredictionIterates(k, u, np.array([float(loss.value(v, y)) for v in u]))
