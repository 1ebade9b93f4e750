r"""Equations whose friction holds :math:`-\dot w/w`: the momentum that stays finite and continuous.

A learning rate outside the buffer gives :math:`\ddot X+(b-\frac{\dot w}w)\dot X+\sum c_vv=0`. With
:math:`P=\dot X/w` it is

.. math:: \dot X=wP,\qquad \dot P+bP+\sum_v\frac{c_v}wv=0,

where nothing is singular at zeros of w, and P is continuous where w jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import sympy
from sympy import Expr, Integer, Symbol

from odeopt.limits.slow import Slow, slow_function

__all__ = ["MomentumForm", "momentum_form"]


@dataclass(frozen=True)
class MomentumForm:
    r"""The equation :math:`\dot X=wP`, :math:`\dot P+bP+\sum_vc_vv=0`, :math:`P(0)` given.

    Attributes
    ----------
    weight : sympy.Expr
        w.
    friction : sympy.Expr
        b.
    forces : mapping
        Vectors v, gradients and X itself, to :math:`c_v`.
    start : sympy.Expr
        P(0).
    """

    weight: Expr
    friction: Expr
    forces: Mapping[Expr, Expr]
    start: Expr

    def map(self, function: Callable[[Expr], Expr]) -> MomentumForm:
        """Apply a function to every coefficient, and to gradient points."""
        forces = MappingProxyType({function(v): function(c) for v, c in self.forces.items()})
        return MomentumForm(function(self.weight), function(self.friction), forces, function(self.start))


def momentum_form(terms: Mapping[Expr, Expr], curve: Expr, t: Symbol, velocity: Expr) -> MomentumForm | None:
    """The form of an equation with schedules by name; None where its friction is of another kind."""
    lead = terms[curve.diff(t, 2)]
    friction = sympy.cancel(terms.get(curve.diff(t), Integer(0)) / lead)
    weight, name = Integer(1), sympy.Dummy()
    for rate in sorted((s for s in friction.atoms(Slow) if s.order == 1), key=str):
        s = slow_function(rate.name, t)
        power = sympy.cancel(-friction.xreplace({rate: name}).diff(name) * s)
        if not power.is_Integer:
            return None
        weight *= s**power
        friction = sympy.cancel(friction + power * rate / s)
    velocities = (curve.diff(t), curve.diff(t, 2))
    others = {v: sympy.cancel(c / lead / weight) for v, c in terms.items() if v not in velocities}
    if weight == 1 or any(s.order for c in (friction, *others.values()) for s in c.atoms(Slow)):
        return None
    start = sympy.cancel(velocity / weight.subs(t, 0)) if velocity != 0 else velocity
    return MomentumForm(weight, friction, MappingProxyType(others), start)
