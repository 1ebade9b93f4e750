r"""The infinite-width ReLU kernel on a torch device.

The blocks, their formula and their products are those of :mod:`odeopt.kernels.blocks`, run on tensors: the
panels of one half of the kernel stay on the device, and only the vectors of a product cross over.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.memory import SHARE, MemoryPlan, Storage, first_fitting, memory_plan, panel_rows

__all__ = ["DeviceReluGram", "device_plan", "device_relu_gram"]

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
        As that of :class:`odeopt.kernels.ReluGramOperator`.
    """

    _xp = torch

    def __init__(
        self,
        device: torch.device,
        unit: np.ndarray,
        norms: np.ndarray,
        layers: str,
        depth: int,
        plan: MemoryPlan,
        *rest: Any,
    ) -> None:
        self.device: torch.device = device
        # A panel is converted as a whole: smaller tiles fit a cache, but cost launches and waits of threads.
        self._tile = (panel_rows(plan.n), plan.n)
        super().__init__(unit, norms, layers, depth, plan, *rest)

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        # torch shares an array with numpy only if it is contiguous, and warns where it is not writeable
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    def _returned(self, array: Any) -> np.ndarray:
        return array.cpu().numpy()

    def _stored(self, panel: Any) -> Any:
        return panel.to(getattr(torch, self.plan.storage))


def device_relu_gram(device: str | torch.device) -> Callable[..., DeviceReluGram]:
    """The constructor of a kernel on a device that has been found usable."""
    return functools.partial(DeviceReluGram, usable_device(device))


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that holds and computes float64 numbers, or say why there is none."""
    try:
        found = torch.device(device)
        # What such a device lacks shows at its first number: "meta" has none, "mps" none in float64.
        float(torch.ones(1, dtype=torch.float64, device=found).sum())
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {str(device)!r} cannot be used ({reason}); try 'cpu'") from error
    return found


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device other than the host.

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
    device: str | torch.device,
    storage: Storage = "auto",
    num_vectors: int = 400,
    memory_limit: float | None = None,
) -> MemoryPlan:
    """Plan the memory of a kernel on a device (`memory_limit` is its), as :func:`odeopt.memory_plan` does."""
    device = usable_device(device)
    if device.type == "cpu":
        return memory_plan(n, d, storage=storage, num_vectors=num_vectors, memory_limit=memory_limit)
    # The host holds the inputs and the basis of Lanczos, as if it recomputed the kernel.
    memory_plan(n, d, storage="recompute", num_vectors=num_vectors)
    limit = SHARE * free_memory(device) if memory_limit is None else memory_limit
    return first_fitting(n, d, storage, _VECTORS, int(limit), str(device))
