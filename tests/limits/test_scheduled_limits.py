"""Limits of rules whose hyperparameters are schedules: the equations, and their curves beside iterates."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import sympy

from odeopt import (
    Adam,
    GradientDescent,
    HeavyBall,
    Nesterov,
    UpdateRule,
    error_dynamics,
    mode_solution,
    ode_limit,
)
from odeopt.limits import NoLimitError, integrate_limit
from odeopt.limits.accumulated import accumulated
from odeopt.rules import (
    QHM,
    Averaged,
    Constant,
    Cosine,
    Exponential,
    Formula,
    InverseSqrt,
    Linear,
    Step,
    Table,
    TorchSGD,
    Warmup,
    WarmupStableDecay,
    iterate,
)

H, B, T = sympy.symbols("h b T", positive=True)
K = sympy.Symbol("k")
CURVATURES = np.array([0.5, 2.0])
# Time of a run, with t = k h.
END = 4


def differential(x, *directions):
    """Derivatives of a quadratic, of which the third vanish."""
    return CURVATURES * (directions[0] if directions else x) * (len(directions) < 2)


def deviation(rule, h, resolution=0, end=END, **options):
    """Largest distance of the curve from the iterates beyond the first tenth of a run, and after it."""
    limit = ode_limit(rule, resolution=resolution, **options)
    k = np.arange(round(0.1 * end / h), round(end / h) + 1, round(0.05 * end / h))
    points = list(itertools.islice(iterate(rule, np.ones(2), lambda x: CURVATURES * x), int(k[-1]) + 1))
    t = (k + float(getattr(limit, "time_origin", 0))) * limit.time_step
    if limit.valid_until is not None:
        k, t = k[t <= limit.valid_until], t[t <= limit.valid_until]
    # the solver is exact to 1e-10, far below the deviations of 1e-7 and more
    run = integrate_limit(limit, differential, np.ones(2), t, rtol=1e-10, atol=1e-13)
    return np.abs(run.x - np.array(points)[k]).max()


def order(rule_at, h, **options):
    return np.log2(deviation(rule_at(h), h, **options) / deviation(rule_at(h / 2), h / 2, **options))


def schedules(h):
    """A run of time END under each kind of schedule, as factors of the largest rate."""
    steps = round(END / h)
    return {
        "linear": Linear(1.0, steps=0.8 * steps),
        "cosine": Cosine(1.0, steps=steps),
        "inverse root": InverseSqrt(1.0, offset=steps / 10),
        "exponential": Exponential(1.0, 0.05 ** (1 / steps)),
        "steps": Step(1.0, milestones=(steps // 2, 3 * steps // 4), factor=0.5),
        "plateau": WarmupStableDecay(1.0, steps=steps, warmup=steps // 10, decay=steps // 5),
        "warm-up": Warmup(steps // 4) * Cosine(1.0, steps=steps),
    }


METHODS = {
    "descent": lambda h, s: GradientDescent(h * s),
    "inside": lambda h, s: HeavyBall(h * h * s, 1 - h),
    "outside": lambda h, s: TorchSGD(h * h * s, momentum=1 - h),
}


PAIRS = [("descent", kind) for kind in schedules(0.1)] + [
    (method, kind) for method in ("inside", "outside") for kind in ("linear", "steps", "plateau", "warm-up")
]


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_the_curve_follows_the_iterates_to_first_order_under_every_schedule(method, kind):
    found = order(lambda h: METHODS[method](h, schedules(h)[kind]), 0.0125)
    assert found == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "rule_at",
    [
        lambda h: HeavyBall(h * h, Linear(1 - 2 * h, steps=END / h, end=1 - h / 2)),
        lambda h: QHM(Cosine(h, steps=END / h), momentum=1 - h, nu=0.7),
        lambda h: Nesterov(Cosine(h * h, steps=END / h), r=3),
        lambda h: Adam(Cosine(h, steps=END / h), beta1=1 - h, beta2=1 - h, eps=0.1),
    ],
)
def test_so_it_does_where_momenta_gradient_points_and_averages_change(rule_at):
    assert order(rule_at, 0.0125) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("rule_at", "resolution"),
    [
        (lambda h: GradientDescent(h * schedules(h)["plateau"]), 1),
        (lambda h: GradientDescent(h * schedules(h)["steps"]), 2),
        (lambda h: HeavyBall(h * h * InverseSqrt(1.0, offset=END / h), 1 - h), 2),
        (lambda h: TorchSGD(Cosine(h * h, steps=2 * END / h), momentum=1 - h), 1),
        (lambda h: HeavyBall(h * h, Linear(1 - 2 * h, steps=END / h, end=1 - h / 2)), 1),
    ],
)
def test_corrections_follow_the_iterates_to_their_order(rule_at, resolution):
    assert order(rule_at, 0.02, resolution=resolution) == pytest.approx(resolution + 1, abs=0.1)


def test_the_correction_of_descent_holds_half_the_slope_of_the_schedule():
    rule = GradientDescent(Formula(H / (1 + K * H), K))
    limit = ode_limit(rule, H, resolution=1)
    force = next(c for v, c in limit.terms.items() if str(v) == "grad f(X)")
    s = 1 / (1 + limit.t)
    assert sympy.simplify(force - (s - H * s.diff(limit.t) / 2)) == 0


PRINTED = [
    (GradientDescent(Cosine(0.1, steps=1000)), "X' + s(t)*grad f(X) = 0"),
    (HeavyBall(Linear(0.01, steps=100), 0.9), "X'' + X' + s(t)*grad f(X) = 0"),
    (TorchSGD(Linear(0.01, steps=100), momentum=0.9), "X'' + (1 - s'(t)/s(t))*X' + s(t)*grad f(X) = 0"),
    (HeavyBall(0.01, Linear(0.5, steps=100, end=0.9)), "X'' + b(t)*X' + grad f(X) = 0"),
    (Nesterov(Linear(0.01, steps=100), r=3), "X'' + (3/t)*X' + s(t)*grad f(X) = 0"),
]


@pytest.mark.parametrize(("rule", "printed"), PRINTED)
def test_the_equation_is_printed_with_schedules_by_name(rule, printed):
    assert str(ode_limit(rule)) == printed


def test_a_fixed_momentum_divides_the_friction_alone():
    limit = ode_limit(HeavyBall(Linear(0.01, steps=100), 0.9), regime="fixed")
    assert str(limit) == "1/10*X' + s(t)*grad f(X) = 0"


def test_the_note_says_which_scaling_was_taken():
    limit = ode_limit(GradientDescent(Cosine(0.1, steps=1000)))
    assert "lr = h*s(t), s(t) = Piecewise((cos(pi*t/100)/2 + 1/2, t < 100), (0, True))" in limit.note


def test_the_note_says_where_a_schedule_is_not_slow():
    fast = GradientDescent(Formula(sympy.sin(K) ** 2 / 10, K))
    assert "lr is not slow, it changes by 0.0841 in one step" in ode_limit(fast).note
    slow = GradientDescent(Step(0.1, milestones=(5,), factor=0.1))
    assert "not slow" not in ode_limit(slow).note


def test_schedules_in_h_are_functions_of_time():
    limit = ode_limit(TorchSGD(Linear(H**2, steps=T / H), momentum=1 - B * H), H)
    assert str(limit) == "X'' + (b - s'(t)/s(t))*X' + s(t)*grad f(X) = 0"
    assert limit.breaks == (T,)
    form = limit.subs({T: 4, B: 1}).momentum
    assert (form.friction, form.weight.subs(limit.t, 1)) == (1, sympy.Rational(3, 4))


def test_an_outside_rate_that_begins_at_nothing_is_followed_from_rest():
    # s = t: V' + V + X = 0, X' = -t V from V(0) = 0 (P = -V); by Taylor at t = 0.3 to 1e-12
    limit = ode_limit(TorchSGD(Warmup(100) * Constant(0.0001), momentum=0.99))
    run = integrate_limit(limit, lambda x, *v: x, [1.0], [0.3], rtol=1e-12, atol=1e-14)
    coefficients, velocity = [1.0], [0.0]
    for n in range(30):
        velocity.append((coefficients[n] - velocity[n]) / (n + 1))
        coefficients.append(-velocity[n - 1] / (n + 1) if n else 0.0)
    assert run.x[0, 0] == pytest.approx(np.polyval(coefficients[::-1], 0.3), abs=1e-11)


def test_the_two_places_of_the_learning_rate_have_two_limits():
    for rule, value in ((TorchSGD, -0.1369749), (HeavyBall, -0.3085387)):
        limit = ode_limit(rule(lr=Linear(H**2, steps=4 / H), momentum=1 - H), H)
        run = integrate_limit(limit, lambda x, *v: 2 * x, [1.0], [3.0], rtol=1e-11, atol=1e-13)
        # given to seven places
        assert run.x[0, 0] == pytest.approx(value, abs=6e-8)


def test_an_outside_rate_that_jumps_scales_the_velocity():
    limit = ode_limit(TorchSGD(Step(0.0001, milestones=(100,), factor=0.5), momentum=0.99))
    t = np.array([1.0 - 1e-6, 1.0, 1.0 + 1e-6])
    x = integrate_limit(limit, lambda x, *v: x, [1.0], t, rtol=1e-12, atol=1e-14).x[:, 0]
    # a difference quotient over 1e-6 has an error of 1e-6 times X'', and rounding of 1e-12 / 1e-6
    assert (x[2] - x[1]) / (x[1] - x[0]) == pytest.approx(0.5, abs=1e-4)


def test_a_product_of_cosines_has_its_integral_and_a_quotient_is_refused_at_once():
    t = sympy.Symbol("t", positive=True)
    first, second = (1 + sympy.cos(sympy.pi * t / steps) for steps in (10, 7))
    # a quadrature to 1e-12 of numbers of size 1
    expected = sympy.Integral(first * second, (t, 0, 3)).evalf()
    assert float(accumulated(first * second, t).subs(t, 3) / expected) == pytest.approx(1, abs=1e-12)
    limit = ode_limit(HeavyBall(Cosine(0.1, 100), momentum=Cosine(0.5, 100, end=0.1)), regime="fixed")
    with pytest.raises(ValueError, match=r"divides by a cosine.*integrate numerically"):
        mode_solution(error_dynamics(limit))


def test_gradient_points_print_no_long_rationals():
    text = str(ode_limit(Averaged(HeavyBall(Cosine(0.0123, 100), 0.917), decay=0.937)))
    assert "grad f(X + 1.7604" in text and "/" not in text


REFUSALS = [
    (GradientDescent(Table([0.1] * 5)), None, 0, "known at integers k only.*Formula"),
    (GradientDescent(Linear(sympy.Symbol("a"), steps=5)), None, 0, "holds symbols; pass h"),
    (HeavyBall(H**2, Linear(0.5, steps=100)), H, 0, "changes at k = 100, which as h -> 0 is no time"),
    (GradientDescent(Linear(sympy.sin(H), steps=T / H)), H, 0, "no polynomial in h"),
    (TorchSGD(Warmup(10) * Constant(0.01), momentum=0.9), None, 1, "vanishes at t = 0.*resolution 0"),
]


@pytest.mark.parametrize(("rule", "h", "resolution", "reason"), REFUSALS)
def test_what_has_no_limit_in_time_is_refused(rule, h, resolution, reason):
    with pytest.raises(NoLimitError, match=reason):
        ode_limit(rule, h, resolution=resolution)


def test_a_correction_is_not_carried_across_a_break():
    limit = ode_limit(HeavyBall(Linear(0.01, steps=100), 0.9), resolution=1)
    assert limit.valid_until == 10
    assert "not carried across a break" in limit.note
    with pytest.raises(ValueError, match=r"t = 11 is beyond t = 10.*resolution 0"):
        integrate_limit(limit, differential, np.ones(2), [11.0], rtol=1e-8, atol=1e-10)


@dataclass(frozen=True)
class TwoAverages(UpdateRule):
    """Two averages of the gradient, added."""

    lr: float
    first: float
    second: float

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        m, n = (b * v + (1 - b) * g for b, v in zip((self.first, self.second), memory, strict=True))
        return iterates[0] - self.lr * (m + n), (m, n)


def test_two_decays_on_schedules_keep_two_names_in_h():
    """Under one name the second schedule stood for the first as well, and the curve was off by 0.015."""

    def decays(h, steps):
        return Linear(1 - 2 * h, steps=steps, end=1 - 4 * h), Cosine(1 - 3 * h, steps=steps, end=1 - h)

    limit = ode_limit(TwoAverages(H, *decays(H, END / H)), H)
    assert len(limit.schedules) == 2
    h, k = 0.002, np.array([200, 800, 1400])
    rule = TwoAverages(h, *decays(h, round(END / h)))
    points = list(itertools.islice(iterate(rule, np.ones(2), lambda x: CURVATURES * x), 1401))
    found = integrate_limit(limit, differential, np.ones(2), k * h, rtol=1e-9, atol=1e-12).x
    # of first order: 0.0053 at h = 0.004, half of it here
    np.testing.assert_allclose(found, np.array(points)[k], atol=0.003)
    assert "an equation that holds derivatives of schedules is not carried across a break" in limit.note
    with pytest.raises(ValueError, match=r"not derived; end the times there$"):
        integrate_limit(limit, differential, np.ones(2), [END + 1.0], rtol=1e-6, atol=1e-6)
