r"""The discrete iteration on quadratics: its linear step as a matrix, its exact rate, its stability.

A rule that is linear in its iterates and in its memory maps, for each eigenvalue :math:`\lambda`, the
state :math:`(x_k,\dots,x_{k-p+1},m_1,\dots,m_q)` to the next one by a matrix. The matrix is read off by
running the rule's own step on unit states with the gradient :math:`\lambda z`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import scipy.optimize
import sympy

from odeopt.rates import Rate, largest_over, spectral_interval
from odeopt.rule import UpdateRule, is_number

__all__ = [
    "crossover_step",
    "discrete_rate",
    "max_learning_rate",
    "recursion_coefficients",
    "spectral_radius",
    "transition_matrix",
]

# Sizes at which a step is compared with its own superposition: a step that is linear at one size only
# (a sign, a threshold, a small eps) is told by the others.
_SIZES = (1e-6, 1.0, 1e6)


def transition_matrix(rule: UpdateRule, lam, k: int | None = None) -> np.ndarray:
    r"""Matrix of one step on the quadratic :math:`\frac12\lambda z^2`.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters; linear in its iterates and in its memory.
    lam : array_like, shape (n,)
    k : int, optional
        Iteration; without it the limit of large k.

    Returns
    -------
    numpy.ndarray, shape (n, d, d)
        Acts on the state :math:`(x_k,\dots,x_{k-p+1},m_1,\dots,m_q)`, d = p + q, with the p iterates
        of the history and the q entries of the memory. Without memory it is the companion matrix.

    Raises
    ------
    ValueError
        If the rule holds symbols, or its step is not linear.

    Examples
    --------
    >>> from odeopt import HeavyBall, TorchSGD
    >>> transition_matrix(HeavyBall(lr=0.5, momentum=0.25), [1.0])
    array([[[ 0.75, -0.25],
            [ 1.  ,  0.  ]]])
    >>> transition_matrix(TorchSGD(lr=0.5, momentum=0.25), [1.0])
    array([[[ 0.5  , -0.125],
            [ 1.   ,  0.25 ]]])
    """
    lam = np.atleast_1d(np.asarray(lam, dtype=float))
    if not rule.is_numeric:
        raise ValueError(f"{rule.label} holds symbols; give them numbers with rule.at(...)")
    if k is not None:
        return _unit_response(rule, lam, k)
    early, late = _unit_response(rule, lam, 7), _unit_response(rule, lam, 1000)
    if np.allclose(early, late, rtol=1e-14, atol=0):
        return late
    matrix = np.empty_like(late)
    for (row, column), entry in _limit_response(rule).items():
        matrix[:, row, column] = entry(lam)
    return matrix


def _unit_response(rule: UpdateRule, lam: np.ndarray, k: int) -> np.ndarray:
    """Columns of the transition matrix at iteration k, once its step is known to be linear."""
    p = rule.history
    empty = rule.initial_memory(lam)
    d = p + _memory_size(rule, empty)

    def step(state):
        iterates, memory = tuple(state[:p]), tuple(state[p:]) if d > p else empty
        x_next, memory = rule.step(k, iterates, memory, lambda z: lam * z)
        following = (x_next, *iterates[:-1], *(memory if d > p else ()))
        return np.array([np.broadcast_to(np.asarray(entry, float), lam.shape) for entry in following])

    weights = (-1.0) ** np.arange(d) * (1.5 + np.arange(d))
    # What overflows or divides by zero here is no linear step, and is refused as such.
    with np.errstate(all="ignore"):
        columns = np.array([step(unit) for unit in np.eye(d)[:, :, None] * np.ones_like(lam)])
        expected = np.tensordot(weights, columns, axes=1)
        largest = np.maximum(np.abs(columns).max(axis=(0, 1)), 1.0)  # 1, the size of the states
        for size in _SIZES:
            mixed = step(size * weights[:, None] * np.ones_like(lam)) / size
            # A few roundings of the largest entry separate a linear step from its own superposition.
            if not (np.isfinite(largest) & (np.abs(mixed - expected) <= 1e-9 * largest)).all():
                raise ValueError(
                    f"the step of {rule.label} is not linear in its iterates and memory, "
                    "so it is no recursion on a quadratic"
                )
    return columns.transpose(2, 1, 0)


def _memory_size(rule: UpdateRule, memory) -> int:
    if memory is None:
        return 0
    if not isinstance(memory, tuple):
        raise ValueError(
            f"initial_memory of {rule.label} must return a tuple with one entry for each running average, "
            f"or None, got {type(memory).__name__}"
        )
    return len(memory)


@functools.lru_cache(maxsize=64)
def _limit_response(rule: UpdateRule) -> dict[tuple[int, int], Callable]:
    """Limits for k -> oo of the entries of the matrix, compiled as functions of lam."""
    k, lam = sympy.symbols("k lam", positive=True)
    p, empty = rule.history, rule.initial_memory(sympy.Integer(0))
    d = p + _memory_size(rule, empty)
    response = {}
    for column in range(d):
        unit = tuple(sympy.Integer(row == column) for row in range(d))
        memory = unit[p:] if d > p else empty
        x_next, memory = rule.exact().step(k, unit[:p], memory, lambda z: lam * z)
        for row, value in enumerate((x_next, *unit[: p - 1], *(memory if d > p else ()))):
            response[row, column] = sympy.lambdify(lam, sympy.limit(value, k, sympy.oo), "numpy")
    return response


def recursion_coefficients(rule: UpdateRule, lam, k: int | None = None) -> np.ndarray:
    r"""Coefficients of the linear recursion that a rule without memory performs on a quadratic.

    .. math:: z_{k+1}=\sum_jc_j(\lambda)\,z_{k-j}

    They are the first row of :func:`transition_matrix`.

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
    if rule.initial_memory(np.zeros(1)):
        raise ValueError(f"{rule.label} carries memory beside its iterates; use transition_matrix")
    return transition_matrix(rule, lam, k)[:, 0, :].T


def spectral_radius(rule: UpdateRule, lam) -> np.ndarray:
    r"""Largest modulus of the eigenvalues of :func:`transition_matrix`, for large k.

    Parameters
    ----------
    rule : UpdateRule
    lam : array_like, shape (n,)

    Returns
    -------
    numpy.ndarray, shape (n,)

    Notes
    -----
    It is that of the whole state. Without memory these are the roots of
    :math:`z^p=\sum_jc_j(\lambda)z^{p-1-j}`. A memory that the iterates do not read (``nu=0`` of
    :class:`odeopt.QHM`) counts too, although no loss shows it.

    Examples
    --------
    >>> from odeopt import HeavyBall, QHM
    >>> spectral_radius(HeavyBall(lr=0.5, momentum=0.25), [1.0])  # complex roots: sqrt(momentum)
    array([0.5])
    >>> spectral_radius(QHM(lr=0.5 / 0.75, momentum=0.25, nu=1.0), [1.0])  # the same heavy ball
    array([0.5])
    """
    return np.abs(np.linalg.eigvals(transition_matrix(rule, lam))).max(axis=1)


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
