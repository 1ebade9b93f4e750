r"""The empirical kernel of any torch module, from products with its Jacobian alone.

For outputs :math:`u(w)\in\mathbb R^N` (all examples and outputs in one vector) with Jacobian J the
gradient of :math:`\tfrac12\lVert u-y\rVert^2` is :math:`J^\top\Delta`, and the kernel of the theory is
:math:`H=JJ^\top`. A product :math:`Hc=J(J^\top c)` is one reverse and one forward sweep of the module, so
that H acts without being stored; where it is small it is stored all the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn
from torch.func import functional_call, jvp, vjp, vmap

from odeopt.nets.module_checks import (
    fitting,
    float_inputs,
    require_deterministic,
    require_outputs,
    require_repeated,
    trained_parameters,
)

__all__ = ["EmpiricalOperator", "empirical_operator", "largest_eigenvalue"]

# Multiply-adds of J @ J.T up to which the matrix is computed at once (about a second on one core).
_SMALL_GRAM = 2 * 10**9
_BLOCK = 2**25  # entries of the Jacobian held at a time: two blocks of 256 MB of float64
# The largest eigenvalue: sizes at which the matrix itself is no more work than Lanczos, and the accuracy.
_FEW = 8
_RITZ = 1e-6


class EmpiricalOperator(LinearOperator):
    r"""Kernel :math:`H=\mathrm{scale}\cdot JJ^\top` at fixed weights; see :func:`empirical_operator`.

    Attributes
    ----------
    shape : tuple of int
        (N, N) with N = n for scalar outputs, N = n c for outputs of shape (n, c), example by example.
    predictions : numpy.ndarray, shape (N,)
        Outputs u at these weights, read-only; ``predictions - y.ravel()`` is the error for
        :func:`odeopt.spectral_measure`.
    scale : float
        1 for ``reduction="sum"``, 2/N for "mean".
    parameters : tuple of str
        Names of the parameters with respect to which J is taken.
    num_parameters : int
        Number of columns of J.
    """

    def __init__(self, model: _Model, scale: float) -> None:
        self.predictions = model.predictions
        super().__init__(np.dtype(np.float64), (self.predictions.size,) * 2)
        self.scale = scale
        self.parameters = tuple(model.weights)
        self.num_parameters = sum(p.numel() for p in model.weights.values())
        self._model = model
        self._gram: np.ndarray | None = None

    def gram(self) -> np.ndarray:
        r"""Return the kernel as an array.

        The rows of J are computed example by example and held in blocks, so that memory stays bounded;
        the cost is :math:`N^2P` multiply-adds for P parameters. Where examples influence each other
        (as in batch statistics) it is N products instead.

        Returns
        -------
        numpy.ndarray, shape (N, N)
            Symmetric, float64, read-only; kept for later products.
        """
        if self._gram is None:
            model = self._model
            gram = self.scale * (model.gram() if model.examples_are_independent() else model.product(None))
            gram = (gram + gram.T) / 2  # a product of two blocks and its mirror may round differently
            gram.setflags(write=False)
            self._gram = gram
        return self._gram

    def _matmat(self, columns: np.ndarray) -> np.ndarray:
        columns = np.asarray(columns, dtype=np.float64)
        if self._gram is not None:
            return self._gram @ columns
        return self.scale * self._model.product(columns)

    def _matvec(self, vector: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(vector, (-1, 1)))[:, 0]

    def _adjoint(self) -> EmpiricalOperator:
        return self


def empirical_operator(
    module: nn.Module,
    x: Any,
    *,
    params: Iterable[str] | None = None,
    reduction: str = "sum",
    batch_size: int | None = None,
    dense: bool | None = None,
) -> EmpiricalOperator:
    r"""Kernel :math:`H=JJ^\top` of any torch module at its current weights, as a linear operator.

    Parameters
    ----------
    module : torch.nn.Module
        A deterministic module from inputs, shape (n, ...), to outputs, shape (n,), (n, 1) or (n, c), of
        whatever dtype: weights and buffers are copied to float64 for the products.
    x : array_like or torch.Tensor, shape (n, ...)
        Inputs, floating-point.
    params : iterable of str, optional
        The trained weights: names of parameters, or of submodules for all their parameters. By
        default all that require a gradient.
    reduction : {"sum", "mean"}, optional
        "sum" for the loss :math:`\tfrac12\lVert u-y\rVert^2`; "mean" multiplies H by 2/N, the kernel of
        the mean of squares over all N = n c outputs (``torch.nn.MSELoss``).
    batch_size : int, optional
        Examples in one sweep of a product; by default all, whose activations are then kept in memory from
        one product to the next. Only for modules whose outputs do not depend on other examples.
    dense : bool, optional
        Compute the matrix at once, so that products are cheap. By default where that takes about a
        second. :meth:`EmpiricalOperator.gram` gives the matrix in any case.

    Returns
    -------
    EmpiricalOperator
        Symmetric positive semidefinite up to rounding, float64. Vectors are ordered example by
        example. The weights are those at the time of the call.

    Raises
    ------
    ValueError
        If the module is random (dropout in training mode) or changes itself (batch normalisation in
        training mode), has no trainable parameters, or gives outputs of another shape; if `x` is not
        finite or holds integers; if a name in `params` is unknown or an option out of range.

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
    require_deterministic(module)
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}; choose one of them")
    chosen = _chosen(module, params)
    if batch_size is not None and (
        isinstance(batch_size, bool) or int(batch_size) != batch_size or batch_size < 1
    ):
        raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}")
    inputs = torch.from_numpy(float_inputs(x)).to(next(iter(chosen.values())).device)
    model = _Model(module, chosen, inputs, batch_size)
    size = model.predictions.size
    operator = EmpiricalOperator(model, 1.0 if reduction == "sum" else 2.0 / size)
    if dense or (dense is None and size**2 * operator.num_parameters <= _SMALL_GRAM):
        operator.gram()
    return operator


def largest_eigenvalue(module: nn.Module, x: Any) -> float:
    r"""Largest eigenvalue of :math:`JJ^\top`, from some nine products and without the matrix.

    Parameters
    ----------
    module : torch.nn.Module
    x : array_like or torch.Tensor, shape (n, ...)

    Returns
    -------
    float
        A Ritz value, below the eigenvalue by a relative 1e-6 at most where the largest ones are apart.

    Raises
    ------
    ValueError
        As :func:`empirical_operator`, or if torch cannot form the products for this module.

    Examples
    --------
    >>> module = nn.Linear(2, 1, bias=False)
    >>> round(largest_eigenvalue(module, [[1.0, 0.0], [0.0, 3.0]]), 12)
    9.0
    """
    kernel = empirical_operator(module, x, dense=False)
    try:
        if len(kernel.predictions) <= _FEW:
            return float(np.linalg.eigvalsh(kernel.gram())[-1])
        start = kernel @ np.random.default_rng(0).standard_normal(len(kernel.predictions))
        if not start.any():
            return 0.0  # no weight moves an output: ARPACK has nothing to start from
        (value,) = eigsh(kernel, k=1, which="LA", v0=start, ncv=_FEW, tol=_RITZ, return_eigenvectors=False)
    except (NotImplementedError, RuntimeError) as error:  # ARPACK without convergence is one of the latter
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the stability limit of {type(module).__name__} could not be computed ({reason}); "
            "pass allow_unstable=True to train without it"
        ) from error
    return float(value)


def _chosen(module: nn.Module, params: Iterable[str] | None) -> dict[str, torch.Tensor]:
    """Parameters with respect to which J is taken."""
    known = dict(module.named_parameters())
    if params is None:
        return trained_parameters(module)
    wanted = [params] if isinstance(params, str) else list(params)
    for name in wanted:
        if not any(own == name or own.startswith(f"{name}.") for own in known):
            raise ValueError(
                f"params names {name!r}, but the module has {', '.join(known) or 'no parameters'}"
            )
    chosen = {k: p for k, p in known.items() if any(k == w or k.startswith(f"{w}.") for w in wanted)}
    if not chosen:
        raise ValueError("params must not be empty; leave it out for all trainable parameters")
    return chosen


class _Model:
    """The outputs of a module as a function of some of its weights, in float64."""

    def __init__(self, module: nn.Module, chosen: dict, x: torch.Tensor, batch_size: int | None) -> None:
        def copied(tensors):
            # Copies: the operator keeps its weights when the module is trained further.
            return {
                k: t.detach().to(torch.float64, copy=True) if t.is_floating_point() else t.detach().clone()
                for k, t in tensors
            }

        everything = copied([*module.named_parameters(), *module.named_buffers()])
        self.weights = {name: everything.pop(name) for name in chosen}
        self._module, self._rest, self.x = module, everything, x
        self._width = 1
        output = self._whole(x)
        require_repeated(output, self._whole(x))
        self._width = output.numel() // len(x)
        self.predictions = output.reshape(-1).cpu().numpy()
        if not np.isfinite(self.predictions).all():
            raise ValueError(
                "module has non-finite outputs at these weights; initialise it again, or scale x"
            )
        self.predictions.setflags(write=False)
        self._batches = (x,) if batch_size is None else x.split(batch_size)
        # On one batch the backward pass is recorded once and replayed in each product.
        self._pullback = vjp(self._function(x), self.weights)[1] if len(self._batches) == 1 else None

    def _function(self, x: torch.Tensor):
        def outputs(weights):
            return functional_call(self._module, {**self._rest, **weights}, (x,)).reshape(-1).double()

        return outputs

    @torch.no_grad()
    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        with fitting(x):
            output = functional_call(self._module, {**self._rest, **self.weights}, (x,))
        require_outputs(output, len(x), columns="c")
        return output.double()

    def product(self, columns: np.ndarray | None) -> np.ndarray:
        """Return J J^T times columns, shape (N, k); of the identity if None."""
        columns = np.eye(self.predictions.size) if columns is None else columns
        cotangents = torch.from_numpy(np.array(columns, dtype=np.float64)).to(self.x.device)
        return np.column_stack([self._one_product(c).cpu().numpy() for c in cotangents.T])

    def _one_product(self, cotangent: torch.Tensor) -> torch.Tensor:
        if self._pullback is not None:
            tangent = self._pullback(cotangent)[0]
            return self._push_forward(self.x, tangent)
        parts = cotangent.split([len(b) * self._width for b in self._batches])
        tangent = {name: torch.zeros_like(p) for name, p in self.weights.items()}
        for batch, part in zip(self._batches, parts, strict=True):
            for name, g in vjp(self._function(batch), self.weights)[1](part)[0].items():
                tangent[name] += g
        return torch.cat([self._push_forward(batch, tangent) for batch in self._batches])

    def _push_forward(self, x: torch.Tensor, tangent: dict) -> torch.Tensor:
        with warnings.catch_warnings():
            # The first forward sweep of a process makes torch compile with a function it has deprecated.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\b")
            return jvp(self._function(x), (self.weights,), (tangent,))[1]

    def examples_are_independent(self) -> bool:
        """Whether an example alone has the outputs it has among the others."""
        if self._pullback is None:
            return True  # what `batch_size` asks the user to know
        try:
            alone = torch.cat([self._whole(self.x[i : i + 1]).reshape(-1) for i in range(len(self.x))])
        except ValueError:  # statistics of a batch, of which one example has none
            return False
        gap = np.abs(alone.cpu().numpy() - self.predictions).max()
        # Sums of the same numbers in another order; an interaction of examples is far larger.
        return bool(gap <= 1e-9 * max(1.0, np.abs(self.predictions).max()))

    def _rows(self, examples: range) -> torch.Tensor:
        """Rows of J of some examples, shape (examples * c, P)."""
        rows = []
        for i in examples:
            _, pullback = vjp(self._function(self.x[i : i + 1]), self.weights)
            unit = torch.eye(self._width, dtype=torch.float64, device=self.x.device)
            (jacobian,) = vmap(pullback)(unit)
            rows.append(torch.cat([part.reshape(self._width, -1) for part in jacobian.values()], dim=1))
        return torch.cat(rows)

    def gram(self) -> np.ndarray:
        """J J^T by blocks of rows; those of the second factor are computed again for each of the first."""
        n, c = len(self.x), self._width
        parameters = sum(p.numel() for p in self.weights.values())
        step = max(1, _BLOCK // (parameters * c))
        blocks = [range(i, min(i + step, n)) for i in range(0, n, step)]
        gram = np.zeros((n * c, n * c))
        for number, first in enumerate(blocks):
            left = self._rows(first)
            for second in blocks[: number + 1]:
                right = left if second is first else self._rows(second)
                part = (left @ right.T).cpu().numpy()
                rows, columns = (slice(b.start * c, b.stop * c) for b in (first, second))
                gram[rows, columns] = part
                gram[columns, rows] = part.T
        return gram
