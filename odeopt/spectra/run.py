"""A rule run on a decomposition: sizes of its iterates and gradient points, and what each step rounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from odeopt.rules.base import UpdateRule
from odeopt.rules.reading import read
from odeopt.rules.shifted import Shifted, states_of_origin
from odeopt.spectra.extrapolation import Extrapolation
from odeopt.spectra.quadrature import Ritz
from odeopt.spectra.responses import Matrices, Responses
from odeopt.spectra.rounded import Rounded

__all__ = ["Run"]

# Entries of the states of a steady rule that are taken at once.
_BLOCK = 2**15
# Roundings of a product with a momentum, and of the momentum.
_MOMENTUM = 9.0


class Run:
    """Sizes of iterates and gradient points, and the kicks of rounding, along the start or along q.

    A `forced` run is that of the weights behind an error: from 0, with the gradient lam z + 1.

    `size` and `peak` (steps + 1,): weighted norm and largest entry of the iterates; `met`, `largest`, `tail`,
    `spread` (steps, L): the same of the points, what they leave to Lanczos and the sum of its terms; `kicks`
    (steps, d): weighted norms of what rounding adds to the state. The states of a steady rule are those of
    its own steps in floats, or `by_matrices` those of the matrix of its step; either way what a step makes
    of a state differs from the next one by a kick.
    """

    def __init__(
        self,
        rule: UpdateRule,
        found: Ritz,
        responses: Responses,
        *,
        of_origin: bool = False,
        by_matrices: bool = False,
        forced: bool = False,
    ) -> None:
        self.rule: UpdateRule = rule
        self.forced: bool = forced
        self.of_origin: bool = of_origin
        self.entries: tuple[int, ...] = (0, *range(rule.history, responses.entries))
        self.lam: np.ndarray = found.values
        self.weights: np.ndarray = found.start**2
        self.found: Ritz = found
        self.shares: np.ndarray = found.shares
        steps = responses.last
        shape = steps, responses.gradients
        self.met: np.ndarray = np.zeros(shape)
        self.largest: np.ndarray = np.zeros(shape)
        self.tail: np.ndarray = np.zeros(shape)
        self.spread: np.ndarray = np.zeros(shape)
        self.size: np.ndarray = np.ones(steps + 1)
        self.peak: np.ndarray = np.ones(steps + 1)
        self.kicks: np.ndarray = np.zeros((steps, responses.entries))
        reading = read(rule)
        alone = steps if reading.steady_from is None else min(reading.law_from, steps)
        with np.errstate(over="ignore", invalid="ignore"):
            if isinstance(responses, Extrapolation):
                self._extrapolated(responses)
                return
            self._step_by_step(alone)
            if alone < steps:
                matrices = responses.matrices if by_matrices else None
                self._at_once(alone, steps, responses.entries, matrices, reading.period)

    def _step_by_step(self, steps: int) -> None:
        """The first steps on rounded numbers, each from a settled state."""
        taken: list[np.ndarray] = []

        def grad(z: Rounded) -> Rounded:
            taken.append(z.value)
            return self._gradient(z)

        run = _rounded_states(self.rule, self._start(), grad, self.of_origin)
        for j, (x, memory) in enumerate(itertools.islice(run, steps + 1)):
            self.size[j], self.peak[j] = np.sqrt(x.value**2 @ self.weights), np.abs(x.value).max()
            if j:
                new = [(state.value, state.error) for state in (x, *memory)]
                self._keep(slice(j - 1, j), [z[None] for z in taken], [error[None] for _, error in new])
            taken.clear()

    def _start(self) -> np.ndarray:
        return np.zeros_like(self.lam) if self.forced else np.ones_like(self.lam)

    def _gradient(self, z: Rounded) -> Rounded:
        scaled = z.scaled(self.lam)
        return scaled + Rounded(np.ones_like(z.value)) if self.forced else scaled

    def _states(self, first: int) -> Iterator[np.ndarray]:
        """States (d, N) of the rule in floats from step `first` on."""
        lam = self.lam
        if not self.of_origin:
            run = self.rule.states(
                self._start(), (lambda z: lam * z + 1) if self.forced else lambda z: lam * z
            )
            for iterates, memory in itertools.islice(run, first, None):
                yield np.stack([*iterates, *(memory or ())])
        older = [np.zeros_like(lam)] * self.rule.history
        for k, (x, memory) in enumerate(states_of_origin(self.rule, np.zeros_like(lam), lambda s: lam * s)):
            older = [x, *older[:-1]]
            if k >= first:
                yield np.stack([*older, *memory])

    def _keep(self, steps: slice, taken: list[np.ndarray], errors: list[np.ndarray]) -> None:
        """Note points and errors of some steps, each of shape (steps, N)."""
        for entry, error in zip(self.entries, errors, strict=True):
            self.kicks[steps, entry] = np.sqrt(error**2 @ self.weights)
        for point, z in zip(read(self.rule).order(steps.start), taken, strict=True):
            self.met[steps, point], self.largest[steps, point] = (
                np.sqrt(z**2 @ self.weights),
                np.abs(z).max(axis=1),
            )
            self.tail[steps, point] = self.found.left(z)
            self.spread[steps, point] = np.abs(z) @ self.shares

    def _at_once(
        self, first: int, last: int, entries: int, matrices: list[Matrices] | None, period: int
    ) -> None:
        """The steps of the law, all alike of a block in one run of the step on their states."""
        rows = period * max(1, _BLOCK // (entries * self.lam.size * period))
        states = np.empty((min(rows, last - first) + 1, entries, self.lam.size))
        run = self._states(first)
        states[0] = next(run)
        for begin in range(first, last, rows):
            here = states[: min(rows, last - begin) + 1]
            if matrices is None:
                for row in here[1:]:
                    row[:] = next(run)
            else:
                _advance(matrices[-1], self.lam, here)
            for phase in range(min(period, len(here) - 1)):
                alike = here[1:][phase::period]
                taken, new = self._stepped(begin + phase, here[:-1][phase::period])
                errors = [
                    z.error + np.abs(z.value - alike[:, e]) for e, z in zip(self.entries, new, strict=True)
                ]
                self._keep(slice(begin + phase, begin + len(here) - 1, period), taken, errors)
            x, after = here[1:, 0], slice(begin + 1, begin + len(here))
            self.size[after], self.peak[after] = np.sqrt(x**2 @ self.weights), np.abs(x).max(axis=1)
            states[0] = here[-1]

    def _extrapolated(self, steps: Extrapolation) -> None:
        """All steps as :mod:`odeopt.spectra.extrapolation` writes them, what they round a block at a time."""
        rows = max(1, _BLOCK // self.lam.size)
        states = np.empty((min(rows, steps.last) + 2, self.lam.size))
        states[:2] = self._start()
        for begin in range(0, steps.last, rows):
            beta = steps.beta[begin : begin + rows, None]
            here = states[: len(beta) + 2]
            factor = 1 - steps.lr * self.lam
            for j, weight in enumerate(beta[:, 0].tolist()):
                np.subtract(here[j + 1], here[j], out=here[j + 2])
                here[j + 2] *= weight
                here[j + 2] += here[j + 1]
                here[j + 2] *= factor
                if self.forced:
                    here[j + 2] -= steps.lr
            x, after = Rounded(here[1:-1]), slice(begin + 1, begin + len(beta) + 1)
            point = x + (x - Rounded(here[:-2])).scaled(beta, _MOMENTUM)
            new = point - self._gradient(point) * steps.lr
            error = new.error + np.abs(new.value - here[2:])
            self._keep(slice(begin, begin + len(beta)), [point.value], [error])
            self.size[after] = np.sqrt(here[2:] ** 2 @ self.weights)
            self.peak[after] = np.abs(here[2:]).max(axis=1)
            states[:2] = here[-2:]

    def _stepped(self, k: int, states: np.ndarray) -> tuple[list[np.ndarray], list[Rounded]]:
        """Gradient points, and next iterate and memory of each of the states, (steps, d, N)."""
        taken: list[np.ndarray] = []
        rule, one = self.rule, Fraction(1)
        parts = [Rounded(states[:, c]) for c in range(states.shape[1])]
        if not self.of_origin:

            def grad(z: Rounded) -> Rounded:
                taken.append(z.value)
                return self._gradient(z)

            x, memory = rule.step(k, tuple(parts[: rule.history]), tuple(parts[rule.history :]) or None, grad)
            return taken, [x, *(memory or ())]
        start = rule.initial_memory(Shifted(parts[0], one)) or ()

        def shifted(z: Shifted) -> Shifted:
            error = z.at(one).part
            taken.append(error.value)
            return Shifted(error.scaled(self.lam), Fraction(0))

        iterates = tuple(Shifted(part, one) for part in parts[: rule.history])
        weights = [m.weight for m in start]
        held = tuple(Shifted(m, w) for m, w in zip(parts[rule.history :], weights, strict=True))
        x, memory = rule.step(k, iterates, held or None, shifted)
        kept = [m.at(w).part for m, w in zip(memory or (), weights, strict=True)]
        return taken, [x.at(one).part, *kept]


def _advance(step: Matrices, lam: np.ndarray, states: np.ndarray) -> None:
    """Fill in all states after the first, (steps + 1, d, N), by the matrix of a step with one gradient."""
    M, N, A, _ = step
    T = M[:, :, None] + (N @ A)[:, :, None] * lam
    products = np.empty_like(T)
    for before, after in itertools.pairwise(states):
        np.multiply(T, before, out=products)
        np.add.reduce(products, axis=1, out=after)


def _rounded_states(
    rule: UpdateRule, start: np.ndarray, grad: Callable[[Rounded], Rounded], of_origin: bool
) -> Iterator[tuple[Rounded, tuple[Rounded, ...]]]:
    """Iterate and memory with what the last step rounded, along the start or along q."""
    if of_origin:
        yield from states_of_origin(rule, Rounded(np.zeros_like(start)), grad, Rounded.settled)
    x = Rounded(start)
    iterates: tuple[Any, ...] = (x,) * rule.history
    memory: Any = rule.initial_memory(x)
    for j in itertools.count():
        yield iterates[0], memory or ()
        iterates = (iterates[0].settled(), *iterates[1:])
        memory = tuple(m.settled() for m in memory) if memory else memory
        x, memory = rule.step(j, iterates, memory, grad)
        iterates = (x, *iterates[:-1])
