r"""The energy of predictions under any loss, and the variational form of the dynamics.

Multiplied by :math:`H^{-1}`, the dynamics :math:`\ddot u+b(t)\dot u+cH\nabla\ell(u)=0` are those of a
particle in the potential :math:`c\,\ell(u)` whose mass is :math:`H^{-1}`: the dual of the picture in which
:math:`\tfrac12\Delta^\top H\Delta` is the potential and the mass is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import sympy
from sympy import Expr, Function, Symbol

from odeopt.checks import require_integer, validate_kernel
from odeopt.dynamics.integrate import PredictionTrajectory
from odeopt.dynamics.prediction import PredictionDynamics
from odeopt.limits.text import factor_text
from odeopt.rules.formulas import latex
from odeopt.shown import Equation, Shown, Summary, along, rows_at, span

__all__ = ["Energy", "Lagrangian", "energy", "lagrangian"]

# The inverse of a full symbolic kernel has a number of terms that grows like its factorial.
_MOST_COORDINATES = 4


@dataclass(frozen=True, repr=False)
class Energy(Shown):
    r"""Energy along a trajectory, per unit mass: :math:`E=c\,\ell(u)+\tfrac12\dot u^\top H^{-1}\dot u`.

    Parameters
    ----------
    t : numpy.ndarray, shape (T,)
        Times.
    potential : numpy.ndarray, shape (T,)
        :math:`c\,\ell(u)`.
    kinetic : numpy.ndarray, shape (T,)
        :math:`\tfrac12\dot u^\top H^{-1}\dot u`; zero for an equation of first order.
    dissipation : numpy.ndarray, shape (T,)
        :math:`-\dot E`.

    Examples
    --------
    >>> parts = Energy(np.array([0.0]), np.array([2.0]), np.array([0.5]), np.array([0.1]))
    >>> parts.total
    array([2.5])
    """

    t: np.ndarray
    potential: np.ndarray
    kinetic: np.ndarray
    dissipation: np.ndarray

    def _summary(self) -> Summary:
        columns = {"t": self.t, "total": self.total, "potential": self.potential, "kinetic": self.kinetic}
        facts = [along(self), f"energy {span(self.total)}", "of an integrated trajectory"]
        return Summary(facts, *rows_at(columns | {"dissipation": self.dissipation}))

    @property
    def total(self) -> np.ndarray:
        """Potential and kinetic energy, shape (T,)."""
        return self.potential + self.kinetic


def energy(dynamics: PredictionDynamics, kernel: npt.ArrayLike, trajectory: PredictionTrajectory) -> Energy:
    r"""Evaluate the energy of predictions, whose kinetic part is the norm of :math:`H^{-1}`.

    For :math:`\ddot u+b(t)\dot u+cH\nabla\ell(u)=0` and any loss,

    .. math:: E=c\,\ell(u)+\tfrac12\dot u^\top H^{-1}\dot u,\qquad \dot E=-b(t)\,\dot u^\top H^{-1}\dot u,

    since multiplying the equation by :math:`\dot u^\top H^{-1}` makes :math:`\ell` the potential. For
    :math:`\dot u+cH\nabla\ell(u)=0`, :math:`E=c\,\ell(u)` and :math:`\dot E=-\dot u^\top H^{-1}\dot u`.

    Parameters
    ----------
    dynamics : PredictionDynamics
        Numeric, of order 1 or 2, with a constant coefficient of the gradient.
    kernel : array_like, shape (n, n) or (n c, n c)
        H, constant and positive definite.
    trajectory : PredictionTrajectory
        From :func:`odeopt.dynamics.integrate.integrate_predictions`, with the same dynamics and kernel.

    Returns
    -------
    Energy
        Its parts at the times of the trajectory.

    Raises
    ------
    ValueError
        If the dynamics have no such energy, or the kernel is singular.

    Examples
    --------
    >>> from odeopt import HeavyBall, SquaredLoss, ode_limit, prediction_dynamics
    >>> from odeopt.dynamics import integrate_predictions
    >>> dynamics = prediction_dynamics(ode_limit(HeavyBall(0.01, 0.9)), SquaredLoss())
    >>> tolerances = {"rtol": 1e-10, "atol": 1e-12}
    >>> run = integrate_predictions(dynamics, [[2.0]], [0.0], [1.0], [0.0, 1.0, 2.0], **tolerances)
    >>> bool(np.all(np.diff(energy(dynamics, [[2.0]], run).total) < 0))
    True
    """
    damping, stiffness = _mechanical(dynamics)
    if not dynamics.linear.is_numeric:
        raise ValueError(f"dynamics {dynamics} holds symbols; give them numbers with dynamics.subs(...)")
    matrix = validate_kernel(kernel)
    _require_trajectory(trajectory, len(matrix))
    try:
        factor = scipy.linalg.cho_factor(matrix)
    except scipy.linalg.LinAlgError as error:
        raise ValueError(
            f"kernel must be positive definite, since the energy holds its inverse: {error}"
        ) from error
    # one column for each time and, under one kernel of all outputs, each output
    velocity = trajectory.velocity.reshape(len(trajectory.t), len(matrix), -1).swapaxes(0, 1)
    columns = velocity.reshape(len(matrix), -1)
    square = np.sum(columns * scipy.linalg.cho_solve(factor, columns), axis=0)
    square = square.reshape(len(trajectory.t), -1).sum(axis=1)
    potential = float(stiffness) * trajectory.loss
    if damping is None:
        return Energy(trajectory.t, potential, np.zeros_like(square), square)
    with np.errstate(divide="ignore", invalid="ignore"):
        friction = sympy.lambdify(dynamics.t, damping, "numpy")(trajectory.t) * np.ones_like(square)
    # At t = 0 friction r/t acts on a velocity of order t, which dissipates nothing.
    friction[~np.isfinite(friction) & (square == 0)] = 0.0
    return Energy(trajectory.t, potential, 0.5 * square, friction * square)


def _require_trajectory(trajectory: Any, n: int) -> None:
    """Refuse what is no trajectory of n examples or n predictions."""
    known = isinstance(trajectory, PredictionTrajectory)
    if not known or n not in (trajectory.u.shape[1], trajectory.u[0].size):
        shape = getattr(getattr(trajectory, "u", None), "shape", None)
        raise ValueError(
            f"trajectory must be a PredictionTrajectory of {n} predictions like the kernel, got "
            f"{type(trajectory).__name__}{f' of shape {shape}' if shape else ''}; make it with "
            "integrate_predictions"
        )


def _mechanical(dynamics: PredictionDynamics) -> tuple[Expr | None, Expr]:
    """Friction (None for first order) and coefficient of the gradient, for unit mass."""
    if not isinstance(dynamics, PredictionDynamics):
        raise ValueError(
            f"dynamics must be PredictionDynamics, got {type(dynamics).__name__}; make them with "
            "prediction_dynamics(limit, loss)"
        )
    if dynamics.linear.has_source:
        raise ValueError(
            f"weights decay in {dynamics}, and the energy of this form leaves out their length; take the "
            "limit without weight decay"
        )
    stiffness, *damping = dynamics.monic
    if dynamics.order > 2 or stiffness.has(dynamics.t):
        raise ValueError(
            f"dynamics {dynamics} has no energy of this form; it needs order 1 or 2 and a constant "
            "coefficient of the gradient"
        )
    return (damping[0] if damping else None), stiffness


@dataclass(frozen=True, repr=False)
class Lagrangian(Equation):
    r"""The Lagrangian :math:`\mathcal L=\mu(t)[\tfrac12\dot u^\top H^{-1}\dot u-c\,\ell(u)]`, verified.

    Parameters
    ----------
    factor : sympy.Expr
        :math:`\mu(t)=\exp\int b\,dt`: :math:`e^{bt}` for constant friction, :math:`t^r` for r/t.
    expression : sympy.Expr
        The Lagrangian in coordinates, for a symbolic kernel and an undetermined loss.
    equations : tuple of sympy.Eq
        Its Euler-Lagrange equations as sympy derives them.
    residual : sympy.Matrix
        These, multiplied by :math:`-H/\mu`, less the dynamics: zero, or the object is refused.
    stiffness : sympy.Expr
        Coefficient c of the gradient.

    Examples
    --------
    >>> from odeopt import Nesterov, SquaredLoss, ode_limit, prediction_dynamics
    >>> form = lagrangian(prediction_dynamics(ode_limit(Nesterov(lr=0.01, r=3)), SquaredLoss()))
    >>> form.factor, form.stiffness
    (t**3, 1)
    """

    factor: Expr
    expression: Expr
    equations: tuple[sympy.Eq, ...]
    residual: sympy.Matrix
    stiffness: Expr

    def __post_init__(self) -> None:
        if any(entry != 0 for entry in self.residual):
            raise ValueError(f"the Euler-Lagrange equations miss the dynamics by {self.residual}")

    def latex(self) -> str:
        """Return the Lagrangian in vector form as LaTeX.

        Returns
        -------
        str
            Without dollar signs.
        """
        c = "" if self.stiffness == 1 else latex(self.stiffness) + r"\,"
        kinetic = r"\tfrac12\dot u^\top H^{-1}\dot u"
        return rf"\mathcal L={latex(self.factor)}\left({kinetic}-{c}\ell(u)\right)"

    def _summary(self) -> Summary:
        before, of_loss = map(factor_text, (self.factor, self.stiffness))
        return Summary([f"L = {before}(u'^T H^-1 u'/2 - {of_loss}l(u))", "verified"])


def lagrangian(dynamics: PredictionDynamics, *, size: int = 2) -> Lagrangian:
    r"""Derive the Lagrangian whose Euler-Lagrange equation is the dynamics.

    Parameters
    ----------
    dynamics : PredictionDynamics
        Of second order, with a constant coefficient of the gradient; symbols are welcome.
    size : int, optional
        Number of coordinates, up to 4, in which sympy checks the equation with a full symbolic kernel.

    Returns
    -------
    Lagrangian
        Verified in `size` coordinates, else refused.

    Raises
    ------
    ValueError
        If the dynamics are not of this kind.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import HeavyBall, LogisticLoss, ode_limit, prediction_dynamics
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> limit = ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h)
    >>> form = lagrangian(prediction_dynamics(limit, LogisticLoss()))
    >>> form.factor, form.residual
    (exp(b*t), Matrix([
    [0],
    [0]]))
    """
    from sympy.calculus.euler import euler_equations

    size = require_integer("size", size, 1, _MOST_COORDINATES)
    damping, stiffness = _mechanical(dynamics)
    if damping is None:
        raise ValueError(f"dynamics {dynamics} is of first order, which has no such Lagrangian")
    t = dynamics.t
    factor = sympy.simplify(sympy.exp(sympy.integrate(damping, t)))
    kernel = sympy.Matrix(size, size, lambda i, j: Symbol(f"H_{min(i, j)}{max(i, j)}"))
    u = sympy.Matrix([Function(f"u_{i}")(t) for i in range(size)])
    velocity, potential = u.diff(t), Function("l")(*u)
    kinetic = (velocity.T * kernel.inv() * velocity)[0] / 2
    expression = factor * (kinetic - stiffness * potential)
    equations = tuple(euler_equations(expression, list(u), t))
    forces = sympy.Matrix([equation.lhs.doit() for equation in equations])
    gradient = sympy.Matrix([potential.diff(v) for v in u])
    target = velocity.diff(t) + damping * velocity + stiffness * kernel * gradient
    residual = (-kernel * forces / factor - target).applyfunc(sympy.simplify)
    return Lagrangian(factor, expression, equations, residual, stiffness)
