r"""The measure of two vectors together: of the error :math:`\Delta_0` and of :math:`q=\Delta_0-Jw_0`.

Where weights decay, the error is :math:`\varphi(H)\Delta_0+\chi(H)q`, whose square needs, beside the measure
of :math:`\Delta_0`, the integrals of :math:`\varphi\chi` and :math:`\chi^2` in

.. math:: \Delta_0^\top f(H)q=\tfrac c4\bigl(s_+^\top f(H)s_+-s_-^\top f(H)s_-\bigr),\quad
    q^\top f(H)q=\tfrac{c^2}2\bigl(s_+^\top f(H)s_++s_-^\top f(H)s_-\bigr)-c^2\Delta_0^\top f(H)\Delta_0

with :math:`s_\pm=\Delta_0\pm q/c`, :math:`c=|q|/|\Delta_0|`: three scalar measures by Lanczos, one where q is
parallel to :math:`\Delta_0`. By ``eigh`` both vectors are known in one basis.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from odeopt.shown import Shown, Summary
from odeopt.spectra.block import BlockChain
from odeopt.spectra.lanczos import Chain
from odeopt.spectra.quadrature import Ritz, block_ritz, ritz

__all__ = [
    "JointMeasure", "Polarised", "Together", "joint_by_chains", "joint_starts", "start_shares",
]  # fmt: skip

# Vectors are called parallel where what is left of q beside the error is rounding.
_PARALLEL = 8 * float(np.finfo(float).eps)


@dataclass(frozen=True)
class Together:
    """Both vectors in one basis: their components `a` and `q`, shape (N, columns), and each as a start."""

    start: Ritz
    origin: Ritz
    a: np.ndarray
    q: np.ndarray

    @property
    def nodes(self) -> np.ndarray:
        """Eigenvalues."""
        return self.start.values

    @property
    def weights(self) -> np.ndarray:
        """Of f in the three integrals, shape (3, N)."""
        return np.stack([(self.a**2).sum(1), (self.a * self.q).sum(1), (self.q**2).sum(1)])

    def square(self, phi: np.ndarray, chi: np.ndarray) -> np.ndarray:
        r""":math:`|\varphi\Delta_0+\chi q|^2`."""
        columns = zip(self.a.T, self.q.T, strict=True)
        return np.sum([((phi * a + chi * q) ** 2).sum(axis=1) for a, q in columns], axis=0)


@dataclass(frozen=True)
class Polarised:
    r"""Three measures: of :math:`\Delta_0`, and of :math:`\Delta_0\pm q/c`, c the `scale`."""

    start: Ritz
    plus: Ritz
    minus: Ritz
    scale: float

    @property
    def nodes(self) -> np.ndarray:
        """Of the three measures one after the other."""
        return np.concatenate([found.values for found in (self.start, self.plus, self.minus)])

    @property
    def weights(self) -> np.ndarray:
        """Of f in the three integrals, shape (3, N)."""
        c = self.scale
        shares = ((1.0, 0.0, -(c**2)), (0.0, c / 4, c**2 / 2), (0.0, -c / 4, c**2 / 2))
        found = zip((self.start, self.plus, self.minus), shares, strict=True)
        return np.concatenate(
            [np.outer(share, (pair.norm * pair.start) ** 2) for pair, share in found], axis=1
        )

    def square(self, phi: np.ndarray, chi: np.ndarray) -> np.ndarray:
        r""":math:`|\varphi\Delta_0+\chi q|^2`."""
        aa, aq, qq = self.weights
        return phi**2 @ aa + 2 * (phi * chi) @ aq + chi**2 @ qq


@dataclass(frozen=True, repr=False)
class JointMeasure(Shown):
    """The parts of the measure of both vectors: one by ``eigh``, one for each right-hand side by Lanczos."""

    parts: tuple[Together | Polarised, ...]

    def _summary(self) -> Summary:
        of_error, _, of_origin = self.weights.sum(axis=1)
        masses = f"mass {of_error:.4g} of the error, {of_origin:.4g} of its distance from J w_0"
        return Summary([f"{self.nodes.size} nodes", masses])

    @functools.cached_property
    def nodes(self) -> np.ndarray:
        """Of all parts one after the other."""
        return np.concatenate([part.nodes for part in self.parts])

    @functools.cached_property
    def weights(self) -> np.ndarray:
        r"""Of f in :math:`\Delta_0^\top f\Delta_0`, :math:`\Delta_0^\top fq`, :math:`q^\top fq`: (3, N)."""
        return np.concatenate([part.weights for part in self.parts], axis=1)

    def loss(self, phi: np.ndarray, chi: np.ndarray) -> np.ndarray:
        r""":math:`\tfrac12|\varphi(H)\Delta_0+\chi(H)q|^2` of values at the nodes, shape (T, N)."""
        total, begun = np.zeros(len(phi)), 0
        for part in self.parts:
            here = slice(begun, begun + part.nodes.size)
            total += part.square(phi[:, here], chi[:, here])
            begun = here.stop
        return 0.5 * np.maximum(total, 0.0)  # nan stays


def joint_starts(delta0: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Start columns of Lanczos beside those of delta0, and for each error which of all columns are its own.

    A column has its own measure alone where q is parallel to it, that of q beside it where it is zero, and
    else those of both sums.
    """
    found, places, count = [], [], delta0.shape[1]
    for i, (a, b) in enumerate(zip(delta0.T, q.T, strict=True)):
        norm, other = np.linalg.norm(a), np.linalg.norm(b)
        rest = b
        for _ in range(2 if norm else 0):  # the second takes off what n terms round
            rest = rest - (a @ rest / norm**2) * a
        if norm == 0.0:
            more = [b]
        elif np.linalg.norm(rest) <= _PARALLEL * other:
            more = []
        else:
            more = [a + b * (norm / other), a - b * (norm / other)]
        places.append((i, *range(count, count + len(more))))
        found += more
        count += len(more)
    return np.stack([*delta0.T, *found], axis=1), places


def start_shares(places: tuple[int, ...], a: np.ndarray, q: np.ndarray) -> list[tuple[int, float, float]]:
    """The error a and q as sums of the starts of its places: (place, multiple in a, multiple in q)."""
    i, *more = places
    norm, other = float(np.linalg.norm(a)), float(np.linalg.norm(q))
    if not more:
        return [(i, 1.0, float(a @ q) / norm**2)]
    if len(more) == 1:
        return [(more[0], 0.0, 1.0)]
    half = other / norm / 2
    return [(i, 1.0, 0.0), (more[0], 0.0, half), (more[1], 0.0, -half)]


def joint_by_chains(
    chains: Sequence[Chain | BlockChain],
    interval: tuple[float, float],
    places: list[tuple[int, ...]],
    delta0: np.ndarray,
    q: np.ndarray,
) -> JointMeasure:
    """The joint measure of Lanczos matrices, empty where a start is zero, or of the one of a block."""
    if isinstance(chains[0], BlockChain):
        return JointMeasure((_by_block(chains[0], *interval),))
    pairs = [ritz(chain, *interval) if chain.size else None for chain in chains]
    parts: list[Together | Polarised] = []
    for (i, *more), a, b in zip(places, delta0.T, q.T, strict=True):
        norm, other = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        found = [pair for pair in (pairs[i], *(pairs[j] for j in more)) if pair is not None]
        if len(found) == 3:
            parts.append(Polarised(found[0], found[1], found[2], other / norm))
        if len(found) != 1:
            continue
        (basis,) = found
        along = float(np.sign(a @ b)) * other if norm else other
        start, origin = (dataclasses.replace(basis, norm=size) for size in (norm, other))
        column = basis.start[:, None]
        parts.append(Together(start, origin, norm * column, along * column))
    return JointMeasure(tuple(parts))


def _by_block(chain: BlockChain, low: float, high: float) -> Together:
    """Both vectors in the one basis of a block, which begins with all errors and then all q."""
    errors, origins = slice(chain.errors), slice(chain.errors, None)
    start, origin = (block_ritz(chain, columns, low, high) for columns in (errors, origins))
    return Together(start, origin, chain.along[:, errors], chain.along[:, origins])
