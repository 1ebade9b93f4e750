"""Hyperparameters under weight decay: constants against their neighbours, searches against grids."""

import numpy as np
import pytest
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TripleMomentum,
    discrete_rate,
    loss_curve,
    max_learning_rate,
    spectral_measure,
    tune,
)
from odeopt.rates import tune_for
from odeopt.rules import Cosine

MU, L = 0.05, 3.0


@pytest.mark.parametrize("rule_type", [GradientDescent, HeavyBall, NesterovConstant])
def test_coupled_decay_moves_the_interval(rule_type):
    rule = tune(rule_type, MU, L, weight_decay=0.2, to_start=True)
    assert rule.without_decay() == tune(rule_type, MU + 0.2, L + 0.2)
    assert (rule.weight_decay, rule.to_start) == (0.2, True)


@pytest.mark.parametrize("omega", [0.01, 0.2, 5.0])
def test_no_neighbour_of_a_heavy_ball_tuned_for_decoupled_decay_is_faster(omega):
    best = tune(HeavyBall, MU, L, weight_decay=omega, decoupled=True)
    rate = discrete_rate(best, MU, L).value
    for name in ("lr", "momentum"):
        for factor in (0.97, 0.995, 1.005, 1.03):
            other = best.replace(**{name: getattr(best, name) * factor})
            assert discrete_rate(other, MU, L).value < rate + 1e-6  # accuracy of the double roots


@pytest.fixture(scope="module")
def measure():
    lam = np.geomspace(1e-3, 2.0, 15)
    return spectral_measure(np.diag(lam), np.ones(15), origin=np.zeros(15))


@pytest.mark.parametrize(
    ("rule_type", "schedule", "decay"),
    [
        (GradientDescent, None, {}),
        (HeavyBall, None, {"decoupled": True}),
        (Nesterov, None, {"to_start": True}),
        (HeavyBall, Cosine(1.0, 15), {}),
    ],
    ids=["gd", "hb, decoupled", "nag, to start", "hb, cosine"],
)
def test_no_rule_on_a_grid_beats_the_one_found(measure, rule_type, schedule, decay):
    best = tune_for(rule_type, measure, 15, schedule=schedule, weight_decay=0.05, **decay)
    assert best.without_decay() != best
    least = loss_curve(best, measure, [15], bounds=False).loss[0]
    steps = {} if schedule is None else {"num_steps": 15}
    frictions = [1 - best.momentum, 0.3, 0.1] if rule_type is HeavyBall else [None]
    for friction in frictions:
        change = {} if friction is None else {"momentum": 1 - friction}
        for factor in np.geomspace(0.3, 1.3, 9):
            other = best.replace(lr=best.lr * factor, **change)
            if loss_curve(other, measure, [15], bounds=False).loss[0] < least * (1 - 1e-6):
                # beyond the limit alone
                top = other.lr if schedule is None else other.lr.largest
                assert top > max_learning_rate(other, 2.0, **steps)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: tune(TripleMomentum, 1.0, 2.0, weight_decay=0.1), "TripleMomentum has no weight decay"),
        (lambda m: tune(HeavyBall, 1.0, 2.0, weight_decay=Cosine(0.1, 9)), "changes, and constants for ever"),
        (lambda m: tune(NesterovConstant, 1.0, 2.0, weight_decay=0.1, decoupled=True), "no best constants"),
        (lambda m: tune(HeavyBall, 1.0, 2.0, weight_decay=1e6, decoupled=True), "so large beside L"),
        (lambda m: tune(HeavyBall, 1.0, 2.0, weight_decay=-1.0), "weight_decay must be nonnegative"),
        (lambda m: tune(HeavyBall, 1.0, 2.0, decoupled=True), "weight_decay was not given"),
        (lambda m: tune(HeavyBall, 1.0, 2.0, weight_decay=sympy.Symbol("g", positive=True)), "holds symbols"),
        (
            lambda m: tune_for(HeavyBall, m, 9, schedule=Cosine(1.0, 9), end=True, weight_decay=0.1),
            "end = True is not chosen beside weight decay",
        ),
        (
            lambda m: tune_for(HeavyBall, spectral_measure(np.eye(2), [1.0, 1.0]), 9, weight_decay=0.1),
            "give the measure their image J w_0",
        ),
    ],
)
def test_refusals_name_the_reason(measure, call, words):
    with pytest.raises(ValueError, match=words):
        call(measure)
