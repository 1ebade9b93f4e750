r"""Product with a symmetric matrix on a GPU, of which each stored entry is read once.

The strict upper half lies in one buffer, panel after panel (:class:`odeopt.kernels.packing.Packing`). A
program takes HEIGHT rows and CHUNK columns of it, tile by tile: in float64 it adds :math:`a_{ij}x_j` to the
sums of its rows, which it keeps, and writes :math:`\sum_ia_{ij}x_i`, the share of the lower half, once for
each column. The partial sums are added in a fixed order, so that equal vectors have equal products.

Triton compiles it at the first product.
"""

# pyright: reportInvalidTypeForm=false

from __future__ import annotations

from typing import Any

from odeopt.kernels.packing import Packing

tl: Any
triton: Any
try:  # comes with torch for a GPU
    import triton  # pyright: ignore[reportMissingImports]
    import triton.language as tl  # pyright: ignore[reportMissingImports]
except ImportError:
    triton = tl = None

__all__ = ["HAS_TRITON", "FusedProduct"]

HAS_TRITON: bool = triton is not None
WIDTH, WARPS, STAGES = 32, 4, 4


class FusedProduct:
    """x -> H x for a vector on the device, by the strict upper half in a buffer and the diagonal."""

    def __init__(self, buffer: Any, diagonal: Any, packing: Packing, chunk: int) -> None:
        self._buffer, self._diagonal, self._packing, self._chunk = buffer, diagonal, packing, chunk
        width = packing.width
        blocks, chunks = width // packing.grain, -(-width // chunk)
        self._x = diagonal.new_zeros(width)
        # what no program writes stays 0
        self._across, self._down = diagonal.new_zeros((chunks, width)), diagonal.new_zeros((blocks, width))
        self._grid = (blocks, chunks)

    def __call__(self, x: Any, absolute: bool = False) -> Any:
        n, packing = self._packing.n, self._packing
        self._x[:n] = x
        _kernel[self._grid](
            self._buffer,
            self._x,
            self._across,
            self._down,
            packing.width,
            packing.rows,
            absolute,
            packing.grain,
            WIDTH,
            self._chunk,
            STAGES,
            num_warps=WARPS,
        )
        diagonal = abs(self._diagonal) if absolute else self._diagonal
        return diagonal * x + self._across.sum(0)[:n] + self._down.sum(0)[:n]


def _strict_upper_half(
    buffer,
    x,
    across,
    down,
    width,
    panel_rows,
    ABSOLUTE: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNK: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One block of rows and one chunk of columns; width, panel_rows, HEIGHT and CHUNK are multiples of 32."""
    block, chunk = tl.program_id(0), tl.program_id(1)
    first = block * HEIGHT
    if (chunk + 1) * CHUNK > first:
        panel = (first // panel_rows).to(tl.int64)
        top = panel * panel_rows
        stride = tl.multiple_of(width - top, 32)
        # the formula of Packing.offset, then to the row, and back by the columns left of the panel
        origin = panel * panel_rows * width - (panel * (panel - 1) // 2) * panel_rows * panel_rows
        origin = tl.multiple_of(origin + (first - top) * stride - top, 32)
        i, j = first + tl.arange(0, HEIGHT), tl.arange(0, WIDTH)
        high = tl.load(x + i)[:, None]
        sums = tl.zeros((HEIGHT, WIDTH), tl.float64)
        lines = buffer + origin + tl.arange(0, HEIGHT)[:, None] * stride
        begin, end = tl.maximum(chunk * CHUNK, first), tl.minimum((chunk + 1) * CHUNK, width)
        for start in tl.range(begin, end, WIDTH, num_stages=STAGES):
            column = tl.multiple_of(start, WIDTH) + j
            tile = tl.load(lines + column[None, :])
            tile = tl.where(column[None, :] > i[:, None], tile, 0.0).to(tl.float64)
            if ABSOLUTE:
                tile = tl.abs(tile)
            sums += tile * tl.load(x + column)[None, :]
            tl.store(down + block.to(tl.int64) * width + column, tl.sum(tile * high, axis=0))
        tl.store(across + chunk.to(tl.int64) * width + i, tl.sum(sums, axis=1))


_kernel: Any = None if triton is None else triton.jit(_strict_upper_half)
