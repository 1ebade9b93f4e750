r"""How many directions a kernel sees above a ridge."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from odeopt.checks import is_number, require_integer, validate_kernel
from odeopt.kernels.blocks import SymmetricOperator
from odeopt.shown import Shown, Summary
from odeopt.spectra.measure import spectral_measure
from odeopt.spectra.quadrature import gauss

__all__ = ["EffectiveDimension", "effective_dimension"]


_MOST_PROBES = 1_000_000


@dataclass(frozen=True, repr=False)
class EffectiveDimension(Shown):
    r"""The effective dimension :math:`\mathrm{tr}\,H(H+\rho)^{-1}` with its uncertainty.

    Parameters
    ----------
    value : float
        The trace; with random probes its mean over them.
    standard_error : float
        Of the random probes; 0 where the trace is exact.

    Examples
    --------
    >>> kernel = np.add.outer(np.arange(9.0), np.arange(9.0)) + 16 * np.eye(9)
    >>> exact = effective_dimension(kernel, 1.0)
    >>> found = effective_dimension(kernel, 1.0, probes=64)
    >>> exact.standard_error, abs(found.value - exact.value) < 4 * found.standard_error
    (0.0, True)
    """

    value: float
    standard_error: float

    def _summary(self) -> Summary:
        if self.standard_error:
            return Summary([f"{self.value:.4g} +- {self.standard_error:.1g}", "estimated by random probes"])
        return Summary([f"{self.value:.4g}", "exact"])


def effective_dimension(
    kernel: npt.ArrayLike | LinearOperator | SymmetricOperator,
    ridge: float,
    *,
    probes: int | None = None,
    num_matvecs: int = 50,
    seed: int = 0,
) -> EffectiveDimension:
    r"""Count the directions that a kernel sees above a ridge, :math:`\sum_i\lambda_i/(\lambda_i+\rho)`.

    With :math:`\rho=1/t` these are the directions that gradient flow has learned by the time t.

    Parameters
    ----------
    kernel : array_like or scipy.sparse.linalg.LinearOperator, shape (n, n)
        H, symmetric positive semidefinite.
    ridge : float
        :math:`\rho>0`.
    probes : int, optional
        Random sign vectors for the trace, at least 2; without them the trace is exact, from the
        eigenvalues of an array.
    num_matvecs : int, optional
        Lanczos steps for each probe.
    seed : int, optional
        Of the probes.

    Returns
    -------
    EffectiveDimension
        The trace, and the standard error of random probes.

    Raises
    ------
    ValueError
        If the ridge is not positive, or an operator comes without probes.

    Examples
    --------
    >>> effective_dimension(np.diag([3.0, 1.0, 0.0]), ridge=1.0)
    EffectiveDimension(1.25, exact)
    """
    if not is_number(ridge) or not 0 < ridge < math.inf:
        raise ValueError(f"ridge must be a positive number, got {ridge!r}")
    if probes is None:
        if isinstance(kernel, LinearOperator):
            raise ValueError("probes are needed for a kernel that is no array, say probes=16")
        lam = np.maximum(np.linalg.eigvalsh(validate_kernel(kernel)), 0.0)
        return EffectiveDimension(float(np.sum(lam / (lam + ridge))), 0.0)
    probes = require_integer("probes", probes, 2, _MOST_PROBES)
    n = (np.shape(kernel) or (1,))[0]  # of a shape that is none the measure says so
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, probes))
    measure = spectral_measure(kernel, signs, num_matvecs=min(num_matvecs, n), keep_basis=False)
    values = []
    for chain in measure.chains:
        lam, weights = gauss(chain)
        lam = np.maximum(lam, 0.0)
        values.append(float(weights @ (lam / (lam + ridge))))
    return EffectiveDimension(float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(probes)))
