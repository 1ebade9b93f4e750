"""Rates of an ODE where characteristic roots meet: by exact arithmetic, not to the root of a rounding."""

import numpy as np
import pytest
import sympy

from odeopt import HeavyBall, HigherMomentum, discrete_rate, error_dynamics, exact_rate, ode_limit

H = sympy.Symbol("h", positive=True)


def of_roots(*roots):
    """A third-order flow whose characteristic polynomial at lam = 1 has the given rates."""
    z = sympy.Symbol("z")
    c = sympy.Poly(sympy.expand(sympy.prod(z + r for r in roots)), z).all_coeffs()
    assert c[3] == 1
    rule = HigherMomentum(H**3, (2 - c[1] * H, -(1 - c[1] * H + c[2] * H**2)))
    return error_dynamics(ode_limit(rule, H))


def test_a_triple_root_has_its_rate():
    assert exact_rate(of_roots(1, 1, 1), 1.0).value == pytest.approx(2.0, rel=1e-15)


def test_a_double_slow_root_has_its_rate():
    half = sympy.Rational(1, 2)
    assert exact_rate(of_roots(half, half, 4), 1.0).value == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("gap", [0, sympy.Rational(1, 10**12)])
def test_critical_friction_and_a_hair_more_are_told_apart(gap):
    """Friction 2 + gap at lam = 1: the slow rate is 1 - sqrt(gap), 1e-6 below a double root."""
    friction = 2 + gap
    rule = HeavyBall(H**2, 1 - friction * H)
    rate = exact_rate(error_dynamics(ode_limit(rule, H)), 1.0)
    truth = friction - sympy.sqrt(friction**2 - 4)
    assert rate.value == pytest.approx(float(truth.evalf(30)), rel=1e-14)


def test_the_slowest_curvature_decides():
    dynamics = of_roots(1, 1, 1)
    alone = [exact_rate(dynamics, lam).value for lam in np.linspace(0.2, 1.0, 9)]
    assert exact_rate(dynamics, 0.2, 1.0).value == pytest.approx(min(alone), rel=1e-12)


@pytest.mark.parametrize("size", [1e-200, 1e-20, 1e200])
def test_rates_of_curvatures_of_any_size(size):
    """On [size/10, size]: of friction 1, and of steps 1/size, which are the same steps at any size."""
    dynamics = error_dynamics(ode_limit(HeavyBall.with_friction(lr=0.01, friction=1.0)))
    mu = size / 10
    # below 1/4 the root is taken without cancellation; above, half of the friction is left
    wanted = 4 * mu / (1 + np.sqrt(1 - 4 * mu)) if mu < 0.25 else 1.0
    assert exact_rate(dynamics, mu, size).value == pytest.approx(wanted, rel=1e-12)
    rates = [discrete_rate(HeavyBall(1 / L, 0.5), L / 10, L).value for L in (1.0, size)]
    assert rates[1] == pytest.approx(rates[0], rel=1e-6)
