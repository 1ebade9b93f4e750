r"""The characteristic polynomial of one period, exactly, and its roots in ball arithmetic.

.. math:: \chi(z,\lambda)=\det(zI-T_{p-1}(\lambda)\cdots T_0(\lambda))

with rational coefficients, floats read as the decimals they print as; of a learning rate that is the symbol
``LR`` it is a polynomial in z, lambda and lr.
"""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from typing import Any

import flint
import numpy as np
import sympy

from odeopt.checks import is_symbolic
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import moving_matrices
from odeopt.rules.matrices import StepMatrices

__all__ = [
    "LR", "characteristic_polynomial", "critical_curvatures", "critical_rates", "log_radius", "unstable_at",
    "with_rate",
]  # fmt: skip

LR = sympy.Symbol("lr", positive=True)
_CONTEXT = flint.fmpq_mpoly_ctx.get(("z", "lam", "lr"), "lex")
_Z, _LAM, _RATE = _CONTEXT.gens()
_BITS = 192
# Hyperparameters are floats: a polynomial is known up to so many roundings of its coefficients.
_ROUNDINGS = 16 * float(np.finfo(float).eps)
# Roots nearer to each other than this, relative to their size, may be one multiple root.
_NEAR = 1e-2


def _rational(value: Any) -> flint.fmpq:
    if is_symbolic(value):  # an irrational limit, to 60 digits
        value = Fraction(str(value.evalf(60)))
    value = Fraction(value)
    return flint.fmpq(value.numerator, value.denominator)


def _coefficient(value: Any) -> Any:
    """A number, or a polynomial in lr."""
    if not (is_symbolic(value) and value.has(LR)):
        return _rational(value)
    terms = enumerate(reversed(sympy.Poly(value, LR).all_coeffs()))
    return sum((_rational(c) * _RATE**i for i, c in terms), 0 * _RATE)


def _polynomial_matrix(step: StepMatrices) -> list[list[Any]]:
    """T(lam) with polynomial entries, the gradients taken one after the other."""
    M, N, A, B = ([[_coefficient(v) for v in row] for row in m] for m in (step.M, step.N, step.A, step.B))
    d = len(M)
    gradients: list[list[Any]] = []  # one after the other, as rows of polynomials
    for row, weights in zip(A, B, strict=True):
        gradients.append([_LAM * (row[j] + _combined(weights, gradients, j)) for j in range(d)])
    return [[M[i][j] + _combined(N[i], gradients, j) for j in range(d)] for i in range(d)]


def _combined(weights: list[Any], gradients: list[list[Any]], column: int) -> Any:
    """Sum of weight times gradient over the gradients taken so far, one entry."""
    return sum((w * g[column] for w, g in zip(weights, gradients, strict=False)), 0 * _LAM)


def _product(left: list[list[Any]], right: list[list[Any]]) -> list[list[Any]]:
    columns = list(zip(*right, strict=True))
    return [[sum((a * b for a, b in zip(row, c, strict=True)), 0 * _LAM) for c in columns] for row in left]


@functools.lru_cache(maxsize=256)
def characteristic_polynomial(rule: UpdateRule) -> flint.fmpq_mpoly:
    """Monic in z, for large k, by Faddeev and LeVerrier; ValueError if it is not linear or has no limit."""
    steps = [_polynomial_matrix(law) for law in moving_matrices(rule)]
    period = functools.reduce(lambda product, step: _product(step, product), steps)
    d = len(period)
    power: list[list[Any]] = [[0 * _LAM for _ in range(d)] for _ in range(d)]
    coefficient, total = 0 * _LAM + 1, _Z**d
    for order in range(1, d + 1):
        for i in range(d):
            power[i][i] += coefficient
        power = _product(period, power)
        coefficient = sum((power[i][i] for i in range(d)), 0 * _LAM) * flint.fmpq(-1, order)
        total += coefficient * _Z ** (d - order)
    return total


def _in_z(polynomial: flint.fmpq_mpoly, lam: Fraction) -> list[flint.fmpq]:
    """Coefficients in z at one eigenvalue, ascending."""
    terms = polynomial.subs({"lam": flint.fmpq(lam.numerator, lam.denominator)}).to_dict()
    coefficients = [flint.fmpq(0)] * (1 + max(monomial[0] for monomial in terms))
    for monomial, value in terms.items():
        coefficients[monomial[0]] += value
    return coefficients


def _roots(coefficients: list[flint.fmpq]) -> list[flint.acb]:
    """All roots as balls, multiple roots repeated."""
    scale = functools.reduce(math.lcm, (int(c.q) for c in coefficients), 1)
    polynomial = flint.fmpz_poly([int(c.p) * (scale // int(c.q)) for c in coefficients])
    with flint.ctx.workprec(_BITS):
        roots: Any = polynomial.complex_roots()  # pairs, which flint's own types do not say
        return [root for root, multiplicity in roots for _ in range(multiplicity)]


def unstable_at(polynomial: flint.fmpq_mpoly, lam: Fraction) -> bool:
    """Whether a root lies outside the unit circle for certain."""
    with flint.ctx.workprec(_BITS):
        return any(abs(root) > 1 for root in _roots(_in_z(polynomial, lam)))


def log_radius(polynomial: flint.fmpq_mpoly, lam: float) -> tuple[float, float, float]:
    """Logarithm of the largest modulus of the roots at one eigenvalue, and an interval around it.

    Roots that are one multiple root up to the rounding of the coefficients count as that root, whose modulus
    is their geometric mean; the interval holds the moduli of the roots themselves too.
    """
    coefficients = _in_z(polynomial, Fraction(repr(float(lam))))
    with flint.ctx.workprec(_BITS):
        groups = [[abs(root) for root in group] for group in _multiple(coefficients, _roots(coefficients))]
        logs = [[_log(size) for size in group] for group in groups if all(size > 0 for size in group)]
        found = [[float(sum(log, flint.arb(0)) / len(log)), *map(float, log)] for log in logs]
    if not found:  # all roots are 0: the iteration ends
        tiny = math.log(np.finfo(float).tiny)
        return tiny, tiny, tiny
    value = max(log[0] for log in found)
    return value, min(min(log) for log in found if log[0] == value), max(max(log) for log in found)


def _log(size: flint.arb) -> flint.arb:
    """Logarithm of a modulus, 0 where the ball allows it: a root on the circle."""
    log = size.log()
    return flint.arb(0) if log.contains(0) else log


def _multiple(coefficients: list[flint.fmpq], roots: list[flint.acb]) -> list[list[flint.acb]]:
    """Group roots that a polynomial within rounding of this one has at one place."""
    size = [abs(complex(root)) for root in roots]
    groups: list[list[int]] = []
    for i, root in enumerate(roots):
        near = (g for g in groups if abs(complex(roots[g[0]] - root)) <= _NEAR * max(size[g[0]], size[i]))
        group = next(near, None)
        if group is None:
            groups.append(group := [])
        group.append(i)
    found: list[list[flint.acb]] = []
    for group in groups:
        members = [roots[i] for i in group]
        together = len(group) > 1 and _is_multiple(coefficients, members)
        found.extend([members] if together else [[root] for root in members])
    return found


def _is_multiple(coefficients: list[flint.fmpq], members: list[flint.acb]) -> bool:
    """Whether value and derivatives at the mean of the roots are roundings of their terms."""
    place = sum(members, flint.acb(0)) / len(members)
    for j in range(len(members)):
        powers = enumerate(coefficients[j:], start=j)
        terms = [flint.arb(c) * math.comb(i, j) * place ** (i - j) for i, c in powers]
        if abs(complex(sum(terms, flint.acb(0)))) > _ROUNDINGS * sum(abs(complex(term)) for term in terms):
            return False
    return True


def critical_curvatures(polynomial: flint.fmpq_mpoly) -> list[Fraction]:
    r"""Positive eigenvalues, ascending, between which no root crosses the unit circle."""
    return sorted({root for condition in _crossings(polynomial) for root in _positive_roots(condition, 1)})


def _crossings(polynomial: flint.fmpq_mpoly) -> list[flint.fmpq_mpoly]:
    r"""Polynomials in lam and lr, of which one vanishes where a root crosses the unit circle.

    It is the resultant of :math:`\chi` and :math:`z^d\chi(1/z)`, which vanishes where two roots have the
    product 1; where it vanishes everywhere, they are the discriminant and :math:`\chi(\pm1)`.
    """
    moving = 0 * _Z + 1
    for factor, _ in polynomial.factor()[1]:
        if any(factor.degrees()[1:]):
            moving *= factor
    d = moving.degrees()[0]
    if d == 0:
        return []
    terms = moving.to_dict().items()
    reverse = sum((c * _Z ** (d - i) * _LAM**j * _RATE**n for (i, j, n), c in terms), 0 * _Z)
    conditions = [moving.resultant(reverse, "z")]
    if conditions[0] == 0:
        conditions = [moving.subs({"z": flint.fmpq(s)}) for s in (1, -1)]
        conditions.append(moving.discriminant("z") if d > 1 else 0 * _Z)
    return [condition for condition in conditions if condition != 0]


# Degree of a discriminant in lr, in exact arithmetic: 234 takes 0.4 s, 1472 minutes.
_DEGREE = 300


def critical_rates(polynomial: flint.fmpq_mpoly, lam_max: float, name: str) -> list[Fraction]:
    """Positive lr, ascending: between two of them the eigenvalues up to lam_max are all stable, or never are.

    Where lr passes one of them a curve of crossings in the plane of lam and lr enters the interval at an end,
    turns in it, meets another, or comes from infinity. ValueError where that would take minutes.
    """
    last = Fraction(repr(float(lam_max)))
    ends = flint.fmpq(0), flint.fmpq(last.numerator, last.denominator)
    curves = {str(f): f for c in _crossings(polynomial) for f, _ in c.factor()[1]}.values()
    found: list[flint.fmpq_mpoly] = []
    for curve in curves:
        _, degree, of_rate = curve.degrees()
        if of_rate * (2 * degree - 2) > _DEGREE:
            raise ValueError(
                f"lr scales more than the gradient of {name}, and stability ends on a curve of degree "
                f"{degree} in the eigenvalue and {of_rate} in lr, too high to be followed exactly; try "
                "values of lr with discrete_rate"
            )
        found += [curve.subs({"lam": end}) for end in ends] if degree else [curve]
        if degree:
            leading = ((i, n, c) for (i, j, n), c in curve.to_dict().items() if j == degree)
            found.append(sum((c * _RATE**n for _, n, c in leading), 0 * _Z))
        if degree > 1:
            found.append(curve.discriminant("lam"))
    pairs = itertools.combinations([c for c in curves if c.degrees()[1]], 2)
    found += [one.resultant(other, "lam") for one, other in pairs]
    return sorted({root for condition in found if condition != 0 for root in _positive_roots(condition, 2)})


def with_rate(polynomial: flint.fmpq_mpoly, lr: Fraction) -> flint.fmpq_mpoly:
    """The characteristic polynomial at one learning rate."""
    return polynomial.subs({"lr": flint.fmpq(lr.numerator, lr.denominator)})


def _positive_roots(condition: flint.fmpq_mpoly, place: int) -> list[Fraction]:
    """Positive zeros of a polynomial in one variable, the one at `place`, to 50 digits."""
    terms = {monomial[place]: value for monomial, value in condition.to_dict().items()}
    coefficients = [terms.get(i, flint.fmpq(0)) for i in range(1 + max(terms))]
    roots = set()
    for root in _roots(coefficients):
        if root.imag == 0 and root.real > 0:
            roots.add(Fraction(root.real.mid().str(50, radius=False)))
    return sorted(roots)
