"""Limits integrated in the weights: starts at poles and roots, refusals, on losses of known curves."""

from dataclasses import dataclass

import mpmath
import numpy as np
import pytest
import scipy.special
import sympy
from nonlinear import LogCosh

from odeopt import Adam, GradientDescent, HeavyBall, Nesterov, ode_limit
from odeopt.limits import integrate_limit
from odeopt.limits.equation import with_terms
from odeopt.rules import RMSProp, SignDescent, UpdateRule, iterate, sqrt

h, b = sympy.symbols("h b", positive=True)
TOL = {"rtol": 1e-10, "atol": 1e-13}
T = np.array([0.0, 1e-6, 1e-2, 0.5, 1.0, 3.0])


def quadratic(x, *v):
    return v[0] if v else x


def slope_one(x, *v):
    """The loss x, whose gradient is 1."""
    return np.zeros_like(x) if v else np.ones_like(x)


def path(limit, differential=quadratic, x0=1.0, t=T):
    return integrate_limit(limit, differential, [x0], t, **TOL).x[:, 0]


@dataclass(frozen=True)
class Halpern(UpdateRule):
    """x_+ = x_0/(k+2) + (k+1)/(k+2) (x - lr grad f(x))."""

    lr: float

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (anchor,) = iterates, memory
        return anchor / (k + 2) + (x - self.lr * grad(x)) * (k + 1) / (k + 2), (anchor,)


@dataclass(frozen=True)
class ScheduleFree(UpdateRule):
    """Defazio et al., arXiv 2405.15682: gradients at y = (1 - beta) z + beta x, x the average of z."""

    lr: float
    beta: float

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad((1 - self.beta) * z + self.beta * x)
        return x + (z - x) / (k + 1), (z,)


@dataclass(frozen=True)
class AdamW(UpdateRule):
    lr: float
    decay: float = 0.1

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v) = iterates, memory
        g = grad(x)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (k + 1)), v / (1 - 0.999 ** (k + 1))
        return x - self.lr * (m_hat / (sqrt(v_hat) + 1e-8) + self.decay * x), (m, v)


def test_anchored_and_averaged_flows_start_at_zero():
    with np.errstate(invalid="ignore"):
        anchored = np.where(T > 0, -np.expm1(-T) / T, 1.0)
    np.testing.assert_allclose(path(ode_limit(Halpern(h), h)), anchored, rtol=1e-9)
    for beta in (sympy.Rational(1, 2), sympy.Rational(9, 10)):
        a = float(1 / (1 - beta))
        want = [float(mpmath.hyp1f1(a, 2, -s / a)) for s in T]
        np.testing.assert_allclose(path(ode_limit(ScheduleFree(h, beta), h)), want, rtol=1e-8)


@pytest.mark.parametrize("make", [Halpern, lambda lr: ScheduleFree(lr, 0.9)], ids=["Halpern", "ScheduleFree"])
def test_they_follow_their_iterates_to_first_order(make):
    f, steps = LogCosh(), np.array([50, 100, 200])
    errors = []
    for n in steps:
        run = np.array(
            [x for _, x in zip(range(n + 1), iterate(make(1 / n), f.x0, f.gradient), strict=False)]
        )
        k = np.array([n // 2, n])
        limit = ode_limit(make(h), h)
        errors.append(np.abs(integrate_limit(limit, f.differential, f.x0, k / n, **TOL).x - run[k]).max())
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(1, abs=0.1)


def lane_emden(x, *v):
    """x^6/6: with friction 2/t the curve is (1 + t^2/3)^(-1/2)."""
    return 5 * x**4 * v[0] if v else x**5


def with_coefficients(friction, force):
    """X'' + friction X' + force grad f(X) = 0 from rest."""
    limit = ode_limit(Nesterov(h**2, 2), h)
    t, curve = limit.t, limit.curve
    gradient = next(v for v in limit.terms if not v.has(sympy.Derivative))
    terms = {curve.diff(t, 2): sympy.S.One, curve.diff(t): friction(t), gradient: force(t)}
    return with_terms(limit, terms)


def test_friction_r_over_t_under_a_nonlinear_force():
    limit = ode_limit(Nesterov(h**2, 2), h)
    np.testing.assert_allclose(path(limit, lane_emden), 1 / np.sqrt(1 + T**2 / 3), rtol=1e-9)


@pytest.mark.parametrize("q", [sympy.Rational(1, 2), 0.75, 2])
def test_powers_of_time_in_the_force(q):
    # the curve above in the time s = t^q: X'' + (1 + q)/t X' + q^2 t^(2 q - 2) grad f(X) = 0
    limit = with_coefficients(lambda t: (1 + q) / t, lambda t: q**2 * t ** (2 * q - 2))
    if q == sympy.Rational(1, 2):  # force 1/(4 t): the velocity at 0 is -grad f/6
        with pytest.raises(ValueError, match="decides the derivative of order 1"):
            path(limit, lane_emden)
        limit = with_terms(
            limit, limit.terms, initial=(-next(v for v in limit.terms if "grad" in str(v)) / 6,)
        )
    np.testing.assert_allclose(path(limit, lane_emden), 1 / np.sqrt(1 + T ** float(2 * q) / 3), rtol=1e-9)


def test_hyperbolic_friction():
    # X'' + 2 coth(t) X' + lam X = 0: X = sin(w t)/(w sinh t), w^2 = lam - 1
    limit = with_coefficients(lambda t: 2 * sympy.coth(t), lambda t: sympy.Integer(5))
    want = np.where(T > 0, np.sin(2 * T) / (2 * np.sinh(np.where(T > 0, T, 1.0))), 1.0)
    np.testing.assert_allclose(path(limit), want, rtol=1e-8, atol=1e-10)


def test_averages_that_start_at_zero_under_a_root():
    # on a constant gradient M = 1 - exp(-2 t) and X = x_0 - arccosh(exp t), vertical at 0
    limit = ode_limit(RMSProp(h, 1 - b * h, 0), h).subs({b: 2})
    np.testing.assert_allclose(path(limit, slope_one), 1 - np.arccosh(np.exp(T)), rtol=1e-9, atol=1e-9)
    limit = ode_limit(Adam(h, 1 - 3 * h, 1 - b * h, 0), h).subs({b: 2})
    np.testing.assert_allclose(path(limit, slope_one), 1 - T, rtol=1e-9, atol=1e-9)


def test_velocities_may_hold_the_weights():
    # all averages fast: X' = -sign(X) - X/10 but for eps = 1e-8, so X = 11 exp(-t/10) - 10
    t = np.array([0.25, 0.5])
    np.testing.assert_allclose(path(ode_limit(AdamW(0.01)), t=t), 11 * np.exp(-t / 10) - 10, rtol=1e-6)


def test_corrected_friction_starts_with_its_velocity():
    # X'' + (3/t) X' + (1 + 3h/(2t)) X + h X' = 0 is a damped Bessel mode
    step = 0.1
    limit = ode_limit(Nesterov(h**2, 3), h, resolution=1).subs({h: step})
    mode = np.exp(-step * T / 2) * scipy.special.hyp0f1(2, -(1 - step**2 / 4) * T**2 / 4)
    np.testing.assert_allclose(path(limit), mode, rtol=1e-9)


@pytest.mark.parametrize(
    ("friction", "force", "word"),
    [
        (lambda t: -3 / t, lambda t: sympy.S.One, r"solution like t\^4"),
        (lambda t: 3 / t**2, lambda t: sympy.S.One, "coefficient 3/t"),
        (lambda t: 3 / t, lambda t: 1 / t**2, "grad f"),
        (lambda t: 3 / t, lambda t: sympy.exp(1 / t), "grad f"),
    ],
)
def test_singularities_from_which_no_curve_starts_are_refused(friction, force, word):
    with pytest.raises(ValueError, match=word):
        path(with_coefficients(friction, force))


def test_what_cannot_be_integrated_is_refused_with_its_place():
    limit = ode_limit(HeavyBall(0.01, 0.9))
    for arguments, word in (
        ((HeavyBall(0.01, 0.9), quadratic, [1.0], [1.0]), "ODELimit"),
        ((limit, 3.0, [1.0], [1.0]), "differential"),
        ((limit, lambda x: "a", [1.0], [1.0]), "differential"),
        ((limit, lambda x: np.ones(3), [1.0], [1.0]), "differential"),
        ((limit, quadratic, ["a"], [1.0]), "x0"),
        ((limit, quadratic, [np.nan], [1.0]), "x0"),
        ((limit, quadratic, [1.0], [1.0, 1.0]), "increase"),
        ((limit, lambda x: x * np.nan, [1.0], [1.0]), "not finite at t = 0"),
        ((limit, lambda x: -(x**3), [1.0], [100.0]), "t = "),  # leaves float64 in finite time
        ((limit, quadratic, [1.0], [1e308]), "evaluations"),
        ((ode_limit(HeavyBall(h**2, 1 - b * h), h), quadratic, [1.0], [1.0]), "symbols b"),
        ((ode_limit(Nesterov(0.01, 3), resolution=1), lambda x: x, [1.0], [1.0]), r"differential\(x, v_1\)"),
    ):
        with pytest.raises(ValueError, match=word):
            integrate_limit(*arguments, **TOL)
    for bad in (
        {"rtol": np.nan},
        {"rtol": 0},
        {"rtol": 2.0},
        {"atol": -1.0},
        {"atol": np.nan},
        {"method": "RK4"},
    ):
        with pytest.raises(ValueError, match=next(iter(bad))):
            integrate_limit(ode_limit(GradientDescent(0.1)), quadratic, [1.0], [1.0], **(TOL | bad))


@dataclass(frozen=True)
class Steep(UpdateRule):
    """A sign that is smooth within 1e-8."""

    lr: float

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        return iterates[0] - self.lr * g / (abs(g) + 1e-8), memory


@pytest.mark.parametrize(
    ("method", "rule"), [("DOP853", SignDescent(0.01)), ("Radau", SignDescent(0.01)), ("DOP853", Steep(0.01))]
)
def test_a_solution_that_slides_along_a_jump_is_refused_for_it(method, rule):
    limit, options = ode_limit(rule), {"rtol": 1e-8, "atol": 1e-10, "method": method}
    before = integrate_limit(limit, quadratic, [1.0], [0.9], **options)
    assert before.x[0, 0] == pytest.approx(0.1, abs=1e-6)  # |x| falls at rate 1, but for 1e-8 / g of it
    with pytest.raises(ValueError, match=r"its right side jumps by .* so it chatters at a discontinuity"):
        integrate_limit(limit, quadratic, [1.0], np.linspace(0.9, 3.0, 40), **options)


def test_a_steep_right_side_is_followed_by_an_implicit_solver():
    run = integrate_limit(
        ode_limit(Steep(0.01)), quadratic, [1.0], [2.0], rtol=1e-8, atol=1e-10, method="Radau"
    )
    assert abs(run.x[0, 0]) < 1e-8
