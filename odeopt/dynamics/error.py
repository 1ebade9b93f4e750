r"""From the ODE of the weights to the ODE of the prediction error under a kernel.

With the squared loss :math:`L(w)=\tfrac12|u(w)-y|^2`, the error :math:`\Delta=u-y`, the Jacobian J of
the outputs and the kernel :math:`H=JJ^\top`, multiplying a limit by J replaces
:math:`X^{(j)}\to\Delta^{(j)}`, :math:`\nabla f\to H\Delta` and :math:`\nabla^2f\,v\to H\,Jv`:

.. math:: \sum_jA_j(t,H)\,\Delta^{(j)}=0,

exact for a model that is linear in its weights. The curve itself, where weights decay, has the image
:math:`JX=\Delta-q`, :math:`q=\Delta_0-JX(0)`, which gives the equation a right side S(t, H) q. For a network,
terms are dropped; they are listed in :attr:`ErrorDynamics.assumptions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, overload

import sympy
from sympy import Add, Expr, Symbol

from odeopt.checks import require_mapping
from odeopt.dynamics.assumptions import Assumption, assumptions_of
from odeopt.dynamics.error_loss import ErrorLoss
from odeopt.dynamics.mode_image import coefficients_image, start_image
from odeopt.dynamics.momentum import ErrorMomentum, error_momentum
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.ode import ODELimit
from odeopt.limits.series import GradientDifferential, dotted_latex, plain
from odeopt.limits.text import (
    clock_text,
    derivative_latex,
    derivative_text,
    equation_latex,
    equation_text,
    factor_text,
)
from odeopt.rules.formulas import latex
from odeopt.shown import Equation, Summary

__all__ = [
    "Assumption", "ErrorDynamics", "ErrorLoss", "PreconditionedDynamics", "error_dynamics",
]  # fmt: skip


@dataclass(frozen=True, repr=False)
class ErrorDynamics(Equation):
    r"""The linear ODE :math:`\sum_jA_j(t,H)\Delta^{(j)}=S(t,H)q` of the prediction error.

    Parameters
    ----------
    coefficients : tuple of sympy.Expr
        :math:`(A_0,\dots,A_n)`, functions of `t` and of the eigenvalue `lam` of H.
    initial : tuple of sympy.Expr
        :math:`(\varphi'(0),\dots,\varphi^{(n-1)}(0))` of a mode with :math:`\varphi(0)=1`.
    t, lam : sympy.Symbol
        Time, and an eigenvalue of H.
    time_step : float or sympy.Expr
        From steps to time: t = (k + time_origin) * time_step.
    assumptions : tuple of Assumption
        What was dropped on the way from the weights to the error.
    limit : ODELimit or None
        The limit that was carried over.
    start : sympy.Expr
        :math:`\varphi(0)`, 1 but for corrections that start the curve beside the first iterate.
    time_origin : float or sympy.Expr
        In steps.
    source : sympy.Expr
        S, 0 but for weight decay; with it :math:`q=\Delta_0-Jw_0`.
    source_data : tuple of sympy.Expr
        What :math:`\Delta(0),\dots,\Delta^{(n-1)}(0)` have along q, beside `start` and `initial` along
        :math:`\Delta_0`; () for nothing.
    printed : tuple of sympy.Expr, or None
        `coefficients` with schedules by name, as of the limit; None without schedules.
    printed_source : sympy.Expr or None
        `source` likewise.
    valid_until : float or sympy.Expr or None
        As of the limit, :class:`odeopt.limits.ODELimit`.
    momentum : ErrorMomentum or None
        The equation with the velocity beside it, where a schedule stands outside of that.

    Examples
    --------
    >>> from odeopt import Nesterov, ode_limit
    >>> dynamics = error_dynamics(ode_limit(Nesterov(lr=0.01, r=3)))
    >>> dynamics.coefficients, dynamics.initial, dynamics.time_step
    ((lam, 3/t, 1), (0,), 0.1)
    """

    coefficients: tuple[Expr, ...]
    initial: tuple[Expr, ...]
    t: Symbol
    lam: Symbol
    time_step: float | Expr
    assumptions: tuple[Assumption, ...]
    limit: ODELimit | None = None
    start: Expr = sympy.S.One
    time_origin: float | Expr = sympy.S.Zero
    source: Expr = sympy.S.Zero
    source_data: tuple[Expr, ...] = ()
    printed: tuple[Expr, ...] | None = None
    printed_source: Expr | None = None
    valid_until: Any = None
    momentum: ErrorMomentum | None = None

    @property
    def has_source(self) -> bool:
        """Whether the error depends on q beside its start."""
        return self.source != 0 or any(v != 0 for v in self.source_data)

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
        every = (*self.coefficients, *self.initial, self.start, self.source, *self.source_data)
        free = set().union(*(c.free_symbols for c in every))
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
            With the numbers in every field but `limit`.

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
            "source": self.source.subs(values),
            "source_data": tuple(c.subs(values) for c in self.source_data),
            "printed": None if self.printed is None else tuple(c.subs(values) for c in self.printed),
            "momentum": None if self.momentum is None else self.momentum.map(lambda c: c.subs(values)),
            "printed_source": None if self.printed_source is None else self.printed_source.subs(values),
        }
        for name in ("time_step", "time_origin", "valid_until"):
            value = getattr(self, name)
            value = value.subs(values) if isinstance(value, Expr) else value
            changed[name] = float(value) if getattr(value, "is_number", False) else value
        return replace(self, **changed)

    def mode_equation(self, phi: Expr) -> Expr:
        r"""Substitute a function of t and lam into the left side of the equation of one mode.

        Parameters
        ----------
        phi : sympy.Expr
            A function of `t` and `lam`.

        Returns
        -------
        sympy.Expr
            :math:`\sum_jA_j(t,\lambda)\varphi^{(j)}`, zero for a solution.
        """
        return Add(*(a * phi.diff(self.t, j) for j, a in enumerate(self.coefficients)))

    def parts(self, latex: bool, unknown: str, source: str) -> list[tuple[Expr, str]]:
        """List the terms of the left side, the last derivative first.

        Parameters
        ----------
        latex : bool
            Whether vectors are LaTeX, else plain text.
        unknown : str
            The name of what is derived.
        source : str
            The name of what stands under a power of H.

        Returns
        -------
        list of tuple
            Coefficient and vector of each term.
        """
        derivative = derivative_latex if latex else derivative_text
        found = []
        coefficients = self.printed or self.coefficients
        for j in reversed(range(len(coefficients))):
            polynomial = sympy.Poly(coefficients[j], self.lam)
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
        """Return the equation as LaTeX.

        Returns
        -------
        str
            With its right side and schedules by name, without dollar signs.
        """
        left = equation_latex(self.parts(True, r"\Delta", r"\Delta"))
        source = latex((self.printed_source or self.source).subs(self.lam, Symbol("H")))
        return left if self.source == 0 else left.removesuffix("0") + rf"\left({source}\right)q"

    def _summary(self) -> Summary:
        return Summary([str(self), clock_text(self.time_step, self.time_origin)])

    def __str__(self) -> str:
        left = equation_text(self.parts(False, "Delta", "Delta"))
        source = (self.printed_source or self.source).subs(self.lam, Symbol("H"))
        return left if self.source == 0 else left.removesuffix("0") + factor_text(source) + "q"


@dataclass(frozen=True, repr=False)
class PreconditionedDynamics(Equation):
    r"""The error of an adaptive method: :math:`\dot\Delta=-JD(w)^{-1}J^\top\Delta`.

    The preconditioner acts on the weights, so the equation does not close in (Delta, H); integrate the
    limit in the weights, with :func:`odeopt.limits.integrate.integrate_limit`.

    Parameters
    ----------
    limit : SystemLimit
        The system of the weights and the averages.
    assumptions : tuple of Assumption
        What was dropped on the way from the weights to the error.

    Examples
    --------
    >>> from odeopt import error_dynamics, ode_limit
    >>> from odeopt.rules import SignDescent
    >>> dynamics = error_dynamics(ode_limit(SignDescent(lr=0.1)))
    >>> dynamics.is_closed, dynamics.preconditioner
    (False, Abs(grad f(X)))
    """

    limit: SystemLimit
    assumptions: tuple[Assumption, ...]
    is_closed: ClassVar[bool] = False

    @property
    def preconditioner(self) -> Expr | None:
        """D, componentwise in the weights; None where an average stands in the gradient's place."""
        return self.limit.preconditioner

    def latex(self) -> str:
        """Return the equation as LaTeX.

        Returns
        -------
        str
            That of the error and its preconditioner or the system of the weights, without dollar signs.
        """
        if self.preconditioner is None:
            return rf"\dot{{\Delta}} = J\dot{{X}},\quad {self.limit.latex()}"
        return rf"\dot{{\Delta}} = -J D^{{-1}} J^\top \Delta,\quad D = {dotted_latex(self.preconditioner)}"

    def _summary(self) -> Summary:
        return Summary(["not closed in (Delta, H)", str(self)])

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
    >>> print(error_dynamics(ode_limit(GradientDescent(lr=0.1, weight_decay=0.5))))
    Delta' + H*Delta + 1/2*Delta = 1/2*q
    >>> from odeopt.rules import SignDescent
    >>> print(error_dynamics(ode_limit(SignDescent(lr=0.1))))
    Delta' = -J D^-1 J' Delta, D = Abs(grad f(X)); not closed in (Delta, H)
    """
    if isinstance(limit, SystemLimit):
        return PreconditionedDynamics(limit, assumptions_of(1, False))
    if not isinstance(limit, ODELimit):
        raise ValueError(f"limit must be what ode_limit returns, got {type(limit).__name__}")
    lam = Symbol("lam", positive=True)
    coefficients, source = coefficients_image(limit.terms, limit.order, lam)
    printed, printed_source = (
        (None, None) if limit.printed is None else coefficients_image(limit.printed, limit.order, lam)
    )
    start, *initial = (start_image(e, lam) for e in (limit.initial_position, *limit.initial))
    data = (sympy.cancel(start[1] + 1), *(along_q for _, along_q in initial))
    dropped = any(isinstance(v, GradientDifferential) and v.directions for v in limit.terms)
    return ErrorDynamics(
        coefficients=coefficients,
        initial=tuple(value for value, _ in initial),
        t=limit.t,
        lam=lam,
        time_step=limit.time_step,
        assumptions=assumptions_of(limit.order, dropped),
        limit=limit,
        start=start[0],
        time_origin=limit.time_origin,
        source=source,
        source_data=data if any(v != 0 for v in data) else (),
        printed=printed,
        printed_source=printed_source,
        valid_until=limit.valid_until,
        momentum=None if limit.momentum is None else error_momentum(limit.momentum, lam),
    )
