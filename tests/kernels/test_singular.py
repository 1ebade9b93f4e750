"""What makes a kernel singular: its null space is that of the eigenvalue problem, and no more."""

import numpy as np
import pytest

from odeopt import relu_gram, relu_gram_operator
from odeopt.kernels import validate_inputs
from odeopt.kernels.inputs import singular_part, unit_rows

EPS = np.finfo(float).eps


def rows(seed, n=12, d=3, *, copies=0, blanks=0, opposite=0):
    """Random rows, then multiples of some, blank ones, and the negatives of others, in random order."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    more = [
        x[rng.integers(0, n, copies)] * rng.uniform(0.1, 9, (copies, 1)),
        np.zeros((blanks, d)),
        -x[:opposite] * rng.uniform(0.1, 9, (opposite, 1)),
    ]
    return rng.permutation(np.concatenate([x, *more]))


KINDS = [
    {},
    {"copies": 5},
    {"blanks": 2},
    {"opposite": 3},  # as many pairs as dimensions: independent
    {"opposite": 5},
    {"copies": 6, "blanks": 3, "opposite": 6},
    {"n": 4, "d": 1, "copies": 3},
    {"n": 5, "d": 2, "copies": 8, "opposite": 5},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("layers", ["first", "both"])
@pytest.mark.parametrize("depth", [1, 2])
def test_null_space_is_that_of_the_eigenvalue_problem(kind, layers, depth):
    for seed in range(3):
        x = rows(seed, **kind)
        unit, _ = unit_rows(x)
        part = singular_part(x, depth=depth)
        values, vectors = np.linalg.eigh(relu_gram(unit, layers=layers, depth=depth, allow_singular=True))
        # The smallest other eigenvalue of such rows is above 1e-6; zeros come out at rounding.
        zero = values < 1e-10
        assert zero.sum() == part.dimension == len(x) - part.rank
        delta = np.random.default_rng(seed).standard_normal(len(x))
        inside = vectors[:, zero].T @ delta
        # Eigenvectors are off by eps |H| / gap.
        assert part.plateau(delta) == pytest.approx((inside**2).sum() / 2, abs=1e-8)
        reduced = part.reduced(delta)
        assert (reduced**2).sum() / 2 + part.plateau(delta) == pytest.approx((delta**2).sum() / 2, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_reduced_rows_have_the_kernel_off_the_null_space(kind):
    x = rows(4, **kind)
    unit, _ = unit_rows(x)
    part = singular_part(x)
    whole = relu_gram(unit, allow_singular=True)
    small = relu_gram(part.reduced_rows(unit), allow_singular=True)
    wanted, found = np.linalg.eigvalsh(whole), np.linalg.eigvalsh(small)
    np.testing.assert_allclose(found[-part.rank :], wanted[-part.rank :], atol=1e3 * EPS * wanted[-1])
    # delta' H^p delta are the moments of the error, on which all curves depend
    delta = np.random.default_rng(5).standard_normal(len(x))
    reduced = part.reduced(delta)
    for p in (1, 2, 3):
        moments = [v @ np.linalg.matrix_power(h, p) @ v for v, h in ((delta, whole), (reduced, small))]
        assert moments[1] == pytest.approx(moments[0], rel=1e-10)


def test_groups_are_named_by_their_rows():
    x = [[0, 0], [1, 0], [2, 0], [0, 1], [3, 0], [0, 0], [0, -1]]
    part = singular_part(np.array(x, dtype=float))
    assert part.blank == (0, 5)
    assert part.parallel == ((1, 2, 4),)
    assert part.antipodal == ()
    assert str(part) == "2 blank row(s) (0, 5); 1 group(s) of parallel rows (1, 2, 4)"
    assert str(singular_part(np.eye(2))) == "none"
    assert not singular_part(np.eye(2))
    assert singular_part(np.zeros((2, 3))).dimension == 2


def test_nearly_parallel_rows_are_one_direction_below_the_tolerance_only():
    for gap, dimension in ((1e-17, 1), (1e-12, 0)):
        x = np.array([[1.0, 0.0], [1.0, gap], [0.3, 0.4]])
        assert singular_part(x).dimension == dimension


def test_many_equal_rows_are_found_without_their_pairs():
    # 2e8 pairs of equal rows: by sorting they are two directions
    x = np.linspace(-1, 1, 20_000)[:, None]
    part = singular_part(x)
    assert part.rank == 2
    assert [len(group) for group in part.parallel] == [10_000, 10_000]


def test_blank_rows_have_a_kernel_of_zeros_where_singular_ones_are_allowed():
    x = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    for layers in ("first", "both"):
        gram = relu_gram(x, layers=layers, allow_singular=True)
        assert not gram[1].any()
        assert not gram[:, 1].any()
        np.testing.assert_array_equal(gram[::2, ::2], relu_gram(x[::2], layers=layers))
        operator = relu_gram_operator(x, layers=layers, allow_singular=True)
        np.testing.assert_allclose(operator @ np.eye(3), gram, rtol=8 * EPS, atol=8 * EPS)
    with pytest.raises(ValueError, match="row of zero norm: row 1"):
        relu_gram_operator(x)


def test_antipodal_pairs_are_no_reason_to_refuse_more_than_one_hidden_layer():
    half = np.random.default_rng(0).standard_normal((4, 2))
    x = np.concatenate([half, -half])
    with pytest.raises(ValueError, match="4 antipodal pairs"):
        relu_gram_operator(x)
    assert validate_inputs(x, depth=2).shape == (8, 2)
    deep = relu_gram(x, depth=2)
    assert np.linalg.eigvalsh(deep)[0] > 1e-3
    np.testing.assert_allclose(relu_gram_operator(x, depth=2) @ np.eye(8), deep, atol=8 * EPS)
