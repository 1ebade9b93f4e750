r"""How a result is shown: in one line at a prompt, as a table on paper and in a notebook, in a picture."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Equation", "Pictured", "Shown", "Summary", "along", "changed", "counts_steps", "rows_at", "span"]

_LONGEST = 140  # characters of a line at a prompt
_ROWS = 9  # rows of a curve in its table
_NONE = frozenset({"", "-", "inf", "-inf", "nan"})  # what may stand in place of a number


@dataclass(frozen=True)
class Summary:
    """What is said of a result: facts for one line, a table, and notes below it."""

    facts: Sequence[str]
    head: Sequence[str] = ()  # of as many as a row has
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def line(self, name: str) -> str:
        """All facts in one line, as ``Measure(3 nodes, exact)``, cut where they are long."""
        facts = " ".join(", ".join(self.facts).split())
        room = _LONGEST - len(name) - 2
        return f"{name}({facts if len(facts) <= room else facts[: room - 3] + '...'})"

    def text(self, title: str) -> str:
        """The table as text, words to the left and numbers to the right.

        >>> print(Summary([], ["part", "size"], [["drift", "1.5e-03"], ["width", "-"]]).text("parts"))
        parts
        part      size
        drift  1.5e-03
        width        -
        """
        columns = zip(self.head, *self.rows, strict=True) if self.rows else ()
        padded = []
        for words, column in zip(self._words, columns, strict=True):
            width = max(map(len, column))
            padded.append([cell.ljust(width) if words else cell.rjust(width) for cell in column])
        lines = ("  ".join(line).rstrip() for line in zip(*padded, strict=True))
        return "\n".join([title, *lines, *self.notes])

    @property
    def _words(self) -> list[bool]:
        """Which columns hold words, not numbers."""
        columns = zip(*self.rows, strict=True)
        return [not all(c in _NONE or c.lstrip("+-")[:1].isdigit() for c in column) for column in columns]

    def table(self) -> str:
        """The table alone as HTML, without colours of its own."""
        sides = [f' style="text-align: {"left" if words else "right"}"' for words in self._words]

        def line(cells: Sequence[str], tag: str) -> str:
            parts = zip(cells, sides, strict=True)
            return f"<tr>{''.join(f'<{tag}{s}>{html.escape(c)}</{tag}>' for c, s in parts)}</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return f"<table>{line(self.head, 'th')}{body}</table>"

    def html(self, title: str) -> str:
        """Title, table and notes as HTML, in the colours of where it stands."""
        name, bracket, rest = html.escape(title).partition("(")
        notes = "".join(f"<div><small>{html.escape(note)}</small></div>" for note in self.notes)
        heading = f"<div><b>{name}</b>{bracket}{rest}</div>"
        return f'<div style="overflow-x: auto">{heading}{self.table()}{notes}</div>'


class Shown:
    """A result that is one line at a prompt and a table in a notebook; a subclass says which."""

    def _summary(self) -> Summary:
        """What is said of it: by default its text, of a class that has one."""
        return Summary([str(self)])

    def __repr__(self) -> str:
        return self._summary().line(type(self).__name__)

    def __str__(self) -> str:
        return self._summary().text(repr(self))

    def _repr_html_(self) -> str | None:
        found = self._summary()
        return found.html(repr(self)) if found.rows else None


class Equation(Shown):
    """A formula: its text in one line at a prompt, its LaTeX in a notebook."""

    if TYPE_CHECKING:

        def latex(self) -> str: ...

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


class Pictured(Shown):
    """A result with a picture: a subclass names the function of ``odeopt.plot`` that draws it."""

    _drawn_by: ClassVar[str] = "losses"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        type.__setattr__(cls, "plot", cls.plot)  # its own, that a reference of each class has it

    def plot(self, ax: Any = None, **options: Any) -> Axes:
        """Draw it, by the function of :mod:`odeopt.plot` for results of its kind.

        That is ``losses`` for a loss along steps or times, ``predictions``, ``ensemble``, ``spectrum``,
        ``forecast``, ``check``, ``curves`` or ``budget``.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, or array of them for several panels, optional
            Where to draw, beside what is there; by default axes of a new figure, which no window shows.
        **options
            Of that function: of a curve also those of its line, as ``color``, ``label`` or ``linestyle``.

        Returns
        -------
        matplotlib.axes.Axes
            Holds what is drawn; its ``figure`` saves it.
        """
        import odeopt  # by the front door, which loads the pictures at first use, and matplotlib with them

        return getattr(odeopt.plot, self._drawn_by)(self, ax, **options)


def span(values: Any, digits: int = 4) -> str:
    """First and last of an array, as ``7 to 0.1235``."""
    return f"{values[0]:.{digits}g} to {values[-1]:.{digits}g}" if len(values) else "none"


def along(curve: Any) -> str:
    """The steps or times of a curve."""
    t = getattr(curve, "t", None)
    return f"k = {span(curve.k, 6)}" if counts_steps(curve) else "the end" if t is None else f"t = {span(t)}"


def counts_steps(curve: Any) -> bool:
    """Whether a curve runs along steps, not along the time of an ODE."""
    k = getattr(curve, "k", None)
    return k is not None and (np.asarray(k).dtype.kind in "iu" or getattr(curve, "t", None) is None)


def rows_at(columns: Mapping[str, np.ndarray | None], digits: int = 4) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the columns that are known, at both ends and evenly between."""
    known = {name: values for name, values in columns.items() if values is not None}
    size = len(next(iter(known.values())))
    at = sorted({round(i * (size - 1) / (_ROWS - 1)) for i in range(_ROWS)}) if size else []
    return list(known), [[_cell(values[i], digits) for values in known.values()] for i in at]


def _cell(value: Any, digits: int) -> str:
    kind = getattr(getattr(value, "dtype", None), "kind", "f")
    return {"b": "yes" if value else "no", "i": str(value)}.get(kind) or f"{value:.{digits}g}"


def changed(settings: Any) -> list[str]:
    """The options that are not left at their defaults."""
    given = ((f, getattr(settings, f.name)) for f in dataclasses.fields(settings))
    return [f"{f.name}={value!r}" for f, value in given if value != f.default]
