"""Options that several commands take, each written once, and what is done with all data and results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from odeopt.cli.printed import say
from odeopt.data import load_digits
from odeopt.plot.files import require_kinds
from odeopt.studies.files import OutputFolder, Saved, file_names, json_text
from odeopt.studies.page import require_page
from odeopt.studies.sources import Examples, examples_of

__all__ = [
    "AverageOption", "ClassesOption", "ColumnOption", "DataOption", "DecayOption", "DecoupledOption",
    "JsonOption", "LayersOption", "MethodsOption", "PicturesOption", "RateOption", "RulesOption",
    "StrictOption", "TestOption", "ToStartOption", "held_out", "kinds_of", "load_rows", "print_and_save",
    "require_report", "save_page",
]  # fmt: skip

DataOption = Annotated[
    Path | None,
    typer.Option(
        help="An .npz file with x and y or a .csv with a header, in place of scikit-learn's digits."
    ),
]
ColumnOption = Annotated[
    str | None, typer.Option(help="Column of a .csv file that holds the targets; by default y.")
]
ClassesOption = Annotated[
    bool, typer.Option("--classes", help="Targets are class labels: one output for each class.")
]
LayersOption = Annotated[str, typer.Option(help="Trained layers: first or both.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Refuse rows that make the kernel singular.")]
MethodsOption = Annotated[
    str | None, typer.Option(help="Methods, comma-separated: gd, hb, nag, hm; by default all (sweep: three).")
]
RateOption = Annotated[
    str | None,
    typer.Option(
        help="Learning rate, or a schedule as cosine:0.1 (forms below); by default from the stability limit."
    ),
]
RulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        help='A rule of any class, or of one\'s own file, as "Adam lr=0.01" or "my.py:MyRule lr=cosine:0.1"; '
        "may be repeated. Without --methods these alone are run.",
    ),
]
# Like the learning rate, these three are of the methods that are named: a rule has its own.
DecayOption = Annotated[str | None, typer.Option(help="Weight decay, a number or a schedule.")]
DecoupledOption = Annotated[
    bool, typer.Option("--decoupled", help="Decay the weights, not through the gradient.")
]
ToStartOption = Annotated[
    bool, typer.Option("--to-start", help="Decay to the weights at the start, not to 0.")
]
AverageOption = Annotated[
    str | None, typer.Option(help="Averaged output: polyak, or the decay of an exponential average, as 0.99.")
]
PicturesOption = Annotated[
    str, typer.Option(help="Kinds of the picture that is saved: png,pdf,svg or some of them.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


TestOption = Annotated[
    str | None,
    typer.Option(
        help="A file of examples that are not trained on, or the share of these that is held out, as 0.2: "
        "the loss on them is predicted too, and where to stop."
    ),
]


def load_rows(data: Path | None, n: int, column: str | None = None) -> Examples:
    """The first rows of a file, or of the digits."""
    if n < 0:
        raise ValueError(f"n must not be negative, got {n}")
    if column is not None and (data is None or data.suffix.lower() != ".csv"):
        raise ValueError(f"--column {column} is one of a .csv file, and {data or 'none'} is given; name one")
    if data is None:
        return Examples(*load_digits(n or None))
    found = examples_of(data, column)
    if uneven := found.uneven:
        say(f"odeopt: {uneven}", err=True)
    return found[:n] if n else found


def held_out(test: str | None, column: str | None) -> Any:
    """The share of the rows, or a file and its column."""
    try:
        return None if test is None else float(test)
    except ValueError:
        return test, column


def require_report(path: Path | None) -> None:
    """Raise where a page asked for could not be made or written, before anything is computed."""
    if path is None:
        return
    require_page()
    if not path.parent.is_dir():
        raise ValueError(f"--report {path}: there is no folder {path.parent}")


def save_page(found: Any, path: Path | None) -> None:
    """Write the page of a report, with the command that makes it again."""
    if path is not None:
        path.write_text(found.to_html(shlex.join(["odeopt", *sys.argv[1:]])), encoding="utf-8")


def kinds_of(pictures: str) -> tuple[str, ...]:
    """The kinds of files in which a picture is asked for."""
    return require_kinds(pictures.replace(" ", "").split(","))


def print_and_save(
    found: Saved,
    folder: OutputFolder | None,
    json: bool,
    show: Callable[[Any], None],
    pictures: Sequence[str],
) -> None:
    """Save, then print; what cannot be saved is printed all the same, before the refusal."""

    def shown(saved: Path | None) -> None:
        if json:
            typer.echo(json_text(found.to_dict()), nl=False)
        else:
            show(found)
            if saved is not None:
                say(f"Written to {saved}: {', '.join(file_names(found, pictures))}")

    if folder is None:
        shown(None)
        return
    try:
        saved = found.save(folder, pictures)
    except ValueError:
        shown(None)
        raise
    shown(saved)
