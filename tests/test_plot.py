"""Pictures are drawn on the axes given, labelled, and show the numbers of the report."""

import dataclasses
import warnings

import numpy as np
import pytest
from figures import kinds, require_fit

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

LONG = "lr=(Warmup(100, 0.25) * Cosine(0.0123456, 1000, 0)), momentum=0.98765432, weight_decay=0.00123456"


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
    assert "Heavy ball" in axes[0, 0].get_title()
    assert r"$\beta$ = " in axes[0, 0].get_title()
    for wrong in (axes[0], 3, [axes[0, 0]] * 5):
        with pytest.raises(ValueError, match="axes must be 6 of matplotlib's Axes"):
            plot.check(report, wrong)


def test_the_main_picture_is_fit_for_a_paper_with_one_kind_of_axes_in_a_row(report):
    figure = plot.check(dataclasses.replace(report, methods=report.methods * 2)).figure
    require_fit(figure)
    rows = np.reshape(figure.axes, (3, 4))
    assert [kinds(row) for row in rows] == [{("log", "log")}] * 3
    straight = plot.check(dataclasses.replace(report, methods=(report["hb"],))).figure
    require_fit(straight)
    assert kinds(straight.axes) == {("linear", "log")}
    levels, parts = ([text.get_text() for text in legend.get_texts()] for legend in figure.legends)
    assert {"trained network", "iteration, $H(0)$"} <= set(levels)
    assert parts == ["drift and flips", "step size", "finite width"]
    assert "2 seeds" in figure.get_suptitle()


def test_deviations_stand_beside_the_first_loss_and_beside_the_one_that_is_left(report):
    curves = report["hb"].curves
    gap = np.abs(curves["trained"] - curves["discrete_h0"])[:, 1:]
    for relative, whole in (("initial", curves["trained"][:, :1]), ("current", curves["discrete_h0"][:, 1:])):
        ax = plot.check_budget(report["hb"], relative=relative)
        require_fit(ax.figure)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), (gap / whole).mean(axis=0))
        band = ax.collections[0].get_paths()[0].vertices
        np.testing.assert_allclose(band[:, 1].max(), (gap / whole).max())
    with pytest.raises(ValueError, match="relative must be"):
        plot.check_budget(report["hb"], relative="last")


def test_the_users_own_labels_colours_and_settings_are_kept(report):
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    ax.set(xlabel="Schritt", title="Titel")
    with rc_context({"legend.fontsize": 13}):
        plot.curves(report["hb"], ax, colours={"trained": "purple"}, labels={"trained": "Netz"})
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("Schritt", "loss $L_k/L_0$", "Titel")
    assert (ax.lines[0].get_label(), ax.lines[0].get_color()) == ("Netz", "purple")
    assert ax.lines[1].get_color() == plot.curves(report["hb"]).lines[1].get_color()
    assert ax.get_legend().get_texts()[0].get_fontsize() == 13
    for wrong, reason in (
        ({"colours": {"trained": "no colour"}}, "no colour of matplotlib"),
        ({"colours": {"Netz": "red"}}, r"colours has \['Netz'\]"),
        ({"labels": {"Netz": "a"}}, r"labels has \['Netz'\]"),
    ):
        with pytest.raises(ValueError, match=reason):
            plot.curves(report["hb"], **wrong)


def test_settings_of_the_reader_do_not_change_a_figure_of_the_package_nor_it_theirs(report):
    from matplotlib import rc_context, rcParams

    before = dict(rcParams)
    sizes = []
    for size in (8, 30):
        with rc_context({"font.size": size, "xtick.labelsize": size}):
            ax = plot.curves(report["hb"])
        sizes.append((ax.xaxis.label.get_fontsize(), ax.get_xticklabels()[0].get_fontsize()))
    assert sizes[0] == sizes[1]
    assert dict(rcParams) == before


def test_vector_files_hold_their_text_and_fonts_and_no_date(report, tmp_path):
    paths = [tmp_path / f"loss.{kind}" for kind in ("pdf", "svg", "png")]
    plot.save(ax := plot.curves(report["nag"]), *paths)
    pdf, svg, png = (path.read_bytes() for path in paths)
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b">trained network</text>" in svg
    assert b"Date" not in pdf and b"dc:date" not in svg
    assert png.startswith(b"\x89PNG")
    for wrong, reason in ((tmp_path / "a.doc", "png, pdf, svg"), (tmp_path / "no" / "a.pdf", "could not be")):
        with pytest.raises(ValueError, match=reason):
            plot.save(ax, wrong)
    with pytest.raises(ValueError, match="picture must be axes"):
        plot.save(3, tmp_path / "a.pdf")


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
    require_fit(figure)
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
    assert r"HeavyBall($\eta$ = 0.1, $\beta$ = 0.5), $m$ = 64, $n$ = 3" in figure.get_suptitle()
    given = Figure().subplots(1, 3)
    assert plot.budget(found.until(2), given) is given[0]
    folded = [text.get_text().replace("\n", " ") for text in given[1].get_legend().get_texts()]
    assert folded == parts  # a third of the figure is narrow


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
    require_fit(plot.phases(x, y, values, levels=[0.5, 1.0, 1.5], label="sum", xlabel="a").figure)


def test_a_forecast_draws_every_method_and_begins_its_colours_anew():
    found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd", "hb"], target=0.1)
    many = dataclasses.replace(found, methods=found.methods * 4)
    lines = plot.forecast(many).lines[:-1]  # the last is the target
    ax = plot.forecast(found, colours=["red", "k"])
    require_fit(ax.figure)
    assert ax.lines[0].get_color() == "red"
    assert len(lines) == 8 > len(plot.COLOURS)
    assert lines[len(plot.COLOURS)].get_color() == lines[0].get_color() == plot.COLOURS[0]


def test_pictures_grow_with_long_names_and_many_methods(report, points):
    """Words on given axes stay within them, and the layout of their figure is the user's."""
    from matplotlib.figure import Figure

    found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    named = [f"HeavyBall({LONG}) {i}" for i in range(14)]
    many = dataclasses.replace(
        found, methods=[dataclasses.replace(found.methods[0], name=name) for name in named]
    )
    small = Figure(figsize=(2.2, 1.6), layout="constrained").subplots()
    test, _, y, _ = points
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "axes sizes collapsed to zero"
        for count in (1, 14):
            require_fit(plot.forecast(dataclasses.replace(many, methods=many.methods[:count])).figure)
            require_fit(plot.test_curves(dict.fromkeys(named[:count], test["GD"]), y).figure)
        require_fit(plot.curves(report["hb"], labels={"trained": LONG}).figure)
        one = dataclasses.replace(report, methods=report.methods[:1])
        require_fit(plot.check(one, labels={"trained": LONG}).figure)
        plot.forecast(dataclasses.replace(many, methods=many.methods[:3]), small)
        small.figure.draw_without_rendering()
    axes, legend = small.get_window_extent(), small.get_legend().get_window_extent()
    assert legend.width < axes.width
    assert legend.height < axes.height
    assert axes.width > 0.6 * small.figure.bbox.width


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
    require_fit(ax.figure)
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
        (test, {"axes": [None, None]}, "axes must be a matplotlib.axes.Axes, got 2"),
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
    with pytest.raises(ValueError, match=r"axes must be a matplotlib\.axes\.Axes, got int"):
        plot.ensemble(found, 0)
    with pytest.raises(ValueError, match="must run along a grid"):
        plot.ensemble(ensemble_limit(GradientDescent(0.3), measure, nngp))


def test_a_long_abscissa_begins_at_0_and_has_no_kink():
    from odeopt.spectra import ensemble

    measure = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [-1.0, 1.0])
    for last, kind in ((60, "linear"), (2000, "asinh")):
        ax = plot.ensemble(ensemble(GradientDescent(0.3), measure, np.eye(2), range(last + 1)))
        assert (ax.get_xscale(), ax.get_xlim()) == (kind, (0, last))
        require_fit(ax.figure)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "10", "100", "1000"]
    places = ax.get_xaxis_transform().transform([(k, 0) for k in np.arange(0, 50, 0.01)])[:, 0]
    slopes = np.diff(places)
    # the slope of arsinh, 1/sqrt(1 + k^2), changes by k/(1 + k^2) < 1/2 of itself for each unit of k
    assert np.all(np.abs(np.diff(np.log(slopes))) < 0.5 * 0.01 + 1e-9)
