"""The bound on the largest eigenvalue holds for every start and number of steps, and is near after many."""

import numpy as np
import pytest

from odeopt.spectra.lanczos import lanczos
from odeopt.spectra.largest import largest_eigenvalue_bound


def bound(kernel, start, steps):
    (chain,) = lanczos(lambda v: kernel @ v, start.reshape(-1, 1), steps)
    size = np.abs(kernel).max()  # whose square may leave the range
    return largest_eigenvalue_bound(chain, float(size * np.linalg.norm(kernel / size)), len(kernel))


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e140])
def test_bound_holds_for_any_number_of_steps_and_ends_at_the_eigenvalue(rng, scale):
    for n in (1, 2, 5, 12):
        A = rng.standard_normal((n, 2 * n))
        kernel = scale * A @ A.T
        largest = np.linalg.eigvalsh(kernel)[-1]
        found = [bound(kernel, rng.standard_normal(n), m) for m in range(1, n + 1)]
        # eigvalsh is off by some eps n
        assert min(found) >= largest * (1 - 1e-13)
        # what is left of the Frobenius norm comes out at sqrt(eps), and adds its square
        assert found[-1] == pytest.approx(largest, rel=1e-7)


def test_an_eigenvalue_that_the_start_does_not_see_is_not_forgotten(rng):
    lam = np.array([1.0, 2.0, 3.0, 10.0])
    start = np.array([1.0, 1.0, 1.0, 0.0])
    assert bound(np.diag(lam), start, 3) == pytest.approx(10.0, rel=1e-7)


def test_bound_is_near_for_a_kernel_of_mixed_signs_whose_row_sums_are_not(rng):
    x = rng.standard_normal((200, 6))
    kernel = x @ x.T
    largest = np.linalg.eigvalsh(kernel)[-1]
    assert np.abs(kernel).sum(axis=1).max() > 1.4 * largest
    assert largest <= bound(kernel, rng.standard_normal(200), 12) * (1 + 1e-13)
    assert bound(kernel, rng.standard_normal(200), 12) < 1.001 * largest
