"""Loss curves from a measure: both readings, against direct iteration and known residual polynomials."""

from itertools import islice

import numpy as np
import pytest
from curves import mode_of
from zoo import kernel_with, numeric_rules, rule_id, rules_with_memory

from odeopt import (
    Adam,
    GradientDescent,
    HeavyBall,
    NesterovConstant,
    error_dynamics,
    loss_curve,
    ode_limit,
    spectral_measure,
)
from odeopt.rules import AdaGrad, RMSProp, SignDescent
from odeopt.rules.base import iterate
from odeopt.rules.linear import residual_polynomials


@pytest.fixture
def problem():
    rng = np.random.default_rng(3)
    return kernel_with(np.geomspace(1e-2, 1, 10)), rng.standard_normal(10)


@pytest.mark.parametrize("rule", numeric_rules(lr=0.3) + rules_with_memory(lr=0.3), ids=rule_id)
def test_discrete_curve_equals_iterating_the_error_vector(problem, rule):
    kernel, delta0 = problem
    k = [0, 1, 2, 5, 100]
    curve = loss_curve(rule, spectral_measure(kernel, delta0), k)
    run = list(islice(iterate(rule, delta0, lambda z: kernel @ z), 101))
    want = [0.5 * run[i] @ run[i] for i in k]
    # 100 steps of rounding, relative to the initial loss
    np.testing.assert_allclose(curve.loss, want, rtol=1e-11, atol=1e-13 * want[0])


def test_residual_polynomials_of_heavy_ball_are_chebyshev():
    """beta^(k/2) [U_k(s) - sqrt(beta) U_(k-1)(s)], s = (1 + beta - lr lam) / (2 sqrt(beta))."""
    from scipy.special import eval_chebyu

    rule, lam, k = HeavyBall(0.3, 0.6), np.linspace(0.1, 3, 7), np.arange(1, 15)
    sigma = (1 + 0.6 - 0.3 * lam) / (2 * np.sqrt(0.6))
    want = [0.6 ** (j / 2) * (eval_chebyu(j, sigma) - np.sqrt(0.6) * eval_chebyu(j - 1, sigma)) for j in k]
    np.testing.assert_allclose(residual_polynomials(rule, lam, k), want, rtol=0, atol=1e-13)


def test_residual_polynomials_of_constant_nesterov_are_chebyshev():
    from scipy.special import eval_chebyu

    rule, lam, k = NesterovConstant(0.3, 0.6), np.linspace(0.1, 3, 7), np.arange(1, 15)
    w = 1 - 0.3 * lam
    tau = 1.6 * np.sqrt(w) / (2 * np.sqrt(0.6))
    want = [
        (0.6 * w) ** (j / 2) * (eval_chebyu(j, tau) - np.sqrt(0.6 * w) * eval_chebyu(j - 1, tau)) for j in k
    ]
    np.testing.assert_allclose(residual_polynomials(rule, lam, k), want, rtol=0, atol=1e-13)


def test_ode_curve_is_the_quadratic_form_of_the_mode(problem):
    kernel, delta0 = problem
    mode = mode_of(GradientDescent(0.1))
    curve = loss_curve(mode, spectral_measure(kernel, delta0), [0.0, 2.0])
    from scipy.linalg import expm

    error = expm(-2.0 * kernel) @ delta0
    assert curve.loss[1] == pytest.approx(0.5 * error @ error, rel=1e-12)
    assert curve.k[1] == pytest.approx(20.0)
    assert curve.layer == "linear ODE"
    assert curve.rigorous


def test_grid_order_and_repeats_do_not_matter(problem):
    measure = spectral_measure(*problem)
    ordered = loss_curve(HeavyBall(0.3, 0.6), measure, [0, 3, 7]).loss
    shuffled = loss_curve(HeavyBall(0.3, 0.6), measure, [7, 0, 3, 7]).loss
    np.testing.assert_allclose(shuffled, ordered[[2, 0, 1, 2]], rtol=1e-14)  # order of a sum


def test_unstable_iteration_is_reported_by_its_first_infinite_loss():
    measure = spectral_measure(np.eye(2), np.ones(2))
    curve = loss_curve(GradientDescent(12.0), measure, np.arange(400))  # factor -11 a step
    # |1 - lr| = 11: loss 11^(2k) overflows 1.8e308 between k = 147 and 149
    assert 147 <= curve.diverged_at <= 149
    assert np.all(np.isposinf(curve.loss[curve.diverged_at :]))


@pytest.mark.parametrize(
    ("grid", "word"), [([], "nonempty"), ([-1], "nonnegative"), ([0.5], "iteration numbers")]
)
def test_bad_grids_are_refused(problem, grid, word):
    with pytest.raises(ValueError, match=word):
        loss_curve(GradientDescent(0.1), spectral_measure(*problem), grid)


@pytest.mark.parametrize(
    "rule", [SignDescent(0.1), RMSProp(0.1), RMSProp(0.1, eps=0.0), Adam(1e-6), AdaGrad(0.1)], ids=rule_id
)
def test_rules_without_residual_polynomials_are_refused(problem, rule):
    with pytest.raises(ValueError, match=r"is not linear in .* no residual polynomials"):
        loss_curve(rule, spectral_measure(*problem), [0, 1])


def test_symbolic_rule_is_refused(problem):
    import sympy

    with pytest.raises(ValueError, match="holds symbols"):
        loss_curve(GradientDescent(sympy.Symbol("h")), spectral_measure(*problem), [0, 1])


@pytest.mark.parametrize("wrong", [None, "gd", error_dynamics(ode_limit(GradientDescent(0.1)))], ids=type)
def test_what_is_neither_a_mode_nor_a_rule_is_refused(wrong):
    with pytest.raises(ValueError, match=f"got {type(wrong).__name__}; take the rule"):
        loss_curve(wrong, spectral_measure(np.eye(2), [1.0, 1.0]), [0, 1])
