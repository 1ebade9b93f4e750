r"""What the sliders of the explorer set, and the views that follow: roots, losses, a phase portrait.

A view draws its axes once; a new setting moves the data of its lines, which are painted over the axes.
"""

from __future__ import annotations

import functools
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from odeopt.dynamics.error import ErrorDynamics, error_dynamics
from odeopt.dynamics.integrated_mode import integrated_mode
from odeopt.dynamics.modes import ModeSolution, mode_solution
from odeopt.limits.ode import ode_limit
from odeopt.plot.style import COLOURS, styled
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov, NesterovConstant
from odeopt.rules.linear import residual_polynomials, transition_matrix
from odeopt.rules.schedules import Cosine, Linear, Warmup
from odeopt.spectra.curve import loss_curve
from odeopt.spectra.measure import SpectralMeasure

__all__ = ["METHODS", "SCHEDULES", "LossView", "PortraitView", "RootView", "Setting", "View"]

# Whether a method has a momentum and friction b, or the order r of a friction r/t.
METHODS = {"gradient descent": "", "heavy ball": "b", "Nesterov, constant momentum": "b", "Nesterov": "r"}
SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "constant": lambda lr, steps: lr,
    "cosine": lambda lr, steps: Cosine(lr, steps=steps),
    "linear": lambda lr, steps: Linear(lr, steps=steps),
    "warmup, then constant": lambda lr, steps: Warmup(steps / 10) * lr,
}
_h, _b, _r, _T = sympy.symbols("h b r T", positive=True)
_ROOTS = 64  # eigenvalues of which roots are drawn
_COARSE = 20  # times at which an ODE without a closed form is drawn: it is integrated, which takes its time
_LARGEST = 1e12  # of what is drawn


def _rule(method: str, lr: Any, momentum: Any, r: Any) -> UpdateRule:
    kinds = {"gradient descent": (), "heavy ball": (momentum,), "Nesterov": (r,)}
    rules = {"gradient descent": GradientDescent, "heavy ball": HeavyBall, "Nesterov": Nesterov}
    return rules.get(method, NesterovConstant)(lr, *kinds.get(method, (momentum,)))


@functools.lru_cache(maxsize=32)
def _dynamics(method: str, schedule: str) -> ErrorDynamics:
    """The ODE of a method in symbols: time step h, friction b, order r, a schedule over the time T."""
    lr = _h if METHODS[method] == "" else _h**2
    rule = _rule(method, SCHEDULES[schedule](lr, _T / _h), 1 - _b * _h, _r)
    return error_dynamics(ode_limit(rule, _h))


@functools.lru_cache(maxsize=32)
def _mode(method: str, schedule: str, numbers: tuple[tuple[sympy.Symbol, float], ...]) -> ModeSolution:
    dynamics = _dynamics(method, schedule).subs(dict(numbers))
    return mode_solution(dynamics) if schedule == "constant" else integrated_mode(dynamics, rtol=1e-6)


@dataclass(frozen=True)
class Setting:
    """Where the sliders stand: `step` is that whose roots are drawn, `eigenvalue` that of the portrait."""

    method: str
    schedule: str
    lr: float
    momentum: float
    r: float
    num_steps: int
    step: int
    eigenvalue: float

    @property
    def rule(self) -> UpdateRule:
        """The rule."""
        lr = SCHEDULES[self.schedule](self.lr, self.num_steps)
        return _rule(self.method, lr, self.momentum, self.r)

    @property
    def time_step(self) -> float:
        """h, with t = k h: the learning rate of descent, its root for momentum."""
        return self.lr if METHODS[self.method] == "" else self.lr**0.5

    @property
    def friction(self) -> float:
        r""":math:`b=(1-\beta)/\sqrt\eta`."""
        return (1 - self.momentum) / self.lr**0.5

    @property
    def mode(self) -> ModeSolution:
        """The mode of the ODE, in closed form but for schedules."""
        numbers: dict[sympy.Symbol, float] = {_h: self.time_step, _T: self.num_steps * self.time_step}
        numbers |= {_b: self.friction, _r: self.r}
        holds = set().union(*(c.free_symbols for c in _dynamics(self.method, self.schedule).coefficients))
        return _mode(self.method, self.schedule, tuple((s, v) for s, v in numbers.items() if s in holds))

    @property
    def steps_of_ode(self) -> np.ndarray:
        """The k at whose times the ODE is drawn."""
        count = self.num_steps if self.mode.family != "integrated" else min(_COARSE, self.num_steps)
        return np.unique(np.linspace(0, self.num_steps, count + 1).astype(int))


def _shown(values: np.ndarray) -> np.ndarray:
    """Values that can be drawn; the rest is a gap."""
    with np.errstate(invalid="ignore"):
        return np.where(np.abs(values) < _LARGEST, values, np.nan)


class View(ABC):
    """Axes with lines that follow a setting."""

    size: tuple[float, float] = (3.9, 3.5)
    measure: SpectralMeasure
    num_steps: int
    ends: tuple[float, float]
    figure: Any
    canvas: Any
    background: Any

    def __init__(self, measure: SpectralMeasure, num_steps: int):
        self.measure, self.num_steps = measure, num_steps
        positive = measure.nodes[measure.nodes > 0]
        self.ends = (float(positive[0]), float(positive[-1]))
        self.lines: dict[str, Any] = {}
        self._blank()

    @styled
    def _blank(self, axes: Any = None) -> None:
        """Draw the axes, and keep them as pixels."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=self.size, layout="constrained")
        self.canvas = FigureCanvasAgg(self.figure)
        ax = self.figure.subplots()
        self.lines = self.prepare(ax)
        ax.legend(loc=self.place)
        for line in self.lines.values():
            line.set_animated(True)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)
        for line in self.lines.values():
            line.set_animated(False)

    place: str = "upper right"

    @abstractmethod
    def prepare(self, ax: Any) -> dict[str, Any]:
        """The lines, without data, by name."""

    @abstractmethod
    def data(self, setting: Setting) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Abscissae and ordinates of the lines, by name."""

    def follow(self, setting: Setting) -> None:
        """Move the lines, and paint them over the axes."""
        self.canvas.restore_region(self.background)
        for name, (x, y) in self.data(setting).items():
            self.lines[name].set_data(x, y)
            self.lines[name].axes.draw_artist(self.lines[name])

    def png(self) -> bytes:
        """What is painted, as a file."""
        from PIL import Image

        found, size = io.BytesIO(), self.canvas.get_width_height()
        image = Image.frombuffer("RGBA", size, self.canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        image.convert("RGB").save(found, "png", compress_level=1)
        return found.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


class RootView(View):
    """Roots of the characteristic polynomial of a step, over the interval of eigenvalues."""

    place = "lower left"

    def prepare(self, ax: Any) -> dict[str, Any]:
        around = np.linspace(0, 2 * np.pi, 400)
        ax.plot(np.cos(around), np.sin(around), color="0.6", linewidth=0.8)
        for axis in (ax.axhline, ax.axvline):
            axis(0, color="0.85", linewidth=0.6, zorder=0)
        ax.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xlabel="real part", ylabel="imaginary")
        ax.set_title("roots $z$ of a step, unit circle")
        dots: dict[str, Any] = {"linestyle": "none"}
        return {
            "all": ax.plot([], [], ".", color=COLOURS[0], markersize=3, label=r"all $\lambda$", **dots)[0],
            "smallest": ax.plot([], [], "o", color=COLOURS[1], label=r"$\lambda_{\min}$", **dots)[0],
            "largest": ax.plot([], [], "s", color=COLOURS[2], label=r"$\lambda_{\max}$", **dots)[0],
        }

    @property
    def eigenvalues(self) -> np.ndarray:
        """Those of which roots are drawn."""
        return np.geomspace(*self.ends, _ROOTS) if self.ends[0] < self.ends[1] else np.array(self.ends)

    def data(self, setting: Setting) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        roots = np.linalg.eigvals(transition_matrix(setting.rule, self.eigenvalues, setting.step))
        parts = {"all": roots.ravel(), "smallest": roots[0], "largest": roots[-1]}
        return {name: (_shown(z.real), _shown(z.imag)) for name, z in parts.items()}


class LossView(View):
    """The loss of the iteration and of its ODE, relative to the start."""

    def prepare(self, ax: Any) -> dict[str, Any]:
        ax.set(yscale="log", xlim=(0, self.num_steps), ylim=(1e-10, 1e2))
        ax.set(xlabel="iteration $k$", ylabel="loss $L_k/L_0$", title="loss")
        return {
            "iteration": ax.plot([], [], color=COLOURS[0], label="iteration")[0],
            "ODE": ax.plot([], [], "--", color=COLOURS[1], label="ODE")[0],
        }

    def data(self, setting: Setting) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        k, at = np.arange(setting.num_steps + 1), setting.steps_of_ode
        iteration = loss_curve(setting.rule, self.measure, k, bounds=False).loss
        ode = loss_curve(setting.mode, self.measure, at * setting.time_step, bounds=False).loss
        return {"iteration": (k, _shown(iteration / iteration[0])), "ODE": (at, _shown(ode / iteration[0]))}


class PortraitView(View):
    r"""One mode: its value, and its change over a step divided by h, in units of its own rate."""

    place = "lower right"

    def prepare(self, ax: Any) -> dict[str, Any]:
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal", title="one mode, from 1 at rest")
        ax.set(xlabel=r"mode $\varphi$", ylabel=r"velocity $\dot\varphi/\lambda^{1/n}$, order $n$")
        ax.plot(0, 0, "+", color="0.4")
        return {
            "iteration": ax.plot([], [], ".-", color=COLOURS[0], linewidth=0.5, label="iteration")[0],
            "ODE": ax.plot([], [], "--", color=COLOURS[1], label="ODE")[0],
        }

    def data(self, setting: Setting) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        lam, h = [setting.eigenvalue], setting.time_step
        scale = h * setting.eigenvalue ** (1 if METHODS[setting.method] == "" else 0.5)
        run = residual_polynomials(setting.rule, lam, np.arange(setting.num_steps + 1))[:, 0]
        at = setting.steps_of_ode
        if setting.mode.family == "integrated":
            at = at[::2]
        at = np.maximum(at, 1)
        mode = setting.mode(np.stack([at - 1, at], axis=1).ravel() * h, lam).reshape(at.size, 2)
        with np.errstate(invalid="ignore"):
            return {
                "iteration": (_shown(run[1:]), _shown(np.diff(run) / scale)),
                "ODE": (_shown(mode[:, 1]), _shown(np.diff(mode)[:, 0] / scale)),
            }
