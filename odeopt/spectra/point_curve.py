r"""What predictions along training are worth on points with targets: loss, accuracy, where to stop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from odeopt.checks import frozen, real_array
from odeopt.dynamics.losses import PredictionLoss, SquaredLoss, require_loss
from odeopt.shown import Pictured, Summary, along, rows_at

__all__ = ["PointCurve", "class_accuracy"]


@dataclass(frozen=True, repr=False)
class PointCurve(Pictured):
    r"""Predictions on points along training.

    Parameters
    ----------
    u : numpy.ndarray, shape (T, p) or (T, p, c)
        Predictions; not finite where an unstable iteration has overflowed.
    t : numpy.ndarray, shape (T,), or None
        Times; None for a discrete curve.
    k : numpy.ndarray, shape (T,), or None
        Iterations; None for an ODE without a numeric time step.
    source : str
        What was evaluated.
    exact : numpy.ndarray of bool, shape (T,)
        Where Lanczos leaves nothing out, so that only rounding is between `u` and the linear model.
    error : numpy.ndarray, shape (T,)
        An estimate, not a bound, of the largest error of `u` that the truncation of Lanczos causes; 0 where
        `exact`, nan where none was asked for.
    bound : numpy.ndarray, shape (T,)
        A proved bound on the error of each entry of `u` as the prediction of the linear model of the kernel,
        rounding included; inf where none was asked for or is known. What rounds H_* itself is not in it.

    Examples
    --------
    >>> from odeopt import GradientDescent, predict, spectral_measure
    >>> measure = spectral_measure([[2.0]], [-1.0])  # one example, whose target is 1
    >>> found = predict(GradientDescent(0.25), measure, [[2.0], [1.0]], [0, 1, 2])
    >>> found.u  # a row a step, a column a point
    array([[0.   , 0.   ],
           [0.5  , 0.25 ],
           [0.75 , 0.375]])
    >>> found.loss([1.0, 0.0]), found.best([1.0, 0.0])
    (array([0.5      , 0.15625  , 0.1015625]), 2)
    """

    u: np.ndarray
    t: np.ndarray | None
    k: np.ndarray | None
    source: str
    exact: np.ndarray
    error: np.ndarray
    bound: np.ndarray

    _drawn_by = "predictions"

    def _summary(self) -> Summary:
        kind = "exact but for rounding" if self.exact.all() else f"estimated within {self.error.max():.1g}"
        if np.isfinite(self.bound).all():
            kind = f"proved within {self.bound.max():.1g}"
        facts = [along(self), f"predictions of shape {self.u.shape[1:]}", kind, self.source]
        seen = list(np.ndindex(self.u.shape[1:]))[:4]
        outputs = {f"u{list(at)}": self.u[(slice(None), *at)] for at in seen}
        bound = self.bound if np.isfinite(self.bound).any() else None
        columns = {"k": self.k, "t": self.t, **outputs, "estimated error": self.error, "bound": bound}
        return Summary(facts, *rows_at(columns))

    def __post_init__(self) -> None:
        for name in ("u", "exact", "error", "bound"):
            getattr(self, name).setflags(write=False)

    def loss(self, y: npt.ArrayLike, objective: PredictionLoss | None = None) -> npt.NDArray[np.float64]:
        r"""Half the squared distance from targets, or another loss, summed over points and outputs.

        Parameters
        ----------
        y : array_like, shape (p,) or (p, c)
            Targets of the points.
        objective : PredictionLoss, optional
            As :class:`odeopt.SoftmaxLoss`, for predictions that were trained by it.

        Returns
        -------
        numpy.ndarray, shape (T,)
            Infinite where `u` is not finite.

        Examples
        --------
        >>> u = np.array([[0.0, 0.0], [1.0, 1.0]])
        >>> PointCurve(u, None, None, "", np.ones(2, bool), np.zeros(2), np.zeros(2)).loss([1.0, 2.0])
        array([2.5, 0.5])
        """
        targets = real_array(y, "y", ndim=self.u.ndim - 1)
        if targets.shape != self.u.shape[1:]:
            raise ValueError(
                f"y must have shape {self.u.shape[1:]} like the predictions, got {targets.shape}"
            )
        value = require_loss("objective", SquaredLoss() if objective is None else objective).value
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.array([float(value(u, targets)) for u in self.u])
        return frozen(np.where(np.isnan(found), np.inf, found))

    def best(self, y: npt.ArrayLike, objective: PredictionLoss | None = None) -> int:
        """Index in the grid of the smallest loss: where training would best have been stopped.

        Parameters
        ----------
        y : array_like, shape (p,) or (p, c)
            Targets of the points.
        objective : PredictionLoss, optional
            As for :meth:`loss`.

        Returns
        -------
        int
            The first of equal ones.

        Raises
        ------
        ValueError
            If the targets have another shape, or no loss is finite.

        Examples
        --------
        >>> u, zero = np.array([[0.0], [0.9], [1.5]]), np.zeros(3)
        >>> PointCurve(u, None, None, "", zero == 0, zero, zero).best([1.0])
        1
        """
        loss = self.loss(y, objective)
        if not np.isfinite(loss).any():
            raise ValueError(f"no loss of {self.source} is finite on this grid; lower lr, or begin at k = 0")
        return int(np.argmin(loss))

    def accuracy(self, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Share of the points whose class is predicted: the largest output, or of one output the sign.

        Parameters
        ----------
        labels : array_like of int, shape (p,)
            The number of the output, from 0 on; for one output -1 or 1.

        Returns
        -------
        numpy.ndarray, shape (T,)
            Between 0 and 1.

        Raises
        ------
        ValueError
            If a label is none of a class.

        Examples
        --------
        >>> u = np.array([[[0.6, 0.4], [0.1, 0.9]]])
        >>> PointCurve(u, None, None, "", np.ones(1, bool), np.zeros(1), np.zeros(1)).accuracy([0, 0])
        array([0.5])
        """
        return class_accuracy(self.u, labels)


def class_accuracy(u: np.ndarray, labels: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Share of the rows of outputs, shape (T, p) or (T, p, c), whose class is predicted; (T,)."""
    classes = real_array(labels, "labels", ndim=1)
    single = u.ndim == 2 or u.shape[2] == 1
    known = (-1, 1) if single else range(u.shape[2])
    if classes.size != u.shape[1] or not np.isin(classes, known).all():
        wanted = "-1 or 1" if single else f"0 to {known[-1]}"
        raise ValueError(
            f"labels must be {u.shape[1]} numbers of classes, {wanted}, got {classes.size} from "
            f"{classes.min():.6g} to {classes.max():.6g}"
        )
    signs = np.where(u.reshape(len(u), u.shape[1], -1)[..., 0] >= 0, 1, -1)
    return frozen(((signs if single else u.argmax(axis=2)) == classes).mean(axis=1))
