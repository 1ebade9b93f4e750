r"""The matrices of one step: its forms, column by column, and what a shift of the minimiser does to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from odeopt.checks import is_symbolic
from odeopt.rules.forms import CONSTANT, Form, is_zero
from odeopt.rules.trace import Trace

__all__ = ["StepMatrices", "matrices_of", "shifted", "text_of"]

# Row sums of numbers are 1 up to this: what a few float literals in a step leave after they are read.
_ROUNDING = 1e-15

Matrix = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class StepMatrices:
    """Exact entries of :math:`Y=Az+Bg+a`, :math:`z_{k+1}=Mz+Ng+c`; a and c are 0 for a linear step.

    `order` is the point of each gradient that the code asks for: the same twice where it asks twice.
    """

    M: Matrix
    N: Matrix
    A: Matrix
    B: Matrix
    c: tuple[Any, ...] = ()
    a: tuple[Any, ...] = ()
    order: tuple[int, ...] = ()

    @property
    def entries(self) -> Iterable[Any]:
        """All entries, in one order."""
        yield from (v for matrix in (self.M, self.N, self.A, self.B) for row in matrix for v in row)

    @property
    def constant(self) -> Any:
        """A constant that the step adds somewhere, 0 if none."""
        return next((v for v in (*self.c, *self.a) if v != 0), 0)

    @property
    def degree(self) -> int:
        """Longest chain of gradients, each taken at a point that depends on the one before."""
        depth: list[int] = []
        for row in self.B:
            depth.append(1 + max((d for d, b in zip(depth, row, strict=False) if b != 0), default=0))
        return max(depth, default=0)

    def map(self, function: Callable[[Any], Any]) -> StepMatrices:
        """Apply a function to every entry."""
        M, N, A, B = (tuple(tuple(map(function, row)) for row in m) for m in (self.M, self.N, self.A, self.B))
        c, a = tuple(map(function, self.c)), tuple(map(function, self.a))
        return StepMatrices(M, N, A, B, c, a, self.order)

    def at(self, symbol: sympy.Symbol, k: int) -> StepMatrices:
        """Put a number for the symbol of the iteration."""
        if not self.has(symbol):
            return self
        return self.map(lambda v: v.subs(symbol, k) if is_symbolic(v) else v)

    def has(self, symbol: sympy.Symbol) -> bool:
        """Whether an entry depends on the symbol."""
        return any(is_symbolic(v) and v.has(symbol) for v in self.entries)

    def close(self, other: StepMatrices) -> bool:
        """Whether two readings of a step agree, up to what a step that computes with floats rounds."""
        if self == other:
            return True
        same_shape = len(self.A) == len(other.A) and len(self.M) == len(other.M)
        return same_shape and not any(map(_differ, self.entries, other.entries))

    def floats(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """M, N, A, B as float arrays."""
        d, points = len(self.M), len(self.A)

        def array(matrix: Matrix, rows: int, columns: int) -> np.ndarray:
            return np.array([[float(v) for v in row] for row in matrix]).reshape(rows, columns)

        square = array(self.M, d, d), array(self.B, points, points)
        return square[0], array(self.N, d, points), array(self.A, points, d), square[1]


def matrices_of(run: Trace, history: int) -> StepMatrices:
    """The matrices of the forms of one run."""
    state = [("x", j) for j in range(history)] + [("m", i) for i in range(len(run.start))]
    gradients = [("g", i) for i in range(len(run.points))]
    following = [run.x_next, *(Form({v: 1}) for v in state[: history - 1]), *run.memory]

    def rows(forms: Iterable[Form], columns: list[tuple[str, int]]) -> Matrix:
        return tuple(tuple(form.coefficient(v) for v in columns) for form in forms)

    return StepMatrices(
        rows(following, state),
        rows(following, gradients),
        rows(run.points, state),
        rows(run.points, gradients),
        tuple(form.coefficient(CONSTANT) for form in following),
        tuple(form.coefficient(CONSTANT) for form in run.points),
        tuple(run.order),
    )


def _exact(value: Any) -> Any:
    return sympy.sympify(value, strict=True)


def _with_symbols(value: sympy.Expr) -> sympy.Expr:
    """The value with symbols for functions without values, s(0) say, which sympy takes for a number."""
    return value.replace(
        lambda e: isinstance(e, sympy.Function) and not e.free_symbols and not e.evalf().is_comparable,
        lambda e: sympy.Symbol(str(e)),
    )


def _differ(a: Any, b: Any) -> bool:
    if a == b:
        return False
    a, b = (_with_symbols(_exact(v)) for v in (a, b))
    difference = a - b
    if symbols := sorted(difference.free_symbols | a.free_symbols, key=str):
        if is_zero(difference) is not False:
            return False
        # a step may compute with floats, the root of 2 say, beside symbols
        place = {s: sympy.Rational(i + 2, i + 5) for i, s in enumerate(symbols)}
        difference, a = difference.subs(place).evalf(), a.subs(place).evalf()
    return bool(abs(difference) > 1e-12 * max(1.0, abs(a)))


def shifted(step: StepMatrices, tau: tuple[Any, ...], history: int) -> tuple[tuple[Any, ...], str]:
    """Weights of a shift after a step that had tau before it; the row in which it is no shift, "" if none."""
    for point, row in enumerate(step.A):
        total = _total(row, tau)
        if not equal(total, 1):
            where = "the gradient point" if len(step.A) == 1 else f"gradient point {point}"
            return tau, f"the weights of the iterates in {where} sum to {text_of(total)} instead of 1"
    after = tuple(_total(row, tau) for row in step.M)
    if not equal(after[0], 1):
        return tau, f"the weights of the iterates in x_next sum to {text_of(after[0])} instead of 1"
    return (1,) * history + after[history:], ""


def _total(row: tuple[Any, ...], tau: tuple[Any, ...]) -> Any:
    if any(map(is_symbolic, (*row, *tau))):
        return sympy.Add(*(_exact(a) * _exact(b) for a, b in zip(row, tau, strict=True)))
    return sum(a * b for a, b in zip(row, tau, strict=True))


def equal(total: Any, expected: Any) -> bool:
    """Whether two weights are equal; what cannot be decided counts as equal, what floats leave too."""
    if is_symbolic(total) or is_symbolic(expected):
        return is_zero(_exact(total) - _exact(expected)) is not False
    return abs(total - expected) <= _ROUNDING


def text_of(value: Any) -> str:
    """A coefficient in a message."""
    return str(value) if is_symbolic(value) else f"{float(value):.6g}"
