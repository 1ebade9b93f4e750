r"""Images on one mode of the error: :math:`X^{(j)}\to\varphi^{(j)}`, :math:`\nabla f\to\lambda\varphi`."""

from __future__ import annotations

import sympy
from sympy import Add, Derivative, Expr, Integer, Symbol

from odeopt.limits.series import GradientDifferential

__all__ = ["mode_image", "start_image"]


def mode_image(expr: Expr, lam: Symbol) -> dict[int, Expr]:
    """Image of a vector on one mode, as {derivative order j: factor}, meaning the sum of factor * phi^(j)."""
    if isinstance(expr, Derivative):
        return {expr.derivative_count: Integer(1)}
    if isinstance(expr, GradientDifferential):
        if len(expr.directions) > 1:
            return {}  # third and higher derivatives of a quadratic vanish
        inner = mode_image(expr.directions[0] if expr.directions else expr.point, lam)
        if not expr.directions:
            _require_whole(expr.point, expr)
        return {j: lam * c for j, c in inner.items()}
    if isinstance(expr, sympy.core.function.AppliedUndef):
        return {0: Integer(1)}
    total: dict[int, Expr] = {}
    for term in Add.make_args(sympy.expand(expr)):
        scalar, vector = term.as_independent(
            GradientDifferential, Derivative, sympy.core.function.AppliedUndef, as_Add=False
        )
        if term == 0:
            continue
        if vector == expr or vector == 1:
            raise ValueError(
                f"the limit contains {vector}, which is not linear; it does not close in (Delta, H)"
            )
        for j, c in mode_image(vector, lam).items():
            total[j] = total.get(j, Integer(0)) + scalar * c
    return total


def _require_whole(point: Expr, gradient: Expr) -> None:
    """Refuse a gradient point whose weights of X do not sum to 1, where the error is not what is scaled."""
    weights = [
        t.as_independent(sympy.core.function.AppliedUndef, Derivative, as_Add=False)
        for t in Add.make_args(sympy.expand(point))
    ]
    total = Add(*(c for c, v in weights if isinstance(v, sympy.core.function.AppliedUndef)))
    if sympy.simplify(total - 1) != 0:
        raise ValueError(
            f"the limit contains {gradient}, at a point where X has the weight {total}: the error there is "
            "not a multiple of Delta, so the equation does not close in (Delta, H); integrate the limit in "
            "the weights, with integrate_limit"
        )


def start_image(expr: Expr, lam: Symbol) -> Expr:
    """Initial derivative of a mode that starts from the first iterate 1."""
    return mode_image(expr, lam).get(0, Integer(0))
