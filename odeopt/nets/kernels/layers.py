r"""Layers found in the autograd graph, whatever module or function made them, and their parts of J.

A weight W that is used once, in a product :math:`z=aW^\top` or a convolution, has of example i the derivative
:math:`\sum_sg_{is}a_{is}^\top` over positions s: a are the inputs that the graph has saved, g the cotangents
at z, which one backward pass for each output finds for all examples at once. If the weight is used elsewhere
too, is derived from another, or the examples influence each other, this is wrong: who uses it compares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.graph import GradientEdge

__all__ = ["Factor", "Layer", "factors_of", "layers_of"]

# Of what a product or convolution saves for its backward pass, the inputs, by its name and the slot of the
# weight; and the slots of a bias.
_INPUTS = {
    ("MmBackward0", 1): "_saved_self",
    ("AddmmBackward0", 2): "_saved_mat1",
    ("MvBackward0", 1): "_saved_self",
    ("ConvolutionBackward0", 1): "_saved_input",
}
_BIASES = {("AddmmBackward0", 0), ("ConvolutionBackward0", 2), ("AddBackward0", 0), ("AddBackward0", 1)}
_TURNS = ("TBackward0", "PermuteBackward0", "TransposeBackward0")
_PATCHES = 2**20  # entries of the patches of a convolution at a time: what the allocator keeps for reuse


class Layer(NamedTuple):
    """A product or convolution, and which of the leaves are its weight and its bias.

    `turned`: the weight has shape (q, p), outputs first. `batched`: the example is the first of the two axes
    that rows of a product count, not the second.
    """

    node: Any
    weight: int | None
    bias: int | None
    turned: bool
    batched: bool = True

    @property
    def leaves(self) -> tuple[int, ...]:
        return tuple(leaf for leaf in (self.weight, self.bias) if leaf is not None)


def layers_of(output: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[Layer]:
    """The products and convolutions whose weight or bias is a leaf that is used nowhere else."""
    parents = _parents(output)
    number = {id(leaf): i for i, leaf in enumerate(leaves)}
    weights: dict[Any, tuple[int, bool]] = {}
    biases: dict[Any, int] = {}
    for end in list(parents):
        leaf = number.get(id(getattr(end, "variable", None)))
        if leaf is None or len(parents[end]) != 1 or leaves[leaf].dtype != torch.float64:
            continue
        ((node, slot),), turned = parents[end], leaves[leaf].ndim != 2
        if node.name() in _TURNS and leaves[leaf].ndim == 2 and len(parents[node]) == 1:
            ((node, slot),), turned = parents[node], True
        if (node.name(), slot) in _INPUTS and _is_plain(node):
            weights[node] = leaf, turned
        elif (node.name(), slot) in _BIASES and leaves[leaf].ndim == 1 and _is_plain(node):
            biases[node] = leaf
    return [
        Layer(node, weight, biases.get(node), turned)
        for node, (weight, turned) in (dict.fromkeys(biases, (None, False)) | weights).items()
    ]


def _parents(output: torch.Tensor) -> dict[Any, list[tuple[Any, int]]]:
    """Which nodes of the graph take a node as an input, and in which slot."""
    found: dict[Any, list[tuple[Any, int]]] = defaultdict(list)
    pending: list[Any] = [output.grad_fn]
    seen = set(pending)
    while pending:
        node = pending.pop()
        for slot, (child, _) in enumerate(node.next_functions):
            if child is not None:
                found[child].append((node, slot))
                if child not in seen:
                    seen.add(child)
                    pending.append(child)
    return found


def _is_plain(node: Any) -> bool:
    """Whether a product has no factors, and a convolution is not transposed."""
    if node.name() == "ConvolutionBackward0":
        return not node._saved_transposed
    return getattr(node, "_saved_alpha", 1) == getattr(node, "_saved_beta", 1) == 1


class Factor:
    """Inputs and cotangents of a layer: m examples, c outputs, S positions, G groups from p to q numbers."""

    def __init__(self, layer: Layer, weight: torch.Tensor | None, m: int, cotangents: torch.Tensor) -> None:
        self.layer = layer
        self._sizes = () if weight is None else tuple(weight.shape[2:])
        self._is_convolution: bool = layer.node.name() == "ConvolutionBackward0"
        self.examples: int = m
        self.outputs: int = len(cotangents)
        self.groups: int = 1
        self.positions: int
        self.width: int
        self.depth: int
        saved: Any = None if weight is None else getattr(layer.node, _INPUTS[self._name()]).detach()
        if self._is_convolution:
            self.groups = int(layer.node._saved_groups)
            self._cotangents = cotangents.flatten(3).transpose(0, 1)  # (m, c, G q, S)
            self.positions, self.width = self._cotangents.shape[-1], self._cotangents.shape[2] // self.groups
            self._inputs: Any = saved
            self.depth = 0 if weight is None else weight[0].numel()
        else:
            width = 1 if cotangents.ndim == 2 else cotangents.shape[-1]
            cotangents = cotangents.reshape(self.outputs, -1, width)
            self._cotangents = self._by_example(cotangents).permute(1, 0, 3, 2)
            self.positions, self.width = self._cotangents.shape[-1], self._cotangents.shape[2]
            self._inputs = None if saved is None else self._by_example(saved[None])[0]
            self.depth = 0 if saved is None else saved.shape[1]

    def recorded_entries(self) -> int:
        """Cotangents and inputs (those of a convolution as patches) of one example."""
        return self.groups * self.positions * (self.depth + self.outputs * self.width)

    def _name(self) -> tuple[str, int]:
        name = self.layer.node.name()
        return name, next(slot for known, slot in _INPUTS if known == name)

    def _by_example(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of a product, shape (., m S, width), as (., m, S, width)."""
        count, width = len(rows), rows.shape[-1]
        if self.layer.batched:
            return rows.reshape(count, self.examples, -1, width)
        return rows.reshape(count, -1, self.examples, width).transpose(1, 2)

    def inputs(self, part: slice) -> torch.Tensor:
        """Of some examples, shape (., G, S, p): the rows of a product, the patches of a convolution."""
        if not self._is_convolution:
            return self._inputs[part, None]
        node, sizes = self.layer.node, self._sizes
        padding = [p for p in reversed(node._saved_padding) for _ in range(2)]
        images = nn.functional.pad(self._inputs[part], padding)
        steps = zip(sizes, node._saved_stride, node._saved_dilation, strict=True)
        for axis, (size, stride, dilation) in enumerate(steps, 2):
            images = images.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
        axes = len(sizes)
        order = [0, 1, *range(2 + axes, 2 + 2 * axes), *range(2, 2 + axes)]
        patches = images.permute(order).reshape(len(images), self.groups, self.depth, -1)
        return patches.transpose(2, 3)

    def cotangents(self, part: slice) -> torch.Tensor:
        """Of some examples, shape (., G, c q, S)."""
        of = self._cotangents[part]
        if self.groups == 1:
            return of.reshape(len(of), 1, -1, self.positions)
        of = of.reshape(len(of), self.outputs, self.groups, self.width, self.positions)
        return of.transpose(1, 2).reshape(len(of), self.groups, -1, self.positions)

    def rows(self) -> torch.Tensor:
        """Rows of the Jacobian by the weight, shape (m c, G q p)."""
        size = self.groups * self.width * self.depth
        found = self._cotangents.new_empty(self.examples, self.outputs, size)
        step = max(1, _PATCHES // (self.groups * self.positions * self.depth))
        for start in range(0, self.examples, step):
            part = slice(start, start + step)
            cotangents, inputs, into = self.cotangents(part), self.inputs(part), found[part]
            if self.groups == 1:
                torch.bmm(cotangents[:, 0], inputs[:, 0], out=into.view(len(into), -1, self.depth))
                continue
            block = (cotangents @ inputs).view(len(into), self.groups, self.outputs, -1)
            into.copy_(block.transpose(1, 2).reshape(len(into), self.outputs, size))
        return found.view(-1, size)

    def weighted(self, c: torch.Tensor) -> torch.Tensor:
        """The cotangents of the sum of outputs with weights c, if no example acts on others."""
        return (c.view(self.examples, self.outputs, 1, 1) * self._cotangents).sum(1)

    def bias_rows(self) -> torch.Tensor:
        """Rows of the Jacobian by the bias, shape (m c, G q)."""
        return self._cotangents.sum(-1).reshape(self.examples * self.outputs, -1)


def _counts(layer: Layer, cotangent: torch.Tensor, m: int) -> bool:
    """Whether the rows of a cotangent can be so many examples."""
    if layer.node.name() == "ConvolutionBackward0":
        return len(cotangent) == m
    return (len(cotangent) if cotangent.ndim == 1 else cotangent.shape[:-1].numel()) % m == 0


def factors_of(
    output: torch.Tensor,
    layers: Sequence[Layer],
    leaves: Sequence[torch.Tensor],
    m: int,
    weights: torch.Tensor | None = None,
) -> list[Factor | None]:
    """The factors of layers, by a backward pass for each output, or for the one sum of all with weights.

    None stands where the cotangents are not those of examples.
    """
    edges = [GradientEdge(layer.node, 0) for layer in layers]
    c = len(output) // m
    found: list[list[torch.Tensor | None]] = [[] for _ in layers]
    if weights is None:
        units = torch.eye(c, dtype=output.dtype, device=output.device)
        passes = [unit.repeat(m) for unit in units]
    else:
        passes, c = [weights], 1
    for cotangent in passes if layers else ():
        parts = torch.autograd.grad(output, edges, cotangent, retain_graph=True, allow_unused=True)
        for into, part in zip(found, parts, strict=True):
            into.append(part)
    factors: list[Factor | None] = []
    for layer, cotangents in zip(layers, found, strict=True):
        reached = [part for part in cotangents if part is not None and _counts(layer, part, m)]
        if len(reached) < c:
            factors.append(None)
            continue
        weight = None if layer.weight is None else leaves[layer.weight]
        factors.append(Factor(layer, weight, m, reached[0][None] if c == 1 else torch.stack(reached)))
    return factors
