"""Mean and covariance over initialisations along training, and what they say of losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen, real_array
from odeopt.shown import Pictured, Summary, along, rows_at

__all__ = ["EnsembleCurve"]


@dataclass(frozen=True, repr=False)
class EnsembleCurve(Pictured):
    r"""Mean and covariance of predictions over initialisations, along training.

    Parameters
    ----------
    mean : numpy.ndarray, shape (T, p) or (T, p, c)
        Not finite where an unstable iteration has overflowed.
    variance : numpy.ndarray, shape (T, p)
        Of each point; of several outputs, which are independent, that of each one. inf where it overflowed.
    covariance : numpy.ndarray, shape (T, p, p), or None
        Between points, where it was asked for.
    t : numpy.ndarray, shape (T,), or None
        Times; None for a discrete curve.
    k : numpy.ndarray, shape (T,), or None
        Iterations; None for an ODE without a numeric time step, and for the end of training.
    source : str
        What was evaluated.
    mean_error, variance_error : numpy.ndarray, shape (T,), or None
        Estimates, not bounds, of the largest errors of `mean` and `variance` that the truncation of Lanczos
        causes; 0 where it leaves nothing out, None if all eigenvectors were used.
    mean_bound, variance_bound : numpy.ndarray, shape (T,), or None
        Proved bounds on these errors and on those of rounding, for the kernels as they were given; inf where
        none is known, None where none was asked for.

    Examples
    --------
    >>> from odeopt import GradientDescent, spectral_measure
    >>> from odeopt.spectra import ensemble
    >>> measure = spectral_measure([[2.0]], [-1.0])  # one example, whose target is 1
    >>> found = ensemble(GradientDescent(0.25), measure, [[1.0]], [0, 1, 2])
    >>> found.mean[:, 0], found.std[:, 0]
    (array([0.  , 0.5 , 0.75]), array([1.  , 0.5 , 0.25]))
    >>> found.loss_of_mean([1.0]), found.expected_loss([1.0])
    (array([0.5    , 0.125  , 0.03125]), array([1.    , 0.25  , 0.0625]))
    """

    mean: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray | None
    t: np.ndarray | None
    k: np.ndarray | None
    source: str
    mean_error: np.ndarray | None = None
    variance_error: np.ndarray | None = None
    mean_bound: np.ndarray | None = None
    variance_bound: np.ndarray | None = None

    def __post_init__(self) -> None:
        for values in vars(self).values():
            if isinstance(values, np.ndarray):
                values.setflags(write=False)

    _drawn_by = "ensemble"

    def _summary(self) -> Summary:
        kind = "by all eigenvectors" if self.mean_error is None else "by Lanczos, exact but for rounding"
        if self.mean_error is not None and self.mean_error.any():
            kind = f"means estimated within {self.mean_error.max():.1g}"
        if self.mean_bound is not None and np.isfinite(self.mean_bound).all():
            kind = f"means proved within {self.mean_bound.max():.1g}"
        points, means = self.variance.shape[1], self.mean.reshape(*self.variance.shape, -1)
        columns = {"k": self.k, "t": self.t}
        for i in range(min(points, 3)):
            columns |= {f"mean[{i}]": means[:, i, 0], f"s.d.[{i}]": self.std[:, i]}
        return Summary([along(self), f"{points} point(s)", kind, self.source], *rows_at(columns))

    @property
    def std(self) -> np.ndarray:
        """Standard deviations, shape (T, p)."""
        return np.sqrt(self.variance)

    def loss_of_mean(self, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        r"""Half the squared distance of the mean from targets: the loss of an ensemble that votes.

        Parameters
        ----------
        y : array_like, shape (p,) or (p, c)
            Targets of the points.

        Returns
        -------
        numpy.ndarray, shape (T,)
            Summed over points and outputs; inf where the mean is not finite.

        Raises
        ------
        ValueError
            If the targets have another shape than the predictions.

        Examples
        --------
        >>> curve = EnsembleCurve(np.array([[1.0, 0.0]]), np.array([[0.5, 0.25]]), None, None, None, "")
        >>> curve.loss_of_mean([0.0, 0.0])
        array([0.5])
        """
        targets = real_array(y, "y", ndim=self.mean.ndim - 1)
        if targets.shape != self.mean.shape[1:]:
            raise ValueError(f"y must have shape {self.mean.shape[1:]} like the mean, got {targets.shape}")
        with np.errstate(over="ignore", invalid="ignore"):
            found = 0.5 * ((self.mean - targets) ** 2).reshape(len(self.mean), -1).sum(axis=1)
        return frozen(np.where(np.isnan(found), np.inf, found))

    def expected_loss(self, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        r"""Return the mean of the losses, :math:`\tfrac12|\mu-y|^2+\tfrac c2\mathrm{tr}\,\Sigma`.

        Parameters
        ----------
        y : array_like, shape (p,) or (p, c)
            Targets of the points.

        Returns
        -------
        numpy.ndarray, shape (T,)
            What one network of the ensemble is expected to have; :meth:`loss_of_mean` is below.

        Raises
        ------
        ValueError
            If the targets have another shape than the predictions.

        Examples
        --------
        >>> curve = EnsembleCurve(np.array([[1.0, 0.0]]), np.array([[0.5, 0.25]]), None, None, None, "")
        >>> curve.expected_loss([0.0, 0.0])
        array([0.875])
        """
        outputs = self.mean.shape[2] if self.mean.ndim == 3 else 1
        with np.errstate(over="ignore"):
            return frozen(self.loss_of_mean(y) + 0.5 * outputs * self.variance.sum(axis=1))
