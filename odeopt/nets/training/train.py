r"""Training by an update rule's own step: the third reading of :class:`odeopt.UpdateRule`.

The objective is any :class:`odeopt.dynamics.losses.PredictionLoss`, by default
:math:`L=\tfrac12\lVert u-y\rVert^2`, summed over the examples. The mean reductions of torch are converted
here and nowhere else: the gradient of the mean of squares (``torch.nn.MSELoss``) is 2/n times that of L, so
a run with ``reduction="mean"`` follows the theory with the kernel (2/n) H; for the logistic loss it is 1/n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import frozen
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.nets.module_checks import inputs_of
from odeopt.nets.training.flat import FlatProblem, ReLUProblem, in_row_space, problem_of, running
from odeopt.nets.training.laziness import LazinessRecorder, spectral_norm
from odeopt.nets.training.record import TrainingRun, record_of
from odeopt.nets.training.snapshot import Snapshot
from odeopt.nets.training.stability import require_linear, require_numeric, require_stable, require_steps
from odeopt.rules.base import UpdateRule
from odeopt.spectra.point_curve import PointCurve

__all__ = ["train"]

_RECORDED = 1000  # number of steps recorded by default


def train(
    net: nn.Module,
    rule: UpdateRule,
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | torch.Tensor,
    num_steps: int,
    *,
    objective: PredictionLoss | None = None,
    record_at: Iterable[int] | None = None,
    kernel_at: Iterable[int] | None = None,
    laziness_at: Iterable[int] | None = None,
    snapshot_at: Iterable[int] | None = None,
    points: npt.ArrayLike | torch.Tensor | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    allow_unstable: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> TrainingRun:
    r"""Train a network on the full batch by the rule's own step, and record its predictions.

    All trainable parameters form one vector :math:`x_k`, and
    :func:`odeopt.rules.base.iterate` runs the rule on it with the gradient :math:`J^\top\nabla\ell(u)` of
    the loss, on the device and in the dtype of the network. A :class:`odeopt.nets.TwoLayerReLU` whose
    inputs have more dimensions than there are examples is trained by a linear rule in their row space, which
    is the same up to rounding.

    Parameters
    ----------
    net : torch.nn.Module
        A deterministic module from inputs, shape (n, ...), to outputs, shape (n,) or (n, c). It is
        left with the weights of the last step (also when the run is interrupted), after
        divergence with the last ones of finite loss, and as it was where it is refused.
    rule : UpdateRule
        The method, with numeric hyperparameters.
    x : array_like or torch.Tensor, shape (n, ...)
        Inputs, converted to the dtype and device of the network; integers where it takes those (tokens).
    y : array_like or torch.Tensor, shape (n,), or (n, c) for c outputs
        Targets; :func:`odeopt.data.one_hot` makes them of class labels.
    num_steps : int
        Number of steps, at least 1.
    objective : PredictionLoss, optional
        What is minimised; by default :math:`\tfrac12\lVert u-y\rVert^2`.
    record_at : iterable of int, optional
        Steps at which loss and predictions are kept; step 0 always is. By default every step, or
        about 1000 evenly spaced ones, the last included, if there are more.
    kernel_at : iterable of int, optional
        Steps at which the kernel drift is computed, for :class:`odeopt.nets.TwoLayerReLU`. By
        default none: it costs :math:`O(n^2m)` each.
    laziness_at : iterable of int, optional
        Steps at which the change of the network is measured (kernel, weights, activations), for any
        module; step 0 always is. The flips of a :class:`odeopt.nets.TwoLayerReLU` are then watched in every
        step, which costs about half a step more.
    snapshot_at : iterable of int, optional
        Steps whose state is kept for a linear prediction from there on; for linear rules and the squared
        loss.
    points : array_like or torch.Tensor, shape (p, ...), optional
        Inputs that are not trained on, whose outputs are recorded too.
    reduction : {"sum", "mean"}, optional
        "mean" descends the mean of torch: of squares (``torch.nn.MSELoss``), a gradient 2/(n c) times that
        of L, or of the terms of another loss. The recorded loss is the sum in both cases.
    allow_unstable : bool, optional
        Run a learning rate above the stability limit, without computing it. For a module other than
        :class:`odeopt.nets.TwoLayerReLU` that takes the largest eigenvalue of the kernel, by Lanczos: some
        nine of its products in float64, about as long as twenty steps.
    progress : callable, optional
        Called as ``progress("train", k, num_steps)`` after each step.

    Returns
    -------
    TrainingRun
        The record; a run that diverged stops early and says so in `diverged_at`.

    Raises
    ------
    ValueError
        If the learning rate exceeds the stability limit of the linearised dynamics at
        :math:`H(0)`, times the smoothness of the loss (unless `allow_unstable`); if the module is random
        or changes itself, has no trainable parameters, or gives outputs of another shape; if `x` does not fit
        it, or an argument is out of range, not finite, or of the wrong shape.

    Examples
    --------
    >>> from odeopt.rules.classical import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU
    >>> net = TwoLayerReLU(2, 500)
    >>> x, y = [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]
    >>> run = train(net, HeavyBall(lr=0.5, momentum=0.5), x, y, 60, kernel_at=[60])
    >>> bool(run.loss[-1] < 1e-6 * run.loss[0]), bool(run.relative_kernel_drift[-1] < 0.1)
    (True, True)
    """
    require_numeric(rule)
    record, num_steps = recorded_steps(record_at, num_steps)
    require_steps(rule, num_steps)
    problem = problem_of(net, x, y, SquaredLoss() if objective is None else objective, reduction)
    chosen = {"kernel_at": kernel_at, "laziness_at": laziness_at, "snapshot_at": snapshot_at}
    steps = {name: set() if at is None else _steps(name, at, num_steps) for name, at in chosen.items()}
    steps["record_at"] = record
    kernel = problem.kernel_at(problem.initial) if isinstance(problem, ReLUProblem) else None
    if kernel is None and steps["kernel_at"]:
        raise ValueError(f"kernel_at needs a TwoLayerReLU, got {type(net).__name__}; take laziness_at")
    if steps["snapshot_at"]:
        require_linear(rule, problem.objective, "snapshot_at", num_steps)
    if not allow_unstable:
        lam_max = problem.lam_max() if kernel is None else float(np.linalg.eigvalsh(kernel)[-1])
        require_stable(rule, problem.objective, problem.scale * lam_max, num_steps)
    origin = _origin(problem, rule)
    problem = in_row_space(problem, rule)
    kept = _Record(problem, rule, kernel, steps, num_steps, progress, points)
    diverged_at = _run(problem, rule, num_steps, kept.observe)
    return record_of(
        problem,
        rule,
        num_steps,
        kernel,
        kept.predictions,
        diverged_at,
        kernel_k=frozen(list(kept.drifts), np.int64),
        kernel_drift=frozen(list(kept.drifts.values())),
        laziness=kept.laziness.result() if kept.laziness else None,
        snapshots=tuple(kept.snapshots),
        origin=origin,
        points=kept.curve(rule),
    )


def _origin(problem: FlatProblem, rule: UpdateRule) -> np.ndarray | None:
    """J w_0 of a linear rule that pulls at the weights themselves, whose error follows from it too."""
    from odeopt.rules.reading import read  # brings sympy

    reading = read(rule)
    if not reading.linear or reading.equivariant:
        return None
    return frozen(problem.push_forward(problem.initial, problem.initial).reshape(problem.targets.shape))


class _Record:
    """What is kept of a run, step by step."""

    def __init__(
        self, problem: FlatProblem, rule: UpdateRule, kernel, steps: dict, num_steps: int, progress, points
    ) -> None:
        self.problem, self.rule, self.kernel = problem, rule, kernel
        self.steps, self.num_steps, self.progress = steps, num_steps, progress
        self.predictions: dict[int, np.ndarray] = {}
        self.drifts: dict[int, float] = {}
        self.snapshots: list[Snapshot] = []
        chosen = steps["laziness_at"]
        self.laziness = LazinessRecorder(problem, chosen | {0}) if chosen else None
        self.points = None if points is None else problem.tensor_of(inputs_of(points, "points"))
        self.seen: list[np.ndarray] = []

    def observe(self, k: int, iterates: tuple, memory: Any, u: np.ndarray) -> None:
        w = iterates[0]
        if k in self.steps["record_at"]:
            self.predictions[k] = u
            if self.points is not None:
                self.seen.append(self.problem.outputs_at(w, self.points))
        if k in self.steps["kernel_at"]:
            self.drifts[k] = spectral_norm(self.problem.kernel_at(w) - self.kernel)
        if self.laziness is not None:
            self.laziness.observe(k, w)
        if k in self.steps["snapshot_at"]:
            self.snapshots.append(self._snapshot(k, iterates, memory, u))
        if self.progress is not None and k > 0:
            self.progress("train", k, self.num_steps)

    def curve(self, rule: UpdateRule) -> PointCurve | None:
        """What the points have become: measured, so that nothing is left out and nothing is a bound."""
        if self.points is None:
            return None
        none = np.zeros(len(self.seen))
        k, u = frozen(list(self.predictions), np.int64), np.array(self.seen)
        return PointCurve(u, None, k, f"trained network, {rule.label}", none == 0, none, none + np.inf)

    def _snapshot(self, k: int, iterates: tuple, memory: Any, u: np.ndarray) -> Snapshot:
        problem, w = self.problem, iterates[0]
        error = (u - problem.targets).reshape(-1)
        earlier = [error + problem.push_forward(w, older - w) for older in iterates[1:]]
        pushed = None
        if memory:
            from odeopt.rules.reading import read  # brings sympy

            # a memory that moves with the weights, as an average of them does, has an error; a velocity none
            moved = read(self.rule).shift(k)[0][self.rule.history :]
            shares = [float(share) for share in moved]
            pushed = [
                problem.push_forward(w, entry - share * w) + share * error
                for entry, share in zip(memory, shares, strict=True)
            ]
        return Snapshot(
            self.rule,
            k,
            frozen(problem.scale * problem.kernel_at(w)),
            frozen([error, *earlier]),
            None if pushed is None else frozen(pushed),
        )


def _run(problem: FlatProblem, rule: UpdateRule, num_steps: int, observe: Callable) -> int | None:
    """Iterate, observing each step of finite loss; return the first step of infinite loss, if any."""
    states = rule.states(problem.initial, problem.gradient)
    try:
        with running(problem):
            for k, (iterates, memory) in zip(range(num_steps + 1), states, strict=False):
                u = problem.predictions(iterates[0])
                if not (np.isfinite(problem.value(u)) and np.isfinite(u).all()):
                    return k
                problem.last = iterates[0]
                observe(k, iterates, memory, u)
    finally:
        problem.write(problem.last)
    return None


def recorded_steps(record_at: Iterable[int] | None, num_steps: int) -> tuple[set[int], int]:
    """Return the steps to be recorded, 0 among them, and the number of steps, both checked."""
    if not _is_integer(num_steps) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    if record_at is None:
        record_at = np.linspace(0, num_steps, min(num_steps, _RECORDED) + 1).round().astype(int)
    return _steps("record_at", record_at, num_steps) | {0}, int(num_steps)


def _steps(name: str, steps: Iterable[int], num_steps: int) -> set[int]:
    steps = list(steps)
    if not steps:
        raise ValueError(f"{name} must not be empty; leave it out for the default")
    for step in steps:
        if not _is_integer(step) or not 0 <= step <= num_steps:
            raise ValueError(f"{name} must hold integers from 0 to num_steps = {num_steps}, got {step!r}")
    return {int(step) for step in steps}


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
