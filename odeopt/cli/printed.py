"""Lines for the terminal: wrapped at its width, 80 columns where there is none."""

from __future__ import annotations

import shutil
import textwrap

import typer

__all__ = ["say", "width"]


def width() -> int:
    """Columns of the terminal, or COLUMNS; 80 in a pipe."""
    return max(shutil.get_terminal_size((80, 24)).columns, 20)


def say(text: str, *, indent: int = 0, hang: int = 0, err: bool = False, colour: str | None = None) -> None:
    """Print a text, each of its lines wrapped at spaces; `hang` indents what follows the first line.

    A word longer than the line, as a path, stays whole.

    >>> say("X'' + 3 X' = 0, " * 7, indent=2, hang=2)  # doctest: +NORMALIZE_WHITESPACE
      X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0,
        X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0,
    """
    first, rest = " " * indent, " " * (indent + hang)
    options = {"initial_indent": first, "subsequent_indent": rest, "break_on_hyphens": False}
    for line in text.splitlines() or [""]:
        folded = textwrap.fill(line, width(), break_long_words=False, **options)
        typer.secho(folded, err=err, fg=colour)
