r"""Numerical integration of error and prediction dynamics by scipy, for constant or time-varying kernels.

The full system :math:`\sum_{j\ge1}A_j(t,H(t))u^{(j)}+A_0(t,H(t))\nabla\ell(u)=0` is integrated as it
stands, without diagonalising H: an independent route to the curves of :mod:`odeopt.spectra.curve`. The error
dynamics are the case :math:`\ell=\tfrac12\lVert u-y\rVert^2` with :math:`u-y=\Delta`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array, validate_error, validate_kernel
from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.images import kernel_of, rows_of
from odeopt.dynamics.losses import SquaredLoss
from odeopt.dynamics.prediction import PredictionDynamics
from odeopt.dynamics.system import Problem, image, solve
from odeopt.limits.initial_value import require_finite, solver_options
from odeopt.shown import Pictured, Summary, along, rows_at, span

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["PredictionTrajectory", "Trajectory", "integrate", "integrate_predictions"]
Method = Literal["DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"]


@dataclass(frozen=True, repr=False)
class Trajectory(Pictured):
    """Errors along time, as integrated.

    Parameters
    ----------
    t : numpy.ndarray, shape (T,)
        Times.
    delta : numpy.ndarray, shape (T, n)
        Errors.
    loss : numpy.ndarray, shape (T,)
        Half the squared norm of the error.
    nfev : int
        Evaluations of the right-hand side.
    message : str
        The solver's message.

    Examples
    --------
    >>> from odeopt import GradientDescent, error_dynamics, ode_limit
    >>> dynamics = error_dynamics(ode_limit(GradientDescent(lr=0.1)))
    >>> run = integrate(dynamics, [[1.0]], [2.0], [0.0, 1.0], rtol=1e-8, atol=1e-10)
    >>> run.loss.round(6), run.layer  # 2 exp(-2 t)
    (array([2.      , 0.270671]), 'linear ODE')
    """

    t: np.ndarray
    delta: np.ndarray
    loss: np.ndarray
    nfev: int
    message: str
    layer: ClassVar[str] = "linear ODE"

    def _summary(self) -> Summary:
        return _summary_of(self)

    def __post_init__(self) -> None:
        for name in ("t", "delta", "loss"):
            getattr(self, name).setflags(write=False)


@dataclass(frozen=True, repr=False)
class PredictionTrajectory(Pictured):
    r"""Predictions along time, as integrated.

    Parameters
    ----------
    t : numpy.ndarray, shape (T,)
        Times.
    u, velocity : numpy.ndarray, shape (T, n) or (T, n, c)
        Predictions and their derivatives in time.
    loss : numpy.ndarray, shape (T,)
        :math:`\ell(u(t))`, summed over the examples.
    nfev : int
        Evaluations of the right-hand side.
    message : str
        The solver's message.
    points : numpy.ndarray, shape (T, p) or (T, p, c), or None
        Predictions at the points of the cross kernel.

    Examples
    --------
    >>> from odeopt import GradientDescent, SquaredLoss, ode_limit, prediction_dynamics
    >>> dynamics = prediction_dynamics(ode_limit(GradientDescent(lr=0.1)), SquaredLoss())
    >>> options = {"rtol": 1e-8, "atol": 1e-10, "cross_kernel": [[0.5]], "start": [0.0]}
    >>> run = integrate_predictions(dynamics, [[1.0]], [0.0], [1.0], [0.0, 1.0], **options)
    >>> run.u.round(6).tolist(), run.points.round(6).tolist()  # 1 - exp(-t), and half of it
    ([[0.0], [0.632121]], [[0.0], [0.31606]])
    """

    t: np.ndarray
    u: np.ndarray
    velocity: np.ndarray
    loss: np.ndarray
    nfev: int
    message: str
    points: np.ndarray | None = None
    layer: ClassVar[str] = "prediction-space ODE"

    def _summary(self) -> Summary:
        return _summary_of(self)

    def __post_init__(self) -> None:
        for array in (self.t, self.u, self.velocity, self.loss, self.points):
            if array is not None:
                array.setflags(write=False)


def _summary_of(found: Trajectory | PredictionTrajectory) -> Summary:
    how = f"{found.layer}, integrated with {found.nfev} evaluations"
    facts = [along(found), f"loss {span(found.loss)}", how]
    return Summary(facts, *rows_at({"t": found.t, "loss": found.loss}))


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
        The errors at the times `t`, read-only.

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
    first = validate_error(delta0, matrix.shape[0])
    q = first - (first if origin is None else real_array(origin, "origin", ndim=1))
    problem = Problem(checked, matrix, SquaredLoss(), np.zeros_like(first), q)
    position = image(dynamics.start, dynamics.lam, matrix, first)
    found = solve(dynamics, problem, (position, first, first), t, options)
    delta = found.states[:, 0]
    with np.errstate(over="ignore"):
        loss = 0.5 * np.sum(delta**2, axis=1)
    require_finite(loss, found.times, "the loss")
    return Trajectory(found.times, delta, loss, found.nfev, found.message)


def integrate_predictions(
    dynamics: PredictionDynamics,
    kernel: npt.ArrayLike | LinearOperator | Callable[[float], npt.ArrayLike],
    u0: npt.ArrayLike,
    y: npt.ArrayLike,
    t: npt.ArrayLike,
    *,
    rtol: float,
    atol: float,
    method: Method = "DOP853",
    origin: npt.ArrayLike | None = None,
    cross_kernel: npt.ArrayLike | LinearOperator | None = None,
    start: npt.ArrayLike | None = None,
    points_origin: npt.ArrayLike | None = None,
) -> PredictionTrajectory:
    r"""Integrate the dynamics of the predictions under any loss with :func:`scipy.integrate.solve_ivp`.

    Parameters
    ----------
    dynamics : PredictionDynamics
        With numeric coefficients.
    kernel : array_like or LinearOperator, shape (n, n) or (n c, n c), or callable
        H, or t -> H(t): one kernel of all outputs, or one between outputs, example by example.
    u0 : array_like, shape (n,) or (n, c)
        Initial predictions.
    y : array_like, shape of `u0`
        Targets.
    t : array_like, shape (T,)
        Increasing nonnegative times at which to report. Integration starts at 0.
    rtol, atol : float
        Tolerances of the solver; there is no default.
    method : {"DOP853", "RK45", "RK23", "Radau", "BDF", "LSODA"}
        The solver.
    origin : array_like, shape of `u0`, optional
        :math:`Jw_0`, needed where weights decay; zeros make the decay one to the start.
    cross_kernel : array_like or LinearOperator, shape (p, n) or (p c, n c), optional
        :math:`H_*=J_*J^\top`, between points that are not trained on and the examples; for a constant kernel.
    start, points_origin : array_like, shape (p,) or (p, c), optional
        Initial predictions at these points; :math:`J_*w_0`, beside `origin`.

    Returns
    -------
    PredictionTrajectory
        The predictions at the times `t`, read-only.

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
    rows, first, y = rows_of(matrix, u0, y, cross_kernel, start)
    dynamics.loss.require_targets(y)
    if cross_kernel is not None:
        if _varies(kernel):
            raise ValueError("cross_kernel needs a constant kernel, got a callable; pass H, or leave it out")
        checked = lambda t: rows.matrix  # noqa: E731
    shape = np.shape(dynamics.loss.gradient(rows.examples(first), y))
    if shape != y.shape:
        raise ValueError(
            f"the gradient of {dynamics.loss!r} must have shape {y.shape} like the predictions, got {shape}"
        )
    if dynamics.linear.has_source:
        _require_seen(dynamics, kernel, origin)
    rest = None if origin is None else first - rows.vector(origin, points_origin)
    problem = Problem(checked, rows.matrix, dynamics.loss, y, rest)
    found = solve(dynamics.linear, problem, (first, first, problem.gradient(first)), t, options)
    u, velocity = rows.examples(found.states[:, 0]), rows.examples(found.velocity)
    loss = np.array([float(dynamics.loss.value(v, y)) for v in u])
    require_finite(loss, found.times, "the loss")
    points = rows.points(found.states[:, 0])
    return PredictionTrajectory(found.times, u, velocity, loss, found.nfev, found.message, points)


def _require_seen(dynamics: PredictionDynamics, kernel: Any, origin: Any) -> None:
    """Refuse weights that decay and are not seen in their predictions."""
    if origin is None:
        raise ValueError(
            f"weights decay in {dynamics}: give origin = J w_0, the image of the first weights, or zeros "
            "where they decay to them"
        )
    if _varies(kernel):
        raise ValueError(
            f"weights decay in {dynamics}: they are seen in u - u_0 + J w_0 under a constant kernel, and "
            "this one is a callable; pass H"
        )


def _varies(kernel: Any) -> bool:
    """Whether a kernel is a function of t; an operator may be called too, and is none."""
    return callable(kernel) and not hasattr(kernel, "matvec")


def _kernel(kernel: Any) -> tuple[Callable[[float], Any], Any]:
    """H as a function of t whose values are checked, and H(0)."""
    if not _varies(kernel):
        fixed = kernel_of(kernel)
        return lambda t: fixed, fixed
    first = validate_kernel(kernel(0.0))

    def checked(t: float) -> np.ndarray:
        name = f"kernel({t:.6g})"
        matrix = real_array(kernel(t), name, ndim=2, finite=False)
        if matrix.shape != first.shape:
            raise ValueError(f"{name} must have shape {first.shape} like kernel(0), got {matrix.shape}")
        return matrix

    return checked, first
