r"""What a study takes as data: arrays, files with a header, frames of named columns, and torch data sets.

Frames and data sets are known by what they can do; neither pandas nor torch is imported here. Integers stay
integers, so that tokens reach the module that reads them.
"""

from __future__ import annotations

import csv
import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odeopt.checks import is_number, real_array, words_of
from odeopt.data import read_npz

__all__ = ["Examples", "examples_of", "load_data", "rows_and_test"]

_GAPS = ("", "na", "n/a", "nan", "null", "none", "inf", "infinity")
_UNEVEN = 10  # times the root mean square of another column
_TABLES, _DELIMITERS = (".csv", ".tsv"), ",;\t"


def load_data(x: Any, y: Any = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the inputs and targets of a file, a frame, a torch data set, or two arrays.

    Parameters
    ----------
    x : path-like, frame, data set or array_like
        An .npz file of the arrays x and y; a .csv file whose first line names its columns; a frame (pandas,
        polars) of such columns; a data set of pairs (input, target), as ``torch.utils.data`` has them; or
        inputs, shape (n, ...), with `y`.
    y : str or array_like, optional
        The name of the column of targets, by default "y"; all others are inputs, and targets may be any
        text, class labels, but marks of missing values. Or the targets themselves, shape (n,) or (n, c).

    Returns
    -------
    x : numpy.ndarray, shape (n, ...)
        Images stay images, shape (n, c, h, w), and tokens integers.
    y : numpy.ndarray, shape (n,) or (n, c)
        Numbers, or words where a column holds some.

    Raises
    ------
    ValueError
        If the file cannot be read, a column is missing or holds something other than finite numbers, an item
        of a data set is no pair or has another shape, or the lengths differ; pickled objects are never
        loaded.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "houses.csv"
    ...     _ = path.write_text("area,rooms,price\n70,3,210\n45,2,160\n")
    ...     load_data(path, "price")
    (array([[70.,  3.],
           [45.,  2.]]), array([210., 160.]))
    >>> load_data([([1, 2], 0), ([3, 4], 1)])  # a data set: pairs by their number
    (array([[1, 2],
           [3, 4]]), array([0, 1]))
    """
    found = examples_of(x, y)
    return found.x, found.y


@dataclass(frozen=True)
class Examples:
    """Inputs, shape (n, ...), targets, and the names of the columns where the inputs have some."""

    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.x.ndim and self.y.ndim and len(self.x) != len(self.y):
            raise ValueError(
                f"x and y must have the same length, got {len(self.x)} rows of x and {len(self.y)} targets"
            )

    def __getitem__(self, chosen: Any) -> Examples:
        return Examples(self.x[chosen], self.y[chosen], self.columns)

    @property
    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """One input a row, images flattened, and the targets."""
        return self.x.reshape(len(self.x), -1) if self.x.ndim > 2 else self.x, self.y

    @property
    def uneven(self) -> str:
        """That a few columns decide, where those of a table differ in size; "" where they do not."""
        sizes = np.sqrt((self.x.astype(np.float64) ** 2).mean(axis=0)) if self.columns else np.zeros(1)
        low, high = int(np.argmin(np.where(sizes > 0, sizes, np.inf))), int(np.argmax(sizes))
        if sizes[high] <= _UNEVEN * sizes[low]:
            return ""
        return (
            f"columns of x differ in size ({self.columns[low]} {sizes[low]:.3g}, {self.columns[high]} "
            f"{sizes[high]:.3g}), and rows are scaled to unit norm: the largest decide; standardise them, "
            "and add a constant one"
        )

    def alike(self, other: Examples) -> Examples:
        """The other examples with the columns of these in their order, or why they do not fit."""
        x = other.x
        if self.columns and other.columns:
            for which, here, there in (("no", self, other), ("a", other, self)):
                if lone := [column for column in here.columns if column not in there.columns]:
                    raise ValueError(f"test has {which} column {lone[0]!r}; give it those of the training")
            x = x[:, [other.columns.index(column) for column in self.columns]]
        for name, here, there in (("inputs", self.x, x), ("targets", self.y, other.y)):
            if here.shape[1:] != there.shape[1:]:
                raise ValueError(
                    f"test has {name} of shape {there.shape}, and those of the training have {here.shape}: "
                    "all but the first number must be equal; bring them to one shape"
                )
        return Examples(x, other.y, self.columns)


def examples_of(x: Any, y: Any = None) -> Examples:
    """The examples of what :func:`load_data` takes."""
    if isinstance(x, Examples):
        return x
    columns: tuple[str, ...] = ()
    if isinstance(x, (str, os.PathLike)) and Path(x).suffix.lower() in _TABLES:
        if not (y is None or isinstance(y, str)):
            raise ValueError(f"y must name the column of targets in {os.fspath(x)}, got {_kind(y)}")
        x, y, columns = _of_columns(_columns_of_csv(os.fspath(x), y or "y"), y, os.fspath(x))
    elif isinstance(x, (str, os.PathLike)):
        x, y = _of_npz(os.fspath(x), y)
    elif _is_frame(x):
        wanted = "y" if y is None else y if isinstance(y, str) else None
        x, y, columns = _of_columns(_columns_of_frame(x, wanted), y, "x")
    elif isinstance(y, str):
        raise ValueError(f"y = {y!r} names a column, but x ({_kind(x)}) has none; pass the targets")
    elif y is None:
        x, y = _of_items(x)
    return Examples(_numbers(x, "x"), _targets(y, "y"), columns)


def rows_and_test(
    x: Any, y: Any, test: Any, classes: bool = False
) -> tuple[np.ndarray, np.ndarray, Examples | None]:
    """Inputs as rows, targets, and examples held out: a source of their own, or a share of these."""
    found = examples_of(x, y)
    if test is None:
        return *found.flat, None
    if is_number(test):
        chosen = _share(test, len(found.x))
        _require_targets(found.y, found.y[~chosen], classes, test)
        return *found[~chosen].flat, found[chosen]
    try:
        column = y if isinstance(y, str) else None
        more = examples_of(*(test if isinstance(test, tuple) and len(test) == 2 else (test, column)))
    except ValueError as error:
        raise ValueError(f"test cannot be read: {error}") from error
    return *found.flat, found.alike(more)


def _share(test: Any, n: int) -> np.ndarray:
    """Which of n examples are held out: a share of them, drawn with a fixed seed."""
    if not 0 < test < 1:
        raise ValueError(f"test must be a share of the examples in (0, 1), or examples, got {test!r}")
    if n < 2:
        raise ValueError(f"test = {test!r} leaves none of {n} example(s) to train on; give more")
    chosen = np.zeros(n, dtype=bool)
    chosen[np.random.default_rng(0).permutation(n)[: min(max(1, round(test * n)), n - 1)]] = True
    return chosen


def _require_targets(y: np.ndarray, left: np.ndarray, classes: bool, test: Any) -> None:
    """Refuse a share that leaves no example of a class, or of numbers one value alone."""
    lone, named = np.setdiff1d(y, left), classes or y.dtype.kind == "U" or len(np.unique(y)) == 2
    if y.ndim != 1 or not lone.size or not (named or (left == left[0]).all()):
        return
    what = f"none of the class {lone[0].item()!r}" if named else f"all with the target {left[0]:.6g}"
    raise ValueError(
        f"test = {test!r} leaves {len(left)} of {len(y)} examples to train on, {what}; take a smaller share, "
        "or pass examples to test on"
    )


def _targets(value: Any, name: str) -> np.ndarray:
    """Numbers, or the labels of classes as words."""
    words = words_of(value)
    if words is None:
        return _numbers(value, name)
    if gaps := [i for i, word in enumerate(words.reshape(-1)) if word.strip().lower() in _GAPS]:
        raise ValueError(_gap(str(words.reshape(-1)[gaps[0]]), f"{name}, at {gaps[0]},"))
    return words


def _numbers(value: Any, name: str) -> np.ndarray:
    """Finite numbers, integers among them as they are."""
    if getattr(value, "is_sparse", False) or getattr(value, "is_sparse_csr", False):
        raise ValueError(f"{name} is a sparse tensor; pass {name}.to_dense()")
    if hasattr(value, "detach"):  # a tensor, wherever it is
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    checked = real_array(value, name, ndim=None)
    return np.asarray(value) if np.asarray(value).dtype.kind in "iu" else checked


def _kind(x: Any) -> str:
    return type(x).__name__


def _of_npz(name: str, y: Any) -> tuple[np.ndarray, np.ndarray]:
    if y is not None:
        raise ValueError(f"y = {y!r} names a column of a .csv file, and x = {name!r} is none; leave y out")
    arrays = read_npz(name, ("x", "y"))
    return _numbers(arrays["x"], f"x of {name}"), _targets(arrays["y"], f"y of {name}")


def _of_columns(columns: dict[str, np.ndarray], y: Any, where: str) -> tuple[Any, Any, tuple[str, ...]]:
    """Inputs, targets, and the names of the inputs; targets of their own, or the column of a name."""
    if y is None or isinstance(y, str):
        wanted = "y" if y is None else y
        if wanted not in columns:
            listed = ", ".join(columns)
            raise ValueError(f"y = {wanted!r} is no column of {where}; take one of its columns: {listed}")
        y = columns.pop(wanted)
        if not columns:
            raise ValueError(f"{where} has no column beside {wanted!r}; give it inputs too")
    return np.stack([*columns.values()], axis=1), y, tuple(columns)


def _require_names(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where} has the column {twice[0]!r} more than once; rename one of them")


def _columns_of_csv(name: str, wanted: str) -> dict[str, np.ndarray]:
    """The columns of a file whose first line names them, targets perhaps as words."""
    try:
        if os.path.exists(name) and not os.path.isfile(name):  # a pipe would be waited for without end
            raise ValueError("it is not a regular file")
        with open(name, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_DELIMITERS, key=first.count), strict=True)
            names = [cell.strip() for cell in next(reader, [])]
            _require_header(names)
            values, words = array("d"), []
            place = names.index(wanted) if wanted in names else len(names)
            for row in reader:
                if not row:  # a blank line
                    continue
                asked = place < len(row) and (words or not values)
                if asked and _is_word(row[place].strip(), words, reader.line_num):
                    words.append(row[place].strip())
                    row[place] = "0"
                values.extend(_cells(row, names, reader.line_num))
            if not values:
                raise ValueError("it has no row under its header")
    except (OSError, ValueError, csv.Error, MemoryError) as error:
        remedy = "write one row an example, numbers with a point, under a line of names"
        raise ValueError(f"x = {name!r} cannot be read as .csv data: {error}; {remedy}") from error
    columns = dict(zip(names, np.array(values).reshape(-1, len(names)).T, strict=True))
    return columns | ({wanted: np.array(words)} if words else {})


def _is_word(cell: str, words: list[str], line: int) -> bool:
    """Whether a target is a class: all are where the first one is no number, but for what may be a gap."""
    if _number(cell) is not None and not (words and words[0][0].isalpha()):
        if not words:
            return False
        raise ValueError(
            f"its targets are text ({words[0]!r}) and, in line {line}, the number {cell!r}: leave out the "
            "rows whose target is missing, or, of classes, write a letter before every number"
        )
    if words and cell and cell.lower() in _GAPS:
        raise ValueError(_gap(cell, f"the target in line {line}"))
    return cell.lower() not in _GAPS


def _gap(cell: str, where: str) -> str:
    return f"{where} is {cell!r}, the mark of a missing value; leave the row out, or rename that class"


def _require_header(names: list[str]) -> None:
    if not any(names):
        raise ValueError("it has no header")
    if "" in names:  # as the index is, where pandas writes it
        raise ValueError(f"its column {names.index('') + 1} has no name; name it, or leave it out")
    if all(_number(name) is not None for name in names):
        raise ValueError(f"its first line holds numbers ({', '.join(names[:3])}), not names of columns")
    _require_names(names, "it")


def _cells(row: list[str], names: list[str], line: int) -> list[float]:
    if len(row) != len(names):
        raise ValueError(f"line {line} has {len(row)} cells, and the header has {len(names)}")
    found = [_number(cell) for cell in row]
    if None in found:
        place = found.index(None)
        cell = row[place].strip()
        what = f"{cell!r}, which is no finite number" if cell else "empty"
        raise ValueError(f"column {names[place]!r} in line {line} is {what}")
    return [value for value in found if value is not None]


def _number(cell: str) -> float | None:
    """The finite number that a cell holds; Python's 1_000 is none in a table."""
    try:
        value = float(cell) if "_" not in cell else np.nan
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _is_frame(x: Any) -> bool:
    return hasattr(x, "columns") and hasattr(x, "to_numpy")


def _columns_of_frame(frame: Any, wanted: str | None) -> dict[str, np.ndarray]:
    labels = list(frame.columns)
    _require_names([str(label) for label in labels], "x")
    return {str(label): _column(frame[label], str(label), str(label) == wanted) for label in labels}


def _column(series: Any, name: str, target: bool) -> np.ndarray:
    values = np.asarray(series.to_numpy())
    if target and (words := words_of(values)) is not None:
        return words
    if values.dtype.kind not in "biuf":  # numbers among gaps, as objects
        cells = [*values]
        bad = [i for i, v in enumerate(cells) if isinstance(v, str) or not hasattr(v, "__float__")]
        if values.dtype.kind != "O":
            raise ValueError(f"column {name!r} of x has dtype {values.dtype}, no numbers; convert or drop it")
        if bad:
            raise ValueError(
                f"column {name!r} of x is {cells[bad[0]]!r} in row {bad[0]} ({len(bad)} such in all), no "
                "number; drop the column or the rows, or write numbers for what they say"
            )
        values = values.astype(np.float64)
    return real_array(values, f"column {name!r} of x", ndim=1) if values.dtype.kind == "f" else values


def _of_items(source: Any) -> tuple[Any, Any]:
    """Stack the pairs of a data set; what holds its tensors is read at once."""
    tensors = getattr(source, "tensors", None) if _kind(source) == "TensorDataset" else None
    if tensors is not None:
        if len(tensors) != 2:
            raise ValueError(f"x holds {len(tensors)} tensors, of which inputs and targets must be two")
        return tensors[0], tensors[1]
    known = hasattr(source, "__len__") and hasattr(source, "__getitem__")
    if not known or isinstance(source, (np.ndarray, Mapping)):
        raise ValueError(
            f"x ({_kind(source)}) is no file, frame or data set of pairs that has a length; pass y too, of a "
            "loader its .dataset, of a stream a list of its pairs"
        )
    pairs = [_pair(source[i], i) for i in range(len(source))]
    if not pairs:
        raise ValueError("x has no items; pass a data set with at least one pair (input, target)")
    return _stacked([x for x, _ in pairs], "x"), _stacked([y for _, y in pairs], "y")


def _pair(item: Any, i: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(item, tuple) or len(item) != 2:  # a list may be a row of two numbers
        raise ValueError(
            f"x has an item {i} of type {_kind(item)}, not a pair (input, target); pass inputs as x and "
            "targets as y"
        )
    target = np.asarray(item[1]) if isinstance(item[1], str) else _entry(item[1], f"target {i} of x")
    return _entry(item[0], f"input {i} of x"), target


def _entry(value: Any, name: str) -> np.ndarray:
    """One input or target: numbers of any shape, a single one among them."""
    return _numbers(value[None] if hasattr(value, "detach") else [value], name)[0]


def _stacked(parts: list[np.ndarray], name: str) -> np.ndarray:
    for i, part in enumerate(parts):
        if part.shape != parts[0].shape:
            raise ValueError(
                f"{name} has shape {part.shape} at item {i} and {parts[0].shape} at item 0; bring all to "
                "one shape (crop, pad or resize)"
            )
    return np.stack(parts)
