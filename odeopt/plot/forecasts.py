"""Pictures of a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from odeopt.plot.legends import explain
from odeopt.plot.style import Colours, labelled, looks_of, named, on_axes, styled, typeset
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


@styled
def forecast(
    found: _Forecast,
    ax: Axes | None = None,
    *,
    colours: Colours | None = None,
    labels: Mapping[str, str] | None = None,
) -> Axes:
    r"""Draw the predicted loss of each method with the band of its bounds, and the target.

    Parameters
    ----------
    found : Forecast
        What :func:`odeopt.forecast` found.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.
    colours : mapping or sequence of colours, optional
        By the name of the method, or in turn.
    labels : mapping of str to str, optional
        By the name of the method.

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
    drawn, last = on_axes(ax), 10.0
    names = [method.name for method in found.methods]
    for method, look in zip(found.methods, looks_of(names, colours), strict=True):
        curve, k, initial = method.curve, np.asarray(method.curve.k), found.initial_loss
        label = named(method.name, typeset(f"{method.name}: {method.steps} steps"), labels, names)
        drawn.plot(k, curve.loss / initial, **look, label=label)
        # On a logarithmic axis a lower bound of 0 has no place; the band then reaches the lower edge.
        low = np.maximum(curve.lower / initial, found.target * 1e-4)
        drawn.fill_between(k, low, curve.upper / initial, color=look["color"], alpha=0.2, linewidth=0)
        last = max(last, float(k[-1]))
    drawn.axhline(found.target, color="0.5", linestyle=":", linewidth=1)
    drawn.set(xscale="log", xlim=(1, last), yscale="log", ylim=(found.target / 10, 2))
    labelled(drawn, "iteration $k$", "loss $L_k/L_0$")
    explain(drawn, ax is None, title=f"to {found.target:g} of the initial loss")
    return drawn
