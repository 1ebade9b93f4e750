"""fit_rate: the right law, the right number, an interval that holds the truth."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import jv

from odeopt import fit_rate
from odeopt.rates.fit import upper_envelope


def curve(x, loss, unit="t"):
    return SimpleNamespace(**{unit: x, "loss": loss})


X = np.linspace(0, 30, 3001)


@pytest.mark.parametrize("rate", [0.05, 0.4, 1.5])
@pytest.mark.parametrize("frequency", [0.0, 3.0, 20.0])
def test_linear_decay_with_and_without_oscillation(rate, frequency):
    fit = fit_rate(curve(X, np.exp(-rate * X) * np.cos(frequency * X) ** 2))
    assert fit.law == "linear"
    # peaks are placed to the third order of 0.01 * frequency
    assert fit.value == pytest.approx(rate, rel=5e-3, abs=5e-4)
    assert fit.kind == "measured"


@pytest.mark.parametrize("r", [1, 2, 3, 6])
def test_bessel_decay_is_told_from_exponential(r):
    nu, x = (r - 1) / 2, X[1:] * 4
    fit = fit_rate(curve(X[1:], (x**-nu * jv(nu, x)) ** 2))
    assert fit.law == "power"
    assert fit.value == pytest.approx(r, rel=0.02)  # envelope corrections are O(1/x^2)
    assert fit.low <= fit.value <= fit.high


def test_intervals_cover_the_truth_under_noise():
    rng, covered = np.random.default_rng(4), 0
    for _ in range(200):
        noise = 0.2 * rng.standard_normal(X.size)
        fit = fit_rate(curve(X, np.exp(-0.3 * X + noise)))
        # noise leaves only the running maxima of the curve; monotone tails have all points
        covered += fit.low <= 0.3 <= fit.high
    assert covered >= 180  # at least 90 % for a nominal 95 %; 200 trials have a deviation of 1.5 %


def test_transient_widens_the_interval():
    steady = fit_rate(curve(X, np.exp(-0.2 * X)))
    mixed = fit_rate(curve(X, np.exp(-0.2 * X) + np.exp(-0.6 * X) * 5e2))
    assert steady.high - steady.low < 1e-10
    assert mixed.law == "linear"
    assert mixed.low < 0.205  # the local rate at the end of the range is 0.2012
    assert mixed.high - mixed.low > 0.003


def test_rounding_floor_is_left_out():
    fit = fit_rate(curve(X * 4, np.maximum(np.exp(-1.0 * X * 4), 1e-31)))
    assert fit.law == "linear"
    assert fit.value == pytest.approx(1.0, rel=1e-6)


def test_iterations_are_used_where_there_is_no_time():
    fit = fit_rate(curve(np.arange(100), 0.9 ** np.arange(100), "k"))
    assert fit.unit == "iteration"
    assert fit.formula.endswith("k)")
    assert fit.value == pytest.approx(-np.log(0.9))


def test_too_few_points_and_wrong_unit_are_refused():
    with pytest.raises(ValueError, match="usable envelope points"):
        fit_rate(curve(X[:5], np.exp(-X[:5])))
    with pytest.raises(ValueError, match="no time"):
        fit_rate(curve(X, np.exp(-X), "k"), unit="time")
    with pytest.raises(ValueError, match="unit must be"):
        fit_rate(curve(X, np.exp(-X)), unit="epochs")


def test_envelope_of_a_decaying_oscillation_is_its_peaks():
    x, height = upper_envelope(X, np.exp(-0.1 * X) * np.cos(2 * X) ** 2)
    assert np.all(np.diff(height) < 0)
    np.testing.assert_allclose(np.diff(x), np.pi / 2, rtol=1e-3)


def test_decay_that_outlives_its_oscillation_is_followed_to_the_end():
    """Fast modes swing at first, a critically damped one decays after them: the rate is that of the last."""
    loss = np.exp(-3 * X) * np.cos(15 * X) ** 2 + 1e-3 * np.exp(-1.2 * X)
    fit = fit_rate(curve(X, loss))
    assert fit.law == "linear"
    assert fit.value == pytest.approx(1.2, rel=1e-3)
