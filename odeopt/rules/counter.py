r"""The iteration number as an indeterminate: k in the reading of a step, guarded against what would be false for ever.

A plain symbol answers ``k == 100`` and ``k % 3 == 1`` with False and never tells. A :class:`Counter` does
arithmetic, notes every comparison with a small integer at the start of a run (``k == 0``, ``k in (0, 1)``,
``if k``), knows its residue where the rule declares a period, and refuses the rest by name.
"""

from __future__ import annotations

import numbers
from typing import Any

from odeopt.checks import is_symbolic

__all__ = ["Counter", "StepRefusal", "counter"]

# Iterations below this are the start of a run: a step may single them out, and its law is that of a larger k.
START = 10

_FUNCTIONS = ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh")
_ARITHMETIC = {
    "add": "__add__", "subtract": "__sub__", "multiply": "__mul__", "divide": "__truediv__", "power": "__pow__"
}  # fmt: skip
_REMEDY = "declare `period = p` if the step repeats, or write the schedule as a smooth function of k"


class StepRefusal(ValueError):
    """A step did something that its reading cannot take; kind is "nonlinear", "counter" or "broken"."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind, self.reason = kind, reason


class Counter:
    """A function of the iteration k: ``expr`` in sympy, ``residue`` where k = residue mod period, ``seen`` what k was compared with."""

    __slots__ = ("expr", "k", "period", "residue", "seen")
    _op_priority = 200.0  # above sympy's own expressions, which then leave mixed arithmetic to this class
    __hash__ = None  # type: ignore[assignment]  # a set or a dict would look k up by identity

    def __init__(self, expr: Any, k: Any, period: int, residue: int, seen: set[int]):
        self.expr, self.k, self.period, self.residue, self.seen = expr, k, period, residue, seen

    # --- arithmetic ---------------------------------------------------------------------------------

    def _with(self, expr: Any) -> Any:
        """Guard a function of k; what no longer depends on k is a number."""
        if not expr.has(*self.k.free_symbols):
            return expr
        return Counter(expr, self.k, self.period, self.residue, self.seen)

    def _other(self, value: Any) -> Any:
        """The other operand as (sympy expression, whether the result stays guarded); None if it is not ours."""
        if isinstance(value, Counter):
            return value.expr, True
        if is_symbolic(value):
            return value, bool(value.is_number)
        if isinstance(value, numbers.Real):
            return _exact(value), True
        return None

    def _binary(self, value: Any, combine) -> Any:
        other = self._other(value)
        if other is None:
            return NotImplemented
        result = combine(self.expr, other[0])
        return self._with(result) if other[1] else result

    def __add__(self, value):
        return self._binary(value, lambda a, b: a + b)

    def __sub__(self, value):
        return self._binary(value, lambda a, b: a - b)

    def __rsub__(self, value):
        return self._binary(value, lambda a, b: b - a)

    def __mul__(self, value):
        return self._binary(value, lambda a, b: a * b)

    def __truediv__(self, value):
        return self._binary(value, lambda a, b: a / b)

    def __rtruediv__(self, value):
        return self._binary(value, lambda a, b: b / a)

    def __pow__(self, value):
        return self._binary(value, lambda a, b: a**b)

    def __rpow__(self, value):
        return self._binary(value, lambda a, b: b**a)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self):
        return self._with(-self.expr)

    def __pos__(self):
        return self

    def _sympy_(self):
        return self.expr

    def __getattr__(self, name: str):
        if name in _FUNCTIONS:
            import sympy

            return lambda: self._with(getattr(sympy, name)(self.expr))
        raise AttributeError(name)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        if method == "__call__" and not options:
            if ufunc.__name__ in _FUNCTIONS:
                return getattr(self, ufunc.__name__)()
            if ufunc.__name__ in _ARITHMETIC:
                import operator

                numbers_ = [v.item() if hasattr(v, "item") else v for v in inputs]
                return getattr(operator, _ARITHMETIC[ufunc.__name__])(*numbers_)
        raise StepRefusal("counter", f"np.{ufunc.__name__} of k is not read; {_REMEDY}")

    # --- comparisons --------------------------------------------------------------------------------

    def _shift(self) -> Any:
        """The integer c of k + c, else None."""
        shift = self.expr - self.k
        return int(shift) if getattr(shift, "is_Integer", False) else None

    def _equals(self, value: Any) -> bool:
        if isinstance(value, Counter):
            if (self.expr - value.expr).expand() == 0:
                return True
            raise StepRefusal(
                "counter", f"compares two functions of k, {self.expr} and {value.expr}; {_REMEDY}"
            )
        shift = self._shift()
        if shift is not None and isinstance(value, numbers.Real):
            start = value - shift
            if start < 0 or start != int(start):
                return False
            if start < START:
                self.seen.add(int(start))
                return False
        raise StepRefusal("counter", f"compares {self.expr} with {value!r}; {_REMEDY}")

    def __eq__(self, value):
        return self._equals(value)

    def __ne__(self, value):
        return not self._equals(value)

    def __bool__(self):
        return not self._equals(0)

    def _refused(self, operation: str):
        raise StepRefusal("counter", f"uses {operation} on k; {_REMEDY}")

    def __lt__(self, value):
        return self._refused("<")

    def __le__(self, value):
        return self._refused("<=")

    def __gt__(self, value):
        return self._refused(">")

    def __ge__(self, value):
        return self._refused(">=")

    # --- residues -----------------------------------------------------------------------------------

    def __mod__(self, value):
        p, shift = _modulus(value), self._shift()
        if p is None or shift is None or self.period % p:
            return self._refused(f"% {value!r}")
        return (self.residue + shift) % p

    def __floordiv__(self, value):
        p, shift = _modulus(value), self._shift()
        if p is None or shift is None or self.period % p:
            return self._refused(f"// {value!r}")
        return self._with((self.expr - (self.residue + shift) % p) / _exact(p))

    def __divmod__(self, value):
        return self // value, self % value

    def __rmod__(self, value):
        return self._refused("%")

    def __rfloordiv__(self, value):
        return self._refused("//")

    def __index__(self):
        return self._refused("an index or a range")

    def __int__(self):
        return self._refused("int()")

    def __float__(self):
        return self._refused(
            "float() or a function of the module math (those of numpy and odeopt.rules.sqrt are read)"
        )

    def __abs__(self):
        return self._refused("abs()")

    def __round__(self, digits=None):
        return self._refused("round()")

    def __floor__(self):
        return self._refused("math.floor")

    def __ceil__(self):
        return self._refused("math.ceil")

    def __repr__(self):
        return str(self.expr)


def _modulus(value: Any) -> int | None:
    if isinstance(value, numbers.Real) and value == int(value) and value > 0:
        return int(value)
    return int(value) if getattr(value, "is_Integer", False) and value > 0 else None


def _exact(value: Any) -> Any:
    """The number as sympy sees it exactly; a float is the decimal it prints as."""
    import sympy

    if isinstance(value, numbers.Rational):
        return sympy.Rational(value.numerator, value.denominator)
    return sympy.Rational(repr(float(value)))


def counter(expr: Any, *, period: int = 1, residue: int = 0) -> Counter:
    """Guard k, given as the sympy expression that stands for it (a symbol, or t/h in a derivation)."""
    return Counter(expr, expr, period, residue, set())
