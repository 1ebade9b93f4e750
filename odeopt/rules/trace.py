r"""One run of a step on linear forms: the points at which it takes gradients, and what it returns."""

from __future__ import annotations

import linecache
import numbers
import os
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import Any

from odeopt.rules import base, counter, forms
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import StepRefusal
from odeopt.rules.forms import Form, exact_coefficient

__all__ = ["Refusal", "Trace", "exact_rule", "trace"]


@dataclass(frozen=True)
class Refusal:
    """Why a step was not read: kind is "nonlinear", "counter" (k) or "broken"; place is the line of the user's step."""

    kind: str
    reason: str
    place: str = ""

    def __str__(self) -> str:
        return self.reason + (f" ({self.place})" if self.place else "")


@dataclass
class Trace:
    """The forms of one step: next iterate, memories, gradient points, and the memories before the first step."""

    x_next: Form = field(default_factory=lambda: Form({}))
    memory: tuple[Form, ...] = ()
    points: list[Form] = field(default_factory=list)
    start: tuple[Form, ...] = ()
    calls: int = 0

    def gradient(self, point: Any) -> Form:
        """Record the point; a gradient asked for twice at one point is the same gradient."""
        if not isinstance(point, Form):
            raise StepRefusal(
                "broken",
                f"takes the gradient at an object of type {type(point).__name__} instead of a vector",
            )
        self.calls += 1
        point = point.shortened()
        for index, earlier in enumerate(self.points):
            if earlier.terms == point.terms:
                return Form({("g", index): 1})
        self.points.append(point)
        return Form({("g", len(self.points) - 1): 1})


def exact_rule(rule: UpdateRule) -> UpdateRule:
    """The rule with every float hyperparameter as the Fraction that it prints as."""

    def read(value):
        return (
            Fraction(repr(float(value)))
            if isinstance(value, numbers.Real) and not isinstance(value, numbers.Rational)
            else value
        )

    return rule.map_hyperparameters(read)


def trace(rule: UpdateRule, k: Any) -> Trace | Refusal:
    """Run the step once on linear forms at iteration k (an int or a guarded Counter)."""
    run = Trace()
    try:
        history = rule.history
        if isinstance(history, bool) or not isinstance(history, numbers.Integral) or history < 1:
            return Refusal("broken", f"history must be a positive integer, got {history!r}")
        start = rule.initial_memory(Form.of(("x", 0)))
        if not (start is None or isinstance(start, tuple)):
            return Refusal(
                "broken",
                "initial_memory must return a tuple with one entry for each running average, or None, "
                f"got {type(start).__name__}",
            )
        run.start = tuple(_vector(entry, "initial_memory returns").shortened() for entry in start or ())
        iterates = tuple(Form.of(("x", j)) for j in range(int(history)))
        memory = tuple(Form.of(("m", i)) for i in range(len(run.start)))
        result = rule.step(k, iterates, memory if start else start, run.gradient)
        _take(run, result)
    except StepRefusal as error:
        return Refusal(error.kind, error.reason, _place(error.__traceback__))
    except Exception as error:  # whatever a user's step raises on linear forms is a reason to refuse it
        return Refusal("broken", _failure(error, rule, run), _place(error.__traceback__))
    return run


def _take(run: Trace, result: Any) -> None:
    """Check what the step returned, and keep it."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        what = f"{len(result)} values" if isinstance(result, (tuple, list)) else "one value"
        raise StepRefusal(
            "broken", f"returns {what} instead of (x_next, memory); end it with `return x_next, memory`"
        )
    x_next, memory = result
    if not isinstance(x_next, Form):
        raise StepRefusal(
            "broken", f"returns an object of type {type(x_next).__name__} as next iterate instead of a vector"
        )
    memory = () if memory is None else memory
    if not isinstance(memory, (tuple, list)) or len(memory) != len(run.start):
        what = (
            f"{len(memory)} entries"
            if isinstance(memory, (tuple, list))
            else f"an object of type {type(memory).__name__}"
        )
        raise StepRefusal(
            "broken",
            f"returns as memory {what}, while initial_memory has {len(run.start)}; return what it was given, updated",
        )
    run.x_next = x_next.shortened()
    run.memory = tuple(_vector(entry, "returns in its memory").shortened() for entry in memory)


def _vector(entry: Any, what: str) -> Form:
    if isinstance(entry, Form):
        return entry
    if isinstance(entry, (numbers.Real, Fraction)) and exact_coefficient(entry) == 0:
        return Form({})
    raise StepRefusal(
        "broken",
        f"{what} {entry!r}, which is no vector; memories are vectors like the iterates, 0 * x0 for example",
    )


def _failure(error: Exception, rule: UpdateRule, run: Trace) -> str:
    """What to say of an error raised inside the step, without repeating the words of another library."""
    if isinstance(error, (ValueError, IndexError)) and ("unpack" in str(error) or "range" in str(error)):
        return (
            f"takes apart more or fewer iterates or memories than it is given: history = {rule.history} and "
            f"{len(run.start)} memories; set the class attribute `history`, or `initial_memory`"
        )
    return f"fails with {type(error).__name__} when it is run on vectors"


_OWN = tuple(os.path.abspath(module.__file__) for module in (base, counter, forms)) + (
    os.path.abspath(__file__),
)


def _place(traceback: TracebackType | None) -> str:
    """File, line and text of the innermost line that belongs to the user's step."""
    place = ""
    while traceback is not None:
        name, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        if (
            os.path.abspath(name) not in _OWN
            and "site-packages" not in name
            and not name.startswith("<frozen")
        ):
            text = linecache.getline(name, line).strip()
            place = f"{os.path.basename(name)}, line {line}" + (f": {text}" if text else "")
        traceback = traceback.tb_next
    return place
