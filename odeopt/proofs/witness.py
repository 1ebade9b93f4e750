r"""Witnesses of tightness: functions on which a flow, or a method, is hardly faster than its certified rate.

A certificate proves :math:`V(t)\le e^{-ct}V(0)` for every function of its class. A witness is one function
of the class and one start from which the mean decay of V is measured, so

.. math:: \text{certified}\ \le\ \text{true}\ \le\ \text{measured},

where the true rate is the largest that holds for V on the whole class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.integrate import integrate_predictions
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.dynamics.prediction import PredictionDynamics
from odeopt.proofs import flow as flows
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.flow import Iteration
from odeopt.shown import Shown, Summary

__all__ = ["Witness", "witness"]

_TOLERANCES: Any = {"rtol": 1e-10, "atol": 1e-18}
_ATTAINED = 1e-9  # relative error of a rate so measured


@dataclass(frozen=True, repr=False)
class Witness(Shown):
    """A function on which the decay of V was measured.

    Parameters
    ----------
    function : str
        Name of the function, with its numbers.
    certified : float
        The proved rate; for iterations the decrease 1 - factor.
    measured : float
        Mean rate of V over the window.
    window : tuple of float
        Times, or iterations.

    Examples
    --------
    >>> from odeopt.proofs.families import heavy_ball
    >>> found = witness(heavy_ball(b=3, mu=1))
    >>> print(f"{found.function}: {found.measured:.8f} >= {found.certified:.8f}")
    quadratic, lam = 1: 0.76393202 >= 0.76393202
    """

    function: str
    certified: float
    measured: float
    window: tuple[float, float]

    def _summary(self) -> Summary:
        rates = f"measured rate {self.measured:.8g}", f"certified {self.certified:.8g}"
        return Summary([self.function, *rates])


@dataclass(frozen=True)
class _Kink(PredictionLoss):
    r"""Smoothed absolute value on a parabola, K (sqrt(u^2 + w^2) - w) + mu u^2 / 2."""

    slope: float
    width: float
    mu: float

    @property
    def smoothness(self):
        return self.slope / self.width + self.mu

    def value(self, u, y):
        e = u - y
        # sqrt(e^2 + w^2) - w without cancellation
        return np.sum(self.slope * e**2 / (np.hypot(e, self.width) + self.width) + self.mu / 2 * e**2)

    def gradient(self, u, y):
        e = u - y
        return self.slope * e / np.hypot(e, self.width) + self.mu * e


@dataclass(frozen=True)
class _Flat(PredictionLoss):
    """A power with a flat bottom, |u|^p / p."""

    power: int
    smoothness = 1e2  # near the start; it sets the time at which friction r/t begins

    def value(self, u, y):
        return np.sum(np.abs(u - y) ** self.power) / self.power

    def gradient(self, u, y):
        e = u - y
        return np.sign(e) * np.abs(e) ** (self.power - 1)


def witness(certificate: Certificate) -> Witness:
    r"""Measure the decay of V on the functions that are known to be slow, and return the slowest.

    Parameters
    ----------
    certificate : Certificate
        With numbers, of a flow of order one or two or of an iteration.

    Returns
    -------
    Witness
        On :math:`K|x|+\frac\mu2x^2` (smoothed), the slowest quadratic, or :math:`|x|^p` for convex functions.

    Raises
    ------
    ValueError
        If the certificate is not proved, holds parameters, or is of third order.

    Examples
    --------
    >>> from odeopt.proofs.families.constant import heavy_ball
    >>> found = witness(heavy_ball(b=3, mu=1))
    >>> found.function, bool(abs(found.measured / found.certified - 1) < 1e-9)
    ('quadratic, lam = 1', True)
    """
    if certificate.rate.free_symbols or certificate.law in ("integral", "potential"):
        raise ValueError(f"a witness needs numbers and a rate, got the {certificate.law} {certificate.rate}")
    certificate.require_proved("there is nothing that a witness could show to be tight")
    if isinstance(certificate.flow, Iteration):
        return _iteration_witness(certificate)
    if certificate.flow.order > 2:
        raise ValueError("witnesses are known for flows of order one and two")
    kind, L = certificate.function_class.kind, certificate.function_class.L
    if kind == "convex":
        return _measure(certificate, _Flat(40), "|x|^40 / 40")
    quadratic = _quadratic(certificate)
    kinks = kind == "strongly convex" and certificate.flow.order == 2 and certificate.flow.hessian == 0
    # no function is slower than what is certified: a quadratic that attains it is the slowest
    if not kinks or L is not None or quadratic.measured <= (1 + _ATTAINED) * quadratic.certified:
        return quadratic
    return min(quadratic, _kinked(certificate), key=lambda w: w.measured)


def _quadratic(certificate: Certificate) -> Witness:
    lam = float(certificate.function_class.mu)
    return _measure(certificate, SquaredLoss(), f"quadratic, lam = {lam:g}", lam)


def _kinked(certificate: Certificate) -> Witness:
    """K|x|, K so large that the parabola is a small part of it from x = 1 on."""
    mu = float(certificate.function_class.mu)
    slope, window = 1e4 * mu, None
    if certificate.law == "power":
        # some five periods before the window: each later one is shorter, and there are ever more of them
        start = max(0.1 / np.sqrt(mu), 1.2 * _earliest(certificate))
        slope, window = (5 / start) ** 2, (start, 2 * start)
    name = f"{slope:.3g} |x| + mu x^2 / 2, smoothed"
    return _measure(certificate, _Kink(slope, 1e-7, mu), name, window=window)


def _measure(
    certificate: Certificate,
    loss: PredictionLoss,
    name: str,
    lam: float = 1.0,
    window: tuple[float, float] | None = None,
) -> Witness:
    """Integrate from x = 1 at rest, and compare V at two late times."""
    flow: Any = certificate.flow
    window = window or _window(certificate, isinstance(loss, _Kink))
    run = integrate_predictions(
        PredictionDynamics(_dynamics(flow), loss), [[lam]], [1.0], [0.0], np.array(window), **_TOLERANCES
    )
    x, v = run.u[:, 0], run.velocity[:, 0]
    g = lam * np.array([loss.gradient(run.u[i], np.zeros(1))[0] for i in range(2)])
    state = {flows.f: lam * run.loss, flows.x: x, flows.v: v, flows.g: g, flows.time: np.array(window)}
    state[flows.y] = v + float(flow.hessian) * g
    names = [s for s in state if certificate.energy.has(s)]
    first, last = np.log(sympy.lambdify(names, certificate.energy, "numpy")(*(state[s] for s in names)))
    length = np.log(window[1] / window[0]) if certificate.law == "power" else window[1] - window[0]
    # a correction of the power belongs to what is certified: its share is taken off
    share = float(sympy.integrate(certificate.correction, (flows.time, *window)))
    return Witness(name, float(certificate.rate), float((first - last - share) / length), window)


def _earliest(certificate: Certificate) -> float:
    lower: Any = certificate.domain[0].lower
    return float(lower)


def _window(certificate: Certificate, kinked: bool) -> tuple[float, float]:
    """Two times that are late enough for the fast modes to be gone, and early enough to be exact."""
    if certificate.law == "power":
        start = _earliest(certificate)
        return (
            (1e3, 1e6)
            if certificate.function_class.kind == "convex"
            else (30.0 + 5 * start, 300.0 + 50 * start)
        )
    rate = float(certificate.rate)
    return (0.1 / rate, 1.1 / rate) if kinked else (8 / rate, 16 / rate)


def _dynamics(flow: Any) -> ErrorDynamics:
    """The flow as it acts on one mode; the kernel and the loss make the function."""
    t, lam = sympy.Symbol("t", positive=True), sympy.Symbol("lam", positive=True)
    damping = [
        c.xreplace({flows.time: t}) + (flow.hessian * lam if j == 0 else 0)
        for j, c in enumerate(flow.friction)
    ]
    start = (sympy.S.Zero,) * (flow.order - 1)
    return ErrorDynamics((flow.force * lam, *damping, sympy.S.One), start, t, lam, 1.0, ())


def _iteration_witness(certificate: Certificate) -> Witness:
    """Run the iteration on the slowest quadratic of a grid."""
    flow: Any = certificate.flow
    functions: Any = certificate.function_class
    low, high = float(functions.mu), float(functions.L)
    names = [*flow.vectors, *flow.values]
    energy = sympy.lambdify(names, certificate.energy, "numpy")
    grid = np.unique(np.concatenate([[low, high], np.geomspace(low, high, 41)]))
    lr, beta, gamma = (float(c) for c in (flow.lr, flow.beta, flow.gamma))
    x = x_prev = np.ones_like(grid)
    window = (20, 40)
    values = []
    for k in range(window[1] + 1):
        y = x + gamma * (x - x_prev)
        g = grid * y
        if k in window:
            state = {
                flows.x0: x,
                flows.x1: x_prev,
                flows.g0: g,
                flows.g1: 0 * g,
                flows.f0: grid * y**2 / 2,
                flows.f1: 0,
            }
            values.append(energy(*(state[s] for s in names)))
        x, x_prev = x + beta * (x - x_prev) - lr * g, x
    # a mode that reaches zero exactly has no factor
    ratios = np.divide(values[1], values[0], out=np.zeros_like(grid), where=values[0] > 0)
    factors = ratios ** (1 / (window[1] - window[0]))
    worst = int(np.argmax(factors))
    name = f"quadratic, lam = {grid[worst]:.4g}"
    return Witness(name, 1 - float(certificate.rate), 1 - float(factors[worst]), window)
