"""A user's rule, run and integrated on f(x) = |x|^2 / 2 or a gradient of its own."""

from itertools import islice

import numpy as np

from odeopt.limits import integrate_limit
from odeopt.rules.base import iterate


def quadratic(x, *v):
    """Differentials of |x|^2/2."""
    return v[0] if len(v) == 1 else (0 * x if v else x)


def curve(limit, x0, t, differential=quadratic):
    return integrate_limit(limit, differential, x0, t, rtol=1e-9, atol=1e-11).x


def run(rule, x0, count, gradient=quadratic):
    return np.array(list(islice(iterate(rule, np.array(x0, float), gradient), count + 1)))
