"""Limits of rules with weight decay, and of averages of iterates, with and without schedules."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import sympy

from odeopt import Adam, GradientDescent, HeavyBall, Nesterov, NesterovConstant, UpdateRule, ode_limit
from odeopt.limits import integrate_limit
from odeopt.rules import QHM, Averaged, Cosine, Linear, Lookahead, ScheduleFree, TorchSGD, iterate

H, B, W = sympy.symbols("h b w", positive=True)
CURVATURES = np.array([0.5, 2.0])
END = 4


def deviation(rule, h):
    """Largest distance of the curve from the iterates from a tenth of the time on."""
    limit = ode_limit(rule)
    k = np.arange(round(0.4 / h), round(END / h) + 1, round(0.2 / h))
    points = list(itertools.islice(iterate(rule, np.ones(2), lambda x: CURVATURES * x), int(k[-1]) + 1))
    # the gradient, and its derivative along a direction; exact to 1e-9, far below the deviations
    times = k * limit.time_step
    derivative = lambda x, *v: CURVATURES * (v or (x,))[0]  # noqa: E731
    run = integrate_limit(limit, derivative, np.ones(2), times, rtol=1e-9, atol=1e-12)
    return np.abs(run.x - np.array(points)[k]).max()


@pytest.mark.parametrize(
    "rule_at",
    [
        lambda h: HeavyBall(h * h, 1 - h, weight_decay=0.5 / h, decoupled=True),
        lambda h: TorchSGD(
            Linear(h * h, steps=0.8 * END / h), momentum=1 - h, weight_decay=0.5 / h, decoupled=True
        ),
        lambda h: HeavyBall(h * h, 1 - h, weight_decay=Linear(0.5, steps=END / h)),
        lambda h: Adam(Cosine(h, steps=END / h), 1 - h, 1 - h, eps=0.1, weight_decay=0.5, decoupled=True),
        lambda h: Averaged(GradientDescent(Cosine(h, steps=END / h))),
        lambda h: ScheduleFree(Cosine(h, steps=END / h), beta=0.5),
        lambda h: Lookahead(GradientDescent(Cosine(h, steps=END / h)), steps=4),
        lambda h: Averaged(QHM(h, momentum=1 - h, nu=0.7)),
        lambda h: Averaged(TorchSGD(h * h, momentum=1 - h, weight_decay=0.3 / h, decoupled=True)),
        lambda h: Averaged(Nesterov(h * h, 3), decay=1 - 2 * h),
        lambda h: Averaged(Averaged(GradientDescent(h))),
    ],
    ids=[
        "inside",
        "outside",
        "falling decay",
        "AdamW",
        "mean",
        "schedule-free",
        "lookahead",
        "mean with momentum",
        "mean with decay",
        "forgetting mean",
        "mean of a mean",
    ],
)
def test_the_curve_follows_the_iterates_to_first_order(rule_at):
    one, other = deviation(rule_at(0.0125), 0.0125), deviation(rule_at(0.00625), 0.00625)
    assert np.log2(one / other) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    "rule",
    [
        HeavyBall(H**2, 1 - B * H, weight_decay=W / H, decoupled=True),
        NesterovConstant(H**2, 1 - B * H, weight_decay=W / H, decoupled=True),
        TorchSGD(H**2, momentum=1 - B * H, weight_decay=W / H, decoupled=True),
    ],
)
def test_decoupled_decay_adds_friction_pulls_and_starts_with_a_velocity(rule):
    limit = ode_limit(rule, H)
    assert str(limit) == "X'' + (b + w)*X' + (b*w)*X + grad f(X) = 0"
    assert limit.initial == (-W * limit.curve,)


PRINTED = [
    (GradientDescent(0.1, weight_decay=0.3), "X' + 3/10*X + grad f(X) = 0"),
    (GradientDescent(Cosine(0.1, steps=99), weight_decay=0.3), "X' + (3*s(t)/10)*X + s(t)*grad f(X) = 0"),
    (HeavyBall(0.01, 0.9, weight_decay=0.3), "X'' + X' + 3/10*X + grad f(X) = 0"),
    # lr * weight_decay / sqrt(lr) is kept: with weight_decay itself decay would vanish in the limit
    (HeavyBall(0.01, 0.9, weight_decay=3.0, decoupled=True), "X'' + 13/10*X' + 3/10*X + grad f(X) = 0"),
    # X' is open at t = 0, where t X' vanishes: the first iterates give it
    (Averaged(HeavyBall(0.01, 0.9)), "X''' + ((t + 3)/t)*X'' + (2/t)*X' + (1/t)*grad f(X + t*X') = 0"),
    (Averaged(GradientDescent(0.1), decay=0.7), "X'' + 3*X' + 3*grad f(X + X'/3) = 0"),
    (Nesterov(H**2, 3, weight_decay=W), "X'' + (3/t)*X' + w*X + grad f(X) = 0"),
]


@pytest.mark.parametrize(("rule", "printed"), PRINTED)
def test_the_equation_of_a_rule_with_decay(rule, printed):
    assert str(ode_limit(rule, H if H in getattr(rule.lr, "free_symbols", ()) else None)) == printed


def test_a_fixed_average_of_a_fixed_momentum_keeps_both_under_schedules():
    momentum, decay = Linear(0.5, steps=100, end=0.9), Linear(0.8, steps=50)
    limit = ode_limit(Averaged(TorchSGD(0.1, momentum=momentum), decay=decay), regime="fixed")
    force, speed = limit.gradient_coefficient, limit.coefficients[0]
    for t in (1, 7):  # 10 and 70 steps of 0.1
        expected = 1 / (1 - momentum.at(10 * t))
        assert float((force / speed).subs(limit.t, t)) == pytest.approx(expected, rel=1e-12)


@dataclass(frozen=True)
class Kicked(UpdateRule):
    """Heavy ball that a memory of x_0 pushes for some steps."""

    h: object
    history = 2

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x, older), (m,) = iterates, memory
        return x + (1 - self.h) * (x - older) - self.h**2 * grad(x) + self.h * m, (m / 2,)


def test_a_start_that_a_pole_leaves_open_is_refused_where_the_iterates_do_not_give_it():
    with pytest.raises(ValueError, match=r"leaves the derivative of order 1 at t = 0 open, and the first 8"):
        ode_limit(Averaged(Kicked(H)), H)
