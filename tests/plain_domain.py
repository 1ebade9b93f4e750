"""Ranges of symbols in plain fractions, and the signs of expressions on them."""

import ast
import itertools
from fractions import Fraction

from plain_fractions import (
    OPEN,
    Refused,
    coefficients,
    constant_sign,
    number,
    number_sign,
    read,
    spend,
    symbol,
    value_of,
)

# Distances from the bounds at which points of a domain are looked for.
DISTANCES = tuple(map(Fraction, ("1", "1/3", "5", "1/50", "100")))


class Domain:
    """Ranges of symbols; signs of expressions on them."""

    def __init__(self, entries, known):
        self.ranges, self.strict, self.images = [], set(), {}
        for entry in entries:
            name = entry["symbol"]
            bounds = [None if entry[k] is None else read(entry[k], known) for k in ("lower", "upper")]
            seen = {n for n, *_ in self.ranges}
            if name in seen or any(b is not None and not b[0].names() <= seen for b in bounds):
                raise Refused(f"the range of {name} is not one in what is bounded before it")
            for bound in bounds:
                if bound is not None:
                    self.require_divisors(bound[1], known)
            self.ranges.append((name, *(b and b[0] for b in bounds), entry["strict"]))
            if entry["strict"]:
                self.strict.add("d " + name)
            self.images[name] = self._image(name, *bounds)

    def _image(self, name, lower, upper):
        d = symbol("d " + name)
        if lower is not None and upper is not None:
            image = (lower[0] + upper[0] * d) / (number(1) + d)
        elif lower is not None:
            image = lower[0] + d
        else:
            image = symbol(name) if upper is None else upper[0] - d
        return image.at(self.images)

    def holds(self, point):
        """Whether the point lies in the domain."""
        if set(point) != {name for name, *_ in self.ranges}:
            raise Refused("the point names other symbols")
        values = {name: read(text, ())[0] for name, text in point.items()}
        for name, lower, upper, strict in self.ranges:
            over = None if lower is None else constant_sign(values[name] - lower.at(values))
            under = None if upper is None else constant_sign(upper.at(values) - values[name])
            if over is not None and over < strict:
                return False
            if under is not None and under < (strict or lower is not None):
                return False
        return True

    def points(self):
        """Points of the domain, one for each distance from the bounds that is possible."""
        for distance in map(number, DISTANCES):
            values = {}
            for name, *bounds, _ in self.ranges:
                low, high = (b and b.at(values) for b in bounds)
                if low and high:
                    if constant_sign(high - low) <= 0:
                        break
                    values[name] = (low + high * distance) / (number(1) + distance)
                else:
                    values[name] = low + distance if low else high - distance if high else distance
            else:
                yield values

    def polynomial_sign(self, p):
        """(sign, strict) of a polynomial of the distances; sign None where the coefficients do not tell."""
        groups = coefficients(p)
        if not groups:
            return 0, True
        signs = {m: number_sign(g) for m, g in groups.items()}
        free = {n for m in groups for n, e in m if not n.startswith("d ") and e % 2}
        if None in signs.values() or free or len({*signs.values()} - {0}) > 1:
            return self.sturm(p)
        (sign,) = {*signs.values()} - {0} or {0}
        strict = any(s and all(n in self.strict for n, _ in m) for m, s in signs.items())
        return sign, strict

    @staticmethod
    def sturm(p):
        """Of a polynomial in one distance with rational coefficients and no root in (0, oo)."""
        names = {n for m in p for n, _ in m}
        if len(names) != 1 or not next(iter(names)).startswith("d "):
            return None, False
        degree = max(e for m in p for _, e in m)
        if degree > 60:
            return None, False
        chain = [[p.get(((next(iter(names)), k),) if k else (), Fraction(0)) for k in range(degree, -1, -1)]]
        chain.append([c * (degree - i) for i, c in enumerate(chain[0][:-1])])
        while len(chain[-1]) > 1:
            a, b = list(chain[-2]), chain[-1]
            while len(a) >= len(b):
                q = Fraction(a[0]) / b[0]
                spend(len(b) * (1 + q.numerator.bit_length() // 32))
                a = [x - q * (b[i] if i < len(b) else 0) for i, x in enumerate(a)][1:]
            while a and not a[0]:
                a = a[1:]
            if not a:
                break
            chain.append([-c for c in a])
        changes = [
            sum(x * y < 0 for x, y in itertools.pairwise(s))
            for s in ([v for v in (c[end] for c in chain) if v] for end in (-1, 0))
        ]
        if not chain[0][-1] or changes[0] != changes[1]:
            return None, False
        return (1 if chain[0][0] > 0 else -1), True

    def quotient_sign(self, q):
        q = q.at(self.images)
        sign, strict = self.polynomial_sign(q.top)
        for f, e in q.factors.items():
            s, nonzero = self.polynomial_sign(dict(f))
            if not nonzero or not s:
                return None, False
            sign = sign if e % 2 == 0 or sign is None else sign * s
        return sign, strict

    def sign(self, node, known):
        """(sign, strict) of an expression, by its factors or, expanded, by its coefficients."""
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=a):
                sign, strict = self.sign(a, known)
                return (None if sign is None else -sign), strict
            case ast.BinOp(left=a, op=ast.Mult() | ast.Div(), right=b):
                (s, x), (r, y) = self.sign(a, known), self.sign(b, known)
                if s is not None and r is not None:
                    return s * r, (x and y) or s * r == 0
            case ast.BinOp(left=a, op=ast.Pow(), right=_):
                value = value_of(node, known)
                power = int(value_of(node.right, known).top.get((), 0))
                sign, strict = self.sign(a, known)
                if power % 2 == 0:
                    return (1, strict and sign != 0) if value.top else (0, True)
                return sign, strict
        return self.quotient_sign(value_of(node, known))

    def require(self, node, known, wanted, strict=False):
        sign, nonzero = self.sign(node, known)
        if sign is not None and sign == -wanted and nonzero:
            raise Refused(f"{ast.unparse(node)} has the wrong sign")
        if sign not in ((wanted,) if strict else (wanted, 0)) or (strict and not nonzero):
            self._refute(value_of(node, known), wanted)
            OPEN.append(f"sign of {ast.unparse(node)}")

    def _refute(self, value, wanted):
        """Refuse what has the other sign at some point, names without a range being 1 or -1."""
        for values in self.points():
            for free in (1, -1):
                at = value.at(dict.fromkeys(value.names(), number(free)) | values)
                if constant_sign(at) == -wanted:
                    raise Refused("the wrong sign at a point of the domain")

    def require_divisors(self, node, known):
        """Every divisor in an expression is nonzero on the domain."""
        for part in ast.walk(node):
            match part:
                case ast.BinOp(op=ast.Div(), right=below):
                    pass
                case ast.BinOp(op=ast.Pow(), left=below, right=ast.UnaryOp()):
                    pass
                case _:
                    continue
            if value_of(below, known).names():
                sign, nonzero = self.sign(below, known)
                if sign is None or not sign or not nonzero:
                    top = value_of(below, known).at(self.images).top
                    if len(top) == 1:  # a product of powers, one of which may be 0
                        raise Refused(f"the divisor {ast.unparse(below)} vanishes")
                    OPEN.append(f"divisor {ast.unparse(below)}")
