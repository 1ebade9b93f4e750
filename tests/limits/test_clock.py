"""Which clock: the map from steps to time and its order, and the step of time as a power of the rate."""

import numpy as np
import pytest
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    error_dynamics,
    mode_solution,
    ode_limit,
)
from odeopt.limits import correspondences, time_scale
from odeopt.rules import AdaGrad
from odeopt.rules.linear import residual_polynomials

h, b, mu = sympy.symbols("h b mu", positive=True)
root = sympy.sqrt(mu)


def test_centred_heavy_ball_map_is_found():
    """h^2 = 2 lr / (1 + beta), b = 2 (1 - beta) / ((1 + beta) h), t = (k + 1/2) h."""
    lr, momentum = 0.04, 0.7
    limit = ode_limit(HeavyBall(lr, momentum))
    step = np.sqrt(2 * lr / (1 + momentum))
    assert limit.time_step == pytest.approx(step, rel=1e-14)
    assert limit.time_origin == sympy.Rational(1, 2)
    assert float(limit.coefficients[0]) == pytest.approx(
        2 * (1 - momentum) / ((1 + momentum) * step), rel=1e-13
    )
    assert limit.accuracy == 2


def test_centred_map_has_order_one_in_lr_and_the_naive_one_half():
    lam, friction, horizon = np.linspace(0.05, 2.0, 40), 0.7, 6.0
    rates = 0.02 * 4.0 ** -np.arange(5)
    errors = {"centred": [], "naive": []}
    for lr in rates:
        rule = HeavyBall(lr, 1 - friction * np.sqrt(lr))
        for name, found in errors.items():
            mode = mode_solution(error_dynamics(ode_limit(rule, clock=name)))
            k = np.arange(int(horizon / np.sqrt(lr)))
            t = (k + float(mode.time_origin)) * mode.time_step
            found.append(np.abs(residual_polynomials(rule, lam, k) - mode(t, lam)).max())
    slopes = {name: np.polyfit(np.log(rates), np.log(found), 1)[0] for name, found in errors.items()}
    assert slopes["centred"] == pytest.approx(1.0, abs=0.1)
    assert slopes["naive"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("rule", [GradientDescent(h), Nesterov(h**2, 3), NesterovConstant(h**2, 1 - h)])
def test_where_no_better_map_exists_the_obstacle_is_named(rule):
    (naive,) = correspondences(rule, h)
    assert naive.order == 1
    assert "holds" in naive.reason
    assert "X" in naive.reason


@pytest.mark.parametrize(
    ("rule", "power"),
    [
        (GradientDescent(0.1), 1),
        (HeavyBall(0.1, 0.9), 1),
        (Nesterov(0.1, 3), sympy.Rational(1, 2)),
        (HeavyBall(mu, 1 - b * root), sympy.Rational(1, 2)),
        (
            HigherMomentum(mu, (1 - sympy.Rational(1, 3) - b * root, sympy.Rational(1, 3))),
            sympy.Rational(1, 2),
        ),
        (
            HigherMomentum(mu, (2 - 3 * mu ** sympy.Rational(1, 3), -1 + 3 * mu ** sympy.Rational(1, 3))),
            sympy.Rational(1, 3),
        ),
    ],
)
def test_time_scale_by_dominant_balance(rule, power):
    scale = time_scale(rule)
    assert scale.power == power
    assert "grad f" in scale.balance
    assert all("is larger" in rejected.reason for rejected in scale.rejected)


def test_adagrad_lives_on_the_square_of_its_learning_rate():
    limit = ode_limit(AdaGrad(0.1, 0))
    assert limit.scale == 2
    assert limit.time_step == pytest.approx(0.01)


def test_a_rule_without_a_scale_is_refused_by_its_own_numbers():
    with pytest.raises(ValueError, match=r"the step of AdaGrad\(lr=0\.1, .*\) is not linear in its iterates"):
        time_scale(AdaGrad(0.1))
