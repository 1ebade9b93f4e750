"""Where decayed rules end, at what rate, and up to which learning rate: solved from the step itself."""

import numpy as np
import pytest
import sympy

from odeopt import (
    QHM,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    discrete_rate,
    loss_curve,
    max_learning_rate,
    spectral_measure,
)
from odeopt.rules import Averaged, Cosine, ScheduleFree, spectral_radius
from odeopt.spectra import fixed_point

JACOBIAN = np.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 2]])
WEIGHTS, TARGETS = np.array([1, -1, 2, 0.5]), np.array([1.0, 0, -1])
DELTA0 = np.array([0.5, -1, 2]) - TARGETS
KERNEL, ORIGIN = JACOBIAN @ JACOBIAN.T, JACOBIAN @ WEIGHTS
MEASURE = spectral_measure(KERNEL, DELTA0, origin=ORIGIN)
# of numbers stated with eight or ten decimals
STATED = 6e-11
BETA, OMEGA, RATE, GAMMA = sympy.symbols("beta omega eta gamma", positive=True)
PLAIN = [
    GradientDescent(0.1),
    HeavyBall(0.1, 0.8),
    NesterovConstant(0.1, 0.8),
    QHM(0.1, 0.8, 0.6),
    TorchSGD(lr=0.1, momentum=0.8, nesterov=True),
    Averaged(HeavyBall(0.1, 0.8), decay=0.9),
]


def test_the_fixed_point_of_coupled_decay_is_the_stated_ridge_solution():
    found = fixed_point(GradientDescent(0.05, weight_decay=0.3))
    expected = [-0.42881745, -0.43340987, 0.36969001]
    np.testing.assert_allclose(found.error(KERNEL, DELTA0, ORIGIN), expected, atol=6e-9)
    assert found.loss(MEASURE) == pytest.approx(0.2541996148, abs=STATED)
    decoupled = fixed_point(HeavyBall(0.05, 0.9, weight_decay=0.3, decoupled=True))
    assert decoupled.loss(MEASURE) == pytest.approx(0.0034836296, abs=STATED)


def test_where_q_is_minus_the_targets_the_predictions_are_kernel_ridge_regression():
    """J w_0 = u_0, as for networks homogeneous of degree 1 in what is trained."""
    u0 = DELTA0 + TARGETS
    end = fixed_point(HeavyBall(0.05, 0.9, weight_decay=0.3)).error(KERNEL, DELTA0, u0) + TARGETS
    ridge = KERNEL @ np.linalg.solve(KERNEL + 0.3 * np.eye(3), TARGETS)
    np.testing.assert_allclose(end, ridge, rtol=1e-12)


@pytest.mark.parametrize("rule", PLAIN, ids=lambda rule: rule.label)
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("to_start", [False, True])
def test_runs_end_in_the_fixed_point(rule, decoupled, to_start):
    rule = rule.replace(weight_decay=0.2, decoupled=decoupled, to_start=to_start)
    # the slowest root is 0.98: after 2500 steps 1e-22 is left
    curve = loss_curve(rule, MEASURE, [2500], bounds=False)
    np.testing.assert_allclose(curve.loss[0], fixed_point(rule).loss(MEASURE), rtol=1e-11)


@pytest.mark.parametrize(
    ("rule", "pull"),
    [
        (GradientDescent(RATE, weight_decay=GAMMA), GAMMA),
        (HeavyBall(RATE, BETA, weight_decay=GAMMA), GAMMA),
        (HeavyBall(RATE, BETA, weight_decay=OMEGA, decoupled=True), (1 - BETA) * OMEGA),
        (TorchSGD(lr=RATE, momentum=BETA, weight_decay=OMEGA, decoupled=True), (1 - BETA) * OMEGA),
        (QHM(RATE, BETA, 1, weight_decay=OMEGA, decoupled=True), OMEGA),
    ],
)
def test_the_ridge_of_symbols_is_the_known_one(rule, pull):
    found = fixed_point(rule)
    assert found.of_start == 0
    assert sympy.simplify(found.of_origin - pull / (found.lam + pull)) == 0
    end = fixed_point(rule.replace(to_start=True))
    assert end.of_origin == 0
    assert sympy.simplify(end.of_start - pull / (end.lam + pull)) == 0


def test_what_no_gradient_moves_stays_without_decay_and_decays_with_it():
    kernel, measure = (
        np.diag([0.0, 1.0]),
        spectral_measure(np.diag([0.0, 1.0]), [2.0, 1.0], origin=[1.0, 0.0]),
    )
    assert fixed_point(HeavyBall(0.1, 0.5)).loss(measure) == pytest.approx(2.0, rel=1e-14)
    # J w_0 of an unseen direction is 0 in a model; a measure takes what it is given: delta = q = 1 there
    decayed = fixed_point(HeavyBall(0.1, 0.5, weight_decay=1.0)).error(kernel, [2.0, 1.0], [1.0, 0.0])
    np.testing.assert_allclose(decayed, [1.0, 0.5], rtol=1e-14)


def test_rules_without_a_fixed_point_are_refused():
    with pytest.raises(ValueError, match=r"schedules.*at_step"):
        fixed_point(GradientDescent(Cosine(0.1, 10), weight_decay=0.1))
    with pytest.raises(ValueError, match="no fixed point"):
        fixed_point(ScheduleFree(0.1))
    with pytest.raises(ValueError, match="depends on J w_0"):
        fixed_point(GradientDescent(0.1, weight_decay=0.1)).loss(spectral_measure(KERNEL, DELTA0))


# --- rate and limit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("to_start", [False, True])
def test_the_rate_is_that_of_the_distance_to_the_fixed_point(to_start):
    rate = discrete_rate(GradientDescent(0.1, weight_decay=0.5, to_start=to_start), 1.0, 4.0)
    assert rate.value == pytest.approx(-2 * np.log(1 - 0.15), rel=1e-12)
    assert "distance to the fixed point" in rate.note


LAM = 2.0
LIMITS = [
    (GradientDescent(0.1, weight_decay=0.5), 2 / 2.5),
    (HeavyBall(0.1, 0.8, weight_decay=0.5), 2 * 1.8 / 2.5),
    (TorchSGD(lr=0.1, momentum=0.8, weight_decay=0.5), 2 * 1.8 / 2.5),
    # e < (2 - o)(1 + beta) with e = lr lam, o = lr omega
    (HeavyBall(0.1, 0.8, weight_decay=0.5, decoupled=True), 2 * 1.8 / (2 + 1.8 * 0.5)),
    (TorchSGD(lr=0.1, momentum=0.8, weight_decay=0.5, decoupled=True), 2 * 1.8 / (2 + 1.8 * 0.5)),
]


@pytest.mark.parametrize(("rule", "limit"), LIMITS, ids=lambda value: getattr(value, "label", value))
@pytest.mark.parametrize("to_start", [False, True])
def test_the_largest_learning_rate_counts_the_decay(rule, limit, to_start):
    rule = rule.replace(to_start=to_start)
    assert max_learning_rate(rule, LAM) == pytest.approx(limit, rel=1e-12)
    below, above = (spectral_radius(rule.replace(lr=limit * share), [LAM])[0] for share in (0.999, 1.001))
    assert below < 1 < above
    measure = spectral_measure(np.diag([0.5, LAM]), [1.0, 1.0], origin=[1.0, -1.0])
    for share, grows in ((0.99, False), (1.01, True)):
        curve = loss_curve(rule.replace(lr=limit * share), measure, [0, 4000], bounds=False)
        assert (curve.loss[1] > 1e3) == grows


def test_decay_makes_directions_without_curvature_stable_or_not():
    """At lam = 0 coupled decay leaves 1 - lr gamma, unstable at large rates before the kernel is."""
    assert max_learning_rate(GradientDescent(0.1, weight_decay=50.0), 1e-3) == pytest.approx(
        2 / 50.001, rel=1e-12
    )
    assert max_learning_rate(Nesterov(0.1, r=3, weight_decay=0.5), LAM) == pytest.approx(
        4 / 3 / 2.5, rel=1e-9
    )


def test_a_fixed_point_at_positive_eigenvalues_alone_has_a_loss_there():
    # momentum 1 in the end: x = y - o x with the gradient 0 at y = (1 + o) x, o = lr * omega = 0.03
    found = fixed_point(Nesterov(0.1, weight_decay=0.3, decoupled=True))
    measure = spectral_measure(np.diag([1.0, 2.0]), [1.0, 1.0], origin=[0.5, 0.2])
    np.testing.assert_allclose(found.loss(measure), 0.5 * (0.03 / 1.03) ** 2 * (0.25 + 0.64), rtol=1e-13)
    with pytest.raises(ValueError, match="no fixed point"):
        found.values([0.0, 1.0])
