r"""The distinguished time scale of a rule, by dominant balance on the Newton polygon of its residual.

With :math:`t=k\,\eta^p` each term of the residual is of order :math:`\eta^{w(p)}`, where w is the
smallest of the affine functions :math:`a+ip` over its monomials :math:`\eta^ah^i`, :math:`h=\eta^p`. A scale
has a limit when the gradient and a derivative share the smallest order; crossings of the gradient
with a derivative that a third term dominates are rejected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sympy
from sympy import Add, Expr, Integer, Rational, Symbol

from odeopt.limits.elimination import eliminate, linear_step
from odeopt.rules.base import UpdateRule
from odeopt.rules.reading import require_linear
from odeopt.shown import Shown, Summary

__all__ = ["RejectedScale", "TimeScale", "time_scale"]

# lr = u^12 turns the powers lr^(1/2), lr^(1/3), lr^(1/4) that hyperparameters may hold into polynomials.
_DENOMINATOR = 12
_NOTHING = "the gradient does not shrink with lr, so no derivative of a curve balances it"


@dataclass(frozen=True)
class RejectedScale:
    """A power p at which gradient and a derivative balance, and why it has no limit."""

    power: Rational
    reason: str


@dataclass(frozen=True, repr=False)
class TimeScale(Shown):
    r"""The power p in :math:`t=k\,\eta^p`.

    Parameters
    ----------
    power : sympy.Rational
        The exponent p; of several, that at which the lowest derivative balances the gradient.
    balance : tuple of str
        The terms that share the leading order, as ``"X'"``, ``"grad f"``.
    rejected : tuple of RejectedScale
        The other crossings.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> time_scale(HeavyBall(lr=0.1, momentum=0.5)).balance
    ("X'", 'grad f')
    """

    power: Rational
    balance: tuple[str, ...]
    rejected: tuple[RejectedScale, ...]

    def _summary(self) -> Summary:
        rows = [(f"t = k lr^({other.power})", other.reason) for other in self.rejected]
        power = "" if self.power == 1 else f"^({self.power})"
        facts = [f"t = k lr{power}", f"balance of {', '.join(self.balance)}"]
        return Summary(facts, ("rejected", "why"), rows)


def time_scale(rule: UpdateRule) -> TimeScale:
    r"""Find the time scale on which a linear rule has a limit as its learning rate tends to 0.

    Parameters
    ----------
    rule : UpdateRule
        Other hyperparameters stay fixed, unless they are sympy functions of a symbolic ``lr``.

    Returns
    -------
    TimeScale
        The power p, the terms that balance there, and the crossings that were rejected.

    Raises
    ------
    ValueError
        If the rule has no learning rate ``lr``, or no scale has a limit; each crossing is named.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import HeavyBall, Nesterov
    >>> time_scale(Nesterov(lr=0.1, r=3)).power, time_scale(HeavyBall(lr=0.1, momentum=0.5)).power
    (1/2, 1)
    >>> s, b = sympy.symbols("s b", positive=True)
    >>> scale = time_scale(HeavyBall(lr=s, momentum=1 - b * sympy.sqrt(s)))
    >>> scale.power, scale.balance
    (1/2, ("X''", "X'", 'grad f'))
    >>> time_scale(HeavyBall(lr=0.1, momentum=0.5)).rejected[0].reason
    "X'' balances the gradient there, but X' is larger"
    """
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    orders = _orders(rule)
    gradient = orders.pop("grad f", None)
    if gradient is None:
        raise ValueError(
            f"{rule.label} takes no gradient, or differences of gradients alone, whose weights sum to 0: "
            "none is left to balance; pass h and write the scaling yourself"
        )
    accepted, rejected = [], []
    for name, p in _crossings(gradient, orders):
        weights = {"grad f": _weight(gradient, p), **{n: _weight(o, p) for n, o in orders.items()}}
        smallest = min(weights.values())
        if weights["grad f"] == smallest:
            accepted.append((p, tuple(n for n in (*orders, "grad f") if weights[n] == smallest)))
        else:
            larger = ", ".join(n for n in weights if weights[n] < weights["grad f"])
            reason = f"{name} balances the gradient there, but {larger} is larger"
            rejected.append(RejectedScale(p, reason))
    if not accepted:
        found = "; ".join(f"p = {r.power}: {r.reason}" for r in rejected) or _NOTHING
        raise ValueError(f"{rule.label} has no time scale with a limit: {found}")
    power, balance = accepted[0]
    return TimeScale(power, balance, tuple(rejected))


_Monomials = list[tuple[Rational, Rational]]
_Order = tuple[_Monomials, _Monomials]


def _orders(rule: UpdateRule) -> dict[str, _Order]:
    """Monomials (power of lr, power of h) of each term of the residual, over those of its denominator."""
    if "lr" not in rule.hyperparameters:
        raise ValueError(f"{rule.label} has no hyperparameter lr; pass h and write the scaling yourself")
    require_linear(rule, "time scale", forever=True)  # refused by its own numbers
    u, h, t = sympy.symbols("u h t", positive=True)
    family, lr = rule.exact(), rule.lr
    if isinstance(lr, Symbol):
        family = family.map_hyperparameters(
            lambda v: v.subs(lr, u**_DENOMINATOR) if hasattr(v, "subs") else v
        )
    else:
        family = family.replace(lr=u**_DENOMINATOR)
    equation = eliminate(linear_step(require_linear(family, "time scale", forever=True)))
    if equation is None:
        raise ValueError(
            f"{rule.label} has an average that only its gradient sees; its scale is found by ode_limit"
        )
    row = {v: c.subs(equation.step.k, t / h) for v, c in equation.row.items()}
    names = {"grad f": Add(*(c for v, c in row.items() if v[0] == "g"))}
    for j in range(1, len(row) + 2):
        moment = Add(*(c * v[-1] ** j for v, c in row.items() if v[0] == "x"))
        names = {"X" + "'" * j: moment * h**j} | names
    orders = {name: _monomials(c, u, h) for name, c in names.items()}
    return {name: order for name, order in orders.items() if order[0]}


def _monomials(coefficient: Expr, u: Symbol, h: Symbol) -> _Order:
    numerator, denominator = sympy.fraction(sympy.cancel(sympy.together(coefficient)))
    if not (numerator.is_polynomial(u, h) and denominator.is_polynomial(u, h)):
        shown = coefficient.subs(u, Symbol("lr", positive=True) ** Rational(1, _DENOMINATOR))
        raise ValueError(f"the coefficient {shown} is no rational function; its scale is found by ode_limit")

    def powers(expr: Expr) -> _Monomials:
        polynomial = sympy.Poly(expr, u, h)
        if polynomial.is_zero:
            return []
        return [(Rational(a, _DENOMINATOR), Integer(i)) for (a, i), _ in polynomial.terms()]

    return powers(numerator), powers(denominator)


def _weight(order: _Order, p: Rational) -> Rational:
    numerator, denominator = order
    return min(a + i * p for a, i in numerator) - min(a + i * p for a, i in denominator)


def _crossings(gradient: _Order, orders: dict[str, _Order]) -> Iterable[tuple[str, Rational]]:
    """Powers p > 0 at which a derivative has the order of the gradient, by increasing derivative."""
    found = []
    for name, order in reversed(orders.items()):
        lines = [(a - c, i - d) for a, i in order[0] for c, d in order[1]]
        against = [(a - c, i - d) for a, i in gradient[0] for c, d in gradient[1]]
        candidates = {
            (a - c) / (d - i) for a, i in lines for c, d in against if d != i and (a - c) / (d - i) > 0
        }
        for p in sorted(candidates):
            if _weight(order, p) == _weight(gradient, p) and p not in [q for _, q in found]:
                found.append((name, p))
    return found
