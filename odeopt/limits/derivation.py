r"""The computation behind a limit: residual, dominant order and normal form, as series in h.

The equation of the iterate (:mod:`odeopt.limits.elimination`) is put on Taylor polynomials
:math:`X(t+sh)=\sum_q\frac{(sh)^q}{q!}X_q`, with symbols :math:`X_0,X_1,\dots` for the derivatives of the
curve at t, and k = t/h - origin. Gradients are taken at points that tend to combinations of these.
"""

from __future__ import annotations

import itertools

import sympy
from sympy import Add, Expr, Integer, Symbol

from odeopt.limits.along import Series
from odeopt.limits.elimination import LinearStep, Row, ScalarEquation, cancelled
from odeopt.limits.series import (
    GradientDifferential,
    NoLimitError,
    canonical,
    linear_terms,
    substitute,
    time_derivative,
    vector_series,
)
from odeopt.limits.slow import Slow
from odeopt.rules.base import UpdateRule

__all__ = ["Derivation"]

# Derivatives of the curve that have a symbol; a residual of order q holds those up to q.
_SYMBOLS = 40


class Derivation:
    """The expansion of an equation of the iterate in the time step; ``obstacle`` says why it has no limit."""

    def __init__(
        self, equation: ScalarEquation, h: Symbol, resolution: int = 0, origin: Expr = sympy.S.Zero
    ) -> None:
        self.equation: ScalarEquation = equation
        self.h: Symbol = h
        self.resolution: int = resolution
        self.origin: Expr = origin
        self.step: LinearStep = equation.step
        self.family: UpdateRule = self.step.reading.rule
        self.period: int = self.step.period
        self.t: Symbol = Symbol("t", positive=True)
        self.curve: tuple[Symbol, ...] = tuple(Symbol(f"X_{j}") for j in range(_SYMBOLS))
        self.row: Row = self.in_time(equation.row)
        self.residual: list[Expr] = []
        self.power: int
        self.leading: dict[Symbol, Expr]
        self.obstacle: str
        try:
            self.residual = self._residual()
        except NoLimitError as error:  # a coefficient that is not analytic in h is an obstacle like any other
            self.obstacle = str(error)
            return
        self.power, self.leading = self._dominant()
        self.order: int = max((j for j, x in enumerate(self.curve) if x in self.leading), default=0)
        self.obstacle = self._obstacle()

    # --- residual ----------------------------------------------------------------------------------

    def in_time(self, row: Row) -> Row:
        k = self.step.k
        found = {v: c.subs(k, self.t / self.h - self.origin) for v, c in row.items()}
        return {v: cancelled(c) if c.is_rational_function() else c for v, c in found.items()}

    def moment(self, row: Row, j: int) -> Expr:
        r"""Coefficient of :math:`h^jX_j` in a row."""
        terms = (c * (v[-1] * self.period) ** j for v, c in row.items() if v[0] == "x")
        moment = Add(*terms) / sympy.factorial(j)
        return cancelled(moment) if moment.is_rational_function() else moment

    def _residual(self) -> list[Expr]:
        """Coefficients in h of the row, to the order of its first derivative and `resolution` beyond."""
        reach = len(self.row) + len(self.equation.slaved) + 2
        alone = Series(self, forces=False)
        lowest = next((q for q in range(reach) if alone.combination(self.row, q) != 0), reach)
        series = Series(self)
        return [series.combination(self.row, q) for q in range(lowest + self.resolution + 1)]

    # --- dominant order ------------------------------------------------------------------------------

    def _dominant(self) -> tuple[int, dict[Expr, Expr]]:
        """Power of h and terms of the first nonvanishing coefficient of the residual."""
        for q, coefficient in enumerate(self.residual):
            terms = self.tidy(coefficient)
            if terms:
                return q, terms
        return len(self.residual), {}

    def tidy(self, expr: Expr) -> dict[Expr, Expr]:
        """Collect as {vector: simplified coefficient}, highest derivative first, zeros left out."""

        def rank(vector):
            is_curve = vector in self.curve
            place = -self.curve.index(vector) if is_curve else len(vector.args)
            return (not is_curve, place, sympy.default_sort_key(vector))

        collected = {v: canonical(c) for v, c in linear_terms(expr, self.curve).items()}
        return {v: sympy.factor(collected[v]) for v in sorted(collected, key=rank) if collected[v] != 0}

    def _obstacle(self) -> str:
        """Why there is no limiting equation, "" where there is one."""
        if not self.leading:
            return f"the residual vanishes to order {self.h}^{self.power}"
        x, *derivatives = self.curve
        found = f"at leading order {self.h}^{self.power} the residual is " + " + ".join(
            f"({c})*{v}" for v, c in self.leading.items()
        )
        if self.power == 0 and x in self.leading:
            total = sympy.factor(1 - self.leading[x])
            return (
                f"{found}: each step shrinks or stretches the iterates by a factor, for the weights of the "
                f"iterates must sum to 1, and as {self.h} -> 0 they sum to {total}"
            )
        forces = {v: c for v, c in self.leading.items() if isinstance(v, GradientDifferential)}
        if not any(d in self.leading for d in derivatives):
            return (
                f"{found}: the gradient has nothing to balance it; let lr shrink faster"
                if forces
                else (f"{found}: the decay of the iterates has nothing to balance it; let it shrink faster")
            )
        if not forces:
            alone = self.equation.step.reading.varies
            schedule = (
                f", or write its schedule as a function of t = k*{self.h}, not of k alone" if alone else ""
            )
            return f"{found}: the gradient has dropped out; let lr shrink more slowly{schedule}"
        return self._wrong_signs(found, forces)

    def _wrong_signs(self, found: str, forces: dict[Expr, Expr]) -> str:
        lead = self.leading[self.curve[self.order]]
        growing = [v for v in self.curve[1:] if self.leading.get(v, Integer(1)).is_negative]
        if growing:
            return (
                f"{found}: the friction in front of {growing[0]} is negative (momentum above 1), so the "
                "iterates grow without any gradient; lower the momentum"
            )
        force = sympy.factor(Add(*(c / lead for v, c in forces.items() if not v.directions)))
        if force.is_negative:
            return (
                f"{found}: the force {force} times the gradient climbs the loss instead of descending it; "
                f"write a schedule of the step as a function of t = k*{self.h} that stays positive, such as "
                f"lr*(1 - k*{self.h}/T)"
            )
        change = _sign_change(force, self.t)
        if change is not None:
            return (
                f"{found}: the force changes its sign at t = {change}, beyond which the equation climbs the "
                "loss; end the schedule there, with sympy.Max(0, ...) for example"
            )
        return ""

    # --- normal form -----------------------------------------------------------------------------------

    def raw(self) -> dict[Expr, Expr]:
        """The residual divided by h^power, to the resolution, as it was expanded."""
        parts = self.residual[self.power : self.power + self.resolution + 1]
        return self.tidy(Add(*(self.h**q * part for q, part in enumerate(parts))))

    def normal_form(self) -> Expr:
        r"""The right side F of :math:`X^{(n)}=F`, a polynomial in h to the resolution.

        Higher derivatives in the corrections are replaced by time derivatives of the equation.
        """
        top = self.curve[self.order]
        lead = self.leading[top]
        parts = [self.residual[self.power + q] for q in range(self.resolution + 1)]
        rest = Add(*(c * v for v, c in self.leading.items() if v != top))
        if rest.has(top):
            raise NoLimitError(f"the highest derivative also stands inside a gradient: {rest}")
        right = -rest / lead
        for q in range(1, self.resolution + 1):
            chain = self._chain(right, q)
            correction = Add(*(self.h**i * substitute(parts[i], chain, self.curve) for i in range(1, q + 1)))
            right = self.truncate(-(rest + correction) / lead, q)
        return right

    def _chain(self, right: Expr, order: int) -> dict[Expr, Expr]:
        """Expressions of X^(n), X^(n+1), ... through the equation.

        The correction of order h^i holds derivatives up to X^(n+i), so X^(n+i) is needed to the
        order h^(q-i) only; each differentiation is made after that truncation.
        """
        top = self.curve[self.order]
        chain = {top: right}
        last = right
        for i in range(1, order + 1):
            last = self.truncate(last, order - i)
            last = self.truncate(self.along(last, right), order - i)
            chain[self.curve[self.order + i]] = last
        return chain

    def along(self, expr: Expr, right: Expr) -> Expr:
        """Time derivative along solutions of the equation with this right side."""
        moved = time_derivative(expr, self.t, self.curve)
        return substitute(moved, {self.curve[self.order]: right}, self.curve)

    def truncate(self, expr: Expr, order: int) -> Expr:
        """Drop powers of h beyond `order`, and cancel the coefficients."""
        series = vector_series(expr, self.h, order, self.curve)
        return Add(
            *(
                self.h**q * canonical(c) * v
                for q, part in enumerate(series)
                for v, c in linear_terms(part, self.curve).items()
            )
        )


def _sign_change(force: Expr, t: Symbol) -> Expr | None:
    """A time t > 0 at which a force with numbers changes its sign, found on a grid and halved."""
    if force.free_symbols != {t} or force.is_nonnegative or force.has(Slow):
        return None
    values = [
        (s, sympy.re(force.subs(t, s).evalf())) for s in (sympy.Rational(2) ** j / 7 for j in range(-20, 21))
    ]
    for (s, one), (e, other) in itertools.pairwise(values):
        if one > 0 > other or one < 0 < other:
            for _ in range(12):
                middle = (s + e) / 2
                s, e = (middle, e) if sympy.re(force.subs(t, middle).evalf()) * one > 0 else (s, middle)
            return sympy.N((s + e) / 2, 3)
    return None
