r"""Hyperparameters from a spectrum: over an interval, or for one measure.

Over [mu, L], with :math:`\kappa=L/\mu`, the constants with the smallest spectral radius :math:`\rho` on
quadratics are

.. math::
    \text{GD}\quad&\eta=\tfrac2{L+\mu},&\rho&=\tfrac{\kappa-1}{\kappa+1};\\
    \text{heavy ball}\quad&\eta=\tfrac4{(\sqrt L+\sqrt\mu)^2},\ \beta=\rho^2,
        &\rho&=\tfrac{\sqrt\kappa-1}{\sqrt\kappa+1};\\
    \text{Nesterov}\quad&\eta=\tfrac4{3L+\mu},\ \beta=\tfrac{\sqrt{3\kappa+1}-2}{\sqrt{3\kappa+1}+2},
        &\rho&=1-\tfrac2{\sqrt{3\kappa+1}};

triple momentum has :math:`\rho=1-1/\sqrt\kappa`, for which it is tuned on more than quadratics. Under weight
decay see :mod:`odeopt.rates.decayed_tuning`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from odeopt.checks import spectral_interval
from odeopt.rates.decayed_tuning import Decay, final_loss, refined, shifted
from odeopt.rates.horizon import GROWTH, require_growth, run_length
from odeopt.rates.iteration import max_learning_rate
from odeopt.rates.peaks import best_run
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov, NesterovConstant
from odeopt.rules.momentum import TripleMomentum
from odeopt.rules.schedule import Schedule
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["tune", "tune_for"]

Rule = TypeVar("Rule", bound=UpdateRule)

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


def tune(
    rule_type: type[Rule],
    mu: float,
    L: float,
    *,
    weight_decay: float | None = None,
    decoupled: bool = False,
    to_start: bool = False,
) -> Rule:
    r"""Return the rule with the smallest asymptotic rate on quadratics with curvatures in [mu, L].

    Parameters
    ----------
    rule_type : type
        :class:`odeopt.GradientDescent`, :class:`odeopt.HeavyBall`, :class:`odeopt.NesterovConstant` (tuned
        for quadratics) or :class:`odeopt.TripleMomentum` (whose constants hold beyond quadratics).
    mu, L : float
        Smallest and largest eigenvalue, 0 < mu <= L.
    weight_decay, decoupled, to_start : float, bool, bool
        As of the class; the rate is that to the fixed point, on [mu + gamma, L + gamma] for coupled decay.

    Returns
    -------
    UpdateRule
        Of the given type, with the tuned numbers and the given decay.

    Raises
    ------
    ValueError
        Unless 0 < mu <= L are finite and the type is one of these; for weight decay that the type has not or
        that changes, or that is decoupled beside NesterovConstant, whose constants are then unknown.

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
    tuner = _tuner(rule_type)
    return Decay.of(rule_type, weight_decay, decoupled, to_start).tuned(tuner, mu, L)


def _tuner(rule_type: type[Rule]) -> Callable[[float, float], Rule]:
    if not isinstance(rule_type, type) or rule_type not in _TUNED:
        known = ", ".join(each.__name__ for each in _TUNED)
        name = getattr(rule_type, "__name__", repr(rule_type))
        raise ValueError(f"no optimal hyperparameters are known for {name}; choose among {known}")
    return _TUNED[rule_type]


def tune_for(
    rule_type: type[Rule],
    measure: SpectralMeasure,
    num_steps: int,
    *,
    schedule: Schedule | None = None,
    end: bool = False,
    growth: float | None = None,
    weight_decay: float | Schedule | None = None,
    decoupled: bool = False,
    to_start: bool = False,
) -> Rule:
    r"""Return the rule with the smallest loss of this measure after a given number of steps.

    With a schedule its peak is chosen, its shape kept, and momentum if the rule has it. Without noise a decay
    does not help: what wins here wins for one measure and one number of steps.

    Parameters
    ----------
    rule_type : type
        As in :func:`tune`, or :class:`odeopt.Nesterov` with r = 3, whose lr is chosen.
    measure : SpectralMeasure
        Of the kernel and the initial error; on one from Lanczos the loss by its Gauss rule is minimised.
    num_steps : int
        At least 1.
    schedule : Schedule, optional
        Of lr; any multiple of it may be returned.
    end : bool
        Whether the value at which the schedule ends (its field `end`) is chosen as well, from 0 to its start.
    growth : float, optional
        By what factor the run with a schedule may grow for a while, as in
        :func:`odeopt.max_learning_rate`; by default 10.
    weight_decay, decoupled, to_start : float or Schedule, bool, bool
        As of the class. The loss stays the one without the decay's own term; decay to 0 needs a measure with
        an `origin`.

    Returns
    -------
    UpdateRule
        A local optimum of the loss: the best of :func:`tune` over intervals [mu, L] of many mu, refined
        in all hyperparameters. It may be far from asymptotically optimal, but not above the stability limit,
        and with a schedule not above the largest peak of a bounded run.

    Raises
    ------
    ValueError
        If the type is unknown, `num_steps` is out of range or the measure has no positive node; if `end` or
        `growth` is given without a schedule, or the schedule has no `end`, or fewer values than steps; if the
        type has no weight decay, or `end` is to be chosen beside it.

    Examples
    --------
    >>> from odeopt import HeavyBall, loss_curve, spectral_measure, tune
    >>> measure = spectral_measure(np.diag(np.geomspace(1e-4, 1.0, 30)), np.ones(30))
    >>> best, asymptotic = tune_for(HeavyBall, measure, 20), tune(HeavyBall, 1e-4, 1.0)
    >>> losses = [loss_curve(rule, measure, [20]).loss[0] for rule in (best, asymptotic)]
    >>> bool(losses[0] < 0.7 * losses[1])
    True
    >>> from odeopt import GradientDescent
    >>> from odeopt.rules import Cosine
    >>> found = tune_for(GradientDescent, measure, 20, schedule=Cosine(1.0, steps=20))
    >>> bool(found.lr(0) > 2.0), bool(loss_curve(found, measure, [20]).loss[0] < losses[1])
    (True, True)
    """
    if not isinstance(num_steps, (int, np.integer)) or isinstance(num_steps, bool) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    high = require_measure(measure).lam_max
    if not high > 0:
        raise ValueError("measure has no positive node: a zero kernel learns nothing")
    decay = Decay.of(rule_type, weight_decay, decoupled, to_start)
    if schedule is not None:
        return _with_schedule(rule_type, measure, int(num_steps), schedule, end, growth, decay)
    if end or growth is not None:
        raise ValueError("end and growth go with a schedule; give schedule=, Cosine(1.0, steps=100) say")

    def loss(rule: UpdateRule) -> float:
        return final_loss(rule, measure, int(num_steps))

    starts: list[Any]
    low, top = max(measure.lam_min, 1e-12 * high) + decay.shift, high + decay.shift
    if rule_type is Nesterov:
        starts = [Nesterov(c / top) for c in np.linspace(0.3, 1.3, 11)]
    else:
        tuner = _tuner(rule_type)
        starts = [tuner(float(mu), top) for mu in np.geomspace(low, top, _CURVATURES)]
    best = min(starts, key=lambda rule: loss(decay.added(rule)))
    found = decay.best(best, measure, int(num_steps)) if decay else refined(best, loss)
    # A loss after few steps does not notice a slow instability.
    return found.replace(lr=min(float(found.lr), max_learning_rate(found, high)))


def _with_schedule(
    rule_type: type[Any],
    measure: SpectralMeasure,
    steps: int,
    schedule: Schedule,
    end: bool,
    growth: float | None,
    decay: Decay,
) -> Any:
    """The best peak, momentum and end of a schedule."""
    momentum = rule_type in (HeavyBall, NesterovConstant)
    if not momentum and rule_type not in (GradientDescent, Nesterov):
        name = getattr(rule_type, "__name__", repr(rule_type))
        raise ValueError(
            f"no schedule is tuned for {name}; GradientDescent, HeavyBall, NesterovConstant, Nesterov are"
        )
    if not isinstance(schedule, Schedule):
        raise ValueError(f"schedule must be a Schedule, such as Cosine(1.0, steps=100), got {schedule!r}")
    names = {field.name for field in dataclasses.fields(schedule)}
    if end and not ("end" in names and names & {"peak", "start"}):
        raise ValueError(f"end = True needs a schedule with a field end, which {schedule.label} has not")

    made: Any = rule_type

    def make(lr: Schedule, momentum_value: float) -> UpdateRule:
        return made(lr, momentum_value) if momentum else made(lr)

    run_length(decay.added(make(schedule, 0.5)), steps)  # refuses a table that is too short
    growth = GROWTH if growth is None else growth
    require_growth(growth)
    if not decay:
        return best_run(make, schedule, measure, steps, growth, momentum, end)
    if end:
        raise ValueError("end = True is not chosen beside weight decay; give the schedule its end")
    start = best_run(make, schedule, shifted(measure, decay.shift), steps, growth, momentum, end)
    return decay.best_run(start, measure, steps, growth)
