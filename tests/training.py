"""Small training problems, and the paths of torch's own optimizer beside which they are run."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt.data import prepare
from odeopt.nets import TwoLayerReLU, train

BOTH = pytest.mark.parametrize("layers", ["first", "both"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def small_problem(n=6, d=4):
    rng = np.random.default_rng(0)
    return prepare(rng.standard_normal((n, d)), rng.standard_normal(n))


def flat(net):
    return torch.cat([p.detach().reshape(-1) for p in net.parameters() if p.requires_grad]).clone()


def tensors(data, dtype=torch.float64):
    return torch.tensor(data.x, dtype=dtype), torch.tensor(data.y, dtype=dtype)


def half_sum(u, y):
    return 0.5 * ((u.reshape(-1) - y) ** 2).sum()


def sgd_path(net, x, y, num_steps, loss=half_sum, momentum_at=None, **options):
    """Parameters p_k and gradients at p_k of torch.optim.SGD, k = 0 ... num_steps."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, **options)
    points, gradients = [], []
    for k in range(num_steps + 1):
        if momentum_at is not None:
            optimizer.param_groups[0]["momentum"] = momentum_at(k)
        optimizer.zero_grad()
        loss(net(x), y).backward()
        points.append(flat(net))
        gradients.append(torch.cat([p.grad.reshape(-1) for p in parameters]).clone())
        optimizer.step()
    return points, gradients


def trained(rule, data, num_steps, *, dtype=torch.float64, layers="first", m=40, **options):
    net = TwoLayerReLU(data.x.shape[1], m, layers=layers, dtype=dtype)
    run = train(net, rule, data.x, data.y, num_steps, **options)
    return net, run


def assert_equal_to_rounding(ours, theirs, dtype):
    # Both run the same formula in another order. Each of at most 40 steps commits a few roundings
    # of weights of size up to 3, and stable dynamics do not amplify them: 40 * 3 * 4 eps.
    scale = 500 * torch.finfo(dtype).eps
    np.testing.assert_allclose(ours.double().numpy(), theirs.double().numpy(), rtol=0, atol=scale)
    assert ours.dtype == dtype


def linear_net():
    net = nn.Linear(4, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(net.weight)
    return net
