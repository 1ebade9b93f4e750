r"""The parts of a certificate: multipliers, and quadratic forms as polynomials in commuting symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy
from sympy import Expr, ImmutableMatrix, Symbol

from odeopt.proofs.exact.polynomials import Polynomial, read, total
from odeopt.proofs.exact.signs import Bound, is_zero, parametrised, sign_on_slacks
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.statement import Multiplier

__all__ = [
    "growth",
    "is_never_zero",
    "minus_multipliers",
    "nonzero",
    "quadratic_form",
    "quadratic_rows",
    "remainder",
    "schur_complement",
]

_ZERO, _HALF = read(sympy.S.Zero), read(sympy.S.Half)


def nonzero(polynomial: Polynomial, gens: Sequence) -> dict:
    """Return the monomials in `gens` whose coefficients are not zero, decided exactly."""
    return {monomial: c for monomial, c in polynomial.collect(gens).items() if not is_zero(c)}


def quadratic_rows(polynomial: Polynomial, gens: Sequence, vectors: Sequence) -> list[list[Polynomial]]:
    """Return the symmetric matrix of a quadratic form in the vectors, as rows.

    Raises ValueError if the polynomial is not a quadratic form in these vectors alone.
    """
    places = {symbol: place for place, symbol in enumerate(vectors)}
    rows = [[_ZERO] * len(vectors) for _ in vectors]
    for monomial, coefficient in nonzero(polynomial, gens).items():
        if len(monomial) != 2 or not places.keys() >= set(monomial):
            raise ValueError(f"it holds ({coefficient.expr()}) {sympy.Mul(*monomial)}")
        i, j = (places[symbol] for symbol in monomial)
        rows[i][j] = rows[j][i] = coefficient if i == j else coefficient * _HALF
    return rows


def quadratic_form(polynomial: Polynomial, gens: Sequence, vectors: Sequence) -> sympy.Matrix:
    """Return the same matrix with entries in one normal form."""
    rows = quadratic_rows(polynomial, gens, vectors)
    return sympy.Matrix(len(rows), len(rows), [tidied(entry) for row in rows for entry in row])


def minus_multipliers(polynomial: Polynomial, multipliers: Iterable[Multiplier]) -> Polynomial:
    """Take the sum of multiplier * inequality off a polynomial."""
    return total((polynomial, *(-read(m.value) * read(m.inequality) for m in multipliers)))


def remainder(flow: Flow | Iteration, energy: Expr, decay: Expr, multipliers: Iterable, vectors):
    """Return S from all the rest of a certificate; ValueError if the left-over is no quadratic form."""
    left = minus_multipliers(flow.decrease(energy, decay), multipliers)
    return ImmutableMatrix(quadratic_form(left, flow.gens, tuple(vectors)))


def is_never_zero(value: Expr, domain: Sequence[Bound] = ()) -> bool:
    """Tell whether an expression is provably defined and not zero anywhere on a domain.

    Parameters
    ----------
    value : sympy.Expr
    domain : sequence of Bound

    Returns
    -------
    bool
        False where no proof is found.

    Examples
    --------
    >>> t = sympy.Symbol("t", real=True)
    >>> is_never_zero(t, (Bound(t, strict=True),)), is_never_zero(t, (Bound(t),))
    (True, False)
    """
    parts = sympy.fraction(sympy.cancel(sympy.together(parametrised(value, domain))))
    return all(sign_on_slacks(part, strict=True) != 0 for part in parts)


def growth(value: Expr, symbol: Symbol, domain: Sequence[Bound] = ()) -> int:
    r"""Return a power of a symbol that an expression does not outgrow as the symbol goes to infinity.

    Parameters
    ----------
    value : sympy.Expr
        Rational in the symbol.
    symbol : sympy.Symbol
    domain : sequence of Bound
        Of what else it holds.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the leading coefficient of the denominator is not proved to be nonzero for all parameters.

    Examples
    --------
    >>> t, w = sympy.symbols("t w", real=True)
    >>> growth(1 / (w * t**3 + t), t, (Bound(w, strict=True),))
    -3
    """
    parts = [sympy.Poly(e, symbol) for e in sympy.fraction(sympy.cancel(sympy.together(value)))]
    if not is_never_zero(parts[1].LC(), domain):
        raise ValueError(f"the growth of {value} in {symbol} is not the same for all parameters")
    return parts[0].degree() - parts[1].degree()


def ends_time(domain: Sequence[Bound], moving: set[Symbol]) -> Symbol | None:
    """Return a symbol whose range may end the times for which the domain holds, None where none does."""
    for bound in domain:
        limits = [e for e in (bound.lower, bound.upper) if e is not None]
        tied = set().union(*(e.free_symbols for e in limits)) & moving
        if bound.symbol == time:
            ends = bound.upper is not None or tied
        elif bound.symbol in moving:
            ends = bound.is_bounded
        else:  # a parameter may be bounded from below by what goes to 0, such as 1/t^2
            ends = tied and (bound.upper is not None or tied != {time})
            ends = ends or (tied and growth(bound.lower, time, domain) >= 0)
        if ends:
            return bound.symbol
    return None


def divisors(expr: Expr) -> set[Expr]:
    """Return all that an expression divides by."""
    return {e.base for e in expr.atoms(sympy.Pow) if e.exp.could_extract_minus_sign()}


def tidied(coefficient: Polynomial) -> Expr:
    """One normal form of a coefficient."""
    expr = coefficient.expr()
    if coefficient.is_plain:
        return expr
    return sympy.expand(expr) if expr.is_number else sympy.cancel(expr)


def schur_complement(matrix: sympy.Matrix) -> Expr:
    """Return the least value of a positive semidefinite form over all vectors with first entry 1.

    Parameters
    ----------
    matrix : sympy.Matrix, shape (n, n)

    Returns
    -------
    sympy.Expr

    Examples
    --------
    >>> schur_complement(sympy.Matrix([[5, 2, 0], [2, 1, 0], [0, 0, 0]]))
    1
    """
    rest = sympy.Matrix(matrix)
    for k in reversed(range(1, rest.rows)):
        pivot = sympy.radsimp(rest[k, k])
        if not is_zero(pivot):  # else the row is zero, since the matrix is semidefinite
            rest = (rest - rest[:, k] * rest[k, :] / pivot).applyfunc(
                lambda e: sympy.radsimp(sympy.expand(e))
            )
    return rest[0, 0]
