"""The matrix-free kernel of any module: against closed forms, autodiff, and training."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import (
    GradientDescent,
    HeavyBall,
    LogisticLoss,
    Nesterov,
    loss_curve,
    max_learning_rate,
    spectral_measure,
)
from odeopt.data import load_digits, prepare
from odeopt.nets import (
    ConvReLU,
    DeepReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    sweep,
    train,
    train_batch,
    train_sgd,
    trust_estimate,
)

EPS = np.finfo(float).eps


class Vector(nn.Module):
    """Two outputs, by layers of torch with biases."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Dropout(0.3))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.body(x))


def jacobian(module, x, names=None):
    """Rows of J by one backward pass each."""
    parameters = [p for name, p in module.named_parameters() if names is None or name in names]
    rows = [
        torch.cat([g.reshape(-1) for g in torch.autograd.grad(u, parameters, retain_graph=True)])
        for u in module(x).reshape(-1)
    ]
    return torch.stack(rows).double().numpy()


def assert_same_kernel(kernel, expected, terms):
    # Every entry is a sum of `terms` products, of a Jacobian that is itself a few sums as long.
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=10 * EPS * terms**0.5 * np.abs(expected).max())


def inputs(rng, n=7, d=4):
    return rng.standard_normal((n, d))


NETWORKS = {
    "two layers": lambda: TwoLayerReLU(4, 30, layers="both"),
    "deep": lambda: DeepReLU(4, 20, depth=3),
    "two outputs": lambda: DeepReLU(4, 20, depth=2, outputs=2),
    "convolution": lambda: ConvReLU(2, 5),
    "torch": lambda: Vector().double().eval(),
}
KIND = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@pytest.mark.parametrize("layers", ["first", "both"])
@pytest.mark.parametrize("dense", [True, False])
def test_operator_is_the_closed_form_of_the_two_layer_network(rng, layers, dense):
    net, x = TwoLayerReLU(4, 50, layers=layers, seed=2), inputs(rng)
    kernel = empirical_operator(net, x, dense=dense)
    assert kernel.num_parameters == (200 if layers == "first" else 250)
    assert_same_kernel(kernel @ np.eye(7), empirical_gram(net, x), kernel.num_parameters)
    assert_same_kernel(kernel.gram(), empirical_gram(net, x), kernel.num_parameters)


@KIND
@pytest.mark.parametrize("batch_size", [None, 3])
def test_products_are_those_of_the_jacobian(rng, network, batch_size):
    net, x = network(), torch.tensor(inputs(rng))
    rows = jacobian(net, x)
    kernel = empirical_operator(net, x, dense=False, batch_size=batch_size)
    c = rng.standard_normal(len(rows))
    assert_same_kernel(kernel @ c, rows @ (rows.T @ c), rows.shape[1])
    assert_same_kernel(kernel.gram(), rows @ rows.T, rows.shape[1])
    assert_same_kernel(kernel @ c, rows @ (rows.T @ c), rows.shape[1])  # now by the stored matrix
    np.testing.assert_array_equal(kernel.gram(), kernel.gram().T)
    # sums of a batch are taken in another order
    np.testing.assert_allclose(kernel.predictions, net(x).detach().reshape(-1).numpy(), rtol=0, atol=1e-12)


def test_gram_in_blocks_is_the_gram(rng, monkeypatch):
    net, x = DeepReLU(4, 20, depth=2, outputs=2), inputs(rng)
    whole = empirical_operator(net, x).gram()
    monkeypatch.setattr("odeopt.nets.kernels.matrix._BLOCK", 3 * 2 * 520)  # three of the seven examples
    assert_same_kernel(empirical_operator(net, x).gram(), whole, 520)


def test_examples_that_interact_are_not_taken_one_by_one(rng):
    # Batch statistics of its own, without running ones: deterministic, but no example stands alone.
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6, track_running_stats=False)
    net = nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 1)).double().eval()
    x = torch.tensor(inputs(rng))
    rows = jacobian(net, x)
    assert_same_kernel(empirical_operator(net, x).gram(), rows @ rows.T, rows.shape[1])


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (["head"], {"head.weight", "head.bias"}),
        ("head.bias", {"head.bias"}),
        (["body.0", "head.weight"], {"body.0.weight", "body.0.bias", "head.weight"}),
    ],
)
def test_parameters_are_chosen_by_name_or_by_submodule(rng, params, names):
    net, x = Vector().double().eval(), torch.tensor(inputs(rng))
    rows = jacobian(net, x, names)
    kernel = empirical_operator(net, x, params=params)
    assert set(kernel.parameters) == names
    assert_same_kernel(kernel.gram(), rows @ rows.T, 50)


def test_frozen_parameters_are_left_out(rng):
    net, x = Vector().double().eval(), torch.tensor(inputs(rng))
    net.body.requires_grad_(False)
    assert set(empirical_operator(net, x).parameters) == {"head.weight", "head.bias"}


def test_mean_reduction_is_that_of_torch(rng):
    net, x = Vector().double().eval(), torch.tensor(inputs(rng))
    y = torch.tensor(rng.standard_normal((7, 2)))
    kernel = empirical_operator(net, x, reduction="mean")
    nn.MSELoss()(net(x), y).backward()
    gradient = np.concatenate([p.grad.numpy().ravel() for p in net.parameters()])
    error = kernel.predictions - y.numpy().ravel()
    # |J^T (2/N) error|^2 = (2/N) error^T ((2/N) J J^T) error, N = 14
    assert gradient @ gradient == pytest.approx(2 / 14 * error @ (kernel @ error), rel=1e-12)


def test_single_precision_is_lifted_before_the_products(rng):
    net, x = Vector().eval(), inputs(rng)
    lifted = Vector().double().eval()
    lifted.load_state_dict({k: v.double() for k, v in net.state_dict().items()})
    np.testing.assert_array_equal(empirical_operator(net, x).gram(), empirical_operator(lifted, x).gram())
    assert next(net.parameters()).dtype == torch.float32


def test_operator_keeps_the_weights_of_its_call(rng):
    net, x = DeepReLU(4, 10, 2), inputs(rng)
    kernel, before = empirical_operator(net, x, dense=False), empirical_operator(net, x).gram()
    train(net, GradientDescent(0.01), x, rng.standard_normal(7), 3)
    np.testing.assert_array_equal(kernel.gram(), before)


@pytest.mark.parametrize(
    ("network", "x", "options", "words"),
    [
        (lambda: Vector(), None, {}, ["BatchNorm1d (body.2)", "eval()"]),
        (lambda: nn.Sequential(nn.Dropout(), nn.Linear(4, 1)), None, {}, ["Dropout (0)", "random", "eval()"]),
        (lambda: nn.Linear(4, 1), np.ones((3, 4), dtype=int), {}, ["x holds integers", "int64", "float"]),
        (lambda: nn.Linear(4, 1), [[1, 0, 0, 2]], {}, ["x holds integers"]),
        (lambda: nn.Linear(4, 1).requires_grad_(False), None, {}, ["no trainable", "requires_grad"]),
        (lambda: nn.ReLU(), None, {}, ["no trainable parameters"]),
        (lambda: nn.Linear(4, 1), None, {"params": []}, ["params must not be empty"]),
        (lambda: nn.Linear(4, 1), None, {"params": ["wieght"]}, ["'wieght'", "weight, bias"]),
        (lambda: nn.Linear(4, 1), None, {"reduction": "none"}, ["reduction", "'none'"]),
        (lambda: nn.Linear(4, 1), None, {"batch_size": 0}, ["batch_size", "0"]),
        (lambda: nn.Linear(3, 1), None, {}, ["(5, 4)", "does not fit"]),
        (lambda: nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3))), None, {}, ["(5, 2, 3)", "flatten"]),
        (lambda: nn.LSTM(4, 2), None, {}, ["got tuple"]),
        (lambda: "net", None, {}, ["torch.nn.Module", "str"]),
    ],
)  # fmt: skip
def test_refusals(network, x, options, words):
    net = network()
    x = np.ones((5, 4)) if x is None else x
    net = net.double() if isinstance(net, nn.Module) else net
    with pytest.raises(ValueError) as refused:
        empirical_operator(net, x, **options)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)), None),
        (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 1)), None),
        (lambda: nn.Linear(4, 1).requires_grad_(False), None),
        (lambda: nn.Linear(4, 1), np.ones((7, 4), dtype=int)),
        (lambda: nn.Linear(4, 1), torch.ones((7, 4), dtype=torch.uint8)),
        (lambda: nn.Linear(4, 1), [[True, False, True, True]] * 7),
        (lambda: "net", None),
    ],
    ids=["dropout", "batch norm", "frozen", "integers", "bytes", "booleans", "no module"],
)
def test_kernel_training_and_trust_refuse_in_the_same_words(rng, module, x):
    net, x = module(), inputs(rng) if x is None else x
    net = net.double() if isinstance(net, nn.Module) else net
    rule, y = GradientDescent(0.01), rng.standard_normal(7)
    said = set()
    for attempt in (
        lambda: empirical_operator(net, x),
        lambda: train(net, rule, x, y, 3),
        lambda: train_sgd(net, rule, x, y, 3, batch_size=2),
        lambda: trust_estimate(net, rule, x, y, 3),
    ):
        with pytest.raises(ValueError) as refused:
            attempt()
        said.add(str(refused.value))
    (text,) = said
    assert any(word in text for word in ("eval()", "requires_grad", "convert it to float", "nn.Module"))


def test_batches_and_sweeps_refuse_integers_in_those_words_too(tmp_path):
    x, y, rules = np.eye(4, dtype=int), np.arange(4), [GradientDescent(0.01)]
    with pytest.raises(ValueError, match=r"x holds integers .*convert it to float"):
        train_batch([TwoLayerReLU(4, 8)], rules, x, y, 3)
    with pytest.raises(ValueError, match=r"x holds integers .*convert it to float"):
        sweep(rules, x, y, 3, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    run = train(TwoLayerReLU(4, 8), rules[0], x.astype(float), y, 3)  # labels may be integers
    np.testing.assert_array_equal(run.targets, y)


def test_outputs_of_another_shape_are_refused_in_the_same_words(rng):
    net = nn.Sequential(nn.Linear(4, 6), nn.Unflatten(1, (2, 3))).double()
    for attempt in (
        lambda: empirical_operator(net, inputs(rng)),
        lambda: train(net, GradientDescent(0.01), inputs(rng), rng.standard_normal(7), 3),
    ):
        with pytest.raises(ValueError, match=r"module must map 7 inputs to outputs of .*got \(7, 2, 3\)"):
            attempt()


class Noisy(nn.Linear):
    """Random by a function, which no attribute of the module tells."""

    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5)


def test_what_other_threads_draw_is_not_laid_to_the_module(rng):
    """Seen from outside they are draws whose number differs from pass to pass, and outputs that do not."""
    net, x, count = nn.Linear(4, 1).double(), inputs(rng), itertools.count(1)
    net.register_forward_hook(lambda *_: [random.random() for _ in range(next(count))] and None)
    # H = x x^T + 1, of products of four numbers of order 1
    np.testing.assert_allclose(empirical_operator(net, x).gram(), x @ x.T + 1, atol=1e-13)


def test_what_only_a_pass_shows_is_refused_by_training_too(rng):
    rule, y = GradientDescent(0.01), rng.standard_normal(7)
    for net, words in (
        (Noisy(4, 1).double(), "other outputs at each pass"),
        (nn.Linear(3, 1).double(), r"x of shape \(7, 4\) does not fit the module"),
    ):
        x = inputs(rng)
        for attempt in (
            lambda net=net, x=x: empirical_operator(net, x),
            lambda net=net, x=x: train(net, rule, x, y, 3),
            lambda net=net, x=x: train_sgd(net, rule, x, y, 3, batch_size=2),
            lambda net=net, x=x: trust_estimate(net, rule, x, y, 3),
        ):
            with pytest.raises(ValueError, match=words):
                attempt()


def test_a_network_whose_outputs_no_weight_moves_has_no_limit(rng):
    net, x = DeepReLU(4, 8, depth=2), np.abs(inputs(rng, n=30))
    with torch.no_grad():
        net.weights[0].copy_(-net.weights[0].abs())  # every neuron is dead on positive inputs
    run = train(net, GradientDescent(1e6), x, np.ones(30), 2)
    np.testing.assert_array_equal(run.predictions, 0)


def test_frozen_layers_of_a_two_layer_network_are_not_in_its_kernel(rng):
    net, x, y = TwoLayerReLU(4, 30, layers="both"), inputs(rng), rng.standard_normal(7)
    net.a.requires_grad_(False)
    kernel = empirical_operator(net, x).gram()
    limit = max_learning_rate(GradientDescent(1.0), float(np.linalg.eigvalsh(kernel)[-1]))
    with pytest.raises(ValueError, match=f"stability limit {limit:.6g}"):
        train(net, GradientDescent(1.01 * limit), x, y, 1)
    run = train(net, GradientDescent(0.5 * limit), x, y, 1, laziness_at=[0])
    assert run.initial_kernel is None
    assert run.laziness.lam_max[0] == pytest.approx(np.linalg.eigvalsh(kernel)[-1], rel=1e-12)
    with pytest.raises(ValueError, match="frozen"):
        train_batch([net], GradientDescent(0.1), x, y, 1)


@pytest.mark.parametrize("examples", [16, 40])  # by the matrix, and by Lanczos
@pytest.mark.parametrize(
    "make", [lambda: DeepReLU(64, 32, depth=2), lambda: ConvReLU(8, 4)], ids=["deep", "convolution"]
)
def test_learning_rate_of_any_module_is_refused_above_the_stability_limit(make, examples):
    data = prepare(*load_digits(examples))
    lam_max = float(np.linalg.eigvalsh(empirical_operator(make(), data.x).gram())[-1])
    for rule, options in (
        (HeavyBall(1.0, 0.5), {}),
        (GradientDescent(1.0), {"reduction": "mean"}),
        (GradientDescent(1.0), {"objective": LogisticLoss()}),
    ):
        y = np.sign(data.y) if options.get("objective") else data.y
        curvature = lam_max * (2 / examples if "reduction" in options else 1.0)
        curvature *= options["objective"].smoothness if "objective" in options else 1.0
        limit = max_learning_rate(rule, curvature)
        # the Ritz value is accurate to 1e-6
        train(make(), rule.replace(lr=0.9999 * limit), data.x, y, 1, **options)
        above, net = rule.replace(lr=1.0001 * limit), make()
        with pytest.raises(ValueError, match=r"exceeds the stability limit .*allow_unstable=True"):
            train(net, above, data.x, y, 1, **options)
        assert all(torch.equal(p, q) for p, q in zip(net.parameters(), make().parameters(), strict=True))
        train(make(), above, data.x, y, 1, allow_unstable=True, **options)


def predicted_and_trained(make, width, seed, rule_of, num_steps, data):
    kernel = empirical_operator(make(width, seed), data.x)
    measure = spectral_measure(kernel.gram(), kernel.predictions - data.y)
    rule = rule_of(measure.lam_max)
    run = train(make(width, seed), rule, data.x, data.y, num_steps)
    return loss_curve(rule, measure, run.k).loss, run.loss


@pytest.mark.parametrize(
    ("make", "narrow", "wide", "num_steps"),
    [
        (lambda m, seed: DeepReLU(64, m, depth=3, seed=seed), 32, 512, 30),
        (lambda m, seed: ConvReLU(8, m, seed=seed), 4, 64, 30),
    ],
    ids=["deep", "convolution"],
)
@pytest.mark.parametrize(
    "rule_of",
    [lambda L: GradientDescent(0.5 / L), lambda L: HeavyBall(0.5 / L, 0.5), lambda L: Nesterov(0.5 / L, 3)],
    ids=["gd", "hb", "nag"],
)
def test_loss_of_a_wide_network_is_predicted_before_training(make, narrow, wide, num_steps, rule_of):
    # What separates them is the change of the kernel, of order width^-1/2: 16 times the width leaves a
    # quarter of it, give or take the chance of two initialisations. Asked for: less than half, and at most
    # 8 % of the initial loss.
    data = prepare(*load_digits(16))
    deviation = {}
    for width in (narrow, wide):
        gaps = []
        for seed in (0, 1):
            predicted, trained = predicted_and_trained(make, width, seed, rule_of, num_steps, data)
            gaps.append(np.abs(predicted - trained).max() / trained[0])
        deviation[width] = np.mean(gaps)
    assert deviation[wide] < min(0.08, deviation[narrow] / 2), deviation


def test_predicted_stability_limit_separates_decay_from_growth():
    data = prepare(*load_digits(16))
    kernel = empirical_operator(DeepReLU(64, 256, depth=2), data.x)
    limit = max_learning_rate(GradientDescent(1.0), float(np.linalg.eigvalsh(kernel.gram())[-1]))
    below = train(DeepReLU(64, 256, depth=2), GradientDescent(0.8 * limit), data.x, data.y, 30)
    fast = GradientDescent(1.5 * limit)
    above = train(DeepReLU(64, 256, depth=2), fast, data.x, data.y, 10, allow_unstable=True)
    assert below.loss[-1] < below.loss[0] / 2
    # The linear recursion grows for ever; the network catapults: after some growth its kernel gives way.
    assert above.loss.max() > 3 * above.loss[0]


def test_lanczos_from_products_is_exact_for_the_first_losses():
    data = prepare(*load_digits(16))
    kernel = empirical_operator(DeepReLU(64, 64, depth=2), data.x, dense=False)
    error = kernel.predictions - data.y
    exact = spectral_measure(kernel.gram(), error)
    steps = 8
    measure = spectral_measure(
        empirical_operator(DeepReLU(64, 64, depth=2), data.x, dense=False), error, num_matvecs=steps
    )
    rule = HeavyBall(0.5 / exact.lam_max, 0.5)
    # An m-point Gauss rule integrates P_k^2, of degree 2k, exactly for k < m.
    ours, theirs = (loss_curve(rule, m, range(steps)).loss for m in (measure, exact))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
