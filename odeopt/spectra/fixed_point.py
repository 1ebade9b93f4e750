r"""Where a linear rule ends: the fixed point of its step in function space, ridge regression for decay.

The state of a linear model obeys :math:`s_{k+1}=T(\lambda)s_k+u(\lambda)q`, with the matrices of the step
(:mod:`odeopt.rules.reading`), gradients :math:`\lambda(Y+q)` and :math:`q=\Delta_0-Jw_0`. Its fixed point
:math:`(I-T)s=uq` is solved exactly, in rational functions of :math:`\lambda`. What a step keeps, an anchor or
:math:`\ell^\top s` with :math:`\ell^\top(I-T)=0`, has its first value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy
from sympy import Expr, Matrix, Symbol

from odeopt.checks import validate_error, validate_kernel
from odeopt.limits.text import factor_text
from odeopt.rules.averaged import Averaged
from odeopt.rules.base import UpdateRule
from odeopt.rules.forms import CONSTANT
from odeopt.rules.linear import limit_matrices, require_numeric, still_memories
from odeopt.rules.reading import StepMatrices, require_linear
from odeopt.shown import Shown, Summary
from odeopt.spectra.lanczos_input import origin_of
from odeopt.spectra.measure import SpectralMeasure, require_measure

__all__ = ["FixedPoint", "fixed_point"]

_LAM = Symbol("lam", positive=True)


@dataclass(frozen=True, repr=False)
class FixedPoint(Shown):
    r"""The error :math:`\Delta_\infty=\varphi_\infty(H)\Delta_0+\chi_\infty(H)q` in which a stable rule ends.

    Parameters
    ----------
    rule : UpdateRule
        Linear, without schedules; of an average the rule whose iterates it takes.
    of_start, of_origin : sympy.Expr
        :math:`\varphi_\infty` and :math:`\chi_\infty`, functions of `lam`, for positive eigenvalues.
    lam : sympy.Symbol
        The eigenvalue.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> found = fixed_point(GradientDescent(0.1, weight_decay=1.0))  # ridge regression
    >>> found.of_start, found.of_origin
    (0, 1/(lam + 1))
    >>> found.values([0.0, 3.0])[1]
    array([1.  , 0.25])
    >>> found.error([[3.0]], [-1.0], origin=[0.0])  # at 3/4 of the target
    array([-0.25])
    """

    rule: UpdateRule
    of_start: Expr
    of_origin: Expr
    lam: Symbol

    def values(self, lam: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        r"""Evaluate :math:`\varphi_\infty` and :math:`\chi_\infty`.

        Parameters
        ----------
        lam : array_like, shape (n,)
            Eigenvalues, not negative.

        Returns
        -------
        of_start : numpy.ndarray, shape (n,)
            Of :math:`\Delta_0`.
        of_origin : numpy.ndarray, shape (n,)
            Of q. At the eigenvalue 0 both are those of the step there, which without decay leaves
            an error as it is.
        """
        lam = np.asarray(lam, dtype=float)
        found = []
        require_numeric(self.rule)
        # a step may have a fixed point at positive eigenvalues alone
        still = (sympy.nan,) * 2 if (lam > 0).all() else _solved(self.rule, sympy.S.Zero)
        ends = zip((self.of_start, self.of_origin), still, strict=True)
        for generic, at_zero in ends:
            values = np.asarray(sympy.lambdify(self.lam, generic, "numpy")(lam), dtype=float)
            found.append(np.where(lam > 0, np.broadcast_to(values, lam.shape), float(at_zero)))
        return found[0], found[1]

    def loss(self, measure: SpectralMeasure) -> float:
        r"""Return :math:`\tfrac12|\Delta_\infty|^2`.

        Parameters
        ----------
        measure : SpectralMeasure
            With an `origin` for decay to 0.

        Returns
        -------
        float
            By the Gauss rule on a measure from Lanczos, an estimate.

        Examples
        --------
        >>> from odeopt import GradientDescent, spectral_measure
        >>> measure = spectral_measure([[1.0]], [1.0], origin=[0.0])
        >>> fixed_point(GradientDescent(0.1, weight_decay=1.0)).loss(measure)  # Delta = 1/2
        0.125
        """
        require_measure(measure)
        phi, chi = self.values(measure.nodes)
        if self.of_origin == 0 and not chi.any():
            return 0.5 * float(measure.weights @ phi**2)
        if measure.joint is None:
            raise ValueError(
                f"the fixed point of {self.rule.label} depends on J w_0; give it to the measure, "
                "spectral_measure(kernel, delta0, origin=...)"
            )
        phi, chi = self.values(measure.joint.nodes)
        return float(measure.joint.loss(phi[None], chi[None])[0])

    def error(
        self, kernel: npt.ArrayLike, delta0: npt.ArrayLike, origin: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        r"""Return :math:`\Delta_\infty` itself, by ``eigh``.

        Parameters
        ----------
        kernel : array_like, shape (n, n)
            H, symmetric positive semidefinite.
        delta0 : array_like, shape (n,)
            :math:`\Delta_0=u_0-y`.
        origin : array_like, shape (n,), optional
            :math:`Jw_0`, for decay to 0.

        Returns
        -------
        numpy.ndarray, shape (n,)
            In the order of the examples.

        Raises
        ------
        ValueError
            If shapes do not fit, or the end depends on :math:`Jw_0` and no origin is given.
        """
        matrix = validate_kernel(kernel)
        delta0 = validate_error(delta0, len(matrix))
        values, vectors = np.linalg.eigh(matrix)
        # negative ones are rounding, of order eps * lam_max
        phi, chi = self.values(np.maximum(values, 0.0))
        if origin is None and chi.any():
            raise ValueError(f"the fixed point of {self.rule.label} depends on J w_0; give it as origin")
        q = delta0 - origin_of(delta0 if origin is None else origin, delta0.shape)
        return vectors @ (phi * (vectors.T @ delta0) + chi * (vectors.T @ q))

    def _summary(self) -> Summary:
        return Summary([str(self), self.rule.label])

    def __str__(self) -> str:
        ends = {"Delta_0": self.of_start, "q": self.of_origin}
        parts = [factor_text(factor) + vector for vector, factor in ends.items() if factor != 0]
        return f"Delta = {' + '.join(parts) or 0} at each eigenvalue lambda"


def fixed_point(rule: UpdateRule) -> FixedPoint:
    r"""Solve for the error in which a linear rule ends where it is stable.

    Parameters
    ----------
    rule : UpdateRule
        May hold symbols.

    Returns
    -------
    FixedPoint
        Ridge regression for decay: :math:`\chi_\infty=\frac\gamma{\lambda+\gamma}`, with
        :math:`\gamma=(1-\beta)\omega` for decoupled decay of momentum. An average ends where its iterates do.

    Raises
    ------
    ValueError
        If the step is not linear, has schedules, or is without a fixed point.

    Examples
    --------
    >>> import sympy
    >>> from odeopt import GradientDescent, HeavyBall
    >>> beta, omega = sympy.symbols("beta omega", positive=True)
    >>> fixed_point(GradientDescent(0.1, weight_decay=0.25)).of_origin
    1/(4*lam + 1)
    >>> found = fixed_point(HeavyBall(0.1, beta, weight_decay=omega, decoupled=True))
    >>> sympy.factor(found.of_origin)
    omega*(beta - 1)/(beta*omega - lam - omega)
    >>> start = fixed_point(GradientDescent(0.1, weight_decay=0.25, to_start=True))
    >>> start.of_start, start.of_origin
    (1/(4*lam + 1), 0)
    """
    if isinstance(rule, UpdateRule) and rule.is_scheduled:
        raise ValueError(
            f"{rule.label} has schedules, so that its fixed point moves; take that of rule.at_step(k)"
        )
    while isinstance(rule, Averaged):
        rule = rule.rule
    return FixedPoint(rule, *_solved(rule, _LAM), _LAM)


def _solved(rule: UpdateRule, lam: Expr) -> tuple[Expr, Expr]:
    """The error of the fixed point along the start and along q, at an eigenvalue."""
    reading = require_linear(rule, "fixed point", forever=True)
    if any(form.coefficient(CONSTANT) != 0 for form in reading.start):
        raise ValueError(f"{rule.label} has a memory that starts from a constant, of which J has no image")
    laws = limit_matrices(rule)
    d = len(laws[0].M)
    T, u = sympy.eye(d), sympy.zeros(d, 1)
    for law in laws:
        step, push = _affine(law, lam)
        T, u = (step * T).applyfunc(sympy.cancel), (step * u + push).applyfunc(sympy.cancel)
    start = Matrix([1] * rule.history + [_exact(form.coefficient(("x", 0))) for form in reading.start])
    still = still_memories(rule)
    moving = [i for i in range(d) if i not in still]
    # v_0 = Delta_0 - q: an anchor pulls by the start along both
    anchored = sum((T[moving, i] * start[i] for i in still), sympy.zeros(len(moving), 1))
    rest = sympy.eye(len(moving)) - T[moving, moving]
    sides, first = (anchored, u[moving, :] - anchored), start[moving, :]
    kept: list[Matrix] = []
    if sympy.cancel(rest.det()) == 0:
        kept = [row.T for row in rest.T.nullspace()]
        if reading.varies or any(sympy.cancel((row * side)[0]) != 0 for row in kept for side in sides):
            raise ValueError(
                f"the step of {rule.label} has no fixed point: it moves on, or stops by its schedule alone"
            )
    ends = [_solution(rest, kept, side, sign * first) for side, sign in zip(sides, (1, -1), strict=True)]
    return ends[0], sympy.cancel(ends[1] + 1)


def _solution(rest: Matrix, kept: list[Matrix], side: Matrix, first: Matrix) -> Expr:
    """x of (I - T) s = side, where each row that the step keeps has its first value."""
    if kept:
        system = Matrix.vstack(rest, *kept)
        whole = Matrix.vstack(side, *(row * first for row in kept))
        rest, side = system.T * system, system.T * whole
    return sympy.cancel(rest.LUsolve(side)[0])


def _affine(law: StepMatrices, lam: Expr) -> tuple[Matrix, Matrix]:
    """T and u of one step."""
    M, N, A, B = (Matrix([[_exact(v) for v in row] for row in rows]) for rows in (law.M, law.N, law.A, law.B))
    if not law.A:
        return M, sympy.zeros(M.rows, 1)
    inverse = (sympy.eye(B.rows) - lam * B).inv()
    return M + lam * N * inverse * A, lam * N * inverse * sympy.ones(B.rows, 1)


def _exact(value: Any) -> Expr:
    return sympy.nsimplify(value) if isinstance(value, float) else sympy.sympify(value, strict=True)
