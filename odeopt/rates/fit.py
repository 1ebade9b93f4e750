r"""Measured rates: a law fitted to the upper envelope of a loss curve, with a confidence interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.stats

from odeopt.rates.rate import Rate

__all__ = ["fit_rate", "upper_envelope"]

Unit = Literal["time", "iteration"]

# The loss of a float64 computation cannot be trusted below this fraction of its start: errors carry
# roundings of 1e-16 relative to their initial size, and the loss is their square.
_FLOOR = 1e-28
_MIN_POINTS = 8
# With fewer dominant peaks than this a line through them means little; all touching points are kept.
_MIN_PEAKS = _MIN_POINTS
_BLOCKS = 8


def upper_envelope(x: npt.ArrayLike, loss: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Points at which a curve touches its smallest nonincreasing majorant.

    Examples
    --------
    >>> upper_envelope([0, 1, 2, 3], [8.0, 4.0, 2.0, 1.0])
    (array([0., 1., 2., 3.]), array([8., 4., 2., 1.]))
    >>> x = np.linspace(0, 26, 521)
    >>> peaks, height = upper_envelope(x, np.sin(x) ** 2)
    >>> (peaks / np.pi).round(2)
    array([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5])
    """
    x, loss = np.asarray(x, dtype=float), np.asarray(loss, dtype=float)
    touching = _suffix_maxima(loss)
    inner = np.zeros_like(touching)
    inner[1:-1] = (loss[1:-1] >= loss[:-2]) & (loss[1:-1] > loss[2:])
    peaks = np.flatnonzero(inner)
    if peaks.size:
        place, height = _refined_peaks(x, loss, peaks)
        dominant = _suffix_maxima(height)
        if _reach_the_end(place[dominant], x[-1]):
            return place[dominant], height[dominant]
    # A monotone curve, or one that wiggles without peaks enough for a line, is its own envelope.
    return x[touching], loss[touching]


def _reach_the_end(peaks: np.ndarray, end: float) -> bool:
    """Whether there are peaks enough, and up to the end: an oscillation may die out before the decay."""
    return peaks.size >= _MIN_PEAKS and end - peaks[-1] <= 3 * np.max(np.diff(peaks[-_MIN_PEAKS:]))


def _suffix_maxima(values: np.ndarray) -> np.ndarray:
    """Where no later value is larger, up to the error 1e-3 of a refined peak."""
    later = np.maximum.accumulate(values[::-1])[::-1]
    return values >= later * (1 - 1e-3)


def _refined_peaks(x: np.ndarray, loss: np.ndarray, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the parabolas through log loss at each peak and its neighbours."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.log(loss)
        left, right = x[peaks - 1] - x[peaks], x[peaks + 1] - x[peaks]
        down, up = (y[peaks - 1] - y[peaks]) / left, (y[peaks + 1] - y[peaks]) / right
        curvature = (up - down) / (right - left)
        slope = down - curvature * left
        shift = -slope / (2 * curvature)
        top = y[peaks] - slope**2 / (4 * curvature)
    sound = np.isfinite(shift) & np.isfinite(top) & (shift >= left) & (shift <= right)
    return x[peaks] + np.where(sound, shift, 0.0), np.exp(np.where(sound, top, y[peaks]))


def fit_rate(curve: Any, *, unit: Unit | None = None, start: float = 0.1, level: float = 0.95) -> Rate:
    r"""Fit :math:`e^{-cx}` and :math:`x^{-p}` to the tail of a loss curve and return the better law.

    Parameters
    ----------
    curve : LossCurve, Trajectory or TrainingRun
        Anything with `loss` and `t` or `k`.
    unit : {"time", "iteration"}, optional
        Which abscissa to use; time where the curve has one.
    start : float
        The tail begins at this fraction of the range of x.
    level : float
        Confidence level.

    Returns
    -------
    Rate
        Of kind "measured".

    Raises
    ------
    ValueError
        If fewer than 8 usable points are left (positive, finite and above rounding).

    Notes
    -----
    Both laws are straight lines, log loss against x or log x, fitted by least squares to the upper
    envelope; the one with the smaller residual is returned. Where a later part of the tail is at least
    four times straighter (mean square residual) and still tells the laws apart (residuals that differ by a
    factor 2), the early part is taken for a transient and left out.
    The interval joins a delete-one-block jackknife over 8 blocks, since residuals of an oscillating
    curve are correlated, with the change of the estimate when the first half of the fitted range is
    left out, which exposes a transient that remains. On a range too short to reach the slowest mode a
    sum of exponentials resembles a power: the law found describes the range fitted, not the limit.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> x = np.linspace(0.1, 10, 500)
    >>> print(fit_rate(SimpleNamespace(t=x, loss=np.exp(-2 * x) * np.cos(9 * x) ** 2)).formula)
    exp(-2 t)
    >>> print(fit_rate(SimpleNamespace(t=x, loss=x**-3.0)).formula)
    t^-3
    """
    x, loss, unit = _tail(curve, unit, start)
    y = np.log(loss)
    fit = _straightest(x, y)
    abscissa = fit.abscissa(x)
    late = _second_half(x[fit.first :]) + fit.first
    drift = abs(fit.slope - _line(abscissa[late], y[late])[0])
    half = max(_jackknife(abscissa[fit.first :], y[fit.first :], level), drift)
    return Rate(
        -fit.slope,
        fit.law,
        "measured",
        getattr(curve, "layer", "unnamed curve"),
        unit,
        -fit.slope - half,
        -fit.slope + half,
        note=f"{x.size - fit.first} envelope points from {x[fit.first]:.4g} to {x[-1]:.4g}; "
        f"the other law leaves {fit.contrast:.3g} times the residual",
    )


@dataclass(frozen=True)
class _Fit:
    """A straight line through the points from index `first` on, and how much worse the other law is."""

    law: Literal["linear", "power"]
    first: int
    slope: float
    spread: float
    contrast: float

    def abscissa(self, x: np.ndarray) -> np.ndarray:
        return x if self.law == "linear" else np.log(x)


def _straightest(x: np.ndarray, y: np.ndarray) -> _Fit:
    best = None
    for share in (0.0, 0.3, 0.6, 0.8):
        first = int(np.searchsorted(x, x[0] + share * (x[-1] - x[0])))
        if best is not None and x.size - first < 3 * _MIN_POINTS:
            break  # a few peaks may lie on a line by chance
        linear, power = _line(x[first:], y[first:]), _line(np.log(x)[first:], y[first:])
        law: Literal["linear", "power"] = "linear" if linear[1] <= power[1] else "power"
        (slope, rest), (_, other) = (linear, power) if law == "linear" else (power, linear)
        spread = rest / (x.size - first)
        found = _Fit(law, first, slope, spread, other / rest if rest > 0 else np.inf)
        # a later part must be straighter by far, and still tell the laws apart
        if best is None or (spread < best.spread / 4 and found.contrast > 2):
            best = found
    return best


def _tail(curve: Any, unit: Unit | None, start: float) -> tuple[np.ndarray, np.ndarray, Unit]:
    if unit not in (None, "time", "iteration"):
        raise ValueError(f'unit must be "time" or "iteration", got {unit!r}')
    if unit is None:
        unit = "iteration" if getattr(curve, "t", None) is None else "time"
    x = getattr(curve, "t" if unit == "time" else "k", None)
    if x is None:
        raise ValueError(f"the curve has no {unit}; choose the other unit")
    x, loss = np.asarray(x, dtype=float), np.asarray(curve.loss, dtype=float)
    finite = np.isfinite(loss)
    ceiling = loss[finite].max(initial=0.0)
    usable = finite & (loss > _FLOOR * ceiling) & (x > 0)
    if np.count_nonzero(usable):
        end = x[usable].max()
        usable &= x >= start * end
    x, loss = upper_envelope(x[usable], loss[usable])
    if x.size < _MIN_POINTS:
        raise ValueError(
            f"the curve has {x.size} usable envelope points beyond {start:g} of its range, "
            f"{_MIN_POINTS} are needed; record more points or run longer"
        )
    return x, loss, unit


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and residual sum of squares of a straight line."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return slope, float(np.sum((y - y.mean() - slope * centred) ** 2))


def _second_half(x: np.ndarray) -> np.ndarray:
    """Indices of the later half of the range, at least three."""
    late = x >= (x[0] + x[-1]) / 2
    late[-3:] = True
    return np.flatnonzero(late)


def _jackknife(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Half width of the confidence interval of the slope, by deleting one block at a time."""
    blocks = np.array_split(np.arange(x.size), min(_BLOCKS, x.size // 2))
    slopes = np.array([_line(np.delete(x, block), np.delete(y, block))[0] for block in blocks])
    count = len(blocks)
    error = np.sqrt((count - 1) / count * np.sum((slopes - slopes.mean()) ** 2))
    return float(scipy.stats.t.ppf((1 + level) / 2, count - 1) * error)
