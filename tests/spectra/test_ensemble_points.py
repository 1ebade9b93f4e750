"""Means and variances on points from Lanczos runs of their own, against all eigenvectors."""

import numpy as np
import pytest
import scipy

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    error_dynamics,
    mode_solution,
    ode_limit,
    spectral_measure,
)
from odeopt.kernels import NetworkKernel
from odeopt.spectra import ensemble, ensemble_at

X, POINTS = np.split(np.random.default_rng(2).standard_normal((124, 5)), [120])
Y = np.stack([np.sin(X[:, 0]), X[:, 1]], axis=1)
NTK, NNGP = (NetworkKernel(2, bias_variance=0.1, kind=kind) for kind in ("ntk", "nngp"))
KERNEL, CROSS, STEPS = NTK(X), NTK(POINTS, X), 30
STARTS = {"cross_nngp": NNGP(POINTS, X), "points_nngp": NNGP.diagonal(POINTS)}
FIRST = NNGP.operator(X, X)
DENSE, ROWS = spectral_measure(KERNEL, -Y), spectral_measure(KERNEL, CROSS.T, num_matvecs=STEPS)
LR = 1 / DENSE.lam_max
RULES = [HeavyBall(LR, 0.9), Nesterov(LR), GradientDescent(LR, weight_decay=0.01, to_start=True)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_a_run_for_each_point_gives_what_all_eigenvectors_give(rule):
    k = np.array([0, 1, STEPS, 60, 400])
    wanted = ensemble(rule, DENSE, NNGP(X), k, cross_kernel=CROSS, **STARTS)
    found = ensemble_at(rule, ROWS, FIRST, Y, k, **STARTS)
    off = np.abs(found.mean - wanted.mean).reshape(len(k), -1).max(axis=1)
    off_variance = np.abs(found.variance - wanted.variance).max(axis=1)
    for gaps, error in ((off, found.mean_error), (off_variance, found.variance_error)):
        np.testing.assert_array_equal(error[:3], 0)
        assert gaps[:3].max() < 1e-12  # roundings of up to 120 terms of order 1
        assert (gaps[3:] < error[3:] + 1e-12).all()
    assert found.variance_error[3] < 1e-2 * wanted.variance[3].max()
    stored = ensemble_at(rule, ROWS, NNGP(X), Y[:, 0], k, **STARTS)
    np.testing.assert_allclose(stored.mean, found.mean[:, :, 0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(stored.variance, found.variance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_bounds_hold_and_are_small_where_lanczos_has_converged(rule):
    k, more = np.array([0, 1, 30, 60, 200]), spectral_measure(KERNEL, CROSS.T, num_matvecs=60)
    wanted = ensemble(rule, DENSE, NNGP(X), k, cross_kernel=CROSS, **STARTS)
    for rows, first in ((ROWS, FIRST), (more, FIRST), (more, NNGP(X)), (more, NNGP.gram_operator(X))):
        found = ensemble_at(rule, rows, first, Y, k, bounds=True, **STARTS)
        off = np.abs(found.mean - wanted.mean).max(axis=(1, 2))
        assert (off <= found.mean_bound + 1e-12).all()  # and what rounds in the other route
        off = np.abs(found.variance - wanted.variance).max(axis=1)
        assert (off <= found.variance_bound + 1e-12).all()
        assert found.mean_bound[:3].max() < 1e-7 and found.variance_bound[:3].max() < 1e-6
        assert np.isfinite(found.variance_bound).all()


def test_bounds_that_are_not_known_are_infinite():
    hidden = scipy.sparse.linalg.aslinearoperator(np.array(NNGP(X)))  # of a norm that nothing bounds
    found = ensemble_at(RULES[0], ROWS, hidden, Y, [0, 30], bounds=True, **STARTS)
    assert np.isfinite(found.mean_bound).all() and np.isinf(found.variance_bound).all()
    assert ensemble_at(RULES[0], ROWS, FIRST, Y, [0, 30], **STARTS).mean_bound is None


def test_an_ode_has_the_same_moments_by_both_routes():
    mode, t = mode_solution(error_dynamics(ode_limit(HeavyBall(LR, 0.9)))), np.array([0.0, 0.5, 2.0])
    wanted = ensemble(mode, DENSE, NNGP(X), t, cross_kernel=CROSS, **STARTS)
    found = ensemble_at(mode, ROWS, FIRST, Y, t, **STARTS)
    assert (np.abs(found.mean - wanted.mean).max(axis=(1, 2)) < found.mean_error + 1e-12).all()
    assert (np.abs(found.variance - wanted.variance).max(axis=1) < found.variance_error + 1e-12).all()
    assert found.variance_error[1] < 1e-3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rows": DENSE}, "as rows has 120 examples and 2 points"),
        ({"rows": spectral_measure(KERNEL, -Y[:, 0])}, "rows must be the measure"),
        ({"y": Y[:3]}, r"y must have shape \(120, 2\)"),
        ({"nngp": np.eye(3)}, "nngp must have shape"),
        ({"points_nngp": np.eye(4)}, "points_nngp must have shape"),
        ({"cross_nngp": 10 * STARTS["cross_nngp"]}, "no covariances of one function"),
        ({"mode_or_rule": GradientDescent(LR, weight_decay=0.1)}, "decay to_start"),
        ({"grid": np.arange(10**7)}, "GiB that may be used"),
    ],
)
def test_what_does_not_fit_is_refused(changes, reason):
    given = {"mode_or_rule": RULES[0], "rows": ROWS, "nngp": FIRST, "y": Y, "grid": [0, 30], **STARTS}
    with pytest.raises(ValueError, match=reason):
        ensemble_at(**given | changes)
