"""Predictions on points along training, against the rule or the ODE run on the weights of a linear model."""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.linalg
from balls import outside, rule_displacements
from flint import arb

from odeopt import (
    QHM,
    GradientDescent,
    HeavyBall,
    Nesterov,
    TorchSGD,
    error_dynamics,
    mode_solution,
    ode_limit,
    predict,
    relu_gram,
    spectral_measure,
)
from odeopt.data import load_digits
from odeopt.dynamics import integrated_mode
from odeopt.dynamics.displacement import displacement_factors
from odeopt.kernels import relu_cross_operator
from odeopt.rules import Averaged, Cosine, Lookahead, ScheduleFree, SignDescent, iterate
from odeopt.spectra import seen_from

RNG = np.random.default_rng(5)
N, WEIGHTS, POINTS, LAST = 12, 30, 4, 40
J, J_POINTS = RNG.standard_normal((N, WEIGHTS)) / 4, RNG.standard_normal((POINTS, WEIGHTS)) / 4
W0, START = RNG.standard_normal(WEIGHTS), RNG.standard_normal(POINTS)
DELTA0, KERNEL, CROSS = RNG.standard_normal(N), J @ J.T, J_POINTS @ J.T
ORIGIN, HERE = {"origin": J @ W0}, {"start": START, "points_origin": J_POINTS @ W0}
K = np.arange(LAST + 1)
RULES = [
    GradientDescent(0.1),
    GradientDescent(Cosine(0.1, LAST), weight_decay=0.3),
    HeavyBall(0.1, 0.9, weight_decay=0.2),
    HeavyBall(0.1, 0.9, weight_decay=0.2, to_start=True),
    Nesterov(0.1),
    TorchSGD(lr=0.1, momentum=0.8, weight_decay=0.2, decoupled=True),
    QHM(lr=0.1, momentum=0.9, nu=0.7),
    Averaged(Nesterov(0.1, weight_decay=0.1)),
    Averaged(HeavyBall(0.1, 0.9), decay=0.9),
    ScheduleFree(0.1),
    Lookahead(GradientDescent(0.1), steps=5, alpha=0.5),
]


def pulls_at_weights(rule):
    return "weight_decay" in rule.label and "to_start" not in rule.label


def on_weights(w):
    return START + (w - W0) @ J_POINTS.T


def trained(rule):
    run = iterate(rule, W0, lambda w: J.T @ (J @ (w - W0) + DELTA0))
    return on_weights(np.array(list(itertools.islice(run, LAST + 1))))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
def test_points_follow_the_weights_of_a_linear_model(rule):
    expected = trained(rule)
    for steps in (None, N):
        measure = spectral_measure(KERNEL, DELTA0, num_matvecs=steps, **ORIGIN)
        found = predict(rule, measure, CROSS, K, **HERE)
        assert found.exact.all()
        # 40 roundings, amplified by momentum
        np.testing.assert_allclose(found.u, expected, rtol=0, atol=2e-12)
    measure = spectral_measure(KERNEL, DELTA0, num_matvecs=6, **ORIGIN)
    early = predict(rule, measure, CROSS, K, bounds=True, **HERE)
    assert early.exact[:7].all()
    assert not early.exact.all()
    np.testing.assert_allclose(early.u[early.exact], expected[early.exact], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(early.error[early.exact], 0)
    off = np.abs(early.u - expected).max(axis=1)
    assert 0 < off.max() < 3 * early.error.max()  # an estimate, from one step of six less
    assert (off <= early.bound + 1e-13).all()  # the expectation is rounded too
    assert np.isinf(early.bound).all() if pulls_at_weights(rule) else (early.bound[:6] < 1e-11).all()


def test_the_stated_predictions_of_heavy_ball_with_decay():
    jacobian = np.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 2]])
    points, weights = np.array([[1.0, 2, 0, 1], [0, 1, 3, 1]]), np.array([1, -1, 2, 0.5])
    measure = spectral_measure(jacobian @ jacobian.T, [-0.5, -1, 3], num_matvecs=3, origin=jacobian @ weights)
    rule, cross = HeavyBall(0.05, 0.9, weight_decay=0.3), points @ jacobian.T
    found = predict(rule, measure, cross, [25], points_origin=points @ weights)
    np.testing.assert_allclose(found.u[0], [0.43634379, 1.71411783], rtol=0, atol=6e-9)  # eight decimals


def test_every_output_is_predicted_by_its_own_column():
    errors = RNG.standard_normal((N, 3))
    errors[:, 1] = 0.0
    origin, start, away = (RNG.standard_normal((m, 3)) for m in (N, POINTS, POINTS))
    origin[:, 2] = 0.3 * errors[:, 2]  # so that q is parallel to the error
    rule = HeavyBall(0.1, 0.9, weight_decay=0.2)
    for steps in (None, 8):
        measure = spectral_measure(KERNEL, errors, num_matvecs=steps, origin=origin)
        found = predict(rule, measure, CROSS, K[:9], start=start, points_origin=away)
        for i in range(3):
            one = spectral_measure(KERNEL, errors[:, i], origin=origin[:, i])
            alone = predict(rule, one, CROSS, K[:9], start=start[:, i], points_origin=away[:, i])
            np.testing.assert_allclose(found.u[:, :, i], alone.u, rtol=0, atol=1e-12)


FLOWS = {
    "flow": GradientDescent(0.1),
    "flow with decay": GradientDescent(0.1, weight_decay=0.3),
    "oscillator": HeavyBall(0.01, 0.9),
    "oscillator with decay": HeavyBall(0.01, 0.9, weight_decay=0.2),
}


@pytest.mark.parametrize("name", FLOWS)
def test_points_follow_the_ode_of_the_weights(name):
    limit = ode_limit(FLOWS[name], clock="naive") if "oscillator" in name else ode_limit(FLOWS[name])
    decay = 0.3 if name == "flow with decay" else 0.2 if "decay" in name else 0.0
    friction = float(error_dynamics(limit).coefficients[1]) if "oscillator" in name else 0.0
    t, size = np.array([0.0, 0.3, 2.0, 20.0]), WEIGHTS
    matrix, zero, one = J.T @ J + decay * np.eye(size), np.zeros((size, size)), np.eye(size)
    force = J.T @ (J @ W0 - DELTA0)
    if friction:
        matrix = np.block([[zero, -one], [matrix, friction * one]])
        force = np.concatenate([np.zeros(size), force])
    rest = np.linalg.lstsq(matrix, force, rcond=None)[0]
    state = np.zeros(len(matrix))
    state[:size] = W0
    expected = [on_weights((rest + scipy.linalg.expm(-s * matrix) @ (state - rest))[:size]) for s in t]
    mode = mode_solution(error_dynamics(limit))
    for steps in (None, N):
        found = predict(mode, spectral_measure(KERNEL, DELTA0, num_matvecs=steps, **ORIGIN), CROSS, t, **HERE)
        # expm and the solution for `rest` lose some hundred roundings
        np.testing.assert_allclose(found.u, expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.k, t / mode.time_step)


def test_an_integrated_mode_is_followed_too():
    dynamics = error_dynamics(ode_limit(HeavyBall(0.01, 0.8), clock="naive"))
    measure, t = spectral_measure(KERNEL, DELTA0), [0.0, 1.0, 5.0]
    closed = predict(mode_solution(dynamics), measure, CROSS, t)
    found = predict(integrated_mode(dynamics), measure, CROSS, t)
    np.testing.assert_allclose(
        found.u, closed.u, rtol=0, atol=1e-7
    )  # a solver to 1e-10, less what division costs


def test_modes_lose_no_digit_where_the_kernel_has_no_eigenvalue():
    mode = mode_solution(error_dynamics(ode_limit(Nesterov(0.01, r=3))))
    lam, t = np.array([0.0, 1e-15, 1e-6, 1e-3, 0.2, 3.0]), np.array([1.0, 100.0])
    at_zero, D, R = displacement_factors(mode, lam, t)
    with mpmath.workdps(60):

        def quotient(s, x):
            x = mpmath.mpf(x) if x else mpmath.mpf(10) ** -30
            return float((mpmath.hyp0f1(2, -x * mpmath.mpf(s) ** 2 / 4) - 1) / x)

        expected = np.array([[quotient(s, x) for x in lam] for s in t])
    # relative to the value at 0: what the least Chebyshev point and a slow mode magnify, 10^4 roundings
    assert (np.abs(R - expected) <= 1e-11 * np.abs(expected[:, :1])).all()
    assert D is R
    np.testing.assert_array_equal(at_zero, 1)


def test_a_null_space_of_the_kernel_is_no_trouble():
    """Two equal examples make a kernel singular; the weights are those that minimise the sum of both."""
    twice = np.concatenate([J, J[:1]])
    measure = spectral_measure(twice @ twice.T, np.append(DELTA0, -DELTA0[0]))
    t = 1e3  # when all that is left is slow: the smallest eigenvalue is near 0.3
    mode = mode_solution(error_dynamics(ode_limit(GradientDescent(0.1))))
    found = predict(mode, measure, J_POINTS @ twice.T, [t])
    rest = -np.linalg.lstsq(twice, np.append(DELTA0, -DELTA0[0]), rcond=None)[0]
    # products with the null vector are some roundings of 0, and its mode stays: its response is t
    np.testing.assert_allclose(found.u[0], J_POINTS @ rest, rtol=0, atol=20 * t * np.finfo(float).eps)


def test_digits_by_lanczos_are_those_of_the_whole_kernel():
    """Ten classes with one kernel, three methods with one run: within 1e-8, and the same classes."""
    images, labels = load_digits(450, seed=0)
    train, test = slice(0, 300), slice(300, None)
    kernel, cross = relu_gram(images[train]), relu_gram(images[test], images[train])
    errors = -np.eye(10)[labels[train].astype(int)]
    lr, k = 1 / float(np.linalg.norm(kernel, 2)), [1, 30, 300, 1000]
    lanczos, dense = (spectral_measure(kernel, errors, num_matvecs=m) for m in (100, None))
    seen, whole = seen_from(lanczos, cross), seen_from(dense, cross)
    for rule in (GradientDescent(lr), HeavyBall(lr, 0.9), Nesterov(lr)):
        found, expected = predict(rule, lanczos, seen, k), predict(rule, dense, whole, k)
        assert np.abs(found.u - expected.u).max() < 1e-8
        bare = predict(rule, lanczos, seen, k, estimate=False)  # the values that are kept are summed alike
        np.testing.assert_allclose(bare.u, found.u, rtol=0, atol=1e-13)
        np.testing.assert_array_equal(np.isnan(bare.error), ~found.exact)
        accuracy = found.accuracy(labels[test])
        np.testing.assert_array_equal(accuracy, expected.accuracy(labels[test]))
        assert accuracy[-1] > 0.9
    operator = relu_cross_operator(images[test], images[train])
    again = predict(rule, lanczos, operator, k)
    np.testing.assert_allclose(again.u, found.u, rtol=0, atol=1e-13)


def test_a_run_that_was_continued_from_its_file_predicts_the_same(tmp_path):
    for steps in (5, N):
        measure = spectral_measure(KERNEL, DELTA0, num_matvecs=steps, state=tmp_path / "state.npz")
    expected = predict(Nesterov(0.1), spectral_measure(KERNEL, DELTA0), CROSS, K)
    np.testing.assert_allclose(predict(Nesterov(0.1), measure, CROSS, K).u, expected.u, rtol=0, atol=1e-12)


def test_the_best_step_is_where_the_loss_on_the_points_turns():
    rng = np.random.default_rng(0)
    x, points = rng.standard_normal((40, 3)), rng.standard_normal((30, 3))
    y, noise = x[:, 0], rng.standard_normal(40)
    measure = spectral_measure(relu_gram(x), -(y + 2 * noise))
    curve = predict(GradientDescent(0.05), measure, relu_gram(points, x), np.arange(2000))
    loss = curve.loss(points[:, 0])
    best = curve.best(points[:, 0])
    assert 0 < best < 1999
    assert loss[best] == loss.min()
    np.testing.assert_allclose(loss[0], 0.5 * (points[:, 0] ** 2).sum(), rtol=1e-14)
    np.testing.assert_array_equal(curve.accuracy(np.ones(30))[0], 1.0)  # 0 counts as 1
    unstable = predict(GradientDescent(9.0), measure, relu_gram(points, x), [0, 5000])
    assert unstable.loss(points[:, 0])[1] == np.inf
    assert unstable.best(points[:, 0]) == 0


def test_no_proved_bound_of_random_problems_misses_the_truth():
    """In ball arithmetic, on kernels with eigenvalues over many powers of ten, and a null space."""
    rules = [rule for rule in RULES if not pulls_at_weights(rule)]
    rng, k, narrow = np.random.default_rng(11), [0, 1, 7, LAST], 0
    for trial in range(24):
        n = int(rng.integers(2, 8))
        turn, lam = np.linalg.qr(rng.standard_normal((n, n)))[0], 10.0 ** rng.uniform(-9, 1, n)
        kernel = (turn * lam * (rng.random(n) < 0.8)) @ turn.T
        kernel, delta0, rule = (kernel + kernel.T) / 2, rng.standard_normal(n), rules[trial % len(rules)]
        measure = spectral_measure(kernel, delta0, num_matvecs=int(rng.integers(1, n + 1)))
        cross = rng.standard_normal((2, n))
        found = predict(rule, measure, cross, k, bounds=True)
        for i, z in enumerate(rule_displacements(rule, kernel, delta0, k)):
            for row, value in zip(cross, found.u[i], strict=True):
                true = sum(arb(float(h)) * x for h, x in zip(row, z, strict=True))
                assert not outside(value - found.bound[i], true, value + found.bound[i])
            narrow += found.bound[i] < 1e-6
    assert narrow > 70  # of 96: the others are truncated


def test_averages_are_those_of_the_averaged_rule():
    measure = spectral_measure(KERNEL, DELTA0)
    found = predict(HeavyBall(0.1, 0.9), measure, CROSS, K, average="polyak")
    np.testing.assert_array_equal(found.u, predict(Averaged(HeavyBall(0.1, 0.9)), measure, CROSS, K).u)


MEASURE = spectral_measure(KERNEL, DELTA0)
DECAYED = GradientDescent(0.1, weight_decay=0.1)
CURVE = predict(GradientDescent(0.1), MEASURE, CROSS, [0, 1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: predict(DECAYED, MEASURE, CROSS, [1], **HERE),
            "pulls at the weights.*give the measure origin",
        ),
        (
            lambda: predict(DECAYED, spectral_measure(KERNEL, DELTA0, **ORIGIN), CROSS, [1]),
            r"points_origin = J_\* w_0",
        ),
        (lambda: predict(DECAYED, MEASURE, CROSS.T, [1]), r"cross_kernel must have shape \(p, 12\)"),
        (lambda: predict(DECAYED, KERNEL, CROSS, [1]), "measure must be a SpectralMeasure"),
        (lambda: predict("gd", MEASURE, CROSS, [1]), "mode_or_rule must be a ModeSolution or an UpdateRule"),
        (lambda: predict(SignDescent(0.1), MEASURE, CROSS, [1]), "linear"),
        (lambda: predict(GradientDescent(0.1), MEASURE, CROSS, [0.5]), "iteration numbers"),
        (lambda: predict(GradientDescent(0.1), MEASURE, np.nan * CROSS, [1]), "cross_kernel must be finite"),
        (
            lambda: predict(GradientDescent(0.1), MEASURE, CROSS, [1], start=[0.0]),
            r"start must have shape \(4,\)",
        ),
        (
            lambda: seen_from(spectral_measure(KERNEL, DELTA0, keep_basis=False), CROSS),
            "keep_basis=True",
        ),
        (
            lambda: predict(
                GradientDescent(0.1), spectral_measure(KERNEL, DELTA0), seen_from(MEASURE, CROSS), [1]
            ),
            "seen from another measure",
        ),
        (lambda: CURVE.loss([1.0]), r"y must have shape \(4,\)"),
        (lambda: CURVE.accuracy([0, 1, 1, 1]), "labels must be 4 numbers of classes, -1 or 1"),
        (
            lambda: predict(GradientDescent(9.0), MEASURE, CROSS, [5000]).best(START),
            "no loss of iteration GradientDescent",
        ),
    ],
)
def test_refusals_name_the_argument_and_the_reason(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
