r"""The infinite-width ReLU kernel spread over the workers of a ``dask.distributed`` cluster.

For data whose kernel outgrows one machine. The inputs go to every worker once; each chunk of panels of the
upper half is computed and kept by one worker; a product is one task for each chunk, whose shares are added
in a fixed order, so that the result does not depend on who computed them, up to rounding. A chunk lost
with its worker is computed anew by another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.kernels.blocks import Formula, SymmetricOperator, gram_panel, storage_error
from odeopt.kernels.inputs import require_independent_pairs, unit_rows, validate_inputs
from odeopt.kernels.matrix import norm_bound, require_range
from odeopt.kernels.memory import panel_rows
from odeopt.kernels.packing import Packing
from odeopt.kernels.products import Share, chosen_engine, equal_chunks, share_by
from odeopt.kernels.relu import ReluFormula, validate_architecture

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ClusterReluGram", "cluster_relu_gram"]


_ATTEMPTS = 3
# Entries of a chunk at least: a product reads them in some ten times what the scheduler takes for its task.
_LEAST = 2**25


def _build(inputs, chunk: range, rows: int, formula: Formula, storage: str, refuse: bool):
    unit, norms = inputs
    n, panels, facts = len(unit), [], []
    write = formula.compiled() if _sharing(n, storage)[1] == "numba" else None
    for start in (rows * index for index in chunk):
        panel = np.empty((min(rows, n - start), n - start), storage)
        facts.append(gram_panel(unit, norms, start, panel, formula=formula, refuse=refuse, write=write))
        panels.append((start, panel))
    return panels, facts


def _sharing(n: int, storage: str) -> tuple[Share, str]:
    """What this worker multiplies by, and its name."""
    return share_by(chosen_engine("auto", n, storage), storage)


def _itself(value):
    return value


def _facts(built):
    return built[1]


def _share(built, vectors: np.ndarray, absolute: bool) -> np.ndarray:
    panels, _ = built
    first, panel = panels[0]
    share, _ = _sharing(len(vectors), str(panel.dtype))
    return share([(start - first, panel) for start, panel in panels], vectors[first:], absolute)


class ClusterReluGram(SymmetricOperator):
    """The kernel of :func:`odeopt.relu_gram`, its panels held by the workers of a cluster.

    Parameters
    ----------
    client : distributed.Client
        The cluster, whose workers hold the panels.
    unit : numpy.ndarray, shape (n, d)
        Inputs at unit norm.
    norms : numpy.ndarray, shape (n,)
        Their norms.
    formula : ReluFormula
        Entries from cosines, angles and norms.
    storage : {"float32", "float64"}
        How workers keep the entries.
    refuse : bool
        Whether parallel rows, and of one hidden layer dependent antipodal pairs, raise ValueError.

    Attributes
    ----------
    interval : tuple of float
        0 and a bound on the largest eigenvalue.
    storage_error : float
        As that of :class:`odeopt.kernels.ReluGramOperator`.

    Examples
    --------
    >>> from distributed import Client
    >>> with Client(processes=False, n_workers=1, dashboard_address=None) as client:
    ...     operator = cluster_relu_gram(client, np.eye(3), storage="float64")
    ...     operator.shape, operator.interval[1] >= 0.5, operator.storage_error
    ((3, 3), True, 0.0)
    """

    def __init__(
        self,
        client: Client,
        unit: np.ndarray,
        norms: np.ndarray,
        formula: Formula,
        storage: str,
        refuse: bool,
    ) -> None:
        require_range(float(formula.diagonal(norms, np).max()), storage)
        n = len(unit)
        super().__init__(np.dtype(np.float64), (n, n))
        self._client: Any = client
        self._inputs = (unit, norms)
        self._rows = panel_rows(n)
        self._chunks = equal_chunks(Packing(n, self._rows), _LEAST, n)
        self._options = (self._rows, formula, storage, refuse)
        self._absolute_differs = True
        self._scatter()
        gathered = self._gathered(lambda: [self._client.submit(_facts, held) for held in self._held])
        facts = [each for found in gathered for each in found]
        self._absolute_differs = not all(each.nonnegative for each in facts)
        pairs = [pair for each in facts for pair in each.antipodal]
        if refuse and pairs and formula.depth == 1:
            require_independent_pairs(unit, pairs)
        squares = sum(each.squares for each in facts)
        self.storage_error: float = storage_error(storage, float(np.sqrt(squares)), n)
        bound = norm_bound(lambda v: self._product(v[:, None], absolute=True)[:, 0], n)
        self.interval: tuple[float, float] = (0.0, bound + self.storage_error)

    def _scatter(self) -> None:
        # To every worker, so that a chunk can be computed anew wherever one is lost.
        inputs = self._client.scatter(self._inputs, broadcast=True, hash=False)
        self._held = [
            self._client.submit(_build, inputs, chunk, *self._options, pure=False) for chunk in self._chunks
        ]

    def _gathered(self, submit) -> list[Any]:
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        for _ in range(_ATTEMPTS - 1):
            try:
                return self._client.gather(submit())
            except (FutureCancelledError, KilledWorker, OSError):
                # The last copy of the inputs went with its worker, or a connection did: begin anew with
                # the workers that are left.
                self._client.wait_for_workers(1)
                self._scatter()
        return self._client.gather(submit())

    def _product(self, vectors: np.ndarray, absolute: bool = False) -> np.ndarray:
        absolute = absolute and self._absolute_differs

        def submit():
            # As a task, not as scattered data: what a lost worker held of it is then computed anew.
            shared = self._client.submit(_itself, vectors, pure=False)
            return [self._client.submit(_share, held, shared, absolute, pure=False) for held in self._held]

        result = np.zeros(vectors.shape)
        for chunk, share in zip(self._chunks, self._gathered(submit), strict=True):
            result[self._rows * chunk[0] :] += share
        return result


def cluster_relu_gram(
    client: Client,
    x: npt.ArrayLike,
    *,
    layers: Literal["first", "both"] = "first",
    depth: int = 1,
    storage: Literal["float32", "float64"] = "float32",
    allow_singular: bool = False,
) -> ClusterReluGram:
    """Kernel of the infinitely wide ReLU network as an operator over a cluster.

    Parameters
    ----------
    client : distributed.Client
        The cluster; its workers must have odeopt and dask installed.
    x : array_like, shape (n, d)
        One input a row, of any norm.
    layers : {"first", "both"}, optional
        Which layers are trained, as in :func:`odeopt.relu_gram`.
    depth : int, optional
        Number of hidden layers.
    storage : {"float32", "float64"}, optional
        How workers keep the entries; products are those of float64.
    allow_singular : bool, optional
        Accept parallel rows and blank ones, whose kernel is singular.

    Returns
    -------
    ClusterReluGram
        The kernel, symmetric, of shape (n, n).

    Raises
    ------
    ImportError
        If dask is not installed.
    ValueError
        If the inputs are refused, or an option is unknown.

    Examples
    --------
    On one machine; a scheduler of a cluster is named by its address, ``Client("scheduler:8786")``.

    >>> import numpy as np
    >>> from distributed import Client
    >>> with Client(processes=False, n_workers=1, dashboard_address=None) as client:
    ...     operator = cluster_relu_gram(client, np.eye(3), storage="float64")
    ...     (operator @ np.ones(3)).round(4)
    array([0.5, 0.5, 0.5])
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'cluster_relu_gram needs dask; install it with pip install "odeopt[distributed]"'
        ) from error
    validate_architecture(layers, depth)
    if storage not in ("float32", "float64"):
        raise ValueError(f"storage must be 'float32' or 'float64', got {storage!r}")
    x = validate_inputs(x, allow_parallel=True, allow_blank=allow_singular)
    return ClusterReluGram(client, *unit_rows(x), ReluFormula(layers, depth), storage, not allow_singular)
