"""What a run records, on which objectives, and what it refuses."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from training import (
    BOTH,
    DTYPES,
    assert_equal_to_rounding,
    flat,
    linear_net,
    sgd_path,
    small_problem,
    tensors,
    trained,
)

from odeopt.data import prepare
from odeopt.dynamics.losses import LogisticLoss, PredictionLoss, SquaredLoss
from odeopt.nets import DeepReLU, TwoLayerReLU, empirical_gram, train
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov, NesterovConstant

EPS = np.finfo(float).eps


# --- what a run records ------------------------------------------------------------------------


def test_first_gradient_step_is_the_jacobian_transposed_times_the_error():
    data = small_problem()
    net, run = trained(GradientDescent(lr=0.1), data, 1)
    start = TwoLayerReLU(4, 40)
    w, a = start.weights.detach().numpy(), start.a.numpy()
    active = data.x @ w.T > 0
    gradient = ((active * run.errors[0][:, None]).T @ data.x) * a[:, None] / np.sqrt(40)
    np.testing.assert_allclose(net.weights.detach().numpy(), w - 0.1 * gradient, rtol=0, atol=50 * EPS)


@pytest.mark.parametrize("rule", [HeavyBall(0.1, 0.5), Nesterov(0.1), HigherMomentum(0.1, (0.2, 0.5))])
def test_record_is_taken_at_the_iterates_and_the_network_keeps_the_last(rule):
    data = small_problem()
    net, run = trained(rule, data, 12)
    assert run.k.tolist() == list(range(13))
    assert run.errors.shape == (13, 6)
    for k in (0, 1, 7):
        at_k = TwoLayerReLU(4, 40) if k == 0 else trained(rule, data, k)[0]
        expected = at_k(tensors(data)[0]).detach().numpy() - data.y
        np.testing.assert_allclose(run.errors[k], expected, rtol=0, atol=50 * EPS)
    np.testing.assert_allclose(run.errors[-1], net(tensors(data)[0]).detach().numpy() - data.y, atol=50 * EPS)
    np.testing.assert_allclose(run.loss, 0.5 * (run.errors**2).sum(axis=1), rtol=8 * EPS)


def test_chosen_steps_are_recorded_with_the_same_values():
    data = small_problem()
    _, full = trained(Nesterov(0.1), data, 20)
    _, some = trained(Nesterov(0.1), data, 20, record_at=np.array([15, 3, 3, 20]))
    assert some.k.tolist() == [0, 3, 15, 20]
    assert np.array_equal(some.errors, full.errors[some.k])
    assert np.array_equal(some.loss, full.loss[some.k])


def test_long_runs_record_a_thousand_steps_by_default():
    data = small_problem()
    run = train(linear_net(), GradientDescent(0.1), data.x, data.y, 2500)
    assert len(run.k) == 1001
    assert run.k[0] == 0
    assert run.k[-1] == 2500
    assert set(np.diff(run.k)) == {2, 3}


@DTYPES
def test_record_is_double_precision_and_read_only(dtype):
    _, run = trained(HeavyBall(0.1, 0.5), small_problem(), 5, dtype=dtype, kernel_at=[0, 5])
    for array in (run.loss, run.errors, run.initial_kernel, run.kernel_drift):
        assert array.dtype == np.float64
        assert not array.flags.writeable
    assert run.k.dtype == run.kernel_k.dtype == np.int64
    assert not run.k.flags.writeable
    assert run.label == "HeavyBall(lr=0.1, momentum=0.5), m=40"
    assert run.width == 40


@BOTH
def test_kernel_drift_is_the_spectral_norm_of_the_change(layers):
    data = small_problem()
    net, run = trained(HeavyBall(0.1, 0.9), data, 30, layers=layers, kernel_at=[0, 10, 30])
    initial = empirical_gram(TwoLayerReLU(4, 40, layers=layers), data.x)
    assert np.array_equal(run.initial_kernel, initial)
    assert run.kernel_k.tolist() == [0, 10, 30]
    assert run.kernel_drift[0] == 0
    expected = np.linalg.norm(empirical_gram(net, data.x) - initial, 2)
    assert run.kernel_drift[2] == pytest.approx(expected, rel=1e-12)  # eigvalsh against svd
    assert run.relative_kernel_drift[2] == pytest.approx(expected / np.linalg.norm(initial, 2), rel=1e-12)
    assert expected > 1e-3


def test_kernel_steps_do_not_disturb_the_run():
    data = small_problem()
    _, plain = trained(Nesterov(0.1), data, 20)
    _, watched = trained(Nesterov(0.1), data, 20, kernel_at=range(21))
    assert np.array_equal(plain.errors, watched.errors)


class Doubled(TwoLayerReLU):
    def forward(self, x):
        return 2 * super().forward(x)


def test_subclass_with_its_own_forward_is_trained_as_what_it_computes():
    data, net = small_problem(), Doubled(4, 40)
    run = train(net, GradientDescent(0.02), data.x, data.y, 10)
    points, _ = sgd_path(Doubled(4, 40), *tensors(data), 10, lr=0.02)
    assert_equal_to_rounding(flat(net), points[10], torch.float64)
    assert run.initial_kernel is None  # the closed form is that of another function
    with pytest.raises(ValueError, match="got Doubled"):
        empirical_gram(net, data.x)


# --- losses ------------------------------------------------------------------------------------


def labelled_problem(n=6, d=4):
    rng = np.random.default_rng(3)
    return prepare(rng.standard_normal((n, d)), np.resize([1.0, -1.0, -1.0], n), targets="labels")


def soft_margin(u, y):
    return nn.SoftMarginLoss(reduction="sum")(u.reshape(-1), y)


@DTYPES
@BOTH
def test_logistic_loss_equals_torch_sgd_on_the_soft_margin_loss(dtype, layers):
    data = labelled_problem()
    net, run = trained(HeavyBall(0.1, 0.9), data, 20, dtype=dtype, layers=layers, objective=LogisticLoss())
    reference = TwoLayerReLU(4, 40, layers=layers, dtype=dtype)
    x, y = tensors(data, dtype)
    points, _ = sgd_path(reference, x, y, 20, loss=soft_margin, lr=0.1, momentum=0.9)
    assert_equal_to_rounding(flat(net), points[20], dtype)
    assert run.objective == LogisticLoss()
    value = soft_margin(net(x), y).item()
    assert run.loss[-1] == pytest.approx(value, rel=20 * torch.finfo(dtype).eps)


def test_mean_reduction_of_the_logistic_loss_is_that_of_torch():
    data = labelled_problem()
    net, run = trained(GradientDescent(0.6), data, 20, reduction="mean", objective=LogisticLoss())
    points, _ = sgd_path(TwoLayerReLU(4, 40), *tensors(data), 20, loss=nn.SoftMarginLoss(), lr=0.6)
    assert_equal_to_rounding(flat(net), points[20], torch.float64)
    assert run.kernel_scale == 1 / 6
    assert run.loss[0] == pytest.approx(float(LogisticLoss().value(run.predictions[0], data.y)), rel=4 * EPS)


@DTYPES
def test_predictions_and_targets_are_recorded_and_errors_are_their_difference(dtype):
    _, run = trained(HeavyBall(0.1, 0.5), small_problem(), 5, dtype=dtype)
    assert run.predictions.shape == (6, 6)
    assert np.array_equal(run.errors, run.predictions - run.targets)
    assert run.objective == SquaredLoss()
    for array in (run.predictions, run.targets):
        assert array.dtype == np.float64
        assert not array.flags.writeable


class QuarticLoss(PredictionLoss):
    """A user's loss, whose curvature has no bound; its methods know only the operators of arrays."""

    def value(self, u, y):
        return ((u - y) ** 4).sum() / 4

    def gradient(self, u, y):
        return (u - y) ** 3


def test_user_defined_loss_trains_once_its_missing_smoothness_is_accepted():
    data = small_problem()
    with pytest.raises(
        ValueError, match=r"objective QuarticLoss\(\), whose smoothness is not given.*allow_unstable"
    ):
        trained(GradientDescent(0.01), data, 5, objective=QuarticLoss())
    net, run = trained(GradientDescent(0.01), data, 5, objective=QuarticLoss(), allow_unstable=True)

    def quartic(u, y):
        return ((u.reshape(-1) - y) ** 4).sum() / 4

    points, _ = sgd_path(TwoLayerReLU(4, 40), *tensors(data), 5, loss=quartic, lr=0.01)
    assert_equal_to_rounding(flat(net), points[5], torch.float64)
    assert run.loss[-1] < run.loss[0]


@pytest.mark.parametrize("loss", [LogisticLoss(), LogisticLoss(ridge=0.5)], ids=repr)
def test_stability_limit_takes_the_smoothness_of_the_loss(loss):
    data = labelled_problem()
    lam_max = np.linalg.eigvalsh(empirical_gram(TwoLayerReLU(4, 40), data.x))[-1]
    limit = 2 / ((0.25 + loss.ridge) * lam_max)
    trained(GradientDescent(0.999 * limit), data, 2, objective=loss)
    with pytest.raises(ValueError, match=f"stability limit {limit:.6g} "):
        trained(GradientDescent(1.001 * limit), data, 2, objective=loss)


@pytest.mark.parametrize("loss", [SquaredLoss(), LogisticLoss()], ids=repr)
def test_module_of_another_kind_is_trained_on_any_loss(loss):
    data = labelled_problem()
    net, reference = (nn.Linear(4, 1, dtype=torch.float64) for _ in range(2))
    reference.load_state_dict(net.state_dict())
    train(net, GradientDescent(0.05), data.x, data.y, 10, objective=loss)
    points, _ = sgd_path(
        reference, *tensors(data), 10, loss=lambda u, y: loss.value(u.reshape(-1), y), lr=0.05
    )
    assert_equal_to_rounding(flat(net), points[10], torch.float64)


def test_labels_are_asked_for_where_the_loss_needs_them():
    data = small_problem()
    with pytest.raises(ValueError, match="y must hold labels -1 and 1"):
        trained(GradientDescent(0.01), data, 5, objective=LogisticLoss())
    with pytest.raises(ValueError, match="objective must be a PredictionLoss, got 'mse'"):
        trained(GradientDescent(0.01), data, 5, objective="mse")


class CountingNet(nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(("rule", "calls"), [(HeavyBall(0.01, 0.5), 1), (NesterovConstant(0.01, 0.5), 2)])
def test_recording_costs_no_forward_pass_where_the_gradient_is_taken_at_the_iterate(rule, calls):
    data, counts = small_problem(), []
    for steps in (10, 20):  # what is checked before the first step takes passes of its own
        net = CountingNet(4, 1, bias=False).double()
        train(net, rule, data.x, data.y, steps)
        counts.append(net.calls)
    assert counts[1] - counts[0] == 10 * calls


@dataclass(frozen=True)
class AskingTwice(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr / 2 * grad(x) - self.lr / 2 * grad(x), memory


def test_rule_may_ask_twice_for_the_gradient_at_one_point():
    data = small_problem()
    once, _ = trained(GradientDescent(0.1), data, 5)
    twice, _ = trained(AskingTwice(0.1), data, 5)
    assert_equal_to_rounding(flat(twice), flat(once), torch.float64)


def test_inputs_may_be_tensors_or_lists():
    data = small_problem()
    _, run = trained(GradientDescent(0.1), data, 3)
    x, y = tensors(data)
    again = train(TwoLayerReLU(4, 40), GradientDescent(0.1), x.requires_grad_(), y, 3)
    lists = train(TwoLayerReLU(4, 40), GradientDescent(0.1), data.x.tolist(), data.y.tolist(), 3)
    assert np.array_equal(run.errors, again.errors)
    assert np.array_equal(run.errors, lists.errors)


def test_progress_is_told_every_step_and_an_interrupt_keeps_the_weights_reached():
    data, seen = small_problem(), []
    trained(GradientDescent(0.1), data, 5, progress=lambda *told: seen.append(told))
    assert seen == [("train", k, 5) for k in range(1, 6)]

    def interrupt(stage, done, total):
        if done == 3:
            raise KeyboardInterrupt

    net = TwoLayerReLU(4, 40)
    with pytest.raises(KeyboardInterrupt):
        train(net, GradientDescent(0.1), data.x, data.y, 5, progress=interrupt)
    assert torch.equal(flat(net), flat(trained(GradientDescent(0.1), data, 3)[0]))


# --- refusals ----------------------------------------------------------------------------------


class TwoOutputs(nn.Linear):
    def __init__(self):
        super().__init__(4, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": "net"}, r"module must be a torch\.nn\.Module, got str"),
        ({"net": nn.ReLU()}, "module ReLU has no trainable parameters"),
        ({"net": TwoOutputs()}, r"outputs of shape \(6,\) or \(6, 1\), got \(6, 2\)"),
        ({"rule": "adam"}, "rule must be an UpdateRule"),
        ({"num_steps": 0}, "num_steps must be an integer of at least 1, got 0"),
        ({"num_steps": 1.5}, "num_steps must be an integer"),
        ({"record_at": []}, "record_at must not be empty"),
        ({"record_at": [0, 11]}, "record_at must hold integers from 0 to num_steps = 10, got 11"),
        ({"record_at": [0.5]}, "record_at must hold integers"),
        ({"kernel_at": [-1]}, "kernel_at must hold integers from 0 to num_steps = 10, got -1"),
        ({"kernel_at": [0], "net": nn.Linear(4, 1).double()}, "kernel_at needs a TwoLayerReLU, got Linear"),
        ({"reduction": "none"}, "reduction must be 'sum' or 'mean', got 'none'"),
        ({"x": np.eye(4)}, "same length, got 4 inputs and 6 targets"),
        ({"x": np.ones((6, 3))}, r"x must have shape \(n, 4\), the d of the network, got \(6, 3\)"),
        ({"x": np.full((6, 4), np.nan)}, r"x must be finite, but x\[0, 0\] is nan"),
        ({"y": np.full(6, np.inf)}, r"y must be finite, but y\[0\] is inf"),
        ({"y": np.ones((6, 1, 1))}, r"y must have shape \(n,\), got \(6, 1, 1\)"),
        ({"x": [[1.0], [1.0, 2.0]]}, "x is not an array of numbers"),
        ({"x": 1.0}, r"x must have shape \(n, \.\.\.\)"),
    ],
)
def test_bad_arguments_of_train_are_refused(change, message):
    data = small_problem()
    arguments = {"net": TwoLayerReLU(4, 10), "rule": GradientDescent(0.1), "x": data.x, "y": data.y}
    arguments |= {"num_steps": 10} | change
    with pytest.raises(ValueError, match=message):
        train(**arguments)


def test_rule_with_symbols_is_refused():
    import sympy

    h = sympy.Symbol("h", positive=True)
    data = small_problem()
    with pytest.raises(ValueError, match=r"numeric hyperparameters, got GradientDescent.*rule\.at"):
        train(TwoLayerReLU(4, 10), GradientDescent(h), data.x, data.y, 10)


def test_parameters_of_two_dtypes_are_refused():
    net = nn.Sequential(nn.Linear(4, 3).double(), nn.Linear(3, 1))
    data = small_problem()
    with pytest.raises(ValueError, match=r"one dtype on one device, found .*net\.to"):
        train(net, GradientDescent(0.1), data.x, data.y, 10)


def test_network_with_infinite_weights_is_refused():
    net, data = TwoLayerReLU(4, 10), small_problem()
    with torch.no_grad():
        net.weights[0] = np.inf
    with pytest.raises(ValueError, match="non-finite outputs at these weights"):
        train(net, GradientDescent(0.1), data.x, data.y, 10)


# --- points beside the examples ----------------------------------------------------------------


@pytest.mark.parametrize("wide", [False, True])  # wide inputs are trained in their row space
@pytest.mark.parametrize("make", [lambda d: TwoLayerReLU(d, 40, layers="both"), lambda d: DeepReLU(d, 20, 2)])
def test_outputs_of_points_are_those_of_the_network_at_each_recorded_step(make, wide):
    data, d = small_problem(), 9 if wide else 4
    rng = np.random.default_rng(1)
    x, points = rng.standard_normal((6, d)), rng.standard_normal((5, d))
    runs = {k: (make(d), k) for k in (1, 4)}
    found = {k: train(net, HeavyBall(0.02, 0.5), x, data.y, k, points=points) for k, (net, _) in runs.items()}
    alone = train(make(d), HeavyBall(0.02, 0.5), x, data.y, 4)
    np.testing.assert_array_equal(found[4].predictions, alone.predictions)  # and they change nothing
    for k, (net, _) in runs.items():
        want = net(torch.from_numpy(points)).detach().numpy().reshape(-1)
        # sums of products of numbers of order 1 in another order
        np.testing.assert_allclose(found[4].points.u[k], want, rtol=0, atol=50 * EPS)
    np.testing.assert_array_equal(found[4].points.k, found[4].k)
    assert alone.points is None


def test_points_that_do_not_fit_are_refused_and_the_network_is_left_as_it_was():
    data, net = small_problem(), nn.Linear(4, 1).double()
    before = flat(net)
    for points, wanted in (
        (np.ones((3, 5)), r"points of shape \(3, 5\) does not fit"),
        ([[np.nan] * 4], "points must"),
        (torch.ones(3, 4).to_sparse(), "points must be a dense"),
    ):
        with pytest.raises(ValueError, match=wanted):
            train(net, HeavyBall(0.02, 0.5), data.x, data.y, 3, points=points)
    assert torch.equal(flat(net), before)
