"""Claim of the README: every built-in rule is derived in half a second, with its correction in two."""

import pytest

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    RMSProp,
    SignDescent,
    TorchSGD,
    TripleMomentum,
    ode_limit,
)

RULES = [
    GradientDescent(0.01),
    HeavyBall(0.01, 0.9),
    Nesterov(0.01, 3),
    NesterovConstant(0.01, 0.9),
    HigherMomentum(0.01, (0.2, 0.5)),
    TripleMomentum.tuned(1, 100),
    QHM(0.01, 0.9, 0.7),
    TorchSGD(0.01, 0.9, nesterov=True),
    SignDescent(0.01),
    RMSProp(0.01),
    Adam(0.01),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(("resolution", "seconds"), [(0, 0.5), (1, 2.0)])
def bench_derivation(benchmark, rule, resolution, seconds):
    ode_limit(GradientDescent(0.5), resolution=1)  # warm sympy
    benchmark.pedantic(ode_limit, (rule,), {"resolution": resolution}, rounds=1)
    assert benchmark.stats.stats.max < seconds
