"""Data as it comes: equal, parallel and blank rows, one variable. What cannot fall is told apart."""

import numpy as np
import pytest

from odeopt import check, forecast, loss_curve, max_learning_rate, plot, relu_gram, spectral_measure
from odeopt.data import prepare
from odeopt.studies import CheckSettings


def mixed():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((9, 4))
    x[4], x[7], x[8] = 2 * x[1], 0.0, x[0]
    return x, rng.standard_normal(9)


def antipodal():
    rng = np.random.default_rng(4)
    half = rng.standard_normal((3, 2))
    return np.concatenate([half, -half, half[:1]]), rng.standard_normal(7)


def one_variable():
    t = np.linspace(-1, 1, 21)
    return t[:, None], np.sin(3 * t) + t**2


DATA = pytest.mark.parametrize("make", [mixed, antipodal, one_variable])


@DATA
def test_forecast_is_that_of_the_whole_singular_kernel(make):
    x, y = make()
    data = prepare(x, y, allow_singular=True)
    found = forecast(x, y, methods=["gd", "hb", "nag"], target=0.5)
    kernel = relu_gram(data.x, allow_singular=True)
    exact = spectral_measure(kernel, -data.y)
    largest = np.linalg.eigvalsh(kernel)[-1]
    assert found.initial_loss == pytest.approx(exact.mass / 2, rel=1e-12)
    assert found.L == pytest.approx(largest, rel=1e-6)
    for method in found.methods:
        curve = loss_curve(method.rule, exact, method.curve.k).loss
        np.testing.assert_allclose(method.curve.loss, curve, rtol=1e-10)
        assert np.all(method.curve.lower <= curve * (1 + 1e-12))
        assert np.all(curve <= method.curve.upper * (1 + 1e-12))
        assert method.lr_limit == pytest.approx(max_learning_rate(method.rule, largest), rel=1e-6)
    # The floor is where the exact curve ends: 100 times the slowest time leaves exp(-200).
    assert loss_curve(found.methods[0].rule, exact, [int(100 * found.L / found.mu)]).loss[0] == pytest.approx(
        found.loss_floor, rel=1e-8
    )


def test_a_target_below_the_floor_is_not_reached_and_the_picture_is_drawn():
    found = forecast(*one_variable(), methods=["gd"], target=1e-6)
    assert found.loss_floor > 1e-6 * found.initial_loss
    steps = found.methods[0].steps
    assert (steps.value, steps.low, steps.high, steps.rigorous) == (None, None, None, True)
    assert found.methods[0].curve.loss[-1] == pytest.approx(found.loss_floor, rel=1e-4)
    assert "not reached" in plot.forecast(found).get_legend().get_texts()[0].get_text()


def test_where_nothing_can_fall_the_loss_stays():
    # One direction, and targets of mean zero: no output of it fits any better than zero.
    x, y = np.linspace(0.5, 2, 7)[:, None], np.arange(7.0)
    found = forecast(x, y, methods=["gd", "hb", "nag", "nagc", "tm"], best_at=20)
    assert found.loss_floor == pytest.approx(found.initial_loss, rel=1e-12)
    assert found.largest == pytest.approx((3.5, 3.5), rel=1e-6)  # n/2
    for method in found.methods:
        np.testing.assert_allclose(method.curve.loss, found.initial_loss, rtol=1e-12)


def test_equal_rows_with_equal_targets_leave_nothing_behind():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    x, y = np.concatenate([x, x[2:4]]), np.concatenate([y, y[2:4]])
    found = forecast(x, y, methods=["gd"], target=0.05)
    assert found.singular.dimension == 2
    assert found.loss_floor < 1e-28
    assert found.methods[0].steps.value > 0


@DATA
def test_check_names_the_singular_part_and_trains_down_to_the_floor(make):
    x, y = make()
    settings = CheckSettings(width=256, seeds=2, num_steps=400)
    report = check(x, y, methods=["hb"], settings=settings)
    problem, method = report.problem, report["hb"]
    data = prepare(x, y, allow_singular=True)
    values, vectors = np.linalg.eigh(relu_gram(data.x, allow_singular=True))
    null = vectors[:, : problem["null_dimension"]]
    assert values[problem["null_dimension"] - 1] < 1e-12 < 1e-3 < problem["lambda_min_h_inf"]
    assert problem["lambda_min_h_inf"] == pytest.approx(values[problem["null_dimension"]], rel=1e-9)
    floor = ((null.T @ data.y) ** 2).sum() / 2
    assert problem["loss_floor"] == pytest.approx(floor, rel=1e-9)
    for level in ("trained", "discrete_h0", "ode_h0", "ode_inf"):
        # Equal outputs cannot fit different targets at any width; training rounds.
        assert np.all(method.curves[level] >= floor * (1 - 1e-9))
        assert np.all(method.curves[level][:, -1] < floor + 1e-3 * method.curves[level][:, 0])
    assert method.exact_ode.value > 0
    if make is mixed:  # the others are at rounding above the floor after a few steps
        assert method.fitted_trained is not None


@DATA
def test_strict_refuses_and_says_why(make):
    x, y = make()
    for job in (check, forecast):
        with pytest.raises(ValueError, match=r"zero norm|parallel rows|identical rows"):
            job(x, y, strict=True)


def test_a_network_too_narrow_for_its_rows_has_the_rates_of_what_it_can_learn():
    # 4 neurons of 2 weights: rank 8 at most, for 12 rows
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((12, 2)), rng.standard_normal(12)
    report = check(x, y, methods=["gd"], settings=CheckSettings(width=4, seeds=1, num_steps=5))
    (zeros,) = report.problem["null_dimension_h0"]
    assert zeros >= 4 > report.problem["null_dimension"] == 0
    assert report["gd"].exact_ode.value == pytest.approx(2 * report.problem["lambda_min_h0"][0], rel=1e-9)
    assert report.problem["lambda_min_h0"][0] > 1e-6


def test_blank_rows_alone_are_refused():
    for job in (check, forecast):
        with pytest.raises(ValueError, match="only blank rows"):
            job(np.zeros((3, 2)), [1.0, 2.0, 3.0])


def test_limit_is_that_of_the_largest_eigenvalue_not_of_its_row_sum_bound():
    x = np.random.default_rng(1).standard_normal((300, 8))
    data = prepare(x, x[:, 0])
    kernel = relu_gram(data.x)
    largest = np.linalg.eigvalsh(kernel)[-1]
    assert np.abs(kernel).sum(axis=1).max() > 1.3 * largest
    few = forecast(x, x[:, 0], methods=["gd", "hb"], num_matvecs=40, target=0.1)
    low, high = few.largest
    assert low <= largest * (1 + 1e-12)
    assert largest <= high * (1 + 1e-12)
    assert high - low < 1e-3 * largest
    for method in few.methods:
        assert method.lr_limit == pytest.approx(max_learning_rate(method.rule, largest), rel=1e-3)
        assert method.rule.lr <= method.lr_limit
        assert method.steps.rigorous
