r"""How far the linear prediction of a network can be trusted: an estimate before training.

With a linear rule the weights of the linearised network are :math:`w_k=w_0+J_0^\top q_k`, where q follows the
rule in n dimensions with the gradient :math:`\Delta_0+Hq`. The Jacobian of the *network* at a few of these
points says how its kernel would drift along that path, and what impulses the carried velocity would receive;
the rule run with both says how the loss would then differ. That is a first correction to the linear
prediction, not a bound: the network, once it has departed, takes another path.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from odeopt.losses import SquaredLoss
from odeopt.methods import UpdateRule
from odeopt.nets.laziness import frozen, spectral_norm
from odeopt.nets.problem import iterate_states, problem_of
from odeopt.nets.train import TrainingRun, require_linear

__all__ = ["TrustEstimate", "trust_estimate"]


@dataclass(frozen=True)
class TrustEstimate:
    r"""What is expected to separate a network from its linear prediction; an estimate, not a bound.

    Attributes
    ----------
    rule : UpdateRule
    tolerance : float
        The relative deviation of the loss that is accepted.
    trusted_until : int
        Last step up to which the estimated deviation stays within `tolerance` of the current loss; 0
        if the linear recursion is unstable.
    stable : bool
        Whether the linear recursion stays finite and does not grow over the steps considered.
    linear_loss, corrected_loss : numpy.ndarray, shape (num_steps + 1,)
        Loss of the linear prediction, and with the kernel drift estimated along its path.
    checkpoints : numpy.ndarray of int, shape (C,)
        Steps at which the kernel was computed.
    kernel_drift : numpy.ndarray, shape (C,)
        Estimate of :math:`\lVert H(k)-H(0)\rVert_2/\lVert H(0)\rVert_2`.
    lam_min : numpy.ndarray, shape (C,)
        Estimate of the smallest eigenvalue of H(k).
    weight_travel : numpy.ndarray, shape (C,)
        Estimate of :math:`\lVert w_k-w_0\rVert`.
    """

    rule: UpdateRule
    tolerance: float
    trusted_until: int
    stable: bool
    linear_loss: np.ndarray = field(repr=False)
    corrected_loss: np.ndarray = field(repr=False)
    checkpoints: np.ndarray = field(repr=False)
    kernel_drift: np.ndarray = field(repr=False)
    lam_min: np.ndarray = field(repr=False)
    weight_travel: np.ndarray = field(repr=False)

    def measured_until(self, run: TrainingRun) -> int:
        r"""Last recorded step up to which a run did stay within `tolerance` of the linear prediction.

        Parameters
        ----------
        run : TrainingRun
            A run of the same network and rule.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If the run is longer than the estimate.
        """
        if run.k[-1] >= self.linear_loss.size:
            raise ValueError(
                f"run has {run.k[-1]} steps, the estimate {self.linear_loss.size - 1}; ask for as many steps"
            )
        return int(run.k[_last_within(run.loss, self.linear_loss[run.k], self.tolerance)])

    def __str__(self) -> str:
        if not self.stable:
            return "the linear recursion grows: no linear prediction can be trusted; lower the learning rate"
        return (
            f"estimate, not a bound: within {self.tolerance:.0%} of the current loss up to step "
            f"{self.trusted_until} of {self.linear_loss.size - 1}; kernel drift {self.kernel_drift[-1]:.1%}, "
            f"smallest eigenvalue {self.lam_min[0]:.3g} -> {self.lam_min[-1]:.3g}"
        )


def trust_estimate(
    net: nn.Module,
    rule: UpdateRule,
    x: Any,
    y: Any,
    num_steps: int,
    *,
    tolerance: float = 0.1,
    checkpoints: int = 8,
    reduction: str = "sum",
) -> TrustEstimate:
    r"""Estimate, before training, how long the linear prediction of the squared loss will hold.

    Parameters
    ----------
    net : torch.nn.Module
        As for :func:`odeopt.nets.train`; left as it is.
    rule : UpdateRule
        A linear rule with numeric hyperparameters.
    x : array_like or torch.Tensor, shape (n, ...)
    y : array_like or torch.Tensor, shape (n,)
    num_steps : int
    tolerance : float, optional
        Accepted relative deviation of the loss.
    checkpoints : int, optional
        Number of points of the path, besides the start, at which the kernel is computed.
    reduction : {"sum", "mean"}, optional

    Returns
    -------
    TrustEstimate

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
    problem = problem_of(net, x, y, SquaredLoss(), reduction)
    require_linear(rule, problem.loss, "rule")
    kernel = problem.scale * problem.kernel_at(problem.initial)
    error = problem.predictions(problem.initial) - problem.targets
    path = _linear_path(rule, kernel, error, num_steps)
    linear = np.array([0.5 * ((error + kernel @ state[0][0]) ** 2).sum() for state in path])
    stable = len(path) == num_steps + 1 and bool(linear[-1] <= linear[0])
    steps = _spread(linear, checkpoints)
    try:
        kernels, impulses, travel = _along(problem, path, steps)
    finally:
        problem.write(problem.initial)
    corrected = _corrected(rule, error, kernels, impulses, steps, len(linear))
    norm = spectral_norm(kernel)
    return TrustEstimate(
        rule,
        tolerance,
        _last_within(corrected, linear, tolerance) if stable else 0,
        stable,
        frozen(linear),
        frozen(corrected),
        frozen(steps, np.int64),
        frozen([spectral_norm(k - kernel) / norm for k in kernels]),
        frozen([np.linalg.eigvalsh(k)[0] for k in kernels]),
        frozen(travel),
    )


def _linear_path(rule: UpdateRule, kernel: np.ndarray, error: np.ndarray, num_steps: int) -> list[tuple]:
    """States (iterates, memory) of q, up to the step at which the error exceeds 1e6 times the initial one."""
    states = iterate_states(rule, np.zeros_like(error), lambda q: error + kernel @ q)
    path, limit = [], 1e6 * np.linalg.norm(error)
    for state in itertools.islice(states, num_steps + 1):
        if not np.linalg.norm(error + kernel @ state[0][0]) <= limit:
            break
        path.append(state)
    return path


def _spread(losses: np.ndarray, count: int) -> np.ndarray:
    """Steps evenly spaced in the travelled length of the square root of the loss."""
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(np.sqrt(losses))))])
    targets = np.linspace(0, travelled[-1], count + 1)
    return np.unique([*np.searchsorted(travelled, targets).clip(0, losses.size - 1), losses.size - 1])


def _along(problem, path: list[tuple], steps: np.ndarray) -> tuple[list, list, list]:
    """Kernels at points of the linear path, impulses from each to the next, and travel of the weights."""
    start = problem.initial

    def moved(q: np.ndarray) -> torch.Tensor:
        return problem.scale * problem.pull_back_at(start, torch.from_numpy(q).to(start))

    kernels, impulses, travel, before = [], [], [], None
    for k in steps:
        (q, *older), memory = path[k]
        move = moved(q)
        w = start + move
        carried = [moved(earlier - q) for earlier in older] + [moved(entry) for entry in memory or ()]
        kernels.append(problem.scale * problem.kernel_at(w))
        travel.append(float(move.norm()))
        if before is not None:
            mean = [(one + other) / 2 for one, other in zip(before[1], carried, strict=True)]
            impulses.append([problem.push_forward(w, t) - problem.push_forward(before[0], t) for t in mean])
        before = w, carried
    return kernels, impulses, travel


def _corrected(rule, error: np.ndarray, kernels: list, impulses: list, steps: np.ndarray, size: int):
    r"""Loss of the rule run on :math:`\Delta` with the kernel H(k), linear in k between the points.

    What the rule carries from step to step, older iterates and memory, is seen under :math:`J_k`. When that
    changes, it is moved by :math:`(J_{k+1}-J_k)` times its weights: for ReLU the impulses of the flips.
    """
    losses = np.full(size, np.inf)
    iterates, memory = (error,) * rule.history, rule.initial_memory(error)
    for k in range(size):
        losses[k] = 0.5 * iterates[0] @ iterates[0]
        j = min(int(np.searchsorted(steps, k, side="right")), len(steps) - 1)
        gap = steps[j] - steps[j - 1] if j else 1
        kernel = kernels[j]
        if j:
            kernel = kernels[j - 1] + (k - steps[j - 1]) / gap * (kernels[j] - kernels[j - 1])
        x_next, memory = rule.step(k, iterates, memory, lambda z, kernel=kernel: kernel @ z)
        iterates = (x_next, *iterates[:-1])
        if j and (len(iterates) > 1 or memory):
            shifts = [impulse / gap for impulse in impulses[j - 1]]
            older = [z + s for z, s in zip(iterates[1:], shifts, strict=False)]
            iterates = (x_next, *older)
            if memory:
                memory = tuple(m + s for m, s in zip(memory, shifts[len(older) :], strict=True))
    return losses


def _last_within(losses: np.ndarray, reference: np.ndarray, tolerance: float) -> int:
    """Last index before the first one whose relative deviation exceeds the tolerance."""
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = np.flatnonzero(~(np.abs(losses - reference) <= tolerance * reference))
    return int(outside[0]) - 1 if outside.size else len(losses) - 1
