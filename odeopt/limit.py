r"""From an update rule to its continuous-time limit, by running the rule on samples of a curve.

The step of the rule is run on :math:`x_{k-j}=X(t-jh)`, t = k h. The residual

.. math:: R(h)=X(t+h)-\mathrm{step}\bigl(X(t),X(t-h),\dots\bigr)

is Taylor-expanded in h; its first nonvanishing order is the limiting ODE. Nothing is looked up.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import sympy
from sympy import Add, Derivative, Eq, Expr, Function, Integer, Symbol

from odeopt.differentials import (
    GradientDifferential,
    dotted_latex,
    expand_gradient,
    linear_terms,
    vector_series,
)
from odeopt.rule import UpdateRule, is_number, iterate

__all__ = ["DerivationStep", "ODELimit", "ode_limit"]

REGIMES = ("natural", "fixed", "inertial")
# Orders of the residual searched beyond the highest order a rule of that history can reach.
_EXTRA_ORDERS = 3


@dataclass(frozen=True)
class DerivationStep:
    """One line of a derivation: what is done, and the equations that result."""

    title: str
    equations: tuple[Eq, ...]

    def latex(self) -> str:
        r"""Return the line as LaTeX, the title as text."""
        body = r",\quad ".join(dotted_latex(e) for e in self.equations)
        return rf"\text{{{self.title}: }}\quad {body}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


@dataclass(frozen=True)
class ODELimit:
    r"""The limiting ODE of an update rule, with its derivation.

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
        t = k * time_step.
    initial : tuple of sympy.Expr
        :math:`(\dot X(0),\ddot X(0),\dots)` up to the order of the equation minus one.
    steps : tuple of DerivationStep
        The derivation.
    """

    rule: UpdateRule
    family: UpdateRule
    h: Symbol
    t: Symbol
    terms: Mapping[Expr, Expr]
    time_step: float | Expr
    initial: tuple[Expr, ...]
    steps: tuple[DerivationStep, ...] = field(repr=False)

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

    def latex(self) -> str:
        """Return the equation as LaTeX, highest derivative first."""
        return _equation_latex(self.terms)

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return _equation_text(self.terms)


def ode_limit(
    rule: UpdateRule, h: Symbol | None = None, *, resolution: int = 0, regime: str = "natural"
) -> ODELimit:
    r"""Derive the limiting ODE of an update rule.

    Parameters
    ----------
    rule : UpdateRule
        Either with hyperparameters that are functions of `h`, or with fixed ones.
    h : sympy.Symbol, optional
        The time step, t = k h. Without it the hyperparameters are fixed and the time scale
        :math:`\eta=h^p` is the smallest p at which gradient and derivatives balance.
    resolution : int
        0, the limit itself.
    regime : {"natural", "fixed", "inertial"}
        How a rule with numbers is embedded in a family, see :meth:`UpdateRule.scaling`: "fixed"
        keeps the momenta (t = k lr), "inertial" lets them tend to 1 (t = k sqrt(lr) for one).

    Returns
    -------
    ODELimit

    Raises
    ------
    ValueError
        If the rule has no limit: gradient and derivatives do not balance, the highest derivative
        vanishes, or the step is not linear in iterates and gradients.

    Notes
    -----
    With momentum :math:`\beta` fixed, heavy ball and Nesterov share the limit
    :math:`(1-\beta)\dot X+\nabla f(X)=0` (Kovachki and Stuart, JMLR 22(17), 2021).

    Examples
    --------
    >>> import sympy
    >>> from odeopt.methods import HeavyBall, Nesterov
    >>> h, b, r = sympy.symbols("h b r", positive=True)
    >>> print(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))
    X'' + b*X' + grad f(X) = 0
    >>> limit = ode_limit(Nesterov(lr=0.01, r=3))
    >>> print(limit, "with time step", limit.time_step)
    X'' + (3/t)*X' + grad f(X) = 0 with time step 0.1
    """
    if resolution != 0:
        raise ValueError(f"resolution must be 0 (the limit itself), got {resolution!r}")
    if regime not in REGIMES:
        raise ValueError(f"regime must be one of {', '.join(REGIMES)}; got {regime!r}")
    if h is not None:
        _require_dependence(rule, h)
        return _Derivation(rule, rule, h).limit(time_step=h)
    h = Symbol("h", positive=True)
    scaled = rule.scaling(h, regime) if rule.is_numeric else None
    if scaled is not None:
        family, values, time_step = scaled
        return _Derivation(rule, family, h).limit(time_step, values)
    return _balanced(rule, h)


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


def _balanced(rule: UpdateRule, h: Symbol) -> ODELimit:
    """Take the limit with fixed hyperparameters and lr = h^p, p the smallest that balances."""
    if "lr" not in rule.hyperparameters:
        raise ValueError(f"{rule.label} has no hyperparameter lr; pass h and write the scaling yourself")
    exact = rule.exact()
    reasons = []
    for p in range(1, rule.history + 1):
        try:
            time_step = rule.lr ** (1.0 / p) if is_number(rule.lr) else rule.lr ** sympy.Rational(1, p)
            return _Derivation(rule, exact.replace(lr=h**p), h).limit(time_step)
        except NoLimitError as error:
            reasons.append(f"lr = h^{p}: {error}")
    raise NoLimitError("; ".join(reasons))


class NoLimitError(ValueError):
    """The rule has no limiting ODE in the scaling at hand."""


class _Derivation:
    """The expansion of one residual, shared by the limit and by its printed steps."""

    def __init__(self, rule: UpdateRule, family: UpdateRule, h: Symbol):
        self.rule, self.family, self.h = rule, family, h
        self.t = Symbol("t", positive=True)
        self.max_order = family.history + _EXTRA_ORDERS
        self.curve_symbols = tuple(Symbol(f"X_{j}") for j in range(self.max_order + 1))

    def limit(self, time_step: float | Expr, values: Mapping[Symbol, float] | None = None) -> ODELimit:
        residual = self.residual()
        q, leading = self._leading(residual)
        terms = {
            v: sympy.factor(sympy.cancel(c)) for v, c in linear_terms(leading, self.curve_symbols).items()
        }
        terms = self._ordered({v: c for v, c in terms.items() if c != 0})
        self._require_balance(terms, q)
        order = max(self.curve_symbols.index(v) for v in terms if v in self.curve_symbols)
        initial = self._initial_derivatives(order)
        steps = self._steps(residual, q, terms, initial)
        values = dict(values or {})
        return ODELimit(
            rule=self.rule,
            family=self.family,
            h=self.h,
            t=self.t,
            terms=MappingProxyType({self._on_curve(v): _readable(c.subs(values)) for v, c in terms.items()}),
            time_step=time_step,
            initial=tuple(self._on_curve(e).subs(values) for e in initial),
            steps=steps,
        )

    def residual(self) -> list[Expr]:
        """Taylor coefficients of X(t + h) - step(X(t), X(t - h), ...)."""
        samples = tuple(self._sample(-j) for j in range(self.family.history))
        memory = self.family.initial_memory(samples[0])
        if memory is not None:
            raise ValueError(
                f"{self.rule.label} carries memory, so its limit is a system of equations; "
                "write the memory as further iterates"
            )
        x_next, _ = self.family.step(self.t / self.h, samples, None, self._gradient)
        return vector_series(self._sample(1) - x_next, self.h, self.max_order, self.curve_symbols)

    def _sample(self, shift: int) -> Expr:
        """X(t + shift h) as a Taylor polynomial in h."""
        return Add(
            *((shift * self.h) ** q / sympy.factorial(q) * x for q, x in enumerate(self.curve_symbols))
        )

    def _gradient(self, z: Expr) -> Expr:
        return expand_gradient(z, self.h, self.max_order, self.curve_symbols)

    def _leading(self, residual: list[Expr]) -> tuple[int, Expr]:
        for q, coefficient in enumerate(residual):
            simplified = {
                v: sympy.cancel(c) for v, c in linear_terms(coefficient, self.curve_symbols).items()
            }
            if any(c != 0 for c in simplified.values()):
                return q, Add(*(c * v for v, c in simplified.items()))
        raise NoLimitError(f"the residual vanishes to order {self.h}^{self.max_order}")

    def _require_balance(self, terms: Mapping[Expr, Expr], q: int) -> None:
        x, *derivatives = self.curve_symbols
        found = f"at leading order {self.h}^{q} the residual is " + " + ".join(
            f"({c})*{v}" for v, c in terms.items()
        )
        if x in terms:
            raise NoLimitError(f"{found}; the weights of the iterates must sum to 1")
        if not any(d in terms for d in derivatives):
            raise NoLimitError(f"{found}: the gradient has nothing to balance it; let lr shrink faster")
        if not any(v.has(GradientDifferential) for v in terms):
            raise NoLimitError(f"{found}: the gradient has dropped out; let lr shrink more slowly")

    def _ordered(self, terms: dict[Expr, Expr]) -> dict[Expr, Expr]:
        def rank(vector):
            is_curve = vector in self.curve_symbols
            place = -self.curve_symbols.index(vector) if is_curve else len(vector.args)
            return (not is_curve, place, sympy.default_sort_key(vector))

        return {v: terms[v] for v in sorted(terms, key=rank)}

    def _initial_derivatives(self, order: int) -> tuple[Expr, ...]:
        r"""Limits of :math:`\Delta^jx_0/h^j`, j = 1, ..., order - 1, from the rule's own first steps."""
        x0 = self.curve_symbols[0]
        start = iterate(
            self.family, x0, lambda z: expand_gradient(z, self.h, self.max_order, self.curve_symbols[:1])
        )
        differences = list(itertools.islice(start, order))
        derivatives = []
        for j in range(1, order):
            differences = [b - a for a, b in itertools.pairwise(differences)]
            scaled = sympy.expand(differences[0]) / self.h**j
            derivatives.append(sympy.simplify(vector_series(scaled, self.h, 0, (x0,))[0]))
        return tuple(derivatives)

    def _on_curve(self, expr: Expr) -> Expr:
        curve = Function("X")(self.t)
        return expr.subs({x: curve.diff(self.t, j) for j, x in enumerate(self.curve_symbols)})

    def _steps(self, residual, q, terms, initial) -> tuple[DerivationStep, ...]:
        h, t, k = self.h, self.t, Symbol("k", positive=True)
        newest = [Symbol("x_k")] + [Symbol(f"x_{{k-{j}}}") for j in range(1, self.family.history)]
        x_next, _ = self.family.step(k, tuple(newest), None, GradientDifferential)
        shifts = ["", f" - {h}"] + [f" - {j}{h}" for j in range(2, self.family.history)]
        samples = tuple(
            Eq(x, Symbol(f"X({t}{shift})"), evaluate=False) for x, shift in zip(newest, shifts, strict=False)
        )
        expansion = Add(*(h**i * self._on_curve(residual[i]) for i in range(q + 1)))
        big_o = sympy.Order(h ** (q + 1), h)
        leading = self._on_curve(Add(*(c * v for v, c in terms.items())))
        starts = tuple(
            Eq(Symbol("X" + "'" * j + "(0)"), self._on_curve(e), evaluate=False)
            for j, e in enumerate(initial, 1)
        )
        first = (Eq(Symbol("X(0)"), Symbol("x_0"), evaluate=False), *starts)
        return (
            DerivationStep("Update rule", (Eq(Symbol("x_{k+1}"), x_next, evaluate=False),)),
            DerivationStep(f"Samples of a curve, t = k {h}", samples),
            DerivationStep(
                "Residual", (Eq(Symbol("R"), sympy.Add(expansion, big_o, evaluate=False), evaluate=False),)
            ),
            DerivationStep(f"Limit, order {h}^{q}", (Eq(leading, 0, evaluate=False),)),
            DerivationStep("Initial conditions", first),
        )


def _readable(coefficient: Expr) -> Expr:
    """Turn rationals that stem from floats, with long denominators, back into floats."""
    return coefficient.replace(lambda e: e.is_Rational and e.q > 1000, lambda e: sympy.Float(e))


def _equation_text(terms: Mapping[Expr, Expr]) -> str:
    def vector(v):
        if isinstance(v, Derivative):
            n = v.derivative_count
            return "X" + ("'" * n if n < 4 else f"^({n})")
        return str(v).replace("X(t)", "X")

    def scalar(c):
        if c == 1:
            return ""
        text = f"{float(c):.6g}" if c.is_Float else str(c)
        return f"{text}*" if c.is_Symbol or (c.is_number and c.is_nonnegative) else f"({text})*"

    return " + ".join(scalar(c) + vector(v) for v, c in terms.items()) + " = 0"


def _equation_latex(terms: Mapping[Expr, Expr]) -> str:
    parts = []
    for v, c in terms.items():
        body = dotted_latex(v)
        if c != 1:
            factor = f"{float(c):.6g}" if c.is_Float else sympy.latex(c)
            body = (rf"\left({factor}\right)" if c.is_Add else factor) + r"\," + body
        parts.append(body)
    return " + ".join(parts) + " = 0"
