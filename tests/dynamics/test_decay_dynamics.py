"""Weight decay in function space, ODE and iteration: stated numbers, the solver, orders in the step."""

import numpy as np
import pytest
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    TorchSGD,
    error_dynamics,
    exact_rate,
    integrate,
    loss_curve,
    mode_solution,
    ode_limit,
    spectral_measure,
)
from odeopt.dynamics import integrated_mode
from odeopt.rules import Cosine, Linear

H_, B, OMEGA = sympy.symbols("h b omega", positive=True)
JACOBIAN = np.array([[1.0, 0, 1, 0], [0, 1, 1, 1], [1, 1, 0, 2]])
WEIGHTS = np.array([1, -1, 2, 0.5])
DELTA0 = np.array([0.5, -1, 2]) - np.array([1.0, 0, -1])
KERNEL, ORIGIN = JACOBIAN @ JACOBIAN.T, JACOBIAN @ WEIGHTS
MEASURE = spectral_measure(KERNEL, DELTA0, origin=ORIGIN)
# of numbers stated with ten decimals, by forty-digit arithmetic where they differ from published ones
STATED = {"rtol": 0, "atol": 6e-11}
COUPLED = HeavyBall(H_**2, 1 - B * H_, weight_decay=sympy.Rational(3, 10))
DECOUPLED = HeavyBall(H_**2, 1 - B * H_, weight_decay=OMEGA / H_, decoupled=True)


def dynamics(rule):
    values = {B: 1, OMEGA: sympy.Rational(3, 10)}
    return error_dynamics(ode_limit(rule, H_) if isinstance(rule.lr, sympy.Expr) else ode_limit(rule)).subs(
        values
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (GradientDescent(0.05, weight_decay=0.3), [3.5725656250, 1.1349404802, 0.2755705709]),
        (GradientDescent(0.05, weight_decay=0.3, decoupled=True), [3.5725656250, 1.1349404802, 0.2755705709]),
        (HeavyBall(0.05, 0.9, weight_decay=0.3), [3.5725656250, 0.3991069335, 0.2740607158]),
        (GradientDescent(0.05, weight_decay=0.3, to_start=True), [3.551875, 0.9624502040, 0.1497341614]),
    ],
)
def test_losses_of_decayed_steps_are_the_stated_ones(rule, expected):
    np.testing.assert_allclose(loss_curve(rule, MEASURE, [1, 10, 50]).loss, expected, **STATED)


def test_losses_of_decayed_flows_are_the_stated_ones():
    flow = mode_solution(dynamics(GradientDescent(0.05, weight_decay=0.3)))
    assert loss_curve(flow, MEASURE, [1.0]).loss[0] == pytest.approx(0.5764697494, abs=6e-11)
    ball = mode_solution(dynamics(COUPLED))
    assert loss_curve(ball, MEASURE, [2.0]).loss[0] == pytest.approx(0.2151037028, abs=6e-11)


@pytest.mark.parametrize(
    "rule",
    [GradientDescent(0.05, weight_decay=0.3), COUPLED, DECOUPLED, Nesterov(0.01, r=3, weight_decay=0.3)],
    ids=["flow", "coupled", "decoupled", "vanishing friction"],
)
def test_closed_forms_are_what_the_solver_finds(rule):
    found, t = dynamics(rule), [0.0, 0.5, 2.0, 6.0]
    curve = loss_curve(mode_solution(found), MEASURE, t)
    run = integrate(found, KERNEL, DELTA0, t, rtol=1e-8, atol=1e-10, origin=ORIGIN)
    np.testing.assert_allclose(curve.loss, run.loss, rtol=2e-7)  # steps of the solver add up
    assert np.all((curve.lower <= curve.loss) & (curve.loss <= curve.upper))
    assert not curve.proved.any()


@pytest.mark.parametrize(
    "rule",
    [
        HeavyBall(Cosine(0.01, steps=40), 0.9, weight_decay=0.3),
        TorchSGD(lr=Linear(0.01, steps=40), momentum=0.9, weight_decay=0.3),
        GradientDescent(Cosine(0.05, steps=40), weight_decay=Linear(0.3, steps=40, end=0.1)),
        COUPLED,
        DECOUPLED,
    ],
    ids=["cosine", "rate outside", "scheduled decay", "coupled", "decoupled"],
)
def test_modes_that_are_integrated_are_what_the_solver_finds_in_the_errors(rule):
    found = dynamics(rule)
    t = np.linspace(0, 39 * 0.05, 4)
    curve = loss_curve(integrated_mode(found), MEASURE, t)
    run = integrate(found, KERNEL, DELTA0, t, rtol=1e-9, atol=1e-11, origin=ORIGIN)
    np.testing.assert_allclose(curve.loss, run.loss, rtol=2e-7)  # steps of the solver add up
    assert not curve.proved.any()


@pytest.mark.parametrize("rule", [COUPLED, DECOUPLED], ids=["coupled", "decoupled"])
def test_steps_follow_their_equation_in_first_order(rule):
    """The start with the velocity -omega X(0) of decoupled decay is of the first order; with 0 it is not."""
    limit = loss_curve(mode_solution(dynamics(rule)), MEASURE, [2.0]).loss[0]
    sizes = np.array([4e-3, 2e-3, 1e-3])
    gaps = []
    for h in sizes:
        numbers = rule.at({H_: h, B: 1, OMEGA: 0.3})
        gaps.append(abs(loss_curve(numbers, MEASURE, [round(2 / h)], bounds=False).loss[0] - limit))
    order = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    assert order == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("rule_at", "regime", "data"),
    [
        (lambda e: GradientDescent(e, weight_decay=0.3), "natural", 0),
        (lambda e: HeavyBall(e, 0.5, weight_decay=0.3), "fixed", 1),
        (lambda e: HeavyBall(e**2, 1 - e, weight_decay=0.3), "natural", 2),
    ],
    ids=["descent", "starts beside the first iterate", "starts with a velocity"],
)
def test_corrected_equations_of_decayed_steps_are_of_second_order(rule_at, regime, data):
    sizes, gaps = np.array([0.01, 0.005, 0.0025]), []
    for size in sizes:
        rule = rule_at(size)
        found = error_dynamics(ode_limit(rule, resolution=1, regime=regime))
        assert len(found.source_data) == data
        k = round(1 / float(found.time_step))
        t = (k + float(found.time_origin)) * float(found.time_step)
        pair = (rule, [k]), (mode_solution(found), [t])
        one, other = (loss_curve(what, MEASURE, at, bounds=False).loss[0] for what, at in pair)
        gaps.append(abs(one - other))
    assert np.polyfit(np.log(sizes), np.log(gaps), 1)[0] == pytest.approx(2.0, abs=0.1)


def test_the_equation_of_decoupled_decay_names_its_terms():
    found = error_dynamics(ode_limit(DECOUPLED, H_))
    assert str(found) == "Delta'' + (b + omega)*Delta' + H*Delta + (b*omega)*Delta = (b*omega)*q"
    assert found.source_data == (0, OMEGA)
    assert r"=\left(b \omega\right)q" in found.latex().replace("= ", "=")
    lam = found.lam
    end = sympy.limit(mode_solution(dynamics(DECOUPLED)).origin_expr.subs(lam, 2), found.t, sympy.oo)
    assert float(end) == pytest.approx(0.3 / 2.3, rel=1e-12)  # b omega / (lam + b omega)


def test_lanczos_estimates_the_loss_of_a_decayed_flow():
    lam = np.linspace(0.0, 1.5, 80) ** 2
    delta0, origin = np.random.default_rng(3).standard_normal((2, 80))
    mode, t = mode_solution(dynamics(COUPLED)), [0.0, 1.0, 5.0, 20.0]
    for start in (origin, -delta0):
        expected = loss_curve(mode, spectral_measure(np.diag(lam), delta0, origin=start), t).loss
        for steps in (5, 15, 40):
            measure = spectral_measure(np.diag(lam), delta0, origin=start, num_matvecs=steps)
            curve = loss_curve(mode, measure, t)
            assert np.all((curve.lower <= expected) & (expected <= curve.upper))
            assert not curve.proved.any()
        assert np.all(curve.upper - curve.lower < 1e-9 * expected[0])


def test_the_rate_is_that_of_the_distance_to_the_fixed_point():
    rate = exact_rate(dynamics(GradientDescent(0.05, weight_decay=0.3)), 1.0, 2.0)
    assert rate.value == pytest.approx(2.6, rel=1e-12)
    assert "distance to the fixed point" in rate.note


def test_what_holds_no_origin_is_refused_with_the_way_out():
    found = dynamics(GradientDescent(0.05, weight_decay=0.3))
    mode = mode_solution(found)
    with pytest.raises(ValueError, match=r"not its mode alone.*mode\.both"):
        mode([1.0], [1.0])
    with pytest.raises(ValueError, match=r"3/10\*q depends on q .*origin="):
        loss_curve(mode, spectral_measure(KERNEL, DELTA0), [1.0])
    with pytest.raises(ValueError, match=r"in the error alone.*holds q = Delta_0 - J w_0.*to_start"):
        integrate(found, KERNEL, DELTA0, [1.0], rtol=1e-6, atol=1e-8)
