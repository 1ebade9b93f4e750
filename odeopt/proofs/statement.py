r"""The parts of a claim: multipliers, how it was found, the lines of its verification."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr

__all__ = ["Check", "Multiplier", "Search"]


@dataclass(frozen=True)
class Multiplier:
    """An inequality of the class, <= 0 (= 0 where its name begins with E), and its multiplier."""

    name: str
    value: Expr
    inequality: Expr


@dataclass(frozen=True)
class Search:
    """How a certificate was found: the bisected optimum of its form, and what the proof lost against it.

    Attributes
    ----------
    optimum : float
        Smallest rate that the search found infeasible, or a bound above which no rate can be true.
    gap : float
        Optimum minus the verified rate.
    bound : str
        What the optimum is: "bisected", "quadratics" (their exact rate) or "closed form".
    steps : int
        Feasibility problems solved.
    """

    optimum: float
    gap: float
    bound: str
    steps: int


@dataclass(frozen=True)
class Check:
    """One line of a verification."""

    claim: str
    holds: bool
    reason: str = ""
