r"""Linear forms with exact coefficients: what a step is run on when it is read.

A :class:`Form` is a finite map {indeterminate: coefficient}. The indeterminates are the iterates ("x", j), the
memories ("m", i), the gradients ("g", l) that the step has taken, and the constant ("1", 0); coefficients are
exact numbers or sympy expressions of k and the hyperparameters. Sums of forms and multiples by numbers are forms;
every other operation is refused by its name, which is what "not linear" means.
"""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

from odeopt.checks import is_symbolic
from odeopt.rules.counter import Counter, StepRefusal

__all__ = ["CONSTANT", "Form", "exact_coefficient", "is_zero"]

CONSTANT = ("1", 0)
# A float within four roundings of a fraction with a denominator up to this was meant to be that fraction: 1 - 0.9 is
# 1/10 and 2/3 is 2/3. The chance that another number is met by this is 1e-7.
_DENOMINATOR = 10_000


def exact_coefficient(value: Any) -> Any:
    """Read a number as int, Fraction or sympy expression, a float as the fraction or decimal it was meant as.

    Raises StepRefusal if it is no finite real number.
    """
    if isinstance(value, Counter):
        return value.expr
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, Fraction):
        return value
    if isinstance(value, numbers.Real):
        return _fraction(float(value))
    if is_symbolic(value) and hasattr(value, "is_commutative"):
        return _expression(value)
    if getattr(value, "ndim", None) == 0 or getattr(value, "size", None) == 1:
        return exact_coefficient(value.item())  # an array or a tensor of one number
    if isinstance(value, numbers.Complex):
        raise StepRefusal("nonlinear", f"multiplies by the complex number {value!r}")
    if hasattr(value, "shape"):
        raise StepRefusal(
            "nonlinear",
            f"joins a vector with an array of shape {tuple(value.shape)}, so it treats coordinates differently",
        )
    raise StepRefusal("broken", f"joins a vector with an object of type {type(value).__name__}")


def _fraction(value: float) -> Fraction:
    if not math.isfinite(value):
        raise StepRefusal("broken", f"multiplies a vector by {value}")
    near = Fraction(value).limit_denominator(_DENOMINATOR)
    if abs(near - Fraction(value)) <= 4 * Fraction(math.ulp(value)) and near:
        return near
    return Fraction(repr(value))


def _expression(value: Any) -> Any:
    """A sympy expression without floats; its numbers as Fractions, so that numeric rules never leave them."""
    import sympy

    if value.has(sympy.Float):
        value = value.xreplace({f: sympy.Rational(_fraction(float(f))) for f in value.atoms(sympy.Float)})
    if value.is_Rational:
        return Fraction(int(value.p), int(value.q))
    if value.has(sympy.nan, sympy.oo, sympy.zoo, -sympy.oo):
        raise StepRefusal("broken", f"multiplies a vector by {value}")
    if value.has(sympy.I):
        raise StepRefusal("nonlinear", f"multiplies by the complex number {value}")
    if value.has(sympy.Mod, sympy.floor, sympy.ceiling, sympy.Piecewise, sympy.core.relational.Relational):
        raise StepRefusal(
            "counter",
            f"has the coefficient {value}, which jumps; declare `period = p`, or write it as a smooth function",
        )
    return value


def is_zero(value: Any) -> bool | None:
    """Whether a coefficient is 0 exactly; None where sympy cannot decide it."""
    if not is_symbolic(value):
        return value == 0
    import sympy

    if value.is_rational_function():
        return sympy.cancel(value) == 0
    return True if sympy.simplify(value) == 0 else value.equals(0)


def _number(value: Any) -> Any:
    """A coefficient in its shortest exact form."""
    if not is_symbolic(value):
        return value
    import sympy

    value = sympy.cancel(value) if value.is_rational_function() else value
    return Fraction(int(value.p), int(value.q)) if value.is_Rational else value


def _vanishes(short: Any) -> bool:
    """Whether a cancelled coefficient is 0."""
    if not is_symbolic(short) or short.is_rational_function():
        return bool(short == 0)
    return is_zero(short) is True


_ALLOWED = {"add": "__add__", "subtract": "__sub__", "multiply": "__mul__", "divide": "__truediv__"}
_COPIES = ("copy", "clone", "detach")
_ABOUT_SHAPE = (
    "shape",
    "size",
    "ndim",
    "dtype",
    "device",
    "numel",
    "dim",
    "item",
    "tolist",
    "flatten",
    "reshape",
    "ravel",
    "T",
)


def _nonlinear(operation: str) -> StepRefusal:
    return StepRefusal("nonlinear", f"takes {operation}")


class Form:
    """A linear form; ``given`` marks those that the step was handed and must not change in place."""

    __slots__ = ("given", "terms")
    __hash__ = None  # type: ignore[assignment]
    _op_priority = 300.0  # sympy's expressions leave mixed products to this class
    __array_priority__ = 300.0

    def __init__(self, terms: dict, given: bool = False):
        self.terms, self.given = terms, given

    @classmethod
    def of(cls, indeterminate: tuple[str, int]) -> Form:
        """The indeterminate itself, as an argument of the step."""
        return cls({indeterminate: 1}, given=True)

    def coefficient(self, indeterminate: tuple[str, int]) -> Any:
        return self.terms.get(indeterminate, 0)

    def shortened(self) -> Form:
        """Coefficients cancelled, zeros dropped."""
        terms = {v: _number(c) for v, c in self.terms.items()}
        return Form({v: c for v, c in terms.items() if not _vanishes(c)})

    # --- what is linear -----------------------------------------------------------------------------

    def _sum(self, other: Any, own: int, theirs: int) -> Any:
        if not isinstance(other, Form):
            value = exact_coefficient(other)
            other = Form({CONSTANT: value} if value != 0 else {})
        terms = dict(self.terms) if own == 1 else {v: -c for v, c in self.terms.items()}
        for v, c in other.terms.items():
            total = _plus(terms.get(v, 0), c if theirs == 1 else -c)
            if not is_symbolic(total) and total == 0:
                terms.pop(v, None)
            else:
                terms[v] = total
        return Form(terms)

    def __add__(self, other):
        return self._sum(other, 1, 1)

    def __sub__(self, other):
        return self._sum(other, 1, -1)

    def __rsub__(self, other):
        return self._sum(other, -1, 1)

    __radd__ = __add__

    def __neg__(self):
        return Form({v: -c for v, c in self.terms.items()})

    def __pos__(self):
        return Form(dict(self.terms))

    def __mul__(self, other):
        if isinstance(other, Form):
            raise _nonlinear("the product of two vectors")
        factor = exact_coefficient(other)
        return Form({v: _times(c, factor) for v, c in self.terms.items()} if factor != 0 else {})

    __rmul__ = __mul__

    def __truediv__(self, other):
        if isinstance(other, Form):
            raise _nonlinear("the quotient of two vectors")
        divisor = exact_coefficient(other)
        if is_zero(divisor):
            raise StepRefusal("broken", "divides by zero")
        inverse = 1 / divisor if is_symbolic(divisor) else Fraction(1) / divisor
        return Form({v: _times(c, inverse) for v, c in self.terms.items()})

    # --- arrays: numpy and torch come here with the name of their function -----------------------------

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        name = ufunc.__name__
        if options.get("out") is not None:
            raise StepRefusal(
                "broken", f"writes into an array with np.{name}(..., out=...); a step returns new values"
            )
        if method == "__call__" and name in ("negative", "positive"):
            return -self if name == "negative" else +self
        if method == "__call__" and name in _ALLOWED:
            first, second = (v if isinstance(v, Form) else exact_coefficient(v) for v in inputs)
            if not isinstance(first, Form) and name == "subtract":
                return second.__rsub__(first)
            if not isinstance(first, Form):
                return (
                    second.__rtruediv__(first) if name == "divide" else getattr(second, _ALLOWED[name])(first)
                )
            return getattr(first, _ALLOWED[name])(second)
        raise _nonlinear(f"np.{name}" + ("" if method == "__call__" else f".{method}") + " of a vector")

    def __array_function__(self, function, types, args, kwargs):
        if function.__name__ == "zeros_like":
            return Form({})
        if function.__name__ == "copy":
            return +self
        raise _nonlinear(f"np.{function.__name__} of a vector")

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", str(function))
        if name in ("zeros_like", "clone"):
            return Form({}) if name == "zeros_like" else +args[0]
        raise _nonlinear(f"torch.{name} of a vector")

    def __array__(self, *args, **options):
        raise StepRefusal("broken", "turns a vector into a numpy array; leave the iterates as they come")

    def __getattr__(self, name: str):
        if name in _COPIES:
            return lambda: +self
        if name.startswith("__") or name in ("free_symbols", "_sympy_", "is_commutative"):
            raise AttributeError(name)
        if name in _ABOUT_SHAPE:
            raise StepRefusal(
                "broken", f"asks a vector for .{name}; a step must not depend on the shape of the iterates"
            )
        raise _nonlinear(f".{name}() of a vector")


def _plus(a: Any, b: Any) -> Any:
    return _mixed(a) + _mixed(b) if is_symbolic(a) or is_symbolic(b) else a + b


def _times(a: Any, b: Any) -> Any:
    return _mixed(a) * _mixed(b) if is_symbolic(a) or is_symbolic(b) else a * b


def _mixed(value: Any) -> Any:
    """A Fraction as sympy's Rational, for arithmetic with its expressions."""
    if not isinstance(value, Fraction):
        return value
    import sympy

    return sympy.Rational(value.numerator, value.denominator)


def _refusing(operation: str, kind: str = "nonlinear"):
    def method(self, *args):
        raise StepRefusal(kind, operation)

    return method


def _in_place(operation: str, plain):
    def method(self, other):
        if self.given:
            raise StepRefusal(
                "broken",
                f"changes an iterate or a memory in place with `{operation}=`; write x = x {operation} ... instead",
            )
        return plain(self, other)

    return method


for _name, _operation in {
    "__pow__": "takes a power of a vector", "__rpow__": "takes a power with a vector in the exponent",
    "__rtruediv__": "divides by a vector", "__abs__": "takes abs() of a vector",
    "__floordiv__": "takes // of a vector", "__rfloordiv__": "takes // of a vector",
    "__mod__": "takes % of a vector", "__rmod__": "takes % of a vector",
    "__matmul__": "takes a product @ of vectors", "__rmatmul__": "takes a product @ of vectors",
    "__lt__": "compares a vector", "__le__": "compares a vector", "__gt__": "compares a vector",
    "__ge__": "compares a vector", "__eq__": "compares a vector", "__ne__": "compares a vector",
    "__bool__": "takes the truth value of a vector", "__float__": "turns a vector into a number",
    "__int__": "turns a vector into a number", "__index__": "turns a vector into a number",
    "__complex__": "turns a vector into a number", "__round__": "rounds a vector",
    "__len__": "takes len() of a vector", "__iter__": "runs over the coordinates of a vector",
    "__getitem__": "takes single coordinates of a vector", "__setitem__": "changes coordinates of a vector",
    "__contains__": "compares a vector",
    "sqrt": "takes the square root of a vector", "sign": "takes the sign of a vector",
}.items():  # fmt: skip
    setattr(Form, _name, _refusing(_operation))
for _operation, _plain in {
    "+": Form.__add__,
    "-": Form.__sub__,
    "*": Form.__mul__,
    "/": Form.__truediv__,
}.items():
    setattr(
        Form,
        {"+": "__iadd__", "-": "__isub__", "*": "__imul__", "/": "__itruediv__"}[_operation],
        _in_place(_operation, _plain),
    )
