r"""Training data: scikit-learn's digits, .npz files, and the normalisation the theory assumes.

The theory of :mod:`odeopt.kernels.relu` is stated for inputs of unit norm, and the loss is half the
squared norm of :math:`\Delta=u-y`, summed; :func:`prepare` brings any data to that form. Two classes are
labelled -1 and 1, as :class:`odeopt.dynamics.losses.LogisticLoss` wants them, and labels are not scaled.
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from odeopt.checks import DAMAGED, real_array, require_choice, words_of
from odeopt.kernels.inputs import require_a_direction, unit_rows, validate_inputs
from odeopt.kernels.memory import available_memory
from odeopt.shown import Shown, Summary

__all__ = ["Dataset", "load_digits", "load_npz", "one_hot", "prepare"]


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    r"""Inputs of unit norm, and targets of mean zero and unit root mean square, or labels -1 and 1.

    Of classes there is one output each, and the mean is zero and the mean square one over all outputs.

    Parameters
    ----------
    x : numpy.ndarray, shape (n, d)
        Rows of unit norm, float64, read-only.
    y : numpy.ndarray, shape (n,) or (n, c)
        Scaled targets :math:`(y_{\rm raw}-\text{target\_mean})/\text{target\_scale}`, float64, read-only.
    target_mean, target_scale : float, or numpy.ndarray, shape (c,)
        Mean and population standard deviation of the raw targets, of each output; 0 and 1 for labels, and one
        number each for classes, whose raw targets are 0 and 1.
    classes : numpy.ndarray, shape (c,), or None
        The class of each output.

    Examples
    --------
    >>> data = prepare([[3.0, 4.0], [1.0, 0.0]], ["cat", "dog"], targets="classes")
    >>> data.labels
    array([0, 1])
    """

    x: np.ndarray
    y: np.ndarray
    target_mean: float | np.ndarray
    target_scale: float | np.ndarray
    classes: np.ndarray | None = None

    def _summary(self) -> Summary:
        outputs = 1 if self.y.ndim == 1 else self.y.shape[1]
        kind = "target(s)" if self.classes is None else "classes"
        return Summary([f"{len(self.x)} inputs of dimension {self.x.shape[1]}", f"{outputs} {kind}"])

    @property
    def labels(self) -> np.ndarray | None:
        """The number of the output of each example's class, shape (n,); None where there are no classes."""
        return None if self.classes is None else self.y.argmax(axis=1)

    def raw_targets(self, u: npt.ArrayLike) -> np.ndarray:
        """Map outputs of a network trained on `y` back to the units of the raw targets.

        Parameters
        ----------
        u : array_like, shape (n,) or (n, c)
            Outputs in the scale of `y`.

        Returns
        -------
        numpy.ndarray, shape of `u`
            Outputs in the units of the targets that :func:`prepare` was given.

        Examples
        --------
        >>> data = prepare([[3.0, 4.0], [1.0, 0.0]], [10.0, 20.0])
        >>> data.raw_targets(data.y)
        array([10., 20.])
        """
        return self.target_mean + self.target_scale * np.asarray(u, dtype=np.float64)


def load_digits(
    n: int | None = None, *, seed: int | None = None, classes: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return scikit-learn's 8 x 8 handwritten digits: all of them for regression, or two classes.

    Parameters
    ----------
    n : int, optional
        Number of examples, at most 1797 (or as many as there are of the two classes), by default all.
    seed : int, optional
        With a seed, `n` images drawn at random without replacement; by default the first `n` in the order
        of scikit-learn, which runs through the ten digits again and again: nearly balanced classes.
    classes : tuple of two ints, optional
        Two different digits; only their images are taken, labelled -1 (the first) and 1 (the second).

    Returns
    -------
    x : numpy.ndarray, shape (n, 64)
        Pixels, 0 to 16, float64.
    y : numpy.ndarray, shape (n,)
        Labels 0 to 9, or -1 and 1 for two classes, float64.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If `n` is no integer from 1 to that number, `seed` no nonnegative integer, or `classes` not two
        different digits.

    Examples
    --------
    >>> x, y = load_digits(12)
    >>> x.shape, y[:5]
    ((12, 64), array([0., 1., 2., 3., 4.]))
    >>> x, y = load_digits(4, classes=(3, 8))
    >>> y
    array([-1.,  1., -1.,  1.])
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            'load_digits needs scikit-learn; install it with pip install "odeopt[data]", '
            "or bring your own data with load_npz"
        ) from error
    x, y = datasets.load_digits(return_X_y=True)
    x, y = (x, y) if classes is None else _two_classes(x, y, classes)
    total, n = len(x), len(x) if n is None else n
    if not _is_integer(n) or not 1 <= n <= total:
        raise ValueError(f"n must be an integer from 1 to {total} (the digits there are), got {n!r}")
    if seed is None:
        rows = np.arange(n)
    elif not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be a nonnegative integer or None, got {seed!r}")
    else:
        rows = np.random.default_rng(seed).permutation(total)[:n]
    return x[rows].astype(np.float64), y[rows].astype(np.float64)


def _two_classes(x: np.ndarray, y: np.ndarray, classes: object) -> tuple[np.ndarray, np.ndarray]:
    pair = tuple(classes) if isinstance(classes, (tuple, list)) else ()
    digits = all(_is_integer(c) and 0 <= c <= 9 for c in pair)
    if not digits or len(pair) != 2 or pair[0] == pair[1]:
        raise ValueError(f"classes must be two different digits from 0 to 9, got {classes!r}; say (3, 8)")
    chosen = np.isin(y, pair)
    return x[chosen], np.where(y[chosen] == pair[0], -1, 1)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def load_npz(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    r"""Read the arrays ``x`` and ``y`` of an .npz file; pickled objects are never loaded.

    Parameters
    ----------
    path : path-like
        A file as written by ``numpy.savez(path, x=x, y=y)``.

    Returns
    -------
    x : numpy.ndarray, shape (n, d)
        Inputs, float64, as they stand in the file.
    y : numpy.ndarray, shape (n,)
        Targets, float64.

    Raises
    ------
    ValueError
        If the file cannot be read, is no .npz archive, lacks one of the keys, does not fit into memory, or
        holds something other than finite real arrays of these shapes.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "data.npz"
    ...     np.savez(path, x=np.eye(2), y=[1, 2])
    ...     x, y = load_npz(path)
    >>> y
    array([1., 2.])
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path must be a file name, got {path!r}; pass a string or a pathlib.Path")
    name = os.fspath(path)
    arrays = read_npz(name, ("x", "y"))
    return real_array(arrays["x"], f"x of {name}", ndim=2), real_array(arrays["y"], f"y of {name}", ndim=1)


def read_npz(name: str, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    remedy = "write it with numpy.savez(path, x=x, y=y), x and y numeric arrays"
    try:
        if os.path.exists(name) and not os.path.isfile(name):  # a pipe would be waited for without end
            raise ValueError("it is not a regular file")
        with open(name, "rb") as file:
            if file.read(6) == npy.MAGIC_PREFIX:
                raise ValueError("it holds a single array, not an archive")
            with zipfile.ZipFile(file) as archive:
                held = [member.removesuffix(".npy") for member in archive.namelist()]
                missing = [key for key in keys if key not in held]
                if missing:
                    there = ", ".join(held) or "nothing"
                    raise ValueError(f"it has no array {' and no '.join(missing)}, but holds {there}")
                _require_room(archive, keys)
                return {key: _array(archive, key) for key in keys}
    except (*DAMAGED, RuntimeError, MemoryError) as error:
        raise ValueError(f"path {name!r} cannot be read as .npz data: {error}; {remedy}") from error


def _array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as stream:
        return npy.read_array(stream, allow_pickle=False)


def _require_room(archive: zipfile.ZipFile, keys: tuple[str, ...]) -> None:
    """Compare what headers announce with what the archive holds and with the free memory."""
    total = 0
    for key in keys:
        with archive.open(f"{key}.npy") as stream:
            version = npy.read_magic(stream)
            header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = header(stream)
            content = archive.getinfo(f"{key}.npy").file_size - stream.tell()
        if math.prod(shape) * dtype.itemsize > content and not dtype.hasobject:
            raise ValueError(f"{key} is announced with shape {shape}, but has only {content} bytes")
        total += math.prod(shape) * max(8, dtype.itemsize)
    free = available_memory()
    if 2 * total > free:  # read, and converted
        raise ValueError(
            f"x and y take {2 * total / 2**30:.3g} GiB of memory, of which {free / 2**30:.3g} are free"
        )


def one_hot(
    labels: npt.ArrayLike, classes: npt.ArrayLike | None = None
) -> tuple[npt.NDArray[np.float64], np.ndarray]:
    r"""Return the targets of classes: an output for each, 1 for the class of the example, else 0.

    Parameters
    ----------
    labels : array_like of int or str, shape (n,)
        One class an example.
    classes : array_like, shape (c,), optional
        The classes in the order of the outputs, as those of the training set for test labels; by default
        the labels that there are, sorted.

    Returns
    -------
    targets : numpy.ndarray, shape (n, c)
        Zeros and ones, float64.
    classes : numpy.ndarray, shape (c,)
        The class of each output.

    Raises
    ------
    ValueError
        If there are less than two classes, or a label is none of them, as a class of test labels without
        examples to train on, or is no whole number.

    Examples
    --------
    >>> targets, classes = one_hot(["cat", "dog", "cat"])
    >>> targets, classes.tolist()
    (array([[1., 0.],
           [0., 1.],
           [1., 0.]]), ['cat', 'dog'])
    """
    given = _labels(labels, "labels")
    known = np.unique(given) if classes is None else _labels(classes, "classes")
    if len(known) < 2 or len(np.unique(known)) < len(known):
        raise ValueError(f"classes must be two or more different ones, got {known[:10].tolist()}")
    strange = given[~np.isin(given, known)]
    if strange.size:
        raise ValueError(
            f"labels hold {strange[0].item()!r}, which is none of the classes {known[:10].tolist()}; add it "
            "to classes, or leave its examples out"
        )
    return (given[:, None] == known).astype(np.float64), known


def _labels(values: npt.ArrayLike, name: str) -> np.ndarray:
    """Class labels: words, or whole numbers, integers untouched lest two of them round to one."""
    found = words_of(values)
    if found is None:
        checked, found = real_array(values, name, ndim=1), np.asarray(values)
        whole = found.dtype.kind in "iu"
        wrong = checked[(checked != np.round(checked)) | (np.abs(checked) >= (2.0**63 if whole else 2.0**53))]
        if wrong.size:
            raise ValueError(
                f"{name} must be strings or whole numbers below 2^53, got {float(wrong[0])!r}; targets are "
                "no classes, and of numbers as large write strings"
            )
        found = found.astype(np.int64)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"{name} must have shape (n,), one class each, got {found.shape}")
    return found


def prepare(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    targets: Literal["regression", "labels", "classes"] = "regression",
    allow_singular: bool = False,
) -> Dataset:
    r"""Scale inputs to unit norm and targets to mean zero and unit root mean square; labels stay.

    With the network of :class:`odeopt.nets.TwoLayerReLU` at initialisation, the outputs have
    variance 1/2, so the loss :math:`\tfrac12\lVert u-y\rVert^2` starts near :math:`\tfrac34n`.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row.
    y : array_like, shape (n,) or (n, c)
        Targets; of several outputs each is scaled by itself.
    targets : {"regression", "labels", "classes"}, optional
        "labels" takes targets -1 and 1, both present, as they are; "classes" takes class labels, shape (n,),
        and makes one output for each (:func:`one_hot`).
    allow_singular : bool, optional
        Accept parallel and blank rows, which make the kernel singular; a blank row stays blank.

    Returns
    -------
    Dataset
        The scaled copies.

    Raises
    ------
    ValueError
        If the inputs are not finite or (unless allowed) make the kernel singular
        (:func:`odeopt.kernels.validate_inputs` names the rows), if `y` is not finite, is constant or (as
        labels) holds another number than -1 and 1, if the lengths differ, or if `targets` is unknown.

    Examples
    --------
    >>> data = prepare([[3.0, 4.0], [1.0, 0.0]], [10.0, 20.0])
    >>> data.x
    array([[0.6, 0.8],
           [1. , 0. ]])
    >>> data.y
    array([-1.,  1.])
    """
    require_choice("targets", targets, ("regression", "labels", "classes"))
    x = real_array(x, "x", ndim=2)
    ndim = 2 if np.ndim(y) == 2 else 1
    y, classes = one_hot(y) if targets == "classes" else (real_array(y, "y", ndim=ndim), None)
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, got {len(x)} rows of x and {len(y)} targets")
    x = validate_inputs(x, allow_parallel=allow_singular, allow_blank=allow_singular)
    require_a_direction(x)
    unit, _ = unit_rows(x)
    if targets == "labels":
        if set(np.unique(y)) != {-1.0, 1.0}:
            found = np.unique(y)[:5]
            raise ValueError(f"y must hold the labels -1 and 1, both, got {found}; map two classes to them")
        scaled, mean, scale = y, 0.0, 1.0
    elif classes is not None:
        c = len(classes)  # 1 of c entries is 1: their mean is 1/c, their variance (c - 1)/c^2
        mean, scale = 1 / c, math.sqrt(c - 1) / c
        scaled = (y - mean) / scale
    elif y.ndim == 2:
        columns = [_standardised(column, f"column {j} of y") for j, column in enumerate(y.T)]
        scaled, mean, scale = (np.stack(parts, axis=-1) for parts in zip(*columns, strict=True))
    else:
        scaled, mean, scale = _standardised(y)
    for array in (unit, scaled):
        array.setflags(write=False)
    return Dataset(x=unit, y=scaled, target_mean=mean, target_scale=scale, classes=classes)


def _standardised(y: np.ndarray, name: str = "y") -> tuple[np.ndarray, float, float]:
    """Targets of mean zero and unit root mean square, with the mean and the deviation taken off."""
    # at a power of two near their size, where neither squares nor sums leave the range of floats
    _, size = np.frexp(np.abs(y).max())
    near_one = np.ldexp(y, -size)
    mean = float(np.mean(near_one))
    scale = float(np.sqrt(np.mean((near_one - mean) ** 2)))
    # A constant array leaves a deviation of rounding size behind.
    if scale <= 8 * np.finfo(float).eps * np.abs(near_one).max():
        raise ValueError(
            f"{name} is constant but for rounding (mean {np.ldexp(mean, size):.6g}, deviation "
            f"{np.ldexp(scale, size):.3g}) and has no unit root mean square; pass targets that differ"
        )
    target_mean, target_scale = float(np.ldexp(mean, size)), float(np.ldexp(scale, size))
    if target_scale < np.finfo(float).tiny:
        raise ValueError(f"{name} differs by {target_scale:.3g} only, below the normal floats; multiply it")
    return (near_one - mean) / scale, target_mean, target_scale
