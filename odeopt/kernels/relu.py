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

from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.checks import require_integer
from odeopt.kernels.between import Write, kernel_between
from odeopt.kernels.inputs import unit_rows, validate_inputs
from odeopt.kernels.shared_rows import points_and_rows

__all__ = ["relu_gram"]

_LAYERS = ("first", "both")
_DEEPEST = 10_000  # hidden layers, each of which is a pass over the kernel


def relu_gram(
    x: Any, x2: Any = None, *, layers: str = "first", depth: int = 1, allow_singular: bool = False
) -> np.ndarray:
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
        One input a row, of any norm.
    x2 : array_like, shape (n2, d), optional
        Inputs of the columns, those that a network is trained on where `x` is not; by default `x` itself.
        What makes a square kernel singular is then no matter. A warning names rows that both sets hold.
    layers : {"first", "both"}, optional
        Which layers are trained; "both" means all of them, whatever the depth.
    depth : int, optional
        Number L of hidden layers.
    allow_singular : bool, optional
        Accept inputs whose kernel is singular, see :func:`validate_inputs`; that of a blank row is 0.

    Returns
    -------
    numpy.ndarray, shape (n, n) or (n, n2)
        Float64, read-only, symmetric if square. Entries are accurate to rounding also for nearly parallel
        inputs, where :math:`\arccos` loses half of the digits.

    Raises
    ------
    ValueError
        If `x` is refused by :func:`validate_inputs`, its norms overflow or underflow when
        squared, `layers` is unknown, or `x2` has other columns.

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
    >>> relu_gram([[0.0, 3.0]], [[1.0, 0.0], [1.0, 1.0]]).round(6)  # between a new input and the two
    array([[0.   , 1.125]])
    """
    validate_architecture(layers, depth)
    if x2 is None:
        x = x2 = validate_inputs(x, allow_parallel=allow_singular, allow_blank=allow_singular, depth=depth)
    else:
        x, x2 = points_and_rows(x, x2)
    return gram_between(x, x2, layers, depth)


def gram_between(x: np.ndarray, x2: np.ndarray, layers: str, depth: int, whole: int = 0) -> np.ndarray:
    """The kernel between two sets of inputs, see :func:`kernel_between`."""
    rows = unit_rows(x)
    others = rows if x2 is x else unit_rows(x2)
    formula = ReluFormula(layers, depth)
    for _, norms in (rows, others):
        formula.diagonal(norms)  # refuses what leaves the range
    return kernel_between(rows, others, formula, whole)


def validate_architecture(layers: str, depth: int) -> None:
    """Raise ValueError unless the trained layers and the number of hidden layers are known."""
    if layers not in _LAYERS:
        raise ValueError(f"layers must be 'first' or 'both', got {layers!r}; choose one of them")
    require_integer("depth", depth, 1, _DEEPEST)


def gram_diagonal(norms: Any, layers: str, depth: int, xp: Any = np) -> Any:
    """Return the kernel of each input with itself: half the squared norm for each trained layer.

    `xp` is the module whose arrays are given, numpy or torch.
    """
    with np.errstate(over="ignore", under="ignore"):
        diagonal = norms**2 / 2
    lost = (diagonal == 0) & (norms > 0)
    if lost.any() or not xp.isfinite((depth + 1) * diagonal).all():
        raise ValueError(
            f"x has rows of norm {norms.min():.3g} to {norms.max():.3g}, whose squares leave the "
            "range of float64; rescale x to norms near 1"
        )
    return (depth + 1) * diagonal if layers == "both" else diagonal


def unit_profile(cosine: Any, overlap: Any, layers: str, depth: int, xp: Any = np) -> Any:
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
        gap = relu_gap(overlap, xp)
        if layers == "both":
            gram += 1 - gap
        overlap = np.pi - 2 * xp.arcsin(xp.sqrt(gap / 2))
    return np.pi * gram


@dataclass(frozen=True)
class ReluFormula:
    """Entries of the kernel from angles and norms, for the panels of an operator."""

    layers: str
    depth: int
    parts: int = 1  # of a panel on a GPU, for its work arrays

    def compiled(self) -> Write | None:
        """Code that writes its entries in one pass, of one hidden layer, where numba is at work."""
        if self.depth > 1:
            return None
        from odeopt.kernels.compiled import compiled_entries

        return compiled_entries(self.layers == "both")

    def entries(self, cosine: Any, overlap: Any, left: Any, right: Any, xp: Any = np) -> Any:
        """The kernel between inputs of these norms, of a column and of a row."""
        gram = unit_profile(cosine, overlap, self.layers, self.depth, xp)
        gram *= left / (2 * np.pi)
        gram *= right
        return gram

    def diagonal(self, norms: Any, xp: Any = np) -> Any:
        """The kernel of each input with itself."""
        return gram_diagonal(norms, self.layers, self.depth, xp)


def relu_gap(overlap: Any, xp: Any = np) -> Any:
    r"""Return :math:`1-\kappa_1`, without cancellation in the cosine: an angle error of eps stays one."""
    theta = np.pi - overlap
    gap = (2 * np.pi * xp.sin(theta / 2) ** 2 + theta * xp.cos(theta) - xp.sin(theta)) / np.pi
    return xp.clip(gap, 0, 1)
