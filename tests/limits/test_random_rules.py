"""Random linear rules: iterates, averages, gradient points, periods and decay, each against its own limit."""

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pytest

from odeopt import UpdateRule, ode_limit
from odeopt.limits import integrate_limit
from odeopt.rules.base import iterate

A = np.array([[1.5, 0.4], [0.4, 0.7]])
X0 = np.array([1.0, -0.7])


def differential(x, *v):
    c = 1 / np.cosh(x) ** 2
    return A @ x + np.tanh(x) if not v else A @ v[0] + c * v[0]


def random_rule(seed) -> type[UpdateRule]:
    """1-4 iterates, 0-3 averages of x or of gradients, 1-2 gradient points, period 1-4, sometimes decay."""
    rng = np.random.default_rng(seed)

    def draw(low, high, count):
        return [round(float(v), 2) for v in rng.uniform(low, high, count)]

    size, averages, points, cycle = (int(rng.integers(*r)) for r in ((1, 5), (0, 4), (1, 3), (1, 5)))
    of_x = [bool(v) for v in rng.random(averages) < 0.4]
    decays, momenta, weights = draw(0, 0.7, averages), draw(-0.1, 0.3, size - 1), draw(0.1, 0.3, averages)
    shifts = [draw(-0.4, 0.4, size - 1) for _ in range(points)]
    pulls, sizes = draw(0.3, 1, points), draw(0.5, 1.5, cycle)
    decay = draw(0.1, 0.5, 1)[0] if rng.random() < 0.4 else 0.0

    @dataclass(frozen=True)
    class Drawn(UpdateRule):
        lr: float
        history = size
        gradients = points
        period = cycle

        def initial_memory(self, x0):
            return tuple(x0 if is_x else 0 * x0 for is_x in of_x) or None

        def step(self, k, iterates, memory, grad):
            x, memory, lr = iterates[0], memory or (), self.lr * sizes[k % cycle]
            found = []
            for row in shifts:
                y = x if not found else x - 0.3 * lr * found[-1]
                for s, newer, older in zip(row, iterates, iterates[1:], strict=False):
                    y = y + s * (newer - older)
                found.append(grad(y))
            x_next = x - lr * decay * x
            for b, newer, older in zip(momenta, iterates, iterates[1:], strict=False):
                x_next = x_next + b * (newer - older)
            for w, m, is_x in zip(weights, memory, of_x, strict=True):
                x_next = x_next + (w * (m - x) if is_x else -w * lr * m)
            for pull, g in zip(pulls, found, strict=True):
                x_next = x_next - lr * pull * g
            taken = [x if is_x else found[-1] for is_x in of_x]
            after = tuple(d * m + (1 - d) * v for d, m, v in zip(decays, memory, taken, strict=True))
            return x_next, after or None

    return Drawn


@pytest.mark.parametrize("seed", range(12))
def test_a_random_rule_follows_its_limit_to_first_order(seed):
    rule, errors, counts = random_rule(seed), [], (240, 480)
    for n in counts:
        limit = ode_limit(rule(1 / n), clock="naive")
        path = integrate_limit(limit, differential, X0, [0.5, 1.0], rtol=1e-10, atol=1e-12)
        run = list(islice(iterate(rule(1 / n), X0, differential), n + 1))
        errors.append(np.abs(path.x - [run[n // 2], run[n]]).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1.0, abs=0.15)
