r"""What a kernel operator will hold in memory, planned before anything is computed."""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = ["MemoryPlan", "available_memory", "first_fitting", "memory_plan", "panel_rows"]

_STORAGES = ("float64", "float32", "recompute")
PANEL = 2**22  # entries of a panel: 32 MB of float64
# Work arrays of a panel that exist at once while it is computed.
_WORK_ARRAYS = 6
# Share of the free memory that a plan may take, unless told.
SHARE = 0.8


@dataclass(frozen=True)
class MemoryPlan:
    """What a kernel operator and a Lanczos run with it will hold in memory.

    Attributes
    ----------
    n, d : int
        Inputs and their dimension.
    storage : {"float64", "float32", "recompute"}
        How entries of the kernel are kept.
    kernel, work, inputs, vectors : int
        Bytes of the stored half, of temporary panels, of the inputs, and of the Lanczos basis.
    limit : int
        Bytes that may be used.
    device : str
        Whose memory it is; "cpu" for that of the process.
    """

    n: int
    d: int
    storage: str
    kernel: int
    work: int
    inputs: int
    vectors: int
    limit: int
    device: str = "cpu"

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.kernel + self.work + self.inputs + self.vectors

    @property
    def fits(self) -> bool:
        """Whether the total is within the limit."""
        return self.total <= self.limit

    def __str__(self) -> str:
        parts = ("kernel", "work", "inputs", "vectors")
        listed = ", ".join(f"{part} {getattr(self, part) / 2**30:.2f}" for part in parts)
        return (
            f"n = {self.n}, storage {self.storage}: {self.total / 2**30:.2f} GiB ({listed}) "
            f"of {self.limit / 2**30:.2f} GiB{'' if self.device == 'cpu' else f' on {self.device}'}"
        )


def memory_plan(
    n: int, d: int, *, storage: str = "auto", num_vectors: int = 400, memory_limit: float | None = None
) -> MemoryPlan:
    """Plan the memory of a kernel operator before anything is computed.

    Parameters
    ----------
    n, d : int
        Number of inputs and their dimension.
    storage : {"auto", "float64", "float32", "recompute"}
        "auto" takes the first of the others that fits.
    num_vectors : int
        Vectors of length n beside the kernel, mainly the basis of Lanczos.
    memory_limit : float, optional
        Bytes; by default four fifths of the memory that is free now.

    Returns
    -------
    MemoryPlan

    Raises
    ------
    ValueError
        If the storage is unknown, or the plan does not fit.

    Examples
    --------
    >>> print(memory_plan(60_000, 784, memory_limit=12 * 2**30))
    n = 60000, storage float32: 7.78 GiB (kernel 6.71, work 0.19, inputs 0.70, vectors 0.18) of 12.00 GiB
    """
    limit = SHARE * available_memory() if memory_limit is None else memory_limit
    return first_fitting(n, d, storage, num_vectors, int(limit))


def first_fitting(
    n: int, d: int, storage: str, num_vectors: int, limit: int, device: str = "cpu"
) -> MemoryPlan:
    """Return the plan of :func:`memory_plan` for a device with `limit` bytes to spare, or refuse."""
    if storage != "auto" and storage not in _STORAGES:
        raise ValueError(f"storage must be auto, {', '.join(_STORAGES[:2])} or recompute, got {storage!r}")
    chosen = _STORAGES if storage == "auto" else (storage,)
    plans = [_plan(n, d, each, num_vectors, limit, device) for each in chosen]
    for plan in plans:
        if plan.fits:
            return plan
    raise ValueError(
        f"the kernel does not fit: {plans[-1]}; take fewer inputs, another storage or a larger memory_limit"
    )


def _plan(n: int, d: int, storage: str, num_vectors: int, limit: int, device: str) -> MemoryPlan:
    rows = panel_rows(n)
    size = {"float64": 8, "float32": 4, "recompute": 0}[storage]
    return MemoryPlan(
        n, d, storage,
        kernel=size * (n * (n + rows) // 2),
        work=8 * _WORK_ARRAYS * rows * n,
        inputs=2 * 8 * n * d,
        vectors=8 * n * num_vectors,
        limit=limit,
        device=device,
    )  # fmt: skip


def panel_rows(n: int) -> int:
    """Rows of a panel of a kernel of n inputs."""
    return min(n, max(32, min(1024, PANEL // n)))


def available_memory() -> int:
    """Bytes of memory free for this process: the least of what the system and its limits say.

    Returns
    -------
    int
    """
    candidates = []
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        candidates.append(int(fields["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        # No such file but on Linux: what is installed is then the best guess.
        candidates.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            candidates.append(int(limit.read()) - int(used.read()))
    except (OSError, ValueError):
        pass
    return max(min(candidates), 0)
