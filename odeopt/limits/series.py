r"""Gradients of an unknown loss as sympy objects, and their Taylor expansion in the time step h.

A vector is a sympy expression that is a combination of *atoms*: the derivatives
:math:`X^{(j)}(t)` of the curve and the elementary differentials
:math:`\nabla^{p+1}f(X)[v_1,\dots,v_p]`, symmetric and linear in each direction. Scalars (h, t and
hyperparameters) are everything else. Products of atoms are read componentwise.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator

import sympy
from sympy import Add, Expr, Integer, Mul, Symbol

from odeopt.limits.failures import FAILURES, NoLimitError, is_infinite
from odeopt.limits.slow import Function, Slow, expanded, with_symbols
from odeopt.limits.text import derivative_latex, derivative_text
from odeopt.limits.transients import without_transients

__all__ = [
    "GradientDifferential",
    "NoLimitError",
    "counted_powers",
    "directed",
    "expand_gradient",
    "gradient_series",
    "laurent",
    "multilinear",
    "substitute",
    "taylor",
    "time_derivative",
]


class GradientDifferential(Function):
    r"""The elementary differential :math:`\nabla^{p+1}f(X)[v_1,\dots,v_p]`, a vector.

    Examples
    --------
    >>> from sympy import Function, Symbol, latex
    >>> t = Symbol("t"); X = Function("X")(t)
    >>> print(latex(GradientDifferential(X)), latex(GradientDifferential(X, X.diff(t))))
    \nabla f(X) \nabla^{2} f(X)\,\dot{X}
    """

    is_commutative = True
    is_real = True
    is_coordinate = True  # it differs from coordinate to coordinate

    @classmethod
    def eval(cls, point: Expr, *directions: Expr) -> Expr | None:
        ordered = sorted(directions, key=sympy.default_sort_key)
        if list(directions) != ordered:
            return cls(point, *ordered)
        return None

    @property
    def point(self) -> Expr:
        """Where the derivative of f is taken."""
        return self.args[0]

    @property
    def directions(self) -> tuple[Expr, ...]:
        """The p vectors that the derivative is applied to."""
        return self.args[1:]

    def _latex(self, printer, exp=None):
        point, *directions = (printer.doprint(_dotted(a)) for a in self.args)
        p = len(directions)
        name = rf"\nabla f({point})" if p == 0 else rf"\nabla^{{{p + 1}}} f({point})"
        if p == 1:
            inner = directions[0]
            wrap = isinstance(self.args[1], Add)
            name += rf"\,\left({inner}\right)" if wrap else rf"\,{inner}"
        elif p > 1:
            name += rf"[{', '.join(directions)}]"
        return name if exp is None else rf"\left({name}\right)^{{{exp}}}"

    def _sympystr(self, printer):
        point, *directions = (plain(a) for a in self.args)
        p = len(directions)
        name = f"grad f({point})" if p == 0 else f"grad^{p + 1} f({point})"
        return name + (f"[{', '.join(directions)}]" if directions else "")

    def _pretty(self, printer):
        from sympy.printing.pretty.stringpict import prettyForm

        return prettyForm(self._sympystr(sympy.printing.str.StrPrinter()).replace("grad", "∇"))


class _Name(Symbol):
    """A symbol that prints in place of a curve or of one of its derivatives."""

    is_coordinate = True


def plain(vector: Expr) -> str:
    """Print a vector with primes for derivatives, arguments of the curve left out."""

    def primed(derivative):
        return _Name(derivative_text(derivative.expr.func.__name__, derivative.derivative_count))

    bare = vector.replace(lambda e: isinstance(e, sympy.Derivative), primed)
    bare = bare.replace(
        lambda e: isinstance(e, sympy.core.function.AppliedUndef), lambda e: _Name(e.func.__name__)
    )
    return str(bare)


def _dotted(expr: Expr) -> Expr:
    r"""Replace derivatives of X(t) by symbols that print as :math:`\dot X, \ddot X, X^{(4)}`."""

    def name(derivative):
        return _Name(derivative_latex(derivative.expr.func.__name__, derivative.derivative_count))

    expr = expr.replace(lambda e: isinstance(e, sympy.Derivative), name)
    return expr.replace(
        lambda e: isinstance(e, sympy.core.function.AppliedUndef) and e.args[0].is_Symbol,
        lambda e: _Name(e.func.__name__),
    )


def dotted_latex(expr: Expr) -> str:
    r"""Print with Newton's dots, arguments of the curve left out: :math:`\ddot X+b\dot X+\nabla f(X)=0`."""
    return sympy.latex(_dotted(expr))


def linear_terms(expr: Expr, curve: tuple[Symbol, ...]) -> dict[Expr, Expr]:
    """Collect an expression as {vector: scalar coefficient}; the coefficients may hold h and t."""
    collected: dict[Expr, list[Expr]] = {}
    for term in Add.make_args(sympy.expand(expr)):
        if term == 0:
            continue
        factors = Mul.make_args(term)
        vectors = [f for f in factors if is_vector(f, curve)]
        if len(vectors) != 1:
            raise ArithmeticError(f"{term} is no multiple of one vector")
        scalar = Mul(*(f for f in factors if f is not vectors[0]))
        collected.setdefault(vectors[0], []).append(scalar)
    return {vector: Add(*scalars) for vector, scalars in collected.items()}


def taylor(coefficient: Expr, h: Symbol, order: int) -> list[Expr]:
    r"""Taylor coefficients :math:`c_0,\dots,c_N` of a scalar function of h at h = 0; a pole is refused.

    Examples
    --------
    >>> from sympy.abc import b, h
    >>> taylor((1 - b * h) / (1 + b * h), h, 2)
    [1, -2*b, 2*b**2]
    """
    found = laurent(coefficient, h, order)
    if min(found, default=0) < 0:
        raise NoLimitError(f"the step has a pole at {h} = 0: {coefficient}")
    return [found.get(q, Integer(0)) for q in range(order + 1)]


@functools.lru_cache(maxsize=8192)
def laurent(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    r"""Coefficients of the powers of h up to `order` in a function with at most a pole at h = 0.

    >>> from sympy.abc import h, t
    >>> laurent(1 / (h * (t + h)), h, 0)
    {-1: 1/t, 0: -1/t**2}
    """
    if not coefficient.has(h):
        return {0: coefficient} if coefficient != 0 and order >= 0 else {}
    coefficient = counted_powers(coefficient, h, order + 2)
    numerator, denominator = _polynomials(coefficient, h, order)
    if numerator.is_polynomial(h) and denominator.is_polynomial(h):
        return _divide_series(numerator, denominator, h, order)
    roots = math.lcm(*(e.exp.q for e in coefficient.atoms(sympy.Pow) if e.base == h and e.exp.is_Rational))
    if roots > 1:
        return _by_roots(coefficient, h, order, roots)
    found = _by_derivatives(coefficient, h, order)
    return _by_series(coefficient, h, order) if found is None else found


def _polynomials(coefficient: Expr, h: Symbol, order: int) -> tuple[Expr, Expr]:
    """Numerator and denominator, functions of slow time expanded as far as a pole of the latter asks for."""
    slow, pole = coefficient.has(Slow), 2
    while True:
        expr = expanded(coefficient, h, order + pole) if slow else coefficient
        numerator, denominator = sympy.fraction(sympy.together(expr))
        if not slow or not denominator.is_polynomial(h):
            return numerator, denominator
        powers = [e for (e,), _ in sympy.Poly(denominator, h).terms()]
        if min(powers) <= pole:
            return numerator, denominator
        pole = min(powers)


def counted_powers(expr: Expr, h: Symbol, order: int) -> Expr:
    r"""Expand powers that count steps: :math:`(1-ah)^{t/h}=e^{-at}(1+\dots)`, :math:`\beta^{t/h}\to0`."""
    expr = without_transients(expr, h)

    def expanded(power):
        base, exponent = power.args
        if not base.has(h):
            shrinks = sympy.limit(exponent, h, 0, "+") is sympy.oo and not (base.is_number and abs(base) >= 1)
            return Integer(0) if shrinks else power
        series = _by_series(exponent * sympy.log(base), h, order)
        return sympy.exp(series.pop(0, Integer(0))) * sympy.exp(Add(*(c * h**q for q, c in series.items())))

    return expr.replace(lambda e: e.is_Pow and e.exp.has(h) and e.base is not sympy.S.Exp1, expanded)


def _by_derivatives(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr] | None:
    """Taylor coefficients by differentiation; None where the function is not regular at h = 0."""
    found, derivative = {}, coefficient
    for q in range(order + 1):
        value = derivative.subs(h, 0)
        if is_infinite(value):
            return None
        value = sympy.simplify(value / sympy.factorial(q))
        if value != 0:
            found[q] = value
        derivative = derivative.diff(h)
    return found


def _by_series(coefficient: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    remedy = (
        f"write the hyperparameters as functions analytic at {h} = 0, and schedules as functions of k*{h}"
    )
    refusal = NoLimitError(f"the step has no Taylor series in {h}: it contains {coefficient}; {remedy}")
    try:
        series = with_symbols(coefficient, h, order + 2, lambda e: sympy.series(e, h, 0, order + 1).removeO())
    except FAILURES as error:
        raise refusal from error
    found: dict[int, Expr] = {}
    for term in Add.make_args(sympy.expand(series)):
        scalar, power = term.as_coeff_exponent(h)
        if scalar.has(h) or not power.is_Integer:
            raise refusal
        if power <= order:
            found[int(power)] = found.get(int(power), Integer(0)) + scalar
    found = {q: sympy.simplify(c) for q, c in found.items()}
    return {q: c for q, c in sorted(found.items()) if c != 0}


def _by_roots(coefficient: Expr, h: Symbol, order: int, roots: int) -> dict[int, Expr]:
    """The same where h occurs under roots, which must cancel."""
    u = sympy.Dummy("u", positive=True)
    found = laurent(sympy.powdenest(coefficient.subs(h, u**roots)), u, order * roots)
    if any(q % roots for q in found):
        raise NoLimitError(
            f"the step has no Taylor series in {h}: it contains {coefficient}, with roots of {h}"
        )
    return {q // roots: c for q, c in found.items()}


def _divide_series(numerator: Expr, denominator: Expr, h: Symbol, order: int) -> dict[int, Expr]:
    top, bottom = (sympy.Poly(e, h).all_coeffs()[::-1] for e in (numerator, denominator))
    pole = next(i for i, c in enumerate(bottom) if c != 0)
    bottom = bottom[pole:]
    quotient: list[Expr] = []
    for q in range(order + pole + 1):
        known = Add(*(bottom[i] * quotient[q - i] for i in range(1, min(q, len(bottom) - 1) + 1)))
        value = (top[q] if q < len(top) else Integer(0)) - known
        quotient.append(sympy.cancel(value / bottom[0]))
    return {q - pole: c for q, c in enumerate(quotient) if c != 0}


def vector_series(expr: Expr, h: Symbol, order: int, curve: tuple[Symbol, ...]) -> list[Expr]:
    """Taylor coefficients in h of a vector; the h-dependence may sit in its scalar coefficients."""
    parts: list[list[Expr]] = [[] for _ in range(order + 1)]
    for vector, scalar in linear_terms(expr, curve).items():
        for q, coefficient in enumerate(taylor(scalar, h, order)):
            if coefficient != 0:
                parts[q].append(coefficient * vector)
    return [Add(*p) for p in parts]


def is_vector(expr: Expr, curve: tuple[Symbol, ...]) -> bool:
    """Tell whether an expression is a single atom."""
    return expr in curve or isinstance(expr, GradientDifferential)


def expand_gradient(
    z: Expr, h: Symbol, order: int, curve: tuple[Symbol, ...], directions: tuple[Expr, ...] = ()
) -> Expr:
    r"""Taylor-expand :math:`\nabla f(z)` in h about the point to which z tends.

    .. math:: \nabla f(X+\delta)=\sum_p\tfrac1{p!}\nabla^{p+1}f(X)[\delta,\dots,\delta].

    >>> h, X, V = sympy.symbols("h X V")
    >>> expand_gradient(X - h * V, h, 1, (X, V))
    -h*grad^2 f(X)[V] + grad f(X)
    """
    series = gradient_series(vector_series(z, h, order, curve), curve, directions)
    return Add(*(h**q * part for q, part in enumerate(series)))


def gradient_series(
    point: list[Expr], curve: tuple[Symbol, ...], directions: tuple[Expr, ...] = ()
) -> list[Expr]:
    r"""Coefficients in h of :math:`\nabla^{q+1}f(z)[v_1,\dots,v_q]` from those of z."""
    base, order = sympy.expand(point[0]), len(point) - 1
    deltas = {q: linear_terms(point[q], curve) for q in range(1, order + 1) if point[q] != 0}
    total: list[list[Expr]] = [[] for _ in point]
    total[0].append(multilinear(base, directions, curve))
    for powers in _partitions(tuple(deltas), order):
        weight = Mul(*(sympy.Rational(1, math.factorial(c)) for c in Counter(powers).values()))
        moved = tuple(Add(*(c * v for v, c in deltas[q].items())) for q in powers)
        total[sum(powers)].append(weight * multilinear(base, (*moved, *directions), curve))
    return [Add(*terms) for terms in total]


def directed(point: list[Expr], directions: list[list[Expr]], curve: tuple[Symbol, ...]) -> list[Expr]:
    r"""The same where the directions too are given by their coefficients in h."""
    order = len(point) - 1
    total: list[list[Expr]] = [[] for _ in point]
    for places in itertools.product(range(order + 1), repeat=len(directions)):
        chosen = tuple(d[i] for d, i in zip(directions, places, strict=True))
        if sum(places) <= order and all(d != 0 for d in chosen):
            series = gradient_series(point[: order + 1 - sum(places)], curve, chosen)
            for q, part in enumerate(series):
                total[q + sum(places)].append(part)
    return [sympy.expand(Add(*terms)) for terms in total]


def multilinear(point: Expr, directions: tuple[Expr, ...], curve: tuple[Symbol, ...]) -> Expr:
    r"""Write :math:`\nabla^{p+1}f(X)[v_1,\dots,v_p]` as a combination of atoms, for combinations v_i.

    Examples
    --------
    >>> from sympy import symbols
    >>> X, V, a = symbols("X V a")
    >>> multilinear(X, (a * V + GradientDifferential(X),), (X, V))
    a*grad^2 f(X)[V] + grad^2 f(X)[grad f(X)]
    """
    terms = []
    for combination in itertools.product(*(linear_terms(d, curve).items() for d in directions)):
        vectors = [vector for vector, _ in combination]
        terms.append(Mul(*(scalar for _, scalar in combination)) * GradientDifferential(point, *vectors))
    return Add(*terms)


def substitute(expr: Expr, values: dict[Expr, Expr], curve: tuple[Symbol, ...]) -> Expr:
    """Replace curve symbols by combinations of atoms, also inside directions.

    Examples
    --------
    >>> from sympy import symbols
    >>> X, V, W = symbols("X V W")
    >>> substitute(V + GradientDifferential(X, V), {V: -2 * W}, (X, V, W))
    -2*W - 2*grad^2 f(X)[W]
    """

    def image(vector):
        if isinstance(vector, GradientDifferential):
            moved = tuple(image(d) for d in vector.directions)
            return multilinear(vector.point, moved, curve)
        return values.get(vector, vector)

    return Add(*(c * image(v) for v, c in linear_terms(expr, curve).items()))


def time_derivative(expr: Expr, t: Symbol, curve: tuple[Symbol, ...]) -> Expr:
    r"""Differentiate a combination of atoms along the curve: :math:`X^{(j)}\to X^{(j+1)}`.

    Examples
    --------
    >>> from sympy import symbols
    >>> t, X, V = symbols("t X V")
    >>> time_derivative(GradientDifferential(X) / t, t, (X, V))
    grad^2 f(X)[V]/t - grad f(X)/t**2
    """

    def rate(vector):
        if not isinstance(vector, GradientDifferential):
            return curve[curve.index(vector) + 1]
        directions = vector.directions
        terms = [multilinear(vector.point, (*directions, time_derivative(vector.point, t, curve)), curve)]
        for i, direction in enumerate(directions):
            moved = (*directions[:i], rate(direction), *directions[i + 1 :])
            terms.append(multilinear(vector.point, moved, curve))
        return Add(*terms)

    terms = linear_terms(expr, curve).items()
    return Add(*(sympy.diff(c, t) * v + c * rate(v) for v, c in terms))


def _partitions(parts: tuple[int, ...], total: int) -> Iterator[tuple[int, ...]]:
    """Yield the nonempty multisets of `parts` with sum at most `total`, each in ascending order."""

    def extend(prefix, start, room):
        for i in range(start, len(parts)):
            if parts[i] <= room:
                grown = (*prefix, parts[i])
                yield grown
                yield from extend(grown, i, room - parts[i])

    yield from extend((), 0, total)
