"""One Krylov space for all outputs: what it resolves, proves, survives and refuses."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    error_dynamics,
    loss_curve,
    mode_solution,
    ode_limit,
    predict,
    relu_gram,
    spectral_measure,
)
from odeopt.rates import steps_envelope

N, GRID = 120, np.unique(np.geomspace(1, 600, 15).astype(int))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    x, points = rng.standard_normal((N, 6)), rng.standard_normal((9, 6))
    x, points = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, points))
    classes = (x[:, :3]).argmax(axis=1)
    kernel = relu_gram(x)
    return kernel, relu_gram(points, x), -np.eye(3)[classes], 1 / np.linalg.eigvalsh(kernel)[-1]


def rules(lr):
    return GradientDescent(lr), HeavyBall(lr, 0.9), Nesterov(lr), GradientDescent(1.5 * lr)


def meets(found, exact):
    """Whether brackets hold what the dense kernel gives, which has rounding of its own."""
    return ((found.lower <= exact.upper) & (exact.lower <= found.upper)).all()


@pytest.mark.parametrize("steps", [1, 15])
def test_proved_bounds_of_a_block_hold_the_dense_loss_and_the_dense_predictions(problem, steps):
    kernel, cross, errors, lr = problem
    block, dense = (
        spectral_measure(kernel, errors, num_matvecs=steps, block=True),
        spectral_measure(kernel, errors),
    )
    for rule in rules(lr):
        found, exact = loss_curve(rule, block, GRID), loss_curve(rule, dense, GRID)
        assert found.rigorous and meets(found, exact)
        seen, true = (predict(rule, each, cross, GRID, bounds=True) for each in (block, dense))
        off = np.abs(seen.u - true.u).max(axis=(1, 2))
        assert np.isfinite(seen.bound).any() and (off <= seen.bound + true.bound).all()
        # exact where no step is beyond the space, but for the rounding of both routes
        assert off[seen.exact].max(initial=0) < 1e-12


@pytest.mark.parametrize("rule", [GradientDescent(0.01), HeavyBall(0.01, 0.9), Nesterov(0.01)])
def test_bounds_of_an_ode_hold_and_are_proved(problem, rule):
    kernel, _, errors, _ = problem
    mode, t = mode_solution(error_dynamics(ode_limit(rule))), np.array([0.0, 0.3, 3.0])
    found, exact = (
        loss_curve(mode, spectral_measure(kernel, errors, **options), t)
        for options in ({"num_matvecs": 12, "block": True}, {})
    )
    assert found.rigorous and meets(found, exact)


def test_fewer_steps_resolve_as_much_as_with_columns_apart(problem):
    kernel, cross, errors, lr = problem
    dense = spectral_measure(kernel, errors)
    block, apart = (spectral_measure(kernel, errors, num_matvecs=33, block=b) for b in (True, False))
    for rule in rules(lr)[:3]:
        true, found, other = (predict(rule, each, cross, GRID) for each in (dense, block, apart))
        assert np.abs(found.u - true.u).max() < 1e-8
        np.testing.assert_array_equal(found.u.argmax(axis=2), true.u.argmax(axis=2))
    assert np.abs(found.u - true.u).max() < 1e-3 * np.abs(other.u - true.u).max()


@pytest.mark.parametrize("case", ["equal", "dependent", "zero", "tiny", "one", "more than n", "low rank"])
def test_starts_that_depend_on_each_other_leave_what_the_dense_kernel_gives(problem, case):
    kernel, cross, errors, lr = problem
    a, b, _ = errors.T
    starts = {
        "equal": np.stack([a, a, b], axis=1),
        "dependent": np.stack([a, b, a - 2 * b], axis=1),
        "zero": np.stack([a, 0 * a, b], axis=1),
        "tiny": np.stack([a, 1e-30 * b, 1e30 * (a + b)], axis=1),
        "one": a[:, None],
        "more than n": np.random.default_rng(1).standard_normal((7, 10)),
        "low rank": errors,
    }[case]
    n = len(starts)
    kernel, cross = kernel[:n, :n], cross[:, :n]
    if case == "low rank":  # breaks down after few steps
        factor = np.random.default_rng(2).standard_normal((n, 7))
        kernel = factor @ factor.T
        lr = 1 / np.linalg.eigvalsh(kernel)[-1]
    block = spectral_measure(kernel, starts, num_matvecs=n, block=True)
    assert block.exact
    dense = spectral_measure(kernel, starts)
    vectors = np.concatenate(block.basis.parts[0].vectors)
    # orthonormal but for the rounding of its sums
    assert np.abs(vectors @ vectors.T - np.eye(len(vectors))).max() < 1e-13
    for rule in rules(lr)[:3]:
        assert meets(loss_curve(rule, block, GRID), loss_curve(rule, dense, GRID))
        found, true = (predict(rule, each, cross, GRID).u for each in (block, dense))
        # of each output relative to its own size: rounding of 600 steps of momentum
        assert (np.abs(found - true).max(axis=(0, 1)) <= 1e-10 * np.abs(true).max(axis=(0, 1))).all()


def test_one_column_is_what_lanczos_gives(problem):
    kernel, _, errors, _ = problem
    block, plain = (spectral_measure(kernel, errors[:, 0], num_matvecs=9, block=b) for b in (True, False))
    # two orders of the same sums
    np.testing.assert_allclose(block.nodes, plain.nodes, rtol=0, atol=1e-13 * plain.lam_max)
    np.testing.assert_allclose(block.weights, plain.weights, rtol=0, atol=1e-12 * plain.mass)


def test_the_stated_error_covers_what_rounding_left_of_the_recurrence(problem):
    kernel, _, errors, _ = problem
    (chain,) = spectral_measure(kernel, errors, num_matvecs=20, block=True).chains
    Q, b = np.concatenate(chain.basis).T, chain.widths[-1]
    left = (kernel @ Q - Q @ chain.matrix)[:, :-b]  # but for what is left to further steps
    assert 0 < np.linalg.norm(left, 2) < chain.error < 1e-10


def test_completely_monotone_functions_are_enclosed_by_the_rules_of_the_columns(problem):
    kernel, _, errors, _ = problem
    for function in (lambda lam: np.exp(-lam), lambda lam: 1 / (lam + 0.1)):
        true = spectral_measure(kernel, errors).integrate(function)
        low, high = spectral_measure(kernel, errors, num_matvecs=6, block=True).bounds(function)
        apart = spectral_measure(kernel, errors, num_matvecs=6).bounds(function)
        assert low < true < high
        np.testing.assert_allclose((low, high), apart, rtol=1e-10)  # the same rules, by two runs


def test_the_fewest_steps_to_a_loss_are_those_of_the_dense_kernel(problem):
    kernel, _, errors, _ = problem
    dense = spectral_measure(kernel, errors)
    found = [
        steps_envelope(each, dense.mass / 200)
        for each in (dense, spectral_measure(kernel, errors, num_matvecs=20, block=True))
    ]
    assert found[0].value == found[1].value


@pytest.mark.parametrize("origin", ["other", "parallel", "zero"])
def test_decay_to_zero_needs_both_vectors_in_one_block(problem, origin):
    kernel, cross, errors, lr = problem
    other = np.random.default_rng(3).standard_normal(errors.shape)
    J = {"other": other, "parallel": -errors, "zero": 0 * errors}[origin]
    measures = [
        spectral_measure(kernel, errors, origin=J, **options)
        for options in ({"num_matvecs": 16, "block": True}, {})
    ]
    rule = HeavyBall(lr, 0.9, weight_decay=0.5)
    found, exact = (loss_curve(rule, each, GRID) for each in measures)
    assert found.rigorous and meets(found, exact)
    there = np.ones((len(cross), 3))
    seen, true = (predict(rule, each, cross, GRID, points_origin=there) for each in measures)
    early = GRID <= 100
    assert np.abs(seen.u - true.u)[early].max() < 1e-8
    mode = mode_solution(error_dynamics(ode_limit(GradientDescent(0.01, weight_decay=0.5))))
    assert meets(*(loss_curve(mode, each, [0.0, 0.1, 2.0]) for each in measures))


def test_an_interrupted_block_is_continued_and_told_from_columns_apart(problem, tmp_path):
    kernel, _, errors, _ = problem
    calls = []

    def product(vectors):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return kernel @ vectors

    operator = LinearOperator(kernel.shape, matvec=product, matmat=product, dtype=float)
    options = {"num_matvecs": 12, "block": True, "state": tmp_path / "run.npz"}
    with pytest.raises(KeyboardInterrupt):
        spectral_measure(operator, errors, **options)
    found = spectral_measure(operator, errors, **options)
    whole = spectral_measure(aslinearoperator(kernel), errors, num_matvecs=12, block=True)
    np.testing.assert_allclose(found.nodes, whole.nodes, rtol=0, atol=1e-13 * whole.lam_max)
    with pytest.raises(ValueError, match="begun with block=True"):
        spectral_measure(operator, errors, **options | {"block": False})
    options["state"] = tmp_path / "apart.npz"
    spectral_measure(operator, errors, **options | {"block": False})
    with pytest.raises(ValueError, match="begun without block=True"):
        spectral_measure(operator, errors, **options)


def test_products_in_single_precision_are_seen_and_allowed_for(problem):
    kernel, _, errors, lr = problem
    single = aslinearoperator(kernel.astype(np.float32))

    def product(v):
        return (single @ v.astype(np.float32)).astype(float)

    hidden = LinearOperator(kernel.shape, matvec=product, matmat=product, dtype=float)
    measure = spectral_measure(hidden, errors, num_matvecs=8, block=True, interval=(0, 1.01 / lr))
    dense = spectral_measure(kernel, errors)
    assert measure.error > 1e-7 / lr  # the unit roundoff of float32
    assert meets(*(loss_curve(HeavyBall(lr, 0.9), each, GRID) for each in (measure, dense)))


def test_it_stops_where_all_curves_are_resolved(problem):
    kernel, _, errors, lr = problem
    curves = [lambda measure: loss_curve(HeavyBall(lr, 0.9), measure, GRID)]
    found, apart = (
        spectral_measure(kernel, errors, rtol=1e-3, curves=curves, block=block) for block in (True, False)
    )
    assert found.num_matvecs < apart.num_matvecs


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        (np.eye(4), {}, "block is for Lanczos"),
        (np.eye(4) + np.triu(np.ones((4, 4)), 1), {"num_matvecs": 2}, "symmetric"),
        (np.diag([1.0, 1.0, 1.0, -1.0]), {"num_matvecs": 3}, "positive semidefinite"),
        (np.eye(4), {"num_matvecs": 2, "block": 3}, "block must be True or False"),
    ],
)
def test_refusals(kernel, options, message):
    with pytest.raises(ValueError, match=message):
        spectral_measure(kernel, np.arange(8.0).reshape(4, 2), **{"block": True} | options)
