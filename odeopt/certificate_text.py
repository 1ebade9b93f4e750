r"""Certificates as LaTeX, for readers, and as JSON, for others to verify."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sympy
from sympy import Expr, ImmutableMatrix, Symbol

from odeopt import flows
from odeopt.exactness import Bound
from odeopt.expressions import parse_expression, write_expression
from odeopt.flows import Flow, Iteration
from odeopt.forms import Multiplier, Search, quadratic_form
from odeopt.function_classes import FunctionClass

if TYPE_CHECKING:
    from odeopt.certificate import Certificate

__all__ = ["certificate_fields", "certificate_latex", "certificate_to_json", "gram_latex"]

FORMAT = "odeopt certificate 1"
_RESERVED = {
    s.name: s
    for s in (
        *(flows.f, flows.x, flows.v, flows.y, flows.a, flows.g, flows.q, flows.time),
        *(flows.f0, flows.f1, flows.x0, flows.x1, flows.g0, flows.g1),
    )
}
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


def _squares_latex(matrix: sympy.Matrix, vectors) -> str:
    """A form as a weighted sum of squares, by elimination; entry by entry where a pivot vanishes."""
    rest, parts, form = (
        sympy.Matrix(matrix),
        [],
        (sympy.Matrix(vectors).T * matrix * sympy.Matrix(vectors))[0, 0],
    )
    for k in reversed(range(rest.rows)):
        pivot = sympy.cancel(rest[k, k])
        column = rest[:, k].applyfunc(sympy.cancel)
        if pivot == 0:
            if any(e != 0 for e in column):
                return gram_latex(form, vectors, ())
            continue
        linear = (column / pivot).applyfunc(lambda e: sympy.factor(sympy.radsimp(sympy.cancel(e))))
        rest = (rest - pivot * linear * linear.T).applyfunc(sympy.cancel)
        body = "".join(_term(c, _gram([s])) for c, s in zip(linear, vectors, strict=True) if c != 0)
        parts.append(_term(sympy.factor(sympy.radsimp(pivot)), rf"\lVert {body.removeprefix('+')}\rVert^2"))
    return "".join(parts).removeprefix("+") or "0"


def _bound_latex(bound: Bound) -> str:
    name, relation = sympy.latex(bound.symbol), "<" if bound.strict else r"\le"
    if not bound.is_bounded:
        return rf"{name}\in\mathbb{{R}}"
    if bound.lower is None:
        return rf"{name}{relation} {sympy.latex(bound.upper)}"
    tail = "" if bound.upper is None else f"<{sympy.latex(bound.upper)}"
    return rf"{sympy.latex(bound.lower)}{relation} {name}{tail}"


def _change_latex(w: Certificate) -> str:
    rate = sympy.latex(w.decay)
    if w.law == "factor":
        return rf"V_{{k+1}}-{rate}\,V_k"
    return rf"\dot V+\left({rate}\right)V" if w.decay.is_Add else rf"\dot V+{rate}\,V"


def _value_latex(w: Certificate) -> str:
    """What the certificate says of f itself."""
    try:
        constant = w.value_constant()
    except ValueError:
        return ""
    return rf",\quad V\ge{sympy.latex(constant)}\,f" if constant != 0 else ""


def _conclusion_latex(w: Certificate) -> str:
    rate = sympy.latex(w.rate)
    if w.law == "factor":
        return rf"V_k\le\left({rate}\right)^{{k}}V_0"
    if w.law == "exponential":
        return rf"V(t)\le e^{{-{rate}\,t}}\,V(0)" + _value_latex(w)
    if w.law == "integral":
        return rf"V(t)\le e^{{-\int_{{t_0}}^t{rate}\,d\tau}}\,V(t_0)"
    extra = sympy.integrate(-w.correction, flows.time)
    weight = rf"t^{{{rate}}}" + (rf"e^{{{sympy.latex(-extra)}}}" if extra != 0 else "")
    return rf"{weight}\,V(t)\ \text{{does not increase}}"


def certificate_latex(w: Certificate) -> str:
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
    squares = _squares_latex(sympy.Matrix(w.remainder), w.vectors)
    signs = "" if squares == "0" else squares if squares.startswith("-") else "+" + squares
    right = "".join(weights).removeprefix("+") + signs
    positive = "".join(_term(-sympy.factor(m.value), _name_latex(m.name)) for m in w.positivity)
    T = quadratic_form(w.positive_part, w.flow.gens, w.vectors)
    form = _squares_latex(T, w.vectors)
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


# JSON


def certificate_to_json(w: Certificate) -> str:
    """Return a certificate as JSON text.

    Parameters
    ----------
    w : Certificate

    Returns
    -------
    str
    """
    text = write_expression

    def optional(expr):
        return None if expr is None else text(expr)

    def multipliers(entries):
        return [{"name": m.name, "value": text(m.value), "inequality": text(m.inequality)} for m in entries]

    flow = w.flow
    described: dict[str, Any] = (
        {"kind": "iteration", "lr": text(flow.lr), "beta": text(flow.beta), "gamma": text(flow.gamma)}
        if isinstance(flow, Iteration)
        else {
            "kind": "flow",
            "friction": [text(b) for b in flow.friction],
            "force": text(flow.force),
            "hessian": text(flow.hessian),
            "derivatives": {s.name: text(e) for s, e in flow.derivatives},
        }
    )
    search = w.search and {
        "optimum": w.search.optimum,
        "gap": w.search.gap,
        "bound": w.search.bound,
        "steps": w.search.steps,
    }
    content = {
        "format": FORMAT,
        "title": w.title,
        "domain": [
            {
                "symbol": b.symbol.name,
                "lower": optional(b.lower),
                "upper": optional(b.upper),
                "strict": b.strict,
            }
            for b in w.domain
        ],
        "flow": described,
        "class": {
            "kind": w.function_class.kind,
            "mu": text(w.function_class.mu),
            "L": optional(w.function_class.L),
        },
        "energy": text(w.energy),
        "rate": text(w.rate),
        "law": w.law,
        "correction": text(w.correction),
        "multipliers": multipliers(w.multipliers),
        "positivity": multipliers(w.positivity),
        "vectors": [s.name for s in w.vectors],
        "remainder": [[text(e) for e in row] for row in w.remainder.tolist()],
        "search": search,
    }
    return json.dumps(content, indent=1)


def certificate_fields(text: str) -> dict[str, Any]:
    """Read the fields of a certificate from its JSON; every expression by the strict reader.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the text is no such JSON.
    """
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, TypeError, RecursionError) as error:
        raise ValueError(f"a certificate must be JSON text: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"a certificate must have the entry format = {FORMAT!r}")
    try:
        return _read(content)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"a certificate has a wrong or missing entry: {error!r}") from error


def _read(content: dict) -> dict[str, Any]:
    names = dict(_RESERVED)
    for entry in content["domain"]:
        name = entry["symbol"]
        if (
            not isinstance(name, str)
            or not name.isidentifier()
            or (name in _RESERVED and name != flows.time.name)
        ):
            raise ValueError(f"{name!r} cannot name a parameter")
        names.setdefault(name, Symbol(name, real=True))

    def expression(entry):
        return parse_expression(entry, names)

    def optional(entry):
        return None if entry is None else expression(entry)

    def multipliers(entries):
        return tuple(
            Multiplier(str(e["name"]), expression(e["value"]), expression(e["inequality"])) for e in entries
        )

    domain = tuple(
        Bound(names[e["symbol"]], optional(e["lower"]), optional(e["upper"]), e["strict"] is True)
        for e in content["domain"]
    )
    kind = content["class"]
    search = content.get("search")
    return {
        "title": str(content["title"]),
        "flow": _read_flow(content["flow"], names, expression),
        "function_class": FunctionClass(kind["kind"], expression(kind["mu"]), optional(kind["L"])),
        "energy": expression(content["energy"]),
        "rate": expression(content["rate"]),
        "law": content["law"],
        "multipliers": multipliers(content["multipliers"]),
        "positivity": multipliers(content["positivity"]),
        "vectors": tuple(_RESERVED[name] for name in content["vectors"]),
        "remainder": ImmutableMatrix([[expression(e) for e in row] for row in content["remainder"]]),
        "domain": domain,
        "correction": expression(content["correction"]),
        "search": search and _read_search(search),
    }


def _read_search(search: dict) -> Search:
    numbers = float(search["optimum"]), float(search["gap"])
    return Search(*numbers, str(search["bound"]), int(search["steps"]))


def _read_flow(flow: dict, names: dict, expression) -> Flow | Iteration:
    if flow["kind"] == "iteration":
        return Iteration(expression(flow["lr"]), expression(flow["beta"]), expression(flow["gamma"]))
    if flow["kind"] != "flow":
        raise ValueError(f"the kind of a flow must be 'flow' or 'iteration', got {flow['kind']!r}")
    derivatives = {names[name]: expression(e) for name, e in flow["derivatives"].items()}
    friction = tuple(expression(b) for b in flow["friction"])
    return Flow(friction, expression(flow["force"]), expression(flow["hessian"]), derivatives)
