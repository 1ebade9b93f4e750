r"""Pictures of value types: each function draws on given axes, returns them, and never calls ``show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from odeopt.report import CheckReport, MethodReport

__all__ = ["budget", "check", "curves"]

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
    >>> from odeopt.check import CheckSettings
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
    >>> from odeopt.check import CheckSettings
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
    ax.set_ylim(bottom=1e-9)
    ax.set_xlabel("iteration $k$")
    ax.set_ylabel(r"$|\Delta L|/L_0$")
    return ax


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
    >>> from odeopt.check import CheckSettings
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
        upper.set_title(f"{method.rule.label}\n${method.error_ode_latex}$", fontsize=9)
        budget(method, lower)
    axes[0, 0].legend(fontsize=8, loc="lower left")
    axes[1, 0].legend(fontsize=8, title="error budget", title_fontsize=8, loc="lower right")
    return axes[0, 0]
