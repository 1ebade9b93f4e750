r"""Iterates of a two-term step driven by a force along one vector, on many eigenvalues, by blocks of steps.

With :math:`V_i=T^ig` a block of B steps is one product,

.. math:: s_{(n+1)B}=T^Bs_{nB}+\sum_{i<B}V_i\,r_{(n+1)B-1-i},

so that all blocks are a matrix product and a few operations each. What is computed of :math:`T^B`,
:math:`V_i` and the first rows of :math:`T^i` differs from the truth by what each operation rounds, carried on
by exact powers of T: :math:`\hat V_i-V_i=\sum_{l<i}T^{i-1-l}\varepsilon_l`. These have bounds
(:mod:`odeopt.spectra.two_term`), and so have the errors :math:`\delta_n` of all blocks and what they become,
:math:`\sum_n|T^{K-nB}|\delta_n`.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from odeopt.spectra.two_term import TwoTerm

__all__ = ["driven_by_blocks"]

_EPS = float(np.finfo(float).eps)
# Roundings of an entry of the step and of its product with an entry of a state, relative to their sizes.
_STEP = 16 * _EPS
# Eigenvalues at a time: the tables of a block of steps stay in the cache.
_CHUNK = 1024
# Roundings of a sum of two products.
_SUM = 4 * _EPS
# Of the largest states: what is smaller is set to 0, as numbers near the end of float64 are slow.
_FLOOR = 1e-200

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Largest(NamedTuple):
    """Largest absolute values on all eigenvalues: of V, of the first rows, of T^1, T^2, T^4, ..., of states.

    `floor` is what was set to 0 at most.
    """

    forced: np.ndarray
    rows: np.ndarray
    squares: np.ndarray
    states: np.ndarray
    seen: np.ndarray
    floor: np.ndarray


def driven_by_blocks(
    step: Matrices,
    powers: TwoTerm,
    lam: np.ndarray,
    begun: np.ndarray,
    force: np.ndarray,
    k: np.ndarray,
    output: tuple[float, float] = (1.0, 0.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Largest values on lam of an output of the states k after `begun` (2, n), and bounds on their rounding.

    >>> step = np.array([[1.5, -0.5], [1.0, 0.0]]), np.array([[-1.0], [0.0]]), np.array([[1.0, 0.0]]), None
    >>> powers, force = TwoTerm(step, 0.0, 1.0, 40), np.ones(40)
    >>> driven_by_blocks(step, powers, np.zeros(1), np.zeros((2, 1)), force, np.array([1, 2]))[0]
    array([1. , 2.5])
    """
    block = 2 ** max(4, round(np.log2(max(int(k.max()), 1)) / 2))
    count = int(k.max()) // block + 1
    padded = np.zeros(count * block)
    padded[: min(force.size, padded.size)] = force[: padded.size]
    whole = padded.reshape(count, block)[:, ::-1]
    place, ahead = np.divmod(k, block)
    back = place[:, None] * block + ahead[:, None] - 1 - np.arange(block)
    part = np.where(np.arange(block) < ahead[:, None], padded[np.maximum(back, 0)], 0.0)
    squares = round(np.log2(block)) + 1
    shapes = (block, 2), (block, 2), (squares, 2, 2), (count, 2), k.size, 2
    found = _Largest(*map(np.zeros, shapes))
    pilot, forces = _pilot(lam.size), (whole, part, place, ahead)
    with np.errstate(over="ignore", invalid="ignore"):
        for some in (pilot, np.setdiff1d(np.arange(lam.size), pilot)):
            if some is not pilot and output == (1.0, 0.0) and np.all(np.ptp(begun, axis=1) == 0):
                vectors = step[1][:, 0], begun[:, 0]
                some = some[_may_be_larger(powers, vectors, lam[some], np.abs(padded), k, found.seen)]
            for begin in range(0, some.size, _CHUNK):
                here = some[begin : begin + _CHUNK]
                _of_chunk(step, lam[here], begun[:, here], forces, output, found)
        error = _rounding(step, powers, float(lam.max()), np.abs(whole), np.abs(part), k, output, found)
    return found.seen, error


def _pilot(count: int) -> np.ndarray:
    """Points of a mesh that show about how large the outputs become: most at its ends."""
    near = np.geomspace(1, count, _CHUNK // 4).astype(int) - 1
    return np.unique(
        np.concatenate([near, count - 1 - near, np.linspace(0, count - 1, _CHUNK // 2).astype(int)])
    )


def _may_be_larger(
    powers: TwoTerm,
    vectors: tuple[np.ndarray, np.ndarray],
    lam: np.ndarray,
    force: np.ndarray,
    k: np.ndarray,
    seen: np.ndarray,
) -> np.ndarray:
    """On which lam the sum of sizes, which bounds an output, does not exclude one beyond what was seen."""
    first, (vector, begun) = powers.ranges[0].astype(int), vectors
    sums = np.zeros((k.size, first.size))
    for row, last in zip(sums, np.maximum(k, 1), strict=True):
        starts = first[first < last]
        row[: starts.size] = np.add.reduceat(force[:last][::-1], starts)
    sizes = sums @ powers.along_on_cells(*vector).T
    sizes += powers.along_on_cells(*begun).T[np.searchsorted(first, k, side="right") - 1]
    larger = np.logical_or.reduce(~(sizes * (1 + 2 * _EPS * powers.last) <= seen[:, None]))
    return larger[np.searchsorted(powers.right[:-1], lam)]


def _of_chunk(
    step: Matrices,
    lam: np.ndarray,
    begun: np.ndarray,
    forces: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    output: tuple[float, float],
    found: _Largest,
) -> None:
    """All blocks on some eigenvalues."""
    (whole, part, place, ahead), (M, N, A) = forces, step[:3]
    block, count = whole.shape[1], len(whole)
    T = M[:, :, None] + (N @ A)[:, :, None] * lam
    driven = bool(whole.any())
    rows, forced = np.empty((block, 2, lam.size)), np.empty((block, 2, lam.size))
    rows[0], forced[0] = np.array(output)[:, None], N
    columns, work = T.swapaxes(0, 1).copy(), np.empty((2, lam.size))
    for i in range(1, block):
        _combined(T, rows[i - 1], work, rows[i])
        if driven:
            _combined(columns, forced[i - 1], work, forced[i])
    _raise(found.rows, rows)
    power = T
    _raise(found.squares[0], power)
    for i in range(1, len(found.squares)):
        power = power[:, :1] * power[0] + power[:, 1:] * power[1]
        _raise(found.squares[i], power)
    states = np.empty((count, 2, lam.size))
    states[0] = begun
    if driven:
        _raise(found.forced, forced)
        np.matmul(whole[:-1], forced.reshape(block, -1), out=states[1:].reshape(count - 1, 2 * lam.size))
    else:
        states[1:] = 0.0
    floor = _FLOOR * (np.abs(begun).max(axis=1) + np.abs(states).max(axis=(0, 2)))
    np.maximum(found.floor, floor, out=found.floor)
    floor, carried, columns = floor[:, None], np.empty((2, lam.size)), power.swapaxes(0, 1).copy()
    for before, state in itertools.pairwise(states):
        _combined(columns, before, work, carried)
        state += carried
        state += floor
        state -= floor
    _raise(found.states, states)
    seen = output[0] * forced[:, 0] + output[1] * forced[:, 1] if driven else forced[:, 0]
    for begin in range(0, place.size, block):
        some = slice(begin, begin + block)
        out = part[some] @ seen if driven else np.zeros((place[some].size, lam.size))
        for row, i, n in zip(out, ahead[some], place[some], strict=True):
            np.multiply(rows[i], states[n], out=work)
            row += work[0]
            row += work[1]
        _raise(found.seen[some], out)


def _combined(factors: np.ndarray, vector: np.ndarray, work: np.ndarray, out: np.ndarray) -> None:
    """Sum over c of factors[c] (2, n) times vector[c] (n,)."""
    np.multiply(factors[0], vector[0], out=out)
    np.multiply(factors[1], vector[1], out=work)
    out += work


def _raise(largest: np.ndarray, values: np.ndarray) -> None:
    for found in (values.max(axis=-1), -values.min(axis=-1)):
        np.maximum(largest, found, out=largest)


def _rounding(
    step: Matrices,
    powers: TwoTerm,
    high: float,
    whole: np.ndarray,
    part: np.ndarray,
    k: np.ndarray,
    output: tuple[float, float],
    found: _Largest,
) -> np.ndarray:
    """Bounds on what the computed outputs k are off by, from the largest values met."""
    M, N, A = step[:3]
    block, count = whole.shape[1], len(whole)
    size = np.abs(M) + high * np.abs(N @ A)
    exact = np.array([[powers.entry(a, b) for b in range(2)] for a in range(2)])
    kicks = _STEP * found.forced @ size.T
    forced = np.stack([sum(_carried(exact[a, b], kicks[:, b]) for b in range(2)) for a in range(2)], axis=1)
    kicks = _STEP * found.rows @ size
    rows = np.stack([sum(_carried(exact[b, c], kicks[:, b]) for b in range(2)) for c in range(2)], axis=1)
    power, error = 1, _STEP * size
    for computed in found.squares[:-1]:
        true = exact[:, :, power] if power <= powers.last else computed + error
        error = true @ error + error @ computed + _SUM * computed @ computed
        power *= 2
    dot, seen = (block + 6) * _EPS, np.abs(output)
    of_forces = forced + dot * found.forced
    kicks = np.zeros((count, 2))
    kicks[1:] = found.states[:-1] @ (error + _SUM * found.squares[-1]).T + whole[:-1] @ of_forces
    kicks[1:] += _SUM * found.states[1:] + found.floor
    place, ahead = np.divmod(k, block)
    later = k[:, None] - block * np.arange(count)
    answers = np.einsum("a,abi->ib", seen, exact)[np.maximum(later, 0)]
    carried = np.where(later[:, :, None] >= 0, answers * kicks, 0.0)
    own = ((rows + _SUM * found.rows)[ahead] * found.states[place]).sum(axis=1) + part @ (of_forces @ seen)
    return carried.sum(axis=(1, 2)) + own + _SUM * found.seen


def _carried(powers: np.ndarray, kicks: np.ndarray) -> np.ndarray:
    """Sum over l < i of the power i - 1 - l times the kick l, for i below their number."""
    sums = np.convolve(powers[: kicks.size], kicks)[: kicks.size - 1]
    return np.concatenate([[0.0], sums])
