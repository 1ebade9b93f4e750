r"""The printed proof: statement, definitions, identities, sources, signs and conclusion."""

from __future__ import annotations

from collections.abc import Iterator

import sympy
from sympy import Expr

from odeopt.proofs import flow as flows
from odeopt.proofs.evidence import Sign, signs_of
from odeopt.proofs.exact.domain import Bound, squares
from odeopt.proofs.exact.signs import nearest_float
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.identity import quadratic_rows
from odeopt.proofs.notation import LATEX, Notation
from odeopt.proofs.potential import bound_of_f
from odeopt.proofs.statement import Multiplier, Statement
from odeopt.proofs.value import value_constant
from odeopt.rules.formulas import ROUNDED

__all__ = ["printed_proof"]


def printed_proof(w: Statement, notation: Notation = LATEX) -> str:
    """Return statement and proof of what was verified, as LaTeX or as text."""
    lines = [*_Page(w, notation).lines()]
    if any(ROUNDED in line or notation.dots in line for line in lines):
        lines.append(notation.words(f"what ends in {ROUNDED} is rounded; the certificate holds it whole"))
    return notation.page(lines)


class _Page:
    """The lines of one proof."""

    def __init__(self, w: Statement, n: Notation):
        self.w, self.n, self.field = w, n, w.new_field()
        self.steps = isinstance(w.flow, Iteration)

    def lines(self) -> Iterator[str]:
        w, n = self.w, self.n
        functions = w.function_class.latex() if n is LATEX else str(w.function_class).replace("**", "^")
        member = rf"f\in{functions}" if n is LATEX else f"f in {functions}"
        flow = w.flow.latex() if n is LATEX else str(w.flow).replace("**", "^")
        yield (
            n.title(w.title)
            + rf"{flow},\quad {member}"
            + "".join(rf",\quad {self.bound(b)}" for b in w.domain)
        )
        yield from self.definitions()
        yield f"V{'=V' + self.index() if self.steps else ''}={self.polynomial(w.energy)}"
        yield f"{self.change()}={self.right()}\\ {n.less}0"
        yield f"V{self.index()}={self.positive()}\\ {n.more}0"
        used = {m.name: m for m in (*w.multipliers, *w.positivity)}
        for name, m in used.items():
            yield self.where(name, m)
        yield from self.signs()
        yield from self.conclusion()

    def index(self, shift: str = "") -> str:
        return self.n.step(shift) if self.steps else ""

    def polynomial(self, expr: Expr) -> str:
        return self.n.polynomial(self.field.read(expr), self.w.flow.gens)

    def definitions(self) -> Iterator[str]:
        """What the letters stand for; all is relative to a minimiser."""
        n, minus = self.n, f"-x_{self.n.star}"
        value = f"f-f_{n.star}" if n is LATEX else "f - f_*"
        if isinstance(self.w.flow, Flow):
            gradient = r"g=\nabla f(x)" if n is LATEX else "g = grad f(x)"
            second = {flows.v: "v", flows.y: "y", flows.a: "a"}
            names = [self.second(s) for s in self.w.flow.state if s in second]
            yield (
                n.words("where x means ")
                + f"x{minus}"
                + n.words(", f means ")
                + value
                + "".join(rf",\quad {e}" for e in (gradient, *names))
            )
            for symbol, rule in self.w.flow.derivatives:
                yield n.words("and, as time goes on, ") + f"{n.dot}{n.expr(symbol)}={n.expr(rule)}"
            return
        point = "x_k" if self.w.flow.gamma == 0 else "y_k"
        gradient = rf"g_k=\nabla f({point})" if n is LATEX else f"g_k = grad f({point})"
        yield (
            n.words("where x")
            + n.step()
            + n.words(" means ")
            + f"x{n.step()}{minus}"
            + n.words(f", f{'_k' if n is not LATEX else ''} ")
            + (n.words("with index k means ") if n is LATEX else "means ")
            + f"f({point})-f_{n.star}"
            + rf",\quad {gradient}"
        )
        if any(flows.time in e.free_symbols for e in (self.w.energy, *self.w.flow.varying)):
            yield n.words("and t means k")
        if point == "y_k":
            here = self.polynomial(self.w.flow.points["0"][0])
            yield n.words("the point of the gradient is ") + f"y_k={here}"

    def second(self, symbol) -> str:
        hessian = self.w.flow.hessian if isinstance(self.w.flow, Flow) else sympy.S.Zero
        dotted = {flows.v: (r"v=\dot x", "v = x'"), flows.a: (r"a=\ddot x", "a = x''")}
        if symbol in dotted:
            return dotted[symbol][self.n is not LATEX]
        slope = self.n.term(hessian, "g")
        return rf"y=\dot x{slope}" if self.n is LATEX else f"y = x' {slope}"

    def bound(self, bound: Bound) -> str:
        n = self.n
        name, relation = n.expr(bound.symbol), "<" if bound.strict else n.less
        if not bound.is_bounded:
            return rf"{name}\in\mathbb{{R}}" if n is LATEX else f"{name} real"
        if bound.lower is None:
            return f"{name}{relation} {n.expr(bound.limits[0])}"
        tail = "" if bound.upper is None else f"<{n.expr(bound.upper)}"
        return f"{n.expr(bound.lower)}{relation} {name}{tail}"

    def change(self) -> str:
        rate = self.n.expr(self.w.decay)
        if self.w.law == "potential":
            return f"V{self.index('+1')}-V{self.index()}"
        if self.steps:
            return f"V{self.index('+1')}" + self.n.term(-self.w.decay, f"V{self.index()}")
        return (
            f"{self.n.dot}V+" + (self.n.wrapped(rate) if self.w.decay.is_Add else rate + self.n.times) + "V"
        )

    def form(self, rows) -> list[str]:
        found = squares(rows)
        if found is not None:
            return self.n.squares(found, self.w.vectors)
        vectors = [self.field.read(s) for s in self.w.vectors]
        terms = [
            e * a * b for row, a in zip(rows, vectors, strict=True) for e, b in zip(row, vectors, strict=True)
        ]
        return ["+" + self.n.wrapped(self.n.polynomial(self.field.total(terms), self.w.flow.gens))]

    def right(self) -> str:
        weights = [self.n.term(sympy.factor(m.value), self.n.name(m.name)) for m in self.w.multipliers]
        rows = [[self.field.read(e) for e in row] for row in self.w.remainder.tolist()]
        return self.n.sum([*weights, *self.form(rows)])

    def positive(self) -> str:
        weights = [self.n.term(-sympy.factor(m.value), self.n.name(m.name)) for m in self.w.positivity]
        part = self.w.positive_part(self.field)
        return self.n.sum([*weights, *self.form(quadratic_rows(part, self.w.flow.gens, self.w.vectors))])

    def where(self, name: str, m: Multiplier) -> str:
        functions = self.w.function_class
        smooth = "convexity with an L-Lipschitz gradient (interpolation inequality of the class)"
        plain = "the tangent lies below f" + (
            ", by strong convexity with a parabola between" if functions.mu != 0 else ""
        )
        source = {
            "A": smooth if functions.L is not None else plain,
            "C": plain,
            "G": "the minimiser is lowest"
            + (", by strong convexity with a parabola" if functions.mu != 0 else ""),
            "D": "the Hessian along the velocity, between mu and L",
            "E": "f is quadratic",
        }[name[0]]
        relation = "=0" if name.startswith("E") else f"\\ {self.n.less}0"
        body = self.polynomial(m.inequality)
        claim = f"{self.n.words('where ')}{self.n.name(name)}={body}{relation}"
        return rf"{claim}\quad {self.n.words(f'({source})')}"

    def signs(self) -> Iterator[str]:
        """Each weight in the distances of the parameters from their bounds, or in digits."""
        n, found = self.n, [s for s in signs_of(self.w, None) if s.relation != "!= 0"]
        for bound in self.w.domain:
            if any(bound.distance in s.written.free_symbols for s in found) and bound.lower != 0:
                positive = "> 0" if bound.strict else f"{n.more}0"
                at = f"{n.expr(bound.symbol)}={n.expr(_in_distance(bound))}"
                yield n.words("with ") + rf"{at},\quad {n.expr(bound.distance)}{positive}"
        strict = {s.expression for s in found if s.relation == "> 0"}
        for s in found:
            if s.relation == ">= 0" and s.expression in strict:
                continue
            relation = {">": ">", ">=": n.more, "<=": n.less}[s.relation[:-2]]
            same = s.expression == s.written and s.written.free_symbols
            shown = "" if same else f"={self.shown(s)}"
            yield n.words("sign: ") + f"{n.expr(s.expression)}{shown}\\ {relation} 0"

    def shown(self, sign: Sign) -> str:
        return (
            self.n.expr(sign.written)
            if sign.written.free_symbols
            else f"{nearest_float(sign.written):.6g}..."
        )

    def conclusion(self) -> Iterator[str]:
        w, n = self.w, self.n
        rate = n.expr(w.rate)
        if w.ends is not None:
            yield from self.ends()
            return
        if w.law == "factor":
            decay, start, now = n.power(n.wrapped(rate), "k"), "V_0", "V_k"
        elif w.law == "exponential":
            exponent = n.term(-w.rate, "t") if w.rate.is_Add else f"-{rate}{n.times}t"
            decay, start, now = n.power("e", exponent), "V(0)", "V(t)"
        elif w.law == "integral":
            decay, start, now = n.power("e", f"-{n.integral('t_0', rate)}"), "V(t_0)", "V(t)"
        else:
            extra = sympy.integrate(-w.correction, flows.time)
            weight = n.power("t", rate) + (n.power("e", n.expr(-extra)) if extra != 0 else "")
            yield n.words("hence ") + f"{weight}{n.times}V(t)" + n.words(" does not increase")
            decay, start, now = "", "", ""
        if decay:
            yield n.words("hence ") + f"{now}{n.less}{decay}{n.times}{start}"
            yield n.words("at rest ") + f"{start}={self.polynomial(self.at_rest()).replace('_k', '_0')}"
        yield self.of_f(decay, start)

    def at_rest(self) -> Expr:
        """V where the velocity is zero, or where x_(k-1) = x_k."""
        first = {flows.x1: flows.x0} if self.steps else dict.fromkeys((flows.v, flows.a), sympy.S.Zero)
        return self.w.energy.xreplace(first)

    def of_f(self, decay: str, start: str) -> str:
        n = self.n
        try:
            constant = value_constant(self.w)
        except ValueError:
            constant = None
        if constant is None or constant == 0:
            return n.words("which is a statement on V; this proof bounds f by V at no constant")
        inverse = self.field.read(1 / constant).factored()
        bound = f"{n.less}{n.term(inverse, 'V' + self.index()).removeprefix('+')}"
        point = "f_k" if self.steps else f"f(x(t))-f_{n.star}"
        if decay:
            bound += f"{n.less}{n.term(inverse, decay).removeprefix('+')}{n.times}{start}"
        return n.words("and ") + point + bound

    def ends(self) -> Iterator[str]:
        w, n = self.w, self.n
        found = bound_of_f(w)
        assert w.ends is not None
        assert found is not None
        place, bound = found
        yield (
            n.words("at the first step ")
            + f"V_0{n.less}{self.polynomial(w.ends.bound).replace('_k', '_0')}"
            + self.by(w.ends.start)
        )
        value = self.polynomial(w.ends.value).replace("_k", "_N")
        yield n.words("after N steps ") + f"V_N{n.more}{value}" + self.by(w.ends.end)
        place = place.replace("(", "{").replace(")", "}") if n is LATEX else place
        yield (
            n.words("hence ")
            + f"f({place})-f_{n.star}{n.less}{n.term(bound, n.norm('x_0')).removeprefix('+')}"
        )

    def by(self, multipliers: tuple[Multiplier, ...]) -> str:
        terms = [f"{self.n.expr(m.value)}{self.n.times}{self.n.name(m.name)}" for m in multipliers]
        return rf"\quad {self.n.words('(by ')}{', '.join(terms)}{self.n.words(')')}" if terms else ""


def _in_distance(bound: Bound) -> Expr:
    d = bound.distance
    if bound.lower is None:
        return bound.limits[0] - d
    return bound.lower + d if bound.upper is None else (bound.lower + bound.upper * d) / (1 + d)
