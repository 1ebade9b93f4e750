r"""Rates with a proof: Lyapunov functions, found, verified and written in exact arithmetic."""

from odeopt.proofs import families
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.certify import certify
from odeopt.proofs.flow import Flow, Iteration
from odeopt.proofs.functions import FunctionClass
from odeopt.proofs.statement import Check, Multiplier, Search
from odeopt.proofs.wanted import NoCertificateError, UnsolvedError
from odeopt.proofs.witness import Witness, witness

__all__ = [
    "Certificate", "Check", "Flow", "FunctionClass", "Iteration", "Multiplier", "NoCertificateError",
    "Search", "UnsolvedError", "Witness", "certify", "families", "witness",
]  # fmt: skip
