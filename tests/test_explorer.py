"""A slider moved in code: what is drawn is what the functions of the package say."""

import sys

import numpy as np
import pytest

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    NesterovConstant,
    explore,
    loss_curve,
    spectral_measure,
)
from odeopt.dynamics import integrated_mode
from odeopt.plot.explored import METHODS, SCHEDULES
from odeopt.rules import Cosine, residual_polynomials, transition_matrix

LAM = np.geomspace(0.05, 2, 5)
MEASURE = spectral_measure(np.diag(LAM), np.arange(1.0, 6.0))


@pytest.fixture(scope="module")
def explorer():
    return explore(MEASURE, num_steps=40)


def put(explorer, **values):
    for name, value in values.items():
        explorer.controls[name].value = value


def line(explorer, view, name):
    return explorer.views[view].lines[name].get_data()


RULES = [
    ("gradient descent", {}, lambda lr: GradientDescent(lr)),
    ("heavy ball", {"momentum": 0.8}, lambda lr: HeavyBall(lr, 0.8)),
    ("Nesterov, constant momentum", {"momentum": 0.8}, lambda lr: NesterovConstant(lr, 0.8)),
    ("Nesterov", {"r": 4.0}, lambda lr: Nesterov(lr, 4.0)),
]


@pytest.mark.parametrize(("method", "values", "rule"), RULES, ids=[m for m, *_ in RULES])
def test_each_view_follows_a_slider(explorer, method, values, rule):
    put(explorer, method=method, schedule="constant", lr=0.2, **values, step=7, eigenvalue=0.5)
    before = bytes(explorer.images["loss"].value)
    put(explorer, lr=0.3)
    rule = rule(explorer.controls["lr"].value)
    k, loss = line(explorer, "loss", "iteration")
    found = loss_curve(rule, MEASURE, range(41)).loss
    np.testing.assert_array_equal(k, np.arange(41))
    # the same recursion; the bounds of the second curve change no value
    np.testing.assert_allclose(loss, found / found[0], rtol=1e-14)
    _, ode = line(explorer, "loss", "ODE")
    assert ode[0] == pytest.approx(1, rel=1e-14)
    # at h = 0.5 the ODE is near the iteration, not on it
    assert 0 < np.max(np.abs(ode - loss)) < 0.5
    x, v = line(explorer, "portrait", "iteration")
    run = residual_polynomials(rule, [explorer.controls["eigenvalue"].value], range(41))[:, 0]
    np.testing.assert_allclose(x, run[1:], rtol=1e-14)
    assert v.shape == x.shape
    roots = np.linalg.eigvals(transition_matrix(rule, explorer.views["roots"].eigenvalues, 7))
    np.testing.assert_allclose(np.hypot(*line(explorer, "roots", "all")), np.abs(roots).ravel(), rtol=1e-14)
    assert bytes(explorer.images["loss"].value).startswith(b"\x89PNG")
    assert bytes(explorer.images["loss"].value) != before


def test_portrait_of_descent_is_the_line_of_its_ode(explorer):
    put(explorer, method="gradient descent", schedule="constant", lr=0.5, eigenvalue=0.5)
    x, v = line(explorer, "portrait", "iteration")
    # x_(k+1) - x_k = -lr lam x_k, over lr lam: the velocity is -x_k
    np.testing.assert_allclose(v, -x / (1 - 0.25), rtol=1e-12)


def test_friction_and_momentum_are_one_number(explorer):
    put(explorer, method="heavy ball", schedule="constant", lr=0.25)
    put(explorer, friction=0.4)
    assert explorer.controls["momentum"].value == pytest.approx(0.8, abs=1e-9)
    put(explorer, momentum=0.9)
    assert explorer.controls["friction"].value == pytest.approx(0.2, abs=1e-9)
    put(explorer, lr=1.0)
    assert explorer.controls["momentum"].value == pytest.approx(0.9)
    assert explorer.controls["friction"].value == pytest.approx(0.1, abs=1e-9)
    for lr, momentum in ((2e-3, 0.0), (2e-3, 0.999), (2.0, 0.999)):  # the ends of the sliders
        put(explorer, lr=lr, momentum=momentum)
        assert explorer.controls["friction"].value == pytest.approx((1 - momentum) / lr**0.5, rel=1e-12)
    assert explorer.controls["r"].disabled
    put(explorer, method="Nesterov")
    assert explorer.controls["friction"].disabled
    assert not explorer.controls["r"].disabled


def test_schedule_is_followed_by_iteration_and_ode(explorer):
    put(explorer, method="heavy ball", schedule="cosine", lr=0.2, momentum=0.8)
    lr = explorer.controls["lr"].value
    found = loss_curve(HeavyBall(Cosine(lr, steps=40), 0.8), MEASURE, range(41), bounds=False).loss
    np.testing.assert_allclose(line(explorer, "loss", "iteration")[1], found / found[0], rtol=1e-14)
    k, ode = line(explorer, "loss", "ODE")
    mode = integrated_mode(explorer.setting.mode.dynamics, rtol=1e-9)
    exact = loss_curve(mode, MEASURE, k * np.sqrt(lr), bounds=False).loss
    # the drawn one has rtol = 1e-6, of the largest mode
    np.testing.assert_allclose(ode, exact / exact[0], atol=1e-5)
    assert "s(t)" in explorer.equation.value


def test_every_method_and_schedule_is_drawn(explorer):
    for method in METHODS:
        for schedule in SCHEDULES:
            put(explorer, method=method, schedule=schedule, lr=0.1)
            for view in explorer.views.values():
                for drawn in view.lines.values():
                    x, y = drawn.get_data()
                    assert len(x) == len(y) > 0
                    assert np.isfinite(y).all(), (method, schedule)


def test_an_unstable_rate_leaves_the_picture():
    wild = explore(MEASURE, num_steps=400)
    put(wild, method="gradient descent", lr=2.0)
    _, loss = line(wild, "loss", "iteration")
    assert np.isnan(loss[-1])
    assert np.isfinite(loss[:5]).all()


def test_notebook_shows_the_widgets(explorer):
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
    assert repr(explorer).startswith("Explorer(")
    assert explorer.views["roots"]._repr_png_().startswith(b"\x89PNG")


def test_explorer_refuses_with_the_reason(monkeypatch):
    with pytest.raises(ValueError, match="num_steps must be"):
        explore(num_steps=5)
    with pytest.raises(ValueError, match="measure must"):
        explore("kernel")
    with pytest.raises(ValueError, match="no modes"):
        explore(spectral_measure(np.zeros((2, 2)), [1.0, 1.0]))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"odeopt\[explore\]"):
        explore()
