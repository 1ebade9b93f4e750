r"""Coefficients that follow one formula after the other: profiles of schedules in time.

A profile is a list of formulas in t with the times at which they end. A coefficient that holds profiles by
name becomes a Piecewise over their common intervals; an integrator takes such coefficients interval by
interval.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sympy
from sympy import Expr, Piecewise, Symbol

from odeopt.checks import is_number
from odeopt.limits.slow import Slow, is_rational
from odeopt.limits.text import readable

__all__ = ["Profile", "cases", "explicit", "intervals", "on_interval", "require_reached"]


# Integers beyond it stem from floats; polynomials with them are not made shorter by cancelling.
_LONG = 10**6


@dataclass(frozen=True)
class Profile:
    """A function of slow time: its name, and formulas in t, each up to a time, the last one for ever."""

    name: str
    pieces: tuple[tuple[Any, Expr], ...]

    def formula(self, t: Symbol) -> Expr:
        """As one expression."""
        cases = [(readable(e), True if end is None else t < readable(end)) for end, e in self.pieces]
        return Piecewise(*cases) if len(cases) > 1 else cases[0][0]

    @property
    def ends(self) -> tuple[Any, ...]:
        """Where one formula gives way to the next."""
        return tuple(end for end, _ in self.pieces[:-1])

    def before(self, end: Any) -> Expr:
        """The formula on the interval that ends there (None: the last one)."""
        if end is None:
            return self.pieces[-1][1]
        return next(e for stop, e in self.pieces if stop is None or bool(end <= stop))


def explicit(expr: Expr, profiles: Sequence[Profile], t: Symbol) -> Expr:
    """The formulas in place of the names, one case for each common interval."""
    named = expr.atoms(Slow)
    if not named:
        return readable(expr)
    used = [p for p in profiles if p.name in {s.name for s in named}]
    if all(s.point != t for s in named):  # at the start
        return readable(_with_formulas(expr, {p.name: p.pieces[0][1] for p in used}, t))
    ends = _common_ends(used)
    if ends is None:  # ends that are symbols have no order
        whole = {p.name: p.formula(t) for p in used}
        return sympy.piecewise_fold(_with_formulas(expr, whole, t))
    cases = [
        (readable(_with_formulas(expr, {p.name: p.before(end) for p in used}, t)), end)
        for end in (*ends, None)
    ]
    kept = [c for c, after in zip(cases, [*cases[1:], (None, None)], strict=True) if c[0] != after[0]]
    if len(kept) == 1:
        return kept[0][0]
    return Piecewise(*((value, True if end is None else t < readable(end)) for value, end in kept))


def _common_ends(profiles: Sequence[Profile]) -> list[Any] | None:
    ends = {end for p in profiles for end in p.ends}
    if all(end.is_number for end in ends):
        return sorted(ends)
    lists = {p.ends for p in profiles if p.ends}
    return list(next(iter(lists))) if len(lists) == 1 and len(next(iter(lists))) == 1 else None


def _with_formulas(expr: Expr, formulas: dict[str, Expr], t: Symbol) -> Expr:
    places = {s: formulas[s.name].diff(t, s.order).subs(t, s.point) for s in expr.atoms(Slow)}
    value = expr.xreplace(places)
    if value.has(sympy.nan, sympy.zoo, sympy.oo):
        return sympy.nan
    short = is_rational(value) and all(abs(n) < _LONG for n in value.atoms(sympy.Integer))
    return sympy.cancel(value) if short else value


def intervals(expressions: Iterable[Expr], t: Symbol, last: float) -> list[tuple[float, float]]:
    """The spans of Piecewise coefficients in (0, last): their ends (inf for the last), and a time inside."""
    conditions = {c for e in expressions for p in e.atoms(Piecewise) for _, c in p.args if c != True}  # noqa: E712
    ends = [c.gts for c in conditions if c.has(t)]
    if any(not end.is_number for end in ends):
        free = ", ".join(sorted({str(s) for end in ends for s in end.free_symbols}))
        raise ValueError(
            f"a schedule changes at a time that holds the symbols {free}; give them numbers with subs()"
        )
    times = sorted(set(map(float, ends)))
    stops = [end for end in times if end < last]
    finite = [0.0, *stops] if math.isinf(last) else [last, *stops]
    beyond = [end for end in times if end >= last] or [1 + 2 * max(finite)]
    edges = [0.0, *stops, beyond[0]]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    return list(zip([*stops, math.inf], middles, strict=True))


def require_reached(limit: Any, held: Sequence[Expr], last: float) -> None:
    """Refuse times beyond the break up to which an equation holds, or at it where its coefficients end."""
    end = limit.valid_until
    if end is None or not is_number(end):
        return
    there = (on_interval(e, limit.t, float(end) / 2).subs(limit.t, end) for e in held)
    if last > float(end) * (1 - 1e-12) and any(e.has(sympy.zoo, sympy.nan, sympy.oo) for e in there):
        raise ValueError(
            f"t = {last:.6g} is not before t = {float(end):.6g}, where a schedule vanishes by which "
            f"{limit} is divided; end the times before it"
        )
    if last > float(end) * (1 + 1e-12):
        corrected = getattr(limit, "resolution", 0)
        reason = "corrections are" if corrected else "an equation that holds its derivatives is"
        raise ValueError(
            f"t = {last:.6g} is beyond t = {float(end):.6g}, where a schedule passes to its next formula: "
            f"{reason} not carried across, for derivatives jump there by amounts that were not derived; end "
            f"the times there{', or take resolution 0' if corrected else ''}"
        )


def cases(expr: Expr, t: Symbol) -> list[tuple[Any, Expr]]:
    """The formulas of a Piecewise coefficient with the times at which they end, None for the last."""
    pieces = expr.atoms(Piecewise)
    if not pieces:
        return [(None, expr)]
    ends = {c.gts for p in pieces for _, c in p.args if c != True}  # noqa: E712
    if all(end.is_number for end in ends):
        spans = intervals([expr], t, math.inf)
        stops = sorted(ends, key=float)
        return [(end, on_interval(expr, t, at)) for end, (_, at) in zip([*stops, None], spans, strict=True)]
    whole = sympy.piecewise_fold(expr)
    if len(ends) > 1 or not isinstance(whole, Piecewise):
        raise ValueError(
            f"the formulas of {expr} end at {', '.join(map(str, ends))}, whose order is not known; give them "
            "numbers with subs()"
        )
    return [(None if c == True else c.gts, value) for value, c in whole.args]  # noqa: E712


def on_interval(expr: Expr, t: Symbol, inside: float) -> Expr:
    """The formula of a coefficient on the interval in which a time lies."""
    return expr.replace(
        lambda e: isinstance(e, Piecewise),
        lambda e: next(value for value, condition in e.args if condition.subs(t, inside) == True),  # noqa: E712
    )
