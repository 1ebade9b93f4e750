r"""Modes without a closed form, integrated for all eigenvalues at once."""

from __future__ import annotations

import numpy as np
import sympy

from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.losses import SquaredLoss
from odeopt.dynamics.mode_values import AlongOrigin
from odeopt.dynamics.modes import ModeSolution
from odeopt.dynamics.system import Problem, solve
from odeopt.limits.initial_value import solver_options

__all__ = ["integrated_mode"]


def integrated_mode(dynamics: ErrorDynamics, *, rtol: float = 1e-10) -> ModeSolution:
    r"""Make a mode of dynamics without a closed form, by integrating it for all eigenvalues at once.

    .. math:: \sum_jA_j(t,\lambda)\,\varphi^{(j)}=0,

    from break to break of its schedules. The values have the accuracy of an adaptive Runge-Kutta method of
    order 8, about `rtol` of the largest of them: an estimate, so that the brackets of loss curves of this
    mode are not proved.

    Parameters
    ----------
    dynamics : ErrorDynamics
        With numbers.
    rtol : float
        Tolerance of the solver.

    Returns
    -------
    ModeSolution
        Of family "integrated", with an undefined function as `expr`.

    Raises
    ------
    ValueError
        If the dynamics hold symbols, or the tolerance is none; on evaluation as :func:`odeopt.integrate`.

    Examples
    --------
    >>> from odeopt import HeavyBall, error_dynamics, ode_limit
    >>> from odeopt.rules import Cosine
    >>> mode = integrated_mode(error_dynamics(ode_limit(HeavyBall(Cosine(0.01, steps=100), 0.9))))
    >>> mode([0.0, 5.0, 10.0], [0.5, 2.0]).round(6)
    array([[ 1.      ,  1.      ],
           [ 0.02442 ,  0.078599],
           [-0.023682,  0.003496]])
    """
    dynamics = require_error_dynamics(dynamics, "mode", source=True)
    options = solver_options(rtol, 1e-3 * rtol if rtol else rtol, "DOP853")
    if not dynamics.is_numeric:
        raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")

    def values(t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        start = np.polyval([float(c) for c in sympy.Poly(dynamics.start, dynamics.lam).all_coeffs()], lam)
        return run(t, lam, start * np.ones(lam.size), None)

    def along_q(t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        return run(t, lam, np.zeros(lam.size), np.ones(lam.size))

    def run(t: np.ndarray, lam: np.ndarray, start: np.ndarray, q: np.ndarray | None) -> np.ndarray:
        at, back = np.unique(t, return_inverse=True)
        problem = Problem(lambda s: lam, lam, SquaredLoss(), np.zeros(lam.size), q)
        slope = np.ones(lam.size) if q is None else start
        return solve(dynamics, problem, (start, slope, slope), at, options).states[back, 0]

    phi, chi = (sympy.Function(name)(dynamics.t, dynamics.lam) for name in ("phi", "chi"))
    origin = AlongOrigin(chi, along_q) if dynamics.has_source else None
    return ModeSolution(dynamics, phi, "integrated", dynamics.mode_equation(phi), values, _origin=origin)
