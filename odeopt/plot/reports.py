r"""Pictures of a check: curves of each method, and the parts of what parts them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from odeopt.plot.legends import explain, explain_below
from odeopt.plot.style import labelled, line_of, on_axes, panels_of, styled, typeset
from odeopt.rates.rate import Rate
from odeopt.rules.base import UpdateRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check", "check_budget", "curves"]


class _Method(Protocol):  # what is drawn of a report, whose type stands above
    @property
    def rule(self) -> UpdateRule: ...
    @property
    def error_ode_latex(self) -> str: ...
    @property
    def exact_ode(self) -> Rate | None: ...
    @property
    def curves(self) -> Mapping[str, np.ndarray]: ...


class _Report(Protocol):
    @property
    def settings(self) -> Any: ...
    @property
    def problem(self) -> Mapping[str, Any]: ...
    @property
    def methods(self) -> Sequence[_Method]: ...


_COARSE_PARTS = (
    ("trained", "discrete_h0", "drift and flips"),
    ("discrete_h0", "ode_h0", "step size"),
    ("ode_h0", "ode_inf", "finite width"),
)
_LEVELS = ("trained", "ode_inf", "ode_h0", "discrete_h0")
_Colours = Mapping[str, Any] | None
_Labels = Mapping[str, str] | None


@styled
def curves(
    method: _Method, ax: Axes | None = None, *, colours: _Colours = None, labels: _Labels = None
) -> Axes:
    r"""Draw the loss of a method: trained, iterated and both ODEs, mean and range of the seeds.

    The abscissa is logarithmic where the exact law of the ODE is a power, so that the law is a
    straight line; the ordinate always is.

    Parameters
    ----------
    method : MethodReport
        One method of a check, as ``report["gd"]``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.
    colours, labels : mapping, optional
        Of the levels "trained", "discrete_h0", "ode_h0" and "ode_inf", by their names.

    Returns
    -------
    matplotlib.axes.Axes
        Holds the curves; its ``figure`` saves them.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import check, plot
    >>> from odeopt.studies import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> plot.curves(report["gd"]).get_ylabel()
    'loss $L_k/L_0$'
    """
    drawn = _curves(method, on_axes(ax), _is_power(method), colours, labels)
    explain(drawn, ax is None, title=_seeds(method))
    return drawn


def _seeds(method: _Method) -> str | None:
    """What the bands are, if there are any."""
    seeds = len(method.curves["trained"])
    return f"mean and range of {seeds} seeds" if seeds > 1 else None


def _is_power(method: _Method) -> bool:
    return method.exact_ode is not None and method.exact_ode.law == "power"


def _curves(method: _Method, ax: Axes, log: bool, colours: _Colours, labels: _Labels) -> Axes:
    shown = slice(int(log), None)
    k, initial = method.curves["k"][shown], method.curves["trained"][:, :1]
    for key in [key for key in _LEVELS if key in method.curves]:
        with np.errstate(invalid="ignore"):
            ratio = (method.curves[key] / initial)[:, shown]
        _with_range(ax, k, ratio, line_of(key, colours, labels), banded=key == "trained")
    ax.set(xscale="log" if log else "linear", yscale="log")
    finite = method.curves.get("discrete_h0", method.curves["trained"]) / initial
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if finite.size:
        ax.set_ylim(bottom=max(finite.min() / 3, 1e-30), top=max(3.0, min(3 * finite.max(), 1e6)))
    labelled(ax, "iteration $k$", "loss $L_k/L_0$")
    return ax


def _with_range(ax: Axes, k: np.ndarray, values: np.ndarray, look: dict[str, Any], banded: bool) -> None:
    """The mean over seeds, and the range of these as a band."""
    if banded and len(values) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        ax.fill_between(k, low, high, color=look["color"], alpha=0.2, linewidth=0)
    ax.plot(k, values.mean(axis=0), **look)


@styled
def check_budget(
    method: _Method,
    ax: Axes | None = None,
    *,
    relative: Literal["initial", "current"] = "initial",
    colours: _Colours = None,
    labels: _Labels = None,
) -> Axes:
    r"""Draw the parts of the error budget of a check along the iterations, with the range of the seeds.

    Relative to the initial loss, or to the loss that the iteration on :math:`H(0)` has left at that step. A
    network whose loss ends at 100 times its prediction is near to it on the first scale, and 99 from it on
    the second.

    Parameters
    ----------
    method : MethodReport
        One method of a check, as ``report["gd"]``; a part is drawn where both of its curves are known.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.
    relative : {"initial", "current"}, optional
        To which loss: the first, or the one that is left.
    colours, labels : mapping, optional
        Of the parts "drift and flips", "step size" and "finite width", by their names.

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line for each known part; its ``figure`` saves them.

    Raises
    ------
    ValueError
        If `relative` is neither, or `ax` no axes.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import check, plot
    >>> from odeopt.studies import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> plot.check_budget(report["gd"]).get_xscale()
    'log'
    """
    if relative not in ("initial", "current"):
        raise ValueError(f"relative must be 'initial' or 'current', got {relative!r}")
    drawn = _budget(method, on_axes(ax), relative, True, colours, labels)
    if drawn.lines:
        explain(drawn, ax is None, title=_seeds(method))
    return drawn


def _budget(method: _Method, ax: Axes, relative: str, log: bool, colours: _Colours, labels: _Labels) -> Axes:
    k, sizes = method.curves["k"][1:], [1.0]
    whole = method.curves["trained"][:, :1]
    if relative == "current" and "discrete_h0" in method.curves:
        whole = method.curves["discrete_h0"][:, 1:]
    for upper, lower, part in [part for part in _COARSE_PARTS if {*part[:2]} <= {*method.curves}]:
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = np.abs(method.curves[upper] - method.curves[lower])[:, 1:] / whole
        look = line_of(part, colours, labels) | {"linestyle": "-", "linewidth": 1.2}
        _with_range(ax, k, gap, look, banded=True)
        mean = gap.mean(axis=0)
        sizes += mean[np.isfinite(mean) & (mean > 0)].tolist()
    ax.set(xscale="log" if log else "linear", yscale="log")
    ax.set_ylim(bottom=max(1e-9, min(sizes) / 3))
    of = "L_0$" if relative == "initial" else "L_k$ of the iteration"
    labelled(ax, "iteration $k$", rf"$|\delta L_k|\,/\,{of}")
    return ax


@styled
def check(
    report: _Report, axes: np.ndarray | None = None, *, colours: _Colours = None, labels: _Labels = None
) -> Axes:
    r"""Draw all methods of a check: their losses, and the parts of the error budget on two scales.

    Upper row: the loss. Below: the parts relative to the initial loss, and relative to the loss that is left
    (see :func:`check_budget`). Bands are the range of the seeds.

    Parameters
    ----------
    report : CheckReport
        What :func:`odeopt.check` found.
    axes : array of matplotlib.axes.Axes, shape (3, number of methods), optional
        Where to draw, a column for each method; by default a new figure. With two rows the last is left out.
    colours, labels : mapping, optional
        Of the levels and parts, as of :func:`curves` and :func:`check_budget`.

    Returns
    -------
    matplotlib.axes.Axes
        The first of them; its ``figure`` holds the rest.

    Raises
    ------
    ValueError
        If `axes` are not as many axes.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import check, plot
    >>> from odeopt.studies import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> len(plot.check(report).figure.axes)
    3
    """
    count = len(report.methods)
    rows = 2 if axes is not None and np.size(axes) == 2 * count else 3
    own, grid = panels_of(axes, rows, count, (max(4.5, 2.5 * count + 0.5), 6.4))
    log = any(_is_power(method) for method in report.methods)  # one kind of axis in a row, or in none a power
    for panels, method in zip(grid.T, report.methods, strict=True):
        _curves(method, panels[0], log, colours, labels)
        panels[0].set_title(panels[0].get_title() or _title(method))
        for ax, relative in zip(panels[1:], ("initial", "current"), strict=False):
            _budget(method, ax, relative, log, colours, labels)
    if own is None:
        for ax in (grid[0, 0], *[ax for ax in grid[1] if ax.lines][:1]):
            explain(ax, own=False)
        return grid[0, 0]
    _around(own, grid, report)
    return grid[0, 0]


def _around(own: Figure, grid: np.ndarray, report: _Report) -> None:
    """Title and legends of the whole figure, and names of the axes at its left and lower edge alone."""
    count = len(report.methods)
    own.suptitle(_subject(report, "\n" if count < 3 else ";  "), fontsize="medium")
    for ax in grid[:-1].flat:
        ax.set_xlabel("")
    for ax in grid[:, 1:].flat:
        ax.set_ylabel("")
    parts = [(ax, "parts of the error budget (lower rows)") for ax in grid[1] if ax.lines][:1]
    widest = max(ax.title.get_window_extent().width for ax in grid[0]) / own.dpi
    own.set_size_inches(max(own.get_size_inches()[0], count * (widest + 0.45) + 0.5), 6.4)
    explain_below(own, [(grid[0, 0], "loss (upper row)"), *parts], 5.7, 4)


def _title(method: _Method) -> str:
    """Name, hyperparameters and the ODE of the error, as a paper writes them."""
    name, numbers = method.rule.label[:-1].split("(", 1)
    words = re.sub(r"(?<=[a-z])[A-Z](?=[a-z])", lambda found: " " + found[0].lower(), name)
    equation = f"${method.error_ode_latex}$" if method.error_ode_latex else "no ODE in the error"
    lines = [typeset(line) for line in textwrap.wrap(numbers, 36)]  # as wide as a panel
    return "\n".join([words, *lines, equation])


def _subject(report: _Report, then: str) -> str:
    s, p = report.settings, report.problem
    return (
        f"$n={p['n']}$ examples, width $m={s.width}$, {s.layers} layer{'s' * (s.layers == 'both')} trained, "
        f"{s.seeds} seed{'s' * (s.seeds > 1)} (bands: their range){then}"
        rf"$\lambda_{{\min}}={p['lambda_min_h_inf']:.3g}$, $\lambda_{{\max}}={p['lambda_max_h_inf']:.4g}$"
    )
