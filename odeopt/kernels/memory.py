r"""What a kernel operator will hold in memory, planned before anything is computed."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from odeopt.checks import is_number, require_integer
from odeopt.kernels.products import Engine, chosen_engine
from odeopt.kernels.threads import allowed_threads
from odeopt.shown import Shown

__all__ = [
    "MemoryPlan", "Storage", "available_memory", "cgroups_free", "first_fitting", "memory_plan",
    "panel_rows",
]  # fmt: skip

Storage = Literal["auto", "float64", "float32", "recompute"]
_STORAGES = ("float64", "float32", "recompute")
PANEL = 2**24  # entries of a panel at most
STRIP = 2048  # columns of a panel that are computed at a time
# Work arrays of what is computed at a time that exist at once: 8 of a deep network, 5 of a shallow one.
WORK_ARRAYS = 8
# Share of the free memory that a plan may take, unless told.
SHARE = 0.8


@dataclass(frozen=True, repr=False)
class MemoryPlan(Shown):
    """What a kernel operator and a Lanczos run with it will hold in memory.

    Parameters
    ----------
    n, d : int
        Inputs and their dimension.
    storage : {"float64", "float32", "recompute"}
        How entries of the kernel are kept.
    kernel, work, inputs, vectors : int
        Bytes of the stored half, of temporary panels, of the inputs, and of the Lanczos basis.
    limit : int
        Bytes that may be used.
    rows : int
        Rows of a panel.
    device : str
        Whose memory it is; "cpu" for that of the process.
    engine : str
        What multiplies, and why where it is not the one of choice; of a device it is known once it is built.
    threads : int
        That build and multiply on the host: the cores that the process may run on, at most OMP_NUM_THREADS.

    Examples
    --------
    >>> plan = memory_plan(1000, 20, storage="float32", num_vectors=10, memory_limit=2**30)
    >>> plan.kernel, plan.inputs, plan.vectors, plan.fits
    (2064000, 320000, 80000, True)
    """

    n: int
    d: int
    storage: str
    kernel: int
    work: int
    inputs: int
    vectors: int
    limit: int
    rows: int
    device: str = "cpu"
    engine: str = ""
    threads: int = 1

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
        place = "" if self.device == "cpu" else f" on {self.device}"
        if self.engine:
            place += f", products by {self.engine}"
        if self.threads > 1:
            place += f" on {self.threads} threads"
        return (
            f"n = {self.n}, storage {self.storage}: {self.total / 2**30:.2f} GiB ({listed}) "
            f"of {self.limit / 2**30:.2f} GiB{place}"
        )


def memory_plan(
    n: int,
    d: int,
    *,
    storage: Storage = "auto",
    num_vectors: int = 400,
    memory_limit: float | None = None,
    engine: Engine = "auto",
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
        Bytes; by default four fifths of the memory that is free now, within the limits of the process
        (``ulimit``) and of its cgroups.
    engine : {"auto", "numba", "numpy"}
        As in :func:`odeopt.relu_gram_operator`.

    Returns
    -------
    MemoryPlan
        Bytes by purpose, the storage that was chosen, and the engine.

    Raises
    ------
    ValueError
        If an argument is out of range, the storage or engine is unknown, or the plan does not fit.

    Examples
    --------
    >>> print(memory_plan(60_000, 784, memory_limit=12 * 2**30))
    n = 60000, storage float32: 7... GiB (kernel 6.73, work 0..., inputs 0.70, vectors 0.18) of 12.00 GiB, ...
    """
    n, d = require_integer("n", n, 1), require_integer("d", d, 1)
    num_vectors = require_integer("num_vectors", num_vectors, 0)
    if memory_limit is not None and not (is_number(memory_limit) and 0 < memory_limit < math.inf):
        raise ValueError(f"memory_limit must be a positive number of bytes, got {memory_limit!r}")
    limit = SHARE * available_memory() if memory_limit is None else memory_limit
    plan = first_fitting(n, d, storage, num_vectors, int(limit), threads=allowed_threads())
    return replace(plan, engine=chosen_engine(engine, n, plan.storage))


def first_fitting(
    n: int,
    d: int,
    storage: str,
    num_vectors: int,
    limit: int,
    device: str = "cpu",
    rows: int | None = None,
    threads: int = 1,
) -> MemoryPlan:
    """Return the plan of :func:`memory_plan` for a device with `limit` bytes to spare, or refuse."""
    rows = panel_rows(n) if rows is None else rows
    if storage != "auto" and storage not in _STORAGES:
        raise ValueError(f"storage must be auto, {', '.join(_STORAGES[:2])} or recompute, got {storage!r}")
    chosen = _STORAGES if storage == "auto" else (storage,)
    plans = [_plan(n, d, each, num_vectors, limit, device, rows, threads) for each in chosen]
    for plan in plans:
        if plan.fits:
            return plan
    raise ValueError(
        f"the kernel does not fit: {plans[-1]}; take fewer inputs, another storage or a larger memory_limit"
    )


def _plan(
    n: int, d: int, storage: str, num_vectors: int, limit: int, device: str, rows: int, threads: int
) -> MemoryPlan:
    size = {"float64": 8, "float32": 4, "recompute": 0}[storage]
    # on the host each thread computes a strip of a panel, and holds a panel that is to be recomputed
    columns = min(n, rows + STRIP) if device == "cpu" else n
    panel = rows * n if storage == "recompute" and device == "cpu" else 0
    return MemoryPlan(
        n, d, storage,
        kernel=size * (n * (n + rows) // 2),
        work=8 * threads * (WORK_ARRAYS * rows * columns + panel + n),
        inputs=2 * 8 * n * d,
        vectors=8 * n * num_vectors,
        limit=limit,
        rows=rows,
        device=device,
        threads=threads,
    )  # fmt: skip


def panel_rows(n: int) -> int:
    """Rows of a panel of a kernel of n inputs."""
    return min(n, max(32, min(n // 32, 256, PANEL // n)))


def available_memory() -> int:
    """Bytes free for this process: the least of what the system, its cgroups and its own limits leave."""
    return max(0, min([_system_free(), *_limits_free(), *cgroups_free()]))


def _system_free() -> int:
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        # No such file but on Linux: what is installed is then the best guess.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _limits_free() -> list[int]:
    """What `ulimit -v` and `ulimit -d` leave of the address space and of the data segment."""
    try:
        pages = [int(field) for field in Path("/proc/self/statm").read_text().split()]
    except (OSError, ValueError):
        return []
    limits = ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5]))
    used = [(resource.getrlimit(limit)[0], count * resource.getpagesize()) for limit, count in limits]
    return [limit - taken for limit, taken in used if limit != resource.RLIM_INFINITY]


def cgroups_free(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What each cgroup around the process leaves, of version 2 and of version 1, up to the outermost one."""
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            homes, names = (root, root / "unified"), ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            homes = (root / "memory",)
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be that of the host: then the outermost group is seen alone.
        inside = PurePosixPath(path.lstrip("/"))
        found += [_group_free(home / part, *names) for home in homes for part in (inside, *inside.parents)]
    return [free for free in found if free is not None]


def _group_free(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Limit less usage, where pages of files that are not in use count as free; None without a limit."""
    try:
        free = int((group / limit).read_text()) - int((group / usage).read_text())
    except (OSError, ValueError):  # no such group, or the limit is "max"
        return None
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return free + int(stat.get(cache, 0))
    except (OSError, ValueError):
        return free
