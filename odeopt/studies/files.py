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
from typing import Any

import numpy as np

from odeopt import plot
from odeopt.plot.files import KINDS, rendered, require_kinds

__all__ = ["OutputFolder", "Saved", "class_files", "forecast_files", "json_text", "png", "save_check"]

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


class Saved(abc.ABC):
    """A result that is kept as files."""

    @abc.abstractmethod
    def _files(self) -> dict[str, bytes]:
        """Names and contents."""

    def save(self, folder: str | os.PathLike[str] | OutputFolder) -> Path:
        """Write the files of the result, all or none of them.

        Parameters
        ----------
        folder : path-like
            Created if it does not exist.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ValueError
            If the folder cannot be written, or another run holds it; what was there before then stays whole.
        """
        return _save(folder, self._files())


def save_check(
    report: Any, folder: str | os.PathLike[str] | OutputFolder, pictures: Iterable[str] = ("png",)
) -> Path:
    """Write check.json, curves.npz, check.png and other pictures of a check."""
    drawn = require_kinds(pictures)
    curves = {f"{m.name}_{key}": value for m in report.methods for key, value in m.curves.items()}
    picture = plot.check(report).figure
    text = json_text(report.to_dict()).encode()
    files = {"check.json": text, "curves.npz": _npz(curves)}
    files |= {f"check.{kind}": rendered(picture, kind) for kind in drawn}
    return _save(folder, files, [f"check.{kind}" for kind in KINDS if kind not in drawn])


def forecast_files(found: Any) -> dict[str, bytes]:
    """forecast.json, forecast.npz and forecast.png of a forecast."""
    kept = ("k", "loss", "lower", "upper", "proved")
    curves = {f"{m.name}_{key}": getattr(m.curve, key) for m in found.methods for key in kept}
    tests = {m.name: m.test for m in found.methods if m.test is not None}
    seen = {(name, key): getattr(test, key) for name, test in tests.items() for key in _TESTED}
    curves |= {f"{name}_test_{key}": value for (name, key), value in seen.items() if value is not None}
    picture = plot.forecast(found).figure
    text = json_text(found.to_dict()).encode()
    return {"forecast.json": text, "forecast.npz": _npz(curves), "forecast.png": png(picture)}


def class_files(found: Any) -> dict[str, bytes]:
    """forecast.json and forecast.npz of a forecast of classes."""
    curves = {(m.name, kind): getattr(m, kind) for m in found.methods for kind in ("training", "test")}
    arrays = {
        f"{name}_{kind}_{key}": getattr(curve, key)
        for (name, kind), curve in curves.items()
        for key in ("k", "loss", "accuracy")
        if curve is not None
    }
    text = json_text(found.to_dict()).encode()
    return {"forecast.json": text, "forecast.npz": _npz(arrays)}


def _save(
    folder: str | os.PathLike[str] | OutputFolder, files: Mapping[str, bytes], stale: Iterable[str] = ()
) -> Path:
    if isinstance(folder, OutputFolder):
        return folder.replace(files, stale)
    with OutputFolder(folder) as held:
        return held.replace(files, stale)


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


def png(figure: Any) -> bytes:
    """Return the bytes of a picture."""
    return rendered(figure, "png")
