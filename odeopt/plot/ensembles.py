"""Pictures of predictions on points along training, of one network or of an ensemble, with a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.checks import require_integer
from odeopt.plot.legends import explain
from odeopt.plot.style import (
    COLOURS,
    Colours,
    abscissa_from_zero,
    labelled,
    line_options,
    looks_of,
    named,
    on_axes,
    styled,
)
from odeopt.shown import counts_steps
from odeopt.spectra.ensemble_curve import EnsembleCurve
from odeopt.spectra.point_curve import PointCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ensemble", "predictions"]


@styled
def ensemble(
    found: EnsembleCurve,
    ax: Axes | None = None,
    *,
    points: int | Sequence[int] | None = None,
    output: int = 0,
    colours: Colours | None = None,
    labels: Mapping[int, str] | None = None,
    **line: Any,
) -> Axes:
    r"""Draw the mean over initialisations along training, with a band of two standard deviations each way.

    Parameters
    ----------
    found : EnsembleCurve
        What :func:`odeopt.spectra.ensemble` found, along times or iterations.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.
    points : int or sequence of int, optional
        Which points, each in a colour; by default the first six, or all if they are fewer.
    output : int, optional
        Of several outputs.
    colours : mapping or sequence of colours, optional
        By point, or in turn.
    labels : mapping of int to str, optional
        By point.
    **line
        Properties of matplotlib's lines, as ``linestyle``.

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line and a band for each point; its ``figure`` saves them.

    Raises
    ------
    ValueError
        If there is no such point or output, `ax` is no axes, `found` is no curve or has neither times nor
        iterations, or a property is unknown.

    Examples
    --------
    >>> from odeopt import GradientDescent, plot, spectral_measure
    >>> from odeopt.spectra import ensemble
    >>> measure = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [-1.0, 1.0])
    >>> ax = plot.ensemble(ensemble(GradientDescent(0.3), measure, [[1.0, 0.0], [0.0, 1.0]], range(9)))
    >>> ax.get_xlabel(), len(ax.lines)
    ('iteration $k$', 2)
    """
    if not isinstance(found, EnsembleCurve):
        raise ValueError(f"found must be an EnsembleCurve, got {type(found).__name__}; take ensemble(...)")
    mean = found.mean.reshape(*found.variance.shape, -1)
    half = np.repeat(2 * found.std[:, :, None], mean.shape[2], axis=2)
    drawn = _bands(found, mean, half, ax, points, output, colours, labels, line)
    labelled(drawn, _along(found)[1], r"prediction, mean $\pm$ 2 s.d.")
    explain(drawn, ax is None)
    return drawn


@styled
def predictions(
    found: PointCurve,
    ax: Axes | None = None,
    *,
    points: int | Sequence[int] | None = None,
    output: int = 0,
    colours: Colours | None = None,
    labels: Mapping[int, str] | None = None,
    **line: Any,
) -> Axes:
    r"""Draw predictions on points along training, with a band of the bounds on their error.

    Parameters
    ----------
    found : PointCurve
        What :func:`odeopt.predict` found.
    ax, points, output, colours, labels, **line : optional
        As for :func:`ensemble`.

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line and a band for each point; the title of its legend says whether bands are proved.

    Raises
    ------
    ValueError
        As :func:`ensemble`.

    Examples
    --------
    >>> from odeopt import GradientDescent, plot, predict, spectral_measure
    >>> measure = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [-1.0, 1.0])
    >>> ax = plot.predictions(predict(GradientDescent(0.3), measure, [[1.0, 0.5]], range(9)))
    >>> ax.get_ylabel(), len(ax.lines)
    ('prediction', 1)
    """
    if not isinstance(found, PointCurve):
        raise ValueError(f"found must be a PointCurve, got {type(found).__name__}; take predict(...)")
    values = found.u.reshape(*found.u.shape[:2], -1)
    proved = bool(np.isfinite(found.bound).all())
    error = (found.bound if proved else found.error)[:, None, None]
    half = np.broadcast_to(error, values.shape)
    drawn = _bands(found, values, half, ax, points, output, colours, labels, line)
    labelled(drawn, _along(found)[1], "prediction")
    kind = (
        "proved bounds" if proved else "exact but for rounding" if found.exact.all() else "estimated errors"
    )
    explain(drawn, ax is None, title=kind if kind.startswith("exact") else f"bands: {kind}")
    return drawn


def _along(found: EnsembleCurve | PointCurve) -> tuple[np.ndarray | None, str]:
    """The grid of a curve, and what it is called."""
    return (found.k, "iteration $k$") if counts_steps(found) else (found.t, "time $t$")


def _bands(
    found: EnsembleCurve | PointCurve,
    values: np.ndarray,
    half: np.ndarray,
    ax: Axes | None,
    points: int | Sequence[int] | None,
    output: int,
    colours: Colours | None,
    labels: Mapping[int, str] | None,
    line: dict[str, Any],
) -> Axes:
    """Draw values of some points, (T, p, c), and bands `half` wide each way."""
    grid, _ = _along(found)
    if grid is None:
        raise ValueError(f"found must run along a grid, but it is the {found.source}; take ensemble(...)")
    count, output = values.shape[1], require_integer("output", output, 0, values.shape[2] - 1)
    chosen = list(range(min(len(COLOURS), count)) if points is None else np.atleast_1d(points))
    chosen = [require_integer("points", i, 0, count - 1) for i in chosen]
    drawn, given = on_axes(ax), line_options(line)
    pale = max(0.08, 0.3 / max(1, len(chosen)))  # many bands lie on one another
    for i, look in zip(chosen, looks_of(chosen, colours), strict=True):
        middle, width = values[:, i, output], half[:, i, output]
        look |= {"label": named(i, f"point {i}", labels, chosen), **given}
        (curve,) = drawn.plot(grid, middle, **look)
        drawn.fill_between(
            grid, middle - width, middle + width, color=curve.get_color(), alpha=pale, linewidth=0
        )
    abscissa_from_zero(drawn, grid)
    return drawn
