"""Predictions under cross-entropy where weights decay: their equation by weights, steps and the optimum."""

import itertools

import numpy as np
import pytest
import scipy
from convex_losses import TOL, dynamics_of

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    SoftmaxLoss,
    SquaredLoss,
    TorchSGD,
    error_dynamics,
    ode_limit,
)
from odeopt.dynamics import energy, integrate, integrate_predictions, predict_iterates
from odeopt.rules import Cosine, Linear
from odeopt.rules.base import iterate

LOSS = SoftmaxLoss()
Y = np.eye(3)[[0, 2, 1, 0, 2]]
RNG = np.random.default_rng(2)
J, J_POINTS, W0, OFFSET, AT = (
    RNG.standard_normal(size) / 3 for size in ((15, 24), (12, 24), (24,), (15,), (12,))
)
KERNEL, CROSS = J @ J.T, J_POINTS @ J.T
U0, START = (J @ W0 + OFFSET).reshape(5, 3), (J_POINTS @ W0 + AT).reshape(4, 3)
DECAYED = {"origin": (J @ W0).reshape(5, 3), "points_origin": (J_POINTS @ W0).reshape(4, 3)}
FROM_START = {"origin": np.zeros((5, 3)), "points_origin": np.zeros((4, 3))}
POINTS = {"cross_kernel": CROSS, "start": START}


def gradient(w):
    return J.T @ LOSS.gradient((J @ w + OFFSET).reshape(5, 3), Y).ravel()


def seen(w):
    return (w @ J.T + OFFSET).reshape(-1, 5, 3), (w @ J_POINTS.T + AT).reshape(-1, 4, 3)


@pytest.mark.parametrize(
    ("rule", "velocity"),
    [
        (GradientDescent(0.1, weight_decay=0.3), None),
        (HeavyBall(0.04, 0.8, weight_decay=0.3), 0.0),
        # omega-hat = lr weight_decay / h is 0.2 * 0.3, friction (1 - 0.8) / 0.2 and as much
        (HeavyBall(0.04, 0.8, weight_decay=0.3, decoupled=True), -0.06),
    ],
    ids=["flow", "coupled", "decoupled"],
)
@pytest.mark.parametrize("anchor", [0.0, W0], ids=["to 0", "to start"])
def test_equation_of_examples_and_points_is_that_of_the_weights(rule, velocity, anchor):
    friction, pull = (1.0, 0.3) if velocity in (None, 0.0) else (1.06, 0.06)

    def moves(_, state):
        w, *v = state.reshape(-1, 24)
        force = -gradient(w) - pull * (w - anchor)
        return np.concatenate([v[0], force - friction * v[0]]) if v else force

    first = W0 if velocity is None else np.concatenate([W0, velocity * (W0 - anchor)])
    weights = scipy.integrate.solve_ivp(moves, (0, 3), first, "DOP853", [1.0, 3.0], **TOL).y[:24].T
    decay = DECAYED if anchor is not W0 else FROM_START
    run = integrate_predictions(dynamics_of(rule, LOSS), KERNEL, U0, Y, [1.0, 3.0], **decay, **POINTS, **TOL)
    for found, expected in zip((run.u, run.points), seen(weights), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("to_start", [False, True], ids=["to 0", "to start"])
@pytest.mark.parametrize(
    "rule_at",
    [
        lambda h, **how: GradientDescent(h, weight_decay=0.3, **how),
        lambda h, **how: HeavyBall(h**2, 1 - h, weight_decay=0.3, **how),
        lambda h, **how: HeavyBall(h**2, 1 - h, weight_decay=0.3 / h, decoupled=True, **how),
        lambda h, **how: Nesterov(h**2, weight_decay=0.3, **how),
    ],
    ids=["flow", "coupled", "decoupled", "vanishing friction"],
)
def test_steps_and_a_trained_linear_model_tend_to_the_equation_in_first_order(rule_at, to_start):
    gaps, sizes = [], np.array([80, 160])
    for n in sizes:
        rule = rule_at(2.0 / n)
        dynamics = dynamics_of(rule, LOSS)
        stepped = rule_at(2.0 / n, to_start=True) if to_start else rule
        weights = next(itertools.islice(iterate(stepped, W0, gradient), int(n), None))
        run = predict_iterates(stepped, KERNEL, LOSS, U0, Y, [n], **DECAYED, **POINTS)
        decay, t = FROM_START if to_start else DECAYED, dynamics.times([n])
        ode = integrate_predictions(dynamics, KERNEL, U0, Y, t, **decay, **POINTS, **TOL)
        trained = seen(weights)
        np.testing.assert_allclose(run.u, trained[0], atol=1e-12)
        gaps.append([np.abs(a - b).max() for a, b in zip(trained, (ode.u, ode.points), strict=True)])
    order = np.log(np.divide(*gaps)) / np.log(2)
    np.testing.assert_allclose(order, ode_limit(rule_at(0.1)).accuracy, atol=0.1)


@pytest.mark.parametrize("anchor", [0.0, W0], ids=["to 0", "to start"])
def test_fixed_point_is_the_regularised_optimum(anchor):
    def cost(w):
        value = LOSS.value((J @ w + OFFSET).reshape(5, 3), Y) + 0.25 * np.sum((w - anchor) ** 2)
        return value, gradient(w) + 0.5 * (w - anchor)

    best = scipy.optimize.minimize(cost, W0, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    decay = DECAYED if anchor is not W0 else FROM_START
    for rule in (GradientDescent(0.1, weight_decay=0.5), HeavyBall(0.01, 0.9, weight_decay=0.5)):
        # modes fall like exp(-t / 2)
        run = integrate_predictions(dynamics_of(rule, LOSS), KERNEL, U0, Y, [50.0], **decay, **POINTS, **TOL)
        for found, expected in zip((run.u, run.points), seen(best), strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-8)


@pytest.mark.parametrize(
    "rule",
    [
        Nesterov(0.01, weight_decay=0.3, decoupled=True),
        HeavyBall(Cosine(0.01, steps=40), 0.9, weight_decay=0.3),
        TorchSGD(lr=Linear(0.01, steps=40), momentum=0.9, weight_decay=0.3),
        GradientDescent(Cosine(0.05, steps=40), weight_decay=Linear(0.3, steps=40, end=0.1)),
    ],
    ids=["vanishing friction", "cosine", "rate outside", "scheduled decay"],
)
def test_squared_loss_has_the_equation_of_the_error(rule):
    y, t, limit = Y[:, 0], [0.0, 0.5, 1.5], ode_limit(rule)
    kernel, u0, origin = KERNEL[::3, ::3], U0[:, 0], DECAYED["origin"][:, 0]
    run = integrate_predictions(dynamics_of(rule, SquaredLoss()), kernel, u0, y, t, origin=origin, **TOL)
    error = integrate(error_dynamics(limit), kernel, u0 - y, t, origin=origin, **TOL)
    np.testing.assert_allclose(run.u - y, error.delta, atol=1e-10)


def test_an_equation_of_decaying_weights_is_written_with_its_right_side():
    dynamics = dynamics_of(HeavyBall(0.01, 0.9, weight_decay=0.3), LOSS)
    assert str(dynamics) == "u'' + u' + H*grad l(u) + 3/10*u = 3/10*(u_0 - J w_0)"
    assert dynamics.latex().endswith(r"\frac{3}{10}\,u = \left(\frac{3}{10}\right)(u_0-Jw_0)")
    assert dynamics.monic == (1, 1)


def test_what_an_equation_of_decaying_weights_lacks_is_refused():
    dynamics = dynamics_of(GradientDescent(0.1, weight_decay=0.1), LOSS)
    run = integrate_predictions(dynamics, KERNEL, U0, Y, [1.0], origin=DECAYED["origin"], **TOL)
    for call, message in (
        (lambda: integrate_predictions(dynamics, KERNEL, U0, Y, [1.0], **TOL), "give origin = J w_0"),
        (
            lambda: integrate_predictions(
                dynamics, KERNEL, U0, Y, [1.0], origin=DECAYED["origin"], **POINTS, **TOL
            ),
            r"points_origin = J_\* w_0 is missing beside origin",
        ),
        (
            lambda: integrate_predictions(
                dynamics, lambda t: KERNEL, U0, Y, [1.0], origin=DECAYED["origin"], **TOL
            ),
            "under a constant kernel, and this one is a callable",
        ),
        (lambda: energy(dynamics, KERNEL, run), "take the limit without weight decay"),
        (
            lambda: dynamics_of(GradientDescent(0.1, weight_decay=0.1, to_start=True), LOSS),
            "decay to 0, which from origin = 0 in integrate_predictions is the same",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
