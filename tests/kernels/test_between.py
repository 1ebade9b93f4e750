"""Kernels between two sets of inputs: both engines against angles of more digits; tiles and symmetry."""

import sys

import numpy as np
import pytest

from odeopt import relu_gram, relu_gram_operator
from odeopt.kernels import NetworkKernel, relu_cross_operator

EPS = np.finfo(float).eps
DIMENSION = 5


def inputs(n, seed, dtype=float):
    """Rows of many norms; some blank, some nearly parallel or opposite to the first, some at 60 degrees."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, DIMENSION)) * 10 ** rng.uniform(-3, 3, (n, 1))
    first = np.array([1.0, 2.0, -1.0, 0.5, 3.0])
    for k, step in enumerate([0.0, 1e-12, 1e-7, 1e-3, 0.1, 0.15][: n - 1]):
        x[k] = (-1) ** (k + seed) * (first + step * rng.standard_normal(DIMENSION))
    x[6:8], x[8:9, :], x[9:10, :2] = 0, [1, 0, 0, 0, 0], [0.5, 0.75**0.5]
    return x.astype(dtype)


def in_long_doubles(x, x2, both):
    """The kernel from half-angles, and the products of norms."""
    x, x2 = (each.astype(np.longdouble) for each in (x, x2))
    norms, norms2 = (np.sqrt((each**2).sum(axis=1)) for each in (x, x2))
    u, v = (a / np.where(b > 0, b, 1)[:, None] for a, b in ((x, norms), (x2, norms2)))
    near, far = (np.sqrt(((u[:, None] + sign * v) ** 2).sum(axis=2)) for sign in (-1, 1))
    overlap, size = 2 * np.arctan2(far, near), np.outer(norms, norms2)
    cosine = (u[:, None] * v).sum(axis=2)
    return size * ((1 + both) * cosine * overlap + both * np.sin(overlap)) / (2 * np.pi), size


@pytest.fixture(params=["numba", "numpy"])
def engine(request, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.between.allowed_threads", lambda: 2)
    monkeypatch.setattr("odeopt.kernels.between.MANY", 0)
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "odeopt.kernels.compiled", None)  # as where numba is not installed
    return request.param


@pytest.mark.filterwarnings("ignore:.*rows of x2 too")
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("n", "n2", "dtype"), [(1, 1, float), (3, 2, float), (11, 530, np.float32), (530, 11, float)]
)
def test_entries_are_those_of_more_digits(n, n2, dtype, both, engine, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.between._SIDE", 100)
    x, x2 = inputs(n, 0, dtype), inputs(n2, 1, dtype)
    expected, size = in_long_doubles(x, x2, both)
    layers = "both" if both else "first"
    # of a cosine: d products and sums, and four roundings of each unit row; of the angle at most 7 times that
    allowed = 7 * (DIMENSION + 8) * EPS * size
    assert (np.abs(relu_gram(x, x2, layers=layers) - expected) <= allowed).all()
    operator = relu_cross_operator(x, x2, layers=layers)
    # and as many sums as there are columns
    sums = n2 * EPS * np.abs(expected).sum(axis=1)
    assert (np.abs(operator @ np.ones(n2) - expected.sum(axis=1)) <= allowed.sum(axis=1) + sums).all()


@pytest.mark.parametrize("layers", ["first", "both"])
def test_a_square_kernel_of_tiles_is_symmetric_and_that_of_the_operator(layers, engine, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.between._SIDE", 16)
    x = np.random.default_rng(0).standard_normal((41, DIMENSION))
    gram = relu_gram(x, layers=layers)
    assert np.array_equal(gram, gram.T)
    expected, size = in_long_doubles(x, x, layers == "both")
    assert (np.abs(gram - expected) <= 7 * (DIMENSION + 8) * EPS * size).all()
    np.testing.assert_allclose(np.diag(gram), np.diag(expected).astype(float), rtol=4 * EPS)
    stored = relu_gram_operator(x, layers=layers, storage="float32", engine=engine)
    # the rounding of an entry to single precision
    np.testing.assert_allclose(stored @ np.eye(41), gram, rtol=2.0**-24 * (1 + 1e-6))


@pytest.mark.parametrize(
    "kernel",
    [lambda *sets: relu_gram(*sets, layers="both", depth=3), NetworkKernel(2, "erf", bias_variance=0.3)],
)
def test_what_has_no_compiled_code_is_the_same_in_tiles_of_any_size(kernel, monkeypatch):
    x, x2 = np.split(np.random.default_rng(0).standard_normal((50, DIMENSION)), [27])
    whole, square = kernel(x, x2), kernel(x)
    monkeypatch.setattr("odeopt.kernels.between.MANY", 0)
    monkeypatch.setattr("odeopt.kernels.between._SIDE", 7)
    monkeypatch.setattr("odeopt.kernels.between._ROWS", 3)
    # d products in other orders, which three layers pass on
    np.testing.assert_allclose(kernel(x, x2), whole, rtol=0, atol=20 * EPS * whole.max())
    np.testing.assert_allclose(kernel(x), square, rtol=0, atol=20 * EPS * square.max())
    assert np.array_equal(kernel(x), kernel(x).T)
