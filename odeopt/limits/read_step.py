r"""What was read in a step, in words: weights, gradient points, averages, and what varies with k."""

from __future__ import annotations

from dataclasses import dataclass

import sympy
from sympy import Symbol

from odeopt.limits.elimination import exact
from odeopt.rules.formulas import text
from odeopt.rules.reading import Reading
from odeopt.shown import Shown, Summary

__all__ = ["ReadStep", "read_step"]


@dataclass(frozen=True, repr=False)
class ReadStep(Shown):
    r"""What the step of a rule was read to be.

    Parameters
    ----------
    linear : bool
        Whether the next state is a linear function of the state and the gradients.
    weights : tuple of str
        The next iterate, for each step of a period.
    points : tuple of str
        Where gradients are taken.
    averages : tuple of str
        The memories, how they start and how they change.
    steadiness : str
        Whether the step depends on k.

    Examples
    --------
    >>> from odeopt import HeavyBall, ode_limit
    >>> print(ode_limit(HeavyBall(0.01, 0.5), regime="fixed").reading)
    linear, the same at every k
    x_next = 3*x/2 - x_1/2 - g_0*h
    g_0 = grad f(x)
    """

    linear: bool
    weights: tuple[str, ...]
    points: tuple[str, ...]
    averages: tuple[str, ...]
    steadiness: str

    def _summary(self) -> Summary:
        return Summary(str(self).splitlines())

    def __str__(self) -> str:
        kind = "linear" if self.linear else "not linear"
        return "\n".join((f"{kind}, {self.steadiness}", *self.weights, *self.points, *self.averages))


def read_step(reading: Reading) -> ReadStep:
    """Put the forms of a linear step into words."""
    q, size = reading.rule.history, len(reading.law().M)
    state = [
        Symbol("x"),
        *(Symbol(f"x_{j}") for j in range(1, q)),
        *(Symbol(f"m_{i}") for i in range(size - q)),
    ]
    weights, points, averages = [], [], []
    for residue in range(reading.period):
        law = reading.law(residue)
        gradients = [Symbol(f"g_{len(points) + i}") for i in range(len(law.A))]
        points += [
            f"{g} = grad f({_form((*a, *b), (*state, *gradients))})"
            for g, a, b in zip(gradients, law.A, law.B, strict=True)
        ]
        where = f" at k = {residue} mod {reading.period}" if reading.period > 1 else ""
        weights.append(f"x_next{where} = {_form((*law.M[0], *law.N[0]), (*state, *gradients))}")
        averages += [
            f"{state[i]}_next{where} = {_form((*law.M[i], *law.N[i]), (*state, *gradients))}"
            for i in range(q, size)
        ]
    starts = [
        f"m_{i} starts at {_form((f.coefficient(('x', 0)),), (Symbol('x_0'),))}"
        for i, f in enumerate(reading.start)
    ]
    if reading.varies:
        steadiness = "with weights that depend on k"
    elif reading.period > 1:
        steadiness = f"with period {reading.period}"
    else:
        first = reading.law_from
        steadiness = "the same at every k" if first == 0 else f"the same from k = {first} on"
    return ReadStep(True, tuple(weights), tuple(points), (*averages, *starts), steadiness)


def _form(coefficients, vectors) -> str:
    return text(sympy.Add(*(exact(c) * v for c, v in zip(coefficients, vectors, strict=False))))
