r"""Certificates: a rate of convergence together with a proof that is checked exactly.

A certificate of the rate c holds an energy V, multipliers :math:`\lambda_i` of inequalities
:math:`A_i\le0` that the class of functions grants, and a matrix S with

.. math:: \dot V+cV=\sum_i\lambda_iA_i+z^\top Sz,\qquad \lambda_i\ge0,\ S\preceq0,
    \qquad V=-\sum_i\nu_iA_i+z^\top Tz,\qquad \nu_i\ge0,\ T\succeq0,

so that :math:`e^{ct}V` is nonnegative and decreases. :meth:`Certificate.verify` expands both identities
and tests the signs by exact arithmetic: no floating point and no solver takes part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import sympy
from sympy import Expr

from odeopt.proofs.exact.domain import Domain
from odeopt.proofs.exact.signs import exact_number, nearest_float, short_text
from odeopt.proofs.identity import matrix_of, quadratic_rows
from odeopt.proofs.latex import printed_proof
from odeopt.proofs.potential import bound_of_f
from odeopt.proofs.statement import Check, Multiplier, Statement
from odeopt.proofs.storage import statement_from_json, statement_to_json
from odeopt.proofs.value import value_constant
from odeopt.proofs.verification import Verification
from odeopt.rates.rate import Rate
from odeopt.shown import Summary

__all__ = ["Certificate"]


@dataclass(frozen=True, repr=False)
class Certificate(Statement):
    r"""A rate of convergence and its proof.

    Parameters
    ----------
    title : str
        Name of the method.
    flow : Flow or Iteration
        The equation, or the step.
    function_class : FunctionClass
        On which the rate holds.
    energy : sympy.Expr
        V in terms of f and of the vectors, products of vectors standing for inner products.
    rate : sympy.Expr
        The c in :math:`e^{-ct}`, p in :math:`t^{-p}`, :math:`c(t)` in :math:`e^{-\int c}`, the factor of one
        step, or the power of a potential.
    law : {"exponential", "power", "integral", "factor", "potential"}
        What the rate is one of; of an iteration "factor" or "potential".
    multipliers, positivity : tuple of Multiplier
        The :math:`\lambda_i` of the decrease, and the :math:`\nu_i` of V >= 0.
    vectors : tuple of sympy.Symbol
        The z of the forms :math:`z^\top Sz` and :math:`z^\top Tz`, what V is without its inequalities.
    remainder : sympy.ImmutableMatrix
        S, of the remainder of the decrease.
    domain : tuple of Bound
        Range of each parameter, and of t; later bounds may name earlier symbols.
    correction : sympy.Expr
        With law "power": what is added to p/t, integrable at infinity.
    search : Search or None
        Not part of the proof.
    ends : Ends or None
        With law "potential": what V says of f.
    evidence : Evidence or None
        What the file held that it was read from.

    Examples
    --------
    >>> from odeopt.proofs.families import heavy_ball
    >>> certificate = heavy_ball(b=2, mu=1)
    >>> certificate.rate, certificate.verify()
    (4/3, True)
    """

    def verify(self) -> bool:
        """Prove the certificate, exactly.

        Returns
        -------
        bool
            False also where the test was given up within its budget of work; :meth:`checks` tells.
        """
        return all(check.holds for check in self.checks())

    def checks(self) -> tuple[Check, ...]:
        """Return each claim of the proof with the outcome of its exact test.

        Returns
        -------
        tuple of Check
            A claim that fails, or was not decided, has its reason.
        """
        return Verification(self).checks()

    def weaken(self, rate: float | Expr) -> Certificate:
        r"""Return the certificate of a smaller rate, from this one and :math:`V\ge0`.

        Parameters
        ----------
        rate : number or sympy.Expr
            At most the proved rate; for the law "factor" at least the proved factor.

        Returns
        -------
        Certificate
            Of the same energy, with other multipliers; neither `search` nor `evidence` is kept.

        Raises
        ------
        ValueError
            If the rate is beyond what is proved.

        Examples
        --------
        >>> from odeopt.proofs.families import heavy_ball
        >>> heavy_ball(b=2, mu=1).weaken(1).verify()
        True
        """
        rate = exact_number(rate, "rate")
        weaker = replace(self, rate=rate, search=None, evidence=None)
        field = self.new_field()
        domain = Domain(field, self.domain)
        # rates of a flow shrink, factors of an iteration grow
        least, most = (self.rate, sympy.S.One) if self.law == "factor" else (sympy.S.Zero, self.rate)
        least, asked, most = (field.read(e) for e in (least, rate, most))
        if not domain.nonnegative(most - asked) or not domain.nonnegative(asked - least) or asked.is_zero():
            raise ValueError(
                f"rate = {rate} is beyond the proved {self.rate}, or says nothing; a "
                + ("factor lies between it and 1" if self.law == "factor" else "rate lies between 0 and it")
            )
        excess = field.read(self.decay) - field.read(weaker.decay)
        excess = -excess if self.law == "factor" else excess
        # excess * V = excess * (sum of -nu A + z'Tz) goes to the multipliers and to S
        values = {m.name: [field.read(m.value), m.inequality] for m in self.multipliers}
        for m in self.positivity:
            entry = values.setdefault(m.name, [field.read(sympy.S.Zero), m.inequality])
            entry[0] += excess * field.read(m.value)
        T = quadratic_rows(self.positive_part(field), self.flow.gens, self.vectors)
        rows = [
            [field.read(s) - excess * t for s, t in zip(row, other, strict=True)]
            for row, other in zip(self.remainder.tolist(), T, strict=True)
        ]
        multipliers = tuple(Multiplier(name, v.factored(), a) for name, (v, a) in values.items())
        return replace(weaker, multipliers=multipliers, remainder=matrix_of(rows))

    def value_constant(self) -> Expr:
        r"""Return a :math:`\kappa` with :math:`V\ge\kappa f` by this proof, for flows the largest.

        Then :math:`f-f_\star\le\frac{V(0)}\kappa e^{-ct}`. Where it is 0, V = 0 is possible with f > 0, and
        the rate of f needs another argument.

        Returns
        -------
        sympy.Expr
            The constant, exact.

        Raises
        ------
        ValueError
            Unless it is proved, V >= 0 rests on one inequality, G at the point or A(0,*), and the constant
            is seen.

        Examples
        --------
        >>> from odeopt.proofs.families import heavy_ball
        >>> heavy_ball(b=2, mu=1).value_constant(), heavy_ball(b=3 / sympy.sqrt(2), mu=1).value_constant()
        (1/9, 0)
        """
        if any(e.free_symbols for e in (self.rate, *self.remainder)) or self.law not in (
            "exponential",
            "factor",
        ):
            raise ValueError(
                "f is compared with V only for numbers, and rates that are exponential or factors"
            )
        self.require_proved("its V is compared with no f")
        return value_constant(self)

    def to_rate(self) -> Rate:
        r"""Return the certified rate as a :class:`odeopt.Rate`.

        Returns
        -------
        Rate
            Kind "certified"; of a factor :math:`\rho` the exponent :math:`-\log\rho` per iteration.

        Raises
        ------
        ValueError
            If it is not proved, holds parameters, or the law is "integral", which may hold for a while only.
        """
        if self.law == "integral":
            raise ValueError(f"the law of {self.title} is an integral over time; it is no rate")
        if self.rate.free_symbols:
            raise ValueError(f"the rate {self.rate} holds parameters; give them numbers")
        self.require_proved("its rate is not certified")
        value, layer = (
            nearest_float(self.rate),
            f"{'iteration' if self.law in ('factor', 'potential') else 'ODE'} on {self.function_class}",
        )
        if self.law == "potential":
            return Rate(value, "power", "certified", layer, "iteration", note=self.title)
        if self.law == "factor":
            decrease = -math.log1p(-nearest_float(1 - self.rate))
            return Rate(decrease, "linear", "certified", layer, "iteration", note=self.title)
        return Rate(value, "power" if self.law == "power" else "linear", "certified", layer, note=self.title)

    def latex(self) -> str:
        """Return the statement and its proof as LaTeX, as a paper prints them.

        Returns
        -------
        str
            Statement, energy, multipliers and remainder.

        Raises
        ------
        ValueError
            If the proof does not hold, with the first reason.
        """
        self.require_proved("no proof is printed")
        return printed_proof(self)

    def require_proved(self, consequence: str) -> None:
        """Refuse to go on unless the proof holds.

        Parameters
        ----------
        consequence : str
            What follows for the caller, said before the first reason.

        Raises
        ------
        ValueError
            If a check fails, or was given up.
        """
        for check in self.checks():
            if not check.holds:
                raise ValueError(f"{self.title} is not proved, so {consequence}: {check.reason}")

    def _repr_latex_(self) -> str | None:
        return printed_proof(self) if self.verify() else None

    def to_json(self) -> str:
        """Return the certificate as JSON text, exact numbers as text.

        Returns
        -------
        str
            Read by :meth:`from_json`.
        """
        return statement_to_json(self)

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
            With the `evidence` that the file holds beside the proof.

        Raises
        ------
        ValueError
            If the text is not such JSON; no text in it becomes code.

        Examples
        --------
        >>> from odeopt.proofs.families import heavy_ball
        >>> text = heavy_ball(b=2, mu=1).to_json()
        >>> Certificate.from_json(text).verify(), Certificate.from_json(text.replace("4/3", "5/3")).verify()
        (True, False)
        """
        return cls(**statement_from_json(text))

    def _summary(self) -> Summary:
        return Summary([str(self), "with a proof that verify() checks"])

    def __str__(self) -> str:
        if self.law == "potential":
            place, bound = bound_of_f(self) or ("?", "?")
            return f"{self.title}: f({place}) <= {bound} |x_0|^2 on {self.function_class}"
        laws = {
            "exponential": "exp(-{} t)",
            "power": "t^-({})",
            "integral": "exp(-int {} dt)",
            "factor": "({})^k",
        }
        text = short_text(self.rate)
        text = f"({text})" if self.rate.is_Add and "." not in text else text
        return f"{self.title}: {laws[self.law].format(text)} on {self.function_class}"
