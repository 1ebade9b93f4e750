r"""Potentials: what a form V that does not grow says of f after N steps, checked exactly."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from odeopt.proofs import flow as flows
from odeopt.proofs.exact.domain import Bound, Domain
from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.flow import Iteration, time
from odeopt.proofs.identity import growth, quadratic_rows
from odeopt.proofs.statement import Ends, Multiplier, Statement

__all__ = ["EndsTest", "bound_of_f"]


class EndsTest:
    """The two ends of a potential: V <= bound at the first step, value <= V after N steps."""

    def __init__(self, statement: Statement, ends: Ends, domain: Domain) -> None:
        self.statement: Statement = statement
        self.ends: Ends = ends
        self.field: Field = domain.field
        # all but the last two bounds, 0 <= t and t + 1 <= N, are those of parameters
        self.parameters: tuple[Bound, ...] = statement.domain[:-2]
        self.domain: Domain = Domain(self.field, (*self.parameters, Bound(ends.horizon, sympy.S.One)))

    def reason(self) -> str:
        """Return why the ends do not follow, empty where they do."""
        return self._ranges() or self.form() or self._start() or self._end() or self._power()

    def _ranges(self) -> str:
        horizon, (steps, last) = self.ends.horizon, self.statement.domain[-2:]
        right = (Bound(time, sympy.S.Zero), Bound(horizon, time + 1))
        free = set().union(*(e.free_symbols for b in self.parameters for e in b.limits))
        if (steps, last) != right or free & {time, horizon}:
            return f"the last two ranges must be 0 <= t and t + 1 <= {horizon}, and no others hold them"
        return ""

    def form(self) -> str:
        """Return why bound and value are not of their form: multiples of |x_0|^2, and of f_0 and |g_0|^2."""
        for expr, main, other, words in (
            (self.ends.bound, (flows.x0, flows.x0), (), "|x_0|^2"),
            (self.ends.value, (flows.f0,), (flows.g0, flows.g0), "f_0, less one of |g_0|^2"),
        ):
            found = {m for m, c in self.field.read(expr).collect(self.statement.flow.gens).items() if c.num}
            if main not in found or not found <= {main, other}:
                return f"{expr} is no multiple of {words}"
            if time in expr.free_symbols:
                return f"{expr} holds t, which is 0 at the first step and {self.ends.horizon} at the last"
        return ""

    def _start(self) -> str:
        bound = self.field.read(self.ends.bound)
        first = {time: self.field.read(sympy.S.Zero)}
        if flows.x1 in self.field.index:
            first[flows.x1] = self.field.read(flows.x0)  # x_(-1) = x_0
        energy = self.field.read(self.statement.energy)
        return self._implied("V <= the bound at the first step", energy - bound, self.ends.start, first)

    def _end(self) -> str:
        weight, value = self.weight, self.field.read(self.ends.value)
        if self.descends:  # f at y_N - lr g_N, by the descent lemma
            lr, L = self.statement.flow.constants[0], self.statement.function_class.L
            share = (self.field.read(flows.f0) - value / weight) / self.field.read(flows.g0**2)
            most = share if L is None else self.field.read(lr * (1 - L * lr / 2)) - share
            if L is None or not self.domain.nonnegative(share) or not self.domain.nonnegative(most):
                return f"{self.ends.value} is more than the descent lemma grants"
        if not self.domain.positive(weight):
            return f"the coefficient of f in {self.ends.value} is not proved positive"
        last = {time: self.field.read(self.ends.horizon)}
        energy = self.field.read(self.statement.energy)
        return self._implied("the value <= V after N steps", value - energy, self.ends.end, last)

    @property
    def descends(self) -> bool:
        """Whether the value is f_0 less a multiple of |g_0|^2."""
        return (flows.g0, flows.g0) in self.field.read(self.ends.value).collect(self.statement.flow.gens)

    @property
    def weight(self) -> Element:
        """The coefficient of f in the value."""
        zero = self.field.read(sympy.S.Zero)
        return self.field.read(self.ends.value).collect(self.statement.flow.gens).get((flows.f0,), zero)

    def _implied(self, claim: str, form: Element, multipliers: Sequence[Multiplier], at: dict) -> str:
        """form = sum of multiplier * inequality - squares, at one step."""
        flow, functions = self.statement.flow, self.statement.function_class
        read = self.field.read
        for m in multipliers:
            if m.value.free_symbols & {*flow.gens}:
                return f"the multiplier {m.value} of {m.name} holds a vector or a value"
            granted = functions.inequality(m.name, {"0": flow.points["0"]})
            if not (read(m.inequality) - read(granted)).is_zero():
                return f"{functions} does not grant {m.name}: {m.inequality} <= 0"
            if not m.name.startswith("E") and not self.domain.nonnegative(read(m.value).substitute(at)):
                return f"the multiplier {m.value} of {m.name} is not proved nonnegative"
            form = form - read(m.value) * read(m.inequality)
        form = form.substitute(at)
        if not self.domain.never_zero(Element(self.field, form.den, self.field.one)):
            return f"{claim}: a divisor is not proved to be nonzero"
        rows = quadratic_rows(-form, flow.gens, flow.vectors)
        return "" if self.domain.semidefinite(rows) else f"{claim} is not proved"

    def _power(self) -> str:
        if growth(self.bound / self.weight, self.ends.horizon, self.domain) > -self.statement.rate:
            return f"the bound of f does not fall like N^-({self.statement.rate})"
        return ""

    @property
    def bound(self) -> Element:
        """The coefficient of |x_0|^2 in the bound."""
        return self.field.read(self.ends.bound).collect(self.statement.flow.gens)[flows.x0, flows.x0]


def bound_of_f(statement: Statement) -> tuple[str, sympy.Expr] | None:
    """Return where f is taken after N steps, and the factor of |x_0|^2; None for ends of another form."""
    ends, flow = statement.ends, statement.flow
    test = ends and EndsTest(statement, ends, Domain(statement.new_field(), ()))
    if ends is None or test is None or not isinstance(flow, Iteration) or test.form():
        return None
    here = f"{'x' if flow.points['0'][0] == flows.x0 else 'y'}_{ends.horizon}"
    if test.descends:  # y_N - lr g_N
        here = f"x_({ends.horizon}+1)" if flow.beta == flow.gamma else f"{here} - {flow.lr}*g_{ends.horizon}"
    return here, (test.bound / test.weight).factored()
