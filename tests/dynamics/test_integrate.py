"""solve_ivp on the full system: time-varying kernels, starts from the power series, refusals."""

import numpy as np
import pytest
from zoo import kernel_with

from odeopt import GradientDescent, HeavyBall, Nesterov, error_dynamics, integrate, ode_limit

TOL = {"rtol": 1e-10, "atol": 1e-13}


def dynamics_of(rule):
    return error_dynamics(ode_limit(rule))


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
        (np.eye(2), [1.0], [0.0, 1.0], "delta0"),
        (np.diag([1.0, -1.0]), [1.0, 1.0], [0.0, 1.0], "semidefinite"),
    ],
)
def test_bad_input_is_refused(kernel, delta0, t, word):
    with pytest.raises(ValueError, match=word):
        integrate(dynamics_of(GradientDescent(0.1)), kernel, delta0, t, **TOL)


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
