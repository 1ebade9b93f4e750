r"""Integration of a limit in the space of the weights, for a loss given by its derivatives.

In prediction space a kernel is all that is needed; here the loss is any function, so corrections with
Hessians and third derivatives, and methods that do not close in prediction space, can be checked
against their own iterates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.integrate
import sympy
from sympy import Derivative, Expr

from odeopt.checks import nonnegative_grid
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.ode import ODELimit
from odeopt.limits.series import GradientDifferential

__all__ = ["WeightTrajectory", "integrate_limit"]

# Friction r/t is started at this time by a quadratic, whose error is its cube.
_START = 1e-5
# The root of the time at which averages are started; x has then moved by this much times its speed.
_ROOT_START = 1e-8


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

    t: np.ndarray
    x: np.ndarray
    nfev: int


def integrate_limit(
    limit: ODELimit | SystemLimit,
    differential: Callable[..., np.ndarray],
    x0,
    t,
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
        If the limit holds symbols, or the grid is not increasing.
    RuntimeError
        If the solver fails, with its message.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> limit = ode_limit(GradientDescent(lr=0.1))
    >>> run = integrate_limit(limit, lambda x: x, [1.0], [0.0, 1.0], rtol=1e-10, atol=1e-12)
    >>> bool(np.isclose(run.x[1, 0], np.exp(-1.0)))
    True
    """
    t = nonnegative_grid(t, "t")
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"t must increase strictly, got {t.tolist()[:6]}...; sort it and drop repeats")
    x0 = np.asarray(x0, dtype=float)
    if isinstance(limit, SystemLimit):
        return _integrate_system(limit, differential, x0, t, {"rtol": rtol, "atol": atol, "method": method})
    system = _WeightSystem(limit, differential, x0.size)
    start, state = system.start(x0)
    rows, nfev = [x0 + (state[: x0.size] - x0) * (s > 0) for s in t[t <= start]], 0
    for target in t[t > start]:
        solution = scipy.integrate.solve_ivp(
            system, (start, target), state, method=method, rtol=rtol, atol=atol
        )
        if not solution.success:
            raise RuntimeError(f"solve_ivp({method}) failed before t = {target:.6g}: {solution.message}")
        start, state, nfev = target, solution.y[:, -1], nfev + solution.nfev
        rows.append(state[: x0.size])
    if system.shifted is not None and t[0] == 0:
        rows[0] = system.shifted
    return WeightTrajectory(t, np.array(rows), nfev)


class _WeightSystem:
    """A limit as a first-order system, its vectors evaluated through the differentials of the loss."""

    def __init__(self, limit: ODELimit, differential: Callable, d: int):
        self.limit, self.differential, self.d = limit, differential, d
        top = limit.curve.diff(limit.t, limit.order)
        if any(v.has(Derivative) and _highest(v) > limit.order for v in limit.terms):
            raise ValueError(f"{limit} is not in normal form; derive it with form='normal'")
        lead = limit.terms[top]
        free = set().union(*(c.free_symbols for c in (*limit.terms.values(),))) - {limit.t}
        if free:
            raise ValueError(
                f"{limit} holds the symbols {', '.join(sorted(map(str, free)))}; give them numbers"
            )
        self.terms = [
            (vector, sympy.lambdify(limit.t, sympy.cancel(c / lead), "numpy"))
            for vector, c in limit.terms.items()
            if vector != top
        ]
        self.singular = any(sympy.cancel(c).subs(limit.t, 0).has(sympy.zoo) for c in limit.terms.values())
        self.shifted: np.ndarray | None = None

    def vector(self, expr: Expr, blocks: np.ndarray) -> np.ndarray:
        """Evaluate a vector at the state (X, X', ...)."""
        if isinstance(expr, GradientDifferential):
            return self.differential(blocks[0], *(self.vector(v, blocks) for v in expr.directions))
        if isinstance(expr, Derivative):
            return blocks[expr.derivative_count]
        return blocks[0]

    def combination(self, expr: Expr, blocks: np.ndarray) -> np.ndarray:
        """Evaluate a combination with numeric coefficients at the state."""
        total = np.zeros(self.d)
        for term in sympy.Add.make_args(sympy.expand(expr)):
            scalar, vector = term.as_independent(
                GradientDifferential, Derivative, sympy.core.function.AppliedUndef, as_Add=False
            )
            if scalar != 0:
                total = total + float(scalar) * self.vector(vector, blocks)
        return total

    def acceleration(self, t: float, blocks: np.ndarray) -> np.ndarray:
        return -sum(c(t) * self.vector(v, blocks) for v, c in self.terms)

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(self.limit.order, self.d)
        return np.concatenate([*blocks[1:], self.acceleration(t, blocks)])

    def start(self, x0: np.ndarray) -> tuple[float, np.ndarray]:
        """Time and state from which solve_ivp can start."""
        at = np.array([x0, *np.zeros((self.limit.order - 1, self.d))])
        position = self.combination(self.limit.initial_position, at)
        derivatives = [self.combination(e, at) for e in self.limit.initial]
        self.shifted = None if np.array_equal(position, x0) else position
        if not self.singular:
            return 0.0, np.concatenate([position, *derivatives])
        (velocity,) = derivatives
        bend = np.zeros(self.d)
        for _ in range(4):  # each pass gains a factor of the start time in accuracy
            blocks = np.array([x0 + velocity * _START + bend * _START**2 / 2, velocity + bend * _START])
            friction = (self.acceleration(_START, blocks) + bend * self._friction()) / (1 + self._friction())
            bend = friction
        blocks = np.array([x0 + velocity * _START + bend * _START**2 / 2, velocity + bend * _START])
        return _START, blocks.reshape(-1)

    def _friction(self) -> float:
        """The r of friction r/t."""
        coefficient = self.limit.coefficients[0] / self.limit.coefficients[1]
        return float(sympy.limit(coefficient * self.limit.t, self.limit.t, 0))


def _highest(vector: Expr) -> int:
    return max((d.derivative_count for d in vector.atoms(Derivative)), default=0)


def _integrate_system(limit: SystemLimit, differential, x0, t, options) -> WeightTrajectory:
    r"""Integrate an adaptive method in :math:`\tau=\sqrt t`.

    Averages start at 0, where the velocity may be singular like :math:`t^{-1/2}` but its derivative in
    :math:`\tau` is not. They are started at :math:`\tau_0` from their rates; what x moves until then is
    of order :math:`\tau_0`.
    """
    averages = list(limit.averages)
    system = _AdaptiveSystem(limit, averages, differential)
    rates = system.rates(0.0, x0, [np.zeros_like(x0)] * len(averages), averages_only=True)
    state = np.concatenate([x0, *(rate * _ROOT_START**2 for rate in rates)])
    rows, nfev, start = [x0 for s in t if s <= _ROOT_START**2], 0, _ROOT_START
    for target in np.sqrt(t[t > _ROOT_START**2]):
        solution = scipy.integrate.solve_ivp(system, (start, target), state, **options)
        if not solution.success:
            raise RuntimeError(f"solve_ivp failed before t = {target**2:.6g}: {solution.message}")
        start, state, nfev = target, solution.y[:, -1], nfev + solution.nfev
        rows.append(state[: x0.size])
    return WeightTrajectory(t, np.array(rows), nfev)


class _AdaptiveSystem:
    """Right-hand side in tau = sqrt(t) of the weights and the averages."""

    def __init__(self, limit: SystemLimit, averages: list, differential: Callable):
        self.limit, self.averages, self.differential = limit, averages, differential
        expressions = [limit.velocity, *limit.averages.values()]
        free = set().union(*(e.free_symbols for e in expressions)) - {limit.t}
        if free:
            raise ValueError(
                f"{limit} holds the symbols {', '.join(sorted(map(str, free)))}; give them numbers"
            )
        vectors = sorted(
            set().union(*(e.atoms(GradientDifferential) for e in expressions)),
            key=lambda v: len(v.directions),
        )
        if any(len(v.directions) > 1 for v in vectors):
            raise ValueError(f"{limit} holds derivatives of the loss beyond the Hessian")
        self.vectors = vectors
        names = [sympy.Dummy(f"v{i}") for i in range(len(vectors))]
        slots = [sympy.Dummy(f"m{i}") for i in range(len(averages))]
        replaced = dict(zip(reversed(vectors), reversed(names), strict=True)) | dict(
            zip(averages, slots, strict=True)
        )
        self.functions = [
            sympy.lambdify([limit.t, *slots, *names], e.xreplace(replaced), "numpy") for e in expressions
        ]
        inner = {
            v: n for v, n in replaced.items() if not isinstance(v, GradientDifferential) or not v.directions
        }
        self.directions = [
            [sympy.lambdify([limit.t, *slots, *names], d.xreplace(inner), "numpy") for d in v.directions]
            for v in vectors
        ]

    def rates(self, t: float, x: np.ndarray, averages: list, averages_only: bool = False) -> list[np.ndarray]:
        values = [np.zeros_like(x) for _ in self.vectors]
        for i, (vector, directions) in enumerate(zip(self.vectors, self.directions, strict=True)):
            if vector.directions and averages_only:
                continue
            moved = [np.broadcast_to(d(t, *averages, *values), x.shape) for d in directions]
            values[i] = self.differential(x, *moved)
        chosen = self.functions[1:] if averages_only else self.functions
        return [np.broadcast_to(f(t, *averages, *values), x.shape) for f in chosen]

    def __call__(self, tau: float, state: np.ndarray) -> np.ndarray:
        x, *averages = state.reshape(len(self.averages) + 1, -1)
        return np.concatenate([2 * tau * rate for rate in self.rates(tau**2, x, averages)])
