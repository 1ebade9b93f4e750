"""Exact polynomials against sympy's own expansion, and signs proved term by term."""

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Integer, Rational, sqrt

from odeopt.proofs.exact.polynomials import read, total
from odeopt.proofs.exact.signs import Bound, is_positive_semidefinite, is_zero, proves_nonnegative
from odeopt.proofs.identity import growth

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


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_arithmetic_is_that_of_sympy(a, b):
    p, q = read(a), read(b)
    assert same(p.expr(), a)
    assert same((p + q).expr(), a + b)
    assert same((p - q).expr(), a - b)
    assert same((p * q).expr(), a * b)
    assert same(p.diff(t).expr(), sympy.diff(a, t))
    assert same(total((p, q, -p)).expr(), b)
    assert is_zero(p - read(sympy.expand(a)))


@settings(max_examples=40, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_coefficients_add_up_and_substitution_is_simultaneous(a, b):
    p = read(a)
    parts = p.collect((x, y))
    assert same(sum(c.expr() * sympy.Mul(*monomial) for monomial, c in parts.items()), a)
    assert all(not c.symbols() & {x, y} for c in parts.values())
    assert same(p.substitute({x: read(b), y: read(x)}).expr(), a.subs({x: b, y: x}, simultaneous=True))


@pytest.mark.parametrize("expr", [1 / x, t / (1 + x), sqrt(x), x * sympy.exp(y)])
def test_what_is_no_polynomial_in_the_generators_is_refused(expr):
    with pytest.raises(ValueError, match="is no polynomial in x, y"):
        read(expr).collect((x, y))


def test_zeros_are_decided_where_atoms_hide_them():
    hidden = read(sqrt(2) * sqrt(8) - 4 + x) - read(x)
    quotient = read(1 / (t + 1)) * read(t + 1) - read(Integer(1))
    assert not quotient.is_plain  # it has terms, and yet is zero
    assert is_zero(hidden)
    assert is_zero(quotient)
    assert not is_zero(quotient + read(Rational(1, 10**9) * t))


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
        ((t - 3) / t, (Bound(t, Integer(3)),), True),  # through the quotient of the slack
        ((t - 3) / t, (Bound(t, Rational(29, 10)),), False),
        (x - 2 * t, (Bound(t), Bound(x, 2 * t)), True),
        (x - 2 * t, (Bound(t), Bound(x, Rational(19, 10) * t)), False),
    ],
)
def test_signs_on_both_sides_of_a_bound(expr, domain, holds):
    assert proves_nonnegative(expr, domain) is holds
    assert proves_nonnegative(read(expr), domain) is holds


def test_semidefinite_rows_with_parameters():
    rows = [[read(t), read(Integer(1))], [read(Integer(1)), read(1 / t)]]  # of rank one
    assert is_positive_semidefinite(rows, (Bound(t, strict=True),))
    assert not is_positive_semidefinite(rows)
    rows[1][1] = read(Rational(999999999, 10**9) / t)
    assert not is_positive_semidefinite(rows, (Bound(t, strict=True),))
    rows[0][1] = read(Integer(0))
    assert not is_positive_semidefinite(rows, (Bound(t, strict=True),))  # not symmetric


def test_a_hidden_zero_keeps_no_denominator_from_zero():
    hidden = sqrt(5 + 2 * sqrt(6)) - sqrt(2) - sqrt(3)
    assert not proves_nonnegative(1 / (hidden + t), (Bound(t),))
    assert proves_nonnegative(1 / (sqrt(2) + t), (Bound(t),))


def test_growth_is_that_for_every_parameter():
    assert growth((y + 1) / (y**2 * t**2 + t), t, (Bound(y, strict=True),)) == -2
    with pytest.raises(ValueError, match="not the same for all parameters"):
        growth(1 / (y * t**3 + t), t, (Bound(y),))


def test_products_too_long_for_a_proof_are_refused():
    with pytest.raises(ValueError, match="terms"):
        read((x + y + t + 1) ** 64)
