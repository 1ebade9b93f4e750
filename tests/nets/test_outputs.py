"""Networks of several outputs: training, kernels, trust, budgets and sweeps with targets (n, c)."""

import warnings

import numpy as np
import pytest
import torch

from odeopt import (
    GradientDescent,
    HeavyBall,
    LogisticLoss,
    SquaredLoss,
    loss_curve,
    predict,
    spectral_measure,
)
from odeopt.data import one_hot
from odeopt.kernels import relu_gram
from odeopt.nets import (
    DeepReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    error_budget,
    infinite_width_kernel,
    sgd_report,
    sweep,
    train,
    train_batch,
    train_sgd,
    trust_estimate,
)
from odeopt.nets.training.flat import FlatProblem, ReLUProblem
from odeopt.spectra import predicted_errors

RULE = HeavyBall(0.05, 0.6)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 3))
    return x / np.linalg.norm(x, axis=1)[:, None], rng.standard_normal((8, 4))


def _two(layers, d=3, m=200):
    return TwoLayerReLU(d, m, layers=layers, outputs=4, seed=1)


@pytest.mark.parametrize("layers", ["first", "both"])
@pytest.mark.parametrize("d", [3, 12])  # 12 > 8: in the row space of the inputs
def test_each_step_is_that_of_torch(layers, d):
    rng = np.random.default_rng(d)
    x, y = rng.standard_normal((8, d)) / np.sqrt(d), rng.standard_normal((8, 4))
    run = train(_two(layers, d), GradientDescent(0.02), x, y, 20, points=x[:3], reduction="mean")
    net, inputs, targets = _two(layers, d), torch.tensor(x), torch.tensor(y)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.MSELoss()(net(inputs), targets).backward()
        optimizer.step()
    # rounding of sums of 200 neurons over 20 steps
    np.testing.assert_allclose(run.predictions[-1], net(inputs).detach(), rtol=0, atol=1e-13)
    np.testing.assert_allclose(run.points.u, run.predictions[:, :3], rtol=0, atol=1e-13)
    np.testing.assert_allclose(run.loss[-1], 0.5 * ((run.predictions[-1] - y) ** 2).sum(), rtol=1e-13)
    assert run.kernel_scale == pytest.approx(2 / 32, rel=1e-15)


@pytest.mark.parametrize("layers", ["first", "both"])
def test_closed_forms_are_those_of_autograd(data, layers):
    x, y = data
    net = _two(layers)
    np.testing.assert_allclose(empirical_gram(net, x), empirical_operator(net, x).gram(), rtol=0, atol=1e-13)
    plain, closed = (kind(net, x, y, SquaredLoss(), "sum") for kind in (FlatProblem, ReLUProblem))
    w = 1.01 * plain.initial
    np.testing.assert_allclose(plain.gradient(w), closed.gradient(w), rtol=0, atol=1e-13)
    np.testing.assert_allclose(plain.push_forward(w, w**2), closed.push_forward(w, w**2), rtol=0, atol=1e-12)
    c = torch.arange(32.0).double()
    np.testing.assert_allclose(plain.at(w).pull_back(c), closed.at(w).pull_back(c), rtol=0, atol=1e-11)


def test_a_wide_network_has_one_kernel_for_all_outputs_and_falls_to_it_with_its_width(data):
    x, _ = data
    limit = np.kron(relu_gram(x), np.eye(4))
    far = [
        np.mean(
            [
                np.linalg.norm(empirical_gram(TwoLayerReLU(3, m, outputs=4, seed=s), x) - limit)
                for s in range(6)
            ]
        )
        for m in (500, 8000)
    ]
    # m^-1/2: 4 for a factor of 16, and means of six norms of some 500 entries scatter by a few per cent
    assert 3 < far[0] / far[1] < 5


@pytest.mark.parametrize("layers", ["first", "both"])
def test_trained_losses_and_outputs_near_the_prediction_with_the_width(layers):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((10, 4))
    x /= np.linalg.norm(x, axis=1)[:, None]
    y, _ = one_hot(np.arange(10) % 3)
    rule, gaps = HeavyBall(0.1, 0.5), []
    for width in (400, 6400):
        gap = []
        for seed in range(4):
            net = TwoLayerReLU(4, width, layers=layers, outputs=3, seed=seed)
            kernel, points = empirical_operator(net, x), rng.standard_normal((3, 4)) / 2
            cross = empirical_operator(net, points, x)
            measure = spectral_measure(kernel.gram(), kernel.predictions - y.ravel())
            seen = predict(rule, measure, cross, [40], start=cross.predictions.reshape(3, 3))
            run = train(net, rule, x, y, 40, points=points)
            gap.append(np.linalg.norm(run.points.u[-1] - seen.u[0]))
        gaps.append(np.mean(gap))
    assert 2 < gaps[0] / gaps[1] < 8  # 4 by m^-1/2, the mean of four seeds within a factor of 2


def test_snapshots_budgets_and_trust_know_all_outputs(data):
    x, y = data
    net = _two("first", m=2000)
    trust = trust_estimate(net, RULE, x, y, 60)
    kernel = empirical_operator(net, x)
    run = train(net, RULE, x, y, 60, snapshot_at=[30], laziness_at=[60])
    measure = spectral_measure(kernel.gram(), run.errors[0].ravel())
    linear = loss_curve(RULE, measure, range(61)).loss
    np.testing.assert_allclose(trust.linear_loss, linear, rtol=1e-9)
    assert np.abs(trust.corrected_loss - run.loss).max() < 0.2 * np.abs(linear - run.loss).max()
    later = run.snapshots[0].predict([30, 60])
    assert later[0] == pytest.approx(run.loss[30], rel=1e-12)
    assert abs(later[1] - run.loss[60]) < abs(linear[60] - run.loss[60])
    budget = error_budget(run, net=net, x=x)
    with pytest.raises(
        ValueError, match=r"limit_kernel must have shape .* like the examples, one for all outputs"
    ):
        error_budget(run, limit_kernel=np.eye(run.targets.size))
    assert budget.to_dict()["outputs"] == 4 and "n = 8 examples of 4 outputs" in str(budget)
    np.testing.assert_allclose(budget.losses["discrete_h0"], linear, rtol=1e-9)
    one_by_one = [
        predicted_errors(RULE, infinite_width_kernel(net, x), delta0, run.k).errors["ode_h0"]
        for delta0 in run.errors[0].T
    ]
    found = budget.errors["ode_inf"].reshape(61, 8, 4)
    np.testing.assert_allclose(found, np.stack(one_by_one, axis=2), rtol=0, atol=1e-12)


def test_decay_pulls_at_the_image_of_all_outputs(data):
    x, y = data
    rule = GradientDescent(0.1, weight_decay=0.2)
    net = _two("first", m=20_000)
    run = train(net, rule, x, y, 30)
    assert run.origin.shape == (8, 4)
    measure = spectral_measure(run.initial_kernel, run.errors[0].ravel(), origin=run.origin.ravel())
    predicted = loss_curve(rule, measure, run.k).loss
    assert np.abs(run.loss / predicted - 1).max() < 0.05  # m^-1/2 = 0.7 %, times a few


def test_a_sweep_trains_networks_of_as_many_outputs(data, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        found = sweep([RULE], *data, 20, tmp_path, widths=[4000], executor=pool)
    arrays = found.load(found.entries[0])
    assert np.abs(arrays["linear_loss"] / arrays["loss"] - 1).max() < 0.1


def test_accuracy_is_that_of_the_largest_output():
    labels = np.arange(12) % 3
    x = np.eye(3)[labels] + 0.1 * np.random.default_rng(0).standard_normal((12, 3))
    run = train(DeepReLU(3, 64, outputs=3), GradientDescent(0.01), x, one_hot(labels)[0], 100)
    right = (run.predictions[-1].argmax(axis=1) == labels).mean()
    assert run.accuracy(labels)[-1] == right == 1.0
    with pytest.raises(ValueError, match="labels must be 12 numbers of classes, 0 to 2"):
        run.accuracy(labels + 1)


def test_shapes_that_do_not_fit_are_refused_with_the_remedy(data):
    x, y = data
    for net, targets, words in (
        (_two("first"), y[:, :2], r"\(8, 2\), got \(8, 4\); select"),
        (_two("first"), y[:, 0], r"\(8,\) or \(8, 1\), got \(8, 4\); .*one_hot"),
        (DeepReLU(3, 8), y, r"\(8, 4\), got \(8,\)"),
        (_two("first"), y[:5], "same length, got 8 inputs and 5 targets"),
        (_two("first"), y[None], "y must have shape"),
    ):
        with pytest.raises(ValueError, match=words):
            train(net, RULE, x, targets, 5)
    with pytest.raises(ValueError, match="labels -1 and 1 for the logistic loss"):
        train(_two("first"), RULE, x, y, 5, objective=LogisticLoss())
    runs = [train_sgd(_two("first"), RULE, x, y, 3, batch_size=4, seed=seed) for seed in range(2)]
    with pytest.raises(ValueError, match=r"targets of shape \(8, 4\): .* one output"):
        sgd_report(runs)
    with pytest.raises(ValueError, match="one output each"):
        train_batch([_two("first")], RULE, x, y, 5)


def test_numbers_of_classes_are_said_to_be_regressed_on():
    x, labels = np.random.default_rng(0).standard_normal((9, 2)), np.arange(9) % 3
    for numbers in (labels, labels.astype(float), torch.tensor(labels) + 1.0):
        with pytest.warns(UserWarning, match="whole numbers [01] to [23], .* one_hot"):
            train(TwoLayerReLU(2, 50), GradientDescent(0.01), x, numbers, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(TwoLayerReLU(2, 50), GradientDescent(0.01), x, labels - 1, 1)
        train(TwoLayerReLU(2, 50), GradientDescent(0.01), x, labels + 0.5, 1)
