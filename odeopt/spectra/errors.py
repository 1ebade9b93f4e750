r"""Error vectors of a linear rule by the discrete recursion and by its ODEs, from one eigendecomposition.

:math:`\Delta=V\,\mathrm{diag}(g(\lambda))\,V^\top\Delta_0` with g the residual polynomial of the rule's own
step, or the mode of an ODE.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen, validate_error, validate_kernel
from odeopt.rules.base import UpdateRule
from odeopt.shown import Shown, Summary

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
# Tolerances of the modes of an ODE with schedules: far below every part of a budget.
_RTOL, _ATOL = 1e-10, 1e-13
_OTHER_CLOCK = (
    "in the time k * {:.4g}; that of ODE H(0), k * {:.4g}, is centred and second-order by itself, so that it "
    "may be the nearer one, and the two parts beside the high-resolution ODE may cancel"
)


@dataclass(frozen=True, repr=False)
class Prediction(Shown):
    """Error vectors of the levels below the network, and what is known of them.

    Attributes
    ----------
    errors : dict
        Level, a key of :data:`LEVELS`, to error vectors, shape (K, n) or (K, n c), example by example.
    equations : dict
        Level of an ODE to its equation.
    notes : dict
        Level that is left out to the reason; "high_resolution_h0" also where its clock is another one.
    time_step, time_origin : float
        Clock of the limiting ODE; nan and 0 without one.
    """

    errors: dict[str, np.ndarray]
    equations: dict[str, str]
    notes: dict[str, str]
    time_step: float
    time_origin: float

    def _summary(self) -> Summary:
        steps = len(next(iter(self.errors.values()), ()))
        ends = {level: f"{losses(error)[-1]:.4g}" for level, error in self.errors.items()}
        rows = [(LEVELS[level], end, self.equations.get(level, "")) for level, end in ends.items()]
        notes = [f"{LEVELS.get(level, level)}: {reason}" for level, reason in self.notes.items()]
        return Summary([f"errors at {steps} steps", *ends], ("level", "last loss", "ODE"), rows, notes)


def predicted_errors(
    rule: UpdateRule,
    kernel: npt.ArrayLike,
    delta0: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    limit_kernel: npt.ArrayLike | None = None,
    origin: npt.ArrayLike | None = None,
    regime: Literal["natural", "fixed", "inertial"] = "natural",
    resolution: int = 1,
    partial: bool = False,
) -> Prediction:
    r"""Error vectors of all levels below the network, at given steps.

    Parameters
    ----------
    rule : UpdateRule
        Linear, with numeric hyperparameters.
    kernel : numpy.ndarray, shape (n, n), or (n c, n c) example by example
        H(0), with the scale of the reduction.
    delta0 : numpy.ndarray, shape (n,), or (n, c) for c outputs
        :math:`\Delta_0=u_0-y`.
    k : array_like of int, shape (K,)
        Increasing.
    limit_kernel : numpy.ndarray, shape (n, n), optional
        H_inf of each output, with that scale too.
    origin : numpy.ndarray, shape of `delta0`, optional
        :math:`Jw_0`, which weight decay to 0 pulls at.
    regime : {"natural", "fixed", "inertial"}
        How numbers are embedded in a family, as for :func:`odeopt.ode_limit`.
    resolution : int
        Order in the time step of the high-resolution ODE.
    partial : bool
        Leave out what is not known of the rule, with the reason in the notes, instead of refusing it.

    Returns
    -------
    Prediction
        Its `errors` hold error vectors by level, its `notes` why a level is left out.

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
    from odeopt.rules.linear import require_numeric  # brings sympy, as the limits do

    require_numeric(rule)
    h0 = _Spectrum(kernel, delta0, origin)
    equations, notes = {}, {}

    def known(level: str, find: Callable[[], Any]) -> Any:
        try:
            return find()
        except ValueError as error:
            if not partial and level != "high_resolution_h0":
                raise
            notes[level] = f"not available: {error}"
        return None

    ode: _Ode | None = known("ode_h0", lambda: _ode(rule, regime, 0))
    discrete = known("discrete_h0", lambda: h0.iterated(rule, k))
    finer: _Ode | None = None
    if ode is not None and ode.limit.schedules:
        notes["high_resolution_h0"] = "not available: corrections with schedules are derived, not followed"
    elif ode is not None:
        finer = known("high_resolution_h0", lambda: _ode(rule, regime, resolution))
    spectra = {"high_resolution_h0": (h0, finer), "ode_h0": (h0, ode)}
    if limit_kernel is not None:
        spectra["ode_inf"] = (_Spectrum(limit_kernel, delta0, origin), ode)
    errors = {} if discrete is None else {"discrete_h0": discrete}
    for level, (spectrum, found) in spectra.items():
        along = None if found is None else known(level, functools.partial(spectrum.along, found, k))
        if along is not None and found is not None:
            errors[level], equations[level] = along, str(found.dynamics)
    if ode and finer and not math.isclose(finer.time_step, ode.time_step, rel_tol=1e-9):
        notes["high_resolution_h0"] = _OTHER_CLOCK.format(finer.time_step, ode.time_step)
    clock = (math.nan, 0.0) if ode is None else (ode.time_step, ode.time_origin)
    return Prediction({level: frozen(error) for level, error in errors.items()}, equations, notes, *clock)


class _Spectrum:
    """A kernel by its eigenvectors, and the initial error in them: one eigh for all levels and outputs."""

    def __init__(self, kernel: npt.ArrayLike, delta0: npt.ArrayLike, origin: npt.ArrayLike | None) -> None:
        values, self.vectors = np.linalg.eigh(validate_kernel(kernel))
        self.values = np.maximum(values, 0.0)  # negative ones are rounding, of order eps * lam_max
        # a kernel of all outputs together takes them in one vector, that of one output as columns
        if np.ndim(delta0) == 2 and np.size(delta0) == values.size:
            delta0 = np.reshape(delta0, -1)
        delta0 = validate_error(delta0, values.size, columns=True).reshape(values.size, -1)
        self.start = self.vectors.T @ delta0
        pulled = None if origin is None else delta0 - np.reshape(origin, delta0.shape)
        self.pulled = None if pulled is None else self.vectors.T @ pulled

    def rotated(self, phi: np.ndarray, chi: np.ndarray | None = None) -> np.ndarray:
        """Error vectors, shape (K, n), from factors for each step and eigenvalue, of the error and of q."""
        with np.errstate(over="ignore", invalid="ignore"):
            along = phi[:, :, None] * self.start
            if chi is not None and self.pulled is not None:
                along = along + chi[:, :, None] * self.pulled
            return (self.vectors @ along).reshape(len(phi), -1)

    def iterated(self, rule: UpdateRule, k: Any) -> np.ndarray:
        """Error vectors of the rule itself at given steps."""
        from odeopt.rules.linear import error_polynomials, residual_polynomials

        if self.pulled is None:
            return self.rotated(residual_polynomials(rule, self.values, k))
        return self.rotated(*error_polynomials(rule, self.values, k))

    def along(self, ode: _Ode, k: Any) -> np.ndarray:
        """Error vectors of an ODE at given steps."""
        t = (np.asarray(k) + ode.time_origin) * ode.time_step
        return self.rotated(*ode.modes(t, self.values, both=self.pulled is not None))


@dataclass(frozen=True)
class _Ode:
    """The limit of a rule, and the dynamics of the error in which it closes."""

    limit: Any
    dynamics: Any

    @property
    def time_step(self) -> float:
        return float(self.dynamics.time_step)

    @property
    def time_origin(self) -> float:
        return float(self.dynamics.time_origin)

    def modes(self, t: np.ndarray, lam: np.ndarray, both: bool) -> tuple[np.ndarray, ...]:
        """Modes by their closed form, shape (T, n); those of momentum with schedules by their limit."""
        if not self.limit.schedules or self.dynamics.order == 1:
            from odeopt.dynamics.modes import mode_solution

            mode = mode_solution(self.dynamics)
            return mode.both(t, lam) if both else (mode(t, lam),)
        from odeopt.limits.integrate import integrate_limit

        if self.limit.curve in self.limit.terms:
            raise ValueError(f"the modes of {self.limit} along J w_0 are not followed; decay to_start")

        def differential(x: np.ndarray, *directions: np.ndarray) -> np.ndarray:
            return lam * (directions[0] if directions else x) if len(directions) < 2 else 0 * x

        return (integrate_limit(self.limit, differential, np.ones_like(lam), t, rtol=_RTOL, atol=_ATOL).x,)


@functools.lru_cache(maxsize=32)
def _ode(rule: UpdateRule, regime: Any, resolution: int) -> _Ode:
    """The ODE of a rule: derived once for all seeds and widths."""
    from odeopt.dynamics.error import ErrorDynamics, error_dynamics
    from odeopt.limits.ode import ode_limit

    limit = ode_limit(rule, regime=regime, resolution=resolution)
    found = error_dynamics(limit)
    if not isinstance(found, ErrorDynamics):
        raise ValueError(f"rule {rule.label} has no linear ODE in the error: {found}")
    return _Ode(limit, found)


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
