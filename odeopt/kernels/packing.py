"""The upper half of a symmetric matrix in one buffer: panels of rows, each from the diagonal on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Packing"]


@dataclass(frozen=True)
class Packing:
    """Where the panels lie; width, rows and heights are multiples of `grain`, and what is beyond n is 0."""

    n: int
    rows: int
    grain: int = 1

    @property
    def width(self) -> int:
        """Columns of the first panel."""
        return -(-self.n // self.grain) * self.grain

    def offset(self, panel: int) -> int:
        """Place of the first entry of a panel."""
        return panel * self.rows * self.width - self.rows**2 * (panel * (panel - 1) // 2)

    def height(self, panel: int) -> int:
        """Rows of a panel."""
        return min(self.rows, self.width - panel * self.rows)

    @property
    def size(self) -> int:
        """Entries in all."""
        last = (self.width - 1) // self.rows
        return self.offset(last) + self.height(last) * (self.width - last * self.rows)

    def view(self, buffer: Any, panel: int) -> Any:
        """The entries of a panel in a buffer of numpy or torch, without those beyond n."""
        start, height = panel * self.rows, self.height(panel)
        wide = self.width - start
        held = buffer[self.offset(panel) : self.offset(panel) + height * wide].reshape(height, wide)
        return held[: self.n - start, : self.n - start]
