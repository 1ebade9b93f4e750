r"""How an iterate answers to what an earlier step adds: bounds over an interval of eigenvalues.

The step :math:`Y=Az+Bg`, :math:`z^+=Mz+Ng` of :mod:`odeopt.rules.reading` with :math:`g=\lambda Y` carries
a unit added to a gradient, or to an entry of the state, on to all later iterates, as polynomials in lambda.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import sympy

from odeopt.checks import is_symbolic
from odeopt.rules.reading import Reading, StepMatrices
from odeopt.spectra.convolved import convolved
from odeopt.spectra.driven import driven_by_blocks
from odeopt.spectra.two_term import TwoTerm

__all__ = [
    "OVERSAMPLING", "Responses", "advanced", "checkpoint_spacing", "has_two_terms", "share_seen",
    "step_floats",
]  # fmt: skip

# Points for each degree of a response. On M Chebyshev points a polynomial of degree N < M is seen up to a
# factor cos(pi N / 2M) (Ehlich and Zeller, Math. Z. 86, 1964).
OVERSAMPLING = 2
# The same where one polynomial is all that a bound is made of.
_SIGNED = 3
_EPS = float(np.finfo(float).eps)
# Steps beyond which those of two terms are taken by blocks; up to which step iterates then have a bound of
# their own, and how many products these may cost.
_PLAIN_STEPS, _LAST_DRIVEN, _MOST_PRODUCTS = 500, 50_000, 1e10
# Forces so small beside the largest are summed without signs: numbers near the end of float64 are slow.
_NEGLIGIBLE = 1e-200
# So are those from which on all are as small as this, where that is a small part of the sum: what is left is
# carried on.
_FADED, _SMALL_PART = 1e-18, 1e-6
# Steps up to which the finer mesh is not too dear.
_FINE = 7000

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Responses:
    r"""Bounds over [low, high] on the responses of iterates K = k to what a step adds.

    For a steady rule those of one late step after i more steps, and of each of the first steps: `after`, in
    closed form where the step has two terms (:mod:`odeopt.spectra.two_term`), by values on a mesh where not;
    else those of each K to each step before, `before`. Shapes (steps, L) to gradients, (steps, d) to
    the state. Of many K only those since the last of some checkpoints C are computed, and with the
    responses of all of the state at C those before are at most :math:`\max|S_{K,C}|\max|S_{C,j}|`.
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
        alike = all(map(np.array_equal, matrices[0], matrices[-1])) if matrices and law_from == 1 else False
        self.first: int = 0 if alike else min(law_from, self.last)
        self.degree: int = degree
        self.interval: tuple[float, float] = (low, high)
        self.entries, self.gradients = matrices[0][1].shape if matrices else (0, 0)
        two_terms = steady and self.first <= 1 and (self.entries, self.gradients) == (2, 1) and self.last > 1
        self.powers: TwoTerm | None = TwoTerm(matrices[-1], low, high, self.last) if two_terms else None
        if self.powers is not None:
            state = np.stack([self.powers.entry(0, c)[:-1] for c in range(2)], axis=1)
            self.after: list[tuple[np.ndarray, ...]] = [
                (self.powers.along(*matrices[j][1][:, 0])[: self.last - j, None], state[: self.last - j])
                for j in range(self.first + 1)
            ]
        elif steady:
            self.after = [self._forward(j) for j in range(min(self.first + 1, self.last))]
        else:
            self.before: list[tuple[np.ndarray, ...]] = self._all_before()

    def of_gradients(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps and gradients of response times force (steps, L), for each K."""
        return self._sum(force, 0)

    def of_state(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps and entries of the state of response times force (steps, d), for each K."""
        return self._sum(force, 1)

    def _sum(self, force: np.ndarray, kind: int) -> np.ndarray:
        if not self.steady:
            return np.array([(found[kind] * force[: len(found[kind])]).sum() for found in self.before])
        total = np.zeros(self.k.size)
        for j, found in enumerate(self.after):
            later = force[j : j + 1] if j < self.first else force[j:]
            for size, each in zip(found[kind].T, later.T, strict=True):
                total += convolved(size, each, self.k - j - 1)
        return total * (1 + 2 * _EPS * self.last)  # sums of positive numbers

    def _lam(self, steps: int, oversampling: int = OVERSAMPLING) -> np.ndarray:
        low, high = self.interval
        count = oversampling * self.degree * steps + 2
        return low + (high - low) * np.cos((np.arange(count) + 0.5) * np.pi / (2 * count)) ** 2

    def _forward(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Responses of x_(j+1), x_(j+2), ... to what step j adds to gradients and to the state."""
        steps = self.last - j
        lam = self._lam(steps)
        states = [_kicked(self.matrices[j], lam, gradient) for gradient in range(self.gradients)]
        states += [np.eye(self.entries)[:, [c]] * np.ones_like(lam) for c in range(self.entries)]
        seen = np.zeros((steps, len(states)))
        share = share_seen(self.degree * np.arange(1, steps + 1), lam.size)
        with np.errstate(over="ignore", invalid="ignore"):
            for place, state in enumerate(states):
                for i in range(steps):
                    seen[i, place] = np.abs(state[0]).max() / share[i]
                    if i + 1 < steps:
                        state = advanced(self.matrices[j + 1 + i], lam, state)
        return seen[:, : self.gradients], seen[:, self.gradients :]

    def _all_before(self) -> list[tuple[np.ndarray, ...]]:
        every = checkpoint_spacing(self.last)
        if self.k.size <= self.last // every:
            return [self._backward(int(step))[:2] for step in self.k]
        found: list[tuple[np.ndarray, ...]] = []
        place, gradients, state = 0, np.zeros((0, 0, 0)), np.zeros((0, 0, 0))
        for step in map(int, self.k):
            if step - step % every > place:
                place = step - step % every
                gradients, state = self._backward_all(place)
            near = self._backward(step, place)
            far = [np.tensordot(near[2], each, axes=1) for each in (gradients, state)] if place else []
            found.append(tuple(np.concatenate(pair) for pair in zip(far, near, strict=False)) or near[:2])
        return found

    def _backward(self, steps: int, place: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Responses of x_K, K = steps, to what each step from `place` on adds, and to the state there."""
        row = np.zeros((self.entries, 1))
        row[0] = 1.0
        gradients, state, last = self._pulled(steps, place, row)
        return gradients[0], state[0], last[0]

    def _backward_all(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Responses (d, steps, L) and (d, steps, d) of all entries of the state after so many steps."""
        gradients, state, _ = self._pulled(steps, 0, np.eye(self.entries))
        return gradients, state

    def _pulled(self, steps: int, place: int, outputs: np.ndarray) -> tuple[np.ndarray, ...]:
        """Responses of outputs (d, q) of the state, and at the end those to the state at `place`, (q, d)."""
        count, lam = outputs.shape[1], self._lam(max(steps - place, 1))
        row = np.repeat(outputs, lam.size, axis=1)
        lams = np.tile(lam, count)
        gradients = np.zeros((count, steps - place, self.gradients))
        state = np.zeros((count, steps - place + 1, self.entries))
        share = share_seen(self.degree * np.arange(1, steps - place + 2), lam.size)

        def largest(values: np.ndarray) -> np.ndarray:
            return np.abs(values).reshape(len(values), count, lam.size).max(axis=2, initial=0.0).T

        with np.errstate(over="ignore", invalid="ignore"):
            for i, j in enumerate(reversed(range(steps - place))):
                state[:, j + 1] = largest(row) / share[i]
                row, sensitivity = _pulled_back(self.matrices[place + j], lams, row)
                gradients[:, j] = largest(sensitivity) / share[i]
            state[:, 0] = largest(row) / share[max(steps - place - 1, 0)]
        return gradients, state[:, 1:], state[:, 0]

    def driven(self, start: np.ndarray, force: np.ndarray, enough: np.ndarray | float = 0.0) -> np.ndarray:
        r"""Bounds on the iterates K = k from a start (d,), driven by one force along one vector, (steps, L).

        A force with its sign: of :math:`|\sum_jG_{K,j}(\lambda)f_j|` the values on a mesh show the largest,
        and what its evaluation rounds is carried on by the responses. From rest the sum of sizes stands where
        it is as small as `enough`.
        """
        if not start.any() and not force.any():
            return np.zeros(self.k.size)
        plain = np.full(self.k.size, np.inf) if start.any() else self.of_gradients(np.abs(force))
        if np.all(plain <= enough):
            return plain
        if self.powers is not None and self.last > _PLAIN_STEPS:
            return self._driven_by_blocks(self.powers, start, force[:, 0], plain > enough)
        lam = self._lam(self.last, _SIGNED)
        state = np.repeat(start[:, None].astype(float), lam.size, axis=1)
        seen, kicks = np.zeros(self.last + 1), np.zeros((self.last, self.entries))
        seen[0] = abs(start[0])
        rounding = 8 * (self.entries + self.gradients) * _EPS
        with np.errstate(over="ignore", invalid="ignore"):
            for j, (M, N, A, B) in enumerate(self.matrices[: self.last]):
                sizes, taken = np.abs(state).max(axis=1), np.zeros((len(A), lam.size))
                error = np.zeros(len(A))
                for point in range(len(A)):
                    taken[point] = lam * (A[point] @ state + B[point] @ taken) + force[j, point]
                    met = np.abs(A[point]) @ sizes + np.abs(B[point]) @ np.abs(taken).max(axis=1)
                    error[point] = rounding * (self.interval[1] * met + abs(force[j, point]))
                    error[point] += self.interval[1] * (np.abs(B[point]) @ error)
                kicks[j] = rounding * (np.abs(M) @ sizes + np.abs(N) @ np.abs(taken).max(axis=1, initial=0.0))
                kicks[j] += np.abs(N) @ error
                state = M @ state + N @ taken
                seen[j + 1] = np.abs(state[0]).max()
        share = share_seen(self.degree * self.k, lam.size)
        return seen[self.k] / share + self.of_state(kicks)

    def _driven_by_blocks(
        self, powers: TwoTerm, start: np.ndarray, force: np.ndarray, wanted: np.ndarray | bool = True
    ) -> np.ndarray:
        """The same of steps of two terms; without signs where not wanted, and for all but some of many K."""
        if not force.any() and not self.first:
            return powers.along(start[0], start[1])[self.k]
        found = np.where(self.k < self.first, abs(start[0]), np.inf)
        size = np.abs(force)
        plain = self.of_gradients(size[:, None])
        last = int(np.max(np.flatnonzero(size > _FADED * size.max()), initial=-1)) + 1
        place = max(last, _PLAIN_STEPS)
        late = np.where(np.arange(size.size) >= last, size, 0.0)
        left = self.of_gradients(late[:, None])
        far = wanted & (self.k > place)
        far &= bool(np.all((left <= _SMALL_PART * plain)[far]))
        if far.any():
            found[far] = self._carried(powers, start, np.where(late > 0, 0.0, force), place)[far] + left[far]
        some = np.flatnonzero(wanted & ~far & (self.k >= self.first) & (self.k <= _LAST_DRIVEN))
        if some.size:
            most = 1 + int(_MOST_PRODUCTS / (_SIGNED * float(self.k[some[-1]] + 1) ** 1.5))
            some = some[np.unique(np.linspace(0, some.size - 1, min(some.size, most)).astype(int))]
            late = np.where(size < _NEGLIGIBLE * size.max(), size, 0.0)
            found[some] = self.of_gradients(late[:, None])[some]
            signed, last = np.where(late > 0, 0.0, force), int(self.k[some[-1]])
            # early ones apart, which all of the mesh tells of
            for part in np.split(some, np.searchsorted(self.k[some], [last // 64, last // 8])):
                if part.size:
                    found[part] += self._on_mesh(powers, start, signed, self.k[part], last)
        return found if start.any() else np.fmin(found, plain)

    def _on_mesh(
        self,
        powers: TwoTerm,
        start: np.ndarray,
        force: np.ndarray,
        k: np.ndarray,
        last: int,
        output: tuple[float, float] = (1.0, 0.0),
    ) -> np.ndarray:
        """Bounds on an output of the states k, from values on a mesh for the last and what they round."""
        lam, first = self._lam(last, _SIGNED if last <= _FINE else OVERSAMPLING), self.first
        begun, kick = np.repeat(start[:, None].astype(float), lam.size, axis=1), np.zeros(2)
        if first:
            M, N, A, B = self.matrices[0]
            size = np.abs(M) + self.interval[1] * np.abs(N @ A)
            kick = 16 * _EPS * (size @ np.abs(start) + np.abs(N[:, 0] * force[0]))
            begun = advanced((M, N, A, B), lam, begun) + N * force[0]
        seen, rounding = driven_by_blocks(
            self.matrices[-1], powers, lam, begun, force[first:], k - first, output
        )
        with np.errstate(over="ignore", invalid="ignore"):
            for (a, weight), (b, error) in itertools.product(enumerate(output), enumerate(kick)):
                rounding = rounding + abs(weight) * powers.entry(a, b)[k - first] * error
            bounds = seen / share_seen(self.degree * k, lam.size) + rounding
        return np.where(np.isnan(bounds), np.inf, bounds)  # 0 times an overflow bounds nothing

    def _carried(self, powers: TwoTerm, start: np.ndarray, force: np.ndarray, place: int) -> np.ndarray:
        r"""Bounds on later iterates K where no force acts from `place` on, inf for earlier ones.

        What the step keeps at lam = 0 is (1, s): :math:`T^n(x,y)=x\,T^n(1,s)+(y-sx)\,T^n(0,1)`.
        """
        M, k = self.matrices[-1][0], np.array([place])
        kept = float((1 - M[0, 0]) / M[0, 1]) if M[0, 1] else 0.0
        x = self._on_mesh(powers, start, force, k, place)[0]
        rest = self._on_mesh(powers, start, force, k, place, (-kept, 1.0))[0]
        after = np.maximum(self.k - place, 0)
        with np.errstate(over="ignore", invalid="ignore"):
            bound = x * powers.along(1.0, kept)[after] + rest * powers.entry(0, 1)[after]
        return np.where((self.k >= place) & ~np.isnan(bound), bound, np.inf)


def has_two_terms(reading: Reading) -> bool:
    """Whether a steady step has a closed form: one gradient, two entries of state, at most one first step."""
    steps = (reading.law(), *(reading.matrices(j) for j in range(min(reading.law_from, 2))))
    return reading.law_from <= 1 and all((len(step.M), len(step.A)) == (2, 1) for step in steps)


def checkpoint_spacing(last: int) -> int:
    """Steps between checkpoints, so that what is computed from them and to them costs the same."""
    return max(int(np.sqrt(last)), 1)


def share_seen(degree: np.ndarray, points: int) -> np.ndarray:
    """Of the largest value of a polynomial on an interval, what Chebyshev points, rounded, show at least."""
    # by Markov's inequality a shift of a point by 2 eps of the interval changes it by 4 eps degree^2
    return np.cos(np.pi * degree / (2 * points)) - 4 * _EPS * degree.astype(float) ** 2


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
    if len(A) == 1:
        return M.T @ row + A.T * (lam * sensitivity), sensitivity
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
    each = {id(step): step for step in found}  # of a steady rule there are few
    points = max((len(step[2]) for step in each.values()), default=0)
    widened = {name: _widened(step, points) for name, step in each.items()}
    return [widened[id(step)] for step in found]


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
