r"""Certified factors of the methods themselves: the iteration at finite step size.

What is certified is the step that the reader (:mod:`odeopt.rules.reading`) finds, not the name of the class:
a step with one gradient and at most one momentum is

.. math:: x_{k+1}=x_k+\beta(x_k-x_{k-1})-\eta\nabla f(y_k),\qquad y_k=x_k+\gamma(x_k-x_{k-1}).

Known proofs come first (:mod:`odeopt.proofs.families.iterations`); else with value and gradient at
:math:`y_k`

.. math:: V_k=f_k+\xi_k^\top P\xi_k,\quad \xi_k=(x_k,x_{k-1},g_k),\qquad
    V_{k+1}-\rho V_k=\sum_i\lambda_iA_i+z^\top Sz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
from sympy import Expr, Symbol

from odeopt.proofs import families
from odeopt.proofs import flow as flows
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.domain import determinant
from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.exact.signs import exact_number, is_zero, number_sign, short_text
from odeopt.proofs.families.iterations import accelerated
from odeopt.proofs.flow import Iteration
from odeopt.proofs.functions import strongly_convex
from odeopt.proofs.lmi import SOLVERS
from odeopt.proofs.search import search
from odeopt.proofs.template import Template
from odeopt.proofs.wanted import asked_for
from odeopt.rules.base import Scalar, UpdateRule
from odeopt.rules.reading import StepMatrices, require_linear

__all__ = ["certify_iteration", "iteration_of"]

# the multipliers of the proofs in the literature, which are tried first
_SMALL = (("A(0,1)", "A(*,1)"), ("A(0,1)", "A(*,0)", "A(*,1)"), ("A(0,1)", "A(1,0)", "A(*,0)", "A(*,1)"))
_PAIRS = ("A(0,1)", "A(1,0)", "A(0,*)", "A(*,0)", "A(1,*)", "A(*,1)")


def iteration_of(rule: UpdateRule) -> Iteration:
    """Return the step of a rule with exact numbers, functions of t for k; ValueError for other steps."""
    held = sorted(
        {str(s) for v in rule.hyperparameters.values() if isinstance(v, Expr) for s in v.free_symbols}
    )
    if held:
        raise ValueError(
            f"{rule.label} holds symbols ({', '.join(held)}); give them numbers with rule.at(...)"
        )
    reading = require_linear(rule, "certificate", equivariant=True, forever=True)
    law = reading.law(0)
    if reading.period > 1 or reading.points != 1:
        what = f"period {reading.period}" if reading.period > 1 else f"{reading.points} gradients"
        raise ValueError(f"a step of {rule.label} has {what}; certificates are known for one gradient a step")
    in_time = {reading.k: flows.time}
    found = _two_step(law, in_time)
    if found is None and not reading.varies:
        found = _from_transfer(law)
    if found is None:
        raise ValueError(
            "certificates of iterations are known for one momentum (heavy ball, QHM, triple momentum) "
            f"and constant weights; {rule.label} has more states, or weights that vary with k"
        )
    return found


def _exact(entry, in_time=()) -> Expr:
    return exact_number(entry).xreplace(dict(in_time))


def _two_step(law: StepMatrices, in_time) -> Iteration | None:
    """A step in the form of the iteration, which x_k and x_(k-1) determine."""
    if len(law.M) == 1:
        return Iteration(-_exact(law.N[0][0], in_time)) if law.M[0][0] == 1 == law.A[0][0] else None
    (after, kept), lr = law.M[:2], -_exact(law.N[0][0], in_time)
    if len(law.M) != 2 or list(kept) != [1, 0] or law.N[1][0] != 0:
        return None
    beta, gamma = (-_exact(row[1], in_time) for row in (after, law.A[0]))
    sums = (_exact(row[0], in_time) - 1 - weight for row, weight in ((after, beta), (law.A[0], gamma)))
    return Iteration(lr, beta, gamma) if all(is_zero(e) for e in sums) else None


def _transfer(field: Field, s: Symbol, law: StepMatrices, row: Sequence[Any]) -> Element:
    r"""From the gradient to a row of the state: :math:`r(sI-M)^{-1}N`."""
    n = len(law.M)
    rows = [
        [field.read((s if i == j else 0) - _exact(e)) for j, e in enumerate(r)] for i, r in enumerate(law.M)
    ]
    every = tuple(range(n))
    parts = []
    for i in every:
        for j in every:
            kept_rows, kept_columns = (tuple(k for k in every if k != m) for m in (j, i))
            minor = determinant(rows, kept_rows, kept_columns) if n > 1 else field.read(sympy.S.One)
            weight = field.read(_exact(row[i]) * _exact(law.N[j][0]) * (-1) ** (i + j))
            parts.append(weight * minor)
    return field.total(parts) / determinant(rows, every, every)


def _from_transfer(law: StepMatrices) -> Iteration | None:
    r"""From gradients to their points it is :math:`-\eta\frac{(1+\gamma)s-\gamma}{(s-1)(s-\beta)}`."""
    s = Symbol("s")
    field = Field((s,))
    transfer = _transfer(field, s, law, law.A[0])
    num, den = (_coefficients(field, p, s) for p in (transfer.num, transfer.den))
    if len(den) > 3 or len(den) < 2 or sum(den) != 0 or not num:
        return None
    if len(den) == 2:
        return Iteration(-num[0])
    b0, b1 = num[0], num[1] if len(num) > 1 else sympy.S.Zero
    lr = sympy.expand(-b0 - b1)
    return None if is_zero(lr) else Iteration(lr, den[0], sympy.expand(sympy.radsimp(b0 / lr)))


def _require_seen(rule: UpdateRule, found: Certificate) -> Certificate:
    """Refuse iterates with a mode that the gradient points do not have, and that outlives the factor."""
    law = require_linear(rule, "certificate").law(0)
    if _two_step(law, {}) is not None:
        return found
    s = Symbol("s")
    field = Field((s,))
    at_x, at_points = (_transfer(field, s, law, row) for row in ([1] + [0] * (len(law.M) - 1), law.A[0]))
    beside = Element.quotient(field, at_points.den, at_x.den).den
    modes = np.roots([float(c) for c in reversed(_coefficients(field, beside, s))])
    slowest = max(abs(modes), default=0.0)
    if slowest**2 >= float(found.rate) * (1 - 1e-9):
        raise ValueError(
            f"the gradients of {rule.label} are those of {found.flow}, but its iterates hold in addition a "
            f"mode with the root {slowest:.6g}, whose square is not below their factor "
            f"{float(found.rate):.6g}, so that is none of the iterates; certify the rule without what x adds "
            "to its gradient points (an average, say)"
        )
    return found


def _coefficients(field: Field, polynomial, symbol: Symbol) -> list[Expr]:
    """Coefficients of the powers of the symbol, the lowest first."""
    found = Element(field, polynomial, field.one).collect((symbol,))
    degree = max((len(monomial) for monomial in found), default=0)
    zero = field.read(sympy.S.Zero)
    return [found.get((symbol,) * e, zero).expr() for e in range(degree + 1)]


def certify_iteration(
    rule: UpdateRule,
    mu: Scalar | None,
    L: Scalar | None,
    *,
    factor: Scalar | None = None,
    solver: str = "newton",
) -> Certificate:
    r"""Prove a factor :math:`\rho<1` of one step on :math:`\mathcal F_{\mu,L}`, :math:`V_k\le\rho^kV_0`.

    Without mu: a bound of f after N steps on convex L-smooth functions. Errors as those of
    :func:`odeopt.proofs.certify.certify`.
    """
    mu, L = (None if value is None else exact_number(value, name) for name, value in (("mu", mu), ("L", L)))
    iteration = iteration_of(rule)
    if L is None:
        raise ValueError(
            "certificates of iterations need mu and L, or L alone for convex functions: "
            "no step is stable for every L"
        )
    if mu is None:
        return _on_convex(rule, iteration, L, factor)
    if number_sign(mu) <= 0 or number_sign(L - mu) <= 0:
        raise ValueError(
            f"certificates of iterations need 0 < mu < L, got mu = {short_text(mu)}, L = {short_text(L)}; "
            "with L = mu the one function is mu |x|^2/2, and discrete_rate tells its rate"
        )
    if any(e.has(flows.time) for e in (iteration.lr, *iteration.varying)):
        raise ValueError(
            f"{rule.label} has weights that vary with k; factors are certified for constant weights "
            "(GradientDescent, HeavyBall, NesterovConstant, TripleMomentum, QHM): leave mu out"
        )
    ceiling = _quadratic_ceiling(rule, iteration, mu, L)
    wanted = None if factor is None else _decrease(exact_number(factor, "factor"))
    known = _known(iteration, mu, L)
    if known is not None and (known.search is not None or (wanted is not None and _within(wanted, known))):
        return _require_seen(rule, asked_for(known, None if wanted is None else 1 - wanted))
    position, gradient = 1 / math.sqrt(float(mu)), math.sqrt(float(L))
    scales = {flows.x0: position, flows.x1: position, flows.g0: gradient, flows.g1: gradient, "rate": 1.0}
    vectors = (*iteration.state, flows.g0)
    template = Template(iteration, strongly_convex(mu, L), vectors, _PAIRS, scales, ("A(0,*)",), _SMALL)
    proved = search(
        template, ceiling, min(1.0, ceiling), wanted, SOLVERS[solver], type(rule).__name__, "factor"
    )
    return _require_seen(rule, proved)


def _within(decrease: Expr, known: Certificate) -> bool:
    return number_sign(1 - decrease - known.rate) >= 0


def _known(iteration: Iteration, mu: Expr, L: Expr) -> Certificate | None:
    """The closed form for this iteration, None where none is known."""
    if iteration.beta == 0 == iteration.gamma:
        return families.gradient_descent(iteration.lr, mu, L)
    return accelerated(iteration, mu, L)


def _on_convex(rule: UpdateRule, iteration: Iteration, L: Expr, factor) -> Certificate:
    """A potential, for gradient descent and for Nesterov's momentum."""
    if factor is not None:
        raise ValueError(
            "without mu there is no factor to be proved, but a bound of f after N steps: leave rate out"
        )
    lr, beta, gamma = iteration.lr, iteration.beta, iteration.gamma
    if lr.has(flows.time) or not _holds_from_the_start(rule, iteration):
        raise ValueError(
            "without mu certificates are known for one step size and steps of one form from the first on, in "
            f"x_k and x_(k-1) without memory; those of {rule.label} differ, so mu must be given"
        )
    if number_sign(1 - lr * L) < 0:
        raise ValueError(
            f"without mu certificates are known for lr <= 1/L = {1 / L}; got lr = {lr} for {rule.label}"
        )
    if beta == 0 == gamma:
        return families.gradient_descent_convex(lr, L)
    t = flows.time
    # (t - 1)/(t + r - 1) at t = 2
    r = 1 / beta.subs(t, 2) - 1 if beta.has(t) else None
    if (
        r is not None
        and is_zero(beta - gamma)
        and is_zero(beta - (t - 1) / (t + r - 1))
        and number_sign(r - 3) >= 0
    ):
        return families.nesterov_descent(lr, L, r)
    raise ValueError(
        "without mu certificates are known for gradient descent and Nesterov's momentum (k - 1)/(k + r - 1) "
        f"with r >= 3; the step of {rule.label} is neither, so mu must be given"
    )


def _holds_from_the_start(rule: UpdateRule, iteration: Iteration) -> bool:
    """Whether the first steps, where x_(-1) = x_0, and no memory, are those of the iteration."""
    reading = require_linear(rule, "certificate", equivariant=True, forever=True)
    law = reading.law(0)
    if _two_step(law, {reading.k: flows.time}) is None:
        return False
    for k in range(reading.law_from):
        first = reading.matrices(k)
        found = _two_step(first, {})
        at = [e.subs(flows.time, k) for e in (iteration.lr, *iteration.varying)]
        if found is None or not is_zero(found.lr - at[0]):
            return False
        # at k = 0 the momentum multiplies x_0 - x_(-1) = 0
        if k and not all(is_zero(a - b) for a, b in zip(found.varying, at[1:], strict=True)):
            return False
    return True


def _decrease(factor: Expr) -> Expr:
    if factor.free_symbols or number_sign(factor) <= 0 or number_sign(1 - factor) <= 0:
        raise ValueError(f"factor must lie strictly between 0 and 1, got {short_text(factor)}")
    return 1 - factor


def _quadratic_ceiling(rule: UpdateRule, iteration: Iteration, mu: Expr, L: Expr) -> float:
    """Decrease on quadratics of the class, 1 - spectral radius squared, which none of all can exceed."""
    lam = np.geomspace(float(mu), float(L), 2001)
    lr, beta, gamma = (float(e) for e in (iteration.lr, *iteration.varying))
    trace, det = 1 + beta - lr * lam * (1 + gamma), beta - lr * lam * gamma
    root = np.sqrt((trace**2 - 4 * det).astype(complex))
    radius = float(np.max(np.maximum(abs(trace + root), abs(trace - root)) / 2)) ** 2
    if radius >= 1:
        raise ValueError(
            f"{rule.label} is unstable on the quadratics of {strongly_convex(mu, L)}: squared spectral "
            f"radius {radius:.6g}; lower lr"
        )
    return 1 - radius
