r"""What a certificate states, and with which proof; nothing here is verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sympy
from sympy import Expr, ImmutableMatrix, MatrixBase, Symbol

from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.field import Element, Field
from odeopt.proofs.exact.signs import exact_number
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.functions import FunctionClass
from odeopt.rules.formulas import text
from odeopt.shown import Shown, Summary

__all__ = ["LAWS", "Check", "Ends", "Evidence", "Multiplier", "Search", "Statement"]

LAWS = ("exponential", "power", "integral", "factor", "potential")


@dataclass(frozen=True, repr=False)
class Multiplier(Shown):
    """An inequality of the class with its multiplier.

    Parameters
    ----------
    name : str
        As :meth:`FunctionClass.inequalities` names it, such as ``"A(*,x)"``; E stands for an equation.
    value : sympy.Expr
        The multiplier, at least 0; of an equation of any sign.
    inequality : sympy.Expr
        What is at most 0, of an equation 0, in the symbols of the flow.

    Examples
    --------
    >>> from odeopt.proofs.families import heavy_ball
    >>> (used,) = heavy_ball(b=2, mu=1).multipliers
    >>> used.name, used.value, used.inequality
    ('A(*,x)', 4/3, f - g*x + x**2/2)
    """

    name: str
    value: Expr
    inequality: Expr

    def _summary(self) -> Summary:
        return Summary([f"{self.name} times {text(self.value)}", f"{text(self.inequality)} <= 0"])


@dataclass(frozen=True, repr=False)
class Search(Shown):
    """How a certificate was found: the bisected optimum of its form, and what the proof lost against it.

    Parameters
    ----------
    optimum : float
        Smallest rate that the search found infeasible, or a bound above which no rate can be true.
    gap : float
        Optimum minus the verified rate.
    bound : str
        What the optimum is: "bisected", "quadratics" (their exact rate) or "closed form".
    steps : int
        Feasibility problems solved.

    Examples
    --------
    >>> from odeopt.proofs import certify
    >>> found = certify(Flow((sympy.Integer(2),)), mu=1, L=10).search
    >>> found.bound, found.gap < 1e-6
    ('bisected', True)
    """

    optimum: float
    gap: float
    bound: str
    steps: int

    def _summary(self) -> Summary:
        return Summary(
            [f"optimum {self.optimum:.4g}", self.bound, f"gap {self.gap:.1e}", f"{self.steps} steps"]
        )


@dataclass(frozen=True, repr=False)
class Check(Shown):
    """One line of a verification.

    Parameters
    ----------
    claim : str
        What is tested, such as "multipliers", "identity" or "remainder".
    holds : bool
        Whether it was shown, exactly.
    reason : str
        Why it was not; empty where it holds.
    undecided : bool
        Whether neither the claim nor its opposite was shown.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from odeopt.proofs.families import heavy_ball
    >>> wrong = replace(heavy_ball(b=2, mu=1), rate=sympy.Rational(5, 3))
    >>> [check.claim for check in wrong.checks() if not check.holds]
    ['identity']
    """

    claim: str
    holds: bool
    reason: str = ""
    undecided: bool = False

    def _summary(self) -> Summary:
        outcome = "holds" if self.holds else "undecided" if self.undecided else "fails"
        return Summary([f"{self.claim} {outcome}", *filter(None, [self.reason])])


@dataclass(frozen=True)
class Ends:
    r"""What a potential V of an iteration, which does not grow, says of f after N steps.

    At the first step, where :math:`x_{-1}=x_0`, V is at most `bound`, a form in :math:`x_0`; after N steps
    `value` is at most V. Each by its own multipliers, and a form without a wrong sign.
    """

    horizon: Symbol
    bound: Expr
    start: tuple[Multiplier, ...]
    value: Expr
    end: tuple[Multiplier, ...]


def _require(kind: Any, **named: Any) -> None:
    """Refuse what is of another type, by its name."""
    for name, value in named.items():
        if not isinstance(value, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            known = " or ".join(k.__name__ for k in kinds)
            raise ValueError(f"{name} of a certificate must be {known}, got {value!r}")


Squares = tuple[tuple[Any, Any], ...]  # pairs (weight, linear form)


@dataclass(frozen=True)
class Evidence:
    """What a file holds beside the proof: a point of the domain, squares, and all that it divides by."""

    point: dict[Symbol, Expr] | None
    remainder: Squares | None
    positivity: Squares | None
    divisors: tuple[Expr, ...] = ()


@dataclass(frozen=True, repr=False)
class Statement(Shown):
    r"""A rate of convergence, and what its proof consists of; the fields are those of Certificate."""

    title: str
    flow: Flow | Iteration
    function_class: FunctionClass
    energy: Expr
    rate: Expr
    law: str
    multipliers: tuple[Multiplier, ...]
    positivity: tuple[Multiplier, ...]
    vectors: tuple[Symbol, ...]
    remainder: ImmutableMatrix
    domain: tuple[Bound, ...] = ()
    correction: Expr = sympy.S.Zero
    search: Search | None = None
    ends: Ends | None = None
    evidence: Evidence | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ValueError(f"law must be one of {', '.join(LAWS)}; got {self.law!r}")
        _require(str, title=self.title)
        _require((Flow, Iteration), flow=self.flow)
        _require(FunctionClass, function_class=self.function_class)
        _require(MatrixBase, remainder=self.remainder)
        for name, kind in {
            "multipliers": Multiplier,
            "positivity": Multiplier,
            "domain": Bound,
            "vectors": Symbol,
        }.items():
            _require((tuple, list), **{name: getattr(self, name)})
            for entry in getattr(self, name):
                _require(kind, **{name: entry})
        for name in ("rate", "energy", "correction"):  # numbers are read as exact ones
            value = getattr(self, name)
            object.__setattr__(self, name, value if isinstance(value, Expr) else exact_number(value, name))
        given = (*self.flow.constants, *self.flow.varying, self.function_class.mu, self.function_class.L)
        for entry in (*given, *(e for b in self.domain for e in (b.lower, b.upper))):
            if entry is not None:
                _require(Expr, coefficient=entry)
        for m in (*self.multipliers, *self.positivity):
            _require(Expr, value=m.value, inequality=m.inequality)

    @property
    def decay(self) -> Expr:
        """The c(t) of the identity."""
        if self.law == "potential":
            return sympy.S.One
        return self.rate / time + self.correction if self.law == "power" else self.rate

    @property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols that may occur: those of the flow, and the parameters."""
        moving = (s for s, _ in getattr(self.flow, "derivatives", ()))
        return tuple(dict.fromkeys((*self.flow.gens, time, *(b.symbol for b in self.domain), *moving)))

    @property
    def moving(self) -> set[Symbol]:
        """Symbols that depend on time."""
        return {time, *dict(getattr(self.flow, "derivatives", ()))}

    def new_field(self) -> Field:
        """Return a new field that holds all its symbols.

        Returns
        -------
        Field
            Of the symbols of the flow, t and the parameters.
        """
        return Field(self.symbols)

    def decrease(self, field: Field) -> Element:
        """Return dV/dt + c V, or V after the step minus the factor times V, less the inequalities: z'Sz.

        Parameters
        ----------
        field : Field
            Of :meth:`new_field`; polynomials are gathered in it.

        Returns
        -------
        Element
            A quadratic form in the vectors, where the proof holds.
        """
        left = self.flow.decrease(field, self.energy, self.decay)
        return minus_multipliers(field, left, self.multipliers)

    def positive_part(self, field: Field) -> Element:
        """Return what is left of V when the inequalities are taken off: z'Tz.

        Parameters
        ----------
        field : Field
            Of :meth:`new_field`; polynomials are gathered in it.

        Returns
        -------
        Element
            A quadratic form in the vectors, where the proof holds.
        """
        return -minus_multipliers(field, -field.read(self.energy), self.positivity)


def minus_multipliers(field: Field, element: Element, multipliers: tuple[Multiplier, ...]) -> Element:
    """Take the sum of multiplier * inequality off an element."""
    return element - field.total([field.read(m.value) * field.read(m.inequality) for m in multipliers])
