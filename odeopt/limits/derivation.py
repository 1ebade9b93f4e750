r"""The computation behind a limit: residual, dominant order, normal form and initial data, as series in h.

The step is run on Taylor polynomials :math:`X(t-jh)=\sum_q\frac{(-jh)^q}{q!}X_q`, with symbols
:math:`X_0,X_1,\dots` for the derivatives of the curve at t, and k = t/h - origin. One running average
in memory, linear in it, is eliminated: from the step it is a combination of samples, which its own
recursion then turns into a residual for X alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import sympy
from sympy import Add, Expr, Integer, Symbol

from odeopt.limits.series import (
    GradientDifferential,
    NonlinearStepError,
    expand_gradient,
    linear_terms,
    substitute,
    time_derivative,
    vector_series,
)
from odeopt.rules.base import UpdateRule, iterate

__all__ = ["Derivation", "NoLimitError"]

# Orders of the residual searched beyond the highest order a rule of that history can reach.
_EXTRA_ORDERS = 2


class NoLimitError(ValueError):
    """The rule has no limiting ODE in the scaling at hand."""


class Derivation:
    """The expansion of one residual in the time step of a family of rules."""

    def __init__(self, family: UpdateRule, h: Symbol, resolution: int = 0, origin: Expr = sympy.S.Zero):
        self.family, self.h, self.resolution, self.origin = family, h, resolution, origin
        self.t = Symbol("t", positive=True)
        self.max_order = family.history + _EXTRA_ORDERS + resolution
        self.curve = tuple(Symbol(f"X_{j}") for j in range(self.max_order + 2))
        self.memory = _memory_symbols(family, self.curve[0])
        self.residual = self._residual()
        self.power, self.leading = self._dominant()
        self.order = self._balanced_order()

    # --- residual ----------------------------------------------------------------------------------

    def _residual(self) -> list[Expr]:
        """Taylor coefficients of X(t + h) - step(X(t), X(t - h), ...)."""
        samples = tuple(self._sample(-j) for j in range(self.family.history))
        calls = _Gradient(self.family, lambda z: self._expand(z, self.curve + self.memory))
        x_next, memory_next = self.family.step(self.t / self.h - self.origin, samples, self.memory, calls)
        calls.require_few()
        residual = self._sample(1) - x_next
        # coefficients before their expansion in h, for maps that keep them exact
        self.exact = {} if self.memory else linear_terms(residual, self.curve)
        if self.memory and residual.has(*self.memory):
            residual = self._eliminate_memory(residual, memory_next)
        return vector_series(residual, self.h, self.max_order, self.curve)

    def _sample(self, shift: int) -> Expr:
        """X(t + shift h) as a Taylor polynomial in h."""
        powers = enumerate(self.curve[: self.max_order + 1])
        return Add(*((shift * self.h) ** q / sympy.factorial(q) * x for q, x in powers))

    def _expand(self, z: Expr, atoms: tuple[Symbol, ...]) -> Expr:
        return expand_gradient(z, self.h, self.max_order, atoms)

    def _eliminate_memory(self, residual: Expr, memory_next) -> Expr:
        r"""Solve the step for the memory M and put it into the recursion of M.

        With :math:`cM+P=0` from the step and :math:`M_{k+1}=\beta M+B`, the residual is
        :math:`\frac{c(t)}{c(t+h)}P(t+h)-\beta P+cB`, free of division by a vanishing c.
        """
        if len(self.memory) > 1:
            raise NonlinearStepError(f"{self.family.label} carries {len(self.memory)} running averages")
        m, h, t = self.memory[0], self.h, self.t
        atoms = self.curve + self.memory
        step, recursion = linear_terms(residual, atoms), linear_terms(memory_next[0], atoms)
        c, beta = step.pop(m, Integer(0)), recursion.pop(m, Integer(0))
        if any(v.has(m) for v in (*step, *recursion)):
            raise NonlinearStepError(f"the step of {self.family.label} is not linear in its running average")
        # an unexpanded scalar may have a pole 1/h in k = t/h, so only vectors are expanded here
        now = vector_series(Add(*(s * v for v, s in step.items())), h, self.max_order, self.curve)
        ratio = sympy.cancel(c / c.subs(t, t + h))
        moved = self._shift(now)
        rest = Add(*(s * v for v, s in recursion.items()))
        past = Add(*(p * h**q for q, p in enumerate(now)))
        return ratio * moved - beta * past + c * rest

    def _shift(self, series: list[Expr]) -> Expr:
        """P(t + h) from the Taylor coefficients in h of P(t), to the order kept."""
        moved = Integer(0)
        for q, coefficient in enumerate(series):
            derivative = coefficient
            for j in range(self.max_order - q + 1):
                moved += self.h ** (q + j) / sympy.factorial(j) * derivative
                if j < self.max_order - q and derivative != 0:
                    derivative = self._derivative(derivative)
        return moved

    def _derivative(self, expr: Expr) -> Expr:
        """Time derivative; the derivative of the highest symbol is beyond every order kept."""
        known = {v: c for v, c in linear_terms(expr, self.curve).items() if not v.has(self.curve[-1])}
        return time_derivative(Add(*(c * v for v, c in known.items())), self.t, self.curve)

    # --- dominant order ------------------------------------------------------------------------------

    def _dominant(self) -> tuple[int, dict[Expr, Expr]]:
        """Power of h and terms of the first nonvanishing coefficient of the residual."""
        for q, coefficient in enumerate(self.residual):
            terms = self.tidy(coefficient)
            if terms:
                return q, terms
        raise NoLimitError(f"the residual vanishes to order {self.h}^{self.max_order}")

    def tidy(self, expr: Expr) -> dict[Expr, Expr]:
        """Collect as {vector: simplified coefficient}, highest derivative first, zeros left out."""

        def rank(vector):
            is_curve = vector in self.curve
            place = -self.curve.index(vector) if is_curve else len(vector.args)
            return (not is_curve, place, sympy.default_sort_key(vector))

        collected = {v: _canonical(c) for v, c in linear_terms(expr, self.curve).items()}
        return {v: sympy.factor(collected[v]) for v in sorted(collected, key=rank) if collected[v] != 0}

    def _balanced_order(self) -> int:
        """Order of the limiting equation, or the reason why there is none."""
        x, *derivatives = self.curve
        found = f"at leading order {self.h}^{self.power} the residual is " + " + ".join(
            f"({c})*{v}" for v, c in self.leading.items()
        )
        if x in self.leading:
            raise NoLimitError(f"{found}; the weights of the iterates must sum to 1")
        present = [j for j, d in enumerate(derivatives, 1) if d in self.leading]
        if not present:
            raise NoLimitError(f"{found}: the gradient has nothing to balance it; let lr shrink faster")
        if not any(isinstance(v, GradientDifferential) for v in self.leading):
            raise NoLimitError(f"{found}: the gradient has dropped out; let lr shrink more slowly")
        order = max(present)
        growing = [d for d in derivatives if d in self.leading and self.leading[d].is_negative]
        if growing:
            raise NoLimitError(
                f"{found}: the friction in front of {growing[0]} is negative (momentum above 1), so the "
                "iterates grow without any gradient; lower the momentum"
            )
        return order

    # --- normal form -----------------------------------------------------------------------------------

    def raw(self) -> dict[Expr, Expr]:
        """The residual divided by h^power, to the resolution, as it was expanded."""
        parts = self.residual[self.power : self.power + self.resolution + 1]
        return self.tidy(Add(*(self.h**q * part for q, part in enumerate(parts))))

    def normal_form(self) -> Expr:
        r"""The right side F of :math:`X^{(n)}=F`, a polynomial in h to the resolution.

        Higher derivatives in the corrections are replaced by time derivatives of the equation.
        """
        top = self.curve[self.order]
        lead = self.leading[top]
        parts = [self.residual[self.power + q] for q in range(self.resolution + 1)]
        rest = Add(*(c * v for v, c in self.leading.items() if v != top))
        if rest.has(top):
            raise NoLimitError(f"the highest derivative also stands inside a Hessian: {rest}")
        right = -rest / lead
        for q in range(1, self.resolution + 1):
            chain = self._chain(right, q)
            correction = Add(*(self.h**i * substitute(parts[i], chain, self.curve) for i in range(1, q + 1)))
            right = self._truncate(-(rest + correction) / lead, q)
        return right

    def _chain(self, right: Expr, order: int) -> dict[Expr, Expr]:
        """Expressions of X^(n), X^(n+1), ... through the equation.

        The correction of order h^i holds derivatives up to X^(n+i), so X^(n+i) is needed to the
        order h^(q-i) only; each differentiation is made after that truncation.
        """
        top = self.curve[self.order]
        chain = {top: right}
        last = right
        for i in range(1, order + 1):
            last = self._truncate(last, order - i)
            last = self._truncate(substitute(self._derivative(last), {top: right}, self.curve), order - i)
            chain[self.curve[self.order + i]] = last
        return chain

    def _truncate(self, expr: Expr, order: int) -> Expr:
        series = vector_series(expr, self.h, order, self.curve)
        return Add(
            *(
                self.h**q * _canonical(c) * v
                for q, part in enumerate(series)
                for v, c in linear_terms(part, self.curve).items()
            )
        )

    # --- initial data -----------------------------------------------------------------------------------

    def initial_data(self, right: Expr) -> tuple[Expr, ...]:
        r"""Return :math:`(X,\dot X,\dots)(0)` as series in h, matched to the rule's own first iterates.

        The matching uses a combination of iterates that cancels the modes which decay within a few
        steps, so that a fixed momentum is started from where the curve, not the first iterate, is.
        """
        n, x0 = self.order, self.curve[0]
        if right.has(self.t):
            return (x0, *self._regular_start(right))
        fast = self._fast_weights()
        count = n + len(fast) - 1
        if count == 1:
            return (x0,)
        start = iterate(self.family, x0, _Gradient(self.family, lambda z: self._expand(z, self.curve[:1])))
        values = list(itertools.islice(start, count))
        data = [x0] + [Integer(0)] * (n - 1)
        depth = self.resolution + n
        filtered = [Add(*(w * values[j + i] for i, w in enumerate(fast))) for j in range(n)]
        moments = sympy.Matrix(
            n,
            n,
            lambda j, p: Add(*(w * (Integer(j) + i) ** p for i, w in enumerate(fast))) / sympy.factorial(p),
        )
        inverse = moments.inv()
        for _ in range(self.resolution + n):
            tails = [self._tail(right, data, s, depth) for s in range(count)]
            gaps = [f - Add(*(w * tails[j + i] for i, w in enumerate(fast))) for j, f in enumerate(filtered)]
            scaled = [Add(*(inverse[p, j] * gaps[j] for j in range(n))) for p in range(n)]
            data = [
                self._truncate(sympy.expand(value / self.h**p), self.resolution)
                for p, value in enumerate(scaled)
            ]
        return tuple(data)

    def _tail(self, right: Expr, data: list[Expr], s: int, depth: int) -> Expr:
        """Part of X(s h) that comes from derivatives of order n and higher."""
        tail, derivative = Integer(0), right
        state = dict(zip(self.curve[1:], data[1:], strict=False))
        for order in range(self.order, depth + 1):
            value = self._at(derivative, data[0], state)
            tail += (s * self.h) ** order / sympy.factorial(order) * value
            if order < depth:
                chain = {self.curve[self.order]: right}
                derivative = substitute(self._derivative(derivative), chain, self.curve)
                derivative = self._truncate(derivative, depth - order - 1)
        return self._truncate(tail, depth)

    def _at(self, expr: Expr, position: Expr, state: Mapping[Expr, Expr]) -> Expr:
        """Evaluate at the initial data: derivatives replaced, differentials moved to the position."""
        moved = []
        for vector, scalar in linear_terms(substitute(expr, dict(state), self.curve), self.curve).items():
            if isinstance(vector, GradientDifferential):
                vector = expand_gradient(position, self.h, self.resolution, self.curve, vector.directions)
            moved.append(scalar * vector)
        return Add(*moved)

    def _fast_weights(self) -> list[Expr]:
        """Weights c_i / c(1) of a power of the polynomial whose roots are the momenta away from 1."""
        z = Symbol("z")
        units = tuple(Symbol(f"x_{j}") for j in range(self.family.history))
        x_next, memory_next = self.family.step(self.t / self.h, units, self.memory, lambda _: Integer(0))
        terms = linear_terms(x_next, units + self.memory)
        at_zero = [sympy.limit(terms.get(u, Integer(0)), self.h, 0) for u in units]
        polynomial = sympy.Poly(
            z**self.family.history
            - Add(*(c * z ** (self.family.history - 1 - j) for j, c in enumerate(at_zero))),
            z,
        )
        for m, change in zip(self.memory, memory_next or (), strict=True):
            decay = linear_terms(change, units + self.memory).get(m, Integer(0))
            polynomial *= sympy.Poly(z - sympy.limit(decay, self.h, 0), z)
        quotient, _ = sympy.div(polynomial, sympy.Poly((z - 1) ** self.order, z))
        # at order h^q the decaying modes carry polynomials of degree q - 1 in k, hence the power
        weights = (quotient ** max(1, self.resolution)).all_coeffs()[::-1]
        total = sympy.simplify(Add(*weights))
        return [sympy.cancel(w / total) for w in weights]

    def _regular_start(self, right: Expr) -> tuple[Expr, ...]:
        """Initial derivatives of the solution that is regular at t = 0, from the poles of the equation."""
        if self.order != 2:
            raise NoLimitError(f"initial data of {right} at t = 0 are known for second order only")
        poles = {v: sympy.limit(c * self.t, self.t, 0) for v, c in self.tidy(right).items()}
        friction = poles.pop(self.curve[1], Integer(0))
        if friction == 0:
            raise NoLimitError(f"the equation X'' = {right} is not of the kind r/t at t = 0")
        velocity = -Add(*(c * v for v, c in poles.items())) / friction
        return (self._truncate(velocity, self.resolution),)


def _canonical(coefficient: Expr) -> Expr:
    """Cancel a coefficient, where there is anything to cancel."""
    return coefficient if coefficient.is_number else sympy.cancel(coefficient)


def _memory_symbols(family: UpdateRule, x: Expr) -> tuple[Symbol, ...]:
    memory = family.initial_memory(x)
    return () if memory is None else tuple(Symbol(f"M_{i}") for i in range(len(memory)))


class _Gradient:
    """The gradient handed to a step; counts the different points it is asked for."""

    def __init__(self, family: UpdateRule, expand):
        self.family, self.expand, self.points = family, expand, []

    def __call__(self, z: Expr) -> Expr:
        self.points.append(sympy.expand(z))
        return self.expand(z)

    def require_few(self) -> None:
        """Refuse a step that takes gradients at more points than its rule declares."""
        points = list(dict.fromkeys(self.points))
        if len(points) > self.family.gradients:
            raise ValueError(
                f"the step of {self.family.label} takes gradients at {len(points)} points, {points[0]} and "
                f"{points[1]}; keep the earlier one in memory, or declare gradients = {len(points)} in "
                "the class"
            )


def time_origin(family: UpdateRule, h: Symbol) -> Expr:
    r"""Origin of time, in steps, at which the first correction of a friction r/t has no pole of order 2.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import Nesterov
    >>> h, r = sympy.symbols("h r", positive=True)
    >>> time_origin(Nesterov(h**2, r), h)
    r/2 - 1
    """
    tau = Symbol("tau")
    derivation = Derivation(family, h, 1, tau)
    right = derivation.normal_form()
    if not right.has(derivation.t) or derivation.order != 2:
        return Integer(0)
    t, coefficient = derivation.t, derivation.tidy(right).get(derivation.curve[1], Integer(0))
    worst = sympy.limit(sympy.expand(coefficient).coeff(h, 1) * t**2, t, 0)
    solutions = sympy.solve(worst, tau)
    return sympy.expand(solutions[0]) if solutions else Integer(0)
