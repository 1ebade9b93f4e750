"""Certificates from what defines them: the remainder follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy
from sympy import Expr, Symbol

from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.field import Field
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.identity import matrix_of, quadratic_rows
from odeopt.proofs.statement import Multiplier, Search, Statement

__all__ = ["build", "closed_form", "positive"]


def positive(*symbols: Symbol) -> tuple[Bound, ...]:
    """Return the bound symbol > 0 for each symbol."""
    return tuple(Bound(symbol, strict=True) for symbol in symbols)


def closed_form(rate: Expr) -> Search:
    """Say that a rate is the optimum of its form, known in closed form."""
    return Search(float(rate), 0.0, "closed form", 0)


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
) -> Certificate:
    """Return the certificate with S computed; ValueError if what is left over is no quadratic form."""
    if vectors is None:
        vectors = tuple(s for s in flow.vectors if s.name != "q")
    empty = sympy.ImmutableMatrix.zeros(0, 0)
    bare = Statement(title, flow, functions, energy, rate, law, (), (), (), empty, tuple(domain), correction)
    field = bare.new_field()

    points, tangents = flow.points, flow.tangents

    def granted(name: str) -> Expr:
        return functions.inequality(name, points, tangents)

    def used(weights: Mapping) -> tuple[Multiplier, ...]:
        found = ((n, field.read(sympy.sympify(w, strict=True))) for n, w in weights.items())
        return tuple(Multiplier(n, w.factored(), granted(n)) for n, w in found if not w.is_zero())

    weights = used(multipliers)
    tidy = _tidy(field, energy, flow.gens)
    left = Statement(
        title, flow, functions, tidy, rate, law, weights, (), (), empty, tuple(domain), correction
    )
    S = matrix_of(quadratic_rows(left.decrease(field), flow.gens, vectors))
    return Certificate(
        title, flow, functions, tidy, rate, law, weights, used(positivity), tuple(vectors), S, tuple(domain),
        correction, search,
    )  # fmt: skip


def _tidy(field: Field, energy: Expr, gens: Sequence[Symbol]) -> Expr:
    """An energy with factored coefficients."""
    terms = field.read(energy).collect(gens).items()
    return sympy.Add(*(sympy.Mul(c.factored(), *monomial) for monomial, c in terms if not c.is_zero()))
