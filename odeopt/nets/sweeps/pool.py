r"""Runs on any executor as they finish; a process that dies takes only its own run with it."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["outcomes"]


def _timed(task: Callable, argument: Any) -> tuple[Mapping, float]:
    start = time.perf_counter()
    return task(argument), time.perf_counter() - start


def outcomes(
    task: Callable[[Any], Mapping[str, Any]],
    todo: dict[str, Any],
    executor: cf.Executor | None,
    workers: int | None,
) -> Iterator[tuple[str, Any, float]]:
    """Yield (key, arrays or exception, seconds) as runs finish."""
    if executor is not None:
        suspects: set[str] = set()
        yield from _drain(task, todo, executor, workers or getattr(executor, "_max_workers", 4), suspects)
        if suspects:
            raise RuntimeError("the executor broke; start the sweep again with a new one to do what is left")
        return
    todo, workers = dict(todo), workers or os.cpu_count() or 1
    while todo:
        suspects = set()
        for outcome in _in_pool(task, todo, workers, suspects):
            del todo[outcome[0]]
            yield outcome
        # A process died and took the pool with it. Of what was under way each run is tried alone, so that
        # only the one that kills its process is given up.
        for key in suspects:
            died: set[str] = set()
            yield from _in_pool(task, {key: todo.pop(key)}, 1, died)
            if died:
                yield key, RuntimeError("its process died, alone too (killed, or out of memory)"), 0.0


def _in_pool(task: Callable, todo: dict, workers: int, suspects: set) -> Iterator[tuple]:
    # Spawned, not forked: a fork copies the locks of torch's threads, held or not.
    context = multiprocessing.get_context("spawn")
    with _one_thread_for_children():
        pool = cf.ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_follow_parent)
        ended = False
        try:
            yield from _drain(task, todo, pool, workers, suspects)
            ended = True
        finally:
            processes = [] if ended else list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:  # after an interrupt nobody waits for the runs under way
                process.terminate()


def _drain(task: Callable, todo: dict, executor: cf.Executor, workers: int, suspects: set) -> Iterator[tuple]:
    """Keep a few more runs submitted than there are workers; if the pool breaks, name those under way."""
    waiting, running = iter(list(todo.items())), {}
    while True:
        for key, argument in itertools.islice(waiting, max(0, 2 * workers - len(running))):
            try:
                running[executor.submit(_timed, task, argument)] = key
            except cf.BrokenExecutor:
                suspects.add(key)
        if not running:
            return
        finished, _ = cf.wait(running, return_when=cf.FIRST_COMPLETED)
        for future in finished:
            key, error = running.pop(future), future.exception()
            if isinstance(error, cf.BrokenExecutor):
                suspects.add(key)
                waiting = iter(())
            elif error is not None:
                yield key, error, 0.0
            else:
                yield key, *future.result()


@contextlib.contextmanager
def _one_thread_for_children() -> Iterator[None]:
    """Give each process one thread, unless the caller's environment says otherwise: they share the cores."""
    names = [n for n in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if n not in os.environ]
    os.environ.update(dict.fromkeys(names, "1"))  # read by a child when it loads its libraries
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _follow_parent() -> None:
    """Let a worker end with the process that started it, which cannot tell it to when it is killed."""
    parent: Any = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
