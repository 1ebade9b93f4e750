"""``odeopt derive``: a method's ODE, with its derivation; ``odeopt methods``: what is known by name."""

from __future__ import annotations

import dataclasses
import functools
from typing import Annotated, Any

import typer

from odeopt.cli.options import JsonOption
from odeopt.cli.printed import say
from odeopt.rules.base import UpdateRule
from odeopt.rules.formulas import text
from odeopt.rules.names import METHODS, RULES, class_named, needed, rule_named
from odeopt.rules.weight_decay import WeightDecayed
from odeopt.studies.files import json_text

__all__ = ["derive_command", "methods_command"]

# Numbers at which `odeopt methods` shows a class: for its fields without a default, and the momentum.
_SHOWN: dict[str, Any] = {
    "lr": 0.01, "momentum": 0.9, "momenta": (0.2, 0.5), "nu": 0.7, "beta": 0.5, "gamma": 0.1, "delta": 0.1,
}  # fmt: skip


def derive_command(
    method: Annotated[
        str, typer.Argument(help="A method's short name or class (odeopt methods), or FILE.py:CLASS.")
    ],
    hyperparameters: Annotated[
        list[str] | None,
        typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9; by default those of odeopt methods."),
    ] = None,
    steps: Annotated[
        bool, typer.Option("--steps", help="Show the derivation: rule, substitution, expansion, limit.")
    ] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print equations as LaTeX.")] = False,
    resolution: Annotated[int, typer.Option(help="Orders of the time step beyond the limit.")] = 0,
    regime: Annotated[str, typer.Option(help="natural, fixed or inertial.")] = "natural",
    json: JsonOption = False,
) -> None:
    """Derive the ODE of a method from the code of its step."""
    from odeopt.limits.ode import ode_limit

    rule = _rule(method, hyperparameters or [])
    options: dict[str, Any] = {"resolution": resolution, "regime": regime}
    limit = ode_limit(rule, **options)
    step, origin = float(limit.time_step), float(getattr(limit, "time_origin", 0))
    found = {
        "rule": rule.label,
        "equation": str(limit),
        "latex": limit.latex(),
        "time_step": step,
        "time_origin": origin,
        "initial": [text(e) for e in getattr(limit, "initial", ())],
        "note": getattr(limit, "note", ""),
        "steps": [line.to_dict() for line in limit.steps],
    }
    if json:
        typer.echo(json_text(found), nl=False)
        return
    say(rule.label, hang=4)
    say(found["latex"] if latex else _equations(found["equation"]), hang=4)
    say(f"t = (k + {origin:g}) * {step:.6g}")
    for number, line in enumerate(limit.steps if steps else (), 1):
        say(line.latex() if latex else f"{number}. {line.title}", hang=4)
        for equation in () if latex else line.lines:
            say(equation, indent=4, hang=4)
    if steps and found["note"]:
        say(f"With numbers: {found['note']}", hang=4)


def _rule(method: str, numbers: list[str]) -> UpdateRule:
    """The rule that is written, or without any number the one that `odeopt methods` shows."""
    kind = class_named(method)
    if numbers or kind not in RULES.values():
        return rule_named(method, numbers)
    rule = _shown(kind)
    say(f"odeopt: no numbers given: {rule.label}, as odeopt methods shows it", err=True)
    return rule


def methods_command(json: JsonOption = False) -> None:
    """List the methods known by name: an ODE of each, and which questions it answers."""
    found = [_method(kind) for kind in RULES.values()]
    if json:
        typer.echo(json_text(found), nl=False)
        return
    for method in found:
        say(f"{method['short'] or '':5}{method['rule']}", hang=9)
        say(_equations(method["equation"]), indent=5, hang=4)
        say(", ".join(method["answers"]), indent=5, hang=4)
    say("A method goes by its short name or its class; one's own is FILE.py:CLASS.")
    for answer, command in _ASKED.items():
        say(f"{answer + ':':18}{command}", hang=18)


# How each question is asked.
_ASKED = {
    "ODE": "odeopt derive NAME number=value ... --steps",
    "proof": "odeopt certify NAME number=value ... --mu MU --L L [--iteration]",
    "rate": "odeopt.exact_rate, odeopt.discrete_rate, odeopt.tune",
    "loss curve": "odeopt predict DATA --rule 'NAME number=value ...'",
    "stability": "odeopt.max_learning_rate; odeopt predict shows it as the limit of lr",
    "training": "odeopt check --rule 'NAME number=value ...'; odeopt sweep",
    "weight decay": "--weight-decay 0.01 of check, predict and sweep; weight_decay=0.01",
}


def _equations(text: str) -> str:
    """The equations of a system, a line each."""
    return text.replace("; ", "\n")


def _shown(kind: type[UpdateRule]) -> UpdateRule:
    """A class at the numbers at which it is shown."""
    asked = {*needed(kind), *({"momentum"} & {field.name for field in dataclasses.fields(kind)})}
    return kind(**{name: _SHOWN[name] for name in asked})


@functools.cache
def _method(kind: type[UpdateRule]) -> dict[str, Any]:
    """A class at the numbers shown: its names, its ODE, and what it answers, found by asking."""
    from odeopt.limits.ode import ode_limit
    from odeopt.rules.reading import read

    rule = _shown(kind)
    limit, answers = ode_limit(rule), ["ODE", "training"]
    if read(rule).refusal is None:
        answers += ["loss curve", "rate", "stability"]
    answers += [f"proof of the {what}" for what, it in (("ODE", limit), ("iteration", rule)) if _proved(it)]
    if issubclass(kind, WeightDecayed):
        answers.append("weight decay")
    short = next((name for name, known in METHODS.items() if known is kind), None)
    return {
        "short": short,
        "rule": rule.label,
        "equation": str(limit),
        "latex": limit.latex(),
        "answers": answers,
    }


def _proved(problem: Any) -> bool:
    """Whether a rate of an ODE or an iteration is proved on F(1, 10)."""
    from odeopt.proofs.certify import certify
    from odeopt.proofs.wanted import UnsolvedError

    try:
        certify(problem, mu=1, L=10)
    except (ValueError, UnsolvedError):
        return False
    return True
