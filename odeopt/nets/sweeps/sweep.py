r"""Sweeps: methods x widths x seeds x hyperparameters, each run beside its linear prediction."""

from __future__ import annotations

import concurrent.futures as cf
import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array, require_choice, require_integer
from odeopt.nets.module_checks import inputs_of, integers_refused, targets_of
from odeopt.nets.networks import TwoLayerReLU
from odeopt.nets.sweeps.jobs import JobResults, job_key, run_jobs
from odeopt.nets.training.stability import require_numeric, require_steps
from odeopt.nets.training.train import train
from odeopt.rules.base import UpdateRule
from odeopt.rules.names import old_rule_spec, rule_spec
from odeopt.spectra.measure import spectral_measure

__all__ = ["sweep"]

_RECORDED = 200  # points of a curve on disk


@dataclass(frozen=True)
class _Job:
    """What a process needs for one run."""

    rule: UpdateRule
    width: int
    seed: int
    layers: Literal["first", "both"]
    num_steps: int
    reduction: Literal["sum", "mean"]
    x: np.ndarray
    y: np.ndarray


def sweep(
    rules: Iterable[UpdateRule],
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    num_steps: int,
    folder: str | os.PathLike[str],
    *,
    widths: Sequence[int] = (1024,),
    seeds: Sequence[int] = (0,),
    layers: Literal["first", "both"] = "first",
    reduction: Literal["sum", "mean"] = "sum",
    executor: cf.Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> JobResults:
    r"""Train a :class:`odeopt.nets.TwoLayerReLU` for every rule, width and seed, and keep all on disk.

    Each run holds the arrays "k", "loss", "linear_loss" (predicted from H(0) before training) and the
    numbers "lam_min", "lam_max" (of H(0)), "kernel_drift" (at the end) and "diverged_at" (-1 if it did not).
    A learning rate above the stability limit is a failure with that reason; the rest goes on.

    Parameters
    ----------
    rules : iterable of UpdateRule
        Methods with their hyperparameters; :func:`rule_grid` makes all combinations.
    x : array_like, shape (n, d)
        Inputs.
    y : array_like, shape (n,) or (n, c)
        With c columns the networks have c outputs.
    num_steps : int
        Steps of each run.
    folder : path-like
        Where the results go. What it holds already is not run again, so a sweep that was interrupted, or
        killed, is continued by the same call.
    widths, seeds : sequence of int, optional
        Hidden neurons, and seeds of the weights; all pairs are run.
    layers : {"first", "both"}, optional
        Which are trained.
    reduction : {"sum", "mean"}, optional
        As for :func:`odeopt.nets.train`.
    executor : concurrent.futures.Executor, optional
        Where runs take place, such as ``Client(...).get_executor()`` of dask.distributed for a
        cluster; by default processes on this machine.
    workers : int, optional
        Runs at a time.
    retry_failed : bool, optional
        Run again what failed before.
    progress : callable, optional
        Called as ``progress("runs", done, total)``, first with what is there already.

    Returns
    -------
    JobResults
        In the order rules, widths, seeds; the last changes fastest.

    Raises
    ------
    ValueError
        If an argument is out of range, a run is asked for twice, or the folder cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from odeopt import HeavyBall
    >>> from odeopt.rules import rule_grid
    >>> rules = rule_grid(HeavyBall, lr=[0.1, 50.0], momentum=0.5)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = sweep(rules, np.eye(3), [1.0, 0.0, -1.0], 20, folder, widths=[64], executor=pool)
    ...     sorted(results.load(results.entries[0]))
    ...     results.failures[0]["reason"]
    ['diverged_at', 'k', 'kernel_drift', 'lam_max', 'lam_min', 'linear_loss', 'loss']
    'ValueError: lr = 50 exceeds the stability limit ...
    """
    inputs = inputs_of(x)
    if not inputs.is_floating_point():
        raise integers_refused(inputs.dtype, "which a TwoLayerReLU does not take")
    x, y = real_array(inputs, "x", ndim=2), targets_of(y)
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, got {len(x)} inputs and {len(y)} targets")
    require_choice("layers", layers, ("first", "both"))
    require_choice("reduction", reduction, ("sum", "mean"))
    rules = tuple(rules)
    for rule in rules:
        require_numeric(rule, "each of rules")
    widths = [require_integer("widths", width, 1) for width in widths]
    seeds = [require_integer("seeds", seed, 0) for seed in seeds]
    num_steps = require_integer("num_steps", num_steps, 1)
    for rule in rules:
        require_steps(rule, num_steps)
    data = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()[:16]
    jobs = []
    for rule, width, seed in itertools.product(rules, widths, seeds):
        spec = {"rule": rule_spec(rule), "width": width, "seed": seed, "layers": layers}
        spec |= {"num_steps": num_steps, "reduction": reduction, "data": data}
        jobs.append((spec, _Job(rule, width, seed, layers, num_steps, reduction, x, y)))
    if not jobs:
        raise ValueError("rules, widths and seeds must not be empty; give at least one of each")
    return run_jobs(
        _run,
        jobs,
        folder,
        executor=executor,
        workers=workers,
        retry_failed=retry_failed,
        earlier=earlier_specs(jobs, folder),
        progress=progress,
    )


def earlier_specs(
    jobs: Sequence[tuple[Mapping[str, Any], Any]], folder: str | os.PathLike[str]
) -> Callable[[Mapping[str, Any]], Mapping[str, Any] | None]:
    """What identified runs when a rule was named by its module; runs of a class of one's own are not read."""
    found, unread = {}, []
    for spec, job in jobs:
        old = old_rule_spec(job.rule)
        if old is not None:
            found[job_key(spec)] = {**spec, "rule": old}
        elif spec["rule"].keys() & {"source"}:
            kept = {name: value for name, value in spec["rule"].items() if name != "source"}
            if (Path(folder) / "runs" / f"{job_key({**spec, 'rule': kept})}.npz").exists():
                unread.append(job.rule.label)
    if unread:
        warnings.warn(
            f"folder {folder} holds runs of {', '.join(sorted(set(unread)))} by a version that did not keep "
            "the code of a rule, which may have changed; they are done again",
            stacklevel=3,
        )
    return lambda spec: found.get(job_key(spec))


def _run(job: _Job) -> dict[str, Any]:
    from odeopt.spectra.curve import loss_curve  # brings sympy, which training itself does not need

    net = TwoLayerReLU(job.x.shape[1], job.width, layers=job.layers, outputs=job.y[0].size, seed=job.seed)
    k = np.unique(np.linspace(0, job.num_steps, min(job.num_steps, _RECORDED) + 1).round().astype(int))
    run = train(
        net,
        job.rule,
        job.x,
        job.y,
        job.num_steps,
        record_at=k,
        kernel_at=[job.num_steps],
        reduction=job.reduction,
    )
    origin = None if run.origin is None else run.origin.reshape(-1)
    kernel = run.kernel_scale * np.asarray(run.initial_kernel)
    measure = spectral_measure(kernel, run.errors[0].reshape(-1), origin=origin)
    return {
        "k": run.k,
        "loss": run.loss,
        "linear_loss": loss_curve(job.rule, measure, run.k).loss,
        "lam_min": measure.lam_min,
        "lam_max": measure.lam_max,
        "kernel_drift": run.relative_kernel_drift[-1] if run.kernel_drift.size else np.nan,
        "diverged_at": -1 if run.diverged_at is None else run.diverged_at,
    }
