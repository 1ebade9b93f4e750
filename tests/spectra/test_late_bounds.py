"""Brackets beyond the exact steps: narrow at late times and small losses, by residuals and responses."""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.integrate
from curves import bessel, flow, rules, with_friction

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
    loss_curve,
    relu_gram,
    spectral_measure,
)
from odeopt.data import load_digits, prepare
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import iterate
from odeopt.rules.linear import residual_polynomials
from odeopt.spectra.bracket import bracket
from odeopt.spectra.bracket_ode import mode_integrand


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


@pytest.mark.parametrize(
    ("mode", "value"), [(with_friction, 0.1), (bessel, 3)], ids=["friction", "vanishing"]
)
def test_residual_bounds_of_an_ode_need_no_upper_end(mode, value):
    from scipy.sparse.linalg import aslinearoperator

    lam, delta0 = decaying_problem()
    blind = spectral_measure(aslinearoperator(np.diag(lam)), delta0, num_matvecs=60)
    mode, times = mode(value), np.array([10.0, 100.0, 250.0])
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
        (flow(), np.linspace(0, 9 / low, 200)),
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
    rule, k = GradientDescent(share / measure.interval[1]), np.array([3, 149, 150, 1000, 20_000, 100_000])
    curve, true = (loss_curve(rule, found, k) for found in (measure, exact))
    assert curve.rigorous
    assert true.loss[-1] < 1e-12 * true.loss[0]
    # The reference rounds too: 100,000 steps by up to 9e-11 of the loss.
    slack = 1e-10 * true.loss
    assert np.all((curve.lower <= true.loss + slack) & (true.loss - slack <= curve.upper))
    assert np.all((curve.upper - curve.lower)[:-1] < 1e-3 * true.loss[:-1])


def test_brackets_of_vanishing_friction_stay_narrow_at_late_times(digits_problem):
    """A priori bounds need a degree of t sqrt(lambda_max), here 20 times the number of steps."""
    _, exact, measure = digits_problem
    grid = np.linspace(0, 600, 200)
    assert 600 * np.sqrt(measure.interval[1]) > 20 * 2 * measure.num_matvecs
    curve, true = (loss_curve(bessel(3), found, grid) for found in (measure, exact))
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


@pytest.mark.parametrize(
    ("mode", "value"),
    [(bessel, 1), (bessel, 3), (bessel, 6.5), (with_friction, 0.3), (with_friction, 2.0)],
)
def test_envelopes_bound_their_modes_from_each_time_on(mode, value):
    slow, mode = (mode, value) == (bessel, 1), mode(value)
    t, lam = np.linspace(0, 60, 3001), np.array([2.5, 7.0, 300.0])  # above b^2 / 2
    ode = mode_integrand(mode, t)
    values, envelope = np.abs(mode(t, lam)), ode.envelope(t, lam)
    later = np.maximum.accumulate(values[::-1])[::-1]
    assert np.all(later <= envelope + 1e-12)  # rounding of the modes
    assert np.all(envelope[-1] < 0.5) or slow  # r = 1 has an envelope of 1


# Times in units that suit each ODE; the last are those of a late loss.
LATE = (1.0, 4.0, 9.0)


def precise_modes(lam, friction, units):
    """The modes of gradient flow, friction and friction 3/t in 40 digits, each with its times."""

    def damped(t, value):
        z = mpmath.sqrt(mpmath.mpf(friction) ** 2 / 4 - value)
        growth = mpmath.cosh(t * z) + friction / 2 * mpmath.sinh(t * z) / z
        return mpmath.re(mpmath.exp(-mpmath.mpf(friction) * t / 2) * growth)

    def vanishing(t, value):
        z = t * mpmath.sqrt(value)
        return 2 * mpmath.besselj(1, z) / z

    functions = (lambda t, value: mpmath.exp(-t * value), damped, vanishing)
    modes = (flow(), with_friction(friction), bessel(3))
    for mode, function, unit in zip(modes, functions, units, strict=True):
        times = [float(unit * t) for t in LATE]
        yield mode, times, [[function(mpmath.mpf(t), value) for value in lam] for t in times]


@pytest.mark.parametrize("seed", range(2))
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
