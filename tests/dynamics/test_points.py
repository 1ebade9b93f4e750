"""Predictions at other points, and norms of weights, against weights run on a linear model."""

import itertools

import numpy as np
import pytest

from odeopt import GradientDescent, HeavyBall, Nesterov, TorchSGD
from odeopt.dynamics import LogisticLoss, predict_iterates, predict_points
from odeopt.rules import Averaged, Cosine, iterate

JACOBIAN = np.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 2]])
POINTS = np.array([[1.0, 2, 0, 1], [0, 1, 3, 1]])
WEIGHTS = np.array([1, -1, 2, 0.5])
DELTA0 = np.array([0.5, -1, 2]) - np.array([1.0, 0, -1])
KERNEL, CROSS = JACOBIAN @ JACOBIAN.T, POINTS @ JACOBIAN.T
START, K = np.array([0.3, -0.7]), np.arange(41)
ORIGINS = {"origin": JACOBIAN @ WEIGHTS, "points_origin": POINTS @ WEIGHTS}


def trained(rule):
    run = iterate(rule, WEIGHTS, lambda w: JACOBIAN.T @ (JACOBIAN @ (w - WEIGHTS) + DELTA0))
    return START + (np.array(list(itertools.islice(run, K[-1] + 1))) - WEIGHTS) @ POINTS.T


@pytest.mark.parametrize(
    "rule",
    [
        GradientDescent(0.05),
        HeavyBall(0.05, 0.9, weight_decay=0.3),
        HeavyBall(0.05, 0.9, weight_decay=0.3, to_start=True),
        TorchSGD(lr=0.05, momentum=0.9, weight_decay=0.3, decoupled=True),
        Averaged(Nesterov(0.05, weight_decay=0.3)),
        GradientDescent(Cosine(0.05, 40), weight_decay=0.3),
    ],
    ids=lambda rule: rule.label,
)
def test_points_follow_the_weights(rule):
    found = predict_points(rule, KERNEL, CROSS, DELTA0, START, K, **ORIGINS)
    np.testing.assert_allclose(found, trained(rule), rtol=0, atol=1e-12)  # 40 roundings, ten times amplified


def test_the_stated_predictions_of_heavy_ball_with_decay():
    rule = HeavyBall(0.05, 0.9, weight_decay=0.3)
    found = predict_points(rule, KERNEL, CROSS, DELTA0, START, [25], **ORIGINS) - START
    np.testing.assert_allclose(found[0], [0.43634379, 1.71411783], rtol=0, atol=6e-9)  # eight decimals


def test_a_kernel_without_an_eigenvalue_is_exact_too():
    """The quotient (1 - P) / lam loses all digits at lam = 1e-12; the run from 0 loses none."""
    rule, tiny = HeavyBall(0.4, 0.8), 1e-12
    found = predict_points(rule, [[tiny]], [[1.0]], [1.0], [0.0], [30])
    assert -found[0, 0] == pytest.approx(52.00990352, abs=6e-9)


@pytest.mark.parametrize("decay", [{"weight_decay": 0.3}, {"weight_decay": 0.3, "decoupled": True}])
def test_decayed_predictions_under_any_loss_are_those_of_the_weights(decay):
    rule, loss, y = HeavyBall(0.05, 0.9, **decay), LogisticLoss(), np.array([1.0, -1.0, 1.0])
    u0 = np.array([0.5, -1.0, 2.0])

    def outputs(w):
        return u0 + JACOBIAN @ (w - WEIGHTS)

    run = iterate(rule, WEIGHTS, lambda w: JACOBIAN.T @ loss.gradient(outputs(w), y))
    expected = np.array([outputs(w) for w in itertools.islice(run, K[-1] + 1)])
    found = predict_iterates(rule, KERNEL, loss, u0, y, K, origin=ORIGINS["origin"])
    np.testing.assert_allclose(found.u, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="no step in the error alone"):
        predict_iterates(rule, KERNEL, loss, u0, y, K)


def test_missing_origins_are_asked_for():
    with pytest.raises(ValueError, match=r"pulls at the weights.*points_origin = J_\* w_0"):
        predict_points(GradientDescent(0.1, weight_decay=0.1), KERNEL, CROSS, DELTA0, START, K)
    with pytest.raises(ValueError, match="cross_kernel must have 3 columns"):
        predict_points(GradientDescent(0.1), KERNEL, CROSS.T, DELTA0, START, K)
    with pytest.raises(ValueError, match="start must have 2 entries"):
        predict_points(GradientDescent(0.1), KERNEL, CROSS, DELTA0, [1.0], K)
