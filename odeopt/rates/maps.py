r"""Rates over two parameters at once: of one mode of an ODE, and of the iteration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import sympy

from odeopt.checks import nonnegative_grid, real_array
from odeopt.dynamics.error import ErrorDynamics
from odeopt.rates.rate import rightmost
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import spectral_radius

__all__ = ["radius_map", "rate_map"]


def rate_map(
    dynamics: ErrorDynamics, symbol: sympy.Symbol, values: npt.ArrayLike, lam: npt.ArrayLike
) -> np.ndarray:
    r"""Compute the exact rate of one mode of the ODE over a parameter and the eigenvalue.

    Twice the distance of the rightmost characteristic root from the imaginary axis, as in
    :func:`odeopt.exact_rate`, but for all pairs at once.

    Parameters
    ----------
    dynamics : ErrorDynamics
        With constant coefficients in `symbol` and the eigenvalue.
    symbol : sympy.Symbol
        The parameter.
    values : array_like, shape (p,)
        Its values.
    lam : array_like, shape (n,)
        Eigenvalues.

    Returns
    -------
    numpy.ndarray, shape (n, p)
        Entries c in L ~ exp(-c t), a row for each eigenvalue; negative where the mode grows.

    Raises
    ------
    ValueError
        If the coefficients depend on time or on other symbols.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import HeavyBall, error_dynamics, ode_limit
    >>> h, b = sympy.symbols("h b", positive=True)
    >>> dynamics = error_dynamics(ode_limit(HeavyBall(lr=h**2, momentum=1 - b * h), h))
    >>> rate_map(dynamics, b, [1.0, 2.5], [1.0, 4.0])  # b - Re sqrt(b^2 - 4 lam)
    array([[1. , 1. ],
           [1. , 2.5]])
    """
    a = dynamics.coefficients
    other = set().union(*(c.free_symbols for c in a)) - {symbol, dynamics.lam}
    if other:
        raise ValueError(
            f"the coefficients of {dynamics} hold {', '.join(sorted(map(str, other)))} beside {symbol}; "
            "give symbols numbers with dynamics.subs(...), and for friction that depends on time use fit_rate"
        )
    lam = nonnegative_grid(lam, "lam")
    x, y = np.meshgrid(real_array(values, "values", ndim=1), lam)
    ratios = [sympy.lambdify((symbol, dynamics.lam), sympy.cancel(c / a[-1]), "numpy") for c in a[:-1]]
    monic = np.array([np.broadcast_to(np.asarray(c(x, y), dtype=float), x.shape).ravel() for c in ratios])
    return -2 * rightmost(monic).reshape(x.shape)


def radius_map(rules: Sequence[UpdateRule | None], lam: npt.ArrayLike) -> np.ndarray:
    r"""Compute the spectral radius of the iteration over rules and eigenvalues.

    Parameters
    ----------
    rules : sequence of UpdateRule or None, length p
        None for hyperparameters that the rule refuses.
    lam : array_like, shape (n,)
        Eigenvalues; with lr = 1 the products lr * lam.

    Returns
    -------
    numpy.ndarray, shape (p, n)
        A row for each rule; nan where there is none.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> radius_map([HeavyBall(1, 0.25), None], [1.0, 2.5])  # sqrt(0.25), and the limit 2 (1 + 0.25)
    array([[0.5, 1. ],
           [nan, nan]])
    """
    lam = nonnegative_grid(lam, "lam")
    refused = np.full(lam.size, np.nan)
    return np.array([refused if rule is None else spectral_radius(rule, lam) for rule in rules])
