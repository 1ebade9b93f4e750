r"""Certificates as JSON, for others to verify; ``schema.json`` beside this file is the schema of format 2.

**Size.** At most 300,000 characters, 20,000 in an expression, and 50 ranges.

**Text of expressions.** Integers in ASCII digits, declared names, ``+ - * /``, ``**`` with an integer of
absolute value at most 64, parentheses, ``sqrt(...)`` of a number. Declared are the names of `domain`, of
`flow.derivatives`, ``t``, and the reserved names ``f x v y a g q`` and ``f_0 f_1 x_0 x_1 g_0 g_1``.

**Meaning.** Vectors are written as commuting symbols: a product of two is their inner product, and all are
relative to a minimiser of the function: x means x - x*, f means f(x) - f*. For a flow

    x^(n) + sum_j friction[j] x^(j+1) + hessian * grad^2 f(x) x' + force * grad f(x) = 0

g is the gradient and f the value at x, v = x', a = x'', q = dg/dt, and with Hessian damping y = x' +
hessian g stands in the place of v. Rates of change: f' = g x', x' = v (order 1: -force g; with y: y -
hessian g), v' and a' (y') by the equation, g' = q, t' = 1, and those of `derivatives`. For an iteration

    x_(k+1) = x_k + beta (x_k - x_(k-1)) - lr g_k,   y_k = x_k + gamma (x_k - x_(k-1))

x_0 is x_k, x_1 is x_(k-1), f_0 and g_0 are value and gradient at y_k, f_1 and g_1 those at y_(k+1), and t
is k. A step replaces x_0 by x_0 + beta (x_0 - x_1) - lr g_0, x_1 by x_0, f_0 by f_1, g_0 by g_1, t by t +
1.

**Class.** "strongly convex" and "convex" (mu = 0): convex functions with mu-strong convexity, and
L-Lipschitz gradient unless L is null; "quadratic": f = <x, H x> / 2 with the spectrum of H in [mu, L]. It
grants, with the points (x, g, f) "x" = (x, g, f) of a flow, "0" = (y_k, g_0, f_0) and "1" = (y_(k+1), g_1,
f_1) of an iteration, and "*" = (0, 0, 0), each of these to be <= 0, and those named E to be = 0:

    A(i,j)  f_j - f_i + g_j (x_i - x_j)
            + [(g_i - g_j)^2 + mu L (x_i - x_j)^2 - 2 mu (g_i - g_j)(x_i - x_j)] / (2 (L - mu))
    C(i,j)  f_j - f_i + g_j (x_i - x_j) + mu (x_i - x_j)^2 / 2           (A(i,j) where L is null)
    G(i)    mu x_i^2 / 2 - f_i
    D       (q - mu x')(q - L x'), or x' (mu x' - q) where L is null      (flows only)
    E(i)    g_i x_i - 2 f_i                                               (quadratics only)

**Domain.** In order, each bound in names bounded before: lower <= s, with `strict` lower < s; s <= upper
(<); with both lower <= s < upper (lower < s < upper); with neither any real s. `point` lies in it.

**Claim.** With V = energy, c = rate, and D = V' + c V (exponential, integral), V' + (c/t + correction) V
(power), V after the step - c V (factor) or - V (potential): for every function of the class

    D = sum of multiplier * inequality + z' S z      (identity in all symbols)
    V = - sum of positivity * inequality + z' T z    (this defines T)

with z = vectors, S = remainder, all values >= 0 but those of E, S <= 0 and T >= 0 on the whole domain;
every divisor is nonzero there. So e^(ct) V, t^c e^(int correction) V, e^(int c dt) V, c^(-k) V or V does
not increase. It is also required that c > 0 (factor: c <= 1); that no range of `domain` may end the times
(not for "integral"); that `correction` holds nothing that moves but t, and is integrable at infinity; that
f has a positive coefficient in V that does not fade; that V is positive definite on the quadratics f = lam
x^2/2, g = lam x (at y_k) of the class for all lam in [mu, L] but finitely many, so that V = 0 says nothing;
and for a potential the `ends`:

    `domain` ends with 0 <= t, t + 1 <= N, N = ends.horizon
    V at t = 0, x_1 = x_0:   V - bound = sum of start * inequality - squares,   bound = B x_0^2
    V at t = N:              value - V = sum of end * inequality - squares,
    value = w f_0, or w (f_0 - c g_0^2) with 0 <= c <= lr (1 - L lr/2), at least w f at y_N - lr g_N

for all N >= 1, so f <= (B/w) x_0^2, and B/w falls at least like N^(-rate).

**Evidence**, for readers and other checkers; nothing of the claim rests on it. `squares.remainder` and
`squares.positivity` are lists of [weight, form] with z' S z = sum weight * form^2 (weights <= 0) and z' T z
the same (weights >= 0); a form may divide by what vanishes on a part of the domain without interior: both
sides are continuous. `signs` lists what has to be signed, but for rational numbers: `expression` =
numerator / denominator after each bounded symbol s is replaced by its distance d_s >= 0 (> 0 where strict):
s = lower + d_s, upper - d_s, or (lower + upper d_s)/(1 + d_s), the last symbol first (a symbol with the
bound 0 <= s or 0 < s alone is its own distance and keeps its name); `relation` is ">= 0", "> 0", "<= 0" or
"!= 0", and where `by` is "coefficients" all coefficients of the numerator have one sign, and all of the
denominator have one; "factors": so it is for each factor of odd power; "roots": or an irreducible factor in
one distance has no root in (0, oo).
"""

from __future__ import annotations

import json
from typing import Any

from sympy import Expr, ImmutableMatrix, Symbol

from odeopt.proofs import flow as flows
from odeopt.proofs.evidence import evidence_of, signs_of
from odeopt.proofs.exact.domain import Bound
from odeopt.proofs.exact.parser import parse_expression, write_expression
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.statement import Ends, Evidence, Multiplier, Search, Statement

__all__ = ["FORMATS", "statement_from_json", "statement_to_json"]

# The second adds `point`, `squares`, `signs` and `ends` to the first.
FORMATS = ("odeopt certificate 1", "odeopt certificate 2")
_LARGEST = 1e300  # of the numbers beside the proof
_MOST_CHARACTERS, _MOST_RANGES = 300_000, 50  # of a file, which is read in about a second
_OF_BOTH = ("format", "title", "domain", "flow", "class", "energy", "rate", "law", "correction",
            "multipliers", "positivity", "vectors", "remainder", "search")  # fmt: skip
_OF_SECOND = ("ends", "point", "squares", "signs")
_RESERVED = {
    s.name: s
    for s in (
        *(flows.f, flows.x, flows.v, flows.y, flows.a, flows.g, flows.q, flows.time),
        *(flows.f0, flows.f1, flows.x0, flows.x1, flows.g0, flows.g1),
    )
}


def statement_to_json(w: Statement) -> str:
    """Return a certificate as JSON text of format 2."""
    text, evidence = write_expression, evidence_of(w)
    content = {
        "format": FORMATS[-1],
        "title": w.title,
        "domain": [_bound_text(b) for b in w.domain],
        "flow": _flow_text(w.flow),
        "class": {
            "kind": w.function_class.kind,
            "mu": text(w.function_class.mu),
            "L": _optional_text(w.function_class.L),
        },
        "energy": text(w.energy),
        "rate": text(w.rate),
        "law": w.law,
        "correction": text(w.correction),
        "multipliers": _multipliers_text(w.multipliers),
        "positivity": _multipliers_text(w.positivity),
        "vectors": [s.name for s in w.vectors],
        "remainder": [[text(e) for e in row] for row in w.remainder.tolist()],
        "ends": w.ends and {
            "horizon": w.ends.horizon.name,
            "bound": text(w.ends.bound),
            "start": _multipliers_text(w.ends.start),
            "value": text(w.ends.value),
            "end": _multipliers_text(w.ends.end),
        },
        "point": evidence.point and {s.name: text(e) for s, e in evidence.point.items()},
        "squares": {
            "remainder": _squares_text(evidence.remainder),
            "positivity": _squares_text(evidence.positivity),
        },
        "signs": [
            {
                "expression": text(s.expression), "relation": s.relation, "numerator": text(s.numerator),
                "denominator": text(s.denominator), "by": s.by,
            }
            for s in signs_of(w, evidence)
        ],
        "search": w.search and vars(w.search),
    }  # fmt: skip
    return json.dumps(content, indent=1)


def _bound_text(b: Bound) -> dict[str, Any]:
    limits = {"lower": _optional_text(b.lower), "upper": _optional_text(b.upper)}
    return {"symbol": b.symbol.name, **limits, "strict": b.strict}


def _optional_text(expr: Expr | None) -> str | None:
    return None if expr is None else write_expression(expr)


def _squares_text(squares) -> list | None:
    return None if squares is None else [[write_expression(e) for e in pair] for pair in squares]


def _multipliers_text(entries: tuple[Multiplier, ...]) -> list[dict[str, str]]:
    text = write_expression
    return [{"name": m.name, "value": text(m.value), "inequality": text(m.inequality)} for m in entries]


def _flow_text(flow: Flow | Iteration) -> dict[str, Any]:
    text = write_expression
    if isinstance(flow, Iteration):
        coefficients = {"lr": flow.lr, "beta": flow.beta, "gamma": flow.gamma}
        return {"kind": "iteration", **{name: text(e) for name, e in coefficients.items()}}
    return {
        "kind": "flow",
        "friction": [text(b) for b in flow.friction],
        "force": text(flow.force),
        "hessian": text(flow.hessian),
        "derivatives": {s.name: text(e) for s, e in flow.derivatives},
    }


# Reading


def statement_from_json(text: str) -> dict[str, Any]:
    """Return the fields of a certificate; ValueError if the text is no certificate of either format."""
    if not isinstance(text, str):
        raise ValueError(f"a certificate must be JSON text, got {type(text).__name__}")
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(
            f"a certificate must be text of at most {_MOST_CHARACTERS} characters, got {len(text)}"
        )
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_integer)
    except RecursionError:
        raise ValueError("a certificate must be JSON text, and not so deeply nested") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"a certificate must be JSON text: {error}") from None
    if not isinstance(content, dict) or content.get("format") not in FORMATS:
        raise ValueError(f"a certificate must have the entry format = {' or '.join(map(repr, FORMATS))}")
    second = content["format"] == FORMATS[1]
    return _Reader(_entries(content, "certificate", *_OF_BOTH, *(_OF_SECOND if second else ()))).fields(
        second
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a certificate has an entry twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > 300:
        raise ValueError(f"a certificate has a wrong entry: a number of {len(digits)} digits")
    return int(digits)


def _no_constant(name: str):
    raise ValueError(f"a certificate has a wrong or missing entry: {name} is no number")


def _entries(value: Any, what: str, *names: str) -> dict[str, Any]:
    """An object with these entries and no others."""
    if not isinstance(value, dict) or set(value) != set(names):
        got = ", ".join(map(str, value)) if isinstance(value, dict) else repr(value)[:60]
        raise ValueError(
            f"a certificate has a wrong or missing entry: {what} needs {', '.join(names)}; got {got}"
        )
    return value


def _typed(value: Any, what: str, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"a certificate has a wrong or missing entry: {what} = {repr(value)[:60]}")
    return value


class _Reader:
    """The fields of a certificate from the entries of its file; every expression by the strict reader."""

    def __init__(self, content: dict[str, Any]):
        self.content, self.names = content, dict(_RESERVED)
        self.divisors: list[Expr] = []

    def fields(self, second: bool) -> dict[str, Any]:
        content = self.content
        domain = self.domain(_typed(content["domain"], "domain", list))
        kind = _entries(content["class"], "class", "kind", "mu", "L")
        mu, L = self.expression(kind["mu"]), self.optional(kind["L"])
        flow = self.flow(content["flow"])
        fields = {
            "title": _typed(content["title"], "title", str),
            "flow": flow,
            "function_class": FunctionClass(_typed(kind["kind"], "kind", str), mu, L),
            "energy": self.expression(content["energy"]),
            "rate": self.expression(content["rate"]),
            "law": _typed(content["law"], "law", str),
            "multipliers": self.multipliers(content["multipliers"]),
            "positivity": self.multipliers(content["positivity"]),
            "vectors": tuple(self.vector(name) for name in _typed(content["vectors"], "vectors", list)),
            "remainder": self.matrix(content["remainder"]),
            "domain": domain,
            "correction": self.expression(content["correction"]),
            "search": self.search(content["search"]),
        }
        divisors = tuple(dict.fromkeys(e for e in self.divisors if not e.is_Rational))
        if not second:
            return fields | {"evidence": Evidence(None, None, None, divisors)}
        return fields | self.second(divisors)

    def second(self, divisors: tuple[Expr, ...]) -> dict[str, Any]:
        content = self.content
        point = content["point"]
        if point is not None:
            _entries(point, "point", *(b["symbol"] for b in content["domain"]))
        squares = _entries(content["squares"], "squares", "remainder", "positivity")
        _typed(content["signs"], "signs", list)
        evidence = Evidence(
            point and {self.names[name]: self.expression(e) for name, e in point.items()},
            self.squares(squares["remainder"]),
            self.squares(squares["positivity"]),
            divisors,
        )
        return {"ends": self.ends(content["ends"]), "evidence": evidence}

    def expression(self, entry: Any) -> Expr:
        return parse_expression(entry, self.names, self.divisors)

    def optional(self, entry: Any) -> Expr | None:
        return None if entry is None else self.expression(entry)

    def symbol(self, name: Any) -> Symbol:
        """Declare a parameter."""
        fit = isinstance(name, str) and name.isascii() and name.isidentifier() and name != "sqrt"
        if not fit or (name in _RESERVED and name != flows.time.name):
            raise ValueError(f"{name!r} cannot name a parameter")
        return self.names.setdefault(name, Symbol(name, real=True))

    def domain(self, entries: list) -> tuple[Bound, ...]:
        if len(entries) > _MOST_RANGES:
            raise ValueError(f"a certificate has at most {_MOST_RANGES} ranges, got {len(entries)}")
        bounds = [_entries(e, "domain", "symbol", "lower", "upper", "strict") for e in entries]
        symbols = [self.symbol(e["symbol"]) for e in bounds]
        return tuple(
            Bound(
                s, self.optional(e["lower"]), self.optional(e["upper"]), _typed(e["strict"], "strict", bool)
            )
            for s, e in zip(symbols, bounds, strict=True)
        )

    def flow(self, entry: Any) -> Flow | Iteration:
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if kind == "iteration":
            _entries(entry, "flow", "kind", "lr", "beta", "gamma")
            return Iteration(*(self.expression(entry[name]) for name in ("lr", "beta", "gamma")))
        if kind != "flow":
            raise ValueError(f"the kind of a flow must be 'flow' or 'iteration', got {kind!r}")
        _entries(entry, "flow", "kind", "friction", "force", "hessian", "derivatives")
        rules = _typed(entry["derivatives"], "derivatives", dict)
        unknown = set(rules) - {b["symbol"] for b in self.content["domain"]}
        if unknown:
            raise ValueError(
                f"a certificate has a wrong or missing entry: no range for {', '.join(sorted(unknown))}"
            )
        derivatives = {self.names[name]: self.expression(e) for name, e in rules.items()}
        friction = tuple(map(self.expression, _typed(entry["friction"], "friction", list)))
        return Flow(friction, self.expression(entry["force"]), self.expression(entry["hessian"]), derivatives)

    def vector(self, name: Any) -> Symbol:
        if not isinstance(name, str) or name not in _RESERVED:
            raise ValueError(f"a certificate has a wrong or missing entry: {name!r} is no vector")
        return _RESERVED[name]

    def multipliers(self, entries: Any) -> tuple[Multiplier, ...]:
        found = [
            _entries(e, "multipliers", "name", "value", "inequality")
            for e in _typed(entries, "multipliers", list)
        ]
        return tuple(
            Multiplier(
                _typed(e["name"], "name", str), self.expression(e["value"]), self.expression(e["inequality"])
            )
            for e in found
        )

    def matrix(self, rows: Any) -> ImmutableMatrix:
        found = [
            list(map(self.expression, _typed(row, "remainder", list)))
            for row in _typed(rows, "remainder", list)
        ]
        if len({len(row) for row in found}) > 1:
            raise ValueError(
                "a certificate has a wrong or missing entry: the rows of remainder differ in length"
            )
        return ImmutableMatrix(found)

    def squares(self, entries: Any) -> tuple[tuple[Expr, Expr], ...] | None:
        if entries is None:
            return None
        pairs = [_typed(pair, "squares", list) for pair in _typed(entries, "squares", list)]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(
                "a certificate has a wrong or missing entry: squares are pairs of weight and form"
            )
        return tuple((self.expression(weight), self.expression(form)) for weight, form in pairs)

    def ends(self, entry: Any) -> Ends | None:
        if entry is None:
            return None
        _entries(entry, "ends", "horizon", "bound", "start", "value", "end")
        horizon = entry["horizon"]
        if not isinstance(horizon, str) or horizon not in self.names or horizon in _RESERVED:
            raise ValueError(f"a certificate has a wrong or missing entry: horizon = {horizon!r}")
        return Ends(
            self.names[horizon], self.expression(entry["bound"]), self.multipliers(entry["start"]),
            self.expression(entry["value"]), self.multipliers(entry["end"]),
        )  # fmt: skip

    @staticmethod
    def search(entry: Any) -> Search | None:
        if entry is None:
            return None
        _entries(entry, "search", "optimum", "gap", "bound", "steps")
        optimum, gap = entry["optimum"], entry["gap"]
        if any(type(n) not in (int, float) or not abs(n) < _LARGEST for n in (optimum, gap)):
            raise ValueError("a certificate has a wrong or missing entry: search holds no finite numbers")
        bound, steps = _typed(entry["bound"], "bound", str), _typed(entry["steps"], "steps", int)
        return Search(float(optimum), float(gap), bound, steps)
