"""Phase diagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from odeopt.plot.style import labelled, on_axes, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["phases"]


@styled
def phases(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    values: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    levels: npt.ArrayLike,
    label: str,
    xlabel: str = "$x$",
    ylabel: str = "$y$",
) -> Axes:
    """Draw a phase diagram: filled and labelled contours of a quantity over two parameters.

    Parameters
    ----------
    x : array_like, shape (p,)
        Values of the parameter on the abscissa.
    y : array_like, shape (n,)
        Values of the parameter on the ordinate.
    values : array_like, shape (n, p)
        As of :func:`odeopt.rates.rate_map`; nan stays white.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.
    levels : array_like
        Ascending. What lies outside of them is grey.
    label : str
        Of the colour bar.
    xlabel, ylabel : str, optional
        Of the axes, if these have none yet.

    Returns
    -------
    matplotlib.axes.Axes
        Holds the diagram; its ``figure`` holds the colour bar too.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import plot
    >>> x, y = np.linspace(0, 1, 3), np.linspace(0, 2, 5)
    >>> ax = plot.phases(x, y, np.add.outer(y, x), levels=[0, 1, 2, 3], label="sum")
    >>> [other.get_ylabel() for other in ax.figure.axes if other is not ax]
    ['sum']
    """
    from matplotlib import colormaps
    from matplotlib.patheffects import withStroke

    ax = on_axes(ax)
    shown = np.ma.masked_invalid(np.asarray(values, dtype=float))
    # viridis grows in lightness, also for colour-blind readers, and holds no grey
    colours = colormaps["viridis"].with_extremes(over="0.85", under="0.85")
    # Open ends paint what lies outside; the colour bar has no place for them.
    filled = ax.contourf(x, y, shown, levels=levels, cmap=colours, extend="both")
    lines = ax.contour(
        x, y, shown, levels=levels, colors="black", linewidths=0.5, linestyles="solid", alpha=0.6
    )
    for text in ax.clabel(lines, np.asarray(levels)[2:-1:2], fontsize=7, fmt="%g", inline=False):
        text.set(rotation=0, path_effects=[withStroke(linewidth=2, foreground="white")])
        place = (ax.transData - ax.transAxes).transform(text.get_position())
        text.set_visible(bool(np.abs(place - 0.5).max() < 0.45))  # the frame would cut it
    bar = ax.figure.colorbar(filled, ax=ax, label=label, extendfrac=0)
    bar.ax.tick_params(labelsize=ax.get_xticklabels()[0].get_fontsize())
    labelled(ax, xlabel, ylabel)
    return ax
