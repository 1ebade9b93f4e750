"""The command ``odeopt``: thin layers over the functions of the package."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from odeopt.check import CheckReport, CheckSettings, check, method_names
from odeopt.data import load_digits, load_npz
from odeopt.report import BUDGET_PARTS, writable_folder

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
        _print_report(report, folder)


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
    from odeopt.forecast import forecast

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


@contextlib.contextmanager
def _stage_bars(n: int, matvecs: int):
    """Yield a callback that shows the rows of the kernel, then the steps of Lanczos."""
    from tqdm import tqdm

    totals, shown = {"kernel": n, "lanczos": min(n, matvecs)}, [""]
    with tqdm(total=n, file=sys.stderr, leave=False, mininterval=0.2, disable=None) as bar:

        def advance(stage: str, done: int) -> None:
            if stage != shown[0]:
                shown[0] = stage
                bar.reset(totals[stage])
                bar.set_description(stage, refresh=False)
            bar.update(done - bar.n)

        yield advance


def _print_forecast(found, folder: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    how = "exact" if found.measure.exact else f"{found.measure.num_matvecs} Lanczos steps"
    console.print(
        f"n = {found.n}, d = {found.d}; spectrum seen by the error from {found.mu:.4g}, below {found.L:.5g} "
        f"({how}); initial loss {found.initial_loss:.5g}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(title=f"Steps to {found.target:g} of the initial loss")
    for column in ("method", "tuned rule", "learning-rate\nlimit", "steps [bounds]", "bounds"):
        table.add_column(column, overflow="fold")
    for m in found.methods:
        kind = "rigorous" if m.steps.rigorous else "estimated"
        table.add_row(m.name, m.rule.label, f"{m.lr_limit:.4g}", str(m.steps), kind)
    console.print(table)
    if folder is not None:
        console.print(
            f"Written to {os.fspath(folder)}: forecast.json, forecast.npz, forecast.png", soft_wrap=True
        )


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


def _print_report(report: CheckReport, folder: Path) -> None:
    from rich.console import Console

    console = Console()
    s, p = report.settings, report.problem
    console.print(
        f"n = {p['n']}, d = {p['d']}, width {s.width}, {s.seeds} seed(s), {s.num_steps} steps, "
        f"lr = {p['lr']:.4g}; eigenvalues of H_inf from {p['lambda_min_h_inf']:.4g} to "
        f"{p['lambda_max_h_inf']:.4g}",
        highlight=False,
    )
    console.print(_ode_table(report))
    console.print(_rate_table(report))
    console.print(_budget_table(report))
    for method in report.methods:
        if method.diverged_at is not None:
            console.print(f"{method.name}: left the finite numbers at step {method.diverged_at}", style="red")
    files = ", ".join(name for name in ("check.json", "curves.npz", "check.png") if (folder / name).exists())
    console.print(f"Written to {os.fspath(folder)}: {files}", highlight=False, soft_wrap=True)


def _ode_table(report: CheckReport):
    from rich.table import Table

    table = Table(title="ODE of the error, t = (k + origin) x time step")
    table.add_column("method and ODE", overflow="fold")
    table.add_column("time step", justify="right", no_wrap=True)
    table.add_column("origin", justify="right", no_wrap=True)
    for m in report.methods:
        method = f"{m.name}: {m.rule.label}\n    {m.error_ode}"
        table.add_row(method, f"{m.time_step:.4g}", f"{m.time_origin:g}")
    return table


def _rate_table(report: CheckReport):
    from rich.table import Table

    table = Table(
        title="Rate of the loss per unit of time; fitted: 95 % interval",
        caption="A fit describes the range that was run; exact rates hold once the slowest mode is left.",
    )
    table.add_column("method", no_wrap=True)
    for column in ("ODE\nexact", "iteration\nexact", "ODE\nfitted", "network\nfitted"):
        table.add_column(column, no_wrap=True)

    def fitted(rate) -> str:
        return "-" if rate is None else f"{rate.formula}\n[{rate.low:.3g}, {rate.high:.3g}]"

    for m in report.methods:
        exact = (m.exact_ode.formula, m.exact_discrete.formula)
        table.add_row(m.name, *exact, fitted(m.fitted_ode), fitted(m.fitted_trained))
    return table


def _budget_table(report: CheckReport):
    from rich.table import Table

    table = Table(title="Error budget: largest |difference of the loss| / initial loss")
    table.add_column("method", no_wrap=True)
    for part in BUDGET_PARTS:
        table.add_column(part.replace(" - ", "\n- "), justify="right", no_wrap=True)
    table.add_column("solve_ivp -\nclosed form", justify="right", no_wrap=True)
    table.add_column("drift\nof H", justify="right", no_wrap=True)
    table.caption = "; ".join(f"{part}: {meaning}" for part, meaning in BUDGET_PARTS.items())
    for m in report.methods:
        parts = [f"{m.budget[part]:.1e}" for part in BUDGET_PARTS]
        table.add_row(m.name, *parts, f"{m.integration_error:.1e}", f"{m.kernel_drift:.1%}")
    return table


def main() -> None:
    """Run the command line; a refusal is one line on stderr and exit status 2."""
    try:
        app()
    except (ValueError, ImportError) as error:
        typer.echo(f"odeopt: {' '.join(str(error).split())}", err=True)
        raise SystemExit(2) from None
