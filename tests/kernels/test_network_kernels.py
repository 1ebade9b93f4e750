"""Kernels of deep networks with biases, between two sets of inputs, against numerical expectations."""

import mpmath
import numpy as np
import pytest
import scipy.special

from odeopt import relu_gram
from odeopt.kernels import NetworkKernel, relu_cross_operator

X = np.array([[1.0, 0, 0], [0.6, 0.8, 0], [-0.5, 0.5, 1]])
# beside plain rows one that is nearly parallel to a row of X, one nearly opposite, one collinear, and none
X2 = np.array([[0, 2.0, 1], [1, 1, 1], [1, 1e-9, 0], [-1, 1e-7, 0], [1.2, 1.6, 0], [0, 0, 0]])
STATED = {
    (1, "nngp"): [[0.62462505, 0.83984644], [1.11177211, 0.98421744], [1.30483626, 0.88529480]],
    (1, "ntk"): [[0.69692698, 1.27687884], [1.79100607, 1.63038482], [2.13877561, 1.29969270]],
    (3, "nngp"): [[0.96631294, 0.95736851], [1.15160116, 1.02399129], [1.28783212, 1.02015048]],
    (3, "ntk"): [[1.69848298, 2.11757993], [2.72520636, 2.55168739], [3.16452260, 2.18452484]],
}


@pytest.mark.parametrize(("depth", "kind"), STATED)
def test_the_stated_kernels_with_biases(depth, kind):
    kernel = NetworkKernel(depth, weight_variance=1.3**2, bias_variance=0.4**2, kind=kind)
    np.testing.assert_allclose(kernel(X, X2[:2]), STATED[depth, kind], rtol=0, atol=6e-9)  # eight decimals


def arc_cosine(p, q, c):
    """E and its derivative for ReLU, to 40 digits."""
    size = mpmath.sqrt(p * q)
    angle = mpmath.acos(max(-1, min(1, c / size))) if size else mpmath.pi / 2
    product = mpmath.sin(angle) + (mpmath.pi - angle) * mpmath.cos(angle)
    return size * product / (2 * mpmath.pi), (mpmath.pi - angle) / (2 * mpmath.pi)


def normal(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def gelu_mean(m, v):
    """E gelu(m + sqrt(v) b) and its derivative in m, b normal."""
    s = m / np.sqrt(1 + v)
    both = scipy.special.ndtr(s), normal(s)
    return m * both[0] + v / np.sqrt(1 + v) * both[1], both[0] + s / (1 + v) * both[1]


def erf_mean(m, v):
    return scipy.special.erf(m / np.sqrt(1 + 2 * v)), 2 * np.exp(-(m**2) / (1 + 2 * v)) / np.sqrt(
        np.pi * (1 + 2 * v)
    )


def by_trapezoids(mean):
    """E and its derivative, the inner expectation in closed form and the outer by the trapezoidal rule."""
    step = 1 / 128  # whose error for analytic integrands lies below rounding
    z = step * np.arange(-13 * 128, 13 * 128 + 1)

    def expectations(p, q, c):
        if p == 0:
            p, q = q, p
        root = np.sqrt(p) if p else 1.0
        outer, inner = mean(root * z, 0.0), mean(c / root * z, max(q - (c / root) ** 2, 0.0))
        return tuple(float((normal(z) * a * b).sum() * step) for a, b in zip(outer, inner, strict=True))

    return expectations


EXPECTATIONS = {"relu": arc_cosine, "erf": by_trapezoids(erf_mean), "gelu": by_trapezoids(gelu_mean)}


def by_recursion(activation, x, y, weights, biases):
    """NNGP and NTK of one pair."""
    exact = mpmath.mpf if activation == "relu" else float
    expectations = EXPECTATIONS[activation]

    def first(u, v):
        dot = sum(exact(float(a)) * exact(float(b)) for a, b in zip(u, v, strict=True))
        return exact(weights[0]) * dot / len(u) + exact(biases[0])

    p, q, c = first(x, x), first(y, y), first(x, y)
    ntk = c
    for weight, bias in zip(map(exact, weights[1:]), map(exact, biases[1:]), strict=True):
        product, slope = expectations(p, q, c)
        p, q = (weight * expectations(v, v, v)[0] + bias for v in (p, q))
        c = weight * product + bias
        ntk = c + weight * slope * ntk
    return float(c), float(ntk)


@pytest.mark.parametrize("biases", [(0.0, 0.0, 0.0, 0.0), (0.16, 0.0, 0.3, 1.0)])
@pytest.mark.parametrize("activation", EXPECTATIONS)
def test_kernels_are_the_expectations_of_the_recursion(activation, biases):
    weights = (2.5, 1.69, 0.8, 2.0)
    with mpmath.workdps(40):
        expected = np.array([[by_recursion(activation, x, y, weights, biases) for y in X2] for x in X])
    for i, kind in enumerate(("nngp", "ntk")):
        found = NetworkKernel(3, activation, weights, biases, kind)(X, X2)
        np.testing.assert_allclose(found, expected[:, :, i], rtol=0, atol=1e-14)  # some roundings of about 5


@pytest.mark.parametrize("activation", EXPECTATIONS)
def test_a_square_kernel_is_symmetric_to_the_last_bit_with_the_diagonal_of_its_own(activation):
    x = np.random.default_rng(0).standard_normal((60, 5))
    kernel = NetworkKernel(2, activation, 1.5, 0.2)
    gram = kernel(x)
    assert np.array_equal(gram, gram.T)
    assert np.array_equal(gram, kernel(x, x.copy()))
    np.testing.assert_allclose(kernel.diagonal(x), np.diag(gram), rtol=4e-16)
    assert np.linalg.eigvalsh(gram).min() > 0


def test_layer_norm_takes_the_norm_of_inputs_and_weights_away():
    """One hidden layer of inputs on the sphere of radius sqrt(d), whose variances are 1 / (1 + epsilon)."""
    x = np.random.default_rng(0).standard_normal((5, 3))
    sphere = x * np.sqrt(3) / np.linalg.norm(x, axis=1, keepdims=True)
    for activation in EXPECTATIONS:
        for kind, large in (("nngp", 49.0), ("ntk", 49.0)):
            found = NetworkKernel(1, activation, (large, 1.3), (0.0, 0.2), kind, layer_norm=0.0)(x)
            expected = NetworkKernel(1, activation, (1.0, 1.3), (0.0, 0.2), kind)(sphere)
            np.testing.assert_allclose(found, expected, rtol=1e-13)
    near = NetworkKernel(2, "relu", 1.5, 0.1, layer_norm=1e-5)
    np.testing.assert_allclose(near.gram_operator(x) @ np.eye(5), near(x), rtol=1e-13)
    np.testing.assert_allclose(near.diagonal(x), np.diag(near(x)), rtol=1e-14)
    blank = NetworkKernel(2, layer_norm=0.0)(np.zeros((1, 3)), x)
    assert not blank.any()


@pytest.mark.parametrize(("layers", "depth"), [("first", 1), ("both", 1), ("first", 3), ("both", 3)])
def test_the_kernel_between_two_sets_is_a_block_of_that_of_all(layers, depth):
    rng = np.random.default_rng(1)
    test, train = rng.standard_normal((6, 4)), rng.standard_normal((8, 4))
    whole = relu_gram(np.concatenate([test, train]), layers=layers, depth=depth)
    found = relu_gram(test, train, layers=layers, depth=depth)
    np.testing.assert_allclose(
        found, whole[:6, 6:], rtol=0, atol=1e-14
    )  # products of blocks, other roundings
    square = relu_gram(train, layers=layers, depth=depth)
    assert np.array_equal(relu_gram(train, train.copy(), layers=layers, depth=depth), square)
    operator = relu_cross_operator(test, train, layers=layers, depth=depth)
    np.testing.assert_allclose(operator @ np.eye(8), found, rtol=0, atol=1e-15)
    np.testing.assert_allclose(operator.T @ np.eye(6), found.T, rtol=0, atol=1e-15)
    if layers == "both":
        variances = (4.0, *(2.0,) * (depth - 1), 1.0)
        deep = NetworkKernel(depth, weight_variance=variances)
        np.testing.assert_allclose(deep(test, train), found, rtol=0, atol=1e-14)
        np.testing.assert_allclose(deep.operator(test, train) @ np.ones(8), found.sum(1), rtol=0, atol=1e-13)


def test_tiles_of_the_operator_make_up_the_whole(monkeypatch, rng):
    monkeypatch.setattr("odeopt.kernels.cross.WORK_ENTRIES", 9)  # tiles of 3 by 3, and what is left
    test, train = rng.standard_normal((7, 4)), rng.standard_normal((8, 4))
    operator, found = relu_cross_operator(test, train), relu_gram(test, train)
    # sums of eight products of numbers of order 1, in another order
    np.testing.assert_allclose(operator @ np.eye(8), found, rtol=0, atol=1e-14)
    np.testing.assert_allclose(operator.row_norms, np.linalg.norm(found, axis=1), rtol=1e-14)
    np.testing.assert_allclose(operator.T @ np.eye(7), found.T, rtol=0, atol=1e-14)


def test_blank_rows_have_the_kernel_of_biases_alone():
    blank = np.zeros((2, 3))
    assert not NetworkKernel(2)(blank, X).any()
    assert not relu_gram(blank, X).any()
    with_bias = NetworkKernel(1, bias_variance=(0.0, 0.5))
    assert np.array_equal(with_bias(blank), np.full((2, 2), 0.5))


def test_points_that_are_trained_on_are_named():
    with pytest.warns(UserWarning, match=r"1 of the 2 rows of x are rows of x2 too \(row 1 is row 0 of x2\)"):
        relu_gram(X2[[0, 1]], X2[[1, 2]])
    with pytest.warns(UserWarning, match="rows of x2 too"):
        NetworkKernel()(X2[[0, 5]], -X2[[5, 1]])  # a zero of either sign


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: NetworkKernel(0), "depth must be an integer of at least 1"),
        (lambda: NetworkKernel(activation="tanh"), "activation must be 'relu' or 'erf' or 'gelu'"),
        (lambda: NetworkKernel(kind="gp"), "kind must be 'ntk' or 'nngp'"),
        (lambda: NetworkKernel(layer_norm=-1.0), "layer_norm must be the epsilon .* at least 0"),
        (lambda: NetworkKernel(layer_norm=True), "layer_norm must be the epsilon .* got True"),
        (lambda: NetworkKernel(weight_variance=0.0), "weight_variance must be positive"),
        (lambda: NetworkKernel(bias_variance=-1.0), "bias_variance must be nonnegative"),
        (lambda: NetworkKernel(2, bias_variance=(1.0, 1.0)), "bias_variance must be one number, or 3"),
        (lambda: NetworkKernel(weight_variance="2"), "weight_variance must be positive and finite, got '2'"),
        (lambda: NetworkKernel()(X, X2[:, :2]), "x2 must have 3 columns like x"),
        (lambda: relu_gram(X, X2[0]), r"x2 must have shape \(n, d\)"),
        (lambda: NetworkKernel()(1e200 * X), "leaves the range of float64"),
        (lambda: NetworkKernel(activation="erf")(1e100 * X), "leaves the range of float64"),
        (lambda: NetworkKernel()(1e-170 * X), "whose square leaves the range"),
        (lambda: relu_gram(X, 1e-170 * X2), "whose squares leave the"),
    ],
)
def test_refusals_name_the_argument_and_the_reason(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize("activation", ["relu", "erf", "gelu"])
@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize(("depth", "bias"), [(1, 0.0), (3, 0.16)])
def test_the_operator_of_a_network_is_its_kernel_and_float32_costs_what_is_stated(
    activation, device, depth, bias
):
    kernel = NetworkKernel(depth, activation, 1.69, bias)
    x = np.random.default_rng(0).standard_normal((90, 4))
    x[1:6] = 2 * x[0], -x[0], x[0] + 1e-9, 0 * x[0], -x[0] + 1e-7  # whose angles need differences
    expected = kernel(x)
    for storage in ("float64", "recompute", "float32"):
        operator = kernel.gram_operator(x, device=device, storage=storage)
        gap = np.abs(operator @ np.eye(90) - expected)
        # angles by arccos below a cosine of 1 - 1e-6 are 2e-13 off, in each of the layers
        allowed = 2.0**-24 * abs(expected) if storage == "float32" else 0
        assert (gap <= allowed + 1e-12 * expected.max()).all()
        assert np.linalg.norm(gap) <= operator.storage_error + 1e-10
        low, high = operator.interval
        assert low == 0
        assert high >= np.linalg.eigvalsh(expected)[-1]


def test_operators_of_a_network_keep_imaginary_parts():
    kernel, rng = NetworkKernel(2, bias_variance=0.1), np.random.default_rng(2)
    x, points, v = (
        rng.standard_normal((9, 4)),
        rng.standard_normal((3, 4)),
        rng.standard_normal((9, 2)) @ [1, 1j],
    )
    cross = kernel.operator(points, x)
    # rounding of nine products of size one
    np.testing.assert_allclose(kernel.gram_operator(x) @ v, kernel(x) @ v, rtol=0, atol=1e-13)
    np.testing.assert_allclose(cross.rmatvec(v[:3]), kernel(points, x).T @ v[:3], rtol=0, atol=1e-13)


def test_the_operator_of_a_network_refuses_what_leaves_the_range_and_engines_of_another_place():
    kernel = NetworkKernel(2, bias_variance=0.1)
    with pytest.raises(ValueError, match="leaves the range of float64"):
        kernel.gram_operator([[1e160], [1.0]])
    with pytest.raises(ValueError, match="engine = 'numba' is for products on the host"):
        kernel.gram_operator([[1.0]], device="cpu", engine="numba")
    with pytest.raises(ValueError, match="does not fit"):
        kernel.gram_operator(np.ones((200, 3)), memory_limit=1e4)
