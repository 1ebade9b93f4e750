r"""Numbers that know what the last operations rounded: a step run on them says what it adds to an exact one.

A running error analysis (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3): each operation
adds one rounding of its result to what its operands bring along. A scalar factor counts two more, for what
was rounded to make it. Only what is linear is defined: the reader of a step has refused all else before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from odeopt.rules.vectors import VectorLike

__all__ = ["Rounded"]

_EPS = float(np.finfo(float).eps)


class Rounded(VectorLike):
    """Values with bounds on their distance from what exact arithmetic gives."""

    def __init__(self, value: np.ndarray, error: np.ndarray | float = 0.0) -> None:
        self.value: np.ndarray = value
        self._error: np.ndarray | float = error  # one number where it is the same of all: few are not exact

    @property
    def error(self) -> np.ndarray:
        """Bounds on the distance, of the shape of the values."""
        return np.broadcast_to(np.asarray(self._error, dtype=float), self.value.shape)

    def settled(self) -> Rounded:
        """The same values, taken for exact."""
        return Rounded(self.value)

    def scaled(self, factor: Any, roundings: float = 1.0) -> Rounded:
        """Times an exact factor."""
        value = self.value * factor
        return Rounded(value, _with(self._error * np.abs(factor), roundings, value))

    def moved(self, constant: float, slack: float) -> Rounded:
        """Plus a rounded constant that is known up to a slack."""
        value = self.value + constant
        return Rounded(value, _with(self._error + slack + _EPS * abs(constant), 1.0, value))

    def __add__(self, other: Any) -> Rounded:
        if not isinstance(other, Rounded):
            return +self  # a zero, as the start of a sum: nothing else passes the reader
        value = self.value + other.value
        return Rounded(value, _with(self._error + other._error, 1.0, value))

    __radd__ = __add__

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self._error)

    def __pos__(self) -> Rounded:
        return Rounded(self.value, self._error)

    def __sub__(self, other: Any) -> Rounded:
        return self + (-other if isinstance(other, Rounded) else 0)

    def __rsub__(self, other: Any) -> Rounded:
        return -self

    def __mul__(self, factor: Any) -> Rounded:
        return self.scaled(float(factor), 3.0)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Rounded:
        return self.scaled(1 / float(divisor), 4.0)


def _with(error: np.ndarray | float, roundings: float, value: np.ndarray) -> np.ndarray:
    """An error and so many roundings of the values."""
    found = np.abs(value)
    found *= roundings * _EPS
    found += error
    return found
