"""``odeopt derive``: a method's ODE, with its derivation; ``odeopt methods``: what is known by name."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Annotated, Any

import typer

from odeopt.cli.options import JsonOption
from odeopt.rules.base import UpdateRule
from odeopt.rules.names import METHODS, RULES, rule_named
from odeopt.studies.files import json_text

__all__ = ["derive_command", "methods_command"]

# Numbers at which `odeopt methods` shows a class: for its fields without a default, and the momentum.
_SHOWN: dict[str, Any] = {
    "lr": 0.01, "momentum": 0.9, "momenta": (0.2, 0.5), "nu": 0.7, "beta": 0.5, "gamma": 0.1, "delta": 0.1,
}  # fmt: skip
# Fields that every rule with weight decay has.
_DECAY = ("weight_decay", "decoupled", "to_start")


def derive_command(
    method: Annotated[str, typer.Argument(help="A method's class (HeavyBall, Adam, ...) or short name, gd.")],
    hyperparameters: Annotated[
        list[str] | None, typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9 momenta=0.2,0.5.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Orders of the time step beyond the limit.")] = 0,
    regime: Annotated[str, typer.Option(help="natural, fixed or inertial.")] = "natural",
    steps: Annotated[bool, typer.Option(help="Print the derivation as LaTeX.")] = False,
    latex: Annotated[bool, typer.Option(help="Print the ODE as LaTeX.")] = False,
    json: JsonOption = False,
) -> None:
    """Derive the ODE of a method from the code of its step."""
    from odeopt.limits.ode import ode_limit

    rule = rule_named(method, hyperparameters or [])
    options: dict[str, Any] = {"resolution": resolution, "regime": regime}
    limit = ode_limit(rule, **options)
    found = {
        "rule": rule.label,
        "equation": str(limit),
        "latex": limit.latex(),
        "time_step": float(limit.time_step),
        "time_origin": float(getattr(limit, "time_origin", 0)),
        "initial": [str(e) for e in getattr(limit, "initial", ())],
    }
    if json:
        typer.echo(json_text(found), nl=False)
        return
    typer.echo(f"{found['rule']}\n{found['latex' if latex else 'equation']}")
    typer.echo(f"t = (k + {found['time_origin']:g}) * {found['time_step']:.6g}")
    for step in getattr(limit, "steps", ()) if steps else ():
        typer.echo(step.latex())


def methods_command(json: JsonOption = False) -> None:
    """List the methods known by name: an ODE of each, and which questions it answers."""
    found = [_method(kind) for kind in RULES.values()]
    if json:
        typer.echo(json_text(found), nl=False)
        return
    for method in found:
        typer.echo(f"{method['short'] or '':5}{method['rule']}")
        for text in (method["equation"], ", ".join(method["answers"])):
            typer.echo(textwrap.fill(text, 80, initial_indent=" " * 5, subsequent_indent=" " * 9))
    typer.echo("odeopt derive NAME number=value ...; one's own class is FILE.py:CLASS.")


def _method(kind: type[UpdateRule]) -> dict[str, Any]:
    """A class at the numbers shown: its names, its ODE, and what it answers, found by asking."""
    from odeopt.limits.ode import ode_limit
    from odeopt.rules.reading import read

    fields = [field for field in dataclasses.fields(kind) if field.init]
    asked = {field.name for field in fields if field.default is dataclasses.MISSING} | {"momentum"}
    rule = kind(**{field.name: _SHOWN[field.name] for field in fields if field.name in asked})
    answers = ["ODE", "training"]
    if read(rule).refusal is None:
        answers += ["loss curve", "rate", "stability"]
    if any(field.name in _DECAY for field in fields):
        answers.append("weight decay")
    short = next((name for name, known in METHODS.items() if known is kind), None)
    return {"short": short, "rule": rule.label, "equation": str(ode_limit(rule)), "answers": answers}
