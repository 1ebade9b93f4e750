r"""The state of a Lanczos run on disk: written beside, moved into place, resumed for its problem only."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["load", "save"]


_EPS = float(np.finfo(float).eps)
_FORMAT = 1


def _fingerprint(starts: np.ndarray) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(starts).tobytes()).digest(), dtype=np.uint8)


def save(path: Path, runs: list[Any], starts: np.ndarray) -> None:
    """Write the state beside its file and move it into place."""
    arrays = {"format": np.array(_FORMAT), "starts": _fingerprint(starts)}
    for i, run in enumerate(runs):
        arrays |= run.arrays(i)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def load(path: Path, runs: list[Any], starts: np.ndarray, product, name: str) -> int:
    """Fill the runs from the state file, once it is known to belong to this problem."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            if int(held["format"]) != _FORMAT:
                raise ValueError(f"it has format {int(held['format'])}, this version reads {_FORMAT}")
            if not np.array_equal(held["starts"], _fingerprint(starts)):
                raise ValueError("it was begun with another delta0")
            for i, run in enumerate(runs):
                run.restore(held, i)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"state {os.fspath(path)!r} cannot be resumed: {error}; remove it") from error
    _require_same_operator(path, runs, product, name)
    return max((len(run.alpha) for run in runs), default=0)


def _require_same_operator(path: Path, runs: list[Any], product, name: str) -> None:
    begun = next((run for run in runs if run.alpha), None)
    if begun is None:
        return
    first = begun.slabs[0][0]
    alpha = float(first @ np.asarray(product(first[:, None]))[:, 0])
    # The same product of the same vector: equal but for the rounding of n terms.
    if not abs(alpha - begun.alpha[0]) <= 100 * first.size * _EPS * begun.scale:
        raise ValueError(
            f"state {os.fspath(path)!r} cannot be resumed: it was begun with another {name} "
            f"(alpha_1 = {begun.alpha[0]:.10g}, now {alpha:.10g}); remove it"
        )
