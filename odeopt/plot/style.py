"""One look for all pictures: settings, colours, styles of lines, and the axes a picture is drawn on."""

from __future__ import annotations

import functools
import inspect
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS", "LEVELS", "PARTS", "STAR", "Colours", "abscissa_from_zero", "colours_of", "labelled",
    "line_of", "line_options", "looks_of", "named", "on_axes", "panels_of", "plain_ordinate", "style",
    "styled", "typeset",
]  # fmt: skip

# Colours by Okabe and Ito, told apart by colour-blind readers: one a method, or a schedule.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
_DASHES = ("-", "--", ":", "-.")
_FINER: dict[str, Any] = {"color": "#56B4E9", "linestyle": (0, (1, 1))}
_STEP: dict[str, Any] = {"color": "#0072B2", "linestyle": (0, (5, 1.5))}
LEVELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ode_inf": (r"ODE, $H_\infty$", {"color": "#009E73", "linestyle": ":", "linewidth": 1.8}),
    "ode_h0": (r"ODE, $H(0)$", {"color": "#0072B2", "linestyle": "--", "linewidth": 1.6}),
    "high_resolution_h0": ("high-resolution ODE, $H(0)$", _FINER),
    "discrete_h0": (r"iteration, $H(0)$", {"color": "#000000", "linewidth": 1.0}),
    "trained": ("trained network", {"color": "#D55E00", "linewidth": 3.0, "alpha": 0.55}),
}
PARTS: dict[str, dict[str, Any]] = {
    "drift and flips": {"color": "#D55E00"},
    "beyond the high-resolution ODE": _FINER,
    "step-size correction": _STEP,
    "step size": _STEP,
    "finite width": {"color": "#009E73", "linestyle": (0, (5, 1.5, 1, 1.5))},
}
SYMBOLS = {
    "lr": r"$\eta$",
    "momentum": r"$\beta$",
    "momenta": r"$(\beta_1,\beta_2)$",
    **{name: f"${name}$" for name in ("r", "m", "n")},
}
STAR: dict[str, Any] = {"marker": "*", "markersize": 10, "markeredgecolor": "black", "linestyle": "none"}


def style() -> dict[Any, Any]:
    r"""The settings of matplotlib that the pictures of the package have: its colours, and fonts for a paper.

    A function of :mod:`odeopt.plot` draws a figure of its own with them, and on given axes with what is set
    there. Fonts go into pdf as TrueType and into svg as text, so that both can be searched and edited.

    Returns
    -------
    dict
        To pass to ``plt.rcParams.update``, ``plt.rc_context`` or ``plt.style.use``.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from odeopt import plot
    >>> with plt.rc_context(plot.style()):
    ...     line = plt.figure().subplots().plot([1, 2])[0]
    >>> line.get_color() == plot.COLOURS[0]
    True
    """
    from cycler import cycler

    return {
        "axes.linewidth": 0.6,
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.titlesize": 8.5,
        "figure.dpi": 125,
        "font.size": 8,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.title_fontsize": 7,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "savefig.dpi": 200,
        "svg.fonttype": "none",
        "svg.hashsalt": "odeopt",
    } | {
        f"{axis}tick.{key}": value
        for axis in "xy"
        for key, value in (("labelsize", 7), ("major.width", 0.6), ("minor.width", 0.4))
    }


P = ParamSpec("P")
T = TypeVar("T")


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Draw in the style of the package where no axes are given; given ones keep their own."""
    signature = inspect.signature(draw)

    @functools.wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        given = signature.bind(*args, **kwargs).arguments
        if given.get("ax", given.get("axes")) is not None:
            return draw(*args, **kwargs)
        from matplotlib import rc_context

        with rc_context(style()):
            return draw(*args, **kwargs)

    return drawn


def panels_of(
    axes: Any, rows: int, columns: int, size: tuple[float, float]
) -> tuple[Figure | None, np.ndarray]:
    """The new figure, if no axes are given, and the axes, of shape (rows, columns)."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if axes is not None:
        found = np.asarray(axes, dtype=object)
        if found.size != rows * columns or not all(isinstance(ax, Axes) for ax in found.flat):
            given = f"{found.size}" if found.size > 1 else type(found.flat[0]).__name__ if found.size else "0"
            one = (
                "a matplotlib.axes.Axes" if rows * columns == 1 else f"{rows * columns} of matplotlib's Axes"
            )
            raise ValueError(f"axes must be {one}, got {given}; pass what figure.subplots returns, or None")
        return None, found.reshape(rows, columns)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    settings = style()
    for ax in grid.flat:  # ticks are made as they are drawn, when these settings are no longer those in force
        ax.tick_params(
            which="major", labelsize=settings["xtick.labelsize"], width=settings["xtick.major.width"]
        )
        ax.tick_params(which="minor", width=settings["xtick.minor.width"])
        # what a cell of a notebook ends with is shown there, though no window knows of it
        vars(ax)["_repr_png_"] = functools.partial(_png, figure)
    return figure, grid


def _png(figure: Figure) -> bytes:
    """The whole figure, as a notebook shows it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()


def on_axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    return panels_of(ax, 1, 1, (5.4, 3.1))[1][0, 0]


def labelled(ax: Axes, x: str, y: str) -> None:
    """Name the axes where the user has not."""
    ax.set(xlabel=ax.get_xlabel() or x, ylabel=ax.get_ylabel() or y)


def typeset(label: str) -> str:
    """The label of a rule with the symbols of its hyperparameters, or an equation of the error."""
    label = re.sub(r"(?<!\*)\*(?!\*)", " ", label.replace("Delta", r"$\Delta$"))
    return re.sub(r"\b(\w+)=", lambda found: f"{SYMBOLS.get(found[1], found[1].replace('_', ' '))} = ", label)


Colours: TypeAlias = "Mapping[Any, Any] | Sequence[Any]"


def colours_of(names: Sequence[Any], colours: Colours | None) -> list[Any]:
    """A colour a name: those given, by name or in turn, and else those of the package, which begin anew."""
    by_name = _known("colours", colours if isinstance(colours, Mapping) else {}, names)
    turn = COLOURS if colours is None or isinstance(colours, Mapping) else list(colours)
    if not len(turn):
        raise ValueError("colours must hold one at least, got none; leave it out for those of the package")
    found = [by_name.get(name, turn[i % len(turn)]) for i, name in enumerate(names)]
    _require_colours(found)
    return found


def looks_of(names: Sequence[Any], colours: Colours | None) -> list[dict[str, Any]]:
    """Colour and dashes of a curve a name: a colour that comes again comes with other dashes."""
    from matplotlib.colors import to_hex

    found = colours_of(names, colours)
    same = [to_hex(colour, keep_alpha=True) for colour in found]
    dashes = (_DASHES[same[:i].count(colour) % len(_DASHES)] for i, colour in enumerate(same))
    return [{"color": colour, "linestyle": dash} for colour, dash in zip(found, dashes, strict=True)]


def _require_colours(found: Iterable[Any]) -> None:
    from matplotlib.colors import is_color_like

    for colour in found:
        if not is_color_like(colour):
            raise ValueError(f"colours has {colour!r}, no colour of matplotlib; write 'black' or '#0072B2'")


def _known(what: str, given: Mapping[Any, Any], names: Iterable[Any]) -> Mapping[Any, Any]:
    unknown = [name for name in given if name not in list(names)]
    if unknown:
        raise ValueError(f"{what} has {unknown}, which is not drawn; the names are {list(names)}")
    return given


def named(name: Any, default: str, labels: Mapping[Any, str] | None, names: Sequence[Any]) -> str:
    """The label of a curve: the user's, if there is one."""
    return _known("labels", labels or {}, names).get(name, default)


def line_of(key: str, colours: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> dict[str, Any]:
    """Label and style of a level or part of an error budget: the user's, if there are some."""
    default, look = LEVELS[key] if key in LEVELS else (key, PARTS[key])
    names = [*LEVELS, *PARTS]
    own = _known("colours", colours or {}, names)
    _require_colours(own.values())
    return look | ({"color": own[key]} if key in own else {}) | {"label": named(key, default, labels, names)}


def plain_ordinate(ax: Axes) -> None:
    """A logarithmic ordinate within two decades, where powers of ten say little, has plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = ax.get_ylim()
    if high < 100 * low:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


def line_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of a line by their full names; one that matplotlib does not know is refused."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    try:
        found = normalize_kwargs(dict(given), Line2D)
        Line2D([], [], **found)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{error}; give properties of a line, as color or linewidth") from error
    return found


def abscissa_from_zero(ax: Axes, grid: np.ndarray) -> None:
    r"""An abscissa from 0: linear if short, else :math:`\mathrm{arsinh}(k/k_1)`, a logarithm without kink."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    after = np.asarray(grid, dtype=float)[np.asarray(grid) > 0]
    if not after.size:
        return
    first, last = float(after.min()), float(after.max())
    ax.set_xlim(0, last)
    if last <= 100 * first:
        return
    ax.set_xscale("asinh", linear_width=first)
    ax.set_xlim(0, last)
    powers = range(math.ceil(math.log10(first) - 1e-9), math.floor(math.log10(last)) + 1)
    ax.xaxis.set_major_locator(FixedLocator([0.0, *(10.0**p for p in powers)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_power))


def _power(value: float, _: Any) -> str:
    """A power of ten, as it is read most quickly."""
    return f"{value:g}" if value == 0 or 0.01 <= value <= 1000 else rf"$10^{{{math.log10(value):.0f}}}$"
