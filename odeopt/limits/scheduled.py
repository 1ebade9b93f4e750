r"""Schedules in a limit: hyperparameters as functions of slow time t = k h.

A rule with numbers is embedded as its largest values are: where these have the family :math:`\eta=h^{1/p}`,
:math:`\beta=1-bh`, the schedules have :math:`\eta_k=h^{1/p}s(kh)` and :math:`\beta_k=1-h\,b(kh)`. The
derivation knows s and b by name (:mod:`odeopt.limits.slow`), and their formulas stand beside it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Integer, Symbol
from sympy.core.function import AppliedUndef

from odeopt.checks import is_number
from odeopt.limits.adaptive import SystemLimit, scale_of, system_limit
from odeopt.limits.equation import ODELimit, with_terms
from odeopt.limits.family import family_of, readable_step
from odeopt.limits.intervals import Profile, explicit
from odeopt.limits.momentum_form import momentum_form
from odeopt.limits.series import GradientDifferential, NoLimitError
from odeopt.limits.slow import Slow, slow_function
from odeopt.limits.text import readable
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import Counter, fraction_meant
from odeopt.rules.forms import CONSTANT
from odeopt.rules.formulas import text
from odeopt.rules.pieces import Piece, exact_number, steps_symbol
from odeopt.rules.reading import read
from odeopt.rules.resolve import changed, resolved
from odeopt.rules.schedule import Schedule

__all__ = ["Embedding", "OfTime", "embedding", "scheduled_system", "symbols_of", "with_schedules"]

# Iterations at which it is looked whether a schedule is slow.
_LOOKED_AT = 1000
_NOT_CARRIED = "is not carried across a break of a schedule, so the curve ends at the first"
_REMEDY = "give it as a Formula in k, or as Linear, Cosine, ... with a number of steps"


@dataclass(frozen=True)
class OfTime(Schedule):
    """A hyperparameter of a family: an expression in the symbol of k, smooth in t = k h."""

    expression: Any

    def pieces(self) -> tuple[Piece, ...]:
        return (Piece(None, self.expression),)

    def at(self, k: Any, name: str = "s") -> Any:
        """The expression itself at k."""
        if isinstance(k, Counter):
            return k._guarded(self.expression.subs(steps_symbol(), k.expr))
        return self.expression.subs(steps_symbol(), k)

    @property
    def label(self) -> str:
        """The expression."""
        return text(self.expression)


@dataclass(frozen=True)
class Embedding:
    """A family with schedules in it, the numbers at which it is the rule, and the profiles by name."""

    family: UpdateRule
    values: Mapping[Any, Any]
    time_step: Any
    profiles: tuple[Profile, ...]
    note: str = ""
    scale: Any = None
    breaks: tuple[Any, ...] = field(default=())

    def schedules(self, t: Symbol) -> Mapping[Expr, Expr]:
        """The profiles, as functions of t by name, to their formulas."""
        return MappingProxyType({slow_function(p.name, t): p.formula(t) for p in self.profiles})


def embedding(rule: UpdateRule, h: Symbol, given: bool, regime: str) -> Embedding:
    """Put the schedules of a rule on slow time."""
    for name, schedule in _schedules(rule):
        if not schedule.has_formula:
            raise NoLimitError(
                f"{rule.label} has no limit that can be derived: the schedule {name} = {schedule.label} is "
                f"known at integers k only, and a limit needs it as a function of t; {_REMEDY}"
            )
    return _of_functions(rule, h) if given else _of_numbers(rule, h, regime)


def _resolved(rule: UpdateRule, value_of: Callable[[Schedule, str], Any]) -> UpdateRule:
    """The rule with values in place of its schedules, those of a rule inside it included."""
    found, inner = resolved(rule, value_of), getattr(rule, "rule", None)
    return changed(found, {"rule": _resolved(inner, value_of)}) if isinstance(inner, UpdateRule) else found


def _schedules(rule: UpdateRule) -> list[tuple[str, Schedule]]:
    found: list[tuple[str, Schedule]] = []
    _resolved(rule, lambda schedule, name: found.append((name, schedule)))
    return found


def _filled(rule: UpdateRule, family: UpdateRule, entry: Callable[[Schedule, str, Any], Any]) -> UpdateRule:
    """The family with an entry in place of each schedule, given the family's own value there."""
    changes: dict[str, Any] = {}
    for name, value in rule.hyperparameters.items():
        base = getattr(family, name)
        if isinstance(value, Schedule):
            changes[name] = entry(value, name, base)
        elif isinstance(value, tuple):
            changes[name] = tuple(
                entry(v, f"{name}_{i}", b) if isinstance(v, Schedule) else b
                for i, (v, b) in enumerate(zip(value, base, strict=True), 1)
            )
    return family.replace(**changes)


def _free(label: str, name: str, profiles: list[Profile]) -> str:
    """A label that no other schedule has: of one name there is one function."""
    tried = itertools.chain([label, f"{label}_{name}"], (f"{label}_{i}" for i in itertools.count(1)))
    return next(found for found in tried if found not in {p.name for p in profiles})


def _noted(family: UpdateRule, h: Symbol, t: Symbol, profiles: tuple[Profile, ...]) -> str:
    values: list[tuple[str, Any]] = list(_schedules(family))
    written = ", ".join(f"{name} = {value.expression.subs(steps_symbol(), t / h)}" for name, value in values)
    formulas = "".join(f", {p.name}({t}) = {p.formula(t)}" for p in profiles)
    return f"; {written}{formulas}, as {h} -> 0 for fixed functions of {t}"


# --- numbers --------------------------------------------------------------------------------------------


def _of_numbers(rule: UpdateRule, h: Symbol, regime: str) -> Embedding:
    """Embed schedules with numbers as their largest values are."""
    for name, schedule in _schedules(rule):
        if not schedule.is_numeric:
            raise NoLimitError(
                f"the schedule {name} = {schedule.label} of {rule.label} holds symbols; pass h and write it "
                "in h, as Linear(h, steps=T/h), or give it numbers"
            )
    reference = _resolved(rule, lambda schedule, name: _largest(schedule))
    reading, scale = readable_step(reference), None
    linear = reading.linear and not any(CONSTANT in form.terms for form in reading.start)
    if linear or reference.scaling(h, regime) is not None:
        family, values, time_step = family_of(reference, h, regime)
    else:
        scale = scale_of(reference, h)
        family, values = reference.exact().replace(lr=h ** (1 / scale)), {}
        time_step = float(reference.lr) ** float(scale)
    t = Symbol("t", positive=True)
    if not is_number(time_step):
        raise NoLimitError(f"the learning rate of {rule.label} holds symbols; give it a number, or pass h")
    clock, profiles, breaks = exact_number(time_step), [], set()

    def entry(schedule: Schedule, name: str, base: Any) -> OfTime:
        largest = exact_number(_largest(schedule))
        written, label, image = _written(sympy.sympify(base, strict=True), name, largest, h, clock)
        label = _free(label, name, profiles)
        pieces = []
        for end, expr in schedule.pieces():
            # the last integer before a break decides, so the break lies at the next one
            stop = None if end is None else math.ceil(end) * clock
            pieces.append((stop, sympy.sympify(image(expr), strict=True).subs(steps_symbol(), t / clock)))
        profiles.append(Profile(label, tuple(pieces)))
        breaks.update(end for end, _ in pieces[:-1])
        return OfTime(written(slow_function(label, h * steps_symbol())))

    family = _filled(rule, family, entry)
    found = tuple(profiles)
    note = _noted(family, h, t, found) + "".join(_hurried(*named) for named in _schedules(rule))
    return Embedding(family, values, time_step, found, note, scale, tuple(sorted(breaks)))


def _hurried(name: str, schedule: Schedule) -> str:
    """A warning where a schedule changes by more than half of its range in one step that is no break."""
    last = _LOOKED_AT if schedule.last is None else min(schedule.last, _LOOKED_AT)
    k = np.arange(last + 1)
    jumps = np.isin(k[1:], [math.ceil(b) for b in schedule.breaks])
    change = np.abs(np.diff(schedule(k)))[~jumps]
    if not change.size or change.max() <= 0.5 * np.ptp(schedule.range):
        return ""
    return f"; {name} is not slow, it changes by {change.max():.3g} in one step, and no limit follows that"


def _largest(schedule: Schedule) -> float:
    """The largest value, without the rounding of its evaluation."""
    return float(fraction_meant(schedule.largest))


def _written(
    base: Expr, name: str, largest: Expr, h: Symbol, clock: Expr
) -> tuple[Callable[[Expr], Expr], str, Callable[[Expr], Expr]]:
    """How a scheduled value stands in the family as an expression of its profile; name and values of that."""
    if not base.has(h):
        return (lambda s: s), name, (lambda value: value)
    short = "s" if name == "lr" else name
    if sympy.limit(base, h, 0) == 1:
        slope = sympy.simplify((1 - base) / h)
        if slope.has(h):
            return (lambda s: 1 - (1 - base) * s), short, (lambda value: (1 - value) / (1 - largest))
        label = slope.name if slope.is_Symbol else short
        return (lambda s: 1 - h * s), label, (lambda value: (1 - value) / clock)
    if largest == 0:
        raise NoLimitError(f"the largest value of {name} is 0, and its family {base} scales it by a factor")
    return (lambda s: base * s), short, (lambda value: value / largest)


# --- functions of h ---------------------------------------------------------------------------------------


def _of_functions(rule: UpdateRule, h: Symbol) -> Embedding:
    """Take schedules that are written in h at k = t/h."""
    t = Symbol("t", positive=True)
    profiles: list[Profile] = []

    def entry(schedule: Schedule, name: str, base: Any) -> OfTime:
        pieces = schedule.pieces()
        if len(pieces) == 1:
            return OfTime(sympy.sympify(pieces[0].expr, strict=True))
        ends = [_end_in_time(schedule, name, end, h) for end, _ in pieces]
        parts = [_in_powers(schedule, name, expr, h, t) for _, expr in pieces]
        total = Integer(0)
        for q in sorted(set().union(*parts)):
            formulas = [part.get(q, Integer(0)) for part in parts]
            if len(set(formulas)) == 1 and not formulas[0].has(t):
                total += formulas[0] * h**q
                continue
            sign = -1 if total == 1 and q == 1 else 1  # 1 - b(t) h
            label = "b" if sign < 0 else "s" if name == "lr" and not profiles else f"{name}_{q}"
            label = _free(label, name, profiles)
            formulas = [sympy.expand(sign * e) for e in formulas]
            profiles.append(Profile(label, tuple(zip(ends, formulas, strict=True))))
            total += sign * h**q * slow_function(label, h * steps_symbol())
        return OfTime(total)

    family = _filled(rule, rule.exact(), entry)
    found = tuple(profiles)
    breaks = tuple(dict.fromkeys(end for p in found for end in p.ends))
    return Embedding(family, {}, h, found, _noted(family, h, t, found), None, breaks)


def _end_in_time(schedule: Schedule, name: str, end: Any, h: Symbol) -> Any:
    """The time at which a piece ends, which must not depend on h."""
    if end is None:
        return None
    time = sympy.simplify(exact_number(end) * h)
    if time.has(h):
        raise NoLimitError(
            f"the schedule {name} = {schedule.label} changes at k = {end}, which as {h} -> 0 is no time "
            f"t = k {h}: it would be over at once; write its steps as T/{h}, or leave {h} out for numbers"
        )
    return time


def _in_powers(schedule: Schedule, name: str, expr: Expr, h: Symbol, t: Symbol) -> dict[int, Expr]:
    """A piece at k = t/h by powers of h."""
    value = sympy.expand(sympy.simplify(sympy.sympify(expr, strict=True).subs(steps_symbol(), t / h)))
    if not value.is_polynomial(h):
        raise NoLimitError(
            f"the schedule {name} = {schedule.label} is {value} at k = t/{h}, no polynomial in {h} with "
            f"functions of t as coefficients, as its pieces must be; write them as powers of {h} times "
            f"functions of k*{h}"
        )
    return {int(q): c for (q,), c in sympy.Poly(value, h).terms() if c != 0}


# --- the limits -------------------------------------------------------------------------------------------


def symbols_of(rule: UpdateRule) -> set[Symbol]:
    """The symbols in the hyperparameters of a rule, those in its schedules included."""

    def found(value: Any) -> set[Symbol]:
        if isinstance(value, Schedule):
            return set().union(*map(found, value._parameters()))
        if isinstance(value, tuple):
            return set().union(*map(found, value))
        return value.free_symbols if isinstance(value, Expr) else set()

    return found(tuple(rule.hyperparameters.values()))


def with_schedules(limit: ODELimit, slow: Embedding) -> ODELimit:
    """Put the formulas of the schedules into a limit that was derived with their names."""
    named = {v: c for v, c in limit.terms.items() if c != 0}
    form = None
    if limit.order == 2 and not limit.resolution:
        form = momentum_form(named, limit.curve, limit.t, limit.initial[0])
    varying = any(s.order for c in named.values() for s in c.atoms(Slow))
    one_step = limit.order == 1 and slow.family.history == 1 and not read(slow.family).start
    crosses = one_step or form is not None or not (varying or limit.resolution)
    shift = limit.time_origin * limit.time_step
    breaks = tuple(end + shift for end in slow.breaks)

    def formula(expr: Expr) -> Expr:
        return explicit(expr, slow.profiles, limit.t)

    initial = [_of_vectors(e, formula) for e in (limit.initial_position, *limit.initial)]
    opening = {s: formula(s.subs(limit.t, 0)) for c in named.values() for s in c.atoms(Slow)}
    beginning = [c.xreplace(opening) for c in named.values()] if limit.resolution else initial
    if any(e.has(sympy.zoo, sympy.nan) for e in beginning):
        raise NoLimitError(
            f"{limit.rule.label} has a schedule that vanishes at t = 0, by which its equation is divided at "
            f"resolution {limit.resolution}: the expansion fails for t of the order of a step; start the "
            "schedule above 0, or take resolution 0"
        )
    printed = {readable(v): readable(c if form is None else sympy.expand(c)) for v, c in named.items()}
    what = "a correction" if limit.resolution else "an equation that holds derivatives of schedules"
    return with_terms(
        limit,
        {_of_vectors(v, formula): formula(c) for v, c in named.items()},
        printed=MappingProxyType(printed),
        schedules=slow.schedules(limit.t),
        breaks=breaks,
        valid_until=None if crosses or not breaks else breaks[0],
        momentum=None if form is None else form.map(lambda e: _of_vectors(e, formula)),
        time_origin=readable(sympy.sympify(limit.time_origin, strict=True)),
        initial_position=initial[0],
        initial=tuple(initial[1:]),
        note=limit.note + slow.note + ("" if crosses or not breaks else f"; {what} {_NOT_CARRIED}"),
    )


def _of_vectors(expr: Expr, formula: Callable[[Expr], Expr]) -> Expr:
    """Formulas in a coefficient, or in the coefficients of a vector."""
    if not expr.has(GradientDifferential, AppliedUndef):
        return formula(expr)
    return readable(expr.xreplace({s: formula(s) for s in expr.atoms(Slow)}))


def scheduled_system(rule: UpdateRule, h: Symbol, slow: Embedding, resolution: int) -> SystemLimit:
    """The limit of a rule with schedules whose step is not linear."""
    limit = system_limit(
        rule, h, family=slow.family, values=slow.values, time_step=slow.time_step, resolution=resolution
    )

    def formula(expr: Expr) -> Expr:
        return explicit(expr, slow.profiles, limit.t)

    return replace(
        limit,
        velocity=formula(limit.velocity),
        averages=MappingProxyType({m: formula(e) for m, e in limit.averages.items()}),
        followed=MappingProxyType({m: formula(e) for m, e in limit.followed.items()}),
        initial=MappingProxyType({m: formula(e) for m, e in limit.initial.items()}),
        scale=limit.scale if slow.scale is None else slow.scale,
        printed=tuple(map(readable, (limit.velocity, *limit.averages.values()))),
        schedules=slow.schedules(limit.t),
        breaks=slow.breaks,
        valid_until=slow.breaks[0] if resolution and slow.breaks else None,
    )
