"""Rules as the options of the command line write them: names, schedules, decay."""

from __future__ import annotations

from typing import Any

from odeopt.rules.base import UpdateRule
from odeopt.rules.names import named_rules, rules_written
from odeopt.rules.schedule import Schedule
from odeopt.rules.schedule_text import number_or_schedule

__all__ = [
    "chosen_names",
    "decay_from_text",
    "names_from_text",
    "rates_from_text",
    "rules_of_sweep",
    "schedule_from_text",
]


def names_from_text(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def rates_from_text(text: str, name: str, steps: int) -> list[float | Schedule]:
    """Numbers and schedules separated by commas."""
    return [number_or_schedule(part, name, steps) for part in text.split(",")]


def decay_from_text(decay: str | None, decoupled: bool, to_start: bool, steps: int) -> dict[str, Any]:
    """Weight decay as keywords of a rule, without those that say nothing."""
    if decay is None:
        if decoupled or to_start:
            raise ValueError("--decoupled and --to-start say how weights decay; give --weight-decay too")
        return {}
    switches = {"decoupled": decoupled, "to_start": to_start}
    value = number_or_schedule(decay, "weight-decay", steps)
    return {"weight_decay": value, **{name: True for name, on in switches.items() if on}}


def chosen_names(methods: str | None, rules: list[str] | None, default: str) -> list[str]:
    """The names of methods: those asked for, and without rules the default ones."""
    return names_from_text(default if methods is None and not rules else methods or "")


def schedule_from_text(lr: str | None, steps: int | None) -> Schedule | None:
    """The schedule of a prediction, whose peak is free."""
    if lr is None:
        return None
    found = number_or_schedule(lr, "lr", steps)
    if not isinstance(found, Schedule):
        raise ValueError(
            f"lr = {lr!r} is no schedule, and a constant rate is tuned anyway; write cosine:1, say"
        )
    return found


def rules_of_sweep(
    names: list[str], texts: list[str], grid: dict[str, Any], steps: int
) -> tuple[UpdateRule, ...]:
    """All combinations of named methods, then the rules that are written out."""
    named = named_rules(names, **grid) if names or not texts else ()
    return (*named, *rules_written(texts, steps))
