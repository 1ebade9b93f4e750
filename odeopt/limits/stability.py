r"""Whether a step has a limit at all: its roots as h tends to 0, and the clock without a pole of order 2."""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy
from sympy import Expr, Integer, Poly, Rational, Symbol

from odeopt.limits.derivation import Derivation
from odeopt.limits.elimination import ScalarEquation, exact
from odeopt.limits.laurent import laurent
from odeopt.limits.series import NoLimitError
from odeopt.limits.slow import names_of, with_symbols
from odeopt.limits.start import decaying_modes
from odeopt.rules.trace import Refusal

__all__ = ["require_zero_stable", "time_origin"]

# Roots that differ from the circle by less count as lying on it: a root of multiplicity m is found to
# eps^(1/m).
_ON_CIRCLE = 1e-9


def require_zero_stable(derivation: Derivation) -> str:
    """Refuse a step with a root outside the unit disc, or a multiple one on its circle beside 1, at h = 0.

    Returns a warning where another simple root lies on the circle.
    """
    label, h, weakly = derivation.family.label, derivation.h, []
    for root, multiplicity in _roots(derivation):
        size = sympy.Abs(root)
        excess = sympy.re(size.evalf() - 1) if size.is_number else None
        outside = (size - 1).is_positive if excess is None else excess > _ON_CIRCLE
        if outside:
            raise NoLimitError(
                f"{label} has no limit: as {h} -> 0 a root of its step lies at {_shown(root)}, outside the "
                "unit circle, so rounding and every gradient are amplified without bound; choose weights "
                "whose roots stay in the disc"
            )
        if excess is not None and abs(excess) <= _ON_CIRCLE and abs(root.evalf() - 1) > _ON_CIRCLE:
            if multiplicity > 1:
                raise NoLimitError(
                    f"{label} has no limit: as {h} -> 0 its step has the root {_shown(root)} on the unit "
                    "circle "
                    f"{multiplicity} times, so its iterates grow; choose weights with simple roots there"
                )
            weakly.append(root)
    if not weakly:
        return ""
    _require_unexcited(derivation, weakly)
    return (
        f"; weakly unstable: the root {', '.join(map(_shown, weakly))} on the unit circle does not decay, so "
        "the curve is followed for a fixed time only"
    )


def _require_unexcited(derivation: Derivation, roots: list[Expr]) -> None:
    """Refuse roots on the circle whose modes are in the start: at h = 0, or at order h for a correction."""
    label, h = derivation.family.label, derivation.h
    root = next((root for root in roots if _is_excited(derivation, complex(root.evalf()))), None)
    if root is not None:
        raise NoLimitError(
            f"{label} has no limit: its start excites the root {_shown(root)} on the unit circle, which does "
            f"not decay, so that iterates or gradient points swing about every curve however small {h} is; "
            "start the memory where the step leaves it at rest, such as an average of iterates at x_0"
        )
    if derivation.resolution:
        raise NoLimitError(
            f"corrections of {label} are not derived: the root {_shown(roots[0])} on the unit circle does "
            f"not decay, and what the first steps excite of it, in general of order {h}, stays beside every "
            "corrected curve; take resolution=0"
        )


def _is_excited(derivation: Derivation, root: complex) -> bool:
    """Whether x or a gradient point holds a mode of a simple root at h = 0: all other modes annihilated."""
    h, reading, period = derivation.h, derivation.step.reading, derivation.period
    modes = decaying_modes(derivation)
    generic = {s: Rational(1, i + 2) for i, s in enumerate(sorted(modes.free_symbols_in_domain, key=str))}
    others = np.roots([complex(c.subs(generic)) for c in modes.all_coeffs()])
    others = np.delete(others, np.argmin(np.abs(others - root)))
    annihilator = np.poly([*others, *[1.0] * (len(reading.law().M) - modes.degree())])

    def at_zero(rows: Any, k: int) -> np.ndarray:
        entries = [[exact(c).subs({reading.k: k, **generic}) for c in row] for row in rows]
        return np.array([[complex(laurent(c, h, 0).get(0, 0)) for c in row] for row in entries])

    state = np.array([1.0, *at_zero([[f.coefficient(("x", 0)) for f in reading.start]], 0)[0]])
    state = np.concatenate([state[:1]] * (reading.rule.history - 1) + [state])
    first, seen = -(-reading.law_from // period) * period, []
    for k in range(first + period * len(annihilator)):
        step = reading.at(k)
        if isinstance(step, Refusal):
            return False
        if k >= first:
            seen.append(np.array([state[0], *(at_zero(step.A, k) @ state)]))
        state = at_zero(step.M, k) @ state
    rows = np.array([np.concatenate(seen[i : i + period]) for i in range(0, len(seen), period)])
    return bool(np.abs(annihilator[::-1] @ rows).max() > _ON_CIRCLE * np.abs(rows).max())


def _roots(derivation: Derivation) -> list[tuple[Expr, int]]:
    """Roots of the step at h = 0 beside 1, with multiplicity."""
    found: list[tuple[Expr, int]] = []
    polynomial = decaying_modes(derivation)
    z, named = polynomial.gen, names_of(polynomial.as_expr())
    back = {d: s for s, d in named.items()}
    for factor, multiplicity in sympy.factor_list(polynomial.as_expr().xreplace(named), z)[1]:
        if not factor.has(z):
            continue
        single = Poly(factor, z)
        if single.degree() == 1:
            roots = [sympy.simplify(-single.nth(0) / single.nth(1))]
        elif single.as_expr().free_symbols == {z}:
            roots = single.nroots(n=20, maxsteps=200)
        else:
            roots = list(sympy.roots(single))
        found += [(root.xreplace(back), multiplicity) for root in roots]
    return found


def _shown(root: Expr) -> str:
    return str(root) if root.is_Rational or not root.is_number else str(sympy.N(root, 6))


def time_origin(equation: ScalarEquation, h: Symbol) -> Expr:
    r"""Origin of time, in steps, at which the first correction of a friction r/t has no pole of order 2."""
    tau = Symbol("tau")
    derivation = Derivation(equation, h, 1, tau)
    if derivation.obstacle or derivation.order != 2:
        return Integer(0)
    right = derivation.normal_form()
    if not right.has(derivation.t):
        return Integer(0)
    t, coefficient = derivation.t, derivation.tidy(right).get(derivation.curve[1], Integer(0))
    pole = sympy.expand(coefficient).coeff(h, 1) * t**2
    worst = with_symbols(pole, t, 2, lambda e: sympy.limit(e, t, 0))
    solutions = sympy.solve(worst, tau)
    return sympy.expand(solutions[0]) if solutions else Integer(0)
