r"""The law of mini-batch SGD in the linear model: its mean and its second moment, exactly.

In each step the gradient is taken on a batch drawn anew and independently, B of n examples without
replacement, times n/B. With the projector P on the batch the error of a linear model has the gradient
:math:`\tfrac nBHP\Delta`, and :math:`\mathbb E\,\tfrac nBP=I`. The batch is independent of the state that it
meets, and the step is linear in state and gradient, so for *every* linear rule

.. math:: \mathbb E\,\Delta_k=\text{the full-batch recursion, exactly},\qquad
          \mathbb E\,\tfrac12\lVert\Delta_k\rVert^2=\tfrac12\lVert\mathbb E\Delta_k\rVert^2
          +\tfrac12\operatorname{tr}\operatorname{Cov}\Delta_k .

The limit of the mean is therefore the ODE of the rule; the loss has the variance on top. With the step
:math:`s\to(A\otimes I+R\otimes\tfrac nBHP)s` of the state s (iterates and memory) the second moment
:math:`\Sigma=\mathbb E\,ss^\top` closes, by counting the pairs of a batch: for each block X of it

.. math:: \bigl(\tfrac nB\bigr)^2\,\mathbb E\,PXP=qX+(\tfrac nB-q)\operatorname{diag}X,\qquad
          q=\frac{n(B-1)}{B(n-1)} .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen, iteration_grid, real_array, require_integer, validate_kernel
from odeopt.rules.base import UpdateRule
from odeopt.rules.loop import first_memory
from odeopt.shown import Pictured, Summary, along, rows_at, span
from odeopt.spectra.errors import losses

__all__ = ["SGDPrediction", "sgd_prediction"]


@dataclass(frozen=True, repr=False)
class SGDPrediction(Pictured):
    r"""Mean and second moment of SGD's error in the linear model, exact at every step.

    Parameters
    ----------
    rule : UpdateRule
        That of the steps.
    batch_size : int
        B, examples in a batch.
    k : numpy.ndarray of int, shape (K,)
        Steps.
    mean : numpy.ndarray, shape (K, n)
        :math:`\mathbb E\,\Delta_k`, the full-batch recursion.
    std : numpy.ndarray, shape (K, n)
        Standard deviation of each entry of :math:`\Delta_k`.
    loss : numpy.ndarray, shape (K,)
        :math:`\mathbb E\,\tfrac12\lVert\Delta_k\rVert^2`; it grows without bound where the learning rate is
        too large for the second moment.

    Attributes
    ----------
    mean_loss : numpy.ndarray, shape (K,)
        :math:`\tfrac12\lVert\mathbb E\,\Delta_k\rVert^2`; the rest of `loss` is the variance.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> found = sgd_prediction(GradientDescent(0.25), np.eye(2), [1.0, 1.0], 1, [0, 1, 2])
    >>> found.mean[:, 0], found.std[:, 0].round(3)
    (array([1.    , 0.75  , 0.5625]), array([0.   , 0.25 , 0.272]))
    >>> found.loss, found.mean_loss
    (array([1.      , 0.625   , 0.390625]), array([1.        , 0.5625    , 0.31640625]))
    """

    rule: UpdateRule
    batch_size: int
    k: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    loss: np.ndarray

    def _summary(self) -> Summary:
        loss = f"expected loss {span(self.loss)}, exact for a constant kernel"
        facts = [along(self), loss, f"batches of {self.batch_size} of {self.mean.shape[1]}", self.rule.label]
        columns = {"k": self.k, "expected loss": self.loss, "loss of the mean": self.mean_loss}
        return Summary(facts, *rows_at(columns | {"variance part": self.variance_loss}))

    @property
    def mean_loss(self) -> np.ndarray:
        """Loss of the mean, shape (K,)."""
        return losses(self.mean)

    @property
    def variance_loss(self) -> np.ndarray:
        r""":math:`\tfrac12\operatorname{tr}\operatorname{Cov}\Delta_k`, shape (K,)."""
        return 0.5 * (self.std**2).sum(axis=1)


def sgd_prediction(
    rule: UpdateRule, kernel: npt.ArrayLike, delta0: npt.ArrayLike, batch_size: int, k: npt.ArrayLike
) -> SGDPrediction:
    r"""Mean and second moment of SGD with independent batches, for a constant kernel.

    Parameters
    ----------
    rule : UpdateRule
        Linear, with numeric hyperparameters; one gradient a step.
    kernel : array_like, shape (n, n)
        H, with the scale of the reduction.
    delta0 : array_like, shape (n,)
        :math:`\Delta_0=u_0-y`.
    batch_size : int
        B, from 1 to n.
    k : array_like of int, shape (K,)
        Increasing steps.

    Returns
    -------
    SGDPrediction
        Mean, spread and loss at each of the steps.

    Raises
    ------
    ValueError
        If the rule is not linear, or no step in the error alone, as with weight decay, if a step takes a
        gradient of a gradient, or if an argument is not finite.

    Notes
    -----
    A step costs :math:`O(p^2n^3)` for a state of p vectors: a few milliseconds for n = 100 examples.

    Examples
    --------
    One example of two a step, H = I: each coordinate is multiplied by 1 - 2 lr or left alone, by a coin.

    >>> from odeopt import GradientDescent
    >>> found = sgd_prediction(GradientDescent(0.25), np.eye(2), [1.0, 1.0], 1, [0, 1])
    >>> found.mean[1], found.std[1]
    (array([0.75, 0.75]), array([0.25, 0.25]))
    >>> float(found.loss[1]), float(found.mean_loss[1] + found.variance_loss[1])
    (0.625, 0.625)
    """
    from odeopt.rules.linear import require_numeric  # brings sympy
    from odeopt.rules.reading import require_linear

    kernel, delta0 = validate_kernel(kernel), real_array(delta0, "delta0", ndim=1)
    n, steps = len(kernel), iteration_grid(k, "k")
    if delta0.shape != (n,):
        raise ValueError(f"delta0 must have shape ({n},) like the kernel, got {delta0.shape}")
    batch_size = require_batch_size(batch_size, n)
    require_numeric(rule)
    reading = require_linear(rule, "law under mini-batches", equivariant=True, k=steps)
    memory = first_memory(rule, delta0)
    state = np.array([*(delta0,) * rule.history, *(memory or ())])
    covariance = np.zeros((len(state), len(state), n, n))
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for j in range(int(steps.max()) + 1):
            if j in steps:
                kept[j] = state[0].copy(), np.diag(covariance[0, 0]).copy()
            free, forced = _step_matrices(reading, j)
            covariance = _next_covariance(covariance, state, free, forced, kernel, batch_size)
            state = free @ state + forced @ state @ kernel
        mean, variance = (np.array([kept[j][i] for j in steps]) for i in (0, 1))
        variance = np.where(np.isnan(variance), np.inf, np.maximum(variance, 0.0))  # a rounding below 0
        loss = losses(mean) + 0.5 * variance.sum(axis=1)
    return SGDPrediction(
        rule, batch_size, frozen(steps, np.int64), frozen(mean), frozen(np.sqrt(variance)), frozen(loss)
    )


def _step_matrices(reading: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """A and R of the step A + lam R of one mode."""
    M, N, A, B = reading.matrices(k).floats()
    if B.any():
        raise ValueError(
            f"rule {reading.rule.label} takes a gradient of a gradient in one step: no recursion is known"
        )
    return M, N @ A


def _next_covariance(covariance, state, free, forced, kernel: np.ndarray, batch_size: int) -> np.ndarray:
    """Covariance of the state after one step, blocks (a, b) of shape (n, n).

    That of the second moment less the square of the mean, so that what is not random is exactly 0.
    """
    n = len(kernel)
    single = n / batch_size
    pair = 1.0 if n == 1 else n * (batch_size - 1) / (batch_size * (n - 1))
    moment = covariance + np.einsum("ai,bj->abij", state, state)
    chosen = (pair - 1) * moment + (single - pair) * np.eye(n) * moment  # by the choice of the batch

    def mixed(left: np.ndarray, right: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        return (np.kron(left, right) @ blocks.reshape(-1, n * n)).reshape(blocks.shape)

    cross = mixed(free, forced, covariance) @ kernel
    noise = mixed(forced, forced, covariance + chosen)
    half = mixed(free, free, covariance) / 2 + cross + kernel @ noise @ kernel / 2
    # Exactly symmetric: of an antisymmetric rounding `cross` and its transpose would make a growing one.
    return half + half.transpose(1, 0, 3, 2)


def require_batch_size(batch_size: Any, n: int) -> int:
    """Return the size of a batch of n examples, or raise ValueError."""
    batch_size = require_integer("batch_size", batch_size, 1)
    if batch_size > n:
        raise ValueError(f"batch_size must be at most n = {n}, the number of examples, got {batch_size}")
    return batch_size
