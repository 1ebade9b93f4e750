r"""Pictures of predictions on points that are not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from odeopt.plot.legends import explain, explain_below
from odeopt.plot.style import (
    STAR,
    Colours,
    abscissa_from_zero,
    labelled,
    looks_of,
    panels_of,
    plain_ordinate,
    styled,
)
from odeopt.spectra.curve import LossCurve
from odeopt.spectra.point_curve import PointCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["test_curves"]


class _Run(Protocol):  # what is drawn of a run of training, whose type stands beside
    @property
    def k(self) -> np.ndarray: ...
    @property
    def loss(self) -> np.ndarray: ...
    @property
    def points(self) -> PointCurve | None: ...


@styled
def test_curves(
    test: Mapping[str, PointCurve],
    y: npt.ArrayLike,
    axes: Sequence[Axes] | np.ndarray | None = None,
    *,
    training: Mapping[str, LossCurve] | None = None,
    trained: Mapping[str, _Run] | None = None,
    colours: Colours | None = None,
) -> Axes:
    r"""Draw training and test loss, predicted and trained, and the step at which training is best stopped.

    All relative to the start, a colour a method; lines are predicted, broad pale ones trained. A star marks
    the smallest predicted test loss, a ring that of the trained network.

    Parameters
    ----------
    test : mapping of str to PointCurve
        Name of each method to what :func:`odeopt.predict` says of the test points, from k = 0 (t = 0) on.
    y : array_like, shape (p,) or (p, c)
        Targets of the test points.
    axes : sequence of two matplotlib.axes.Axes, optional
        For the training and the test loss; without `training` and `trained` one, for the test loss.
    training : mapping of str to LossCurve, optional
        The loss of the examples, of some or all of the methods.
    trained : mapping of str to TrainingRun, optional
        Runs of :func:`odeopt.nets.train` that recorded the test `points`, of some or all of the methods.
    colours : mapping or sequence of colours, optional
        By the name of the method, or in turn.

    Returns
    -------
    matplotlib.axes.Axes
        That of the test loss; its ``figure`` holds the other.

    Raises
    ------
    ValueError
        If no method is given, a curve does not begin at 0, some are along iterations and others along time, a
        name is none of `test`, a run recorded no points, or `axes` are not as many axes.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import GradientDescent, loss_curve, plot, predict, relu_gram, spectral_measure
    >>> x, y = np.eye(3), np.array([0.0, 1.0, 3.0])
    >>> measure, rule, k = spectral_measure(relu_gram(x), -y), GradientDescent(0.5), range(20)
    >>> curve = predict(rule, measure, relu_gram([[1.0, 1.0, 0.0]], x), k)
    >>> ax = plot.test_curves({"GD": curve}, [0.1], training={"GD": loss_curve(rule, measure, k)})
    >>> [panel.get_ylabel() for panel in ax.figure.axes]
    ['training loss $L_k/L_0$', 'test loss $L_k/L_0$']
    >>> ax.figure.legends[0].get_texts()[0].get_text()
    'GD, best at k = 1'
    """
    training, trained = training or {}, trained or {}
    _require_named(test, training, trained)
    clock = _clock(test, training, trained)
    count = 2 if training or trained else 1
    own, grid = panels_of(axes, 1, count, (0.6 + 3.6 * count, 3.5))
    panels = list(grid[0])
    ax = panels[-1]
    for (name, curve), look in zip(test.items(), looks_of(list(test), colours), strict=True):
        label = _drawn(ax, name, look, curve, trained.get(name), y, clock)
        if name in training:
            _line(panels[0], training[name], training[name].loss, clock, **look)
        if name in trained:
            _line(panels[0], trained[name], trained[name].loss, "k", **look, **_BROAD)
        ax.plot([], [], **look, label=label)
    abscissa = "iteration $k$" if clock == "k" else "time $t$"
    along = np.unique(
        np.concatenate([getattr(curve, clock) for curve in (*test.values(), *training.values())])
    )
    for panel, kind in zip(panels, ("training", "test")[-count:], strict=True):
        panel.set_yscale("log")
        labelled(panel, abscissa, rf"{kind} loss $L_{clock}/L_0$")
        abscissa_from_zero(panel, along)
    _within(panels)
    _explained(ax, bool(trained))
    if own is not None:
        explain_below(own, [(ax, "")], 3.1, 1 + count)
    else:
        explain(ax, own=False)
    return ax


_BROAD: dict[str, Any] = {"linewidth": 4, "alpha": 0.35, "solid_capstyle": "butt"}
_RING: dict[str, Any] = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": "none"}


def _require_named(test: Any, training: Any, trained: Any) -> None:
    given = {"test": (test, PointCurve), "training": (training, LossCurve), "trained": (trained, object)}
    for name, (mapping, kind) in given.items():
        if not isinstance(mapping, Mapping) or not all(isinstance(v, kind) for v in mapping.values()):
            what = kind.__name__ if kind is not object else "TrainingRun"
            raise ValueError(
                f"{name} must map names of methods to a {what} each, got {type(mapping).__name__}; pass a "
                "dictionary"
            )
        if not set(mapping) <= set(test):
            raise ValueError(
                f"{name} has curves of {sorted(set(mapping) - set(test))}, which test has not; give the "
                "methods the same names"
            )
    if not test:
        raise ValueError("test must hold a curve at least, got an empty mapping; name one method")
    for name, run in trained.items():
        if getattr(run, "points", None) is None:
            raise ValueError(f"trained has a run of {name} without points; take nets.train(..., points=)")


def _clock(test: Mapping[str, Any], training: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    """What all curves are along, "k" or "t"."""
    curves = [*test.items(), *training.items()]
    for clock in ("k", "t"):
        if any(getattr(curve, clock) is None for _, curve in curves):
            continue
        late = [name for name, curve in curves if getattr(curve, clock)[0] != 0]
        if late:
            raise ValueError(
                f"the curve of {late[0]} begins after 0, and losses are drawn relative to it there; let its "
                "grid begin at 0"
            )
        if clock == "t" and trained:
            raise ValueError(
                "a trained network goes along iterations, the curves along time; predict its rule, or an ODE "
                "of a numeric time step"
            )
        return clock
    raise ValueError("some curves are along iterations, others along time; draw each kind on axes of its own")


def _line(ax: Axes, curve: Any, loss: np.ndarray, clock: str, **style: Any) -> None:
    if not 0 < loss[0] < np.inf:
        raise ValueError(
            f"a loss begins with {loss[0]:.6g}, and is drawn relative to that; draw it by itself"
        )
    ax.plot(getattr(curve, clock), loss / loss[0], **style)


def _drawn(
    ax: Axes,
    name: str,
    look: dict[str, Any],
    curve: PointCurve,
    run: _Run | None,
    y: npt.ArrayLike,
    clock: str,
) -> str:
    """Draw the test loss of a method, predicted and trained; say where each is best."""
    label = name
    for found, style, mark in ((None if run is None else run.points, _BROAD, _RING), (curve, {}, STAR)):
        if found is None:
            continue
        loss, best = found.loss(y), found.best(y)
        _line(ax, found, loss, clock, **look, **style)
        grid = getattr(found, clock)
        ax.plot(grid[best], loss[best] / loss[0], zorder=3, **look | mark)
        if found is curve:
            label = f"{name}, best at {clock} = {grid[best]:.4g}" + label.removeprefix(name)
        else:
            label += f" (trained: {grid[best]:.4g})"
    return label


def _within(panels: list[Axes]) -> None:
    """Limits that the curves fill, six decades at most; what overshoots or diverges leaves the upper edge."""
    for ax in panels:
        values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
        values = values[np.isfinite(values) & (values > 0)]
        least = max(values.min(initial=1.0), 1e-6)
        ax.set_ylim(0.9 * least, 1.1 * min(3.0, values.max(initial=1.0)))
        plain_ordinate(ax)


def _explained(ax: Axes, trained: bool) -> None:
    """Entries of the legend for what lines and marks mean."""
    if trained:
        ax.plot([], [], color="0.4", label="predicted")
    ax.plot([], [], color="0.4", label="best step, predicted", **STAR)
    if trained:
        ax.plot([], [], color="0.4", label="trained network", **_BROAD)
        ax.plot([], [], color="0.4", label="best step, trained", **_RING)
