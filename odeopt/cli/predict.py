"""What ``odeopt predict`` takes and does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from odeopt.checks import require_choice, require_integer
from odeopt.cli.class_table import print_classes
from odeopt.cli.forecast_table import print_forecast
from odeopt.cli.long_run import LongRun
from odeopt.cli.options import (
    AverageOption,
    ClassesOption,
    ColumnOption,
    DecayOption,
    DecoupledOption,
    JsonOption,
    LayersOption,
    PicturesOption,
    RulesOption,
    StrictOption,
    TestOption,
    ToStartOption,
    held_out,
    kinds_of,
    load_rows,
    print_and_save,
)
from odeopt.cli.printed import say
from odeopt.cli.rule_options import (
    average_from_text,
    chosen_names,
    decay_from_text,
    note_on_rules,
    rate_of_forecast,
)
from odeopt.kernels.memory import MemoryPlan
from odeopt.rules.names import rules_written
from odeopt.studies.files import OutputFolder
from odeopt.studies.forecast import forecast
from odeopt.studies.forecast_classes import forecast_classes

__all__ = ["predict_command"]

_Methods = Annotated[
    str | None,
    typer.Option(help="Methods, comma-separated: gd, hb, nag, nagc, tm; by default the first three."),
]
_BestAt = Annotated[int | None, typer.Option(help="Tune for so many steps, not for the asymptotic rate.")]
_Steps = Annotated[int, typer.Option(help="Steps over which schedules go, where --best-at has none.")]
_Rate = Annotated[
    str | None,
    typer.Option(
        help="Learning rate or schedule to keep, as of check; with --best-at a schedule, as cosine:1, "
        "whose best peak is found. By default tuned."
    ),
]
_State = Annotated[Path | None, typer.Option(help="File (.npz) from which an interrupted run is continued.")]
_Out = Annotated[Path | None, typer.Option(help="Folder for forecast.json, forecast.npz and the picture.")]


# What the squared loss alone asks for, with its defaults.
_SQUARED: dict[str, Any] = {
    "target": 1e-3, "num_matvecs": 300, "best_at": None, "max_steps": 100_000, "strict": False, "state": None,
}  # fmt: skip


def predict_command(
    data: Annotated[Path, typer.Argument(help="An .npz file with x and y, or a .csv with a header.")],
    test: TestOption = None,
    column: ColumnOption = None,
    classes: ClassesOption = False,
    loss: Annotated[str, typer.Option(help="squared, or softmax: y holds class labels.")] = "squared",
    methods: _Methods = None,
    rule: RulesOption = None,
    target: Annotated[float, typer.Option(help="Share of the initial loss to be reached.")] = 1e-3,
    matvecs: Annotated[int, typer.Option(help="Lanczos steps.")] = 300,
    n: Annotated[int, typer.Option(help="Rows used, 0 for all.")] = 0,
    layers: LayersOption = "first",
    depth: Annotated[int, typer.Option(help="Hidden layers of the network.")] = 1,
    storage: Annotated[str, typer.Option(help="auto, float64, float32 or recompute.")] = "auto",
    device: Annotated[str, typer.Option(help="torch device for the kernel; without one, numpy.")] = "",
    best_at: _BestAt = None,
    steps: _Steps = 1000,
    lr: _Rate = None,
    weight_decay: DecayOption = None,
    decoupled: DecoupledOption = False,
    to_start: ToStartOption = False,
    average: AverageOption = None,
    max_steps: Annotated[int, typer.Option(help="Where the search for the target ends.")] = 100_000,
    strict: StrictOption = False,
    state: _State = None,
    out: _Out = None,
    pictures: PicturesOption = "png",
    json: JsonOption = False,
) -> None:
    """Predict learning-rate limits, tuned hyperparameters and steps to a target, before any training."""
    length = require_integer("steps", steps, 1) if best_at is None else require_integer("best_at", best_at, 1)
    options: dict[str, Any] = {
        "methods": [*chosen_names(methods, rule, "gd,hb,nag"), *rules_written(rule or (), length)],
        "layers": layers, "depth": depth, "storage": storage, "device": device or None,
        **rate_of_forecast(lr, best_at, length), "average": average_from_text(average, length),
        "test": held_out(test, column), **decay_from_text(weight_decay, decoupled, to_start, length),
    }  # fmt: skip
    squared = (target, matvecs, best_at, max_steps, strict, state)
    study, show, more = _study(loss, dict(zip(_SQUARED, squared, strict=True)), classes, length)
    require_integer("matvecs", matvecs, 1)
    kinds, examples = kinds_of(pictures), load_rows(data, n, column)
    if note := note_on_rules(rule, lr=lr, weight_decay=weight_decay, average=average):
        say(f"odeopt: {note}", err=True)
    run = LongRun().kept(lambda done: _kept(done, state))
    with run as progress, OutputFolder(out) if out else nullcontext() as folder:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* rows of test are rows of x")  # told by the table
            on_plan = partial(_print_plan, progress)
            found = study(examples, progress=progress, on_plan=on_plan, **options, **more)
        progress.close()
        print_and_save(found, folder, json, show, kinds)


def _study(
    loss: str, squared: dict[str, Any], classes: bool, steps: int
) -> tuple[Callable[..., Any], Callable[[Any], None], dict[str, Any]]:
    """What is run for a loss, how it is printed, and the options that it has alone."""
    require_choice("loss", loss, ("squared", "softmax"))
    if loss == "squared":
        return forecast, print_forecast, {**squared, "classes": classes}
    if given := [name for name, value in squared.items() if value != _SQUARED[name]]:
        raise ValueError(f"{given[0]} is an option of the squared loss; leave it out, or --loss softmax")
    return forecast_classes, print_classes, {"num_steps": steps}  # of classes in any case


def _kept(done: dict[str, int], state: Path | None) -> str:
    if state is None:
        return "nothing was kept; with --state FILE an interrupted run goes on where it was"
    steps = done.get("lanczos", 0)
    return f"Lanczos steps up to {steps} are kept in {state}; the same command goes on from there"


def _print_plan(progress: LongRun, plan: MemoryPlan) -> None:
    progress.close()
    say(f"Memory: {plan}", hang=4, err=True)
