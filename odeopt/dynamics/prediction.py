r"""The ODE of the predictions under any convex loss.

For a model that is linear in its weights, with the Jacobian J and the kernel :math:`H=JJ^\top`, the
gradient of :math:`\ell(u(w))` is :math:`J^\top\nabla\ell(u)`. Multiplied by J, a limit that is linear in
derivatives and gradients becomes, with nothing dropped,

.. math:: \sum_{j\ge1}a_j(t)\,u^{(j)}+c(t)\,H\,\nabla\ell(u)=-a_0(t)\,(u-u_0+Jw_0),

whose right side, the image of the curve itself, is there where weights decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Expr, Symbol

from odeopt.checks import is_number, real_array
from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.error import Assumption, ErrorDynamics, error_dynamics
from odeopt.dynamics.losses import PredictionLoss, require_loss
from odeopt.limits.ode import ODELimit
from odeopt.limits.series import GradientDifferential
from odeopt.limits.text import equation_latex, equation_text, factor_text
from odeopt.rules.formulas import latex
from odeopt.shown import Equation, Summary

__all__ = ["PredictionDynamics", "prediction_dynamics"]


@dataclass(frozen=True, repr=False)
class PredictionDynamics(Equation):
    r"""The ODE :math:`\sum_{j\ge1}a_j\,u^{(j)}+a_0(u-u_0+Jw_0)+c\,H\,\nabla\ell(u)=0` of the predictions.

    Parameters
    ----------
    linear : ErrorDynamics
        The same for the squared loss, where :math:`\nabla\ell(u)=\Delta`.
    loss : PredictionLoss
        :math:`\ell`.

    Examples
    --------
    >>> from odeopt import Nesterov, SquaredLoss, ode_limit
    >>> dynamics = prediction_dynamics(ode_limit(Nesterov(lr=0.01, r=3)), SquaredLoss())
    >>> dynamics.order, dynamics.monic, dynamics.time_step
    (2, (1, 3/t), 0.1)
    """

    linear: ErrorDynamics
    loss: PredictionLoss

    @property
    def order(self) -> int:
        """Order of the equation."""
        return self.linear.order

    @property
    def t(self) -> Symbol:
        """Symbol of time."""
        return self.linear.t

    @property
    def time_step(self) -> float | Expr:
        """Time of one step, t = (k + time_origin) * time_step."""
        return self.linear.time_step

    @property
    def time_origin(self) -> float | Expr:
        """Where the clock of the limit stands at k = 0, in steps."""
        return 0.0 if self.linear.limit is None else self.linear.limit.time_origin

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """What was dropped on the way from the weights to the predictions."""
        return self.linear.assumptions

    @property
    def monic(self) -> tuple[Expr, ...]:
        r""":math:`(c,a_1,\dots,a_{n-1})`, divided by the coefficient of the highest derivative."""
        stiffness, *damping, leading = self.linear.coefficients
        force = (stiffness - self.linear.source) / self.linear.lam
        return tuple(sympy.cancel(a / leading) for a in (force, *damping))

    def subs(self, values: Mapping[Any, Any]) -> PredictionDynamics:
        """Return the dynamics with numbers in place of symbols.

        Parameters
        ----------
        values : dict
            Symbol to number.

        Returns
        -------
        PredictionDynamics
            Under the same loss.

        Examples
        --------
        >>> import sympy
        >>> from odeopt import HeavyBall, SquaredLoss, ode_limit
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> dynamics = prediction_dynamics(ode_limit(HeavyBall(h**2, 1 - b * h), h), SquaredLoss())
        >>> print(dynamics.subs({b: 2}))
        u'' + 2*u' + H*grad l(u) = 0
        """
        return PredictionDynamics(self.linear.subs(values), self.loss)

    def times(self, k: npt.ArrayLike) -> np.ndarray:
        """Return the times of iterations, t = (k + time_origin) * time_step.

        Parameters
        ----------
        k : array_like of int, shape (K,)
            Iterations.

        Returns
        -------
        numpy.ndarray, shape (K,)
            In the order of `k`; refused where the clock holds symbols.

        Examples
        --------
        >>> from odeopt import LogisticLoss, Nesterov, ode_limit
        >>> prediction_dynamics(ode_limit(Nesterov(lr=0.01)), LogisticLoss()).times([0, 10])
        array([0., 1.])
        """
        clock = self.time_origin, self.time_step
        if not all(is_number(c) or getattr(c, "is_number", False) for c in clock):
            raise ValueError(f"the clock of {self} holds symbols; give them numbers with dynamics.subs(...)")
        origin, step = (float(c) for c in clock)
        return (real_array([k] if is_number(k) else k, "k", ndim=1) + origin) * step

    def latex(self) -> str:
        """Return the equation as LaTeX.

        Returns
        -------
        str
            Without dollar signs; the loss is not written out.
        """
        left = equation_latex(self.linear.parts(True, "u", r"\,\nabla\ell(u)"))
        if not self.linear.has_source:
            return left
        pull = latex(self.linear.printed_source or self.linear.source)
        return left.removesuffix("0") + rf"\left({pull}\right)(u_0-Jw_0)"

    def _summary(self) -> Summary:
        return Summary([str(self), repr(self.loss)])

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()},\\quad {self.loss.latex()}$"

    def __str__(self) -> str:
        left = equation_text(self.linear.parts(False, "u", "grad l(u)"))
        if not self.linear.has_source:
            return left
        pull = factor_text(self.linear.printed_source or self.linear.source)
        return f"{left.removesuffix('0')}{pull}(u_0 - J w_0)"


def prediction_dynamics(limit: ODELimit, loss: PredictionLoss) -> PredictionDynamics:
    r"""Carry a limit from the weights to the predictions, for any loss.

    Parameters
    ----------
    limit : ODELimit
        Linear in derivatives and gradients, with any coefficients in t.
    loss : PredictionLoss
        Of which the gradient drives the predictions.

    Returns
    -------
    PredictionDynamics
        The equation, its clock and what was dropped.

    Raises
    ------
    ValueError
        If the limit holds a Hessian of the loss, or anything not linear, or does not start at the first
        iterate.

    Notes
    -----
    Decay to the start is decay to 0 of weights that are measured from it: take the limit of the rule with
    decay to 0, and ``origin = 0`` in :func:`odeopt.dynamics.integrate_predictions`.

    Examples
    --------
    >>> from odeopt import LogisticLoss, Nesterov, ode_limit
    >>> dynamics = prediction_dynamics(ode_limit(Nesterov(lr=0.01, r=3)), LogisticLoss())
    >>> print(dynamics)
    u'' + (3/t)*u' + H*grad l(u) = 0
    >>> [a.name for a in dynamics.assumptions]
    ['constant kernel', 'moving Jacobian', 'activation flips']
    """
    require_loss("loss", loss)
    dynamics = error_dynamics(limit)
    if isinstance(limit, ODELimit) and limit.initial_position != limit.curve:
        raise ValueError(
            f"limit starts at {limit.initial_position}, not at the first iterate; take resolution 0"
        )
    linear = require_error_dynamics(dynamics, "prediction equation", source=True)
    for vector in limit.terms:
        if isinstance(vector, GradientDifferential) and vector.directions:
            raise ValueError(
                f"limit contains {vector}, a derivative of the gradient, whose image is not linear in "
                "grad l(u); take the limit itself, resolution 0; where weights decay to_start that of the "
                "decay to 0, which from origin = 0 in integrate_predictions is the same"
            )
    lam, pulled = linear.lam, linear.source_data[1:] or (sympy.S.Zero,) * len(linear.initial)
    stiffness = sympy.cancel((linear.coefficients[0] - linear.source) / lam)
    # of the curve itself, whose image has u_0 - J w_0 beside u
    slopes = [sympy.cancel((v + q) / lam) for v, q in zip(linear.initial, pulled, strict=True)]
    if any(c.has(lam) for c in (linear.source, stiffness, *pulled, *linear.coefficients[1:], *slopes)):
        raise ValueError(
            f"limit {limit} is not of the form a_0 X + sum_j a_j X^(j) + c grad f(X) = 0 with initial "
            "derivatives along the gradient and the curve; take another scaling of its hyperparameters"
        )
    return PredictionDynamics(linear, loss)
