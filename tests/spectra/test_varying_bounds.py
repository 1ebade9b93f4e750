"""Brackets of rules whose steps change with k: responses by checkpoints, the residual as one polynomial."""

from __future__ import annotations

import numpy as np
import pytest

from odeopt import GradientDescent, HeavyBall, Nesterov, TorchSGD, loss_curve, spectral_measure
from odeopt.rules import Cosine, Linear, Step, Warmup, transition_matrix
from odeopt.rules.reading import read
from odeopt.spectra.responses import Responses, checkpoint_spacing, step_floats

LAM = np.geomspace(1e-4, 1, 200)
DELTA = np.random.default_rng(0).standard_normal(200)
STEPS = 600
RULES = [
    GradientDescent(Cosine(1.5, steps=STEPS)),
    GradientDescent(Step(2.2, milestones=(5, 300), factor=0.5)),
    HeavyBall(Cosine(0.5, steps=STEPS), 0.9),
    Nesterov(Warmup(10) * Linear(0.8, steps=STEPS)),
    TorchSGD(Cosine(0.3, steps=STEPS), 0.9, nesterov=True),
]
RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)


@pytest.fixture(scope="module")
def exact():
    return spectral_measure(np.diag(LAM), DELTA)


@pytest.fixture(scope="module", params=[25, 70])
def seen(request):
    return spectral_measure(np.diag(LAM), DELTA, num_matvecs=request.param)


@RULE
def test_late_brackets_are_proved_and_hold(rule, exact, seen):
    k = np.concatenate([np.arange(0, STEPS, 7), [STEPS]])
    curve = loss_curve(rule, seen, k)
    true = loss_curve(rule, exact, k)
    assert curve.proved.all()
    assert np.all((curve.lower <= true.upper) & (true.lower <= curve.upper))
    # at worst the largest residual polynomial: 1, and for overshoots, on few points of a mesh, some more
    assert curve.upper[-1] <= 2 * 0.5 * seen.mass


def test_many_lanczos_steps_leave_a_narrow_bracket():
    seen = spectral_measure(np.diag(LAM), DELTA, num_matvecs=70)
    curve = loss_curve(RULES[2], seen, np.arange(STEPS + 1))
    # of a residual that has all but converged
    assert np.all(curve.upper - curve.lower <= 1e-3 * curve.loss)


@RULE
def test_responses_by_checkpoints_are_bounds_on_responses(rule):
    steps = 90
    reading = read(rule)
    matrices = step_floats(reading, steps)
    k = np.arange(1, steps + 1)
    many = Responses(matrices, k, False, reading.law_from, 1, 0.0, 1.0)
    assert checkpoint_spacing(steps) < steps
    lam = np.linspace(0, 1, 50)
    for place in (17, 40, 89):
        product = np.eye(many.entries)[None] * np.ones((lam.size, 1, 1))
        gradients, state = many.before[place - 1]
        assert gradients.shape[0] == state.shape[0] == place
        for j in reversed(range(place)):
            true = np.abs(product[:, 0]).max(axis=0)
            assert np.all(true <= state[j] * (1 + 1e-12))
            # within the transient growth of a state, and the factor of the mesh
            assert state[j].max() <= 50 * max(true.max(), 1e-3)
            product = product @ transition_matrix(rule, lam, j)
    few = Responses(matrices, k[-1:], False, reading.law_from, 1, 0.0, 1.0)
    assert np.all(few.before[0][0] <= many.before[-1][0] * 1.5)


def test_forces_along_one_vector_are_one_polynomial():
    """Gradient descent driven by f_j = 1: what is left at lam is the sum of all products of later factors."""
    rule, steps = GradientDescent(Linear(1.5, steps=60)), 60
    matrices = step_floats(read(rule), steps)
    responses = Responses(matrices, np.array([20, 60]), False, 0, 1, 0.0, 1.0)
    bound = responses.driven(np.zeros(1), np.tile([[1.0], [-1.0]], (steps // 2, 1)))
    lam = np.linspace(0, 1, 3001)
    error, sizes = np.zeros_like(lam), {}
    for j in range(steps):
        rate = rule.lr(j)
        error = (1 - rate * lam) * error - rate * (-1.0) ** j
        sizes[j + 1] = np.abs(error).max()
    true = np.array([sizes[20], sizes[60]])
    assert np.all((true <= bound) & (bound <= true / np.cos(np.pi / 6) * (1 + 1e-6)))  # 3 points for a degree
    without_signs = responses.of_gradients(np.ones((steps, 1)))
    assert np.all(bound < without_signs / 2)
