"""Pictures of forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from odeopt.plot.legends import explain, explain_below
from odeopt.plot.style import (
    Colours,
    abscissa_from_zero,
    labelled,
    looks_of,
    named,
    on_axes,
    panels_of,
    plain_ordinate,
    styled,
    typeset,
)
from odeopt.rates.steps import StepsTo
from odeopt.spectra.curve import LossCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["class_curves", "forecast"]


class _MethodForecast(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> StepsTo: ...
    @property
    def curve(self) -> LossCurve: ...


class _ClassForecast(Protocol):
    @property
    def n(self) -> int: ...
    @property
    def p(self) -> int: ...
    @property
    def methods(self) -> Sequence[Any]: ...


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


@styled
def class_curves(
    found: _ClassForecast,
    axes: Sequence[Axes] | np.ndarray | None = None,
    *,
    colours: Colours | None = None,
    labels: Mapping[str, str] | None = None,
) -> Axes:
    r"""Draw the predicted cross-entropy, an example, and below it the accuracy of each method along training.

    Parameters
    ----------
    found : ClassForecast
        What :func:`odeopt.studies.forecast_classes` found.
    axes : array of matplotlib.axes.Axes, shape (2, 2), or (2,) without a test set, optional
        Where to draw; by default a new figure. A column for the examples, and one for the test set.
    colours : mapping or sequence of colours, optional
        By the name of the method, or in turn.
    labels : mapping of str to str, optional
        By the name of the method.

    Returns
    -------
    matplotlib.axes.Axes
        The first of them; its ``figure`` holds the others.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import plot
    >>> from odeopt.studies import forecast_classes
    >>> x = np.random.default_rng(0).standard_normal((40, 5))
    >>> found = forecast_classes(x, np.argmax(x[:, :2], axis=1), test=0.25, methods=["gd"], num_steps=30)
    >>> [ax.get_title() for ax in plot.class_curves(found).figure.axes[:2]]
    ['30 training examples', '10 test examples']
    """
    sizes = {"training": found.n} | ({"test": found.p} if found.p else {})
    own, grid = panels_of(axes, 2, len(sizes), (0.6 + 3.6 * len(sizes), 4.8))
    names = [method.name for method in found.methods]
    for method, look in zip(found.methods, looks_of(names, colours), strict=True):
        label = named(method.name, typeset(method.name), labels, names)
        for (loss, accuracy), (kind, size) in zip(grid.T, sizes.items(), strict=True):
            curve = getattr(method, kind)
            loss.plot(curve.k, curve.loss / size, **look, label=label)
            accuracy.plot(curve.k, curve.accuracy, **look, label=label)
            loss.set_title(loss.get_title() or f"{size} {kind} examples")
    for ax in grid.flat:
        abscissa_from_zero(ax, found.methods[0].training.k)
    for ax in grid[0]:
        ax.set_yscale("log")
        plain_ordinate(ax)
        labelled(ax, "iteration $k$", "cross-entropy, an example")
    for ax in grid[1]:
        labelled(ax, "iteration $k$", "accuracy")
    if own is None:
        explain(grid[0, 0], own=False)
    else:
        explain_below(own, [(grid[0, 0], "")], 4.4, 3)
    return grid[0, 0]
