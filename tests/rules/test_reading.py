"""What the reader finds in steps that a user may write."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from steps import LATE, NOT_LINEAR, SLIPS, descent, rule_of

from odeopt import QHM, Adam, GradientDescent, HeavyBall, Nesterov, TorchSGD
from odeopt.rules import sign, sqrt
from odeopt.rules.reading import read, require_linear

# --- linear -----------------------------------------------------------------------------------------------


def test_matrices_of_heavy_ball_are_exact_decimals():
    step = read(HeavyBall(0.1, 0.9)).law()
    assert step.M == ((Fraction(19, 10), Fraction(-9, 10)), (1, 0))
    assert step.N == ((Fraction(-1, 10),), (0,))
    assert (step.A, step.B) == (((1, 0),), ((0,),))


def test_matrices_of_symbols_are_expressions_in_them():
    h, b = sympy.symbols("h b", positive=True)
    step = read(HeavyBall(h**2, 1 - b * h)).law()
    assert [sympy.expand(v) for v in step.M[0]] == [2 - b * h, b * h - 1]
    assert step.N[0][0] == -(h**2)


def test_a_law_in_k_is_read_as_a_function_of_k():
    reading = read(Nesterov(0.1))
    k = reading.k
    assert sympy.simplify(reading.law().M[0][1] + (k - 1) / (k + 2)) == 0
    assert (reading.varies, reading.steady_from, reading.law_from) == (True, None, 2)
    assert reading.matrices(0).M[0] == (1, 0)
    assert reading.matrices(4).M[0] == (Fraction(3, 2), Fraction(-1, 2))


def test_first_steps_that_differ_are_kept_apart_from_the_law():
    reading = read(TorchSGD(0.1, momentum=0.9, dampening=0.5))
    assert (reading.steady_from, reading.varies) == (1, False)
    assert reading.matrices(0).N != reading.matrices(1).N == reading.law().N


def test_nested_gradients_are_counted_and_equal_points_are_one():
    def extragradient(s, k, x, m, grad):
        return x[0] - s.lr * grad(x[0] - s.lr * grad(x[0])), m

    def twice(s, k, x, m, grad):
        return x[0] - s.lr * (grad(x[0]) + grad(1 * x[0])) / 2, m

    nested, same = read(rule_of(extragradient)), read(rule_of(twice))
    assert (nested.points, nested.degree, nested.order(3)) == (2, 2, (0, 1))
    assert (same.points, same.degree, same.order(3)) == (1, 1, (0, 0))


LINEAR_ALL_THE_SAME = {
    "numpy scalars": lambda s, k, x, m, grad: (x[0] - np.float64(s.lr) * grad(x[0]) * np.float32(1.0), m),
    "a root of a number": lambda s, k, x, m, grad: (x[0] - np.sqrt(s.lr) * grad(x[0]), m),
    "math of a number": lambda s, k, x, m, grad: (x[0] - math.exp(-s.lr) * grad(x[0]), m),
    "ufuncs": lambda s, k, x, m, grad: (np.subtract(x[0], np.multiply(s.lr, grad(x[0]))), m),
    "thirds": lambda s, k, x, m, grad: (x[0] * (1 / 3) + (2 / 3) * x[0] - s.lr * grad(x[0]), m),
    "a fresh vector changed in place": lambda s, k, x, m, grad: (_fresh(s, x, grad), m),
    "x - x": lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) + (x[0] - x[0]) * 7, m),
    "a copy": lambda s, k, x, m, grad: (x[0].copy() - s.lr * grad(x[0]) + np.zeros_like(x[0]), m),
    "an array of one number": lambda s, k, x, m, grad: (x[0] - np.array(s.lr) * grad(x[0]), m),
    "a choice by k": lambda s, k, x, m, grad: (x[0] - s.lr * np.where(k == -1, x[0], grad(x[0])), m),
    "a product with a number": lambda s, k, x, m, grad: (x[0] - np.dot(s.lr, grad(x[0])), m),
    "torch": lambda s, k, x, m, grad: (torch.add(x[0], grad(x[0]).clone().mul_(2), alpha=-s.lr / 2), m),
    "a list of two": lambda s, k, x, m, grad: [x[0] - s.lr * grad(x[0]), m],
}


def _fresh(s, x, grad):
    g = grad(x[0])
    g *= s.lr
    return x[0] - g


@pytest.mark.parametrize("name", LINEAR_ALL_THE_SAME)
def test_linear_steps_are_read_as_linear_however_they_are_written(name):
    reading = read(rule_of(LINEAR_ALL_THE_SAME[name]))
    assert reading.linear, reading.reason
    assert reading.equivariant, reading.row
    assert reading.steady_from == 0


# --- not linear -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_is_not_linear_is_refused_by_the_name_of_the_operation_and_its_line(name):
    step, word = NOT_LINEAR[name]
    reading = read(rule_of(step))
    assert not reading.linear
    assert reading.refusal.kind == ("affine" if name == "a constant" else "nonlinear")
    assert word in reading.reason
    if name != "a constant":
        assert "steps.py, line" in reading.place
    with pytest.raises(ValueError, match=r"step of Own\(lr=0.1\) is not linear in .* no curve"):
        require_linear(rule_of(step), "curve")


def test_a_step_that_is_linear_at_first_and_not_later_is_refused_where_it_is_not():
    rule = descent(lambda s, k: s.lr if k < 50 else 0)

    def late_sign(s, k, x, m, grad):
        return x[0] - s.lr * (grad(x[0]) if k < 50 else sign(grad(x[0]))), m

    assert require_linear(rule, "curve", k=[60], equivariant=True).linear
    assert require_linear(rule_of(late_sign), "curve", k=[50]).linear
    with pytest.raises(ValueError, match="at k = 50"):
        require_linear(rule_of(late_sign), "curve", k=[51])


@pytest.mark.parametrize("rule", [Adam(0.1), Adam(0.1, eps=0.0)], ids=["eps", "no eps"])
def test_adam_is_refused_for_its_square(rule):
    assert "power" in read(rule).reason


# --- steps that cannot be run -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SLIPS)
def test_a_step_that_cannot_be_run_is_refused_in_words_of_its_own(name):
    step, word = SLIPS[name]
    with pytest.raises(
        ValueError, match=r"step of Own\(lr=0.1\) cannot be read, so it has no curve"
    ) as error:
        require_linear(rule_of(step), "curve")
    assert word in str(error.value)
    assert "unpack" not in str(error.value)


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (lambda x0: [0 * x0], "tuple"),
        (lambda x0: 0 * x0, "tuple"),
        (lambda x0: (1j,), "no vector"),
        (lambda x0: ("a",), "no vector"),
    ],
)
def test_memories_that_are_no_vectors_are_refused(start, word):
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), m), start=start))
    assert reading.refusal.kind == "broken"
    assert word in reading.reason


@pytest.mark.parametrize("history", [0, 1.5, True, None])
def test_a_history_that_is_no_positive_integer_is_refused(history):
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0], m), history=history))
    assert reading.refusal.kind == "broken"


# --- k ----------------------------------------------------------------------------------------------------

START_OF_A_RUN = {
    "k == 0": (lambda s, k: 0 if k == 0 else s.lr, 1),
    "k in (0, 1)": (lambda s, k: 0 if k in (0, 1) else s.lr, 2),
    "if k": (lambda s, k: s.lr if k else 0, 1),
    "k != 2": (lambda s, k: s.lr if k != 2 else 0, 3),
    "k + 1 == 3": (lambda s, k: 0 if k + 1 == 3 else s.lr, 3),
    "k == -1": (lambda s, k: 0 if k == -1 else s.lr, 0),
    "k == 0.5": (lambda s, k: 0 if k == 0.5 else s.lr, 0),
    "k - k": (lambda s, k: s.lr * (1 + k - k), 0),
}


@pytest.mark.parametrize("name", START_OF_A_RUN)
def test_comparisons_with_the_first_iterations_are_read(name):
    factor, law_from = START_OF_A_RUN[name]
    reading = read(descent(factor))
    assert reading.steady_from == law_from
    for k in range(law_from + 3):
        assert reading.matrices(k).N[0][0] == pytest.approx(-float(factor(descent(factor), k)), rel=1e-15)


@pytest.mark.parametrize("name", LATE)
def test_a_law_in_k_that_a_symbol_would_misread_is_refused_and_each_step_is_still_read(name):
    rule = descent(LATE[name])
    reading = read(rule)
    assert reading.linear
    assert reading.law_refusal is not None
    assert reading.steady_from is None
    with pytest.raises(ValueError, match=r"step of Own\(lr=0.1\)"):
        require_linear(rule, "limit", forever=True)
    for k in (0, 1, 7, 100):
        assert float(reading.matrices(k).N[0][0]) == pytest.approx(-float(LATE[name](rule, k)), rel=1e-12)


SMOOTH = {
    "1/k": lambda s, k: s.lr / (k + 1),
    "root": lambda s, k: s.lr / sqrt(k + 1),
    "np.sqrt": lambda s, k: s.lr / np.sqrt(k + 1),
    "power": lambda s, k: s.lr * (k + 1) ** -0.5,
    "exponential": lambda s, k: s.lr * 0.9**k,
    "np.exp": lambda s, k: s.lr * np.exp(-0.1 * k),
    "numpy number": lambda s, k: s.lr * np.float64(0.5) / (np.float64(2.0) + k),
    "np.expm1": lambda s, k: -s.lr * np.expm1(-0.1 * (k + 1)),
    "np.log1p": lambda s, k: s.lr / np.log1p(k + 1),
    "np.arctan": lambda s, k: s.lr * np.arctan(k + 1),
    "np.cbrt": lambda s, k: s.lr / np.cbrt(k + 1),
    "np.square": lambda s, k: s.lr / np.square(k + 1.0),
    "np.reciprocal": lambda s, k: s.lr * np.reciprocal(k + 1.0),
    "np.float_power": lambda s, k: s.lr * np.float_power(k + 1.0, -0.3),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_schedules_are_read(name):
    rule = descent(SMOOTH[name])
    reading = read(rule)
    assert reading.law_refusal is None
    assert reading.varies
    for k in (0, 5, 50):
        assert float(reading.matrices(k).N[0][0]) == pytest.approx(-float(SMOOTH[name](rule, k)), rel=1e-12)


def test_a_declared_period_is_read_in_each_residue():
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * (1 + (k + 1) % 3) * grad(x[0]), m), period=3)
    reading = read(rule)
    assert (reading.steady_from, reading.period) == (0, 3)
    assert [reading.law(r).N[0][0] for r in range(3)] == [
        Fraction(-2, 10),
        Fraction(-3, 10),
        Fraction(-1, 10),
    ]
    for k in range(8):
        assert reading.matrices(k).N[0][0] == -Fraction(1 + (k + 1) % 3, 10)


def test_a_whole_quotient_by_the_period_counts_the_periods():
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr / (1 + k // 2) * grad(x[0]), m), period=2)
    reading = read(rule)
    assert reading.varies
    for k in range(6):
        assert reading.matrices(k).N[0][0] == Fraction(-1, 10) / (1 + k // 2)


def test_a_modulus_that_does_not_divide_the_period_is_refused():
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * (1 + k % 3) * grad(x[0]), m), period=2)
    assert read(rule).law_refusal is not None


@pytest.mark.parametrize("period", [0, -1, 1.5, "2", None, True])
def test_a_period_that_is_no_positive_integer_is_refused(period):
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), m), period=period)
    assert "period" in read(rule).reason


# --- shifts -----------------------------------------------------------------------------------------------


def test_weight_decay_is_linear_and_no_step_in_the_error():
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * (grad(x[0]) + 0.1 * x[0]), m)))
    assert reading.linear
    assert not reading.equivariant
    assert "x_next sum to 0.99 instead of 1" in reading.row


def test_decay_towards_an_anchor_in_memory_is_a_step_in_the_error():
    def step(s, k, x, m, grad):
        return x[0] - s.lr * (grad(x[0]) + 0.1 * (x[0] - m[0])), m

    reading = read(rule_of(step, start=lambda x0: (x0,)))
    assert reading.equivariant
    assert reading.tau == (1, 1)


def test_a_position_average_must_start_at_x0():
    def step(s, k, x, m, grad):
        average = 0.5 * m[0] + 0.5 * x[0]
        return 0.7 * x[0] + 0.3 * average - s.lr * grad(x[0]), (average,)

    assert read(rule_of(step, start=lambda x0: (x0,))).equivariant
    assert not read(rule_of(step, memories=1)).equivariant


def test_an_average_that_forgets_its_start_in_the_first_step_is_a_step_in_the_error():
    def step(s, k, x, m, grad):
        average = m[0] + (x[0] - m[0]) / (k + 1)
        return (x[0] + average) / 2 - s.lr * grad(x[0]), (average,)

    assert read(rule_of(step, memories=1)).equivariant


def test_a_bias_corrected_average_of_iterates_is_a_step_in_the_error():
    def step(s, k, x, m, grad):
        average = 0.9 * m[0] + 0.1 * x[0]
        return x[0] - s.lr * grad(average / (1 - 0.9 ** (k + 1))), (average,)

    reading = read(rule_of(step, memories=1))
    assert reading.equivariant, reading.row


def test_a_gradient_point_beside_the_iterates_is_named():
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(0.9 * x[0]), m)))
    assert "gradient point sum to 0.9" in reading.row


@pytest.mark.parametrize("start", [lambda x0: (1 + 0 * x0,), lambda x0: (1,), lambda x0: (np.float64(1),)])
def test_a_memory_that_starts_at_a_number_is_no_step_in_the_error(start):
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - m[0], m), start=start))
    assert "starts at 1" in reading.row


def test_a_number_in_memory_that_is_no_vector_is_refused_with_the_remedy():
    fista = rule_of(
        lambda s, k, x, m, grad: (x[0] - s.lr / m[0] * grad(x[0]), ((1 + np.sqrt(1 + 4 * m[0] ** 2)) / 2,)),
        start=lambda x0: (1,),
    )
    assert "write a number as a function of k" in read(fista).reason


def test_velocity_forms_are_steps_in_the_error():
    def step(s, k, x, m, grad):
        v = 0.9 * m[0] - s.lr * grad(x[0] + 0.9 * m[0])
        return x[0] + v, (v,)

    reading = read(rule_of(step, memories=1))
    assert reading.equivariant
    assert reading.tau == (1, 0)


def test_built_in_rules_are_steps_in_the_error():
    for rule in (
        GradientDescent(0.1),
        HeavyBall(0.1, 0.9),
        Nesterov(0.1),
        QHM(0.1, 0.9, 0.7),
        TorchSGD(0.1, r=3),
    ):
        assert read(rule).equivariant


def test_what_is_no_rule_is_refused():
    with pytest.raises(ValueError, match="UpdateRule"):
        read("HeavyBall")


@pytest.mark.parametrize(
    ("period", "power"),
    [(2, lambda k: (-1) ** k), (2, lambda k: (-1.0) ** (k + 3)), (4, lambda k: (-1) ** (k // 2))],
)
def test_a_power_of_minus_one_is_a_number_in_each_residue_of_a_declared_period(period, power):
    step = lambda s, k, x, m, grad: (x[0] - s.lr * (1 + power(k) / 2) * grad(x[0]), m)  # noqa: E731
    reading = read(rule_of(step, period=period))
    assert reading.law_refusal is None and not reading.varies
    for residue in range(period):
        assert reading.law(residue).N[0][0] == -Fraction(1, 10) * (1 + Fraction(int(power(residue)), 2))


def test_functions_of_sympy_take_k():
    reading = read(descent(lambda s, k: s.lr * (1 + sympy.cos(k / 7))))
    assert reading.law().N[0][0] == -(1 + sympy.cos(reading.k / 7)) / 10


def test_values_of_unknown_functions_are_compared_as_symbols_are():
    s, d = sympy.Function("s"), sympy.Function("d")
    product = (1 - d(0)) * (1 + s(0))
    whole, expanded, other = (
        read(GradientDescent(0.5)).law(0).map(lambda _, v=v: v)
        for v in (product, product.expand(), product + 1)
    )
    assert whole.close(expanded)
    assert not whole.close(other)
