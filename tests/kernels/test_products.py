"""Products by panels and entries: against sums and angles of more digits, choice of engines, and threads."""

import sys
import tempfile
import threading

import mpmath as mp
import numpy as np
import pytest
import threadpoolctl

from odeopt import relu_gram_operator
from odeopt.kernels import compiled, memory_plan
from odeopt.kernels.packing import Packing
from odeopt.kernels.products import CHUNKS, FEW, LEAST, equal_chunks, share_by
from odeopt.kernels.threads import _libraries, allowed_threads, in_order

EPS = np.finfo(float).eps


def symmetric(n, storage, seed=0):
    """A symmetric matrix with entries of both signs, and the panels of its upper half."""
    half = np.random.default_rng(seed).standard_normal((n, n)).astype(storage)
    matrix, rows = np.triu(half) + np.triu(half, 1).T, min(n, 77)
    return matrix, [(i, np.ascontiguousarray(matrix[i : i + rows, i:])) for i in range(0, n, rows)]


def long_sums(matrix, vectors):
    """The product, summed in extended precision, and the sizes of its terms."""
    wide = matrix.astype(np.longdouble)
    return (wide @ vectors).astype(float), np.abs(matrix).astype(float) @ np.abs(vectors)


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize(("storage", "absolute"), [("float32", False), ("float32", True), ("float64", False)])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000])
def test_a_product_is_the_sum_in_double_precision(n, storage, absolute, engine):
    matrix, panels = symmetric(n, storage)
    share, name = share_by(engine, storage)
    assert name == engine
    vectors = np.random.default_rng(1).standard_normal((n, 66))
    # one vector, pairs, an odd one, more than are read in pairs; a view of every second one, rows in reverse
    for some in (vectors[:, :1], vectors[:, :8], vectors[:, 1:4], vectors[:, ::2], vectors[::-1, :5]):
        expected, size = long_sums(abs(matrix) if absolute else matrix, some)
        # n products and sums in any order: gamma_n of unit roundoff eps / 2, and as much for the reference
        assert (np.abs(share(panels, some, absolute) - expected) <= n * EPS * size).all()


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_infinities_and_nan_are_not_lost(engine):
    matrix, _ = symmetric(40, "float32")
    for place, entry in {(3, 30): np.inf, (9, 9): np.nan, (20, 35): -np.inf}.items():
        matrix[place] = matrix[place[::-1]] = entry
    share, _ = share_by(engine, "float32")
    vectors = np.random.default_rng(1).standard_normal((40, 3))
    with np.errstate(invalid="ignore"):  # BLAS raises flags for them
        found, expected = share([(0, matrix)], vectors, False), matrix.astype(float) @ vectors
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.array_equal(found[np.isinf(expected)], expected[np.isinf(expected)])


@pytest.mark.parametrize("both", [False, True])
def test_entries_of_one_pass_are_those_of_forty_digits(both):
    rng, half = np.random.default_rng(0), [0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)]
    # both halves of the line, either side of the changes of formula at +-1/2, and down to the limit
    ends = 1 - 10 ** rng.uniform(-6, -0.5, 200)
    c = np.concatenate([rng.uniform(-1, 1, 500), ends, -ends, half, np.negative(half), [0.0, 1e-300]])
    left, right, panel = np.array([0.0, 2.0, 3.0]), rng.uniform(0.5, 2, c.size), np.full((3, c.size + 1), 7.0)
    write = compiled.compiled_entries(both)
    squares, below, near = write(np.tile(c, (3, 1)), 1, 2, left, right, panel, 1, 1 - 1e-6)
    found, expected = panel[1, 1:], []
    with mp.workdps(40):
        for cosine, norm in zip(c.tolist(), right.tolist(), strict=True):
            angle = mp.pi - mp.acos(cosine)
            entry = (1 + both) * cosine * angle + (mp.sin(angle) if both else 0)
            expected.append(float(entry * 2 * mp.mpf(norm) / (2 * mp.pi)))
    # six roundings of the angle and five of its factors; of both layers two terms cancel below 0
    size = np.abs(expected) + (right if both else 0)
    assert (np.abs(found - expected) <= 6 * EPS * size).all()
    assert (panel[0] == 7).all() and (panel[2] == 7).all() and panel[1, 0] == 7
    assert squares == pytest.approx(float(found @ found), rel=c.size * EPS)
    assert (below, near) == (np.count_nonzero(found < 0), 0)
    assert write(np.array([[0.9, -0.9, 1.0]]), 0, 1, left[1:], right[:3], panel, 0, 0.95)[2] == 1


@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("n", [1, 9, 1000])
def test_the_result_hangs_on_no_number_of_threads(n, engine, monkeypatch):
    monkeypatch.setattr("odeopt.kernels.blocks.LEAST", 1000)
    x = np.random.default_rng(0).standard_normal((n, 12))
    vectors, found = np.random.default_rng(1).standard_normal((n, 3)), []
    for threads in (1, 2, 3):
        monkeypatch.setattr("odeopt.kernels.memory.allowed_threads", lambda count=threads: count)
        operator = relu_gram_operator(x, storage="float32", engine=engine)
        assert operator.engine == operator.plan.engine == engine
        found += [operator @ vectors, operator @ vectors]
    assert all(np.array_equal(found[0], each) for each in found)


def test_chunks_are_of_about_equal_area():
    packing = Packing(20_000, 256)
    chunks = equal_chunks(packing, LEAST, CHUNKS)
    assert [k for chunk in chunks for k in chunk] == list(range(79))
    areas = np.diff([*(packing.offset(chunk[0]) for chunk in chunks), packing.size])
    # a chunk ends with a panel, the first of which is a fortieth of all
    assert len(chunks) == 32
    assert areas.max() < packing.size * (1 / 32 + 1 / 39)


# Which engine


def test_the_plan_says_the_engine_and_its_threads(monkeypatch):
    monkeypatch.setattr("odeopt.kernels.memory.allowed_threads", lambda: 2)
    plan = memory_plan(FEW, 5)
    assert (plan.engine, plan.threads) == ("numba", 2)
    assert str(plan).endswith("GiB, products by numba on 2 threads")
    assert memory_plan(FEW - 1, 5).engine == f"numpy (n is below {FEW})"
    assert memory_plan(FEW, 5, engine="numpy").engine == "numpy"
    recomputed = memory_plan(FEW, 5, engine="numba", storage="recompute")
    assert recomputed.engine == "numpy (entries are computed anew in each product)"


def test_without_numba_numpy_multiplies_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert memory_plan(FEW, 5).engine == "numpy (numba is not installed)"
    with pytest.raises(ValueError, match=r"engine = 'numba' needs numba, .* pip install 'odeopt\[fast\]'"):
        memory_plan(FEW, 5, engine="numba")


def test_numba_that_refuses_this_numpy_is_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "odeopt.kernels.compiled", None)  # importing it fails
    operator = relu_gram_operator(np.eye(9), storage="float32", engine="numba")
    assert operator.engine.startswith("numpy (import of odeopt.kernels.compiled halted")
    np.testing.assert_allclose(operator @ np.ones(9), np.full(9, 0.5), rtol=9 * EPS)


def test_a_compiler_that_fails_is_named_and_replaced(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such target\nand more")

    monkeypatch.setattr(compiled, "_share", fail)
    compiled.compiled_share.cache_clear()
    try:
        operator = relu_gram_operator(np.eye(9), storage="float32", engine="numba")
    finally:
        compiled.compiled_share.cache_clear()
    assert operator.engine == operator.plan.engine == "numpy (RuntimeError of numba: no such target)"
    # half of each row, from one product and sum of n terms
    np.testing.assert_allclose(operator @ np.ones(9), np.full(9, 0.5), rtol=9 * EPS)


def doubled(x, out):
    for i in range(x.size):
        out[i] = 2 * x[i]


def test_folders_that_cannot_be_written_cost_the_cache_alone(monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError("read-only")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", refuse)  # by which numba tries a folder
        function = compiled._jit(doubled)
    assert compiled._jit(doubled).stats.cache_path
    assert function.stats.cache_path is None
    out = np.zeros(2)
    function(np.array([1.0, 2.0]), out)
    assert out.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "blas"}, "engine must be 'auto', 'numba' or 'numpy', got 'blas'"),
        ({"engine": "numba", "device": "cpu"}, "engine = 'numba' is for products on the host"),
    ],
)
def test_engines_that_there_are_not_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        relu_gram_operator(np.eye(3), **options)


# Threads


@pytest.mark.parametrize(
    ("told", "most"), [("1", 1), ("1,4", 1), ("0", None), ("many", None), ("", None), ("100000", None)]
)
def test_threads_are_the_cores_of_the_process_and_what_openmp_is_told(told, most, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    cores = allowed_threads()
    assert cores >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert allowed_threads() == (cores if most is None else most)


def test_the_first_error_in_order_is_raised_and_settings_of_the_caller_hold():
    def inverse(number):
        if number == 0:
            raise ValueError("zero")
        return np.float64(1) / np.float64(number - 1)

    with np.errstate(divide="ignore"):
        assert list(in_order(inverse, [2, 1, 3], 2)) == [1, np.inf, 0.5]
    with pytest.raises(ValueError, match="zero"):
        list(in_order(inverse, [2, 0, 3], 2))


def test_blas_has_one_thread_inside_and_its_own_again_afterwards(monkeypatch):
    monkeypatch.setattr("odeopt.kernels.memory.allowed_threads", lambda: 2)

    def stop(*told):
        raise KeyboardInterrupt

    def threads(_=None):
        return max(each["num_threads"] for each in _libraries().info() if each["user_api"] == "blas")

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert list(in_order(threads, [0, 1], 2)) == [1, 1]
        assert threads() == 2
        with pytest.raises(ZeroDivisionError):
            list(in_order(lambda number: 1 / number, [0, 1], 2))
        assert threads() == 2
        # the error holds the frames that were left, and is held itself
        with pytest.raises(KeyboardInterrupt) as error:
            relu_gram_operator(
                np.random.default_rng(0).standard_normal((99, 5)), engine="numpy", progress=stop
            )
        assert threads() == 2
        assert error.tb is not None


def test_computations_of_two_threads_of_the_caller_both_end():
    found = [[], []]
    callers = [
        threading.Thread(target=lambda out=out: out.extend(in_order(abs, range(-40, 0), 2))) for out in found
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert found == 2 * [list(range(40, 0, -1))]
