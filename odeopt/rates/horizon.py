r"""What a rule does over a run of a given length: how it grows and falls, and the largest peak of its lr.

For rules whose steps change with k no spectral radius decides: the products of the steps do, which are
propagated here (:mod:`odeopt.rates.run`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from odeopt.checks import is_finite, is_number, require_integer, require_positive
from odeopt.rates.run import RESOLUTION, Run
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import require_numeric, transition_matrix
from odeopt.rules.resolve import schedules_of
from odeopt.rules.schedule import Schedule
from odeopt.shown import Shown, Summary

__all__ = [
    "GROWTH", "Growth", "frozen_radius", "largest_lr", "peak_of", "rate_of_run", "require_growth",
    "run_growth", "run_length",
]  # fmt: skip

# By what a run may grow, unless it is said; factors of 2 by which a limit is looked for.
GROWTH = 10.0
_DOUBLINGS = 60
# Eigenvalues on which a growth is looked for at most where no bound is asked for.
_SEEN = 2000


@dataclass(frozen=True, repr=False)
class Growth(Shown):
    r"""How far a run strays: :math:`\max_{k\le K}\max_\lambda|P_k(\lambda)|`.

    Parameters
    ----------
    value : float
        The largest factor found; inf where the run leaves the range of float64.
    bound : float
        A bound on it, from the values on a mesh of eigenvalues and the degree of the polynomials; rounding of
        the evaluation is not in it.
    step : int
        The k at which the largest factor stands.
    lam : float
        The eigenvalue at which it stands.
    num_steps : int
        Steps of the run, K.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> from odeopt.rules import Linear
    >>> found = run_growth(GradientDescent(Linear(2.2, steps=20)), 1.0)
    >>> round(found.value, 3), found.step, found.lam, found.num_steps
    (1.308, 2, 1.0, 20)
    >>> bool(found.value <= found.bound)
    True
    """

    value: float
    bound: float
    step: int
    lam: float
    num_steps: int

    def _summary(self) -> Summary:
        return Summary([str(self), f"bound {self.bound:.4g}"])

    def __str__(self) -> str:
        place = f"step {self.step}, lam = {self.lam:.4g}"
        return f"at most {self.value:.4g} times x_0 in {self.num_steps} steps ({place})"


def run_growth(
    rule: UpdateRule, lam_max: float, *, lam_min: float = 0.0, num_steps: int | None = None
) -> Growth:
    r"""Find by what factor a run grows at most, whatever the error and the spectrum within an interval.

    Parameters
    ----------
    rule : UpdateRule
        Linear and numeric, with schedules or without.
    lam_max, lam_min : float
        The interval of eigenvalues.
    num_steps : int, optional
        Steps of the run; by default up to the end of the schedules.

    Returns
    -------
    Growth
        Of what x_0 leaves in the iterates; what a decay to 0 adds is not in it.

    Raises
    ------
    ValueError
        If the interval is none, the rule is not linear, or `num_steps` is missing where no schedule ends.

    Examples
    --------
    A peak above 2 / lam_max is a finite factor:

    >>> from odeopt import GradientDescent
    >>> from odeopt.rules import Linear
    >>> print(run_growth(GradientDescent(Linear(2.2, steps=20)), 1.0))
    at most 1.308 times x_0 in 20 steps (step 2, lam = 1)
    """
    require_numeric(rule)
    high = require_positive("lam_max", lam_max)
    if not (is_finite(lam_min) and 0 <= lam_min <= high):
        raise ValueError(f"lam_min must lie in [0, lam_max], got {lam_min!r} with lam_max = {lam_max!r}")
    run = Run(rule, run_length(rule, num_steps))
    found = run.largest(float(lam_min), high)
    return Growth(found.value, found.bound, found.step, found.lam, run.steps)


def frozen_radius(rule: UpdateRule, lam: npt.ArrayLike, num_steps: int | None = None) -> np.ndarray:
    r"""Spectral radius of each step as if it were repeated for ever: a check that proves nothing.

    Radii below 1 at every k do not bound a run, and radii above 1 do not make it grow: heavy ball with
    momentum 0.9 and lr * lam = 1.7, 2.1 in turn has radii 0.949, and grows by 1.054 a step. What is true of
    a run says :func:`run_growth`.

    Parameters
    ----------
    rule : UpdateRule
        Linear and numeric, with schedules or without.
    lam : array_like, shape (n,)
        Eigenvalues.
    num_steps : int, optional
        K; by default up to the end of the schedules.

    Returns
    -------
    numpy.ndarray, shape (K, n)
        A row for each step.

    Raises
    ------
    ValueError
        If the rule is not linear, or `num_steps` is missing where no schedule ends.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.rules import Table
    >>> rule = HeavyBall(Table([1.7, 2.1] * 50), momentum=0.9)
    >>> float(frozen_radius(rule, 1.0).max().round(3)), round(run_growth(rule, 1.0).value, 2)
    (0.949, 24.16)
    """
    require_numeric(rule)
    steps = [transition_matrix(rule, lam, k) for k in range(run_length(rule, num_steps))]
    return np.array([np.abs(np.linalg.eigvals(step)).max(axis=1) for step in steps])


def seen_growth(rule: UpdateRule, lam_max: float, num_steps: int) -> Growth:
    """The growth that few eigenvalues show, for runs of any length; no bound on it."""
    run = Run(rule, num_steps)
    intervals = min(max(2 * int(run.degree[-1]), 1), _SEEN)
    lam = lam_max * np.sin(np.linspace(0, math.pi / 2, intervals + 1)) ** 2
    size, _, step = run.sizes(lam, 0.0)
    top = int(np.argmax(size))
    return Growth(float(size[top]), math.inf, int(step[top]), float(lam[top]), num_steps)


def peak_of(rule: UpdateRule) -> float:
    """The largest learning rate of a rule."""
    lr: Any = getattr(rule, "lr", None)
    if isinstance(lr, Schedule):
        return lr.largest
    if not is_number(lr):
        raise ValueError(f"{rule.label} has no numeric hyperparameter lr")
    return float(lr)


def require_growth(growth: float) -> None:
    """Refuse a bound that x_0 exceeds."""
    if not (is_finite(growth) and growth >= 1):
        raise ValueError(f"growth must be a finite number of at least 1, the size of x_0, got {growth!r}")


def largest_lr(rule: UpdateRule, lam_max: float, num_steps: int, growth: float) -> float:
    """Largest peak of lr for which no iterate of a run exceeds `growth`, on all of [0, lam_max]."""
    require_growth(growth)
    peak, run = peak_of(rule), Run(rule, num_steps)
    if not _scales_the_gradient_alone(rule, run):
        return _largest_by_search(rule, lam_max, num_steps, growth)
    if run.sizes(np.zeros(1), 0.0)[0][0] > growth * (1 + RESOLUTION):
        raise ValueError(f"{rule.label} grows by more than {growth:g} without any gradient, whatever lr is")
    found = run.first_above(growth)
    if found is None:
        raise ValueError(
            f"{rule.label} stays within a factor of {growth:g} over {num_steps} steps for every lr, so there "
            "is no limit; give num_steps in which lr acts"
        )
    if found.bound > growth * (1 + 4 * RESOLUTION):
        raise ValueError(
            f"{rule.label} over {num_steps} steps stays so near to a factor of {growth:g} on a wide range of "
            "eigenvalues that its limit is not known to 8 digits; choose another growth, or fewer steps"
        )
    limit = peak * (found.lam / lam_max)
    if not 0 < limit < math.inf:
        raise ValueError(
            f"lam_max = {lam_max!r} gives a limit of lr beyond the range of float64; rescale the kernel"
        )
    return limit


def _scales_the_gradient_alone(rule: UpdateRule, run: Run) -> bool:
    """Whether the residual polynomials are functions of lr * lam."""
    half, places = Run(rule.replace(lr=rule.lr / 2), run.steps), np.array([0.1, 0.6, 1.0]) / peak_of(rule)
    found = [of.sizes(lam, 0.0, last=True)[0] for of, lam in ((run, places), (half, 2 * places))]
    return bool(np.allclose(*found, rtol=1e-9, atol=1e-9))


def _largest_by_search(rule: UpdateRule, lam_max: float, num_steps: int, growth: float) -> float:
    """Where lr does more than scale the gradient: the crossing that factors of 2 of lr meet first."""

    def excess(factor: float) -> float:
        found = Run(rule.replace(lr=factor * rule.lr), num_steps).largest(0.0, lam_max, growth)
        return min(math.log(found.value / growth), 700.0)

    grows = excess(1.0) > 0
    factors = np.exp2(np.arange(1, _DOUBLINGS) * (-1 if grows else 1))
    other = next((float(f) for f in factors if (excess(float(f)) > 0) != grows), None)
    if other is None:
        raise ValueError(
            f"{rule.label} {'exceeds' if grows else 'stays within'} a factor of {growth:g} over {num_steps} "
            "steps for every lr, so it has no limit"
        )
    near = 2 * other if grows else other / 2
    factor = scipy.optimize.brentq(excess, near, other, xtol=RESOLUTION * near)
    return float(factor * (1 - RESOLUTION)) * peak_of(rule)


def end_of_schedules(rule: UpdateRule) -> int | None:
    """Steps after which all schedules are constant, or one ends; None where one changes for ever."""
    if rule.last_step is not None:
        return rule.last_step + 1
    schedules = schedules_of(rule)
    ends = [end for end in map(_end_of, schedules) if end is not None]
    return max(ends, default=0) if len(ends) == len(schedules) else None


def _end_of(schedule: Schedule) -> int | None:
    if not schedule.has_formula or schedule.pieces()[-1].expr.free_symbols:
        return None
    return math.ceil(max(schedule.breaks, default=0))


def run_length(rule: UpdateRule, num_steps: int | None, *, needed: bool = True) -> int:
    """The steps of a run: those asked for, or up to the end of the schedules."""
    if num_steps is not None:
        steps, last = require_integer("num_steps", num_steps, 1), rule.last_step
        if last is not None and steps > last + 1:
            raise ValueError(
                f"num_steps = {steps} exceeds the {last + 1} steps for which {rule.label} has values"
            )
        return steps
    end = end_of_schedules(rule) if rule.is_scheduled else None
    if end is None or (needed and end == 0):
        what = "a schedule that never ends" if rule.is_scheduled else "no schedule"
        raise ValueError(f"{rule.label} has {what}, so num_steps, the length of the run, must be given")
    return end


def rate_of_run(rule: UpdateRule, mu: float, L: float, num_steps: int) -> tuple[float, float]:
    r"""Mean rate of the loss over a run, :math:`-\frac2K\log\max_\lambda|P_K|`, and a lower bound on it."""
    found = Run(rule, num_steps).largest(mu, L, last=True)
    if not math.isfinite(found.value):
        raise ValueError(
            f"{rule.label} leaves the range of float64 in {num_steps} steps on [{mu:g}, {L:g}]; lower its lr"
        )
    least = float(np.finfo(float).tiny)
    value, low = (-2 / num_steps * math.log(max(size, least)) for size in (found.value, found.bound))
    return value, low
