r"""Certificates in closed form for friction that changes with time: r/t, and any other.

As in :mod:`odeopt.proofs.families.constant`, a family called without numbers is the certificate for symbols,
and `force` is the coefficient :math:`\gamma` of the gradient, 1 in the formulas.
"""

from __future__ import annotations

# A parameter is given its exact value in place, whose type sympy does not say: a checker would go on to
# believe the one declared.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false
from collections.abc import Mapping, Sequence

import sympy
from sympy import Expr, Integer, Symbol, sqrt

from odeopt.proofs.build import build, closed_form
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import number_sign, simplest_fraction
from odeopt.proofs.families.family import parameters, positive_number, real
from odeopt.proofs.flow import Flow, f, time, v, x, y
from odeopt.proofs.functions import FunctionClass, convex, quadratic, strongly_convex
from odeopt.proofs.statement import Search
from odeopt.rules.base import Scalar

__all__ = [
    "any_damping", "nesterov_convex", "nesterov_hessian", "nesterov_quadratic", "nesterov_smooth",
    "nesterov_strongly_convex",
]  # fmt: skip

t: Symbol = time
_r, _mu, _beta, _k, _u, _s, _s1, _s2 = real("r mu beta k u s s_1 s_2")
_ZERO = sympy.S.Zero


def _power(
    title: str, flow: Flow, functions: FunctionClass, energy: Expr, rate: Expr, weights: Mapping,
    domain: Sequence[Bound], *, excess: Expr = _ZERO, share: Expr = sympy.S.One, search: Search | None = None,
) -> Certificate:  # fmt: skip
    """A power, with `excess` as correction and as multiplier of G(x)."""
    if search is None and {b.symbol for b in domain} == {t}:
        search = closed_form(rate)
    weights = dict(weights) | ({"G(x)": excess} if excess != 0 else {})
    return build(
        title, flow, functions, energy, rate, weights, domain, positivity={"G(x)": share}, law="power",
        correction=-excess, search=search,
    )  # fmt: skip


def nesterov_convex(r: Scalar | None = None, *, force: Scalar = 1) -> Certificate:
    r"""Friction r/t, r >= 3, on convex functions: power 2.

    .. math:: V=f+\tfrac12\lVert\tfrac{r-1}tx+v\rVert^2,\qquad
        \dot V+\tfrac2tV=-\tfrac{r-3}tf-\tfrac{r-1}t(\langle g,x\rangle-f).

    Parameters
    ----------
    r : number, optional
        Without it the certificate holds for every r >= 3.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "power", for t > 0.

    Raises
    ------
    ValueError
        If r < 3: the multiplier of f >= 0 is r - 3.

    Notes
    -----
    :math:`t^2V` is the energy of Su, Boyd and Candes, JMLR 2016, up to a factor.

    Examples
    --------
    >>> nesterov_convex().verify(), nesterov_convex(r=3).rate
    (True, 2)
    """
    gamma = positive_number(force, "force")
    title = "Nesterov flow, convex"
    p, domain = parameters(title, (Bound(t, strict=True), Bound(_r, Integer(3))), r=r)
    c = (p.r - 1) / t
    energy = f + (c**2 * x**2 + 2 * c * x * v + v**2) / (2 * gamma)
    weights = {"A(*,x)": c, "G(x)": (p.r - 3) / t}
    return _power(title, Flow((p.r / t,), gamma), convex(), energy, Integer(2), weights, domain)


def nesterov_hessian(
    r: Scalar | None = None, beta: Scalar | None = None, *, force: Scalar = 1
) -> Certificate:
    r"""Friction r/t, r > 3, with Hessian damping on convex functions: power 2.

    With :math:`y=\dot x+\beta\nabla f(x)`,

    .. math:: V=(1-\tfrac{\beta'}t)f+\tfrac1{2\gamma}\lVert\tfrac{r-1}tx+y\rVert^2,\qquad \beta'=\beta/\gamma,

    from :math:`t\ge\frac{r-2}{r-3}\beta'` on. Its remainder is a multiple of :math:`-\lVert g\rVert^2`.

    Parameters
    ----------
    r, beta : number, optional
        Without them the certificate holds for all r > 3 and beta > 0.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "power"; its domain holds the range of t.

    Examples
    --------
    >>> nesterov_hessian().verify(), nesterov_hessian(r=4, beta=0.1).rate
    (True, 2)
    """
    gamma = positive_number(force, "force")
    title = "Nesterov flow with Hessian damping, convex"
    start = (_r - 2) * _beta / (gamma * (_r - 3))
    ranges = (Bound(_r, Integer(3), strict=True), Bound(_beta, strict=True), Bound(t, start, strict=True))
    p, domain = parameters(title, ranges, r=r, beta=beta)
    b = p.beta / gamma
    energy = (1 - b / t) * f + ((p.r - 1) * x / t + y) ** 2 / (2 * gamma)
    weights = {"A(*,x)": (p.r - 1) * (t - b) / t**2, "G(x)": ((p.r - 3) * t - (p.r - 2) * b) / t**2}
    flow = Flow((p.r / t,), gamma, p.beta)
    return _power(title, flow, convex(), energy, Integer(2), weights, domain, share=1 - b / t)


def nesterov_strongly_convex(
    r: Scalar | None = None, mu: Scalar | None = None, *, above_three: bool = False, force: Scalar = 1
) -> Certificate:
    r"""Friction r/t on strongly convex functions: power 2r/3.

    .. math::
        V=f+\tfrac{r(r+3)}{9t^2}\lVert x\rVert^2+\tfrac{2r}{3t}\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\\
        \dot V+\tfrac{2r}{3t}V=\tfrac{2r}{3t}A_1
        -\tfrac r{3t}\left(\mu-\tfrac{2(r^2-9)}{9t^2}\right)\lVert x\rVert^2.

    For r <= 3 it holds for all t > 0 and even for mu = 0, for r > 3 from
    :math:`t^2\ge\frac{2(r^2-9)}{9\gamma\mu}` on.

    Parameters
    ----------
    r, mu : number, optional
        Without them the certificate holds for all of a branch, given by `above_three`; mu = 0 stands
        for convex functions.
    above_three : bool
        The branch, where there are no numbers.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Its domain holds the range of t.

    Examples
    --------
    >>> [nesterov_strongly_convex(above_three=which).verify() for which in (False, True)]
    [True, True]
    >>> certificate = nesterov_strongly_convex(r=6, mu=1)
    >>> certificate.rate, certificate.domain[0].lower
    (4, sqrt(6))
    """
    gamma = positive_number(force, "force")
    low = 2 * (_r**2 - 9) / (9 * gamma)  # of mu t^2, for r > 3
    b, low_mu = _r, _mu
    if r is not None:
        b = positive_number(r, "r")
        low_mu = _ZERO if mu == 0 else positive_number(mu, "mu")
        above_three = number_sign(b - 3) > 0
        if above_three and low_mu == 0:
            raise ValueError(f"r = {r} > 3 needs mu > 0; on convex functions use nesterov_convex")
        domain = (Bound(t, sqrt(low.subs(_r, b) / low_mu) if above_three else _ZERO, strict=True),)
    else:
        ranges = (Bound(_r, _ZERO, Integer(3), strict=True), Bound(_mu))
        if above_three:
            ranges = (Bound(_r, Integer(3)), Bound(_mu, low / t**2))
        domain = (Bound(t, strict=True), *ranges)
    c = b / (3 * t)
    energy = f + ((c**2 + c / t) * x**2 + 2 * c * x * v + v**2 / 2) / gamma
    functions = convex() if low_mu == 0 else strongly_convex(low_mu)
    weights = {"A(*,x)": 2 * c}
    return _power("Nesterov flow", Flow((b / t,), gamma), functions, energy, 2 * b / 3, weights, domain)


def nesterov_smooth(
    r: Scalar | None = None,
    mu: Scalar | None = None,
    L: Scalar | None = None,
    *,
    above_two: bool = False,
    force: Scalar = 1,
) -> Certificate:
    r"""Friction r/t on :math:`\mathcal F_{\mu,L}`: a power between 2r/3 and the r of quadratics.

    With :math:`k=\sqrt{L/\mu}` and :math:`a=\frac r2-\frac p4`

    .. math::
        p=\frac{2(k+1)}{3k+1}\,r,\qquad
        V=f+\tfrac{a(1+r-p)}{t^2}\lVert x\rVert^2+\tfrac{2a}t\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\\
        \dot V+\tfrac ptV=\tfrac ptA_1-\tfrac p{2t(L-\mu)}\lVert g-\sqrt{\mu L}\,x\rVert^2
        +\tfrac{(p-2)a(1+r-p)}{t^3}\lVert x\rVert^2.

    For p > 2 the last term is made up for by :math:`\frac e{t^3}V`, which is integrable, from
    :math:`t^2\ge\frac{2a(p-2)}{\gamma\mu}` on.

    Parameters
    ----------
    r, mu, L : number, optional
        Without them the certificate holds for all of a branch, given by `above_two`, with the symbols k
        for :math:`\sqrt{L/\mu}` and u, r = (3k + 1) u, which make it rational. With them p is rounded
        down, by less than :math:`10^{-9}p`, where k is not rational.
    above_two : bool
        The branch p > 2, where there are no numbers.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Its domain holds the range of t.

    Notes
    -----
    Derived for this package: p/r is the limit of the best certified rate of heavy ball, divided by its
    friction, as the friction goes to 0.

    Examples
    --------
    >>> [nesterov_smooth(above_two=which).verify() for which in (False, True)]
    [True, True]
    >>> nesterov_smooth(r=3, mu=1, L=9).rate
    12/5
    """
    gamma = positive_number(force, "force")
    if r is None:
        curved, rate = _mu, 2 * (_k + 1) * _u
        turn = 1 / (_k + 1)  # where the power is 2
        a = _smooth((3 * _k + 1) * _u, rate)
        low = 2 * a * (rate - 2) / (gamma * t**2) if above_two else _ZERO
        ranges = (turn,) if above_two else (_ZERO, turn)
        bounds = (Bound(_k, sympy.S.One, strict=True), Bound(_u, *ranges, strict=True))
        domain = (Bound(t, strict=True), *bounds, Bound(_mu, low, strict=True))
        return _on_smooth((3 * _k + 1) * _u, curved, curved * _k**2, rate, gamma, above_two, domain)
    b, curved, L = (positive_number(value, name) for value, name in ((r, "r"), (mu, "mu"), (L, "L")))
    if number_sign(L - curved) <= 0:
        raise ValueError(f"L must be larger than mu, got mu = {mu}, L = {L}; use nesterov_quadratic")
    k = sqrt(L / curved)
    best = 2 * b * (k + 1) / (3 * k + 1)
    rate = best if best.is_Rational else _rational_below(best)
    start = _rational_above(sqrt(2 * _smooth(b, rate) * (rate - 2) / (gamma * curved))) if rate > 2 else _ZERO
    found = Search(float(best), float(best - rate), "closed form", 0)
    return _on_smooth(b, curved, L, rate, gamma, rate > 2, (Bound(t, start, strict=True),), found)


def _smooth(b: Expr, rate: Expr) -> Expr:
    """The a of the energy; mu t^2 >= 2 a (p - 2) keeps the form beside f positive."""
    return b / 2 - rate / 4


def _on_smooth(b, mu, L, p, gamma, above_two: bool, domain, search: Search | None = None) -> Certificate:
    a = _smooth(b, p)
    # twice what the growth needs: the other half pays for the energy of x and v
    excess = 4 * (p - 2) * a * (1 + b - p) / (gamma * mu * t**3) if above_two else _ZERO
    energy = f + (a * (1 + b - p) / t**2 * x**2 + 2 * a / t * x * v + v**2 / 2) / gamma
    return _power(
        "Nesterov flow, smooth", Flow((b / t,), gamma), strongly_convex(mu, L), energy, p, {"A(*,x)": p / t},
        domain, excess=excess, search=search,
    )  # fmt: skip


def _rational_below(value: Expr) -> Expr:
    """The simplest fraction below a number by less than 1e-9 of it, for which floats are fine enough."""
    high = float(value) * (1 - 1e-12)
    return simplest_fraction(high * (1 - 5e-10), high)


def _rational_above(value: Expr) -> Expr:
    """A rational number a little above a root, so that no root enters the proof."""
    if value.is_Rational:
        return value
    low = float(value)
    return simplest_fraction(low * (1 + 1e-12), low * (1 + 1e-6))


def nesterov_quadratic(
    r: Scalar | None = None, mu: Scalar | None = None, *, above_two: bool = False, force: Scalar = 1
) -> Certificate:
    r"""Friction r/t on quadratics: power r, their exact one.

    .. math::
        V=f+\tfrac r{4t^2}\lVert x\rVert^2+\tfrac r{2t}\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+\tfrac rtV=-\tfrac{r(2-r)}{4t^3}\lVert x\rVert^2,

    for r > 2 with :math:`t^re^{k/t^2}V` in place of :math:`t^rV`, :math:`k=\frac{r(r-2)}{2\gamma\mu}`, from
    :math:`t^2\ge k` on.

    Parameters
    ----------
    r, mu : number, optional
        Without them the certificate holds for all of a branch, given by `above_two`.
    above_two : bool
        The branch, where there are no numbers.
    force : number
        :math:`\gamma>0`, the factor of the gradient.

    Returns
    -------
    Certificate
        Law "power"; for r > 2 with a `correction`, and its domain holds the range of t.

    Examples
    --------
    >>> [nesterov_quadratic(above_two=which).verify() for which in (False, True)]
    [True, True]
    >>> nesterov_quadratic(r=3, mu=1).correction
    -3/t**3
    """
    gamma = positive_number(force, "force")
    low = _r * (_r - 2) / (2 * gamma)  # of mu t^2, for r > 2
    b, low_mu = _r, _mu
    if r is not None:
        b, low_mu = positive_number(r, "r"), positive_number(mu, "mu")
        above_two = number_sign(b - 2) > 0
        domain = (Bound(t, sqrt(low.subs(_r, b) / low_mu) if above_two else _ZERO, strict=True),)
    else:
        ranges = (Bound(_r, _ZERO, Integer(2), strict=True), Bound(_mu))
        if above_two:
            ranges = (Bound(_r, Integer(2), strict=True), Bound(_mu, low / t**2, strict=True))
        domain = (Bound(t, strict=True), *ranges)
    excess = b * (b - 2) / (gamma * low_mu * t**3) if above_two else _ZERO
    energy = f + (b / (4 * t**2) * x**2 + b / (2 * t) * x * v + v**2 / 2) / gamma
    weights, flow = {"E(x)": -b / (2 * t)}, Flow((b / t,), gamma)
    return _power(
        "Nesterov flow on quadratics", flow, quadratic(low_mu), energy, b, weights, domain, excess=excess
    )


def any_damping() -> Certificate:
    r"""Any friction b(t) = 3 s(t) on strongly convex functions: :math:`e^{\int2s}V` decreases.

    .. math::
        V=f+(s^2-\dot s)\lVert x\rVert^2+2s\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+2sV=-2s(\langle g,x\rangle-f)+(2s^3-\ddot s)\lVert x\rVert^2,

    while :math:`\ddot s\ge2s^3-\mu s` and :math:`\dot s\le\frac\mu2-s^2`.

    Returns
    -------
    Certificate
        With the symbols s, s_1, s_2 for s and its derivatives.

    Examples
    --------
    >>> any_damping().verify(), any_damping().rate
    (True, 2*s)
    """
    flow = Flow((3 * _s,), derivatives={_s: _s1, _s1: _s2})
    low, high = 2 * _s**3 - _mu * _s, _mu / 2 - _s**2
    domain = (Bound(_s, strict=True), Bound(_mu, strict=True), Bound(_s1, None, high), Bound(_s2, low))
    energy = f + (_s**2 - _s1) * x**2 + 2 * _s * x * v + v**2 / 2
    return build(
        "any damping", flow, strongly_convex(_mu), energy, 2 * _s, {"A(*,x)": 2 * _s}, domain,
        positivity={"G(x)": 1}, law="integral",
    )  # fmt: skip
