"""The loss of a network is foretold before it is trained: the headline of benchmarks/predicted_training.py.

Limits without another reason are those of an independent study of the same question (60 digits, first layer
trained, loss down to 1e-4): 0.003 of the initial loss at width 4096, 0.0015 at 16384, and there 15 % of the
current loss. They are means over networks; one network scatters by a fifth of them.
"""

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

METHODS = ("GD", "HB", "NAG")


@pytest.fixture(scope="module")
def study():
    """The script, whose functions are used here as it uses them."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("predicted_training")
    finally:
        sys.path.remove(folder)


def deviations(study, problem, width, seeds, fall):
    """Method to deviations from the prediction, shape (seeds, 2): of the initial and of the current loss."""
    lam = np.linalg.eigvalsh(study.relu_gram(problem.x))[[0, -1]]
    found = {method: [] for method in METHODS}
    for seed in range(seeds):
        for method, rule in study.rules(*lam).items():
            net = study.of_width(problem, width, seed)
            kernel = study.empirical_gram(net, problem.x)
            run, predicted = study.trained(net, rule, problem, kernel, fall)
            assert run.loss.min() < run.loss[0] / fall
            found[method].append(study.deviation(run.loss, predicted, fall))
    return {method: np.array(values) for method, values in found.items()}


def one_network(study, name, size, method, fall=100):
    """Figures of one network at its own learning rate, as in the table of networks."""
    problem = study.digits()
    operator = study.empirical_operator(study.NETWORKS[name](size, 0), problem.x)
    rule = study.rules(*np.linalg.eigvalsh(operator.gram())[[0, -1]])[method]
    net = study.NETWORKS[name](size, 0)
    run, predicted = study.trained(net, rule, problem, operator.gram(), fall)
    assert run.loss.min() < run.loss[0] / fall
    return net, run, predicted, operator


def test_loss_of_a_wide_network_is_foretold_over_a_fall_of_a_hundred(study):
    for method, values in deviations(study, study.digits(), 4096, 2, 100).items():
        assert values[:, 0].mean() < 0.003, method


@pytest.mark.slow
def test_deviation_is_proportional_to_the_initial_error(study):
    """Weights travel in proportion to Delta_0, and what they change is relative to it."""
    base = dataclasses.replace(study.digits(), zero_output=True)
    half = dataclasses.replace(base, y=base.y / 2)
    whole, halved = (deviations(study, problem, 1024, 6, 100) for problem in (base, half))
    for method in METHODS:
        ratio = whole[method][:, 0].mean() / halved[method][:, 0].mean()
        # One network scatters by a third from proportion, a mean of 6 by 0.14; both means share seeds.
        assert ratio == pytest.approx(2, rel=3 * 0.14), method


def test_table_and_budget_measure_the_same_distance(study):
    net, run, predicted, operator = one_network(study, "two-layer, first layer", 256, "NAG")
    row = study.error_budget(run, operator, net=net, x=study.digits().x).until(100).rows()[0]
    # Two routes to one linear recursion, by the spectrum and by the matrix: rounding of 50 steps.
    assert row["part"] == "drift and flips"
    found = study.deviation(run.loss, predicted, 100)
    assert found == pytest.approx((row["initial"], row["current"]), rel=1e-8)


def test_deviation_counts_the_steps_of_the_fall_alone(study):
    loss, predicted = np.array([1.0, 0.5, 0.25, 0.2]), np.array([1.0, 0.4, 0.26, 0.0])
    assert study.deviation(loss, predicted, 4) == pytest.approx((0.1, 0.2))
    assert study.deviation(loss, predicted, 100) == pytest.approx((0.2, 1.0))


def test_small_convolutional_network_is_foretold_to_an_eighth_of_the_initial_loss(study):
    _, run, predicted, _ = one_network(study, "CNN, 2 convolutions", 16, "NAG")
    # 16 channels are few: a prediction that is wrong by more would be no prediction of a fall by 100.
    assert study.deviation(run.loss, predicted, 100)[0] < 0.125


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_deviation_falls_like_the_inverse_root_of_the_width(study, record_property):
    widths = (256, 1024, 4096, 16384)
    rows = [deviations(study, study.digits(), width, 5, 100) for width in widths]
    for method in METHODS:
        for kind, name in enumerate(("initial", "current")):
            values = np.array([row[method][:, kind] for row in rows])
            slope, error = study.slope_and_error(widths, values)
            record_property(f"{method}, {name}", f"{slope:.3f} +- {error:.3f}")
            assert error < 0.16  # so that three errors tell -1/2 from no fall
            # The current loss holds the deviation itself, d / (1 + d) of the predicted one: 0.1 at width 256,
            # which flattens that slope by 0.02, within the sampling error.
            assert slope == pytest.approx(-0.5, abs=3 * error), (method, name)
        initial = [row[method][:, 0].mean() for row in rows]
        assert initial[2] < 0.003
        assert initial[3] < 0.0015


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_widest_network_is_foretold_down_to_a_ten_thousandth(study):
    for method, values in deviations(study, study.digits(), 16384, 2, 10_000).items():
        initial, current = values.mean(axis=0)
        assert initial < 0.0015, method
        assert current < 0.15, method


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("name", "size", "limit"),
    [
        ("two-layer, both layers", 4096, 0.003),
        # The largest figure of the three methods was 0.0033. One network scatters by a third: three of these.
        ("CNN, 2 convolutions", 128, 0.0066),
    ],
)
def test_other_networks_are_foretold_over_a_fall_of_a_hundred(study, name, size, limit, method):
    _, run, predicted, _ = one_network(study, name, size, method)
    assert study.deviation(run.loss, predicted, 100)[0] < limit


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_deep_network_of_width_2048_is_foretold_over_a_fall_of_a_hundred(study):
    # Measured 0.0032; limit as for the convolutional network. The kernel alone takes a minute.
    _, run, predicted, _ = one_network(study, "MLP, 3 hidden layers", 2048, "NAG")
    assert study.deviation(run.loss, predicted, 100)[0] < 0.0064


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_best_peak_of_a_schedule_is_that_of_a_search_over_trained_networks(study):
    """Heavy ball with a cosine, whose best peak is no end of what the bound on its growth allows."""
    schedules, problem = importlib.import_module("schedules"), study.digits()
    factors = 1 + 0.02 * np.arange(-5, 6)
    growth, losses = schedules.peak_search(schedules.HeavyBall, 8, problem, 4096, factors, seed=0)
    assert growth < 5
    # a prediction off by 0.003 of the initial loss at both peaks; a tenth beside the best it is worse
    excess = losses - losses.min()
    assert excess[5] < 2 * 0.003 < max(excess[0], excess[-1])
