"""The error budget: its parts add up, each level is what an independent route gives, refusals are clear."""

import json
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch import nn

from odeopt.dynamics.error import error_dynamics
from odeopt.dynamics.integrate import integrate
from odeopt.dynamics.iterates import predict_iterates
from odeopt.dynamics.losses import LogisticLoss, SquaredLoss
from odeopt.limits.ode import ode_limit
from odeopt.nets import (
    ConvReLU,
    DeepReLU,
    PaperReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    error_budget,
    infinite_width_kernel,
    train,
    train_sgd,
)
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov
from odeopt.spectra.errors import predicted_errors

ALL = ["drift and flips", "beyond the high-resolution ODE", "step-size correction", "finite width"]
RULES = (
    GradientDescent(0.3),
    HeavyBall(0.2, 0.7),
    Nesterov(0.2, 3),
    HigherMomentum(0.05, (0.2, 0.5)),
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((8, 5))
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.standard_normal(8)


def linear_model(d):
    torch.manual_seed(0)
    return nn.Linear(d, 1, dtype=torch.float64)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_parts_add_up_to_the_whole_distance_in_loss_and_in_vectors(data, rule):
    net = TwoLayerReLU(5, 256)
    budget = error_budget(train(net, rule, *data, 120), net=net, x=data[0])
    assert list(budget.pairs) == ALL
    losses, errors = budget.losses, budget.errors
    # a few roundings of the largest number in the chain
    largest = max(loss.max() for loss in losses.values())
    np.testing.assert_allclose(
        sum(budget.loss_parts.values()), losses["trained"] - losses["ode_inf"], rtol=0, atol=1e-14 * largest
    )
    np.testing.assert_allclose(
        sum(budget.vector_parts.values()),
        errors["trained"] - errors["ode_inf"],
        rtol=0,
        atol=1e-14 * max(np.abs(error).max() for error in errors.values()),
    )
    assert np.array_equal(losses["trained"], budget.losses["trained"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_levels_agree_with_the_rule_in_the_predictions_and_with_solve_ivp(data, rule):
    net, (x, y) = TwoLayerReLU(5, 64), data
    run = train(net, rule, x, y, 40, record_at=[1, 7, 40])
    budget = error_budget(run, net=net, x=x)
    kernel = run.initial_kernel
    iterates = predict_iterates(rule, kernel, SquaredLoss(), run.predictions[0], run.targets, run.k)
    # rounding of 40 steps of size 1
    np.testing.assert_allclose(budget.errors["discrete_h0"], iterates.u - run.targets, atol=1e-12)
    for level, resolution, matrix in (
        ("ode_h0", 0, kernel),
        ("high_resolution_h0", 1, kernel),
        ("ode_inf", 0, infinite_width_kernel(net, x)),
    ):
        dynamics = error_dynamics(ode_limit(rule, resolution=resolution))
        t = (run.k + float(dynamics.time_origin)) * float(dynamics.time_step)
        found = integrate(dynamics, matrix, run.errors[0], t, rtol=1e-10, atol=1e-13)
        # tolerance of the solver, accumulated over the run
        np.testing.assert_allclose(budget.errors[level], found.delta, atol=1e-8)


def test_a_linear_model_has_no_drift_whatever_the_reduction(data):
    x, y = data
    for reduction in ("sum", "mean"):
        net = linear_model(5)
        kernel = empirical_operator(net, x, reduction=reduction)
        run = train(net, HeavyBall(0.1, 0.6), x, y, 80, reduction=reduction)
        budget = error_budget(run, kernel)
        # rounding of 80 steps
        assert budget.rows()[0]["vector"] < 1e-12
        assert budget.rows()[1]["vector"] > 1e-4
        assert list(budget.pairs) == ALL[:3]
        assert "pass net and x" in budget.notes["ode_inf"]


def test_equal_losses_do_not_hide_different_vectors(data):
    net = TwoLayerReLU(5, 64)
    budget = error_budget(train(net, RULES[0], *data, 10), net=net, x=data[0])
    turned = MappingProxyType({**budget.errors, "trained": budget.errors["discrete_h0"][:, ::-1]})
    row = replace(budget, errors=turned).rows()[0]
    assert row["initial"] < 1e-14  # the same sum of squares in another order
    assert row["vector"] > 0.1


def test_high_resolution_takes_the_first_order_of_the_step_size_away(data):
    """Nesterov: the ODE is first order in h = sqrt(lr), the high-resolution one second order."""
    found = []
    for lr, steps in ((0.04, 20), (0.01, 40)):  # the same stretch of time
        net = TwoLayerReLU(5, 64)
        run = train(net, Nesterov(lr, 3), *data, steps)
        found.append({row["part"]: row["vector"] for row in error_budget(run).rows()})
    coarse, fine = found
    # h is halved; the next order of h, about 0.2, is what is left of these ratios
    assert coarse["beyond the high-resolution ODE"] / fine["beyond the high-resolution ODE"] > 3
    assert coarse["step-size correction"] / fine["step-size correction"] == pytest.approx(2, rel=0.3)


def test_a_rule_without_a_high_resolution_ode_says_so_and_keeps_one_step_part(data):
    net = TwoLayerReLU(5, 64)
    budget = error_budget(train(net, Nesterov(0.1, 3), *data, 30), net=net, x=data[0], resolution=2)
    assert list(budget.pairs) == ["drift and flips", "step size", "finite width"]
    assert "has a pole 1/t^3" in budget.notes["high_resolution_h0"]
    assert "high-resolution ODE H(0): not available" in str(budget)
    losses = budget.losses
    np.testing.assert_allclose(
        sum(budget.loss_parts.values()),
        losses["trained"] - losses["ode_inf"],
        atol=1e-14 * losses["trained"][0],  # rounding
    )


def test_any_module_has_a_budget_from_a_kernel_made_before_training(data):
    rng = np.random.default_rng(3)
    images = rng.random((6, 16))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    for net, x in ((DeepReLU(5, 64, depth=2), data[0][:6]), (ConvReLU(4, 8), images)):
        kernel = empirical_operator(net, x)
        run = train(net, HeavyBall(0.02, 0.5), x, rng.standard_normal(6), 40)
        budget = error_budget(run, kernel, net=net, x=x)
        closed = isinstance(net, DeepReLU)
        assert list(budget.pairs) == (ALL if closed else ALL[:3])
        assert closed or "ConvReLU" in budget.notes["ode_inf"]
        from_array = error_budget(run, kernel.gram(), net=net, x=x)
        np.testing.assert_array_equal(from_array.errors["ode_h0"], budget.errors["ode_h0"])


def test_closed_forms_of_infinite_width_are_those_of_wide_networks(data):
    x = data[0]
    wide = DeepReLU(5, 2048, depth=2, seed=1)
    for net, kernel, width in (
        (wide, empirical_operator(wide, x).gram(), 2048),
        (TwoLayerReLU(5, 100_000, layers="both"), None, 100_000),
    ):
        kernel = empirical_gram(net, x) if kernel is None else kernel
        limit = infinite_width_kernel(net, x)
        # entries are means of that many terms of the size of the diagonal, for each of some layers
        assert np.abs(kernel - limit).max() < 5 * limit.max() / np.sqrt(width)


@pytest.mark.parametrize(
    "make",
    [
        lambda width, seed: TwoLayerReLU(5, width, layers="both", seed=seed),
        lambda width, seed: DeepReLU(5, width, depth=1, seed=seed),
        lambda width, seed: DeepReLU(5, width, depth=2, seed=seed),
    ],
    ids=["two layers", "depth 1", "depth 2"],
)
def test_closed_forms_are_the_means_of_empirical_kernels(data, make):
    """Over seeds, within the standard error of the mean and a bias of order 1/m for each further layer."""
    width, seeds = 256, 60
    kernels = np.array([empirical_operator(make(width, s), data[0]).gram() for s in range(seeds)])
    limit = infinite_width_kernel(make(width, 0), data[0])
    spread = kernels.std(axis=0, ddof=1)
    assert (spread > 0.01 * np.diag(limit).mean()).any()  # one network alone is much further away
    # 36 entries, of which 1 in 16,000 lies beyond four standard errors
    assert (np.abs(kernels.mean(axis=0) - limit) <= 4 * spread / np.sqrt(seeds) + limit.max() / width).all()


def test_closed_forms_are_refused_where_they_do_not_hold(data):
    frozen = DeepReLU(5, 8)
    frozen.weights[0].requires_grad_(False)
    for net, word in ((PaperReLU(4, 8), "PaperReLU"), (frozen, "frozen"), (ConvReLU(4, 2), "ConvReLU")):
        with pytest.raises(ValueError, match=f"no closed form of H_inf is known for .*{word}"):
            infinite_width_kernel(net, data[0])


def test_until_ends_at_the_first_step_of_the_fall(data):
    net = TwoLayerReLU(5, 256)
    budget = error_budget(train(net, RULES[1], *data, 300), net=net, x=data[0])
    part = budget.until(100)
    loss = part.losses["trained"]
    assert loss[-1] <= loss[0] / 100 < loss[-2]
    assert part.to_dict()["last_step"] == part.k[-1] < 300
    with pytest.raises(ValueError, match="fall must be above 1"):
        budget.until(0.5)


def test_table_and_json_hold_the_same_numbers(data):
    net = TwoLayerReLU(5, 64)
    budget = error_budget(train(net, RULES[2], *data, 30), net=net, x=data[0])
    stored = json.loads(json.dumps(budget.to_dict()))
    assert [row["part"] for row in stored["parts"]] == [*ALL, "total"]
    assert stored["equations"]["ode_h0"] == "Delta'' + (3/t)*Delta' + H*Delta = 0"
    gap = np.abs(budget.loss_parts["finite width"])
    assert stored["parts"][3]["initial"] == (gap / budget.losses["trained"][0]).max()
    lines = [" ".join(line.split()) for line in str(budget).splitlines()]
    for row in stored["parts"]:
        assert any(
            line.startswith(f"{row['part']} {row['initial']:.2g} {row['current']:.2g}") for line in lines
        )


def test_a_diverging_prediction_is_a_result(data):
    net = TwoLayerReLU(5, 64)
    run = train(net, GradientDescent(40.0), *data, 600, allow_unstable=True)
    budget = error_budget(run, net=net, x=data[0])
    row = budget.rows()[0]
    assert row["vector"] > 1e6
    assert row["initial"] == np.inf
    stored = json.loads(json.dumps(budget.to_dict(), allow_nan=False))
    assert stored["parts"][0]["initial"] is None
    assert "inf" in str(budget)


def test_what_has_no_budget_is_refused(data):
    x, y = data
    rule, net = GradientDescent(0.1), DeepReLU(5, 32)
    run = train(net, rule, x, y, 50)
    late = empirical_operator(net, x)
    for kernel, words in (
        (None, "kernel is needed.*before training"),
        (net, "kernel is a DeepReLU.*before training"),
        (late, "other weights.*before training"),
        (np.eye(3), r"kernel must have shape \(8, 8\)"),
    ):
        with pytest.raises(ValueError, match=words):
            error_budget(run, kernel)
    with pytest.raises(ValueError, match="net is given without x"):
        error_budget(run, np.eye(8), net=net)
    with pytest.raises(ValueError, match="run must be a TrainingRun"):
        error_budget(net)
    batches = train_sgd(TwoLayerReLU(5, 16), rule, x, y, 5, batch_size=2)
    with pytest.raises(ValueError, match=r"batches of 2 examples.*sgd_report"):
        error_budget(batches)
    labels = np.sign(y)
    logistic = train(TwoLayerReLU(5, 16), rule, x, labels, 5, objective=LogisticLoss())
    with pytest.raises(ValueError, match="squared loss"):
        error_budget(logistic)
    from odeopt.rules.adaptive import Adam

    adam = train(TwoLayerReLU(5, 16), Adam(0.01), x, y, 5, allow_unstable=True)
    with pytest.raises(ValueError, match=r"Adam.* no linear ODE"):
        error_budget(adam)


def test_high_resolution_on_another_clock_is_noted():
    kernel, start = np.diag([1.0, 0.1]), np.ones(2)
    centred = predicted_errors(HeavyBall(0.001, 0.5), kernel, start, [0, 30])
    assert "may be the nearer one" in centred.notes["high_resolution_h0"]
    gap = {level: np.abs(e - centred.errors["discrete_h0"]).max() for level, e in centred.errors.items()}
    assert gap["ode_h0"] < gap["high_resolution_h0"]  # which is what the note says
    assert not predicted_errors(Nesterov(0.01, 3), kernel, start, [0, 30]).notes
