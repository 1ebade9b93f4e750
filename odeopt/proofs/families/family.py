"""The parameters of a family of certificates: its symbols with their ranges, or numbers inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from sympy import Expr, Symbol

from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import exact_number, number_sign
from odeopt.rules.base import Scalar

__all__ = ["parameters", "positive_number", "real"]


def real(names: str) -> tuple[Symbol, ...]:
    """Return symbols as they stand in certificates and in their files."""
    return tuple(Symbol(name, real=True) for name in names.split())


def positive_number(value: Scalar, name: str) -> Expr:
    """Return an argument as an exact number, positive."""
    exact = exact_number(value, name)
    if not exact.free_symbols and number_sign(exact) <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return exact


def parameters(
    title: str, ranges: Sequence[Bound], **given: Any
) -> tuple[SimpleNamespace, tuple[Bound, ...]]:
    """Return the parameters of a family and the ranges that are left: all, or those without numbers."""
    symbols = {b.symbol.name: b.symbol for b in ranges}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == len(given):
        return SimpleNamespace(**symbols), tuple(ranges)
    if missing:
        raise ValueError(f"{title} needs a number for {', '.join(missing)} too, or for none of them")
    exact = {name: exact_number(value, name) for name, value in given.items()}
    at = {symbols[name]: value for name, value in exact.items()}
    left = []
    for bound in ranges:
        limits = [e if e is None else e.xreplace(at) for e in (bound.lower, bound.upper)]
        if bound.symbol in at:
            _require_inside(title, replace(bound, lower=limits[0], upper=limits[1]), at[bound.symbol])
        else:
            left.append(replace(bound, lower=limits[0], upper=limits[1]))
    return SimpleNamespace(**(symbols | exact)), tuple(left)


def _require_inside(title: str, bound: Bound, value: Expr) -> None:
    both = None not in (bound.lower, bound.upper)
    sides = ((bound.lower, 1, ">", bound.strict), (bound.upper, -1, "<", bound.strict or both))
    for limit, side, relation, strict in sides:
        if limit is None or limit.free_symbols or value.free_symbols:
            continue
        sign = side * number_sign(value - limit)
        if sign < 0 or (strict and sign == 0):
            if limit == 0:
                raise ValueError(f"{bound.symbol} must be positive, got {value}")
            relation += "" if strict else "="
            raise ValueError(f"{title} needs {bound.symbol} {relation} {limit}, got {bound.symbol} = {value}")
