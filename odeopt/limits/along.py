r"""Gradients and fast averages along the curve, as series in h found as one fixed point.

A pass gains an order of h: gradients enter their points with a step size, and averages that forget follow
:math:`m=(I-B_0)^{-1}[(B_h-B_0)m+r-(m(t+h)-m)]`, B their own block and r what they take in.
"""

from __future__ import annotations

from typing import Any, Protocol

import sympy
from sympy import Add, Expr, Integer, Matrix, Symbol

from odeopt.limits.elimination import Row, ScalarEquation
from odeopt.limits.series import NoLimitError, gradient_series, laurent

__all__ = ["Series"]

Name = tuple[str, int]


class Expansion(Protocol):
    """What is known of the derivation whose gradients are expanded."""

    h: Symbol
    curve: tuple[Symbol, ...]
    equation: ScalarEquation
    row: Row
    family: Any

    def in_time(self, row: Row) -> Row: ...
    def moment(self, row: Row, j: int) -> Expr: ...
    def shifted(self, series: list[Expr], periods: int) -> list[Expr]: ...


class Series:
    """Series of ("g", l) and ("m", i) to a depth; without `forces` averages follow x alone."""

    def __init__(self, derivation: Expansion, depth: int, forces: bool = True) -> None:
        self.derivation: Expansion = derivation
        self.depth: int = depth
        self.forces: bool = forces
        equation = derivation.equation
        self.memories: dict[Name, Row] = {
            ("m", i): derivation.in_time(row) for i, row in equation.slaved.items()
        }
        self.found: dict[Name, list[Expr]] = {m: [Integer(0)] * (depth + 1) for m in self.memories}
        self.points: dict[Name, Row] = {}
        if self.memories:
            self.inverse: Matrix
            self.block: Matrix
            self.inverse, self.block = self._block()
            self._repeat()
        if forces:
            self.points = {("g", i): derivation.in_time(equation.points[i]) for i in self._used()}
            self._repeat()

    def _used(self) -> list[int]:
        """Gradients that the row, an average or another gradient point takes."""
        equation = self.derivation.equation
        used: list[int] = []
        queue = [self.derivation.row, *self.memories.values()]
        while queue:
            new = {v[1] for v in queue.pop() if v[0] == "g"} - set(used)
            used += new
            queue += [equation.points[i] for i in new]
        return sorted(used)

    def _repeat(self) -> None:
        rows = (*self.points.values(), *self.memories.values())
        coupled = any(v[0] != "x" for row in rows for v in row)
        last: dict[Name, list[Expr]] = {}
        for _ in range(self.depth + len(rows) + 2):
            for name, row in self.points.items():
                self.found[name] = gradient_series(self._combination(row), self.derivation.curve)
            if self.memories:
                self.found |= self._averages()
            if self.found == last or not (coupled or self.memories):
                return
            last = dict(self.found)
        raise NoLimitError(_not_through_x(self.derivation))

    def _block(self) -> tuple[Matrix, Matrix]:
        """The inverse of I - B_0, and B_0."""
        names, h = list(self.memories), self.derivation.h

        def entry(i: int, j: int) -> Expr:
            c = self.memories[names[i]].get((*names[j], 0), Integer(0))
            return laurent(c, h, 0).get(0, Integer(0))

        block = Matrix(len(names), len(names), entry)
        return (sympy.eye(len(names)) - block).inv(), block

    def _averages(self) -> dict[Name, list[Expr]]:
        """One pass of the averages."""
        names = list(self.memories)
        right = []
        for i, name in enumerate(names):
            taken, old = self._combination(self.memories[name]), self.found[name]
            ahead = self.derivation.shifted(old, 1)
            own = [
                Add(*(self.block[i, j] * self.found[n][q] for j, n in enumerate(names)))
                for q in range(len(old))
            ]
            right.append([p - o - a + m for p, o, a, m in zip(taken, own, ahead, old, strict=True)])
        return {
            name: [
                sympy.expand(Add(*(self.inverse[i, j] * r[q] for j, r in enumerate(right))))
                for q in range(self.depth + 1)
            ]
            for i, name in enumerate(names)
        }

    def _combination(self, row: Row) -> list[Expr]:
        """The row, as far as its gradients and averages are known."""
        d = self.derivation
        parts: list[list[Expr]] = [[] for _ in range(self.depth + 1)]
        for j in range(self.depth + 1 + _pole(row, d.h)):
            for q, c in laurent(d.moment(row, j), d.h, self.depth - j).items():
                if q + j < 0:
                    raise NoLimitError(_not_through_x(d))
                parts[q + j].append(c * d.curve[j])
        for v, c in row.items():
            if v[0] == "x" or v[:2] not in self.found:
                continue
            series = d.shifted(self.found[v[:2]], v[-1])
            for q, factor in laurent(c, d.h, self.depth).items():
                if q < 0:
                    raise NoLimitError(_not_through_x(d))
                for i, part in enumerate(series[: self.depth - q + 1]):
                    parts[q + i].append(factor * part)
        return [sympy.expand(Add(*part)) for part in parts]


def _not_through_x(d: Expansion) -> str:
    """Why an expansion stops that may have a limit all the same: its points are not given by x alone."""
    return (
        f"no equation for the iterates of {d.family.label} alone was found: without its averages, its "
        f"gradient points hold powers of 1/{d.h}, or gradients whose weights do not vanish with {d.h}; this "
        "says nothing of its iterates. Let the averages that gradient points see, or that change within a "
        f"period, forget (decays away from 1 as {d.h} -> 0)"
    )


def _pole(row: Row, h: Symbol) -> int:
    """Order of the pole at h = 0 in the weights of the iterates."""
    lowest = (min(laurent(c, h, 0), default=0) for v, c in row.items() if v[0] == "x")
    return -min((*lowest, 0))
