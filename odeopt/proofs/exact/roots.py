r"""Numbers with roots: polynomials in generators r with the rules :math:`r^n=d`, and their exact signs.

A number is zero if its norm over the last root is, and no ball says that it is another conjugate that
vanishes; the sign of any other is read off balls of growing precision.
"""

from __future__ import annotations

import itertools
from typing import Any

from flint import Ordering, acb, arb, ctx, fmpq, fmpq_mpoly, fmpq_mpoly_ctx, fmpz_poly
from sympy import Expr

__all__ = ["Roots", "UndecidedError"]

# Products of terms, of 64 bits each, that one proof may cost: about a second.
WORK = 3_000_000
_MOST_BITS = 1 << 16


class UndecidedError(ValueError):
    """An exact test was given up: neither the statement nor its opposite is claimed."""


class Roots:
    """A ring of polynomials in `size` symbols and in the roots met so far, within a budget of work."""

    def __init__(self, size: int, work: int) -> None:
        self.size: int = size
        self.work: int = work
        self.roots: list[tuple[Expr, int, fmpq_mpoly]] = []  # each as an expression, n and d
        self._long = False  # whether numbers of more than 512 bits were read
        self._enter(size)

    def _enter(self, size: int) -> None:
        """Make room for so many generators; the constants belong to the new ring."""
        self.context: fmpq_mpoly_ctx = fmpq_mpoly_ctx.get([f"x{i}" for i in range(size)], Ordering.lex)
        self.one: fmpq_mpoly = self.context.constant(1)
        self.zero: fmpq_mpoly = self.context.constant(0)

    def spend(self, work: int, *factors: fmpq_mpoly) -> None:
        """Take work off the budget, times the words of the leading coefficients, or give up."""
        self.work -= work * (_words(*factors) if self._long else 1)
        if self.work < 0:
            raise UndecidedError("undecided: the budget of work is spent")

    def lift(self, polynomial: fmpq_mpoly) -> fmpq_mpoly:
        """Return a polynomial in the ring of today, which holds the roots met since."""
        if polynomial.context() is self.context:
            return polynomial
        gens: Any = {i: i for i in range(polynomial.context().nvars())}
        return polynomial.project_to_context(self.context, gens)

    def reduced(self, polynomial: fmpq_mpoly) -> fmpq_mpoly:
        """Apply the rules of the roots, the last root first."""
        if not self.roots:
            return polynomial
        for place in reversed(range(self.size, self.context.nvars())):
            _, n, radicand = self.roots[place - self.size]
            if polynomial.degrees()[place] < n:
                continue
            radicand, root = self.lift(radicand), self.context.gen(place)
            powers = self.powers(polynomial, place)
            polynomial = self.zero
            for e, part in powers.items():
                polynomial += part * radicand ** (e // n) * root ** (e % n)
        return polynomial

    def powers(self, polynomial: fmpq_mpoly, place: int) -> dict[int, fmpq_mpoly]:
        """Return the coefficients of the powers of one generator."""
        parts: dict[int, dict] = {}
        for exponents, c in self.lift(polynomial).to_dict().items():
            e = int(exponents[place])
            parts.setdefault(e, {})[(*exponents[:place], 0, *exponents[place + 1 :])] = c
        return {e: self.context.from_dict(part) for e, part in parts.items()}

    def coefficients(self, polynomial: fmpq_mpoly) -> list[tuple[tuple[int, ...], fmpq_mpoly | fmpq]]:
        """Return the exponents of the symbols in each monomial, and its coefficient, a number."""
        n = self.size
        if not self.roots:
            return list(zip(polynomial.monoms(), polynomial.coeffs(), strict=True))
        found: dict[tuple, dict] = {}
        for exponents, c in self.lift(polynomial).to_dict().items():
            found.setdefault(exponents[:n], {})[(0,) * n + exponents[n:]] = c
        return [(exponents, self.context.from_dict(part)) for exponents, part in found.items()]

    def sign(self, number: fmpq_mpoly | fmpq) -> int:
        """Return the sign of a number: a rational one, or a polynomial in the roots alone."""
        if isinstance(number, fmpq):
            return int(number > 0) - int(number < 0)
        if number.is_constant():
            return self.sign(number.leading_coefficient()) if not number.is_zero() else 0
        number = self.lift(number)
        for bits in (64, 256, 1024):
            if sign := self._ball_sign(number, bits):
                return sign
        if self._vanishes(number):
            return 0
        bits = 4096
        while bits <= _MOST_BITS:
            if sign := self._ball_sign(number, bits):
                return sign
            bits *= 4
        raise UndecidedError(f"undecided: the sign of a number needs more than {_MOST_BITS} bits")

    def _ball_sign(self, number: fmpq_mpoly, bits: int) -> int:
        ball = self.balls(bits, number)
        return 1 if ball > 0 else -1 if ball < 0 else 0

    def balls(self, bits: int, number: fmpq_mpoly, turned: tuple[int, int] | None = None) -> Any:
        """Enclose a number; `turned`: with another of the n-th roots (place, j) in place of the real one."""
        self.spend(len(number) * bits // 64)
        kept, ctx.prec = ctx.prec, bits
        try:
            values: list = []
            for i, (_, n, d) in enumerate(self.roots):
                value = self._at(d, values).root(n)
                if turned is not None and turned[0] == i:
                    value = acb(value) * acb(0, 2 * arb.pi() * turned[1] / n).exp()
                values.append(value)
            return self._at(number, values)
        finally:
            ctx.prec = kept

    def _at(self, number: fmpq_mpoly, values: list):
        first = self.size
        total = arb(0)
        for exponents, c in number.to_dict().items():
            term = arb(c)
            for e, value in zip(exponents[first:], values, strict=False):
                if e:
                    term = term * value ** int(e)
            total = total + term
        return total

    def _vanishes(self, number: fmpq_mpoly) -> bool:
        """Tell whether a polynomial in the roots is zero: by its norm over the last root."""
        if number.is_constant():
            return number.is_zero()
        place = max(i for i, e in enumerate(number.degrees()) if e)
        _, n, radicand = self.roots[place - self.size]
        root, radicand = self.context.gen(place), self.lift(radicand)
        self.spend(len(number) ** 2)
        if n == 2:
            parts = self.powers(number, place)
            a, b = parts.get(0, self.zero), parts[1]
            norm = self.reduced(a * a - b * b * radicand)
        else:
            norm = self.reduced(number.resultant(root**n - radicand, place))
        if not self._vanishes(norm):
            return False
        # some conjugate vanishes: it is this number, unless a ball says that it does not
        for bits in (256, 2048, 16384):
            if self._ball_sign(number, bits):
                return False
            others = (self.balls(bits, number, (place - self.size, j)) for j in range(1, n))
            if all(not ball.contains(0) if isinstance(ball, arb) else not (
                ball.real.contains(0) and ball.imag.contains(0)
            ) for ball in others):  # fmt: skip
                return True
        if n == 2 and self._vanishes(b):
            return self._vanishes(a)
        raise UndecidedError("undecided: a number could not be told from zero")

    def has_positive_root(self, polynomial: fmpz_poly) -> bool:
        r"""Tell whether an irreducible polynomial has a root > 0.

        By Descartes' rule on halves of halves of (0, 1), onto which the roots are scaled: the changes of
        sign in :math:`(1+x)^np(\frac1{1+x})` exceed the number of roots in (0, 1) by an even number.
        """
        n = polynomial.degree()
        bits = [abs(int(c)).bit_length() for c in polynomial.coeffs()]
        # Fujiwara: no root is larger than 2 max |a_(n-i) / a_n|^(1/i)
        size = 1 + max(
            (-((bits[n] - 1 - bits[n - i]) // i) for i in range(1, n + 1) if bits[n - i]), default=0
        )
        scaled = [c << max(size, 0) * i for i, c in enumerate(map(int, polynomial.coeffs()))]
        if size < 0:
            scaled = [c << -size * (n - i) for i, c in enumerate(scaled)]
        left, shift = [fmpz_poly(scaled)], fmpz_poly([1, 1])
        while left:
            part = left.pop()
            self.spend(n * (5 + n * int(part.height_bits()) // 5000))
            signs = [c > 0 for c in fmpz_poly(part.coeffs()[::-1])(shift).coeffs() if c != 0]
            changes = sum(a != b for a, b in itertools.pairwise(signs))
            if changes % 2:
                return True
            if changes:
                first = fmpz_poly([c << (n - i) for i, c in enumerate(map(int, part.coeffs()))])
                second = first(shift)
                if second[0] == 0:
                    return True
                left += [first, second]
        return False

    def inverse_number(self, number: fmpq_mpoly) -> tuple[fmpq_mpoly, fmpq_mpoly]:
        """Return 1/number as numerator and denominator, square roots moved to the numerator."""
        factor = self.one
        while not number.is_constant():
            place = max(i for i, e in enumerate(number.degrees()) if e)
            if self.roots[place - self.size][1] != 2:
                break
            parts = self.powers(number, place)
            conjugate = parts.get(0, self.zero) - parts[1] * self.context.gen(place)
            norm = self.reduced(number * conjugate)
            if self.sign(norm) == 0:  # the two halves are alike, and so this is twice one of them
                number = 2 * parts[0]
                continue
            factor, number = self.reduced(factor * conjugate), norm
            self.spend(len(factor) ** 2)
        return factor, number


def _words(*polynomials: fmpq_mpoly) -> int:
    """Length of the leading coefficients, in words."""
    leading = (p.leading_coefficient() for p in polynomials if not p.is_zero())
    return 1 + sum(int(c.p).bit_length() + int(c.q).bit_length() for c in leading) // 64
