"""The command ``odeopt``: thin layers over the functions of the package."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, NoReturn

import numpy as np
import typer

from odeopt.checks import require_integer
from odeopt.cli.check_table import print_check
from odeopt.cli.forecast_table import print_forecast
from odeopt.cli.long_run import LongRun
from odeopt.cli.rule_options import (
    average_from_text,
    chosen_names,
    decay_from_text,
    rate_of_forecast,
    rates_from_text,
    rules_of_sweep,
)
from odeopt.cli.sweep import print_sweep, run_study, run_sweep
from odeopt.data import load_digits, load_npz
from odeopt.rules.names import method_names, rule_named, rules_written, with_decay
from odeopt.rules.schedule_text import SCHEDULE_FORMS, number_or_schedule
from odeopt.studies.check import CHECK_METHODS, check
from odeopt.studies.check_report import CheckSettings
from odeopt.studies.files import OutputFolder, json_text
from odeopt.studies.forecast import forecast

__all__ = ["main"]

app: typer.Typer = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From an update rule to its ODE, its rate, and the loss curve of a wide ReLU network.",
)

_Data = Annotated[
    Path | None, typer.Option(help="An .npz file with x and y, in place of scikit-learn's digits.")
]
_Layers = Annotated[str, typer.Option(help="Trained layers: first or both.")]
_Strict = Annotated[bool, typer.Option(help="Refuse rows that make the kernel singular.")]
_Methods = Annotated[
    str | None, typer.Option(help="Methods, comma-separated: gd, hb, nag, hm; by default all (sweep: three).")
]
_Rate = Annotated[
    str | None,
    typer.Option(
        help="Learning rate, or a schedule of it over --steps: "
        + ", ".join(SCHEDULE_FORMS)
        + ", and products "
        "of them; by default from the stability limit."
    ),
]
_Rules = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help='A rule of any class, or of one\'s own file, as "Adam lr=0.01" or "my.py:MyRule lr=cosine:0.1"; '
        "may be repeated. Without --methods these alone are run.",
    ),
]
# Like the learning rate, these three are of the methods that are named: a rule has its own.
_Decay = Annotated[str | None, typer.Option(help="Weight decay, a number or a schedule.")]
_Decoupled = Annotated[bool, typer.Option(help="Decay the weights, not through the gradient.")]
_ToStart = Annotated[bool, typer.Option(help="Decay to the weights at the start, not to 0.")]
_Average = Annotated[
    str | None,
    typer.Option(help="Averaged output: polyak, or the decay of an exponential average, as 0.99."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.callback()
def _root() -> None:
    """Keep the subcommands explicit while there is only one."""


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} must be numbers separated by commas, got {text!r}") from error


def _integers(text: str, name: str) -> list[int]:
    numbers = _numbers(text, name)
    return [require_integer(name, int(v) if v.is_integer() else v, 1, 10**12) for v in numbers]


@app.command("check")
def check_command(
    methods: _Methods = None,
    rule: _Rules = None,
    n: Annotated[int, typer.Option(help="Number of digits; with --data the rows used, 0 for all.")] = 60,
    width: Annotated[int, typer.Option(help="Width of the trained network.")] = 4096,
    seeds: Annotated[int, typer.Option(help="Number of networks.")] = 2,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 1000,
    lr: _Rate = None,
    lr_fraction: Annotated[float, typer.Option(help="Its fraction of the smallest stability limit.")] = 0.25,
    friction: Annotated[
        float | None, typer.Option(help="Friction b of heavy ball; critical by default.")
    ] = None,
    r: Annotated[float, typer.Option(help="Friction r/t of Nesterov's method.")] = 3.0,
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    hm_regime: Annotated[str, typer.Option(help="Limit of hm: fixed, or inertial (third order).")] = "fixed",
    weight_decay: _Decay = None,
    decoupled: _Decoupled = False,
    to_start: _ToStart = False,
    average: _Average = None,
    layers: _Layers = "first",
    data: _Data = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    allow_unstable: Annotated[bool, typer.Option(help="Run above the stability limit.")] = False,
    strict: _Strict = False,
    out: Annotated[Path, typer.Option(help="Folder for check.json, curves.npz, check.png.")] = Path(
        "odeopt-check"
    ),
    json: _Json = False,
) -> None:
    """Train networks and compare their loss with the ODE, the iteration and the infinite-width limit."""
    decay = decay_from_text(weight_decay, decoupled, to_start, steps)
    kept_names = with_decay(CHECK_METHODS, decay)
    names = chosen_names(methods, rule, ",".join(kept_names))
    if names or not rule:
        method_names(names, CHECK_METHODS)
    if methods is None and not rule and (left := sorted({*CHECK_METHODS} - {*kept_names})):
        typer.echo(f"odeopt: {', '.join(left)} is left out, for it has no weight decay", err=True)
    rules = rules_written(rule or (), steps)
    rate = None if lr is None else number_or_schedule(lr, "lr", steps)
    chosen: dict[str, Any] = {
        "width": width, "seeds": seeds, "num_steps": steps, "lr": rate, "lr_fraction": lr_fraction,
        "friction": friction, "r": r, "momenta": _numbers(momenta, "momenta"), "hm_regime": hm_regime,
        "layers": layers, "device": device, "dtype": dtype, "allow_unstable": allow_unstable,
        "average": average_from_text(average, steps), **decay,
    }  # fmt: skip
    settings = CheckSettings(**chosen)
    x, y = _load(data, n)

    def kept(done: dict[str, int]) -> str:
        return f"nothing of this run was kept, {out} is as it was; the same command begins anew"

    with LongRun("step").kept(kept) as progress, OutputFolder(out) as folder:
        report = check(x, y, methods=[*names, *rules], settings=settings, strict=strict, progress=progress)
        _print_and_save(report, folder, json, print_check)


def _print_and_save(found: Any, folder: OutputFolder | None, json: bool, show: Callable[..., None]) -> None:
    """Save, then print; what cannot be saved is printed all the same, before the refusal."""

    def shown(saved: Path | None) -> None:
        if json:
            typer.echo(json_text(found.to_dict()), nl=False)
        else:
            show(found, saved)

    if folder is None:
        shown(None)
        return
    try:
        saved = found.save(folder)
    except ValueError:
        shown(None)
        raise
    shown(saved)


@app.command("derive")
def derive_command(
    method: Annotated[str, typer.Argument(help="A method's class (HeavyBall, Adam, ...) or short name, gd.")],
    hyperparameters: Annotated[
        list[str] | None, typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9 momenta=0.2,0.5.")
    ] = None,
    resolution: Annotated[int, typer.Option(help="Orders of the time step beyond the limit.")] = 0,
    regime: Annotated[str, typer.Option(help="natural, fixed or inertial.")] = "natural",
    steps: Annotated[bool, typer.Option(help="Print the derivation as LaTeX.")] = False,
    json: _Json = False,
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
    typer.echo(f"{found['rule']}\n{found['equation']}")
    typer.echo(f"t = (k + {found['time_origin']:g}) * {found['time_step']:.6g}")
    for step in getattr(limit, "steps", ()) if steps else ():
        typer.echo(step.latex())


@app.command("certify")
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
    iteration: Annotated[bool, typer.Option(help="Certify the method itself, not its ODE.")] = False,
    latex: Annotated[bool, typer.Option(help="Print statement and proof as LaTeX.")] = False,
    verify: Annotated[
        Path | None, typer.Option(help="Only verify the certificate in a file, as --json printed it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
) -> None:
    """Find a rate of convergence and prove it exactly, or verify a given proof."""
    from odeopt.cli import certificate as report
    from odeopt.limits.ode import ode_limit
    from odeopt.proofs.certify import certify

    if verify is not None:
        found = report.read_certificate(verify)
    else:
        problem: Any
        if method is None:
            problem = report.flow_from_text(friction, r)
        elif friction is None and r is None:
            rule = rule_named(method, hyperparameters or [])
            problem = rule if iteration else ode_limit(rule)
        else:
            raise ValueError(f"name one of: the method {method}, --friction b, --r r")
        texts = {"mu": mu, "L": smoothness, "rate": rate}
        numbers: dict[str, Any] = {name: report.exact_from_text(text, name) for name, text in texts.items()}
        found = certify(problem, **numbers)
    if json or latex:
        typer.echo(found.to_json() if json else found.latex())
    elif not report.print_certificate(found):
        raise typer.Exit(1)


@app.command("predict")
def predict_command(
    data: Annotated[Path, typer.Argument(help="An .npz file with x, shape (n, d), and y, shape (n,).")],
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, comma-separated: gd, hb, nag, nagc, tm; by default the first three."),
    ] = None,
    rule: _Rules = None,
    target: Annotated[float, typer.Option(help="Share of the initial loss to be reached.")] = 1e-3,
    matvecs: Annotated[int, typer.Option(help="Lanczos steps.")] = 300,
    n: Annotated[int, typer.Option(help="Rows used, 0 for all.")] = 0,
    layers: _Layers = "first",
    depth: Annotated[int, typer.Option(help="Hidden layers of the network.")] = 1,
    storage: Annotated[str, typer.Option(help="auto, float64, float32 or recompute.")] = "auto",
    device: Annotated[str, typer.Option(help="torch device for the kernel; without one, numpy.")] = "",
    best_at: Annotated[
        int | None, typer.Option(help="Tune for so many steps, not for the asymptotic rate.")
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Steps over which schedules go, where --best-at has none.")
    ] = 1000,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Learning rate or schedule to keep, as of check; with --best-at a schedule, as cosine:1, "
            "whose best peak is found. By default tuned."
        ),
    ] = None,
    weight_decay: _Decay = None,
    decoupled: _Decoupled = False,
    to_start: _ToStart = False,
    average: _Average = None,
    max_steps: Annotated[int, typer.Option(help="Where the search for the target ends.")] = 100_000,
    strict: _Strict = False,
    state: Annotated[
        Path | None, typer.Option(help="File (.npz) from which an interrupted run is continued.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for forecast.json, forecast.npz and forecast.png.")
    ] = None,
    json: _Json = False,
) -> None:
    """Predict learning-rate limits, tuned hyperparameters and steps to a target, before any training."""
    length = require_integer("steps", steps, 1) if best_at is None else best_at
    names = chosen_names(methods, rule, "gd,hb,nag")
    options: dict[str, Any] = {
        "methods": [*names, *rules_written(rule or (), length)], "target": target, "num_matvecs": matvecs,
        "layers": layers, "depth": depth, "storage": storage, "device": device or None, "best_at": best_at,
        "max_steps": max_steps, "strict": strict, "state": state, **rate_of_forecast(lr, best_at, length),
        "average": average_from_text(average, length),
        **decay_from_text(weight_decay, decoupled, to_start, length),
    }  # fmt: skip
    x, y = _load(data, n)

    def kept(done: dict[str, int]) -> str:
        if state is None:
            return "nothing was kept; with --state FILE an interrupted run goes on where it was"
        steps = done.get("lanczos", 0)
        return f"Lanczos steps up to {steps} are kept in {state}; the same command goes on from there"

    with LongRun("row").kept(kept) as progress, OutputFolder(out) if out else nullcontext() as folder:
        found = forecast(
            x, y, progress=progress, on_plan=lambda plan: typer.echo(f"Memory: {plan}", err=True), **options
        )
        _print_and_save(found, folder, json, print_forecast)


@app.command("sweep")
def sweep_command(
    study: Annotated[str, typer.Option(help="In place of a sweep of your own: paper.")] = "",
    methods: _Methods = None,
    rule: _Rules = None,
    widths: Annotated[str, typer.Option(help="Widths, comma-separated.")] = "256,1024,4096",
    seeds: Annotated[int, typer.Option(help="Number of networks for each width.")] = 3,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 500,
    lr: Annotated[str, typer.Option(help="Learning rates or schedules of them, comma-separated.")] = "0.05",
    momentum: Annotated[str, typer.Option(help="Momenta of hb, numbers or schedules.")] = "0.9",
    r: Annotated[str, typer.Option(help="Frictions r/t of nag.")] = "3",
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    weight_decay: _Decay = None,
    decoupled: _Decoupled = False,
    to_start: _ToStart = False,
    average: _Average = None,
    layers: _Layers = "first",
    n: Annotated[int, typer.Option(help="Number of examples; 0 for all.")] = 60,
    data: _Data = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 for one on each core.")] = 0,
    retry_failed: Annotated[bool, typer.Option(help="Run again what failed before.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the results; continued if it has some.")] = Path(
        "odeopt-sweep"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print the index instead of a table.")] = False,
) -> None:
    """Train many networks, each beside its linear prediction; interrupted, the same command continues."""
    if study not in ("", "paper"):
        raise ValueError(f"study must be 'paper', got {study!r}; leave it out for a sweep of your own")
    x, y = _load(data, n)

    with LongRun("run").kept(lambda done: f"the same command goes on with what is in {out}") as progress:
        if study == "paper":
            results = run_study(x, y, out, digits=data is None, workers=workers or None, progress=progress)
        else:
            grid: dict[str, Any] = {name: rates_from_text(text, name, steps) for name, text in
                    (("lr", lr), ("momentum", momentum), ("r", r), ("momenta", momenta))}  # fmt: skip
            grid |= decay_from_text(weight_decay, decoupled, to_start, steps)
            grid["average"] = average_from_text(average, steps)
            rules = rules_of_sweep(chosen_names(methods, rule, "gd,hb,nag"), rule or [], grid, steps)
            results = run_sweep(
                x, y, out, rules, steps, widths=_integers(widths, "widths"),
                seeds=range(require_integer("seeds", seeds, 1)), layers=layers, workers=workers or None,
                retry_failed=retry_failed, progress=progress,
            )  # fmt: skip
    if json:
        typer.echo((out / "index.jsonl").read_text(), nl=False)
    else:
        print_sweep(results)
    if len(results.failures) == len(results.entries):
        raise typer.Exit(1)


def _load(data: Path | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if data is None:
        return load_digits(n or None)
    x, y = load_npz(data)
    return (x[:n], y[:n]) if n else (x, y)


def main() -> None:
    """Run the command line; a refusal is one line on stderr and exit status 2."""
    try:
        app()
    except OSError as error:
        _refuse(f"a file could not be read or written ({error}); those of earlier runs are as they were")
    except (ValueError, ImportError, RuntimeError, MemoryError) as error:
        _refuse(str(error) or type(error).__name__)


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"odeopt: {' '.join(reason.split())}", err=True)
    raise SystemExit(2) from None
