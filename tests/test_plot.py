"""Pictures are drawn on the axes given, labelled, and show the numbers of the report."""

import dataclasses

import numpy as np
import pytest

from odeopt import (
    GradientDescent,
    HeavyBall,
    check,
    forecast,
    loss_curve,
    plot,
    predict,
    relu_gram,
    spectral_measure,
)
from odeopt.studies import CheckSettings


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(7)
    settings = CheckSettings(width=128, seeds=2, num_steps=60)
    return check(
        rng.standard_normal((6, 4)), rng.standard_normal(6), methods=["hb", "nag"], settings=settings
    )


def test_curves_carry_the_data_and_a_scale_that_straightens_the_law(report):
    ax = plot.curves(report["nag"])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    line = next(line for line in ax.lines if line.get_label() == "iteration, $H(0)$")
    curves = report["nag"].curves
    want = (curves["discrete_h0"] / curves["trained"][:, :1]).mean(axis=0)[1:]
    np.testing.assert_allclose(line.get_ydata(), want)
    assert plot.curves(report["hb"]).get_xscale() == "linear"


def test_check_fills_the_axes_given_and_labels_them(report):
    from matplotlib.figure import Figure

    axes = Figure().subplots(2, 2)
    first = plot.check(report, axes)
    assert first is axes[0, 0]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in axes.flat)
    assert "HeavyBall" in axes[0, 0].get_title()


def test_nothing_opens_a_window_or_registers_with_pyplot(report):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plot.check(report)
    assert plt.get_fignums() == before


def test_budget_of_a_run_is_drawn_in_loss_and_in_vectors():
    from matplotlib.figure import Figure

    from odeopt.nets import TwoLayerReLU, error_budget, train

    net, x = TwoLayerReLU(3, 64), np.eye(3)
    found = error_budget(train(net, HeavyBall(0.1, 0.5), x, [0.0, 1.0, 3.0], 30), net=net, x=x)
    first = plot.budget(found)
    figure = first.figure
    whole, in_loss, in_vectors = figure.axes
    assert first is whole
    loss, norm = found.losses["trained"][0], np.linalg.norm(found.errors["trained"][0])
    for ax, want in (
        (whole, [curve / loss for curve in found.losses.values()]),
        (in_loss, [np.abs(gap) / loss for gap in found.loss_parts.values()]),
        (in_vectors, [np.linalg.norm(gap, axis=1) / norm for gap in found.vector_parts.values()]),
    ):
        assert ax.get_yscale() == "log"
        assert all(word in ax.get_xlabel() for word in ("iteration", "time"))
        drawn = [line.get_ydata() for line in ax.lines]
        for curve in want:
            # a rounding or two
            assert any(np.allclose(values, curve[1:], rtol=1e-12, atol=0) for values in drawn)
    levels, parts = ([text.get_text() for text in legend.get_texts()] for legend in figure.legends)
    assert len(levels) == len(found.losses)
    assert parts == ["trained network", *found.pairs]
    assert "HeavyBall(lr=0.1, momentum=0.5), m=64" in figure.get_suptitle()
    given = Figure().subplots(1, 3)
    assert plot.budget(found.until(2), given) is given[0]
    assert [text.get_text() for text in given[1].get_legend().get_texts()] == parts


def test_phases_paint_what_lies_outside_grey_and_leave_out_what_is_not_there():
    x, y = np.linspace(0, 1, 5), np.linspace(0, 1, 7)
    values = np.add.outer(y, x)
    values[0, 0] = np.nan
    from matplotlib.figure import Figure

    given = Figure().subplots()
    ax = plot.phases(x, y, values, given, levels=[0.5, 1.0, 1.5], label="sum")
    assert ax is given
    filled = ax.collections[0]
    for outside in (filled.cmap.get_over(), filled.cmap.get_under()):
        np.testing.assert_array_equal(outside[:3], 0.85)
    assert not any(path.contains_point((0.01, 0.01)) for path in filled.get_paths())
    labels = [other.get_ylabel() for other in ax.figure.axes if other is not ax]
    assert labels == ["sum"]


def test_a_forecast_draws_every_method_and_begins_its_colours_anew():
    found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd", "hb"], target=0.1)
    many = dataclasses.replace(found, methods=found.methods * 4)
    lines = plot.forecast(many).lines[:-1]  # the last is the target
    assert len(lines) == 8 > len(plot.COLOURS)
    assert lines[len(plot.COLOURS)].get_color() == lines[0].get_color() == plot.COLOURS[0]


@pytest.fixture(scope="module")
def points():
    """Predictions of two methods on three points, their losses, targets, and a run of the first."""
    from odeopt.nets import TwoLayerReLU, train

    rng = np.random.default_rng(3)
    x, new = rng.standard_normal((8, 4)), rng.standard_normal((3, 4))
    y, rules = rng.standard_normal(8), {"GD": GradientDescent(0.05), "HB": HeavyBall(0.05, 0.8)}
    measure, k = spectral_measure(relu_gram(x), -y), np.arange(41)
    test = {name: predict(rule, measure, relu_gram(new, x), k) for name, rule in rules.items()}
    training = {name: loss_curve(rule, measure, k) for name, rule in rules.items()}
    run = train(TwoLayerReLU(4, 256), rules["GD"], x, y, 40, points=new, allow_unstable=True)
    return test, training, rng.standard_normal(3), {"GD": run}


def test_test_curves_show_both_losses_and_mark_the_best_step(points):
    test, training, y, trained = points
    ax = plot.test_curves(test, y, training=training, trained=trained)
    left, right = ax.figure.axes
    assert right is ax
    assert [panel.get_xlabel() for panel in (left, right)] == ["iteration $k$"] * 2
    for name, colour in zip(test, plot.COLOURS, strict=False):
        beside, drawn = (
            [line for line in panel.lines if line.get_color() == colour and len(line.get_xdata())]
            for panel in (left, right)
        )
        loss, best = test[name].loss(y), test[name].best(y)
        curve, star = drawn[-2:]
        np.testing.assert_array_equal(curve.get_ydata(), loss / loss[0])
        assert (star.get_marker(), star.get_xdata()[0]) == ("*", best)
        assert len(drawn) == (4 if name in trained else 2)  # the run and its ring
        np.testing.assert_array_equal(beside[0].get_ydata(), training[name].loss / training[name].loss[0])
    (legend,) = ax.figure.legends  # beside the panels, so that it hides none of the data
    assert left.get_legend() is right.get_legend() is None
    best = test["GD"].best(y), trained["GD"].points.best(y)
    assert legend.get_texts()[0].get_text() == "GD, best at k = {} (trained: {})".format(*best)


def test_test_curves_fill_the_axes_given_and_run_along_the_time_of_an_ode(points):
    from matplotlib.figure import Figure

    test, _, y, _ = points
    given = Figure().subplots()
    timed = {"flow": dataclasses.replace(test["GD"], k=None, t=0.1 * np.arange(41))}
    assert plot.test_curves(timed, y, given) is given
    assert (given.get_xlabel(), given.get_ylabel()) == ("time $t$", "test loss $L_t/L_0$")
    assert given.lines[0].get_xdata()[-1] == timed["flow"].t[-1]


def test_test_curves_that_do_not_go_together_are_refused(points):
    test, training, y, trained = points
    timed = dataclasses.replace(test["GD"], k=None, t=test["GD"].k)
    late = dataclasses.replace(test["GD"], k=test["GD"].k + 1)
    still = dataclasses.replace(test["GD"], u=test["GD"].u - test["GD"].u[0] + y)
    blind = dataclasses.replace(trained["GD"], points=None)
    for wrong, more, wanted in (
        ({}, {}, "test must hold a curve"),
        (test["GD"], {}, "test must map names of methods to a PointCurve each, got PointCurve"),
        (test, {"training": test}, "training must map names of methods to a LossCurve"),
        ({"GD": still}, {}, "a loss begins with 0"),
        (test, {"training": {"NAG": training["GD"]}}, r"training has curves of \['NAG'\]"),
        (test, {"trained": {"GD": blind}}, "run of GD without points"),
        ({"flow": timed}, {"trained": {"flow": trained["GD"]}}, "trained network goes along iterations"),
        ({"GD": late}, {}, "GD begins after 0"),
        (test | {"flow": timed}, {}, "others along time"),
        (test, {"axes": [None, None]}, "axes must be 1"),
    ):
        with pytest.raises(ValueError, match=wanted):
            plot.test_curves(wrong, y, **more)


def test_an_ensemble_is_drawn_as_bands_of_two_standard_deviations():
    from odeopt import GradientDescent, spectral_measure
    from odeopt.spectra import ensemble, ensemble_limit

    measure, nngp = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [[-1.0, 1.0], [1.0, 2.0]]), np.eye(2)
    found = ensemble(GradientDescent(0.3), measure, nngp, [0, 1, 5])
    ax = plot.ensemble(found, points=1, output=1)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found.mean[:, 1, 1])
    band = ax.collections[0].get_paths()[0].vertices
    top = found.mean[:, 1, 1] + 2 * np.sqrt(found.variance[:, 1])
    np.testing.assert_allclose(band[:, 1].max(), top.max())
    for wrong, reason in (({"points": [2]}, "points must be"), ({"output": -1}, "output must be")):
        with pytest.raises(ValueError, match=reason):
            plot.ensemble(found, **wrong)
    with pytest.raises(ValueError, match="must run along a grid"):
        plot.ensemble(ensemble_limit(GradientDescent(0.3), measure, nngp))
