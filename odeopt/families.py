r"""Certificates in closed form, each valid for all parameters in its range.

Called without numbers, a family returns the certificate for symbols; with numbers, that of the case.
Either way nothing is believed: the remainder is computed from the energy and the multipliers, and
:meth:`Certificate.verify` proves the rest.
"""

from __future__ import annotations

import sympy
from sympy import Expr, Rational, Symbol, sqrt

from odeopt.certificate import Certificate, Multiplier, Search, remainder
from odeopt.exactness import Bound, exact_number, number_sign, proves_nonnegative
from odeopt.flows import Flow, f, g, time, v, x
from odeopt.function_classes import FunctionClass, convex, quadratic, strongly_convex

__all__ = [
    "any_damping",
    "gradient_flow",
    "gradient_flow_convex",
    "heavy_ball",
    "heavy_ball_classical",
    "heavy_ball_quadratic",
    "heavy_ball_smooth",
    "nesterov_convex",
    "nesterov_quadratic",
    "nesterov_strongly_convex",
]

t = time
b, mu, s, r, m, c = (Symbol(name, real=True) for name in ("b", "mu", "s", "r", "m", "c"))
s1, s2 = (Symbol(name, real=True) for name in ("s_1", "s_2"))


def _positive(*symbols: Symbol) -> tuple[Bound, ...]:
    return tuple(Bound(symbol, strict=True) for symbol in symbols)


def _certificate(title, flow, functions, energy, rate, multipliers, domain=(), *, positivity, law, **options):
    """Build a certificate from what defines it; S follows."""
    granted = functions.inequalities(flow.points, flow.tangents)
    used = tuple(Multiplier(n, sympy.sympify(w, strict=True), granted[n]) for n, w in multipliers.items() if w != 0)
    kept = tuple(Multiplier(n, sympy.sympify(w, strict=True), granted[n]) for n, w in positivity.items() if w != 0)
    correction = options.pop("correction", sympy.S.Zero)
    decay = rate / t + correction if law == "power" else rate
    vectors = (*flow.state, g)
    S = remainder(flow, energy, decay, used, vectors)
    return Certificate(
        title, flow, functions, sympy.expand(energy), rate, law, used, kept, vectors, S, tuple(domain), correction,
        **options,
    )  # fmt: skip


def _numbers(**values) -> dict[str, Expr]:
    """Return the arguments as exact numbers, positive."""
    exact = {name: exact_number(value, name) for name, value in values.items()}
    for name, value in exact.items():
        if not value.free_symbols and number_sign(value) <= 0:
            raise ValueError(f"{name} must be positive, got {values[name]!r}")
    return exact


def _closed(rate: Expr) -> Search:
    return Search(float(rate), 0.0, "closed form", 0)


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
    domain = () if mu is not None else _positive(Symbol("mu", real=True))
    mu = Symbol("mu", real=True) if mu is None else _numbers(mu=mu)["mu"]
    gamma = exact_number(force)
    rate = 2 * gamma * mu
    return _certificate(
        "gradient flow", Flow(force=gamma), strongly_convex(mu), f, rate, {"A(*,x)": rate}, domain,
        positivity={"G(x)": 1}, law="exponential", search=None if domain else _closed(rate),
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
    return _certificate(
        "gradient flow, convex", Flow(force=gamma), convex(), energy, sympy.S.One, {"A(*,x)": 1 / t},
        _positive(t), positivity={"G(x)": 1}, law="power", search=_closed(sympy.S.One),
    )  # fmt: skip


def _heavy_ball(b, mu, s, domain=(), gamma=sympy.S.One, **options) -> Certificate:
    """The master identity, for any s."""
    energy = f + (s**2 * x**2 + 2 * s * x * v + v**2 / 2) / gamma
    return _certificate(
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
    exact = _numbers(b=b, mu=mu, force=force)
    b, gamma = exact["b"], exact["force"]
    stiffness = sympy.expand(gamma * exact["mu"])
    # b/3 holds below its crossing with the slow root, b^2 = 9/2 gamma mu, and that root above
    first = number_sign(9 * stiffness - 2 * b**2) >= 0
    half = b / 3 if first else sympy.expand((b - sqrt(sympy.expand(b**2 - 4 * stiffness))) / 2)
    return _heavy_ball(b, exact["mu"], half, gamma=gamma, search=_closed(2 * half))


def heavy_ball_classical(which="classical") -> Certificate:
    r"""The two certificates of the literature at :math:`b=2\sqrt\mu`, for every :math:`\mu=m^2`.

    Parameters
    ----------
    which : {"classical", "fastest"}
        "classical" has the energy :math:`f+\frac12\lVert v+mx\rVert^2` and the rate m, "fastest" the case
        :math:`s=\frac23m` of :func:`heavy_ball`, rate :math:`\frac43m`.

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
    if which == "fastest":
        return _heavy_ball(2 * m, m**2, 2 * m / 3, _positive(m), title="heavy ball at b = 2 sqrt(mu)")
    return _certificate(
        "heavy ball at b = 2 sqrt(mu), classical energy", Flow((2 * m,)), strongly_convex(m**2),
        f + (v + m * x) ** 2 / 2, m, {"A(*,x)": m}, _positive(m), positivity={"G(x)": 1}, law="exponential",
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
    exact = _numbers(b=b, mu=mu, force=force)
    b, mu, gamma = exact["b"], exact["mu"], exact["force"]
    discriminant = sympy.expand(b**2 - 4 * gamma * mu)
    if number_sign(discriminant) <= 0:
        return _underdamped(b, mu, gamma, search=_closed(b))
    half = sympy.expand((b - sqrt(discriminant)) / 2)
    return _overdamped(b, mu, half, gamma, search=_closed(2 * half))


def _underdamped(b, mu, gamma, domain=(), **options) -> Certificate:
    energy = f + (b / 2 * x * v + v**2 / 2) / gamma
    return _certificate(
        "heavy ball on quadratics", Flow((b,), gamma), quadratic(mu), energy, b, {"E(x)": -b / 2}, domain,
        positivity={"G(x)": 1}, law="exponential", **options,
    )  # fmt: skip


def _overdamped(b, mu, s, gamma, domain=(), **options) -> Certificate:
    energy = f + ((b**2 / 4 - gamma * mu) * x**2 + b / 2 * x * v + v**2 / 2) / gamma
    return _certificate(
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
        m, c = (_numbers(m=m, c=c)[name] for name in ("m", "c"))
        if not 4 < 3 * c < 6:
            raise ValueError(f"c must lie strictly between 4/3 and 2, got {c}")
        domain = ()
    else:
        m, c = Symbol("m", real=True), Symbol("c", real=True)
        domain = (*_positive(m), Bound(c, Rational(4, 3), sympy.Integer(2), strict=True))
    k = (2 * c**2 - 5 * c + 4) / (3 * c - 4)
    beta, ratio = -(c - 1) * k, 1 / (2 * (k**2 - 1))
    alpha = (beta**2 - k**2 + (2 - c) * c * (k**2 + beta)) / (c * beta)
    p11, p12, p22 = (k**2 - beta**2) * ratio, c * (k**2 + beta) * ratio, Rational(1, 2) + c * alpha * ratio
    p11, p12, p22 = (sympy.factor(sympy.cancel(p)) for p in (p11, p12, p22))
    energy = f + p11 * m**2 * x**2 + 2 * p12 * m * x * v + p22 * v**2
    functions = strongly_convex(m**2, sympy.factor(m**2 * k**2))
    return _certificate(
        "heavy ball at b = 2 sqrt(mu), smooth", Flow((2 * m,)), functions, energy, c * m, {"A(*,x)": c * m},
        domain, positivity={"G(x)": 1}, law="exponential", search=_closed(c * m) if given else None,
    )  # fmt: skip


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
    domain = _positive(t)
    if r is None:
        r = Symbol("r", real=True)
        domain += (Bound(r, sympy.Integer(3)),)
    else:
        r = _numbers(r=r)["r"]
        if number_sign(r - 3) < 0:
            raise ValueError(
                f"power 2 on convex functions needs r >= 3, got r = {r}: the multiplier r - 3 of f >= 0 would "
                f"be negative; certified is the power 2r/3 = {2 * r / 3} of nesterov_strongly_convex(r, mu=0)"
            )
    energy = f + ((r - 1) * x / t + v) ** 2 / (2 * gamma)
    return _certificate(
        "Nesterov flow, convex", Flow((r / t,), gamma), convex(), energy, sympy.Integer(2),
        {"A(*,x)": (r - 1) / t, "G(x)": (r - 3) / t}, domain, positivity={"G(x)": 1}, law="power",
        search=_closed(sympy.Integer(2)) if len(domain) == 1 else None,
    )  # fmt: skip


def nesterov_strongly_convex(r=None, mu=None, *, above_three=False, force=1) -> Certificate:
    r"""Friction r/t on strongly convex functions: power 2r/3.

    .. math::
        V=f+\tfrac{r(r+3)}{9t^2}\lVert x\rVert^2+\tfrac{2r}{3t}\langle x,v\rangle+\tfrac12\lVert v\rVert^2,\qquad
        \dot V+\tfrac{2r}{3t}V=\tfrac{2r}{3t}A_1-\tfrac r{3t}\left(\mu-\tfrac{2(r^2-9)}{9t^2}\right)\lVert x\rVert^2.

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
        r = _numbers(r=r)["r"]
        mu = sympy.S.Zero if mu == 0 else _numbers(mu=mu)["mu"]
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
    return _certificate(
        "Nesterov flow", Flow((r / t,), gamma), functions, energy, 2 * r / 3, {"A(*,x)": 2 * third}, domain,
        positivity={"G(x)": 1}, law="power", search=_closed(2 * r / 3) if numeric else None,
    )  # fmt: skip


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
        exact = _numbers(r=r, mu=mu)
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
    return _certificate(
        "Nesterov flow on quadratics", Flow((r / t,), gamma), quadratic(mu), energy, r,
        {"E(x)": -r / (2 * t), "G(x)": excess}, domain, positivity={"G(x)": 1}, law="power", correction=-excess,
        search=_closed(r) if numeric else None,
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
        *_positive(s, mu),
        Bound(s1, None, mu / 2 - s**2),
        Bound(s2, 2 * s**3 - mu * s),
    )
    energy = f + (s**2 - s1) * x**2 + 2 * s * x * v + v**2 / 2
    return _certificate(
        "any damping", flow, strongly_convex(mu), energy, 2 * s, {"A(*,x)": 2 * s}, domain,
        positivity={"G(x)": 1}, law="integral",
    )  # fmt: skip
