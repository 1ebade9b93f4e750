"""Against neural-tangents: cross-entropy of ten classes, from one kernel, on training and on other digits.

    python benchmarks/peer_softmax.py

Needs neural-tangents and its jax (extra ``peers``), best in an environment of their own. Both integrate the
same equations from zero outputs in this one process, in turn, to a tolerance of 1e-10; the seconds are those
of the processor, the median of three after a first call that compiles. Kept in
``benchmarks/results/neural_tangents_softmax.md``.
"""

import functools
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from sklearn.datasets import load_digits

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
from jax.experimental import ode  # noqa: E402
from tables import write_rows  # noqa: E402

from odeopt import (  # noqa: E402
    GradientDescent,
    HeavyBall,
    SoftmaxLoss,
    ode_limit,
    prediction_dynamics,
    relu_gram,
)
from odeopt.dynamics import integrate_predictions  # noqa: E402

RESULT = Path(__file__).parent / "results" / "neural_tangents_softmax.md"
TOLERANCE, FRICTION, TIMES = 1e-10, 0.5, np.linspace(0, 20, 50)
LIMITS = {
    "gradient flow": ode_limit(GradientDescent(0.01)),
    "momentum": ode_limit(HeavyBall(0.01, 1 - FRICTION * 0.1), clock="naive"),
}


def problem(n=200, tests=100):
    data = load_digits()
    x = data.data[: n + tests] - data.data[:n].mean(axis=0)
    x /= np.linalg.norm(x, axis=1)[:, None]
    return relu_gram(x[:n]), relu_gram(x[n:], x[:n]), np.eye(10)[data.target[:n]]


def theirs(name, kernel, cross, y):
    def loss(u, targets):
        return -jax.numpy.sum(targets * jax.nn.log_softmax(u, axis=1))

    momentum = 1 - FRICTION if name == "momentum" else None
    run = nt.predict.gradient_descent(loss, kernel, y, learning_rate=1.0, momentum=momentum)
    with mock.patch.object(ode, "odeint", functools.partial(ode.odeint, rtol=TOLERANCE, atol=TOLERANCE)):
        return run(TIMES, np.zeros(y.shape), np.zeros((len(cross), y.shape[1])), cross)


def ours(name, kernel, cross, y):
    dynamics, start = prediction_dynamics(LIMITS[name], SoftmaxLoss()), np.zeros((len(cross), y.shape[1]))
    run = integrate_predictions(
        dynamics, kernel, np.zeros(y.shape), y, TIMES,
        rtol=TOLERANCE, atol=TOLERANCE, cross_kernel=cross, start=start,
    )  # fmt: skip
    return run.u, run.points


def main():
    header = (
        "neural-tangents | largest output | gap, training | gap, test | ratio of processor times "
        "| theirs s | ours s"
    )
    rows = []
    for name in LIMITS:
        given = name, *problem()
        calls, seconds = (theirs, ours), {theirs: [], ours: []}
        (their_u, their_points), (u, points) = (call(*given) for call in calls)
        for call in 3 * calls:
            begin = time.process_time()
            np.asarray(call(*given)[0])
            seconds[call].append(time.process_time() - begin)
        gaps = [np.abs(np.asarray(a) - b).max() for a, b in ((their_u, u), (their_points, points))]
        assert max(gaps) < 1e3 * TOLERANCE * np.abs(u).max()
        slow, fast = (statistics.median(seconds[call]) for call in calls)
        rows.append(
            f"{name} | {np.abs(u).max():.1f} | {gaps[0]:.1e} | {gaps[1]:.1e} | {slow / fast:.1f} | "
            f"{slow:.2f} | {fast:.2f}"
        )
    write_rows(RESULT, header, rows)
    sys.stdout.write("\n".join((header, *rows, "")))


if __name__ == "__main__":
    main()
