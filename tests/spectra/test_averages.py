"""Loss curves of averaged iterates, Schedule-Free and Lookahead: direct averages, closed forms, bounds."""

import itertools

import numpy as np
import pytest
import scipy.special
from curves import mode_of

from odeopt import GradientDescent, HeavyBall, Nesterov, loss_curve
from odeopt import spectral_measure as measure_of
from odeopt.rules import (
    Averaged,
    Linear,
    Lookahead,
    ScheduleFree,
    iterate,
    residual_polynomials,
    spectral_radius,
)

LAM = np.linspace(0.0, 1.0, 60) ** 2
DELTA0 = np.random.default_rng(8).standard_normal(60)
K = np.arange(51)
RULES = [
    GradientDescent(0.9),
    HeavyBall(0.9, 0.8),
    Nesterov(0.5, r=3),
    HeavyBall(Linear(0.9, 50), 0.8),
]


def averages(rule, average):
    """Errors of the averaged iterates, shape (K, n), by averaging those of the rule."""
    errors = np.array(list(itertools.islice(iterate(rule, DELTA0, lambda z: LAM * z), K[-1] + 1)))
    if average == "polyak":
        return np.cumsum(errors, axis=0) / (K[:, None] + 1)
    found = [errors[0]]
    for error in errors[1:]:
        found.append(average * found[-1] + (1 - average) * error)
    return np.array(found)


@pytest.mark.parametrize("average", ["polyak", 0.9])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
def test_averaged_losses_are_those_of_direct_averages_and_are_enclosed(rule, average):
    expected = 0.5 * (averages(rule, average) ** 2).sum(axis=1)
    for steps in (None, 10, 40):
        curve = loss_curve(rule, measure_of(np.diag(LAM), DELTA0, num_matvecs=steps), K, average=average)
        assert curve.rigorous
        assert np.all((curve.lower <= expected) & (expected <= curve.upper))
        exact = slice(steps)  # before the last step of Lanczos the loss is exact, but for rounding
        np.testing.assert_allclose(curve.loss[exact], expected[exact], rtol=1e-11)


def test_what_cannot_be_averaged_is_refused():
    measure = measure_of(np.diag(LAM), DELTA0)
    mode = mode_of(GradientDescent(0.1))
    with pytest.raises(ValueError, match="a mode has none"):
        loss_curve(mode, measure, [1.0], average=0.5)
    with pytest.raises(ValueError, match="average must be 'polyak' or the decay"):
        loss_curve(GradientDescent(0.1), measure, K, average="mean")
    with pytest.raises(ValueError, match="decay"):
        loss_curve(GradientDescent(0.1), measure, K, average=1.0)


# --- Schedule-Free -----------------------------------------------------------------------------------


def order(rule_of, mode, time=5.0):
    """Order in lr of the distance of the residual polynomials from a mode at a time."""
    lam, rates = np.array([0.5, 1.0, 2.0]), np.array([4e-3, 2e-3, 1e-3])
    gaps = []
    for lr in rates:
        found = residual_polynomials(rule_of(lr), lam, [round(time / lr)])[0]
        gaps.append(np.abs(found - mode(lam * time)).max())
    return np.polyfit(np.log(rates), np.log(gaps), 1)[0]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.75, 0.9])
def test_schedule_free_follows_its_hypergeometric_mode_in_first_order(beta):
    def mode(x):
        return scipy.special.hyp1f1(1 / (1 - beta), 2, -(1 - beta) * x)

    assert order(lambda lr: ScheduleFree(lr, beta), mode) == pytest.approx(1.0, abs=0.1)


def test_the_modes_of_schedule_free_are_the_known_ones():
    x = np.linspace(0.1, 20, 50)
    known = {0.0: -np.expm1(-x) / x, 0.5: np.exp(-x / 2)}
    z = 0.1 * x
    known[0.9] = np.exp(-z) * scipy.special.eval_genlaguerre(8, 1, z) / 9
    for beta, expected in known.items():
        run = residual_polynomials(ScheduleFree(1e-4, beta), x[:3], [10_000])[0]  # t = 1
        np.testing.assert_allclose(
            scipy.special.hyp1f1(1 / (1 - beta), 2, -(1 - beta) * x), expected, rtol=1e-9
        )
        np.testing.assert_allclose(run, expected[:3], atol=1e-3)


def test_schedule_free_has_the_stated_values_and_stability():
    values = [residual_polynomials(ScheduleFree(0.1, beta), [1.0], [100])[0, 0] for beta in (0.0, 0.5, 0.9)]
    np.testing.assert_allclose(values, [0.0899976095, 0.00560892242, -0.0534191069], rtol=1e-8)
    below, above = (
        np.abs(residual_polynomials(ScheduleFree(1.0, 0.9), [lam], [60, 2000])[:, 0]) for lam in (19.0, 21.0)
    )
    assert below[0] > 1e3  # a huge transient, and then it decays
    assert below[1] < 1e-3
    assert above[1] > 1e6


# --- Lookahead ---------------------------------------------------------------------------------------


def test_lookahead_follows_gradient_flow_slowed_by_alpha_in_first_order():
    def rule(lr):
        return Lookahead(GradientDescent(lr), steps=5, alpha=0.5)

    assert order(rule, lambda x: np.exp(-0.5 * x)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("steps", "alpha", "limit"), [(5, 0.5, 2.24573), (5, 0.8, 2.08447), (4, 0.5, 2.0), (4, 0.8, 2.0)]
)
def test_lookahead_is_stable_up_to_the_stated_rates(steps, alpha, limit):
    radii = [
        spectral_radius(Lookahead(GradientDescent(limit * share), steps=steps, alpha=alpha), [1.0])[0]
        for share in (0.999, 1.001)
    ]
    assert radii[0] < 1 < radii[1]


def test_the_factor_of_a_period_of_lookahead_is_the_known_one():
    lam, rule = np.array([0.3, 1.0, 1.7]), Lookahead(GradientDescent(0.9), steps=5, alpha=0.5)
    found = residual_polynomials(rule, lam, [5, 50])
    factor = 1 - 0.5 + 0.5 * (1 - 0.9 * lam) ** 5
    np.testing.assert_allclose(found, [factor, factor**10], rtol=1e-12)
    curve = loss_curve(rule, measure_of(np.diag(LAM), DELTA0, num_matvecs=20), [0, 5, 50])
    expected = 0.5 * (DELTA0 * residual_polynomials(rule, LAM, [0, 5, 50])) ** 2
    assert curve.rigorous
    assert np.all((curve.lower <= expected.sum(axis=1)) & (expected.sum(axis=1) <= curve.upper))


def test_an_average_does_not_help_a_flow_that_decays_fast():
    """The mean of all iterates falls as k^-2 however fast they do."""
    measure = measure_of(np.eye(2), [1.0, 1.0])
    plain = loss_curve(GradientDescent(0.5), measure, [200, 400])
    mean = loss_curve(Averaged(GradientDescent(0.5)), measure, [200, 400])
    assert np.all(plain.loss < 1e-100)
    assert mean.loss[0] / mean.loss[1] == pytest.approx((401 / 201) ** 2, rel=1e-12)
