"""Runs of a given length: their growth, their mean rate, the largest peak of a schedule, frozen radii."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    TorchSGD,
    UpdateRule,
    discrete_rate,
    max_learning_rate,
)
from odeopt.rates import frozen_radius, run_growth
from odeopt.rules import (
    Averaged,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    Step,
    Table,
    Warmup,
    WarmupStableDecay,
    residual_polynomials,
    transition_matrix,
)

STEPS = 100
COSINE = Cosine(1.0, steps=STEPS)
RULES = [
    GradientDescent(COSINE),
    GradientDescent(WarmupStableDecay(1.0, steps=STEPS, warmup=10, decay=20)),
    GradientDescent(Step(1.0, milestones=(30, 60), factor=0.5)),
    HeavyBall(COSINE, 0.9),
    HeavyBall(1.0, Linear(0.9, steps=STEPS, end=0.5)),
    Nesterov(Warmup(10) * Linear(1.0, steps=STEPS), r=3),
    TorchSGD(COSINE, 0.9, nesterov=True),
]
RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)


@dataclass(frozen=True)
class Decayed(UpdateRule):
    """Gradient descent with a decay that lr scales as well."""

    lr: float
    decay: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (grad(x) + self.decay * x), memory


def sizes(rule, lam_max, steps=STEPS, points=20_001):
    """|P_k| for all k on a fine mesh, by the rule's own step."""
    return np.abs(residual_polynomials(rule, np.linspace(0, lam_max, points), np.arange(steps + 1)))


# --- growth -----------------------------------------------------------------------------------------------


def test_descent_grows_as_the_product_of_its_factors():
    found = run_growth(GradientDescent(Linear(2.2, steps=20)), 1.0)
    factors = [abs(1 - Fraction("2.2") * (20 - k) / 20) for k in range(20)]
    products = [math.prod(factors[:k]) for k in range(21)]
    assert found.value == pytest.approx(float(max(products)), rel=1e-14)  # 20 roundings
    assert (found.step, found.lam) == (products.index(max(products)), 1.0)
    assert found.value <= found.bound <= found.value * (1 + 3e-8)


@RULE
@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_growth_is_at_least_what_a_fine_mesh_shows_and_no_more_than_its_bound(rule, factor):
    lam = factor * 2.0
    found, shown = run_growth(rule, lam, num_steps=40), sizes(rule, lam, 40).max()
    assert shown <= found.bound
    # The mesh of 40 steps and 20,000 points misses at most (pi / 4 * 40 / 20,000 * 100)^2 / 8 near an end.
    assert found.value == pytest.approx(shown, rel=1e-4)


def test_growth_beyond_the_floats_is_infinite():
    found = run_growth(GradientDescent(1.0), 1e9, num_steps=60)
    assert (found.value, found.bound) == (math.inf, math.inf)


def test_the_largest_value_may_lie_inside_the_interval():
    found = run_growth(HeavyBall(Table([1.7, 2.1] * 50), momentum=0.9), 1.0)
    assert 0.9 < found.lam < 1
    assert found.value == pytest.approx(sizes(HeavyBall(Table([1.7, 2.1] * 50), 0.9), 1.0).max(), rel=1e-4)


# --- the largest peak -------------------------------------------------------------------------------------


@RULE
@pytest.mark.parametrize("growth", [1, 10])
def test_just_below_the_limit_a_run_is_bounded_and_just_above_it_is_not(rule, growth):
    lam_max, lr = 2.5, rule.lr if isinstance(rule.lr, float) else rule.lr.largest
    limit = max_learning_rate(rule, lam_max, num_steps=STEPS, growth=growth)

    def at(peak):
        return run_growth(rule.replace(lr=peak / lr * rule.lr), lam_max, num_steps=STEPS)

    # The limit is known to 1e-8 of growth, and growth changes by some K times the change of lr.
    assert at(limit * (1 - 1e-7)).bound <= growth * (1 + 4e-8)
    assert at(limit * (1 + 1e-6)).value > growth * (1 + 1e-8)


def test_without_growth_descent_has_the_limit_of_its_peak():
    for schedule in (COSINE, Linear(3.0, steps=50), Step(0.1, milestones=(5,), factor=0.5)):
        assert max_learning_rate(GradientDescent(schedule), 4.0, growth=1) == pytest.approx(0.5, rel=1e-7)


def test_the_limit_with_growth_of_constant_descent_is_a_root():
    limit = max_learning_rate(GradientDescent(0.1), 2.0, num_steps=50, growth=8)
    assert (2 * limit - 1) ** 50 == pytest.approx(8, rel=1e-7)


def test_the_limit_holds_inside_the_interval_too():
    """Two steps in turn, of which the product is largest before the end."""
    limit = max_learning_rate(HeavyBall(Table([1.7, 2.1] * 50), momentum=0.9), 1.0, growth=3)
    found = HeavyBall(Table([1.7 / 2.1 * limit, limit] * 50), 0.9)
    assert sizes(found, 1.0).max() == pytest.approx(3, rel=1e-3)  # the fine mesh


def test_a_schedule_that_stays_positive_must_be_stable_after_its_end():
    rule = HeavyBall(Warmup(20) * Constant(1.0), 0.9)
    assert max_learning_rate(rule, 2.0) == pytest.approx(3.8 / 2, rel=1e-12)  # the limit of its plateau
    assert max_learning_rate(rule, 2.0, num_steps=20) > 2.0
    assert max_learning_rate(HeavyBall(Constant(1.0), 0.9), 2.0) == pytest.approx(1.9, rel=1e-12)


def test_where_lr_scales_more_than_the_gradient_the_crossing_is_found():
    rule = Decayed(Linear(0.3, steps=30), 0.4)
    limit = max_learning_rate(rule, 1.0, growth=5)
    run = [math.prod(abs(1 - limit * (1 - j / 30) * 1.4) for j in range(k)) for k in range(31)]
    assert max(run) == pytest.approx(5, rel=1e-6)
    assert max_learning_rate(rule.replace(lr=Linear(30.0, steps=30)), 1.0, growth=5) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (GradientDescent(InverseSqrt(0.1, 10)), {}, ["never ends", "num_steps"]),
        (GradientDescent(0.1), {"growth": 3}, ["growth", "num_steps"]),
        (GradientDescent(COSINE), {"growth": 0.5}, ["growth", "at least 1", "0.5"]),
        (GradientDescent(COSINE), {"num_steps": 0}, ["num_steps", "at least 1"]),
        (GradientDescent(Table([0.1] * 7)), {"num_steps": 8}, ["num_steps = 8", "7 steps"]),
        (GradientDescent(Warmup(10)), {"num_steps": 1}, ["every lr", "1 steps"]),
    ],
)
def test_limits_that_do_not_exist_are_refused(rule, options, words):
    with pytest.raises(ValueError) as error:
        max_learning_rate(rule, 1.0, **options)
    for word in words:
        assert word in str(error.value)


# --- rates and frozen radii -------------------------------------------------------------------------------


@RULE
def test_the_rate_of_a_run_is_that_of_its_last_residual_polynomial(rule):
    found = discrete_rate(rule, 0.05, 0.8, num_steps=STEPS)
    lam = np.linspace(0.05, 0.8, 4001)
    largest = np.abs(residual_polynomials(rule, lam, [STEPS])).max()
    # at an end of the interval, or in between to the square of the spacing times the degree
    assert found.value == pytest.approx(-2 / STEPS * math.log(largest), abs=1e-5)
    assert found.value - 1e-8 <= found.low <= found.value
    assert "100 steps" in str(found)


def test_the_rate_of_a_run_ends_with_its_schedules():
    rule = GradientDescent(COSINE)
    found = discrete_rate(rule, 0.1, 1.0, time_step=0.5)
    product = math.prod(1 - 0.1 * COSINE(k) for k in range(STEPS))
    assert found.value == pytest.approx(-2 / STEPS * math.log(product) / 0.5, rel=1e-10)
    assert found.unit == "time"
    with pytest.raises(ValueError, match="num_steps, the length of the run, must be given"):
        discrete_rate(GradientDescent(InverseSqrt(0.1, 10)), 0.1, 1.0)


def test_a_long_run_of_a_constant_rule_has_its_asymptotic_rate():
    rule = HeavyBall(0.5, 0.25)
    run, forever = (discrete_rate(rule, 0.1, 1.0, num_steps=n).value for n in (600, None))
    assert run == pytest.approx(forever, abs=0.02)  # 2 log(k) / k
    assert discrete_rate(HeavyBall(Constant(0.5), 0.25), 0.1, 1.0).value == pytest.approx(forever, rel=1e-12)


def test_frozen_radii_are_no_bound_on_a_run():
    """Heavy ball with momentum 0.9 and lr = (1 + cos) / 4 at lam = 1, published to four digits."""
    rule = HeavyBall(Cosine(0.5, steps=STEPS), 0.9)
    frozen = frozen_radius(rule, [1.0])
    assert frozen.shape == (STEPS, 1)
    assert math.prod(frozen[:, 0]) == pytest.approx(0.00608, abs=5e-6)
    run = np.eye(2)
    for k in range(STEPS):
        run = transition_matrix(rule, [1.0], k)[0] @ run
    assert np.linalg.norm(run, 2) == pytest.approx(0.02340, abs=5e-6)


@pytest.mark.parametrize("inner", [GradientDescent(COSINE), HeavyBall(COSINE, 0.9)])
def test_averages_of_a_scheduled_rule_have_its_run(inner):
    """The average is at most the largest iterate, so that its limit is no smaller."""
    rule = Averaged(inner)
    limits = [max_learning_rate(each, 1.0) for each in (inner, rule)]
    assert limits[0] <= limits[1] * (1 + 1e-8)
    scaled = Averaged(inner.replace(lr=1.0001 * limits[1] * COSINE))
    assert run_growth(scaled, 1.0, num_steps=STEPS).value > 10
    found = discrete_rate(rule, 0.1, 0.9)
    largest = np.abs(residual_polynomials(rule, np.linspace(0.1, 0.9, 2001), [STEPS])).max()
    assert found.value == pytest.approx(-2 / STEPS * math.log(largest), abs=1e-5)


@pytest.mark.parametrize("decay", [{}, {"decoupled": True}, {"decoupled": True, "to_start": True}])
def test_decaying_weights_have_a_limit_of_their_own(decay):
    rule = HeavyBall(COSINE, 0.9, weight_decay=0.1, **decay)
    limit = max_learning_rate(rule, 1.0)
    for factor, grows in ((1 - 1e-5, False), (1 + 1e-5, True)):
        found = run_growth(rule.replace(lr=factor * limit * COSINE), 1.0)
        assert (found.value > 10) == grows
