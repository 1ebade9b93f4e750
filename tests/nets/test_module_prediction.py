"""What the kernel of a module predicts of its training, on examples and points, against training it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import GradientDescent, HeavyBall, Nesterov, SoftmaxLoss, SquaredLoss, TorchSGD
from odeopt.nets import TwoLayerReLU, monte_carlo_kernel, predict_module, train

RNG = np.random.default_rng(0)
X, POINTS = RNG.standard_normal((9, 4)), RNG.standard_normal((5, 4))
TARGETS, CLASSES = RNG.standard_normal((9, 2)), np.eye(3)[np.arange(9) % 3]
K = [0, 1, 7, 30]


def features(outputs):
    """Linear in what is trained: random features below a head."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Linear(4, 20), nn.Tanh()).requires_grad_(False)
    return nn.Sequential(body, nn.Linear(20, outputs)).double()


@pytest.mark.parametrize("num_matvecs", [None, 18], ids=["decomposed", "matrix-free"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_module_that_is_linear_in_its_weights_is_predicted_exactly(num_matvecs, reduction):
    lr = 0.02 if reduction == "sum" else 0.2
    rules = [GradientDescent(lr), Nesterov(lr), TorchSGD(lr=lr, momentum=0.8, weight_decay=0.05)]
    options = {"points": POINTS, "reduction": reduction}
    found = predict_module(features(2), rules, X, TARGETS, K, num_matvecs=num_matvecs, **options)
    for rule, prediction in zip(rules, found, strict=True):
        run = train(features(2), rule, X, TARGETS, K[-1], record_at=K, **options)
        # roundings of numbers near 1, amplified by momentum and 30 steps
        np.testing.assert_allclose(prediction.loss, run.loss, rtol=1e-11)
        np.testing.assert_allclose(prediction.points.u, run.points.u, rtol=0, atol=1e-11)
        assert np.all(prediction.curve.lower <= run.loss * (1 + 1e-11))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_cross_entropy_of_a_linear_module_is_predicted_exactly(reduction):
    options = {"points": POINTS, "reduction": reduction, "objective": SoftmaxLoss()}
    rules = [HeavyBall(0.1, 0.8), HeavyBall(0.1, 0.8, weight_decay=0.05)]
    found = predict_module(features(3), rules, X, CLASSES, K, **options)
    for rule, prediction in zip(rules, found, strict=True):
        run = train(features(3), rule, X, CLASSES, K[-1], record_at=K, **options)
        np.testing.assert_allclose(prediction.loss, run.loss, rtol=1e-11)
        np.testing.assert_allclose(prediction.points.u, run.points.u, rtol=0, atol=1e-11)
        np.testing.assert_array_equal(prediction.points.accuracy([0] * 5), run.points.accuracy([0] * 5))


def test_a_wide_network_of_one_output_is_predicted_nearly():
    net, y = TwoLayerReLU(4, 20_000, seed=2), TARGETS[:, 0]
    before = copy.deepcopy(net.state_dict())
    (found,) = predict_module(net, HeavyBall(0.1, 0.8), X, y, K, points=POINTS)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    run = train(net, HeavyBall(0.1, 0.8), X, y, K[-1], record_at=K, points=POINTS)
    # the lazy regime is left by some m^(-1/2) = 0.7 %
    np.testing.assert_allclose(found.loss, run.loss, rtol=0, atol=0.03 * run.loss[0])
    np.testing.assert_allclose(found.points.u, run.points.u, rtol=0, atol=0.03)
    assert found.points.u.shape == (4, 5)


class Rows:
    """What numpy reads, and no more."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def test_inputs_are_whatever_numpy_reads():
    rule, module = GradientDescent(0.1), features(2)
    found, same = (
        predict_module(module, rule, form(X), TARGETS, K, points=form(POINTS)) for form in (Rows, list)
    )
    np.testing.assert_array_equal(found[0].points.u, same[0].points.u)
    drawn = [
        monte_carlo_kernel(lambda _: nn.Linear(X.shape[1], 1), form(X), draws=2).ntk for form in (Rows, list)
    ]
    np.testing.assert_array_equal(*drawn)


def test_what_does_not_fit_a_module_is_refused():
    rule = GradientDescent(0.1)
    for y, more, message in (
        (TARGETS[:, 0], {}, r"2 for each of 9 examples, got \(9,\)"),
        (TARGETS[:8], {}, r"2 for each of 9 examples, got \(8, 2\)"),
        (TARGETS, {"num_matvecs": 5, "objective": SoftmaxLoss()}, "num_matvecs is for the squared loss"),
        (TARGETS, {"reduction": "max"}, "reduction must be 'sum' or 'mean'"),
        (TARGETS, {"objective": "softmax"}, "objective must be a PredictionLoss"),
        (TARGETS, {"points": POINTS[:, :3]}, "does not fit the module"),
        (TARGETS, {"points": np.where(POINTS == POINTS.max(), np.nan, POINTS)}, "points must be finite, but"),
    ):
        with pytest.raises(ValueError, match=message):
            predict_module(features(2), rule, X, y, K, **more)
    with pytest.raises(ValueError, match="rule must be an UpdateRule, got str"):
        predict_module(features(2), ["gd"], X, TARGETS, K)
    assert SquaredLoss().reduced("sum", TARGETS) == 1 and SoftmaxLoss().reduced("mean", CLASSES) == 1 / 9
