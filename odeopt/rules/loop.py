r"""The one loop that runs every rule, and the place of a slip in the code of its step."""

from __future__ import annotations

import itertools
import linecache
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from odeopt.rules.counter import StepRefusal

__all__ = ["first_memory", "place_of", "run_from"]


def run_from(
    rule: Any, k: int, iterates: tuple[Any, ...], memory: Any, grad: Callable[[Any], Any]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the states of a rule from iteration k on.

    A slip in the code of the step is refused with its line; what `grad` raises passes.
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
            result = rule.step(j, iterates, memory, watched)
        except Exception as error:
            if isinstance(error, StepRefusal) and error not in passing:
                raise ValueError(f"the step of {rule.label} {error.reason}") from error
            slip = isinstance(error, _SLIPS) or type(error) is RuntimeError
            if not slip or error in passing:
                raise
            what = f"fails at k = {j} with {type(error).__name__} in {place_of(error.__traceback__)}"
            given = f"it gets {len(iterates)} iterates (history) and the memory of initial_memory"
            raise ValueError(f"the step of {rule.label} {what}; {given}") from error
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ValueError(f"the step of {rule.label} must end with `return x_next, memory`")
        x_next, memory = result
        if not _alike(x_next, like):
            raise ValueError(f"the step of {rule.label} returns no x_next of the kind and shape of x_k")
        iterates = (x_next, *iterates[:-1])
        yield iterates, memory


def first_memory(rule: Any, x0: Any) -> tuple[Any, ...] | None:
    """The memory before the first step; a slip in its code is refused with its line."""
    try:
        return rule.initial_memory(x0)
    except _SLIPS as error:
        where = f"on an object of type {type(x0).__name__} with {type(error).__name__}"
        place = place_of(error.__traceback__)
        raise ValueError(
            f"the initial_memory of {rule.label} fails {where} in {place}; write 0 * x0, which all kinds take"
        ) from error


def _alike(x: Any, like: Any) -> bool:
    """Whether a vector is of the library, the shape and the field of another; True of numbers and symbols."""
    if not hasattr(like, "shape"):
        return True
    if type(x) is type(like) and (x.dtype is like.dtype or x.dtype == like.dtype) and x.shape == like.shape:
        return True
    library = type(x).__module__.partition(".")[0] == type(like).__module__.partition(".")[0]
    real = "complex" not in str(getattr(x, "dtype", ""))
    return library and real and getattr(x, "shape", None) == like.shape


# What a slip in the code of a step raises, apart from what a machine or a user's interrupt does.
_SLIPS = (TypeError, AttributeError, IndexError, KeyError, NameError, ZeroDivisionError, ValueError)
_FOLDER = os.path.dirname(os.path.abspath(__file__))
_OWN = [
    "base", "counter", "forms", "functions", "loop", "pieces", "resolve", "schedule", "schedules",
    "tables", "trace", "vectors",
]  # fmt: skip
_MACHINERY = {os.path.join(_FOLDER, f"{name}.py") for name in _OWN}


def place_of(traceback: TracebackType | None, own: tuple[str, ...] = ()) -> str:
    """File, line and text of the innermost line of the user's step, outside the files `own`."""
    place = ""
    while traceback is not None:
        name, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        compiled = name.endswith(".pyx") or "site-packages" in name
        if not compiled and os.path.abspath(name) not in (*_MACHINERY, *own):
            text = linecache.getline(name, line).strip()
            place = f"{os.path.basename(name)}, line {line}" + (f": {text}" if text else "")
        traceback = traceback.tb_next
    return place
