r"""Pictures of value types: each function draws on given axes, returns them, and never calls ``show``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from odeopt.rates.rate import Rate
from odeopt.rates.steps import StepsTo
from odeopt.rules.base import UpdateRule
from odeopt.spectra.curve import LossCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLOURS", "budget", "check", "check_budget", "curves", "forecast", "phases"]


class _Method(Protocol):  # what is drawn of a report, a budget and a forecast, whose types stand above
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


class _Budget(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def k(self) -> np.ndarray: ...
    @property
    def time_step(self) -> float: ...
    @property
    def time_origin(self) -> float: ...
    @property
    def losses(self) -> Mapping[str, np.ndarray]: ...
    @property
    def loss_parts(self) -> Mapping[str, np.ndarray]: ...
    @property
    def vector_parts(self) -> Mapping[str, np.ndarray]: ...


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


# Colours by Okabe and Ito, told apart by colour-blind readers: one a method, or a schedule.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
_FINER: dict[str, Any] = {"color": "#56B4E9", "linestyle": (0, (1, 1))}
_STEP: dict[str, Any] = {"color": "#0072B2", "linestyle": (0, (5, 1.5))}
_LEVELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ode_inf": (r"ODE, $H_\infty$", {"color": "#009E73", "linestyle": ":", "linewidth": 1.8}),
    "ode_h0": (r"ODE, $H(0)$", {"color": "#0072B2", "linestyle": "--", "linewidth": 1.6}),
    "high_resolution_h0": ("high-resolution ODE, $H(0)$", _FINER),
    "discrete_h0": (r"iteration, $H(0)$", {"color": "#000000", "linewidth": 1.0}),
    "trained": ("trained network", {"color": "#D55E00", "linewidth": 3.0, "alpha": 0.55}),
}
_PARTS: dict[str, dict[str, Any]] = {
    "drift and flips": {"color": "#D55E00"},
    "beyond the high-resolution ODE": _FINER,
    "step-size correction": _STEP,
    "step size": _STEP,
    "finite width": {"color": "#009E73", "linestyle": (0, (5, 1.5, 1, 1.5))},
}
_COARSE_PARTS = (
    ("trained", "discrete_h0", "drift and flips"),
    ("discrete_h0", "ode_h0", "step size"),
    ("ode_h0", "ode_inf", "finite width"),
)
_BELOW: dict[str, Any] = {"ncols": 3, "fontsize": 8, "frameon": False}


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(4.5, 3.4), layout="constrained").subplots()


def curves(method: _Method, ax: Axes | None = None) -> Axes:
    r"""Draw the loss of a method: trained, iterated and both ODEs, averaged over seeds.

    The abscissa is logarithmic where the exact law of the ODE is a power, so that the law is a
    straight line; the ordinate always is.

    Parameters
    ----------
    method : MethodReport
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

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
    ax = _axes(ax)
    k = method.curves["k"]
    power = method.exact_ode is not None and method.exact_ode.law == "power"
    shown = slice(int(power), None)
    initial = method.curves["trained"][:, :1]
    for key in sorted({"trained", "ode_inf", "ode_h0", "discrete_h0"} & set(method.curves), reverse=True):
        label, style = _LEVELS[key]
        with np.errstate(invalid="ignore"):
            ratio = method.curves[key] / initial
        ax.plot(k[shown], ratio.mean(axis=0)[shown], label=label, **style)
        if key == "trained" and len(ratio) > 1:
            low, high = ratio.min(axis=0)[shown], ratio.max(axis=0)[shown]
            ax.fill_between(k[shown], low, high, color=style["color"], alpha=0.2, linewidth=0)
    ax.set(xscale="log" if power else "linear", yscale="log")
    finite = method.curves.get("discrete_h0", method.curves["trained"]) / initial
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if finite.size:
        ax.set_ylim(bottom=max(finite.min() / 3, 1e-30), top=max(3.0, min(3 * finite.max(), 1e6)))
    ax.set(xlabel="iteration $k$", ylabel=r"loss $L_k/L_0$")
    return ax


def check_budget(method: _Method, ax: Axes | None = None) -> Axes:
    r"""Draw the parts of the error budget of a check along the iterations, relative to the initial loss.

    Parameters
    ----------
    method : MethodReport
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

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
    ax = _axes(ax)
    initial = method.curves["trained"][:, :1]
    smallest = 1.0
    for upper, lower, part in [part for part in _COARSE_PARTS if {*part[:2]} <= {*method.curves}]:
        with np.errstate(invalid="ignore"):
            gap = (np.abs(method.curves[upper] - method.curves[lower]) / initial).mean(axis=0)[1:]
        ax.plot(method.curves["k"][1:], gap, label=part, color=_PARTS[part]["color"], linewidth=1.2)
        smallest = min(smallest, gap[gap > 0].min(initial=1.0))
    ax.set(xscale="log", yscale="log", xlabel="iteration $k$", ylabel=r"$|\Delta L|/L_0$")
    ax.set_ylim(bottom=max(1e-9, smallest / 3))
    return ax


def budget(found: _Budget, axes: Sequence[Axes] | np.ndarray | None = None) -> Axes:
    r"""Draw an error budget along a run: the loss of all levels, then its parts in loss and in error vectors.

    All relative to the start. The trained network is drawn beside the parts, so that these can be read
    against what is left, too. A prediction that diverges leaves the upper edge.

    Parameters
    ----------
    found : ErrorBudget
    axes : sequence of three matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The first of them; its ``figure`` holds the others.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import HeavyBall, plot
    >>> from odeopt.nets import TwoLayerReLU, error_budget, train
    >>> net, x, y = TwoLayerReLU(3, 64), np.eye(3), [0.0, 1.0, 3.0]
    >>> found = error_budget(train(net, HeavyBall(0.1, 0.5), x, y, 30), net=net, x=x)
    >>> [ax.get_ylabel() for ax in plot.budget(found).figure.axes][:2]
    ['loss $L_k/L_0$', 'parts of the loss $|\\delta L_k|/L_0$']
    """
    from matplotlib.figure import Figure

    own = Figure(figsize=(10.5, 4.1), layout="constrained") if axes is None else None
    panels = np.asarray(axes if own is None else own.subplots(1, 3))
    for ax, (ordinate, whole, lines) in zip(panels, _panels(found), strict=True):
        for key, values in lines.items():
            label, style = _line(key)
            ax.plot(found.k[1:], np.abs(values)[1:] / whole[0], label=label, **style)
        sizes = [np.max(np.abs(v), where=np.isfinite(v), initial=0) / whole[0] for v in lines.values()]
        # The end of the run, or two decades below the largest value of the smallest part: the zeros of a
        # difference would take up the picture.
        least = whole[-1] / whole[0] if "trained" in lines else min([s for s in sizes if s > 0]) / 40
        ax.set(xscale="log", yscale="log", ylim=(least / 2, min(30, 2 * max(1, *sizes))), ylabel=ordinate)
        clock = f"(k+{found.time_origin:g})" if found.time_origin else "k"
        ax.set_xlabel(f"iteration $k$,   time $t={found.time_step:.3g}\\,{clock}$")
        if own is None:
            ax.legend(fontsize=7)
    if own is not None:
        own.suptitle(f"{found.label}, n = {next(iter(found.vector_parts.values())).shape[1]}", fontsize=10)
        own.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", **_BELOW)
        own.legend(*panels[1].get_legend_handles_labels(), loc="outside lower right", **_BELOW)
    return panels[0]


def _panels(found: _Budget) -> list[tuple[str, np.ndarray, Mapping[str, np.ndarray]]]:
    """Ordinate, the trained curve and all lines of each of the three panels of a budget."""
    loss = found.losses["trained"]
    norm = np.sqrt(2 * loss)
    vectors = {part: np.linalg.norm(gap, axis=1) for part, gap in found.vector_parts.items()}
    return [
        ("loss $L_k/L_0$", loss, found.losses),
        (r"parts of the loss $|\delta L_k|/L_0$", loss, {"whole": loss, **found.loss_parts}),
        (r"parts of the error $\|\delta\Delta_k\|/\|\Delta_0\|$", norm, {"whole": norm, **vectors}),
    ]


def _line(key: str) -> tuple[str, dict[str, Any]]:
    """Label and style of a level or part of a budget."""
    if key == "whole":
        return "trained network", {"color": "0.75", "linewidth": 3}
    return _LEVELS[key] if key in _LEVELS else (key, _PARTS[key])


def check(report: _Report, axes: np.ndarray | None = None) -> Axes:
    r"""Draw curves (upper row) and error budgets (lower row) of all methods of a check.

    Parameters
    ----------
    report : CheckReport
    axes : array of matplotlib.axes.Axes, shape (2, number of methods), optional

    Returns
    -------
    matplotlib.axes.Axes
        The first of them; its ``figure`` holds the rest.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import check, plot
    >>> from odeopt.studies import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> len(plot.check(report).figure.axes)
    2
    """
    count = len(report.methods)
    if axes is None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * count + 0.4, 6.2), layout="constrained")
        axes = figure.subplots(2, count, squeeze=False)
        s, p = report.settings, report.problem
        figure.suptitle(
            f"n = {p['n']}, width {s.width}, {s.seeds} seed{'s' * (s.seeds > 1)}, {s.layers} layer"
            f"{'s' * (s.layers == 'both')} trained;  "
            rf"$\lambda_{{\min}}$ = {p['lambda_min_h_inf']:.3g}, "
            rf"$\lambda_{{\max}}$ = {p['lambda_max_h_inf']:.4g}"
        )
    for (upper, lower), method in zip(axes.T, report.methods, strict=True):
        curves(method, upper)
        name, numbers = method.rule.label[:-1].split("(", 1)
        equation = f"${method.error_ode_latex}$" if method.error_ode_latex else "no ODE in the error"
        upper.set_title(f"{name}\n{numbers}\n{equation}", fontsize=8)
        check_budget(method, lower)
    axes[0, 0].legend(fontsize=8, loc="upper right")
    for lower in [ax for ax in axes[1] if ax.lines][:1]:
        lower.legend(fontsize=8, title="error budget", title_fontsize=8, loc="lower right")
    return axes[0, 0]


def phases(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    values: npt.ArrayLike,
    ax: Axes | None = None,
    *,
    levels: npt.ArrayLike,
    label: str,
) -> Axes:
    """Draw a phase diagram: filled and labelled contours of a quantity over two parameters.

    Parameters
    ----------
    x : array_like, shape (p,)
    y : array_like, shape (n,)
    values : array_like, shape (n, p)
        As of :func:`odeopt.rates.rate_map`; nan stays white.
    ax : matplotlib.axes.Axes, optional
    levels : array_like
        Ascending. What lies outside of them is grey.
    label : str
        Of the colour bar.

    Returns
    -------
    matplotlib.axes.Axes

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

    ax = _axes(ax)
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
    bar.ax.tick_params(labelsize=8)
    return ax


def forecast(found: _Forecast, ax: Axes | None = None) -> Axes:
    r"""Draw the predicted loss of each method with the band of its bounds, and the target.

    Parameters
    ----------
    found : Forecast
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import forecast, plot
    >>> found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    >>> plot.forecast(found).get_yscale()
    'log'
    """
    ax = _axes(ax)
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
