r"""The vectors behind a spectral measure, for what is seen of them from elsewhere.

Of a start s, m Lanczos steps keep :math:`f(H)s\approx|s|\,Qf(T)e_1=|s|\,QS\,f(\Theta)S^\top e_1` with
:math:`T=S\Theta S^\top`, exact for polynomials f of degree below m; ``eigh`` keeps all of it. With another
kernel :math:`H_*` in front only :math:`H_*Q` is needed, so that one run serves every method and time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from odeopt.spectra.block import BlockChain
from odeopt.spectra.joint import start_shares
from odeopt.spectra.lanczos import Chain
from odeopt.spectra.quadrature import tridiagonal_eigen

__all__ = ["Basis", "Part", "Section", "eigen_basis", "krylov_basis"]


@dataclass(frozen=True)
class Section:
    r"""A decomposition of size r: values, rotation (m, r), and the parts of errors and of q, (r, columns)."""

    values: np.ndarray
    rotation: np.ndarray | None
    error: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True)
class Part:
    r"""Vectors in rows that carry the errors of some `columns`; `chain` is None for eigenvectors.

    `error` and `origin` are, by Lanczos, the multiples of its starts in the errors and in q, shape (1, 1) or,
    of a block, (starts, c), and for eigenvectors the components of both, shape (n, c).
    """

    vectors: tuple[np.ndarray, ...] = field(repr=False)
    columns: tuple[int, ...]
    error: np.ndarray
    origin: np.ndarray
    chain: Chain | BlockChain | None = None
    values: np.ndarray | None = None
    # eigenpairs of the first steps of the chain, for every rule alike
    _decomposed: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)
    _leading: dict[int, BlockChain] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Number of vectors."""
        return sum(len(slab) for slab in self.vectors)

    @property
    def steps(self) -> int:
        """Of Lanczos, or the number of eigenvectors."""
        return self.size if self.chain is None else self.chain.size

    @property
    def whole(self) -> bool:
        """Whether nothing that the errors see is left out."""
        return self.chain is None or self.chain.exhausted

    def section(self, interval: tuple[float, float], steps: int | None = None) -> Section:
        """What all vectors make of the starts, or the first `steps` of them, with values in the interval."""
        if self.chain is None:
            assert self.values is not None
            return Section(self.values, None, self.error, self.origin)
        m = self.steps if steps is None else steps
        if m == 0:
            nothing = np.zeros((0, self.error.shape[1]))
            return Section(np.zeros(0), np.zeros((0, 0)), nothing, nothing)
        if isinstance(self.chain, BlockChain):
            part = self._leading.setdefault(m, self.chain.leading(m))
            (values, vectors), along = part.eigen, part.along
            return Section(np.clip(values, *interval), vectors, along @ self.error, along @ self.origin)
        if m not in self._decomposed:
            part = self.chain.alpha[:m], self.chain.beta[:m], self.chain.mass, self.chain.error
            self._decomposed[m] = tridiagonal_eigen(self.chain if m == self.chain.size else Chain(*part))
        values, vectors = self._decomposed[m]
        along = np.sqrt(self.chain.mass) * vectors[0][:, None]
        return Section(np.clip(values, *interval), vectors, along * self.error, along * self.origin)


@dataclass(frozen=True)
class Basis:
    """The parts of a measure, for `shape` (n,) or (n, c) of the error; `pulled` if q is known."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    pulled: bool


def eigen_basis(
    values: np.ndarray, vectors: np.ndarray, error: np.ndarray, origin: np.ndarray | None
) -> Basis:
    """That of eigenvectors in columns, with the components of the error and of q."""
    a = error.reshape(len(error), -1)
    q = a if origin is None else origin.reshape(a.shape)
    part = Part((vectors.T,), tuple(range(a.shape[1])), a, q, values=values)
    return Basis(error.shape, (part,), origin is not None)


def krylov_basis(
    chains: tuple[Chain, ...] | tuple[BlockChain],
    shape: tuple[int, ...],
    places: list[tuple[int, ...]] | None,
    errors: np.ndarray,
    q: np.ndarray | None,
) -> Basis:
    """That of Lanczos runs from the columns of :func:`odeopt.spectra.joint.joint_starts`."""
    parts = []
    if isinstance(chains[0], BlockChain):
        c, every = errors.shape[1], np.eye(len(chains[0].start.T))
        of_q = every[:, -c:] if q is not None else every
        parts.append(Part(chains[0].basis, tuple(range(c)), every[:, :c], of_q, chain=chains[0]))
        return Basis(shape, tuple(parts), q is not None)
    for i, error in enumerate(errors.T):
        shares = [(i, 1.0, 1.0)] if places is None or q is None else start_shares(places[i], error, q[:, i])
        for j, of_error, of_q in shares:
            if chains[j].size:
                share = np.array([[of_error]]), np.array([[of_q]])
                parts.append(Part(chains[j].basis, (i,), *share, chain=chains[j]))
    return Basis(shape, tuple(parts), q is not None)
