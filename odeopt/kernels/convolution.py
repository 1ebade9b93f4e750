r"""Kernels of convolutional networks of infinite width with global average pooling.

Between channels there are infinitely many weights, between pixels none: of a pair of images every pair of
pixels (i, j) has a covariance. With :math:`\mathcal A` the mean over the q x q pairs
:math:`(i+\delta,j+\delta)`, blank outside of the images, and c channels

.. math:: K^1=\Theta^1=\sigma_w^2\mathcal A\Bigl[\tfrac{x_i\cdot x'_j}c\Bigr]+\sigma_b^2,\quad
    K^{l+1}=\sigma_w^2\mathcal A[E^l]+\sigma_b^2,\quad
    \Theta^{l+1}=K^{l+1}+\sigma_w^2\mathcal A[\dot E^l\,\Theta^l],

and the outputs, of weights of all channels, have the mean over all pairs of pixels in place of
:math:`\mathcal A`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from odeopt.checks import real_array, require_integer
from odeopt.kernels.network import layer_variances
from odeopt.kernels.profiles import PROFILES
from odeopt.kernels.shared_rows import points_and_rows

__all__ = ["ConvolutionKernel"]

_PART = 2**18  # pairs of pixels at a time, 2 MB of each array
# A cosine is a sum of products of entries: so many roundings below 1 it is not told from 1.
_ROUNDINGS = 8


@dataclass(frozen=True)
class ConvolutionKernel:
    r"""The kernel of an infinitely wide convolutional network with global average pooling.

    Convolutions of q x q pixels, with blank ones outside of the images and stride 1, each followed by the
    activation; the mean over all pixels; one linear layer. All parameters are trained, in the NTK
    parametrisation: weights are :math:`\sigma_wm^{-1/2}q^{-1}` times N(0, 1), m the channels that come in.

    Parameters
    ----------
    depth : int
        Number L of convolutions.
    activation : {"relu", "erf", "gelu"}
    weight_variance, bias_variance : float or sequence of L + 1 float
        Of every layer, or of each from the inputs on.
    kind : {"ntk", "nngp"}
        As in :class:`odeopt.kernels.NetworkKernel`.
    filter_size : int
        The odd q.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    .. [1] S. Arora et al., "On exact computation with an infinitely wide neural net",
       NeurIPS 2019, section 4.

    Examples
    --------
    Of single pixels, and filters as large, it is the kernel of a fully connected network.

    >>> from odeopt.kernels import NetworkKernel
    >>> kernel = ConvolutionKernel(filter_size=1, bias_variance=0.1)
    >>> pixels = kernel([[[[1.0]], [[2.0]]]], [[[[0.5]], [[-1.0]]]])  # one of two channels each
    >>> np.allclose(pixels, NetworkKernel(bias_variance=0.1)([[1.0, 2.0]], [[0.5, -1.0]]), rtol=1e-13)
    True
    """

    depth: int = 1
    activation: Literal["relu", "erf", "gelu"] = "relu"
    weight_variance: float | Sequence[float] = 1.0
    bias_variance: float | Sequence[float] = 0.0
    kind: Literal["ntk", "nngp"] = "ntk"
    filter_size: int = 3

    def __post_init__(self) -> None:
        layer_variances(self)
        if require_integer("filter_size", self.filter_size, 1) % 2 == 0:
            raise ValueError(
                f"filter_size must be odd, got {self.filter_size}, which has no pixel at its centre; take "
                f"{self.filter_size + 1}"
            )

    def __call__(self, x: npt.ArrayLike, x2: npt.ArrayLike | None = None) -> np.ndarray:
        r"""Evaluate the kernel between images.

        Parameters
        ----------
        x : array_like, shape (n, c, h, w)
            Images of c channels, any finite ones.
        x2 : array_like, shape (n2, c, h, w), optional
            Images of the columns; by default `x` itself.

        Returns
        -------
        numpy.ndarray, shape (n, n2)
            Float64, read-only, symmetric to the last bit if `x2` is `x`. The time is that of
            :math:`n\,n_2(hw)^2` pairs of pixels in every layer. NNGP entries are accurate to roundings; in
            NTK ones the slope of a pair of pixels whose patches all but coincide is off by up to 3e-8.

        Raises
        ------
        ValueError
            If the images are not finite, of different shapes, or too large for float64.

        Examples
        --------
        >>> ConvolutionKernel(depth=2)(np.eye(3).reshape(1, 1, 3, 3)).round(8)
        array([[0.03104343]])
        """
        x = real_array(x, "x", ndim=4)
        other = x if x2 is None else real_array(x2, "x2", ndim=4)
        if other.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"x2 must have images of shape {x.shape[1:]} like x, got {other.shape[1:]}; both are "
                "(n, c, h, w)"
            )
        if x2 is not None:
            flat, flat2 = points_and_rows(x.reshape(len(x), -1), other.reshape(len(other), -1))
            other = x if flat2 is flat else other
        with np.errstate(over="ignore", invalid="ignore"):
            gram = self._images(x, other)
        if not np.isfinite(gram).all():
            raise ValueError(
                f"the kernel of x with entries up to {max(abs(x).max(), abs(other).max()):.3g} leaves the "
                "range of float64; rescale x, or the variances"
            )
        gram.setflags(write=False)
        return gram

    def _images(self, x: np.ndarray, x2: np.ndarray) -> np.ndarray:
        same, gram = x2 is x, np.empty((len(x), len(x2)))
        variances = [self._variances(each) for each in ((x,) if same else (x, x2))]
        size = x.shape[2] * x.shape[3]
        step = max(1, _PART // size**2)
        for i in range(len(x)):
            first = i if same else 0
            for j in range(first, len(x2), step):
                here = slice(j, min(j + step, len(x2)))
                own = np.arange(here.start, here.stop) == i if same else None
                p, q = (
                    [each[k] for each in found] for found, k in ((variances[0], i), (variances[-1], here))
                )
                gram[i, here] = self._pairs(x[i], x2[here], p, q, own)
            if same:
                gram[i:, i] = gram[i, i:]
        return gram

    def _variances(self, x: np.ndarray) -> list[np.ndarray]:
        """Of every layer and pixel, shape (n, h, w)."""
        found, held = [], (x**2).mean(axis=1)
        for weight, bias in layer_variances(self)[:-1]:
            held = weight * _box(held, self.filter_size, ((1,), (2,))) + bias
            found.append(held)
            held = self._profile(held, held, np.full_like(held, np.pi)).left
        return found

    def _profile(self, p: Any, q: Any, overlap: Any) -> Any:
        return PROFILES[self.activation](p, q, overlap, np)

    def _pairs(
        self, image: np.ndarray, others: np.ndarray, p: Any, q: Any, own: np.ndarray | None
    ) -> np.ndarray:
        """The kernel between an image and others, `own` the place of itself among them."""
        layers, axes = layer_variances(self), ((1, 3), (2, 4))
        product = np.einsum("cij,nckl->nijkl", image, others) / len(image)
        ntk = np.zeros(())
        for layer, (weight, bias) in enumerate(layers[:-1]):
            gram = weight * _box(product, self.filter_size, axes) + bias
            ntk = gram + (weight * _box(ntk, self.filter_size, axes) if layer else 0.0)
            left, right = p[layer][None, :, :, None, None], q[layer][:, None, None]
            found = self._profile(left, right, _overlap(gram, left, right, own))
            product, ntk = found.product, found.slope * ntk
        weight, bias = layers[-1]
        pooled = tuple(each.mean(axis=(1, 2, 3, 4)) for each in (product, ntk))
        gram = weight * pooled[0] + bias
        return gram + weight * pooled[1] if self.kind == "ntk" else gram


def _overlap(gram: np.ndarray, left: np.ndarray, right: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    r""":math:`\pi-\theta` of all pairs of pixels; pi of a pixel with itself or within rounding."""
    size = np.sqrt(left) * np.sqrt(right)
    cosine = np.divide(gram, size, out=np.zeros_like(gram), where=size > 0)
    cosine[cosine > 1 - _ROUNDINGS * np.finfo(float).eps] = 1
    cosine[cosine < _ROUNDINGS * np.finfo(float).eps - 1] = -1
    overlap = np.arccos(-cosine)
    if own is not None and own.any():
        h, w = gram.shape[1:3]
        i, j = (each.reshape(-1) for each in np.indices((h, w)))
        overlap[np.flatnonzero(own)[0], i, j, i, j] = np.pi
    return overlap


def _box(values: np.ndarray, width: int, axes: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """The mean over a window of `width` squared, in which the `axes` of a pair of images move together."""
    for together in axes:
        half, total = width // 2, values.copy()
        for shift in itertools.chain(range(-half, 0), range(1, half + 1)):
            if abs(shift) < values.shape[together[0]]:
                to, source = ([slice(None)] * values.ndim for _ in range(2))
                for axis in together:
                    to[axis] = slice(max(0, -shift), min(0, -shift) or None)
                    source[axis] = slice(max(0, shift), min(0, shift) or None)
                total[tuple(to)] += values[tuple(source)]
        values = total
    return values / width**2
