r"""Rates of decay of the loss, and the exact one of a linear ODE.

That of a discrete iteration stands in :mod:`odeopt.rates.iteration`, the measured one in
:mod:`odeopt.rates.fit`.

"Linear, rate c" means :math:`L(t)\sim e^{-ct}`; "power p" means :math:`L(t)\sim t^{-p}`. A rate keeps its
layer (linear ODE, discrete iteration, finite net) and its kind (exact, certified, measured).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import scipy
import sympy

from odeopt.checks import spectral_interval
from odeopt.dynamics.characteristic import characteristic_roots, exact_roots
from odeopt.dynamics.closed import require_error_dynamics
from odeopt.dynamics.error import ErrorDynamics
from odeopt.rules.pieces import exact_expression
from odeopt.shown import Shown, Summary

__all__ = ["Rate", "exact_rate"]

# Points on which a rate is scanned over [mu, L] before the worst one is refined.
_SCAN = 801


@dataclass(frozen=True, repr=False)
class Rate(Shown):
    r"""A rate of decay of the loss.

    Parameters
    ----------
    value : float
        The c in :math:`e^{-ct}`, or the p in :math:`t^{-p}`; a negative c is growth.
    law : {"linear", "power"}
        Exponential decay, or a power.
    kind : {"exact", "certified", "measured"}
        Derived exactly, proved as a bound, or fitted to a run.
    layer : {"linear ODE", "discrete iteration", "finite net", ...}
        What it is a claim about.
    unit : {"time", "iteration"}
        What t counts.
    interval : (float, float), optional
        Where the rate lies: the confidence interval of a measured one; by default it is `value` itself.
    note : str
        How it was obtained.

    Examples
    --------
    >>> print(Rate(2.0, "linear", "exact", "linear ODE"))
    exp(-2 t), exact (linear ODE)
    """

    value: float
    law: Literal["linear", "power"]
    kind: Literal["exact", "certified", "measured"]
    layer: str
    unit: Literal["time", "iteration"] = "time"
    interval: tuple[float, float] | None = None
    note: str = ""

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.value if self.interval is None else self.interval[0]

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.value if self.interval is None else self.interval[1]

    @property
    def formula(self) -> str:
        """The law as text, ``exp(-c t)`` or ``t^-p``, with k in place of t for iterations."""
        x = "t" if self.unit == "time" else "k"
        return f"exp({-self.value:.3g} {x})" if self.law == "linear" else f"{x}^{-self.value:.3g}"

    def to_dict(self) -> dict[str, float | str]:
        """Return the rate as plain JSON types.

        Returns
        -------
        dict
            Fields by name, with the ends of the interval as "low" and "high" in its place.
        """
        ends = {"low": self.low, "high": self.high}
        return {name: value for name, value in asdict(self).items() if name != "interval"} | ends

    def _summary(self) -> Summary:
        return Summary([str(self), *filter(None, [self.note])])

    def __str__(self) -> str:
        spread = f" in [{self.low:.4g}, {self.high:.4g}]" if self.kind == "measured" else ""
        return f"{self.formula}{spread}, {self.kind} ({self.layer})"


def place_of_largest(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
    """Where a continuous function is largest on [low, high]: a logarithmic scan, then refinement."""
    grid = np.geomspace(low, high, _SCAN if high > low else 1)
    values = function(grid)
    best = int(np.argmax(values))
    left, right = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    if right <= left:
        return float(grid[best])
    # as a share of the right end: squares of x itself leave the range of floats at 1e200
    refined = scipy.optimize.minimize_scalar(
        lambda share: -float(function(np.array([share * right]))[0]),
        bounds=(left / right, 1),
        method="bounded",
    )
    return float(refined.x * right if -refined.fun > values[best] else grid[best])


def exact_rate(dynamics: ErrorDynamics, mu: float, L: float | None = None) -> Rate:
    r"""Exact rate of the linear ODE when the kernel's eigenvalues fill [mu, L].

    Parameters
    ----------
    dynamics : ErrorDynamics
        With numeric coefficients.
    mu, L : float
        Smallest and largest eigenvalue, 0 < mu <= L. Without L the rate of the mode mu.

    Returns
    -------
    Rate
        Constant coefficients: linear, twice the distance of the rightmost characteristic root from
        the imaginary axis: :math:`2\mu` for gradient descent, :math:`b-\mathrm{Re}\sqrt{b^2-4\mu}` for
        friction b. Friction r/t: power r.

    Raises
    ------
    ValueError
        On mu <= 0, L < mu, or dynamics without a known rate.

    Notes
    -----
    The power of friction r/t follows from the Bessel envelope :math:`t^{-r/2}` of every mode; on
    strongly convex functions that are not quadratic the power is smaller.

    Examples
    --------
    >>> from odeopt import HeavyBall, Nesterov, ode_limit, error_dynamics
    >>> rule = HeavyBall.with_friction(lr=0.01, friction=2.0)
    >>> print(exact_rate(error_dynamics(ode_limit(rule)), mu=0.19))
    exp(-0.2 t), exact (linear ODE)
    >>> print(exact_rate(error_dynamics(ode_limit(Nesterov(lr=0.01, r=3))), mu=0.19))
    t^-3, exact (linear ODE)
    """
    dynamics = require_error_dynamics(dynamics, "rate", source=True)
    mu, L = spectral_interval(mu, L)
    if not dynamics.is_numeric:
        raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")
    a, t = dynamics.coefficients, dynamics.t
    ends = ", of the squared distance to the fixed point" if dynamics.has_source else ""
    if not dynamics.is_constant:
        r = sympy.cancel(t * a[1] / a[2]) if dynamics.order == 2 else t
        if r.free_symbols or r < 0 or sympy.cancel(a[0] / a[2]).has(t):
            raise ValueError(f"no exact rate is known for {dynamics}; measure one with fit_rate")
        return Rate(float(r), "power", "exact", "linear ODE", note="Bessel envelope" + ends)
    ratios = [exact_expression(sympy.cancel(c / a[-1])) for c in a[:-1]]
    monic = [sympy.lambdify(dynamics.lam, c, "numpy") for c in ratios]

    def abscissa(lam: np.ndarray) -> np.ndarray:
        return rightmost(np.array([np.broadcast_to(np.asarray(c(lam), float), lam.shape) for c in monic]))

    # Roots that meet and roots that nearly do are told apart by exact arithmetic.
    worst = {mu, L, place_of_largest(abscissa, mu, L)}
    found = max(_exact_rightmost(ratios, dynamics.lam, lam) for lam in worst)
    return Rate(-2 * found, "linear", "exact", "linear ODE", note="characteristic roots" + ends)


def rightmost(monic: np.ndarray) -> np.ndarray:
    """Largest real part among the roots of m polynomials, coefficients (n, m)."""
    return characteristic_roots(monic).real.max(axis=1)


def _exact_rightmost(ratios: list[sympy.Expr], symbol: sympy.Symbol, lam: float) -> float:
    """The same for one eigenvalue, read as the decimal it prints as; what is irrational to 60 digits."""
    values = [c.subs(symbol, sympy.Rational(repr(lam))) for c in ratios]
    exact = [v if v.is_Rational else sympy.Rational(str(v.evalf(60))) for v in values]
    return float(exact_roots([*(Fraction(int(v.p), int(v.q)) for v in exact), Fraction(1)]).real.max())
