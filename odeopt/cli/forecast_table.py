r"""The tables and bars of ``odeopt predict``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

__all__ = []


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
