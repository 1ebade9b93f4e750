"""Forecasts of what people run: given rules, kept rates, decay, averages; and the fewest steps beside."""

import numpy as np
import pytest

from odeopt import Adam, GradientDescent, HeavyBall, forecast, loss_curve, relu_gram, spectral_measure, tune
from odeopt.data import prepare
from odeopt.nets import TwoLayerReLU, empirical_gram, train
from odeopt.rules import Averaged, Cosine, Lookahead, Table, Warmup

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((24, 6)), RNG.standard_normal(24)
DATA = prepare(X, Y)
DENSE = spectral_measure(relu_gram(DATA.x), -DATA.y, origin=np.zeros(24))
L0, LAM = DENSE.mass / 2, DENSE.lam_max


@pytest.mark.parametrize(
    ("rule", "run"),
    [
        (HeavyBall(Cosine(0.5 / LAM, 120), 0.8, weight_decay=0.01 * LAM, decoupled=True), 120),
        (GradientDescent(Warmup(20) * (1.0 / LAM), weight_decay=0.02 * LAM, to_start=True), None),
        (Averaged(HeavyBall(0.5 / LAM, 0.8), decay=0.9), None),
        (Lookahead(GradientDescent(1.0 / LAM, weight_decay=0.02 * LAM)), None),
        (GradientDescent(Table(np.linspace(1, 0.1, 40) / LAM)), 40),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_given_rule_is_run_as_it_is(rule, run):
    found = forecast(X, Y, methods=[rule], target=0.3, num_matvecs=24)
    (method,) = found.methods
    assert (method.rule, method.run) == (rule, run)
    assert method.curve.rigorous
    exact = loss_curve(rule, DENSE, np.arange(method.curve.k[-1] + 1), bounds=False).loss
    # entries of both kernels are rounded, and few steps amplify that
    np.testing.assert_allclose(method.curve.loss, exact[method.curve.k], rtol=1e-9)
    assert method.steps.value == np.flatnonzero(exact <= 0.3 * L0)[0]
    assert method.curve.k[-1] == (run or method.curve.k[-1])


def test_named_methods_take_decay_and_say_where_it_leads():
    found = forecast(X, Y, methods=["gd", "hb", "nag"], target=1e-3, weight_decay=0.05 * LAM)
    gd, hb, nag = found.methods
    assert gd.rule.lr == pytest.approx(2 / (found.mu + found.L + 0.1 * LAM), rel=1e-9)  # two roundings of L
    for method in (gd, hb, nag):
        # the fixed point is ridge regression: gamma / (lam + gamma) of each component
        left = 0.5 * (0.05 * LAM / (DENSE.nodes + 0.05 * LAM)) ** 2 @ DENSE.weights
        assert method.ends_at == pytest.approx(left, rel=1e-9)
        assert method.steps.value is None
        assert method.curve.loss[-1] == pytest.approx(left, rel=1e-3)  # it settles
        assert method.times_fewest is None


def test_a_rate_is_kept_and_refused_above_its_limit():
    found = forecast(X, Y, methods=["gd", "hb"], target=0.5, lr=Cosine(0.5 / LAM, 60))
    assert [m.rule.lr for m in found.methods] == [Cosine(0.5 / LAM, 60)] * 2
    assert [m.run for m in found.methods] == [60, 60]
    assert 0 < found.methods[1].rule.momentum < 1
    for methods in (["gd"], [GradientDescent(2.1 / LAM)]):
        with pytest.raises(ValueError, match="exceeds the stability limit"):
            forecast(X, Y, methods=methods, lr=2.1 / LAM)


def test_the_peak_of_a_schedule_is_tuned_under_decay():
    options = {"methods": ["gd"], "target": 0.5, "best_at": 30, "schedule": Cosine(1.0, 30)}
    (method,) = forecast(X, Y, weight_decay=0.02 * LAM, **options).methods
    assert (method.run, method.rule.weight_decay) == (30, 0.02 * LAM)
    peaks = method.rule.lr.largest * np.linspace(0.3, 1, 15)
    others = [loss_curve(method.rule.replace(lr=Cosine(p, 30)), DENSE, [30]).loss[0] for p in peaks]
    assert method.curve.loss[-1] <= min(others) * (1 + 1e-4)  # the search ends at 1e-6 of log lr


def test_times_fewest_compares_gradients_with_the_best_polynomial():
    found = forecast(X, Y, methods=["gd", "tm"], target=0.01)
    assert found.fewest is not None
    for method in found.methods:
        assert method.times_fewest == pytest.approx(method.steps.value / found.fewest.value)
        assert method.times_fewest >= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"methods": [Adam(0.01)]}, "not linear.*no loss curve.*check\\(\\) trains"),
        ({"layers": "both", "weight_decay": 0.1}, "kernel shrinks with them.*to_start=True"),
        ({"layers": "both", "methods": [HeavyBall(0.1, 0.5, weight_decay=0.1)]}, "kernel shrinks"),
        ({"methods": ["tm"], "weight_decay": 0.1}, "tm has no weight decay"),
        ({"methods": ["tm"], "lr": 0.1}, "tm has constants of its own"),
        ({"lr": 0.1, "best_at": 10}, "give one of both"),
        ({"lr": -0.1}, "lr must be"),
        ({"average": 2.0}, "decay must lie in"),
        ({"average": "mean"}, "average must be 'polyak'"),
        ({"weight_decay": Cosine(0.1, 9)}, "constants for ever are tuned for a number"),
        ({"decoupled": True}, "weight_decay was not given"),
    ],
)
def test_what_cannot_be_forecast_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        forecast(X, Y, **options)


def test_decay_of_all_layers_to_zero_leaves_the_constant_kernel_at_every_width():
    """Of one layer the deviation falls as the inverse root of the width; of all it stays."""
    deviations = {}
    for layers in ("first", "both"):
        for width in (512, 8192):
            net = TwoLayerReLU(6, width, layers=layers, seed=0)
            kernel = np.asarray(empirical_gram(net, DATA.x))
            lr = 0.5 / np.linalg.eigvalsh(kernel)[-1]
            rule = GradientDescent(lr, weight_decay=0.02 / lr)
            run = train(net, rule, DATA.x, DATA.y, 60, record_at=range(0, 61, 10))
            measure = spectral_measure(kernel, run.errors[0], origin=run.origin)
            gap = np.abs(run.loss - loss_curve(rule, measure, run.k, bounds=False).loss).max()
            deviations[layers, width] = gap / run.loss[0]
    assert deviations["first", 8192] < 0.6 * deviations["first", 512]  # a quarter, but for the sample
    assert deviations["both", 8192] > 0.6 * deviations["both", 512]
    assert deviations["both", 8192] > 0.1


def test_tuned_constants_with_decay_are_those_of_tune():
    found = forecast(X, Y, methods=["hb"], target=0.5, weight_decay=0.02, decoupled=True)
    expected = tune(HeavyBall, found.mu, found.L, weight_decay=0.02, decoupled=True)
    assert found.methods[0].rule == expected
