"""Plain fractions: quotients of polynomials, expressions of certificates and signs of numbers.

The arithmetic of :mod:`certificate_checker`: the standard library, nothing of the package. Polynomials are
dicts {monomial: int or Fraction}, a monomial a sorted tuple of (name, power); quotients keep their divisor
in the factors it was written in; a root of a number is a name whose square is replaced.
"""

from __future__ import annotations

import ast
import math
import re
from fractions import Fraction

ONE = {(): 1}
EXPRESSION = re.compile(r"(?:[ \t\r\n]|\d+(?![\w.])|[A-Za-z_]\w*|[-+*/()])*", re.ASCII)
ROOTS: dict[str, Q] = {}
# What could not be decided, while a refutation is still looked for.
OPEN: list[str] = []
# Products of terms left before the checker gives up, and the digits of a number (in bits).
WORK, MOST_BITS = [0], 20_000


class Refused(Exception):
    """The file is none, or its claim is false."""


class Undecided(Exception):
    """Neither proved nor refuted by these means."""


# Polynomials


def add(p, q, factor=1):
    out = dict(p)
    for m, c in q.items():
        out[m] = shortest(out.get(m, 0) + factor * c)
        if not out[m]:
            del out[m]
    return out


def shortest(c):
    """An integer as an int, with which Python calculates faster."""
    return c.numerator if c.denominator == 1 else c


def product(m, n):
    """Of two monomials."""
    if not m or not n:
        return m or n
    powers = dict(m)
    for name, e in n:
        powers[name] = powers.get(name, 0) + e
    return tuple(sorted(powers.items()))


def spend(work):
    WORK[0] -= work
    if WORK[0] < 0:
        raise Undecided("more work than is allowed")


def times(p, q):
    if p == ONE or q == ONE:
        return q if p == ONE else p
    spend(len(p) * len(q))
    out: dict = {}
    for m, c in p.items():
        if c.numerator.bit_length() + c.denominator.bit_length() > MOST_BITS:
            raise Undecided("numbers of too many digits")
        for n, d in q.items():
            key = product(m, n)
            out[key] = out.get(key, 0) + c * d
    return without_squares_of_roots({m: shortest(c) for m, c in out.items() if c})


def without_squares_of_roots(p):
    for m, c in p.items():
        for name, e in m:
            if name in ROOTS and e >= 2:
                rest = tuple((n, k) if n != name else (n, k - 2) for n, k in m if n != name or k > 2)
                square = ROOTS[name]
                if square.factors:
                    raise Undecided("a root of a quotient")
                others = {n: d for n, d in p.items() if n != m}
                return without_squares_of_roots(add(others, times({rest: c}, square.top)))
    return p


def coefficients(p):
    """The numbers that stand before the monomials."""
    groups: dict = {}
    for m, c in p.items():
        outer = tuple((n, e) for n, e in m if n not in ROOTS)
        inner = tuple((n, e) for n, e in m if n in ROOTS)
        groups.setdefault(outer, {})[inner] = c
    return groups


class Q:
    """A polynomial over a product of powers of polynomials."""

    def __init__(self, top, factors=()):
        self.top, self.factors = top, dict(factors)  # factors: {frozen polynomial: power}

    def over(self, factors):
        top = self.top
        for f, e in factors.items():
            for _ in range(e - self.factors.get(f, 0)):
                top = times(top, dict(f))
        return top

    def __add__(self, other):
        common = {
            f: max(self.factors.get(f, 0), other.factors.get(f, 0)) for f in {*self.factors, *other.factors}
        }
        return Q(add(self.over(common), other.over(common)), common)

    def __mul__(self, other):
        both = {f: self.factors.get(f, 0) + other.factors.get(f, 0) for f in {*self.factors, *other.factors}}
        return Q(times(self.top, other.top), both)

    def __neg__(self):
        return Q({m: -c for m, c in self.top.items()}, self.factors)

    def __sub__(self, other):
        return self + -other

    def inverse(self):
        if not self.top:
            raise Refused("division by zero")
        if not self.names() and not number_sign(self.top):
            raise Undecided("division by a number that may be 0")
        below = number(1)
        for f, e in self.factors.items():
            below = below * Q(dict(f)) ** e
        if set(self.top) == {()}:
            return below * number(Fraction(1) / self.top[()])
        return below * Q(ONE, {frozenset(self.top.items()): 1})

    def __truediv__(self, other):
        return self * other.inverse()

    def __pow__(self, e):
        base, out = (self, number(1)) if e >= 0 else (self.inverse(), number(1))
        for _ in range(abs(e)):
            out = out * base
        return out

    def is_zero(self):
        signs = {number_sign(c) for c in coefficients(self.top).values()}
        if signs & {1, -1}:
            return False
        if None in signs:
            raise Undecided("a number that may be 0")
        return True

    def at(self, values):
        """Substitute quotients for names, all at once."""
        out = image(self.top, values)
        for f, e in self.factors.items():
            out = out / image(dict(f), values) ** e
        return out

    def diff(self, name):
        def derivative(p):
            out: dict = {}
            for m, c in p.items():
                e = dict(m).get(name, 0)
                if e:
                    rest = tuple((n, k - (n == name)) for n, k in m if n != name or k > 1)
                    out = add(out, {rest: c * e})
            return out

        out = Q(derivative(self.top), self.factors)
        for f, e in self.factors.items():
            out = out - self * number(e) * Q(derivative(dict(f)), {f: 1})
        return out

    def names(self):
        polynomials = (self.top, *map(dict, self.factors))
        return {n for p in polynomials for m in p for n, _ in m if n not in ROOTS}


def number(value):
    return Q({(): shortest(Fraction(value))} if value else {})


def symbol(name):
    return Q({((name, 1),): 1})


def image(p, values):
    """A polynomial with quotients in place of names, over one divisor."""
    degrees: dict = {}
    for m in p:
        for name, e in m:
            degrees[name] = max(degrees.get(name, 0), e)
    above, below = {}, {}
    for name, degree in degrees.items():
        value = values.get(name, symbol(name))
        divisor = ONE
        for f, e in value.factors.items():
            for _ in range(e):
                divisor = times(divisor, dict(f))
        above[name], below[name] = [ONE], [ONE]
        for _ in range(degree):
            above[name].append(times(above[name][-1], value.top))
            below[name].append(times(below[name][-1], divisor))
    top: dict = {}
    for m, c in p.items():
        powers, term = dict(m), {(): c}
        for name, degree in degrees.items():
            e = powers.get(name, 0)
            term = times(times(term, above[name][e]), below[name][degree - e])
        top = add(top, term)
    factors: dict = {}
    for name, degree in degrees.items():
        for f, e in values.get(name, symbol(name)).factors.items():
            factors[f] = factors.get(f, 0) + e * degree
    return Q(top, factors)


# Expressions


def read(text, known):
    """The quotient an expression stands for, and its syntax tree."""
    if not isinstance(text, str) or len(text) > 20_000 or not EXPRESSION.fullmatch(text):
        raise Refused("no expression")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"no expression: {text[:60]}") from error
    return value_of(tree, known), tree


def value_of(node, known):
    match node:
        case ast.Constant(value=int(v)) if not isinstance(v, bool):
            return number(v)
        case ast.Name(id=name) if name in known:
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=a):
            return -value_of(a, known)
        case ast.UnaryOp(op=ast.UAdd(), operand=a):
            return value_of(a, known)
        case ast.BinOp(left=a, op=ast.Pow(), right=b):
            signed = isinstance(b, ast.UnaryOp) and isinstance(b.op, (ast.USub, ast.UAdd))
            if not isinstance(b.operand if signed else b, ast.Constant):
                raise Refused("a power that is no integer")
            power = value_of(b, known).top.get((), 0)
            if abs(power) > 64:
                raise Refused("a power beyond 64")
            return value_of(a, known) ** int(power)
        case ast.BinOp(left=a, op=op, right=b):
            left, right = value_of(a, known), value_of(b, known)
            if isinstance(op, ast.Add):
                return left + right
            if isinstance(op, ast.Sub):
                return left - right
            if isinstance(op, ast.Mult):
                return left * right
            if isinstance(op, ast.Div):
                return left / right
        case ast.Call(func=ast.Name(id="sqrt"), args=[a], keywords=[]):
            inner = value_of(a, known)
            if inner.names():
                raise Refused("a root of no number")
            return root_of(inner)
    raise Refused("an expression outside the format")


def root_of(inner):
    if not inner.factors and set(inner.top) <= {()}:
        c = inner.top.get((), Fraction(0))
        if c < 0:
            raise Refused("a root of a negative number")
        exact = Fraction(math.isqrt(c.numerator), math.isqrt(c.denominator))
        if exact * exact == c:
            return number(exact)
        inner = number(c.numerator * c.denominator)  # sqrt(p/q) = sqrt(pq)/q
        scale = number(Fraction(1, c.denominator))
    else:
        scale = number(1)
        if number_sign(inner.top) != 1:
            raise Undecided("a root of a number of unknown sign")
    name = f"sqrt{sorted(inner.top.items())}{sorted(map(str, inner.factors.items()))}"
    ROOTS[name] = inner
    return symbol(name) * scale


# Signs


def enclosure(p, bits):
    """Interval that holds a polynomial in roots."""
    low = high = Fraction(0)
    for m, c in p.items():
        a = b = Fraction(1)
        for name, e in m:
            x, y = enclosure(ROOTS[name].top, bits)
            r, s = (Fraction(math.isqrt(int(max(v, 0) * 4**bits)) + d, 2**bits) for v, d in ((x, 0), (y, 1)))
            a, b = a * r**e, b * s**e
        low, high = (low + c * a, high + c * b) if c > 0 else (low + c * b, high + c * a)
    return low, high


def number_sign(p):
    """Sign of a number, None where 400 digits do not tell it from 0."""
    if not p:
        return 0
    for bits in (64, 256, 1400):
        low, high = enclosure(p, bits)
        if low > 0 or high < 0:
            return 1 if low > 0 else -1
    return None


def constant_sign(q):
    sign = number_sign(q.top)
    for f, e in q.factors.items():
        s = number_sign(dict(f))
        if sign is None or not s:
            raise Undecided("sign of a number")
        sign *= s if e % 2 else 1
    return sign
