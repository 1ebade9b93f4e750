"""A second checker of certificates, which shares nothing with the package but the file format.

It reads what :mod:`odeopt.proofs.storage` documents and proves the claim anew in plain fractions: True,
False, or None where its own means end.
"""

from __future__ import annotations

import ast
import json
import re
from fractions import Fraction

from plain_domain import Domain
from plain_fractions import (
    OPEN,
    ROOTS,
    WORK,
    Refused,
    Undecided,
    constant_sign,
    image,
    number,
    read,
    symbol,
)

VECTORS = {"f", "x", "v", "y", "a", "g", "q", "f_0", "f_1", "x_0", "x_1", "g_0", "g_1"}
MOVING = {"x_0", "x_1", "f_0", "g_0", "f_1", "g_1", "t"}


def strict_json(text):
    def pairs(items):
        if len({k for k, _ in items}) < len(items):
            raise Refused("a key stands twice")
        return dict(items)

    def constant(name):
        raise Refused(f"{name} is no number")

    if len(text) > 300_000:
        raise Refused("too long a file")
    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused("no JSON") from error


def point_inequality(name, points, mu, L, derivative):
    """The inequality of the class with this name."""
    found = re.fullmatch(r"([ACGE])\(([x01*])(?:,([x01*]))?\)|D", name)
    if found is None or any(k not in points for k in found.groups()[1:] if k):
        raise Refused(f"unknown inequality {name}")
    kind, i, j = found.groups()
    half = number(Fraction(1, 2))
    if kind is None:
        q, v = derivative
        return (q - mu * v) * (q - L * v) if L is not None else v * (mu * v - q)
    xi, gi, fi = points[i]
    if kind == "G" and j is None:
        return half * mu * xi * xi - fi
    if kind == "E" and j is None:
        return gi * xi - number(2) * fi
    if kind not in "AC" or j is None:
        raise Refused(f"unknown inequality {name}")
    xj, gj, fj = points[j]
    x, g, out = xi - xj, gi - gj, fj - fi + gj * (xi - xj)
    if kind == "C" or L is None:
        return out + half * mu * x * x
    return out + (g * g + mu * L * x * x - number(2) * mu * g * x) / (number(2) * (L - mu))


def quadratic(form, vectors):
    """Matrix of a quadratic form, or a refusal of what is none."""
    n, half = len(vectors), number(Fraction(1, 2))
    matrix = [[half * form.diff(a).diff(b) for b in vectors] for a in vectors]
    rest = form
    for i in range(n):
        for j in range(n):
            rest = rest - matrix[i][j] * symbol(vectors[i]) * symbol(vectors[j])
    if not rest.is_zero():
        raise Refused("what should be a quadratic form is none")
    return matrix


class Proof:
    """One file."""

    def __init__(self, text):
        self.w = w = strict_json(text)
        self.moving = {"t": number(1)}
        flow = w["flow"]
        kinds = {"convex", "strongly convex", "quadratic"}
        known = str(w["format"]) in ("odeopt certificate 1", "odeopt certificate 2")
        if not known or flow["kind"] not in ("flow", "iteration") or w["class"]["kind"] not in kinds:
            raise Refused("a word that is none of the format")
        self.iteration = flow["kind"] == "iteration"
        ranges = {entry["symbol"] for entry in w["domain"]}
        if len(w["domain"]) > 50:
            raise Refused("too many ranges")
        reserved = "f x v y a g q f_0 f_1 x_0 x_1 g_0 g_1"
        self.known = {*ranges, *flow.get("derivatives", ()), "t", *reserved.split()}
        if len(self.known) < len(ranges | {"t"}) + len(reserved.split()) + len(
            set(flow.get("derivatives", ())) - ranges
        ):
            raise Refused("a symbol with a reserved name")
        self.domain = Domain(w["domain"], self.known)
        self.mu = self.constant(w["class"]["mu"])
        self.L = None if w["class"]["L"] is None else self.constant(w["class"]["L"])
        zero = number(0)
        if self.iteration:
            self.lr = self.constant(flow["lr"])
            self.beta, self.gamma = (self.parameter(flow[k]) for k in ("beta", "gamma"))
            x, last = symbol("x_0"), symbol("x_1")
            self.after = {"x_0": x + self.beta * (x - last) - self.lr * symbol("g_0"), "x_1": x}
            self.after |= {"f_0": symbol("f_1"), "g_0": symbol("g_1"), "t": symbol("t") + number(1)}
            y = x + self.gamma * (x - last)
            self.points = {"0": (y, symbol("g_0"), symbol("f_0"))}
            self.points["1"] = (y.at(self.after), symbol("g_1"), symbol("f_1"))
            self.derivative = None
        else:
            self.moving |= {k: self.parameter(v) for k, v in flow["derivatives"].items()}
            self.points = {"x": tuple(map(symbol, ("x", "g", "f")))}
            self._motion(
                [self.parameter(b) for b in flow["friction"]],
                *map(self.constant, (flow["force"], flow["hessian"])),
            )
        self.points["*"] = (zero, zero, zero)
        own = {"f_0", "f_1", "x_0", "x_1", "g_0", "g_1"} if self.iteration else {*"fxvyagq"}
        self.foreign = {*reserved.split()} - own
        self.V, self.energy = self.read(w["energy"])
        self.c, self.rate = self.read(w["rate"])

    def _motion(self, friction, force, hessian):
        g, q, v = symbol("g"), symbol("q"), symbol("v")
        drive = -(force * g)
        if not friction:
            v = drive
        elif not hessian.is_zero() and len(friction) == 1:
            v = symbol("y") - hessian * g
            self.moving["y"] = drive - friction[0] * v + self.along(hessian) * g
        else:
            last = [v, symbol("a")][len(friction) - 1]
            push = drive - hessian * q
            for b, derivative in zip(friction, (v, symbol("a")), strict=False):
                push = push - b * derivative
            self.moving |= {"v": symbol("a"), "a": push} if len(friction) == 2 else {"v": push}
            del last
        self.moving |= {"x": v, "f": g * v, "g": q}
        self.derivative = q, v

    def read(self, text):
        value, tree = read(text, self.known)
        self.domain.require_divisors(tree, self.known)
        if value.names() & getattr(self, "foreign", set()):
            raise Refused("a name of the other kind of motion")
        return value, tree

    def parameter(self, text):
        """What does not hold a vector or a value."""
        value = self.read(text)[0]
        if value.names() & VECTORS:
            raise Refused("a vector or a value among the parameters")
        return value

    def constant(self, text):
        """A parameter that stays as it is."""
        value = self.parameter(text)
        if value.names() & {"t", *self.w["flow"].get("derivatives", ())}:
            raise Refused("a constant that moves")
        return value

    def along(self, value):
        """Rate of change, or the value after a step."""
        if self.iteration:
            return value.at(self.after)
        out = number(0)
        for name, speed in self.moving.items():
            out = out + value.diff(name) * speed
        return out

    def sum_of(self, entries, at=None, domain=None):
        """Sum of multiplier times inequality, each recomputed and its multiplier signed."""
        out = number(0)
        for entry in entries:
            found = point_inequality(entry["name"], self.points, self.mu, self.L, self.derivative)
            value, tree = self.parameter(entry["value"]), read(entry["value"], self.known)[1]
            if entry["name"].startswith("E"):
                if self.w["class"]["kind"] != "quadratic":
                    raise Refused("an equality of quadratics only")
            else:
                (domain or self.domain).require(tree, self.known, 1)
            if not (found - self.read(entry["inequality"])[0]).is_zero():
                raise Refused(f"{entry['name']} is another inequality")
            out = out + (value * found).at(at or {})
        return out

    def require_definite(self, form, name, sign):
        if not self.w.get("squares"):
            definite(quadratic(number(sign) * form, self.w["vectors"]), self.domain)
            return
        total = number(0)
        for weight, text in self.w["squares"][name]:
            value, tree = self.parameter(weight), read(weight, self.known)[1]
            self.domain.require(tree, self.known, sign)
            linear = read(text, self.known)[0]
            total = total + value * linear * linear
        if not (total - form).is_zero():
            raise Refused("the squares are not those of the form")

    def verify(self):
        w, law = self.w, self.w["law"]
        if w.get("point") is not None and not self.domain.holds(w["point"]):
            raise Refused("the point lies outside the domain")
        if next(self.domain.points(), None) is None:
            OPEN.append("no point of the domain was found")
        self._class()
        self._law(law)
        change = self.along(self.V)
        if law in ("exponential", "integral"):
            change = change + self.c * self.V
        elif law == "power":
            change = change + (self.c / symbol("t") + self.parameter(w["correction"])) * self.V
        else:
            change = change - (self.c * self.V if law == "factor" else self.V)
        z, S = w["vectors"], w["remainder"]
        if len(S) != len(z) or any(len(row) != len(z) for row in S) or not set(z) <= self.known:
            raise Refused("S is no square matrix of the vectors")
        form = number(0)
        for a, row in zip(z, S, strict=True):
            for b, text in zip(z, row, strict=True):
                form = form + self.parameter(text) * symbol(a) * symbol(b)
        if not (change - self.sum_of(w["multipliers"]) - form).is_zero():
            raise Refused("the identity of the decrease is false")
        self.require_definite(form, "remainder", -1)
        positive = self.V + self.sum_of(w["positivity"])
        quadratic(positive, z)
        self.require_definite(positive, "positivity", 1)
        if law == "potential":
            self._ends(w["ends"])
        elif w.get("ends") is not None:
            raise Refused("ends are of potentials")
        else:
            self._witness()

    def _class(self):
        kind = self.w["class"]["kind"]
        known = self.known
        mu, L = (self.w["class"][k] for k in ("mu", "L"))
        self.domain.require(read(mu, known)[1], known, 1)
        if kind == "convex" and self.mu.top:
            raise Refused("convex means mu = 0")
        if L is not None and self.L.top != self.mu.top:
            self.domain.require(ast.parse(f"({L})-({mu})", mode="eval").body, known, 1, strict=True)

    def _law(self, law):
        steady = {"exponential", "power", "factor", "potential"}
        if (law in ("factor", "potential")) != self.iteration or law not in steady | {"integral"}:
            raise Refused(f"no law {law} here")
        fixed = self.known - set(self.moving) if not self.iteration else self.known - {"t"}
        if law in steady and not self.c.names() <= fixed & {n for n, *_ in self.domain.ranges}:
            raise Refused("the rate moves")
        if law == "factor":
            self.domain.require(ast.parse(f"1-({self.w['rate']})", mode="eval").body, self.known, 1)
            self.domain.require(self.rate, self.known, 1)
        elif law != "integral":
            self.domain.require(self.rate, self.known, 1, strict=True)
        correction = self.parameter(self.w["correction"])
        if correction.top:
            if law != "power" or not correction.names() <= {"t"} | fixed:
                raise Refused("a correction that moves with more than t")
            if degree(correction, "t") > -2 or "t" in {
                n for f in correction.factors for m in dict(f) for n, _ in m if len(f) > 1
            }:
                OPEN.append("whether the correction is integrable")
        if law in ("integral", "potential"):
            return
        for name, lower, upper, _ in self.domain.ranges:
            for side, bound in ((1, lower), (-1, upper)):
                if bound is None:
                    continue
                if name in self.moving and (name != "t" or upper is not None):
                    OPEN.append(f"whether {name} stays in its range")
                # a bound that moves must give way
                change = (
                    (bound.at({"t": symbol("t") + number(1)}) - bound)
                    if self.iteration
                    else self.along(bound)
                )
                if not change.is_zero() and self.domain.quotient_sign(change)[0] not in (0, -side):
                    OPEN.append(f"whether {name} stays in its range")
        if law == "power":
            self.domain.require(ast.parse("t", mode="eval").body, self.known, 1, strict=True)

    def _witness(self):
        """f has a coefficient that is positive and does not fall; V is definite on the quadratics."""
        f, states = ("f_0", ("x_0", "x_1")) if self.iteration else ("f", ("x", "v", "y", "a"))
        weight = self.V.diff(f)
        sign, strict = self.domain.quotient_sign(weight)
        if f in weight.names() or sign != 1 or not strict:
            raise Undecided("the coefficient of f")
        growth = self.along(weight) - weight if self.iteration else self.along(weight)
        if not growth.is_zero() and self.domain.quotient_sign(growth)[0] not in (0, 1):
            raise Undecided("whether the coefficient of f fades")
        if self.iteration:
            y = self.points["0"][0]
            states = (
                states if "x_1" in (self.beta * symbol("x_1") + y).names() | self.V.names() else states[:1]
            )
            if not (self.beta.top or self.gamma.top):
                states = states[:1]
        else:
            y = symbol("x")
            states = tuple(s for s in states if s == "x" or s in self.moving)
        lam, half = symbol("lam"), number(Fraction(1, 2))
        f_, g_ = (f, "g_0") if self.iteration else (f, "g")
        M = quadratic(self.V.at({f_: half * lam * y * y, g_: lam * y}), states)
        det = determinant(M)
        if self.L is not None and (self.L - self.mu).is_zero():  # one quadratic, all of which is needed
            if not self.domain.quotient_sign(det.at({"lam": self.mu}))[1]:
                OPEN.append("whether V is definite on the quadratic")
            return
        det = image(det.top, self.domain.images).top
        groups: dict = {}
        for m, c in det.items():
            outer = tuple((n, e) for n, e in m if n in ("lam", "d t", "t"))
            inner = tuple((n, e) for n, e in m if n not in ("lam", "d t", "t"))
            groups.setdefault(outer, {})[inner] = c
        if not any(sign and strict for sign, strict in map(self.domain.polynomial_sign, groups.values())):
            raise Undecided("whether V is definite on the quadratics")

    def _ends(self, ends):
        horizon, N = ends["horizon"], symbol(ends["horizon"])
        steps, last = self.domain.ranges[-2:]
        for entry, name, lower in ((steps, "t", number(0)), (last, horizon, symbol("t") + number(1))):
            if entry[0] != name or entry[2:] != (None, False) or not (entry[1] - lower).is_zero():
                raise Refused("the domain does not end with t and the horizon")
        if horizon in self.lr.names() | self.beta.names() | self.gamma.names() | self.c.names():
            OPEN.append("a method or a rate that knows the horizon")
        first, entry = (
            self.w["domain"][:-2],
            {"symbol": horizon, "lower": "1", "upper": None, "strict": False},
        )
        late = Domain([*first, entry], self.known)
        bound, value = self.read(ends["bound"])[0], self.read(ends["value"])[0]
        half = number(Fraction(1, 2))
        w, B = value.diff("f_0"), half * bound.diff("x_0").diff("x_0")
        square = half * value.diff("g_0").diff("g_0")
        rest = value - w * symbol("f_0") - square * symbol("g_0") ** 2
        if (
            MOVING & (B.names() | w.names() | square.names())
            or w.is_zero()
            or B.is_zero()
            or not rest.is_zero()
            or not (bound - B * symbol("x_0") ** 2).is_zero()
        ):
            raise Refused("the ends are not of their form")
        begin = {"t": number(0), "x_1": symbol("x_0")}
        gap = self.V.at(begin) - bound - self.sum_of(self.at(ends["start"], 0), begin, late)
        definite(quadratic(-gap, ("x_0", "g_0")), late)
        end = {"t": N}
        gap = value - self.V.at(end) - self.sum_of(self.at(ends["end"], horizon), end, late)
        definite(quadratic(-gap, ("x_0", "x_1", "g_0")), late)
        c = -square / w
        definite([[w]], late)
        if late.quotient_sign(w) != (1, True):
            OPEN.append("whether the value holds f")
        if not c.is_zero():
            most = (self.lr * (number(1) - number(Fraction(1, 2)) * self.L * self.lr)).at(end)
            for part in (c, most - c):
                definite([[part]], late)
        rate = self.c.top.get((), Fraction(0))
        if rate <= 0 or self.c.factors or set(self.c.top) - {()}:
            raise Refused("a power that is no positive number")
        if degree(w, horizon) - degree(B, horizon) < rate:
            raise Refused("the bound does not fall like that power")

    def at(self, entries, time):
        """Multipliers of an end, where t has its value there."""
        return [e | {"value": re.sub(r"\bt\b", f"({time})", e["value"])} for e in entries]


def degree(q, name):
    def largest(p):
        return max((dict(m).get(name, 0) for m in p), default=0)

    return largest(q.top) - sum(e * largest(dict(f)) for f, e in q.factors.items())


def determinant(M):
    if not M:
        return number(1)
    out = number(0)
    for j, entry in enumerate(M[0]):
        minor = [[*row[:j], *row[j + 1 :]] for row in M[1:]]
        out = out + (entry if j % 2 == 0 else -entry) * determinant(minor)
    return out


def definite(form, domain):
    """Refuse a form that is negative somewhere, leave open one whose pivots are not all seen to be >= 0."""
    M = form
    while M:
        pivot = M[0][0]
        vanishes = pivot.is_zero()
        # where a pivot vanishes the form is a limit of others
        seen = all(v.is_zero() for v in M[0]) if vanishes else domain.quotient_sign(pivot)[0] == 1
        if not seen:
            refute(form, domain)
            OPEN.append("a form")
            return
        M = [row[1:] for row in M[1:]] if vanishes else eliminated(M)


def eliminated(M):
    n = range(1, len(M))
    return [[M[i][j] - M[i][0] * M[0][j] / M[0][0] for j in n] for i in n]


def refute(form, domain):
    """Refuse a form that has a negative pivot at a point of the domain."""
    for values in domain.points():
        M = [[e.at(values) for e in row] for row in form]
        while M and not any(e.names() for row in M for e in row):
            signs = [constant_sign(e) for e in M[0]]
            if signs[0] < 0 or (signs[0] == 0 and any(signs)):
                raise Refused("a form is negative at a point of the domain")
            M = eliminated(M) if signs[0] else [row[1:] for row in M[1:]]


def verify(text):
    """True: proved anew. False: no such file, or a false claim. None: not decided by these means."""
    ROOTS.clear()
    OPEN.clear()
    WORK[0] = 250_000
    try:
        Proof(text).verify()
        return None if OPEN else True
    except (Undecided, RecursionError):
        return None
    except (Refused, KeyError, TypeError, AttributeError, IndexError, ValueError):
        return False
