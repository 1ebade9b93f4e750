r"""How far the linear prediction of a network can be trusted: an estimate before training.

The network is not trained, but linearised anew at a few checkpoints of its run. Around the weights of one of
them a linear rule moves it by :math:`J^\top q` and by what it carries, older iterates and memory; q follows
the rule in n dimensions, with the kernel. That gives the weights at the next checkpoint: first with the
Jacobian of the start of the stretch, then with that of its middle, so that what is left is of third order in
the stretch. At the checkpoint the network itself is evaluated. Jumps of the velocity where neurons change
sides, and networks outside of the parametrisation of the theory, are thus covered; it remains an estimate,
not a bound, and once the prediction has been left far behind it is good to the order of magnitude only.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import frozen
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.nets.training.flat import FlatProblem, problem_of, running
from odeopt.nets.training.laziness import spectral_norm
from odeopt.nets.training.stability import require_linear, require_numeric
from odeopt.nets.trust_report import TrustEstimate, last_within
from odeopt.rules.base import UpdateRule, iterate

__all__ = ["trust_estimate"]

_FAR = 1e12  # times the initial loss: beyond it a run has diverged
_SPARE = 4  # halvings of stretches, times the number of checkpoints


def trust_estimate(
    net: nn.Module,
    rule: UpdateRule,
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | torch.Tensor,
    num_steps: int,
    *,
    tolerance: float = 0.1,
    checkpoints: int = 8,
    objective: PredictionLoss | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    progress: Callable[[str, int, int], object] | None = None,
) -> TrustEstimate:
    r"""Estimate, before training, how long the prediction of a network linear in its weights will hold.

    Of the squared loss that prediction is linear; of another, as cross-entropy, it is the rule's own step
    with the gradient :math:`H(0)\nabla\ell(u)`, as :func:`odeopt.dynamics.predict_iterates` runs it.

    Parameters
    ----------
    net : torch.nn.Module
        As for :func:`odeopt.nets.train`; left as it is.
    rule : UpdateRule
        A linear rule with numeric hyperparameters.
    x, y : array_like or torch.Tensor, shapes (n, ...) and (n,) or (n, c)
        Inputs and targets.
    num_steps : int
        Steps of the run that is asked about, at least 1.
    tolerance : float, optional
        Accepted relative deviation of the loss.
    checkpoints : int, optional
        Number of points of the run, besides the start, at which the network is linearised anew, evenly
        spaced on the linear path; more are put in where a gap would be longer than the run before it. Each
        takes two kernels.
    objective : PredictionLoss, optional
        By default :math:`\tfrac12\lVert u-y\rVert^2`.
    reduction : {"sum", "mean"}, optional
        As for :func:`odeopt.nets.train`.
    progress : callable, optional
        Called as ``progress("checkpoints", done, total)``.

    Returns
    -------
    TrustEstimate
        Losses at every step, and the change of the kernel at the checkpoints.

    Raises
    ------
    ValueError
        If the rule is not linear, or an argument is out of range.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import TwoLayerReLU
    >>> x, y = np.eye(4), np.array([1.0, -1.0, 0.5, 0.0])
    >>> wide, narrow = (
    ...     trust_estimate(TwoLayerReLU(4, m), GradientDescent(0.5), x, y, 50) for m in (20_000, 20)
    ... )
    >>> wide.trusted_until > narrow.trusted_until
    True
    """
    for name, value in (("num_steps", num_steps), ("checkpoints", checkpoints)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie in (0, 1), got {tolerance!r}")
    problem = problem_of(net, x, y, SquaredLoss() if objective is None else objective, reduction)
    require_numeric(rule)
    # of the rule alone: along a stretch the weights are linear in the gradients of any loss
    require_linear(rule, SquaredLoss(), "rule", num_steps)
    first = _Point(problem, problem.initial)
    kernel = first.kernel
    linear = _linear_losses(rule, first, num_steps)
    stable = bool(linear[-1] <= linear[0])
    # of a recursion that grows nothing is a small correction: only the start is looked at
    steps = _spread(linear, checkpoints) if stable else np.zeros(1, dtype=int)
    try:
        # a network that diverges leaves the range of float64 before it is noticed
        with np.errstate(over="ignore", invalid="ignore"), running(problem):
            found = _estimated(problem, rule, first, steps, num_steps, progress)
    finally:
        problem.write(problem.initial)
    kernels, corrected = found.kernels, found.losses
    norm = spectral_norm(kernel) or 1.0  # without a gradient nothing moves
    return TrustEstimate(
        rule,
        tolerance,
        last_within(corrected, linear, tolerance) if stable else 0,
        stable,
        frozen(linear),
        frozen(corrected),
        frozen(found.steps, np.int64),
        frozen([spectral_norm(k - kernel) / norm for k in kernels]),
        frozen([np.linalg.eigvalsh(k)[0] for k in kernels]),
        frozen(found.travel),
    )


def _slope(problem: FlatProblem) -> Callable[[np.ndarray], np.ndarray]:
    """The gradient of the loss by the outputs, both in one vector."""
    y = problem.targets
    return lambda u: problem.objective.gradient(u.reshape(y.shape), y).reshape(-1)


def _linear_losses(rule: UpdateRule, first: _Point, num_steps: int) -> np.ndarray:
    """Loss of the recursion under H(0); inf from where it exceeds 1e12 times the initial one."""
    losses, loss, slope = np.full(num_steps + 1, np.inf), first.problem.value, _slope(first.problem)
    run = iterate(rule, first.outputs, lambda u: first.kernel @ slope(u))
    for k, u in enumerate(itertools.islice(run, num_steps + 1)):
        value = loss(u)
        if not value <= _FAR * (losses[0] if k else np.inf):
            break
        losses[k] = value
    return losses


def _spread(losses: np.ndarray, count: int) -> np.ndarray:
    """Steps evenly spaced in the travelled length of the square root of the loss."""
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(np.sqrt(losses))))])
    targets = np.linspace(0, travelled[-1], count + 1)
    steps = {int(k) for k in np.searchsorted(travelled, targets).clip(0, losses.size - 1)}
    last = losses.size - 1
    while last > 1:  # and no gap longer than the run before it: errors of a long one have no time to decay
        steps.add(last)
        earlier = max(k for k in steps if k < last)
        last = earlier if last + 1 <= 2 * (earlier + 1) else last // 2
    return np.unique([0, losses.size - 1, *steps])


@dataclass(frozen=True)
class _State:
    """Weights of a run at one step, and what its rule carries: older iterates less the weights, memory."""

    weights: torch.Tensor
    older: list[torch.Tensor]
    memory: list[torch.Tensor] | None


@dataclass
class _Estimate:
    """What is found along the estimated run; the lists have one entry for each checkpoint."""

    losses: np.ndarray
    steps: list[int]
    kernels: list[np.ndarray]
    travel: list[float]


class _Point:
    """The network at given weights: one recorded pass for its outputs, its kernel and products with J."""

    def __init__(self, problem: FlatProblem, weights: torch.Tensor) -> None:
        self.problem, self.weights = problem, weights
        self._at = problem.at(weights)
        self.outputs: np.ndarray = self._at.predictions
        self.loss: float = problem.value(self.outputs)

    @functools.cached_property
    def kernel(self) -> np.ndarray:
        return self.problem.scale * self._at.gram()

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.outputs).all())

    def moved_by(self, q: np.ndarray) -> torch.Tensor:
        r"""The move :math:`J^\top q` of the weights, with the scale of the loss."""
        return self.problem.scale * self._at.pull_back(torch.from_numpy(q).to(self.weights))

    def push_forward(self, vector: torch.Tensor) -> np.ndarray:
        return self._at.push_forward(vector).cpu().double().numpy()


class _Linearisation:
    r"""The rule on :math:`w+\sum_c\alpha_cv_c+J^\top q`: numbers q, alpha for all that it carries.

    The vectors v are what the rule carried to w; J may be the Jacobian of another point than w.
    """

    def __init__(self, state: _State, point: _Point, outputs: np.ndarray) -> None:
        self.state, self.point = state, point
        self.outputs, self.n = outputs, outputs.size
        self.carried = [*state.older, *(state.memory or ())]
        pushed = [point.push_forward(vector) for vector in self.carried]
        self.pushed = np.reshape(pushed, (len(pushed), self.n))

    def predictions(self, z: np.ndarray) -> np.ndarray:
        return self.outputs + self.point.kernel @ z[: self.n] + z[self.n :] @ self.pushed

    def run(self, rule: UpdateRule, begin: int, end: int) -> list[tuple]:
        """Iterates and memory of the steps from begin to end."""
        count, older = len(self.carried), len(self.state.older)
        units, slope = np.eye(self.n + count)[self.n :], _slope(self.point.problem)
        iterates = (np.zeros(self.n + count), *units[:older])
        memory = None if self.state.memory is None else tuple(units[older:])

        def gradient(z: np.ndarray) -> np.ndarray:
            return np.concatenate([slope(self.predictions(z)), np.zeros(count)])

        return list(itertools.islice(rule.states_from(begin, iterates, memory, gradient), end - begin + 1))

    def vector(self, z: np.ndarray) -> torch.Tensor:
        """Weights, less w, of coordinates."""
        moved = self.point.moved_by(z[: self.n])
        for alpha, vector in zip(z[self.n :], self.carried, strict=True):
            moved = moved + float(alpha) * vector
        return moved

    def state_at(self, iterates: tuple, memory: tuple | None) -> _State:
        now = self.vector(iterates[0])
        older = [self.vector(z) - now for z in iterates[1:]]
        return _State(
            self.state.weights + now, older, None if memory is None else [self.vector(z) for z in memory]
        )


def _estimated(
    problem: FlatProblem,
    rule: UpdateRule,
    here: _Point,
    steps: np.ndarray,
    num_steps: int,
    progress: Callable[[str, int, int], object] | None,
) -> _Estimate:
    """Run the rule by linearisations, one from each checkpoint to the next with the Jacobian midway.

    A stretch on which the network grows is halved, as far as `_SPARE` goes: growth is what a linearisation
    says beyond its range, where the network itself has turned.
    """
    start = here.weights
    memory = rule.initial_memory(start)
    state = _State(start, [0 * start] * (rule.history - 1), None if memory is None else list(memory))
    found = _Estimate(np.full(num_steps + 1, np.inf), [0], [here.kernel], [0.0])
    found.losses[0] = largest = here.loss
    pending, spare = list(itertools.pairwise(steps.tolist()))[::-1], _SPARE * len(steps)
    while pending:
        begin, end = pending.pop()
        losses, after = _stretch(rule, state, here, begin, end)
        if not losses.max() <= 2 * largest and end > begin + 1 and spare > 0:
            middle, spare = (begin + end) // 2, spare - 1
            pending += [(middle, end), (begin, middle)]
            continue
        if (
            after is None or losses[-1] > _FAR * found.losses[0]
        ):  # the network diverges, or what is left of its linearisation does
            break
        state, here = after
        found.losses[begin + 1 : end + 1], largest = losses, max(losses.max(), losses[-1])
        found.steps.append(end)
        found.kernels.append(here.kernel)
        found.travel.append(float((state.weights - start).norm()))
        if progress is not None:
            progress("checkpoints", len(found.steps) - 1, len(found.steps) - 1 + len(pending))
    return found


def _stretch(
    rule: UpdateRule, state: _State, here: _Point, begin: int, end: int
) -> tuple[np.ndarray, tuple[_State, _Point] | None]:
    """Losses of the steps after `begin`, the last that of the network, and the state; None if not finite."""
    nothing = np.full(end - begin, np.inf), None
    first = _Linearisation(state, here, here.outputs)
    middle = np.mean([iterates[0] for iterates, _ in first.run(rule, begin, end)], axis=0)
    point = _Point(here.problem, state.weights + first.vector(middle))
    if not point.is_finite() or not np.isfinite(point.kernel).all():
        return nothing
    local = _Linearisation(state, point, here.outputs)
    path = local.run(rule, begin, end)
    losses = np.array([here.problem.value(local.predictions(i[0])) for i, _ in path[1:]])
    after = local.state_at(*path[-1])
    there = _Point(here.problem, after.weights)
    losses[-1] = there.loss
    return (losses, (after, there)) if np.isfinite(losses).all() else nothing
