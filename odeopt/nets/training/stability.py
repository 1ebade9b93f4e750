r"""What a rule must be before it trains: numeric, linear where that is needed, below its stability limit."""

from __future__ import annotations

from odeopt.dynamics.losses import PredictionLoss, SquaredLoss
from odeopt.rules.base import UpdateRule

__all__ = ["require_linear", "require_numeric", "require_stable"]


def require_numeric(rule: object, name: str = "rule") -> None:
    """Refuse what is no rule, and a rule that holds symbols; `name` is the argument."""
    if not isinstance(rule, UpdateRule) or not rule.is_numeric:
        raise ValueError(
            f"{name} must be an UpdateRule with numeric hyperparameters, got {rule!r}; "
            "give symbols their values with rule.at({...})"
        )


def require_linear(rule: UpdateRule, objective: PredictionLoss, name: str, num_steps: int) -> None:
    """Refuse what has no linear recursion in the errors; `name` is the argument that asks for one."""
    from odeopt.rules import reading  # brings sympy

    if not isinstance(objective, SquaredLoss):
        raise ValueError(f"{name} needs the squared loss, got {objective.label}: only its gradient is linear")
    purpose = f"recursion in the errors ({name} needs a linear rule)"
    reading.require_linear(rule, purpose, equivariant=True, k=num_steps)


def require_stable(rule: UpdateRule, objective: PredictionLoss, lam_max: float) -> None:
    """Refuse a learning rate above the stability limit of the linearised dynamics, or of unknown limit."""
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
        limit = max_learning_rate(rule, lam_max)
    except ValueError as error:
        raise ValueError(
            f"no stability limit is known for rule {rule.label}: {error}; "
            "pass allow_unstable=True to run it all the same"
        ) from error
    if rule.lr > limit:
        raise ValueError(
            f"lr = {rule.lr:.6g} exceeds the stability limit {limit:.6g} of {rule.label} linearised at the "
            f"initial weights (largest curvature {lam_max:.6g}); lower it, or pass allow_unstable=True"
        )
