"""Steps that hand their hyperparameters, k or vectors to numpy: read, or refused for what they do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import sympy
from steps import rule_of

from odeopt import UpdateRule, ode_limit
from odeopt.limits.series import GradientDifferential
from odeopt.rules import norm
from odeopt.rules.reading import read

h = sympy.Symbol("h", positive=True)


@dataclass(frozen=True)
class Cosine(UpdateRule):
    """A schedule in k lr / T, as papers write it."""

    lr: object
    T: object
    cos = staticmethod(np.cos)

    def step(self, k, iterates, memory, grad):
        share = (1 + self.cos(np.pi * k * self.lr / self.T)) / 2
        return iterates[0] - self.lr * share * grad(iterates[0]), memory


@pytest.mark.parametrize("lr", [0.1, h])
def test_a_schedule_in_numpys_functions_of_symbols_is_read(lr):
    limit = ode_limit(Cosine(lr, 2), *([h] if lr is h else []))
    expected = (1 + sympy.cos(sympy.pi * limit.t / 2)) / 2
    # pi was given as a float
    gaps = [
        float((limit.terms[GradientDifferential(limit.curve)] - expected).subs(limit.t, s))
        for s in (0.0, 0.5, 1.7)
    ]
    assert gaps == pytest.approx([0, 0, 0], abs=1e-14)


def test_the_module_math_is_refused_with_the_functions_that_do():
    @dataclass(frozen=True)
    class WithMath(Cosine):
        cos = staticmethod(math.cos)

    for rule, arguments in ((WithMath(0.1, 2), ()), (WithMath(h, 2), (h,))):
        with pytest.raises(ValueError, match=r"the module math on .*; take np.cos"):
            ode_limit(rule, *arguments)


def test_a_choice_by_a_hyperparameter_that_is_a_symbol_is_refused():
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * max(0, 1 - s.lr) * np.sqrt(s.lr) * grad(x[0]), m))
    with pytest.raises(ValueError, match="a symbol here and without a value"):
        ode_limit(rule.replace(lr=h), h)


def test_roots_of_hyperparameters_are_read_in_steps_that_are_not_linear():
    def step(s, k, x, m, grad):
        g = grad(x[0])
        v = s.b * m[0] + (1 - s.b) * g * g
        return x[0] - s.lr * np.sqrt(1 - s.b) * g / np.sqrt(v), (v,)

    limit = ode_limit(rule_of(step, memories=1, b=0.91))
    # 0.3 times the sign of the gradient
    assert "3*grad f(X)/(10*Abs(grad f(X)))" in str(limit)


def test_min_of_vectors_is_refused_with_numpys_minimum_which_is_read():
    def clipped(least):
        return rule_of(
            lambda s, k, x, m, grad: (x[0] - s.lr * least(1, 0.5 / norm(grad(x[0]))) * grad(x[0]), m)
        )

    with pytest.raises(ValueError, match=r"write min\(\) and max\(\) as np.minimum"):
        ode_limit(clipped(min))
    assert "Min(1, " in str(ode_limit(clipped(np.minimum)))


def test_a_table_that_ends_is_refused_for_its_end():
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * [1, 2, 3][k] * grad(x[0]), m)))
    assert "table in k longer" in reading.reason


def test_averages_without_a_fixed_point_are_refused_for_their_changes():
    def conjugate(s, k, x, m, grad):
        g = grad(x[0])
        d = -g + norm(g) ** 2 / norm(m[1]) ** 2 * m[0]
        return x[0] + s.lr * d, (d, g)

    with pytest.raises(ValueError, match=r"no fixed point in common .*adds up beside one"):
        ode_limit(rule_of(conjugate, memories=2))
    counted = rule_of(
        lambda s, k, x, m, grad: (x[0] - s.lr / m[0] * grad(x[0]), ((1 + np.sqrt(1 + 4 * m[0] ** 2)) / 2,)),
        start=lambda x0: (1,),
    )
    with pytest.raises(ValueError, match=r"whatever the gradients are.*function of k"):
        ode_limit(counted)


def test_an_average_may_start_at_a_number():
    def slow(s, k, x, m, grad):
        v = (1 - 2 * s.lr) * m[0] + 2 * s.lr * grad(x[0])
        return x[0] - s.lr * v, (v,)

    limit = ode_limit(rule_of(slow, start=lambda x0: (1,)).replace(lr=h), h)
    assert list(limit.initial.values()) == [1]
