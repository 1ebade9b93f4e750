r"""When a loss is reached first, by a rule or on a curve."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.checks import is_number
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.linear import error_row, pulls, require_numeric
from odeopt.rules.shifted import states_of_origin
from odeopt.shown import Shown, Summary
from odeopt.spectra.curve import LossCurve, loss_curve, require_joint
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["StepsTo", "require_loss", "steps_to"]

# Iterations up to which bounds are computed at every one: beyond, their cost grows as the square.
_EVERY_STEP = 2000


@dataclass(frozen=True, repr=False)
class StepsTo(Shown):
    """When a loss is reached first.

    Parameters
    ----------
    value : int, float or None
        The iteration (or, for an ODE, the time) at which the computed loss is first at most `loss`; None
        if it is not on the grid.
    low, high : int, float or None
        Bounds: before `low` the loss is above `loss`, at `high` it is at most that.
    rigorous : bool
        Whether the bounds are theorems.
    loss : float
        The loss to be reached.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import GradientDescent, spectral_measure
    >>> measure = spectral_measure(np.diag([1.0, 0.25]), [1.0, 1.0])
    >>> found = steps_to(GradientDescent(1.0), measure, 0.1)  # the losses are 0.75^(2k) / 2 for k > 0
    >>> print(found)
    3
    >>> found.low, found.high, found.rigorous
    (3, 3, True)
    """

    value: float | None
    low: float | None
    high: float | None
    rigorous: bool
    loss: float

    def times(self, least: StepsTo) -> float | None:
        """Return the ratio of these steps to the fewest; None where either is not known.

        Parameters
        ----------
        least : StepsTo
            Those of :func:`odeopt.rates.steps_envelope`, for the same loss; they count gradients, so that
            the ratio is one of costs where a step takes one.

        Returns
        -------
        float or None
            Also 1 where both are 0.

        Examples
        --------
        >>> StepsTo(18, 18, 18, True, 0.1).times(StepsTo(10, 10, 10, True, 0.1))
        1.8
        """
        if self.value is None or least.value is None:
            return None
        return 1.0 if self.value == least.value else float(self.value / max(least.value, 1e-300))

    def _summary(self) -> Summary:
        kind = "rigorous" if self.rigorous else "estimated"
        return Summary([str(self), f"{kind} bounds", f"to a loss of {self.loss:.4g}"])

    def __str__(self) -> str:
        if self.value is None:
            return "not reached"
        low, high = self.low, self.high
        if low == high == self.value:
            return f"{self.value:g}"
        return f"{self.value:g} [{low:g}, {'?' if high is None else format(high, 'g')}]"


def steps_to(
    rule_or_curve: UpdateRule | LossCurve,
    measure: SpectralMeasure | None,
    loss: float,
    *,
    max_steps: int = 100_000,
) -> StepsTo:
    r"""Predict when a loss is reached, with bounds.

    Parameters
    ----------
    rule_or_curve : UpdateRule or LossCurve
        A rule is run on the measure until it is there; a curve is only read.
    measure : SpectralMeasure or None
        For a rule.
    loss : float
        Half the squared norm of the error, summed; positive.
    max_steps : int
        Where a rule gives up; at the latest where one of its schedules ends.

    Returns
    -------
    StepsTo
        Bounds hold at the points of the grid; for a rule these are all iterations up to 2000, and later a
        part of them, so that for a loss that oscillates they are then marked as not rigorous.

    Raises
    ------
    ValueError
        If `loss` or `max_steps` is out of range.

    Examples
    --------
    >>> from odeopt import GradientDescent, spectral_measure
    >>> measure = spectral_measure(np.diag(np.linspace(0.1, 1, 200)), np.ones(200), num_matvecs=20)
    >>> found = steps_to(GradientDescent(1.0), measure, loss=1e-3 * measure.mass / 2)
    >>> print(found, found.rigorous)
    17 True
    """
    require_loss(loss)
    if isinstance(rule_or_curve, LossCurve):
        return _first_below(rule_or_curve, loss)
    if not isinstance(max_steps, (int, np.integer)) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(f"max_steps must be an integer of at least 1, got {max_steps!r}")
    if measure is None:
        raise ValueError("measure = None goes with a curve alone; a rule needs the measure that it runs on")
    require_measure(measure)
    require_numeric(rule_or_curve)
    last_step = rule_or_curve.last_step
    max_steps = max_steps if last_step is None else min(max_steps, last_step + 1)
    reached = _first_step(rule_or_curve, measure, loss, max_steps)
    last = max_steps if reached is None else min(max_steps, 2 * reached + 10)
    curve = loss_curve(rule_or_curve, measure, _grid(reached, last))
    found = _first_below(curve, loss)
    gaps = last > _EVERY_STEP and not measure.exact and np.any(np.diff(curve.loss) > 0)
    return StepsTo(reached, found.low, found.high, found.rigorous and not gaps, float(loss))


def _first_step(rule: UpdateRule, measure: SpectralMeasure, loss: float, max_steps: int) -> int | None:
    """First iteration with at most the loss; the step is read as far as it is needed."""
    losses, pulled, read_to = iter(()), None, 32
    for k in range(max_steps + 1):
        if k >= read_to or pulled is None:
            read_to = min(2 * read_to, max_steps)
            row = error_row(rule, [read_to])
            now = bool(row) if measure.joint is None else pulls(rule, [read_to])
            if now != pulled:
                pulled, losses = now, itertools.islice(_losses(rule, measure, now), k, None)
        found = next(losses)
        if found <= loss:
            return k
        if not math.isfinite(found):
            return None
    return None


def _losses(rule: UpdateRule, measure: SpectralMeasure, pulled: bool) -> Iterator[float]:
    """The loss of each iterate of one run; `pulled` by decay to 0, of both vectors."""
    lam = measure.nodes
    if not pulled:
        for z in iterate(rule, np.ones_like(lam), lambda z: lam * z):
            with np.errstate(over="ignore", invalid="ignore"):
                yield 0.5 * float(z**2 @ measure.weights)
    else:
        joint = require_joint(measure, f"the step of {rule.label} is linear, but no step in the error alone")
        nodes = joint.nodes
        both = zip(
            iterate(rule, np.ones_like(nodes), lambda z: nodes * z),
            states_of_origin(rule, np.zeros_like(nodes), lambda s: nodes * s),
            strict=False,
        )
        for phi, (chi, _) in both:
            with np.errstate(over="ignore", invalid="ignore"):
                yield float(joint.loss(phi[None], chi[None])[0])


def _grid(reached: int | None, last: int) -> np.ndarray:
    if last <= _EVERY_STEP:
        return np.arange(last + 1)
    coarse = np.geomspace(1, last, 200).astype(int)
    near = np.arange(reached - 20, reached + 21) if reached is not None else []
    return np.unique(np.concatenate([[0], coarse, near]).astype(int))


def _first_below(curve: LossCurve, loss: float) -> StepsTo:
    at = np.asarray(curve.k if curve.layer == "discrete iteration" else curve.t)

    def first(values):
        below = np.flatnonzero(values <= loss)
        return at[below[0]].item() if below.size else None

    return StepsTo(first(curve.loss), first(curve.lower), first(curve.upper), curve.rigorous, float(loss))


def require_loss(loss: Any) -> None:
    """Refuse what is no positive number."""
    if not is_number(loss) or not 0 < loss < math.inf:
        raise ValueError(f"loss must be a positive number, got {loss!r}")
