r"""What a step is: the one reader that every wing asks.

``read(rule)`` runs the step on linear forms (:mod:`odeopt.rules.forms`) and decides, exactly,

* ``.linear``: next state and gradient points are linear forms of the state and of the gradients taken before,

  .. math:: Y=Az+Bg,\qquad g_l=\nabla f(Y_l),\qquad z_{k+1}=Mz+Ng,

  with the state :math:`z=(x_k,\dots,x_{k-q+1},m^1,\dots,m^p)`; else ``.refusal`` (``.reason``, ``.place``) says
  what the step does and in which line. A step that adds a constant is ``.affine``, not linear;
* ``.equivariant``: a shift of f and x_0 shifts all iterates. ``.tau`` are the weights with which the shift enters
  the state, 1 for iterates, and ``.row`` names the row that fails (decay: weights that do not sum to 1);
* ``.steady_from``: the step is the same for all k from there on (None where it varies), up to ``.period``;
  ``.varies``: it depends on k for ever; ``.law_refusal``: why its law in k was not read (``k % 3`` without a
  declared period); the step can then be read at one k after the other only, ``reading.at(k)``;
* ``.points``: how many gradients a step takes, ``.degree``: the longest chain of nested ones;
* ``.matrices(k)``, ``.law(residue)``: M, N, A, B with exact entries (int, Fraction or sympy) at an integer k, or
  for large k as functions of the symbol ``reading.k``; ``.floats(k)`` the same as arrays.

``require_linear(rule, purpose, ...)`` returns the reading or refuses in one way for all wings.
"""

from __future__ import annotations

import functools
import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from odeopt.checks import is_symbolic
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import Counter, counter
from odeopt.rules.forms import CONSTANT, Form, is_zero
from odeopt.rules.trace import Refusal, Trace, exact_rule, trace

__all__ = ["Reading", "StepMatrices", "read", "require_linear"]

_K = sympy.Symbol("k", integer=True, positive=True)
# Beside the first steps, iterations at which the law read for a symbol is compared with the step itself.
_SAMPLES = (12, 33)
# Row sums of numbers are 1 up to this: what a float literal in a step, 2/3 say, leaves after it is read.
_ROUNDING = 1e-14

Matrix = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class StepMatrices:
    """Exact entries of :math:`Y=Az+Bg+a`, :math:`z_{k+1}=Mz+Ng+c`; the offsets a, c are 0 for a linear step."""

    M: Matrix
    N: Matrix
    A: Matrix
    B: Matrix
    c: tuple[Any, ...] = ()
    a: tuple[Any, ...] = ()
    calls: int = 0

    @property
    def affine(self) -> bool:
        """Whether a constant is added somewhere."""
        return any(is_zero(v) is not True for v in (*self.c, *self.a))

    @property
    def degree(self) -> int:
        """Longest chain of gradients, each taken at a point that depends on the one before."""
        depth: list[int] = []
        for row in self.B:
            depth.append(1 + max((d for d, b in zip(depth, row, strict=False) if b != 0), default=0))
        return max(depth, default=0)

    def map(self, function) -> StepMatrices:
        """Apply a function to every entry."""
        matrices = (tuple(tuple(map(function, row)) for row in m) for m in (self.M, self.N, self.A, self.B))
        return StepMatrices(*matrices, tuple(map(function, self.c)), tuple(map(function, self.a)), self.calls)

    def floats(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """M, N, A, B as float arrays."""
        d, points = len(self.M), len(self.A)
        shapes = (d, d), (d, points), (points, d), (points, points)
        return tuple(  # type: ignore[return-value]
            np.array([[float(v) for v in row] for row in m]).reshape(shape)
            for m, shape in zip((self.M, self.N, self.A, self.B), shapes, strict=True)
        )


def _matrices(run: Trace, history: int) -> StepMatrices:
    state = [("x", j) for j in range(history)] + [("m", i) for i in range(len(run.start))]
    gradients = [("g", i) for i in range(len(run.points))]
    shift = [Form({v: 1}) for v in state[: history - 1]]
    following = [run.x_next, *shift, *run.memory]

    def rows(forms, columns):
        return tuple(tuple(form.coefficient(v) for v in columns) for form in forms)

    return StepMatrices(
        rows(following, state),
        rows(following, gradients),
        rows(run.points, state),
        rows(run.points, gradients),
        tuple(form.coefficient(CONSTANT) for form in following),
        tuple(form.coefficient(CONSTANT) for form in run.points),
        run.calls,
    )


@dataclass(frozen=True)
class Reading:
    """What the step of a rule is; see the head of this module."""

    rule: UpdateRule
    refusal: Refusal | None = None
    law_refusal: Refusal | None = None
    period: int = 1
    start: tuple[Form, ...] = ()
    first: dict[int, StepMatrices] = field(default_factory=dict, repr=False)
    laws: tuple[StepMatrices, ...] = field(default=(), repr=False)
    law_from: int = 0
    row: str = ""
    readable: UpdateRule | None = field(default=None, repr=False)

    k = _K

    @property
    def affine(self) -> bool:
        """Whether the step is linear but for constants that it adds."""
        return self.refusal is not None and self.refusal.kind == "affine"

    @property
    def linear(self) -> bool:
        """Whether next state and gradient points are linear forms."""
        return self.refusal is None

    @property
    def reason(self) -> str:
        """What the step does that is not linear, "" if it is."""
        return "" if self.refusal is None else self.refusal.reason

    @property
    def place(self) -> str:
        """File, line and text of it."""
        return "" if self.refusal is None else self.refusal.place

    @property
    def varies(self) -> bool:
        """Whether the law depends on k for ever, beyond its period."""
        return any(_depends_on_k(law) for law in self.laws)

    @property
    def steady_from(self) -> int | None:
        """First k from which the step is the same every period; None where it varies or was not read."""
        return None if self.law_refusal is not None or self.varies or not self.laws else self.law_from

    @property
    def equivariant(self) -> bool:
        """Whether a shift of f and x_0 shifts all iterates."""
        return self.linear and not self.row

    @property
    def tau(self) -> tuple[Any, ...]:
        """Weights of a shift in the state: 1 for iterates; for memories how they start, as a multiple of x_0."""
        return (1,) * self.rule.history + tuple(form.coefficient(("x", 0)) for form in self.start)

    @property
    def points(self) -> int:
        """Largest number of gradients that a step takes."""
        return max((len(m.A) for m in (*self.first.values(), *self.laws)), default=0)

    @property
    def calls(self) -> set[int]:
        """How often a step asks for a gradient, over all steps."""
        return {m.calls for m in (*self.first.values(), *self.laws)}

    @property
    def degree(self) -> int:
        """Degree in lambda of one step on a quadratic."""
        return max((m.degree for m in (*self.first.values(), *self.laws)), default=0)

    def law(self, residue: int = 0) -> StepMatrices:
        """Matrices for large k with k = residue mod period, functions of the symbol ``k`` where they vary."""
        return self.laws[residue % self.period]

    def at(self, k: int) -> StepMatrices | Refusal:
        """Matrices at one iteration, or why the step was not read there."""
        if k in self.first:
            return self.first[k]
        if self.laws and k >= self.law_from:
            law = self.law(k)
            return law.map(lambda v: _at(v, k)) if _depends_on_k(law) else law
        run = trace(self.readable or self.rule, int(k))
        if isinstance(run, Refusal):
            return run
        found = _matrices(run, self.rule.history)
        return _affine_refusal(found) or found

    def matrices(self, k: int | None = None) -> StepMatrices:
        """Exact matrices at iteration k; without k the law for large k (period 1). ValueError if not read."""
        if k is None:
            require_linear(self.rule, "step matrices", forever=True)
            return self.law()
        require_linear(self.rule, "step matrices")
        found = self.at(k)
        if isinstance(found, Refusal):
            raise ValueError(f"the step of {self.rule.label} at k = {k} {found}")
        return found


def _depends_on_k(matrices: StepMatrices) -> bool:
    entries = (v for m in (matrices.M, matrices.N, matrices.A, matrices.B) for row in m for v in row)
    return any(is_symbolic(v) and v.has(_K) for v in entries)


def _at(value: Any, k: int) -> Any:
    return value.subs(_K, k) if is_symbolic(value) else value


def _affine_refusal(matrices: StepMatrices) -> Refusal | None:
    if not matrices.affine:
        return None
    constant = next(v for v in (*matrices.c, *matrices.a) if is_zero(v) is not True)
    return Refusal(
        "affine",
        f"adds the constant {_short(constant)} to a vector, and is linear only but for it; keep an anchor in memory instead",
    )


def _short(value: Any) -> str:
    return str(value) if is_symbolic(value) else f"{float(value):.6g}"


@functools.lru_cache(maxsize=512)
def read(rule: UpdateRule) -> Reading:
    """Decide what the step of a rule is. Cached: a rule is read once."""
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {rule!r} of type {type(rule).__name__}")
    period = getattr(rule, "period", 1)
    whole = isinstance(period, numbers.Real) or getattr(period, "is_Integer", False)
    if not whole or isinstance(period, bool) or period != int(period) or period < 1:
        return Reading(rule, Refusal("broken", f"declares period = {period!r}, which is no positive integer"))
    return _Reader(rule, int(period)).reading()


class _Reader:
    """The runs of one reading."""

    def __init__(self, rule: UpdateRule, period: int):
        self.rule, self.period = rule, period
        self.readable = rule

    def reading(self) -> Reading:
        first = self._first_run()
        if isinstance(first, Refusal):
            return Reading(self.rule, first, period=self.period)
        laws, refusal, law_from = self._laws()
        known: dict[int, StepMatrices] = {}
        for k in sorted({*range(law_from + max(2, self.period)), *_SAMPLES}):
            found = self._at(k)
            if isinstance(found, Refusal):
                return Reading(self.rule, found, refusal, self.period, first.start)
            known[k] = found
            if refusal is None and k >= law_from and not _same(laws[k % self.period], found, k):
                refusal = Refusal(
                    "counter", f"does at k = {k} something else than its code says for a general k"
                )
        if self._at(0) != known[0]:
            again = Refusal(
                "broken", "does two things in two runs at the same k; it must depend on its arguments only"
            )
            return Reading(self.rule, again, period=self.period)
        laws = () if refusal is not None else laws
        reading = Reading(
            self.rule, None, refusal, self.period, first.start, known, laws, law_from, readable=self.readable
        )
        return Reading(**{**reading.__dict__, "row": _failing_row(reading)})

    def _first_run(self) -> Trace | Refusal:
        """The run at k = 0, with exact hyperparameters where the step takes them, else with its own floats."""
        try:
            exact = exact_rule(self.rule)
        except Exception:  # a user's validate that does not take Fractions
            exact = self.rule
        run = trace(exact, 0)
        self.readable = exact
        if isinstance(run, Refusal) and run.kind == "broken" and exact is not self.rule:
            with_floats = trace(self.rule, 0)
            if not isinstance(with_floats, Refusal) or with_floats.kind != "broken":
                run, self.readable = with_floats, self.rule
        return run

    def _at(self, k: int) -> StepMatrices | Refusal:
        run = trace(self.readable, k)
        if isinstance(run, Refusal):
            return run
        found = _matrices(run, self.rule.history)
        return _affine_refusal(found) or found

    def _laws(self) -> tuple[tuple[StepMatrices, ...], Refusal | None, int]:
        """The step at a symbolic k in each residue, and the k from which that is the law."""
        laws, law_from = [], 0
        for residue in range(self.period):
            k: Counter = counter(_K, period=self.period, residue=residue)
            run = trace(self.readable, k)
            if isinstance(run, Refusal):
                return (), run, 0
            laws.append(_matrices(run, self.rule.history))
            law_from = max(law_from, *(seen + 1 for seen in k.seen), 0) if k.seen else law_from
        return tuple(laws), None, law_from


def _same(law: StepMatrices, found: StepMatrices, k: int) -> bool:
    """Whether a law gives the step that was run at iteration k."""
    if not _depends_on_k(law):
        return law == found or _close(law, found)
    return _close(law.map(lambda v: _at(v, k)), found)


def _close(one: StepMatrices, other: StepMatrices) -> bool:
    for left, right in zip((one.M, one.N, one.A, one.B), (other.M, other.N, other.A, other.B), strict=True):
        if len(left) != len(right):
            return False
        for a, b in zip(left, right, strict=True):
            if len(a) != len(b) or any(_differ(v, w) for v, w in zip(a, b, strict=True)):
                return False
    return True


def _differ(a: Any, b: Any) -> bool:
    if a == b:
        return False
    difference = sympy.sympify(a) - sympy.sympify(b)
    if difference.free_symbols:
        return is_zero(difference) is False
    return abs(float(difference)) > 1e-12 * max(1.0, abs(float(a)))  # a step may compute with floats


def _failing_row(reading: Reading) -> str:
    """The row of the step that a shift of f and x_0 breaks, "" if there is none: M tau = tau, A tau = 1."""
    for index, form in enumerate(reading.start):
        if is_zero(form.coefficient(CONSTANT)) is not True:
            return f"memory {index} starts at {_short(form.coefficient(CONSTANT))} whatever x_0 is"
    tau, history = reading.tau, reading.rule.history
    for matrices in (*reading.first.values(), *reading.laws):
        for row, entries in enumerate(matrices.A):
            total = _total(entries, tau)
            if not _is_one(total, 1):
                return (
                    f"the weights of the iterates in gradient point {row} sum to {_short(total)} instead of 1"
                )
        for row, entries in enumerate(matrices.M):
            total = _total(entries, tau)
            if _is_one(total, tau[row]):
                continue
            if row < history:
                return f"the weights of the iterates in x_next sum to {_short(total)} instead of 1"
            return (
                f"memory {row - history} starts as {_short(tau[row])} x_0 and becomes {_short(total)} x_0 in a step "
                "without gradients"
            )
    return ""


def _total(entries: tuple[Any, ...], tau: tuple[Any, ...]) -> Any:
    if any(map(is_symbolic, (*entries, *tau))):
        return sympy.Add(*(sympy.sympify(a) * sympy.sympify(b) for a, b in zip(entries, tau, strict=True)))
    return sum(a * b for a, b in zip(entries, tau, strict=True))


def _is_one(total: Any, expected: Any) -> bool:
    if is_symbolic(total) or is_symbolic(expected):
        return is_zero(sympy.sympify(total) - sympy.sympify(expected)) is not False
    return abs(total - expected) <= _ROUNDING


def require_linear(
    rule: UpdateRule, purpose: str, *, equivariant: bool = False, forever: bool = False, k: Any = None
) -> Reading:
    """Return the reading of a linear rule, or refuse it: the one refusal of all wings.

    purpose is what the rule has none of ("transition matrix"); `equivariant` asks for that too, `forever` for the law
    in k, and k for iterations at which a step whose law was not read must be linear.
    """
    reading = read(rule)
    found, step = reading.refusal, f"the step of {rule.label}"
    if found is not None:
        raise ValueError(f"{step} {_verdict(found)}, so it has no {purpose}: it {found}")
    if reading.law_refusal is not None:
        if forever:
            raise ValueError(f"{step} {reading.law_refusal}, so it has no {purpose} that could be read")
        for index in range(0 if k is None else int(np.max(k))):
            found = reading.at(index)
            if isinstance(found, Refusal):
                raise ValueError(
                    f"{step} {_verdict(found)} at k = {index}, so it has no {purpose}: it {found}"
                )
    if equivariant and reading.row:
        raise ValueError(
            f"{step} is linear, but no step in the error alone, so it has no {purpose}: {reading.row}"
        )
    return reading


def _verdict(refusal: Refusal) -> str:
    nonlinear = refusal.kind in ("nonlinear", "affine")
    return "is not linear in its iterates and memory" if nonlinear else "cannot be read"
