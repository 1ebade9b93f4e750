r"""Certificates on the command line: exact numbers from text, and the checks of a proof as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text
from sympy import Expr

from odeopt.cli.printed import console, say
from odeopt.proofs.certificate import Certificate
from odeopt.proofs.exact.parser import parse_expression
from odeopt.proofs.exact.signs import exact_number
from odeopt.proofs.flow import Flow, time
from odeopt.proofs.latex import printed_proof
from odeopt.proofs.notation import PLAIN
from odeopt.proofs.statement import Check

__all__ = ["exact_from_text", "flow_from_text", "print_certificate", "read_certificate", "verification_json"]


def exact_from_text(text: str | None, name: str) -> Expr | None:
    """Read 0.1, 1/3 or 3/sqrt(2) as an exact number.

    >>> exact_from_text("0.1", "mu"), exact_from_text("3/sqrt(2)", "mu")
    (1/10, 3*sqrt(2)/2)
    """
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        try:
            return parse_expression(text, {})
        except ValueError as error:
            raise ValueError(
                f"{name} must be a number as 0.1, 1/3 or 3/sqrt(2), got {text!r}: {error}"
            ) from None
    return exact_number(number, name)


def flow_from_text(friction: str | None, r: str | None) -> Flow:
    """Return the flow x'' + b x' + grad f = 0 with b = friction or b = r/t.

    >>> print(flow_from_text(None, "3"))
    x'' + (3/t) x' + grad f = 0
    """
    if (friction is None) == (r is None):
        raise ValueError("name one of: a method, --friction b, --r r")
    b = exact_from_text(friction, "friction") if r is None else exact_from_text(r, "r") / time
    return Flow((b,))


def read_certificate(path: Path) -> Certificate:
    """Read a certificate from a file, or raise ValueError; it is not verified yet."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"verify = {path} cannot be read: {error}") from None
    return Certificate.from_json(text)


def print_certificate(certificate: Certificate) -> bool:
    """Print the claim and each line of its verification, and return whether all hold."""
    checks = certificate.checks()
    holds = all(check.holds for check in checks)
    say(f"{certificate}", hang=4)
    if holds:
        say(f"\n{printed_proof(certificate, PLAIN)}\n", hang=4)
    if certificate.search is not None:
        search = certificate.search
        say(f"optimum {search.optimum:.9g} ({search.bound}), gap {search.gap:.1e}")
    table = Table()
    for column in ("claim", "holds", "reason"):
        table.add_column(column, overflow="fold")
    for check in checks:
        table.add_row(check.claim, _outcome(check), Text(check.reason))
    console().print(table)
    return holds


def _outcome(check: Check) -> str:
    return "yes" if check.holds else "undecided" if check.undecided else "NO"


def verification_json(certificate: Certificate) -> dict[str, Any]:
    """The claim of a certificate and each line of its verification, as plain JSON types."""
    checks = certificate.checks()
    lines = [{"claim": c.claim, "holds": _outcome(c), "reason": c.reason} for c in checks]
    return {"claim": str(certificate), "holds": all(c.holds for c in checks), "checks": lines}
