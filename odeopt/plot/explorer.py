"""Sliders for a method, and views that follow them."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from odeopt.checks import require_integer
from odeopt.plot.explored import METHODS, SCHEDULES, LossView, PortraitView, RootView, Setting, View
from odeopt.spectra.measure import SpectralMeasure, require_measure, spectral_measure

__all__ = ["Explorer", "explore"]

_LONGEST = 5000


class Explorer:
    r"""What :func:`odeopt.explore` returns: a notebook shows it.

    Parameters
    ----------
    measure : SpectralMeasure
        As of :func:`odeopt.explore`.
    num_steps : int
        Length of the run.
    widgets : module
        The module ipywidgets.

    Attributes
    ----------
    controls : dict
        The widgets by name: "method", "schedule", "lr", "momentum", "friction", "r", "eigenvalue", "step".
        Their ``value`` can be set in code as well.
    views : dict
        "roots", "loss" and "portrait"; ``views[name].lines`` are matplotlib's lines by name.
    images : dict
        The widgets that show the views.
    equation : ipywidgets.HTML
        The rule and its ODE in the error.
    widget : ipywidgets.VBox
        All of it.

    Examples
    --------
    >>> import odeopt
    >>> explorer = odeopt.explore(num_steps=20)
    >>> explorer.controls["method"].value = "gradient descent"
    >>> explorer
    Explorer(GradientDescent(lr=1), 20 steps)
    """

    controls: dict[str, Any]
    views: dict[str, View]
    images: dict[str, Any]
    equation: Any
    widget: Any

    def __init__(self, measure: SpectralMeasure, num_steps: int, widgets: Any):
        self.num_steps = num_steps
        kinds: dict[str, type[View]] = {"roots": RootView, "loss": LossView, "portrait": PortraitView}
        self.views = {name: kind(measure, num_steps) for name, kind in kinds.items()}
        low, high = self.views["loss"].ends
        self.controls = _controls(widgets, low, high, num_steps)
        self.equation = widgets.HTML()
        self.images = {name: widgets.Image(format="png") for name in self.views}
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._moved(name), names="value")
        self._following = False
        self._moved("momentum")
        rows = [widgets.VBox(list(self.controls.values())), self.equation]
        pictures = widgets.HBox(list(self.images.values()), layout={"flex_flow": "row wrap"})
        self.widget = widgets.VBox([*rows, pictures])

    @property
    def setting(self) -> Setting:
        """Where the sliders stand."""
        names = ("method", "schedule", "lr", "momentum", "r", "step", "eigenvalue")
        values = {name: self.controls[name].value for name in names}
        return Setting(num_steps=self.num_steps, **values)

    def _moved(self, name: str) -> None:
        """Bring momentum and friction in line, and let the views follow."""
        if self._following:
            return
        self._following = True  # what is set below moves nothing further
        friction, momentum = self.controls["friction"], self.controls["momentum"]
        if name == "friction":
            momentum.value = 1 - friction.value * self.controls["lr"].value ** 0.5
        friction.value = self.setting.friction
        self._following = False
        kind = METHODS[self.setting.method]
        for control, needed in ((momentum, "b"), (friction, "b"), (self.controls["r"], "r")):
            control.disabled = kind != needed
        for view_name in _AFFECTED.get(name, tuple(self.views)):
            view = self.views[view_name]
            view.follow(self.setting)
            self.images[view_name].value = view.png()
        said = f"{self.setting.rule.label}: {self.setting.mode.dynamics}"
        self.equation.value = f"<code>{html.escape(said)}</code>"

    def __repr__(self) -> str:
        return f"Explorer({self.setting.rule.label}, {self.num_steps} steps)"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)


_AFFECTED = {"step": ("roots",), "eigenvalue": ("portrait",)}


def _controls(widgets: Any, low: float, high: float, num_steps: int) -> dict[str, Any]:
    """The widgets by name; learning rates up to 4/L, beyond which every method here diverges."""
    style = {"style": {"description_width": "11em"}, "layout": {"width": "32em"}}

    def logarithmic(value: float, least: float, most: float, name: str) -> Any:
        ends = {"min": np.log10(least), "max": np.log10(most), "step": 0.01}
        return widgets.FloatLogSlider(value=value, base=10, description=name, **ends, **style)

    def linear(value: float, most: float, step: float, name: str, least: float = 0.0) -> Any:
        ends = {"min": least, "max": most, "step": step}
        return widgets.FloatSlider(value=value, description=name, readout_format=".4g", **ends, **style)

    return {
        "method": widgets.Dropdown(options=[*METHODS], value="heavy ball", description="method", **style),
        "schedule": widgets.Dropdown(options=[*SCHEDULES], description="schedule of η", **style),
        "lr": logarithmic(1 / high, 1e-3 / high, 4 / high, "learning rate η"),
        "momentum": linear(0.9, 0.999, 0.001, "momentum β"),
        "friction": logarithmic(
            high**0.5, 0.001 * (high / 4) ** 0.5, (1e3 * high) ** 0.5, "friction b = (1 − β)/√η"
        ),
        "r": linear(3.0, 12.0, 0.1, "order r of friction r/t", 1.0),
        "eigenvalue": logarithmic(low, low, max(high, 1.001 * low), "eigenvalue λ of the mode"),
        "step": widgets.IntSlider(
            value=num_steps // 2, min=0, max=num_steps, description="roots at step k", **style
        ),
    }


def explore(measure: SpectralMeasure | None = None, *, num_steps: int = 200) -> Explorer:
    r"""Move sliders for method, learning rate, momentum, friction and schedule, and see what follows.

    Beside each other: the roots of the characteristic polynomial of a step in the unit disk, for eigenvalues
    from the smallest to the largest; the loss of the iteration and of its ODE; one mode in the phase plane.
    All of them come from :func:`odeopt.rules.transition_matrix`, :func:`odeopt.loss_curve`,
    :func:`odeopt.rules.residual_polynomials` and the mode of :func:`odeopt.error_dynamics`. With a schedule
    the ODE has no closed form; it is integrated, and drawn at fewer points.

    Parameters
    ----------
    measure : SpectralMeasure, optional
        Of your problem (:func:`odeopt.spectral_measure`). By default twelve eigenvalues from 0.01 to 1 with
        equal weights.
    num_steps : int, optional
        Length of the run, from 10 to 5000.

    Returns
    -------
    Explorer
        The last line of a cell shows it; its ``controls`` can be set in code.

    Raises
    ------
    ImportError
        Without ipywidgets, which the extra ``explore`` brings.
    ValueError
        If `measure` is none or has no positive eigenvalue, or `num_steps` is out of range.

    Examples
    --------
    >>> import odeopt
    >>> explorer = odeopt.explore(num_steps=50)
    >>> explorer.controls["lr"].value = 0.25
    >>> explorer
    Explorer(HeavyBall(lr=0.25, momentum=0.9), 50 steps)
    >>> explorer.views["loss"].lines["iteration"].get_xdata()[-1]
    np.int64(50)
    """
    num_steps = require_integer("num_steps", num_steps, 10, _LONGEST)
    if measure is None:
        measure = spectral_measure(np.diag(np.geomspace(0.01, 1, 12)), np.ones(12))
    require_measure(measure)
    if not measure.nodes.size or measure.lam_max <= 0:
        raise ValueError("measure must have a positive eigenvalue, got none; an error of 0 has no modes")
    try:
        import ipywidgets as widgets
    except ImportError as error:
        raise ImportError("explore needs ipywidgets: pip install 'odeopt[explore]'") from error
    return Explorer(measure, num_steps, widgets)
