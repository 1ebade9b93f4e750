"""Pictures as files: pixels, or vectors with their text."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odeopt.plot.style import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["KINDS", "rendered", "require_kinds", "save"]

# What a file would say of the day it was written is left out: a file changes with its picture alone.
KINDS: dict[str, dict[str, Any]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def require_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds of files, if a picture can be written as each."""
    for kind in (kinds := tuple(kinds)):
        if kind not in KINDS:
            raise ValueError(f"a picture is written as {', '.join(KINDS)}, got {kind!r}; choose one of these")
    return kinds


def rendered(picture: Axes | Figure | SubFigure, kind: str) -> bytes:
    """The bytes of a file of a picture; the text of a pdf is TrueType, that of a svg is text."""
    from matplotlib import rc_context

    require_kinds([kind])
    figure = getattr(picture, "figure", None)
    if figure is None:
        raise ValueError(
            f"picture must be axes or a figure of matplotlib, got {type(picture).__name__}; pass what a "
            "function of plot returns"
        )
    buffer = io.BytesIO()
    with rc_context(style()):
        figure.figure.savefig(buffer, format=kind, metadata=KINDS[kind])
    return buffer.getvalue()


def save(picture: Axes | Figure | SubFigure, *paths: str | os.PathLike[str]) -> None:
    r"""Write a picture to files, of the kinds their names end in: png, or pdf and svg for a paper.

    The text of vector files stays text, in pdf with its font (TrueType, as journals ask). None holds a date.

    Parameters
    ----------
    picture : matplotlib.axes.Axes or matplotlib.figure.Figure
        What a function of :mod:`odeopt.plot` returns; its whole figure is written.
    *paths : path-like
        As ``"loss.pdf", "loss.png"``.

    Raises
    ------
    ValueError
        If a name ends in another kind, a file cannot be written, or `picture` is none.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from odeopt import forecast, plot
    >>> found = forecast(np.eye(3), [0.0, 1.0, 3.0], methods=["gd"], target=0.1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot.save(plot.forecast(found), Path(folder) / "a.pdf", Path(folder) / "a.svg")
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['a.pdf', 'a.svg']
    """
    content = {path: rendered(picture, Path(path).suffix[1:].lower()) for path in paths}
    for path, held in content.items():
        try:
            Path(path).write_bytes(held)
        except OSError as error:
            raise ValueError(
                f"{os.fspath(path)!r} could not be written ({error.strerror or error}); choose another path"
            ) from error
