"""Limits of adaptive methods: the equations of the literature, and the order in which runs follow them."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import sympy
from nonlinear import LogCosh

from odeopt import (
    Adam,
    UpdateRule,
    error_dynamics,
    ode_limit,
)
from odeopt.limits import integrate_limit
from odeopt.limits.series import GradientDifferential
from odeopt.rules import AdaGrad, RMSProp, SignDescent, dot, sign
from odeopt.rules.base import iterate
from odeopt.rules.formulas import VectorName

h, a, b, kappa = sympy.symbols("h a b kappa", positive=True)
X = sympy.Function("X")(sympy.Symbol("t", positive=True))
T = X.args[0]

SYSTEMS = {
    "sign flow": (SignDescent(h), lambda g, m, t: -sympy.sign(g), ()),
    "RMSProp": (
        RMSProp(h, 1 - b * h, kappa),
        lambda g, m, t: -g / (sympy.sqrt(m[0]) + kappa),
        (lambda g, m: b * (g**2 - m[0]),),
    ),
    "RMSProp, fixed decay": (RMSProp(h, 0.9, kappa), lambda g, m, t: -g / (sympy.Abs(g) + kappa), ()),
    "Adam": (
        Adam(h, 1 - a * h, 1 - b * h, kappa),
        lambda g, m, t: (
            -m[0] / (1 - sympy.exp(-a * t)) / (kappa + sympy.sqrt(m[1] / (1 - sympy.exp(-b * t))))
        ),
        (lambda g, m: a * (g - m[0]), lambda g, m: b * (g**2 - m[1])),
    ),
    "Adam, fixed decays": (Adam(h, 0.9, 0.99, kappa), lambda g, m, t: -g / (sympy.Abs(g) + kappa), ()),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_adaptive_limits_are_rederived(name):
    rule, velocity, rates = SYSTEMS[name]
    limit = ode_limit(rule, h)
    # compared at random points: positive averages, a negative gradient
    numbers = {kappa: 0.3, a: 1.7, b: 0.6}
    averages = list(limit.averages)
    point = {GradientDifferential(X): -1.3, T: 0.9} | {m: 0.4 + i for i, m in enumerate(averages)}
    values = [0.4 + i for i in range(len(averages))]
    got = limit.velocity.xreplace(point).subs(numbers)
    assert float(got) == pytest.approx(float(velocity(-1.3, values, 0.9).subs(numbers)), rel=1e-12)
    for m, rate in zip(averages, rates, strict=True):
        got = limit.averages[m].xreplace(point).subs(numbers)
        assert float(got) == pytest.approx(float(rate(-1.3, values).subs(numbers)), rel=1e-12)


def adaptive_order(make, horizon=1.0, steps=(50, 100, 200, 400)):
    """Observed order in the time step of a numeric rule against its own limit."""
    f = LogCosh()
    f.x0 = np.array([2.0, -1.5, 2.5])  # no gradient component changes sign within the horizon
    errors = []
    for n in steps:
        rule, limit = make(horizon / n)
        run = list(islice(iterate(rule, f.x0, f.gradient), n + 1))
        k = np.arange(n // 4, n + 1, n // 4)
        path = integrate_limit(limit, f.differential, f.x0, k * horizon / n, rtol=1e-10, atol=1e-12)
        errors.append(np.abs(path.x - np.array([run[i] for i in k])).max())
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def symbolic(family, values):
    def make(step):
        numbers = {h: step, **values}
        return family.at(numbers), ode_limit(family, h).subs(numbers)

    return make


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (symbolic(Adam(h, 1 - a * h, 1 - b * h, 1e-3), {a: 3, b: 2}), 1.0),
        (symbolic(RMSProp(h, 0.5, 0.1), {}), 1.0),
        # v starts at 0, so the speed starts like t^(-1/2): the first steps lose half an order
        (symbolic(RMSProp(h, 1 - b * h, 0), {b: 2}), 0.5),
        # the error is O(lr) and the time step is lr^2
        (lambda step: (AdaGrad(np.sqrt(step), 0.0), ode_limit(AdaGrad(np.sqrt(step), 0.0))), 0.5),
    ],
    ids=["Adam", "RMSProp fixed", "RMSProp from v = 0", "AdaGrad"],
)
def test_adaptive_methods_follow_their_limits(make, order):
    assert adaptive_order(make) == pytest.approx(order, abs=0.1)


def test_sign_descent_is_its_limit_until_a_sign_changes():
    f = LogCosh()
    f.x0 = np.array([2.0, -1.5, 2.5])
    run = list(islice(iterate(SignDescent(0.01), f.x0, f.gradient), 26))
    limit = ode_limit(SignDescent(0.01))
    path = integrate_limit(limit, f.differential, f.x0, [0.25], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(path.x[0], run[25], atol=1e-7)  # the start in sqrt(t) moves by 1e-8


def test_correction_of_adam_is_second_order_away_from_the_start():
    """From a common state at t = 1, where the averages are positive; at t = 0 they are not analytic."""
    from scipy.integrate import solve_ivp

    from odeopt.limits.integrate import system_field

    family, f = Adam(h, 1 - a * h, 1 - b * h, 1e-1), LogCosh()
    f.x0 = np.array([2.0, -1.5, 2.5])
    errors = {0: [], 1: []}
    steps = (50, 100, 200)
    for n in steps:
        numbers = {h: 1 / n, a: 3, b: 2}
        rule = family.at(numbers)
        x, memory, states = f.x0, rule.initial_memory(f.x0), []
        for k in range(2 * n):
            states.append(np.concatenate([x, *memory]))
            x, memory = rule.step(k, (x,), memory, f.gradient)
        for resolution, found in errors.items():
            limit = ode_limit(family, h, resolution=resolution).subs(numbers)
            system = system_field(limit, f.differential)
            path = solve_ivp(system, (1.0, 2.0), states[n], rtol=1e-11, atol=1e-12, method="DOP853")
            found.append(np.abs(path.y[:3, -1] - x).max())
    for resolution, found in errors.items():
        slope = -np.polyfit(np.log(steps), np.log(found), 1)[0]
        assert slope == pytest.approx(resolution + 1, abs=0.1)


def test_adaptive_errors_do_not_close_in_prediction_space():
    dynamics = error_dynamics(ode_limit(RMSProp(h, 0.9, kappa), h))
    assert not dynamics.is_closed
    assert str(dynamics) == "Delta' = -J D^-1 J' Delta, D = Abs(grad f(X)) + kappa; not closed in (Delta, H)"
    assert error_dynamics(ode_limit(Adam(h, 1 - a * h, 1 - b * h, kappa), h)).preconditioner is None


def test_preconditioned_equation_holds_for_a_linear_model():
    """Delta' = J w' with w' = -D^-1 J' Delta, checked on numbers."""
    rng = np.random.default_rng(0)
    jacobian, delta = rng.standard_normal((3, 5)), rng.standard_normal(3)
    limit = ode_limit(RMSProp(h, 0.9, 0.5), h)
    gradient = jacobian.T @ delta
    d = sympy.lambdify(GradientDifferential(limit.curve), error_dynamics(limit).preconditioner, "numpy")
    velocity = sympy.lambdify(GradientDifferential(limit.curve), limit.velocity, "numpy")
    np.testing.assert_allclose(
        jacobian @ velocity(gradient), -jacobian @ np.diag(1 / d(gradient)) @ jacobian.T @ delta, rtol=1e-12
    )


@dataclass(frozen=True)
class CubeRoot(UpdateRule):
    """A sum of squared norms under a cube root, its exponent a float."""

    lr: float

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        g = grad(x)
        v = v + dot(g, g)
        return x - self.lr * g / v ** (1 / 3), (v,)


def test_a_float_exponent_is_the_fraction_it_was_meant_as():
    limit = ode_limit(CubeRoot(0.01))
    (average,) = limit.averages
    gradient = GradientDifferential(limit.curve)
    assert limit.scale == sympy.Rational(3, 2)
    assert sympy.simplify(limit.velocity + gradient / average ** sympy.Rational(1, 3)) == 0


CHANCE = np.random.default_rng(0)


@dataclass(frozen=True)
class Langevin(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (grad(x) + CHANCE.standard_normal()), memory


@dataclass(frozen=True)
class RandomSign(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * CHANCE.random() * sign(grad(x)), memory


@pytest.mark.parametrize("rule", [Langevin, RandomSign])
def test_a_step_with_chance_in_it_has_no_limit_of_one_draw(rule):
    with pytest.raises(ValueError, match="chance or a state"):
        ode_limit(rule(0.1))


@pytest.mark.parametrize("rule", [Adam(0.01), RMSProp(0.01), AdaGrad(0.01)])
def test_the_last_line_of_a_derivation_is_the_system(rule):
    limit = ode_limit(rule)
    *_, system, start = limit.steps
    for line, equation in zip(system.equations, limit.equations, strict=True):
        assert line.lhs == equation.lhs
        names = sorted(line.rhs.free_symbols - {limit.t}, key=str)
        # the rates of forgetting a, b, as (1 - beta)/h; eps and they are floats in the system
        values = {"a": (1 - getattr(rule, "beta1", 0)) / 0.01, "b": (1 - getattr(rule, "beta2", 0.99)) / 0.01}
        gap = line.rhs.subs({n: values[n.name] for n in names}) - equation.rhs
        f, m0, m1, t = 0.7, 0.3, 0.2, 0.5
        point = {GradientDifferential(limit.curve): f, limit.t: t}
        point |= {sympy.Function(n)(limit.t): v for n, v in (("M_0", m0), ("M_1", m1))}
        assert abs(sympy.N(gap.subs(point))) < 1e-12
    assert [line.rhs for line in start.equations] == [VectorName("x_0"), *limit.initial.values()]
