r"""What a rule or an ODE moves the weights of a linear model by, as functions of the kernel.

With :math:`q=\Delta_0-Jw_0` the weights are :math:`\varphi(J^\top J)w_0+J^\top R(H)q`, so that predictions at
other points, of Jacobian :math:`J_*`, need :math:`\varphi(0)` and

.. math:: D=\frac{\varphi-\varphi(0)}\lambda,\qquad R=\frac{\varphi+\chi-1}\lambda .

A rule's own step gives them without dividing (:mod:`odeopt.rules.displacement`). A mode is divided where it
has left its value at 0; nearer to 0 both quotients, which are analytic there, follow from their values on an
interval on which the mode is slow, at Chebyshev points.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial import chebyshev

from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import UpdateRule
from odeopt.rules.displacement import displacement_polynomials

__all__ = ["displacement_factors"]

# On a slow interval a mode has moved by at most an eighth of its size, so that its singularities lie 7
# lengths away and 12 points interpolate it to 30^-12; the least of them costs 1/sin^2(pi/48) = 233 roundings.
_SLOW, _POINTS = 1 / 8, 12
_LADDER = 4.0 ** -np.arange(64)

Values = Callable[[np.ndarray, np.ndarray], np.ndarray]


def displacement_factors(
    mode_or_rule: ModeSolution | UpdateRule, lam: np.ndarray, grid: np.ndarray, *, stepwise: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Return :math:`\varphi(0)`, D and R at times or steps, shapes (T,), (T, n) and (T, n)."""
    if isinstance(mode_or_rule, UpdateRule):
        return displacement_polynomials(mode_or_rule, lam, grid, stepwise=stepwise)
    at_zero, D = _quotient(lambda t, lam: mode_or_rule.both(t, lam)[0], lam, grid)
    if not mode_or_rule.dynamics.has_source:
        return at_zero, D, D
    return at_zero, D, _quotient(lambda t, lam: np.add(*mode_or_rule.both(t, lam)), lam, grid)[1]


def _quotient(values: Values, lam: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r""":math:`f(0)` and :math:`(f(\lambda)-f(0))/\lambda`, f a function of the eigenvalue at each time."""
    at_zero = values(t, np.zeros(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (values(t, lam) - at_zero) / lam
    top = float(lam.max()) or 1.0
    moves = np.abs(values(t, top * _LADDER) - at_zero)
    moved = moves > _SLOW * np.maximum(np.abs(at_zero), moves.max(axis=1, keepdims=True))
    # the first rung up to which f is slow: below the last, smallest one where it has moved
    level = np.where(moved.any(axis=1), _LADDER.size - np.argmax(moved[:, ::-1], axis=1), 0)
    for j in np.unique(level):
        length = float(top * _LADDER[min(j, _LADDER.size - 1)])
        rows, small = np.flatnonzero(level == j), np.flatnonzero(lam <= length)
        if small.size:
            near = _near_zero(values, t[rows], at_zero[rows], length, lam[small])
            found[np.ix_(rows, small)] = near
    return at_zero[:, 0], found


def _near_zero(
    values: Values, t: np.ndarray, at_zero: np.ndarray, length: float, lam: np.ndarray
) -> np.ndarray:
    """The quotients on [0, length], from their values at its Chebyshev points."""
    x = chebyshev.chebpts1(_POINTS)
    nodes = length * (1 + x) / 2
    weights = 2 * chebyshev.chebvander(x, _POINTS - 1) / _POINTS
    weights[:, 0] /= 2
    quotients = (values(t, nodes) - at_zero) / nodes
    return quotients @ weights @ chebyshev.chebvander(2 * lam / length - 1, _POINTS - 1).T
