r"""Plain and LaTeX forms of equations, as a paper prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sympy
from sympy import Add, Expr, Symbol

from odeopt.limits.series import dotted_latex, plain

__all__ = [
    "equation_latex",
    "equation_text",
    "factor_latex",
    "factor_text",
    "in_powers",
    "readable",
    "signed_sum",
]


def readable(coefficient: Expr) -> Expr:
    """Turn rationals that stem from floats, with long denominators, back into floats.

    Examples
    --------
    >>> readable(sympy.Rational(3, 10)), readable(sympy.Rational("0.123456"))
    (3/10, 0.123456000000000)
    """
    return coefficient.replace(lambda e: e.is_Rational and e.q > 1000, lambda e: sympy.Float(e))


def in_powers(coefficient: Expr, h: Symbol) -> Expr:
    """Write a polynomial in h as a sum of powers with factored coefficients.

    Examples
    --------
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
    return coefficient == 1 or (coefficient.is_Float and f"{float(coefficient):.6g}" == "1")


def factor_text(coefficient: Expr) -> str:
    """Write a coefficient to stand before a vector, with its product sign, empty for 1.

    Examples
    --------
    >>> factor_text(sympy.Symbol("b")), factor_text(1 - sympy.Symbol("b")), factor_text(sympy.Integer(1))
    ('b*', '(1 - b)*', '')
    """
    if _is_one(coefficient):
        return ""
    text = f"{float(coefficient):.6g}" if coefficient.is_Float else str(coefficient)
    plain_factor = coefficient.is_Symbol or (coefficient.is_number and coefficient.is_nonnegative)
    return f"{text}*" if plain_factor else f"({text})*"


def factor_latex(coefficient: Expr) -> str:
    r"""Write a coefficient as LaTeX to stand before a vector, empty for 1.

    Examples
    --------
    >>> print(factor_latex(1 - sympy.Symbol("b")))
    \left(1 - b\right)\,
    """
    if _is_one(coefficient):
        return ""
    text = f"{float(coefficient):.6g}" if coefficient.is_Float else sympy.latex(coefficient)
    return (rf"\left({text}\right)" if coefficient.is_Add else text) + r"\,"


def equation_text(terms: Mapping[Expr, Expr]) -> str:
    """Print sum coefficient * vector = 0.

    Examples
    --------
    >>> from sympy import Function, Symbol
    >>> X, b = Function("X")(Symbol("t")), Symbol("b")
    >>> equation_text({X.diff("t", 2): sympy.Integer(1), X.diff("t"): b})
    "X'' + b*X' = 0"
    """
    return " + ".join(factor_text(c) + plain(v) for v, c in terms.items()) + " = 0"


def equation_latex(terms: Mapping[Expr, Expr]) -> str:
    r"""Print sum coefficient * vector = 0 as LaTeX.

    Examples
    --------
    >>> from sympy import Function, Symbol
    >>> X, b = Function("X")(Symbol("t")), Symbol("b")
    >>> print(equation_latex({X.diff("t", 2): sympy.Integer(1), X.diff("t"): b}))
    \ddot{X} + b\,\dot{X} = 0
    """
    return signed_sum((c, dotted_latex(v)) for v, c in terms.items()) + " = 0"


def signed_sum(parts: Iterable[tuple[Expr, str]]) -> str:
    r"""Join coefficient and vector pairs as LaTeX, a leading minus joining in place of a plus.

    Examples
    --------
    >>> b = sympy.Symbol("b")
    >>> print(signed_sum([(sympy.Integer(1), "u"), (-b, "v"), (1 - b, "w")]))
    u - b\,v + \left(1 - b\right)\,w
    """
    text = ""
    for coefficient, vector in parts:
        minus = not coefficient.is_Add and sympy.latex(coefficient).startswith("-")
        body = factor_latex(-coefficient if minus else coefficient) + vector
        text += (" - " if minus else " + ") + body
    return text.removeprefix(" + ").strip()
