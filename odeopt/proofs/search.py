r"""The search for a certificate: bisection of the rate of a template, rounding, verification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from sympy import Expr

from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.signs import number_sign, simplest_fraction
from odeopt.proofs.lmi import FEASIBLE, INFEASIBLE, UNSOLVED, Answer
from odeopt.proofs.statement import Search
from odeopt.proofs.template import Template
from odeopt.proofs.wanted import NoCertificateError, UnsolvedError, asked_for, refusal

__all__ = ["search"]

# Boxes tried, in turn, for the unknowns in units of the problem: small numbers make a proof that is read.
_BOXES = (8.0, 64.0, 1e3, None)
# Distances tried, in turn, from the centre to short fractions, in units in which the proof holds for certain.
_DISTANCES = (100.0, 30.0, 10.0, 3.0, 1.0, 1e-2, 1e-5, 1e-9)

# The gap that is asked for, between the verified rate and the optimum, relative to the natural rate.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Outcome:
    """Result of a bisection: a rate with a point, the smallest rate found impossible, and what was asked."""

    feasible: float
    point: np.ndarray | None
    impossible: float
    steps: int
    message: str = ""


def bisect(
    template: Template, low: float, high: float, solver: Callable[..., Answer], tolerance: float
) -> Outcome:
    """Bisect for the largest feasible rate in [low, high], which is known to be impossible beyond high.

    An unsolved problem moves neither end: the search goes on below it for feasible rates, and above it
    for impossible ones.
    """
    feasible, point, impossible, steps, message = low, None, high, 0, ""

    def ask(c):
        nonlocal feasible, point, impossible, steps, message
        answer = template.ask(c, solver, point)
        steps += 1
        if answer.status == FEASIBLE:
            feasible, point = c, answer.point
        elif answer.status == INFEASIBLE:
            impossible = min(impossible, c)
        else:
            message = answer.message
        return answer.status

    if ask(high - tolerance / 4) == FEASIBLE:
        return Outcome(feasible, point, impossible, steps)
    upper = min(impossible, high)  # lowest rate known not to be feasible, proven or unsolved
    while upper - feasible > tolerance / 4:
        middle = (feasible + upper) / 2
        if ask(middle) != FEASIBLE:
            upper = middle
    lower = feasible
    while impossible - lower > tolerance / 4 and impossible - feasible > tolerance / 2 and steps < 90:
        middle = (lower + impossible) / 2
        if ask(middle) != INFEASIBLE:
            lower = middle
    return Outcome(feasible, point, impossible, steps, message)


def search(
    template: Template,
    ceiling: float,
    unit: float,
    wanted: Expr | None,
    solver: Callable[..., Answer],
    title: str,
    law: str,
) -> Certificate:
    """Bisect, round, verify."""
    name = {"title": title, "law": law}
    if wanted is not None:
        proved = _at_rate(template, wanted, ceiling, solver, name)
        if proved is not None:
            return proved
    tolerance = _TOLERANCE * unit
    best = _best(template, ceiling, tolerance, solver, name)
    if wanted is None:
        return best
    if number_sign(wanted - _rate(template, best)) <= 0:
        return asked_for(best, template.decay(wanted))
    raise refusal(template.decay(wanted), best)


def _rate(template: Template, certificate: Certificate) -> Expr:
    """What is bisected, from what the certificate states."""
    return template.decay(certificate.rate)


def _best(template: Template, ceiling: float, tolerance: float, solver, name: dict) -> Certificate:
    """Return the verified certificate at the bisected optimum, or say that there is none."""
    outcome = bisect(template, 0.0, ceiling, solver, tolerance)
    if outcome.point is None:
        text = f"{template.flow} on {template.functions}"
        if outcome.impossible > 2 * tolerance:
            raise UnsolvedError(
                f"{text}: no rate below {outcome.impossible:.3g} was decided; {outcome.message}"
            )
        raise NoCertificateError(
            f"{text} has no certificate V = f + quadratic form at any rate above {tolerance:.1e}"
        )
    # half of the gap that is allowed is room for short fractions
    tolerance = min(tolerance, _TOLERANCE * outcome.feasible)
    for back in (0.15, 0.1, 0.25, 1.0, 4.0, 16.0, 64.0):
        high = outcome.feasible - back * tolerance
        rate = simplest_fraction(high - 0.3 * tolerance, high)
        if rate <= 0:
            break
        certificate = _shortest(template, rate, solver, name, outcome.point)
        if certificate is not None:
            bound = "quadratics" if outcome.impossible >= ceiling else "bisected"
            optimum = float(template.decay(outcome.impossible))
            found = Search(optimum, outcome.impossible - float(rate), bound, outcome.steps)
            return replace(certificate, search=found)
    raise UnsolvedError(f"a point at rate {outcome.feasible:.9g} was found, but no rounding of it verified")


def _at_rate(template: Template, wanted: Expr, ceiling: float, solver, name: dict) -> Certificate | None:
    """Prove one rate; None if there is no certificate of it."""
    if float(wanted) > ceiling * (1 + 1e-12):
        return None
    answer = template.ask(float(wanted), solver, centre=True)
    if answer.status == UNSOLVED:
        raise UnsolvedError(
            f"rate {wanted} was not decided: {answer.message}; ask for a slightly smaller one"
        )
    if answer.status != FEASIBLE:
        return None
    proved = _shortest(template, wanted, solver, name, answer.point)
    if proved is None:
        raise UnsolvedError(f"a point at rate {wanted} was found, but no rounding of it verified")
    return proved


def _shortest(template: Template, rate: Expr, solver, name: dict, start) -> Certificate | None:
    """Return a certificate of a rate, with few multipliers and small numbers if there is one."""
    for names in (*template.small, None):
        smaller = template if names is None else template.reduced(names)
        for box in _BOXES:
            if names is not None and box is None:
                continue
            answer = smaller.ask(float(rate), solver, start, box=box, centre=True)
            certificate = _rounded(smaller, rate, answer, name) if answer.status == FEASIBLE else None
            if certificate is not None:
                return certificate
    return None


def _rounded(template: Template, rate: Expr, answer: Answer, name: dict) -> Certificate | None:
    """Return the certificate with the simplest entries near a point, None if none verifies."""
    assert answer.point is not None
    sizes = template.sizes(float(rate)) * len(answer.point)
    sure = np.divide(abs(answer.margin), sizes, out=np.full(len(sizes), 1e-3), where=sizes > 0)
    for distance in _DISTANCES:
        ends = ((answer.point + side * distance * sure) * template.scale for side in (-1, 1))
        fractions = [_short(low, high) for low, high in zip(*ends, strict=True)]
        certificate = template.certificate(rate, fractions, **name)
        if _plausible(certificate) and certificate.verify():
            return certificate
    return None


def _short(low: float, high: float) -> Fraction:
    found = simplest_fraction(min(low, high), max(low, high))
    return Fraction(int(found.p), int(found.q))


def _plausible(certificate: Certificate) -> bool:
    """Cheap look at the diagonal of S before the whole proof."""
    return all(number_sign(certificate.remainder[i, i]) <= 0 for i in range(certificate.remainder.rows))
