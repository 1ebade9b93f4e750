"""The closed-form kernel against sampling, identities and known values; every refusal by its words."""

import numpy as np
import pytest

from odeopt.checks import validate_kernel
from odeopt.kernels.inputs import validate_inputs
from odeopt.kernels.matrix import norm_bound
from odeopt.kernels.relu import relu_gram

EPS = np.finfo(float).eps
BOTH = pytest.mark.parametrize("layers", ["first", "both"])


def random_inputs(n=6, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def lambda_min(x, layers="first"):
    return np.linalg.eigvalsh(relu_gram(x, layers=layers, allow_singular=True))[0]


@BOTH
def test_closed_form_is_the_expectation_over_random_neurons(layers):
    x = random_inputs()
    neurons = np.random.default_rng(1).standard_normal((200_000, x.shape[1]))
    preactivation = x @ neurons.T
    active = (preactivation > 0).astype(float)
    products = (x @ x.T)[:, :, None] * active[:, None] * active[None]
    if layers == "both":
        feature = preactivation * active
        products += feature[:, None] * feature[None]
    mean, deviation = products.mean(axis=-1), products.std(axis=-1)
    standard_error = deviation / np.sqrt(len(neurons))
    # 21 different entries: the largest of them exceeds 4.5 standard errors with probability 1.4e-4.
    assert (np.abs(relu_gram(x, layers=layers) - mean) < 4.5 * standard_error).all()
    # The test can see an error of 1 %: the standard errors are below that.
    assert (standard_error < 0.01 * np.outer(*2 * [np.linalg.norm(x, axis=1)])).all()


@BOTH
def test_kernel_is_homogeneous_of_degree_one_in_each_input(layers):
    x = random_inputs()
    c = np.array([1e-3, 0.5, 1, 2, 7, 1e4])
    expected = np.outer(c, c) * relu_gram(x, layers=layers)
    # Rounding of the normalised rows, d = 4, and of the few operations after it.
    np.testing.assert_allclose(
        relu_gram(c[:, None] * x, layers=layers), expected, rtol=0, atol=1e-14 * expected.max()
    )


@BOTH
def test_kernel_is_invariant_under_rotations(layers):
    x = random_inputs()
    rotation, _ = np.linalg.qr(random_inputs(4, 4, seed=3))
    # Rounding of a 4 x 4 product.
    np.testing.assert_allclose(
        relu_gram(x @ rotation, layers=layers), relu_gram(x, layers=layers), atol=1e-14
    )


@BOTH
def test_entries_equal_the_formula_with_arccos_away_from_parallel(layers):
    x = random_inputs()
    norms = np.linalg.norm(x, axis=1)
    c = (x @ x.T) / np.outer(norms, norms)
    theta = np.arccos(np.clip(c, -1, 1))
    expected = (x @ x.T) * (np.pi - theta) / (2 * np.pi)
    if layers == "both":
        expected += np.outer(norms, norms) * ((np.pi - theta) * c + np.sin(theta)) / (2 * np.pi)
    np.fill_diagonal(expected, norms**2 * (1 if layers == "both" else 0.5))
    np.testing.assert_allclose(relu_gram(x, layers=layers), expected, atol=20 * EPS * norms.max() ** 2)


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-8, 1e-10, 1e-12])
def test_nearly_parallel_inputs_keep_all_digits(angle):
    # lambda_min = 1/2 - cos(angle) (pi - angle) / (2 pi) at unit norm.
    x = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    gap = np.sin(angle / 2) ** 2 + np.cos(angle) * angle / (2 * np.pi)
    # A rounding eps / 2 of the entries 1/2 remains, whatever the angle; arccos would be off by 1e-9.
    assert relu_gram(x)[0, 0] - relu_gram(x)[0, 1] == pytest.approx(gap, rel=0, abs=4 * EPS)


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9, 1e-12])
def test_nearly_antipodal_inputs_keep_their_relative_accuracy(angle):
    x = np.array([[1.0, 0.0], [-np.cos(angle), np.sin(angle)]])
    expected = -np.cos(angle) * angle / (2 * np.pi)
    # Half-angles leave a relative error of some eps in an entry that itself tends to 0.
    assert relu_gram(x)[0, 1] == pytest.approx(expected, rel=16 * EPS)


@BOTH
def test_kernel_is_exactly_symmetric_read_only_and_has_the_exact_diagonal(layers):
    gram = relu_gram(random_inputs(40, 7), layers=layers)
    assert np.array_equal(gram, gram.T)
    assert not gram.flags.writeable
    # Norms that are exact in float64, so that the diagonal has to be.
    c = np.random.default_rng(4).uniform(1, 2, size=50)
    expected = c**2 if layers == "both" else c**2 / 2
    assert np.array_equal(np.diagonal(relu_gram(np.diag(c), layers=layers)), expected)


def test_antipodal_pair_has_smallest_eigenvalue_one_half():
    x = np.array([[0.6, 0.8], [-0.6, -0.8]])
    # The kernel is I / 2; only the normalisation rounds.
    np.testing.assert_allclose(relu_gram(x), np.eye(2) / 2, atol=2 * EPS)
    np.testing.assert_allclose(relu_gram(x, layers="both"), np.eye(2), atol=2 * EPS)


@BOTH
@pytest.mark.parametrize(("p", "d"), [(3, 2), (4, 3), (5, 3)])
def test_more_antipodal_pairs_than_dimensions_are_singular(layers, p, d):
    half = random_inputs(p, d)
    x = np.concatenate([half, -half])
    # Zero up to the rounding of an eigenvalue problem of size 2p and norm below 2p max |x|^2.
    assert abs(lambda_min(x, layers)) < 2 * p * EPS * 2 * p * (half**2).sum(axis=1).max()
    with pytest.raises(ValueError, match=rf"{p} antipodal pairs of rows \(0 and {p}, .*linearly dependent"):
        relu_gram(x, layers=layers)


@BOTH
@pytest.mark.parametrize(("p", "d"), [(1, 1), (2, 2), (3, 3), (3, 5)])
def test_linearly_independent_antipodal_pairs_are_no_error(layers, p, d):
    half = random_inputs(p, d)
    x = np.concatenate([half, -half])
    assert np.linalg.eigvalsh(relu_gram(x, layers=layers))[0] > 1e-4


def test_dependent_antipodal_pairs_within_the_dimension_are_refused():
    half = random_inputs(3, 5)
    half[2] = half[0] - 2 * half[1]
    x = np.concatenate([half, -half, random_inputs(4, 5, seed=5)])
    with pytest.raises(ValueError, match="linearly dependent"):
        validate_inputs(x)
    assert abs(lambda_min(x)) < 1e-13


def test_refusal_of_antipodal_pairs_agrees_with_the_eigenvalue_on_both_sides():
    # Directions e1, e2, e1 + e2 + s e3: lambda_min is of order s^2.
    def pairs(s):
        half = np.array([[1, 0, 0], [0, 1, 0], [1, 1, s]])
        return np.concatenate([half, -half])

    validate_inputs(pairs(1e-5))
    assert lambda_min(pairs(1e-5)) > 1e-12  # about 1.7e-11, far above rounding
    with pytest.raises(ValueError, match="linearly dependent"):
        validate_inputs(pairs(1e-8))
    assert abs(lambda_min(pairs(1e-8))) < 1e-15


@pytest.mark.parametrize("factor", [3.0, 0.1, 1 / 3, 1e100, 1e-100])
def test_parallel_rows_are_named(factor):
    x = random_inputs(8, 5)
    x[6] = factor * x[2]
    with pytest.raises(ValueError, match=r"parallel rows 2 and 6.*drop one"):
        validate_inputs(x)


def test_identical_rows_are_named_and_the_first_pair_is_reported():
    x = random_inputs(8, 5)
    x[7], x[5] = x[1], x[3]
    with pytest.raises(ValueError, match="identical rows 1 and 7"):
        relu_gram(x)


def test_parallel_rows_are_found_across_blocks(monkeypatch):
    monkeypatch.setattr("odeopt.kernels.inputs.WORK_ENTRIES", 16)
    x = random_inputs(40, 3)
    validate_inputs(x)
    x[33] = 2 * x[17]
    with pytest.raises(ValueError, match="parallel rows 17 and 33"):
        validate_inputs(x)


def test_kernel_does_not_depend_on_the_block_size(monkeypatch):
    x = np.concatenate([random_inputs(8, 3), random_inputs(8, 3) + 1e-6])
    whole = relu_gram(x)
    monkeypatch.setattr("odeopt.kernels.inputs.WORK_ENTRIES", 6)
    assert np.array_equal(relu_gram(x), whole)


@pytest.mark.parametrize("angle", [1e-6, 1e-9, 1e-12])
def test_nearly_parallel_rows_that_the_kernel_still_separates_are_accepted(angle):
    # lambda_min = angle / (2 pi) is above the rounding n eps of the eigenvalues.
    x = np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    validate_inputs(x)
    assert np.linalg.eigvalsh(relu_gram(x))[0] == pytest.approx(angle / (2 * np.pi), rel=1e-3, abs=0)


def test_singular_kernel_is_returned_on_request():
    gram = relu_gram([[1.0, 0.0], [2.0, 0.0]], allow_singular=True)
    np.testing.assert_allclose(gram, [[0.5, 1.0], [1.0, 2.0]], atol=4 * EPS)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, np.nan], [0.0, 1.0]], r"x must be finite, but x\[0, 1\] is nan \(1 such entry"),
        ([[1.0, 1.0], [-np.inf, np.inf]], r"x\[1, 0\] is -inf \(2 such entries"),
        ([1.0, 2.0], r"x must have shape \(n, d\), got \(2,\)"),
        (np.ones((2, 2, 2)), r"x must have shape \(n, d\), got \(2, 2, 2\)"),
        (np.ones((0, 3)), r"x must not be empty, got shape \(0, 3\)"),
        (np.ones((3, 0)), "x must not be empty"),
        ([[1.0, 0.0], [0.0, 0.0]], "row of zero norm: row 1"),
        ([["a", "b"]], "x must hold real numbers"),
        ([[1j, 1.0]], "x must hold real numbers, got dtype complex128"),
        ([[1.0, 2.0], [3.0]], "x is not an array of numbers"),
        (
            np.array([[None, 1.0]]),
            r"x must hold real numbers, got dtype object, in which x\[0, 0\] is None; remove",
        ),
    ],
)
def test_bad_inputs_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        relu_gram(x)


@pytest.mark.parametrize("size", [1e160, 1e-170])
def test_norms_outside_the_range_are_refused(size):
    with pytest.raises(ValueError, match=r"rescale x to norms near 1"):
        relu_gram(size * np.eye(2))


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match=r"layers must be 'first' or 'both', got 'last'"):
        relu_gram(np.eye(2), layers="last")


def test_inputs_are_copied():
    x = np.eye(3)
    assert validate_inputs(x) is not x
    assert not np.shares_memory(validate_inputs(x), x)


def test_valid_kernels_come_back_symmetric_and_read_only():
    gram = relu_gram(random_inputs()).copy()
    gram[0, 1] *= 1 + 4 * EPS  # rounding is no asymmetry
    checked = validate_kernel(gram)
    assert np.array_equal(checked, checked.T)
    assert not checked.flags.writeable
    np.testing.assert_allclose(checked, gram, rtol=4 * EPS)


def test_singular_semidefinite_kernel_is_accepted():
    j = random_inputs(6, 2)
    validate_kernel(j @ j.T)  # rank 2: four eigenvalues are zero up to rounding, of either sign
    validate_kernel(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((2, 3)), r"kernel must be square, got shape \(2, 3\)"),
        (
            [[1.0, 0.5], [0.4, 1.0]],
            r"symmetric, but entries \(0, 1\) and \(1, 0\) differ by 0\.1 .*\(H \+ H\.T\) / 2",
        ),
        ([[1.0, 2.0], [2.0, 1.0]], r"positive semidefinite, but its smallest eigenvalue is -1 .*J @ J\.T"),
        ([[1.0, 0.0], [0.0, -1e-9]], r"smallest eigenvalue is -1e-09"),
        ([[1.0, np.nan], [np.nan, 1.0]], r"kernel must be finite, but kernel\[0, 1\] is nan"),
        (np.ones(3), r"kernel must have shape"),
        (np.ones((0, 0)), "kernel must not be empty"),
    ],
)
def test_bad_kernels_are_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        validate_kernel(kernel)


def test_single_precision_asymmetry_is_refused_with_its_size():
    gram = relu_gram(random_inputs()).copy()
    gram[0, 1] *= 1 + 1e-6
    with pytest.raises(ValueError, match="H0 must be symmetric"):
        validate_kernel(gram, name="H0")


@pytest.mark.parametrize("n", [1, 2, 3, 5, 60])
def test_norm_bound_holds_and_is_near_in_few_products(n):
    rng, count = np.random.default_rng(n), 0
    factor = rng.standard_normal((n, 4)) * 10.0 ** rng.uniform(-2, 2, (n, 1))
    factor[::4] = 0.0
    for matrix in (
        factor @ factor.T,
        relu_gram(rng.standard_normal((n, 5)) + 1),
        np.diag(np.arange(n) + 1.0),
    ):
        size, count = np.abs(matrix), 0

        def product(x, size=size):
            nonlocal count
            count += 1
            return size @ x

        bound, largest = norm_bound(product, n), float(np.linalg.eigvalsh(size)[-1])
        # each product lowers the bound by a factor of the gap, and the last one by less than 1e-3
        assert largest * (1 - 8 * n * np.finfo(float).eps) <= bound <= 1.05 * largest + 1e-300
        assert count <= 8
