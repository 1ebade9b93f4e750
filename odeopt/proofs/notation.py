r"""Two ways to write formulas of vectors, as LaTeX and as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from sympy import Expr, Symbol

from odeopt.proofs import flow as flows
from odeopt.proofs.exact.field import Element
from odeopt.rules.formulas import ROUNDED, latex, text

__all__ = ["LATEX", "PLAIN", "Notation"]

_INDEXED = {flows.f0: ("f", ""), flows.g0: ("g", ""), flows.x0: ("x", ""), flows.f1: ("f", "+1"),
            flows.g1: ("g", "+1"), flows.x1: ("x", "-1")}  # fmt: skip


class Notation:
    """LaTeX; the other way differs in a few words."""

    less: str = r"\le "
    more: str = r"\ge "
    dot: str = r"\dot "
    times: str = r"\,"
    star: str = r"\star"
    dots: str = r"\ldots"

    def words(self, text: str) -> str:
        return rf"\text{{{text}}}"

    def title(self, text: str) -> str:
        commands = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
        commands |= {c: "\\" + c for c in "&%$#_{}"}
        return rf"\textbf{{{''.join(commands.get(c, c) for c in text)}.}}\quad "

    def expr(self, e: Expr) -> str:
        return latex(e)

    def step(self, shift: str = "") -> str:
        return rf"_{{k{shift}}}" if shift else "_k"

    def norm(self, body: str) -> str:
        return rf"\lVert {body}\rVert^2"

    def inner(self, first: str, second: str) -> str:
        return rf"\langle {first},{second}\rangle"

    def wrapped(self, text: str) -> str:
        return rf"\left({text}\right)"

    def power(self, base: str, exponent: str) -> str:
        return rf"{base}^{{{exponent}}}"

    def integral(self, low: str, body: str) -> str:
        return rf"\int_{{{low}}}^t{body}\,d\tau"

    def name(self, inequality: str) -> str:
        kind, _, places = inequality.partition("(")
        places = places.rstrip(")").replace("*", r"\star").replace("0", "k").replace("1", "k+1")
        return rf"{kind}_{{{places}}}" if places else kind

    def page(self, lines: Sequence[str]) -> str:
        return "$$\\begin{aligned}\n" + " \\\\\n".join("&" + line for line in lines) + "\n\\end{aligned}$$"

    def symbol(self, s: Symbol) -> str:
        if s in _INDEXED:
            letter, shift = _INDEXED[s]
            return letter + self.step(shift)
        return self.expr(s)

    def product(self, monomial: Sequence[Symbol]) -> str:
        names = [self.symbol(s) for s in monomial]
        if len(names) == 2:
            return self.norm(names[0]) if names[0] == names[1] else self.inner(*names)
        return "".join(names)

    def term(self, coefficient: Expr, body: str) -> str:
        """A signed term of a sum."""
        sign = "+"
        if coefficient.could_extract_minus_sign():
            sign, coefficient = "-", -coefficient
        if coefficient == 1:
            return sign + body
        text = self.expr(coefficient)
        if _is_sum(text):
            text = self.wrapped(text)
        return sign + text + (self.times if text[-1].isalnum() or self.times == " " else "") + body

    def sum(self, terms: Sequence[str]) -> str:
        return "".join(terms).removeprefix("+") or "0"

    def polynomial(self, element: Element, gens: Sequence[Symbol]) -> str:
        """A polynomial of values and vectors with norms and inner products."""
        found = element.collect(gens).items()
        return self.sum([self.term(c.factored(), self.product(m)) for m, c in found if not c.is_zero()])

    def squares(self, found: Sequence[tuple[Element, list[Element]]], vectors: Sequence[Symbol]) -> list[str]:
        """The terms of a weighted sum of squares."""
        parts = []
        for weight, linear in found:
            terms = zip(linear, vectors, strict=True)
            body = self.sum([self.term(c.factored(), self.symbol(s)) for c, s in terms if not c.is_zero()])
            parts.append(self.term(weight.factored(), self.norm(body)))
        return parts


def _is_sum(text: str) -> bool:
    """Whether a written factor is a sum, outside all parentheses and braces."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "({[") - (c in ")}]")
        if c in "+-" and depth == 0 and text[:i].endswith(" "):
            return True
    return False


class _Plain(Notation):
    less: str = "<= "
    more: str = ">= "
    dot: str = "d/dt "
    times: str = " "
    star: str = "*"
    dots: str = ROUNDED

    def words(self, text: str) -> str:
        return text

    def title(self, text: str) -> str:
        return f"{text}.  "

    def expr(self, e: Expr) -> str:
        return text(e).replace("**", "^")

    def step(self, shift: str = "") -> str:
        return f"_(k{shift})" if shift else "_k"

    def norm(self, body: str) -> str:
        return f"|{body}|^2"

    def inner(self, first: str, second: str) -> str:
        return f"<{first}, {second}>"

    def wrapped(self, text: str) -> str:
        return f"({text})"

    def power(self, base: str, exponent: str) -> str:
        return f"{base}^({exponent})"

    def integral(self, low: str, body: str) -> str:
        return f"int_{low}^t {body} dtau"

    def name(self, inequality: str) -> str:
        return inequality.replace("0", "k").replace("1", "k+1")

    def page(self, lines: Sequence[str]) -> str:
        return "\n".join(line.replace(r"\quad", " ").replace(r"\ ", " ") for line in lines)

    def sum(self, terms: Sequence[str]) -> str:
        text = "".join(f" {t[0]} {t[1:]}" for t in terms)
        return text[3:] if text.startswith(" + ") else text.replace(" - ", "-", 1) if text else "0"


LATEX, PLAIN = Notation(), _Plain()
