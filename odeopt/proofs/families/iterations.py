r"""Certificates in closed form of the methods themselves, for all parameters.

As in :mod:`odeopt.proofs.families.constant`, a family called without numbers is the certificate for symbols.
"""

from __future__ import annotations

# A parameter is given its exact value in place, whose type sympy does not say: a checker would go on to
# believe the one declared.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false
import sympy
from sympy import Expr, Integer, sqrt

from odeopt.proofs.build import build, closed_form
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import is_zero, number_sign
from odeopt.proofs.families.family import parameters, positive_number, real
from odeopt.proofs.flow import Iteration, f0, g0, time, x0
from odeopt.proofs.functions import convex, strongly_convex
from odeopt.rules.base import Scalar

__all__ = [
    "accelerated", "gradient_descent", "gradient_descent_convex", "nesterov_constant", "nesterov_descent",
    "triple_momentum",
]  # fmt: skip

_mu, _L, _lr, _M, _s, _r, _N = real("mu L lr M s r N")
_ZERO, _ONE = sympy.S.Zero, sympy.S.One
# s = sqrt(mu / L) makes the momentum and all multipliers rational
_ACCELERATED = (Bound(_s, _ZERO, _ONE, strict=True), Bound(_L, strict=True))
_STEPS = (Bound(time), Bound(_N, time + 1))


def gradient_descent(
    lr: Scalar | None = None, mu: Scalar | None = None, L: Scalar | None = None, *, long_steps: bool = False
) -> Certificate:
    r"""Gradient descent on :math:`\mathcal F_{\mu,L}`: f falls by :math:`\rho^2` a step, the exact factor.

    :math:`\rho=\max(1-\eta\mu,\eta L-1)`, with three multipliers, :math:`\rho` on A(0,1),
    :math:`\rho(1-\rho)` on ``A(*,0)`` and :math:`1-\rho` on ``A(*,1)``.

    Parameters
    ----------
    lr, mu, L : number, optional
        :math:`0<\eta<\frac2L`. Without them the certificate holds for all of a branch.
    long_steps : bool
        The branch :math:`\eta\ge\frac2{L+\mu}`, where there are no numbers.

    Returns
    -------
    Certificate
        Law "factor", of V = f.

    Examples
    --------
    >>> [gradient_descent(long_steps=which).verify() for which in (False, True)]
    [True, True]
    >>> gradient_descent(lr=sympy.Rational(2, 11), mu=1, L=10).rate
    81/121
    """
    if lr is not None:
        numbers = [positive_number(v, n) for v, n in ((lr, "lr"), (mu, "mu"), (L, "L"))]
        long_steps = number_sign(numbers[0] * (numbers[1] + numbers[2]) - 2) >= 0
    middle = 2 / (_L + _mu)
    steps = Bound(_lr, middle, 2 / _L) if long_steps else Bound(_lr, _ZERO, middle, strict=True)
    title = "gradient descent"
    p, domain = parameters(
        title, (Bound(_mu, strict=True), Bound(_L, _mu, strict=True), steps), lr=lr, mu=mu, L=L
    )
    rho = p.lr * p.L - 1 if long_steps else 1 - p.lr * p.mu
    return build(
        title, Iteration(p.lr), strongly_convex(p.mu, p.L), f0, rho**2,
        {"A(0,1)": rho, "A(*,0)": rho * (1 - rho), "A(*,1)": 1 - rho}, domain,
        positivity={"G(0)": 1}, law="factor", search=None if domain else closed_form(rho**2),
    )  # fmt: skip


def _following(iteration: Iteration) -> tuple[Expr, Expr]:
    """The next x, and the next point at which the gradient is taken."""
    return iteration.rules[x0], iteration.points["1"][0]


def _nesterov_step(s: Expr, L: Expr) -> Iteration:
    beta = (1 - s) / (1 + s)
    return Iteration(1 / L, beta, beta)


def _triple_momentum_step(s: Expr, L: Expr) -> Iteration:
    rho = 1 - s
    return Iteration((1 + rho) / L, rho**2 / (2 - rho), rho**2 / ((1 + rho) * (2 - rho)))


def accelerated(iteration: Iteration, mu: Expr, L: Expr) -> Certificate | None:
    """The closed form of an iteration with momentum that is tuned for mu and L, None for others."""
    s = sqrt(mu / L)
    for step, family in ((_triple_momentum_step, triple_momentum), (_nesterov_step, nesterov_constant)):
        tuned = step(s, L)
        pairs = zip((iteration.lr, *iteration.varying), (tuned.lr, *tuned.varying), strict=True)
        if all(is_zero(a - b) for a, b in pairs):
            return family(mu, L)
    return None


def nesterov_constant(mu: Scalar | None = None, L: Scalar | None = None) -> Certificate:
    r"""Method of Nesterov, momentum :math:`\frac{1-s}{1+s}`, :math:`s=\sqrt{\mu/L}`, lr = 1/L: factor 1 - s.

    .. math:: V=f(y)-\tfrac1{2L}\lVert g\rVert^2+\tfrac\mu2\lVert z_+\rVert^2,\qquad
        z_+=\tfrac{(1+s)y_+-x_+}s,

    with the multipliers 1 - s on ``A(0,1)`` and s on ``A(*,1)``.

    Parameters
    ----------
    mu, L : number, optional
        Without them the certificate holds for all s in (0, 1) and L > 0.

    Returns
    -------
    Certificate
        Law "factor".

    Examples
    --------
    >>> nesterov_constant().verify(), nesterov_constant(mu=1, L=9).rate
    (True, 2/3)
    """
    p, domain = parameters("Nesterov's method", _ACCELERATED, L=L, s=_ratio(mu, L))
    iteration, low = _nesterov_step(p.s, p.L), p.s**2 * p.L
    after, point = _following(iteration)
    energy = f0 - g0**2 / (2 * p.L) + low / 2 * (((1 + p.s) * point - after) / p.s) ** 2
    return build(
        "Nesterov's method", iteration, strongly_convex(low, p.L), energy, 1 - p.s,
        {"A(0,1)": 1 - p.s, "A(*,1)": p.s}, domain, positivity={"A(0,*)": 1}, law="factor",
    )  # fmt: skip


def triple_momentum(mu: Scalar | None = None, L: Scalar | None = None) -> Certificate:
    r"""Triple momentum, tuned for :math:`\mathcal F_{\mu,L}`: factor :math:`(1-s)^2`, :math:`s=\sqrt{\mu/L}`.

    .. math:: V=f-\tfrac{\lVert g\rVert^2}{2L}-\tfrac\mu{2(1-s^2)}\lVert y-\tfrac gL\rVert^2
        +\tfrac\mu{1-s^2}\lVert z_+\rVert^2,\qquad
        z_+=\tfrac{1+s}{2s}y_+-\tfrac{1-s}{2s}(y-\tfrac gL),

    with the multipliers :math:`(1-s)^2` on ``A(0,1)`` and s(2 - s) on ``A(*,1)``, and no remainder.

    Parameters
    ----------
    mu, L : number, optional
        Without them the certificate holds for all s in (0, 1) and L > 0.

    Returns
    -------
    Certificate
        Law "factor".

    Examples
    --------
    >>> triple_momentum().verify(), triple_momentum(mu=1, L=4).rate
    (True, 1/4)
    """
    p, domain = parameters("triple momentum", _ACCELERATED, L=L, s=_ratio(mu, L))
    rho, low = 1 - p.s, p.s**2 * p.L
    iteration = _triple_momentum_step(p.s, p.L)
    here, (_, point) = iteration.points["0"][0] - g0 / p.L, _following(iteration)
    z = ((1 + p.s) * point - (1 - p.s) * here) / (2 * p.s)
    energy = f0 - g0**2 / (2 * p.L) + low / (1 - p.s**2) * (z**2 - here**2 / 2)
    return build(
        "triple momentum", iteration, strongly_convex(low, p.L), energy, rho**2,
        {"A(0,1)": rho**2, "A(*,1)": p.s * (2 - p.s)}, domain, positivity={"A(0,*)": 1}, law="factor",
        search=None if domain else closed_form(rho**2),
    )  # fmt: skip


def _ratio(mu, L) -> Expr | None:
    """sqrt(mu / L) of numbers."""
    if mu is None or L is None:
        return None
    return sqrt(positive_number(mu, "mu") / positive_number(L, "L"))


def gradient_descent_convex(lr: Scalar | None = None, L: Scalar | None = None) -> Certificate:
    r"""Gradient descent, lr = 1/M <= 1/L, on convex functions: :math:`f_N\le M\lVert x_0\rVert^2/(4N+2)`.

    For every N the potential, with :math:`\lambda_k=\frac k{2N+1-k}`,

    .. math:: V_k=\lambda_k\left(f_k+\tfrac1{2M}\lVert g_k\rVert^2\right)
        +\frac{M(2N+1-2k)}{2(2N+1-k)^2}\lVert x_k\rVert^2,\qquad
        V_0=\tfrac{M\lVert x_0\rVert^2}{4N+2},\quad V_N\ge f_N,

    does not grow up to k = N: the multipliers are :math:`\lambda_{k+1}` on A(0,1) and
    :math:`\lambda_{k+1}-\lambda_k` on ``A(*,0)``.

    Parameters
    ----------
    lr, L : number, optional
        Without them the certificate holds for all M >= L > 0.

    Returns
    -------
    Certificate
        Law "potential", with the power 1 of its bound; `ends` holds the bound.

    Notes
    -----
    The bound is that of Drori and Teboulle, Math. Program. 145 (2014), exact for lr = 1/L; the potential was
    derived for this package.

    Examples
    --------
    >>> gradient_descent_convex().verify()
    True
    >>> print(gradient_descent_convex(lr=1, L=1))
    gradient descent, convex: f(x_N) <= 1/(2*(2*N + 1)) |x_0|^2 on convex 1-smooth functions
    """
    p, domain = _convex("gradient descent", lr, L)
    k, last = time, 2 * _N + 1
    now, following, at_end = (i / (last - i) for i in (k, k + 1, _N))
    energy = now * (f0 + g0**2 / (2 * p.M)) + p.M * (last - 2 * k) / (2 * (last - k) ** 2) * x0**2
    return build(
        "gradient descent, convex", Iteration(1 / p.M), convex(p.L), energy, Integer(1),
        {"A(0,1)": following, "A(*,0)": following - now}, domain, positivity={"G(0)": now}, law="potential",
        ends=(_N, p.M / (2 * last) * x0**2, {}, f0, {"A(*,0)": 1 - at_end}),
    )  # fmt: skip


def nesterov_descent(
    lr: Scalar | None = None, L: Scalar | None = None, r: Scalar | None = None
) -> Certificate:
    r"""Momentum of Nesterov, :math:`\frac{k-1}{k+r-1}`, r >= 3, lr = 1/M with M >= L, on convex functions.

    With :math:`T_k=\frac{k+r-1}{r-1}` and :math:`z_+=T_{k+1}y_{k+1}-(T_{k+1}-1)x_{k+1}` the potential

    .. math:: V_k=T_k^2\left(f(y_k)-\tfrac1{2M}\lVert g_k\rVert^2\right)+\tfrac M2\lVert z_+\rVert^2
        \ \ge\ T_k^2f(x_{k+1}),\qquad V_0\le\tfrac M2\lVert x_0\rVert^2

    does not grow: :math:`f(x_{N+1})\le\frac{M\lVert x_0\rVert^2}{2T_N^2}`, for r = 3
    :math:`f(x_k)\le\frac{2M\lVert x_0\rVert^2}{(k+1)^2}`.

    Parameters
    ----------
    lr, L, r : number, optional
        Without them the certificate holds for all M >= L > 0 and r >= 3.

    Returns
    -------
    Certificate
        Law "potential", with the power 2 of its bound; `ends` holds the bound.

    Examples
    --------
    >>> nesterov_descent().verify(), nesterov_descent(lr=1, L=1, r=3).rate
    (True, 2)
    """
    given = None if r is None else positive_number(r, "r")
    p, domain = _convex("Nesterov's method", lr, L, Bound(_r, Integer(3)), r=given)
    beta = (time - 1) / (time + p.r - 1)
    iteration = Iteration(1 / p.M, beta, beta)
    T, T_next, T_last = ((i + p.r - 1) / (p.r - 1) for i in (time, time + 1, _N))
    after, point = _following(iteration)
    above = f0 - g0**2 / (2 * p.M)
    energy = T**2 * above + p.M / 2 * (T_next * point - (T_next - 1) * after) ** 2
    spare = T_next * (T_next - 1)
    return build(
        "Nesterov's method, convex", iteration, convex(p.L), energy, Integer(2),
        {"A(0,1)": spare, "A(*,1)": T_next, "A(0,*)": T**2 - spare}, domain, positivity={"A(0,*)": T**2},
        law="potential", ends=(_N, p.M / 2 * x0**2, {"A(*,0)": 1}, T_last**2 * above, {}),
    )  # fmt: skip


def _convex(title: str, lr, L, *others: Bound, **given):
    """Parameters of a method with lr = 1/M on convex L-smooth functions, M >= L."""
    inverse = None if lr is None else 1 / positive_number(lr, "lr")
    if inverse is not None and L is not None and number_sign(inverse - positive_number(L, "L")) < 0:
        raise ValueError(f"{title} on convex functions needs lr <= 1/L, got lr = {lr}, L = {L}")
    ranges = (Bound(_L, strict=True), Bound(_M, _L), *others, *_STEPS)
    return parameters(title, ranges, M=inverse, L=L, **given)
