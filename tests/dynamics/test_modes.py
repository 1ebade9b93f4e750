"""Mode solutions: substituted back, started right, stable where formulas degenerate."""

import mpmath
import numpy as np
import pytest
import sympy
from zoo import numeric_rules, rule_id

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    error_dynamics,
    mode_solution,
    ode_limit,
)
from odeopt.dynamics import ErrorDynamics
from odeopt.dynamics.characteristic import constant_coefficient_mode
from odeopt.dynamics.mode_values import bessel_mode, damped_oscillator
from odeopt.rules import Averaged, ScheduleFree

h, b, r, c1, c2 = sympy.symbols("h b r c1 c2", positive=True)
THIRD = HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h)))


def mode_of(rule, step=None, regime="natural"):
    return mode_solution(error_dynamics(ode_limit(rule, step, regime=regime)))


@pytest.mark.parametrize(
    ("rule", "family"),
    [
        (GradientDescent(h), "exponential"),
        (HeavyBall(h**2, 1 - b * h), "oscillator"),
        (Nesterov(h**2, r), "bessel"),
        (THIRD, "characteristic"),
    ],
)
def test_symbolic_modes_have_zero_residual(rule, family):
    mode = mode_of(rule, h)
    assert mode.family == family and mode.residual == 0


@pytest.mark.parametrize("r_value", [0, 1, 2, 3, 6])
def test_bessel_closed_form_solves_its_equation_numerically(r_value):
    mode = mode_of(Nesterov(h**2, r_value), h)
    values = {mode.dynamics.t: 1.7, mode.dynamics.lam: 2.3}
    residual = mode.dynamics.mode_equation(mode.expr).subs(values)
    assert abs(sympy.N(residual, 30)) < 1e-12  # sympy differentiates, floats enter with 15 digits


@pytest.mark.parametrize("rule", numeric_rules(), ids=rule_id)
def test_initial_conditions_by_finite_differences(rule):
    mode = mode_of(rule)
    lam = np.array([0.0, 0.3, 1.0])
    eps = 1e-6
    values = mode([0.0, eps], lam)
    np.testing.assert_array_equal(values[0], 1.0)
    if mode.dynamics.order > 1:  # phi'(0) = 0, so phi(eps) - 1 is O(lam eps^2)
        np.testing.assert_allclose(values[1], 1.0, atol=2 * eps**2 * lam.max() + 1e-15)


def oscillator_reference(t, friction, q):
    """The oscillator in 50 digits, from its characteristic roots, critical case by its limit."""
    with mpmath.workdps(50):
        t, friction, q = map(mpmath.mpf, (t, friction, q))
        omega = mpmath.sqrt(mpmath.mpc(q - friction**2 / 4))
        sine = t if omega == 0 else mpmath.sin(omega * t) / omega
        return float(mpmath.re(mpmath.exp(-friction * t / 2) * (mpmath.cos(omega * t) + friction / 2 * sine)))


@pytest.mark.parametrize("t", [0.0, 0.3, 5.0, 200.0])
@pytest.mark.parametrize("offset", [-1.0, -1e-3, -1e-9, -1e-15, 0.0, 1e-15, 1e-9, 1e-3, 10.0])
def test_oscillator_is_accurate_through_critical_damping(t, offset):
    friction, q = 2.0, 1.0 + offset
    got = damped_oscillator(np.array([t]), friction, np.array([q]))[0, 0]
    want = oscillator_reference(t, friction, q)
    # relative to the envelope: the phase omega t carries its own rounding eps * omega t
    scale = np.exp(-t * (1 - np.sqrt(max(-offset, 0.0)))) * (1 + t)
    assert abs(got - want) <= 1e-13 * max(abs(want), scale)


def test_overdamped_mode_does_not_overflow_or_cancel():
    got = damped_oscillator(np.array([1e4]), 100.0, np.array([1e-3]))[0, 0]
    assert got == pytest.approx(oscillator_reference(1e4, 100.0, 1e-3), rel=1e-12)


@pytest.mark.parametrize("friction", [0, 1, 2, 3, 6, 50, 400])
def test_bessel_mode_matches_high_precision(friction):
    x = np.array([0.0, 1e-8, 0.5, 3.0, 20.0, 60.0, 1000.0])
    with mpmath.workdps(60):
        want = [float(mpmath.hyp0f1((friction + 1) / 2, -(mpmath.mpf(v) ** 2) / 4)) for v in x]
    got = bessel_mode(x, friction)
    nu = (friction - 1) / 2
    # relative to the envelope of the function, since zeros of J carry the rounding of their argument
    envelope = np.minimum(
        1.0,
        np.exp(
            np.clip(
                [
                    float(mpmath.loggamma(nu + 1))
                    + nu * np.log(2 / max(v, 1e-300))
                    - 0.5 * np.log(max(v, 1e-300))
                    for v in x
                ],
                -700,
                0,
            )
        ),
    )
    np.testing.assert_array_less(np.abs(got - want), 1e-11 * envelope + 1e-300)


def test_bessel_special_cases():
    x = np.linspace(0, 30, 301)
    np.testing.assert_allclose(bessel_mode(x, 0), np.cos(x), atol=1e-13)
    np.testing.assert_allclose(bessel_mode(x, 2), np.sinc(x / np.pi), atol=1e-14)


def test_characteristic_modes_match_separate_exponentials_and_clusters():
    times = np.linspace(0, 3, 31)
    # (z+1)(z+2)(z+3) and the triple root (z+1)^3 = solution (1 + t + t^2/2) exp(-t)
    monic = np.array([[6.0, 1.0], [11.0, 3.0], [6.0, 3.0]])
    got = constant_coefficient_mode(times, monic, np.zeros((2, 2)))
    np.testing.assert_allclose(
        got[:, 0], 3 * np.exp(-times) - 3 * np.exp(-2 * times) + np.exp(-3 * times), atol=1e-13
    )
    np.testing.assert_allclose(got[:, 1], (1 + times + times**2 / 2) * np.exp(-times), atol=1e-13)


def test_characteristic_and_oscillator_routes_agree():
    times, q = np.linspace(0, 10, 50), np.array([0.5, 1.0, 1.0 + 1e-7, 3.0])
    by_roots = constant_coefficient_mode(times, np.array([q, np.full(4, 2.0)]), np.zeros((1, 4)))
    np.testing.assert_allclose(by_roots, damped_oscillator(times, 2.0, q), atol=1e-12)


@pytest.mark.parametrize(
    ("t", "lam", "words"),
    [
        ([-1.0], [1.0], ["t must be nonnegative", "-1"]),
        ([], [1.0], ["t must be a nonempty"]),
        ([0.0], [], ["lam must be a nonempty"]),
        ([np.nan], [1.0], ["t must be finite"]),
        ([0.0], [-2.0], ["lam must be nonnegative", "-2"]),
    ],
)
def test_bad_grids_are_refused(t, lam, words):
    with pytest.raises(ValueError) as error:
        mode_of(GradientDescent(0.1))(t, lam)
    for word in words:
        assert word in str(error.value)


def test_symbolic_mode_cannot_be_evaluated_and_says_which_symbol():
    with pytest.raises(ValueError, match="symbols b"):
        mode_of(HeavyBall(h**2, 1 - b * h), h)([0.0], [1.0])


def test_unknown_closed_form_points_to_integration():
    limit = ode_limit(HeavyBall(h**2, 1 - b * h), h)
    dynamics = error_dynamics(limit)
    t = dynamics.t
    from dataclasses import replace

    exotic = replace(dynamics, coefficients=(dynamics.lam, sympy.exp(-t), sympy.Integer(1)))
    with pytest.raises(ValueError, match=r"odeopt\.integrate"):
        mode_solution(exotic)


def test_modes_beyond_every_phase_are_zero_or_refused():
    for rule in (HeavyBall(0.01, 0.9), Nesterov(0.01, 3)):
        late = mode_solution(error_dynamics(ode_limit(rule)))([1e308], [1.0, 1e300])
        np.testing.assert_array_equal(late, 0.0)
    t, lam = sympy.Symbol("t"), sympy.Symbol("lam", positive=True)
    undamped = mode_solution(
        ErrorDynamics((lam, sympy.S.Zero, sympy.S.One), (sympy.S.Zero,), t, lam, 1.0, ())
    )
    with pytest.raises(ValueError, match=r"no value in float64 at t = 1e\+308"):
        undamped([1.0, 1e308], [1e300])


def test_the_mean_of_descent_is_that_of_an_exponential_at_every_eigenvalue():
    mode = mode_of(Averaged(GradientDescent(0.1)))
    assert mode.family == "mean"
    assert str(mode.expr) == "(1 - exp(-lam*t))/(lam*t)"
    assert sympy.simplify(mode.dynamics.mode_equation(mode.expr)) == mode.residual == 0
    times, lam = np.array([0.0, 1e-8, 1.0, 30.0]), np.array([0.0, 1e-12, 1.0, 40.0])
    x = np.multiply.outer(times, lam)
    exact = np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)
    np.testing.assert_allclose(mode(times, lam), exact, rtol=1e-14)  # a few roundings


def test_the_mean_of_heavy_ball_is_that_of_its_oscillator_critical_too():
    mode = mode_of(Averaged(HeavyBall(0.01, 0.8)))
    assert sympy.simplify(mode.dynamics.mode_equation(mode.expr)) == 0
    lam, t = np.array([0.0, 0.25, 1.0, 9.0]), 3.0
    nodes, weights = np.polynomial.legendre.leggauss(40)  # exact to rounding for waves of 9 radians
    psi = damped_oscillator((nodes + 1) / 2 * t, 2.0, lam)
    np.testing.assert_allclose(mode([0.0, t], lam), [np.ones(4), weights @ psi / 2], rtol=1e-13)


def test_an_average_in_the_gradient_point_has_a_hypergeometric_mode():
    mode, lam, t = (
        mode_of(ScheduleFree(0.1, beta=0.5)),
        np.array([0.0, 0.25, 4.0]),
        np.array([0.0, 3.0, 50.0]),
    )
    assert mode.family == "hypergeometric"
    assert mode.residual == 0
    # beta = 1/2: exp(-lam t/2) exactly; a power of x has the rounding of x = lam t/2 <= 100 times over
    np.testing.assert_allclose(mode(t, lam), np.exp(-np.multiply.outer(t, lam) / 2), rtol=1e-13)
    mode = mode_of(ScheduleFree(0.1, beta=0.75))
    exact = [[float(mpmath.hyp1f1(4, 2, -mpmath.mpf(s) * v / 4)) for v in lam] for s in t]
    np.testing.assert_allclose(mode(t, lam), exact, rtol=1e-13)
