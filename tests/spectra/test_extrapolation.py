"""Bounds on steps that extrapolate by momenta that change, against their values on a mesh and in decimals."""

from __future__ import annotations

import decimal
from decimal import Decimal

import numpy as np
import pytest

from odeopt import Nesterov, NesterovConstant, loss_curve, spectral_measure
from odeopt.rules import Linear
from odeopt.rules.reading import read
from odeopt.spectra.extrapolation import Extrapolation, extrapolation_of

LAST = 240
STEPS = np.arange(LAST)
MOMENTA = {
    "Nesterov": np.maximum(STEPS - 1.0, 0) / (STEPS + 2),
    "much friction": np.maximum(STEPS - 1.0, 0) / (STEPS + 19),
    "none": np.append([0.0, 0.0], np.ones(LAST - 2)),
    "falling": 1 - STEPS / LAST,
    "restarted": (STEPS % 40) / (STEPS % 40 + 3.0),
    "any": np.random.default_rng(0).uniform(0, 1, LAST),
    "almost alike": 0.8 + 0.1 * np.sin(STEPS / 50),
}
# Roundings of the run that is compared, LAST steps of a few operations.
ROUNDING = 1e-12


@pytest.mark.parametrize("beta", MOMENTA.values(), ids=MOMENTA)
@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.0, 4 / 3 - 1e-9), (0.03, 1.0), (0.3, 1.33), (1.2, 1.3)]
)
def test_what_is_added_to_an_iterate_stays_within_its_bound(beta, low, high):
    k = np.arange(LAST + 1)
    bounds = Extrapolation(1.0, beta, k, low, high)
    p = 1 - np.concatenate([low + (high - low) * np.linspace(0, 1, 801) ** 2, np.linspace(low, high, 401)])
    for j in (0, 1, 2, 7, 60, 239):
        force = np.zeros((LAST, 2))
        if j:
            force[j - 1, 0] = 1.0
            bound = bounds.of_state(force)
        else:
            bound = bounds.driven(np.array([1.0, 1.0]), np.zeros((LAST, 1)))
        x, older = np.ones_like(p), np.ones_like(p) * (j == 0)
        for i in range(j, LAST + 1):
            assert np.abs(x).max() <= bound[i] * (1 + ROUNDING) + 1e-300
            x, older = (p * (x + beta[i] * (x - older)), x) if i < LAST else (x, older)


def test_without_a_lower_end_the_bound_is_the_response_at_0():
    bounds = Extrapolation(0.5, MOMENTA["Nesterov"], np.array([LAST]), 0.0, 2.0)
    force = np.random.default_rng(1).uniform(0, 1, (LAST, 1))
    x = older = 0.0
    for beta, added in zip(MOMENTA["Nesterov"], force[:, 0], strict=True):
        x, older = x + beta * (x - older) + 0.5 * added, x
    assert bounds.of_gradients(force)[0] == pytest.approx(x, rel=1e-11)


def test_a_bound_decays_as_the_iterates_do():
    low, last = 0.01, 2000
    beta = np.maximum(np.arange(last) - 1.0, 0) / (np.arange(last) + 2)
    bounds = Extrapolation(1.0, beta, np.array([last]), low, 1.0)
    force = np.zeros((last, 2))
    force[500, 0] = 1.0
    # e^(-low / 2) a step, from at most 1 / sqrt(low), and what momentum leaves of that
    assert bounds.of_state(force)[0] < 2 / np.sqrt(low) * (1 - low) ** ((last - 501) / 2)


def test_which_rules_extrapolate():
    found = extrapolation_of(read(Nesterov(0.5, r=5)), 5)
    assert found is not None
    lr, beta = found
    assert lr == 0.5
    np.testing.assert_allclose(beta, [0, 0, 1 / 6, 2 / 7, 3 / 8], rtol=1e-15)
    assert extrapolation_of(read(NesterovConstant(0.5, Linear(0.9, 9, 0.5))), 5) is not None
    for other in (Nesterov(Linear(0.5, 9)), Nesterov(0.5, weight_decay=0.1, to_start=True)):
        assert extrapolation_of(read(other), 5) is None


def losses(lr, lam, delta0, k):
    """Losses of Nesterov's steps in numbers of 60 digits, of which 20,000 steps lose some ten."""
    with decimal.localcontext(prec=60):
        p = [1 - Decimal(lr) * Decimal(value) for value in lam.tolist()]
        x = [Decimal(value) for value in delta0.tolist()]
        older, found = list(x), []
        for j in range(k[-1] + 1):
            if j in k:
                found.append(sum(value * value for value in x) / 2)
            beta = max(Decimal(j) - 1, Decimal(0)) / (j + 2)
            x, older = [f * (a + beta * (a - b)) for f, a, b in zip(p, x, older, strict=True)], x
    return found


@pytest.mark.parametrize(("lr", "low"), [(1.0, 0.0), (1.25, 1e-4)])
def test_brackets_of_20000_steps_are_proved_and_hold(lr, low):
    lam, delta0 = np.geomspace(1e-4, 1, 8), np.random.default_rng(1).standard_normal(8)
    k = [0, 5, 300, 4999, 5001, 20_000]
    true = losses(lr, lam, delta0, k)
    for steps in (4, 8):
        measure = spectral_measure(np.diag(lam), delta0, num_matvecs=steps, interval=(low, 1.0))
        curve = loss_curve(Nesterov(lr), measure, k)
        assert curve.proved.all()
        for lower, value, upper in zip(curve.lower, true, curve.upper, strict=True):
            assert Decimal(lower) <= value <= Decimal(upper)
    # nothing is left to Lanczos; some 1e4 steps of 1e-16 on a mode of which 1e-5 is left
    assert np.all(curve.upper - curve.lower <= 1e-4 * curve.loss)
