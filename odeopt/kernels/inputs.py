r"""Inputs of a ReLU kernel: checked, scaled to unit rows, and what in them makes the kernel singular."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from odeopt.checks import real_array
from odeopt.shown import Shown

__all__ = [
    "SingularPart", "index_chunks", "parallel_tolerance", "require_a_direction",
    "require_independent_pairs", "singular_part", "unit_rows", "validate_inputs",
]  # fmt: skip

WORK_ENTRIES = 2**22  # entries of a work array: 32 MB of float64
_SHOWN = 4  # rows, groups or pairs that a text names


def validate_inputs(
    x: npt.ArrayLike, *, allow_parallel: bool = False, allow_blank: bool = False, depth: int = 1
) -> np.ndarray:
    r"""Return the inputs as float64, or say why their ReLU kernel is singular.

    That of a bias-free ReLU network is positive definite when no two inputs are parallel [1]_. Rows of one
    direction and rows of norm zero make it singular; antipodal pairs :math:`\pm x_i` only if the :math:`x_i`
    are linearly dependent and there is one hidden layer.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row.
    allow_parallel : bool, optional
        Accept rows that are not zero but make the kernel singular.
    allow_blank : bool, optional
        Accept rows of zero norm.
    depth : int, optional
        Number of hidden layers.

    Returns
    -------
    numpy.ndarray, shape (n, d)
        A copy in float64.

    Raises
    ------
    ValueError
        If `x` is not a real, finite, non-empty matrix, or its kernel is singular (unless allowed): the rows
        are named.

    References
    ----------
    .. [1] S. S. Du, X. Zhai, B. Poczos, A. Singh, "Gradient descent provably optimizes
       over-parameterized neural networks", ICLR 2019, Theorem 3.1.

    Examples
    --------
    >>> validate_inputs([[1, 0], [0, 1], [-1, 0]]).shape
    (3, 2)
    >>> validate_inputs([[1, 2], [0, 1], [3, 6]])
    Traceback (most recent call last):
        ...
    ValueError: x has parallel rows 0 and 2, so its ReLU kernel is singular; drop one of them
    """
    x = real_array(x, "x", ndim=2)
    blank = np.flatnonzero(~x.any(axis=1))
    if len(blank) and not allow_blank:
        raise ValueError(
            f"x has a row of zero norm: row {blank[0]} ({len(blank)} in all), on which a bias-free "
            "ReLU network is constant; drop it or append a constant feature"
        )
    if not allow_parallel:
        part = singular_part(x, depth=depth)
        if part.parallel:
            a, b = part.parallel[0][:2]
            kind = "identical" if np.array_equal(x[a], x[b]) else "parallel"
            raise ValueError(
                f"x has {kind} rows {a} and {b}, so its ReLU kernel is singular; drop one of them"
            )
        if part.antipodal:
            raise ValueError(_dependent_pairs(part.antipodal))
    return x


def require_a_direction(x: np.ndarray) -> None:
    """Refuse examples that are blank, all of them."""
    if not x.any():
        raise ValueError(
            "x has only blank rows, on which a bias-free network is 0: there is nothing to train on"
        )


def unit_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows at unit norm, and their norms; a zero row stays zero."""
    # Dividing by the largest entry first keeps the squares inside the range of float64.
    scale = np.maximum(x.max(axis=1), -x.min(axis=1))
    unit = x / np.where(scale > 0, scale, 1.0)[:, None]
    norm = np.sqrt(np.einsum("ij,ij->i", unit, unit))
    unit /= np.where(norm > 0, norm, 1.0)[:, None]
    return unit, scale * norm


def parallel_tolerance(n: int) -> float:
    r"""Return the distance of unit rows below which their kernel is singular in float64.

    Two rows at distance :math:`\delta` give :math:`\lambda_{\min}\le\delta/2\pi` to first order, and computed
    eigenvalues carry errors of about :math:`n\epsilon`.
    """
    return 8 * n * float(np.finfo(float).eps)


def index_chunks(d: int, *arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut index arrays so that the rows they gather fit in a block."""
    size = max(1, WORK_ENTRIES // d)
    for start in range(0, len(arrays[0]), size):
        yield tuple(a[start : start + size] for a in arrays)


@dataclass(frozen=True, repr=False)
class SingularPart(Shown):
    r"""What makes the kernel of unit rows singular: blank rows, parallel rows, dependent antipodal pairs.

    In the null space that they span the error never changes, for the infinite network and for every finite
    one without biases: of outputs that are equal, or 0, or linear in x, the targets cannot differ.

    Parameters
    ----------
    n : int
        Number of rows.
    blank : tuple of int
        Rows of zero norm.
    parallel : tuple of tuple of int
        Groups of rows of one direction.
    antipodal : tuple of tuple of int
        Pairs of rows :math:`\pm x_i` whose directions are linearly dependent; empty if they are not.
    directions : numpy.ndarray of int, shape (n,)
        Number of the direction of each row, -1 for a blank one.
    _null : numpy.ndarray, shape (g, k)
        Orthonormal basis of the null space of the dependent pairs, in the g coordinates of :meth:`reduced`.

    Examples
    --------
    >>> part = singular_part([[1.0], [2.0], [-1.0], [0.0]])
    >>> print(part)
    1 blank row(s) (3); 1 group(s) of parallel rows (0, 1)
    >>> part.dimension, part.plateau([1.0, 3.0, 5.0, 2.0])  # ((1 - 2)^2 + (3 - 2)^2 + 2^2)/2
    (2, 3.0)
    """

    n: int
    blank: tuple[int, ...]
    parallel: tuple[tuple[int, ...], ...]
    antipodal: tuple[tuple[int, int], ...]
    directions: np.ndarray
    _null: np.ndarray

    def __bool__(self) -> bool:
        return self.dimension > 0

    @property
    def dimension(self) -> int:
        """Dimension of the null space."""
        return len(self.blank) + sum(len(group) - 1 for group in self.parallel) + self._null.shape[1]

    @property
    def rank(self) -> int:
        """Dimension of the rest, where the error changes."""
        return self.n - self.dimension

    @property
    def sizes(self) -> np.ndarray:
        """Number of rows of each direction, shape (g,)."""
        return np.bincount(self.directions[self.directions >= 0])

    def reduced_rows(self, unit: np.ndarray) -> np.ndarray:
        r"""Return the rows of H off its null space, :math:`\sqrt{n_g}\,u_g` for each direction.

        Parameters
        ----------
        unit : numpy.ndarray, shape (n, d)
            Inputs at unit norm.

        Returns
        -------
        numpy.ndarray, shape (g, d)
            The first row of each direction times the root of its number of rows.
        """
        seen, first = np.unique(self.directions, return_index=True)
        return unit[first[seen >= 0]] * np.sqrt(self.sizes)[:, None]

    def reduced(self, delta: npt.ArrayLike) -> np.ndarray:
        r"""Return what of an error can change: :math:`\sqrt{n_g}` times the mean of each direction.

        Parameters
        ----------
        delta : array_like, shape (n,) or (n, c)
            Error :math:`u-y`, one row an example.

        Returns
        -------
        numpy.ndarray, shape (g,) or (g, c)
            The error in the coordinates of :meth:`reduced_rows`, off the dependent pairs.
        """
        means, _ = self._means(delta)
        return (means - self._null @ (self._null.T @ means)).reshape(-1, *np.shape(delta)[1:])

    def plateau(self, delta: npt.ArrayLike) -> float:
        """Return the loss of the part of an error that cannot change, at any width.

        Parameters
        ----------
        delta : array_like, shape (n,) or (n, c)
            Error :math:`u-y`, one row an example.

        Returns
        -------
        float
            Half the squared norm of its projection on the null space.
        """
        means, rest = self._means(delta)
        return float((rest**2).sum() + ((self._null.T @ means) ** 2).sum()) / 2

    def _means(self, delta: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return root size times the mean of each direction, and what is left of each row, in columns."""
        rest, kept, sizes = np.array(delta, dtype=float), self.directions >= 0, self.sizes[:, None]
        rest = rest.reshape(len(rest), -1)
        means = np.zeros((len(sizes), rest.shape[1]))
        np.add.at(means, self.directions[kept], rest[kept])
        means /= sizes
        rest[kept] -= means[self.directions[kept]]
        return means * np.sqrt(sizes), rest

    def __str__(self) -> str:
        texts = []
        if self.blank:
            texts.append(f"{len(self.blank)} blank row(s) ({_shown(self.blank)})")
        if self.parallel:
            groups = "; ".join(_shown(group) for group in self.parallel[:_SHOWN])
            more = "; ..." if len(self.parallel) > _SHOWN else ""
            texts.append(f"{len(self.parallel)} group(s) of parallel rows ({groups}{more})")
        if self.antipodal:
            pairs = _shown([f"{i} and {j}" for i, j in self.antipodal])
            texts.append(f"{len(self.antipodal)} linearly dependent antipodal pairs ({pairs})")
        return "; ".join(texts) or "none"


def singular_part(x: npt.ArrayLike, *, depth: int = 1) -> SingularPart:
    """Find what makes the kernel of rows, scaled to unit norm, singular.

    Parameters
    ----------
    x : array_like, shape (n, d)
        Inputs, one a row.
    depth : int, optional
        Number of hidden layers.

    Returns
    -------
    SingularPart
        Blank rows, groups of parallel ones and dependent antipodal pairs, each by its rows.

    Raises
    ------
    ValueError
        If `x` is not a real, finite, non-empty matrix.

    Examples
    --------
    >>> print(singular_part([[1.0, 0.0], [0.0, 1.0]]))
    none
    """
    x = real_array(x, "x", ndim=2)
    n, kept = len(x), np.flatnonzero(x.any(axis=1))
    directions, empty = np.full(n, -1), np.zeros((0, 0))
    if not len(kept):
        return SingularPart(n, tuple(range(n)), (), (), directions, empty)
    unit, _ = unit_rows(x[kept])
    directions[kept], opposite = _directions(unit, parallel_tolerance(n))
    _, first = np.unique(directions[kept], return_index=True)
    null = _pair_null_space(unit[first], opposite, np.bincount(directions[kept]), n) if depth == 1 else empty
    members = np.argsort(directions[kept], kind="stable")
    groups = np.split(kept[members], np.cumsum(np.bincount(directions[kept]))[:-1])
    return SingularPart(
        n,
        tuple(np.flatnonzero(directions < 0).tolist()),
        tuple(tuple(rows.tolist()) for rows in groups if len(rows) > 1),
        tuple((int(kept[first[i]]), int(kept[first[j]])) for i, j in opposite) if null.shape[1] else (),
        directions,
        null if null.shape[1] else np.zeros((len(first), 0)),
    )


def _directions(unit: np.ndarray, tolerance: float) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Number the directions of unit rows as they first come, and list the pairs of opposite ones."""
    # Equal rows first, by sorting: only different ones are compared in pairs.
    distinct, back = np.unique(unit, axis=0, return_inverse=True)
    i, j, sign = _near_pairs(distinct, tolerance)
    same = sign > 0
    links = coo_array((np.ones(same.sum()), (i[same], j[same])), shape=(len(distinct),) * 2)
    _, label = connected_components(links, directed=False)
    _, first = np.unique(label[back.reshape(-1)], return_index=True)
    number = np.argsort(np.argsort(first))[label]  # of a distinct row, in the order of first rows
    opposite = {
        tuple(sorted(pair)) for pair in zip(number[i[~same]].tolist(), number[j[~same]].tolist(), strict=True)
    }
    return number[back.reshape(-1)], sorted(opposite)


def _near_pairs(unit: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return i < j and s = 1 or -1 of all pairs of unit rows with |u_i - s u_j| within the tolerance."""
    found = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    n = len(unit)
    rows = max(1, WORK_ENTRIES // n)
    for start in range(0, n, rows):
        cosine = unit[start : start + rows] @ unit.T
        # The cosine only preselects (its rounding hides angles below 1e-8); differences decide.
        i, j = np.nonzero(np.triu(np.abs(cosine) > 1 - 1e-10, k=start + 1))
        for a, b, sign in index_chunks(unit.shape[1], i + start, j, np.sign(cosine[i, j])):
            hit = np.linalg.norm(unit[a] - sign[:, None] * unit[b], axis=1) <= tolerance
            found.append((a[hit], b[hit], sign[hit]))
    i, j, sign = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return i, j, sign


def _relations(unit: np.ndarray, pairs: list[tuple[int, int]], n: int) -> np.ndarray:
    r"""Return a basis, in columns, of all a with :math:`\sum_ia_ix_i=0` over the directions of the pairs."""
    # relu(w.x) - relu(-w.x) = w.x is linear: over the pairs +-x_1 ... +-x_p the kernel contains
    # the linear kernel X X', whose smallest eigenvalue is the square of the singular value.
    left, values, _ = np.linalg.svd(unit[[i for i, _ in pairs]])
    rank = int((values**2 > parallel_tolerance(n)).sum())
    return left[:, rank:]


def _pair_null_space(unit: np.ndarray, pairs: list[tuple[int, int]], sizes: np.ndarray, n: int) -> np.ndarray:
    """Return an orthonormal basis of what dependent antipodal pairs take from the reduced kernel."""
    if not pairs:
        return np.zeros((0, 0))
    relations, (one, other) = _relations(unit, pairs, n), np.array(pairs).T
    null = np.zeros((len(unit), relations.shape[1]))
    null[one], null[other] = relations, -relations
    return np.linalg.qr(null / np.sqrt(sizes)[:, None])[0]


def require_independent_pairs(unit: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    """Raise ValueError if the directions of antipodal pairs of rows are linearly dependent."""
    if _relations(unit, pairs, len(unit)).shape[1]:
        raise ValueError(_dependent_pairs(pairs))


def _dependent_pairs(pairs: Sequence[tuple[int, int]]) -> str:
    shown = _shown([f"{i} and {j}" for i, j in pairs])
    return (
        f"x has {len(pairs)} antipodal pairs of rows ({shown}) whose directions are linearly dependent, "
        "so its ReLU kernel is singular; drop one row of some of the pairs"
    )


def _shown(names: Sequence[object]) -> str:
    return ", ".join(str(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
