r"""Limits of methods whose step is not linear: a system for the weights and the running averages.

The step is read coordinate by coordinate (:mod:`odeopt.limits.averages`); functions of single coordinates,
norms and inner products of gradients are read, sums over coordinates by other means are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import sympy
from sympy import Expr, Function, Integer, Rational, Symbol

from odeopt.checks import is_number, require_mapping
from odeopt.limits.averages import Averages, StepReading
from odeopt.limits.components import Coordinate, Dot, Norm
from odeopt.limits.derivation_lines import DerivationStep, system_steps
from odeopt.limits.failures import is_infinite
from odeopt.limits.read_step import ReadStep
from odeopt.limits.series import GradientDifferential, NoLimitError, dotted_latex, plain
from odeopt.limits.text import clock_text, readable
from odeopt.rules.base import UpdateRule
from odeopt.shown import Equation, Summary

__all__ = ["SystemLimit", "scale_of", "system_limit"]

# Powers p of t = k lr^p that are tried.
_POWERS = tuple(map(Rational, ("1", "1/2", "2", "1/3", "2/3", "3/2", "4/3", "3", "4")))


@dataclass(frozen=True, repr=False)
class SystemLimit(Equation):
    r"""A first-order system :math:`\dot X=F(X,M,t)`, :math:`\dot M_i=G_i(X,M,t)`, componentwise.

    Parameters
    ----------
    rule : UpdateRule
        The rule as it was given.
    family : UpdateRule
        The rule with hyperparameters that depend on `h`, whose limit is taken.
    h, t : sympy.Symbol
        Time step of the family, and time.
    velocity : sympy.Expr
        F, in the gradient at X and the slow averages.
    averages : mapping
        Slow and accumulating averages, as functions of t, to their rates G. ``V_1``, ``V_2`` are
        displacements of the iterate over h.
    followed : mapping
        Fast averages to the expressions they follow.
    time_step : float or sympy.Expr
        From steps to time: t = k * time_step.
    scale : sympy.Rational
        The power p in time_step = lr^p.
    resolution : int
        Orders of h kept beyond the limit, 0 or 1.
    initial : mapping
        The slow averages to where they start.
    reading : ReadStep
        What was read in the step: increment, gradient points, averages, steadiness.
    steps : tuple of DerivationStep
        The derivation, of the family.
    schedules : mapping
        As in :class:`ODELimit`.
    printed : tuple of sympy.Expr, or None
        The right sides of `equations` with schedules by name.
    breaks : tuple
        As in :class:`ODELimit`: times at which a schedule passes to its next formula.
    valid_until : float or sympy.Expr or None
        As in :class:`ODELimit`.

    Examples
    --------
    >>> from odeopt import ode_limit
    >>> from odeopt.rules import RMSProp
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> limit = ode_limit(RMSProp(lr=h, alpha=1 - b * h, eps=0), h)
    >>> limit.velocity, limit.averages, limit.preconditioner
    (-grad f(X)/sqrt(M_0(t)), mappingproxy({M_0(t): b*(grad f(X)**2 - M_0(t))}), sqrt(M_0(t)))
    """

    rule: UpdateRule
    family: UpdateRule
    h: Symbol
    t: Symbol
    velocity: Expr
    averages: Mapping[Expr, Expr]
    followed: Mapping[Expr, Expr]
    time_step: float | Expr
    scale: Rational = field(default=sympy.S.One)
    resolution: int = 0
    initial: Mapping[Expr, Expr] = field(default_factory=lambda: MappingProxyType({}))
    reading: ReadStep | None = field(default=None, compare=False)
    steps: tuple[DerivationStep, ...] = field(default=(), compare=False)
    schedules: Mapping[Expr, Expr] = field(default_factory=lambda: MappingProxyType({}))
    printed: tuple[Expr, ...] | None = None
    breaks: tuple[Any, ...] = ()
    valid_until: Any = None

    @property
    def accuracy(self) -> Rational:
        """The curve follows the iterates to this order of the time step, from a regular start."""
        return Rational(self.resolution + 1) if self.scale <= 1 else 1 / self.scale

    @property
    def curve(self) -> Expr:
        """The unknown X(t)."""
        return Function("X")(self.t)

    @property
    def equations(self) -> tuple[sympy.Eq, ...]:
        """The system, the equation of X first."""
        rates = {self.curve: self.velocity, **self.averages}
        return tuple(sympy.Eq(x.diff(self.t), rate, evaluate=False) for x, rate in rates.items())

    @property
    def preconditioner(self) -> Expr | None:
        r"""D in :math:`\dot X=-D^{-1}\nabla f(X)`; None where an average stands in the gradient's place."""
        gradient, g = GradientDifferential(self.curve), Coordinate("g", real=True)
        velocity = self.velocity.subs(gradient, g)
        if not velocity.has(g) or velocity.has(self.curve):
            return None
        velocity = velocity.replace(sympy.sign, lambda x: x / sympy.Abs(x))
        return sympy.cancel(-g / velocity).subs(g, gradient)

    def subs(self, values: Mapping[Any, Any]) -> SystemLimit:
        """Return the system with numbers in place of symbols.

        Parameters
        ----------
        values : mapping
            Symbol to number.

        Returns
        -------
        SystemLimit
            Its right sides, initial data, clock and schedules with the numbers; `rule` and `family` stay.

        Examples
        --------
        >>> from odeopt import ode_limit
        >>> from odeopt.rules import RMSProp
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> print(ode_limit(RMSProp(lr=h, alpha=1 - b * h, eps=0), h).subs({b: 2}))
        X' = -grad f(X)/sqrt(M_0); M_0' = -2*M_0 + 2*grad f(X)**2
        """
        step: Any = self.time_step
        values = require_mapping("values", values)
        return replace(
            self,
            velocity=self.velocity.subs(values),
            averages=MappingProxyType({m: e.subs(values) for m, e in self.averages.items()}),
            followed=MappingProxyType({m: e.subs(values) for m, e in self.followed.items()}),
            initial=MappingProxyType({m: e.subs(values) for m, e in self.initial.items()}),
            schedules=MappingProxyType({m: e.subs(values) for m, e in self.schedules.items()}),
            printed=None if self.printed is None else tuple(e.subs(values) for e in self.printed),
            breaks=tuple(b.subs(values) for b in self.breaks),
            valid_until=self.valid_until.subs(values) if self.valid_until is not None else None,
            time_step=step.subs(values) if isinstance(step, Expr) else step,
        )

    def latex(self) -> str:
        r"""Return the system as LaTeX.

        Returns
        -------
        str
            The equations, that of X first, without dollar signs, schedules by name.

        Examples
        --------
        >>> from odeopt import ode_limit
        >>> from odeopt.rules import SignDescent
        >>> print(ode_limit(SignDescent(lr=0.1)).latex())
        \dot{X} = - \operatorname{sign}{\left(\nabla f(X) \right)}
        """
        return r",\quad ".join(f"{dotted_latex(x)} = {dotted_latex(e)}" for x, e in self._printed())

    def _summary(self) -> Summary:
        return Summary([str(self), clock_text(self.time_step), self.rule.label])

    def __str__(self) -> str:
        return "; ".join(f"{plain(x)} = {plain(e)}" for x, e in self._printed())

    def _printed(self) -> list[tuple[Expr, Expr]]:
        """The system with schedules by name."""
        right = self.printed or tuple(e.rhs for e in self.equations)
        return [(e.lhs, r) for e, r in zip(self.equations, right, strict=True)]


def system_limit(
    rule: UpdateRule,
    h: Symbol,
    *,
    family: UpdateRule | None = None,
    values: Mapping[Any, Any] | None = None,
    time_step: float | Expr | None = None,
    resolution: int = 0,
) -> SystemLimit:
    r"""Derive the limit of a rule by running its step on coordinates.

    Without a family the rule itself is it, and where it does not depend on `h` its learning rate is
    :math:`h^{1/p}` with the first p that has a limit. Resolution 1 adds the correction of order h.
    """
    scale = sympy.S.One
    if family is None and not _depends(rule, h):
        if "lr" not in rule.hyperparameters:
            raise NoLimitError(
                f"{rule.label} has no hyperparameter lr to tend to 0; pass h and write the scaling yourself"
            )
        scale, reading, found, velocity = _scaled(rule, h)
        lr = rule.lr
        time_step = float(lr) ** float(scale) if is_number(lr) else lr**scale
    else:
        reading = StepReading(family or rule.exact(), h)
        found = reading.averages()
        velocity, reason = _velocity(reading, found)
        if reason:
            raise NoLimitError(f"{rule.label} has no limit: {reason}")
    _require_descent(rule, reading, velocity)
    rates = found.rates
    if resolution:
        _require_correction(rule, reading, found, resolution, scale)
        velocity, rates = _Correction(reading).corrected(velocity, found)
    return _assembled(
        rule,
        reading,
        found,
        velocity,
        rates,
        scale,
        values or {},
        h if time_step is None else time_step,
        resolution,
    )


def scale_of(rule: UpdateRule, h: Symbol) -> Rational:
    """The power p of t = k lr^p at which a rule whose step is not linear has a limit."""
    return _scaled(rule, h)[0]


def _depends(rule: UpdateRule, h: Symbol) -> bool:
    flat = (w for v in rule.hyperparameters.values() for w in (v if isinstance(v, tuple) else (v,)))
    return any(isinstance(v, Expr) and v.has(h) for v in flat)


def _scaled(rule: UpdateRule, h: Symbol) -> tuple[Rational, StepReading, Averages, Expr]:
    """The first power p for which lr = h^(1/p) has a limit, with its reading."""
    reasons = []
    for p in _POWERS:
        reading = StepReading(rule.exact().replace(lr=h ** (1 / p)), h)
        found = reading.averages()
        velocity, reason = _velocity(reading, found)
        if not reason:
            return p, reading, found, velocity
        reasons.append(f"lr = {h}^({1 / p}): {reason}")
    raise NoLimitError(f"{rule.label} has no limit: {'; '.join(reasons[:3])}")


def _velocity(reading: StepReading, found: Averages) -> tuple[Expr, str]:
    """The velocity of x, or why there is none."""
    increment = reading.x_step.xreplace({**reading.lags(found), **found.scaled})
    velocity = sympy.Add(*(reading.limit(part / reading.h) for part in sympy.Add.make_args(increment)))
    if is_infinite(velocity):  # parts that cancel
        velocity = reading.limit(increment / reading.h)
    if is_infinite(velocity):
        return velocity, f"x moves by {increment} a step, which has no finite limit over {reading.h}"
    reading.require_no_lag(velocity)
    moving = {n for n in velocity.free_symbols if isinstance(n, Coordinate)} - {reading.x}
    live = {n for r in found.rates.values() for n in r.free_symbols if n in reading.gradients}
    if not moving or not (live or moving & set(reading.gradients)):
        return velocity, f"x moves by {increment} a step, of which the gradient vanishes over {reading.h}"
    return velocity, ""


def _require_descent(rule: UpdateRule, reading: StepReading, velocity: Expr) -> None:
    """Refuse a velocity that climbs: tried on numbers, where it is a function of one gradient and of t."""
    (g, *others) = reading.gradients or (None,)
    if g is None or others or velocity.free_symbols - {g, reading.t} or velocity.has(Norm, Dot):
        return
    values = [
        velocity.subs({g: v, reading.t: s}) * v
        for v in (-2, -Rational(1, 3), Rational(1, 2), 3)
        for s in (1, 2)
    ]
    if any(v.is_positive for v in values):
        raise NoLimitError(
            f"{rule.label} climbs the loss: its limit X' = {velocity} moves along some gradients g, not "
            "against them; turn the sign of its step"
        )


def _require_correction(
    rule, reading: StepReading, found: Averages, resolution: int, scale: Rational
) -> None:
    slow = not (found.followed or found.scaled)
    why = {
        "those beyond order h are read of linear steps alone": resolution > 1,
        "an average that forgets at once, or adds up, leaves a start that is not analytic in h": not slow,
        "its learning rate is h to a power other than 1": scale != 1,
        "it reads earlier iterates; keep its displacement in memory": bool(reading.displacements),
        "it takes a gradient elsewhere than at x": any(p != reading.x for p in reading.points),
        "its first steps are none of the others; let it begin with its average at rest": bool(reading.seen),
        "it joins coordinates by norms or inner products": any(
            e.has(Norm, Dot) for e in (reading.x_step, *reading.changes)
        ),
    }
    if obstacles := [text for text, holds in why.items() if holds]:
        raise NoLimitError(
            f"corrections of {rule.label} are not derived: its step is not linear, and {obstacles[0]}"
        )


def _assembled(rule, reading, found, velocity, rates, scale, values, time_step, resolution) -> SystemLimit:
    """Put a reading on the curve."""

    def on_curve(expr: Expr) -> Expr:
        return reading.on_curve(expr, found)

    limit = SystemLimit(
        rule=rule,
        family=reading.family,
        h=reading.h,
        t=reading.t,
        velocity=readable(on_curve(velocity)),
        averages=MappingProxyType({on_curve(m): readable(on_curve(rate)) for m, rate in rates.items()}),
        followed=MappingProxyType({on_curve(m): on_curve(e) for m, e in found.followed.items()}),
        time_step=time_step,
        scale=scale,
        resolution=resolution,
        initial=MappingProxyType({on_curve(m): on_curve(e) for m, e in found.starts.items()}),
        reading=reading.account(found),
        steps=system_steps(reading, found, {reading.x: velocity, **rates}, resolution),
    )
    numbers = {**values, **({reading.h: time_step} if resolution and is_number(time_step) else {})}
    return limit.subs(numbers) if numbers else limit


class _Correction:
    r"""The correction of order h, :math:`F_1-\tfrac12\dot F_0` for increments :math:`hF_0+h^2F_1`."""

    def __init__(self, reading: StepReading):
        self.reading, self.h, self.t = reading, reading.h, reading.t
        self.g = reading.gradients[0]

    def corrected(self, velocity: Expr, found: Averages) -> tuple[Expr, dict]:
        """Velocity and rates with their corrections of order h."""
        reading, averages = self.reading, found.rates
        rates = {reading.x: velocity, **averages}
        steps = {reading.x: reading.x_step, **dict(zip(reading.memory, reading.changes, strict=True))}
        curve = Function("X")(self.t)
        bent = GradientDifferential(
            curve, reading.on_curve(velocity, found)
        )  # the Hessian times the velocity

        def total(expr: Expr) -> Expr:
            moved = sum((expr.diff(y) * rate for y, rate in rates.items()), expr.diff(self.g) * bent)
            return moved + expr.diff(self.t)

        corrected = {}
        for y, rate in rates.items():
            first = self._first_order(steps[y] / self.h)
            corrected[y] = rate + self.h * (first - total(rate) / 2)
        return corrected.pop(reading.x), corrected

    def _first_order(self, expr: Expr) -> Expr:
        """Coefficient of h of an increment divided by h."""

        def steady(power):
            base, exponent = power.args
            logarithm = sympy.series(exponent * sympy.log(base), self.h, 0, 2).removeO()
            constant = logarithm.subs(self.h, 0)
            return sympy.exp(constant) * (1 + self.h * logarithm.coeff(self.h, 1))

        counted = expr.replace(lambda e: e.is_Pow and e.exp.has(self.h), steady)
        analytic = sympy.cancel(counted) if counted.is_rational_function(self.h) else counted
        value = analytic.diff(self.h).subs(self.h, 0)
        if is_infinite(value):
            value = sympy.cancel(sympy.together(analytic)).diff(self.h).subs(self.h, 0)
        if is_infinite(value):
            raise NoLimitError(f"the increment {expr} is not analytic at {self.h} = 0")
        return value.replace(lambda e: isinstance(e, sympy.Derivative), lambda e: Integer(0))
