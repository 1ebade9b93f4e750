r"""Values of hyperparameters: their text, their checks, and what stands in place of schedules in one step."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from odeopt.checks import is_number, is_symbolic
from odeopt.rules.pieces import exact_number
from odeopt.rules.schedule import Schedule

__all__ = [
    "at_extremes", "changed", "complement", "fields_said", "holds_schedule", "in_order", "is_switch",
    "label_of", "last_of", "number_at", "read_as_printed", "require_rate", "require_scalar", "resolved",
    "schedules_of", "with_values", "written",
]  # fmt: skip


_PLAIN = {float, int, bool, type(None)}


def _entries(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def holds_schedule(value: Any) -> bool:
    """Whether a hyperparameter is a schedule, or a tuple that has one."""
    # asked in every step, mostly of plain numbers, and to ask an abstract class is slow
    return type(value) not in _PLAIN and any(isinstance(entry, Schedule) for entry in _entries(value))


def changed(rule: Any, changes: dict[str, Any]) -> Any:
    """The rule with other values, unchecked: a rule is checked when it is made."""
    found = copy.copy(rule)
    vars(found).pop("is_scheduled", None)  # what was answered for the old values
    vars(found).update(changes)
    return found


def resolved(rule: Any, value_of: Callable[[Schedule, str], Any]) -> Any:
    """The rule with a value, which is no schedule, in place of each of its own schedules."""
    changes: dict[str, Any] = {"is_scheduled": getattr(vars(rule).get("rule"), "is_scheduled", False)}
    for name, value in vars(rule).items():
        if isinstance(value, Schedule):
            changes[name] = value_of(value, name)
        elif holds_schedule(value):
            changes[name] = tuple(
                value_of(v, f"{name}_{i}") if isinstance(v, Schedule) else v for i, v in enumerate(value, 1)
            )
    return changed(rule, changes)


def is_switch(field: dataclasses.Field[Any]) -> bool:
    """Whether a field is a switch, which its default tells."""
    return isinstance(field.default, bool)


def in_order(rule: Any) -> list[dataclasses.Field[Any]]:
    """The fields, those by keyword last."""
    return sorted(dataclasses.fields(rule), key=lambda f: bool(f.kw_only))


def read_as_printed(value: Any) -> Any:
    """A float as the sympy rational that it prints as; symbols and what is no number as they are."""
    return exact_number(value) if is_number(value) else value


def complement(decay: Any) -> float:
    """1 - decay, of the decimal that a float prints as: 0.1 for 0.9."""
    return float(1 - exact_number(decay))


def fields_said(rule: Any) -> dict[str, Any]:
    """Names and values of the fields, without those by keyword that were left at their defaults."""
    fields = ((f, getattr(rule, f.name)) for f in in_order(rule))
    return {f.name: value for f, value in fields if not (f.kw_only and value is f.default)}


def label_of(rule: Any) -> str:
    """Name, hyperparameters (rounded) and changed switches."""

    def show(value: Any) -> str:
        if isinstance(value, tuple):
            return "(" + ", ".join(show(v) for v in value) + ")"
        if isinstance(value, Schedule):
            return value.label
        return f"{float(value):.4g}" if is_number(value) else written(value, str)

    shown = {n: show(v) for n, v in rule.hyperparameters.items()}
    switches = {f.name: (getattr(rule, f.name), f.default) for f in dataclasses.fields(rule) if is_switch(f)}
    shown |= {n: str(value) for n, (value, default) in switches.items() if value is not default}
    return f"{type(rule).__name__}({', '.join(f'{n}={text}' for n, text in shown.items())})"


def number_at(value: Any, values: Mapping[Any, Any]) -> Any:
    """A hyperparameter with numbers in place of its symbols; one without symbols as it is."""
    if not is_symbolic(value):
        return value
    result = value.subs(values)
    if result.free_symbols:
        missing = ", ".join(sorted(map(str, result.free_symbols)))
        raise ValueError(f"values leaves {missing} free; give each of them a number")
    return float(result)


def written(value: Any, plain: Callable[[Any], str] = repr) -> str:
    """A hyperparameter as it is printed, an expression as a formula."""
    if is_symbolic(value):
        from odeopt.rules.formulas import text

        return text(value)
    return plain(value)


def at_extremes(rule: Any) -> list[Any]:
    """The rule, or with schedules the rules of their smallest and of their largest values."""
    if not rule.is_scheduled:
        return [rule]
    return [resolved(rule, lambda s, name, end=end: s.range[end]) for end in (0, 1)]


def last_of(rule: Any) -> int | None:
    """The last step at which every schedule has a value."""
    return min((s.last for s in schedules_of(rule) if s.last is not None), default=None)


def schedules_of(rule: Any) -> list[Schedule]:
    """All schedules of a rule, and of the one inside it."""
    return [v for value in rule.hyperparameters.values() for v in _entries(value) if isinstance(v, Schedule)]


def require_scalar(name: str, value: Any) -> None:
    """Refuse what is no finite number, no expression and no schedule."""
    if is_symbolic(value) or isinstance(value, Schedule):
        return
    if not is_number(value):
        raise ValueError(
            f"{name} must be a real number or a sympy expression, got {value!r} "
            f"of type {type(value).__name__}"
        )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}; pass a finite number")


def require_rate(lr: Schedule) -> None:
    """Refuse learning rates that become negative, or are always 0."""
    low, high = lr.range if lr.is_numeric else (0.0, 1.0)
    if low < 0 or high <= 0:
        raise ValueError(
            f"lr must be nonnegative and not always 0, got {lr.label} with values from {low:.6g} to "
            f"{high:.6g}; a negative learning rate climbs the loss"
        )


def with_values(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step, run with the numbers that schedules have at k, whoever calls it."""

    @functools.wraps(step)
    def stepped(self: Any, k: Any, iterates: Any, memory: Any, grad: Any) -> Any:
        return step(self.at_step(k), k, iterates, memory, grad)

    return stepped
