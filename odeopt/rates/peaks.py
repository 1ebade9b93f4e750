r"""The best peak of a learning rate schedule for one measure and a number of steps.

Where lr scales the gradient alone, the residual polynomial of the last step is a function of the peak times
the eigenvalue, :math:`P_K(\lambda;\eta)=p_K(\eta\lambda)`, so that one set of steps gives the losses
:math:`\frac12\sum_iw_ip_K(\eta\lambda_i)^2` of all peaks.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import scipy

from odeopt.rates.horizon import largest_lr, peak_of
from odeopt.rates.run import Run, places
from odeopt.rules.base import UpdateRule
from odeopt.rules.schedule import Schedule
from odeopt.spectra.measure import SpectralMeasure

__all__ = ["best_run"]

# Peaks that are tried before the best is refined, as parts of the limit.
_TRIED = np.unique(np.concatenate([np.geomspace(1e-6, 1, 60), np.linspace(0, 1, 61)[1:]]))
# Points of a spline through the last polynomial for each of its degree; it only says where to refine.
_SPLINE = 16
# Values of 1 - momentum, and parts of the peak that a schedule ends with, tried before the best is refined.
_FRICTIONS, _ENDS = np.geomspace(1e-3, 1.0, 13), (0.0, 0.1, 0.3, 1.0)
# In the logarithm of the peak, of which the loss is a square; losses for each parameter beside it in one
# search, and searches, each from where the last one ended.
_REFINED, _EVALUATIONS, _ROUNDS = 1e-5, 40, 4


def best_run(
    make: Callable[[Schedule, float], UpdateRule],
    schedule: Schedule,
    measure: SpectralMeasure,
    steps: int,
    growth: float,
    momentum: bool,
    end: bool,
) -> UpdateRule:
    """The rule `make(schedule, momentum)` of least loss after its steps: best in peak and what is asked."""

    def rule_at(z: np.ndarray) -> UpdateRule:
        friction = math.exp(min(float(z[0]), 0.0)) if momentum else 1.0
        return make(_with_end(schedule, min(max(float(z[-1]), 0.0), 1.0)) if end else schedule, 1 - friction)

    def loss(z: np.ndarray, *, refined: bool = True) -> float:
        run = Run(rule_at(z), steps)
        limit = run.seen_above(growth)
        if limit is None:
            return 700.0
        found = _best_peak(measure, run, limit / measure.lam_max, refined=refined)[0]
        return math.log(max(found, 1e-300))

    parts = [*([np.log(_FRICTIONS)] if momentum else []), *([_ENDS] if end else [])]
    best = min(map(np.array, itertools.product(*parts)), key=lambda z: loss(z, refined=False))
    least, width = loss(best), 1.0
    for _ in range(_ROUNDS if best.size else 0):
        sizes = [0.3 * width] * momentum + [0.1 * width * (1 if best[-1] < 0.5 else -1)] * end
        options = {
            "initial_simplex": np.vstack([best, best + np.diag(sizes)]),
            "xatol": 1e-4,
            "fatol": 1e-8,
            "maxfev": _EVALUATIONS * best.size,
        }
        found = scipy.optimize.minimize(loss, best, method="Nelder-Mead", options=options)
        before, least, width = least, min(least, float(found.fun)), -width / 3
        best = found.x if found.fun < before else best
        if before - least <= 1e-7:
            break
    rule = rule_at(best)
    limit = largest_lr(rule, measure.lam_max, steps, growth) / peak_of(rule)
    _, factor = _best_peak(measure, Run(rule, steps), limit, refined=True)
    return rule.replace(lr=factor * rule.lr)


def _with_end(schedule: Schedule, part: float) -> Schedule:
    """The schedule with the part of its peak at which it ends."""
    name = next(f.name for f in dataclasses.fields(schedule) if f.name in ("peak", "start"))
    return dataclasses.replace(schedule, end=part * getattr(schedule, name))


def _best_peak(measure: SpectralMeasure, run: Run, limit: float, *, refined: bool) -> tuple[float, float]:
    """Least loss after the run with a multiple of lr up to `limit`, and that multiple."""

    def losses(factors: np.ndarray, squares: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        places = np.multiply.outer(factors, measure.nodes)
        return 0.5 * squares(places.ravel()).reshape(places.shape) @ measure.weights

    def exact(lam: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            return run.sizes(lam, 0.0, last=True)[0] ** 2

    end, theta = limit * measure.lam_max, run.mesh(_SPLINE)
    spline = scipy.interpolate.CubicSpline(theta, exact(places(theta, 0.0, end)))
    tried = limit * _TRIED
    seen = losses(tried, lambda lam: np.maximum(spline(2 * np.arcsin(np.sqrt(np.minimum(lam / end, 1)))), 0))
    i = int(np.argmin(seen))
    if not refined:
        return float(seen[i]), float(tried[i])
    found = scipy.optimize.minimize_scalar(
        lambda z: float(losses(np.exp([z]), exact)[0]),
        bounds=(math.log(tried[max(i - 1, 0)]), math.log(tried[min(i + 1, tried.size - 1)])),
        method="bounded",
        options={"xatol": _REFINED},
    )
    edge = float(losses(np.array([limit]), exact)[0])
    return min((float(found.fun), math.exp(float(found.x))), (edge, limit))
