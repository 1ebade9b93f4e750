r"""Numerical integration of error and prediction dynamics by scipy, for constant or time-varying kernels.

The full system :math:`\sum_{j\ge1}A_j(t,H(t))u^{(j)}+A_0(t,H(t))\nabla\ell(u)=0` is integrated as it
stands, without diagonalising H: an independent route to the curves of :mod:`odeopt.spectra.curve`. The error
dynamics are the case :math:`\ell=\tfrac12\lVert u-y\rVert^2` with :math:`u-y=\Delta`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import scipy.integrate
import sympy

from odeopt.checks import nonnegative_grid, predictions_and_targets, validate_error, validate_kernel
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.dynamics.prediction import PredictionDynamics

__all__ = ["PredictionTrajectory", "Trajectory", "integrate", "integrate_predictions"]

# Where friction r/t is started from its series: this fraction of the shortest period, 1/sqrt(lam_max).
_REACH_CONSTANT, _REACH_VARYING = 1e-3, 1e-5


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
    method: str = "DOP853",
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
    method : str
        Any method of `solve_ivp`.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        On an invalid kernel, error or grid, or dynamics that hold symbols.
    RuntimeError
        If the solver fails, with its message.

    Notes
    -----
    Friction r/t is singular at t = 0. The integration then starts at a small :math:`t_0` from the
    power series :math:`\Delta=\Delta_0-\frac{t^2}{2(1+r)}H\Delta_0+\frac{t^4}{8(1+r)(3+r)}H^2\Delta_0`,
    whose relative error :math:`(\lambda_{\max}t_0^2)^3` is below rounding; for a varying kernel
    :math:`t_0` is smaller still, since the first neglected term is then :math:`O(t^3\dot H)`.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit, error_dynamics
    >>> dynamics = error_dynamics(ode_limit(GradientDescent(lr=0.1)))
    >>> run = integrate(dynamics, np.diag([1.0, 2.0]), [1.0, 1.0], [0.0, 1.0], rtol=1e-10, atol=1e-12)
    >>> bool(np.allclose(run.delta[1], np.exp([-1.0, -2.0]), rtol=1e-9))
    True
    """
    matrix = validate_kernel(kernel(0.0) if callable(kernel) else kernel)
    delta0 = validate_error(delta0, matrix.shape[0])
    if dynamics.start != 1:
        delta0 = _displaced(dynamics, matrix, delta0)
    problem = (SquaredLoss(), np.zeros_like(delta0))  # the error is a prediction whose target is 0
    options = {"method": method, "rtol": rtol, "atol": atol}
    t, states, _, nfev, message = _solve(dynamics, problem, kernel, matrix, delta0, t, options)
    delta = states[:, : delta0.size]
    return Trajectory(t, delta, 0.5 * np.sum(delta**2, axis=1), nfev, message)


def integrate_predictions(
    dynamics: PredictionDynamics,
    kernel: npt.ArrayLike | Callable[[float], npt.ArrayLike],
    u0: npt.ArrayLike,
    y: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: str = "DOP853",
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
    method : str
        Any method of `solve_ivp`.

    Returns
    -------
    PredictionTrajectory

    Raises
    ------
    ValueError
        On invalid kernel, predictions, targets or grid, or dynamics that hold symbols.
    RuntimeError
        If the solver fails, with its message.

    Notes
    -----
    For friction r/t (and a force :math:`H\nabla\ell`) the integration starts at a small :math:`t_0` from

    .. math:: u=u_0-\frac{t^2}{2(1+r)}q_1+\frac{t^4}{8(1+r)(3+r)}H\,\nabla^2\ell(u_0)\,q_1,
        \qquad q_1=H\nabla\ell(u_0).

    With :math:`t_0^2=10^{-6}/(\lambda_{\max}\ell'')` the terms left out are
    :math:`O(t_0^6(\lambda_{\max}\ell'')^3)` and, from the third derivative of the loss,
    :math:`O(t_0^6\lambda_{\max}\ell^{(3)}\lVert q_1\rVert^2)`: some :math:`10^{-18}`, below rounding.
    For a varying kernel :math:`t_0` is a hundred times smaller, since the first term left out is then
    :math:`O(t_0^3\dot H)`.

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
        raise ValueError(f"dynamics must be PredictionDynamics, got {type(dynamics).__name__}")
    matrix = validate_kernel(kernel(0.0) if callable(kernel) else kernel)
    u0, y = predictions_and_targets(u0, y, matrix.shape[0])
    options = {"method": method, "rtol": rtol, "atol": atol}
    problem = (dynamics.loss, y)
    t, states, system, nfev, message = _solve(dynamics.linear, problem, kernel, matrix, u0, t, options)
    u = states[:, : u0.size]
    if dynamics.order > 1:
        velocity = states[:, u0.size : 2 * u0.size]
    else:  # the state holds no velocity: it is the right-hand side
        velocity = np.array([system(s, state) for s, state in zip(t, states, strict=True)])
    loss = np.array([float(dynamics.loss.value(v, y)) for v in u])
    return PredictionTrajectory(t, u, velocity, loss, nfev, message)


def _solve(
    dynamics, problem, kernel, matrix, x0, t, options
) -> tuple[np.ndarray, np.ndarray, _System, int, str]:
    """Return times, states of shape (T, order * n), the system, its evaluations and the message."""
    t = nonnegative_grid(t, "t")
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"t must increase strictly, got {t.tolist()[:6]}...; sort it and drop repeats")
    constant = not callable(kernel)
    system = _System(dynamics, (lambda s: matrix) if constant else kernel, problem, x0.size)
    reach = _REACH_CONSTANT if constant else _REACH_VARYING
    start, state, first = _start(dynamics, system, matrix, x0, reach)
    early, nfev = _early(t[t <= start], start, state, x0, first), 0
    later, message = [], "no time beyond the start"
    options = dict(options)
    for target in t[t > start]:
        state, used, message, options["first_step"] = _advance(system, start, target, state, options)
        start, nfev = target, nfev + used
        later.append(state)
    return t, np.vstack([early, *later]), system, nfev, message


def _advance(system, start: float, target: float, state: np.ndarray, options: dict) -> tuple:
    """Integrate to one report time, so that it ends a step: dense output is of lower order than the steps."""
    options = dict(options)
    if "first_step" in options:
        options["first_step"] = min(options["first_step"], target - start)
    with np.errstate(over="ignore", invalid="ignore"):
        solution = scipy.integrate.solve_ivp(system, (start, target), state, **options)
    if not solution.success:
        raise RuntimeError(
            f"solve_ivp({options['method']}) failed between t = {start:.6g} and {target:.6g}: "
            f"{solution.message}"
        )
    # the last step was cut to end at the target, so the one before it tells the natural size
    steps = np.diff(solution.t)
    return solution.y[:, -1], solution.nfev, solution.message, float(steps.max())


def _early(times: np.ndarray, start: float, state: np.ndarray, x0: np.ndarray, first) -> np.ndarray:
    """States on [0, start]; where that is an interval, x is a parabola from x0 with the velocity `first`."""
    if start == 0:
        return np.tile(state, (times.size, 1))
    x, velocity = state.reshape(2, x0.size)
    weight = times / start
    inside = x0 + np.multiply.outer(times, first) + np.multiply.outer(weight**2, x - x0 - start * first)
    return np.hstack([inside, first + np.multiply.outer(weight, velocity - first)])


class _System:
    """The dynamics as a first-order system for solve_ivp."""

    def __init__(
        self, dynamics: ErrorDynamics, kernel: Callable, problem: tuple[PredictionLoss, np.ndarray], n: int
    ):
        self.order, self.kernel, self.n = dynamics.order, kernel, n
        self.loss, self.y = problem
        if not dynamics.is_numeric:
            raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")
        leading = dynamics.coefficients[-1]
        if leading.has(dynamics.lam):
            raise ValueError(f"the coefficient {leading} of the highest derivative must not depend on H")
        # terms[j] = coefficients in t of H^0, H^1, ... multiplying the j-th derivative
        self.terms = [
            [
                sympy.lambdify(dynamics.t, sympy.cancel(c / leading), "numpy")
                for c in sympy.Poly(a, dynamics.lam).all_coeffs()[::-1]
            ]
            for a in dynamics.coefficients[:-1]
        ]

    def apply_polynomial(self, coefficients, matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """Evaluate (c_0 + c_1 H + c_2 H^2 + ...) v by Horner's scheme."""
        result = coefficients[-1] * vector
        for c in reversed(coefficients[:-1]):
            result = matrix @ result + c * vector
        return result

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        blocks = state.reshape(self.order, self.n)
        matrix = self.kernel(t)
        sources = [self.loss.gradient(blocks[0], self.y), *blocks[1:]]
        force = -sum(
            self.apply_polynomial([c(t) for c in self.terms[j]], matrix, source)
            for j, source in enumerate(sources)
        )
        return np.concatenate([*blocks[1:], force])


def _start(dynamics, system, matrix, x0, reach) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the time at which integration starts, the state there, and the velocity at t = 0."""
    lam, t = dynamics.lam, dynamics.t
    gradient = system.loss.gradient(x0, system.y)

    def apply(polynomial, vector):
        coefficients = [float(c) for c in sympy.Poly(polynomial, lam).all_coeffs()[::-1]]
        return system.apply_polynomial(coefficients, matrix, vector)

    velocities = [apply(e, gradient) for e in dynamics.initial]
    if not any(sympy.cancel(a / dynamics.coefficients[-1]).has(t) for a in dynamics.coefficients):
        return 0.0, np.concatenate([x0, *velocities]), np.zeros_like(x0)
    r = sympy.cancel(t * dynamics.coefficients[1] / dynamics.coefficients[2]) if dynamics.order == 2 else t
    stiffness = sympy.cancel(dynamics.coefficients[0] / dynamics.coefficients[-1])
    if dynamics.order == 2 and isinstance(system.loss, SquaredLoss) and (r.has(t) or stiffness.has(t)):
        return _damped_start(dynamics, apply, float(np.linalg.norm(matrix, 2)), x0, reach)
    if r.has(t) or stiffness.has(t) or any(np.any(v) for v in velocities):
        raise ValueError(f"integration of {dynamics} from t = 0 needs friction r/t and zero initial velocity")
    r = float(r)
    curvature = system.loss.hessian_diagonal(x0, system.y)
    q1 = apply(stiffness, gradient)
    q2 = apply(stiffness, curvature * q1)
    sizes = sympy.Poly(stiffness, lam).terms()
    largest = sum(abs(float(c)) * np.linalg.norm(matrix, 2) ** p for (p,), c in sizes)
    largest *= system.loss.smoothness or np.abs(curvature).max()
    t0 = reach / np.sqrt(max(largest, np.finfo(float).tiny))
    x = x0 - t0**2 / (2 * (1 + r)) * q1 + t0**4 / (8 * (1 + r) * (3 + r)) * q2
    velocity = -t0 / (1 + r) * q1 + t0**3 / (2 * (1 + r) * (3 + r)) * q2
    return t0, np.concatenate([x, velocity]), np.zeros_like(x0)


def _displaced(dynamics, matrix: np.ndarray, delta0: np.ndarray) -> np.ndarray:
    """Apply the polynomial start(H), by which a corrected limit begins beside the first iterate."""
    if dynamics.order > 1:
        raise ValueError(f"integration of {dynamics} from phi(0) = {dynamics.start} is for first order only")
    result = np.zeros_like(delta0)
    for c in sympy.Poly(dynamics.start, dynamics.lam).all_coeffs():
        result = matrix @ result + float(c) * delta0
    return result


def _damped_start(dynamics, apply, largest: float, x0: np.ndarray, reach: float) -> tuple:
    r"""Start :math:`\ddot x+(\frac rt+d)\dot x+(q+\frac et)x=0` from its power series; d, q, e depend on H.

    The coefficients obey :math:`(j+1)(j+r)c_{j+1}=-(jd+e)c_j-qc_{j-1}`; eight of them leave a relative
    error of :math:`(t_0\sqrt{\lambda_{\max}})^8`.
    """
    t, lam = dynamics.t, dynamics.lam
    friction = sympy.expand(sympy.cancel(dynamics.coefficients[1] / dynamics.coefficients[2]))
    stiffness = sympy.expand(sympy.cancel(dynamics.coefficients[0] / dynamics.coefficients[2]))
    r, d = friction.coeff(t, -1), friction.coeff(t, 0)
    e, q = stiffness.coeff(t, -1), stiffness.coeff(t, 0)
    if not r.is_number or r == 0 or sympy.expand(friction - r / t - d) != 0 or stiffness.has(t**2):
        raise ValueError(f"integration of {dynamics} from t = 0 needs coefficients r/t + d and q + e/t")
    r = float(r)
    t0 = reach / np.sqrt(max(float(q.subs(lam, largest)), np.finfo(float).tiny))
    terms = [x0]
    for j in range(8):
        force = apply(e, terms[j]) + (j * apply(d, terms[j]) if j else 0.0)
        force = force + (apply(q, terms[j - 1]) if j else 0.0)
        terms.append(-force / ((j + 1) * (j + r)))
    x = sum(c * t0**j for j, c in enumerate(terms))
    velocity = sum(j * c * t0 ** (j - 1) for j, c in enumerate(terms) if j)
    return t0, np.concatenate([x, velocity]), terms[1]
