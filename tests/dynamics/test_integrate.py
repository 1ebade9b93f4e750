"""solve_ivp on the full system: time-varying kernels, starts from poles at t = 0, refusals."""

import dataclasses

import mpmath
import numpy as np
import pytest
import scipy.special
import sympy
from zoo import kernel_with

from odeopt import (
    Adam,
    GradientDescent,
    HeavyBall,
    Nesterov,
    error_dynamics,
    integrate,
    mode_solution,
    ode_limit,
)
from odeopt.dynamics import ErrorDynamics, SquaredLoss, integrate_predictions, prediction_dynamics
from odeopt.rates import exact_rate
from odeopt.rules import UpdateRule

TOL = {"rtol": 1e-10, "atol": 1e-13}
T, LAM = sympy.Symbol("t", positive=True), sympy.Symbol("lam", positive=True)
TIMES = np.array([0.0, 1e-3, 0.3, 1.0, 4.0, 10.0])


def dynamics_of(rule):
    return error_dynamics(ode_limit(rule))


def equation(*coefficients, initial=(0,)):
    """Error dynamics with these coefficients of Delta, Delta', ..."""
    coefficients, initial = map(sympy.S, coefficients), map(sympy.S, initial)
    return ErrorDynamics(tuple(coefficients), tuple(initial), T, LAM, 1.0, ())


def modes(dynamics, lam=(0.5, 1.0, 4.0), t=TIMES):
    """The integrated modes, shape (T, n), and the eigenvalues as floats."""
    return integrate(dynamics, np.diag(lam), np.ones(len(lam)), t, **TOL).delta


def table(function, lam=(0.5, 1.0, 4.0), t=TIMES):
    return np.array([[float(function(s, m)) for m in lam] for s in t])


def test_time_varying_scalar_kernel_has_a_known_solution():
    # D' = -(1 + cos t) D: D = exp(-t - sin t)
    t = np.linspace(0, 5, 11)
    run = integrate(dynamics_of(GradientDescent(0.1)), lambda s: np.array([[1 + np.cos(s)]]), [1.0], t, **TOL)
    np.testing.assert_allclose(run.delta[:, 0], np.exp(-t - np.sin(t)), rtol=1e-8)  # 100 rtol


def test_friction_r_over_t_with_varying_kernel_starts_correctly():
    # D'' + (2/t) D' + H(t) D = 0 with D = exp(-t^2/2): D' = -t D, D'' = (t^2 - 1) D, so H = 3 - t^2
    t = np.linspace(0, 1.5, 7)
    run = integrate(dynamics_of(Nesterov(0.01, 2)), lambda s: np.array([[3 - s**2]]), [1.0], t, **TOL)
    np.testing.assert_allclose(run.delta[:, 0], np.exp(-(t**2) / 2), rtol=1e-8)


def test_times_inside_the_starting_series():
    kernel = np.eye(2) * 4.0
    t = np.array([0.0, 1e-5, 2e-4, 1.0])
    run = integrate(dynamics_of(Nesterov(0.01, 2)), kernel, [1.0, 2.0], t, **TOL)
    want = np.sinc(2 * t / np.pi)
    np.testing.assert_allclose(run.delta, np.outer(want, [1.0, 2.0]), rtol=1e-9)


@pytest.mark.parametrize("r", [0.5, 1, 2, 3, 7.5, 40])
def test_friction_r_over_t_is_a_bessel_mode(r):
    want = table(lambda s, m: scipy.special.hyp0f1((r + 1) / 2, -m * s**2 / 4))
    # |phi| <= 1, and the global error is some ten times rtol over twenty oscillations
    np.testing.assert_allclose(modes(equation(LAM, r / T, 1)), want, atol=1e-8)


@pytest.mark.parametrize("p", [1, sympy.Rational(3, 2), 0.5, 2.1, sympy.sqrt(2), 3, 4])
def test_flows_of_wibisono_start_from_every_power(p):
    # X'' + (p+1)/t X' + p^2 t^(p-2) lam X = 0 is Nesterov's flow, r = 3, in the time 2 t^(p/2)
    want = table(lambda s, m: scipy.special.hyp0f1(2, -m * s ** float(p)), t=TIMES[:-1])
    dynamics = equation(p**2 * T ** (p - 2) * LAM, (p + 1) / T, 1, initial=(-LAM / 2 if p == 1 else 0,))
    run = modes(dynamics, t=TIMES[:-1])
    np.testing.assert_allclose(run, want, atol=3e-7 if p == 4 else 1e-8)  # t^4: a thousand radians of phase


def test_schedule_free_averaging_is_a_kummer_mode():
    # t X'' + 2 X' + lam (X + (1 - b) t X') = 0: X = 1F1(1/(1-b); 2; -(1-b) lam t)
    for b in (0.0, 0.5, 0.9):
        a = 1 / (1 - b)
        want = table(lambda s, m, a=a: mpmath.hyp1f1(a, 2, -m * s / a))
        dynamics = equation(LAM, 2 + (1 - b) * T * LAM, T, initial=(-LAM / 2,))
        np.testing.assert_allclose(modes(dynamics), want, atol=1e-8)


def test_hyperbolic_friction_against_mpmath():
    # X'' + 3 coth(t) X' + lam X = 0 on its Taylor series, by mpmath's own integrator
    dynamics = equation(LAM, 3 * sympy.coth(T), 1)
    t = TIMES[:4]
    run = modes(dynamics, lam=(1.0,), t=t)[:, 0]
    x = 1e-3  # started from two terms: X = 1 - lam t^2/8 + lam (lam + 2) t^4/192, the next of order t^6
    start = [1 - x**2 / 8 + 3 * x**4 / 192, -x / 4 + 3 * x**3 / 48]
    flow = mpmath.odefun(lambda s, y: [y[1], -3 * mpmath.coth(s) * y[1] - y[0]], x, start, tol=1e-14)
    np.testing.assert_allclose(run[2:], [float(flow(s)[0]) for s in t[2:]], rtol=1e-9)


def test_equations_of_first_and_third_order_start_from_their_poles():
    # D' = -lam D / sqrt(t): exp(-2 lam sqrt t)
    run = modes(equation(LAM / sympy.sqrt(T), 1, initial=()))
    np.testing.assert_allclose(run, table(lambda s, m: np.exp(-2 * m * np.sqrt(s))), atol=1e-9)
    # D''' + (2/t) D'' + (lam/t) D' = 0 from D'(0) = 1: D' = J_1(2 sqrt(lam t))/sqrt(lam t)
    run = modes(equation(0, LAM / T, 2 / T, 1, initial=(1, -LAM / 2)))
    want = table(lambda s, m: 1 + mpmath.quad(lambda x: mpmath.hyp0f1(2, -m * x), [0, s]))
    np.testing.assert_allclose(run, want, atol=1e-7)  # grows to 10


@dataclasses.dataclass(frozen=True)
class Halpern(UpdateRule):
    """x_+ = x_0/(k+2) + (k+1)/(k+2) (x - lr grad f(x))."""

    lr: float

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (anchor,) = iterates, memory
        return anchor / (k + 2) + (x - self.lr * grad(x)) * (k + 1) / (k + 2), (anchor,)


def test_the_anchored_flow_needs_no_initial_velocity():
    h = sympy.Symbol("h", positive=True)
    run = modes(error_dynamics(ode_limit(Halpern(h), h)))
    want = table(lambda s, m: -np.expm1(-m * s) / (m * s) if s else 1.0)
    np.testing.assert_allclose(run, want, rtol=1e-8)
    with pytest.raises(ValueError, match="stated"):  # and takes no other
        modes(equation(LAM / T, LAM + 2 / T, 1, initial=(5,)))


def test_corrected_friction_r_over_t_starts_with_its_velocity():
    h = sympy.Symbol("h", positive=True)
    dynamics = error_dynamics(ode_limit(Nesterov(h**2, 3), h, resolution=1)).subs({h: 0.1})
    mode = mode_solution(dynamics)
    np.testing.assert_allclose(modes(dynamics), mode(TIMES, [0.5, 1.0, 4.0]), atol=1e-9)


@pytest.mark.parametrize(
    ("coefficients", "word"),
    [
        ((LAM, -3 / T, 1), r"solution like t\^4 there"),  # X = t^4 + ... vanishes with its derivative
        ((LAM, 3 / T**2, 1), "coefficient 3/t"),
        ((LAM / T**2, 3 / T, 1), "weaker than"),
        ((LAM * sympy.exp(1 / T), 1), "weaker than"),
        ((LAM / T, 1), "weaker than"),
        (
            (LAM / sympy.sqrt(T), 1 / (2 * T), 1),
            r"t\^0.5",
        ),  # sqrt(t) solves the equation, and the force drives it
    ],
)
def test_poles_from_which_no_curve_starts_are_refused(coefficients, word):
    dynamics = equation(*coefficients, initial=(0,) * (len(coefficients) - 2))
    with pytest.raises(ValueError, match=word):
        integrate(dynamics, np.eye(1), [1.0], [0.0, 1.0], **TOL)


def test_a_pole_within_the_times_is_no_place_to_step_across():
    # X'' + X'/(1 - t) + lam X = 0 has a logarithm at t = 1: many curves go on from there
    dynamics = equation(LAM, 1 / (1 - T), 1)
    assert np.isfinite(integrate(dynamics, np.eye(1), [1.0], [0.99], **TOL).delta).all()
    for end in (1.0, 2.0):
        with pytest.raises(ValueError, match="pole at t = 1; end"):
            integrate(dynamics, np.eye(1), [1.0], [0.5, end], **TOL)


def test_a_varying_kernel_is_checked_at_every_time():
    with pytest.raises(ValueError, match="shape"):
        integrate(
            dynamics_of(GradientDescent(0.1)), lambda s: np.eye(1 if s < 0.5 else 2), [1.0], [1.0], **TOL
        )
    for bad in (np.nan, np.inf):
        kernel = lambda s, bad=bad: np.array([[1.0 if s < 0.5 else bad]])  # noqa: E731
        with pytest.raises(ValueError, match=r"t = 0\.|between t"):
            integrate(dynamics_of(GradientDescent(0.1)), kernel, [1.0], [0.25, 1.0], **TOL)


def test_reports_work_and_loss():
    run = integrate(dynamics_of(HeavyBall(0.01, 0.8)), kernel_with([1.0, 2.0]), [1.0, 1.0], [0.0, 1.0], **TOL)
    np.testing.assert_allclose(run.loss, 0.5 * np.sum(run.delta**2, axis=1))
    assert 0 < run.nfev < 1000
    assert "end of the integration" in run.message


@pytest.mark.parametrize(
    ("kernel", "delta0", "t", "word"),
    [
        (np.eye(2), [1.0, 1.0], [1.0, 0.5], "increase"),
        (np.eye(2), [1.0, 1.0], [-1.0, 0.5], "nonnegative"),
        (np.eye(2), [1.0, 1.0], [], "nonempty"),
        (np.eye(2), [1.0, 1.0], ["a"], "t must hold real numbers"),
        (np.eye(2), [1.0, 1.0], [1j], "t must hold real numbers"),
        (np.eye(2), [1.0, 1.0], np.array(["2020-01-01"], "datetime64[D]"), "t must hold real numbers"),
        (np.eye(2), [1.0, 1.0], np.ma.masked_array([0.0, 1.0], [0, 1]), "masked"),
        (np.eye(2), [1.0, 1.0], [0.0, np.nan], "t must be finite"),
        (np.eye(2), [1.0], [0.0, 1.0], "delta0"),
        (np.eye(2), [1.0, np.inf], [0.0, 1.0], "delta0"),
        (np.eye(2), ["a", "b"], [0.0, 1.0], "delta0"),
        (np.diag([1.0, -1.0]), [1.0, 1.0], [0.0, 1.0], "semidefinite"),
        ("kernel", [1.0, 1.0], [0.0, 1.0], "kernel"),
        (lambda s: "kernel", [1.0, 1.0], [0.0, 1.0], "kernel"),
    ],
)
def test_bad_input_is_refused(kernel, delta0, t, word):
    with pytest.raises(ValueError, match=word):
        integrate(dynamics_of(GradientDescent(0.1)), kernel, delta0, t, **TOL)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rtol", np.nan), ("rtol", 0.0), ("rtol", 2.0), ("rtol", -1e-3), ("rtol", "1e-3"), ("rtol", True),
        ("rtol", 1e-16), ("atol", -1e-9), ("atol", np.nan), ("atol", np.inf), ("atol", None),
        ("method", "Euler"),
    ],
)  # fmt: skip
def test_tolerances_that_are_none_are_refused(option, value):
    with pytest.raises(ValueError, match=option):
        integrate(dynamics_of(GradientDescent(0.1)), np.eye(1), [1.0], [1.0], **(TOL | {option: value}))


def test_work_beyond_the_budget_is_refused_before_it_begins():
    for rule, lam, t in (
        (Nesterov(0.01), 1.0, 1e308),
        (HeavyBall(0.01, 0.9), 1e8, 1e4),
        (GradientDescent(1e-3), 1e3, 1e5),
    ):
        with pytest.raises(ValueError, match="evaluations"):
            integrate(dynamics_of(rule), np.array([[lam]]), [1.0], [0.0, t], **TOL)
    # a stiff but damped equation is no work for an implicit method
    run = integrate(
        dynamics_of(GradientDescent(1e-3)),
        np.diag([1.0, 1e9]),
        [1.0, 1.0],
        [1.0],
        rtol=1e-6,
        atol=1e-9,
        method="Radau",
    )
    np.testing.assert_allclose(run.delta[0], [np.exp(-1.0), 0.0], atol=1e-5)


def test_a_solution_that_leaves_float64_says_where():
    with pytest.raises(ValueError, match="delta0 has entries up to 1e\\+200, whose squares leave the range"):
        integrate(dynamics_of(GradientDescent(0.1)), np.zeros((1, 1)), [1e200], [1.0], **TOL)
    with pytest.raises(ValueError, match="t = "):  # D' = D
        integrate(equation(-LAM, 1, initial=()), np.eye(1), [1.0], [1000.0], **TOL)


def test_what_is_no_error_dynamics_is_refused_by_name():
    adam = ode_limit(Adam(0.001))
    prediction = prediction_dynamics(ode_limit(GradientDescent(0.1)), SquaredLoss())
    for wrong, word in (
        (error_dynamics(adam), "PreconditionedDynamics of Adam"),
        (adam, "SystemLimit of Adam"),
        (ode_limit(GradientDescent(0.1)), r"error_dynamics\(limit\)"),
        (GradientDescent(0.1), "the rule GradientDescent"),
        (prediction, "dynamics.linear"),
        ("gd", "str"),
        (None, "NoneType"),
    ):
        with pytest.raises(ValueError, match=word):
            integrate(wrong, np.eye(1), [1.0], [1.0], **TOL)
        with pytest.raises(ValueError, match=word):
            mode_solution(wrong)
        with pytest.raises(ValueError, match=word):
            exact_rate(wrong, 0.1, 1.0)
    with pytest.raises(ValueError, match="prediction_dynamics"):
        integrate_predictions(dynamics_of(GradientDescent(0.1)), np.eye(1), [1.0], [1.0], [1.0], **TOL)


def test_substitutions_and_forms_take_what_they_name():
    dynamics = dynamics_of(GradientDescent(0.1))
    prediction = prediction_dynamics(ode_limit(GradientDescent(0.1)), SquaredLoss())
    for value in (dynamics, prediction, ode_limit(GradientDescent(0.1)), ode_limit(Adam(0.1))):
        with pytest.raises(ValueError, match="values must map symbols"):
            value.subs([1.0])
    with pytest.raises(ValueError, match=r"z must have shape \(1,\)"):
        dynamics.loss.value(np.eye(1), [1.0, 2.0])
    with pytest.raises(ValueError, match="positive definite"):
        dynamics.dual_loss.value(np.diag([1.0, 0.0]), [1.0, 2.0])


def test_no_default_tolerances_and_solver_failure_is_reported():
    dynamics = dynamics_of(GradientDescent(0.1))
    with pytest.raises(TypeError, match="rtol"):
        integrate(dynamics, np.eye(1), [1.0], [0.0, 1.0])
    with pytest.raises(RuntimeError, match="failed between t"):
        integrate(
            dynamics,
            lambda s: np.array([[-1 / (1.0000001 - s) ** 2]]) if s else np.eye(1),
            [1.0],
            [0.0, 2.0],
            **TOL,
        )


def test_the_largest_eigenvalue_is_taken_once(monkeypatch):
    taken, eigenvalues = [], np.linalg.eigvalsh
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda matrix: taken.append(1) or eigenvalues(matrix))
    kernel = kernel_with([0.5, 1.0, 4.0])
    # of the cost before it, of the steps, and at the start
    integrate(dynamics_of(HeavyBall(0.1, 0.5)), kernel, np.ones(3), TIMES, **TOL)
    before = len(taken)
    integrate(dynamics_of(Nesterov(0.1, 3)), kernel, np.ones(3), TIMES, **TOL)
    assert 0 < before <= 2
    assert 0 < len(taken) - before <= 2
