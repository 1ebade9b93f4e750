r"""What a step that is not linear is run on: one coordinate of each vector, guarded against sums over them.

A :class:`Component` stands for a whole vector and holds the expression of its general coordinate. Arithmetic
and functions entry by entry are read; a sum over coordinates only as ``norm`` or ``dot``, for in one
coordinate ``np.sum(g * g)`` would be :math:`g^2` and its root the absolute value of that coordinate alone.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy
from sympy import Expr, Mul, Rational

from odeopt.checks import is_symbolic
from odeopt.rules.counter import Counter, StepRefusal, fraction_meant
from odeopt.rules.vectors import VectorLike

if TYPE_CHECKING:  # sympy has no types: for a checker such an expression is anything
    from odeopt.rules.formulas import AnyExpr as Function
    from odeopt.rules.formulas import AnyExpr as Symbol
else:
    from sympy import Function, Symbol

__all__ = ["Component", "Coordinate", "Dot", "Norm", "is_vector_valued"]

_REMEDY = "use norm and dot of odeopt.rules for what joins coordinates"
_FUNCTIONS = {
    "sqrt": sympy.sqrt, "square": lambda e: e**2, "absolute": sympy.Abs, "fabs": sympy.Abs, "abs": sympy.Abs,
    "sign": sympy.sign, "exp": sympy.exp, "log": sympy.log, "log1p": lambda e: sympy.log(1 + e),
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "tanh": sympy.tanh, "sinh": sympy.sinh,
    "cosh": sympy.cosh, "arctan": sympy.atan, "atan": sympy.atan, "arcsinh": sympy.asinh,
    "asinh": sympy.asinh, "cbrt": sympy.cbrt, "reciprocal": lambda e: 1 / e,
    "rsqrt": lambda e: 1 / sympy.sqrt(e), "sigmoid": lambda e: 1 / (1 + sympy.exp(-e)),
}  # fmt: skip
_OPERATIONS = {
    "power": operator.pow, "float_power": operator.pow, "pow": operator.pow, "maximum": sympy.Max,
    "fmax": sympy.Max, "minimum": sympy.Min, "fmin": sympy.Min,
}  # fmt: skip
_ABOUT_SHAPE = (
    "shape", "size", "ndim", "dtype", "device", "numel", "dim", "item", "tolist", "reshape", "ravel", "T",
)  # fmt: skip


class Coordinate(Symbol):
    """A symbol for the general coordinate of a vector."""


def is_vector_valued(expr: Expr) -> bool:
    """Whether an expression differs from coordinate to coordinate."""
    if isinstance(expr, (Norm, Dot)):
        return False
    if isinstance(expr, Coordinate) or getattr(expr, "is_coordinate", False):
        return True
    if isinstance(expr, sympy.core.function.AppliedUndef):
        return True  # X(t) and the averages M(t)
    return any(is_vector_valued(e) for e in expr.args)


def _without_scalars(expr: Expr) -> tuple[Expr, Expr]:
    scalars = [f for f in Mul.make_args(expr) if not is_vector_valued(f)]
    return Mul(*scalars), Mul(*(f for f in Mul.make_args(expr) if is_vector_valued(f)))


class Norm(Function):
    """The Euclidean norm over all coordinates of the vector whose general coordinate is the argument."""

    is_real = True
    is_nonnegative = True

    @classmethod
    def eval(cls, expr: Expr) -> Expr | None:
        if expr == 0:
            return sympy.S.Zero
        scalar, vector = _without_scalars(sympy.factor_terms(expr))
        return None if scalar == 1 else sympy.Abs(scalar) * cls(vector)

    def _latex(self, printer, exp=None):
        text = rf"\left\lVert {printer.doprint(self.args[0])}\right\rVert"
        return text if exp is None else text + f"^{{{exp}}}"

    def _sympystr(self, printer):
        return f"|{printer.doprint(self.args[0])}|"


class Dot(Function):
    """The inner product over all coordinates."""

    is_real = True

    @classmethod
    def eval(cls, one: Expr, other: Expr) -> Expr | None:
        if one == other:
            return Norm(one) ** 2
        (a, u), (b, v) = (
            _without_scalars(sympy.factor_terms(one)),
            _without_scalars(sympy.factor_terms(other)),
        )
        if a * b == 0:
            return sympy.S.Zero
        ordered = sorted((u, v), key=sympy.default_sort_key)
        return None if a * b == 1 and ordered == [one, other] else a * b * cls(*ordered)

    def _latex(self, printer, exp=None):
        one, other = (printer.doprint(e) for e in self.args)
        text = rf"\left\langle {one},{other}\right\rangle"
        return text if exp is None else text + f"^{{{exp}}}"

    def _sympystr(self, printer):
        one, other = (printer.doprint(e) for e in self.args)
        return f"<{one}, {other}>"


def _plain(value: Any) -> Expr:
    """The expression of an operand; floats as what they were meant as."""
    if isinstance(value, Component):
        return value.expr
    if isinstance(value, Counter):
        return _plain(value.expr)
    if is_symbolic(value):
        floats = value.atoms(sympy.Float)
        return value.xreplace({f: Rational(fraction_meant(float(f))) for f in floats}) if floats else value
    if isinstance(value, numbers.Real):
        meant = value if isinstance(value, numbers.Rational) else fraction_meant(float(value))
        return Rational(meant.numerator, meant.denominator)
    if getattr(value, "size", None) == 1 and hasattr(value, "item"):
        return _plain(value.item())
    if hasattr(value, "shape"):
        raise StepRefusal("nonlinear", f"joins a vector with an array of shape {tuple(value.shape)}")
    raise StepRefusal("broken", f"joins a vector with an object of type {type(value).__name__}")


def _joined(operation: str) -> StepRefusal:
    return StepRefusal("joined", f"takes {operation}, which joins the coordinates; {_REMEDY}")


class Component(VectorLike):
    """The general coordinate of a vector, or a number made of vectors by ``norm`` and ``dot``."""

    __slots__ = ("expr", "given")
    __hash__: None = None  # type: ignore[assignment]
    _op_priority = 300.0  # sympy's expressions leave mixed arithmetic to this class
    __array_priority__: float = 300.0

    def __init__(self, expr: Expr, given: bool = False) -> None:
        self.expr: Expr = expr
        self.given: bool = given

    def _operand(self, value: Any) -> Component:
        return Component(_plain(value))

    def norm(self) -> Component:
        """Euclidean norm over all coordinates."""
        return Component(Norm(self.expr) if is_vector_valued(self.expr) else sympy.Abs(self.expr))

    def dot(self, other: Any) -> Component:
        """Inner product over all coordinates."""
        other = _plain(other)
        if not (is_vector_valued(self.expr) and is_vector_valued(other)):
            return Component(sympy.S.Zero if 0 in (self.expr, other) else self.expr * other)
        return Component(Dot(self.expr, other))

    def clip(self, *bounds: Any, **named: Any) -> Component:
        """Clip entry by entry."""
        low, high = (*bounds, None, None)[:2]
        low = named.get("min", named.get("a_min", low))
        high = named.get("max", named.get("a_max", high))
        expr = self.expr if low is None else sympy.Max(self.expr, _plain(low))
        return Component(expr if high is None else sympy.Min(expr, _plain(high)))

    clamp = clip

    def __neg__(self) -> Component:
        return Component(-self.expr)

    def __pos__(self) -> Component:
        return Component(self.expr)

    def __abs__(self) -> Component:
        return Component(sympy.Abs(self.expr))

    def __getattr__(self, name: str) -> Callable[[], Component]:
        if name in _FUNCTIONS:
            return lambda: Component(_FUNCTIONS[name](self.expr))
        if name.startswith("__") or name in ("free_symbols", "_sympy_", "is_commutative"):
            raise AttributeError(name)
        if name in _ABOUT_SHAPE:
            reason = f"asks a vector for .{name}; a step must not depend on the shape of the iterates"
            raise StepRefusal("broken", reason)
        raise _joined(f".{name}() of a vector")

    def _unread(self, name: str, args: Any, options: Any) -> Component:
        """A function entry by entry, or the refusal of one that joins coordinates or chooses among them."""
        plain = name.partition(".")[2]
        if plain in _FUNCTIONS and len(args) == 1:
            return Component(_FUNCTIONS[plain](_plain(args[0])))
        if plain in _OPERATIONS and len(args) == 2:
            return Component(_OPERATIONS[plain](*map(_plain, args)))
        if plain == "ones_like":
            return Component(sympy.S.One)
        if plain in ("clip", "clamp"):
            return args[0].clip(*args[1:], **options)
        if plain in ("where", "select", "piecewise"):
            raise StepRefusal("unread", f"takes {name} of a vector, a choice that has no reading in symbols")
        if isinstance(getattr(np, plain, None), np.ufunc):
            raise StepRefusal("unread", f"takes {name} of a vector, which has no reading in symbols")
        raise _joined(f"{name} of a vector")


def _binary(combine: Callable[[Expr, Expr], Expr], swapped: bool = False) -> Callable[..., Component]:
    if swapped:
        return lambda self, other: Component(combine(_plain(other), self.expr))
    return lambda self, other: Component(combine(self.expr, _plain(other)))


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Component, f"__{_name}__", _binary(getattr(operator, _name)))
    setattr(Component, f"__r{_name}__", _binary(getattr(operator, _name), swapped=True))


def _refusing(operation: str):
    def method(self, *args):
        raise StepRefusal("unread", operation)

    return method


_UNREAD = {
    ("lt", "le", "gt", "ge"): (
        "compares a vector, a choice that has no reading in symbols; write min() and max() as np.minimum and "
        "np.maximum"
    ),
    ("eq", "ne", "contains"): "compares a vector, a choice that has no reading in symbols",
    ("bool", "float", "int", "complex", "index", "round"): f"turns a vector into a number; {_REMEDY}",
    ("len", "iter", "getitem", "setitem"): f"takes single coordinates of a vector; {_REMEDY}",
    ("matmul", "rmatmul"): f"takes a product @ of vectors; {_REMEDY}",
    ("floordiv", "rfloordiv", "mod", "rmod"): "takes // or % of a vector",
}
for _names, _operation in _UNREAD.items():
    for _name in _names:
        setattr(Component, f"__{_name}__", _refusing(_operation))
