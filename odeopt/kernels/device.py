r"""The infinite-width ReLU kernel on a torch device.

The blocks, their formula and their products are those of :mod:`odeopt.kernels.blocks`, run on tensors: the
panels of one half of the kernel stay on the device in one buffer, and only the vectors of a product cross
over. On a GPU with Triton a product of few vectors is that of :mod:`odeopt.kernels.fused`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from odeopt.kernels import fused
from odeopt.kernels.blocks import Formula, ReluGramOperator
from odeopt.kernels.memory import (
    SHARE,
    STRIP,
    WORK_ARRAYS,
    MemoryPlan,
    Storage,
    first_fitting,
    memory_plan,
    panel_rows,
)
from odeopt.kernels.packing import Packing
from odeopt.kernels.products import TILE, panel_product

__all__ = ["DeviceReluGram", "device_plan", "device_relu_gram", "usable_device"]

# Vectors beside the kernel on another device: factor and result of a product. The basis of Lanczos does not
# leave the host.
_VECTORS = 2
# Rows and columns of a panel on a GPU are multiples of it, so that loads are aligned and need no bounds; each
# such block of rows leaves one vector of partial sums, a thirty-second of the float32 kernel.
_GRAIN = 128
_CHUNK = 1024  # columns of which a block keeps the sums of its rows
# A launch takes a GPU as long as reading some 2**23 entries: panels there are larger, as far as an eighth of
# the memory holds their work arrays.
_LARGEST, _SHARE_OF_WORK = 2**26, 1 / 8
# Vectors up to which reading the kernel once for each is faster than a product of matrices in float64.
_FEW = 6


class DeviceReluGram(ReluGramOperator):
    """A kernel of infinite width, its panels held by a torch device.

    Parameters
    ----------
    device : torch.device
        Holds the panels and multiplies.
    unit : numpy.ndarray, shape (n, d)
        Inputs at unit norm.
    norms : numpy.ndarray, shape (n,)
        Their norms.
    formula : Formula
        Entries from cosines, angles and norms.
    plan : MemoryPlan
        Of :func:`odeopt.kernels.device.device_plan`.
    *rest : object
        As of :class:`odeopt.kernels.ReluGramOperator`, `progress` and `refuse`.

    Attributes
    ----------
    engine : str
        What multiplies: "triton", where each entry is read once; else "torch", and why.
    plan : MemoryPlan
        That of the device.
    interval : tuple of float
        0 and a bound on the largest eigenvalue.
    storage_error : float
        As that of :class:`odeopt.kernels.ReluGramOperator`.

    Examples
    --------
    >>> from odeopt import relu_gram_operator
    >>> operator = relu_gram_operator(np.eye(4), device="cpu")
    >>> operator.device, operator.engine.split()[0]
    (device(type='cpu'), 'torch')
    """

    _library = torch
    _fused: Any = None

    def __init__(
        self,
        device: torch.device,
        unit: np.ndarray,
        norms: np.ndarray,
        formula: Formula,
        plan: MemoryPlan,
        *rest: Any,
    ) -> None:
        self.device: torch.device = device
        # Parts of a panel fit a cache; on a GPU they are of its whole width, because each costs a launch.
        host = device.type == "cpu"
        self._strip, self._tile = (STRIP, TILE) if host else (None, (panel_rows(plan.n), plan.n))
        size = 0 if plan.storage == "recompute" else self._packed(plan).size
        stored = torch.float32 if plan.storage == "float32" else torch.float64
        self._buffer = torch.zeros(size, dtype=stored, device=device)
        super().__init__(unit, norms, formula, plan, *rest)
        self._fused, refusal = self._compiled()
        self.engine: str = "triton" if refusal is None else f"torch ({refusal})"
        self.plan: MemoryPlan = dataclasses.replace(plan, engine=self.engine)

    def _placed(self, array: np.ndarray) -> torch.Tensor:
        # torch shares an array with numpy only if it is contiguous, and warns where it is not writeable
        return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(self.device)

    def _returned(self, array: torch.Tensor) -> np.ndarray:
        return array.cpu().numpy()

    def _packed(self, plan: MemoryPlan) -> Packing:
        return Packing(plan.n, plan.rows, _grain(self.device))

    def _room(self, index: int, shape: tuple[int, int], kept: bool) -> torch.Tensor:
        if kept:
            return self._packing.view(self._buffer, index)
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def _product(self, vectors: np.ndarray, absolute: bool = False) -> np.ndarray:
        if self._fused is None or vectors.shape[1] > _FEW:
            return self._by_panels(vectors, absolute)
        columns = [self._product_there(self._placed(v), absolute) for v in vectors.T]
        return self._returned(torch.stack(columns, dim=1))

    def _by_panels(self, vectors: np.ndarray, absolute: bool = False) -> np.ndarray:
        placed, result = self._placed(vectors), self._placed(np.zeros(vectors.shape))
        buffer = self._placed(np.empty(self._tile))
        for index in self._indices():
            start = index * self.plan.rows
            panel_product(
                self._panel(index), start, placed, result, buffer, absolute and not self._nonnegative
            )
        return self._returned(result)

    def _product_there(self, vector: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """H x of a vector that lies on the device, for an operator whose engine is "triton"."""
        with torch.cuda.device(self.device):
            return self._fused(vector, absolute and not self._nonnegative)

    def _compiled(self) -> tuple[Any, str | None]:
        """The fused product, once it has been seen to agree, or None and the reason."""
        if self.device.type != "cuda" or not self._panels:
            return None, f"on {self.device.type}" if self._panels else "recomputed in each product"
        if not fused.HAS_TRITON:
            return None, "triton is not installed"
        diagonal = torch.cat([panel.diagonal() for panel in self._panels]).double()
        probe = np.random.default_rng(0).uniform(0.5, 1.0, (self.plan.n, 1))
        expected, size = self._by_panels(probe)[:, 0], self._by_panels(probe, absolute=True)[:, 0]
        try:
            with torch.cuda.device(self.device):
                product = fused.FusedProduct(self._buffer, diagonal, self._packing, _CHUNK)
                found = self._returned(product(self._placed(probe[:, 0])))
        except Exception as error:  # noqa: BLE001 -- a compiler of its own, which any machine may lack parts of
            reason = (str(error).splitlines() or [""])[0]
            return None, f"{type(error).__name__} of triton: {reason}"
        # each of the two sums n terms, which round by n eps of their sizes at most
        gap = float((np.abs(found - expected) / size.max()).max())
        if not gap <= 2 * self.plan.n * np.finfo(float).eps:
            return None, f"the product by triton is {gap:.1g} off"
        return product, None


def _grain(device: torch.device) -> int:
    return _GRAIN if device.type == "cuda" else 1


def device_relu_gram(device: str | torch.device) -> Callable[..., DeviceReluGram]:
    """The constructor of a kernel on a device that has been found usable."""
    return functools.partial(DeviceReluGram, usable_device(device))


def usable_device(device: str | torch.device, dtype: torch.dtype = torch.float64) -> torch.device:
    """Return a device that holds and computes such numbers, or say why there is none."""
    try:
        found = torch.device(device)
        # What such a device lacks shows at its first number: "meta" has none, "mps" none in float64.
        float(torch.ones(1, dtype=dtype, device=found).sum())
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {str(device)!r} cannot be used ({reason}); try 'cpu'") from error
    return found


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device other than the host, those that torch keeps for reuse among them."""
    library: Any = getattr(torch, device.type, None)
    tell = getattr(library, "mem_get_info", None)
    if tell is None:
        raise ValueError(
            f"device = {str(device)!r} does not tell its free memory; give memory_limit in bytes"
        )
    kept = library.memory_reserved(device) - library.memory_allocated(device)
    return int(tell(device)[0]) + kept


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
        plan = memory_plan(n, d, storage=storage, num_vectors=num_vectors, memory_limit=memory_limit)
        return dataclasses.replace(plan, engine="torch", threads=1)
    # The host holds the inputs and the basis of Lanczos, as if it recomputed the kernel.
    memory_plan(n, d, storage="recompute", num_vectors=num_vectors)
    limit = SHARE * free_memory(device) if memory_limit is None else memory_limit
    grain = _grain(device)
    entries = min(_LARGEST, int(_SHARE_OF_WORK * limit / (8 * WORK_ARRAYS)))
    rows = max(grain, min(-(-n // grain), entries // n // grain) * grain)
    vectors = _VECTORS + -(-n // _GRAIN) + -(-n // _CHUNK)
    return first_fitting(n, d, storage, vectors, int(limit), str(device), rows)
