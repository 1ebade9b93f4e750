r"""Pictures of a check: curves of each method, and the parts of what parts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from odeopt.plot.style import LEVELS, PARTS, on_axes
from odeopt.rates.rate import Rate
from odeopt.rules.base import UpdateRule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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


def curves(method: _Method, ax: Axes | None = None) -> Axes:
    r"""Draw the loss of a method: trained, iterated and both ODEs, averaged over seeds.

    The abscissa is logarithmic where the exact law of the ODE is a power, so that the law is a
    straight line; the ordinate always is.

    Parameters
    ----------
    method : MethodReport
        One method of a check, as ``report["gd"]``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.

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
    ax = on_axes(ax)
    k = method.curves["k"]
    power = method.exact_ode is not None and method.exact_ode.law == "power"
    shown = slice(int(power), None)
    initial = method.curves["trained"][:, :1]
    for key in sorted({"trained", "ode_inf", "ode_h0", "discrete_h0"} & set(method.curves), reverse=True):
        label, style = LEVELS[key]
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
        One method of a check, as ``report["gd"]``; a part is drawn where both of its curves are known.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default axes of a new figure, which no window shows.

    Returns
    -------
    matplotlib.axes.Axes
        Holds a line for each known part; its ``figure`` saves them.

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
    ax = on_axes(ax)
    initial = method.curves["trained"][:, :1]
    smallest = 1.0
    for upper, lower, part in [part for part in _COARSE_PARTS if {*part[:2]} <= {*method.curves}]:
        with np.errstate(invalid="ignore"):
            gap = (np.abs(method.curves[upper] - method.curves[lower]) / initial).mean(axis=0)[1:]
        ax.plot(method.curves["k"][1:], gap, label=part, color=PARTS[part]["color"], linewidth=1.2)
        smallest = min(smallest, gap[gap > 0].min(initial=1.0))
    ax.set(xscale="log", yscale="log", xlabel="iteration $k$", ylabel=r"$|\Delta L|/L_0$")
    ax.set_ylim(bottom=max(1e-9, smallest / 3))
    return ax


def check(report: _Report, axes: np.ndarray | None = None) -> Axes:
    r"""Draw curves (upper row) and error budgets (lower row) of all methods of a check.

    Parameters
    ----------
    report : CheckReport
        What :func:`odeopt.check` found.
    axes : array of matplotlib.axes.Axes, shape (2, number of methods), optional
        Where to draw, a column for each method; by default a new figure.

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
