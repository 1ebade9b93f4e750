r"""Certificates in closed form, each valid for all parameters in its range.

Called without numbers, a family returns the certificate for symbols; with numbers, that of the case.
Either way nothing is believed: the remainder is computed from the energy and the multipliers, and
:meth:`Certificate.verify` proves the rest.
"""

from __future__ import annotations

import sympy
from sympy import Expr, Rational, Symbol, sqrt

from odeopt.proofs.build import build, closed_form, positive
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import exact_number, number_sign
from odeopt.proofs.flow import Flow, f, time, v, x
from odeopt.proofs.functions import convex, quadratic, strongly_convex

__all__ = [
    "gradient_flow",
    "gradient_flow_convex",
    "heavy_ball",
    "heavy_ball_classical",
    "heavy_ball_quadratic",
    "heavy_ball_smooth",
]

t = time
s = Symbol("s", real=True)


def positive_numbers(**values) -> dict[str, Expr]:
    """Return the arguments as exact numbers, positive."""
    exact = {name: exact_number(value, name) for name, value in values.items()}
    for name, value in exact.items():
        if not value.free_symbols and number_sign(value) <= 0:
            raise ValueError(f"{name} must be positive, got {values[name]!r}")
    return exact


def gradient_flow(mu=None, *, force=1) -> Certificate:
    r"""Gradient flow on strongly convex functions, :math:`V=f`: rate :math:`2\gamma\mu`.

    .. math:: \dot V+2\gamma\mu V=2\gamma\mu A_1-\gamma\lVert g-\mu x\rVert^2

    Parameters
    ----------
    mu : number, optional
        Without it the certificate holds for every mu > 0.
    force : number
        :math:`\gamma` in :math:`\dot x+\gamma\nabla f(x)=0`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> gradient_flow().verify(), gradient_flow(mu=3).rate
    (True, 6)
    """
    domain = () if mu is not None else positive(Symbol("mu", real=True))
    mu = Symbol("mu", real=True) if mu is None else positive_numbers(mu=mu)["mu"]
    gamma = exact_number(force)
    rate = 2 * gamma * mu
    return build(
        "gradient flow", Flow(force=gamma), strongly_convex(mu), f, rate, {"A(*,x)": rate}, domain,
        positivity={"G(x)": 1}, law="exponential", search=None if domain else closed_form(rate),
    )  # fmt: skip


def gradient_flow_convex(*, force=1) -> Certificate:
    r"""Gradient flow on convex functions: :math:`\gamma tf+\frac12\lVert x\rVert^2` decreases, power 1.

    Parameters
    ----------
    force : number
        :math:`\gamma`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> gradient_flow_convex().rate, gradient_flow_convex().verify()
    (1, True)
    """
    gamma = exact_number(force)
    energy = f + x**2 / (2 * gamma * t)
    return build(
        "gradient flow, convex", Flow(force=gamma), convex(), energy, sympy.S.One, {"A(*,x)": 1 / t},
        positive(t), positivity={"G(x)": 1}, law="power", search=closed_form(sympy.S.One),
    )  # fmt: skip


def _heavy_ball(b, mu, s, domain=(), gamma=sympy.S.One, **options) -> Certificate:
    """The master identity, for any s."""
    energy = f + (s**2 * x**2 + 2 * s * x * v + v**2 / 2) / gamma
    return build(
        options.pop("title", "heavy ball"), Flow((b,), gamma), strongly_convex(mu), energy, 2 * s,
        {"A(*,x)": 2 * s}, domain, positivity={"G(x)": 1}, law="exponential", **options,
    )  # fmt: skip


def heavy_ball(b=None, mu=None, *, force=1) -> Certificate:
    r"""Constant friction on strongly convex functions: the master identity, for any s,

    .. math::
        V=f+s^2\lVert x\rVert^2+2s\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+2sV=2sA_1-(b-3s)\lVert v+sx\rVert^2-s(s^2-bs+\mu)\lVert x\rVert^2.

    Parameters
    ----------
    b, mu : number, optional
        Without them the certificate holds for all s > 0, b >= 3s and mu >= s(b - s), with rate 2s. With
        them s is the largest possible: the rate is :math:`\min(\frac{2b}3,b-\sqrt{b^2-4\gamma\mu})`.
    force : number
        :math:`\gamma` in :math:`\ddot x+b\dot x+\gamma\nabla f(x)=0`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> heavy_ball().verify(), heavy_ball(b=2, mu=1).rate, heavy_ball(b=3, mu=1).rate
    (True, 4/3, 3 - sqrt(5))
    """  # noqa: D400
    if b is None and mu is None:
        b, mu = Symbol("b", real=True), Symbol("mu", real=True)
        return _heavy_ball(b, mu, s, (Bound(s, strict=True), Bound(b, 3 * s), Bound(mu, s * (b - s))))
    exact = positive_numbers(b=b, mu=mu, force=force)
    b, gamma = exact["b"], exact["force"]
    stiffness = sympy.expand(gamma * exact["mu"])
    # b/3 holds below its crossing with the slow root, b^2 = 9/2 gamma mu, and that root above
    first = number_sign(9 * stiffness - 2 * b**2) >= 0
    half = b / 3 if first else sympy.expand((b - sqrt(sympy.expand(b**2 - 4 * stiffness))) / 2)
    return _heavy_ball(b, exact["mu"], half, gamma=gamma, search=closed_form(2 * half))


def heavy_ball_classical(which="classical", m=None) -> Certificate:
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
    domain = () if m is not None else positive(Symbol("m", real=True))
    m = Symbol("m", real=True) if m is None else positive_numbers(m=m)["m"]
    if which == "fastest":
        return _heavy_ball(2 * m, m**2, 2 * m / 3, domain, title="heavy ball at b = 2 sqrt(mu)")
    return build(
        "heavy ball at b = 2 sqrt(mu), classical energy", Flow((2 * m,)), strongly_convex(m**2),
        f + (v + m * x) ** 2 / 2, m, {"A(*,x)": m}, domain, positivity={"G(x)": 1}, law="exponential",
    )  # fmt: skip


def heavy_ball_quadratic(b=None, mu=None, *, overdamped=False, force=1) -> Certificate:
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
        :math:`\gamma`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> [heavy_ball_quadratic(overdamped=which).verify() for which in (False, True)]
    [True, True]
    >>> heavy_ball_quadratic(b=1, mu=1).rate, heavy_ball_quadratic(b=3, mu=1).rate
    (1, 3 - sqrt(5))
    """
    if b is None and mu is None:
        b, mu, gamma = Symbol("b", real=True), Symbol("mu", real=True), sympy.S.One
        if overdamped:  # b = 2s + p, mu = s(b - s)
            return _overdamped(b, s * (b - s), s, gamma, (Bound(s, strict=True), Bound(b, 2 * s)))
        return _underdamped(b, mu, gamma, (Bound(b, strict=True), Bound(mu, b**2 / 4)))
    exact = positive_numbers(b=b, mu=mu, force=force)
    b, mu, gamma = exact["b"], exact["mu"], exact["force"]
    discriminant = sympy.expand(b**2 - 4 * gamma * mu)
    if number_sign(discriminant) <= 0:
        return _underdamped(b, mu, gamma, search=closed_form(b))
    half = sympy.expand((b - sqrt(discriminant)) / 2)
    return _overdamped(b, mu, half, gamma, search=closed_form(2 * half))


def _underdamped(b, mu, gamma, domain=(), **options) -> Certificate:
    energy = f + (b / 2 * x * v + v**2 / 2) / gamma
    return build(
        "heavy ball on quadratics", Flow((b,), gamma), quadratic(mu), energy, b, {"E(x)": -b / 2}, domain,
        positivity={"G(x)": 1}, law="exponential", **options,
    )  # fmt: skip


def _overdamped(b, mu, s, gamma, domain=(), **options) -> Certificate:
    energy = f + ((b**2 / 4 - gamma * mu) * x**2 + b / 2 * x * v + v**2 / 2) / gamma
    return build(
        "heavy ball on quadratics, overdamped", Flow((b,), gamma), quadratic(mu), energy, 2 * s,
        {"E(x)": -b / 2, "G(x)": b - 2 * s}, domain, positivity={"G(x)": 1}, law="exponential", **options,
    )  # fmt: skip


def heavy_ball_smooth(m=None, c=None) -> Certificate:
    r"""Friction :math:`b=2\sqrt\mu` on :math:`\mathcal F_{\mu,L}`, with its rate in closed form.

    With :math:`\mu=m^2` and :math:`k=\sqrt{L/\mu}` the rate is cm for

    .. math:: c=\tfrac14\left[5+3k-\sqrt{(k-1)(9k+7)}\right]
        \quad\Longleftrightarrow\quad k=\frac{2c^2-5c+4}{3c-4},\ \tfrac43<c<2,

    and S has rank one: :math:`-\frac c{2(k^2-1)m}\lVert g+\alpha mv+\beta m^2x\rVert^2`,
    :math:`\beta=-(c-1)k`.

    Parameters
    ----------
    m, c : number, optional
        The rate cm in place of L, in which everything is rational. Without them the certificate holds
        for all m > 0 and 4/3 < c < 2.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> heavy_ball_smooth().verify(), heavy_ball_smooth(1, 1.5).function_class.L
    (True, 4)
    """
    given = m is not None or c is not None
    if given:
        m, c = (positive_numbers(m=m, c=c)[name] for name in ("m", "c"))
        if not 4 < 3 * c < 6:
            raise ValueError(f"c must lie strictly between 4/3 and 2, got {c}")
        domain = ()
    else:
        m, c = Symbol("m", real=True), Symbol("c", real=True)
        domain = (*positive(m), Bound(c, Rational(4, 3), sympy.Integer(2), strict=True))
    k = (2 * c**2 - 5 * c + 4) / (3 * c - 4)
    beta, ratio = -(c - 1) * k, 1 / (2 * (k**2 - 1))
    alpha = (beta**2 - k**2 + (2 - c) * c * (k**2 + beta)) / (c * beta)
    p11, p12, p22 = (k**2 - beta**2) * ratio, c * (k**2 + beta) * ratio, Rational(1, 2) + c * alpha * ratio
    p11, p12, p22 = (sympy.factor(sympy.cancel(p)) for p in (p11, p12, p22))
    energy = f + p11 * m**2 * x**2 + 2 * p12 * m * x * v + p22 * v**2
    functions = strongly_convex(m**2, sympy.factor(m**2 * k**2))
    return build(
        "heavy ball at b = 2 sqrt(mu), smooth", Flow((2 * m,)), functions, energy, c * m, {"A(*,x)": c * m},
        domain, positivity={"G(x)": 1}, law="exponential", search=closed_form(c * m) if given else None,
    )  # fmt: skip
