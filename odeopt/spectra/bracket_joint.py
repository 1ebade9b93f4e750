r"""Bounds on losses where weights decay, from the residual of each vector.

:math:`\Delta_k=\varphi_k(H)\Delta_0+\chi_k(H)q` is a sum of two vectors, both of which the rule itself makes
(:mod:`odeopt.spectra.bracket_rule`). In one basis the computed sum is off by at most
:math:`\epsilon=\epsilon_\varphi+\epsilon_\chi`, and the loss by
:math:`|\tilde\Delta|\epsilon+\frac12\epsilon^2`. By polarisation each product of two vectors is off by

.. math:: |\langle\varphi b,\chi b\rangle-\langle\tilde\varphi b,\tilde\chi b\rangle|
    \le\epsilon_\varphi|\tilde\chi b|+\epsilon_\chi|\tilde\varphi b|+\epsilon_\varphi\epsilon_\chi .

For the mode of an ODE along q no theorem is known here: what Chebyshev series leave, and what moved nodes
change, are estimates, and nothing is called proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import degrees, error_polynomials
from odeopt.spectra.bracket import Bracket, Integrand, Series
from odeopt.spectra.bracket_rule import Distances, bounded_responses, distances
from odeopt.spectra.joint import JointMeasure, Polarised, Together
from odeopt.spectra.measure import SpectralMeasure
from odeopt.spectra.quadrature import Ritz
from odeopt.spectra.responses import Responses

__all__ = ["joint_mode_bracket", "joint_rule_bracket"]

_EPS = float(np.finfo(float).eps)


def joint_rule_bracket(
    rule: UpdateRule, k: np.ndarray, measure: SpectralMeasure, joint: JointMeasure
) -> Bracket:
    """Enclose the loss of a rule with weight decay at iterations k."""
    phi, chi = error_polynomials(rule, joint.nodes, k)
    with np.errstate(over="ignore", invalid="ignore"):
        loss = joint.loss(phi, chi)
    finite = np.isfinite(loss)
    loss, zero = np.where(finite, loss, np.inf), np.zeros(k.size)
    found = Bracket(loss, zero, np.full(k.size, np.inf), ~finite, zero)
    if not finite.any():
        return found
    half, rounding = np.full((2, k.size), np.inf)
    low, high = measure.interval or (0.0, measure.lam_max)
    wanted, place = np.unique(k[finite], return_inverse=True)
    within, responses = bounded_responses(rule, wanted, low, high)
    if responses is not None:
        widths = np.full((2, wanted.size), np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            widths[:, : within.size] = np.sum(
                [_widths(rule, part, responses) for part in joint.parts], axis=0
            )
        half[finite], rounding[finite] = np.where(np.isnan(widths), np.inf, widths)[:, place]
    least = min((chain.size for chain in measure.chains if chain.size), default=0)
    known = measure.interval_proved | measure.exact | (2 * degrees(rule, k) <= 2 * least - 1)
    found = found.narrowed(half, rounding, known)
    if measure.exact and not found.proved.all():
        # No theorem reaches so far: what the loss changes by where the nodes move is an estimate.
        values = error_polynomials(rule, joint.nodes + measure.error, k)
        moved = np.where(found.proved, np.inf, _change(values, joint, loss, 16 * (1 + k)))
        found = found.narrowed(moved, moved, False)
    return found


def joint_mode_bracket(
    mode: ModeSolution, t: np.ndarray, measure: SpectralMeasure, joint: JointMeasure
) -> Bracket:
    """Estimate bounds of the loss of an ODE with weight decay at times t."""

    def values(lam: np.ndarray, rows: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        return mode.both(t[rows], lam)

    with np.errstate(over="ignore", invalid="ignore"):
        loss = joint.loss(*values(joint.nodes))
    loss, zero = np.where(np.isnan(loss), np.inf, loss), np.zeros(t.size)
    rounding = _change(values(joint.nodes + measure.error), joint, loss, 64)
    left = np.zeros(t.size)
    if not measure.exact:
        low, high = measure.interval or (0.0, measure.lam_max)
        for part in joint.parts:
            for pair, of_both in _squares(part):
                found = Integrand(lambda lam, rows, f=of_both: f(*values(lam, rows)), t.size)
                size = 2 * pair.steps
                left += pair.norm**2 * Series(found, low, high, size).tail(size)
    bracket = Bracket(loss, zero, np.full(t.size, np.inf), zero.astype(bool), zero)
    return bracket.narrowed(left + rounding, rounding, False)


def _squares(part: Together | Polarised) -> list[tuple[Ritz, Callable[..., np.ndarray]]]:
    """The functions of phi and chi that each Lanczos matrix integrates, over a start of norm 1."""
    if isinstance(part, Together):
        pair = part.start if part.start.norm else part.origin
        if not pair.signed:  # of a block: all three products of the two vectors
            mixed = replace(pair, norm=math.sqrt(2 * part.start.norm * part.origin.norm))
            return [
                (part.start, lambda phi, chi: phi**2),
                (mixed, lambda phi, chi: phi * chi),
                (part.origin, lambda phi, chi: chi**2),
            ]
        a, q = (float(np.linalg.norm(v)) / pair.norm for v in (part.a, part.q))
        q *= 1.0 if np.vdot(part.a, part.q) >= 0 else -1.0
        return [(pair, lambda phi, chi: (a * phi + q * chi) ** 2)]
    c = part.scale
    return [
        (part.start, lambda phi, chi: phi**2 - (c * chi) ** 2),
        (part.plus, lambda phi, chi: c * chi * (c * chi + phi) / 2),
        (part.minus, lambda phi, chi: c * chi * (c * chi - phi) / 2),
    ]


def _change(
    values: tuple[np.ndarray, np.ndarray], joint: JointMeasure, loss: np.ndarray, roundings: Any
) -> np.ndarray:
    """What moved nodes change, and roundings of the values."""
    with np.errstate(over="ignore", invalid="ignore"):
        change = 3 * np.abs(joint.loss(*values) - loss) + roundings * _EPS * loss
    return np.where(np.isfinite(change), change, np.inf)


def _widths(rule: UpdateRule, part: Together | Polarised, responses: Responses) -> np.ndarray:
    """How far the loss of one part may be off, and what of it is rounding: shape (2, T)."""
    if isinstance(part, Together):
        start = distances(rule, part.start, responses)
        origin = distances(rule, part.origin, responses, of_origin=True)
        now = start.now + origin.now  # at least the norm of the sum
        return np.stack(
            [
                now * e + e**2 / 2 + 64 * _EPS * now**2
                for e in (a + b for a, b in zip(_errors(start), _errors(origin), strict=True))
            ]
        )
    total = np.zeros((2, responses.k.size))
    for pair, share in ((part.start, 1.0), (part.plus, 0.5), (part.minus, 0.5)):
        phi = distances(rule, pair, responses)
        chi = _scaled(distances(rule, pair, responses, of_origin=True), part.scale)
        for row, (e, d) in enumerate(zip(_errors(phi), _errors(chi), strict=True)):
            squares = 2 * chi.now * d + d**2 + 64 * _EPS * chi.now**2
            if pair is part.start:
                mixed = 2 * phi.now * e + e**2 + 64 * _EPS * phi.now**2
            else:
                mixed = phi.now * d + chi.now * e + e * d + 64 * _EPS * phi.now * chi.now
            total[row] += share * (squares + mixed) / 2
    return total


def _errors(found: Distances) -> tuple[np.ndarray, np.ndarray]:
    """Of a vector: all that it is off by, and what of it is rounding."""
    rounding = found.kernel + found.steps
    return found.residual + rounding, rounding


def _scaled(found: Distances, factor: float) -> Distances:
    return Distances(*(factor * value for value in found))
