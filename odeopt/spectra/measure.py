r"""The spectral measure of an initial error under a kernel: all that a loss curve depends on.

For :math:`H=\sum_i\lambda_iv_iv_i^\top` and the error :math:`\Delta_0`,

.. math:: \Delta_0^\top f(H)\,\Delta_0=\sum_iw_if(\lambda_i),\qquad w_i=(v_i^\top\Delta_0)^2 .

By ``eigh`` the measure is exact. By m Lanczos steps, which need only products with H, it is an m-point
Gauss rule, exact for polynomials of degree 2m - 1, and further rules of the same steps enclose what the
Gauss rule leaves open (:mod:`odeopt.spectra.quadrature`).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
from scipy.sparse.linalg import LinearOperator

from odeopt.checks import frozen, validate_kernel, values_at
from odeopt.kernels.blocks import SymmetricOperator
from odeopt.kernels.matrix import require_range, require_square
from odeopt.shown import Pictured, Summary, rows_at, span
from odeopt.spectra.basis import Basis, eigen_basis, krylov_basis
from odeopt.spectra.block import BlockChain, BlockRun
from odeopt.spectra.joint import JointMeasure, Together, joint_by_chains, joint_starts
from odeopt.spectra.lanczos import Chain, lanczos
from odeopt.spectra.lanczos_input import (
    columns_of,
    interval_of,
    matrix_of,
    measured_error,
    origin_of,
    precision_of,
    product_of,
    require_options,
    steps_of,
)
from odeopt.spectra.quadrature import Ritz, enclosed, gauss, ritz, rounding_of_pairs, top_residual

__all__ = ["SpectralMeasure", "require_measure", "spectral_measure"]


@dataclass(frozen=True, repr=False)
class SpectralMeasure(Pictured):
    r"""Nodes :math:`\lambda_i`, ascending, and weights :math:`w_i=(v_i^\top\Delta_0)^2`.

    Parameters
    ----------
    nodes, weights : numpy.ndarray, shape (m,)
        Read-only. For several right-hand sides those of all together.
    exact : bool
        True when the nodes are all eigenvalues of the kernel that the error sees.
    chains : tuple of Chain or BlockChain
        The Lanczos matrices, one for each right-hand side or for the block; empty for a measure by ``eigh``.
    interval : tuple of float, or None
        Bounds of the spectrum of the kernel.
    interval_proved : bool
        Whether the upper bound is one for certain, not an estimate from the largest Ritz value. The
        lower bound 0 rests on the kernel being positive semidefinite.
    decomposition : tuple of float
        Of ``eigh``: bounds on the perturbation of H, and on the distance of the eigenvectors from orthonormal
        ones, under which its result is exact.
    joint : JointMeasure, or None
        That of the error and of :math:`\Delta_0-Jw_0` together, for rules and equations with weight decay.
    basis : Basis, or None
        The vectors behind it, for :func:`odeopt.predict`.

    Examples
    --------
    >>> measure = spectral_measure(np.diag([1.0, 4.0]), [1.0, 2.0])
    >>> measure.weights, measure.integrate(np.sqrt)
    (array([1., 4.]), 9.0)
    """

    nodes: np.ndarray
    weights: np.ndarray
    exact: bool
    chains: tuple[Chain | BlockChain, ...] = ()
    interval: tuple[float, float] | None = None
    interval_proved: bool = True
    decomposition: tuple[float, float] = (0.0, 0.0)
    joint: JointMeasure | None = None
    basis: Basis | None = None

    _drawn_by = "spectrum"

    def __post_init__(self) -> None:
        for name in ("nodes", "weights"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def _summary(self) -> Summary:
        kind = "exact" if self.exact else "Gauss rule by Lanczos"
        facts = [f"{self.nodes.size} nodes from {span(self.nodes)}", f"mass {self.mass:.4g}", kind]
        columns = {"lambda": self.nodes, "weight": self.weights}
        return Summary(facts, *rows_at(columns | {"sum": np.cumsum(self.weights)}))

    @property
    def mass(self) -> float:
        r""":math:`|\Delta_0|^2`."""
        return float(self.weights.sum())

    @property
    def lam_min(self) -> float:
        """Smallest node; of a Gauss rule at least the smallest eigenvalue that the error sees."""
        return float(self.nodes[0])

    @property
    def lam_max(self) -> float:
        """Largest node; of a Gauss rule at most the largest eigenvalue."""
        return float(self.nodes[-1])

    @property
    def num_matvecs(self) -> int | None:
        """Lanczos steps taken; None for a measure by ``eigh``."""
        return max((chain.size for chain in self.chains), default=None)

    @property
    def error(self) -> float:
        """Bound on the perturbation of H under which the measure is exact, or its Lanczos matrices are."""
        return max((chain.error for chain in self.chains), default=self.decomposition[0])

    @functools.cached_property
    def pairs(self) -> tuple[Ritz, ...]:
        """The decompositions on which bounds rest: one for each Lanczos matrix, or that of ``eigh``."""
        low, high = self.interval or (0.0, self.lam_max)
        if self.chains:
            return tuple(ritz(chain, low, high) for chain in self.chains if chain.size)
        norm, (shift, skew) = math.sqrt(self.mass), self.decomposition
        start = np.sqrt(self.weights) / norm if norm else self.weights
        ends = np.zeros((start.size, 1))
        return (Ritz(self.nodes, start, ends, norm, 0.0, shift, skew, shift, start.size),)

    def integrate(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        r"""Return :math:`\sum_iw_if(\lambda_i)`.

        Parameters
        ----------
        function : callable
            From nodes, shape (m,), to values of that shape.

        Returns
        -------
        float
            By the Gauss rule, an estimate, on a measure from Lanczos.

        Examples
        --------
        >>> spectral_measure(np.diag([1.0, 4.0]), [1.0, 2.0]).integrate(lambda lam: lam)
        17.0
        """
        return float(self.weights @ values_at(function, self.nodes))

    def bounds(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        r"""Enclose :math:`\Delta_0^\top f(H)\Delta_0` for a completely monotone f.

        The derivatives of f must alternate in sign, :math:`(-1)^nf^{(n)}\ge0`, on the spectrum, as those
        of :math:`e^{-t\lambda}` and :math:`1/(\lambda+\rho)` do. That is taken on trust.

        Parameters
        ----------
        function : callable
            From nodes, shape (k,), to values of that shape.

        Returns
        -------
        lower : float
            By the Gauss rule, of a block by those of its columns. Rounding is in neither of the two; in the
            bounds of loss curves it is.
        upper : float
            By the Radau rule with a node at the lower end of the interval; equal for an exact measure.

        Examples
        --------
        >>> kernel = np.diag(np.linspace(0.1, 4, 40))
        >>> measure = spectral_measure(kernel, np.ones(40), num_matvecs=5)
        >>> low, high = measure.bounds(lambda lam: np.exp(-lam))
        >>> bool(low < np.exp(-np.diag(kernel)).sum() < high), high - low < 1e-3
        (True, True)
        """
        value = self.integrate(function)
        if self.exact or self.interval is None:
            return value, value
        return enclosed(self.chains, self.interval[0], function)


def spectral_measure(
    kernel: npt.ArrayLike | LinearOperator | SymmetricOperator,
    delta0: npt.ArrayLike,
    *,
    origin: npt.ArrayLike | None = None,
    num_matvecs: int | None = None,
    block: bool = False,
    rtol: float | None = None,
    curves: Sequence[Callable[[SpectralMeasure], Any]] = (),
    interval: tuple[float, float] | None = None,
    state: str | os.PathLike[str] | None = None,
    keep_basis: bool = True,
    progress: Callable[[str, int, int], object] | None = None,
) -> SpectralMeasure:
    r"""Compute the spectral measure of an error under a kernel: by ``eigh``, or by Lanczos.

    Parameters
    ----------
    kernel : array_like or scipy.sparse.linalg.LinearOperator, shape (n, n)
        Symmetric positive semidefinite.
    delta0 : array_like, shape (n,) or (n, c)
        Initial error :math:`u_0-y`; with c columns (vector outputs) the loss is summed over them, and one
        product of the kernel with c vectors serves all.
    origin : array_like, shape of delta0, optional
        :math:`Jw_0`, the image of the weights at the start, which decay to 0 pulls in. With it the measure
        serves rules with weight decay; Lanczos then takes three vectors for each of delta0, unless
        :math:`\Delta_0-Jw_0` is parallel to it.
    num_matvecs : int, optional
        Number m of Lanczos steps, at most n. Without it, and without `rtol`, an array is decomposed
        exactly by ``eigh``. With `rtol` the largest number (by default 2000, or n).
    block : bool, optional
        Take one Krylov space for all columns: each output has the products of the others too, so that fewer
        of the m steps, products with all columns as without it, resolve as much. T has m c rows.
    rtol : float, optional
        Stop as soon as every one of `curves` is enclosed to this relative accuracy, rounding apart.
    curves : sequence of callable, optional
        Each from a :class:`SpectralMeasure` to a :class:`odeopt.LossCurve`; with `rtol`.
    interval : tuple of float, optional
        Numbers (a, b) known to enclose the spectrum of the kernel; bounds rest on them. By default a = 0,
        and b is computed for an array, or read from the operator if it has an `interval`, or
        else estimated, so that only bounds without b are rigorous.
    state : path-like, optional
        File (.npz) of a Lanczos run that is to survive interrupts and kills: an unfinished run is
        continued from it, and of a longer one all steps are used. With the same libraries and threads the
        result is that of an uninterrupted run bit for bit. One more product, of a random vector, ties the
        file to the kernel.
    keep_basis : bool, optional
        Keep the eigenvectors or Lanczos vectors, n numbers each, for predictions on other points.
    progress : callable, optional
        Called with the name of the stage, "lanczos", the number of steps done, and the largest number.

    Returns
    -------
    SpectralMeasure
        Exact by ``eigh``; by Lanczos a Gauss rule, with what bounds need.

    Raises
    ------
    ValueError
        If the kernel is not finite, square, symmetric and positive semidefinite (by Lanczos: as far as
        the error sees it), delta0 has another length, nonfinite entries or is zero for Lanczos, or an
        option is out of range.

    Notes
    -----
    The upper end b of an array is that of Collatz and Wielandt, :math:`\max_i(|H|x)_i/x_i` for a positive
    x: the norm of :math:`D^{-1}|H|D`, :math:`D=\mathrm{diag}(x)`, which bounds every eigenvalue of H.

    Examples
    --------
    >>> measure = spectral_measure([[2.0, 1.0], [1.0, 2.0]], [1.0, 0.0])
    >>> measure.nodes.round(12), measure.weights.round(12)
    (array([1., 3.]), array([0.5, 0.5]))
    >>> kernel = np.diag(np.linspace(0, 4, 400))
    >>> measure = spectral_measure(kernel, np.ones(400), num_matvecs=30)
    >>> measure.exact, measure.nodes.size, round(measure.mass)
    (False, 30, 400)
    """
    operator = isinstance(kernel, LinearOperator)
    require_options(block, num_matvecs, rtol, curves)
    if num_matvecs is None and rtol is None:
        if operator:
            raise ValueError("kernel is a LinearOperator: give num_matvecs or rtol, eigh needs an array")
        found = _by_eigh(kernel, delta0, origin)
        return found if keep_basis else replace(found, basis=None)
    matrix, slack, (least, most) = matrix_of(kernel)
    n = require_square(matrix)
    starts = errors = columns_of(delta0, n)
    places, q = None, None if origin is None else errors - origin_of(origin, np.shape(delta0)).reshape(n, -1)
    if q is not None:
        starts, places = (np.hstack([errors, q]), []) if block else joint_starts(errors, q)
    low, high, proved = interval_of(matrix, interval, least)
    require_range(max(most, -least))

    def measure(chains) -> SpectralMeasure:
        found = _from_chains(chains, errors.shape[1], low, high, proved, slack)
        return found if places is None or q is None else _joined(found, places, errors, q)

    chains = lanczos(
        product_of(matrix),
        starts,
        steps_of(num_matvecs, n),
        bound=high if high is not None else 0.0,
        precision=precision_of(matrix),
        trusted=not operator or hasattr(matrix, "storage_error"),
        stop=None if rtol is None else (lambda chains: _resolved(measure(chains), curves, rtol)),
        state=state,
        progress=progress,
        keep_basis=keep_basis,
        block=functools.partial(BlockRun, errors=errors.shape[1]) if block else None,
    )
    basis = krylov_basis(chains, np.shape(delta0), places, errors, q) if keep_basis else None
    return replace(measure(chains), basis=basis)


def _joined(found: SpectralMeasure, places, errors: np.ndarray, q: np.ndarray) -> SpectralMeasure:
    """The measure of the errors, with that of both vectors from all its chains."""
    interval = found.interval or (0.0, found.lam_max)
    joint = joint_by_chains(found.chains, interval, places, errors, q)
    return replace(found, chains=found.chains[: errors.shape[1]], joint=joint)


def require_measure(measure: Any) -> SpectralMeasure:
    """Return a measure, or raise ValueError for anything else."""
    if not isinstance(measure, SpectralMeasure):
        raise ValueError(
            f"measure must be a SpectralMeasure, got {type(measure).__name__}; take "
            "spectral_measure(kernel, delta0)"
        )
    return measure


def _by_eigh(kernel: Any, delta0: Any, origin: Any) -> SpectralMeasure:
    given, kernel = kernel, validate_kernel(kernel)
    delta0 = measured_error(delta0, kernel.shape[0])
    # by a power of two, so that no square of an entry leaves the range of float64
    power = int(np.frexp(np.abs(kernel).max())[1])
    kernel = np.ldexp(kernel, -power)
    found, vectors = scipy.linalg.eigh(kernel)
    along = vectors.T @ delta0
    weights = along**2
    # Eigenvalues of a semidefinite kernel come out negative by rounding, of order eps * lam_max.
    eigenvalues = np.maximum(found, 0.0)
    shift, skew = rounding_of_pairs(found, vectors, kernel @ vectors)
    given = np.ldexp(np.asarray(given, dtype=float), -power)  # its part that is not symmetric counts too
    shift += float(np.abs(eigenvalues - found).max() + np.linalg.norm(given - given.T) / 2)
    eigenvalues = np.ldexp(eigenvalues, power)
    shift = float(np.ldexp(shift, power)) + 5e-324  # where that is subnormal
    found = SpectralMeasure(
        eigenvalues,
        weights if weights.ndim == 1 else weights.sum(axis=1),
        exact=True,
        interval=(max(float(eigenvalues[0]) - shift, 0.0), float(eigenvalues[-1]) + shift),
        decomposition=(shift, skew),
        basis=eigen_basis(eigenvalues, vectors, along, None),
    )
    if origin is None:
        return found
    q = vectors.T @ (delta0 - origin_of(origin, delta0.shape))
    basis = eigen_basis(eigenvalues, vectors, along, q)
    a, q = along.reshape(len(along), -1), q.reshape(len(along), -1)
    (pair,), size = found.pairs, float(np.linalg.norm(q))
    start = np.linalg.norm(q, axis=1) / (size or 1.0)
    part = Together(pair, replace(pair, start=start, norm=size), a, q)
    return replace(found, joint=JointMeasure((part,)), basis=basis)


def _resolved(measure: SpectralMeasure, curves, rtol: float) -> bool:
    """Whether the brackets of all curves, less their rounding, are narrow relative to the loss."""
    for curve in (make(measure) for make in curves):
        width = curve.upper - curve.lower - 2 * curve.rounding
        if not np.all(width <= rtol * np.maximum(curve.loss, curve.rounding)):
            return False
    return True


def _from_chains(
    chains, errors: int, low: float, high: float | None, proved: bool, slack: float
) -> SpectralMeasure:
    """The measure of the first chains, `errors` of them; all are checked, and kept."""
    require_range(max((float(np.abs(chain.alpha).max()) for chain in chains if chain.size), default=0.0))
    rules = [gauss(chain) for chain in chains]
    nodes = np.concatenate([nodes for nodes, _ in rules])
    error = max(chain.error for chain in chains)
    if nodes.min() < low - error - slack:
        raise ValueError(
            f"kernel must be positive semidefinite, with its spectrum above {low:.6g}, but it has an "
            f"eigenvalue of at most {nodes.min():.6g} (largest Ritz value {nodes.max():.6g}, rounding "
            f"{error:.1g}); compute it in float64 as J @ J.T, or pass an interval that holds"
        )
    if high is not None and nodes.max() > high + error:
        raise ValueError(
            f"interval must enclose the spectrum, but its upper end {high:.6g} lies below the Ritz value "
            f"{nodes.max():.6g}; raise it"
        )
    if high is None:
        # The largest Ritz value is near the largest eigenvalue, but below it: its last residual says how far
        # it may still be.
        high = float(nodes.max()) + max(top_residual(chain) for chain in chains)
    # A kernel stored in single precision may be indefinite by its storage error: bounds then are for the
    # nearest kernel above `low`, and the distance to it counts as error.
    below = max(0.0, low - float(nodes.min()))
    chains = tuple(replace(chain, error=chain.error + below + slack) for chain in chains)
    nodes, weights = (np.concatenate(column) for column in zip(*rules[:errors], strict=True))
    order = np.argsort(nodes, kind="stable")
    nodes = np.maximum(nodes, low)
    exact = all(chain.exhausted for chain in chains)
    return SpectralMeasure(nodes[order], weights[order], exact, chains, (low, max(high, low)), proved)
