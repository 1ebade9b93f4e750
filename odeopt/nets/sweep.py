r"""Sweeps: methods x widths x seeds x hyperparameters, each run beside its linear prediction."""

from __future__ import annotations

import concurrent.futures as cf
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.kernels import real_array
from odeopt.methods import GradientDescent, HeavyBall, HigherMomentum, Nesterov, UpdateRule
from odeopt.nets.jobs import JobResults, run_jobs
from odeopt.nets.modules import float_inputs
from odeopt.nets.relu import TwoLayerReLU, require_integer
from odeopt.nets.train import train
from odeopt.spectrum import spectral_measure

__all__ = ["named_rules", "rule_grid", "rule_spec", "sweep"]

_RECORDED = 200  # points of a curve on disk


@dataclass(frozen=True)
class _Job:
    """What a process needs for one run."""

    rule: UpdateRule
    width: int
    seed: int
    layers: str
    num_steps: int
    reduction: str
    x: np.ndarray
    y: np.ndarray


def rule_grid(rule_type: type[UpdateRule], **values: Any) -> tuple[UpdateRule, ...]:
    """Return the rules of one method for all combinations of hyperparameters.

    Parameters
    ----------
    rule_type : type
        A subclass of UpdateRule.
    **values : object or list of objects
        For each hyperparameter one value, or a list of values.

    Returns
    -------
    tuple of UpdateRule

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> for rule in rule_grid(HeavyBall, lr=[0.1, 0.2], momentum=0.5):
    ...     print(rule)
    HeavyBall(lr=0.1, momentum=0.5)
    HeavyBall(lr=0.2, momentum=0.5)
    """
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return tuple(rule_type(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*lists))


def named_rules(
    names: Iterable[str],
    *,
    lr: Sequence[float],
    momentum: Sequence[float] = (0.9,),
    r: Sequence[float] = (3.0,),
    momenta: Sequence[float] = (0.2, 0.5),
) -> tuple[UpdateRule, ...]:
    """Return the rules of named methods for all combinations of hyperparameters.

    Parameters
    ----------
    names : iterable of str
        Among "gd", "hb", "nag" and "hm".
    lr : sequence of float
        Learning rates.
    momentum : sequence of float, optional
        Momenta of "hb".
    r : sequence of float, optional
        Frictions of "nag".
    momenta : sequence of float, optional
        The one tuple of momenta of "hm".

    Returns
    -------
    tuple of UpdateRule

    Examples
    --------
    >>> named_rules(["gd", "hb"], lr=[0.1], momentum=[0.5, 0.9])
    (GradientDescent(lr=0.1), HeavyBall(lr=0.1, momentum=0.5), HeavyBall(lr=0.1, momentum=0.9))
    """
    grids = {
        "gd": lambda: rule_grid(GradientDescent, lr=list(lr)),
        "hb": lambda: rule_grid(HeavyBall, lr=list(lr), momentum=list(momentum)),
        "nag": lambda: rule_grid(Nesterov, lr=list(lr), r=list(r)),
        "hm": lambda: rule_grid(HigherMomentum, lr=list(lr), momenta=tuple(momenta)),
    }
    names = tuple(names)
    for name in names:
        if name not in grids:
            raise ValueError(f"unknown method {name!r}; known are {', '.join(grids)}")
    return tuple(rule for name in names for rule in grids[name]())


def rule_spec(rule: UpdateRule) -> dict:
    """What identifies a rule, for a JSON file.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.

    Returns
    -------
    dict

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> rule_spec(HeavyBall(0.1, 0.5))
    {'type': 'odeopt.methods.HeavyBall', 'lr': 0.1, 'momentum': 0.5}
    """

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return value if value is None or isinstance(value, bool) else float(value)

    fields = {field.name: plain(getattr(rule, field.name)) for field in dataclasses.fields(rule)}
    return {"type": f"{type(rule).__module__}.{type(rule).__qualname__}", **fields}


def sweep(
    rules: Iterable[UpdateRule],
    x: Any,
    y: Any,
    num_steps: int,
    folder: str | os.PathLike,
    *,
    widths: Sequence[int] = (1024,),
    seeds: Sequence[int] = (0,),
    layers: str = "first",
    reduction: str = "sum",
    executor: cf.Executor | None = None,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: Callable[[int, int, dict | None], object] | None = None,
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
    y : array_like, shape (n,)
    num_steps : int
    folder : path-like
        Where the results go. What it holds already is not run again, so a sweep that was interrupted, or
        killed, is continued by the same call.
    widths, seeds : sequence of int, optional
    layers : {"first", "both"}, optional
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
        Called as ``progress(done, total, entry)``.

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
    >>> rules = rule_grid(HeavyBall, lr=[0.1, 50.0], momentum=0.5)
    >>> with tempfile.TemporaryDirectory() as folder, cf.ThreadPoolExecutor(1) as pool:
    ...     results = sweep(rules, np.eye(3), [1.0, 0.0, -1.0], 20, folder, widths=[64], executor=pool)
    ...     sorted(results.load(results.entries[0]))
    ...     results.failures[0]["reason"]
    ['diverged_at', 'k', 'kernel_drift', 'lam_max', 'lam_min', 'linear_loss', 'loss']
    'ValueError: lr = 50 exceeds the stability limit ...
    """
    x, y = real_array(float_inputs(x), "x", ndim=2), real_array(y, "y", ndim=1)
    rules = tuple(rules)
    for rule in rules:
        if not isinstance(rule, UpdateRule) or not rule.is_numeric:
            raise ValueError(f"rules must be UpdateRules with numeric hyperparameters, got {rule!r}")
    widths = [require_integer("widths", width, 1) for width in widths]
    seeds = [require_integer("seeds", seed, 0) for seed in seeds]
    num_steps = require_integer("num_steps", num_steps, 1)
    data = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()[:16]
    jobs = []
    for rule, width, seed in itertools.product(rules, widths, seeds):
        spec = {"rule": rule_spec(rule), "width": width, "seed": seed, "layers": layers}
        spec |= {"num_steps": num_steps, "reduction": reduction, "data": data}
        jobs.append((spec, _Job(rule, width, seed, layers, num_steps, reduction, x, y)))
    if not jobs:
        raise ValueError("rules, widths and seeds must not be empty")
    return run_jobs(
        _run, jobs, folder, executor=executor, workers=workers, retry_failed=retry_failed, progress=progress
    )


def _run(job: _Job) -> dict[str, Any]:
    from odeopt.loss import loss_curve  # brings sympy, which training itself does not need

    net = TwoLayerReLU(job.x.shape[1], job.width, layers=job.layers, seed=job.seed)
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
    measure = spectral_measure(run.kernel_scale * run.initial_kernel, run.errors[0])
    return {
        "k": run.k,
        "loss": run.loss,
        "linear_loss": loss_curve(job.rule, measure, run.k).loss,
        "lam_min": measure.lam_min,
        "lam_max": measure.lam_max,
        "kernel_drift": run.relative_kernel_drift[-1] if run.kernel_drift.size else np.nan,
        "diverged_at": -1 if run.diverged_at is None else run.diverged_at,
    }
