r"""Gradients and fast averages along the curve, as series in h that are found as far as they are needed.

The averages that are left to follow solve their recursions :math:`Am+r=0` order by order: with the limit
:math:`A_0` of A as h tends to 0, shifts left out, the coefficient of :math:`h^q` is

.. math:: m_q=-A_0^{-1}\bigl(r_q+[(A-A_0)m]_q\bigr),

where the bracket holds :math:`m_0,\dots,m_{q-1}` only. Gradients enter their points with a step size, so
those of an order follow from points of lower orders.
"""

from __future__ import annotations

from typing import Any, Protocol

import sympy
from sympy import Add, Expr, Integer, Matrix, Symbol

from odeopt.limits.elimination import Row, ScalarEquation
from odeopt.limits.laurent import analytic, laurent
from odeopt.limits.series import NoLimitError, combined, gradient_coefficient, time_derivative

__all__ = ["Series"]

Name = tuple[str, int]


class Expansion(Protocol):
    """What is known of the derivation whose gradients are expanded."""

    h: Symbol
    t: Symbol
    period: int
    curve: tuple[Symbol, ...]
    equation: ScalarEquation
    row: Row
    family: Any

    def in_time(self, row: Row) -> Row: ...
    def moment(self, row: Row, j: int) -> Expr: ...


class Series:
    """Coefficients of ("g", l) and ("m", i) in h; without `forces` gradients are 0 and averages follow x."""

    def __init__(self, derivation: Expansion, forces: bool = True) -> None:
        self.derivation: Expansion = derivation
        self.forces: bool = forces
        equation = derivation.equation
        self.memories: dict[Name, Row] = {
            ("m", i): derivation.in_time(row) for i, row in equation.slaved.items()
        }
        self.block: Matrix = self._block()
        if self.memories and sympy.simplify(self.block.det()) == 0:
            raise NoLimitError(self._refusal({}))
        self.inverse: Matrix = self.block.inv()
        self._points: dict[Name, Row] = {}
        self._known: dict[tuple[Name, int], Expr | None] = {}
        self._rates: dict[tuple[Name, int, int], Expr] = {}
        self._moments: dict[tuple[int, int], Expr] = {}

    def _block(self) -> Matrix:
        """A_0."""
        names = list(self.memories)

        def entry(i: int, j: int) -> Expr:
            weights = [c for v, c in self.memories[names[i]].items() if v[:2] == names[j]]
            return Add(*(self._powers(c, 0, self.memories[names[i]]).get(0, Integer(0)) for c in weights))

        return Matrix(len(names), len(names), entry)

    def _powers(self, coefficient: Expr, order: int, row: Row) -> dict[int, Expr]:
        """Laurent coefficients of a weight that must have no pole."""
        found = analytic(coefficient, self.derivation.h, order)
        if min(found, default=0) < 0:
            raise NoLimitError(self._refusal(row))
        return found

    def coefficient(self, name: Name, q: int) -> Expr:
        """The coefficient of h^q in a gradient or an average."""
        if name[0] == "g" and not self.forces:
            return Integer(0)
        if (name, q) not in self._known:
            self._known[name, q] = None
            self._known[name, q] = self._gradient(name, q) if name[0] == "g" else self._average(name, q)
        found = self._known[name, q]
        if found is None:  # it is asked for on the way to itself
            raise NoLimitError(self._refusal({}))
        return found

    def _gradient(self, name: Name, q: int) -> Expr:
        if name not in self._points:
            self._points[name] = self.derivation.in_time(self.derivation.equation.points[name[1]])
        row, curve = self._points[name], self.derivation.curve
        return gradient_coefficient([self.combination(row, i) for i in range(q + 1)], curve)

    def _average(self, name: Name, q: int) -> Expr:
        """A component of m_q; of the other rows it takes those that its own inverse needs."""
        names = list(self.memories)
        place = names.index(name)
        rests = [
            (-w, self.combination(self.memories[other], q, following=True))
            for w, other in zip(self.inverse.row(place), names, strict=True)
            if w != 0
        ]
        return combined(Add(*(w * rest for w, rest in rests)), self.derivation.curve)

    def combination(self, row: Row, q: int, following: bool = False) -> Expr:
        """The coefficient of h^q in a row; `following`, without what A_0 says of averages at this order."""
        d = self.derivation
        parts: list[Expr] = []
        for j in range(q + 1 + _pole(row, d.h)):
            powers = analytic(self._moment(row, j), d.h, q - j)
            if any(i + j < 0 for i in powers):
                raise NoLimitError(self._refusal(row))
            parts.append(powers.get(q - j, Integer(0)) * d.curve[j])
        for v, c in row.items():
            if v[0] == "x" or (v[0] == "g" and not self.forces):
                continue
            for i, factor in self._powers(c, q, row).items():
                own = following and i == 0 and v[0] == "m"
                parts.append(factor * self._shifted(v[:2], v[-1], q - i, own))
        return combined(Add(*parts), d.curve)

    def _moment(self, row: Row, j: int) -> Expr:
        """The moment of a row, which every order asks for."""
        if (id(row), j) not in self._moments:
            self._moments[id(row), j] = self.derivation.moment(row, j)
        return self._moments[id(row), j]

    def _shifted(self, name: Name, periods: int, q: int, later: bool) -> Expr:
        """The coefficient of h^q at t + s h; `later`, without that at t itself."""
        s = Integer(periods * self.derivation.period)
        orders = range(int(later), q + 1) if s else range(int(later), 1)
        return Add(*(s**j / sympy.factorial(j) * self._rate(name, q - j, j) for j in orders))

    def _rate(self, name: Name, q: int, j: int) -> Expr:
        """The derivative of order j of a coefficient."""
        if j == 0:
            return self.coefficient(name, q)
        if (name, q, j) not in self._rates:
            d, last = self.derivation, self._rate(name, q, j - 1)
            self._rates[name, q, j] = time_derivative(last, d.t, d.curve) if last != 0 else last
        return self._rates[name, q, j]

    def _refusal(self, row: Row) -> str:
        """Why an expansion stops that may have a limit all the same: its points are not given by x alone."""
        h = self.derivation.h
        if row is self.derivation.row:
            return f"the step has a pole at {h} = 0: {row}"
        return (
            f"no equation for the iterates of {self.derivation.family.label} alone was found: without its "
            f"averages, its gradient points hold powers of 1/{h}, or gradients whose weights do not vanish "
            f"with {h}; this says nothing of its iterates. Let the averages that gradient points see, or "
            f"that change within a period, forget (decays away from 1 as {h} -> 0)"
        )


def _pole(row: Row, h: Symbol) -> int:
    """Order of the pole at h = 0 in the weights of the iterates."""
    lowest = (min(laurent(c, h, 0), default=0) for v, c in row.items() if v[0] == "x")
    return -min((*lowest, 0))
