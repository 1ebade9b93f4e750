"""Lanczos: the matrix it finds, interruptions, and every refusal by its words."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from zoo import kernel_with

from odeopt import GradientDescent, HeavyBall, loss_curve, spectral_measure
from odeopt.spectra.lanczos import lanczos
from odeopt.spectra.quadrature import gauss, lobatto, radau

EPS = np.finfo(float).eps


@pytest.fixture
def problem(rng):
    return kernel_with(np.geomspace(1e-4, 100, 80)), rng.standard_normal(80)


def test_moments_are_exact_up_to_degree_2m_minus_1(problem):
    kernel, delta0 = problem
    measure = spectral_measure(kernel, delta0, num_matvecs=6)
    for degree in range(12):
        want = delta0 @ np.linalg.matrix_power(kernel, degree) @ delta0
        # relative backward error n * eps of the kernel, times the degree
        assert measure.integrate(lambda lam: lam**degree) == pytest.approx(want, rel=100 * EPS * 80)  # noqa: B023
    assert measure.integrate(lambda lam: lam**12) < delta0 @ np.linalg.matrix_power(kernel, 12) @ delta0


def test_radau_and_lobatto_hit_their_nodes_and_degrees(problem):
    kernel, delta0 = problem
    (chain,) = lanczos(lambda v: kernel @ v, delta0[:, None], 6)
    powers = np.array([delta0 @ np.linalg.matrix_power(kernel, p) @ delta0 for p in range(14)])
    for rule, ends, degree in (
        (radau(chain, 0.0), [0.0], 12),
        (radau(chain, 101.0, side=-1), [101.0], 12),
        (lobatto(chain, 0.0, 101.0), [0.0, 101.0], 11),
    ):
        nodes, weights = rule
        for end in ends:
            assert np.abs(nodes - end).min() < 1e-12 * 101
        for p in range(degree + 1):
            assert weights @ nodes**p == pytest.approx(powers[p], rel=1e-11)


def test_full_reorthogonalisation_finds_no_eigenvalue_twice():
    """Without it, 80 steps on a spectrum with an outlier bring ghosts of it."""
    lam = np.append(np.linspace(0, 1, 100), 50.0)
    measure = spectral_measure(np.diag(lam), np.ones(101), num_matvecs=80)
    assert np.sum(measure.nodes > 2) == 1
    assert measure.weights[-1] == pytest.approx(1.0, rel=1e-10)


def test_all_steps_give_the_measure_of_eigh():
    kernel = kernel_with(np.geomspace(0.1, 10, 12))
    delta0 = np.random.default_rng(0).standard_normal(12)
    measure, exact = spectral_measure(kernel, delta0, num_matvecs=12), spectral_measure(kernel, delta0)
    assert measure.exact
    np.testing.assert_allclose(measure.nodes, exact.nodes, atol=100 * EPS * 10)
    np.testing.assert_allclose(measure.weights, exact.weights, atol=1e-11)


@pytest.mark.parametrize("blind", [0.0, 1.0])
def test_error_that_sees_few_eigenvalues_gives_the_exact_measure(blind):
    lam = np.array([0.0, 1.0, 2.0, 5.0, 5.0, 5.0])
    delta0 = np.array([blind, 1.0, 0.0, 1.0, -1.0, 2.0])
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=6)
    assert measure.exact
    want = {1.0: 1.0, 5.0: 6.0} | ({0.0: blind} if blind else {})
    np.testing.assert_allclose(measure.nodes, sorted(want), atol=100 * EPS * 5)
    np.testing.assert_allclose(measure.weights, [want[v] for v in sorted(want)], atol=1e-13 * 7)
    assert loss_curve(HeavyBall(0.1, 0.5), measure, [1000]).rigorous


def test_operators_arrays_and_single_precision_agree(problem):
    kernel, delta0 = problem
    array = spectral_measure(kernel, delta0, num_matvecs=10)
    operator = spectral_measure(aslinearoperator(kernel), delta0, num_matvecs=10)
    np.testing.assert_allclose(operator.nodes, array.nodes, rtol=1e-10)
    single = spectral_measure(kernel.astype(np.float32), delta0, num_matvecs=10)
    # entries rounded to 6e-8; a Ritz value moves by at most the norm of that, sqrt(n) as large
    assert np.abs(single.nodes - array.nodes).max() < 6e-8 * 100 * 9


def test_upper_end_of_the_interval_encloses_and_is_near(rng):
    inputs = np.abs(rng.standard_normal((60, 4)))
    kernel = inputs @ inputs.T  # nonnegative, where the bound is sharp
    measure = spectral_measure(kernel, rng.standard_normal(60), num_matvecs=5)
    top = np.linalg.eigvalsh(kernel)[-1]
    assert top <= measure.interval[1] < 1.01 * top
    mixed = kernel_with(np.geomspace(1, 10, 30))
    assert spectral_measure(mixed, np.ones(30), num_matvecs=3).interval[1] >= 10 * (1 - 1e-14)


def test_stops_when_the_curves_are_resolved():
    lam = np.geomspace(1e-3, 10, 500)
    delta0 = np.random.default_rng(4).standard_normal(500)
    rule, k = GradientDescent(0.09), [0, 10, 300]

    def curve(measure):
        return loss_curve(rule, measure, k)

    measure = spectral_measure(np.diag(lam), delta0, rtol=1e-6, curves=[curve])
    assert 10 < measure.num_matvecs < 100
    exact = loss_curve(rule, spectral_measure(np.diag(lam), delta0), k).loss
    np.testing.assert_allclose(curve(measure).loss, exact, rtol=1e-6)


# Interruptions


def test_interrupt_and_resume_is_the_uninterrupted_run_bit_for_bit(problem, tmp_path):
    kernel, delta0 = problem
    starts = np.stack([delta0, delta0[::-1]], axis=1)
    whole = spectral_measure(kernel, starts, num_matvecs=20)

    def interrupt(stage, step, total):
        assert (stage, total) == ("lanczos", 20)
        if step == 7:
            raise KeyboardInterrupt

    state = tmp_path / "run.npz"
    with pytest.raises(KeyboardInterrupt):
        spectral_measure(kernel, starts, num_matvecs=20, state=state, progress=interrupt)
    seen = []
    resumed = spectral_measure(
        kernel, starts, num_matvecs=20, state=state, progress=lambda stage, step, total: seen.append(step)
    )
    assert seen[0] == 8
    assert np.array_equal(resumed.nodes, whole.nodes)
    assert np.array_equal(resumed.weights, whole.weights)
    longer = spectral_measure(kernel, starts, num_matvecs=30, state=state)
    assert np.array_equal(longer.nodes, spectral_measure(kernel, starts, num_matvecs=30).nodes)


_SLOW_RUN = """
import itertools, sys, time
import numpy as np
from scipy.sparse.linalg import LinearOperator
from odeopt.spectra.measure import spectral_measure

lam = np.geomspace(1e-3, 10, 300)
calls = itertools.count()  # the thirtieth product waits for the signal, however late it comes
wait = lambda: time.sleep(0.01 if next(calls) < 30 else 3600)
slow = LinearOperator((300, 300), matvec=lambda v: (wait(), lam * v.ravel())[1], dtype=float)
import functools, odeopt.spectra.measure as home
home.lanczos = functools.partial(home.lanczos, save_seconds=0.0)
spectral_measure(
    slow, np.ones(300), num_matvecs=200, state=sys.argv[1], interval=(0, 10),
    progress=lambda stage, step, total: print(step, flush=True),
)
"""


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_signalled_process_leaves_a_file_from_which_the_run_is_finished(tmp_path, signal_):
    state = tmp_path / "run.npz"
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW_RUN, str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for line in process.stdout:
        if int(line) >= 12:
            break
    time.sleep(0.005)  # into a product or a save
    process.send_signal(signal_)
    process.communicate()
    assert process.returncode != 0
    lam, steps = np.geomspace(1e-3, 10, 300), []
    fast = LinearOperator((300, 300), matvec=lambda v: lam * v.ravel(), dtype=float)
    resumed = spectral_measure(
        fast,
        np.ones(300),
        num_matvecs=40,
        state=state,
        interval=(0, 10),
        progress=lambda stage, step, total: steps.append(step),
    )
    assert 12 <= steps[0] < 40
    whole = spectral_measure(fast, np.ones(300), num_matvecs=40, interval=(0, 10))
    # The other process may run another number of BLAS threads, whence rounding.
    np.testing.assert_allclose(resumed.nodes, whole.nodes, rtol=0, atol=2 * whole.error)
    assert resumed.mass == pytest.approx(300, rel=1e-12)


def test_state_of_another_problem_is_refused(problem, tmp_path):
    kernel, delta0 = problem
    state = tmp_path / "run.npz"
    spectral_measure(kernel, delta0, num_matvecs=5, state=state)
    with pytest.raises(ValueError, match=r"run\.npz' cannot be resumed: it was begun with another delta0"):
        spectral_measure(kernel, delta0 + 1, num_matvecs=5, state=state)
    with pytest.raises(ValueError, match="begun with another kernel"):
        spectral_measure(2 * kernel, delta0, num_matvecs=5, state=state)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_damaged_state_is_refused(problem, tmp_path, content):
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be resumed: .*; remove it"):
        spectral_measure(*problem, num_matvecs=5, state=tmp_path / "run.npz")


# Refusals


@pytest.mark.parametrize("where", [0, 2])
def test_nan_from_the_operator_is_named(where):
    calls = []

    def product(v):
        calls.append(1)
        out = np.arange(1.0, 9) * v.ravel()
        if len(calls) > where:
            out[3] = np.nan
        return out

    operator = LinearOperator((8, 8), matvec=product, dtype=float)
    with pytest.raises(ValueError, match=rf"returned nan at entry 3 of its product in step {where + 1}"):
        spectral_measure(operator, np.ones(8), num_matvecs=5)


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_asymmetric_operator_is_named(size):
    kernel = np.diag(np.arange(1.0, 9))
    kernel[2, 5] += size
    with pytest.raises(ValueError, match="kernel must be symmetric, but step 2 of Lanczos"):
        spectral_measure(aslinearoperator(kernel), np.ones(8), num_matvecs=5)
    with pytest.raises(ValueError, match=r"kernel must be symmetric, but entries \(2, 5\) and \(5, 2\)"):
        spectral_measure(kernel, np.ones(8), num_matvecs=5)


def test_indefinite_operator_is_named():
    kernel = np.diag([-0.1, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"positive semidefinite.* eigenvalue of at most -0\.1"):
        spectral_measure(aslinearoperator(kernel), np.ones(4), num_matvecs=4)
    # An error that does not see the negative eigenvalue has the loss of a semidefinite kernel.
    assert spectral_measure(kernel, [0.0, 1, 1, 1], num_matvecs=4).exact


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delta0": np.zeros(4)}, ["delta0 is zero", "every loss is 0"]),
        ({"delta0": [1, np.nan, 1, 1]}, ["delta0", "nan", "entry 1"]),
        ({"delta0": np.ones(3)}, ["delta0", "(4,)", "(3,)"]),
        ({"num_matvecs": 5}, ["num_matvecs", "at most n = 4", "5"]),
        ({"num_matvecs": 0}, ["num_matvecs", "at least 1", "0"]),
        ({"num_matvecs": 2.5}, ["num_matvecs", "2.5"]),
        ({"interval": (0, 2)}, ["interval", "upper end 2", "Ritz value 4"]),
        ({"interval": (-1, 5)}, ["interval", "-1"]),
        ({"interval": (2.5, 5)}, ["spectrum above 2.5"]),
        ({"rtol": 1e-3}, ["rtol", "curves"]),
        ({"rtol": 2.0, "curves": [len]}, ["rtol = 2.0", "(0, 1)"]),
    ],
)
def test_bad_options_are_refused(options, words):
    arguments = {"delta0": np.ones(4), "num_matvecs": 4} | options
    with pytest.raises(ValueError) as error:
        spectral_measure(np.diag([1.0, 2.0, 3.0, 4.0]), **arguments)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (aslinearoperator(np.ones((4, 3))), ["square", "(4, 3)"]),
        (np.ones((4, 3)), ["square", "(4, 3)"]),
        (aslinearoperator(1j * np.eye(4)), ["real", "complex128"]),
        (np.diag([1.0, np.inf, 1, 1]), ["kernel", "[1, 1] is inf"]),
        (np.ones(4), ["kernel", "(4,)"]),
    ],
)
def test_bad_kernels_are_refused(kernel, words):
    with pytest.raises(ValueError) as error:
        spectral_measure(kernel, np.ones(4), num_matvecs=3)
    for word in words:
        assert word in str(error.value)


def test_operator_needs_a_number_of_steps():
    with pytest.raises(ValueError, match="give num_matvecs or rtol"):
        spectral_measure(aslinearoperator(np.eye(3)), np.ones(3))


def test_gauss_weights_sum_to_the_mass(problem):
    kernel, delta0 = problem
    (chain,) = lanczos(lambda v: kernel @ v, delta0[:, None], 15)
    assert gauss(chain)[1].sum() == pytest.approx(delta0 @ delta0, rel=1e-13)


# States and the kernels that they belong to


def test_a_state_of_a_kernel_with_the_same_first_entry_is_refused(tmp_path):
    rng, ones = np.random.default_rng(0), np.ones(40)
    factors = rng.standard_normal((2, 40, 80))
    first, second = (factor @ factor.T / 80 for factor in factors)
    second = second * (ones @ first @ ones) / (ones @ second @ ones)
    state = tmp_path / "run.npz"
    spectral_measure(first, ones, num_matvecs=20, state=state)
    with pytest.raises(ValueError, match=r"run\.npz' cannot be resumed: it was begun with another kernel"):
        spectral_measure(second, ones, num_matvecs=20, state=state)
    assert spectral_measure(first, ones, num_matvecs=20, state=state).num_matvecs == 20


def test_a_missing_folder_is_named_before_the_first_product(tmp_path):
    calls = []
    operator = LinearOperator((40, 40), matvec=lambda v: calls.append(1) or v, dtype=float)
    with pytest.raises(ValueError, match=r"needs a folder .*nowhere'; create it"):
        spectral_measure(operator, np.ones(40), num_matvecs=20, state=tmp_path / "nowhere" / "run.npz")
    assert not calls


def test_a_folder_in_place_of_a_state_is_named(problem, tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        spectral_measure(*problem, num_matvecs=5, state=tmp_path)


def test_a_state_of_an_older_format_is_named(problem, tmp_path):
    np.savez(tmp_path / "run.npz", format=np.array(1))
    with pytest.raises(ValueError, match=r"it has format 1, this version reads 2; remove it"):
        spectral_measure(*problem, num_matvecs=5, state=tmp_path / "run.npz")
