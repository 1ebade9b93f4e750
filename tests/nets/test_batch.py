"""Many networks trained at once: the iterates of each by itself, in full and in the row space of X."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from odeopt import GradientDescent, HeavyBall, HigherMomentum, Nesterov, TorchSGD
from odeopt.data import load_digits, prepare
from odeopt.nets import DeepReLU, TwoLayerReLU, empirical_gram, sweep, train, train_batch, train_sgd
from odeopt.rules.adaptive import Adam
from odeopt.rules.averaged import Averaged, Lookahead, ScheduleFree
from odeopt.rules.base import UpdateRule
from odeopt.rules.schedules import Cosine, Linear, Step, Warmup
from odeopt.rules.tables import Table

EPS = np.finfo(float).eps
RULES = {
    "gd": [GradientDescent(lr) for lr in (0.05, 0.1, 0.02)],
    "hb": [HeavyBall(0.05, momentum) for momentum in (0.2, 0.5, 0.8)],
    "nag": [Nesterov(0.05, r) for r in (2.0, 3.0, 6.0)],
    "hm": [HigherMomentum(0.05, (0.2, beta)) for beta in (0.1, 0.2, 0.3)],
    "torch": [TorchSGD(0.05, 0.5), TorchSGD(0.1, 0.5), TorchSGD(0.02, 0.5)],
    "schedules": [GradientDescent(lr) for lr in (Cosine(0.1, 40), 0.05, Warmup(5) * Linear(0.08, 50))],
    "scheduled momentum": [HeavyBall(Cosine(0.05, 40), Linear(b, 30, end=0.3)) for b in (0.5, 0.8, 0.9)],
    "decay to the start": [TorchSGD(0.05, 0.5, weight_decay=g, to_start=True) for g in (0.1, 0.2, 0.5)],
    "averages": [Averaged(HeavyBall(lr, 0.5), decay=0.9) for lr in (0.05, 0.02, Cosine(0.05, 40))],
    "lookahead": [Lookahead(GradientDescent(0.05), 5, alpha) for alpha in (0.4, 0.5, 0.6)],
    "schedule-free": [ScheduleFree(0.05, beta) for beta in (0.5, 0.8, 0.9)],
    "one": [HeavyBall(0.05, 0.5)] * 3,
}


@pytest.fixture(scope="module")
def digits():
    return prepare(*load_digits(16))  # 16 inputs of dimension 64


def networks(layers="first", m=30, d=64):
    return [TwoLayerReLU(d, m, layers=layers, seed=seed) for seed in range(3)]


def assert_same_run(ours, theirs, net, other):
    # The same formulas in another order: a few roundings of numbers of order 1 in each of forty stable steps,
    # in sums of at most 64 terms.
    close = {"rtol": 0, "atol": 40 * 64 * EPS * max(1.0, np.abs(theirs.predictions).max())}
    np.testing.assert_allclose(ours.predictions, theirs.predictions, **close)
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-10, atol=1e-12 * theirs.loss[0])
    np.testing.assert_allclose(net.weights.detach(), other.weights.detach(), rtol=0, atol=close["atol"] * 4)
    np.testing.assert_allclose(net.a.detach(), other.a.detach(), rtol=0, atol=close["atol"] * 4)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("layers", ["first", "both"])
@pytest.mark.parametrize("row_space", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_each_network_runs_as_by_itself(digits, rules, layers, row_space, reduction):
    nets = networks(layers)
    runs = train_batch(
        nets, rules, digits.x, digits.y, 40, row_space=row_space, reduction=reduction, record_at=[0, 1, 7, 40]
    )
    for net, other, rule, run in zip(nets, networks(layers), rules, runs, strict=True):
        alone = train(other, rule, digits.x, digits.y, 40, reduction=reduction, record_at=[0, 1, 7, 40])
        assert_same_run(run, alone, net, other)
        assert run.rule == rule
        np.testing.assert_array_equal(run.k, alone.k)
        np.testing.assert_array_equal(run.initial_kernel, alone.initial_kernel)
        assert run.kernel_scale == alone.kernel_scale


def test_rules_that_differ_in_kind_are_trained_apart(digits):
    rules = [GradientDescent(0.1), GradientDescent(0.1, weight_decay=0.1), GradientDescent(0.2)]
    with pytest.raises(ValueError, match="must not differ in weight_decay"):
        train_batch(networks(), rules, digits.x, digits.y, 3)
    wrapped = [Averaged(rule) for rule in (GradientDescent(0.1), HeavyBall(0.1, 0.5), GradientDescent(0.1))]
    with pytest.raises(ValueError, match="must be of one method, got GradientDescent, HeavyBall"):
        train_batch(networks(), wrapped, digits.x, digits.y, 3)


def test_steps_past_the_end_of_a_table_are_refused_before_the_first(digits):
    rule, net = GradientDescent(Table((0.1,) * 5)), networks()[0]
    before = net.weights.detach().clone()
    train(networks()[0], rule, digits.x, digits.y, 5)
    for run in (
        lambda: train(net, rule, digits.x, digits.y, 6),
        lambda: train_sgd(net, rule, digits.x, digits.y, 6, batch_size=2),
        lambda: train_batch([net], rule, digits.x, digits.y, 6),
        lambda: sweep([rule], digits.x, digits.y, 6, "never-made"),
    ):
        with pytest.raises(
            ValueError, match=r"num_steps = 6 .*Table\(5 values\)\) ends at k = 4, after 5 steps"
        ):
            run()
    assert torch.equal(net.weights, before)


def test_schedules_are_stable_or_not_over_the_steps_of_the_run(digits):
    limit = 2 / np.linalg.eigvalsh(empirical_gram(networks()[0], digits.x))[-1]
    # above the limit for a tenth of the run: |1 - 2.2|^4 = 2.1, later well below it
    brief = GradientDescent(Step(1.1 * limit, (4,), factor=0.2))
    train(networks()[0], brief, digits.x, digits.y, 40)
    # from k = 37 on its rate is below the limit
    with pytest.raises(ValueError, match=r"unstable over num_steps = 40: .* times by k = 37"):
        train(networks()[0], GradientDescent(Linear(1.1 * limit, 400)), digits.x, digits.y, 40)


def test_decay_to_zero_shrinks_what_no_gradient_moves_and_is_never_run_in_the_row_space(digits):
    rules = [HeavyBall(Cosine(0.05, 40), 0.5, weight_decay=g, decoupled=True) for g in (0.1, 0.2, 0.5)]
    nets = networks()
    runs = train_batch(nets, rules, digits.x, digits.y, 40)
    for net, other, rule, run in zip(nets, networks(), rules, runs, strict=True):
        assert_same_run(run, train(other, rule, digits.x, digits.y, 40), net, other)
    outside = np.linalg.svd(digits.x)[2][len(digits.x) :]
    before, after = (n.weights.detach().numpy() @ outside.T for n in (networks()[0], nets[0]))
    left = np.prod([1 - rules[0].lr(k) * 0.1 for k in range(40)])
    np.testing.assert_allclose(after, left * before, rtol=0, atol=40 * 64 * EPS)
    with pytest.raises(ValueError, match="row_space needs a linear rule"):
        train_batch(networks(), rules, digits.x, digits.y, 40, row_space=True)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("layers", ["first", "both"])
def test_one_network_in_the_row_space_runs_as_in_full(digits, rules, layers, monkeypatch):
    options = {"laziness_at": [0, 20, 40], "kernel_at": [40], "snapshot_at": [20]}
    net, other = (TwoLayerReLU(64, 30, layers=layers) for _ in range(2))
    ours = train(net, rules[0], digits.x, digits.y, 40, **options)
    module = sys.modules["odeopt.nets.training.train"]  # by attribute the name is that of the function
    monkeypatch.setattr(module, "in_row_space", lambda problem, rule: problem)
    theirs = train(other, rules[0], digits.x, digits.y, 40, **options)
    assert_same_run(ours, theirs, net, other)
    close = {"rtol": 1e-9, "atol": 1e-12}
    for name in ("kernel_drift", "lam_min", "weight_travel", "neuron_travel", "flipped", "flips", "impulses"):
        np.testing.assert_allclose(getattr(ours.laziness, name), getattr(theirs.laziness, name), **close)
    np.testing.assert_allclose(ours.kernel_drift, theirs.kernel_drift, **close)
    np.testing.assert_allclose(
        ours.snapshots[0].predict([20, 60]), theirs.snapshots[0].predict([20, 60]), **close
    )


def test_row_space_is_taken_by_itself_only_for_linear_rules_and_wide_inputs(digits, monkeypatch):
    seen = []
    genuine = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda a: seen.append(tuple(a.shape)) or genuine(a))
    train_batch(networks(), HeavyBall(0.05, 0.5), digits.x, digits.y, 2)
    train(TwoLayerReLU(64, 5), HeavyBall(0.05, 0.5), digits.x, digits.y, 2)
    assert seen == [(64, 16)] * 4
    train(TwoLayerReLU(64, 5), Adam(0.001), digits.x, digits.y, 2, allow_unstable=True)
    # Adam works entry by entry, so it is another method in other coordinates.
    train_batch(networks(), Adam(0.001), digits.x, digits.y, 2, allow_unstable=True)
    train_batch(networks(d=8), GradientDescent(0.05), digits.x[:, :8] + 1, digits.y, 2, allow_unstable=True)
    assert len(seen) == 4
    with pytest.raises(ValueError, match="row_space needs a linear rule"):
        train_batch(networks(), Adam(0.001), digits.x, digits.y, 2, row_space=True, allow_unstable=True)


@dataclass(frozen=True)
class Decayed(UpdateRule):
    """Weight decay: linear, but it moves what no gradient moves."""

    lr: float
    decay: float = 0.5

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return (1 - self.lr * self.decay) * x - self.lr * grad(x), memory


def test_weights_outside_the_row_space_decay_too(digits):
    net, reference = TwoLayerReLU(64, 5), TwoLayerReLU(64, 5)
    train(net, Decayed(0.05), digits.x, digits.y, 30, allow_unstable=True)
    descent = torch.optim.SGD(reference.parameters(), lr=0.05, weight_decay=0.5)
    x, y = torch.tensor(digits.x), torch.tensor(digits.y)
    for _ in range(30):
        descent.zero_grad()
        (0.5 * ((reference(x) - y) ** 2).sum()).backward()
        descent.step()
    torch.testing.assert_close(
        net.weights, reference.weights, rtol=0, atol=1e-12
    )  # 30 steps of a few roundings
    with pytest.raises(ValueError, match="row_space needs a linear rule"):
        train_batch(networks(), Decayed(0.05), digits.x, digits.y, 2, row_space=True, allow_unstable=True)


def test_a_rule_of_averages_runs_in_a_batch_too(digits):
    nets, others = networks(), networks()
    rules = [Adam(lr) for lr in (0.001, 0.002, 0.003)]
    runs = train_batch(nets, rules, digits.x, digits.y, 10, allow_unstable=True)
    for other, rule, run in zip(others, rules, runs, strict=True):
        alone = train(other, rule, digits.x, digits.y, 10, allow_unstable=True)
        np.testing.assert_allclose(run.loss, alone.loss, rtol=1e-7)  # g / |g| amplifies roundings of small g


def test_one_that_diverges_leaves_the_others_alone(digits):
    nets, others = networks(), networks()
    rules = [GradientDescent(lr) for lr in (0.05, 1e160, 0.02)]
    runs = train_batch(nets, rules, digits.x, digits.y, 20, allow_unstable=True)
    for net, other, rule, run in zip(nets, others, rules, runs, strict=True):
        alone = train(other, rule, digits.x, digits.y, 20, allow_unstable=True)
        assert run.diverged_at == alone.diverged_at
        np.testing.assert_array_equal(run.k, alone.k)
        assert torch.isfinite(net.weights).all()
    assert [run.diverged_at is None for run in runs] == [True, False, True]


@pytest.mark.parametrize(
    ("nets", "rules", "words"),
    [
        (list, GradientDescent(0.1), ["nets must not be empty"]),
        (lambda: [DeepReLU(64, 5)], GradientDescent(0.1), ["DeepReLU", "use train"]),
        (lambda: [TwoLayerReLU(64, 5), TwoLayerReLU(64, 6)], GradientDescent(0.1), ["one size"]),
        (lambda: [TwoLayerReLU(64, 5)] * 2, GradientDescent(0.1), ["different networks"]),
        (networks, [GradientDescent(0.1)], ["one for each of the 3 nets", "got 1"]),
        (networks, [GradientDescent(0.1), HeavyBall(0.1, 0.5), GradientDescent(0.1)], ["one method"]),
        (networks, [TorchSGD(0.1), TorchSGD(0.1, 0.5), TorchSGD(0.1)], ["branch on a hyperparameter"]),
        (networks, [HigherMomentum(0.1, b) for b in ((0.1,), (0.1, 0.2), (0.1,))], ["number of iterates"]),
        (networks, GradientDescent(50.0), ["lr = 50", "stability limit"]),
    ],
)
def test_refusals(digits, nets, rules, words):
    with pytest.raises(ValueError) as refused:
        train_batch(nets(), rules, digits.x, digits.y, 3)
    for word in words:
        assert word in str(refused.value)
