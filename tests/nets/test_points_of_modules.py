"""Kernels of modules between points and examples, and what training does to the outputs of the points."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import HeavyBall, TorchSGD, predict, spectral_measure
from odeopt.nets import TwoLayerReLU, empirical_operator

RNG = np.random.default_rng(0)
X, POINTS = RNG.standard_normal((9, 4)), RNG.standard_normal((5, 4))


class Features(nn.Module):
    """Linear in what is trained, two outputs: random features below a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(4, 20), nn.Tanh()).requires_grad_(False)
        self.head = nn.Linear(20, 2)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_kernel_between_two_sets_is_a_block_of_that_of_all(batch_size, reduction):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    options = {"batch_size": batch_size, "reduction": reduction}
    cross = empirical_operator(module, POINTS, X, **options)
    whole = empirical_operator(module, np.concatenate([POINTS, X]), reduction="sum").gram()
    scale = 1.0 if reduction == "sum" else 2 / 18
    np.testing.assert_allclose(cross @ np.eye(18), scale * whole[:10, 10:], rtol=0, atol=1e-13)
    np.testing.assert_allclose(cross.T @ np.eye(10), scale * whole[10:, :10], rtol=0, atol=1e-13)
    np.testing.assert_allclose(cross.predictions, module(torch.tensor(POINTS)).detach().reshape(-1))


@pytest.mark.parametrize(
    "rule",
    [HeavyBall(0.3, 0.8), TorchSGD(lr=0.2, momentum=0.9, weight_decay=0.05)],
    ids=["heavy ball", "decay"],
)
def test_outputs_of_points_are_those_of_the_module_that_torch_trained(rule):
    module, steps = Features().double(), 30
    targets = torch.tensor(RNG.standard_normal((9, 2)))
    kernel = empirical_operator(module, X, reduction="mean")
    cross = empirical_operator(module, POINTS, X, reduction="mean")
    error = kernel.predictions - targets.numpy().reshape(-1)
    measure = spectral_measure(kernel, error, num_matvecs=18, origin=kernel.origin)
    found = predict(rule, measure, cross, [steps], start=cross.predictions, points_origin=cross.origin)
    decay = float(rule.weight_decay or 0.0)
    optimiser = torch.optim.SGD(
        module.head.parameters(), lr=rule.lr, momentum=rule.momentum, weight_decay=decay
    )
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.mse_loss(module(torch.tensor(X)), targets).backward()
        optimiser.step()
    expected = module(torch.tensor(POINTS)).detach().reshape(-1)
    # 30 roundings of numbers near 1, amplified by momentum
    np.testing.assert_allclose(found.u[0], expected, rtol=0, atol=1e-12)


def test_two_sets_are_refused_or_warned_of_as_such():
    net = TwoLayerReLU(4, 10)
    with pytest.warns(UserWarning, match=r"1 of the 5 rows of x are rows of x2 too \(row 0 is row 3 of x2\)"):
        empirical_operator(net, np.concatenate([X[3:4], POINTS[1:]]), X)
    with pytest.raises(ValueError, match="dense is for one set of inputs"):
        empirical_operator(net, POINTS, X, dense=True)
    with pytest.raises(ValueError, match=r"the d of the network, got \(9, 3\)"):
        empirical_operator(net, POINTS, X[:, :3])
