r"""Predict before training: learning-rate limits, tuned methods, and the steps to a target, with bounds.

The network is the infinitely wide one of :func:`odeopt.relu_gram`, started at zero output (as with two
copies of opposite sign), so that :math:`\Delta_0=-y`. One Lanczos run serves all methods.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from odeopt.data import prepare
from odeopt.kernels.memory import MemoryPlan, memory_plan
from odeopt.kernels.operator import relu_gram_operator
from odeopt.rates.iteration import max_learning_rate
from odeopt.rates.tuning import StepsTo, steps_to, tune, tune_for
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov, NesterovConstant
from odeopt.rules.momentum import TripleMomentum
from odeopt.spectra.curve import LossCurve, loss_curve
from odeopt.spectra.measure import SpectralMeasure, spectral_measure

__all__ = ["FORECAST_METHODS", "Forecast", "MethodForecast", "forecast"]

# Each from the interval [mu, L] to a rule. Nesterov's r/t friction needs no mu: its lr is the classical 1/L.
FORECAST_METHODS: dict[str, tuple[type, Callable[[float, float], UpdateRule]]] = {
    "gd": (GradientDescent, lambda mu, L: tune(GradientDescent, mu, L)),
    "hb": (HeavyBall, lambda mu, L: tune(HeavyBall, mu, L)),
    "nag": (Nesterov, lambda mu, L: Nesterov(1 / L, 3)),
    "nagc": (NesterovConstant, lambda mu, L: tune(NesterovConstant, mu, L)),
    "tm": (TripleMomentum, lambda mu, L: tune(TripleMomentum, mu, L)),
}
# Points of the curves that are kept and drawn.
_POINTS = 300
# Where tuning begins when the smallest Ritz value is zero but for rounding.
_LEAST = 1e-12


@dataclass(frozen=True)
class MethodForecast:
    """What is predicted for one method.

    Attributes
    ----------
    name : str
    rule : UpdateRule
        With its tuned hyperparameters.
    lr_limit : float
        Stability limit of its learning rate, the momentum kept.
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

    def summary(self) -> dict[str, Any]:
        """Return what a table or a JSON file holds."""
        return {
            "name": self.name,
            "rule": self.rule.label,
            "hyperparameters": {name: float(value) for name, value in self.rule.hyperparameters.items()},
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
    mu, L : float
        The interval for which methods are tuned: the smallest curvature that the error was seen to have, and
        a bound on the largest.
    measure : SpectralMeasure
    plan : MemoryPlan
    methods : tuple of MethodForecast
    """

    n: int
    d: int
    target: float
    initial_loss: float
    mu: float
    L: float
    measure: SpectralMeasure = field(repr=False)
    plan: MemoryPlan = field(repr=False)
    methods: tuple[MethodForecast, ...]

    def summary(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        return {
            "n": self.n,
            "d": self.d,
            "target": self.target,
            "initial_loss": self.initial_loss,
            "mu": self.mu,
            "L": self.L,
            "num_matvecs": self.measure.num_matvecs,
            "exact": self.measure.exact,
            "memory_bytes": self.plan.total,
            "methods": [method.summary() for method in self.methods],
        }

    def save(self, folder: str | os.PathLike) -> None:
        """Write forecast.json, forecast.npz with the curves, and forecast.png.

        Parameters
        ----------
        folder : path-like
            An existing folder.
        """
        from odeopt import plot

        folder = Path(folder)
        (folder / "forecast.json").write_text(json.dumps(self.summary(), indent=2) + "\n")
        arrays = {
            f"{method.name}_{key}": getattr(method.curve, key)
            for method in self.methods
            for key in ("k", "loss", "lower", "upper", "proved")
        }
        np.savez(folder / "forecast.npz", **arrays)
        plot.forecast(self).figure.savefig(folder / "forecast.png", dpi=150)


def forecast(
    x: Any,
    y: Any,
    *,
    methods: Sequence[str] = ("gd", "hb", "nag"),
    target: float = 1e-3,
    num_matvecs: int = 300,
    layers: str = "first",
    depth: int = 1,
    storage: str = "auto",
    device: str | None = None,
    best_at: int | None = None,
    max_steps: int = 100_000,
    state: str | os.PathLike | None = None,
    progress: Callable[[str, int], object] | None = None,
    on_plan: Callable[[MemoryPlan], object] | None = None,
) -> Forecast:
    r"""Predict how fast each method trains an infinitely wide ReLU network on given data.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Inputs; scaled to unit norm.
    y : array_like, shape (n,)
        Targets; scaled to mean 0 and unit root mean square.
    methods : sequence of str
        Among "gd", "hb" (Polyak), "nag" (friction 3/t, lr = 1/L), "nagc" (constant momentum), "tm".
    target : float
        Share of the initial loss, below 1.
    num_matvecs : int
        Lanczos steps, at most n are taken.
    layers, depth, storage
        As in :func:`odeopt.relu_gram_operator`.
    device : str, optional
        torch device that holds the kernel, as in :func:`odeopt.relu_gram_operator`; without it numpy
        computes it on the host.
    best_at : int, optional
        Tune for the loss after so many steps (:func:`odeopt.tune_for`), not for the asymptotic rate.
    max_steps : int
        Where the search for the target ends.
    state : path-like, optional
        File from which an interrupted Lanczos run is continued.
    progress : callable, optional
        Called with "kernel" or "lanczos" and the rows or steps done.
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
    names = _known(methods)
    if not isinstance(target, (int, float)) or not 0 < target < 1:
        raise ValueError(f"target must lie in (0, 1), a share of the initial loss, got {target!r}")
    x = np.asarray(x)
    n, d = x.shape if x.ndim == 2 else (len(x), 1)
    # Refused before anything is computed, and so before `prepare`, which looks at all pairs of rows.
    plan = _planned(n, d, device, storage=storage, num_vectors=num_matvecs)
    if on_plan is not None:
        on_plan(plan)
    data = prepare(x, y)
    kernel = relu_gram_operator(
        data.x,
        device=device,
        layers=layers,
        depth=depth,
        storage=plan.storage,
        num_vectors=num_matvecs,
        progress=None if progress is None else lambda done: progress("kernel", done),
    )
    measure = spectral_measure(
        kernel,
        -data.y,
        num_matvecs=min(num_matvecs, n),
        state=state,
        progress=None if progress is None else lambda stage, done, total: progress(stage, done),
    )
    L = measure.interval[1]
    mu = max(measure.lam_min, _LEAST * L)
    initial = measure.mass / 2
    found = tuple(_method(name, measure, mu, L, target * initial, best_at, max_steps) for name in names)
    return Forecast(n, d, float(target), initial, mu, L, measure, kernel.plan, found)


def _planned(n: int, d: int, device: str | None, **options) -> MemoryPlan:
    if device is None:
        return memory_plan(n, d, **options)
    from odeopt.kernels.device import device_plan  # brings torch

    return device_plan(n, d, device=device, **options)


def _known(methods: Sequence[str]) -> tuple[str, ...]:
    known = ", ".join(FORECAST_METHODS)
    if not methods:
        raise ValueError(f"methods must not be empty; choose among {known}")
    for name in methods:
        if name not in FORECAST_METHODS:
            raise ValueError(f"unknown method {name!r}; known are {known}")
    if len(set(methods)) < len(methods):
        raise ValueError(f"methods must differ, got {', '.join(methods)}")
    return tuple(methods)


def _method(name, measure, mu, L, loss, best_at, max_steps) -> MethodForecast:
    rule_type, build = FORECAST_METHODS[name]
    rule = build(mu, L) if best_at is None else tune_for(rule_type, measure, best_at)
    steps = steps_to(rule, measure, loss, max_steps=max_steps)
    # The curve ends a little beyond the last bound, so that a plot shows where it meets the target.
    last = max(v for v in (steps.high, steps.value, 10) if v is not None)
    last = min(max_steps, int(1.2 * last) + 1) if steps.value is not None else max_steps
    k = np.unique(np.linspace(0, last, min(last, _POINTS) + 1).astype(int))
    limit = max_learning_rate(rule, L)
    return MethodForecast(name, rule, float(limit), steps, loss_curve(rule, measure, k))
