r"""Methods by name: rules from names and text, grids of rules, and what identifies a rule in a file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from odeopt.rules.base import UpdateRule
from odeopt.rules.classical import GradientDescent, HeavyBall, HigherMomentum, Nesterov

__all__ = ["named_rules", "rule_grid", "rule_spec"]


def rule_grid(rule_type: type[UpdateRule], **values: Any) -> tuple[UpdateRule, ...]:
    """Return the rules of one method for all combinations of hyperparameters.

    Parameters
    ----------
    rule_type : type
        A subclass of UpdateRule.
    **values : object or list of objects
        For each hyperparameter one value, or a list of values.

    Returns
    -------
    tuple of UpdateRule

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> for rule in rule_grid(HeavyBall, lr=[0.1, 0.2], momentum=0.5):
    ...     print(rule)
    HeavyBall(lr=0.1, momentum=0.5)
    HeavyBall(lr=0.2, momentum=0.5)
    """
    lists = [value if isinstance(value, list) else [value] for value in values.values()]
    return tuple(rule_type(**dict(zip(values, chosen, strict=True))) for chosen in itertools.product(*lists))


def named_rules(
    names: Iterable[str],
    *,
    lr: Sequence[float],
    momentum: Sequence[float] = (0.9,),
    r: Sequence[float] = (3.0,),
    momenta: Sequence[float] = (0.2, 0.5),
) -> tuple[UpdateRule, ...]:
    """Return the rules of named methods for all combinations of hyperparameters.

    Parameters
    ----------
    names : iterable of str
        Among "gd", "hb", "nag" and "hm".
    lr : sequence of float
        Learning rates.
    momentum : sequence of float, optional
        Momenta of "hb".
    r : sequence of float, optional
        Frictions of "nag".
    momenta : sequence of float, optional
        The one tuple of momenta of "hm".

    Returns
    -------
    tuple of UpdateRule

    Examples
    --------
    >>> named_rules(["gd", "hb"], lr=[0.1], momentum=[0.5, 0.9])
    (GradientDescent(lr=0.1), HeavyBall(lr=0.1, momentum=0.5), HeavyBall(lr=0.1, momentum=0.9))
    """
    grids = {
        "gd": lambda: rule_grid(GradientDescent, lr=list(lr)),
        "hb": lambda: rule_grid(HeavyBall, lr=list(lr), momentum=list(momentum)),
        "nag": lambda: rule_grid(Nesterov, lr=list(lr), r=list(r)),
        "hm": lambda: rule_grid(HigherMomentum, lr=list(lr), momenta=tuple(momenta)),
    }
    names = tuple(names)
    for name in names:
        if name not in grids:
            raise ValueError(f"unknown method {name!r}; known are {', '.join(grids)}")
    return tuple(rule for name in names for rule in grids[name]())


def rule_spec(rule: UpdateRule) -> dict:
    """What identifies a rule, for a JSON file.

    Parameters
    ----------
    rule : UpdateRule
        With numeric hyperparameters.

    Returns
    -------
    dict

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> rule_spec(HeavyBall(0.1, 0.5))
    {'type': 'odeopt.rules.classical.HeavyBall', 'lr': 0.1, 'momentum': 0.5}
    """

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(entry) for entry in value]
        return value if value is None or isinstance(value, bool) else float(value)

    fields = {field.name: plain(getattr(rule, field.name)) for field in dataclasses.fields(rule)}
    return {"type": f"{type(rule).__module__}.{type(rule).__qualname__}", **fields}
