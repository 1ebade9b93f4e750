"""Random linear rules against their own limits: first order on the modes of a quadratic, or a true refusal.

A mode of the rule is a power of the exact matrix of its period, a mode of its limit an exponential: both to
forty digits, so that time steps of 1e-4 to 1e-6 show the order without any rounding.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from drawn_rules import Average, Drawn, draw_rule, in_floats, matrix_of_a_period, start_of

from odeopt import UpdateRule, ode_limit
from odeopt.limits.adaptive import SystemLimit
from odeopt.limits.equation import ODELimit, with_terms
from odeopt.limits.series import GradientDifferential, NoLimitError

# Seeds whose averages and periods take seconds to eliminate.
LONG = (3, 9, 10, 12, 16, 20, 22)
# beside the first: one that holds one number, one whose averages have complex roots, two that are stiff
FEW = [*(seed for seed in range(25) if seed not in LONG), 286, 426, 462, 498]
MODES = (Fraction(1, 2), Fraction(2))
# Multiples of all periods from 1 to 4; two times, where no error is likely to vanish at both.
STEPS, HALVES = (24 * 5_000, 24 * 50_000, 24 * 500_000), (2, 3)
h = sympy.Symbol("h", positive=True)


@pytest.fixture(autouse=True)
def _forty_digits():
    with mpmath.workdps(40):
        yield


# --- the two curves on a mode ----------------------------------------------------------------------------


def on_mode(expr: sympy.Expr, lam: sympy.Rational) -> sympy.Expr:
    """The loss is lam x^2/2: its gradient is lam times the point, its higher derivatives lam or 0."""

    def value(*args):
        return lam * args[min(len(args), 2) - 1] if len(args) < 3 else sympy.Integer(0)

    return expr.replace(GradientDifferential, value)


def linear_system(limit: ODELimit | SystemLimit, lam: Fraction) -> tuple[mpmath.matrix, mpmath.matrix]:
    """Matrix and start of the equation on a mode, in X and its derivatives or in X and the averages."""
    lam, x = sympy.Rational(lam.numerator, lam.denominator), limit.curve
    if isinstance(limit, ODELimit):
        names = [x.diff(limit.t, j) if j else x for j in range(limit.order)]
        top = x.diff(limit.t, limit.order)
        rest = sympy.Add(*(c * on_mode(v, lam) for v, c in limit.terms.items() if v != top))
        rates = [*names[1:], -rest / limit.terms[top]]
        starts = [on_mode(e, lam) for e in (limit.initial_position, *limit.initial)]
    else:
        names = [x, *limit.averages]
        rates = [on_mode(e, lam) for e in (limit.velocity, *limit.averages.values())]
        starts = [x, *(on_mode(limit.initial[m], lam) for m in limit.averages)]
    slots = sympy.symbols(f"s:{len(names)}")
    # the highest derivative first, for X stands inside X'
    swap = list(zip(names, slots, strict=True))[::-1]
    rows = [[sympy.expand(r.subs(swap)).coeff(s) for s in slots] for r in rates]
    assert not any(e.free_symbols for row in rows for e in row), rows
    start = [e.subs(x, 1).subs(limit.t, 0) for e in starts]
    return _matrix(rows), _matrix([[e] for e in start])


def _matrix(rows: list[list[sympy.Expr]]) -> mpmath.matrix:
    return mpmath.matrix(
        [[mpmath.mpf(sympy.Rational(e).p) / sympy.Rational(e).q for e in row] for row in rows]
    )


def power(matrix: np.ndarray, exponent: int) -> np.ndarray:
    """Repeated squaring."""
    product = np.eye(len(matrix), dtype=object)
    while exponent:
        product = product @ matrix if exponent & 1 else product
        matrix, exponent = matrix @ matrix, exponent >> 1
    return product


def gaps(
    drawn: Drawn, limit: ODELimit | SystemLimit, lam: Fraction, n: int, within: int
) -> Iterator[mpmath.mpf]:
    """Iterates less curve, with time step 1/n, at the ends of periods and a few steps later."""
    rule = drawn.rule(Fraction(1, n))
    matrix = in_floats(matrix_of_a_period(rule, lam))
    later = in_floats(matrix_of_a_period(rule, lam, within))
    start = in_floats(np.array([Fraction(v) for v in start_of(rule, 1)], dtype=object))
    system, data = linear_system(limit, lam)
    # where the equation is stiff, times at which the curve is still far above forty digits
    fastest = max(1, mpmath.mnorm(system, 1) / 2)
    count = int(n / (2 * rule.period * fastest))
    half = power(matrix, count)
    for halves in HALVES:
        state = start
        for _ in range(halves):
            state = half @ state
        for x, steps in ((state[0], 0), ((later @ state)[0], within)):
            t = mpmath.mpf(halves * count * rule.period + steps) / n
            yield abs(x - (mpmath.expm(system * t) * data)[0])


def observed_orders(drawn: Drawn, limit: ODELimit | SystemLimit) -> list[float]:
    """Slopes of the largest error over modes and times between successive time steps."""
    within = drawn.rule(h).period - 1
    errors = [max(g for lam in MODES for g in gaps(drawn, limit, lam, n, within)) for n in STEPS]
    return [float(mpmath.log(a / b, 10)) for a, b in itertools.pairwise(errors)]


# --- refusals --------------------------------------------------------------------------------------------


def multipliers(drawn: Drawn, step: Fraction, lam: Fraction) -> list[mpmath.mpc]:
    """Eigenvalues of a period."""
    with mpmath.workdps(120):
        matrix = in_floats(matrix_of_a_period(drawn.rule(step), lam))
        if len(matrix) == 1:  # of which mpmath.eig returns its vectors, too
            return [mpmath.mpc(matrix[0, 0])]
        return mpmath.eig(mpmath.matrix(matrix.tolist()), left=False, right=False)


def rates(drawn: Drawn, lam: Fraction) -> list[mpmath.mpc]:
    """(z - 1)/(p h) for the multipliers near 1 at a tiny h: the exponents of the slow motion."""
    step = Fraction(1, 10**14)
    with mpmath.workdps(120):
        period = drawn.rule(step).period
        return [
            (z - 1) * 10**14 / period
            for z in multipliers(drawn, step, lam)
            if abs(z - 1) < mpmath.mpf("1e-4")
        ]


def has_root_outside(drawn: Drawn) -> bool:
    return max(map(abs, multipliers(drawn, Fraction(0), Fraction(1)))) > 1 + mpmath.mpf("1e-9")


def grows_on_the_circle(drawn: Drawn) -> bool:
    """Whether powers of the period at h = 0, freed of the root 1, grow: a root there is not simple."""
    matrix = matrix_of_a_period(drawn.rule(Fraction(0)), Fraction(1))
    size = len(matrix)
    freed = in_floats(power(matrix - np.eye(size, dtype=object), size))
    matrix = in_floats(matrix)
    early, late = (max(map(abs, (power(matrix, n) @ freed).ravel())) for n in (1000, 4000))
    return not has_root_outside(drawn) and late > 2 * early


def climbs(drawn: Drawn) -> bool:
    """Whether the product of -s over the slow exponents, which is lam times the force, is negative."""
    product = mpmath.mpf(1)
    without = mpmath.mpf(1)
    for s in rates(drawn, Fraction(1)):
        product = -product * s
    for s in rates(drawn, Fraction(0)):
        without = -without * s
    return mpmath.re(product - without) < 0


def grows_without_gradient(drawn: Drawn) -> bool:
    return has_root_outside(drawn) or max(mpmath.re(s) for s in rates(drawn, Fraction(0))) > mpmath.mpf(
        "1e-6"
    )


def ignores_the_gradient(drawn: Drawn) -> bool:
    """Whether the slow exponents tend to those without any loss."""
    one, other = (
        sorted(rates(drawn, lam), key=lambda s: (s.real, s.imag)) for lam in (Fraction(1), Fraction(0))
    )
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) < mpmath.mpf("1e-5")


def outruns_time(drawn: Drawn) -> bool:
    """Whether an exponent grows without bound as h -> 0."""
    return max(map(abs, rates(drawn, Fraction(1)))) > mpmath.mpf(10) ** 4


def keeps_an_average(drawn: Drawn) -> bool:
    """Whether an average keeps its memory as h -> 0: there is slow motion beside that of x."""
    return bool(drawn.averages) and len(rates(drawn, Fraction(1))) > 1


def follows_by_an_average(drawn: Drawn) -> bool:
    """Whether x is pulled to an average that follows it, beside one that keeps its memory."""
    return keeps_an_average(drawn) and any(
        m.kind == "iterates" and not m.slow and m.weight for m in drawn.averages
    )


REASONS = {
    "outside the unit circle": has_root_outside,
    "times, so its iterates grow": grows_on_the_circle,
    "climbs the loss": climbs,
    "so the iterates grow without any gradient": grows_without_gradient,
    "the gradient has dropped out": ignores_the_gradient,
    "nothing to balance it": outruns_time,
    "no equation for the iterates": keeps_an_average,
    "hold an average that only follows x": follows_by_an_average,
}


def verdict(drawn: Drawn) -> str:
    """Order, or the words of a refusal that is true; fails where either is wrong."""
    refusal, limit = "", None
    try:
        limit = ode_limit(drawn.rule(h), h)
    except NoLimitError as error:
        refusal = str(error)
    if limit is None:
        reason = next((words for words in REASONS if words in refusal), None)
        assert reason is not None, refusal
        assert REASONS[reason](drawn), refusal
        return reason
    orders = observed_orders(drawn, limit)
    # an error whose first coefficient vanishes falls faster, which is no less than is claimed
    assert min(orders) > 0.9, (orders, str(limit))
    return "first order" if max(orders) < 1.1 else "higher order"


@pytest.mark.parametrize("seed", FEW)
def test_a_random_rule_follows_its_limit_to_first_order_or_is_refused_for_a_true_reason(seed):
    verdict(draw_rule(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", LONG)
def test_rules_that_take_long_to_eliminate_too(seed):
    verdict(draw_rule(seed))


def test_most_random_rules_have_a_limit():
    refused = 0
    for seed in FEW:
        try:
            ode_limit(draw_rule(seed).rule(h), h)
        except NoLimitError:
            refused += 1
    assert refused <= 5


def test_a_limit_that_is_slightly_wrong_has_no_order():
    drawn = draw_rule(0)
    limit = ode_limit(drawn.rule(h), h)
    gradient = GradientDifferential(limit.curve)
    wrong = with_terms(limit, {**limit.terms, gradient: limit.terms[gradient] * sympy.Rational(1001, 1000)})
    assert max(map(abs, observed_orders(drawn, wrong))) < 0.5


def test_a_correction_of_second_order_is_free_of_the_decaying_root():
    average = Average("gradients", True, Fraction(1), Fraction(1, 5), Fraction(0))
    one, two = (Fraction(1),), (Fraction(2, 5),)
    drawn = Drawn(False, two, *one, (average,), ((Fraction(0),),), one, Fraction(0), one, one, Fraction(0))
    limit, errors = ode_limit(drawn.rule(h), h, resolution=1), []
    for n in STEPS[:2]:
        step = {h: sympy.Rational(1, n)}
        at_step = with_terms(
            limit,
            {v: c.subs(step) for v, c in limit.terms.items()},
            initial_position=limit.initial_position.subs(step),
            initial=tuple(e.subs(step) for e in limit.initial),
        )
        errors.append(max(gaps(drawn, at_step, Fraction(2), n, 0)))
    assert float(mpmath.log(errors[0] / errors[1], 10)) == pytest.approx(2.0, abs=0.1)


@dataclasses.dataclass(frozen=True)
class FarMemory(UpdateRule):
    """x is pulled to an average of the iterates that starts at three times x_0."""

    h: Any

    def initial_memory(self, x0):
        return (3 * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        return x + Fraction(3, 10) * (m - x) - self.h * grad(x), ((m + x) / 2,)


def test_a_memory_that_starts_away_from_rest_has_a_limit_but_no_correction():
    # the left eigenvector of the root 1 weighs x and m as 5 to 3
    limit = ode_limit(FarMemory(h), h)
    assert limit.initial_position == sympy.Rational(7, 4) * limit.curve
    with pytest.raises(NoLimitError, match=r"does not start where the step leaves it at rest.*resolution 0"):
        ode_limit(FarMemory(h), h, resolution=1)


def test_the_third_derivative_at_the_start_is_free_of_the_decaying_root():
    drawn = draw_rule(77)
    assert drawn.inertial and drawn.momenta[1] == Fraction(9, 20)  # which is a root -.45
    limit = ode_limit(drawn.rule(h), h)
    x, g = limit.curve, GradientDifferential(limit.curve)
    # (1 + .45) X" + X'/2 + 1.43 (.23 grad f + .11 X + .18 M) + .08 * (X - Z) = 0; at the start X' = 0, M = 0,
    # M' = 1.14 grad f, Z = X and Z' = 0, so the derivative of this is 1.45 X"' + X"/2 + 1.43 * .18 * M' = 0
    second = -(sympy.Rational("0.3289") * g + sympy.Rational("0.1573") * x) / sympy.Rational("1.45")
    third = -(second / 2 + sympy.Rational("0.293436") * g) / sympy.Rational("1.45")
    assert [sympy.expand(e - v) for e, v in zip(limit.initial, (0, second, third), strict=True)] == [0, 0, 0]
