"""Weight decay, coupled and decoupled, to zero and to the start, against its definition written out."""

import itertools

import numpy as np
import pytest

from odeopt import QHM, Adam, GradientDescent, HeavyBall, Nesterov, NesterovConstant, TorchSGD
from odeopt.rules import Cosine, Linear, iterate
from odeopt.rules.names import rule_spec
from odeopt.rules.reading import read

RNG = np.random.default_rng(7)
J, Y, START = RNG.standard_normal((5, 8)), RNG.standard_normal(5), RNG.standard_normal(8)
STEPS = 60
# STEPS roundings of numbers of size 1, amplified by momentum 0.9 at most ten times
CLOSE = {"rtol": 0, "atol": 1e-12}


def gradient(w):
    return J.T @ (J @ w - Y)


def iterates(rule, grad=gradient):
    return np.array(list(itertools.islice(iterate(rule, START, grad), STEPS + 1)))


RULES = [
    GradientDescent(0.02),
    HeavyBall(0.02, 0.9),
    Nesterov(0.02, r=3),
    NesterovConstant(0.02, 0.8),
    QHM(0.05, 0.7, 0.5),
    TorchSGD(lr=0.02, momentum=0.9),
    TorchSGD(lr=0.02, momentum=0.9, nesterov=True),
    TorchSGD(lr=0.02),
    Adam(0.02),
    HeavyBall(Cosine(0.02, STEPS), Linear(0.9, STEPS, end=0.5)),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
@pytest.mark.parametrize("to_start", [False, True])
def test_coupled_decay_is_a_penalty_on_the_weights(rule, to_start):
    anchor = START if to_start else 0 * START
    penalised = iterates(rule, lambda w: gradient(w) + 0.3 * (w - anchor))
    decayed = iterates(rule.replace(weight_decay=0.3, to_start=to_start))
    np.testing.assert_allclose(decayed, penalised, **CLOSE)


@pytest.mark.parametrize("to_start", [False, True])
def test_decoupled_decay_of_momentum_leaves_the_velocity_alone(to_start):
    lr, omega, anchor = Cosine(0.02, STEPS), Linear(0.5, STEPS, end=0.1), START if to_start else 0 * START
    w, v, expected = START, 0 * START, [START]
    for k in range(STEPS):
        v = 0.9 * v - lr(k) * gradient(w)
        w = w + v - lr(k) * omega(k) * (w - anchor)
        expected.append(w)
    rule = HeavyBall(lr, 0.9, weight_decay=omega, decoupled=True, to_start=to_start)
    np.testing.assert_allclose(iterates(rule), expected, **CLOSE)
    w, v, expected = START, 0 * START, [START]
    for _ in range(STEPS):
        previous, w = w, w - 0.02 * 0.5 * (w - anchor) + 0.8 * v
        w = w - 0.02 * gradient(previous + 0.8 * v)
        v = w - previous + 0.02 * 0.5 * (previous - anchor)
        expected.append(w)
    rule = NesterovConstant(0.02, 0.8, weight_decay=0.5, decoupled=True, to_start=to_start)
    np.testing.assert_allclose(iterates(rule), expected, **CLOSE)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.history == 1], ids=lambda rule: rule.label)
def test_decoupled_decay_is_taken_off_the_step(rule):
    decayed = rule.replace(weight_decay=0.3, decoupled=True)
    states = itertools.islice(decayed.states(START, gradient), STEPS)
    for k, (iterates_k, memory) in enumerate(states):
        plain, _ = rule.step(k, iterates_k, memory, gradient)
        found, _ = decayed.step(k, iterates_k, memory, gradient)
        np.testing.assert_allclose(found, plain - rule.lr * 0.3 * iterates_k[0], **CLOSE)


def test_without_momentum_coupled_and_decoupled_are_one():
    one, other = (GradientDescent(0.02, weight_decay=0.3, decoupled=d) for d in (False, True))
    np.testing.assert_allclose(iterates(one), iterates(other), **CLOSE)


def test_decay_to_the_start_keeps_the_equations_of_the_error_and_decay_to_zero_does_not():
    for decoupled in (False, True):
        decay = {"weight_decay": 0.1, "decoupled": decoupled}
        assert not read(HeavyBall(0.1, 0.9, **decay)).equivariant
        assert read(HeavyBall(0.1, 0.9, **decay, to_start=True)).equivariant


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decoupled": True}, "decoupled = True says how weights decay, but weight_decay was not given"),
        ({"to_start": True}, "to_start = True"),
        ({"weight_decay": -0.1}, "weight_decay must be nonnegative, got -0.1"),
        ({"weight_decay": Linear(0.1, 10, end=-0.2)}, "weight_decay must be nonnegative, got -0.2"),
        ({"weight_decay": "0.1"}, "weight_decay must be a real number or a sympy expression, got '0.1'"),
        ({"weight_decay": 0.1, "decoupled": 1}, "decoupled must be True or False, got 1"),
    ],
)
def test_refusals_name_the_argument(options, words):
    with pytest.raises(ValueError, match=words):
        HeavyBall(0.1, 0.9, **options)


def test_a_rule_without_decay_is_written_as_before():
    rule = HeavyBall(0.1, 0.9)
    assert repr(rule) == "HeavyBall(lr=0.1, momentum=0.9)"
    assert rule_spec(rule) == {"type": "HeavyBall", "lr": 0.1, "momentum": 0.9}
    decayed = rule.replace(weight_decay=0.01, decoupled=True)
    assert repr(decayed) == "HeavyBall(lr=0.1, momentum=0.9, weight_decay=0.01, decoupled=True)"
    assert decayed.label == "HeavyBall(lr=0.1, momentum=0.9, weight_decay=0.01, decoupled=True)"
    assert rule_spec(decayed) == {**rule_spec(rule), "weight_decay": 0.01, "decoupled": True}
    assert decayed.without_decay() == rule
