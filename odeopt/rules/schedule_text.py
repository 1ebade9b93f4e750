r"""Schedules written as text, ``cosine:0.1`` or ``warmup:100*linear:0.1:0.01``: read, never evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from odeopt.rules.schedule import Schedule
from odeopt.rules.schedules import Cosine, Exponential, InverseSqrt, Linear, Step, Warmup, WarmupStableDecay
from odeopt.rules.tables import Table

__all__ = ["SCHEDULE_FORMS", "number_or_schedule"]


class _Form(NamedTuple):
    """How a schedule is written: the kinds of its parts, of which the last ones may be left out."""

    shown: str
    kinds: str  # v a value, d a duration, s all steps, m milestones, t a table
    needed: int
    make: Callable[..., Schedule]


_FORMS = {
    "linear": _Form("linear:START[:END[:STEPS]]", "vvs", 1, lambda v, e=0.0, s=0: Linear(v, s, e)),
    "cosine": _Form("cosine:START[:END[:STEPS]]", "vvs", 1, lambda v, e=0.0, s=0: Cosine(v, s, e)),
    "sqrt": _Form("sqrt:START:OFFSET", "vd", 2, InverseSqrt),
    "exp": _Form("exp:START:FACTOR", "vv", 2, Exponential),
    "step": _Form("step:START:K1/K2/...[:FACTOR]", "vmv", 2, Step),
    "wsd": _Form(
        "wsd:PEAK:WARMUP:DECAY[:END[:STEPS]]",
        "vddvs",
        3,
        lambda v, w, d, e=0.0, s=0: WarmupStableDecay(v, s, w, d, e),
    ),
    "warmup": _Form("warmup:STEPS[:START]", "dv", 1, Warmup),
    "table": _Form("table:V0/V1/...", "t", 1, Table),
}
# What a help text shows.
SCHEDULE_FORMS: tuple[str, ...] = tuple(form.shown for form in _FORMS.values())


def number_or_schedule(text: str, name: str, num_steps: int | None = None) -> float | Schedule:
    """Read a number, a schedule, or a product of them.

    Numbers of steps below 1 are shares of `num_steps`, which is also the length of what is not given one.

    >>> number_or_schedule("0.1", "lr")
    0.1
    >>> number_or_schedule("warmup:0.1*cosine:0.1", "lr", 1000).label
    '(Warmup(100, 0) * Cosine(0.1, 1000, 0))'
    """
    try:
        factors = [_factor(part.strip(), num_steps) for part in text.split("*")]
        found = factors[0]
        for factor in factors[1:]:
            found = found * factor
    except ValueError as error:
        raise ValueError(
            f"{name} must be numbers separated by commas, or schedules, got {text!r}: {error}"
        ) from error
    return found


def _factor(text: str, num_steps: int | None) -> float | Schedule:
    kind, *parts = text.split(":")
    form = _FORMS.get(kind)
    if form is None:
        known = ", ".join(SCHEDULE_FORMS)
        if parts or not _is_float(text):
            raise ValueError(f"{kind!r} is not among {known}")
        return _number(text)
    if not form.needed <= len(parts) <= len(form.kinds):
        raise ValueError(f"it is written {form.shown}")
    read = {
        "v": _number,
        "d": lambda part: _duration(part, num_steps),
        "s": lambda part: _duration(part, num_steps),
        "m": lambda part: tuple(_duration(each, num_steps) for each in part.split("/")),
        "t": lambda part: tuple(map(_number, part.split("/"))),
    }
    values: list[Any] = [read[k](part) for k, part in zip(form.kinds, parts, strict=False)]
    if not form.kinds.endswith("s") or len(parts) == len(form.kinds):
        return form.make(*values)
    if num_steps is None:
        raise ValueError(f"its number of steps is not given; write {form.shown}")
    return form.make(*values, s=num_steps)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> float:
    if not _is_float(text) or not math.isfinite(float(text)):
        raise ValueError(f"{text!r} is no finite number")
    return float(text)


def _duration(text: str, num_steps: int | None) -> int:
    """A number of steps; below 1 a share of all."""
    value = _number(text)
    if 0 < value < 1:
        if num_steps is None:
            raise ValueError(f"{text} is a share of all steps, which are not given; write a number of steps")
        return max(1, round(value * num_steps))
    if value < 0 or value != int(value):
        raise ValueError(f"{text!r} is no number of steps: a whole one, or below 1 a share of all")
    return int(value)
