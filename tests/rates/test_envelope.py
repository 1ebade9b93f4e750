"""The envelope: the least loss in k steps, against least squares, published numbers and methods."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from odeopt import GradientDescent, HeavyBall, Nesterov, loss_curve, spectral_measure
from odeopt.rates import StepsTo, envelope, steps_envelope, steps_to
from odeopt.spectra.lanczos import lanczos

SMALL = np.array([1, 1 / 4, 1 / 9, 1 / 16])
LAM = np.arange(1, 201.0) ** -1.5
START = np.arange(1, 201.0) ** -0.5


@pytest.fixture(scope="module")
def small():
    return spectral_measure(np.diag(SMALL), np.ones(4))


@pytest.fixture(scope="module")
def large():
    return spectral_measure(np.diag(LAM), START)


def least_squares(lam, weights, k):
    """The minimum over p(x) = 1 + x q(x), q in Chebyshev polynomials."""
    x = 2 * lam / lam.max() - 1
    columns = np.sqrt(weights)[:, None] * lam[:, None] * np.polynomial.chebyshev.chebvander(x, k - 1)
    found = np.linalg.lstsq(columns, -np.sqrt(weights), rcond=None)[0]
    return 0.5 * float(np.sum((columns @ found + np.sqrt(weights)) ** 2))


def test_published_values(small, large):
    found = envelope(small, range(5))
    # given to ten digits after the point
    np.testing.assert_allclose(found, [2, 1.0606419599, 0.2852804935, 0.0286161171, 0], rtol=0, atol=6e-11)
    known = [2.10795221, 1.63278588, 0.838323282, 0.244250512, 5.24530698e-3]
    np.testing.assert_allclose(envelope(large, [1, 2, 5, 10, 20]), known, rtol=3e-9)  # nine digits
    assert envelope(large, [40])[0] == pytest.approx(9.63e-9, rel=1e-3)  # three


@pytest.mark.parametrize("k", [1, 3, 8])
def test_it_is_the_least_squares_minimum(large, k):
    # squares of rounding errors of the fit, relative to the mass
    assert envelope(large, [k])[0] == pytest.approx(least_squares(LAM, START**2, k), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("columns", "steps", "last"), [(1, 12, 12), (2, 8, 7)])
def test_lanczos_steps_know_it_as_far_as_they_go(columns, steps, last):
    start = np.stack([START, np.ones(200)], axis=1)[:, :columns]
    seen = spectral_measure(np.diag(LAM), start, num_matvecs=steps)
    exact = spectral_measure(np.diag(LAM), start)
    # Two Lanczos runs round apart, some 1e-15 each, which polynomials of degree 7 amplify.
    rtol = 1e-9 if columns == 1 else 1e-7
    np.testing.assert_allclose(envelope(seen, range(last + 1)), envelope(exact, range(last + 1)), rtol=rtol)
    with pytest.raises(ValueError, match=f"k = {last + 1} lies beyond {last}, .* {steps} Lanczos steps"):
        envelope(seen, [last + 1])


def test_where_two_lanczos_runs_round_too_far_apart_nothing_is_said():
    start = np.stack([START, np.ones(200)], axis=1)
    seen = spectral_measure(np.diag(LAM), start, num_matvecs=12)
    with pytest.raises(ValueError, match="k = 11 is not known: there the rounding of the kernel"):
        envelope(seen, [10, 11])


def test_it_ends_at_the_number_of_different_nodes_or_at_what_no_gradient_moves():
    doubled = spectral_measure(np.diag([*SMALL, *SMALL]), np.ones(8))
    assert envelope(doubled, [3])[0] > 0.01
    assert envelope(doubled, [4, 9]).tolist() == [0, 0]
    with_null = spectral_measure(np.diag([*SMALL, 0.0]), [1, 1, 1, 1, 0.2])
    np.testing.assert_allclose(envelope(with_null, [5, 50]), 0.02, rtol=1e-12)
    assert steps_envelope(with_null, 0.019) == StepsTo(None, None, None, False, 0.019)


@pytest.mark.parametrize(
    "rule", [GradientDescent(1.0), HeavyBall(1.0, 0.5), Nesterov(1.0), HeavyBall(1.2, 0.9)]
)
def test_no_method_is_below_it(large, rule):
    k = np.arange(41)
    assert np.all(loss_curve(rule, large, k).loss >= envelope(large, k) * (1 - 1e-12))


def test_the_fewest_steps_and_the_ratio_to_them(large):
    loss = 0.02
    least = steps_envelope(large, loss)
    k = least.value
    assert envelope(large, [k])[0] <= loss < envelope(large, [k - 1])[0]
    assert (least.low, least.high) == (k, k)
    found = steps_to(HeavyBall(1.0, 0.8), large, loss)
    assert found.times(least) == found.value / k > 1
    seen = spectral_measure(np.diag(LAM), START, num_matvecs=8)
    unreached = steps_envelope(seen, loss)
    assert (unreached.value, unreached.low, unreached.high) == (None, 9, None)
    assert found.times(unreached) is None
    assert steps_envelope(large, loss, max_steps=k - 1).value is None
    at_once = StepsTo(0, 0, 0, True, 9.0)
    assert at_once.times(steps_envelope(large, 9.0)) == 1


def test_what_rounding_leaves_open_is_refused():
    """Eigenvalues down to 1e-17 of the largest cannot be told from 0."""
    lam = np.geomspace(1e-17, 1, 40)
    measure = spectral_measure(np.diag(lam), np.ones(40))
    envelope(measure, [5])
    with pytest.raises(ValueError, match=r"k = \d+ is not known: there the rounding of the kernel"):
        envelope(measure, range(36))


@pytest.mark.parametrize(("k", "word"), [([-1], "k"), ([1.5], "integer"), ([], "k")])
def test_bad_steps_are_refused(small, k, word):
    with pytest.raises(ValueError, match=word):
        envelope(small, k)
    with pytest.raises(ValueError, match="loss must be a positive number"):
        steps_envelope(small, 0.0)
    with pytest.raises(ValueError, match="max_steps must be an integer of at least 1"):
        steps_envelope(small, 1.0, max_steps=0)


def test_a_loss_is_counted_without_steps_that_it_does_not_need_or_the_measure_does_not_know(
    large, monkeypatch
):
    start, taken = np.stack([START, np.ones(200)], axis=1), []
    seen, exact = (spectral_measure(np.diag(LAM), start, num_matvecs=m) for m in (8, None))

    def counted(product, starts, count, **options):
        taken.append(count)
        return lanczos(product, starts, count, **options)

    monkeypatch.setattr(sys.modules["odeopt.rates.envelope"], "lanczos", counted)
    loss = float(envelope(exact, [5])[0]) * (1 + 1e-6)
    taken.clear()
    assert [steps_envelope(m, loss, max_steps=100_000).value for m in (seen, exact)] == [5, 5]
    assert taken == [7] * 3 + [64]
    slow = spectral_measure(np.diag(np.linspace(1e-4, 1, 200)), np.ones((200, 2)))
    assert steps_envelope(slow, float(envelope(slow, [90])[0]) * (1 + 1e-6)).value == 90
