r"""Proved bounds on predictions of points: what a linear rule makes of the residual that Lanczos leaves.

The weights of a linear model move by :math:`J^\top z_k`, where z is the run of the rule from 0 with the
gradient :math:`Hz+\Delta_0`. On a decomposition, :math:`\tilde z=Q\zeta` obeys the same rule but for
:math:`\beta_mq_{m+1}e_m^\top\zeta` in each gradient, the rounding E of Lanczos, and what each step rounds, so
that :math:`\lVert z_K-\tilde z_K\rVert` is bounded by the responses of the rule to these
(:mod:`odeopt.spectra.bracket_rule`), and each prediction by the norm of its row of :math:`H_*` times that.
"""

from __future__ import annotations

import numpy as np

from odeopt.rules.base import UpdateRule
from odeopt.rules.reading import read
from odeopt.spectra.bracket_rule import bounded_responses
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz
from odeopt.spectra.responses import Responses
from odeopt.spectra.rounded import Rounded

__all__ = ["displacement_bounds"]

_EPS = float(np.finfo(float).eps)


def displacement_bounds(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure, n: int) -> np.ndarray:
    r"""Bounds on :math:`\lVert z_k-\tilde z_k\rVert` at iterations k, the largest of all outputs.

    inf where none is proved: beyond what responses are followed to, or without a bound on the spectrum.
    `n` is the number of examples, whose products round.
    """
    bounds = np.full(k.size, np.inf)
    low, high = measure.interval or (0.0, measure.lam_max)
    wanted, place = np.unique(k, return_inverse=True)
    found, responses = bounded_responses(rule, wanted, low, high)
    if responses is None or not (measure.interval_proved or measure.exact):
        return bounds
    every = np.full(wanted.size, np.inf)
    parts = [_distance(rule, pair, responses, n) for pair in measure.pairs]
    every[: found.size] = np.max(parts, axis=0, initial=0.0)
    return np.where(np.isnan(every), np.inf, every)[place]


def _distance(rule: UpdateRule, pair: Ritz, responses: Responses, n: int) -> np.ndarray:
    """The bound of one output, at the iterations of the responses."""
    run = _Run(rule, pair, responses)
    degrees = np.arange(responses.last)[:, None] * responses.degree + responses.degree - 2
    with np.errstate(over="ignore", invalid="ignore"):
        # of sums in which values cancel, and of the vectors, whose first and last rows meet here
        noise = 64 * _EPS * run.spread + 3 * pair.skew * run.largest
        # a polynomial of degree below m - 1 in T has no entry (m, 1)
        residual = pair.residual * np.where(degrees >= pair.values.size - 1, run.tail, 0.0)
        rounded = pair.residual * noise + pair.perturbation * (run.met + pair.skew * run.largest)
        from_residual = responses.driven(np.zeros(responses.entries), residual)
        found = from_residual + responses.of_gradients(rounded) + responses.of_state(run.kicks)
        products = (10 + 2 * np.sqrt(n)) * _EPS * run.size[responses.k]
        return pair.norm * (found + products + pair.skew * run.peak[responses.k])


class _Run:
    """The run from 0 with the gradient lam z + 1 on a decomposition, per unit of the error.

    `size`, `peak` (steps + 1,): weighted norm and largest entry of the iterates; `met`, `largest`, `tail`,
    `spread` (steps, L): the same of the points, their last component and the sum of its terms; `kicks`
    (steps, d): weighted norms of what rounding adds to the state.
    """

    def __init__(self, rule: UpdateRule, pair: Ritz, responses: Responses) -> None:
        lam, weights, ends = pair.values, pair.start**2, pair.ends * pair.start
        steps, reading = responses.last, read(rule)
        self.met, self.largest, self.tail, self.spread = np.zeros((4, steps, responses.gradients))
        self.size, self.peak = np.zeros((2, steps + 1))
        self.kicks: np.ndarray = np.zeros((steps, responses.entries))
        taken: list[np.ndarray] = []

        def gradient(z: Rounded) -> Rounded:
            taken.append(z.value)
            return z.scaled(lam) + Rounded(np.ones_like(lam))

        x = Rounded(np.zeros_like(lam))
        iterates, memory = (x,) * rule.history, rule.initial_memory(x)
        for j in range(steps):
            x, memory = rule.step(j, iterates, memory, gradient)
            entries = (0, *range(rule.history, responses.entries))
            with np.errstate(over="ignore", invalid="ignore"):
                for entry, new in zip(entries, (x, *(memory or ())), strict=True):
                    self.kicks[j, entry] = np.sqrt(new.error**2 @ weights)
                for point, z in zip(reading.order(j), taken, strict=True):
                    self.met[j, point], self.largest[j, point] = np.sqrt(z**2 @ weights), np.abs(z).max()
                    self.tail[j, point], self.spread[j, point] = z @ ends, np.abs(z) @ np.abs(ends)
                self.size[j + 1], self.peak[j + 1] = np.sqrt(x.value**2 @ weights), np.abs(x.value).max()
            taken.clear()
            iterates = (x.settled(), *iterates[:-1])
            memory = tuple(m.settled() for m in memory) if memory else memory
