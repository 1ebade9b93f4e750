r"""Exact signs: numbers, polynomials on a domain of parameters, and definiteness of small matrices.

What is proved here is proved without floating point. Rational numbers are compared as they are,
algebraic numbers through their minimal polynomial, polynomials with parameters by writing them in the
distances of the parameters from the bounds of their domain and looking at the signs of the coefficients
(or, with one parameter left, by counting roots). A test that cannot decide says no: a proof is either
found or not claimed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import sympy
from sympy import Expr, Integer, Rational, Symbol

from odeopt.checks import is_number
from odeopt.proofs.exact.polynomials import Polynomial, read, total

__all__ = [
    "Bound",
    "exact_number",
    "is_positive_semidefinite",
    "is_zero",
    "number_sign",
    "proves_nonnegative",
    "simplest_fraction",
]

# Digits after which the evaluation of an algebraic number is given up; the sign is then "unknown".
_MOST_DIGITS = 2000
# Degree of an algebraic number up to which its minimal polynomial takes less than a second.
_LARGEST_DEGREE = 64


def exact_number(value, name: str = "value") -> Expr:
    """Return a number as an exact sympy number; a float is read as the decimal it prints as.

    Parameters
    ----------
    value : number or sympy.Expr
        A sympy expression is returned with its floats replaced.
    name : str
        For the message of a refusal.

    Returns
    -------
    sympy.Expr

    Examples
    --------
    >>> exact_number(0.1), exact_number(sympy.sqrt(2) / 2)
    (1/10, sqrt(2)/2)
    """
    if isinstance(value, Expr):
        return value.replace(lambda e: e.is_Float, lambda e: exact_number(float(e), name))
    if not is_number(value) or value != value or value in (float("inf"), float("-inf")):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    exact = Fraction(repr(float(value))) if isinstance(value, float) else Fraction(value)
    return Rational(exact.numerator, exact.denominator)


@dataclass(frozen=True)
class Bound:
    r"""A parameter and its range, lower <= symbol, symbol <= upper, lower <= symbol < upper, or any.

    Attributes
    ----------
    symbol : sympy.Symbol
    lower : sympy.Expr or None
        In terms of symbols bounded before.
    upper : sympy.Expr or None
        Without either bound the parameter may be any real number.
    strict : bool
        Whether the bound itself is excluded; beside a lower bound an upper one always is.
    """

    symbol: Symbol
    lower: Expr | None = sympy.S.Zero
    upper: Expr | None = None
    strict: bool = False

    @property
    def is_bounded(self) -> bool:
        """Whether there is a bound at all."""
        return self.lower is not None or self.upper is not None

    @property
    def slack(self) -> Symbol:
        """Distance from the bound: nonnegative, positive where the bound is strict."""
        if not self.is_bounded:
            return self.symbol
        sign = {"positive": True} if self.strict else {"nonnegative": True}
        return Symbol(f"_{self.symbol.name}", **sign)

    @property
    def value(self) -> Expr:
        """The symbol in terms of its slack, which maps [0, oo) onto the range."""
        if not self.is_bounded:
            return self.symbol
        if self.lower is None:
            return self.upper - self.slack
        if self.upper is None:
            return self.lower + self.slack
        return (self.lower + self.upper * self.slack) / (1 + self.slack)


def parametrised(expr: Expr, domain: Sequence[Bound]) -> Expr:
    """Write an expression in the slacks of its domain."""
    for bound in reversed(domain):
        expr = expr.xreplace({bound.symbol: bound.value}) if bound.is_bounded else expr
    return expr


def number_sign(value: Expr) -> int:
    """Return the sign of a real algebraic number, exactly.

    Parameters
    ----------
    value : sympy.Expr

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the number is not real and algebraic, or its sign could not be decided.

    Examples
    --------
    >>> number_sign(3 - 2 * sympy.sqrt(2)), number_sign(sympy.sqrt(8) - 2 * sympy.sqrt(2))
    (1, 0)
    """
    if not value.is_Rational:
        value = sympy.expand(value)
    if value.is_Rational:
        return bool(value > 0) - bool(value < 0)
    quick = _sign_in_quadratic_field(value)
    if quick is not None:
        return quick
    degree = math.prod(e.exp.q for e in value.atoms(sympy.Pow) if e.exp.is_Rational)
    if degree > _LARGEST_DEGREE:
        raise ValueError(f"{value} holds too many roots for its sign to be decided")
    variable = sympy.Dummy()
    try:
        coefficients = sympy.Poly(sympy.minimal_polynomial(value, variable), variable).all_coeffs()
    except (NotImplementedError, ZeroDivisionError, sympy.polys.polyerrors.NotAlgebraic) as error:
        raise ValueError(f"{value} is not a known algebraic number, so its sign is not decided") from error
    if coefficients[-1] == 0:
        return 0
    # Cauchy: no root is nearer to zero than |c_0| / (|c_0| + max |c_i|); evaluate to half of that.
    low = abs(coefficients[-1])
    distance = low / (low + max(abs(c) for c in coefficients[:-1]))
    digits = 5 + int(sympy.ceiling(-sympy.log(distance, 10).evalf()))
    if digits > _MOST_DIGITS:
        raise ValueError(f"the sign of {value} needs more than {_MOST_DIGITS} digits")
    size = max(1, int(sympy.ceiling(sympy.log(abs(value.evalf(20)) + 1, 10).evalf())))
    return 1 if value.evalf(digits + size) > 0 else -1


def _sign_in_quadratic_field(value: Expr) -> int | None:
    """Sign of p + q sqrt(d) with rational p, q and integer d, None for other numbers."""
    parts = value.as_coefficients_dict()
    roots = [k for k in parts if k != 1]
    if len(roots) != 1:
        return None
    root = roots[0]
    if not (root.is_Pow and root.exp == sympy.S.Half and root.base.is_Rational and root.base > 0):
        return None
    p, q = parts.get(Integer(1), Integer(0)), parts[root]
    if (p >= 0) == (q >= 0):
        return 1 if q > 0 or p > 0 else -1
    larger = p**2 - q**2 * root.base
    return (1 if p > 0 else -1) if larger > 0 else (1 if q > 0 else -1) if larger < 0 else 0


def is_zero(value: Expr | Polynomial) -> bool:
    """Tell whether a rational function of parameters, or an algebraic number, is zero.

    Parameters
    ----------
    value : sympy.Expr or Polynomial

    Returns
    -------
    bool

    Examples
    --------
    >>> b = sympy.Symbol("b")
    >>> is_zero((b**2 - 1) / (b - 1) - b - 1), is_zero(b)
    (True, False)
    """
    polynomial = value if isinstance(value, Polynomial) else read(value)
    if polynomial.is_plain:
        return not polynomial.terms
    expr = polynomial.expr()
    if not expr.free_symbols:
        return number_sign(expr) == 0
    numerator = sympy.expand(sympy.fraction(sympy.together(expr))[0])
    return numerator == 0 or (not numerator.free_symbols and number_sign(numerator) == 0)


def proves_nonnegative(value: Expr | Polynomial, domain: Sequence[Bound] = ()) -> bool:
    r"""Tell whether an expression is provably nonnegative on a domain.

    Parameters
    ----------
    value : sympy.Expr or Polynomial
        Rational in the symbols of the domain.
    domain : sequence of Bound

    Returns
    -------
    bool
        False where no proof is found.

    Examples
    --------
    >>> s, b = sympy.symbols("s b")
    >>> domain = (Bound(s), Bound(b, 3 * s))
    >>> proves_nonnegative(b**2 - 9 * s**2, domain), proves_nonnegative(b - 4 * s, domain)
    (True, False)
    """
    polynomial = value if isinstance(value, Polynomial) else read(value)
    if polynomial.number is not None:
        return polynomial.number >= 0
    if polynomial.is_plain and _has_nonnegative_terms(polynomial, domain):
        return True
    expr = parametrised(polynomial.expr() if isinstance(value, Polynomial) else value, domain)
    if not expr.free_symbols:
        return number_sign(expr) >= 0
    numerator, denominator = sympy.fraction(sympy.cancel(sympy.together(expr)))
    if (below := sign_on_slacks(denominator, strict=True)) == 0:
        return False
    return sign_on_slacks(below * numerator) > 0


def _has_nonnegative_terms(polynomial: Polynomial, domain: Sequence[Bound]) -> bool:
    """Whether each term, written in the distances from the bounds, is nonnegative by itself."""
    signs = {}  # True for a positive distance, False for one that may be 0
    for bound in reversed(domain):
        if not bound.is_bounded:
            continue
        if bound.lower == 0 and bound.upper is None:  # the symbol is its own distance
            signs[bound.symbol] = bound.strict
        elif bound.symbol in polynomial.symbols():
            polynomial = polynomial.substitute({bound.symbol: read(bound.value)})
            signs[bound.slack] = bound.strict
    if not polynomial.is_plain:
        return False
    for key, coefficient in polynomial.terms.items():
        for symbol, power in key:
            nonnegative = symbol in signs or symbol.is_nonnegative
            positive = signs.get(symbol) or symbol.is_positive
            if (power % 2 and not nonnegative) or (power < 0 and not positive):
                return False
        if coefficient < 0:
            return False
    return True


def sign_on_slacks(expr: Expr, strict: bool = False) -> int:
    """1 or -1 for an expression of constant sign where its symbols are nonnegative, 0 if unknown.

    A weak sign by default; with `strict` it is also never zero.
    """
    expr = sympy.expand(expr)
    symbols = sorted(expr.free_symbols, key=str)
    if not symbols:
        sign = number_sign(expr)
        return sign if strict else (1 if sign >= 0 else -1)
    polynomial = sympy.Poly(expr, *symbols)
    for sign in (1, -1):
        if _has_sign(polynomial, sign, strict):
            return sign
    if len(symbols) == 1 and symbols[0].is_nonnegative and polynomial.domain in (sympy.ZZ, sympy.QQ):
        return _sign_by_roots(polynomial, strict)
    return 0


def _has_sign(polynomial: sympy.Poly, sign: int, strict: bool) -> bool:
    """Whether all coefficients have the sign, and with `strict` one whole monomial never vanishes."""
    never_zero = False
    for powers, coefficient in polynomial.terms():
        found = number_sign(sign * coefficient)
        if found < 0:
            return False
        for symbol, power in zip(polynomial.gens, powers, strict=True):
            if not symbol.is_nonnegative and power % 2:
                return False
        # a coefficient of roots may be zero without looking so
        never_zero |= found > 0 and all(
            symbol.is_positive or not p for symbol, p in zip(polynomial.gens, powers, strict=True)
        )
    return never_zero or not strict


def _sign_by_roots(polynomial: sympy.Poly, strict: bool) -> int:
    """Sign of a polynomial with rational coefficients on (0, oo): no root of odd multiplicity (Sturm)."""
    zero = polynomial.eval(0) == 0
    for factor, multiplicity in polynomial.sqf_list()[1]:
        roots = factor.count_roots(0, None) - int(factor.eval(0) == 0)
        if roots and (multiplicity % 2 or strict):
            return 0
    if strict and zero and not polynomial.gens[0].is_positive:
        return 0
    return 1 if polynomial.LC() > 0 else -1


def is_positive_semidefinite(
    matrix: sympy.Matrix | Sequence[Sequence[Polynomial]], domain: Sequence[Bound] = ()
) -> bool:
    r"""Tell whether a symmetric matrix is provably positive semidefinite on a domain.

    Rational matrices by an exact :math:`LDL^\top`; others by Sylvester's criterion for semidefinite
    matrices: every principal minor is nonnegative.

    Parameters
    ----------
    matrix : sympy.Matrix or rows of Polynomial, shape (n, n)
    domain : sequence of Bound

    Returns
    -------
    bool

    Examples
    --------
    >>> singular, indefinite = sympy.Matrix([[1, 2], [2, 4]]), sympy.Matrix([[0, 1], [1, 9]])
    >>> is_positive_semidefinite(singular), is_positive_semidefinite(indefinite)
    (True, False)
    """
    given = matrix.tolist() if isinstance(matrix, sympy.MatrixBase) else matrix
    rows = [[e if isinstance(e, Polynomial) else read(e) for e in row] for row in given]
    n = len(rows)
    if any(not is_zero(rows[i][j] - rows[j][i]) for i, j in itertools.combinations(range(n), 2)):
        return False
    kept = [i for i in range(n) if any(e.terms for e in rows[i])]
    numbers = [[rows[i][j].number for j in kept] for i in kept]
    if all(e is not None for row in numbers for e in row):
        return _ldl_is_nonnegative(numbers)
    subsets = itertools.chain.from_iterable(itertools.combinations(kept, m) for m in range(1, len(kept) + 1))
    if all(e.is_plain for row in rows for e in row):
        return all(proves_nonnegative(_determinant(rows, part, part), domain) for part in subsets)
    # quotients of sums cancel better while they are factored
    exprs = sympy.Matrix([[e.expr() if isinstance(e, Polynomial) else e for e in row] for row in given])
    return all(
        proves_nonnegative(exprs.extract(list(part), list(part)).det(method="berkowitz"), domain)
        for part in subsets
    )


def _determinant(entries, rows: Sequence[int], columns: Sequence[int]) -> Polynomial:
    """Expand along the first row: the forms of a proof have at most four vectors."""
    if len(rows) == 1:
        return entries[rows[0]][columns[0]]
    terms = []
    for place, column in enumerate(columns):
        if entries[rows[0]][column].terms:
            rest = columns[:place] + columns[place + 1 :]
            term = entries[rows[0]][column] * _determinant(entries, rows[1:], rest)
            terms.append(-term if place % 2 else term)
    return total(terms)


def _ldl_is_nonnegative(rows: list[list[Fraction]]) -> bool:
    """Eliminate symmetrically; a zero pivot must have a zero row."""
    n = len(rows)
    rows = [list(row) for row in rows]
    for k in range(n):
        pivot = rows[k][k]
        if pivot < 0 or (pivot == 0 and any(rows[k][j] != 0 for j in range(k + 1, n))):
            return False
        if pivot == 0:
            continue
        for i in range(k + 1, n):
            factor = rows[i][k] / pivot
            for j in range(i, n):
                rows[i][j] -= factor * rows[k][j]
                rows[j][i] = rows[i][j]
    return True


def simplest_fraction(low: float, high: float) -> Expr:
    """Return the fraction of smallest denominator in an interval, for short proofs.

    Parameters
    ----------
    low, high : float

    Returns
    -------
    sympy.Expr

    Examples
    --------
    >>> simplest_fraction(3.14, 3.145), simplest_fraction(0.3, 0.4)
    (22/7, 1/3)
    """
    fraction = _simplest(Fraction(low), Fraction(high))
    return Rational(fraction.numerator, fraction.denominator)


def _simplest(low: Fraction, high: Fraction) -> Fraction:
    """Descend the continued fractions that the two ends share."""
    whole = low.numerator // low.denominator
    if whole == low or whole + 1 <= high:
        return Fraction(whole if whole == low else whole + 1)
    return whole + 1 / _simplest(1 / (high - whole), 1 / (low - whole))
