r"""The table of ``odeopt predict``."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from odeopt.cli.check_table import singular_line
from odeopt.studies.forecast import Forecast

__all__ = ["print_forecast"]

_FOUND = 1e-4  # an enclosure of the largest eigenvalue this narrow, relative to it, is printed as a number


def print_forecast(found: Forecast, folder: Path | None) -> None:
    """Print the spectrum, the table of methods, and where the files are."""
    console = Console()
    how = "exact" if found.measure.exact else f"{found.measure.num_matvecs} Lanczos steps"
    low, high = found.largest
    largest = (
        f"{high:.5g}" if high - low <= _FOUND * high else f"between {low:.5g} and {high:.5g}, tuned for that"
    )
    console.print(
        f"n = {found.n}, d = {found.d}; spectrum seen by the error from {found.mu:.4g} ({how}), largest "
        f"eigenvalue of the kernel {largest}; initial loss {found.initial_loss:.5g}",
        highlight=False,
        soft_wrap=True,
    )
    if found.singular:
        line = singular_line(str(found.singular), found.singular.dimension, found.loss_floor)
        console.print(line, highlight=False, soft_wrap=True)
    table = Table(title=f"Steps to {found.target:g} of the initial loss")
    for column in ("method", "tuned rule", "learning-rate\nlimit", "steps [bounds]", "bounds"):
        table.add_column(column, overflow="fold")
    for m in found.methods:
        kind = "rigorous" if m.steps.rigorous else "estimated"
        table.add_row(m.name, m.rule.label, f"{m.lr_limit:.4g}", str(m.steps), kind)
    console.print(table)
    if folder is not None:
        files = "forecast.json, forecast.npz, forecast.png"
        console.print(f"Written to {os.fspath(folder)}: {files}", soft_wrap=True)
