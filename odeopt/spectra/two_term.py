r"""Powers of a two-by-two step :math:`T(\lambda)`, linear in lambda: bounds on an interval.

With the roots :math:`z_1,z_2` of :math:`z^2-\operatorname{tr}T\,z+\det T` and
:math:`U_i=(z_1^{i+1}-z_2^{i+1})/(z_1-z_2)`, which are :math:`r^i\sin((i+1)\varphi)/\sin\varphi` at complex
roots and :math:`(i+1)z^i` at a double one, Cayley and Hamilton give

.. math:: (T^i)_{00}=U_i-T_{11}U_{i-1},\quad (T^i)_{01}=T_{01}U_{i-1},

and every response of an iterate is a multiple of :math:`U_i-tU_{i-1}` with t linear in lambda. As
:math:`U_i=z_1^i+z_2U_{i-1}`, that is bounded by each of

.. math:: \frac{|z_1-t||z_1|^i+|z_2-t||z_2|^i}{|z_1-z_2|},\quad |z_1|^i+|z_2-t||U_{i-1}|,\quad
    |z_2|^i+|z_1-t||U_{i-1}|,\qquad |U_i|\le\rho^i\min\Bigl(i+1,\frac{2\rho}{|z_1-z_2|}\Bigr),

:math:`\rho=\max|z|`, with the factor 1 for 2 at real roots of one sign. The first is sharp away from a double
root, the others at it. They are taken on cells that are graded towards the ends of the interval and the
zeros of the discriminant, where these quantities are known within bounds: the discriminant is convex, trace,
determinant and t are linear, and to each comes what its evaluation may round, relative to the sum of the
sizes of its terms (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). A power of a bound
on :math:`\rho` is then a bound again.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

__all__ = ["TwoTerm"]

_EPS = float(np.finfo(float).eps)
# Roundings of a linear function of lambda, entries of the step and lambda included, and of a product of two.
_LINEAR, _PRODUCT = 16 * _EPS, 64 * _EPS
# Ratio of neighbouring cells, and the smallest of them as a part of the interval.
_RATIO, _SMALLEST = 1.3, 1e-16
# Powers that have a bound of their own, and the ratio of the ends of the ranges that share one beyond.
_SINGLE, _RANGE = 64, 1.01
# Of a library's power function, and of the few products and sums that a bound is made of.
_EVALUATION = 1 + 1e-13

# A function c_0 + c_1 lam by its coefficients and those of the sizes of its terms.
Line = tuple[float, float, float, float]


def _line(constant: float, slope: float) -> Line:
    return constant, slope, abs(constant), abs(slope)


def _minus(a: Line, b: Line, factor: float = 1.0) -> Line:
    return (a[0] - factor * b[0], a[1] - factor * b[1], a[2] + abs(factor) * b[2], a[3] + abs(factor) * b[3])


class TwoTerm:
    """Bounds on [low, high] on the powers of a step with one gradient and a state of two entries."""

    @np.errstate(over="ignore", invalid="ignore")
    def __init__(self, step: tuple[np.ndarray, ...], low: float, high: float, last: int) -> None:
        M, N, A = step[:3]
        self.last: int = last
        self.lines: list[list[Line]] = [
            [_line(float(M[a, b]), float(N[a, 0] * A[0, b])) for b in range(2)] for a in range(2)
        ]
        (t00, t01), (t10, t11) = self.lines
        self.trace: Line = _minus(t00, t11, -1.0)
        # det(M + lam N A) is linear in lam: N A has rank one
        terms = (M[0, 0] * M[1, 1], -M[0, 1] * M[1, 0])
        slopes = (t00[1] * M[1, 1], t11[1] * M[0, 0], -t01[1] * M[1, 0], -t10[1] * M[0, 1])
        self.determinant: Line = (sum(terms), sum(slopes), sum(map(abs, terms)), sum(map(abs, slopes)))
        self.ranges: np.ndarray = _ranges(last)
        edges = self._edges(low, high)
        self.left: np.ndarray = edges[:-1]
        self.right: np.ndarray = edges[1:]
        self._known: dict[tuple[int, int], np.ndarray] = {}
        self._along: dict[tuple[float, float], np.ndarray] = {}
        self._roots()

    @np.errstate(over="ignore", invalid="ignore")
    def entry(self, row: int, column: int) -> np.ndarray:
        """Bounds on an entry of all powers from 0 to the last."""
        if (row, column) not in self._known:
            if row == column:
                found = self._spread(self._combined(self.lines[1 - row][1 - row]))
            else:
                found = np.zeros(self.last + 1)
                found[1:] = self._spread(self._size(self.lines[row][column])[:, None] * self._plain)[:-1]
            self._known[row, column] = found
        return self._known[row, column]

    @np.errstate(over="ignore", invalid="ignore")
    def along(self, first: float, second: float) -> np.ndarray:
        """Bounds on the first entry of all powers times a constant vector."""
        if first == 0:
            return abs(second) * self.entry(0, 1)
        return self._spread(self.along_on_cells(first, second))

    @np.errstate(over="ignore", invalid="ignore")
    def along_on_cells(self, first: float, second: float) -> np.ndarray:
        """The same on each cell for the powers of each range, shape (cells, ranges)."""
        if (first, second) not in self._along:
            if first == 0:
                found = abs(second) * self._size(self.lines[0][1])[:, None] * self._before
            else:
                t = _minus(self.lines[1][1], self.lines[0][1], second / first)
                found = abs(first) * self._combined(t)
            self._along[first, second] = _EVALUATION * found
        return self._along[first, second]

    def _edges(self, low: float, high: float) -> np.ndarray:
        """Ends of the cells."""
        width = high - low
        if not width > 0:
            return np.array([low, high])
        count = int(np.log(1 / _SMALLEST) / np.log(_RATIO))
        offsets = np.concatenate([[0.0], width * _RATIO ** -np.arange(count + 1.0)])
        places = np.array([low, high, *(z for z in self._zeros(width) if low < z < high)])
        edges = np.concatenate([places[:, None] + offsets, places[:, None] - offsets], axis=None)
        return np.unique(np.clip(edges, low, high))

    def _zeros(self, width: float) -> list[float]:
        """Zeros of the discriminant, or where it is least, as far as they are numbers."""
        (tr, slope, *_), (det, change, *_) = np.array(self.trace), np.array(self.determinant)
        with np.errstate(all="ignore"):
            a, b, c = (slope * width) ** 2, 2 * (tr * slope - 2 * change) * width, tr**2 - 4 * det
            half = -(b + np.copysign(np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0)), b)) / 2
            return [width * z for z in (half / a, c / half)]

    def _values(self, line: Line) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A linear function at both ends of the cells, and what it may be off by."""
        constant, slope, size, growth = line
        return (
            constant + slope * self.left,
            constant + slope * self.right,
            _LINEAR * (size + growth * self.right),
        )

    def _between(self, line: Line) -> tuple[np.ndarray, np.ndarray]:
        left, right, slack = self._values(line)
        return np.minimum(left, right) - slack, np.maximum(left, right) + slack

    def _size(self, line: Line) -> np.ndarray:
        low, high = self._between(line)
        return np.maximum(-low, high)

    def _quadratic(self, a: Line, b: Line, c: Line, weight: float) -> tuple[Any, Any, list[Any]]:
        """Bounds on a b + weight c on the cells, from its chords; values at both ends, and their slack."""
        (al, ar, _), (bl, br, _), (cl, cr, _) = (self._values(line) for line in (a, b, c))
        sizes = [line[2] + line[3] * self.right for line in (a, b, c)]
        slack = _PRODUCT * (sizes[0] * sizes[1] + abs(weight) * sizes[2])
        left, right = al * bl + weight * cl, ar * br + weight * cr
        bulge = a[1] * b[1] * (self.right - self.left) ** 2 / 4 * (1 + _PRODUCT)
        low = np.minimum(left, right) - slack - max(np.sign(a[1] * b[1]), 0.0) * np.abs(bulge)
        high = np.maximum(left, right) + slack + max(-np.sign(a[1] * b[1]), 0.0) * np.abs(bulge)
        return low, high, [(left, slack), (right, slack)]

    def _roots(self) -> None:
        """Both roots where they are real, their distance, and the largest, on the cells."""
        low, high, _ = self._quadratic(self.trace, self.trace, self.determinant, -4.0)
        self.real: np.ndarray = high >= 0
        self.complex: np.ndarray = low < 0
        trace_low, trace_high = self._between(self.trace)
        det_low, det_high = self._between(self.determinant)
        self.sign: np.ndarray = np.where(trace_low > 0, 1.0, np.where(trace_high < 0, -1.0, 0.0))
        apart = np.sqrt(np.maximum(np.where(self.real, low, -high), 0.0))
        self.gap: np.ndarray = apart / _EVALUATION
        # upper and lower root of real ones, each in its bounds; the larger is that of the sign of the trace
        up, down = np.sqrt(np.maximum(high, 0.0)), np.sqrt(np.maximum(low, 0.0))
        slack = _LINEAR * (up + np.maximum(-trace_low, trace_high))
        self.upper: tuple[np.ndarray, np.ndarray] = (
            (trace_low + down) / 2 - slack,
            (trace_high + up) / 2 + slack,
        )
        self.lower: tuple[np.ndarray, np.ndarray] = (
            (trace_low - up) / 2 - slack,
            (trace_high - down) / 2 + slack,
        )
        self._between_ends(slack)
        upper, lower = _size(self.upper), _size(self.lower)
        modulus = np.where(self.complex, np.sqrt(np.maximum(det_high, 0.0)), 0.0)
        rho = _EVALUATION * np.maximum(np.where(self.real, np.maximum(upper, lower), 0.0), modulus)
        # an iteration beyond float64 has no bounds
        self.rho: np.ndarray = np.where(np.isfinite(low) & np.isfinite(high), rho, np.inf)
        smaller = np.where(self.sign > 0, lower, np.where(self.sign < 0, upper, self.rho))
        self.sigma: np.ndarray = np.where(self.complex, self.rho, np.minimum(_EVALUATION * smaller, self.rho))
        one_sign = self.real & ~self.complex & (det_low >= 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            steep = np.where(one_sign, 1.0, 2.0) * self.rho / self.gap
        self.steep: np.ndarray = np.where(np.isnan(steep), np.inf, steep)

    def _between_ends(self, slack: np.ndarray) -> None:
        r"""Narrow the bounds on real roots to their values at the ends of the cells, as each is monotone.

        A root has :math:`z'=(z\operatorname{tr}'-\det')/(2z-\operatorname{tr})`. It vanishes at one z alone,
        where :math:`z^2-z\operatorname{tr}+\det` does not depend on lambda: that z is a root always or never.
        """
        _, _, ends = self._quadratic(self.trace, self.trace, self.determinant, -4.0)
        left, right, of_trace = self._values(self.trace)
        found = []
        for trace, (value, of_value) in zip((left, right), ends, strict=True):
            up, down = np.sqrt(np.maximum(value + of_value, 0.0)), np.sqrt(np.maximum(value - of_value, 0.0))
            found.append([(trace + down, trace + up), (trace - up, trace - down)])
        whole = self.real & ~self.complex
        for name, one, other in zip(("upper", "lower"), *found, strict=True):
            low, high = getattr(self, name)
            ends_low = (np.minimum(one[0], other[0]) - of_trace) / 2 - slack
            ends_high = (np.maximum(one[1], other[1]) + of_trace) / 2 + slack
            setattr(
                self,
                name,
                (
                    np.where(whole, np.maximum(low, ends_low), low),
                    np.where(whole, np.minimum(high, ends_high), high),
                ),
            )

    @functools.cached_property
    def _powers(self) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on powers of both roots in each range, shape (cells, ranges)."""
        return _largest_power(self.rho, self.ranges), _largest_power(self.sigma, self.ranges)

    @functools.cached_property
    def _before(self) -> np.ndarray:
        r"""Bounds on :math:`|U_{i-1}|` in each range, of which there is none at 0."""
        with np.errstate(over="ignore", invalid="ignore"):
            count = np.minimum(np.maximum(self.ranges[1] - 1, 0), self.steep[:, None])
            return _largest_power(self.rho, np.maximum(self.ranges - 1, 0)) * count

    @functools.cached_property
    def _plain(self) -> np.ndarray:
        r"""Bounds on :math:`|U_i|` in each range."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._powers[0] * np.minimum(self.ranges[1], self.steep[:, None])
        return np.where(np.isnan(found), np.inf, found)

    def _combined(self, t: Line) -> np.ndarray:
        r"""Bounds on :math:`|U_i-tU_{i-1}|` in each range."""
        t_low, t_high = self._between(t)
        # |z - t|^2 = t^2 - t tr + det at complex roots
        _, square, _ = self._quadratic(t, _minus(t, self.trace), self.determinant, 1.0)
        at_complex = np.where(self.complex, np.sqrt(np.maximum(square, 0.0)), 0.0)

        def distance(root: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            at_real = np.where(self.real, np.maximum(root[1] - t_low, t_high - root[0]), 0.0)
            return np.maximum(at_real, at_complex)

        upper, lower = distance(self.upper), distance(self.lower)
        either = np.maximum(upper, lower)
        large = np.where(self.sign > 0, upper, np.where(self.sign < 0, lower, either))[:, None]
        small = np.where(self.sign > 0, lower, np.where(self.sign < 0, upper, either))[:, None]
        (rho, sigma), before = self._powers, self._before
        with np.errstate(all="ignore"):
            apart = (large * rho + small * sigma) / self.gap[:, None]
            found = np.fmin(apart, np.fmin(rho + small * before, sigma + large * before))
        return np.where(np.isnan(found), np.inf, found)

    def _spread(self, found: np.ndarray) -> np.ndarray:
        """Largest of all cells, for each power."""
        first, end = self.ranges
        return _EVALUATION * np.repeat(found.max(axis=0), (end - first).astype(int))[: self.last + 1]


def _size(bounds: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return np.maximum(-bounds[0], bounds[1])


def _ranges(last: int) -> np.ndarray:
    """First power of each range, and the one after its last: shape (2, ranges)."""
    count = max(0, int(np.ceil(np.log(max((last + 1) / _SINGLE, 1.0)) / np.log(_RANGE))))
    later = np.ceil(_SINGLE * _RANGE ** np.arange(1.0, count + 1))
    first = np.unique(np.concatenate([np.arange(_SINGLE + 1.0), later]))
    return np.stack([first[:-1], first[1:]])


def _largest_power(base: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Bounds on base^i for i in each range: at its first where powers fall, else at its last."""
    first, last = ranges[0], np.maximum(ranges[1] - 1, 0)
    with np.errstate(over="ignore", under="ignore"):
        return np.power(base[:, None], np.where(base[:, None] <= 1, first, last))
