r"""Gaussian expectations of activations, from variances and angles, exact where inputs coincide.

For :math:`(z,z')` normal with variances :math:`p,p'` and covariance :math:`c=\sqrt{pp'}\cos\theta` a profile
gives :math:`E=\mathbb E\,\sigma(z)\sigma(z')`, :math:`\dot E=\mathbb E\,\sigma'(z)\sigma'(z')` and the gap
:math:`\sqrt{E(z,z)E(z',z')}-E`. With :math:`d=pp'-c^2=pp'\sin^2\theta`, which is not subtracted,

.. math::
    \text{ReLU:}\quad&E=\tfrac{\sqrt{pp'}}{2\pi}\bigl[\sin\theta+(\pi-\theta)\cos\theta\bigr],\quad
        \dot E=\tfrac{\pi-\theta}{2\pi},\\
    \text{erf:}\quad&E=\tfrac2\pi\arctan\tfrac{2c}g,\quad\dot E=\tfrac4{\pi g},\quad g^2=1+2p+2p'+4d,\\
    \text{GELU:}\quad&E=\tfrac c4+\tfrac1{2\pi}\Bigl[c\,\alpha+\tfrac{c^2+pp'g^2}{(1+p)(1+p')g}\Bigr],\quad
        \alpha=\arctan\tfrac cg,\quad g^2=1+p+p'+d,\\
    &\dot E=\tfrac14+\tfrac1{2\pi}\Bigl[\alpha+\tfrac cg\Bigl(1+\tfrac1{g^2}+\tfrac{1-pp'}{(1+p)(1+p')}
        \Bigr)\Bigr] .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from odeopt.kernels.relu import relu_gap

__all__ = ["PROFILES", "Expectations"]


@dataclass(frozen=True)
class Expectations:
    r""":math:`E(z,z)`, :math:`E(z',z')`, the gap of their geometric mean above E, E, and :math:`\dot E`."""

    left: np.ndarray
    right: np.ndarray
    gap: np.ndarray
    product: np.ndarray
    slope: np.ndarray


def _relu(p: np.ndarray, q: np.ndarray, overlap: np.ndarray) -> Expectations:
    half, gap = np.sqrt(p) * np.sqrt(q) / 2, relu_gap(overlap)
    return Expectations(p / 2, q / 2, half * gap, half * (1 - gap), overlap / (2 * np.pi))


def _smooth(
    values: Callable[..., tuple[np.ndarray, np.ndarray]], p: np.ndarray, q: np.ndarray, overlap: np.ndarray
) -> Expectations:
    r"""Those of an activation by `values` of :math:`p,p',c,d`, whose gap may be subtracted."""
    pp = np.where(
        np.isfinite(p * q), p * q, np.nan
    )  # what leaves the range is refused, and not taken for inf
    c, d = -np.sqrt(p) * np.sqrt(q) * np.cos(overlap), pp * np.sin(overlap) ** 2
    product, slope = values(p, q, c, d)
    left, right = values(p, p, p, 0.0)[0], values(q, q, q, 0.0)[0]
    return Expectations(left, right, np.sqrt(left) * np.sqrt(right) - product, product, slope)


def _erf(p, q, c, d) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(1 + 2 * (p + q) + 4 * d)
    return 2 / np.pi * np.arctan(2 * c / root), 4 / (np.pi * root)


def _gelu(p, q, c, d) -> tuple[np.ndarray, np.ndarray]:
    root, both = np.sqrt(1 + (p + q) + d), (1 + p) * (1 + q)
    angle = np.arctan(c / root)
    product = c / 4 + (c * angle + (c**2 / root + p * q * root) / both) / (2 * np.pi)
    slope = 0.25 + (angle + c / root * (1 + 1 / root**2 + (1 - p * q) / both)) / (2 * np.pi)
    return product, slope


PROFILES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Expectations]] = {
    "relu": _relu,
    "erf": lambda p, q, overlap: _smooth(_erf, p, q, overlap),
    "gelu": lambda p, q, overlap: _smooth(_gelu, p, q, overlap),
}
