r"""The table of ``odeopt predict --loss softmax``."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from odeopt.studies.forecast_classes import ClassForecast

__all__ = ["print_classes"]


def print_classes(found: ClassForecast, folder: Path | None) -> None:
    """Print where each method ends and where it would best stop, and where the files are."""
    console = Console()
    console.print(
        f"n = {found.n}, d = {found.d}, {len(found.classes)} classes; largest eigenvalue of the kernel below "
        f"{found.L:.5g}: gradient descent descends below lr = {found.safe_lr:.4g}",
        highlight=False,
        soft_wrap=True,
    )
    steps = found.methods[0].training.k[-1]
    where = f", and on {found.p} test examples" if found.p else ""
    table = Table(
        title=f"Cross-entropy an example{where}, accuracy; {steps} steps",
        caption="Predicted for infinite width.",
    )
    test = ("test:\nbest step", "there", "in\nthe end") if found.p else ()
    for column in ("method and rule", "training:\nin the end", *test):
        table.add_column(column, overflow="fold")
    for m in found.methods:
        named = m.rule.label if m.name in m.rule.label else f"{m.name}: {m.rule.label}"
        training = m.training.to_dict()["last"]
        cells = [named, _cell(training, found.n)]
        if m.test is not None:
            tested = m.test.to_dict()
            cells += [str(tested["best"]["step"]), *(_cell(tested[at], found.p) for at in ("best", "last"))]
        table.add_row(*cells)
    console.print(table)
    falling = [m.name for m in found.methods if m.test is not None and m.test.to_dict()["still_falling"]]
    if falling:
        console.print(f"{', '.join(falling)}: the last step is the best one; more --steps go further")
    if found.overlap:
        console.print(found.overlap, style="yellow", highlight=False, soft_wrap=True)
    if folder is not None:
        console.print(f"Written to {os.fspath(folder)}: forecast.json, forecast.npz", soft_wrap=True)


def _cell(at: dict[str, float], size: int) -> str:
    return f"{at['loss'] / size:.4g}, {at['accuracy']:.2%}"
