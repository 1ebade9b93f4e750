r"""Which objects are dynamics closed in the error and the kernel: the one refusal of those that are not."""

from __future__ import annotations

from typing import Any

from odeopt.dynamics.error import ErrorDynamics, PreconditionedDynamics
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.ode import ODELimit
from odeopt.rules.base import UpdateRule

__all__ = ["require_error_dynamics"]


def require_error_dynamics(dynamics: Any, purpose: str, *, source: bool = False) -> ErrorDynamics:
    """Return ErrorDynamics, or say why the object is none and what to do about it.

    >>> require_error_dynamics(3, "mode")
    Traceback (most recent call last):
        ...
    ValueError: a mode is taken of ErrorDynamics, got int; make them with error_dynamics(ode_limit(rule))
    """
    if isinstance(dynamics, ErrorDynamics):
        if dynamics.has_source and not source:
            raise ValueError(
                f"a {purpose} is taken of an equation in the error alone, but that of weights that decay to "
                f"0, {dynamics}, holds q = Delta_0 - J w_0 too; decay to_start, or give loss_curve its mode "
                "and a measure with an origin, or integrate one"
            )
        return dynamics
    name = type(dynamics).__name__
    if isinstance(dynamics, (PreconditionedDynamics, SystemLimit)):
        limit = dynamics.limit if isinstance(dynamics, PreconditionedDynamics) else dynamics
        label = limit.rule.label
        reason = (
            f"got {name} of {label}, whose limit is a system in the weights: its error does not close in the "
            "kernel H, so it has none; integrate the limit in the weights with integrate_limit"
        )
    elif isinstance(dynamics, ODELimit):
        reason = f"got the {name} {dynamics}; carry it to the error first, with error_dynamics(limit)"
    elif isinstance(getattr(dynamics, "linear", None), ErrorDynamics):  # PredictionDynamics
        reason = f"got {name}; its linear part under the squared loss is dynamics.linear"
    elif isinstance(dynamics, UpdateRule):
        reason = f"got the rule {dynamics.label}; take error_dynamics(ode_limit(rule))"
    else:
        reason = f"got {name}; make them with error_dynamics(ode_limit(rule))"
    raise ValueError(f"a {purpose} is taken of ErrorDynamics, {reason}")
