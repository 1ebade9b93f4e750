"""The matrix-free kernel of any module: against closed forms, autodiff, and training."""

import numpy as np
import pytest
import torch
from torch import nn

from odeopt import GradientDescent, HeavyBall, Nesterov, loss_curve, max_learning_rate, spectral_measure
from odeopt.data import load_digits, prepare
from odeopt.nets import (
    ConvReLU,
    DeepReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    train,
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
    np.testing.assert_array_equal(kernel.predictions, net(x).detach().reshape(-1).numpy())


def test_gram_in_blocks_is_the_gram(rng, monkeypatch):
    net, x = DeepReLU(4, 20, depth=2, outputs=2), inputs(rng)
    whole = empirical_operator(net, x).gram()
    monkeypatch.setattr("odeopt.nets.operator._BLOCK", 3 * 2 * 520)  # three of the seven examples
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
        (lambda: nn.Linear(4, 1).requires_grad_(False), None, {}, ["no trainable parameters", "params"]),
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


def test_functional_randomness_is_noticed(rng):
    class Noisy(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5)

    with pytest.raises(ValueError, match="random"):
        empirical_operator(Noisy(4, 1).double(), inputs(rng))


@pytest.mark.parametrize("part", [nn.Dropout(0.5), nn.BatchNorm1d(4)])
def test_training_refuses_a_random_or_changing_module_too(rng, part):
    net = nn.Sequential(part, nn.Linear(4, 1)).double()
    with pytest.raises(ValueError, match=r"eval\(\)"):
        train(net, GradientDescent(0.01), inputs(rng), rng.standard_normal(7), 3)


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
    above = train(DeepReLU(64, 256, depth=2), GradientDescent(1.5 * limit), data.x, data.y, 10)
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
