r"""The limiting ODE of a linear rule as an object: terms, initial data, clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from sympy import Add, Derivative, Eq, Expr, Function, Integer, S, Symbol

from odeopt.checks import require_mapping
from odeopt.limits.accumulated import accumulated
from odeopt.limits.derivation_lines import DerivationStep
from odeopt.limits.momentum_form import MomentumForm
from odeopt.limits.read_step import ReadStep
from odeopt.limits.series import GradientDifferential, dotted_latex, plain
from odeopt.limits.text import clock_text, equation_latex, equation_text, readable
from odeopt.rules.base import UpdateRule
from odeopt.shown import Equation, Summary

__all__ = ["ODELimit", "with_terms"]


@dataclass(frozen=True, repr=False)
class ODELimit(Equation):
    r"""The limiting ODE of an update rule, with its corrections and its derivation.

    Parameters
    ----------
    rule : UpdateRule
        The rule as it was given.
    family : UpdateRule
        The rule with hyperparameters that depend on `h`, whose limit is taken.
    h, t : sympy.Symbol
        Time step of the family, and time.
    terms : mapping
        Vector (:math:`X^{(j)}`, :math:`\nabla f(X)`, ...) to scalar coefficient; the equation is
        sum coefficient * vector = 0.
    time_step : float or sympy.Expr
        From steps to time: t = (k + time_origin) * time_step.
    initial_position : sympy.Expr
        X(0) in terms of the first iterate :math:`X_0` and gradients there.
    initial : tuple of sympy.Expr
        :math:`(\dot X(0),\ddot X(0),\dots)` up to the order of the equation minus one.
    steps : tuple of DerivationStep
        The derivation.
    resolution : int
        Orders of h kept beyond the limit.
    time_origin : sympy.Expr or float
        In steps.
    accuracy : int
        The curve follows the iterates to this order of h.
    note : str
        How steps were mapped to time, and what the limit does not say.
    reading : ReadStep
        What was read in the step: weights, gradient points, averages, steadiness.
    schedules : mapping
        Schedules by the names in which the equation is printed, :math:`s(t)`, to their formulas; `terms` hold
        the formulas, Piecewise where there are several.
    printed : mapping or None
        `terms` with schedules by name.
    breaks : tuple
        Times at which a schedule passes to its next formula. There :math:`X,\dots,X^{(n-1)}` are continuous,
        or with `momentum` X and P.
    valid_until : float or sympy.Expr or None
        The break beyond which the limit, with its corrections, is not carried; None if there is none.
    momentum : MomentumForm or None
        The equation in :math:`P=\dot X/w`, where its friction holds :math:`-\dot w/w`.

    Examples
    --------
    >>> from odeopt import HeavyBall, ode_limit
    >>> limit = ode_limit(HeavyBall(lr=0.01, momentum=0.5), regime="fixed")
    >>> print(limit, "|", limit.note[:7], "|", limit.accuracy)
    1/2*X' + grad f(X) = 0 | t = k h | 1
    """

    rule: UpdateRule
    family: UpdateRule
    h: Symbol
    t: Symbol
    terms: Mapping[Expr, Expr]
    time_step: float | Expr
    initial_position: Expr
    initial: tuple[Expr, ...]
    steps: tuple[DerivationStep, ...]
    resolution: int = 0
    time_origin: float | Expr = S.Zero
    accuracy: int = 1
    note: str = ""
    reading: ReadStep | None = field(default=None, compare=False)
    schedules: Mapping[Expr, Expr] = field(default_factory=lambda: MappingProxyType({}))
    printed: Mapping[Expr, Expr] | None = None
    breaks: tuple[Any, ...] = ()
    valid_until: Any = None
    momentum: MomentumForm | None = None

    @property
    def curve(self) -> Expr:
        """The unknown X(t)."""
        return Function("X")(self.t)

    @property
    def order(self) -> int:
        """Order of the highest derivative of X."""
        return max(v.derivative_count for v in self.terms if isinstance(v, Derivative))

    @property
    def coefficients(self) -> tuple[Expr, ...]:
        r"""Coefficients :math:`(a_1,\dots,a_n)` of :math:`\dot X,\dots,X^{(n)}`."""
        derivatives = (self.curve.diff(self.t, j) for j in range(1, self.order + 1))
        return tuple(self.terms.get(d, Integer(0)) for d in derivatives)

    @property
    def gradient_coefficient(self) -> Expr:
        r"""Coefficient of :math:`\nabla f(X)`."""
        return self.terms.get(GradientDifferential(self.curve), Integer(0))

    @property
    def initial_velocity(self) -> Expr | None:
        r""":math:`\dot X(0)`; None for an equation of first order."""
        return self.initial[0] if self.initial else None

    @property
    def intrinsic_time(self) -> Expr:
        r""":math:`\sigma(t)=\int_0^ts` of the limit :math:`\dot X=-s(t)\nabla f(X)`.

        For every f the curve is that of gradient flow at this time, :math:`X(t)=X_{GF}(\sigma(t))`: without
        noise a schedule changes when a point is reached, never which. Raises ValueError for other equations,
        and where the integral has no closed form.

        Examples
        --------
        >>> from odeopt import GradientDescent, ode_limit
        >>> from odeopt.rules import Linear
        >>> ode_limit(GradientDescent(Linear(0.1, steps=40))).intrinsic_time
        Piecewise((t*(8 - t)/8, t < 4), (2, True))
        """
        gradient = GradientDifferential(self.curve)
        if set(self.terms) != {self.curve.diff(self.t), gradient}:
            raise ValueError(
                f"{self} is no gradient flow with a rate in t, so it has no intrinsic time; only descent and "
                "fixed momenta at resolution 0 have one"
            )
        return readable(accumulated(self.terms[gradient] / self.terms[self.curve.diff(self.t)], self.t))

    @property
    def equation(self) -> Eq:
        """The ODE as a sympy equation, right side 0."""
        return Eq(Add(*(c * v for v, c in self.terms.items())), 0, evaluate=False)

    @property
    def modified_loss(self) -> dict[str, Expr]:
        r"""Coefficients a, c of the gradient flow :math:`\dot X=-\nabla(af+\tfrac c2|\nabla f|^2)`.

        Raises ValueError for other equations.
        """
        x = self.curve
        gradient = GradientDifferential(x)
        bent = GradientDifferential(x, gradient)
        if self.order != 1 or not set(self.terms) <= {x.diff(self.t), gradient, bent}:
            raise ValueError(f"{self} is not a gradient flow of f and |grad f|^2")
        lead = self.terms[x.diff(self.t)]
        return {"a": self.terms[gradient] / lead, "c": self.terms.get(bent, Integer(0)) / lead}

    def subs(self, values: Mapping[Any, Any]) -> ODELimit:
        """Return the limit with numbers in place of symbols.

        Parameters
        ----------
        values : mapping
            Symbol to number.

        Returns
        -------
        ODELimit
            Its terms, initial data, clock and schedules with the numbers; `rule` and `family` stay.

        Examples
        --------
        >>> import sympy
        >>> from odeopt import HeavyBall, ode_limit
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> print(ode_limit(HeavyBall(h**2, 1 - b * h), h).subs({b: 2}))
        X'' + 2*X' + grad f(X) = 0
        """
        values = require_mapping("values", values)

        def number(value):
            value = value.subs(values) if isinstance(value, Expr) else value
            return float(value) if getattr(value, "is_number", False) else value

        def image(terms):
            return MappingProxyType({v.subs(values): c.subs(values) for v, c in terms.items()})

        return with_terms(
            self,
            image(self.terms),
            initial_position=self.initial_position.subs(values),
            initial=tuple(e.subs(values) for e in self.initial),
            time_step=number(self.time_step),
            time_origin=number(self.time_origin),
            schedules=image(self.schedules),
            printed=None if self.printed is None else image(self.printed),
            breaks=tuple(map(number, self.breaks)),
            valid_until=number(self.valid_until),
            momentum=None if self.momentum is None else self.momentum.map(lambda c: c.subs(values)),
        )

    def latex(self) -> str:
        r"""Return the equation as LaTeX, highest derivative first.

        Returns
        -------
        str
            The equation ``... = 0`` without dollar signs, schedules by name.

        Examples
        --------
        >>> from odeopt import Nesterov, ode_limit
        >>> print(ode_limit(Nesterov(lr=0.01, r=3)).latex())
        \ddot{X} + \frac{3}{t}\,\dot{X} + \nabla f(X) = 0
        """
        return equation_latex((c, dotted_latex(v)) for v, c in (self.printed or self.terms).items())

    def _summary(self) -> Summary:
        return Summary([str(self), clock_text(self.time_step, self.time_origin), self.rule.label])

    def __str__(self) -> str:
        return equation_text((c, plain(v)) for v, c in (self.printed or self.terms).items())


def with_terms(limit: ODELimit, terms: Mapping[Expr, Expr], **changes: Any) -> ODELimit:
    """Return the limit with other coefficients, and other fields as named."""
    return replace(limit, terms=MappingProxyType(dict(terms)), **{"printed": None, **changes})
