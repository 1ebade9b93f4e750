"""A client of the package, as a user writes it: the type checkers read it against the installed wheel."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from odeopt import (
    HeavyBall,
    Nesterov,
    UpdateRule,
    certify,
    check,
    discrete_rate,
    error_dynamics,
    exact_rate,
    loss_curve,
    max_learning_rate,
    mode_solution,
    nets,
    ode_limit,
    relu_gram,
    relu_gram_operator,
    spectral_measure,
)
from odeopt.studies import CheckSettings


@dataclass(frozen=True)
class Averaged(UpdateRule):
    """Gradient at the mean of the last two iterates."""

    lr: float
    momentum: float
    history = 2

    def step(self, k: Any, iterates: Any, memory: Any, grad: Any) -> tuple[Any, Any]:
        x, x_prev = iterates
        return x + self.momentum * (x - x_prev) - self.lr * grad((x + x_prev) / 2), memory


def derive() -> str:
    limit = ode_limit(Averaged(lr=0.01, momentum=0.5))
    return f"{limit}, {limit.latex()}"


def predict(x: npt.NDArray[np.float64], rule: UpdateRule) -> npt.NDArray[np.float64]:
    dynamics = error_dynamics(ode_limit(rule))
    measure = spectral_measure(relu_gram(x), delta0=np.ones(len(x)))
    large = spectral_measure(relu_gram_operator(x), np.ones(len(x)), num_matvecs=8)
    curve = loss_curve(mode_solution(dynamics), measure, np.linspace(0, 20, 5))
    steps = loss_curve(rule, large, range(0, 50, 10))
    slow, fast = exact_rate(dynamics, measure.lam_min, measure.lam_max), discrete_rate(rule, 0.1, 1.0)
    edge: float = max_learning_rate(rule, measure.lam_max)
    return np.concatenate([curve.loss, steps.loss, [slow.value, fast.value, edge]])


def prove() -> tuple[str, bool]:
    certificate = certify(ode_limit(HeavyBall(lr=0.01, momentum=0.8)), mu=1)
    return certificate.to_json(), certificate.verify()


def train(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    net = nets.TwoLayerReLU(x.shape[1], 64, seed=1)
    run = nets.train(net, Nesterov(lr=0.01), x, y, 10)
    return float(run.loss[-1])


def compare(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> dict[str, float]:
    settings = CheckSettings(width=64, seeds=1, num_steps=100)
    report = check(x, y, methods=["gd", HeavyBall(lr=0.01, momentum=0.9)], settings=settings)
    return {method.name: method.kernel_drift for method in report.methods}
