r"""Averages of iterates: the output of any rule averaged, Schedule-Free, Lookahead.

An averaged output is another output, not another trajectory: the iterate of the rule is the average, and the
iterates that are averaged, where gradients are taken, are its memory.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odeopt.checks import is_integer, is_number
from odeopt.rules.base import Scalar, UpdateRule, require_below_one
from odeopt.rules.resolve import changed, complement, resolved
from odeopt.rules.schedule import Schedule

__all__ = ["Averaged", "Lookahead", "ScheduleFree", "with_average"]


@dataclass(frozen=True)
class _Wrapper(UpdateRule):
    """A rule around another one, whose hyperparameters it shows as its own."""

    rule: UpdateRule

    def __post_init__(self) -> None:
        if not isinstance(self.rule, UpdateRule):
            raise ValueError(f"rule must be an UpdateRule, got {type(self.rule).__name__}")
        super().__post_init__()

    def __getattr__(self, name: str) -> Any:
        # only for what the class has not: lr and the other hyperparameters of the rule inside
        if name.startswith("_") or name == "rule" or name not in (shown := self._shown()):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.rule, shown[name])

    def _shown(self) -> dict[str, str]:
        """Names in the rule inside by the names they have here: a field of both is `inner_` of the one."""
        own = {f.name for f in dataclasses.fields(self)}
        return {
            f"inner_{name}" if name.rpartition("inner_")[2] in own else name: name
            for name in self.rule.hyperparameters
        }

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those of the rule inside, and its own."""
        own = {name: value for name, value in super().hyperparameters.items() if name != "rule"}
        inner = self.rule.hyperparameters
        return {**{shown: inner[name] for shown, name in self._shown().items()}, **own}

    @property
    def gradients(self) -> int:  # type: ignore[override]
        """Gradients of one step, those of the rule inside."""
        return self.rule.gradients

    @property
    def period(self) -> int:  # type: ignore[override]
        """The period of the rule inside."""
        return self.rule.period

    @property
    def last_step(self) -> int | None:
        """The last k at which every schedule has a value."""
        ends = [last for last in (self.rule.last_step, super().last_step) if last is not None]
        return min(ends, default=None)

    def at_step(self, k: Any) -> Any:
        """The rule with the numbers of step k, inside as well."""
        return _at_step(self, k, {}) if self.is_scheduled else self

    @property
    def label(self) -> str:
        """The rule inside, in the name of what is done to it."""
        own = {n: v for n, v in super().hyperparameters.items() if n != "rule"}
        shown = (f"{n}={v.label if isinstance(v, Schedule) else v}" for n, v in own.items())
        return f"{type(self).__name__}({', '.join([self.rule.label, *shown])})"

    def replace(self, **changes: Any) -> Any:
        own, shown = {f.name for f in dataclasses.fields(self)}, self._shown()
        inner = {shown.get(name, name): value for name, value in changes.items() if name not in own}
        mine = {name: value for name, value in changes.items() if name in own}
        if inner:
            mine["rule"] = mine.get("rule", self.rule).replace(**inner)
        return super().replace(**mine)

    def scaling(self, h: Any, regime: str = "natural") -> Any:
        r"""Embed the rule inside, see :meth:`UpdateRule.scaling`, with what is done to it."""
        found = self.rule.scaling(h, regime)
        return None if found is None else self.around(found, h, regime)

    @abc.abstractmethod
    def around(self, found: tuple[UpdateRule, dict[Any, Any], Any], h: Any, regime: str = "natural") -> Any:
        """Put a family of the rule inside into one of the whole.

        Parameters
        ----------
        found : tuple
            ``(family, values, time_step)`` of the rule inside, by its :meth:`scaling` or by dominant balance.
        h : sympy.Symbol
            The time step.
        regime : {"natural", "fixed", "inertial"}
            As of :meth:`scaling`.

        Returns
        -------
        tuple
            ``(family, values, time_step)`` of the whole.
        """

    def _inner(self, memory: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """Iterates and memory of the rule inside."""
        q = self.rule.history
        return memory[:q], memory[q:] or None

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (x0,) * self.rule.history + (self.rule.initial_memory(x0) or ())


def _at_step(rule: UpdateRule, k: Any, shown: dict[str, str]) -> Any:
    """A rule at step k; its functions of k are named as it is shown by the outermost rule around it."""
    found = resolved(rule, lambda schedule, name: schedule.at(k, shown.get(name, name)))
    if isinstance(rule, _Wrapper) and rule.rule.is_scheduled:
        inside = {name: shown.get(here, here) for here, name in rule._shown().items()}
        inner = _at_step(rule.rule, k, inside)
        # decoupled decay asks for the step before, whose values the numbers of this one do not tell
        vars(inner)["_at_step"] = functools.partial(_at_step, rule.rule, shown=inside)
        return changed(found, {"rule": inner, "is_scheduled": False})
    return found


@dataclass(frozen=True)
class Averaged(_Wrapper):
    r"""The averaged output of a rule.

    .. math::
        \bar x_k=\tfrac1{k+1}\sum_{j\le k}z_j\ \text{(Polyak and Ruppert), or}\quad
        \bar x_{k+1}=\beta\bar x_k+(1-\beta)z_{k+1},\ \bar x_0=z_0,

    where :math:`z_k` are the iterates of the rule.

    Parameters
    ----------
    rule : UpdateRule
        The rule whose iterates are averaged.
    decay : float, Schedule or sympy.Expr, optional
        :math:`0\le\beta<1`; without it the mean of all iterates.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt import GradientDescent
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(Averaged(GradientDescent(lr=0.5)), 1.0, lambda x: x), 3))
    [1.0, 0.75, 0.58333...]
    >>> Averaged(GradientDescent(lr=0.5), decay=0.75).lr
    0.5
    """

    decay: Scalar | None = None

    def validate(self) -> None:
        if self.decay is not None:
            require_below_one("decay", self.decay, "1 would never leave the first iterate")

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (average,) = iterates
        inner, own = self._inner(memory)
        z, own = self.rule.step(k, inner, own, grad)
        weight = 1 / (k + 2) if self.decay is None else 1 - self.decay
        return average + weight * (z - average), (z, *inner[:-1], *(own or ()))

    def around(self, found: tuple[UpdateRule, dict[Any, Any], Any], h: Any, regime: str = "natural") -> Any:
        r"""The family around one of the rule inside: unless "fixed", decay = 1 - ah."""
        family, values, time_step = found
        if self.decay is None or regime == "fixed" or not is_number(self.decay) or self.decay == 0:
            return Averaged(family, self.decay), values, time_step
        import sympy

        names = ("a", *(f"a_{i}" for i in range(1, len(values) + 1)))
        rates = (sympy.Symbol(name, positive=True) for name in names)
        rate = next(rate for rate in rates if rate not in values)
        return Averaged(family, 1 - rate * h), {**values, rate: complement(self.decay) / time_step}, time_step


def with_average(rule: Any, average: Any) -> Any:
    """The rule, or its averaged output: "polyak" for the mean of all iterates, or the decay of an average."""
    if average is None:
        return rule
    if average == "polyak":
        return Averaged(rule)
    if not (is_number(average) or isinstance(average, Schedule)):
        raise ValueError(f"average must be 'polyak' or the decay of an average, got {average!r}")
    return Averaged(rule, decay=average)


@dataclass(frozen=True)
class Lookahead(_Wrapper):
    r"""Lookahead: every q steps of a rule slow weights follow a part of the way, and it goes on from there.

    .. math:: \phi\leftarrow\phi+\alpha(\theta-\phi),\quad\theta\leftarrow\phi\qquad(k+1=0\bmod q).

    The iterate is :math:`\theta`; the memory of the rule inside is kept.

    Parameters
    ----------
    rule : UpdateRule
        With a history of one iterate.
    steps : int
        Period q >= 1 of the slow weights.
    alpha : float or sympy.Expr
        Share :math:`0<\alpha\le1` of the way that they follow.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt import GradientDescent
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(Lookahead(GradientDescent(lr=0.5), steps=2, alpha=0.5), 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.625, 0.3125]
    """

    steps: int = 5
    alpha: Scalar = 0.5

    def validate(self) -> None:
        if self.rule.history != 1:
            raise ValueError(
                f"rule must have a history of one iterate, got {self.rule.label}; with momentum take TorchSGD"
            )
        if not is_integer(self.steps) or self.steps < 1:
            raise ValueError(f"steps must be a positive integer, got {self.steps!r}")
        if is_number(self.alpha) and not 0 < self.alpha <= 1:
            raise ValueError(f"alpha must lie in (0, 1], got {self.alpha!r}")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those of the rule inside, and alpha."""
        return {name: value for name, value in super().hyperparameters.items() if name != "steps"}

    @property
    def period(self) -> int:  # type: ignore[override]
        """Steps until it is the same again."""
        import math

        return math.lcm(int(self.steps), int(self.rule.period))

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return x0, *(self.rule.initial_memory(x0) or ())

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        slow, *own = memory
        theta, own = self.rule.step(k, iterates, tuple(own) or None, grad)
        if k % self.steps == self.steps - 1:
            theta = slow = slow + self.alpha * (theta - slow)
        return theta, (slow, *(own or ()))

    def around(self, found: tuple[UpdateRule, dict[Any, Any], Any], h: Any, regime: str = "natural") -> Any:
        """The family around one of the rule inside."""
        return Lookahead(found[0], self.steps, self.alpha), *found[1:]


@dataclass(frozen=True)
class ScheduleFree(UpdateRule):
    r"""Schedule-Free gradient descent: an average of iterates that is mixed into the gradient point.

    .. math::
        y=(1-\beta)z_k+\beta x_k,\quad z_{k+1}=z_k-\eta\nabla f(y),\quad
        x_{k+1}=(1-\tfrac1{k+1})x_k+\tfrac1{k+1}z_{k+1}.

    The iterate is the average x; the memory is ``(z,)``.

    Parameters
    ----------
    lr : float or sympy.Expr
        Learning rate :math:`\eta>0`.
    beta : float or sympy.Expr
        :math:`0\le\beta<1`; 0 is the mean of the iterates of gradient descent after the first.

    Notes
    -----
    Stable in the long run if and only if :math:`\eta\lambda<2/(1-\beta)`, with huge transients below it.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt.rules.base import iterate
    >>> list(islice(iterate(ScheduleFree(lr=0.5, beta=0.5), 1.0, lambda x: x), 3))
    [1.0, 0.5, 0.375]
    """

    lr: Scalar
    beta: Scalar = 0.9

    def validate(self) -> None:
        require_below_one("beta", self.beta, "1 would never move the gradient point")

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        return (x0,)

    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        (x,), (z,) = iterates, memory
        z = z - self.lr * grad((1 - self.beta) * z + self.beta * x)
        return x + (z - x) / (k + 1), (z,)
