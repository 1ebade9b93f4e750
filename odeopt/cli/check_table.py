"""Tables of results for the terminal, 80 columns wide."""

from __future__ import annotations

from rich.table import Table

from odeopt.checks import is_number
from odeopt.cli.printed import called, console, say
from odeopt.rates.rate import Rate
from odeopt.spectra.errors import WHOLE_PARTS
from odeopt.studies.check_report import CheckReport
from odeopt.studies.tested import TEST_CAPTION, TEST_COLUMNS, shown_on_test, title_on_test

__all__ = ["print_check", "singular_line"]

# What is said to be missing in a check, and how.
_MISSING = {
    "weight_ode": "no ODE",
    "error_ode": "trained without linear ODE",
    "discrete_h0": "trained without linear prediction",
    "exact_discrete": "no rate of the iteration",
}


def print_check(report: CheckReport) -> None:
    """Print the ODEs, the rates and the error budget of a check."""
    s, p = report.settings, report.problem
    lr = f"lr = {p['lr']:.4g}; " if is_number(p["lr"]) else ""
    outputs = f"{p['outputs']} outputs, " if p["outputs"] > 1 else ""
    say(
        f"n = {p['n']}, d = {p['d']}, {outputs}width {s.width}, {s.seeds} seed(s), {s.num_steps} steps, "
        f"{lr}eigenvalues of H_inf from {p['lambda_min_h_inf']:.4g} to {p['lambda_max_h_inf']:.4g}"
    )
    if p["null_dimension"]:
        say(singular_line(p["singular_part"], p["null_dimension"], p["loss_floor"]))
    if max(p["null_dimension_h0"]) > p["null_dimension"] * p["outputs"]:
        say(
            f"H(0) has up to {max(p['null_dimension_h0'])} zero eigenvalues: the networks are too narrow to "
            "tell all rows apart; its rates are those of the rest."
        )
    console().print(_ode_table(report))
    console().print(_rate_table(report))
    console().print(_budget_table(report))
    if p["test"]:
        console().print(_test_table(report))
        if p["test"]["note"]:
            say(p["test"]["note"], colour="yellow")
    if p["target_note"]:
        say(f"y {p['target_note']} (--classes)", colour="yellow")
    names = called(report.methods)
    for method in report.methods:
        name = names[method.name]
        if method.accuracy:
            told = {"trained": "trained networks", "discrete_h0": "iteration on H(0)"}
            shares = ", ".join(f"{told[key]} {share:.2%}" for key, share in method.accuracy.items())
            say(f"{name}: accuracy after {s.num_steps} steps: {shares}", hang=4)
        if method.diverged_at is not None:
            say(f"{name}: left the finite numbers at step {method.diverged_at}", colour="red")
        for missing, reason in method.notes.items():
            if missing in _MISSING:
                why = reason.removeprefix("not available: ")
                say(f"{name}: {_MISSING[missing]}: {why}", hang=4)


def singular_line(part: str, dimension: int, floor: float) -> str:
    """Say what in the data makes the kernel singular, and what of the loss therefore stays."""
    return (
        f"Singular kernel, {dimension} zero eigenvalue(s): {part}. No network without biases brings the loss "
        f"below {floor:.5g}; other eigenvalues and rates are those of the rest."
    )


def _ode_table(report: CheckReport) -> Table:
    table = Table(title="ODE of the error, t = (k + origin) x time step")
    if any(m.times_fewest is not None for m in report.methods):
        table.caption = (
            "times fewest: gradients of the run over the fewest with which a method that follows them from "
            "this start, and knows every eigenvalue of H(0), gets as low; exact on H(0) but for rounding"
        )
    table.add_column("method and ODE", overflow="fold")
    table.add_column("time step", justify="right", no_wrap=True)
    table.add_column("origin", justify="right", no_wrap=True)
    table.add_column("times\nfewest", justify="right", no_wrap=True)
    names = called(report.methods)
    for m in report.methods:
        method = f"{names[m.name]}: {m.rule.label}\n    {m.error_ode or m.weight_ode or 'none'}"
        step, times = ("-" if v is None else f"{v:.4g}" for v in (m.time_step, m.times_fewest))
        table.add_row(method, step, f"{m.time_origin:g}", times)
    return table


def _rate_table(report: CheckReport) -> Table:
    table = Table(
        title="Rate of the loss per unit of time; fitted: 95 % interval",
        caption="A fit describes the range that was run; exact rates hold once the slowest mode is left.",
    )
    table.add_column("method", overflow="fold")
    for column in ("ODE\nexact", "iteration\nexact", "ODE\nfitted", "network\nfitted"):
        table.add_column(column, overflow="fold")

    def fitted(rate: Rate | None) -> str:
        return "-" if rate is None else f"{rate.formula}\n[{rate.low:.3g}, {rate.high:.3g}]"

    names = called(report.methods)
    for m in report.methods:
        exact = ("-" if rate is None else rate.formula for rate in (m.exact_ode, m.exact_discrete))
        table.add_row(names[m.name], *exact, fitted(m.fitted_ode), fitted(m.fitted_trained))
    return table


def _budget_table(report: CheckReport) -> Table:
    table = Table(title="Error budget: largest |difference of the loss| / initial loss")
    table.add_column("method", overflow="fold")
    for part in WHOLE_PARTS:
        table.add_column(
            part.name.replace(" - ", "\n- ").replace(" H", "\n  H"), justify="right", no_wrap=True
        )
    table.add_column("solve_ivp -\nclosed form", justify="right", no_wrap=True)
    table.add_column("drift\nof H", justify="right", no_wrap=True)
    table.caption = "; ".join(f"{part.name}: {part.meaning}" for part in WHOLE_PARTS)
    names = called(report.methods)
    for m in report.methods:
        sizes = [*(m.budget.get(part.name) for part in WHOLE_PARTS), m.integration_error]
        shown = ("-" if size is None else f"{size:.1e}" for size in sizes)
        table.add_row(names[m.name], *shown, f"{m.kernel_drift:.1%}")
    return table


def _test_table(report: CheckReport) -> Table:
    """Loss on the test set, trained and predicted, and the accuracy under it where there are classes."""
    table = Table(title=title_on_test(report.problem["test"]), caption=TEST_CAPTION)
    table.add_column("method", overflow="fold")
    for column in TEST_COLUMNS:
        table.add_column(column.replace(" ", "\n"), justify="right")
    names = called(report.methods)
    for m in report.methods:
        table.add_row(names[m.name], *("\n".join(cell) for cell in shown_on_test(m.test or {})))
    return table
