r"""Initial data of a limit: from the rule's own first iterates, or from the poles of the equation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import sympy
from sympy import Add, Expr, Integer, Poly, Rational, Symbol

from odeopt.checks import is_symbolic
from odeopt.limits.derivation import Derivation
from odeopt.limits.derivation_lines import on_curve
from odeopt.limits.elimination import exact
from odeopt.limits.failures import is_infinite
from odeopt.limits.laurent import laurent
from odeopt.limits.series import (
    GradientDifferential,
    NoLimitError,
    directed,
    linear_terms,
    plain,
    vector_series,
)
from odeopt.limits.slow import names_of
from odeopt.rules.forms import CONSTANT
from odeopt.rules.trace import Refusal

__all__ = ["decaying_modes", "initial_data", "require_smooth_start"]

# Iterates in which a derivative at the start is read that the equation leaves open.
_WATCHED = 8


def initial_data(derivation: Derivation, right: Expr) -> tuple[Expr, ...]:
    r"""Return :math:`(X,\dot X,\dots)(0)` as series in h."""
    t = derivation.t
    singular = right.has(t) and any(
        min(puiseux(c, t), default=0) < 0 for c in derivation.tidy(right).values() if c.has(t)
    )
    return _regular(derivation, right) if singular else _matched(derivation, right)


# --- from the first iterates ---------------------------------------------------------------------------


def _matched(derivation: Derivation, right: Expr) -> tuple[Expr, ...]:
    """Match the curve to a combination of iterates that cancels the modes which decay within a few steps.

    A fixed momentum is so started from where the curve, not the first iterate, is; first steps that are none
    of the law are left out, and the curve is met where it begins to hold.
    """
    n, h, p = derivation.order, derivation.h, derivation.period
    fast = _filter(derivation)
    first = -(-derivation.step.reading.law_from // p)
    count = n + len(fast) - 1
    depth = derivation.resolution + n
    if count == 1 and not first:
        return (derivation.curve[0],)
    if depth == 1:  # X(0) at leading order, where no gradient has acted yet
        values = _iterates(derivation, first + count, 0)[first:]
        return (derivation.truncate(Add(*(w * v for w, v in zip(fast, values, strict=True))), 0),)
    values = _iterates(derivation, first + count, depth)[first:]
    _require_rest(derivation, values)
    data = [values[0]] + [Integer(0)] * (n - 1)
    filtered = [Add(*(w * values[j + i] for i, w in enumerate(fast))) for j in range(n)]
    moments = sympy.Matrix(
        n,
        n,
        lambda j, q: (
            Add(*(w * Integer(p * (first + j + i)) ** q for i, w in enumerate(fast))) / sympy.factorial(q)
        ),
    )
    inverse = moments.inv()
    derivatives = _derivatives(derivation, right, depth)
    for _ in range(derivation.resolution + n):
        state = dict(zip(derivation.curve[1:], data[1:], strict=False))
        known = [(j, _at(derivation, e, data[0], state, depth - j)) for j, e in derivatives]
        tails = [
            Add(*(Integer(p * s) ** j * h**j / sympy.factorial(j) * value for j, value in known))
            for s in range(first, first + count)
        ]
        gaps = [f - Add(*(w * tails[j + i] for i, w in enumerate(fast))) for j, f in enumerate(filtered)]
        scaled = [Add(*(inverse[q, j] * gaps[j] for j in range(n))) for q in range(n)]
        data = [
            derivation.truncate(sympy.expand(value / h**q), derivation.resolution)
            for q, value in enumerate(scaled)
        ]
    return tuple(data)


def _require_rest(derivation: Derivation, values: list[Expr]) -> None:
    """Refuse data beyond X(0) where the first steps move x by O(1): the gradients there are endless."""
    moved = any(sympy.expand(v.subs(derivation.h, 0) - derivation.curve[0]) != 0 for v in values)
    polynomial = decaying_modes(derivation)
    if moved and any(c != 0 for c in polynomial.all_coeffs()[1:]):
        raise NoLimitError(
            f"{derivation.family.label} leaves x_0 by a distance that does not shrink with {derivation.h}, "
            "for its memory does not start where the step leaves it at rest, and the gradients on the way "
            "enter the derivatives and corrections at the start one by one, without end; start the memory "
            "at rest, such as an average of iterates at x_0"
            + (", or take resolution 0" if derivation.order == 1 else "")
        )


def _iterates(derivation: Derivation, count: int, depth: int) -> list[Expr]:
    """The first iterates, one a period, as series in h of vectors at x_0."""
    h, curve = derivation.h, derivation.curve[:1]
    reading = derivation.step.reading
    q = reading.rule.history
    if any(CONSTANT in form.terms for form in reading.start):
        raise NoLimitError(
            f"a memory of {reading.rule.label} starts at a constant; start it at a multiple of x_0"
        )
    state = [curve[0]] * q + [exact(form.coefficient(("x", 0))) * curve[0] for form in reading.start]
    values = [curve[0]]
    for k in range((count - 1) * derivation.period):
        matrices = reading.at(k)
        if isinstance(matrices, Refusal):
            raise NoLimitError(f"the step of {reading.rule.label} at k = {k} {matrices}")
        gradients: list[Expr] = []
        for a, b in zip(matrices.A, matrices.B, strict=True):
            point = vector_series(_apply((*a, *b), (*state, *gradients)), h, depth, curve)
            series = directed(point, [], curve)
            gradients.append(Add(*(h**i * part for i, part in enumerate(series))))
        rows = zip(matrices.M, matrices.N, strict=True)
        state = [derivation.truncate(_apply((*m, *n), (*state, *gradients)), depth) for m, n in rows]
        if (k + 1) % derivation.period == 0:
            values.append(state[0])
    return values


def _apply(row: tuple, vectors: tuple[Expr, ...]) -> Expr:
    return sympy.expand(Add(*(exact(c) * v for c, v in zip(row, vectors, strict=False))))


def _derivatives(derivation: Derivation, right: Expr, depth: int) -> list[tuple[int, Expr]]:
    """X^(n), X^(n+1), ... up to X^(depth) through the equation, X^(j) to the order h^(depth - j)."""
    found, derivative = [(derivation.order, right)], right
    for j in range(derivation.order + 1, depth + 1):
        derivative = derivation.truncate(derivation.along(derivative, right), depth - j)
        found.append((j, derivative))
    return found


def _at(derivation: Derivation, expr: Expr, position: Expr, state: Mapping[Expr, Expr], order: int) -> Expr:
    """Evaluate at the initial data: derivatives replaced, differentials moved to the position."""
    h, curve = derivation.h, derivation.curve
    place = {curve[0]: position, **state}

    def moved(vector: Expr) -> list[Expr]:
        if vector in curve:
            return vector_series(sympy.expand(place.get(vector, vector)), h, order, curve)
        weights = linear_terms(vector.point, curve)
        parts = [(c.subs(derivation.t, 0), moved(v)) for v, c in weights.items()]
        point = [sympy.expand(Add(*(c * series[q] for c, series in parts))) for q in range(order + 1)]
        return directed(point, [moved(d) for d in vector.directions], curve)

    terms = linear_terms(expr, curve).items()
    return Add(*(c.subs(derivation.t, 0) * h**q * part for v, c in terms for q, part in enumerate(moved(v))))


def require_smooth_start(derivation: Derivation, data: Sequence[Expr]) -> None:
    """Refuse a correction where the first steps, in which k itself is felt, leave a trace of order h.

    Weights that are smooth in k*h leave none, nor those of a friction r/t that is met at rest.
    """
    reading, h, t = derivation.step.reading, derivation.h, derivation.t
    entries = {v for law in reading.laws for v in law.entries if is_symbolic(v) and v.has(reading.k)}
    powers = {p for v in entries for p in v.atoms(sympy.Pow) if p.base.is_number and p.exp.has(reading.k)}
    counted = any(p.base is not sympy.S.Exp1 or not p.exp.has(h) for p in powers)
    in_time = [sympy.cancel(exact(v).subs(reading.k, t / h)) for v in entries]
    friction = derivation.leading.get(derivation.curve[1], Integer(0))
    at_rest = derivation.order == 2 and data[1].subs(h, 0) == 0
    damped = at_rest and is_infinite(friction.subs(t, 0))
    if not counted and damped:
        _require_start_kept(derivation)
        return
    if not counted and all(_is_smooth(v, derivation) for v in in_time):
        return
    raise NoLimitError(
        f"corrections of {derivation.family.label} are not derived: its weights are no smooth functions of "
        f"k*{h} at k = 0, so its first steps move the iterates by O({h}) off the curve of any corrected "
        "equation; take resolution=0, or write its schedule as a function of k times the time step"
    )


def _require_start_kept(derivation: Derivation) -> None:
    """Refuse first steps beside the law that leave x_0 by what the pole brings to rest, but not back."""
    first, q = -(-derivation.step.reading.law_from // derivation.period), derivation.resolution
    values = _iterates(derivation, first + 2, q)
    if any(sympy.expand(v - derivation.curve[0]) != 0 for v in values):
        raise NoLimitError(
            f"corrections of {derivation.family.label} are not derived: its first steps leave x_0 by "
            f"{derivation.h}^{q} or more while its coefficients are singular; take resolution=0"
        )


def _is_smooth(weight: Expr, derivation: Derivation) -> bool:
    """Whether the coefficients of h of a weight are regular at t = 0."""
    series = laurent(weight, derivation.h, derivation.resolution + 1).values()
    return not any(is_infinite(sympy.cancel(c).subs(derivation.t, 0)) for c in series)


def decaying_modes(derivation: Derivation) -> Poly:
    """The polynomial of one period at h = 0 and no gradient, without its roots at 1."""
    z, h, t = Symbol("z"), derivation.h, derivation.t
    reading = derivation.step.reading

    def in_time(c: Expr) -> Expr:
        return sympy.cancel(exact(c).subs(reading.k, t / h))

    laws = [
        sympy.Matrix([[in_time(c) for c in row] for row in reading.law(r).M]) for r in range(reading.period)
    ]
    series = [{i: laurent(c, h, 0) for i, c in enumerate(law)} for law in laws]
    regular = all(min(c, default=0) >= 0 for entries in series for c in entries.values())
    if regular:  # the limit of each entry first, which is much faster
        laws = [
            sympy.Matrix(*law.shape, [c.get(0, Integer(0)) for c in entries.values()])
            for law, entries in zip(laws, series, strict=True)
        ]
    matrix = sympy.eye(laws[0].rows)
    for law in laws:
        matrix = law * matrix
    named = names_of(matrix)
    back = {d: s for s, d in named.items()}
    coefficients = [c.xreplace(back) for c in matrix.xreplace(named).charpoly(z).all_coeffs()]
    if not regular:
        coefficients = [laurent(sympy.cancel(c), h, 0).get(0, Integer(0)) for c in coefficients]
    polynomial = Poly.from_list(coefficients, z)
    unit = Poly(z - 1, z)
    while polynomial.degree() > 0 and sympy.simplify(polynomial.eval(1)) == 0:
        polynomial = sympy.div(polynomial, unit)[0]
    return polynomial


def _filter(derivation: Derivation) -> list[Expr]:
    r"""Weights, with sum 1, that annihilate the decaying modes to the order of the last derivative.

    The data of order n - 1 are read from terms of order n - 1 + resolution of the iterates. At order
    :math:`h^q` a decaying root z carries polynomials of degree q - 1 in k; products of j of them enter with
    the j-th derivative of the gradient, at order :math:`h^{j+1}` and above.
    """
    polynomial, top = decaying_modes(derivation), derivation.order - 1 + derivation.resolution
    polynomial = Poly(polynomial.as_expr().subs(derivation.t, 0), polynomial.gen)
    power = polynomial ** max(1, top)
    for j in range(2, top):
        power = power * _products(polynomial, j) ** (top - j)
    weights = power.all_coeffs()[::-1]
    total = sympy.simplify(Add(*weights))
    return [sympy.cancel(w / total) for w in weights]


def _products(polynomial: Poly, j: int) -> Poly:
    """The polynomial whose roots are all products of j roots."""
    z = polynomial.gen
    if polynomial.degree() == 0:
        return Poly(1, z)
    roots = [-polynomial.nth(0) / polynomial.LC()] if polynomial.degree() == 1 else None
    if roots:
        return Poly(z - roots[0] ** j, z)
    block = sympy.Matrix.companion(polynomial.monic())
    matrix = block
    for _ in range(j - 1):
        matrix = sympy.kronecker_product(matrix, block)
    return matrix.charpoly(z)


# --- from the poles of the equation --------------------------------------------------------------------


def puiseux(coefficient: Expr, t: Symbol, order: int = 0) -> dict[Rational, Expr]:
    """Coefficients of the powers of t up to `order`, fractional powers and poles included."""
    exponents = [e.exp for e in coefficient.atoms(sympy.Pow) if e.base.has(t) and not e.exp.has(t)]
    if not all(e.is_Rational for e in exponents):
        raise NoLimitError(f"the coefficient {coefficient} holds a symbolic power of t; give it a number")
    q = math.lcm(1, *(int(e.q) for e in exponents))
    u = Symbol("u", positive=True)
    found = laurent(coefficient.subs(t, u**q), u, order * q)
    return {Rational(i, q): c for i, c in found.items()}


def _regular(derivation: Derivation, right: Expr) -> tuple[Expr, ...]:
    r"""Initial derivatives of the solution that is regular at t = 0, :math:`X=\sum_ec_et^e`."""
    n, curve, t = derivation.order, derivation.curve, derivation.t
    x0 = curve[0]
    if any(sympy.expand(v.subs(derivation.h, 0) - x0) != 0 for v in _iterates(derivation, 4, 0)):
        raise NoLimitError(
            f"{derivation.family.label} leaves x_0 within a few steps while its coefficients are singular"
        )
    powers = {v: puiseux(c, t, 0) for v, c in derivation.tidy(right).items()}
    for v, found in powers.items():
        lowest = min(found, default=0)
        room = n - curve.index(v) if v in curve else n
        if lowest < -room or (lowest == -room and (v == x0 or v not in curve)):
            raise NoLimitError(
                f"the coefficient of {plain(on_curve(derivation, v))} has a pole 1/t^{-lowest} at t = 0, "
                f"too strong for an equation of order {n}: the expansion in {derivation.h} fails for t of "
                f"the order of {derivation.h}, and no start is carried across; take a lower resolution"
            )
    series = [x0]
    for e in range(1, n):
        indicial = sympy.ff(e, n) - Add(
            *(powers.get(curve[j], {}).get(Rational(j - n), 0) * sympy.ff(e, j) for j in range(n))
        )
        forcing = derivation.truncate(
            sympy.expand(Add(*_forcing(derivation, powers, series, e - n))), derivation.resolution
        )
        if sympy.simplify(indicial) == 0:
            series.append(_left_open(derivation, right, e, forcing))
        else:
            series.append(derivation.truncate(sympy.expand(forcing / indicial), derivation.resolution))
    return tuple(sympy.factorial(e) * c for e, c in enumerate(series))


def _left_open(derivation: Derivation, right: Expr, e: int, forcing: Expr) -> Expr:
    r"""The coefficient c of t^e that the pole leaves open: :math:`x_k` holds :math:`ck^eh^e`."""
    n, h = derivation.order, derivation.h
    values = _iterates(derivation, _WATCHED, e)
    moved = [derivation.truncate(v - values[0], e).coeff(h, e) for v in values]
    ratios = {
        derivation.truncate(v / Integer(k * derivation.period) ** e, 0) for k, v in enumerate(moved) if k
    }
    if forcing == 0 and len(ratios) == 1 and not derivation.resolution:
        return ratios.pop()
    raise NoLimitError(
        f"the equation X^({n}) = {right} leaves the derivative of order {e} at t = 0 open, and the first "
        f"{_WATCHED} iterates of {derivation.family.label} do not give it: in them the power {h}^{e} is no "
        f"multiple of k^{e}"
    )


def _forcing(derivation: Derivation, powers: dict, series: list[Expr], exponent: int) -> list[Expr]:
    """What multiplies t^exponent on the right side, once X is the series known so far."""
    n, curve = derivation.order, derivation.curve
    found = []
    for v, coefficients in powers.items():
        for a, c in coefficients.items():
            place = exponent - a
            if v in curve:
                j = curve.index(v)
                e = place + j
                if e.is_Integer and 0 <= e < len(series) and a != j - n:
                    found.append(c * sympy.ff(e, j) * series[int(e)])
            elif place.is_Integer and place >= 0:
                found.append(c * _coefficient(derivation, v, series, int(place)))
            elif not place.is_Integer and a + n < n - 1:
                raise NoLimitError(f"the force t^({a}) {v} leaves no finite derivative at t = 0")
    return found


def _coefficient(derivation: Derivation, v: Expr, series: list[Expr], order: int) -> Expr:
    """Coefficient of t^order in a differential along the series."""
    t, curve = derivation.t, derivation.curve
    image = {
        x: Add(*(sympy.ff(e, j) * c * t ** (e - j) for e, c in enumerate(series) if e >= j))
        for j, x in enumerate(curve[: len(series) + 1])
    }

    def along(expr: Expr) -> list[Expr]:
        parts: list[list[Expr]] = [[] for _ in range(order + 1)]
        for u, c in linear_terms(expr, curve).items():
            powers = laurent(c, t, order)
            if not powers:  # it vanishes to a higher order
                continue
            if isinstance(u, GradientDifferential):
                found = directed(along(u.point), [along(d) for d in u.directions], curve[:1])
            elif u in curve and u not in image:
                raise NoLimitError(
                    f"a gradient is taken at a point with X^({curve.index(u)}), whose value at t = 0 is open"
                )
            else:
                found = vector_series(sympy.expand(image.get(u, u)), t, order, curve[:1])
            for q, factor in powers.items():
                for i, part in enumerate(found[: order + 1 - q]):
                    parts[q + i].append(factor * part)
        return [sympy.expand(Add(*p)) for p in parts]

    return along(v)[order]
