"""Brackets: the true curve never leaves one that is marked rigorous; the theorems behind them."""

import mpmath
import numpy as np
import pytest
from curves import bessel, flow, ode_modes, rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo import kernel_with

from odeopt import (
    GradientDescent,
    HeavyBall,
    loss_curve,
    spectral_measure,
)
from odeopt.spectra.bracket import Integrand, bessel_zero_bound, bracket
from odeopt.spectra.measure import SpectralMeasure

EPS = np.finfo(float).eps


@st.composite
def spectra(draw):
    """Eigenvalues spread over 1e-6 to 1e3: scattered, clustered, repeated, singular."""
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    kind = draw(st.sampled_from(["scattered", "clustered", "repeated", "singular", "decaying"]))
    if kind == "decaying":
        lam = 1e3 * draw(st.floats(0.2, 0.95)) ** np.arange(n) + 1e-6
    else:
        lam = 10.0 ** rng.uniform(-6, 3, n)
    if kind == "clustered":
        centres = 10.0 ** rng.uniform(-6, 3, 3)
        lam = centres[rng.integers(0, 3, n)] * (1 + 1e-5 * rng.standard_normal(n))
    if kind == "repeated":
        lam = lam[rng.integers(0, max(2, n // 4), n)]
    if kind == "singular":
        lam[rng.random(n) < 0.4] = 0.0
    delta0 = rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 2)
    delta0[rng.random(n) < draw(st.sampled_from([0.0, 0.3]))] = 0.0
    if not delta0.any():
        delta0[0] = 1.0
    return lam, delta0


def assert_inside(curve, exact, scale):
    # The reference sums at most 60 squares of modes evaluated to some 1e-13 of their largest value, 1.
    slack = 1e-13 * scale
    inside = (curve.lower - slack <= exact) & (exact <= curve.upper + slack)
    assert np.all(inside | ~curve.proved), (curve.source, np.flatnonzero(~inside))


def check_brackets(problem, m, at):
    """A diagonal kernel has its eigenvalues to the last bit, so that the true curve is known."""
    lam, delta0 = problem
    m = min(m, lam.size)
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=m)
    true = SpectralMeasure(lam, delta0**2, exact=True)
    scale = 0.5 * true.mass
    top = max(lam.max(), 1e-3)
    # times around those at which m steps begin and cease to resolve the curves
    fast, slow = 10.0 ** (at - 1) / top, 10.0**at / np.sqrt(top)
    for mode in ode_modes(lam):
        unit = fast if mode.family == "exponential" else slow
        t = unit * np.array([0.0, 0.1, 1.0, 3.0])
        curve = loss_curve(mode, measure, t)
        assert_inside(curve, loss_curve(mode, true, t).loss, scale)
        assert curve.rigorous
    k = np.array([0, 1, m - 1, m, 2 * m, 3 * m + 20])
    for rule in rules(lam):
        curve = loss_curve(rule, measure, k)
        exact = loss_curve(rule, true, k).loss
        assert_inside(curve, exact, scale)
        assert curve.rigorous
        # exact for k < m, but for rounding
        early = k < m
        np.testing.assert_array_less(
            np.abs(curve.loss - exact)[early], curve.rounding[early] + 1e-13 * scale + 1e-300
        )


PROBLEMS = {"problem": spectra(), "m": st.integers(1, 25), "at": st.floats(-1.0, 3.0)}


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(**PROBLEMS)
def test_no_true_curve_leaves_a_rigorous_bracket(problem, m, at):
    check_brackets(problem, m, at)


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(**PROBLEMS)
def test_no_true_curve_of_200_problems_leaves_a_rigorous_bracket(problem, m, at):
    check_brackets(problem, m, at)


@pytest.mark.parametrize("seed", range(3))
def test_rotated_kernel_against_eigenvalues_in_high_precision(seed):
    """The kernel has rounded entries; its eigenvalues are those of that very matrix, to 40 digits."""
    rng = np.random.default_rng(seed)
    kernel = kernel_with(10.0 ** rng.uniform(-4, 2, 9), seed=seed)
    delta0 = rng.standard_normal(9)
    with mpmath.workdps(40):
        values, vectors = mpmath.eigsy(mpmath.matrix(kernel.tolist()))
        weights = [(vectors[:, i].T * mpmath.matrix(delta0.tolist()))[0] ** 2 for i in range(9)]
    measure = spectral_measure(kernel, delta0, num_matvecs=4)
    decay, vanishing = flow(), bessel(3)
    for t in (0.01, 0.3, 5.0):
        with mpmath.workdps(40):
            decayed = sum(w * mpmath.exp(-2 * t * v) for v, w in zip(values, weights, strict=True)) / 2
            x = [t * mpmath.sqrt(abs(v)) for v in values]
            nesterov = (
                sum(w * (2 * mpmath.besselj(1, z) / z) ** 2 for z, w in zip(x, weights, strict=True)) / 2
            )
        for mode, exact in ((decay, decayed), (vanishing, nesterov)):
            curve = loss_curve(mode, measure, [t])
            assert curve.rigorous
            assert curve.lower[0] <= exact <= curve.upper[0]


def test_brackets_close_as_steps_are_added():
    lam = np.geomspace(1e-3, 10, 300)
    delta0 = np.random.default_rng(1).standard_normal(300)
    decay, vanishing = flow(), bessel(3)
    for mode, t in ((decay, [2.0]), (vanishing, [5.0])):
        curves = [
            loss_curve(mode, spectral_measure(np.diag(lam), delta0, num_matvecs=m), t)
            for m in (5, 10, 20, 40)
        ]
        widths = np.array([(c.upper - c.lower - 2 * c.rounding)[0] for c in curves])
        # what remains of a closed bracket is the rounding of a difference of values near 100
        assert np.all(np.diff(widths) < 1e-13 * curves[0].loss[0])
        assert widths[-1] < 1e-10 * curves[-1].loss[0]


@pytest.mark.parametrize("nu", [0.5, 0.75, 1.0, 2.5, 7.0, 20.0, 99.5])
def test_bound_on_the_first_zero_is_below_it_and_near(nu):
    zero = float(mpmath.besseljzero(nu, 1))
    bound = bessel_zero_bound(nu)
    assert bound <= zero
    assert zero - bound < 1 + nu ** (1 / 3)  # about nu + 1.07 nu^(1/3) against nu + 1.86 nu^(1/3)


def test_zero_bound_needs_order_one_half():
    with pytest.raises(ValueError, match=r"nu must be at least 1/2, got 0\.3"):
        bessel_zero_bound(0.3)


@pytest.mark.parametrize("n", [2, 3, 7, 12])
def test_squared_bessel_modes_keep_their_sign_up_to_the_zero(n):
    """(-1)^n d^n/dlam^n of the squared mode is positive while 2 t sqrt(lam) < j_(r-1+n,1)."""
    r = 3
    with mpmath.workdps(60):
        limit = mpmath.besseljzero(r - 1 + n, 1) / 2

        def f(lam):
            return mpmath.hyp0f1(mpmath.mpf(r + 1) / 2, -lam / 4) ** 2  # t = 1

        for share in (0.1, 0.5, 0.9, 0.999):
            assert (-1) ** n * mpmath.diff(f, (share * limit) ** 2, n) > 0


def test_unknown_functions_are_bounded_but_not_marked_rigorous():
    lam = np.linspace(0, 4, 100)
    measure = spectral_measure(np.diag(lam), np.ones(100), num_matvecs=12)
    wave = Integrand(lambda x, rows: np.cos(3 * x)[None] ** 2, 1)
    found = bracket(wave, measure)
    exact = 0.5 * np.sum(np.cos(3 * lam) ** 2)
    assert found.lower[0] <= exact <= found.upper[0] < exact * 1.001
    assert not found.proved[0]


def test_operator_without_known_interval_claims_only_what_needs_none():
    from scipy.sparse.linalg import aslinearoperator

    kernel = np.diag(np.linspace(0.1, 4, 50))
    decay, vanishing = flow(), bessel(3)
    blind = spectral_measure(aslinearoperator(kernel), np.ones(50), num_matvecs=8)
    told = spectral_measure(aslinearoperator(kernel), np.ones(50), num_matvecs=8, interval=(0, 4))
    assert loss_curve(decay, blind, [1.0]).rigorous
    assert loss_curve(vanishing, blind, [1.0]).rigorous  # by the residual
    assert loss_curve(vanishing, told, [1.0]).rigorous
    assert loss_curve(HeavyBall(0.1, 0.5), blind, [7]).rigorous  # exact, whatever the interval
    assert not loss_curve(HeavyBall(0.1, 0.5), blind, [8]).rigorous


def test_unstable_iteration_has_trivial_bounds():
    measure = spectral_measure(np.diag(np.linspace(1, 2, 20)), np.ones(20), num_matvecs=5)
    curve = loss_curve(HeavyBall(50.0, 0.5), measure, [0, 400])
    assert curve.diverged_at == 1
    assert (curve.lower[1], curve.upper[1]) == (0.0, np.inf)


def test_several_right_hand_sides_add_up():
    lam = np.geomspace(1e-2, 10, 80)
    delta0 = np.random.default_rng(3).standard_normal((80, 3))
    delta0[:, 1] = 0
    together = spectral_measure(np.diag(lam), delta0, num_matvecs=9)
    rule, k = GradientDescent(0.05), [0, 5, 50]
    alone = [loss_curve(rule, spectral_measure(np.diag(lam), delta0[:, i], num_matvecs=9), k) for i in (0, 2)]
    curve = loss_curve(rule, together, k)
    for name in ("loss", "lower", "upper"):
        np.testing.assert_allclose(
            getattr(curve, name), sum(getattr(c, name) for c in alone), rtol=1e-12
        )  # order of sums
