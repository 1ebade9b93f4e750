"""Exact quotients against sympy's own arithmetic, signs of numbers, and signs on domains."""

import itertools

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer, Rational, sqrt

from odeopt.proofs.exact.domain import Bound, Domain
from odeopt.proofs.exact.field import Field
from odeopt.proofs.exact.roots import UndecidedError
from odeopt.proofs.exact.signs import (
    is_positive_semidefinite,
    is_zero,
    nearest_float,
    number_sign,
    proves_nonnegative,
)
from odeopt.proofs.identity import growth
from odeopt.proofs.point import point_of

x, y, t = sympy.symbols("x y t", real=True)
LEAVES = st.sampled_from([x, y, t, 1 / t, Integer(2), Rational(-3, 7), Integer(0), sqrt(2), 1 / (t + 1)])


def grown(inner):
    pairs = st.tuples(inner, inner)
    return st.one_of(
        pairs.map(lambda p: p[0] + p[1]),
        pairs.map(lambda p: p[0] - p[1]),
        pairs.map(lambda p: p[0] * p[1]),
        inner.map(lambda e: e**2),
    )


EXPRESSIONS = st.recursive(LEAVES, grown, max_leaves=6)


def same(first, second):
    return sympy.simplify(first - second) == 0


@settings(max_examples=30, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_arithmetic_is_that_of_sympy(a, b):
    field = Field((x, y, t))
    p, q = field.read(a), field.read(b)
    assert same(p.expr(), a)
    assert same(p.factored(), a)
    assert same((p + q).expr(), a + b)
    assert same((p - q).expr(), a - b)
    assert same((p * q).expr(), a * b)
    assert same(p.diff(t).expr(), sympy.diff(a, t))
    assert (field.total([p, q, -p]) - q).is_zero()
    assert (p - field.read(sympy.expand(a))).is_zero()
    if not q.is_zero():
        assert ((p / q) * q - p).is_zero()


@settings(max_examples=20, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_coefficients_add_up_and_substitution_is_simultaneous(a, b):
    field = Field((x, y, t))
    p = field.read(a)
    parts = p.collect((x, y))
    assert same(sum(c.expr() * sympy.Mul(*monomial) for monomial, c in parts.items()), a)
    assert all(not c.symbols() & {x, y} for c in parts.values())
    assert same(
        p.substitute({x: field.read(b), y: field.read(x)}).expr(), a.subs({x: b, y: x}, simultaneous=True)
    )


@pytest.mark.parametrize("expr", [1 / x, t / (1 + x)])
def test_what_is_no_polynomial_in_the_generators_is_refused(expr):
    with pytest.raises(ValueError, match="divides by x"):
        Field((x, y, t)).read(expr).collect((x, y))


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        (sqrt(t), "root of t"),
        (sympy.exp(t), "not a known algebraic"),
        (sympy.pi, "not a known algebraic"),
        (sympy.Symbol("w"), "no bounds, or no rules, are given for w"),
        (sympy.sqrt(sqrt(2) - 2), "not real"),
        (1 / (sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3)), "is zero"),
    ],
)
def test_what_is_no_quotient_is_refused(expr, words):
    with pytest.raises(ValueError, match=words):
        Field((t,)).read(expr)


def test_zeros_are_decided_where_roots_and_quotients_hide_them():
    field = Field((x, t))
    assert (field.read(sqrt(2)) * field.read(sqrt(8)) - field.read(Integer(4))).is_zero()
    assert (field.read(1 / (t + 1)) * field.read(t + 1) - field.read(Integer(1))).is_zero()
    hidden = (sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3)) * t
    assert is_zero(hidden)
    assert not is_zero(hidden + Rational(1, 10**300) * t)


# Numbers: signs against 200 digits, which tell all but exact zeros of this size

ROOTS = [
    sqrt(2),
    sqrt(3),
    sqrt(6),
    sqrt(5 + 2 * sqrt(6)),
    sqrt(3 + sqrt(5)),
    Rational(2, 3) ** Rational(1, 3),
]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.fractions(max_denominator=20), min_size=len(ROOTS) + 1, max_size=len(ROOTS) + 1))
def test_sign_of_sums_of_roots(parts):
    value = sum(
        (Rational(p.numerator, p.denominator) * r for p, r in zip(parts, (1, *ROOTS), strict=True)),
        Integer(0),
    )
    digits = sympy.N(value, 200, maxn=500) if value != 0 else 0
    assert number_sign(value) == (0 if abs(digits) < sympy.Float(10) ** -180 else np.sign(digits))


@pytest.mark.parametrize("exponent", [1, 30, 100, 300, 3000])
def test_sign_beside_a_hidden_zero(exponent):
    zero = sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3)
    assert number_sign(zero) == 0
    assert number_sign(10**exponent * zero - 1) == -1
    assert number_sign(10**exponent * zero + Rational(1, 10**exponent)) == 1


def test_inverse_of_a_number_whose_conjugate_vanishes():
    zero = sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3)
    other = sqrt(5 + 2 * sqrt(6)) + sqrt(2) + sqrt(3)  # its norm over the last root is zero
    field = Field(())
    assert field.read(zero * other + 1).sign() == 1
    inverse = field.read(1 / other)
    assert (inverse * field.read(other) - field.read(Integer(1))).is_zero()


def test_a_sum_of_many_roots_is_told_from_a_number_or_undecided():
    primes = list(itertools.islice(sympy.primerange(100), 12))
    assert number_sign(sum(map(sqrt, primes[:6])) - 14) == 1
    with pytest.raises(UndecidedError, match="roots"):
        number_sign(sum(map(sqrt, primes)))


def test_work_is_limited():
    field = Field((x, y, t), work=1000)
    with pytest.raises(UndecidedError, match="budget of work"):
        field.read((x + y + t + 1) ** 9)
    with pytest.raises(UndecidedError, match="terms"):
        Field((x, y, t)).read((x + y + t + 1) ** 64)
    with pytest.raises(UndecidedError, match="power"):
        Field((x,)).read((x + 1) ** 100_000)
    with pytest.raises(UndecidedError, match="power beyond 4096"):
        Field((x,)).read(x**4097)
    assert Field((x,)).read(x**4096).expr() == x**4096


def test_a_field_without_symbols_divides_and_takes_powers():
    third = Field(()).read(Rational(1, 3))
    assert ((third / (third + third)) ** 3).expr() == Rational(1, 8)


# Signs on domains


@pytest.mark.parametrize(
    ("expr", "domain", "holds"),
    [
        (1 / t, (Bound(t, strict=True),), True),
        (1 / t, (Bound(t),), False),  # not defined at 0
        (1 / t**2, (), False),
        (t**3, (Bound(t),), True),
        (t**3, (), False),
        (x**2 * t, (Bound(t),), True),
        (x**2 - Rational(1, 10**9) * t, (Bound(t),), False),
        ((t - 3) / t, (Bound(t, Integer(3)),), True),
        ((t - 3) / t, (Bound(t, Rational(29, 10)),), False),
        (x - 2 * t, (Bound(t), Bound(x, 2 * t)), True),
        (x - 2 * t, (Bound(t), Bound(x, Rational(19, 10) * t)), False),
        (1 / (1 + t) - x, (Bound(t), Bound(x, None, 1 / (1 + t))), True),
        (x * (1 + t) - 1, (Bound(t), Bound(x, 1 / (1 + t), 2 / (1 + t))), True),
        (2 - x * (1 + t), (Bound(t), Bound(x, 1 / (1 + t), 2 / (1 + t))), True),
        (3 - 2 * x * (1 + t), (Bound(t), Bound(x, 1 / (1 + t), 2 / (1 + t))), False),
        (1 / (sqrt(2) + t), (Bound(t),), True),
        (1 / (sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3) + t), (Bound(t),), False),
    ],
)
def test_signs_on_both_sides_of_a_bound(expr, domain, holds):
    assert proves_nonnegative(expr, domain) is holds


def test_semidefinite_matrices_with_parameters():
    rows = sympy.Matrix([[t, 1], [1, 1 / t]])  # of rank one
    assert is_positive_semidefinite(rows, (Bound(t, strict=True),))
    assert not is_positive_semidefinite(rows)
    rows[1, 1] = Rational(999999999, 10**9) / t
    assert not is_positive_semidefinite(rows, (Bound(t, strict=True),))
    rows[0, 1] = 0
    assert not is_positive_semidefinite(rows, (Bound(t, strict=True),))  # not symmetric
    with pytest.raises(ValueError, match="must have 1 columns"):
        is_positive_semidefinite(sympy.Matrix([[1, 2]]))


def test_growth_is_that_for_every_parameter():
    field = Field((y, t))
    element = field.read((y + 1) / (y**2 * t**2 + t))
    assert growth(element, t, Domain(field, (Bound(y, strict=True),))) == -2
    with pytest.raises(ValueError, match="not the same for all parameters"):
        growth(field.read(1 / (y * t**3 + t)), t, Domain(field, (Bound(y),)))


def test_point_of_a_domain():
    found = point_of((Bound(t, strict=True), Bound(x, 1 / t, 2 / t), Bound(y, None, x**2)))
    assert found[t] > 0
    assert 1 / found[t] <= found[x] < 2 / found[t]
    assert found[y] <= found[x] ** 2
    # the width t - 1 vanishes at the first point that is tried
    assert point_of((Bound(t, Integer(0)), Bound(x, Integer(0), (t - 1) ** 2)))[x] > 0
    with pytest.raises(UndecidedError, match="no point"):
        point_of((Bound(t), Bound(x, t, t)))
    with pytest.raises(ValueError, match="zero"):
        point_of((Bound(x, 1 / (sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3))),))


def test_digits_that_cancel_are_in_the_float():
    b = sympy.Integer(2)
    for power in (20, 100, 200):
        small = sympy.Rational(1, 10**power)
        # b - sqrt(b^2 - 4 mu) = 2 mu / b + O(mu^2)
        assert nearest_float(b - sympy.sqrt(b**2 - 4 * small)) == pytest.approx(10.0**-power, rel=1e-15)
    assert nearest_float(sympy.sqrt(8) - 2 * sympy.sqrt(2)) == 0
