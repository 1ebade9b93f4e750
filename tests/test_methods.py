"""The first iterates of every rule, exactly, and the refusals of bad hyperparameters."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import pytest
import sympy

from odeopt import GradientDescent, HeavyBall, HigherMomentum, Nesterov, NesterovConstant, UpdateRule
from odeopt.methods import iterate

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)

# f(x) = x^2/2 from x_0 = 1 with lr = 1/2, worked by hand from the textbook recursions.
FIRST_ITERATES = [
    (GradientDescent(HALF), [1, HALF, QUARTER, Fraction(1, 8), Fraction(1, 16)]),
    # x+ = x/2 + (x - x_)/4
    (HeavyBall(HALF, QUARTER), [1, HALF, Fraction(1, 8), Fraction(-1, 32), Fraction(-7, 128)]),
    # weights 0, 0, 1/4, 2/5 for k = 0..3 and r = 3; x+ = y/2
    (Nesterov(HALF, 3), [1, HALF, QUARTER, Fraction(3, 32), Fraction(1, 64)]),
    # y = x + (x - x_)/4, x+ = y/2
    (NesterovConstant(HALF, QUARTER), [1, HALF, Fraction(3, 16), Fraction(7, 128), Fraction(11, 1024)]),
    # x+ = x/2 + (x - x_)/4 + (x_ - x__)/8
    (
        HigherMomentum(HALF, (QUARTER, Fraction(1, 8))),
        [1, HALF, Fraction(1, 8), Fraction(-3, 32), Fraction(-19, 128)],
    ),
]


@pytest.mark.parametrize(("rule", "expected"), FIRST_ITERATES, ids=lambda v: type(v).__name__)
def test_first_five_iterates_are_exact_in_rational_arithmetic(rule, expected):
    assert list(itertools.islice(iterate(rule, Fraction(1), lambda x: x), 5)) == expected


def test_nesterov_with_r_zero_has_full_momentum_after_the_second_step():
    # weights (k-1)/(k-1) = 1 for k >= 2, and 0 for k = 0, 1
    run = list(itertools.islice(iterate(Nesterov(HALF, 0), Fraction(1), lambda x: x), 4))
    assert run == [1, HALF, QUARTER, 0]


def test_higher_momentum_with_one_momentum_is_heavy_ball():
    pair = HeavyBall(0.1, 0.7), HigherMomentum(0.1, (0.7,))
    runs = [list(itertools.islice(iterate(rule, 1.0, lambda x: 3 * x), 20)) for rule in pair]
    assert runs[0] == pytest.approx(runs[1], rel=1e-15)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(0.0), ["lr", "0.0", "lr > 0"]),
        (lambda: GradientDescent(float("nan")), ["lr", "nan", "finite"]),
        (lambda: GradientDescent(True), ["lr", "True", "bool"]),
        (lambda: GradientDescent("0.1"), ["lr", "'0.1'", "str"]),
        (lambda: HeavyBall(0.1, 1.0), ["momentum", "1.0", "[0, 1)"]),
        (lambda: HeavyBall(0.1, -0.1), ["momentum", "-0.1"]),
        (lambda: NesterovConstant(0.1, 2), ["momentum", "2"]),
        (lambda: Nesterov(0.1, -1), ["r must be nonnegative", "-1"]),
        (lambda: HigherMomentum(0.1, ()), ["momenta", "empty"]),
        (lambda: HigherMomentum(0.1, (0.6, 0.6)), ["momenta", "modulus", "1.1"]),
    ],
)
def test_bad_hyperparameters_are_refused_by_name_value_and_remedy(make, words):
    with pytest.raises(ValueError) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_momenta_summing_to_one_are_allowed_and_just_beyond_refused():
    HigherMomentum(0.1, (0.2, 0.8))
    with pytest.raises(ValueError, match="modulus"):
        HigherMomentum(0.1, (0.2, 0.8 + 1e-6))


def test_at_substitutes_numbers_and_reports_what_is_left():
    h, b = sympy.symbols("h b", positive=True)
    rule = HigherMomentum(h**2, (1 - 4 * b * h, b))
    assert rule.at({h: 0.5, b: 0.125}) == HigherMomentum(0.25, (0.75, 0.125))
    with pytest.raises(ValueError, match="leaves b free"):
        rule.at({h: 0.5})


def test_a_user_rule_needs_only_step_history_and_hyperparameters():
    @dataclass(frozen=True)
    class Damped(UpdateRule):
        lr: float
        history = 2

        def step(self, k, iterates, memory, grad):
            x, x_prev = iterates
            return (x + x_prev) / 2 - self.lr * grad(x), memory

    run = list(itertools.islice(iterate(Damped(0.5), 1.0, lambda x: x), 3))
    assert run == [1.0, 0.5, 0.5]
    assert Damped(0.5).is_numeric
    with pytest.raises(ValueError, match="lr must be positive"):
        Damped(-1.0)
