r"""Integration of a limit in the space of the weights, for a loss given by its derivatives.

In prediction space a kernel is all that is needed; here the loss is any function, so corrections with
Hessians and third derivatives, and methods that do not close in prediction space, can be checked
against their own iterates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.integrate
from sympy import Derivative, Expr

from odeopt.checks import nonnegative_grid, real_array, require_positive
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.equation import ODELimit
from odeopt.limits.field import Field
from odeopt.limits.regular_start import regular_start

__all__ = ["WeightTrajectory", "checked_options", "integrate_limit", "require_reachable"]

# The root of the time at which averages are started; x has then moved by this much times its speed.
_ROOT_START = 1e-8
# Steps beyond which an integration is refused before it begins.
_MOST_STEPS = 1e8
METHODS = ("RK23", "RK45", "DOP853", "Radau", "BDF", "LSODA")


@dataclass(frozen=True)
class WeightTrajectory:
    """Weights along time, as integrated.

    Attributes
    ----------
    t : numpy.ndarray, shape (T,)
    x : numpy.ndarray, shape (T, d)
        Weights.
    nfev : int
        Evaluations of the right-hand side.
    """

    t: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    nfev: int


def integrate_limit(
    limit: ODELimit | SystemLimit,
    differential: Callable[..., npt.ArrayLike],
    x0: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: str = "DOP853",
) -> WeightTrajectory:
    r"""Integrate a limit with :func:`scipy.integrate.solve_ivp` on a loss with known derivatives.

    Parameters
    ----------
    limit : ODELimit or SystemLimit
        With numeric coefficients; an ODELimit in normal form.
    differential : callable
        ``differential(x, v_1, ..., v_p)`` returns :math:`\nabla^{p+1}f(x)[v_1,\dots,v_p]`, shape (d,); the
        gradient for p = 0, a Hessian-vector product for p = 1.
    x0 : array_like, shape (d,)
        First iterate; initial position and velocity of the limit are evaluated there.
    t : array_like, shape (T,)
        Increasing nonnegative times.
    rtol, atol : float
        Tolerances of the solver; there is no default.
    method : str
        Any method of `solve_ivp`.

    Returns
    -------
    WeightTrajectory

    Raises
    ------
    ValueError
        If the limit holds symbols, the grid is not increasing, or the times are out of reach.
    RuntimeError
        If the solver fails, with its message, or the solution leaves the range of numbers.

    Notes
    -----
    Where coefficients are singular at t = 0, the solution that is regular there is found on a first interval
    as a polynomial in (a root of) t, by collocation.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> limit = ode_limit(GradientDescent(lr=0.1))
    >>> run = integrate_limit(limit, lambda x: x, [1.0], [0.0, 1.0], rtol=1e-10, atol=1e-12)
    >>> bool(np.isclose(run.x[1, 0], np.exp(-1.0)))
    True
    """
    if not isinstance(limit, (ODELimit, SystemLimit)):
        raise ValueError(
            f"limit must be an ODELimit or a SystemLimit, got {type(limit).__name__}; pass what "
            "ode_limit returns"
        )
    t = nonnegative_grid(t, "t")
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"t must increase strictly, got {t.tolist()[:6]}...; sort it and drop repeats")
    x0 = real_array(x0, "x0", ndim=1)
    options = checked_options(rtol, atol, method)
    if isinstance(limit, SystemLimit):
        return _integrate_system(limit, differential, x0, t, options)
    return _integrate_equation(limit, differential, x0, t, options)


def checked_options(rtol: float, atol: float, method: str) -> dict:
    """Options of solve_ivp, or what is wrong with them."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    return {"rtol": require_positive("rtol", rtol), "atol": require_positive("atol", atol), "method": method}


def require_reachable(span: float, scale: float, order: int) -> None:
    """Refuse times that steps of about scale^(-1/order) do not reach in a reasonable number."""
    steps = span * max(scale, 0.0) ** (1 / order)
    if steps > _MOST_STEPS:
        raise ValueError(
            f"t reaches to {span:.6g}, some {steps:.1g} steps of the solver away; integrate to a shorter "
            "time, or "
            "take a closed form from mode_solution"
        )


def _integrate_equation(limit: ODELimit, differential: Callable, x0, t, options: dict) -> WeightTrajectory:
    n, curve, s = limit.order, limit.curve, limit.t
    if any(_highest(v) > n for v in limit.terms):
        raise ValueError(f"{limit} is not in normal form; derive it with form='normal'")
    initial = Field([limit.initial_position, *limit.initial], [curve], s, differential)
    position, *derivatives = initial(0.0, [x0])
    _require_short(differential, x0, t[-1], n)
    unknowns = [curve.diff(s, j) for j in range(n)]
    lead = limit.terms[curve.diff(s, n)]
    force = -sum(c / lead * v for v, c in limit.terms.items() if v != curve.diff(s, n))
    field = Field([force], unknowns, s, differential)
    begun = regular_start(limit, differential, np.array([position, *derivatives]), float(t[-1]))

    def system(time: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(n, -1)
        return np.concatenate([*blocks[1:], *field(time, list(blocks))])

    early = t[t <= begun.end]
    rows = [*begun.positions(early)]
    later, nfev = _advance(system, begun.end, begun.state.reshape(-1), t[t > begun.end], options)
    return WeightTrajectory(t, np.array([*rows, *(state[: x0.size] for state in later)]), nfev)


def _advance(system: Callable, start: float, state: np.ndarray, times, options: dict) -> tuple[list, int]:
    """States at the times, each the end of an integration of its own, so that it ends a step."""
    states, nfev = [], 0
    for target in times:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solution = scipy.integrate.solve_ivp(system, (start, target), state, **options)
        start, state, nfev = target, solution.y[:, -1], nfev + solution.nfev
        if not solution.success or not np.isfinite(state).all():
            reason = solution.message if not solution.success else "the solution is no longer finite"
            raise RuntimeError(f"solve_ivp({options['method']}) failed before t = {target:.6g}: {reason}")
        states.append(state)
    return states, nfev


def _require_short(differential: Callable, x0: np.ndarray, span: float, order: int) -> None:
    """Estimate the curvature along the gradient, and refuse times out of its reach."""
    gradient = np.asarray(differential(x0), dtype=float)
    if gradient.shape != x0.shape:
        raise ValueError(f"differential(x) must return the gradient, shape {x0.shape}, got {gradient.shape}")
    size = np.linalg.norm(gradient)
    if not np.isfinite(size):
        raise ValueError(f"differential(x0) is not finite: {gradient.tolist()[:6]}")
    shift = 1e-6 * gradient / size if size else np.zeros_like(x0)
    change = np.linalg.norm(np.asarray(differential(x0 + shift), dtype=float) - gradient)
    require_reachable(span, max(1e6 * change, 1e-30), order)


def _highest(vector: Expr) -> int:
    return max((d.derivative_count for d in vector.atoms(Derivative)), default=0)


def _integrate_system(limit: SystemLimit, differential: Callable, x0, t, options: dict) -> WeightTrajectory:
    r"""Integrate a system in :math:`\tau=\sqrt t`.

    Averages may start at 0, where the velocity may be singular like :math:`t^{-1/2}` but its derivative in
    :math:`\tau` is not. They are started at :math:`\tau_0` from their rates; what x moves until then is
    of order :math:`\tau_0`.
    """
    _require_short(differential, x0, t[-1], 1)
    system = system_field(limit, differential)
    starts = Field(list(limit.initial.values()), [limit.curve], limit.t, differential)
    averages = [np.array(a) for a in starts(0.0, [x0])]
    begin = _ROOT_START**2
    averages_only = Field(
        list(limit.averages.values()), [limit.curve, *limit.averages], limit.t, differential
    )
    rates = averages_only(begin, [x0, *averages])
    state = np.concatenate([x0, *(a + rate * begin for a, rate in zip(averages, rates, strict=True))])
    rows = [x0 for s in t if s <= begin]
    later, nfev = _advance(system, _ROOT_START, state, np.sqrt(t[t > begin]), options)
    return WeightTrajectory(t, np.array([*rows, *(s[: x0.size] for s in later)]), nfev)


def system_field(limit: SystemLimit, differential: Callable) -> Callable[[float, np.ndarray], np.ndarray]:
    """The right side in tau = sqrt(t) of the weights and the averages, as one state."""
    unknowns = [limit.curve, *limit.averages]
    field = Field([limit.velocity, *limit.averages.values()], unknowns, limit.t, differential)

    def rates(tau: float, state: np.ndarray) -> np.ndarray:
        return np.concatenate([2 * tau * r for r in field(tau**2, list(state.reshape(len(unknowns), -1)))])

    return rates
