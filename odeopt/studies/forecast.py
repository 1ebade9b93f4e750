r"""Predict before training: learning-rate limits, tuned methods, and the steps to a target, with bounds.

The network is the infinitely wide one of :func:`odeopt.relu_gram`, started at zero output (as two copies of
opposite sign), so that :math:`\Delta_0=-y`. Its output is homogeneous in the trained weights, of degree p:
:math:`Jw_0=pu_0=0` by Euler's identity, which is all that weight decay asks for. Where one layer is trained
p = 1, and weights that decay to 0 leave the kernel as it is; where all are, it shrinks with them, at any
width, and only decay to the start keeps it. One Lanczos run serves all methods.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from odeopt.checks import class_note, is_number, real_array, require_integer
from odeopt.data import Dataset, prepare
from odeopt.kernels.inputs import SingularPart, singular_part, validate_inputs
from odeopt.kernels.memory import MemoryPlan, Storage, memory_plan
from odeopt.kernels.operator import relu_gram_operator
from odeopt.rates.tuning import Decay
from odeopt.rules.averaged import with_average
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent
from odeopt.rules.schedule import Schedule
from odeopt.spectra.predictions import SeenBasis
from odeopt.studies.forecast_method import Asked
from odeopt.studies.forecast_report import Forecast, MethodForecast
from odeopt.studies.forecast_spectrum import ForecastSpectrum
from odeopt.studies.held_out import HeldOut, shared_text
from odeopt.studies.methods import chosen_methods, require_constant_kernel
from odeopt.studies.sources import Examples, rows_and_test
from odeopt.studies.stages import Progress, counted

__all__ = ["FORECAST_METHODS", "Forecast", "MethodForecast", "forecast"]

FORECAST_METHODS = ("gd", "hb", "nag", "nagc", "tm")


def forecast(
    x: Any,
    y: Any = None,
    *,
    test: Any = None,
    classes: bool = False,
    methods: Sequence[str | UpdateRule] = ("gd", "hb", "nag"),
    target: float = 1e-3,
    num_matvecs: int = 300,
    layers: Literal["first", "both"] = "first",
    depth: int = 1,
    storage: Storage = "auto",
    device: str | None = None,
    best_at: int | None = None,
    schedule: Schedule | None = None,
    lr: float | Schedule | None = None,
    weight_decay: float | Schedule | None = None,
    decoupled: bool = False,
    to_start: bool = False,
    average: float | Schedule | Literal["polyak"] | None = None,
    max_steps: int = 100_000,
    strict: bool = False,
    state: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
    on_plan: Callable[[MemoryPlan], object] | None = None,
) -> Forecast:
    r"""Predict how fast each method trains an infinitely wide ReLU network on given data.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (n,) or (n, c), or what :func:`odeopt.load_data` takes
        Inputs, flattened (images) and scaled to unit norm, and targets, scaled to mean 0 and unit root mean
        square. Blank and parallel rows make the kernel singular; the loss that cannot fall is then told, the
        rest predicted.
    test : pair of array_like, what :func:`odeopt.load_data` takes, or float, optional
        Examples that are not trained on, or the share of these that is held out, drawn with a fixed seed:
        the loss on them along training, the best step and, where targets are classes or two numbers, the
        accuracy. Of rows that are trained on too a warning tells.
    classes : bool, optional
        Take `y`, shape (n,), as class labels, one output for each (:func:`odeopt.data.one_hot`). Without it
        labels that are numbers are regressed on.
    methods : sequence of str or UpdateRule
        Among "gd", "hb" (Polyak), "nag" (friction 3/t, lr = 1/L), "nagc" (constant momentum), "tm", whose
        numbers are tuned; or linear rules of your own, as they are: any schedules, decay or average.
    target : float
        Share of the initial loss, below 1.
    num_matvecs : int
        Lanczos steps, at most n are taken.
    layers, depth, storage, device : str, int, str, str, optional
        As in :func:`odeopt.relu_gram_operator`.
    best_at : int, optional
        Tune for the loss after so many steps (:func:`odeopt.rates.tune_for`), not for the asymptotic rate.
    schedule : Schedule, optional
        Of the learning rate, whose best peak for `best_at` steps is found, its shape kept; the run ends
        there. Without noise a decay does not help.
    lr : float or Schedule, optional
        Learning rate of the methods that are named, kept as it is; the momentum is the critical one.
    weight_decay, decoupled, to_start : float or Schedule, bool, bool
        Of the methods that are named, as of their classes.
    average : float, Schedule or "polyak", optional
        Predict the averaged output of the methods that are named (:class:`odeopt.rules.Averaged`).
    max_steps : int
        Where the search for the target ends.
    strict : bool, optional
        Refuse rows that make the kernel singular.
    state : path-like, optional
        File from which an interrupted Lanczos run is continued.
    progress : callable, optional
        Called as ``progress(stage, done, total)``: "kernel" with its rows, "lanczos" with its steps,
        "methods", "test kernel" with its entries, "test curves".
    on_plan : callable, optional
        Called with the memory plan before any work.

    Returns
    -------
    Forecast
        Of the linear model of the kernel of infinite width.

    Raises
    ------
    ValueError
        On unusable data, options or device, or if the kernel does not fit into memory; for a rule without a
        loss curve, or above its stability limit; for decay to 0 where all layers are trained.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> found = forecast(rng.standard_normal((30, 5)), rng.standard_normal(30), methods=["gd", "hb"])
    >>> [method.steps.value > 0 for method in found.methods]
    [True, True]
    """
    decay = {"weight_decay": weight_decay, "decoupled": decoupled, "to_start": to_start}
    chosen, asked = _asked(methods, layers, target, max_steps, best_at, schedule, lr, decay, average)
    x, y, held = rows_and_test(x, y, test, classes)
    n, d = (x := real_array(x, "x", ndim=2)).shape
    num_matvecs = min(require_integer("num_matvecs", num_matvecs, 1), n)
    # Refused before anything is computed, and so before all pairs of rows are looked at.
    vectors = num_matvecs * (outputs := len(np.unique(y)) if classes else y[0].size)
    _plan(n, d, device, on_plan, storage=storage, num_vectors=vectors * _copies(n, held))
    data, singular = _prepared(x, y, classes, strict, depth)
    points = None if held is None else _held_out(held, x, y, data)
    network: dict[str, Any] = {"layers": layers, "depth": depth, "device": device, "storage": storage}
    options: dict[str, Any] = {**network, "num_vectors": vectors, "progress": progress}
    kernel = relu_gram_operator(rows := singular.reduced_rows(data.x), allow_singular=True, **options)
    spectrum = ForecastSpectrum.of(kernel, singular, -data.y, num_matvecs, state, progress, held is not None)
    fewest, told = asked.fewest(spectrum), counted("methods", chosen, progress)
    found = tuple(asked.method(name, chosen[name], spectrum, fewest) for name in told)
    if points is not None:
        basis = points.seen(spectrum.seen, rows, layers, depth, progress)
        found = _tested(found, points, spectrum, basis, progress)
    return Forecast(
        n, d, asked.target, spectrum.whole.mass / 2, spectrum.floor, spectrum.mu, spectrum.L,
        (spectrum.low, spectrum.L), singular, spectrum.whole, kernel.plan, fewest, found, points,
        outputs, data.classes, "" if classes else class_note(np.asarray(y)),
    )  # fmt: skip


def _copies(n: int, held: Examples | None) -> int:
    """Sets of vectors that are held: the basis of Lanczos, again as an array, and seen from a test set."""
    return 1 if held is None else 2 + -(-len(held.y) // n)


def _tested(
    found: tuple[MethodForecast, ...], points: HeldOut, spectrum: ForecastSpectrum, seen: SeenBasis | None,
    progress: Progress,
) -> tuple[MethodForecast, ...]:  # fmt: skip
    told = counted("test curves", found, progress)
    curves = [points.curve(m.rule, spectrum.seen, seen, m.curve.k) for m in told]
    return tuple(replace(m, test=curve) for m, curve in zip(found, curves, strict=True))


def _held_out(held: Examples, x: np.ndarray, y: np.ndarray, data: Dataset) -> HeldOut:
    points = HeldOut.of(held, x, y, data)
    if points.shared:
        warnings.warn(shared_text(points.shared, len(points.y)), UserWarning, stacklevel=3)
    return points


def _asked(
    methods: Any, layers: str, target: Any, max_steps: Any, best_at: Any, schedule: Any, lr: Any,
    decay: dict[str, Any], average: Any,
) -> tuple[dict[str, str | UpdateRule], Asked]:  # fmt: skip
    """The methods by name and what is asked of them, refused before anything is computed."""
    decay = Decay.of(GradientDescent, **decay).keywords
    chosen = chosen_methods(methods, FORECAST_METHODS, decay)
    _require_one_rate(lr, schedule, best_at)
    if not is_number(target) or not 0 < target < 1:
        raise ValueError(f"target must lie in (0, 1), a share of the initial loss, got {target!r}")
    named = any(isinstance(m, str) for m in chosen.values())
    if named:  # refuses what they cannot be
        with_average(GradientDescent(1.0 if lr is None else lr, **decay), average)
    require_constant_kernel([*chosen.values()], decay if named else {}, layers)
    most = require_integer("max_steps", max_steps, 1)
    return chosen, Asked(float(target), most, best_at, schedule, lr, decay, average)


def _require_one_rate(lr: Any, schedule: Any, best_at: Any) -> None:
    """Refuse a schedule without its steps, and two wishes for one learning rate."""
    if schedule is not None or best_at is not None:
        require_integer("best_at", best_at, 1)
    if lr is not None and (schedule is not None or best_at is not None):
        raise ValueError(
            f"lr = {lr!r} is kept as it is, while best_at and schedule ask for the best; give one of both"
        )


def _plan(n: int, d: int, device: str | None, on_plan: Callable | None, **options: Any) -> None:
    """Plan the kernel on the host, or on a torch device, and tell it."""
    if device is None:
        plan = memory_plan(n, d, **options)
    else:
        from odeopt.kernels.device import device_plan  # brings torch

        plan = device_plan(n, d, device=device, **options)
    if on_plan is not None:
        on_plan(plan)


def _prepared(
    x: np.ndarray, y: np.ndarray, classes: bool, strict: bool, depth: int
) -> tuple[Dataset, SingularPart]:
    """The scaled data, and what makes their kernel singular."""
    if strict:
        validate_inputs(x, depth=depth)
    data = prepare(x, y, targets="classes" if classes else "regression", allow_singular=True)
    return data, singular_part(x, depth=depth)
