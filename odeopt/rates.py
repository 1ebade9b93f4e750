r"""Rates of decay of the loss: exact for a linear ODE or iteration, measured on a curve.

"Linear, rate c" means :math:`L(t)\sim e^{-ct}`; "power p" means :math:`L(t)\sim t^{-p}`. A rate keeps its
layer (linear ODE, discrete iteration, finite net) and its kind (exact, certified, measured).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import sympy

from odeopt.dynamics import ErrorDynamics
from odeopt.mode_functions import companion
from odeopt.rule import UpdateRule, is_number

__all__ = [
    "Rate",
    "discrete_rate",
    "exact_rate",
    "max_learning_rate",
    "recursion_coefficients",
    "spectral_radius",
]

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
    layer : {"linear ODE", "discrete iteration", "finite net"}
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


def _interval(mu: float, L: float | None) -> tuple[float, float]:
    L = mu if L is None else L
    for name, value in (("mu", mu), ("L", L)):
        if not is_number(value) or not np.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")
    if mu <= 0:
        raise ValueError(f"mu must be positive, got {mu!r}; a singular kernel has no rate")
    if L < mu:
        raise ValueError(f"L must be at least mu, got mu = {mu!r}, L = {L!r}")
    return float(mu), float(L)


def _largest(function: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> float:
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


# --- the linear ODE ----------------------------------------------------------------------------------


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
    >>> print(exact_rate(error_dynamics(ode_limit(HeavyBall(lr=0.01, momentum=0.8))), mu=0.19))
    exp(-0.2 t), exact (linear ODE)
    >>> print(exact_rate(error_dynamics(ode_limit(Nesterov(lr=0.01, r=3))), mu=0.19))
    t^-3, exact (linear ODE)
    """
    mu, L = _interval(mu, L)
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

    return Rate(-2 * _largest(abscissa, mu, L), "linear", "exact", "linear ODE", note="characteristic roots")


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


# --- the discrete iteration ----------------------------------------------------------------------------


def recursion_coefficients(rule: UpdateRule, lam, k: int | None = None) -> np.ndarray:
    r"""Coefficients of the linear recursion that a rule performs on the quadratic :math:`\frac12\lambda z^2`.

    .. math:: z_{k+1}=\sum_jc_j(\lambda)\,z_{k-j}

    They are read off by running the rule's own step on unit iterates.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.
    lam : array_like, shape (n,)
    k : int, optional
        Iteration; without it the limit of large k.

    Returns
    -------
    numpy.ndarray, shape (history, n)

    Raises
    ------
    ValueError
        If the step is not linear in the iterates, or carries memory.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> recursion_coefficients(HeavyBall(lr=0.5, momentum=0.25), [1.0])
    array([[ 0.75],
           [-0.25]])
    """
    lam = np.atleast_1d(np.asarray(lam, dtype=float))
    if not rule.is_numeric:
        raise ValueError(f"{rule.label} holds symbols; give them numbers with rule.at(...)")
    if rule.initial_memory(lam) is not None:
        raise ValueError(f"{rule.label} carries memory; write it with further iterates to get its recursion")
    if k is not None:
        return _unit_response(rule, lam, k)
    early, late = _unit_response(rule, lam, 7), _unit_response(rule, lam, 1000)
    if np.allclose(early, late, rtol=1e-14, atol=0):
        return late
    compiled = _limit_response(rule)
    return np.array([np.broadcast_to(np.asarray(c(lam), float), lam.shape) for c in compiled])


def _unit_response(rule: UpdateRule, lam: np.ndarray, k: int) -> np.ndarray:
    def step(iterates):
        return rule.step(k, tuple(iterates), None, lambda z: lam * z)[0]

    p = rule.history
    units = np.eye(p)[:, :, None] * np.ones_like(lam)
    response = np.array([step(unit) for unit in units])
    weights = np.arange(1.0, p + 1)
    mixed = step([w * np.ones_like(lam) for w in weights])
    # A few roundings of the largest coefficient separate a linear step from its own superposition.
    if not np.allclose(mixed, weights @ response, rtol=1e-9, atol=1e-9 * np.abs(response).max()):
        raise ValueError(f"the step of {rule.label} is not linear in its iterates, so it has no recursion")
    return response


@functools.lru_cache(maxsize=64)
def _limit_response(rule: UpdateRule) -> tuple[Callable, ...]:
    """Limits for k -> oo of the coefficients, compiled as functions of lam."""
    k, lam = sympy.symbols("k lam", positive=True)
    response = []
    for j in range(rule.history):
        unit = tuple(sympy.Integer(i == j) for i in range(rule.history))
        value = rule.exact().step(k, unit, None, lambda z: lam * z)[0]
        response.append(sympy.lambdify(lam, sympy.limit(value, k, sympy.oo), "numpy"))
    return tuple(response)


def spectral_radius(rule: UpdateRule, lam) -> np.ndarray:
    r"""Largest modulus of the roots of :math:`z^p=\sum_jc_j(\lambda)z^{p-1-j}`, for large k.

    Parameters
    ----------
    rule : UpdateRule
    lam : array_like, shape (n,)

    Returns
    -------
    numpy.ndarray, shape (n,)

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> spectral_radius(HeavyBall(lr=0.5, momentum=0.25), [1.0])  # complex roots: sqrt(momentum)
    array([0.5])
    """
    coefficients = recursion_coefficients(rule, lam)
    return np.abs(np.linalg.eigvals(companion(-coefficients[::-1]))).max(axis=1)


def discrete_rate(
    rule: UpdateRule, mu: float, L: float | None = None, *, time_step: float | None = None
) -> Rate:
    r"""Exact asymptotic rate of the discrete method when the eigenvalues fill [mu, L].

    Parameters
    ----------
    rule : UpdateRule
    mu, L : float
        Smallest and largest eigenvalue, 0 < mu <= L.
    time_step : float, optional
        Gives the rate per unit of time t = k * time_step instead of per iteration.

    Returns
    -------
    Rate
        Linear, :math:`-2\log\rho` with the spectral radius :math:`\rho` over [mu, L]; for vanishing
        friction the asymptotic factor, :math:`-\log(1-\eta\mu)` for Nesterov, beside which the loss
        has a factor :math:`k^{-r}`.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> print(discrete_rate(GradientDescent(lr=0.1), mu=1.0, L=4.0))
    exp(-0.211 k), exact (discrete iteration)
    """
    mu, L = _interval(mu, L)
    rho = _largest(lambda lam: spectral_radius(rule, lam), mu, L)
    rate = -2 * np.log(max(rho, np.finfo(float).tiny))
    unit = "iteration" if time_step is None else "time"
    return Rate(
        float(rate / (1 if time_step is None else time_step)),
        "linear",
        "exact",
        "discrete iteration",
        unit,
        note="spectral radius of the recursion for large k",
    )


def max_learning_rate(rule: UpdateRule, lam_max: float) -> float:
    r"""Stability limit of the discrete method: the largest lr stable for all eigenvalues up to lam_max.

    Parameters
    ----------
    rule : UpdateRule
        Its lr is immaterial; the other hyperparameters are kept.
    lam_max : float
        Largest eigenvalue of the kernel.

    Returns
    -------
    float
        :math:`2/\lambda_{\max}` for gradient descent, :math:`2(1+\beta)/\lambda_{\max}` for heavy ball,
        eventually :math:`\frac43/\lambda_{\max}` for Nesterov's r/t friction.

    Raises
    ------
    ValueError
        If lam_max is not positive, the rule is unstable for every lr, or its gradient is not scaled
        by lr.

    Notes
    -----
    The spectral radius is scanned upwards in :math:`\eta\lambda` and its crossing of 1 is bracketed:
    every scanned point below is stable, the point beyond is not.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> round(max_learning_rate(HeavyBall(lr=0.1, momentum=0.9), lam_max=2.0), 9)
    1.9
    """
    _, lam_max = _interval(lam_max, None)
    critical = _critical_curvature(rule)
    limit = float(rule.lr * critical / lam_max)
    probe = np.array([critical]), np.array([lam_max])
    here = recursion_coefficients(rule, probe[0])
    there = recursion_coefficients(rule.replace(lr=limit), probe[1])
    if not np.allclose(here, there, rtol=1e-9, atol=1e-9):
        raise ValueError(
            f"lr of {rule.label} does not multiply its gradient, so it has no stability limit in lr"
        )
    return limit


# Roundings of the companion eigenvalues near a double root are of order sqrt(eps); at the smallest
# scanned curvature the roots are 1e-2 apart, so their error stays below this margin.
_UNIT_CIRCLE = 1e-9


def _critical_curvature(rule: UpdateRule) -> float:
    """Smallest lam at which the rule, with its own lr, loses stability."""
    if not is_number(getattr(rule, "lr", None)):
        raise ValueError(f"{rule.label} has no numeric hyperparameter lr")
    grid = np.geomspace(1e-4, 1e4, 4001) / rule.lr
    excess = spectral_radius(rule, grid) - 1 - _UNIT_CIRCLE
    unstable = np.flatnonzero(excess > 0)
    if unstable.size == 0:
        raise ValueError(f"{rule.label} stays stable up to lr * lam = 1e4; it has no stability limit")
    first = int(unstable[0])
    if first == 0:
        raise ValueError(f"{rule.label} is unstable for every lr; lower its momentum")
    return scipy.optimize.brentq(
        lambda lam: float(spectral_radius(rule, [lam])[0]) - 1 - _UNIT_CIRCLE,
        grid[first - 1],
        grid[first],
        rtol=1e-14,
        xtol=1e-14 * grid[first],
    )
