"""Pictures are drawn on the axes given, labelled, and show the numbers of the report."""

import numpy as np
import pytest

from odeopt import check, plot
from odeopt.check import CheckSettings


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
