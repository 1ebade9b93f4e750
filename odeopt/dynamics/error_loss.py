r"""The quadratics of prediction space on which an error of constant kernel moves as on a loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array, validate_kernel

__all__ = ["ErrorLoss"]


@dataclass(frozen=True)
class ErrorLoss:
    r"""A strongly convex quadratic in prediction space, :math:`\tfrac12z^\top H^{\pm1}z`.

    Parameters
    ----------
    power : int
        1 for the error loss :math:`\tfrac12\Delta^\top H\Delta`, -1 for its dual
        :math:`\tfrac12u^\top H^{-1}u`, in the linear model half the squared weight distance along the
        row space of J.

    Examples
    --------
    >>> import numpy as np
    >>> H = np.diag([1.0, 4.0])
    >>> loss, dual = ErrorLoss(1), ErrorLoss(-1)
    >>> loss.value(H, [1.0, 1.0]), loss.constants(H)
    (2.5, (1.0, 4.0))
    >>> dual.value(H, [1.0, 1.0]), dual.constants(H)
    (0.625, (0.25, 1.0))
    """

    power: int

    def value(self, kernel: npt.ArrayLike, z: npt.ArrayLike) -> float:
        r"""Evaluate :math:`\tfrac12z^\top H^{\pm1}z`.

        Parameters
        ----------
        kernel : array_like, shape (n, n)
            Symmetric positive definite H.
        z : array_like, shape (n,)
            The error, or for the dual the prediction.

        Returns
        -------
        float
            Half the quadratic form; that of the dual by a solve.
        """
        matrix = validate_kernel(kernel)
        z = real_array(z, "z", ndim=1)
        if len(z) != len(matrix):
            raise ValueError(f"z must have shape ({len(matrix)},) like the kernel, got {z.shape}")
        if self.power == 1:
            return float(0.5 * z @ matrix @ z)
        self.constants(matrix)
        return float(0.5 * z @ np.linalg.solve(matrix, z))

    def constants(self, kernel: npt.ArrayLike) -> tuple[float, float]:
        r"""Return strong convexity and smoothness: :math:`(\lambda_{\min},\lambda_{\max})` of the form.

        Parameters
        ----------
        kernel : array_like, shape (n, n)
            Symmetric H, for the dual positive definite.

        Returns
        -------
        mu : float
            Smallest eigenvalue of the form.
        L : float
            Largest eigenvalue of the form.
        """
        eigenvalues = np.linalg.eigvalsh(validate_kernel(kernel))
        low, high = float(eigenvalues[0]), float(eigenvalues[-1])
        if self.power == -1 and low <= 0:
            raise ValueError(f"the dual loss needs a positive definite kernel, got the eigenvalue {low:.3g}")
        return (low, high) if self.power == 1 else (1 / high, 1 / low)

    def latex(self) -> str:
        """Return the quadratic form as LaTeX.

        Returns
        -------
        str
            Without dollar signs.
        """
        return r"\tfrac12\Delta^\top H\Delta" if self.power == 1 else r"\tfrac12u^\top H^{-1}u"

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"
