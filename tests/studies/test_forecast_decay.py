"""Rules with decay and schedules on the measure of a forecast: the network starts with J w_0 = 0."""

import numpy as np
import pytest

from odeopt import HeavyBall, loss_curve, spectral_measure
from odeopt.data import prepare
from odeopt.kernels import relu_gram
from odeopt.rates import steps_to
from odeopt.rules import Cosine
from odeopt.studies import forecast

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((40, 5)), RNG.standard_normal(40)
TWICE = np.concatenate([X[:1], X[:-1]])


@pytest.mark.parametrize("x", [X, TWICE], ids=["regular", "a row twice"])
def test_a_forecast_serves_rules_with_decay(x):
    found = forecast(x, Y, methods=["gd"], num_matvecs=40)
    data = prepare(x, Y, allow_singular=True)
    dense = spectral_measure(relu_gram(data.x, allow_singular=True), -data.y, origin=np.zeros(40))
    rule = HeavyBall(Cosine(0.5 / found.L, 200), 0.9, weight_decay=0.02 * found.L)
    k = np.arange(0, 201, 20)
    curve, expected = loss_curve(rule, found.measure, k), loss_curve(rule, dense, k)
    assert curve.rigorous
    # entries of both kernels are rounded, which 200 steps of momentum 0.9 amplify by their number
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-9)
    steps = steps_to(rule, found.measure, 0.8 * found.initial_loss, max_steps=200)
    assert (
        steps.value
        == np.flatnonzero(loss_curve(rule, dense, np.arange(201)).loss <= 0.8 * found.initial_loss)[0]
    )
    assert steps_to(rule, found.measure, 1e-6 * found.initial_loss, max_steps=200).value is None
