r"""Certified factors of the methods themselves: the iteration at finite step size on F(mu, L).

With the value :math:`f_k` and the gradient :math:`g_k` at the point :math:`y_k` where the method takes its
gradient,

.. math:: V_k=f_k+\xi_k^\top P\xi_k,\quad \xi_k=(x_k,x_{k-1},g_k),\qquad
    V_{k+1}-\rho V_k=\sum_i\lambda_iA_i+z^\top Sz,

and the inequalities :math:`A_i` of the class between :math:`y_k,y_{k+1}` and the minimiser.
"""

from __future__ import annotations

import math

from sympy import Expr

from odeopt.proofs import flow as flows
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.signs import exact_number, is_zero, number_sign
from odeopt.proofs.flow import Iteration
from odeopt.proofs.functions import strongly_convex
from odeopt.proofs.lmi import SOLVERS
from odeopt.proofs.search import Template, search
from odeopt.rates.iteration import discrete_rate
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, NesterovConstant
from odeopt.rules.momentum import TripleMomentum

__all__ = ["certify_iteration", "iteration_of"]

_PAIRS = ("A(0,1)", "A(1,0)", "A(0,*)", "A(*,0)", "A(1,*)", "A(*,1)")


def iteration_of(rule: UpdateRule) -> Iteration:
    """Return a rule as an iteration with exact numbers.

    Parameters
    ----------
    rule : GradientDescent, HeavyBall, NesterovConstant or TripleMomentum

    Returns
    -------
    Iteration

    Raises
    ------
    ValueError
        For other rules, or one that holds symbols.

    Examples
    --------
    >>> print(iteration_of(HeavyBall(lr=0.1, momentum=0.5)))
    x_(k+1) = x_k + (1/2) (x_k - x_(k-1)) - (1/10) grad f(x_k)
    """
    weights = {
        GradientDescent: ("lr",),
        HeavyBall: ("lr", "momentum"),
        NesterovConstant: ("lr", "momentum", "momentum"),
        TripleMomentum: ("lr", "beta", "gamma"),
    }
    if type(rule) not in weights:
        known = ", ".join(kind.__name__ for kind in weights)
        raise ValueError(f"certificates of iterations are known for {known}; got {type(rule).__name__}")
    numbers = [exact_number(getattr(rule, name), name) for name in weights[type(rule)]]
    if any(n.free_symbols for n in numbers):
        raise ValueError(f"{rule.label} holds symbols; give them numbers with rule.at(...)")
    return Iteration(*numbers)


def certify_iteration(rule: UpdateRule, mu, L, *, factor=None, solver: str = "newton") -> Certificate:
    r"""Prove a factor :math:`\rho<1` of one step on :math:`\mathcal F_{\mu,L}`: :math:`V_k\le\rho^kV_0`.

    Parameters
    ----------
    rule : GradientDescent, HeavyBall, NesterovConstant or TripleMomentum
        With numbers, read as the decimals they print as; sympy numbers stay what they are.
    mu, L : number
        0 < mu < L.
    factor : number, optional
        Factor to be proved; without it the smallest.
    solver : {"newton", "clarabel"}
        Of the LMI. It takes no part in the proof.

    Returns
    -------
    Certificate
        Verified, with law "factor". :meth:`Certificate.to_rate` gives :math:`-\log\rho` per iteration.

    Raises
    ------
    ValueError
        On bad input, or a method that is unstable on the quadratics of the class.
    NoCertificateError
        If there is no certificate, with the best factor that has one.
    UnsolvedError
        If the solver could not decide.

    Examples
    --------
    >>> certificate = certify_iteration(GradientDescent(lr=0.4), mu=1, L=4)
    >>> round(float(certificate.rate), 5), certificate.verify()
    (0.36, True)
    """
    mu, L = (None if value is None else exact_number(value, name) for name, value in (("mu", mu), ("L", L)))
    if mu is None or L is None:
        raise ValueError("certificates of iterations need mu and L: no step size is stable for every L")
    if number_sign(mu) <= 0 or number_sign(L - mu) <= 0:
        raise ValueError(f"certificates of iterations need 0 < mu < L, got mu = {mu}, L = {L}")
    iteration = iteration_of(rule)
    ceiling = _quadratic_ceiling(rule, mu, L)
    wanted = None if factor is None else _decrease(exact_number(factor, "factor"))
    position, gradient = 1 / math.sqrt(float(mu)), math.sqrt(float(L))
    scales = {flows.x0: position, flows.x1: position, flows.g0: gradient, flows.g1: gradient, "rate": 1.0}
    vectors = (*iteration.state, flows.g0)
    template = Template(iteration, strongly_convex(mu, L), vectors, _PAIRS, scales, ("A(0,*)",))
    return search(
        template, ceiling, min(1.0, ceiling), wanted, SOLVERS[solver], type(rule).__name__, "factor"
    )


def _decrease(factor: Expr) -> Expr:
    if factor.free_symbols or number_sign(factor) <= 0 or number_sign(1 - factor) <= 0 or is_zero(factor):
        raise ValueError(f"factor must lie strictly between 0 and 1, got {factor}")
    return 1 - factor


def _quadratic_ceiling(rule: UpdateRule, mu: Expr, L: Expr) -> float:
    """Largest decrease on the quadratics of the class, 1 - spectral radius squared."""
    numeric = rule.replace(**{name: float(value) for name, value in rule.hyperparameters.items()})
    rate = discrete_rate(numeric, float(mu), float(L)).value
    if rate <= 0:
        raise ValueError(
            f"{rule.label} is unstable on the quadratics of {strongly_convex(mu, L)}: squared spectral "
            f"radius {math.exp(-rate):.6g}; lower lr"
        )
    return -math.expm1(-rate)
