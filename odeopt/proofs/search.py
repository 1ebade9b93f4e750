r"""The search for a certificate: a template with unknown entries, its LMI, bisection, rounding.

The energy is :math:`V=f+\xi^\top P\xi` with the state :math:`\xi`. For a fixed rate the identity of a
certificate is linear in P and in the multipliers. Equations (the coefficients of function values, and
rows of S whose diagonal entry vanishes whatever the unknowns are) are eliminated exactly, so that the
numerical search sees an interior where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import sympy
from sympy import Dummy, Expr, Rational, Symbol

from odeopt.proofs.build import build
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.field import Field
from odeopt.proofs.exact.signs import nearest_float, number_sign, short_text, simplest_fraction
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.lmi import FEASIBLE, INFEASIBLE, UNSOLVED, Answer
from odeopt.proofs.statement import Multiplier, Search, minus_multipliers
from odeopt.proofs.wanted import NoCertificateError, UnsolvedError, asked_for, refusal

__all__ = ["Template", "require_in_range", "search"]

# Boxes tried, in turn, for the unknowns in units of the problem: small numbers make a proof that is read.
_BOXES = (8.0, 64.0, 1e3, None)
# Distances tried, in turn, from the centre to short fractions, in units in which the proof holds for certain.
_DISTANCES = (100.0, 30.0, 10.0, 3.0, 1.0, 1e-2, 1e-5, 1e-9)

# The gap that is asked for, between the verified rate and the optimum, relative to the natural rate.
_TOLERANCE = 1e-6


def require_in_range(least: float, *constants: Expr | None) -> None:
    """Refuse mu and L with which floats overflow or underflow."""
    for value in constants:
        if value is not None and not least < nearest_float(value) < 1 / least:
            raise ValueError(
                f"mu and L must lie between {least:g} and {1 / least:g}, where the floats of a search can be "
                f"trusted, got {short_text(value)}; divide f by a number and multiply lr, or the force, by "
                "it, and the iterates stay the same"
            )


class Template:
    r"""A certificate with unknown entries for a flow and a class of functions."""

    def __init__(
        self,
        flow: Flow | Iteration,
        functions: FunctionClass,
        energy_vectors: Sequence[Symbol],
        names: Sequence[str],
        scales: Mapping[Any, float],
        positivity: Sequence[str],
        small: Sequence[Sequence[str]] = (),
    ) -> None:
        require_in_range(1e-152, functions.mu, functions.L)  # its squares are needed
        self._scales = scales
        self.small: tuple[Sequence[str], ...] = tuple(small)
        self.flow: Flow | Iteration = flow
        self.functions: FunctionClass = functions
        self.granted: dict[str, Expr] = functions.inequalities(flow.points, flow.tangents)
        self.names: tuple[str, ...] = tuple(names)
        self.positive_names: tuple[str, ...] = tuple(positivity)
        self.rate: Symbol = Dummy("c")
        self.energy_vectors: tuple[Symbol, ...] = tuple(energy_vectors)
        pairs = [(i, j) for i in range(len(energy_vectors)) for j in range(i, len(energy_vectors))]
        self.entries: dict[tuple[int, int], Symbol] = {(i, j): Dummy(f"p{i}{j}") for i, j in pairs}
        self.weights: dict[str, Symbol] = {name: Dummy(f"w{name}") for name in self.names}
        self.positive_weights: dict[str, Symbol] = {name: Dummy(f"n{name}") for name in self.positive_names}
        factor = {True: 1, False: 2}
        self.energy: Expr = flow.values[0] + sympy.Add(
            *(
                factor[i == j] * p * energy_vectors[i] * energy_vectors[j]
                for (i, j), p in self.entries.items()
            )
        )
        self._build(scales)

    def _build(self, scales) -> None:
        flow = self.flow
        gens = flow.gens
        dummies = (self.rate, *self.weights.values(), *self.positive_weights.values(), *self.entries.values())
        field = Field((*gens, time, *dummies))
        decrease = flow.decrease(field, self.energy, self.decay(self.rate))
        used = (Multiplier(n, w, self.granted[n]) for n, w in self.weights.items())
        added = (Multiplier(n, -w, self.granted[n]) for n, w in self.positive_weights.items())
        left, right = (
            {m: c.expr() for m, c in minus_multipliers(field, element, tuple(m)).collect(gens).items()}
            for element, m in ((decrease, used), (field.read(self.energy), added))
        )
        self.vectors: list[Symbol]
        self.positive_vectors: list[Symbol]
        self.vectors, self.positive_vectors = (
            [s for s in flow.vectors if _holds(p, s)] for p in (left, right)
        )
        equations = [p[(s,)] for p in (left, right) for s in flow.values if (s,) in p]
        unknowns = [*self.weights.values(), *self.positive_weights.values(), *reversed(self.entries.values())]
        self.solution: dict[Any, Any] = {}
        S, T = _form(left, self.vectors), _form(right, self.positive_vectors)
        for _ in range(3):
            self._solve(equations, unknowns)
            S, T = (M.applyfunc(lambda e: sympy.expand(e.xreplace(self.solution))) for M in (S, T))
            equations = _empty_rows(S) + _empty_rows(T)
            if not equations:
                break
        self.unknowns: list[Symbol] = [s for s in unknowns if s not in self.solution]
        self._compile(S, T, scales)

    def decay(self, rate: Expr) -> Expr:
        """Return what stands in the identity: the rate of a flow, 1 - rate for the factor of an iteration."""
        return 1 - rate if isinstance(self.flow, Iteration) else rate

    def _solve(self, equations: list, unknowns: list) -> None:
        free = [s for s in unknowns if s not in self.solution]
        equations = [e for e in equations if e != 0]
        if not equations:
            return
        solved = sympy.solve(equations, free, dict=True)
        if not solved:
            raise ValueError(f"no energy f + quadratic form can certify {self.flow} on {self.functions}")
        (solved,) = solved
        self.solution = {s: sympy.expand(e.xreplace(solved)) for s, e in self.solution.items()} | solved

    def _compile(self, S, T, scales) -> None:
        """Keep the LMI as a numerical function of the rate."""
        values = [self.weights[n].xreplace(self.solution) for n in self.names if not n.startswith("E")]
        values += [w.xreplace(self.solution) for w in self.positive_weights.values()]
        values = [e for e in values if e.free_symbols]
        unit = scales["rate"]
        sizes = [scales[s] for s in self.vectors]
        n = len(self.vectors)
        sizes_T = [scales[s] for s in self.positive_vectors]
        size = n + T.rows + len(values)
        block = sympy.zeros(size)
        block[:n, :n], block[n : n + T.rows, n : n + T.rows] = -S, T
        for i, e in enumerate(values):
            block[n + T.rows + i, n + T.rows + i] = e
        outer = np.array(
            [*(d / np.sqrt(unit) for d in sizes), *sizes_T, *(1 / np.sqrt(unit) for _ in values)]
        )
        entry_scale = {
            p: 1 / (scales[self.energy_vectors[i]] * scales[self.energy_vectors[j]])
            for (i, j), p in self.entries.items()
        }
        self.scale: np.ndarray = np.array([entry_scale.get(s, unit) for s in self.unknowns])
        kept = [i for i in range(size) if any(e != 0 for e in block[i, :])]
        block, outer = block.extract(kept, kept), outer[kept]
        parts = [block.xreplace(dict.fromkeys(self.unknowns, sympy.S.Zero))]
        parts += [block.applyfunc(lambda e, s=s: sympy.expand(e).coeff(s, 1)) for s in self.unknowns]
        compiled = sympy.lambdify(self.rate, [p.tolist() for p in parts], "math")
        weight = np.outer(outer, outer)
        factors = np.concatenate([[1.0], self.scale])[:, None, None]
        self.lmi: Callable[[float], np.ndarray] = lambda c: (
            np.array(compiled(c), dtype=float) * weight * factors
        )

    def reduced(self, names: Sequence[str]) -> Template:
        """Return the template with only some of the inequalities."""
        return Template(
            self.flow, self.functions, self.energy_vectors, names, self._scales, self.positive_names
        )

    def ask(
        self, c: float, solver: Callable[..., Answer], start: Any = None, *, box: Any = None, **options: Any
    ) -> Answer:
        """Return the answer of a solver at one rate, with unknowns in a box."""
        F0, F = (matrices := self.lmi(c))[0], matrices[1:]
        if box is not None:
            k, n = len(F), len(F0)
            F0 = np.block([[F0, np.zeros((n, 2 * k))], [np.zeros((2 * k, n)), np.eye(2 * k)]])
            F = np.array([np.pad(m, (0, 2 * k)) for m in F]).reshape(k, n + 2 * k, n + 2 * k)
            i = np.arange(k)
            F[i, n + i, n + i], F[i, n + k + i, n + k + i] = 1 / box, -1 / box
            start = None
        return solver(F0, F, start, **options)

    def sizes(self, c: float) -> np.ndarray:
        """How much each unknown moves the eigenvalues of the LMI."""
        return np.array([np.abs(np.linalg.eigvalsh((m + m.T) / 2)).max() for m in self.lmi(c)[1:]])

    def certificate(self, rate: Expr, point: Sequence[Fraction], title: str, law: str) -> Certificate:
        """Return the certificate with exact entries; verify it before use."""
        values = dict(zip(self.unknowns, (Rational(p.numerator, p.denominator) for p in point), strict=True))
        values[self.rate] = rate

        field = Field(())

        def exact(expr):
            return field.read(expr.xreplace(self.solution).xreplace(values)).expr()

        pairs = ((self.energy_vectors[i] * self.energy_vectors[j] * (1 if i == j else 2), p)
                 for (i, j), p in self.entries.items())  # fmt: skip
        energy = sympy.Add(self.flow.values[0], *(exact(p) * product for product, p in pairs))
        return build(
            title, self.flow, self.functions, energy, self.decay(rate),
            {n: exact(w) for n, w in self.weights.items()},
            positivity={n: exact(w) for n, w in self.positive_weights.items()}, law=law, vectors=self.vectors,
        )  # fmt: skip


def _holds(polynomial: dict, symbol) -> bool:
    return any(symbol in monomial for monomial in polynomial)


def _form(polynomial: dict, vectors) -> sympy.Matrix:
    """The matrix of the quadratic part, zeros and all."""

    def entry(i, j):
        monomial = (vectors[i], vectors[j]) if i <= j else (vectors[j], vectors[i])
        return sympy.expand(polynomial.get(monomial, sympy.S.Zero)) / (1 if i == j else 2)

    return sympy.Matrix(len(vectors), len(vectors), entry)


def _empty_rows(matrix: sympy.Matrix) -> list[Expr]:
    """Entries beside a diagonal entry that vanishes identically: they must vanish too."""
    rows = [i for i in range(matrix.rows) if matrix[i, i] == 0]
    return [matrix[i, j] for i in rows for j in range(matrix.rows) if matrix[i, j] != 0]


@dataclass(frozen=True)
class Outcome:
    """Result of a bisection: a rate with a point, the smallest rate found impossible, and what was asked."""

    feasible: float
    point: np.ndarray | None
    impossible: float
    steps: int
    message: str = ""


def bisect(
    template: Template, low: float, high: float, solver: Callable[..., Answer], tolerance: float
) -> Outcome:
    """Bisect for the largest feasible rate in [low, high], which is known to be impossible beyond high.

    An unsolved problem moves neither end: the search goes on below it for feasible rates, and above it
    for impossible ones.
    """
    feasible, point, impossible, steps, message = low, None, high, 0, ""

    def ask(c):
        nonlocal feasible, point, impossible, steps, message
        answer = template.ask(c, solver, point)
        steps += 1
        if answer.status == FEASIBLE:
            feasible, point = c, answer.point
        elif answer.status == INFEASIBLE:
            impossible = min(impossible, c)
        else:
            message = answer.message
        return answer.status

    if ask(high - tolerance / 4) == FEASIBLE:
        return Outcome(feasible, point, impossible, steps)
    upper = min(impossible, high)  # lowest rate known not to be feasible, proven or unsolved
    while upper - feasible > tolerance / 4:
        middle = (feasible + upper) / 2
        if ask(middle) != FEASIBLE:
            upper = middle
    lower = feasible
    while impossible - lower > tolerance / 4 and impossible - feasible > tolerance / 2 and steps < 90:
        middle = (lower + impossible) / 2
        if ask(middle) != INFEASIBLE:
            lower = middle
    return Outcome(feasible, point, impossible, steps, message)


def search(
    template: Template,
    ceiling: float,
    unit: float,
    wanted: Expr | None,
    solver: Callable[..., Answer],
    title: str,
    law: str,
) -> Certificate:
    """Bisect, round, verify."""
    name = {"title": title, "law": law}
    if wanted is not None:
        proved = _at_rate(template, wanted, ceiling, solver, name)
        if proved is not None:
            return proved
    tolerance = _TOLERANCE * unit
    best = _best(template, ceiling, tolerance, solver, name)
    if wanted is None:
        return best
    if number_sign(wanted - _rate(template, best)) <= 0:
        return asked_for(best, template.decay(wanted))
    raise refusal(template.decay(wanted), best)


def _rate(template: Template, certificate: Certificate) -> Expr:
    """What is bisected, from what the certificate states."""
    return template.decay(certificate.rate)


def _best(template: Template, ceiling: float, tolerance: float, solver, name: dict) -> Certificate:
    """Return the verified certificate at the bisected optimum, or say that there is none."""
    outcome = bisect(template, 0.0, ceiling, solver, tolerance)
    if outcome.point is None:
        text = f"{template.flow} on {template.functions}"
        if outcome.impossible > 2 * tolerance:
            raise UnsolvedError(
                f"{text}: no rate below {outcome.impossible:.3g} was decided; {outcome.message}"
            )
        raise NoCertificateError(
            f"{text} has no certificate V = f + quadratic form at any rate above {tolerance:.1e}"
        )
    # half of the gap that is allowed is room for short fractions
    tolerance = min(tolerance, _TOLERANCE * outcome.feasible)
    for back in (0.15, 0.1, 0.25, 1.0, 4.0, 16.0, 64.0):
        high = outcome.feasible - back * tolerance
        rate = simplest_fraction(high - 0.3 * tolerance, high)
        if rate <= 0:
            break
        certificate = _shortest(template, rate, solver, name, outcome.point)
        if certificate is not None:
            bound = "quadratics" if outcome.impossible >= ceiling else "bisected"
            optimum = float(template.decay(outcome.impossible))
            found = Search(optimum, outcome.impossible - float(rate), bound, outcome.steps)
            return replace(certificate, search=found)
    raise UnsolvedError(f"a point at rate {outcome.feasible:.9g} was found, but no rounding of it verified")


def _at_rate(template: Template, wanted: Expr, ceiling: float, solver, name: dict) -> Certificate | None:
    """Prove one rate; None if there is no certificate of it."""
    if float(wanted) > ceiling * (1 + 1e-12):
        return None
    answer = template.ask(float(wanted), solver, centre=True)
    if answer.status == UNSOLVED:
        raise UnsolvedError(
            f"rate {wanted} was not decided: {answer.message}; ask for a slightly smaller one"
        )
    if answer.status != FEASIBLE:
        return None
    proved = _shortest(template, wanted, solver, name, answer.point)
    if proved is None:
        raise UnsolvedError(f"a point at rate {wanted} was found, but no rounding of it verified")
    return proved


def _shortest(template: Template, rate: Expr, solver, name: dict, start) -> Certificate | None:
    """Return a certificate of a rate, with few multipliers and small numbers if there is one."""
    for names in (*template.small, None):
        smaller = template if names is None else template.reduced(names)
        for box in _BOXES:
            if names is not None and box is None:
                continue
            answer = smaller.ask(float(rate), solver, start, box=box, centre=True)
            certificate = _rounded(smaller, rate, answer, name) if answer.status == FEASIBLE else None
            if certificate is not None:
                return certificate
    return None


def _rounded(template: Template, rate: Expr, answer: Answer, name: dict) -> Certificate | None:
    """Return the certificate with the simplest entries near a point, None if none verifies."""
    assert answer.point is not None
    sizes = template.sizes(float(rate)) * len(answer.point)
    sure = np.divide(abs(answer.margin), sizes, out=np.full(len(sizes), 1e-3), where=sizes > 0)
    for distance in _DISTANCES:
        ends = ((answer.point + side * distance * sure) * template.scale for side in (-1, 1))
        fractions = [_short(low, high) for low, high in zip(*ends, strict=True)]
        certificate = template.certificate(rate, fractions, **name)
        if _plausible(certificate) and certificate.verify():
            return certificate
    return None


def _short(low: float, high: float) -> Fraction:
    found = simplest_fraction(min(low, high), max(low, high))
    return Fraction(int(found.p), int(found.q))


def _plausible(certificate: Certificate) -> bool:
    """Cheap look at the diagonal of S before the whole proof."""
    return all(number_sign(certificate.remainder[i, i]) <= 0 for i in range(certificate.remainder.rows))
