"""Stages of a long study, told while they go on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeAlias, TypeVar

import numpy as np

__all__ = ["Progress", "counted", "counted_between"]

Progress: TypeAlias = "Callable[[str, int, int], object] | None"
T = TypeVar("T")


def counted(stage: str, items: Collection[T], progress: Progress) -> Iterator[T]:
    """The items of a stage in turn; each is told when the next is asked for.

    >>> [item for item in counted("seeds", "ab", print)]
    seeds 0 2
    seeds 1 2
    seeds 2 2
    ['a', 'b']
    """
    for done, item in enumerate(items):
        if progress is not None:
            progress(stage, done, len(items))
        yield item
    if progress is not None and items:
        progress(stage, len(items), len(items))


def counted_between(
    stage: str, between: Callable[[np.ndarray, np.ndarray], np.ndarray], total: int, progress: Progress
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A kernel between rows and columns that tells how many of `total` entries it has computed."""
    done = 0

    def told(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        nonlocal done
        block = between(rows, columns)
        done = min(done + block.size, total)
        if progress is not None:
            progress(stage, done, total)
        return block

    return told
