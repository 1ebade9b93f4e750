r"""Mini-batch SGD by a rule's own step.

The law of its mean, :mod:`odeopt.spectra.minibatch`, holds for batches drawn anew and independently in each
step, so those are the ones drawn here. Batches that run through a permutation in each epoch depend on each
other; for them the mean is not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import require_integer
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.nets.training.flat import ReLUProblem, in_row_space, problem_of, running
from odeopt.nets.training.record import TrainingRun, record_of
from odeopt.nets.training.stability import require_numeric, require_stable, require_steps
from odeopt.nets.training.train import recorded_steps
from odeopt.rules.base import UpdateRule
from odeopt.spectra.minibatch import require_batch_size

__all__ = ["train_sgd"]


def train_sgd(
    net: nn.Module,
    rule: UpdateRule,
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | torch.Tensor,
    num_steps: int,
    *,
    batch_size: int,
    seed: int = 0,
    objective: PredictionLoss | None = None,
    record_at: Iterable[int] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    allow_unstable: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> TrainingRun:
    r"""Train a network by the rule's own step with gradients on independent random batches.

    Each gradient is that of the batch, times n / batch_size, hence unbiased for the full one.

    Parameters
    ----------
    net : torch.nn.Module
        As for :func:`odeopt.nets.train`, of examples that do not influence each other.
    rule : UpdateRule
        The method, with numeric hyperparameters.
    x, y : array_like or torch.Tensor, shapes (n, ...) and (n,) or (n, c)
        Inputs and targets.
    num_steps : int
        Number of steps, at least 1.
    batch_size : int
        Examples in a batch, from 1 to n; n is the full batch.
    seed : int, optional
        Of the batches; the same one gives the same run.
    objective : PredictionLoss, optional
        What is minimised; by default :math:`\tfrac12\lVert u-y\rVert^2`.
    record_at : iterable of int, optional
        Steps at which all examples are evaluated, and divergence is noticed.
    reduction : {"sum", "mean"}, optional
        "mean" descends the mean of torch; the recorded loss is the sum.
    allow_unstable : bool, optional
        Run a learning rate above the stability limit of the mean. The second moment has a lower limit:
        :func:`odeopt.spectra.sgd_prediction` shows it.
    progress : callable, optional
        Called as ``progress("train", k, num_steps)`` at the recorded steps.

    Returns
    -------
    TrainingRun
        With its `batch_size`.

    Raises
    ------
    ValueError
        As :func:`odeopt.nets.train`, or if `batch_size` is out of range.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU
    >>> x, y = np.eye(4), np.array([1.0, 0.0, -1.0, 0.5])
    >>> run = train_sgd(TwoLayerReLU(4, 200), HeavyBall(0.1, 0.5), x, y, 200, batch_size=2)
    >>> run.batch_size, bool(run.loss[-1] < 1e-2 * run.loss[0])
    (2, True)
    """
    require_numeric(rule)
    record, num_steps = recorded_steps(record_at, num_steps)
    require_steps(rule, num_steps)
    problem = problem_of(net, x, y, SquaredLoss() if objective is None else objective, reduction)
    n = len(problem.y)
    batch_size, seed = require_batch_size(batch_size, n), require_integer("seed", seed, 0)
    kernel = problem.kernel_at(problem.initial) if isinstance(problem, ReLUProblem) else None
    if not allow_unstable:
        lam_max = problem.lam_max() if kernel is None else float(np.linalg.eigvalsh(kernel)[-1])
        require_stable(rule, problem.objective, problem.scale * lam_max, num_steps)
    kept, diverged_at = _run(
        in_row_space(problem, rule),
        rule,
        num_steps,
        batch_size,
        np.random.default_rng(seed),
        record,
        progress,
    )
    return record_of(problem, rule, num_steps, kernel, kept, diverged_at, batch_size=batch_size)


def _run(problem, rule, num_steps, batch_size, rng, record, progress) -> tuple[dict, int | None]:
    """Predictions at the recorded steps, and the first of these whose loss is not finite."""
    n, kept = len(problem.y), {}
    batch = None

    def gradient(w: torch.Tensor) -> torch.Tensor:
        return problem.gradient(w) if batch_size == n else problem.gradient_on(w, batch)

    try:
        with running(problem):
            states = rule.states(problem.initial, gradient)
            for k, (iterates, _) in zip(range(num_steps + 1), states, strict=False):
                if k in record:
                    u = problem.predictions(iterates[0])
                    if not (np.isfinite(problem.value(u)) and np.isfinite(u).all()):
                        return kept, k
                    kept[k] = u
                    if progress is not None and k > 0:
                        progress("train", k, num_steps)
                problem.last = iterates[0]
                # the step from k to k + 1, which the next turn of the loop takes
                batch = torch.from_numpy(np.sort(rng.choice(n, batch_size, replace=False))).to(problem.device)
    finally:
        problem.write(problem.last)
    return kept, None
