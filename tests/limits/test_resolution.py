"""Corrections of the limits: the literature's equations re-derived, each confirmed by its observed order."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest
import sympy
from nonlinear import LogCosh

from odeopt import (
    QHM,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    UpdateRule,
    ode_limit,
)
from odeopt.limits import integrate_limit
from odeopt.limits.series import GradientDifferential
from odeopt.rules import AdaGrad
from odeopt.rules.base import iterate

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
    # Shi-Du-Jordan-Su (1.10)-(1.12); velocities are those of x_{-1} = x_0
    "SDJS heavy ball": (HeavyBall(h**2, SC), 1, {A: 1, V: 2 * root, G: 1 + root * h}, -h * G / 2),
    "SDJS NAG-SC": (
        NesterovConstant(h**2, SC),
        1,
        {A: 1, V: 2 * root, G: 1 + root * h, D(V): h},
        -h * G / 2,
    ),
    "SDJS NAG-C": (Nesterov(h**2, 3), 1, {A: 1, V: 3 / T, G: 1 + 3 * h / (2 * T), D(V): h}, -h * G / 2),
    "NAG-C, any r": (Nesterov(h**2, r), 1, {A: 1, V: r / T, G: 1 + r * h / (2 * T), D(V): h}, -h * G / 2),
    # first-order form
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
    """t = k / sqrt(L), L -> oo: x'' + 3 sqrt(mu) x' + 2 grad f = 0."""
    rho = 1 - root * h  # kappa^(-1/2) = sqrt(mu) h with h = L^(-1/2)
    rule = TripleMomentum(
        (1 + rho) * h**2, rho**2 / (2 - rho), rho**2 / ((1 + rho) * (2 - rho)), rho**2 / (1 - rho**2)
    )
    limit = ode_limit(rule, h)
    assert dict(limit.terms) == {A: 1, V: 3 * root, G: 2}


def test_modified_equation_in_the_form_of_the_literature():
    """eta alpha x'' + (1 - beta) x' + grad f = 0, with Hessian terms traded for x''."""
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
    [
        pytest.param(family, q, marks=() if q == top else pytest.mark.slow)
        for family, top in ORDERS
        for q in range(top + 1)
    ],
    ids=lambda v: v.label[:40] if isinstance(v, UpdateRule) else str(v),
)
def test_each_correction_gains_an_order(family, resolution):
    # the initial layer of a fixed momentum, and r/t near 0, need smaller steps before the order shows
    late = isinstance(family, Nesterov) or "momentum=0.3" in family.label
    steps = (256, 512, 1024) if late else (64, 128, 256)
    assert observed_order(family, resolution, steps=steps) == pytest.approx(resolution + 1, abs=0.1)


def test_without_the_time_origin_the_correction_gains_nothing():
    """With t = k sqrt(s) the corrected equation is only first order."""
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


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_an_invented_method_is_derived_and_confirmed(seed):
    rng = np.random.default_rng(seed)
    q, s, friction = (
        sympy.Rational(int(v * 100), 100) for v in rng.uniform([0.1, 0.1, 0.5], [0.3, 0.8, 1.5])
    )
    family = Invented(lr=h**2, p=1 - q / 2 - friction * h, q=q, s=s)  # the momenta sum to 1 - friction h
    limit = ode_limit(family, h)
    assert limit.order == 2
    for resolution in (0, 2):
        order = observed_order(family, resolution, steps=(128, 256, 512))
        assert order == pytest.approx(resolution + 1, abs=0.1)


# --- refusals ---------------------------------------------------------------------------------------------


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
        (Kinked(h), ["no Taylor series in h", "sqrt(h)"]),
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
    with pytest.raises(ValueError, match="forgets at once, or adds up"):
        ode_limit(AdaGrad(0.1), resolution=1)
    with pytest.raises(ValueError, match="not a gradient flow"):
        _ = ode_limit(HeavyBall(h**2, 1 - b * h), h).modified_loss
