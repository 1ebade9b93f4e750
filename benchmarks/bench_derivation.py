"""Claim: every built-in rule is derived in half a second of processor time, with its correction in two.

Each round begins with the caches of sympy empty, as at the first rule of a session; the least of three rounds
is that of a machine that does nothing else.
"""

import pytest
from sympy.core.cache import clear_cache
from zoo import derivable_rules, rule_id

from odeopt import ode_limit


@pytest.mark.parametrize("rule", derivable_rules(), ids=rule_id)
@pytest.mark.parametrize(("resolution", "seconds"), [(0, 0.5), (1, 2.0)])
def bench_derivation(benchmark, rule, resolution, seconds):
    ode_limit(rule, resolution=resolution)  # what is loaded at the first use
    benchmark.pedantic(ode_limit, (rule,), {"resolution": resolution}, setup=clear_cache, rounds=3)
    assert benchmark.stats.stats.min < seconds
