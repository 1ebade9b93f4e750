"""The command ``odeopt``: thin layers over the functions of the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from odeopt import __version__
from odeopt.checks import require_integer
from odeopt.cli.certify import certify_command
from odeopt.cli.check_table import print_check
from odeopt.cli.derive import derive_command, methods_command
from odeopt.cli.examples import beginning, epilog
from odeopt.cli.long_run import LongRun, answered
from odeopt.cli.options import (
    AverageOption,
    ClassesOption,
    ColumnOption,
    DataOption,
    DecayOption,
    DecoupledOption,
    JsonOption,
    LayersOption,
    MethodsOption,
    PicturesOption,
    RateOption,
    RulesOption,
    StrictOption,
    TestOption,
    ToStartOption,
    held_out,
    kinds_of,
    load_rows,
    print_and_save,
    require_report,
    save_page,
)
from odeopt.cli.predict import predict_command
from odeopt.cli.printed import say
from odeopt.cli.rule_options import (
    average_from_text,
    chosen_names,
    decay_from_text,
    names_of_check,
    note_on_methods,
    note_on_rules,
    rates_from_text,
    rules_of_sweep,
)
from odeopt.cli.sweep import print_sweep, run_study, run_sweep, sweep_json
from odeopt.rules.names import rules_written
from odeopt.rules.schedule_text import number_or_schedule
from odeopt.studies.check import check
from odeopt.studies.check_report import CheckSettings
from odeopt.studies.files import OutputFolder, json_text

__all__ = ["run"]


class _Commands(TyperGroup):
    """The commands, with an answer to each interrupt that has none yet."""

    def make_context(self, *args: Any, **more: Any) -> Any:
        with answered():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        with answered():
            return super().invoke(ctx)


app: typer.Typer = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From an update rule to its ODE, its rate, and the loss curve of a wide ReLU network.",
    epilog=beginning(),
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"odeopt {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the subcommand."""


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} must be numbers separated by commas, got {text!r}") from error


def _integers(text: str, name: str) -> list[int]:
    numbers = _numbers(text, name)
    return [require_integer(name, int(v) if v.is_integer() else v, 1, 10**12) for v in numbers]


def _noted(*notes: str) -> None:
    """What a user should know before the run, if there is anything."""
    for note in filter(None, notes):
        say(f"odeopt: {note}", err=True)


_Unstable = Annotated[bool, typer.Option("--allow-unstable", help="Run above the stability limit.")]
_Retry = Annotated[bool, typer.Option("--retry-failed", help="Run again what failed before.")]


@app.command("check", epilog=epilog("check"))
def check_command(
    methods: MethodsOption = None,
    rule: RulesOption = None,
    n: Annotated[int, typer.Option(help="Number of digits; with --data the rows used, 0 for all.")] = 60,
    width: Annotated[int, typer.Option(help="Width of the trained network.")] = 4096,
    seeds: Annotated[int, typer.Option(help="Number of networks.")] = 2,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 1000,
    lr: RateOption = None,
    lr_fraction: Annotated[float, typer.Option(help="Its fraction of the smallest stability limit.")] = 0.25,
    friction: Annotated[float | None, typer.Option(help="Friction b of heavy ball; else critical.")] = None,
    r: Annotated[float, typer.Option(help="Friction r/t of Nesterov's method.")] = 3.0,
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    hm_regime: Annotated[str, typer.Option(help="Limit of hm: fixed, or inertial (third order).")] = "fixed",
    weight_decay: DecayOption = None,
    decoupled: DecoupledOption = False,
    to_start: ToStartOption = False,
    average: AverageOption = None,
    layers: LayersOption = "first",
    data: DataOption = None,
    test: TestOption = None,
    column: ColumnOption = None,
    classes: ClassesOption = False,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    allow_unstable: _Unstable = False,
    strict: StrictOption = False,
    out: Annotated[Path, typer.Option(help="Folder for json, npz and png.")] = Path("odeopt-check"),
    pictures: PicturesOption = "png",
    report: Annotated[Path | None, typer.Option(help="Write one HTML page too, for a colleague.")] = None,
    json: JsonOption = False,
) -> None:
    """Train networks and compare their loss with the ODE, the iteration and the infinite-width limit."""
    decay = decay_from_text(weight_decay, decoupled, to_start, require_integer("steps", steps, 1))
    (names, left), rules = names_of_check(methods, rule, decay), rules_written(rule or (), steps)
    own: dict[str, Any] = {"friction": friction, "r": r, "momenta": momenta, "hm_regime": hm_regime}
    _noted(_without(left), note_on_rules(rule, lr=lr, weight_decay=weight_decay, average=average))
    _noted(note_on_methods(check_command, names, **own))
    chosen: dict[str, Any] = {
        "width": width, "seeds": seeds, "num_steps": steps, **decay, "allow_unstable": allow_unstable,
        "lr": None if lr is None else number_or_schedule(lr, "lr", steps), "lr_fraction": lr_fraction,
        **own, "momenta": _numbers(momenta, "momenta"), "layers": layers, "device": device, "dtype": dtype,
        "average": average_from_text(average, steps),
    }  # fmt: skip
    rows, settings, kinds = load_rows(data, n, column), CheckSettings(**chosen), kinds_of(pictures)
    require_report(report)
    with LongRun().kept(lambda _: _nothing_kept(out)) as progress, OutputFolder(out) as folder:
        found = check(rows, test=held_out(test, column), methods=[*names, *rules], settings=settings,
                      classes=classes, strict=strict, progress=progress)  # fmt: skip
        progress.close()
        print_and_save(found, folder, json, print_check, kinds)
        save_page(found, report)


def _without(left: list[str]) -> str:
    return f"{', '.join(left)} is left out, for it has no weight decay" if left else ""


def _nothing_kept(out: Path) -> str:
    return f"nothing of this run was kept, {out} is as it was; the same command begins anew"


app.command("derive", epilog=epilog("derive"))(derive_command)
app.command("methods", epilog=epilog("methods"))(methods_command)
app.command("certify", epilog=epilog("certify"))(certify_command)
app.command("predict", epilog=epilog("predict"))(predict_command)


@app.command("sweep", epilog=epilog("sweep"))
def sweep_command(
    study: Annotated[str, typer.Option(help="In place of a sweep of your own: paper.")] = "",
    methods: MethodsOption = None,
    rule: RulesOption = None,
    widths: Annotated[str, typer.Option(help="Widths, comma-separated.")] = "256,1024,4096",
    seeds: Annotated[int, typer.Option(help="Number of networks for each width.")] = 3,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 500,
    lr: Annotated[str, typer.Option(help="Learning rates or schedules of them, comma-separated.")] = "0.05",
    momentum: Annotated[str, typer.Option(help="Momenta of hb, numbers or schedules.")] = "0.9",
    r: Annotated[str, typer.Option(help="Frictions r/t of nag.")] = "3",
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    weight_decay: DecayOption = None,
    decoupled: DecoupledOption = False,
    to_start: ToStartOption = False,
    average: AverageOption = None,
    layers: LayersOption = "first",
    n: Annotated[int, typer.Option(help="Number of examples; 0 for all.")] = 60,
    data: DataOption = None,
    column: ColumnOption = None,
    classes: ClassesOption = False,
    workers: Annotated[int, typer.Option(help="Processes; 0 for one on each core.")] = 0,
    retry_failed: _Retry = False,
    out: Annotated[Path, typer.Option(help="Folder; continued if it has some.")] = Path("odeopt-sweep"),
    pictures: PicturesOption = "png",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, with the index.")] = False,
) -> None:
    """Train many networks, each beside its linear prediction; interrupted, the same command continues."""
    if study not in ("", "paper"):
        raise ValueError(f"study must be 'paper', got {study!r}; leave it out for a sweep of your own")
    require_integer("steps", steps, 1)
    if study and classes:
        raise ValueError("the networks of study paper have one output; leave --classes out")
    kinds = kinds_of(pictures)
    x, y = load_rows(data, n, column).flat
    with LongRun().kept(lambda done: f"the same command goes on with what is in {out}") as progress:
        options: dict[str, Any] = {"kinds": kinds, "workers": workers or None, "progress": progress}
        if study == "paper":
            results = run_study(x, y, out, digits=data is None, **options)
        else:
            grid: dict[str, Any] = {name: rates_from_text(text, name, steps) for name, text in
                    (("lr", lr), ("momentum", momentum), ("r", r), ("momenta", momenta))}  # fmt: skip
            grid |= decay_from_text(weight_decay, decoupled, to_start, steps)
            grid["average"] = average_from_text(average, steps)
            names = chosen_names(methods, rule, "gd,hb,nag")
            own = note_on_methods(sweep_command, names, momentum=momentum, r=r, momenta=momenta)
            _noted(note_on_rules(rule, weight_decay=weight_decay, average=average), own)
            rules = rules_of_sweep(names, rule or [], grid, steps)
            results = run_sweep(x, y, out, rules, steps, widths=_integers(widths, "widths"), layers=layers,
                    seeds=range(require_integer("seeds", seeds, 1)), classes=classes,
                    retry_failed=retry_failed, **options)  # fmt: skip
    _told(results, json, [f"{study or 'sweep'}.{kind}" for kind in kinds])


def _told(results: Any, json: bool, pictures: list[str]) -> None:
    """Print a sweep; the status is 1 where every run failed."""
    if json:
        typer.echo(json_text(sweep_json(results)), nl=False)
    else:
        print_sweep(results, pictures)
    if len(results.failures) == len(results.entries):
        raise typer.Exit(1)


def run() -> None:
    """Parse the arguments and run the command; a refusal is one line on stderr and exit status 2."""
    try:
        app()
    except OSError as error:
        _refuse(f"a file could not be read or written ({error}); those of earlier runs are as they were")
    except (ValueError, ImportError, RuntimeError, MemoryError) as error:
        _refuse(str(error) or type(error).__name__)


def _refuse(reason: str) -> NoReturn:
    told = f"odeopt: {' '.join(reason.split())}"
    say(told, hang=4, err=True) if sys.stderr.isatty() else typer.echo(told, err=True)  # one line in a pipe
    raise SystemExit(2) from None
