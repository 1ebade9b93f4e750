"""Forms of certificates that are kept: derived for symbols, right at numbers, never those of another step."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from flint import fmpq
from sympy import Integer, Rational, Symbol, sqrt

from odeopt import HeavyBall, certify
from odeopt.proofs.flow import Flow, Iteration, g0
from odeopt.proofs.form import Form, derived, in_symbols
from odeopt.proofs.functions import strongly_convex
from odeopt.rules import UpdateRule

PAIRS = ("A(0,1)", "A(1,0)", "A(0,*)", "A(*,0)", "A(1,*)", "A(*,1)")
OF_FLOWS = (("A(*,x)", "A(x,*)"), ("G(x)",))
CASES = {
    "second order": (Flow((Rational(19, 10),), Integer(3)), Rational(1, 7), 12),
    "any smoothness": (Flow((Integer(2),), Rational(5, 2)), 1, None),
    "Hessian": (Flow((Integer(2),), Integer(1), Rational(1, 10)), 1, 10),
    "third order": (Flow((Integer(6), Integer(5)), Rational(2, 3)), 1, 2),
    "heavy ball": (Iteration(Rational(1, 10), Rational(3, 10)), 1, 4),
    "triple": (Iteration(Rational(1, 10), Rational(3, 10), Rational(1, 7)), Rational(1, 3), 4),
    "extrapolation alone": (Iteration(Rational(1, 10), Integer(0), Rational(1, 7)), 1, 4),
}


def numbers(values):
    return {s: fmpq(int(e.p), int(e.q)) for s, e in values.items()}


def given(flow):
    """What a search asks of the form of this flow."""
    if isinstance(flow, Flow):
        return (flow.state, *OF_FLOWS)
    return ((*flow.state, g0), PAIRS, ("A(0,*)",))


@pytest.mark.parametrize("case", CASES)
def test_a_form_for_symbols_is_at_numbers_the_one_that_is_derived_from_the_numbers(case):
    flow, mu, L = CASES[case]
    functions = strongly_convex(Rational(mu), None if L is None else Rational(L))
    general_flow, general_functions, values = in_symbols(flow, functions)
    general = Form(general_flow, general_functions, *given(flow))
    own = Form(flow, functions, *given(flow))
    at = general.values(numbers(values))
    assert general.is_that_of(at)
    assert general.parameters
    assert not own.parameters
    # both are quotients of integers, rounded once
    np.testing.assert_array_equal(general.matrices(at), own.matrices(own.values({})))


def test_roots_in_the_numbers_of_a_flow_enter_as_fractions_near_them():
    flow, functions = Flow((sqrt(3),), sqrt(2)), strongly_convex(Integer(1), sqrt(7))
    own = Form(flow, functions, *given(flow))
    general_flow, general_functions, values = in_symbols(flow, functions)
    general = Form(general_flow, general_functions, *given(flow))
    near = {s: fmpq(math.isqrt(int(e**2) * 10**80), 10**40) for s, e in values.items()}
    # the fractions are near to 1e-40, so that each entry differs by its rounding alone
    np.testing.assert_allclose(
        own.matrices(own.values({})), general.matrices(general.values(near)), rtol=3e-16
    )


def test_where_a_diagonal_entry_vanishes_the_form_is_another():
    flow, functions, values = in_symbols(
        Flow((Integer(2),), hessian=Rational(1, 10)), strongly_convex(Integer(1))
    )
    form, at = Form(flow, functions, *given(flow)), numbers(values)
    assert form.is_that_of(form.values(at))
    assert not form.is_that_of(form.values(at | {Symbol("hessian", real=True): fmpq(0)}))


def test_the_same_rule_at_other_numbers_derives_nothing_anew():
    certify(HeavyBall(lr=0.1, momentum=0.3), mu=1, L=4)
    before = derived.cache_info().misses
    certificate = certify(HeavyBall(lr=0.12, momentum=0.25), mu=1, L=5)
    assert derived.cache_info().misses == before
    assert certificate.flow == Iteration(Rational(3, 25), Rational(1, 4))
    assert certificate.verify()


def edited(extrapolation):
    """A rule of one name, in two states of its source."""

    @dataclass(frozen=True)
    class Mine(UpdateRule):
        lr: float = 0.1
        history = 2

        def step(self, k, x, memory, grad):
            point = x[0] + extrapolation * (x[0] - x[1])
            return x[0] + 0.3 * (x[0] - x[1]) - self.lr * grad(point), memory

    return Mine()


def test_an_edited_rule_of_the_same_name_meets_its_own_form():
    first, second = (certify(edited(e), mu=1, L=4) for e in (0, 0.2))
    assert (first.flow.gamma, second.flow.gamma) == (0, Rational(1, 5))
    assert first.verify()
    assert second.verify()
    assert first.rate != second.rate
