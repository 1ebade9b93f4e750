"""Tuned hyperparameters against the spectral radius; steps to a loss; the effective dimension."""

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator
from zoo import kernel_with

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TripleMomentum,
    discrete_rate,
    loss_curve,
    max_learning_rate,
    spectral_measure,
    tune,
)
from odeopt.rates import steps_to, tune_for
from odeopt.spectra import effective_dimension

RADII = {
    GradientDescent: lambda kappa: (kappa - 1) / (kappa + 1),
    HeavyBall: lambda kappa: (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1),
    NesterovConstant: lambda kappa: 1 - 2 / np.sqrt(3 * kappa + 1),
    TripleMomentum: lambda kappa: 1 - 1 / np.sqrt(kappa),
}
TYPES = pytest.mark.parametrize("rule_type", RADII)


@TYPES
@pytest.mark.parametrize(("mu", "L"), [(1.0, 4.0), (0.01, 3.0), (1e-3, 500.0)])
def test_tuned_rules_have_the_stated_spectral_radius(rule_type, mu, L):
    rate = discrete_rate(tune(rule_type, mu, L), mu, L)
    # Double roots at the ends of the interval are accurate to sqrt(eps), beside the scan of [mu, L].
    assert np.exp(-rate.value / 2) == pytest.approx(RADII[rule_type](L / mu), abs=2e-7)


@pytest.mark.parametrize("rule_type", [GradientDescent, HeavyBall, NesterovConstant])
def test_no_neighbour_of_a_tuned_rule_is_faster(rule_type):
    """Those tuned for quadratics; triple momentum is tuned for more, and beaten on quadratics."""
    mu, L = 0.05, 3.0
    best = tune(rule_type, mu, L)
    rate = discrete_rate(best, mu, L).value
    for name in best.hyperparameters:
        for factor in (0.97, 0.995, 1.005, 1.03):
            other = best.replace(**{name: getattr(best, name) * factor})
            assert discrete_rate(other, mu, L).value < rate + 1e-6  # accuracy of the double roots


@TYPES
def test_one_curvature_needs_one_step_or_none_of_momentum(rule_type):
    rule = tune(rule_type, 2.0, 2.0)
    assert rule.lr == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((HeavyBall, 0.0, 1.0), ["mu", "positive", "0.0"]),
        ((HeavyBall, 2.0, 1.0), ["L", "at least mu"]),
        ((HigherMomentum, 1.0, 2.0), ["HigherMomentum", "HeavyBall"]),
        ((Nesterov, 1.0, 2.0), ["Nesterov", "choose among"]),
    ],
)
def test_bad_tuning_is_refused(arguments, words):
    with pytest.raises(ValueError) as error:
        tune(*arguments)
    for word in words:
        assert word in str(error.value)


@pytest.fixture(scope="module")
def measure():
    lam = np.geomspace(1e-4, 1, 60)
    return spectral_measure(np.diag(lam), np.sqrt(lam))


@pytest.mark.parametrize("rule_type", [*RADII, Nesterov])
@pytest.mark.parametrize("steps", [5, 60])
def test_tuning_for_a_measure_beats_every_interval_and_stays_stable(measure, rule_type, steps):
    best = tune_for(rule_type, measure, steps)
    loss = loss_curve(best, measure, [steps]).loss[0]
    if rule_type is Nesterov:
        others = [Nesterov(c, 3) for c in (0.5, 1.0, 4 / 3)]
    else:
        others = [tune(rule_type, mu, 1.0) for mu in np.geomspace(1e-4, 0.9, 17)]
    # the search ends at 1e-9 of log L
    assert all(loss <= loss_curve(other, measure, [steps]).loss[0] * (1 + 1e-6) for other in others)
    assert best.lr <= max_learning_rate(best, 1.0) * (1 + 1e-12)


def test_best_gradient_descent_for_one_step_is_the_line_search(measure):
    # minimise sum w (1 - c lam)^2: c = sum w lam / sum w lam^2
    first, second = (measure.integrate(lambda lam, p=p: lam**p) for p in (1, 2))
    assert tune_for(GradientDescent, measure, 1).lr == pytest.approx(first / second, rel=1e-4)  # sqrt(fatol)


@pytest.mark.parametrize("steps", [0, 1.5, True])
def test_bad_numbers_of_steps_are_refused(measure, steps):
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1"):
        tune_for(HeavyBall, measure, steps)


@pytest.mark.parametrize("rule", [GradientDescent(1.0), HeavyBall(1.0, 0.8), Nesterov(1.0, 3)])
def test_steps_to_a_loss_are_the_first_with_it(measure, rule):
    target = 0.01 * measure.mass / 2
    found = steps_to(rule, measure, target)
    curve = loss_curve(rule, measure, np.arange(found.value + 1)).loss
    assert curve[-1] <= target < curve[:-1].min()
    assert (found.low, found.high, found.rigorous) == (found.value, found.value, True)


@pytest.mark.parametrize("rule", [GradientDescent(1.0), HeavyBall(1.0, 0.9)])
def test_bounds_on_steps_enclose_the_true_number(rule):
    lam = np.geomspace(1e-3, 1, 400)
    delta0 = np.random.default_rng(0).standard_normal(400)
    exact = spectral_measure(np.diag(lam), delta0)
    target = 0.1 * exact.mass / 2
    true = steps_to(rule, exact, target).value
    found = steps_to(rule, spectral_measure(np.diag(lam), delta0, num_matvecs=25), target)
    assert found.rigorous
    assert found.low <= true <= found.high


def test_a_loss_out_of_reach_is_no_step(measure):
    found = steps_to(GradientDescent(1.0), measure, 1e-30, max_steps=50)
    assert (found.value, found.high, str(found)) == (None, None, "not reached")
    assert steps_to(HeavyBall(50.0, 0.5), measure, 1e-3).value is None  # unstable


def test_a_curve_is_read(measure):
    curve = loss_curve(GradientDescent(1.0), measure, [0, 10, 100])
    assert steps_to(curve, None, curve.loss[1]).value == 10
    with pytest.raises(ValueError, match="a rule needs the measure"):
        steps_to(GradientDescent(1.0), None, 1e-3)


@pytest.mark.parametrize("loss", [0.0, -1.0, float("nan"), "1"])
def test_bad_losses_are_refused(measure, loss):
    with pytest.raises(ValueError, match="loss must be a positive number"):
        steps_to(GradientDescent(1.0), measure, loss)


def test_effective_dimension_from_eigenvalues_and_from_probes():
    lam = np.geomspace(1e-4, 10, 120)
    kernel = kernel_with(lam)
    exact = effective_dimension(kernel, 0.05)
    assert exact.value == pytest.approx(np.sum(lam / (lam + 0.05)), rel=1e-10)
    found = effective_dimension(aslinearoperator(kernel), 0.05, probes=40, num_matvecs=40)
    # Hutchinson: the seed is fixed, and 4 standard errors are exceeded with probability 1e-4
    assert abs(found.value - exact.value) < 4 * found.standard_error < 0.1 * exact.value


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"ridge": 0.0}, "ridge must be a positive number"),
        ({"ridge": 1.0, "probes": 1}, "probes must be an integer of at least 2"),
    ],
)
def test_bad_dimensions_are_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        effective_dimension(np.eye(3), **arguments)
    with pytest.raises(ValueError, match="probes are needed"):
        effective_dimension(aslinearoperator(np.eye(3)), 1.0)
