"""Schedules: one formula for floats, arrays, tensors and sympy, in any hyperparameter of any rule."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import sympy
import torch

from odeopt import GradientDescent, HeavyBall, HigherMomentum, TorchSGD
from odeopt.rules import (
    Constant,
    Cosine,
    Exponential,
    Formula,
    InverseSqrt,
    Linear,
    Recursion,
    Step,
    Table,
    UpdateRule,
    Warmup,
    WarmupStableDecay,
    iterate,
)
from odeopt.rules.reading import read

K = sympy.Symbol("k")
# Each with the formula of its definition, written out once more in plain floats.
SCHEDULES = {
    "constant": (Constant(0.1), lambda k: 0.1),
    "linear": (Linear(0.1, 40, end=0.02), lambda k: 0.02 + 0.08 * (1 - k / 40) if k < 40 else 0.02),
    "cosine": (Cosine(0.1, 40), lambda k: 0.05 * (1 + math.cos(math.pi * k / 40)) if k < 40 else 0.0),
    "inverse root": (InverseSqrt(0.1, 7), lambda k: 0.1 / math.sqrt(1 + k / 7)),
    "exponential": (Exponential(0.1, 0.9), lambda k: 0.1 * 0.9**k),
    "steps": (Step(0.1, (10, 30), 0.5), lambda k: 0.1 * 0.5 ** ((k >= 10) + (k >= 30))),
    "plateau": (
        WarmupStableDecay(0.1, 40, warmup=8, decay=10),
        lambda k: 0.1 * max(0.0, min(k / 8, 1, (40 - k) / 10)),
    ),
    "warm-up": (
        Warmup(8, start=0.5) * Linear(0.1, 40),
        lambda k: (min(1, 0.5 + k / 16)) * max(0.0, 0.1 * (1 - k / 40)),
    ),
    "formula": (Formula(1 / (10 + K), K), lambda k: 1 / (10 + k)),
    "table": (Table([0.1 / (1 + j) for j in range(60)]), lambda k: 0.1 / (1 + k)),
    "sum": (0.5 * Linear(0.1, 40) + 0.01 - Constant(0.005) / 2, lambda k: 0.05 * max(0, 1 - k / 40) + 0.0075),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_floats_arrays_and_tensors_have_the_values_of_the_formula(name):
    schedule, expected = SCHEDULES[name]
    k = np.arange(60)
    wanted = np.array([expected(j) for j in range(60)])
    # a few roundings of numbers of size 0.1
    close = {"rtol": 1e-14, "atol": 1e-16}
    np.testing.assert_allclose([schedule(j) for j in range(60)], wanted, **close)
    np.testing.assert_allclose(schedule(k), wanted, **close)
    np.testing.assert_allclose(schedule(torch.arange(60, dtype=torch.float64)).numpy(), wanted, **close)
    assert math.isclose(schedule.range[1], wanted.max(), rel_tol=1e-14)
    assert schedule.range[0] <= wanted.min() * (1 + 1e-14)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "table"])
def test_sympy_has_the_same_formula_between_the_iterations_too(name):
    schedule, _ = SCHEDULES[name]
    for k in (0, 3, 7.5, 10, 29.25, 45):
        # thirty digits against a few roundings
        assert math.isclose(float(schedule.formula(K).subs(K, k).evalf(30)), schedule(k), rel_tol=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rule_takes_the_value_at_k_in_step_k(name):
    schedule, expected = SCHEDULES[name]
    x, run = 1.0, iterate(GradientDescent(lr=schedule), 1.0, lambda z: z)
    for k, found in enumerate(itertools.islice(run, 50)):
        assert math.isclose(found, x, rel_tol=1e-13, abs_tol=1e-300)  # 50 roundings
        x *= 1 - expected(k)


def test_any_hyperparameter_may_be_a_schedule_even_one_of_a_tuple():
    rule = HigherMomentum(lr=Cosine(0.1, 20), momenta=(Linear(0.4, 20, end=0.2), 0.1))
    assert rule.at_step(10) == HigherMomentum(lr=0.05, momenta=(rule.at_step(10).momenta[0], 0.1))
    assert math.isclose(rule.at_step(10).momenta[0], 0.3, rel_tol=1e-15)
    reading = read(rule)
    assert reading.linear and reading.equivariant and reading.varies
    assert "momenta_1(k)" in str(reading.law().M)


def test_a_rule_of_ones_own_needs_no_word_about_schedules():
    @dataclasses.dataclass(frozen=True)
    class Damped(UpdateRule):
        lr: float
        friction: float
        history = 2

        def step(self, k, iterates, memory, grad):
            x, older = iterates
            return x + (1 - self.friction) * (x - older) - self.lr * grad(x), memory

    plain = HeavyBall(Cosine(0.2, 30), Linear(0.9, 30, end=0.5))
    own = Damped(Cosine(0.2, 30), 1 - Linear(0.9, 30, end=0.5))
    pairs = zip(*(iterate(rule, 1.0, lambda z: 2 * z) for rule in (plain, own)), strict=False)
    for one, other in itertools.islice(pairs, 40):
        assert math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-14)  # 1 - (1 - beta) rounds


def test_momentum_of_fista_is_its_recursion():
    momentum = Recursion(1.0, lambda c: (1 + math.sqrt(1 + 4 * c * c)) / 2, lambda c, d: (c - 1) / d)
    theta = [1.0]
    for _ in range(30):
        theta.append((1 + math.sqrt(1 + 4 * theta[-1] ** 2)) / 2)
    for k in (29, 0, 7):
        assert momentum(k) == (theta[k] - 1) / theta[k + 1]  # the same operations
    assert read(HeavyBall(0.1, momentum)).linear


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(lr=Linear(0.1, 10, end=-0.1)), "lr must be nonnegative.*-0.1 to 0.1"),
        (lambda: GradientDescent(lr=Constant(0.0)), "not always 0"),
        (lambda: HeavyBall(0.1, Linear(0.5, 10, end=1.2)), r"momentum must lie in \[0, 1\), got 1.2"),
        (lambda: TorchSGD(lr=0.1, momentum=0.5 * Warmup(5), nesterov=True), "nesterov needs momentum > 0"),
        (lambda: Cosine(0.1, steps=0), "steps must be a number of steps above 0, got 0"),
        (lambda: Cosine("0.1", steps=10), "start must be a finite number or a sympy expression, got '0.1'"),
        (lambda: Step(0.1, (30, 10)), "milestones must be increasing positive integers"),
        (lambda: WarmupStableDecay(0.1, 10, 8, 8), "exceed steps = 10"),
        (lambda: Table([]), "values must not be empty"),
        (lambda: Formula(0.1, K), "expression must be a sympy expression, got 0.1"),
        (lambda: Exponential(0.1, 1.5), r"factor must lie in \(0, 1\], got 1.5"),
        (lambda: Linear(0.1, 10)(-1), "k starts at 0"),
        (lambda: Cosine(0.1, sympy.Symbol("T"))(3), "holds the symbols T"),
    ],
)
def test_refusals_name_the_argument_and_the_value(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_step_past_the_end_of_a_table_is_refused_and_the_last_one_is_run():
    run = iterate(GradientDescent(lr=Table([0.1, 0.2])), 1.0, lambda z: z)
    assert [round(x, 12) for x in itertools.islice(run, 3)] == [1.0, 0.9, 0.72]
    with pytest.raises(ValueError, match=r"Table\(2 values\), which ends at k = 1; give it more values"):
        next(run)


def test_schedules_are_values():
    assert Cosine(0.1, 10) == Cosine(0.1, 10) != Cosine(0.1, 11)
    assert len({Warmup(3) * Cosine(0.1, 10), Warmup(3) * Cosine(0.1, 10)}) == 1
    rule = GradientDescent(lr=Cosine(sympy.Symbol("eta"), 10))
    assert not rule.is_numeric
    assert rule.at({sympy.Symbol("eta"): 0.5}).at_step(5).lr == 0.25
    assert (
        GradientDescent(lr=Warmup(3) * Cosine(0.1, 10)).label
        == "GradientDescent(lr=(Warmup(3, 0) * Cosine(0.1, 10, 0)))"
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda k: Formula(1 / (k - 3), k)(3), "has no real value at k = 3"),
        (lambda k: Formula(sympy.sqrt(k - 3), k)(0), "has no real value at k = 0"),
        (lambda k: (Linear(1.0, 4) / Linear(2.0, 5))(5), "has no real value at k = 5"),
        (lambda k: Recursion(1.0, lambda c: 1 / (c - 1))(1), "whose value at k = 1 is ZeroDivisionError"),
        (lambda k: Recursion(-1.0, lambda c: c**0.5)(1), r"whose value at k = 1 is \(.*j\)"),
        (lambda k: Recursion(1.0, lambda c: c, lambda c, d: None)(0), "whose value at k = 0 is None"),
        (lambda k: Step(0.1, None), "milestones must be increasing positive integers, got None"),
        (lambda k: Step(0.1, [3, "a"]), r"milestones must be .*, got \[3, 'a'\]"),
        (lambda k: Table(3), "values must be a sequence of numbers, got 3"),
    ],
)
def test_values_that_are_no_numbers_are_refused_with_their_step(value, words):
    with pytest.raises(ValueError, match=words):
        value(sympy.Symbol("k"))
