"""Certificates from what defines them: the remainder follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy
from sympy import Expr, Symbol

from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import nearest_float
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.identity import matrix_of, quadratic_rows
from odeopt.proofs.statement import Ends, Multiplier, Search

__all__ = ["build", "closed_form", "positive"]


def positive(*symbols: Symbol) -> tuple[Bound, ...]:
    """Return the bound symbol > 0 for each symbol."""
    return tuple(Bound(symbol, strict=True) for symbol in symbols)


def closed_form(rate: Expr) -> Search:
    """Say that a rate is the optimum of its form, known in closed form."""
    return Search(nearest_float(rate), 0.0, "closed form", 0)


def build(
    title: str,
    flow: Flow | Iteration,
    functions: FunctionClass,
    energy: Expr,
    rate: Expr,
    multipliers: Mapping[str, Expr | int],
    domain: Sequence[Bound] = (),
    *,
    positivity: Mapping[str, Expr | int],
    law: str,
    correction: Expr = sympy.S.Zero,
    vectors: Sequence[Symbol] | None = None,
    search: Search | None = None,
    ends: tuple[Symbol, Expr, Mapping[str, Any], Expr, Mapping[str, Any]] | None = None,
) -> Certificate:
    """Return the certificate with S computed; ValueError if what is left over is no quadratic form."""
    if vectors is None:
        vectors = tuple(s for s in flow.vectors if s.name != "q")
    empty = sympy.ImmutableMatrix.zeros(0, 0)
    draft = Certificate(
        title, flow, functions, energy, rate, law, (), (), tuple(vectors), empty, tuple(domain), correction,
        search,
    )  # fmt: skip
    field, points, tangents = draft.new_field(), flow.points, flow.tangents

    def used(weights: Mapping) -> tuple[Multiplier, ...]:
        found = ((n, field.read(sympy.sympify(w, strict=True))) for n, w in weights.items())
        return tuple(Multiplier(n, w.factored(), granted(n)) for n, w in found if not w.is_zero())

    def granted(name: str) -> Expr:
        inequality = functions.inequality(name, points, tangents)
        return inequality if len(points) == 1 else tidy(inequality)

    def tidy(form: Expr) -> Expr:
        """A form with factored coefficients."""
        terms = field.read(form).collect(flow.gens).items()
        return sympy.Add(*(sympy.Mul(c.factored(), *monomial) for monomial, c in terms if not c.is_zero()))

    draft = replace(draft, energy=tidy(energy), multipliers=used(multipliers), positivity=used(positivity))
    if ends is not None:
        horizon, bound, start, value, end = ends
        draft = replace(draft, ends=Ends(horizon, bound, used(start), value, used(end)))
    S = matrix_of(quadratic_rows(draft.decrease(field), flow.gens, vectors))
    return replace(draft, remainder=S)
