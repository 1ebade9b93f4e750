r"""Certified rates of the flows that methods follow: search for a proof, then verify it exactly.

:func:`certify` takes the ODE limit of a method and a class of functions. Where a closed form is known to
be optimal it is returned (:mod:`odeopt.proofs.families`); otherwise a small LMI is solved at bisected rates
(:mod:`odeopt.proofs.search`), the best point is rounded to rational numbers, and the certificate is
verified in exact arithmetic. The rate that is reported is the one that was verified.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import sympy
from sympy import Derivative, Expr, Symbol

from odeopt.dynamics.error import ErrorDynamics
from odeopt.limits.ode import ODELimit
from odeopt.limits.series import GradientDifferential
from odeopt.proofs import families
from odeopt.proofs import flow as flows
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.certify_iteration import certify_iteration
from odeopt.proofs.exact.signs import exact_number, is_zero, nearest_float, number_sign, short_text
from odeopt.proofs.families import vanishing as families_vanishing
from odeopt.proofs.flow import Flow
from odeopt.proofs.functions import strongly_convex
from odeopt.proofs.lmi import SOLVERS
from odeopt.proofs.search import search
from odeopt.proofs.statement import Multiplier
from odeopt.proofs.template import Template, require_in_range
from odeopt.proofs.wanted import NoCertificateError, UnsolvedError, asked_for
from odeopt.rates.rate import exact_rate
from odeopt.rules.base import Scalar, UpdateRule

__all__ = ["NoCertificateError", "UnsolvedError", "certify", "flow_of"]


def certify(
    problem: ODELimit | Flow | ErrorDynamics | UpdateRule,
    mu: Scalar | None = None,
    L: Scalar | None = None,
    *,
    rate: Scalar | None = None,
    solver: Literal["newton", "clarabel"] = "newton",
) -> Certificate:
    r"""Find a rate of convergence and prove it.

    Parameters
    ----------
    problem : ODELimit, Flow, ErrorDynamics or UpdateRule
        A limit of order one, two or three with constant friction, with or without Hessian damping
        (order two), or of order two with friction r/t, on :math:`\mathcal F_{\mu,L}`. Error dynamics: the
        same on quadratics, the class of the error losses. An update rule: the iteration itself, as its step
        is read; one gradient and at most one momentum.
    mu : number, optional
        Strong convexity. Without it: convex functions, for gradient flow and friction r/t, and bounds of f
        after N steps for gradient descent and Nesterov's momentum with lr <= 1/L. Numbers may
        be sympy numbers such as ``3 / sqrt(2)``; floats are read as the decimals they print as.
    L : number, optional
        Smoothness. Without it: functions of any smoothness.
    rate : number, optional
        Rate to be proved: c in :math:`e^{-ct}`, for friction r/t p in :math:`t^{-p}`. Without it the best.
    solver : {"newton", "clarabel"}
        Of the LMI. It takes no part in the proof.

    Returns
    -------
    Certificate
        Verified. Its `search` tells the optimum of its form and the gap to it.

    Raises
    ------
    ValueError
        On bad input: parameters out of range, an unstable flow, a limit that is not a linear flow.
    NoCertificateError
        If there is no such certificate, with the best rate that has one.
    UnsolvedError
        If the solver could not decide.

    Notes
    -----
    The rate is that of V, for every function of the class, and with :meth:`Certificate.value_constant`
    (where it is not 0) that of :math:`f-f_\star`. On smooth
    functions the optimum is that of energies :math:`f+\xi^\top P\xi`; the true rate may be larger, but not
    above that of quadratics.

    Examples
    --------
    >>> from odeopt import HeavyBall, ode_limit
    >>> h = sympy.Symbol("h")
    >>> limit = ode_limit(HeavyBall(lr=h**2, momentum=1 - 2 * h), h)
    >>> certificate = certify(limit, mu=1)
    >>> print(certificate, certificate.verify())
    heavy ball: exp(-4/3 t) on F(1, oo) True
    >>> certificate = certify(limit, mu=1, L=10)
    >>> bool(1.432594 < certificate.rate < 1.4325955), certificate.search.gap <= 1e-6
    (True, True)
    >>> certify(limit, mu=1, rate=1.35)
    Traceback (most recent call last):
        ...
    odeopt.proofs.wanted.NoCertificateError: rate = 1.35 has no ... the best is 1.33333333 (4/3)
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}")
    wanted = None if rate is None else _positive(rate, "rate")
    mu, L = _constants(mu, L)
    if isinstance(problem, UpdateRule):
        return certify_iteration(problem, mu, L, factor=rate, solver=solver)
    if isinstance(problem, ErrorDynamics):
        return asked_for(_on_quadratics(problem, mu), wanted)
    flow = flow_of(problem)
    if flow.friction and flow.friction[0].has(flows.time):
        return _vanishing(flow, mu, L, wanted)
    if flow.order == 1:
        gamma = flow.force
        known = (
            families.gradient_flow_convex(force=gamma)
            if mu is None
            else families.gradient_flow(mu, force=gamma)
        )
        return asked_for(on_smooth(known, L), wanted)
    if mu is None:
        raise ValueError("mu must be given: constant friction has no exponential rate on convex functions")
    _require_stable(flow, L)
    return _constant(flow, mu, L, wanted, solver)


def _positive(value, name: str) -> Expr:
    exact = exact_number(value, name)
    if exact.free_symbols:
        raise ValueError(
            f"{name} = {value} holds symbols; the symbolic certificates are in odeopt.proofs.families"
        )
    if number_sign(exact) <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}")
    return exact


def _constants(mu, L) -> tuple[Expr | None, Expr | None]:
    """Return mu and L as exact numbers, 0 < mu <= L."""
    try:
        mu = None if mu is None else _positive(mu, "mu")
    except ValueError as error:
        raise ValueError(f"{error}; for convex functions leave mu out") from None
    L = None if L is None else _positive(L, "L")
    if mu is not None and L is not None and number_sign(L - mu) < 0:
        raise ValueError(f"L must be at least mu, got mu = {mu}, L = {L}")
    require_in_range(1e-300, mu, L)
    return mu, L


def flow_of(limit: ODELimit | Flow) -> Flow:
    """Return a limit as a flow with exact coefficients, highest derivative 1."""
    if isinstance(limit, Flow):
        exact = [exact_number(c) for c in (*limit.friction, limit.force, limit.hessian)]
        return _checked(Flow(tuple(exact[:-2]), *exact[-2:]), limit)
    if not isinstance(limit, ODELimit):
        raise ValueError(
            f"certify needs the linear-damping limit of a method, got {type(limit).__name__}; systems of "
            "adaptive methods are nonlinear"
        )
    if limit.order > 3:
        raise ValueError(f"flows up to order 3 are known, got order {limit.order}: {limit}")
    parts = {"grad": sympy.S.Zero, "hessian": sympy.S.Zero, **dict.fromkeys(range(1, 4), sympy.S.Zero)}
    for vector, coefficient in limit.terms.items():
        parts[_role(vector, limit)] += exact_number(coefficient).xreplace({limit.t: flows.time})
    lead = parts[limit.order]
    parts = {key: sympy.cancel(value / lead) for key, value in parts.items()}
    return _checked(
        Flow(tuple(parts[j] for j in range(1, limit.order)), parts["grad"], parts["hessian"]), limit
    )


def _role(vector: Expr, limit: ODELimit):
    """Which coefficient of a flow belongs to a vector of a limit."""
    if isinstance(vector, Derivative):
        return vector.derivative_count
    if isinstance(vector, GradientDifferential):
        if not vector.directions:
            return "grad"
        if vector.directions == (limit.curve.diff(limit.t),) and limit.order == 2:
            return "hessian"
    raise ValueError(
        f"the limit {limit} is no linear-damping flow: it holds {vector}; certificates are known for "
        "derivatives of X, grad f(X) and, at order 2, grad^2 f(X)[X']"
    )


def _checked(flow: Flow, limit: ODELimit | Flow) -> Flow:
    t = flows.time
    symbols = set().union(*(e.free_symbols for e in (*flow.friction, flow.force, flow.hessian))) - {t}
    if symbols:
        raise ValueError(
            f"{limit} holds the symbols {', '.join(sorted(map(str, symbols)))}; give them numbers, or take "
            "a symbolic certificate of odeopt.proofs.families"
        )
    if flow.force.has(t) or flow.hessian.has(t):
        raise ValueError(f"the force of {limit} depends on t; derive it with resolution=0")
    if flow.force == 0 or number_sign(flow.force) <= 0:
        raise ValueError(f"the coefficient of grad f must be positive, got {flow.force} in {limit}")
    if number_sign(flow.hessian) < 0:
        raise ValueError(f"Hessian damping must not be negative, got {flow.hessian} in {limit}")
    for b in flow.friction:
        r = sympy.cancel(b * t) if b.has(t) else b
        if r.has(t) or (b.has(t) and flow.order != 2):
            raise ValueError(f"friction must be constant or r/t, got {b} in {limit}")
        if number_sign(r) <= 0:
            raise ValueError(f"friction must be positive, got b = {b} in {limit}; without it nothing decays")
    return flow


def on_smooth(certificate: Certificate, L: Expr | None) -> Certificate:
    """Return a certificate for any smoothness as one on the L-smooth functions of its class."""
    functions = certificate.function_class
    if L is None or functions.kind == "quadratic" or is_zero(L - functions.mu):
        return certificate
    smooth = replace(functions, L=L)
    granted = smooth.inequalities(certificate.flow.points, certificate.flow.tangents)

    def renamed(multipliers):
        names = ((m, "C" + m.name[1:] if m.name.startswith("A") else m.name) for m in multipliers)
        return tuple(Multiplier(name, m.value, granted[name]) for m, name in names)

    return replace(
        certificate,
        function_class=smooth,
        multipliers=renamed(certificate.multipliers),
        positivity=renamed(certificate.positivity),
    )


def _on_quadratics(dynamics: ErrorDynamics, mu: Expr | None) -> Certificate:
    """Certificates of the error losses."""
    if mu is None:
        raise ValueError("mu must be given for error dynamics: the smallest eigenvalue of the kernel")
    if dynamics.limit is None or not isinstance(dynamics.limit, ODELimit):
        raise ValueError("error dynamics without their limit cannot be certified; use error_dynamics(limit)")
    flow = flow_of(dynamics.limit)
    if flow.order > 2 or flow.hessian != 0:
        raise ValueError(
            f"on quadratics certificates are known for orders 1 and 2, got {flow}; use exact_rate"
        )
    if flow.order == 1:
        return families.gradient_flow(mu, force=flow.force)
    b = flow.friction[0]
    if b.has(flows.time):
        return families_vanishing.nesterov_quadratic(sympy.cancel(b * flows.time), mu, force=flow.force)
    return families.heavy_ball_quadratic(b, mu, force=flow.force)


def _vanishing(flow: Flow, mu, L, wanted) -> Certificate:
    """Friction r/t."""
    r = sympy.cancel(flow.friction[0] * flows.time)
    if flow.hessian != 0:
        if mu is not None or number_sign(r - 3) <= 0:
            raise ValueError(
                "friction r/t with Hessian damping is certified on convex functions (leave mu out) "
                f"for r > 3, got mu = {mu}, r = {r}"
            )
        best = families_vanishing.nesterov_hessian(r, flow.hessian, force=flow.force)
        return asked_for(on_smooth(best, L), wanted)
    if mu is not None:
        if L is not None and not is_zero(L - mu):
            return asked_for(families_vanishing.nesterov_smooth(r, mu, L, force=flow.force), wanted)
        best = families_vanishing.nesterov_strongly_convex(r, mu, force=flow.force)
        return asked_for(on_smooth(best, L), wanted)
    if number_sign(r - 3) >= 0:
        return asked_for(on_smooth(families_vanishing.nesterov_convex(r, force=flow.force), L), wanted)
    best = on_smooth(families_vanishing.nesterov_strongly_convex(r, 0, force=flow.force), L)
    if wanted is not None and number_sign(wanted - best.rate) > 0:
        raise NoCertificateError(
            f"power = {nearest_float(wanted):.9g} has no certificate on convex functions for r = {r}: the "
            f"energy of power 2 needs r >= 3, the multiplier r - 3 = {r - 3} of f >= 0 would be negative; "
            f"the best is 2r/3 = {nearest_float(best.rate):.9g}",
            best,
        )
    return asked_for(best, wanted)


def _require_stable(flow: Flow, L) -> None:
    """Refuse an unstable flow of third order."""
    if flow.order < 3:
        return
    limit = sympy.expand(flow.friction[0] * flow.friction[1] / flow.force)
    text = (
        f"Routh-Hurwitz: {flow} is stable on a mode lam only for lam < b_1 b_2 / gamma = {float(limit):.6g}"
    )
    if L is None:
        raise ValueError(f"{text}, so L must be given and smaller")
    if number_sign(L - limit) >= 0:
        raise ValueError(f"{text}, got L = {L}; raise the friction or lower L")


def _constant(flow: Flow, mu, L, wanted, solver) -> Certificate:
    """Constant coefficients, order two and three."""
    ceiling = _quadratic_ceiling(flow, mu, L)
    closed = _closed_form(flow, mu, L, ceiling)
    if closed is not None:
        return asked_for(closed, wanted)
    if L is not None and is_zero(L - mu):
        raise ValueError(
            f"L = mu = {short_text(mu)} leaves the one function mu |x|^2/2, of which exact_rate tells "
            f"the rate; certificates of {flow} are known for L > mu"
        )
    template = _template(flow, mu, L)
    unit = math.sqrt(float(flow.force * mu))
    return search(
        template, ceiling, min(unit, ceiling), wanted, SOLVERS[solver], _TITLES[flow.order], "exponential"
    )


_TITLES = {2: "second-order flow", 3: "third-order flow"}


def _template(flow: Flow, mu: Expr, L: Expr | None) -> Template:
    """The unknown certificate, scaled to mu = force = 1."""
    unit = math.sqrt(float(flow.force * mu))
    stiffness = float(mu if L is None else L)
    scales = {
        flows.x: 1 / math.sqrt(float(mu)),
        flows.v: math.sqrt(float(flow.force)),
        flows.y: math.sqrt(float(flow.force)),
        flows.a: unit * math.sqrt(float(flow.force)),
        flows.g: math.sqrt(stiffness),
        flows.q: unit * math.sqrt(stiffness),
        "rate": unit,
    }
    return Template(
        flow, strongly_convex(mu, L), flow.state, ("A(*,x)", "A(x,*)"), scales, ("G(x)",), (("A(*,x)",),)
    )


def _quadratic_ceiling(flow: Flow, mu: Expr, L: Expr | None) -> float:
    """Exact rate on the quadratics of the class, which no certificate can exceed."""
    lam, force, hessian = Symbol("lam", positive=True), flow.force, flow.hessian
    damping = [c + hessian * lam if j == 0 else c for j, c in enumerate(flow.friction)]
    dynamics = ErrorDynamics((force * lam, *damping, sympy.S.One), (), flows.time, lam, 1.0, ())
    low = float(mu)
    high = float(L) if L is not None else (low if hessian == 0 else 1e8 * low)
    rate = exact_rate(dynamics, low, high).value
    if not np.isfinite(rate) or rate <= 0:
        raise ValueError(f"{flow} is not stable on the quadratics of {strongly_convex(mu, L)}")
    return min(rate, 2 * float(force / hessian)) if L is None and hessian != 0 else rate


def _closed_form(flow: Flow, mu: Expr, L: Expr | None, ceiling: float) -> Certificate | None:
    """The master identity, where it is optimal: for any smoothness, and where it reaches the quadratics."""
    if flow.order != 2 or flow.hessian != 0:
        return None
    b, stiffness = flow.friction[0], flow.force * mu
    if number_sign(2 * b**2 - 9 * stiffness) >= 0:
        certificate = families.heavy_ball(b, mu, force=flow.force)
        assert certificate.search is not None
        bound = replace(certificate.search, optimum=ceiling, bound="quadratics", gap=0.0)
        return replace(on_smooth(certificate, L), search=bound)
    if L is None:
        return families.heavy_ball(b, mu, force=flow.force)
    if is_zero(L - mu):  # the class is one quadratic
        return families.heavy_ball_quadratic(b, mu, force=flow.force)
    k = sympy.sqrt(L / mu)
    if not k.is_Rational or not is_zero(b**2 - 4 * stiffness):
        return None
    c = (5 + 3 * k - sympy.sqrt((k - 1) * (9 * k + 7))) / 4
    return families.heavy_ball_smooth(b / 2, c, force=flow.force)
