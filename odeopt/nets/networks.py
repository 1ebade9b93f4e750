r"""The two-layer ReLU network of the theory, and its empirical kernel in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import linear

from odeopt.checks import require_choice, require_integer
from odeopt.kernels.device import usable_device

__all__ = ["ConvReLU", "DeepReLU", "PaperReLU", "TwoLayerReLU"]


class TwoLayerReLU(nn.Module):
    r"""The network :math:`f(x)=m^{-1/2}\sum_{r=1}^ma_r\max(w_r^\top x,0)`.

    At initialisation :math:`w_r\sim N(0,I)` and :math:`a_r=\pm1` with equal probability, independently for
    each of several outputs.

    Parameters
    ----------
    d : int
        Dimension of the input.
    m : int
        Width, the number of hidden neurons.
    layers : {"first", "both"}, optional
        Which layers are trained; by default the :math:`a_r` stay fixed, as in the theory.
    outputs : int, optional
        Number c of outputs; 1 gives the shape (n,), more (n, c).
    seed : int, optional
        Seed of the weights. They are drawn on the CPU in float64 and then converted, so that
        every device and dtype starts from the same network, up to rounding.
    dtype : torch.dtype or str, optional
        Floating-point type of the weights, such as "float32".
    device : str or torch.device, optional
        Where the weights live.

    Attributes
    ----------
    weights : torch.nn.Parameter, shape (m, d)
        The :math:`w_r`.
    a : torch.Tensor, shape (m,), or (c, m) for several outputs
        The :math:`a_r`; a parameter when both layers are trained, else a buffer.

    Raises
    ------
    ValueError
        If `d`, `m` or `seed` are not integers in range, `layers` is unknown, `dtype` is not a
        floating-point type, or the device cannot be used.

    Examples
    --------
    >>> net = TwoLayerReLU(3, 1000, seed=1)
    >>> [(name, tuple(p.shape)) for name, p in net.named_parameters()]
    [('weights', (1000, 3))]
    >>> net(torch.ones(2, 3, dtype=torch.float64)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        d: int,
        m: int,
        *,
        layers: Literal["first", "both"] = "first",
        outputs: int = 1,
        seed: int = 0,
        dtype: torch.dtype | str = torch.float64,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.d: int = require_integer("d", d, 1)
        self.m: int = require_integer("m", m, 1)
        self.outputs: int = require_integer("outputs", outputs, 1)
        self.seed: int = require_integer("seed", seed, 0, 2**63 - 1)
        require_choice("layers", layers, ("first", "both"))
        if isinstance(dtype, str):
            dtype = getattr(torch, dtype, dtype)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype must be a real floating-point torch.dtype, got {dtype!r}")
        self.layers: str = layers
        device = usable_device(device, dtype)
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(self.m, self.d, generator=generator, dtype=torch.float64)
        shape = (self.m,) if self.outputs == 1 else (self.outputs, self.m)
        signs = 2.0 * torch.randint(0, 2, shape, generator=generator, dtype=torch.float64) - 1.0
        self.weights: nn.Parameter = nn.Parameter(weights.to(device=device, dtype=dtype))
        signs = signs.to(device=device, dtype=dtype)
        self.a: torch.Tensor
        if layers == "both":
            self.a = nn.Parameter(signs)
        else:
            self.register_buffer("a", signs)

    @property
    def output_scale(self) -> float:
        """The factor of the output layer, 1 / sqrt(m); a subclass may have another."""
        return 1 / math.sqrt(self.m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs to outputs.

        Parameters
        ----------
        x : torch.Tensor, shape (n, d)
            Inputs, a row each.

        Returns
        -------
        torch.Tensor, shape (n,) or (n, outputs)
            In the dtype of the network.
        """
        self._require_columns(x, self.d)
        return self.output_scale * linear(torch.relu(x @ self.weights.T), self.a)

    def _require_columns(self, x: torch.Tensor, d: int) -> None:
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), the d of the network, got {tuple(x.shape)}")

    def output_and_pullback(
        self, x: torch.Tensor, weights: torch.Tensor, a: torch.Tensor, buffer: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        r"""Return outputs at given weights, and :math:`c\mapsto J^\top c` by matrix products.

        Parameters
        ----------
        x : torch.Tensor, shape (n, d)
            Inputs, or their coordinates in a subspace.
        weights : torch.Tensor, shape (m, d)
            First layer, in the coordinates of `x`.
        a : torch.Tensor, shape (m,) or (outputs, m)
            Output layer.
        buffer : torch.Tensor, shape (m, n), optional
            Holds the hidden layer and must stay untouched until the last pull-back; without it each call
            allocates one, which for large networks costs as much as the products.

        Returns
        -------
        output : torch.Tensor, shape (n,) or (n, outputs)
            Of all inputs.
        pullback : callable
            From c, shaped as the output, to the flat gradient of the trained layers.
        """
        self._require_columns(x, weights.shape[1])
        hidden = torch.mm(weights, x.T, out=buffer).relu_()
        output = self.output_scale * (a @ hidden)
        output = output if a.ndim == 1 else output.T
        both = self.layers == "both"
        # sign(max(h, 0)) is 1 exactly where the derivative of ReLU is (at 0 it is 0, as in torch). With
        # one layer trained nothing else of the hidden layer is needed any more.
        active: list[torch.Tensor] = []

        def pullback(cotangent: torch.Tensor) -> torch.Tensor:
            if not active:
                active.append(hidden.sign() if both else hidden.sign_())
            scaled = self.output_scale * cotangent.reshape(output.shape)
            if a.ndim == 1:
                first = (active[0] @ (scaled[:, None] * x)).mul_(a[:, None]).reshape(-1)
            else:
                first = ((a.T @ scaled.T).mul_(active[0]) @ x).reshape(-1)
            if not both:
                return first
            last = hidden @ scaled
            return torch.cat([first, last if a.ndim == 1 else last.T.reshape(-1)])

        return output, pullback

    def extra_repr(self) -> str:
        """Show sizes, trained layers and seed.

        Returns
        -------
        str
            Read by torch in the representation of the module.
        """
        several = "" if self.outputs == 1 else f"outputs={self.outputs}, "
        return f"d={self.d}, m={self.m}, layers={self.layers!r}, {several}seed={self.seed}"


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
        self.d: int = require_integer("d", d, 1)
        self.width: int = require_integer("width", width, 1)
        sizes = [
            self.d,
            *(self.width,) * require_integer("depth", depth, 1),
            require_integer("outputs", outputs, 1),
        ]
        generator = torch.Generator().manual_seed(require_integer("seed", seed, 0, 2**63 - 1))
        self.weights: nn.ParameterList = nn.ParameterList(
            _normal(generator, rows, columns) for columns, rows in itertools.pairwise(sizes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs to outputs.

        Parameters
        ----------
        x : torch.Tensor, shape (n, d)
            Inputs, a row each.

        Returns
        -------
        torch.Tensor, shape (n,) or (n, outputs)
            In the dtype of the weights.
        """
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
        self.side: int = require_integer("side", side, 1)
        self.channels: int = require_integer("channels", channels, 1)
        generator = torch.Generator().manual_seed(require_integer("seed", seed, 0, 2**63 - 1))
        self.first: nn.Parameter = _normal(generator, self.channels, 1, 3, 3)
        self.second: nn.Parameter = _normal(generator, self.channels, self.channels, 3, 3)
        self.readout: nn.Parameter = _normal(generator, self.channels * self.side**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to outputs.

        Parameters
        ----------
        x : torch.Tensor, shape (n, side * side) or (n, 1, side, side)
            Images.

        Returns
        -------
        torch.Tensor, shape (n,)
            In the dtype of the weights.
        """
        images = x.reshape(-1, 1, self.side, self.side) * (self.side / 3)
        hidden = torch.relu(nn.functional.conv2d(images, self.first, padding=1))
        scale = math.sqrt(2 / (9 * self.channels))
        hidden = torch.relu(scale * nn.functional.conv2d(hidden, self.second, padding=1))
        return math.sqrt(2 / self.readout.numel()) * (hidden.flatten(1) @ self.readout)


def _normal(generator: torch.Generator, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))


class PaperReLU(TwoLayerReLU):
    r"""The authors' network :math:`f(x)=\sum_ra_r\max(w_r^\top x+b_r,0)`, both layers trained.

    At initialisation :math:`w_r\sim N(0,m^{-2}I)`, :math:`a_r\sim U(-1,1)`, and the biases are those of
    torch's linear layer, :math:`U(-d^{-1/2},d^{-1/2})`. The bias is the last weight of a neuron: inputs have
    a last column of ones (see :func:`paper_data`).

    Parameters
    ----------
    d : int
        Dimension of the input without that column.
    m : int
        Width.
    seed : int, optional
        Seed of the weights.

    Examples
    --------
    >>> net = PaperReLU(4, 30)
    >>> net.weights.shape, net.output_scale
    (torch.Size([30, 5]), 1.0)
    """

    def __init__(self, d: int, m: int, *, seed: int = 0) -> None:
        super().__init__(d + 1, m, layers="both", seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.weights.copy_(torch.randn(m, d + 1, generator=generator, dtype=torch.float64) / m)
            uniform = 2 * torch.rand(2, m, generator=generator, dtype=torch.float64) - 1
            self.weights[:, -1] = uniform[0] / math.sqrt(d)
            self.a.copy_(uniform[1])

    @property
    def output_scale(self) -> float:
        """The factor of the output layer: none."""
        return 1.0
