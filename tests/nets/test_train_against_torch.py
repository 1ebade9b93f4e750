"""Training by a rule's own step against torch.optim."""

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
    half_sum,
    linear_net,
    sgd_path,
    small_problem,
    tensors,
    trained,
)

from odeopt.nets import TwoLayerReLU, train
from odeopt.rules.adaptive import AdaGrad, Adam, RMSProp, SignDescent
from odeopt.rules.averaged import Averaged
from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov, NesterovConstant
from odeopt.rules.momentum import TorchSGD


@DTYPES
@BOTH
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_gradient_descent_and_heavy_ball_equal_torch_sgd(dtype, layers, momentum):
    data = small_problem()
    rule = HeavyBall(lr=0.1, momentum=momentum) if momentum else GradientDescent(lr=0.1)
    net, run = trained(rule, data, 30, dtype=dtype, layers=layers)
    start = TwoLayerReLU(4, 40, layers=layers, dtype=dtype)
    points, _ = sgd_path(start, *tensors(data, dtype), 30, lr=0.1, momentum=momentum)
    assert_equal_to_rounding(flat(net), points[30], dtype)
    assert (flat(net) - points[0]).abs().max() > 0.1
    assert run.loss[-1] < 0.2 * run.loss[0]


@DTYPES
@BOTH
def test_constant_nesterov_equals_torch_sgd_at_the_look_ahead_point(dtype, layers):
    # torch's parameter is y_k = x_k + beta (x_k - x_{k-1}), and x_{k+1} = y_k - lr g(y_k).
    data = small_problem()
    net, _ = trained(NesterovConstant(lr=0.1, momentum=0.8), data, 31, dtype=dtype, layers=layers)
    start = TwoLayerReLU(4, 40, layers=layers, dtype=dtype)
    y, g = sgd_path(start, *tensors(data, dtype), 31, lr=0.1, momentum=0.8, nesterov=True)
    assert_equal_to_rounding(flat(net), y[30] - 0.1 * g[30], dtype)
    # torch's parameter itself is another point.
    assert (flat(net) - y[31]).abs().max() > 1e-3


def test_nesterov_with_overwritten_torch_momentum_is_another_sequence_with_the_same_limit():
    # torch uses mu_k in its buffer and in the look-ahead, the textbook scheme mu_{k-1} in one of
    # them. At fixed time t = k sqrt(s) the difference is of order sqrt(s).
    data = small_problem()

    def gap(s):
        num_steps = round(2 / np.sqrt(s))
        net = linear_net()
        train(net, Nesterov(lr=s, r=3), data.x, data.y, num_steps)
        y, g = sgd_path(
            linear_net(),
            *tensors(data),
            num_steps - 1,
            momentum_at=lambda k: k / (k + 3),
            lr=s,
            momentum=0.5,
            nesterov=True,
        )
        return float((flat(net) - (y[-1] - s * g[-1])).norm())

    coarse, fine = gap(1e-4), gap(1e-6)
    assert coarse > 1e-4  # rounding is below 1e-13
    # The next term of the expansion bends the slope by some sqrt(s) / t = 1/100 each decade.
    assert np.log(coarse / fine) / np.log(100) == pytest.approx(0.5, abs=0.05)


def test_overwritten_torch_momentum_departs_at_the_third_look_ahead_by_the_stated_term():
    # With mu_k = (k-1)/(k+2): y_0 = p_0, y_1 = p_1, y_2 = p_2, but
    # y_3 = x_3 - s mu_3 (g_2 + mu_2 g_1), while torch's p_3 = x_3 - s mu_3 (g_2 + mu_3 g_1).
    data, s = small_problem(), 0.05
    p, g = sgd_path(
        linear_net(), *tensors(data), 3, momentum_at=lambda k: k / (k + 3), lr=s, momentum=0.5, nesterov=True
    )
    x = {0: flat(linear_net())}
    for k in (1, 2, 3):
        net = linear_net()
        train(net, Nesterov(lr=s, r=3), data.x, data.y, k)
        x[k] = flat(net)
    mu_2, mu_3 = 1 / 4, 2 / 5
    for y_k, p_k in ((x[0], p[0]), (x[1], p[1]), (x[2] + mu_2 * (x[2] - x[1]), p[2])):
        assert_equal_to_rounding(y_k, p_k, torch.float64)
    gap = p[3] - (x[3] + mu_3 * (x[3] - x[2]))
    assert_equal_to_rounding(gap, -s * mu_3 * (mu_3 - mu_2) * g[1], torch.float64)
    assert gap.abs().max() > 1e-4


def test_dampening_is_heavy_ball_at_a_smaller_rate_but_for_the_first_step():
    # torch: b_1 = g_1 without the factor 1 - tau, which all later gradients carry.
    data, lr, tau = small_problem(), 0.1, 0.4
    start = TwoLayerReLU(4, 40)
    points, gradients = sgd_path(start, *tensors(data), 10, lr=lr, momentum=0.9, dampening=tau)

    def ours(rate, num_steps):
        return flat(trained(HeavyBall(lr=rate, momentum=0.9), data, num_steps)[0])

    assert_equal_to_rounding(ours(lr, 1), points[1], torch.float64)
    first_gap = points[1] - ours(lr * (1 - tau), 1)
    assert_equal_to_rounding(first_gap, -lr * tau * gradients[0], torch.float64)
    # Neither rate reproduces the run.
    assert (ours(lr, 10) - points[10]).abs().max() > 1e-3
    assert (ours(lr * (1 - tau), 10) - points[10]).abs().max() > 1e-3


@DTYPES
@BOTH
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.4},
        {"momentum": 0.8, "nesterov": True},
        {"r": 3},
        {"r": 3, "dampening": 0.4},
        {"r": 3, "nesterov": True},
        {"r": 6.5, "nesterov": True},
    ],
    ids=lambda options: ", ".join(options),
)
def test_torch_sgd_rule_equals_torch_sgd_in_every_mode(dtype, layers, options):
    # The notebook builds the optimizer with some positive momentum and overwrites it before step k,
    # k = 1, 2, ..., with (k-1)/(k+r-1).
    data = small_problem()
    net, _ = trained(TorchSGD(lr=0.1, **options), data, 30, dtype=dtype, layers=layers)
    start = TwoLayerReLU(4, 40, layers=layers, dtype=dtype)
    theirs, schedule = dict(options), None
    if "r" in options:
        r = theirs.pop("r")
        schedule, theirs["momentum"] = lambda k: k / (k + r), 0.5
    points, _ = sgd_path(start, *tensors(data, dtype), 30, lr=0.1, momentum_at=schedule, **theirs)
    assert_equal_to_rounding(flat(net), points[30], dtype)
    assert (flat(net) - points[0]).abs().max() > 0.1


@BOTH
@pytest.mark.parametrize("to_start", [False, True])
def test_decay_where_inputs_span_a_part_of_space_equals_torch_sgd(layers, to_start):
    # Three inputs of dimension 8: what they do not see of a neuron is moved by the decay alone.
    data = small_problem(3, 8)
    rule = TorchSGD(0.1, 0.5, weight_decay=0.2, to_start=to_start)
    net, _ = trained(rule, data, 30, layers=layers)
    start = TwoLayerReLU(8, 40, layers=layers)
    anchor = flat(start)

    def pulled(u, y):
        weights = torch.cat([p.reshape(-1) for p in start.parameters() if p.requires_grad])
        return half_sum(u, y) + 0.1 * ((weights - anchor) ** 2).sum()

    options = {"loss": pulled} if to_start else {"weight_decay": 0.2}
    points, _ = sgd_path(start, *tensors(data), 30, lr=0.1, momentum=0.5, **options)
    assert_equal_to_rounding(flat(net), points[30], torch.float64)


@pytest.mark.parametrize("decay", [None, 0.8])
@pytest.mark.parametrize("module", [lambda: TwoLayerReLU(4, 40), linear_net], ids=["closed form", "module"])
def test_the_record_of_an_averaged_rule_is_at_the_average_and_gradients_are_not(decay, module):
    data, net = small_problem(), module()
    run = train(net, Averaged(TorchSGD(0.1, 0.5), decay=decay), data.x, data.y, 20)
    points, _ = sgd_path(module(), *tensors(data), 20, lr=0.1, momentum=0.5)
    average, other = points[0], module()
    for k, point in enumerate(points):
        weight = 1 / (k + 1) if decay is None else (1 - decay if k else 1)
        average = average + weight * (point - average)
        torch.nn.utils.vector_to_parameters(average, [p for p in other.parameters() if p.requires_grad])
        outputs = other(tensors(data)[0]).detach().reshape(-1)
        assert_equal_to_rounding(torch.tensor(run.predictions[k]), outputs, torch.float64)
    assert_equal_to_rounding(flat(net), average, torch.float64)
    assert (average - points[-1]).abs().max() > 1e-3


def test_torch_creates_no_buffer_while_the_momentum_is_zero():
    # With a buffer from the first step on, the second step would carry mu_2 g_1 too.
    data, s = small_problem(), 0.05
    p, g = sgd_path(
        linear_net(), *tensors(data), 2, momentum_at=lambda k: k / (k + 3), lr=s, momentum=0.5, nesterov=True
    )
    mu = 1 / 4
    assert_equal_to_rounding(p[2], p[1] - s * (1 + mu) * g[1], torch.float64)
    net = linear_net()
    train(net, TorchSGD(s, r=3, nesterov=True), data.x, data.y, 2)
    assert_equal_to_rounding(flat(net), p[2], torch.float64)
    assert (s * mu**2 * g[0]).abs().max() > 1e-4


def test_mean_reduction_is_mse_loss_and_scales_the_kernel():
    data = small_problem()
    net, run = trained(HeavyBall(lr=0.3, momentum=0.5), data, 20, reduction="mean")
    start = TwoLayerReLU(4, 40)
    points, _ = sgd_path(start, *tensors(data), 20, loss=nn.MSELoss(), lr=0.3, momentum=0.5)
    assert_equal_to_rounding(flat(net), points[20], torch.float64)
    assert run.kernel_scale == 2 / 6
    # For a rule whose lr multiplies its gradient it is the summed loss at lr 2/n.
    other, summed = trained(HeavyBall(lr=0.3 * 2 / 6, momentum=0.5), data, 20)
    assert_equal_to_rounding(flat(net), flat(other), torch.float64)
    np.testing.assert_allclose(run.loss, summed.loss, rtol=1e-12)
    assert summed.kernel_scale == 1


@pytest.mark.parametrize("column", [True, False])
def test_any_module_with_one_output_is_trained(column):
    class Net(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if column else super().forward(x)[:, 0]

    def fresh():
        generator = torch.Generator().manual_seed(0)
        net = Net(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        for p in net.parameters():
            nn.init.normal_(p, std=0.5, generator=generator)
        net[0].bias.requires_grad_(False)
        return net

    data, net = small_problem(), fresh()
    frozen = net[0].bias.clone()
    run = train(net, HeavyBall(lr=0.02, momentum=0.9), data.x, data.y, 30)
    points, _ = sgd_path(fresh(), *tensors(data), 30, lr=0.02, momentum=0.9)
    assert_equal_to_rounding(flat(net), points[30], torch.float64)
    assert torch.equal(net[0].bias, frozen)
    assert run.width is None
    assert run.initial_kernel is None
    assert run.label == "HeavyBall(lr=0.02, momentum=0.9)"
    assert len(run.kernel_drift) == len(run.relative_kernel_drift) == 0


@dataclass(frozen=True)
class UserAdam(UpdateRule):
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999

    def initial_memory(self, x0):
        return 0 * x0, 0 * x0

    def step(self, k, iterates, memory, grad):
        (x,), (m, v), g = iterates, memory, grad(iterates[0])
        m, v = self.beta1 * m + (1 - self.beta1) * g, self.beta2 * v + (1 - self.beta2) * g**2
        m_hat, v_hat = m / (1 - self.beta1 ** (k + 1)), v / (1 - self.beta2 ** (k + 1))
        return x - self.lr * m_hat / (v_hat**0.5 + 1e-8), (m, v)


@BOTH
@pytest.mark.parametrize(
    ("rule", "optimizer", "options"),
    [
        (RMSProp(0.01, 0.9), torch.optim.RMSprop, {"lr": 0.01, "alpha": 0.9}),
        (Adam(0.01, 0.8, 0.99), torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.99)}),
        (AdaGrad(0.05), torch.optim.Adagrad, {"lr": 0.05}),
    ],
    ids=["RMSProp", "Adam", "AdaGrad"],
)
def test_adaptive_rules_train_a_network_as_torch_does(layers, rule, optimizer, options):
    data = small_problem()
    net, run = trained(rule, data, 20, layers=layers, allow_unstable=True)
    reference = TwoLayerReLU(4, 40, layers=layers)
    points = path_of(reference, *tensors(data), 20, optimizer, **options)
    # A rounding of a gradient g near zero is divided by |g| + eps: at most EPS / 1e-8, times lr.
    np.testing.assert_allclose(flat(net).numpy(), points[-1].numpy(), rtol=0, atol=1e-9)
    assert run.loss[-1] < run.loss[0]


def path_of(net, x, y, num_steps, make, **options):
    """Parameters of a torch optimizer, k = 0 ... num_steps."""
    optimizer = make([p for p in net.parameters() if p.requires_grad], **options)
    points = [flat(net)]
    for _ in range(num_steps):
        optimizer.zero_grad()
        half_sum(net(x), y).backward()
        optimizer.step()
        points.append(flat(net))
    return points


@pytest.mark.parametrize("rule", [Adam(0.01), RMSProp(0.01), AdaGrad(0.01), SignDescent(0.01)])
def test_nonlinear_rules_have_no_stability_limit_and_say_so(rule):
    message = r"no stability limit is known .*not linear.*allow_unstable=True"
    with pytest.raises(ValueError, match=message):
        trained(rule, small_problem(), 5)


def test_user_defined_rule_with_memory_equals_torch_adam():
    data = small_problem()
    net, _ = trained(UserAdam(lr=0.01), data, 20, allow_unstable=True)
    reference = TwoLayerReLU(4, 40)
    x, y = tensors(data)
    optimizer = torch.optim.Adam(reference.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        half_sum(reference(x), y).backward()
        optimizer.step()
    # A rounding of a gradient g near zero is divided by |g| + 1e-8: at most eps / 1e-8, times lr.
    np.testing.assert_allclose(flat(net).numpy(), flat(reference).numpy(), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"no stability limit is known .*memory.*allow_unstable=True"):
        trained(UserAdam(lr=0.01), data, 20)
