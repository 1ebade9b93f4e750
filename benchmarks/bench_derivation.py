"""Claim of the README: every built-in rule is derived in half a second, with its correction in two."""

import pytest
from zoo import derivable_rules, rule_id

from odeopt import GradientDescent, ode_limit


@pytest.mark.parametrize("rule", derivable_rules(), ids=rule_id)
@pytest.mark.parametrize(("resolution", "seconds"), [(0, 0.5), (1, 2.0)])
def bench_derivation(benchmark, rule, resolution, seconds):
    ode_limit(GradientDescent(0.5), resolution=1)  # warm sympy
    benchmark.pedantic(ode_limit, (rule,), {"resolution": resolution}, rounds=1)
    assert benchmark.stats.stats.max < seconds
