"""Tables of measured figures, as the benchmarks keep them in ``benchmarks/results``."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["read_rows", "write_rows"]


def write_rows(path: Path, header: str, rows: Sequence[str], *, keys: int = 1) -> None:
    """Add rows to a Markdown table, each in place of an earlier one of the same key.

    Parameters
    ----------
    path : Path
        Made with its folder if it is missing, and begun anew if its header is another.
    header : str
        Titles of the columns, as ``"n | storage | seconds"``.
    rows : sequence of str
        In the same form.
    keys : int, optional
        So many leading columns tell rows apart.
    """
    head = [_line(header), "|---" * (header.count("|") + 1) + "|"]
    lines = path.read_text().splitlines() if path.exists() else []
    kept = {_cells(line[1:-1])[:keys]: line for line in (lines[2:] if lines[:1] == head[:1] else [])}
    kept |= {_cells(row)[:keys]: _line(row) for row in rows}
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*head, *(kept[key] for key in sorted(kept, key=_order))]) + "\n")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, each from title to entry.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of dict
    """
    lines = path.read_text().splitlines()
    titles = _cells(lines[0][1:-1])
    return [dict(zip(titles, _cells(line[1:-1]), strict=True)) for line in lines[2:]]


def _line(row: str) -> str:
    return f"| {' | '.join(_cells(row))} |"


def _cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|"))


def _order(key: tuple[str, ...]) -> list[tuple[int, float, str]]:
    """Numbers by size, before words."""
    return [(0, float(cell), "") if cell.isdigit() else (1, 0.0, cell) for cell in key]
