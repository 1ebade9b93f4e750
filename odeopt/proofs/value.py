r"""How much of f an energy holds: the constant in :math:`V\ge\kappa f`."""

from __future__ import annotations

import sympy
from sympy import Expr

from odeopt.proofs.exact.domain import Domain
from odeopt.proofs.exact.field import Element
from odeopt.proofs.identity import quadratic_rows
from odeopt.proofs.statement import Statement

__all__ = ["value_constant"]

_FRACTIONS = 12  # halvings by which the constant of an iteration is found


def value_constant(statement: Statement) -> Expr:
    r"""Return a :math:`\kappa` with :math:`V\ge\kappa f` by the proof of V >= 0; ValueError if none is seen.

    With G(x) it is the largest one; with A(0,*) a simple fraction near it, for numbers.
    """
    names = [m.name for m in statement.positivity]
    if len(names) == 1 and names[0] in ("G(x)", "G(0)", "A(0,*)"):
        found = _Value(statement)
        return found.by_parabola() if names[0].startswith("G") else found.by_interpolation()
    raise ValueError("f is compared with V only where V >= 0 rests on one inequality at x")


class _Value:
    def __init__(self, statement: Statement):
        self.statement, self.field = statement, statement.new_field()
        self.domain = Domain(self.field, statement.domain)
        self.weight = self.field.read(statement.positivity[0].value)
        part = statement.positive_part(self.field)
        self.form = part
        self.rows = quadratic_rows(part, statement.flow.gens, statement.vectors)

    def by_parabola(self) -> Expr:
        """V - kappa f = (weight - kappa)(f - mu/2 |x|^2) + z'Tz - kappa mu/2 |x|^2."""
        mu = self.statement.function_class.mu
        if mu == 0:
            return self.weight.factored()
        ratio = self._least() / self.field.read(mu / 2)
        for smaller, larger in ((ratio, self.weight), (self.weight, ratio)):
            if self.domain.nonnegative(larger - smaller) and self.domain.nonnegative(smaller):
                return smaller.factored()
        raise ValueError("the smaller of two constants depends on the parameters")

    def _least(self) -> Element:
        """The least z'Tz over all vectors with first entry 1."""
        rest = [list(row) for row in self.rows]
        if self.statement.vectors[0] != next(iter(self.statement.flow.points.values()))[0]:
            raise ValueError("f is not taken at the first of the vectors")
        for k in reversed(range(1, len(rest))):
            pivot, column = rest[k][k], [row[k] for row in rest]
            if pivot.is_zero():
                if not all(e.is_zero() for e in column):
                    raise ValueError("V is no sum of squares in this order")
                continue
            for i in range(k):
                for j in range(k):
                    rest[i][j] = rest[i][j] - column[i] * column[j] / pivot
        return rest[0][0]

    def by_interpolation(self) -> Expr:
        """V - kappa f = (weight - kappa)(-A(0,*)) + z'Tz - kappa h with A(0,*) = h - f."""
        statement, read = self.statement, self.field.read
        if self.weight.rational is None:
            raise ValueError("the constant of an iteration is found for numbers")
        h = read(statement.positivity[0].inequality) + read(statement.flow.values[0])
        low, high = sympy.S.Zero, sympy.Rational(int(self.weight.rational.p), int(self.weight.rational.q))
        for _ in range(_FRACTIONS):
            middle = (low + high) / 2
            rows = quadratic_rows(self.form - read(middle) * h, statement.flow.gens, statement.vectors)
            low, high = (middle, high) if self.domain.semidefinite(rows) else (low, middle)
        return low
