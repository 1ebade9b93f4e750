r"""Numerical integration of error and prediction dynamics by scipy, for constant or time-varying kernels.

The full system :math:`\sum_{j\ge1}A_j(t,H(t))u^{(j)}+A_0(t,H(t))\nabla\ell(u)=0` is integrated as it
stands, without diagonalising H: an independent route to the curves of :mod:`odeopt.spectra.curve`. The error
dynamics are the case :math:`\ell=\tfrac12\lVert u-y\rVert^2` with :math:`u-y=\Delta`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import sympy

from odeopt.checks import predictions_and_targets, real_array, validate_error, validate_kernel
from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.dynamics.prediction import PredictionDynamics
from odeopt.limits.initial_value import (
    EXPLICIT,
    MOST_EVALUATIONS,
    follow,
    report_times,
    require_finite,
    solver_options,
)
from odeopt.limits.poles import Term, equation_start

__all__ = ["PredictionTrajectory", "Trajectory", "integrate", "integrate_predictions"]
Method = Literal["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"]


@dataclass(frozen=True)
class Trajectory:
    """Errors along time, as integrated.

    Attributes
    ----------
    t : numpy.ndarray, shape (T,)
    delta : numpy.ndarray, shape (T, n)
        Errors.
    loss : numpy.ndarray, shape (T,)
        Half the squared norm of the error.
    nfev : int
        Evaluations of the right-hand side.
    message : str
        The solver's message.
    """

    t: np.ndarray
    delta: np.ndarray
    loss: np.ndarray
    nfev: int
    message: str
    layer: ClassVar[str] = "linear ODE"

    def __post_init__(self) -> None:
        for name in ("t", "delta", "loss"):
            getattr(self, name).setflags(write=False)


@dataclass(frozen=True)
class PredictionTrajectory:
    r"""Predictions along time, as integrated.

    Attributes
    ----------
    t : numpy.ndarray, shape (T,)
    u, velocity : numpy.ndarray, shape (T, n)
        Predictions and their derivatives in time.
    loss : numpy.ndarray, shape (T,)
        :math:`\ell(u(t))`, summed over the examples.
    nfev : int
        Evaluations of the right-hand side.
    message : str
        The solver's message.
    """

    t: np.ndarray
    u: np.ndarray
    velocity: np.ndarray
    loss: np.ndarray
    nfev: int
    message: str
    layer: ClassVar[str] = "prediction-space ODE"

    def __post_init__(self) -> None:
        for name in ("t", "u", "velocity", "loss"):
            getattr(self, name).setflags(write=False)


def integrate(
    dynamics: ErrorDynamics,
    kernel: npt.ArrayLike | Callable[[float], npt.ArrayLike],
    delta0: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: Method = "DOP853",
    origin: npt.ArrayLike | None = None,
) -> Trajectory:
    r"""Integrate the error dynamics with :func:`scipy.integrate.solve_ivp`.

    Parameters
    ----------
    dynamics : ErrorDynamics
        With numeric coefficients.
    kernel : array_like, shape (n, n), or callable
        H, or t -> H(t).
    delta0 : array_like, shape (n,)
        Initial error.
    t : array_like, shape (T,)
        Increasing nonnegative times at which to report. Integration starts at 0.
    rtol, atol : float
        Tolerances of the solver; there is no default.
    method : {"DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"}
        The solver.
    origin : array_like, shape (n,), optional
        :math:`Jw_0`, for weights that decay to 0.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        On an invalid kernel, error, grid or tolerance, dynamics that hold symbols, a singularity at t = 0
        from which the initial data do not determine a solution, or work beyond ten million evaluations.
    RuntimeError
        If the solver fails, with its message, or the solution leaves the range of float64; it is a
        ValueError too.

    Notes
    -----
    Coefficients such as friction r/t are singular at t = 0. The solution that starts from the initial data
    is then found on a first interval as a series in t (in :math:`t^{1/q}` for fractional powers), by
    collocation to a hundredth of `rtol`, for any regular pole and for varying kernels.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit, error_dynamics
    >>> dynamics = error_dynamics(ode_limit(GradientDescent(lr=0.1)))
    >>> run = integrate(dynamics, np.diag([1.0, 2.0]), [1.0, 1.0], [0.0, 1.0], rtol=1e-10, atol=1e-12)
    >>> bool(np.allclose(run.delta[1], np.exp([-1.0, -2.0]), rtol=1e-9))
    True
    """
    dynamics = require_error_dynamics(dynamics, "trajectory", source=origin is not None)
    options = solver_options(rtol, atol, method)
    checked, matrix = _kernel(kernel)
    first = validate_error(delta0, len(matrix))
    q = first - (first if origin is None else real_array(origin, "origin", ndim=1))
    system = _System(dynamics, checked, (SquaredLoss(), np.zeros_like(first)), matrix, q)
    data = [system.image(e, matrix, first) for e in (dynamics.start, *dynamics.initial)]
    for value, along_q in zip(data, dynamics.source_data, strict=False):
        value += system.image(along_q, matrix, q)
    times, states, nfev, message = _solve(system, data, t, options)
    delta = states[:, 0]
    with np.errstate(over="ignore"):
        loss = 0.5 * np.sum(delta**2, axis=1)
    require_finite(loss, times, "the loss")
    return Trajectory(times, delta, loss, nfev, message)


def integrate_predictions(
    dynamics: PredictionDynamics,
    kernel: npt.ArrayLike | Callable[[float], npt.ArrayLike],
    u0: npt.ArrayLike,
    y: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: Method = "DOP853",
) -> PredictionTrajectory:
    r"""Integrate the dynamics of the predictions under any loss with :func:`scipy.integrate.solve_ivp`.

    Parameters
    ----------
    dynamics : PredictionDynamics
        With numeric coefficients.
    kernel : array_like, shape (n, n), or callable
        H, or t -> H(t).
    u0 : array_like, shape (n,)
        Initial predictions.
    y : array_like, shape (n,)
        Targets.
    t : array_like, shape (T,)
        Increasing nonnegative times at which to report. Integration starts at 0.
    rtol, atol : float
        Tolerances of the solver; there is no default.
    method : {"DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"}
        The solver.

    Returns
    -------
    PredictionTrajectory

    Raises
    ------
    ValueError
        On invalid kernel, predictions, targets, grid or tolerances, dynamics that hold symbols, a
        singularity at t = 0 from which the initial data do not determine a solution, or work beyond ten
        million evaluations.
    RuntimeError
        If the solver fails, with its message, or the solution leaves the range of float64; it is a
        ValueError too.

    Notes
    -----
    Coefficients that are singular at t = 0 are treated as in :func:`odeopt.integrate`; no derivative of the
    loss beyond its gradient is taken.

    Examples
    --------
    Logistic loss under gradient flow, one example: u' = 1/(1 + exp(u)) has t = u + exp(u) - 1.

    >>> from odeopt import GradientDescent, LogisticLoss, ode_limit, prediction_dynamics
    >>> dynamics = prediction_dynamics(ode_limit(GradientDescent(lr=0.1)), LogisticLoss())
    >>> run = integrate_predictions(dynamics, [[1.0]], [0.0], [1.0], [0.0, np.e], rtol=1e-10, atol=1e-12)
    >>> bool(np.isclose(run.u[1, 0], 1.0, rtol=1e-9))
    True
    """
    if not isinstance(dynamics, PredictionDynamics):
        raise ValueError(
            f"dynamics must be PredictionDynamics, got {type(dynamics).__name__}; make it with "
            "prediction_dynamics(limit, loss)"
        )
    options = solver_options(rtol, atol, method)
    checked, matrix = _kernel(kernel)
    u0, y = predictions_and_targets(u0, y, len(matrix))
    system = _System(dynamics.linear, checked, (dynamics.loss, y), matrix)
    slope = dynamics.loss.gradient(u0, y)
    if np.shape(slope) != u0.shape:
        raise ValueError(
            f"the gradient of {dynamics.loss!r} must have shape {u0.shape} like the predictions, got "
            f"{np.shape(slope)}"
        )
    data = [u0, *(system.image(e, matrix, slope) for e in dynamics.linear.initial)]
    times, states, nfev, message = _solve(system, data, t, options)
    u = states[:, 0]
    # of first order the state holds no velocity: it is the right-hand side
    velocity = states[:, 1] if dynamics.order > 1 else np.array(list(map(system, times, u)))
    loss = np.array([float(dynamics.loss.value(v, y)) for v in u])
    require_finite(loss, times, "the loss")
    return PredictionTrajectory(times, u, velocity, loss, nfev, message)


def _kernel(kernel: Any) -> tuple[Callable[[float], np.ndarray], np.ndarray]:
    """H as a function of t whose values are checked, and H(0)."""
    first = validate_kernel(kernel(0.0) if callable(kernel) else kernel)
    if not callable(kernel):
        return lambda t: first, first

    def checked(t: float) -> np.ndarray:
        name = f"kernel({t:.6g})"
        matrix = real_array(kernel(t), name, ndim=2, finite=False)
        if matrix.shape != first.shape:
            raise ValueError(f"{name} must have shape {first.shape} like kernel(0), got {matrix.shape}")
        return matrix

    return checked, first


def _solve(
    system: _System, data: list[np.ndarray], t: Any, options: dict
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Return times, states of shape (T, order, n), evaluations and the message."""
    t = report_times(t)
    start, early = system.start(data, t, options["rtol"])
    if options["method"] in EXPLICIT:
        system.require_affordable(t[-1], options["method"])
    steps = list(follow(system, start, early(start).ravel(), t[t > start], options))
    later = [state.reshape(system.order, system.n) for state, _, _ in steps]
    message = steps[-1][2] if steps else "no time beyond the start"
    return t, np.array([early(s) for s in t[t <= start]] + later), sum(used for _, used, _ in steps), message


class _System:
    """The dynamics as a first-order system for solve_ivp."""

    def __init__(
        self,
        dynamics: ErrorDynamics,
        kernel: Callable,
        problem: tuple[PredictionLoss, np.ndarray],
        first: np.ndarray,
        q: np.ndarray | None = None,
    ):
        self.dynamics, self.order, self.kernel = dynamics, dynamics.order, kernel
        self.n, self.largest = len(first), float(np.linalg.eigvalsh(first)[-1])
        self.loss, self.y = problem
        if not dynamics.is_numeric:
            raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")
        leading = dynamics.coefficients[-1]
        if leading.has(dynamics.lam):
            raise ValueError(f"the coefficient {leading} of the highest derivative must not depend on H")
        # parts[j] = coefficients in t of H^0, H^1, ... multiplying the j-th derivative
        self.parts = [
            [sympy.cancel(c / leading) for c in sympy.Poly(a, dynamics.lam).all_coeffs()[::-1]]
            for a in dynamics.coefficients[:-1]
        ]
        source = sympy.Poly(sympy.cancel(dynamics.source / leading), dynamics.lam).all_coeffs()[::-1]
        self.q, self.source = q, [sympy.lambdify(dynamics.t, c, "numpy") for c in source]
        self.terms = [[sympy.lambdify(dynamics.t, c, "numpy") for c in part] for part in self.parts]

    def image(self, polynomial: sympy.Expr, matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Evaluate a polynomial in H on a vector."""
        coefficients = sympy.Poly(polynomial, self.dynamics.lam).all_coeffs()[::-1]
        return _horner([float(c) for c in coefficients], matrix, vector)

    def acceleration(self, t: float, blocks: np.ndarray) -> np.ndarray:
        """The highest derivative at a state of shape (order, n)."""
        matrix = self.kernel(t)
        sources = [self.loss.gradient(blocks[0], self.y), *blocks[1:]]
        forces = [
            _horner([c(t) for c in terms], matrix, source)
            for terms, source in zip(self.terms, sources, strict=True)
        ]
        pull = 0.0 if self.q is None else _horner([c(t) for c in self.source], matrix, self.q)
        return pull - np.sum(forces, axis=0)

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(self.order, self.n)
        return np.concatenate([*blocks[1:], self.acceleration(t, blocks)])

    def require_affordable(self, end: float, method: str) -> None:
        """Refuse a time that an explicit method, held by its stability to steps of 1/|root|, cannot reach."""
        largest = self.largest
        times = end * np.linspace(0, 1, 34)[1:]
        with np.errstate(all="ignore"):
            c = np.array(
                [[_horner([c(s) for c in terms], largest, 1.0) for terms in self.terms] for s in times]
            )
            # some root of z^n + ... + c_0 is at least as large as this
            radius = np.max(np.abs(c) ** (1 / (self.order - np.arange(self.order))), axis=1) / self.order
            needed = min(2 * end * float(np.mean(radius)), 1e300)
        if needed > MOST_EVALUATIONS:
            raise ValueError(
                f"t = {end:.6g} is too far for {method}: with an eigenvalue {largest:.4g} it needs "
                f"at least {needed:.1e} evaluations, beyond {MOST_EVALUATIONS:.0e}; ask for shorter times, "
                "evaluate mode_solution(dynamics), or take method='Radau' for a stiff equation"
            )

    def start(self, data: list[np.ndarray], t: np.ndarray, rtol: float) -> tuple[float, Callable]:
        """The time at which solve_ivp takes over, and the states (order, n) until then."""
        terms = [
            Term(c, j, p, "H " * p + "Delta" + "'" * j)
            for j, part in enumerate(self.parts)
            for p, c in enumerate(part)
        ]
        return equation_start(
            self.dynamics,
            self.dynamics.t,
            terms,
            self.acceleration,
            np.array(data),
            end=float(t[-1]),
            rtol=rtol,
            largest=self.largest,
        )


def _horner(coefficients: Sequence[Any], matrix: Any, vector: Any) -> Any:
    """Evaluate (c_0 + c_1 H + c_2 H^2 + ...) v."""
    result = coefficients[-1] * vector
    for c in reversed(coefficients[:-1]):
        result = np.dot(matrix, result) + c * vector
    return result
