"""Spectral measures by eigh: moments, mass and refusals."""

import numpy as np
import pytest
from zoo import kernel_with

from odeopt import spectral_measure


@pytest.fixture
def problem():
    rng = np.random.default_rng(1)
    return kernel_with(np.geomspace(1e-3, 10, 12)), rng.standard_normal(12)


@pytest.mark.parametrize("power", range(6))
def test_moments_are_those_of_the_kernel(problem, power):
    kernel, delta0 = problem
    measure = spectral_measure(kernel, delta0)
    want = delta0 @ np.linalg.matrix_power(kernel, power) @ delta0
    # eigh is backward stable: relative error n * eps on each moment of a positive measure
    assert measure.integrate(lambda lam: lam**power) == pytest.approx(want, rel=1e-12)


def test_mass_is_the_squared_norm_and_arrays_are_read_only(problem):
    measure = spectral_measure(*problem)
    assert measure.mass == pytest.approx(problem[1] @ problem[1], rel=1e-13)
    assert measure.exact
    with pytest.raises(ValueError, match="read-only"):
        measure.nodes[0] = 0


def test_singular_kernel_gives_zero_nodes_not_negative_ones():
    factor = np.random.default_rng(2).standard_normal((6, 3))
    measure = spectral_measure(factor @ factor.T, np.ones(6))
    assert measure.lam_min == pytest.approx(0, abs=1e-14)
    assert np.all(measure.nodes >= 0)


@pytest.mark.parametrize(
    ("kernel", "delta0", "words"),
    [
        (np.eye(3), np.ones(2), ["delta0", "(3,)", "(2,)"]),
        (np.eye(2), [1.0, np.inf], ["delta0", "inf", "entry 1"]),
        (np.ones((2, 3)), np.ones(2), ["kernel", "square"]),
        ([[1.0, 0.5], [0.0, 1.0]], np.ones(2), ["kernel", "symmetric"]),
        (np.diag([1.0, -1.0]), np.ones(2), ["kernel", "semidefinite", "-1"]),
        (np.diag([1.0, np.nan]), np.ones(2), ["kernel", "nan"]),
    ],
)
def test_bad_input_is_refused(kernel, delta0, words):
    with pytest.raises(ValueError) as error:
        spectral_measure(kernel, delta0)
    for word in words:
        assert word in str(error.value)
