"""Corrections of the limits: the literature's equations re-derived, each confirmed by its observed order."""

import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import sympy
from nonlinear import LogCosh
from zoo import derivable_rules, kernel_with, rule_id

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    UpdateRule,
    error_dynamics,
    integrate,
    mode_solution,
    ode_limit,
)
from odeopt.limits import correspondences, integrate_limit, time_scale
from odeopt.limits.series import GradientDifferential
from odeopt.rates import crossover_step
from odeopt.rules import AdaGrad, RMSProp, SignDescent
from odeopt.rules.base import iterate
from odeopt.rules.linear import residual_polynomials

h, b, r, mu, beta, c1, c2, nu, kappa = sympy.symbols("h b r mu beta c1 c2 nu kappa", positive=True)
root = sympy.sqrt(mu)
SC = (1 - root * h) / (1 + root * h)  # the momentum of NAG-SC and of its heavy ball

X = sympy.Function("X")(sympy.Symbol("t", positive=True))
T = X.args[0]
V, A = X.diff(T), X.diff(T, 2)
G = GradientDifferential(X)


def D(*directions):
    return GradientDifferential(X, *directions)


# rule, resolution, expected terms, initial velocity (or None), source
KNOWN = {
    # THEORY 2.2, Shi-Du-Jordan-Su (1.10)-(1.12); velocities are those of x_{-1} = x_0
    "SDJS heavy ball": (HeavyBall(h**2, SC), 1, {A: 1, V: 2 * root, G: 1 + root * h}, -h * G / 2),
    "SDJS NAG-SC": (
        NesterovConstant(h**2, SC),
        1,
        {A: 1, V: 2 * root, G: 1 + root * h, D(V): h},
        -h * G / 2,
    ),
    "SDJS NAG-C": (Nesterov(h**2, 3), 1, {A: 1, V: 3 / T, G: 1 + 3 * h / (2 * T), D(V): h}, -h * G / 2),
    "NAG-C, any r": (Nesterov(h**2, r), 1, {A: 1, V: r / T, G: 1 + r * h / (2 * T), D(V): h}, -h * G / 2),
    # THEORY 2.4, first-order form
    "fixed momentum, heavy ball": (
        HeavyBall(h, beta),
        1,
        {V: 1, G: 1 / (1 - beta), D(G): h * (1 + beta) / (2 * (1 - beta) ** 3)},
        None,
    ),
    "fixed momentum, Nesterov": (
        NesterovConstant(h, beta),
        1,
        {V: 1, G: 1 / (1 - beta), D(G): h * (1 - beta + 2 * beta**2) / (2 * (1 - beta) ** 3)},
        None,
    ),
    # THEORY 2.6
    "one root near 1": (HigherMomentum(h**2, (1 - beta - b * h, beta)), 0, {A: 1 + beta, V: b, G: 1}, 0),
    "third order": (
        HigherMomentum(h**3, (2 - (c1 + c2) * h, -(1 - c1 * h) * (1 - c2 * h))),
        0,
        {X.diff(T, 3): 1, A: c1 + c2, V: c1 * c2, G: 1},
        0,
    ),
    "gradient descent, backward error to order 2": (
        GradientDescent(h),
        2,
        {V: 1, G: 1, D(G): h / 2, D(D(G)): h**2 / 3, D(G, G): h**2 / 12},
        None,
    ),
    "averaged gradient": (QHM(h / b, 1 - b * h, nu), 0, {A: 1, V: b, G: 1, D(V): (1 - nu) / b}, None),
    "torch's buffer": (TorchSGD(h**2, 1 - b * h), 0, {A: 1, V: b, G: 1}, 0),
}


@pytest.mark.parametrize("name", KNOWN)
def test_equations_of_the_literature_are_rederived(name):
    rule, resolution, expected, velocity = KNOWN[name]
    limit = ode_limit(rule, h, resolution=resolution)
    assert set(limit.terms) == set(expected)
    for vector, coefficient in expected.items():
        assert sympy.simplify(limit.terms[vector] - coefficient) == 0, vector
    if velocity is not None:
        assert sympy.simplify(limit.initial_velocity - velocity) == 0


def test_triple_momentum_limit():
    """THEORY 2.5: t = k / sqrt(L), L -> oo: x'' + 3 sqrt(mu) x' + 2 grad f = 0."""
    rho = 1 - root * h  # kappa^(-1/2) = sqrt(mu) h with h = L^(-1/2)
    rule = TripleMomentum(
        (1 + rho) * h**2, rho**2 / (2 - rho), rho**2 / ((1 + rho) * (2 - rho)), rho**2 / (1 - rho**2)
    )
    limit = ode_limit(rule, h)
    assert dict(limit.terms) == {A: 1, V: 3 * root, G: 2}


def test_modified_equation_in_the_form_of_the_literature():
    """THEORY 2.4: eta alpha x'' + (1 - beta) x' + grad f = 0, with Hessian terms traded for x''."""
    raw = ode_limit(HeavyBall(h, beta), h, resolution=1, form="raw")
    assert sympy.simplify(raw.terms[A] - h * (1 + beta) / 2) == 0
    assert sympy.simplify(raw.terms[V] - (1 - beta)) == 0
    nesterov = ode_limit(NesterovConstant(h, beta), h, resolution=1, form="raw")
    # grad^2 f x' = -(1 - beta) x'' at leading order turns the damping into mass
    mass = nesterov.terms[A] - nesterov.terms[D(V)] * (1 - beta)
    assert sympy.simplify(mass - h * (1 - beta + 2 * beta**2) / 2) == 0


def test_modified_loss_of_fixed_momentum():
    limit = ode_limit(HeavyBall(h, beta), h, resolution=1)
    found = limit.modified_loss
    assert sympy.simplify(found["c"] - h * (1 + beta) / (2 * (1 - beta) ** 3)) == 0
    assert sympy.simplify(limit.initial_position - (X + h * beta / (1 - beta) ** 2 * G)) == 0


def test_time_origin_of_vanishing_friction():
    assert sympy.simplify(ode_limit(Nesterov(h**2, r), h, resolution=1).time_origin - (r - 2) / 2) == 0
    assert ode_limit(HeavyBall(h**2, 1 - b * h), h, resolution=1).time_origin == 0


# --- observed orders on a function that is not quadratic -----------------------------------------------


def observed_order(family, resolution, horizon=2.0, steps=(64, 128, 256, 512), values=None):
    f = LogCosh()
    limit = ode_limit(family, h, resolution=resolution)
    errors = []
    for n in steps:
        numbers = {h: horizon / n, **(values or {})}
        k = np.arange(n // 4, n + 1, n // 4)
        run = list(islice(iterate(family.at(numbers), f.x0, f.gradient), n + 1))
        at = limit.subs(numbers)
        times = (k + float(at.time_origin)) * horizon / n
        path = integrate_limit(at, f.differential, f.x0, times, rtol=1e-12, atol=1e-13)
        errors.append(np.abs(path.x - np.array([run[i] for i in k])).max())
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


ORDERS = [
    (GradientDescent(h), 3),
    (HeavyBall(h**2, 1 - h), 2),
    (NesterovConstant(h**2, (1 - h) / (1 + h)), 2),
    (Nesterov(h**2, 3), 1),
    (Nesterov(h**2, 5), 1),
    (HeavyBall(h, 0.3), 2),
    (NesterovConstant(h, 0.3), 1),
    (HigherMomentum(h**3, (2 - 3.5 * h, -(1 - h) * (1 - 2.5 * h))), 1),
    (HigherMomentum(h**2, (0.6 - h, 0.4)), 1),
    (QHM(h / 2, 1 - 2 * h, 0.7), 1),
    (TorchSGD(h**2, 1 - h), 1),
    (TorchSGD(h**2, 1 - h, nesterov=True), 1),
]


@pytest.mark.parametrize(
    ("family", "resolution"),
    [(family, q) for family, top in ORDERS for q in range(top + 1)],
    ids=lambda v: v.label[:40] if isinstance(v, UpdateRule) else str(v),
)
def test_each_correction_gains_an_order(family, resolution):
    # the initial layer of a fixed momentum, and r/t near 0, need smaller steps before the order shows
    late = isinstance(family, Nesterov) or "momentum=0.3" in family.label
    steps = (256, 512, 1024) if late else (64, 128, 256)
    assert observed_order(family, resolution, steps=steps) == pytest.approx(resolution + 1, abs=0.1)


def test_without_the_time_origin_the_correction_gains_nothing():
    """THEORY 2.2: with t = k sqrt(s) the corrected equation is only first order."""
    f, horizon, errors = LogCosh(), 2.0, []
    limit = ode_limit(Nesterov(h**2, 5), h, resolution=1)
    for n in (256, 512, 1024):
        numbers = {h: horizon / n}
        run = list(islice(iterate(Nesterov((horizon / n) ** 2, 5), f.x0, f.gradient), n + 1))
        path = integrate_limit(
            limit.subs(numbers), f.differential, f.x0, [horizon / 2, horizon], rtol=1e-11, atol=1e-12
        )
        errors.append(np.abs(path.x - np.array([run[n // 2], run[n]])).max())
    slope = -np.polyfit(np.log([256, 512, 1024]), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.1)


@dataclass(frozen=True)
class Invented(UpdateRule):
    """Three past iterates, two momenta and a gradient at an extrapolated point."""

    lr: object
    p: object
    q: object
    s: object
    history = 4

    def step(self, k, iterates, memory, grad):
        x, x1, x2, x3 = iterates
        y = x + self.s * (x - x1) - self.q * (x1 - x3)
        return x + self.p * (x - x1) + self.q * (x1 - x2) - self.q / 2 * (x2 - x3) - self.lr * grad(y), memory


@pytest.mark.parametrize("seed", range(3))
def test_an_invented_method_is_derived_and_confirmed(seed):
    rng = np.random.default_rng(seed)
    q, s, friction = (
        sympy.Rational(int(v * 100), 100) for v in rng.uniform([0.1, 0.1, 0.5], [0.3, 0.8, 1.5])
    )
    family = Invented(lr=h**2, p=1 - q / 2 - friction * h, q=q, s=s)  # the momenta sum to 1 - friction h
    limit = ode_limit(family, h)
    assert limit.order == 2
    for resolution in (0, 1, 2):
        order = observed_order(family, resolution, steps=(128, 256, 512))
        assert order == pytest.approx(resolution + 1, abs=0.1)


# --- the best correspondence ----------------------------------------------------------------------------


def test_centred_heavy_ball_map_is_found():
    """THEORY 2.3: h^2 = 2 lr / (1 + beta), b = 2 (1 - beta) / ((1 + beta) h), t = (k + 1/2) h."""
    lr, momentum = 0.04, 0.7
    limit = ode_limit(HeavyBall(lr, momentum))
    step = np.sqrt(2 * lr / (1 + momentum))
    assert limit.time_step == pytest.approx(step, rel=1e-14)
    assert limit.time_origin == sympy.Rational(1, 2)
    assert float(limit.coefficients[0]) == pytest.approx(
        2 * (1 - momentum) / ((1 + momentum) * step), rel=1e-13
    )
    assert limit.accuracy == 2


def test_centred_map_has_order_one_in_lr_and_the_naive_one_half():
    lam, friction, horizon = np.linspace(0.05, 2.0, 40), 0.7, 6.0
    rates = 0.02 * 4.0 ** -np.arange(5)
    errors = {"centred": [], "naive": []}
    for lr in rates:
        rule = HeavyBall(lr, 1 - friction * np.sqrt(lr))
        for name, found in errors.items():
            mode = mode_solution(error_dynamics(ode_limit(rule, clock=name)))
            k = np.arange(int(horizon / np.sqrt(lr)))
            t = (k + float(mode.time_origin)) * mode.time_step
            found.append(np.abs(residual_polynomials(rule, lam, k) - mode(t, lam)).max())
    slopes = {name: np.polyfit(np.log(rates), np.log(found), 1)[0] for name, found in errors.items()}
    assert slopes["centred"] == pytest.approx(1.0, abs=0.1)
    assert slopes["naive"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rule", [GradientDescent(h), Nesterov(h**2, 3), NesterovConstant(h**2, 1 - h)])
def test_where_no_better_map_exists_the_obstacle_is_named(rule):
    (naive,) = correspondences(rule, h)
    assert naive.order == 1
    assert "holds" in naive.reason
    assert "X" in naive.reason


# --- time scales ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "power"),
    [
        (GradientDescent(0.1), 1),
        (HeavyBall(0.1, 0.9), 1),
        (Nesterov(0.1, 3), sympy.Rational(1, 2)),
        (HeavyBall(mu, 1 - b * root), sympy.Rational(1, 2)),
        (
            HigherMomentum(mu, (1 - sympy.Rational(1, 3) - b * root, sympy.Rational(1, 3))),
            sympy.Rational(1, 2),
        ),
        (
            HigherMomentum(mu, (2 - 3 * mu ** sympy.Rational(1, 3), -1 + 3 * mu ** sympy.Rational(1, 3))),
            sympy.Rational(1, 3),
        ),
    ],
)
def test_time_scale_by_dominant_balance(rule, power):
    scale = time_scale(rule)
    assert scale.power == power
    assert "grad f" in scale.balance
    assert all("is larger" in rejected.reason for rejected in scale.rejected)


def test_adagrad_lives_on_the_square_of_its_learning_rate():
    limit = ode_limit(AdaGrad(0.1, 0))
    assert limit.scale == 2
    assert limit.time_step == pytest.approx(0.01)


# --- adaptive methods ---------------------------------------------------------------------------------------

a = sympy.Symbol("a", positive=True)
SYSTEMS = {
    # THEORY 3.1
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

    from odeopt.limits.integrate import _AdaptiveSystem

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
            system = _AdaptiveSystem(limit, list(limit.averages), f.differential)
            path = solve_ivp(system, (1.0, np.sqrt(2.0)), states[n], rtol=1e-11, atol=1e-12, method="DOP853")
            found.append(np.abs(path.y[:3, -1] - x).max())
    for resolution, found in errors.items():
        slope = -np.polyfit(np.log(steps), np.log(found), 1)[0]
        assert slope == pytest.approx(resolution + 1, abs=0.1)


def test_adaptive_errors_do_not_close_in_prediction_space():
    dynamics = error_dynamics(ode_limit(RMSProp(h, 0.9, kappa), h))
    assert not dynamics.is_closed
    assert str(dynamics) == "Delta' = -J D^-1 J' Delta, D = kappa + Abs(grad f(X)); not closed in (Delta, H)"
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


# --- modes of the corrected equations ----------------------------------------------------------------------


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


# --- speed and refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", derivable_rules(), ids=rule_id)
def test_every_built_in_rule_is_derived_in_time(rule):
    ode_limit(GradientDescent(0.5), resolution=1)  # warm sympy
    for resolution, seconds in ((0, 0.5), (1, 2.0)):
        start = time.process_time()  # other processes may share the core
        ode_limit(rule, resolution=resolution)
        assert time.process_time() - start < seconds


@dataclass(frozen=True)
class TwoGradients(UpdateRule):
    lr: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + (x - x_prev) * (1 - b * h) - self.lr * (grad(x) + grad(x_prev)) / 2, memory


@dataclass(frozen=True)
class TwoGradientsDeclared(TwoGradients):
    gradients = 2


def test_a_second_gradient_is_refused_unless_declared():
    with pytest.raises(ValueError, match=r"gradients at 2 points, .*declare gradients = 2"):
        ode_limit(TwoGradients(h**2), h)
    limit = ode_limit(TwoGradientsDeclared(h**2), h, resolution=1)
    assert limit.terms[D(V)] == -h / 2  # grad at t - h/2 on average


@dataclass(frozen=True)
class Kinked(UpdateRule):
    lr: object
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + sympy.sqrt(h) * (x - x_prev) - self.lr * grad(x), memory


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Kinked(h), ["no Taylor series in h", "h**(3/2)"]),
        (HeavyBall(h**2, 1 + b * h), ["friction", "negative"]),
        (HigherMomentum(h, (2, -sympy.Rational(1, 2))), ["friction", "momentum above 1"]),
        (HigherMomentum(h**2, (2, -sympy.Rational(1, 2))), ["dropped out"]),
    ],
)
def test_what_has_no_limit_is_refused_with_what_was_found(rule, words):
    with pytest.raises(ValueError) as error:
        ode_limit(rule, h)
    for word in words:
        assert word in str(error.value)


def test_corrections_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="fast or accumulating"):
        ode_limit(AdaGrad(0.1), resolution=1)
    with pytest.raises(ValueError, match="not a gradient flow"):
        _ = ode_limit(HeavyBall(h**2, 1 - b * h), h).modified_loss
