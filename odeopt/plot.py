r"""Pictures of value types: each function draws on given axes, returns them, and never calls ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy

from odeopt.checks import nonnegative_grid
from odeopt.dynamics.mode_values import companion
from odeopt.rules.linear import spectral_radius

if TYPE_CHECKING:
    from odeopt.dynamics.error import ErrorDynamics
    from odeopt.nets.budget import ErrorBudget
    from odeopt.rules.base import UpdateRule
    from odeopt.studies.check_report import CheckReport, MethodReport
    from odeopt.studies.forecast import Forecast

__all__ = ["budget", "check", "curves", "forecast", "phases", "plot_budget", "radius_map", "rate_map"]

# Colours by Okabe and Ito, told apart by colour-blind readers and in grey.
_CURVES = {  # key: (label, style)
    "ode_inf": (r"ODE, $H_\infty$", {"color": "#009E73", "linestyle": ":", "linewidth": 1.8}),
    "ode_h0": (r"ODE, $H(0)$", {"color": "#0072B2", "linestyle": "--", "linewidth": 1.6}),
    "discrete_h0": (r"iteration, $H(0)$", {"color": "#000000", "linewidth": 1.0}),
    "trained": ("trained network", {"color": "#D55E00", "linewidth": 3.0, "alpha": 0.55}),
}
_BUDGET = (
    ("trained", "discrete_h0", "drift and flips", "#D55E00"),
    ("discrete_h0", "ode_h0", "step size", "#0072B2"),
    ("ode_h0", "ode_inf", "finite width", "#009E73"),
)


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(4.5, 3.4), layout="constrained").subplots()


def curves(method: MethodReport, ax: Any = None) -> Any:
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
    >>> from odeopt.studies.check_report import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> plot.curves(report["gd"]).get_ylabel()
    'loss $L_k/L_0$'
    """
    ax = _axes(ax)
    k = method.curves["k"]
    shown = slice(1, None) if method.exact_ode.law == "power" else slice(None)
    initial = method.curves["trained"][:, :1]
    for key in ("trained", "ode_inf", "ode_h0", "discrete_h0"):
        label, style = _CURVES[key]
        with np.errstate(invalid="ignore"):
            ratio = method.curves[key] / initial
        ax.plot(k[shown], ratio.mean(axis=0)[shown], label=label, **style)
        if key == "trained" and len(ratio) > 1:
            low, high = ratio.min(axis=0)[shown], ratio.max(axis=0)[shown]
            ax.fill_between(k[shown], low, high, color=style["color"], alpha=0.2, linewidth=0)
    if method.exact_ode.law == "power":
        ax.set_xscale("log")
    ax.set_yscale("log")
    finite = method.curves["discrete_h0"] / initial
    finite = finite[np.isfinite(finite) & (finite > 0)]
    if finite.size:
        ax.set_ylim(bottom=max(finite.min() / 3, 1e-30), top=max(3.0, min(3 * finite.max(), 1e6)))
    ax.set_xlabel("iteration $k$")
    ax.set_ylabel(r"loss $L_k/L_0$")
    return ax


def budget(method: MethodReport, ax: Any = None) -> Any:
    r"""Draw the parts of the error budget along the iterations, relative to the initial loss.

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
    >>> from odeopt.studies.check_report import CheckSettings
    >>> small = CheckSettings(width=64, seeds=1, num_steps=20)
    >>> report = check(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], settings=small)
    >>> plot.budget(report["gd"]).get_xscale()
    'log'
    """
    ax = _axes(ax)
    k = method.curves["k"][1:]
    initial = method.curves["trained"][:, :1]
    for upper, lower, label, color in _BUDGET:
        with np.errstate(invalid="ignore"):
            gap = np.abs(method.curves[upper] - method.curves[lower]) / initial
        ax.plot(k, gap.mean(axis=0)[1:], label=label, color=color, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    smallest = min(
        (line.get_ydata()[line.get_ydata() > 0].min(initial=1.0) for line in ax.lines), default=1.0
    )
    ax.set_ylim(bottom=max(1e-9, smallest / 3))
    ax.set_xlabel("iteration $k$")
    ax.set_ylabel(r"$|\Delta L|/L_0$")
    return ax


# Parts of an error budget: colours and line styles, told apart in grey as well.
_STEP = {"color": "#0072B2", "linestyle": (0, (5, 1.5))}
_FINER = {"color": "#56B4E9", "linestyle": (0, (1, 1))}
_PARTS = {
    "whole": ("trained network", {"color": "0.75", "linewidth": 3}),
    "high_resolution_h0": ("high-resolution ODE, $H(0)$", _FINER),
    "drift and flips": ("drift and flips", {"color": "#D55E00"}),
    "beyond the high-resolution ODE": ("beyond the high-resolution ODE", _FINER),
    "step-size correction": ("step-size correction", _STEP),
    "step size": ("step size", _STEP),
    "finite width": ("finite width", {"color": "#009E73", "linestyle": (0, (5, 1.5, 1, 1.5))}),
}


def plot_budget(found: ErrorBudget, axes: Any = None) -> Any:
    r"""Draw an error budget along a run: the loss of all levels, then its parts in loss and in error vectors.

    All relative to the start. The trained network is drawn beside the parts, so that these can be read
    against what is left, too. A prediction that diverges leaves the upper edge.

    Parameters
    ----------
    found : ErrorBudget
    axes : array of matplotlib.axes.Axes, shape (3,), optional

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
    >>> [ax.get_ylabel() for ax in plot.plot_budget(found).figure.axes][:2]
    ['loss $L_k/L_0$', 'parts of the loss $|\\delta L_k|/L_0$']
    """
    own = axes is None
    if own:
        from matplotlib.figure import Figure

        axes = Figure(figsize=(10.5, 4.1), layout="constrained").subplots(1, 3)
        axes[0].figure.suptitle(f"{found.label}, n = {found.errors['trained'].shape[1]}", fontsize=10)
    loss, clock = found.losses["trained"], f"(k+{found.time_origin:g})" if found.time_origin else "k"
    vectors = {part: np.linalg.norm(gap, axis=1) for part, gap in found.vector_parts.items()}
    panels = (
        ("loss $L_k/L_0$", loss, found.losses),
        (r"parts of the loss $|\delta L_k|/L_0$", loss, {"whole": loss, **found.loss_parts}),
        (
            r"parts of the error $\|\delta\Delta_k\|/\|\Delta_0\|$",
            np.sqrt(2 * loss),
            {"whole": np.sqrt(2 * loss), **vectors},
        ),
    )
    for ax, (ordinate, whole, lines) in zip(axes, panels, strict=True):
        for key, values in lines.items():
            label, style = {**_CURVES, **_PARTS}[key]
            ax.plot(found.k[1:], np.abs(values)[1:] / whole[0], label=label, **style)
        sizes = [np.max(np.abs(v), where=np.isfinite(v), initial=0) / whole[0] for v in lines.values()]
        # The end of the run, or two decades below the largest value of the smallest part: the zeros of a
        # difference would take up the picture.
        least = whole[-1] / whole[0] if "trained" in lines else min([s for s in sizes if s > 0]) / 40
        ax.set(xscale="log", yscale="log", ylim=(least / 2, min(30, 2 * max(1, *sizes))), ylabel=ordinate)
        ax.set_xlabel(f"iteration $k$,   time $t={found.time_step:.3g}\\,{clock}$")
        if not own:
            ax.legend(fontsize=7)
    for ax, side in zip(axes[:2] if own else (), ("left", "right"), strict=False):
        handles = ax.get_legend_handles_labels()
        ax.figure.legend(*handles, loc=f"outside lower {side}", ncols=3, fontsize=8, frameon=False)
    return axes[0]


def check(report: CheckReport, axes: Any = None) -> Any:
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
    >>> from odeopt.studies.check_report import CheckSettings
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
        upper.set_title(f"{name}\n{numbers}\n${method.error_ode_latex}$", fontsize=8)
        budget(method, lower)
    axes[0, 0].legend(fontsize=8, loc="upper right")
    axes[1, 0].legend(fontsize=8, title="error budget", title_fontsize=8, loc="lower right")
    return axes[0, 0]


def rate_map(dynamics: ErrorDynamics, symbol: sympy.Symbol, values, lam) -> np.ndarray:
    r"""Compute the exact rate of one mode of the ODE over a parameter and the eigenvalue.

    Twice the distance of the rightmost characteristic root from the imaginary axis, as in
    :func:`odeopt.exact_rate`, but for all pairs at once.

    Parameters
    ----------
    dynamics : ErrorDynamics
        With constant coefficients in `symbol` and the eigenvalue.
    symbol : sympy.Symbol
        The parameter.
    values : array_like, shape (p,)
        Its values.
    lam : array_like, shape (n,)
        Eigenvalues.

    Returns
    -------
    numpy.ndarray, shape (n, p)
        c in L ~ exp(-c t); negative where the mode grows. Near a double root good to about 1e-8 of the root.

    Raises
    ------
    ValueError
        If the coefficients depend on time or on other symbols.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import HeavyBall, error_dynamics, ode_limit
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> dynamics = error_dynamics(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))
    >>> rate_map(dynamics, b, [1.0, 2.5], [1.0, 4.0])  # b - Re sqrt(b^2 - 4 lam)
    array([[1. , 1. ],
           [1. , 2.5]])
    """
    a = dynamics.coefficients
    other = set().union(*(c.free_symbols for c in a)) - {symbol, dynamics.lam}
    if other:
        raise ValueError(
            f"the coefficients of {dynamics} hold {', '.join(sorted(map(str, other)))} beside {symbol}; "
            "give symbols numbers with dynamics.subs(...), and for friction that depends on time use fit_rate"
        )
    lam = nonnegative_grid(lam, "lam")
    x, y = np.meshgrid(np.asarray(values, dtype=float), lam)
    ratios = [sympy.lambdify((symbol, dynamics.lam), sympy.cancel(c / a[-1]), "numpy") for c in a[:-1]]
    monic = np.array([np.broadcast_to(np.asarray(c(x, y), dtype=float), x.shape).ravel() for c in ratios])
    return -2 * np.linalg.eigvals(companion(monic)).real.max(axis=1).reshape(x.shape)


def radius_map(rules: Sequence[UpdateRule | None], lam) -> np.ndarray:
    r"""Compute the spectral radius of the iteration over rules and eigenvalues.

    Parameters
    ----------
    rules : sequence of UpdateRule or None, length p
        None for hyperparameters that the rule refuses.
    lam : array_like, shape (n,)
        Eigenvalues; with lr = 1 the products lr * lam.

    Returns
    -------
    numpy.ndarray, shape (p, n)
        nan where there is no rule.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> radius_map([HeavyBall(1, 0.25), None], [1.0, 2.5])  # sqrt(0.25), and the limit 2 (1 + 0.25)
    array([[0.5, 1. ],
           [nan, nan]])
    """
    lam = nonnegative_grid(lam, "lam")
    refused = np.full(lam.size, np.nan)
    return np.array([refused if rule is None else spectral_radius(rule, lam) for rule in rules])


def phases(x, y, values, ax: Any = None, *, levels, label: str) -> Any:
    """Draw a phase diagram: filled and labelled contours of a quantity over two parameters.

    Parameters
    ----------
    x : array_like, shape (p,)
    y : array_like, shape (n,)
    values : array_like, shape (n, p)
        As of :func:`rate_map`; nan stays white.
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
    values = np.ma.masked_invalid(np.asarray(values, dtype=float))
    # viridis grows in lightness, also for colour-blind readers, and holds no grey
    colours = colormaps["viridis"].with_extremes(over="0.85", under="0.85")
    # Open ends paint what lies outside; the colour bar has no place for them.
    filled = ax.contourf(x, y, values, levels=levels, cmap=colours, extend="both")
    lines = ax.contour(
        x, y, values, levels=levels, colors="black", linewidths=0.5, linestyles="solid", alpha=0.6
    )
    for text in ax.clabel(lines, lines.levels[2:-1:2], fontsize=7, fmt="%g", inline=False):
        text.set(rotation=0, path_effects=[withStroke(linewidth=2, foreground="white")])
        place = (ax.transData - ax.transAxes).transform(text.get_position())
        text.set_visible(bool(np.abs(place - 0.5).max() < 0.45))  # the frame would cut it
    bar = ax.figure.colorbar(filled, ax=ax, label=label, extendfrac=0)
    bar.ax.tick_params(labelsize=8)
    return ax


_FORECAST_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")


def forecast(found: Forecast, ax: Any = None) -> Any:
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
    for method, colour in zip(found.methods, _FORECAST_COLOURS, strict=False):
        curve, initial = method.curve, found.initial_loss
        ax.plot(curve.k, curve.loss / initial, color=colour, label=f"{method.name}: {method.steps} steps")
        # On a logarithmic axis a lower bound of 0 has no place; the band then reaches the lower edge.
        low = np.maximum(curve.lower / initial, found.target * 1e-4)
        ax.fill_between(curve.k, low, curve.upper / initial, color=colour, alpha=0.2, linewidth=0)
    ax.axhline(found.target, color="0.5", linestyle=":", linewidth=1)
    ax.set_yscale("log")
    ax.set_ylim(bottom=found.target / 10, top=2)
    ax.set_xscale("symlog", linthresh=10)
    ax.set_xlim(left=0)
    ax.set_xlabel("iteration $k$")
    ax.set_ylabel(r"loss $L_k/L_0$")
    ax.legend(fontsize=7, title=f"to {found.target:g} of the initial loss", title_fontsize=7)
    return ax
