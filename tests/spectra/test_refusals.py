"""What is no argument of spectra and rates is refused in the package's words, whatever it is."""

import functools

import numpy as np
import pytest
import scipy.sparse
import sympy

from odeopt import (
    GradientDescent,
    HeavyBall,
    error_dynamics,
    exact_rate,
    loss_curve,
    ode_limit,
    spectral_measure,
    tune,
)
from odeopt.rates import fit_rate, steps_to, tune_for
from odeopt.spectra import effective_dimension, predicted_errors, sgd_prediction

RULE, KERNEL, ONES = GradientDescent(0.1), np.eye(2), np.ones(2)
MEASURE = spectral_measure(np.diag([1.0, 2.0]), ONES)
FLOW = error_dynamics(ode_limit(RULE))
CURVE = functools.partial(loss_curve, RULE, grid=[1])
WRONG = [
    None, "a", 1j, np.nan, np.inf, -1, [], [[1]], {}, np.array(["x"]), True, 1e19, 10**30, object(), [1j],
    np.ma.masked, np.datetime64("2020"), sympy.Symbol("z"),
]  # fmt: skip
CALLS = {
    "rule of a curve": lambda bad: loss_curve(bad, MEASURE, [0, 1]),
    "measure of a curve": lambda bad: loss_curve(RULE, bad, [0, 1]),
    "grid": lambda bad: loss_curve(RULE, MEASURE, bad),
    "time step": lambda bad: loss_curve(RULE, MEASURE, [0, 1], time_step=bad),
    "time origin": lambda bad: loss_curve(RULE, MEASURE, [0, 1], time_step=0.1, time_origin=bad),
    "kernel": lambda bad: spectral_measure(bad, ONES),
    "error": lambda bad: spectral_measure(KERNEL, bad),
    "number of products": lambda bad: spectral_measure(KERNEL, ONES, num_matvecs=bad),
    "tolerance": lambda bad: spectral_measure(
        KERNEL, ONES, rtol=bad, curves=[lambda m: loss_curve(RULE, m, [1])]
    ),
    "interval": lambda bad: spectral_measure(KERNEL, ONES, num_matvecs=1, interval=bad),
    "rule of a batch": lambda bad: sgd_prediction(bad, KERNEL, ONES, 1, [0, 1]),
    "kernel of a batch": lambda bad: sgd_prediction(RULE, bad, ONES, 1, [0, 1]),
    "size of a batch": lambda bad: sgd_prediction(RULE, KERNEL, ONES, bad, [0, 1]),
    "steps of a batch": lambda bad: sgd_prediction(RULE, KERNEL, ONES, 1, bad),
    "ridge": lambda bad: effective_dimension(KERNEL, bad),
    "probes": lambda bad: effective_dimension(KERNEL, 1.0, probes=bad),
    "rule of predictions": lambda bad: predicted_errors(bad, KERNEL, ONES, [0, 1]),
    "error of predictions": lambda bad: predicted_errors(RULE, KERNEL, bad, [0, 1]),
    "dynamics": lambda bad: exact_rate(bad, 1.0, 2.0),
    "mu": lambda bad: exact_rate(FLOW, bad, 2.0),
    "L": lambda bad: exact_rate(FLOW, 1.0, bad),
    "curve": fit_rate,
    "type": lambda bad: tune(bad, 1.0, 2.0),
    "measure to tune for": lambda bad: tune_for(HeavyBall, bad, 10),
    "rule to run": lambda bad: steps_to(bad, MEASURE, 0.1),
    "measure to run on": lambda bad: steps_to(RULE, bad, 0.1),
    "loss": lambda bad: steps_to(RULE, MEASURE, bad),
}
# of None, a boolean, or a number that is one
MOST_ANSWERED = 5
RAW = ("operands", "truth value", "unpack", "convert string")


def refusal(call, bad):
    try:
        call(bad)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CALLS)
def test_no_raw_error_leaves_a_public_function(name):
    refusals = [refusal(CALLS[name], bad) for bad in WRONG]
    assert refusals.count(None) <= MOST_ANSWERED
    assert not [text for text in refusals if text and any(raw in text for raw in RAW)]


def test_iterations_that_would_take_hours_are_refused_at_once():
    measure = spectral_measure(np.eye(2), [1.0, 1.0])
    for k in (10_000_001, 1e9, 1e19):
        with pytest.raises(ValueError, match="up to 10,000,000"):
            loss_curve(GradientDescent(0.5), measure, [0, k])


def test_a_sparse_matrix_is_called_one():
    with pytest.raises(ValueError, match="kernel is a sparse matrix"):
        spectral_measure(scipy.sparse.eye_array(3), np.ones(3))


def test_errors_whose_squares_leave_the_floats_are_refused():
    for steps in (None, 2):
        with pytest.raises(ValueError, match="leave the range of floats"):
            spectral_measure(np.diag([1.0, 2.0]), [1e155, 1e155], num_matvecs=steps)
        assert np.isfinite(
            spectral_measure(np.diag([1.0, 2.0]), [1e153, 1e153], num_matvecs=steps).weights
        ).all()
