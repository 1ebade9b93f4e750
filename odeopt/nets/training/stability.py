r"""What a rule must be before it trains: numeric, linear where that is needed, long and stable enough."""

from __future__ import annotations

import itertools

import numpy as np

from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.rules.base import UpdateRule, iterate

__all__ = ["require_linear", "require_numeric", "require_stable", "require_steps"]

# Growth of an error mode above which the run of a schedule is refused: far above what momentum overshoots.
_GROWTH = 10.0
_MODES = 257


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

    Of a rule with schedules the steps of this run decide: an error mode may not grow by more than a factor.
    """
    from odeopt.rates.iteration import max_learning_rate  # brings sympy, which a run itself does not need

    if objective.smoothness is None:
        raise ValueError(
            f"no stability limit is known for objective {objective.label}, whose smoothness is not given; "
            "set the class attribute, or pass allow_unstable=True to run it all the same"
        )
    lam_max *= objective.smoothness
    if lam_max <= 0:
        return
    try:
        limit = None if rule.is_scheduled else max_learning_rate(rule, lam_max)
        grown = _growth(rule, lam_max, num_steps) if rule.is_scheduled else (0.0, 0, 0.0)
    except ValueError as error:
        raise ValueError(
            f"no stability limit is known for rule {rule.label}: {error}; "
            "pass allow_unstable=True to run it all the same"
        ) from error
    if grown[0] > _GROWTH:
        raise ValueError(
            f"{rule.label} is unstable over num_steps = {num_steps}: linearised at the initial weights, an "
            f"error of curvature {grown[2]:.6g} (the largest is {lam_max:.6g}) grows {grown[0]:.3g} times by "
            f"k = {grown[1]}; lower the schedule, or pass allow_unstable=True"
        )
    if limit is not None and rule.lr > limit:
        raise ValueError(
            f"lr = {rule.lr:.6g} exceeds the stability limit {limit:.6g} of {rule.label} linearised at the "
            f"initial weights (largest curvature {lam_max:.6g}); lower it, or pass allow_unstable=True"
        )


def _growth(rule: UpdateRule, lam_max: float, num_steps: int) -> tuple[float, int, float]:
    """Largest growth of a mode in so many steps, the step, and the curvature."""
    from odeopt.rules import reading

    reading.require_linear(rule, "stability limit", k=num_steps)
    curvatures = lam_max * np.sin(np.linspace(0, np.pi / 2, _MODES)) ** 2
    largest = (1.0, 0, 0.0)
    run = iterate(rule, np.ones(_MODES), lambda z: curvatures * z)
    with np.errstate(over="ignore", invalid="ignore"):
        for k, error in enumerate(itertools.islice(run, num_steps + 1)):
            sizes = np.nan_to_num(np.abs(error), nan=np.inf)
            if sizes.max() > largest[0]:
                largest = float(sizes.max()), k, float(curvatures[sizes.argmax()])
            if not np.isfinite(sizes).all():
                break
    return largest
