r"""The envelope: the least loss that any method can reach in k steps if it follows gradients.

Iterates in :math:`w_0` plus the span of past gradients have residual polynomials of degree k, p(0) = 1, so

.. math:: \underline L_k=\min_{\deg p\le k,\ p(0)=1}\tfrac12\sum_iw_ip(\lambda_i)^2
          =\tfrac12\Big/\sum_{j=0}^k\pi_j(0)^2

with the orthonormal polynomials of the measure: the Christoffel function at 0, and the residual of MINRES.
They follow from the Lanczos matrix,
:math:`\beta_j\pi_j(x)=(x-\alpha_j)\pi_{j-1}(x)-\beta_{j-1}\pi_{j-2}(x)`, :math:`\pi_0=(\sum w)^{-1/2}`.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from odeopt.checks import iteration_grid, require_integer
from odeopt.rates.steps import StepsTo, require_loss
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import degrees
from odeopt.spectra.lanczos import Chain, lanczos
from odeopt.spectra.measure import SpectralMeasure, require_measure
from odeopt.spectra.quadrature import gauss

__all__ = ["envelope", "steps_envelope", "times_fewest"]

# A shift of the spectrum by its rounding may change the envelope by so much; beyond, it is not known.
_KNOWN = 1e-2
# Values of orthonormal polynomials are kept below this, and their squares in the range of float64.
_LARGE = 1e100
# Steps that are followed first for a loss; then twice as many, until it is reached.
_FIRST_STEPS = 64


def envelope(measure: SpectralMeasure, k: npt.ArrayLike) -> np.ndarray:
    r"""Compute the least loss that any method whose iterates follow gradients can have after k steps.

    It bounds from below every method, adaptive or not, whose iterates stay in the initial weights plus the
    span of the gradients so far, on this linear problem, at each k by a polynomial of its own. It is no bound
    for preconditioned and entrywise methods (Adam, sign descent), decay to 0, several gradients in a step
    counted as one, mini-batches, the network beyond its linearisation, or the loss on other data. At late k
    it is optimistic: it knows every eigenvalue.

    Parameters
    ----------
    measure : SpectralMeasure
        Of the kernel and the initial error; by Lanczos as far as its steps tell.
    k : array_like of int, shape (T,)
        Gradients taken.

    Returns
    -------
    numpy.ndarray, shape (T,)
        Half the squared norm of the error, summed; 0 from the number of different positive nodes on, or what
        the error has at eigenvalue 0. Exact but for rounding.

    Raises
    ------
    ValueError
        If k lies beyond what the measure knows: m Lanczos steps give k <= m, for several right-hand sides
        together k <= m - 1; or where the rounding of the kernel changes the envelope by a hundredth.

    Examples
    --------
    >>> from odeopt import spectral_measure
    >>> measure = spectral_measure(np.diag([1.0, 1 / 4, 1 / 9, 1 / 16]), np.ones(4))
    >>> envelope(measure, [0, 1, 2, 3, 4]).round(6)
    array([2.      , 1.060642, 0.28528 , 0.028616, 0.      ])
    """
    require_measure(measure)
    k = iteration_grid(k, "k")
    found = _Envelope(measure, int(k.max()))
    if k.max() > found.last:
        raise ValueError(
            f"k = {k.max()} lies beyond {found.last}, the last that {measure.num_matvecs} Lanczos steps "
            "know; take more of them"
        )
    place = np.minimum(k, found.loss.size - 1)
    vague = k[found.most[place] > (1 + _KNOWN) * found.least[place]]
    if vague.size:
        raise ValueError(
            f"k = {vague.min()} is not known: there the rounding of the kernel, {found.error:.2g}, changes "
            f"it from {found.least[vague.min()]:.3g} to {found.most[vague.min()]:.3g}; take fewer steps"
        )
    return found.loss[place]


def steps_envelope(measure: SpectralMeasure, loss: float, *, max_steps: int = 1000) -> StepsTo:
    """Count the fewest steps in which any method whose iterates follow gradients can reach a loss.

    Parameters
    ----------
    measure : SpectralMeasure
        Of the kernel and the initial error; by Lanczos as far as its steps tell.
    loss : float
        The loss to be reached, positive.
    max_steps : int
        Steps to look at.

    Returns
    -------
    StepsTo
        Where :func:`envelope` is at most the loss; `low` and `high` allow for the rounding of the kernel by
        shifts of its spectrum, which is no theorem. Where the loss is not reached within what the measure
        knows, `value` and `high` are None and `low` is the first step beyond, or None if it never is.

    Raises
    ------
    ValueError
        As of :func:`odeopt.rates.steps_to`.

    Examples
    --------
    >>> from odeopt import GradientDescent, spectral_measure
    >>> from odeopt.rates import steps_to
    >>> measure = spectral_measure(np.diag([1.0, 1 / 4, 1 / 9, 1 / 16]), np.ones(4))
    >>> least = steps_envelope(measure, 0.1)
    >>> print(least, steps_to(GradientDescent(1.0), measure, 0.1).times(least))
    3 5.0
    """
    require_measure(measure)
    require_loss(loss)
    most, steps = require_integer("max_steps", max_steps, 1), _FIRST_STEPS
    found = _Envelope(measure, min(steps, most))
    while not (found.most[-1] <= loss or found.ended or found.last < steps):
        steps *= 2
        found = _Envelope(measure, min(steps, most))

    def first(values: np.ndarray) -> int | None:
        below = np.flatnonzero(values <= loss)
        return int(below[0]) if below.size else None

    value, low, high = map(first, (found.loss, found.least, found.most))
    if low is None and not found.ended:
        low = found.last + 1
    return StepsTo(value, low, high, False, float(loss))


def times_fewest(rule: UpdateRule, steps: StepsTo, fewest: StepsTo) -> float | None:
    """Gradients that a rule takes one after the other in its steps, as a multiple of the fewest."""
    if steps.value is None or not fewest.value:
        return None
    taken = int(degrees(rule, np.array([int(steps.value)]))[0])
    return dataclasses.replace(steps, value=taken).times(fewest)


class _Envelope:
    """Losses for k = 0, ..., `last`, and the smallest and largest of a spectrum shifted by its rounding.

    They end early where all later ones are as the last, `ended`.
    """

    def __init__(self, measure: SpectralMeasure, steps: int) -> None:
        chains = [chain for chain in measure.chains if chain.size]
        if len(chains) == 1 and isinstance(chains[0], Chain):
            chain, known = chains[0], steps if chains[0].exhausted else chains[0].size
            moved: list[Chain] = []
        else:  # a sum of Gauss rules has the moments up to 2m - 1, and each its own rounding
            known = min((chain.size - 1 for chain in chains if not chain.exhausted), default=steps)
            rules = [gauss(chain) for chain in chains] or [(measure.nodes, measure.weights)]
            signs = (-1.0) ** np.arange(len(rules)) * measure.error
            shifts = (0 * signs, signs, -signs) if chains else (0 * signs,)
            chain, *moved = (_of_rules(rules, shift, min(steps, known)) for shift in shifts)
        self.last: int = min(steps, known)
        self.error: float = max(measure.error, chain.error)
        found = [_christoffel(chain, x, self.last) for x in (0.0, -self.error, self.error)]
        found += [_christoffel(other, 0.0, self.last) for other in moved]
        self.ended: bool = chain.exhausted and self.last >= chain.size
        if self.ended:
            left = 0.5 * float(measure.weights[measure.nodes <= self.error].sum())
            found = [np.append(values[: chain.size], left) for values in found]
        size = min(values.size for values in found)
        self.loss, *others = (values[:size] for values in found)
        self.least: np.ndarray = np.min([self.loss, *others], axis=0)
        self.most: np.ndarray = np.max([self.loss, *others], axis=0)


def _of_rules(rules: list[tuple[np.ndarray, np.ndarray]], shifts: np.ndarray, steps: int) -> Chain:
    """The Lanczos matrix of the sum of several rules, each with its nodes shifted."""
    nodes = np.concatenate([nodes + shift for (nodes, _), shift in zip(rules, shifts, strict=True)])
    weights = np.concatenate([weights for _, weights in rules])
    nodes, start = nodes[weights > 0], np.sqrt(weights[weights > 0])
    if not start.size:
        return Chain(np.zeros(0), np.zeros(0), 0.0, 0.0)
    count = min(max(steps, 1), nodes.size)
    (chain,) = lanczos(lambda v: nodes[:, None] * v, start[:, None], count, bound=float(np.abs(nodes).max()))
    return chain


def _christoffel(chain: Chain, x: float, count: int) -> np.ndarray:
    r""":math:`\frac12/\sum_{j\le k}\pi_j(x)^2` for k = 0, ..., `count`."""
    if not chain.mass:
        return np.zeros(1)
    count = min(count, chain.size - chain.exhausted)
    before, now, scale = 0.0, 1 / math.sqrt(chain.mass), 1.0
    total = now**2
    found = [0.5 / total]
    for j in range(count):
        earlier = chain.beta[j - 1] * before if j else 0.0
        before, now = now, ((x - chain.alpha[j]) * now - earlier) / chain.beta[j]
        total += now**2
        found.append(0.5 * scale / total)
        if abs(now) > _LARGE:
            before, now, total, scale = before / _LARGE, now / _LARGE, total / _LARGE**2, scale / _LARGE**2
    return np.array(found)
