r"""The spectral measure of an initial error under a kernel: all that a loss curve depends on.

For :math:`H=\sum_i\lambda_iv_iv_i^\top` and the error :math:`\Delta_0`,

.. math:: \Delta_0^\top f(H)\,\Delta_0=\sum_iw_if(\lambda_i),\qquad w_i=(v_i^\top\Delta_0)^2 .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from odeopt.kernels import validate_kernel

__all__ = ["SpectralMeasure", "spectral_measure"]


@dataclass(frozen=True)
class SpectralMeasure:
    r"""Nodes :math:`\lambda_i`, ascending, and weights :math:`w_i=(v_i^\top\Delta_0)^2`.

    Attributes
    ----------
    nodes, weights : numpy.ndarray, shape (m,)
        Read-only.
    exact : bool
        True when the nodes are all eigenvalues of the kernel.

    Examples
    --------
    >>> measure = spectral_measure(np.diag([1.0, 4.0]), [1.0, 2.0])
    >>> measure.weights, measure.integrate(np.sqrt)
    (array([1., 4.]), 9.0)
    """

    nodes: np.ndarray
    weights: np.ndarray
    exact: bool

    def __post_init__(self):
        for name in ("nodes", "weights"):
            values = np.array(getattr(self, name), dtype=float)
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @property
    def mass(self) -> float:
        r""":math:`|\Delta_0|^2`."""
        return float(self.weights.sum())

    @property
    def lam_min(self) -> float:
        """Smallest node."""
        return float(self.nodes[0])

    @property
    def lam_max(self) -> float:
        """Largest node."""
        return float(self.nodes[-1])

    def integrate(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        r"""Return :math:`\sum_iw_if(\lambda_i)`.

        Parameters
        ----------
        function : callable
            From nodes, shape (m,), to values of that shape.

        Returns
        -------
        float

        Examples
        --------
        >>> spectral_measure(np.diag([1.0, 4.0]), [1.0, 2.0]).integrate(lambda lam: lam)
        17.0
        """
        return float(self.weights @ np.asarray(function(self.nodes), dtype=float))


def spectral_measure(kernel, delta0) -> SpectralMeasure:
    r"""Compute the spectral measure of an error under a kernel, exactly, by ``eigh``.

    Parameters
    ----------
    kernel : array_like, shape (n, n)
        Symmetric positive semidefinite.
    delta0 : array_like, shape (n,)
        Initial error :math:`u_0-y`.

    Returns
    -------
    SpectralMeasure

    Raises
    ------
    ValueError
        If the kernel is not finite, square, symmetric and positive semidefinite, or delta0 has
        another length or nonfinite entries.

    Examples
    --------
    >>> measure = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [1.0, 0.0])
    >>> measure.nodes.round(12), measure.weights.round(12)
    (array([1., 3.]), array([0.5, 0.5]))
    """
    kernel = validate_kernel(kernel)
    delta0 = validate_error(delta0, kernel.shape[0])
    eigenvalues, vectors = scipy.linalg.eigh(kernel)
    # Eigenvalues of a semidefinite kernel come out negative by rounding, of order eps * lam_max.
    return SpectralMeasure(np.maximum(eigenvalues, 0.0), (vectors.T @ delta0) ** 2, exact=True)


def validate_error(delta0, n: int) -> np.ndarray:
    """Return `delta0` as a finite float64 vector of length n, or raise ValueError."""
    delta0 = np.asarray(delta0, dtype=float)
    if delta0.shape != (n,):
        raise ValueError(f"delta0 must have shape ({n},) like the kernel, got {delta0.shape}")
    if not np.all(np.isfinite(delta0)):
        bad = int(np.flatnonzero(~np.isfinite(delta0))[0])
        raise ValueError(f"delta0 must be finite, got {delta0[bad]} at entry {bad}; remove that sample")
    return delta0
