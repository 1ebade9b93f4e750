"""Pictures of ensembles: the mean of each point along training, with a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from odeopt.checks import require_integer
from odeopt.plot.legends import explain
from odeopt.plot.style import (
    COLOURS,
    Colours,
    abscissa_from_zero,
    labelled,
    looks_of,
    named,
    on_axes,
    styled,
)
from odeopt.spectra.ensemble_curve import EnsembleCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ensemble"]


@styled
def ensemble(
    found: EnsembleCurve,
    ax: Axes | None = None,
    *,
    points: int | Sequence[int] | None = None,
    output: int = 0,
    colours: Colours | None = None,
    labels: Mapping[int, str] | None = None,
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

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line and a band for each point; its ``figure`` saves them.

    Raises
    ------
    ValueError
        If there is no such point or output, `ax` is no axes, or `found` is no curve or has neither times nor
        iterations.

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
    grid, label = (found.t, "time $t$") if found.k is None else (found.k, "iteration $k$")
    if grid is None:
        raise ValueError(f"found must run along a grid, but it is the {found.source}; take ensemble(...)")
    mean = found.mean.reshape(*found.variance.shape, -1)
    column = mean[:, :, require_integer("output", output, 0, mean.shape[2] - 1)]
    count = mean.shape[1]
    chosen = list(range(min(len(COLOURS), count)) if points is None else np.atleast_1d(points))
    chosen = [require_integer("points", i, 0, count - 1) for i in chosen]
    drawn, pale = on_axes(ax), max(0.08, 0.3 / max(1, len(chosen)))  # many bands lie on one another
    for i, look in zip(chosen, looks_of(chosen, colours), strict=True):
        middle, half = column[:, i], 2 * found.std[:, i]
        drawn.plot(grid, middle, **look, label=named(i, f"point {i}", labels, chosen))
        drawn.fill_between(grid, middle - half, middle + half, color=look["color"], alpha=pale, linewidth=0)
    labelled(drawn, label, r"prediction, mean $\pm$ 2 s.d.")
    abscissa_from_zero(drawn, grid)
    explain(drawn, ax is None)
    return drawn
