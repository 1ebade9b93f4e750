"""What ``odeopt sweep`` does and prints, apart from its options."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from odeopt.data import prepare

__all__ = ["print_sweep", "run_study", "run_sweep"]


def run_sweep(x, y, folder: Path, grid: dict, num_steps: int, **options):
    """Run a sweep of one's own under a progress bar; see :func:`odeopt.nets.sweep` for the options."""
    from odeopt import nets
    from odeopt.rules import named_rules

    data = prepare(x, y)
    chosen = named_rules(**grid)
    with _bar() as advance:
        return nets.sweep(chosen, data.x, data.y, num_steps, folder, progress=advance, **options)


def run_study(x, y, folder: Path, *, digits: bool, workers: int | None):
    """Run the paper's study under a progress bar and draw its figures, ``paper.png``."""
    from odeopt import nets

    squared_norm = nets.DIGITS_SQUARED_NORM if digits else None
    with _bar() as advance:
        results = nets.paper_study(x, y, folder, squared_norm=squared_norm, workers=workers, progress=advance)
    nets.paper_figures(results).savefig(folder / "paper.png", dpi=150)
    return results


def print_sweep(results) -> None:
    """Print what was done, what failed and why, and which runs began above a stability limit."""
    from odeopt import nets

    console = Console()
    done = len(results.entries) - len(results.failures)
    console.print(f"{done} runs done, {results.reused} of all there before; {len(results.failures)} failed")
    for entry in results.failures:
        console.print(f"{entry['key']}: {entry['reason']}", style="red", highlight=False, soft_wrap=True)
    for line in nets.unstable_runs(results):
        console.print(line, style="yellow", highlight=False, soft_wrap=True)
    for row in nets.power_slopes(results):
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in row.items())
        console.print(f"log-log slope of Nesterov: {numbers}", highlight=False, soft_wrap=True)
    console.print(f"Written to {os.fspath(results.folder)}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _bar() -> Iterator:
    from tqdm import tqdm

    with tqdm(unit="run", file=sys.stderr, leave=False) as bar:

        def advance(stage: str, done: int, total: int) -> None:
            if bar.total is None:  # what was there already took no time, and must not enter the time left
                bar.reset(total)
                bar.initial = bar.n = bar.last_print_n = done
                bar.refresh()
            else:
                bar.update()

        yield advance
