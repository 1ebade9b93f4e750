r"""A bound from the residual that Lanczos leaves in a discrete method, sharp where Lanczos has converged.

Run on the Lanczos matrix, the iterates :math:`\tilde x_k=Q\,\xi_k` obey the rule with the gradient
:math:`H\tilde y_k-\beta_mq_{m+1}\,e_m^\top\eta_k`, where :math:`\tilde y_k=Q\eta_k` is where step k takes
it: of :math:`HQ=QT+\beta_mq_{m+1}e_m^\top` the last term is missing. The rule is linear, so that

.. math::
    x_K-\tilde x_K=\sum_{j<K}G_{K,j}(H)\,q_{m+1}\,\beta_m\,e_m^\top\eta_j,\qquad
    \lVert x_K-\tilde x_K\rVert\le\beta_m\sum_j\max_{[a,b]}|G_{K,j}|\;|e_m^\top\eta_j|=:\epsilon_K,

with the response :math:`G_{K,j}(\lambda)` of iterate K to a unit gradient added in step j, which the rule's
own step yields. As :math:`\tfrac12\lVert\tilde x_K\rVert^2` is the Gauss value,
:math:`|L_K-L_K^{\rm Gauss}|\le\lVert\tilde x_K\rVert\epsilon_K+\tfrac12\epsilon_K^2`. The a priori bound of
:mod:`odeopt.bounds` knows the degree of a polynomial alone; this one sees how small the last component is.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.fft

from odeopt.lanczos import Chain
from odeopt.quadrature import tridiagonal_eigen
from odeopt.rule import UpdateRule, iterate
from odeopt.spectrum import SpectralMeasure

__all__ = ["residual_half_widths"]

_EPS = float(np.finfo(float).eps)
# Entries of all responses together: where steps depend on k, each step has its own.
_MOST_WORK = 5e7


def residual_half_widths(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure) -> np.ndarray:
    r"""Bound the distance of the Gauss loss from the true one at each iteration, rounding apart.

    Parameters
    ----------
    rule : UpdateRule
        Linear.
    k : numpy.ndarray of int, shape (K,)
    measure : SpectralMeasure
        With chains and an interval.

    Returns
    -------
    numpy.ndarray, shape (K,)
        inf where the bound does not apply or would cost too much.

    Examples
    --------
    >>> from odeopt import HeavyBall, spectral_measure
    >>> kernel = np.diag(0.5 ** np.arange(50.0))
    >>> measure = spectral_measure(kernel, np.ones(50), num_matvecs=15)
    >>> float(residual_half_widths(HeavyBall(1.0, 0.5), np.array([60]), measure)[0]) < 1e-6
    True
    """
    last = int(k.max())
    chains = [chain for chain in measure.chains if not chain.exhausted]
    if not chains or last == 0:
        return np.zeros(k.size)
    first = min(chain.size for chain in chains) - 1
    sizes = _response_sizes(rule, first, last, measure.interval)
    if sizes is None:
        return np.full(k.size, np.inf)
    return sum(_half_widths(rule, k, chain, sizes, first) for chain in chains)


def _half_widths(rule, k: np.ndarray, chain: Chain, sizes: np.ndarray, first: int) -> np.ndarray:
    values, vectors = tridiagonal_eigen(chain)
    points, losses = _gradient_points(rule, np.maximum(values, 0.0), int(k.max()))
    ends = vectors[-1] * vectors[0]
    norm = np.sqrt(chain.mass)
    with np.errstate(over="ignore", invalid="ignore"):
        component = np.abs(points @ ends) + 64 * _EPS * (np.abs(points) @ np.abs(ends))
        # A polynomial of degree below m - 1 in T has no entry (m, 1).
        component[: chain.size - 1] = 0.0
        error = norm * chain.beta[-1] * (sizes @ component[first:]) if component.size > first else None
        whole = np.zeros(int(k.max()) + 1)
        if error is not None:
            whole[first + 1 :] = error
        iterate_norm = norm * np.sqrt((losses**2) @ vectors[0] ** 2)
        half = iterate_norm * whole + whole**2 / 2
    return np.where(np.isnan(half), np.inf, half)[k]


def _gradient_points(rule: UpdateRule, lam: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each step takes its gradient, shape (last, m), and the iterates, shape (last + 1, m)."""
    points = []

    def grad(z):
        points.append(z)
        return lam * z

    with np.errstate(over="ignore", invalid="ignore"):
        iterates = list(itertools.islice(iterate(rule, np.ones_like(lam), grad), last + 1))
    return np.array(points), np.array(iterates)


def _response_sizes(rule: UpdateRule, first: int, last: int, interval) -> np.ndarray | None:
    """Bounds on |G_{K,j}| for K = first + 1 ... last (rows) and j = first ... last - 1; None to give up."""
    count = last - first
    if count <= 0:
        return np.zeros((0, 0))
    low, high = interval
    theta = (np.arange(count + 1) + 0.5) * np.pi / (count + 1)
    lam = low + (high - low) * np.cos(theta / 2) ** 2
    steady = _is_steady(rule, lam, first)
    if steady is None or (count**2 if steady else count**3 / 2) > _MOST_WORK:
        return None
    sizes = np.zeros((count, count))
    if steady:
        size = _response(rule, lam, first, count)
        for j in range(count):
            sizes[j:, j] = size[: count - j]
    else:
        for j in range(count):
            sizes[j:, j] = _response(rule, lam, first + j, count - j)
    return sizes


def _response(rule: UpdateRule, lam: np.ndarray, j: int, count: int) -> np.ndarray:
    """Bounds on the response of x_(j+1), x_(j+2), ... over the interval: sums of Chebyshev coefficients."""
    found = np.abs(scipy.fft.dct(_impulse(rule, lam, j, count), axis=1)) / lam.size
    found[:, 0] /= 2
    return found.sum(axis=1)


def _impulse(rule: UpdateRule, lam: np.ndarray, j: int, count: int) -> np.ndarray:
    zero = np.zeros_like(lam)
    iterates, memory = (zero,) * rule.history, rule.initial_memory(zero)
    kicks = iter(itertools.chain([1.0], itertools.repeat(0.0)))
    found = np.empty((count, lam.size))
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(count):
            x, memory = rule.step(j + step, iterates, memory, lambda z: lam * z + next(kicks))
            iterates = (x, *iterates[:-1])
            found[step] = x
    return found


def _is_steady(rule: UpdateRule, lam: np.ndarray, first: int) -> bool | None:
    """Whether the step is the same for all late k; None if it takes another number of gradients than one."""
    calls = 0

    def grad(z):
        nonlocal calls
        calls += 1
        return lam * z

    list(itertools.islice(iterate(rule, np.ones_like(lam), grad), 5))
    if calls != 4:
        return None
    few = lam[:: max(1, lam.size // 5)]
    start = max(first, 2)
    here, there, late = (_impulse(rule, few, j, 6) for j in (start, start + 7, start + 1000))
    # Equal up to the rounding of six steps; friction r/t differs by 1e-3.
    return bool(first >= 2 and np.allclose(here, there, rtol=1e-13) and np.allclose(here, late, rtol=1e-13))
