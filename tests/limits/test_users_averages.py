"""Averages, norms and sums that a user's step may keep: their equations against the steps themselves."""

from dataclasses import dataclass

import numpy as np
import published as p
import pytest
import sympy
from users import curve, run

from odeopt import UpdateRule, ode_limit
from odeopt.limits import NoLimitError
from odeopt.limits.components import Dot, Norm
from odeopt.limits.series import GradientDifferential
from odeopt.rules import norm, sign, sqrt

h, b = sympy.symbols("h b", positive=True)
HALF = sympy.Rational(1, 2)


@dataclass(frozen=True)
class RMSPropFromOne(UpdateRule):
    lr: float
    alpha: float

    def initial_memory(self, x0):
        return (1 + 0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (v,) = iterates, memory
        g = grad(x)
        v = self.alpha * v + (1 - self.alpha) * g**2
        return x - self.lr * g / (sqrt(v) + 0.001), (v,)


def test_an_average_starts_where_initial_memory_says():
    limit = ode_limit(RMSPropFromOne(h, 1 - b * h), h).subs({b: 1})
    assert list(limit.initial.values()) == [1]
    true = run(RMSPropFromOne(5e-4, 1 - 5e-4), [1.0], 2000)[[400, 1000, 2000]]
    np.testing.assert_allclose(curve(limit, [1.0], [0.2, 0.5, 1.0]), true, rtol=2e-3)  # a few lr


@dataclass(frozen=True)
class FromTheFirstGradient(UpdateRule):
    """A slow average that starts at the first gradient."""

    lr: object
    beta: object

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        g = grad(x)
        m = g if k == 0 else self.beta * m + (1 - self.beta) * g
        return x - self.lr * m / (1 + abs(m)), (m,)


def test_an_average_may_start_at_the_first_gradient():
    limit = ode_limit(FromTheFirstGradient(h, 1 - 2 * h), h)
    assert list(limit.initial.values()) == [GradientDifferential(limit.curve)]
    true = run(FromTheFirstGradient(1e-3, 1 - 2e-3), [1.0], 1000)[[500, 1000]]
    np.testing.assert_allclose(curve(limit, [1.0], [0.5, 1.0]), true, rtol=2e-3)


def test_a_slow_average_keeps_its_sign():
    limit = ode_limit(p.Signum(h, 1 - b * h), h)
    assert str(limit.velocity) == "-sign(M_0(t))"
    true = run(p.Signum(1e-3, 1 - 1e-3), [-1.0], 1000)[[500, 900]]
    np.testing.assert_allclose(curve(limit.subs({b: 1}), [-1.0], [0.5, 0.9]), true, atol=1e-6)


def test_adam_with_decoupled_decay_moves_by_signs_and_decay():
    # with all averages fast X' = -sign(grad f) - X/10: X = 11 exp(-t/10) - 10 from 1, up to eps
    limit = ode_limit(p.AdamW(0.01, 0.9, 0.999, 1e-8, 0.1))
    t = np.array([0.25, 0.5])
    np.testing.assert_allclose(curve(limit, [1.0], t)[:, 0], 11 * np.exp(-t / 10) - 10, rtol=1e-6)


@dataclass(frozen=True)
class SumOfSquares(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        return iterates[0] - self.lr * g / sqrt(np.sum(g * g)), memory


def test_norms_join_the_coordinates_and_plain_sums_are_refused():
    A = np.diag([1.0, 0.05])
    gradient = lambda x, *v: A @ (v[0] if v else x)  # noqa: E731
    true = run(p.Normalised(1e-3), [1.0, 1.0], 500, gradient)[500]
    np.testing.assert_allclose(
        curve(ode_limit(p.Normalised(1e-3)), [1.0, 1.0], [0.5], gradient)[0], true, rtol=1e-3
    )
    with pytest.raises(
        NoLimitError, match=r"np.sum of a vector, which joins the coordinates; use norm and dot"
    ):
        ode_limit(SumOfSquares(1e-3))


def test_norm_and_inner_product_are_homogeneous():
    g = GradientDifferential(sympy.Function("X")(sympy.Symbol("t")))
    assert Norm(-2 * b * g) == 2 * b * Norm(g)
    assert Dot(3 * g, -b * g) == -3 * b * Norm(g) ** 2
    assert norm(np.array([3.0, 4.0])) == 5.0


@dataclass(frozen=True)
class Ascent(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return iterates[0] + self.lr * sign(grad(iterates[0])), memory


def test_a_step_along_the_gradient_is_refused():
    with pytest.raises(NoLimitError, match="climbs the loss"):
        ode_limit(Ascent(0.01))


LAGS = {
    "position": lambda x, m, g, lr: (np.tanh(g + (x - m) / lr), x),
    "gradient": lambda x, m, g, lr: (np.tanh(g) / (1 + ((g - m) / lr) ** 2), g),
    "sign": lambda x, m, g, lr: (np.tanh(g) * (2 + sign(g - m)), (m + g) / 2),
    "overshoot": lambda x, m, g, lr: (np.tanh(m), m + (g - m) * (1 + g * g)),
}


def lagging(kind):
    """A rule that steps by a function of x, the average m and the gradient."""

    @dataclass(frozen=True)
    class Lagging(UpdateRule):
        lr: object

        def initial_memory(self, x0):
            return (x0,)

        def step(self, k, iterates, memory, grad):
            (x,), (m,) = iterates, memory
            moved, m_next = LAGS[kind](x, m, grad(x), self.lr)
            return x - self.lr * moved, (m_next,)

    return Lagging(h)


@pytest.mark.parametrize("kind", ["position", "gradient", "sign"])
def test_what_an_average_lags_behind_by_is_not_taken_for_nothing(kind):
    # such a difference is h times a velocity, and the step divides it by h or sees its sign
    with pytest.raises(NoLimitError, match="difference of order h between M_0 and what it tends to"):
        ode_limit(lagging(kind), h)


def test_an_average_that_forgets_at_small_gradients_alone_is_refused():
    # its recursion has the root -g^2
    with pytest.raises(NoLimitError, match="root of modulus >= 1, at g = -10 for one"):
        ode_limit(lagging("overshoot"), h)


@dataclass(frozen=True)
class Pulled(UpdateRule):
    """Clipped steps towards a slow average of the iterates, with decay."""

    lr: float

    def initial_memory(self, x0):
        return (2 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        return x - self.lr * (np.tanh(grad(x)) + x - m), ((1 - self.lr) * m + self.lr * x,)


def test_a_correction_sees_the_iterate_in_step_and_average():
    limit, errors = ode_limit(Pulled(h), h, resolution=1), []
    for n in (100, 200):
        found = curve(limit.subs({h: 1 / n}), [1.0, -0.7], [0.5, 1.0])
        errors.append(np.abs(found - run(Pulled(1 / n), [1.0, -0.7], n)[[n // 2, n]]).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(
        2, abs=0.1
    )  # the next power of h moves it by some h
