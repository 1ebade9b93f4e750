r"""The infinite-width ReLU kernel as an operator: by numpy on the host, by torch on a device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy.typing as npt

from odeopt.kernels.blocks import ReluGramOperator
from odeopt.kernels.inputs import unit_rows, validate_inputs
from odeopt.kernels.memory import MemoryPlan, Storage, memory_plan
from odeopt.kernels.products import Engine, share_by
from odeopt.kernels.relu import ReluFormula, validate_architecture

__all__ = ["planned", "relu_gram_operator"]


def relu_gram_operator(
    x: npt.ArrayLike,
    *,
    device: str | None = None,
    layers: Literal["first", "both"] = "first",
    depth: int = 1,
    storage: Storage = "auto",
    engine: Engine = "auto",
    num_vectors: int = 400,
    memory_limit: float | None = None,
    allow_singular: bool = False,
    progress: Callable[[str, int, int], object] | None = None,
) -> ReluGramOperator:
    r"""Kernel of the infinitely wide ReLU network as an operator, for Lanczos.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row, of any norm.
    device : str, optional
        A torch device with float64 ("cpu", "cuda", "cuda:1", ...) that holds and multiplies the kernel;
        without one numpy does. The two agree up to the rounding of float64, and up to `storage_error` where
        entries are stored in float32; vectors come and go as numpy arrays in both.
    layers : {"first", "both"}, optional
        Which layers are trained, as in :func:`odeopt.relu_gram`.
    depth : int, optional
        Number of hidden layers.
    storage : {"auto", "float64", "float32", "recompute"}, optional
        Keep half of the entries in this precision, or compute them anew in every product; "auto" takes the
        first of the three that fits into memory.
    engine : {"auto", "numba", "numpy"}, optional
        What multiplies on the host, in threads: code that numba compiles (extra ``fast``; some seconds at the
        first use, then kept on disk), or tiles by numpy, some three times slower. "auto" takes numba where it
        is installed and the kernel is large enough; the plan says which it is. Both sum in float64, and agree
        up to its rounding.
    num_vectors : int, optional
        Vectors that the plan allows for beside the kernel, on the host.
    memory_limit : float, optional
        Bytes, of the device if one is given; by default four fifths of the memory that is free there now.
    allow_singular : bool, optional
        Accept parallel rows and blank ones, whose kernel is singular.
    progress : callable, optional
        Called as ``progress("kernel", done, n)`` with the number of rows computed.

    Returns
    -------
    ReluGramOperator
        The kernel, symmetric, of shape (n, n); its `plan` says what was chosen.

    Raises
    ------
    ValueError
        Before any work if the inputs are no finite matrix without zero rows, an option is unknown, the device
        or the engine cannot be used, or the memory plan (:func:`odeopt.memory_plan`) does not fit; during it
        if rows are parallel.

    Examples
    --------
    >>> import numpy as np
    >>> from odeopt import relu_gram
    >>> x = np.random.default_rng(0).standard_normal((50, 3))
    >>> operator = relu_gram_operator(x, storage="float32")
    >>> bool(np.abs(operator @ np.eye(50) - relu_gram(x)).max() < 1e-6)
    True
    >>> on_device = relu_gram_operator(x, device="cpu")
    >>> bool(np.abs(on_device @ np.eye(50) - relu_gram(x)).max() < 1e-12)
    True
    """
    validate_architecture(layers, depth)
    x = validate_inputs(x, allow_parallel=True, allow_blank=allow_singular)
    build, plan = planned(
        *x.shape,
        device=device,
        engine=engine,
        storage=storage,
        num_vectors=num_vectors,
        memory_limit=memory_limit,
    )
    with ThreadPoolExecutor(1) as beside:
        beside.submit(share_by, plan.engine, plan.storage)  # numba takes half a second to load
        unit, norms = unit_rows(x)
    del x  # no longer needed, and as large as `unit`
    return build(unit, norms, ReluFormula(layers, depth), plan, progress, not allow_singular)


def planned(
    n: int, d: int, *, device: str | None, engine: Engine, **options: Any
) -> tuple[Callable[..., ReluGramOperator], MemoryPlan]:
    """The constructor of an operator on the host or on a device, and its plan."""
    if device is None:
        return ReluGramOperator, memory_plan(n, d, engine=engine, **options)
    if engine != "auto":
        raise ValueError(
            f"engine = {engine!r} is for products on the host; leave it out with device = {device!r}"
        )
    from odeopt.kernels.device import device_plan, device_relu_gram  # brings torch

    return device_relu_gram(device), device_plan(n, d, device=device, **options)
