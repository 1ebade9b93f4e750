"""Studies with several outputs: class labels as one-hot targets, accuracy beside the loss, refusals."""

import numpy as np
import pytest

from odeopt import HeavyBall, check, forecast, loss_curve, predict, spectral_measure
from odeopt.data import load_digits, one_hot, prepare
from odeopt.kernels import relu_gram
from odeopt.kernels.inputs import singular_part
from odeopt.nets import TwoLayerReLU, empirical_gram
from odeopt.spectra import predicted_errors
from odeopt.studies import CheckSettings

SMALL = CheckSettings(width=300, seeds=1, num_steps=60)


def test_classes_are_scaled_together_and_columns_one_by_one():
    labels = np.arange(12) % 3 + 4
    x = np.random.default_rng(0).standard_normal((12, 4))
    data = prepare(x, labels, targets="classes")
    # rounding of 36 entries of order 1
    np.testing.assert_allclose([data.y.mean(), (data.y**2).mean()], [0, 1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(data.y.sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose(data.raw_targets(data.y), one_hot(labels)[0], rtol=0, atol=1e-15)
    assert data.classes.tolist() == [4, 5, 6] and data.labels.tolist() == (labels - 4).tolist()
    y = np.random.default_rng(1).standard_normal((12, 2)) * [1, 100] + [0, 5]
    columns = prepare(x, y)
    for j in range(2):
        np.testing.assert_allclose(columns.y[:, j], prepare(x, y[:, j]).y, rtol=1e-15)
    np.testing.assert_allclose(columns.raw_targets(columns.y), y, rtol=1e-13)
    assert columns.labels is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: one_hot([0, 1, 5], classes=[0, 1, 2]), "labels hold 5, which is none of the classes"),
        (lambda: one_hot([1, 1]), "two or more different ones, got \\[1\\]"),
        (lambda: one_hot([0.5, 1]), "strings or whole numbers below 2\\^53, got 0.5"),
        (lambda: one_hot([1e300, 2e300, 0.0]), "below 2\\^53, got 1e\\+300"),  # one number as integers
        (lambda: one_hot([[0], [1]]), "labels must have shape"),
        (lambda: one_hot(["a", "b"], classes=["a", "a"]), "two or more different ones"),
        (lambda: prepare(np.eye(2), [[0.0, 1.0], [0.0, 2.0]]), "column 0 of y is constant but for rounding"),
        (lambda: prepare(np.eye(3), np.ones((2, 2))), "same length, got 3 rows of x and 2 targets"),
        (lambda: check(np.eye(3), np.eye(3), classes=True, settings=SMALL), "labels must have shape"),
    ],
)
def test_what_is_no_class_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_classes_that_are_words_keep_their_names_and_order():
    targets, classes = one_hot(["b", "a", "b"], classes=["b", "a", "c"])
    assert classes.tolist() == ["b", "a", "c"]
    assert targets.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    cells = np.array(["b", "a", "b"], dtype=object)  # as a column of a frame holds them
    assert one_hot(cells, ["b", "a", "c"])[0].tolist() == targets.tolist()


def test_neighbouring_integers_beyond_the_floats_are_two_classes():
    targets, classes = one_hot(np.array([2**53 + 1, 2**53]))
    assert targets.tolist() == [[0, 1], [1, 0]]
    assert classes.tolist() == [2**53, 2**53 + 1]


def test_the_part_of_each_output_that_cannot_fall_is_that_of_the_null_space():
    x = np.random.default_rng(0).standard_normal((9, 3))
    x[4], x[7], x[2] = 2 * x[1], 0, -x[0]
    delta = np.random.default_rng(1).standard_normal((9, 2))
    part = singular_part(x)
    assert part.plateau(delta) == pytest.approx(sum(part.plateau(column) for column in delta.T), rel=1e-14)
    assert part.reduced(delta) == pytest.approx(
        np.stack([part.reduced(c) for c in delta.T], axis=1), abs=1e-15
    )


def test_check_predicts_each_class_and_tells_accuracy_beside_loss():
    x, labels = load_digits(60)
    x, labels = x[labels < 3], labels[labels < 3]  # 18 images of three digits
    report = check(x, labels, methods=["hb"], settings=SMALL, classes=True)
    found, data = report["hb"], prepare(x, labels, targets="classes")
    assert report.problem["outputs"] == 3 and report.problem["classes"] == [0, 1, 2]
    # each output by itself: the ODE at infinite width, from the error of the one network at the start
    net = TwoLayerReLU(64, 300, outputs=3, seed=0)
    delta0 = net(net.weights.new_tensor(data.x)).detach().numpy() - data.y
    k, limit = found.curves["k"], relu_gram(data.x)
    single = [predicted_errors(found.rule, limit, column, k).errors["ode_h0"] for column in delta0.T]
    one_by_one = 0.5 * sum((error**2).sum(axis=1) for error in single)
    np.testing.assert_allclose(found.curves["ode_inf"][0], one_by_one, rtol=1e-9)
    dense = predicted_errors(found.rule, empirical_gram(net, data.x), delta0, k).errors["discrete_h0"]
    right = (dense.reshape(-1, len(labels), 3) + data.y).argmax(axis=2) == labels
    np.testing.assert_array_equal(found.curves["accuracy_discrete_h0"][0], right.mean(axis=1))
    assert found.accuracy["discrete_h0"] == right[-1].mean() > 0.8
    assert abs(found.accuracy["trained"] - found.accuracy["discrete_h0"]) < 0.2
    assert found.integration_error < 1e-8
    assert found.to_dict()["accuracy"] == found.accuracy


def test_a_check_says_that_labels_are_regressed_on():
    x, labels = load_digits(30)
    for y, note in ((labels, "whole numbers 0 to 9"), (labels + 0.5, ""), (one_hot(labels)[0], "")):
        report = check(x, y, methods=["gd"], settings=CheckSettings(width=20, seeds=1, num_steps=3))
        assert note in report.problem["target_note"] and bool(note) == bool(report.problem["target_note"])
        assert report["gd"].accuracy == {}


def test_a_forecast_of_classes_is_that_of_the_dense_kernel_on_the_training_and_the_test_set():
    x, labels = load_digits(240)
    train, rest = slice(0, 160), slice(160, 240)
    options = {"target": 0.1, "num_matvecs": 50, "max_steps": 2000, "classes": True}
    found = forecast(x[train], labels[train], test=(x[rest], labels[rest]), methods=["hb", "nag"], **options)
    data = prepare(x[train], labels[train], targets="classes")
    points = x[rest] / np.linalg.norm(x[rest], axis=1)[:, None]
    targets = (one_hot(labels[rest])[0] - data.target_mean) / data.target_scale
    measures = [spectral_measure(relu_gram(data.x), -column) for column in data.y.T]
    assert (found.outputs, found.classes.tolist(), found.to_dict()["outputs"]) == (10, list(range(10)), 10)
    for method in found.methods:
        # by eigh, one output after the other; what 50 steps leave out is below 1e-8 here
        losses = sum(loss_curve(method.rule, measure, method.curve.k).loss for measure in measures)
        np.testing.assert_allclose(method.curve.loss, losses, rtol=1e-8)
        k = method.test.k
        u = np.stack([predict(method.rule, m, relu_gram(points, data.x), k).u for m in measures], axis=2)
        np.testing.assert_allclose(method.test.loss, 0.5 * ((u - targets) ** 2).sum(axis=(1, 2)), rtol=1e-7)
        right = (u.argmax(axis=2) == labels[rest]).mean(axis=1)
        np.testing.assert_allclose(method.test.accuracy, right, rtol=0, atol=1e-12)
        assert right[-1] > 0.7  # of classes with 16 examples each; 0.1 by chance


def test_a_forecast_of_columns_is_the_sum_of_theirs():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 2)) * [1, 50]
    rule = HeavyBall(0.2, 0.7)
    options = {"methods": [rule], "target": 0.5, "max_steps": 200}
    both = forecast(x, y, test=(x[:5] + 0.1, y[:5]), **options)
    k = both.methods[0].curve.k
    singles = [
        loss_curve(rule, spectral_measure(relu_gram(prepare(x, c).x), -prepare(x, c).y), k).loss for c in y.T
    ]
    np.testing.assert_allclose(both.methods[0].curve.loss, sum(singles), rtol=1e-9)
    assert both.outputs == 2 and both.classes is None and both.methods[0].test.accuracy is None
    with pytest.raises(ValueError, match=r"test has targets of shape \(5,\)"):
        forecast(x, y, test=(x[:5], y[:5, 0]), **options)


def test_a_forecast_says_what_its_classes_miss():
    x, labels = load_digits(60)
    assert "whole numbers 0 to 9" in forecast(x, labels, methods=["gd"], target=0.9).target_note
    few = labels < 9
    with pytest.raises(ValueError, match=r"test has the label 9.*, of which there is no example to train on"):
        forecast(x[few], labels[few], test=(x[~few], labels[~few]), methods=["gd"], classes=True)
