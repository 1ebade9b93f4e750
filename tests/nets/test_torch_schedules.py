"""Schedulers and optimizers of torch, read as schedules and rules."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from training import flat, half_sum, small_problem, tensors

from odeopt.nets import rule_of, torch_schedule, train
from odeopt.rules import Adam, Cosine, Exponential, Linear, Step, TorchSGD

STEPS = 40
SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 1 / math.sqrt(1 + k / 5)),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.001),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 7, T_mult=2),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, total_iters=9),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.2, total_iters=5), lr_scheduler.CosineAnnealingLR(o, STEPS - 5)],
        milestones=[5],
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, total_iters=4), lr_scheduler.ExponentialLR(o, 0.95)]
    ),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.02, total_steps=500),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=6, mode="triangular2"),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [10, 25], gamma=0.3),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.97),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=2.0),
}


def sgd(**options):
    return torch.optim.SGD([nn.Parameter(torch.ones(3))], **{"lr": 0.1, "momentum": 0.9, **options})


def run_by_torch(optimizer, scheduler, name):
    """The numbers that the steps of the optimizer itself have."""
    seen = []
    for _ in range(STEPS):
        seen.append(optimizer.param_groups[0][name])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=list(SCHEDULERS))
def test_a_table_has_the_numbers_of_each_step_of_torch(make):
    optimizer = sgd()
    scheduler = make(optimizer)
    before = copy.deepcopy((optimizer.state_dict(), vars(scheduler)["_last_lr"]))
    tables = {name: torch_schedule(scheduler, STEPS, name) for name in ("lr", "momentum")}
    assert (optimizer.state_dict(), vars(scheduler)["_last_lr"]) == before
    for name, table in tables.items():
        other = sgd()
        # one formula, run twice: both have the same roundings
        np.testing.assert_allclose(table.values, run_by_torch(other, make(other), name), rtol=1e-15)
    assert (len(set(tables["momentum"].values)) > 1) == isinstance(
        scheduler, (lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR)
    )


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("CosineAnnealingLR", Cosine(0.1, STEPS, end=0.001)),
        ("LinearLR", Linear(0.01, 9, end=0.1)),
        ("MultiStepLR", Step(0.1, (10, 25), factor=0.3)),
        ("ExponentialLR", Exponential(0.1, 0.97)),
    ],
)
def test_schedulers_have_the_values_of_the_schedules_of_their_names(name, schedule):
    table = torch_schedule(SCHEDULERS[name](sgd()), STEPS)
    k = np.arange(STEPS)
    # torch multiplies from step to step: some roundings each
    np.testing.assert_allclose(table(k), schedule(k), rtol=5 * STEPS * 2.3e-16)


def test_a_scheduler_that_has_run_is_read_from_where_it_stands():
    optimizer = sgd()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    run_by_torch(optimizer, scheduler, "lr")
    start = 0.1 * 0.5**STEPS
    np.testing.assert_allclose(torch_schedule(scheduler, 3).values, [start, start / 2, start / 4], rtol=1e-13)


# --- whole rules ------------------------------------------------------------------------------------


def small_net():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    for p in net.parameters():
        nn.init.normal_(p, std=0.5, generator=generator)
    return net


def made(kind="SGD", **options):
    return lambda weights: getattr(torch.optim, kind)(weights, **options)


def torch_path(data, optimizer_of, name, num_steps):
    """Weights after the steps of torch's own optimizer and scheduler."""
    net, (x, y) = small_net(), tensors(data)
    optimizer = optimizer_of(net.parameters())
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(num_steps):
        optimizer.zero_grad()
        half_sum(net(x), y).backward()
        optimizer.step()
        scheduler.step()
    return flat(net)


def our_path(data, optimizer_of, name, num_steps):
    net = small_net()
    optimizer = optimizer_of(net.parameters())
    rule = rule_of(optimizer, SCHEDULERS[name](optimizer), num_steps)
    train(net, rule, data.x, data.y, num_steps, allow_unstable=True, record_at=[num_steps])
    return flat(net)


RUNS = {
    "gd, cosine": (made(lr=0.02), "CosineAnnealingLR"),
    "gd with decay, lambda": (made(lr=0.05, weight_decay=0.1), "LambdaLR"),
    "momentum, warm-up and cosine": (made(lr=0.01, momentum=0.9), "SequentialLR"),
    "momentum with decay, one cycle": (made(lr=0.01, momentum=0.9, weight_decay=0.05), "OneCycleLR"),
    "momentum with decay, linear": (made(lr=0.01, momentum=0.9, weight_decay=0.05), "LinearLR"),
    "nesterov, steps": (made(lr=0.01, momentum=0.8, nesterov=True), "MultiStepLR"),
    "nesterov with decay, steps": (
        made(lr=0.01, momentum=0.8, nesterov=True, weight_decay=0.1),
        "MultiStepLR",
    ),
    "dampening with decay": (made(lr=0.02, momentum=0.7, dampening=0.3, weight_decay=0.1), "ExponentialLR"),
    "Adam, cosine": (made("Adam", lr=0.01, eps=1e-3), "CosineAnnealingLR"),
    "Adam with decay, warm-up": (made("Adam", lr=0.01, eps=1e-3, weight_decay=0.1), "SequentialLR"),
    "AdamW, cosine": (made("AdamW", lr=0.01, eps=1e-3, weight_decay=0.1), "CosineAnnealingLR"),
    "AdamW, one cycle": (made("AdamW", lr=0.01, eps=1e-3, betas=(0.9, 0.95)), "OneCycleLR"),
}


@pytest.mark.parametrize("num_steps", [60, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("optimizer_of", "name"), RUNS.values(), ids=list(RUNS))
def test_iterates_are_those_of_torch_with_its_scheduler(optimizer_of, name, num_steps):
    paths = (path(small_problem(), optimizer_of, name, num_steps) for path in (torch_path, our_path))
    # The same formulas in another order: a few roundings of weights of size 3 in each step, all stable. Adam
    # divides the rounding of a gradient that vanishes by eps and multiplies it by lr: by at most 20 in all.
    step = 4 * 3 * 2.3e-16 * (20 if optimizer_of([nn.Parameter(torch.ones(1))]).defaults.get("betas") else 1)
    np.testing.assert_allclose(*(p.numpy() for p in paths), rtol=0, atol=num_steps * step)


def test_the_rule_of_an_optimizer_without_scheduler_has_its_numbers():
    options = {"lr": 0.2, "momentum": 0.9, "nesterov": True}
    assert rule_of(sgd(**options)) == TorchSGD(0.2, 0.9, nesterov=True)
    weights = [nn.Parameter(torch.ones(3))]
    assert rule_of(torch.optim.Adam(weights, lr=0.2, betas=(0.8, 0.9))) == Adam(0.2, 0.8, 0.9)
    assert rule_of(sgd(momentum=0)) == TorchSGD(0.1)


def test_groups_of_equal_numbers_are_one_and_those_of_different_ones_are_refused():
    groups = [{"params": [nn.Parameter(torch.ones(2))]}, {"params": [nn.Parameter(torch.ones(1))]}]
    assert rule_of(torch.optim.SGD(copy.deepcopy(groups), lr=0.1)) == TorchSGD(0.1)
    groups[1]["lr"] = 0.2
    different = torch.optim.SGD(groups, lr=0.1)
    with pytest.raises(ValueError, match=r"lr = 0.1, 0.2 at k = 0.*give them one value"):
        rule_of(different)
    alike = sgd()
    alike.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    parting = lr_scheduler.LambdaLR(alike, [lambda k: 1.0, lambda k: 1.0 if k < 3 else 0.5])
    assert torch_schedule(parting, 3).values == (0.1, 0.1, 0.1)
    with pytest.raises(ValueError, match=r"0.1, 0.05 at k = 3"):
        torch_schedule(parting, 4)


def stepped():
    optimizer = sgd()
    optimizer.param_groups[0]["params"][0].grad = torch.ones(3)
    optimizer.step()
    return optimizer


def broken(_):
    raise ZeroDivisionError("division by zero")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch_schedule("cosine", 3), "scheduler must be one of torch.optim.lr_scheduler, got str"),
        (lambda: torch_schedule(lr_scheduler.ReduceLROnPlateau(sgd()), 3), "follow the loss"),
        (lambda: torch_schedule(lr_scheduler.OneCycleLR(sgd(), 0.1, 5), 7), "for num_steps = 7 .*fewer"),
        (
            lambda: torch_schedule(lr_scheduler.StepLR(sgd(), 5), 0),
            "num_steps must be an integer of at least 1",
        ),
        (
            lambda: torch_schedule(lr_scheduler.StepLR(sgd(), 5), 3, "beta1"),
            "name must be .*'beta1'.*momentum",
        ),
        (lambda: rule_of(torch.optim.LBFGS([nn.Parameter(torch.ones(1))])), "must be SGD, Adam.*got LBFGS"),
        (lambda: rule_of(sgd(maximize=True)), "maximize = True, which TorchSGD has not"),
        (lambda: rule_of(sgd(), lr_scheduler.StepLR(sgd(), 5), 3), "belongs to another optimizer"),
        (lambda: rule_of(stepped()), "has taken steps"),
        (lambda: rule_of(o := sgd(), lr_scheduler.LambdaLR(o, lambda k: 1 - k), 3), "lr must be nonnegative"),
    ],
)
def test_refusals_name_the_argument_and_the_reason(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_momentum_that_torch_skips_is_refused():
    optimizer = sgd()
    cyclic = lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, step_size_up=4, base_momentum=0.0)
    assert rule_of(optimizer, cyclic, 4).last_step == 3
    with pytest.raises(ValueError, match="momentum 0 at k = 4"):
        rule_of(optimizer, cyclic, 5)
