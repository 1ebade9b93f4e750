"""Forecasts: what they promise is what the discrete method does on the dense kernel; the command line."""

import json
import sys

import numpy as np
import pytest

from odeopt import GradientDescent, cli, forecast, loss_curve, relu_gram, spectral_measure
from odeopt.data import load_digits, prepare
from odeopt.rules import Cosine


@pytest.fixture(scope="module")
def digits():
    return load_digits(150)


def test_steps_are_those_of_the_dense_kernel(digits):
    found = forecast(*digits, methods=["gd", "hb", "nag", "nagc", "tm"], target=0.01, num_matvecs=150)
    data = prepare(*digits)
    exact = spectral_measure(relu_gram(data.x), -data.y)
    assert found.initial_loss == pytest.approx(75, rel=1e-12)  # targets of unit root mean square
    for method in found.methods:
        k = np.arange(method.steps.value + 1)
        loss = loss_curve(method.rule, exact, k).loss
        assert loss[-1] <= 0.01 * 75 * (1 + 1e-9) < loss[:-1].min() * (1 + 2e-9)  # rounding of 1000 steps
        assert method.rule.lr < method.lr_limit * (1 + 1e-9)


def test_few_lanczos_steps_give_bounds_that_hold(digits):
    many = forecast(*digits, methods=["gd", "hb"], target=0.05, num_matvecs=150)
    few = forecast(*digits, methods=["gd", "hb"], target=0.05, num_matvecs=25)
    data = prepare(*digits)
    exact = spectral_measure(relu_gram(data.x), -data.y)
    for method in few.methods:
        curve = loss_curve(method.rule, exact, method.curve.k).loss
        assert method.curve.rigorous
        assert np.all(method.curve.lower <= curve * (1 + 1e-12))
        assert np.all(curve <= method.curve.upper * (1 + 1e-12))
    assert len(many.methods) == 2


def test_tuned_for_a_number_of_steps_is_not_worse_there(digits):
    usual, best = (
        forecast(*digits, methods=["hb"], target=0.05, num_matvecs=60, best_at=at).methods[0].rule
        for at in (None, 30)
    )
    data = prepare(*digits)
    exact = spectral_measure(relu_gram(data.x), -data.y)
    losses = [loss_curve(rule, exact, [30]).loss[0] for rule in (best, usual)]
    assert losses[0] <= losses[1]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


@pytest.fixture
def path(tmp_path, digits):
    np.savez(tmp_path / "d.npz", x=digits[0], y=digits[1])
    return tmp_path / "d.npz"


def test_predict_prints_a_plan_and_a_table_and_writes_three_files(monkeypatch, capsys, tmp_path, path):
    options = ["--target", "0.02", "--matvecs", "60", "--out", tmp_path / "o", "--pictures", "pdf"]
    code, out, err = run(monkeypatch, capsys, path, *options)
    assert code == 0
    for word in ("gd", "hb", "nag", "HeavyBall(lr=", "Steps to 0.02", "rigorous"):
        assert word in out
    assert "Memory: n = 150, storage float64" in err
    names = sorted(p.name for p in (tmp_path / "o").iterdir())
    assert names == ["forecast.json", "forecast.npz", "forecast.pdf"]


def test_device_changes_no_number_that_is_shown(monkeypatch, capsys, path):
    arguments = (path, "--methods", "gd,hb", "--target", "0.1")
    shown = [run(monkeypatch, capsys, *arguments, *more) for more in ([], ["--device", "cpu"])]
    assert shown[0][:2] == shown[1][:2]
    assert shown[0][0] == 0


def test_json_holds_the_forecast(monkeypatch, capsys, path):
    code, out, _ = run(monkeypatch, capsys, path, "--methods", "gd", "--target", "0.1", "--json", "--n", "50")
    assert code == 0
    shown = json.loads(out)
    assert (shown["n"], shown["target"], shown["methods"][0]["name"]) == (50, 0.1, "gd")
    assert shown["methods"][0]["steps_low"] <= shown["methods"][0]["steps"]


def test_predict_takes_schedules_decay_averages_and_rules_of_ones_own(monkeypatch, capsys, tmp_path, path):
    source = "from odeopt import GradientDescent\n\n\nclass Own(GradientDescent):\n    pass\n"
    (tmp_path / "own_rules.py").write_text(source)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = [
        path, "--n", "40", "--target", "0.5", "--steps", "50", "--methods", "gd,nag", "--lr", "cosine:0.05",
        "--weight-decay", "0.1", "--decoupled", "--average", "polyak",
        "--rule", f"{tmp_path / 'own_rules.py'}:Own lr=linear:0.05 weight_decay=0.2 to_start=true",
        "--rule", "Lookahead gd lr=0.05 steps=4",
    ]  # fmt: skip
    code, out, _ = run(monkeypatch, capsys, *arguments, "--json")
    assert code == 0
    gd, nag, own, ahead = json.loads(out)["methods"]
    assert gd["rule"].startswith(
        "Averaged(GradientDescent(lr=Cosine(0.05, 50, 0), weight_decay=0.1, decoupled"
    )
    assert (nag["run"], nag["last_step"], own["run"], ahead["run"]) == (50, 50, 50, None)
    assert own["hyperparameters"]["to_start"] is True
    low, loss, high = own["last_loss"]
    assert own["last_loss_proved"]
    assert low <= loss <= high
    code, out, _ = run(monkeypatch, capsys, *arguments)
    assert code == 0
    words = " ".join(out.split())
    assert "Own: after 50 steps, the end of its run, " in words
    assert "No method whose iterates follow gradients from this start needs fewer than" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rule", "Adam lr=0.1"], ["not linear", "no loss curve", "check() trains"]),
        (["--weight-decay", "0.1", "--layers", "both"], ["kernel shrinks", "to_start"]),
        (["--lr", "5"], ["lr = 5 exceeds the stability limit"]),
        (["--lr", "0.1", "--best-at", "9"], ["lr = '0.1' is no schedule", "--best-at"]),
        (["--rule", "Averaged lr=0.1"], ["Averaged goes around a rule"]),
        (["--methods", "gd,nagg"], ["unknown method 'nagg'", "nagc"]),
        (["--methods", ","], ["methods must not be empty"]),
        (["--target", "2"], ["target", "(0, 1)", "2"]),
        (["--matvecs", "0"], ["matvecs", "0"]),
        (["--storage", "float16"], ["storage", "float16"]),
        (["--device", "abacus"], ["device = 'abacus' cannot be used", "try 'cpu'"]),
        (["--depth", "0"], ["depth", "0"]),
        (["--layers", "last"], ["layers", "last"]),
        (["--best-at", "0"], ["best_at", "0"]),
        (["--max-steps", "0"], ["max_steps", "0"]),
        (["--out", "/proc/nowhere"], ["out", "/proc/nowhere", "writable"]),
    ],
)
def test_refusals_are_one_line_and_status_two(monkeypatch, capsys, path, arguments, words):
    code, out, err = run(monkeypatch, capsys, path, *arguments)
    assert (code, out) == (2, "")
    lines = [line for line in err.splitlines() if line.startswith("odeopt: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_missing_file_is_named(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, tmp_path / "missing.npz")
    assert code == 2
    assert "missing.npz" in err


def test_the_best_peak_of_a_schedule_is_found_and_its_run_ends():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 6)), rng.standard_normal(20)
    options = {"methods": ["gd"], "target": 0.5, "best_at": 30}
    (method,) = forecast(x, y, schedule=Cosine(1.0, 30), **options).methods
    peaks = np.geomspace(0.5, 2, 41) * method.rule.lr(0)
    measure = forecast(x, y, **options).measure
    rules = [GradientDescent(Cosine(peak, 30)) for peak in peaks if peak <= method.lr_limit]
    found = loss_curve(method.rule, measure, [30]).loss[0]
    assert found <= min(loss_curve(rule, measure, [30]).loss[0] for rule in rules) * (1 + 1e-6)
    assert method.curve.k[-1] <= 30
    assert method.to_dict()["hyperparameters"]["lr"]["schedule"] == "Combined"
    with pytest.raises(ValueError, match="best_at must be an integer of at least 1, got None"):
        forecast(x, y, methods=["gd"], schedule=Cosine(1.0, 30))
