r"""How sympy says that an expression has no series or no limit."""

from __future__ import annotations

import sympy
from sympy import Expr

__all__ = ["FAILURES", "NoLimitError", "is_infinite"]

FAILURES = (
    ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError, sympy.PoleError
)  # fmt: skip


class NoLimitError(ValueError):
    """The rule has no limiting ODE in the scaling at hand."""


def is_infinite(expr: Expr) -> bool:
    """Whether an expression holds an infinity of either sign, or nan."""
    return expr.has(sympy.zoo, sympy.oo, -sympy.oo, sympy.nan)
