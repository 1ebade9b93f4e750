"""Exact rates against closed forms, and stability limits from both sides."""

import numpy as np
import pytest
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    discrete_rate,
    error_dynamics,
    exact_rate,
    max_learning_rate,
    ode_limit,
    spectral_measure,
)
from odeopt.loss import residual_polynomials
from odeopt.rates import recursion_coefficients, spectral_radius

h, b, c1, c2 = sympy.symbols("h b c1 c2", positive=True)


def dynamics_of(rule, values=None):
    return error_dynamics(ode_limit(rule, h if values is not None else None)).subs(values or {})


@pytest.mark.parametrize("friction", [0.5, 1.9, 2.0, 2.1, 8.0])
def test_heavy_ball_rate_in_every_regime(friction):
    mu, L = 1.0, 9.0
    rate = exact_rate(dynamics_of(HeavyBall(h**2, 1 - b * h), {b: friction}), mu, L)
    want = friction - np.sqrt(max(friction**2 - 4 * mu, 0.0))  # THEORY 7.2
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
    [  # eta * lam_max, THEORY 5.1 and 2.6
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


def test_unstable_for_every_lr_and_unscaled_lr_are_refused():
    from dataclasses import dataclass

    from odeopt import UpdateRule

    @dataclass(frozen=True)
    class Odd(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return iterates[0] - self.lr**2 * grad(iterates[0]), memory

    with pytest.raises(ValueError, match="does not multiply its gradient"):
        max_learning_rate(Odd(0.1), 1.0)

    @dataclass(frozen=True)
    class Ascent(UpdateRule):
        lr: float

        def step(self, k, iterates, memory, grad):
            return iterates[0] + self.lr * grad(iterates[0]), memory

    with pytest.raises(ValueError, match="unstable for every lr"):
        max_learning_rate(Ascent(0.1), 1.0)


def test_discrete_rates_match_known_optima():
    mu, L = 1.0, 100.0
    root = np.sqrt(L / mu)
    cases = [  # THEORY 5.2
        (GradientDescent(2 / (L + mu)), (L - mu) / (L + mu), 1e-12),
        # a double root: eigenvalues of the companion matrix carry sqrt(eps)
        (HeavyBall(4 / (np.sqrt(L) + 1) ** 2, ((root - 1) / (root + 1)) ** 2), (root - 1) / (root + 1), 1e-6),
        (NesterovConstant(1 / L, (root - 1) / (root + 1)), 1 - 1 / root, 1e-6),
    ]
    for rule, rho, tolerance in cases:
        assert discrete_rate(rule, mu, L).value == pytest.approx(-2 * np.log(rho), rel=tolerance)


def test_vanishing_friction_is_linear_in_discrete_time():
    # THEORY 5.4: loss ~ k^-r (1 - s lam)^k
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
