"""Late iterates by powers of a steady step, against single steps and exact arithmetic."""

import mpmath
import numpy as np
import pytest

from odeopt import GradientDescent, HeavyBall, Nesterov, TorchSGD
from odeopt.rules import QHM, NesterovConstant
from odeopt.rules.displacement import displacement_polynomials
from odeopt.rules.powers import has_powers, iterates_by_powers

K = np.array([3000, 0, 1, 31, 32, 33, 64, 1000, 2999, 5])
LAM = np.array([0.0, 1e-12, 1e-5, 1e-3, 0.00277, 0.1, 1.0, 1.9])


def exact(lr, momentum, lam):
    """Heavy ball from 0 with the gradient lam z + 1, in forty digits."""
    with mpmath.workdps(40):
        lr, momentum, lam = (mpmath.mpf(float(v)) for v in (lr, momentum, lam))
        x = before = mpmath.mpf(0)
        found = {}
        for k in range(K.max() + 1):
            found[k] = float(x)
            x, before = x + momentum * (x - before) - lr * (lam * x + 1), x
    return [found[k] for k in K]


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_powers_are_as_accurate_as_single_steps(momentum):
    rule = HeavyBall(1.0, momentum) if momentum else GradientDescent(1.0)
    found = iterates_by_powers(rule, LAM, K)
    expected = np.transpose([exact(1.0, momentum, lam) for lam in LAM])
    # 94 products, each off by a rounding of a velocity 1 / (1 - momentum) times what is kept
    np.testing.assert_allclose(found, expected, rtol=1e-13 / (1 - momentum))


@pytest.mark.parametrize(
    "rule",
    [
        TorchSGD(lr=0.3, momentum=0.9, dampening=0.5),  # its first step is another
        TorchSGD(lr=0.3, momentum=0.9, nesterov=True),
        NesterovConstant(0.5, 0.9),
        QHM(0.3, 0.9, 0.7),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_powers_are_the_steps_of_rules_with_memory(rule):
    assert has_powers(rule, K)
    stepped = displacement_polynomials(rule, LAM, K, stepwise=True)[2]
    # single steps round by up to some 3000 eps / (1 - momentum)
    np.testing.assert_allclose(iterates_by_powers(rule, LAM, K), stepped, rtol=3e-12)
    np.testing.assert_array_equal(displacement_polynomials(rule, LAM, K)[2], iterates_by_powers(rule, LAM, K))


def test_steps_that_change_and_many_iterates_have_no_powers():
    assert not has_powers(Nesterov(0.5), K)
    assert not has_powers(HeavyBall(0.5, 0.9), np.arange(3000))
    assert not has_powers(HeavyBall(0.5, 0.9), np.array([255])) and has_powers(HeavyBall(0.5, 0.9), K)
    unstable = iterates_by_powers(HeavyBall(1.0, 0.9), np.array([9.0]), np.array([10, 5000]))
    assert np.isfinite(unstable[0]) and not np.isfinite(unstable[1])
