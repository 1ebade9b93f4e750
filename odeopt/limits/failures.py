r"""How sympy, and steps that were written for numbers, say that they know nothing of an expression."""

from __future__ import annotations

import sympy
from sympy import Expr

__all__ = ["FAILURES", "STEP_FAILURES", "NoLimitError", "is_infinite"]

FAILURES = (
    ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError, sympy.PoleError
)  # fmt: skip

# What a step may raise that was written for numbers only.
STEP_FAILURES = (*FAILURES, LookupError)


class NoLimitError(ValueError):
    """The rule has no limiting ODE in the scaling at hand.

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> h = sympy.Symbol("h", positive=True)
    >>> try:
    ...     ode_limit(GradientDescent(lr=1 + h), h)
    ... except NoLimitError as reason:
    ...     print(str(reason)[:81])
    GradientDescent(lr=1 + h) has no limit: at leading order h^0 the residual is (1)*
    """


def is_infinite(expr: Expr) -> bool:
    """Whether an expression holds an infinity of either sign, or nan."""
    return expr.has(sympy.zoo, sympy.oo, -sympy.oo, sympy.nan)
