"""Independent routes to the same curve agree: closed form, solve_ivp, iterates as h -> 0."""

import numpy as np
import pytest
import sympy
from zoo import kernel_with, rule_id

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    error_dynamics,
    integrate,
    loss_curve,
    mode_solution,
    ode_limit,
    spectral_measure,
)
from odeopt.rules.linear import residual_polynomials

h, b, c1, c2 = sympy.symbols("h b c1 c2", positive=True)

SPECTRUM = np.geomspace(1e-4, 1.0, 12)  # condition number 1e4
FAMILIES = {
    "GradientDescent": GradientDescent(h),
    "HeavyBall": HeavyBall(h**2, 1 - b * h),
    "NesterovConstant": NesterovConstant(h**2, (1 - b * h) / (1 + b * h)),
    "Nesterov-1": Nesterov(h**2, 1),
    "Nesterov-2": Nesterov(h**2, 2),
    "Nesterov-3": Nesterov(h**2, 3),
    "Nesterov-6": Nesterov(h**2, 6),
    "HigherMomentum-fixed": HigherMomentum(h, (0.2, 0.5)),
    "HigherMomentum-third-order": HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h))),
}
VALUES = {b: 0.3, c1: 1.0, c2: 2.5}


def dynamics_of(name):
    return error_dynamics(ode_limit(FAMILIES[name], h)).subs(VALUES)


@pytest.mark.parametrize("name", FAMILIES)
def test_closed_form_equals_solve_ivp_at_condition_number_1e4(name):
    kernel = kernel_with(SPECTRUM)
    delta0 = np.random.default_rng(5).standard_normal(SPECTRUM.size)
    dynamics = dynamics_of(name)
    t = np.linspace(0, 60, 25)
    run = integrate(dynamics, kernel, delta0, t, rtol=1e-10, atol=1e-14)
    lam, vectors = np.linalg.eigh(kernel)
    closed = mode_solution(dynamics)(t, np.maximum(lam, 0)) * (vectors.T @ delta0) @ vectors.T
    # rtol 1e-10 a step, a few hundred steps: 1e-8 of the size of the error vector
    size = np.linalg.norm(closed, axis=1, keepdims=True)
    assert np.max(np.abs(run.delta - closed) / size) < 1e-8
    loss = loss_curve(mode_solution(dynamics), spectral_measure(kernel, delta0), t).loss
    np.testing.assert_allclose(run.loss, loss, rtol=1e-8)


@pytest.mark.parametrize("name", FAMILIES)
def test_iterates_converge_to_the_mode_at_order_one(name):
    mode = mode_solution(dynamics_of(name))
    lam = np.array([0.05, 0.3, 1.0])
    horizon, steps = 4.0, 2 ** np.arange(8, 13)
    errors = []
    for n in steps:
        rule = FAMILIES[name].at({h: horizon / n, **VALUES})
        # the maximum over many times: at one time the leading error may happen to vanish
        k = np.arange(n // 8, n + 1, n // 8)
        errors.append(np.abs(residual_polynomials(rule, lam, k) - mode(k * horizon / n, lam)).max())
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "rule",
    [HeavyBall(1e-4, 0.98), Nesterov(1e-4, 3), GradientDescent(1e-3), HigherMomentum(1e-3, (0.2, 0.5))],
    ids=rule_id,
)
def test_numeric_rule_follows_its_own_limit(rule):
    """The scaling chosen for numbers: error O(time_step), with constants such as 1/(1 - beta) below 10."""
    mode = mode_solution(error_dynamics(ode_limit(rule)))
    k = np.array([100, 300, 500])
    lam = np.array([0.5, 2.0])
    t = (k + float(mode.time_origin)) * mode.time_step
    gap = np.abs(residual_polynomials(rule, lam, k) - mode(t, lam)).max()
    assert gap < 10 * mode.time_step
