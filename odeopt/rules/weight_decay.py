r"""Weight decay, coupled and decoupled, to zero or to the start: written once for all rules that have it.

With :math:`a=0`, or :math:`a=x_0` where `to_start` is set, coupled decay adds :math:`\gamma(z-a)` to the
gradient at every point z where one is taken. Decoupled decay takes :math:`\eta_k\omega(x_k-a)` off the step,
and leaves it out of the velocity: of the increments :math:`x_k-x_{k-1}` that a step reads, what decay did not
make is carried on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from odeopt.checks import is_number
from odeopt.rules.base import Scalar, UpdateRule
from odeopt.rules.resolve import changed
from odeopt.rules.schedule import Schedule

__all__ = ["WeightDecayed", "is_pulled_to_zero"]


@dataclass(frozen=True, repr=False)
class WeightDecayed(UpdateRule):
    r"""A rule with weight decay by keyword; subclass it instead of :class:`UpdateRule`.

    The subclass writes its step, of a history of one or two iterates, without decay.

    Parameters
    ----------
    weight_decay : float, Schedule or sympy.Expr, optional
        Coefficient :math:`\gamma\ge0` (coupled) or :math:`\omega\ge0` (decoupled).
    decoupled : bool
        Whether decay acts on the weights, :math:`x_{k+1}=\dots-\eta_k\omega(x_k-a)`, instead of through the
        gradient.
    to_start : bool
        Whether it pulls to :math:`a=x_0` instead of 0.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt import GradientDescent, TorchSGD
    >>> from odeopt.rules import iterate
    >>> list(islice(iterate(GradientDescent(lr=0.5, weight_decay=1.0), 1.0, lambda x: x), 3))
    [1.0, 0.0, 0.0]
    >>> rule = TorchSGD(lr=0.5, momentum=0.5, weight_decay=0.5, decoupled=True)
    >>> list(islice(iterate(rule, 1.0, lambda x: x), 3))
    [1.0, 0.25, -0.1875]
    """

    weight_decay: Scalar | None = field(default=None, kw_only=True)
    decoupled: bool = field(default=False, kw_only=True)
    to_start: bool = field(default=False, kw_only=True)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "step" in vars(cls):
            type.__setattr__(cls, "step", _decayed(cls.step))
        if "initial_memory" in vars(cls):
            type.__setattr__(cls, "initial_memory", _anchored(cls.initial_memory))

    def __post_init__(self) -> None:
        super().__post_init__()
        decay = self.weight_decay
        if decay is None and (self.decoupled or self.to_start):
            name = "decoupled" if self.decoupled else "to_start"
            raise ValueError(f"{name} = True says how weights decay, but weight_decay was not given; give it")
        least = decay.range[0] if isinstance(decay, Schedule) and decay.is_numeric else decay
        if is_number(least) and least < 0:
            raise ValueError(f"weight_decay must be nonnegative, got {least!r}; it pulls the weights in")

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (x0,) if self.to_start else None

    def without_decay(self) -> WeightDecayed:
        """Return the same rule without weight decay.

        Returns
        -------
        WeightDecayed
            Of the same class and with the same other hyperparameters.

        Examples
        --------
        >>> from odeopt import GradientDescent
        >>> GradientDescent(0.1, weight_decay=0.01).without_decay()
        GradientDescent(lr=0.1)
        """
        return dataclasses.replace(self, weight_decay=None, decoupled=False, to_start=False)


def is_pulled_to_zero(rule: Any) -> bool:
    """Whether a rule, or one inside it, declares a decay to 0 by numbers, however small."""
    while rule is not None:
        decay: Any = getattr(rule, "weight_decay", None) if isinstance(rule, WeightDecayed) else None
        decay = decay.largest if isinstance(decay, Schedule) and decay.is_numeric else decay
        if is_number(decay) and decay != 0 and not rule.to_start:
            return True
        rule = getattr(rule, "rule", None)
    return False


def _bare(rule: Any) -> Any:
    """The rule at one step without its decay; its numbers were checked when it was made."""
    known = {"is_scheduled": rule.is_scheduled}
    return changed(rule, {"weight_decay": None, "decoupled": False, "to_start": False, **known})


def _anchored(initial_memory: Callable[..., Any]) -> Callable[..., Any]:
    """Memories at first, with x_0 as the last one where decay pulls to it."""

    @functools.wraps(initial_memory)
    def anchored(self: Any, x0: Any) -> Any:
        found = initial_memory(self, x0)
        # a subclass that asks its parent has the anchor already, as the very object x0
        if not self.to_start or (found and found[-1] is x0):
            return found
        return (*(found or ()), x0)

    return anchored


def _decayed(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step with the decay of the rule, whoever calls it."""

    @functools.wraps(step)
    def decayed(self: Any, k: Any, iterates: Any, memory: Any, grad: Any) -> Any:
        if self.weight_decay is None:
            return step(self, k, iterates, memory, grad)
        *own, anchor = memory if self.to_start else (*(memory or ()), None)

        def pull(z: Any) -> Any:
            return z if anchor is None else z - anchor

        now = self.at_step(k)
        run = functools.partial(step, _bare(now), k)
        if self.decoupled:
            x, *older = iterates
            if older and k != 0:  # before the first step nothing has decayed
                before = getattr(self, "_at_step", self.at_step)(k - 1)
                older[0] = older[0] - before.lr * before.weight_decay * pull(older[0])
            x_next, own = run((x, *older), tuple(own) or None, grad)
            x_next = x_next - now.lr * now.weight_decay * pull(x)
        else:
            x_next, own = run(iterates, tuple(own) or None, lambda z: grad(z) + now.weight_decay * pull(z))
        return x_next, ((*(own or ()), anchor) if self.to_start else own)

    return decayed
