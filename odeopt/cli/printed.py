"""Lines for the terminal: wrapped at its width, 80 columns where there is none."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console

__all__ = ["called", "console", "plain", "say", "width"]


def plain() -> bool:
    """Whether escape codes are unwanted on a terminal too."""
    return bool(os.environ.get("NO_COLOR"))


def console() -> Console:
    """What draws tables on stdout; without escape codes in a pipe and under NO_COLOR."""
    return Console(width=width(), color_system=None if plain() else "auto", highlight=False)


def width() -> int:
    """Columns of the terminal, or COLUMNS; 80 in a pipe."""
    return max(shutil.get_terminal_size((80, 24)).columns, 20)


def called(methods: Sequence[Any]) -> dict[str, str]:
    """What tables call each method of a study: its name, or class and number where a name holds numbers."""
    count: Counter[str] = Counter()
    shown = {}
    for method in methods:
        kind, numbers, _ = method.name.partition("(")
        count[kind] += 1
        shown[method.name] = f"{kind} {count[kind]}" if numbers else kind
    return shown


def say(text: str, *, indent: int = 0, hang: int = 0, err: bool = False, colour: str | None = None) -> None:
    """Print a text, each of its lines folded at spaces; `hang` indents what follows the first line.

    >>> say("X'' + 3 X' = 0, " * 7, indent=2, hang=2)  # doctest: +NORMALIZE_WHITESPACE
      X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0,
        X'' + 3 X' = 0, X'' + 3 X' = 0, X'' + 3 X' = 0,
    """
    for line in text.splitlines() or [""]:
        folded = _folded(line, " " * indent, " " * (indent + hang))
        typer.secho("\n".join(folded), err=err, fg=None if plain() else colour)


def _folded(line: str, first: str, rest: str) -> list[str]:
    lines, current = [], first
    for word in re.findall(r"\S+ *| +", line):
        for piece in _pieces(word, width() - len(rest)):
            if current.strip() and len(current + piece.rstrip()) > width():
                lines.append(current.rstrip())
                current = rest
            current += piece
    return [*lines, current.rstrip()]


def _pieces(word: str, room: int) -> list[str]:
    """Where a word that is longer than a line may be broken: in LaTeX and numbers; a path stays whole."""
    if len(word.rstrip()) <= room:
        return [word]
    if "\\" in word:  # a space after a brace prints nothing
        return re.split(r"(?<=})(?=[^}\s])", word)
    if not re.fullmatch(r"[-+*/^()\d]+ *", word):
        return [word]
    return [part[i : i + room] for part in re.split(r"(?<=/)", word) for i in range(0, len(part), room)]
