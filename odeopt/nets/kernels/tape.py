r"""Outputs recorded at one point, and products with their Jacobian J by the weights.

:math:`J^\top c` is one backward pass. :math:`Jv` is the derivative of :math:`J^\top c`, linear in c, by
c: a backward pass through the backward pass, recorded once. Where torch has no second derivative of an
operation (`cdist`, functions of one's own) it is taken row by row. A complex weight counts as two real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

__all__ = ["Tape", "equal_to_rounding", "flat", "probe", "real_size", "split", "vectors"]

# Sums of the same numbers in another order differ by less than this power of the last digit (1.7e-10 in
# float64, 5e-5 in float32); what is wrong in them by less does not show in a kernel of 9 digits.
_ROUNDING = 5 / 8


def _vector(part: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """One real vector of the entries, a view where that can be; zeros where a part is None."""
    part = torch.zeros_like(like) if part is None else part.to_dense() if part.is_sparse else part
    return torch.view_as_real(part.resolve_conj()).reshape(-1) if part.is_complex() else part.reshape(-1)


def vectors(parts: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A real vector of each part."""
    return [_vector(part, p) for part, p in zip(parts, like, strict=True)]


def flat(parts: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """One real vector of all entries."""
    return torch.cat(vectors(parts, like))


def split(vector: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The parts of a real vector, in the shapes of `like`."""
    parts = []
    for part, p in zip(vector.split([real_size(p) for p in like]), like, strict=True):
        parts.append(
            torch.view_as_complex(part.reshape(*p.shape, 2)) if p.is_complex() else part.view(p.shape)
        )
    return parts


def real_size(p: torch.Tensor) -> int:
    """Number of real weights in a parameter."""
    return p.numel() * (2 if p.is_complex() else 1)


def probe(size: int, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A random vector that leaves the generators of the user alone."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(
        device=like.device, dtype=like.dtype
    )


def equal_to_rounding(
    one: torch.Tensor, other: torch.Tensor, *, scale: float = 0.0, floor: float = 0.0
) -> bool:
    """Whether two vectors differ by no more than the order of sums explains; `floor` is 0 up to rounding."""
    if torch.equal(one, other):
        return True
    eps, gap = torch.finfo(one.dtype).eps, float((one - other).norm())
    if gap == 0:
        return True
    scale = scale or max(float(one.norm()), float(other.norm()))
    return gap <= eps**_ROUNDING * scale + 1e3 * eps * floor


class Tape:
    """Outputs, shape (N,), as functions of leaves, and products with their Jacobian, shape (N, P)."""

    def __init__(self, output: torch.Tensor, leaves: Sequence[torch.Tensor]) -> None:
        self.output: torch.Tensor = output
        self.leaves: tuple[torch.Tensor, ...] = tuple(leaves)
        self._linear: tuple[torch.Tensor, tuple] | None = None
        self._twice: bool | None = None

    def pull_back(self, cotangent: torch.Tensor, *, keep: bool = True) -> torch.Tensor:
        r"""Return :math:`J^\top c`, shape (P,); without `keep` it is the last product."""
        parts = torch.autograd.grad(self.output, self.leaves, cotangent, retain_graph=keep, allow_unused=True)
        return flat(parts, self.leaves)

    def push_forward(self, tangent: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`Jv`, shape (N,)."""
        if self.differentiable_twice():
            return self._derivative(tangent)
        return torch.stack([row @ tangent for row in self.rows(range(len(self.output)))])

    def differentiable_twice(self) -> bool:
        r"""Whether :math:`Jv` is one pass, tried on :math:`c\cdot Jv=v\cdot J^\top c` for random c and v."""
        if self._twice is None:
            c, other = (probe(len(self.output), self.output, seed) for seed in (1, 2))
            pulled, tangent = self.pull_back(c), self.pull_back(other)
            try:
                pushed = self._derivative(tangent)
            except RuntimeError:  # torch has no second derivative of some operation
                self._twice = False
            else:
                scale = float(c.norm() * pushed.norm() + pulled.norm() * tangent.norm())
                self._twice = equal_to_rounding((c @ pushed)[None], (tangent @ pulled)[None], scale=scale)
        return self._twice

    def _derivative(self, tangent: torch.Tensor) -> torch.Tensor:
        if self._linear is None:
            c = torch.zeros_like(self.output, requires_grad=True)
            pulled = torch.autograd.grad(self.output, self.leaves, c, create_graph=True, allow_unused=True)
            self._linear = c, pulled
        c, pulled = self._linear
        pairs = [
            (g, v)
            for g, v in zip(pulled, split(tangent, self.leaves), strict=True)
            if g is not None and g.requires_grad
        ]
        if not pairs:
            return torch.zeros_like(self.output)
        outputs, weights = zip(*pairs, strict=True)
        (pushed,) = torch.autograd.grad(outputs, c, weights, retain_graph=True, allow_unused=True)
        return torch.zeros_like(self.output) if pushed is None else pushed

    def rows(self, which: range) -> Iterator[torch.Tensor]:
        """Rows of J, each a backward pass."""
        unit = torch.zeros_like(self.output)
        for i in which:
            unit[i] = 1.0
            yield self.pull_back(unit)
            unit[i] = 0.0
