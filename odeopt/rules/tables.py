r"""Schedules given by a formula of one's own, by values, or by a recursion of numbers."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from odeopt.checks import is_finite, is_symbolic
from odeopt.rules.counter import StepRefusal
from odeopt.rules.pieces import Piece, exact_expression, require_number, steps_symbol
from odeopt.rules.schedule import Schedule

__all__ = ["Formula", "Recursion", "Table"]

_SMOOTH = "give it as a Formula in k for what needs one"


@dataclass(frozen=True)
class Formula(Schedule):
    r"""A smooth expression of a symbol that stands for k.

    Parameters
    ----------
    expression : sympy.Expr
        The value at k; other symbols than that of k are parameters.
    symbol : sympy.Symbol
        The symbol of k in it.

    Examples
    --------
    >>> import sympy
    >>> k = sympy.Symbol("k")
    >>> Formula(1 / (10 + k), k)(10)
    0.05
    """

    expression: Any
    symbol: Any

    def __post_init__(self) -> None:
        for name, value in (("expression", self.expression), ("symbol", self.symbol)):
            if not is_symbolic(value):
                raise ValueError(
                    f"{name} must be a sympy expression, got {value!r} of type {type(value).__name__}"
                )
        if not self.symbol.is_Symbol:
            raise ValueError(f"symbol must be a sympy Symbol, got {self.symbol!r}")

    def pieces(self) -> tuple[Piece, ...]:

        expr = self.expression.subs(self.symbol, steps_symbol())
        return (Piece(None, exact_expression(expr)),)

    @property
    def is_numeric(self) -> bool:
        """Whether k is the only symbol."""
        return not self.expression.free_symbols - {self.symbol}

    def map(self, function: Callable[[Any], Any]) -> Formula:
        expression = function(self.expression) if not self.is_numeric else self.expression
        return Formula(expression, self.symbol)


class _Listed(Schedule):
    """Values at integers k alone, without a formula."""

    def pieces(self) -> tuple[Piece, ...]:
        raise StepRefusal(
            "counter", f"has the schedule {self.label}, which is known at integers k only; {_SMOOTH}"
        )

    @property
    def has_formula(self) -> bool:
        """No."""
        return False

    @property
    def breaks(self) -> tuple[float, ...]:
        """None: there are no pieces."""
        return ()

    def _values(self, k: Any) -> Any:
        import numpy as np

        if type(k).__module__.partition(".")[0] == "torch":
            return super()._values(k)
        k = np.asarray(k, dtype=float)
        return np.array([self(j) for j in k.ravel().tolist()]).reshape(k.shape)

    def _value(self, k: float) -> float:
        self._require_within(k, k)
        if k != int(k):
            raise StepRefusal("counter", f"has the schedule {self.label}, which has no value at k = {k:g}")
        return float(self._entry(int(k)))

    @abc.abstractmethod
    def _entry(self, k: int) -> float:
        """The value at k."""


@dataclass(frozen=True)
class Table(_Listed):
    r"""Given values :math:`s_0,\dots,s_{K-1}`; a step past the end is refused.

    Parameters
    ----------
    values : sequence of float
        The value of step 0, 1, ..., at least one.

    Examples
    --------
    >>> Table([0.1, 0.2])(1)
    0.2
    >>> Table([0.1, 0.2])(2)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
        ...
    odeopt.rules.counter.StepRefusal: has the schedule Table(2 values), which ends at k = 1; ...
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, Iterable):
            raise ValueError(f"values must be a sequence of numbers, got {self.values!r}")
        values = tuple(self.values)
        object.__setattr__(self, "values", values)
        if not values:
            raise ValueError("values must not be empty")
        for k, value in enumerate(values):
            require_number(f"values[{k}]", value)

    @property
    def last(self) -> int:
        return len(self.values) - 1

    @property
    def label(self) -> str:
        """Its length."""
        return f"Table({len(self.values)} values)"

    def _entry(self, k: int) -> float:
        return self.values[k]


@dataclass(frozen=True)
class Recursion(_Listed):
    r"""Numbers made one from the other, :math:`\theta_{k+1}=u(\theta_k)`.

    The value is :math:`s_k=o(\theta_k,\theta_{k+1})`.

    Parameters
    ----------
    start : float
        :math:`\theta_0`.
    update : callable
        The function u, from a float to a float.
    output : callable, optional
        The function o, from two floats to a float; by default :math:`s_k=\theta_k`.

    Examples
    --------
    The momentum of FISTA, :math:`(\theta_k-1)/\theta_{k+1}`:

    >>> import math
    >>> momentum = Recursion(1.0, lambda c: (1 + math.sqrt(1 + 4 * c * c)) / 2, lambda c, d: (c - 1) / d)
    >>> [round(momentum(k), 6) for k in range(4)]
    [0.0, 0.281754, 0.434043, 0.531064]
    """

    start: float
    update: Callable[[float], float]
    output: Callable[[float, float], float] | None = None

    def __post_init__(self) -> None:
        require_number("start", self.start)
        for name in ("update", "output"):
            value = getattr(self, name)
            if not callable(value) and not (name == "output" and value is None):
                raise ValueError(f"{name} must be a function, got {value!r}")

    @property
    def last(self) -> None:
        return None

    @property
    def label(self) -> str:
        """Its start."""
        return f"Recursion({self.start:.4g})"

    def _entry(self, k: int) -> float:
        run = _run_of(self)
        while len(run) < k + 2:
            run.append(self._number(len(run), self.update, run[-1]))
        return run[k] if self.output is None else self._number(k, self.output, run[k], run[k + 1])

    def _number(self, k: int, function: Callable[..., Any], *arguments: float) -> float:
        """A value of the functions given, if it is a finite number."""
        try:
            value: Any = function(*arguments)
        except ArithmeticError as error:
            value = error
        if not is_finite(value):
            raise StepRefusal("broken", f"has the schedule {self.label}, whose value at k = {k} is {value!r}")
        return float(value)


@functools.lru_cache(maxsize=64)
def _run_of(recursion: Recursion) -> list[float]:
    """The numbers so far."""
    return [float(recursion.start)]
