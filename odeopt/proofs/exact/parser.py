r"""Exact expressions as text, and a strict reader of that text.

The reader knows integers in ASCII digits, declared names, the four operations, integer powers and square
roots, and nothing else: the text is taken apart by :mod:`ast`, each node is compared with a list of what
is known, and no text becomes code. What it reads is what :func:`str` writes for such an expression.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Mapping
from typing import Any

import sympy
from sympy import Expr, Integer, Rational, Symbol

__all__ = ["parse_expression", "write_expression"]

_TOKEN = re.compile(r"[ \t\r\n]*(?:[0-9]+(?![0-9A-Za-z_.])|[A-Za-z_][0-9A-Za-z_]*|\*\*|[-+*/()])")
# Longer input is refused: a certificate is meant to be read.
_MOST_CHARACTERS, _DEEPEST, _LARGEST_POWER, _MOST_BITS = 20_000, 50, 64, 100_000
_SUMS, _PRODUCTS = (ast.Add, ast.Sub), (ast.Mult, ast.Div)


def write_expression(expr: Expr) -> str:
    """Write an expression as text that :func:`parse_expression` reads back.

    >>> write_expression(3 * sympy.sqrt(2) / 2)
    '3*sqrt(2)/2'
    """
    return str(expr)


def parse_expression(text: str, names: Mapping[str, Symbol], divisors: list[Expr] | None = None) -> Expr:
    """Read an exact expression: integers, names, ``+ - * / **`` with integer powers, ``sqrt`` of a number.

    What is divided by is added to `divisors`, also where it cancels, as in ``0/b``.
    """
    if not isinstance(text, str) or len(text) > _MOST_CHARACTERS:
        raise ValueError(f"an expression must be text of at most {_MOST_CHARACTERS} characters")
    at, depth, end = 0, 0, len(text.rstrip(" \t\r\n"))
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"unexpected character {text[at:].lstrip()[:1]!r} in {text[:60]!r}")
        at = match.end()
        depth += (match.group()[-1] == "(") - (match.group()[-1] == ")")
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} nested parentheses in {text[:60]!r}")
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval")
        return _Reader(text, names, [] if divisors is None else divisors).read(tree.body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:60]!r} is no expression, or too deep: {error}") from None


class _Reader:
    """A walk over the tree of an expression."""

    def __init__(self, text: str, names: Mapping[str, Symbol], divisors: list[Expr]):
        self.text, self.names, self.divisors = text, names, divisors

    def refuse(self, what: str) -> ValueError:
        return ValueError(f"{what} in {self.text[:60]!r}")

    def read(self, node: ast.expr) -> Expr:
        chain = []  # a long sum leans to the left: it is walked in a loop
        while isinstance(node, ast.BinOp) and isinstance(node.op, (*_SUMS, *_PRODUCTS)):
            chain.append((node.op, node.right))
            node = node.left
        value: Any = self.leaf(node)
        # sums, and products, are put together at once, not one by one
        for summed, group in itertools.groupby(reversed(chain), lambda step: isinstance(step[0], _SUMS)):
            parts = [value, *(self.part(operation, self.read(right)) for operation, right in group)]
            coefficients = [e.as_coeff_Mul()[0] for e in parts]
            if sum(_bits(c) for c in coefficients if c.is_Rational) > _MOST_BITS:
                raise self.refuse(f"a number has more than {_MOST_BITS} bits")
            value = sympy.Add(*parts) if summed else sympy.Mul(*parts)
        return value

    def part(self, operation: ast.operator, term: Any) -> Any:
        """What is added or multiplied in the end."""
        if isinstance(operation, ast.Div):
            if term == 0:
                raise self.refuse("division by zero")
            self.divisors.append(term)
            return 1 / term
        return -term if isinstance(operation, ast.Sub) else term

    def leaf(self, node: ast.expr) -> Expr:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Integer(node.value)
        if isinstance(node, ast.Name):
            if node.id in self.names:
                return self.names[node.id]
            known = ", ".join(sorted(self.names)) or "none"
            raise ValueError(f"unknown name {node.id!r} in {self.text[:60]!r}; declared are: {known}")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.read(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return self.power(self.read(node.left), node.right)
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            return self.root(node.func, self.read(node.args[0]))
        raise self.refuse(f"unexpected {ast.unparse(node)[:60]!r}")

    def power(self, base: Any, node: ast.expr) -> Expr:
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            sign, node = -1 if isinstance(node.op, ast.USub) else 1, node.operand
        exponent = node.value if isinstance(node, ast.Constant) else None
        if type(exponent) is not int or exponent > _LARGEST_POWER:
            raise self.refuse(f"a power must be an integer up to {_LARGEST_POWER}")
        if sign < 0 and base == 0:
            raise self.refuse("division by zero")
        if sign < 0:
            self.divisors.append(base)
        size = max((_bits(number) for number in base.atoms(Rational)), default=0)
        if size * exponent > _MOST_BITS:
            raise self.refuse(f"a number has more than {_MOST_BITS} bits")
        return base ** (sign * exponent)

    def root(self, function: ast.expr, radicand: Expr) -> Expr:
        if not isinstance(function, ast.Name) or function.id != "sqrt":
            name = function.id if isinstance(function, ast.Name) else "a call"
            raise self.refuse(f"unknown name {name!r}")
        if radicand.free_symbols:
            raise self.refuse("a root of what is no number")
        if radicand.is_negative:
            raise self.refuse("square root of a negative number")
        return sympy.sqrt(radicand)


def _bits(number: Expr) -> int:
    p, q = number.as_numer_denom()
    return max(abs(int(p)), int(q)).bit_length()
