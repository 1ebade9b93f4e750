"""Averages of iterates as rules: their definition, stability and reading."""

import itertools
import math

import numpy as np
import pytest

from odeopt import (
    GradientDescent,
    HeavyBall,
    NesterovConstant,
    TorchSGD,
    loss_curve,
    ode_limit,
    spectral_measure,
)
from odeopt.rules import (
    Averaged,
    Cosine,
    Linear,
    Lookahead,
    ScheduleFree,
    Step,
    hyperparameters,
    iterate,
    spectral_radius,
)
from odeopt.rules.reading import read

LAM = np.array([0.3, 1.0, 4.0])
INNER = [
    GradientDescent(0.3),
    HeavyBall(0.2, 0.7),
    TorchSGD(lr=0.1, momentum=0.9),
    HeavyBall(Cosine(0.2, 30), 0.7, weight_decay=0.1, to_start=True),
]


def run(rule, count=50):
    return np.array(list(itertools.islice(iterate(rule, np.ones(3), lambda z: LAM * z), count)))


@pytest.mark.parametrize("inner", INNER, ids=lambda rule: rule.label)
def test_an_average_is_that_of_the_iterates_of_the_rule(inner):
    z = run(inner)
    # 50 roundings of numbers of size 1
    np.testing.assert_allclose(run(Averaged(inner)), np.cumsum(z, 0) / np.arange(1, 51)[:, None], atol=1e-13)
    mean, expected = z[0], [z[0]]
    for each in z[1:]:
        mean = 0.8 * mean + 0.2 * each
        expected.append(mean)
    np.testing.assert_allclose(run(Averaged(inner, decay=0.8)), expected, atol=1e-13)


DECOUPLED = [
    HeavyBall(Linear(0.2, 20), 0.7, weight_decay=0.5, decoupled=True),
    NesterovConstant(0.1, 0.7, weight_decay=Cosine(0.5, 20), decoupled=True),
]


@pytest.mark.parametrize("inner", DECOUPLED, ids=lambda rule: rule.label)
def test_decoupled_decay_inside_an_average_takes_the_numbers_of_the_step_before(inner):
    averages = [Averaged(inner), Averaged(Averaged(inner, decay=0.5), decay=0.8)]
    for rule, place in zip(averages, (0, 1), strict=True):
        states = itertools.islice(rule.states(np.ones(3), lambda z: LAM * z), 30)
        # the same operations on the same numbers
        np.testing.assert_allclose([memory[place] for _, memory in states], run(inner, 30), rtol=1e-15)


def test_a_run_asks_once_whether_a_rule_has_schedules(monkeypatch):
    asked, ask = [], hyperparameters.holds_schedule
    monkeypatch.setattr(hyperparameters, "holds_schedule", lambda value: asked.append(value) or ask(value))
    counts = []
    for steps in (3, 40):
        asked.clear()
        run(Averaged(HeavyBall(Cosine(0.2, 30), 0.7, weight_decay=0.1, decoupled=True)), steps)
        counts.append(len(asked))
    assert counts[0] == counts[1] > 0
    constant = HeavyBall(0.2, 0.7)
    assert not constant.is_scheduled and constant.replace(lr=Cosine(0.2, 30)).is_scheduled


def test_a_wrapped_rule_shows_the_hyperparameters_inside():
    rule = Averaged(HeavyBall(0.2, 0.7), decay=0.9)
    assert rule.lr == 0.2 and rule.hyperparameters == {"lr": 0.2, "momentum": 0.7, "decay": 0.9}
    assert rule.replace(lr=0.1) == Averaged(HeavyBall(0.1, 0.7), decay=0.9)
    assert rule.replace(decay=0.5) == Averaged(HeavyBall(0.2, 0.7), decay=0.5)
    assert rule.label == "Averaged(HeavyBall(lr=0.2, momentum=0.7), decay=0.9)"
    assert Averaged(HeavyBall(Cosine(0.2, 30), 0.7)).is_scheduled
    reading = read(rule)
    assert reading.linear and reading.equivariant and reading.steady_from == 0
    assert rule.exact().replace(lr=0.1).rule.momentum * 10 == 7


@pytest.mark.parametrize(("steps", "alpha", "limit"), [(5, 0.5, 2.24573), (5, 0.8, 2.08447), (4, 0.5, 2.0)])
def test_lookahead_is_stable_up_to_its_limit(steps, alpha, limit):
    # even: 2; odd: 1 + (2 / alpha - 1)^(1/q), to six digits
    for factor, stable in ((1 - 1e-5, True), (1 + 1e-5, False)):
        radius = spectral_radius(Lookahead(GradientDescent(limit * factor), steps, alpha), [1.0])[0]
        assert bool(radius < 1) is stable


def test_lookahead_with_alpha_one_is_the_rule_itself():
    np.testing.assert_allclose(
        run(Lookahead(TorchSGD(lr=0.1, momentum=0.9), 3, 1.0)), run(INNER[2]), atol=1e-14
    )


@pytest.mark.parametrize(("beta", "value"), [(0.0, 0.0899976095), (0.5, 0.00560892242), (0.9, -0.0534191069)])
def test_schedule_free_has_its_known_values(beta, value):
    found = next(itertools.islice(iterate(ScheduleFree(0.1, beta), 1.0, lambda z: z), 100, None))
    assert math.isclose(found, value, rel_tol=1e-8)  # the values have nine digits


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Averaged(0.1), "rule must be an UpdateRule, got float"),
        (lambda: Averaged(GradientDescent(0.1), decay=1.0), r"decay must lie in \[0, 1\)"),
        (lambda: Lookahead(HeavyBall(0.1, 0.5)), "history of one iterate.*take TorchSGD"),
        (lambda: Lookahead(GradientDescent(0.1), 0), "steps must be a positive integer, got 0"),
        (lambda: Lookahead(GradientDescent(0.1), 5, 0), r"alpha must lie in \(0, 1\]"),
        (lambda: ScheduleFree(0.1, 1.0), r"beta must lie in \[0, 1\)"),
    ],
)
def test_refusals_name_the_argument(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_what_a_wrapped_rule_has_not_is_no_attribute_of_it():
    with pytest.raises(AttributeError, match="no attribute 'momentum'"):
        Averaged(GradientDescent(0.1)).momentum  # noqa: B018


def test_fields_of_one_name_in_a_wrapped_rule_are_kept_apart():
    inner = Averaged(GradientDescent(0.1), decay=0.3)
    for rule, outer in ((Averaged(inner), None), (Averaged(inner, decay=0.6), 0.3)):
        half = rule.map_hyperparameters(lambda v: v / 2)
        assert half == Averaged(Averaged(GradientDescent(0.05), decay=0.15), decay=outer)
        assert rule.inner_decay == 0.3
        assert rule.replace(inner_decay=0.2) == Averaged(inner.replace(decay=0.2), decay=rule.decay)
    nested = Lookahead(Lookahead(GradientDescent(0.1), 2, 0.5), 3, 0.25).map_hyperparameters(lambda v: v / 2)
    assert nested == Lookahead(Lookahead(GradientDescent(0.05), 2, 0.25), 3, 0.125)


def test_the_limit_of_a_mean_of_an_average_is_that_of_the_mean():
    inner = (GradientDescent(0.1), Averaged(GradientDescent(0.1), 0.3))
    mean, both = (ode_limit(Averaged(rule), regime="fixed") for rule in inner)
    assert both.order == 2
    assert mean.terms.keys() == both.terms.keys()
    ratios = {(both.terms[v] / c).simplify() for v, c in mean.terms.items()}
    assert len(ratios) == 1


def test_averages_of_averages_under_schedules_lie_within_their_bounds():
    steps, line = Step(0.3, (2,), 0.5), Linear(0.2, 4, end=0.6)
    rule = Averaged(Averaged(Averaged(GradientDescent(0.1), decay=steps), decay=line), decay=0.4)
    lam = np.array([1.0, 2.0])
    found = np.array(list(itertools.islice(iterate(rule, np.ones(2), lambda z: lam * z), 9)))
    curve = loss_curve(rule, spectral_measure(np.diag(lam), np.ones(2)), np.arange(9))
    np.testing.assert_allclose(curve.loss, 0.5 * (found**2).sum(axis=1), rtol=1e-13)
    assert (curve.lower <= curve.loss).all()
    assert (curve.loss <= curve.upper).all()
    assert curve.rigorous
