r"""The methods of a study: short names with the numbers of the study, or rules of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from odeopt.rules.averaged import with_average
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import HeavyBall, HigherMomentum, Nesterov, NesterovConstant
from odeopt.rules.momentum import TripleMomentum
from odeopt.rules.names import METHODS, method_names, require_decay
from odeopt.rules.reading import read
from odeopt.rules.schedule import Schedule

__all__ = ["chosen_methods", "require_constant_kernel", "rule_at_rate"]

Method = str | UpdateRule


def chosen_methods(
    methods: Any, known: Sequence[str], decay: Mapping[str, Any]
) -> dict[str, str | UpdateRule]:
    """Names or rules by what each is called in a report; refused where a name is unknown or has no decay."""
    if isinstance(methods, str) or not isinstance(methods, Sequence):
        raise ValueError(f"methods must be a sequence of names or rules, got {methods!r}")
    names = [m for m in methods if not isinstance(m, UpdateRule)]
    if names or not methods:
        short = method_names(names, known)
        require_decay(short, decay)
        methods = [m if isinstance(m, UpdateRule) else short[names.index(m)] for m in methods]
    found = {_name(m, methods): m for m in methods}
    if len(found) < len(methods):
        raise ValueError(f"methods must differ, got {', '.join(_name(m, methods) for m in methods)}")
    return found


def _name(method: Method, methods: Sequence[Method]) -> str:
    """Name in the report: for a rule its class, with its numbers where the class is not unique."""
    if not isinstance(method, UpdateRule):
        return method
    same = [m for m in methods if type(m) is type(method)]
    return type(method).__name__ if len(same) == 1 else method.label


def rule_at_rate(
    name: str,
    lr: float | Schedule,
    lam_min: float,
    *,
    decay: Mapping[str, Any],
    average: Any = None,
    friction: float | None = None,
    r: float = 3.0,
    momenta: tuple[float, ...] = (),
) -> UpdateRule:
    """A method by its name at a learning rate, with the critical momentum where no friction is given."""
    kind, more = METHODS[name], dict(decay)
    peak = lr.largest if isinstance(lr, Schedule) else float(lr)
    if kind is HeavyBall:
        # At sqrt(2/lr) the momentum is 0, which is less than critical where the spectrum is narrow.
        critical = min(2 * math.sqrt(lam_min), (1 - 1e-9) * math.sqrt(2 / peak))
        more["momentum"] = HeavyBall.with_friction(peak, critical if friction is None else friction).momentum
    elif kind is NesterovConstant:
        root = min(math.sqrt(peak * lam_min), 1.0)
        more["momentum"] = (1 - root) / (1 + root)
    elif kind is TripleMomentum:
        raise ValueError("tm has constants of its own for mu and L; leave lr out, or leave tm out")
    more |= {Nesterov: {"r": r}, HigherMomentum: {"momenta": momenta}}.get(kind, {})
    return with_average(kind(**{"lr": lr, **more}), average)


def require_constant_kernel(methods: Sequence[str | UpdateRule], decay: dict[str, Any], layers: str) -> None:
    """Refuse decay to 0 where the kernel shrinks with the weights."""
    rules = [m for m in methods if isinstance(m, UpdateRule)]
    shrink = [rule.label for rule in rules if _pulls_to_zero(rule)]
    if decay and not decay.get("to_start"):
        shrink.append(f"weight_decay = {decay['weight_decay']!r}")
    if shrink and layers == "both":
        raise ValueError(
            f"{shrink[0]} pulls all layers to 0, and where all are trained the kernel shrinks with them, "
            "at any width: no constant kernel predicts that; take to_start=True, or layers='first'"
        )


def _pulls_to_zero(rule: UpdateRule) -> bool:
    """Whether a shift of the weights is none of all iterates; what is not linear is refused elsewhere."""
    found = read(rule)
    decays = getattr(rule, "weight_decay", None) not in (None, 0) and not getattr(rule, "to_start", False)
    return found.linear and (decays or not found.equivariant)
