r"""How large the weights of a linear model are, from the measure of its errors: the regularised objective.

:math:`w_k=\varphi_k(J^\top J)w_0+J^\top R_k(H)q` (:mod:`odeopt.rules.displacement`) has the squared norm

.. math:: |w_k|^2=\varphi_k(0)^2|w_0|^2
    +\bigl\langle o,D_k(\varphi_k+\varphi_k(0))\,o\bigr\rangle+2\langle q,R_k\varphi_k\,o\rangle
    +\langle q,\lambda R_k^2\,q\rangle,\qquad o=Jw_0=\Delta_0-q,

functions of H in each product; nothing but :math:`|w_0|^2` is needed beside the measure.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid, require_positive
from odeopt.rules.base import UpdateRule
from odeopt.rules.displacement import displacement_polynomials
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["squared_weights"]


def squared_weights(
    rule: UpdateRule, measure: SpectralMeasure, k: npt.ArrayLike, start: float
) -> npt.NDArray[np.float64]:
    r"""Return :math:`|w_k|^2`, to be added as :math:`\tfrac\gamma2|w_k|^2` to a loss.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters, linear.
    measure : SpectralMeasure
        With an `origin`. On one from m Lanczos steps the values are exact for k < m, then estimates.
    k : array_like of int, shape (T,)
        Steps.
    start : float
        :math:`|w_0|^2` of all weights that decay.

    Returns
    -------
    numpy.ndarray, shape (T,)
        Infinite where an unstable iteration has overflowed.

    Raises
    ------
    ValueError
        If the measure has no origin, the rule is not linear, or an argument is out of range.

    Examples
    --------
    >>> from odeopt import GradientDescent, spectral_measure
    >>> measure = spectral_measure([[1.0]], [1.0], origin=[2.0])  # one weight, 2, whose target is 1
    >>> squared_weights(GradientDescent(0.5, weight_decay=1.0), measure, [0, 1, 2], 4.0)
    array([4.  , 0.25, 0.25])
    """
    start, k = require_positive("start", start), iteration_grid(k, "k")
    joint = require_measure(measure).joint
    if joint is None:
        raise ValueError("measure needs J w_0; take spectral_measure(kernel, delta0, origin=...)")
    lam, (aa, aq, qq) = joint.nodes, joint.weights
    at_zero, D, R = displacement_polynomials(rule, lam, k)
    with np.errstate(over="ignore", invalid="ignore"):
        first = at_zero[:, None]
        phi = first + lam * D
        from_start, mixed = D * (phi + first), R * phi
        found = (
            from_start @ (aa - 2 * aq + qq) + 2 * mixed @ (aq - qq) + (lam * R**2) @ qq + at_zero**2 * start
        )
    return np.where(np.isfinite(found), np.maximum(found, 0.0), np.inf)
