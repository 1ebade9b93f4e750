r"""Closed-form kernels of infinitely wide ReLU networks, and the checks of inputs and kernels.

The network is the two-layer, bias-free one of :class:`odeopt.nets.TwoLayerReLU`,

.. math:: f(x)=\frac1{\sqrt m}\sum_{r=1}^m a_r\,\max(w_r^\top x,0),\quad w_r\sim N(0,I),\ a_r=\pm1,

and its kernel at width :math:`m\to\infty` is the expectation of :math:`JJ^\top` over the weights,
with the angle :math:`\theta` between the inputs :math:`x, x'` (of any norm):

.. math::
    H^\infty_{\rm first}=x^\top x'\,\frac{\pi-\theta}{2\pi},\qquad
    H^\infty_{\rm both}=H^\infty_{\rm first}
        +\frac{\lVert x\rVert\lVert x'\rVert}{2\pi}\bigl[(\pi-\theta)\cos\theta+\sin\theta\bigr].
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["real_array", "relu_gram", "unit_rows", "validate_inputs", "validate_kernel"]

_LAYERS = ("first", "both")
_BLOCK = 2**22  # entries of a work array: 32 MB of float64


def real_array(value: Any, name: str, *, ndim: int | None) -> np.ndarray:
    """Return `value` as a new float64 array, or say what is wrong with it.

    Parameters
    ----------
    value : array_like
        Integers, booleans or floats.
    name : str
        How the error message calls it.
    ndim : int or None
        Required number of dimensions; None for any but zero.

    Returns
    -------
    numpy.ndarray
        A copy in float64.

    Raises
    ------
    ValueError
        If `value` is not real, is empty, has another number of dimensions, or is not finite.

    Examples
    --------
    >>> real_array([1, float("nan")], "y", ndim=1)
    Traceback (most recent call last):
        ...
    ValueError: y must be finite, but y[1] is nan (1 such entry in all); remove or repair it
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is not an array of numbers ({error}); pass a numeric array") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it to float64")
    if array.ndim != ndim and not (ndim is None and array.ndim):
        wanted = {1: "(n,)", 2: "(n, d)"}.get(ndim, "(n, ...)")
        raise ValueError(f"{name} must have shape {wanted}, got {array.shape}; reshape it")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}; pass at least one entry")
    array = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{name} must be finite, but {name}[{', '.join(map(str, index))}] is {array[index]} "
            f"({len(bad)} such entr{'y' if len(bad) == 1 else 'ies'} in all); remove or repair it"
        )
    return array


def validate_inputs(x: Any, *, allow_parallel: bool = False) -> np.ndarray:
    r"""Return the inputs as float64, or say why their ReLU kernel is undefined or singular.

    A kernel of a bias-free ReLU network is positive definite when no two inputs are parallel [1]_.
    Rows with the same direction make it singular. An antipodal pair :math:`\pm x` does not
    (its kernel has :math:`\lambda_{\min}=1/2` at unit norm): with antipodal pairs
    :math:`\pm x_1,\dots,\pm x_p` and no rows of the same direction the kernel is singular exactly
    when :math:`x_1,\dots,x_p` are linearly dependent.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row.
    allow_parallel : bool, optional
        Accept rows that make the kernel singular; only non-finite and zero rows are then refused.

    Returns
    -------
    numpy.ndarray, shape (n, d)
        A copy in float64.

    Raises
    ------
    ValueError
        If `x` is not a real, finite, non-empty matrix, has a zero row, or (unless allowed) has
        two rows of the same direction or linearly dependent antipodal pairs. The rows are named.

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
    zero = np.flatnonzero(~x.any(axis=1))
    if len(zero):
        raise ValueError(
            f"x has a row of zero norm: row {zero[0]} ({len(zero)} in all), on which a bias-free "
            "ReLU network is constant; drop it or append a constant feature"
        )
    if not allow_parallel:
        _require_independent_directions(x)
    return x


def unit_rows(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows at unit norm, and their norms."""
    # Dividing by the largest entry first keeps the squares inside the range of float64.
    scale = np.abs(x).max(axis=1)
    unit = x / scale[:, None]
    norm = np.linalg.norm(unit, axis=1)
    return unit / norm[:, None], scale * norm


def _require_independent_directions(x: np.ndarray) -> None:
    # Two unit rows at distance delta give lambda_min <= delta / (2 pi) (to first order), and the
    # eigenvalues of the computed kernel carry errors of about n eps: below this distance
    # lambda_min is zero in float64. The normalisation itself moves a row by a few eps.
    unit, _ = unit_rows(x)
    n = len(unit)
    tolerance = 8 * n * np.finfo(float).eps
    antipodal = []
    rows = max(1, _BLOCK // n)
    for start in range(0, n, rows):
        cosine = unit[start : start + rows] @ unit.T
        # The cosine only preselects (its rounding hides angles below 1e-8); differences decide.
        i, j = np.nonzero(np.triu(np.abs(cosine) > 1 - 1e-10, k=start + 1))
        sign = np.sign(cosine[i, j])
        i = i + start
        for near_i, near_j, near_sign in _chunks(unit.shape[1], i, j, sign):
            gap = np.linalg.norm(unit[near_i] - near_sign[:, None] * unit[near_j], axis=1)
            hit = gap <= tolerance
            for a, b in zip(near_i[hit & (near_sign > 0)], near_j[hit & (near_sign > 0)], strict=True):
                kind = "identical" if np.array_equal(x[a], x[b]) else "parallel"
                raise ValueError(
                    f"x has {kind} rows {a} and {b}, so its ReLU kernel is singular; drop one of them"
                )
            antipodal.extend(zip(near_i[hit].tolist(), near_j[hit].tolist(), strict=True))
    if antipodal:
        require_independent_pairs(unit, antipodal)


def _chunks(d: int, *arrays: np.ndarray):
    """Cut index arrays so that the rows they gather fit in a block."""
    size = max(1, _BLOCK // d)
    for start in range(0, len(arrays[0]), size):
        yield tuple(a[start : start + size] for a in arrays)


def require_independent_pairs(unit: np.ndarray, pairs: list[tuple[int, int]]) -> None:
    # relu(w.x) - relu(-w.x) = w.x is linear: over the pairs +-x_1 ... +-x_p the kernel contains
    # the linear kernel X X', whose smallest eigenvalue is the square of the singular value.
    values = np.linalg.svd(unit[[i for i, _ in pairs]], compute_uv=False)
    smallest = values[-1] if len(pairs) <= unit.shape[1] else 0.0
    if smallest**2 <= 8 * len(unit) * np.finfo(float).eps:
        shown = ", ".join(f"{i} and {j}" for i, j in pairs[:4]) + (", ..." if len(pairs) > 4 else "")
        raise ValueError(
            f"x has {len(pairs)} antipodal pairs of rows ({shown}) whose directions are linearly "
            "dependent, so its ReLU kernel is singular; drop one row of some of the pairs"
        )


def validate_kernel(kernel: Any, *, name: str = "kernel") -> np.ndarray:
    r"""Return a kernel matrix as float64, or say why it is none.

    Parameters
    ----------
    kernel : array_like, shape (n, n)
        The matrix :math:`H=JJ^\top`.
    name : str, optional
        How the error message calls it.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        The symmetric part, read-only; equal to `kernel` but for rounding.

    Raises
    ------
    ValueError
        If `kernel` is not a real, finite, non-empty, square matrix; if it differs from its
        transpose by more than 1e-10 of its largest entry; or if an eigenvalue is negative beyond
        rounding, :math:`\lambda<-10n\epsilon\max\lvert\lambda\rvert`.

    Examples
    --------
    >>> validate_kernel([[1, 2], [2, 1]])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: kernel must be positive semidefinite, but its smallest eigenvalue is -1 (largest 3); ...
    """
    kernel = real_array(kernel, name, ndim=2)
    n, columns = kernel.shape
    if n != columns:
        raise ValueError(f"{name} must be square, got shape {kernel.shape}; pass H = J J^T of shape (n, n)")
    asymmetry = np.abs(kernel - kernel.T)
    size = np.abs(kernel).max()
    if asymmetry.max() > 1e-10 * size:
        i, j = (int(index) for index in np.unravel_index(asymmetry.argmax(), asymmetry.shape))
        raise ValueError(
            f"{name} must be symmetric, but entries ({i}, {j}) and ({j}, {i}) differ by "
            f"{asymmetry[i, j]:.3g} (largest entry {size:.3g}); if that is rounding, pass (H + H.T) / 2"
        )
    kernel = kernel / 2 + kernel.T / 2  # halved first: the sum of two large entries could overflow
    values = np.linalg.eigvalsh(kernel)
    if values[0] < -10 * n * np.finfo(float).eps * np.abs(values).max():
        raise ValueError(
            f"{name} must be positive semidefinite, but its smallest eigenvalue is {values[0]:.6g} "
            f"(largest {values[-1]:.6g}); compute it in float64 as J @ J.T, or project it on its "
            "nonnegative eigenvalues"
        )
    kernel.setflags(write=False)
    return kernel


def relu_gram(x: Any, *, layers: str = "first", depth: int = 1, allow_singular: bool = False) -> np.ndarray:
    r"""Kernel of the infinitely wide ReLU network in closed form.

    With one hidden layer it is

    .. math::
        H_{ij}=\frac{\lVert x_i\rVert\lVert x_j\rVert}{2\pi}\times
        \begin{cases}(\pi-\theta_{ij})\cos\theta_{ij}&\text{first layer trained,}\\
        2(\pi-\theta_{ij})\cos\theta_{ij}+\sin\theta_{ij}&\text{both layers trained,}\end{cases}

    for :math:`f=m^{-1/2}\sum_ra_r\max(w_r^\top x,0)` with :math:`w_r\sim N(0,I)`,
    :math:`a_r=\pm1` [1]_. The diagonal is :math:`\lVert x_i\rVert^2/2`, or twice that. The kernel
    is homogeneous of degree one in each input.

    With L hidden layers, :math:`h_1=\max(W_1x,0)`, :math:`h_{l+1}=\max(\sqrt{2/m}\,W_{l+1}h_l,0)` and
    :math:`f=m^{-1/2}a^\top h_L`, all weights N(0, 1) and :math:`a_r=\pm1`, the cosines
    :math:`c_0=\cos\theta,\ c_l=\kappa_1(c_{l-1})` give

    .. math::
        \frac{\lVert x\rVert\lVert x'\rVert}2\times
        \begin{cases}c_0\prod_{l=0}^{L-1}\kappa_0(c_l)&\text{first layer trained,}\\
        \Theta_L,\quad \Theta_0=c_0,\ \Theta_l=c_l+\kappa_0(c_{l-1})\Theta_{l-1}&\text{all trained,}
        \end{cases}

    :math:`\kappa_0(c)=\frac{\pi-\arccos c}\pi`, :math:`\kappa_1(c)=\frac{c(\pi-\arccos c)+\sqrt{1-c^2}}\pi`.
    The scale is such that L = 1 is the kernel above; it is half of that of the normalisation with a
    factor :math:`\sqrt{2/m}` in the output too.

    Parameters
    ----------
    x : array_like, shape (n, d)
        One input a row, of any nonzero norm.
    layers : {"first", "both"}, optional
        Which layers are trained; "both" means all of them, whatever the depth.
    depth : int, optional
        Number L of hidden layers.
    allow_singular : bool, optional
        Accept inputs whose kernel is known to be singular, see :func:`validate_inputs`.

    Returns
    -------
    numpy.ndarray, shape (n, n)
        Symmetric, float64, read-only. Entries are accurate to rounding also for nearly parallel
        inputs, where :math:`\arccos` loses half of the digits.

    Raises
    ------
    ValueError
        If `x` is refused by :func:`validate_inputs`, its norms overflow or underflow when
        squared, or `layers` is unknown.

    References
    ----------
    .. [1] S. S. Du, X. Zhai, B. Poczos, A. Singh, "Gradient descent provably optimizes
       over-parameterized neural networks", ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> np.round(relu_gram([[1.0, 0.0], [1.0, 1.0]]), 12)
    array([[0.5  , 0.375],
           [0.375, 1.   ]])
    >>> np.round(relu_gram([[1.0, 0.0], [1.0, 1.0]], layers="both"), 4)
    array([[1.    , 0.9092],
           [0.9092, 2.    ]])
    """
    validate_architecture(layers, depth)
    x = validate_inputs(x, allow_parallel=allow_singular)
    unit, norms = unit_rows(x)
    diagonal = gram_diagonal(norms, layers, depth)
    cosine = np.clip(unit @ unit.T, -1, 1)
    overlap = _overlap_angle(cosine, unit)
    gram = unit_profile(cosine, overlap, layers, depth)
    gram *= np.outer(norms, norms) / (2 * np.pi)  # in this order, symmetric to the last bit
    np.fill_diagonal(gram, diagonal)
    gram.setflags(write=False)
    return gram


def validate_architecture(layers: str, depth: int) -> None:
    """Raise ValueError unless the trained layers and the number of hidden layers are known."""
    if layers not in _LAYERS:
        raise ValueError(f"layers must be 'first' or 'both', got {layers!r}; choose one of them")
    if not isinstance(depth, (int, np.integer)) or isinstance(depth, bool) or depth < 1:
        raise ValueError(
            f"depth must be an integer of at least 1, the number of hidden layers, got {depth!r}"
        )


def gram_diagonal(norms, layers: str, depth: int, xp=np):
    """Return the kernel of each input with itself: half the squared norm for each trained layer.

    `xp` is the module whose arrays are given, numpy or torch.
    """
    with np.errstate(over="ignore", under="ignore"):
        diagonal = norms**2 / 2
    if not (xp.isfinite((depth + 1) * diagonal).all() and diagonal.all()):
        raise ValueError(
            f"x has rows of norm {norms.min():.3g} to {norms.max():.3g}, whose squares leave the "
            "range of float64; rescale x to norms near 1"
        )
    return (depth + 1) * diagonal if layers == "both" else diagonal


def unit_profile(cosine, overlap, layers: str, depth: int, xp=np):
    r"""Return :math:`2\pi` times the kernel of unit inputs, from their cosine and :math:`\pi-\theta`.

    `xp` is the module whose arrays are given, numpy or torch: the formula stands here for both.
    """
    if depth == 1:
        gram = cosine * overlap
        return 2 * gram + xp.sin(overlap) if layers == "both" else gram
    gram = 1.0 * cosine
    for layer in range(depth):
        gram *= overlap / np.pi
        if layers == "first" and layer == depth - 1:
            break
        theta = np.pi - overlap
        # 1 - kappa_1 without cancellation in the cosine: an angle error of eps stays one
        gap = (2 * np.pi * xp.sin(theta / 2) ** 2 + theta * xp.cos(theta) - xp.sin(theta)) / np.pi
        gap = xp.clip(gap, 0, 1)
        if layers == "both":
            gram += 1 - gap
        overlap = np.pi - 2 * xp.arcsin(xp.sqrt(gap / 2))
    return np.pi * gram


def _overlap_angle(cosine: np.ndarray, unit: np.ndarray) -> np.ndarray:
    r"""Return :math:`\pi-\theta_{ij}`, the angle of the wedge on which both neurons are active."""
    overlap = np.arctan2(np.sqrt((1 - cosine) * (1 + cosine)), -cosine)
    # An error eps in the cosine is an error eps / sin(theta) in the angle: at most 7 eps here.
    # Nearer to 0 and pi the angle follows from half-angles, tan(theta / 2) = |u - v| / |u + v|.
    for i, j in _chunks(unit.shape[1], *np.nonzero(np.abs(cosine) > 0.99)):
        near = np.linalg.norm(unit[i] - unit[j], axis=1)
        far = np.linalg.norm(unit[i] + unit[j], axis=1)
        overlap[i, j] = 2 * np.arctan2(far, near)
    return overlap
