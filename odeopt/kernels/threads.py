"""A computation in parts by several threads: how many there are, and results in the order of the parts."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["allowed_threads", "in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")
_alone = threading.RLock()


def allowed_threads() -> int:
    """Cores that this process may run on, and no more than OMP_NUM_THREADS where that is a number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) > 0 else cores


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Generator[Result, None, None]:
    """Yield the results for the items in their order; the first error in it, or closing, ends the work."""
    items = list(items)
    threads = min(threads, len(items))
    if threads <= 1:
        yield from map(function, items)
        return
    # each with the caller's context, to which numpy's errstate belongs
    tasks = [functools.partial(contextvars.copy_context().run, function, item) for item in items]
    # Threads of BLAS beside these would wait for each other: six times the processor time was seen. How many
    # it takes is one setting of the process, so that of two computations at once one waits.
    with _alone, _libraries().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda task: task(), tasks)


@functools.cache
def _libraries() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()
