"""Mean and covariance over initialisations: by runs on weights, by matrix functions, by networks."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    TorchSGD,
    error_dynamics,
    mode_solution,
    ode_limit,
    relu_gram,
    spectral_measure,
)
from odeopt.kernels import NetworkKernel
from odeopt.rules import Averaged, Cosine, iterate
from odeopt.spectra import ensemble, ensemble_limit

RNG = np.random.default_rng(3)
N, POINTS, WEIGHTS, LAST, RHO = 8, 3, 20, 40, 0.3
BOTH = RNG.standard_normal((N + POINTS, WEIGHTS)) / 4  # Jacobian at examples and points
J, J_POINTS = BOTH[:N], BOTH[N:]
FACTOR = RNG.standard_normal((N + POINTS, N + POINTS)) / 3  # of the covariance of a first function
Y = RNG.standard_normal(N)
K = np.arange(LAST + 1)
MEASURE = spectral_measure(J @ J.T, -Y)
RULES = [
    GradientDescent(Cosine(0.2, LAST)),
    HeavyBall(0.2, 0.9),
    HeavyBall(0.2, 0.9, weight_decay=0.2, to_start=True),
    Averaged(Nesterov(0.2)),
]
DECAYED = [
    GradientDescent(Cosine(0.2, LAST), weight_decay=0.3),
    HeavyBall(0.2, 0.9, weight_decay=0.2),
    TorchSGD(lr=0.2, momentum=0.8, weight_decay=0.2, decoupled=True),
]


def to_points(start):
    return {
        "cross_kernel": J_POINTS @ J.T,
        "cross_nngp": start[N:] @ start[:N].T,
        "points_nngp": start[N:] @ start[N:].T,
    }


def trained(rule, start, w0, jacobian):
    """Predictions of every column of the first function, and of none for 0: an affine map, run on weights."""
    first, w0 = (np.concatenate([0 * values[:, :1], values], axis=1) for values in (start, w0))
    examples = jacobian[:N]

    def gradient(w):
        return examples.T @ (first[:N] + examples @ (w - w0) - Y[:, None])

    run = np.array(list(itertools.islice(iterate(rule, w0, gradient), LAST + 1)))
    u = first + BOTH @ (run - w0)[:, :WEIGHTS]
    return u[:, :, 0], u[:, :, 1:] - u[:, :, :1]


def check(rule, start, w0, jacobian=BOTH, **options):
    mean, moved = trained(rule, start, w0, jacobian)
    nngp = start[:N] @ start[:N].T
    for place, points in ((slice(None, N), {}), (slice(N, None), to_points(start))):
        found = ensemble(rule, MEASURE, nngp, K, covariance=True, **points, **options)
        here = moved[:, place]
        # roundings of 40 steps, amplified by momentum; entries are of order 1
        np.testing.assert_allclose(found.mean, mean[:, place], rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.covariance, here @ here.transpose(0, 2, 1), rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.variance, (here**2).sum(axis=2), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
def test_moments_are_those_of_the_rule_run_on_weights_from_every_first_function(rule):
    check(rule, FACTOR, np.zeros((WEIGHTS, N + POINTS)))


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("rule", DECAYED, ids=lambda rule: rule.label)
def test_decay_to_zero_pulls_at_the_random_weights(rule, degree):
    w0 = RNG.standard_normal((WEIGHTS, WEIGHTS)) / 4
    check(rule, BOTH @ w0 / degree, w0, degree=degree)


def test_a_ridge_on_the_kernel_is_a_weight_of_its_own_for_each_example():
    own = np.concatenate([np.sqrt(RHO) * np.eye(N), np.zeros((POINTS, N))])
    jacobian = np.concatenate([BOTH, own], axis=1)
    w0 = np.zeros((WEIGHTS + N, N + POINTS))
    check(HeavyBall(0.2, 0.9), FACTOR, w0, jacobian, diag_reg=RHO)
    decayed = HeavyBall(0.2, 0.9, weight_decay=RHO, to_start=True)
    nngp = FACTOR[:N] @ FACTOR[:N].T
    ridge = ensemble(HeavyBall(0.2, 0.9), MEASURE, nngp, K, diag_reg=RHO)
    np.testing.assert_allclose(ensemble(decayed, MEASURE, nngp, K).mean, ridge.mean, rtol=0, atol=1e-12)


def by_matrix_functions(psi):
    """Mean and covariance on points from psi(H), as Lee et al. (2019) state them for the flow."""
    start = FACTOR @ FACTOR.T
    weights = J_POINTS @ J.T @ psi
    reach = np.concatenate([-weights, np.eye(POINTS)], axis=1)
    return weights @ Y, reach @ start @ reach.T


@pytest.mark.parametrize("rho", [0.0, RHO])
def test_gradient_flow_and_its_end_are_the_matrix_functions_of_the_literature(rho):
    H = J @ J.T + rho * np.eye(N)
    mode = mode_solution(error_dynamics(ode_limit(GradientDescent(0.1))))
    nngp, points = FACTOR[:N] @ FACTOR[:N].T, to_points(FACTOR)
    times = np.array([0.0, 0.7, 5.0, 40.0])
    found = ensemble(mode, MEASURE, nngp, times, diag_reg=rho, covariance=True, **points)
    end = ensemble_limit(GradientDescent(0.1), MEASURE, nngp, diag_reg=rho, covariance=True, **points)
    for t, mean, covariance in [
        *zip(times, found.mean, found.covariance, strict=True),
        (np.inf, end.mean[0], end.covariance[0]),
    ]:
        left = np.zeros_like(H) if np.isinf(t) else scipy.linalg.expm(-t * H)
        wanted = by_matrix_functions(np.linalg.solve(H, np.eye(N) - left))
        # roundings, times the condition 100 of H
        np.testing.assert_allclose(mean, wanted[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(covariance, wanted[1], rtol=0, atol=1e-12)


def test_a_kernel_that_is_the_covariance_ends_in_the_posterior_given_noisy_targets():
    noisy = FACTOR[:N] @ FACTOR[:N].T + RHO * np.eye(N)
    cross, own = FACTOR[N:] @ FACTOR[:N].T, FACTOR[N:] @ FACTOR[N:].T
    points = {"cross_kernel": cross, "cross_nngp": cross, "points_nngp": own}
    measure = spectral_measure(noisy - RHO * np.eye(N), -Y)
    end = ensemble_limit(GradientDescent(0.1), measure, noisy, diag_reg=RHO, covariance=True, **points)
    gain = np.linalg.solve(noisy, cross.T).T
    np.testing.assert_allclose(end.mean[0], gain @ Y, rtol=0, atol=1e-13)  # roundings, entries of order 1
    np.testing.assert_allclose(end.covariance[0], own - gain @ cross.T, rtol=0, atol=1e-13)


def test_rules_end_where_long_runs_of_them_are():
    nngp = FACTOR[:N] @ FACTOR[:N].T
    for rule, options in (
        (HeavyBall(0.3, 0.8, weight_decay=0.2), {"degree": 2}),
        (GradientDescent(0.5, weight_decay=0.2, to_start=True), {"diag_reg": 0.1}),
    ):
        for points in ({}, to_points(FACTOR)):
            late = ensemble(rule, MEASURE, nngp, [400], covariance=True, **options, **points)
            end = ensemble_limit(rule, MEASURE, nngp, covariance=True, **options, **points)
            np.testing.assert_allclose(late.mean, end.mean, rtol=0, atol=1e-12)  # 0.9^400 is left
            np.testing.assert_allclose(late.covariance, end.covariance, rtol=0, atol=1e-12)


def test_outputs_are_independent_and_losses_add_up():
    targets = RNG.standard_normal((N, 2))
    nngp = FACTOR[:N] @ FACTOR[:N].T
    rule, draws = HeavyBall(0.2, 0.9), 4000
    found = ensemble(rule, spectral_measure(J @ J.T, -targets), nngp, [0, 10])
    ends = []
    for i in range(2):
        one = ensemble(rule, spectral_measure(J @ J.T, -targets[:, i]), nngp, [0, 10])
        np.testing.assert_allclose(found.mean[:, :, i], one.mean, rtol=0, atol=1e-13)
        np.testing.assert_allclose(found.variance, one.variance, rtol=0, atol=1e-13)
        ends.append(one.expected_loss(targets[:, i]))
    np.testing.assert_allclose(found.expected_loss(targets), np.add(*ends), rtol=1e-13)
    first = (FACTOR @ RNG.standard_normal((N + POINTS, draws)))[:N]
    run = iterate(rule, 0 * first, lambda z: J @ J.T @ z + first - targets[:, :1])
    error = first - targets[:, :1] + J @ J.T @ next(itertools.islice(run, 10, None))
    losses = 0.5 * (error**2).sum(axis=0)
    # five standard errors
    assert abs(losses.mean() - ends[0][1]) < 5 * losses.std() / np.sqrt(draws)


def frozen_networks(rule, x, points, y, width, count, steps):
    """Predictions on points of linearised networks, at the steps."""
    found = np.empty((count, len(steps), len(points)))
    for seed in range(count):
        rng = np.random.default_rng(seed)
        w, a = rng.standard_normal((width, x.shape[1])), rng.choice([-1.0, 1.0], width) / np.sqrt(width)
        features = [
            ((z @ w.T > 0) * a)[:, :, None] * z[:, None] for z in (x, points)
        ]  # gradients of a max(w x, 0)
        at_start = [(f * w).sum(axis=(1, 2)) for f in features]
        train, test = (f.reshape(len(f), -1) for f in features)
        gram, cross = train @ train.T, test @ train.T
        run = iterate(rule, np.zeros(len(y)), lambda z, g=gram, u=at_start[0]: g @ z + u - y)
        z = np.array(list(itertools.islice(run, steps[-1] + 1)))[steps]
        found[seed] = at_start[1] + z @ cross.T
    return found


def test_networks_with_frozen_activations_have_the_predicted_mean_and_variance():
    rng = np.random.default_rng(0)
    x, points = (v / np.linalg.norm(v, axis=1)[:, None] for v in rng.standard_normal((2, 6, 4)))
    y, steps, count = np.sin(3 * x[:, 0]), np.array([0, 2, 8, 30]), 300
    rule = HeavyBall(0.5, 0.8)
    # one hidden layer of which the first is trained: H = x x' (pi - theta) / 2 pi, K = E max max
    nngp = NetworkKernel(weight_variance=(x.shape[1], 1.0), kind="nngp")
    found = ensemble(
        rule,
        spectral_measure(relu_gram(x), -y),
        nngp(x),
        steps,
        cross_kernel=relu_gram(points, x),
        cross_nngp=nngp(points, x),
        points_nngp=nngp.diagonal(points),
    )
    seen = frozen_networks(rule, x, points, y, 512, count, steps)
    # 24 correlated statistics, for which 4 standard errors are one in a thousand; the 1/m of a random kernel
    # is a tenth of one
    gaps = np.abs(seen.mean(axis=0) - found.mean) / (found.std / np.sqrt(count))
    assert gaps.max() < 4
    gaps = np.abs(seen.var(axis=0, ddof=1) / found.variance - 1) / np.sqrt(2 / (count - 1))
    assert gaps.max() < 4
    assert found.variance[-1].min() < 0.1 * found.variance[0].min()  # training takes some of it away


NNGP = FACTOR[:N] @ FACTOR[:N].T
HERE = to_points(FACTOR)
GD = GradientDescent(0.1)
SINGULAR = spectral_measure(np.ones((N, N)), -Y)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: ensemble(GD, spectral_measure(J @ J.T, -Y, num_matvecs=4), NNGP, [1]), "all eigenvectors"),
        (lambda: ensemble(GD, spectral_measure(J @ J.T, -Y, keep_basis=False), NNGP, [1]), "keep_basis"),
        (lambda: ensemble(GD, spectral_measure(J @ J.T, -Y, origin=Y), NNGP, [1]), "of one network"),
        (lambda: ensemble(GD, "measure", NNGP, [1]), "SpectralMeasure"),
        (lambda: ensemble("gd", MEASURE, NNGP, [1]), "mode_or_rule must be"),
        (lambda: ensemble(GD, MEASURE, NNGP[:3, :3], [1]), r"nngp must have shape \(8, 8\)"),
        (lambda: ensemble(GD, MEASURE, -NNGP, [1]), "nngp must be positive semidefinite"),
        (lambda: ensemble(GD, MEASURE, NNGP, [1], **{**HERE, "cross_nngp": None}), "cross_nngp is missing"),
        (lambda: ensemble(GD, MEASURE, NNGP, [1], **{**HERE, "cross_nngp": [Y]}), "cross_nngp must have"),
        (
            lambda: ensemble(GD, MEASURE, NNGP, [1], **{**HERE, "points_nngp": [1, 2]}),
            "points_nngp must have",
        ),
        (
            lambda: ensemble(GD, MEASURE, NNGP, [1], **{**HERE, "points_nngp": [9, 9, 1e-3]}),
            "no covariances of one function",
        ),
        (
            lambda: ensemble(GD, MEASURE, NNGP, [1], covariance=True, **{**HERE, "points_nngp": [9, 9, 9]}),
            "covariance needs points_nngp",
        ),
        (
            lambda: ensemble(GD, MEASURE, NNGP, [1], **{**HERE, "cross_kernel": [[1, 2], [3]]}),
            "cross_kernel is not an array",
        ),
        (lambda: ensemble(GD, MEASURE, NNGP, [1], diag_reg=-1), "diag_reg must be a nonnegative number"),
        (lambda: ensemble(DECAYED[1], MEASURE, NNGP, [1]), "give degree"),
        (
            lambda: ensemble(DECAYED[1], MEASURE, NNGP, [1], degree=2, diag_reg=0.1),
            "to their start; let weights decay to one",
        ),
        (
            lambda: ensemble_limit(DECAYED[1], MEASURE, NNGP, degree=2, diag_reg=0.1),
            "to their start; let weights decay to one",
        ),
        (lambda: ensemble(GradientDescent(0.1, weight_decay=1e-18), MEASURE, NNGP, [1]), "give degree"),
        (lambda: ensemble(DECAYED[1], MEASURE, NNGP, [1], degree="two"), "degree must be a finite number"),
        (
            lambda: ensemble(
                GD,
                MEASURE,
                NNGP,
                np.arange(10**6),
                covariance=True,
                **{**HERE, "cross_kernel": np.zeros((10**4, N))},
            ),
            "GiB that may be used",
        ),
        (lambda: ensemble_limit(RULES[0], MEASURE, NNGP), "fixed point moves"),
        (lambda: ensemble_limit(GradientDescent(99.0), MEASURE, NNGP), "lower lr"),
        (lambda: ensemble_limit(GD, SINGULAR, NNGP), "give diag_reg > 0"),
        (lambda: ensemble_limit(DECAYED[1], MEASURE, NNGP), "give degree"),
        (lambda: ensemble_limit("gd", MEASURE, NNGP), "rule must be an UpdateRule"),
        (lambda: ensemble(GD, MEASURE, NNGP, [1]).expected_loss([1.0]), "y must have shape"),
    ],
)
def test_what_has_no_answer_is_refused_with_the_reason(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


def test_an_unstable_rule_leaves_the_finite_numbers_and_a_singular_kernel_ends_with_a_ridge():
    far = ensemble(GradientDescent(99.0), MEASURE, NNGP, [0, 500])
    assert np.isfinite(far.expected_loss(Y)[0])
    assert far.expected_loss(Y)[1] == np.inf
    found = ensemble_limit(GD, SINGULAR, NNGP, diag_reg=2.0)
    np.testing.assert_allclose(found.mean[0], Y.sum() / (N + 2) * np.ones(N), rtol=1e-13)
