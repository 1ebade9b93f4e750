"""Modes under schedules: closed forms, reference losses, integration across breaks, brackets."""

import numpy as np
import pytest
import scipy.special
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    SquaredLoss,
    error_dynamics,
    integrate,
    loss_curve,
    mode_solution,
    ode_limit,
    prediction_dynamics,
    spectral_measure,
)
from odeopt.dynamics import integrate_predictions, integrated_mode
from odeopt.rules import (
    QHM,
    Constant,
    Cosine,
    Exponential,
    Formula,
    InverseSqrt,
    Linear,
    Step,
    TorchSGD,
    WarmupStableDecay,
)

# Four eigenvalues with weight 1 each: the loss begins at 2.
MEASURE = spectral_measure(np.diag([1.0, 1 / 4, 1 / 9, 1 / 16]), np.ones(4))
LR, K = 0.5, 100
k = sympy.Symbol("k")

# The schedule, and losses after 50 and 100 steps, of the ODE at the end, and of its first correction there.
REFERENCE = [
    (Constant(LR), 0.02254726, 0.00087902, 0.00097270, 0.00088091),
    (Linear(LR, steps=K), 0.05276085, 0.02223278, 0.02390329, 0.02226133),
    (Cosine(LR, steps=K), 0.04147808, 0.02212427, 0.02390329, 0.02215649),
    (InverseSqrt(LR, offset=10), 0.09717282, 0.02896824, 0.03053794, 0.02900410),
    (WarmupStableDecay(LR, steps=K, warmup=10, decay=20), 0.03279306, 0.00230645, 0.00250436, 0.00231047),
    (Step(LR, milestones=(50, 75), factor=0.5), 0.02254726, 0.00662485, 0.00704621, None),
    (Formula(LR * sympy.exp(-3 * k / K), k), 0.12128400, 0.07932802, 0.08405349, 0.07943167),
]
KINDS = [type(case[0]).__name__ for case in REFERENCE]


@pytest.mark.parametrize(("schedule", "middle", "end", "ode", "corrected"), REFERENCE, ids=KINDS)
def test_losses_of_descent_are_the_reference(schedule, middle, end, ode, corrected):
    rule, time = GradientDescent(schedule), [K * LR]
    digits = {"abs": 6e-9}  # references are given to eight places
    assert loss_curve(rule, MEASURE, [50, K]).loss == pytest.approx([middle, end], **digits)
    mode = mode_solution(error_dynamics(ode_limit(rule)))
    assert loss_curve(mode, MEASURE, time).loss == pytest.approx([ode], **digits)
    if corrected is not None:
        bent = mode_solution(error_dynamics(ode_limit(rule, resolution=1)))
        assert loss_curve(bent, MEASURE, time).loss == pytest.approx([corrected], **digits)


@pytest.mark.parametrize(
    ("schedule", "integral"),
    [
        (Linear(LR, steps=K), lambda u: u - u**2 / 2),
        (Cosine(LR, steps=K), lambda u: u / 2 + np.sin(np.pi * u) / (2 * np.pi)),
        (InverseSqrt(LR, offset=10), lambda u: 0.2 * (np.sqrt(1 + 10 * u) - 1)),
        (Exponential(LR, float(np.exp(-3 / K))), lambda u: (1 - np.exp(-3 * u)) / 3),
        (
            WarmupStableDecay(LR, steps=K, warmup=10, decay=20),
            lambda u: np.where(u < 0.1, 5 * u**2, np.where(u < 0.8, u - 0.05, 0.85 - 2.5 * (1 - u) ** 2)),
        ),
    ],
)
def test_intrinsic_time_is_the_integral_of_the_schedule(schedule, integral):
    limit = ode_limit(GradientDescent(schedule))
    sigma, u = sympy.lambdify(limit.t, limit.intrinsic_time, "numpy"), np.linspace(0.01, 1, 23)
    total = K * LR
    # the ratio of the exponential is a double, 1e-16 in each of the steps
    assert sigma(u * total) == pytest.approx(total * integral(u), abs=1e-12 * total)
    mode = mode_solution(error_dynamics(limit))
    assert mode(u * total, [0.3])[:, 0] == pytest.approx(np.exp(-0.3 * total * integral(u)), abs=1e-13)


def test_a_flow_under_a_schedule_is_gradient_flow_at_another_time_with_proved_brackets():
    measure = spectral_measure(np.diag(np.geomspace(1e-4, 1, 300)), np.ones(300), num_matvecs=12)
    scheduled, plain = (
        mode_solution(error_dynamics(ode_limit(GradientDescent(s)))) for s in (Linear(LR, steps=K), LR)
    )
    t = np.array([1.0, 20.0, 70.0])
    sigma = np.where(t < 50, t - t**2 / 100, 25.0)
    one, other = loss_curve(scheduled, measure, t), loss_curve(plain, measure, sigma)
    assert one.rigorous
    for name in ("loss", "lower", "upper"):
        # sigma is rounded once more
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9)


def airy(t, b, lam, total):
    """The mode of X'' + b X' + lam (1 - t/total) X = 0 from 1 at rest, by Airy functions."""
    q = (lam / total) ** (1 / 3)

    def pair(s):
        a, da, c, dc = scipy.special.airy((b**2 / 4 - lam * (1 - s / total)) / q**2)
        decay = np.exp(-b * s / 2)
        values = np.array([a, c]) * decay
        return values, np.array([da, dc]) * q * decay - b / 2 * values

    start = pair(0.0)
    return float(np.linalg.solve(np.array(start), [1.0, 0.0]) @ pair(t)[0])


def test_linear_decay_inside_the_velocity_is_an_airy_function():
    assert airy(4.0, 1.0, 2.0, 8.0) == pytest.approx(-0.0968820259, abs=1e-10)
    rule = HeavyBall(Linear(0.0001, steps=800), 0.99)
    mode = integrated_mode(error_dynamics(ode_limit(rule)), rtol=1e-12)
    t, lam = [0.5, 4.0, 7.5], [0.5, 2.0, 30.0]
    expected = [[airy(s, 1.0, v, 8.0) for v in lam] for s in t]
    assert mode(t, lam) == pytest.approx(np.array(expected), abs=1e-10)


RULES = [
    HeavyBall(WarmupStableDecay(0.01, steps=60, warmup=10, decay=20), 0.9),
    TorchSGD(Linear(0.01, steps=60), momentum=0.9),
    TorchSGD(Linear(0.01, steps=60), r=3, nesterov=True),
    TorchSGD(Step(0.01, milestones=(20, 40), factor=0.5), momentum=0.9),
    QHM(Cosine(0.1, steps=60), momentum=0.9, nu=0.7),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.label)
def test_the_error_under_a_kernel_the_modes_and_the_predictions_agree(rule):
    limit = ode_limit(rule)
    dynamics = error_dynamics(limit)
    kernel = np.array([[2.0, 0.5], [0.5, 1.0]])
    values, vectors = np.linalg.eigh(kernel)
    t, start = np.array([0.0, 0.7, 3.0, 5.9, 6.5]), np.array([1.0, -2.0])
    run = integrate(dynamics, kernel, start, t, rtol=1e-11, atol=1e-13)
    modes = integrated_mode(dynamics, rtol=1e-11)(t, values)
    # two integrations to 1e-11 of values up to 2
    assert run.delta == pytest.approx(modes * (vectors.T @ start) @ vectors.T, abs=1e-9)
    if isinstance(rule, QHM):
        return
    found = integrate_predictions(
        prediction_dynamics(limit, SquaredLoss()), kernel, start, [0.0, 0.0], t, rtol=1e-11, atol=1e-13
    )
    assert found.u == pytest.approx(run.delta, abs=1e-9)


def test_after_a_decay_to_nothing_a_rate_outside_the_velocity_leaves_the_error_where_it_is():
    dynamics = error_dynamics(ode_limit(TorchSGD(Linear(0.01, steps=60), momentum=0.9)))
    run = integrate(dynamics, [[1.0]], [1.0], [6.0, 7.0, 20.0], rtol=1e-10, atol=1e-12)
    assert np.ptp(run.delta) < 1e-12 < abs(run.delta[0, 0])


def test_dynamics_are_printed_with_schedules_by_name():
    dynamics = error_dynamics(ode_limit(TorchSGD(Linear(0.01, steps=60), momentum=0.9)))
    assert str(dynamics) == "Delta'' + (1 - s'(t)/s(t))*Delta' + s(t)*H*Delta = 0"


def test_what_has_no_closed_form_names_the_integrated_mode():
    with pytest.raises(ValueError, match="integrated_mode"):
        mode_solution(error_dynamics(ode_limit(HeavyBall(Cosine(0.01, steps=60), 0.9))))
    with pytest.raises(ValueError, match="no intrinsic time"):
        ode_limit(HeavyBall(Cosine(0.01, steps=60), 0.9)).intrinsic_time  # noqa: B018


def test_without_noise_a_decay_does_not_help():
    modes = [mode_solution(error_dynamics(ode_limit(GradientDescent(case[0])))) for case in REFERENCE]
    constant, *others = (loss_curve(mode, MEASURE, [10.0, 50.0]).loss for mode in modes)
    assert all(np.all(constant <= other) for other in others)


@pytest.mark.parametrize(("method", "steps"), [("DOP853", 1), ("Radau", 1), ("DOP853", 200)])
def test_many_times_across_the_jumps_of_a_schedule_are_followed_as_well_as_one(method, steps):
    dynamics = error_dynamics(ode_limit(GradientDescent(Step(0.1, milestones=(40, 90), factor=0.5))))
    eigenvalues, first, rtol = np.array([1.0, 3.0]), np.array([1.0, -2.0]), 1e-8
    t = np.linspace(0, 15, steps + 1)  # the jumps are at t = 4 and t = 9
    found = integrate(dynamics, np.diag(eigenvalues), first, t, method=method, rtol=rtol, atol=0)
    passed = np.minimum(t, 4) + 0.5 * np.clip(t - 4, 0, 5) + 0.25 * np.clip(t - 9, 0, None)
    # errors of some tens of steps, each below rtol of the state
    np.testing.assert_allclose(found.delta, first * np.exp(-np.outer(passed, eigenvalues)), rtol=100 * rtol)
    # a step of DOP853 takes 12 evaluations: begun anew at every time, 200 of them would cost 2400 at least
    assert found.nfev < 12 * 200 or method == "Radau"
