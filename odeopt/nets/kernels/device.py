r"""The infinite-width ReLU kernel as an operator on a torch device.

The blocks, their formula and their products are those of :mod:`odeopt.kernels.operator`, run on tensors: the
panels of one half of the kernel stay on the device, and only the vectors of a product cross over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from odeopt.kernels.inputs import unit_rows, validate_inputs
from odeopt.kernels.memory import SHARE, MemoryPlan, first_fitting, memory_plan, panel_rows
from odeopt.kernels.operator import ReluGramOperator
from odeopt.kernels.relu import validate_architecture

__all__ = ["DeviceReluGram", "device_plan", "free_memory", "relu_gram_operator", "usable_device"]

# Vectors beside the kernel on another device: factor and result of a product. The basis of Lanczos does not
# leave the host.
_VECTORS = 2


class DeviceReluGram(ReluGramOperator):
    """The kernel of :func:`odeopt.relu_gram`, its panels held by a torch device.

    Attributes
    ----------
    device : torch.device
    plan : MemoryPlan
        That of the device.
    interval : tuple of float
        0 and a bound on the largest eigenvalue.
    storage_error : float
        As that of :class:`odeopt.kernels.operator.ReluGramOperator`.
    """

    _xp = torch

    def __init__(self, device: torch.device, unit: np.ndarray, norms: np.ndarray, layers, depth, plan, *rest):
        self.device = device
        # A panel is converted as a whole: smaller tiles fit a cache, but cost launches and waits of threads.
        self._tile = (panel_rows(plan.n), plan.n)
        super().__init__(unit, norms, layers, depth, plan, *rest)

    def _placed(self, array):
        # torch shares an array with numpy only if it is contiguous, and warns where it is not writeable
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    def _returned(self, array):
        return array.cpu().numpy()

    def _stored(self, panel):
        return panel.to(getattr(torch, self.plan.storage))


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that holds and computes float64 numbers, or say why there is none.

    Parameters
    ----------
    device : str or torch.device

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not know it, cannot reach it, or it has no float64.

    Examples
    --------
    >>> usable_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device(device)
        # What such a device lacks shows at its first number: "meta" has none, "mps" none in float64.
        float(torch.ones(1, dtype=torch.float64, device=found).sum())
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {str(device)!r} cannot be used ({reason}); try 'cpu'") from error
    return found


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device other than the host.

    Parameters
    ----------
    device : torch.device

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If torch cannot tell.

    Examples
    --------
    >>> free_memory(torch.device("meta"))
    Traceback (most recent call last):
        ...
    ValueError: device = 'meta' does not tell its free memory; give memory_limit in bytes
    """
    tell = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    if tell is None:
        raise ValueError(
            f"device = {str(device)!r} does not tell its free memory; give memory_limit in bytes"
        )
    return int(tell(device)[0])


def device_plan(
    n: int,
    d: int,
    *,
    device: str | torch.device = "cpu",
    storage: str = "auto",
    num_vectors: int = 400,
    memory_limit: float | None = None,
) -> MemoryPlan:
    """Plan the memory of a kernel operator on a device, as :func:`odeopt.memory_plan` does for the host.

    Parameters
    ----------
    n, d : int
        Number of inputs and their dimension.
    device : str or torch.device, optional
    storage : {"auto", "float64", "float32", "recompute"}, optional
    num_vectors : int, optional
        Vectors that the host holds beside.
    memory_limit : float, optional
        Bytes of the device; by default four fifths of what is free there now.

    Returns
    -------
    MemoryPlan

    Raises
    ------
    ValueError
        If the device cannot be used, the storage is unknown, or the plan does not fit on the device or
        on the host.

    Examples
    --------
    >>> print(device_plan(60_000, 784, device="cpu", memory_limit=12 * 2**30))
    n = 60000, storage float32: 7.78 GiB (kernel 6.71, work 0.19, inputs 0.70, vectors 0.18) of 12.00 GiB
    """
    device = usable_device(device)
    if device.type == "cpu":
        return memory_plan(n, d, storage=storage, num_vectors=num_vectors, memory_limit=memory_limit)
    # The host holds the inputs and the basis of Lanczos, as if it recomputed the kernel.
    memory_plan(n, d, storage="recompute", num_vectors=num_vectors)
    limit = SHARE * free_memory(device) if memory_limit is None else memory_limit
    return first_fitting(n, d, storage, _VECTORS, int(limit), str(device))


def relu_gram_operator(
    x: Any,
    *,
    device: str | torch.device = "cpu",
    layers: str = "first",
    depth: int = 1,
    storage: str = "auto",
    num_vectors: int = 400,
    memory_limit: float | None = None,
    allow_singular: bool = False,
    progress: Callable[[int], object] | None = None,
) -> DeviceReluGram:
    r"""Kernel of the infinitely wide ReLU network as an operator on a torch device, for Lanczos.

    It is :func:`odeopt.relu_gram_operator`, which numpy runs on the host, with the same options: the same
    formula and blocks, computed by torch. The two agree up to the rounding of float64, and up to
    `storage_error` where entries are stored in float32; products are sums in float64 in all cases.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row, of any nonzero norm.
    device : str or torch.device, optional
        "cpu", "cuda", "cuda:1", ...; it must have float64.
    layers : {"first", "both"}, optional
        Which layers are trained, as in :func:`odeopt.relu_gram`.
    depth : int, optional
        Number of hidden layers.
    storage : {"auto", "float64", "float32", "recompute"}, optional
        Keep half of the entries on the device in this precision, or compute them anew in every product;
        "auto" takes the first of the three that fits.
    num_vectors : int, optional
        Vectors that the plan allows for on the host, where the basis of Lanczos stays.
    memory_limit : float, optional
        Bytes of the device; by default four fifths of what is free there now.
    allow_singular : bool, optional
        Accept parallel rows, whose kernel is singular.
    progress : callable, optional
        Called with the number of rows computed.

    Returns
    -------
    DeviceReluGram
        A ``scipy.sparse.linalg.LinearOperator`` from and to numpy arrays.

    Raises
    ------
    ValueError
        Before any work if the inputs are no finite matrix without zero rows, an option is unknown, the device
        cannot be used, or the memory plan (:func:`device_plan`) does not fit; during it if rows are parallel.

    Examples
    --------
    >>> from odeopt import relu_gram, spectral_measure
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> operator = relu_gram_operator(x, device="cpu")
    >>> bool(np.abs(operator @ np.eye(50) - relu_gram(x)).max() < 1e-12)
    True
    >>> spectral_measure(operator, np.ones(50), num_matvecs=20).num_matvecs
    20
    """
    validate_architecture(layers, depth)
    x = validate_inputs(x, allow_parallel=True)
    plan = device_plan(
        *x.shape, device=device, storage=storage, num_vectors=num_vectors, memory_limit=memory_limit
    )
    unit, norms = unit_rows(x)
    del x  # no longer needed, and as large as `unit`
    return DeviceReluGram(
        usable_device(device), unit, norms, layers, depth, plan, progress, not allow_singular
    )
