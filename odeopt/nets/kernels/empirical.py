r"""The empirical kernel of any torch module, from products with its Jacobian alone.

For outputs :math:`u(w)\in\mathbb R^N` (all examples and outputs in one vector) with Jacobian J the
gradient of :math:`\tfrac12\lVert u-y\rVert^2` is :math:`J^\top\Delta`, and the kernel of the theory is
:math:`H=JJ^\top`. A product :math:`Hc=J(J^\top c)` is one reverse and one forward sweep of the module, so
that H acts without being stored; where it is small it is stored all the same.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import eigsh
from torch import nn

from odeopt.checks import require_choice, require_integer
from odeopt.kernels.blocks import SymmetricOperator
from odeopt.kernels.shared_rows import warn_of_shared_rows
from odeopt.nets.kernels.cross import EmpiricalCross
from odeopt.nets.kernels.jacobian import Jacobian
from odeopt.nets.module_checks import inputs_of, require_module, trained_parameters

__all__ = ["EmpiricalOperator", "empirical_operator", "largest_eigenvalue"]

# Multiply-adds of J @ J.T up to which the matrix is computed at once (about a second on one core).
_SMALL_GRAM = 2 * 10**9
# The largest eigenvalue: sizes at which the matrix itself is no more work than Lanczos, and the accuracy.
_FEW = 8
_RITZ = 1e-6


class EmpiricalOperator(SymmetricOperator):
    r"""Kernel :math:`H=\mathrm{scale}\cdot JJ^\top` at fixed weights; see :func:`empirical_operator`.

    Parameters
    ----------
    jacobian : Jacobian
        J, its products and its rows.
    scale : float
        1 for ``reduction="sum"``, 2/N for "mean".

    Attributes
    ----------
    shape : tuple of int
        (N, N) with N = n for scalar outputs, N = n c for outputs of shape (n, c), example by example.
    predictions : numpy.ndarray, shape (N,)
        Outputs u at these weights, read-only; ``predictions - y.ravel()`` is the error for
        :func:`odeopt.spectral_measure`.
    parameters : tuple of str
        Names of the parameters with respect to which J is taken.
    num_parameters : int
        Number of columns of J.

    Examples
    --------
    >>> from odeopt.nets import TwoLayerReLU
    >>> kernel = empirical_operator(TwoLayerReLU(3, 50), np.eye(3), reduction="mean")
    >>> kernel.shape, kernel.parameters, kernel.num_parameters, round(kernel.scale, 6)
    ((3, 3), ('weights',), 150, 0.666667)
    """

    def __init__(self, jacobian: Jacobian, scale: float) -> None:
        self.predictions: np.ndarray = jacobian.predictions
        super().__init__(np.dtype(np.float64), (self.predictions.size, self.predictions.size))
        self.scale = scale
        self.parameters: tuple[str, ...] = jacobian.names
        self.num_parameters: int = jacobian.size
        self._jacobian = jacobian
        self._gram: np.ndarray | None = None

    @functools.cached_property
    def origin(self) -> np.ndarray:
        r""":math:`Jw_0`, shape (N,), the image of the weights under the Jacobian: weight decay pulls at it.

        One forward sweep. Of a network that is homogeneous of degree D in what is trained it is
        :math:`Du_0`: D = 1 for one layer, 2 for two; biases break that.

        Examples
        --------
        >>> from odeopt.nets import TwoLayerReLU
        >>> x = np.eye(3)
        >>> one, both = (empirical_operator(TwoLayerReLU(3, 50, layers=of), x) for of in ("first", "both"))
        >>> np.allclose(one.origin, one.predictions), np.allclose(both.origin, 2 * both.predictions)
        (True, True)
        """
        found = self._jacobian.origin()
        found.setflags(write=False)
        return found

    def gram(self) -> np.ndarray:
        r"""Return the kernel as an array.

        Of a linear or convolutional layer, whose weight is used once, it is a product of Gram matrices of
        inputs and cotangents, or of rows of J, whichever is less work, from c backward passes for all
        examples together; of other weights the rows of J are computed in batches of examples. Blocks hold at
        most some 800 MB besides the recorded pass and the matrix. Where examples influence each other (as in
        batch statistics) it is N products instead. Whatever the way, :math:`J^\top c` and
        :math:`c^\top JJ^\top c` for a random c are compared with a backward pass of the module itself.

        Returns
        -------
        numpy.ndarray, shape (N, N)
            Symmetric, float64, read-only; kept for later products.
        """
        if self._gram is None:
            gram = self.scale * self._jacobian.gram()
            gram = (gram + gram.T) / 2  # a product of two blocks and its mirror may round differently
            gram.setflags(write=False)
            self._gram = gram
        return self._gram

    def _product(self, columns: np.ndarray) -> np.ndarray:
        if self._gram is None and not self._jacobian.differentiable_twice():
            self.gram()  # a product would take as many passes as the matrix
        if self._gram is not None:
            return self._gram @ columns
        device = self._jacobian.device
        products = [
            self._jacobian.product(torch.from_numpy(c.copy()).to(device)).cpu().numpy() for c in columns.T
        ]
        return self.scale * np.column_stack(products)


@overload
def empirical_operator(
    module: nn.Module,
    x: npt.ArrayLike | torch.Tensor,
    x2: None = None,
    *,
    params: str | Iterable[str] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    batch_size: int | None = None,
    dense: bool | None = None,
) -> EmpiricalOperator: ...
@overload
def empirical_operator(
    module: nn.Module,
    x: npt.ArrayLike | torch.Tensor,
    x2: npt.ArrayLike | torch.Tensor,
    *,
    params: str | Iterable[str] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    batch_size: int | None = None,
    dense: bool | None = None,
) -> EmpiricalCross: ...
def empirical_operator(
    module: nn.Module,
    x: npt.ArrayLike | torch.Tensor,
    x2: npt.ArrayLike | torch.Tensor | None = None,
    *,
    params: str | Iterable[str] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    batch_size: int | None = None,
    dense: bool | None = None,
) -> EmpiricalOperator | EmpiricalCross:
    r"""Kernel :math:`H=JJ^\top` of any torch module at its current weights, as a linear operator.

    Parameters
    ----------
    module : torch.nn.Module
        A deterministic module from inputs, shape (n, ...), to outputs, shape (n,), (n, 1) or (n, c), of
        whatever dtype: weights and buffers are copied to float64 for the products. It is left as it was.
    x : array_like or torch.Tensor, shape (n, ...)
        Inputs: real numbers, or integers where the module takes those (tokens).
    x2 : array_like or torch.Tensor, shape (n2, ...), optional
        Inputs that are trained on where `x` are points that are not: the kernel between both,
        :math:`H_*=J_*J^\top`, for :func:`odeopt.predict`. A warning names rows that both sets hold.
    params : str or iterable of str, optional
        The trained weights: names of parameters, or of submodules for all their parameters; a tied weight
        has any of its names. By default all that require a gradient. A complex weight counts as two.
    reduction : {"sum", "mean"}, optional
        "sum" for the loss :math:`\tfrac12\lVert u-y\rVert^2`; "mean" multiplies H by 2/N, the kernel of
        the mean of squares over all N = n c outputs (``torch.nn.MSELoss``) that are trained on.
    batch_size : int, optional
        Examples in one sweep of a product; by default all, whose activations are then kept in memory from
        one product to the next. Only for modules whose outputs do not depend on other examples.
    dense : bool, optional
        Compute the matrix at once, so that products are cheap. By default where that takes about a
        second. :meth:`EmpiricalOperator.gram` gives the matrix in any case. Not for two sets.

    Returns
    -------
    EmpiricalOperator, or EmpiricalCross for two sets
        Symmetric positive semidefinite up to rounding, float64. Vectors are ordered example by
        example. The weights are those at the time of the call.

    Raises
    ------
    ValueError
        If the module is random (dropout in training mode) or changes itself (batch normalisation in
        training mode), reads its weights from elsewhere than its attributes, has no trainable parameters, or
        gives outputs of another shape; if `x` is not finite or does not fit; if a name in `params` is
        unknown or an option out of range.

    Examples
    --------
    The discrete loss of gradient descent on a deep network, predicted before it is trained:

    >>> from odeopt import GradientDescent, loss_curve, spectral_measure
    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> module = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    >>> x, y = np.eye(3), np.array([1.0, 0.0, -1.0])
    >>> kernel = empirical_operator(module, x)
    >>> kernel.shape, kernel.num_parameters
    ((3, 3), 4481)
    >>> measure = spectral_measure(kernel.gram(), kernel.predictions - y)
    >>> curve = loss_curve(GradientDescent(lr=0.1), measure, range(50))
    >>> bool(curve.loss[-1] < curve.loss[0])
    True
    """
    require_module(module)
    require_choice("reduction", reduction, ("sum", "mean"))
    chosen = _chosen(module, params)
    batch_size = None if batch_size is None else require_integer("batch_size", batch_size, 1)
    jacobian = Jacobian(module, chosen, inputs_of(x), batch_size)
    if x2 is not None:
        if dense:
            raise ValueError("dense is for one set of inputs; multiply the operator by an identity matrix")
        examples = Jacobian(module, chosen, inputs_of(x2, "x2"), batch_size)
        warn_of_shared_rows(*(np.reshape(j.x.cpu().numpy(), (len(j.x), -1)) for j in (jacobian, examples)))
        return EmpiricalCross(
            jacobian, examples, 1.0 if reduction == "sum" else 2.0 / examples.predictions.size
        )
    size = jacobian.predictions.size
    operator = EmpiricalOperator(jacobian, 1.0 if reduction == "sum" else 2.0 / size)
    if dense or (dense is None and size**2 * operator.num_parameters <= _SMALL_GRAM):
        operator.gram()
    return operator


def largest_eigenvalue(module: nn.Module, x: npt.ArrayLike | torch.Tensor) -> float:
    r"""Largest eigenvalue of :math:`JJ^\top`: a Ritz value, from some nine products and without the matrix.

    It is below the eigenvalue by a relative 1e-6 at most where the largest ones are apart.

    >>> round(largest_eigenvalue(nn.Linear(2, 1, bias=False), [[1.0, 0.0], [0.0, 3.0]]), 12)
    9.0
    """
    kernel = empirical_operator(module, x, dense=False)
    if len(kernel.predictions) <= _FEW:
        return float(np.linalg.eigvalsh(kernel.gram())[-1])
    start = kernel @ np.random.default_rng(0).standard_normal(len(kernel.predictions))
    if not start.any():
        return 0.0  # no weight moves an output: ARPACK has nothing to start from
    (value,) = eigsh(kernel, k=1, which="LA", v0=start, ncv=_FEW, tol=_RITZ, return_eigenvectors=False)
    return float(value)


def _chosen(module: nn.Module, params: Iterable[str] | None) -> dict[str, nn.Parameter]:
    """Parameters with respect to which J is taken, each by the first of its names."""
    if params is None:
        return trained_parameters(module)
    first = {id(p): name for name, p in module.named_parameters()}
    known = dict(module.named_parameters(remove_duplicate=False))  # a tied weight by any of its names
    wanted = [params] if isinstance(params, str) else list(params)
    chosen: dict[str, nn.Parameter] = {}
    for name in wanted:
        found = {own: p for own, p in known.items() if own == name or own.startswith(f"{name}.")}
        if not found:
            raise ValueError(
                f"params names {name!r}, but the module has {', '.join(known) or 'no parameters'}"
            )
        chosen |= {first[id(p)]: p for p in found.values()}
    if not chosen:
        raise ValueError("params must not be empty; leave it out for all trainable parameters")
    for name, p in chosen.items():
        if not (p.is_floating_point() or p.is_complex()):
            raise ValueError(f"params names {name!r}, of dtype {p.dtype}, by which there is no derivative")
    return {name: p for name, p in module.named_parameters() if name in chosen}
