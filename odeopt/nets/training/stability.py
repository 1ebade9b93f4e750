r"""What a rule must be before it trains: numeric, linear where that is needed, long and stable enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.rules.base import UpdateRule

__all__ = ["require_linear", "require_numeric", "require_stable", "require_steps"]

Result = TypeVar("Result")
# Steps up to which a refusal names the limit, whose cost grows as their square.
_LIMIT_STEPS = 2000


def require_numeric(rule: object, name: str = "rule") -> None:
    """Refuse what is no rule, and a rule that holds symbols; `name` is the argument."""
    if not isinstance(rule, UpdateRule) or not rule.is_numeric:
        raise ValueError(
            f"{name} must be an UpdateRule with numeric hyperparameters, got {rule!r}; "
            "give symbols their values with rule.at({...})"
        )


def require_steps(rule: UpdateRule, num_steps: int) -> None:
    """Refuse more steps than the schedules of a rule have values for, before the first one is taken."""
    last = rule.last_step
    if last is not None and num_steps - 1 > last:
        raise ValueError(
            f"num_steps = {num_steps} ends with a step at k = {num_steps - 1}, but a schedule of "
            f"{rule.label} ends at k = {last}, after {last + 1} steps; give it more, or take fewer steps"
        )


def require_linear(rule: UpdateRule, objective: PredictionLoss, name: str, num_steps: int) -> None:
    """Refuse what has no linear recursion in the errors; `name` is the argument that asks for one."""
    from odeopt.rules import reading  # brings sympy

    if not isinstance(objective, SquaredLoss):
        raise ValueError(f"{name} needs the squared loss, got {objective.label}: only its gradient is linear")
    purpose = f"recursion in the errors ({name} needs a linear rule)"
    reading.require_linear(rule, purpose, equivariant=True, k=num_steps)


def require_stable(rule: UpdateRule, objective: PredictionLoss, lam_max: float, num_steps: int) -> None:
    """Refuse a learning rate above the stability limit of the linearised dynamics, or of unknown limit.

    Of a rule with schedules the steps of this run decide: no error may grow by more than a factor.
    """
    if objective.smoothness is None:
        raise ValueError(
            f"no stability limit is known for objective {objective.label}, whose smoothness is not given; "
            "set the class attribute, or pass allow_unstable=True to run it all the same"
        )
    lam_max *= objective.smoothness
    if lam_max <= 0:
        return
    if rule.is_scheduled:
        _require_bounded(rule, lam_max, num_steps)
        return
    from odeopt.rates.iteration import max_learning_rate  # brings sympy, which a run itself does not need

    limit = _known(rule, lambda: max_learning_rate(rule, lam_max))
    if rule.lr > limit:
        raise ValueError(
            f"lr = {rule.lr:.6g} exceeds the stability limit {limit:.6g} of {rule.label} linearised at the "
            f"initial weights (largest curvature {lam_max:.6g}); lower it, or pass allow_unstable=True"
        )


def _known(rule: UpdateRule, limit: Callable[[], Result]) -> Result:
    """What is asked for the stability of a rule, or the refusal of one of which it is not known."""
    try:
        return limit()
    except ValueError as error:
        raise ValueError(
            f"no stability limit is known for rule {rule.label}: {error}; "
            "pass allow_unstable=True to run it all the same"
        ) from error


def _require_bounded(rule: UpdateRule, lam_max: float, num_steps: int) -> None:
    """Refuse a run with schedules that is seen to grow, where a finite factor for a while is none of it."""
    from odeopt.rates import horizon, iteration  # bring sympy, which a run itself does not need

    found = _known(rule, lambda: horizon.seen_growth(rule, lam_max, num_steps))
    if found.value <= horizon.GROWTH:
        return
    remedy = "lower the schedule"
    if num_steps <= _LIMIT_STEPS:
        largest = _known(rule, lambda: iteration.max_learning_rate(rule, lam_max, num_steps=num_steps))
        remedy = f"take a peak of lr of at most {largest:.6g} in place of {horizon.peak_of(rule):.6g}"
    raise ValueError(
        f"{rule.label} is unstable over num_steps = {num_steps}: linearised at the initial weights, an "
        f"error of curvature {found.lam:.6g} (the largest is {lam_max:.6g}) grows {found.value:.3g} times by "
        f"k = {found.step}; {remedy}, or pass allow_unstable=True"
    )
