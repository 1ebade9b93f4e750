r"""Functions of slow time, t = k h, that a derivation knows by name: what a schedule is to it.

A schedule enters a step as :math:`s(kh)`. Its values at neighbouring steps are Taylor polynomials in h whose
coefficients are the derivatives of s, so they appear in a limit by themselves; no formula of s is ever
expanded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Add, Expr, Integer, Symbol
from sympy.core.symbol import Str

from odeopt.limits.text import derivative_latex, derivative_text

if TYPE_CHECKING:
    from odeopt.rules.formulas import AnyExpr as Function
else:
    from sympy import Function

__all__ = ["Function", "Slow", "expanded", "is_rational", "names_of", "slow_function", "with_symbols"]


class Slow(Function):
    r"""The derivative :math:`s^{(q)}` of a named function at a point.

    >>> from sympy.abc import h, t
    >>> s = slow_function("s", t - h)
    >>> s, s.diff(t), expanded(s, h, 1)
    (s(-h + t), s'(-h + t), -h*s'(t) + s(t))
    """

    nargs = 3
    is_commutative = True
    is_named = True  # it prints as a name

    @classmethod
    def eval(cls, name: Str, order: Expr, point: Expr) -> Expr | None:
        plain = sympy.expand(point)
        return cls(name, order, plain) if plain != point else None

    @property
    def name(self) -> str:
        """The name of s."""
        return self.args[0].name

    @property
    def order(self) -> int:
        """How often s is differentiated."""
        return int(self.args[1])

    @property
    def point(self) -> Expr:
        """Where."""
        return self.args[2]

    def _eval_derivative(self, symbol: Symbol) -> Expr:
        rate = self.point.diff(symbol)
        return rate * slow_function(self.name, self.point, self.order + 1) if rate != 0 else Integer(0)

    def _sympystr(self, printer):
        return f"{derivative_text(self.name, self.order)}({printer.doprint(self.point)})"

    def _latex(self, printer, exp=None):
        text = rf"{derivative_latex(self.name, self.order)}({printer.doprint(self.point)})"
        return text if exp is None else rf"{text}^{{{exp}}}"


def slow_function(name: str, point: Expr, order: int = 0) -> Expr:
    """The function of this name, or a derivative of it, at a point."""
    return Slow(Str(name), Integer(order), point)


def expanded(expr: Expr, h: Symbol, depth: int) -> Expr:
    """Taylor polynomials in h, to a depth, in place of functions whose points depend on h."""
    places = {s: _taylor(s, h, depth) for s in expr.atoms(Slow) if s.point.has(h)}
    return expr.xreplace(places) if places else expr


def _taylor(s: Any, h: Symbol, depth: int) -> Expr:
    base = s.point.subs(h, 0)
    moved = s.point - base
    jets = (slow_function(s.name, base, s.order + j) for j in range(depth + 1))
    return Add(*(moved**j / math.factorial(j) * jet for j, jet in enumerate(jets)))


def is_rational(expr: Expr) -> bool:
    """Whether an expression is a rational function of its symbols and of functions of slow time."""
    named = {s: sympy.Dummy() for s in expr.atoms(Slow)}
    return bool((expr.xreplace(named) if named else expr).is_rational_function())


def with_symbols(expr: Expr, h: Symbol, depth: int, function: Callable[[Expr], Expr]) -> Expr:
    """Apply a function of sympy that knows no functions of slow time: expanded, they are symbols to it."""
    if not expr.has(Slow):
        return function(expr)
    expr = expanded(expr, h, depth)
    named = names_of(expr)
    return function(expr.xreplace(named)).xreplace({d: s for s, d in named.items()})


def names_of(*exprs: Any) -> dict[Expr, Symbol]:
    """Symbols in place of functions of slow time, for what sympy cannot do with functions."""
    found = set().union(*(e.atoms(Slow) for e in exprs))
    return {s: sympy.Dummy(s.name) for s in sorted(found, key=sympy.default_sort_key)}
