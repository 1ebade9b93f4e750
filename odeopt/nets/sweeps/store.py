r"""The folder of a sweep: one file a run, complete under its name or not there, and a lock."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from odeopt.checks import DAMAGED

try:
    import fcntl
except ImportError:  # not on Windows, where a second sweep in a folder is then not noticed
    fcntl = None

__all__ = ["Store", "locked", "read_run"]


def read_run(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a run; before one is made its size is compared with that of the file.

    Every byte is read, against its checksum: a file that was cut or changed raises an error of `DAMAGED`.
    """
    arrays, size = {}, path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }
                shape, fortran, dtype = read[version](file)
                count = int(np.prod(shape, dtype=object))
                stated = file.tell() + count * dtype.itemsize
                if dtype.hasobject or member.file_size != stated or stated > size:
                    raise ValueError(f"{member.filename} does not hold what its header says")
                values = np.frombuffer(file.read(), dtype=dtype, count=count).copy()
                arrays[member.filename.removesuffix(".npy")] = values.reshape(
                    shape, order="F" if fortran else "C"
                )
    return arrays


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder; the system frees it when the process ends, however it ends."""
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise ValueError(f"folder {folder} is not writable ({error.strerror}); choose another") from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(
                    f"folder {folder} is in use by another sweep; wait for it, or take another"
                ) from error
        yield


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    """Say what is kept where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"folder {folder} cannot be written ({error.strerror or error}); the runs that it holds are "
            "whole: make room, and the same call does the others"
        ) from error


class Store:
    """The runs that a folder holds, of those asked for: key to entry.

    `earlier` maps a key to the one that the same run had under an earlier version, under which it is read.
    """

    def __init__(
        self, folder: Path, keys: Mapping[str, Any], earlier: Mapping[str, str], *, retry_failed: bool
    ) -> None:
        self.folder = folder
        self.entries: dict[str, dict[str, Any]] = {}
        self.set_aside: list[str] = []
        for part in (folder / "runs").glob(".*.part"):  # of a process that was killed while writing
            part.unlink()
        for key in keys:
            entry = self._read(key)
            if entry is None and key in earlier:
                entry = self._read(earlier[key])
            if entry is not None and not (retry_failed and entry["status"] == "failed"):
                self.entries[key] = entry
        self.write_index()

    def _read(self, key: str) -> dict[str, Any] | None:
        """The entry of a run that is there; a damaged file is moved away, named, and counts as absent."""
        readers: dict[str, Callable[[Path], str]] = {
            "npz": lambda path: str(read_run(path)["_entry"]),
            "json": lambda path: path.read_text(),
        }
        for kind, read in readers.items():
            path = self.folder / "runs" / f"{key}.{kind}"
            if not path.exists():
                continue
            try:
                entry = json.loads(read(path))
                if entry["key"] == key and entry["status"] == ("done" if kind == "npz" else "failed"):
                    return entry
                reason = f"it holds run {entry['key']}"
            except DAMAGED as error:
                reason = str(error) or type(error).__name__
            path.replace(path.with_name(f"{path.name}.damaged"))
            self.set_aside.append(path.name)
            warnings.warn(
                f"{path} cannot be read ({reason}); it is set aside as {path.name}.damaged, and its run is "
                "done again",
                stacklevel=4,
            )
        return None

    def keep(self, key: str, spec: Mapping[str, Any], outcome: Any, seconds: float) -> None:
        """Write the file of a run, then its line of the index."""
        entry = {"key": key, "status": "done", "seconds": round(seconds, 4), "spec": dict(spec)}
        arrays: dict[str, np.ndarray] = {}
        if not isinstance(outcome, BaseException):
            try:
                arrays = {name: np.asarray(value) for name, value in outcome.items()}
                refused = [name for name, array in arrays.items() if array.dtype.hasobject]
                if refused:
                    raise TypeError(f"the task returned objects, not numbers, in {', '.join(refused)}")
            except (TypeError, ValueError, AttributeError) as error:
                outcome = error
        if isinstance(outcome, BaseException):
            reason = " ".join(f"{type(outcome).__name__}: {outcome}".split())
            entry |= {"status": "failed", "reason": reason}
            self._write(f"{key}.json", lambda file: file.write(json.dumps(entry).encode()))
        else:
            text = np.array(json.dumps(entry))
            self._write(f"{key}.npz", lambda file: np.savez(file, allow_pickle=False, _entry=text, **arrays))
            (self.folder / "runs" / f"{key}.json").unlink(missing_ok=True)  # of an earlier failure
        self.entries[key] = entry
        with _on_disk(self.folder), (self.folder / "index.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def _write(self, name: str, write: Callable[[Any], object]) -> None:
        part = self.folder / "runs" / f".{name}.part"
        try:
            with _on_disk(self.folder), part.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / "runs" / name)
        finally:
            part.unlink(missing_ok=True)

    def write_index(self) -> None:
        """Write the index anew, so that a line cut short by a kill does not stay."""
        part = self.folder / ".index.part"
        try:
            with _on_disk(self.folder):
                part.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries.values()))
            part.replace(self.folder / "index.jsonl")
        finally:
            part.unlink(missing_ok=True)
