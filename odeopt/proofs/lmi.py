r"""Small linear matrix inequalities, :math:`F(u)=F_0+\sum_iu_iF_i\succeq0`, by a barrier method.

Nothing that is found here is a proof: a point is rounded and verified exactly afterwards. What counts is
speed, and that the three answers are kept apart: a strictly feasible point, a bound that excludes one,
or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "FEASIBLE", "INFEASIBLE", "SOLVERS", "UNSOLVED", "Answer", "feasibility", "feasibility_by_clarabel",
]  # fmt: skip

FEASIBLE, INFEASIBLE, UNSOLVED = "feasible", "infeasible", "unsolved"

# Unknowns are kept within this box, in units in which the problem is scaled to 1.
_BOX = 1e4
# Margins of this relative size are above the rounding of the eigenvalues of an 8 x 8 matrix.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class Answer:
    """What is known of an LMI."""

    status: str
    point: np.ndarray | None = None
    margin: float = float("nan")
    message: str = ""


def feasibility(
    F0: np.ndarray, F: np.ndarray, start: np.ndarray | None = None, *, centre: bool = False
) -> Answer:
    r"""Look for a strictly feasible point of :math:`F_0+\sum_iu_iF_i\succ0`.

    The margin t in :math:`F(u)\succeq tI`, :math:`t\le1`, is raised along the central path. It stops with
    a point as soon as the margin is positive, and with "infeasible" as soon as the duality gap of the
    path excludes a nonnegative margin.
    """
    F0, F = np.asarray(F0, float), np.asarray(F, float)
    k, n = F.shape[0], F0.shape[0]
    u = np.zeros(k) if start is None else np.clip(np.asarray(start, float), -0.9 * _BOX, 0.9 * _BOX)
    # with the margin as last unknown, and 1 - t as one more diagonal entry
    A0 = np.zeros((n + 1, n + 1))
    A0[:n, :n], A0[n, n] = F0, 1.0
    A = np.zeros((k + 1, n + 1, n + 1))
    A[:k, :n, :n] = F
    A[k] = -np.eye(n + 1)
    smallest = np.linalg.eigvalsh(F0 + np.tensordot(u, F, 1))[0]
    w = np.append(u, min(smallest - max(0.1, abs(smallest)), 0.5))
    tau, gap = 1.0, n + 1 + k
    for _ in range(60):
        w, centred = _centre(A0, A, w, tau)
        margin = float(np.linalg.eigvalsh(F0 + np.tensordot(w[:k], F, 1))[0])
        size = max(1.0, float(np.abs(F0).max()))
        if margin > _ROUNDING * size and not centre:
            return Answer(FEASIBLE, w[:k], margin)
        if centred and w[k] + 1.5 * gap / tau < 0:
            return Answer(INFEASIBLE, margin=float(w[k] + gap / tau))
        if gap / tau < 1e-15 or not centred or (centre and gap / tau < 1e-2 * max(margin, 1e-14)):
            break
        tau *= 8.0
    if margin > _ROUNDING * size:
        return Answer(FEASIBLE, w[:k], margin)
    return Answer(UNSOLVED, None, margin, f"margin {margin:.1e} not told from zero at gap {gap / tau:.1e}")


def _centre(A0, A, w, tau) -> tuple[np.ndarray, bool]:
    """Maximise tau t + log det(A(w)) + log(box) by Newton steps, written as least squares."""
    k = A.shape[0] - 1
    for _ in range(200):
        M = A0 + np.tensordot(w, A, 1)
        try:
            inverse = np.linalg.inv(np.linalg.cholesky(M))
        except np.linalg.LinAlgError:
            return w, False
        W = inverse @ A @ inverse.T
        slack_low, slack_high = w[:k] + _BOX, _BOX - w[:k]
        gradient = np.einsum("kii->k", W)
        gradient[:k] += 1 / slack_low - 1 / slack_high
        gradient[k] += tau
        rows = W.reshape(k + 1, -1).T
        box = np.zeros((2 * k, k + 1))
        box[np.arange(k), np.arange(k)] = 1 / slack_low
        box[k + np.arange(k), np.arange(k)] = 1 / slack_high
        # the Hessian is R'R: its factor is taken from the rows themselves, at half the loss of digits
        R = np.asarray(np.linalg.qr(np.vstack([rows, box]), mode="r"))
        scale = np.abs(np.diag(R))
        if scale.min() <= 1e-300:
            return w, False
        half = np.linalg.solve(R.T, gradient)
        step, decrement = np.linalg.solve(R, half), float(half @ half)
        if not np.isfinite(decrement):
            return w, False
        w = w + step / (1 + np.sqrt(decrement)) if decrement > 0.06 else w + step
        if decrement < 1e-3:
            return w, True
    return w, False


def feasibility_by_clarabel(
    F0: np.ndarray, F: np.ndarray, start: np.ndarray | None = None, *, centre: bool = False
) -> Answer:
    """The same question, answered by Clarabel through cvxpy: a second opinion."""
    del start, centre
    try:
        import cvxpy
        import cvxpy.error
    except ImportError as error:
        raise ImportError(
            "solver='clarabel' needs cvxpy and clarabel: pip install odeopt[certify]"
        ) from error
    F0, F = np.asarray(F0, float), np.asarray(F, float)
    k, n = F.shape[0], F0.shape[0]
    u: Any = cvxpy.Variable(k)
    t: Any = cvxpy.Variable()
    matrix = F0 + sum(u[i] * F[i] for i in range(k))
    problem = cvxpy.Problem(
        cvxpy.Maximize(t), [(matrix + matrix.T) / 2 >> t * np.eye(n), t <= 1, cvxpy.abs(u) <= _BOX]
    )
    try:
        problem.solve(solver=cvxpy.CLARABEL)
    except cvxpy.error.SolverError as error:
        return Answer(UNSOLVED, message=f"Clarabel: {error}")
    if problem.status != cvxpy.OPTIMAL:
        return Answer(UNSOLVED, message=f"Clarabel: {problem.status}")
    margin = float(np.linalg.eigvalsh(F0 + np.tensordot(u.value, F, 1))[0])
    if margin > _ROUNDING:
        return Answer(FEASIBLE, u.value, margin)
    if t.value < -1e-7:  # ten times the solver's tolerance
        return Answer(INFEASIBLE, margin=float(t.value))
    return Answer(UNSOLVED, message=f"Clarabel: margin {t.value:.1e} is within its tolerance of zero")


SOLVERS: dict[str, Callable[..., Answer]] = {"newton": feasibility, "clarabel": feasibility_by_clarabel}
