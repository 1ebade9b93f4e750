r"""Deep and convolutional ReLU networks in the parametrisation of the theory.

All weights are standard normal, and each layer after a ReLU divides by the root of its fan-in and
multiplies by :math:`\sqrt2`, which keeps the size of activations and the kernel finite as the width grows.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from odeopt.nets.relu import require_integer

__all__ = ["ConvReLU", "DeepReLU"]


class DeepReLU(nn.Module):
    r"""A fully connected ReLU network of any depth, all layers trained.

    .. math:: h_1=W_1x,\qquad h_{l+1}=\sqrt{2/m}\;W_{l+1}\max(h_l,0),\qquad f=h_{L+1},

    with L hidden layers of width m and standard normal weights. For L = 1 its kernel is twice that of
    :class:`odeopt.nets.TwoLayerReLU` with both layers trained, in the limit of infinite width.

    Parameters
    ----------
    d : int
        Dimension of the input.
    width : int
        Width m of each hidden layer.
    depth : int, optional
        Number L of hidden layers.
    outputs : int, optional
        Number of outputs; 1 gives the shape (n,).
    seed : int, optional
        Seed of the weights.

    Raises
    ------
    ValueError
        If an argument is not a positive integer (the seed: nonnegative).

    Examples
    --------
    >>> net = DeepReLU(4, 32, depth=3)
    >>> net(torch.ones(5, 4, dtype=torch.float64)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([5]), 2208)
    """

    def __init__(self, d: int, width: int, depth: int = 1, *, outputs: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.d, self.width = require_integer("d", d, 1), require_integer("width", width, 1)
        sizes = [
            self.d,
            *(self.width,) * require_integer("depth", depth, 1),
            require_integer("outputs", outputs, 1),
        ]
        generator = torch.Generator().manual_seed(require_integer("seed", seed, 0, 2**63 - 1))
        self.weights = nn.ParameterList(
            _normal(generator, rows, columns) for columns, rows in itertools.pairwise(sizes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs, shape (n, d), to outputs, shape (n,) or (n, outputs)."""
        first, *rest = self.weights
        hidden = x @ first.T
        for weights in rest:
            hidden = math.sqrt(2 / self.width) * (torch.relu(hidden) @ weights.T)
        return hidden[:, 0] if hidden.shape[1] == 1 else hidden


class ConvReLU(nn.Module):
    r"""A small convolutional ReLU network on square images: two convolutions, then a linear readout.

    Parameters
    ----------
    side : int
        Height and width of the images.
    channels : int
        Channels of both convolutions, the width of the network.
    seed : int, optional
        Seed of the weights.

    Raises
    ------
    ValueError
        If an argument is not a positive integer (the seed: nonnegative).

    Notes
    -----
    Kernels are 3 x 3 with zero padding. Images of unit norm are multiplied by side / 3, so that the
    preactivations of the first layer have about unit variance on average over the positions.

    Examples
    --------
    >>> net = ConvReLU(8, 16)
    >>> net(torch.ones(5, 64, dtype=torch.float64)).shape
    torch.Size([5])
    """

    def __init__(self, side: int, channels: int, *, seed: int = 0) -> None:
        super().__init__()
        self.side, self.channels = require_integer("side", side, 1), require_integer("channels", channels, 1)
        generator = torch.Generator().manual_seed(require_integer("seed", seed, 0, 2**63 - 1))
        self.first = _normal(generator, self.channels, 1, 3, 3)
        self.second = _normal(generator, self.channels, self.channels, 3, 3)
        self.readout = _normal(generator, self.channels * self.side**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images, shape (n, side * side) or (n, 1, side, side), to outputs, shape (n,)."""
        images = x.reshape(-1, 1, self.side, self.side) * (self.side / 3)
        hidden = torch.relu(nn.functional.conv2d(images, self.first, padding=1))
        scale = math.sqrt(2 / (9 * self.channels))
        hidden = torch.relu(scale * nn.functional.conv2d(hidden, self.second, padding=1))
        return math.sqrt(2 / self.readout.numel()) * (hidden.flatten(1) @ self.readout)


def _normal(generator: torch.Generator, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))
