r"""Hyperparameters and step counts from a spectrum: over an interval, or for one measure.

Over [mu, L], with :math:`\kappa=L/\mu`, the constants with the smallest spectral radius :math:`\rho` on
quadratics are

.. math::
    \text{GD}\quad&\eta=\tfrac2{L+\mu},&\rho&=\tfrac{\kappa-1}{\kappa+1};\\
    \text{heavy ball}\quad&\eta=\tfrac4{(\sqrt L+\sqrt\mu)^2},\ \beta=\rho^2,
        &\rho&=\tfrac{\sqrt\kappa-1}{\sqrt\kappa+1};\\
    \text{Nesterov}\quad&\eta=\tfrac4{3L+\mu},\ \beta=\tfrac{\sqrt{3\kappa+1}-2}{\sqrt{3\kappa+1}+2},
        &\rho&=1-\tfrac2{\sqrt{3\kappa+1}};

triple momentum has :math:`\rho=1-1/\sqrt\kappa`, for which it is tuned on more than quadratics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import scipy.optimize

from odeopt.checks import is_number, spectral_interval
from odeopt.rates.iteration import max_learning_rate
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov, NesterovConstant
from odeopt.rules.linear import residual_polynomials
from odeopt.rules.momentum import TripleMomentum
from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["StepsTo", "steps_to", "tune", "tune_for"]

Rule = TypeVar("Rule", bound=UpdateRule)

# Iterations up to which bounds are computed at every one: beyond, their cost grows as the square.
_EVERY_STEP = 2000
_CURVATURES = 24


def _heavy_ball(mu: float, L: float) -> HeavyBall:
    slow, fast = math.sqrt(mu), math.sqrt(L)
    return HeavyBall(4 / (slow + fast) ** 2, ((fast - slow) / (fast + slow)) ** 2)


def _nesterov_constant(mu: float, L: float) -> NesterovConstant:
    root = math.sqrt(3 * L / mu + 1)
    return NesterovConstant(4 / (3 * L + mu), (root - 2) / (root + 2))


_TUNED: dict[type, Callable[[float, float], Any]] = {
    GradientDescent: lambda mu, L: GradientDescent(2 / (L + mu)),
    HeavyBall: _heavy_ball,
    NesterovConstant: _nesterov_constant,
    TripleMomentum: TripleMomentum.tuned,
}


def tune(rule_type: type[Rule], mu: float, L: float) -> Rule:
    r"""Return the rule with the smallest asymptotic rate on quadratics with curvatures in [mu, L].

    Parameters
    ----------
    rule_type : type
        :class:`odeopt.GradientDescent`, :class:`odeopt.HeavyBall`, :class:`odeopt.NesterovConstant` (tuned
        for quadratics) or :class:`odeopt.TripleMomentum` (whose constants hold beyond quadratics).
    mu, L : float
        Smallest and largest eigenvalue, 0 < mu <= L.

    Returns
    -------
    UpdateRule

    Raises
    ------
    ValueError
        Unless 0 < mu <= L are finite and the type is one of these.

    Examples
    --------
    >>> from odeopt import HeavyBall, discrete_rate, tune
    >>> rule = tune(HeavyBall, mu=1.0, L=9.0)
    >>> rule
    HeavyBall(lr=0.25, momentum=0.25)
    >>> print(discrete_rate(rule, 1.0, 9.0))  # rho = 1/2, and the loss decays as rho^(2k)
    exp(-1.39 k), exact (discrete iteration)
    """
    mu, L = spectral_interval(mu, L)
    return _tuner(rule_type)(mu, L)


def _tuner(rule_type: type[Rule]) -> Callable[[float, float], Rule]:
    if not isinstance(rule_type, type) or rule_type not in _TUNED:
        known = ", ".join(each.__name__ for each in _TUNED)
        name = getattr(rule_type, "__name__", repr(rule_type))
        raise ValueError(f"no optimal hyperparameters are known for {name}; choose among {known}")
    return _TUNED[rule_type]


def tune_for(rule_type: type[Rule], measure: SpectralMeasure, num_steps: int) -> Rule:
    r"""Return the rule with the smallest loss of this measure after a given number of steps.

    Parameters
    ----------
    rule_type : type
        As in :func:`tune`, or :class:`odeopt.Nesterov` with r = 3, whose lr is chosen.
    measure : SpectralMeasure
    num_steps : int
        At least 1.

    Returns
    -------
    UpdateRule
        A local optimum of the loss: the best of :func:`tune` over intervals [mu, L] of many mu, refined
        in all hyperparameters. It may be far from asymptotically optimal, but not above the stability limit.

    Raises
    ------
    ValueError
        If the type is unknown, `num_steps` is out of range or the measure has no positive node.

    Examples
    --------
    >>> from odeopt import HeavyBall, loss_curve, spectral_measure, tune
    >>> measure = spectral_measure(np.diag(np.geomspace(1e-4, 1.0, 30)), np.ones(30))
    >>> best, asymptotic = tune_for(HeavyBall, measure, 20), tune(HeavyBall, 1e-4, 1.0)
    >>> losses = [loss_curve(rule, measure, [20]).loss[0] for rule in (best, asymptotic)]
    >>> bool(losses[0] < 0.7 * losses[1])
    True
    """
    if not isinstance(num_steps, (int, np.integer)) or isinstance(num_steps, bool) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    high = require_measure(measure).lam_max
    if not high > 0:
        raise ValueError("measure has no positive node: a zero kernel learns nothing")

    def loss(rule: UpdateRule) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            values = residual_polynomials(rule, measure.nodes, [num_steps])[0] ** 2 @ measure.weights
        return float(values) if np.isfinite(values) else math.inf

    starts: list[Any]
    if rule_type is Nesterov:
        starts = [Nesterov(c / high) for c in np.linspace(0.3, 1.3, 11)]
    else:
        tuner = _tuner(rule_type)
        low = max(measure.lam_min, 1e-12 * high)
        starts = [tuner(float(mu), high) for mu in np.geomspace(low, high, _CURVATURES)]
    best = min(starts, key=loss)
    found = _refined(best, loss)
    # A loss after few steps does not notice a slow instability.
    return found.replace(lr=min(float(found.lr), max_learning_rate(found, high)))


def _refined(rule: Any, loss: Callable[[UpdateRule], float]) -> Any:
    """Improve lr and momentum by a simplex search in log lr and log (1 - momentum)."""
    momentum = getattr(rule, "momentum", None)

    def build(z: np.ndarray) -> Any:
        changes = {"lr": math.exp(z[0])}
        if momentum is not None:
            changes["momentum"] = 1 - math.exp(z[1])
            if not 0 <= changes["momentum"] < 1:
                return None
        return rule.replace(**changes)

    def objective(z) -> float:
        candidate = build(z)
        value = math.inf if candidate is None else loss(candidate)
        return math.log(value) if 0 < value < math.inf else (-800.0 if value == 0 else 800.0)

    start = [math.log(rule.lr)] + ([] if momentum is None else [math.log(1 - min(momentum, 1 - 1e-12))])
    found = scipy.optimize.minimize(
        objective, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 400}
    )
    better = build(found.x)
    return better if better is not None and loss(better) < loss(rule) else rule


@dataclass(frozen=True)
class StepsTo:
    """When a loss is reached first.

    Attributes
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
    """

    value: float | None
    low: float | None
    high: float | None
    rigorous: bool
    loss: float

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
        Where a rule gives up.

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
    if not is_number(loss) or not 0 < loss < math.inf:
        raise ValueError(f"loss must be a positive number, got {loss!r}")
    if isinstance(rule_or_curve, LossCurve):
        return _first_below(rule_or_curve, loss)
    if not isinstance(max_steps, (int, np.integer)) or isinstance(max_steps, bool) or max_steps < 1:
        raise ValueError(f"max_steps must be an integer of at least 1, got {max_steps!r}")
    if measure is None:
        raise ValueError("measure = None goes with a curve alone; a rule needs the measure that it runs on")
    require_measure(measure)
    reached = _first_step(rule_or_curve, measure, loss, max_steps)
    last = max_steps if reached is None else min(max_steps, 2 * reached + 10)
    curve = loss_curve(rule_or_curve, measure, _grid(reached, last))
    found = _first_below(curve, loss)
    gaps = last > _EVERY_STEP and not measure.exact and np.any(np.diff(curve.loss) > 0)
    return StepsTo(reached, found.low, found.high, found.rigorous and not gaps, float(loss))


def _first_step(rule: UpdateRule, measure: SpectralMeasure, loss: float, max_steps: int) -> int | None:
    """First iteration with at most the loss; blocks of iterations, each twice as long as all before."""
    start, stop = 0, 64
    while start <= max_steps:
        k = np.arange(start, min(stop, max_steps + 1))
        with np.errstate(over="ignore", invalid="ignore"):
            losses = 0.5 * residual_polynomials(rule, measure.nodes, k) ** 2 @ measure.weights
        below = np.flatnonzero(losses <= loss)
        if below.size:
            return int(k[below[0]])
        if not np.isfinite(losses[-1]):
            return None
        start, stop = stop, min(2 * stop, stop + 4096)
    return None


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
