r"""The main job: predict, integrate, iterate and train, and explain the distance between the curves.

For each method the loss of trained networks is compared with three predictions. The distance from
the network to the infinite-width ODE is split into named parts, exactly additive at every step:

.. math::
    L^{\rm net}-L^{\rm ODE}_{H_\infty}
    =\underbrace{(L^{\rm net}-L^{\rm disc}_{H(0)})}_{\text{drift and flips}}
    +\underbrace{(L^{\rm disc}_{H(0)}-L^{\rm ODE}_{H(0)})}_{\text{step size}}
    +\underbrace{(L^{\rm ODE}_{H(0)}-L^{\rm ODE}_{H_\infty})}_{\text{finite width}} .

The step-size part is split once more, at the high-resolution ODE with H(0), where the rule has one. The same
budget for any network and run, in error vectors too, is :func:`odeopt.nets.error_budget`.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from odeopt.data import prepare
from odeopt.dynamics.error import error_dynamics
from odeopt.dynamics.integrate import integrate
from odeopt.dynamics.modes import mode_solution
from odeopt.kernels.relu import relu_gram
from odeopt.limits.ode import ode_limit
from odeopt.rates.fit import fit_rate
from odeopt.rates.iteration import discrete_rate, max_learning_rate
from odeopt.rates.rate import Rate, exact_rate
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov
from odeopt.spectra.curve import loss_curve
from odeopt.spectra.measure import spectral_measure
from odeopt.studies.check_report import BUDGET_PARTS, STEP_PARTS, CheckReport, CheckSettings, MethodReport

__all__ = ["CheckReport", "CheckSettings", "check", "method_names"]

# Tolerances of the integration: far below every part of the budget.
_RTOL, _ATOL = 1e-10, 1e-13
# Steps recorded: enough to place the peaks of the oscillations of the slow modes.
_RECORDED = 500
_INTEGRATED = 100


def _heavy_ball(lr: float, s: CheckSettings, lam_min: float) -> HeavyBall:
    friction = 2 * math.sqrt(lam_min) if s.friction is None else s.friction
    return HeavyBall.with_friction(lr, friction)


_METHODS: dict[str, Callable[[float, CheckSettings, float], UpdateRule]] = {
    "gd": lambda lr, s, lam_min: GradientDescent(lr),
    "hb": _heavy_ball,
    "nag": lambda lr, s, lam_min: Nesterov(lr, s.r),
    "hm": lambda lr, s, lam_min: HigherMomentum(lr, s.momenta),
}


def method_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names if each is a known method, or raise ValueError with the nearest one.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> method_names(["gd", "nga"])
    Traceback (most recent call last):
        ...
    ValueError: unknown method 'nga'; did you mean 'nag'? Known are gd, hb, nag, hm
    """
    if not names:
        raise ValueError(f"methods must not be empty; choose among {', '.join(_METHODS)}")
    for name in names:
        if name not in _METHODS:
            near = difflib.get_close_matches(str(name), _METHODS, n=1, cutoff=0.3)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"unknown method {name!r}{hint} Known are {', '.join(_METHODS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"methods must differ, got {', '.join(names)}")
    return tuple(names)


def check(
    x: Any,
    y: Any,
    *,
    methods: Sequence[str | UpdateRule] = ("gd", "hb", "nag", "hm"),
    settings: CheckSettings | None = None,
    progress: Callable[[str], object] | None = None,
) -> CheckReport:
    r"""Compare trained two-layer ReLU networks with their predictions, method by method.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Inputs; scaled to unit norm.
    y : array_like, shape (n,)
        Targets; scaled to mean 0 and unit root mean square.
    methods : sequence of str or UpdateRule
        Names ("gd", "hb", "nag", "hm") or rules of your own, with their own learning rates.
    settings : CheckSettings, optional
    progress : callable, optional
        Called after each training step with the name of the method.

    Returns
    -------
    CheckReport
        Disagreement is a result, not an error.

    Raises
    ------
    ValueError
        On unusable data, unknown methods, or a learning rate above a stability limit (unless
        ``settings.allow_unstable``).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.standard_normal((8, 4)), rng.standard_normal(8)
    >>> report = check(x, y, methods=["gd"], settings=CheckSettings(width=256, seeds=1, num_steps=100))
    >>> report["gd"].error_ode
    "Delta' + H*Delta = 0"
    >>> report["gd"].integration_error < 1e-8
    True
    """
    settings = CheckSettings() if settings is None else settings
    data = prepare(x, y)
    limit_kernel = relu_gram(data.x, layers=settings.layers)
    spectrum = np.linalg.eigvalsh(limit_kernel)
    named = method_names([m for m in methods if not isinstance(m, UpdateRule)] or (["gd"] if methods else []))
    start_kernels = [_network_kernel(data, settings, seed) for seed in range(settings.seeds)]
    extremes = [np.linalg.eigvalsh(kernel)[[0, -1]] for kernel in start_kernels]
    lam_max = max(float(spectrum[-1]), *(float(e[-1]) for e in extremes))
    own = [m for m in methods if isinstance(m, UpdateRule)]
    lr = _learning_rate(named if len(own) < len(methods) else (), settings, float(spectrum[0]), lam_max)
    rules = {
        _name(m, methods): m if isinstance(m, UpdateRule) else _METHODS[m](lr, settings, float(spectrum[0]))
        for m in methods
    }
    if len(rules) < len(methods):
        raise ValueError(f"methods must differ, got {', '.join(_name(m, methods) for m in methods)}")
    for rule in rules.values():
        _require_stable(rule, lam_max, settings)
    reports = tuple(
        _check_method(name, rule, data, limit_kernel, settings, progress) for name, rule in rules.items()
    )
    problem = {
        "n": len(data.y),
        "d": data.x.shape[1],
        "lr": lr,
        "lambda_min_h_inf": float(spectrum[0]),
        "lambda_max_h_inf": float(spectrum[-1]),
        "lambda_min_h0": [float(e[0]) for e in extremes],
        "lambda_max_h0": [float(e[-1]) for e in extremes],
    }
    return CheckReport(settings, problem, reports)


def _name(method: str | UpdateRule, methods: Sequence[str | UpdateRule]) -> str:
    """Name in the report: for a rule its class, with its numbers where the class is not unique."""
    if not isinstance(method, UpdateRule):
        return method
    same = [m for m in methods if type(m) is type(method)]
    return type(method).__name__ if len(same) == 1 else method.label


def _network(data, settings: CheckSettings, seed: int):
    from odeopt.nets import TwoLayerReLU

    try:
        return TwoLayerReLU(
            data.x.shape[1],
            settings.width,
            layers=settings.layers,
            seed=seed,
            dtype=settings.dtype,
            device=settings.device,
        )
    except (RuntimeError, AssertionError) as error:  # what torch raises on a device it does not have
        reason = str(error).splitlines()[0]
        raise ValueError(f"device = {settings.device!r} cannot be used ({reason}); try 'cpu'") from error


def _network_kernel(data, settings: CheckSettings, seed: int) -> np.ndarray:
    from odeopt.nets import empirical_gram

    return empirical_gram(_network(data, settings, seed), data.x)


def _learning_rate(names, settings: CheckSettings, lam_min: float, lam_max: float) -> float | None:
    """Return the common learning rate: the one given, or the stated fraction of the smallest limit."""
    if settings.lr is not None or not names:
        return settings.lr
    # Limits do not depend on lr but through heavy ball's momentum, which only raises its limit above 2.
    guess = 0.01 / lam_max
    limits = [max_learning_rate(_METHODS[name](guess, settings, lam_min), lam_max) for name in names]
    return settings.lr_fraction * min(limits)


def _require_stable(rule: UpdateRule, lam_max: float, settings: CheckSettings) -> None:
    limit = max_learning_rate(rule, lam_max)
    if rule.lr > limit and not settings.allow_unstable:
        raise ValueError(
            f"lr = {rule.lr:.6g} exceeds the stability limit {limit:.6g} of {rule.label} "
            f"(largest eigenvalue {lam_max:.6g}); lower lr, or say allow_unstable (--allow-unstable)"
        )


def _check_method(name, rule, data, limit_kernel, settings, progress) -> MethodReport:
    from odeopt.nets import train

    regime = settings.hm_regime if isinstance(rule, HigherMomentum) else "natural"
    limit = ode_limit(rule, regime=regime)
    dynamics = error_dynamics(limit)
    mode = mode_solution(dynamics)
    h = float(limit.time_step)
    origin = float(limit.time_origin)
    k = np.unique(np.linspace(0, settings.num_steps, min(settings.num_steps, _RECORDED) + 1).astype(int))
    seeds = []
    for seed in range(settings.seeds):
        run = train(
            _network(data, settings, seed),
            rule,
            data.x,
            data.y,
            settings.num_steps,
            record_at=k,
            kernel_at=[settings.num_steps],
            allow_unstable=settings.allow_unstable,
            progress=None if progress is None else (lambda *_: progress(name)),
        )
        seeds.append(_Seed(run, rule, limit_kernel, k, regime))
    first = seeds[0]
    times, integrated = _integrated(dynamics, first, (k + origin) * h)
    closed = loss_curve(mode, first.measure, times).loss
    initial = first.curves["trained"][0]
    mu, L = first.measure.lam_min, first.measure.lam_max
    common = [key for key in first.curves if all(key in s.curves for s in seeds)]
    curves = {key: np.array([s.curves[key] for s in seeds]) for key in common}
    return MethodReport(
        name=name,
        rule=rule,
        weight_ode=str(limit),
        error_ode=str(dynamics),
        error_ode_latex=dynamics.latex(),
        time_step=h,
        time_origin=origin,
        exact_ode=exact_rate(dynamics, mu, L),
        exact_discrete=discrete_rate(rule, mu, L, time_step=h),
        fitted_ode=_fit((k + origin) * h, curves["ode_h0"], "linear ODE"),
        fitted_trained=_fit((k + origin) * h, curves["trained"], "finite net"),
        budget_by_seed=_by_seed(seeds, BUDGET_PARTS, "initial"),
        vector_budget_by_seed=_by_seed(seeds, BUDGET_PARTS, "vector"),
        step_by_seed=_by_seed(seeds, STEP_PARTS, "initial"),
        high_resolution=first.high_resolution,
        integration_error=float(np.max(np.abs(integrated - closed)) / initial),
        drift_by_seed=tuple(s.drift for s in seeds),
        diverged_at=min((s.diverged_at for s in seeds if s.diverged_at is not None), default=None),
        curves={"k": k, "t": (k + origin) * h, **curves, "integrated_t": times, "integrated": integrated},
    )


class _Seed:
    """One trained network and its predictions on the grid k; nan after a divergence."""

    def __init__(self, run, rule, limit_kernel: np.ndarray, k: np.ndarray, regime: str):
        from odeopt.nets.budget import budget_of
        from odeopt.spectra.errors import LEVELS, losses, predicted_errors

        self.kernel, self.delta0 = run.initial_kernel, run.errors[0]
        self.measure = spectral_measure(self.kernel, self.delta0)
        self.diverged_at = run.diverged_at
        drift = run.relative_kernel_drift
        self.drift = float(drift[-1]) if drift.size else math.nan
        found = predicted_errors(rule, self.kernel, self.delta0, k, limit_kernel=limit_kernel, regime=regime)
        level = "high_resolution_h0"
        self.high_resolution = found.equations.get(level) or found.notes[level]
        trained = np.full(k.size, math.nan)
        trained[: run.k.size] = run.loss
        self.curves = {"trained": trained, **{key: losses(error) for key, error in found.errors.items()}}
        budget = budget_of(run, found)
        self.parts = {
            f"{LEVELS[upper]} - {LEVELS[lower]}": budget.compare(upper, lower)
            for upper, lower in itertools.combinations(budget.errors, 2)
        }


def _by_seed(seeds: list[_Seed], parts: Iterable[str], measure: str) -> dict[str, tuple[float, ...]]:
    """Largest distance of each part over the steps; parts without a prediction are left out."""
    return {
        part: tuple(s.parts[part][measure] for s in seeds)
        for part in parts
        if all(part in s.parts for s in seeds)
    }


def _integrated(dynamics, seed: _Seed, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integrate the first seed's dynamics by solve_ivp at a part of the recorded times."""
    t = times[:: max(1, times.size // _INTEGRATED)]
    scale = float(np.linalg.norm(seed.delta0))
    run = integrate(dynamics, seed.kernel, seed.delta0, t, rtol=_RTOL, atol=_ATOL * scale)
    return t, run.loss


def _fit(t: np.ndarray, losses: np.ndarray, layer: str) -> Rate | None:
    """Fit the seed average; None where divergence or shortness leaves nothing to fit."""
    mean = losses.mean(axis=0)
    if not np.all(np.isfinite(mean)):
        return None
    try:
        return fit_rate(SimpleNamespace(t=t, loss=mean, layer=layer))
    except ValueError:
        return None
