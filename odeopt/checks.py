r"""What an argument must be: every check of a public argument that more than one wing makes."""

from __future__ import annotations

import math
import numbers
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

__all__ = [
    "DAMAGED", "class_note", "frozen", "is_finite", "is_integer", "is_number", "is_symbolic",
    "iteration_grid", "nonnegative_grid", "predictions_and_targets", "real_array", "require_choice",
    "require_integer", "require_mapping", "require_positive", "spectral_interval", "validate_error",
    "validate_kernel", "values_at", "words_of",
]  # fmt: skip


# What numpy, zipfile and json raise on files that are cut, changed, encrypted, or of another format.
DAMAGED = (
    OSError, ValueError, LookupError, EOFError, TypeError, ArithmeticError, NotImplementedError,
    RecursionError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a plain real number (bools and sympy expressions are not)."""
    return isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))


def is_finite(value: Any) -> bool:
    """Tell whether a value is a plain real number within the range of float64."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer or a fraction beyond it
        return False


def is_integer(value: Any) -> bool:
    """Tell whether a value is a plain integer, numpy's among them (bools are not)."""
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def is_symbolic(value: Any) -> bool:
    """Tell whether a value is a sympy expression."""
    return hasattr(value, "free_symbols")


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return an integer of at least `least`, and at most `most`, or raise ValueError."""
    if not is_integer(value) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return int(value)


def require_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among those known."""
    if value not in known:
        raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}; choose one of them")


def require_positive(name: str, value: Any, remedy: str = "") -> float:
    """Return a finite number above 0 as float, or raise ValueError."""
    if not is_finite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value!r}" + (f"; {remedy}" if remedy else ""))
    return float(value)


def require_mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """Return a mapping of symbols to numbers, or raise ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must map symbols to numbers, as {{h: 0.1}}, got {type(value).__name__}")
    return value


def spectral_interval(mu: Any, L: Any) -> tuple[float, float]:
    """Return 0 < mu <= L as floats, L = mu if it is None, or raise ValueError."""
    mu = require_positive("mu", mu, "a singular kernel has no rate")
    L = mu if L is None else require_positive("L", L)
    if L < mu:
        raise ValueError(f"L must be at least mu, got mu = {mu!r}, L = {L!r}")
    return mu, L


def real_array(value: Any, name: str, *, ndim: int | None, finite: bool = True) -> npt.NDArray[np.float64]:
    """Return `value` as a new float64 array of `ndim` dimensions (None: any but zero), or say what is wrong.

    >>> real_array([1, float("nan")], "y", ndim=1)
    Traceback (most recent call last):
        ...
    ValueError: y must be finite, but y[1] is nan (1 such entry in all); remove or repair it
    """
    array = _as_array(value, name)
    if np.ma.is_masked(value):
        raise ValueError(f"{name} has masked entries, which hold no numbers; fill or remove them")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, {_what_else(array, name)}")
    if array.ndim != ndim and not (ndim is None and array.ndim):
        wanted = {1: "(n,)", 2: "(n, d)"}.get(ndim or 0, "(n, ...)")
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}; reshape it")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}; pass at least one entry")
    array = array.astype(np.float64)
    if finite and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        index = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{name} must be finite, but {name}[{', '.join(map(str, index))}] is {array[index]} "
            f"({len(bad)} such entr{'y' if len(bad) == 1 else 'ies'} in all); remove or repair it"
        )
    return array


def _what_else(array: np.ndarray, name: str) -> str:
    """What an array that is none of real numbers holds, and the remedy."""
    if array.dtype.kind == "O" and array.ndim:
        cells = [
            (index, cell)
            for index, cell in np.ndenumerate(array)
            if not isinstance(cell, (numbers.Real, np.bool_))
        ]
        if cells:  # among words, which may be labels, what is neither
            index, cell = min(cells, key=lambda found: isinstance(found[1], str))
            place = f"{name}[{', '.join(map(str, index))}]"
            return f"got dtype object, in which {place} is {cell!r}; remove or repair it"
    labels = array.dtype.kind in "US" and name == "y"
    words = "; of class labels the option classes or one_hot makes targets" if labels else ""
    return f"got dtype {array.dtype}; convert it to float64{words}"


def _as_array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "toarray"):
        raise ValueError(f"{name} is a sparse matrix; pass {name}.toarray(), or a kernel as a LinearOperator")
    try:
        return np.asarray(value)
    except (
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:  # a ragged list; a tensor on a device or with a gradient
        reason = (
            "it is a tensor off the host, with a gradient, or of a type that numpy lacks"
            if hasattr(value, "detach")
            else "its rows differ"
        )
        raise ValueError(f"{name} is not an array of numbers ({reason}); pass a numeric array") from error


def values_at(function: Any, nodes: np.ndarray) -> npt.NDArray[np.float64]:
    """Return what a function given by the user makes of nodes, a real number each, or raise ValueError."""
    if not callable(function):
        raise ValueError(f"function must be one of nodes, got {type(function).__name__}; pass a callable")
    values = real_array(function(nodes), "function(nodes)", ndim=1, finite=False)
    if values.shape != nodes.shape:
        raise ValueError(
            f"function must map nodes of shape {nodes.shape} to as many values, got {values.shape}"
        )
    return values


def class_note(y: np.ndarray) -> str:
    """What is to be said of targets that look like the numbers of three classes or more; "" of others.

    >>> class_note(np.array([0.0, 1, 2, 0, 1, 2]))[:56]
    'holds the whole numbers 0 to 2, each several times: as t'
    """
    if y.ndim != 1 or not np.isfinite(y).all():
        return ""
    found, counts = np.unique(y, return_counts=True)
    if len(found) < 3 or counts.min() < 2 or not np.array_equal(found, found[0] + np.arange(len(found))):
        return ""
    if found[0] not in (0, 1):
        return ""
    return (
        f"holds the whole numbers {found[0]:.0f} to {found[-1]:.0f}, each several times: as they are, they "
        "are regressed on as numbers; if they are classes, pass one_hot(y), one output for each"
    )


def words_of(values: Any) -> np.ndarray | None:
    """Labels that are words, as an array of strings; None where some are none.

    >>> words_of(np.array(["b", "a"], dtype=object)), words_of([1, "a"])
    (array(['b', 'a'], dtype='<U1'), None)
    """
    cells = values.to_numpy() if hasattr(values, "to_numpy") else values
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "US":
        return cells.astype(str)
    listed = isinstance(cells, (list, tuple)) or (isinstance(cells, np.ndarray) and cells.ndim == 1)
    if not listed or not len(cells) or not all(isinstance(cell, str) for cell in cells):
        return None
    return np.array(cells, dtype=str)


def nonnegative_grid(values: Any, name: str) -> npt.NDArray[np.float64]:
    """Return `values` as a nonempty float64 vector without negative or nonfinite entries."""
    array = np.atleast_1d(_as_array(values, name))
    if array.ndim > 1 or array.size == 0:
        raise ValueError(f"{name} must be a nonempty one-dimensional grid, got shape {array.shape}")
    grid = real_array(values if np.ndim(values) else array, name, ndim=1)
    if np.any(grid < 0):
        raise ValueError(f"{name} must be nonnegative, got {grid.min():.6g}; start the grid at 0")
    return grid


_MOST_ITERATIONS = 10_000_000  # minutes, and some hundred MB


def iteration_grid(grid: Any, name: str = "grid") -> npt.NDArray[np.int64]:
    """Return iteration numbers as a nonempty vector of nonnegative integers, or raise ValueError."""
    k = nonnegative_grid(grid, name)
    bad = k[k != np.round(k)]
    if bad.size:
        raise ValueError(
            f"{name} must hold iteration numbers, got {bad[0]!r}; a rule is defined at integers only"
        )
    if k.max() > _MOST_ITERATIONS:
        raise ValueError(
            f"{name} must hold iteration numbers up to {_MOST_ITERATIONS:,}, got {k.max():.6g}: each is a "
            "step that is run; for later ones take the closed form of an ODE"
        )
    return k.astype(np.int64)


def predictions_and_targets(u0: Any, y: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `u0` and `y`, shape (n,) or (n, c), as finite arrays fit for a kernel of n or n c rows."""
    several = np.ndim(u0) == 2
    u0, y = (real_array(v, name, ndim=1 + several) for name, v in (("u0", u0), ("y", y)))
    for name, array in (("u0", u0), ("y", y)):
        if n not in (len(array), array.size):
            wanted = f"({n}, c), or n c = {n} entries," if several else f"({n},)"
            raise ValueError(f"{name} must have shape {wanted} like the kernel, got {array.shape}")
    if u0.shape != y.shape:
        raise ValueError(f"y must have shape {u0.shape} like u0, got {y.shape}")
    return u0, y


def validate_error(delta0: Any, n: int, *, columns: bool = False) -> npt.NDArray[np.float64]:
    """Return `delta0` as a finite vector of length n (or `columns` of them), or raise ValueError."""
    delta0 = real_array(delta0, "delta0", ndim=2 if columns and np.ndim(delta0) == 2 else 1, finite=False)
    if len(delta0) != n:
        raise ValueError(f"delta0 must have shape ({n},) like the kernel, got {delta0.shape}")
    bad = np.argwhere(~np.isfinite(delta0))
    if len(bad):
        value = delta0[tuple(bad[0])]
        raise ValueError(f"delta0 must be finite, got {value} at entry {int(bad[0][0])}; remove that sample")
    with np.errstate(over="ignore"):
        if not np.isfinite(np.sum(delta0**2)):
            raise ValueError(
                f"delta0 has entries up to {np.abs(delta0).max():.3g}, whose squares leave the range of "
                "floats, as the losses would; divide it by a number, and losses by the square of that"
            )
    return delta0


def validate_kernel(kernel: Any, *, name: str = "kernel") -> npt.NDArray[np.float64]:
    r"""Return the symmetric part of a kernel matrix, read-only, or say why it is none.

    Refused: not square; apart from its transpose by more than 1e-10 of its largest entry; an eigenvalue
    negative beyond rounding, :math:`\lambda<-10n\epsilon\max\lvert\lambda\rvert`.
    """
    kernel = real_array(kernel, name, ndim=2)
    n, columns = kernel.shape
    if n != columns:
        raise ValueError(f"{name} must be square, got shape {kernel.shape}; pass H = J J^T of shape (n, n)")
    asymmetry = np.abs(kernel - kernel.T)
    size = np.abs(kernel).max()
    if asymmetry.max() > 1e-10 * size:
        i, j = (int(index) for index in np.unravel_index(asymmetry.argmax(), asymmetry.shape))
        raise ValueError(
            f"{name} must be symmetric, but entries ({i}, {j}) and ({j}, {i}) differ by "
            f"{asymmetry[i, j]:.3g} (largest entry {size:.3g}); if that is rounding, pass (H + H.T) / 2"
        )
    kernel = kernel / 2 + kernel.T / 2  # halved first: the sum of two large entries could overflow
    values = np.linalg.eigvalsh(kernel)
    if values[0] < -10 * n * np.finfo(float).eps * np.abs(values).max():
        raise ValueError(
            f"{name} must be positive semidefinite, but its smallest eigenvalue is {values[0]:.6g} "
            f"(largest {values[-1]:.6g}); compute it in float64 as J @ J.T, or project it on its "
            "nonnegative eigenvalues"
        )
    kernel.setflags(write=False)
    return kernel


def frozen(values: Any, dtype: type = np.float64) -> np.ndarray:
    """Return a read-only array."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
