"""Limits are derived, not stored; what has no limit is refused with the reason."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    UpdateRule,
    ode_limit,
)
from odeopt.limits.series import GradientDifferential, expand_gradient, taylor

h, b, r, c1, c2, beta, beta2, s = sympy.symbols("h b r c1 c2 beta beta_2 s", positive=True)

LIMITS = [
    (GradientDescent(h), (1,), 1),
    (HeavyBall(h**2, 1 - b * h), (b, 1), 1),
    (HeavyBall(h**2, (1 - b * h / 2) / (1 + b * h / 2)), (b, 1), 1),
    (NesterovConstant(h**2, (1 - b * h) / (1 + b * h)), (2 * b, 1), 1),
    (Nesterov(h**2, r), ("r/t", 1), 1),
    (HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h))), (c1 * c2, c1 + c2, 1), 1),
    (HeavyBall(h, beta), (1 - beta,), 1),
    (NesterovConstant(h, beta), (1 - beta,), 1),
    # one root near 1 changes only the mass
    (HigherMomentum(h**2, (1 - beta2 - b * h, beta2)), (b, 1 + beta2), 1),
]


@pytest.mark.parametrize(
    ("rule", "coefficients", "gradient"), LIMITS, ids=lambda v: getattr(v, "label", None)
)
def test_limit_is_derived_from_the_step(rule, coefficients, gradient):
    limit = ode_limit(rule, h)
    expected = [r / limit.t if c == "r/t" else c for c in coefficients]
    assert limit.order == len(coefficients)
    for got, want in zip(limit.coefficients, expected, strict=True):
        assert sympy.simplify(got - want) == 0
    assert sympy.simplify(limit.gradient_coefficient - gradient) == 0
    assert set(limit.terms) <= {limit.curve.diff(limit.t, j) for j in range(1, 4)} | {
        GradientDifferential(limit.curve)
    }
    assert all(derivative == 0 for derivative in limit.initial)


@dataclass(frozen=True)
class HalvedGradient(HeavyBall):
    """A heavy ball whose code scales the gradient; a looked-up limit would miss it."""

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * grad(x) / 2, memory


def test_changing_the_step_changes_the_limit():
    limit = ode_limit(HalvedGradient(h**2, 1 - b * h), h)
    assert limit.gradient_coefficient == sympy.Rational(1, 2)


@pytest.mark.parametrize(
    ("rule", "regime", "time_step", "coefficients"),
    [
        (GradientDescent(0.04), "natural", 0.04, (1,)),
        (HeavyBall(0.04, 0.8), "natural", 0.2, (1.0, 1)),
        (HeavyBall(0.04, 0.8), "fixed", 0.04, (0.2,)),
        (Nesterov(0.04, 3), "natural", 0.2, ("3/t", 1)),
        (HigherMomentum(0.04, (0.2, 0.5)), "natural", 0.04, (0.3,)),
        # momenta that sum to 1 have no friction: lr = h^2 balances, the damping is exactly 0
        (HigherMomentum(0.04, (0.2, 0.8)), "natural", 0.2, (0, 1.8)),
    ],
)
def test_numeric_rules_get_their_scaling(rule, regime, time_step, coefficients):
    limit = ode_limit(rule, regime=regime, clock="naive")
    expected = [3 / limit.t if c == "3/t" else c for c in coefficients]
    assert limit.time_step == pytest.approx(time_step, rel=1e-14)
    for got, want in zip(limit.coefficients, expected, strict=True):
        assert abs(sympy.simplify(got - want)) < 1e-12


def test_inertial_regime_of_two_momenta_is_third_order_and_reproduces_the_rule():
    rule = HigherMomentum(1e-3, (1.7, -0.72))  # roots 0.9 and 0.8, lr^(1/3) = 0.1: c = 1, 2
    limit = ode_limit(rule, regime="inertial")
    assert [float(c) for c in limit.coefficients] == pytest.approx([2, 3, 1], rel=1e-9)
    assert limit.time_step == pytest.approx(0.1)


def test_symbolic_learning_rate_gets_its_power():
    assert ode_limit(Nesterov(s, r)).time_step == sympy.sqrt(s)
    assert ode_limit(HeavyBall(s, beta)).time_step == s


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (HeavyBall(h, 1 - b * h), ["order h^1", "nothing to balance", "shrink faster"]),
        (HeavyBall(h**3, 1 - b * h), ["order h^2", "dropped out", "more slowly"]),
        (HeavyBall(h**2, sympy.sqrt(h)), ["Taylor series", "sqrt(h)"]),
        (GradientDescent(s), ["no hyperparameter", "depends on h", "lr=h**2"]),
    ],
)
def test_rules_without_a_limit_are_refused_with_what_was_found(rule, words):
    with pytest.raises(ValueError) as error:
        ode_limit(rule, h)
    for word in words:
        assert word in str(error.value)


def test_weights_that_do_not_sum_to_one_are_refused():
    @dataclass(frozen=True)
    class Shrinking(UpdateRule):
        lr: object

        def step(self, k, iterates, memory, grad):
            return iterates[0] / 2 - self.lr * grad(iterates[0]), memory

    with pytest.raises(ValueError, match="weights of the iterates must sum to 1"):
        ode_limit(Shrinking(h), h)


def test_bad_arguments_of_ode_limit():
    with pytest.raises(ValueError, match="regime must be one of"):
        ode_limit(GradientDescent(0.1), regime="fast")
    with pytest.raises(ValueError, match="resolution"):
        ode_limit(GradientDescent(0.1), resolution=-1)
    with pytest.raises(ValueError, match="h must be a sympy Symbol"):
        ode_limit(GradientDescent(h), 0.1)


def test_steps_read_from_update_rule_to_initial_conditions():
    limit = ode_limit(Nesterov(h**2, r), h)
    titles = [step.title for step in limit.steps]
    assert titles == [
        "Update rule",
        "Samples of a curve, t = k h",
        "Expansion",
        "Residual",
        "Order by order in h",
        "Limit, order h^2",
        "Initial conditions",
    ]
    # the printed limit is the equation that is returned, and the orders before it vanish
    assert sympy.simplify(limit.steps[5].equations[0].lhs - limit.equation.lhs) == 0
    assert [e.rhs for e in limit.steps[4].equations[:2]] == [0, 0]
    assert r"\ddot{X}" in limit._repr_latex_() and r"\nabla f(X)" in limit._repr_latex_()


def test_gradient_expansion_agrees_with_a_polynomial_loss():
    # f(x) = x^5/5 in one dimension: grad = x^4; D^(p+1) f [v1..vp] = (x^4)^(p) v1...vp
    X, V, W = sympy.symbols("X V W")
    z = X + h * V + h**2 * W
    expanded = expand_gradient(z, h, 3, (X, V, W))
    concrete = expanded.replace(
        lambda e: isinstance(e, GradientDifferential),
        lambda e: sympy.diff(X**4, X, len(e.directions)) * sympy.prod(e.directions),
    )
    exact = sympy.series(z**4, h, 0, 4).removeO()
    assert sympy.expand(concrete - exact) == 0


@pytest.mark.parametrize("function", [(1 - b * h) / (1 + b * h), sympy.exp(-h), sympy.sqrt(1 + h), h**2 / h])
def test_taylor_coefficients_match_sympy_series(function):
    got = sum(c * h**q for q, c in enumerate(taylor(function, h, 4)))
    assert sympy.simplify(got - sympy.series(function, h, 0, 5).removeO()) == 0


def test_taylor_refuses_a_pole():
    with pytest.raises(ValueError, match="pole"):
        taylor((1 + h) / h, h, 2)


@pytest.mark.parametrize("resolution", [0, 1])
def test_each_printed_order_is_an_identity_on_a_concrete_curve(resolution):
    """Run the step itself on samples of X = sin t with f = x^4/4 and compare with the printed orders."""
    family = HeavyBall(h**2, (1 - h) / (1 + h))
    limit = ode_limit(family, h, resolution=resolution)
    orders = next(step for step in limit.steps if step.title.startswith("Order")).equations
    t, curve = limit.t, limit.curve
    series = sum(h**i * equation.rhs for i, equation in enumerate(orders))
    series = series.replace(
        lambda e: isinstance(e, GradientDifferential),
        lambda e: sympy.diff(curve**3, curve, len(e.directions)) * sympy.prod(e.directions),
    )
    series = series.subs(curve, sympy.sin(t)).doit()

    def residual(step):
        rule, now = family.at({h: step}), 0.8
        samples = [sympy.sin(sympy.Float(now + j * step, 40)) for j in (0, -1)]
        moved, _ = rule.step(now / step, tuple(samples), None, lambda x: x**3)
        return sympy.sin(sympy.Float(now + step, 40)) - moved - series.subs({h: step, t: now})

    gaps = [abs(float(residual(step))) for step in (0.04, 0.02)]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(len(orders), abs=0.2)  # the first order left out


@dataclass(frozen=True)
class Alternating(UpdateRule):
    """Momentum 0.8 and 0.2 and steps 0.5 lr and 1.5 lr in turn, as powers of -1."""

    lr: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        turn = (-1) ** k
        return x + 0.5 * (1 + 0.6 * turn) * (x - x_prev) - self.lr * (1 - 0.5 * turn) * grad(x), memory


class AlternatingInTwos(Alternating):
    period = 2


def test_a_step_that_alternates_has_the_limit_of_its_period_or_none():
    with pytest.raises(ValueError, match="negative number to the power k; declare `period = p`"):
        ode_limit(Alternating(0.1))
    limit = ode_limit(AlternatingInTwos(0.1))
    # over one period v_1 = 0.8 v_0 - 0.5 g, v_0 = 0.2 v_1 - 1.5 g, so that X' = (v_0 + v_1)/2
    v_1 = -sympy.Rational(17, 10) / (1 - sympy.Rational(16, 100))
    mean = (v_1 + v_1 / 5 - sympy.Rational(3, 2)) / 2
    assert sympy.simplify(limit.gradient_coefficient / limit.coefficients[0] + mean) == 0


@dataclass(frozen=True)
class Oscillating(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (1 + np.cos(k) / 2) * grad(x), memory


def test_a_schedule_that_oscillates_within_a_few_steps_is_refused():
    with pytest.raises(ValueError, match="schedules as functions of k"):
        ode_limit(Oscillating(0.1))


@dataclass(frozen=True)
class CosineInTime(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (1 + sympy.cos(k * self.lr)) / 2 * grad(x), memory


def test_a_schedule_in_k_times_lr_by_functions_of_sympy_has_its_limit():
    limit = ode_limit(CosineInTime(h), h)
    assert sympy.simplify(limit.gradient_coefficient - (1 + sympy.cos(limit.t)) / 2) == 0


@dataclass(frozen=True)
class SlowBuffer(UpdateRule):
    """A buffer with friction sqrt(lr) and a falling schedule outside of it, roots of lr written as powers."""

    lr: float

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        v = (1 - self.lr**0.5) * v + grad(x)
        return x - self.lr / (1 + k * self.lr**0.5 / 4) * v, (v,)


def test_roots_of_the_learning_rate_have_a_series_in_the_time_step():
    """A schedule s = 1/(1 + t/4) outside the buffer adds friction: X'' + (1 - s'/s) X' + s grad f = 0."""
    limit = ode_limit(SlowBuffer(0.01))
    s = 1 / (1 + limit.t / 4)
    friction, lead = limit.coefficients
    assert limit.time_step == pytest.approx(0.1, rel=1e-12)
    assert sympy.simplify(friction / lead - 1 + s.diff(limit.t) / s) == 0
    assert sympy.simplify(limit.gradient_coefficient / lead - s) == 0


@dataclass(frozen=True)
class TiedToStart(UpdateRule):
    lr: float

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (start,) = iterates, memory
        return x - self.lr * (grad(x) + (x - start) / 10), (start,)


def test_decay_to_the_start_has_a_limit_with_the_velocity_of_the_first_step():
    limit = ode_limit(TiedToStart(0.01))
    assert limit.order == 2 and limit.initial == (-GradientDifferential(limit.curve),)
    assert "no better clock" in limit.note
