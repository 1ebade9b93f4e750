r"""Whether a step has a limit at all: its roots as h tends to 0, and the clock without a pole of order 2."""

from __future__ import annotations

import sympy
from sympy import Expr, Integer, Poly, Symbol

from odeopt.limits.derivation import Derivation
from odeopt.limits.elimination import ScalarEquation
from odeopt.limits.series import NoLimitError
from odeopt.limits.slow import names_of, with_symbols
from odeopt.limits.start import decaying_modes

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
            weakly.append(_shown(root))
    if not weakly:
        return ""
    return (
        f"; weakly unstable: the root {', '.join(weakly)} on the unit circle does not decay, so the curve "
        "is followed for a fixed time only"
    )


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
