r"""The derivation of a limit, line by line, as a paper would print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Add, Eq, Expr, Function, Symbol

from odeopt.limits.derivation import Derivation
from odeopt.limits.series import GradientDifferential, dotted_latex

__all__ = ["DerivationStep", "derivation_steps", "on_curve", "shifted"]


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


def shifted(name: str, origin: Expr) -> str:
    """Write k, or (k + origin).

    Examples
    --------
    >>> shifted("k", sympy.Rational(1, 2))
    '(k + 1/2)'
    """
    return name if origin == 0 else f"({name} + {origin})"


def on_curve(derivation: Derivation, expr: Expr) -> Expr:
    """Replace the symbols of a derivation by derivatives of X(t).

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> h = Symbol("h", positive=True)
    >>> on_curve(Derivation(GradientDescent(h), h), Symbol("X_1"))
    Derivative(X(t), t)
    """
    curve = Function("X")(derivation.t)
    return expr.subs({x: curve.diff(derivation.t, j) for j, x in enumerate(derivation.curve)})


def derivation_steps(
    derivation: Derivation, terms: Mapping, start: tuple, form: str
) -> tuple[DerivationStep, ...]:
    """Lines from the update rule to the initial conditions.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> [step.title for step in ode_limit(GradientDescent(0.1)).steps][:2]
    ['Update rule', 'Samples of a curve, t = k h']
    """
    family, h, t = derivation.family, derivation.h, derivation.t
    k = Symbol("k", positive=True)
    newest = [Symbol("x_k")] + [Symbol(f"x_{{k-{j}}}") for j in range(1, family.history)]
    memory = tuple(Symbol(str(m).replace("_", "_{k,") + "}") for m in derivation.memory)
    x_next, memory_next = family.step(k, tuple(newest), memory, GradientDifferential)
    updates = [Eq(Symbol("x_{k+1}"), x_next, evaluate=False)]
    updates += [
        Eq(Symbol(str(m).replace("{k,", "{k+1,")), e, evaluate=False)
        for m, e in zip(memory, memory_next or (), strict=True)
    ]
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
        Eq(Symbol("X" + "'" * j + "(0)"), e.subs(Function("X")(t), Symbol("x_0")), evaluate=False)
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


def _expansions(derivation: Derivation, order: int) -> tuple[Eq, ...]:
    """Taylor polynomials of the samples that the step reads, and of the one it returns."""
    h, t = derivation.h, derivation.t
    big_o = sympy.Order(h ** (order + 1), h)
    lines = []
    for shift in [1, *(-j for j in range(1, derivation.family.history))]:
        powers = enumerate(derivation.curve[: order + 1])
        series = Add(*((shift * h) ** i / sympy.factorial(i) * x for i, x in powers))
        size = "" if abs(shift) == 1 else str(abs(shift))
        name = Symbol(f"X({t} {'+' if shift > 0 else '-'} {size}{h})")
        right = Add(on_curve(derivation, series), big_o, evaluate=False)
        lines.append(Eq(name, right, evaluate=False))
    return tuple(lines)
