r"""What a torch module and its inputs must be: refused in the same words for kernels and for training."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from odeopt.checks import class_note, real_array

__all__ = [
    "differentiable", "first_words", "fitting", "inputs_of", "integers_refused", "require_module",
    "require_outputs", "targets_of", "trained_parameters",
]  # fmt: skip

# What a forward pass raises where module and inputs do not go together.
_MISFITS = (RuntimeError, IndexError, TypeError, AttributeError, KeyError, AssertionError, ArithmeticError)


def require_module(module: object) -> nn.Module:
    """Refuse what is no module of ready weights, and layers whose mode makes them random or change.

    >>> require_module(nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5)))
    Traceback (most recent call last):
        ...
    ValueError: module has Dropout (1) in training mode, so its outputs are random; call module.eval()
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for name, part in module.named_modules():
        where = f"{type(part).__name__} ({name or 'the module itself'})"
        if isinstance(part, torch.jit.ScriptModule):
            raise ValueError(
                f"module has {where}, a compiled script, whose weights cannot be exchanged; pass what it was "
                "made of"
            )
        if not part.training:
            continue
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            raise ValueError(
                f"module has {where} in training mode, so its outputs are random; call module.eval()"
            )
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats:
            raise ValueError(
                f"module has {where} in training mode: each pass changes its statistics; call module.eval()"
            )
    for name, p in module.named_parameters():
        if isinstance(p, nn.UninitializedParameter) or p.device.type == "meta":
            raise ValueError(
                f"module has a parameter {name} without values; run it once on inputs, or load its weights"
            )
        if any(stride == 0 and size > 1 for size, stride in zip(p.shape, p.stride(), strict=True)):
            raise ValueError(
                f"module has a parameter {name} that holds one number in several entries (an expanded "
                "view), of which torch trains none; make it from its clone()"
            )
        if p._post_accumulate_grad_hooks:
            raise ValueError(
                f"module has a parameter {name} with a hook that acts once its gradient is there (an "
                "optimizer of its own?); remove the hook"
            )
    return module


def inputs_of(x: npt.ArrayLike | torch.Tensor, name: str = "x") -> torch.Tensor:
    """Return inputs on the host: finite float64, or integers (tokens, bytes) and booleans as they are.

    >>> inputs_of([[1, 2]]).dtype, inputs_of(torch.ones(2, 1, dtype=torch.bfloat16)).dtype
    (torch.int64, torch.float64)
    """
    if isinstance(x, torch.Tensor):
        if x.layout != torch.strided or x.is_quantized:
            raise ValueError(f"{name} must be a dense tensor, got layout {x.layout}; pass {name}.to_dense()")
        x = x.detach().cpu()
        x = (x.double() if x.is_floating_point() else x).resolve_conj().resolve_neg().numpy()
    values = real_array(x, name, ndim=None)  # finite, of numbers, not empty
    dtype = np.asarray(x).dtype
    # A module may tell bytes of images from tokens by their type.
    return torch.from_numpy(np.array(x, dtype.newbyteorder("=")) if dtype.kind in "iub" else values)


def targets_of(y: npt.ArrayLike | torch.Tensor, *, noted: bool = True) -> np.ndarray:
    """Return targets, shape (n,) or (n, c) for c outputs, as finite float64; say so of numbers of classes."""
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu()
        y = (y.double() if y.is_floating_point() else y).numpy()
    targets = real_array(y, "y", ndim=2 if np.ndim(y) == 2 else 1)
    if noted and (note := class_note(targets)):
        warnings.warn(f"y {note}", stacklevel=4)
    return targets


def integers_refused(dtype: object, reason: str, name: str = "x") -> ValueError:
    """The refusal of integers by what takes none."""
    tokens = "" if dtype == torch.int64 else ", or tokens to int64"
    return ValueError(f"{name} holds integers (dtype {dtype}), {reason}; convert it to float{tokens}")


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by the first name of each; at least one."""
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise ValueError(
            f"module {type(module).__name__} has no trainable parameters; set requires_grad on some of its "
            "parameters"
        )
    return found


def require_outputs(output: Any, n: int, *, columns: int | None) -> torch.Tensor:
    """Refuse outputs of n examples that are not real of shape (n, columns), or (n,) for 1; None is any.

    >>> require_outputs(torch.zeros(5, 2), 5, columns=3)
    Traceback (most recent call last):
        ...
    ValueError: module must map 5 inputs to outputs of shape (5, 3), got (5, 2); select or flatten ...
    """
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    fits = isinstance(shape, tuple) and len(shape) in (1, 2) and shape[0] == n and 0 not in shape
    if not fits or columns not in (None, *(shape[1:] or (1,))):
        vector = "" if columns not in (None, 1) else f"({n},) or "
        wanted, remedy = f"{vector}({n}, {columns or 'c'})", "select or flatten its outputs"
        if columns is not None:
            remedy += ", or pass targets y of their shape (of class labels one_hot(labels))"
        raise ValueError(f"module must map {n} inputs to outputs of shape {wanted}, got {shape}; {remedy}")
    if not output.is_floating_point():
        raise ValueError(f"module must have real outputs, got dtype {output.dtype}; take their real part")
    if not output.requires_grad:
        raise ValueError(
            "module has outputs without a derivative by its trainable weights (its forward pass detaches or "
            "leaves out all of them, or runs without gradients); remove that"
        )
    return output


def first_words(error: BaseException) -> str:
    """The first sentence of an error of another library."""
    return (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Say that it is the backward pass of the module where torch refuses it."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(
            f"the backward pass of the module fails ({first_words(error)}); compute what depends on the "
            "weights or on x in forward, and not in place"
        ) from error


@contextlib.contextmanager
def fitting(x: torch.Tensor, name: str = "x") -> Iterator[None]:
    """Say which argument is at fault where a first pass fails.

    >>> x = torch.zeros(5, 2)
    >>> with fitting(x):
    ...     nn.Linear(3, 1)(x)
    Traceback (most recent call last):
        ...
    ValueError: x of shape (5, 2) does not fit the module (...); reshape it
    """
    try:
        yield
    except _MISFITS as error:
        reason = first_words(error)
        if isinstance(error, IndexError):
            raise ValueError(
                f"{name} has entries beyond a table of the module ({reason}); change them"
            ) from error
        if not x.is_floating_point():
            raise integers_refused(x.dtype, f"which the module does not take ({reason})", name) from error
        mixed = "dtype" in reason or "scalar type" in reason
        remedy = "let its weights and what forward makes have one dtype" if mixed else "reshape it"
        raise ValueError(
            f"{name} of shape {tuple(x.shape)} does not fit the module ({reason}); {remedy}"
        ) from error
