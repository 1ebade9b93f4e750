r"""Predictions of a linear model at other points, step by step, from kernels alone.

With the kernel :math:`H_*=J_*J^\top` between the points and the examples,

.. math:: f_*(k)=f_*(0)+(\varphi_k(0)-1)J_*w_0+H_*\bigl(D_k(H)Jw_0+R_k(H)q\bigr),\qquad q=\Delta_0-Jw_0,

with the polynomials of :mod:`odeopt.rules.displacement`. Without weight decay :math:`\varphi_k(0)=1`, and
this is :math:`f_*(0)-H_*\psi_k(H)\Delta_0`, :math:`\psi_k=(1-P_k)/\lambda`. With it the part of the weights
that no example sees decays, so that :math:`J_*w_0` is needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid, real_array, validate_error, validate_kernel
from odeopt.rules.base import UpdateRule
from odeopt.rules.displacement import displacement_polynomials
from odeopt.rules.linear import error_row

__all__ = ["predict_points"]


def predict_points(
    rule: UpdateRule,
    kernel: npt.ArrayLike,
    cross_kernel: npt.ArrayLike,
    delta0: npt.ArrayLike,
    start: npt.ArrayLike,
    k: npt.ArrayLike,
    *,
    origin: npt.ArrayLike | None = None,
    points_origin: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    r"""Predict a linear model at points that are not trained on, from a whole kernel.

    :func:`odeopt.predict` does it from a spectral measure, for ODEs and several outputs too.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters, linear.
    kernel : array_like, shape (n, n)
        Of the examples, :math:`JJ^\top`.
    cross_kernel : array_like, shape (p, n)
        :math:`H_*=J_*J^\top`.
    delta0 : array_like, shape (n,)
        Initial error of the examples.
    start : array_like, shape (p,)
        Predictions :math:`f_*(0)` at the points before the first step.
    k : array_like of int, shape (K,)
        Iterations, in any order.
    origin, points_origin : array_like, shapes (n,) and (p,), optional
        :math:`Jw_0` and :math:`J_*w_0`; needed where weights decay to 0.

    Returns
    -------
    numpy.ndarray, shape (K, p)
        Predictions :math:`f_*(k)`, one row an iteration.

    Raises
    ------
    ValueError
        If shapes do not fit, the rule is not linear, or an origin is missing.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> rule = GradientDescent(lr=0.5)
    >>> predict_points(rule, [[1.0]], [[0.5]], [1.0], [0.0], [0, 1, 2])[:, 0]
    array([ 0.   , -0.25 , -0.375])
    """
    matrix, k = validate_kernel(kernel), iteration_grid(k, "k")
    delta0 = validate_error(delta0, len(matrix))
    cross = real_array(cross_kernel, "cross_kernel", ndim=2)
    if cross.shape[1] != len(matrix):
        raise ValueError(f"cross_kernel must have {len(matrix)} columns like the kernel, got {cross.shape}")
    given = {
        "start": (start, len(cross)),
        "origin": (origin, len(delta0)),
        "points_origin": (points_origin, len(cross)),
    }
    vectors = {name: _vector(value, name, size) for name, (value, size) in given.items() if value is not None}
    if (row := error_row(rule, k)) and len(vectors) < len(given):
        raise ValueError(
            f"the step of {rule.label} pulls at the weights themselves ({row}); give origin = J w_0 and "
            "points_origin = J_* w_0"
        )
    values, basis = np.linalg.eigh(matrix)
    at_zero, D, R = displacement_polynomials(rule, np.maximum(values, 0.0), k)
    w0 = vectors.get("origin", np.zeros_like(delta0))
    along = D * (basis.T @ w0) + R * (basis.T @ (delta0 - w0))
    part = np.multiply.outer(at_zero - 1, vectors.get("points_origin", np.zeros(len(cross))))
    return vectors["start"] + part + along @ (cross @ basis).T


def _vector(value: npt.ArrayLike, name: str, size: int) -> np.ndarray:
    found = real_array(value, name, ndim=1)
    if found.size != size:
        raise ValueError(f"{name} must have {size} entries, got {found.size}")
    return found
