"""Modes of third order and higher: slow roots beside fast ones, multiple roots, a null space."""

import itertools

import flint
import mpmath
import numpy as np
import pytest

from odeopt import HigherMomentum, error_dynamics, loss_curve, mode_solution, ode_limit, spectral_measure
from odeopt.dynamics.characteristic import characteristic_roots, constant_coefficient_mode


def in_balls(times, monic, start):
    """exp(t C) of the companion matrix, in 4000 bits."""
    n = len(monic)
    with flint.ctx.workprec(4000):
        rows = [[int(j == i + 1) for j in range(n)] for i in range(n - 1)]
        companion = flint.arb_mat([*rows, [-flint.arb(float(c)) for c in monic]])
        first = flint.arb_mat([[flint.arb(float(d))] for d in start])
        states = [(companion * flint.arb(float(t))).exp() * first for t in times]
        return np.array([float(state[0, 0].mid()) for state in states])


def polynomial(roots):
    return np.real(np.poly(roots))[::-1][:-1]


@pytest.mark.parametrize("kind", ["far apart", "complex pair", "near one another"])
def test_modes_are_right_to_eight_digits_whatever_the_roots(kind):
    rng = np.random.default_rng(["far apart", "complex pair", "near one another"].index(kind))
    for _ in range(25):
        n = int(rng.integers(3, 6))
        roots = -(10.0 ** rng.uniform(-6, 6, n)) + 0j
        if kind == "complex pair":
            roots[0] += 1j * 10.0 ** rng.uniform(-3, 3)
            roots[1] = roots[0].conj()
        if kind == "near one another":
            roots[1] = roots[0] * (1 + 10.0 ** rng.uniform(-12, -1))
        monic = polynomial(roots)
        start = np.r_[1.0, rng.standard_normal(n - 1) * np.abs(roots).min()]
        times = 1.7 / np.abs(roots.real)
        got = constant_coefficient_mode(times, monic[:, None], start[1:, None])[:, 0]
        # a rounding of the largest term, which the sum may fall below
        np.testing.assert_allclose(got, in_balls(times, monic, start), rtol=1e-8, atol=1e-14)


def test_slow_roots_have_all_their_digits():
    roots = -np.array([[1e-9, 1.0, 1e9], [2e-12, 3e-12, 1.0]])
    found = np.sort(characteristic_roots(np.array([polynomial(r) for r in roots]).T).real, axis=1)
    # coefficients are rounded themselves
    np.testing.assert_allclose(found, np.sort(roots, axis=1), rtol=1e-13)


def test_triple_roots_and_roots_zero_are_found():
    found = characteristic_roots(np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 2.0]]))
    np.testing.assert_allclose(np.sort(found.real, axis=1), [[-1, -1, -1], [-2, 0, 0]], atol=1e-15)


def test_a_null_space_keeps_its_error():
    mode = mode_solution(error_dynamics(ode_limit(HigherMomentum(1e-3, (0.3, 0.2)), regime="inertial")))
    assert mode.family == "characteristic"
    np.testing.assert_array_equal(mode([0.0, 1.0, 1e12], [0.0]), [[1.0], [1.0], [1.0]])


@pytest.mark.parametrize(("lr", "momenta"), [(1e-8, (0.1, 0.1)), (1e-6, (0.2, 0.5))])
def test_a_third_order_loss_falls_by_its_slow_root(lr, momenta):
    """(2 - b1)/h, (1 - b1 - b2)/h^2 and lam from rest: exp(-2)/2 and exp(-10)/2 at slow times."""
    mode = mode_solution(error_dynamics(ode_limit(HigherMomentum(lr, momenta), regime="inertial")))
    with mpmath.workdps(60):
        step = mpmath.cbrt(mpmath.mpf(lr))
        c1 = (1 - mpmath.mpf(momenta[0]) - mpmath.mpf(momenta[1])) / step**2
        c2 = (2 - mpmath.mpf(momenta[0])) / step
        roots = mpmath.polyroots([1, c2, c1, mpmath.mpf(lr)], maxsteps=500, extraprec=400)
        powers = mpmath.matrix([[r**j for r in roots] for j in range(3)])
        weights = mpmath.lu_solve(powers, mpmath.matrix([1, 0, 0]))
        t = [float(c1) / lr, 5 * float(c1) / lr]
        true = [
            float(abs(sum(w * mpmath.exp(r * s) for w, r in zip(weights, roots, strict=True))) ** 2 / 2)
            for s in t
        ]
    curve = loss_curve(mode, spectral_measure([[lr]], [1.0], num_matvecs=1), t)
    # coefficients of the limit are rounded to some 1e-15 of themselves
    np.testing.assert_allclose(curve.loss, true, rtol=1e-12)


def test_375_modes_of_third_order_agree_with_balls():
    worst, grid = (
        0.0,
        itertools.product(10.0 ** -np.arange(1.0, 6), 10.0 ** -np.arange(0.0, 5), (0.1, 1.0, 10.0)),
    )
    for c1, lam, c2 in grid:
        monic = np.array([lam, c1, c2])
        times = np.array([0.1, 0.5, 1.0, 2.0, 5.0]) * c1 / lam
        got = constant_coefficient_mode(times, monic[:, None], np.zeros((2, 1)))[:, 0]
        true = in_balls(times, monic, [1.0, 0.0, 0.0])
        worst = max(
            worst, float(np.max(np.abs(got - true) / np.maximum(np.abs(true), 1e-12 * np.abs(true).max())))
        )
    assert worst < 1e-8
