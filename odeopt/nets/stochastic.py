r"""Mini-batch SGD by a rule's own step, and its runs over several seeds beside the law of their mean.

That law, :mod:`odeopt.nets.moments`, holds for batches drawn anew and independently in each step, so those
are the ones drawn here. Batches that run through a permutation in each epoch depend on each other; for them
the mean is not exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from odeopt.losses import PredictionLoss, SquaredLoss
from odeopt.methods import UpdateRule
from odeopt.nets.budget import initial_kernel
from odeopt.nets.laziness import frozen
from odeopt.nets.levels import predicted_errors
from odeopt.nets.moments import SGDPrediction, require_batch_size, sgd_prediction
from odeopt.nets.problem import ReLUProblem, in_row_space, iterate_states, problem_of, threads_for
from odeopt.nets.relu import require_integer
from odeopt.nets.train import TrainingRun, recorded_steps, require_numeric, require_stable

__all__ = ["SGDReport", "sgd_report", "train_sgd"]


def train_sgd(
    net: nn.Module,
    rule: UpdateRule,
    x: Any,
    y: Any,
    num_steps: int,
    *,
    batch_size: int,
    seed: int = 0,
    loss: PredictionLoss | None = None,
    record_at: Iterable[int] | None = None,
    reduction: str = "sum",
    allow_unstable: bool = False,
    progress: Callable[[int, float], object] | None = None,
) -> TrainingRun:
    r"""Train a network by the rule's own step with gradients on independent random batches.

    Each gradient is that of the batch, times n / batch_size, hence unbiased for the full one.

    Parameters
    ----------
    net : torch.nn.Module
        As for :func:`odeopt.nets.train`, with examples that do not influence each other.
    rule : UpdateRule
        The method, with numeric hyperparameters; it sees one batch a step.
    x : array_like or torch.Tensor, shape (n, ...)
    y : array_like or torch.Tensor, shape (n,)
    num_steps : int
    batch_size : int
        Examples in a batch, from 1 to n; n is the full batch.
    seed : int, optional
        Of the batches; the same one gives the same run.
    loss : PredictionLoss, optional
    record_at : iterable of int, optional
        As for :func:`odeopt.nets.train`. Only at these steps are all examples evaluated, and divergence
        noticed.
    reduction : {"sum", "mean"}, optional
    allow_unstable : bool, optional
        Run a learning rate above the stability limit of the mean. The second moment has a lower limit:
        :func:`odeopt.nets.sgd_prediction` shows it.
    progress : callable, optional
        Called as ``progress(k, loss)`` at the recorded steps.

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
    problem = problem_of(net, x, y, SquaredLoss() if loss is None else loss, reduction)
    n = len(problem.y)
    batch_size, seed = require_batch_size(batch_size, n), require_integer("seed", seed, 0)
    kernel = problem.kernel_at(problem.initial) if isinstance(problem, ReLUProblem) else None
    if not allow_unstable:
        lam_max = problem.lam_max() if kernel is None else float(np.linalg.eigvalsh(kernel)[-1])
        require_stable(rule, problem.loss, problem.scale * lam_max)
    kept, diverged_at = _run(
        in_row_space(problem, rule),
        rule,
        num_steps,
        batch_size,
        np.random.default_rng(seed),
        record,
        progress,
    )
    return TrainingRun(
        rule=rule,
        num_steps=num_steps,
        width=None if kernel is None else net.m,
        objective=problem.loss,
        kernel_scale=problem.scale,
        diverged_at=diverged_at,
        k=frozen(list(kept), np.int64),
        loss=frozen([problem.value(u) for u in kept.values()]),
        predictions=frozen(list(kept.values())),
        targets=frozen(problem.targets),
        initial_kernel=kernel,
        kernel_k=frozen([], np.int64),
        kernel_drift=frozen([]),
        batch_size=batch_size,
    )


def _run(problem, rule, num_steps, batch_size, rng, record, progress) -> tuple[dict, int | None]:
    """Predictions at the recorded steps, and the first of these whose loss is not finite."""
    n, kept, last = len(problem.y), {}, problem.initial
    batch = None

    def gradient(w: torch.Tensor) -> torch.Tensor:
        return problem.gradient(w) if batch_size == n else problem.gradient_on(w, batch)

    try:
        with torch.no_grad(), threads_for(problem):
            states = iterate_states(rule, problem.initial, gradient)
            for k, (iterates, _) in zip(range(num_steps + 1), states, strict=False):
                if k in record:
                    u = problem.predictions(iterates[0])
                    value = problem.value(u)
                    if not (np.isfinite(value) and np.isfinite(u).all()):
                        return kept, k
                    kept[k] = u
                    if progress is not None and k > 0:
                        progress(k, value)
                last = iterates[0]
                # the step from k to k + 1, which the next turn of the loop takes
                batch = torch.from_numpy(np.sort(rng.choice(n, batch_size, replace=False))).to(problem.device)
    finally:
        problem.write(last)
    return kept, None


@dataclass(frozen=True)
class SGDReport:
    r"""Runs of SGD over several seeds beside the law of their mean.

    Attributes
    ----------
    prediction : SGDPrediction
        Mean, standard deviation and expected loss with the kernel H(0).
    ode_mean : numpy.ndarray, shape (K, n)
        Error vectors of the ODE of the mean.
    equation : str
        That ODE.
    seeds : int
        Number of runs.
    mean, mean_error : numpy.ndarray, shape (K, n)
        Mean of :math:`\Delta_k` over the runs, and its standard error.
    loss, loss_error : numpy.ndarray, shape (K,)
        Mean of the loss over the runs, and its standard error.
    """

    prediction: SGDPrediction
    ode_mean: np.ndarray = field(repr=False)
    equation: str
    seeds: int
    mean: np.ndarray = field(repr=False)
    mean_error: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    loss_error: np.ndarray = field(repr=False)

    def rows(self) -> list[dict[str, float]]:
        r"""Return the comparison at each step.

        Returns
        -------
        list of dict
            "k"; "mean" and "ode", the distances of the mean over seeds from the discrete prediction and from
            the ODE; "mean_error", the length of its standard error (all relative to
            :math:`\lVert\Delta_0\rVert`); "loss" with "loss_error", "predicted_loss", and its "variance"
            part (relative to :math:`L_0`). inf where a prediction diverges.
        """
        found = self.prediction
        initial = found.loss[0] or 1.0  # of nothing, nothing is 0
        norm = np.sqrt(2 * initial)
        with np.errstate(over="ignore", invalid="ignore"):
            columns = {
                "k": found.k.tolist(),
                "mean": _lengths(self.mean - found.mean) / norm,
                "ode": _lengths(self.mean - self.ode_mean) / norm,
                "mean_error": _lengths(self.mean_error) / norm,
                "loss": self.loss / initial,
                "loss_error": self.loss_error / initial,
                "predicted_loss": found.loss / initial,
                "variance": found.variance_loss / initial,
            }
        return [
            {key: value if key == "k" else float(value) for key, value in zip(columns, row, strict=True)}
            for row in zip(*columns.values(), strict=True)
        ]

    def __str__(self) -> str:
        found, rows = self.prediction, self.rows()
        shown = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, 9).astype(int))]
        names = [name for name in rows[0] if name != "k"]
        lines = [
            f"{found.rule.label}, batches of {found.batch_size} of {found.mean.shape[1]}, "
            f"{self.seeds} seeds, mean by {self.equation}",
            f"{'k':>7}" + "".join(f"{name:>15}" for name in names),
        ]
        lines += [f"{row['k']:>7}" + "".join(f"{row[name]:>15.3g}" for name in names) for row in shown]
        return "\n".join(lines)


def sgd_report(runs: Sequence[TrainingRun], kernel: Any = None) -> SGDReport:
    r"""Compare runs of SGD from one network, which differ in their batches, with the law of their mean.

    Parameters
    ----------
    runs : sequence of TrainingRun
        At least two, of :func:`train_sgd` with other seeds: one rule, batch size, start and record.
    kernel : array_like, shape (n, n), or EmpiricalOperator, optional
        H(0), as for :func:`odeopt.nets.error_budget`; by default that of the runs, for
        :class:`odeopt.nets.TwoLayerReLU`.

    Returns
    -------
    SGDReport

    Raises
    ------
    ValueError
        If the runs do not go together, one diverged, or the rule or the loss has no linear prediction.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import TwoLayerReLU
    >>> x, y = np.eye(4), np.array([1.0, 0.0, -1.0, 0.5])
    >>> options = {"batch_size": 2, "record_at": [0, 10, 20]}
    >>> report = sgd_report([
    ...     train_sgd(TwoLayerReLU(4, 500), GradientDescent(0.2), x, y, 20, seed=seed, **options)
    ...     for seed in range(8)
    ... ])
    >>> report.equation, [row["k"] for row in report.rows()]
    ("Delta' + H*Delta = 0", [0, 10, 20])
    """
    runs = list(runs)
    if len(runs) < 2:
        raise ValueError(f"runs must be at least two, so that their mean has an error, got {len(runs)}")
    first = runs[0]
    if not isinstance(first.objective, SquaredLoss):
        raise ValueError(f"runs must descend the squared loss, got {first.objective.label}")
    for run in runs:
        if run.batch_size is None or (run.rule, run.batch_size) != (first.rule, first.batch_size):
            raise ValueError("runs must be of train_sgd, with one rule and one batch_size")
        if not (np.array_equal(run.k, first.k) and np.array_equal(run.errors[0], first.errors[0])):
            raise ValueError(
                "runs must start from one network and record the same steps, none having diverged"
            )
    kernel = first.kernel_scale * initial_kernel(first, kernel)
    prediction = sgd_prediction(first.rule, kernel, first.errors[0], first.batch_size, first.k)
    levels = predicted_errors(first.rule, kernel, first.errors[0], first.k)
    errors, values = np.array([run.errors for run in runs]), np.array([run.loss for run in runs])
    (mean, mean_error), (loss, loss_error) = _mean_and_error(errors), _mean_and_error(values)
    return SGDReport(
        prediction=prediction,
        ode_mean=levels.errors["ode_h0"],
        equation=levels.equations["ode_h0"],
        seeds=len(runs),
        mean=mean,
        mean_error=mean_error,
        loss=loss,
        loss_error=loss_error,
    )


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """Norms along axis 1; inf where a prediction has left the finite numbers."""
    lengths = np.linalg.norm(vectors, axis=1)
    return np.where(np.isnan(lengths), np.inf, lengths)


def _mean_and_error(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the runs, along axis 0, and its standard error; inf where runs diverge too far."""
    with np.errstate(over="ignore"):
        return frozen(values.mean(axis=0)), frozen(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
