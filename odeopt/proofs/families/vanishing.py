r"""Certificates in closed form for friction that changes with time: r/t, and any other.

As in :mod:`odeopt.proofs.families.constant`, a family called without numbers is the certificate for symbols.
"""

from __future__ import annotations

import sympy
from sympy import Expr, Symbol, sqrt

from odeopt.proofs.build import build, closed_form, positive
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.signs import exact_number, number_sign, simplest_fraction
from odeopt.proofs.families.constant import positive_numbers
from odeopt.proofs.flow import Flow, f, time, v, x, y
from odeopt.proofs.functions import convex, quadratic, strongly_convex
from odeopt.proofs.statement import Search

__all__ = [
    "any_damping",
    "nesterov_convex",
    "nesterov_hessian",
    "nesterov_quadratic",
    "nesterov_smooth",
    "nesterov_strongly_convex",
]

t = time
mu, s, s1, s2 = (Symbol(name, real=True) for name in ("mu", "s", "s_1", "s_2"))


def nesterov_convex(r=None, *, force=1) -> Certificate:
    r"""Friction r/t, r >= 3, on convex functions: power 2.

    .. math:: V=f+\tfrac12\lVert\tfrac{r-1}tx+v\rVert^2,\qquad
        \dot V+\tfrac2tV=-\tfrac{r-3}tf-\tfrac{r-1}t(\langle g,x\rangle-f).

    Parameters
    ----------
    r : number, optional
        Without it the certificate holds for every r >= 3.
    force : number
        :math:`\gamma`.

    Returns
    -------
    Certificate

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
    gamma = exact_number(force)
    domain = positive(t)
    if r is None:
        r = Symbol("r", real=True)
        domain += (Bound(r, sympy.Integer(3)),)
    else:
        r = positive_numbers(r=r)["r"]
        if number_sign(r - 3) < 0:
            raise ValueError(
                f"power 2 on convex functions needs r >= 3, got r = {r}: the multiplier r - 3 of f >= 0 "
                f"would be negative; nesterov_strongly_convex(r, mu=0) has the power 2r/3 = {2 * r / 3}"
            )
    c = (r - 1) / t
    energy = f + (c**2 * x**2 + 2 * c * x * v + v**2) / (2 * gamma)
    return build(
        "Nesterov flow, convex", Flow((r / t,), gamma), convex(), energy, sympy.Integer(2),
        {"A(*,x)": (r - 1) / t, "G(x)": (r - 3) / t}, domain, positivity={"G(x)": 1}, law="power",
        search=closed_form(sympy.Integer(2)) if len(domain) == 1 else None,
    )  # fmt: skip


def nesterov_hessian(r=None, beta=None, *, force=1) -> Certificate:
    r"""Friction r/t, r > 3, with Hessian damping on convex functions: power 2.

    With :math:`y=\dot x+\beta\nabla f(x)`,

    .. math:: V=(1-\tfrac{\beta'}t)f+\tfrac1{2\gamma}\lVert\tfrac{r-1}tx+y\rVert^2,\qquad \beta'=\beta/\gamma,

    from :math:`t\ge\frac{r-2}{r-3}\beta'` on. Its remainder is a multiple of :math:`-\lVert g\rVert^2`.

    Parameters
    ----------
    r, beta : number, optional
        Without them the certificate holds for all r > 3 and beta > 0, with force 1.
    force : number
        :math:`\gamma`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> nesterov_hessian().verify(), nesterov_hessian(r=4, beta=0.1).rate
    (True, 2)
    """
    gamma = exact_number(force)
    numeric = r is not None
    if numeric:
        exact = positive_numbers(r=r, beta=beta)
        r, beta = exact["r"], exact["beta"]
        if number_sign(r - 3) <= 0:
            raise ValueError(f"with Hessian damping power 2 is known for r > 3, got r = {r}")
        domain = (Bound(t, (r - 2) * beta / (gamma * (r - 3)), strict=True),)
    else:
        r, beta = Symbol("r", real=True), Symbol("beta", real=True)
        domain = (Bound(r, sympy.Integer(3), strict=True), *positive(beta))
        domain += (Bound(t, (r - 2) * beta / (r - 3), strict=True),)
    b = beta / gamma
    energy = (1 - b / t) * f + ((r - 1) * x / t + y) ** 2 / (2 * gamma)
    weights = {"A(*,x)": (r - 1) * (t - b) / t**2, "G(x)": ((r - 3) * t - (r - 2) * b) / t**2}
    return build(
        "Nesterov flow with Hessian damping, convex", Flow((r / t,), gamma, beta), convex(), energy,
        sympy.Integer(2), weights, domain, positivity={"G(x)": 1 - b / t}, law="power",
        search=closed_form(sympy.Integer(2)) if numeric else None,
    )  # fmt: skip


def nesterov_strongly_convex(r=None, mu=None, *, above_three=False, force=1) -> Certificate:
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
        :math:`\gamma`.

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
    gamma = exact_number(force)
    numeric = r is not None
    if numeric:
        r = positive_numbers(r=r)["r"]
        mu = sympy.S.Zero if mu == 0 else positive_numbers(mu=mu)["mu"]
        if number_sign(r - 3) > 0 and mu == 0:
            raise ValueError(f"r = {r} > 3 needs mu > 0; on convex functions use nesterov_convex")
        start = sqrt(2 * (r**2 - 9) / (9 * gamma * mu)) if number_sign(r - 3) > 0 else sympy.S.Zero
        domain = (Bound(t, start, strict=True),)
    else:
        r, mu = Symbol("r", real=True), Symbol("mu", real=True)
        domain = (Bound(t, strict=True), Bound(r, sympy.S.Zero, sympy.Integer(3), strict=True), Bound(mu))
        if above_three:
            domain = (domain[0], Bound(r, sympy.Integer(3)), Bound(mu, 2 * (r**2 - 9) / (9 * t**2)))
    third = r / (3 * t)
    energy = f + ((third**2 + third / t) * x**2 + 2 * third * x * v + v**2 / 2) / gamma
    functions = convex() if mu == 0 else strongly_convex(mu)
    return build(
        "Nesterov flow", Flow((r / t,), gamma), functions, energy, 2 * r / 3, {"A(*,x)": 2 * third}, domain,
        positivity={"G(x)": 1}, law="power", search=closed_form(2 * r / 3) if numeric else None,
    )  # fmt: skip


def nesterov_smooth(r=None, mu=None, L=None, *, above_two=False, force=1) -> Certificate:
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
        :math:`\gamma`.

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
    gamma = exact_number(force)
    numeric = r is not None
    if numeric:
        exact = positive_numbers(r=r, mu=mu, L=L)
        r, mu, L = exact["r"], exact["mu"], exact["L"]
        if number_sign(L - mu) <= 0:
            raise ValueError(f"L must be larger than mu, got mu = {mu}, L = {L}; use nesterov_quadratic")
        best = 2 * r * (sqrt(L / mu) + 1) / (3 * sqrt(L / mu) + 1)
        p = best if best.is_Rational else _rational_below(best)
        above_two = p > 2
    else:
        k, u = Symbol("k", real=True), Symbol("u", real=True)
        mu = Symbol("mu", real=True)
        L, r, p = mu * k**2, (3 * k + 1) * u, 2 * (k + 1) * u
    a = r / 2 - p / 4
    growth = (p - 2) * a * (1 + r - p)
    from_mu = 2 * a * (p - 2) / gamma  # mu t^2 beyond which the form beside f is positive
    if numeric:
        start = _rational_above(sqrt(from_mu / mu)) if above_two else sympy.S.Zero
        domain = (Bound(t, start, strict=True),)
    else:
        turn = 1 / (k + 1)  # where p = 2
        range_of_u = (turn,) if above_two else (sympy.S.Zero, turn)
        domain = (
            Bound(t, strict=True),
            Bound(k, sympy.S.One, strict=True),
            Bound(u, *range_of_u, strict=True),
        )
        domain += (Bound(mu, from_mu / t**2 if above_two else sympy.S.Zero, strict=True),)
    # twice what the growth needs: the other half pays for the energy of x and v
    excess = 4 * growth / (gamma * mu * t**3) if above_two else sympy.S.Zero
    energy = f + (a * (1 + r - p) / t**2 * x**2 + 2 * a / t * x * v + v**2 / 2) / gamma
    return build(
        "Nesterov flow, smooth", Flow((r / t,), gamma), strongly_convex(mu, L), energy, p,
        {"A(*,x)": p / t, "G(x)": excess}, domain, positivity={"G(x)": 1}, law="power", correction=-excess,
        search=Search(float(best), float(best - p), "closed form", 0) if numeric else None,
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


def nesterov_quadratic(r=None, mu=None, *, above_two=False, force=1) -> Certificate:
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
        :math:`\gamma`.

    Returns
    -------
    Certificate

    Examples
    --------
    >>> [nesterov_quadratic(above_two=which).verify() for which in (False, True)]
    [True, True]
    >>> nesterov_quadratic(r=3, mu=1).correction
    -3/t**3
    """
    gamma = exact_number(force)
    numeric = r is not None
    if numeric:
        exact = positive_numbers(r=r, mu=mu)
        r, mu = exact["r"], exact["mu"]
        above_two = number_sign(r - 2) > 0
        start = sqrt(r * (r - 2) / (2 * gamma * mu)) if above_two else sympy.S.Zero
        domain = (Bound(t, start, strict=True),)
    else:
        r, mu = Symbol("r", real=True), Symbol("mu", real=True)
        domain = (Bound(t, strict=True), Bound(r, sympy.S.Zero, sympy.Integer(2), strict=True), Bound(mu))
        if above_two:
            low = r * (r - 2) / (2 * t**2)
            domain = (domain[0], Bound(r, sympy.Integer(2), strict=True), Bound(mu, low, strict=True))
    excess = r * (r - 2) / (gamma * mu * t**3) if above_two else sympy.S.Zero
    energy = f + (r / (4 * t**2) * x**2 + r / (2 * t) * x * v + v**2 / 2) / gamma
    return build(
        "Nesterov flow on quadratics", Flow((r / t,), gamma), quadratic(mu), energy, r,
        {"E(x)": -r / (2 * t), "G(x)": excess}, domain, positivity={"G(x)": 1}, law="power",
        correction=-excess, search=closed_form(r) if numeric else None,
    )  # fmt: skip


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
    flow = Flow((3 * s,), derivatives={s: s1, s1: s2})
    domain = (
        *positive(s, mu),
        Bound(s1, None, mu / 2 - s**2),
        Bound(s2, 2 * s**3 - mu * s),
    )
    energy = f + (s**2 - s1) * x**2 + 2 * s * x * v + v**2 / 2
    return build(
        "any damping", flow, strongly_convex(mu), energy, 2 * s, {"A(*,x)": 2 * s}, domain,
        positivity={"G(x)": 1}, law="integral",
    )  # fmt: skip
