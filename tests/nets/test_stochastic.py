"""SGD: the law of its mean and second moment in the linear model, against enumeration and against runs."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from odeopt.dynamics.iterates import predict_iterates
from odeopt.dynamics.losses import SquaredLoss
from odeopt.nets import DeepReLU, TwoLayerReLU, empirical_operator, sgd_report, train, train_sgd
from odeopt.rates.iteration import max_learning_rate
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.classical import GradientDescent, HeavyBall, Nesterov
from odeopt.rules.momentum import QHM, TorchSGD
from odeopt.spectra import sgd_prediction

RULES = (
    GradientDescent(0.1),
    HeavyBall(0.08, 0.6),
    Nesterov(0.08, 3),
    QHM(0.1, 0.8, 0.6),
    TorchSGD(0.05, 0.7, dampening=0.2),
)
LAW = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((6, 4))
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.standard_normal(6)


def linear_model():
    torch.manual_seed(1)
    return nn.Linear(4, 1, bias=False, dtype=torch.float64)


def moments_by_enumeration(rule, kernel, delta0, batch_size, steps):
    """Mean and mean of the outer product over all sequences of batches."""
    n = len(delta0)
    batches = [np.isin(np.arange(n), b) for b in itertools.combinations(range(n), batch_size)]
    ends = []
    for sequence in itertools.product(batches, repeat=steps):
        drawn = iter(sequence)
        run = iterate(rule, delta0, lambda z: n / batch_size * kernel @ (next(drawn) * z))  # noqa: B023
        ends.append(next(itertools.islice(run, steps, None)))
    ends = np.array(ends)
    return ends.mean(axis=0), (ends**2).mean(axis=0)


@LAW
@pytest.mark.parametrize(("n", "batch_size"), [(3, 1), (3, 2), (4, 2)])
def test_law_is_the_average_over_all_sequences_of_batches(rng, rule, n, batch_size):
    factor, delta0 = rng.standard_normal((n, n + 2)), rng.standard_normal(n)
    kernel = factor @ factor.T / n
    steps = 4
    mean, square = moments_by_enumeration(rule, kernel, delta0, batch_size, steps)
    found = sgd_prediction(rule, kernel, delta0, batch_size, [0, steps])
    # rounding of sums of at most 6^4 terms of size 1
    np.testing.assert_allclose(found.mean[1], mean, atol=1e-12)
    np.testing.assert_allclose(found.std[1] ** 2 + found.mean[1] ** 2, square, rtol=1e-11)
    np.testing.assert_allclose(found.loss[1], square.sum() / 2, rtol=1e-11)
    np.testing.assert_allclose(found.mean_loss + found.variance_loss, found.loss, rtol=1e-11)


@LAW
def test_mean_is_the_full_batch_recursion_and_a_full_batch_has_no_variance(rng, rule):
    factor, delta0 = rng.standard_normal((5, 7)), rng.standard_normal(5)
    kernel, k = factor @ factor.T / 5, np.arange(30)
    iterates = predict_iterates(rule, kernel, SquaredLoss(), delta0, np.zeros(5), k)
    for batch_size in (2, 5):
        found = sgd_prediction(rule, kernel, delta0, batch_size, k)
        np.testing.assert_allclose(found.mean, iterates.u, atol=1e-12)  # rounding of 30 steps
        if batch_size == 5:
            assert found.std.max() == 0
        else:
            assert found.variance_loss[-1] > 1e-6


@LAW
def test_runs_of_a_linear_model_follow_the_law_within_four_standard_errors(data, rule):
    x, y = data
    kernel = empirical_operator(linear_model(), x).gram()
    seeds, k = 60, [0, 1, 5, 12]
    runs = [
        train_sgd(linear_model(), rule, x, y, 12, batch_size=2, seed=seed, record_at=k)
        for seed in range(seeds)
    ]
    report = sgd_report(runs, kernel)
    law = report.prediction
    assert report.seeds == seeds
    for j in range(1, len(k)):
        # 4 standard errors, by the law itself; the rounding of 12 steps beside it
        assert (np.abs(report.mean[j] - law.mean[j]) <= 4 * law.std[j] / np.sqrt(seeds) + 1e-12).all()
        assert abs(report.loss[j] - law.loss[j]) <= 4 * report.loss_error[j] + 1e-12
    # and the loss of the mean alone is not what the runs have: the variance is seen
    assert report.loss[-1] - law.mean_loss[-1] > 4 * report.loss_error[-1]


@pytest.mark.parametrize("d", [4, 9])  # 9 dimensions of 6 examples: in the row space
@pytest.mark.parametrize(
    "make", [lambda d: TwoLayerReLU(d, 30), lambda d: DeepReLU(d, 12, 2)], ids=["2 layers", "3 layers"]
)
def test_the_full_batch_is_training_to_the_last_bit(rng, make, d):
    x, y = rng.standard_normal((6, d)) / np.sqrt(d), rng.standard_normal(6)
    one, other = make(d), make(d)
    full = train(one, HeavyBall(0.02, 0.5), x, y, 25)
    batch = train_sgd(other, HeavyBall(0.02, 0.5), x, y, 25, batch_size=6)
    np.testing.assert_array_equal(batch.predictions, full.predictions)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert (full.batch_size, batch.batch_size) == (None, 6)


@pytest.mark.parametrize("d", [4, 9])
def test_closed_form_of_a_batch_is_that_of_autodiff(rng, d):
    x, y = rng.standard_normal((6, d)) / np.sqrt(d), rng.standard_normal(6)

    class Plain(TwoLayerReLU):
        def forward(self, x):  # a forward of its own: autodiff, and no row space
            return super().forward(x)

    for layers in ("first", "both"):
        runs = [
            train_sgd(net, HeavyBall(0.05, 0.5), x, y, 25, batch_size=2)
            for net in (TwoLayerReLU(d, 30, layers=layers), Plain(d, 30, layers=layers))
        ]
        # rounding of 25 steps
        np.testing.assert_allclose(runs[0].predictions, runs[1].predictions, rtol=0, atol=1e-12)


def test_mean_reduction_follows_the_law_with_its_kernel(data):
    x, y = data
    rule = GradientDescent(0.3)
    kernel = empirical_operator(linear_model(), x).gram()
    runs = [
        train_sgd(linear_model(), rule, x, y, 8, batch_size=3, seed=s, reduction="mean", record_at=[8])
        for s in range(80)
    ]
    law = sgd_prediction(rule, 2 / 6 * kernel, runs[0].errors[0], 3, [8])
    mean = np.mean([run.errors[-1] for run in runs], axis=0)
    assert (np.abs(mean - law.mean[0]) <= 4 * law.std[0] / np.sqrt(80) + 1e-12).all()  # 4 standard errors


def test_the_same_seed_gives_the_same_run(data):
    def run(seed):
        return train_sgd(TwoLayerReLU(4, 30), GradientDescent(0.1), *data, 15, batch_size=2, seed=seed)

    np.testing.assert_array_equal(run(3).predictions, run(3).predictions)
    assert np.abs(run(3).predictions - run(4).predictions).max() > 1e-3


def test_second_moment_leaves_the_finite_numbers_before_the_mean_does(data):
    """A learning rate that is stable for the mean need not be for the variance: the law says so."""
    x, _ = data
    kernel = x @ x.T + 0.5 * np.eye(6)
    rule = GradientDescent(1.0)
    rule = rule.replace(lr=0.95 * max_learning_rate(rule, float(np.linalg.eigvalsh(kernel)[-1])))
    found = sgd_prediction(rule, kernel, np.ones(6), 1, [0, 200])
    assert found.mean_loss[1] < found.mean_loss[0]
    assert found.loss[1] > 1e6 * found.loss[0]


@pytest.mark.slow
def test_mean_of_a_wide_network_follows_the_law():
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((20, 12)), rng.standard_normal(20)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    seeds, k, rule = 40, [0, 10, 40], HeavyBall(0.1, 0.5)
    gaps = {}
    for width in (256, 16384):
        runs = [
            train_sgd(TwoLayerReLU(12, width), rule, x, y, 40, batch_size=10, seed=s, record_at=k)
            for s in range(seeds)
        ]
        report = sgd_report(runs)
        rows = report.rows()[1:]
        gaps[width] = [row["mean"] for row in rows]
        if width == 16384:
            # the standard error of the seeds, and the drift of the kernel: a few m^(-1/2) = 0.008
            assert all(row["mean"] < 2 * row["mean_error"] + 0.03 for row in rows)
            assert all(
                abs(row["loss"] - row["predicted_loss"]) < 4 * row["loss_error"] + 0.03 for row in rows
            )
    assert gaps[16384][-1] < gaps[256][-1]


class Twice(UpdateRule):
    """A gradient at a point that a gradient has moved, as in the extragradient method."""

    history = 1

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - 0.1 * grad(x - 0.1 * grad(x)), memory


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_second_moment_after_a_long_run_is_the_power_of_its_map(rng, share):
    n, batch_size, last = 6, 3, 3000
    factor = rng.standard_normal((n, n))
    kernel = factor @ factor.T
    lr, delta0 = share / np.linalg.eigvalsh(kernel)[-1], rng.standard_normal(n)
    batches = list(itertools.combinations(range(n), batch_size))
    steps = [np.eye(n) - lr * n / batch_size * kernel[:, batch] @ np.eye(n)[batch, :] for batch in batches]
    one = sum(np.kron(step, step) for step in steps) / len(steps)
    moment = np.linalg.matrix_power(one, last) @ np.outer(delta0, delta0).ravel()
    law = sgd_prediction(GradientDescent(lr), kernel, delta0, batch_size, [0, last])
    # a power multiplies the rounding of its factor by the exponent
    rounding = last * 100 * np.finfo(float).eps
    assert law.loss[1] == pytest.approx(0.5 * moment.reshape(n, n).trace(), rel=rounding)


def test_what_has_no_law_is_refused():
    with pytest.raises(ValueError, match="gradient of a gradient"):
        sgd_prediction(Twice(), np.eye(3), np.ones(3), 1, [0, 1])
    from odeopt.rules.adaptive import Adam

    with pytest.raises(ValueError, match="not linear"):
        sgd_prediction(Adam(0.1), np.eye(3), np.ones(3), 1, [0, 1])
    with pytest.raises(ValueError, match=r"delta0 must have shape \(3,\)"):
        sgd_prediction(RULES[0], np.eye(3), np.ones(2), 1, [0, 1])


@pytest.mark.parametrize(
    ("batch_size", "words"),
    [
        (0, "batch_size must be an integer of at least 1, got 0"),
        (2.0, r"batch_size must be an integer of at least 1, got 2\.0"),
        (True, "batch_size must be an integer"),
        (7, "batch_size must be at most n = 6, the number of examples, got 7"),
    ],
)
def test_bad_batch_sizes_are_refused(data, batch_size, words):
    with pytest.raises(ValueError, match=words):
        train_sgd(TwoLayerReLU(4, 8), RULES[0], *data, 3, batch_size=batch_size)
    with pytest.raises(ValueError, match=words):
        sgd_prediction(RULES[0], np.eye(6), np.ones(6), batch_size, [0])


def test_unstable_means_and_bad_seeds_are_refused_and_divergence_is_a_result(data):
    with pytest.raises(ValueError, match="stability limit"):
        train_sgd(TwoLayerReLU(4, 8), GradientDescent(50.0), *data, 3, batch_size=2)
    with pytest.raises(ValueError, match="stability limit"):
        train_sgd(linear_model(), GradientDescent(50.0), *data, 3, batch_size=2)
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        train_sgd(linear_model(), RULES[0], *data, 3, batch_size=2, seed=-1)
    net = linear_model()
    run = train_sgd(net, GradientDescent(1e200), *data, 9, batch_size=2, allow_unstable=True)
    assert run.diverged_at in (1, 2)
    assert bool(torch.isfinite(net.weight).all())


def test_runs_that_do_not_go_together_are_refused(data):
    x, y = data

    def run(rule=RULES[0], batch_size=2, **options):
        return train_sgd(linear_model(), rule, x, y, 4, batch_size=batch_size, **options)

    kernel = empirical_operator(linear_model(), x).gram()
    for runs, given, words in (
        ([run()], kernel, "at least two"),
        ([run(), run(batch_size=3)], kernel, "one batch_size"),
        ([run(), run(RULES[1])], kernel, "one rule"),
        ([run(), run(record_at=[0, 2])], kernel, "same steps"),
        ([train(linear_model(), RULES[0], x, y, 4)] * 2, kernel, "train_sgd"),
        ([run(), run(seed=1)], None, "kernel is needed"),
    ):
        with pytest.raises(ValueError, match=words):
            sgd_report(runs, given)
    operator = empirical_operator(linear_model(), x)
    pair = [run(), run(seed=1)]
    np.testing.assert_array_equal(sgd_report(pair, operator).mean, sgd_report(pair, kernel).mean)
    with pytest.raises(ValueError, match="other weights"):
        sgd_report(pair, empirical_operator(nn.Linear(4, 1, bias=False, dtype=torch.float64), x))
    assert "batches of 2 of 6, 2 seeds" in str(sgd_report([run(), run(seed=1)], kernel))


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_law_does_not_depend_on_the_unit_of_the_kernel(rng, scale):
    kernel, delta0 = np.diag([2.0, 1.0, 0.3]), rng.standard_normal(3)
    plain, scaled = (
        sgd_prediction(HeavyBall(0.1 / size, 0.5), size * kernel, delta0, 1, [1, 50, 400]).loss
        for size in (1.0, scale)
    )
    # the learning rates differ by a rounding of their quotient, times 400 steps
    np.testing.assert_allclose(scaled, plain, rtol=1e-12)


class _TwoGradients(UpdateRule):
    """A gradient of a gradient, with a small learning rate."""

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - 1e-9 * grad(x - 1e-9 * grad(x)), memory


def test_a_gradient_of_a_gradient_is_refused_at_any_learning_rate():
    with pytest.raises(ValueError, match="gradient of a gradient"):
        sgd_prediction(_TwoGradients(), 1e9 * np.eye(2), [1.0, 1.0], 1, [0, 1])


@pytest.mark.parametrize(
    ("delta0", "k", "words"),
    [([1.0, np.nan], [0, 1], "delta0 must be finite"), ([1.0, 1.0], [-1], "k must be")],
)
def test_bad_numbers_are_refused_by_name(delta0, k, words):
    with pytest.raises(ValueError, match=words):
        sgd_prediction(GradientDescent(0.1), np.eye(2), delta0, 1, k)


def test_report_of_runs_that_diverge_is_infinite_without_warnings(data):
    x, y = data
    options = {"batch_size": 2, "allow_unstable": True, "record_at": [0, 50, 90]}
    report = sgd_report(
        [
            train_sgd(TwoLayerReLU(x.shape[1], 50), HeavyBall(50.0, 0.5), x, y, 90, seed=s, **options)
            for s in (0, 1)
        ]
    )
    last = report.rows()[-1]
    assert last["k"] == 90 and last["loss_error"] > 1e100
    assert not any(np.isnan(value) for row in report.rows() for value in row.values())


def test_report_of_runs_that_start_fitted_is_zero():
    x, y = np.eye(4), np.zeros(4)
    runs = []
    for seed in (0, 1):
        net = linear_model()
        torch.nn.init.zeros_(net.weight)
        runs.append(train_sgd(net, GradientDescent(0.1), x, y, 5, batch_size=1, seed=seed))
    rows = sgd_report(runs, np.eye(4)).rows()
    assert not any(value for row in rows for key, value in row.items() if key != "k")
