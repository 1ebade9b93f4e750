"""Legends off the data: folded, and in a figure of the package's own that is as large as they need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = ["explain", "explain_below", "folded"]

_CHARACTER = 0.056  # inches, about; 7 points high
_HANDLE = 0.5  # inches of a legend beside its words


def folded(label: str, columns: float) -> str:
    """The label in lines of so many characters at most, broken at spaces outside of formulas."""
    lines = [""]
    for word in re.findall(r"(?:\$[^$]*\$|\S)+\s*", label):
        if lines[-1] and _length(lines[-1] + word.rstrip()) > columns:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def _length(text: str) -> int:
    """Characters that are seen: a command of a formula is one."""
    return len(re.sub(r"[\\^_{}$]", "", re.sub(r"\\[a-zA-Z]+ ?", "x", text)))


def explain(ax: Axes, own: bool, **options: Any) -> None:
    """A legend beside own axes; on given ones where it hides least, and smaller than these."""
    handles, labels = ax.get_legend_handles_labels()
    room = 2.6 if own else _inches(ax)[0] - _HANDLE
    texts = [folded(label, max(12.0, room / _CHARACTER)) for label in labels]
    if own:
        legend = ax.legend(
            handles, texts, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, **options
        )
        width, height = _inches(legend)
        _enlarge(_root(ax), 3.6 + width, 0.2 + height)
    else:
        legend = ax.legend(handles, texts, loc="best", **options)
        fits = min(0.7 * room / taken for room, taken in zip(_inches(ax), _inches(legend), strict=True))
        if fits < 1 and legend.get_texts():
            points = fits * float(legend.get_texts()[0].get_fontsize())
            options |= {"fontsize": points, "title_fontsize": points}
            legend = ax.legend(handles, texts, loc="best", **options)
        legend.set_in_layout(False)  # the layout is the user's


def explain_below(figure: Figure, explained: Sequence[tuple[Axes, str]], panels: float, columns: int) -> None:
    """Legends side by side below so many inches of panels, in columns that fit; of axes and their titles."""
    share, lowest = figure.get_size_inches()[0] / len(explained), 0.0
    sides = ("center",) if len(explained) == 1 else ("left", "right")
    for (ax, title), side in zip(explained, sides, strict=True):
        handles, labels = ax.get_legend_handles_labels()
        texts = [folded(label, max(12.0, (share - _HANDLE) / _CHARACTER)) for label in labels]
        options: dict[str, Any] = {"loc": f"outside lower {side}", "title": title, "frameon": False}
        for count in range(columns, 0, -1):
            legend = figure.legend(handles, texts, ncols=count, **options)
            width, height = _inches(legend)
            if width <= share or count == 1:
                break
            legend.remove()
        share, lowest = max(share, width), max(lowest, height)
    _enlarge(figure, share * len(explained), panels + lowest)


def _inches(drawn: Axes | Legend) -> tuple[float, float]:
    box, dpi = drawn.get_window_extent(), _root(drawn).dpi
    return box.width / dpi, box.height / dpi


def _root(drawn: Axes | Legend) -> Figure:
    """The whole figure, where axes are in a part of one too."""
    assert drawn.figure is not None  # as long as it is drawn anywhere
    return drawn.figure.figure


def _enlarge(figure: Figure, width: float, height: float) -> None:
    """Make the figure at least so large."""
    now = figure.get_size_inches()
    figure.set_size_inches(max(now[0], width), max(now[1], height))
