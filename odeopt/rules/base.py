r"""The update rule: an optimisation method is the code of one step, written once.

The same :meth:`UpdateRule.step` is run on three kinds of objects,

* sympy samples :math:`X(t-jh)`, where its Taylor expansion *is* the ODE limit (:mod:`odeopt.limits.ode`);
* numpy eigenvalues with ``grad = lambda z: lam * z``, where the iterates are the residual
  polynomials :math:`P_k(\lambda)`, the exact linear prediction (:mod:`odeopt.spectra.curve`);
* torch parameter vectors, where it trains a network (:mod:`odeopt.nets`).

Conventions: ``step(k, ...)`` maps :math:`x_k` to :math:`x_{k+1}`, k = 0, 1, ...; iterates before
:math:`x_0` equal :math:`x_0`. Running averages travel in a tuple, the memory of the step.

Arithmetic reads alike in all three worlds; of the functions that do not, :func:`sqrt`,
:func:`sign`, :func:`norm` and :func:`dot` are given here.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import linecache
import math
import numbers
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Union

from odeopt.checks import is_number, is_symbolic, require_integer
from odeopt.rules.counter import StepRefusal

if TYPE_CHECKING:
    import sympy
    from typing_extensions import Self

__all__ = ["Scalar", "UpdateRule", "dot", "iterate", "norm", "sign", "sqrt"]

Scalar = Union[float, "sympy.Expr"]
Scaling = tuple["UpdateRule", dict[Any, Any], float]


def sqrt(x: Any) -> Any:
    """Square root, entry by entry, of whatever kind a step is run on.

    Parameters
    ----------
    x : number, array, tensor or sympy expression
        Of a Fraction that is a square the root is a Fraction.

    Returns
    -------
    object of the kind of x

    Examples
    --------
    >>> sqrt(2.25), sqrt(Fraction(9, 4))
    (1.5, Fraction(3, 2))
    """
    if is_symbolic(x):
        import sympy

        return sympy.sqrt(x)
    if hasattr(x, "sqrt"):  # a tensor: its own method, so that torch is not needed here
        return x.sqrt()
    if isinstance(x, numbers.Rational) and not x < 0:
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        return root if root**2 == x else math.sqrt(x)
    if isinstance(x, numbers.Real):
        return math.sqrt(x)
    import numpy as np

    return np.sqrt(x)


def sign(x: Any) -> Any:
    """Sign, entry by entry, of whatever kind a step is run on; 0 where x is 0.

    Parameters
    ----------
    x : number, array, tensor or sympy expression

    Returns
    -------
    object of the kind of x, for a number an int

    Examples
    --------
    >>> sign(-2.5), sign(Fraction(1, 3)), sign(0)
    (-1, 1, 0)
    """
    if is_symbolic(x):
        import sympy

        return sympy.sign(x)
    if hasattr(x, "sign"):
        return x.sign()
    if isinstance(x, numbers.Real):
        return x if x != x else (not x <= 0) - (x < 0)  # nan stays nan, as it does in an array
    import numpy as np

    return np.sign(x)


def norm(x: Any) -> Any:
    """Euclidean norm over all coordinates, of whatever kind a step is run on.

    A step that joins coordinates does it with this or with :func:`dot`; a plain ``.sum()`` has no reading
    where the step is run on symbols, and is refused there.

    Parameters
    ----------
    x : number, array, tensor or sympy expression

    Returns
    -------
    number, or object of the kind of x without coordinates

    Examples
    --------
    >>> import numpy as np
    >>> float(norm(np.array([3.0, 4.0]))), norm(-2.5)
    (5.0, 2.5)
    """
    if is_symbolic(x) or isinstance(x, numbers.Real):
        return abs(x)
    if hasattr(x, "norm"):
        return x.norm()
    import numpy as np

    return np.sqrt(np.sum(np.square(x)))


def dot(x: Any, y: Any) -> Any:
    """Inner product over all coordinates, of whatever kind a step is run on; see :func:`norm`.

    Parameters
    ----------
    x, y : number, array, tensor or sympy expression
        Of one kind and shape.

    Returns
    -------
    number, or object of the kind of x without coordinates

    Examples
    --------
    >>> import numpy as np
    >>> float(dot(np.array([1.0, 2.0]), np.array([3.0, 4.0]))), dot(2, 3)
    (11.0, 6)
    """
    if is_symbolic(x) or isinstance(x, numbers.Real):
        return x * y
    if hasattr(type(x), "dot") and not hasattr(type(x), "shape"):  # a vector of symbols
        return x.dot(y)
    return (x * y).sum()


def require_below_one(name: str, value: Scalar, reason: str = "1 would mean no friction") -> None:
    """Raise ValueError unless a numeric hyperparameter lies in [0, 1)."""
    if is_number(value) and not 0 <= value < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value!r}; {reason}")


def _is_switch(field: dataclasses.Field) -> bool:
    return isinstance(field.default, bool)


@dataclass(frozen=True)
class UpdateRule(abc.ABC):
    r"""One step of an optimisation method; subclass it to define your own.

    A subclass is a frozen dataclass whose fields are the hyperparameters (one of them ``lr``),
    with the class attribute `history` (how many iterates the step reads) and the method `step`.
    A hyperparameter is a number, a sympy expression (for derivations), or a tuple of them. A field
    whose default is True or False is a switch; one whose default is None may be left None.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Averaged(UpdateRule):
    ...     lr: float
    ...     momentum: float
    ...     history = 2
    ...
    ...     def step(self, k, iterates, memory, grad):
    ...         x, x_prev = iterates
    ...         return x + self.momentum * (x - x_prev) - self.lr * grad((x + x_prev) / 2), memory
    >>> Averaged(lr=0.1, momentum=0.5)
    Averaged(lr=0.1, momentum=0.5)
    """

    history: ClassVar[int] = 1
    # Different points at which one step takes a gradient: an iteration is one gradient unless it says so.
    gradients: ClassVar[int] = 1
    # The step repeats with this period in k: an int, or a property computed from the hyperparameters.
    period: ClassVar[int] = 1

    if TYPE_CHECKING:

        @property
        def lr(self) -> Any:
            """The learning rate, a field of every rule."""

    def __post_init__(self) -> None:
        for field in filter(_is_switch, dataclasses.fields(self)):
            value = getattr(self, field.name)
            if not isinstance(value, bool):
                raise ValueError(f"{field.name} must be True or False, got {value!r}")
        for name, value in self.hyperparameters.items():
            for entry in value if isinstance(value, tuple) else (value,):
                self._check_scalar(name, entry)
        lr: Any = self.hyperparameters.get("lr")
        if is_number(lr) and lr <= 0:
            raise ValueError(f"lr must be positive, got {lr!r}; pass a learning rate lr > 0")
        self.validate()

    def _check_scalar(self, name: str, value: Any) -> None:
        if is_symbolic(value):
            return
        if not is_number(value):
            raise ValueError(
                f"{name} must be a real number or a sympy expression, got {value!r} "
                f"of type {type(value).__name__}"
            )
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value!r}; pass a finite number")

    def validate(self) -> None:
        """Raise ValueError when a numeric hyperparameter is out of range (for subclasses)."""

    @abc.abstractmethod
    def step(
        self, k: Any, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> tuple[Any, Any]:
        r"""Map :math:`x_k` to :math:`x_{k+1}`.

        Parameters
        ----------
        k : int or sympy expression
            Index of the newest iterate. In a derivation it is an expression such as t/h, of which
            ``k == 0`` is False: the step is then read as that of a large k.
        iterates : tuple of length `history`
            :math:`(x_k, x_{k-1}, \dots)`.
        memory : tuple or None
            The running averages that the previous call returned, at first :meth:`initial_memory`.
            Never changed in place.
        grad : callable
            The gradient of the loss.

        Returns
        -------
        x_next, memory : tuple
        """

    def initial_memory(self, x0: Any) -> tuple[Any, ...] | None:
        """Return the running averages before the first step.

        Parameters
        ----------
        x0 : object
            The first iterate, of the kind that the rule is run on.

        Returns
        -------
        tuple or None
            One entry for each average, of the kind and shape of x0 (as a rule ``0 * x0``); None
            or () for a rule without memory.

        Examples
        --------
        >>> from odeopt import Adam, GradientDescent
        >>> Adam(lr=0.1).initial_memory(1.0)
        (0.0, 0.0)
        >>> GradientDescent(lr=0.1).initial_memory(1.0) is None
        True
        """
        return None

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Names and values of the fields, without switches and without optional ones left None."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if not _is_switch(f) and not (f.default is None and getattr(self, f.name) is None)
        }

    @property
    def is_numeric(self) -> bool:
        """Whether every hyperparameter is a number, so that the rule can be run."""
        values = itertools.chain.from_iterable(
            v if isinstance(v, tuple) else (v,) for v in self.hyperparameters.values()
        )
        return all(is_number(v) for v in values)

    @property
    def label(self) -> str:
        """Name, hyperparameters (rounded) and changed switches, for legends and tables."""

        def show(value):
            if isinstance(value, tuple):
                return "(" + ", ".join(show(v) for v in value) + ")"
            return f"{float(value):.4g}" if is_number(value) else str(value)

        shown = {n: show(v) for n, v in self.hyperparameters.items()}
        switches = {
            f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self) if _is_switch(f)
        }
        shown |= {n: str(value) for n, (value, default) in switches.items() if value is not default}
        return f"{type(self).__name__}({', '.join(f'{n}={text}' for n, text in shown.items())})"

    def replace(self, **changes: Any) -> Self:
        """Return the same rule with some hyperparameters changed.

        Parameters
        ----------
        **changes
            New values by name.

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

        def substitute(value):
            if not is_symbolic(value):
                return value
            result = value.subs(values)
            if result.free_symbols:
                missing = ", ".join(sorted(map(str, result.free_symbols)))
                raise ValueError(f"values leaves {missing} free; give each of them a number")
            return float(result)

        return self.map_hyperparameters(substitute)

    def map_hyperparameters(self, function: Callable[[Any], Any]) -> Self:
        """Return the same rule with `function` applied to every hyperparameter.

        Parameters
        ----------
        function : callable
            From a scalar to a scalar; tuples are mapped entry by entry.

        Returns
        -------
        UpdateRule

        Examples
        --------
        >>> from odeopt import HigherMomentum
        >>> HigherMomentum(lr=1.0, momenta=(0.25, 0.5)).map_hyperparameters(lambda v: v / 2)
        HigherMomentum(lr=0.5, momenta=(0.125, 0.25))
        """
        changed = {
            name: tuple(map(function, value)) if isinstance(value, tuple) else function(value)
            for name, value in self.hyperparameters.items()
        }
        return self.replace(**changed)

    def exact(self) -> Self:
        """Return the rule with every float read as the decimal it prints as, so 1 - 0.2 - 0.8 is 0.

        Returns
        -------
        UpdateRule
            With sympy rationals.

        Examples
        --------
        >>> from odeopt import GradientDescent
        >>> GradientDescent(lr=0.1).exact()
        GradientDescent(lr=1/10)
        """
        import sympy

        def read(value):
            if is_symbolic(value) or not is_number(value):
                return value
            rational = isinstance(value, numbers.Rational)
            return sympy.Rational(value) if rational else sympy.Rational(repr(float(value)))

        return self.map_hyperparameters(read)

    def scaling(
        self, h: sympy.Symbol, regime: str = "natural"
    ) -> tuple[UpdateRule, dict[Any, Any], float] | None:
        r"""Embed a numeric rule in a family that has an ODE limit as :math:`h\to0`.

        Parameters
        ----------
        h : sympy.Symbol
            The time step.
        regime : {"natural", "fixed", "inertial"}
            "fixed" keeps every momentum fixed; "inertial" lets all momentum roots tend to 1;
            "natural" is the one of the two under which the method is usually studied.

        Returns
        -------
        tuple or None
            ``(family, values, time_step)``, such that the family at ``h = time_step`` and
            ``values`` is this rule; None leaves the choice of lr = h, h^2, ... to the engine.
        """
        return None

    def states(self, x0: Any, grad: Callable[[Any], Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        r"""Yield the states :math:`((x_k,x_{k-1},\dots),\text{memory})` for k = 0, 1, ... for ever.

        Parameters
        ----------
        x0 : number, array, tensor or sympy expression
            First iterate; earlier ones equal it.
        grad : callable
            Gradient of the loss, from an iterate to an object of the same kind.

        Examples
        --------
        >>> from odeopt import HeavyBall
        >>> for iterates, memory in itertools.islice(HeavyBall(0.5, 0.5).states(1.0, lambda x: x), 3):
        ...     print(iterates, memory)
        (1.0, 1.0) None
        (0.5, 1.0) None
        (0.0, 0.5) None
        """
        history = require_integer(f"history of {type(self).__name__}", self.history, 1)
        return self.states_from(0, (x0,) * history, self.initial_memory(x0), grad)

    def states_from(
        self, k: int, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
    ) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Go on from the state of iteration k: the one loop that runs every rule.

        A slip in the code of the step is refused with its line, while what `grad` raises passes.
        """
        yield iterates, memory
        like, passing = iterates[0], []

        def watched(z: Any) -> Any:
            if not _alike(z, like):
                raise TypeError("no gradient point")
            try:
                return grad(z)
            except Exception as error:
                passing.append(error)
                raise

        for j in itertools.count(k):
            try:
                result = self.step(j, iterates, memory, watched)
            except Exception as error:
                slip = isinstance(error, _SLIPS) or type(error) is RuntimeError
                if not slip or error in passing or isinstance(error, StepRefusal):
                    raise
                what = f"fails at k = {j} with {type(error).__name__} in {place_of(error.__traceback__)}"
                given = f"it gets {len(iterates)} iterates (history) and the memory of initial_memory"
                raise ValueError(f"the step of {self.label} {what}; {given}") from error
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise ValueError(f"the step of {self.label} must end with `return x_next, memory`")
            x_next, memory = result
            if not _alike(x_next, like):
                raise ValueError(f"the step of {self.label} returns no x_next of the kind and shape of x_k")
            iterates = (x_next, *iterates[:-1])
            yield iterates, memory


def _alike(x: Any, like: Any) -> bool:
    """Whether a vector is of the library, the shape and the field of another; True of numbers and symbols."""
    if not hasattr(like, "shape"):
        return True
    if type(x) is type(like) and x.shape == like.shape and x.dtype == like.dtype:
        return True
    library = type(x).__module__.partition(".")[0] == type(like).__module__.partition(".")[0]
    real = "complex" not in str(getattr(x, "dtype", ""))
    return library and real and getattr(x, "shape", None) == like.shape


# What a slip in the code of a step raises, apart from what a machine or a user's interrupt does.
_SLIPS = (TypeError, AttributeError, IndexError, KeyError, NameError, ZeroDivisionError, ValueError)
_FOLDER = os.path.dirname(os.path.abspath(__file__))
_MACHINERY = {os.path.join(_FOLDER, f"{name}.py") for name in ("base", "counter", "forms", "trace")}


def place_of(traceback: TracebackType | None, own: tuple[str, ...] = ()) -> str:
    """File, line and text of the innermost line of the user's step, outside the files `own`."""
    place = ""
    while traceback is not None:
        name, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        if os.path.abspath(name) not in (*_MACHINERY, *own) and "site-packages" not in name:
            text = linecache.getline(name, line).strip()
            place = f"{os.path.basename(name)}, line {line}" + (f": {text}" if text else "")
        traceback = traceback.tb_next
    return place


def iterate(rule: UpdateRule, x0: Any, grad: Callable[[Any], Any]) -> Iterator[Any]:
    r"""Yield :math:`x_0, x_1, x_2, \dots` for ever, the iterates of :meth:`UpdateRule.states`.

    Parameters
    ----------
    rule : UpdateRule
        A rule whose hyperparameters suit the objects it is run on.
    x0 : number, array, tensor or sympy expression
        First iterate; earlier ones equal it.
    grad : callable
        Gradient of the loss, from an iterate to an object of the same kind.

    Examples
    --------
    >>> from odeopt import GradientDescent
    >>> list(itertools.islice(iterate(GradientDescent(lr=0.5), 1.0, lambda x: x), 4))
    [1.0, 0.5, 0.25, 0.125]
    """
    if not isinstance(rule, UpdateRule):
        raise ValueError(f"rule must be an UpdateRule, got {type(rule).__name__}")
    return (iterates[0] for iterates, _ in rule.states(x0, grad))
