r"""Losses of the predictions: a convex :math:`\ell(u)=\sum_i\ell_i(u_i)` and its gradient, written once.

The same object trains a network (:mod:`odeopt.nets`, on torch tensors) and drives the ODE of its
predictions (:mod:`odeopt.dynamics.prediction`, on numpy arrays). This module imports no torch: a tensor
brings its own library along.
"""

from __future__ import annotations

import abc
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from odeopt.checks import is_number, real_array, require_choice

__all__ = ["LogisticLoss", "PredictionLoss", "SoftmaxLoss", "SquaredLoss", "require_loss"]


@dataclass(frozen=True)
class PredictionLoss(abc.ABC):
    r"""A convex loss of the predictions, summed over the examples; subclass it to define your own.

    A subclass is a frozen dataclass with `value` and `gradient`. The sum must have one term for each
    example, :math:`\ell(u)=\sum_i\ell_i(u_i)`. Where the constants below are known, set them as class
    attributes or properties: they say when a learning rate is stable, and with what constant the
    loss is strongly convex.

    Attributes
    ----------
    strong_convexity : float
        A number :math:`\mu\ge0` with :math:`\ell_i''\ge\mu`; 0 promises nothing.
    smoothness : float or None
        A number L with :math:`\ell_i''\le L`; None where there is none, or none is known.
    mean_factor : float
        The mean reduction of torch is ``mean_factor / N`` times the sum, N the number of its terms. It is 1,
        but for the mean of squares, which has no factor 1/2.
    joint : bool
        Whether a term takes all outputs of an example, as a softmax does: N = n then, else N = n c.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class LogCosh(PredictionLoss):
    ...     smoothness = 1.0
    ...
    ...     def value(self, u, y):
    ...         return np.log(np.cosh(u - y)).sum()
    ...
    ...     def gradient(self, u, y):
    ...         return np.tanh(u - y)
    >>> u, y = np.array([1.0, 2.0]), np.array([1.0, 1.0])
    >>> LogCosh().gradient(u, y).round(4), LogCosh().hessian_diagonal(u, y).round(4)
    (array([0.    , 0.7616]), array([1.  , 0.42]))
    """

    strong_convexity: ClassVar[float] = 0.0
    smoothness: ClassVar[float | None] = None
    mean_factor: ClassVar[float] = 1.0
    joint: ClassVar[bool] = False

    @abc.abstractmethod
    def value(self, u: Any, y: Any) -> Any:
        r"""Evaluate :math:`\ell(u)`, summed over the examples.

        Parameters
        ----------
        u : array_like or torch.Tensor, shape (n,) or (n, c)
            Predictions.
        y : array_like or torch.Tensor, shape of `u`
            Targets.

        Returns
        -------
        float or torch.Tensor, shape ()
            Of the kind of `u`.
        """

    @abc.abstractmethod
    def gradient(self, u: Any, y: Any) -> Any:
        r"""Evaluate :math:`\nabla\ell(u)`.

        Parameters
        ----------
        u : array_like or torch.Tensor, shape (n,) or (n, c)
            Predictions.
        y : array_like or torch.Tensor, shape of `u`
            Targets.

        Returns
        -------
        array, shape of `u`
            Of the kind of `u`.
        """

    def require_targets(self, y: Any) -> None:
        """Refuse targets of a training set that the loss cannot be trained on.

        Parameters
        ----------
        y : array_like or torch.Tensor, shape (n,) or (n, c)
            Targets of all examples.

        Raises
        ------
        ValueError
            As by :class:`SoftmaxLoss`, of a class without an example; by default of none.
        """

    def reduced(self, reduction: str, y: Any) -> float:
        """Factor of the sum under a reduction of torch.

        Parameters
        ----------
        reduction : {"sum", "mean"}
        y : array_like or torch.Tensor, shape (n,) or (n, c)
            Targets of all examples.

        Returns
        -------
        float
            1, or ``mean_factor / N``.

        Examples
        --------
        >>> SquaredLoss().reduced("mean", np.zeros((5, 2)))
        0.2
        """
        require_choice("reduction", reduction, ("sum", "mean"))
        terms = len(y) if self.joint else int(np.prod(np.shape(y)))
        return 1.0 if reduction == "sum" else self.mean_factor / terms

    def hessian_diagonal(self, u: Any, y: Any) -> Any:
        r"""Evaluate :math:`\ell_i''(u_i)`; by central differences of the gradient unless overridden.

        Parameters
        ----------
        u : array_like or torch.Tensor, shape (n,) or (n, c)
            Predictions.
        y : array_like or torch.Tensor, shape of `u`
            Targets.

        Returns
        -------
        array, shape of `u`
            Of the kind of `u`; the differences are accurate to some :math:`\epsilon^{2/3}`.
        """
        library, u, y = _pair(u, y)
        # All at once, because each component of the gradient depends on its own prediction alone.
        step = library.finfo(u.dtype).eps ** (1 / 3) * (1 + abs(u))
        above, below = u + step, u - step
        return (self.gradient(above, y) - self.gradient(below, y)) / (above - below)

    @property
    def label(self) -> str:
        """Name for legends and messages."""
        return repr(self)

    def latex(self) -> str:
        """Return the loss as LaTeX.

        Returns
        -------
        str
            An equation for the loss of u, without dollar signs.
        """
        return r"\ell(u)=\sum_i\ell_i(u_i)"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


@dataclass(frozen=True)
class SquaredLoss(PredictionLoss):
    r"""Half the squared norm of the error, :math:`\tfrac12\lVert u-y\rVert^2`; strongly convex and smooth.

    Examples
    --------
    >>> loss = SquaredLoss()
    >>> float(loss.value([1.0, 3.0], [1.0, 1.0])), loss.gradient([1.0, 3.0], [1.0, 1.0])
    (2.0, array([0., 2.]))
    """

    strong_convexity: ClassVar[float] = 1.0
    smoothness: ClassVar[float | None] = 1.0
    mean_factor: ClassVar[float] = 2.0

    def value(self, u: Any, y: Any) -> Any:
        error = self.gradient(u, y).reshape(-1)
        return (0.5 * error) @ error

    def gradient(self, u: Any, y: Any) -> Any:
        _, u, y = _pair(u, y)
        return u - y

    def hessian_diagonal(self, u: Any, y: Any) -> Any:
        library, u, _ = _pair(u, y)
        return library.ones_like(u)

    def latex(self) -> str:
        return r"\ell(u)=\tfrac12\lVert u-y\rVert^2"


@dataclass(frozen=True)
class LogisticLoss(PredictionLoss):
    r"""The logistic loss :math:`\sum_i\log(1+e^{-y_iu_i})+\tfrac\mu2\lVert u\rVert^2`, labels y = ±1.

    Parameters
    ----------
    ridge : float, optional
        :math:`\mu\ge0`, a penalty on the predictions (not on the weights).

    Notes
    -----
    With :math:`p_i=1/(1+e^{-u_i})`, :math:`\ell_i''=p_i(1-p_i)+\mu` lies in :math:`(\mu,\tfrac14+\mu]`.
    Without ridge the loss is strictly but **not strongly** convex and has no minimiser: it tends to 0
    only as every :math:`y_iu_i\to\infty`, and no exponential rate holds. With ridge it is
    :math:`\mu`-strongly convex. All formulas are safe from overflow at any u.

    Examples
    --------
    >>> loss = LogisticLoss()
    >>> float(loss.value([0.0, 1000.0], [1, 1])), loss.gradient([0.0, -1000.0], [1, 1])
    (0.6931471805599453, array([-0.5, -1. ]))
    >>> loss.strong_convexity, loss.smoothness, LogisticLoss(ridge=0.1).strong_convexity
    (0.0, 0.25, 0.1)
    """

    ridge: float = 0.0

    def __post_init__(self) -> None:
        if not is_number(self.ridge) or not 0 <= self.ridge < float("inf"):
            raise ValueError(f"ridge must be a nonnegative number, got {self.ridge!r}; leave it out for none")

    @property
    def strong_convexity(self) -> float:
        """The ridge; without it the loss is not strongly convex."""
        return float(self.ridge)

    @property
    def smoothness(self) -> float:
        """A quarter, more the ridge."""
        return 0.25 + self.ridge

    def value(self, u: Any, y: Any) -> Any:
        library, u, y = self._labelled(u, y)
        margin = y * u
        # log(1 + exp(-z)) = max(-z, 0) + log(1 + exp(-|z|)), whose exponential cannot overflow
        terms = (-margin).clip(min=0) + library.log1p(library.exp(-abs(margin)))
        return terms.sum() + 0.5 * self.ridge * (u.reshape(-1) @ u.reshape(-1))

    def gradient(self, u: Any, y: Any) -> Any:
        library, u, y = self._labelled(u, y)
        return self.ridge * u - y * _logistic(library, -y * u)

    def hessian_diagonal(self, u: Any, y: Any) -> Any:
        library, u, _ = self._labelled(u, y)
        return _logistic(library, u) * _logistic(library, -u) + self.ridge

    def _labelled(self, u: Any, y: Any) -> tuple[Any, Any, Any]:
        library, u, y = _pair(u, y)
        wrong = abs(y) != 1
        if wrong.any():
            raise ValueError(
                f"y must hold labels -1 and 1 for the logistic loss, got {float(y[wrong][0]):.6g}; "
                "map the two classes to -1 and 1"
            )
        return library, u, y

    def latex(self) -> str:
        ridge = rf"+\tfrac{{{self.ridge:.6g}}}{{2}}\lVert u\rVert^2" if self.ridge else ""
        return r"\ell(u)=\sum_i\log\left(1+e^{-y_iu_i}\right)" + ridge


@dataclass(frozen=True)
class SoftmaxLoss(PredictionLoss):
    r"""Cross-entropy of the softmax, :math:`\sum_i\bigl(\log\sum_je^{u_{ij}}-\sum_jy_{ij}u_{ij}\bigr)`.

    Targets y of shape (n, c) are one-hot, or probabilities of the classes: rows that sum to 1.

    Notes
    -----
    With :math:`p_i=\mathrm{softmax}(u_i)` the gradient is p - y, and :math:`\mathrm{diag}(p_i)-p_ip_i^\top`
    the Hessian of an example: at most :math:`\tfrac12I`, attained at :math:`p=(\tfrac12,\tfrac12,0,\dots)`,
    and 0 along :math:`(1,\dots,1)`, so that no exponential rate holds. Gradient descent of learning rate
    :math:`\eta` descends for every :math:`\eta<4/\lambda_{\max}(H)`. No larger number can promise that:
    contradictory labels of equal inputs attain it, though separable ones often descend far beyond. Two
    classes are the :class:`LogisticLoss` of :math:`u_{i1}-u_{i2}`, whose kernel is 2H. All formulas are safe
    from overflow and cancellation.

    Examples
    --------
    >>> loss = SoftmaxLoss()
    >>> float(loss.value([[0.0, 0.0]], [[1, 0]])), loss.gradient([[0.0, -1000.0]], [[0, 1]])
    (0.6931471805599453, array([[ 1., -1.]]))
    >>> from odeopt import GradientDescent, max_learning_rate
    >>> float(max_learning_rate(GradientDescent(0.1), loss.smoothness * 2.0))  # largest eigenvalue 2
    2.0
    """

    smoothness: ClassVar[float | None] = 0.5
    joint: ClassVar[bool] = True

    def require_targets(self, y: Any) -> None:
        self._parts(y, y)
        for j, share in enumerate(y.sum(0)):
            if share == 0:
                raise ValueError(
                    f"y has no example of the class of column {j}, whose output could only fall; leave that "
                    "output out, or give it an example"
                )

    def value(self, u: Any, y: Any) -> Any:
        library, gap, y, _, others = self._parts(u, y)
        return library.log1p(others.sum(1)).sum() - (y * gap).sum()

    def gradient(self, u: Any, y: Any) -> Any:
        library, _, y, top, others = self._parts(u, y)
        rest = others.sum(1)[:, None]
        # of the largest logit 1 - p is known without cancellation
        return library.where(top, (1 - y) - rest / (1 + rest), others / (1 + rest) - y)

    def hessian_diagonal(self, u: Any, y: Any) -> Any:
        r"""Evaluate the diagonal :math:`p_{ij}(1-p_{ij})` of the Hessian, which is none itself."""
        library, _, _, top, others = self._parts(u, y)
        rest = others.sum(1)[:, None]
        own = library.where(top, library.ones_like(others), others)
        return own * library.where(top, rest, 1 + rest - others) / (1 + rest) ** 2

    def _parts(self, u: Any, y: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Logits less the largest of their row, targets, where that is, and the exponentials elsewhere."""
        library, u, y = _pair(u, y)
        if u.ndim != 2 or u.shape[1] < 2:
            raise ValueError(
                f"u and y must have shape (n, c), c >= 2 classes, for {self!r}, got {tuple(u.shape)}; give "
                "the model an output a class, and y = one_hot(labels)"
            )
        # rounding of c probabilities, which may have come in float32, and of their sum
        rounding = max(library.finfo(kind).eps for kind in (u.dtype, library.float32))
        wrong = (y < 0).any(1) | ~(abs(y.sum(1) - 1) <= 2 * u.shape[1] * rounding)
        if wrong.any():
            row = [float(f"{v:.6g}") for v in y[wrong][0]]
            raise ValueError(
                f"y must hold rows of probabilities that sum to 1 for {self!r}, got a row {row}; make them "
                "of class labels by one_hot(labels)"
            )
        first = u.argmax(1)[:, None] == library.ones_like(u).cumsum(1) - 1
        gap = u - library.amax(u, 1)[:, None]
        return library, gap, y, first, library.where(first, library.zeros_like(u), library.exp(gap))

    def latex(self) -> str:
        return r"\ell(u)=\sum_i\left(\log\sum_je^{u_{ij}}-\sum_jy_{ij}u_{ij}\right)"


def require_loss(name: str, loss: Any) -> PredictionLoss:
    """Refuse what is no loss; `name` is the argument."""
    if not isinstance(loss, PredictionLoss):
        raise ValueError(f"{name} must be a PredictionLoss, got {loss!r}; subclass it, or take SquaredLoss()")
    return loss


def _logistic(library: Any, z: Any) -> Any:
    """Evaluate 1 / (1 + exp(-z)) with an exponential that cannot overflow."""
    small = library.exp(-abs(z))
    return library.where(z >= 0, library.ones_like(small), small) / (1 + small)


def _vector(values: Any, name: str) -> np.ndarray:
    """The values as float64; the arrays of an integration or a training go through unchecked."""
    known = type(values) is np.ndarray and values.dtype == np.float64
    return values if known else real_array(values, name, ndim=None, finite=False)


def _pair(u: Any, y: Any) -> tuple[Any, Any, Any]:
    """Return the library of `u`, and both as its arrays of one shape."""
    # A tensor exists only where torch is loaded already.
    library: Any = sys.modules["torch"] if type(u).__module__.partition(".")[0] == "torch" else np
    if library is np:
        u, y = _vector(u, "u"), _vector(y, "y")
    else:
        y = library.as_tensor(y, dtype=u.dtype, device=u.device)
    if u.shape != y.shape or u.ndim not in (1, 2):
        raise ValueError(
            "u and y must have one shape, (n,) or (n, c) for c outputs, got shapes "
            f"{tuple(u.shape)} and {tuple(y.shape)}; one_hot(labels) makes targets of class labels"
        )
    return library, u, y
