r"""Integration of a limit in the space of the weights, for a loss given by its derivatives.

In prediction space a kernel is all that is needed; here the loss is any function, so corrections with
Hessians and third derivatives, and methods that do not close in prediction space, can be checked
against their own iterates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Derivative, Expr, Symbol

from odeopt.checks import real_array
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.collocation import regular_start
from odeopt.limits.equation import ODELimit, with_terms
from odeopt.limits.field import Field
from odeopt.limits.initial_value import Piece, follow_pieces, report_times, solver_options
from odeopt.limits.intervals import intervals, on_interval, require_reached
from odeopt.limits.momentum_form import MomentumForm
from odeopt.limits.poles import Term, equation_start, is_finite_at_zero, require_determined
from odeopt.limits.series import GradientDifferential
from odeopt.shown import Shown, Summary, along, rows_at

__all__ = ["WeightTrajectory", "integrate_limit", "system_field"]


@dataclass(frozen=True, repr=False)
class WeightTrajectory(Shown):
    """Weights along time, as integrated.

    Parameters
    ----------
    t : numpy.ndarray, shape (T,)
        Times, read-only.
    x : numpy.ndarray, shape (T, d)
        Weights, read-only.
    nfev : int
        Evaluations of the right-hand side.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> limit = ode_limit(GradientDescent(lr=0.1))
    >>> run = integrate_limit(limit, lambda x: x, [1.0, 2.0], [0.0, 1.0, 2.0], rtol=1e-8, atol=1e-10)
    >>> run.t, run.x.shape
    (array([0., 1., 2.]), (3, 2))
    """

    t: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    nfev: int

    def __post_init__(self) -> None:
        for name in ("t", "x"):
            getattr(self, name).setflags(write=False)

    def _summary(self) -> Summary:
        facts = [along(self), f"{self.x.shape[1]} weights", f"integrated with {self.nfev} evaluations"]
        return Summary(facts, *rows_at({"t": self.t, "|x|": np.linalg.norm(self.x, axis=1)}))


def integrate_limit(
    limit: ODELimit | SystemLimit,
    differential: Callable[..., npt.ArrayLike],
    x0: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: Literal["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"] = "DOP853",
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
    method : {"DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"}
        The solver.

    Returns
    -------
    WeightTrajectory
        The weights at the times `t`, and the number of evaluations.

    Raises
    ------
    ValueError
        If the limit holds symbols, an argument is invalid, or the initial data do not determine a solution
        from a singularity at t = 0.
    RuntimeError
        If the solver fails, with its message, the solution leaves the range of float64, or the times are out
        of reach of ten million evaluations; it is a ValueError too.

    Notes
    -----
    Where coefficients are singular at t = 0, or averages start at 0 under a root, the solution is found on a
    first interval as a polynomial in (a root of) t, by collocation to a hundredth of `rtol`.

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
            f"limit must be an ODELimit or a SystemLimit, got {type(limit).__name__}; pass what ode_limit "
            "returns"
        )
    if not callable(differential):
        raise ValueError(
            f"differential must be a function of x and directions, got {type(differential).__name__}"
        )
    times, first = report_times(t), real_array(x0, "x0", ndim=1)
    options = solver_options(rtol, atol, method)
    require_reached(limit, _held(limit), float(times[-1]))
    pieces, start, early = _pieces(limit, _checked(differential), first, float(times[-1]), options["rtol"])
    steps = list(follow_pieces(pieces, start, early(start).ravel(), times, options))
    rows = [early(s)[0] for s in times[times <= start]] + [state[: first.size] for state, *_ in steps]
    return WeightTrajectory(times, np.array(rows), sum(used for _, used, *_ in steps))


def _pieces(
    limit: ODELimit | SystemLimit, differential: Callable, x0: np.ndarray, end: float, rtol: float
) -> tuple[list[Piece], float, Callable]:
    """The right-hand sides between breaks, the time at which the solver starts, the states until then."""
    single = isinstance(limit, SystemLimit)
    spans = intervals(_held(limit), limit.t, end)
    if not single and limit.momentum is not None:
        return _with_momentum(limit, spans, differential, x0, end, rtol)
    stop, inside = spans[0]
    begin = _system if single else _equation
    first = min(end, stop)
    rates, start, early = begin(_at(limit, inside), differential, x0, first, rtol)
    later = [Piece(stop, _rates(_at(limit, inside), differential)) for stop, inside in spans[1:]]
    return [Piece(stop, rates), *later], start, early


def _held(limit: ODELimit | SystemLimit) -> list[Expr]:
    """All expressions of a limit, those with t among them."""
    if isinstance(limit, SystemLimit):
        return [limit.velocity, *limit.averages.values()]
    return [*limit.terms.values(), *limit.terms]


def _at(limit: Any, inside: float) -> Any:
    """The limit with the formulas that hold at a time."""

    def formula(expr: Expr) -> Expr:
        return on_interval(expr, limit.t, inside)

    if isinstance(limit, SystemLimit):
        averages = MappingProxyType({m: formula(e) for m, e in limit.averages.items()})
        return replace(limit, velocity=formula(limit.velocity), averages=averages)
    return with_terms(limit, {formula(v): formula(c) for v, c in limit.terms.items()})


def _rates(limit: Any, differential: Callable) -> Callable[[float, np.ndarray], np.ndarray]:
    if isinstance(limit, SystemLimit):
        return system_field(limit, differential)
    return _first_order(limit.order, _acceleration(limit, differential))


def _first_order(n: int, acceleration: Callable) -> Callable[[float, np.ndarray], np.ndarray]:
    """An equation of order n as a system."""

    def rates(time: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(n, -1)
        return np.concatenate([*blocks[1:], acceleration(time, blocks)])

    return rates


def _checked(differential: Callable[..., npt.ArrayLike]) -> Callable[..., np.ndarray]:
    """The differential, with an error that names it where it cannot be called or returns no numbers."""

    def checked(x: np.ndarray, *directions: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(differential(x, *directions), dtype=float)
        except (TypeError, ValueError) as error:
            vectors = "".join(f", v_{i + 1}" for i in range(len(directions)))
            raise ValueError(
                f"differential(x{vectors}) returned no array of numbers: {error}; it must give the "
                f"derivative of order {len(directions) + 1} of the loss, applied to {len(directions)} vectors"
            ) from error

    return checked


# --- equations of order n ------------------------------------------------------------------------------


def _equation(
    limit: ODELimit, differential: Callable[..., np.ndarray], x0: np.ndarray, end: float, rtol: float
) -> tuple[Callable, float, Callable]:
    """The first-order system, the time from which it is integrated, and its states until then."""
    n, curve, t = limit.order, limit.curve, limit.t
    if any(_highest(v) > n for v in limit.terms):
        raise ValueError(f"{limit} is not in normal form; derive it with form='normal'")
    start = Field([limit.initial_position, *limit.initial], [curve], t, differential)
    top = curve.diff(t, n)
    lead = limit.terms[top]
    others = {v: _ratio(c, lead) for v, c in limit.terms.items() if v != top}
    unknowns = [curve.diff(t, j) for j in range(n)]
    terms = [
        Term(c, unknowns.index(v), 0, str(v)) if v in unknowns else Term(c, _order(v), 1, str(v))
        for v, c in others.items()
    ]
    acceleration = _acceleration(limit, differential)
    data = np.array(start(0.0, [x0]))
    found = equation_start(limit, t, terms, acceleration, data, end=end, rtol=rtol)
    return _first_order(n, acceleration), *found


def _acceleration(limit: ODELimit, differential: Callable) -> Callable[[float, np.ndarray], np.ndarray]:
    """The highest derivative at a state of shape (n, d)."""
    curve, t, n = limit.curve, limit.t, limit.order
    top = curve.diff(t, n)
    right = -sympy.Add(*(_ratio(c, limit.terms[top]) * v for v, c in limit.terms.items() if v != top))
    field = Field([right], [curve.diff(t, j) for j in range(n)], t, differential)
    return lambda time, blocks: field(time, list(blocks))[0]


# --- in the momentum P = X'/w --------------------------------------------------------------------------


def _with_momentum(
    limit: ODELimit,
    spans: list[tuple[float, float]],
    differential: Callable,
    x0: np.ndarray,
    end: float,
    rtol: float,
) -> tuple[list[Piece], float, Callable]:
    """The same for states (X, P), which schedules that vanish or jump leave finite and continuous."""
    form, t = cast("MomentumForm", limit.momentum), limit.t
    stop, inside = spans[0]
    opening = form.map(lambda c: on_interval(c, t, inside))
    pieces = [
        Piece(stop, _momentum_rates(limit, form.map(lambda c, at=at: on_interval(c, t, at)), differential))
        for stop, at in spans
    ]
    if is_finite_at_zero(opening.friction, t):
        start = np.array(
            Field([limit.initial_position, form.start], [limit.curve], t, differential)(0.0, [x0])
        )
        return pieces, 0.0, lambda s: start
    # friction with a pole at 0: begun in X', well before the weight may vanish
    middle = min(end, stop) / 2
    rates, start, early = _equation(_at(limit, inside), differential, x0, middle, rtol)
    weight = sympy.lambdify(t, opening.weight, "numpy")

    def enter(time: float, state: np.ndarray) -> np.ndarray:
        position, velocity = state.reshape(2, -1)
        return np.concatenate([position, velocity / weight(time)])

    return [Piece(middle, rates), pieces[0]._replace(enter=enter), *pieces[1:]], start, early


def _momentum_rates(limit: ODELimit, form: MomentumForm, differential: Callable) -> Callable:
    curve, t = limit.curve, limit.t
    velocity = curve.diff(t)
    force = -sympy.Add(*(c * v for v, c in form.forces.items()))
    field = Field([force], [curve, velocity], t, differential)
    weight, friction = (sympy.lambdify(t, c, "numpy") for c in (form.weight, form.friction))

    def rates(time: float, state: np.ndarray) -> np.ndarray:
        position, momentum = state.reshape(2, -1)
        moved = weight(time) * momentum
        return np.concatenate([moved, field(time, [position, moved])[0] - friction(time) * momentum])

    return rates


def _ratio(coefficient: Expr, lead: Expr) -> Expr:
    ratio = coefficient / lead
    return sympy.cancel(ratio) if ratio.is_rational_function() else ratio


def _order(vector: Expr) -> int:
    """Derivatives of X among the directions of a differential, which are each of order 1/t at a pole."""
    return sum(_highest(v) for v in vector.directions) if isinstance(vector, GradientDifferential) else 0


def _highest(vector: Expr) -> int:
    return max((d.derivative_count for d in vector.atoms(Derivative)), default=0)


# --- systems -------------------------------------------------------------------------------------------


def _system(
    limit: SystemLimit, differential: Callable[..., np.ndarray], x0: np.ndarray, end: float, rtol: float
) -> tuple[Callable, float, Callable]:
    """The same for a system, whose averages may start at 0 under a root or be divided by t."""
    rates = system_field(limit, differential)
    starts = Field(list(limit.initial.values()), [limit.curve], limit.t, differential)
    data = np.array([x0, *starts(0.0, [x0])])
    expressions = [limit.velocity, *limit.averages.values()]
    root = math.lcm(1, *(int(p.exp.q) for e in expressions for p in e.atoms(sympy.Pow) if p.exp.is_Rational))
    with np.errstate(all="ignore"):
        regular = root == 1 and np.all(np.isfinite(rates(0.0, data.ravel())))
    if regular or end == 0:
        return rates, 0.0, lambda s: data
    euler = _poles(expressions, [limit.curve, *limit.averages], limit.t)
    require_determined(euler, limit, given=0, below=0.0, first=1, root=root)
    gap = np.abs(euler @ data).max()
    if gap > 1e-9 * np.abs(data).max():
        raise ValueError(f"{limit} is singular at t = 0, and its initial data are not at rest there")

    def remainder(t: float, state: np.ndarray) -> np.ndarray:
        return t * rates(t, state.ravel()).reshape(data.shape) - euler @ state

    slopes = Field(list(limit.averages.values()), [limit.curve, *limit.averages], limit.t, differential)

    def guess(t: float) -> np.ndarray:
        return data + t * np.array([np.zeros_like(x0), *slopes(t, list(data))])

    found = regular_start(
        remainder,
        lambda t: data,
        euler,
        first=1,
        root=root,
        longest=min(end, 1.0),
        tolerance=0.01 * rtol,
        scales=range(len(data)),
        guess=guess,
    )
    if found is None:
        raise ValueError(
            f"{limit} has no solution at t = 0 that starts from its initial data as a series in t"
        )
    return rates, found.time, found


def _poles(expressions: Sequence[Expr], unknowns: Sequence[Expr], t: Symbol) -> np.ndarray:
    """The matrix E in t y' = E y + ...: what divides an unknown by t, and by nothing else that varies."""
    vectors = set().union(*(e.atoms(GradientDifferential) for e in expressions))
    names = {v: sympy.Dummy(f"v{i}") for i, v in enumerate((*unknowns, *vectors))}
    euler = np.zeros((len(unknowns), len(unknowns)))
    for i, expression in enumerate(expressions):
        for j, unknown in enumerate(unknowns):
            slope = expression.xreplace(names).diff(names[unknown])
            if slope.has(t) and slope.free_symbols == {t}:
                pole = sympy.limit(t * slope, t, 0, "+")
                euler[i, j] = float(pole) if pole.is_number and pole.is_finite and pole.is_real else 0.0
    return euler


def system_field(
    limit: SystemLimit, differential: Callable[..., Any]
) -> Callable[[float, np.ndarray], np.ndarray]:
    """The rates of the weights and the averages, as one state."""
    unknowns = [limit.curve, *limit.averages]
    field = Field([limit.velocity, *limit.averages.values()], unknowns, limit.t, differential)

    def rates(t: float, state: np.ndarray) -> np.ndarray:
        return np.concatenate(field(t, list(state.reshape(len(unknowns), -1))))

    return rates
