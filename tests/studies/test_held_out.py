"""Test sets of a forecast: their losses are those of the dense kernel, and what does not fit is refused."""

import json
import sys
import warnings

import numpy as np
import pytest

from odeopt import GradientDescent, HeavyBall, check, cli, forecast, relu_gram
from odeopt.data import load_digits, prepare
from odeopt.rules import Averaged
from odeopt.studies import CheckSettings

SMALL = CheckSettings(width=16, seeds=1, num_steps=3)


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(150, classes=(3, 8))
    return x[:100], y[:100], x[100:], y[100:]


def outputs(rule, digits, last, *, layers="first"):
    """Outputs on the test set by the iteration itself, on dense kernels: no spectrum, no Lanczos."""
    x, y, more, _ = digits
    data = prepare(x, y)
    kernel = relu_gram(data.x, layers=layers)
    points = more / np.linalg.norm(more, axis=1)[:, None]
    weights = relu_gram(points, data.x, layers=layers)
    dual = [np.zeros(len(y))] * 2  # u = H a: the rules move a as they move weights
    found = [np.zeros(len(points))]
    for _ in range(last):
        step = dual[-1] - rule.lr * (kernel @ dual[-1] - data.y + rule.weight_decay * dual[-1])
        dual.append(step + rule.momentum * (dual[-1] - dual[-2]))
        found.append(weights @ dual[-1])
    return np.array(found), data


# decay to 0 of both layers shrinks the kernel, and is refused
@pytest.mark.parametrize(("layers", "decay"), [("first", 0.0), ("first", 0.3), ("both", 0.0)])
def test_losses_steps_and_accuracies_are_those_of_the_dense_iteration(digits, layers, decay):
    rule = HeavyBall(0.01, 0.8, weight_decay=decay)
    x, y, more, wanted = digits
    found = forecast(x, y, test=(more, wanted), methods=[rule], target=0.1, layers=layers)
    (method,) = found.methods
    curve, last = method.test, int(method.curve.k[-1])
    u, data = outputs(rule, digits, last, layers=layers)
    targets = (wanted - data.target_mean) / data.target_scale
    loss = ((u - targets) ** 2).sum(axis=1) / 2
    # rounding of a hundred steps of products with 100 numbers, of outputs of size one
    np.testing.assert_allclose(curve.loss, loss[curve.k], rtol=1e-10)
    assert curve.best_step == loss.argmin()
    assert curve.loss[curve.best] == curve.loss.min()
    right = (data.raw_targets(u) >= 0) == (wanted > 0)
    np.testing.assert_allclose(curve.accuracy, right.mean(axis=1)[curve.k], rtol=1e-12)
    raw = data.raw_targets(u[curve.k]) - wanted
    np.testing.assert_allclose(curve.rms, np.sqrt((raw**2).mean(axis=1)), rtol=1e-10)
    assert found.test.initial_loss == pytest.approx(loss[0], rel=1e-12)


def test_few_lanczos_steps_are_within_their_estimate_of_many(digits):
    x, y, more, wanted = digits
    rules = [GradientDescent(0.02), Averaged(GradientDescent(0.02), decay=0.9)]
    few, many = (
        forecast(x, y, test=(more, wanted), methods=rules, target=0.02, num_matvecs=m).methods
        for m in (12, 100)
    )
    for a, b in zip(few, many, strict=True):
        k, i, j = np.intersect1d(a.test.k, b.test.k, return_indices=True)
        assert k.size > 100
        distance = np.abs(a.test.loss[i] - b.test.loss[j])
        assert distance.max() > 1e-6  # there is something to estimate
        # an estimate, from seven eighths of the steps, that is to hold up to a factor
        assert np.all(distance <= 10 * a.test.error[i] + 1e-10)
        assert not b.test.error[j].any()


def test_parallel_and_blank_rows_leave_test_curves_as_they_are(digits):
    x, y, more, wanted = digits
    repeated = np.concatenate([x, 3 * x[:5], np.zeros((1, x.shape[1]))])
    targets = np.append(np.concatenate([y, y[:5]]), 1.0)
    rule = HeavyBall(0.01, 0.8)
    curve = forecast(repeated, targets, test=(more, wanted), methods=[rule], target=0.2).methods[0].test
    data = prepare(repeated, targets, allow_singular=True)
    kernel = relu_gram(data.x, allow_singular=True)
    points = more / np.linalg.norm(more, axis=1)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cross = relu_gram(points, data.x)
    now = before = np.zeros(len(targets))
    loss = []
    for _ in range(curve.k[-1] + 1):
        loss.append((((cross @ now) - (wanted - data.target_mean) / data.target_scale) ** 2).sum() / 2)
        now, before = now - 0.01 * (kernel @ now - data.y) + 0.8 * (now - before), now
    np.testing.assert_allclose(curve.loss, np.array(loss)[curve.k], rtol=1e-10)


def test_the_best_step_of_a_long_run_is_not_between_the_points_of_its_curve():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60, 3)) * [100, 1, 1]  # rows of nearly one direction: an ill-conditioned kernel
    y = x[:, 0] + 300 * rng.standard_normal(60)  # and noise, which is soon learnt
    (method,) = forecast(x, y, test=0.3, methods=["hb"], target=0.02).methods
    assert method.curve.k[1] > 2 * method.test.best_step
    assert method.test.best_step in method.test.k
    assert not method.test.still_falling


def test_a_share_is_held_out_and_no_row_of_it_is_trained_on(digits):
    x, y = load_digits(90)
    found = forecast(x, y, test=0.2, methods=["gd"], target=0.5)
    assert (found.n, len(found.test.y), found.test.shared, found.test.middle) == (72, 18, (), None)
    assert found.methods[0].test.accuracy is None  # ten numbers are no two classes


def test_a_test_set_that_overlaps_the_training_set_is_said(digits):
    x, y, more, wanted = digits
    both = np.concatenate([more, x[7:8], 3 * x[8:9]]), np.concatenate([wanted, y[7:9]])
    with pytest.warns(
        UserWarning,
        match=r"2 of the \d+ rows of test are rows of x too .row 50 of test is row 7 of x, at unit norm",
    ):
        found = forecast(x, y, test=both, methods=["gd"], target=0.5)
    assert found.to_dict()["test"]["overlap"] == 2


@pytest.mark.parametrize("units", [2.0**-660, 1.0, 2.0**660])
def test_errors_are_in_the_units_of_the_targets_whatever_those_are(rng, units):
    x, more, y, wanted = (rng.standard_normal(shape) for shape in ((12, 4), (5, 4), 12, 5))
    told, curves = [], []
    for shape, unit in (((-1,), 1.0), ((-1,), units), ((-1, 1), units)):
        data = (x, unit * y.reshape(shape)), (more, unit * wanted.reshape(shape))
        (method,) = forecast(*data[0], test=data[1], methods=["gd"], max_steps=20).methods
        curves.append(method.test.rms / unit)
        report = check(*data[0], test=data[1], methods=["gd"], settings=SMALL)
        told.append([at["best"]["rms"] / unit for at in report["gd"].test.values() if "best" in at])
    for found in (curves, told):
        # a power of two rounds nothing, and one column is scaled as a vector is
        np.testing.assert_allclose(found[1:], [found[0]] * 2, rtol=1e-13)


def test_targets_whose_squares_leave_the_numbers_are_refused(rng):
    x, more, y = rng.standard_normal((12, 4)), rng.standard_normal((5, 4)), rng.standard_normal(12)
    for call in (forecast, check):
        with pytest.raises(
            ValueError, match=r"test has targets up to 1e\+160 deviations .* leave them out of test"
        ):
            call(x, y, test=(more, y.mean() + y.std() * np.array([0, 1, -1, 2, 1e160])), methods=["gd"])


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (lambda x, y: (x[:, 1:], y), r"test has inputs of shape \(50, 63\), and those .* have \(100, 64\)"),
        (lambda x, y: (x.reshape(-1, 8, 8), y), r"test has inputs of shape \(50, 8, 8\)"),
        (lambda x, y: (x, y[:, None]), r"test has targets of shape \(50, 1\)"),
        (lambda x, y: (x, y[1:]), "test cannot be read: x and y must have the same length, got 50"),
        (
            lambda x, y: (x, np.where(y > 0, 2, y)),
            "test has the target 2 .* of the class 2 there is no example",
        ),
        (
            lambda x, y: (x, np.where(y > 0, 1 + 2.0**-52, y)),
            r"target 1\.0000000000000002 .* classes, -1 and 1: of the class 1\.0000000000000002 there",
        ),
        (lambda x, y: (np.where(x > 15, np.nan, x), y), "test cannot be read: x must be finite"),
        (lambda x, y: "missing.npz", r"test cannot be read: .*missing\.npz"),
        (lambda x, y: x, "test cannot be read: x .ndarray. is no file"),
        (lambda x, y: 0, r"test must be a share of the examples in \(0, 1\), or examples, got 0"),
        (lambda x, y: 1.5, "got 1.5"),
    ],
)
def test_test_sets_that_do_not_fit_are_refused(digits, test, words):
    x, y, more, wanted = digits
    with pytest.raises(ValueError, match=words):
        forecast(x, y, test=test(more, wanted), methods=["gd"])


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_predict_takes_tables_and_a_test_file_whose_columns_stand_in_another_order(
    monkeypatch, capsys, tmp_path
):
    rows = np.random.default_rng(0).random((30, 3))
    whole, train, test = tmp_path / "all.csv", tmp_path / "train.csv", tmp_path / "test.csv"
    for path, part, names in (
        (whole, rows, "abp"),
        (train, rows[:20], "abp"),
        (test, rows[19:, ::-1], "pba"),
    ):
        np.savetxt(path, part, delimiter=",", header=",".join(names), comments="", fmt="%.17g")
    options = ["--column", "p", "--methods", "gd", "--target", "0.5"]
    code, out, _ = run(
        monkeypatch, capsys, train, "--test", test, *options, "--json", "--out", tmp_path / "o"
    )
    assert code == 0
    shown = json.loads(out)
    assert (shown["n"], shown["test"]["p"], shown["test"]["overlap"]) == (20, 11, 1)
    held = forecast(
        rows[:20, :2], rows[:20, 2], test=(rows[20:, :2], rows[20:, 2]), methods=["gd"], target=0.5
    )
    assert shown["methods"][0]["test"]["best"]["step"] >= 0
    with np.load(tmp_path / "o" / "forecast.npz") as arrays:
        assert np.array_equal(arrays["gd_test_k"][-1:], held.methods[0].test.k[-1:])
    code, out, err = run(monkeypatch, capsys, train, "--test", test, *options)
    assert code == 0
    assert "Loss on 11 test examples" in out
    assert "1 of the 11 rows of test are rows of x too" in " ".join(out.split())
    assert "Warning" not in err
    assert "differ in size" not in err
    rows[:, 1] *= 100
    np.savetxt(tmp_path / "uneven.csv", rows, delimiter=",", header="a,b,p", comments="", fmt="%.17g")
    _, _, err = run(monkeypatch, capsys, tmp_path / "uneven.csv", *options)
    assert "odeopt: columns of x differ in size (a 0." in err
    code, out, _ = run(monkeypatch, capsys, whole, "--test", "0.2", *options, "--json")
    assert (json.loads(out)["n"], json.loads(out)["test"]["p"]) == (24, 6)
    code, out, err = run(monkeypatch, capsys, train, "--test", test)
    assert (code, out) == (2, "")
    assert "y = 'y' is no column of" in err
