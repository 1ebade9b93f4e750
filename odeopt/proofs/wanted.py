r"""The rate that was asked for: granted by weakening the best proof, or refused with the best there is."""

from __future__ import annotations

from dataclasses import replace

from sympy import Expr

from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.signs import is_zero, nearest_float, number_sign
from odeopt.proofs.statement import Search

__all__ = ["NoCertificateError", "UnsolvedError", "asked_for", "refusal"]


class NoCertificateError(ValueError):
    """No certificate of this form exists for the rate that was asked for.

    Parameters
    ----------
    message : str
        Which rate, on which class, and the best there is.
    best : Certificate or None
        The best that was verified.

    Examples
    --------
    >>> import sympy
    >>> from odeopt.proofs import Flow, certify
    >>> try:
    ...     certify(Flow((sympy.Integer(2),)), mu=1, rate=2)
    ... except NoCertificateError as error:
    ...     print(error.best.rate)
    4/3
    """

    def __init__(self, message: str, best: Certificate | None = None) -> None:
        super().__init__(message)
        self.best = best


class UnsolvedError(RuntimeError):
    """The solver could not decide: neither a certificate nor its absence is claimed.

    Examples
    --------
    It says nothing of the rate, so that no ``except ValueError`` for a refused one catches it:

    >>> issubclass(NoCertificateError, ValueError), issubclass(UnsolvedError, ValueError)
    (True, False)
    """


def asked_for(best: Certificate, wanted: Expr | None) -> Certificate:
    """Return the best certificate, or the weaker one that was asked for."""
    if wanted is None or is_zero(wanted - best.rate):
        return best
    gap = (wanted - best.rate) if best.law == "factor" else (best.rate - wanted)
    if number_sign(gap) < 0:
        raise refusal(wanted, best)
    found = best.search or Search(nearest_float(best.rate), 0.0, "closed form", 0)
    return replace(best.weaken(wanted), search=replace(found, gap=found.gap + nearest_float(gap)))


def refusal(wanted: Expr, best: Certificate) -> NoCertificateError:
    """Return the error that says why a rate has no certificate, with the best that has one."""
    exact = f" ({best.rate})" if not best.rate.is_Rational or best.rate.q < 1000 else ""
    name = {"power": "power", "factor": "factor"}.get(best.law, "rate")
    reason = ""
    if best.function_class.kind == "quadratic" or (
        best.search is not None and best.search.bound == "quadratics"
    ):
        reason = "no method of proof can reach it, quadratics of the class are slower; "
    return NoCertificateError(
        f"{name} = {nearest_float(wanted):.9g} has no certificate V = f + quadratic form of the state on "
        f"{best.function_class}: {reason}the best is {nearest_float(best.rate):.9g}{exact}",
        best,
    )
