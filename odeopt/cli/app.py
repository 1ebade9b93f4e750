"""The command ``odeopt``: thin layers over the functions of the package."""

from __future__ import annotations

import dataclasses
import difflib
import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from odeopt.cli.check_table import print_check
from odeopt.cli.forecast_table import _print_forecast, _stage_bars
from odeopt.cli.sweep import print_sweep, run_study, run_sweep
from odeopt.data import load_digits, load_npz
from odeopt.rules.base import UpdateRule
from odeopt.studies.check import check, method_names
from odeopt.studies.check_report import CheckReport, CheckSettings, writable_folder

__all__ = ["main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From an update rule to its ODE, its rate, and the loss curve of a wide ReLU network.",
)


@app.callback()
def _root() -> None:
    """Keep the subcommands explicit while there is only one."""


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{name} must be numbers separated by commas, got {text!r}") from error


@app.command("check")
def check_command(
    methods: Annotated[str, typer.Option(help="Methods, comma-separated: gd, hb, nag, hm.")] = "gd,hb,nag,hm",
    n: Annotated[int, typer.Option(help="Number of digits; with --data the rows used, 0 for all.")] = 60,
    width: Annotated[int, typer.Option(help="Width of the trained network.")] = 4096,
    seeds: Annotated[int, typer.Option(help="Number of networks.")] = 2,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 1000,
    lr: Annotated[
        Optional[float],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Option(help="Learning rate; by default a fraction of the smallest stability limit."),
    ] = None,
    lr_fraction: Annotated[float, typer.Option(help="That fraction.")] = 0.25,
    friction: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Friction b of heavy ball; critical by default."),
    ] = None,
    r: Annotated[float, typer.Option(help="Friction r/t of Nesterov's method.")] = 3.0,
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    hm_regime: Annotated[str, typer.Option(help="Limit of hm: fixed, or inertial (third order).")] = "fixed",
    layers: Annotated[str, typer.Option(help="Trained layers: first or both.")] = "first",
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="An .npz file with x and y, in place of scikit-learn's digits."),
    ] = None,
    device: Annotated[str, typer.Option(help="torch device.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    allow_unstable: Annotated[bool, typer.Option(help="Run above the stability limit.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for check.json, curves.npz and check.png.")] = Path(
        "odeopt-check"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print check.json instead of tables.")] = False,
) -> None:
    """Train networks and compare their loss with the ODE, the iteration and the infinite-width limit."""
    names = method_names([name.strip() for name in methods.split(",") if name.strip()])
    settings = CheckSettings(
        width=width,
        seeds=seeds,
        num_steps=steps,
        lr=lr,
        lr_fraction=lr_fraction,
        friction=friction,
        r=r,
        momenta=_numbers(momenta, "momenta"),
        hm_regime=hm_regime,
        layers=layers,
        device=device,
        dtype=dtype,
        allow_unstable=allow_unstable,
    )
    x, y = _load(data, n)
    folder = writable_folder(out)
    report = _with_progress(x, y, names, settings)
    report.save(folder)
    if json:
        typer.echo((folder / "check.json").read_text(), nl=False)
    else:
        print_check(report, folder)


@app.command("derive")
def derive_command(
    method: Annotated[str, typer.Argument(help="A method's class: HeavyBall, Nesterov, Adam, ...")],
    hyperparameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9 momenta=0.2,0.5."),
    ] = None,
    resolution: Annotated[int, typer.Option(help="Orders of the time step beyond the limit.")] = 0,
    regime: Annotated[str, typer.Option(help="natural, fixed or inertial.")] = "natural",
    steps: Annotated[bool, typer.Option(help="Print the derivation as LaTeX.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Derive the ODE of a method from the code of its step."""
    from odeopt.limits.ode import ode_limit

    rule = rule_named(method, hyperparameters or [])
    limit = ode_limit(rule, resolution=resolution, regime=regime)
    found = {
        "rule": rule.label,
        "equation": str(limit),
        "latex": limit.latex(),
        "time_step": float(limit.time_step),
        "time_origin": float(getattr(limit, "time_origin", 0)),
        "initial": [str(e) for e in getattr(limit, "initial", ())],
    }
    if json:
        typer.echo(json_module.dumps(found, indent=2))
        return
    typer.echo(f"{found['rule']}\n{found['equation']}")
    typer.echo(f"t = (k + {found['time_origin']:g}) * {found['time_step']:.6g}")
    for step in getattr(limit, "steps", ()) if steps else ():
        typer.echo(step.latex())


def rule_named(name: str, hyperparameters: list[str]) -> UpdateRule:
    """Build a rule from its class name and numbers written as name=value.

    Parameters
    ----------
    name : str
        A class of the front door.
    hyperparameters : list of str
        ``"lr=0.01"``; commas make a tuple, ``true`` and ``false`` set switches.

    Returns
    -------
    UpdateRule

    Raises
    ------
    ValueError
        On an unknown class (the nearest is suggested), an unknown name or a value that is no number.

    Examples
    --------
    >>> rule_named("HigherMomentum", ["lr=0.1", "momenta=0.2,0.5"])
    HigherMomentum(lr=0.1, momenta=(0.2, 0.5))
    """
    import odeopt

    found = {n: getattr(odeopt, n) for n in odeopt.__all__}
    rules = {n: c for n, c in found.items() if isinstance(c, type) and issubclass(c, UpdateRule)}
    rules.pop("UpdateRule")
    if name not in rules:
        near = difflib.get_close_matches(name, rules, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]}?" if near else ";"
        raise ValueError(f"unknown method {name!r}{hint} Known are {', '.join(rules)}")
    values = {}
    for text in hyperparameters:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"hyperparameters are written name=value, got {text!r}")
        values[key] = value == "true" if value in ("true", "false") else _scalar_or_tuple(value, key)
    try:
        return rules[name](**values)
    except TypeError as error:
        known = ", ".join(f.name for f in dataclasses.fields(rules[name]))
        raise ValueError(f"{name} takes {known}: {error}") from error


def _scalar_or_tuple(text: str, name: str) -> float | tuple[float, ...]:
    numbers = _numbers(text, name)
    return numbers[0] if len(numbers) == 1 else numbers


@app.command("certify")
def certify_command(
    method: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(help="A method's class: HeavyBall, Nesterov, ...; none with --friction or --r."),
    ] = None,
    hyperparameters: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Its numbers, as lr=0.01 momentum=0.9."),
    ] = None,
    mu: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Strong convexity, as 0.1, 1/3 or sqrt(2); without it convex functions."),
    ] = None,
    smoothness: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--L", help="Smoothness; without it any."),
    ] = None,
    rate: Annotated[Optional[str], typer.Option(help="Rate to prove; else the best.")] = None,  # noqa: UP045
    friction: Annotated[Optional[str], typer.Option(help="b in x'' + b x' + grad f = 0.")] = None,  # noqa: UP045
    r: Annotated[Optional[str], typer.Option(help="Friction r/t.")] = None,  # noqa: UP045
    iteration: Annotated[bool, typer.Option(help="Certify the method itself, not its ODE.")] = False,
    latex: Annotated[bool, typer.Option(help="Print statement and proof as LaTeX.")] = False,
    verify: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Only verify the certificate in a file, as --json printed it."),
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
        if method is None:
            problem = report.flow_from_text(friction, r)
        elif friction is None and r is None:
            rule = rule_named(method, hyperparameters or [])
            problem = rule if iteration else ode_limit(rule)
        else:
            raise ValueError(f"name one of: the method {method}, --friction b, --r r")
        numbers = {"mu": mu, "L": smoothness, "rate": rate}
        found = certify(problem, **{k: report.exact_from_text(text, k) for k, text in numbers.items()})
    if json or latex:
        typer.echo(found.to_json() if json else found.latex())
    elif not report.print_certificate(found):
        raise typer.Exit(1)


@app.command("predict")
def predict_command(
    data: Annotated[Path, typer.Argument(help="An .npz file with x, shape (n, d), and y, shape (n,).")],
    methods: Annotated[
        str, typer.Option(help="Methods, comma-separated: gd, hb, nag, nagc, tm.")
    ] = "gd,hb,nag",
    target: Annotated[float, typer.Option(help="Share of the initial loss to be reached.")] = 1e-3,
    matvecs: Annotated[int, typer.Option(help="Lanczos steps.")] = 300,
    n: Annotated[int, typer.Option(help="Rows used, 0 for all.")] = 0,
    layers: Annotated[str, typer.Option(help="Trained layers: first or both.")] = "first",
    depth: Annotated[int, typer.Option(help="Hidden layers of the network.")] = 1,
    storage: Annotated[str, typer.Option(help="auto, float64, float32 or recompute.")] = "auto",
    device: Annotated[str, typer.Option(help="torch device for the kernel; without one, numpy.")] = "",
    best_at: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Tune for the loss after so many steps, not for the asymptotic rate."),
    ] = None,
    max_steps: Annotated[int, typer.Option(help="Where the search for the target ends.")] = 100_000,
    state: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="File (.npz) from which an interrupted run is continued."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for forecast.json, forecast.npz and forecast.png."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Predict learning-rate limits, tuned hyperparameters and steps to a target, before any training."""
    from odeopt.studies.forecast import forecast

    x, y = _load(data, n)
    folder = None if out is None else writable_folder(out)
    with _stage_bars(len(x), matvecs) as advance:
        found = forecast(
            x,
            y,
            methods=[name.strip() for name in methods.split(",") if name.strip()],
            target=target,
            num_matvecs=matvecs,
            layers=layers,
            depth=depth,
            storage=storage,
            device=device or None,
            best_at=best_at,
            max_steps=max_steps,
            state=state,
            progress=advance,
            on_plan=lambda plan: typer.echo(f"Memory: {plan}", err=True),
        )
    if folder is not None:
        found.save(folder)
    if json:
        typer.echo(json_module.dumps(found.summary(), indent=2))
    else:
        _print_forecast(found, folder)


@app.command("sweep")
def sweep_command(
    study: Annotated[str, typer.Option(help="In place of a sweep of your own: paper.")] = "",
    methods: Annotated[str, typer.Option(help="Methods, comma-separated: gd, hb, nag, hm.")] = "gd,hb,nag",
    widths: Annotated[str, typer.Option(help="Widths, comma-separated.")] = "256,1024,4096",
    seeds: Annotated[int, typer.Option(help="Number of networks for each width.")] = 3,
    steps: Annotated[int, typer.Option(help="Number of steps.")] = 500,
    lr: Annotated[str, typer.Option(help="Learning rates, comma-separated.")] = "0.05",
    momentum: Annotated[str, typer.Option(help="Momenta of hb.")] = "0.9",
    r: Annotated[str, typer.Option(help="Frictions r/t of nag.")] = "3",
    momenta: Annotated[str, typer.Option(help="Momenta of hm, comma-separated.")] = "0.2,0.5",
    layers: Annotated[str, typer.Option(help="Trained layers: first or both.")] = "first",
    n: Annotated[int, typer.Option(help="Number of examples; 0 for all.")] = 60,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="An .npz file with x and y, in place of scikit-learn's digits."),
    ] = None,
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
    if study == "paper":
        results = run_study(x, y, out, digits=data is None, workers=workers or None)
    else:
        names = method_names([name.strip() for name in methods.split(",") if name.strip()])
        grid = {name: _numbers(text, name) for name, text in
                (("lr", lr), ("momentum", momentum), ("r", r), ("momenta", momenta))}  # fmt: skip
        chosen = [int(width) for width in _numbers(widths, "widths")]
        results = run_sweep(
            x, y, out, {"names": names, **grid}, steps, widths=chosen, seeds=range(seeds), layers=layers,
            workers=workers or None, retry_failed=retry_failed,
        )  # fmt: skip
    if json:
        typer.echo((out / "index.jsonl").read_text(), nl=False)
    else:
        print_sweep(results)


def _load(data: Path | None, n: int):
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if data is None:
        return load_digits(n or None)
    x, y = load_npz(data)
    if n > len(x):
        n = len(x)
    return (x[:n], y[:n]) if n else (x, y)


def _with_progress(x, y, names, settings: CheckSettings) -> CheckReport:
    from tqdm import tqdm

    total = len(names) * settings.seeds * settings.num_steps
    with tqdm(total=total, unit="step", file=sys.stderr, leave=False, mininterval=0.2) as bar:

        def advance(name: str) -> None:
            if bar.desc != f"{name}: ":
                bar.set_description(name, refresh=False)
            bar.update()

        return check(x, y, methods=names, settings=settings, progress=advance)


def main() -> None:
    """Run the command line; a refusal is one line on stderr and exit status 2."""
    try:
        app()
    except (ValueError, ImportError, RuntimeError) as error:
        typer.echo(f"odeopt: {' '.join(str(error).split())}", err=True)
        raise SystemExit(2) from None
