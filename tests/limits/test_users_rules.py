"""Steps that a user may write: their equations against the steps themselves, or a true reason for none."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import numpy as np
import published as p
import pytest
import sympy

from odeopt import GradientDescent, HeavyBall, Nesterov, UpdateRule, error_dynamics, ode_limit
from odeopt.limits import NoLimitError, integrate_limit
from odeopt.limits.components import Dot, Norm
from odeopt.limits.series import GradientDifferential
from odeopt.rules import norm, sign, sqrt
from odeopt.rules.base import iterate

h, b = sympy.symbols("h b", positive=True)
HALF = sympy.Rational(1, 2)


def quadratic(x, *v):
    """Differentials of |x|^2/2."""
    return v[0] if len(v) == 1 else (0 * x if v else x)


def curve(limit, x0, t, differential=quadratic):
    return integrate_limit(limit, differential, x0, t, rtol=1e-9, atol=1e-11).x


def run(rule, x0, count, gradient=quadratic):
    return np.array(list(islice(iterate(rule, np.array(x0, float), gradient), count + 1)))


# --- schedules and periods ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ThreeSteps(UpdateRule):
    lr: float
    period = 3

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (0.1 if k % 3 == 1 else 1.9) * grad(x), memory


@dataclass(frozen=True)
class Undeclared(ThreeSteps):
    period = 1


def test_one_period_is_composed_into_one_step():
    limit = ode_limit(ThreeSteps(0.01))
    # three steps move by 3.9 lr
    assert curve(limit, [1.0], [1.0])[0, 0] == pytest.approx(np.exp(-1.3), rel=1e-8)
    assert "at multiples of 3" in limit.note
    assert limit.reading.steadiness == "with period 3"


def test_an_undeclared_period_is_refused_with_the_remedy_and_the_line():
    with pytest.raises(NoLimitError, match=r"% 3 on k; declare `period = p`.*k % 3 == 1"):
        ode_limit(Undeclared(0.01))


@dataclass(frozen=True)
class LateRise(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - (self.lr if k < 2000 else 10 * self.lr) * grad(x), memory


def test_a_threshold_in_k_is_refused():
    with pytest.raises(NoLimitError, match="< on k"):
        ode_limit(LateRise(0.01))


def test_inverse_root_steps_have_their_own_time():
    limit = ode_limit(p.RobbinsMonro(0.01))
    assert limit.time_step == pytest.approx(1e-4)
    k = np.array([100, 400])
    # the sum of k^(-1/2) is 2 sqrt(k) - 1.46, so the exponents differ by 1.46 lr
    np.testing.assert_allclose(
        curve(limit, [1.0], k * 1e-4), run(p.RobbinsMonro(0.01), [1.0], 400)[k], rtol=0.02
    )


@dataclass(frozen=True)
class FallingNesterov(UpdateRule):
    lr: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        w = 0 if k in (0, 1) else (k - 1) / (k + 2)
        y = x + w * (x - x_prev)
        return y - self.lr * (1 - k / 100) * grad(y), memory


@dataclass(frozen=True)
class Swinging(UpdateRule):
    lr: object
    h: object

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * sympy.cos(sympy.sympify(k) * self.h) * grad(x), memory


def test_a_force_that_climbs_or_changes_its_sign_is_refused():
    with pytest.raises(
        NoLimitError, match=r"climbs the loss.*schedule of the step as a function of t = k\*h"
    ):
        ode_limit(FallingNesterov(0.01))
    with pytest.raises(NoLimitError, match=r"changes its sign at t = 1\.\d.*Max"):
        ode_limit(Swinging(h, h), h)


# --- consistency --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZeroUnstable(UpdateRule):
    lr: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return -x + 2 * x_prev - self.lr * grad(x), memory


def test_a_root_outside_the_unit_circle_is_named():
    assert np.abs(run(ZeroUnstable(0.01), [1.0], 60)).max() > 1e12
    with pytest.raises(NoLimitError, match="a root of its step lies at -2, outside the unit circle"):
        ode_limit(ZeroUnstable(0.1))


@dataclass(frozen=True)
class FourthRoots(UpdateRule):
    """x_+ = 2 x_{-2} - x_{-4} + ...: each root of modulus 1 twice, -1 among them."""

    lr: float
    history = 4

    def step(self, k, iterates, memory, grad):
        x = iterates
        return 2 * x[1] - x[3] - self.lr**2 * grad(x[0]), memory


def test_a_multiple_root_on_the_circle_is_refused():
    with pytest.raises(NoLimitError, match="the root -1 on the unit circle 2 times"):
        ode_limit(FourthRoots(h), h)


@dataclass(frozen=True)
class Settling(UpdateRule):
    """x follows an average of its own past, which starts at three times x_0."""

    lr: float

    def initial_memory(self, x0):
        return (3 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        return 0.7 * x + 0.3 * m - self.lr * grad(x), (0.5 * m + 0.5 * x,)


def test_the_curve_starts_where_the_fast_average_leaves_the_iterate():
    limit = ode_limit(Settling(0.001))
    # X(0) = ((1 - beta) x_0 + c m_0)/(1 - beta + c), X' = -(1 - beta)/(1 - beta + c) grad f
    assert curve(limit, [1.0], [1.0])[0, 0] == pytest.approx((0.5 + 0.9) / 0.8 * np.exp(-0.5 / 0.8), rel=1e-8)
    assert run(Settling(0.001), [1.0], 1000)[-1, 0] == pytest.approx(
        curve(limit, [1.0], [1.0])[0, 0], rel=2e-3
    )


# --- decay --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecayedDescent(UpdateRule):
    lr: float
    decay: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (grad(x) + self.decay * x), memory


def test_weight_decay_is_in_the_equation_and_its_error_has_a_right_side():
    limit = ode_limit(DecayedDescent(0.01, 0.1))
    assert str(limit) == "X' + 1/10*X + grad f(X) = 0"
    assert curve(limit, [1.0], [1.0])[0, 0] == pytest.approx(np.exp(-1.1), rel=1e-8)
    with pytest.raises(ValueError, match=r"holds X itself, a decay of the weights.*right side"):
        error_dynamics(limit)


@dataclass(frozen=True)
class Shrinking(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return 0.9 * iterates[0] - self.lr * grad(iterates[0]), memory


def test_decay_that_does_not_shrink_is_refused():
    with pytest.raises(NoLimitError, match="must sum to 1, and as h -> 0 they sum to 9/10"):
        ode_limit(Shrinking(h), h)


def test_decoupled_decay_starts_with_a_velocity():
    # THEORY2 11: X'' + (b + w) X' + b w X + grad f = 0, X'(0) = -w X(0)
    limit = ode_limit(p.SGDW(h**2, 1 - b * h, h / 2), h)
    x = limit.curve
    assert limit.initial_velocity == -x / 2
    assert sympy.simplify(limit.terms[x] - b / 2) == 0
    assert sympy.simplify(limit.coefficients[0] - (b + HALF)) == 0


# --- averages -----------------------------------------------------------------------------------------


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


# --- velocity forms and corrections -------------------------------------------------------------------


def test_velocity_form_and_two_iterates_have_one_equation_also_corrected():
    step, k = 0.01, np.array([50, 100, 200])
    limit = ode_limit(p.Sutskever(h**2, 1 - b * h), h, resolution=1).subs({b: 1, h: step})
    true = run(p.Sutskever(step**2, 1 - step), [1.0], 200)[k]
    np.testing.assert_allclose(curve(limit, [1.0], k * step), true, atol=5e-5)  # h^2/2
    assert str(ode_limit(p.Sutskever(h, HALF), h)) == "1/2*X' + grad f(X) = 0"


def test_schedule_free_takes_its_gradient_beside_the_curve():
    # THEORY2 9.5: t X'' + 2 X' + grad f(X + (1 - beta) t X') = 0; beta = 1/2 gives exp(-lam t/2) exactly
    limit = ode_limit(p.ScheduleFree(h, HALF), h)
    assert str(limit) == "X'' + (2/t)*X' + (1/t)*grad f(t*X'/2 + X) = 0"
    t = np.array([0.5, 2.0, 8.0])
    np.testing.assert_allclose(curve(limit, [1.0], t)[:, 0], np.exp(-t / 2), rtol=1e-7)
    assert str(error_dynamics(limit)) == "Delta'' + 1/2*H*Delta' + (2/t)*Delta' + (1/t)*H*Delta = 0"


def test_third_correction_of_a_fixed_momentum_starts_at_its_exact_series():
    """Heavy ball, momentum 1/2: the slow part starts at A = (1 - s - z_2)/(z_1 - z_2), s = h lam."""
    s = sympy.Symbol("s")
    total = HALF + 1 - s
    root = sympy.sqrt(total**2 - 2)
    exact = sympy.series((1 - s - (total - root) / 2) / root, s, 0, 4).removeO()
    limit = ode_limit(HeavyBall(h, HALF), h, resolution=3)
    start = error_dynamics(limit).start
    assert sympy.expand(start.subs(error_dynamics(limit).lam, s / h) - exact) == 0
    assert exact.coeff(s, 3) == 200


def test_second_correction_of_vanishing_friction_has_a_pole_that_is_named():
    with pytest.raises(NoLimitError, match=r"coefficient of X' has a pole 1/t\^3 at t = 0.*lower resolution"):
        ode_limit(Nesterov(h**2, 3), h, resolution=2)


def test_what_was_read_is_shown():
    reading = ode_limit(p.Sutskever(h**2, 1 - b * h), h).reading
    assert reading.linear
    assert reading.points == ("g_0 = grad f(m_0*(-b*h + 1) + x)",)
    assert reading.averages[-1] == "m_0 starts at 0"
    assert reading.steadiness == "the same at every k"
    adaptive = ode_limit(p.AdaGradNorm(0.1)).reading
    assert not adaptive.linear
    assert any("M_0 is slow" in line for line in adaptive.averages)


# --- slips --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoHistory(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        return x - self.lr * grad(x) + 0.5 * (x - x_prev), memory


@dataclass(frozen=True)
class NoMemory(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * grad(x)


@dataclass(frozen=True)
class Doubled(UpdateRule):
    """The gradient at twice the iterate."""

    lr: float

    def step(self, k, iterates, memory, grad):
        return iterates[0] - self.lr * grad(2 * iterates[0]), memory


def test_slips_are_named():
    with pytest.raises(NoLimitError, match="class attribute `history`"):
        ode_limit(NoHistory(0.1))
    with pytest.raises(NoLimitError, match="return x_next, memory"):
        ode_limit(NoMemory(0.1))
    with pytest.raises(ValueError, match="resolution must be an integer from 0 to 6, got 99"):
        ode_limit(GradientDescent(0.1), resolution=99)
    with pytest.raises(ValueError, match="rule must be an UpdateRule, got 'gd'"):
        ode_limit("gd")


def test_a_gradient_at_a_multiple_of_the_iterate_is_no_multiple_of_the_error():
    limit = ode_limit(Doubled(0.01))
    assert curve(limit, [1.0], [1.0])[0, 0] == pytest.approx(np.exp(-2.0), rel=1e-8)
    with pytest.raises(ValueError, match="where X has the weight 2"):
        error_dynamics(limit)


def test_fractions_are_numbers():
    assert (
        str(ode_limit(HeavyBall(Fraction(1, 100), Fraction(1, 2)), regime="fixed"))
        == "1/2*X' + grad f(X) = 0"
    )
