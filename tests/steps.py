"""Steps that a user may write: not linear, with a slip, or with a law in k that a symbol would misread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from odeopt import UpdateRule
from odeopt.rules import sign, sqrt


def rule_of(step, *, history=1, memories=0, start=None, period=1, **hyperparameters):
    """A rule from a function of (rule, k, iterates, memory, grad)."""
    names = dict.fromkeys(hyperparameters, float)
    body = {
        "__annotations__": {"lr": float, **names},
        "history": history,
        "period": period,
        "step": lambda self, k, iterates, memory, grad: step(self, k, iterates, memory, grad),
        "initial_memory": lambda self, x0: (
            start(x0) if start is not None else (0 * x0,) * memories if memories else None
        ),
    }
    return dataclass(frozen=True)(type("Own", (UpdateRule,), body))(lr=0.1, **hyperparameters)


def descent(factor):
    """Gradient descent with the step factor(rule, k)."""
    return rule_of(lambda s, k, x, m, grad: (x[0] - factor(s, k) * grad(x[0]), m))


NOT_LINEAR = {
    "sign": (lambda s, k, x, m, grad: (x[0] - s.lr * sign(grad(x[0])), m), "sign"),
    "np.sign": (lambda s, k, x, m, grad: (x[0] - s.lr * np.sign(grad(x[0])), m), "np.sign"),
    "sqrt": (lambda s, k, x, m, grad: (x[0] - s.lr * sqrt(grad(x[0])), m), "sqrt"),
    "square": (lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) ** 2, m), "power"),
    "product": (lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) * x[0], m), "product"),
    "g |g|": (lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) * abs(grad(x[0])), m), "abs"),
    "sum": (lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) / grad(x[0]).sum(), m), "sum"),
    "np.sum": (lambda s, k, x, m, grad: (x[0] - s.lr * np.sum(grad(x[0])), m), "sum"),
    "np.dot": (lambda s, k, x, m, grad: (x[0] - np.dot(x[0], x[0]) * grad(x[0]), m), "np.dot"),
    "norm": (lambda s, k, x, m, grad: (x[0] - grad(x[0]) / np.linalg.norm(grad(x[0])), m), "np.norm"),
    "@": (lambda s, k, x, m, grad: (x[0] - (x[0] @ x[0]) * grad(x[0]), m), "@"),
    "a comparison": (lambda s, k, x, m, grad: (x[0] if grad(x[0]) > 0 else -x[0], m), "compares"),
    "truth": (lambda s, k, x, m, grad: (x[0] if grad(x[0]) else -x[0], m), "is true"),
    "max": (lambda s, k, x, m, grad: (max(x[0], grad(x[0])), m), "compares"),
    "np.where": (lambda s, k, x, m, grad: (np.where(x[0], x[0], 0), m), "np.where"),
    "np.clip": (lambda s, k, x, m, grad: (x[0] - np.clip(grad(x[0]), -1, 1), m), "np.clip"),
    "np.maximum": (lambda s, k, x, m, grad: (np.maximum(x[0], 0), m), "np.maximum"),
    "one coordinate": (lambda s, k, x, m, grad: (x[0] - x[0][0] * grad(x[0]), m), "single coordinates"),
    "a loop": (lambda s, k, x, m, grad: (x[0] - sum(v for v in grad(x[0])), m), "runs over"),
    "float": (lambda s, k, x, m, grad: (x[0] - float(x[0]) * grad(x[0]), m), "number"),
    "complex": (lambda s, k, x, m, grad: (x[0] - 1j * grad(x[0]), m), "complex"),
    "a preconditioner": (lambda s, k, x, m, grad: (x[0] - np.arange(2.0) * grad(x[0]), m), "array"),
    "a constant": (lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]) + 1e-8, m), "constant"),
}


SLIPS = {
    "history forgotten": (lambda s, k, x, m, grad: (x[0] + x[1] - s.lr * grad(x[0]), m), "history"),
    "memory forgotten": (lambda s, k, x, m, grad: x[0] - s.lr * grad(x[0]), "return x_next, memory"),
    "three values": (lambda s, k, x, m, grad: (x[0], m, m), "3 values"),
    "a memory from nowhere": (lambda s, k, x, m, grad: (x[0], (x[0],)), "1 entries"),
    "nothing returned": (lambda s, k, x, m, grad: None, "one value"),
    "a number returned": (lambda s, k, x, m, grad: (1.0, m), "next iterate"),
    "a misspelt name": (lambda s, k, x, m, grad: (x[0] - s.learning_rate * grad(x[0]), m), "AttributeError"),
    "gradient of a number": (lambda s, k, x, m, grad: (x[0] - grad(1.0), m), "gradient at"),
    "division by zero": (lambda s, k, x, m, grad: (x[0] / 0, m), "zero"),
    "nan": (lambda s, k, x, m, grad: (x[0] * float("nan"), m), "nan"),
    "text": (lambda s, k, x, m, grad: (x[0] * "a", m), "str"),
    "in place": (lambda s, k, x, m, grad: (_in_place(x[0]), m), "in place"),
    "shape": (lambda s, k, x, m, grad: (x[0] - np.ones(x[0].shape) * grad(x[0]), m), "shape"),
    "chance": (lambda s, k, x, m, grad: (x[0] - np.random.default_rng().random() * grad(x[0]), m), "chance"),
}


def _in_place(x):
    x *= 2
    return x


LATE = {
    "%": lambda s, k: s.lr * (1 + k % 3),
    "//": lambda s, k: s.lr / (1 + k // 10),
    "<": lambda s, k: s.lr if k < 2000 else 10 * s.lr,
    ">=": lambda s, k: s.lr if k >= 10.5 else 10 * s.lr,
    "> of a quotient": lambda s, k: s.lr * max(0.9, (k + 1) / (k + 10)),
    "< of a root": lambda s, k: s.lr if np.sqrt(k) < 2 else 10 * s.lr,
    "k == 100": lambda s, k: 0 if k == 100 else s.lr,
    "a set": lambda s, k: 0 if k in {50, 60} else s.lr,
    "a table": lambda s, k: [0.1, 0.2][k] if isinstance(k, int) and k < 2 else [0.1, 0.2][k % 2],
    "math": lambda s, k: s.lr * math.cos(k),
    "float": lambda s, k: s.lr / (1 + float(k)),
    "int": lambda s, k: s.lr / (1 + int(k)),
    "range": lambda s, k: s.lr * (1 + sum(0.1 for _ in range(k))),
    "min": lambda s, k: s.lr * min(k, 10),
    "its type": lambda s, k: s.lr * (1 + k * 0) if isinstance(k, int) else 2 * s.lr,
    "a power of -1": lambda s, k: s.lr * (1 + 0.5 * (-1) ** k),
    "a power of -1 by parity": lambda s, k: s.lr * (1 if k & 1 else 2),
}
