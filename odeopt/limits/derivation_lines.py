r"""The derivation of a limit, line by line, as a paper would print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Add, Eq, Expr, Function, Symbol

from odeopt.limits.averages import Averages, StepReading
from odeopt.limits.derivation import Derivation
from odeopt.limits.elimination import exact
from odeopt.limits.series import GradientDifferential, dotted_latex, plain
from odeopt.rules.formulas import VectorName, text, vector_name
from odeopt.rules.reading import Reading
from odeopt.shown import Equation

__all__ = ["DerivationStep", "derivation_steps", "on_curve", "shifted", "system_steps"]


@dataclass(frozen=True, repr=False)
class DerivationStep(Equation):
    """One line of a derivation: what is done, and the equations that result."""

    title: str
    equations: tuple[Eq, ...]

    def latex(self) -> str:
        r"""Return the line as LaTeX, the title as text."""
        body = r",\quad ".join(dotted_latex(e) for e in self.equations)
        return rf"\text{{{self.title}: }}\quad {body}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The equations as text."""
        return tuple(f"{plain(e.lhs)} = {plain(e.rhs)}" for e in self.equations)

    def __str__(self) -> str:
        return "\n".join((f"{self.title}:", *(f"    {line}" for line in self.lines)))

    def to_dict(self) -> dict[str, Any]:
        """Return title, equations as text, and LaTeX as plain JSON types."""
        return {"title": self.title, "equations": list(self.lines), "latex": self.latex()}


def shifted(name: str, origin: Expr) -> str:
    """Write k, or (k + origin).

    >>> shifted("k", sympy.Rational(1, 2))
    '(k + 1/2)'
    """
    return name if origin == 0 else f"({name} + {text(origin)})"


def on_curve(derivation: Derivation, expr: Expr) -> Expr:
    """Replace the symbols of a derivation by derivatives of X(t)."""
    curve = Function("X")(derivation.t)
    return expr.subs({x: curve.diff(derivation.t, j) for j, x in enumerate(derivation.curve) if expr.has(x)})


def derivation_steps(
    derivation: Derivation, terms: Mapping[Expr, Expr], start: tuple[Expr, ...], form: str
) -> tuple[DerivationStep, ...]:
    """Lines from the update rule to the initial conditions.

    >>> from odeopt import GradientDescent, ode_limit
    >>> [step.title for step in ode_limit(GradientDescent(0.1)).steps][:2]
    ['Update rule', 'Samples of a curve, t = k h']
    """
    family, h, t = derivation.family, derivation.h, derivation.t
    newest = [VectorName("x_k")] + [_iterate(f"x_{{k-{j}}}", j) for j in range(1, family.history)]
    updates = _updates(derivation.step.reading, newest)
    shifts = ["", f" - {h}"] + [f" - {j}{h}" for j in range(2, family.history)]
    samples = tuple(
        Eq(x, Symbol(f"X({t}{shift})"), evaluate=False) for x, shift in zip(newest, shifts, strict=False)
    )
    q, last = derivation.power, derivation.power + derivation.resolution
    taylor = _expansions(derivation, last)
    orders = tuple(
        Eq(Symbol(f"R_{i}"), on_curve(derivation, derivation.residual[i]), evaluate=False)
        for i in range(last + 1)
    )
    expansion = Add(*(h**i * on_curve(derivation, derivation.residual[i]) for i in range(last + 1)))
    residual = Eq(
        Symbol("R"), Add(expansion, sympy.Order(h ** (last + 1), h), evaluate=False), evaluate=False
    )
    leading = Add(*(c * on_curve(derivation, v) for v, c in derivation.leading.items()))
    starts = tuple(
        Eq(Symbol("X" + "'" * j + "(0)"), e.subs(Function("X")(t), VectorName("x_0")), evaluate=False)
        for j, e in enumerate(start)
    )
    lines = [
        DerivationStep("Update rule", tuple(updates)),
        DerivationStep(f"Samples of a curve, t = {shifted('k', derivation.origin)} {h}", samples),
        DerivationStep("Expansion", taylor),
        DerivationStep("Residual", (residual,)),
        DerivationStep(f"Order by order in {h}", orders),
        DerivationStep(f"Limit, order {h}^{q}", (Eq(leading, 0, evaluate=False),)),
    ]
    if derivation.resolution:
        title = "Normal form" if form == "normal" else "Expanded form"
        equation = Add(*(c * on_curve(derivation, v) for v, c in terms.items()))
        lines.append(DerivationStep(f"{title}, to order {h}^{last}", (Eq(equation, 0, evaluate=False),)))
    return (*lines, DerivationStep("Initial conditions", starts))


def system_steps(
    reading: StepReading, found: Averages, rates: Mapping[Expr, Expr], order: int
) -> tuple[DerivationStep, ...]:
    """Lines from the step on one coordinate to the system; `rates` are those of x and of slow averages."""
    h, t, x = reading.h, reading.t, reading.x
    old = {x: "x_{k}", **{m: f"m_{{k,{i}}}" for i, m in enumerate(reading.memory)}}
    old |= {v: f"v_{{k,{j}}}" for j, v in enumerate(reading.displacements, 1)}
    at = {y: VectorName(n.replace("{k}", "k")) for y, n in old.items()}
    nxt = {y: VectorName(n.replace("k", "k+1")) for y, n in old.items()}
    index = {t / h: Symbol("k"), t: Symbol("k") * h}
    moves = zip((x, *reading.displacements, *reading.memory), (reading.x_step, *reading.changes), strict=True)
    step = [Eq(nxt[y], at[y] + move.subs(index).xreplace(at), evaluate=False) for y, move in moves]
    points = zip(reading.gradients, reading.points, strict=True)
    step += [Eq(g, GradientDifferential(point.xreplace(at)), evaluate=False) for g, point in points]
    on = {y: reading.on_curve(y, found) for y in old}
    name = {y: str(curve.func) for y, curve in on.items()}
    now = {y: VectorName(f"{name[y]}({t})") for y in old}
    samples = [Eq(at[y], found.scaled.get(y, y).xreplace(now), evaluate=False) for y in old]
    taylor = [
        Eq(VectorName(f"{name[y]}({t} + {h})"), Add(series, sympy.Order(h ** (order + 2), h), evaluate=False))
        for y in rates
        for series in [Add(*(h**i * on[y].diff(t, i) / sympy.factorial(i) for i in range(order + 2)))]
    ]
    follow = [Eq(on[m], reading.on_curve(e, found), evaluate=False) for m, e in found.followed.items()]
    system = [Eq(on[y].diff(t), reading.on_curve(e, found), evaluate=False) for y, e in rates.items()]
    start = {Function("X")(t): VectorName("x_0")}
    starts = [
        (x, start[on[x]]),
        *((m, reading.on_curve(e, found).subs(start)) for m, e in found.starts.items()),
    ]
    lines = {
        "Update rule, for each coordinate": step,
        f"Samples of curves, t = k {h}": samples,
        "Expansion": taylor,
        "Averages that forget within a few steps, at their fixed point": follow,
        f"Divided by {h}, to order {h}^{order}" if order else f"Divided by {h}, as {h} -> 0": system,
        "Initial conditions": [Eq(VectorName(f"{name[y]}(0)"), e, evaluate=False) for y, e in starts],
    }
    return tuple(DerivationStep(title, tuple(equations)) for title, equations in lines.items() if equations)


def _iterate(name: str, age: int) -> VectorName:
    """An iterate, printed after newer ones."""
    return vector_name(lambda x, _: x, name, -age)


def _updates(reading: Reading, newest: list[VectorName]) -> list[Eq]:
    """The step itself: a line for the next iterate and one for each average, for each residue of a period."""
    q, lines = reading.rule.history, []
    for residue in range(reading.period):
        law, at = reading.law(residue), "" if reading.period == 1 else f"+{residue}"
        state = [_iterate(x.name.replace("k", f"k{at}", 1), j) for j, x in enumerate(newest)]
        state += [VectorName(f"m_{{k{at},{i}}}") for i in range(len(law.M) - q)]
        gradients: list[Expr] = []
        for a, b in zip(law.A, law.B, strict=True):
            gradients.append(GradientDifferential(_form((*a, *b), (*state, *gradients))))
        names = [f"x_{{k+{residue + 1}}}", *(f"m_{{k+{residue + 1},{i}}}" for i in range(len(law.M) - q))]
        for name, i in zip(names, (0, *range(q, len(law.M))), strict=True):
            right = _form((*law.M[i], *law.N[i]), (*state, *gradients))
            lines.append(Eq(Symbol(name), right, evaluate=False))
    return lines


def _form(coefficients: tuple, vectors: tuple) -> Expr:
    return Add(*(exact(c) * v for c, v in zip(coefficients, vectors, strict=False)))


def _expansions(derivation: Derivation, order: int) -> tuple[Eq, ...]:
    """Taylor polynomials of the samples that the step reads, and of the one it returns."""
    h, t = derivation.h, derivation.t
    big_o = sympy.Order(h ** (order + 1), h)
    lines = []
    for shift in [derivation.period, *(-j for j in range(1, derivation.family.history))]:
        powers = enumerate(derivation.curve[: order + 1])
        series = Add(*((shift * h) ** i / sympy.factorial(i) * x for i, x in powers))
        size = "" if abs(shift) == 1 else str(abs(shift))
        name = Symbol(f"X({t} {'+' if shift > 0 else '-'} {size}{h})")
        right = Add(on_curve(derivation, series), big_o, evaluate=False)
        lines.append(Eq(name, right, evaluate=False))
    return tuple(lines)
