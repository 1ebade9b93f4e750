"""Departure from the linear theory: measured along a run, estimated before it, started anew from a state."""

import numpy as np
import pytest
import torch

from odeopt import GradientDescent, HeavyBall, Nesterov, TorchSGD, loss_curve, spectral_measure
from odeopt.data import load_digits, prepare
from odeopt.dynamics.losses import LogisticLoss
from odeopt.nets import (
    DeepReLU,
    PaperReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    paper_data,
    train,
    trust_estimate,
)
from odeopt.rules.adaptive import Adam
from odeopt.rules.averaged import Averaged, ScheduleFree
from odeopt.rules.base import iterate
from odeopt.rules.schedules import Cosine

EPS = np.finfo(float).eps


@pytest.fixture(scope="module")
def digits():
    return prepare(*load_digits(16))


def weights_along(net, rule, data, num_steps):
    """First-layer weights of a run, by the rule and a gradient written out in numpy."""
    a, scale = net.a.numpy(), 1 / np.sqrt(net.m)
    x, y = data.x, data.y

    def gradient(w):
        before = x @ w.T
        error = scale * np.maximum(before, 0) @ a - y
        return scale * ((error[:, None] * (before > 0)) * a).T @ x

    path = iterate(rule, net.weights.detach().numpy().copy(), gradient)
    return [w for _, w in zip(range(num_steps + 1), path, strict=False)]


def test_measures_of_change_are_those_of_the_definitions(digits):
    rule, chosen = HeavyBall(0.05, 0.8), [0, 3, 20]
    run = train(TwoLayerReLU(64, 50), rule, digits.x, digits.y, 20, laziness_at=chosen)
    net = TwoLayerReLU(64, 50)
    path = weights_along(net, rule, digits, 20)
    measured = run.laziness
    np.testing.assert_array_equal(measured.k, chosen)
    first = empirical_gram(net, digits.x)
    flips, impulses, before = 0, np.zeros(16), digits.x @ path[0].T
    for k, w in enumerate(path):
        now = digits.x @ w.T
        flipped = (now > 0) != (before > 0)
        flips += flipped.sum()
        impulses += (flipped * np.abs(now - before)) @ net.a.numpy() / np.sqrt(50)
        before = now
        if k in chosen:
            i = chosen.index(k)
            net.weights.data = torch.tensor(w)
            kernel = empirical_gram(net, digits.x)
            drift = np.linalg.norm(kernel - first, 2) / np.linalg.norm(first, 2)
            # Some twenty steps of sums of 64 numbers in another order.
            close = {"rtol": 1e-10, "atol": 1e-12}
            np.testing.assert_allclose(measured.kernel_drift[i], drift, **close)
            np.testing.assert_allclose(
                [measured.lam_min[i], measured.lam_max[i]], np.linalg.eigvalsh(kernel)[[0, -1]], **close
            )
            np.testing.assert_allclose(measured.weight_travel[i], np.linalg.norm(w - path[0]), **close)
            rows = np.linalg.norm(w - path[0], axis=1)
            np.testing.assert_allclose(measured.neuron_travel[i], rows.max(), **close)
            changed = ((now > 0) != (digits.x @ path[0].T > 0)).mean()
            np.testing.assert_allclose(measured.flipped[i], changed, rtol=1e-15)
            assert measured.flips[i] == flips
            np.testing.assert_allclose(measured.impulses[i], impulses, **close)
    assert flips > 20


def test_impulses_close_the_balance_of_the_second_order_equation(digits):
    # Summed over a run of small steps: u' + b u + integral of H Delta = impulses, where the linear equation
    # has zero. What is left over is of the order of the time step, 1 % of the sum; a tenth is allowed.
    h, friction, num_steps = 0.01, 0.5, 400
    rule = HeavyBall(h**2, 1 - friction * h)
    run = train(TwoLayerReLU(64, 40), rule, digits.x, digits.y, num_steps, laziness_at=[num_steps])
    net = TwoLayerReLU(64, 40)
    path = weights_along(net, rule, digits, num_steps)
    force = np.zeros(16)
    for k, w in enumerate(path[:-1]):
        net.weights.data = torch.tensor(w)
        force += h * empirical_gram(net, digits.x) @ run.errors[k]
    velocity = (run.errors[-1] - run.errors[-2]) / h
    left = velocity + friction * (run.errors[-1] - run.errors[0]) + force
    impulses = run.laziness.impulses[-1] / h
    assert run.laziness.flips[-1] > 20
    assert np.linalg.norm(left - impulses) < 0.1 * np.linalg.norm(impulses)


def test_laziness_of_any_module_and_of_mean_losses(digits):
    options = {"laziness_at": [5], "reduction": "mean"}
    run = train(DeepReLU(64, 20, 2), GradientDescent(0.05), digits.x, digits.y, 5, **options)
    assert run.laziness.flips is None
    assert run.laziness.impulses is None
    net = DeepReLU(64, 20, 2)
    scaled = empirical_operator(net, digits.x, reduction="mean").gram()
    np.testing.assert_allclose(run.laziness.lam_max[0], np.linalg.eigvalsh(scaled)[-1], rtol=1e-12)
    assert run.laziness.kernel_drift[0] == 0
    assert 0 < run.laziness.kernel_drift[1] < 1
    assert train(net, GradientDescent(0.01), digits.x, digits.y, 2).laziness is None


def test_everything_that_departs_falls_with_the_width(digits):
    # Drift, flips and travel of a neuron are of order m^-1/2 (theory of the lazy regime): 64 times the width
    # leaves an eighth, asked for is less than a third.
    rule = GradientDescent(0.1)
    narrow, wide = (
        train(TwoLayerReLU(64, m), rule, digits.x, digits.y, 40, laziness_at=[40]).laziness
        for m in (64, 4096)
    )
    for name in ("kernel_drift", "flipped", "neuron_travel"):
        assert getattr(wide, name)[-1] < getattr(narrow, name)[-1] / 3, name


RULES = [
    GradientDescent(0.1),
    HeavyBall(0.1, 0.8),
    Nesterov(0.1, 3),
    TorchSGD(0.05, 0.8),
    TorchSGD(0.05, r=3, nesterov=True),
    HeavyBall(Cosine(0.1, 30), 0.8),
    TorchSGD(0.05, 0.8, weight_decay=0.1, to_start=True),
    Averaged(HeavyBall(0.05, 0.8), decay=0.8),
    ScheduleFree(0.1, 0.9),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
@pytest.mark.parametrize("layers", ["first", "both"])
def test_a_snapshot_continues_exactly_where_the_network_is_linear(digits, rule, layers):
    # Over one step all that is not linear is of second order in the step; with 1e-6 of the targets left to
    # learn the whole continuation is linear to about 1e-6 of the loss.
    net = TwoLayerReLU(64, 200, layers=layers)
    near = net(torch.tensor(digits.x)).detach().numpy() + 1e-6 * digits.y
    run = train(net, rule, digits.x, near, 30, snapshot_at=[7])
    (snapshot,) = run.snapshots
    np.testing.assert_allclose(snapshot.predict(run.k[7:]), run.loss[7:], rtol=1e-4)


def test_a_snapshot_of_the_start_is_the_linear_prediction(digits):
    rule = HeavyBall(0.1, 0.8)
    run = train(DeepReLU(64, 30, 2), rule, digits.x, digits.y, 10, snapshot_at=[0, 4], reduction="mean")
    measure = spectral_measure(run.snapshots[0].kernel, run.errors[0])
    np.testing.assert_allclose(
        run.snapshots[0].predict(range(11)), loss_curve(rule, measure, range(11)).loss, rtol=1e-10
    )
    assert run.snapshots[1].k == 4
    with pytest.raises(ValueError, match="from k = 4 on"):
        run.snapshots[1].predict([3, 4])


def test_an_unstable_continuation_says_inf(digits):
    run = train(
        TwoLayerReLU(64, 50),
        GradientDescent(5.0),
        digits.x,
        digits.y,
        3,
        snapshot_at=[0],
        allow_unstable=True,
    )
    assert run.snapshots[0].predict([0, 3000])[-1] == np.inf
    assert run.snapshots[0].lam_max * 5.0 > 2


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (Adam(0.01), {}, ["snapshot_at", "linear"]),
        (GradientDescent(0.01), {"objective": LogisticLoss()}, ["snapshot_at", "squared loss"]),
        (GradientDescent(0.01, weight_decay=0.1), {}, ["snapshot_at", "no step in the error alone"]),
    ],
)
def test_snapshots_refuse_what_has_no_linear_recursion(digits, rule, options, words):
    y = np.sign(digits.y)
    net = TwoLayerReLU(64, 20)
    with pytest.raises(ValueError) as refused:
        train(net, rule, digits.x, y, 3, snapshot_at=[1], allow_unstable=True, **options)
    for word in words:
        assert word in str(refused.value)


# --- before training ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule_of",
    [
        lambda L: GradientDescent(0.5 / L),
        lambda L: HeavyBall(0.5 / L, 0.8),
        lambda L: Nesterov(0.5 / L, 3),
        lambda L: TorchSGD(0.5 / L, 0.8),
    ],
    ids=["gd", "hb", "nag", "memory"],
)
@pytest.mark.parametrize(
    "make", [lambda: TwoLayerReLU(64, 2000), lambda: DeepReLU(64, 400, 2)], ids=["2", "3"]
)
def test_the_estimate_explains_most_of_the_departure(digits, make, rule_of):
    # The correction is the first order of the departure, the rest the second: of relative order of the drift
    # and of the square root of the flips, a few tenths at these widths. Asked for: half of it explained.
    kernel = empirical_operator(make(), digits.x).gram()
    rule = rule_of(np.linalg.eigvalsh(kernel)[-1])
    estimate = trust_estimate(make(), rule, digits.x, digits.y, 100)
    run = train(make(), rule, digits.x, digits.y, 100, laziness_at=[100])
    departed = np.abs(run.loss - estimate.linear_loss).max()
    assert np.abs(run.loss - estimate.corrected_loss).max() < departed / 2
    assert estimate.kernel_drift[-1] == pytest.approx(run.laziness.kernel_drift[-1], rel=1.0)
    assert estimate.weight_travel[-1] == pytest.approx(run.laziness.weight_travel[-1], rel=0.3)
    # "how long": the order of magnitude
    assert 1 / 3 < (1 + estimate.trusted_until) / (1 + estimate.measured_until(run)) < 3


PAPER_RULES = [
    lambda lr: GradientDescent(lr),
    lambda lr: HeavyBall(lr, 0.6),
    lambda lr: TorchSGD(lr, r=4, nesterov=True),
]


def paper_problem(width):
    """The authors' network on the digits as their study has them, and its largest eigenvalue."""
    x, y = paper_data(*load_digits(40))
    kernel = 2 / len(y) * empirical_gram(PaperReLU(64, width), x)
    return x, y, np.linalg.eigvalsh(kernel)[-1]


@pytest.mark.parametrize("speed", [0.1, 0.5])
@pytest.mark.parametrize("rule_of", PAPER_RULES, ids=["gd", "hb", "nag"])
def test_the_estimate_holds_for_a_network_that_is_not_in_the_parametrisation_of_the_theory(rule_of, speed):
    # Its slow modes drift by much more than the norm of the kernel, and a correction along the linear path
    # alone is there too small by a factor of two to five. An estimate of second order errs by some of the
    # deviation squared: up to deviations of 30 %, by a third of the largest.
    x, y, lam_max = paper_problem(300)
    rule = rule_of(speed / lam_max)
    estimate = trust_estimate(PaperReLU(64, 300), rule, x, y, 150, reduction="mean")
    run = train(PaperReLU(64, 300), rule, x, y, 150, reduction="mean")
    real, expected = (loss / estimate.linear_loss - 1 for loss in (run.loss, estimate.corrected_loss))
    beyond = np.flatnonzero(np.abs(real) > 0.3)
    early = slice(beyond[0] if beyond.size else None)
    assert np.abs(real[early]).max() > 0.1
    assert np.abs(expected - real)[early].max() < np.abs(real[early]).max() / 3
    # the step itself hangs on whether one oscillation touches the tolerance
    assert 1 / 3 < (1 + estimate.trusted_until) / (1 + estimate.measured_until(run)) < 3


def test_the_learning_rate_of_the_authors_is_never_trusted():
    # 1e-4 at width 3000: nearly four times 1 / lam_max, twice the limit of gradient descent
    x, y, lam_max = paper_problem(3000)
    assert 1e-4 * lam_max > 3
    for rule_of in PAPER_RULES:
        estimate = trust_estimate(PaperReLU(64, 3000), rule_of(1e-4), x, y, 100, reduction="mean")
        assert not estimate.stable
        assert estimate.trusted_until == 0
        assert estimate.corrected_loss.shape == estimate.linear_loss.shape == (101,)
        assert estimate.checkpoints.tolist() == [0]
        assert "no linear prediction can be trusted" in str(estimate)


def test_the_linear_loss_is_the_prediction_and_the_network_is_left_alone(digits):
    rule, net = Nesterov(0.1, 3), TwoLayerReLU(64, 100)
    before = net.weights.detach().clone()
    estimate = trust_estimate(net, rule, digits.x, digits.y, 50)
    assert torch.equal(net.weights, before)
    error = net(torch.tensor(digits.x)).detach().numpy() - digits.y
    curve = loss_curve(rule, spectral_measure(empirical_gram(net, digits.x), error), range(51))
    np.testing.assert_allclose(estimate.linear_loss, curve.loss, rtol=1e-9, atol=1e-12 * curve.loss[0])
    assert "estimate, not a bound" in str(estimate)


def test_an_unstable_recursion_is_never_trusted(digits):
    estimate = trust_estimate(TwoLayerReLU(64, 100), GradientDescent(5.0), digits.x, digits.y, 200)
    assert not estimate.stable
    assert estimate.trusted_until == 0
    assert "lower the learning rate" in str(estimate)


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        (Adam(0.01), {}, ["rule needs a linear rule"]),
        (GradientDescent(0.1), {"tolerance": 1.5}, ["tolerance", "(0, 1)", "1.5"]),
        (GradientDescent(0.1), {"checkpoints": 0}, ["checkpoints", "0"]),
    ],
)
def test_estimate_refusals(digits, rule, options, words):
    with pytest.raises(ValueError) as refused:
        trust_estimate(TwoLayerReLU(64, 10), rule, digits.x, digits.y, 5, **options)
    for word in words:
        assert word in str(refused.value)


def test_estimate_refuses_a_longer_run(digits):
    estimate = trust_estimate(TwoLayerReLU(64, 10), GradientDescent(0.1), digits.x, digits.y, 5)
    run = train(TwoLayerReLU(64, 10), GradientDescent(0.1), digits.x, digits.y, 6)
    with pytest.raises(ValueError, match="run has 6 steps"):
        estimate.measured_until(run)


def test_estimate_of_a_network_that_diverges_at_once_does_not_warn():
    # inputs so small that the output layer, which H(0) hardly sees, moves by far more than its size
    x, y = 1e-4 * np.eye(4)[:2], np.array([1.0, -1.0])
    rule = HeavyBall(3e7, 0.5)
    estimate = trust_estimate(TwoLayerReLU(4, 400, layers="both", seed=3), rule, x, y, 80)
    assert estimate.stable and estimate.trusted_until == 0
    assert estimate.corrected_loss[-1] == np.inf and np.isfinite(estimate.kernel_drift).all()


def test_estimate_of_a_healthy_network_that_sharpens_is_given():
    """The kernel grows until the linearisations oscillate: the network turns there, and its loss falls on."""
    torch.manual_seed(256)
    layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU()]
    net = torch.nn.Sequential(
        *layers, torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    ).double()
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 8)), rng.standard_normal(24)
    rule = GradientDescent(0.4 / np.linalg.eigvalsh(empirical_operator(net, x).gram())[-1])
    estimate = trust_estimate(net, rule, x, y, 200)
    run = train(net, rule, x, y, 200)
    assert estimate.stable and run.diverged_at is None and run.loss[-1] < 1e-2 * run.loss[0]
    # as far as the linear prediction holds, the corrected one knows: within a third of the steps
    measured = estimate.measured_until(run)
    assert 0 < measured < 100
    assert abs(estimate.trusted_until - measured) <= 1 + measured // 3
    near = slice(0, measured + 1)
    # twice the tolerance of 10 %: both are within it of the linear loss there, or just beyond
    np.testing.assert_allclose(estimate.corrected_loss[near], run.loss[near], rtol=0.2)


def test_estimate_of_a_network_without_gradient_is_that_it_stays():
    net = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.ReLU()).double()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(-1.0)
    estimate = trust_estimate(net, GradientDescent(0.1), np.eye(3), np.ones(3), 10)
    assert estimate.trusted_until == 10
    assert not estimate.kernel_drift.any() and not estimate.weight_travel.any()
