"""Weight decay of networks: the image of their weights, and the prediction against training at two widths."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import HeavyBall
from odeopt.nets import TwoLayerReLU, empirical_operator, train
from odeopt.rules import error_polynomials
from odeopt.spectra import fixed_point

RNG = np.random.default_rng(2)
X = RNG.standard_normal((8, 5))
X /= np.linalg.norm(X, axis=1, keepdims=True)
INPUTS = np.random.default_rng(2).standard_normal((20, 10))
INPUTS /= np.linalg.norm(INPUTS, axis=1, keepdims=True)
LABELS = np.sign(INPUTS[:, 0])


def deep(*, bias):
    torch.manual_seed(1)
    layers = [nn.Linear(5, 30, bias=bias), nn.ReLU(), nn.Linear(30, 30, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(30, 2, bias=bias)).double()


class Rough(nn.Module):
    """Linear in its weights, by an operation that torch differentiates once."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(1, 2, 5, dtype=torch.float64))

    def forward(self, x):
        return torch.cdist(x * self.w, torch.zeros(1, 5, dtype=x.dtype), p=1.0)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_image_of_the_weights_is_the_degree_times_the_outputs_unless_there_are_biases(batch_size):
    without = empirical_operator(deep(bias=False), X, batch_size=batch_size)
    np.testing.assert_allclose(without.origin, 3 * without.predictions, atol=1e-13)  # three layers
    with_biases = empirical_operator(deep(bias=True), X, batch_size=batch_size)
    gap = np.abs(with_biases.origin - 3 * with_biases.predictions).max()
    assert gap > 1e-3
    last = empirical_operator(deep(bias=True), X, params="4", batch_size=batch_size)
    np.testing.assert_allclose(last.origin, last.predictions, atol=1e-13)  # linear in the last layer


def test_the_image_is_found_row_by_row_where_torch_has_one_derivative_only():
    kernel = empirical_operator(Rough(), X)
    np.testing.assert_allclose(kernel.origin, kernel.predictions, rtol=1e-12)


def problem(m, seed):
    net = TwoLayerReLU(10, m, seed=seed)
    kernel = empirical_operator(net, INPUTS)
    return net, kernel.gram(), kernel.predictions - LABELS, kernel.origin


def deviation(rule, m):
    """Largest distance of trained errors from predicted ones, relative to the first: mean of seeds."""
    found = []
    for seed in range(4):
        net, kernel, delta0, origin = problem(m, seed)
        run = train(net, rule, INPUTS, LABELS, 40)
        lam, vectors = np.linalg.eigh(kernel)
        phi, chi = error_polynomials(rule, np.maximum(lam, 0.0), run.k)
        predicted = (phi * (vectors.T @ delta0) + chi * (vectors.T @ (delta0 - origin))) @ vectors.T
        found.append(np.linalg.norm(run.errors - predicted, axis=1).max() / np.linalg.norm(delta0))
    return np.mean(found)


@pytest.mark.parametrize(
    "decay",
    [
        {"weight_decay": 0.05, "to_start": True},
        {"weight_decay": 0.01},  # gamma t = 0.2 at the end
        {"weight_decay": 0.01, "decoupled": True},
    ],
    ids=str,
)
def test_trained_networks_with_decay_approach_the_prediction_as_the_root_of_their_width(decay):
    widths = np.array([256, 1024, 4096])
    gaps = [deviation(HeavyBall(0.25, 0.5, **decay), m) for m in widths]
    assert np.polyfit(np.log(widths), np.log(gaps), 1)[0] == pytest.approx(-0.5, abs=0.1)
    assert gaps[-1] < 0.01


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_decay_that_makes_training_unstable_is_refused_with_its_limit(decoupled):
    net, kernel, _, _ = problem(256, 0)
    lam, rule = np.linalg.eigvalsh(kernel)[-1], HeavyBall(0.1, 0.8, weight_decay=0.5, decoupled=decoupled)
    limit = 2 * 1.8 / (lam + (1.8 if decoupled else 1.0) * 0.5)
    assert np.isfinite(train(net, rule.replace(lr=0.99 * limit), INPUTS, LABELS, 2).loss).all()
    with pytest.raises(ValueError, match=f"stability limit {limit:.6g} .*weight_decay=0.5"):
        train(problem(256, 0)[0], rule.replace(lr=1.01 * limit), INPUTS, LABELS, 2)


def test_wide_networks_that_decay_to_their_start_end_in_the_ridge_solution():
    rule, gaps = HeavyBall(0.5, 0.5, weight_decay=0.2, to_start=True), []
    for m in (1024, 16384):
        net, kernel, delta0, _ = problem(m, 0)
        end = fixed_point(rule).error(kernel, delta0)
        np.testing.assert_allclose(end, 0.2 * np.linalg.solve(kernel + 0.2 * np.eye(20), delta0), rtol=1e-9)
        run = train(net, rule, INPUTS, LABELS, 200, record_at=[200])
        gaps.append(np.linalg.norm(run.errors[-1] - end) / np.linalg.norm(delta0))
    # the slowest root of the linear model is 0.8: after 200 steps what is left is the width alone
    assert gaps[1] < 0.005
    assert gaps[1] < gaps[0] / 2
