r"""Gauss, Gauss-Radau and Gauss-Lobatto rules of a measure, from its tridiagonal matrix.

For :math:`f` with derivatives of one sign the rules enclose the integral. With k free nodes in [a, b]
the remainders have the sign of

.. math::
    f^{(2k)}\ \text{(Gauss)},\quad f^{(2k+1)}\ \text{(Radau at a)},\quad -f^{(2k+1)}\ \text{(Radau at b)},
    \quad -f^{(2k+2)}\ \text{(Lobatto)}

(Golub and Van Loan, Matrix Computations, section 10.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from odeopt.checks import values_at
from odeopt.spectra.block import BlockChain
from odeopt.spectra.lanczos import Chain

__all__ = [
    "Ritz", "block_ritz", "enclosed", "gauss", "lobatto", "radau", "radau_size", "ritz",
    "top_residual", "tridiagonal_eigen",
]  # fmt: skip

_EPS = float(np.finfo(float).eps)


def gauss(chain: Chain | BlockChain) -> tuple[np.ndarray, np.ndarray]:
    r"""Return nodes and weights of the Gauss rule of m steps, exact to degree 2m - 1."""
    if isinstance(chain, BlockChain):
        return chain.eigen[0], (chain.along[:, : chain.errors] ** 2).sum(axis=1)
    if not chain.size:
        return np.zeros(0), np.zeros(0)
    nodes, vectors = tridiagonal_eigen(chain)
    return nodes, chain.mass * vectors[0] ** 2


def tridiagonal_eigen(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, ascending, and eigenvectors of the Lanczos matrix."""
    if chain.size == 1:
        return chain.alpha, np.ones((1, 1))
    found = chain._eigen or [scipy.linalg.eigh_tridiagonal(chain.alpha, chain.beta[:-1])]
    if chain.basis and not chain._eigen:
        chain._eigen.extend(found)
    return found[0]


@dataclass(frozen=True)
class Ritz:
    r"""Computed eigenpairs of a Lanczos matrix T or of H itself, and how far from exact ones they are.

    They are, up to `skew`, the exact ones of a matrix within `shift` of T, and by Lanczos of m `steps` that
    one is the section of a kernel within `perturbation` of H. `start` are the first entries of the
    eigenvectors, `ends` (N, L) these times the last ones, `residual` is :math:`\beta_m`, 0 where nothing is
    left, `norm` is :math:`\lVert\Delta_0\rVert`. Of a block, whose outputs are taken as one vector of n c
    numbers, `start` are the lengths of its components, `residual` is :math:`\lVert B_m\rVert_2`, and L are
    all pairs of a direction that is left and an output.
    """

    values: np.ndarray
    start: np.ndarray
    ends: np.ndarray
    norm: float
    residual: float
    shift: float
    skew: float
    perturbation: float
    steps: int

    @property
    def signed(self) -> bool:
        """Whether what is left points along one vector, so that its signs at all steps say more."""
        return self.ends.shape[1] == 1

    def left(self, values: np.ndarray) -> np.ndarray:
        r""":math:`e_m^\top f(T)e_1` of values (..., N) of f, or the length of its parts."""
        found = values @ self.ends
        return found[..., 0] if self.signed else np.linalg.norm(found, axis=-1)

    @property
    def shares(self) -> np.ndarray:
        """The size of what each eigenvector adds to it, (N,)."""
        return np.linalg.norm(self.ends, axis=1)


def rounding_of_pairs(values: np.ndarray, vectors: np.ndarray, image: np.ndarray) -> tuple[float, float]:
    r"""Bound what rounding did to eigenpairs of a matrix A, `image` = AV: (shift of A, skew of V).

    With :math:`V=\bar VP` in polar form and :math:`G=V^\top V-I`,
    :math:`\lVert V-\bar V\rVert\le\lVert G\rVert` and
    :math:`\bar V\Lambda-A\bar V=(V\Lambda-AV)P^{-1}+V[P^{-1},\Lambda]`, where
    :math:`P^{-1}=I-\frac12G+O(G^2)`. What rounding does to these products is added as that of independent
    roundings.
    """
    gram = vectors.T @ vectors - np.eye(values.size)
    scale, noise = np.abs(values).max(), _EPS * np.sqrt(values.size)
    skew = float(np.linalg.norm(gram) + 4 * noise)
    shift = (
        np.linalg.norm(image - vectors * values)
        + np.linalg.norm(gram * (values - values[:, None])) / 2
        + (2 * skew**2 + 8 * noise) * scale
    )
    return float(shift), skew


def ritz(chain: Chain | BlockChain, low: float, high: float) -> Ritz:
    r"""Decompose a Lanczos matrix, move its eigenvalues into [low, high], and measure what rounding did.

    >>> found = ritz(Chain(np.array([2.5, 2.5]), np.array([1.5, 0.0]), 2.0, 0.0), 0.0, 3.5)
    >>> found.values.round(12), found.shift, found.skew < 1e-14
    (array([1. , 3.5]), 0.5..., True)
    """
    if isinstance(chain, BlockChain):
        return block_ritz(chain, slice(chain.errors), low, high)
    exact, vectors = tridiagonal_eigen(chain)
    values = np.clip(exact, low, high)
    image = chain.alpha[:, None] * vectors
    image[1:] += chain.beta[:-1, None] * vectors[:-1]
    image[:-1] += chain.beta[:-1, None] * vectors[1:]
    shift, skew = rounding_of_pairs(exact, vectors, image)
    shift += float(np.abs(values - exact).max())
    return Ritz(
        values,
        vectors[0],
        (vectors[-1] * vectors[0])[:, None],
        chain.mass**0.5,
        float(chain.beta[-1]),
        shift,
        skew,
        chain.error + shift,
        chain.size,
    )


def block_ritz(chain: BlockChain, columns: slice, low: float, high: float) -> Ritz:
    """Decompose a block tridiagonal matrix, as :func:`ritz`, for some of its starts as one vector."""
    exact, vectors = chain.eigen
    values, along = np.clip(exact, low, high), chain.along[:, columns]
    shift, skew = rounding_of_pairs(exact, vectors, chain.matrix @ vectors)
    shift += float(np.abs(values - exact).max())
    norm = float(np.linalg.norm(chain.start[:, columns]))
    along = along / (norm or 1.0)
    residual = 0.0 if chain.exhausted else float(np.linalg.norm(chain.last, 2))
    ends = (chain.left[:, :, None] * along[:, None]).reshape(len(values), -1) / (residual or 1.0)
    start = np.linalg.norm(along, axis=1)
    return Ritz(values, start, ends, norm, residual, shift, skew, chain.error + shift, chain.size)


def top_residual(chain: Chain | BlockChain) -> float:
    """How far the largest Ritz value may be from an eigenvalue, by its last residual."""
    if isinstance(chain, BlockChain):
        return float(np.linalg.norm(chain.left[-1]))
    if chain.exhausted or chain.size < 2:
        return 0.0 if chain.exhausted else float(chain.beta[-1])
    return float(chain.beta[-1] * abs(tridiagonal_eigen(chain)[1][-1, -1]))


def _rule(alpha: np.ndarray, beta: np.ndarray, mass: float) -> tuple[np.ndarray, np.ndarray]:
    if alpha.size == 0:
        return np.zeros(0), np.zeros(0)
    if alpha.size == 1:
        return alpha.copy(), np.array([mass])
    nodes, vectors = scipy.linalg.eigh_tridiagonal(alpha, beta)
    return nodes, mass * vectors[0] ** 2


def _pivots(chain: Chain, shift: float) -> np.ndarray:
    """Pivots of T - shift: all positive if shift lies below its spectrum, all negative above."""
    pivots = np.empty(chain.size)
    pivot = np.inf
    for k in range(chain.size):
        before = chain.beta[k - 1] ** 2 if k else 0.0
        pivot = chain.alpha[k] - shift - before / pivot
        pivots[k] = pivot
        if pivot == 0.0:
            pivots[k:] = np.nan
            break
    return pivots


def _usable(pivots: np.ndarray, sign: int) -> int:
    """How many leading steps have pivots of the required sign."""
    wrong = np.flatnonzero(~(sign * pivots > 0))
    return int(wrong[0]) if wrong.size else pivots.size


def radau_size(chain: Chain, node: float) -> int:
    """How many nodes :func:`radau` has with a node below the spectrum."""
    return _usable(_pivots(chain, node), 1) + 1


def radau(chain: Chain, node: float, *, side: int = 1) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the rule with one prescribed node outside the spectrum, exact to degree 2m."""
    pivots = _pivots(chain, node)
    m = _usable(pivots, side)
    if m == 0:
        return np.array([node]), np.array([chain.mass])
    last = node + chain.beta[m - 1] ** 2 / pivots[m - 1]
    return _rule(np.append(chain.alpha[:m], last), chain.beta[:m], chain.mass)


def enclosed(
    chains: Sequence[Chain | BlockChain], low: float, function: Callable[[np.ndarray], Any]
) -> tuple[float, float]:
    """Gauss and Radau values of a monotone function; of a block, whose remainder has no sign, by columns."""
    lower = upper = 0.0
    for chain in chains:
        for column in chain.columns() if isinstance(chain, BlockChain) else [chain]:
            rules = gauss(column), gauss(column) if column.exhausted else radau(column, low)
            below, above = (
                float(weights @ values_at(function, np.maximum(nodes, low))) for nodes, weights in rules
            )
            lower, upper = lower + below, upper + above
    return lower, max(lower, upper)


def lobatto(chain: Chain, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the rule with both ends of the spectrum as nodes, m - 1 free ones, exact to degree 2m - 1."""
    below, above = _pivots(chain, low), _pivots(chain, high)
    m = min(_usable(below, 1), _usable(above, -1))
    if m == 0:
        share = min(max((chain.alpha[0] - low) / (high - low), 0.0), 1.0) if high > low else 0.0
        return np.array([low, high]), chain.mass * np.array([1 - share, share])
    # The last entries of (T - low)^-1 e_m and (T - high)^-1 e_m are the reciprocal pivots.
    x, y = 1 / below[m - 1], 1 / above[m - 1]
    square = (high - low) / (x - y)
    last = low + square * x
    beta = np.append(chain.beta[: m - 1], np.sqrt(square))
    alpha = np.append(chain.alpha[:m], last)
    return _rule(alpha, beta, chain.mass)
