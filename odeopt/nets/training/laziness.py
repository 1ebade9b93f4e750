r"""How far a network is from its linearisation: measured along a run, and estimated before it.

The linear theory assumes the kernel :math:`H(k)=J_kJ_k^\top` to stay what it was. What changes it is the
travel of the weights and, for ReLU, the neurons that change sides on an example. Between such flips
:math:`\Delta''+b\Delta'+H\Delta=0` is exact for the first layer; at a flip of neuron r on example i the
velocity jumps,

.. math:: \dot\Delta_i\to\dot\Delta_i+\frac{a_r}{\sqrt m}\,\lvert\dot w_r^\top x_i\rvert ,

with the sign of :math:`a_r` for both directions of the flip. The linear equation drops these impulses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from odeopt.checks import frozen
from odeopt.shown import Shown, Summary, along, rows_at

if TYPE_CHECKING:
    from odeopt.nets.training.flat import FlatProblem

__all__ = ["Laziness"]


@dataclass(frozen=True, repr=False)
class Laziness(Shown):
    r"""Change of a network along a run; arrays are float64 (steps and counts: int64) and read-only.

    Parameters
    ----------
    k : numpy.ndarray, shape (M,)
        The steps of the record; the first is 0.
    kernel_drift : numpy.ndarray, shape (M,)
        :math:`\lVert H(k)-H(0)\rVert_2/\lVert H(0)\rVert_2`.
    lam_min, lam_max : numpy.ndarray, shape (M,)
        Extreme eigenvalues of H(k), with the scale of the reduction. The smallest one sets the tail: critical
        heavy ball decays with its root, and turns from damped to oscillating when it grows.
    weight_travel : numpy.ndarray, shape (M,)
        :math:`\lVert w_k-w_0\rVert`, over all trained weights.
    neuron_travel : numpy.ndarray, shape (M,), or None
        Largest travel of one neuron's weights, :math:`\max_r\lVert w_{r,k}-w_{r,0}\rVert`; None, as all
        of the following, for another module than :class:`odeopt.nets.TwoLayerReLU`.
    flipped : numpy.ndarray, shape (M,), or None
        Fraction of the pairs (neuron, example) whose activation differs from that at step 0.
    flips : numpy.ndarray, shape (M,), or None
        Number of flips from one step to the next, summed up to step k: those back and forth count twice.
    impulses : numpy.ndarray, shape (M, n c), or None
        Jumps of the outputs' change per step,
        :math:`\frac{a_r}{\sqrt m}\lvert(w_{r,k}-w_{r,k-1})^\top x_i\rvert`, summed over the flips up to step
        k; divided by the time step they are jumps of :math:`\dot\Delta`.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU, train
    >>> run = train(TwoLayerReLU(3, 256), HeavyBall(0.1, 0.5), np.eye(3), [1, 0, -1], 20, laziness_at=[20])
    >>> found = run.laziness
    >>> found.k, bool(found.kernel_drift[1] > 0), bool(0 < found.flipped[1] < 0.1)
    (array([ 0, 20]), True, True)
    """

    k: np.ndarray
    kernel_drift: np.ndarray
    lam_min: np.ndarray
    lam_max: np.ndarray
    weight_travel: np.ndarray
    neuron_travel: np.ndarray | None
    flipped: np.ndarray | None
    flips: np.ndarray | None
    impulses: np.ndarray | None

    def _summary(self) -> Summary:
        changes = (
            f"kernel drift {self.kernel_drift[-1]:.2%}",
            f"weights moved by {self.weight_travel[-1]:.3g}",
        )
        names = ("k", "kernel_drift", "lam_min", "lam_max", "weight_travel", "neuron_travel", "flipped")
        columns = {name.replace("_", " "): getattr(self, name) for name in names}
        return Summary([along(self), *changes, "measured"], *rows_at(columns))


class LazinessRecorder:
    """Watches every step of a run for flips, and measures the network at chosen ones."""

    def __init__(self, problem: FlatProblem, steps: set[int]) -> None:
        self.problem: Any = problem
        self.steps: set[int] = steps
        self.rows: list[dict[str, Any]] = []
        self._kernel = problem.kernel_at(problem.initial)
        self._norm = spectral_norm(self._kernel)
        self._first: Any = problem.preactivations(problem.initial)
        self._before = self._first
        self._flips = 0
        self._impulses = np.zeros(problem.targets.size)

    def observe(self, k: int, w: torch.Tensor) -> None:
        """Count the flips since the step before, and measure if k is one of the chosen steps."""
        if self._first is not None:
            self._count(w)
        if k in self.steps:
            self.rows.append({"k": k, **self._measure(w)})

    def _count(self, w: torch.Tensor) -> None:
        now = self.problem.preactivations(w)
        flipped = (now > 0) != (self._before > 0)
        count = int(flipped.sum())
        if count:
            size = (now - self._before).abs_().mul_(flipped)
            self._impulses = self._impulses + self.problem.read_out(w, size)
            self._flips += count
        self._before = now

    def _measure(self, w: torch.Tensor) -> dict[str, Any]:
        kernel = self.problem.kernel_at(w)
        finite = bool(np.isfinite(kernel).all())
        values = self.problem.scale * np.linalg.eigvalsh(kernel) if finite else np.full(2, np.nan)
        travel = w - self.problem.initial
        row = {
            "kernel_drift": spectral_norm(kernel - self._kernel) / self._norm,
            "lam_min": values[0],
            "lam_max": values[-1],
            "weight_travel": float(travel.norm()),
        }
        if self._first is not None:
            row |= {
                "neuron_travel": float(self.problem.neurons(travel).norm(dim=1).max()),
                "flipped": float(((self._before > 0) != (self._first > 0)).double().mean()),
                "flips": self._flips,
                "impulses": self._impulses,
            }
        return row

    def result(self) -> Laziness:
        """Return the record."""
        names = Laziness.__dataclass_fields__
        columns: dict[str, Any] = {
            name: frozen([row[name] for row in self.rows], np.int64 if name in ("k", "flips") else np.float64)
            if name in self.rows[0]
            else None
            for name in names
        }
        return Laziness(**columns)


def spectral_norm(symmetric: np.ndarray) -> float:
    """Largest modulus of an eigenvalue; inf if the matrix is not finite."""
    if not np.isfinite(symmetric).all():
        return float("inf")
    return float(np.abs(np.linalg.eigvalsh(symmetric)).max())
