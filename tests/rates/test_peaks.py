"""The best peak, momentum and end of a schedule for one measure, against grids."""

from __future__ import annotations

import numpy as np
import pytest

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TripleMomentum,
    loss_curve,
    max_learning_rate,
    spectral_measure,
)
from odeopt.rates import tune_for
from odeopt.rules import Cosine, InverseSqrt, Linear, Table, WarmupStableDecay, residual_polynomials

STEPS = 25


@pytest.fixture(scope="module")
def measure():
    lam = np.geomspace(1e-3, 2.0, 15)
    return spectral_measure(np.diag(lam), np.ones(15))


def loss(rule, measure):
    return float(loss_curve(rule, measure, [STEPS], bounds=False).loss[0])


def peak(rule):
    return rule.lr.largest


def losses_of_peaks(rule, measure, factors):
    """Those of multiples of lr, which scales the gradient alone: as if the eigenvalues were multiplied."""
    places = np.multiply.outer(factors, measure.nodes)
    values = residual_polynomials(rule, places.ravel(), [STEPS]).reshape(places.shape)
    return 0.5 * values**2 @ measure.weights


@pytest.mark.parametrize("rule_type", [GradientDescent, Nesterov])
@pytest.mark.parametrize(
    "schedule",
    [
        Cosine(1.0, steps=STEPS),
        WarmupStableDecay(7.0, steps=STEPS, warmup=5, decay=5),
        InverseSqrt(0.1, offset=5),
        Table(np.linspace(1, 0.2, STEPS)),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_the_best_peak_is_that_of_a_grid(measure, rule_type, schedule):
    best = tune_for(rule_type, measure, STEPS, schedule=schedule)
    limit = max_learning_rate(best, 2.0, num_steps=STEPS) / peak(best)
    assert limit >= 1 - 1e-9
    tried = losses_of_peaks(best, measure, np.linspace(0.001, 1, 2000) * limit)
    assert loss(best, measure) <= tried.min() * (1 + 1e-6)
    shape = [best.lr(k) / peak(best) for k in range(STEPS)]
    np.testing.assert_allclose(shape, [schedule(k) / schedule.largest for k in range(STEPS)], rtol=1e-12)


def test_momentum_is_tuned_with_the_peak(measure):
    best = tune_for(HeavyBall, measure, STEPS, schedule=Cosine(1.0, steps=STEPS))
    least = loss(best, measure)
    for friction in np.concatenate(
        [1 - np.linspace(0, 0.95, 9), (1 - best.momentum) * np.linspace(0.95, 1.05, 5)]
    ):
        other = best.replace(momentum=1 - friction)
        limit = max_learning_rate(other, 2.0) / peak(best)
        assert least <= losses_of_peaks(other, measure, np.linspace(0.005, 1, 500) * limit).min() * (1 + 1e-6)


def test_the_end_is_tuned_too(measure):
    schedule = Linear(1.0, steps=STEPS)
    whole, free = (tune_for(GradientDescent, measure, STEPS, schedule=schedule, end=e) for e in (False, True))
    least = loss(free, measure)
    assert least < loss(whole, measure)
    for part in np.linspace(0, 1, 11):
        other = GradientDescent(Linear(1.0, steps=STEPS, end=part))
        limit = max_learning_rate(other, 2.0, num_steps=STEPS)
        assert least <= losses_of_peaks(other, measure, np.linspace(0.005, 1, 500) * limit).min() * (1 + 1e-6)


def test_a_smaller_growth_lowers_the_peak(measure):
    schedule = Cosine(1.0, steps=STEPS)
    bold, careful = (tune_for(GradientDescent, measure, STEPS, schedule=schedule, growth=g) for g in (10, 1))
    assert peak(careful) <= 1.0 * (1 + 1e-7) < peak(bold)  # 2 / lam_max


@pytest.mark.parametrize(
    ("rule_type", "options", "words"),
    [
        (TripleMomentum, {"schedule": Cosine(1.0, steps=9)}, ["TripleMomentum", "HeavyBall"]),
        (HeavyBall, {"schedule": 0.1}, ["schedule", "0.1"]),
        (GradientDescent, {"schedule": InverseSqrt(1.0, 5), "end": True}, ["end", "InverseSqrt"]),
        (GradientDescent, {"schedule": Table([1.0] * 3)}, ["num_steps = 25", "3 steps"]),
        (NesterovConstant, {"growth": 2}, ["growth", "schedule="]),
        (GradientDescent, {"schedule": Cosine(1.0, 3), "growth": 0.5}, ["growth", "at least 1", "0.5"]),
    ],
)
def test_bad_schedules_are_refused(measure, rule_type, options, words):
    with pytest.raises(ValueError) as error:
        tune_for(rule_type, measure, STEPS, **options)
    for word in words:
        assert word in str(error.value)
