r"""Pictures of losses along iterations or times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from odeopt.plot.legends import explain
from odeopt.plot.style import (
    STAR,
    Colours,
    abscissa_from_zero,
    colours_of,
    labelled,
    line_options,
    on_axes,
    plain_ordinate,
    styled,
    typeset,
)
from odeopt.shown import counts_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["losses"]


class _Curve(Protocol):  # the types of some stand above
    @property
    def loss(self) -> np.ndarray: ...


_ABSCISSAE = {"k": "iteration $k$", "t": "time $t$"}
_LOOKS: dict[str, dict[str, Any]] = {
    "linear ODE": {"linestyle": "--"},
    "prediction-space ODE": {"linestyle": "--"},
    "finite net": {"linewidth": 3.0, "alpha": 0.55},
}
# What bands are, by their labels, which a legend leaves out: of those drawn before as well.
_PROVED, _PARTLY, _ESTIMATED = "_proved bounds", "_bounds, estimated in part", "_estimated errors"
_DECADES = 1e-16  # of the largest loss that is shown


@styled
def losses(
    curves: _Curve | Sequence[_Curve] | Mapping[str, _Curve],
    ax: Axes | None = None,
    *,
    relative: bool = False,
    colours: Colours | None = None,
    **line: Any,
) -> Axes:
    r"""Draw losses along iterations or times, each with the band of its bounds.

    A discrete method is a full line, an ODE a dashed one, a trained network a broad pale one; a star marks
    the best step of a test loss. What diverges leaves the upper edge.

    Parameters
    ----------
    curves : LossCurve, or sequence or mapping of them by name
        Also whatever else has a `loss` along `k` or `t`, as :class:`odeopt.nets.TrainingRun`.
    ax : matplotlib.axes.Axes, optional
        Where to draw, beside what is there; by default axes of a new figure, which no window shows.
    relative : bool, optional
        Divide each loss by its first.
    colours : mapping or sequence of colours, optional
        By name, or in turn; by default those that follow on the axes.
    **line
        Properties of matplotlib's lines, as ``label`` for a single curve, ``linestyle`` or ``marker``.

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line for each curve; its ``figure`` saves it.

    Raises
    ------
    ValueError
        If something is no curve, some run along iterations and others along time, a first loss is not
        positive with `relative`, or a property is unknown.

    Examples
    --------
    >>> from odeopt import GradientDescent, HeavyBall, loss_curve, plot, spectral_measure
    >>> measure, k = spectral_measure([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]), range(20)
    >>> rules = {"descent": GradientDescent(0.1), "momentum": HeavyBall(0.1, 0.5)}
    >>> ax = plot.losses({name: loss_curve(rule, measure, k) for name, rule in rules.items()})
    >>> ax.get_xlabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('iteration $k$', ['descent', 'momentum'])
    """
    named, given = _named(curves), line_options(line)
    if "label" in given and len(named) > 1:
        raise ValueError(f"label = {given['label']!r} is of one curve; name several by a mapping")
    names = [name for name, _ in named]
    picked = [None] * len(named) if colours is None else colours_of(names, colours)
    drawn = on_axes(ax)
    clock = _clock([curve for _, curve in named], drawn.get_xlabel())
    drawn.set_yscale("log")
    drawn.set_autoscaley_on(False)  # margins of what diverges are beyond float64
    for (name, curve), colour in zip(named, picked, strict=True):
        look = _LOOKS.get(getattr(curve, "layer", ""), {}) | ({} if colour is None else {"color": colour})
        _line(drawn, curve, clock, relative, look | {"label": name} | given)
    _within(drawn)
    of_first = {"k": "/L_0", "t": "/L(0)"}[clock] if relative else ""
    labelled(drawn, _ABSCISSAE[clock], f"loss ${ {'k': 'L_k', 't': 'L(t)'}[clock] }{of_first}$")
    kinds = {str(band.get_label()) for band in drawn.collections} & {_PROVED, _PARTLY, _ESTIMATED}
    title = f"bands: {'; '.join(kind[1:] for kind in sorted(kinds))}" if kinds else None
    if ax is None and len(named) == 1:  # a lone curve has the whole width
        drawn.legend(loc="lower left", bbox_to_anchor=(0, 1), title=title, alignment="left")
    else:
        explain(drawn, ax is None, title=title)
    plain_ordinate(drawn)
    return drawn


def _named(curves: Any) -> list[tuple[str, Any]]:
    """Names and curves; of those that have none what was evaluated."""
    if isinstance(curves, Mapping):
        found = [(str(name), curve) for name, curve in curves.items()]
    else:
        single = hasattr(curves, "loss") or not isinstance(curves, Sequence)
        found = [(_told(curve), curve) for curve in ([curves] if single else curves)]
    for _, curve in found:
        if not isinstance(getattr(curve, "loss", None), np.ndarray):
            raise ValueError(
                f"curves must be LossCurve, or have a loss along k or t, got {type(curve).__name__}; "
                "predictions on points are drawn by plot.test_curves, with their targets"
            )
    if not found:
        raise ValueError("curves must hold one at least, got none")
    return found


def _told(curve: Any) -> str:
    return typeset(str(getattr(curve, "source", "") or getattr(curve, "label", "") or "loss"))


def _clock(curves: list[Any], drawn: str) -> Literal["k", "t"]:
    """What all curves run along; on axes with curves, what these do."""
    bound = drawn in _ABSCISSAE.values()
    for name in ("k", "t") if any(map(counts_steps, curves)) else ("t", "k"):
        known = all(getattr(curve, name, None) is not None for curve in curves)
        if known and (not bound or drawn == _ABSCISSAE[name]):
            return name
    raise ValueError(
        "some curves run along iterations, others along time; give those of a rule a time_step, those of an "
        "ODE a numeric one, or draw each kind on axes of its own"
    )


def _line(ax: Axes, curve: Any, clock: str, relative: bool, look: dict[str, Any]) -> None:
    """A curve, its band and its best step."""
    grid, loss = np.asarray(getattr(curve, clock), dtype=float), curve.loss
    if relative and not 0 < loss[0] < np.inf:
        raise ValueError(f"a loss begins with {loss[0]:.6g}; draw it with relative = False")
    scale = loss[0] if relative else 1.0
    best = getattr(curve, "best", None)
    if isinstance(best, int):
        look["label"] = f"{look['label']}, best at ${clock}$ = {grid[best]:.6g}"
    (line,) = ax.plot(grid, loss / scale, **look)
    if isinstance(best, int):
        ax.plot(grid[best], loss[best] / scale, color=line.get_color(), zorder=3, **STAR)
    low, high, kind = _bounds(curve)
    seen, colour = np.isfinite(high), line.get_color()
    if seen.any():
        ends = (low / scale)[seen], (high / scale)[seen]
        ax.fill_between(grid[seen], *ends, color=colour, alpha=0.2, linewidth=0, label=kind)


def _bounds(curve: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """Lower and upper ends, infinite where there are none, and what they are."""
    if hasattr(curve, "lower"):
        return curve.lower, curve.upper, _PROVED if curve.proved.all() else _PARTLY
    error = getattr(curve, "error", None)
    if not isinstance(error, np.ndarray):
        error = getattr(curve, "loss_error", np.zeros(curve.loss.shape))
    error = error if error.any() else np.full(curve.loss.shape, np.inf)
    return np.maximum(curve.loss - error, 0.0), curve.loss + error, _ESTIMATED


def _within(ax: Axes) -> None:
    """Limits that all curves on the axes fill, up to three times the largest first loss."""
    lines = [line for line in ax.lines if line.get_transform() == ax.transData]
    values = [np.asarray(line.get_ydata(), dtype=float) for line in lines]
    finite = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values])
    if finite.size:
        first = max((v[0] for v in values if v.size and 0 < v[0] < np.inf), default=finite.max())
        top = min(3 * first, 1.5 * finite.max())
        ax.set_ylim(max(finite.min() / 1.5, _DECADES * top), top)
    if ax.get_xscale() in ("linear", "asinh"):
        abscissa_from_zero(ax, np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in lines]))
