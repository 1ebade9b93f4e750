"""Losses, and a small problem for them, on which dynamics and iterations of predictions are tested."""

import numpy as np
import pytest
from zoo import kernel_with

from odeopt import (
    LogisticLoss,
    SquaredLoss,
    ode_limit,
    prediction_dynamics,
)

TOL = {"rtol": 1e-11, "atol": 1e-13}
LOSSES = [SquaredLoss(), LogisticLoss(), LogisticLoss(ridge=0.3)]
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES, ids=repr)
LABELS = np.array([1.0, -1.0, -1.0, 1.0])


def dynamics_of(rule, loss):
    return prediction_dynamics(ode_limit(rule), loss)


def problem(n=4, seed=0):
    rng = np.random.default_rng(seed)
    kernel = kernel_with(np.linspace(0.2, 1.5, n), seed)
    return kernel, rng.standard_normal(n), np.where(rng.random(n) < 0.5, -1.0, 1.0)
