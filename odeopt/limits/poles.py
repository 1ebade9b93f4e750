r"""Equations of order n whose coefficients have a pole at t = 0: of what kind it is, and the start from it.

With :math:`u_j=t^jX^{(j)}` the equation :math:`X^{(n)}+\sum_jc_jX^{(j)}=0` is :math:`t\,\dot u=Eu+w`, where E
holds the limits of :math:`t^{n-j}c_j`, finite for a regular pole: the eigenvalues of E are the exponents of
its solutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy
from sympy import Expr, Symbol

from odeopt.limits.collocation import NODES, RegularStart, regular_start
from odeopt.rules.pieces import exact_expression

__all__ = ["Term", "equation_start", "is_finite_at_zero", "require_determined", "root_of_time"]

# Fractional powers of t finer than this are approximated on a shorter interval.
_MOST_ROOT = 12


@dataclass(frozen=True)
class Term:
    r"""A term :math:`c(t)H^pX^{(j)}`; a gradient is j = 0, p = 1, a Hessian times :math:`X^{(j)}` p = 1."""

    coefficient: Expr
    derivative: int
    power: int
    name: str


def equation_start(
    equation: object,
    t: Symbol,
    terms: Sequence[Term],
    acceleration: Callable[[float, np.ndarray], np.ndarray],
    data: np.ndarray,
    *,
    end: float,
    rtol: float,
    largest: float | None = None,
) -> tuple[float, Callable[[float], np.ndarray]]:
    r"""Time at which a solver takes over, and the states :math:`(X,\dots,X^{(n-1)})`, (n, d), until then.

    `terms` are those beside :math:`X^{(n)}`, `data` the state at 0, `largest` the largest eigenvalue of H, if
    known.
    """
    order = len(data)
    finite = [is_finite_at_zero(term.coefficient, t) for term in terms]
    _require_no_pole_inside(terms, t, end)
    if end == 0 or all(finite):
        return 0.0, lambda s: data
    poles = [0.0 if known else _pole(term, t, order) for term, known in zip(terms, finite, strict=True)]
    pole = np.zeros(order)
    for term, strength in zip(terms, poles, strict=True):
        if term.power == 0:
            pole[term.derivative] += strength
    euler = np.diag(np.arange(order, dtype=float)) + np.eye(order, k=1)
    euler[-1] -= pole
    given = int(np.argmax(pole != 0)) if np.any(pole) else order
    coefficients = [term.coefficient for term in terms]
    root = root_of_time(coefficients, t)
    first = (given - 1) * root + 1
    require_determined(euler, equation, given=given, below=order - 1.0, first=first, root=root)
    found = regular_start(
        _remainder(acceleration, pole),
        _taylor(data[:given], order),
        euler,
        first=first,
        root=root,
        longest=_first_guess(terms, t, pole, end, largest),
        tolerance=0.01 * rtol,
        scales=[0] * order,
    )
    if found is None:
        raise _no_series(equation, [v.name for v, s in zip(terms, poles, strict=True) if v.power and s])
    if given < order and all(e.is_Integer for e in _exponents(coefficients, t)):
        _require_agreement(equation, found, data, given)
    return found.time, lambda s: found(s) / (s ** np.arange(order))[:, None] if s else data


def _no_series(equation: object, coupled: list[str]) -> ValueError:
    reason = f"the pole of {coupled[0]} couples the modes" if coupled else "its force is not continuous"
    return ValueError(
        f"no series at t = 0 was found that solves {equation} from its initial data: {reason}; integrate "
        "from a later time"
    )


def is_finite_at_zero(coefficient: Expr, t: Symbol) -> bool:
    """Whether a coefficient has a value at t = 0."""
    with np.errstate(all="ignore"):
        try:
            value = sympy.lambdify(t, coefficient, "numpy")(np.float64(0.0))
        except ZeroDivisionError:  # a constant 1/0 in plain Python numbers
            return False
        return bool(np.isfinite(value))


def _require_no_pole_inside(terms: Sequence[Term], t: Symbol, end: float) -> None:
    """Refuse times beyond a zero of a denominator: solvers step across it, onto any of many curves."""
    for term in terms:
        if not any(
            p.exp.could_extract_minus_sign() and p.base.has(t) for p in term.coefficient.atoms(sympy.Pow)
        ):
            continue  # without a quotient there is no pole, and making decimals exact takes its time
        _, denominator = sympy.fraction(sympy.together(exact_expression(term.coefficient)))
        if not denominator.has(t) or not denominator.is_polynomial(t):
            continue
        roots = np.roots([float(c) for c in sympy.Poly(denominator, t).all_coeffs()])
        inside = [z.real for z in roots if abs(z.imag) <= 1e-9 * abs(z) and 0 < z.real <= end]
        if inside:
            raise ValueError(
                f"the coefficient {term.coefficient} of {term.name} has a pole at t = {min(inside):.6g}; end "
                "the times before it"
            )


def _pole(term: Term, t: Symbol, order: int) -> float:
    """The limit of t^(n-j) times a coefficient, or a refusal of an irregular pole."""
    power = order - term.derivative
    value = sympy.limit(exact_expression(term.coefficient) * t**power, t, 0, "+")
    regular = value.is_number and value.is_finite and value.is_real
    if not regular or (term.derivative == 0 and value != 0):
        raise ValueError(
            f"the coefficient {term.coefficient} of {term.name} is too singular at t = 0 for an equation of "
            f"order {order}: no solution starts there from a value (a regular pole is "
            f"{'at most' if term.derivative else 'weaker than'} t^(-{power})); scale the hyperparameters "
            "otherwise"
        )
    return float(value)


def _remainder(acceleration: Callable[[float, np.ndarray], np.ndarray], pole: np.ndarray) -> Callable:
    order = len(pole)

    def remainder(t: float, scaled: np.ndarray) -> np.ndarray:
        w = np.zeros_like(scaled)
        w[-1] = t**order * acceleration(t, scaled / (t ** np.arange(order))[:, None]) + pole @ scaled
        return w

    return remainder


def _taylor(data: np.ndarray, order: int) -> Callable[[float], np.ndarray]:
    """The polynomial X of the initial data, as t^j X^(j)."""
    powers = np.arange(len(data))
    weights = [[1 / math.factorial(i - j) if i >= j else 0.0 for i in powers] for j in range(order)]
    return lambda t: (np.array(weights) * t**powers) @ data


def _first_guess(
    terms: Sequence[Term], t: Symbol, pole: np.ndarray, end: float, largest: float | None
) -> float:
    """An interval on which the terms beside the pole are of order 1, where their sizes are known."""
    if largest is None:
        return min(end, 1.0)
    compiled = [
        (sympy.lambdify(t, v.coefficient, "numpy"), v.derivative, largest**v.power, not v.power)
        for v in terms
    ]
    time = np.float64(end)
    with np.errstate(all="ignore"):
        while time > np.finfo(float).tiny:
            sizes = sum(
                abs(c(time) * time ** (len(pole) - j) - own * pole[j]) * size for c, j, size, own in compiled
            )
            if sizes <= 4:
                break
            time /= 2
    return time


def _require_agreement(equation: object, found: RegularStart, data: np.ndarray, given: int) -> None:
    """The first derivative that the pole decides must be the one that is stated."""
    # t^j X^(j) ends as j! times the coefficient of t^j, and later derivatives follow from the equation
    decided = math.factorial(given) * found.leading()[0] / found.time**given
    gap = np.abs(decided - data[given]).max()
    end = found(found.time) / found.time**given  # what it has become, and the rounding of X
    sizes = (
        np.abs(decided).max(),
        np.abs(data[given]).max(),
        np.abs(end[given]).max(),
        1e-8 * np.abs(end[0]).max(),
    )
    if gap > 1e-6 * max(sizes):
        raise ValueError(
            f"{equation} is singular at t = 0, which decides the derivative of order {given} there; the "
            f"stated one is off by {gap:.3g}; take the initial data of the limit"
        )


# --- shared with first-order systems -------------------------------------------------------------------


def root_of_time(coefficients: Sequence[Expr], t: Symbol) -> int:
    """The q for which coefficients are series in t^(1/q); 1 where it is large or there is none."""
    root = math.lcm(1, *(int(e.q) for e in _exponents(coefficients, t) if e.is_Rational))
    return root if root <= _MOST_ROOT else 1


def _exponents(coefficients: Sequence[Expr], t: Symbol) -> list[Expr]:
    """The exponents of all powers of t that occur."""
    powers = set().union(*(exact_expression(c).atoms(sympy.Pow) for c in coefficients))
    return [p.exp for p in powers if p.base.has(t)]


def require_determined(
    euler: np.ndarray, equation: object, *, given: int, below: float, first: int, root: int
) -> None:
    """Refuse a pole at which the data leave a solution t^rho open, or bring in a logarithm.

    Exponents 0, ..., given - 1 are those of the data; finite derivatives exclude real parts under `below`.
    """
    exponents = np.linalg.eigvals(euler)
    for j in range(given):
        exponents = np.delete(exponents, np.argmin(np.abs(exponents - j)))
    series = (first + np.arange(NODES)) / root
    for exponent in exponents:
        resonant = np.abs(exponent - series).min() < 1e-9
        if resonant or (exponent.real > 1e-9 and exponent.real >= below - 1e-9):
            raise ValueError(
                f"{equation} is singular at t = 0 and has a solution like t^{exponent.real:.4g} there, of "
                "which the initial data say nothing: they leave the curve open; integrate from a later time"
            )
