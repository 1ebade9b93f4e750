r"""The error of a method whose learning rate stands outside the velocity: a system of error and momentum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sympy import Expr, Symbol, sympify

from odeopt.dynamics.mode_image import coefficients_image, start_image
from odeopt.limits.momentum_form import MomentumForm
from odeopt.limits.text import equation_text, factor_text
from odeopt.shown import Shown, Summary

__all__ = ["ErrorMomentum", "error_momentum"]


@dataclass(frozen=True, repr=False)
class ErrorMomentum(Shown):
    r"""The equation of second order :math:`\dot\Delta=wP`, :math:`\dot P+C_1(t,H)P+C_0(t,H)\Delta=S(t,H)q`.

    Parameters
    ----------
    weight : sympy.Expr
        The schedule w that stands outside the velocity.
    coefficients : tuple of sympy.Expr
        :math:`(C_0,C_1)`, functions of t and of the eigenvalue lam.
    source : sympy.Expr
        S, 0 but for weight decay.
    start : tuple of sympy.Expr
        The values P(0) along :math:`\Delta_0` and along q.

    Examples
    --------
    >>> from odeopt import TorchSGD, error_dynamics, ode_limit
    >>> from odeopt.rules import Linear
    >>> momentum = error_dynamics(ode_limit(TorchSGD(Linear(0.01, steps=100), momentum=0.9))).momentum
    >>> momentum.weight, momentum.coefficients
    (Piecewise((1 - t/10, t < 10), (0, True)), (lam, 1))
    """

    weight: Expr
    coefficients: tuple[Expr, Expr]
    source: Expr
    start: tuple[Expr, Expr]

    def _summary(self) -> Summary:
        parts = zip((1, *self.coefficients[::-1]), ("P'", "P", "Delta"), strict=True)
        left = equation_text((sympify(c, strict=True), vector) for c, vector in parts)
        source = "" if self.source == 0 else f"{factor_text(self.source)}q"
        right = left.removesuffix("0") + source if source else left
        return Summary([f"Delta' = {factor_text(self.weight)}P", right])

    def map(self, function: Callable[[Expr], Expr]) -> ErrorMomentum:
        """Return the equation with a function applied to every coefficient.

        Parameters
        ----------
        function : callable
            From an expression to an expression.

        Returns
        -------
        ErrorMomentum
            Of the images of the weight, the coefficients, the source and the start.

        Examples
        --------
        >>> import sympy
        >>> t, q = sympy.symbols("t q")
        >>> ErrorMomentum(t, (t, t), q, (q, q)).map(lambda c: 2 * c).weight
        2*t
        """
        (c0, c1), (start, along_q) = self.coefficients, self.start
        coefficients, data = (function(c0), function(c1)), (function(start), function(along_q))
        return ErrorMomentum(function(self.weight), coefficients, function(self.source), data)


def error_momentum(form: MomentumForm, lam: Symbol) -> ErrorMomentum:
    """Carry the equation in P over, where a vector in X' is w times one in P."""
    (stiffness, friction), source = coefficients_image(form.forces, 1, lam)
    coefficients = stiffness, form.friction + form.weight * friction
    return ErrorMomentum(form.weight, coefficients, source, start_image(form.start, lam))
