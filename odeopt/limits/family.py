r"""The family with a limit in which a rule with numbers is embedded: its own scaling, else a power of lr."""

from __future__ import annotations

import functools
from typing import Any

import sympy
from sympy import Expr, Rational, Symbol

from odeopt.checks import is_number
from odeopt.limits.balance import time_scale
from odeopt.limits.derivation import Derivation
from odeopt.limits.elimination import ScalarEquation, are_determined, eliminate, linear_step
from odeopt.limits.read_step import read_step
from odeopt.limits.series import NoLimitError
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import fraction_meant
from odeopt.rules.pieces import exact_number
from odeopt.rules.reading import Reading, read

__all__ = ["equation_of", "family_of", "forgets", "readable_step", "scaled"]

# Powers p of t = k lr^p that are tried where the step is no rational function of lr and k.
_POWERS = tuple(map(Rational, ("1", "1/2", "1/3", "1/4", "2", "2/3", "4/3", "3/2", "3", "4")))


def readable_step(rule: UpdateRule) -> Reading:
    """The reading of a step that could be run, with its law in k; else its refusal."""
    reading = read(rule)
    refusal = reading.refusal
    if refusal is not None and refusal.kind not in ("nonlinear", "affine"):
        raise NoLimitError(f"{rule.label} has no limit: its step cannot be read: it {refusal}")
    if refusal is None and reading.law_refusal is not None:
        raise NoLimitError(f"{rule.label} has no limit: its step {reading.law_refusal}")
    if reading.points > rule.gradients:
        raise ValueError(
            f"the step of {rule.label} takes gradients at {reading.points} points, "
            f"{', '.join(read_step(reading).points)}; "
            f"keep the earlier one in memory, or declare gradients = {reading.points} in the class"
        )
    return reading


@functools.lru_cache(maxsize=64)
def equation_of(family: UpdateRule, h: Symbol) -> ScalarEquation | None:
    """The equation of the iterate, which the search for a scale and the derivation share."""
    return eliminate(linear_step(readable_step(family)), h)


def forgets(equation: ScalarEquation, h: Symbol) -> bool:
    """Whether the memories that are left to follow do."""
    return are_determined(equation.slaved, equation.step, h)


def family_of(rule: UpdateRule, h: Symbol, regime: str) -> tuple[UpdateRule, dict[Any, Any], float | Expr]:
    """Embed fixed hyperparameters: by the rule's own scaling, else with lr = h^(1/p) by dominant balance.

    Decoupled decay keeps lr * weight_decay / h, or it would vanish beside a momentum, with lr = h^2.
    """
    around: Any = getattr(rule, "around", None)
    if around is not None and rule.is_numeric:
        family, values, time_step = _meant(around(family_of(rule.rule, h, regime), h, regime))
        if rule.period == 1:
            return family, values, time_step
        # a period of many steps is eliminated in seconds with numbers, in minutes with symbols
        return (
            family.map_hyperparameters(lambda v: v.subs(values) if isinstance(v, Expr) else v),
            {},
            time_step,
        )
    family, values, time_step = scaled(rule, h, regime) or _balanced(rule, h)
    decay: Any = rule.hyperparameters.get("weight_decay")
    lr = family.hyperparameters.get("lr")
    fades = is_number(decay) and getattr(rule, "decoupled", False) and sympy.limit(lr / h, h, 0) == 0
    if not fades or not rule.is_numeric:
        return family, values, time_step
    rate = Symbol("w", positive=True)
    found = float(rule.lr) * float(decay) / float(time_step)
    return _meant((family.replace(weight_decay=rate * h / lr), {**values, rate: found}, time_step))


def scaled(rule: UpdateRule, h: Symbol, regime: str) -> tuple[UpdateRule, dict[Any, Any], float] | None:
    """The rule's own scaling, its values as they were meant; None where it leaves the choice open."""
    found = rule.scaling(h, regime) if rule.is_numeric else None
    return None if found is None else _meant(found)


def _meant(found: tuple[UpdateRule, dict[Any, Any], Any]) -> tuple[UpdateRule, dict[Any, Any], Any]:
    family, values, time_step = found
    return family, {s: exact_number(fraction_meant(float(v))) for s, v in values.items()}, time_step


def _balanced(rule: UpdateRule, h: Symbol) -> tuple[UpdateRule, dict[Any, Any], float | Expr]:
    if "lr" not in rule.hyperparameters:
        raise NoLimitError(
            f"{rule.label} has no hyperparameter lr to tend to 0; pass h and write the scaling yourself"
        )
    power, lr = _power(rule, h), rule.lr
    return _with_lr(rule, h ** (1 / power)), {}, float(lr) ** float(power) if is_number(lr) else lr**power


def _with_lr(rule: UpdateRule, value: Expr) -> UpdateRule:
    """The rule, its numbers exact, with another learning rate."""
    family, lr = rule.exact(), rule.lr
    if not isinstance(lr, Symbol):
        return family.replace(lr=value)
    return family.map_hyperparameters(lambda v: v.subs(lr, value) if isinstance(v, Expr) else v)


def _power(rule: UpdateRule, h: Symbol) -> Rational:
    """The p of t = k lr^p: by the Newton polygon for rational steps without memory, else the first to fit."""
    readable_step(_with_lr(rule, h))  # a step that can be run with numbers alone is refused by its line
    if not read(rule).start and _is_rational(rule):
        return time_scale(rule).power
    reasons = []
    for p in _POWERS:
        equation = equation_of(_with_lr(rule, h ** (1 / p)), h)
        if equation is None:
            return Rational(1)
        obstacle = Derivation(equation, h).obstacle
        if not obstacle:
            return p
        reasons.append(f"lr = {h}^({1 / p}): {obstacle}")
    raise NoLimitError(f"{rule.label} has no limit: {'; '.join(reasons[:3])}")


def _is_rational(rule: UpdateRule) -> bool:
    """Whether all coefficients of a step are rational functions of k and of a root of lr."""
    u = Symbol("u", positive=True)
    reading = read(_with_lr(rule, u**12))
    laws = [reading.law(r) for r in range(reading.period)]
    entries = [v for law in laws for m in (law.M, law.N, law.A, law.B) for row in m for v in row]
    return all(v.is_rational_function(reading.k, u) for v in entries if isinstance(v, Expr))
