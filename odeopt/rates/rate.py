r"""Rates of decay of the loss, and the exact one of a linear ODE.

That of a discrete iteration stands in :mod:`odeopt.rates.iteration`, the measured one in
:mod:`odeopt.rates.fit`.

"Linear, rate c" means :math:`L(t)\sim e^{-ct}`; "power p" means :math:`L(t)\sim t^{-p}`. A rate keeps its
layer (linear ODE, discrete iteration, finite net) and its kind (exact, certified, measured).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import sympy

from odeopt.checks import spectral_interval
from odeopt.dynamics.error import ErrorDynamics
from odeopt.dynamics.mode_values import companion

__all__ = ["Rate", "exact_rate"]

# Points on which a rate is scanned over [mu, L] before the worst one is refined.
_SCAN = 801


@dataclass(frozen=True)
class Rate:
    r"""A rate of decay of the loss.

    Attributes
    ----------
    value : float
        c in :math:`e^{-ct}`, or p in :math:`t^{-p}`; a negative c is growth.
    law : {"linear", "power"}
    kind : {"exact", "certified", "measured"}
    layer : {"linear ODE", "discrete iteration", "finite net", ...}
    unit : {"time", "iteration"}
        What t counts.
    low, high : float
        Confidence interval of a measured rate; equal to `value` otherwise.
    note : str
        How it was obtained.

    Examples
    --------
    >>> print(Rate(2.0, "linear", "exact", "linear ODE"))
    exp(-2 t), exact (linear ODE)
    """

    value: float
    law: str
    kind: str
    layer: str
    unit: str = "time"
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __post_init__(self):
        for name in ("low", "high"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.value)

    @property
    def formula(self) -> str:
        """The law as text, ``exp(-c t)`` or ``t^-p``, with k in place of t for iterations."""
        x = "t" if self.unit == "time" else "k"
        return f"exp({-self.value:.3g} {x})" if self.law == "linear" else f"{x}^{-self.value:.3g}"

    def __str__(self) -> str:
        spread = f" in [{self.low:.4g}, {self.high:.4g}]" if self.kind == "measured" else ""
        return f"{self.formula}{spread}, {self.kind} ({self.layer})"


def largest_over(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
    """Maximum of a continuous function over [low, high]: a logarithmic scan, then refinement."""
    grid = np.geomspace(low, high, _SCAN if high > low else 1)
    values = function(grid)
    best = int(np.argmax(values))
    left, right = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    if right <= left:
        return float(values[best])
    refined = scipy.optimize.minimize_scalar(
        lambda x: -float(function(np.array([x]))[0]), bounds=(left, right), method="bounded"
    )
    return float(max(values[best], -refined.fun))


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
    mu, L = spectral_interval(mu, L)
    if not dynamics.is_numeric:
        raise ValueError(f"{dynamics} holds symbols; give them numbers with dynamics.subs(...)")
    a, t = dynamics.coefficients, dynamics.t
    if not dynamics.is_constant:
        r = sympy.cancel(t * a[1] / a[2]) if dynamics.order == 2 else t
        if r.has(t) or sympy.cancel(a[0] / a[2]).has(t):
            raise ValueError(f"no exact rate is known for {dynamics}; measure one with fit_rate")
        return Rate(float(r), "power", "exact", "linear ODE", note="Bessel envelope")
    monic = [sympy.lambdify(dynamics.lam, sympy.cancel(c / a[-1]), "numpy") for c in a[:-1]]

    def abscissa(lam):
        polynomial = np.array([np.broadcast_to(np.asarray(c(lam), float), lam.shape) for c in monic])
        return _rightmost(polynomial)

    return Rate(
        -2 * largest_over(abscissa, mu, L), "linear", "exact", "linear ODE", note="characteristic roots"
    )


def _rightmost(monic: np.ndarray) -> np.ndarray:
    """Largest real part among the roots; in closed form to order 2, where it may be a double root."""
    if monic.shape[0] == 1:
        return -monic[0]
    if monic.shape[0] == 2:
        q, b = monic
        root = np.sqrt(np.maximum(b**2 / 4 - q, 0.0))
        # where all roots are real, -b/2 + root is computed as -q / (b/2 + root), free of cancellation
        real = (b > 0) & (b**2 / 4 >= q)
        return np.where(real, -q / np.where(real, b / 2 + root, 1.0), -b / 2 + root)
    return np.linalg.eigvals(companion(monic)).real.max(axis=1)
