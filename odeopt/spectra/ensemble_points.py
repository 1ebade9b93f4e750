r"""Mean and variance over initialisations on a few points, for kernels too large to be decomposed.

With the row h of the kernel between a point and the examples, m Lanczos steps from h give
:math:`z=R_k(H)h`, exact for k up to m, and of a first function of covariance K

.. math:: \mu=-z^\top y,\qquad \sigma^2=K_{**}+2z^\top K_{X*}+z^\top Kz :

two products with K, all points and times at once, in place of eigenvectors.

By Lanczos z is off by :math:`\delta` at most (:mod:`odeopt.spectra.point_bounds`), and so

.. math:: |\mu-\tilde\mu|\le\delta\lVert y\rVert,\qquad
    |\sigma^2-\tilde\sigma^2|\le2\delta\lVert K\tilde z+K_{X*}\rVert+\delta^2\lVert K\rVert,

and what rounds in the products beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from odeopt.checks import real_array
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import UpdateRule
from odeopt.rules.weight_decay import is_pulled_to_zero
from odeopt.spectra.curve import averaged
from odeopt.spectra.ensemble_curve import EnsembleCurve
from odeopt.spectra.ensembles import require_room
from odeopt.spectra.lanczos_input import interval_of
from odeopt.spectra.measure import SpectralMeasure, require_measure
from odeopt.spectra.point_bounds import displacement_bounds
from odeopt.spectra.predictions import predict, read_curve

__all__ = ["ensemble_at"]

# Of the size of its terms a variance may be so much below 0 by rounding, and by the storage of kernels.
_NEGATIVE = 1e-6
_EPS = float(np.finfo(float).eps)


def ensemble_at(
    mode_or_rule: ModeSolution | UpdateRule,
    rows: SpectralMeasure,
    nngp: npt.ArrayLike | LinearOperator,
    y: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    cross_nngp: npt.ArrayLike,
    points_nngp: npt.ArrayLike,
    average: float | Literal["polyak"] | None = None,
    bounds: bool = False,
) -> EnsembleCurve:
    r"""Predict mean and variance over initialisations on some points, from Lanczos runs of their own.

    For so many examples that :func:`ensemble`, which decomposes the kernel, has no room.

    Parameters
    ----------
    mode_or_rule : ModeSolution or UpdateRule
        As of :func:`ensemble`, without decay of weights to 0.
    rows : SpectralMeasure
        Of the kernel and its rows to the points, ``spectral_measure(kernel, cross_kernel.T,
        num_matvecs=m)``: one run for each point serves all methods and times. With a ridge that of the
        kernel with it.
    nngp : array_like or LinearOperator, shape (n, n)
        K, as ``NetworkKernel(..., kind="nngp").operator(x, x)``.
    y : array_like, shape (n,) or (n, c)
        Targets of the examples; with c columns of independent outputs.
    grid : array_like, shape (T,)
        Times for a mode; iteration numbers for a rule.
    cross_nngp : array_like, shape (p, n)
        K between points and examples.
    points_nngp : array_like, shape (p,)
        K of each point.
    average : float or "polyak", optional
        Predict with averaged iterates.
    bounds : bool, optional
        Prove bounds on the errors too, of a rule; it can cost more than the curve. That on the variance needs
        one on the norm of `nngp`: of an array, or of an operator with an `interval` or the norms of its rows.

    Returns
    -------
    EnsembleCurve
        With `mean_error` and `variance_error`: 0 up to step m, then estimates, not bounds.

    Raises
    ------
    ValueError
        If shapes do not fit, weights decay to 0, the rule is not linear, the kernels are no covariances of
        one function, or there is no room for n p (4 m + 4 T) numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import HeavyBall, spectral_measure
    >>> from odeopt.kernels import NetworkKernel
    >>> x, points = np.random.default_rng(0).standard_normal((2, 300, 4))
    >>> points, ntk, nngp = points[:2], NetworkKernel(), NetworkKernel(kind="nngp")
    >>> rows = spectral_measure(ntk(x), ntk(points, x).T, num_matvecs=40)
    >>> rule, first = HeavyBall(0.002, 0.9), nngp.operator(x, x)
    >>> starts = {"cross_nngp": nngp(points, x), "points_nngp": nngp.diagonal(points)}
    >>> found = ensemble_at(rule, rows, first, np.sin(x[:, 0]), [0, 40, 100], **starts)
    >>> found.variance_error[:2], bool(found.variance_error[2] < 1e-3)
    (array([0., 0.]), True)
    """
    if average is not None:
        mode_or_rule = averaged(mode_or_rule, average)
    grid, pulled, source = read_curve(mode_or_rule, grid)
    if pulled or is_pulled_to_zero(mode_or_rule):
        raise ValueError(
            f"{source} pulls at the weights themselves, for which one run a point is not enough; decay "
            "to_start, or take ensemble(..., degree=...)"
        )
    n, p = _shape(rows)
    y = real_array(y, "y", ndim=2 if np.ndim(y) == 2 else 1)
    K = nngp if isinstance(nngp, LinearOperator) else real_array(nngp, "nngp", ndim=2)
    mixed, own = real_array(cross_nngp, "cross_nngp", ndim=2), real_array(points_nngp, "points_nngp", ndim=1)
    wanted = {"y": (y, (n, *y.shape[1:])), "nngp": (K, (n, n)), "cross_nngp": (mixed, (p, n))}
    for name, (value, shape) in (wanted | {"points_nngp": (own, (p,))}).items():
        if value.shape != shape:
            raise ValueError(
                f"{name} must have shape {shape}, as rows has {n} examples and {p} points, got {value.shape}"
            )
    steps = rows.num_matvecs or n
    what = f"{p} points, {n} examples, {steps} Lanczos steps and {len(grid)} times"
    require_room(32 * n * p * (steps + len(grid)), what, "take fewer points or times in a call")
    identity = LinearOperator((n, n), matvec=lambda v: v, matmat=lambda v: v, dtype=float)
    found = predict(mode_or_rule, rows, identity, grid, bounds=bounds)
    off = np.sqrt(n) * found.error  # of the norm of each z, from that of its entries
    delta = np.full(len(grid), np.inf)
    if bounds and isinstance(mode_or_rule, UpdateRule):
        delta = displacement_bounds(mode_or_rule, grid, rows, n)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = -np.tensordot(found.u, y, axes=(1, 0))
        terms = _Terms.of(found.u, K, mixed, own)
        variance, variance_off = terms.variance(off)
        size = np.linalg.norm(y, axis=0).max()
        proved = (size * (delta + terms.noise * terms.length), terms.bound(delta)) if bounds else (None, None)
    return EnsembleCurve(mean, variance, None, found.t, found.k, source, off * size, variance_off, *proved)


def _shape(rows: SpectralMeasure) -> tuple[int, int]:
    basis = require_measure(rows).basis
    if basis is None or len(basis.shape) != 2 or basis.pulled:
        raise ValueError(
            "rows must be the measure of the kernel between examples and its rows to the points, with "
            "vectors and without origin; take spectral_measure(kernel, cross_kernel.T, num_matvecs=m)"
        )
    return basis.shape[0], basis.shape[1]


@dataclass(frozen=True)
class _Terms:
    r"""The terms of the variance at times, (T, p), and norms, (T,), the largest of all points.

    `slope` is that of :math:`Kz+K_{X*}`, `image` of Kz, `length` of z; `norm` bounds K, `stored` what single
    precision changes in it, `noise` is what sums of n terms round.
    """

    own: np.ndarray
    linear: np.ndarray
    square: np.ndarray
    slope: np.ndarray
    image: np.ndarray
    length: np.ndarray
    stretch: np.ndarray
    mixed: float
    norm: float
    stored: float
    noise: float

    @classmethod
    def of(cls, z: np.ndarray, K: Any, mixed: np.ndarray, own: np.ndarray) -> _Terms:
        """By one product with K."""
        T, n, p = z.shape
        columns = z.transpose(1, 0, 2).reshape(n, T * p)
        images = np.asarray(K @ columns).reshape(n, T, p).transpose(1, 0, 2)
        square, linear = np.einsum("tnp,tnp->tp", z, images), np.einsum("tnp,pn->tp", z, mixed)
        slope, image, length = (np.linalg.norm(v, axis=1) for v in (images + mixed.T, images, z))
        stretch = (image / np.where(length > 0, length, 1.0)).max(axis=1)
        high, rows = interval_of(K, None)[1], getattr(K, "row_norms", None)  # those that the product saw
        if high is None:
            high = np.inf if rows is None else float(np.linalg.norm(rows)) * (1 + n * _EPS)
        sizes = (float(np.linalg.norm(mixed, axis=1).max()), float(high), getattr(K, "storage_error", 0.0))
        most = (slope.max(axis=1), image.max(axis=1), length.max(axis=1), stretch)
        return cls(own, linear, square, *most, *sizes, (10 + 2 * np.sqrt(n)) * _EPS)

    def variance(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Variances (T, p), and what errors of norm `off` in z are estimated to do to the worst of them."""
        variance = self.own + 2 * self.linear + self.square
        size = self.own + 2 * np.abs(self.linear) + np.abs(self.square)
        error = np.where(off > 0, 2 * off * self.slope + off**2 * self.stretch, 0.0)
        if (variance < -_NEGATIVE * size - error[:, None]).any():
            raise ValueError(
                f"nngp, cross_nngp and points_nngp are no covariances of one function: a variance of "
                f"{np.nanmin(variance):.3g} follows; take all three from one kernel"
            )
        variance = np.where(np.isnan(variance), np.inf, np.maximum(variance, 0.0))
        return variance, np.where(np.isnan(error), np.inf, error)

    def bound(self, delta: np.ndarray) -> np.ndarray:
        """Bound the error of every variance where z is off by delta, roundings of products included."""
        rounded = (self.noise * self.norm + self.stored) * self.length  # of K z
        moved = 2 * delta * (self.slope + rounded) + delta**2 * (self.norm + self.stored)
        sums = np.abs(self.own).max() + self.length * (2 * self.mixed + self.image)
        found = moved + self.length * rounded + 2 * self.noise * sums
        return np.where(np.isnan(found), np.inf, found)
