r"""Initial value problems for scipy's solvers: what may be asked, what it costs, where it breaks off."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from odeopt.checks import is_finite, is_number, nonnegative_grid

__all__ = [
    "EXPLICIT", "MOST_EVALUATIONS", "IntegrationError", "Piece", "follow", "follow_pieces",
    "report_times", "require_finite", "solver_options",
]  # fmt: skip

EXPLICIT = ("DOP853", "RK45", "RK23")
METHODS = (*EXPLICIT, "Radau", "BDF", "LSODA")
# Evaluations of the right-hand side, some minutes of work for a small system.
MOST_EVALUATIONS = 10_000_000
# Progress is looked at, and extrapolated, after so many evaluations.
_CHUNK = 20_000
# A right side that jumps costs as many steps as its rounding allows: so many evaluations are given to it.
_MOST_AT_A_JUMP = 400_000
# It jumps where it changes by half of its size while the state changes by this share of its own.
_NEAR = 1e-6
# scipy's solvers go no further: their error estimates are rounding below it.
_LEAST_RTOL = 100 * float(np.finfo(float).eps)


class IntegrationError(RuntimeError, ValueError):
    """A solution that could not be followed to a time that was asked for."""


def solver_options(rtol: Any, atol: Any, method: Any) -> dict[str, Any]:
    """Return the options of `solve_ivp`, or raise ValueError."""
    if not is_number(rtol) or not _LEAST_RTOL <= rtol <= 1:
        raise ValueError(
            f"rtol must be a number from {_LEAST_RTOL:.3g} (100 roundings of float64) to 1, got {rtol!r}; "
            "1e-10 suits most curves"
        )
    if not is_finite(atol) or atol < 0:
        raise ValueError(f"atol must be a nonnegative number, got {atol!r}; 0 asks for rtol alone")
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    return {"rtol": float(rtol), "atol": float(atol), "method": method}


def report_times(t: Any) -> npt.NDArray[np.float64]:
    """Return strictly increasing nonnegative times, or raise ValueError."""
    t = nonnegative_grid(t, "t")
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"t must increase strictly, got {t.tolist()[:6]}...; sort it and drop repeats")
    return t


def require_finite(values: np.ndarray, t: float | np.ndarray, name: str) -> np.ndarray:
    """Return finite values, or say at which time (of several, one for each row) they are not."""
    finite = np.isfinite(values)
    if not np.all(finite):
        at = float(np.broadcast_to(t, values.shape[:1])[np.argwhere(~finite)[0][0]])
        raise IntegrationError(
            f"{name} is not finite at t = {at:.6g}: it has left the range of float64, or the right-hand side "
            "holds a value that is no number; end the times before it"
        )
    return values


def follow(
    system: Callable[[float, np.ndarray], np.ndarray],
    start: float,
    state: np.ndarray,
    times: np.ndarray,
    options: dict[str, Any],
    clock: Callable[[float], float] = float,
) -> Iterator[tuple[np.ndarray, int, str]]:
    """Yield state, evaluations and message at each time; `clock` gives the reported time for the solver's.

    DOP853 runs through all times at a tenth of the tolerance, by which its interpolation of order 7 is as
    good as a step; with another method each time ends a step, for its interpolation is of much lower order.
    """
    options = dict(options)
    budget = _Budget(system, start, times[-1] if len(times) else start, clock)
    groups = np.array_split(times, len(times)) if len(times) else []
    if len(groups) > 1 and options["method"] == "DOP853" and options["rtol"] >= 10 * _LEAST_RTOL:
        groups, options["t_eval"] = [times], times
        options |= {name: options[name] / 10 for name in ("rtol", "atol")}
    for group in groups:
        target = group[-1]
        # a first step is chosen from this value: of one that is no number the solver's loop has no end
        with np.errstate(all="ignore"):
            require_finite(system(start, state), clock(start), "the right-hand side")
        if "first_step" in options:
            options["first_step"] = min(options["first_step"], target - start)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            solution = scipy.integrate.solve_ivp(budget, (start, target), state, **options)
        if not solution.success:
            raise IntegrationError(
                f"solve_ivp({options['method']}) failed between t = {clock(start):.6g} and "
                f"{clock(target):.6g}: {solution.message}" + (f" {budget.chatters()}" if budget.jump else "")
            )
        # the last step was cut to end at the target, so the one before it tells the natural size
        options["first_step"] = float(np.diff(solution.t, prepend=start).max())
        start, used = target, int(solution.nfev)
        for time, state in zip(group, solution.y.T[-len(group) :], strict=True):
            yield require_finite(state, clock(time), "the solution"), used, str(solution.message)
            used = 0


class Piece(NamedTuple):
    """A right-hand side that holds up to a time, inf for ever, and what makes its state of the one before."""

    stop: float
    system: Callable[[float, np.ndarray], np.ndarray]
    enter: Callable[[float, np.ndarray], np.ndarray] | None = None


def follow_pieces(
    pieces: Iterable[Piece], start: float, state: np.ndarray, times: np.ndarray, options: dict[str, Any]
) -> Iterator[tuple[np.ndarray, int, str, int]]:
    """As :func:`follow`, begun anew at each stop; the number of the piece is added."""
    left, done = times[times > start], 0
    for number, (stop, system, enter) in enumerate(pieces):
        if not left.size:
            return
        state = state if enter is None else enter(start, state)
        reached = left[left <= stop]
        ends = reached if reached.size == left.size or stop in reached else np.append(reached, stop)
        for count, (found, used, message) in enumerate(follow(system, start, state, ends, options)):
            state, done = found, done + used
            if count < reached.size:
                yield state, done, message, number
                done = 0
        left, start = left[reached.size :], stop


class _Budget:
    """A right-hand side that counts its evaluations, and stops where those to `end` would be too many."""

    def __init__(self, system: Callable, start: float, end: float, clock: Callable[[float], float]):
        self.system, self.end, self.clock = system, end, clock
        self.count, self.reached, self.size, self.jump = 0, start, 0.0, 0.0
        self.last: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, t: float, state: np.ndarray) -> np.ndarray:
        self.count += 1
        if self.count % _CHUNK == 0:
            self._require_progress(t)
        rate = self.system(t, state)
        self._compare(state, rate)
        return rate

    def chatters(self) -> str:
        """What a jump of the right side means."""
        return (
            f"between states nearly equal its right side jumps by {self.jump:.3g}, so it chatters at a "
            "discontinuity there: end the times before it, or smooth the step (a larger eps) and take "
            "method='Radau'"
        )

    def _compare(self, state: np.ndarray, rate: np.ndarray) -> None:
        """Note the largest jump of the right side between states that follow each other closely."""
        self.size = max(self.size, float(np.abs(state).max()))
        if self.last is not None:
            moved, changed = (
                float(np.abs(a - b).max()) for a, b in zip((state, rate), self.last, strict=True)
            )
            if moved <= _NEAR * self.size and changed > 0.5 * float(np.abs(rate).max()):
                self.jump = max(self.jump, changed)
        self.last = state.copy(), rate

    def _require_progress(self, t: float) -> None:
        """Refuse what would take too many evaluations at the pace of the last ones."""
        progress, left = t - self.reached, self.end - t
        needed = self.count + _CHUNK * min(left / progress, 1e300) if progress > 0 else 1e300
        most, reason = MOST_EVALUATIONS, "ask for shorter times, or take method='Radau' if it is stiff"
        if self.jump:
            most, reason = _MOST_AT_A_JUMP, self.chatters()
        if needed > most:
            raise IntegrationError(
                f"after {self.count} evaluations the solver has reached t = {self.clock(t):.6g} of "
                f"{self.clock(self.end):.6g}; at this pace it needs {needed:.1e}, more than {most:.0e}: "
                f"{reason}"
            )
        self.reached, self.jump = t, 0.0
