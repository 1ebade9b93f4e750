r"""One reading of a step that is not linear, and what its running averages are.

The step is read coordinate by coordinate. A running average M of a method is

* *slow* when its recursion changes it by O(h): it obeys an ODE;
* *fast* when it forgets in O(1) steps: it follows its fixed point, an algebraic equation;
* *accumulating* when it only adds up: M = S/h, and S is slow.

Earlier iterates are displacements :math:`V_j=(x_{k-j+1}-x_{k-j})/h`, averages like the others. Which kind
each is follows from the recursion itself.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, field

import sympy
from sympy import Expr, Function, Integer, Rational, Symbol

from odeopt.limits import components
from odeopt.limits.components import Component, Coordinate
from odeopt.limits.failures import FAILURES, STEP_FAILURES, is_infinite
from odeopt.limits.laurent import counted_powers
from odeopt.limits.read_step import ReadStep
from odeopt.limits.series import GradientDifferential, NoLimitError
from odeopt.limits.slow import with_symbols
from odeopt.rules.base import UpdateRule
from odeopt.rules.counter import CHANCE, StepRefusal, counter
from odeopt.rules.trace import named_rule, place_of

__all__ = ["Averages", "Lag", "StepReading"]

# How often an average may be found to grow by another power of 1/h.
_GROWTHS = 3
# A root so near the unit circle counts as on it: double roots of thirty digits are known to fifteen.
_ROOT = 1e-12
# Where a recursion that varies with coordinates is tried; 0 is a minimum, where an average may rest.
_PLACES = tuple(map(Rational, ("-10", "-3/2", "-1/7", "1/7", "3/2", "10")))
# What is added to a divisor so that it is not 0, and is to count for nothing else.
_GUARD = 1e-12


class Lag(Coordinate):
    """What an average or a gradient is off its limit by, over h."""


@dataclass
class Averages:
    """Slow averages to rates and starts, fast ones to what they follow, accumulating ones to S/h^p."""

    rates: dict[Symbol, Expr] = field(default_factory=dict)
    followed: dict[Symbol, Expr] = field(default_factory=dict)
    scaled: dict[Symbol, Expr] = field(default_factory=dict)
    starts: dict[Symbol, Expr] = field(default_factory=dict)


class StepReading:
    """The step on symbols: the gradients g_l and the averages are coordinates."""

    def __init__(self, family: UpdateRule, h: Symbol) -> None:
        self.family: UpdateRule = family
        self.h: Symbol = h
        self.t: Symbol = Symbol("t", positive=True)
        self.x: Symbol = Coordinate("X_0", real=True)
        self.points: list[Expr] = []
        self.gradients: list[Symbol] = []
        start = self._guarded(lambda: family.initial_memory(Component(self.x, given=True))) or ()
        self.displacements: tuple[Symbol, ...] = tuple(
            Coordinate(f"V_{j}", real=True) for j in range(1, family.history)
        )
        self.memory: tuple[Symbol, ...] = tuple(Coordinate(f"M_{i}", real=True) for i in range(len(start)))
        self.initial: list[Expr] = [Integer(0)] * len(self.displacements) + [_expression(m) for m in start]
        self.seen: set[int] = set()
        self.named: bool = False  # whether the step hands its hyperparameters to numpy
        k = counter(self.t / h, period=1, residue=0)
        self.x_step: Expr
        self.changes: list[Expr]
        self.x_step, self.changes = self._run(k)
        self.seen = k.seen
        if self._run(k) != (self.x_step, self.changes):
            raise NoLimitError(f"{family.label} has no limit: its step {CHANCE}")
        squares = {m: Coordinate(m.name, nonnegative=True) for m in self.memory if self._averages_squares(m)}
        if squares:
            self.memory = tuple(squares.get(m, m) for m in self.memory)
            self.x_step, self.changes = self._run(k)

    # --- the run -------------------------------------------------------------------------------------

    def _run(self, k) -> tuple[Expr, list[Expr]]:
        """Increments of x and of each average, displacements first."""
        h, x = self.h, self.x
        iterates = [x]
        for v in self.displacements:
            iterates.append(iterates[-1] - h * v)
        memory = tuple(Component(m, given=True) for m in self.memory) if self.memory else None

        def run():
            self.points, self.gradients = [], []
            step = named_rule(self.family).step if self.named else self.family.step
            x_next, memory_next = step(
                k, tuple(Component(z, given=True) for z in iterates), memory, self._gradient
            )
            return _expression(x_next) - x, [_expression(m) for m in memory_next or ()]

        moved, following = self._guarded(run, again=not self.named)
        shifted = [moved / h, *self.displacements[:-1]][: len(self.displacements)]
        old = (*self.displacements, *self.memory)
        self._require_apart([moved, *following])
        return moved, [new - m for new, m in zip((*shifted, *following), old, strict=True)]

    def _guarded(self, compute, again: bool = False):
        try:
            return compute()
        except StepRefusal as error:
            reason, traceback = error.reason, error.__traceback__
        except STEP_FAILURES as error:
            if again and isinstance(error, (TypeError, AttributeError)):
                self.named = True
                return self._guarded(compute)
            reason, traceback = (
                f"fails with {type(error).__name__} when it is run on symbols",
                error.__traceback__,
            )
        where = place_of(traceback, (os.path.abspath(__file__), os.path.abspath(str(components.__file__))))
        where = f" ({where})" if where else ""
        raise NoLimitError(f"{self.family.label} has no limit that can be read: its step {reason}{where}")

    def _gradient(self, z: Component) -> Component:
        point = sympy.expand(_expression(z))
        for known, g in zip(self.points, self.gradients, strict=True):
            if known == point:
                return Component(g)
        self.points.append(point)
        self.gradients.append(
            Coordinate("g" if len(self.points) == 1 else f"g_{len(self.points)}", real=True)
        )
        return Component(self.gradients[-1])

    def _require_apart(self, results: list[Expr]) -> None:
        """Refuse a quotient by a difference of gradients that vanishes with h, or leaves a guard alone."""
        places = [self.limit(p) for p in self.points]
        meeting = {g: self.gradients[places.index(p)] for g, p in zip(self.gradients, places, strict=True)}
        quotients = [p for e in results for p in e.atoms(sympy.Pow) if p.exp.could_extract_minus_sign()]
        left = {p.base.xreplace(meeting) for p in quotients if p.base.has(*self.gradients)}
        guard = next((v for v in left if v.is_number and abs(v) <= _GUARD), None)
        if guard is not None or any(e.xreplace(meeting).has(sympy.zoo, sympy.nan) for e in results):
            beside = f" beside {float(guard):g}, which only steps far below it would see" if guard else ""
            raise NoLimitError(
                f"{self.family.label} has no limit: it divides by a difference of gradients at points that "
                f"meet as {self.h} -> 0{beside}, so its step does not shrink with {self.h}"
            )

    def _averages_squares(self, m: Symbol) -> bool:
        """Whether a nonnegative average stays so: what it takes in is even in the gradients, and positive."""
        names = (*self.displacements, *self.memory)
        change = self.changes[names.index(m)]
        taken = sympy.expand(change + m).subs(m, 0)
        start = self.initial[names.index(m)]
        if not taken.has(*self.gradients) or not start.is_nonnegative:
            return False
        flipped = taken.xreplace({g: -g for g in self.gradients})
        even = sympy.simplify(flipped - taken) == 0
        return even and not taken.has(self.x, *(n for n in names if n != m))

    # --- limits --------------------------------------------------------------------------------------

    def limit(self, expr: Expr) -> Expr:
        """Limit h -> 0+; by substitution where that is defined, for it is much faster."""
        expr = counted_powers(expr, self.h, 1)
        for form in (
            lambda e: e,
            lambda e: sympy.powdenest(sympy.cancel(e)) if not e.has(sympy.Max, sympy.Min) else e,
        ):
            direct = form(expr).subs(self.h, 0)
            if not is_infinite(direct):
                return direct
        try:
            return with_symbols(expr, self.h, 1, lambda e: sympy.limit(e, self.h, 0, "+"))
        except FAILURES as error:
            raise NoLimitError(f"the limit of {expr} as {self.h} -> 0 was not found") from error

    def averages(self) -> Averages:
        """Sort the averages into slow, fast and accumulating ones."""
        names, found = (*self.displacements, *self.memory), Averages()
        powers = dict.fromkeys(names, 0)
        for _ in range(_GROWTHS * len(names) + 1):
            found.scaled = {m: m / self.h**p for m, p in powers.items() if p}
            now = {m: self.limit(self._change(m, i, powers, found)) for i, m in enumerate(names)}
            growing = [m for m, change in now.items() if change != 0 and not change.has(m)]
            if not growing:
                break
            if any(powers[m] >= _GROWTHS or m in self.displacements for m in growing):
                raise NoLimitError(
                    f"the average {growing[0]} with change {now[growing[0]]} a step grows beyond every "
                    f"scale, or by a difference that vanishes with {self.h} over {self.h}, which is not read"
                )
            powers[growing[0]] += 1
        fast = [m for m, change in now.items() if change != 0]
        self._follow(fast, now, found)
        lags = self.lags(found)
        for i, m in enumerate(names):
            if m not in fast:
                change = self._change(m, i, powers, found).xreplace(lags)
                found.rates[m] = sympy.factor_terms(self.limit(change / self.h))
                self.require_no_lag(found.rates[m])
                _require_finite(
                    found.rates[m], f"the average {m} of {self.family.label} changes faster than every scale"
                )
        self._require_still(found)
        found.starts = self._starts(names, powers, fast)
        return found

    def _change(self, m: Symbol, index: int, powers: dict, found: Averages) -> Expr:
        return self.h ** powers[m] * self.changes[index].xreplace(found.scaled)

    def _follow(self, fast: list[Symbol], now: dict[Symbol, Expr], found: Averages) -> None:
        """Fixed points of the averages that forget, which must attract."""
        if not fast:
            return
        if any(now[m].has(sympy.Max, sympy.Min) for m in fast):
            raise NoLimitError(
                f"{self.family.label} keeps a running maximum or minimum, which follows no differential "
                "equation"
            )
        try:
            solutions = sympy.solve([now[m] for m in fast], fast, dict=True)
        except NotImplementedError as error:
            raise NoLimitError(
                f"the fixed point of the averages of {self.family.label} was not found"
            ) from error
        if len(solutions) != 1 or set(solutions[0]) != set(fast):
            raise NoLimitError(f"the averages of {self.family.label} {_unfollowed(solutions, fast, now)}")
        found.followed = solutions[0]
        jacobian = sympy.eye(len(fast)) + sympy.Matrix([[now[m].diff(n) for n in fast] for m in fast])
        self._require_attraction(jacobian.xreplace(found.followed))

    def _require_attraction(self, jacobian: sympy.Matrix) -> None:
        """Refuse a recursion with a root of modulus >= 1; of one that varies with coordinates, at samples."""
        names = sorted((s for s in jacobian.free_symbols if isinstance(s, Coordinate)), key=str)
        if jacobian.free_symbols - {*names, self.t} or len(names) > 2:
            return  # hyperparameters without values decide
        for values in itertools.product(_PLACES, repeat=len(names)):
            at = dict(zip(names, values, strict=True))
            if _largest_root(jacobian.subs({**at, self.t: 1})) > 1 - _ROOT:
                where = "".join(f", at {n} = {v} for one" for n, v in at.items())
                raise NoLimitError(
                    f"an average of {self.family.label} never forgets: its recursion has a root of modulus "
                    f">= 1{where}"
                )

    def lags(self, found: Averages) -> dict[Symbol, Expr]:
        """Fast averages, and gradients at points that meet, as their limits and h D with D unknown."""
        places = [self.limit(p.xreplace(found.scaled).xreplace(found.followed)) for p in self.points]
        first = {g: self.gradients[places.index(p)] for g, p in zip(self.gradients, places, strict=True)}
        limits = {m: e.xreplace(first) for m, e in found.followed.items()}
        limits |= {g: one for g, one in first.items() if g != one}
        return {m: e + self.h * Lag(m.name, real=True) for m, e in limits.items()}

    def require_no_lag(self, expr: Expr) -> None:
        """Refuse a step that sees the D of a lag: it divides h D by h, or takes its sign."""
        if seen := ", ".join(sorted(s.name for s in expr.atoms(Lag))):
            raise NoLimitError(
                f"{self.family.label} has no limit that can be read: its step divides by {self.h}, or by its "
                f"size, the difference of order {self.h} between {seen} and what it tends to (an earlier "
                "iterate, average or gradient), which is read in linear steps alone"
            )

    def _require_still(self, found: Averages) -> None:
        """Refuse a step that moves x, or a slow average, by O(1) while the fast averages settle."""
        moved = self.limit(self.x_step.xreplace(found.scaled))
        if moved != 0:
            lagging = self.x_step.xreplace({**self.lags(found), **found.scaled})
            self.require_no_lag(self.limit(lagging / self.h) if self.limit(lagging) == 0 else moved)
            raise NoLimitError(
                f"{self.family.label} moves x by {moved} a step, which does not shrink with {self.h}: its "
                "weights do not leave x where it is, or hold an average that only follows x to order "
                f"{self.h}, which is read where no slow average is seen by gradient points alone"
            )

    def _starts(self, names: tuple, powers: dict, fast: list[Symbol]) -> dict[Symbol, Expr]:
        """Where the slow averages start, after the steps that single out their k."""
        state, x_start = dict(zip(names, self.initial, strict=True)), self.x
        if self.seen:
            general = self.points, self.gradients, self.x_step, self.changes
            for k in range(max(self.seen) + 1):
                x_step, changes = self._run(k)
                once = dict.fromkeys(self.gradients, self.gradients[0])
                new = {m: (state[m] + c.xreplace(state)) for m, c in zip(names, changes, strict=True)}
                if self.limit(x_step.xreplace(state)) != 0:
                    raise NoLimitError(f"{self.family.label} leaves x_0 in its first steps")
                state = {
                    m: self.limit(e.subs(once)) if powers[m] == 0 else e.subs(once) for m, e in new.items()
                }
            self.points, self.gradients, self.x_step, self.changes = general
        starts = {m: self.limit(self.h ** powers[m] * state[m]) for m in names if m not in fast}
        if any(e.has(x_start) and powers[m] for m, e in starts.items()):
            raise NoLimitError(f"an accumulating average of {self.family.label} starts at a multiple of x_0")
        return starts

    # --- on the curve ---------------------------------------------------------------------------------

    def on_curve(self, expr: Expr, found: Averages) -> Expr:
        """Replace coordinates by X(t), M(t) and gradients at the limits of their points."""
        curve = Function("X")(self.t)
        named = {m: Function(m.name)(self.t) for m in (*self.displacements, *self.memory)} | {self.x: curve}
        for g, point in reversed(list(zip(self.gradients, self.points, strict=True))):
            if expr.has(g):
                place = point.xreplace(found.scaled).xreplace(found.followed)
                expr = expr.subs(g, GradientDifferential(sympy.expand(self.limit(place))))
        return expr.xreplace(named)

    def account(self, found: Averages) -> ReadStep:
        """What was read, in words."""
        kinds = [f"{m} is slow: {m}' = {r}, from {found.starts[m]}" for m, r in found.rates.items()]
        kinds += [f"{m} forgets within a few steps and follows {e}" for m, e in found.followed.items()]
        kinds += [f"{m} is taken times {m / e}" for m, e in found.scaled.items()]
        varies = any(e.has(self.t) for e in (self.x_step, *self.changes))
        return ReadStep(
            False,
            (f"x_next - x = {self.x_step}",),
            tuple(f"{g} = grad f({p})" for g, p in zip(self.gradients, self.points, strict=True)),
            tuple(kinds),
            "with weights that depend on k" if varies else "the same at every k",
        )


def _unfollowed(solutions: list, fast: list[Symbol], now: dict[Symbol, Expr]) -> str:
    """Why averages that change within a step have no fixed point that they follow."""
    if len(solutions) == 1:
        return f"are not determined by their fixed point {solutions[0]}"
    if solutions:
        return f"have {len(solutions)} fixed points, and which of them they follow is not decided"
    alone = next((m for m in fast if now[m].free_symbols == {m}), None)
    if alone is not None:
        return (
            f"have no fixed point that they could follow: a step changes {alone} by {now[alone]} whatever "
            "the gradients are, and it settles nowhere; write a number that grows as a function of k"
        )
    changes = ", ".join(f"{m} by {now[m]}" for m in fast)
    return (
        f"have no fixed point in common that they could follow: a step changes {changes}; one that adds up "
        "beside one that it meets in a product or a quotient is not read, which says nothing of the iterates"
    )


def _expression(value) -> Expr:
    return value.expr if isinstance(value, Component) else sympy.sympify(value, strict=True)


def _require_finite(expr: Expr, reason: str) -> None:
    if is_infinite(expr):
        raise NoLimitError(reason)


def _largest_root(matrix: sympy.Matrix) -> float:
    """Largest modulus of the eigenvalues of a matrix of numbers, from thirty digits of each."""
    roots = matrix.charpoly().nroots(n=30, maxsteps=200)
    return max((float(abs(complex(root))) for root in roots), default=0.0)
