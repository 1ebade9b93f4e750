"""Losses, predictions and measures draw themselves, with the user's own looks, beside what is there."""

import dataclasses
import sys

import numpy as np
import pytest
from figures import require_fit
from matplotlib.figure import Figure

import odeopt
from odeopt import plot

K = np.arange(0, 31, 3)
KERNEL = np.diag(np.linspace(0.2, 2.0, 12))
MEASURE = odeopt.spectral_measure(KERNEL, np.ones(12))
FEW = odeopt.spectral_measure(KERNEL, np.ones(12), num_matvecs=2)
RULE = odeopt.HeavyBall(0.1, 0.8)


def curve(measure=MEASURE, **options):
    return odeopt.loss_curve(RULE, measure, K, **options)


def flow():
    mode = odeopt.mode_solution(odeopt.error_dynamics(odeopt.ode_limit(RULE)))
    return odeopt.loss_curve(mode, MEASURE, np.linspace(0, 9, 20))


def bands(ax):
    return [band.get_label() for band in ax.collections]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_curve_draws_itself_with_its_bounds_and_says_whether_they_are_proved():
    few = curve(FEW)
    ax = few.plot()
    require_fit(ax.figure)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), K)
    np.testing.assert_array_equal(line.get_ydata(), few.loss)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (corners.max(), corners.min()) == (few.upper.max(), few.lower.min())
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("iteration $k$", "loss $L_k$", "log")
    assert legend(ax) == [r"iteration HeavyBall($\eta$ = 0.1, $\beta$ = 0.8)"]
    assert ax.get_legend().get_title().get_text() == "bands: proved bounds"
    partly = dataclasses.replace(few, proved=np.zeros(len(K), bool))
    assert "estimated in part" in partly.plot().get_legend().get_title().get_text()
    without = curve(bounds=False).plot()
    assert not bands(without) and not without.get_legend().get_title().get_text()


def test_the_users_looks_and_axes_are_kept_and_colours_follow():
    ax = Figure().subplots()
    ax.set_xlabel("my steps")
    ax.axhline(1e-3)
    assert curve().plot(ax, c="black", lw=4, label="mine") is ax
    flow().plot(ax)
    first, second = ax.lines[1:]
    assert (first.get_color(), first.get_linewidth(), first.get_label()) == ("black", 4, "mine")
    assert (second.get_linestyle(), second.get_color() == "black") == ("--", False)
    assert ax.get_xlabel() == "my steps"
    beside = plot.losses({"a": curve(), "b": curve(FEW)}, colours={"b": "red"})
    assert [line.get_color() for line in beside.lines] == [plot.COLOURS[0], "red"]
    assert legend(beside) == ["a", "b"]


def test_a_claim_drawn_before_is_not_taken_back_by_the_next():
    partly = dataclasses.replace(curve(FEW), proved=np.zeros(len(K), bool))
    ax = Figure().subplots()
    partly.plot(ax)
    curve().plot(ax)
    assert ax.get_legend().get_title().get_text() == "bands: bounds, estimated in part; proved bounds"


def test_losses_of_an_ode_stand_beside_those_of_its_rule_by_iteration_and_alone_by_time():
    both = plot.losses([curve(), flow()], relative=True)
    require_fit(both.figure)
    assert (both.get_xlabel(), both.get_ylabel()) == ("iteration $k$", "loss $L_k/L_0$")
    np.testing.assert_array_equal(both.lines[1].get_xdata(), flow().k)
    assert [line.get_ydata()[0] for line in both.lines] == [1.0, 1.0]
    alone = flow().plot()
    assert (alone.get_xlabel(), alone.get_ylabel()) == ("time $t$", "loss $L(t)$")
    timed = dataclasses.replace(flow(), k=None)
    clocked = curve(time_step=0.1)
    assert plot.losses([timed, clocked]).get_xlabel() == "time $t$"
    with pytest.raises(ValueError, match="some curves run along iterations, others along time"):
        plot.losses([timed, curve()])
    with pytest.raises(ValueError, match="some curves run along iterations"):
        curve().plot(alone)


def test_a_loss_that_diverges_leaves_the_upper_edge_and_zeros_the_lower():
    rule = odeopt.GradientDescent(40.0)
    ax = odeopt.loss_curve(rule, MEASURE, range(400)).plot()
    require_fit(ax.figure)
    assert ax.get_ylim()[1] == pytest.approx(3 * MEASURE.mass / 2)
    nothing = odeopt.loss_curve(RULE, odeopt.spectral_measure(KERNEL, np.zeros(12)), K)
    nothing.plot().figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("given", "options", "reason"),
    [
        ([], {}, "one at least"),
        ([3], {}, "must be LossCurve, or have a loss along k or t, got int"),
        (curve(), {"colr": "red"}, "colr"),
        (curve(), {"c": "red", "color": "red"}, "alias"),
        (curve(), {"ax": 3}, "axes must be"),
        ([curve(), flow()], {"label": "two"}, "is of one curve"),
        (curve(), {"relative": True, "colours": {"other": "red"}}, "not drawn"),
        (odeopt.predict(RULE, MEASURE, KERNEL[:2], K), {}, "plot.test_curves"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given, options, reason):
    with pytest.raises(ValueError, match=reason):
        plot.losses(given, **options)


def test_predictions_have_bands_of_proved_bounds_or_of_estimates():
    cross = 0.3 * KERNEL[:8]
    proved = odeopt.predict(RULE, MEASURE, cross, K, bounds=True)
    ax = proved.plot(points=[1, 6], labels={6: "mine"}, ls=":")
    require_fit(ax.figure)
    assert [line.get_label() for line in ax.lines] == ["point 1", "mine"]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), proved.u[:, 6])
    assert {line.get_linestyle() for line in ax.lines} == {":"}
    assert ax.get_legend().get_title().get_text() == "bands: proved bounds"
    estimated = odeopt.predict(RULE, FEW, cross, K)
    assert estimated.plot().get_legend().get_title().get_text() == "bands: estimated errors"
    exact = odeopt.predict(RULE, MEASURE, cross, K)
    assert exact.plot().get_legend().get_title().get_text() == "exact but for rounding"
    assert len(exact.plot().lines) == len(plot.COLOURS)
    with pytest.raises(ValueError, match="found must be a PointCurve, got LossCurve"):
        plot.predictions(curve())


def test_a_measure_is_drawn_as_the_share_of_the_error_below_each_eigenvalue():
    measure = odeopt.spectral_measure(np.diag([0.0, 1.0, 4.0]), [1.0, 2.0, 1.0])
    ax = measure.plot(color="red")
    require_fit(ax.figure)
    # of mass 6 the null space has 1 and the two eigenvalues 4 and 1
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.array([1, 5, 6, 6]) / 6, rtol=1e-15)
    assert (ax.lines[0].get_color(), legend(ax)) == ("red", ["exact"])
    assert legend(FEW.plot()) == ["Gauss rule by Lanczos"]
    with pytest.raises(ValueError, match="nothing to draw"):
        odeopt.spectral_measure(np.diag([0.0, 1.0]), [1.0, 0.0]).plot()


def test_a_test_loss_has_a_star_at_its_best_step():
    x = np.random.default_rng(0).standard_normal((24, 4))
    (method,) = odeopt.forecast(x, np.sin(x[:, 0]), test=0.25, methods=["gd"], target=0.1).methods
    ax = method.test.plot()
    require_fit(ax.figure)
    star = ax.lines[1]
    assert (star.get_marker(), star.get_xdata()[0]) == ("*", method.test.best_step)
    assert legend(ax)[0] == f"test loss, predicted, best at $k$ = {method.test.best_step}"
    assert not bands(ax)  # exact: there is no error to draw


def test_axes_of_an_own_figure_are_a_picture_in_a_notebook_and_those_given_are_not():
    ax = curve().plot()
    assert ax._repr_png_().startswith(b"\x89PNG")
    given = Figure().subplots()
    assert not hasattr(curve().plot(given), "_repr_png_")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
