r"""The start of an equation whose coefficients are singular at t = 0, on any loss.

The solution that is regular there is a power series in :math:`\tau=t^{1/q}`, q the denominator of the powers
of t that occur. On a first interval it is found as a polynomial by collocation: the terms in X and its
derivatives are solved for, gradients are iterated, which contracts on a short interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
from sympy import Expr, Symbol

from odeopt.limits.equation import ODELimit
from odeopt.limits.field import Field
from odeopt.limits.series import GradientDifferential

__all__ = ["RegularStart", "regular_start"]

_DEGREE = 8
_MOST_ITERATIONS = 40
# The last coefficient, relative to the change on the interval; beyond it the interval is shortened.
_TAIL = 1e-13
_SHORTEST = 1e-14


@dataclass(frozen=True)
class RegularStart:
    r"""A polynomial :math:`\sum_ec_e\tau^e` on [0, end], and the state (X, X', ...) at its end."""

    end: float
    state: np.ndarray
    coefficients: np.ndarray
    denominator: int

    def positions(self, times: np.ndarray) -> np.ndarray:
        """X at times in [0, end]."""
        powers = np.power.outer(times ** (1 / self.denominator), np.arange(len(self.coefficients)))
        return powers @ self.coefficients


def regular_start(limit: ODELimit, differential: Callable, data: np.ndarray, span: float) -> RegularStart:
    """The state from which a solver can start: `data`, (X, X', ...)(0), where t = 0 is regular."""
    n, t, curve = limit.order, limit.t, limit.curve
    lead = limit.terms[curve.diff(t, n)]
    monic = {
        v: sympy.cancel(c / lead) if c.is_rational_function() else c / lead for v, c in limit.terms.items()
    }
    if not any(is_singular(c, t) for c in monic.values()):
        return RegularStart(0.0, data, data[:1], 1)
    collocation = _Collocation(limit, monic, differential, data)
    end = min(span, 1.0) / 4
    while end > _SHORTEST:
        found = collocation.solve(end)
        if found is not None:
            return found
        end /= 4
    raise RuntimeError(f"no solution of {limit} that is regular at t = 0 was found; its start is open")


def is_singular(coefficient: Expr, t: Symbol) -> bool:
    """Whether a coefficient, or its slope, is infinite or open at t = 0."""
    if not coefficient.has(t):
        return False
    roots = any(p.base.has(t) and not p.exp.is_Integer for p in coefficient.atoms(sympy.Pow))
    return roots or coefficient.subs(t, 0).has(sympy.zoo, sympy.oo, sympy.nan)


class _Collocation:
    """The equations for the coefficients of the polynomial on an interval [0, end]."""

    def __init__(self, limit: ODELimit, monic: dict[Expr, Expr], differential: Callable, data: np.ndarray):
        self.n, self.data = limit.order, data
        t, curve = limit.t, limit.curve
        exponents = [
            p.exp for c in monic.values() for p in c.atoms(sympy.Pow) if p.base.has(t) and p.exp.is_Rational
        ]
        self.q = math.lcm(1, *(int(e.q) for e in exponents))
        derivatives = [curve.diff(t, j) for j in range(self.n)]
        self.weights = [sympy.lambdify(t, monic.get(d, sympy.Integer(0)), "numpy") for d in derivatives]
        force = -sympy.Add(*(c * v for v, c in monic.items() if isinstance(v, GradientDifferential)))
        self.field = Field([force], derivatives, t, differential)
        self.known = {j * self.q: data[j] / math.factorial(j) for j in range(self.n)}
        self.size = max(self.known) + 1 + _DEGREE * min(self.q, 3)
        self.open = [e for e in range(self.size) if e not in self.known]

    def solve(self, end: float) -> RegularStart | None:
        """The polynomial, or None where the interval is too long for it."""
        roots = (1 + np.cos(np.pi * (np.arange(len(self.open)) + 0.5) / len(self.open))) / 2
        times = end * roots**self.q
        slopes = [self._derivative(times, j, end) for j in range(self.n + 1)]
        linear = slopes[self.n] + sum(
            np.reshape(w(times) * np.ones_like(times), (-1, 1)) * s
            for w, s in zip(self.weights, slopes, strict=False)
        )
        c = np.zeros((self.size, self.data.shape[1]))
        for e, value in self.known.items():
            c[e] = value * end ** (e / self.q)
        given = linear[:, list(self.known)] @ c[list(self.known)]
        matrix = linear[:, self.open]
        scale = np.abs(matrix).max(axis=1, keepdims=True)
        last = np.inf
        for _ in range(_MOST_ITERATIONS):
            states = [s @ c for s in slopes[: self.n]]
            force = np.array([self.field(s, [x[i] for x in states])[0] for i, s in enumerate(times)])
            moved = np.linalg.lstsq(matrix / scale, (force - given) / scale, rcond=None)[0]
            change = np.abs(moved - c[self.open]).max()
            c[self.open] = moved
            size = np.abs(moved).max()
            if not np.isfinite(size) or (change > last and change > 1e-12 * size):
                return None
            if change <= 1e-15 * (size + np.abs(self.data).max()):
                break
            last = change
        extent = size + np.abs(self.data).max() * 1e-3
        if np.abs(c[-2:]).max() > _TAIL * extent:
            return None
        state = np.array([(self._derivative(np.array([end]), j, end) @ c)[0] for j in range(self.n)])
        powers = end ** (np.arange(self.size) / self.q)
        return RegularStart(end, state, c / powers[:, None], self.q)

    def _derivative(self, times: np.ndarray, j: int, end: float) -> np.ndarray:
        """Derivatives at the times of the powers (t/end)^(e/q)."""
        columns = []
        for e in range(self.size):
            power = e / self.q
            factor = math.prod(power - i for i in range(j))
            column = factor * (times / end) ** (power - j) / end**j if factor else np.zeros_like(times)
            columns.append(column)
        return np.array(columns).T
