r"""Products :math:`JJ'^\top` of the rows of two sets of examples, a layer at a time and without most of J.

With inputs a and cotangents g of a layer (see :mod:`odeopt.nets.kernels.layers`) its share is

.. math:: \sum_{s,t}(g_{is}^\top g_{jt})(a_{is}^\top a_{jt}+1),

the 1 for a bias: products of Gram matrices, where these are less work than the rows of J. Their derivative of
a sum of outputs is compared by random products, since all of it would be as much work as a backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from odeopt.nets.kernels.layers import Factor
from odeopt.nets.kernels.tape import probe

__all__ = ["Pair", "Rows", "contracted", "held_entries", "is_less_as_pair", "parts_of"]

_TILE = 2**20  # entries of a product of Gram matrices at a time: what the allocator keeps for reuse
_BLOCK = 64  # rows of a symmetric product that are not halved further: below the diagonal is half the work
_PROBES = 4  # products r' (J' c) s by a weight: errors of 1e-9 go unseen by all of them with odds of 1e-8
_ELEMENTWISE = 8  # multiply-adds of a matrix product in the time of one entry read and written

Compared = tuple[int, torch.Tensor, torch.Tensor]  # a leaf, and two numbers or vectors of J'c by it


class Rows(NamedTuple):
    """Rows of J by some leaves, shape (m c, P), and the sizes of their parts.

    Those by a weight that is held inputs first, shape (p, q), are outputs first, with q the `width`.
    """

    matrix: torch.Tensor
    leaves: tuple[int, ...]
    sizes: tuple[int, ...]
    width: int = 0

    def pulled(self, c: torch.Tensor) -> dict[int, torch.Tensor]:
        product = c @ self.matrix
        if self.width:
            product = product.view(self.width, -1).T.reshape(-1)
        return dict(zip(self.leaves, product.split(self.sizes), strict=True))

    def pushed(self, tangents: Sequence[torch.Tensor]) -> torch.Tensor:
        parts = [tangents[leaf] for leaf in self.leaves]
        if self.width:
            parts = [parts[0].view(-1, self.width).T]
        return self.matrix @ torch.cat([part.reshape(-1) for part in parts])

    def compared(self, c: torch.Tensor, expected: Sequence[torch.Tensor]) -> Iterator[Compared]:
        for leaf, values in self.pulled(c).items():
            yield leaf, values, expected[leaf]

    def contract(self, other: Any, out: torch.Tensor) -> None:
        if other is self:
            _add_square(self.matrix, out)
        else:
            out.addmm_(self.matrix, other.matrix.T)

    def followed_by(self, others: Sequence[Rows]) -> Rows:
        return self._replace(matrix=torch.cat([part.matrix for part in (self, *others)]))


class Pair(NamedTuple):
    """Inputs (m, S, p) and cotangents (m, c, S, q) of a layer, its leaves, and whether outputs are first."""

    inputs: torch.Tensor
    cotangents: torch.Tensor
    weight: int
    bias: int | None
    turned: bool

    def pulled(self, c: torch.Tensor) -> dict[int, torch.Tensor]:
        weighted = (c.view(*self.cotangents.shape[:2], 1, 1) * self.cotangents).sum(1).flatten(0, 1)
        product = weighted.T @ self.inputs.flatten(0, 1)
        found = {self.weight: (product if self.turned else product.T).reshape(-1)}
        return found if self.bias is None else found | {self.bias: weighted.sum(0)}

    def compared(self, c: torch.Tensor, expected: Sequence[torch.Tensor]) -> Iterator[Compared]:
        r"""By the weight :math:`r^\top(J^\top c)s` for random r and s, in mean square the norm."""
        m, outputs, _, q = self.cotangents.shape
        weighted = (c.view(m, outputs, 1, 1) * self.cotangents).sum(1).flatten(0, 1)
        inputs, p = self.inputs.flatten(0, 1), self.inputs.shape[-1]
        r, t = probe(_PROBES * (p + q), c, seed=3).view(_PROBES, -1).T.split((q, p))
        one = ((weighted @ r) * (inputs @ t)).sum(0)
        matrix = expected[self.weight].view(*((q, p) if self.turned else (p, q)))
        other = (r * ((matrix if self.turned else matrix.T) @ t)).sum(0)
        yield self.weight, one / _PROBES**0.5, other / _PROBES**0.5
        if self.bias is not None:
            yield self.bias, weighted.sum(0), expected[self.bias]

    def pushed(self, tangents: Sequence[torch.Tensor]) -> torch.Tensor:
        m, _, s, q = self.cotangents.shape
        weight = tangents[self.weight].view(*((q, -1) if self.turned else (-1, q)))
        moved = self.inputs @ (weight.T if self.turned else weight)
        if self.bias is not None:
            moved = moved + tangents[self.bias].reshape(-1)
        return (self.cotangents * moved.view(m, 1, s, q)).sum((2, 3)).view(-1)

    def contract(self, other: Any, out: torch.Tensor) -> None:
        (m, c, s, _), (n, d, t, _) = self.cotangents.shape, other.cotangents.shape
        step = max(1, int((_TILE / (c * d * s * t)) ** 0.5))
        grid = out.view(m, c, n, d)
        for high in range(0, m, step):
            for wide in range(0, min(n, high + step) if other is self else n, step):
                first, second = slice(high, high + step), slice(wide, wide + step)
                a, b = self.inputs[first], other.inputs[second]
                alike = a.flatten(0, 1) @ b.flatten(0, 1).T
                if self.bias is not None:
                    alike += 1
                g, h = self.cotangents[first], other.cotangents[second]
                products = (g.flatten(0, 2) @ h.flatten(0, 2).T).view(len(a), c, s, len(b), d, t)
                products.mul_(alike.view(len(a), 1, s, len(b), 1, t))
                grid[first, :, second] += products.sum((2, 5)) if s * t > 1 else products[:, :, 0, :, :, 0]

    def followed_by(self, others: Sequence[Pair]) -> Pair:
        inputs = torch.cat([part.inputs for part in (self, *others)])
        return self._replace(
            inputs=inputs, cotangents=torch.cat([part.cotangents for part in (self, *others)])
        )


def _add_square(rows: torch.Tensor, out: torch.Tensor) -> None:
    """Add R R' to the lower triangle, and to what is above it in the blocks of the diagonal."""
    if len(rows) <= _BLOCK:
        out.addmm_(rows, rows.T)
        return
    half = len(rows) // 2
    _add_square(rows[:half], out[:half, :half])
    _add_square(rows[half:], out[half:, half:])
    out[half:, :half].addmm_(rows[half:], rows[:half].T)


def is_less_as_pair(factor: Factor, n: int) -> bool:
    """Whether the products of Gram matrices of n examples are less work than their rows."""
    c, s, p, q = factor.outputs, factor.positions, factor.depth, factor.width
    if factor.layer.weight is None or factor.groups > 1 or (c * s) ** 2 > 16 * _TILE:
        return False
    return n * s**2 * (p + c**2 * (q + _ELEMENTWISE)) < c * p * q * (n * c + 2 * s)


def held_entries(factor: Factor, as_pair: bool) -> int:
    """Entries of the parts of a factor, of one example."""
    c, s, p, q = factor.outputs, factor.positions, factor.depth, factor.width
    return s * (p + c * q) if as_pair else c * factor.groups * q * (p + 1)


def parts_of(factor: Factor, as_pair: bool) -> list[Rows | Pair]:
    """The part of J of a layer, in one of the two forms."""
    layer, m, c, s = factor.layer, factor.examples, factor.outputs, factor.positions
    if as_pair and layer.weight is not None:
        cotangents = factor.cotangents(slice(None)).view(m, c, -1, s).transpose(2, 3).contiguous()
        inputs = factor.inputs(slice(None))[:, 0].contiguous()
        return [Pair(inputs, cotangents, layer.weight, layer.bias, layer.turned)]
    found: list[Rows | Pair] = []
    if layer.weight is not None:
        rows = factor.rows()
        found.append(Rows(rows, (layer.weight,), (rows.shape[1],), 0 if layer.turned else factor.width))
    if layer.bias is not None:
        rows = factor.bias_rows()
        found.append(Rows(rows, (layer.bias,), (rows.shape[1],)))
    return found


def contracted(
    first: Sequence[Rows | Pair], second: Sequence[Rows | Pair], shape: tuple[int, ...]
) -> torch.Tensor:
    r""":math:`JJ'^\top` from the parts of both; symmetric if both are the same."""
    like = first[0].matrix if isinstance(first[0], Rows) else first[0].inputs
    out = torch.zeros(shape, dtype=like.dtype, device=like.device)
    for one, other in zip(first, second, strict=True):
        one.contract(other, out)
    return out.tril() + out.tril(-1).T if first is second else out
