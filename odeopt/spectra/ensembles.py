r"""Mean and covariance over initialisations: a random first function, trained by a linear rule or ODE.

A network of infinite width starts as a Gaussian process of covariance K, that of the NNGP kernel, and trains
with a kernel H that is the same for every draw. What it predicts is then linear in the first function,

.. math:: u_*(k)=s_ku_*(0)+H_*\bigl(F_k(H)u_X(0)-R_k(H)y\bigr),

:math:`s=1` and :math:`F=R=-\psi_k` where no weights decay to 0, with
:math:`u_*(k)=u_*(0)-H_*\psi_k(H)(u_X(0)-y)`. Hence

.. math:: \mu=-H_*R\,y,\qquad
    \Sigma=s^2K_{**}+s\,(H_*FK_{X*}+K_{*X}FH_*^\top)+H_*F\,K_{XX}FH_*^\top .

Of a network that is positively homogeneous of degree D in what is trained, :math:`Jw_0=Du(0)`, and decay to 0
gives :math:`s=1+D(\varphi_k(0)-1)` and :math:`F=D\,D_k+(1-D)R_k`, with the factors of
:mod:`odeopt.dynamics.displacement`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import sympy

from odeopt.checks import is_finite, real_array, validate_kernel
from odeopt.dynamics.displacement import displacement_factors
from odeopt.dynamics.modes import ModeSolution
from odeopt.kernels.memory import SHARE, available_memory
from odeopt.rules.base import UpdateRule
from odeopt.rules.linear import spectral_radius
from odeopt.rules.weight_decay import is_pulled_to_zero
from odeopt.spectra.curve import averaged, clock_of
from odeopt.spectra.ensemble_curve import EnsembleCurve
from odeopt.spectra.fixed_point import FixedPoint, fixed_point
from odeopt.spectra.measure import SpectralMeasure, require_measure
from odeopt.spectra.predictions import read_curve

__all__ = ["ensemble", "ensemble_limit", "require_room"]

# Of the smallest eigenvalue that training is to end by; below it fewer than four digits of 1/lambda are left.
_KNOWN = 1e-4


@dataclass(frozen=True)
class _Start:
    r"""The first function in the eigenvectors V of H: :math:`V^\top KV`, and seen from p points.

    `image` is :math:`H_*V`, `mixed` :math:`K_{*X}V`, `own` :math:`K_{**}` or its diagonal; the last two are
    None on the examples themselves, whose values need no other draw.
    """

    values: np.ndarray
    vectors: np.ndarray
    error: np.ndarray
    outputs: tuple[int, ...]
    inner: np.ndarray
    image: np.ndarray
    mixed: np.ndarray | None
    own: np.ndarray | None

    def moments(
        self, scale: np.ndarray, F: np.ndarray, R: np.ndarray, covariance: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Mean, variance and covariance of each row of the factors."""
        T, p, mixed = len(R), len(self.image), self.mixed
        mean, variance = np.empty((T, p, self.error.shape[1])), np.empty((T, p))
        whole = np.empty((T, p, p)) if covariance else None
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(T):
                mean[i] = (self.image * R[i]) @ self.error
                left, right, rest = self._factors(scale[i], F[i])
                variance[i] = np.einsum("pn,pn->p", left, right)
                if rest is not None and mixed is not None:
                    variance[i] += scale[i] * np.einsum("pn,pn->p", mixed, right)
                    variance[i] += rest if rest.ndim == 1 else np.diag(rest)
                if whole is not None:
                    one = left @ right.T
                    if rest is not None and mixed is not None:
                        one += scale[i] * (right @ mixed.T) + rest
                    whole[i] = (one + one.T) / 2
        variance = np.where(np.isnan(variance), np.inf, np.maximum(variance, 0.0))
        return mean.reshape(T, p, *self.outputs), variance, whole

    def _factors(self, s: float, F: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        r"""A, B and C of :math:`\Sigma=AB^\top+sBK_{X*}+C`; on the examples :math:`\Sigma=AB^\top`."""
        if self.mixed is None or self.own is None:  # a square, lest K - ... + ... cancel where training ends
            right = self.vectors * (s + self.values * F)
            return right @ self.inner, right, None
        right = self.image * F
        return right @ self.inner + s * self.mixed, right, s**2 * self.own


def ensemble(
    mode_or_rule: ModeSolution | UpdateRule,
    measure: SpectralMeasure,
    nngp: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    cross_kernel: npt.ArrayLike | None = None,
    cross_nngp: npt.ArrayLike | None = None,
    points_nngp: npt.ArrayLike | None = None,
    diag_reg: float = 0.0,
    degree: float | None = None,
    average: float | Literal["polyak"] | None = None,
    covariance: bool = False,
) -> EnsembleCurve:
    r"""Predict mean and covariance over initialisations, along training.

    On the training examples, or on points if the three kernels to them are given.

    Parameters
    ----------
    mode_or_rule : ModeSolution or UpdateRule
        The mode of an ODE, or a linear rule with numeric hyperparameters, schedules and decay included.
    measure : SpectralMeasure
        Of the kernel H and the mean error -y, ``spectral_measure(kernel, -y)``: all its eigenvectors serve
        all methods. Targets (n, c) are c independent outputs.
    nngp : array_like, shape (n, n)
        K, the covariance of the outputs at the start, as ``NetworkKernel(..., kind="nngp")(x)``.
    grid : array_like, shape (T,)
        Times for a mode; iteration numbers for a rule.
    cross_kernel, cross_nngp : array_like, shape (p, n), optional
        H and K between points and examples.
    points_nngp : array_like, shape (p,) or (p, p), optional
        K of the points: variances, or all of it for `covariance`.
    diag_reg : float, optional
        :math:`\rho\ge0`; training sees :math:`H+\rho I`, predictions H: the coupled decay of weights to
        their start with the factor :math:`\rho`, which ends in ridge regression; not beside decay to 0.
    degree : float, optional
        D of :math:`Jw_0=Du(0)`, needed where weights decay to 0: the number of trained layers of a ReLU
        network without biases.
    average : float or "polyak", optional
        Predict with averaged iterates, as :func:`odeopt.loss_curve`.
    covariance : bool, optional
        Keep the covariance between points too, T p^2 numbers.

    Returns
    -------
    EnsembleCurve
        Moments at each point of the grid, of the examples or of the points.

    Raises
    ------
    ValueError
        If shapes do not fit, a kernel is no covariance, the measure is by Lanczos or has an origin, weights
        decay to 0 and `degree` is missing, the rule is not linear, or what is asked for does not fit into
        the free memory.

    Notes
    -----
    It holds for the linear model: networks of width m, whose kernel is random and moves, leave it by
    :math:`O(m^{-1/2})`. Variances round like K; at times beyond 1/r, where r is what ``eigh`` rounds in H,
    eigenvalues below r are noise.

    References
    ----------
    .. [1] J. Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent",
       NeurIPS 2019 (gradient flow).

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import HeavyBall, spectral_measure
    >>> from odeopt.kernels import NetworkKernel
    >>> x, y, points = np.eye(2), np.array([1.0, -1.0]), np.array([[0.6, 0.8]])
    >>> ntk, nngp = NetworkKernel(), NetworkKernel(kind="nngp")
    >>> measure = spectral_measure(ntk(x), -y)
    >>> to_points = {
    ...     "cross_kernel": ntk(points, x),
    ...     "cross_nngp": nngp(points, x),
    ...     "points_nngp": nngp.diagonal(points),
    ... }
    >>> found = ensemble(HeavyBall(lr=0.2, momentum=0.5), measure, nngp(x), [0, 20, 200], **to_points)
    >>> found.mean[:, 0].round(3), found.std[:, 0].round(3)
    (array([ 0.   , -0.214, -0.216]), array([0.5  , 0.177, 0.177]))
    >>> ensemble(HeavyBall(lr=0.2, momentum=0.5), measure, nngp(x), [0, 5]).expected_loss(y).round(3)
    array([1.25 , 0.228])
    """
    if average is not None:
        mode_or_rule = averaged(mode_or_rule, average)
    grid, pulled, source = read_curve(mode_or_rule, grid)
    if not pulled and is_pulled_to_zero(mode_or_rule):
        pulled = f"the step of {source} pulls at the weights themselves, however little"
    points = {"cross_kernel": cross_kernel, "cross_nngp": cross_nngp, "points_nngp": points_nngp}
    start = _start(measure, nngp, points, len(grid), covariance)
    degree = _degree(degree, pulled, diag_reg)
    at_zero, D, R = displacement_factors(mode_or_rule, start.values + _regularised(diag_reg), grid)
    with np.errstate(over="ignore", invalid="ignore"):
        scale, F = (1 + degree * (at_zero - 1), degree * D + (1 - degree) * R) if pulled else (at_zero, R)
    return EnsembleCurve(
        *start.moments(scale, F, R, covariance), *clock_of(mode_or_rule, grid), source + _said(diag_reg)
    )


def ensemble_limit(
    rule: UpdateRule,
    measure: SpectralMeasure,
    nngp: npt.ArrayLike,
    *,
    cross_kernel: npt.ArrayLike | None = None,
    cross_nngp: npt.ArrayLike | None = None,
    points_nngp: npt.ArrayLike | None = None,
    diag_reg: float = 0.0,
    degree: float | None = None,
    covariance: bool = False,
) -> EnsembleCurve:
    r"""Mean and covariance over initialisations where a stable rule, and its ODE, end.

    Without decay all end alike, with :math:`\psi=(H+\rho)^{-1}`. With the NNGP kernel K in place of H that is
    the posterior of a Gaussian process given y; with a ridge that of noisy targets, if `nngp` is
    :math:`K+\rho I`, the first function and its noise.

    Parameters
    ----------
    rule : UpdateRule
        Linear, numeric and without schedules.
    measure : SpectralMeasure
        Of the kernel H and the mean error -y, with all eigenvectors, as of :func:`ensemble`.
    nngp : array_like, shape (n, n)
        K, the covariance of the outputs at the start.
    cross_kernel, cross_nngp : array_like, shape (p, n), optional
        H and K between points and examples.
    points_nngp : array_like, shape (p,) or (p, p), optional
        K of the points.
    diag_reg : float, optional
        The ridge :math:`\rho\ge0`.
    degree : float, optional
        D of :math:`Jw_0=Du(0)`, needed where weights decay to 0.
    covariance : bool, optional
        Keep the covariance between points too.

    Returns
    -------
    EnsembleCurve
        With T = 1, and neither times nor iterations.

    Raises
    ------
    ValueError
        As :func:`ensemble`; and if the rule does not end, or the kernel has eigenvalues within 10,000 times
        its rounding which nothing regularises, on which the end would depend.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import GradientDescent, spectral_measure
    >>> K, cross, own = np.array([[2.0, 1.0], [1.0, 2.0]]), [[1.0, 1.0]], [1.0]
    >>> measure = spectral_measure(K, [-3.0, -3.0])
    >>> points = {"cross_kernel": cross, "cross_nngp": cross, "points_nngp": own}
    >>> found = ensemble_limit(GradientDescent(0.1), measure, K, **points)
    >>> found.mean, found.variance.round(12)  # 1 - cross K^-1 cross^T
    (array([[2.]]), array([[0.33333333]]))
    """
    points = {"cross_kernel": cross_kernel, "cross_nngp": cross_nngp, "points_nngp": points_nngp}
    start = _start(measure, nngp, points, 1, covariance)
    end = fixed_point(rule)
    lam = start.values + _regularised(diag_reg)
    pulled = end.of_origin != 0
    R = _end(end, lam, measure.error)
    degree = _degree(degree, f"the end of {rule.label} depends on J w_0" if pulled else "", diag_reg)
    # what decays to 0 forgets its start: phi = 0 at every eigenvalue
    scale, F = (1 - degree, (1 - degree) * R) if pulled else (1.0, R)
    found = start.moments(np.array([scale]), F[None], R[None], covariance)
    return EnsembleCurve(*found, None, None, f"end of {rule.label}" + _said(diag_reg))


def _end(end: FixedPoint, lam: np.ndarray, rounding: float) -> np.ndarray:
    r""":math:`R_\infty=(\varphi_\infty+\chi_\infty-1)/\lambda`, with the division done in symbols."""
    rule = end.rule
    if end.of_origin != 0 and end.of_start != 0:
        raise ValueError(f"{rule.label} decays to 0 and holds on to its start; decay to one of them")
    quotient = sympy.cancel((end.of_start + end.of_origin - 1) / end.lam)
    if sympy.denom(quotient).subs(end.lam, 0) == 0 and lam.min() <= rounding / _KNOWN:
        raise ValueError(
            f"kernel has the eigenvalue {lam.min():.3g}, known to {rounding:.1g} only, on whose inverse the "
            f"end of {rule.label} depends; give diag_reg > 0, a weight_decay, or a finite time"
        )
    radius = spectral_radius(rule, lam)
    worst = int(np.argmax(radius))
    if not radius[worst] < 1:
        raise ValueError(
            f"{rule.label} is not known to end: at the eigenvalue {lam[worst]:.6g} its step has the spectral "
            f"radius {radius[worst]:.6g}; lower lr, or ask for finite times"
        )
    values = sympy.lambdify(end.lam, quotient, "numpy")(lam)
    return np.broadcast_to(np.asarray(values, dtype=float), lam.shape)


def _degree(degree: Any, pulled: str, diag_reg: Any) -> float:
    if degree is None:
        if pulled:
            raise ValueError(
                f"{pulled}, which the covariance of outputs does not tell; give degree, for which J w_0 = "
                "degree * u(0) (the number of trained layers without biases), or decay to_start"
            )
        return 0.0
    if not is_finite(degree):
        raise ValueError(f"degree must be a finite number, got {degree!r}")
    if pulled and degree and diag_reg:  # what no example sees would end between both
        raise ValueError(f"{pulled}, and diag_reg = {diag_reg!r} to their start; let weights decay to one")
    return float(degree)


def _regularised(diag_reg: Any) -> float:
    if not is_finite(diag_reg) or diag_reg < 0:
        raise ValueError(f"diag_reg must be a nonnegative number, got {diag_reg!r}; it is added to H")
    return float(diag_reg)


def _said(diag_reg: float) -> str:
    return f", kernel + {diag_reg:g}" if diag_reg else ""


def _start(measure: Any, nngp: Any, points: dict[str, Any], T: int, covariance: bool) -> _Start:
    """The first function in the eigenvectors of the measure, checked."""
    basis = require_measure(measure).basis
    part = basis.parts[0] if basis is not None and len(basis.parts) == 1 else None
    if basis is None or part is None or part.values is None:
        raise ValueError(
            "measure must hold all eigenvectors, of which covariances are made; take "
            "spectral_measure(kernel, -y), without num_matvecs and with keep_basis, or ensemble_at"
        )
    if basis.pulled:
        raise ValueError(
            "measure has an origin, the J w_0 of one network; that of an ensemble is random: take "
            "spectral_measure(kernel, -y), and degree"
        )
    missing = [name for name, value in points.items() if value is None]
    if 0 < len(missing) < len(points):
        raise ValueError(f"points need {', '.join(points)} together, but {', '.join(missing)} is missing")
    n = basis.shape[0]
    p = n if missing else len(real_array(points["cross_kernel"], "cross_kernel", ndim=2))
    pairs = (T + 3) * p**2 if covariance else 0
    needed = 8 * (5 * n**2 + 6 * n * p + T * (2 * n + 2 * p) + pairs)
    remedy = "take fewer points at a time, no covariance, or ensemble_at"
    require_room(needed, f"{n} examples, {p} points and {T} times", remedy)
    K = validate_kernel(nngp, name="nngp")
    if len(K) != n:
        raise ValueError(f"nngp must have shape ({n}, {n}) like the kernel, got {K.shape}")
    V = np.concatenate(part.vectors).T
    seen = (V * part.values, None, None)
    if not missing:
        cross, mixed, own = _of_points(points, K, covariance)
        seen = cross @ V, mixed @ V, own
    return _Start(part.values, V, part.error, basis.shape[1:], V.T @ K @ V, *seen)


def _of_points(
    points: dict[str, Any], K: np.ndarray, covariance: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels between points and examples, and those of the points."""
    cross, mixed = (real_array(points[name], name, ndim=2) for name in ("cross_kernel", "cross_nngp"))
    for name, value in (("cross_kernel", cross), ("cross_nngp", mixed)):
        if value.shape != (len(cross), len(K)):
            raise ValueError(
                f"{name} must have shape ({len(cross)}, {len(K)}), a row for each point and a column for "
                f"each example, got {value.shape}"
            )
    own = real_array(points["points_nngp"], "points_nngp", ndim=None)
    p = len(cross)
    if own.shape not in {(p,), (p, p)}:
        raise ValueError(f"points_nngp must have shape ({p},) or ({p}, {p}), got {own.shape}")
    if own.ndim == 1 and covariance:
        raise ValueError(f"covariance needs points_nngp between all points, shape ({p}, {p}), got ({p},)")
    if own.ndim == 2:
        own = validate_kernel(own, name="points_nngp")
    variances = np.diag(own) if own.ndim == 2 else own
    with np.errstate(invalid="ignore"):
        excess = np.abs(mixed) - np.sqrt(np.multiply.outer(variances, np.diag(K)))
    if variances.min() < 0 or excess.max() > 1e-10 * max(variances.max(), np.diag(K).max()):
        raise ValueError(
            "nngp, cross_nngp and points_nngp are no covariances of one function: some covariance exceeds "
            "the root of the product of its variances; take all three from one kernel"
        )
    return cross, mixed, own


def require_room(needed: int, what: str, remedy: str) -> None:
    """Refuse what would not fit into memory, before anything is computed."""
    limit = SHARE * available_memory()
    if needed > limit:
        raise ValueError(
            f"{what} need {needed / 2**30:.3g} GiB of the {limit / 2**30:.3g} GiB that may be used; {remedy}"
        )
