"""What ``odeopt sweep`` does and prints, apart from its options."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from odeopt.checks import class_note
from odeopt.cli.printed import say
from odeopt.data import prepare
from odeopt.plot.files import KINDS
from odeopt.rules.base import UpdateRule
from odeopt.studies.files import OutputFolder, pictures_of

if TYPE_CHECKING:
    from odeopt.nets.sweeps.jobs import JobResults

__all__ = ["print_sweep", "run_study", "run_sweep", "sweep_json"]


def run_sweep(
    x: np.ndarray, y: np.ndarray, folder: Path, rules: Sequence[UpdateRule], num_steps: int, *,
    classes: bool, kinds: Sequence[str], **options: Any,
) -> JobResults:  # fmt: skip
    """Run a sweep of one's own and draw it; see :func:`odeopt.nets.sweep` for the options."""
    from odeopt import nets

    if not classes and (note := class_note(np.asarray(y))):
        say(f"odeopt: y {note} (--classes)", err=True)
    data = prepare(x, y, targets="classes" if classes else "regression", allow_singular=True)
    results = nets.sweep(rules, data.x, data.y, num_steps, folder, **options)
    if len(results.failures) < len(results.entries):
        _draw(nets.sweep_figure(results), "sweep", folder, kinds)
    return results


def _draw(figure: Any, name: str, folder: Path, kinds: Sequence[str]) -> None:
    stale = [f"{name}.{kind}" for kind in KINDS if kind not in kinds]
    with OutputFolder(folder) as held:
        held.replace(pictures_of(figure, name, kinds), stale)


def run_study(
    x: np.ndarray, y: np.ndarray, folder: Path, *, digits: bool, kinds: Sequence[str], **options: Any
) -> JobResults:
    """Run the paper's study and draw its figures, ``paper.png``."""
    from odeopt import nets

    squared_norm = nets.DIGITS_SQUARED_NORM if digits else None
    results = nets.paper_study(x, y, folder, squared_norm=squared_norm, **options)
    _draw(nets.paper_figures(results), "paper", folder, kinds)
    return results


def sweep_json(results: JobResults) -> dict[str, Any]:
    """What was done, what failed and why, and the index of all runs, as plain JSON types."""
    from odeopt import nets

    return {
        "version": importlib.metadata.version("odeopt"),
        "folder": os.fspath(results.folder),
        "done": len(results.entries) - len(results.failures),
        "reused": results.reused,
        "failed": len(results.failures),
        "set_aside": list(results.set_aside),
        "unstable": list(nets.unstable_runs(results)),
        "runs": list(results.entries),
    }


def print_sweep(results: JobResults, pictures: Sequence[str]) -> None:
    """Print what was done, what failed and why, which runs began above a stability limit, and the files."""
    from odeopt import nets

    done = len(results.entries) - len(results.failures)
    say(f"{done} runs done, {results.reused} of all there before; {len(results.failures)} failed")
    for name in results.set_aside:
        say(f"{name} was damaged and is kept as {name}.damaged; its run was done again", hang=4)
    for entry in results.failures:
        say(f"{entry['key']}: {entry['reason']}", hang=4, colour="red")
    for line in nets.unstable_runs(results):
        say(line, hang=4, colour="yellow")
    for row in nets.power_slopes(results):
        numbers = ", ".join(f"{name} {value:.2f}" for name, value in row.items())
        say(f"log-log slope of Nesterov: {numbers}", hang=4)
    say(f"Written to {os.fspath(results.folder)}: {', '.join(['runs', *(pictures if done else ())])}")
