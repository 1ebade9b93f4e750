r"""A linear prediction that starts from the state of a run at some step, not from its beginning.

Around the weights :math:`w_k` the outputs are :math:`u_k+J_k(w-w_k)`. Under :math:`J_k` the iterates of a
linear rule, its memory and its gradients go over into vectors of n numbers that follow the same rule with the
kernel :math:`H_k=J_kJ_k^\top`: the prediction from step k on is the rule's own step, run on them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.rules.base import UpdateRule
from odeopt.shown import Shown, Summary

__all__ = ["Snapshot"]


@dataclass(frozen=True, repr=False)
class Snapshot(Shown):
    r"""The state of a run at one step, as its linear continuation needs it.

    Parameters
    ----------
    rule : UpdateRule
        The rule that was run.
    k : int
        The step.
    kernel : numpy.ndarray, shape (n, n)
        :math:`H_k`, times the scale of the reduction; read-only.
    errors : numpy.ndarray, shape (p, n)
        :math:`\Delta_k+J_k(w_{k-j}-w_k)`, j = 0, ..., p - 1, for the p iterates that the rule reads.
    memory : numpy.ndarray, shape (q, n), or None
        The running averages of the rule under :math:`J_k`.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU, train
    >>> net, x, y = TwoLayerReLU(3, 4096), np.eye(3), [1.0, 0.0, -1.0]
    >>> run = train(net, HeavyBall(0.1, 0.5), x, y, 30, snapshot_at=[10])
    >>> (state,) = run.snapshots
    >>> bool(abs(state.predict([30])[0] / run.loss[30] - 1) < 0.05)
    True
    """

    rule: UpdateRule
    k: int
    kernel: np.ndarray
    errors: np.ndarray
    memory: np.ndarray | None = None

    def _summary(self) -> Summary:
        size = f"n = {self.errors.shape[1]}", f"|Delta| = {np.linalg.norm(self.errors[0]):.4g}"
        return Summary([f"step {self.k}", *size, self.rule.label])

    @property
    def lam_max(self) -> float:
        r"""Largest eigenvalue of the kernel here, to be compared with the stability limit."""
        return float(np.linalg.eigvalsh(self.kernel)[-1])

    def predict(self, steps: npt.ArrayLike) -> np.ndarray:
        r"""Return the loss :math:`\tfrac12\lVert\Delta\rVert^2` of the linear continuation.

        Parameters
        ----------
        steps : array_like of int, shape (T,)
            Steps of the run, from `k` on.

        Returns
        -------
        numpy.ndarray, shape (T,)
            Infinite from the step on at which an unstable recursion left the finite numbers.

        Raises
        ------
        ValueError
            If a step is not an integer, or lies before `k`.
        """
        steps = np.asarray(steps)
        if steps.ndim != 1 or steps.dtype.kind not in "iu" or steps.size == 0 or steps.min() < self.k:
            raise ValueError(f"steps must be integers from k = {self.k} on, got {steps!r}")
        values, vectors = np.linalg.eigh(self.kernel)
        iterates = tuple(self.errors @ vectors)
        memory = None if self.memory is None else tuple(self.memory @ vectors)
        losses = np.full(int(steps.max()) - self.k + 1, np.inf)
        states = self.rule.states_from(self.k, iterates, memory, lambda z: values * z)
        with np.errstate(over="ignore", invalid="ignore"):
            for j, (newest, _) in enumerate(itertools.islice(states, losses.size)):
                losses[j] = 0.5 * newest[0] @ newest[0]
                if not np.isfinite(losses[j]):
                    losses[j:] = np.inf
                    break
        return losses[steps - self.k]
