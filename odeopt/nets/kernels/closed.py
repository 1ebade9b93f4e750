r"""Kernels of the networks of the theory in closed form, at finite and at infinite width."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import real_array
from odeopt.kernels.relu import relu_gram
from odeopt.nets.networks import DeepReLU, TwoLayerReLU

__all__ = ["empirical_gram", "has_closed_form", "infinite_width_kernel", "require_closed_form"]


def infinite_width_kernel(net: nn.Module, x: npt.ArrayLike) -> np.ndarray:
    r"""Closed-form kernel of a network of this architecture at infinite width.

    Parameters
    ----------
    net : torch.nn.Module
        :class:`odeopt.nets.TwoLayerReLU` or :class:`odeopt.nets.DeepReLU`, all of whose parameters are
        trained; its weights do not matter.
    x : array_like, shape (n, d)
        Inputs.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        Of each output; at infinite width outputs do not move each other.

    Raises
    ------
    ValueError
        If no closed form is known for the module.

    Examples
    --------
    >>> from odeopt.nets import DeepReLU, TwoLayerReLU
    >>> float(infinite_width_kernel(TwoLayerReLU(2, 10), [[0.0, 1.0]])[0, 0])
    0.5
    >>> float(infinite_width_kernel(DeepReLU(2, 10, depth=3), [[0.0, 1.0]])[0, 0])
    4.0
    """
    if not all(p.requires_grad for p in net.parameters()):
        raise ValueError(
            f"no closed form of H_inf is known for a {type(net).__name__} with frozen parameters"
        )
    # Subclasses have other initial weights or another scale, hence another limit.
    if type(net) is TwoLayerReLU:
        return relu_gram(x, layers=net.layers, allow_singular=True)
    if type(net) is DeepReLU:
        depth = len(net.weights) - 1
        return 2 * relu_gram(x, layers="both", depth=depth, allow_singular=True)  # its output has sqrt(2/m)
    raise ValueError(f"no closed form of H_inf is known for {type(net).__name__}; pass limit_kernel")


_BLOCK = 2**22  # entries of a work array: 32 MB of float64


def has_closed_form(net: nn.Module) -> bool:
    """Whether a module is the function that the closed forms are written for, of the weights they name."""
    return (
        isinstance(net, TwoLayerReLU)
        and all(
            vars(TwoLayerReLU)[name] is getattr(type(net), name)
            for name in ("forward", "output_and_pullback")
        )
        and "forward" not in vars(net)
        and not (
            net._forward_hooks or net._forward_pre_hooks or net._backward_hooks or net._backward_pre_hooks
        )
        and {name for name, _ in net.named_parameters()}
        == ({"weights"} if net.layers == "first" else {"weights", "a"})
    )


def require_closed_form(net: nn.Module, name: str, remedy: str) -> None:
    """Refuse a module that the closed forms are not written for."""
    if not has_closed_form(net):
        plain = not isinstance(net, TwoLayerReLU)
        more = "" if plain else " with another forward pass, a hook or other parameters"
        raise ValueError(f"{name} must be a TwoLayerReLU, got {type(net).__name__}{more}; {remedy}")


@torch.no_grad()
def empirical_gram(net: TwoLayerReLU, x: npt.ArrayLike | torch.Tensor) -> np.ndarray:
    r"""Kernel :math:`H=JJ^\top` of a finite network at its current weights, without autodiff.

    With the activation patterns :math:`A_{ir}=1\{w_r^\top x_i>0\}` it is a matrix product,

    .. math::
        H_{ij}=\frac{x_i^\top x_j}m\sum_ra_r^2A_{ir}A_{jr}
        \;\Bigl[+\frac1m\sum_r\max(w_r^\top x_i,0)\max(w_r^\top x_j,0)\Bigr],

    the bracket if both layers are trained. Between outputs o and p it has :math:`a_{or}a_{pr}` in place of
    :math:`a_r^2`, and no bracket. As in torch, the derivative of ReLU at 0 is 0.

    Parameters
    ----------
    net : TwoLayerReLU
        The network.
    x : array_like or torch.Tensor, shape (n, d)
        One input a row.

    Returns
    -------
    numpy.ndarray, shape (n, n), or (n c, n c) for c outputs, example by example
        Symmetric, float64, read-only; computed in float64 whatever the dtype of the network.

    Raises
    ------
    ValueError
        If `net` is another kind of module, or `x` is not a finite matrix of d columns.

    Examples
    --------
    The kernel of a wide network is near the closed form of the infinite one.

    >>> from odeopt.kernels.relu import relu_gram
    >>> x = np.array([[1.0, 0.0], [0.6, 0.8]])
    >>> gram = empirical_gram(TwoLayerReLU(2, 100_000), x)
    >>> bool(np.abs(gram - relu_gram(x)).max() < 0.01)
    True
    """
    require_closed_form(net, "net", "take empirical_operator")
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
    x = real_array(x, "x", ndim=2)
    if x.shape[1] != net.d:
        raise ValueError(f"x must have shape (n, {net.d}), the d of the network, got {x.shape}")
    weights, a = net.weights.detach(), net.a.detach()
    if weights.is_cuda:
        weights, a = weights.double(), a.double()
        placed = torch.from_numpy(np.require(x, requirements=["C", "W"])).to(weights.device)
        gram = _gram(placed, weights, a, net, torch)
        gram = ((gram + gram.T) / 2).cpu().numpy()
    else:
        # On the host, as not every device has float64: numpy's P @ P.T is a symmetric rank-k update, half the
        # work and symmetric to the last bit.
        gram = _gram(x, weights.cpu().double().numpy(), a.cpu().double().numpy(), net, np)
    gram.setflags(write=False)
    return gram


def _gram(x: Any, weights: Any, a: Any, net: TwoLayerReLU, xp: Any) -> Any:
    """The kernel in arrays of numpy or torch, whose module is `xp`."""
    c = net.outputs
    products, a, each = x @ x.T, a.reshape(c, net.m), np.eye(c)
    if c > 1:
        each = each if xp is np else torch.from_numpy(each).to(x)
        products = xp.kron(products, xp.ones_like(each))
    same_active, features = xp.zeros_like(products), xp.zeros_like(products)
    neurons = max(1, _BLOCK // (len(x) * c))
    for start in range(0, net.m, neurons):
        block = slice(start, start + neurons)
        preactivation = x @ weights[block].T
        active = ((preactivation > 0)[:, None] * a[:, block]).reshape(len(x) * c, -1)
        same_active += active @ active.T
        if net.layers == "both":
            xp.clip(preactivation, 0, None, out=preactivation)
            same = preactivation @ preactivation.T
            features += same if c == 1 else xp.kron(same, each)
    return net.output_scale**2 * (products * same_active + features)
