r"""Certificates as JSON, for others to verify."""

from __future__ import annotations

import json
from typing import Any

from sympy import ImmutableMatrix, Symbol

from odeopt.proofs import flow as flows
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.parser import parse_expression, write_expression
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.statement import Multiplier, Search, Statement

__all__ = ["FORMAT", "statement_from_json", "statement_to_json"]


FORMAT = "odeopt certificate 1"


_RESERVED = {
    s.name: s
    for s in (
        *(flows.f, flows.x, flows.v, flows.y, flows.a, flows.g, flows.q, flows.time),
        *(flows.f0, flows.f1, flows.x0, flows.x1, flows.g0, flows.g1),
    )
}


def statement_to_json(w: Statement) -> str:
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


def statement_from_json(text: str) -> dict[str, Any]:
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
