"""Checks of what people run: schedules, decay, averages, adaptive methods; what is not known is said."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from odeopt import Adam, GradientDescent, HeavyBall, check
from odeopt.rules import Averaged, Cosine, Linear, Table, TorchSGD, WarmupStableDecay
from odeopt.studies import CheckSettings

CHAIN = ("trained", "discrete_h0", "ode_h0", "ode_inf")
SETTINGS = CheckSettings(width=2048, seeds=1, num_steps=80)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(6)
    return rng.standard_normal((10, 6)), rng.standard_normal(10)


@pytest.fixture(scope="module")
def report(data):
    rules = [
        Adam(Cosine(0.01, 80)),
        GradientDescent(Table((0.1,) * 80)),
        Averaged(HeavyBall(0.1, 0.8), decay=0.9),
    ]
    return check(*data, methods=rules, settings=SETTINGS)


@pytest.mark.parametrize(
    "rule_of",
    [
        lambda n: GradientDescent(WarmupStableDecay(16 / n, n, n // 10, n // 5)),
        lambda n: TorchSGD(Cosine((8 / n) ** 2, n), 1 - 6 / n),
    ],
    ids=["gd, wsd", "torch, cosine"],
)
def test_the_step_part_of_a_schedule_is_of_first_order_in_the_step(data, rule_of):
    parts = []
    for n in (80, 320):
        settings = CheckSettings(width=64, seeds=1, num_steps=n)
        method = check(*data, methods=[rule_of(n)], settings=settings).methods[0]
        assert set(CHAIN) <= set(method.curves)
        parts.append(method.budget["discrete H(0) - ODE H(0)"])
    assert np.log(parts[0] / parts[1]) / np.log(4) == pytest.approx(1.0, abs=0.1)


def test_parts_of_a_scheduled_budget_add_up(data):
    method = check(*data, methods=[HeavyBall(Cosine(0.1, 80), 0.8)], settings=SETTINGS).methods[0]
    c = method.curves
    parts = sum(c[a] - c[b] for a, b in itertools.pairwise(CHAIN))
    np.testing.assert_allclose(parts, c["trained"] - c["ode_inf"], atol=1e-12 * c["trained"][0, 0])
    assert method.error_ode == "Delta'' + 0.632456*Delta' + s(t)*H*Delta = 0"
    assert method.budget["trained - discrete H(0)"] < 0.05  # width 2048: some m^(-1/2)


def test_an_adaptive_rule_is_trained_with_its_ode_and_no_prediction_and_that_is_said(report):
    method = report["Adam"]
    assert set(method.curves) == {"k", "t", "trained"}
    assert method.curves["trained"][0, -1] < 0.5 * method.curves["trained"][0, 0]
    assert "grad f(X)**2" in method.weight_ode
    assert (method.error_ode, method.exact_ode, method.exact_discrete, method.budget) == ("", None, None, {})
    assert "not linear in its iterates" in method.notes["discrete_h0"]
    assert "not closed in (Delta, H)" in method.notes["error_ode"]


def test_values_without_a_formula_have_an_iteration_and_no_ode(report):
    method = report["GradientDescent"]
    assert "discrete_h0" in method.curves
    assert "ode_h0" not in method.curves
    assert method.time_step is None
    np.testing.assert_array_equal(method.curves["t"], method.curves["k"])
    assert "known at integers k only" in method.notes["weight_ode"]


def test_an_averaged_rule_is_compared_at_the_average(report):
    method = report["Averaged"]
    assert method.budget["trained - discrete H(0)"] < 0.05
    assert "discrete_h0" in method.curves


@pytest.mark.usefixtures("axes_as_they_fall")
def test_a_report_with_gaps_is_saved_and_printed(report, tmp_path, capsys):
    from odeopt.cli.check_table import print_check

    folder = report.save(tmp_path / "out")
    stored = json.loads((folder / "check.json").read_text())["methods"]
    assert stored[0]["hyperparameters"]["lr"] == {
        "schedule": "Cosine",
        "start": 0.01,
        "steps": 80,
        "end": 0.0,
    }
    assert "discrete_h0" in stored[0]["notes"]
    assert stored[1]["time_step"] is None
    print_check(report)
    out = " ".join(capsys.readouterr().out.split())
    assert "Adam: trained without linear prediction: the step of Adam" in out
    assert "GradientDescent: no ODE: GradientDescent(lr=Table(80 values)) has no limit" in out


@pytest.mark.parametrize(
    "rule",
    [GradientDescent(0.1, weight_decay=0.05), TorchSGD(0.05, 0.8, weight_decay=0.05)],
    ids=lambda r: r.label,
)
def test_decay_to_zero_is_predicted_from_the_weights_at_the_start(data, rule):
    method = check(*data, methods=[rule], settings=SETTINGS).methods[0]
    assert set(CHAIN) <= set(method.curves)
    assert method.budget["trained - discrete H(0)"] < 0.02  # width 2048: some m^(-1/2)
    assert method.integration_error < 1e-8
    assert method.times_fewest is None  # the pull leaves the span of the gradients
    # without the pull on the weights the prediction is another one
    bare = check(*data, methods=[rule.without_decay()], settings=SETTINGS).methods[0]
    gap = (
        np.abs(method.curves["discrete_h0"] - bare.curves["discrete_h0"]).max() / bare.curves["trained"][0, 0]
    )
    assert gap > 0.01


def test_named_methods_take_a_schedule_and_decay(data):
    options = {"lr": Cosine(0.1, 80), "weight_decay": 0.01, "to_start": True}
    report = check(*data, methods=["gd"], settings=replace(SETTINGS, width=64, **options))
    assert report["gd"].rule == GradientDescent(**options)
    assert report.to_dict()["settings"]["lr"]["schedule"] == "Cosine"
    report = check(*data, methods=["hb"], settings=replace(SETTINGS, width=64, lr=options["lr"]))
    friction = 2 * np.sqrt(report.problem["lambda_min_h_inf"])
    assert report["hb"].rule.momentum == HeavyBall.with_friction(0.1, friction).momentum
    with pytest.raises(ValueError, match="hm has no weight decay"):
        check(*data, methods=["gd", "hm"], settings=replace(SETTINGS, **options))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (GradientDescent(Table((0.1,) * 79)), r"num_steps = 80 .*Table\(79 values\)\) ends at k = 78"),
        (GradientDescent(Linear(50.0, 80)), "unstable over num_steps = 80"),
        (GradientDescent(0.1, weight_decay=50.0), "exceeds the stability limit"),
        ("adam", "unknown method 'adam'"),
    ],
)
def test_refusals_come_before_training(data, rule, words):
    def started(stage, *_):
        assert stage == "kernels", f"{stage} was begun"  # of H(0), which stability limits are read from

    with pytest.raises(ValueError, match=words):
        check(*data, methods=["gd", rule], settings=replace(SETTINGS, lr=0.1), progress=started)
