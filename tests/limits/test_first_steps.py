"""Rules whose first steps differ from the later ones, and roots on the unit circle that the start excites."""

from dataclasses import dataclass

import numpy as np
import pytest
import sympy
from published import Leapfrog
from users import run

from odeopt import UpdateRule, ode_limit
from odeopt.limits import NoLimitError, integrate_limit

h = sympy.Symbol("h", positive=True)


def quartic(x, *v):
    """Differentials of x^2/2 + 0.075 x^4."""
    weight = (x + 0.3 * x**3, 1 + 0.9 * x**2, 1.8 * x, 1.8)[len(v)]
    return weight * np.prod(v, axis=0)


def observed_order(kind, resolution):
    """Order in h of the distance to the iterates at t = 0.3, ..., 1, for h = 1/200 and 1/400."""
    limit, errors = ode_limit(kind(h), h, resolution=resolution), []
    for n in (200, 400):
        k = np.arange(0.3, 1.01, 0.1) * n
        true = run(kind(1 / n), [1.0, -0.7], n, quartic)[np.round(k).astype(int)]
        found = integrate_limit(limit.subs({h: 1 / n}), quartic, [1.0, -0.7], k / n, rtol=1e-10, atol=1e-13)
        errors.append(np.abs(found.x - true).max())
    return np.log2(errors[0] / errors[1])


@dataclass(frozen=True)
class LargeFirstStep(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - (3 if k == 0 else 1) * self.lr * grad(x), memory


@dataclass(frozen=True)
class Kicked(UpdateRule):
    """Heavy ball, lr = h^2 and momentum 1 - 2h, whose second step is one of gradient descent with lr = h."""

    h: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        if k == 1:
            return x - self.h * grad(x), memory
        return x + (1 - 2 * self.h) * (x - x_prev) - self.h**2 * grad(x), memory


@pytest.mark.parametrize("resolution", [0, 1, 2])
@pytest.mark.parametrize("kind", [LargeFirstStep, Kicked])
def test_the_curve_is_met_where_the_law_of_the_steps_begins(kind, resolution):
    # beside the leading power of h there is the next, which moves the observed order by some h
    assert observed_order(kind, resolution) == pytest.approx(resolution + 1, abs=0.1)


@dataclass(frozen=True)
class KickedAtASingularity(UpdateRule):
    h: float
    history = 2

    def step(self, k, iterates, memory, grad):
        x, x_prev = iterates
        moved = x - self.h * grad(x)
        return moved if k == 0 else x + k / (k + 3) * (x - x_prev) - self.h**2 * grad(x), memory


def test_a_kick_at_a_singularity_keeps_the_limit_and_has_no_correction():
    assert observed_order(KickedAtASingularity, 0) == pytest.approx(1, abs=0.1)
    with pytest.raises(NoLimitError, match=r"leave x_0 by h\^1 or more while its coefficients are singular"):
        ode_limit(KickedAtASingularity(h), h, resolution=1)


@dataclass(frozen=True)
class LargeFirstClipped(LargeFirstStep):
    def step(self, k, iterates, memory, grad):
        (x,) = iterates
        return x - (3 if k == 0 else 1) * self.lr * np.tanh(grad(x)), memory


def test_first_steps_of_their_own_leave_a_step_that_is_not_linear_without_correction():
    assert observed_order(LargeFirstClipped, 0) == pytest.approx(1, abs=0.1)
    with pytest.raises(NoLimitError, match="first steps are none of the others"):
        ode_limit(LargeFirstClipped(h), h, resolution=1)


@dataclass(frozen=True)
class Mirrored(UpdateRule):
    """The gradient is taken at z, whose distance to x changes its sign at each step."""

    lr: float
    start: int

    def initial_memory(self, x0):
        return (self.start * x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (z,) = iterates, memory
        x_next = x - self.lr * grad(z)
        return x_next, (x_next + x - z,)


def test_a_root_on_the_circle_that_the_start_excites_leaves_no_limit():
    assert observed_order(lambda lr: Mirrored(lr, 1), 0) == pytest.approx(1, abs=0.1)
    with pytest.raises(NoLimitError, match="start excites the root -1 on the unit circle"):
        ode_limit(Mirrored(h, 0), h)


def test_a_root_on_the_circle_leaves_no_correction():
    # x_k - X(kh) holds (-1)^k h grad f(x_0)/2, which does not decay
    assert observed_order(Leapfrog, 0) == pytest.approx(1, abs=0.1)
    with pytest.raises(NoLimitError, match="root -1 on the unit circle does not decay"):
        ode_limit(Leapfrog(h), h, resolution=1)
