"""Pictures of a forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from odeopt.plot.style import COLOURS, on_axes
from odeopt.rates.steps import StepsTo
from odeopt.spectra.curve import LossCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forecast"]


class _MethodForecast(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> StepsTo: ...
    @property
    def curve(self) -> LossCurve: ...


class _Forecast(Protocol):
    @property
    def target(self) -> float: ...
    @property
    def initial_loss(self) -> float: ...
    @property
    def methods(self) -> Sequence[_MethodForecast]: ...


def forecast(found: _Forecast, ax: Axes | None = None) -> Axes:
    r"""Draw the predicted loss of each method with the band of its bounds, and the target.

    Parameters
    ----------
    found : Forecast
        What :func:`odeopt.forecast` found.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.

    Returns
    -------
    matplotlib.axes.Axes
        Holds the curves, over iterations; its ``figure`` saves them.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import forecast, plot
    >>> found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    >>> plot.forecast(found).get_yscale()
    'log'
    """
    ax = on_axes(ax)
    for method, colour in zip(found.methods, len(found.methods) * COLOURS, strict=False):
        curve, k, initial = method.curve, np.asarray(method.curve.k), found.initial_loss
        ax.plot(k, curve.loss / initial, color=colour, label=f"{method.name}: {method.steps} steps")
        # On a logarithmic axis a lower bound of 0 has no place; the band then reaches the lower edge.
        low = np.maximum(curve.lower / initial, found.target * 1e-4)
        ax.fill_between(k, low, curve.upper / initial, color=colour, alpha=0.2, linewidth=0)
    ax.axhline(found.target, color="0.5", linestyle=":", linewidth=1)
    ax.set(yscale="log", xlabel="iteration $k$", ylabel=r"loss $L_k/L_0$")
    ax.set_ylim(bottom=found.target / 10, top=2)
    ax.set_xscale("symlog", linthresh=10)
    ax.set_xlim(left=0)
    ax.legend(fontsize=7, title=f"to {found.target:g} of the initial loss", title_fontsize=7)
    return ax
