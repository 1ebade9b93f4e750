r"""Runs of SGD over seeds beside the law of their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen
from odeopt.dynamics.losses import SquaredLoss
from odeopt.nets.budget import initial_kernel
from odeopt.nets.kernels.empirical import EmpiricalOperator
from odeopt.nets.training.record import TrainingRun
from odeopt.shown import Pictured, Summary, along
from odeopt.spectra.errors import predicted_errors
from odeopt.spectra.minibatch import SGDPrediction, sgd_prediction

__all__ = ["SGDReport", "sgd_report"]


@dataclass(frozen=True, repr=False)
class SGDReport(Pictured):
    r"""Runs of SGD over several seeds beside the law of their mean.

    Parameters
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

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import TwoLayerReLU, train_sgd
    >>> options = {"batch_size": 1, "record_at": [0, 20]}
    >>> runs = [
    ...     train_sgd(TwoLayerReLU(2, 500), GradientDescent(0.2), np.eye(2), [1, -1], 20, seed=s, **options)
    ...     for s in range(8)
    ... ]
    >>> found = sgd_report(runs)
    >>> found.seeds, found.mean.shape, bool(found.rows()[1]["variance"] > 0)
    (8, (2, 2), True)
    """

    prediction: SGDPrediction
    ode_mean: np.ndarray
    equation: str
    seeds: int
    mean: np.ndarray
    mean_error: np.ndarray
    loss: np.ndarray
    loss_error: np.ndarray

    @property
    def k(self) -> np.ndarray:
        """Recorded steps, shape (K,)."""
        return self.prediction.k

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

    def _summary(self) -> Summary:
        found, rows = self.prediction, self.rows()
        names = [name for name in rows[0] if name != "k"]
        shown = [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, 9).astype(int))]
        drawn = f"batches of {found.batch_size} of {found.mean.shape[1]}, {self.seeds} seeds"
        facts = [drawn, along(self), f"measured beside the mean by {self.equation}", found.rule.label]
        cells = [[f"{row['k']}", *(f"{row[name]:.3g}" for name in names)] for row in shown]
        return Summary(facts, ["k", *names], cells)


def sgd_report(
    runs: Sequence[TrainingRun], kernel: npt.ArrayLike | EmpiricalOperator | None = None
) -> SGDReport:
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
        At the recorded steps of the runs.

    Raises
    ------
    ValueError
        If the runs do not go together, one diverged, or the rule or the loss has no linear prediction.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import TwoLayerReLU, train_sgd
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
    if first.targets.ndim > 1:
        raise ValueError(
            f"runs have targets of shape {first.targets.shape}: a batch takes all outputs of an example, and "
            "the law of its noise is that of one output; train networks of one, with y of shape (n,)"
        )
    batch_size = first.batch_size
    if batch_size is None or any((run.rule, run.batch_size) != (first.rule, batch_size) for run in runs):
        raise ValueError("runs must be of train_sgd, with one rule and one batch_size")
    for run in runs:
        if not (np.array_equal(run.k, first.k) and np.array_equal(run.errors[0], first.errors[0])):
            raise ValueError(
                "runs must start from one network and record the same steps, none having diverged"
            )
    kernel = first.kernel_scale * initial_kernel(first, kernel)
    prediction = sgd_prediction(first.rule, kernel, first.errors[0], batch_size, first.k)
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
