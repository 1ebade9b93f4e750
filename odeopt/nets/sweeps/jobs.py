r"""Many runs, kept on disk as they finish: resumable after a kill at any moment.

A folder holds one file for each finished run, ``runs/<key>.npz``, or ``runs/<key>.json`` with the reason of a
failure. A file appears under its name only when it is complete (it is written beside and renamed), so the
files are the truth; ``index.jsonl``, one line a run, is a convenience made anew from them at each start.
One process, the caller's, writes them all, and a lock keeps a second one out of the same folder.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import hashlib
import itertools
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

try:
    import fcntl
except ImportError:  # not on Windows, where a second sweep in a folder is then not noticed
    fcntl = None

__all__ = ["JobResults", "job_key", "run_jobs"]


@dataclass(frozen=True)
class JobResults:
    """The runs of a folder.

    Attributes
    ----------
    folder : pathlib.Path
    entries : tuple of dict
        One for each job, in the order asked for: "key", "spec", "status" ("done" or "failed"), "seconds",
        and for a failure "reason".
    reused : int
        Number of runs that were there already.
    """

    folder: Path
    entries: tuple[dict, ...] = field(repr=False)
    reused: int

    @property
    def failures(self) -> tuple[dict, ...]:
        """The entries that failed."""
        return tuple(entry for entry in self.entries if entry["status"] == "failed")

    def load(self, entry: Mapping) -> dict[str, np.ndarray]:
        """Return the arrays of a finished run.

        Parameters
        ----------
        entry : mapping
            One of `entries`.

        Returns
        -------
        dict of str to numpy.ndarray

        Raises
        ------
        ValueError
            If the run failed.
        """
        if entry["status"] != "done":
            raise ValueError(f"run {entry['key']} failed ({entry['reason']}); it has no arrays")
        with np.load(self.folder / "runs" / f"{entry['key']}.npz", allow_pickle=False) as held:
            return {name: held[name] for name in held.files if name != "_entry"}


def job_key(spec: Mapping) -> str:
    """Name of a job: a hash of what it is asked to do.

    Parameters
    ----------
    spec : mapping
        What can be written as JSON.

    Returns
    -------
    str

    Examples
    --------
    >>> job_key({"width": 8, "seed": 0}) == job_key({"seed": 0, "width": 8})
    True
    """
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:20]


def run_jobs(
    task: Callable[[Any], Mapping[str, Any]],
    jobs: Sequence[tuple[Mapping, Any]],
    folder: str | os.PathLike,
    *,
    executor: cf.Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> JobResults:
    r"""Run a task on many arguments, each once, and keep every result on disk.

    Parameters
    ----------
    task : callable
        From an argument to named arrays; a function of a module, so that other processes can import it.
    jobs : sequence of (mapping, object)
        For each run what identifies it (JSON, from which its file is named) and the argument of the task.
    folder : path-like
        Where the results go. Runs that it holds already are not run again.
    executor : concurrent.futures.Executor, optional
        Where the runs take place; not shut down. By default a pool of spawned processes, which end with
        the caller, even one that is killed, and are replaced when one of them dies.
    workers : int, optional
        Runs at a time; by default one for each core (4 for an executor that does not tell).
    retry_failed : bool, optional
        Run again what failed before.
    progress : callable, optional
        Called as ``progress("runs", done, total)``, first with what is there already, then after each run.

    Returns
    -------
    JobResults
        Also when runs failed; the reason stands in their entries.

    Raises
    ------
    ValueError
        If two jobs are the same, the folder cannot be written, or another process is using it.

    Examples
    --------
    >>> import math, tempfile
    >>> jobs = [({"value": v}, v) for v in (1.0, 4.0, -1.0)]
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(2) as pool:
    ...     results = run_jobs(lambda v: {"root": math.sqrt(v)}, jobs, folder, executor=pool)
    ...     float(results.load(results.entries[1])["root"]), results.failures[0]["reason"]
    (2.0, 'ValueError: math domain error')
    """
    keyed = {job_key(spec): (dict(spec), argument) for spec, argument in jobs}
    if len(keyed) < len(jobs):
        raise ValueError(f"jobs must differ, but {len(jobs) - len(keyed)} of {len(jobs)} are repeated")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers must be an integer of at least 1, got {workers!r}")
    folder = Path(folder)
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise ValueError(f"folder {folder} is not writable ({error.strerror}); choose another") from error
    with _lock(folder):
        store = _Store(folder, keyed, retry_failed)
        todo = {key: argument for key, (_, argument) in keyed.items() if key not in store.entries}
        reused, total = len(keyed) - len(todo), len(keyed)
        if progress is not None:
            progress("runs", reused, total)
        done = reused
        for key, outcome, seconds in _outcomes(task, todo, executor, workers):
            store.keep(key, keyed[key][0], outcome, seconds)
            done += 1
            if progress is not None:
                progress("runs", done, total)
        store.write_index()
    return JobResults(folder, tuple(store.entries[key] for key in keyed), reused)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder; the system frees it when the process ends, however it ends."""
    with (folder / ".lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(
                    f"folder {folder} is in use by another sweep; wait for it, or take another"
                ) from error
        yield


class _Store:
    """The files of a folder."""

    def __init__(self, folder: Path, keyed: Mapping, retry_failed: bool) -> None:
        self.folder = folder
        self.entries: dict[str, dict] = {}
        for part in (folder / "runs").glob(".*.part"):  # of a process that was killed while writing
            part.unlink()
        for key in keyed:
            entry = self._read(key)
            if entry is not None and not (retry_failed and entry["status"] == "failed"):
                self.entries[key] = entry
        self.write_index()

    def _read(self, key: str) -> dict | None:
        try:
            with np.load(self.folder / "runs" / f"{key}.npz", allow_pickle=False) as held:
                return json.loads(str(held["_entry"]))
        except FileNotFoundError:
            pass
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.folder / "runs" / f"{key}.json").read_text())
        return None

    def keep(self, key: str, spec: dict, outcome: Any, seconds: float) -> None:
        """Write the file of a run, then its line of the index."""
        entry = {"key": key, "status": "done", "seconds": round(seconds, 4), "spec": spec}
        if not isinstance(outcome, BaseException):
            try:
                arrays = {name: np.asarray(value) for name, value in outcome.items()}
                refused = [name for name, array in arrays.items() if array.dtype.hasobject]
                if refused:
                    raise TypeError(f"the task returned objects, not numbers, in {', '.join(refused)}")
            except (TypeError, ValueError, AttributeError) as error:
                outcome = error
        if isinstance(outcome, BaseException):
            reason = " ".join(f"{type(outcome).__name__}: {outcome}".split())
            entry |= {"status": "failed", "reason": reason}
            self._write(f"{key}.json", lambda file: file.write(json.dumps(entry).encode()))
        else:
            text = np.array(json.dumps(entry))
            self._write(f"{key}.npz", lambda file: np.savez(file, _entry=text, **arrays))
            (self.folder / "runs" / f"{key}.json").unlink(missing_ok=True)  # of an earlier failure
        self.entries[key] = entry
        with (self.folder / "index.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def _write(self, name: str, write: Callable) -> None:
        part = self.folder / "runs" / f".{name}.part"
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / "runs" / name)

    def write_index(self) -> None:
        """Write the index anew, so that a line cut short by a kill does not stay."""
        part = self.folder / ".index.part"
        part.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries.values()))
        part.replace(self.folder / "index.jsonl")


def _timed(task: Callable, argument: Any) -> tuple[Mapping, float]:
    start = time.perf_counter()
    return task(argument), time.perf_counter() - start


def _outcomes(task, todo: dict, executor: cf.Executor | None, workers: int | None) -> Iterator[tuple]:
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


def _in_pool(task, todo: dict, workers: int, suspects: set) -> Iterator[tuple]:
    # Spawned, not forked: a fork copies the locks of torch's threads, held or not.
    context = multiprocessing.get_context("spawn")
    with _one_thread_for_children():
        pool = cf.ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_follow_parent)
        try:
            yield from _drain(task, todo, pool, workers, suspects)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _drain(task, todo: dict, executor: cf.Executor, workers: int, suspects: set) -> Iterator[tuple]:
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
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
