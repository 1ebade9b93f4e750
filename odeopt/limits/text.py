r"""Plain and LaTeX forms of equations, as a paper prints them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sympy
from sympy import Add, Expr, Symbol

from odeopt.rules.formulas import latex, normal, text

__all__ = [
    "clock_text", "derivative_latex", "derivative_text", "equation_latex", "equation_text",
    "factor_latex", "factor_text", "in_powers", "readable",
]  # fmt: skip


def readable(coefficient: Expr) -> Expr:
    """Turn rationals that stem from floats, with long denominators, back into floats.

    >>> readable(sympy.Rational(3, 10)), readable(sympy.Rational("0.123456"))
    (3/10, 0.123456000000000)
    """
    return coefficient.replace(lambda e: e.is_Rational and e.q > 1000, lambda e: sympy.Float(e))


def in_powers(coefficient: Expr, h: Symbol) -> Expr:
    """Write a polynomial in h as a sum of powers with factored coefficients.

    >>> from sympy.abc import h, r, t
    >>> in_powers((h * r + 2 * t) / (2 * t), h)
    h*r/(2*t) + 1
    """
    if not coefficient.is_polynomial(h):
        return coefficient
    powers = sympy.Poly(coefficient, h).terms()
    return Add(*(sympy.factor(c) * h**q for (q,), c in powers))


def _is_one(coefficient: Expr) -> bool:
    """Whether a coefficient prints as 1."""
    return coefficient == 1 or (coefficient.is_Float and text(coefficient) == "1")


def factor_text(coefficient: Expr) -> str:
    """Write a coefficient to stand before a vector, with its product sign, empty for 1.

    >>> factor_text(sympy.Symbol("b")), factor_text(1 - sympy.Symbol("b")), factor_text(sympy.Integer(1))
    ('b*', '(1 - b)*', '')
    """
    if _is_one(coefficient):
        return ""
    is_name = getattr(coefficient, "is_named", coefficient.is_Symbol)
    plain_factor = is_name or (coefficient.is_number and coefficient.is_nonnegative)
    return f"{text(coefficient)}*" if plain_factor else f"({text(coefficient)})*"


def factor_latex(coefficient: Expr) -> str:
    r"""Write a coefficient as LaTeX to stand before a vector, empty for 1.

    >>> print(factor_latex(1 - sympy.Symbol("b")))
    \left(1 - b\right)\,
    """
    if _is_one(coefficient):
        return ""
    written = latex(coefficient)
    return (rf"\left({written}\right)" if coefficient.is_Add else written) + r"\,"


def equation_text(parts: Iterable[tuple[Expr, str]]) -> str:
    """Print sum coefficient * vector = 0, the vectors as text, a minus joining in place of a plus.

    >>> equation_text([(sympy.Integer(1), "X''"), (Symbol("b"), "X'"), (-1 / (Symbol("b") - 1), "X")])
    "X'' + b*X' + (1/(1 - b))*X = 0"
    """
    return _equation((normal(c), vector, factor_text) for c, vector in parts)


def clock_text(step: Any, origin: Any = 0) -> str:
    """Print the time of a step k, as ``t = 0.1*(k + 1/2)``."""
    steps = "k" if origin == 0 else f"(k + {text(origin)})"
    return f"t = {factor_text(sympy.sympify(step, strict=True))}{steps}"


def equation_latex(parts: Iterable[tuple[Expr, str]]) -> str:
    r"""Print sum coefficient * vector = 0 as LaTeX, a leading minus joining in place of a plus.

    >>> b = Symbol("b")
    >>> print(equation_latex([(sympy.Integer(1), "u"), (-b, "v"), (1 - b, "w")]))
    u - b\,v + \left(1 - b\right)\,w = 0
    """
    return _equation((normal(c), vector, factor_latex) for c, vector in parts)


def _equation(parts: Iterable[tuple[Expr, str, Callable[[Expr], str]]]) -> str:
    sums = ""
    for coefficient, vector, factor in parts:
        minus = not coefficient.is_Add and coefficient.could_extract_minus_sign()
        sums += (" - " if minus else " + ") + factor(-coefficient if minus else coefficient) + vector
    return sums.removeprefix(" + ").strip() + " = 0"


def derivative_text(name: str, order: int) -> str:
    """Write a derivative with primes.

    >>> derivative_text("X", 2), derivative_text("X", 5)
    ("X''", 'X^(5)')
    """
    return name + ("'" * order if order < 4 else f"^({order})")


def derivative_latex(name: str, order: int) -> str:
    r"""Write a derivative with Newton's dots.

    >>> print(derivative_latex("X", 2), derivative_latex("X", 5))
    \ddot{X} X^{(5)}
    """
    accents = {0: name, 1: rf"\dot{{{name}}}", 2: rf"\ddot{{{name}}}", 3: rf"\dddot{{{name}}}"}
    return accents.get(order, rf"{name}^{{({order})}}")
