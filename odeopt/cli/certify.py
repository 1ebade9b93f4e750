"""What ``odeopt certify`` takes and does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from odeopt.cli.printed import say
from odeopt.rules.names import rule_named
from odeopt.studies.files import json_text

if TYPE_CHECKING:
    from odeopt.proofs.certificate import Certificate

__all__ = ["certify_command"]


def certify_command(
    method: Annotated[
        str | None,
        typer.Argument(help="A method's class: HeavyBall, Nesterov, ...; none with --friction or --r."),
    ] = None,
    hyperparameters: Annotated[
        list[str] | None, typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9.")
    ] = None,
    mu: Annotated[
        str | None,
        typer.Option(help="Strong convexity, as 0.1, 1/3 or sqrt(2); without it convex functions."),
    ] = None,
    smoothness: Annotated[str | None, typer.Option("--L", help="Smoothness; without it any.")] = None,
    rate: Annotated[str | None, typer.Option(help="Rate to prove; else the best.")] = None,
    friction: Annotated[str | None, typer.Option(help="b in x'' + b x' + grad f = 0.")] = None,
    r: Annotated[str | None, typer.Option(help="Friction r/t.")] = None,
    iteration: Annotated[
        bool, typer.Option("--iteration", help="Certify the method itself, not its ODE.")
    ] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print statement and proof as LaTeX.")] = False,
    verify: Annotated[
        Path | None, typer.Option(help="Only verify the certificate in a file, as --json printed it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Find a rate of convergence and prove it exactly, or verify a given proof."""
    from odeopt.cli import certificate as report

    if verify is not None:
        found = report.read_certificate(verify)
        told = json_text(report.verification_json(found))
    else:
        problem, shown = _problem(method, hyperparameters or [], friction, r, iteration)
        texts = {"mu": mu, "L": smoothness, "rate": rate}
        found = _certified(
            problem, {name: report.exact_from_text(text, name) for name, text in texts.items()}
        )
        told = found.to_json() + "\n"
        if shown and not (json or latex):
            say(shown, hang=4)
    if json:
        typer.echo(told, nl=False)
    elif latex:
        say(found.latex(), hang=4)
    holds = found.verify() if json or latex else report.print_certificate(found)
    if not holds:
        raise typer.Exit(1)


def _problem(
    method: str | None, numbers: list[str], friction: str | None, r: str | None, iteration: bool
) -> tuple[Any, str]:
    """What a rate is proved of, and how a method among it is called."""
    from odeopt.cli.certificate import flow_from_text
    from odeopt.limits.ode import ode_limit

    if method is None:
        return flow_from_text(friction, r), ""
    if friction is not None or r is not None:
        raise ValueError(f"name one of: the method {method}, --friction b, --r r")
    rule = rule_named(method, numbers)
    if iteration:
        return rule, rule.label
    limit = ode_limit(rule)
    return limit, f"{rule.label}, its ODE {limit}"


def _certified(problem: Any, numbers: dict[str, Any]) -> Certificate:
    from odeopt.proofs.certify import certify

    return certify(problem, **numbers)
