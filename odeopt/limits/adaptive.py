r"""Limits of methods whose step is not linear: a system for the weights and the running averages.

The step is read componentwise: products and roots of gradients act on each component. A running
average M of a method is

* *slow* when its recursion changes it by O(h): it obeys an ODE;
* *fast* when it forgets in O(1) steps: it follows its fixed point, an algebraic equation;
* *accumulating* when it only adds up: M = S/h, and S obeys an ODE.

Which of these holds is found from the recursion itself, and so is the time scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import sympy
from sympy import Expr, Function, Integer, Rational, Symbol

from odeopt.checks import is_number
from odeopt.limits.series import GradientDifferential, NoLimitError, dotted_latex, plain
from odeopt.limits.text import readable
from odeopt.rules.base import UpdateRule

__all__ = ["SystemLimit", "system_limit"]

# Orders of h in which the increment of x is sought, once divided by its learning rate.
_HALF_ORDERS = [Rational(k, 2) for k in range(-4, 5)]


@dataclass(frozen=True)
class SystemLimit:
    r"""A first-order system :math:`\dot X=F(X,M,t)`, :math:`\dot M_i=G_i(X,M,t)`, componentwise.

    Attributes
    ----------
    rule, family : UpdateRule
    h, t : sympy.Symbol
    velocity : sympy.Expr
        F, in the gradient at X and the slow averages.
    averages : mapping
        Slow and accumulating averages, as functions of t, to their rates G; they start at 0.
    followed : mapping
        Fast averages to the expressions they follow.
    time_step : float or sympy.Expr
        t = k * time_step.
    scale : sympy.Rational
        The power p in time_step = lr^p.
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
        g = Symbol("g", real=True)
        velocity = self.velocity.subs(GradientDifferential(self.curve), g)
        if not velocity.has(g):
            return None
        velocity = velocity.replace(sympy.sign, lambda x: x / sympy.Abs(x))
        return sympy.cancel(-g / velocity).subs(g, GradientDifferential(self.curve))

    def subs(self, values: Mapping) -> SystemLimit:
        """Return the system with numbers in place of symbols.

        Parameters
        ----------
        values : mapping
            Symbol to number.

        Returns
        -------
        SystemLimit

        Examples
        --------
        >>> from odeopt.rules import RMSProp
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> print(system_limit(RMSProp(lr=h, alpha=1 - b * h, eps=0), h).subs({b: 2}))
        X' = -grad f(X)/sqrt(M_0); M_0' = -2*M_0 + 2*grad f(X)**2
        """
        step = self.time_step.subs(values) if isinstance(self.time_step, Expr) else self.time_step
        return SystemLimit(
            self.rule,
            self.family,
            self.h,
            self.t,
            self.velocity.subs(values),
            MappingProxyType({m: e.subs(values) for m, e in self.averages.items()}),
            MappingProxyType({m: e.subs(values) for m, e in self.followed.items()}),
            step,
            self.scale,
            self.resolution,
        )

    def latex(self) -> str:
        """Return the system as LaTeX."""
        return r",\quad ".join(f"{dotted_latex(e.lhs)} = {dotted_latex(e.rhs)}" for e in self.equations)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return "; ".join(f"{plain(e.lhs)} = {plain(e.rhs)}" for e in self.equations)


def system_limit(
    rule: UpdateRule,
    h: Symbol,
    *,
    family: UpdateRule | None = None,
    values: Mapping | None = None,
    time_step: float | Expr | None = None,
    resolution: int = 0,
) -> SystemLimit:
    r"""Derive the limit of a rule that reads one iterate, by running its step on symbols.

    Examples
    --------
    >>> from odeopt.rules import AdaGrad, SignDescent
    >>> from odeopt import Adam
    >>> h, a, b = sympy.symbols("h a b", positive=True)
    >>> print(system_limit(SignDescent(lr=h), h))
    X' = -sign(grad f(X))
    >>> limit = system_limit(AdaGrad(lr=0.1, eps=0), h)
    >>> print(limit, "| t = k lr^", limit.scale)
    X' = -grad f(X)/sqrt(M_0); M_0' = grad f(X)**2 | t = k lr^ 2
    """
    if rule.history > 1:
        raise ValueError(f"{rule.label} is not linear and reads {rule.history} iterates; keep them in memory")
    given = family is not None or _depends(rule, h)
    eta = h if given else Symbol("eta", positive=True)
    family = family or (rule.exact() if given else rule.exact().replace(lr=eta))
    reading = _Reading(family, h)
    averages, followed = reading.averages()
    increment = reading.increment(averages, followed)
    scale = sympy.S.One
    if given:
        velocity = reading.limit(increment / h)
    else:
        scale, velocity = reading.balanced(increment, eta)
        increment = increment.subs(eta, h ** (1 / scale))
        lr = rule.lr
        time_step = float(lr) ** float(scale) if is_number(lr) else lr**scale
    if velocity == 0 or velocity.has(sympy.oo, sympy.zoo, sympy.nan):
        raise NoLimitError(f"x moves by {increment} a step, which has no finite limit over {h}")
    if resolution:
        if resolution > 1 or followed or reading.scaled or scale != 1:
            raise NoLimitError(
                f"corrections of {rule.label} are derived to order h, for averages that are all slow; "
                "a fast or accumulating average leaves a start that is not analytic in h"
            )
        velocity, averages = reading.corrected(velocity, averages, increment)
    on_curve = reading.on_curve
    limit = SystemLimit(
        rule=rule,
        family=family,
        h=h,
        t=reading.t,
        velocity=readable(on_curve(velocity)),
        averages=MappingProxyType({on_curve(m): on_curve(rate) for m, rate in averages.items()}),
        followed=MappingProxyType({on_curve(m): on_curve(e) for m, e in followed.items()}),
        time_step=h if time_step is None else time_step,
        scale=scale,
        resolution=resolution,
    )
    numbers = {**(values or {}), **({h: time_step} if resolution and is_number(time_step) else {})}
    return limit.subs(numbers) if numbers else limit


def _depends(rule: UpdateRule, h: Symbol) -> bool:
    flat = (w for v in rule.hyperparameters.values() for w in (v if isinstance(v, tuple) else (v,)))
    return any(getattr(v, "has", lambda s: False)(h) for v in flat)


class _Reading:
    """One reading of the step on symbols: the gradient g and the averages M are real symbols."""

    def __init__(self, family: UpdateRule, h: Symbol):
        self.family, self.h = family, h
        self.t = Symbol("t", positive=True)
        self.x, self.g = Symbol("X_0", real=True), Symbol("g", real=True)
        entries = family.initial_memory(self.x) or ()
        self.memory = tuple(Symbol(f"M_{i}", positive=True) for i in range(len(entries)))
        x_next, memory_next = family.step(self.t / h, (self.x,), self.memory, self._gradient)
        self.x_step = x_next - self.x
        self.changes = [new - old for new, old in zip(memory_next or (), self.memory, strict=True)]
        self.scaled: dict[Symbol, Expr] = {}
        self.bent: tuple[Symbol, Expr] | None = None

    def _gradient(self, z: Expr) -> Expr:
        if z != self.x:
            raise ValueError(
                f"{self.family.label} is not linear and takes its gradient at {z}, not at the iterate"
            )
        return self.g

    def averages(self) -> tuple[dict[Symbol, Expr], dict[Symbol, Expr]]:
        """Rates of the slow and accumulating averages, and what the fast ones follow."""
        rates, followed = {}, {}
        for m, change in zip(self.memory, self.changes, strict=True):
            now = self.limit(change)
            if now == 0:
                rates[m] = sympy.factor_terms(self.limit(change / self.h))
            elif now.has(m):
                solutions = sympy.solve(now, m)
                if not solutions:
                    raise NoLimitError(f"the average with change {now} a step has no fixed point")
                followed[m] = solutions[0]
            else:
                self.scaled[m] = m / self.h
                rates[m] = now
        return rates, followed

    def increment(self, averages: dict, followed: dict) -> Expr:
        """The increment of x with fast averages at their fixed points and accumulating ones rescaled."""
        return self.x_step.subs({**followed, **self.scaled}, simultaneous=True)

    def limit(self, expr: Expr) -> Expr:
        """Limit h -> 0+; by substitution where that is defined, for it is much faster."""
        expr = expr.replace(lambda e: e.is_Pow and e.exp.has(self.h), self._steady_power)
        for form in (lambda e: e, lambda e: sympy.powdenest(sympy.cancel(e), force=True)):
            direct = form(expr).subs(self.h, 0)
            if not direct.has(sympy.zoo, sympy.oo, sympy.nan):
                return direct
        return sympy.limit(expr, self.h, 0, "+")

    def _steady_power(self, power: Expr) -> Expr:
        """Limit of a power whose exponent counts steps, such as (1 - a h)^(t/h) -> exp(-a t)."""
        base, exponent = power.args
        if base.is_number and base.is_positive and base < 1:
            return Integer(0) if sympy.limit(exponent, self.h, 0, "+") is sympy.oo else power
        return sympy.exp(sympy.limit(exponent * sympy.log(base), self.h, 0, "+"))

    def balanced(self, increment: Expr, eta: Symbol) -> tuple[Rational, Expr]:
        r"""The power p with :math:`h=\eta^p` and the velocity: increment ~ eta h^w gives p = 1/(1 - w)."""
        unit = sympy.expand(increment / eta)
        if unit.has(eta):
            raise ValueError(f"lr of {self.family.label} does not multiply the increment of x")
        for w in _HALF_ORDERS:
            velocity = self.limit(unit * self.h**-w)
            if velocity != 0 and velocity.is_finite is not False and not velocity.has(sympy.oo, sympy.zoo):
                if w >= 1:
                    break
                return 1 / (1 - w), velocity
        raise NoLimitError(f"the increment {increment} has no power of h as its leading order")

    def corrected(self, velocity: Expr, averages: dict, increment: Expr) -> tuple[Expr, dict]:
        """Velocity and rates with their corrections of order h."""
        rates = {self.x: velocity, **averages}
        steps = {self.x: increment, **dict(zip(self.memory, self.changes, strict=True))}
        bent = Symbol("bent", real=True)  # the Hessian applied to the velocity

        def total(expr: Expr) -> Expr:
            moved = sum((expr.diff(m) * rate for m, rate in averages.items()), expr.diff(self.g) * bent)
            return moved + expr.diff(self.t)

        corrected = {}
        for y, rate in rates.items():
            first = self._first_order(steps[y] / self.h)
            corrected[y] = rate + self.h * (first - total(rate) / 2)
        direction = self.on_curve(velocity)
        self.bent = (bent, GradientDifferential(Function("X")(self.t), direction))
        return corrected.pop(self.x), corrected

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
        if value.has(sympy.zoo, sympy.oo, sympy.nan):
            value = sympy.cancel(sympy.together(analytic)).diff(self.h).subs(self.h, 0)
        if value.has(sympy.zoo, sympy.oo, sympy.nan):
            raise NoLimitError(f"the increment {expr} is not analytic at {self.h} = 0")
        return value.replace(lambda e: isinstance(e, sympy.Derivative), lambda e: Integer(0))

    def on_curve(self, expr: Expr) -> Expr:
        curve = Function("X")(self.t)
        expr = expr.subs(*self.bent) if self.bent else expr
        named = {m: Function(m.name)(self.t) for m in self.memory}
        return expr.subs({self.g: GradientDifferential(curve), self.x: curve, **named}, simultaneous=True)
