r"""Certificates in closed form for constant friction, each valid for all parameters in its range.

Called without numbers, a family returns the certificate for symbols; with numbers, that of the case.
Either way nothing is believed: the remainder is computed from the energy and the multipliers, and
:meth:`odeopt.proofs.Certificate.verify` proves the rest. In all of them `force` is the coefficient
:math:`\gamma` of the gradient, 1 in the formulas.
"""

from __future__ import annotations

# A parameter is given its exact value in place, whose type sympy does not say: a checker would go on to
# believe the one declared.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false
from typing import Literal

import sympy
from sympy import Expr, Rational, sqrt

from odeopt.proofs.build import build, closed_form
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.field import Field
from odeopt.proofs.exact.signs import number_sign
from odeopt.proofs.families.family import parameters, positive_number, real
from odeopt.proofs.flow import Flow, f, time, v, x
from odeopt.proofs.functions import convex, quadratic, strongly_convex
from odeopt.rules.base import Scalar

__all__ = [
    "gradient_flow", "gradient_flow_convex", "heavy_ball", "heavy_ball_classical", "heavy_ball_quadratic",
    "heavy_ball_smooth",
]  # fmt: skip

_mu, _b, _s, _m, _c = real("mu b s m c")


def gradient_flow(mu: Scalar | None = None, *, force: Scalar = 1) -> Certificate:
    r"""Gradient flow on strongly convex functions, :math:`V=f`: rate :math:`2\gamma\mu`.

    .. math:: \dot V+2\gamma\mu V=2\gamma\mu A_1-\gamma\lVert g-\mu x\rVert^2

    Parameters
    ----------
    mu : number, optional
        Without it the certificate holds for every mu > 0.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "exponential".

    Examples
    --------
    >>> gradient_flow().verify(), gradient_flow(mu=3).rate
    (True, 6)
    """
    gamma = positive_number(force, "force")
    p, domain = parameters("gradient flow", (Bound(_mu, strict=True),), mu=mu)
    return _exponential("gradient flow", Flow(force=gamma), p.mu, f, 2 * gamma * p.mu, domain)


def _exponential(
    title: str, flow: Flow, mu: Expr, energy: Expr, rate: Expr, domain, **options
) -> Certificate:
    """By A(*,x) with the rate as multiplier, on mu-strongly convex functions."""
    functions = options.pop("functions", strongly_convex(mu))
    weights = options.pop("weights", {"A(*,x)": rate})
    return build(
        title, flow, functions, energy, rate, weights, domain, positivity={"G(x)": 1}, law="exponential",
        search=None if domain or options.pop("open", False) else closed_form(rate),
    )  # fmt: skip


def gradient_flow_convex(*, force: Scalar = 1) -> Certificate:
    r"""Gradient flow on convex functions: :math:`\gamma tf+\frac12\lVert x\rVert^2` decreases, power 1.

    Parameters
    ----------
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "power", for t > 0.

    Examples
    --------
    >>> gradient_flow_convex().rate, gradient_flow_convex().verify()
    (1, True)
    """
    gamma = positive_number(force, "force")
    return build(
        "gradient flow, convex", Flow(force=gamma), convex(), f + x**2 / (2 * gamma * time), sympy.S.One,
        {"A(*,x)": 1 / time}, (Bound(time, strict=True),), positivity={"G(x)": 1}, law="power",
        search=closed_form(sympy.S.One),
    )  # fmt: skip


def _master(title: str, b: Expr, mu: Expr, s: Expr, gamma: Expr, domain=()) -> Certificate:
    """The master identity, for any s."""
    energy = f + (s**2 * x**2 + 2 * s * x * v + v**2 / 2) / gamma
    return _exponential(title, Flow((b,), gamma), mu, energy, 2 * s, domain)


def heavy_ball(b: Scalar | None = None, mu: Scalar | None = None, *, force: Scalar = 1) -> Certificate:
    r"""Constant friction on strongly convex functions: the master identity, for any s.

    .. math::
        V=f+s^2\lVert x\rVert^2+2s\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+2sV=2sA_1-(b-3s)\lVert v+sx\rVert^2-s(s^2-bs+\mu)\lVert x\rVert^2.

    Parameters
    ----------
    b, mu : number, optional
        Without them the certificate holds for all s > 0, b >= 3s and mu >= s(b - s), with rate 2s. With
        them s is the largest possible: the rate is :math:`\min(\frac{2b}3,b-\sqrt{b^2-4\gamma\mu})`.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "exponential", on functions of any smoothness.

    Examples
    --------
    >>> heavy_ball().verify(), heavy_ball(b=2, mu=1).rate, heavy_ball(b=3, mu=1).rate
    (True, 4/3, 3 - sqrt(5))
    """
    gamma = positive_number(force, "force")
    if b is None and mu is None:
        ranges = (Bound(_s, strict=True), Bound(_b, 3 * _s), Bound(_mu, _s * (_b - _s) / gamma))
        return _master("heavy ball", _b, _mu, _s, gamma, ranges)
    damping, low = positive_number(b, "b"), positive_number(mu, "mu")
    stiffness = sympy.expand(gamma * low)
    # b/3 holds below its crossing with the slow root, b^2 = 9/2 gamma mu, and that root above
    first = number_sign(9 * stiffness - 2 * damping**2) >= 0
    half = (
        damping / 3 if first else sympy.expand((damping - sqrt(sympy.expand(damping**2 - 4 * stiffness))) / 2)
    )
    return _master("heavy ball", damping, low, half, gamma)


def heavy_ball_classical(
    which: Literal["classical", "fastest"] = "classical", m: Scalar | None = None
) -> Certificate:
    r"""The two certificates of the literature at :math:`b=2\sqrt\mu`, for every :math:`\mu=m^2`.

    Parameters
    ----------
    which : {"classical", "fastest"}
        "classical" has the energy :math:`f+\frac12\lVert v+mx\rVert^2` and the rate m, "fastest" the case
        :math:`s=\frac23m` of :func:`heavy_ball`, rate :math:`\frac43m`.
    m : number, optional
        Without it the certificate holds for every m > 0.

    Returns
    -------
    Certificate
        Law "exponential", on functions of any smoothness.

    Notes
    -----
    The first is that of Wilson, Recht and Jordan, the second that of Moucer, Taylor and Bach, Corollary
    2.5, both as in PEPit's examples.

    Examples
    --------
    >>> [(w.rate, w.verify()) for w in (heavy_ball_classical(), heavy_ball_classical("fastest"))]
    [(m, True), (4*m/3, True)]
    """
    if which not in ("classical", "fastest"):
        raise ValueError(f"which must be 'classical' or 'fastest', got {which!r}")
    title = "heavy ball at b = 2 sqrt(mu)"
    p, domain = parameters(title, (Bound(_m, strict=True),), m=m)
    if which == "fastest":
        return _master(title, 2 * p.m, p.m**2, 2 * p.m / 3, sympy.S.One, domain)
    energy = f + (v + p.m * x) ** 2 / 2
    return _exponential(
        f"{title}, classical energy", Flow((2 * p.m,)), p.m**2, energy, p.m, domain, open=True
    )


def heavy_ball_quadratic(
    b: Scalar | None = None, mu: Scalar | None = None, *, overdamped: bool = False, force: Scalar = 1
) -> Certificate:
    r"""Constant friction on quadratics, with their exact rate :math:`b-\mathrm{Re}\sqrt{b^2-4\gamma\mu}`.

    .. math::
        b\le2\sqrt\mu:\quad V=f+\tfrac b2\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad \dot V=-bV;\\
        b\ge2\sqrt\mu,\ s=\tfrac{b-\sqrt{b^2-4\mu}}2:\quad
        V=f+(\tfrac{b^2}4-\mu)\lVert x\rVert^2+\tfrac b2\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+2sV=-(b-2s)\left[f-\tfrac\mu2\lVert x\rVert^2+\tfrac12\lVert v+sx\rVert^2\right].

    Only :math:`\langle g,x\rangle=2f` is used, in any inner product in which H is symmetric: it holds for
    the error losses :math:`\frac12\Delta^\top H\Delta`, :math:`\frac12\lVert\Delta\rVert^2` and their dual
    :math:`\frac12u^\top H^{-1}u` alike.

    Parameters
    ----------
    b, mu : number, optional
        Without them the certificate holds for all of a branch, given by `overdamped`.
    overdamped : bool
        The branch, where there are no numbers.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "exponential".

    Examples
    --------
    >>> [heavy_ball_quadratic(overdamped=which).verify() for which in (False, True)]
    [True, True]
    >>> heavy_ball_quadratic(b=1, mu=1).rate, heavy_ball_quadratic(b=3, mu=1).rate
    (1, 3 - sqrt(5))
    """
    gamma = positive_number(force, "force")
    if b is None and mu is None:
        # overdamped: mu = s (b - s), so that s is a symbol and not a root
        free = (Bound(_s, strict=True), Bound(_b, 2 * _s))
        free = free if overdamped else (Bound(_b, strict=True), Bound(_mu, _b**2 / (4 * gamma)))
        low, s = (_s * (_b - _s) / gamma, _s) if overdamped else (_mu, _b / 2)
        return _on_quadratics(_b, low, s, gamma, overdamped, free)
    damping, low = positive_number(b, "b"), positive_number(mu, "mu")
    discriminant = sympy.expand(damping**2 - 4 * gamma * low)
    overdamped = number_sign(discriminant) > 0
    half = sympy.expand((damping - sqrt(discriminant)) / 2) if overdamped else damping / 2
    return _on_quadratics(damping, low, half, gamma, overdamped, ())


def _on_quadratics(b, mu, s, gamma, overdamped: bool, domain) -> Certificate:
    title = "heavy ball on quadratics" + ", overdamped" * overdamped
    spare = b**2 / 4 - gamma * mu if overdamped else sympy.S.Zero
    energy = f + (spare * x**2 + b / 2 * x * v + v**2 / 2) / gamma
    weights = {"E(x)": -b / 2, "G(x)": b - 2 * s}
    flow = Flow((b,), gamma)
    return _exponential(title, flow, mu, energy, 2 * s, domain, functions=quadratic(mu), weights=weights)


def heavy_ball_smooth(m: Scalar | None = None, c: Scalar | None = None, *, force: Scalar = 1) -> Certificate:
    r"""Friction :math:`b=2\sqrt\mu` on :math:`\mathcal F_{\mu,L}`, with its rate in closed form.

    With :math:`\mu=m^2` (:math:`\gamma\mu=m^2`) and :math:`k=\sqrt{L/\mu}` the rate is cm for

    .. math:: c=\tfrac14\left[5+3k-\sqrt{(k-1)(9k+7)}\right]
        \quad\Longleftrightarrow\quad k=\frac{2c^2-5c+4}{3c-4},\ \tfrac43<c<2,

    and S has rank one: :math:`-\frac c{2(k^2-1)m}\lVert g+(2-c)mv-k(c-1)m^2x\rVert^2`.

    Parameters
    ----------
    m, c : number, optional
        The rate cm in place of L, in which everything is rational. Without them the certificate holds
        for all m > 0 and 4/3 < c < 2.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "exponential".

    Examples
    --------
    >>> heavy_ball_smooth().verify(), heavy_ball_smooth(1, 1.5).function_class.L
    (True, 4)
    """
    gamma = positive_number(force, "force")
    title = "heavy ball at b = 2 sqrt(mu), smooth"
    ranges = (Bound(_m, strict=True), Bound(_c, Rational(4, 3), sympy.Integer(2), strict=True))
    p, domain = parameters(title, ranges, m=m, c=c)
    k = (2 * p.c**2 - 5 * p.c + 4) / (3 * p.c - 4)
    if not domain:
        k = Field(()).read(k).expr()
    ratio = p.c / (2 * (k**2 - 1))
    p11, p12, p22 = (
        ratio * k**2 * (2 - p.c),
        ratio * k * (k + 1 - p.c),
        ratio * (k + 1 - p.c) * (k - 1 + p.c) / p.c,
    )
    energy = f + (p11 * p.m**2 * x**2 + 2 * p12 * p.m * x * v + p22 * v**2) / gamma
    mu = p.m**2 / gamma
    functions = strongly_convex(mu, sympy.factor(mu * k**2))
    return _exponential(title, Flow((2 * p.m,), gamma), mu, energy, p.c * p.m, domain, functions=functions)
