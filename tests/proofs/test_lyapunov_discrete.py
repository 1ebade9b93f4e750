"""Certificates of the methods themselves, witnesses of tightness, and the exact arithmetic below them all."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy import Integer, Rational, sqrt

from odeopt import (
    Certificate,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TripleMomentum,
    UpdateRule,
    certify,
)
from odeopt.proofs import NoCertificateError, families, witness
from odeopt.proofs.certify_iteration import certify_iteration
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import (
    is_positive_semidefinite,
    is_zero,
    number_sign,
    proves_nonnegative,
)
from odeopt.proofs.families import vanishing as families_vanishing
from odeopt.proofs.flow import Flow
from odeopt.proofs.lmi import feasibility, feasibility_by_clarabel

# Iterations


@pytest.mark.parametrize("L", [4, 25, 100])
def test_gradient_descent_has_its_classical_factor(L):
    for lr in (1 / L, 2 / (1 + L), 1.5 / L):
        certificate = certify(GradientDescent(lr=lr), mu=1, L=L)
        true = max(abs(1 - lr), abs(1 - lr * L)) ** 2
        # exact, but for the rounding of the closed form itself
        assert float(certificate.rate) == pytest.approx(true, rel=1e-14)
        assert certificate.verify()


@pytest.mark.parametrize("L", [4, 25, 100])
def test_triple_momentum_has_the_factor_of_its_theorem(L):
    certificate = certify(TripleMomentum.tuned(1, L), mu=1, L=L)
    assert 0 <= float(certificate.rate) - (1 - 1 / np.sqrt(L)) ** 2 <= 2e-6
    assert certificate.verify()


@pytest.mark.parametrize("L", [4, 25, 100])
def test_nesterov_is_at_least_as_fast_as_the_classical_bound(L):
    k = np.sqrt(L)
    certificate = certify(NesterovConstant(lr=1 / L, momentum=(k - 1) / (k + 1)), mu=1, L=L)
    assert certificate.verify()
    assert (1 - 1 / k) ** 2 <= float(certificate.rate) <= 1 - 1 / k
    assert certificate.to_rate().unit == "iteration"


def test_heavy_ball_tuned_for_quadratics_has_none_on_all_functions():
    # with this tuning it is known to cycle on some function of the class
    with pytest.raises(NoCertificateError, match="no certificate"):
        certify(HeavyBall(lr=4 / 36, momentum=(4 / 6) ** 2), mu=1, L=25)


def test_heavy_ball_with_little_momentum():
    certificate = certify(HeavyBall(lr=0.1, momentum=0.3), mu=1, L=4)
    assert certificate.verify()
    again = Certificate.from_json(certificate.to_json())
    assert again.verify()
    assert "x_{k+1}" in certificate.latex()


def test_factor_as_asked():
    rule = GradientDescent(lr=0.4)
    assert certify_iteration(rule, 1, 4, factor=0.5).rate == Rational(1, 2)
    assert certify_iteration(rule, 1, 4, factor=0.5).verify()
    with pytest.raises(NoCertificateError, match=r"factor = 0\.35 .* the best is 0\.36"):
        certify_iteration(rule, 1, 4, factor=0.35)


@pytest.mark.parametrize(
    ("rule", "arguments", "words"),
    [
        (GradientDescent(lr=0.6), {"mu": 1, "L": 4}, ["unstable", "lower lr"]),
        (GradientDescent(lr=0.1), {"mu": 1}, ["need mu and L"]),
        (GradientDescent(lr=0.1), {"mu": 1, "L": 1}, ["0 < mu < L"]),
        (Nesterov(lr=0.1), {"mu": 1, "L": 4}, ["Nesterov", "TripleMomentum"]),
        (GradientDescent(lr=sympy.Symbol("s")), {"mu": 1, "L": 4}, ["holds symbols"]),
    ],
)
def test_bad_iterations(rule, arguments, words):
    with pytest.raises(ValueError) as refused:
        certify(rule, **arguments)
    assert all(word in str(refused.value) for word in words), refused.value


@dataclass(frozen=True)
class Trailing(UpdateRule):
    """Gradient descent y, of which x follows the steps with an error that is multiplied by `kept`."""

    lr: Rational
    kept: Rational

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (y,) = iterates, memory
        g = grad(y)
        y_next = y - self.lr * g
        return y_next + self.kept * (x - y) - self.lr * g, (y_next,)


def test_a_mode_that_no_gradient_sees_is_no_part_of_a_factor():
    # y falls by 1 - 1/10 a step, and so do the squares of its factor 81/100; x does if `kept` is below 9/10
    lr = Rational(1, 10)
    assert certify(Trailing(lr, Rational(4, 5)), mu=1, L=10).rate == Rational(81, 100)
    for kept in (Rational(9, 10), Rational(99, 100), Integer(2)):
        with pytest.raises(ValueError, match=f"in addition a mode with the root {float(kept):.6g}"):
            certify(Trailing(lr, kept), mu=1, L=10)


# Witnesses: certified <= true <= measured

# Relative error of the integration, of which V takes a few units.
INTEGRATION = 1e-9

TIGHT = {
    "gradient flow": (families.gradient_flow(mu=2), 1e-9),
    "b = 1": (families.heavy_ball(b=1, mu=1), 1e-4),
    "b = 1.5": (families.heavy_ball(b=1.5, mu=1), 1e-4),
    "b = 2": (families.heavy_ball(b=2, mu=1), 1e-4),
    "b = 3": (families.heavy_ball(b=3, mu=1), 1e-6),
    "b = 4": (families.heavy_ball(b=4, mu=1), 1e-6),
    "b = 3 smooth": (certify(Flow((Integer(3),)), mu=1, L=10), 1e-6),
    "quadratic b = 1": (families.heavy_ball_quadratic(b=1, mu=1), 1e-6),
    "quadratic b = 3": (families.heavy_ball_quadratic(b=3, mu=1), 1e-6),
    "quadratic r = 1": (families_vanishing.nesterov_quadratic(r=1, mu=1), 1e-3),
    "quadratic r = 3": (families_vanishing.nesterov_quadratic(r=3, mu=1), 1e-3),
    "r = 2": (families_vanishing.nesterov_strongly_convex(r=2, mu=1), 1e-3),
    "r = 3": (families_vanishing.nesterov_strongly_convex(r=3, mu=1), 1e-3),
    "r = 6": (families_vanishing.nesterov_strongly_convex(r=6, mu=1), 1e-3),
    # |x|^p has the power 2p/(p - 2) or p/(p - 2), here with p = 40
    "convex r = 3": (families_vanishing.nesterov_convex(r=3), 0.06),
    "convex flow": (families.gradient_flow_convex(), 0.06),
    "gradient descent": (certify(GradientDescent(lr=0.4), mu=1, L=4), 1e-5),
    "triple momentum": (certify(TripleMomentum.tuned(1, 4), mu=1, L=4), 1e-5),
}


# Witnesses that take seconds; those of frictions beside them are near.
LONG = ("b = 1", "b = 1.5", "r = 6")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in TIGHT]
)
def test_certified_rate_is_approached_from_above(name):
    certificate, distance = TIGHT[name]
    found = witness(certificate)
    assert found.certified * (1 - INTEGRATION) <= found.measured <= found.certified * (1 + distance)


def test_witness_needs_numbers():
    with pytest.raises(ValueError, match="a witness needs numbers"):
        witness(families.heavy_ball())
    with pytest.raises(ValueError, match="order one and two"):
        witness(certify(Flow((Integer(6), Integer(5))), mu=1, L=2))


# Exact arithmetic

rationals = st.fractions(max_denominator=50)


@given(rationals, rationals, st.integers(2, 30))
def test_sign_in_a_quadratic_field(p, q, d):
    value = Rational(p.numerator, p.denominator) + Rational(q.numerator, q.denominator) * sqrt(d)
    assert number_sign(value) == np.sign(sympy.N(value, 60))


def test_signs_far_below_double_precision():
    tiny = sqrt(2) - Rational(sympy.Integer(sympy.floor(sqrt(2) * 10**40)), 10**40)
    assert number_sign(tiny) == 1
    assert number_sign(sqrt(2) + sqrt(3) - sqrt(5 + 2 * sqrt(6))) == 0
    assert number_sign(sqrt(2) + sqrt(3) - sqrt(5 + 2 * sqrt(6)) - Rational(1, 10**30)) == -1
    assert is_zero(sqrt(8) - 2 * sqrt(2))
    with pytest.raises(ValueError, match="algebraic"):
        number_sign(sympy.pi - 3)


@given(st.lists(rationals, min_size=6, max_size=6))
def test_definiteness_by_elimination_agrees_with_minors(numbers):
    a, b, c, d, e, f = (Rational(q.numerator, q.denominator) for q in numbers)
    root = sympy.Matrix([[a, 0], [b, c], [d, e]])
    gram = root * root.T  # singular
    assert is_positive_semidefinite(gram)
    assert not is_positive_semidefinite(gram - Rational(1, 10**30) * sympy.eye(3))
    shifted = gram + sympy.diag(f, f, 0)
    minors = [
        shifted.extract(rows, rows).det() for rows in ([0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2])
    ]
    assert is_positive_semidefinite(shifted) == all(minor >= 0 for minor in minors)


def test_zero_pivot_needs_a_zero_row():
    assert not is_positive_semidefinite(sympy.Matrix([[0, 1], [1, 10**9]]))
    assert is_positive_semidefinite(sympy.Matrix([[0, 0], [0, 1]]))
    assert not is_positive_semidefinite(sympy.Matrix([[1, 2], [3, 4]]))
    assert is_positive_semidefinite(sympy.Matrix([[2, sqrt(2)], [sqrt(2), 1]]))


def test_nonnegativity_on_domains():
    a, b, u = sympy.symbols("a b u", real=True)
    assert proves_nonnegative(a**2)
    assert not proves_nonnegative(a)
    assert proves_nonnegative(u**2 - 2, [Bound(u, sqrt(2))])
    assert not proves_nonnegative(u**2 - 2, [Bound(u, Rational(1414213, 1000000))])
    assert proves_nonnegative((u - 1) * (2 - u), [Bound(u, Integer(1), Integer(2))])
    assert proves_nonnegative(2 - u, [Bound(u, None, Integer(2))])
    # decided by counting roots: the coefficients have both signs
    assert proves_nonnegative(u**2 - u + 1, [Bound(u)])
    assert proves_nonnegative((u - 1) ** 2, [Bound(u)])
    assert not proves_nonnegative((u - 1) ** 3, [Bound(u)])
    assert not proves_nonnegative(a - b, [Bound(a), Bound(b)])
    assert not proves_nonnegative(1 / a, [Bound(b)])


# The solver of LMIs


def test_solvers_agree(rng):
    pytest.importorskip("cvxpy")
    seen = set()
    for _ in range(20):
        basis = rng.standard_normal((3, 4, 4))
        F = basis + basis.transpose(0, 2, 1)
        F0 = rng.standard_normal((4, 4))
        F0 = F0 + F0.T + rng.uniform(-2, 4) * np.eye(4)
        ours, theirs = feasibility(F0, F), feasibility_by_clarabel(F0, F)
        assert ours.status == theirs.status
        seen.add(ours.status)
        if ours.status == "feasible":
            assert np.linalg.eigvalsh(F0 + np.tensordot(ours.point, F, 1))[0] > 0
    assert seen == {"feasible", "infeasible"}
