r"""Numerical integration of the error dynamics by scipy, for constant or time-varying kernels.

The full system :math:`\sum_jA_j(t,H(t))\Delta^{(j)}=0` is integrated as it stands, without
diagonalising H: an independent route to the curves of :mod:`odeopt.loss`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.integrate
import sympy

from odeopt.dynamics import ErrorDynamics
from odeopt.kernels import validate_kernel
from odeopt.mode_functions import nonnegative_grid
from odeopt.spectrum import validate_error

__all__ = ["Trajectory", "integrate"]


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

    def __post_init__(self):
        for name in ("t", "delta", "loss"):
            getattr(self, name).setflags(write=False)


def integrate(
    dynamics: ErrorDynamics,
    kernel: np.ndarray | Callable[[float], np.ndarray],
    delta0,
    t,
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
    t = nonnegative_grid(t, "t")
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"t must increase strictly, got {t.tolist()[:6]}...; sort it and drop repeats")
    constant = not callable(kernel)
    matrix = validate_kernel(kernel if constant else kernel(0.0))
    delta0 = validate_error(delta0, matrix.shape[0])
    system = _System(dynamics, (lambda s: matrix) if constant else kernel, delta0.size)
    start, state = _start(dynamics, system, matrix, delta0, 1e-3 if constant else 1e-5)
    early, nfev = _early(t[t <= start], start, state, delta0), 0
    later, message = [], "no time beyond the start"
    options = {"method": method, "rtol": rtol, "atol": atol}
    for target in t[t > start]:
        state, used, message, options["first_step"] = _advance(system, start, target, state, options)
        start, nfev = target, nfev + used
        later.append(state[: delta0.size])
    delta = np.vstack([early, *later])
    return Trajectory(t, delta, 0.5 * np.sum(delta**2, axis=1), nfev, message)


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


def _early(times: np.ndarray, start: float, state: np.ndarray, delta0: np.ndarray) -> np.ndarray:
    """Errors on [0, start], where the series is even in t: quadratic between the two ends."""
    n = delta0.size
    weight = (times / start) ** 2 if start > 0 else np.zeros_like(times)
    return delta0 + np.multiply.outer(weight, state[:n] - delta0)


class _System:
    """The dynamics as a first-order system for solve_ivp."""

    def __init__(self, dynamics: ErrorDynamics, kernel: Callable, n: int):
        self.order, self.kernel, self.n = dynamics.order, kernel, n
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
        force = -sum(
            self.apply_polynomial([c(t) for c in self.terms[j]], matrix, block)
            for j, block in enumerate(blocks)
        )
        return np.concatenate([*blocks[1:], force])


def _start(dynamics, system, matrix, delta0, reach) -> tuple[float, np.ndarray]:
    """Return the time at which integration starts and the state there."""
    lam, t = dynamics.lam, dynamics.t
    velocities = [
        system.apply_polynomial([float(c) for c in sympy.Poly(e, lam).all_coeffs()[::-1]], matrix, delta0)
        for e in dynamics.initial
    ]
    if not any(sympy.cancel(a / dynamics.coefficients[-1]).has(t) for a in dynamics.coefficients):
        return 0.0, np.concatenate([delta0, *velocities])
    r = sympy.cancel(t * dynamics.coefficients[1] / dynamics.coefficients[2]) if dynamics.order == 2 else t
    if r.has(t) or any(np.any(v) for v in velocities):
        raise ValueError(f"integration of {dynamics} from t = 0 needs friction r/t and zero initial velocity")
    r = float(r)
    stiffness = sympy.Poly(sympy.cancel(dynamics.coefficients[0] / dynamics.coefficients[2]), lam)
    force = [float(c) for c in stiffness.all_coeffs()[::-1]]
    q1 = system.apply_polynomial(force, matrix, delta0)
    q2 = system.apply_polynomial(force, matrix, q1)
    largest = sum(abs(c) * np.linalg.norm(matrix, 2) ** p for p, c in enumerate(force))
    t0 = reach / np.sqrt(max(largest, np.finfo(float).tiny))
    delta = delta0 - t0**2 / (2 * (1 + r)) * q1 + t0**4 / (8 * (1 + r) * (3 + r)) * q2
    velocity = -t0 / (1 + r) * q1 + t0**3 / (2 * (1 + r) * (3 + r)) * q2
    return t0, np.concatenate([delta, velocity])
