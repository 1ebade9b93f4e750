"""Steps that a user may write: their equations against the steps themselves, or a true reason for none."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import published as p
import pytest
import sympy
from users import curve, run

from odeopt import GradientDescent, HeavyBall, Nesterov, UpdateRule, error_dynamics, ode_limit
from odeopt.limits import NoLimitError
from odeopt.limits.laurent import laurent
from odeopt.rules import dot

h, b = sympy.symbols("h b", positive=True)
HALF = sympy.Rational(1, 2)


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
    assert str(error_dynamics(limit)) == "Delta' + H*Delta + 1/10*Delta = 1/10*q"


@dataclass(frozen=True)
class Shrinking(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return 0.9 * iterates[0] - self.lr * grad(iterates[0]), memory


def test_decay_that_does_not_shrink_is_refused():
    with pytest.raises(NoLimitError, match="must sum to 1, and as h -> 0 they sum to 9/10"):
        ode_limit(Shrinking(h), h)


def test_decoupled_decay_starts_with_a_velocity():
    # X'' + (b + w) X' + b w X + grad f = 0, X'(0) = -w X(0)
    limit = ode_limit(p.SGDW(h**2, 1 - b * h, h / 2), h)
    x = limit.curve
    assert limit.initial_velocity == -x / 2
    assert sympy.simplify(limit.terms[x] - b / 2) == 0
    assert sympy.simplify(limit.coefficients[0] - (b + HALF)) == 0


# --- velocity forms and corrections -------------------------------------------------------------------


def test_velocity_form_and_two_iterates_have_one_equation_also_corrected():
    step, k = 0.01, np.array([50, 100, 200])
    limit = ode_limit(p.Sutskever(h**2, 1 - b * h), h, resolution=1).subs({b: 1, h: step})
    true = run(p.Sutskever(step**2, 1 - step), [1.0], 200)[k]
    np.testing.assert_allclose(curve(limit, [1.0], k * step), true, atol=5e-5)  # h^2/2
    assert str(ode_limit(p.Sutskever(h, HALF), h)) == "1/2*X' + grad f(X) = 0"


def test_schedule_free_takes_its_gradient_beside_the_curve():
    # t X'' + 2 X' + grad f(X + (1 - beta) t X') = 0; beta = 1/2 gives exp(-lam t/2) exactly
    limit = ode_limit(p.ScheduleFree(h, HALF), h)
    assert str(limit) == "X'' + (2/t)*X' + (1/t)*grad f(X + t*X'/2) = 0"
    t = np.array([0.5, 2.0, 8.0])
    np.testing.assert_allclose(curve(limit, [1.0], t)[:, 0], np.exp(-t / 2), rtol=1e-7)
    assert str(error_dynamics(limit)) == "Delta'' + 1/2*H*Delta' + (2/t)*Delta' + (1/t)*H*Delta = 0"


@pytest.mark.slow  # the corrections below it are tested in test_resolution
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
    assert reading.points == ("g_0 = grad f(x + m_0*(1 - b*h))",)
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


@dataclass(frozen=True)
class OfPlainFloats(Doubled):
    def step(self, k, iterates, memory, grad):
        return iterates[0] - np.float64(self.lr) * grad(iterates[0]), memory


@dataclass(frozen=True)
class OfDifferences(Doubled):
    gradients = 2

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * (grad(2 * x) - grad(x)), memory


def test_a_learning_rate_that_must_be_a_float_and_gradients_that_cancel_are_named():
    with pytest.raises(NoLimitError, match=r"float\(\) or the module math on h, .*np.float64\(self.lr\)"):
        ode_limit(OfPlainFloats(0.1))
    with pytest.raises(ValueError, match="differences of gradients alone, whose weights sum to 0"):
        ode_limit(OfDifferences(0.1))
    assert str(ode_limit(OfDifferences(h), h)) == "X' - grad f(X) + grad f(2*X) = 0"


def test_slips_are_named():
    with pytest.raises(NoLimitError, match="class attribute `history`"):
        ode_limit(NoHistory(0.1))
    with pytest.raises(NoLimitError, match="return x_next, memory"):
        ode_limit(NoMemory(0.1))
    with pytest.raises(ValueError, match="resolution must be an integer from 0 to 6, got 99"):
        ode_limit(GradientDescent(0.1), resolution=99)
    with pytest.raises(ValueError, match="rule must be an UpdateRule, got 'gd'"):
        ode_limit("gd")


def test_a_gradient_at_a_multiple_of_the_iterate_gives_the_error_a_right_side():
    limit = ode_limit(Doubled(0.01))
    assert curve(limit, [1.0], [1.0])[0, 0] == pytest.approx(np.exp(-2.0), rel=1e-8)
    assert str(error_dynamics(limit)) == "Delta' + 2*H*Delta = H*q"


def test_fractions_are_numbers():
    assert (
        str(ode_limit(HeavyBall(Fraction(1, 100), Fraction(1, 2)), regime="fixed"))
        == "1/2*X' + grad f(X) = 0"
    )


@dataclass(frozen=True)
class Anderson(UpdateRule):
    """Anderson acceleration of depth 1; 1e-30 is there against 0/0 alone."""

    lr: float
    history = 2
    gradients = 2

    def step(self, k, iterates, memory, grad):
        (x, x_prev), lr = iterates, self.lr
        move, before = -lr * grad(x), -lr * grad(x_prev)
        change = move - before
        share = dot(move, change) / (dot(change, change) + 1e-30)
        return x + move - share * (x - x_prev + change), memory


def test_a_guard_against_zero_is_no_part_of_a_limit():
    """With the guard the formal limit is X' = -grad f(X), which no step above 1e-7 is near."""
    with pytest.raises(NoLimitError, match=r"difference of gradients .* beside 1e-30"):
        ode_limit(Anderson(0.01))


def test_powers_that_count_steps_are_polynomials_in_h():
    t, value = sympy.Symbol("t", positive=True), {}
    correction = 1 / (1 - (1 - b * h) ** (t / h + 1))
    found = laurent(correction, h, 2)
    for step in (0.02, 0.01):
        at = {b: sympy.Rational(3, 2), t: 1, h: step}
        value[step] = float((correction - sum(c * h**q for q, c in found.items())).subs(at))
    assert np.log2(value[0.02] / value[0.01]) == pytest.approx(3, abs=0.1)


def test_roots_beside_a_pole_are_expanded_as_far_as_it_asks_for():
    # averages divided by sqrt(1 + kh) bring such quotients, in which both parts vanish at h = 0
    s = 1 + sympy.Symbol("t", positive=True)
    assert laurent(1 / (sympy.sqrt(s + h) - sympy.sqrt(s)), h, 0)[-1] == 2 * sympy.sqrt(s)
    rise = [sympy.sqrt((s - j * h) / (s - (j + 1) * h)) - 1 for j in range(2)]
    assert laurent(rise[0] / rise[1] - 1, h, 1) == {1: -1 / s}


@dataclass(frozen=True)
class DualAveraging(UpdateRule):
    """x_k = x_0 - h/sqrt(1 + kh) times the sum of all gradients."""

    lr: float

    def initial_memory(self, x0):
        return (x0, 0 * x0)

    def step(self, k, iterates, memory, grad):
        (x,), (x0, total) = iterates, memory
        total = total + grad(x)
        return x0 - self.lr * total / np.sqrt(1 + k * self.lr), (x0, total)


def test_dual_averaging_with_a_falling_weight():
    # (X - x_0) sqrt(1 + t) = -Y with Y' = grad f(X), differentiated twice
    s = 1 + (limit := ode_limit(DualAveraging(h), h)).t
    weights = [limit.terms[v].subs(limit.t, 3) for v in limit.terms]
    assert weights == [1, *(w.subs(limit.t, 3) for w in (3 / (2 * s), s ** (-3 * HALF) / 2, s**-HALF))]
