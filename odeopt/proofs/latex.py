r"""Certificates as LaTeX, for readers."""

from __future__ import annotations

import itertools

import sympy
from sympy import Expr

from odeopt.proofs import flow as flows
from odeopt.proofs.exact.domain import Bound, squares
from odeopt.proofs.identity import quadratic_rows
from odeopt.proofs.statement import Statement

__all__ = ["certificate_latex", "gram_latex"]

_LATEX = {
    flows.f0: "f_k",
    flows.f1: "f_{k+1}",
    flows.x0: "x_k",
    flows.x1: "x_{k-1}",
    flows.g0: "g_k",
    flows.g1: "g_{k+1}",
}


# LaTeX


def gram_latex(polynomial: Expr, vectors, values) -> str:
    r"""Print a polynomial of values and vectors with norms and inner products.

    Parameters
    ----------
    polynomial : sympy.Expr
    vectors, values : sequence of sympy.Symbol

    Returns
    -------
    str

    Examples
    --------
    >>> x, v, f = sympy.symbols("x v f")
    >>> print(gram_latex(f + 2 * x * v / 3 - v**2, (x, v), (f,)))
    f+\frac{2}{3}\langle x,v\rangle-\lVert v\rVert^2
    """
    gens = (*values, *vectors)
    poly = sympy.Poly(sympy.expand(polynomial), *gens, domain="EX")
    text = ""
    for powers, coefficient in poly.terms():
        text += _term(
            sympy.factor(coefficient), _gram([s for s, p in zip(gens, powers, strict=True) for _ in range(p)])
        )
    return text.removeprefix("+") or "0"


def _gram(factors: list) -> str:
    names = [_LATEX.get(s, sympy.latex(s)) for s in factors]
    if len(names) == 2:
        return (
            rf"\lVert {names[0]}\rVert^2"
            if names[0] == names[1]
            else rf"\langle {names[0]},{names[1]}\rangle"
        )
    return "".join(names)


def _term(coefficient: Expr, body: str) -> str:
    sign = "+"
    if coefficient.could_extract_minus_sign():
        sign, coefficient = "-", -coefficient
    if coefficient == 1:
        return sign + body
    text = sympy.latex(coefficient)
    return (
        sign
        + (rf"\left({text}\right)" if coefficient.is_Add else text + ("\\," if text[-1].isalnum() else ""))
        + body
    )


def _squares_latex(rows, vectors) -> str:
    """A form as a weighted sum of squares, by elimination; entry by entry where a pivot vanishes."""
    found = squares(rows)
    if found is None:
        pairs = itertools.product(range(len(vectors)), repeat=2)
        return gram_latex(
            sympy.Add(*(rows[i][j].expr() * vectors[i] * vectors[j] for i, j in pairs)), vectors, ()
        )
    parts = []
    for weight, linear in found:
        terms = zip(linear, vectors, strict=True)
        body = "".join(_term(c.factored(), _gram([s])) for c, s in terms if not c.is_zero())
        parts.append(_term(weight.factored(), rf"\lVert {body.removeprefix('+')}\rVert^2"))
    return "".join(parts).removeprefix("+") or "0"


def _bound_latex(bound: Bound) -> str:
    name, relation = sympy.latex(bound.symbol), "<" if bound.strict else r"\le"
    if not bound.is_bounded:
        return rf"{name}\in\mathbb{{R}}"
    if bound.lower is None:
        return rf"{name}{relation} {sympy.latex(bound.upper)}"
    tail = "" if bound.upper is None else f"<{sympy.latex(bound.upper)}"
    return rf"{sympy.latex(bound.lower)}{relation} {name}{tail}"


def _change_latex(w: Statement) -> str:
    rate = sympy.latex(w.decay)
    if w.law == "factor":
        return rf"V_{{k+1}}-{rate}\,V_k"
    return rf"\dot V+\left({rate}\right)V" if w.decay.is_Add else rf"\dot V+{rate}\,V"


def _conclusion_latex(w: Statement) -> str:
    rate = sympy.latex(w.rate)
    if w.law == "factor":
        return rf"V_k\le\left({rate}\right)^{{k}}V_0"
    if w.law == "exponential":
        return rf"V(t)\le e^{{-{rate}\,t}}\,V(0)"
    if w.law == "integral":
        return rf"V(t)\le e^{{-\int_{{t_0}}^t{rate}\,d\tau}}\,V(t_0)"
    extra = sympy.integrate(-w.correction, flows.time)
    weight = rf"t^{{{rate}}}" + (rf"e^{{{sympy.latex(-extra)}}}" if extra != 0 else "")
    return rf"{weight}\,V(t)\ \text{{does not increase}}"


def certificate_latex(w: Statement) -> str:
    """Return statement and proof as an aligned display.

    Parameters
    ----------
    w : Certificate

    Returns
    -------
    str
    """
    vectors, values = w.flow.vectors, w.flow.values
    energy = gram_latex(w.energy, vectors, values)
    weights = [_term(sympy.factor(m.value), _name_latex(m.name)) for m in w.multipliers]
    field = w.new_field()
    form = _squares_latex([[field.read(e) for e in row] for row in w.remainder.tolist()], w.vectors)
    signs = "" if form == "0" else form if form.startswith("-") else "+" + form
    right = "".join(weights).removeprefix("+") + signs
    positive = "".join(_term(-sympy.factor(m.value), _name_latex(m.name)) for m in w.positivity)
    form = _squares_latex(quadratic_rows(w.positive_part(field), w.flow.gens, w.vectors), w.vectors)
    positive += "" if form == "0" else form if form.startswith("-") else "+" + form
    lines = [
        rf"\textbf{{{_escaped(w.title)}.}}\quad {w.flow.latex()},\qquad f\in{w.function_class.latex()}"
        + "".join(rf",\quad {_bound_latex(bound)}" for bound in w.domain),
        rf"V={energy}",
        rf"{_change_latex(w)}={right}\ \le 0",
        rf"V={positive.removeprefix('+')}\ \ge 0",
        rf"\text{{hence }}{_conclusion_latex(w)}.",
    ]
    used = {m.name: m.inequality for m in (*w.multipliers, *w.positivity)}
    given = [
        rf"\text{{where }}{_name_latex(name)}={gram_latex(a, vectors, values)}"
        + ("=0" if name.startswith("E") else r"\le 0")
        for name, a in used.items()
    ]
    body = " \\\\\n".join("&" + line for line in (*lines[:4], *given, lines[4]))
    return "$$\\begin{aligned}\n" + body + "\n\\end{aligned}$$"


def _escaped(text: str) -> str:
    """A title as LaTeX, in which a few characters are commands."""
    commands = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    commands |= {c: "\\" + c for c in "&%$#_{}"}
    return "".join(commands.get(c, c) for c in text)


def _name_latex(name: str) -> str:
    inner = name.partition("(")[2].rstrip(")").replace("*", r"\star")
    return rf"{name[0]}_{{{inner}}}" if inner else name
