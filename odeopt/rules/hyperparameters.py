r"""The hyperparameters of a rule: how they are listed, shown, changed, and resolved at one step."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from odeopt.checks import is_number
from odeopt.rules.resolve import (
    holds_schedule,
    in_order,
    is_switch,
    label_of,
    last_of,
    number_at,
    read_as_printed,
    resolved,
)
from odeopt.rules.schedule import Schedule

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Parametrised"]


@dataclass(frozen=True)
class Parametrised:
    """What is made of fields: numbers, sympy expressions, schedules or tuples of them, switches, options."""

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
            The step; an expression puts functions of k in their place.

        Returns
        -------
        UpdateRule
            Of the same class, without schedules; the rule itself where it has none.

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
        return label_of(self)

    def replace(self, **changes: Any) -> Self:
        """Return the same rule with some hyperparameters changed.

        Parameters
        ----------
        **changes
            New values by name.

        Returns
        -------
        UpdateRule
            Of the same class; the new values are checked as those of a new rule.

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
        return self.map_hyperparameters(lambda value: number_at(value, values))

    def map_hyperparameters(self, function: Callable[[Any], Any]) -> Self:
        """Return the same rule with `function` applied to every hyperparameter.

        Parameters
        ----------
        function : callable
            From a scalar to a scalar; tuples are mapped entry by entry, schedules number by number.

        Returns
        -------
        UpdateRule
            Of the same class; switches and options left None stay.

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

        Returns
        -------
        UpdateRule
            Of the same class; symbols stay.

        Examples
        --------
        >>> from odeopt import GradientDescent
        >>> GradientDescent(lr=0.1).exact()
        GradientDescent(lr=1/10)
        """
        return self.map_hyperparameters(read_as_printed)
