"""Problems with known answers, shared by the tests."""

from __future__ import annotations

import numpy as np

from odeopt import (
    QHM,
    Adam,
    GradientDescent,
    HeavyBall,
    HigherMomentum,
    Nesterov,
    NesterovConstant,
    TorchSGD,
    TripleMomentum,
)
from odeopt.rules import RMSProp, SignDescent


def kernel_with(eigenvalues, seed=0) -> np.ndarray:
    """Return a symmetric kernel with the given eigenvalues and random eigenvectors."""
    eigenvalues = np.asarray(eigenvalues, dtype=float)
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((eigenvalues.size, eigenvalues.size)))
    kernel = (q * eigenvalues) @ q.T
    return (kernel + kernel.T) / 2


def numeric_rules(lr=0.01):
    """One rule of every built-in class, stable for eigenvalues up to 1."""
    return [
        GradientDescent(lr),
        HeavyBall(lr, 0.8),
        Nesterov(lr, 3),
        NesterovConstant(lr, 0.8),
        HigherMomentum(lr, (0.2, 0.5)),
        TripleMomentum(lr, 0.8, 0.4, 1.0),
    ]


def rules_with_memory(lr=0.01):
    """Linear rules that carry a running average, stable for eigenvalues up to 1."""
    return [
        QHM(lr, 0.8, 0.7),
        TorchSGD(lr, 0.8),
        TorchSGD(lr, 0.8, dampening=0.3),
        TorchSGD(lr, 0.8, nesterov=True),
        TorchSGD(lr, r=3, nesterov=True),
    ]


def derivable_rules():
    """Every built-in rule whose first correction exists; AdaGrad has a limit only."""
    return [*numeric_rules(), *rules_with_memory(), SignDescent(0.01), RMSProp(0.01), Adam(0.01)]


def rule_id(rule) -> str:
    return type(rule).__name__
