r"""The update rule: an optimisation method is the code of one step, written once.

The same :meth:`UpdateRule.step` is run on three kinds of objects,

* sympy samples :math:`X(t-jh)`, where its Taylor expansion *is* the ODE limit (:mod:`odeopt.limits.ode`);
* numpy eigenvalues with ``grad = lambda z: lam * z``, where the iterates are the residual
  polynomials :math:`P_k(\lambda)`, the exact linear prediction (:mod:`odeopt.spectra.curve`);
* torch parameter vectors, where it trains a network (:mod:`odeopt.nets`).

Conventions: ``step(k, ...)`` maps :math:`x_k` to :math:`x_{k+1}`, k = 0, 1, ...; iterates before
:math:`x_0` equal :math:`x_0`. Running averages travel in a tuple, the memory of the step.

Arithmetic reads alike in all three worlds; the functions that do not are given in
:mod:`odeopt.rules.functions`.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Union

from odeopt.checks import is_number, is_symbolic, require_integer
from odeopt.rules.loop import run_from
from odeopt.rules.resolve import (
    at_extremes,
    fields_said,
    holds_schedule,
    in_order,
    is_switch,
    last_of,
    read_as_printed,
    require_rate,
    resolved,
    with_values,
)
from odeopt.rules.schedule import Schedule

if TYPE_CHECKING:
    import sympy
    from typing_extensions import Self

__all__ = ["Scalar", "UpdateRule", "iterate"]

Scalar = Union[float, "sympy.Expr", Schedule]
Scaling = tuple["UpdateRule", dict[Any, Any], Any]


def require_below_one(name: str, value: Scalar, reason: str = "1 would mean no friction") -> None:
    """Raise ValueError unless a numeric hyperparameter lies in [0, 1)."""
    if is_number(value) and not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}; {reason}")


@dataclass(frozen=True)
class UpdateRule(abc.ABC):
    r"""One step of an optimisation method; subclass it to define your own.

    A subclass is a frozen dataclass whose fields are the hyperparameters (one of them ``lr``), with `history`
    (how many iterates the step reads) and `step`. A hyperparameter is a number, a sympy expression, a
    :class:`odeopt.rules.Schedule`, or a tuple; a default True or False makes a switch, None an option.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Averaged(UpdateRule):
    ...     lr: float
    ...     momentum: float
    ...     history = 2
    ...
    ...     def step(self, k, iterates, memory, grad):
    ...         x, x_prev = iterates
    ...         return x + self.momentum * (x - x_prev) - self.lr * grad((x + x_prev) / 2), memory
    >>> Averaged(lr=0.1, momentum=0.5)
    Averaged(lr=0.1, momentum=0.5)
    """

    history: ClassVar[int] = 1
    # Different points at which one step takes a gradient: an iteration is one gradient unless it says so.
    gradients: ClassVar[int] = 1
    # The step repeats with this period in k: an int, or a property computed from the hyperparameters.
    period: ClassVar[int] = 1

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the hyperparameters are fields of the subclasses

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "step" in vars(cls):
            type.__setattr__(cls, "step", with_values(cls.step))

    def __post_init__(self) -> None:
        for field in filter(is_switch, dataclasses.fields(self)):
            value = getattr(self, field.name)
            if not isinstance(value, bool):
                raise ValueError(f"{field.name} must be True or False, got {value!r}")
        for name, value in self.hyperparameters.items():
            for entry in value if isinstance(value, tuple) else (value,):
                self._check_scalar(name, entry)
        lr: Any = self.hyperparameters.get("lr")
        if is_number(lr) and lr <= 0:
            raise ValueError(f"lr must be positive, got {lr!r}; pass a learning rate lr > 0")
        if isinstance(lr, Schedule):
            require_rate(lr)
        for rule in at_extremes(self) if self.is_numeric or not self.is_scheduled else ():
            rule.validate()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in fields_said(self).items())
        return f"{type(self).__name__}({shown})"

    def _check_scalar(self, name: str, value: Any) -> None:
        if is_symbolic(value) or isinstance(value, Schedule):
            return
        if not is_number(value):
            raise ValueError(
                f"{name} must be a real number or a sympy expression, got {value!r} "
                f"of type {type(value).__name__}"
            )
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value!r}; pass a finite number")

    def validate(self) -> None:
        """Raise ValueError when a numeric hyperparameter is out of range (for subclasses)."""

    @abc.abstractmethod
    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        r"""Map :math:`x_k` to :math:`x_{k+1}`.

        Parameters
        ----------
        k : int or sympy expression
            Index of the newest iterate. In a derivation it is an expression such as t/h, of which
            ``k == 0`` is False: the step is then read as that of a large k. ``k % p`` needs the class
            attribute (or property) ``period``; other jumps in k have no reading.
        iterates : tuple of length `history`
            :math:`(x_k, x_{k-1}, \dots)`.
        memory : tuple or None
            The running averages that the previous call returned, at first :meth:`initial_memory`.
            Never changed in place.
        grad : callable
            The gradient of the loss.

        Returns
        -------
        x_next, memory : tuple
        """

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        """Return the running averages before the first step.

        Parameters
        ----------
        x0 : object
            The first iterate, of the kind that the rule is run on.

        Returns
        -------
        tuple or None
            One entry for each average, of the kind and shape of x0 (as a rule ``0 * x0``); None
            or () for a rule without memory.

        Examples
        --------
        >>> from odeopt import Adam, GradientDescent
        >>> Adam(lr=0.1).initial_memory(1.0)
        (0.0, 0.0)
        >>> GradientDescent(lr=0.1).initial_memory(1.0) is None
        True
        """
        return None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Names and values of the fields, without switches and without optional ones left None."""
        return {
            f.name: getattr(self, f.name)
            for f in in_order(self)
            if not is_switch(f) and not (f.default is None and getattr(self, f.name) is None)
        }

    @property
    def is_numeric(self) -> bool:
        """Whether every hyperparameter is a number, so that the rule can be run."""
        values = itertools.chain.from_iterable(
            v if isinstance(v, tuple) else (v,) for v in self.hyperparameters.values()
        )
        return all(v.is_numeric if isinstance(v, Schedule) else is_number(v) for v in values)

    @functools.cached_property
    def is_scheduled(self) -> bool:
        """Whether a hyperparameter is a schedule, of a rule inside too; asked once, for every step asks."""
        return any(map(holds_schedule, self.hyperparameters.values()))

    @property
    def last_step(self) -> int | None:
        """The last k at which every schedule has a value; None where there is no end."""
        return last_of(self)

    def at_step(self, k: Any) -> Self:
        """Return the rule with the numbers that its schedules have in one step.

        Parameters
        ----------
        k : int

        Examples
        --------
        >>> from odeopt import GradientDescent
        >>> from odeopt.rules import Linear
        >>> GradientDescent(lr=Linear(0.5, steps=10)).at_step(5)
        GradientDescent(lr=0.25)
        """
        return resolved(self, lambda schedule, name: schedule.at(k, name)) if self.is_scheduled else self

    @property
    def label(self) -> str:
        """Name, hyperparameters (rounded) and changed switches, for legends and tables."""

        def show(value):
            if isinstance(value, tuple):
                return "(" + ", ".join(show(v) for v in value) + ")"
            if isinstance(value, Schedule):
                return value.label
            return f"{float(value):.4g}" if is_number(value) else str(value)

        shown = {n: show(v) for n, v in self.hyperparameters.items()}
        switches = {
            f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self) if is_switch(f)
        }
        shown |= {n: str(value) for n, (value, default) in switches.items() if value is not default}
        return f"{type(self).__name__}({', '.join(f'{n}={text}' for n, text in shown.items())})"

    def replace(self, **changes: Any) -> Self:
        """Return the same rule with some hyperparameters changed.

        Parameters
        ----------
        **changes
            New values by name.

        Examples
        --------
        >>> from odeopt import HeavyBall
        >>> HeavyBall(lr=0.1, momentum=0.5).replace(lr=0.2)
        HeavyBall(lr=0.2, momentum=0.5)
        """
        return dataclasses.replace(self, **changes)

    def at(self, values: Mapping[Any, Any]) -> Self:
        """Return the numeric rule obtained by substituting numbers for sympy symbols.

        Parameters
        ----------
        values : dict
            Symbol to number, as for :meth:`sympy.Basic.subs`.

        Returns
        -------
        UpdateRule
            The same class with float hyperparameters.

        Raises
        ------
        ValueError
            If a symbol is left without a value.

        Examples
        --------
        >>> import sympy
        >>> from odeopt import HeavyBall
        >>> h, b = sympy.symbols("h b", positive=True)
        >>> HeavyBall(lr=h**2, momentum=1 - b * h).at({h: 0.1, b: 2})
        HeavyBall(lr=0.010000000000000002, momentum=0.8)
        """

        def substitute(value):
            if not is_symbolic(value):
                return value
            result = value.subs(values)
            if result.free_symbols:
                missing = ", ".join(sorted(map(str, result.free_symbols)))
                raise ValueError(f"values leaves {missing} free; give each of them a number")
            return float(result)

        return self.map_hyperparameters(substitute)

    def map_hyperparameters(self, function: Callable[[Any], Any]) -> Self:
        """Return the same rule with `function` applied to every hyperparameter.

        Parameters
        ----------
        function : callable
            From a scalar to a scalar; tuples are mapped entry by entry, schedules number by number.

        Examples
        --------
        >>> from odeopt import HigherMomentum
        >>> HigherMomentum(lr=1.0, momenta=(0.25, 0.5)).map_hyperparameters(lambda v: v / 2)
        HigherMomentum(lr=0.5, momenta=(0.125, 0.25))
        """

        def mapped(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(mapped, value))
            return value.map(function) if isinstance(value, Schedule) else function(value)

        return self.replace(**{name: mapped(value) for name, value in self.hyperparameters.items()})

    def exact(self) -> Self:
        """Return the rule with every float as the sympy rational it prints as, so 1 - 0.2 - 0.8 is 0.

        Examples
        --------
        >>> from odeopt import GradientDescent
        >>> GradientDescent(lr=0.1).exact()
        GradientDescent(lr=1/10)
        """
        return self.map_hyperparameters(read_as_printed)

    def scaling(
        self, h: sympy.Symbol, regime: str = "natural"
    ) -> tuple[UpdateRule, dict[Any, Any], float] | None:
        r"""Embed a numeric rule in a family that has an ODE limit as :math:`h\to0`.

        Parameters
        ----------
        h : sympy.Symbol
            The time step.
        regime : {"natural", "fixed", "inertial"}
            "fixed" keeps every momentum fixed; "inertial" lets all momentum roots tend to 1;
            "natural" is the one of the two under which the method is usually studied.

        Returns
        -------
        tuple or None
            ``(family, values, time_step)``, such that the family at ``h = time_step`` and
            ``values`` is this rule; None leaves the choice of lr = h, h^2, ... to the engine.
        """
        return None

    def states(self, x0: Any, grad: Callable[[Any], Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        r"""Yield the states :math:`((x_k,x_{k-1},\dots),\text{memory})` for k = 0, 1, ... for ever.

        Parameters
        ----------
        x0 : number, array, tensor or sympy expression
            First iterate; earlier ones equal it.
        grad : callable
            Gradient of the loss, from an iterate to an object of the same kind.

        Examples
        --------
        >>> from odeopt import HeavyBall
        >>> for iterates, memory in itertools.islice(HeavyBall(0.5, 0.5).states(1.0, lambda x: x), 3):
        ...     print(iterates, memory)
        (1.0, 1.0) None
        (0.5, 1.0) None
        (0.0, 0.5) None
        """
        history = require_integer(f"history of {type(self).__name__}", self.history, 1)
        return self.states_from(0, (x0,) * history, self.initial_memory(x0), grad)

    def states_from(
        self, k: int, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Go on with `grad` from `iterates` and `memory` of iteration `k`, as :meth:`states` from 0."""
        return run_from(self, k, iterates, memory, grad)


def iterate(rule: UpdateRule, x0: Any, grad: Callable[[Any], Any]) -> Iterator[Any]:
    r"""Yield :math:`x_0, x_1, x_2, \dots` for ever, the iterates of :meth:`UpdateRule.states`.

    Parameters
    ----------
    rule : UpdateRule
        A rule whose hyperparameters suit the objects it is run on.
    x0 : number, array, tensor or sympy expression
        First iterate; earlier ones equal it.
    grad : callable
        Gradient of the loss, from an iterate to an object of the same kind.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> list(itertools.islice(iterate(GradientDescent(lr=0.5), 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.25, 0.125]
    """
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    return (iterates[0] for iterates, _ in rule.states(x0, grad))
