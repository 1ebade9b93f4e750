r"""The discrete iteration on quadratics: its linear step as a matrix, its exact rate, its stability.

A rule that is linear in its iterates and in its memory maps, for each eigenvalue :math:`\lambda`, the
state :math:`(x_k,\dots,x_{k-p+1},m_1,\dots,m_q)` to the next one by a matrix. The matrix is read off by
running the rule's own step on unit states with the gradient :math:`\lambda z`.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from odeopt.checks import is_number, spectral_interval
from odeopt.rates.rate import Rate, largest_over
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import spectral_radius, transition_matrix

__all__ = ["crossover_step", "discrete_rate", "max_learning_rate"]


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
    mu, L = spectral_interval(mu, L)
    rho = largest_over(lambda lam: spectral_radius(rule, lam), mu, L)
    rate = -2 * np.log(max(rho, np.finfo(float).tiny))
    unit = "iteration" if time_step is None else "time"
    return Rate(
        float(rate / (1 if time_step is None else time_step)),
        "linear",
        "exact",
        "discrete iteration",
        unit,
        note="spectral radius of the step for large k",
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
        eventually :math:`\frac43/\lambda_{\max}` for Nesterov's r/t friction,
        :math:`\frac{2(1+\beta)}{1+\beta-2\nu\beta}/\lambda_{\max}` for quasi-hyperbolic momentum.

    Raises
    ------
    ValueError
        If lam_max is not positive, the rule is not linear, it is unstable for every lr, or its
        gradient is not scaled by lr.

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
    _, lam_max = spectral_interval(lam_max, None)
    critical = _critical_curvature(rule)
    limit = float(rule.lr * critical / lam_max)
    # Of the matrix only the spectrum is a function of lr * lam: a memory may be in units of gradients.
    here = np.poly(transition_matrix(rule, critical)[0])
    there = np.poly(transition_matrix(rule.replace(lr=limit), lam_max)[0])
    if not np.allclose(here, there, rtol=1e-9, atol=1e-9):
        raise ValueError(
            f"lr of {rule.label} does not multiply its gradient, so it has no stability limit in lr"
        )
    return limit


# Roundings of the eigenvalues near a double root are of order sqrt(eps); at the smallest
# scanned curvature the roots are 1e-2 apart, so their error stays below this margin.
_UNIT_CIRCLE = 1e-9


def _critical_curvature(rule: UpdateRule) -> float:
    """Smallest lam at which the rule, with its own lr, loses stability."""
    if not is_number(getattr(rule, "lr", None)):
        raise ValueError(f"{rule.label} has no numeric hyperparameter lr")
    # Higher momenta near 1 lose stability at lr * lam ~ h^3; the lower scan is for those that need it.
    for low in (1e-4, 1e-7):
        grid = np.geomspace(low, 1e4, 4001) / rule.lr
        excess = spectral_radius(rule, grid) - 1 - _UNIT_CIRCLE
        unstable = np.flatnonzero(excess > 0)
        if unstable.size == 0 or unstable[0] > 0:
            break
    if unstable.size == 0:
        raise ValueError(f"{rule.label} stays stable up to lr * lam = 1e4; it has no stability limit")
    first = int(unstable[0])
    if first == 0:
        raise ValueError(
            f"{rule.label} is unstable for every lr (down to lr * lam = 1e-7); lower its momentum"
        )
    return scipy.optimize.brentq(
        lambda lam: float(spectral_radius(rule, [lam])[0]) - 1 - _UNIT_CIRCLE,
        grid[first - 1],
        grid[first],
        rtol=1e-14,
        xtol=1e-14 * grid[first],
    )


def crossover_step(rule: UpdateRule, mu: float) -> float:
    r"""Step beyond which the ODE of a rule with vanishing friction no longer tells its rate.

    The limiting ODE decays like a power, but the loss of the iteration carries in addition a linear
    factor, :math:`k^{-r}(1-\eta\mu)^k` for Nesterov's method: the Casoratian of its recursion is
    :math:`\prod_k\beta_k(1-\eta\mu)`. At the step returned that factor is 1/e.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.
    mu : float
        Smallest eigenvalue of the kernel, whose mode decays last.

    Returns
    -------
    float
        :math:`-1/\log(1-\eta\mu)\approx1/(\eta\mu)` for Nesterov's method.

    Raises
    ------
    ValueError
        If the friction of the rule does not vanish, so that the ODE itself is linear.

    Examples
    --------
    >>> from odeopt import Nesterov
    >>> round(crossover_step(Nesterov(lr=0.1, r=3), mu=0.05), 2)
    199.5
    """
    early, late = (transition_matrix(rule, [mu], k) for k in (7, 1000))
    if np.allclose(early, late, rtol=1e-12, atol=0):
        raise ValueError(f"the friction of {rule.label} does not vanish, so its ODE decays linearly as well")
    return 1.0 / discrete_rate(rule, mu).value
