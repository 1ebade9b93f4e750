r"""The verification of a statement, by exact arithmetic: no floating point and no solver takes part."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import sympy
from sympy import Dummy, Expr, Symbol

from odeopt.proofs.evidence import evidence_reason
from odeopt.proofs.exact.domain import Bound, Domain, determinant
from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.exact.roots import UndecidedError
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.identity import ends_time, growth, quadratic_rows
from odeopt.proofs.point import point_of
from odeopt.proofs.potential import EndsTest
from odeopt.proofs.statement import Check, Statement

__all__ = ["Verification"]

# What is raised on expressions for which an exact test has no method: then nothing is proved.
_NO_METHOD = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    NotImplementedError,
    RecursionError,
    sympy.polys.polyerrors.BasePolynomialError,
)


class Verification:
    """The tests of one statement, within one budget of work; each returns the reason of its failure."""

    def __init__(self, statement: Statement) -> None:
        self.statement: Statement = statement
        self.flow: Flow | Iteration = statement.flow
        self.function_class: FunctionClass = statement.function_class
        self.moving: set[Symbol] = statement.moving
        # an eigenvalue of the quadratics on which V is tried
        self.eigenvalue: Symbol = Dummy("lam")
        self.field: Field = Field((*statement.symbols, self.eigenvalue))
        self.entries: list[Expr] = statement.remainder.flat()
        self.domain: Domain = Domain(self.field, ())

    def checks(self) -> tuple[Check, ...]:
        """Return each claim with its outcome."""
        tests: dict[str, Callable[[], str]] = {
            "parameters": self._parameters,
            "rate": self._rate_is_one,
            "class": self._class_is_consistent,
            "inequalities": self._inequalities_are_granted,
            "multipliers": self._multipliers_are_nonnegative,
            "identity": self._identity,
            "remainder": self._remainder,
            "positivity": self._positivity,
            "energy": self._energy,
            "evidence": lambda: evidence_reason(self.statement, self.domain),
        }
        checks = []
        for claim, test in tests.items():
            undecided = False
            try:
                reason = test()
            except _NO_METHOD as error:
                undecided = isinstance(error, UndecidedError)
                reason = str(error) or type(error).__name__
            checks.append(Check(claim, not reason, reason, undecided))
        return tuple(checks)

    def _nonnegative(self, expr: Expr) -> bool:
        return self.domain.nonnegative(self.field.read(expr))

    def _positive(self, expr: Expr) -> bool:
        return self.domain.positive(self.field.read(expr))

    def _parameters(self) -> str:
        w, flow, known = self.statement, self.flow, set()
        for bound in w.domain:
            for limit in bound.limits:
                if not limit.free_symbols <= known:
                    return f"the bound {limit} of {bound.symbol} holds symbols that are not bounded before"
            if bound.symbol in known:
                return f"two bounds are given for {bound.symbol}"
            before = Domain(self.field, w.domain[: len(known)])
            limits = [self.field.read(limit) for limit in bound.limits]
            if reason := self._divisors(before):
                return f"in a bound of {bound.symbol} {reason}"
            if bound.lower is not None and bound.upper is not None:
                width = limits[1] - limits[0]
                if width.is_zero() or not before.nonnegative(width):
                    return f"the range of {bound.symbol} is not proved to hold anything"
            known.add(bound.symbol)
        if known & {*flow.gens}:
            return "a parameter has the name of a vector or a value"
        point_of(w.domain)
        self.domain = Domain(self.field, w.domain)
        if reason := self._free_symbols(known) or self._shapes():
            return reason
        # the points hold the coefficients of an iteration one step later too
        points = itertools.chain(*self.flow.points.values())
        for expression in (*self._expressions, w.energy, *points):
            self.field.read(expression)
        self.field.divisors |= {e: self.field.read(e) for e in (w.evidence.divisors if w.evidence else ())}
        return self._divisors(self.domain)

    @property
    def _constants(self) -> list[Expr]:
        given = (*self.flow.constants, self.function_class.mu, self.function_class.L)
        return [e for e in given if e is not None]

    @property
    def _expressions(self) -> list[Expr]:
        w = self.statement
        weights = [m.value for m in (*w.multipliers, *w.positivity)]
        return [w.decay, *self.entries, *self._constants, *self.flow.varying, *weights]

    def _free_symbols(self, known: set) -> str:
        free = set().union(*(e.free_symbols for e in self._expressions if not e.is_Rational)) - known
        # V may hold only what the flow has a rule for
        free |= self.statement.energy.free_symbols - known - {*self.flow.energy_symbols}
        if free:
            return f"no bounds, or no rules, are given for {', '.join(sorted(map(str, free)))}"
        if any(e.free_symbols & self.moving for e in self._constants):
            return "force, Hessian damping, mu and L must not depend on time"
        derivatives = dict(getattr(self.flow, "derivatives", ()))
        if time in derivatives or {*derivatives} & {*self.flow.gens}:
            return "a rule is given for time, a vector or a value"
        return ""

    def _shapes(self) -> str:
        w, n = self.statement, len(self.statement.vectors)
        if len(set(w.vectors)) != n or not {*w.vectors} <= {*self.flow.vectors}:
            return f"the vectors {w.vectors} are not distinct vectors of the flow"
        if w.remainder.shape != (n, n):
            return f"S must have the shape {(n, n)} of the vectors, got {w.remainder.shape}"
        return ""

    def _divisors(self, domain: Domain) -> str:
        for divisor, element in self.field.divisors.items():
            if not domain.never_zero(element):
                return f"the divisor {divisor} is not proved to be nonzero"
        return ""

    def _rate_is_one(self) -> str:
        w, rate = self.statement, self.statement.rate
        if isinstance(self.flow, Iteration) != (w.law in ("factor", "potential")):
            return f"the law {w.law!r} does not belong to {self.flow}"
        if w.law != "integral" and rate.free_symbols & self.moving:
            return f"the rate {rate} depends on time"
        if not self._nonnegative(rate) or self.field.read(rate).is_zero():
            return f"the rate {rate} is not proved positive"
        if (w.law == "potential") != (w.ends is not None):
            return "a potential, and nothing else, has ends that say what follows for f"
        if w.law == "potential":
            return self._correction()
        return self._correction() or self._all_times() or self._weight_of_f()

    def _all_times(self) -> str:
        """The claim is one about all later times."""
        w = self.statement
        if w.law == "factor":
            held = set().union(w.energy.free_symbols, *(e.free_symbols for e in self._expressions))
            if time in held or any(time in e.free_symbols for b in w.domain for e in b.limits):
                return "a factor is that of a steady iteration, and here something depends on t"
            return (
                "" if self._nonnegative(1 - w.rate) else f"the factor {w.rate} is not proved to be at most 1"
            )
        if w.law == "power" and time not in {b.symbol for b in w.domain if b.lower is not None}:
            return "the domain does not hold all large t"
        if w.law in ("power", "exponential") and (ended := ends_time(self.domain, self.moving)):
            return f"the domain does not hold all large t: the range of {ended} may end it"
        return ""

    def _correction(self) -> str:
        w = self.statement
        if w.correction == 0:
            return ""
        if w.correction.free_symbols & self.moving - {time}:
            return f"the correction {w.correction} holds a symbol that moves, other than t"
        if w.law != "power" or growth(self.field.read(w.correction), time, self.domain) > -2:
            return f"the correction {w.correction} is not integrable at infinity"
        return ""

    def _weight_of_f(self) -> str:
        """V must not fall faster than f, as t^-3 V does."""
        parts = self.field.read(self.statement.energy).collect(self.flow.gens)
        weight = parts.get((self.flow.values[0],), self.field.read(sympy.S.Zero))
        if not self.domain.positive(weight):
            return f"the coefficient {weight.expr()} of f in V is not proved positive"
        moving = weight.symbols() & self.moving
        if moving and (moving != {time} or growth(weight.inverse(), time, self.domain) > 0):
            return f"the coefficient {weight.expr()} of f in V is not proved to stay away from 0"
        return ""

    def _class_is_consistent(self) -> str:
        kind, mu, L = self.function_class.kind, self.function_class.mu, self.function_class.L
        if not self._nonnegative(mu):
            return f"mu = {mu} is not proved nonnegative"
        if L is not None:
            width = self.field.read(L - mu)
            if not self.domain.nonnegative(width) or (
                kind != "quadratic" and not self.domain.never_zero(width)
            ):
                return f"L = {L} is not proved to be larger than mu = {mu}"
        return ""

    def _inequalities_are_granted(self) -> str:
        points, tangents = self.flow.points, self.flow.tangents
        for m in (*self.statement.multipliers, *self.statement.positivity):
            granted = self.function_class.inequality(m.name, points, tangents)
            if m.inequality == granted:
                continue
            if not (self.field.read(m.inequality) - self.field.read(granted)).is_zero():
                return f"{self.function_class} does not grant {m.name}: {m.inequality} <= 0"
        return ""

    def _multipliers_are_nonnegative(self) -> str:
        for m in (*self.statement.multipliers, *self.statement.positivity):
            if not m.name.startswith("E") and not self._nonnegative(m.value):
                return f"the multiplier {m.value} of {m.name} is not proved nonnegative"
        return ""

    def _identity(self) -> str:
        products = itertools.product(map(self.field.read, self.statement.vectors), repeat=2)
        square = [
            self.field.read(s) * u * v for s, (u, v) in zip(self.entries, products, strict=True) if s != 0
        ]
        difference = self.statement.decrease(self.field) - self.field.total(square)
        if difference.num.is_zero():
            return ""
        for monomial, coefficient in difference.collect(self.flow.gens).items():
            if not coefficient.is_zero():
                return f"the two sides differ by ({coefficient.factored()}) {sympy.Mul(*monomial)}"
        return ""

    def _remainder(self) -> str:
        n, entries = len(self.statement.vectors), [-self.field.read(e) for e in self.entries]
        rows = [entries[i * n : i * n + n] for i in range(n)]
        return "" if self.domain.semidefinite(rows) else "S is not proved negative semidefinite"

    def _positivity(self) -> str:
        part = self.statement.positive_part(self.field)
        try:
            rows = quadratic_rows(part, self.flow.gens, self.statement.vectors)
        except ValueError as error:
            if isinstance(error, UndecidedError):
                raise
            return f"V + sum nu A is no quadratic form: {error}"
        return "" if self.domain.semidefinite(rows) else "V is not proved nonnegative"

    def _energy(self) -> str:
        r"""V must be positive definite on almost all quadratics of the class.

        With f = lam |y|^2 / 2 and g = lam y a form in the state is left; where it is definite for all but a
        few lam, V -> 0 is the convergence of those, and by continuity of all.
        """
        lam, mu, L = self.eigenvalue, self.function_class.mu, self.function_class.L
        statement = self.statement
        if statement.ends is not None:
            return EndsTest(statement, statement.ends, self.domain).reason()
        held = statement.energy.free_symbols & self.moving
        if statement.law in ("power", "exponential") and held - {time}:
            return f"V holds {', '.join(sorted(map(str, held - {time})))}, and may fall with it"
        field = self.field
        alike = L is not None and field.read(L - mu).is_zero()
        bounds = statement.domain if alike else (*statement.domain, Bound(lam, mu, L, strict=True))
        domain = Domain(field, bounds)
        value = field.read(mu if alike else lam)
        point, gradient, height = next(iter(self.flow.points.values()))
        at = field.read(point)
        on_quadratic = field.read(statement.energy).substitute(
            {height: value * at * at * field.read(sympy.S.Half), gradient: value * at}
        )
        rows = quadratic_rows(on_quadratic, self.flow.gens, self.flow.state)
        every = tuple(range(len(rows)))
        det = determinant(rows, every, every)
        if not _is_never_zero(domain, det, None if alike else lam):
            return "V is not proved to be definite on the quadratics of the class: it may vanish on all"
        if time in held and statement.law != "integral":
            rest = determinant(rows, every[1:], every[1:]) if every[1:] else field.read(sympy.S.One)
            if growth(rest / det, time, domain) > 0:
                return "V falls faster than the quadratics of the class do"
        return ""


def _is_never_zero(domain: Domain, element: Element, symbol) -> bool:
    """Whether it has no zero on the domain, or is for no parameters the zero polynomial in one symbol."""
    if symbol is None:
        return domain.never_zero(element)
    field, place = element.field, element.field.index[symbol]
    written = domain.on_distances(element)
    parts = field.powers(field.lift(written.num), place).values()
    one = Domain(field, ())
    one.strict = domain.strict
    return any(one.never_zero(Element(field, part, field.one)) for part in parts) or domain.never_zero(
        element
    )
