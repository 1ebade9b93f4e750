"""Rules as the options of the command line write them: names, schedules, decay."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from odeopt.rules.base import UpdateRule
from odeopt.rules.names import method_names, named_rules, rules_written, with_decay
from odeopt.rules.schedule import Schedule
from odeopt.rules.schedule_text import number_or_schedule
from odeopt.studies.check import CHECK_METHODS

__all__ = [
    "average_from_text", "chosen_names", "decay_from_text", "names_from_text", "names_of_check",
    "note_on_methods", "note_on_rules", "rate_of_forecast", "rates_from_text", "rules_of_sweep",
]  # fmt: skip


# The method whose hyperparameter an option is.
_METHOD_OF = {"friction": "hb", "momentum": "hb", "r": "nag", "momenta": "hm", "hm_regime": "hm"}


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


def names_of_check(
    methods: str | None, rules: list[str] | None, decay: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """The names of a check, and those of the default ones that are left out, for they have no decay."""
    default = with_decay(CHECK_METHODS, decay)
    names = chosen_names(methods, rules, ",".join(default))
    if names or not rules:
        method_names(names, CHECK_METHODS)
    default_taken = methods is None and not rules
    return names, [name for name in CHECK_METHODS if default_taken and name not in default]


def note_on_rules(rules: list[str] | None, **options: Any) -> str:
    """What is to be said of options that methods by name alone take, beside rules that are written out."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if not rules or not given:
        return ""
    return f"{', '.join(given)} is of methods by name; each --rule is taken as it is written"


def average_from_text(text: str | None, steps: int) -> float | Schedule | str | None:
    """How iterates are averaged: polyak, or the decay of an average."""
    if text in (None, "polyak"):
        return text
    wanted = "average must be polyak, or the decay of an exponential average from 0 to below 1"
    try:
        found = number_or_schedule(text, "average", steps)
    except ValueError as error:
        raise ValueError(f"{wanted}, got {text!r}") from error
    if not isinstance(found, Schedule) and not 0 <= found < 1:
        raise ValueError(f"{wanted}, got {text!r}")
    return found


def note_on_methods(command: Callable[..., None], names: list[str], **values: Any) -> str:
    """What is to be said of options that differ from the command's own and whose method is not run."""
    own, taken = inspect.signature(command).parameters, method_names(names) if names else ()
    left = [f"--{option.replace('_', '-')} is of {_METHOD_OF[option]}" for option, value in values.items()
            if value != own[option].default and _METHOD_OF[option] not in taken]  # fmt: skip
    return f"{', '.join(left)}, which is not among the methods that are named" if left else ""


def rate_of_forecast(lr: str | None, best_at: int | None, steps: int) -> dict[str, Any]:
    """The learning rate of a forecast: as it is, or with `best_at` a schedule whose peak is free."""
    if lr is None:
        return {}
    found = number_or_schedule(lr, "lr", steps)
    if best_at is None:
        return {"lr": found}
    if not isinstance(found, Schedule):
        raise ValueError(
            f"lr = {lr!r} is no schedule, and with --best-at a constant rate is tuned anyway; "
            "write cosine:1, say, or leave --best-at out to keep the rate"
        )
    return {"schedule": found}


def rules_of_sweep(
    names: list[str], texts: list[str], grid: dict[str, Any], steps: int
) -> tuple[UpdateRule, ...]:
    """All combinations of named methods, then the rules that are written out."""
    named = named_rules(names, **grid) if names or not texts else ()
    return (*named, *rules_written(texts, steps))
