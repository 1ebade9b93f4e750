r"""What a torch module and its inputs must be: refused in the same words for kernels and for training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from odeopt.checks import real_array

__all__ = [
    "fitting",
    "float_inputs",
    "require_deterministic",
    "require_outputs",
    "require_repeated",
    "trained_parameters",
]


def require_deterministic(module: Any) -> None:
    """Refuse what is no module, and modules whose outputs are random or change with each pass.

    Parameters
    ----------
    module : torch.nn.Module

    Examples
    --------
    >>> require_deterministic(nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5)))
    Traceback (most recent call last):
        ...
    ValueError: module has Dropout (1) in training mode, so its outputs are random; call module.eval()
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for name, part in module.named_modules():
        if not part.training:
            continue
        where = f"{type(part).__name__} ({name or 'the module itself'})"
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            raise ValueError(
                f"module has {where} in training mode, so its outputs are random; call module.eval()"
            )
        if isinstance(part, nn.modules.batchnorm._NormBase) and (
            isinstance(part, nn.modules.batchnorm._BatchNorm) or part.track_running_stats
        ):
            raise ValueError(
                f"module has {where} in training mode: each pass changes its statistics; call module.eval()"
            )


def float_inputs(x: Any) -> np.ndarray:
    """Return inputs as a finite float64 array; integers are refused.

    Parameters
    ----------
    x : array_like or torch.Tensor, shape (n, ...)

    Returns
    -------
    numpy.ndarray, shape (n, ...)

    Examples
    --------
    >>> float_inputs([[1, 2]])
    Traceback (most recent call last):
        ...
    ValueError: x holds integers (dtype int64), through which no derivative passes; convert it to float
    """
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
    try:
        kind = np.asarray(x).dtype
    except ValueError:  # a ragged list, which real_array refuses in its words
        kind = np.dtype(float)
    if kind.kind in "biu":
        raise ValueError(
            f"x holds integers (dtype {kind}), through which no derivative passes; convert it to float"
        )
    return real_array(x, "x", ndim=None)


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient, by name; at least one.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict

    Examples
    --------
    >>> list(trained_parameters(nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            f"module {type(module).__name__} has no trainable parameters; set requires_grad on some of its "
            "parameters"
        )
    return found


def require_outputs(output: Any, n: int, *, columns: str) -> None:
    """Refuse outputs of n examples whose shape is neither (n,) nor (n, columns).

    Parameters
    ----------
    output : torch.Tensor
    n : int
    columns : {"1", "c"}
        One output an example, or any number of them.

    Examples
    --------
    >>> require_outputs(torch.zeros(5, 2), 5, columns="1")
    Traceback (most recent call last):
        ...
    ValueError: module must map 5 inputs to outputs of shape (5,) or (5, 1), got (5, 2); select or ...
    """
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    fits = isinstance(shape, tuple) and len(shape) in (1, 2) and shape[0] == n and 0 not in shape
    if not fits or (columns == "1" and len(shape) == 2 and shape[1] != 1):
        raise ValueError(
            f"module must map {n} inputs to outputs of shape ({n},) or ({n}, {columns}), got {shape}; "
            "select or flatten its outputs"
        )


@contextlib.contextmanager
def fitting(x: torch.Tensor) -> Iterator[None]:
    """Say which argument is at fault where torch finds, in a first pass, that shapes do not fit.

    Parameters
    ----------
    x : torch.Tensor
        The inputs of that pass.

    Examples
    --------
    >>> x = torch.zeros(5, 2)
    >>> with fitting(x):
    ...     nn.Linear(3, 1)(x)
    Traceback (most recent call last):
        ...
    ValueError: x of shape (5, 2) does not fit the module (...); reshape it
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"x of shape {tuple(x.shape)} does not fit the module ({reason}); reshape it"
        ) from error


def require_repeated(first: torch.Tensor, second: torch.Tensor) -> None:
    """Refuse outputs that change from one pass to the next by more than sums taken in another order.

    Parameters
    ----------
    first, second : torch.Tensor
        Of one shape.

    Examples
    --------
    >>> require_repeated(torch.zeros(2), torch.ones(2))
    Traceback (most recent call last):
        ...
    ValueError: module gives other outputs at each pass, so it is random; make it deterministic
    """
    gap = float((first - second).abs().max())
    if gap > 1000 * torch.finfo(first.dtype).eps * float(first.abs().max()):
        raise ValueError("module gives other outputs at each pass, so it is random; make it deterministic")
