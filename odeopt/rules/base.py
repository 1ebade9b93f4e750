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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Union

from odeopt.checks import is_number, require_integer
from odeopt.rules.hyperparameters import Parametrised
from odeopt.rules.loop import first_memory, run_from
from odeopt.rules.resolve import (
    at_extremes,
    fields_said,
    is_switch,
    require_rate,
    require_scalar,
    with_values,
    written,
)
from odeopt.rules.schedule import Schedule

if TYPE_CHECKING:
    import sympy

__all__ = ["Scalar", "UpdateRule", "iterate"]

Scalar = Union[float, "sympy.Expr", Schedule]
Scaling = tuple["UpdateRule", dict[Any, Any], Any]


def require_below_one(name: str, value: Scalar, reason: str = "1 would mean no friction") -> None:
    """Raise ValueError unless a numeric hyperparameter lies in [0, 1)."""
    if is_number(value) and not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}; {reason}")


@dataclass(frozen=True)
class UpdateRule(Parametrised, abc.ABC):
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
                require_scalar(name, entry)
        lr: Any = self.hyperparameters.get("lr")
        if is_number(lr) and lr <= 0:
            raise ValueError(f"lr must be positive, got {lr!r}; pass a learning rate lr > 0")
        if isinstance(lr, Schedule):
            require_rate(lr)
        for rule in at_extremes(self) if self.is_numeric or not self.is_scheduled else ():
            rule.validate()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={written(value)}" for name, value in fields_said(self).items())
        return f"{type(self).__name__}({shown})"

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
        x_next : object of the kind of the iterates
            :math:`x_{k+1}`.
        memory : tuple or None
            The running averages after the step.
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

        Returns
        -------
        iterator of tuple
            The newest `history` iterates, the newest first, and the running averages.

        Examples
        --------
        >>> from itertools import islice
        >>> from odeopt import HeavyBall
        >>> for iterates, memory in islice(HeavyBall(0.5, 0.5).states(1.0, lambda x: x), 3):
        ...     print(iterates, memory)
        (1.0, 1.0) None
        (0.5, 1.0) None
        (0.0, 0.5) None
        """
        history = require_integer(f"history of {type(self).__name__}", self.history, 1)
        return self.states_from(0, (x0,) * history, first_memory(self, x0), grad)

    def states_from(
        self, k: int, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        r"""Go on from the state of an iteration, as :meth:`states` does from that of iteration 0.

        Parameters
        ----------
        k : int
            The iteration.
        iterates : tuple of length `history`
            :math:`(x_k,x_{k-1},\dots)`.
        memory : tuple or None
            The running averages there.
        grad : callable
            Gradient of the loss.

        Returns
        -------
        iterator of tuple
            The states of iterations k, k + 1, ..., that which was given first.
        """
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

    Returns
    -------
    iterator
        The iterates, objects of the kind of x0; a step is taken when the next one is asked for.

    Examples
    --------
    >>> from itertools import islice
    >>> from odeopt import GradientDescent
    >>> list(islice(iterate(GradientDescent(lr=0.5), 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.25, 0.125]
    """
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    return (iterates[0] for iterates, _ in rule.states(x0, grad))
