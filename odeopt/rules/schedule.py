r"""A hyperparameter that changes with k: one formula, read by numbers, arrays, tensors and sympy alike.

A schedule stands wherever a rule takes a number, and in step k the rule has its value at k, as with torch's
schedulers, which step after the update. It is made of pieces, expressions from one break to the next
(:mod:`odeopt.rules.pieces`); floats, formula, breaks and range are computed from them.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
import operator
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from odeopt.checks import is_finite, is_number, is_symbolic
from odeopt.rules.counter import Counter, StepRefusal
from odeopt.rules.pieces import Piece, compiled, exact_number, steps_symbol, sympy_function, value_range

if TYPE_CHECKING:
    import sympy
    from typing_extensions import Self

__all__ = ["Combined", "Number", "Schedule"]

Number = Union[float, "sympy.Expr"]


@dataclass(frozen=True)
class Schedule(abc.ABC):
    r"""The values of a hyperparameter at k = 0, 1, 2, ...; subclass it to define your own by its pieces.

    Schedules are multiplied, added and divided, with each other and with numbers. They stand in any
    hyperparameter of any rule.

    Examples
    --------
    >>> from odeopt import HeavyBall
    >>> from odeopt.rules import Cosine, Warmup
    >>> lr = Warmup(10) * Cosine(0.1, steps=100)
    >>> lr(0), round(lr(10), 6), round(lr(50), 6), lr(100)
    (0.0, 0.097553, 0.05, 0.0)
    >>> rule = HeavyBall(lr, momentum=0.9)
    >>> rule.at_step(50).lr == lr(50)
    True
    """

    @abc.abstractmethod
    def pieces(self) -> tuple[Piece, ...]:
        """Return the expressions in ``steps_symbol()``, in order, the last one for ever or to the end."""

    def __call__(self, k: Any) -> Any:
        """Return the value at k: a float, an array, a tensor or an expression, as k is.

        Parameters
        ----------
        k : number, array_like, torch.Tensor or sympy.Expr
            Nonnegative; between integers the value is that of the formula.

        Returns
        -------
        object of the kind of k
            For an expression in a symbol the formula, see :meth:`formula`.
        """
        if is_symbolic(k) and not k.is_number:
            return self.formula(k)
        if is_number(k) or is_symbolic(k):
            return self._value(float(k))
        return self._values(k)

    def at(self, k: Any, name: str = "s") -> Any:
        """Return the value in step k.

        Parameters
        ----------
        k : int or sympy expression
            The step.
        name : str
            Where k is an indeterminate, the value is the function of this name, see :meth:`function`.

        Returns
        -------
        float or sympy.Expr
            The value; symbols stay where parameters hold them.
        """
        if isinstance(k, Counter):
            return k._guarded(self.function(name)(k.expr))
        if is_symbolic(k) and not k.is_number:
            return self.function(name)(k)
        return self(k)

    def formula(self, k: Any) -> Any:
        """Return the schedule as a sympy expression of k.

        Parameters
        ----------
        k : sympy.Expr
            What stands for k, such as t/h.

        Returns
        -------
        sympy.Expr
            A Piecewise where there are several pieces.

        Examples
        --------
        >>> import sympy
        >>> from odeopt.rules import InverseSqrt
        >>> InverseSqrt(0.1, offset=9).formula(sympy.Symbol("t"))
        1/(10*sqrt(t/9 + 1))
        """
        import sympy

        pieces = self.pieces()
        place = {steps_symbol(): k}
        if len(pieces) == 1:
            return pieces[0].expr.subs(place)
        cases = [(p.expr.subs(place), True if p.end is None else k < p.end) for p in pieces]
        return sympy.Piecewise(*cases)

    def function(self, name: str) -> Any:
        """Return a sympy function that has the values of the schedule at integers.

        Parameters
        ----------
        name : str
            As it prints.

        Returns
        -------
        sympy.FunctionClass
            Of one argument, evaluated where that is an integer.
        """
        return sympy_function(self, name)

    @property
    def is_numeric(self) -> bool:
        """Whether all its parameters are numbers."""
        return all(map(_is_plain, self._parameters()))

    @property
    def has_formula(self) -> bool:
        """Whether it is given by expressions in k, not by values at integers alone."""
        return all(v.has_formula for v in self._parameters() if isinstance(v, Schedule))

    @property
    def last(self) -> int | None:
        """The last k that has a value; None where all have."""
        end = self.pieces()[-1].end
        return None if end is None else math.ceil(end) - 1

    @property
    def breaks(self) -> tuple[float, ...]:
        """Where one piece ends and the next begins."""
        return tuple(float(p.end) for p in self.pieces()[:-1])

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value at integers k; beyond 100,000 looked for sparsely, of recursions not."""
        return value_range(self)

    @property
    def largest(self) -> float:
        """The largest value."""
        return self.range[1]

    def map(self, function: Callable[[Any], Any]) -> Self:
        """Return the schedule with `function` applied to each of its numbers.

        Parameters
        ----------
        function : callable
            From a scalar to a scalar.

        Returns
        -------
        Schedule
            Of the same class, with a schedule inside mapped likewise.
        """

        def mapped(value: Any) -> Any:
            if isinstance(value, Schedule):
                return value.map(function)
            if isinstance(value, tuple):
                return tuple(map(mapped, value))
            return function(value) if is_number(value) or is_symbolic(value) else value

        changes = {f.name: mapped(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return kind and parameters, for a JSON file.

        Returns
        -------
        dict
            The class as "schedule", then its parameters; expressions and functions as strings.

        Examples
        --------
        >>> from odeopt.rules import Cosine
        >>> Cosine(0.1, steps=100).to_dict()
        {'schedule': 'Cosine', 'start': 0.1, 'steps': 100, 'end': 0.0}
        """

        def plain(value: Any) -> Any:
            if isinstance(value, Schedule):
                return value.to_dict()
            if isinstance(value, tuple):
                return [plain(entry) for entry in value]
            return value if value is None or isinstance(value, (str, int, float)) else str(value)

        fields = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return {"schedule": type(self).__name__, **fields}

    @property
    def label(self) -> str:
        """For legends and tables."""

        def show(value: Any) -> str:
            return f"{float(value):.4g}" if is_number(value) else str(value)

        shown = ", ".join(show(getattr(self, f.name)) for f in dataclasses.fields(self))
        return f"{type(self).__name__}({shown})"

    def _repr_latex_(self) -> str:
        from odeopt.rules.formulas import latex

        return rf"$\displaystyle {latex(self.formula(steps_symbol()))}$"

    def __add__(self, other: Any) -> Any:
        return _combined("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combined("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combined("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combined("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return _combined("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combined("*", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combined("/", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combined("/", other, self)

    def _parameters(self) -> list[Any]:
        found: list[Any] = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            found += value if isinstance(value, tuple) else [value]
        return found

    def _value(self, k: float) -> float:
        self._require_within(k, k)
        ends, scalars, _ = compiled(self)
        place = next((i for i, end in enumerate(ends) if k < end), len(ends) - 1)
        return self._number_at(k, lambda: scalars[place](k))

    def _number_at(self, k: float, value: Callable[[], Any]) -> float:
        """A value at k, refused where a formula has none."""
        try:
            return float(value())
        except (ArithmeticError, ValueError) as error:
            raise StepRefusal(
                "broken", f"has the schedule {self.label}, which has no real value at k = {k:g}: {error}"
            ) from None

    def _values(self, k: Any) -> Any:
        torch = sys.modules["torch"] if type(k).__module__.partition(".")[0] == "torch" else None
        if torch is not None:
            values = self._values(k.detach().cpu().numpy())
            return torch.as_tensor(
                values, dtype=torch.get_default_dtype() if not k.is_floating_point() else k.dtype
            )
        import numpy as np

        k = np.asarray(k, dtype=float)
        if k.size == 0:
            return np.zeros(k.shape)
        self._require_within(float(k.min()), float(k.max()))
        ends, _, arrays = compiled(self)
        place = np.minimum(np.searchsorted(np.array(ends), k, side="right"), len(ends) - 1)
        with np.errstate(all="ignore"):
            return np.choose(place, [np.broadcast_to(f(k), k.shape) for f in arrays])

    @functools.cached_property
    def _known(self) -> tuple[bool, int | None]:
        """`is_numeric` and `last`, asked for at every step."""
        return self.is_numeric, self.last if self.is_numeric else None

    def _require_within(self, low: float, high: float) -> None:
        numeric, last = self._known
        if not numeric:
            free = ", ".join(
                sorted({str(s) for v in self._parameters() if is_symbolic(v) for s in v.free_symbols})
            )
            raise StepRefusal("broken", f"has the schedule {self.label}, which holds the symbols {free}")
        if not low >= 0:
            raise StepRefusal("broken", f"asks the schedule {self.label} for k = {low:g}, and k starts at 0")
        if last is not None and high > last:
            remedy = "give it more values, or run fewer steps"
            raise StepRefusal("broken", f"has the schedule {self.label}, which ends at k = {last}; {remedy}")


def _is_plain(value: Any) -> bool:
    return value.is_numeric if isinstance(value, Schedule) else not is_symbolic(value) or value.is_number


# --- sums and products ----------------------------------------------------------------------------------

_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class Combined(Schedule):
    """Sum, difference, product or ratio of two schedules, or of a schedule and a number."""

    operation: str
    left: Any
    right: Any

    def pieces(self) -> tuple[Piece, ...]:
        combine = _OPERATIONS[self.operation]
        left, right = (_pieces_of(side) for side in (self.left, self.right))
        found: list[Piece] = []
        while True:
            ends = [p.end for p in (left[0], right[0]) if p.end is not None]
            end = min(ends, default=None)
            found.append(Piece(end, combine(left[0].expr, right[0].expr)))
            if end is None:
                return tuple(found)
            left, right = (side[1:] if side[0].end == end else side for side in (left, right))
            if not (left and right):
                return tuple(found)

    @property
    def last(self) -> int | None:
        """The last k at which both sides have a value."""
        ends = [side.last for side in self._schedules() if side.last is not None]
        return min(ends, default=None)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Those of both sides."""
        return tuple(sorted({b for side in self._schedules() for b in side.breaks}))

    def _schedules(self) -> list[Schedule]:
        return [side for side in (self.left, self.right) if isinstance(side, Schedule)]

    # by its sides, which may be tables
    def _value(self, k: float) -> float:
        self._require_within(k, k)
        return self._number_at(k, lambda: self._of_sides(k))

    def _values(self, k: Any) -> Any:
        return self._of_sides(k)

    def _of_sides(self, k: Any) -> Any:
        left, right = (
            side(k) if isinstance(side, Schedule) else float(side) for side in (self.left, self.right)
        )
        return _OPERATIONS[self.operation](left, right)

    @property
    def label(self) -> str:
        """As it is written."""
        sides = [
            s.label if isinstance(s, Schedule) else f"{s:.4g}" if is_number(s) else str(s)
            for s in (self.left, self.right)
        ]
        return f"({f' {self.operation} '.join(sides)})"


def _pieces_of(side: Any) -> tuple[Piece, ...]:
    return side.pieces() if isinstance(side, Schedule) else (Piece(None, exact_number(side)),)


def _combined(operation: str, left: Any, right: Any) -> Any:
    for side in (left, right):
        if not (isinstance(side, Schedule) or is_finite(side) or is_symbolic(side)):
            return NotImplemented
    inner = right.left if isinstance(right, Combined) and right.operation == operation == "*" else None
    if is_number(left) and is_number(inner) and isinstance(right, Combined):  # of two factors one
        return Combined("*", left * inner, right.right)
    return Combined(operation, left, right)
