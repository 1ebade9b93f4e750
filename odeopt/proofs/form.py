r"""The identities of a certificate with unknown entries, derived once for symbols and kept.

The energy is :math:`V=f+\xi^\top P\xi` with the state :math:`\xi`. For a fixed rate the identity of a
certificate is linear in P and in the multipliers. Equations (the coefficients of function values, and
rows of S whose diagonal entry vanishes whatever the unknowns are) are eliminated exactly, so that the
numerical search sees an interior where there is one.

What is kept is a function of the form of a flow, or of a step as it was read, and of nothing else: an edited
rule meets its own. A proof is computed and verified from its own numbers, whatever form it was found by.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import sympy
from flint import fmpq, fmpq_mpoly
from sympy import Dummy, Expr, Symbol

from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.statement import Multiplier, minus_multipliers

__all__ = ["Form", "derived", "in_symbols"]

_BITS = 256  # of a root in the numbers of an LMI


class Polynomials:
    """Polynomials in the parameters of a form, to be evaluated together."""

    def __init__(self) -> None:
        self._monomials: dict[tuple[Any, ...], int] = {}
        self._kept: list[list[tuple[int, fmpq]]] = []

    def add(self, terms: Mapping[tuple[Any, ...], fmpq]) -> int:
        """Keep a polynomial, {((place, power), ...): coefficient}, and return its number."""
        places = ((self._monomials.setdefault(m, len(self._monomials)), c) for m, c in terms.items())
        self._kept.append(list(places))
        return len(self._kept) - 1

    def at(self, values: Mapping[int, fmpq]) -> list[fmpq]:
        """Return the value of each, exactly."""
        known = []
        for monomial in self._monomials:
            product = fmpq(1)
            for place, power in monomial:
                product *= values[place] ** power
            known.append(product)
        return [sum((c * known[place] for place, c in terms), fmpq(0)) for terms in self._kept]


# Of an entry: (unknown, power of the rate) to the number of a polynomial, and that of its divisor.
Quotient = tuple[dict[tuple[int, int], int], int]


class Form:
    r"""The identities of a certificate with unknown entries, for a flow and a class that may hold symbols.

    Its LMI is :math:`F_0+\sum_mu_mF_m` with blocks -S, T and the multipliers, whose entries are
    polynomials in the rate, with quotients of polynomials in the parameters as coefficients.
    """

    def __init__(
        self,
        flow: Flow | Iteration,
        functions: FunctionClass,
        energy_vectors: Sequence[Symbol],
        names: Sequence[str],
        positivity: Sequence[str],
    ) -> None:
        self.flow: Flow | Iteration = flow
        pairs = itertools.combinations_with_replacement(range(len(energy_vectors)), 2)
        self.rate: Symbol = Dummy("c")
        self.entries: dict[tuple[int, int], Symbol] = {(i, j): Dummy(f"p{i}{j}") for i, j in pairs}
        self.weights: dict[str, Symbol] = {name: Dummy(f"w{name}") for name in names}
        self.positive_weights: dict[str, Symbol] = {name: Dummy(f"n{name}") for name in positivity}
        self._all: list[Symbol] = [
            *self.weights.values(), *self.positive_weights.values(), *reversed(self.entries.values())
        ]  # fmt: skip
        given = (*flow.constants, *flow.varying, functions.mu, functions.L)
        self.parameters: list[Symbol] = sorted(
            set().union(*(e.free_symbols for e in given if e is not None)), key=str
        )
        self.field: Field = Field((self.rate, *self.parameters, *self._all, *flow.gens, time))
        self.solution: dict[Symbol, Element] = {}
        # of the eliminated unknowns; at numbers where one vanishes the form is another
        self.pivots: list[Element] = []
        self.impossible: bool = False
        S, T = self._forms(functions, energy_vectors)
        self.unknowns: list[Symbol] = [s for s in self._all if s not in self.solution]
        self._compile(S, T)

    def _forms(self, functions: FunctionClass, energy_vectors: Sequence[Symbol]) -> tuple[list, list]:
        """S and T, as rows, in the unknowns that are left."""
        field, flow = self.field, self.flow
        products = (
            (1 if i == j else 2) * p * energy_vectors[i] * energy_vectors[j]
            for (i, j), p in self.entries.items()
        )
        energy = sympy.Add(flow.values[0], *products)
        rate = 1 - self.rate if isinstance(flow, Iteration) else self.rate

        def used(weights: Mapping[str, Symbol], sign: int) -> tuple[Multiplier, ...]:
            granted = (functions.inequality(name, flow.points, flow.tangents) for name in weights)
            return tuple(
                Multiplier(n, sign * w, a) for (n, w), a in zip(weights.items(), granted, strict=True)
            )

        left = minus_multipliers(field, flow.decrease(field, energy, rate), used(self.weights, 1))
        right = minus_multipliers(field, field.read(energy), used(self.positive_weights, -1))
        left, right = left.collect(flow.gens), right.collect(flow.gens)
        self.vectors: list[Symbol]
        self.positive_vectors: list[Symbol]
        self.vectors, self.positive_vectors = (
            [s for s in flow.vectors if any(s in monomial for monomial in p)] for p in (left, right)
        )
        equations = [p[(s,)] for p in (left, right) for s in flow.values if (s,) in p]
        S, T = self._rows(left, self.vectors), self._rows(right, self.positive_vectors)
        for _ in range(3):
            for equation in equations:
                self._eliminate(equation)
            S, T = ([[e.substitute(self.solution) for e in row] for row in rows] for rows in (S, T))
            equations = _beside_zeros(S) + _beside_zeros(T)
            if not equations:
                break
        return S, T

    def _rows(self, polynomial: Mapping, vectors: Sequence[Symbol]) -> list[list[Element]]:
        """The matrix of the quadratic part, zeros and all."""
        zero, half = self.field.number(fmpq(0)), self.field.number(fmpq(1, 2))

        def entry(i: int, j: int) -> Element:
            found = polynomial.get((vectors[min(i, j)], vectors[max(i, j)]), zero)
            return found if i == j else found * half

        return [[entry(i, j) for j in range(len(vectors))] for i in range(len(vectors))]

    def _eliminate(self, equation: Element) -> None:
        """Solve equation = 0 for the first unknown whose coefficient does not move with the rate."""
        rest = equation.substitute(self.solution)
        parts = rest.collect(self._all)
        fixed = {s for s in self._all if (s,) in parts and self.rate not in parts[s,].symbols()}
        first = next((s for s in self._all if s in fixed and not parts[s,].is_zero()), None)
        if first is None:
            self.impossible |= not rest.is_zero()
            return
        pivot, unknown = parts[first,], self.field.read(first)
        value = (pivot * unknown - rest) / pivot
        self.pivots.append(pivot)
        self.solution = {s: e.substitute({first: value}) for s, e in self.solution.items()} | {first: value}

    @cached_property
    def written(self) -> dict[Symbol, Expr]:
        """Each unknown in terms of those that are left, the rate and the parameters."""
        return {s: self.solution[s].expr() if s in self.solution else s for s in self._all}

    def _compile(self, S: list, T: list) -> None:
        """Keep the entries of the LMI as polynomials in rate and parameters."""
        weights = [
            *(w for n, w in self.weights.items() if not n.startswith("E")),
            *self.positive_weights.values(),
        ]
        read = (self.field.read(w).substitute(self.solution) for w in weights)
        values = [e for e in read if e.symbols()]
        blocks = [[[-e for e in row] for row in S], T, *([[e]] for e in values)]
        labels = [*(("S", s) for s in self.vectors), *(("T", s) for s in self.positive_vectors)]
        labels += [("weight", None)] * len(values)
        self.polynomials: Polynomials = Polynomials()
        cells, start = {}, 0
        for block in blocks:
            for i, j in itertools.combinations_with_replacement(range(len(block)), 2):
                if not block[i][j].is_zero():
                    cells[start + i, start + j] = self._quotient(block[i][j])
            start += len(block)
        kept = [i for i in range(start) if any(i in cell for cell in cells)]
        self.labels: list[tuple[str, Symbol | None]] = [labels[i] for i in kept]
        self.cells: dict[tuple[int, int], Quotient] = {
            (kept.index(i), kept.index(j)): quotient for (i, j), quotient in cells.items()
        }
        self._pivots: list[Quotient] = [self._quotient(pivot) for pivot in self.pivots]

    def _quotient(self, element: Element) -> Quotient:
        num, den = (self._split(self.field.lift(p)) for p in (element.num, element.den))
        return num, den[0, 0]

    def _split(self, polynomial: fmpq_mpoly) -> dict[tuple[int, int], int]:
        """The number of the unknown (0: none) and the power of the rate, to their coefficient."""
        index = {self.field.index[s]: m for m, s in enumerate(self.unknowns, 1)}
        parts: dict[tuple[int, int], dict[tuple, fmpq]] = {}
        for exponents, c in polynomial.to_dict().items():
            held = [(place, int(e)) for place, e in enumerate(exponents) if e]
            unknown = next((index[place] for place, _ in held if place in index), 0)
            rest = tuple((place, e) for place, e in held if place and place not in index)
            parts.setdefault((unknown, int(exponents[0])), {})[rest] = c
        return {key: self.polynomials.add(terms) for key, terms in parts.items()}

    def values(self, numbers: Mapping[Symbol, fmpq]) -> list[fmpq]:
        """The coefficients of the polynomials, with numbers for the parameters."""
        return self.polynomials.at(self._roots | {self.field.index[s]: value for s, value in numbers.items()})

    @cached_property
    def _roots(self) -> dict[int, fmpq]:
        """Fractions near the roots that the numbers of a flow hold."""
        field = self.field
        places = range(field.size, field.context.nvars())
        return {place: field.balls(_BITS, field.context.gen(place)).mid().fmpq() for place in places}

    def is_that_of(self, values: list[fmpq]) -> bool:
        """Whether at these numbers no pivot, no diagonal entry and no divisor vanishes for all rates."""
        divisors = [den for _, den in (*self.cells.values(), *self._pivots)]
        above = [num for (i, j), (num, _) in self.cells.items() if i == j] + [num for num, _ in self._pivots]
        parts = (*([den] for den in divisors), *(num.values() for num in above))
        return not self.impossible and all(any(values[place] != 0 for place in part) for part in parts)

    def matrices(self, values: list[fmpq]) -> np.ndarray:
        """Coefficients of the powers of the rate, shape (powers, 1 + unknowns, n, n)."""
        n, highest = len(self.labels), max(power for num, _ in self.cells.values() for _, power in num)
        found = np.zeros((1 + highest, 1 + len(self.unknowns), n, n))
        for (i, j), (num, den) in self.cells.items():
            for (m, power), place in num.items():
                found[power, m, i, j] = found[power, m, j, i] = _float(values[place] / values[den])
        return found


def _float(value: fmpq) -> float:
    return int(value.p) / int(value.q)  # correctly rounded


def _beside_zeros(rows: list[list[Element]]) -> list[Element]:
    """Entries beside a diagonal entry that vanishes identically: they must vanish too."""
    empty = (i for i, row in enumerate(rows) if row[i].is_zero())
    return [e for i in empty for e in rows[i] if not e.is_zero()]


@lru_cache(maxsize=64)
def derived(*form: Any) -> Form:
    """Return a form, the same one where it was asked for before."""
    return Form(*form)


def in_symbols(
    flow: Flow | Iteration, functions: FunctionClass
) -> tuple[Flow | Iteration, FunctionClass, dict[Symbol, Expr]]:
    """A symbol for each coefficient that is not 0 or absent, and its value."""
    values: dict[Symbol, Expr] = {}

    def named(name: str, value: Any) -> Any:
        if value is None or value == 0:
            return value
        values[symbol := Symbol(name, real=True)] = value
        return symbol

    general = replace(functions, mu=named("mu", functions.mu), L=named("L", functions.L))
    if isinstance(flow, Iteration):
        return Iteration(*(named(n, getattr(flow, n)) for n in ("lr", "beta", "gamma"))), general, values
    friction = tuple(named(f"b_{j}", b) for j, b in enumerate(flow.friction, 1))
    return Flow(friction, named("force", flow.force), named("hessian", flow.hessian)), general, values
