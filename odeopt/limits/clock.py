r"""Which ODE, on which clock, is nearest to a rule with given numbers.

The naive clock reads heavy ball as :math:`b=(1-\beta)/\sqrt\eta`, :math:`t=k\sqrt\eta`, with an error
:math:`O(\sqrt\eta)`. But the coefficients that the expansion of its residual gives are exact functions of
:math:`\eta,\beta`: keeping them, rescaling time so that the gradient has coefficient 1, and starting the
clock where the velocity vanishes leaves an error :math:`O(\eta)`. The engine looks for such a clock for
any linear rule and says why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy import Add, Expr, Integer, Rational, Symbol

from odeopt.limits.derivation import Derivation
from odeopt.limits.derivation_lines import on_curve
from odeopt.limits.elimination import eliminate, linear_step
from odeopt.limits.series import GradientDifferential, NoLimitError, plain
from odeopt.limits.start import initial_data
from odeopt.limits.text import clock_text
from odeopt.rules.base import UpdateRule
from odeopt.rules.reading import require_linear
from odeopt.shown import Shown, Summary

__all__ = ["Correspondence", "correspondences"]


@dataclass(frozen=True, repr=False)
class Correspondence(Shown):
    r"""A clock from steps to time with the ODE that belongs to it.

    Parameters
    ----------
    name : {"naive", "centred"}
        The clock of step h that starts with the iteration, or the one of second order.
    time_step : sympy.Expr
        A function of h and of the hyperparameters.
    origin : sympy.Expr
        In steps: t = (k + origin) * time_step.
    coefficients : tuple of sympy.Expr
        :math:`(a_1,\dots,a_n)` of :math:`\dot X,\dots,X^{(n)}`.
    gradient : sympy.Expr
        The coefficient of :math:`\nabla f(X)`.
    order : int
        The iterates follow the curve to this order of h.
    reason : str
        Why, or what stands in the way of a higher order.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> naive, centred = correspondences(HeavyBall(lr=h**2, momentum=1 - b * h), h)
    >>> naive.coefficients, naive.order, centred.reason
    ((b, 1), 1, 'exact coefficients; the clock starts where the velocity vanishes')
    """

    name: str
    time_step: Expr
    origin: Expr
    coefficients: tuple[Expr, ...]
    gradient: Expr
    order: int
    reason: str

    def _summary(self) -> Summary:
        clock = clock_text(self.time_step, self.origin)
        return Summary([self.name, f"order {self.order}", clock, self.reason])


def correspondences(family: UpdateRule, h: Symbol) -> tuple[Correspondence, ...]:
    r"""List the naive clock of a family and, where there is one, the centred clock of second order.

    Parameters
    ----------
    family : UpdateRule
        A linear rule with hyperparameters in h.
    h : sympy.Symbol
        The time step, in which the family is expanded.

    Returns
    -------
    tuple of Correspondence
        The naive one first; its `reason` tells what limits it.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import HeavyBall, Nesterov
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> naive, centred = correspondences(HeavyBall(lr=h**2, momentum=1 - b * h), h)
    >>> centred.order, centred.origin, sympy.simplify(centred.time_step**2)
    (2, 1/2, -2*h**2/(b*h - 2))
    >>> correspondences(Nesterov(lr=h**2, r=3), h)[0].reason
    "the correction of order h holds grad^2 f(X)[X'], which the limit does not"
    """
    reading = require_linear(family, "clock", forever=True)
    equation = eliminate(linear_step(reading), h)
    if equation is None:
        raise NoLimitError(
            f"{family.label} has averages that only its gradient sees, so it has no equation for x alone"
        )
    derivation = Derivation(equation, h, 1)
    if derivation.obstacle:
        raise NoLimitError(derivation.obstacle)
    curve, n = derivation.curve, derivation.order
    lead = derivation.leading
    gradient = GradientDifferential(curve[0])
    obstacle = _obstacle(derivation)
    naive = Correspondence(
        "naive",
        h,
        Integer(0),
        tuple(lead.get(x, Integer(0)) for x in curve[1 : n + 1]),
        lead.get(gradient, Integer(0)),
        1,
        obstacle or "coefficients are expanded in h",
    )
    if obstacle:
        return (naive,)
    scale = [derivation.moment(derivation.row, j) for j in range(n + 1)]
    pull = Add(*(c for v, c in derivation.row.items() if v[0] == "g"))
    # the radicand in lowest terms is all that there is to simplify
    time_step = sympy.cancel(pull / scale[n]) ** Rational(1, n)
    coefficients = (*(sympy.cancel(scale[j] / pull) * time_step**j for j in range(1, n)), Integer(1))
    _, velocity = initial_data(derivation, derivation.normal_form())
    origin = sympy.cancel(-velocity.coeff(gradient) * lead[curve[n]] / (h * lead[gradient]))
    reason = "exact coefficients; the clock starts where the velocity vanishes"
    return naive, Correspondence("centred", time_step, origin, coefficients, Integer(1), 2, reason)


def _obstacle(derivation: Derivation) -> str:
    """What keeps the correction of order h from being absorbed in coefficients and clock, if anything."""
    correction = derivation.tidy(derivation.residual[derivation.power + 1])
    new = [plain(on_curve(derivation, v)) for v in correction if v not in derivation.leading]
    if new:
        return f"the correction of order {derivation.h} holds {', '.join(new)}, which the limit does not"
    if any(c.has(derivation.t) for c in (*derivation.leading.values(), *correction.values())):
        return "its coefficients depend on time"
    if derivation.order != 2 or set(derivation.leading) - {
        *derivation.curve[1:3],
        GradientDifferential(derivation.curve[0]),
    }:
        return "only equations of second order have a clock that absorbs the initial velocity"
    if derivation.step.memory:
        return "its coefficients are known as series in h only"
    return ""
