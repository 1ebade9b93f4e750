r"""Characteristic roots to full relative accuracy, and modes of constant coefficients from them.

Eigenvalues of the companion matrix are off by a rounding of the *largest* root, which is all of a slow one.
Here Aberth's iteration finds all roots at once, each to a few roundings of itself, from starts on the Newton
polygon of the coefficients (Bini, Numer. Algorithms 13, 1996). Where roots cluster, separate exponentials
cancel: the few modes concerned are left to ball arithmetic on the very same coefficients.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import numpy.typing as npt

__all__ = ["characteristic_roots", "constant_coefficient_mode", "exact_roots"]

_EPS = float(np.finfo(float).eps)
_MOST_SWEEPS = 100
# Roots nearer to each other than this, relative to the larger one, are a cluster: the weights of their
# exponentials grow like 1/gap, and cost that factor in accuracy.
_CLUSTER_GAP = 1e-2
_MOST_BITS = 2**16


def characteristic_roots(monic: np.ndarray) -> npt.NDArray[np.complex128]:
    r"""Roots of :math:`z^n+c_{n-1}z^{n-1}+\dots+c_0`, shape (m, n), of m polynomials given as (n, m)."""
    roots, separate = _separate_roots(monic)
    for i in np.flatnonzero(~separate):
        roots[i] = exact_roots([Fraction(float(c)) for c in (*monic[:, i], 1.0)])
    return roots


def exact_roots(coefficients: list[Fraction]) -> npt.NDArray[np.complex128]:
    """Return all roots of a polynomial with rational coefficients, ascending, multiple roots repeated.

    >>> exact_roots([Fraction(1, 4), Fraction(-1), Fraction(1)]).real
    array([0.5, 0.5])
    """
    scale = np.lcm.reduce(np.array([c.denominator for c in coefficients], dtype=object))
    polynomial = flint.fmpz_poly([int(c * scale) for c in coefficients])
    with flint.ctx.workprec(128):
        roots: Any = polynomial.complex_roots()  # pairs, which flint's own types do not say
        found = [[complex(root)] * multiplicity for root, multiplicity in roots]
    return np.array(list(itertools.chain.from_iterable(found)), dtype=complex)


def constant_coefficient_mode(
    times: np.ndarray, monic: np.ndarray, initial: np.ndarray, mean: bool = False
) -> np.ndarray:
    r"""Solve :math:`\varphi^{(n)}+c_{n-1}\varphi^{(n-1)}+\dots+c_0\varphi=0`, :math:`\varphi(0)=1`.

    Times (T,), coefficients (n, m) and the other initial derivatives (n - 1, m) of m modes give (T, m);
    `mean`, the means :math:`\frac1t\int_0^t\varphi`.
    """
    m = monic.shape[1]
    start = np.vstack([np.ones((1, m)), initial])
    roots, separate = _separate_roots(monic)
    result = np.empty((times.size, m))
    if separate.any():
        z = roots[separate]
        weights = _weights(z, start[:, separate])
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.real(weights[None] * _exponentials(times[:, None, None] * z[None], mean))
        result[:, separate] = terms.sum(axis=2)
    for i in np.flatnonzero(~separate):
        if not mean:
            result[:, i] = _mode_in_balls(times, monic[:, i], start[:, i])
            continue
        # the integral has the root 0 beside
        integral = _mode_in_balls(times, np.append(0.0, monic[:, i]), np.append(0.0, start[:, i]))
        result[:, i] = np.divide(integral, times, out=np.ones_like(times), where=times > 0)
    return result


def _exponentials(x: np.ndarray, mean: bool) -> np.ndarray:
    """exp(x), or its mean (exp(x) - 1) / x."""
    if not mean:
        return np.exp(x)
    return np.where(x == 0, 1.0, np.expm1(x) / np.where(x == 0, 1.0, x))


def _weights(z: np.ndarray, start: np.ndarray) -> np.ndarray:
    r"""Return :math:`W_i=\sum_kd_k[w^k]\prod_{j\ne i}(w-z_j)/(z_i-z_j)`, shape (m, n)."""
    m, n = z.shape
    weights = np.empty_like(z)
    for i in range(n):
        product = np.zeros((m, n), dtype=complex)  # of the factors w - z_j, ascending in w
        product[:, 0], gap = 1.0, np.ones(m, dtype=complex)
        for j in (j for j in range(n) if j != i):
            higher = np.roll(product, 1, axis=1)
            higher[:, 0] = 0.0
            # divided at once: products of fast roots alone would leave the range of float64
            gap = z[:, i] - z[:, j]
            product = (higher - z[:, j, None] * product) / gap[:, None]
        weights[:, i] = (product * start.T).sum(axis=1)
    return weights


def _separate_roots(monic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return roots (m, n), and which polynomials have theirs found and well apart, shape (m,)."""
    n, m = monic.shape
    roots, separate = np.zeros((m, n), dtype=complex), np.zeros(m, bool)
    # trailing zeros are roots 0, as those of a null space
    zeros = np.argmax(np.vstack([monic != 0, np.ones((1, m), bool)]), axis=0)
    for count in np.unique(zeros):
        these = zeros == count
        separate[these] = count <= 1
        if count < n:
            found, converged = _aberth(monic[count:, these])
            roots[these, count:] = found
            separate[these] &= converged
    gaps = np.abs(roots[:, :, None] - roots[:, None, :]) + np.where(np.eye(n, dtype=bool), np.inf, 0.0)
    larger = np.maximum(np.abs(roots[:, :, None]), np.abs(roots[:, None, :]))
    with np.errstate(invalid="ignore"):
        separate &= (gaps >= _CLUSTER_GAP * larger).all(axis=(1, 2))
    return roots, separate


def _aberth(monic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Roots (m, n) of polynomials with nonzero last coefficient, and where the iteration has converged."""
    n, m = monic.shape
    with np.errstate(all="ignore"):
        logs = np.log(np.abs(np.vstack([monic, np.ones((1, m))])))
        sizes = np.stack(
            [
                np.min(
                    [
                        np.max([(logs[i] - logs[j]) / (j - i) for i in range(k)], axis=0)
                        for j in range(k, n + 1)
                    ],
                    axis=0,
                )
                for k in range(1, n + 1)
            ],
            axis=1,
        )  # logarithms of the slopes of the Newton polygon, from the slowest root to the fastest
        unit = sizes[:, -1]
        c = (monic * np.exp(-unit * (n - np.arange(n))[:, None])).T
        z = np.exp(sizes - unit[:, None]) * np.exp(1j * (2 * np.pi * np.arange(n) / n + 0.7))
        change = np.full(z.shape, np.inf)
        for _ in range(_MOST_SWEEPS):
            value, slope = np.ones_like(z), np.zeros_like(z)
            for j in reversed(range(n)):
                value, slope = value * z + c[:, j, None], slope * z + value
            newton = value / slope
            others = 1 / (z[:, :, None] - z[:, None, :] + np.where(np.eye(n, dtype=bool), np.inf, 0.0))
            moving = change > 8 * _EPS * np.abs(z)
            step = np.where(moving, newton / (1 - newton * others.sum(axis=2)), 0.0)
            z, change = z - step, np.where(moving, np.abs(step), change)
            if not moving.any():
                break
        found = z * np.exp(unit)[:, None]
        converged = ((change <= 1e-13 * np.abs(z)) & np.isfinite(found) & (c != 0).any(axis=1)[:, None]).all(
            axis=1
        )
    # a real root has no imaginary part but rounding
    real = np.abs(found.imag) <= 64 * _EPS * np.abs(found.real)
    return np.where(real, found.real, found), converged


def _mode_in_balls(times: np.ndarray, monic: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The first component of exp(t C) on the initial derivatives, with the companion matrix C, in arb."""
    n = monic.size
    rows = [[int(j == i + 1) for j in range(n)] for i in range(n - 1)]
    values = []
    for t in map(float, times):
        bits = 128
        while True:
            with flint.ctx.workprec(bits):
                matrix = flint.arb_mat([*rows, [-flint.arb(float(c)) for c in monic]]) * flint.arb(t)
                state = matrix.exp() * flint.arb_mat([[flint.arb(float(d))] for d in start])
                accurate = state[0, 0].rel_accuracy_bits() >= 60 or state[0, 0].rad() < 1e-320
                value = float(state[0, 0].mid())
            if accurate or bits >= _MOST_BITS:
                break
            bits *= 2
        values.append(value)
    return np.array(values)
