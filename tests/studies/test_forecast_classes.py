"""Forecasts of classifiers: cross-entropy and accuracy are those of the iteration on dense kernels."""

import json
import sys

import numpy as np
import pytest
from figures import require_fit

from odeopt import Adam, HeavyBall, cli, plot, relu_gram
from odeopt.data import load_digits
from odeopt.studies import forecast_classes


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(90)
    return x[:60], y[:60], x[60:], y[60:]


def entropy(u, labels):
    """The sum of log sum exp(u) - u_label, as it is written."""
    top = u.max(axis=1, keepdims=True)
    return float((np.log(np.exp(u - top).sum(axis=1)) + top[:, 0] - u[np.arange(len(u)), labels]).sum())


@pytest.mark.parametrize(("layers", "decay"), [("first", 0.0), ("first", 0.2), ("both", 0.0)])
def test_losses_and_accuracies_are_those_of_the_dense_iteration(digits, layers, decay):
    x, y, more, wanted = digits
    rule = HeavyBall(0.05, 0.8, weight_decay=decay)
    found = forecast_classes(x, y, test=(more, wanted), methods=[rule], num_steps=40, layers=layers)
    (method,) = found.methods
    unit, points = (a / np.linalg.norm(a, axis=1)[:, None] for a in (x, more))
    kernel, cross = relu_gram(unit, layers=layers), relu_gram(points, unit, layers=layers)
    labels, targets = y.astype(int), np.eye(10)[y.astype(int)]
    now = before = np.zeros_like(targets)  # U = H a, and a moves as weights do
    curves = []
    for _ in range(41):
        u, tested = kernel @ now, cross @ now
        curves.append(
            [
                entropy(u, labels),
                (u.argmax(axis=1) == labels).mean(),
                entropy(tested, wanted.astype(int)),
                (tested.argmax(axis=1) == wanted).mean(),
            ]
        )
        p = np.exp(u - u.max(axis=1, keepdims=True))
        gradient = p / p.sum(axis=1, keepdims=True) - targets + decay * now
        now, before = now - 0.05 * gradient + 0.8 * (now - before), now
    losses = np.array(curves)
    assert method.training.k.tolist() == list(range(41))
    # rounding of 40 products of 60 terms, of logits of size one
    for curve, columns in ((method.training, (0, 1)), (method.test, (2, 3))):
        np.testing.assert_allclose(curve.loss, losses[:, columns[0]], rtol=1e-10)
        np.testing.assert_allclose(curve.accuracy[1:], losses[1:, columns[1]], rtol=1e-12)
        assert curve.best == losses[:, columns[0]].argmin()
    largest = np.linalg.eigvalsh(kernel)[-1]
    assert largest * (1 - 1e-12) <= found.L <= 1.01 * largest  # 30 steps of Lanczos of 60
    assert found.classes == tuple(range(10))


def test_gradient_descent_below_the_safe_rate_descends(digits):
    x, y, *_ = digits
    safe = forecast_classes(x, y, methods=["gd"], num_steps=1).safe_lr
    (method,) = forecast_classes(x, y, methods=["gd"], num_steps=30, lr=0.99 * safe).methods
    assert np.all(np.diff(method.training.loss) < 0)
    assert method.test is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"y": np.linspace(0, 1, 60)},
            "y does not fit the loss softmax, which takes class labels: .* whole numbers",
        ),
        ({"y": np.zeros(60)}, "y does not fit the loss softmax.* two or more"),
        ({"test": 12}, "test has the label 12.*, of which there is no example to train on"),
        ({"y": np.eye(2)[np.arange(60) % 2]}, "y does not fit the loss softmax.* y|labels must have shape"),
        ({"methods": [Adam(0.1)]}, "Adam.* not linear"),
        ({"x": np.zeros((60, 64))}, "x has only blank rows"),
        ({"methods": ["tm"]}, "unknown method 'tm'"),
        ({"num_steps": 0}, "num_steps must be an integer of at least 1"),
        ({"layers": "both", "weight_decay": 0.1}, "the kernel shrinks"),
    ],
)
def test_what_is_no_problem_of_classes_is_refused(digits, change, words):
    x, y, more, wanted = digits
    change = dict(change)
    labels, x = change.pop("y", y), change.pop("x", x)
    if "test" in change:  # a class without examples
        change["test"] = more, np.where(wanted == 3, change["test"], wanted)
    with pytest.raises(ValueError, match=words):
        forecast_classes(x, labels, **change)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_predict_with_softmax_prints_and_writes_test_curves(monkeypatch, capsys, tmp_path, digits):
    x, y, more, wanted = digits
    np.savez(tmp_path / "d.npz", x=x.reshape(-1, 1, 8, 8), y=y.astype(int))
    both = np.concatenate([more, x[:2]]).reshape(-1, 1, 8, 8), np.concatenate([wanted, y[:2]]).astype(int)
    np.savez(tmp_path / "t.npz", x=both[0], y=both[1])
    arguments = [tmp_path / "d.npz", "--test", tmp_path / "t.npz", "--loss", "softmax", "--steps", "15"]
    code, out, err = run(monkeypatch, capsys, *arguments, "--json", "--out", tmp_path / "o")
    assert code == 0
    shown = json.loads(out)
    assert (shown["n"], shown["p"], shown["loss"], [m["name"] for m in shown["methods"]]) == (
        60, 32, "softmax", ["gd", "hb", "nag"],
    )  # fmt: skip
    require_fit(plot.class_curves(forecast_classes(x, y, test=(more, wanted), num_steps=3)).figure)
    assert (tmp_path / "o" / "forecast.png").exists()
    with np.load(tmp_path / "o" / "forecast.npz") as arrays:
        assert arrays["nag_test_loss"][-1] == pytest.approx(
            shown["methods"][2]["test"]["last"]["loss"], rel=1e-12
        )
    code, out, err = run(monkeypatch, capsys, *arguments, "--classes")  # as they are in any case
    assert code == 0
    assert "2 of the 32 rows of test are rows of x too" in " ".join(out.split())
    assert "Warning" not in err
    for more_arguments, words in (
        (["--target", "0.1"], "target is an option of the squared loss"),
        (["--loss", "hinge"], "loss must be 'squared' or 'softmax', got 'hinge'"),
    ):
        code, out, err = run(monkeypatch, capsys, *arguments, *more_arguments)
        assert (code, out) == (2, "")
        assert words in err
