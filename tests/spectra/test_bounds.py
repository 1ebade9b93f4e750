"""Brackets: the true curve never leaves one that is marked rigorous; the theorems behind them."""

import dataclasses
import itertools

import mpmath
import numpy as np
import pytest
import scipy.integrate
import sympy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo import kernel_with

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    error_dynamics,
    loss_curve,
    mode_solution,
    ode_limit,
    relu_gram,
    spectral_measure,
)
from odeopt.data import load_digits, prepare
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import iterate
from odeopt.rules.linear import residual_polynomials
from odeopt.spectra.bracket import Integrand, bessel_zero_bound, bracket
from odeopt.spectra.bracket_ode import mode_integrand
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


def mode_of(rule):
    return mode_solution(error_dynamics(ode_limit(rule)))


# The ODEs of these depend on no number but r, so that they are derived once.
FLOW = mode_of(GradientDescent(0.1))
BESSEL = [mode_of(Nesterov(0.1, r)) for r in (1, 3, 6.5)]
OSCILLATOR = error_dynamics(ode_limit(HeavyBall(0.01, 0.8)))


def with_friction(b):
    stiffness, _, mass = OSCILLATOR.coefficients
    return mode_solution(
        dataclasses.replace(OSCILLATOR, coefficients=(stiffness, sympy.Float(float(b)), mass))
    )


def ode_modes(lam):
    top, low = max(lam.max(), 1e-3), max(lam.min(), 1e-4)
    frictions = (0.6 * np.sqrt(low), 2 * np.sqrt(low), np.sqrt(top), 2.2 * np.sqrt(top))
    return [FLOW, *BESSEL, *map(with_friction, frictions)]


def rules(lam):
    top = max(lam.max(), 1e-3)
    return [
        GradientDescent(0.9 / top),
        GradientDescent(1.9 / top),
        HeavyBall(1.5 / top, 0.9),
        NesterovConstant(1.0 / top, 0.9),
        Nesterov(1.0 / top, 3),
        HigherMomentum(0.5 / top, (0.2, 0.5)),
        TripleMomentum(1.0 / top, 0.7, 0.3, 1.0),
        TorchSGD(0.5 / top, 0.8, dampening=0.3),
    ]


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


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
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
    decay, bessel = FLOW, BESSEL[1]
    for t in (0.01, 0.3, 5.0):
        with mpmath.workdps(40):
            flow = sum(w * mpmath.exp(-2 * t * v) for v, w in zip(values, weights, strict=True)) / 2
            x = [t * mpmath.sqrt(abs(v)) for v in values]
            nesterov = (
                sum(w * (2 * mpmath.besselj(1, z) / z) ** 2 for z, w in zip(x, weights, strict=True)) / 2
            )
        for mode, exact in ((decay, flow), (bessel, nesterov)):
            curve = loss_curve(mode, measure, [t])
            assert curve.rigorous
            assert curve.lower[0] <= exact <= curve.upper[0]


def test_brackets_close_as_steps_are_added():
    lam = np.geomspace(1e-3, 10, 300)
    delta0 = np.random.default_rng(1).standard_normal(300)
    decay, bessel = FLOW, BESSEL[1]
    for mode, t in ((decay, [2.0]), (bessel, [5.0])):
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
    """THEORY 6.2: (-1)^n d^n/dlam^n of the squared mode is positive while 2 t sqrt(lam) < j_(r-1+n,1)."""
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
    flow, bessel = FLOW, BESSEL[1]
    blind = spectral_measure(aslinearoperator(kernel), np.ones(50), num_matvecs=8)
    told = spectral_measure(aslinearoperator(kernel), np.ones(50), num_matvecs=8, interval=(0, 4))
    assert loss_curve(flow, blind, [1.0]).rigorous
    assert loss_curve(bessel, blind, [1.0]).rigorous  # by the residual
    assert loss_curve(bessel, told, [1.0]).rigorous
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


def decaying_problem():
    """A spectrum that falls off, as those of kernels do: Lanczos converges long before degrees say so."""
    lam = 0.9 ** np.arange(300)
    return lam, np.random.default_rng(5).standard_normal(300)


@pytest.mark.parametrize(
    "rule",
    [HeavyBall(1.9, 0.9), NesterovConstant(1.2, 0.9), Nesterov(1.0, 3), TripleMomentum(1.0, 0.7, 0.3, 1)],
)
def test_residual_bounds_close_where_degrees_do_not(rule):
    lam, delta0 = decaying_problem()
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=60)
    exact = loss_curve(rule, spectral_measure(np.diag(lam), delta0), [150, 200])
    curve = loss_curve(rule, measure, [150, 200])
    assert curve.rigorous
    assert np.all((curve.lower <= exact.loss) & (exact.loss <= curve.upper))
    # beyond the 60 exact steps, and yet rounding is most of what is left
    assert np.all(curve.upper - curve.lower < 4 * curve.rounding + 1e-6 * exact.loss)


@pytest.mark.parametrize("mode", [with_friction(0.1), BESSEL[1]], ids=["friction", "vanishing"])
def test_residual_bounds_of_an_ode_need_no_upper_end(mode):
    from scipy.sparse.linalg import aslinearoperator

    lam, delta0 = decaying_problem()
    blind = spectral_measure(aslinearoperator(np.diag(lam)), delta0, num_matvecs=60)
    times = np.array([10.0, 100.0, 250.0])
    exact = loss_curve(mode, spectral_measure(np.diag(lam), delta0), times)
    curve = loss_curve(mode, blind, times)
    assert curve.rigorous
    assert np.all((curve.lower <= exact.loss) & (exact.loss <= curve.upper))
    assert np.all(curve.upper - curve.lower < 4 * curve.rounding + 1e-6 * exact.loss)


@pytest.fixture(scope="module")
def digits_problem():
    x = prepare(*load_digits(400)).x
    kernel, delta0 = relu_gram(x), np.random.default_rng(0).standard_normal(400)
    return kernel, spectral_measure(kernel, delta0), spectral_measure(kernel, delta0, num_matvecs=150)


def at_a_share(curve, share):
    """Last point of the grid at which the loss is not yet below a share of the first."""
    return int(np.flatnonzero(curve.loss >= share * curve.loss[0])[-1])


def test_allowance_for_rounding_falls_with_the_loss(digits_problem):
    """A priori, |E| times a Lipschitz constant, it would stay where it is: above 1 % of the loss at 1e-7."""
    _, exact, measure = digits_problem
    low, high = exact.lam_min, measure.interval[1]
    friction = 2 * np.sqrt(low)
    heavy = HeavyBall(3 / high, (1 - np.sqrt(low / high)) ** 2)
    cases = [
        (FLOW, np.linspace(0, 9 / low, 200)),
        (with_friction(friction), np.linspace(0, 24 / friction, 200)),
        (heavy, np.arange(0, 1500, 5)),
        (NesterovConstant(1 / high, heavy.momentum), np.arange(0, 1500, 5)),
    ]
    for method, grid in cases:
        curve, true = loss_curve(method, measure, grid), loss_curve(method, exact, grid)
        i = at_a_share(true, 1e-7)
        assert true.loss[i + 1] < 1e-7 * true.loss[0]
        width = (curve.upper - curve.lower)[i]
        assert curve.rigorous
        assert curve.lower[i] <= true.loss[i] <= curve.upper[i]
        assert width < 1e-3 * true.loss[i], curve.source
        if isinstance(method, ModeSolution):
            a_priori = bracket(mode_integrand(method, grid), measure)
            assert a_priori.rounding[i] > 0.01 * true.loss[i], curve.source
            assert width < a_priori.rounding[i] / 100


@pytest.mark.parametrize("share", [1.0, 1.9])  # of 1 / lambda_max: factors of one sign, and of both
def test_brackets_of_descent_hold_for_any_number_of_steps(digits_problem, share):
    _, exact, measure = digits_problem
    rule, k = GradientDescent(share / measure.interval[1]), np.array([3, 149, 150, 1000, 20_000, 200_000])
    curve, true = (loss_curve(rule, found, k) for found in (measure, exact))
    assert curve.rigorous
    assert true.loss[-1] < 1e-12 * true.loss[0]
    # The reference rounds too: 200,000 steps by up to 9e-11 of the loss.
    slack = 1e-10 * true.loss
    assert np.all((curve.lower <= true.loss + slack) & (true.loss - slack <= curve.upper))
    assert np.all((curve.upper - curve.lower)[:-1] < 1e-3 * true.loss[:-1])


def test_brackets_of_vanishing_friction_stay_narrow_at_late_times(digits_problem):
    """A priori bounds need a degree of t sqrt(lambda_max), here 20 times the number of steps."""
    _, exact, measure = digits_problem
    grid = np.linspace(0, 600, 200)
    assert 600 * np.sqrt(measure.interval[1]) > 20 * 2 * measure.num_matvecs
    curve, true = (loss_curve(BESSEL[1], found, grid) for found in (measure, exact))
    assert curve.rigorous
    assert true.loss[-1] < 1e-5 * true.loss[0]
    assert np.all((curve.lower <= true.loss) & (true.loss <= curve.upper))
    assert np.all(curve.upper - curve.lower < 1e-3 * true.loss)


@pytest.mark.parametrize("r", [1.5, 3.0, 6.5])
@pytest.mark.parametrize("stiffness", [0.0, 0.01, 1.0, 100.0])
def test_response_to_an_impulse_is_bounded_by_that_of_a_free_mode(r, stiffness):
    for begin in (0.1, 2.0):
        t = np.linspace(begin, begin + 40, 400)
        solved = scipy.integrate.solve_ivp(
            lambda t, x: (x[1], -r / t * x[1] - stiffness * x[0]), (begin, t[-1]), (0.0, 1.0),
            method="DOP853", t_eval=t, rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        # the solver's tolerance
        assert np.all(np.abs(solved.y[0]) <= np.minimum(t - begin, begin / (r - 1)) + 1e-8)


@pytest.mark.parametrize("mode", [*BESSEL, with_friction(0.3), with_friction(2.0)], ids=str)
def test_envelopes_bound_their_modes_from_each_time_on(mode):
    t, lam = np.linspace(0, 60, 3001), np.array([2.5, 7.0, 300.0])  # above b^2 / 2
    ode = mode_integrand(mode, t)
    values, envelope = np.abs(mode(t, lam)), ode.envelope(t, lam)
    later = np.maximum.accumulate(values[::-1])[::-1]
    assert np.all(later <= envelope + 1e-12)  # rounding of the modes
    assert np.all(envelope[-1] < 0.5) or mode is BESSEL[0]  # r = 1 has an envelope of 1


# Times in units that suit each ODE; the last are those of a late loss.
LATE = (1.0, 4.0, 9.0)


def precise_modes(lam, friction, units):
    """The modes of gradient flow, friction and friction 3/t in 40 digits, each with its times."""

    def damped(t, value):
        z = mpmath.sqrt(mpmath.mpf(friction) ** 2 / 4 - value)
        growth = mpmath.cosh(t * z) + friction / 2 * mpmath.sinh(t * z) / z
        return mpmath.re(mpmath.exp(-mpmath.mpf(friction) * t / 2) * growth)

    def bessel(t, value):
        z = t * mpmath.sqrt(value)
        return 2 * mpmath.besselj(1, z) / z

    functions = (lambda t, value: mpmath.exp(-t * value), damped, bessel)
    modes = (FLOW, with_friction(friction), BESSEL[1])
    for mode, function, unit in zip(modes, functions, units, strict=True):
        times = [float(unit * t) for t in LATE]
        yield mode, times, [[function(mpmath.mpf(t), value) for value in lam] for t in times]


@pytest.mark.parametrize("seed", range(4))
def test_late_brackets_hold_without_slack_in_high_precision(seed):
    """A diagonal kernel has its eigenvalues exactly; the iterates are those of the rule in 40 digits."""
    rng = np.random.default_rng(seed)
    lam, delta0 = 10.0 ** rng.uniform(-1.5, 2, 24), rng.standard_normal(24)
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=22)
    top, friction = lam.max(), float(2 * np.sqrt(lam.min()))
    found, precise = [], []
    with mpmath.workdps(40):
        values, weights = [mpmath.mpf(v) for v in lam], [mpmath.mpf(v) ** 2 for v in delta0]

        def loss(modes):
            return sum(w * p**2 for w, p in zip(weights, modes, strict=True)) / 2

        units = (1 / lam.min(), 2 / friction, 40 / np.sqrt(top))
        for mode, times, at_times in precise_modes(values, friction, units):
            found.append(loss_curve(mode, measure, times))
            precise.append([loss(modes) for modes in at_times])
        k = [60, 200]
        for rule in rules(lam):
            runs = [
                list(itertools.islice(iterate(rule, mpmath.mpf(1), lambda z, v=v: v * z), 201))
                for v in values
            ]
            found.append(loss_curve(rule, measure, k))
            precise.append([loss([run[step] for run in runs]) for step in k])
        for curve, exact in zip(found, precise, strict=True):
            assert curve.rigorous
            for low, true, high in zip(curve.lower, exact, curve.upper, strict=True):
                assert low <= true <= high, curve.source


def test_curves_without_bounds_say_so():
    lam, delta0 = decaying_problem()
    measure = spectral_measure(np.diag(lam), delta0, num_matvecs=20)
    with_, without = (loss_curve(HeavyBall(1.0, 0.9), measure, [5, 50], bounds=b) for b in (True, False))
    np.testing.assert_allclose(without.loss, with_.loss, rtol=1e-12)  # order of sums
    assert (without.lower.tolist(), without.upper.tolist()) == ([0, 0], [np.inf, np.inf])
    assert not without.rigorous


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_brackets_of_changing_steps_do_not_depend_on_the_unit_of_the_kernel(rng, scale):
    values, delta0, k = np.r_[1.0, rng.uniform(0, 1e-3, 9)], rng.standard_normal(10), np.array([30, 230, 500])
    curves = [
        loss_curve(
            Nesterov(0.1 / size, r=2.0), spectral_measure(size * np.diag(values), delta0, num_matvecs=2), k
        )
        for size in (1.0, scale)
    ]
    exact = 0.5 * residual_polynomials(Nesterov(0.1, r=2.0), values, k) ** 2 @ delta0**2
    for curve in curves:
        # two steps of Lanczos know the loss to a tenth at best, the recursion at hand to 1e-12
        assert curve.proved.all() and (curve.lower <= exact).all() and (exact <= curve.upper).all()
    # a bracket has the digits of the matrix that Lanczos rounds anew in each unit, times 500 steps
    np.testing.assert_allclose(curves[1].upper, curves[0].upper, rtol=1e-9)


def test_unstable_brackets_do_not_warn(rng):
    kernel = np.diag(np.r_[1.0, rng.uniform(0, 1e-3, 9)])
    measure = spectral_measure(kernel, 1e8 * rng.standard_normal(10), num_matvecs=5)
    curve = loss_curve(TorchSGD(1.99, momentum=0.9, nesterov=True), measure, np.arange(0, 700))
    assert (curve.lower <= curve.upper).all() and curve.upper[-1] == np.inf
