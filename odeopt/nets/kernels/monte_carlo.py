r"""Kernels of an architecture as means over its initial weights, where no closed form is known.

Of D networks with independent weights, of outputs :math:`u_d` and Jacobians :math:`J_d`,

.. math:: \Theta=\frac1D\sum_dJ_dJ_{*d}^\top,\qquad
    K=\frac1{D-1}\sum_d(u_d-\bar u)(u_{*d}-\bar u_*)^\top,

without bias for :math:`\mathbb E\,\Theta` and the covariance of the outputs at the width of the networks;
means over the outputs, where there are several. Entries scatter by the deviation over
:math:`\sqrt D`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import frozen, require_integer
from odeopt.nets.kernels.empirical import empirical_operator
from odeopt.nets.module_checks import inputs_of
from odeopt.shown import Shown, Summary

__all__ = ["MonteCarloKernel", "monte_carlo_kernel"]


@dataclass(frozen=True, repr=False)
class MonteCarloKernel(Shown):
    r"""Kernels as means over initialisations, with their standard errors.

    Parameters
    ----------
    ntk, nngp : numpy.ndarray, shape (n, n2)
        :math:`\mathbb E\,J J^\top` of each output, which moves it, and the covariance of the outputs at the
        start, at the width of the networks.
    ntk_error, nngp_error : numpy.ndarray, shape (n, n2)
        One standard error of each entry. Entries of one kernel are of the same draws, so that their
        deviations go together.
    draws : int
        Number of networks.

    Examples
    --------
    >>> from odeopt.nets import TwoLayerReLU
    >>> found = monte_carlo_kernel(lambda seed: TwoLayerReLU(3, 512, seed=seed), np.eye(3), draws=50)
    >>> found.draws, found.ntk.shape
    (50, (3, 3))
    >>> bool((abs(found.ntk - np.eye(3) / 2) < 5 * found.ntk_error + 1e-12).all())  # 1/2 at infinite width
    True
    """

    ntk: np.ndarray
    nngp: np.ndarray
    ntk_error: np.ndarray
    nngp_error: np.ndarray
    draws: int

    def _summary(self) -> Summary:
        size, error = "x".join(map(str, self.ntk.shape)), self.ntk_error.max()
        return Summary([f"{size} from {self.draws} draws", f"ntk estimated, standard errors to {error:.2g}"])


def monte_carlo_kernel(
    module_factory: Callable[[int], nn.Module],
    x: npt.ArrayLike | torch.Tensor,
    x2: npt.ArrayLike | torch.Tensor | None = None,
    *,
    draws: int = 100,
    seed: int = 0,
) -> MonteCarloKernel:
    r"""Estimate NTK and NNGP of an architecture from networks with independent initial weights.

    Parameters
    ----------
    module_factory : callable
        From an integer seed to a module with fresh initial weights, from inputs (n, ...) to outputs (n,) or
        (n, c). Torch's generator is at that seed when it is called, and as it was afterwards.
    x : array_like or torch.Tensor, shape (n, ...)
        Inputs of the rows.
    x2 : array_like or torch.Tensor, shape (n2, ...), optional
        Inputs of the columns; by default `x` itself.
    draws : int, optional
        Number D of networks, at least 2; errors fall like :math:`D^{-1/2}`.
    seed : int, optional
        Of all draws.

    Returns
    -------
    MonteCarloKernel
        By the weights that require a gradient. Of several outputs the mean of their own kernels, in which
        they are alike at infinite width.

    Raises
    ------
    ValueError
        If the factory makes the same network for every seed, or what is no module, or an argument is out of
        range; as :func:`odeopt.nets.empirical_operator` for its modules.

    Notes
    -----
    The kernel of infinite width differs by :math:`O(1/m)` at width m, which no number of draws takes away:
    compare two widths. Of one hidden layer without normalisation there is no such difference.

    Examples
    --------
    >>> from torch import nn
    >>> from odeopt.nets import monte_carlo_kernel
    >>> def layers(seed):
    ...     return nn.Sequential(nn.Linear(3, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 1))
    >>> found = monte_carlo_kernel(layers, np.eye(3), np.ones((2, 3)), draws=20)
    >>> found.ntk.shape, bool((found.ntk_error < 0.2 * found.ntk).all())
    ((3, 2), True)
    """
    if not callable(module_factory):
        raise ValueError(
            "module_factory must be a function from a seed to a module, got "
            f"{type(module_factory).__name__}; take lambda seed: ..., which makes a new one"
        )
    draws, seed = require_integer("draws", draws, 2), require_integer("seed", seed, 0)
    x, x2 = inputs_of(x), None if x2 is None else inputs_of(x2, "x2")
    seeds = np.random.SeedSequence(seed).generate_state(draws)
    mean = squares = np.zeros(())
    rows, columns = [], []
    for d, each in enumerate(seeds.tolist()):
        with warnings.catch_warnings():
            if d:  # what is said of the inputs is said once
                warnings.simplefilter("ignore")
            kernel, left, right = _drawn(module_factory, each, x, x2)
        gap = kernel - mean
        mean = mean + gap / (d + 1)
        squares = squares + gap * (kernel - mean)
        rows.append(left)
        columns.append(right)
        if rows[0].shape != left.shape:
            raise ValueError(
                f"module_factory makes networks of {rows[0].shape[1]} and of {left.shape[1]} outputs; make "
                "them alike"
            )
    if not (squares.any() or np.ptp(rows, axis=0).any()):
        raise ValueError(
            f"module_factory makes the same network for all of {draws} seeds; let it draw weights from "
            "torch's generator, or from its argument"
        )
    nngp, nngp_error = _covariance(np.array(rows), np.array(columns))
    error = np.sqrt(squares / (draws * (draws - 1)))
    return MonteCarloKernel(frozen(mean), frozen(nngp), frozen(error), frozen(nngp_error), draws)


def _drawn(factory: Any, seed: int, x: Any, x2: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The kernel of one network, a mean over its outputs, and these, shapes (n, c) and (n2, c)."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        module = factory(seed)
    if x2 is None:
        kernel = empirical_operator(module, x)
        left = right = kernel.predictions
    else:
        kernel = empirical_operator(module, x, x2)
        left, right = kernel.predictions, kernel.example_predictions
    left = left.reshape(len(x), -1)
    c = left.shape[1]
    right = right.reshape(-1, c)
    blocks = kernel.gram().reshape(len(left), c, len(right), c)
    return np.einsum("icjc->ij", blocks) / c, left, right


def _covariance(rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of outputs (D, n, c) and (D, n2, c), a mean over c, and its standard errors."""
    draws, _, c = rows.shape
    left, right = rows - rows.mean(axis=0), columns - columns.mean(axis=0)
    mean = sum(a @ b.T / c for a, b in zip(left, right, strict=True)) / draws
    squares = sum((a @ b.T / c - mean) ** 2 for a, b in zip(left, right, strict=True))
    return mean * (draws / (draws - 1)), np.sqrt(squares / (draws * (draws - 1)))
