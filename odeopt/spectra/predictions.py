r"""Predictions on points that are not trained on, along training, from one spectral measure.

With the kernel :math:`H_*=J_*J^\top` between the points and the examples every linear rule and every linear
ODE moves the predictions of a linear model, and of a network of infinite width, by

.. math:: u_*(k)=u_*(0)+(\varphi_k(0)-1)J_*w_0+H_*\bigl(D_k(H)Jw_0+R_k(H)q\bigr),\qquad q=\Delta_0-Jw_0,

:math:`u_*(0)-H_*\psi_k(H)\Delta_0` with :math:`\psi_k=(1-P_k)/\lambda` where no weights decay; no kernel is
inverted and nothing is divided by an eigenvalue. By m Lanczos steps
:math:`f(H)\Delta_0\approx|\Delta_0|Qf(T)e_1`, exact for k up to m, because :math:`\psi_k` has degree k - 1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from odeopt.checks import iteration_grid, nonnegative_grid, real_array
from odeopt.dynamics.displacement import displacement_factors
from odeopt.dynamics.modes import ModeSolution
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import degrees, error_row, require_numeric
from odeopt.shown import Shown, Summary
from odeopt.spectra.basis import Basis, Section
from odeopt.spectra.curve import averaged, clock_of
from odeopt.spectra.measure import SpectralMeasure, require_measure
from odeopt.spectra.point_bounds import displacement_bounds
from odeopt.spectra.point_curve import PointCurve

__all__ = ["SeenBasis", "predict", "read_curve", "seen_from"]

_EPS = float(np.finfo(float).eps)
_PRODUCT = "the product of cross_kernel"
# Ritz values so near, beside the largest, are one that has converged, but for the rounding of Lanczos.
_CONVERGED = 4 * _EPS
_ENTRIES = 2**21  # of a work array


@dataclass(frozen=True, repr=False)
class SeenBasis(Shown):
    r"""The vectors of a measure as they are seen from other points, :math:`H_*Q`.

    Parameters
    ----------
    basis : Basis
        Of the measure.
    images : tuple of numpy.ndarray, shape (p, m)
        One for each of its parts.
    norm : float
        The largest norm of a row of the kernel; inf where it is not known.

    Examples
    --------
    >>> from odeopt import spectral_measure
    >>> measure = spectral_measure(np.diag([1.0, 4.0]), [1.0, 1.0])
    >>> seen = seen_from(measure, [[0.5, 0.0], [0.0, 2.0], [0.3, 0.4]])
    >>> seen.num_points, seen.norm
    (3, 2.0)
    """

    basis: Basis
    images: tuple[np.ndarray, ...]
    norm: float

    @functools.cached_property
    def _turned(self) -> dict[tuple[int, int], np.ndarray]:
        """Images of Ritz vectors, for every rule alike."""
        return {}

    def _summary(self) -> Summary:
        vectors = sum(image.shape[1] for image in self.images)
        return Summary([f"{vectors} vectors seen from {self.num_points} point(s)", f"norm {self.norm:.4g}"])

    @property
    def num_points(self) -> int:
        """Number of points p."""
        return len(self.images[0])


def seen_from(measure: SpectralMeasure, cross_kernel: npt.ArrayLike | LinearOperator) -> SeenBasis:
    r"""Multiply the vectors of a measure by the kernel between points and examples, once for all methods.

    Parameters
    ----------
    measure : SpectralMeasure
        Of the kernel and the error of the examples, with its vectors (`keep_basis`).
    cross_kernel : array_like or LinearOperator, shape (p, n)
        :math:`H_*`, a row for each point, as ``relu_gram(points, examples)``.

    Returns
    -------
    SeenBasis
        For :func:`predict` in place of the kernel.

    Raises
    ------
    ValueError
        If the measure holds no vectors, or the kernel is not finite or has another number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import GradientDescent, spectral_measure
    >>> measure = spectral_measure(np.diag([1.0, 4.0]), [1.0, 1.0])
    >>> seen = seen_from(measure, [[0.5, 0.0]])
    >>> predict(GradientDescent(0.5), measure, seen, [1]).u
    array([[-0.25]])
    """
    basis = require_measure(measure).basis
    if basis is None:
        raise ValueError(
            "measure holds no vectors, of which predictions on points are made; take "
            "spectral_measure(..., keep_basis=True)"
        )
    operator = isinstance(cross_kernel, LinearOperator)
    cross: Any = cross_kernel if operator else _checked(cross_kernel, "cross_kernel")
    if cross.shape[1] != basis.shape[0]:
        raise ValueError(
            f"cross_kernel must have shape (p, {basis.shape[0]}), a column for each example, got "
            f"{cross.shape}"
        )
    # one product: an operator may compute its entries anew for each, and few columns are slow
    slabs = [slab for part in basis.parts for slab in part.vectors]
    vectors = (slabs[0] if len(slabs) == 1 else np.concatenate(slabs)).T
    whole = _checked(cross.matmat(vectors) if operator else cross @ vectors, _PRODUCT)
    images = np.split(whole, np.cumsum([part.size for part in basis.parts])[:-1], axis=1)
    # an operator may have seen its rows in the product
    norms = getattr(cross, "row_norms", None) if operator else np.linalg.norm(cross, axis=1)
    return SeenBasis(basis, tuple(images), np.inf if norms is None else float(max(norms)))


def _checked(matrix: Any, name: str) -> np.ndarray:
    """A finite matrix of real numbers, itself where it is one: it is large."""
    known = type(matrix) is np.ndarray and matrix.dtype == np.float64 and matrix.ndim == 2 and matrix.size
    return matrix if known and np.isfinite(matrix).all() else real_array(matrix, name, ndim=2)


def predict(
    mode_or_rule: ModeSolution | UpdateRule,
    measure: SpectralMeasure,
    cross_kernel: npt.ArrayLike | LinearOperator | SeenBasis,
    grid: npt.ArrayLike,
    *,
    start: npt.ArrayLike | None = None,
    points_origin: npt.ArrayLike | None = None,
    average: float | Literal["polyak"] | None = None,
    bounds: bool = False,
    estimate: bool = True,
) -> PointCurve:
    r"""Predict a linear model, or a network of infinite width, on points that are not trained on.

    Parameters
    ----------
    mode_or_rule : ModeSolution or UpdateRule
        The mode of an ODE, or a linear rule with numeric hyperparameters, schedules and decay included.
    measure : SpectralMeasure
        Of the kernel and the error of the examples. One of m Lanczos steps serves all methods and times.
    cross_kernel : array_like, LinearOperator or SeenBasis, shape (p, n)
        :math:`H_*`, a row for each point, as ``relu_gram(points, examples)``, or what :func:`seen_from` makes
        of it.
    grid : array_like, shape (T,)
        Times for a mode; iteration numbers for a rule.
    start : array_like, shape (p,) or (p, c), optional
        Predictions :math:`u_*(0)` on the points before the first step; by default 0. Their shape is that of
        the result, also with a kernel of all outputs together, whose rows are ordered point by point.
    points_origin : array_like, shape of `start`, optional
        :math:`J_*w_0`; needed where weights decay to 0, beside the `origin` of the measure.
    average : float or "polyak", optional
        Predict with averaged iterates, as :func:`odeopt.loss_curve`.
    bounds : bool, optional
        Prove a bound on the error too, of a rule without weight decay to 0; it can cost more than the curve.
    estimate : bool, optional
        Estimate what the truncation of Lanczos does, for as much as the curve costs again; without it the
        error is nan where it is not 0.

    Returns
    -------
    PointCurve
        Predictions at the grid, and what the truncation of Lanczos does to them.

    Raises
    ------
    ValueError
        If shapes do not fit, the grid is none, the rule is not linear, or weights decay to 0 and an origin is
        missing.

    Notes
    -----
    The truncation of Lanczos is estimated by the difference from seven eighths of its steps. The bound is the
    largest norm of a row of :math:`H_*` times what the rule makes of the residual of Lanczos and of rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import HeavyBall, relu_gram, spectral_measure
    >>> rng = np.random.default_rng(0)
    >>> x, points = rng.standard_normal((200, 5)), rng.standard_normal((3, 5))
    >>> y, kernel = np.sin(x[:, 0]), relu_gram(x)
    >>> rule, cross = HeavyBall(lr=0.05, momentum=0.9), relu_gram(points, x)
    >>> lanczos = predict(rule, spectral_measure(kernel, -y, num_matvecs=60), cross, [0, 50, 200])
    >>> dense = predict(rule, spectral_measure(kernel, -y), cross, [0, 50, 200])
    >>> bool(np.abs(lanczos.u - dense.u).max() < 1e-10), lanczos.exact
    (True, array([ True,  True, False]))
    >>> lanczos.best(np.sin(points[:, 0]))  # of the grid the step that predicts these targets best
    2
    """
    seen = cross_kernel if isinstance(cross_kernel, SeenBasis) else seen_from(measure, cross_kernel)
    if seen.basis is not require_measure(measure).basis:
        raise ValueError("cross_kernel was seen from another measure; take seen_from(measure, cross_kernel)")
    if average is not None:
        mode_or_rule = averaged(mode_or_rule, average)
    grid, pulled, source = read_curve(mode_or_rule, grid)
    shape = (seen.num_points, *seen.basis.shape[1:])
    if start is not None and len(shape) == 1 and np.ndim(start) == 2 and np.size(start) == shape[0]:
        shape = np.shape(start)  # a kernel of all outputs together, example by example
    given = {"start": start, "points_origin": points_origin}
    vectors = {name: _points(value, name, shape) for name, value in given.items() if value is not None}
    if pulled and not (seen.basis.pulled and "points_origin" in vectors):
        raise ValueError(
            f"{pulled}: give the measure origin = J w_0, spectral_measure(kernel, delta0, origin=...), and "
            "here points_origin = J_* w_0"
        )
    interval = measure.interval or (0.0, measure.lam_max)  # as that of the decompositions behind bounds
    origin = vectors.get("points_origin")
    found, error, exact = _evaluated(mode_or_rule, seen, interval, grid, origin, bounds, estimate)
    if "start" in vectors:
        found += vectors["start"].reshape(found.shape[1:])
    t, k = clock_of(mode_or_rule, grid)
    bound = np.full(len(grid), np.inf)
    if bounds and isinstance(mode_or_rule, UpdateRule) and not pulled and np.isfinite(seen.norm):
        bound = seen.norm * displacement_bounds(mode_or_rule, grid, measure, seen.basis.shape[0])
        with np.errstate(invalid="ignore"):  # and what the sum with the start rounds
            bound = np.nan_to_num(bound + _EPS * np.abs(found).max(axis=(1, 2)), nan=np.inf, posinf=np.inf)
    return PointCurve(found.reshape(len(grid), *shape), t, k, source, exact, error, bound)


def read_curve(mode_or_rule: Any, grid: Any) -> tuple[np.ndarray, str, str]:
    """The grid, why weights themselves are pulled at ("" if they are not), and what is evaluated."""
    if isinstance(mode_or_rule, ModeSolution):
        dynamics = mode_or_rule.dynamics
        why = f"the error of {dynamics} depends on q = Delta_0 - J w_0 too" if dynamics.has_source else ""
        return nonnegative_grid(grid, "grid"), why, f"ODE {dynamics}"
    if not isinstance(mode_or_rule, UpdateRule):
        raise ValueError(
            f"mode_or_rule must be a ModeSolution or an UpdateRule, got {type(mode_or_rule).__name__}; take "
            "the rule itself, or mode_solution(error_dynamics(limit)) for its ODE"
        )
    require_numeric(mode_or_rule)
    k, label = iteration_grid(grid), mode_or_rule.label
    row = error_row(mode_or_rule, k)
    return (
        k,
        f"the step of {label} pulls at the weights themselves ({row})" if row else "",
        f"iteration {label}",
    )


def _points(value: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = real_array(value, name, ndim=len(shape))
    if found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, a row for each point, got {found.shape}")
    return found


def _evaluated(
    mode_or_rule: ModeSolution | UpdateRule,
    seen: SeenBasis,
    interval: tuple[float, float],
    grid: np.ndarray,
    origin: np.ndarray | None,
    stepwise: bool,
    estimate: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions less their start, shape (T, p, c), the estimated truncation, and where there is none."""
    parts = seen.basis.parts
    left_out = [part for part in parts if not part.whole]
    exact = np.full(len(grid), not left_out)
    if left_out and isinstance(mode_or_rule, UpdateRule):
        exact |= degrees(mode_or_rule, grid) <= min(part.steps for part in left_out)
    sections = [part.section(interval) for part in parts]
    if estimate and not exact.all():
        fewer = [None if part.whole else part.steps - -(-part.steps // 8) for part in parts]
        sections += [part.section(interval, steps) for part, steps in zip(parts, fewer, strict=True)]
    at_zero, *factors = _factors(mode_or_rule, sections, grid, len(parts), stepwise)
    columns = seen.basis.shape[1] if len(seen.basis.shape) == 2 else 1
    found, error = np.zeros((len(grid), seen.num_points, columns)), np.zeros(len(grid))
    fewer_steps = np.zeros((np.count_nonzero(~exact), *found.shape[1:]))
    with np.errstate(over="ignore", invalid="ignore"):
        for j, section in enumerate(sections):
            estimated, place = divmod(j, len(parts))
            total, rows = (fewer_steps, ~exact) if estimated else (found, slice(None))
            own = slice(parts[place].columns[0], parts[place].columns[-1] + 1)
            total[:, :, own] += _seen(section, factors[0][j][rows], factors[1][j][rows], seen, place)
        if len(sections) > len(parts):
            error[~exact] = np.abs(found[~exact] - fewer_steps).max(axis=(1, 2))
        if origin is not None:
            found += np.multiply.outer(at_zero - 1, origin.reshape(found.shape[1:]))
    known = np.where(np.isnan(error), np.inf, error) if estimate else np.nan
    return found, np.where(exact, 0.0, known), exact


def _factors(
    mode_or_rule: ModeSolution | UpdateRule,
    sections: list[Section],
    grid: np.ndarray,
    own: int,
    stepwise: bool,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """The value at 0, and D and R of each section, by one run on the eigenvalues of all.

    Sections after the first `own` estimate: where they repeat a converged value, its factors are taken.
    """
    values = np.concatenate([s.values for s in sections])
    count = sum(s.values.size for s in sections[:own])
    ranked, others, slack = np.argsort(values[:count]), values[count:], _CONVERGED * values.max(initial=0.0)
    near = np.searchsorted(values[:count], others - slack, sorter=ranked).clip(max=count - 1)
    same = np.abs(values[ranked[near]] - others) <= slack
    place = np.concatenate([np.arange(count), np.where(same, ranked[near], count - 1 + np.cumsum(~same))])
    fresh = np.concatenate([values[:count], others[~same]])
    at_zero, D, R = displacement_factors(mode_or_rule, fresh, grid, stepwise=stepwise)
    ends = np.cumsum([s.values.size for s in sections])[:-1]
    return at_zero, np.split(D[:, place], ends, axis=1), np.split(R[:, place], ends, axis=1)


def _seen(section: Section, D: np.ndarray, R: np.ndarray, seen: SeenBasis, place: int) -> np.ndarray:
    """Predictions (T, p, c) of what is along a section; its rotation goes to the shorter side."""
    a, q, (points, N) = section.error, section.origin, (seen.num_points, len(section.values))
    c, image, rotation = a.shape[1], seen.images[place], section.rotation
    if rotation is not None and len(D) * c >= points:
        key = place, len(rotation)
        if key not in seen._turned:
            seen._turned[key] = image[:, : len(rotation)] @ rotation
        image, rotation = seen._turned[key], None
    elif rotation is not None:
        image = image[:, : len(rotation)]
    found, rows = np.empty((len(D), points, c)), max(1, _ENTRIES // max(1, N * c))
    for begin in range(0, len(D), rows):
        here = slice(begin, begin + rows)
        along = D[here, None] * (a - q).T + R[here, None] * q.T
        along = along.reshape(along.shape[0] * c, N)
        along = along if rotation is None else along @ rotation.T
        found[here] = (along @ image.T).reshape(len(found[here]), c, points).transpose(0, 2, 1)
    return found
