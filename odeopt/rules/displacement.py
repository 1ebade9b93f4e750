r"""What a linear rule does to the weights of a linear model, and to predictions at other points.

With :math:`q=\Delta_0-Jw_0` the weights after k steps are

.. math:: w_k=\varphi_k(J^\top J)w_0+J^\top R_k(H)q,\qquad
    \varphi_k(J^\top J)w_0=\varphi_k(0)w_0+J^\top D_k(H)Jw_0,\quad D_k=\frac{\varphi_k-\varphi_k(0)}\lambda,

where :math:`R_k` is the run of the step from 0 with the gradient :math:`\lambda z+1`. Nothing is divided: D
is the run from 0 beside that of :math:`\varphi(0)`, with the gradient :math:`\lambda D+\varphi(0)`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.linear import eigenvalues_of, error_row, kept
from odeopt.rules.powers import has_powers, iterates_by_powers

__all__ = ["displacement_polynomials"]


def displacement_polynomials(
    rule: UpdateRule, lam: npt.ArrayLike, k: npt.ArrayLike, *, stepwise: bool = False
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Evaluate :math:`\varphi_k(0)`, :math:`D_k` and :math:`R_k`, shapes (T,), (T, n) and (T, n).

    Few late iterates of a steady step come from its powers; `stepwise`, for bounds on what steps round, not.
    """
    lam, k = eigenvalues_of(rule, lam), iteration_grid(k, "k")
    row = error_row(rule, k)  # which refuses what has no image under J
    one, zero = np.ones_like(lam), np.zeros_like(lam)

    def gradient(z: np.ndarray) -> np.ndarray:
        return np.stack([0 * z[0], lam * z[1] + z[0]])

    if not (row or stepwise) and has_powers(rule, k):
        R = iterates_by_powers(rule, lam, k)
    else:
        R = kept(iterate(rule, zero, lambda z: lam * z + 1), k, (lam.size,))
    if not row:  # a step in the error alone: phi(0) = 1
        return np.ones(k.size), R, R
    both = kept(iterate(rule, np.stack([one, zero]), gradient), k, (2, lam.size))
    return both[:, 0, 0], both[:, 1], R
