r"""What a trust estimate says: how far the linear prediction of a network can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from odeopt.nets.training.record import TrainingRun
from odeopt.rules.base import UpdateRule
from odeopt.shown import Shown, Summary, rows_at

__all__ = ["TrustEstimate", "last_within"]


@dataclass(frozen=True, repr=False)
class TrustEstimate(Shown):
    r"""What is expected to separate a network from its linear prediction; an estimate, not a bound.

    Parameters
    ----------
    rule : UpdateRule
        That of the linear prediction.
    tolerance : float
        The relative deviation of the loss that is accepted.
    trusted_until : int
        Last step up to which the estimated deviation stays within `tolerance` of the current loss; 0
        if the linear recursion is unstable.
    stable : bool
        Whether the linear recursion stays finite and does not grow over the steps considered.
    linear_loss, corrected_loss : numpy.ndarray, shape (num_steps + 1,)
        Loss of the linear prediction, and that estimated for the network; inf after overflow, and the
        latter inf after step 0 where the linear recursion is unstable.
    checkpoints : numpy.ndarray of int, shape (C,)
        Steps at which the network was linearised anew; only 0 for an unstable recursion.
    kernel_drift : numpy.ndarray, shape (C,)
        Estimate of :math:`\lVert H(k)-H(0)\rVert_2/\lVert H(0)\rVert_2`.
    lam_min : numpy.ndarray, shape (C,)
        Estimate of the smallest eigenvalue of H(k).
    weight_travel : numpy.ndarray, shape (C,)
        Estimate of :math:`\lVert w_k-w_0\rVert`.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.nets import TwoLayerReLU, train, trust_estimate
    >>> arguments = TwoLayerReLU(4, 20_000), GradientDescent(0.5), np.eye(4), [1, -1, 0.5, 0], 20
    >>> found = trust_estimate(*arguments)
    >>> found.trusted_until, found.measured_until(train(*arguments))
    (20, 20)
    """

    rule: UpdateRule
    tolerance: float
    trusted_until: int
    stable: bool
    linear_loss: np.ndarray
    corrected_loss: np.ndarray
    checkpoints: np.ndarray
    kernel_drift: np.ndarray
    lam_min: np.ndarray
    weight_travel: np.ndarray

    def measured_until(self, run: TrainingRun) -> int:
        r"""Last recorded step up to which a run did stay within `tolerance` of the linear prediction.

        Parameters
        ----------
        run : TrainingRun
            A run of the same network and rule.

        Returns
        -------
        int
            At least 0, where both losses are the same.

        Raises
        ------
        ValueError
            If the run is longer than the estimate.
        """
        if run.k[-1] >= self.linear_loss.size:
            raise ValueError(
                f"run has {run.k[-1]} steps, the estimate {self.linear_loss.size - 1}; ask for as many steps"
            )
        return int(run.k[last_within(run.loss, self.linear_loss[run.k], self.tolerance)])

    def _summary(self) -> Summary:
        k, last = self.checkpoints, self.linear_loss.size - 1
        facts = [f"within {self.tolerance:.0%} up to step {self.trusted_until} of {last}"]
        facts = facts if self.stable else ["the linear recursion grows"]
        columns = {"k": k, "linear loss": self.linear_loss[k], "estimated loss": self.corrected_loss[k]}
        columns |= {"kernel drift": self.kernel_drift, "smallest eigenvalue": self.lam_min}
        shown = rows_at(columns | {"weight travel": self.weight_travel})
        return Summary([*facts, "estimated, no bound", self.rule.label], *shown)

    def __str__(self) -> str:
        if not self.stable:
            return "the linear recursion grows: no linear prediction can be trusted; lower the learning rate"
        return (
            f"estimate, not a bound: within {self.tolerance:.0%} of the current loss up to step "
            f"{self.trusted_until} of {self.linear_loss.size - 1}; kernel drift {self.kernel_drift[-1]:.1%}, "
            f"smallest eigenvalue {self.lam_min[0]:.3g} -> {self.lam_min[-1]:.3g}"
        )


def last_within(losses: np.ndarray, reference: np.ndarray, tolerance: float) -> int:
    """Last index before the first one whose relative deviation exceeds the tolerance."""
    with np.errstate(invalid="ignore", divide="ignore"):
        outside = np.flatnonzero(~(np.abs(losses - reference) <= tolerance * reference))
    return int(outside[0]) - 1 if outside.size else len(losses) - 1
