"""The first iterates of every rule, exactly, and the refusals of bad hyperparameters."""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import sympy
from zoo import numeric_rules, rule_id, rules_with_memory

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    UpdateRule,
)
from odeopt.rules import iterate, sign, sqrt

HALF, QUARTER = Fraction(1, 2), Fraction(1, 4)

# f(x) = x^2/2 from x_0 = 1 with lr = 1/2, worked by hand from the textbook recursions.
FIRST_ITERATES = [
    (GradientDescent(HALF), [1, HALF, QUARTER, Fraction(1, 8), Fraction(1, 16)]),
    # x+ = x/2 + (x - x_)/4
    (HeavyBall(HALF, QUARTER), [1, HALF, Fraction(1, 8), Fraction(-1, 32), Fraction(-7, 128)]),
    # weights 0, 0, 1/4, 2/5 for k = 0..3 and r = 3; x+ = y/2
    (Nesterov(HALF, 3), [1, HALF, QUARTER, Fraction(3, 32), Fraction(1, 64)]),
    # y = x + (x - x_)/4, x+ = y/2
    (NesterovConstant(HALF, QUARTER), [1, HALF, Fraction(3, 16), Fraction(7, 128), Fraction(11, 1024)]),
    # x+ = x/2 + (x - x_)/4 + (x_ - x__)/8
    (
        HigherMomentum(HALF, (QUARTER, Fraction(1, 8))),
        [1, HALF, Fraction(1, 8), Fraction(-3, 32), Fraction(-19, 128)],
    ),
    # d = x - x_; x+ = x + d/4 - (x + d/8)/2 = x/2 + 3d/16
    (
        TripleMomentum(HALF, QUARTER, Fraction(1, 8), 3),
        [1, HALF, Fraction(5, 32), Fraction(7, 512), Fraction(-163, 8192)],
    ),
    # g+ = (g + x)/2; x+ = x - (x/4 + 3 g+/4)/2
    (
        QHM(HALF, HALF, Fraction(3, 4)),
        [1, Fraction(11, 16), Fraction(97, 256), Fraction(611, 4096), Fraction(745, 65536)],
    ),
    # B = 1, then B/4 + x; x+ = x - B/2
    (TorchSGD(HALF, QUARTER), [1, HALF, Fraction(1, 8), Fraction(-1, 32), Fraction(-7, 128)]),
    # B = 1 (undamped), then B/2 + 3x/4; x+ = x - B/2
    (
        TorchSGD(HALF, HALF, dampening=QUARTER),
        [1, HALF, Fraction(1, 16), Fraction(-23, 128), Fraction(-239, 1024)],
    ),
    # B = 1, then B/4 + x; x+ = x - (x + B/4)/2
    (
        TorchSGD(HALF, QUARTER, nesterov=True),
        [1, Fraction(3, 8), Fraction(7, 64), Fraction(11, 512), Fraction(-1, 4096)],
    ),
    # momenta 0, 1/4, 2/5, 1/2; no B in the first step, then B = 1/2, 2B/5 + x, B/2 + x
    (
        TorchSGD(HALF, r=Fraction(3), nesterov=True),
        [1, HALF, Fraction(3, 16), Fraction(13, 800), Fraction(-71, 1600)],
    ),
    # the same momenta; the first step and the first buffer, of the second step, are undamped:
    # x - x/2, B = 1/2, then 2B/5 + 3x/4, B/2 + 3x/4; x+ = x - B/2
    (
        TorchSGD(HALF, dampening=QUARTER, r=Fraction(3)),
        [1, HALF, QUARTER, Fraction(9, 160), Fraction(-79, 1280)],
    ),
    (TorchSGD(HALF), [1, HALF, QUARTER, Fraction(1, 8), Fraction(1, 16)]),
]


@pytest.mark.parametrize(("rule", "expected"), FIRST_ITERATES, ids=lambda v: type(v).__name__)
def test_first_five_iterates_are_exact_in_rational_arithmetic(rule, expected):
    assert list(itertools.islice(iterate(rule, Fraction(1), lambda x: x), 5)) == expected


def test_nesterov_with_r_zero_has_full_momentum_after_the_second_step():
    # weights (k-1)/(k-1) = 1 for k >= 2, and 0 for k = 0, 1
    run = list(itertools.islice(iterate(Nesterov(HALF, 0), Fraction(1), lambda x: x), 4))
    assert run == [1, HALF, QUARTER, 0]


def run_of(rule, num_steps=20, x0=1.0, grad=np.sin):
    return np.array(list(itertools.islice(iterate(rule, x0, grad), num_steps + 1)))


@pytest.mark.parametrize("rule", numeric_rules(0.3) + rules_with_memory(0.3), ids=rule_id)
def test_numbers_arrays_and_sympy_expressions_give_the_same_iterates(rule):
    # 12 steps of a few roundings each
    cubic = run_of(rule, 12, 1.0, lambda x: x + x**3 / 8)
    array = run_of(rule, 12, np.array([1.0, -1.0]), lambda x: x + x**3 / 8)
    np.testing.assert_allclose(array, np.column_stack([cubic, -cubic]), rtol=0, atol=1e-14)
    symbolic = run_of(rule, 4, sympy.Float(1), lambda x: x + x**3 / 8)
    np.testing.assert_allclose(symbolic.astype(float), cubic[:5], rtol=0, atol=1e-14)


def test_triple_momentum_is_tuned_by_the_stated_constants():
    # rho = 1 - sqrt(mu / L) = 1/2
    rule = TripleMomentum.tuned(mu=1, L=4)
    constants = (Fraction(3, 8), Fraction(1, 6), Fraction(1, 9), Fraction(1, 3))
    assert (rule.lr, rule.beta, rule.gamma, rule.delta) == pytest.approx(
        tuple(map(float, constants)), rel=1e-15
    )
    assert TripleMomentum.tuned(3.0, 3.0) == TripleMomentum(1 / 3, 0.0, 0.0, 0.0)


def test_triple_momentum_output_keeps_the_bound_of_its_theorem():
    # f(x_n) - f* <= rho^(2(n+1)) L kappa / 2 |x_0 - x*|^2 for n >= 1 (at n = 0 it is false).
    # Here f(x) = sqrt(1 + x^2) - 1 + x^2/2, whose curvature lies in (1, 2].
    mu, L = 1.0, 2.0
    rule, rho = TripleMomentum.tuned(mu, L), 1 - np.sqrt(mu / L)
    xi = run_of(rule, 12, 2.0, lambda x: x / np.sqrt(1 + x**2) + x)
    x = np.array([rule.output((now, before)) for now, before in zip(xi, [xi[0], *xi[:-1]], strict=True)])
    f = x**2 / (1 + np.sqrt(1 + x**2)) + x**2 / 2  # the same without cancellation
    bound = rho ** (2 * (np.arange(13) + 1)) * L * (L / mu) / 2 * 2.0**2
    assert (f[1:] <= bound[1:]).all()
    assert x[0] == xi[0] == 2.0
    assert np.abs(x - xi)[1] > 0.1


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_qhm_contains_gradient_descent_heavy_ball_and_nesterov(beta):
    lr = 0.4
    plain = run_of(GradientDescent(lr))
    heavy = run_of(HeavyBall((1 - beta) * lr, beta))
    nesterov = run_of(NesterovConstant((1 - beta) * lr, beta))
    look_ahead = nesterov + beta * np.diff(nesterov, prepend=1.0)  # y_k, where the gradient is taken
    for nu, expected in ((0.0, plain), (1.0, heavy), (beta, look_ahead)):
        np.testing.assert_allclose(run_of(QHM(lr, beta, nu)), expected, rtol=0, atol=1e-14)


def test_qhm_runs_the_recursion_of_triple_momentum_at_its_gradient_points():
    rule = TripleMomentum.tuned(1.0, 10.0)
    xi = run_of(rule, 30)
    y = xi + rule.gamma * np.diff(xi, prepend=1.0)
    lr, beta = rule.lr / (1 - rule.beta), rule.beta
    qhm = QHM(lr, beta, 1 - rule.gamma * (1 - beta) / beta)
    # The starts differ (qhm's average begins at 0): the recursion is compared, not the sequence.
    for k in range(2, 30):
        g = np.sin(y[k - 1])
        average = (y[k - 1] - y[k] - lr * (1 - qhm.nu) * g) / (lr * qhm.nu)  # solved from the step
        following, _ = qhm.step(k, (y[k],), (average,), np.sin)
        assert following == pytest.approx(y[k + 1], abs=1e-13)


def test_torch_sgd_is_heavy_ball_or_the_look_ahead_of_nesterov():
    heavy = run_of(HeavyBall(0.3, 0.7))
    np.testing.assert_allclose(run_of(TorchSGD(0.3, 0.7)), heavy, rtol=0, atol=1e-14)
    x = run_of(NesterovConstant(0.3, 0.7))
    look_ahead = x + 0.7 * np.diff(x, prepend=1.0)
    np.testing.assert_allclose(run_of(TorchSGD(0.3, 0.7, nesterov=True)), look_ahead, rtol=0, atol=1e-14)


def test_torch_schedule_obeys_its_own_three_term_recursion_not_the_textbook_one():
    # for k >= 3 (steps counted from 1), d_k = x_{k+1} - x_k,
    # d_k = -s (1 + mu_k) g_k + mu_k^2 / mu_{k-1} (d_{k-1} + s g_{k-1});
    # the textbook has mu_k in place of the quotient.
    s, r = 0.05, 3
    x = np.array([np.nan, *run_of(TorchSGD(s, r=r, nesterov=True), 30)])  # x[k], k = 1, 2, ...
    d, g = np.diff(x), np.sin(x)

    def mu(k):
        return (k - 1) / (k + r - 1)

    for k in range(3, 30):
        common = -s * (1 + mu(k)) * g[k], d[k - 1] + s * g[k - 1]
        assert d[k] == pytest.approx(common[0] + mu(k) ** 2 / mu(k - 1) * common[1], abs=1e-15)
        assert abs(d[k] - (common[0] + mu(k) * common[1])) > 1e-6
    # No buffer in the first step: the second has g_2 alone, not mu_2 g_1 + g_2.
    assert d[2] == pytest.approx(-s * (1 + mu(2)) * g[2], abs=1e-15)


def test_memory_is_a_tuple_of_averages_that_begin_at_zero():
    x0 = np.array([1.0, 2.0])
    for rule, size in (
        (QHM(0.1, 0.5, 0.5), 1),
        (TorchSGD(0.1, 0.5), 1),
        (TorchSGD(0.1, r=3), 1),
        (Adam(0.1), 2),
    ):
        memory = rule.initial_memory(x0)
        assert isinstance(memory, tuple)
        np.testing.assert_array_equal(memory, np.zeros((size, 2)))
        before = [entry.copy() for entry in memory]
        rule.step(3, (x0,), memory, lambda x: x)
        np.testing.assert_array_equal(memory, before)
    assert TorchSGD(0.1).initial_memory(x0) is None


def test_symbolic_iteration_number_reads_the_general_step():
    x, m, k, g = sympy.symbols("x M k g", positive=True)
    lr, mu, tau, r = sympy.symbols("lr mu tau r", positive=True)
    stepped, (buffer,) = TorchSGD(lr, mu, tau).step(k, (x,), (m,), lambda _: g)
    assert sympy.expand(buffer - (mu * m + (1 - tau) * g)) == 0
    assert sympy.expand(stepped - (x - lr * buffer)) == 0
    _, (buffer,) = TorchSGD(lr, r=r).step(k, (x,), (m,), lambda _: g)
    assert sympy.simplify(buffer - (k / (k + r) * m + g)) == 0


def test_root_and_sign_of_every_kind_of_object():
    assert sqrt(Fraction(9, 16)) == Fraction(3, 4)
    assert isinstance(sqrt(Fraction(9, 16)), Fraction)
    assert sqrt(Fraction(1, 2)) == pytest.approx(np.sqrt(0.5), rel=1e-15)
    assert (sqrt(4), sqrt(2.25), sqrt(np.float64(0.25))) == (2, 1.5, 0.5)
    np.testing.assert_array_equal(sqrt(np.array([4.0, 0.25])), [2.0, 0.5])
    x = sympy.Symbol("x", real=True)
    assert sqrt(x) == sympy.sqrt(x)
    assert sqrt(sympy.Integer(2)) ** 2 == 2  # exact, no Float
    assert sign(x) == sympy.sign(x)
    assert [sign(v) for v in (-2.5, 0.0, Fraction(1, 3), -1)] == [-1, 0, 1, -1]
    assert np.isnan(sign(float("nan")))
    np.testing.assert_array_equal(sign(np.array([-2.0, 0.0, 3.0])), [-1.0, 0.0, 1.0])


def test_higher_momentum_with_one_momentum_is_heavy_ball():
    pair = HeavyBall(0.1, 0.7), HigherMomentum(0.1, (0.7,))
    runs = [list(itertools.islice(iterate(rule, 1.0, lambda x: 3 * x), 20)) for rule in pair]
    assert runs[0] == pytest.approx(runs[1], rel=1e-15)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(0.0), ["lr", "0.0", "lr > 0"]),
        (lambda: GradientDescent(float("nan")), ["lr", "nan", "finite"]),
        (lambda: GradientDescent(True), ["lr", "True", "bool"]),
        (lambda: GradientDescent("0.1"), ["lr", "'0.1'", "str"]),
        (lambda: HeavyBall(0.1, 1.0), ["momentum", "1.0", "[0, 1)"]),
        (lambda: HeavyBall(0.1, -0.1), ["momentum", "-0.1"]),
        (lambda: NesterovConstant(0.1, 2), ["momentum", "2"]),
        (lambda: Nesterov(0.1, -1), ["r must be nonnegative", "-1"]),
        (lambda: HigherMomentum(0.1, ()), ["momenta", "empty"]),
        (lambda: HigherMomentum(0.1, (0.6, 0.6)), ["momenta", "modulus", "1.1"]),
        (lambda: TripleMomentum(0.1, 1.0, 0.5, 0.5), ["beta", "1.0", "[0, 1)"]),
        (lambda: TripleMomentum.tuned(0.0, 1.0), ["mu must be positive", "0.0"]),
        (lambda: TripleMomentum.tuned(2.0, 1.0), ["L must be at least mu", "2.0", "1.0"]),
        (lambda: TripleMomentum.tuned(1.0, float("inf")), ["L must be a finite number", "inf"]),
        (lambda: QHM(0.1, 1.0, 0.5), ["momentum", "1.0", "[0, 1)"]),
        (lambda: QHM(0.1, 0.5, 1.5), ["nu", "1.5", "[0, 1]"]),
        (lambda: TorchSGD(0.1, 1.0), ["momentum", "1.0", "[0, 1)"]),
        (lambda: TorchSGD(0.1, 0.5, dampening=1.0), ["dampening", "1.0", "[0, 1)"]),
        (lambda: TorchSGD(0.1, nesterov=True), ["nesterov", "momentum = 0", "set one of them"]),
        (lambda: TorchSGD(0.1, 0.5, 0.1, nesterov=True), ["nesterov", "dampening = 0", "0.1"]),
        (lambda: TorchSGD(0.1, 0.5, nesterov=1), ["nesterov must be True or False", "1"]),
        (lambda: TorchSGD(0.1, 0.5, r=3), ["momentum = 0.5", "r = 3", "leave one of them out"]),
        (lambda: TorchSGD(0.1, r=0), ["r must be positive", "0/0"]),
        (lambda: TorchSGD(0.1, momentum=None), ["momentum must be a real number", "None"]),
    ],
)
def test_bad_hyperparameters_are_refused_by_name_value_and_remedy(make, words):
    with pytest.raises(ValueError) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_momenta_summing_to_one_are_allowed_and_just_beyond_refused():
    HigherMomentum(0.1, (0.2, 0.8))
    with pytest.raises(ValueError, match="modulus"):
        HigherMomentum(0.1, (0.2, 0.8 + 1e-6))


def test_at_substitutes_numbers_and_reports_what_is_left():
    h, b = sympy.symbols("h b", positive=True)
    rule = HigherMomentum(h**2, (1 - 4 * b * h, b))
    assert rule.at({h: 0.5, b: 0.125}) == HigherMomentum(0.25, (0.75, 0.125))
    with pytest.raises(ValueError, match="leaves b free"):
        rule.at({h: 0.5})


def test_switches_and_options_left_out_are_no_hyperparameters():
    rule = TorchSGD(0.1, 0.5, nesterov=True)
    assert rule.hyperparameters == {"lr": 0.1, "momentum": 0.5, "dampening": 0}
    assert rule.is_numeric
    assert rule.label == "TorchSGD(lr=0.1, momentum=0.5, dampening=0, nesterov=True)"
    assert rule.exact() == TorchSGD(sympy.Rational(1, 10), sympy.Rational(1, 2), 0, nesterov=True)
    h, r = sympy.symbols("h r", positive=True)
    assert TorchSGD(h**2, r=r).at({h: 0.5, r: 3}) == TorchSGD(0.25, r=3)
    assert not TorchSGD(0.25, r=r).is_numeric
    assert Adam(0.1, bias_correction=False).label.endswith("eps=1e-08, bias_correction=False)")


@pytest.mark.parametrize(
    "rule",
    [
        TripleMomentum.tuned(1.0, 9.0),
        QHM(0.5, 0.9, 0.7),
        TorchSGD(0.1, 0.9),
        TorchSGD(0.1, 0.9, 0.25),
        Adam(0.01),
    ],
    ids=rule_id,
)
def test_scaling_embeds_the_rule_in_a_family_that_meets_it_again(rule):
    h = sympy.Symbol("h", positive=True)
    family, values, time_step = rule.scaling(h)
    met = family.at(values | {h: time_step})
    for name, value in rule.hyperparameters.items():
        assert getattr(met, name) == pytest.approx(value, rel=1e-13)
    assert rule.scaling(h, "fixed") is None


def test_a_user_rule_needs_only_step_history_and_hyperparameters():
    @dataclass(frozen=True)
    class Damped(UpdateRule):
        lr: float
        history = 2

        def step(self, k, iterates, memory, grad):
            x, x_prev = iterates
            return (x + x_prev) / 2 - self.lr * grad(x), memory

    run = list(itertools.islice(iterate(Damped(0.5), 1.0, lambda x: x), 3))
    assert run == [1.0, 0.5, 0.5]
    assert Damped(0.5).is_numeric
    with pytest.raises(ValueError, match="lr must be positive"):
        Damped(-1.0)
