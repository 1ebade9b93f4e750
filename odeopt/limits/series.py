r"""Gradients of an unknown loss as sympy objects, and their Taylor expansion in the time step h.

A vector is a sympy expression that is a combination of *atoms*: the derivatives
:math:`X^{(j)}(t)` of the curve and the elementary differentials
:math:`\nabla^{p+1}f(X)[v_1,\dots,v_p]`, symmetric and linear in each direction. Scalars (h, t and
hyperparameters) are everything else. Products of atoms are read componentwise.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import sympy
from sympy import Add, Expr, Mul, Symbol

from odeopt.limits.elimination import shortened
from odeopt.limits.failures import NoLimitError
from odeopt.limits.laurent import taylor
from odeopt.limits.slow import Function
from odeopt.limits.text import derivative_latex, derivative_text
from odeopt.rules.formulas import VectorName, latex, text, vector_name

__all__ = [
    "GradientDifferential", "NoLimitError", "canonical", "combined", "directed", "expand_gradient",
    "gradient_coefficient", "gradient_series", "multilinear", "substitute", "time_derivative",
]  # fmt: skip


class GradientDifferential(Function):
    r"""The elementary differential :math:`\nabla^{p+1}f(X)[v_1,\dots,v_p]`, a vector.

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


def plain(vector: Expr) -> str:
    """Print a vector with primes for derivatives, arguments of the curve left out."""

    def primed(derivative):
        return vector_name(derivative_text, derivative.expr.func.__name__, derivative.derivative_count)

    bare = vector.replace(lambda e: isinstance(e, sympy.Derivative), primed)
    bare = bare.replace(
        lambda e: isinstance(e, sympy.core.function.AppliedUndef), lambda e: VectorName(e.func.__name__)
    )
    return text(bare)


def _dotted(expr: Expr) -> Expr:
    r"""Replace derivatives of X(t) by symbols that print as :math:`\dot X, \ddot X, X^{(4)}`."""

    def name(derivative):
        return vector_name(derivative_latex, derivative.expr.func.__name__, derivative.derivative_count)

    expr = expr.replace(lambda e: isinstance(e, sympy.Derivative), name)
    return expr.replace(
        lambda e: isinstance(e, sympy.core.function.AppliedUndef) and e.args[0].is_Symbol,
        lambda e: VectorName(e.func.__name__),
    )


def dotted_latex(expr: Expr) -> str:
    r"""Print with Newton's dots, arguments of the curve left out: :math:`\ddot X+b\dot X+\nabla f(X)=0`."""
    return latex(_dotted(expr))


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


def combined(expr: Expr, curve: tuple[Symbol, ...]) -> Expr:
    """A vector with its coefficients cancelled."""
    return Add(*(canonical(c) * v for v, c in linear_terms(expr, curve).items()))


def canonical(coefficient: Expr) -> Expr:
    """Cancel a coefficient, where there is anything to cancel."""
    return coefficient if coefficient.is_number else shortened(coefficient)


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
    """
    series = gradient_series(vector_series(z, h, order, curve), curve, directions)
    return Add(*(h**q * part for q, part in enumerate(series)))


def gradient_series(
    point: list[Expr], curve: tuple[Symbol, ...], directions: tuple[Expr, ...] = ()
) -> list[Expr]:
    r"""Coefficients in h of :math:`\nabla^{q+1}f(z)[v_1,\dots,v_q]` from those of z."""
    return [gradient_coefficient(point[: q + 1], curve, directions) for q in range(len(point))]


def gradient_coefficient(
    point: list[Expr], curve: tuple[Symbol, ...], directions: tuple[Expr, ...] = ()
) -> Expr:
    """The last of these coefficients."""
    base = combined(point[0], curve)
    if len(point) == 1:
        return multilinear(base, directions, curve)
    terms = []
    for powers in _partitions(tuple(q for q, part in enumerate(point) if q and part != 0), len(point) - 1):
        weight = Mul(*(sympy.Rational(1, math.factorial(c)) for c in Counter(powers).values()))
        moved = tuple(point[q] for q in powers)
        terms.append(weight * multilinear(base, (*moved, *directions), curve))
    return Add(*terms)


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
    """Yield the nonempty multisets of `parts` with this sum, each in ascending order."""

    def extend(prefix, start, room):
        for i in range(start, len(parts)):
            if parts[i] == room:
                yield (*prefix, parts[i])
            elif parts[i] < room:
                yield from extend((*prefix, parts[i]), i, room - parts[i])

    yield from extend((), 0, total)
