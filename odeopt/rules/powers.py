r"""Late iterates of a step that is the same for ever, by its powers instead of one step after the other.

On an eigenvalue the state of a linear rule obeys :math:`z^+=Tz+b`. The rule's own step is run some times from
unit states, with what it gives in between, and the pair (T, b) of all these steps is squared. A product
rounds once where as many steps would have rounded each, so that no accuracy is lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from odeopt.rules.base import UpdateRule
from odeopt.rules.reading import read

__all__ = ["has_powers", "iterates_by_powers"]

# Steps that are run, and so many times those that must be asked for, of which few are wanted.
_RUN, _WORTH = 32, 8


def has_powers(rule: UpdateRule, k: np.ndarray) -> bool:
    """Whether all steps of a rule but some first ones are one, and few iterates of many are wanted."""
    reading, last = read(rule), int(np.max(k))
    first = reading.steady_from
    if first is None or first >= _RUN or reading.period != 1 or rule.is_scheduled:
        return False
    return last >= _WORTH * max(_RUN, np.unique(k).size)


def iterates_by_powers(rule: UpdateRule, lam: np.ndarray, k: np.ndarray) -> np.ndarray:
    r"""The iterates k of the run from 0 with the gradient :math:`\lambda z+1`, shape (T, n)."""
    first = read(rule).steady_from or 0
    wanted, place = np.unique(k, return_inverse=True)
    found, early = np.empty((wanted.size, lam.size)), np.flatnonzero(wanted < first)
    with np.errstate(over="ignore", invalid="ignore"):
        begun = list(itertools.islice(rule.states(np.zeros_like(lam), lambda z: lam * z + 1), first + 1))
        for i in early:
            found[i] = begun[wanted[i]][0][0]
        top, power = _run(rule, first, lam)
        state, powers, done = np.stack([*_coordinates(*begun[-1]), np.ones_like(lam)]), [power], 0
        for i in range(early.size, wanted.size):
            times, more = divmod(int(wanted[i]) - first, _RUN)
            for level in range((times - done).bit_length()):
                if level == len(powers):
                    powers.append(np.einsum("abn,bcn->acn", powers[-1], powers[-1]))
                if (times - done) >> level & 1:
                    state = np.einsum("abn,bn->an", powers[level], state)
            done, found[i] = times, np.einsum("bn,bn->n", top[more], state)
    return found[place]


def _coordinates(iterates: tuple[Any, ...], memory: Any) -> list[Any]:
    r"""The state as :math:`(x_k,x_k-x_{k-1},\dots,m)`; large multiples of the iterates would cancel."""
    return [iterates[0], *(a - b for a, b in itertools.pairwise(iterates)), *(memory or ())]


def _run(rule: UpdateRule, first: int, lam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First rows of T^j and b_j for few j, (j, d + 1, n), and both after the last, (d + 1, d + 1, n)."""
    q, d = rule.history, rule.history + len(read(rule).start)
    units, force = np.zeros((d, d + 1, lam.size)), np.zeros((d + 1, lam.size))
    force[-1] = 1.0  # the last run starts from 0, with the gradient lambda z + 1
    units[:q, 0] = 1.0
    for j in range(1, d):
        units[j : q if j < q else j + 1, j] = -1.0 if j < q else 1.0
    gradient: Callable[[Any], Any] = lambda z: lam * z + force  # noqa: E731
    states = rule.states_from(first, tuple(units[:q]), tuple(units[q:]) or None, gradient)
    *within, last = itertools.islice(states, _RUN + 1)
    return np.stack([iterates[0] for iterates, _ in within]), np.stack([*_coordinates(*last), force])
