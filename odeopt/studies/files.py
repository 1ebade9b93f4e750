r"""Files of a run: written beside and moved into place together, in a folder that one run holds.

At any moment, also after a kill or on a full disk, the files under their names are those of one run. A set is
first written whole into ``.odeopt-part``; by one renaming this becomes ``.odeopt-done``, from which the files
move to their names once those of the run before are gone. What a kill interrupts there the next run finishes.
"""

from __future__ import annotations

import abc
import fcntl
import io
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from odeopt.plot.files import KINDS, rendered, require_kinds
from odeopt.shown import Pictured

__all__ = [
    "OutputFolder", "Saved", "class_arrays", "file_names", "forecast_arrays", "json_text", "pictures_of",
]  # fmt: skip

_TESTED = ("k", "loss", "error", "rms", "accuracy")
_PART, _DONE = ".odeopt-part", ".odeopt-done"


class OutputFolder:
    """A folder created, tried by writing, and held by one run until its block ends or its process does.

    Parameters
    ----------
    path : path-like
        The folder, created with its parents.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent, OutputFolder(Path(parent) / "new") as folder:
    ...     sorted(path.name for path in folder.replace({"a.json": b"1"}).iterdir())
    ['a.json']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._handle: int | None = None

    def __enter__(self) -> OutputFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except (OSError, ValueError) as error:
            raise self._refusal(error) from error
        try:
            self._lock(self._handle)
            self._finish()
            shutil.rmtree(self.path / _PART, ignore_errors=True)  # of a run that was killed while writing
            (self.path / _PART).mkdir()
            (self.path / _PART).rmdir()
        except OSError as error:
            self.__exit__()
            raise self._refusal(error) from error
        except ValueError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            os.close(self._handle)  # and with it the lock
            self._handle = None

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"out = {str(self.path)!r} is in use by another run; wait for it, or choose another folder"
            ) from None
        except OSError:  # a file system without locks, on which a second run is not noticed
            return

    def _refusal(self, error: Exception) -> ValueError:
        reason = getattr(error, "strerror", None) or error
        return ValueError(f"out = {str(self.path)!r} is not a writable folder ({reason}); choose another")

    def replace(self, files: Mapping[str, bytes], stale: Iterable[str] = ()) -> Path:
        """Put files in place of those of an earlier run, all or none of them.

        Parameters
        ----------
        files : mapping
            Name to content.
        stale : iterable of str, optional
            Names of files of an earlier run that go.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ValueError
            If a file cannot be written; those of the earlier run are then untouched.
        """
        part = self.path / _PART
        try:
            part.mkdir()
            for name, content in files.items():
                with open(part / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for name in stale:
                (self.path / name).unlink(missing_ok=True)
            part.rename(self.path / _DONE)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise ValueError(
                f"out = {str(self.path)!r}: the results could not be written ({error.strerror or error}); "
                "what an earlier run left there is untouched; make room, or choose another folder"
            ) from error
        try:
            self._finish()
        finally:  # an interrupt in between is answered when the files are in place
            self._finish()
        return self.path

    def _finish(self) -> None:
        """Move the files of a complete set to their names, where an earlier call was cut short too."""
        done = self.path / _DONE
        if not done.is_dir():
            return
        left = sorted(os.listdir(done))
        # A file that has moved is no longer among them, and so is not removed: first all old ones go.
        for name in left:
            (self.path / name).unlink(missing_ok=True)
        for name in left:
            (done / name).rename(self.path / name)
        done.rmdir()


class Saved(Pictured, abc.ABC):
    """A result that is kept as files: what it says, its curves, and a picture of them."""

    # The files of numbers and of curves, and the name of the picture.
    _names: ClassVar[tuple[str, str, str]]

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """What the file of numbers holds."""

    @abc.abstractmethod
    def _arrays(self) -> dict[str, Any]:
        """The curves."""

    def save(self, folder: str | os.PathLike[str] | OutputFolder, pictures: Iterable[str] = ("png",)) -> Path:
        """Write the numbers, the curves and the picture of the result, all or none of them.

        Parameters
        ----------
        folder : path-like
            Created if it does not exist.
        pictures : iterable of {"png", "pdf", "svg"}, optional
            The kinds of files in which the picture is written.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ValueError
            If a kind is none of these, the folder cannot be written, or another run holds it; what was there
            before then stays whole.
        """
        drawn = require_kinds(pictures)
        numbers, curves, name = self._names
        files = {numbers: json_text(self.to_dict()).encode(), curves: _npz(self._arrays())}
        files |= pictures_of(self.plot(), name, drawn)
        stale = [f"{name}.{kind}" for kind in KINDS if kind not in drawn]
        if isinstance(folder, OutputFolder):
            return folder.replace(files, stale)
        with OutputFolder(folder) as held:
            return held.replace(files, stale)


def file_names(found: Saved, pictures: Iterable[str]) -> list[str]:
    """Names of the files in which a result is kept."""
    *held, name = found._names
    return [*held, *(f"{name}.{kind}" for kind in pictures)]


def pictures_of(picture: Any, name: str, kinds: Iterable[str]) -> dict[str, bytes]:
    """A file of each kind, by its name."""
    return {f"{name}.{kind}": rendered(picture, kind) for kind in kinds}


def forecast_arrays(found: Any) -> dict[str, Any]:
    """The curves of a forecast, and those of its test set."""
    kept = ("k", "loss", "lower", "upper", "proved")
    curves = {f"{m.name}_{key}": getattr(m.curve, key) for m in found.methods for key in kept}
    tests = {m.name: m.test for m in found.methods if m.test is not None}
    seen = {(name, key): getattr(test, key) for name, test in tests.items() for key in _TESTED}
    return curves | {f"{name}_test_{key}": value for (name, key), value in seen.items() if value is not None}


def class_arrays(found: Any) -> dict[str, Any]:
    """The curves of a forecast of classes."""
    curves = {(m.name, kind): getattr(m, kind) for m in found.methods for kind in ("training", "test")}
    return {
        f"{name}_{kind}_{key}": getattr(curve, key)
        for (name, kind), curve in curves.items()
        for key in ("k", "loss", "accuracy")
        if curve is not None
    }


def json_text(value: Any) -> str:
    """Return JSON, with null for numbers that are not finite, which JSON does not have."""
    return json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):  # those of numpy's 64 bits too
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return value


def _npz(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
