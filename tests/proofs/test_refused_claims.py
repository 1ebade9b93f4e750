"""Bad input, and trouble of the solver: refused in the words of the package."""

import dataclasses

import numpy as np
import pytest
import sympy
from sympy import Integer

from odeopt import (
    Adam,
    GradientDescent,
    HeavyBall,
    certify,
    ode_limit,
)
from odeopt.proofs import NoCertificateError, UnsolvedError, lmi
from odeopt.proofs import flow as names
from odeopt.proofs.flow import Flow
from odeopt.proofs.functions import quadratic
from odeopt.proofs.lmi import Answer

# Bad input, and trouble of the solver


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mu": 0}, ["mu must be positive", "0", "leave mu out"]),
        ({"mu": -1.5}, ["mu must be positive", "-1.5"]),
        ({"mu": 2, "L": 1}, ["L must be at least mu", "mu = 2", "L = 1"]),
        ({"mu": 1, "L": float("nan")}, ["L must be a finite number", "nan"]),
        ({"mu": "1"}, ["mu must be a finite number", "'1'"]),
        ({"mu": True}, ["mu must be a finite number", "True"]),
        ({"mu": 1, "rate": -1}, ["rate must be positive", "-1"]),
        ({"mu": 1, "solver": "scs"}, ["solver must be one of", "scs"]),
        ({}, ["mu must be given"]),
    ],
)
def test_bad_numbers(arguments, words):
    with pytest.raises(ValueError) as refused:
        certify(Flow((Integer(2),)), **arguments)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Flow((Integer(0),)), ["friction must be positive", "b = 0"]),
        (Flow((Integer(-1),)), ["friction must be positive", "b = -1"]),
        (Flow((Integer(2),), force=Integer(-1)), ["grad f must be positive", "-1"]),
        (Flow((Integer(2),), hessian=Integer(-1)), ["Hessian damping", "-1"]),
        (Flow((sympy.Symbol("b"),)), ["symbols b", "odeopt.proofs.families"]),
        (Flow((names.time,)), ["constant or r/t"]),
        (Flow((Integer(6), Integer(5))), ["Routh-Hurwitz", "30", "L must be given"]),
        ("heavy ball", ["str", "linear-damping"]),
    ],
)
def test_bad_flows(problem, words):
    with pytest.raises(ValueError) as refused:
        certify(problem, mu=1)
    assert all(word in str(refused.value) for word in words), refused.value


def test_unstable_third_order_names_routh_and_hurwitz():
    with pytest.raises(ValueError, match=r"Routh-Hurwitz.*lam < b_1 b_2 / gamma = 30, got L = 31"):
        certify(Flow((Integer(6), Integer(5))), mu=1, L=31)


def test_nonlinear_limits_are_refused():
    with pytest.raises(ValueError, match="systems of adaptive methods are nonlinear"):
        certify(ode_limit(Adam(lr=0.01)), mu=1)
    with pytest.raises(ValueError, match=r"no linear-damping flow: it holds grad\^2 f"):
        certify(ode_limit(GradientDescent(lr=0.1), resolution=1), mu=1)


def test_solver_trouble_is_unsolved(monkeypatch):
    def trouble(*_, **__):
        return Answer("unsolved", message="lost its way")

    monkeypatch.setitem(lmi.SOLVERS, "newton", trouble)
    flow = Flow((Integer(2),))
    with pytest.raises(UnsolvedError, match="lost its way"):
        certify(flow, mu=1, L=10)
    with pytest.raises(UnsolvedError, match="lost its way"):
        certify(flow, mu=1, L=10, rate=1)


def test_no_certificate_at_any_rate(monkeypatch):
    monkeypatch.setitem(lmi.SOLVERS, "newton", lambda *_, **__: Answer("infeasible"))
    with pytest.raises(NoCertificateError, match="has no certificate"):
        certify(Flow((Integer(2),)), mu=1, L=10)


def test_a_wrong_answer_of_the_solver_is_never_a_rate(monkeypatch):
    def liar(F0, F, start=None, *, centre=False):
        return Answer("feasible", np.full(len(F), 0.3), 1.0)

    monkeypatch.setitem(lmi.SOLVERS, "newton", liar)
    with pytest.raises(UnsolvedError, match="no rounding of it verified"):
        certify(Flow((Integer(2),)), mu=1, L=10)


@pytest.mark.parametrize("friction", [1, 2, 3])
def test_one_curvature_is_certified_at_the_rate_of_its_mode(friction):
    proof = certify(Flow((sympy.Integer(friction),)), mu=1, L=1)
    root = sympy.sqrt(friction**2 - 4)
    assert proof.verify()
    assert sympy.simplify(proof.rate - (friction - sympy.re(root))) == 0


def test_one_curvature_is_named_where_it_has_no_certificate():
    with pytest.raises(ValueError, match="L = mu = 1 leaves the one function"):
        certify(Flow((sympy.Integer(6), sympy.Integer(5))), mu=1, L=1)
    with pytest.raises(ValueError, match="with L = mu the one function"):
        certify(GradientDescent(0.4), mu=1, L=1)
    one = quadratic(Integer(1), Integer(1))
    one = dataclasses.replace(certify(GradientDescent(0.4), mu=1, L=4), function_class=one)
    reasons = {check.claim: check.reason for check in one.checks() if not check.holds}
    assert "divides by L - mu = 0" in reasons["inequalities"]


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_constants_of_any_size_are_certified_or_refused_for_their_size(size):
    proof = certify(GradientDescent(0.4 / size), mu=size, L=4 * size)
    assert proof.verify()
    assert f"F({size:g}, {4 * size:g})" in str(proof)
    with pytest.raises(ValueError, match="mu and L must lie between"):
        certify(HeavyBall(0.1 / size, 0.3), mu=size, L=4 * size)
    with pytest.raises(ValueError, match="mu and L must lie between"):
        certify(HeavyBall(0.1, 0.3), mu=sympy.Integer(10) ** 400, L=sympy.Integer(10) ** 401)


def test_a_tiny_rate_is_printed_with_its_own_digits():
    proof = certify(Flow((sympy.Integer(2),)), mu=sympy.Rational(1, 10**200))
    # 2 mu / b, up to a share of mu
    assert "exp(-(1e-200) t)" in str(proof)
    assert proof.to_rate().value == pytest.approx(1e-200, rel=1e-15)
