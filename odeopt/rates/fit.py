r"""Measured rates: a law fitted to a loss curve above its floor, with an interval, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy

from odeopt.checks import is_number
from odeopt.rates.floor import above_floor
from odeopt.rates.majorant import upper_envelope
from odeopt.rates.rate import Rate

__all__ = ["fit_rate"]

_MIN_POINTS = 8
_BLOCKS = 8
# Shares of the range that may be left out as a transient.
_SHARES = (0.0, 0.3, 0.6, 0.8)
# Exponents b of log loss = a - s (x^b - 1)/b that are tried, and how near to 1 (a linear rate) or to 0 (a
# power) the best must lie. Between them lies what is neither, as stretched exponentials are.
_EXPONENTS, _NEAR = (-1.0, 2.5), 0.15
# A bias that halves when the early half of a range is left out is twice the change by that; thrice is safe.
_DRIFTS = 3.0
# Half widths are estimates themselves, from few blocks.
_SAFETY = 1.5
# A wider interval, relative to the value, is no rate.
_WIDEST = 0.5


def fit_rate(
    curve: Any, *, unit: Literal["time", "iteration"] | None = None, start: float = 0.1, level: float = 0.95
) -> Rate:
    r"""Fit :math:`e^{-cx}` and :math:`x^{-p}` to the tail of a loss curve and return the law that holds.

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
        If fewer than 8 usable points are left (positive, finite, above rounding and above the floor), if
        neither law holds or the range does not tell them apart, or if the rate is not known to a half.

    Notes
    -----
    A plateau at the end, and values that repeat as those of single precision do near the end of a run, are
    left out with all that lies less than a factor 100 above the plateau (at least 5, on a short range), and
    the plateau is subtracted from the rest. What oscillates is represented by its upper envelope, what is
    noisy by all points. Of :math:`\log L=a-s(x^b-1)/b` the best exponent b decides: near 1 the law is linear,
    near 0 a power, and anything else is refused, once later parts of the tail have been tried.

    The interval joins a delete-one-block jackknife over 8 blocks, as residuals of an oscillating curve are
    correlated, with three times the change of the estimate when the first half of the range is left out, as
    far as noise does not explain it: a transient, a multiple root or a shifted power is a bias that falls by
    half at least. On a range too short to reach the slowest mode the law found describes the range fitted.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> x = np.linspace(0.1, 10, 500)
    >>> print(fit_rate(SimpleNamespace(t=x, loss=np.exp(-2 * x) * np.cos(9 * x) ** 2)).formula)
    exp(-2 t)
    >>> print(fit_rate(SimpleNamespace(t=x, loss=x**-3.0)).formula)
    t^-3
    """
    for name, value in (("start", start), ("level", level)):
        if not is_number(value) or not 0 <= value < 1:
            raise ValueError(f"{name} must be a number in [0, 1), got {value!r}")
    x, loss, unit = _usable(curve, unit)
    _require_fall(loss)
    upto, floor = above_floor(x, loss)
    tail = _tail(x[:upto], loss[:upto], start)
    _require_points(tail.x.size, start, floor)
    fit = _fit(tail, level)
    if floor > 0:
        without = _fit(_tail(x[:upto], loss[:upto] - floor, start), level)
        if without.law != fit.law:
            raise ValueError(
                f"the law depends on whether the plateau at {floor:.4g} is subtracted; record more of it"
            )
        fit = without.widened(abs(without.slope - fit.slope))
    if not fit.half <= _WIDEST * abs(fit.slope):
        raise ValueError(
            f"the rate is known to {fit.half:.3g} only, of {fit.slope:.3g}: the slope still changes, or "
            "noise hides it; run longer"
        )
    return Rate(
        fit.slope,
        fit.law,
        "measured",
        getattr(curve, "layer", "unnamed curve"),
        unit,
        (fit.slope - fit.half, fit.slope + fit.half),
        note=fit.note + (f", above a plateau at {floor:.3g}" if floor > 0 else ""),
    )


@dataclass(frozen=True)
class _Fit:
    """A law, its rate with a half width, and the points that were fitted."""

    law: Literal["linear", "power"]
    slope: float
    half: float
    note: str

    def widened(self, by: float) -> _Fit:
        return _Fit(self.law, self.slope, self.half + by, self.note)


def _usable(curve: Any, unit: str | None) -> tuple[np.ndarray, np.ndarray, Literal["time", "iteration"]]:
    """Points with a positive abscissa and a finite loss above the rounding of its type."""
    if unit not in (None, "time", "iteration"):
        raise ValueError(f'unit must be "time" or "iteration", got {unit!r}')
    if not np.ndim(getattr(curve, "loss", 0.0)) or not (hasattr(curve, "t") or hasattr(curve, "k")):
        raise ValueError(
            f"curve must have a loss and its t or k, as a LossCurve has, got {type(curve).__name__}; "
            "for the exact rate of a rule or of an equation take discrete_rate or exact_rate"
        )
    if unit is None:
        unit = "iteration" if getattr(curve, "t", None) is None else "time"
    x = getattr(curve, "t" if unit == "time" else "k", None)
    if x is None:
        raise ValueError(f"the curve has no {unit}; choose the other unit")
    x, given = (np.asarray(v) for v in (x, getattr(curve, "loss", None)))
    if x.dtype.kind not in "iuf" or given.dtype.kind not in "iuf" or x.ndim != 1 or x.shape != given.shape:
        raise ValueError(
            f"the curve must hold real numbers, as many of its loss as of {unit}, got shapes {given.shape} "
            f"and {x.shape} of types {given.dtype} and {x.dtype}"
        )
    x, loss = x.astype(float), given.astype(float)
    finite = np.isfinite(x) & np.isfinite(loss)
    # Errors carry roundings relative to their initial size, and the loss is their square.
    eps = float(np.finfo(given.dtype if given.dtype.kind == "f" else float).eps)
    keep = finite & (loss > 2000 * eps**2 * loss[finite].max(initial=0.0)) & (x > 0)
    order = np.argsort(x[keep], kind="stable")
    return x[keep][order], loss[keep][order], unit


def _require_fall(loss: np.ndarray) -> None:
    """Refuse what is at its end as high as it was: there is no rate of decay in it."""
    third = max(loss.size // 3, 1)
    early, late = (float(part.max(initial=0.0)) for part in (loss[:third], loss[-third:]))
    if loss.size >= _MIN_POINTS and late >= early:
        raise ValueError(
            f"the curve does not fall: it reaches {early:.4g} in the first third of its points and "
            f"{late:.4g} in the last, so it has no rate of decay"
        )


class _Tail(NamedTuple):
    """What is fitted, x and log loss: all points where they scatter, else the envelope with its error."""

    x: np.ndarray
    y: np.ndarray
    scatters: bool
    error: float

    def after(self, first: int) -> _Tail:
        return self._replace(x=self.x[first:], y=self.y[first:])


def _tail(x: np.ndarray, loss: np.ndarray, start: float) -> _Tail:
    keep = (x >= start * x.max(initial=0.0)) & (loss > 0)
    x, loss = x[keep], loss[keep]
    if _scatters(x, np.log(loss)):
        return _Tail(x, np.log(loss), True, 0.0)
    at, height = upper_envelope(x, loss)
    if at.size < 3 or at.size > x.size / 3:
        return _Tail(at, np.log(height), False, 0.0)
    # the next term of a parabola through three samples of log cos^2
    phase = np.pi * np.median(np.diff(x)) / np.median(np.diff(at))
    return _Tail(at, np.log(height), False, float(phase**4 / 6))


def _scatters(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether what is left beside a smooth curve changes from one point to the next without memory."""
    if x.size < 4 * _MIN_POINTS:
        return False
    smooth = np.polynomial.Chebyshev.fit(x, y, 6)
    rest = y - smooth(x)
    size = float(rest @ rest)
    # beyond the rounding of logarithms
    return size > 1e-20 * x.size * (1 + np.abs(y).max()) ** 2 and float(rest[1:] @ rest[:-1]) < 0.5 * size


def _require_points(count: int, start: float, floor: float) -> None:
    if count < _MIN_POINTS:
        above = f" and above its plateau at {floor:.4g}" if floor > 0 else ""
        raise ValueError(
            f"the curve has {count} usable envelope points beyond {start:g} of its range{above}, "
            f"{_MIN_POINTS} are needed; record more points or run longer"
        )


def _fit(tail: _Tail, level: float) -> _Fit:
    """The law on the longest part of the tail on which one of the two holds, and goes on to hold."""
    x = tail.x
    parts = [int(np.searchsorted(x, x[0] + share * (x[-1] - x[0]))) for share in _SHARES]
    # a few peaks may lie on a line by chance
    parts = [first for first in parts if not first or x.size - first >= 3 * _MIN_POINTS]
    seen = [_exponent(tail.after(first)) for first in parts]
    if seen[0][1] > 2 * _NEAR:
        raise ValueError(
            f"the range from {x[0]:.4g} to {x[-1]:.4g} tells no exponential from a power; run longer, or "
            "with less noise"
        )
    found = []
    for place, (first, (exponent, spread)) in enumerate(zip(parts, seen, strict=True)):
        law: Literal["linear", "power"] = "linear" if abs(exponent - 1) <= abs(exponent) else "power"
        target = 1.0 if law == "linear" else 0.0
        later, apart = seen[min(place + 1, len(seen) - 1)]
        lasts = abs(later - target) <= max(_NEAR, abs(exponent - target)) + apart
        # what flattens at the very end may be the beginning of a plateau
        flattens = place > 0 and place == len(seen) - 1 and exponent < seen[place - 1][0]
        if spread <= 2 * _NEAR and abs(exponent - target) <= _NEAR and lasts and not flattens:
            slope, half = _slope(tail.after(first), law, level)
            note = f"{x.size - first} points from {x[first]:.4g} to {x[-1]:.4g}; exponent {exponent:.3g}"
            found.append(_Fit(law, slope, half, note))
    if found:
        # bias falls from part to part, but of noise the longest part has least
        return found[0] if tail.scatters else min(found, key=lambda fit: fit.half)
    raise ValueError(
        f"neither exp(-c x) nor x^-p holds: log loss falls like x^b with b = {seen[0][0]:.2g}, later "
        f"{seen[-1][0]:.2g}, where 1 is exponential and 0 a power; run longer"
    )


def _exponent(tail: _Tail) -> tuple[float, float]:
    """The best b of log loss = a - s (x^b - 1)/b, and how far from it the data allow others."""

    def rest(b: float) -> float:
        return _line(_stretched(tail.x, b), tail.y)[1]

    found = scipy.optimize.minimize_scalar(rest, bounds=_EXPONENTS, method="bounded", options={"xatol": 1e-4})
    best, least = float(found.x), float(found.fun)
    # log-likelihood ratio at 95 %, of as many independent residuals as there are points, or some a block
    count = tail.x.size if tail.scatters else min(tail.x.size, 4 * _BLOCKS)
    allowed = least * np.expm1(scipy.stats.chi2.ppf(0.95, 1) / count)
    curvature = (rest(best + _NEAR) + rest(best - _NEAR) - 2 * least) / (2 * _NEAR**2)
    return best, float(np.sqrt(allowed / curvature)) if curvature > 0 else np.inf


def _stretched(x: np.ndarray, b: float) -> np.ndarray:
    log = np.log(x / x[-1])
    return log if b == 0 else np.expm1(b * log) / b


def _slope(tail: _Tail, law: str, level: float) -> tuple[float, float]:
    """The rate of a law, and the half width of its interval."""
    x, y = tail.x, tail.y
    z, other = (x, np.log(x)) if law == "linear" else (np.log(x), x)
    late = x >= (x[0] + x[-1]) / 2
    late[-3:] = True
    slope, rest = _line(z, y)
    drift = abs(slope - _line(z[late], y[late])[0])
    # with a term of the other law beside: (1 + c x)^2 exp(-2 c x) has one
    terms = np.column_stack([z, other, np.ones_like(z)]) / [np.ptp(z), np.ptp(other), 1]
    beside = abs(slope - np.linalg.lstsq(terms, y, rcond=None)[0][0] / np.ptp(z))
    bias = max(_DRIFTS * drift, _DRIFTS / 2 * beside)
    if tail.scatters:
        bias = max(0.0, bias - 2 * _DRIFTS * _jackknife(z[late], y[late]))
    else:
        bias += (np.sqrt(rest / z.size) + 2 * tail.error) / np.ptp(z)
    quantile = float(scipy.stats.t.ppf((1 + level) / 2, _BLOCKS - 1))
    return -slope, float(_SAFETY * quantile * _jackknife(z, y) + bias + 1e-12 * abs(slope))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and residual sum of squares of a straight line."""
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return slope, float(np.sum((y - y.mean() - slope * centred) ** 2))


def _jackknife(x: np.ndarray, y: np.ndarray) -> float:
    """Standard error of the slope, by deleting one block at a time."""
    blocks = np.array_split(np.arange(x.size), min(_BLOCKS, x.size // 2))
    if len(blocks) < 2:
        return 0.0
    slopes = np.array([_line(np.delete(x, block), np.delete(y, block))[0] for block in blocks])
    return float(np.sqrt((len(blocks) - 1) / len(blocks) * np.sum((slopes - slopes.mean()) ** 2)))
