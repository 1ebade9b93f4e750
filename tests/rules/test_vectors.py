"""A step run on what stands for arrays is the step that arrays take: in place, and by name of functions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from odeopt import loss_curve, max_learning_rate, ode_limit, spectral_measure
from odeopt.rules import sqrt
from odeopt.rules.reading import read
from tests.steps import rule_of
from tests.users import curve, run


def _renamed(s, k, x, m, grad):
    """The gradient is changed under its second name, with a decay that needs the weights beside the error."""
    gradient = grad(x[0]) + 0.1 * x[0]
    half = gradient
    half *= 0.5
    v = 0.9 * m[0] + gradient
    other = v
    other -= 0.25 * half
    return x[0] - s.lr * v, (v,)


def _by_numpy(s, k, x, m, grad):
    v = np.add(np.multiply(0.9, m[0]), grad(x[0]) + 0.1 * x[0].copy())
    return np.subtract(x[0], np.float64(s.lr) * v), (v,)


@pytest.mark.parametrize("step", [_renamed, _by_numpy])
def test_curve_and_bracket_with_decay_are_those_of_the_step_on_arrays(step):
    rng = np.random.default_rng(0)
    J, y, w = rng.standard_normal((4, 7)) / 3, rng.standard_normal(4), rng.standard_normal(7)
    rule = rule_of(step, start=lambda x0: (np.zeros_like(x0),))
    k = np.array([0, 1, 5, 8, 40])
    weights = run(rule, w, 40, lambda v: J.T @ (J @ v - y))[k]
    true = 0.5 * ((weights @ J.T - y) ** 2).sum(1)
    for options in ({}, {"num_matvecs": 3}):
        found = loss_curve(rule, spectral_measure(J @ J.T, J @ w - y, origin=J @ w, **options), k)
        # a hundred roundings of some steps each, on either side
        assert np.all((found.lower <= true * (1 + 1e-12)) & (true <= found.upper * (1 + 1e-12)))
        if not options:
            assert_allclose(found.loss, true, rtol=1e-12)


def test_a_second_name_is_changed_in_the_stability_limit_too():
    def twice(s, k, x, m, grad):
        gradient = grad(x[0])
        other = gradient
        other += gradient
        return x[0] - s.lr * gradient, m

    assert_allclose(max_learning_rate(rule_of(twice), 1.0), 1.0, rtol=1e-12)  # |1 - 2 lr| <= 1


def test_a_second_name_is_changed_in_the_limit_of_a_step_that_is_not_linear():
    """x_+ = x - lr 2 g/sqrt(1 + 4 g^2), of first order in lr; the limit without the factor is off by 0.17."""

    def step(s, k, x, m, grad):
        gradient = grad(x[0])
        other = gradient
        other *= 2
        return x[0] - s.lr * gradient / sqrt(1 + gradient * gradient), m

    rule = rule_of(step).replace(lr=0.01)
    found = curve(ode_limit(rule), [1.0, -0.6], [1.0])
    assert_allclose(found[-1], run(rule, [1.0, -0.6], 100, lambda x: 1 * x)[-1], atol=0.01)


@pytest.mark.parametrize("factor", [lambda v: v, lambda v: v / sqrt(1 + v * v)])
@pytest.mark.parametrize(
    ("change", "words"), [(lambda v, g: v.__isub__(g), "`-=`"), (lambda v, g: v.mul_(2), r"`\.mul_\(\)`")]
)
def test_what_the_step_was_handed_stays_as_it_is(factor, change, words):
    rule = rule_of(lambda s, k, x, m, grad: (change(x[0].detach(), s.lr * factor(grad(x[0]))), m))
    with pytest.raises(ValueError, match=f"iterate or a memory in place with {words}"):
        ode_limit(rule)


def test_a_memory_that_only_tensors_can_begin_is_refused_for_arrays():
    rule = rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), m), start=lambda x0: (x0.clone(),))
    assert read(rule).linear
    with pytest.raises(ValueError, match=r"initial_memory of Own\(lr=0.1\) fails on an .* ndarray"):
        loss_curve(rule, spectral_measure(np.eye(2), np.ones(2)), [0, 1])


@pytest.mark.parametrize(
    ("factor", "first"),
    [
        (lambda s, k: s.lr if k >= 5 else 10 * s.lr, 5),
        (lambda s, k: s.lr if k < 0 or k > 4 else 10 * s.lr, 5),
        (lambda s, k: s.lr * (k > 0), 1),
        (lambda s, k: s.lr * max(0, (k - 1) / (k + 2)), 2),
        (lambda s, k: s.lr * min(1, 4 / k if k else 1), 5),
        (lambda s, k: s.lr * max(k, 4) / (k + 1), 4),
    ],
)
def test_a_comparison_with_one_answer_from_some_early_step_on_is_read(factor, first):
    reading = read(rule_of(lambda s, k, x, m, grad: (x[0] - factor(s, k) * grad(x[0]), m)))
    assert reading.law_refusal is None
    assert reading.law_from == first
    for k in (0, 1, 2, 4, 5, 9, 100):
        assert_allclose(float(-reading.matrices(k).N[0][0]), factor(reading.rule, k), rtol=1e-15)


def test_a_step_may_decide_by_a_hyperparameter_that_is_a_number():
    def step(s, k, x, m, grad):
        y = x[0] + s.momentum * (x[0] - x[1]) if s.momentum > 0 else x[0]
        return y - np.cos(s.lr) * s.lr * grad(y), m

    limit = ode_limit(rule_of(step, history=2, momentum=0.5))
    assert str(limit) == "1/2*X' + grad f(X) = 0"
