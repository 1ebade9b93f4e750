r"""Loss curves of an ODE or of a discrete method from one spectral measure.

The loss is half the squared norm of the error, summed over samples, never a mean:

.. math:: L(t)=\tfrac12\sum_iw_i\varphi(t;\lambda_i)^2\ \text{(ODE)},\qquad
          L_k=\tfrac12\sum_iw_iP_k(\lambda_i)^2\ \text{(discrete, exact)},

with the mode :math:`\varphi` of the error dynamics and the residual polynomial
:math:`P_k`, the k-th iterate of the rule's own step on the quadratic :math:`\tfrac12\lambda z^2` from
:math:`z_0=1`. Time is t = (k + time_origin) * time_step.

On a measure found by m Lanczos steps, the loss of a discrete method is exact for k < m, because
:math:`P_k^2` has degree 2k; later, and for an ODE, it comes with bounds (:mod:`odeopt.spectra.bracket`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from odeopt.checks import is_number, iteration_grid, nonnegative_grid
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import residual_polynomials
from odeopt.spectra.bracket import Bracket, Integrand, bracket
from odeopt.spectra.bracket_ode import mode_half_widths, mode_integrand
from odeopt.spectra.bracket_rule import _rule_integrand, residual_half_widths
from odeopt.spectra.measure import SpectralMeasure

__all__ = ["LossCurve", "loss_curve"]

# Relative to the loss: a bracket so narrow, and mostly rounding, is not worth the cost of a sharper bound.
_NARROW = 1e-4


@dataclass(frozen=True)
class LossCurve:
    """A loss along time or iterations.

    Attributes
    ----------
    loss : numpy.ndarray, shape (T,)
        Half the squared norm of the error; inf from the step on at which an unstable iteration left
        the finite numbers.
    t : numpy.ndarray, shape (T,), or None
        Times; None for a discrete curve without a time step.
    k : numpy.ndarray, shape (T,), or None
        Iterations, integers for a discrete curve; None for an ODE without a numeric time step.
    lower, upper : numpy.ndarray, shape (T,)
        Bounds, rounding included; equal to `loss` for a measure by ``eigh``.
    rigorous : bool
        Whether the bounds are theorems rather than estimates at every point of the grid.
    source : str
        What was evaluated.
    layer : {"linear ODE", "discrete iteration"}
        What the curve is a claim about.
    time_step : float or None
    proved : numpy.ndarray of bool, shape (T,)
        `rigorous` point by point.
    rounding : numpy.ndarray, shape (T,)
        The part of each bound's distance from `loss` that allows for rounding; 0 for a measure by ``eigh``.
    """

    loss: np.ndarray
    t: np.ndarray | None
    k: np.ndarray | None
    lower: np.ndarray
    upper: np.ndarray
    rigorous: bool
    source: str
    layer: str
    time_step: float | None
    proved: np.ndarray | None = None
    rounding: np.ndarray | None = None

    def __post_init__(self):
        if self.proved is None:
            object.__setattr__(self, "proved", np.full(np.shape(self.loss), self.rigorous))
        if self.rounding is None:
            object.__setattr__(self, "rounding", np.zeros(np.shape(self.loss)))
        for name in ("loss", "t", "k", "lower", "upper", "proved", "rounding"):
            values = getattr(self, name)
            if values is not None:
                values = np.array(values)
                values.setflags(write=False)
                object.__setattr__(self, name, values)

    @property
    def diverged_at(self) -> int | None:
        """First index of the grid whose loss is not finite; None if all are."""
        bad = np.flatnonzero(~np.isfinite(self.loss))
        return int(bad[0]) if bad.size else None


def loss_curve(
    mode_or_rule: ModeSolution | UpdateRule,
    measure: SpectralMeasure,
    grid,
    *,
    time_step: float | None = None,
    time_origin: float = 0.0,
    bounds: bool = True,
) -> LossCurve:
    r"""Evaluate the loss of an ODE at times, or of a method at iterations.

    Parameters
    ----------
    mode_or_rule : ModeSolution or UpdateRule
        The closed form of an ODE, or a rule with numeric hyperparameters.
    measure : SpectralMeasure
    grid : array_like, shape (T,)
        Times for a mode; iteration numbers (nonnegative integers) for a rule.
    time_step : float, optional
        For a rule, gives the curve times t = (k + time_origin) * time_step, to set it beside an ODE.
    time_origin : float
        In steps; that of the limit.
    bounds : bool
        For a measure by Lanczos, whether bounds are computed; they cost more than the curve. Without them
        they are 0 and infinity.

    Returns
    -------
    LossCurve

    Raises
    ------
    ValueError
        If the grid is empty, negative, not finite, or (for a rule) not integer.

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
    if isinstance(mode_or_rule, ModeSolution):
        t = nonnegative_grid(grid, "grid")
        step = mode_or_rule.time_step
        step = float(step) if is_number(step) else None
        k = t / step - float(mode_or_rule.time_origin) if step else None
        source, layer = f"ODE {mode_or_rule.dynamics}", "linear ODE"
    else:
        k = iteration_grid(grid)
        step, t = time_step, None if time_step is None else (k + time_origin) * time_step
        source, layer = f"iteration {mode_or_rule.label}", "discrete iteration"
    if measure.chains and bounds:
        found = bracket(_integrand(mode_or_rule, t, k, measure.lam_max), measure)
        found = _narrowed(found, mode_or_rule, t, k, measure)
        return LossCurve(
            found.value, t, k, found.lower, found.upper, bool(found.proved.all()),
            source, layer, step, found.proved, found.rounding,
        )  # fmt: skip
    values = (
        mode_or_rule(t, measure.nodes)
        if isinstance(mode_or_rule, ModeSolution)
        else residual_polynomials(mode_or_rule, measure.nodes, k)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        loss = 0.5 * values**2 @ measure.weights
    loss = np.where(np.isnan(loss), np.inf, loss)
    if measure.chains:
        return LossCurve(
            loss, t, k, np.zeros_like(loss), np.full_like(loss, np.inf), False, source, layer, step
        )
    return LossCurve(loss, t, k, loss, loss, measure.exact, source, layer, step)


def _narrowed(found: Bracket, mode_or_rule, t, k, measure: SpectralMeasure) -> Bracket:
    with np.errstate(invalid="ignore"):  # inf - inf
        narrow = np.minimum(3 * found.rounding, _NARROW * found.value)
        wide = ~found.proved | ~(found.upper - found.lower <= narrow)
    if not wide.any():
        return found
    half, rounding = np.full((2, wide.size), np.inf)
    if isinstance(mode_or_rule, ModeSolution):
        half[wide], rounding[wide] = mode_half_widths(mode_or_rule, t[wide], measure)
        return found.narrowed(half, rounding, proved=True)
    half[wide], rounding[wide] = residual_half_widths(mode_or_rule, k[wide], measure)
    return found.narrowed(half, rounding, proved=measure.interval_proved)


def _integrand(mode_or_rule: ModeSolution | UpdateRule, t, k, scale: float) -> Integrand:
    if isinstance(mode_or_rule, ModeSolution):
        return mode_integrand(mode_or_rule, t)
    return _rule_integrand(mode_or_rule, k, scale)
