r"""Solutions of the error dynamics on one eigenvalue of the kernel, verified by substitution.

A mode solves :math:`\sum_jA_j(t,\lambda)\varphi^{(j)}=0` with :math:`\varphi(0)=1` and the initial
derivatives of the dynamics; the error is :math:`\Delta(t)=\varphi(t;H)\Delta_0`. Each family is
substituted into its equation in sympy, with symbols for its parameters, before it may be evaluated.

Where weights decay, :math:`\sum_jA_j\Delta^{(j)}=Sq`, the error is
:math:`\varphi(t;H)\Delta_0+\chi(t;H)q`. With a constant :math:`\rho=S/A_0` the error less :math:`\rho q`
solves the equation without its right side, so that

.. math:: \chi=\rho+(\chi(0)-\rho)\psi,\qquad \psi(0)=1,\ \psi^{(j)}(0)=\chi^{(j)}(0)/(\chi(0)-\rho) .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Expr

from odeopt.checks import nonnegative_grid
from odeopt.dynamics.characteristic import constant_coefficient_mode
from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.closed_forms import (
    verified_bessel,
    verified_characteristic,
    verified_exponential,
    verified_kummer,
    verified_oscillator,
)
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.friction import agree, vanishing_friction
from odeopt.dynamics.intrinsic import intrinsic_mode
from odeopt.dynamics.mean import averaged_dynamics, mean_expression
from odeopt.dynamics.mode_values import AlongOrigin, bessel_mode, damped_oscillator, kummer_mode
from odeopt.rules.formulas import latex, text
from odeopt.shown import Shown, Summary

__all__ = ["ModeSolution", "mode_solution"]


@dataclass(frozen=True, repr=False)
class ModeSolution(Shown):
    r"""The closed form :math:`\varphi(t;\lambda)` of one mode.

    Parameters
    ----------
    dynamics : ErrorDynamics
        The equation that it solves.
    expr : sympy.Expr
        The closed form in ``dynamics.t`` and ``dynamics.lam``. For family "characteristic" it holds
        the symbols z1, ..., zn, the roots of the characteristic polynomial.
    family : str
        "exponential", "oscillator", "bessel", "damped bessel", "characteristic", "intrinsic time", "mean"
        or "hypergeometric".
    residual : sympy.Expr
        What is left of the equation when the closed form is substituted; 0.
    _evaluate : callable or None
        From times (T,) and eigenvalues (n,) to values (T, n); None where the dynamics hold symbols.
    _origin : AlongOrigin or None
        The mode along q, for weights that decay.
    clock : callable or None
        For a schedule of gradient flow, :math:`e^{-\lambda\sigma(t)}`, the intrinsic time: times to
        :math:`\sigma`.

    Examples
    --------
    >>> from odeopt import GradientDescent, error_dynamics, ode_limit
    >>> mode = mode_solution(error_dynamics(ode_limit(GradientDescent(lr=0.1))))
    >>> mode.family, mode.expr, mode([1.0], [2.0]).round(6)
    ('exponential', exp(-lam*t), array([[0.135335]]))
    """

    dynamics: ErrorDynamics
    expr: Expr
    family: str
    residual: Expr
    _evaluate: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    _origin: AlongOrigin | None = None
    clock: Callable[[np.ndarray], np.ndarray] | None = None

    def _summary(self) -> Summary:
        exact = self.residual == 0
        return Summary(
            [self.family, *(("exact", text(self.expr)) if exact else ("numerical", str(self.dynamics)))]
        )

    @property
    def origin_expr(self) -> Expr:
        r"""The closed form :math:`\chi(t;\lambda)` along q; 0 without weight decay."""
        return sympy.S.Zero if self._origin is None else self._origin.expr

    def both(self, t: npt.ArrayLike, lam: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        r"""Evaluate :math:`\varphi` and :math:`\chi`, the error along its start and along q, on a grid.

        Parameters
        ----------
        t : array_like, shape (T,)
            Nonnegative times.
        lam : array_like, shape (n,)
            Nonnegative eigenvalues.

        Returns
        -------
        phi : numpy.ndarray, shape (T, n)
            Of the error :math:`\varphi\Delta_0+\chi q` with :math:`q=\Delta_0-Jw_0`.
        chi : numpy.ndarray, shape (T, n)
            0 without weight decay.

        Examples
        --------
        >>> from odeopt import GradientDescent, ode_limit, error_dynamics
        >>> mode = mode_solution(error_dynamics(ode_limit(GradientDescent(0.1, weight_decay=0.25))))
        >>> mode.origin_expr
        1/(4*lam + 1) - exp(-t*(lam + 1/4))/(4*lam + 1)
        >>> mode.both([0.0, 50.0], [0.75])[1].round(6)  # a quarter is left
        array([[0.  ],
               [0.25]])
        """
        phi = self._values(t, lam)
        if self._origin is None:
            return phi, np.zeros_like(phi)
        return phi, self._origin.values(nonnegative_grid(t, "t"), nonnegative_grid(lam, "lam"))

    @property
    def time_step(self) -> float | Expr:
        """Of the clock t = (k + time_origin) * time_step."""
        return self.dynamics.time_step

    @property
    def time_origin(self) -> float | Expr:
        """Of the clock t = (k + time_origin) * time_step."""
        return self.dynamics.time_origin

    def __call__(self, t: npt.ArrayLike, lam: npt.ArrayLike) -> np.ndarray:
        r"""Evaluate the mode on a grid.

        Parameters
        ----------
        t : array_like, shape (T,)
            Nonnegative times.
        lam : array_like, shape (n,)
            Nonnegative eigenvalues.

        Returns
        -------
        numpy.ndarray, shape (T, n)

        Raises
        ------
        ValueError
            If a grid is empty, negative or not finite, or the dynamics hold free symbols, or weights decay to
            0: the mode alone then is not the error.
        """
        if self._origin is not None:
            raise ValueError(
                f"the error of {self.dynamics} is not its mode alone, for q = Delta_0 - J w_0 pulls at it "
                "too; take mode.both, or loss_curve with a measure that has an origin"
            )
        return self._values(t, lam)

    def _values(self, t: npt.ArrayLike, lam: npt.ArrayLike) -> np.ndarray:
        if self._evaluate is None:
            free = sorted({str(s) for c in self.dynamics.coefficients for s in c.free_symbols} - {"t", "lam"})
            raise ValueError(f"the dynamics hold the symbols {', '.join(free)}; replace them with subs()")
        t, lam = nonnegative_grid(t, "t"), nonnegative_grid(lam, "lam")
        with np.errstate(over="ignore", invalid="ignore"):
            values = self._evaluate(t, lam)
        if np.isnan(values).any():
            i, j = np.argwhere(np.isnan(values))[0]
            raise ValueError(
                f"the mode has no value in float64 at t = {t[i]:.6g}, lam = {lam[j]:.6g}: its phase or its "
                "amplitude has left the range; evaluate shorter times"
            )
        return values

    def _repr_latex_(self) -> str:
        return rf"$\displaystyle \varphi(t;\lambda) = {latex(self.expr)}$"


def mode_solution(dynamics: ErrorDynamics) -> ModeSolution:
    r"""Solve the error dynamics on one eigenvalue in closed form.

    .. math::
        \varphi=e^{-\lambda t/a},\quad
        e^{-bt/2}\Bigl(\cos\omega t+\tfrac b2\tfrac{\sin\omega t}\omega\Bigr),\quad
        \Gamma(\nu+1)\Bigl(\tfrac2{t\sqrt\lambda}\Bigr)^\nu J_\nu(t\sqrt\lambda),\quad
        \sum_iW_ie^{z_it}

    for first order, constant friction b (:math:`\omega^2=\lambda-b^2/4`), friction r/t
    (:math:`\nu=\frac{r-1}2`) and constant coefficients of any order. Friction r/t with Hessian damping,
    the high-resolution equation of Nesterov's method, is a damped Bessel mode:

    .. math:: \ddot\varphi+(\tfrac rt+d)\dot\varphi+(q+\tfrac{rd}{2t})\varphi=0:\quad
        \varphi=e^{-dt/2}\,\Gamma(\nu+1)\Bigl(\tfrac2x\Bigr)^\nu J_\nu(x),\ x=t\sqrt{q-d^2/4}.

    A rate of first order that depends on time gives :math:`e^{-\lambda\sigma(t)}`, :math:`\sigma=\int_0^ts`,
    piece by piece of its schedule. Of two schedules the one with the larger :math:`\sigma` has the smaller
    loss: without noise a decay does not help.

    The mean of the iterates of a rule whose own mode :math:`\psi` has constant coefficients has
    :math:`\varphi=\frac1t\int_0^t\psi`, for gradient descent :math:`(1-e^{-\lambda t})/(\lambda t)`. With an
    average mixed into the gradient point, as in Schedule-Free, it is
    :math:`{}_1F_1(\frac1{1-\beta};2;-(1-\beta)\lambda t)`.

    Parameters
    ----------
    dynamics : ErrorDynamics
        Symbols are welcome; then the mode is not evaluated.

    Returns
    -------
    ModeSolution
        The closed form, verified by substitution, and its values.

    Raises
    ------
    ValueError
        If no closed form is known; :func:`odeopt.integrate` handles any dynamics, and
        :func:`odeopt.dynamics.integrated_mode` makes a mode of it.

    Examples
    --------
    >>> from odeopt import HeavyBall, ode_limit, error_dynamics
    >>> mode = mode_solution(error_dynamics(ode_limit(HeavyBall(lr=0.01, momentum=0.8), clock="naive")))
    >>> mode.family, mode.residual
    ('oscillator', 0)
    >>> mode([0.0, 1.0], [1.0, 4.0]).round(6)  # b = 2: critical at lam = 1, (1 + t) exp(-t)
    array([[1.      , 1.      ],
           [0.735759, 0.150574]])
    """
    dynamics = require_error_dynamics(dynamics, "mode", source=True)
    found = _homogeneous(dynamics)
    return replace(found, _origin=_along_origin(found)) if dynamics.has_source else found


def _along_origin(found: ModeSolution) -> AlongOrigin:
    """The mode along q, from the modes of the equation without its right side."""
    dynamics = found.dynamics
    force = (dynamics.printed or dynamics.coefficients)[0]
    rest = sympy.cancel((dynamics.printed_source or dynamics.source) / force)
    if rest.has(dynamics.t):
        raise ValueError(
            f"no closed form is known for {dynamics}, whose fixed point moves; integrate it with "
            "odeopt.integrate"
        )
    start, *slopes = dynamics.source_data or (sympy.S.Zero,) * dynamics.order
    share = sympy.cancel(start - rest)
    if share == 0:
        if any(slopes):
            raise ValueError(
                f"no closed form is known for {dynamics}, which starts where it ends, but moving"
            )
        mode = found
    else:
        data = tuple(sympy.cancel(slope / share) for slope in slopes)
        alike = found.dynamics.start == 1 and data == found.dynamics.initial
        mode = found if alike else _homogeneous(replace(dynamics, start=sympy.S.One, initial=data))
    parts = _function_of_lam(dynamics, rest, share)

    def values(t: np.ndarray, lam: np.ndarray) -> np.ndarray:
        moving = mode(t, lam)
        end, factor = parts(lam)
        return end + factor * moving

    return AlongOrigin(rest + share * mode.expr, values)


def _homogeneous(dynamics: ErrorDynamics) -> ModeSolution:
    """Solve the equation without its right side."""
    if dynamics.start != 1 and dynamics.order > 1:
        raise ValueError(f"no closed form is known for {dynamics} from phi(0) = {dynamics.start}")
    if dynamics.is_constant:
        solver = {1: _exponential, 2: _oscillator}.get(dynamics.order, _characteristic)
        return solver(dynamics)
    if dynamics.order == 1:
        expr, values, clock = intrinsic_mode(dynamics)
        return ModeSolution(dynamics, expr, "intrinsic time", sympy.S.Zero, values, clock=clock)
    if not any(c.has(sympy.Piecewise) for c in dynamics.coefficients):
        averaged = averaged_dynamics(dynamics)
        if averaged is not None:
            return _mean(dynamics, averaged)
        found = vanishing_friction(dynamics) if dynamics.order == 2 else None
        if found is not None:
            r, d, q, e = found
            if agree(e, r * d / 2):
                return _bessel(dynamics, r, q, d)
            if q == 0 and d != 0 and not sympy.cancel(e / d).free_symbols & d.free_symbols:
                return _kummer(dynamics, r, d, sympy.cancel(e / d))
    raise ValueError(
        f"no closed form is known for {dynamics}; integrate it with odeopt.integrate(dynamics, ...), or take "
        "odeopt.dynamics.integrated_mode(dynamics)"
    )


def _function_of_lam(dynamics: ErrorDynamics, *exprs: Expr) -> Any:
    """Compile expressions in lam; None if other symbols are left."""
    if any(e.free_symbols - {dynamics.lam} for e in exprs):
        return None
    compiled = sympy.lambdify(dynamics.lam, list(exprs), "numpy")

    def evaluate(lam):
        return [np.broadcast_to(np.asarray(v, dtype=float), lam.shape) for v in compiled(lam)]

    return evaluate


def _exponential(dynamics: ErrorDynamics) -> ModeSolution:
    phi, (t, s), residual = verified_exponential()
    speed = sympy.cancel(dynamics.coefficients[0] / dynamics.coefficients[1])
    compiled = _function_of_lam(dynamics, speed, dynamics.start)

    def evaluate(times, lam):
        rate, start = compiled(lam)
        return start * np.exp(-np.multiply.outer(times, rate))

    expr = dynamics.start * phi.subs({t: dynamics.t, s: speed}, simultaneous=True)
    return ModeSolution(dynamics, expr, "exponential", residual, evaluate if compiled else None)


def _oscillator(dynamics: ErrorDynamics) -> ModeSolution:
    phi, (t, b, q, v), residual = verified_oscillator()
    a = dynamics.coefficients
    friction, stiffness = sympy.cancel(a[1] / a[2]), sympy.cancel(a[0] / a[2])
    velocity = dynamics.initial[0]
    compiled = _function_of_lam(dynamics, friction, stiffness, velocity)

    def evaluate(times, lam):
        return damped_oscillator(times, *compiled(lam))

    values = {t: dynamics.t, b: friction, q: stiffness, v: velocity}
    expr = phi.subs(values, simultaneous=True)
    return ModeSolution(dynamics, expr, "oscillator", residual, evaluate if compiled else None)


def _bessel(dynamics: ErrorDynamics, friction: Expr, stiffness: Expr, damping: Expr) -> ModeSolution:
    phi, (t, r, q, d), residual = verified_bessel()
    if friction.is_number and friction < 0:
        raise ValueError(f"friction r/t must have r >= 0, got r = {friction}")
    compiled: Any = _function_of_lam(dynamics, stiffness, damping) if friction.is_number else None

    def evaluate(times, lam):
        q_values, d_values = compiled(lam)
        square = q_values - d_values**2 / 4
        if np.any(square < 0):
            raise ValueError(
                f"lam = {lam[square < 0][0]:.6g} is overdamped by the Hessian term (lr * lam > 4), beyond "
                "every stable learning rate; lower lr"
            )
        mode = bessel_mode(np.multiply.outer(times, np.sqrt(square)), float(friction))
        return np.exp(-np.multiply.outer(times, d_values) / 2) * mode

    expr = phi.subs({t: dynamics.t, r: friction, q: stiffness, d: damping}, simultaneous=True)
    family = "bessel" if damping == 0 else "damped bessel"
    return ModeSolution(dynamics, expr, family, residual, evaluate if compiled else None)


def _kummer(dynamics: ErrorDynamics, friction: Expr, damping: Expr, parameter: Expr) -> ModeSolution:
    phi, (t, r, d, a), residual = verified_kummer()
    numbers = friction.is_number and parameter.is_number
    compiled: Any = _function_of_lam(dynamics, damping) if numbers else None

    def evaluate(times, lam):
        return kummer_mode(np.multiply.outer(times, *compiled(lam)), float(parameter), float(friction))

    expr = phi.subs({t: dynamics.t, r: friction, d: damping, a: parameter}, simultaneous=True)
    return ModeSolution(dynamics, expr, "hypergeometric", residual, evaluate if compiled else None)


def _characteristic(dynamics: ErrorDynamics) -> ModeSolution:
    n = dynamics.order
    phi, (t, *symbols), residual = verified_characteristic(n)
    monic = [sympy.cancel(c / dynamics.coefficients[-1]) for c in dynamics.coefficients[:-1]]
    compiled = _function_of_lam(dynamics, *monic, *dynamics.initial)

    def evaluate(times, lam):
        values = compiled(lam)
        return constant_coefficient_mode(times, np.array(values[:n]), np.array(values[n:]))

    start = dict(zip(symbols[n:], dynamics.initial, strict=True))
    expr = phi.subs({t: dynamics.t, **start}, simultaneous=True)
    return ModeSolution(dynamics, expr, "characteristic", residual, evaluate if compiled else None)


def _mean(dynamics: ErrorDynamics, averaged: ErrorDynamics) -> ModeSolution:
    psi = _homogeneous(averaged)
    monic = [sympy.cancel(c / averaged.coefficients[-1]) for c in averaged.coefficients[:-1]]
    compiled = _function_of_lam(dynamics, *monic, *averaged.initial)

    def evaluate(times, lam):
        n, values = averaged.order, np.array(compiled(lam))
        return constant_coefficient_mode(times, values[:n], values[n:], mean=True)

    expr = mean_expression(averaged, psi.expr)
    return ModeSolution(dynamics, expr, "mean", psi.residual, evaluate if compiled else None)
