r"""Where a loss curve ends to fall: on a plateau, or in steps of a rounding."""

from __future__ import annotations

import numpy as np

__all__ = ["above_floor"]

_WINDOWS = 32
_FLAT_WINDOWS = 6
# A plateau falls more slowly than this share of the steepest fall, in log loss against log x: laws without a
# plateau fall ever faster, or as fast, on these axes. What dips deeper swings, between peaks few and far.
_FLAT = 0.15
_DEEPEST = 2.0
# How far above the plateau a curve is its own, and the least with which a fit is tried.
_FACTORS = (100.0, 30.0, 10.0, 5.0)
_MIN_POINTS, _MIN_FALL = 16, 1.5


def above_floor(x: np.ndarray, loss: np.ndarray) -> tuple[int, float]:
    """Return how many leading points lie above the floor, and its height, 0 where there is none.

    >>> x = np.linspace(0.1, 20, 400)
    >>> count, height = above_floor(x, np.exp(-2 * x) + 1e-7)
    >>> bool(5 < x[count] < 7), round(height / 1e-7, 3)
    (True, 1.0)
    """
    upto = _first_repeat(loss)
    if upto < _MIN_POINTS:
        upto = x.size
    height = _plateau(x[:upto], loss[:upto])
    if height == 0.0:
        return upto, 0.0
    later = np.maximum.accumulate(loss[:upto][::-1])[::-1]
    for factor in _FACTORS:
        # the last point whose followers, too, are that far above
        count = int(np.argmax(later < factor * height)) if later[-1] < factor * height else upto
        if count >= _MIN_POINTS and np.log(loss[:count].max() / (factor * height)) >= _MIN_FALL:
            return count, height
    raise ValueError(
        f"the curve ends on a plateau at {height:.4g}, and its fall to it, by a factor "
        f"{loss.max() / height:.3g}, is too short for a rate; record more of it"
    )


def _first_repeat(loss: np.ndarray) -> int:
    """Index from which values repeat exactly, as they do where rounding makes steps of a smooth fall."""
    same = np.concatenate([loss[1:] == loss[:-1], [False]])
    later = np.cumsum(same[::-1])[::-1] / np.arange(loss.size, 0, -1)
    runs = np.flatnonzero(same & (later > 0.1))
    return int(runs[0]) if runs.size else loss.size


def _plateau(x: np.ndarray, loss: np.ndarray) -> float:
    """Height of the plateau at the end, 0 where there is none."""
    if x.size < 2 * _WINDOWS:
        return 0.0
    blocks = np.array_split(np.arange(x.size), _WINDOWS)
    # by the upper values of three windows, which the dips of an oscillation do not touch
    y = np.array([np.quantile(np.log(loss[block[0] :][: 3 * block.size]), 0.75) for block in blocks])
    at = np.log(x[[block[0] for block in blocks]])
    steepest = float(np.max(-np.diff(y) / np.diff(at)))
    end = slice(-_FLAT_WINDOWS, None)
    fall = -float(np.polyfit(at[end], y[end], 1)[0])
    if not (steepest > 0 and fall < _FLAT * steepest):
        return 0.0
    low, height = np.quantile(np.log(loss[np.concatenate(blocks[end])]), [0.05, 0.5])
    return float(np.exp(height)) if low > height - _DEEPEST else 0.0
