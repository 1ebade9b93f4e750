r"""The right side of a limit on numbers: its vectors evaluated through the derivatives of a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Symbol
from sympy.codegen.cfunctions import expm1

from odeopt.limits.components import Coordinate
from odeopt.limits.series import GradientDifferential, NoLimitError

__all__ = ["Field"]

_EXTREMA = {sympy.Max: sympy.Function("maximum"), sympy.Min: sympy.Function("minimum")}
_NUMPY = [{"Norm": np.linalg.norm, "Dot": np.dot, "maximum": np.maximum, "minimum": np.minimum}, "numpy"]


class Field:
    """Expressions in t, in unknown curves and in gradients along them, as a function of arrays.

    ``differential(x, v_1, ..., v_p)`` returns the derivative of the gradient in these directions.
    """

    def __init__(
        self,
        expressions: Sequence[Expr],
        unknowns: Sequence[Expr],
        t: Symbol,
        differential: Callable[..., Any],
    ) -> None:
        self.differential: Callable[..., Any] = differential
        gradients = set().union(*(e.atoms(GradientDifferential) for e in expressions))
        self.gradients: list[Any] = sorted(gradients, key=lambda v: len(v.atoms(GradientDifferential)))
        free = set().union(*(e.free_symbols for e in expressions)) - {t}
        if free:
            raise NoLimitError(
                f"the limit holds the symbols {', '.join(sorted(map(str, free)))}; give them numbers "
                "with subs(...)"
            )
        slots = [Coordinate(f"s_{i}") for i in range(len(unknowns))]
        names = [Coordinate(f"v_{i}") for i in range(len(self.gradients))]
        self.replaced: dict[Expr, Expr] = dict(zip(unknowns, slots, strict=True)) | dict(
            zip(self.gradients, names, strict=True)
        )
        self.arguments: list[Any] = [t, *slots, *names]
        self.functions: list[Callable[..., Any]] = [self._compiled(e) for e in expressions]
        self.places: list[list[Callable[..., Any]]] = [
            [self._compiled(a) for a in v.args] for v in self.gradients
        ]

    def _compiled(self, expr: Expr) -> Callable[..., Any]:
        expr = expr.xreplace(self.replaced)
        expr = expr.replace(_is_difference, lambda e: -expm1((-e.args[1]).exp))  # precise at small t
        for kind, name in _EXTREMA.items():
            expr = expr.replace(kind, lambda *args, name=name: _nested(name, args))
        return sympy.lambdify(self.arguments, expr, _NUMPY)

    def __call__(self, t: float, state: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Values of the expressions; the first unknown has the shape of all."""
        shape = state[0].shape
        values = [np.zeros(shape) for _ in self.gradients]
        for i, arguments in enumerate(self.places):
            place = [np.broadcast_to(a(t, *state, *values), shape) for a in arguments]
            values[i] = np.asarray(self.differential(*place), dtype=float)
            if values[i].shape != shape:
                raise ValueError(f"differential must return an array of shape {shape}, got {values[i].shape}")
        return [np.broadcast_to(f(t, *state, *values), shape) for f in self.functions]


def _is_difference(expr: Expr) -> bool:
    """Whether an expression is 1 - exp(z)."""
    return expr.is_Add and len(expr.args) == 2 and expr.args[0] == 1 and isinstance(-expr.args[1], sympy.exp)


def _nested(name: Callable, args: tuple) -> Expr:
    return args[0] if len(args) == 1 else name(args[0], _nested(name, args[1:]))
