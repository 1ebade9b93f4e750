r"""A bound on the largest eigenvalue from a Lanczos run and the Frobenius norm, near it once the run is.

In the basis :math:`(Q,Q_\perp)` of m Lanczos steps a positive semidefinite H is

.. math::
    \begin{pmatrix}T&\beta_me_me_1^\top\\\beta_me_1e_m^\top&C\end{pmatrix},\qquad
    \lVert C\rVert_2\le c=\sqrt{\lVert H\rVert_F^2-\lVert T\rVert_F^2-2\beta_m^2},

so that no eigenvalue exceeds the largest one of T bordered by :math:`\beta_m` and c: a quadratic form of H in
:math:`(a,b)` is at most that of the bordered matrix in :math:`(a,\pm\lVert b\rVert)`.
"""

from __future__ import annotations

import numpy as np
import scipy

from odeopt.spectra.lanczos import Chain

__all__ = ["largest_eigenvalue_bound"]


def largest_eigenvalue_bound(chain: Chain, frobenius: float, n: int) -> float:
    """Return the bound, what rounding did to the chain included."""
    # The chain is that of H + E, |E| <= error, whose Frobenius norm may be sqrt(n) error larger.
    whole = frobenius + np.sqrt(n) * chain.error
    if whole == 0:
        return 0.0
    alpha, beta = chain.alpha / whole, chain.beta / whole
    rest = max(1 - alpha @ alpha - 2 * beta @ beta, 0.0) + 4 * (n + chain.size) * np.finfo(float).eps
    values = scipy.linalg.eigvalsh_tridiagonal(np.append(alpha, np.sqrt(rest)), beta)
    return float(values[-1] * whole) + chain.error
