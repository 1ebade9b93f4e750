"""Kernels as means over initial weights, against closed forms within their standard errors."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import relu_gram
from odeopt.kernels import ConvolutionKernel, NetworkKernel
from odeopt.nets import TwoLayerReLU, monte_carlo_kernel

RNG = np.random.default_rng(0)
X, X2 = RNG.standard_normal((2, 3)), RNG.standard_normal((3, 3))
WEIGHT, BIAS = 1.69, 0.16


class Scaled(nn.Module):
    """A layer with N(0, 1) weights and the scales of the theory: dense, or of 3 x 3 pixels."""

    def __init__(self, inputs, outputs, size=()):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *size, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(outputs, dtype=torch.float64))

    def forward(self, z):
        scale = (WEIGHT / self.weight[0].numel()) ** 0.5
        if self.weight.ndim == 2:
            return nn.functional.linear(z, scale * self.weight, BIAS**0.5 * self.bias)
        return nn.functional.conv2d(z, scale * self.weight, BIAS**0.5 * self.bias, padding="same")


class Pooled(nn.Module):
    def forward(self, z):
        return z.mean(dim=(2, 3))


def dense(m, outputs=1, normalised=False, depth=1):
    sizes = [3, *[m] * depth]
    norm = [nn.LayerNorm(m, elementwise_affine=False)] if normalised else []
    hidden = [layer for a in sizes[:-1] for layer in (Scaled(a, m), *norm, nn.ReLU())]
    return nn.Sequential(*hidden, Scaled(m, outputs))


def convolution(m, outputs):
    return nn.Sequential(Scaled(2, m, (3, 3)), nn.GELU(), Pooled(), Scaled(m, outputs))


def require_agreement(mean, error, exact, seen):
    """Entries lie within four errors, which are below a share `seen` of the kernel.

    The mean square of deviations in errors is below 5.4 in 97 of 100 cases even if all entries go together.
    """
    z = (mean - exact) / error
    assert np.abs(z).max() < 4
    assert (z**2).mean() < 5.4
    assert error.max() < seen * np.abs(exact).max()


def test_one_hidden_layer_has_the_closed_kernels_at_any_width():
    found = monte_carlo_kernel(lambda seed: dense(64, 16), X, X2, draws=24)
    kernels = [NetworkKernel(1, "relu", WEIGHT, BIAS, kind)(X, X2) for kind in ("ntk", "nngp")]
    require_agreement(found.ntk, found.ntk_error, kernels[0], 0.05)
    require_agreement(found.nngp, found.nngp_error, kernels[1], 0.2)


def test_convolutions_with_pooling_have_the_closed_kernels():
    images, others = RNG.standard_normal((2, 2, 3, 3)), RNG.standard_normal((2, 2, 3, 3))
    found = monte_carlo_kernel(lambda seed: convolution(32, 16), images, others, draws=24)
    kernels = [ConvolutionKernel(1, "gelu", WEIGHT, BIAS, kind)(images, others) for kind in ("ntk", "nngp")]
    require_agreement(found.ntk, found.ntk_error, kernels[0], 0.1)
    require_agreement(found.nngp, found.nngp_error, kernels[1], 0.2)


def test_layer_norm_has_its_closed_kernels_as_the_width_grows():
    """What a finite width leaves out is O(1/m), at m = 256 below the errors."""
    ntk, nngp = (
        NetworkKernel(2, "relu", WEIGHT, BIAS, kind, layer_norm=1e-5)(X, X2) for kind in ("ntk", "nngp")
    )
    wide = monte_carlo_kernel(lambda seed: dense(256, 16, True, 2), X, X2, draws=24)
    require_agreement(wide.ntk, wide.ntk_error, ntk, 0.02)
    require_agreement(wide.nngp, wide.nngp_error, nngp, 0.2)
    plain = NetworkKernel(2, "relu", WEIGHT, BIAS)(X, X2)
    assert np.abs((wide.ntk - plain) / wide.ntk_error).max() > 8  # what the test can see


def test_errors_are_those_of_repeated_estimates():
    x, exact = np.eye(2), relu_gram(np.eye(2), allow_singular=True)
    runs = [
        monte_carlo_kernel(lambda seed: TwoLayerReLU(2, 8, seed=seed), x, draws=8, seed=s) for s in range(12)
    ]
    z = [(run.ntk[0, 0] - exact[0, 0]) / run.ntk_error[0, 0] for run in runs]
    # the mean square of 12 of Student's t of 7 degrees of freedom: 7 / 5, with a deviation of 1
    assert 0.3 < np.mean(np.square(z)) < 4.5
    assert np.array_equal(runs[0].ntk, runs[0].ntk.T)


def test_draws_leave_the_generator_alone_and_repeat():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one, two = (monte_carlo_kernel(lambda seed: dense(8), X, X2, draws=3, seed=5) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(one.ntk, two.ntk) and np.array_equal(one.nngp, two.nngp)
    assert not np.array_equal(one.ntk, monte_carlo_kernel(lambda seed: dense(8), X, X2, draws=3).ntk)


def test_factories_that_are_none_are_refused():
    fixed = dense(4)
    for factory, message, draws in (
        (lambda seed: fixed, "makes the same network for all of 3 seeds", 3),
        (lambda seed: dense(4, 1 + seed % 2), "makes networks of", 8),
        (lambda seed: 3, "module must be a torch.nn.Module, got int", 3),
        (7, "module_factory must be a function from a seed to a module, got int", 3),
        (lambda seed: dense(4), "draws must be an integer of at least 2", 1),
    ):
        with pytest.raises(ValueError, match=message):
            monte_carlo_kernel(factory, X, X2, draws=draws)
