r"""What stands for an array in a step does as arrays do: in place, and at the call of numpy and torch.

``u = v`` is a second name of one array, so ``u += w`` changes v as well. A stand-in that only gave u another
value would be the reading of another step than that which is run on arrays.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from odeopt.rules.counter import StepRefusal

__all__ = ["VectorLike"]

_LINEAR: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, alpha=1: a + b if alpha == 1 else a + b * alpha,
    "subtract": lambda a, b, alpha=1: a - b if alpha == 1 else a - b * alpha,
    "multiply": operator.mul, "divide": operator.truediv, "negative": operator.neg,
    "lerp": lambda a, b, weight: a + (b - a) * weight, "positive": operator.pos,
    "copy": lambda a, **_: +a, "zeros_like": lambda a, **_: 0 * a, "zero": lambda a: 0 * a,
}  # fmt: skip
_LINEAR |= {short: _LINEAR[name] for short, name in {
    "sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide", "neg": "negative",
    "clone": "copy",
}.items()}  # fmt: skip
_METHODS = ("add", "sub", "mul", "div", "neg", "lerp", "copy", "clone")


class VectorLike:
    """Arithmetic in place and by name; `given` marks what the step was handed and must not change."""

    __slots__ = ()
    given: bool = False

    def _operand(self, value: Any) -> Any:
        """A number of another library as one that leaves the arithmetic to this class."""
        return float(value)

    def _unread(self, name: str, args: Any, options: Any) -> Any:
        """Another function, by its name in its library."""
        raise StepRefusal("nonlinear", f"takes {name} of a vector")

    def _called(self, library: str, name: str, args: Any, options: Any) -> Any:
        """A function of numpy or torch."""
        if options.get("out") is not None:
            raise StepRefusal("broken", f"writes into an array with {library}.{name}(..., out=...)")
        if name == "where" and len(args) == 3 and _is_truth(args[0]):  # a choice by k, of which one is left
            return +args[1 if args[0] else 2]
        if name == "dot" and sum(isinstance(v, VectorLike) for v in args) == 1:
            name = "multiply"
        if name not in _LINEAR:
            return self._unread(f"{library}.{name}", args, options)
        plain = (v if isinstance(v, VectorLike) else self._operand(v) for v in args)
        return _LINEAR[name](*plain, **options)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__":
            return self._unread(f"np.{ufunc.__name__}.{method}", inputs, options)
        return self._called("np", ufunc.__name__, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return self._called("np", function.__name__, args, kwargs)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        vector = next(v for v in args if isinstance(v, cls))
        return vector._called("torch", getattr(function, "__name__", str(function)), args, kwargs or {})

    def detach(self) -> Any:
        """The same array."""
        return self

    def _become(self, operation: str, value: Any) -> Any:
        """Take the place of a result, under every name."""
        if self.given:
            remedy = f"write x = x {operation[:-1]} y" if operation[-1] == "=" else "make a new vector"
            reason = f"changes an iterate or a memory in place with `{operation}`; {remedy}"
            raise StepRefusal("broken", reason)
        for name in getattr(type(self), "__slots__", None) or vars(value):
            setattr(self, name, getattr(value, name))
        return self


def _is_truth(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")  # of Python and of numpy


def _by_name(name: str, place: str = "") -> Callable[..., Any]:
    def method(self: VectorLike, *args: Any, **options: Any) -> Any:
        value = self._called("torch", name, (self, *args), options)
        return self._become(place, value) if place else value

    return method


def _in_place(sign: str, plain: Callable[[Any, Any], Any]) -> Callable[[VectorLike, Any], Any]:
    return lambda self, other: self._become(f"{sign}=", plain(self, other))


for _name in _METHODS:
    setattr(VectorLike, _name, _by_name(_name))
for _name in (*_METHODS, "zero"):
    setattr(VectorLike, f"{_name}_", _by_name(_name, f".{_name}_()"))
for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}.items():
    setattr(VectorLike, f"__i{_name}__", _in_place(_sign, getattr(operator, _name)))
