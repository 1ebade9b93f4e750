"""What a certificate can show others beside its proof: a point of its domain, and its squares."""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy import Expr

from odeopt.proofs.exact.domain import Domain, squares
from odeopt.proofs.exact.field import Element
from odeopt.proofs.identity import Rows, quadratic_rows
from odeopt.proofs.point import holds_at, point_of
from odeopt.proofs.statement import Evidence, Squares, Statement

__all__ = ["Sign", "evidence_of", "evidence_reason", "signs_of"]


def evidence_of(statement: Statement) -> Evidence:
    """Return a point of the domain, and S and T as weighted squares; None where there is none."""
    field, n = statement.new_field(), len(statement.vectors)
    point = remainder = positivity = None
    try:
        point = point_of(statement.domain)
        domain = Domain(field, statement.domain)
        entries = [field.read(e) for e in statement.remainder.flat()]
        if statement.remainder.shape == (n, n):
            rows = [entries[i : i + n] for i in range(0, n * n, n)]
            remainder = _written(statement, domain, rows, -1)
        T = quadratic_rows(statement.positive_part(field), statement.flow.gens, statement.vectors)
        positivity = _written(statement, domain, T, 1)
    except ValueError:  # a false statement may hold what no field does, or no quadratic form
        pass
    return Evidence(point, remainder, positivity)


def _written(statement: Statement, domain: Domain, rows: Rows, sign: int) -> Squares | None:
    found = squares(rows)
    if found is None or not all(domain.weakly_signed(weight, sign) for weight, _ in found):
        return None
    return tuple((weight.factored(), _linear(statement, linear)) for weight, linear in found)


def _linear(statement: Statement, coefficients: list[Element]) -> Expr:
    pairs = zip(coefficients, statement.vectors, strict=True)
    return sympy.Add(*(c.factored() * vector for c, vector in pairs))


def evidence_reason(statement: Statement, domain: Domain) -> str:
    """Return why the evidence of a file does not belong to its proof, empty where it does."""
    evidence = statement.evidence
    if evidence is None:
        return ""
    if statement.remainder.shape != (len(statement.vectors),) * 2:
        return "S has not the shape of the vectors"
    if evidence.point is not None and not holds_at(statement.domain, evidence.point):
        return "the point does not lie in the domain"
    field = domain.field
    S = field.total([_square(domain, e, u * v) for e, u, v in _entries(statement)])
    parts = (("remainder", evidence.remainder, S, -1),
             ("positivity", evidence.positivity, statement.positive_part(field), 1))  # fmt: skip
    for name, found, form, sign in parts:
        if found is None:
            continue
        total = field.total([_square(domain, weight, linear**2) for weight, linear in found])
        if not (total - form).is_zero():
            return f"the squares of the {name} do not add up to its form"
        for weight, _ in found:
            if not domain.weakly_signed(field.read(weight), sign):
                return f"the weight {weight} of a square of the {name} is not proved to have the right sign"
    return ""


def _entries(statement: Statement):
    n, vectors = len(statement.vectors), statement.vectors
    entries = statement.remainder.flat()
    return ((entries[n * i + j], vectors[i], vectors[j]) for i in range(n) for j in range(n))


def _square(domain: Domain, weight: Expr, product: Expr) -> Element:
    return domain.field.read(weight) * domain.field.read(product)


@dataclass(frozen=True)
class Sign:
    """A sign that a proof needs: an expression, also written in the distances from the bounds."""

    expression: Expr
    relation: str
    written: Expr
    numerator: Expr
    denominator: Expr
    by: str


def signs_of(statement: Statement, evidence: Evidence | None = None) -> list[Sign]:
    """Return what has to be signed, but for rational numbers."""
    field = statement.new_field()
    domain = Domain(field, statement.domain)
    # a symbol that is its own distance keeps its name
    distances = {b.symbol: b.distance for b in statement.domain if b.is_bounded}
    found = []
    try:
        claims = dict.fromkeys(_signed(statement, evidence or evidence_of(statement), domain))
        for expr, relation in claims:
            element = field.read(expr)
            if element.rational is not None:
                continue
            written, by = domain.on_distances(element), domain.signed_by(element)
            num, den = (Element(field, p, field.one).expr() for p in (written.num, written.den))
            whole, num, den = (e.xreplace(distances) for e in (written.factored(), num, den))
            found.append(Sign(expr, relation, whole, num, den, by))
    except ValueError:  # of a false statement not all can be written so
        return found
    return found


def _signed(statement: Statement, evidence: Evidence, domain: Domain):
    """Pairs of an expression and the relation that the proof needs."""
    functions = statement.function_class
    yield statement.rate, "> 0"
    if statement.law == "factor":
        yield 1 - statement.rate, ">= 0"
    yield functions.mu, ">= 0"
    if functions.L is not None:
        yield functions.L - functions.mu, ">= 0" if functions.kind == "quadratic" else "> 0"
    for m in (*statement.multipliers, *statement.positivity):
        if not m.name.startswith("E"):
            yield m.value, ">= 0"
    for squares_, relation in ((evidence.remainder, "<= 0"), (evidence.positivity, ">= 0")):
        for weight, _ in squares_ or ():
            yield weight, relation
    for expr in (statement.decay, statement.energy, *statement.remainder):
        domain.field.read(expr)
    for divisor in domain.field.divisors:
        yield divisor, "!= 0"
