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
from odeopt.spectra.bracket_rule import bounded_responses
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz
from odeopt.spectra.responses import Responses
from odeopt.spectra.run import Run

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
    run = Run(rule, pair, responses, forced=True)
    degrees = np.arange(responses.last)[:, None] * responses.degree + responses.degree - 2
    with np.errstate(over="ignore", invalid="ignore"):
        # of sums in which values cancel, and of the vectors, whose first and last rows meet here
        noise = 64 * _EPS * run.spread + 3 * pair.skew * run.largest
        # a polynomial of degree below m - 1 in T has no entry (m, 1)
        residual = pair.residual * np.where(degrees >= pair.steps - 1, run.tail, 0.0)
        rounded = pair.residual * noise + pair.perturbation * (run.met + pair.skew * run.largest)
        if pair.signed:
            from_residual = responses.driven(np.zeros(responses.entries), residual)
        else:
            from_residual = responses.of_gradients(residual)
        found = from_residual + responses.of_gradients(rounded) + responses.of_state(run.kicks)
        products = (10 + 2 * np.sqrt(n)) * _EPS * run.size[responses.k]
        return pair.norm * (found + products + pair.skew * run.peak[responses.k])
