r"""Error vectors of a linear rule by the discrete recursion and by its ODEs, from one eigendecomposition.

:math:`\Delta=V\,\mathrm{diag}(g(\lambda))\,V^\top\Delta_0` with g the residual polynomial of the rule's own
step, or the mode of an ODE.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen, validate_error, validate_kernel
from odeopt.rules.base import UpdateRule

__all__ = ["LEVELS", "PARTS", "STEP_PARTS", "WHOLE_PARTS", "Part", "Prediction", "losses", "predicted_errors"]

# The levels of description, from the network to the theory, as they are printed.
LEVELS = {
    "trained": "trained",
    "discrete_h0": "discrete H(0)",
    "high_resolution_h0": "high-resolution ODE H(0)",
    "ode_h0": "ODE H(0)",
    "ode_inf": "ODE H_inf",
}


@dataclass(frozen=True)
class Part:
    """One cause in the error budget: what separates a level from a lower one."""

    upper: str
    lower: str
    title: str
    meaning: str

    @property
    def name(self) -> str:
        """Its two levels as they are printed, ``upper - lower``."""
        return f"{LEVELS[self.upper]} - {LEVELS[self.lower]}"


# The parts along the chain of levels: the step size as one part, and as the two that it splits into where the
# rule has a high-resolution ODE.
WHOLE_PARTS = (
    Part("trained", "discrete_h0", "drift and flips", "kernel drift and activation flips"),
    Part("discrete_h0", "ode_h0", "step size", "step size"),
    Part("ode_h0", "ode_inf", "finite width", "finite width at initialisation"),
)
STEP_PARTS = (
    Part(
        "discrete_h0",
        "high_resolution_h0",
        "beyond the high-resolution ODE",
        "step size beyond the high-resolution ODE",
    ),
    Part("high_resolution_h0", "ode_h0", "step-size correction", "step-size correction"),
)
PARTS = {(part.upper, part.lower): part for part in (*WHOLE_PARTS, *STEP_PARTS)}
_OTHER_CLOCK = (
    "in the time k * {:.4g}; that of ODE H(0), k * {:.4g}, is centred and second-order by itself, so that it "
    "may be the nearer one, and the two parts beside the high-resolution ODE may cancel"
)


@dataclass(frozen=True)
class Prediction:
    """Error vectors of the levels below the network, and what is known of them.

    Attributes
    ----------
    errors : dict
        Level, a key of :data:`LEVELS`, to error vectors, shape (K, n).
    equations : dict
        Level of an ODE to its equation.
    notes : dict
        Level that is left out to the reason; "high_resolution_h0" also where its clock is another one.
    time_step, time_origin : float
        Clock of the limiting ODE.
    """

    errors: dict[str, np.ndarray]
    equations: dict[str, str]
    notes: dict[str, str]
    time_step: float
    time_origin: float


def predicted_errors(
    rule: UpdateRule,
    kernel: npt.ArrayLike,
    delta0: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    limit_kernel: npt.ArrayLike | None = None,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    resolution: int = 1,
) -> Prediction:
    r"""Error vectors of all levels below the network, at given steps.

    Parameters
    ----------
    rule : UpdateRule
    kernel : numpy.ndarray, shape (n, n)
        H(0), with the scale of the reduction.
    delta0 : numpy.ndarray, shape (n,)
    k : array_like of int, shape (K,)
        Increasing.
    limit_kernel : numpy.ndarray, shape (n, n), optional
        H_inf, with that scale too.
    regime, resolution
        As for :func:`error_budget`.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        If the rule has no linear ODE in the error, or no residual polynomials.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> found = predicted_errors(GradientDescent(0.5), np.eye(1), np.ones(1), [0, 1])
    >>> [(level, float(error[1, 0].round(4))) for level, error in found.errors.items()]
    [('discrete_h0', 0.5), ('high_resolution_h0', 0.5353), ('ode_h0', 0.6065)]
    """
    from odeopt.rules.linear import require_numeric, residual_polynomials  # brings sympy, as the limits do

    require_numeric(rule)
    ode = _dynamics(rule, regime, 0)
    h0 = _Spectrum(kernel, delta0)
    errors = {"discrete_h0": h0.rotated(residual_polynomials(rule, h0.values, k))}
    equations, notes = {}, {}
    try:
        finer = _dynamics(rule, regime, resolution)
        errors["high_resolution_h0"] = h0.along(finer, _times(finer, k))
        equations["high_resolution_h0"] = str(finer)
        if not math.isclose(finer.time_step, ode.time_step, rel_tol=1e-9):
            notes["high_resolution_h0"] = _OTHER_CLOCK.format(float(finer.time_step), float(ode.time_step))
    except ValueError as error:
        notes["high_resolution_h0"] = f"not available: {error}"
    errors["ode_h0"] = h0.along(ode, _times(ode, k))
    equations["ode_h0"] = str(ode)
    if limit_kernel is not None:
        errors["ode_inf"] = _Spectrum(limit_kernel, delta0).along(ode, _times(ode, k))
        equations["ode_inf"] = str(ode)
    frozen_errors = {level: frozen(error) for level, error in errors.items()}
    return Prediction(frozen_errors, equations, notes, float(ode.time_step), float(ode.time_origin))


class _Spectrum:
    """A kernel by its eigenvectors, and the initial error in them: one eigh for all levels."""

    def __init__(self, kernel: npt.ArrayLike, delta0: npt.ArrayLike) -> None:
        values, self.vectors = np.linalg.eigh(validate_kernel(kernel))
        self.values = np.maximum(values, 0.0)  # negative ones are rounding, of order eps * lam_max
        self.start = self.vectors.T @ validate_error(delta0, values.size)

    def rotated(self, factors: np.ndarray) -> np.ndarray:
        """Error vectors, shape (K, n), from a factor for each step and eigenvalue."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (factors * self.start) @ self.vectors.T

    def along(self, dynamics: Any, t: np.ndarray) -> np.ndarray:
        """Error vectors of an ODE, by its closed form."""
        from odeopt.dynamics.modes import mode_solution

        return self.rotated(mode_solution(dynamics)(t, self.values))


@functools.lru_cache(maxsize=32)
def _dynamics(rule: UpdateRule, regime: Any, resolution: int) -> Any:
    """Error dynamics of a rule: derived once for all seeds and widths."""
    from odeopt.dynamics.error import ErrorDynamics, error_dynamics
    from odeopt.limits.ode import ode_limit

    found = error_dynamics(ode_limit(rule, regime=regime, resolution=resolution))
    if not isinstance(found, ErrorDynamics):
        raise ValueError(f"rule {rule.label} has no linear ODE in the error: {found}")
    return found


def _times(dynamics: Any, k: Any) -> np.ndarray:
    return (np.asarray(k) + float(dynamics.time_origin)) * float(dynamics.time_step)


def losses(errors: np.ndarray) -> np.ndarray:
    """Half the squared norms; inf where a prediction has left the finite numbers.

    Examples
    --------
    >>> losses(np.array([[3.0, 4.0]]))
    array([12.5])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = 0.5 * (errors**2).sum(axis=1)
    return np.where(np.isnan(values), np.inf, values)
