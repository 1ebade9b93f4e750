r"""The schedules in use: constant, linear, cosine, inverse root, exponential, in steps, with a warm-up.

With u = k / steps, a decay runs from `start` at u = 0 to `end` at u = 1 and stays there.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from odeopt.checks import is_finite, is_integer, is_symbolic
from odeopt.rules.pieces import Piece, exact_number, require_number, steps_symbol
from odeopt.rules.schedule import Number, Schedule

__all__ = [
    "Constant", "Cosine", "Exponential", "InverseSqrt", "Linear", "Step", "Warmup", "WarmupStableDecay",
]  # fmt: skip


def _require_steps(name: str, value: Any, least: float = 0) -> None:
    if not is_symbolic(value) and not (is_finite(value) and value > least):
        raise ValueError(f"{name} must be a number of steps above {least:g}, got {value!r}")


@dataclass(frozen=True)
class Constant(Schedule):
    r"""The same :math:`s_k=c` at every k.

    Parameters
    ----------
    value : float or sympy.Expr
        The value c.

    Examples
    --------
    >>> Constant(0.1)(7)
    0.1
    """

    value: Number

    def __post_init__(self) -> None:
        require_number("value", self.value)

    def pieces(self) -> tuple[Piece, ...]:
        return (Piece(None, exact_number(self.value)),)


@dataclass(frozen=True)
class _Decay(Schedule):
    """From `start` at k = 0 to `end` at k = steps, then constant: end + (start - end) shape(k / steps)."""

    start: Number
    steps: Number
    end: Number = 0.0

    def __post_init__(self) -> None:
        require_number("start", self.start)
        require_number("end", self.end)
        _require_steps("steps", self.steps)

    @abc.abstractmethod
    def _shape(self, u: Any) -> Any:
        """From 1 at u = 0 to 0 at u = 1."""

    def pieces(self) -> tuple[Piece, ...]:
        start, steps, end = map(exact_number, (self.start, self.steps, self.end))
        falling = end + (start - end) * self._shape(steps_symbol() / steps)
        return Piece(steps, falling), Piece(None, end)


@dataclass(frozen=True)
class Linear(_Decay):
    r"""Linear decay, :math:`s_k=e+(s_0-e)(1-u)`, u = k / steps.

    Parameters
    ----------
    start : float or sympy.Expr
        Value :math:`s_0` at k = 0.
    steps : int
        Steps until `end` is reached.
    end : float or sympy.Expr
        Value e from there on. Above `start` it is a linear growth.

    Examples
    --------
    >>> Linear(0.1, steps=10)(5)
    0.05
    """

    def _shape(self, u: Any) -> Any:
        return 1 - u


@dataclass(frozen=True)
class Cosine(_Decay):
    r"""Half a cosine, :math:`s_k=e+(s_0-e)\frac{1+\cos\pi u}2`, u = k / steps.

    Parameters
    ----------
    start : float or sympy.Expr
        Value :math:`s_0` at k = 0.
    steps : int
        Steps until `end` is reached.
    end : float or sympy.Expr
        Value e from there on (``CosineAnnealingLR`` of torch rises again).

    Examples
    --------
    >>> Cosine(0.1, steps=10)(5)
    0.05
    """

    def _shape(self, u: Any) -> Any:
        import sympy

        return (1 + sympy.cos(sympy.pi * u)) / 2


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    r"""Inverse root, :math:`s_k=s_0/\sqrt{1+k/c}`.

    Parameters
    ----------
    start : float or sympy.Expr
        Value :math:`s_0` at k = 0.
    offset : float
        Steps c after which it has fallen by the factor :math:`\sqrt2`.

    Examples
    --------
    >>> InverseSqrt(0.1, offset=10)(30)
    0.05
    """

    start: Number
    offset: Number

    def __post_init__(self) -> None:
        require_number("start", self.start)
        _require_steps("offset", self.offset)

    def pieces(self) -> tuple[Piece, ...]:
        import sympy

        start, offset = map(exact_number, (self.start, self.offset))
        return (Piece(None, start / sympy.sqrt(1 + steps_symbol() / offset)),)


@dataclass(frozen=True)
class Exponential(Schedule):
    r"""Geometric decay, :math:`s_k=s_0\gamma^k`.

    Parameters
    ----------
    start : float or sympy.Expr
        Value :math:`s_0` at k = 0.
    factor : float
        :math:`\gamma` in (0, 1].

    Examples
    --------
    >>> Exponential(0.1, factor=0.5)(2)
    0.025
    """

    start: Number
    factor: Number

    def __post_init__(self) -> None:
        require_number("start", self.start)
        if not is_symbolic(self.factor) and not (is_finite(self.factor) and 0 < self.factor <= 1):
            raise ValueError(f"factor must lie in (0, 1], got {self.factor!r}")

    def pieces(self) -> tuple[Piece, ...]:
        start, factor = map(exact_number, (self.start, self.factor))
        return (Piece(None, start * factor ** steps_symbol()),)


@dataclass(frozen=True)
class Step(Schedule):
    r"""Piecewise constant: :math:`s_k=s_0\gamma^j` after the j-th milestone, as torch's ``MultiStepLR``.

    Parameters
    ----------
    start : float or sympy.Expr
        Value :math:`s_0` at k = 0.
    milestones : sequence of int
        Increasing steps; from each of them on the next value holds.
    factor : float
        :math:`\gamma>0`.

    Examples
    --------
    >>> lr = Step(0.1, milestones=(50, 75), factor=0.5)
    >>> lr(49), lr(50), lr(75)
    (0.1, 0.05, 0.025)
    """

    start: Number
    milestones: tuple[int, ...]
    factor: Number = 0.1

    def __post_init__(self) -> None:
        given: Any = self.milestones
        milestones: tuple[int, ...] = tuple(given) if isinstance(given, Iterable) else (given,)
        object.__setattr__(self, "milestones", milestones)
        require_number("start", self.start)
        whole = all(map(is_integer, milestones))
        if not milestones or not whole or any(a >= b for a, b in itertools.pairwise((0, *milestones))):
            raise ValueError(f"milestones must be increasing positive integers, got {given!r}")
        if not is_symbolic(self.factor) and not (is_finite(self.factor) and self.factor > 0):
            raise ValueError(f"factor must be positive, got {self.factor!r}")

    def pieces(self) -> tuple[Piece, ...]:
        start, factor = map(exact_number, (self.start, self.factor))
        ends = (*self.milestones, None)
        return tuple(Piece(end, start * factor**j) for j, end in enumerate(ends))


@dataclass(frozen=True)
class WarmupStableDecay(Schedule):
    r"""Linear warm-up from 0, a plateau at `peak`, and a linear decay to `end` over the last steps.

    Parameters
    ----------
    peak : float or sympy.Expr
        Value between warm-up and decay, the largest.
    steps : int
        All steps.
    warmup, decay : int
        Steps of the warm-up and of the decay; together at most `steps`.
    end : float or sympy.Expr
        Value at k = steps and from there on.

    Examples
    --------
    >>> lr = WarmupStableDecay(0.1, steps=100, warmup=10, decay=20)
    >>> [round(lr(k), 12) for k in (5, 10, 80, 90, 100)]
    [0.05, 0.1, 0.1, 0.05, 0.0]
    """

    peak: Number
    steps: int
    warmup: int
    decay: int
    end: Number = 0.0

    def __post_init__(self) -> None:
        require_number("peak", self.peak)
        require_number("end", self.end)
        for name in ("steps", "warmup", "decay"):
            _require_steps(name, getattr(self, name), 0 if name == "steps" else -1)
        if self.warmup + self.decay > self.steps:
            raise ValueError(
                f"warmup = {self.warmup} and decay = {self.decay} exceed steps = {self.steps}; shorten one"
            )

    def pieces(self) -> tuple[Piece, ...]:
        peak, steps, warmup, decay, end = map(
            exact_number, (self.peak, self.steps, self.warmup, self.decay, self.end)
        )
        k = steps_symbol()
        found = [
            (warmup, warmup, lambda: peak * k / warmup),
            (steps - decay, steps - decay - warmup, lambda: peak),
            (steps, decay, lambda: end + (peak - end) * (steps - k) / decay),
        ]
        return *(Piece(stop, expr()) for stop, length, expr in found if length > 0), Piece(None, end)


@dataclass(frozen=True)
class Warmup(Schedule):
    r"""A factor that grows linearly from `start` to 1 in so many steps; multiply a schedule by it.

    Parameters
    ----------
    steps : int
        Length; 1 from there on.
    start : float
        Factor at k = 0. With 0 the first step of the rule stands still.

    Examples
    --------
    >>> lr = Warmup(4, start=0.25) * Linear(0.1, steps=100)
    >>> lr(0), round(lr(4), 6)
    (0.025, 0.096)
    """

    steps: Number
    start: Number = 0.0

    def __post_init__(self) -> None:
        _require_steps("steps", self.steps)
        require_number("start", self.start)

    def pieces(self) -> tuple[Piece, ...]:
        start, steps = map(exact_number, (self.start, self.steps))
        return Piece(steps, start + (1 - start) * steps_symbol() / steps), Piece(None, exact_number(1))
