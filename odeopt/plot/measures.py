r"""Pictures of spectral measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.plot.style import labelled, line_options, on_axes, styled
from odeopt.spectra.measure import SpectralMeasure, require_measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["spectrum"]

_ZERO = 1e-14  # of the largest eigenvalue: what is below is 0 but for rounding


@styled
def spectrum(measure: SpectralMeasure, ax: Axes | None = None, **line: Any) -> Axes:
    r"""Draw the share of :math:`|\Delta_0|^2` that the eigenvalues up to each :math:`\lambda` hold.

    What stands far to the left is learned last: gradient flow has learned at time t what is to the right of
    1/t. Of Lanczos it is the distribution of the Gauss rule.

    Parameters
    ----------
    measure : SpectralMeasure
        Of an error that is not 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw, beside what is there; by default axes of a new figure, which no window shows.
    **line
        Properties of matplotlib's lines, as ``color`` or ``label``.

    Returns
    -------
    matplotlib.axes.Axes
        Holds the line, over a logarithmic axis; the share of eigenvalues 0 is where it begins.

    Raises
    ------
    ValueError
        If `measure` is none, or of an error that no positive eigenvalue sees, or a property is unknown.

    Examples
    --------
    >>> from odeopt import plot, spectral_measure
    >>> ax = plot.spectrum(spectral_measure([[4.0, 0.0], [0.0, 1.0]], [1.0, 1.0]))
    >>> ax.lines[0].get_ydata()
    array([0. , 0.5, 1. , 1. ])
    """
    given = line_options(line)
    nodes, weights = require_measure(measure).nodes, measure.weights
    seen = nodes > _ZERO * nodes.max(initial=0.0)
    if not weights[seen].any():
        raise ValueError("measure is of an error that no positive eigenvalue sees; there is nothing to draw")
    shares = np.cumsum([weights[~seen].sum(), *weights[seen]]) / measure.mass
    places = [nodes[seen][0] / 2, *nodes[seen], 2 * nodes[-1]]
    drawn, kind = on_axes(ax), "exact" if measure.exact else "Gauss rule by Lanczos"
    drawn.plot(places, [*shares, shares[-1]], **{"drawstyle": "steps-post", "label": kind, **given})
    drawn.set(xscale="log", ylim=(-0.02, 1.03))
    labelled(drawn, r"eigenvalue $\lambda$", r"share of $|\Delta_0|^2$ up to $\lambda$")
    drawn.legend(loc="upper left")
    return drawn
