r"""Exact expressions as text, and a strict reader of that text.

The reader knows integers, declared names, the four operations, integer powers and square roots, and
nothing else: no text becomes code. What it reads is what :func:`str` writes for such an expression.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy
from sympy import Expr, Integer, Rational, Symbol

__all__ = ["parse_expression", "write_expression"]

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(\*\*|[-+*/()]))")
# Longer input is refused: a certificate is meant to be read.
_MOST_CHARACTERS, _DEEPEST, _LARGEST_POWER, _MOST_BITS = 20_000, 50, 64, 100_000


def write_expression(expr: Expr) -> str:
    """Write an expression as text that :func:`parse_expression` reads back.

    Parameters
    ----------
    expr : sympy.Expr

    Returns
    -------
    str

    Examples
    --------
    >>> write_expression(3 * sympy.sqrt(2) / 2)
    '3*sqrt(2)/2'
    """
    return str(expr)


def parse_expression(text: str, names: Mapping[str, Symbol]) -> Expr:
    """Read an exact expression: integers, declared names, ``+ - * / **`` with integer powers, ``sqrt``.

    Parameters
    ----------
    text : str
    names : mapping
        Name to symbol; every other name is refused.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    ValueError
        On anything else, naming the place.

    Examples
    --------
    >>> b = sympy.Symbol("b")
    >>> parse_expression("2*b/3 - sqrt(b**2 - 4)", {"b": b})
    2*b/3 - sqrt(b**2 - 4)
    >>> parse_expression("__import__", {})
    Traceback (most recent call last):
        ...
    ValueError: unknown name '__import__' in '__import__'; declared are: none
    """
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise ValueError(f"an expression must be text of at most {_MOST_CHARACTERS} characters")
    return _Reader(text, names).read()


class _Reader:
    """Recursive descent: sum of products of signed powers of atoms."""

    def __init__(self, text: str, names: Mapping[str, Symbol]):
        self.text, self.names, self.place, self.depth = text, names, 0, 0
        self.tokens = self._tokens()

    def _tokens(self) -> list[str]:
        tokens, at, text = [], 0, self.text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError(f"unexpected character {text[at:].lstrip()[:1]!r} in {self.text[:60]!r}")
            tokens.append(match.group().strip())
            at = match.end()
        return tokens

    def next(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self, *expected: str) -> str:
        token = self.next()
        if expected and token not in expected:
            wanted = " or ".join(map(repr, expected))
            raise ValueError(f"expected {wanted}, got {token or 'the end'!r} in {self.text[:60]!r}")
        self.place += 1
        return token

    def read(self) -> Expr:
        value = self.sum()
        if self.next():
            raise ValueError(f"unexpected {self.next()!r} in {self.text[:60]!r}")
        return value

    def sum(self) -> Expr:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} nested parentheses in {self.text[:60]!r}")
        value = self.product()
        while self.next() in ("+", "-"):
            value = value + self.product() if self.take() == "+" else value - self.product()
        self.depth -= 1
        return value

    def product(self) -> Expr:
        value = self.signed()
        while self.next() in ("*", "/"):
            if self.take() == "*":
                value = value * self.signed()
                continue
            divisor = self.signed()
            if divisor == 0:
                raise ValueError(f"division by zero in {self.text[:60]!r}")
            value = value / divisor
        return value

    def signed(self) -> Expr:
        sign = 1
        while self.next() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign * self.power()

    def power(self) -> Expr:
        base = self.atom()
        if self.next() != "**":
            return base
        self.take()
        closing = self.next() == "(" and bool(self.take())
        sign = -1 if self.next() == "-" and self.take() else 1
        digits = self.take()
        if closing:
            self.take(")")
        if not digits.isdigit() or int(digits) > _LARGEST_POWER:
            raise ValueError(f"a power must be an integer up to {_LARGEST_POWER}, got {digits!r}")
        if base == 0 and sign < 0:
            raise ValueError(f"division by zero in {self.text[:60]!r}")
        size = max((max(abs(q.p), q.q).bit_length() for q in base.atoms(Rational)), default=0)
        if size * int(digits) > _MOST_BITS:
            raise ValueError(f"a number has more than {_MOST_BITS} bits in {self.text[:60]!r}")
        return base ** (sign * int(digits))

    def atom(self) -> Expr:
        token = self.take()
        if token.isdigit():
            return Integer(int(token))
        if token == "(":
            value = self.sum()
            self.take(")")
            return value
        if token == "sqrt" and self.next() == "(":
            self.take()
            radicand = self.sum()
            if radicand.is_negative:
                raise ValueError(f"square root of a negative number in {self.text[:60]!r}")
            value = sympy.sqrt(radicand)
            self.take(")")
            return value
        if token in self.names:
            return self.names[token]
        if token and (token[0].isalpha() or token[0] == "_"):
            known = ", ".join(sorted(self.names)) or "none"
            raise ValueError(f"unknown name {token!r} in {self.text[:60]!r}; declared are: {known}")
        raise ValueError(f"expected a number or a name, got {token or 'the end'!r} in {self.text[:60]!r}")
