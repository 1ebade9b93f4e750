r"""One run of a step on linear forms: the points at which it takes gradients, and what it returns."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from odeopt.checks import is_finite, is_symbolic
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import Named, StepRefusal
from odeopt.rules.forms import CONSTANT, Form, exact_coefficient
from odeopt.rules.loop import place_of
from odeopt.rules.resolve import changed

__all__ = ["Refusal", "Trace", "exact_rule", "named_rule", "place_of", "trace"]


@dataclass(frozen=True)
class Refusal:
    """Why a step was not read: kind "nonlinear", "affine", "counter" (k) or "broken"; place is its line."""

    kind: str
    reason: str
    place: str = ""

    def __str__(self) -> str:
        return self.reason + (f" ({self.place})" if self.place else "")


@dataclass
class Trace:
    """The forms of one step: next iterate, memories, gradient points and their order, memories at first."""

    x_next: Form = field(default_factory=lambda: Form({}))
    memory: tuple[Form, ...] = ()
    points: list[Form] = field(default_factory=list)
    start: tuple[Form, ...] = ()
    order: list[int] = field(default_factory=list)

    def gradient(self, point: Any) -> Form:
        """Record the point; a gradient asked for twice at one point is the same gradient."""
        if not isinstance(point, Form):
            raise StepRefusal("broken", f"takes the gradient at an object of type {type(point).__name__}")
        point = point.shortened()
        known = [earlier.terms for earlier in self.points]
        if point.terms not in known:
            self.points.append(point)
        self.order.append(known.index(point.terms) if point.terms in known else len(known))
        return Form({("g", self.order[-1]): 1})


def exact_rule(rule: UpdateRule) -> UpdateRule:
    """The rule with every float hyperparameter as the Fraction that it prints as."""

    def read(value: Any) -> Any:
        exact = not isinstance(value, numbers.Real) or isinstance(value, numbers.Rational)
        return value if exact else Fraction(repr(float(value)))

    return rule.map_hyperparameters(read)


def named_rule(rule: UpdateRule) -> UpdateRule:
    """The rule with symbols that functions of numpy take."""

    def name(value: Any) -> Any:
        return Named(value) if is_symbolic(value) else value

    values = rule.hyperparameters.items()
    return changed(rule, {n: tuple(map(name, v)) if isinstance(v, tuple) else name(v) for n, v in values})


def trace(rule: UpdateRule, k: Any, named: bool = False) -> Trace | Refusal:
    """Run the step once on linear forms at iteration k (an int or a guarded Counter).

    A step that fails on sympy's symbols is run again, `named`, on symbols that numpy takes.
    """
    run = Trace()
    try:
        history, start = rule.history, rule.initial_memory(Form({("x", 0): 1}, given=True))
        if isinstance(history, bool) or not isinstance(history, numbers.Integral) or history < 1:
            raise StepRefusal("broken", f"declares history = {history!r}, which is no positive integer")
        if start is not None and not isinstance(start, tuple):
            reason = "must return a tuple with one entry for each running average, or None"
            raise StepRefusal("broken", f"has an initial_memory that {reason}, got {type(start).__name__}")
        run.start = tuple(_start(entry) for entry in start or ())
        iterates = tuple(Form({("x", j): 1}, given=True) for j in range(int(history)))
        memory = tuple(Form({("m", i): 1}, given=True) for i in range(len(run.start)))
        _keep(run, rule.step(k, iterates, memory or start, run.gradient))
    except StepRefusal as error:
        numbers_kept = error.kind == "nonlinear" and any(CONSTANT in form.terms for form in run.start)
        remedy = "; memories are vectors here: write a number as a function of k" if numbers_kept else ""
        return Refusal(error.kind, error.reason + remedy, place_of(error.__traceback__))
    except Exception as error:  # noqa: BLE001 - whatever a user's step raises on forms is a reason to refuse it
        if isinstance(error, (TypeError, AttributeError)) and not named:
            return trace(named_rule(rule), k, named=True)
        return Refusal("broken", _failure(error, rule, run), place_of(error.__traceback__))
    return run


def _keep(run: Trace, result: Any) -> None:
    """Check what the step returned, and keep it."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        found = f"{len(result)} values" if isinstance(result, (tuple, list)) else "one value"
        raise StepRefusal("broken", f"returns {found}; end it with `return x_next, memory`")
    x_next, memory = result
    if not isinstance(x_next, Form):
        raise StepRefusal("broken", f"returns an object of type {type(x_next).__name__} as its next iterate")
    memory = () if memory is None else memory
    if not isinstance(memory, (tuple, list)) or len(memory) != len(run.start):
        entries = isinstance(memory, (tuple, list))
        found = f"{len(memory)} entries" if entries else f"an object of type {type(memory).__name__}"
        kept = f"while initial_memory has {len(run.start)}; return what it was given, updated"
        raise StepRefusal("broken", f"returns as its memory {found}, {kept}")
    run.x_next = x_next.shortened()
    run.memory = tuple(_vector(entry, "returns the memory") for entry in memory)


def _start(entry: Any) -> Form:
    """What a memory starts at; a number is a vector of equal entries there, as it is on arrays."""
    if is_finite(entry) and entry != 0:
        return Form({CONSTANT: exact_coefficient(entry)})
    return _vector(entry, "starts with the memory")


def _vector(entry: Any, what: str) -> Form:
    if isinstance(entry, Form):
        return entry.shortened()
    if isinstance(entry, numbers.Real) and exact_coefficient(entry) == 0:
        return Form({})
    kind = f"{entry!r}" if isinstance(entry, numbers.Real) else f"an object of type {type(entry).__name__}"
    remedy = "memories are vectors, as 0 * x0; write a number as a function of k"
    raise StepRefusal("broken", f"{what} {kind}, which is no vector; {remedy}")


def _failure(error: Exception, rule: UpdateRule, run: Trace) -> str:
    """What to say of an error raised inside the step, without repeating the words of another library."""
    given = f"history = {rule.history} and {len(run.start)} memories"
    remedy = "set the class attribute `history`, or `initial_memory`"
    if isinstance(error, ValueError) and "unpack" in str(error):
        return f"takes apart more or fewer iterates or memories than given, {given}; {remedy}"
    if isinstance(error, IndexError):
        return f"asks for an entry beyond the end, given {given}; {remedy}, or make its table in k longer"
    return f"fails with {type(error).__name__} when it is run on vectors"
