r"""The schedulers of ``torch.optim.lr_scheduler`` as tables, read by running them.

A scheduler changes the numbers of its optimizer after each step. It is run here on a copy of both, without a
step of the optimizer, and the numbers that each step would have are written down.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, NamedTuple

import torch
from torch.optim import lr_scheduler

from odeopt.checks import is_number, require_integer
from odeopt.nets.module_checks import first_words
from odeopt.rules.adaptive import AdaGrad, Adam, RMSProp
from odeopt.rules.base import UpdateRule
from odeopt.rules.momentum import TorchSGD
from odeopt.rules.tables import Table

__all__ = ["rule_of", "torch_schedule"]

_NO_DECAY: dict[str, Any] = {"weight_decay": 0, "maximize": False}


class _Kind(NamedTuple):
    """The rule of an optimizer: which numbers they share, and what the rule is not set to."""

    rule: type[UpdateRule]
    shared: tuple[str, ...]
    unset: dict[str, Any]


_ADAM = _Kind(Adam, ("lr", "beta1", "beta2", "eps", "weight_decay"), {"amsgrad": False, "maximize": False})
_KINDS: dict[type, _Kind] = {
    torch.optim.SGD: _Kind(
        TorchSGD, ("lr", "momentum", "dampening", "weight_decay", "nesterov"), {"maximize": False}
    ),
    torch.optim.Adam: _ADAM,
    torch.optim.AdamW: _ADAM,
    torch.optim.RMSprop: _Kind(
        RMSProp, ("lr", "alpha", "eps"), {**_NO_DECAY, "momentum": 0, "centered": False}
    ),
    torch.optim.Adagrad: _Kind(
        AdaGrad, ("lr", "eps"), {**_NO_DECAY, "lr_decay": 0, "initial_accumulator_value": 0}
    ),
}


def torch_schedule(scheduler: lr_scheduler.LRScheduler, num_steps: int, name: str = "lr") -> Table:
    """Return the values of a torch scheduler in the next steps, by running a copy of it.

    Parameters
    ----------
    scheduler : torch.optim.lr_scheduler.LRScheduler
        Any whose values follow from the step alone; it and its optimizer are left as they are. The table
        begins where it stands, with a new one at its first step.
    num_steps : int
        Length of the table, at least 1.
    name : str, optional
        Number of the optimizer that is read: "momentum" too is one that ``OneCycleLR`` and ``CyclicLR``
        change.

    Returns
    -------
    Table
        A :class:`odeopt.rules.Table` of `num_steps` values.

    Raises
    ------
    ValueError
        If the scheduler is another object, follows the loss (``ReduceLROnPlateau``), ends before, or has
        parameter groups with different values; if its optimizer has no such number.

    Examples
    --------
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> scheduler = lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> torch_schedule(scheduler, 5).values
    (0.1, 0.1, 0.05, 0.05, 0.025)
    """
    steps = _run(_require_scheduler(scheduler), num_steps)
    known = ", ".join(n for n, value in steps[0][0].items() if is_number(value))
    if name not in known.split(", "):
        raise ValueError(f"name must be a number of the optimizer, got {name!r}; it has {known}")
    return Table(tuple(_of_one_group(steps, name)))


def rule_of(
    optimizer: torch.optim.Optimizer,
    scheduler: lr_scheduler.LRScheduler | None = None,
    num_steps: int | None = None,
) -> UpdateRule:
    """Return the rule that a torch optimizer runs, with what its scheduler changes as tables.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        SGD, Adam, AdamW, RMSprop or Adagrad, before its first step; it is left as it is.
    scheduler : torch.optim.lr_scheduler.LRScheduler, optional
        One of this optimizer, as for :func:`torch_schedule`.
    num_steps : int, optional
        Steps for which the scheduler is run, needed with one. More steps of the rule are refused.

    Returns
    -------
    UpdateRule
        Its iterates are those of torch up to rounding, given the same gradients.

    Raises
    ------
    ValueError
        If the optimizer is another one, is set to something that the rule does not do (``maximize``,
        ``amsgrad``), has taken steps, or its parameter groups differ; as for :func:`torch_schedule`.

    Examples
    --------
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    >>> rule_of(optimizer).label
    'TorchSGD(lr=0.1, momentum=0.9, dampening=0)'
    >>> rule_of(optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 100), 100).label
    'TorchSGD(lr=Table(100 values), momentum=0.9, dampening=0)'
    """
    kind = _KINDS.get(type(optimizer))
    if kind is None:
        known = ", ".join(each.__name__ for each in _KINDS)
        raise ValueError(f"optimizer must be {known} of torch.optim, got {type(optimizer).__name__}")
    _require_fresh(optimizer)
    if scheduler is None:
        steps = [[_numbers(group) for group in optimizer.param_groups]]
    elif _require_scheduler(scheduler).optimizer is not optimizer:  # type: ignore[attr-defined]
        raise ValueError("scheduler belongs to another optimizer; pass the one that it was made with")
    else:
        steps = _run(scheduler, num_steps)
    values = {name: _of_one_group(steps, name) for name in steps[0][0]}
    for name, wanted in kind.unset.items():
        if any(value != wanted for value in values.get(name, ())):
            raise ValueError(
                f"optimizer has {name} = {values[name][0]!r}, which {kind.rule.__name__} has not"
            )
    fields = {
        name: found[0] if len(set(found)) == 1 else Table(tuple(found)) for name, found in values.items()
    }
    chosen = {name: fields[name] for name in kind.shared if name in fields}
    return kind.rule(**_spoken(chosen, decoupled=isinstance(optimizer, torch.optim.AdamW)))


def _spoken(fields: dict[str, Any], *, decoupled: bool) -> dict[str, Any]:
    """The fields without those that torch sets to 0 for none, and with the place of the decay."""
    momentum = fields.get("momentum")
    if isinstance(momentum, Table) and 0 in momentum.values:
        raise ValueError(
            f"optimizer has momentum 0 at k = {momentum.values.index(0)} and others elsewhere: torch then "
            "leaves its buffer as it is, which TorchSGD does not; keep the momentum above 0"
        )
    kept = {name: value for name, value in fields.items() if name != "weight_decay" or value != 0}
    return kept | ({"decoupled": True} if decoupled and "weight_decay" in kept else {})


def _require_fresh(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer with averages of earlier gradients."""
    for state in optimizer.state.values():
        if state.get("momentum_buffer") is not None or float(state.get("step", 0)) > 0:
            raise ValueError(
                f"optimizer has taken steps, and {type(optimizer).__name__} goes on with averages of their "
                "gradients, which a rule begins anew; make the rule before the first step"
            )


def _require_scheduler(scheduler: object) -> lr_scheduler.LRScheduler:
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "scheduler is a ReduceLROnPlateau, whose values follow the loss of a run; write those of such a "
            "run into a Table"
        )
    if not isinstance(scheduler, lr_scheduler.LRScheduler):
        raise ValueError(
            f"scheduler must be one of torch.optim.lr_scheduler, got {type(scheduler).__name__}; its values "
            "can be given as a Table"
        )
    return scheduler


def _run(scheduler: lr_scheduler.LRScheduler, num_steps: int | None) -> list[list[dict[str, Any]]]:
    """The numbers of each parameter group in each step, from a copy that shares weights and averages."""
    num_steps = require_integer("num_steps", num_steps, 1)
    optimizer: torch.optim.Optimizer = scheduler.optimizer  # type: ignore[attr-defined]
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    shared = {id(each): each for each in (optimizer.state, *weights)}
    try:
        with warnings.catch_warnings():
            # that the optimizer takes no steps is meant here
            warnings.simplefilter("ignore")
            running = copy.deepcopy(scheduler, shared)
            groups = running.optimizer.param_groups  # type: ignore[attr-defined]
            steps = [[_numbers(group) for group in groups]]
            while len(steps) < num_steps:
                running.step()
                steps.append([_numbers(group) for group in groups])
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"scheduler = {type(scheduler).__name__} could not be run for num_steps = {num_steps} "
            f"({first_words(error)}); ask for fewer steps, or give its values as a Table"
        ) from error
    return steps


def _numbers(group: dict[str, Any]) -> dict[str, Any]:
    """The numbers and switches of a parameter group by the names that rules have for them."""
    found = {}
    for name, value in group.items():
        if name == "betas":
            found |= {"beta1": float(value[0]), "beta2": float(value[1])}
        elif isinstance(value, bool):
            found[name] = value
        elif isinstance(value, torch.Tensor) and value.numel() == 1:
            found[name] = float(value)
        elif is_number(value):
            found[name] = value
    return found


def _of_one_group(steps: list[list[dict[str, Any]]], name: str) -> list[Any]:
    """A number in each step, where all parameter groups have the same."""
    for k, groups in enumerate(steps):
        values = [group.get(name) for group in groups]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"parameter groups have {name} = {', '.join(map(str, values))} at k = {k}, and a rule moves "
                "all weights alike; give them one value"
            )
    return [groups[0][name] for groups in steps]
