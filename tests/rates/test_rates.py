"""Exact rates against closed forms, and stability limits from both sides."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy
from zoo import numeric_rules, rule_id, rules_with_memory

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    UpdateRule,
    discrete_rate,
    error_dynamics,
    exact_rate,
    max_learning_rate,
    ode_limit,
    spectral_measure,
)
from odeopt.rules import AdaGrad, RMSProp, SignDescent
from odeopt.rules.linear import (
    recursion_coefficients,
    residual_polynomials,
    spectral_radius,
    transition_matrix,
)

h, b, c1, c2 = sympy.symbols("h b c1 c2", positive=True)


def dynamics_of(rule, values=None):
    return error_dynamics(ode_limit(rule, h if values is not None else None)).subs(values or {})


@pytest.mark.parametrize("friction", [0.5, 1.9, 2.0, 2.1, 8.0])
def test_heavy_ball_rate_in_every_regime(friction):
    mu, L = 1.0, 9.0
    rate = exact_rate(dynamics_of(HeavyBall(h**2, 1 - b * h), {b: friction}), mu, L)
    want = friction - np.sqrt(max(friction**2 - 4 * mu, 0.0))
    assert rate.value == pytest.approx(want, rel=1e-12)
    assert (rate.law, rate.kind, rate.layer) == ("linear", "exact", "linear ODE")


def test_gradient_flow_rate_is_twice_the_smallest_eigenvalue():
    assert exact_rate(dynamics_of(GradientDescent(0.1)), 0.3, 5.0).value == pytest.approx(0.6)
    fixed = dynamics_of(HigherMomentum(0.1, (0.2, 0.5)))
    assert exact_rate(fixed, 0.3, 5.0).value == pytest.approx(0.6 / 0.3)


@pytest.mark.parametrize("r", [1, 2, 3, 6.5])
def test_nesterov_rate_is_the_power_r(r):
    rate = exact_rate(dynamics_of(Nesterov(0.01, r)), 0.3, 5.0)
    assert (rate.law, rate.value) == ("power", r)


def test_third_order_rate_and_routh_hurwitz_threshold():
    values = {c1: 1.0, c2: 2.0}  # stable iff lam < c1 c2 (c1 + c2) = 6
    dynamics = dynamics_of(HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h))), values)
    assert exact_rate(dynamics, 0.1, 5.99).value > 0
    assert exact_rate(dynamics, 0.1, 6.01).value < 0
    assert exact_rate(dynamics, 6.0).value == pytest.approx(0, abs=1e-13)
    roots = np.roots([1, 3, 2, 0.1])
    assert exact_rate(dynamics, 0.1).value == pytest.approx(-2 * roots.real.max(), rel=1e-12)


@pytest.mark.parametrize(
    ("rule", "limit"),
    [  # eta * lam_max
        (GradientDescent(0.1), 2.0),
        (HeavyBall(0.1, 0.0), 2.0),
        (HeavyBall(0.1, 0.9), 3.8),
        (NesterovConstant(0.1, 0.5), 3 / 2),
        (NesterovConstant(0.1, 0.9), 3.8 / 2.8),
        (Nesterov(0.1, 3), 4 / 3),
        (Nesterov(0.1, 8), 4 / 3),
        (HigherMomentum(0.1, (0.2, 0.2)), 2.0),
        (HigherMomentum(0.1, (0.2, 0.5)), 1.4),
        (HigherMomentum(0.1, (0.2, 0.8)), 0.8),
        # 2 (1 + beta) / (1 + beta - 2 nu beta)
        (QHM(0.1, 0.9, 0.0), 2.0),
        (QHM(0.1, 0.9, 0.7), 3.8 / (1.9 - 1.26)),
        (QHM(0.1, 0.9, 0.9), 3.8 / 2.8 / 0.1),  # Nesterov at the learning rate (1 - beta) lr
        (QHM(0.1, 0.9, 1.0), 3.8 / 0.1),  # heavy ball at that rate
        (QHM(0.1, 0.5, 0.25), 2.4),
        (TorchSGD(0.1), 2.0),
        (TorchSGD(0.1, 0.9), 3.8),
        (TorchSGD(0.1, 0.9, dampening=0.5), 7.6),  # heavy ball at the rate (1 - tau) lr
        (TorchSGD(0.1, 0.9, nesterov=True), 3.8 / 2.8),
        (TorchSGD(0.1, r=3, nesterov=True), 4 / 3),
    ],
    ids=lambda v: getattr(v, "label", None),
)
def test_stability_limit_and_both_of_its_sides(rule, limit):
    lam_max = 7.0
    # the margin 1e-9 on the spectral radius moves the crossing by a few 1e-9
    assert max_learning_rate(rule, lam_max) == pytest.approx(limit / lam_max, rel=1e-8)
    k = np.array([200, 4000])
    for factor, stable in ((0.99, True), (1.01, False)):
        run = np.abs(residual_polynomials(rule.replace(lr=factor * limit / lam_max), [lam_max], k)[:, 0])
        assert (run[1] < run[0] + 1e-12) == stable


def test_unstable_for_every_lr_is_refused_and_a_squared_lr_has_its_limit():
    @dataclass(frozen=True)
    class Odd(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return iterates[0] - self.lr**2 * grad(iterates[0]), memory

    assert max_learning_rate(Odd(0.1), 1.0) == pytest.approx(2**0.5, rel=1e-12)

    @dataclass(frozen=True)
    class Ascent(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return iterates[0] + self.lr * grad(iterates[0]), memory

    with pytest.raises(ValueError, match="unstable for every lr"):
        max_learning_rate(Ascent(0.1), 1.0)


def test_a_limit_far_below_the_usual_ones_is_found():
    """Third order: lr * lam = h^3 c1 c2 (c1 + c2) up to O(h), by Routh-Hurwitz."""
    h_value, c = 0.025, (2.0, 2.0)
    rule = HigherMomentum(h_value**3, (2 - sum(c) * h_value, -(1 - c[0] * h_value) * (1 - c[1] * h_value)))
    critical = max_learning_rate(rule, 1.0)
    assert critical == pytest.approx(
        h_value**3 * 16, rel=4 * h_value
    )  # c1 c2 (c1 + c2) = 16, corrections O(h)


def test_discrete_rates_match_known_optima():
    mu, L = 1.0, 100.0
    root = np.sqrt(L / mu)
    cases = [
        (GradientDescent(2 / (L + mu)), (L - mu) / (L + mu), 1e-12),
        # a double root: eigenvalues of the companion matrix carry sqrt(eps)
        (HeavyBall(4 / (np.sqrt(L) + 1) ** 2, ((root - 1) / (root + 1)) ** 2), (root - 1) / (root + 1), 1e-6),
        (NesterovConstant(1 / L, (root - 1) / (root + 1)), 1 - 1 / root, 1e-6),
        (TripleMomentum.tuned(mu, L), 1 - 1 / root, 1e-6),
    ]
    for rule, rho, tolerance in cases:
        assert discrete_rate(rule, mu, L).value == pytest.approx(-2 * np.log(rho), rel=tolerance)


def test_vanishing_friction_is_linear_in_discrete_time():
    # loss ~ k^-r (1 - s lam)^k
    rate = discrete_rate(Nesterov(0.1, 3), 0.2, 1.0)
    assert rate.value == pytest.approx(-np.log(1 - 0.02), rel=1e-9)
    assert rate.unit == "iteration"
    k = np.arange(3000, 5000)
    loss = residual_polynomials(Nesterov(0.1, 3), [0.2], k)[:, 0] ** 2 * (k + 1.0) ** 3
    peaks = k[1:-1][(loss[1:-1] > loss[:-2]) & (loss[1:-1] > loss[2:])]
    slope = np.polyfit(peaks, np.log(loss[peaks - 3000]), 1)[0]
    assert slope == pytest.approx(-rate.value, rel=1e-3)  # next term is O(1/k)


def test_recursion_reproduces_the_iterates():
    rule, lam = HigherMomentum(0.2, (0.3, 0.2)), np.array([0.5, 2.0])
    c = recursion_coefficients(rule, lam)
    z = residual_polynomials(rule, lam, range(6))
    np.testing.assert_allclose(z[5], sum(c[j] * z[4 - j] for j in range(3)), rtol=1e-13)
    np.testing.assert_allclose(spectral_radius(GradientDescent(0.2), lam), [0.9, 0.6], rtol=1e-14)


@pytest.mark.parametrize("kappa", [4.0, 100.0, 1e4])
def test_tuned_triple_momentum_has_radius_rho_at_both_ends_and_no_more_between(kappa):
    rule, rho = TripleMomentum.tuned(1.0, kappa), 1 - 1 / np.sqrt(kappa)
    radius = spectral_radius(rule, np.linspace(1.0, kappa, 401))
    # Double roots at the ends: eigenvalues of the matrix carry sqrt(eps).
    assert radius[[0, -1]] == pytest.approx([rho, rho], abs=1e-7)
    assert radius.max() <= rho + 1e-7


@pytest.mark.parametrize("rule", numeric_rules(0.3) + rules_with_memory(0.3), ids=rule_id)
def test_transition_matrices_carry_the_iterates(rule):
    lam = np.array([0.2, 1.0])
    size = rule.history + len(rule.initial_memory(lam) or ())
    z = residual_polynomials(rule, lam, range(8))
    state = np.zeros((2, size))
    state[:, : rule.history] = 1.0
    for k in range(7):
        state = np.einsum("nij,nj->ni", transition_matrix(rule, lam, k), state)
        np.testing.assert_allclose(state[:, 0], z[k + 1], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("beta", "nu"), [(0.9, 0.7), (0.5, 1.0), (0.8, 0.8), (0.6, 0.0)])
def test_quasi_hyperbolic_matrix_has_the_known_characteristic_polynomial(beta, nu):
    s, lam = 0.4, np.array([0.3, 2.0])
    for matrix, x in zip(transition_matrix(QHM(s, beta, nu), lam), lam, strict=True):
        known = [1, -(1 + beta - s * x * (1 - nu * beta)), beta * (1 - s * x * (1 - nu))]
        assert np.poly(matrix) == pytest.approx(known, abs=1e-14)


def test_memory_makes_no_difference_to_rates_and_limits():
    s, beta, lam = 0.3, 0.8, np.array([0.1, 0.5, 1.7])
    pairs = [  # the same method with a buffer and with a second iterate
        (TorchSGD(s, beta), HeavyBall(s, beta)),
        (TorchSGD(s, beta, nesterov=True), NesterovConstant(s, beta)),
        (TorchSGD(s, beta, dampening=0.5), HeavyBall(s / 2, beta)),
        (QHM(s / (1 - beta), beta, beta), NesterovConstant(s, beta)),
        (TorchSGD(s, r=3, nesterov=True), Nesterov(s, 3)),  # for large k
    ]
    for carried, known in pairs:
        np.testing.assert_allclose(spectral_radius(carried, lam), spectral_radius(known, lam), rtol=1e-12)
        rates = [discrete_rate(rule, 0.1, 1.0).value for rule in (carried, known)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-6)  # the worst mode may have a double root


def test_third_order_state_with_two_averages():
    """A user's rule with two memory entries: heavy ball on a smoothed gradient."""

    @dataclass(frozen=True)
    class Smoothed(UpdateRule):
        lr: float

        def initial_memory(self, x0):
            return 0 * x0, 0 * x0

        def step(self, k, iterates, memory, grad):
            (x,), (mean, velocity) = iterates, memory
            mean = mean / 2 + grad(x) / 2
            velocity = velocity / 2 - self.lr * mean
            return x + velocity, (mean, velocity)

    # (z - 1) (z - 1/2)^2 + lr lam z^2 / 2; by Jury's criterion two roots leave the disk at lr lam = 3/2
    assert max_learning_rate(Smoothed(0.1), 3.0) == pytest.approx(0.5, rel=1e-7)
    matrix = transition_matrix(Smoothed(0.1), [2.0])[0]
    assert np.poly(matrix) == pytest.approx([1, -1.9, 1.25, -0.25], abs=1e-14)


@pytest.mark.parametrize(
    "rule",
    [
        SignDescent(0.1),
        RMSProp(0.1),
        RMSProp(0.1, eps=0.0),
        Adam(0.1),
        Adam(0.1, eps=0.0),
        Adam(0.1, bias_correction=False),
        AdaGrad(0.1),
    ],
    ids=rule_id,
)
def test_rules_that_are_not_linear_are_refused(rule):
    for refused in (
        lambda: transition_matrix(rule, [1.0]),
        lambda: spectral_radius(rule, [1.0]),
        lambda: discrete_rate(rule, 1.0, 2.0),
        lambda: max_learning_rate(rule, 1.0),
    ):
        with pytest.raises(ValueError, match=r"step of \w+\(.*\) is not linear in its iterates and memory"):
            refused()


def test_recursion_of_a_rule_with_memory_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match="carries memory beside its iterates; use transition_matrix"):
        recursion_coefficients(QHM(0.1, 0.5, 0.5), [1.0])
    with pytest.raises(ValueError, match="holds symbols"):
        transition_matrix(QHM(h, 0.5, 0.5), [1.0])


def test_thresholds_hidden_at_some_sizes_and_memory_of_another_form_are_refused():
    @dataclass(frozen=True)
    class Clipped(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return iterates[0] - self.lr * np.clip(grad(iterates[0]), -100, 100), memory

    @dataclass(frozen=True)
    class Named(UpdateRule):
        lr: float

        def initial_memory(self, x0):
            return {"mean": 0 * x0}

        def step(self, k, iterates, memory, grad):
            return iterates[0] - self.lr * memory["mean"], {"mean": grad(iterates[0])}

    with pytest.raises(ValueError, match="not linear"):
        transition_matrix(Clipped(0.1), [1.0])
    with pytest.raises(ValueError, match="must return a tuple with one entry for each running average"):
        transition_matrix(Named(0.1), [1.0])


@pytest.mark.parametrize(
    ("mu", "L", "word"),
    [(0.0, 1.0, "mu must be positive"), (2.0, 1.0, "at least mu"), (np.nan, 1.0, "finite")],
)
def test_bad_intervals_are_refused(mu, L, word):
    with pytest.raises(ValueError, match=word):
        exact_rate(dynamics_of(GradientDescent(0.1)), mu, L)


def test_zero_friction_momenta_do_not_decay_in_the_ode():
    """(.2, .8): beta_1 + beta_2 = 1 leaves no friction, so the predicted loss oscillates for ever."""
    dynamics = dynamics_of(HigherMomentum(0.01, (0.2, 0.8)))
    assert exact_rate(dynamics, 0.5, 3.0).value == 0
    assert spectral_measure(np.eye(1), [1.0]).mass == 1
