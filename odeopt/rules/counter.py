r"""The iteration number as an indeterminate: k in the reading of a step, guarded where it would be misread.

A plain symbol answers ``k == 100`` and ``k % 3 == 1`` with False and never tells. A :class:`Counter` does
arithmetic, notes every comparison with a small integer at the start of a run (``k == 0``, ``k in (0, 1)``,
``if k``), knows its residue where the rule declares a period, and refuses the rest by name. A :class:`Named`
is a hyperparameter that is a symbol, for steps that hand it to numpy: sympy's expressions have no np.cos.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from odeopt.checks import is_symbolic

__all__ = ["CHANCE", "Counter", "StepRefusal", "counter", "fraction_meant"]

# Iterations below this are the start of a run: a step may single them out, and its law is that of a larger k.
START = 10
# A float within four roundings of a fraction of denominator up to this was meant to be that fraction: 1 - 0.9
# is 1/10 and 2/3 is 2/3. The chance that another number is met by this is 1e-7.
_DENOMINATOR = 10_000

_FUNCTIONS = {f: f for f in ("sqrt", "exp", "log", "sin", "cos", "tan", "tanh", "sinh", "cosh", "cbrt")}
_FUNCTIONS |= {"arctan": "atan", "arcsin": "asin", "arccos": "acos", "arcsinh": "asinh"}
_EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "square": lambda e: e**2, "reciprocal": lambda e: 1 / e, "exp2": lambda e: 2**e, "negative": lambda e: -e,
    "positive": lambda e: e, "expm1": lambda e: e.exp() - 1, "log1p": lambda e: (e + 1).log(),
}  # fmt: skip
_ARITHMETIC = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "power": "pow"}
_ARITHMETIC |= {"float_power": "pow"}
_REMEDY = "declare `period = p` if the step repeats, or write the schedule as a smooth function of k"
_NUMBER = "float() or the module math"
_NUMPY = "no number in a derivation; take np.cos, np.exp, np.sqrt of numpy in place of those of math"

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

# Why a step is refused that gives two results from one state.
CHANCE = "does two things in two runs at the same k, so chance or a state is in it"


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real)


class StepRefusal(ValueError):
    """A step did what its reading cannot take; kind is "nonlinear", "counter" or "broken"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind: str = kind
        self.reason: str = reason


class _Unhashable(StepRefusal, TypeError):
    """For tables; at these words sympy's functions go on without their cache."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.args: tuple[Any, ...] = ("unhashable type: 'Counter'",)


class Counter:
    """A function of k, ``expr`` in sympy, for k = residue mod period; ``seen``: what k was compared with."""

    __slots__ = ("expr", "k", "period", "residue", "seen")
    _op_priority = 200.0  # above sympy's own expressions, which then leave mixed arithmetic to this class

    def __init__(self, expr: Any, k: Any, period: int, residue: int, seen: set[int]) -> None:
        self.expr: Any = expr
        self.k: Any = k
        self.period: int = period
        self.residue: int = residue
        self.seen: set[int] = seen

    # --- arithmetic ---------------------------------------------------------------------------------

    def _guarded(self, expr: Any) -> Any:
        """Guard a function of k; what no longer depends on k is a number."""
        if not expr.has(*self.k.free_symbols):
            return expr
        return Counter(expr, self.k, self.period, self.residue, self.seen)

    def _sympy_(self) -> Any:
        return self.expr

    def __pos__(self) -> Counter:
        return self

    def __neg__(self) -> Any:
        return self._guarded(-self.expr)

    def __getattr__(self, name: str) -> Callable[[], Any]:
        if name in _EXPRESSIONS:
            return lambda: _EXPRESSIONS[name](self)
        if name not in _FUNCTIONS:
            raise AttributeError(name)
        import sympy

        return lambda: self._guarded(getattr(sympy, _FUNCTIONS[name])(self.expr))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method == "__call__" and not options:
            if ufunc.__name__ in _FUNCTIONS or ufunc.__name__ in _EXPRESSIONS:
                return getattr(self, ufunc.__name__)()
            if ufunc.__name__ in _ARITHMETIC:
                plain = [value.item() if hasattr(value, "item") else value for value in inputs]
                return getattr(operator, _ARITHMETIC[ufunc.__name__])(*plain)
        raise self._refusal(f"np.{ufunc.__name__}")

    def _refusal(self, operation: str) -> StepRefusal:
        remedy = f", {_NUMPY}" if operation == _NUMBER else f"; {_REMEDY}"
        return StepRefusal("counter", f"uses {operation} on k{remedy}")

    # --- comparisons with the first iterations --------------------------------------------------------

    def _shift(self) -> int | None:
        """The integer c of k + c, else None."""
        shift = self.expr - self.k
        return int(shift) if getattr(shift, "is_Integer", False) else None

    def __eq__(self, value: Any) -> bool:
        number: Any = value
        if isinstance(value, Counter) and (self.expr - value.expr).expand() == 0:
            return True
        shift = self._shift()
        if shift is not None and _is_real(value):
            start: Any = number - shift
            if start < 0 or start != int(start):
                return False
            if start < START:
                self.seen.add(int(start))
                return False
        raise StepRefusal("counter", f"compares {self!r} with {value!r}; {_REMEDY}")

    def __ne__(self, value: Any) -> bool:
        return not self == value

    def _order(self, operation: str, value: Any) -> bool:
        """A comparison that has one answer from some early iteration on; the last other one is noted."""
        import sympy

        known = isinstance(value, Counter) or _is_real(value) or is_symbolic(value)
        j, (above, below) = sympy.Dummy(positive=True), self.k.as_numer_denom()
        left: Any = self
        change = sympy.sympify(left - value if known else left, strict=True).subs(above, j * below)
        product = sympy.Mul(*sympy.cancel(change).as_numer_denom()).as_poly(j)  # of the sign of the quotient
        if not known or product is None or not all(c.is_Rational for c in product.coeffs()):
            raise self._refusal(operation)
        later = bool(_ORDERS[operation](product.LC(), 0))
        last = max((int(sympy.floor(root)) for root in product.real_roots()), default=-1)
        while last >= 0 and bool(_ORDERS[operation](product.eval(last), 0)) == later:
            last -= 1
        if last >= START:
            raise self._refusal(operation)
        if last >= 0:
            self.seen.add(last)
        return later

    def __bool__(self) -> bool:
        return self != 0

    def __hash__(self) -> int:  # a set or a dict would look k up by identity
        raise _Unhashable("counter", f"looks k up in a set or a table; {_REMEDY}")

    # --- residues -----------------------------------------------------------------------------------

    def _residue(self, modulus: Any, operation: str) -> tuple[int, int]:
        """The expression modulo an integer that divides the period, and that integer."""
        shift = self._shift()
        whole = getattr(modulus, "is_Integer", False) or (_is_real(modulus) and modulus == int(modulus))
        if not whole or modulus < 1 or shift is None or self.period % int(modulus):
            raise StepRefusal("counter", f"uses {operation} {modulus!r} on k; {_REMEDY}")
        return (self.residue + shift) % int(modulus), int(modulus)

    def __mod__(self, value: Any) -> int:
        return self._residue(value, "%")[0]

    def __floordiv__(self, value: Any) -> Any:
        residue, modulus = self._residue(value, "//")
        return self._guarded((self.expr - residue) / modulus)

    def __divmod__(self, value: Any) -> tuple[Any, int]:
        return self // value, self % value

    def _alternating(self, exponent: Any) -> int:
        """(-1)^exponent, the same all along a residue: a plain symbol would never tell that it alternates."""
        import sympy

        j = sympy.Dummy(integer=True)
        place = sympy.expand(exponent.subs(self.k, self.residue + self.period * j))
        turns, first = place.coeff(j, 1), place.coeff(j, 0)
        if place - turns * j - first != 0 or not (first.is_Integer and turns.is_even):
            raise StepRefusal("counter", f"takes a negative number to the power {exponent}; {_REMEDY}")
        return -1 if first % 2 else 1

    def __repr__(self) -> str:
        return str(self.expr)


class Named(Counter):
    """A function of hyperparameters that are symbols; it stays one where a symbol drops out."""

    __slots__ = ()

    def __init__(self, expr: Any) -> None:
        super().__init__(expr, expr, 1, 0, set())

    def _guarded(self, expr: Any) -> Any:
        return Named(expr)

    def _refusal(self, operation: str) -> StepRefusal:
        remedy = _NUMPY if operation == _NUMBER else "without a value; a step must not decide by it"
        return StepRefusal("broken", f"uses {operation} on {self!r}, a symbol here and {remedy}")

    def __eq__(self, value: Any) -> bool:
        return bool(self.expr == (value.expr if isinstance(value, Counter) else value))

    def _order(self, operation: str, value: Any) -> bool:
        left: Any = self
        change = (left - value).expr
        if not (change.is_number and change.is_real):
            raise self._refusal(operation)
        return bool(_ORDERS[operation](change, 0))

    def __float__(self) -> float:
        if not self.expr.is_number:
            raise self._refusal(_NUMBER)
        return float(self.expr)

    def __hash__(self) -> int:
        return hash(self.expr)


def _binary(function: Callable[[Any, Any], Any], swapped: bool = False) -> Callable:
    def method(self: Counter, value: Any) -> Any:
        if isinstance(value, Counter):
            other = value.expr
        elif is_symbolic(value):
            other = value
        elif isinstance(value, numbers.Real):
            other = _exact(value)
        else:
            return NotImplemented
        base, exponent = (other, self.expr) if swapped else (self.expr, other)
        guard = value if isinstance(self, Named) and isinstance(value, Counter) else self
        if function is operator.pow and getattr(base, "is_negative", False):
            return guard._guarded(guard._alternating(exponent) * (-base) ** exponent)
        return guard._guarded(function(base, exponent))

    return method


def _exact(value: Any) -> Any:
    """A number as sympy sees it exactly, a float as what it was meant as."""
    import sympy

    meant = value if isinstance(value, numbers.Rational) else fraction_meant(float(value))
    return sympy.Rational(int(meant.numerator), int(meant.denominator))


def fraction_meant(value: float) -> Fraction:
    """The fraction or decimal that a float was meant as."""
    if not math.isfinite(value):
        raise StepRefusal("broken", f"multiplies a vector by {value}")
    near = Fraction(value).limit_denominator(_DENOMINATOR)
    meant = near and abs(near - Fraction(value)) <= 4 * Fraction(math.ulp(value))
    return near if meant else Fraction(repr(value))


def _refused(operation: str) -> Callable:
    def method(self: Counter, *args: Any) -> Any:
        raise self._refusal(operation)

    return method


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Counter, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(Counter, f"__r{_name}__", _binary(getattr(operator, _name), swapped=True))
for _name, _operation in {
    "rmod": "%", "rfloordiv": "//", "abs": "abs()",
    "index": "an index or a range", "int": "int()", "float": _NUMBER, "round": "round()",
    "floor": "math.floor", "ceil": "math.ceil", "trunc": "math.trunc", "and": "&", "rand": "&",
    "or": "|", "ror": "|", "xor": "^", "rxor": "^", "lshift": "<<", "rlshift": "<<", "rshift": ">>",
    "rrshift": ">>", "invert": "~",
}.items():  # fmt: skip
    setattr(Counter, f"__{_name}__", _refused(_operation))


def _ordered(operation: str) -> Callable[[Counter, Any], bool]:
    return lambda self, value: self._order(operation, value)


for _name, _operation in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items():
    setattr(Counter, f"__{_name}__", _ordered(_operation))


def counter(expr: Any, *, period: int = 1, residue: int = 0) -> Counter:
    """Guard k, given as the sympy expression that stands for it (a symbol, or t/h in a derivation)."""
    return Counter(expr, expr, period, residue, set())
