"""Known proofs: exact rates of the literature, for all parameters, and iterations read from their steps."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy
from sympy import Integer, Rational, sqrt

from odeopt import (
    QHM,
    Certificate,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    UpdateRule,
    certify,
    ode_limit,
)
from odeopt.proofs import NoCertificateError, families
from odeopt.proofs.certify_iteration import iteration_of
from odeopt.proofs.flow import Flow, Iteration

h = sympy.Symbol("h", positive=True)
SYMBOLIC = {
    "gradient descent, short steps": families.gradient_descent,
    "gradient descent, long steps": lambda: families.gradient_descent(long_steps=True),
    "Nesterov, constant": families.nesterov_constant,
    "triple momentum": families.triple_momentum,
    "gradient descent, convex": families.gradient_descent_convex,
    "Nesterov, convex": families.nesterov_descent,
    "heavy ball, force 3": lambda: families.heavy_ball(force=3),
    "heavy ball smooth, force 3": lambda: families.heavy_ball_smooth(force=3),
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_family_is_verified_for_symbols_and_after_a_journey_as_json(name):
    certificate = SYMBOLIC[name]()
    assert [check for check in certificate.checks() if not check.holds] == []
    again = Certificate.from_json(certificate.to_json())
    assert again.verify()
    assert again.evidence is not None and again.evidence.remainder is not None


@pytest.mark.parametrize("lr", [Rational(1, 10), Rational(2, 11), Rational(19, 100), 0.05])
def test_gradient_descent_has_its_exact_factor(lr):
    certificate = certify(GradientDescent(lr=lr), mu=1, L=10)
    exact = Rational(str(lr))
    assert certificate.rate == max(abs(1 - exact), abs(1 - 10 * exact)) ** 2
    assert certificate.verify()
    assert len(certificate.multipliers) <= 3
    with pytest.raises(NoCertificateError, match="the best is"):
        certify(GradientDescent(lr=lr), mu=1, L=10, rate=certificate.rate - Rational(1, 10**9))


@pytest.mark.parametrize("k", [2, 3, Rational(7, 2)])
def test_triple_momentum_has_its_exact_factor(k):
    rho = 1 - Integer(1) / k
    lr, beta = (1 + rho) / k**2, rho**2 / (2 - rho)
    rule = TripleMomentum(
        lr=lr, beta=beta, gamma=rho**2 / ((1 + rho) * (2 - rho)), delta=rho**2 / (1 - rho**2)
    )
    certificate = certify(rule, mu=1, L=k**2)
    assert certificate.rate == rho**2
    assert certificate.verify()
    assert certify(rule, mu=1, L=k**2, rate=rho).verify()


def test_classical_factor_of_nesterov_is_proved_with_two_multipliers():
    certificate = certify(NesterovConstant(Rational(1, 9), Rational(1, 2)), mu=1, L=9, rate=Rational(2, 3))
    assert certificate.rate == Rational(2, 3)
    assert [m.name for m in certificate.multipliers] == ["A(0,1)", "A(*,1)"]
    assert certificate.verify()
    # without a wish the search finds a better one
    assert certify(NesterovConstant(Rational(1, 9), Rational(1, 2)), mu=1, L=9).rate < Rational(2, 3)


@pytest.mark.parametrize(
    ("L", "rate"), [(4, Rational(3, 2)), (100, (35 - sqrt(873)) / 4), (9, (14 - sqrt(68)) / 4)]
)
def test_heavy_ball_flow_on_smooth_functions(L, rate):
    certificate = certify(ode_limit(HeavyBall(h**2, 1 - 2 * h), h), mu=1, L=L)
    assert sympy.expand(certificate.rate - rate) == 0
    assert certificate.function_class.L == L
    assert certificate.verify()
    scaled = certify(Flow((Integer(6),), force=Integer(3)), mu=3, L=3 * L)
    assert sympy.expand(scaled.rate - 3 * rate) == 0
    assert scaled.verify()


# Iterations are what their steps are


@dataclass(frozen=True)
class MyHeavyBall(UpdateRule):
    lr: float
    momentum: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * grad(x), memory


@dataclass(frozen=True)
class Velocity(UpdateRule):
    """Nesterov's constant momentum through a velocity, its gradient point beside the iterate."""

    lr: float
    momentum: float
    memory = ("v",)

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        v = self.momentum * v - self.lr * grad(x + self.momentum * v)
        return x + v, (v,)


@dataclass(frozen=True)
class Twice(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        y = x - self.lr * grad(x)
        return y - self.lr * grad(y), memory


@dataclass(frozen=True)
class LargeFirst(UpdateRule):
    """Gradient descent whose first step is twice as long."""

    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - (2 * self.lr if k == 0 else self.lr) * grad(x), memory


@dataclass(frozen=True)
class Shrinking(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr / (k + 1) * grad(x), memory


LR, BETA = Rational(1, 10), Rational(1, 2)


@pytest.mark.parametrize(
    ("rule", "iteration"),
    [
        (MyHeavyBall(LR, BETA), Iteration(LR, BETA)),
        (Velocity(LR, BETA), Iteration(LR, BETA, BETA)),
        (TorchSGD(lr=LR, momentum=BETA), Iteration(LR, BETA)),
        (TorchSGD(lr=LR, momentum=BETA, nesterov=True), Iteration(LR, BETA, BETA)),
        (TorchSGD(lr=LR), Iteration(LR)),
        # x+ = x - lr ((1 - nu) g + nu m+): lr (1 - nu beta) / (1 - beta + ...) in the form of one momentum
        (QHM(lr=LR, momentum=BETA, nu=0), Iteration(LR)),
        (QHM(lr=LR, momentum=BETA, nu=1), Iteration(LR * (1 - BETA), BETA)),
    ],
    ids=lambda e: type(e).__name__,
)
def test_the_step_is_read_and_not_the_name(rule, iteration):
    assert iteration_of(rule) == iteration


@pytest.mark.parametrize("nu", [Rational(7, 10), Rational(1, 5)])
def test_quasi_hyperbolic_momentum_has_the_responses_of_its_iteration(nu):
    rule = QHM(lr=LR, momentum=BETA, nu=nu)
    it = iteration_of(rule)
    # eigenvalues of both steps on f = lam x^2 / 2
    for lam in (0.5, 3.0, 8.0):
        lr, beta, v = float(LR), float(BETA), float(nu)
        g = np.array([[lam, 0.0]])
        m = np.array([[0.0, beta]]) + (1 - beta) * g
        own = np.vstack([np.array([[1.0, 0.0]]) - lr * ((1 - v) * g + v * m), m])
        a, b, c = (float(e) for e in (it.lr, it.beta, it.gamma))
        read = np.array([[1 + b - a * lam * (1 + c), -b + a * lam * c], [1.0, 0.0]])
        # rounding of 2 x 2 eigenvalues, doubled where they nearly coincide
        assert np.sort_complex(np.linalg.eigvals(own)) == pytest.approx(
            np.sort_complex(np.linalg.eigvals(read)), abs=1e-7
        )
    certificate = certify(rule, mu=1, L=10)
    assert certificate.verify() and certificate.rate < 1


def test_own_class_has_the_certificate_of_what_it_is():
    own, known = (
        certify(MyHeavyBall(LR, Rational(1, 5)), mu=1, L=10),
        certify(HeavyBall(LR, Rational(1, 5)), mu=1, L=10),
    )
    assert own.verify()
    assert own.rate == known.rate
    assert len(own.multipliers) == 2
    assert max(max(m.value.p, m.value.q) for m in own.multipliers) < 10**5


@pytest.mark.parametrize(
    ("rule", "arguments", "words"),
    [
        (Twice(LR), {"mu": 1, "L": 4}, ["2 gradients", "one gradient a step"]),
        (Nesterov(lr=0.1, r=2), {"L": 4}, ["r >= 3", "Nesterov"]),
        (HeavyBall(LR, BETA), {"L": 4}, ["without mu", "gradient descent", "Nesterov's momentum"]),
        (LargeFirst(LR), {"L": 10}, ["LargeFirst", "from the first on"]),
        (Shrinking(LR), {"L": 10}, ["Shrinking", "one step size"]),
        (Shrinking(LR), {"mu": 1, "L": 10}, ["Shrinking", "vary with k"]),
        (GradientDescent(lr=0.6), {"L": 2}, ["lr <= 1/L = 1/2", "lr = 3/5"]),
        (GradientDescent(lr=0.4), {"L": 2, "rate": 1}, ["leave rate out"]),
        (GradientDescent(lr=0.4), {}, ["need mu and L, or L alone"]),
    ],
)
def test_refusals_give_their_reason(rule, arguments, words):
    with pytest.raises(ValueError) as refused:
        certify(rule, **arguments)
    assert all(word in str(refused.value) for word in words), refused.value


# Without mu: bounds of f after N steps


def run(rule, gradient, steps, x0=1.0):
    x = [x0, x0]
    for k in range(steps):
        x.append(float(rule.step(k, (x[-1], x[-2])[: rule.history], (), gradient)[0]))
    return x[1:]


@pytest.mark.parametrize("N", [1, 2, 5, 20])
def test_bound_of_gradient_descent_is_attained_by_a_huber_function(N):
    certificate = certify(GradientDescent(lr=Rational(1, 4)), L=4)
    assert certificate.verify()
    assert (
        str(certificate)
        == "gradient descent, convex: f(x_N) <= 2/(2*N + 1) |x_0|^2 on convex 4-smooth functions"
    )
    width = 1 / (2 * N + 1)  # |x| beyond it, a parabola below; the slope is 4 width
    x = run(GradientDescent(lr=0.25), lambda x: 4 * np.clip(x, -width, width), N)[-1]
    value = 4 * (width * abs(x) - width**2 / 2 if abs(x) > width else x**2 / 2)
    assert value == pytest.approx(2 / (2 * N + 1), rel=1e-12)  # rounding of N steps


@pytest.mark.parametrize("r", [3, 5])
def test_bound_of_nesterov_holds_on_huber_functions_and_parabolas(r):
    certificate = certify(Nesterov(Rational(1, 10), r), L=10)
    assert certificate.verify() and certificate.rate == 2
    N = np.arange(0, 200)
    bound = 10 * (r - 1) ** 2 / (2 * (N + r - 1) ** 2)
    for width in (np.inf, 0.3, 0.03, 0.003):
        x = np.abs(run(Nesterov(0.1, r), lambda x, w=width: 10 * np.clip(x, -w, w), 200)[1:])
        inner = np.minimum(x, width)
        assert np.all(10 * (inner * x - inner**2 / 2) <= bound * (1 + 1e-9))


def test_false_potentials_fail():
    import dataclasses

    for proof in (families.gradient_descent_convex(1, 1), families.nesterov_descent(1, 1, 3)):
        changed = [
            dataclasses.replace(
                proof, ends=dataclasses.replace(proof.ends, bound=proof.ends.bound * Rational(99, 100))
            ),
            dataclasses.replace(
                proof, ends=dataclasses.replace(proof.ends, value=proof.ends.value * Rational(101, 100))
            ),
            dataclasses.replace(proof, rate=proof.rate + 1),
            dataclasses.replace(proof, ends=None),
            dataclasses.replace(proof, law="factor"),
            dataclasses.replace(proof, domain=proof.domain[::-1]),
        ]
        assert not any(c.verify() for c in changed)
