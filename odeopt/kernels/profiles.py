r"""Gaussian expectations of activations, from variances and angles, exact where inputs coincide.

Arrays are those of a module `xp`, numpy or torch.

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

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from odeopt.kernels.relu import relu_gap

__all__ = ["PROFILES", "Expectations"]


@dataclass(frozen=True)
class Expectations:
    r""":math:`E(z,z)`, :math:`E(z',z')`, the gap of their geometric mean above E, E, and :math:`\dot E`."""

    left: Any
    right: Any
    gap: Any
    product: Any
    slope: Any


def _relu(p: Any, q: Any, overlap: Any, xp: Any) -> Expectations:
    half, gap = xp.sqrt(p) * xp.sqrt(q) / 2, relu_gap(overlap, xp)
    return Expectations(p / 2, q / 2, half * gap, half * (1 - gap), overlap / (2 * np.pi))


def _smooth(values: Callable[..., tuple[Any, Any]], p: Any, q: Any, overlap: Any, xp: Any) -> Expectations:
    r"""Those of an activation by `values` of :math:`p,p',c,d`, whose gap may be subtracted."""
    # what leaves the range is refused, and not taken for inf
    pp = xp.where(xp.isfinite(p * q), p * q, xp.nan)
    c, d = -xp.sqrt(p) * xp.sqrt(q) * xp.cos(overlap), pp * xp.sin(overlap) ** 2
    product, slope = values(p, q, c, d, xp)
    left, right = values(p, p, p, 0.0, xp)[0], values(q, q, q, 0.0, xp)[0]
    return Expectations(left, right, xp.sqrt(left) * xp.sqrt(right) - product, product, slope)


def _erf(p: Any, q: Any, c: Any, d: Any, xp: Any) -> tuple[Any, Any]:
    root = xp.sqrt(1 + 2 * (p + q) + 4 * d)
    return 2 / np.pi * xp.arctan(2 * c / root), 4 / (np.pi * root)


def _gelu(p: Any, q: Any, c: Any, d: Any, xp: Any) -> tuple[Any, Any]:
    root, both = xp.sqrt(1 + (p + q) + d), (1 + p) * (1 + q)
    angle = xp.arctan(c / root)
    product = c / 4 + (c * angle + (c**2 / root + p * q * root) / both) / (2 * np.pi)
    slope = 0.25 + (angle + c / root * (1 + 1 / root**2 + (1 - p * q) / both)) / (2 * np.pi)
    return product, slope


PROFILES: dict[str, Callable[[Any, Any, Any, Any], Expectations]] = {
    "relu": _relu,
    "erf": functools.partial(_smooth, _erf),
    "gelu": functools.partial(_smooth, _gelu),
}
