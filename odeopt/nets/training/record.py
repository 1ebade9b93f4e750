"""What a run of training records, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen
from odeopt.dynamics.losses import PredictionLoss
from odeopt.nets.training.flat import FlatProblem
from odeopt.nets.training.laziness import Laziness, spectral_norm
from odeopt.nets.training.snapshot import Snapshot
from odeopt.rules.base import UpdateRule
from odeopt.shown import Pictured, Summary, along, rows_at, span
from odeopt.spectra.point_curve import PointCurve, class_accuracy

__all__ = ["TrainingRun", "record_of"]


@dataclass(frozen=True, repr=False)
class TrainingRun(Pictured):
    r"""What :func:`train` measured; arrays are float64 (steps: int64) and read-only.

    Parameters
    ----------
    rule : UpdateRule
        The method that was run.
    num_steps : int
        The number of steps asked for.
    width : int or None
        Number of hidden neurons; None for a module other than :class:`odeopt.nets.TwoLayerReLU`, or one
        with frozen parameters.
    objective : PredictionLoss
        The loss that was descended.
    kernel_scale : float
        1 for ``reduction="sum"``; for "mean" 2/N with the squared loss, 1/N with others: the run
        follows the theory with the kernel ``kernel_scale * initial_kernel``.
    diverged_at : int or None
        The first step whose loss was not finite; the record ends before it.
    k : numpy.ndarray, shape (K,)
        Recorded steps, increasing, beginning with 0.
    loss : numpy.ndarray, shape (K,)
        The objective, summed, at :math:`x_k` (not at an extrapolated point), whatever the
        reduction; by default :math:`L_k=\tfrac12\lVert\Delta_k\rVert^2`.
    predictions : numpy.ndarray, shape (K, n) or (K, n, c)
        Outputs :math:`u_k`.
    targets : numpy.ndarray, shape (n,) or (n, c)
        The y, rounded to the dtype of the network.
    initial_kernel : numpy.ndarray, shape (N, N), or None
        :math:`H(0)`, N = n c for c outputs, example by example; None for a module other than
        :class:`odeopt.nets.TwoLayerReLU`.
    kernel_k : numpy.ndarray, shape (M,)
        Steps at which the kernel was computed.
    kernel_drift : numpy.ndarray, shape (M,)
        Spectral norms :math:`\lVert H(k)-H(0)\rVert_2`.
    laziness : Laziness or None
        Change of the network at the steps `laziness_at`.
    snapshots : tuple of Snapshot
        States at the steps `snapshot_at`, from which the linear prediction can start anew.
    origin : numpy.ndarray, shape of `targets`, or None
        :math:`Jw_0`, which a linear rule with weight decay to 0 pulls at; None for other rules.
    points : PointCurve or None
        Outputs at the same steps of the `points` that were not trained on.
    batch_size : int or None
        Examples in each gradient, for a run of :func:`odeopt.nets.train_sgd`; None for the full batch.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU, train
    >>> run = train(TwoLayerReLU(3, 64), HeavyBall(0.1, 0.5), np.eye(3), [1, 0, -1], 20, record_at=[10, 20])
    >>> run.label, run.k, run.predictions.shape, run.kernel_scale, run.diverged_at
    ('HeavyBall(lr=0.1, momentum=0.5), m=64', array([ 0, 10, 20]), (3, 3), 1.0, None)
    >>> bool(np.allclose(run.loss, (run.errors**2).sum(axis=1) / 2))
    True
    """

    rule: UpdateRule
    num_steps: int
    width: int | None
    objective: PredictionLoss
    kernel_scale: float
    diverged_at: int | None
    k: np.ndarray
    loss: np.ndarray
    predictions: np.ndarray
    targets: np.ndarray
    initial_kernel: np.ndarray | None
    kernel_k: np.ndarray
    kernel_drift: np.ndarray
    laziness: Laziness | None = None
    snapshots: tuple[Snapshot, ...] = ()
    origin: np.ndarray | None = None
    points: PointCurve | None = None
    batch_size: int | None = None
    layer: ClassVar[str] = "finite net"

    def _summary(self) -> Summary:
        end = [] if self.diverged_at is None else [f"diverged at step {self.diverged_at}"]
        facts = [along(self), f"loss {span(self.loss)}", "measured", *end, self.label]
        return Summary(facts, *rows_at({"k": self.k, "loss": self.loss}))

    @property
    def label(self) -> str:
        """Name of the method, with the width where it is known."""
        return self.rule.label if self.width is None else f"{self.rule.label}, m={self.width}"

    @property
    def errors(self) -> np.ndarray:
        r""":math:`\Delta_k=u_k-y`, shape of `predictions`."""
        return frozen(self.predictions - self.targets)

    def accuracy(self, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Share of the examples whose class is predicted: the largest output, or of one output the sign.

        Parameters
        ----------
        labels : array_like of int, shape (n,)
            As for :meth:`odeopt.PointCurve.accuracy`.

        Returns
        -------
        numpy.ndarray, shape (K,)
            At the recorded steps, between 0 and 1.
        """
        return class_accuracy(self.predictions, labels)

    @property
    def relative_kernel_drift(self) -> np.ndarray:
        r""":math:`\lVert H(k)-H(0)\rVert_2/\lVert H(0)\rVert_2` at the steps `kernel_k`, shape (M,)."""
        if self.initial_kernel is None:
            return self.kernel_drift
        return self.kernel_drift / spectral_norm(self.initial_kernel)


def record_of(
    problem: FlatProblem,
    rule: UpdateRule,
    num_steps: int,
    kernel: np.ndarray | None,
    predictions: Mapping[int, np.ndarray],
    diverged_at: int | None,
    **more: Any,
) -> TrainingRun:
    """What was recorded of a run: step to predictions."""
    return TrainingRun(
        rule=rule,
        num_steps=num_steps,
        width=None if kernel is None else problem.net.m,
        objective=problem.objective,
        kernel_scale=problem.scale,
        diverged_at=diverged_at,
        k=frozen(list(predictions), np.int64),
        loss=frozen([problem.value(u) for u in predictions.values()]),
        predictions=frozen(list(predictions.values())),
        targets=frozen(problem.targets),
        initial_kernel=kernel,
        **{"kernel_k": frozen([], np.int64), "kernel_drift": frozen([]), **more},
    )
