r"""Functions that read alike wherever a step is run: on numbers, arrays, tensors, symbols and forms."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

from odeopt.checks import is_symbolic

__all__ = ["dot", "norm", "sign", "sqrt"]


def sqrt(x: Any) -> Any:
    """Square root, entry by entry, of whatever kind a step is run on.

    Parameters
    ----------
    x : number, array, tensor or sympy expression
        Of a Fraction that is a square the root is a Fraction.

    Returns
    -------
    object of the kind of x
        The nonnegative root.

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
        Real; nan stays nan.

    Returns
    -------
    object of the kind of x
        Entries -1, 0 and 1, of a number an int.

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
        Real, of any shape.

    Returns
    -------
    number, or object of the kind of x without coordinates
        Root of the sum of the squares of all entries; of a number its modulus.

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
        Sum of the products of all entries.

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
