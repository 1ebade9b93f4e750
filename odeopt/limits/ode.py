r"""From an update rule to its continuous-time limit, by running the rule on samples of a curve.

The step of the rule is run on :math:`x_{k-j}=X(t-jh)`, t = (k + origin) h. The residual

.. math:: R(h)=X(t+h)-\mathrm{step}\bigl(X(t),X(t-h),\dots\bigr)

is Taylor-expanded in h; its first nonvanishing order is the limiting ODE, the next orders are its
corrections. Nothing is looked up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import sympy
from sympy import Add, Derivative, Eq, Expr, Function, Integer, Symbol

from odeopt.checks import is_number
from odeopt.limits.adaptive import SystemLimit, system_limit
from odeopt.limits.balance import time_scale
from odeopt.limits.clock import correspondences
from odeopt.limits.derivation import Derivation, NoLimitError, time_origin
from odeopt.limits.derivation_lines import DerivationStep, derivation_steps, on_curve, shifted
from odeopt.limits.series import GradientDifferential, NonlinearStepError
from odeopt.limits.text import equation_latex, equation_text, in_powers, readable
from odeopt.rules.base import UpdateRule

__all__ = ["DerivationStep", "NoLimitError", "ODELimit", "ode_limit", "with_terms"]

REGIMES = ("natural", "fixed", "inertial")
FORMS = ("normal", "raw")
CLOCKS = ("centred", "naive")


@dataclass(frozen=True)
class ODELimit:
    r"""The limiting ODE of an update rule, with its corrections and its derivation.

    Attributes
    ----------
    rule : UpdateRule
        The rule as it was given.
    family : UpdateRule
        The rule with hyperparameters that depend on `h`, whose limit is taken.
    terms : mapping
        Vector (:math:`X^{(j)}`, :math:`\nabla f(X)`, ...) to scalar coefficient; the equation is
        sum coefficient * vector = 0.
    time_step : float or sympy.Expr
        t = (k + time_origin) * time_step.
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
        How steps were mapped to time.
    """

    rule: UpdateRule
    family: UpdateRule
    h: Symbol
    t: Symbol
    terms: Mapping[Expr, Expr]
    time_step: float | Expr
    initial_position: Expr
    initial: tuple[Expr, ...]
    steps: tuple[DerivationStep, ...] = field(repr=False)
    resolution: int = 0
    time_origin: float | Expr = sympy.S.Zero
    accuracy: int = 1
    note: str = ""

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

    def subs(self, values: Mapping) -> ODELimit:
        """Return the limit with numbers in place of symbols.

        Parameters
        ----------
        values : mapping
            Symbol to number.

        Returns
        -------
        ODELimit

        Examples
        --------
        >>> from odeopt import HeavyBall
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> print(ode_limit(HeavyBall(h**2, 1 - b * h), h).subs({b: 2}))
        X'' + 2*X' + grad f(X) = 0
        """

        def number(value):
            value = value.subs(values) if isinstance(value, Expr) else value
            return float(value) if getattr(value, "is_number", False) else value

        return with_terms(
            self,
            {v: c.subs(values) for v, c in self.terms.items()},
            initial_position=self.initial_position.subs(values),
            initial=tuple(e.subs(values) for e in self.initial),
            time_step=number(self.time_step),
            time_origin=number(self.time_origin),
        )

    def latex(self) -> str:
        """Return the equation as LaTeX, highest derivative first."""
        return equation_latex(self.terms)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return equation_text(self.terms)


def ode_limit(
    rule: UpdateRule,
    h: Symbol | None = None,
    *,
    resolution: int = 0,
    regime: str = "natural",
    form: str = "normal",
    clock: Literal["centred", "naive"] = "centred",
) -> ODELimit | SystemLimit:
    r"""Derive the limiting ODE of an update rule, and its corrections in the time step.

    Parameters
    ----------
    rule : UpdateRule
        Either with hyperparameters that are functions of `h`, or with fixed ones.
    h : sympy.Symbol, optional
        The time step, t = k h. Without it the hyperparameters are fixed and the time scale
        :math:`t=k\eta^p` is found by dominant balance (:func:`odeopt.limits.balance.time_scale`).
    resolution : int
        0 for the limit itself, q for its corrections up to :math:`h^q`; the curve then follows the
        iterates to order q + 1. With friction r/t the time origin comes with it.
    regime : {"natural", "fixed", "inertial"}
        How a rule with numbers is embedded in a family, see :meth:`UpdateRule.scaling`: "fixed"
        keeps the momenta (t = k lr), "inertial" lets them tend to 1 (t = k sqrt(lr) for one).
    form : {"normal", "raw"}
        "normal" isolates the highest derivative of the limit and writes corrections in lower ones;
        "raw" is the residual as it was expanded, with the higher derivatives of the literature's
        modified equations.
    clock : {"centred", "naive"}
        For a rule with numbers at resolution 0: "centred" takes time step, origin and coefficients of
        second order from :func:`odeopt.limits.correspondences`, where there are such (else the note of
        the limit says why not); "naive" takes t = k lr^p.

    Returns
    -------
    ODELimit or odeopt.limits.adaptive.SystemLimit
        The latter for adaptive methods, whose step is not linear: a system for X and the running
        averages.

    Raises
    ------
    ValueError
        If the rule has no limit: gradient and derivatives do not balance, the highest derivative
        vanishes, or the step takes gradients at more points than it declares.

    Notes
    -----
    With momentum :math:`\beta` fixed, heavy ball and Nesterov share the limit
    :math:`(1-\beta)\dot X+\nabla f(X)=0` (Kovachki and Stuart, JMLR 22(17), 2021). The corrections of
    heavy ball and Nesterov's methods at resolution 1 are the high-resolution ODEs of Shi, Du, Jordan
    and Su, arXiv 1810.08907.

    Examples
    --------
    >>> import sympy
    >>> from odeopt.rules.classical import HeavyBall, Nesterov
    >>> h, b, r = sympy.symbols("h b r", positive=True)
    >>> print(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))
    X'' + b*X' + grad f(X) = 0
    >>> limit = ode_limit(Nesterov(lr=h**2, r=r), h, resolution=1)
    >>> print(limit, "| time origin", limit.time_origin)
    X'' + (r/t)*X' + (h*r/(2*t) + 1)*grad f(X) + h*grad^2 f(X)[X'] = 0 | time origin r/2 - 1
    >>> limit = ode_limit(Nesterov(lr=0.01, r=3))
    >>> print(limit, "| time step", limit.time_step)
    X'' + (3/t)*X' + grad f(X) = 0 | time step 0.1
    """
    _validate(resolution, regime, form, clock)
    given = h is not None
    if given:
        _require_dependence(rule, h)
    h = h if given else Symbol("h", positive=True)
    try:
        family, values, time_step = (rule.exact(), {}, h) if given else _family(rule, h, regime)
        limit = _limit(rule, family, h, time_step, values, resolution, form)
    except NonlinearStepError:
        return _system(rule, h, given, regime, resolution)
    if given:
        return limit
    if clock == "centred" and resolution == 0 and rule.is_numeric and form == "normal":
        return _improved(limit, values)
    return limit


def _validate(resolution: Any, regime: str, form: str, clock: str) -> None:
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 0:
        raise ValueError(f"resolution must be a nonnegative integer, got {resolution!r}")
    for name, value, known in (("regime", regime, REGIMES), ("form", form, FORMS), ("clock", clock, CLOCKS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")


def _require_dependence(rule: UpdateRule, h: Any) -> None:
    if not isinstance(h, Symbol):
        raise ValueError(f"h must be a sympy Symbol, got {h!r} of type {type(h).__name__}")
    values = itertools.chain.from_iterable(
        v if isinstance(v, tuple) else (v,) for v in rule.hyperparameters.values()
    )
    if not any(getattr(v, "has", lambda s: False)(h) for v in values):
        raise ValueError(
            f"no hyperparameter of {rule.label} depends on h = {h}; write for example lr={h}**2, "
            "or leave h out to keep them fixed"
        )


def _family(rule: UpdateRule, h: Symbol, regime: str) -> tuple[UpdateRule, dict, float | Expr]:
    """Embed fixed hyperparameters: by the rule's own scaling, else with lr = h^(1/p) by dominant balance."""
    scaled = rule.scaling(h, regime) if rule.is_numeric else None
    if scaled is not None:
        return scaled
    power, lr = _power(rule, h), rule.lr
    family = rule.exact()
    family = (
        family.map_hyperparameters(lambda v: v.subs(lr, h ** (1 / power)) if hasattr(v, "subs") else v)
        if isinstance(lr, Symbol)
        else family.replace(lr=h ** (1 / power))
    )
    return family, {}, float(lr) ** float(power) if is_number(lr) else lr**power


def _power(rule: UpdateRule, h: Symbol) -> sympy.Rational:
    """The p of t = k lr^p: by the Newton polygon; with memory, the first power that balances."""
    if not rule.initial_memory(Symbol("X_0")):
        return time_scale(rule).power
    family, reasons = rule.exact(), []
    for p in range(1, rule.history + 2):
        try:
            Derivation(family.replace(lr=h**p), h)
            return sympy.Rational(1, p)
        except NoLimitError as error:
            reasons.append(f"lr = {h}^{p}: {error}")
    raise NoLimitError("; ".join(reasons))


def _system(rule: UpdateRule, h: Symbol, given: bool, regime: str, resolution: int) -> SystemLimit:
    """Limit of a rule whose step is not linear."""
    scaled = None if given or not rule.is_numeric else rule.scaling(h, regime)
    if scaled is None:
        return system_limit(rule, h, resolution=resolution)
    family, values, time_step = scaled
    return system_limit(rule, h, family=family, values=values, time_step=time_step, resolution=resolution)


def _limit(rule, family, h, time_step, values, resolution, form) -> ODELimit:
    """Run the derivation and put its result on the curve X(t)."""
    origin = time_origin(family, h) if resolution else Integer(0)
    derivation = Derivation(family, h, resolution, origin)
    right = derivation.normal_form()
    if resolution == 0:
        terms = derivation.leading
    elif form == "raw":
        terms = derivation.raw()
    else:
        terms = derivation.tidy(derivation.curve[derivation.order] - right)
    position, *initial = derivation.initial_data(right)
    start = on_curve(derivation, position), *(on_curve(derivation, e) for e in initial)
    steps = derivation_steps(derivation, terms, start, form)
    numbers = dict(values)
    if is_number(time_step):
        numbers[h] = time_step
    return ODELimit(
        rule=rule,
        family=family,
        h=h,
        t=derivation.t,
        terms=MappingProxyType(
            {on_curve(derivation, v): readable(in_powers(c, h).subs(numbers)) for v, c in terms.items()}
        ),
        time_step=time_step,
        initial_position=start[0].subs(numbers),
        initial=tuple(e.subs(numbers) for e in start[1:]),
        steps=steps,
        resolution=resolution,
        time_origin=origin.subs(numbers),
        accuracy=resolution + 1,
        note=f"t = {shifted('k', origin)} {h}",
    )


def with_terms(limit: ODELimit, terms: Mapping[Expr, Expr], **changes: Any) -> ODELimit:
    """Return the limit with other coefficients, and other fields as named.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> limit = ode_limit(GradientDescent(lr=0.1))
    >>> print(with_terms(limit, {v: 2 * c for v, c in limit.terms.items()}))
    2*X' + 2*grad f(X) = 0
    """
    return replace(limit, terms=MappingProxyType(dict(terms)), **changes)


def _improved(limit: ODELimit, values: Mapping[Symbol, float]) -> ODELimit:
    """Put the numbers of a rule on the centred clock; the limit itself where there is no better one."""
    if any(c.has(limit.t) for c in limit.coefficients):
        return replace(limit, note=f"{limit.note}; no better clock: its coefficients depend on time")
    try:
        best = correspondences(limit.family, limit.h)[-1]
    except ValueError as error:
        return replace(limit, note=f"{limit.note}; no better clock: {error}")
    if best.order == 1:
        return replace(limit, note=f"{limit.note}; no better clock: {best.reason}")
    numbers = {**values, limit.h: limit.time_step}
    vectors = [limit.curve.diff(limit.t, j) for j in range(1, limit.order + 1)]
    terms = {v: _number(c, numbers) for v, c in zip(vectors[::-1], best.coefficients[::-1], strict=True)}
    terms = {v: c for v, c in terms.items() if c != 0}
    terms[GradientDifferential(limit.curve)] = best.gradient
    return with_terms(
        limit,
        terms,
        time_step=float(best.time_step.subs(numbers)),
        time_origin=best.origin.subs(numbers),
        accuracy=best.order,
        note=f"centred clock: {best.reason}",
    )


def _number(coefficient: Expr, numbers: Mapping) -> Expr:
    value = coefficient.subs(numbers)
    return value if value.is_Rational else value.evalf()
