r"""What all methods of a forecast share: the error off the null space, all of it, and its spectrum."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.inputs import SingularPart
from odeopt.spectra.joint import JointMeasure, Together
from odeopt.spectra.lanczos import Chain
from odeopt.spectra.largest import largest_eigenvalue_bound
from odeopt.spectra.measure import SpectralMeasure, spectral_measure
from odeopt.spectra.quadrature import ritz

__all__ = ["ForecastSpectrum"]

# Where tuning begins when the smallest Ritz value is zero but for rounding.
_LEAST = 1e-12
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class ForecastSpectrum:
    """The measure of the error without and with its part in the null space, and the ends of the spectrum."""

    seen: SpectralMeasure | None
    whole: SpectralMeasure
    floor: float
    mu: float
    low: float
    L: float

    @classmethod
    def of(
        cls,
        kernel: ReluGramOperator,
        singular: SingularPart,
        delta0: np.ndarray,
        num_matvecs: int,
        state: str | os.PathLike[str] | None,
        progress: Callable[[str, int, int], object] | None,
        keep_basis: bool,
    ) -> ForecastSpectrum:
        floor, error, slack = singular.plateau(delta0), singular.reduced(delta0), kernel.storage_error
        # The largest of all eigenvalues is at least their root mean square, and at most that of all squares.
        low, L = kernel.frobenius / kernel.shape[0] ** 0.5, min(kernel.interval[1], kernel.frobenius + slack)
        if np.linalg.norm(error) <= 8 * singular.n * _EPS * np.linalg.norm(delta0):
            return cls(None, _with_floor(None, floor, L), floor, L, min(low, L), L)
        steps = min(num_matvecs, singular.rank)
        origin = np.zeros_like(error)
        options = {"num_matvecs": steps, "state": state, "progress": progress, "keep_basis": keep_basis}
        seen = spectral_measure(kernel, error, origin=origin, **options)
        whole = kernel.frobenius + slack, kernel.shape[0]
        bound = min(largest_eigenvalue_bound(chain, *whole) for chain in seen.chains if chain.size) + slack
        L = float(max(min(L, bound), seen.lam_max))
        seen = dataclasses.replace(seen, interval=(0.0, L))
        # Of antipodal pairs rounding puts something into the null space.
        least = _EPS * seen.mass if singular.antipodal else 0.0
        mu = max(float(seen.nodes[seen.weights >= least][0]), _LEAST * L)
        return cls(seen, _with_floor(seen, floor, L), floor, mu, min(max(low, seen.lam_max), L), L)


def _with_floor(seen: SpectralMeasure | None, floor: float, L: float) -> SpectralMeasure:
    """Add the error in the null space: it is a Lanczos chain of one step, whose eigenvalue is 0."""
    rest, size = Chain(np.zeros(1), np.zeros(1), 2 * floor, 0.0), np.full((1, 1), (2 * floor) ** 0.5)
    pair = ritz(rest, 0.0, 0.0)
    part = Together(pair, pair, size, size)  # J w_0 = 0
    if seen is None:
        joint = JointMeasure((part,))
        return SpectralMeasure(np.zeros(1), np.array([2 * floor]), True, (rest,), (0.0, L), joint=joint)
    if not floor or seen.joint is None:
        return seen
    joint = JointMeasure((*seen.joint.parts, part))
    nodes, weights = np.append(0.0, seen.nodes), np.append(2 * floor, seen.weights)
    chains = (*seen.chains, rest)
    return dataclasses.replace(seen, nodes=nodes, weights=weights, chains=chains, joint=joint)
