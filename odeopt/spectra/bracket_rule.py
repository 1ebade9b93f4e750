r"""A bound from the residual that Lanczos leaves in a discrete method, sharp where Lanczos has converged.

Run on a decomposition, the iterates :math:`\tilde x_k=Q\,\xi_k` obey the rule with gradients
:math:`(H+E)\tilde y-\beta_mq_{m+1}\,e_m^\top\eta`, where :math:`\tilde y=Q\eta` is where they are taken: of
:math:`(H+E)Q=QT+\beta_mq_{m+1}e_m^\top`, with E from the rounding of Lanczos, the last term is missing. And
each step rounds: what is computed is an exact step and a kick :math:`\kappa` to each entry of the state
(:mod:`odeopt.spectra.rounded`). The rule is linear, so that

.. math::
    \lVert x_K-\tilde x_K\rVert\le\beta_m\max_{[a,b]}\Bigl|\sum_{j<K,\,l}G_{K,j,l}\,e_m^\top\eta_{j,l}\Bigr|
        +\sum_{j<K}\Bigl(\sum_l\max_{[a,b]}|G_{K,j,l}|\,\lVert E\rVert\lVert\tilde y_{j,l}\rVert
        +\sum_c\max_{[a,b]}|S_{K,j,c}|\,\lVert\kappa_{j,c}\rVert\Bigr)=:\epsilon_K,

with the responses of iterate K to a unit added in step j to gradient l, :math:`G_{K,j,l}(\lambda)`, and to
entry c of the state, :math:`S_{K,j,c}(\lambda)`, both read off the matrices of the step. As
:math:`\tfrac12\lVert\tilde x_K\rVert^2` is the computed value,
:math:`|L_K-\tilde L_K|\le\lVert\tilde x_K\rVert\epsilon_K+\tfrac12\epsilon_K^2`. The a priori bound of
:mod:`odeopt.spectra.bracket` knows the degree of a polynomial alone; this one sees how small the last
component is, how momentum amplifies a rounding, and its allowance falls with :math:`\lVert\tilde x_K\rVert`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import degrees, descent_speed, residual_polynomials
from odeopt.rules.loop import first_memory
from odeopt.rules.reading import require_linear
from odeopt.spectra.bracket import PERTURBATIONS, Bracket, Integrand, bracket
from odeopt.spectra.extrapolation import Extrapolation, extrapolation_of
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.panels import PANEL_RATIO, panel_bounds
from odeopt.spectra.quadrature import Ritz
from odeopt.spectra.responses import OVERSAMPLING, Responses, has_two_terms, step_floats
from odeopt.spectra.rounded import Rounded
from odeopt.spectra.run import Run

__all__ = ["Distances", "bounded_responses", "distances", "residual_half_widths", "rule_bracket"]

_EPS = float(np.finfo(float).eps)
# Iterations with a bound of a steady rule of more than two terms and of one that changes, of which few later
# ones are taken too, as entries of all responses allow.
_MOST_STEPS, _MOST_VARYING, _MOST_ENTRIES = 7000, 2000, 2.5e8
# The same of one that extrapolates by momenta that change.
_MOST_EXTRAPOLATED = 100_000
# Rounding of the sum of the weights, relatively.
_MASS = 1e-9
# Iterations up to which a Chebyshev series of the residual polynomials is worth its cost.
_MOST_SERIES = 2000
# Steps of a descent that are panels of their own.
_SINGLE = 8
# Relative to the loss: a bracket so narrow, and mostly rounding, is not worth the cost of another bound.
_NARROW = 1e-4
# Of an allowance for rounding: what is as small as this needs no sharper bound.
_SMALL_PART = 1e-3
# Places between the lower end and the next node that show the slope there, and what of a rise is no rounding.
_NEAR_LOW, _SEEN = 10.0 ** np.arange(-3.0, 0), 1e-8


class Widths(NamedTuple):
    """Bounds on the distance of the loss: in all, without the residual, and of the steps' rounding alone.

    `loss` is the one that they are distances from; `largest` bounds the residual polynomial on the whole
    interval.
    """

    half: np.ndarray
    rounding: np.ndarray
    evaluation: np.ndarray
    loss: np.ndarray
    largest: np.ndarray


class Distances(NamedTuple):
    """Norms of iterates, and bounds on their errors: by the residual, the kernel, rounded steps."""

    now: np.ndarray
    residual: np.ndarray
    kernel: np.ndarray
    steps: np.ndarray


def rule_bracket(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure) -> Bracket:
    """Enclose the loss of a linear rule at iterations k: by the residual, and a priori where that is wide."""
    speed, degree = descent_speed(rule), degrees(rule, k)
    low, high = measure.interval or (0.0, measure.lam_max)
    # beside the nodes some near the lower end, where a polynomial is steepest
    above = measure.nodes[measure.nodes > low].min(initial=high) - low
    lam = np.concatenate([measure.nodes, low + above * _NEAR_LOW])
    with np.errstate(over="ignore", invalid="ignore"):
        reached = residual_polynomials(rule, lam, k)
        values = reached[:, : measure.nodes.size]
        loss = 0.5 * values**2 @ measure.weights
    finite = np.isfinite(loss)
    widths = np.full((5, k.size), np.inf)
    if finite.any():
        widths[:, finite] = residual_half_widths(rule, k[finite], measure)
        with np.errstate(over="ignore", invalid="ignore"):
            widths[:3, finite] += np.abs(loss - widths[3])[finite]
    loss, zero = np.where(finite, loss, np.inf), np.zeros(k.size)
    least = min((pair.steps for pair in measure.pairs), default=0)
    known = measure.interval_proved | measure.exact | (2 * degree <= 2 * least - 1)
    trivial = Bracket(loss, zero, np.full(k.size, np.inf), ~finite, zero)
    with np.errstate(over="ignore", invalid="ignore"):
        most = 0.5 * measure.mass * (1 + _MASS) * widths[4] ** 2
    least = Bracket(loss, zero, np.fmax(most, loss), np.isfinite(most) & measure.interval_proved, zero)
    found = trivial.met(least).narrowed(widths[0], widths[1], known)
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = found.upper - found.lower <= np.minimum(3 * found.rounding, _NARROW * loss)
        # what the other bound allows for rounding, at least: then it lies outside on both sides
        within = np.maximum(found.value - found.lower, found.upper - found.value)
        narrow |= within <= _least_allowance(lam, reached, measure)
    again = np.flatnonzero(finite & ~(narrow & found.proved) & ((speed is not None) | (k <= _MOST_SERIES)))
    if again.size and measure.chains:
        seen = measure.nodes, values[again]
        integrand = _Residuals(rule, k[again], degree[again], speed, widths[2, again], measure, seen)
        found = _replace(found, again, bracket(integrand, measure))
    if measure.exact and not found.proved.all():
        # No theorem reaches so far: what the loss changes by where the nodes move is an estimate.
        moved = np.where(found.proved, np.inf, _change(rule, k, measure, values))
        found = found.narrowed(moved, moved, False)
    return found


def _least_allowance(lam: np.ndarray, values: np.ndarray, measure: SpectralMeasure) -> np.ndarray:
    """What :func:`odeopt.spectra.bracket.bracket` allows for the decomposition at least, from slopes."""
    order = np.argsort(lam)
    rise, run = np.abs(np.diff(values[:, order] ** 2)), np.diff(lam[order])
    steep = (rise > _SEEN) & (run > 0)
    slope = np.where(steep, rise / np.where(run > 0, run, 1.0), 0.0).max(axis=1, initial=0.0)
    return 0.5 * PERTURBATIONS * sum(pair.norm**2 * pair.perturbation for pair in measure.pairs) * slope


def _replace(found: Bracket, rows: np.ndarray, other: Bracket) -> Bracket:
    part = Bracket(*(getattr(found, name)[rows] for name in Bracket.__dataclass_fields__))
    met, result = part.met(other), {}
    for name in Bracket.__dataclass_fields__:
        result[name] = getattr(found, name).copy()
        result[name][rows] = getattr(met, name)
    return Bracket(**{**result, "value": found.value})


def _change(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure, values: np.ndarray) -> np.ndarray:
    moved = residual_polynomials(rule, measure.nodes + measure.error, k)
    with np.errstate(over="ignore", invalid="ignore"):
        change = 3 * np.abs(moved**2 - values**2) + 16 * _EPS * (1 + k[:, None]) * values**2
    return np.where(np.isfinite(change), change, np.inf) @ measure.weights


class _Residuals(Integrand):
    """Squares of the residual polynomials at the iterations k; those of descent have known signs."""

    def __init__(
        self,
        rule: UpdateRule,
        k: np.ndarray,
        degree: np.ndarray,
        speed: float | None,
        rounding: np.ndarray,
        measure: SpectralMeasure,
        seen: tuple[np.ndarray, np.ndarray],
    ) -> None:
        def values(lam: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore", invalid="ignore"):
                if speed is None and np.array_equal(lam, seen[0]):
                    return seen[1][rows] ** 2
                # in closed form for descent, which may have taken very many steps
                of = (
                    residual_polynomials(rule, lam, k[rows])
                    if speed is None
                    else (1 - speed * lam) ** k[rows, None]
                )
                return of**2

        super().__init__(values, k.size)
        self.k, self.degree, self.speed = k, 2 * degree, speed
        self.covered, self.convex = np.isfinite(rounding), speed is not None
        # as a part of each function, of which half the integral is taken
        with np.errstate(over="ignore"):
            self.evaluation = np.where(self.covered, 2 * rounding / measure.mass, 4 * _EPS * k)

    def alternating(self, n: int, high: float) -> np.ndarray:
        """(1 - c lam)^(2k) is completely monotone up to 1/c, and its even derivatives never change sign."""
        return np.full(self.size, self.speed is not None and self.speed * high <= 1)

    def lipschitz(self, low: float, high: float) -> np.ndarray | None:
        """Of a power of 1 - c lam."""
        if self.speed is None:
            return None
        with np.errstate(over="ignore"):
            base = max(1.0, abs(1 - self.speed * high))
            return 2 * self.k * self.speed * base ** np.maximum(2 * self.k - 1, 0)

    def worth(self, degree: int, high: float) -> np.ndarray:
        """Descent needs no series."""
        return np.full(self.size, self.speed is None)


def residual_half_widths(rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure) -> Widths:
    r"""Bound the distance of the computed loss from the true one; inf where that costs too much."""
    require_linear(rule, "residual polynomials", equivariant=True, k=k)
    low, high = measure.interval or (0.0, measure.lam_max)
    speed = descent_speed(rule)
    if speed is not None and speed * high <= 2:
        parts = [_descent_widths(rule, speed, k, found) for found in measure.pairs]
        half, rounding, evaluation, loss = np.sum(parts, axis=0)
        return Widths(half, rounding, evaluation, loss, np.ones(k.size))
    wanted, place = np.unique(k, return_inverse=True)
    found, responses = bounded_responses(rule, wanted, low, high)
    result = np.full((5, wanted.size), np.inf)
    if responses is not None:
        closed = responses.powers is not None
        parts = [_widths(distances(rule, pair, responses, by_matrices=closed)) for pair in measure.pairs]
        memory = first_memory(rule, 1.0) or ()
        start = np.array([1.0] * rule.history + [float(m) for m in memory])
        result[:4, : found.size] = np.sum(parts, axis=0)
        result[4, : found.size] = responses.driven(start, np.zeros((responses.last, responses.gradients)))
    return Widths(*result[:, place])


def bounded_responses(
    rule: UpdateRule, k: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, Responses | None]:
    """The responses of as many of the increasing iterations k as are not too many; and these iterations."""
    reading = require_linear(rule, "residual polynomials", k=k)
    steady = reading.steady_from is not None and reading.period == 1
    degree = max(reading.degree, 1)
    points = 3 * degree * OVERSAMPLING * k.astype(float) ** 2
    few = np.cumsum(points) <= _MOST_ENTRIES
    near = k <= _MOST_STEPS if steady else few | (k <= _MOST_VARYING)
    closed, some = steady and has_two_terms(reading), k[k <= _MOST_EXTRAPOLATED]
    known = extrapolation_of(reading, int(some[-1])) if some.size and not closed else None
    if known is not None and Extrapolation.covers(known[0], high):
        return some, Extrapolation(*known, some, low, high)
    found = k if closed else k[near]
    if not found.size:
        return found, None
    steps = step_floats(reading, int(found[-1]))
    return found, Responses(steps, found, steady, reading.law_from, degree, low, high)


def distances(
    rule: UpdateRule, found: Ritz, responses: Responses, *, of_origin: bool = False, by_matrices: bool = False
) -> Distances:
    """Bounds on the distance of computed iterates from the true ones, those along q if `of_origin`."""
    run = Run(rule, found, responses, of_origin=of_origin, by_matrices=by_matrices)
    k, degree = responses.k, responses.degree
    with np.errstate(over="ignore", invalid="ignore"):
        # Of sums in which values cancel, and of the vectors, whose first and last rows meet here.
        noise = 64 * _EPS * run.spread + 3 * found.skew * run.largest
        # A polynomial of degree below m - 1 in T has no entry (m, 1).
        begun = np.arange(run.tail.shape[0])[:, None] * degree + degree - 1 >= found.steps - 1
        residual = found.residual * np.where(begun, run.tail, 0.0)
        rounded = found.residual * noise + found.perturbation * (run.met + found.skew * run.largest)
        from_kernel = responses.of_gradients(rounded) + found.skew * run.peak[k]
        from_steps = responses.of_state(run.kicks)
        if found.signed:  # along one vector the forces of all steps are one polynomial
            enough = _SMALL_PART * (from_kernel + from_steps)
            from_residual = responses.driven(np.zeros(responses.entries), residual, enough)
        else:
            from_residual = responses.of_gradients(residual)
        parts = (run.size[k], from_residual, from_kernel, from_steps)
        return Distances(*(found.norm * part for part in parts))


def _widths(found: Distances) -> np.ndarray:
    """All widths but the last, from bounds on the distance of iterates."""
    now, residual, kernel, steps = found
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (residual + kernel + steps, kernel + steps, steps)
        widths = [now * e + e**2 / 2 + 64 * _EPS * now**2 for e in sums]
        widths.append(now**2 / 2)
    return np.array([np.where(np.isnan(width), np.inf, width) for width in widths])


def _descent_widths(rule: UpdateRule, speed: float, k: np.ndarray, found: Ritz) -> np.ndarray:
    r"""Gradient descent, :math:`x_{k+1}=px_k`, p = 1 - c lam of size at most 1, for any number of steps.

    The response to a gradient never grows, and the iterates decay as :math:`e^{-\mu j}`, so that sums over
    steps are bounded on panels of j, as integrals over time are for an ODE.
    """
    one = Rounded(np.ones_like(found.values))
    after, _ = rule.step(0, (one,), rule.initial_memory(one), lambda z: z.scaled(found.values))
    factor, kick = after.value, float(after.error.max())
    count = max(0, int(np.ceil(np.log(max(k.max() / _SINGLE, 1)) / np.log(PANEL_RATIO))))
    later = np.ceil(_SINGLE * PANEL_RATIO ** np.arange(1, count + 1))
    edges = np.concatenate([np.arange(_SINGLE + 1.0), later])
    residual, size = _largest_powers(edges, factor, found)
    # A polynomial of degree below m - 1 in T has no entry (m, 1).
    residual[edges[1:] <= found.steps - 1] = 0.0
    noise = 64 * _EPS * found.shares.sum() + 3 * found.skew
    rounded = found.residual * noise + found.perturbation * (size + found.skew)
    shares = np.diff(np.minimum(edges, k[:, None]), axis=1)
    from_residual, from_kernel = (
        speed * found.norm * (shares @ force) for force in (found.residual * residual, rounded)
    )
    now = found.norm * np.sqrt(np.abs(factor) ** (2 * k[:, None]) @ found.start**2)
    steps = found.norm * kick * (shares @ size)
    return _widths(Distances(now, from_residual, from_kernel + found.norm * found.skew, steps))


def _largest_powers(edges: np.ndarray, factor: np.ndarray, found: Ritz) -> tuple[np.ndarray, np.ndarray]:
    """Bounds on |e_m' p(T)^j e_1| and |p(T)^j e_1| for the steps j of each panel."""
    start = found.start**2
    single = factor ** np.arange(_SINGLE)[:, None]
    begun = edges[_SINGLE:-1, None]
    # Of factors that alternate, or underflow, only the size is used.
    plain = factor > 1e-100
    rest = np.abs(factor[~plain]) ** begun
    decay = -np.log(factor[plain])
    residual, size = panel_bounds(
        lambda j: np.exp(-j[:, None] * decay), edges[_SINGLE:], found.ends[plain], start[plain]
    )
    residual += rest @ found.shares[~plain]
    size = np.sqrt(size**2 + rest**2 @ start[~plain])
    return (
        np.concatenate([np.abs(found.left(single)), residual]),
        np.concatenate([np.sqrt(single**2 @ start), size]),
    )
