"""The kernel in blocks against the dense one, its memory plan, and kernels of deep networks."""

import numpy as np
import pytest

from odeopt import GradientDescent, loss_curve, relu_gram, relu_gram_operator, spectral_measure
from odeopt.kernels import memory_plan
from odeopt.kernels.memory import available_memory

EPS = np.finfo(float).eps
LAYERS = pytest.mark.parametrize("layers", ["first", "both"])


def random_inputs(n=120, d=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def dense(operator):
    return operator @ np.eye(operator.shape[0])


@pytest.fixture(params=[1024, 32], ids=["one panel", "many panels"])
def _panels(request, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.memory.panel_rows", lambda n: min(n, request.param))
    monkeypatch.setattr("odeopt.kernels.memory.allowed_threads", lambda: 2)
    monkeypatch.setattr("odeopt.kernels.blocks.LEAST", 1000)
    monkeypatch.setattr("odeopt.kernels.products.TILE", (16, 50))
    monkeypatch.setattr("odeopt.kernels.blocks.ReluGramOperator._strip", 40)
    monkeypatch.setattr("odeopt.kernels.blocks._PART", 300)


@LAYERS
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("storage", "engine"), [("float64", "numpy"), ("float64", "numba"), ("recompute", "numpy")]
)
@pytest.mark.usefixtures("_panels")
def test_operator_equals_the_dense_kernel(layers, depth, storage, engine):
    x = random_inputs()
    x[7] = x[3] + 1e-9  # nearly parallel, where a cosine has lost its digits
    x[9] = -x[4] + 1e-9
    gram = relu_gram(x, layers=layers, depth=depth)
    operator = relu_gram_operator(x, layers=layers, depth=depth, storage=storage, engine=engine)
    # cosines accurate to d eps turn into angles accurate to eps / sin(theta) < 2e-13 away from parallel
    np.testing.assert_allclose(dense(operator), gram, rtol=0, atol=2e-13 * gram.max())
    assert np.array_equal(dense(operator), dense(operator).T)
    assert operator.storage_error == 0
    low, high = operator.interval
    assert low == 0
    assert np.linalg.eigvalsh(gram)[-1] <= high


@pytest.mark.usefixtures("_panels")
def test_single_precision_costs_no_more_than_it_says():
    x = random_inputs()
    gram = relu_gram(x)
    operator = relu_gram_operator(x, storage="float32")
    error = np.linalg.norm(dense(operator) - gram, 2)
    assert 0 < error <= operator.storage_error <= 2.0**-23 * np.linalg.norm(gram)
    # Products round as in float64: a kernel that single precision holds exactly has exact products.
    stored = dense(operator)
    vector = np.random.default_rng(1).standard_normal(len(x))
    np.testing.assert_allclose(
        operator @ vector, stored @ vector, atol=100 * EPS * np.abs(stored).sum(axis=1).max()
    )


@pytest.mark.parametrize(
    ("storage", "least", "most"),
    [("float32", 1e-20, 1e38), ("float64", 1e-150, 1e150), ("recompute", 1e-150, 1e150)],
)
def test_kernels_that_a_storage_or_lanczos_cannot_hold_are_refused(storage, least, most):
    unit = np.array([[1.0, 0.0], [0.6, 0.8]])
    for size in (1.01 * least, 0.99 * most):  # of the diagonal, half a squared norm
        operator = relu_gram_operator(unit * np.sqrt(2 * size), storage=storage)
        largest = np.linalg.eigvalsh(relu_gram(unit * np.sqrt(2)))[-1] * size
        assert largest * (1 - 4 * EPS) <= operator.interval[1] <= largest * (1 + 1e-6)
        # sums of four squares and roots
        assert operator.frobenius == pytest.approx(
            size * np.linalg.norm(relu_gram(unit * np.sqrt(2))), rel=1e-14
        )
    for size in (0.99 * least, 1.01 * most):
        with pytest.raises(ValueError, match=r"kernel is of the size .* multiply it by a power of two"):
            relu_gram_operator(unit * np.sqrt(2 * size), storage=storage)


@pytest.mark.usefixtures("_panels")
def test_products_with_several_vectors_and_the_adjoint():
    operator = relu_gram_operator(random_inputs(), storage="float64")
    vectors = np.random.default_rng(1).standard_normal((120, 3))
    each = np.stack([operator @ v for v in vectors.T], axis=1)
    np.testing.assert_allclose(operator @ vectors, each, rtol=1e-12, atol=1e-12)  # order of sums
    np.testing.assert_allclose(operator.T @ vectors, each, rtol=1e-12, atol=1e-12)


def test_lanczos_on_the_operator_gives_the_curve_of_the_dense_kernel():
    x = random_inputs(200, 8)
    delta0 = np.random.default_rng(1).standard_normal(200)
    gram = relu_gram(x)
    rule = GradientDescent(1 / np.linalg.eigvalsh(gram)[-1])
    exact = loss_curve(rule, spectral_measure(gram, delta0), [0, 10, 200])
    for storage, rtol in (("float64", 1e-11), ("float32", 1e-5)):
        measure = spectral_measure(relu_gram_operator(x, storage=storage), delta0, num_matvecs=60)
        curve = loss_curve(rule, measure, [0, 10, 200])
        # storage moves eigenvalues by some 1e-6 of the largest, and the loss by 2k lr times that
        np.testing.assert_allclose(curve.loss, exact.loss, rtol=rtol)
        assert curve.rigorous


# Memory


def test_plan_takes_the_first_storage_that_fits():
    sizes = [(16e9, "float64"), (4.5e9, "float32"), (2e9, "recompute")]
    for limit, storage in sizes:
        plan = memory_plan(40_000, 100, memory_limit=limit)
        assert plan.storage == storage
        assert plan.fits
        assert plan.total == plan.kernel + plan.work + plan.inputs + plan.vectors


def test_plan_counts_half_of_the_kernel():
    plan = memory_plan(20_000, 784, storage="float32", memory_limit=4 * 2**30)
    assert 0.5 < plan.kernel / (4 * 20_000**2) < 0.51
    assert "float32" in str(plan)


def test_plan_that_does_not_fit_is_refused_before_any_work():
    with pytest.raises(ValueError, match=r"does not fit: n = 100000, storage float64: .* of 1\.00 GiB"):
        memory_plan(100_000, 10, storage="float64", memory_limit=2**30)
    seen = []
    with pytest.raises(ValueError, match="does not fit"):
        relu_gram_operator(
            random_inputs(), storage="float64", memory_limit=1e4, progress=lambda *told: seen.append(told)
        )
    assert seen == []


def test_default_limit_is_less_than_the_free_memory():
    free = available_memory()
    plan = memory_plan(10, 2)
    assert 0 < plan.limit < max(free, available_memory())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"storage": "float16"}, ["storage", "float16"]),
        ({"layers": "last"}, ["layers", "last"]),
        ({"depth": 0}, ["depth", "0"]),
        ({"depth": 1.5}, ["depth", "1.5"]),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError) as error:
        relu_gram_operator(random_inputs(5), **options)
    for word in words:
        assert word in str(error.value)


@pytest.mark.usefixtures("_panels")
def test_parallel_and_dependent_antipodal_rows_are_named():
    x = random_inputs()
    x[33] = 2 * x[17]
    with pytest.raises(ValueError, match="parallel rows 17 and 33"):
        relu_gram_operator(x)
    relu_gram_operator(x, allow_singular=True)
    half = random_inputs(4, 3)
    with pytest.raises(ValueError, match=r"4 antipodal pairs .* linearly dependent"):
        relu_gram_operator(np.concatenate([half, -half]))


def test_progress_counts_rows():
    seen = []
    relu_gram_operator(random_inputs(), progress=lambda *told: seen.append(told))
    assert seen[-1] == ("kernel", 120, 120)


# Depth


@LAYERS
def test_depth_one_is_the_two_layer_kernel(layers):
    x = random_inputs(30)
    assert np.array_equal(relu_gram(x, layers=layers, depth=1), relu_gram(x, layers=layers))


@LAYERS
@pytest.mark.parametrize("depth", [2, 4])
def test_deep_kernels_follow_the_recursion_of_the_theory(layers, depth):
    """The closed form at c_sigma = 2, with arccos, halved; away from parallel inputs."""
    x = random_inputs(20)
    norms = np.linalg.norm(x, axis=1)
    c = np.clip(x @ x.T / np.outer(norms, norms), -1, 1)
    np.fill_diagonal(c, 1.0)
    theta = c.copy()
    for _ in range(depth):
        kappa0 = (np.pi - np.arccos(c)) / np.pi
        kappa1 = np.clip((c * (np.pi - np.arccos(c)) + np.sqrt(1 - c**2)) / np.pi, -1, 1)
        theta = theta * kappa0 + (kappa1 if layers == "both" else 0)
        c = kappa1
    want = theta * np.outer(norms, norms) / 2
    # arccos near 1 loses half of the digits where the recursion drives cosines towards 1
    np.testing.assert_allclose(relu_gram(x, layers=layers, depth=depth), want, atol=1e-7)


@LAYERS
def test_deep_kernel_is_that_of_a_wide_network_of_two_hidden_layers(layers):
    """Sampled: J J' of f = a' relu(sqrt(2/m) W2 relu(W1 x)) / sqrt(m) with m = 4000."""
    x, m = random_inputs(4, 3, seed=5), 4000
    rng = np.random.default_rng(6)
    w1, w2, a = rng.standard_normal((m, 3)), rng.standard_normal((m, m)), rng.choice([-1.0, 1.0], m)
    h1 = np.maximum(x @ w1.T, 0)
    z2 = np.sqrt(2 / m) * h1 @ w2.T
    h2, back = np.maximum(z2, 0), a * (z2 > 0) / np.sqrt(m)
    through = np.sqrt(2 / m) * (back @ w2) * (h1 > 0)
    sampled = (through @ through.T) * (x @ x.T)
    if layers == "both":
        sampled += h2 @ h2.T / m + (back @ back.T) * (2 / m) * (h1 @ h1.T)
    gram = relu_gram(x, layers=layers, depth=2)
    # standard errors are some 1/sqrt(m) = 1.6 % of the diagonal
    np.testing.assert_allclose(sampled, gram, atol=0.08 * gram.max())


@LAYERS
@pytest.mark.parametrize("depth", [2, 5])
def test_deep_diagonal_is_half_the_squared_norm_for_each_trained_layer(layers, depth):
    x = np.diag([1.0, 2.0, 3.0])
    gram = relu_gram(x, layers=layers, depth=depth)
    trained = depth + 1 if layers == "both" else 1
    assert np.array_equal(np.diagonal(gram), trained * np.array([0.5, 2.0, 4.5]))
    assert np.linalg.eigvalsh(gram)[0] > 0


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9])
def test_deep_kernels_of_nearly_parallel_inputs_keep_their_digits(angle):
    """First layer, depth 2: kappa_0 = 1 - theta/pi; kappa_1 has the angle theta (1 - theta/(3 pi) + ...)."""
    x = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    gram = relu_gram(x, depth=2)
    want = (1 - (1 - angle / np.pi) * (1 - angle * (1 - angle / (3 * np.pi)) / np.pi)) / 2
    # entries round by eps, and the expansions are cut at angle^2
    assert gram[0, 0] - gram[0, 1] == pytest.approx(want, abs=4 * EPS + angle**2)


@pytest.mark.parametrize("depth", [0, -1, 1.0, True])
def test_bad_depth_is_refused(depth):
    with pytest.raises(ValueError, match="depth must be an integer of at least 1"):
        relu_gram(np.eye(2), depth=depth)
