"""What rounding does, and what a bracket that is called proved must therefore allow."""

import dataclasses
import itertools

import flint
import mpmath
import numpy as np
import pytest
from balls import mode_losses, outside, rule_losses
from curves import EPS, mode_of
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from zoo import kernel_with

from odeopt import (
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    TorchSGD,
    loss_curve,
    spectral_measure,
)
from odeopt.rules import UpdateRule
from odeopt.spectra.lanczos import lanczos
from odeopt.spectra.rounded import Rounded


def assert_holds(curve, true):
    missed = [i for i, ball in enumerate(true) if outside(curve.lower[i], ball, curve.upper[i])]
    assert not [i for i in missed if curve.proved[i]], curve.source


@pytest.mark.parametrize(
    ("lr", "momentum", "last"), [(1e-10, 0.9999, 1000), (1e-3, 0.999, 2000), (0.1, 0.9, 500)]
)
def test_momentum_amplifies_rounding_and_the_bracket_knows(lr, momentum, last):
    """It grows like eps k / (1 - momentum) at first: 1.6e-12 for the first of these."""
    curve = loss_curve(HeavyBall(lr, momentum), spectral_measure([[1.0]], [1.0], num_matvecs=1), [last])
    assert curve.proved.all()
    assert_holds(curve, rule_losses(HeavyBall(lr, momentum), [1.0], [1.0], [last]))
    # a bound, yet of the size of what happens: eps k / (1 - momentum), and a few roundings a step
    assert curve.upper[0] - curve.lower[0] < 100 * EPS * last * min(last, 1 / (1 - momentum))


@pytest.mark.parametrize("hidden", ["told by its type", "hidden behind float64", "hidden and scaled"])
@pytest.mark.parametrize("seed", range(6))
def test_an_operator_that_multiplies_in_single_precision_has_its_error_in_the_bracket(seed, hidden):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 20))
    factor = rng.standard_normal((n, 2 * n)).astype(np.float32) / np.float32(np.sqrt(2 * n))
    single = factor @ factor.T
    single = (single + single.T) / np.float32(2)
    factor = np.pi if hidden == "hidden and scaled" else 1.0
    exact, delta0 = factor * single.astype(float), rng.standard_normal(n)
    dtype = np.float32 if hidden == "told by its type" else float

    def product(x):
        return (single @ np.asarray(x).astype(np.float32)).astype(dtype) * dtype(factor)

    operator = LinearOperator((n, n), matvec=product, matmat=product, dtype=dtype)
    interval, k = (0.0, float(np.abs(exact).sum(1).max())), [0, 1, 2, 4]
    for steps in (1, 2):
        measure = spectral_measure(operator, delta0, num_matvecs=steps, interval=interval)
        for rule in (GradientDescent(0.5 / interval[1]), HeavyBall(0.5 / interval[1], 0.9)):
            curve = loss_curve(rule, measure, k)
            assert curve.proved.all()
            assert_holds(curve, rule_losses(rule, exact, delta0, k))
    assert measure.error > 1e-7 * np.linalg.eigvalsh(exact)[-1]


def test_products_in_double_precision_are_not_taken_for_single():
    kernel = kernel_with(np.geomspace(1e-3, 1, 20))
    (chain,) = lanczos(lambda v: kernel @ v, np.ones((20, 1)), 5)
    assert chain.error < 100 * EPS


@pytest.mark.parametrize("seed", range(4))
def test_both_engines_use_the_symmetric_part_and_count_the_rest(seed):
    """Entries (i, j) and (j, i) differ by 0.9e-10 of the largest entry, as much as is taken for rounding."""
    rng = np.random.default_rng(seed)
    kernel = kernel_with(rng.uniform(0.5, 1, 8), seed=seed)
    kernel += np.triu(rng.uniform(-0.9e-10, 0.9e-10, (8, 8)), 1) * np.abs(kernel).max()
    delta0, k = rng.standard_normal(8), [0, 5, 40]
    measures = [spectral_measure(kernel, delta0), spectral_measure(kernel, delta0, num_matvecs=8)]
    np.testing.assert_allclose(measures[0].nodes, measures[1].nodes, rtol=0, atol=1e-14)
    # an operator shows its asymmetry in its products alone, here in that of a random vector
    measures.append(spectral_measure(aslinearoperator(kernel), delta0, num_matvecs=1, interval=(0, 2)))
    for measure in measures:
        assert measure.error > np.linalg.norm(kernel - kernel.T, 2) / 4
        curve = loss_curve(HeavyBall(0.3, 0.7), measure, k)
        assert curve.proved.all()
        assert_holds(curve, rule_losses(HeavyBall(0.3, 0.7), kernel, delta0, k))


def test_lanczos_takes_of_an_array_its_numbers_and_refuses_masked_ones():
    kernel = kernel_with([1.0, 2.0, 3.0])
    unmasked = spectral_measure(np.ma.masked_array(kernel), np.ones(3), num_matvecs=2)
    np.testing.assert_array_equal(unmasked.nodes, spectral_measure(kernel, np.ones(3), num_matvecs=2).nodes)
    with pytest.raises(ValueError, match="kernel has masked entries"):
        spectral_measure(np.ma.masked_array(kernel, np.eye(3)), np.ones(3), num_matvecs=2)


def test_the_symmetric_part_of_a_float32_kernel_is_not_rounded_to_float32():
    kernel = np.diag(np.float32([1.0, 1e-3, 1e-3]))
    kernel[1, 2], kernel[2, 1] = 3e-4, np.nextafter(np.float32(3e-4), np.float32(1))
    assert kernel[2, 1] - kernel[1, 2] < 1e-10  # what is taken for rounding
    measure = spectral_measure(kernel, [0.0, 1.0, 1.0], num_matvecs=2)
    expected = float(kernel[1, 1]) + (float(kernel[1, 2]) + float(kernel[2, 1])) / 2
    assert measure.lam_max == pytest.approx(expected, rel=4 * EPS, abs=0)  # two products and a root


def test_a_decomposition_late_in_time_shows_its_own_rounding():
    """Eigenvalues 1e-13 and 1: at t = 1e13 the first is known to a part in a thousand only."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    kernel = turn @ np.diag([1e-13, 1.0]) @ turn.T
    kernel = (kernel + kernel.T) / 2
    t = np.array([0.1, 1e3, 1e11, 1e12, 1e13])
    with mpmath.workdps(60):
        values, vectors = mpmath.eigsy(mpmath.matrix(kernel.tolist()))
        parts = [(vectors[0, j] + vectors[1, j]) ** 2 for j in range(2)]
        true = [sum(p * mpmath.exp(-2 * v * s) for p, v in zip(parts, values, strict=True)) / 2 for s in t]
        curve = loss_curve(mode_of(GradientDescent(0.1)), spectral_measure(kernel, [1.0, 1.0]), t)
        assert curve.rigorous
        assert all(
            low <= loss <= high for low, loss, high in zip(curve.lower, true, curve.upper, strict=True)
        )
    width = (curve.upper - curve.lower) / curve.loss
    assert width[0] < 1e-13
    assert width[-1] > 1e-4


def test_a_corrected_flow_on_a_null_space_stays_where_it_is():
    """Five zero eigenvalues: the loss tends to 5/2; at 1e12 the rounding of the zeros shows."""
    lam = np.concatenate([np.zeros(5), np.linspace(0.5, 1, 5)])
    mode, t = mode_of(GradientDescent(0.5), resolution=1), np.array([1.0, 1e3, 1e6, 1e9, 1e12])
    measure = spectral_measure(np.diag(lam), np.ones(10), num_matvecs=10)
    curve = loss_curve(mode, measure, t)
    assert curve.proved.all()
    assert_holds(curve, mode_losses(mode, lam, np.ones(10), t))
    assert np.all((curve.lower <= 2.5) & (2.5 <= curve.upper) | (t < 1e3))


@pytest.mark.parametrize(
    ("rule", "options"),
    [
        (HigherMomentum(1e-3, (0.3, 0.2)), {"regime": "inertial"}),
        (Nesterov(0.01), {"resolution": 1}),
        (HeavyBall(0.01, 0.8), {"resolution": 1}),
    ],
    ids=["characteristic", "damped Bessel", "Hessian damping"],
)
@pytest.mark.parametrize("steps", [None, 3, 5])
def test_families_without_a_theorem_are_never_called_proved(rule, options, steps):
    measure = spectral_measure(np.diag([0.0, 0.3, 0.5, 0.7, 1.0]), np.ones(5), num_matvecs=steps)
    curve = loss_curve(mode_of(rule, **options), measure, [0.0, 1.0, 10.0])
    assert not curve.proved.any()
    assert np.all((curve.lower <= curve.loss) & (curve.loss <= curve.upper))


@dataclasses.dataclass(frozen=True)
class Cycle(UpdateRule):
    """Steps of 1.5, 0.5 and 1 times lr in turn, with momentum."""

    lr: float
    momentum: float
    history = 2
    period = 3

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        lr = self.lr * (1.5, 0.5, 1.0)[k % 3]
        return x + self.momentum * (x - x_prev) - lr * grad(x), memory


@dataclasses.dataclass(frozen=True)
class Extragradient(UpdateRule):
    """A gradient taken at a point to which another has led."""

    lr: float
    gradients = 2

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - self.lr * grad(x - self.lr * grad(x)), memory


@dataclasses.dataclass(frozen=True)
class Averaged(UpdateRule):
    """Gradients at an average that the memory holds."""

    lr: float
    weight: float

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad((1 - self.weight) * z + self.weight * x)
        return x + (z - x) / (k + 2), (z,)


@pytest.mark.parametrize(
    "rule", [Cycle(0.8, 0.5), Extragradient(0.5), Averaged(0.5, 0.9), TorchSGD(0.2, 0.9, 0.5)]
)
@pytest.mark.parametrize("steps", [None, 2, 4])
def test_periodic_nested_and_averaging_rules_have_brackets(rule, steps):
    lam, delta0, k = np.array([0.05, 0.2, 0.6, 1.0]), np.array([1.0, -2.0, 0.5, 1.5]), [0, 1, 2, 7, 50]
    curve = loss_curve(rule, spectral_measure(np.diag(lam), delta0, num_matvecs=steps), k)
    assert curve.proved.all()
    assert_holds(curve, rule_losses(rule, lam, delta0, k))
    if steps != 2:
        assert np.all(curve.upper - curve.lower < 1e-12 * curve.loss[0])


def test_the_error_of_a_step_is_that_of_its_operations():
    """Against the same step in 200 bits, from the same state."""
    rng, lam = np.random.default_rng(0), np.array([1e-3, 0.3, 1.0])
    for rule in (HeavyBall(0.7, 0.9), Nesterov(0.7), TorchSGD(0.3, 0.9, 0.3), Averaged(0.5, 0.9)):
        state = rng.standard_normal((3, 3))
        rounded = [Rounded(values) for values in state]
        iterates, memory = tuple(rounded[: rule.history]), tuple(rounded[rule.history :])
        empty = rule.initial_memory(rounded[0])
        memory = memory[: len(empty)] if empty else empty
        x, _ = rule.step(3, iterates, memory, lambda z: z.scaled(lam))
        with flint.ctx.workprec(200):
            balls = [np.vectorize(flint.arb, otypes=[object])(values) for values in state]
            kept = tuple(balls[rule.history :][: len(empty)]) if empty else empty
            exact, _ = rule.step(
                3,
                tuple(balls[: rule.history]),
                kept,
                lambda z: np.vectorize(flint.arb, otypes=[object])(lam) * z,
            )
            gaps = [abs(float(flint.arb(float(v)) - e)) for v, e in zip(x.value, exact, strict=True)]
        assert np.all(np.array(gaps) <= x.error)
        assert np.all(x.error < 50 * EPS)


def test_steps_that_are_no_linear_functions_of_the_error_have_no_curve():
    @dataclasses.dataclass(frozen=True)
    class Decayed(UpdateRule):
        lr: float
        decay: float

        def step(self, k, iterates, memory, grad):
            (x,) = iterates
            return x - self.lr * (grad(x) + self.decay * x), memory

    @dataclasses.dataclass(frozen=True)
    class LineSearch(UpdateRule):
        lr: float
        gradients = 2

        def step(self, k, iterates, memory, grad):
            (x,) = iterates
            g = grad(x)
            return x - self.lr * (g * g).sum() / ((g * grad(g)).sum() + 1e-300) * g, memory

    measures = [spectral_measure(np.diag([0.1, 1.0]), [1.0, 1.0], num_matvecs=steps) for steps in (None, 1)]
    for measure, bounds in itertools.product(measures, (True, False)):
        with pytest.raises(
            ValueError, match=r"linear, but no step in the error alone.* sum to .* instead of 1"
        ):
            loss_curve(Decayed(0.1, 0.5), measure, [0, 5], bounds=bounds)
        with pytest.raises(ValueError, match=r"is not linear"):
            loss_curve(LineSearch(1.0), measure, [0, 5], bounds=bounds)


@pytest.mark.parametrize("size", [1.0, 1e140, 1e-140])
def test_a_loss_below_the_range_of_float64_is_not_said_to_be_zero(size):
    rule = HeavyBall(1.0, 0.01)
    for steps in (None, 1):
        curve = loss_curve(rule, spectral_measure([[1.0]], [size], num_matvecs=steps), [150, 400, 1000])
        assert_holds(curve, rule_losses(rule, [1.0], [size], [150, 400, 1000]))
        assert np.all(curve.upper > 0)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e-165, 1e165, 1e290])
def test_a_kernel_whose_squares_leave_float64_is_decomposed_rightly_and_refused_by_lanczos(size):
    """Norms that underflow ended the chain, norms that overflow spoiled it, and both were called exact."""
    kernel, delta0, k = size * kernel_with(np.linspace(0.1, 1.0, 6)), np.arange(1.0, 7.0), [0, 1, 10, 300]
    rule = GradientDescent(0.5 / size)
    curve = loss_curve(rule, spectral_measure(kernel, delta0), k)
    assert curve.rigorous
    assert_holds(curve, rule_losses(rule, kernel, delta0, k))
    operator = LinearOperator((6, 6), matvec=lambda x: kernel @ x, matmat=lambda x: kernel @ x, dtype=float)
    for given in (kernel, operator):
        with pytest.raises(ValueError, match="whose square leaves the range of float64"):
            spectral_measure(given, delta0, num_matvecs=3)


@pytest.mark.parametrize("steps", [None, 3])
def test_an_error_whose_squares_underflow_is_refused(steps):
    """Under growing modes half of its mass, or all, was lost, and the bounds were called proved."""
    kernel, delta0, rule = kernel_with(np.linspace(0.1, 1.0, 6)), np.full(6, 1e-145), GradientDescent(5.0)
    curve = loss_curve(rule, spectral_measure(kernel, delta0, num_matvecs=steps), [0, 1, 100])
    assert_holds(curve, rule_losses(rule, kernel, delta0, [0, 1, 100]))
    for tiny in (1e-17 * delta0, np.stack([delta0, 1e-25 * delta0], axis=1)):
        with pytest.raises(ValueError, match=r"of at most 1e-1(62|70), whose squares leave the range"):
            spectral_measure(kernel, tiny, num_matvecs=steps)
