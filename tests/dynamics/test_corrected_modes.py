"""Modes of the corrected equations: closed forms, against the iteration and against solve_ivp."""

import numpy as np
import pytest
import sympy
from zoo import kernel_with

from odeopt import (
    HeavyBall,
    Nesterov,
    NesterovConstant,
    error_dynamics,
    integrate,
    mode_solution,
    ode_limit,
)
from odeopt.dynamics.friction import agree
from odeopt.rates import crossover_step
from odeopt.rules.linear import residual_polynomials


@pytest.mark.parametrize("friction", [2, 3, 6])
def test_high_resolution_nesterov_has_a_closed_form_that_follows_the_iterates(friction):
    """phi = exp(-h lam t / 2) Gamma(nu+1) (2/x)^nu J_nu(x): second order, and it sees the linear decay."""
    lam, errors, steps = np.array([0.3, 2.0]), [], np.array([200, 400, 800])
    for n in steps:
        rule = Nesterov((6.0 / n) ** 2, friction)
        mode = mode_solution(error_dynamics(ode_limit(rule, resolution=1)))
        assert (mode.family, mode.residual) == ("damped bessel", 0)
        k = np.arange(n // 8, n + 1)
        t = (k + float(mode.time_origin)) * mode.time_step
        errors.append(np.abs(residual_polynomials(rule, lam, k) - mode(t, lam)).max())
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("friction", [2.5, 3, 5.1])
@pytest.mark.parametrize("lr", [0.2, 0.021003538738839353, 0.9127555772777217])
def test_decimals_whose_root_is_rounded_leave_the_closed_form_known(lr, friction):
    """e = r d/2 holds but for the rounding of sqrt(lr), in which both are written."""
    mode = mode_solution(error_dynamics(ode_limit(Nesterov(lr, friction), resolution=1)))
    assert mode.family == "damped bessel"


def test_coefficients_that_differ_by_more_than_rounding_do_not_agree():
    lam = sympy.Symbol("lam", positive=True)
    assert agree(0.3 * lam, (0.1 + 0.2) * lam)
    assert not agree(0.3 * lam, 0.3000000000001 * lam)
    assert not agree(0.3 * lam, sympy.Float(0.3))


def test_high_resolution_modes_of_constant_friction_carry_the_kernel_in_their_damping():
    rule = NesterovConstant(0.01, 0.8)
    mode = mode_solution(error_dynamics(ode_limit(rule, resolution=1)))
    lam, k = np.array([0.5, 4.0]), np.arange(0, 60, 5)
    naive = mode_solution(error_dynamics(ode_limit(rule)))
    gaps = [
        np.abs(residual_polynomials(rule, lam, k) - m((k + float(m.time_origin)) * m.time_step, lam)).max()
        for m in (mode, naive)
    ]
    assert gaps[0] < gaps[1] / 4


@pytest.mark.parametrize("friction", [2, 3, 6])
def test_damped_bessel_mode_equals_solve_ivp(friction):
    dynamics = error_dynamics(ode_limit(Nesterov(0.04, friction), resolution=1))
    kernel, delta0 = kernel_with(np.geomspace(1e-2, 5, 8)), np.random.default_rng(1).standard_normal(8)
    t = np.array([0.0, 1e-4, 0.5, 3.0, 10.0])
    run = integrate(dynamics, kernel, delta0, t, rtol=1e-10, atol=1e-14)
    lam, vectors = np.linalg.eigh(kernel)
    closed = mode_solution(dynamics)(t, lam) * (vectors.T @ delta0) @ vectors.T
    np.testing.assert_allclose(run.delta, closed, rtol=0, atol=1e-8 * np.abs(closed).max(axis=1).min())


def test_corrected_start_of_a_fixed_momentum_is_integrated_too():
    dynamics = error_dynamics(ode_limit(HeavyBall(0.05, 0.5), regime="fixed", resolution=1))
    kernel = np.diag([0.5, 2.0])
    run = integrate(dynamics, kernel, [1.0, -1.0], [0.0, 1.0], rtol=1e-11, atol=1e-14)
    closed = mode_solution(dynamics)([0.0, 1.0], [0.5, 2.0]) * [1.0, -1.0]
    np.testing.assert_allclose(run.delta, closed, rtol=1e-9)
    assert run.delta[0, 0] == pytest.approx(1 + 0.05 * 0.5 / 0.25 * 0.5)  # 1 + h beta lam / (1 - beta)^2


def test_crossover_from_power_to_linear_decay():
    rule, mu_value = Nesterov(0.1, 3), 0.02
    step = crossover_step(rule, mu_value)
    assert step == pytest.approx(-1 / np.log(1 - 0.002), rel=1e-8)
    # the envelope of the iteration over that of the ODE falls by 1/e within one crossover step
    mode = mode_solution(error_dynamics(ode_limit(rule)))

    def envelope(values):
        return np.abs(values[:, 0]).reshape(2, -1).max(axis=1)

    k = np.concatenate([np.arange(s, s + 75) for s in (int(step), 2 * int(step))])  # half a period: 70 steps
    ratio = envelope(residual_polynomials(rule, [mu_value], k)) / envelope(mode(k * np.sqrt(0.1), [mu_value]))
    assert ratio[1] ** 2 / ratio[0] ** 2 == pytest.approx(np.exp(-1), rel=0.1)
    with pytest.raises(ValueError, match="does not vanish"):
        crossover_step(HeavyBall(0.1, 0.9), mu_value)
