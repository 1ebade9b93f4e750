"""Weights that feel k itself in the first steps: their limits, and why they have no corrections."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import sympy

from odeopt import Nesterov, UpdateRule, ode_limit
from odeopt.limits import integrate_limit
from odeopt.rules import iterate

h = sympy.Symbol("h", positive=True)


@dataclass(frozen=True)
class Corrected(UpdateRule):
    """An average of gradients divided by its bias, as Adam's first momentum."""

    lr: object
    beta: float = 0.9

    def initial_memory(self, x0):
        return (0 * x0,)

    def step(self, k, iterates, memory, grad):
        v = self.beta * memory[0] + (1 - self.beta) * grad(iterates[0])
        return iterates[0] - self.lr * v / (1 - self.beta ** (k + 1)), (v,)


@dataclass(frozen=True)
class LookedAhead(Corrected):
    """The same with Nesterov's look ahead."""

    def step(self, k, iterates, memory, grad):
        g = grad(iterates[0])
        v = self.beta * memory[0] + (1 - self.beta) * g
        ahead = self.beta * v + (1 - self.beta) * g
        return iterates[0] - self.lr * ahead / (1 - self.beta ** (k + 1)), (v,)


@dataclass(frozen=True)
class FadingPull(UpdateRule):
    """A pull, with a weight that fades, to a memory that runs ahead."""

    lr: object

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (m,) = iterates, memory
        g = grad(x)
        return x + 0.5**k * (m - x) - self.lr * g, (m - 3 * self.lr * g,)


def quadratic(x, *v):
    return 2 * (v[0] if v else x)


@pytest.mark.parametrize("family", [Corrected, LookedAhead, FadingPull])
def test_powers_of_numbers_leave_the_limit_to_first_order(family):
    limit = ode_limit(family(h), h)
    end = integrate_limit(limit, quadratic, [1.0], [1.0], rtol=1e-11, atol=1e-13).x[-1, 0]
    # all of them are the gradient flow, exp(-2 t)
    assert end == pytest.approx(np.exp(-2.0), rel=1e-9)
    runs = [next(itertools.islice(iterate(family(1 / n), 1.0, quadratic), n, None)) for n in (1000, 4000)]
    gaps = [abs(x - end) for x in runs]
    assert np.log(gaps[0] / gaps[1]) / np.log(4) == pytest.approx(1.0, abs=0.1)


@dataclass(frozen=True)
class Anchored(UpdateRule):
    """Extra-anchored gradient descent (Yoon, Ryu, ICML 2021)."""

    lr: object
    gradients = 2

    def initial_memory(self, x0):
        return (x0,)

    def step(self, k, iterates, memory, grad):
        (x,), (x0,) = iterates, memory
        pulled = x + (x0 - x) / (k + 2)
        return pulled - self.lr * grad(pulled - self.lr * grad(x)), (x0,)


@pytest.mark.parametrize("rule", [Corrected(h), Anchored(h)], ids=["powers", "anchor"])
def test_first_steps_off_the_corrected_curve_leave_no_correction(rule):
    ode_limit(rule, h)
    with pytest.raises(ValueError, match=r"no smooth functions of k\*h at k = 0.*resolution=0"):
        ode_limit(rule, h, resolution=1)


def test_friction_that_is_met_at_rest_keeps_its_correction():
    assert ode_limit(Nesterov(lr=h**2, r=3), h, resolution=1).accuracy == 2
