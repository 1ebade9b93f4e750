r"""Images on one mode of the error: :math:`X^{(j)}\to\varphi^{(j)}`, :math:`\nabla f\to\lambda\varphi`.

The curve itself has the image :math:`\varphi-q`, where q is the error less the image of the weights; a
gradient is :math:`\lambda` times the image of its point and q.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy
from sympy import Add, Derivative, Expr, Integer, Symbol

from odeopt.limits.series import GradientDifferential

__all__ = ["ALONG_Q", "coefficients_image", "mode_image", "start_image"]

# The place of q beside the derivatives 0, 1, ... of the error.
ALONG_Q = -1


def mode_image(expr: Expr, lam: Symbol) -> dict[int, Expr]:
    """Image of a vector on one mode, {derivative order j: factor}, the sum of factor * phi^(j) and of q."""
    if isinstance(expr, Derivative):
        return {expr.derivative_count: Integer(1)}
    if isinstance(expr, GradientDifferential):
        if len(expr.directions) > 1:
            return {}  # third and higher derivatives of a quadratic vanish
        inner = dict(mode_image(expr.directions[0] if expr.directions else expr.point, lam))
        if not expr.directions:
            inner[ALONG_Q] = inner.get(ALONG_Q, Integer(0)) + 1
        return {j: lam * sympy.cancel(c) for j, c in inner.items()}
    if isinstance(expr, sympy.core.function.AppliedUndef):
        return {0: Integer(1), ALONG_Q: Integer(-1)}
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


def start_image(expr: Expr, lam: Symbol) -> tuple[Expr, Expr]:
    """Factors of the first error and of q in a vector of the start, where derivatives of the curve vanish."""
    image = mode_image(expr, lam)
    return image.get(0, Integer(0)), image.get(ALONG_Q, Integer(0))


def coefficients_image(terms: Mapping[Expr, Expr], order: int, lam: Symbol) -> tuple[tuple[Expr, ...], Expr]:
    """Images of vectors with coefficients: by the derivatives of a mode, and the right side, along q."""
    found, source = [Integer(0)] * (order + 1), Integer(0)
    for vector, scalar in terms.items():
        for j, factor in mode_image(vector, lam).items():
            if j == ALONG_Q:
                source -= scalar * factor
            else:
                found[j] += scalar * factor
    return tuple(found), sympy.cancel(source)
