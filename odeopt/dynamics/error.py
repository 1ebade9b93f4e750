r"""From the ODE of the weights to the ODE of the prediction error under a kernel.

With the squared loss :math:`L(w)=\tfrac12|u(w)-y|^2`, the error :math:`\Delta=u-y`, the Jacobian J of
the outputs and the kernel :math:`H=JJ^\top`, multiplying a limit by J replaces
:math:`X^{(j)}\to\Delta^{(j)}`, :math:`\nabla f\to H\Delta` and :math:`\nabla^2f\,v\to H\,Jv`:

.. math:: \sum_jA_j(t,H)\,\Delta^{(j)}=0,

exact for a model that is linear in its weights. For a network, terms are dropped; they are listed in
:attr:`ErrorDynamics.assumptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, overload

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Add, Expr, Integer, Symbol

from odeopt.checks import real_array, require_mapping, validate_kernel
from odeopt.dynamics.mode_image import mode_image, start_image
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.ode import ODELimit
from odeopt.limits.series import GradientDifferential, dotted_latex, plain
from odeopt.limits.text import derivative_latex, derivative_text, equation_latex, equation_text

__all__ = [
    "Assumption",
    "ErrorDynamics",
    "ErrorLoss",
    "PreconditionedDynamics",
    "error_dynamics",
]


@dataclass(frozen=True)
class Assumption:
    """A term that the linear dynamics drops, and when it vanishes."""

    name: str
    dropped: str
    vanishes: str

    def __str__(self) -> str:
        return f"{self.name}: drops {self.dropped}; {self.vanishes}"


@dataclass(frozen=True)
class ErrorLoss:
    r"""A strongly convex quadratic in prediction space, :math:`\tfrac12z^\top H^{\pm1}z`.

    Attributes
    ----------
    power : int
        1 for the error loss :math:`\tfrac12\Delta^\top H\Delta`, -1 for its dual
        :math:`\tfrac12u^\top H^{-1}u`, in the linear model half the squared weight distance along the
        row space of J.

    Examples
    --------
    >>> import numpy as np
    >>> H = np.diag([1.0, 4.0])
    >>> loss, dual = ErrorLoss(1), ErrorLoss(-1)
    >>> loss.value(H, [1.0, 1.0]), loss.constants(H)
    (2.5, (1.0, 4.0))
    >>> dual.value(H, [1.0, 1.0]), dual.constants(H)
    (0.625, (0.25, 1.0))
    """

    power: int

    def value(self, kernel: npt.ArrayLike, z: npt.ArrayLike) -> float:
        r"""Evaluate :math:`\tfrac12z^\top H^{\pm1}z`.

        Parameters
        ----------
        kernel : array_like, shape (n, n)
            Symmetric positive definite H.
        z : array_like, shape (n,)
            The error, or for the dual the prediction.

        Returns
        -------
        float
        """
        matrix = validate_kernel(kernel)
        z = real_array(z, "z", ndim=1)
        if len(z) != len(matrix):
            raise ValueError(f"z must have shape ({len(matrix)},) like the kernel, got {z.shape}")
        if self.power == 1:
            return float(0.5 * z @ matrix @ z)
        self.constants(matrix)
        return float(0.5 * z @ np.linalg.solve(matrix, z))

    def constants(self, kernel: npt.ArrayLike) -> tuple[float, float]:
        r"""Return strong convexity and smoothness: :math:`(\lambda_{\min},\lambda_{\max})` of the form.

        Parameters
        ----------
        kernel : array_like, shape (n, n)

        Returns
        -------
        mu, L : float
        """
        eigenvalues = np.linalg.eigvalsh(validate_kernel(kernel))
        low, high = float(eigenvalues[0]), float(eigenvalues[-1])
        if self.power == -1 and low <= 0:
            raise ValueError(f"the dual loss needs a positive definite kernel, got the eigenvalue {low:.3g}")
        return (low, high) if self.power == 1 else (1 / high, 1 / low)

    def latex(self) -> str:
        """Return the quadratic form as LaTeX."""
        return r"\tfrac12\Delta^\top H\Delta" if self.power == 1 else r"\tfrac12u^\top H^{-1}u"

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"


@dataclass(frozen=True)
class ErrorDynamics:
    r"""The linear ODE :math:`\sum_jA_j(t,H)\Delta^{(j)}=0` of the prediction error.

    Attributes
    ----------
    coefficients : tuple of sympy.Expr
        :math:`(A_0,\dots,A_n)`, functions of `t` and of the eigenvalue `lam` of H.
    initial : tuple of sympy.Expr
        :math:`(\varphi'(0),\dots,\varphi^{(n-1)}(0))` of a mode with :math:`\varphi(0)=1`.
    time_step : float or sympy.Expr
        t = (k + time_origin) * time_step.
    assumptions : tuple of Assumption
        What was dropped on the way from the weights to the error.
    start : sympy.Expr
        :math:`\varphi(0)`, 1 but for corrections that start the curve beside the first iterate.
    time_origin : float or sympy.Expr
        In steps.
    """

    coefficients: tuple[Expr, ...]
    initial: tuple[Expr, ...]
    t: Symbol
    lam: Symbol
    time_step: float | Expr
    assumptions: tuple[Assumption, ...] = field(repr=False)
    limit: ODELimit | None = field(default=None, repr=False)
    start: Expr = sympy.S.One
    time_origin: float | Expr = sympy.S.Zero

    @property
    def order(self) -> int:
        """Order of the equation."""
        return len(self.coefficients) - 1

    @property
    def loss(self) -> ErrorLoss:
        r"""The error loss :math:`\tfrac12\Delta^\top H\Delta`, whose gradient is the force."""
        return ErrorLoss(1)

    @property
    def dual_loss(self) -> ErrorLoss:
        r"""The dual loss :math:`\tfrac12u^\top H^{-1}u`."""
        return ErrorLoss(-1)

    @property
    def is_numeric(self) -> bool:
        """Whether the coefficients depend on t and lam alone."""
        free = set().union(*(c.free_symbols for c in (*self.coefficients, *self.initial, self.start)))
        return free <= {self.t, self.lam}

    @property
    def is_constant(self) -> bool:
        """Whether no coefficient depends on t."""
        return not any(c.has(self.t) for c in self.coefficients)

    def subs(self, values: Mapping[Any, Any]) -> ErrorDynamics:
        """Return the dynamics with numbers in place of symbols.

        Parameters
        ----------
        values : dict
            Symbol to number.

        Returns
        -------
        ErrorDynamics

        Examples
        --------
        >>> import sympy
        >>> from odeopt import HeavyBall, ode_limit
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> dynamics = error_dynamics(ode_limit(HeavyBall(h**2, 1 - b * h), h))
        >>> print(dynamics.subs({b: 2}))
        Delta'' + 2*Delta' + H*Delta = 0
        """
        values = require_mapping("values", values)
        changed = {
            "coefficients": tuple(c.subs(values) for c in self.coefficients),
            "initial": tuple(c.subs(values) for c in self.initial),
            "start": self.start.subs(values),
        }
        for name in ("time_step", "time_origin"):
            value = getattr(self, name)
            value = value.subs(values) if isinstance(value, Expr) else value
            changed[name] = float(value) if getattr(value, "is_number", False) else value
        return replace(self, **changed)

    def mode_equation(self, phi: Expr) -> Expr:
        r"""Substitute a function of t and lam into the equation of one mode.

        Parameters
        ----------
        phi : sympy.Expr

        Returns
        -------
        sympy.Expr
            :math:`\sum_jA_j(t,\lambda)\varphi^{(j)}`, zero for a solution.
        """
        return Add(*(a * phi.diff(self.t, j) for j, a in enumerate(self.coefficients)))

    def parts(self, latex: bool, unknown: str, source: str) -> list[tuple[Expr, str]]:
        """Coefficients and vectors, text or `latex`, last derivative first: `unknown`, under H `source`."""
        derivative = derivative_latex if latex else derivative_text
        found = []
        for j in reversed(range(len(self.coefficients))):
            polynomial = sympy.Poly(self.coefficients[j], self.lam)
            for (power,), coefficient in polynomial.terms():
                if coefficient == 0:
                    continue
                vector = derivative(source if power and not j else unknown, j)
                if latex:
                    kernel = "" if power == 0 else "H" if power == 1 else f"H^{{{power}}}"
                else:
                    kernel = "" if power == 0 else "H*" if power == 1 else f"H^{power}*"
                found.append((coefficient, kernel + vector))
        return found

    def latex(self) -> str:
        """Return the equation as LaTeX."""
        return equation_latex(self.parts(True, r"\Delta", r"\Delta"))

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        return equation_text(self.parts(False, "Delta", "Delta"))


@dataclass(frozen=True)
class PreconditionedDynamics:
    r"""The error of an adaptive method: :math:`\dot\Delta=-JD(w)^{-1}J^\top\Delta`.

    The preconditioner acts on the weights, so the equation does not close in (Delta, H); integrate the
    limit in the weights, with :func:`odeopt.limits.integrate.integrate_limit`.

    Attributes
    ----------
    limit : SystemLimit
    assumptions : tuple of Assumption
    """

    limit: SystemLimit
    assumptions: tuple[Assumption, ...] = field(repr=False)
    is_closed: ClassVar[bool] = False

    @property
    def preconditioner(self) -> Expr | None:
        """D, componentwise in the weights; None where an average stands in the gradient's place."""
        return self.limit.preconditioner

    def latex(self) -> str:
        """Return the equation as LaTeX."""
        if self.preconditioner is None:
            return rf"\dot{{\Delta}} = J\dot{{X}},\quad {self.limit.latex()}"
        return rf"\dot{{\Delta}} = -J D^{{-1}} J^\top \Delta,\quad D = {dotted_latex(self.preconditioner)}"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def __str__(self) -> str:
        if self.preconditioner is None:
            return f"Delta' = J X', {self.limit}; not closed in (Delta, H)"
        return f"Delta' = -J D^-1 J' Delta, D = {plain(self.preconditioner)}; not closed in (Delta, H)"


@overload
def error_dynamics(limit: ODELimit) -> ErrorDynamics: ...
@overload
def error_dynamics(limit: SystemLimit) -> PreconditionedDynamics: ...
def error_dynamics(limit: ODELimit | SystemLimit) -> ErrorDynamics | PreconditionedDynamics:
    r"""Carry a limit from the weights to the prediction error.

    Parameters
    ----------
    limit : ODELimit or SystemLimit
        A limit that is linear in the curve and in gradients, or that of an adaptive method.

    Returns
    -------
    ErrorDynamics or PreconditionedDynamics
        The latter for adaptive methods, whose error does not close in (Delta, H).

    Raises
    ------
    ValueError
        If the limit is not linear, so that it does not close in (Delta, H).

    Examples
    --------
    >>> from odeopt import GradientDescent, ode_limit
    >>> dynamics = error_dynamics(ode_limit(GradientDescent(lr=0.1)))
    >>> print(dynamics)
    Delta' + H*Delta = 0
    >>> [a.name for a in dynamics.assumptions]
    ['constant kernel']
    >>> from odeopt.rules import SignDescent
    >>> print(error_dynamics(ode_limit(SignDescent(lr=0.1))))
    Delta' = -J D^-1 J' Delta, D = Abs(grad f(X)); not closed in (Delta, H)
    """
    if isinstance(limit, SystemLimit):
        return PreconditionedDynamics(limit, _assumptions(1, False))
    if not isinstance(limit, ODELimit):
        raise ValueError(f"limit must be what ode_limit returns, got {type(limit).__name__}")
    lam = Symbol("lam", positive=True)
    coefficients = [Integer(0)] * (limit.order + 1)
    for vector, scalar in limit.terms.items():
        if isinstance(vector, sympy.core.function.AppliedUndef):
            raise ValueError(
                f"the limit {limit} holds X itself, a decay of the weights, and is not of the form that "
                "closes in (Delta, H): J X is the error less u_0 - y - J w_0, so the equation of the error "
                "has a right side; integrate the limit in the weights, with integrate_limit"
            )
        for order, factor in mode_image(vector, lam).items():
            coefficients[order] += scalar * factor
    dropped = any(isinstance(v, GradientDifferential) and v.directions for v in limit.terms)
    return ErrorDynamics(
        coefficients=tuple(coefficients),
        initial=tuple(start_image(e, lam) for e in limit.initial),
        t=limit.t,
        lam=lam,
        time_step=limit.time_step,
        assumptions=_assumptions(limit.order, dropped),
        limit=limit,
        start=start_image(limit.initial_position, lam),
        time_origin=limit.time_origin,
    )


def _assumptions(order: int, dropped_curvature: bool) -> tuple[Assumption, ...]:
    listed = [
        Assumption(
            "constant kernel",
            "the change of H(t) = J(t) J(t)'",
            "vanishes for a model linear in its weights, and as m^(-1/2) for width m (measured)",
        )
    ]
    if order >= 2:
        names = {2: "J-dot w-dot", 3: "2 J-dot w-ddot + J-ddot w-dot"}
        listed += [
            Assumption(
                "moving Jacobian",
                f"the right side {names.get(order, 'of derivatives of J')}, from differentiating u(w(t))",
                "vanishes for a model linear in its weights",
            ),
            Assumption(
                "activation flips",
                "what a ReLU adds to the moving Jacobian: with the first layer trained, J-dot is zero "
                "between flips, and at a flip of neuron r on sample i the velocity of Delta_i jumps by "
                "a_r m^(-1/2) |w_r-dot . x_i|",
                "each jump is of order 1/m, since w_r-dot is itself of order m^(-1/2)",
            ),
        ]
    if dropped_curvature:
        listed.append(
            Assumption(
                "Gauss-Newton curvature",
                "the part sum_i Delta_i (Hessian of u_i) of the Hessian of the loss",
                "vanishes where the model is linear in its weights or the error is zero",
            )
        )
    return tuple(listed)
