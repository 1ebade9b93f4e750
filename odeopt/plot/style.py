"""Colours, styles of lines, and the axes a picture is drawn on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BELOW", "COLOURS", "LEVELS", "PARTS", "on_axes"]

# Colours by Okabe and Ito, told apart by colour-blind readers: one a method, or a schedule.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
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
BELOW: dict[str, Any] = {"ncols": 3, "fontsize": 8, "frameon": False}


def on_axes(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(4.5, 3.4), layout="constrained").subplots()
