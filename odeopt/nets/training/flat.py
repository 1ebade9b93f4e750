r"""A network as a problem in one flat vector: its predictions, the gradient of its loss, its kernel."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import linear

from odeopt.dynamics.losses import PredictionLoss
from odeopt.nets.kernels.closed import empirical_gram, has_closed_form
from odeopt.nets.kernels.empirical import largest_eigenvalue
from odeopt.nets.kernels.jacobian import Jacobian, own_tape
from odeopt.nets.kernels.tape import Tape, equal_to_rounding, flat, probe, split
from odeopt.nets.module_checks import (
    differentiable,
    first_words,
    fitting,
    inputs_of,
    require_module,
    require_outputs,
    targets_of,
    trained_parameters,
)
from odeopt.nets.module_state import ModuleState, left_as_it_was, plain_arithmetic
from odeopt.nets.networks import PaperReLU
from odeopt.rules.base import UpdateRule

# Multiply-adds of one product below which a second thread does not pay (a few ms on one core).
_SMALL_PRODUCT = 10**8
# Share of its size by which each weight is moved, far above rounding, to see whether outputs follow.
_MOVE = 1e-2


def problem_of(
    net: nn.Module, x: npt.ArrayLike, y: npt.ArrayLike, objective: PredictionLoss, reduction: str
) -> FlatProblem:
    """Choose the closed-form gradient where the trained weights are those it is written for."""
    if has_closed_form(net) and all(p.requires_grad for p in net.parameters()):
        return ReLUProblem(net, x, y, objective, reduction)
    return FlatProblem(net, x, y, objective, reduction)


class Linearised(Protocol):
    r"""Outputs of a network at one point, the kernel :math:`JJ^\top`, and products with J."""

    predictions: np.ndarray

    def gram(self) -> np.ndarray: ...
    def pull_back(self, cotangent: torch.Tensor) -> torch.Tensor: ...
    def push_forward(self, tangent: torch.Tensor) -> torch.Tensor: ...


class FlatProblem:
    """The predictions of a network and the gradient of its loss as functions of one flat vector.

    A point is written into the network, whose own forward and backward pass are then run: what is trained is
    what torch would train, however the module reads its weights.
    """

    net: Any
    initial: torch.Tensor
    _hidden: torch.Tensor | None = None  # a buffer of the closed form
    _part: FlatProblem | None = None  # this problem on a batch
    _jacobian: Jacobian | None = None  # that of the first kernel
    _spent = False  # the recorded pass has been used up

    def __init__(
        self, net: nn.Module, x: npt.ArrayLike, y: npt.ArrayLike, objective: PredictionLoss, reduction: str
    ) -> None:
        self.net = require_module(net)
        self.objective: PredictionLoss = objective
        if not isinstance(objective, PredictionLoss):
            raise ValueError(
                f"objective must be a PredictionLoss, got {objective!r}; subclass it, or leave it out"
            )
        self.parameters: dict[str, nn.Parameter] = trained_parameters(net)
        self.dtype: torch.dtype
        self.device: torch.device
        self.dtype, self.device = _one_kind(self.parameters)
        self.x: torch.Tensor = self.tensor_of(inputs_of(x))
        # the authors mean to regress on the numbers of digits
        self.y: torch.Tensor = self.tensor_of(
            torch.from_numpy(targets_of(y, noted=not isinstance(net, PaperReLU)))
        )
        if len(self.x) != (n := len(self.y)):
            raise ValueError(f"x and y must have the same length, got {len(self.x)} inputs and {n} targets")
        self.columns: int = self.y[0].numel()
        self.scale: float = objective.reduced(reduction, self.y)
        self.targets: np.ndarray = self.y.cpu().double().numpy()
        self._point: torch.Tensor | None = None
        with torch.no_grad():
            self.initial = flat(tuple(self.parameters.values()), tuple(self.parameters.values()))
        self.last: torch.Tensor = self.initial  # what the run leaves in the network
        self._state = ModuleState(net)
        with left_as_it_was(net, weights=True) as state, plain_arithmetic(self.device):
            tape = own_tape(net, self.parameters, self.x, state, columns=self.columns)
            self._require_forgetful(state)
        self.value(self._as_targets(tape.output))  # targets that the objective does not take
        objective.require_targets(self.targets)

    @torch.no_grad()
    def _require_forgetful(self, state: ModuleState) -> None:
        """Refuse a module that keeps results of a pass, which at moved weights are not those of a first."""
        size = float(self.initial.square().mean().sqrt()) or 1.0
        moved = self.initial + _MOVE * size * probe(self.initial.numel(), self.initial)
        outputs = []
        for _ in range(2):
            self.write(moved)
            with torch.enable_grad():  # which a module may use inside
                outputs.append(self.net(self.x).detach().reshape(-1))
            state.restore()
        kept, first = outputs
        if first.isfinite().all() and not equal_to_rounding(kept, first):
            raise ValueError(
                "module keeps results of a pass (a cache?), so that after a step its outputs are not those "
                "of its weights; compute them in forward, or fill it before, without gradients"
            )

    def tensor_of(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.device, self.dtype if values.is_floating_point() else None)

    def _evaluate(self, w: torch.Tensor) -> None:
        # The record asks for the outputs at x_k, and a method that takes its gradient there (not at
        # an extrapolated point) passes the same object: one forward pass serves both.
        if w is self._point:
            return
        self.write(w)
        with self._own_pass(), torch.enable_grad():
            output = require_outputs(self.net(self.x), len(self.y), columns=self.columns).reshape(-1)
        self._tape = Tape(output, tuple(self.parameters.values()))
        self._output = output.detach()
        self._point, self._gradient, self._spent = w, None, False

    @contextlib.contextmanager
    def _own_pass(self) -> Iterator[None]:
        """A pass of the module; where it fails, the module is left as it was before the run."""
        try:
            yield
        except Exception:
            self.last = self.initial
            self._state.restore()
            raise

    def _pull_back(self, cotangent: torch.Tensor, *, keep: bool = False) -> torch.Tensor:
        with self._own_pass(), differentiable():
            return self._tape.pull_back(cotangent.to(self._output.dtype), keep=keep)

    def predictions(self, w: torch.Tensor) -> np.ndarray:
        self._evaluate(w)
        return self._as_targets(self._output)

    def _as_targets(self, output: torch.Tensor) -> np.ndarray:
        """Outputs of some examples, in one vector, as an array of the shape of their targets."""
        return output.detach().cpu().double().numpy().reshape(-1, *self.targets.shape[1:])

    def outputs_at(self, w: torch.Tensor, points: torch.Tensor) -> np.ndarray:
        """Outputs of other inputs at the flat vector."""
        self._place(w)
        with fitting(points, "points"), self._own_pass(), torch.enable_grad():
            return self._as_targets(require_outputs(self.net(points), len(points), columns=self.columns))

    def _place(self, w: torch.Tensor) -> None:
        self._evaluate(w)  # whose backward pass asks that the weights stay

    def value(self, u: np.ndarray) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.objective.value(u.reshape(self.targets.shape), self.targets))

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        self._evaluate(w)
        if self._gradient is None:
            cotangent = self.objective.gradient(self._output.view_as(self.y), self.y).reshape(-1)
            self._gradient = self._pull_back(self.scale * cotangent)
            self._spent = True  # autograd has freed what one backward pass has used
        return self._gradient

    def gradient_on(self, w: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Gradient on some of the examples, times what makes its mean over batches the full gradient."""
        if self._part is None or len(self._part.y) != len(batch):
            # The same problem with other examples; it keeps its buffers from one batch to the next.
            self._part = copy.copy(self)
            self._part._hidden = self._part._jacobian = None
            self._part.scale = self.scale * len(self.y) / len(batch)
        part = self._part
        part.x, part.y, part._point = self.x[batch], self.y[batch], None
        self._point = None  # the point is written into the one network of both
        with self._own_pass():
            return part.gradient(w)

    @torch.no_grad()
    def write(self, w: torch.Tensor) -> None:
        """Put the flat vector into the network."""
        leaves = tuple(self.parameters.values())
        for p, part in zip(leaves, split(w, leaves), strict=True):
            p.copy_(part)
        self._point = None

    def at(self, w: torch.Tensor) -> Linearised:
        """The network at a flat vector, which must stay as it is."""
        if self._jacobian is None:
            self.write(w)
            self._jacobian = Jacobian(self.net, self.parameters, inputs_of(self.x), None)
            return self._jacobian
        return self._jacobian.moved(split(w, tuple(self.parameters.values())))

    def kernel_at(self, w: torch.Tensor) -> np.ndarray:
        r"""Kernel :math:`JJ^\top` at the flat vector."""
        return self.at(w).gram()

    def lam_max(self) -> float:
        r"""Largest eigenvalue of the kernel at the initial weights, by products with it alone."""
        try:
            return largest_eigenvalue(self.net, self.x)
        except (ValueError, RuntimeError) as error:  # ARPACK without convergence is one of the latter
            raise ValueError(
                f"the stability limit of {type(self.net).__name__} could not be computed "
                f"({first_words(error)}); pass allow_unstable=True to train without it"
            ) from error

    def push_forward(self, w: torch.Tensor, tangent: torch.Tensor) -> np.ndarray:
        r"""Product :math:`J\,\delta`, shape (n c,), at the flat vector w, by the network's own pass."""
        self._point = None if self._spent else self._point
        self._evaluate(w)
        with torch.enable_grad():
            return self._tape.push_forward(tangent).cpu().double().numpy()

    def preactivations(self, w: torch.Tensor) -> torch.Tensor | None:
        """Inputs of the ReLUs, shape (n, m), where they are known."""
        return None


def _one_kind(parameters: dict[str, nn.Parameter]) -> tuple[torch.dtype, torch.device]:
    """The real dtype and the device that all parameters share."""
    kinds = {(p.dtype.to_real() if p.is_complex() else p.dtype, p.device) for p in parameters.values()}
    if len(kinds) != 1:
        found = ", ".join(f"{dtype} on {device}" for dtype, device in kinds)
        raise ValueError(
            f"net must have trainable parameters of one dtype on one device, found {found}; "
            "convert it with net.to(...)"
        )
    (dtype, device) = kinds.pop()
    if torch.finfo(dtype).bits < 32:
        raise ValueError(
            f"net has weights of {dtype}, in which steps below {torch.finfo(dtype).eps / 2:.1g} of a weight "
            "are lost; convert it with net.float()"
        )
    return dtype, device


class ReLUProblem(FlatProblem):
    """The same for a TwoLayerReLU, whose gradient is two matrix products."""

    def _evaluate(self, w: torch.Tensor) -> None:
        if w is self._point:
            return
        if self._hidden is None:
            self._hidden = torch.empty((self.net.m, len(self.x)), dtype=self.dtype, device=self.device)
        found, self._product = self.net.output_and_pullback(self.x, *self._weights(w), self._hidden)
        self._output = found.reshape(-1)
        self._point, self._gradient = w, None

    def _pull_back(self, cotangent: torch.Tensor, *, keep: bool = False) -> torch.Tensor:
        return self._product(cotangent)

    def _place(self, w: torch.Tensor) -> None:
        point = self._point
        self.write(w)
        self._point = point  # the pass of the closed form does not read the network

    def at(self, w: torch.Tensor) -> Linearised:
        return _ClosedForm(self, w)

    def _split(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(self.parameters, split(w, tuple(self.parameters.values())), strict=True))

    def _weights(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = self._split(w)
        trained = parts.get("a")
        return parts["weights"], self.net.a if trained is None else trained

    def neurons(self, w: torch.Tensor) -> torch.Tensor:
        """First-layer part of a flat vector, one neuron a row."""
        return self._split(w)["weights"]

    def preactivations(self, w: torch.Tensor) -> torch.Tensor:
        return self.x @ self.neurons(w).T

    def read_out(self, w: torch.Tensor, hidden: torch.Tensor) -> np.ndarray:
        """Output layer at the flat vector w, of any hidden vectors, shape (n, m)."""
        outputs = self.net.output_scale * linear(hidden, self._weights(w)[1])
        return outputs.reshape(-1).cpu().double().numpy()

    def push_forward(
        self, w: torch.Tensor, tangent: torch.Tensor, before: torch.Tensor | None = None
    ) -> np.ndarray:
        (_, a), moved = self._weights(w), self._split(tangent)
        before = self.preactivations(w) if before is None else before
        active = linear((self.x @ moved["weights"].T).mul_(before > 0), a)
        if "a" in moved:
            active = active + linear(torch.relu(before), moved["a"])
        return (self.net.output_scale * active).reshape(-1).cpu().double().numpy()

    def kernel_at(self, w: torch.Tensor) -> np.ndarray:
        self.write(w)
        return empirical_gram(self.net, self.x)


class _ClosedForm:
    """A two-layer network at a flat vector, as :class:`Linearised`."""

    def __init__(self, problem: ReLUProblem, w: torch.Tensor) -> None:
        output, self.pull_back = problem.net.output_and_pullback(problem.x, *problem._weights(w))
        self.predictions: np.ndarray = output.reshape(-1).cpu().double().numpy()
        self._problem, self._w = problem, w

    def gram(self) -> np.ndarray:
        return self._problem.kernel_at(self._w)

    def push_forward(self, tangent: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self._problem.push_forward(self._w, tangent, self._before))

    @functools.cached_property
    def _before(self) -> torch.Tensor:
        return self._problem.preactivations(self._w)


class RowSpaceProblem(ReLUProblem):
    r"""The same in the row space of the inputs, where these have more dimensions than there are examples.

    With :math:`X=R^\top Q^\top`, Q of orthonormal columns, gradients lie in the range of Q, and a linear rule
    leaves the rest of each neuron as it is: :math:`Q^\top w` with the inputs :math:`R^\top` has the same
    outputs, kernel and travel, at the cost of n dimensions in place of d.
    """

    def __init__(self, full: ReLUProblem) -> None:
        self.__dict__.update(full.__dict__)
        self._full = full
        self._basis, triangle = torch.linalg.qr(full.x.T)
        self.x: torch.Tensor = triangle.T.contiguous()
        self.initial: torch.Tensor = self._flat(full.neurons(full.initial) @ self._basis, full.initial)
        self.last: torch.Tensor = self.initial
        self._point = None

    def _flat(self, weights: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Put another first layer before the rest of a flat vector (the output layer, if it is trained)."""
        extra = self.net.a.numel() if "a" in self.parameters else 0
        return torch.cat([weights.reshape(-1), rest[len(rest) - extra :]])

    def _split(self, w: torch.Tensor) -> dict[str, torch.Tensor]:
        first = self.net.m * self.x.shape[1]
        parts = {"weights": w[:first].view(self.net.m, -1)}
        return parts | {"a": w[first:].view_as(self.net.a)} if "a" in self.parameters else parts

    def write(self, w: torch.Tensor) -> None:
        moved = (self.neurons(w) - self.neurons(self.initial)) @ self._basis.T
        self._full.write(self._flat(self._full.neurons(self._full.initial) + moved, w))

    def kernel_at(self, w: torch.Tensor) -> np.ndarray:
        self.write(w)
        return empirical_gram(self.net, self._full.x)


def in_row_space(problem: FlatProblem, rule: UpdateRule) -> FlatProblem:
    """Return the problem in the row space of its inputs if that is smaller and the rule allows it.

    It must be linear, or it is another method in other coordinates, and go along with a shift of the weights:
    their part outside the row space, which no gradient moves, would shrink under a decay.
    """
    if not isinstance(problem, ReLUProblem) or problem.x.shape[1] <= len(problem.x):
        return problem
    from odeopt.rules.reading import read  # brings sympy

    # where the law in k was not read, equivariance is known of the first steps alone
    reading = read(rule)
    return RowSpaceProblem(problem) if reading.equivariant and reading.law_refusal is None else problem


def thread_count(work: int, device: torch.device) -> int:
    """Threads for products of so many multiply-adds: small ones lose more by waiting for a busy core."""
    return 1 if work < _SMALL_PRODUCT and device.type == "cpu" else torch.get_num_threads()


@contextlib.contextmanager
def running(problem: FlatProblem) -> Iterator[None]:
    """The arithmetic of a run: threads that suit its size, derivatives only where the problem takes them."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(problem.initial.numel() * problem.y.numel(), problem.device))
    try:
        with plain_arithmetic(problem.device), torch.no_grad():
            yield
    finally:
        torch.set_num_threads(before)
