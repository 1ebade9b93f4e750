"""Losses of the linear model in ball arithmetic: a midpoint and a radius that hold the truth."""

from __future__ import annotations

import itertools

import flint
import numpy as np
import sympy
from flint import acb, arb, arb_mat

from odeopt.rules.base import iterate


def exact(value):
    """A float as the dyadic number that it is, a sympy expression to the working precision."""
    if isinstance(value, sympy.Expr) and not value.is_Float:
        digits = int(flint.ctx.prec / 3.3) + 10
        value = value if value.is_Rational else sympy.Rational(str(value.evalf(digits)))
        return arb(int(value.p)) / arb(int(value.q))
    return arb(float(value))


def half_square(vector):
    return sum((x * x for x in vector), arb(0)) / 2


def rule_losses(rule, kernel, delta0, steps, origin=None):
    """Losses of the rule's own step, on the very entries of the kernel, a matrix or eigenvalues.

    With `origin`, J w_0, the step acts on v = Jw with the gradient H(v + q), q = delta0 - origin.
    """
    last = max(steps)
    with flint.ctx.workprec(200 + 4 * last):  # a step loses some two bits to the triangle inequality
        kernel = np.vectorize(arb, otypes=[object])(np.asarray(kernel, dtype=float))
        error, start = (
            np.array([arb(float(d)) for d in given], dtype=object)
            for given in (delta0, delta0 if origin is None else origin)
        )
        q, times = error - start, np.multiply if kernel.ndim == 1 else np.matmul
        iterates = itertools.islice(iterate(rule, start, lambda v: times(kernel, v + q)), last + 1)
        run = [half_square(v + q) for v in iterates]
    return [run[k] for k in steps]


def rule_displacements(rule, kernel, delta0, steps):
    """The z by which the weights have moved along J', run from 0 with the gradient Hz + delta0."""
    last = max(steps)
    with flint.ctx.workprec(200 + 4 * last):
        kernel = np.vectorize(arb, otypes=[object])(np.asarray(kernel, dtype=float))
        error = np.array([arb(float(d)) for d in delta0], dtype=object)
        run = list(itertools.islice(iterate(rule, 0 * error, lambda z: kernel @ z + error), last + 1))
    return [run[k] for k in steps]


def long_losses(rule, lam, delta0, steps):
    """Losses on eigenvalues of a rule that is steady from step 1 on, by powers of the matrix of its step."""
    history, losses = rule.history, []
    with flint.ctx.workprec(1500):
        columns = range(history + len(rule.initial_memory(arb(1)) or ()))
        units = [[arb(int(i == j)) for i in columns] for j in columns]
        powers = []
        for value in (arb(float(v)) for v in lam):

            def stepped(k, state, value=value):
                memory = tuple(state[history:]) or None
                x, memory = rule.step(k, tuple(state[:history]), memory, lambda z: value * z)
                return [x, *state[: history - 1], *(memory or ())]

            first = stepped(0, [arb(1)] * history + list(rule.initial_memory(arb(1)) or ()))
            matrix = arb_mat([stepped(1, unit) for unit in units]).transpose()
            powers.append((matrix, arb_mat([[entry] for entry in first])))
        for k in steps:
            values = [(matrix ** (k - 1) * first)[0, 0] if k else arb(1) for matrix, first in powers]
            losses.append(half_square([arb(float(d)) * v for d, v in zip(delta0, values, strict=True)]))
    return losses


def mode_losses(mode, lam, delta0, times):
    """Losses of an ODE on eigenvalues that are exact floats, by the formula of its family."""
    dynamics, losses = mode.dynamics, []
    with flint.ctx.workprec(1000):
        a = [sympy.cancel(c / dynamics.coefficients[-1]) for c in dynamics.coefficients]
        for t in times:
            values = [_mode(mode, a, arb(float(t)), float(value)) for value in lam]
            losses.append(half_square([arb(float(d)) * v for d, v in zip(delta0, values, strict=True)]))
    return losses


def _mode(mode, a, t, value):
    lam, time = mode.dynamics.lam, mode.dynamics.t
    if mode.family == "exponential":
        rate = sympy.Poly(a[0], lam)
        powers = (exact(c) * arb(value) ** power[0] for power, c in rate.terms())
        return (-t * sum(powers, arb(0))).exp()
    stiffness = exact(sympy.cancel(a[0] / lam)) * arb(value)
    if mode.family == "bessel":
        nu = (exact(sympy.cancel(time * a[1])) - 1) / 2
        return (-t * t * stiffness / 4).hypgeom_0f1(nu + 1)
    b, v = exact(a[1]), exact(mode.dynamics.initial[0])
    root = acb(b * b / 4 - stiffness).sqrt()
    decay = (-b * t / 2).exp()
    if root.contains(0):
        return decay * (1 + (b / 2 + v) * t)
    half = (root * t).cosh() + (b / 2 + v) * (root * t).sinh() / root
    return (half * decay).real


def outside(low, true, high) -> bool:
    """Whether a bracket of floats certainly misses a ball."""
    return (
        bool(true < arb(float(low))) or bool(true > arb(float(high)))
        if np.isfinite(high)
        else bool(true < arb(float(low)))
    )
