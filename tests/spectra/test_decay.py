"""Loss curves with weight decay, from the measure of two vectors, against weights run on linear models."""

import itertools

import numpy as np
import pytest
import scipy.sparse.linalg

from odeopt import (
    QHM,
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    loss_curve,
    spectral_measure,
)
from odeopt.rules import (
    Averaged,
    Cosine,
    Linear,
    ScheduleFree,
    Table,
    error_polynomials,
    iterate,
    residual_polynomials,
)
from odeopt.spectra import squared_weights
from odeopt.spectra.joint import joint_starts

RNG = np.random.default_rng(5)
N, STEPS = 12, 60
JACOBIAN = RNG.standard_normal((N, 30)) / 8
WEIGHTS, DELTA0 = RNG.standard_normal(30), RNG.standard_normal(N)
KERNEL, ORIGIN = JACOBIAN @ JACOBIAN.T, JACOBIAN @ WEIGHTS
K = np.arange(STEPS + 1)
# STEPS roundings of numbers of size 1, amplified by momentum 0.9 at most ten times
CLOSE = {"rtol": 0, "atol": 1e-12}
RULES = [
    GradientDescent(0.3),
    HeavyBall(0.3, 0.9),
    Nesterov(0.3, r=3),
    NesterovConstant(0.3, 0.8),
    QHM(0.3, 0.9, 0.7),
    TorchSGD(lr=0.3, momentum=0.9, nesterov=True),
    HeavyBall(Cosine(0.3, STEPS), Linear(0.9, STEPS, end=0.5)),
]
DECAYS = [
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True},
    {"weight_decay": 0.1, "to_start": True},
    {"weight_decay": 0.1, "decoupled": True, "to_start": True},
    {"weight_decay": Linear(0.0, STEPS, end=0.3)},
]


def weights_of(rule):
    run = iterate(rule, WEIGHTS, lambda w: JACOBIAN.T @ (JACOBIAN @ (w - WEIGHTS) + DELTA0))
    return np.array(list(itertools.islice(run, STEPS + 1)))


def errors(rule):
    return DELTA0 + (weights_of(rule) - WEIGHTS) @ JACOBIAN.T


@pytest.mark.parametrize("decay", DECAYS, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
def test_errors_of_decayed_weights_are_two_polynomials_of_the_kernel(rule, decay):
    rule = rule.replace(**decay)
    lam, vectors = np.linalg.eigh(KERNEL)
    phi, chi = error_polynomials(rule, lam, K)
    found = (phi * (vectors.T @ DELTA0) + chi * (vectors.T @ (DELTA0 - ORIGIN))) @ vectors.T
    np.testing.assert_allclose(found, errors(rule), **CLOSE)
    assert decay.get("to_start", False) == (not chi.any())
    curve = loss_curve(rule, spectral_measure(KERNEL, DELTA0, origin=ORIGIN), K)
    expected = 0.5 * (errors(rule) ** 2).sum(axis=1)
    np.testing.assert_allclose(curve.loss, expected, **CLOSE)


@pytest.mark.parametrize("rule", [Averaged(RULES[1]), Averaged(RULES[0], decay=0.9), ScheduleFree(0.3)])
def test_averages_have_the_loss_of_the_averaged_weights(rule):
    if isinstance(rule, Averaged):
        rule = rule.replace(weight_decay=0.1)
    curve = loss_curve(rule, spectral_measure(KERNEL, DELTA0, origin=ORIGIN), K)
    np.testing.assert_allclose(curve.loss, 0.5 * (errors(rule) ** 2).sum(axis=1), **CLOSE)


@pytest.mark.parametrize("decay", [2.0**-36, 2.0**-80])
def test_a_tiny_decay_is_seen_to_full_accuracy_below_what_rounding_explains_too(decay):
    rule = GradientDescent(0.5, weight_decay=decay)
    _, chi = error_polynomials(rule, [1.0], [2000])
    np.testing.assert_allclose(chi, [[decay / (1 + decay)]], rtol=1e-14)  # roundings of one value
    # the last 2^-40 of the weights' way back are more than the bracket allows for
    curve = loss_curve(rule, spectral_measure([[1.0]], [1.0], origin=[2.0**40]), [2000])
    limit = 0.5 * ((2.0**40 - 1) * decay / (1 + decay)) ** 2
    assert curve.lower[0] <= limit <= curve.upper[0]
    assert curve.loss[0] == pytest.approx(limit, rel=1e-12)  # 2000 roundings


def test_the_loss_of_the_third_step_is_that_of_the_linear_model_in_its_first_weight_decay():
    """delta = 1, J w_0 = 2, lam = 1, lr = 1/2, decay 1: v = 2, 1/2, 1/2, ... and delta = v - 1."""
    measure = spectral_measure([[1.0]], [1.0], origin=[2.0])
    curve = loss_curve(GradientDescent(0.5, weight_decay=1.0), measure, [0, 1, 2])
    np.testing.assert_allclose(curve.loss, [0.5, 0.125, 0.125], **CLOSE)


@pytest.mark.parametrize("rule", [RULES[0], RULES[1], RULES[5], Averaged(RULES[2])], ids=lambda r: r.label)
@pytest.mark.parametrize("decay", [*DECAYS, {}], ids=str)
def test_squared_weights_are_those_of_the_weights(rule, decay):
    rule = rule.replace(**decay)
    measure = spectral_measure(KERNEL, DELTA0, origin=ORIGIN)
    expected = (weights_of(rule) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared_weights(rule, measure, K, expected[0]), expected, **CLOSE)
    with pytest.raises(ValueError, match="needs J w_0"):
        squared_weights(rule, spectral_measure(KERNEL, DELTA0), K, 1.0)


def test_coupled_decay_descends_the_regularised_objective():
    rule, measure = GradientDescent(0.3, weight_decay=0.1), spectral_measure(KERNEL, DELTA0, origin=ORIGIN)
    weights = squared_weights(rule, measure, K, float(WEIGHTS @ WEIGHTS))
    objective = loss_curve(rule, measure, K).loss + 0.05 * weights
    assert np.all(np.diff(objective) < 0)
    # from the normal equations of ridge regression
    targets = JACOBIAN @ WEIGHTS - DELTA0
    best = np.linalg.solve(JACOBIAN.T @ JACOBIAN + 0.1 * np.eye(30), JACOBIAN.T @ targets)
    least = 0.5 * ((JACOBIAN @ best - targets) ** 2).sum() + 0.05 * best @ best
    assert least < objective[-1] < least + 0.02 * (objective[0] - least)


# --- Lanczos -----------------------------------------------------------------------------------------

SPREAD = np.linspace(0.0, 1.0, 80) ** 3
ERROR, START = RNG.standard_normal((2, 80))


def exact_loss(rule, error=ERROR, start=START):
    phi, chi = error_polynomials(rule, SPREAD, K)
    return 0.5 * ((phi * error + chi * (error - start)) ** 2).sum(axis=1)


@pytest.mark.parametrize("steps", [4, 12, 40])
@pytest.mark.parametrize("rule", [RULES[0], RULES[1], RULES[4], Averaged(RULES[1]), RULES[6]])
def test_lanczos_encloses_the_loss_and_is_exact_before_its_last_step(rule, steps):
    rule = rule.replace(weight_decay=0.02)
    measure = spectral_measure(np.diag(SPREAD), ERROR, origin=START, num_matvecs=steps)
    curve, expected = loss_curve(rule, measure, K), exact_loss(rule)
    assert curve.rigorous
    assert np.all((curve.lower <= expected) & (expected <= curve.upper))
    # eigenvalues of T are known to some roundings, which a step of momentum amplifies ten times
    np.testing.assert_allclose(curve.loss[:steps], expected[:steps], rtol=1e-12)
    narrow = (curve.upper - curve.lower)[:steps] / expected[:steps]
    assert np.all(narrow[: steps // 2] < 1e-8)


@pytest.mark.parametrize("share", [1.7, -0.5])
def test_where_q_is_parallel_to_the_error_one_vector_serves(share):
    products = []

    def matmat(vectors):
        products.append(vectors.shape[1])
        return SPREAD[:, None] * vectors

    operator = scipy.sparse.linalg.LinearOperator(
        (80, 80), matvec=lambda v: matmat(v.reshape(-1, 1))[:, 0], matmat=matmat, dtype=float
    )
    origin = ERROR - share * ERROR
    measure = spectral_measure(operator, ERROR, origin=origin, num_matvecs=20)
    assert max(products[:-1]) == 1  # the last product is the trial of the operator
    rule = HeavyBall(0.5, 0.8, weight_decay=0.05)
    curve, expected = loss_curve(rule, measure, K), exact_loss(rule, start=origin)
    assert np.all((curve.lower <= expected) & (expected <= curve.upper))
    np.testing.assert_allclose(curve.loss[:20], expected[:20], rtol=1e-12)


def test_labels_of_many_examples_are_parallel_to_themselves_in_columns():
    """Down a column 3000 products of two values add up with an error of 60 eps, which is no part of q."""
    errors = np.eye(10)[np.random.default_rng(0).integers(0, 10, 3000)]
    errors -= errors.mean(axis=0)
    starts, places = joint_starts(errors, errors)
    assert places == [(i,) for i in range(10)]
    assert starts.shape == errors.shape


def test_several_outputs_add_up_with_a_column_that_already_fits():
    error = np.stack([ERROR, np.zeros(80), 2 * START], axis=1)
    start = np.stack([START, ERROR, START], axis=1)
    rule = GradientDescent(0.5, weight_decay=0.05)
    expected = sum(exact_loss(rule, a, b) for a, b in zip(error.T, start.T, strict=True))
    for steps in (None, 80):
        measure = spectral_measure(np.diag(SPREAD), error, origin=start, num_matvecs=steps)
        np.testing.assert_allclose(loss_curve(rule, measure, K).loss, expected, rtol=1e-11)


def test_rtol_and_a_state_file_serve_all_three_vectors(tmp_path):
    rule = GradientDescent(0.5, weight_decay=0.05)
    options = {"origin": START, "rtol": 1e-6, "curves": [lambda m: loss_curve(rule, m, K)]}
    found = spectral_measure(np.diag(SPREAD), ERROR, **options)
    curve = loss_curve(rule, found, K)
    assert found.num_matvecs < 80
    assert np.all(curve.upper - curve.lower - 2 * curve.rounding <= 1e-6 * curve.loss)
    path = tmp_path / "run.npz"
    spectral_measure(np.diag(SPREAD), ERROR, origin=START, num_matvecs=10, state=path)
    more = spectral_measure(np.diag(SPREAD), ERROR, state=path, **options)
    np.testing.assert_array_equal(loss_curve(rule, more, K).loss, curve.loss)
    with pytest.raises(ValueError, match="another delta0"):
        spectral_measure(np.diag(SPREAD), ERROR, num_matvecs=10, state=path)


def test_the_measure_of_the_error_itself_is_not_changed_by_an_origin():
    plain = spectral_measure(np.diag(SPREAD), ERROR, num_matvecs=10)
    found = spectral_measure(np.diag(SPREAD), ERROR, origin=START, num_matvecs=10)
    np.testing.assert_allclose(found.nodes, plain.nodes, atol=1e-14)  # products of other widths round anew
    np.testing.assert_allclose(found.weights, plain.weights, rtol=1e-12)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [1e-20, 1e-15, 1e-12, Cosine(1e-15, 100)])
def test_a_decay_below_rounding_is_not_proved_without_the_image_of_the_weights(decay):
    """J w_0 is not known, and decay times it has no bound."""
    measure = spectral_measure(np.diag([1.0, 0.5]), np.ones(2), num_matvecs=2)
    for rule in (GradientDescent(1.0, weight_decay=decay), Averaged(HeavyBall(0.5, 0.5, weight_decay=decay))):
        with pytest.raises(ValueError, match="J w_0"):
            loss_curve(rule, measure, [0, 10])


def test_decay_to_zero_needs_the_origin_and_decay_to_the_start_does_not():
    measure = spectral_measure(KERNEL, DELTA0)
    rule = GradientDescent(0.3, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"sum to 0\.97 .*origin=.*to_start"):
        loss_curve(rule, measure, K)
    assert loss_curve(rule.replace(to_start=True), measure, K).rigorous
    with pytest.raises(ValueError, match="origin must have the shape"):
        spectral_measure(KERNEL, DELTA0, origin=ORIGIN[1:])


def test_a_decay_that_a_table_begins_late_is_seen():
    rule = GradientDescent(0.3, weight_decay=Table([0.0] * 40 + [0.5] * 40))
    assert residual_polynomials(rule, [0.5], [40]).shape == (1, 1)
    with pytest.raises(ValueError, match="do not sum to 1 at k = 40"):
        residual_polynomials(rule, [0.5], [41])
    np.testing.assert_allclose(
        loss_curve(rule, spectral_measure(KERNEL, DELTA0, origin=ORIGIN), K).loss,
        0.5 * (errors(rule) ** 2).sum(axis=1),
        **CLOSE,
    )
