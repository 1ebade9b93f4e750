r"""The state of a Lanczos run on disk: written beside, moved into place, resumed for its problem only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from odeopt.checks import DAMAGED

__all__ = ["State"]

_EPS = float(np.finfo(float).eps)
_SINGLE_EPS = float(np.finfo(np.float32).eps)
_FORMAT = 2
_SEED = 20_011  # of the vector whose product tells one kernel from another


class State:
    """One file, tied to a start by its digest and to a kernel by its product with a random vector."""

    def __init__(
        self, path: str | os.PathLike[str], starts: np.ndarray, product: Callable[..., Any], name: str
    ) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"state must be a file name, got {path!r}")
        self.path: Path = Path(path)
        self.name: str = name
        folder = self.path.parent
        if not folder.is_dir():
            raise ValueError(f"state {os.fspath(path)!r} needs a folder {os.fspath(folder)!r}; create it")
        if self.path.is_dir() or not os.access(folder, os.W_OK):
            raise ValueError(f"state {os.fspath(path)!r} is a folder or lies in one that cannot be written")
        digest = hashlib.sha256(np.ascontiguousarray(starts).tobytes()).digest()
        self.starts: npt.NDArray[np.uint8] = np.frombuffer(digest, dtype=np.uint8)
        self._product, self._n = product, len(starts)
        self._seen: np.ndarray | None = None

    def _probe(self) -> np.ndarray:
        """The product of the kernel with a random vector, taken once."""
        if self._seen is None:
            vector = np.random.default_rng(_SEED).standard_normal((self._n, 1))
            self._seen = np.asarray(self._product(vector), dtype=float).reshape(-1)
        return self._seen

    def save(self, runs: list[Any]) -> None:
        """Write the state beside its file and move it into place."""
        arrays = {"format": np.array(_FORMAT), "starts": self.starts, "probe": self._probe()}
        for i, run in enumerate(runs):
            arrays |= run.arrays(i)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            raise ValueError(
                f"state {os.fspath(self.path)!r} could not be written ({error.strerror or error}); what it "
                "held before is untouched; make room, or run without a state"
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def load(self, runs: list[Any]) -> int:
        """Fill the runs from the file, once it is known to belong to this problem; return the steps done."""
        self._probe()  # before the first step: what fails, or is asked of the kernel, comes first
        if not self.path.exists():
            return 0
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                if int(held["format"]) != _FORMAT:
                    raise ValueError(f"it has format {int(held['format'])}, this version reads {_FORMAT}")
                if not np.array_equal(held["starts"], self.starts):
                    raise ValueError("it was begun with another delta0")
                self._require_same_kernel(held["probe"])
                for i, run in enumerate(runs):
                    run.restore(held, i)
        except DAMAGED as error:
            raise ValueError(
                f"state {os.fspath(self.path)!r} cannot be resumed: {error}; remove it"
            ) from error
        return max((len(run.alpha) for run in runs), default=0)

    def _require_same_kernel(self, before: np.ndarray) -> None:
        now = self._probe()
        single = bool((now.astype(np.float32) == now).all())
        gap = float(np.linalg.norm(now - before)) if before.shape == now.shape else np.inf
        # The same product of the same vector: equal but for the rounding of n terms.
        if not gap <= 100 * now.size * (_SINGLE_EPS if single else _EPS) * float(np.linalg.norm(now)):
            raise ValueError(
                f"it was begun with another {self.name}, whose product with one vector is {gap:.3g} away"
            )
