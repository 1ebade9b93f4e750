r"""The two-layer ReLU network of the theory, and its empirical kernel in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from odeopt.kernels import real_array

__all__ = ["TwoLayerReLU", "empirical_gram"]

_BLOCK = 2**22  # entries of a work array: 32 MB of float64


class TwoLayerReLU(nn.Module):
    r"""The network :math:`f(x)=m^{-1/2}\sum_{r=1}^ma_r\max(w_r^\top x,0)`.

    At initialisation :math:`w_r\sim N(0,I)` and :math:`a_r=\pm1` with equal probability.

    Parameters
    ----------
    d : int
        Dimension of the input.
    m : int
        Width, the number of hidden neurons.
    layers : {"first", "both"}, optional
        Which layers are trained; by default the :math:`a_r` stay fixed, as in the theory.
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
    a : torch.Tensor, shape (m,)
        The :math:`a_r`; a parameter when both layers are trained, else a buffer.

    Raises
    ------
    ValueError
        If `d`, `m` or `seed` are not integers in range, `layers` is unknown, or `dtype` is not a
        floating-point type.

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
        layers: str = "first",
        seed: int = 0,
        dtype: torch.dtype | str = torch.float64,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.d = require_integer("d", d, 1)
        self.m = require_integer("m", m, 1)
        self.seed = require_integer("seed", seed, 0, 2**63 - 1)
        if layers not in ("first", "both"):
            raise ValueError(f"layers must be 'first' or 'both', got {layers!r}; choose one of them")
        if isinstance(dtype, str):
            dtype = getattr(torch, dtype, dtype)
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype must be a real floating-point torch.dtype, got {dtype!r}")
        self.layers = layers
        generator = torch.Generator().manual_seed(self.seed)
        weights = torch.randn(self.m, self.d, generator=generator, dtype=torch.float64)
        signs = 2.0 * torch.randint(0, 2, (self.m,), generator=generator, dtype=torch.float64) - 1.0
        self.weights = nn.Parameter(weights.to(device=device, dtype=dtype))
        signs = signs.to(device=device, dtype=dtype)
        if layers == "both":
            self.a = nn.Parameter(signs)
        else:
            self.register_buffer("a", signs)

    @property
    def output_scale(self) -> float:
        """The factor of the output layer, 1 / sqrt(m); a subclass may have another."""
        return 1 / math.sqrt(self.m)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs, shape (n, d), to outputs, shape (n,)."""
        self._require_columns(x, self.d)
        return self.output_scale * (torch.relu(x @ self.weights.T) @ self.a)

    def _require_columns(self, x: torch.Tensor, d: int) -> None:
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), the d of the network, got {tuple(x.shape)}")

    def output_and_pullback(
        self, x: torch.Tensor, weights: torch.Tensor, a: torch.Tensor, buffer: torch.Tensor | None = None
    ):
        r"""Outputs at given weights, and the map :math:`c\mapsto J^\top c` by two matrix products.

        Parameters
        ----------
        x : torch.Tensor, shape (n, d)
            Of any d: also inputs and weights in coordinates of a subspace.
        weights : torch.Tensor, shape (m, d)
        a : torch.Tensor, shape (m,)
        buffer : torch.Tensor, shape (m, n), optional
            Where the hidden layer is computed; it must stay untouched until the last pull-back.
            Without it each call allocates one, which for large networks costs as much as the products.

        Returns
        -------
        output : torch.Tensor, shape (n,)
        pullback : callable
            From a cotangent, shape (n,), to the flat gradient with respect to the trained weights,
            in the order of ``named_parameters``; faster than autodiff, and equal to it.
        """
        self._require_columns(x, weights.shape[1])
        hidden = torch.mm(weights, x.T, out=buffer).relu_()
        output = self.output_scale * (a @ hidden)
        both = self.layers == "both"
        # sign(max(h, 0)) is 1 exactly where the derivative of ReLU is (at 0 it is 0, as in torch). With
        # one layer trained nothing else of the hidden layer is needed any more.
        active: list[torch.Tensor] = []

        def pullback(cotangent: torch.Tensor) -> torch.Tensor:
            if not active:
                active.append(hidden.sign() if both else hidden.sign_())
            scaled = self.output_scale * cotangent
            first = (active[0] @ (scaled[:, None] * x)).mul_(a[:, None]).reshape(-1)
            return torch.cat([first, hidden @ scaled]) if both else first

        return output, pullback

    def extra_repr(self) -> str:
        """Show the sizes in the representation of the module."""
        return f"d={self.d}, m={self.m}, layers={self.layers!r}, seed={self.seed}"


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def has_closed_form(net: nn.Module) -> bool:
    """Tell whether a module computes the function that the closed forms are written for.

    Parameters
    ----------
    net : torch.nn.Module

    Returns
    -------
    bool
        False also for a subclass of :class:`TwoLayerReLU` with a `forward` of its own.
    """
    return isinstance(net, TwoLayerReLU) and type(net).forward is TwoLayerReLU.forward


@torch.no_grad()
def empirical_gram(net: TwoLayerReLU, x: Any) -> np.ndarray:
    r"""Kernel :math:`H=JJ^\top` of a finite network at its current weights, without autodiff.

    With the activation patterns :math:`A_{ir}=1\{w_r^\top x_i>0\}` it is a matrix product,

    .. math::
        H_{ij}=\frac{x_i^\top x_j}m\sum_ra_r^2A_{ir}A_{jr}
        \;\Bigl[+\frac1m\sum_r\max(w_r^\top x_i,0)\max(w_r^\top x_j,0)\Bigr],

    the bracket if both layers are trained. As in torch, the derivative of ReLU at 0 is 0.

    Parameters
    ----------
    net : TwoLayerReLU
        The network.
    x : array_like or torch.Tensor, shape (n, d)
        One input a row.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        Symmetric, float64, read-only; computed in float64 whatever the dtype of the network.

    Raises
    ------
    ValueError
        If `net` is another kind of module, or `x` is not a finite matrix of d columns.

    Examples
    --------
    The kernel of a wide network is near the closed form of the infinite one.

    >>> from odeopt.kernels import relu_gram
    >>> x = np.array([[1.0, 0.0], [0.6, 0.8]])
    >>> gram = empirical_gram(TwoLayerReLU(2, 100_000), x)
    >>> bool(np.abs(gram - relu_gram(x)).max() < 0.01)
    True
    """
    if not has_closed_form(net):
        raise ValueError(
            f"net must be a TwoLayerReLU, got {type(net).__name__}; its kernel has no closed form here"
        )
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
    x = real_array(x, "x", ndim=2)
    if x.shape[1] != net.d:
        raise ValueError(f"x must have shape (n, {net.d}), the d of the network, got {x.shape}")
    # In numpy on the CPU: not every device has float64, and P @ P.T is a symmetric rank-k update,
    # half the work of a general product and symmetric to the last bit.
    weights = net.weights.detach().cpu().double().numpy()
    a = net.a.detach().cpu().double().numpy()
    n = len(x)
    same_active, features = np.zeros((n, n)), np.zeros((n, n))
    neurons = max(1, _BLOCK // n)
    for start in range(0, net.m, neurons):
        block = slice(start, start + neurons)
        preactivation = x @ weights[block].T
        active = (preactivation > 0) * np.abs(a[block])
        same_active += active @ active.T
        if net.layers == "both":
            np.maximum(preactivation, 0, out=preactivation)
            features += preactivation @ preactivation.T
    gram = net.output_scale**2 * ((x @ x.T) * same_active + features)
    gram.setflags(write=False)
    return gram
