r"""One method of a forecast: its numbers, tuned or given, its steps to the target, and its curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.rates.envelope import steps_envelope, times_fewest
from odeopt.rates.horizon import end_of_schedules, peak_of
from odeopt.rates.iteration import discrete_rate, max_learning_rate
from odeopt.rates.steps import StepsTo, steps_to
from odeopt.rates.tuning import Decay, tune, tune_for
from odeopt.rules.averaged import with_average
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import Nesterov
from odeopt.rules.linear import require_numeric
from odeopt.rules.names import METHODS
from odeopt.rules.reading import require_linear
from odeopt.rules.schedule import Schedule
from odeopt.spectra.curve import loss_curve
from odeopt.spectra.fixed_point import fixed_point
from odeopt.studies.forecast_report import MethodForecast
from odeopt.studies.forecast_spectrum import ForecastSpectrum
from odeopt.studies.methods import rule_at_rate

__all__ = ["Asked"]

# Points of the curves that are kept and drawn.
_POINTS = 300
# Logarithm of the factor by which a distance to a fixed point has fallen when a search for less ends.
_SETTLED = math.log(1e12)
# Steps over which a limit is looked for at most, and steps to a fixed point where it is approached slowly.
_LIMITED, _MOST = 1000, 10_000


@dataclass(frozen=True)
class Asked:
    """What is asked of every method; the numbers are those of the methods that are named."""

    target: float
    max_steps: int
    best_at: int | None
    schedule: Schedule | None
    lr: float | Schedule | None
    decay: dict[str, Any]
    average: Any

    def fewest(self, spectrum: ForecastSpectrum) -> StepsTo | None:
        """The gradients that any method needs at least; None where the target is never reached."""
        loss = self.target * spectrum.whole.mass / 2
        if loss <= spectrum.floor or spectrum.seen is None:
            return None
        return steps_envelope(spectrum.whole, loss, max_steps=self.max_steps)

    def method(
        self, name: str, method: str | UpdateRule, spectrum: ForecastSpectrum, fewest: StepsTo | None
    ) -> MethodForecast:
        """Predict one method."""
        rule = self._given(method) if isinstance(method, UpdateRule) else self._named(method, spectrum)
        run = self._run(rule, isinstance(method, UpdateRule))
        given = isinstance(method, UpdateRule)
        limit = self._limit(rule, spectrum.L, run, tuned=not given and self.lr is None, given=given)
        ends_at, most = self._end(rule, spectrum)
        most = min(most, run or self.max_steps)
        loss = self.target * spectrum.whole.mass / 2
        if loss > spectrum.floor:
            steps = shown = steps_to(rule, spectrum.whole, loss, max_steps=most)
        else:  # never reached: shown is how what can fall does so
            steps = shown = StepsTo(None, None, None, True, loss)
            if spectrum.seen is not None:
                shown = steps_to(rule, spectrum.seen, self.target * spectrum.seen.mass / 2, max_steps=most)
        # The curve ends a little beyond the last bound, so that a plot shows where it meets the target.
        last = max(v for v in (shown.high, shown.value, 10) if v is not None)
        given_up = shown.value is None and spectrum.seen is not None
        last = most if given_up else min(most, int(1.2 * last) + 1)
        last = run or last
        k = np.unique(np.linspace(0, last, min(last, _POINTS) + 1).astype(int))
        curve = loss_curve(rule, spectrum.whole, k)
        times = None if fewest is None else times_fewest(rule, steps, fewest)
        return MethodForecast(name, rule, limit, steps, curve, run, ends_at, times)

    def _given(self, rule: UpdateRule) -> UpdateRule:
        """A rule with its own numbers, which must have a loss curve."""
        require_numeric(rule)
        try:
            require_linear(rule, "loss curve")
        except ValueError as error:
            raise ValueError(f"{error}; check() trains networks with it") from error
        return rule

    def _named(self, name: str, spectrum: ForecastSpectrum) -> UpdateRule:
        kind, mu, L = METHODS[name], spectrum.mu, spectrum.L
        if self.lr is not None:
            return rule_at_rate(name, self.lr, mu, decay=self.decay, average=self.average)
        if self.best_at is not None and spectrum.seen is not None:
            rule = tune_for(kind, spectrum.seen, self.best_at, schedule=self.schedule, **self.decay)
            if self.schedule is None:
                rule: Any = rule.replace(lr=min(float(rule.lr), float(max_learning_rate(rule, L))))
        elif kind is Nesterov:  # its r/t friction needs no mu: its lr is the classical 1/L
            rule = Nesterov(1 / (L + Decay(self.decay).shift), 3, **self.decay)
        else:
            rule = tune(kind, mu, L, **self.decay)
        return with_average(rule, self.average)

    def _run(self, rule: UpdateRule, given: bool) -> int | None:
        """The steps of a run that has an end: where the rate is 0 for ever, or not known."""
        if self.schedule is not None and not given:
            return min(self.best_at or self.max_steps, self.max_steps)
        if rule.last_step is not None:
            return min(rule.last_step + 1, self.max_steps)
        lr, end = getattr(rule, "lr", None), end_of_schedules(rule) if rule.is_scheduled else None
        still = isinstance(lr, Schedule) and end and abs(lr(end)) <= 1e-12 * lr.largest
        return min(end, self.max_steps) if still and end else None

    def _limit(
        self, rule: UpdateRule, L: float, run: int | None, *, tuned: bool, given: bool
    ) -> float | None:
        """The limit of stability, with schedules of growth, that a rule must keep; None where it has none."""
        steps = min(run or end_of_schedules(rule) or _LIMITED, _LIMITED) if rule.is_scheduled else None
        try:
            limit = float(max_learning_rate(rule, L, num_steps=steps))
            peak = peak_of(rule)
        except ValueError:
            if not given:
                raise
            return None
        if not tuned and peak > limit * (1 + 1e-9):
            over = "" if steps is None else f" over {steps} steps"
            raise ValueError(
                f"lr = {peak:.6g} exceeds the stability limit {limit:.6g} of {rule.label}{over} on this "
                f"kernel (largest eigenvalue {L:.6g}); lower it"
            )
        return limit

    def _end(self, rule: UpdateRule, spectrum: ForecastSpectrum) -> tuple[float | None, int]:
        """The loss that decay ends at, and the steps after which nothing more is to be found."""
        if rule.is_scheduled or not getattr(rule, "weight_decay", None):
            return None, self.max_steps
        ends_at = fixed_point(rule).loss(spectrum.whole)
        if ends_at <= self.target * spectrum.whole.mass / 2:
            return ends_at, self.max_steps
        rate = discrete_rate(rule, spectrum.mu, spectrum.L).value  # 0 for a mean of all iterates
        settled = max(math.ceil(_SETTLED / rate), 10) if rate > _SETTLED / _MOST else _MOST
        return ends_at, min(self.max_steps, settled)
