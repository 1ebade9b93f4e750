"""A smooth strongly convex function that is not quadratic, with all its differentials."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial


class LogCosh:
    """f(x) = x'Ax/2 + sum_j log cosh(w_j . x), strongly convex, with tensors of every order."""

    def __init__(self, d=3, seed=0):
        rng = np.random.default_rng(seed)
        q, _ = np.linalg.qr(rng.standard_normal((d, d)))
        self.matrix = (q * np.linspace(0.2, 1.0, d)) @ q.T
        self.directions = rng.standard_normal((4, d)) * 0.6
        self.x0 = rng.standard_normal(d) * 1.5

    def differential(self, x, *vectors):
        """Return the (p+1)-th derivative applied to p vectors."""
        # derivatives of tanh are polynomials in tanh
        tanh = Polynomial([0, 1])
        for _ in vectors:
            tanh = tanh.deriv() * Polynomial([1, 0, -1])
        weights = tanh(np.tanh(self.directions @ x))
        for v in vectors:
            weights = weights * (self.directions @ v)
        quadratic = self.matrix @ x if not vectors else self.matrix @ vectors[0] if len(vectors) == 1 else 0.0
        return quadratic + weights @ self.directions

    def gradient(self, x):
        return self.differential(x)
