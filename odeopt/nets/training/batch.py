r"""Many small networks trained at once: seeds and hyperparameters in one product of matrices.

The weights of B networks of width m are one matrix of B m rows, so that the first layer of all is one
product; the rule's own step runs on all their parameters together, its hyperparameters being columns of B
numbers.
Where inputs have more dimensions than there are examples, it is done in their row space, as in training one
by one (:class:`odeopt.nets.training.flat.RowSpaceProblem`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from odeopt.checks import require_integer
from odeopt.dynamics.losses import SquaredLoss
from odeopt.nets.kernels.closed import require_closed_form
from odeopt.nets.module_state import plain_arithmetic
from odeopt.nets.networks import TwoLayerReLU
from odeopt.nets.training.flat import ReLUProblem, RowSpaceProblem, in_row_space, problem_of, thread_count
from odeopt.nets.training.record import TrainingRun, record_of
from odeopt.nets.training.stability import require_linear, require_numeric, require_stable, require_steps
from odeopt.nets.training.train import recorded_steps
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import StepRefusal
from odeopt.rules.pieces import Piece
from odeopt.rules.resolve import changed
from odeopt.rules.schedule import Schedule

__all__ = ["train_batch"]


def train_batch(
    nets: Sequence[TwoLayerReLU],
    rules: UpdateRule | Sequence[UpdateRule],
    x: npt.ArrayLike | torch.Tensor,
    y: npt.ArrayLike | torch.Tensor,
    num_steps: int,
    *,
    record_at: Iterable[int] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    row_space: bool | None = None,
    allow_unstable: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> tuple[TrainingRun, ...]:
    r"""Train many networks of one size on the same full batch, each by its own rule, as :func:`train` would.

    Parameters
    ----------
    nets : sequence of TwoLayerReLU
        Of one dimension, width, set of trained layers, dtype and device; left with the weights of the
        last step.
    rules : UpdateRule or sequence of UpdateRule
        One for all, or one for each network: of one method, whose numbers may differ.
    x, y : array_like or torch.Tensor, shapes (n, d) and (n,)
        Inputs and targets.
    num_steps : int
        Number of steps, at least 1.
    record_at : iterable of int, optional
        Steps at which loss and predictions are kept, as for :func:`odeopt.nets.train`.
    reduction : {"sum", "mean"}, optional
        "mean" descends the mean of squares; the recorded loss is the sum.
    row_space : bool, optional
        Train in the row space of the inputs. By default where d > n and the rule is linear.
    allow_unstable : bool, optional
        Run learning rates above the stability limit, without computing it.
    progress : callable, optional
        Called as ``progress("train", k, num_steps)`` after each step.

    Returns
    -------
    tuple of TrainingRun
        One for each network, with the same iterates as :func:`odeopt.nets.train` gives, up to rounding.

    Raises
    ------
    ValueError
        If the networks or the rules do not go together, or as :func:`odeopt.nets.train`.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> x, y = np.eye(3), np.array([1.0, 0.0, -1.0])
    >>> nets = [TwoLayerReLU(3, 100, seed=seed) for seed in range(4)]
    >>> rules = [HeavyBall(lr=0.5, momentum=momentum) for momentum in (0.2, 0.4, 0.6, 0.8)]
    >>> runs = train_batch(nets, rules, x, y, 30)
    >>> [run.rule.momentum for run in runs], all(run.loss[-1] < run.loss[0] for run in runs)
    ([0.2, 0.4, 0.6, 0.8], True)
    """
    nets = _alike(nets)
    if not isinstance(rules, (UpdateRule, Iterable)):
        require_numeric(rules, "rules")
    chosen: list[UpdateRule] = [rules] * len(nets) if isinstance(rules, UpdateRule) else list(rules)
    for rule in chosen:
        require_numeric(rule, "rules")
    if len(chosen) != len(nets):
        raise ValueError(
            f"rules must be one rule, or one for each of the {len(nets)} nets, got {len(chosen)}"
        )
    problems = [problem_of(net, x, y, SquaredLoss(), reduction) for net in nets]
    if not all(isinstance(problem, ReLUProblem) for problem in problems):
        raise ValueError("nets must train all their parameters, but some are frozen; use train for them")
    record, num_steps = recorded_steps(record_at, num_steps)
    for rule in chosen:
        require_steps(rule, num_steps)
    kernels = [problem.kernel_at(problem.initial) for problem in problems]
    if not allow_unstable:
        for rule, problem, kernel in zip(chosen, problems, kernels, strict=True):
            lam_max = problem.scale * float(np.linalg.eigvalsh(kernel)[-1])
            require_stable(rule, problem.objective, lam_max, num_steps)
    stack = _Stack(nets, _reduced(problems, chosen, row_space, num_steps))
    history, diverged = _run(stack, _stacked(chosen, stack.initial), num_steps, record, progress)
    stack.write()
    return tuple(
        record_of(problem, rule, num_steps, kernel, {k: e + problem.targets for k, e in errors.items()}, at)
        for rule, problem, kernel, (errors, at) in zip(
            chosen, problems, kernels, _split(history, diverged), strict=True
        )
    )


def _alike(nets: Sequence[TwoLayerReLU]) -> list[TwoLayerReLU]:
    nets = list(nets)
    if not nets:
        raise ValueError("nets must not be empty; pass at least one TwoLayerReLU")
    for net in nets:
        require_closed_form(net, "each of nets", "use train for it")
    if any(net.outputs > 1 for net in nets):
        raise ValueError("nets must have one output each, got a TwoLayerReLU of more; use train for it")
    kinds = {(n.d, n.m, n.layers, n.output_scale, n.weights.dtype, n.weights.device) for n in nets}
    if len(kinds) > 1 or len({id(net) for net in nets}) < len(nets):
        raise ValueError(
            f"nets must be different networks of one size, layers, dtype and device, got {len(kinds)} kinds; "
            "train each kind apart"
        )
    return nets


def _stacked(rules: list[UpdateRule], like: torch.Tensor) -> UpdateRule:
    """Return one rule whose differing hyperparameters are columns, one entry for each network."""
    stacked = _columns(rules, like)
    history = require_integer(f"history of {type(stacked).__name__}", stacked.history, 1)
    try:
        memory = stacked.initial_memory(like)
        k = min([2, *(rule.last_step for rule in rules if rule.last_step is not None)])
        next(itertools.islice(stacked.states_from(k, (like,) * history, memory, lambda z: z), 1, None))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"rules of {type(stacked).__name__} branch on a hyperparameter that differs, or cannot be run "
            f"({error}); train the networks one by one"
        ) from error
    return stacked


def _columns(rules: list[UpdateRule], like: torch.Tensor) -> UpdateRule:
    """The rules as one, unchecked: each has passed the checks of its numbers by itself."""
    if len({type(rule) for rule in rules}) > 1:
        names = ", ".join(sorted({type(rule).__name__ for rule in rules}))
        raise ValueError(f"rules must be of one method, got {names}; train each method apart")
    if len({rule.history for rule in rules}) > 1:
        raise ValueError("rules must read the same number of iterates; train each number of momenta apart")

    def column(values: list, name: str) -> Any:
        if isinstance(values[0], tuple):
            return tuple(column(list(entries), name) for entries in zip(*values, strict=True))
        if all(value == values[0] for value in values):
            return values[0]
        if isinstance(values[0], UpdateRule):
            return _columns(values, like)
        if any(value is None or isinstance(value, bool) for value in values):
            raise ValueError(
                f"rules must not differ in {name}, which changes what a step does; train them apart"
            )
        entries = _Column(tuple(values), like)
        return entries if any(isinstance(value, Schedule) for value in values) else entries.at(0)

    names = [field.name for field in dataclasses.fields(rules[0])]
    return changed(rules[0], {n: column([getattr(rule, n) for rule in rules], n) for n in names})


@dataclass(frozen=True)
class _Column(Schedule):
    """Numbers and schedules of many rules as one schedule, whose value is a column of their values."""

    entries: tuple[Any, ...]
    like: torch.Tensor

    def at(self, k: Any, name: str = "s") -> torch.Tensor:
        values = [float(e.at(k, name) if isinstance(e, Schedule) else e) for e in self.entries]
        return torch.tensor(values, dtype=self.like.dtype, device=self.like.device)[:, None]

    def pieces(self) -> tuple[Piece, ...]:
        raise StepRefusal("broken", "has a column of schedules, which have no pieces in common")


def _reduced(problems: list, rules: list[UpdateRule], asked: bool | None, num_steps: int) -> list:
    """Problems in the row space of the inputs, all or none of them."""
    if asked is False:
        return problems
    if asked:
        for rule in set(rules):
            require_linear(rule, problems[0].objective, "row_space", num_steps)
        return [RowSpaceProblem(problem) for problem in problems]
    reduced = [in_row_space(problem, rule) for problem, rule in zip(problems, rules, strict=True)]
    return reduced if all(isinstance(problem, RowSpaceProblem) for problem in reduced) else problems


class _Stack:
    """Predictions and gradients of many networks as functions of their parameters, shape (B, P)."""

    def __init__(self, nets: list[TwoLayerReLU], problems: list) -> None:
        self.nets, self.problems = nets, problems
        first = problems[0]
        self.x, self.y, self.scale, self.factor = first.x, first.y, first.scale, nets[0].output_scale
        self.m, self.d = nets[0].m, self.x.shape[1]
        self.extra = self.m if nets[0].layers == "both" else 0
        self.fixed = torch.stack([net.a.detach() for net in nets])
        self.initial = self.last = torch.stack([problem.initial for problem in problems])
        self._hidden = torch.empty(
            (len(nets) * self.m, len(self.y)), dtype=self.x.dtype, device=self.x.device
        )
        self._point = None

    def _parts(self, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First layers, shape (B, m, d), and output layers, shape (B, m)."""
        first, last = w.split([w.shape[1] - self.extra, self.extra], dim=1)
        return first.reshape(len(w), self.m, -1), last if self.extra else self.fixed

    def write(self) -> None:
        """Put the weights of the last step of finite loss into the networks."""
        for problem, weights in zip(self.problems, self.last, strict=True):
            problem.write(weights)

    def errors(self, w: torch.Tensor) -> torch.Tensor:
        """Outputs less targets, shape (B, n)."""
        if w is not self._point:
            weights, self._a = self._parts(w)
            torch.mm(weights.reshape(-1, self.d), self.x.T, out=self._hidden).relu_()
            self._layer = self._hidden.view(len(w), self.m, -1)
            self._errors = self.factor * torch.bmm(self._a[:, None], self._layer)[:, 0] - self.y
            self._point, self._gradient = w, None
        return self._errors

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        errors = self.errors(w)
        if self._gradient is None:
            scaled = self.scale * self.factor * errors
            last = torch.bmm(self._layer, scaled[:, :, None])[:, :, 0] if self.extra else None
            active = self._layer.sign_()  # see TwoLayerReLU.output_and_pullback
            first = (
                torch.bmm(active, scaled[:, :, None] * self.x).mul_(self._a[:, :, None]).reshape(len(w), -1)
            )
            self._gradient = first if last is None else torch.cat([first, last], dim=1)
        return self._gradient


def _run(
    stack: _Stack, rule: UpdateRule, num_steps: int, record: set[int], progress: Callable | None
) -> tuple[dict, np.ndarray]:
    """Errors at the recorded steps, and for each network the first step of infinite loss, or -1."""
    history: dict[int, np.ndarray] = {}
    diverged = np.full(len(stack.nets), -1)
    before = torch.get_num_threads()
    torch.set_num_threads(thread_count(stack.initial.numel() * len(stack.y), stack.x.device))
    try:
        with plain_arithmetic(stack.x.device), torch.no_grad():
            states = rule.states(stack.initial, stack.gradient)
            for k, (iterates, _) in zip(range(num_steps + 1), states, strict=False):
                errors = stack.errors(iterates[0])
                alive = torch.isfinite((errors * errors).sum(dim=1))
                diverged[(diverged < 0) & ~alive.cpu().numpy()] = k
                if bool((torch.from_numpy(diverged) < 0).all()):
                    stack.last = iterates[0]
                else:
                    going = torch.from_numpy(diverged < 0).to(alive.device)
                    stack.last = torch.where(going[:, None], iterates[0], stack.last)
                if k in record:
                    history[k] = errors.cpu().double().numpy()
                if progress is not None and k > 0:
                    progress("train", k, num_steps)
                if (diverged >= 0).all():
                    break
    finally:
        torch.set_num_threads(before)
    return history, diverged


def _split(
    history: dict[int, np.ndarray], diverged: np.ndarray
) -> Iterator[tuple[dict[int, np.ndarray], int | None]]:
    """Errors at the recorded steps, and the step of divergence, of each network."""
    for b, at in enumerate(diverged):
        yield {k: e[b] for k, e in history.items() if at < 0 or k < at}, None if at < 0 else int(at)
