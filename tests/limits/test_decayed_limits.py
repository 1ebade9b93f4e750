"""Limits of rules with weight decay, and of averages of iterates, with and without schedules."""

import itertools

import numpy as np
import pytest
import sympy

from odeopt import Adam, GradientDescent, HeavyBall, Nesterov, NesterovConstant, ode_limit
from odeopt.limits import integrate_limit
from odeopt.rules import Averaged, Cosine, Linear, Lookahead, ScheduleFree, TorchSGD, iterate

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
    ],
    ids=["inside", "outside", "falling decay", "AdamW", "mean", "schedule-free", "lookahead"],
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
    (HeavyBall(0.01, 0.9, weight_decay=3.0, decoupled=True), "X'' + 1.3*X' + 0.3*X + grad f(X) = 0"),
    (Nesterov(H**2, 3, weight_decay=W), "X'' + (3/t)*X' + w*X + grad f(X) = 0"),
]


@pytest.mark.parametrize(("rule", "printed"), PRINTED)
def test_the_equation_of_a_rule_with_decay(rule, printed):
    assert str(ode_limit(rule, H if H in getattr(rule.lr, "free_symbols", ()) else None)) == printed
