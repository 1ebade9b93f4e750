"""Certificates: the table of best rates, families for symbols, other flows, random problems."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
import sympy
from sympy import Integer, Rational, sqrt

from odeopt import (
    Certificate,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    certify,
    error_dynamics,
    exact_rate,
    ode_limit,
)
from odeopt.proofs import NoCertificateError, families
from odeopt.proofs import flow as names
from odeopt.proofs.families import vanishing as families_vanishing
from odeopt.proofs.flow import Flow
from odeopt.proofs.functions import strongly_convex

h = sympy.Symbol("h", positive=True)


def heavy_ball_limit(b):
    return ode_limit(HeavyBall(h**2, 1 - b * h), h)


# The table of best certified rates, mu = 1

FRICTIONS = {"1": Integer(1), "3/2": Rational(3, 2), "2": Integer(2), "3/sqrt2": 3 / sqrt(2)}
FRICTIONS |= {"5/2": Rational(5, 2), "3": Integer(3), "4": Integer(4)}


def best_rate(b, L):
    """Closed forms: min(2b/3, b - sqrt(b^2 - 4)) without L; with L the root of an equation below that."""
    b = float(b)
    slow = b if b <= 2 else b - np.sqrt(b**2 - 4)
    if L is None:
        return min(2 * b / 3, slow)
    if b >= 3 / np.sqrt(2) - 1e-12:
        return slow

    def equation(c):
        left = L * (3 * c - 2 * b) + 2 * b - c - b * c * (b - c)
        return left - 2 * c * np.sqrt(L * (1 - b * c + c**2))

    return scipy.optimize.brentq(equation, 2 * b / 3, slow, xtol=1e-14)


@pytest.mark.parametrize("L", [None, 2, 10, 100])
@pytest.mark.parametrize("b", FRICTIONS)
def test_table_is_reproduced_from_below_and_verified(b, L):
    certificate = certify(heavy_ball_limit(FRICTIONS[b]), mu=1, L=L)
    true = best_rate(FRICTIONS[b], L)
    # never above but for the rounding of the closed form itself
    assert -1e-13 <= true - float(certificate.rate) <= 1e-5
    assert certificate.search.gap <= 1e-6
    assert certificate.verify()
    # what is above the optimum is not proved, whatever is asked
    with pytest.raises(NoCertificateError, match="the best is"):
        certify(heavy_ball_limit(FRICTIONS[b]), mu=1, L=L, rate=1.01 * true)


def test_table_of_six_digits():
    published = {("1", 2): 0.909063, ("1", 10): 0.781866, ("1", 100): 0.704861, ("3/2", 2): 1.329138}
    published |= {("3/2", 10): 1.144245, ("3/2", 100): 1.046426, ("2", 2): 1.596011, ("2", 10): 1.432595}
    published |= {("2", 100): 1.363357}
    for (b, L), value in published.items():
        assert best_rate(FRICTIONS[b], L) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(("mu", "L", "b"), [(1e-4, 1.0, 0.02), (300, 2000, 25), (0.37, 5.1, 1.05)])
def test_units_do_not_matter(mu, L, b):
    certificate = certify(heavy_ball_limit(Rational(str(b))), mu=mu, L=L)
    true = np.sqrt(mu) * best_rate(b / np.sqrt(mu), L / mu)
    assert 0 <= true - float(certificate.rate) <= 1e-5 * np.sqrt(mu)
    assert certificate.verify()


SYMBOLIC = {
    "gradient flow": families.gradient_flow,
    "gradient flow, convex": families.gradient_flow_convex,
    "heavy ball": families.heavy_ball,
    "classical": families.heavy_ball_classical,
    "four thirds": lambda: families.heavy_ball_classical("fastest"),
    "quadratics": families.heavy_ball_quadratic,
    "quadratics, overdamped": lambda: families.heavy_ball_quadratic(overdamped=True),
    "smooth": families.heavy_ball_smooth,
    "Nesterov, convex": families_vanishing.nesterov_convex,
    "Nesterov, r <= 3": families_vanishing.nesterov_strongly_convex,
    "Nesterov, r >= 3": lambda: families_vanishing.nesterov_strongly_convex(above_three=True),
    "Nesterov, quadratics, r <= 2": families_vanishing.nesterov_quadratic,
    "Nesterov, quadratics, r > 2": lambda: families_vanishing.nesterov_quadratic(above_two=True),
    "Nesterov, smooth, p < 2": families_vanishing.nesterov_smooth,
    "Nesterov, smooth, p > 2": lambda: families_vanishing.nesterov_smooth(above_two=True),
    "Nesterov, Hessian damping": families_vanishing.nesterov_hessian,
    "any damping": families_vanishing.any_damping,
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_family_is_verified_for_symbols_and_after_a_journey_as_json(name):
    certificate = SYMBOLIC[name]()
    assert [check for check in certificate.checks() if not check.holds] == []
    assert certificate.domain or name == "gradient flow, convex"
    again = Certificate.from_json(certificate.to_json())
    assert again.verify()
    assert again.function_class == certificate.function_class
    assert again.domain == certificate.domain


def test_smooth_family_has_the_rate_of_the_closed_form():
    c = sympy.Symbol("c", real=True)
    certificate = families.heavy_ball_smooth()
    k = (2 * c**2 - 5 * c + 4) / (3 * c - 4)
    assert sympy.simplify(certificate.function_class.L / certificate.function_class.mu - k**2) == 0
    for value in (1.35, 1.5, 1.9):
        at = float(k.subs(c, value))
        assert (5 + 3 * at - np.sqrt((at - 1) * (9 * at + 7))) / 4 == pytest.approx(value, abs=1e-12)


def test_exact_rational_vector():
    certificate = families.heavy_ball_smooth(1, Rational(3, 2))
    x, v, f = names.x, names.v, names.f
    assert certificate.function_class == strongly_convex(Integer(1), Integer(4))
    assert (
        sympy.expand(certificate.energy - (f + x**2 / 2 + Rational(3, 2) * x * v + Rational(5, 8) * v**2))
        == 0
    )
    linear = names.g + v / 2 - x
    z = sympy.Matrix(certificate.vectors)
    assert sympy.expand((z.T * certificate.remainder * z)[0] + linear**2 / 4) == 0


# The other flows


@pytest.mark.parametrize("mu", [0.5, 1, 3])
def test_gradient_flow(mu):
    certificate = certify(ode_limit(GradientDescent(lr=0.1)), mu=mu, L=7)
    assert certificate.rate == 2 * Rational(str(mu))
    assert certificate.verify()
    assert certify(ode_limit(GradientDescent(lr=0.1))).law == "power"


@pytest.mark.parametrize("r", [1, 2.5, 3, 6])
def test_friction_that_vanishes(r):
    limit = ode_limit(Nesterov(lr=0.01, r=r))
    strongly = certify(limit, mu=2)
    assert strongly.rate == 2 * Rational(str(r)) / 3
    smooth = certify(limit, mu=2, L=9)
    assert strongly.rate < smooth.rate < r
    assert smooth.search.gap <= 1e-6
    assert smooth.verify()
    on_convex = certify(limit)
    assert on_convex.rate == min(Integer(2), 2 * Rational(str(r)) / 3) if r < 3 else 2
    on_quadratics = certify(error_dynamics(limit), mu=2)
    assert on_quadratics.rate == Rational(str(r))
    assert strongly.verify() and on_convex.verify() and on_quadratics.verify()
    assert certify(limit, mu=2, rate=0.1).verify()


@pytest.mark.parametrize(("b", "beta", "L"), [(2, 0.1, None), (2, 0.1, 10), (1, 0.5, 100), (3, 0.1, 5)])
def test_hessian_damping(b, beta, L):
    flow = Flow((Integer(b),), hessian=Rational(str(beta)))
    certificate = certify(flow, mu=1, L=L)
    assert certificate.verify()
    assert certificate.search.gap <= 1e-6
    plain = certify(Flow((Integer(b),)), mu=1, L=L)
    # more damping of the stiff directions: faster below the critical friction, not beyond it
    assert (certificate.rate > plain.rate) == (b < 3)


@pytest.mark.parametrize(("r", "mu", "L"), [(1, 1, 4), (3, 1, 9), (2.5, 0.3, 7), (6, 1, 100)])
def test_power_of_vanishing_friction_on_smooth_functions(r, mu, L):
    certificate = certify(ode_limit(Nesterov(lr=0.01, r=r)), mu=mu, L=L)
    k = np.sqrt(L / mu)
    best = 2 * r * (k + 1) / (3 * k + 1)
    assert best - 1e-9 * r <= float(certificate.rate) <= best + 1e-15 * r
    assert certificate.verify() and Certificate.from_json(certificate.to_json()).verify()
    # a millionth more is beyond what the multiplier of A(*,x) can pay for
    beyond = certificate.rate + Rational(1, 10**6)
    assert not dataclasses.replace(certificate, rate=beyond).verify()
    assert certificate.weaken(Rational(1, 2)).verify()


def test_power_on_smooth_functions_is_the_limit_of_small_friction():
    # the best rate of heavy ball over its friction is p/r - O(b^2): halving b gains a factor 4
    k = np.sqrt(10)
    gaps = [
        2 * (k + 1) / (3 * k + 1) - float(certify(Flow((b,)), mu=1, L=10).rate / b)
        for b in (Rational(1, 5), Rational(1, 10))
    ]
    assert np.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.1)


def test_friction_that_vanishes_with_hessian_damping():
    flow = Flow((Rational(4) / names.time,), force=Integer(3), hessian=Rational(1, 10))
    certificate = certify(flow, L=5)
    assert certificate.verify()
    assert certificate.rate == 2
    assert certify(flow, rate=1).verify()
    with pytest.raises(ValueError, match=r"for r > 3, got mu = 1, r = 4"):
        certify(flow, mu=1)


def test_high_resolution_limit_of_nesterov():
    limit = ode_limit(NesterovConstant(lr=0.01, momentum=0.8), resolution=1)
    certificate = certify(limit, mu=1, L=50)
    assert certificate.verify()
    assert float(certificate.rate) <= exact_rate(error_dynamics(limit), 1.0, 50.0).value


@pytest.mark.parametrize(("friction", "L"), [((6, 5), 2), ((6, 5), 10), ((20, 9), 10)])
def test_third_order(friction, L):
    flow = Flow(tuple(map(Integer, friction)))
    certificate = certify(flow, mu=1, L=L)
    quadratics = -2 * max(
        np.roots([1, friction[1], friction[0], lam]).real.max() for lam in np.linspace(1, L, 400)
    )
    assert 0 < float(certificate.rate) <= quadratics
    assert certificate.verify()
    # here even the non-quadratic functions are as fast
    assert L == 10 or float(certificate.rate) == pytest.approx(quadratics, abs=1e-6)


def test_third_order_from_a_method():
    limit = ode_limit(HigherMomentum(lr=1e-6, momenta=(1.95, -0.9506)), regime="inertial")
    assert certify(limit, mu=1, L=4).verify()


@pytest.mark.parametrize("b", [1, 2, 3])
def test_quadratics_have_their_exact_rate(b):
    dynamics = error_dynamics(heavy_ball_limit(Integer(b)))
    certificate = certify(dynamics, mu=1)
    assert certificate.verify()
    assert certificate.function_class.kind == "quadratic"
    assert float(certificate.rate) == pytest.approx(exact_rate(dynamics, 1.0).value, rel=1e-14)
    assert certificate.to_rate().kind == "certified"


def test_weaker_rate_is_proved_exactly_as_asked():
    limit = heavy_ball_limit(Integer(2))
    for L, rate in ((None, 1), (10, 1.4), (10, Rational(7, 5)), (10, 0.5)):
        certificate = certify(limit, mu=1, L=L, rate=rate)
        assert certificate.rate == Rational(str(rate))
        assert certificate.verify()


def test_second_opinion_of_clarabel():
    pytest.importorskip("cvxpy")
    ours = certify(heavy_ball_limit(Integer(2)), mu=1, L=10)
    theirs = certify(heavy_ball_limit(Integer(2)), mu=1, L=10, solver="clarabel")
    assert theirs.verify()
    assert float(theirs.rate) == pytest.approx(float(ours.rate), abs=1e-5)
    assert theirs.search.optimum >= float(ours.rate)


# What V says of f


@pytest.mark.parametrize(("b", "L"), [(1, None), (2, None), (2, 10), (3, 10)])
def test_value_constant_is_the_best_of_the_form(b, L):
    certificate = certify(Flow((Integer(b),)), mu=1, L=L)
    constant = certificate.value_constant()
    assert constant > 0
    # V - constant * f is nonnegative, and with a little more it is not, on the worst point of f = mu x^2 / 2
    x, v = names.x, names.v
    on_quadratic = certificate.energy.subs(names.f, x**2 / 2)
    for factor, holds in ((1, True), (Rational(101, 100), False)):
        form = sympy.hessian(on_quadratic - factor * constant * x**2 / 2, (x, v))
        assert (form.det() >= 0) == holds


def test_value_constant_is_zero_where_v_is_degenerate():
    assert families.heavy_ball(b=3 / sqrt(2), mu=1).value_constant() == 0
    with pytest.raises(ValueError, match="only for numbers"):
        families.heavy_ball().value_constant()


# Many problems, none of them chosen by hand


@pytest.mark.parametrize("order", [2, 3])
def test_random_flows_are_certified_within_the_gap(rng, order):
    for _ in range(8):
        mu = 10 ** rng.uniform(-4, 3)
        L = mu * 10 ** rng.uniform(0.01, 5 if order == 2 else 1.5)
        unit = mu ** (1 / order)
        friction = [unit * rng.uniform(0.05, 5)]
        if order == 3:  # b_1 b_2 > L, so stable
            friction = [unit**2 * rng.uniform(2, 20)]
            friction.append(L / friction[0] * rng.uniform(1.2, 8))
        flow = Flow(tuple(Rational(repr(round(b, 12))) for b in friction))
        certificate = certify(flow, mu=mu, L=L)
        assert certificate.verify()
        assert certificate.search.gap <= 1e-6 * min(np.sqrt(mu), certificate.search.optimum)
