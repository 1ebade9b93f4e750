r"""Training by an update rule's own step: the third reading of :class:`odeopt.methods.UpdateRule`.

The loss is any :class:`odeopt.losses.PredictionLoss`, by default :math:`L=\tfrac12\lVert u-y\rVert^2`,
summed over the examples. The mean reductions of torch are converted here and nowhere else: the gradient
of the mean of squares (``torch.nn.MSELoss``) is 2/n times that of L, so a run with ``reduction="mean"``
follows the theory with the kernel (2/n) H; for the logistic loss it is 1/n.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from odeopt.kernels import real_array
from odeopt.losses import PredictionLoss, SquaredLoss
from odeopt.methods import UpdateRule, iterate
from odeopt.nets.relu import empirical_gram, has_closed_form

__all__ = ["TrainingRun", "train"]

_RECORDED = 1000  # number of steps recorded by default
# Multiply-adds of one product below which a second thread does not pay (a few ms on one core).
_SMALL_PRODUCT = 10**8


@dataclass(frozen=True)
class TrainingRun:
    r"""What :func:`train` measured; arrays are float64 (steps: int64) and read-only.

    Attributes
    ----------
    rule : UpdateRule
        The method that was run.
    num_steps : int
        The number of steps asked for.
    width : int or None
        Number of hidden neurons; None for a module other than :class:`odeopt.nets.TwoLayerReLU`.
    objective : PredictionLoss
        The loss that was descended.
    kernel_scale : float
        1 for ``reduction="sum"``; for "mean" 2/n with the squared loss, 1/n with others: the run
        follows the theory with the kernel ``kernel_scale * initial_kernel``.
    diverged_at : int or None
        The first step whose loss was not finite; the record ends before it.
    k : numpy.ndarray, shape (K,)
        Recorded steps, increasing, beginning with 0.
    loss : numpy.ndarray, shape (K,)
        The objective, summed, at :math:`x_k` (not at an extrapolated point), whatever the
        reduction; by default :math:`L_k=\tfrac12\lVert\Delta_k\rVert^2`.
    predictions : numpy.ndarray, shape (K, n)
        Outputs :math:`u_k`.
    targets : numpy.ndarray, shape (n,)
        y, rounded to the dtype of the network.
    initial_kernel : numpy.ndarray, shape (n, n), or None
        :math:`H(0)`; None for a module other than :class:`odeopt.nets.TwoLayerReLU`.
    kernel_k : numpy.ndarray, shape (M,)
        Steps at which the kernel was computed.
    kernel_drift : numpy.ndarray, shape (M,)
        Spectral norms :math:`\lVert H(k)-H(0)\rVert_2`.
    """

    rule: UpdateRule
    num_steps: int
    width: int | None
    objective: PredictionLoss
    kernel_scale: float
    diverged_at: int | None
    k: np.ndarray = field(repr=False)
    loss: np.ndarray = field(repr=False)
    predictions: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    initial_kernel: np.ndarray | None = field(repr=False)
    kernel_k: np.ndarray = field(repr=False)
    kernel_drift: np.ndarray = field(repr=False)

    @property
    def label(self) -> str:
        """Name of the method, with the width where it is known."""
        return self.rule.label if self.width is None else f"{self.rule.label}, m={self.width}"

    @property
    def errors(self) -> np.ndarray:
        r""":math:`\Delta_k=u_k-y`, shape (K, n)."""
        return _frozen(self.predictions - self.targets)

    @property
    def relative_kernel_drift(self) -> np.ndarray:
        r""":math:`\lVert H(k)-H(0)\rVert_2/\lVert H(0)\rVert_2` at the steps `kernel_k`, shape (M,)."""
        if self.initial_kernel is None:
            return self.kernel_drift
        return self.kernel_drift / _spectral_norm(self.initial_kernel)


def train(
    net: nn.Module,
    rule: UpdateRule,
    x: Any,
    y: Any,
    num_steps: int,
    *,
    loss: PredictionLoss | None = None,
    record_at: Iterable[int] | None = None,
    kernel_at: Iterable[int] | None = None,
    reduction: str = "sum",
    allow_unstable: bool = False,
    progress: Callable[[int, float], object] | None = None,
) -> TrainingRun:
    r"""Train a network on the full batch by the rule's own step, and record its predictions.

    All trainable parameters form one vector :math:`x_k`, and
    :func:`odeopt.methods.iterate` runs the rule on it with the gradient :math:`J^\top\nabla\ell(u)` of
    the loss, on the device and in the dtype of the network.

    Parameters
    ----------
    net : torch.nn.Module
        A deterministic module from inputs, shape (n, ...), to outputs, shape (n,) or (n, 1). It is
        left with the weights of the last step (also when the run is interrupted), after
        divergence with the last ones of finite loss.
    rule : UpdateRule
        The method, with numeric hyperparameters.
    x : array_like or torch.Tensor, shape (n, ...)
        Inputs; converted to the dtype and device of the network.
    y : array_like or torch.Tensor, shape (n,)
        Targets.
    num_steps : int
        Number of steps, at least 1.
    loss : PredictionLoss, optional
        What is minimised; by default :math:`\tfrac12\lVert u-y\rVert^2`.
    record_at : iterable of int, optional
        Steps at which loss and predictions are kept; step 0 always is. By default every step, or
        about 1000 evenly spaced ones, the last included, if there are more.
    kernel_at : iterable of int, optional
        Steps at which the kernel drift is computed, for :class:`odeopt.nets.TwoLayerReLU`. By
        default none: it costs :math:`O(n^2m)` each.
    reduction : {"sum", "mean"}, optional
        "mean" descends the mean of torch: of squares (``torch.nn.MSELoss``), a gradient 2/n times that
        of L, or of the terms of another loss, 1/n. The recorded loss is the sum in both cases.
    allow_unstable : bool, optional
        Run a learning rate above the stability limit.
    progress : callable, optional
        Called as ``progress(k, loss)`` after each step.

    Returns
    -------
    TrainingRun
        The record; a run that diverged stops early and says so in `diverged_at`.

    Raises
    ------
    ValueError
        If the learning rate exceeds the stability limit of the linearised dynamics at
        :math:`H(0)`, times the smoothness of the loss (checked for
        :class:`odeopt.nets.TwoLayerReLU` unless `allow_unstable`), or an argument is out of
        range, not finite, or of the wrong shape.

    Examples
    --------
    >>> from odeopt.methods import HeavyBall
    >>> from odeopt.nets import TwoLayerReLU
    >>> net = TwoLayerReLU(2, 500)
    >>> x, y = [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0]
    >>> run = train(net, HeavyBall(lr=0.5, momentum=0.5), x, y, 60, kernel_at=[60])
    >>> bool(run.loss[-1] < 1e-6 * run.loss[0]), bool(run.relative_kernel_drift[-1] < 0.1)
    (True, True)
    """
    if not isinstance(rule, UpdateRule) or not rule.is_numeric:
        raise ValueError(
            f"rule must be an UpdateRule with numeric hyperparameters, got {rule!r}; "
            "give symbols their values with rule.at({...})"
        )
    if not _is_integer(num_steps) or num_steps < 1:
        raise ValueError(f"num_steps must be an integer of at least 1, got {num_steps!r}")
    problem = _problem(net, x, y, SquaredLoss() if loss is None else loss, reduction)
    if record_at is None:
        record_at = np.linspace(0, num_steps, min(num_steps, _RECORDED) + 1).round().astype(int)
    record = _steps("record_at", record_at, num_steps) | {0}
    kernel_steps = set() if kernel_at is None else _steps("kernel_at", kernel_at, num_steps)
    kernel = problem.kernel() if has_closed_form(net) else None
    if kernel is None and kernel_steps:
        raise ValueError(f"kernel_at needs a TwoLayerReLU, got {type(net).__name__}; leave it out")
    if kernel is not None and not allow_unstable:
        _require_stable(rule, problem.loss, problem.scale * float(np.linalg.eigvalsh(kernel)[-1]))
    recorded: dict[int, tuple[float, np.ndarray]] = {}
    drifts: dict[int, float] = {}

    def observe(k, w, value, u):
        if k in record:
            recorded[k] = value, u
        if k in kernel_steps:
            problem.write(w)
            drifts[k] = _spectral_norm(problem.kernel() - kernel)
        if progress is not None and k > 0:
            progress(k, value)

    with _threads(problem):
        diverged_at = _run(problem, rule, num_steps, observe)
    return TrainingRun(
        rule=rule,
        num_steps=num_steps,
        width=None if kernel is None else net.m,
        objective=problem.loss,
        kernel_scale=problem.scale,
        diverged_at=diverged_at,
        k=_frozen(list(recorded), np.int64),
        loss=_frozen([value for value, _ in recorded.values()]),
        predictions=_frozen([u for _, u in recorded.values()]),
        targets=_frozen(problem.targets),
        initial_kernel=kernel,
        kernel_k=_frozen(list(drifts), np.int64),
        kernel_drift=_frozen(list(drifts.values())),
    )


def _run(problem: _FlatProblem, rule: UpdateRule, num_steps: int, observe: Callable) -> int | None:
    """Iterate, observing each step of finite loss; return the first step of infinite loss, if any."""
    iterates = iterate(rule, problem.initial, problem.gradient)
    last = problem.initial
    try:
        with torch.no_grad():
            for k, w in enumerate(itertools.islice(iterates, num_steps + 1)):
                u = problem.predictions(w)
                value = problem.value(u)
                if not (np.isfinite(value) and np.isfinite(u).all()):
                    return k
                last = w
                observe(k, w, value, u)
    finally:
        problem.write(last)
    return None


def _problem(net: nn.Module, x: Any, y: Any, loss: PredictionLoss, reduction: str) -> _FlatProblem:
    """Choose the closed-form gradient where the trained weights are those it is written for."""
    if has_closed_form(net):
        trained = {name for name, p in net.named_parameters() if p.requires_grad}
        if trained == ({"weights"} if net.layers == "first" else {"weights", "a"}):
            return _ReLUProblem(net, x, y, loss, reduction)
    return _FlatProblem(net, x, y, loss, reduction)


class _FlatProblem:
    """The predictions of a network and the gradient of its loss as functions of one flat vector."""

    def __init__(self, net: nn.Module, x: Any, y: Any, loss: PredictionLoss, reduction: str) -> None:
        if not isinstance(net, nn.Module):
            raise ValueError(f"net must be a torch.nn.Module, got {type(net).__name__}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}; choose one of them")
        if not isinstance(loss, PredictionLoss):
            raise ValueError(f"loss must be a PredictionLoss, got {loss!r}; subclass it, or leave it out")
        self.net, self.loss = net, loss
        self.parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
        kinds = {(p.dtype, p.device) for p in self.parameters.values()}
        if len(kinds) != 1:
            found = ", ".join(f"{dtype} on {device}" for dtype, device in kinds) or "none"
            raise ValueError(
                f"net must have trainable parameters of one dtype on one device, found {found}; "
                "convert it with net.to(...)"
            )
        (self.dtype, self.device) = kinds.pop()
        self.x = self._tensor("x", x, ndim=None)
        self.y = self._tensor("y", y, ndim=1)
        n = len(self.y)
        if len(self.x) != n:
            raise ValueError(f"x and y must have the same length, got {len(self.x)} inputs and {n} targets")
        self.scale = 1.0 if reduction == "sum" else loss.mean_factor / n
        self.targets = self.y.cpu().double().numpy()
        with torch.no_grad():
            self.initial = torch.cat([p.reshape(-1) for p in self.parameters.values()])
        self._point: torch.Tensor | None = None
        if not np.isfinite(self.value(self.predictions(self.initial))):
            raise ValueError("net has non-finite outputs at its initial weights; initialise it again")

    def _tensor(self, name: str, value: Any, *, ndim: int | None) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
        return torch.from_numpy(real_array(value, name, ndim=ndim)).to(device=self.device, dtype=self.dtype)

    def _split(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = w.split([p.numel() for p in self.parameters.values()])
        return {
            name: part.view(p.shape) for (name, p), part in zip(self.parameters.items(), parts, strict=True)
        }

    def _evaluate(self, w: torch.Tensor) -> None:
        # The record asks for the outputs at x_k, and a method that takes its gradient there (not at
        # an extrapolated point) passes the same object: one forward pass serves both.
        if w is self._point:
            return
        with torch.enable_grad():
            leaf = w.detach().requires_grad_()
            output = torch.func.functional_call(self.net, self._split(leaf), (self.x,))
            if output.shape not in ((len(self.y),), (len(self.y), 1)):
                raise ValueError(
                    f"net must map x to outputs of shape ({len(self.y)},) or ({len(self.y)}, 1), "
                    f"got {tuple(output.shape)}; check the targets, or select one output"
                )
            self._output = output.reshape(-1)
        self._point, self._leaf, self._gradient = w, leaf, None

    def _pull_back(self, cotangent: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(self._output, self._leaf, cotangent)
        return gradient

    def predictions(self, w: torch.Tensor) -> np.ndarray:
        self._evaluate(w)
        return self._output.detach().cpu().double().numpy()

    def value(self, u: np.ndarray) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.loss.value(u, self.targets))

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        self._evaluate(w)
        if self._gradient is None:
            cotangent = self.loss.gradient(self._output.detach(), self.y)
            self._gradient = self._pull_back(self.scale * cotangent)
        return self._gradient

    @torch.no_grad()
    def write(self, w: torch.Tensor) -> None:
        """Put the flat vector into the network."""
        for name, part in self._split(w).items():
            self.parameters[name].copy_(part)

    def kernel(self) -> np.ndarray:
        return empirical_gram(self.net, self.x)


class _ReLUProblem(_FlatProblem):
    """The same for a TwoLayerReLU, whose gradient is two matrix products."""

    def _evaluate(self, w: torch.Tensor) -> None:
        if w is self._point:
            return
        parts = self._split(w)
        self._output, self._pull_back = self.net.output_and_pullback(
            self.x, parts["weights"], parts.get("a", self.net.a)
        )
        self._point, self._gradient = w, None


@contextlib.contextmanager
def _threads(problem: _FlatProblem) -> Iterator[None]:
    """Use one thread for small products: waiting for a busy second core costs more than it gives."""
    before = torch.get_num_threads()
    small = problem.initial.numel() * len(problem.y) < _SMALL_PRODUCT
    if small and problem.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_stable(rule: UpdateRule, loss: PredictionLoss, lam_max: float) -> None:
    from odeopt.discrete import max_learning_rate  # brings sympy, which a run itself does not need

    if loss.smoothness is None:
        raise ValueError(
            f"no stability limit is known for loss {loss.label}, whose smoothness is not given; "
            "set the class attribute, or pass allow_unstable=True to run it all the same"
        )
    lam_max *= loss.smoothness
    if lam_max <= 0:
        return
    try:
        limit = max_learning_rate(rule, lam_max)
    except ValueError as error:
        raise ValueError(
            f"no stability limit is known for rule {rule.label}: {error}; "
            "pass allow_unstable=True to run it all the same"
        ) from error
    if rule.lr > limit:
        raise ValueError(
            f"lr = {rule.lr:.6g} exceeds the stability limit {limit:.6g} of {rule.label} linearised at the "
            f"initial weights (largest curvature {lam_max:.6g}); lower it, or pass allow_unstable=True"
        )


def _steps(name: str, steps: Iterable[int], num_steps: int) -> set[int]:
    steps = list(steps)
    if not steps:
        raise ValueError(f"{name} must not be empty; leave it out for the default")
    for step in steps:
        if not _is_integer(step) or not 0 <= step <= num_steps:
            raise ValueError(f"{name} must hold integers from 0 to num_steps = {num_steps}, got {step!r}")
    return {int(step) for step in steps}


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _spectral_norm(symmetric: np.ndarray) -> float:
    if not np.isfinite(symmetric).all():
        return float("inf")
    return float(np.abs(np.linalg.eigvalsh(symmetric)).max())


def _frozen(values: list, dtype: type = np.float64) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
