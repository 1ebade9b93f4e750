r"""Bounds on the iterates of :math:`x_{k+1}=p\,y_k`, :math:`y_k=x_k+\beta_kd_k`, :math:`d_k=x_k-x_{k-1}`.

Nesterov's steps have :math:`p=1-\eta\lambda` and :math:`0\le\beta_k\le1`. Let u(K, j) be :math:`x_K` after a
unit is added to :math:`x_j` at rest. Everything that a step adds answers by u, and for
:math:`p\in[-\frac13,1]`

.. math:: |u(K,j)|\le u_0(K,j)=1+\sum_{i=j}^{K-1}\prod_{l=j}^i\beta_l,

the value at p = 1, and what starts at rest in 1 stays in [-1, 1]. For p < 0 all shrinks by a factor of
:math:`z=|p|+\sqrt{p^2+|p|}\le1` at least, as :math:`z^2=2|p|z+|p|`. Else, as long as x and d do not turn,
:math:`d_{k+1}=p\beta_kd_k-(1-p)x_k` is at most :math:`\beta_kd_k`. Where d first turns, at m, with
:math:`w=py_m\in[px_m,x_m]` the energy :math:`E_k=(1-p)x_k^2+d_k^2` is
:math:`(1-p)w^2+(x_m-w)^2\le(1-p)x_m^2`, by convexity in w, and

.. math:: E_{k+1}=(1-p)x_k^2+p\beta_k^2d_k^2-p(1-p)^2y_k^2\le E_k.

So sums over steps are iterates themselves, at p = 1 and from forces without signs, in O(K).

Where :math:`p\le P<1` they decay. With :math:`B=\frac{1+\beta}2`, :math:`V=x^2-2pB\,xy+p\beta y^2` of
:math:`(x_{k+1},x_k)` is :math:`p\beta_k` times that of :math:`(x_k,x_{k-1})`, and at the next momentum at
most

.. math:: 1+\tfrac p2|\beta_{k+1}-\beta_k|\bigl(g+\sqrt{g^2+\omega^{-2}}\bigr),\quad
    \omega^2=p(\beta-pB^2),\quad g=\frac{1-pB}{\omega^2}

times as large, while :math:`PB^2<\beta`. All factors increase with p. At rest in 1 it begins with 1 - p, and
:math:`x^2\le V/(1-pB^2/\beta)`.
"""

from __future__ import annotations

import math

import numpy as np
import sympy

from odeopt.rules.reading import Reading, StepMatrices
from odeopt.spectra.responses import Responses, share_seen
from odeopt.spectra.two_term import TwoTerm

__all__ = ["Extrapolation", "extrapolation_of"]

_EPS = float(np.finfo(float).eps)
# Steps up to which forces keep their signs, and points of the mesh for each of them.
_SIGNED_STEPS, _POINTS = 5000, 3
# Steps between which what is this small, beside the largest force, becomes 0: subnormal numbers are slow.
_CLEARED, _FLOOR = 16, 1e-200
# Where decay is followed from, beside the first step that allows it: what came before is bounded without.
_FROM = (1.25, 2.5, 5.0)
# Roundings of a momentum, relatively, and of differences of numbers up to 1.
_MOMENTUM, _DIFFERENCE = 8 * _EPS, 16 * _EPS


def extrapolation_of(reading: Reading, last: int) -> tuple[float, np.ndarray] | None:
    """Learning rate and momenta of the steps 0, ..., last - 1, if all of them are of the form above."""
    if reading.law_refusal is not None or reading.period != 1:
        return None
    first, law = [reading.matrices(j) for j in range(min(reading.law_from, last))], reading.law()
    if not all(map(_is_extrapolated, (*first, law))) or len({step.N[0][0] for step in (*first, law)}) > 1:
        return None
    momentum = sympy.lambdify(reading.k, -sympy.sympify(law.M[0][1], strict=True), "math")
    found = [float(-step.M[0][1]) for step in first] + [float(momentum(j)) for j in range(len(first), last)]
    lr, beta = -float(law.N[0][0]), np.array(found)
    return (lr, beta) if lr > 0 and np.all((beta >= 0) & (beta <= 1)) else None


def _is_extrapolated(step: StepMatrices) -> bool:
    if (len(step.M), len(step.A)) != (2, 1) or step.M[0] != step.A[0] or step.M[1] != (1, 0):
        return False
    kept = sympy.cancel(sum(sympy.sympify(entry, strict=True) for entry in step.M[0]))
    rate = sympy.sympify(step.N[0][0], strict=True)
    return kept == 1 and step.N[1][0] == 0 and bool(rate.is_number)


class Extrapolation(Responses):
    """The sums of :class:`odeopt.spectra.responses.Responses` for such steps, for eta * high <= 4/3."""

    def __init__(self, lr: float, beta: np.ndarray, k: np.ndarray, low: float, high: float) -> None:
        self.k: np.ndarray = k
        self.last: int = int(k[-1])
        self.steady: bool = False
        self.powers: TwoTerm | None = None
        self.degree: int = 1
        self.interval: tuple[float, float] = (low, high)
        self.entries: int = 2
        self.gradients: int = 1
        self.lr: float = lr
        self.beta: np.ndarray = beta
        # above the true ones, and that of the step after the last as that of the last
        most = np.minimum(beta * (1 + _MOMENTUM), 1.0)
        self._most: list[float] = most.tolist()
        self._decay(np.append(most, most[-1:]) if most.size else np.ones(1))

    @staticmethod
    def covers(lr: float, high: float) -> bool:
        """Whether p stays in [-1/3, 1]."""
        return 3 * (lr * high * (1 + 4 * _EPS) - 1) <= 1

    def _decay(self, beta: np.ndarray) -> None:
        """Root of the growth of V in each step, what x is of V at each time, and times to follow it from."""
        low, high = self.interval
        rate = self.lr * low * (1 - 4 * _EPS)  # 1 - P
        P, B = max(1 - rate, 0.0) + _EPS, (1 + beta) / 2
        left = beta - P * B**2 - _DIFFERENCE
        begin = int(np.max(np.flatnonzero(left <= 64 * _DIFFERENCE), initial=-1)) + 1
        self._starts: list[int] = sorted({int(begin * f) + 1 for f in _FROM if begin * f + 1 < self.last})
        left = np.where(np.arange(beta.size) >= begin, left, 1.0)
        g = (1 - P * B + _DIFFERENCE) / left
        steps = np.abs(np.diff(beta)) + _DIFFERENCE
        turned = 1 + steps / 2 * (g + np.sqrt(g**2 + P / left))[:-1]
        below = max(self.lr * high * (1 + 4 * _EPS) - 1, 0.0)
        growth = np.maximum(np.sqrt(P * beta[:-1] * turned), below + math.sqrt(below**2 + below))
        self._growth: list[float] = (growth * (1 + 16 * _EPS)).tolist()
        # of a unit, and of what is as large as the root of 1 - p
        self._shown: np.ndarray = np.sqrt(beta / left)
        self._rest: np.ndarray = np.sqrt((self.lr * low * (1 + 4 * _EPS)) * beta / left)

    def of_gradients(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps of response times force (steps, 1), for each K."""
        return self._sums(np.append(0.0, self.lr * force[: self.last, 0]))

    def of_state(self, force: np.ndarray) -> np.ndarray:
        """Sum over steps and entries of the state of response times force (steps, 2), for each K."""
        newer, older = force[: self.last].T
        added = np.append(0.0, newer)
        added[2:] += older[:-1] * self._most[1:]
        return self._sums(added)

    def _sums(self, force: np.ndarray) -> np.ndarray:
        """Sum of |u(K, j)| times what is added to x_j, (last + 1,), for each K."""
        x = d = 0.0
        plain, moved = [], []
        for added, beta in zip(force.tolist(), [0.0, *self._most], strict=True):
            d = beta * d + added
            x += d
            plain.append(x)
            moved.append(d)
        found = np.array(plain)[self.k]
        for begin in self._starts:
            held, fresh = 1.0, 0.0
            shown = np.full(self.last + 1, np.inf)
            bound = []
            for added, growth in zip(force[begin + 1 :].tolist(), self._growth[begin:], strict=True):
                fresh = growth * fresh + added
                held *= growth
                bound.append((held, fresh))
            held_by, fresh_by = np.array(bound).T
            after = slice(begin + 1, None)
            shown[after] = held_by * 2 * plain[begin] * self._rest[after]
            shown[after] += (held_by * moved[begin] + fresh_by) * self._shown[after]
            found = np.minimum(found, shown[self.k])
        return found * (1 + 64 * _EPS * (self.last + 1))  # sums and products of positive numbers

    def _at_rest(self) -> np.ndarray:
        """Bounds on the iterates K from rest in 1: the theorem, and where they decay the values on a mesh."""
        found = np.ones(self.last + 1)
        for begin in self._starts:
            held = np.multiply.accumulate(self._growth[begin:])
            after = slice(begin + 1, None)
            found[after] = np.minimum(found[after], 2 * held * self._rest[after])
        found = found[self.k] * (1 + 64 * _EPS * (self.last + 1))
        return np.minimum(found, self._signed(np.zeros(self.last), 1.0)) if self._starts else found

    def driven(self, start: np.ndarray, force: np.ndarray, enough: np.ndarray | float = 0.0) -> np.ndarray:
        """Bounds on the iterates K from a start (2,), driven by one force along one vector, (steps, 1)."""
        found = np.zeros(self.k.size)
        if start.any():
            moved = np.zeros(self.last + 1)
            moved[0] = abs(start[0] - start[1])
            found = abs(start[1]) * self._at_rest() + (self._sums(moved) if moved[0] else 0.0)
        if force[: self.last].any():
            plain = self.of_gradients(np.abs(force))
            known = start.any() or np.all(plain <= enough)
            found = found + (plain if known else np.fmin(plain, self._signed(force[: self.last, 0])))
        return found

    def _signed(self, force: np.ndarray, start: float = 0.0) -> np.ndarray:
        r"""The same from rest, by values on a mesh and what they round.

        After the last step that is followed the iterate is :math:`x(1,1)+d(1,0)` and what is added later.
        """
        last = min(self.last, _SIGNED_STEPS)
        first = 0 if start else int(np.flatnonzero(force)[0])
        if first >= last:
            return np.full(self.k.size, np.inf)
        seen, moved, kicks = self._followed(force, start, first, last)
        share = share_seen(np.maximum(np.arange(last + 1) - first, 0), _POINTS * (last - first) + 2)
        near = np.where(self.k <= last, (seen / share)[np.minimum(self.k, last)], np.inf)
        if self.k[-1] > last:
            later = np.zeros(self.last + 1)
            later[last] = moved / share[last]
            later[last + 1 :] = self.lr * np.abs(force[last:])
            far = (seen / share)[last - 1] + self._sums(later)
            near = np.where(self.k <= last, near, far)
        return near + self._sums(kicks)

    def _followed(
        self, force: np.ndarray, start: float, first: int, last: int
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """Largest values of the iterates, of the last d, and what each step rounds."""
        low, high = self.interval
        count = _POINTS * (last - first) + 2
        lam = low + (high - low) * np.cos((np.arange(count) + 0.5) * np.pi / (2 * count)) ** 2
        p = 1 - self.lr * lam
        x, older, work = np.full(count, start), np.full(count, start), np.zeros(count)
        seen, met = np.full(last + 1, start), np.zeros(last + 1)
        floor = _FLOOR * max(self.lr * float(np.abs(force).max(initial=0.0)), start)
        for j in range(first, last):
            beta = self._most[j]
            np.subtract(x, older, out=work)
            work *= self.beta[j]
            work += x
            work *= p
            work -= self.lr * force[j]
            older, x, work = x, work, older
            seen[j + 1] = max(float(x.max()), -float(x.min()))
            met[j + 1] = (1 + beta) * seen[j] + beta * seen[j - 1] + self.lr * abs(force[j])
            if j % _CLEARED == 0:
                small = (np.abs(x) < floor) & (np.abs(older) < floor)
                x[small] = older[small] = 0.0
        kicks = np.zeros(self.last + 1)
        kicks[: last + 1] = 2 * floor + 32 * _EPS * met
        return seen, float(np.abs(x - older).max()), kicks
