r"""Predict before training: learning-rate limits, tuned methods, and the steps to a target, with bounds.

The network is the infinitely wide one of :func:`odeopt.relu_gram`, started at zero output (as with two
copies of opposite sign), so that :math:`\Delta_0=-y`; being homogeneous in its weights it has :math:`Jw_0=0`
then, which weight decay asks for. One Lanczos run serves all methods.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import is_number, real_array, require_integer
from odeopt.data import prepare
from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.inputs import SingularPart, singular_part, validate_inputs
from odeopt.kernels.memory import MemoryPlan, Storage, memory_plan
from odeopt.kernels.operator import relu_gram_operator
from odeopt.rates.iteration import max_learning_rate
from odeopt.rates.steps import StepsTo, steps_to
from odeopt.rates.tuning import tune, tune_for
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import Nesterov
from odeopt.rules.names import METHODS, method_names, numbers_of
from odeopt.rules.schedule import Schedule
from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.joint import JointMeasure, Together
from odeopt.spectra.lanczos import Chain
from odeopt.spectra.largest import largest_eigenvalue_bound
from odeopt.spectra.measure import SpectralMeasure, spectral_measure
from odeopt.spectra.quadrature import ritz
from odeopt.studies.files import OutputFolder, save_forecast

__all__ = ["FORECAST_METHODS", "Forecast", "MethodForecast", "forecast"]

FORECAST_METHODS = ("gd", "hb", "nag", "nagc", "tm")
# Points of the curves that are kept and drawn.
_POINTS = 300
# Where tuning begins when the smallest Ritz value is zero but for rounding.
_LEAST = 1e-12
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class MethodForecast:
    """What is predicted for one method.

    Attributes
    ----------
    name : str
    rule : UpdateRule
        With its tuned hyperparameters.
    lr_limit : float
        Stability limit of its learning rate for `Forecast.L`, the momentum kept.
    steps : StepsTo
        To the target.
    curve : LossCurve
        The loss along the iterations, a little beyond the target.
    """

    name: str
    rule: UpdateRule
    lr_limit: float
    steps: StepsTo
    curve: LossCurve = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds."""
        return {
            "name": self.name,
            "rule": self.rule.label,
            "hyperparameters": numbers_of(self.rule),
            "lr_limit": self.lr_limit,
            "steps": self.steps.value,
            "steps_low": self.steps.low,
            "steps_high": self.steps.high,
            "rigorous": self.steps.rigorous,
        }


@dataclass(frozen=True)
class Forecast:
    """The predictions for a data set.

    Attributes
    ----------
    n, d : int
        Examples and their dimension.
    target : float
        Share of the initial loss to be reached.
    initial_loss : float
    loss_floor : float
        The part of it that cannot fall, of the error in the null space.
    mu, L : float
        The interval for which methods are tuned: the smallest curvature that the error was seen to have off
        the null space, and the upper end of `largest`.
    largest : tuple of float
        Enclosure of the largest eigenvalue, of the width of rounding once Lanczos has found it.
    singular : SingularPart
        What in the data makes the kernel singular.
    measure : SpectralMeasure
    plan : MemoryPlan
    methods : tuple of MethodForecast
    """

    n: int
    d: int
    target: float
    initial_loss: float
    loss_floor: float
    mu: float
    L: float
    largest: tuple[float, float]
    singular: SingularPart = field(repr=False)
    measure: SpectralMeasure = field(repr=False)
    plan: MemoryPlan = field(repr=False)
    methods: tuple[MethodForecast, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        return {
            "n": self.n,
            "d": self.d,
            "target": self.target,
            "initial_loss": self.initial_loss,
            "loss_floor": self.loss_floor,
            "null_dimension": self.singular.dimension,
            "singular_part": str(self.singular),
            "mu": self.mu,
            "L": self.L,
            "largest_eigenvalue": list(self.largest),
            "num_matvecs": self.measure.num_matvecs,
            "exact": self.measure.exact,
            "memory_bytes": self.plan.total,
            "methods": [method.to_dict() for method in self.methods],
        }

    def save(self, folder: str | os.PathLike[str] | OutputFolder) -> Path:
        """Write forecast.json, forecast.npz with the curves, and forecast.png, all or none of them.

        Parameters
        ----------
        folder : path-like
            Created if it does not exist.

        Returns
        -------
        pathlib.Path

        Raises
        ------
        ValueError
            If the folder cannot be written, or another run holds it; what was there before then stays whole.
        """
        return save_forecast(self, folder)


def forecast(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    methods: Sequence[str] = ("gd", "hb", "nag"),
    target: float = 1e-3,
    num_matvecs: int = 300,
    layers: Literal["first", "both"] = "first",
    depth: int = 1,
    storage: Storage = "auto",
    device: str | None = None,
    best_at: int | None = None,
    schedule: Schedule | None = None,
    max_steps: int = 100_000,
    strict: bool = False,
    state: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
    on_plan: Callable[[MemoryPlan], object] | None = None,
) -> Forecast:
    r"""Predict how fast each method trains an infinitely wide ReLU network on given data.

    Parameters
    ----------
    x, y : array_like, shapes (n, d) and (n,)
        Inputs, scaled to unit norm, and targets, scaled to mean 0 and unit root mean square. Blank and
        parallel rows make the kernel singular; the loss that cannot fall is then told, the rest predicted.
    methods : sequence of str
        Among "gd", "hb" (Polyak), "nag" (friction 3/t, lr = 1/L), "nagc" (constant momentum), "tm".
    target : float
        Share of the initial loss, below 1.
    num_matvecs : int
        Lanczos steps, at most n are taken.
    layers, depth, storage, device
        As in :func:`odeopt.relu_gram_operator`.
    best_at : int, optional
        Tune for the loss after so many steps (:func:`odeopt.rates.tune_for`), not for the asymptotic rate.
    schedule : Schedule, optional
        Of the learning rate, whose best peak for `best_at` steps is found, its shape kept; the run ends
        there. Without noise a decay does not help.
    max_steps : int
        Where the search for the target ends.
    strict : bool, optional
        Refuse rows that make the kernel singular.
    state : path-like, optional
        File from which an interrupted Lanczos run is continued.
    progress : callable, optional
        Called as ``progress(stage, done, total)``: "kernel" with its rows, "lanczos" with its steps.
    on_plan : callable, optional
        Called with the memory plan before any work.

    Returns
    -------
    Forecast

    Raises
    ------
    ValueError
        On unusable data, options or device, or if the kernel does not fit into memory.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = forecast(rng.standard_normal((30, 5)), rng.standard_normal(30), methods=["gd", "hb"])
    >>> [method.steps.value > 0 for method in found.methods]
    [True, True]
    """
    names = method_names(methods, FORECAST_METHODS)
    if not is_number(target) or not 0 < target < 1:
        raise ValueError(f"target must lie in (0, 1), a share of the initial loss, got {target!r}")
    n, d = (x := real_array(x, "x", ndim=2)).shape
    num_matvecs = min(require_integer("num_matvecs", num_matvecs, 1), n)
    # Refused before anything is computed, and so before all pairs of rows are looked at.
    plan = _planned(n, d, device, storage=storage, num_vectors=num_matvecs)
    if on_plan is not None:
        on_plan(plan)
    max_steps = max_steps if schedule is None else min(max_steps, require_integer("best_at", best_at, 1))
    if strict:
        validate_inputs(x, depth=depth)
    data, singular = prepare(x, y, allow_singular=True), singular_part(x, depth=depth)
    network: dict[str, Any] = {"layers": layers, "depth": depth, "device": device, "storage": storage}
    options: dict[str, Any] = {**network, "num_vectors": num_matvecs, "progress": progress}
    kernel = relu_gram_operator(singular.reduced_rows(data.x), allow_singular=True, **options)
    task = _Task.of(kernel, singular, -data.y, num_matvecs, state, progress)
    return Forecast(
        n=n,
        d=d,
        target=float(target),
        initial_loss=task.whole.mass / 2,
        loss_floor=task.floor,
        mu=task.mu,
        L=task.L,
        largest=(task.low, task.L),
        singular=singular,
        measure=task.whole,
        plan=kernel.plan,
        methods=tuple(task.method(name, target, best_at, max_steps, schedule) for name in names),
    )


def _planned(n: int, d: int, device: str | None, **options: Any) -> MemoryPlan:
    """Plan the kernel on the host, or on a torch device."""
    if device is None:
        return memory_plan(n, d, **options)
    from odeopt.kernels.device import device_plan  # brings torch

    return device_plan(n, d, device=device, **options)


@dataclass(frozen=True)
class _Task:
    """What all methods share: the error off the null space, if any is there, all of it, and its spectrum."""

    seen: SpectralMeasure | None
    whole: SpectralMeasure
    floor: float
    mu: float
    low: float
    L: float

    @classmethod
    def of(
        cls,
        kernel: ReluGramOperator,
        singular: SingularPart,
        delta0: np.ndarray,
        num_matvecs: int,
        state: str | os.PathLike[str] | None,
        progress: Callable[[str, int, int], object] | None,
    ) -> _Task:
        floor, error, slack = singular.plateau(delta0), singular.reduced(delta0), kernel.storage_error
        # The largest of all eigenvalues is at least their root mean square, and at most that of all squares.
        low, L = kernel.frobenius / kernel.shape[0] ** 0.5, min(kernel.interval[1], kernel.frobenius + slack)
        if np.linalg.norm(error) <= 8 * singular.n * _EPS * np.linalg.norm(delta0):
            return cls(None, _with_floor(None, floor, L), floor, L, min(low, L), L)
        steps = min(num_matvecs, singular.rank)
        origin = np.zeros_like(error)
        options = {"num_matvecs": steps, "state": state, "progress": progress, "keep_basis": False}
        seen = spectral_measure(kernel, error, origin=origin, **options)
        bound = largest_eigenvalue_bound(seen.chains[0], kernel.frobenius + slack, kernel.shape[0]) + slack
        L = float(max(min(L, bound), seen.lam_max))
        seen = dataclasses.replace(seen, interval=(0.0, L))
        # Of antipodal pairs rounding puts something into the null space.
        least = _EPS * seen.mass if singular.antipodal else 0.0
        mu = max(float(seen.nodes[seen.weights >= least][0]), _LEAST * L)
        return cls(seen, _with_floor(seen, floor, L), floor, mu, min(max(low, seen.lam_max), L), L)

    def method(
        self, name: str, target: float, best_at: int | None, max_steps: int, schedule: Schedule | None
    ) -> MethodForecast:
        """Tune a method, and find its steps to the target and its curve."""
        kind, steps_of_run = METHODS[name], None if schedule is None else best_at
        limit = lambda rule: float(max_learning_rate(rule, self.L, num_steps=steps_of_run))  # noqa: E731
        if best_at is not None and self.seen is not None:
            rule = tune_for(kind, self.seen, best_at, schedule=schedule)
            if schedule is None:
                rule = rule.replace(lr=min(rule.lr, limit(rule)))
        else:  # Nesterov's r/t friction needs no mu: its lr is the classical 1/L
            rule = Nesterov(1 / self.L, 3) if kind is Nesterov else tune(kind, self.mu, self.L)
        loss = target * self.whole.mass / 2
        if loss > self.floor:
            steps = shown = steps_to(rule, self.whole, loss, max_steps=max_steps)
        else:  # never reached: shown is how what can fall does so
            steps = shown = StepsTo(None, None, None, True, loss)
            if self.seen is not None:
                shown = steps_to(rule, self.seen, target * self.seen.mass / 2, max_steps=max_steps)
        # The curve ends a little beyond the last bound, so that a plot shows where it meets the target.
        last = max(v for v in (shown.high, shown.value, 10) if v is not None)
        given_up = shown.value is None and self.seen is not None
        last = max_steps if given_up else min(max_steps, int(1.2 * last) + 1)
        k = np.unique(np.linspace(0, last, min(last, _POINTS) + 1).astype(int))
        return MethodForecast(name, rule, limit(rule), steps, loss_curve(rule, self.whole, k))


def _with_floor(seen: SpectralMeasure | None, floor: float, L: float) -> SpectralMeasure:
    """Add the error in the null space: it is a Lanczos chain of one step, whose eigenvalue is 0."""
    rest, size = Chain(np.zeros(1), np.zeros(1), 2 * floor, 0.0), np.full((1, 1), (2 * floor) ** 0.5)
    pair = ritz(rest, 0.0, 0.0)
    part = Together(pair, pair, size, size)  # J w_0 = 0
    if seen is None:
        joint = JointMeasure((part,))
        return SpectralMeasure(np.zeros(1), np.array([2 * floor]), True, (rest,), (0.0, L), joint=joint)
    if not floor or seen.joint is None:
        return seen
    joint = JointMeasure((*seen.joint.parts, part))
    nodes, weights = np.append(0.0, seen.nodes), np.append(2 * floor, seen.weights)
    chains = (*seen.chains, rest)
    return dataclasses.replace(seen, nodes=nodes, weights=weights, chains=chains, joint=joint)
