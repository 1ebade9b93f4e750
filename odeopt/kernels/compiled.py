r"""What numba compiles of a symmetric matrix in panels: their entries, and their shares in a product.

Entries of a ReLU kernel of one hidden layer are written in one pass over the cosines. With
:math:`s^2=z=\min\bigl(c^2,\tfrac{1-|c|}2\bigr)\le\tfrac14` and :math:`p=\arcsin s`, to rounding a polynomial
in z times s, the angle :math:`\pi-\arccos c` is :math:`\tfrac\pi2\pm p`, :math:`2p` or :math:`\pi-2p`.

A share takes eight rows at a time, :math:`y_i\mathrel{+}=\sum_ja_{ij}x_j` and
:math:`y_j\mathrel{+}=\sum_ia_{ij}x_i` in one reading of the entries, whatever their precision; products and
sums are those of float64. Sums may be taken in another order and with fused multiplications, either of which
:math:`\gamma_n` covers; infinities and nan keep their meaning.

To be imported only where numba is installed (extra ``fast``). What is compiled, in some seconds, is kept
beside this file or in the user's cache, where one of the folders can be written.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

__all__ = ["compiled_entries", "compiled_share"]

# Columns at a time: what is read and summed of vectors stays in the nearest cache.
_STRIP = 2048


def _arcsine(degree: int = 12, terms: int = 45) -> tuple[float, ...]:
    r"""Coefficients of :math:`(\arcsin s/s-1)/z` on [0, 1/4] from its series, to some 1e-17 of arcsin s."""
    series = Polynomial([math.comb(2 * k, k) / 4**k / (2 * k + 1) for k in range(1, terms)])
    short = series.convert(domain=[0, 0.25], kind=Chebyshev).truncate(degree + 1)
    return tuple(short.convert(domain=[-1, 1], kind=Polynomial, window=[-1, 1]).coef.tolist())


_A0, _A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9, _A10, _A11, _A12 = _arcsine()


def _jit(function: Callable[..., Any]) -> Any:
    # reassociation vectorises the sums; nothing is assumed of infinities and nan
    options: dict[str, Any] = {
        "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}
    }  # fmt: skip
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**options)(function)


@functools.cache
def compiled_entries(both: bool) -> Callable[..., tuple[float, int, int]]:
    """``write(cosines, top, end, left, right, panel, column, limit)``, where a share compiles.

    Rows top to end of the kernel of inputs of the norms `left` and `right` go into the panel, from that
    column on. Returned are the sum of squares, how many are below 0, and how many cosines exceed the limit.
    """
    layers = True if both else None
    return lambda *arguments: _entries(*arguments, layers)


@functools.cache
def compiled_share(storage: str, absolute: bool) -> tuple[Callable[..., None] | None, str]:
    """``share(panel, start, vectors, result)`` that adds in place, or None and the reason.

    The panel begins at row and column `start` of vectors and result, which have shape (k, n), in the order of
    C; with `absolute` the entries count by their size.
    """
    size = True if absolute else None  # None is a type, by which numba compiles

    def share(*arguments: Any) -> None:
        _share(*arguments, size)

    try:
        share(np.ones((9, 9), storage), 0, np.ones((3, 9)), np.zeros((3, 9)))
    except Exception as error:  # noqa: BLE001 -- a compiler of its own, which any machine may lack parts of
        return None, f"{type(error).__name__} of numba: {(str(error).splitlines() or [''])[0]}"
    return share, ""


@_jit
def _entries(cosines, top, end, left, right, panel, column, limit, both):
    squares, below, near = 0.0, 0, 0
    for i in range(top, end):
        row, out = cosines[i], panel[i, column : column + right.size]
        scale, total = left[i] / (2 * math.pi), 0.0
        for j in range(right.size):
            c = row[j]
            size = abs(c)
            half = (1 - size) / 2  # exact from 1/2 on
            z = c * c if size < 0.5 else half
            s = size if size < 0.5 else math.sqrt(half)
            r = _A7 + z * (_A8 + z * (_A9 + z * (_A10 + z * (_A11 + z * _A12))))
            r = _A0 + z * (_A1 + z * (_A2 + z * (_A3 + z * (_A4 + z * (_A5 + z * (_A6 + z * r))))))
            p = s + s * z * r
            wide = 2 * p if c < 0 else math.pi - 2 * p
            angle = math.pi / 2 + math.copysign(p, c) if size < 0.5 else wide
            e = c * angle
            if both is not None:
                e = 2 * e + math.sqrt((1 - size) * (1 + size))
            e *= scale * right[j]
            near += size > limit
            below += e < 0
            total += e * e
            out[j] = e
        squares += total
    return squares, below, near


@_jit
def _row(a, x, y, size):
    """One row from the diagonal on."""
    total = 0.0
    for j in range(1, a.size):
        e = np.float64(a[j])
        if size is not None:
            e = abs(e)
        total += e * x[j]
        y[j] += e * x[0]
    e = np.float64(a[0])
    if size is not None:
        e = abs(e)
    y[0] += total + e * x[0]


@_jit
def _one(panel, i, c, d, x, y, size):
    """Eight rows from i on, columns c to d. Slices come first: an index of them is never below 0."""
    a0, a1, a2, a3 = panel[i, c:d], panel[i + 1, c:d], panel[i + 2, c:d], panel[i + 3, c:d]
    a4, a5, a6, a7 = panel[i + 4, c:d], panel[i + 5, c:d], panel[i + 6, c:d], panel[i + 7, c:d]
    x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
    x4, x5, x6, x7 = x[i + 4], x[i + 5], x[i + 6], x[i + 7]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    right, sums = x[c:d], y[c:d]
    for j in range(d - c):
        e0, e1, e2, e3 = np.float64(a0[j]), np.float64(a1[j]), np.float64(a2[j]), np.float64(a3[j])
        e4, e5, e6, e7 = np.float64(a4[j]), np.float64(a5[j]), np.float64(a6[j]), np.float64(a7[j])
        if size is not None:
            e0, e1, e2, e3 = abs(e0), abs(e1), abs(e2), abs(e3)
            e4, e5, e6, e7 = abs(e4), abs(e5), abs(e6), abs(e7)
        v = right[j]
        s0 += e0 * v
        s1 += e1 * v
        s2 += e2 * v
        s3 += e3 * v
        s4 += e4 * v
        s5 += e5 * v
        s6 += e6 * v
        s7 += e7 * v
        sums[j] += e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3 + e4 * x4 + e5 * x5 + e6 * x6 + e7 * x7
    y[i] += s0
    y[i + 1] += s1
    y[i + 2] += s2
    y[i + 3] += s3
    y[i + 4] += s4
    y[i + 5] += s5
    y[i + 6] += s6
    y[i + 7] += s7


@_jit
def _two(panel, i, c, d, x, y, u, v, size):
    """Four rows, likewise, with two vectors: y of x and v of u."""
    a0, a1, a2, a3 = panel[i, c:d], panel[i + 1, c:d], panel[i + 2, c:d], panel[i + 3, c:d]
    x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
    u0, u1, u2, u3 = u[i], u[i + 1], u[i + 2], u[i + 3]
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = 0.0
    right, sums, other, others = x[c:d], y[c:d], u[c:d], v[c:d]
    for j in range(d - c):
        e0, e1, e2, e3 = np.float64(a0[j]), np.float64(a1[j]), np.float64(a2[j]), np.float64(a3[j])
        if size is not None:
            e0, e1, e2, e3 = abs(e0), abs(e1), abs(e2), abs(e3)
        f, g = right[j], other[j]
        s0 += e0 * f
        s1 += e1 * f
        s2 += e2 * f
        s3 += e3 * f
        t0 += e0 * g
        t1 += e1 * g
        t2 += e2 * g
        t3 += e3 * g
        sums[j] += e0 * x0 + e1 * x1 + e2 * x2 + e3 * x3
        others[j] += e0 * u0 + e1 * u1 + e2 * u2 + e3 * u3
    y[i] += s0
    y[i + 1] += s1
    y[i + 2] += s2
    y[i + 3] += s3
    v[i] += t0
    v[i + 1] += t1
    v[i + 2] += t2
    v[i + 3] += t3


@_jit
def _share(panel, start, vectors, result, size):
    height, width = panel.shape
    count = vectors.shape[0]
    for i in range(0, height, 8):
        below = i + 8
        whole = below <= height
        # the corner of eight rows, or all of those that are left
        end = below if whole else width
        for r in range(i, min(below, height)):
            for k in range(count):
                _row(panel[r, r:end], vectors[k, start + r :], result[k, start + r :], size)
        for c in range(below, width if whole else 0, _STRIP):
            d = min(c + _STRIP, width)
            for k in range(0, count - 1, 2):
                x, y = vectors[k, start:], result[k, start:]
                u, v = vectors[k + 1, start:], result[k + 1, start:]
                _two(panel, i, c, d, x, y, u, v, size)
                _two(panel, i + 4, c, d, x, y, u, v, size)
            if count % 2:
                _one(panel, i, c, d, vectors[count - 1, start:], result[count - 1, start:], size)
