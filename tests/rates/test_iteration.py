"""Stability and rates of the discrete iteration: periodic, varying and near-defective rules."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from steps import rule_of

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TripleMomentum,
    UpdateRule,
    discrete_rate,
    loss_curve,
    max_learning_rate,
    spectral_measure,
    tune,
)
from odeopt.rates import crossover_step
from odeopt.rules import residual_polynomials, spectral_radius, sqrt, transition_matrix
from odeopt.rules.linear import recursion_coefficients


@dataclass(frozen=True)
class Cyclic(UpdateRule):
    """Heavy ball with the steps lr * factor, in turn."""

    lr: float
    momentum: float = 0.0
    factors: tuple = (1.9, 0.1, 1.9)
    history = 2

    @property
    def period(self):
        return len(self.factors)

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * self.factors[k % self.period] * grad(x), memory


@dataclass(frozen=True)
class Scheduled(UpdateRule):
    lr: float
    law: int = 0

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        factor = [
            lambda: 1 / sqrt(k + 1),
            lambda: 1 - k / 100,
            lambda: (2 * k + 1) / (k + 1),
            lambda: 0.1 if k % 3 == 1 else 1.9,
            lambda: 1 if k < 2000 else 10,
            lambda: (-1) ** k,
        ][int(self.law)]()
        return x - self.lr * factor * grad(x), memory


@dataclass(frozen=True)
class Decayed(UpdateRule):
    lr: float
    decay: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (grad(x) + self.decay * x), memory


def grows(rule, lam, k=(400, 4000)):
    size = np.abs(residual_polynomials(rule, [lam], [*range(k[0] - 9, k[0]), *range(k[1] - 9, k[1])])[:, 0])
    return size[9:].max() > size[:9].max()


# --- periodic rules ---------------------------------------------------------------------------------------


def test_a_period_is_one_step():
    rule, lam = Cyclic(0.3, 0.5), np.array([0.2, 1.0, 2.5])
    steps = [transition_matrix(rule, lam, k) for k in range(3)]
    np.testing.assert_allclose(transition_matrix(rule, lam), steps[2] @ steps[1] @ steps[0], rtol=1e-13)
    state = np.ones((3, 2))
    for k in range(9):
        state = np.einsum("nij,nj->ni", transition_matrix(rule, lam, k), state)
    np.testing.assert_allclose(state[:, 0], residual_polynomials(rule, lam, [9])[0], rtol=1e-12)


def test_cyclical_steps_have_the_limit_of_their_product():
    # (1 - 1.9 e)^2 (1 - 0.1 e) leaves [-1, 1] first at e = 1.0837
    e = max_learning_rate(Cyclic(0.1), 1.0)
    assert abs((1 - 1.9 * e) ** 2 * (1 - 0.1 * e)) == pytest.approx(1, abs=1e-12)
    assert e == pytest.approx(1.0837, abs=1e-4)
    assert not grows(Cyclic(0.999 * e), 1.0)
    assert grows(Cyclic(1.001 * e), 1.0)


@pytest.mark.parametrize(
    ("steps", "radius"),
    [((1.7, 2.1), 1.05394), ((1.79, 2.01), 1.00528), ((1.85, 1.95), 0.97401), ((0.1, 3), 1.88466)],
)
def test_alternating_heavy_ball_is_not_the_sum_of_its_halves(steps, radius):
    assert spectral_radius(Cyclic(1.0, 0.9, steps), [1.0])[0] == pytest.approx(radius, abs=5e-6)


@pytest.mark.parametrize("ratio", [1.2, 1.112])
def test_the_first_window_of_instability_is_found_however_short(ratio):
    """Steps e and ratio * e, momentum 0.9: unstable while (1.9 - e)(ratio e - 1.9) > 0.01, then stable."""
    e = max_learning_rate(Cyclic(0.1, 0.9, (1.0, ratio)), 1.0)
    roots = np.sort(np.roots([-ratio, 1.9 * (1 + ratio), -(1.9**2) - 0.01]).real)
    assert e == pytest.approx(roots[0], rel=1e-12)
    middle = roots.mean()
    assert spectral_radius(Cyclic(middle, 0.9, (1.0, ratio)), [1.0])[0] > 1
    assert spectral_radius(Cyclic(1.001 * roots[1], 0.9, (1.0, ratio)), [1.0])[0] < 1


def test_the_rate_of_cyclical_steps_is_that_of_the_run():
    rule, lam = Cyclic(0.5, 0.3), np.linspace(0.1, 1, 2001)
    rate = discrete_rate(rule, 0.1, 1.0).value
    loss = (residual_polynomials(rule, lam, [3000, 3300]) ** 2).max(axis=1)
    assert rate == pytest.approx(-math.log(loss[1] / loss[0]) / 300, rel=1e-3)


def test_a_rule_of_some_period_has_one_recursion_a_step():
    with pytest.raises(ValueError, match="pass an iteration k"):
        recursion_coefficients(Cyclic(0.1), [1.0])
    np.testing.assert_allclose(recursion_coefficients(Cyclic(0.1), [1.0], 1)[:, 0], [0.99, 0], rtol=1e-14)


# --- lr beside the gradient --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecayedMomentum(UpdateRule):
    """Heavy ball whose decay is part of the gradient, or of the weights alone."""

    lr: float
    decay: float
    coupled: bool = True

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        v = 0.9 * v + grad(x) + (self.decay * x if self.coupled else 0 * x)
        return x - self.lr * v - (0 * x if self.coupled else self.lr * self.decay * x), (v,)


@dataclass(frozen=True)
class Falling(UpdateRule):
    """Heavy ball with the momentum 1 - lr^power; cyclical where there are sizes."""

    lr: float
    power: float = 1
    decay: float = 0.0
    sizes: tuple = (1.0,)
    history = 2

    @property
    def period(self):
        return len(self.sizes)

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        lr = self.lr * self.sizes[k % len(self.sizes)]
        return x + (1 - self.lr**self.power) * (x - x_prev) - lr * (self.decay * x + grad(x)), memory


@pytest.mark.parametrize(
    ("rule", "lam_max", "limit"),
    [
        # coupled: lr (lam + decay) < 2 (1 + b); decoupled: lr lam < (2 - lr decay)(1 + b)
        (DecayedMomentum(0.1, 0.1), 1.0, 3.8 / 1.1),
        (DecayedMomentum(100.0, 0.1), 1.0, 3.8 / 1.1),
        (DecayedMomentum(0.1, 0.1, coupled=False), 1.0, 3.8 / 1.19),
        (DecayedMomentum(0.1, 5.0, coupled=False), 1.0, 3.8 / 10.5),
        (Falling(0.1), 1.0, 4 / 3),  # lr lam < 2 (2 - lr)
        (Falling(0.1), 0.01, 4 / 2.01),
        (Falling(0.1, 0.5), 1.0, (5**0.5 - 1) ** 2),  # r^2 < 2 (2 - r) for the root r
    ],
)
def test_lr_that_scales_more_than_the_gradient_has_its_limit(rule, lam_max, limit):
    assert max_learning_rate(rule, lam_max) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("sizes", [(1.0, 2.0, 0.5), (0.1, 3.0)])
def test_a_limit_of_lr_is_one_for_all_eigenvalues_below(sizes):
    rule = Falling(0.1, 1, 0.3, sizes)
    lam, limit = np.linspace(0.0, 2.0, 4001), max_learning_rate(rule, 2.0)

    def radius(lr):
        return spectral_radius(rule.replace(lr=lr), lam).max()

    assert all(radius(share * limit) < 1 for share in np.linspace(0.01, 0.999, 40))
    assert radius(1.001 * limit) > 1


def test_lr_that_enters_by_a_quotient_is_refused_for_that():
    @dataclass(frozen=True)
    class Implicit(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return (iterates[0] - self.lr * grad(iterates[0])) / (1 + self.lr), memory

    with pytest.raises(ValueError, match=r"Implicit\(lr=0.1\) as .*no polynomial in lr or its root"):
        max_learning_rate(Implicit(0.1), 1.0)


def test_a_limit_beyond_floats_names_the_eigenvalue():
    with pytest.raises(ValueError, match="lam_max = 5e-324"):
        max_learning_rate(HeavyBall(0.1, 0.9), 5e-324)


def test_a_rule_without_momentum_is_not_told_to_lower_it():
    with pytest.raises(ValueError, match="unstable for every lr: a root of its step"):
        max_learning_rate(rule_of(lambda s, k, x, m, grad: (x[0] + s.lr * grad(x[0]), m)), 1.0)


@pytest.mark.parametrize(
    ("rule", "lam"),
    [
        (rule_of(lambda s, k, x, m, grad: (2 * x[0] - x[1] - s.lr * grad(x[0]), m), history=2), 1.0),
        (GradientDescent(1.0), 2.0),
        (HeavyBall(1.0, 0.5), 3.0),
    ],
)
def test_roots_on_the_circle_have_the_rate_zero_exactly(rule, lam):
    rate = discrete_rate(rule, lam)
    assert (rate.value, rate.low, rate.high) == (0, 0, 0)


# --- rules that vary with k -------------------------------------------------------------------------------


def test_a_step_that_grows_to_a_limit_is_judged_by_that_limit():
    assert max_learning_rate(Scheduled(0.1, 2), 1.0) == pytest.approx(1.0, rel=1e-14)
    assert discrete_rate(Scheduled(0.1, 2), 0.5, 1.0).value == pytest.approx(
        -2 * math.log(1 - 0.1), rel=1e-14
    )


@pytest.mark.parametrize(
    ("law", "word"),
    [(1, "no limit for large k"), (3, "% 3"), (4, "<"), (5, "negative number to the power k")],
    ids=["to -oo", "%", "<", "alternating"],
)
def test_schedules_without_a_limit_are_refused_by_what_they_do(law, word):
    for ask in (lambda r: max_learning_rate(r, 1.0), lambda r: discrete_rate(r, 0.5, 1.0), crossover_at):
        with pytest.raises(ValueError) as error:
            ask(Scheduled(0.1, law))
        assert word in str(error.value)
        assert "Scheduled" in str(error.value)


def crossover_at(rule):
    return crossover_step(rule, 0.5)


def test_steps_that_vanish_are_stable_for_every_lr():
    with pytest.raises(ValueError, match="no stability limit"):
        max_learning_rate(Scheduled(0.1, 0), 1.0)


def test_schedules_that_are_not_read_as_a_law_have_their_loss_curve_all_the_same():
    rng = np.random.default_rng(3)
    lam, delta = rng.uniform(0.1, 1, 8), rng.standard_normal(8)
    for law in range(6):
        rule, x = Scheduled(0.05, law), delta.copy()
        for k in range(30):
            x = rule.step(k, (x,), None, lambda z: lam * z)[0]
        loss = loss_curve(rule, spectral_measure(np.diag(lam), delta), [30]).loss[0]
        assert loss == pytest.approx(0.5 * x @ x, rel=1e-12)


# --- double roots -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1e2, 1e4, 1e8, 1e12])
def test_polyaks_tuning_has_its_double_roots_exactly(kappa):
    rule = tune(HeavyBall, 1 / kappa, 1.0)
    rate = discrete_rate(rule, 1 / kappa, 1.0)
    # both ends are double roots and between them all moduli are sqrt(momentum)
    assert rate.value == pytest.approx(-math.log1p(rule.momentum - 1), rel=1e-11)
    # 1 - momentum is known to a rounding of 1
    truth = -2 * math.log1p(-2 / (math.sqrt(kappa) + 1))
    assert rate.value == pytest.approx(truth, rel=1e-14 + 2 * 2.3e-16 / truth)
    assert rate.low <= rate.value <= rate.high


@pytest.mark.parametrize("kappa", [1e2, 1e6])
def test_nesterov_and_triple_momentum_have_their_double_roots(kappa):
    root = math.sqrt(kappa)
    for rule in (NesterovConstant(1.0, (root - 1) / (root + 1)), TripleMomentum.tuned(1 / kappa, 1.0)):
        rate = discrete_rate(rule, 1 / kappa, 1.0).value
        assert rate == pytest.approx(-2 * math.log1p(-1 / root), rel=1e-9)  # roundings of 1 over 1/root


def test_roots_well_apart_are_no_double_root():
    for momentum in (0.5, 0.5 + 1e-6, 0.5 - 1e-6):
        lr = (1 - math.sqrt(0.5)) ** 2  # double root at momentum 0.5
        rate = discrete_rate(HeavyBall(lr, momentum), 1.0).value
        sum_, product = 1 + momentum - lr, momentum
        disc = sum_**2 - 4 * product
        largest = (sum_ + math.sqrt(disc)) / 2 if disc > 1e-12 else math.sqrt(product)
        assert rate == pytest.approx(-2 * math.log(largest), rel=1e-9)


# --- what has no rate -------------------------------------------------------------------------------------


def test_weight_decay_is_refused_by_its_row_where_the_error_is_not_alone():
    measure = spectral_measure(np.eye(2), np.ones(2))
    for ask in (
        lambda r: loss_curve(r, measure, [3]),
        lambda r: residual_polynomials(r, [1.0], [3]),
    ):
        with pytest.raises(
            ValueError, match=r"Decayed.* no step in the error alone.* sum to 0.95 instead of 1"
        ):
            ask(Decayed(0.1, 0.5))
    rate = discrete_rate(Decayed(0.1, 0.5), 0.5, 1.0)  # of the distance to its fixed point
    assert rate.value == pytest.approx(-2 * math.log(0.9), rel=1e-12)
    assert max_learning_rate(Decayed(0.1, 0.5), 1.0) == pytest.approx(2 / 1.5, rel=1e-12)


def test_friction_that_stays_has_no_crossover():
    with pytest.raises(ValueError, match="does not vanish"):
        crossover_step(HeavyBall(0.1, 0.5), 0.5)
    assert crossover_step(Nesterov(0.1), 0.05) == pytest.approx(-1 / math.log(1 - 0.005), rel=1e-12)


@pytest.mark.parametrize("value", [0, -1, "1", None, math.nan, math.inf, 1j, True])
def test_curvatures_and_clocks_must_be_positive_numbers(value):
    with pytest.raises(ValueError, match="lam_max"):
        max_learning_rate(GradientDescent(0.1), value)
    with pytest.raises(ValueError, match="mu"):
        discrete_rate(GradientDescent(0.1), value)
    if value is not None:
        with pytest.raises(ValueError, match="time_step"):
            discrete_rate(GradientDescent(0.1), 1.0, time_step=value)
