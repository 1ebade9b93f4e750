"""Maps of rates over two parameters: each entry is the rate of its pair, stability ends at the limit."""

import numpy as np
import pytest
import sympy

from odeopt import (
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    error_dynamics,
    exact_rate,
    max_learning_rate,
    ode_limit,
)
from odeopt.rates import radius_map, rate_map

h, b = sympy.symbols("h b", positive=True)


def heavy_ball_dynamics():
    return error_dynamics(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))


def test_rate_map_is_the_exact_rate_of_every_pair():
    third = error_dynamics(
        ode_limit(HigherMomentum(lr=h**3, momenta=(2 - (b + 1) * h, -(1 - b * h) * (1 - h))), h)
    )
    values, lam = [0.3, 1.0, 2.5], [0.04, 0.7, 3.0]
    for dynamics in (heavy_ball_dynamics(), third):
        found = rate_map(dynamics, b, values, lam)
        want = [[exact_rate(dynamics.subs({b: v, h: 1}), mu).value for v in values] for mu in lam]
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-14)  # roundings of the eigenvalues


def test_third_order_modes_are_unstable_beyond_the_routh_hurwitz_threshold():
    """c1 c2 (c1 + c2)."""
    third = error_dynamics(
        ode_limit(HigherMomentum(lr=h**3, momenta=(2 - (b + 1) * h, -(1 - b * h) * (1 - h))), h)
    )
    for c2 in (0.4, 1.0, 2.5):
        threshold = c2 * (1 + c2)
        (below,), (above,) = rate_map(third, b, [c2], [0.99 * threshold, 1.01 * threshold])
        assert above < 0 < below


def test_rate_map_refuses_time_and_other_symbols():
    nesterov = error_dynamics(ode_limit(Nesterov(lr=h**2, r=3), h))
    for dynamics, name in (
        (nesterov, "t"),
        (heavy_ball_dynamics().subs({b: 2 * b * sympy.Symbol("q")}), "q"),
    ):
        with pytest.raises(ValueError, match=rf"hold {name} beside b; .*subs"):
            rate_map(dynamics, b, [1.0], [1.0])


def test_radius_map_crosses_one_at_the_stability_limit():
    rules = [NesterovConstant(1.0, beta) for beta in (0.0, 0.5, 0.9)]
    for rule in rules:
        limit = max_learning_rate(rule, 1.0)
        ((below, above),) = radius_map([rule], [0.999 * limit, 1.001 * limit])
        assert below < 1 < above
    found = radius_map([rules[0], None], [0.5, 1.5])
    np.testing.assert_allclose(found, [[0.5, 0.5], [np.nan, np.nan]])
