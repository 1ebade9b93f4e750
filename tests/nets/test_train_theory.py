"""Training against the linear theory: stability, divergence, wide networks."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from training import (
    flat,
    small_problem,
    trained,
)

from odeopt import max_learning_rate
from odeopt.data import load_digits, prepare
from odeopt.nets import TwoLayerReLU, empirical_gram, train
from odeopt.rules.base import iterate
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov, NesterovConstant
from odeopt.rules.momentum import QHM, TorchSGD

# --- stability and divergence ------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    "rule",
    [
        GradientDescent(1.0),
        HeavyBall(1.0, 0.9),
        Nesterov(1.0),
        HigherMomentum(1.0, (0.2, 0.5)),
        QHM(1.0, 0.9, 0.7),
        TorchSGD(1.0, 0.9, dampening=0.5),
        TorchSGD(1.0, r=3, nesterov=True),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_learning_rate_above_the_stability_limit_is_refused_with_the_limit(rule, reduction):
    data = small_problem()
    kernel = empirical_gram(TwoLayerReLU(4, 40), data.x)
    scale = 1 if reduction == "sum" else 2 / 6
    limit = max_learning_rate(rule, scale * np.linalg.eigvalsh(kernel)[-1])
    trained(rule.replace(lr=0.999 * limit), data, 2, reduction=reduction)
    above = rule.replace(lr=1.001 * limit)
    with pytest.raises(ValueError, match=rf"stability limit {limit:.6g} .*allow_unstable=True"):
        trained(above, data, 2, reduction=reduction)
    assert trained(above, data, 2, reduction=reduction, allow_unstable=True)[1].diverged_at is None


def test_refused_run_leaves_the_network_untouched():
    data, net = small_problem(), TwoLayerReLU(4, 40)
    with pytest.raises(ValueError, match="stability limit"):
        train(net, GradientDescent(100.0), data.x, data.y, 5)
    assert torch.equal(flat(net), flat(TwoLayerReLU(4, 40)))


@pytest.mark.parametrize(("dtype", "first"), [(torch.float64, 513), (torch.float32, 128)])
def test_divergence_stops_at_the_first_infinite_loss(dtype, first):
    # w_{k+1} = w_k - 3 w_k: errors (-2)^k exactly. The loss 2^(2k-1) leaves float64 (2^1024) at
    # k = 513; float32 loses the error itself (2^128) at k = 128.
    net = nn.Linear(1, 1, bias=False, dtype=dtype)
    nn.init.ones_(net.weight)
    options = {"record_at": range(1001), "allow_unstable": True}
    run = train(net, GradientDescent(3.0), [[1.0]], [0.0], 1000, **options)
    assert run.diverged_at == first
    assert run.num_steps == 1000
    assert np.array_equal(run.k, np.arange(first))
    assert np.array_equal(run.errors[:, 0], (-2.0) ** np.arange(first))
    assert np.isfinite(run.loss).all()
    assert net.weight.item() == (-2.0) ** (first - 1)


def test_diverging_network_keeps_its_finite_record():
    net, run = trained(HeavyBall(1e4, 0.9), small_problem(), 500, layers="both", allow_unstable=True)
    assert 0 < run.diverged_at < 500
    assert run.k[-1] == run.diverged_at - 1
    assert np.isfinite(run.errors).all()
    assert torch.isfinite(flat(net)).all()


def test_run_that_stays_finite_has_not_diverged():
    assert trained(GradientDescent(0.1), small_problem(), 10)[1].diverged_at is None


# --- the linear theory -------------------------------------------------------------------------


def linear_prediction(rule, run):
    """Errors P_k(H(0)) Delta_0, with the residual polynomials from the rule's own step."""
    lam, vectors = np.linalg.eigh(run.kernel_scale * run.initial_kernel)
    steps = iterate(rule, np.ones_like(lam), lambda z: lam * z)
    polynomials = np.array(list(itertools.islice(steps, run.num_steps + 1)))
    return (polynomials * (vectors.T @ run.errors[0])) @ vectors.T


RULES = [
    GradientDescent(0.08),
    HeavyBall(0.08, 0.8),
    Nesterov(0.08, 3),
    NesterovConstant(0.08, 0.8),
    HigherMomentum(0.08, (0.2, 0.5)),
    QHM(0.4, 0.8, 0.7),
    TorchSGD(0.08, r=3, nesterov=True),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_wide_network_follows_the_linear_prediction_and_the_gap_falls_with_width(rule):
    data = prepare(*load_digits(20))
    gaps, drifts = [], []
    for m in (256, 4096):
        gap, drift = [], []
        for seed in range(4):
            net = TwoLayerReLU(64, m, seed=seed)
            run = train(net, rule, data.x, data.y, 60, kernel_at=[60])
            deviation = np.linalg.norm(run.errors - linear_prediction(rule, run), axis=1)
            gap.append(deviation.max() / np.linalg.norm(run.errors[0]))
            drift.append(run.relative_kernel_drift[0])
        gaps.append(np.mean(gap))
        drifts.append(np.mean(drift))
    # Theory: m^(-1/2), a factor 1/4. Seeds scatter by 8 and 13 %, so the ratio of means of four by
    # 8 %; at width 256 the next order bends it up a little (measured 0.27 to 0.30).
    assert 0.2 < gaps[1] / gaps[0] < 0.36
    assert gaps[1] < 0.05
    assert drifts[1] < 0.4 * drifts[0]


def test_prediction_uses_the_scaled_kernel_under_mean_reduction():
    data = prepare(*load_digits(20))
    rule = HeavyBall(0.8, 0.8)
    run = train(TwoLayerReLU(64, 4096), rule, data.x, data.y, 60, reduction="mean")
    deviation = np.linalg.norm(run.errors - linear_prediction(rule, run), axis=1)
    assert deviation.max() < 0.05 * np.linalg.norm(run.errors[0])  # as above, at the same lr / n
