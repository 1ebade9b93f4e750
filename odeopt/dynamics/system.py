r"""The dynamics as first-order systems for scipy's solvers, one from each break of a schedule to the next."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import sympy
from sympy import Expr, Symbol

from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.images import product
from odeopt.dynamics.losses import PredictionLoss
from odeopt.dynamics.momentum import ErrorMomentum
from odeopt.limits.initial_value import EXPLICIT, MOST_EVALUATIONS, Piece, follow_pieces, report_times
from odeopt.limits.intervals import intervals, on_interval, require_reached
from odeopt.limits.poles import Term, equation_start, is_finite_at_zero

__all__ = ["Problem", "Solved", "image", "solve"]


@dataclass(frozen=True)
class Problem:
    """The kernel in t (on modes the vector of eigenvalues), its value at 0, the loss, its targets, and q.

    q is what the image J X of the curve itself lacks in the state: Delta_0 - J w_0, or u_0 - J w_0. A kernel
    may have rows of other points below; states are flat, those of the examples first.
    """

    kernel: Callable[[float], Any]
    first: Any
    loss: PredictionLoss
    y: np.ndarray
    q: np.ndarray | None = None

    @functools.cached_property
    def largest(self) -> float:
        """The largest eigenvalue of H(0)."""
        first = self.first
        if not isinstance(first, np.ndarray):
            square = scipy.sparse.linalg.LinearOperator(
                (first.shape[1],) * 2, matvec=lambda v: (first @ v)[: first.shape[1]], dtype=np.float64
            )
            return float(scipy.sparse.linalg.eigsh(square, k=1, return_eigenvectors=False, tol=1e-3)[0])
        return float(first.max() if first.ndim == 1 else np.linalg.eigvalsh(first[: first.shape[1]])[-1])

    def gradient(self, u: np.ndarray) -> np.ndarray:
        """The gradient on the examples, and 0 for what is no example."""
        size = self.y.size
        slope = self.loss.gradient(u[:size].reshape(self.y.shape), self.y).reshape(-1)
        return slope if u.size == size else np.concatenate([slope, np.zeros(u.size - size)])


class System:
    r""":math:`u^{(n)}=S(t,H)q-\sum_jA_j(t,H)u^{(j)}`, where H meets :math:`\nabla\ell(u)` for u."""

    def __init__(
        self, coefficients: Sequence[Expr], source: Expr, t: Symbol, lam: Symbol, problem: Problem
    ) -> None:
        leading = coefficients[-1]
        if leading.has(lam):
            raise ValueError(f"the coefficient {leading} of the highest derivative must not depend on H")
        self.problem: Problem = problem
        self.order: int = len(coefficients) - 1
        # parts[j] = coefficients in t of H^0, H^1, ... multiplying the j-th derivative
        self.parts: list[list[Expr]] = [_in_powers(a, leading, lam) for a in coefficients[:-1]]
        compiled = [
            [sympy.lambdify(t, c, "numpy") for c in part]
            for part in (*self.parts, _in_powers(source, leading, lam))
        ]
        self.terms: list[list[Any]] = compiled[:-1]
        self.pull: list[Any] = compiled[-1]

    def force(self, t: float, blocks: np.ndarray) -> np.ndarray:
        """The highest derivative at a state of shape (order, n)."""
        matrix, problem = self.problem.kernel(t), self.problem
        curve, *powers = (c(t) for c in self.terms[0])
        forces = [curve * blocks[0] + _horner([0.0, *powers], matrix, problem.gradient(blocks[0]))]
        forces += [
            _horner([c(t) for c in terms], matrix, derivative)
            for terms, derivative in zip(self.terms[1:], blocks[1:], strict=True)
        ]
        pull = 0.0 if problem.q is None else _horner([c(t) for c in self.pull], matrix, problem.q)
        return pull - np.sum(forces, axis=0)

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(self.order, -1)
        return np.concatenate([*blocks[1:], self.force(t, blocks)])

    def blocks(self, t: float, state: np.ndarray) -> np.ndarray:
        """u and its derivatives, shape (order, n)."""
        return state.reshape(self.order, -1)

    def sizes(self, t: float) -> list[Any]:
        """The coefficients on the largest eigenvalue."""
        return [_horner([c(t) for c in terms], self.problem.largest, 1.0) for terms in self.terms]


class MomentumSystem(System):
    r""":math:`\dot u=wP`, :math:`\dot P=-C_1P-C_0u`, whose states are (u, P)."""

    def __init__(self, form: ErrorMomentum, t: Symbol, lam: Symbol, problem: Problem) -> None:
        super().__init__((*form.coefficients, sympy.S.One), form.source, t, lam, problem)
        self.weight: Callable = sympy.lambdify(t, form.weight, "numpy")

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(2, -1)
        return np.concatenate([self.weight(t) * blocks[1], self.force(t, blocks)])

    def blocks(self, t: float, state: np.ndarray) -> np.ndarray:
        u, momentum = state.reshape(2, -1)
        return np.array([u, self.weight(t) * momentum])

    def sizes(self, t: float) -> list[Any]:
        stiffness, friction = super().sizes(t)
        return [self.weight(t) * stiffness, friction]


def image(polynomial: Expr, lam: Symbol, matrix: Any, vector: np.ndarray) -> np.ndarray:
    """Evaluate a polynomial in H on a vector."""
    coefficients = sympy.Poly(polynomial, lam).all_coeffs()[::-1]
    return _horner([float(c) for c in coefficients], matrix, vector)


def _in_powers(coefficient: Expr, leading: Expr, lam: Symbol) -> list[Expr]:
    return [sympy.cancel(c / leading) for c in sympy.Poly(coefficient, lam).all_coeffs()[::-1]]


def _horner(coefficients: Sequence[Any], matrix: Any, vector: Any) -> Any:
    """Evaluate (c_0 + c_1 H + c_2 H^2 + ...) v."""
    result = coefficients[-1] * vector
    if np.ndim(matrix) < 2:
        for c in reversed(coefficients[:-1]):
            result = matrix * result + c * vector
        return result
    rows, columns = matrix.shape
    for c in reversed(coefficients[:-1]):
        result = product(matrix, result[: result.size // rows * columns]) + c * vector
    return result


@dataclass(frozen=True)
class Solved:
    """States (T, order, n) at times, their derivatives of first order (T, n), evaluations, message."""

    times: np.ndarray
    states: np.ndarray
    velocity: np.ndarray
    nfev: int
    message: str


def solve(
    dynamics: ErrorDynamics,
    problem: Problem,
    begin: tuple[np.ndarray, np.ndarray, np.ndarray],
    t: Any,
    options: dict[str, Any],
) -> Solved:
    """Integrate from (position, whole, slope).

    Initial derivatives are polynomials in H, of which H^0 multiplies `whole`, and higher powers `slope`.
    """
    if not dynamics.is_numeric:
        raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")
    t = report_times(t)
    require_reached(dynamics, dynamics.coefficients, float(t[-1]))
    spans = intervals((*dynamics.coefficients, dynamics.source), dynamics.t, float(t[-1]))
    pieces, start, early = _pieces(dynamics, problem, begin, spans, float(t[-1]), options["rtol"])
    if options["method"] in EXPLICIT:
        _require_affordable(pieces, float(t[-1]), options["method"])
    blocks, rates, used, message = [], [], 0, "no time beyond the start"

    def report(system: Any, time: float, state: np.ndarray) -> None:
        blocks.append(system.blocks(time, state))
        with np.errstate(all="ignore"):  # a pole at 0
            rates.append(blocks[-1][1] if dynamics.order > 1 else system(time, state))

    for time in t[t <= start]:
        report(pieces[0].system, time, early(time).ravel())
    steps = follow_pieces(pieces, start, early(start).ravel(), t, options)
    for time, (state, count, said, number) in zip(t[t > start], steps, strict=True):
        report(pieces[number].system, time, state)
        used, message = used + count, said
    return Solved(t, np.array(blocks), np.array(rates), used, message)


def _pieces(
    dynamics: ErrorDynamics,
    problem: Problem,
    begin: tuple[np.ndarray, np.ndarray, np.ndarray],
    spans: list[tuple[float, float]],
    last: float,
    rtol: float,
) -> tuple[list[Piece], float, Callable]:
    """Systems with the times at which they end, the solver's first time, and the states until then."""
    t, lam, form = dynamics.t, dynamics.lam, dynamics.momentum
    (stop, inside), (position, whole, slope) = spans[0], begin

    def plain(at: float) -> System:
        *held, source = (on_interval(c, t, at) for c in (*dynamics.coefficients, dynamics.source))
        return System(held, source, t, lam, problem)

    def value(along: Expr, along_q: Expr) -> np.ndarray:
        moved = 0.0 if problem.q is None else image(along_q, lam, problem.first, problem.q)
        still = along.subs(lam, 0)
        return float(still) * whole + image(along - still, lam, problem.first, slope) + moved

    along_q = dynamics.source_data or (sympy.S.Zero,) * dynamics.order
    data = np.array(
        [
            position + value(sympy.S.Zero, along_q[0]),
            *(value(e, a) for e, a in zip(dynamics.initial, along_q[1:], strict=True)),
        ]
    )
    if form is None:
        systems = [plain(at) for _, at in spans]
        start, early = _start(dynamics, systems[0], data, min(stop, last), rtol)
        return [Piece(end, s) for (end, _), s in zip(spans, systems, strict=True)], start, early
    held = [form.map(lambda c, at=at: on_interval(c, t, at)) for _, at in spans]
    pieces = [Piece(end, MomentumSystem(f, t, lam, problem)) for (end, _), f in zip(spans, held, strict=True)]
    if all(is_finite_at_zero(c, t) for part in pieces[0].system.parts for c in part):
        data = np.array([data[0], value(*form.start)])
        return pieces, 0.0, lambda s: data
    # friction with a pole at 0: begun in u', well before the weight may vanish
    middle, weight = min(stop, last) / 2, pieces[0].system.weight
    first = plain(inside)
    start, early = _start(dynamics, first, data, middle, rtol)

    def enter(time: float, state: np.ndarray) -> np.ndarray:
        u, velocity = state.reshape(2, -1)
        return np.concatenate([u, velocity / weight(time)])

    return [Piece(middle, first), pieces[0]._replace(enter=enter), *pieces[1:]], start, early


def _start(
    dynamics: ErrorDynamics, system: System, data: np.ndarray, end: float, rtol: float
) -> tuple[float, Callable]:
    """The time at which solve_ivp takes over, and the states (order, n) until then."""
    terms = [
        Term(c, j, p, "H " * p + "Delta" + "'" * j)
        for j, part in enumerate(system.parts)
        for p, c in enumerate(part)
    ]
    return equation_start(
        dynamics, dynamics.t, terms, system.force, data, end=end, rtol=rtol, largest=system.problem.largest
    )


def _require_affordable(pieces: list[Piece], end: float, method: str) -> None:
    """Refuse a time that an explicit method, held by its stability to steps of 1/|root|, cannot reach."""
    needed, start, largest = 0.0, 0.0, pieces[0].system.problem.largest
    for stop, system, _ in pieces:
        stop = min(stop, end)
        times = start + (stop - start) * np.linspace(0, 1, 34)[1:]
        with np.errstate(all="ignore"):
            c = np.array([system.sizes(s) for s in times])
            # some root of z^n + ... + c_0 is at least as large as this
            radius = np.max(np.abs(c) ** (1 / (system.order - np.arange(system.order))), axis=1)
            needed += 2 * (stop - start) * float(np.mean(radius)) / system.order
        start = stop
    needed = min(needed, 1e300)
    if needed > MOST_EVALUATIONS:
        raise ValueError(
            f"t = {end:.6g} is too far for {method}: with an eigenvalue {largest:.4g} it needs "
            f"at least {needed:.1e} evaluations, beyond {MOST_EVALUATIONS:.0e}; ask for shorter times, "
            "evaluate mode_solution(dynamics), or take method='Radau' for a stiff equation"
        )
