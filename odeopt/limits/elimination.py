r"""One equation for the iterate: the memories of a linear step, eliminated over the ring of its shifts.

A linear step is a system of difference equations in the sequences x, m and g. With the shift
:math:`(\zeta u)_k=u_{k+p}`, p the period, it is a matrix of polynomials in :math:`\zeta` with
coefficients in k, :math:`\zeta\,c(k)=c(k+p)\,\zeta`. Elimination by pivots that hold a memory at one shift
only leaves one row, in x and gradients.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, Integer, Rational, Symbol

from odeopt.limits.slow import is_rational, names_of, with_symbols
from odeopt.rules.forms import is_zero
from odeopt.rules.reading import Reading

__all__ = [
    "LinearStep", "Row", "ScalarEquation", "are_determined", "cancelled", "combination", "eliminate",
    "exact", "linear_step", "shift", "shortened",
]  # fmt: skip

# ("x", s), ("m", i, s) or ("g", l, s), the last entry a shift in periods, to its coefficient
Row = dict[tuple[Any, ...], Any]


@dataclass(frozen=True)
class LinearStep:
    """One period of a linear rule, in x (shifts -1, -2, ... for its history), memories and gradients."""

    reading: Reading
    x_next: Row
    memory: tuple[Row, ...]
    points: tuple[Row, ...]

    @property
    def k(self) -> Symbol:
        """The iteration at which the period begins."""
        return self.reading.k

    @property
    def period(self) -> int:
        """Steps to a period."""
        return self.reading.period


@dataclass(frozen=True)
class ScalarEquation:
    """``row`` = 0 in x and gradients; ``slaved`` maps memories that it or its points hold to rows = 0."""

    step: LinearStep
    row: Row
    points: tuple[Row, ...]
    slaved: dict[int, Row]


def exact(value: Any) -> Expr:
    """A coefficient as sympy takes it."""
    rational = isinstance(value, Fraction)
    return Rational(value.numerator, value.denominator) if rational else sympy.sympify(value, strict=True)


def linear_step(reading: Reading) -> LinearStep:
    """One period of a linear rule from its law; with a period above 1 the history becomes memory."""
    k, period, q = reading.k, reading.period, reading.rule.history
    size = len(reading.law().M)
    if period == 1:
        state: list[Row] = [{("x", -j): Integer(1)} for j in range(q)]
    else:
        state = [{("x", 0): Integer(1)}, *({("m", j, 0): Integer(1)} for j in range(q - 1))]
    first = len(state) - q if period == 1 else q - 1
    state += [{("m", first + i, 0): Integer(1)} for i in range(size - q)]
    points: list[Row] = []
    for residue in range(period):
        law = reading.law(residue).map(lambda c, r=residue: exact(c).subs(k, k + r))
        own: list[Row] = []
        for a, b in zip(law.A, law.B, strict=True):
            gradients = [{("g", len(points) + i, 0): Integer(1)} for i in range(len(own))]
            own.append(combination(zip((*a, *b), (*state, *gradients), strict=False)))
        gradients = [{("g", len(points) + i, 0): Integer(1)} for i in range(len(own))]
        state = [
            combination(zip((*m, *n), (*state, *gradients), strict=True))
            for m, n in zip(law.M, law.N, strict=True)
        ]
        points += own
    count = q if period == 1 else 1
    return LinearStep(reading, state[0], tuple(state[count:]), tuple(points))


def combination(parts: Iterable[tuple[Expr, Row]]) -> Row:
    """Sum of multiples of rows, coefficients cancelled, zeros dropped."""
    total: dict[tuple, list[Expr]] = {}
    for factor, row in parts:
        for term, c in row.items():
            total.setdefault(term, []).append(factor * c)
    short = {term: shortened(sympy.Add(*cs)) for term, cs in total.items()}
    return {term: c for term, c in short.items() if c != 0}


def shortened(c: Expr) -> Expr:
    """A coefficient cancelled."""
    if c.is_number or c.is_Symbol:
        return c
    if is_rational(c):
        return cancelled(c)
    return Integer(0) if is_zero(c) else sympy.powsimp(c)


def cancelled(c: Expr) -> Expr:
    """A rational function cancelled, in the field of its symbols, where its numbers are rational."""
    named = names_of(c)
    plain = c.xreplace(named)
    symbols = sorted(plain.free_symbols, key=str)
    rational = all(n.is_Rational for n in plain.atoms(sympy.Number, sympy.NumberSymbol))
    powers = all(p.exp.is_Integer for p in plain.atoms(sympy.Pow))
    if not (symbols and rational and powers and plain.is_rational_function(*symbols)):
        return sympy.cancel(c)
    field = sympy.QQ.frac_field(*symbols)
    return field.to_sympy(field.from_sympy(plain)).xreplace({d: s for s, d in named.items()})


def shift(row: Row, steps: int, k: Symbol, period: int) -> Row:
    r"""Apply :math:`\zeta^s` from the left."""
    if steps == 0:
        return row
    return {(*term[:-1], term[-1] + steps): c.subs(k, k + steps * period) for term, c in row.items()}


def eliminate(step: LinearStep, h: Symbol | None = None) -> ScalarEquation | None:
    """Eliminate the memories; None if one that forgets slowly is seen by gradient points alone.

    Of several memories those that forget as h -> 0 are left to follow: a pivot on a weight that vanishes
    with h would leave poles.
    """
    several = len(step.memory) > 1 or step.period > 1
    fast = _forgetting(step, h) if several and h is not None else set()
    rows = [combination([(Integer(1), {("x", 1): Integer(1)}), (Integer(-1), step.x_next)])]
    own = {}
    for i, change in enumerate(step.memory):
        own[i] = combination([(Integer(1), {("m", i, 1): Integer(1)}), (Integer(-1), change)])
    unknown = set(own) - fast
    rows += [own[i] for i in unknown]
    followed, points = {i: own[i] for i in fast}, list(step.points)
    while unknown:
        pivot = _pivot(rows, unknown)
        if pivot is None:
            if not _reduce(rows, unknown, step):
                break
            continue
        place, i, term = pivot
        row = dict(rows.pop(place))
        lead = row.pop(term)
        solved = shift(combination([(-1 / lead, row)]), -term[-1], step.k, step.period)
        rows = [_replaced(r, i, solved, step) for r in rows]
        points = [_replaced(r, i, solved, step) for r in points]
        followed = {j: _replaced(r, i, solved, step) for j, r in followed.items()}
        unknown.discard(i)
    followed |= {i: next(r for r in rows if _shifts(r, i) and _shifts(r, i)[-1] == 1) for i in unknown}
    (row,) = [r for r in rows if not any(_shifts(r, i) for i in unknown)]
    return _scalar(step, row, points, followed)


def _forgetting(step: LinearStep, h: Symbol) -> set[int]:
    """Memories whose own recursions determine them as h -> 0."""
    rows = {}
    for i, change in enumerate(step.memory):
        rows[i] = combination([(Integer(1), {("m", i, 1): Integer(1)}), (Integer(-1), change)])
    fast = {i: row for i, row in rows.items() if _block_at_zero({i: row}, step, h)[0] != 0}
    return set(fast) if are_determined(fast, step, h) else set()


def are_determined(rows: dict[int, Row], step: LinearStep, h: Symbol) -> bool:
    """Whether rows determine their memories as h -> 0: the weights of these are finite and regular there."""
    block = _block_at_zero(rows, step, h)
    return all(c.is_finite is not False for c in block) and sympy.simplify(block.det()) != 0


def _block_at_zero(rows: dict[int, Row], step: LinearStep, h: Symbol) -> sympy.Matrix:
    """Weights of memories in their own rows, shifts left out, as h -> 0 with k = 1/h."""

    def at_zero(c: Expr) -> Expr:
        at_one = c.subs(step.k, 1 / h)
        return with_symbols(at_one, h, 2, lambda e: sympy.limit(e, h, 0, "+")) if c.has(h, step.k) else c

    def entry(row: Row, i: int) -> Expr:
        return sympy.Add(*(at_zero(c) for v, c in row.items() if v[:2] == ("m", i)))

    return sympy.Matrix([[entry(row, i) for i in rows] for row in rows.values()])


def _shifts(row: Row, i: int) -> list[int]:
    return sorted(term[-1] for term in row if term[:2] == ("m", i))


def _pivot(rows: list[Row], unknown: set[int]) -> tuple[int, int, tuple] | None:
    """A row that holds an unknown memory at one shift only, the shortest such row."""
    found = [(len(r), n, i) for n, r in enumerate(rows) for i in unknown if len(_shifts(r, i)) == 1]
    if not found:
        return None
    _, n, i = min(found)
    return n, i, ("m", i, _shifts(rows[n], i)[0])


def _reduce(rows: list[Row], unknown: set[int], step: LinearStep) -> bool:
    """One step of Euclid's algorithm on a memory that two rows hold; False if there is none."""
    for i in unknown:
        spans = sorted((s[-1] - s[0], n, s[-1]) for n, r in enumerate(rows) if (s := _shifts(r, i)))
        if len(spans) < 2:
            continue
        (_, low, low_top), (_, high, high_top) = spans[0], spans[1]
        moved = shift(rows[low], high_top - low_top, step.k, step.period)
        factor = rows[high]["m", i, high_top] / moved["m", i, high_top]
        rows[high] = combination([(Integer(1), rows[high]), (-factor, moved)])
        return True
    return False


def _replaced(row: Row, i: int, solved: Row, step: LinearStep) -> Row:
    if not _shifts(row, i):
        return row
    parts: list[tuple[Expr, Row]] = [(Integer(1), {v: c for v, c in row.items() if v[:2] != ("m", i)})]
    parts += [(row["m", i, s], shift(solved, s, step.k, step.period)) for s in _shifts(row, i)]
    return combination(parts)


def _scalar(step: LinearStep, row: Row, points: list[Row], followed: dict[int, Row]) -> ScalarEquation:
    """Normalise the row of x, and keep the recursions of the memories that it or its points need."""
    newest = max((term[-1] for term in row if term[0] == "x"), default=1)
    row = shift(row, 1 - newest, step.k, step.period)
    row = combination([(1 / row["x", 1], row)])
    slaved: dict[int, Row] = {}
    queue, seen = [row], set()
    while queue:
        for term in queue.pop():
            if term[0] == "g" and term[1] not in seen:
                seen.add(term[1])
                queue.append(points[term[1]])
            if term[0] == "m" and term[1] not in slaved:
                slaved[term[1]] = followed[term[1]]
                queue.append(slaved[term[1]])
    return ScalarEquation(step, row, tuple(points), slaved)
