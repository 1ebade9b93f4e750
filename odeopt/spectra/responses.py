r"""How an iterate answers to what an earlier step adds: bounds over an interval of eigenvalues.

The step :math:`Y=Az+Bg`, :math:`z^+=Mz+Ng` of :mod:`odeopt.rules.reading` with :math:`g=\lambda Y` carries
a unit added to a gradient, or to an entry of the state, on to all later iterates, as polynomials in lambda.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy

from odeopt.checks import is_symbolic
from odeopt.rules.reading import Reading, StepMatrices

__all__ = ["OVERSAMPLING", "Responses", "advanced", "step_floats"]

# Points for each degree of a response. On M Chebyshev points a polynomial of degree N < M is seen up to a
# factor cos(pi N / 2M) (Ehlich and Zeller, Math. Z. 86, 1964).
OVERSAMPLING = 2

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Responses:
    """Bounds over [low, high] on the responses of iterates K = k to what a step adds.

    For a steady rule those of one late step after i more steps, and of each of the first steps: `after`;
    else those of each K to each step before, `before`. Shapes (steps, L) to gradients, (steps, d) to
    the state.
    """

    def __init__(
        self,
        matrices: list[Matrices],
        k: np.ndarray,
        steady: bool,
        law_from: int,
        degree: int,
        low: float,
        high: float,
    ) -> None:
        self.k: np.ndarray = k
        self.last: int = int(k[-1])
        self.steady: bool = steady
        self.matrices: list[Matrices] = matrices
        self.first: int = min(law_from, self.last)
        self.degree: int = degree
        self.interval: tuple[float, float] = (low, high)
        self.entries, self.gradients = matrices[0][1].shape if matrices else (0, 0)
        if steady:
            self.after: list[tuple[np.ndarray, ...]] = [
                self._forward(j) for j in range(min(self.first + 1, self.last))
            ]
        else:
            self.before: list[tuple[np.ndarray, ...]] = [self._backward(int(step)) for step in k]

    def of_gradients(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps and gradients of response times force (steps, L), for each K."""
        return self._sum(force, 0)

    def of_state(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps and entries of the state of response times force (steps, d), for each K."""
        return self._sum(force, 1)

    def _sum(self, force: np.ndarray, kind: int) -> np.ndarray:
        if not self.steady:
            return np.array([(found[kind] * force[: len(found[kind])]).sum() for found in self.before])
        total = np.zeros(self.last + 1)
        for j, found in enumerate(self.after):
            later = force[j : j + 1] if j < self.first else force[j:]
            for size, each in zip(found[kind].T, later.T, strict=True):
                total[j + 1 :] += np.convolve(size, each)[: size.size]
        return total[self.k]

    def _lam(self, steps: int) -> np.ndarray:
        low, high = self.interval
        count = OVERSAMPLING * self.degree * steps + 2
        return low + (high - low) * np.cos((np.arange(count) + 0.5) * np.pi / (2 * count)) ** 2

    def _forward(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Responses of x_(j+1), x_(j+2), ... to what step j adds to gradients and to the state."""
        steps = self.last - j
        lam = self._lam(steps)
        states = [_kicked(self.matrices[j], lam, gradient) for gradient in range(self.gradients)]
        states += [np.eye(self.entries)[:, [c]] * np.ones_like(lam) for c in range(self.entries)]
        seen = np.zeros((steps, len(states)))
        share = _share_seen(self.degree * np.arange(1, steps + 1), lam.size)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, state in enumerate(states):
                for i in range(steps):
                    seen[i, place] = np.abs(state[0]).max() / share[i]
                    if i + 1 < steps:
                        state = advanced(self.matrices[j + 1 + i], lam, state)
        return seen[:, : self.gradients], seen[:, self.gradients :]

    def _backward(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Responses of x_K, K = steps, to what each step before adds."""
        lam = self._lam(max(steps, 1))
        row = np.zeros((self.entries, lam.size))
        row[:1] = 1.0
        gradients, state = np.zeros((steps, self.gradients)), np.zeros((steps, self.entries))
        share = _share_seen(self.degree * np.arange(1, steps + 1), lam.size)
        with np.errstate(over="ignore", invalid="ignore"):
            for i, j in enumerate(reversed(range(steps))):
                state[j] = np.abs(row).max(axis=1) / share[i]
                row, sensitivity = _pulled_back(self.matrices[j], lam, row)
                gradients[j] = np.abs(sensitivity).max(axis=1, initial=0.0) / share[i]
        return gradients, state


def _share_seen(degree: np.ndarray, points: int) -> np.ndarray:
    """Of the largest value of a polynomial on an interval, what Chebyshev points show at least."""
    return np.cos(np.pi * degree / (2 * points))


def _kicked(step: Matrices, lam: np.ndarray, gradient: int) -> np.ndarray:
    """The next state, shape (d, n), of a unit added to one gradient at rest."""
    _, N, _, B = step
    taken = np.zeros((B.shape[0], lam.size))
    taken[gradient] = 1.0
    for later in range(gradient + 1, B.shape[0]):
        taken[later] = lam * (B[later] @ taken)
    return N @ taken


def advanced(step: Matrices, lam: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The next state, shape (d, n)."""
    M, N, A, B = step
    if len(A) == 1:
        return M @ state + N * (lam * (A[0] @ state))
    taken = np.zeros((B.shape[0], lam.size))
    for point in range(B.shape[0]):
        taken[point] = lam * (A[point] @ state + B[point] @ taken)
    return M @ state + N @ taken


def _pulled_back(step: Matrices, lam: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row of responses (d, n) to the state before the step, and those to its gradients (L, n)."""
    M, N, A, B = step
    sensitivity = N.T @ row
    for point in reversed(range(B.shape[0])):
        sensitivity[point] += B[point + 1 :, point] @ (lam * sensitivity[point + 1 :])
    return M.T @ row + A.T @ (lam * sensitivity), sensitivity


def step_floats(reading: Reading, last: int) -> list[Matrices]:
    """M, N, A, B of the steps 0, ..., last - 1 as floats, with as many gradients in each."""
    first = last if reading.law_refusal is not None else min(last, reading.law_from)
    found = [reading.matrices(j).floats() for j in range(first)]
    if first < last:
        laws = [_compiled(reading, residue) for residue in range(reading.period)]
        found += [laws[j % reading.period](j) for j in range(first, last)]
    points = max((len(step[2]) for step in found), default=0)
    return [_widened(step, points) for step in found]


def _widened(step: Matrices, points: int) -> Matrices:
    """The same step with gradients that it does not use."""
    M, N, A, B = step
    more = points - len(A)
    if not more:
        return step
    return M, np.pad(N, ((0, 0), (0, more))), np.pad(A, ((0, more), (0, 0))), np.pad(B, (0, more))


def _compiled(reading: Reading, residue: int) -> Callable[[int], Matrices]:
    law = reading.law(residue)
    if not reading.varies:
        floats = law.floats()
        return lambda j: floats
    tables = []
    for matrix, (rows, columns) in zip((law.M, law.N, law.A, law.B), _shapes(law), strict=True):
        entries = [
            entry if is_symbolic(entry) else sympy.Float(float(entry)) for row in matrix for entry in row
        ]
        tables.append((sympy.lambdify(reading.k, entries, "math"), (rows, columns)))
    return lambda j: tuple(np.array(table(j), dtype=float).reshape(shape) for table, shape in tables)  # type: ignore[return-value]


def _shapes(law: StepMatrices) -> list[tuple[int, int]]:
    d, points = len(law.M), len(law.A)
    return [(d, d), (d, points), (points, d), (points, points)]
