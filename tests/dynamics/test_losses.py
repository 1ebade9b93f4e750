"""Losses beyond the squared one: formulas, the dynamics of predictions, their energy, and networks."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import sympy
import torch
from convex_losses import EVERY_LOSS, LABELS, TOL, dynamics_of, problem
from zoo import numeric_rules, rule_id

from odeopt import (
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    LogisticLoss,
    Nesterov,
    SquaredLoss,
    error_dynamics,
    integrate,
    mode_solution,
    ode_limit,
    prediction_dynamics,
)
from odeopt.dynamics import PredictionLoss, energy, integrate_predictions, lagrangian, predict_iterates
from odeopt.dynamics.energy import Lagrangian


@dataclass(frozen=True)
class LogCosh(PredictionLoss):
    """A user's loss: two methods, and no more."""

    def value(self, u, y):
        return np.log(np.cosh(u - y)).sum()

    def gradient(self, u, y):
        return np.tanh(u - y)


def third_order_limit():
    h = sympy.Symbol("h", positive=True)
    return ode_limit(HigherMomentum(h**3, (2 - 3 * h, -(1 - h) * (1 - 2 * h))), h)


# --- the formulas -----------------------------------------------------------------------------


@EVERY_LOSS
def test_gradient_and_curvature_are_those_of_autodiff(loss):
    u = torch.tensor([-3.0, 0.2, 1.5, 40.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor(LABELS)
    value = loss.value(u, y)
    (gradient,) = torch.autograd.grad(value, u, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.sum(), u)
    torch.testing.assert_close(loss.gradient(u, y), gradient, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(loss.hessian_diagonal(u, y), curvature, rtol=1e-13, atol=1e-15)


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_and_arrays_give_the_same_numbers(loss, dtype):
    u = np.array([-800.0, -1.0, 0.5, 700.0])
    tensor = torch.tensor(u, dtype=dtype)
    rtol = 10 * torch.finfo(dtype).eps
    for method in ("value", "gradient", "hessian_diagonal"):
        array, other = getattr(loss, method)(u, LABELS), getattr(loss, method)(tensor, LABELS)
        assert other.dtype == dtype
        # below the smallest number of the dtype it is 0
        np.testing.assert_allclose(other.double().numpy(), array, rtol=rtol, atol=torch.finfo(dtype).tiny)


def test_logistic_loss_is_safe_at_large_predictions():
    # no overflow (a warning is an error here), no cancellation: log(1 + e^-z) = e^-z to rounding at z = 50
    loss = LogisticLoss()
    assert loss.value([1e4], [1.0]) == 0
    assert loss.value([-1e4], [1.0]) == 1e4
    assert loss.value([50.0], [1.0]) == pytest.approx(np.exp(-50), rel=1e-15)
    np.testing.assert_allclose(loss.gradient([50.0, -1e4], [1.0, 1.0]), [-np.exp(-50), -1.0], rtol=1e-15)


@pytest.mark.parametrize("loss", [LogisticLoss(), LogisticLoss(ridge=0.3), LogCosh()], ids=repr)
def test_curvature_by_differences_is_the_derivative_of_the_gradient(loss):
    u = np.linspace(-4, 4, 9)
    y = np.ones(9)
    exact = 1 / np.cosh(u - 1) ** 2 if isinstance(loss, LogCosh) else loss.hessian_diagonal(u, y)
    # central differences: the square of the step, eps^(2/3) = 4e-11 times (1 + |u|)^2
    np.testing.assert_allclose(PredictionLoss.hessian_diagonal(loss, u, y), exact, atol=2e-9)


@EVERY_LOSS
def test_constants_are_the_extremes_of_the_curvature(loss):
    u = np.linspace(-30, 30, 1001)
    curvature = loss.hessian_diagonal(u, np.ones_like(u))
    assert curvature.max() == pytest.approx(loss.smoothness, rel=1e-12)
    assert curvature.min() == pytest.approx(loss.strong_convexity, abs=1e-12)


def test_logistic_loss_without_ridge_has_no_minimiser():
    loss = LogisticLoss()
    assert loss.strong_convexity == 0
    values = [float(loss.value([u], [1.0])) for u in (1.0, 10.0, 100.0)]
    assert values[0] > values[1] > values[2] > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogisticLoss(ridge=-1), "ridge must be a nonnegative number, got -1"),
        (lambda: LogisticLoss(ridge=True), "ridge must be a nonnegative number, got True"),
        (lambda: LogisticLoss().value([1.0], [0.0]), "labels -1 and 1 for the logistic loss, got 0"),
        (lambda: SquaredLoss().gradient([1.0], [1.0, 2.0]), "u and y must have one shape, .* got shapes"),
        (lambda: prediction_dynamics(ode_limit(GradientDescent(0.1)), "hinge"), "loss must be a Prediction"),
        (
            lambda: predict_iterates(GradientDescent(0.1), [[1.0]], SquaredLoss(), [0.0, 1.0], [1.0], [0]),
            "u0 ",
        ),
        (
            lambda: predict_iterates(GradientDescent(0.1), [[1.0]], SquaredLoss(), [0.0], [1.0], [1.5]),
            "iteration",
        ),
        (lambda: lagrangian(dynamics_of(GradientDescent(0.1), SquaredLoss())), "first order"),
        (lambda: lagrangian(dynamics_of(HeavyBall(0.1, 0.5), SquaredLoss()), size=0), "size must be"),
        (lambda: lagrangian(dynamics_of(HeavyBall(0.1, 0.5), SquaredLoss()), size=9), "size must be"),
        (lambda: lagrangian(ode_limit(HeavyBall(0.1, 0.5))), "PredictionDynamics, got ODELimit"),
        (lambda: energy(ode_limit(HeavyBall(0.1, 0.5)), np.eye(1), None), "PredictionDynamics, got ODELimit"),
        (lambda: energy(dynamics_of(HeavyBall(0.1, 0.5), SquaredLoss()), np.eye(1), None), "trajectory"),
        (lambda: prediction_dynamics(ode_limit(Adam(0.1)), SquaredLoss()), "PreconditionedDynamics of Adam"),
        (lambda: SquaredLoss().value("a", [1.0]), "u must hold real numbers"),
        (lambda: integrate_predictions(None, [[1.0]], [0.0], [1.0], [0.0], **TOL), "dynamics must be"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the dynamics of predictions --------------------------------------------------------------


def test_equation_is_printed_with_the_gradient_of_the_loss():
    h, b = sympy.symbols("h b", positive=True)
    dynamics = prediction_dynamics(ode_limit(HeavyBall(h**2, 1 - b * h), h), LogisticLoss())
    assert str(dynamics) == "u'' + b*u' + H*grad l(u) = 0"
    assert dynamics.latex() == r"\ddot{u} + b\,\dot{u} + H\,\nabla\ell(u) = 0"
    assert r"\log" in dynamics._repr_latex_()
    assert dynamics.assumptions == dynamics.linear.assumptions != ()
    assert dynamics.subs({b: 2, h: 0.1}).time_step == 0.1
    assert str(dynamics_of(GradientDescent(0.1), SquaredLoss())) == "u' + H*grad l(u) = 0"


RULES = {rule_id(rule): rule for rule in numeric_rules()}


@pytest.mark.parametrize("name", [*RULES, "third order"])
@pytest.mark.parametrize("varying", [False, True], ids=["constant", "varying"])
def test_squared_loss_reproduces_the_error_dynamics(name, varying):
    limit = ode_limit(RULES[name]) if name in RULES else third_order_limit()
    matrix, u0, y = problem()
    kernel = (lambda s: matrix * (1 + 0.5 * np.sin(s) ** 2)) if varying else matrix
    t = np.linspace(0, 6, 13)
    predicted = integrate_predictions(prediction_dynamics(limit, SquaredLoss()), kernel, u0, y, t, **TOL)
    errors = integrate(error_dynamics(limit), kernel, u0 - y, t, **TOL)
    np.testing.assert_allclose(predicted.u - y, errors.delta, atol=1e-8 * np.linalg.norm(u0 - y))
    np.testing.assert_allclose(predicted.loss, errors.loss, rtol=1e-8)


def test_logistic_gradient_flow_of_one_example_has_a_closed_form():
    # u' = 1 / (1 + e^u): t = u + e^u - 1 from u = 0
    u = np.linspace(0, 3, 7)
    dynamics = dynamics_of(GradientDescent(0.1), LogisticLoss())
    run = integrate_predictions(dynamics, [[1.0]], [0.0], [1.0], u + np.exp(u) - 1, **TOL)
    np.testing.assert_allclose(run.u[:, 0], u, atol=1e-9)
    np.testing.assert_allclose(run.velocity[:, 0], 1 / (1 + np.exp(u)), rtol=1e-9)
    assert not run.u.flags.writeable


def test_friction_r_over_t_starts_correctly_under_a_nonlinear_force():
    # u = t^2 solves u'' + (2/t) u' = 6 = H(t) / (1 + e^u) with H(t) = 6 (1 + exp(t^2))
    t = np.array([0.0, 2e-6, 0.3, 1.0])
    dynamics = dynamics_of(Nesterov(0.01, 2), LogisticLoss())
    kernel = lambda s: np.array([[6 * (1 + np.exp(s**2))]])  # noqa: E731
    run = integrate_predictions(dynamics, kernel, [0.0], [1.0], t, **TOL)
    np.testing.assert_allclose(run.u[:, 0], t**2, rtol=1e-8)
    np.testing.assert_allclose(run.velocity[:, 0], 2 * t, rtol=1e-8)


@pytest.mark.parametrize("loss", [LogisticLoss(), LogCosh()], ids=repr)
def test_result_does_not_depend_on_where_the_series_ends(loss, monkeypatch):
    kernel, u0, y = problem()
    results = []
    for longest in (1e-2, 1.0):
        monkeypatch.setattr("odeopt.limits.poles._first_guess", lambda *_, longest=longest: longest)
        results.append(
            integrate_predictions(dynamics_of(Nesterov(0.01, 3), loss), kernel, u0, y, [3.0], **TOL)
        )
    np.testing.assert_allclose(results[0].u, results[1].u, atol=1e-10)
    np.testing.assert_allclose(results[0].velocity, results[1].velocity, atol=1e-10)


def test_limits_with_a_hessian_of_the_loss_are_refused():
    with pytest.raises(ValueError, match="derivative of the gradient"):
        prediction_dynamics(ode_limit(Nesterov(0.01, 3), resolution=1), LogisticLoss())


def test_limits_hold_the_curve_itself_and_are_refused_where_they_start_elsewhere():
    limit = ode_limit(HeavyBall(0.01, 0.8))
    anchored = replace(limit, terms={**limit.terms, limit.curve: sympy.Integer(1)})
    held = prediction_dynamics(anchored, LogisticLoss())
    assert held.linear.source == 1
    assert str(held).endswith("H*grad l(u) + u = (u_0 - J w_0)")
    with pytest.raises(ValueError, match=r"limit starts at 2\*X\(t\), not at the first iterate"):
        prediction_dynamics(replace(limit, initial_position=2 * limit.curve), LogisticLoss())


def test_clock_of_the_limit_gives_the_times():
    dynamics = dynamics_of(HeavyBall(0.01, 0.8), SquaredLoss())
    # the centred map: h^2 = 2 lr / (1 + momentum), t = (k + 1/2) h
    np.testing.assert_allclose(dynamics.times([0, 3]), np.array([0.5, 3.5]) * np.sqrt(0.02 / 1.8), rtol=1e-14)
    h, b = sympy.symbols("h b", positive=True)
    symbolic = prediction_dynamics(ode_limit(HeavyBall(h**2, 1 - b * h), h), SquaredLoss())
    with pytest.raises(ValueError, match="holds symbols"):
        symbolic.times([1])
    assert symbolic.subs({b: 2, h: 0.1}).times([3]) == pytest.approx([0.3], rel=1e-15)


# --- energy and Lagrangian --------------------------------------------------------------------


@pytest.mark.parametrize("loss", [SquaredLoss(), LogisticLoss(), LogCosh()], ids=repr)
@pytest.mark.parametrize("rule", [GradientDescent(0.1), HeavyBall(0.01, 0.9), Nesterov(0.01, 3)], ids=rule_id)
def test_energy_is_lost_to_friction_alone(rule, loss):
    kernel, u0, y = problem()
    dynamics = dynamics_of(rule, loss)
    t = np.linspace(0, 4, 401)
    found = energy(dynamics, kernel, integrate_predictions(dynamics, kernel, u0, y, t, **TOL))
    h = t[1]
    simpson = h / 3 * (found.dissipation[:-2:2] + 4 * found.dissipation[1:-1:2] + found.dissipation[2::2])
    lost = found.total[0] - found.total[::2]
    # Simpson's rule: h^4 / 180 times the fourth derivative, 1e-8 / 180 * O(10)
    np.testing.assert_allclose(lost[1:], np.cumsum(simpson), atol=1e-8 * found.total[0])
    assert np.all(found.dissipation >= 0)
    assert found.dissipation[0] > 0 if rule.history == 1 else found.kinetic[0] == 0


def test_energy_identity_holds_for_one_mode_and_any_loss():
    t, lam, b = sympy.symbols("t lam b", positive=True)
    u, loss = sympy.Function("u")(t), sympy.Function("l")
    total = loss(u) + u.diff(t) ** 2 / (2 * lam)
    force = -b * u.diff(t) - lam * loss(u).diff(u)
    rate = total.diff(t).doit().subs(u.diff(t, 2), force)
    assert sympy.simplify(rate.doit() + b * u.diff(t) ** 2 / lam) == 0


def test_energy_of_the_closed_form_mode_decays_as_stated():
    t, lam = sympy.symbols("t lam", positive=True)
    h = sympy.Symbol("h", positive=True)
    mode = mode_solution(error_dynamics(ode_limit(HeavyBall(h**2, 1 - 2 * h), h)))
    phi = mode.expr.subs({mode.dynamics.lam: lam, mode.dynamics.t: t})
    identity = (phi**2 / 2 + phi.diff(t) ** 2 / (2 * lam)).diff(t) + 2 * phi.diff(t) ** 2 / lam
    for values in ({lam: 3, t: 0.7}, {lam: 0.4, t: 1.3}):
        assert abs(complex(identity.subs(values).evalf())) < 1e-12


def test_energy_needs_an_invertible_kernel_and_a_second_order_equation():
    kernel, u0, y = problem()
    dynamics = dynamics_of(HeavyBall(0.01, 0.9), SquaredLoss())
    run = integrate_predictions(dynamics, kernel, u0, y, [0.0, 1.0], **TOL)
    with pytest.raises(ValueError, match="positive definite"):
        energy(dynamics, np.zeros((4, 4)), run)
    third = prediction_dynamics(third_order_limit(), SquaredLoss())
    with pytest.raises(ValueError, match="no energy of this form"):
        energy(third, kernel, run)


@pytest.mark.parametrize("size", [1, 2])
def test_heavy_ball_and_nesterov_are_variational(size):
    h, b, r, t = sympy.symbols("h b r t", positive=True)
    heavy = lagrangian(
        prediction_dynamics(ode_limit(HeavyBall(h**2, 1 - b * h), h), LogisticLoss()), size=size
    )
    assert sympy.simplify(heavy.factor - sympy.exp(b * t)) == 0
    assert heavy.residual == sympy.zeros(size, 1)
    assert len(heavy.equations) == size
    assert heavy.latex().startswith(r"\mathcal L=e^{b t}\left(\tfrac12\dot u^\top H^{-1}\dot u")
    vanishing = lagrangian(prediction_dynamics(ode_limit(Nesterov(h**2, r), h), LogisticLoss()), size=size)
    assert sympy.simplify(vanishing.factor - t**r) == 0


def test_wrong_lagrangian_is_refused():
    one = sympy.Integer(1)
    with pytest.raises(ValueError, match="miss the dynamics"):
        Lagrangian(one, one, (), sympy.Matrix([one]), one)
