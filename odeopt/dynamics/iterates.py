r"""The discrete method in function space: predictions of a linear model, step by step, for any loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid
from odeopt.dynamics.images import kernel_of, product, rows_of
from odeopt.dynamics.losses import PredictionLoss, require_loss
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.linear import error_row, require_numeric
from odeopt.rules.reading import require_linear
from odeopt.shown import Pictured, Summary, along, rows_at, span

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["PredictionIterates", "predict_iterates"]


@dataclass(frozen=True, repr=False)
class PredictionIterates(Pictured):
    r"""Predictions of a linear model, step by step.

    Parameters
    ----------
    k : numpy.ndarray, shape (K,)
        Iterations.
    u : numpy.ndarray, shape (K, n) or (K, n, c)
        Predictions; inf or nan where an unstable iteration has overflowed.
    loss : numpy.ndarray, shape (K,)
        :math:`\ell(u_k)`, summed over the examples.
    points : numpy.ndarray, shape (K, p) or (K, p, c), or None
        Predictions at the points of the cross kernel.

    Examples
    --------
    >>> from odeopt import GradientDescent, SquaredLoss
    >>> run = predict_iterates(GradientDescent(lr=0.5), [[1.0]], SquaredLoss(), [0.0], [1.0], [0, 1])
    >>> run.k, run.loss
    (array([0, 1]), array([0.5  , 0.125]))
    """

    k: npt.NDArray[np.int64]
    u: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    points: npt.NDArray[np.float64] | None = None

    def _summary(self) -> Summary:
        facts = [along(self), f"loss {span(self.loss)}", "exact for a constant kernel"]
        return Summary(facts, *rows_at({"k": self.k, "loss": self.loss}))

    def __post_init__(self) -> None:
        for array in (self.k, self.u, self.loss, self.points):
            if array is not None:
                array.setflags(write=False)


def predict_iterates(
    rule: UpdateRule,
    kernel: npt.ArrayLike | LinearOperator,
    loss: PredictionLoss,
    u0: npt.ArrayLike,
    y: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    origin: npt.ArrayLike | None = None,
    cross_kernel: npt.ArrayLike | LinearOperator | None = None,
    start: npt.ArrayLike | None = None,
    points_origin: npt.ArrayLike | None = None,
    progress: Callable[[int], object] | None = None,
) -> PredictionIterates:
    r"""Run the rule's own step on the predictions, with the gradient :math:`H\nabla\ell(u)`.

    For a model linear in its weights, :math:`u=Jw+\text{const}`, these are its predictions, exactly. Points
    that are not trained on go along: :math:`J_*` takes the same step with the gradient
    :math:`H_*\nabla\ell(u)`, for every rule.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters, linear in iterates and gradients.
    kernel : array_like or LinearOperator, shape (n, n) or (n c, n c)
        One kernel of all outputs, or one between outputs, example by example.
    loss : PredictionLoss
        Of which the gradient is taken at the predictions.
    u0, y : array_like, shape (n,) or (n, c)
        Initial predictions and targets.
    k : array_like of increasing int, shape (K,)
        Iterations to report.
    origin : array_like, shape of `u0`, optional
        :math:`Jw_0`, from which the step is run where weights decay to 0.
    cross_kernel : array_like or LinearOperator, shape (p, n) or (p c, n c), optional
        :math:`H_*=J_*J^\top`, between other points and the examples.
    start, points_origin : array_like, shape (p,) or (p, c), optional
        Predictions at the points before the first step; :math:`J_*w_0`, beside `origin`.
    progress : callable, optional
        Called with each iteration.

    Returns
    -------
    PredictionIterates
        The predictions and their loss at the iterations `k`, read-only.

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
    require_loss("loss", loss)
    k = iteration_grid(k, "k")
    kernel = kernel_of(kernel)
    rows, first, y = rows_of(kernel, u0, y, cross_kernel, start)
    loss.require_targets(y)
    if np.any(np.diff(k) <= 0):
        raise ValueError(f"k must hold increasing iteration numbers, got {k.tolist()[:6]}...")
    if origin is None:
        moved = first
        require_linear(rule, "iterates in prediction space", equivariant=True, k=k)
    else:
        moved = rows.vector(origin, points_origin)
        error_row(rule, k)  # which refuses what has no image under J
    rest = first - moved

    def gradient(v: np.ndarray) -> np.ndarray:
        return product(rows.matrix, loss.gradient(rows.examples(v + rest), y).reshape(-1))

    wanted, kept = set(k.tolist()), []
    with np.errstate(over="ignore", invalid="ignore"):
        for i, v in enumerate(itertools.islice(iterate(rule, moved, gradient), int(k[-1]) + 1)):
            if i in wanted:
                kept.append(v + rest)
            if progress is not None:
                progress(i)
        found = np.array(kept)
        u = rows.examples(found)
        return PredictionIterates(k, u, np.array([float(loss.value(v, y)) for v in u]), rows.points(found))
