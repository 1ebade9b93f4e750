"""The step from weights to errors, its assumptions, and the two error losses."""

import numpy as np
import pytest
import sympy
from zoo import kernel_with

from odeopt import GradientDescent, HeavyBall, HigherMomentum, Nesterov, error_dynamics, ode_limit
from odeopt.dynamics.error import ErrorLoss

h, b, r, c1, c2 = sympy.symbols("h b r c1 c2", positive=True)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (GradientDescent(h), "Delta' + H*Delta = 0"),
        (HeavyBall(h**2, 1 - b * h), "Delta'' + b*Delta' + H*Delta = 0"),
        (Nesterov(h**2, r), "Delta'' + (r/t)*Delta' + H*Delta = 0"),
        (
            HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h))),
            "Delta''' + (c1 + c2)*Delta'' + (c1*c2)*Delta' + H*Delta = 0",
        ),
    ],
)
def test_error_equation(rule, text):
    assert str(error_dynamics(ode_limit(rule, h))) == text


def test_dropped_terms_are_listed_by_order():
    names = {
        rule: [a.name for a in error_dynamics(ode_limit(rule, h)).assumptions]
        for rule in (GradientDescent(h), HeavyBall(h**2, 1 - b * h))
    }
    first, second = names.values()
    assert first == ["constant kernel"]
    assert second == ["constant kernel", "moving Jacobian", "activation flips"]


def test_linear_model_obeys_the_error_equation_exactly():
    """For u = J w the error dynamics is the weight dynamics times J: run both discretely and compare."""
    rng = np.random.default_rng(0)
    jacobian, y, w0 = rng.standard_normal((4, 7)), rng.standard_normal(4), rng.standard_normal(7)
    rule = HeavyBall(0.02, 0.7)
    from itertools import islice

    from odeopt.rules.base import iterate

    weights = islice(iterate(rule, w0, lambda w: jacobian.T @ (jacobian @ w - y)), 30)
    kernel = jacobian @ jacobian.T
    errors = islice(iterate(rule, jacobian @ w0 - y, lambda delta: kernel @ delta), 30)
    for w, delta in zip(weights, errors, strict=True):
        # rounding of 30 steps with condition number of J around 10
        np.testing.assert_allclose(jacobian @ w - y, delta, rtol=0, atol=1e-12)


def test_losses_are_dual_and_have_the_stated_constants():
    kernel = kernel_with([0.5, 1.0, 4.0])
    z = np.array([1.0, -2.0, 0.5])
    primal, dual = ErrorLoss(1), ErrorLoss(-1)
    assert primal.value(kernel, z) == pytest.approx(0.5 * z @ kernel @ z, rel=1e-14)
    # Fenchel: f*(Hz) = <z, Hz> - f(z) = f(z)
    assert dual.value(kernel, kernel @ z) == pytest.approx(primal.value(kernel, z), rel=1e-12)
    assert primal.constants(kernel) == pytest.approx((0.5, 4.0))
    assert dual.constants(kernel) == pytest.approx((0.25, 2.0))


def test_dual_energy_of_heavy_ball_decays_at_the_stated_power():
    """d/dt [|D|^2/2 + D'^T H^-1 D'/2] = -b D'^T H^-1 D', in sympy on a mode."""
    t, lam = sympy.symbols("t lam", positive=True)
    phi = sympy.Function("phi")(t)
    acceleration = -b * phi.diff(t) - lam * phi
    energy = phi**2 / 2 + phi.diff(t) ** 2 / (2 * lam)
    power = energy.diff(t).subs(phi.diff(t, 2), acceleration)
    assert sympy.simplify(power + b * phi.diff(t) ** 2 / lam) == 0


def test_numeric_and_constant_flags():
    symbolic = error_dynamics(ode_limit(Nesterov(h**2, r), h))
    assert not symbolic.is_numeric and not symbolic.is_constant
    numeric = symbolic.subs({r: 3, h: 0.1})
    assert numeric.is_numeric and numeric.time_step == pytest.approx(0.1)
