r"""What a step is: the one reader that every wing asks.

``read(rule)`` runs the step on linear forms (:mod:`odeopt.rules.forms`) and decides, exactly,

* ``.linear``: next state and gradient points are linear forms of the state and of earlier gradients,

  .. math:: Y=Az+Bg,\qquad g_l=\nabla f(Y_l),\qquad z_{k+1}=Mz+Ng,

  with the state :math:`z=(x_k,\dots,x_{k-q+1},m^1,\dots,m^p)`; else ``.refusal`` (``.reason``, ``.place``)
  says what the step does and in which line. A step that adds a constant is ``.affine``, not linear;
* ``.equivariant``: a shift of f and x_0 shifts all iterates. ``.tau`` are the weights with which the shift
  enters the state, 1 for iterates, and ``.row`` names the row that fails (decay: weights not of sum 1);
* ``.steady_from``: the step is the same for all k from there on (None where it varies), up to ``.period``;
  ``.varies``: it depends on k for ever; ``.law_refusal``: why its law in k was not read (``k % 3`` without a
  declared period); the step can then be read at one k after the other only, ``reading.at(k)``;
* ``.points``: how many gradients a step takes, ``.degree``: the longest chain of nested ones;
* ``.matrices(k)``, ``.law(residue)``: M, N, A, B with exact entries (int, Fraction or sympy) at an integer k,
  or for large k as functions of the symbol ``reading.k``.

``require_linear(rule, purpose, ...)`` returns the reading or refuses in one way for all wings.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import CHANCE, counter
from odeopt.rules.forms import CONSTANT, Form, is_zero
from odeopt.rules.matrices import StepMatrices, equal, matrices_of, shifted, text_of
from odeopt.rules.shifted import first_pull
from odeopt.rules.trace import Refusal, Trace, exact_rule, trace

__all__ = ["Reading", "StepMatrices", "read", "require_linear"]

_K = sympy.Symbol("k", integer=True, positive=True)
# Beside the first steps, an iteration at which the law read for a symbol is compared with the step itself.
_SAMPLE = 33
# Steps over which the weights of a shift are followed where they change with k for ever.
_FOLLOWED = 12


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
    tau: tuple[Any, ...] = ()
    row: str = ""
    readable: UpdateRule | None = field(default=None, repr=False)
    walked: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

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

    @functools.cached_property
    def varies(self) -> bool:
        """Whether the law depends on k for ever, beyond its period."""
        return any(law.has(_K) for law in self.laws)

    @property
    def steady_from(self) -> int | None:
        """First k from which the step is the same every period; None where it varies or was not read."""
        return None if self.varies or not self.laws else self.law_from

    @property
    def equivariant(self) -> bool:
        """Whether a shift of f and x_0 shifts all iterates, to the end of schedules that have one."""
        return self.linear and not self.row_by((self.rule.last_step or 0) + 1)

    @property
    def steps(self) -> tuple[StepMatrices, ...]:
        """All steps that were read."""
        return *self.first.values(), *self.laws

    @property
    def points(self) -> int:
        """Largest number of gradients that a step takes."""
        return max((len(step.A) for step in self.steps), default=0)

    def order(self, k: int) -> tuple[int, ...]:
        """The point of each gradient that the code of step k asks for."""
        lawful = bool(self.laws) and k >= self.law_from
        return self.law(k).order if lawful else self.matrices(k).order

    @property
    def degree(self) -> int:
        """Degree in lambda of one step on a quadratic."""
        return max((step.degree for step in self.steps), default=0)

    def law(self, residue: int = 0) -> StepMatrices:
        """Matrices for large k with k = residue mod period, functions of the symbol ``k`` where they vary."""
        return self.laws[residue % self.period]

    def at(self, k: int) -> StepMatrices | Refusal:
        """Matrices at one iteration, or why the step was not read there."""
        if k in self.first:
            return self.first[k]
        if self.laws and k >= self.law_from:
            return self.law(k).at(_K, k)
        return _step_at(self.readable or self.rule, k)

    def matrices(self, k: int | None = None) -> StepMatrices:
        """Exact matrices at iteration k, without k the law for large k of a rule without period."""
        if k is None:
            return require_linear(self.rule, "step matrices", forever=True).law()
        found = self.at(k)
        if isinstance(found, Refusal):
            raise ValueError(f"the step of {self.rule.label} {_verdict(found)} at k = {k}: it {found}")
        return found

    def shift(self, last: int) -> tuple[tuple[Any, ...], str]:
        """Weights of a shift of f and x_0 after `last` steps; the first row that is no shift, "" if none."""
        tau, row = self._start()
        for k in range(last if not row else 0):
            if self.laws and k >= self.law_from and self._fixed(tau):
                break
            tau, row = shifted(self.matrices(k), tau, self.rule.history)
            if row:
                return tau, f"{row} at k = {k}" if k else row
        return tau, row

    def _start(self) -> tuple[tuple[Any, ...], str]:
        """Weights of a shift before the first step, and which memory is none of x_0 alone."""
        tau = (1,) * self.rule.history + tuple(form.coefficient(("x", 0)) for form in self.start)
        constants = ((i, form.coefficient(CONSTANT)) for i, form in enumerate(self.start))
        rows = (f"memory {i} starts at {text_of(c)} whatever x_0 is" for i, c in constants if c != 0)
        return tau, next(rows, "")

    def walk(self, last: int) -> tuple[tuple[int, Refusal] | None, str]:
        """Read a step without a law k by k, each k once: what is refused, and what is no shift."""
        seen = self.walked
        if not seen:
            tau, row = self._start()
            seen.update(k=0, tau=tau, row=(0, row) if row else None, refused=None)
        while seen["k"] < last and seen["refused"] is None:
            k = seen["k"]
            found = self.at(k)
            if isinstance(found, Refusal):
                seen["refused"] = k, found
            elif seen["row"] is None:
                seen["tau"], row = shifted(found, seen["tau"], self.rule.history)
                seen["row"] = (k, f"{row} at k = {k}") if row else None
            seen["k"] = k + 1
        early = (seen[name] if seen[name] and seen[name][0] < last else None for name in ("refused", "row"))
        refused, row = early
        return refused, row[1] if row else ""

    def row_by(self, last: int) -> str:
        """The first row of the steps below `last` that is no shift, "" if none; a schedule is followed."""
        if self.law_refusal is not None:
            return self.row or self.walk(last)[1]
        if self.row or not (self.rule.is_scheduled and self.rule.is_numeric):
            return self.row
        k = first_pull(self.rule, last)
        return "" if k is None else f"the weights of the iterates do not sum to 1 at k = {k}"

    def _fixed(self, tau: tuple[Any, ...]) -> bool:
        """Whether every period keeps the weights of a shift, so that all later steps are shifted too."""
        after = tau
        for residue in range(self.law_from, self.law_from + self.period):
            after, row = shifted(self.law(residue), after, self.rule.history)
            if row:
                return False
        return all(map(equal, after, tau))


def _step_at(rule: UpdateRule, k: Any) -> StepMatrices | Refusal:
    """One run of the step, as matrices."""
    run = trace(rule, k)
    if isinstance(run, Refusal):
        return run
    found = matrices_of(run, rule.history)
    if is_zero(found.constant):
        return found
    remedy = "keep an anchor in memory instead"
    return Refusal("affine", f"adds the constant {text_of(found.constant)} to a vector; {remedy}")


def read(rule: UpdateRule) -> Reading:
    """Decide what the step of a rule is. Cached: a rule is read once."""
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    return _read(rule)


@functools.lru_cache(maxsize=512)
def _read(rule: UpdateRule) -> Reading:
    period = rule.period
    whole = isinstance(period, numbers.Real) or getattr(period, "is_Integer", False)
    if not whole or isinstance(period, bool) or period < 1 or period != int(period):
        return Reading(rule, Refusal("broken", f"declares period = {period!r}, no positive integer"))
    readable, run = _first_run(rule)
    if isinstance(run, Refusal):
        return Reading(rule, run)
    reading = Reading(rule, period=int(period), start=run.start, readable=readable)
    laws, law_refusal, law_from = _laws(readable, int(period))
    first: dict[int, StepMatrices] = {}
    varies = any(law.has(_K) for law in laws)
    last = rule.last_step
    for k in (*range(law_from + (int(period) if laws else 2)), _SAMPLE):
        if last is not None and k > last:
            continue
        found = _step_at(readable, k)
        if isinstance(found, Refusal):
            again = found.kind != "affine" or _step_at(readable, k) == found
            return dataclasses.replace(reading, refusal=found if again else Refusal("broken", CHANCE))
        first[k] = found
        law = laws[k % len(laws)] if laws and k >= law_from else found
        if not (law.at(_K, k) if varies else law).close(found):
            law_refusal = Refusal("counter", f"does at k = {k} something else than for k in general")
            laws = ()
    if matrices_of(run, rule.history) != first[0]:
        return dataclasses.replace(reading, refusal=Refusal("broken", CHANCE))
    found = {"law_refusal": law_refusal, "first": first, "laws": laws, "law_from": law_from}
    reading = dataclasses.replace(reading, **found)
    # After d + 1 periods a sequence that a steady law makes of d numbers is known for ever.
    periods = len(first[0].M) + 1 + (_FOLLOWED if reading.varies and rule.is_numeric else 0)
    followed = law_from + reading.period * periods if laws else 2
    tau, row = reading.shift(followed if last is None else min(followed, last + 1))
    return dataclasses.replace(reading, tau=tau, row=row)


def _first_run(rule: UpdateRule) -> tuple[UpdateRule, Trace | Refusal]:
    """The run at k = 0, with exact hyperparameters where the step takes them, else with its own floats."""
    try:
        exact = exact_rule(rule)
    except Exception:  # noqa: BLE001 - a validate of the user's own that does not take Fractions
        return rule, trace(rule, 0)
    run = trace(exact, 0)
    if isinstance(run, Refusal) and run.kind == "broken":
        with_floats = trace(rule, 0)
        if not isinstance(with_floats, Refusal) or with_floats.kind != "broken":
            return rule, with_floats
    return exact, run


def _laws(rule: UpdateRule, period: int) -> tuple[tuple[StepMatrices, ...], Refusal | None, int]:
    """The step at a symbolic k in each residue, and the k from which that is the law."""
    laws, law_from = [], 0
    for residue in range(period):
        k = counter(_K, period=period, residue=residue)
        law = _step_at(rule, k)
        if isinstance(law, Refusal):
            return (), law, 0
        laws.append(law)
        law_from = max([law_from, *(seen + 1 for seen in k.seen)])
    return tuple(laws), None, law_from


def require_linear(
    rule: UpdateRule,
    purpose: str,
    *,
    equivariant: bool = False,
    forever: bool = False,
    k: npt.ArrayLike | None = None,
) -> Reading:
    """Return the reading of a linear rule, or refuse it: the one refusal of all wings.

    `purpose` is what the rule then has none of ("transition matrix"); `equivariant` and `forever` (its law in
    k) are asked for too; at iterations up to k a step whose law was not read is read one by one.
    """
    reading = read(rule)
    found, step, last = reading.refusal, f"the step of {rule.label}", 0 if k is None else int(np.max(k))
    if found is not None:
        raise ValueError(f"{step} {_verdict(found)}, so it has no {purpose}: it {found}")
    if reading.law_refusal is not None:
        if forever:
            raise ValueError(f"{step} {reading.law_refusal}, so its {purpose} is not known")
        refused, _ = reading.walk(last)
        if refused is not None:
            verdict = f"{_verdict(refused[1])} at k = {refused[0]}"
            raise ValueError(f"{step} {verdict}, so it has no {purpose}: it {refused[1]}")
    row = reading.row_by(last) if equivariant else ""
    if row:
        raise ValueError(f"{step} is linear, but no step in the error alone, so it has no {purpose}: {row}")
    return reading


def _verdict(refusal: Refusal) -> str:
    nonlinear = refusal.kind in ("nonlinear", "affine")
    return "is not linear in its iterates and memory" if nonlinear else "cannot be read"
