r"""Linear forms with exact coefficients: what a step is run on when it is read.

A :class:`Form` is a finite map {indeterminate: coefficient}. The indeterminates are the iterates ("x", j),
the memories ("m", i), the gradients ("g", l) that the step has taken, and the constant ("1", 0); coefficients
are exact numbers or sympy expressions of k and the hyperparameters. Sums of forms and their multiples are
forms; every other operation is refused by its name, which is what "not linear" means.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from odeopt.checks import is_symbolic
from odeopt.rules.counter import Counter, StepRefusal, fraction_meant
from odeopt.rules.vectors import VectorLike

__all__ = ["CONSTANT", "Form", "exact_coefficient", "is_zero"]

CONSTANT = ("1", 0)


def exact_coefficient(value: Any) -> Any:
    """Read a number as int, Fraction or sympy expression, a float as the fraction or decimal it was meant as.

    Raises StepRefusal if it is no finite real number.
    """
    if isinstance(value, (int, Fraction)):
        return value
    if isinstance(value, Counter):
        return _expression(value.expr)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return fraction_meant(float(value))
    if is_symbolic(value) and hasattr(value, "is_commutative"):
        return _expression(value)
    if isinstance(value, numbers.Complex):
        raise StepRefusal("nonlinear", f"multiplies by the complex number {value!r}")
    if not hasattr(value, "shape"):
        raise StepRefusal("broken", f"joins a vector with an object of type {type(value).__name__}")
    if math.prod(value.shape) == 1:
        return exact_coefficient(value.item())  # an array or a tensor of one number
    shape = tuple(value.shape)
    raise StepRefusal("nonlinear", f"joins a vector with an array of shape {shape}, coordinate by coordinate")


def _expression(value: Any) -> Any:
    """A sympy expression without floats; a number as Fraction, so that numeric rules never leave them."""
    import sympy

    if value.is_Rational:
        return Fraction(int(value.p), int(value.q))
    if value.has(sympy.Float):
        value = value.xreplace(
            {f: sympy.Rational(fraction_meant(float(f))) for f in value.atoms(sympy.Float)}
        )
    if value.has(sympy.nan, sympy.oo, sympy.zoo, -sympy.oo):
        raise StepRefusal("broken", f"multiplies a vector by {value}")
    if value.has(sympy.I):
        raise StepRefusal("nonlinear", f"multiplies by the complex number {value}")
    if value.has(sympy.Mod, sympy.floor, sympy.ceiling, sympy.Piecewise, sympy.core.relational.Relational):
        reason = f"has the coefficient {value}, which jumps; declare `period = p`, or use a smooth function"
        raise StepRefusal("counter", reason)
    return value


def is_zero(value: Any) -> bool | None:
    """Whether a coefficient is 0 exactly; None where sympy cannot decide it."""
    if not is_symbolic(value):
        return bool(value == 0)
    import sympy

    if value.is_rational_function():
        return bool(sympy.cancel(value) == 0)
    place = {
        v: sympy.Integer(12 + i) if v.is_integer else sympy.Rational(i + 2, i + 101)
        for i, v in _numbered(value)
    }
    found = value.subs(place).evalf(30)
    if found.is_number and found.is_finite and abs(found) > 1e-20:
        return False  # it is not 0 there, and simplifying it would take seconds
    return True if sympy.simplify(value) == 0 else value.equals(0)


def _numbered(value: Any) -> Any:
    return enumerate(sorted(value.free_symbols, key=str))


def _shortest(value: Any) -> Any:
    """A coefficient cancelled, 0 where it vanishes."""
    if not is_symbolic(value):
        return value
    import sympy

    if not value.is_rational_function():
        return value if value.is_zero is False or not is_zero(value) else 0
    value = sympy.cancel(value)
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else value


def _symbolic(value: Any) -> Any:
    """A Fraction as sympy's Rational, for arithmetic with its expressions."""
    if not isinstance(value, Fraction):
        return value
    import sympy

    return sympy.Rational(value.numerator, value.denominator)


def _plus(a: Any, b: Any) -> Any:
    return _symbolic(a) + _symbolic(b) if is_symbolic(a) or is_symbolic(b) else a + b


def _times(a: Any, b: Any) -> Any:
    return _symbolic(a) * _symbolic(b) if is_symbolic(a) or is_symbolic(b) else a * b


class Form(VectorLike):
    """A linear form; ``given`` marks those that the step was handed and must not change in place."""

    __slots__ = ("given", "terms")
    _op_priority = 300.0  # sympy's expressions leave mixed products to this class
    __array_priority__: float = 300.0

    def __init__(self, terms: dict[tuple[str, int], Any], given: bool = False) -> None:
        self.terms: dict[tuple[str, int], Any] = terms
        self.given: bool = given

    def coefficient(self, indeterminate: tuple[str, int]) -> Any:
        """The coefficient of one indeterminate."""
        return self.terms.get(indeterminate, 0)

    def shortened(self) -> Form:
        """Coefficients cancelled, zeros dropped."""
        terms = {v: _shortest(c) for v, c in self.terms.items()}
        return Form({v: c for v, c in terms.items() if c != 0})

    # --- what is linear -----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Form:
        added = other.terms if isinstance(other, Form) else {CONSTANT: exact_coefficient(other)}
        terms = dict(self.terms)
        for v, c in added.items():
            total = _plus(terms.pop(v), c) if v in terms else c
            if total != 0:
                terms[v] = total
        return Form(terms)

    def __mul__(self, other: Any) -> Form:
        if isinstance(other, Form):
            raise StepRefusal("nonlinear", "takes the product of two vectors")
        factor = exact_coefficient(other)
        return Form({v: _times(c, factor) for v, c in self.terms.items()} if factor != 0 else {})

    def __truediv__(self, other: Any) -> Form:
        if isinstance(other, Form):
            raise StepRefusal("nonlinear", "takes the quotient of two vectors")
        divisor = exact_coefficient(other)
        if is_zero(divisor):
            raise StepRefusal("broken", "divides by zero")
        return self * (1 / divisor if is_symbolic(divisor) else Fraction(1) / divisor)

    def __sub__(self, other: Any) -> Form:
        return self + (-other if isinstance(other, Form) else -exact_coefficient(other))

    def __rsub__(self, other: Any) -> Form:
        return -self + other

    def __neg__(self) -> Form:
        return Form({v: -c for v, c in self.terms.items()})

    def __pos__(self) -> Form:
        return Form(dict(self.terms))

    def __radd__(self, other: Any) -> Form:
        return self + other

    def __rmul__(self, other: Any) -> Form:
        return self * other

    def _operand(self, value: Any) -> Any:
        return exact_coefficient(value)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise StepRefusal("broken", "turns a vector into a numpy array; leave the iterates as they come")

    def __getattr__(self, name: str) -> Callable[[], Form]:
        if name.startswith("__") or name in ("free_symbols", "_sympy_", "is_commutative"):
            raise AttributeError(name)
        if name in ("shape", "size", "ndim", "dtype", "device", "numel", "dim", "reshape", "ravel"):
            reason = f"asks a vector for .{name}; a step must not depend on the shape of the iterates"
            raise StepRefusal("broken", reason)
        raise StepRefusal("nonlinear", f"takes .{name} of a vector")


def _refused(operation: str) -> Callable:
    def method(self: Form, *args: Any) -> Any:
        raise StepRefusal("nonlinear", operation)

    return method


for _names, _operation in {
    "pow": "takes a power of a vector", "rpow": "takes a power with a vector in the exponent",
    "rtruediv": "divides by a vector", "abs": "takes abs() of a vector", "round": "rounds a vector",
    "floordiv rfloordiv": "takes // of a vector", "mod rmod": "takes % of a vector",
    "matmul rmatmul": "takes a product @ of vectors", "bool": "asks whether a vector is true",
    "lt le gt ge": "compares a vector, as min() and max() do", "eq ne contains": "compares a vector",
    "hash": "looks a vector up in a set or a table",
    "float int index complex": "turns a vector into a number", "len": "takes len() of a vector",
    "iter": "runs over the coordinates of a vector", "getitem": "takes single coordinates of a vector",
    "setitem": "changes coordinates of a vector",
}.items():  # fmt: skip
    for _name in _names.split():
        setattr(Form, f"__{_name}__", _refused(_operation))
