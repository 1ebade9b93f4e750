"""The paper's study: the authors' network, its flags, its predictions from the start and anew."""

import concurrent.futures as cf
import json
import sys

import numpy as np
import pytest
import torch
from figures import kinds, require_fit
from matplotlib.colors import to_rgb
from torch import nn

from odeopt import GradientDescent, cli, discrete_rate, max_learning_rate, plot
from odeopt.data import load_digits
from odeopt.nets import (
    DIGITS_SQUARED_NORM,
    PaperReLU,
    PaperSettings,
    empirical_gram,
    empirical_operator,
    paper_data,
    paper_figures,
    paper_study,
    power_slopes,
    train,
    train_batch,
    unstable_runs,
)

# Learning rates are scaled with the width, on which the kernel of this network depends in proportion.
SMALL = PaperSettings(
    width=300,
    epochs=200,
    lr=1e-3,
    widths=(50, 300),
    width_epoch=60,
    width_lr=1e-3,
    seeds=2,
    restart=50,
    curve_seeds=2,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with cf.ThreadPoolExecutor(1) as pool:
        return paper_study(
            *load_digits(30), folder, settings=SMALL, squared_norm=DIGITS_SQUARED_NORM, executor=pool
        )


def held_by(study, figure, label, width=300, seed=0):
    (entry,) = (
        entry
        for entry in study.entries
        if (entry["spec"]["figure"], entry["spec"]["label"]) == (figure, label)
        and (entry["spec"]["width"], entry["spec"]["seed"]) == (width, seed)
    )
    return study.load(entry)


def authors_network(net):
    """The same function by the layers of torch."""
    first, last = nn.Linear(net.d - 1, net.m), nn.Linear(net.m, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(net.weights[:, :-1])
        first.bias.copy_(net.weights[:, -1])
        last.weight.copy_(net.a[None])
    return nn.Sequential(first, nn.ReLU(), last).double()


@pytest.fixture
def example():
    return paper_data(*load_digits(20), squared_norm=DIGITS_SQUARED_NORM)


def lifted(module, net):
    """The weights of torch's layers in double precision, exactly those of the network."""
    with torch.no_grad():
        module[0].weight.copy_(net.weights[:, :-1])
        module[0].bias.copy_(net.weights[:, -1])
        module[2].weight.copy_(net.a[None])
    return module


def test_network_is_that_of_torchs_layers_with_its_kernel(example):
    x, _ = example
    net = PaperReLU(64, 40)
    module = lifted(authors_network(net), net)
    inputs = torch.tensor(x)
    np.testing.assert_allclose(net(inputs).detach(), module(inputs[:, :-1]).detach()[:, 0], atol=1e-12)
    ours, theirs = empirical_gram(net, x), empirical_operator(module, x[:, :-1]).gram()
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_initialisation_is_the_stated_one():
    net = PaperReLU(64, 5000, seed=1)
    weights, bias, a = net.weights[:, :-1].detach(), net.weights[:, -1].detach(), net.a.detach()
    # 320000 normal numbers: standard error of the deviation 0.13 %; 5000 uniform ones: 0.6 % of the range
    assert weights.std().item() == pytest.approx(1 / 5000, rel=0.006)
    assert bias.abs().max().item() == pytest.approx(1 / 8, rel=0.01)
    assert a.abs().max().item() == pytest.approx(1.0, rel=0.01)
    assert abs(a.mean().item()) < 4 * 3**-0.5 / 5000**0.5


def test_training_is_that_of_torch_optim(example):
    # The notebook's loop: MSELoss, SGD with momentum, for Nesterov the momentum overwritten before each step.
    x, y = example
    for figure, label, momentum_at in (
        ("heavy ball", "beta = 0.5", lambda k: 0.5),
        ("Nesterov", "d = 3", lambda k: k / (k + 3)),
    ):
        rule = PaperSettings().figures()[figure][label].replace(lr=1e-4)
        net = PaperReLU(64, 40)
        module = lifted(authors_network(net), net)
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.5, nesterov=figure == "Nesterov")
        losses = []
        for k in range(31):
            optimizer.param_groups[0]["momentum"] = momentum_at(k)
            optimizer.zero_grad()
            loss = nn.MSELoss()(module(torch.tensor(x[:, :-1]))[:, 0], torch.tensor(y))
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
        run = train(net, rule, x, y, 30, reduction="mean", allow_unstable=True)
        np.testing.assert_allclose(2 / 20 * run.loss, losses, rtol=1e-9)


def test_the_engine_of_batches_trains_it_too(example):
    x, y = example
    rule = PaperSettings().figures()["heavy ball"]["beta = 0.5"]
    nets, others = ([PaperReLU(64, 40, seed=s) for s in (0, 1)] for _ in range(2))
    for run, other in zip(train_batch(nets, rule, x, y, 20, reduction="mean"), others, strict=True):
        np.testing.assert_allclose(run.loss, train(other, rule, x, y, 20, reduction="mean").loss, rtol=1e-9)


def test_study_holds_all_runs_of_the_figures(study):
    assert not study.failures
    counts = {}
    for entry in study.entries:
        counts[entry["spec"]["figure"]] = counts.get(entry["spec"]["figure"], 0) + 1
    assert counts == {
        "heavy ball, width": 12, "Nesterov, width": 12, "heavy ball": 8, "Nesterov": 8, "higher momentum": 10,
    }  # fmt: skip


def test_unstable_starts_are_flagged_and_their_linear_prediction_grows(study):
    flagged, grown = unstable_runs(study), 0
    for entry in study.entries:
        held, spec = study.load(entry), entry["spec"]
        above = bool(held["lr_lam_max"] > held["limit"])
        if above:
            assert any(line.startswith(f"{spec['figure']}, {spec['label']}:") for line in flagged)
        if spec["figure"] == "heavy ball" and above:
            assert held["linear_loss"][-1] > 1e6 * held["loss"][0]
            assert held["loss"][-1] < held["loss"][0]  # the network itself settled
            grown += 1
    assert grown
    assert any(line.startswith("higher momentum, (0.2, 0.8)") for line in flagged)


def test_a_gradient_descent_that_is_stable_at_the_restart_is_predicted_from_there(study):
    held = held_by(study, "heavy ball", "beta = 0")
    later = held["k"] >= 50
    assert np.isnan(held["restart_loss"][~later]).all()
    assert held["restart_loss"][later][0] == pytest.approx(held["loss"][later][0], rel=1e-12)
    assert held["lr_lam_max_restart"] < held["limit"] == pytest.approx(2, rel=1e-6)
    # what is left is the drift of the kernel after the restart, a few tenths in this regime, in the exponent
    ratio = np.log(held["restart_loss"][later] / held["loss"][later])
    assert np.abs(ratio).max() < 0.7


def test_higher_momentum_without_friction_is_predicted_to_fail(study):
    # (0.2, 0.8): the momenta sum to 1, so there is no friction but of the order of the step. The largest
    # eigenvalue it stands is 0.8 / lr; below that slow modes decay 8 times more slowly than by descent.
    held = held_by(study, "higher momentum", "(0.2, 0.8)")
    assert held["limit"] == pytest.approx(0.8, rel=1e-3)
    rule = SMALL.figures()["higher momentum"]["(0.2, 0.8)"]
    assert max_learning_rate(rule, 1.0) == pytest.approx(0.8, rel=1e-3)
    slow, descent = (discrete_rate(r.replace(lr=1e-3), 1.0).value for r in (rule, GradientDescent(1.0)))
    assert slow < descent / 8
    last = held["k"] > 150
    assert held["restart_loss"][last].max() > 0.2 * held["restart_loss"][held["k"] >= 50][0]


def test_slopes_and_figures_come_from_the_results(study):
    rows = power_slopes(study, 60, 200)
    assert [row["r"] for row in rows] == [2, 3, 6, 8]
    assert all(row["power"] == -row["r"] and row["trained"] < 0 for row in rows)
    assert all(row["power and factor"] <= row["power"] + 1e-9 for row in rows)
    figure = paper_figures(study)
    assert len(figure.axes) == 6
    assert all(ax.lines and ax.get_title() for ax in figure.axes)
    require_fit(figure)
    assert [len(kinds(row)) for row in np.reshape(figure.axes, (2, 3))] == [1, 1]
    bands = [{tuple(band.get_facecolor()[0][:3]) for band in ax.collections} for ax in figure.axes]
    of_the_package = [to_rgb(colour) for colour in plot.COLOURS]
    assert all(found and found <= {*of_the_package} for found in bands)


def test_settings_and_data_refusals():
    with pytest.raises(ValueError, match="restart must lie between 0"):
        PaperSettings(restart=5000)
    with pytest.raises(ValueError, match="x must not be zero"):
        paper_data(np.zeros((2, 2)), [0, 1])
    with pytest.raises(ValueError, match="2 inputs and 3 targets"):
        paper_data(np.ones((2, 2)), [0, 1, 2])


# --- the command -------------------------------------------------------------------------------


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", *arguments])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_command_sweeps_in_processes_and_continues(monkeypatch, capsys, tmp_path):
    options = ["--methods", "gd,hb", "--widths", "32,64", "--seeds", "1", "--steps", "20", "--n", "12"]
    options += ["--lr", "0.1,50", "--workers", "1", "--out", str(tmp_path)]
    code, out, _ = run(monkeypatch, capsys, "sweep", *options)
    assert code == 0
    assert "4 runs done, 0 of all there before; 4 failed" in out
    assert out.count("lr = 50 exceeds the stability limit") == 4
    assert (tmp_path / "sweep.png").exists()
    code, out, _ = run(monkeypatch, capsys, "sweep", *options, "--json", "--pictures", "svg")
    picture = (tmp_path / "sweep.svg").read_text()
    assert picture.count("= 0.1") == 2  # what failed is not drawn
    assert not (tmp_path / "sweep.png").exists()
    told = json.loads(out)
    assert (told["done"], told["reused"], told["failed"]) == (4, 8, 4)  # what failed is there too
    assert [entry["status"] for entry in told["runs"]].count("done") == 4


@pytest.mark.usefixtures("axes_as_they_fall")
def test_command_draws_the_study(monkeypatch, capsys, tmp_path, study):
    monkeypatch.setattr("odeopt.nets.paper_study", lambda *_, **__: study)
    code, out, _ = run(monkeypatch, capsys, "sweep", "--study", "paper", "--out", str(tmp_path))
    assert code == 0
    assert (tmp_path / "paper.png").exists()
    said = " ".join(out.split())  # lines end at 80 columns
    assert "above the stability limit" in said
    assert "log-log slope of Nesterov: r 2.00" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--study", "papper"], ["study", "'papper'"]),
        (["--methods", "sgd"], ["unknown method 'sgd'"]),
        (["--lr", "a"], ["lr must be numbers", "'a'"]),
        (["--widths", "0"], ["widths", "0"]),
        (["--out", "/proc/nowhere"], ["not writable"]),
    ],
)
def test_command_refuses_in_one_line(monkeypatch, capsys, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "sweep", "--n", "12", *options)
    assert (code, out) == (2, "")
    (line,) = (line for line in err.splitlines() if line.startswith("odeopt: "))
    for word in words:
        assert word in line
