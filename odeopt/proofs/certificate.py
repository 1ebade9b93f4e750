r"""Certificates: a rate of convergence together with a proof that is checked exactly.

A certificate of the rate c holds an energy V, multipliers :math:`\lambda_i` of inequalities
:math:`A_i\le0` that the class of functions grants, and a matrix S with

.. math:: \dot V+cV=\sum_i\lambda_iA_i+z^\top Sz,\qquad \lambda_i\ge0,\ S\preceq0,
    \qquad V=-\sum_i\nu_iA_i+z^\top Tz,\qquad \nu_i\ge0,\ T\succeq0,

so that :math:`e^{ct}V` is nonnegative and decreases. :meth:`Certificate.verify` expands both identities
and tests the signs by exact arithmetic: no floating point and no solver takes part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import sympy
from sympy import Expr, ImmutableMatrix

from odeopt.proofs.exact.polynomials import Polynomial, read, total
from odeopt.proofs.exact.signs import (
    Bound,
    exact_number,
    is_positive_semidefinite,
    is_zero,
    number_sign,
    parametrised,
    proves_nonnegative,
)
from odeopt.proofs.flow import Flow, Iteration, time
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.identity import (
    divisors,
    ends_time,
    growth,
    is_never_zero,
    minus_multipliers,
    nonzero,
    quadratic_form,
    quadratic_rows,
    schur_complement,
)
from odeopt.proofs.latex import certificate_latex
from odeopt.proofs.statement import Check, Multiplier, Search
from odeopt.proofs.storage import certificate_fields, certificate_to_json
from odeopt.rates.rate import Rate

__all__ = ["Certificate"]

LAWS = ("exponential", "power", "integral", "factor")
# What is raised on expressions for which an exact test has no method: then nothing is proved.
_UNDECIDED = (
    ValueError,
    TypeError,
    ArithmeticError,
    NotImplementedError,
    sympy.polys.polyerrors.BasePolynomialError,
)


@dataclass(frozen=True)
class Certificate:
    r"""A rate of convergence and its proof.

    Attributes
    ----------
    title : str
    flow : Flow or Iteration
    function_class : FunctionClass
    energy : sympy.Expr
        V in terms of f and of the vectors, products of vectors standing for inner products.
    rate : sympy.Expr
        c in :math:`e^{-ct}`, p in :math:`t^{-p}`, :math:`c(t)` in
        :math:`e^{-\int c}`, or the factor of one step.
    law : {"exponential", "power", "integral", "factor"}
    multipliers, positivity : tuple of Multiplier
        The :math:`\lambda_i` and the :math:`\nu_i`.
    vectors : tuple of sympy.Symbol
        z.
    remainder : sympy.ImmutableMatrix
        S.
    domain : tuple of Bound
        Range of each parameter, and of t; later bounds may name earlier symbols.
    correction : sympy.Expr
        With law "power": what is added to p/t, integrable at infinity.
    search : Search or None
        Not part of the proof.

    Examples
    --------
    >>> from odeopt.proofs.families.constant import heavy_ball
    >>> certificate = heavy_ball(b=2, mu=1)
    >>> certificate.rate, certificate.verify()
    (4/3, True)
    """

    title: str
    flow: Flow | Iteration
    function_class: FunctionClass
    energy: Expr
    rate: Expr
    law: str
    multipliers: tuple[Multiplier, ...]
    positivity: tuple[Multiplier, ...]
    vectors: tuple
    remainder: ImmutableMatrix
    domain: tuple[Bound, ...] = ()
    correction: Expr = sympy.S.Zero
    search: Search | None = None

    def __post_init__(self):
        if self.law not in LAWS:
            raise ValueError(f"law must be one of {', '.join(LAWS)}; got {self.law!r}")

    @property
    def decay(self) -> Expr:
        """The c(t) of the identity."""
        return self.rate / time + self.correction if self.law == "power" else self.rate

    @property
    def positive_part(self) -> Polynomial:
        """What is left of V when the inequalities are taken off, z'Tz, expanded."""
        return -minus_multipliers(-read(self.energy), self.positivity)

    def verify(self) -> bool:
        """Prove the certificate, exactly.

        Returns
        -------
        bool
        """
        return all(check.holds for check in self.checks())

    def checks(self) -> tuple[Check, ...]:
        """Return each claim of the proof with the outcome of its exact test.

        Returns
        -------
        tuple of Check
        """
        tests = (
            ("parameters", self._parameters),
            ("rate", self._rate_is_one),
            ("class", self._class_is_consistent),
            ("inequalities", self._inequalities_are_granted),
            ("multipliers", self._multipliers_are_nonnegative),
            ("identity", self._identity),
            ("remainder", self._remainder),
            ("positivity", self._positivity),
        )
        checks = []
        for claim, test in tests:
            try:
                reason = test()
            except _UNDECIDED as error:
                reason = str(error) or type(error).__name__
            checks.append(Check(claim, not reason, reason))
        return tuple(checks)

    @property
    def _moving(self) -> set:
        """Symbols that depend on time."""
        return {time, *dict(getattr(self.flow, "derivatives", ()))}

    # Each test returns the reason of its failure, empty where it holds.

    def _parameters(self) -> str:
        known = set()
        for bound in self.domain:
            for limit in (bound.lower, bound.upper):
                if limit is not None and not limit.free_symbols <= known:
                    return f"the bound {limit} of {bound.symbol} holds symbols that are not bounded before"
            if bound.symbol in known:
                return f"two bounds are given for {bound.symbol}"
            if None not in (bound.lower, bound.upper):
                width = bound.upper - bound.lower
                if not proves_nonnegative(width, self.domain) or is_zero(width):
                    return f"the range of {bound.symbol} is not proved to hold anything"
            known.add(bound.symbol)
        if known & {*self.flow.vectors, *self.flow.values}:
            return "a parameter has the name of a vector or a value"
        constants = [
            e for e in (*self.flow.constants, self.function_class.mu, self.function_class.L) if e is not None
        ]
        expressions = [self.decay, *self.remainder, *constants, *self.flow.varying]
        expressions += [m.value for m in (*self.multipliers, *self.positivity)]
        free = set().union(*(e.free_symbols for e in expressions)) - known
        # V may hold only what the flow has a rule for
        free |= self.energy.free_symbols - known - {*self.flow.energy_symbols}
        if free:
            return f"no bounds, or no rules, are given for {', '.join(sorted(map(str, free)))}"
        if any(e.free_symbols & self._moving for e in constants):
            return "force, Hessian damping, mu and L must not depend on time"
        if len(set(self.vectors)) != len(self.vectors) or not {*self.vectors} <= {*self.flow.vectors}:
            return f"the vectors {self.vectors} are not distinct vectors of the flow"
        for divisor in set().union(*map(divisors, (*expressions, self.energy))):
            if not is_never_zero(divisor, self.domain):
                return f"the divisor {divisor} is not proved to be nonzero"
        return ""

    def _rate_is_one(self) -> str:
        rate, t = self.rate, time
        if isinstance(self.flow, Iteration) != (self.law == "factor"):
            return f"the law {self.law!r} does not belong to {self.flow}"
        if self.law != "integral" and rate.free_symbols & self._moving:
            return f"the rate {rate} depends on time"
        if self.law == "power" and t not in {b.symbol for b in self.domain if b.lower is not None}:
            return "the domain does not hold all large t"
        if self.law in ("power", "exponential") and (ended := ends_time(self.domain, self._moving)):
            return f"the domain does not hold all large t: the range of {ended} may end it"
        if not proves_nonnegative(rate, self.domain) or is_zero(rate):
            return f"the rate {rate} is not proved positive"
        if self.law == "factor" and not proves_nonnegative(1 - rate, self.domain):
            return f"the factor {rate} is not proved to be at most 1"
        if self.correction != 0 and (self.law != "power" or growth(self.correction, t, self.domain) > -2):
            return f"the correction {self.correction} is not integrable at infinity"
        value = read(self.energy).collect(self.flow.gens).get((self.flow.values[0],), read(sympy.S.Zero))
        if not proves_nonnegative(value, self.domain) or not is_never_zero(value.expr(), self.domain):
            return f"the coefficient {value.expr()} of f in V is not proved positive"
        moving = value.symbols() & self._moving
        # else V tells nothing of f: t^-3 V falls faster than V, and f does not
        if moving and (moving != {t} or growth(1 / value.expr(), t, self.domain) > 0):
            return f"the coefficient {value.expr()} of f in V is not proved to stay away from 0"
        return ""

    def _class_is_consistent(self) -> str:
        kind, mu, L = self.function_class.kind, self.function_class.mu, self.function_class.L
        if kind == "strongly convex" and not proves_nonnegative(mu, self.domain):
            return f"mu = {mu} is not proved nonnegative"
        if L is not None:
            alike = kind != "quadratic" and is_zero(parametrised(L - mu, self.domain))
            if alike or not proves_nonnegative(L - mu, self.domain):
                return f"L = {L} is not proved to be larger than mu = {mu}"
        return ""

    def _inequalities_are_granted(self) -> str:
        points, tangents = self.flow.points, self.flow.tangents
        for m in (*self.multipliers, *self.positivity):
            granted = self.function_class.inequality(m.name, points, tangents)
            if m.inequality != granted and not is_zero(m.inequality - granted):
                return f"{self.function_class} does not grant {m.name}: {m.inequality} <= 0"
        return ""

    def _multipliers_are_nonnegative(self) -> str:
        for m in (*self.multipliers, *self.positivity):
            if not m.name.startswith("E") and not proves_nonnegative(m.value, self.domain):
                return f"the multiplier {m.value} of {m.name} is not proved nonnegative"
        return ""

    def _identity(self) -> str:
        left = minus_multipliers(self.flow.decrease(self.energy, self.decay), self.multipliers)
        products = itertools.product(self.vectors, repeat=2)
        square = (read(s) * read(u) * read(v) for s, (u, v) in zip(self.remainder, products, strict=True))
        for monomial, coefficient in nonzero(left - total(square), self.flow.gens).items():
            return f"the two sides differ by ({sympy.factor(coefficient.expr())}) {sympy.Mul(*monomial)}"
        return ""

    def _remainder(self) -> str:
        proved = is_positive_semidefinite(-sympy.Matrix(self.remainder), self.domain)
        return "" if proved else "S is not proved negative semidefinite"

    def _positivity(self) -> str:
        try:
            rows = quadratic_rows(self.positive_part, self.flow.gens, self.vectors)
        except ValueError as error:
            return f"V + sum nu A is no quadratic form: {error}"
        proved = is_positive_semidefinite(rows, self.domain)
        return "" if proved else "V is not proved nonnegative"

    def weaken(self, rate) -> Certificate:
        r"""Return the certificate of a smaller rate, from this one and :math:`V\ge0`.

        Parameters
        ----------
        rate : number or sympy.Expr
            At most the proved rate; for the law "factor" at least the proved factor.

        Returns
        -------
        Certificate

        Raises
        ------
        ValueError
            If the rate is beyond what is proved.

        Examples
        --------
        >>> from odeopt.proofs.families.constant import heavy_ball
        >>> heavy_ball(b=2, mu=1).weaken(1).verify()
        True
        """
        rate = exact_number(rate, "rate")
        weaker = replace(self, rate=rate, search=None)
        # rates of a flow shrink, factors of an iteration grow
        sign = -1 if self.law == "factor" else 1
        excess = sympy.expand(sign * (self.decay - weaker.decay))
        if not proves_nonnegative(excess, self.domain):
            raise ValueError(f"rate = {rate} is beyond the proved rate {self.rate}; ask for less")
        # excess * V = excess * (sum of -nu A + z'Tz) goes to the multipliers and to S
        values = {m.name: [m.value, m.inequality] for m in self.multipliers}
        for m in self.positivity:
            values.setdefault(m.name, [sympy.S.Zero, m.inequality])[0] += excess * m.value
        T = quadratic_form(self.positive_part, self.flow.gens, self.vectors)
        multipliers = tuple(Multiplier(name, sympy.cancel(v), a) for name, (v, a) in values.items())
        S = ImmutableMatrix((self.remainder - excess * T).applyfunc(sympy.cancel))
        return replace(weaker, multipliers=multipliers, remainder=S)

    def value_constant(self) -> Expr:
        r"""Return the largest :math:`\kappa` with :math:`V\ge\kappa f` by this proof.

        Then :math:`f-f_\star\le\frac{V(0)}\kappa e^{-ct}`. Where it is 0, V = 0 is possible with f > 0, and
        the rate of f needs another argument.

        Returns
        -------
        sympy.Expr

        Raises
        ------
        ValueError
            Unless it is a certificate with numbers, of an exponential rate, that uses G(x) for V >= 0.

        Examples
        --------
        >>> from odeopt.proofs.families.constant import heavy_ball
        >>> heavy_ball(b=2, mu=1).value_constant(), heavy_ball(b=3 / sympy.sqrt(2), mu=1).value_constant()
        (1/9, 0)
        """
        symbols = set().union(*(e.free_symbols for e in (self.rate, *self.remainder)))
        if symbols or self.law != "exponential" or [m.name for m in self.positivity] != ["G(x)"]:
            raise ValueError("f is compared with V only for numbers and exponential rates of flows")
        weight, mu = self.positivity[0].value, self.function_class.mu
        rest = schur_complement(quadratic_form(self.positive_part, self.flow.gens, self.vectors))
        # V - kappa f = (weight - kappa)(f - mu/2 |x|^2) + z'(T - kappa mu/2 E)z, with E for |x|^2
        ratio = sympy.expand(2 * rest / mu)
        return ratio if number_sign(weight - ratio) >= 0 else weight

    def to_rate(self) -> Rate:
        """Return the certified rate as a :class:`odeopt.Rate`.

        Returns
        -------
        Rate

        Raises
        ------
        ValueError
            If it holds parameters, or the law is "integral", which may hold for a while only.
        """
        if self.law == "integral":
            raise ValueError(f"the law of {self.title} is an integral over time; it is no rate")
        if self.rate.free_symbols:
            raise ValueError(f"the rate {self.rate} holds parameters; give them numbers")
        value, layer = (
            float(self.rate),
            f"{'iteration' if self.law == 'factor' else 'ODE'} on {self.function_class}",
        )
        if self.law == "factor":
            return Rate(
                -float(sympy.log(self.rate)), "linear", "certified", layer, "iteration", note=self.title
            )
        return Rate(value, "power" if self.law == "power" else "linear", "certified", layer, note=self.title)

    def latex(self) -> str:
        """Return the statement and its proof as LaTeX, as a paper prints them."""
        return certificate_latex(self)

    def _repr_latex_(self) -> str:
        return self.latex()

    def to_json(self) -> str:
        """Return the certificate as JSON text, exact numbers as text."""
        return certificate_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Certificate:
        """Read a certificate; nothing in it is believed until :meth:`verify`.

        Parameters
        ----------
        text : str
            As :meth:`to_json` writes it.

        Returns
        -------
        Certificate

        Raises
        ------
        ValueError
            If the text is not such JSON; expressions are read by :func:`odeopt.proofs.exact.parser.parse_expression`.

        Examples
        --------
        >>> from odeopt.proofs.families.constant import heavy_ball
        >>> text = heavy_ball(b=2, mu=1).to_json()
        >>> Certificate.from_json(text).verify(), Certificate.from_json(text.replace("4/3", "5/3")).verify()
        (True, False)
        """
        return cls(**certificate_fields(text))

    def __str__(self) -> str:
        laws = {
            "exponential": "exp(-{} t)",
            "power": "t^-({})",
            "integral": "exp(-int {} dt)",
            "factor": "({})^k",
        }
        text = (
            str(self.rate)
            if self.rate.free_symbols or len(str(self.rate)) < 20
            else f"{float(self.rate):.9g}"
        )
        text = f"({text})" if self.rate.is_Add and "." not in text else text
        return f"{self.title}: {laws[self.law].format(text)} on {self.function_class}"
