r"""Numerical evaluation of the modes, each in a form that stays accurate where the formula degenerates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flint
import numpy as np
import numpy.typing as npt
import scipy
from sympy import Expr

__all__ = ["AlongOrigin", "bessel_mode", "damped_oscillator", "kummer_mode"]

# Beyond it Gamma(nu + 1) (2/x)^nu leaves the range of float64 where the series no longer converges fast.
_MAX_FRICTION = 800
_MOST_BITS = 2**14


@dataclass(frozen=True)
class AlongOrigin:
    r"""The error :math:`\chi` along q: its expression, and its values (T, n) at times and eigenvalues."""

    expr: Expr
    values: Callable[[np.ndarray, np.ndarray], np.ndarray]


def damped_oscillator(
    times: np.ndarray, b: npt.ArrayLike, q: npt.ArrayLike, v: npt.ArrayLike = 0.0
) -> np.ndarray:
    r"""Solve :math:`\varphi''+b\varphi'+q\varphi=0` in all regimes, :math:`\varphi(0)=1,\varphi'(0)=v`."""
    b, q, v = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=float)) for x in (b, q, v)))
    gap = q - b**2 / 4
    omega = np.sqrt(np.abs(gap))
    time = times[:, None]
    with np.errstate(over="ignore"):
        angle = omega * time
    decay = np.exp(-b / 2 * time)
    over = gap < 0
    slow_rate = np.where(over, q / np.where(over, b / 2 + omega, 1.0), 0.0)
    slow = np.exp(-slow_rate * time)
    x = 2 * angle
    turn = np.where(decay > 0, angle, 0.0)  # at any phase a mode that has underflowed is 0
    # (1 - exp(-x)) / x, 1 at x = 0
    ratio = np.where(x > 0, -np.expm1(-x) / np.where(x > 0, x, 1.0), 1.0)
    cosine = np.where(over, slow * (1 + np.exp(-x)) / 2, decay * np.cos(turn))
    sine = time * np.where(over, slow * ratio, decay * np.sinc(turn / np.pi))
    return cosine + (b / 2 + v) * sine


def bessel_mode(x: np.ndarray, r: float) -> np.ndarray:
    r"""Evaluate :math:`\Gamma(\nu+1)(2/x)^\nu J_\nu(x)={}_0F_1(;\nu+1;-x^2/4)`, :math:`\nu=\frac{r-1}2`."""
    if not 0 <= r <= _MAX_FRICTION:
        raise ValueError(f"friction r must lie in [0, {_MAX_FRICTION}] for the Bessel mode, got {r!r}")
    nu = (r - 1) / 2
    # The power series loses exp(x^2 / (2 nu)) to cancellation, the quotient of an exponentially small
    # J_nu and a large factor over- and underflows for large nu: each is used where it is safe.
    small = x < np.sqrt(4 * (nu + 1) * (1 if nu < 50 else 4))
    result = np.empty_like(x)
    result[small] = _bessel_series(x[small], nu)
    large = x[~small]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scale = np.exp(scipy.special.gammaln(nu + 1) + nu * np.log(2 / large))
        values = scale * scipy.special.jv(nu, large)
        result[~small] = np.where(np.isinf(large) & (r > 0), 0.0, values)
    return result


def _bessel_series(x: np.ndarray, nu: float) -> np.ndarray:
    """Sum of (-x^2/4)^k / (k! (nu+1)_k); terms fall faster than 4^k / k! on the range used."""
    total = term = np.ones_like(x)
    for k in range(1, 40):
        term = -term * x**2 / (4 * k * (nu + k))
        total = total + term
    return total


def kummer_mode(x: np.ndarray, a: float, r: float) -> np.ndarray:
    r"""Evaluate :math:`{}_1F_1(a;r;-x)` for x >= 0 in ball arithmetic, of which float64 is left exact.

    >>> kummer_mode(np.array([0.0, 1.0]), 1.0, 2.0)  # (1 - exp(-x)) / x
    array([1.        , 0.63212056])
    """
    values = np.empty(x.shape)
    for place, value in np.ndenumerate(x):
        bits = 128
        while True:
            with flint.ctx.workprec(bits):
                ball = flint.arb(-float(value)).hypgeom_1f1(flint.arb(a), flint.arb(r))
                values[place] = float(ball.mid())
                if ball.rel_accuracy_bits() >= 60 or ball.rad() < 1e-320 or bits >= _MOST_BITS:
                    break
            bits *= 2
    return values
