r"""What a linear rule is on eigenvalues: its step as a matrix, its residual polynomials, its spectral radius.

The forms of a step (:mod:`odeopt.rules.reading`) give, on the quadratic :math:`\tfrac12\lambda z^2`,

.. math:: T(\lambda)=M+\lambda N(I-\lambda B)^{-1}A

for the state :math:`(x_k,\dots,x_{k-q+1},m_1,\dots,m_p)`, exactly; B is strictly lower triangular.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy

from odeopt.checks import is_symbolic, iteration_grid, real_array, require_integer
from odeopt.rules.base import UpdateRule, iterate
from odeopt.rules.forms import CONSTANT
from odeopt.rules.matrices import Matrix
from odeopt.rules.reading import Reading, StepMatrices, read, require_linear
from odeopt.rules.shifted import first_pull, states_of_origin

__all__ = [
    "error_polynomials", "recursion_coefficients", "residual_polynomials", "spectral_radius",
    "transition_matrix",
]  # fmt: skip


def residual_polynomials(rule: UpdateRule, lam: npt.ArrayLike, k: npt.ArrayLike) -> npt.NDArray[np.float64]:
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
        One row an iteration; inf or nan where an unstable iteration has overflowed.

    Raises
    ------
    ValueError
        If the rule holds symbols, its step is not linear, or it is no step in the error alone: weights of the
        iterates that do not sum to 1, as with weight decay.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> residual_polynomials(GradientDescent(lr=0.5), [1.0, 4.0], [0, 1, 2])
    array([[ 1.  ,  1.  ],
           [ 0.5 , -1.  ],
           [ 0.25,  1.  ]])
    """
    lam, k = eigenvalues_of(rule, lam), iteration_grid(k, "k")
    require_linear(rule, "residual polynomials", equivariant=True, k=k)
    return kept(iterate(rule, np.ones_like(lam), lambda z: lam * z), k, lam.shape)


def kept(run: Iterator[np.ndarray], k: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The iterates k of a run, each of a shape."""
    wanted = np.unique(k)
    found = np.empty((wanted.size, *shape))
    position = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for step, z in enumerate(itertools.islice(run, int(wanted[-1]) + 1)):
            if step == wanted[position]:
                found[position] = z
                position += 1
    return found[np.searchsorted(wanted, k)]


def error_polynomials(
    rule: UpdateRule, lam: npt.ArrayLike, k: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    r"""Evaluate both polynomials of the error of any linear rule, with weight decay too.

    In a linear model :math:`u=u_0+J(w-w_0)`, with :math:`q=\Delta_0-Jw_0`, the error after k steps is

    .. math:: \Delta_k=\varphi_k(H)\Delta_0+\chi_k(H)q .

    The step acts on :math:`v=Jw` with the gradient :math:`H(v+q)`: :math:`\varphi_k` is its run from 1 with
    the gradient :math:`\lambda z`, and :math:`\chi_k` the error of the run from -1 with
    :math:`\lambda(z+1)`.

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
    phi : numpy.ndarray, shape (T, n)
        What is left of the first error; for a step in the error alone the residual polynomials.
    chi : numpy.ndarray, shape (T, n)
        What the decay adds of q; 0 for a step in the error alone.

    Raises
    ------
    ValueError
        If the rule holds symbols, its step is not linear, or a memory starts from a constant.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> phi, chi = error_polynomials(GradientDescent(lr=0.5, weight_decay=0.5), [1.0], [0, 1, 2])
    >>> phi[:, 0], chi[:, 0]  # 0.25^k, and a third of what is left
    (array([1.    , 0.25  , 0.0625]), array([0.    , 0.25  , 0.3125]))
    """
    lam, k = eigenvalues_of(rule, lam), iteration_grid(k, "k")
    phi = kept(iterate(rule, np.ones_like(lam), lambda z: lam * z), k, lam.shape)
    if not pulls(rule, k):
        return phi, np.zeros_like(phi)
    run = states_of_origin(rule, np.zeros_like(lam), lambda s: lam * s)
    return phi, kept((x for x, _ in run), k, lam.shape)


def error_row(rule: UpdateRule, k: npt.ArrayLike) -> str:
    """The row of the step up to k that is none in the error alone, "" if none; ValueError if it has no error.

    No error is what a memory leaves that starts from a constant: J has no image of it.
    """
    reading = require_linear(rule, "residual polynomials", k=k)
    if any(form.coefficient(CONSTANT) != 0 for form in reading.start):
        require_linear(rule, "residual polynomials", equivariant=True, k=k)
    return reading.row_by(int(np.max(k)))


def pulls(rule: UpdateRule, k: npt.ArrayLike) -> bool:
    """Whether a step up to k acts on more than the error, however little, be it what rounding explains."""
    reading, last = read(rule), int(np.max(k))
    if error_row(rule, k):
        return True
    if reading.laws and not rule.is_scheduled:  # the same step for ever, but for a memory that counts k
        last = min(last, reading.law_from + 2 * reading.period)
    return first_pull(rule, last, 0.0) is not None


def transition_matrix(rule: UpdateRule, lam: npt.ArrayLike, k: int | None = None) -> npt.NDArray[np.float64]:
    r"""Matrix of one step on the quadratic :math:`\frac12\lambda z^2`.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters; linear in its iterates and in its memory.
    lam : array_like, shape (n,)
        Eigenvalues.
    k : int, optional
        Iteration; without it the limit of large k, and for a rule with a period p the product of the p steps
        of one period, from a multiple of p on.

    Returns
    -------
    numpy.ndarray, shape (n, d, d)
        Acts on the state :math:`(x_k,\dots,x_{k-q+1},m_1,\dots,m_p)`, d = q + p, with the q iterates
        of the history and the p entries of the memory. Without memory it is the companion matrix.

    Raises
    ------
    ValueError
        If the rule holds symbols, its step is not linear, or without k its matrix has no limit.

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
    lam = eigenvalues_of(rule, lam)
    if k is not None:
        return _on_eigenvalues(step_matrices(rule, require_integer("k", k, 0)), lam)
    return _of_period(limit_matrices(rule), lam)


def _of_period(laws: tuple[StepMatrices, ...], lam: np.ndarray) -> np.ndarray:
    first, *later = (_on_eigenvalues(law, lam) for law in laws)
    return functools.reduce(lambda product, step: step @ product, later, first)


def eigenvalues_of(rule: UpdateRule, lam: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The eigenvalues as a vector, once the rule is known to be numeric."""
    require_numeric(rule)
    return real_array(np.atleast_1d(np.asarray(lam)), "lam", ndim=1)


def require_numeric(rule: Any) -> None:
    """Refuse what is no rule, and a rule that holds symbols."""
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    if not rule.is_numeric:
        raise ValueError(f"{rule.label} holds symbols; give them numbers with rule.at(...)")


def step_matrices(rule: UpdateRule, k: int) -> StepMatrices:
    """Exact matrices of the step at iteration k; ValueError if it is not linear."""
    return require_linear(rule, "transition matrix").matrices(k)


@functools.lru_cache(maxsize=256)
def limit_matrices(rule: UpdateRule) -> tuple[StepMatrices, ...]:
    """Exact matrices for k to infinity, one for each step of a period; ValueError where there is no limit."""
    reading = require_linear(rule, "transition matrix", forever=True)
    if not reading.varies:
        return reading.laws
    return tuple(law.map(lambda entry: _limit(rule, reading, entry)) for law in reading.laws)


def still_memories(rule: UpdateRule) -> list[int]:
    """Places in the state of memories that no step changes, the anchors of a decay to the start."""
    reading = require_linear(rule, "transition matrix", forever=True)
    d = len(reading.law().M)
    rows = {i: tuple(int(i == j) for j in range(d)) for i in range(rule.history, d)}
    return [i for i, row in rows.items() if all(s.M[i] == row and not any(s.N[i]) for s in reading.steps)]


def moving_matrices(rule: UpdateRule) -> tuple[StepMatrices, ...]:
    """Those for k to infinity without memories that no step changes."""
    still, laws = still_memories(rule), limit_matrices(rule)  # the first names what is no rule
    kept = [i for i in range(len(laws[0].M)) if i not in still]

    def columns(rows: Matrix) -> Matrix:
        return tuple(tuple(row[j] for j in kept) for row in rows)

    def moving(law: StepMatrices) -> StepMatrices:
        M, N = (tuple(matrix[i] for i in kept) for matrix in (law.M, law.N))
        return StepMatrices(columns(M), N, columns(law.A), law.B)

    return tuple(map(moving, laws)) if still else laws


def _limit(rule: UpdateRule, reading: Reading, entry: Any) -> Any:
    """Limit of one coefficient of the step."""
    if not (is_symbolic(entry) and entry.has(reading.k)):
        return entry
    try:
        limit = sympy.limit(entry, reading.k, sympy.oo)
    except NotImplementedError:
        limit = sympy.nan
    if not limit.is_finite or limit.has(sympy.Limit, sympy.AccumBounds, sympy.I):
        raise ValueError(
            f"the step of {rule.label} has no limit for large k: its coefficient {entry} {_tends(limit)}; "
            "transition_matrix(rule, lam, k) gives its matrix at one iteration k"
        )
    return Fraction(int(limit.p), int(limit.q)) if limit.is_Rational else limit


def _tends(limit: Any) -> str:
    swings = isinstance(limit, sympy.AccumBounds)
    return f"swings between {limit.min} and {limit.max}" if swings else f"tends to {limit}"


def _on_eigenvalues(step: StepMatrices, lam: np.ndarray) -> np.ndarray:
    """T(lam), the gradients taken one after the other as lam times their points."""
    M, N, A, B = step.floats()
    if len(A) == 1:
        return M + lam[:, None, None] * (N @ A)
    gradients = np.zeros((lam.size, len(A), M.shape[0]))
    for point in range(len(A)):
        earlier = np.einsum("l,nld->nd", B[point, :point], gradients[:, :point])
        gradients[:, point] = lam[:, None] * (A[point] + earlier)
    return M + N @ gradients


def degrees(rule: UpdateRule, k: np.ndarray) -> np.ndarray:
    """Degrees of the residual polynomials at most: each step adds its longest chain of nested gradients."""
    reading, last = require_linear(rule, "residual polynomials", k=k), int(np.max(k))
    law_from = last if reading.law_refusal is not None else min(last, reading.law_from)
    early = [reading.matrices(j).degree for j in range(law_from)]
    late = [reading.law(j).degree for j in range(law_from, min(last, law_from + reading.period))]
    periods = -(-(last - law_from) // len(late)) if late else 0
    return np.concatenate([[0], np.cumsum((early + late * periods)[:last])]).astype(int)[k]


def descent_speed(rule: UpdateRule) -> float | None:
    """Return c if the residual polynomials are those of gradient descent, (1 - c lam)^k."""
    reading = require_linear(rule, "residual polynomials", equivariant=True)
    if reading.steady_from != 0 or reading.period != 1:
        return None
    step = reading.law()
    if step.M != ((1,),) or step.A != ((1,),) or not step.N[0][0] < 0:
        return None
    return float(-step.N[0][0])


def recursion_coefficients(
    rule: UpdateRule, lam: npt.ArrayLike, k: int | None = None
) -> npt.NDArray[np.float64]:
    r"""Coefficients of :math:`z_{k+1}=\sum_jc_j(\lambda)z_{k-j}`: the first row of :func:`transition_matrix`.

    Refuses a rule with memory or with a period. Shape (history, n).
    """
    reading = require_linear(rule, "recursion")
    if reading.start:
        raise ValueError(f"{rule.label} carries memory beside its iterates; use transition_matrix")
    if reading.period > 1 and k is None:
        raise ValueError(f"{rule.label} has one recursion for each step of its period; pass an iteration k")
    return transition_matrix(rule, lam, k)[:, 0, :].T


def spectral_radius(rule: UpdateRule, lam: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""Largest modulus of the eigenvalues of :func:`transition_matrix`, for large k, per step.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters; linear in its iterates and in its memory.
    lam : array_like, shape (n,)
        Eigenvalues.

    Returns
    -------
    numpy.ndarray, shape (n,)
        For a rule with a period p the p-th root of that of one period.

    Notes
    -----
    It is that of the whole state, but for a memory that no step changes, the anchor of a decay to the start:
    with weight decay it is the rate at which the fixed point is approached. Without memory these are the
    roots of :math:`z^p=\sum_jc_j(\lambda)z^{p-1-j}`. A memory that the iterates do not read (``nu=0`` of
    :class:`odeopt.QHM`) counts too, although no loss shows it.

    Examples
    --------
    >>> from odeopt import HeavyBall, QHM
    >>> spectral_radius(HeavyBall(lr=0.5, momentum=0.25), [1.0])  # complex roots: sqrt(momentum)
    array([0.5])
    >>> spectral_radius(QHM(lr=0.5 / 0.75, momentum=0.25, nu=1.0), [1.0])  # the same heavy ball
    array([0.5])
    """
    matrix = _of_period(moving_matrices(rule), eigenvalues_of(rule, lam))
    radius = np.abs(np.linalg.eigvals(matrix)).max(axis=1)
    period = rule.period
    return radius if period == 1 else radius ** (1 / int(period))
