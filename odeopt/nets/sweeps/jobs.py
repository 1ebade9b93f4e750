r"""Many runs, kept on disk as they finish: resumable after a kill at any moment.

A folder holds one file for each finished run, ``runs/<key>.npz``, or ``runs/<key>.json`` with the reason of a
failure. A file appears under its name only when it is complete (it is written beside and renamed), so the
files are the truth; ``index.jsonl``, one line a run, is a convenience made anew from them at each start.
One process, the caller's, writes them all, and a lock keeps a second one out of the same folder.
"""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odeopt.checks import DAMAGED, require_integer
from odeopt.nets.sweeps.pool import outcomes
from odeopt.nets.sweeps.store import Store, locked, read_run
from odeopt.shown import Shown, Summary

__all__ = ["JobResults", "job_key", "run_jobs"]


@dataclass(frozen=True, repr=False)
class JobResults(Shown):
    """The runs of a folder.

    Parameters
    ----------
    folder : pathlib.Path
        Where the runs are, a file each.
    entries : tuple of dict
        One for each job, in the order asked for: "key", "spec", "status" ("done" or "failed"), "seconds",
        and for a failure "reason".
    reused : int
        Number of runs that were there already.
    set_aside : tuple of str
        Files of runs that could not be read: each is now ``<name>.damaged``, and its run was done again.

    Examples
    --------
    >>> import tempfile
    >>> jobs = [({"power": p}, p) for p in (2, 3)]
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     found = run_jobs(lambda p: {"sum": np.arange(4) ** p}, jobs, folder, executor=pool)
    ...     again = run_jobs(lambda p: {"sum": np.arange(4) ** p}, jobs, folder, executor=pool)
    ...     int(found.load(found.entries[1])["sum"].sum()), found.failures, again.reused
    (36, (), 2)
    """

    folder: Path
    entries: tuple[dict[str, Any], ...]
    reused: int
    set_aside: tuple[str, ...] = ()

    def _summary(self) -> Summary:
        done = [f"{len(self.entries) - len(self.failures)} runs done", f"{self.reused} of them before"]
        failed = [f"{len(self.failures)} failed"] if self.failures else []
        rows = [(json.dumps(e["spec"]), e["reason"]) for e in self.failures[:9]]
        return Summary([*done, *failed, f"in {self.folder.name}"], ("failed, the first nine", "why"), rows)

    @property
    def failures(self) -> tuple[dict[str, Any], ...]:
        """The entries that failed."""
        return tuple(entry for entry in self.entries if entry["status"] == "failed")

    def load(self, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a finished run.

        Parameters
        ----------
        entry : mapping
            One of `entries`.

        Returns
        -------
        dict of str to numpy.ndarray
            What the task returned, by name.

        Raises
        ------
        ValueError
            If the run failed, or its file has been damaged since.
        """
        if entry["status"] != "done":
            raise ValueError(f"run {entry['key']} failed ({entry['reason']}); it has no arrays")
        path = self.folder / "runs" / f"{entry['key']}.npz"
        try:
            arrays = read_run(path)
        except DAMAGED as error:
            raise ValueError(f"{path} cannot be read ({error}); run the sweep again") from error
        return {name: array for name, array in arrays.items() if name != "_entry"}


def job_key(spec: Mapping[str, Any]) -> str:
    """Name of a job: a hash of what it is asked to do, written as JSON.

    >>> job_key({"width": 8, "seed": 0}) == job_key({"seed": 0, "width": 8})
    True
    """
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:20]


def run_jobs(
    task: Callable[[Any], Mapping[str, Any]],
    jobs: Sequence[tuple[Mapping[str, Any], Any]],
    folder: str | os.PathLike[str],
    *,
    executor: cf.Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    earlier: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = None,
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
        Where the results go. Runs that it holds already are not run again; a file that cannot be read is set
        aside with a warning, and its run is done again.
    executor : concurrent.futures.Executor, optional
        Where the runs take place; not shut down. By default a pool of spawned processes, which end with
        the caller, even one that is killed, and are replaced when one of them dies.
    workers : int, optional
        Runs at a time; by default one for each core (4 for an executor that does not tell).
    retry_failed : bool, optional
        Run again what failed before.
    earlier : callable, optional
        From what identifies a run to what identified it under an earlier version, or None; that file is read
        too.
    progress : callable, optional
        Called as ``progress("runs", done, total)``, first with what is there, then after each run.

    Returns
    -------
    JobResults
        Also when runs failed; the reason stands in their entries.

    Raises
    ------
    ValueError
        If two jobs are the same, the folder cannot be written, or another process is using it.
    KeyboardInterrupt
        When interrupted; its text says what is kept and how to go on.

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
        raise ValueError(
            f"jobs must differ, but {len(jobs) - len(keyed)} of {len(jobs)} are repeated; name each once"
        )
    workers = None if workers is None else require_integer("workers", workers, 1)
    folder = Path(folder)
    before = {key: None if earlier is None else earlier(spec) for key, (spec, _) in keyed.items()}
    renamed = {key: job_key(spec) for key, spec in before.items() if spec is not None}
    with locked(folder):
        store = Store(folder, keyed, renamed, retry_failed=retry_failed)
        todo = {key: argument for key, (_, argument) in keyed.items() if key not in store.entries}
        reused, total = len(keyed) - len(todo), len(keyed)
        if progress is not None:
            progress("runs", reused, total)
        try:
            for key, outcome, seconds in outcomes(task, todo, executor, workers):
                store.keep(key, keyed[key][0], outcome, seconds)
                if progress is not None:
                    progress("runs", len(store.entries), total)
        except KeyboardInterrupt as stop:
            kept = len(store.entries)
            stop.args = (
                f"{kept} of {total} runs are kept in {folder}; the same call does the other {total - kept}",
            )
            raise
        store.write_index()
    return JobResults(folder, tuple(store.entries[key] for key in keyed), reused, tuple(store.set_aside))
