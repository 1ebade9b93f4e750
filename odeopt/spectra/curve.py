r"""Loss curves of an ODE or of a discrete method from one spectral measure.

The loss is half the squared norm of the error, summed over samples, never a mean:

.. math:: L(t)=\tfrac12\sum_iw_i\varphi(t;\lambda_i)^2\ \text{(ODE)},\qquad
          L_k=\tfrac12\sum_iw_iP_k(\lambda_i)^2\ \text{(discrete, exact)},

with the mode :math:`\varphi` of the error dynamics and the residual polynomial
:math:`P_k`, the k-th iterate of the rule's own step on the quadratic :math:`\tfrac12\lambda z^2` from
:math:`z_0=1`. Time is t = (k + time_origin) * time_step.

With weight decay the step is none in the error alone, and the loss is that of two vectors,
:math:`\varphi_k(H)\Delta_0+\chi_k(H)(\Delta_0-Jw_0)` (:func:`odeopt.rules.error_polynomials`).

On a measure found by m Lanczos steps, the loss of a discrete method is exact for k < m, because
:math:`P_k^2` has degree 2k; later, and for an ODE, it comes with bounds (:mod:`odeopt.spectra.bracket`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import is_finite, is_number, iteration_grid, nonnegative_grid
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.averaged import with_average
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import error_polynomials, error_row, pulls, require_numeric, residual_polynomials
from odeopt.rules.weight_decay import is_pulled_to_zero
from odeopt.shown import Pictured, Summary, along, rows_at, span
from odeopt.spectra.bracket import Bracket, bracket
from odeopt.spectra.bracket_joint import joint_mode_bracket, joint_rule_bracket
from odeopt.spectra.bracket_ode import mode_half_widths, mode_integrand
from odeopt.spectra.bracket_rule import rule_bracket
from odeopt.spectra.joint import JointMeasure
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["LossCurve", "averaged", "clock_of", "loss_curve", "require_joint"]

# Relative to the loss: a bracket so narrow, and mostly rounding, is not worth the cost of a sharper bound.
_NARROW = 1e-4
# Squares of modes below 1e-154 leave the normal range of float64; losses below the smallest number all of it.
_UNDERFLOW, _SMALLEST = 1e-300, 5e-324


@dataclass(frozen=True, repr=False)
class LossCurve(Pictured):
    """A loss along time or iterations.

    Parameters
    ----------
    loss : numpy.ndarray, shape (T,)
        Half the squared norm of the error; inf from the step on at which an unstable iteration left
        the finite numbers.
    t : numpy.ndarray, shape (T,), or None
        Times; None for a discrete curve without a time step.
    k : numpy.ndarray, shape (T,), or None
        Iterations, integers for a discrete curve; None for an ODE without a numeric time step.
    lower, upper : numpy.ndarray, shape (T,)
        Bounds, the rounding of the decomposition and of the evaluation included.
    source : str
        What was evaluated.
    layer : {"linear ODE", "discrete iteration"}
        What the curve is a claim about.
    time_step : float or None
        Time of an iteration; None for a curve without a clock.
    proved : numpy.ndarray of bool, shape (T,)
        Where the bounds are theorems rather than estimates.
    rounding : numpy.ndarray, shape (T,)
        The part of each bound's distance from `loss` that allows for rounding.

    Examples
    --------
    >>> from odeopt import GradientDescent, spectral_measure
    >>> measure = spectral_measure([[2.0]], [1.0])
    >>> found = loss_curve(GradientDescent(0.25), measure, [0, 1, 2], time_step=0.25)
    >>> found.loss, found.t
    (array([0.5    , 0.125  , 0.03125]), array([0.  , 0.25, 0.5 ]))
    >>> bool((found.lower <= found.loss).all() and (found.loss <= found.upper).all()), found.rigorous
    (True, True)
    """

    loss: np.ndarray
    t: np.ndarray | None
    k: np.ndarray | None
    lower: np.ndarray
    upper: np.ndarray
    source: str
    layer: Literal["linear ODE", "discrete iteration"]
    time_step: float | None
    proved: np.ndarray
    rounding: np.ndarray

    def _summary(self) -> Summary:
        kind = "proved bounds" if self.rigorous else "bounds proved in part, estimated elsewhere"
        if not self.proved.any():
            kind = "estimated bounds" if np.isfinite(self.upper).any() else "no bounds"
        facts = [along(self), f"loss {span(self.loss)}", kind, self.source]
        columns = {"loss": self.loss, "lower": self.lower, "upper": self.upper, "proved": self.proved}
        return Summary(facts, *rows_at({"k": self.k, "t": self.t} | columns))

    @property
    def rigorous(self) -> bool:
        """Whether the bounds are theorems rather than estimates at every point of the grid."""
        return bool(self.proved.all())

    @property
    def diverged_at(self) -> int | None:
        """First index of the grid whose loss is not finite; None if all are."""
        bad = np.flatnonzero(~np.isfinite(self.loss))
        return int(bad[0]) if bad.size else None


def loss_curve(
    mode_or_rule: ModeSolution | UpdateRule,
    measure: SpectralMeasure,
    grid: npt.ArrayLike,
    *,
    time_step: float | None = None,
    time_origin: float = 0.0,
    bounds: bool = True,
    average: float | Literal["polyak"] | None = None,
) -> LossCurve:
    r"""Evaluate the loss of an ODE at times, or of a method at iterations.

    Parameters
    ----------
    mode_or_rule : ModeSolution or UpdateRule
        The closed form of an ODE, or a rule with numeric hyperparameters.
    measure : SpectralMeasure
        Of the kernel and the initial error; with an `origin` for weights that decay to 0.
    grid : array_like, shape (T,)
        Times for a mode; iteration numbers (nonnegative integers) for a rule.
    time_step : float, optional
        For a rule, gives the curve times t = (k + time_origin) * time_step, to set it beside an ODE.
    time_origin : float
        In steps; that of the limit.
    bounds : bool
        Whether bounds are computed; they can cost more than the curve. Without them they are 0 and infinity.
    average : float or "polyak", optional
        The loss of the averaged iterates of a rule: "polyak" for the mean of all, or the decay of an
        exponential average (:class:`odeopt.rules.Averaged`).

    Returns
    -------
    LossCurve
        Losses at the grid, with their bounds.

    Raises
    ------
    ValueError
        If the grid is empty, negative, not finite, or (for a rule) not integer; if the rule is not linear; if
        it decays weights to 0, and the measure was not given :math:`Jw_0` as its `origin`.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit, error_dynamics, mode_solution, spectral_measure
    >>> measure = spectral_measure(np.diag([1.0, 4.0]), [1.0, 1.0])
    >>> rule = GradientDescent(lr=0.25)
    >>> loss_curve(rule, measure, [0, 1, 2]).loss
    array([1.        , 0.28125   , 0.15820312])
    >>> mode = mode_solution(error_dynamics(ode_limit(rule)))
    >>> loss_curve(mode, measure, [0.0, 0.25, 0.5]).loss.round(6)
    array([1.      , 0.370933, 0.193098])
    """
    require_measure(measure)
    for name, value in (("time_step", time_step), ("time_origin", time_origin)):
        if not (value is None and name == "time_step") and not is_finite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if average is not None:
        mode_or_rule = averaged(mode_or_rule, average)
    if isinstance(mode_or_rule, ModeSolution):
        return _of_mode(mode_or_rule, measure, nonnegative_grid(grid, "grid"), bounds)
    if not isinstance(mode_or_rule, UpdateRule):
        raise ValueError(
            f"mode_or_rule must be a ModeSolution or an UpdateRule, got {type(mode_or_rule).__name__}; take "
            "the rule itself, or mode_solution(error_dynamics(limit)) for its ODE"
        )
    k = iteration_grid(grid)
    require_numeric(mode_or_rule)
    t = None if time_step is None else (k + float(time_origin)) * float(time_step)
    found = _rule_bracket(mode_or_rule, k, measure, bounds)
    return _curve(found, measure, t, k, f"iteration {mode_or_rule.label}", "discrete iteration", time_step)


def averaged(rule: Any, average: Any) -> Any:
    """The averaged output of a rule."""
    if isinstance(rule, ModeSolution):
        raise ValueError("average is one of iterates, but a mode has none; take the rule, or Averaged(rule)")
    return with_average(rule, average)


def _rule_bracket(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure, bounds: bool) -> Bracket:
    row = error_row(rule, k)
    # a pull that may be rounding is followed where the image of the weights is known
    if not row and measure.joint is None and is_pulled_to_zero(rule):
        row = "its weight decay is less than rounding, but J w_0 may be as large as it likes"
    if not row and (measure.joint is None or not pulls(rule, k)):
        if bounds:
            return rule_bracket(rule, k, measure)
        return _unbounded(residual_polynomials(rule, measure.nodes, k), measure)
    joint = require_joint(
        measure, f"the step of {rule.label} is linear, but no step in the error alone: {row}"
    )
    if bounds:
        return joint_rule_bracket(rule, k, measure, joint)
    return _unbounded(error_polynomials(rule, joint.nodes, k), joint)


def require_joint(measure: SpectralMeasure, why: str) -> JointMeasure:
    """The measure of both vectors, or the refusal of one without it."""
    if measure.joint is None:
        raise ValueError(
            f"{why}. Decay pulls at the weights themselves: give the measure their image J w_0, "
            "spectral_measure(kernel, delta0, origin=...), or decay to_start"
        )
    return measure.joint


def clock_of(mode_or_rule: ModeSolution | UpdateRule, grid: np.ndarray) -> tuple[Any, Any]:
    """Times and iterations of a grid, None where there is none."""
    if isinstance(mode_or_rule, UpdateRule):
        return None, grid
    step = mode_or_rule.time_step
    return grid, grid / float(step) - float(mode_or_rule.time_origin) if is_number(step) else None


def _of_mode(mode: ModeSolution, measure: SpectralMeasure, t: np.ndarray, bounds: bool) -> LossCurve:
    step = float(mode.time_step) if is_number(mode.time_step) else None
    _, k = clock_of(mode, t)
    if mode.dynamics.has_source:
        joint = require_joint(measure, f"the error of {mode.dynamics} depends on q = Delta_0 - J w_0 too")
        if bounds:
            found = joint_mode_bracket(mode, t, measure, joint)
        else:
            found = _unbounded(mode.both(t, joint.nodes), joint)
    elif bounds:
        found = _mode_bracket(mode, t, measure)
    else:
        found = _unbounded(mode(t, measure.nodes), measure)
    return _curve(found, measure, t, k, f"ODE {mode.dynamics}", "linear ODE", step)


def _curve(
    found: Bracket,
    measure: SpectralMeasure,
    t: np.ndarray | None,
    k: np.ndarray | None,
    source: str,
    layer: Literal["linear ODE", "discrete iteration"],
    step: float | None,
) -> LossCurve:
    mass, size = measure.mass, measure.nodes.size
    if measure.joint is not None:
        mass, size = 2 * (mass + measure.joint.weights[2].sum()), size + 8 * measure.joint.nodes.size
    lost = _UNDERFLOW * mass + _SMALLEST * size  # of each square
    bounds = np.maximum(found.lower - lost, 0.0), found.upper + lost
    return LossCurve(found.value, t, k, *bounds, source, layer, step, found.proved, found.rounding)


def _unbounded(values: Any, measure: SpectralMeasure | JointMeasure) -> Bracket:
    with np.errstate(over="ignore", invalid="ignore"):
        joint = isinstance(measure, JointMeasure)
        loss = measure.loss(*values) if joint else 0.5 * values**2 @ measure.weights
    loss, zero = np.where(np.isnan(loss), np.inf, loss), np.zeros(len(loss))
    return Bracket(loss, zero, np.full(len(loss), np.inf), zero.astype(bool), zero)


def _mode_bracket(mode: ModeSolution, t: np.ndarray, measure: SpectralMeasure) -> Bracket:
    integrand = mode_integrand(mode, t)
    found = bracket(integrand, measure)
    with np.errstate(invalid="ignore"):  # inf - inf
        narrow = np.minimum(3 * found.rounding, _NARROW * found.value)
        wide = np.flatnonzero(~found.proved | ~(found.upper - found.lower <= narrow))
    half, rounding = np.full((2, t.size), np.inf)
    if wide.size:
        half[wide], rounding[wide] = mode_half_widths(mode_integrand(mode, t[wide]), measure)
    return found.narrowed(half, rounding, True)
