"""Networks of growing width approach the linear iteration on their own initial kernel H(0).

The deviation of a network is the budget part "trained - discrete H(0)": the largest distance of its loss
from the exact linear iteration, over the steps, relative to the initial loss. Weights travel a distance of
order m^(-1/2), so that share of the neurons crosses the boundary of a sample; there the velocity of a
neuron jumps by the sample's own error, so that neurons switched on and off do not cancel on average. The
deviation is therefore of order m^(-1/2), for every method.
"""

import functools
import sys

import numpy as np
import pytest

from odeopt import GradientDescent, Nesterov, check, max_learning_rate, relu_gram
from odeopt.data import load_digits, prepare
from odeopt.studies.check_report import CheckSettings

NUM_DIGITS = 60
PART = "trained - discrete H(0)"


@functools.cache
def digits():
    return load_digits(NUM_DIGITS)


@functools.cache
def learning_rate():
    """A quarter of Nesterov's limit, the smallest: the same at every width, so that only the width varies."""
    lam_max = np.linalg.eigvalsh(relu_gram(prepare(*digits()).x))[-1]
    return 0.25 * max_learning_rate(Nesterov(0.01), lam_max)


@functools.cache
def deviations(widths, methods, *, seeds, num_steps, friction):
    """Deviation of each network: method to array, shape (widths, seeds)."""
    rows = {name: [] for name in methods}
    for width in widths:
        settings = CheckSettings(
            width=width, seeds=seeds, num_steps=num_steps, lr=learning_rate(), friction=friction
        )
        for method in check(*digits(), methods=methods, settings=settings).methods:
            gap = np.abs(method.curves["trained"] - method.curves["discrete_h0"])
            rows[method.name].append(gap.max(axis=1) / method.curves["trained"][:, 0])
            assert rows[method.name][-1].mean() == pytest.approx(method.budget[PART])
    return {name: np.array(values) for name, values in rows.items()}


def slope_and_error(widths, values):
    """Log-log slope of the seed means, and its sampling error from the scatter between seeds."""
    x = np.log(widths)
    mean = values.mean(axis=1)
    slope = np.polyfit(x, np.log(mean), 1)[0]
    # One coefficient of variation for all widths: the error of log(mean) is cv / sqrt(seeds).
    variation = np.sqrt(np.mean(values.var(axis=1, ddof=1) / mean**2))
    spread = np.sqrt(np.sum((x - x.mean()) ** 2))
    return slope, variation / np.sqrt(values.shape[1]) / spread


def assert_falls(widths, values):
    """Each width deviates less than a sixteenth of it: theory says by the factor 4."""
    mean = dict(zip(widths, values.mean(axis=1), strict=True))
    for width in widths:
        if width // 16 in mean:
            # A mean of 5 seeds has a relative error of 0.2, so 4 is more than three errors from 1.
            assert mean[width] < mean[width // 16]


def show(capsys, record_property, title, widths, values, slope, error):
    record_property(f"slope of {title}", f"{slope:.3f} +- {error:.3f}")
    record_property(f"deviations of {title}", dict(zip(widths, values.mean(axis=1).tolist(), strict=True)))
    with capsys.disabled():
        means = "  ".join(f"{m}: {v:.5f}" for m, v in zip(widths, values.mean(axis=1), strict=True))
        sys.stdout.write(f"\n{title}: slope {slope:.3f} +- {error:.3f};  {means}\n")


# The whole study: 60 digits, 400 steps; about three minutes on one core.
WIDTHS = tuple(2**p for p in range(8, 15))
STUDY = {"seeds": 5, "num_steps": 400}
# Friction 1 damps every mode of the digits' kernel within the run. The critical friction
# 2 sqrt(lambda_min) = 0.36, best for the slowest mode, lets the largest one (lambda = 16) swing for
# some 50 steps, and that swing carries the weights of a narrow network out of the linear regime.
FRICTION = {"hb": 1.0}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["gd", "hb", "nag"])
def test_deviation_falls_like_the_inverse_root_of_the_width(name, capsys, record_property):
    values = deviations(WIDTHS, (name,), friction=FRICTION.get(name), **STUDY)[name]
    slope, error = slope_and_error(WIDTHS, values)
    show(capsys, record_property, name, WIDTHS, values, slope, error)
    assert_falls(WIDTHS, values)
    assert error < 0.1  # so that three errors tell -1/2 from no decay at all, and from 1/m
    assert slope == pytest.approx(-0.5, abs=3 * error)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_deviation_at_critical_friction_falls_too(capsys, record_property):
    values = deviations(WIDTHS, ("hb",), friction=None, **STUDY)["hb"]
    slope, error = slope_and_error(WIDTHS, values)
    show(capsys, record_property, "hb at critical friction", WIDTHS, values, slope, error)
    assert_falls(WIDTHS, values)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_seeds_narrow_the_slope_of_gradient_descent_down(capsys, record_property):
    widths = WIDTHS[::2]
    values = deviations(widths, ("gd",), seeds=20, num_steps=400, friction=None)["gd"]
    slope, error = slope_and_error(widths, values)
    show(capsys, record_property, "gd, 20 seeds", widths, values, slope, error)
    assert error < 0.04
    assert slope == pytest.approx(-0.5, abs=3 * error)


def test_deviation_is_smaller_at_sixteen_times_the_width():
    values = deviations((128, 2048), ("gd", "hb", "nag"), seeds=2, num_steps=60, friction=1.0)
    for name, (narrow, wide) in values.items():
        # Theory: a factor 4. One network scatters by 0.4, so the ratio of two means of 2 by a factor
        # exp(0.4); three of these leave 4 / exp(1.2) = 1.2.
        assert wide.mean() < narrow.mean() / 1.2, name


@pytest.mark.slow
def test_kernel_drift_along_the_error_slows_training_by_the_inverse_root_of_the_width():
    from odeopt.nets import TwoLayerReLU, empirical_gram, train

    data, rule = prepare(*digits()), GradientDescent(learning_rate())
    widths, seeds = (256, 1024, 4096), 5

    def quotient(width, seed):
        net = TwoLayerReLU(64, width, seed=seed)
        run = train(net, rule, data.x, data.y, 100, record_at=[20])
        drift, error = empirical_gram(net, data.x) - run.initial_kernel, run.errors[-1]
        return error @ drift @ error / (error @ error)

    values = np.array([[quotient(width, seed) for seed in range(seeds)] for width in widths])
    assert np.all(values < 0)
    slope, error = slope_and_error(widths, -values)
    assert error < 0.1
    assert slope == pytest.approx(-0.5, abs=3 * error)
