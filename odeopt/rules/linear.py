r"""What a linear rule is on eigenvalues: its step as a matrix, its residual polynomials, its spectral radius.

A rule that is linear in its iterates and in its memory maps, for each eigenvalue :math:`\lambda`, the
state :math:`(x_k,\dots,x_{k-p+1},m_1,\dots,m_q)` to the next one by a matrix. The matrix is read off by
running the rule's own step on unit states with the gradient :math:`\lambda z`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np
import sympy

from odeopt.checks import iteration_grid
from odeopt.rules.base import UpdateRule, iterate

__all__ = ["recursion_coefficients", "residual_polynomials", "spectral_radius", "transition_matrix"]


def _degrees(rule: UpdateRule, k: np.ndarray) -> np.ndarray:
    """Degrees of the residual polynomials: the gradients taken so far, as each multiplies by lam."""
    calls = 0

    def grad(z):
        nonlocal calls
        calls += 1
        return 0 * z

    # Linear rules stay finite at a zero gradient; the others are refused with the polynomials.
    with np.errstate(all="ignore"):
        run = itertools.islice(iterate(rule, np.ones(1), grad), int(k.max()) + 1)
        counts = [calls for _ in run]
    return np.array(counts)[k]


def _descent_speed(rule: UpdateRule, scale: float) -> float | None:
    """Return c if the residual polynomials are those of gradient descent, (1 - c lam)^k."""
    if (
        rule.history != 1
        or rule.initial_memory(np.ones(1))
        or scale <= 0
        or _degrees(rule, np.array([1])) != 1
    ):
        return None
    first, second, later = residual_polynomials(rule, np.array([0.5, 1.0]) * scale, [1, 2, 3])
    c = float(1 - first[1]) / scale
    # equal up to the rounding of three steps
    same = np.allclose([second, later], [first**2, first**3], rtol=1e-12, atol=1e-12)
    straight = abs(first[0] - (1 - 0.5 * c * scale)) <= 1e-12 * (1 + abs(c * scale))
    return c if c > 0 and same and straight else None


def residual_polynomials(rule: UpdateRule, lam, k) -> np.ndarray:
    r"""Evaluate :math:`P_k(\lambda)` by running the rule's own step on the eigenvalues.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.
    lam : array_like, shape (n,)
        Eigenvalues.
    k : array_like of int, shape (T,)
        Iterations, in any order.

    Returns
    -------
    numpy.ndarray, shape (T, n)
        inf or nan where an unstable iteration has overflowed.

    Raises
    ------
    ValueError
        If the rule holds symbols, or its iterates are not proportional to :math:`x_0`.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> residual_polynomials(GradientDescent(lr=0.5), [1.0, 4.0], [0, 1, 2])
    array([[ 1.  ,  1.  ],
           [ 0.5 , -1.  ],
           [ 0.25,  1.  ]])
    """
    if not rule.is_numeric:
        raise ValueError(f"{rule.label} holds symbols; give them numbers with rule.at(...)")
    lam = np.atleast_1d(np.asarray(lam, dtype=float))
    k = iteration_grid(k, "k")
    wanted = np.unique(k)
    kept = np.empty((wanted.size, lam.size))
    position = 0
    run = itertools.islice(iterate(rule, np.ones_like(lam), lambda z: lam * z), int(wanted[-1]) + 1)
    _require_linear(rule, lam)
    with np.errstate(over="ignore", invalid="ignore"):
        for step, z in enumerate(run):
            if step == wanted[position]:
                kept[position] = z
                position += 1
    return kept[np.searchsorted(wanted, k)]


def _require_linear(rule: UpdateRule, lam: np.ndarray) -> None:
    """Raise ValueError unless the first iterates are proportional to the first of all."""

    def run(size):
        steps = iterate(rule, np.full_like(lam, size), lambda z: lam * z)
        return np.array(list(itertools.islice(steps, 4))) / size

    # Negative, tiny and huge starts tell a sign, an eps and a threshold from a linear step. Where the
    # iteration overflows at once there is nothing to compare.
    with np.errstate(all="ignore"):
        unit = run(1.0)
        for size in (-1.0, 1e-6, 1e6):
            # a few roundings of the largest of four iterates
            if (np.abs(run(size) - unit) > 1e-9 * np.abs(unit).max(axis=0)).any():
                raise ValueError(
                    f"{rule.label} is not linear: on a quadratic its iterates are not proportional to the "
                    "first one, so there are no residual polynomials; run it with iterate or nets.train"
                )


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
