"""Steady rules with momentum over long runs: bounds in closed form, against powers in ball arithmetic."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from balls import long_losses, outside

from odeopt import QHM, HeavyBall, NesterovConstant, TorchSGD, TripleMomentum, loss_curve, spectral_measure
from odeopt.rules import transition_matrix
from odeopt.rules.reading import read
from odeopt.spectra import driven
from odeopt.spectra.convolved import convolved
from odeopt.spectra.responses import Responses, step_floats
from odeopt.spectra.two_term import TwoTerm

RULES = [
    HeavyBall(0.5, 0.9),
    HeavyBall(3.9, 0.99),
    HeavyBall((1 - np.sqrt(0.99)) ** 2, 0.99),  # a double root at the upper end
    HeavyBall(1.0, 0.0),
    NesterovConstant(1.3, 0.999),
    NesterovConstant(1.0, 0.9),  # both roots 0 at the upper end
    TorchSGD(0.3, 0.9, dampening=0.3),
    TorchSGD(0.3, 0.9, nesterov=True),
    QHM(1.0, 0.9, 0.7),
    TripleMomentum(0.5, 0.7, 0.3, 1.0),
    HeavyBall(3.81, 0.9),  # just beyond the limit of stability
]
RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
MESH = np.unique(np.concatenate([[0.0], np.geomspace(1e-12, 1, 800), np.linspace(0, 1, 1001)]))


@RULE
def test_powers_of_a_step_of_two_terms_stay_within_bounds_that_are_near(rule):
    last = 300
    M, N, A, B = step_floats(read(rule), last)[-1]
    found = TwoTerm((M, N, A, B), 0.0, 1.0, last)
    bounds = np.array([[found.entry(row, column) for column in range(2)] for row in range(2)])
    of_gradient = found.along(*N[:, 0])
    step = transition_matrix(rule, MESH, 5)
    power = np.broadcast_to(np.eye(2), step.shape)
    for i in range(last + 1):
        largest = np.abs(power).max(axis=0)
        rounding = 1 - 1e-13 * (1 + i)  # of the power that is computed here
        assert np.all(bounds[:, :, i] >= rounding * largest)
        assert np.all(bounds[0, :, i] <= 1.7 * largest[0] + 1e-15 * largest.max())
        response = np.abs(power[:, 0] @ N[:, 0]).max()
        assert rounding * response <= of_gradient[i] <= 1.6 * response
        power = power @ step


def test_steps_that_hardly_move_and_those_that_leave_the_numbers_have_bounds_too():
    step = step_floats(read(HeavyBall(1.0, 0.5)), 1)[0]
    for high in (0.0, 1e-320, 1e-160):
        found = TwoTerm(step, 0.0, high, 100)
        true = 2 - 0.5 ** np.arange(101)
        assert np.all((true <= found.entry(0, 0)) & (found.entry(0, 0) <= 2 * (1 + 1e-9)))
    assert np.all(TwoTerm(step, 0.0, 1e200, 100).entry(0, 0)[1:] >= 1e200)


@RULE
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 1.0)])
def test_forces_by_blocks_are_those_of_single_steps(rule, interval):
    steps = 590
    matrices, k = step_floats(read(rule), steps), np.array([1, 17, 256, 400, 590])
    force = np.random.default_rng(0).standard_normal((steps, 1)) * 0.99 ** np.arange(steps)[:, None]
    force[60:100] *= 1e-250  # summed without signs
    found = Responses(matrices, k, True, read(rule).law_from, 1, *interval)
    assert found.powers is not None
    blocks = found._driven_by_blocks(found.powers, np.zeros(2), force[:, 0])
    found.powers = None
    single = found.driven(np.zeros(2), force)
    # one mesh for both; the allowances for rounding differ, with sums over squares of responses to 1e-4
    np.testing.assert_allclose(blocks, single, rtol=1e-3)


@pytest.mark.parametrize("rule", [RULES[0], RULES[1], RULES[4], RULES[7]], ids=lambda rule: rule.label)
def test_points_whose_sums_of_sizes_stay_below_what_is_seen_change_no_bound(rule, monkeypatch):
    last = 2500
    matrices, k = step_floats(read(rule), last), np.array([30, 310, 900, last])
    force = np.random.default_rng(0).standard_normal((last, 1)) * 0.999 ** np.arange(last)[:, None]
    mesh = []

    def on_all(powers, vectors, lam, *rest):
        mesh.append((lam.size, int(chosen(powers, vectors, lam, *rest).sum())))
        return np.ones(lam.size, bool)

    chosen = driven._may_be_larger
    bounds = Responses(matrices, k, True, read(rule).law_from, 1, 0.0, 1.0)
    found = bounds.driven(np.zeros(2), force)
    monkeypatch.setattr("odeopt.spectra.driven._may_be_larger", on_all)
    # fewer points show smaller largest values to the allowances for rounding, which are 1e-8 of these bounds
    np.testing.assert_allclose(bounds.driven(np.zeros(2), force), found, rtol=1e-7)
    assert any(few < many / 4 for many, few in mesh)


def test_a_sum_of_sizes_that_is_small_enough_stands():
    last, k = 2500, np.array([900, 2500])
    force = np.random.default_rng(0).standard_normal((last, 1))
    found = Responses(step_floats(read(RULES[0]), last), k, True, 0, 1, 0.0, 1.0)
    plain, signed = found.of_gradients(np.abs(force)), found.driven(np.zeros(2), force)
    assert np.all(signed < plain)
    assert np.array_equal(found.driven(np.zeros(2), force, plain), plain)
    np.testing.assert_allclose(
        found.driven(np.zeros(2), force, plain * [1, 0.9]), [plain[0], signed[1]], rtol=1e-9
    )


@pytest.mark.parametrize("count", [1, 2, 5, 18, 1000])
def test_a_convolution_of_sizes_is_right_to_a_few_roundings_of_each_entry(count):
    rng = np.random.default_rng(0)
    size, force = rng.random(count), rng.random(count) * 10.0 ** -np.linspace(0, 40, count)
    places = np.arange(-3, count)
    each = [size[: p + 1][::-1] @ force[: p + 1] if p >= 0 else 0.0 for p in places]
    for some in (slice(None), slice(None, None, 40)):
        found = convolved(size, force, places[some])
        np.testing.assert_allclose(found, np.array(each)[some], rtol=4e-16 * count, atol=0)
    assert convolved(np.array([1.0, np.inf]), np.zeros(2), np.array([1]))[0] == np.inf


@RULE
def test_what_a_faded_force_has_left_is_carried_on(rule):
    last, place = 4000, 520
    reading = read(rule)
    matrices, k = step_floats(reading, last), np.array([place + 1, place + 40, last])
    force = np.zeros((last, 1))
    force[:place, 0] = np.random.default_rng(0).standard_normal(place)
    force[place:] = 1e-30 * force[:place].max()
    found = Responses(matrices, k, True, reading.law_from, 1, 0.1, 1.0)
    bound = found.driven(np.zeros(2), force)
    lam, state, true = np.linspace(0.1, 1, 4001), np.zeros((2, 4001)), []
    for j, (M, N, A, _) in enumerate(matrices):
        state = M @ state + N * (lam * (A[0] @ state) + force[j])
        true += [np.abs(state[0]).max()] if j + 1 in k else []
    rounding = 1 - 1e-9  # of the run here
    assert np.all(rounding * np.array(true) <= bound)
    # the largest values of two parts lie at different eigenvalues, and momentum adds their sizes
    assert bound[0] <= 60 * true[0]


def test_each_of_many_late_iterates_has_a_bound(monkeypatch):
    monkeypatch.setattr("odeopt.spectra.responses._MOST_PRODUCTS", 1e8)  # those of 200 iterates
    last = 3000
    matrices, force = step_floats(read(RULES[0]), last), 0.999 ** np.arange(float(last))[:, None]
    found = Responses(matrices, np.arange(600, last + 1, 7), True, 0, 1, 0.0, 1.0)
    bounds = found.driven(np.zeros(2), force)
    # at lam = 0 the sum of all forces, times 1 / (1 - momentum) of the learning rate
    sums = 0.5 * 1e4 * (1 - 0.999**found.k)
    assert np.all((0.98 * sums <= bounds) & (bounds <= 2 * sums))


def drawn(seed):
    """A rule near a double root, the limit of stability, or anywhere; eigenvalues, error, iterations."""
    rng = np.random.default_rng([7, seed])
    n, momentum = int(rng.integers(1, 13)), 1 - 10.0 ** rng.uniform(-6, -0.05)
    lam = 10.0 ** rng.uniform(-rng.choice([0.3, 2, 6, 12]), 0, n)
    lam[rng.random(n) < rng.choice([0.0, 0.3], p=[0.8, 0.2])] = 0.0
    top = lam.max() or 1.0
    near = rng.choice([1e-15, 1e-12, 1e-8, 1e-3]) * rng.choice([-1.0, 0.0, 1.0])
    limits = {"ball": 2 * (1 + momentum), "nesterov": 2 * (1 + momentum) / (1 + 2 * momentum)}
    name = rng.choice(["ball", "nesterov", "torch", "torch nesterov", "quasi", "triple"])
    limit = limits["nesterov" if "nesterov" in name else "ball"]
    lr = rng.choice(
        [
            limit * (1 - 10.0 ** rng.uniform(-12, -1)),
            limit * (1 + 10.0 ** rng.uniform(-12, -5)),
            (1 - np.sqrt(momentum)) ** 2 * (1 + near),
            (1 + np.sqrt(momentum)) ** 2 * (1 + near),
            1 + near,
            limit * 10.0 ** rng.uniform(-8, 0),
        ]
    )
    scale = 10.0 ** rng.uniform(-145, 145) if rng.random() < 0.4 else 1.0
    scale = max(scale, 1e-145 / top)  # Lanczos refuses kernels below 1e-150
    lr = float(lr / (scale * top))
    dampening = float(rng.choice([0.0, 0.5]))
    rule = {
        "ball": lambda: HeavyBall(lr, momentum),
        "nesterov": lambda: NesterovConstant(lr, momentum),
        "torch": lambda: TorchSGD(lr, momentum, dampening),
        "torch nesterov": lambda: TorchSGD(lr, momentum, nesterov=True),
        "quasi": lambda: QHM(lr, momentum, float(rng.uniform(0, 1))),
        "triple": lambda: TripleMomentum(lr / 2, momentum, float(rng.uniform(0, 1)), 0.0),
    }[name]()
    delta0 = rng.standard_normal(n) * (10.0 ** rng.uniform(-140, 140) if rng.random() < 0.2 else 1.0)
    last = int(rng.choice([60, 501, 2000, 6000, 20_000], p=[0.25, 0.25, 0.25, 0.15, 0.1]))
    k = np.unique(np.concatenate([[0, 1], rng.integers(0, last, 6), last - rng.integers(0, 60, 2), [last]]))
    return rule, scale * lam, delta0, k, rng


def stays_finite(rule, measure, k):
    """Where no error along the interval of the spectrum grows beyond the numbers by step k."""
    step = transition_matrix(rule, np.linspace(*measure.interval, 1001), 5)
    growth = np.log10(max(np.abs(np.linalg.eigvals(step)).max(), 1.0))
    return 2 * k * growth + np.log10(measure.mass) < 290


def missed(seed, counts):
    """The points at which a proved bracket misses the truth."""
    rule, lam, delta0, k, rng = drawn(seed)
    kernel, steps = np.diag(lam), int(rng.integers(1, lam.size + 1))
    interval = (float(lam.min()) * rng.integers(2), float(lam.max()) or 1.0) if rng.random() < 0.6 else None
    options = [{}, {"num_matvecs": lam.size}, {"num_matvecs": steps, "interval": interval}]
    measure = spectral_measure(kernel, delta0, **options[rng.choice(3, p=[0.15, 0.35, 0.5])])
    curve, true = loss_curve(rule, measure, k), long_losses(rule, lam, delta0, k.tolist())
    finite = stays_finite(rule, measure, k)
    counts["points"] += int(finite.sum())
    counts["proved"] += int(curve.proved[finite].sum())
    counts["narrow"] += int((curve.upper - curve.lower <= 1e-6 * curve.loss).sum())
    return [
        f"seed {seed}: {rule} at {k[i]}: [{curve.lower[i]!r}, {curve.upper[i]!r}] misses {ball.str(25)}"
        for i, ball in enumerate(true)
        if curve.proved[i] and outside(curve.lower[i], ball, curve.upper[i])
    ]


def test_no_proved_bracket_of_10_long_runs_misses_the_truth():
    counts = collections.Counter()
    assert not [line for seed in range(10) for line in missed(seed, counts)]
    assert counts["proved"] == counts["points"]
    assert counts["narrow"] > 0.4 * counts["points"]


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_no_proved_bracket_of_3000_long_runs_misses_the_truth(block):
    counts = collections.Counter()
    assert not [line for seed in range(100 + 300 * block, 400 + 300 * block) for line in missed(seed, counts)]
    assert counts["proved"] == counts["points"] > 2500


@pytest.mark.parametrize("rule", [HeavyBall(1e-4, 0.9999), TorchSGD(0.1, 0.9, 0.3)])
def test_brackets_of_20000_steps_are_proved_and_say_something(rule):
    lam, delta0 = np.geomspace(1e-4, 1, 40), np.random.default_rng(1).standard_normal(40)
    k = np.array([0, 300, 7001, 20_000])
    curve = loss_curve(rule, spectral_measure(np.diag(lam), delta0, num_matvecs=36), k)
    assert curve.proved.all()
    true = long_losses(rule, lam, delta0, k.tolist())
    assert not [i for i in range(4) if outside(curve.lower[i], true[i], curve.upper[i])]
    assert curve.upper[-1] < 0.1 * curve.upper[0]
