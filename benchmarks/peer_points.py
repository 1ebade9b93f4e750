"""Against neural-tangents: kernels with biases and depth, and curves on digits that are not trained on.

    python benchmarks/peer_points.py

Needs neural-tangents and its jax (extra ``peers``), best in an environment of their own. Both run in this one
process, in turn, from the kernels to the predictions on 597 digits at 100 times; the seconds are those of the
processor, the median of three after a first call that compiles. Kept in
``benchmarks/results/neural_tangents_points.md`` and ``neural_tangents_kernels.md``.
"""

import functools
import itertools
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
from neural_tangents import stax  # noqa: E402
from tables import write_rows  # noqa: E402

from odeopt import (  # noqa: E402
    GradientDescent,
    HeavyBall,
    error_dynamics,
    mode_solution,
    ode_limit,
    predict,
    spectral_measure,
)
from odeopt.kernels import NetworkKernel  # noqa: E402

RESULTS = Path(__file__).parent / "results"
STEPS, VARIANCES, TOLERANCE = 100, (1.69, 0.16), 1e-11
ACTIVATIONS = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}


def digits():
    data = load_digits()
    x = data.data / np.linalg.norm(data.data, axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order[:1200]], x[order[1200:]], 2.0 * (data.target[order[:1200]] % 2) - 1


def their_kernel(activation, depth):
    weight, bias = np.sqrt(VARIANCES)
    dense = stax.Dense(1, W_std=weight, b_std=bias, parameterization="ntk")
    _, _, kernel = stax.serial(*(depth * [dense, ACTIVATIONS[activation]()]), dense)
    return kernel


def kernels(x, points):
    """Largest gaps of kernels between two sets of inputs."""
    rows = []
    for activation, depth, kind in itertools.product(ACTIVATIONS, (1, 3, 6), ("nngp", "ntk")):
        found = NetworkKernel(depth, activation, *VARIANCES, kind)(points, x)
        gap = np.abs(found - np.asarray(their_kernel(activation, depth)(points, x, kind))).max()
        assert gap < 1e-12
        rows.append(f"{activation} | {depth} | {kind} | {gap:.1e}")
    return rows


def theirs(kernel, cross, y, times, friction):
    """Predictions of both on the points, with their factor 1/n in the gradient taken out of the time."""
    n, zero, away = len(y), np.zeros((len(y), 1)), np.zeros((len(cross), 1))

    def half_mean(fx, targets):
        return 0.5 * jax.numpy.mean((fx - targets) ** 2)

    def closed():
        run = nt.predict.gradient_descent_mse(kernel, y[:, None])
        return run(n * times, zero, away, cross)[1]

    def momentum():
        run = nt.predict.gradient_descent(
            half_mean, kernel, y[:, None], learning_rate=1.0, momentum=1 - friction / np.sqrt(n)
        )
        return run(np.sqrt(n) * times, zero, away, cross)[1]

    return {"closed form": closed, "momentum": momentum}


def curves(x, points, y):
    """Gaps of predictions on points, and ratios of times."""
    network = NetworkKernel(1, "relu", *VARIANCES)
    kernel, cross = np.array(network(x)), np.array(network(points, x))
    lr, friction, times = 0.5 / float(np.linalg.eigvalsh(kernel)[-1]), 0.5, np.linspace(0, 40, 100)
    limits = {
        "closed form": ode_limit(GradientDescent(lr)),
        "momentum": ode_limit(HeavyBall(lr, 1 - friction * np.sqrt(lr)), clock="naive"),
    }
    rows = []
    for name, function in theirs(kernel, cross, y, times, friction).items():
        mode = mode_solution(error_dynamics(limits[name]))

        def ours(mode=mode):
            measure = spectral_measure(kernel, -y, num_matvecs=STEPS)
            return predict(mode, measure, cross, times).u

        gap = np.abs(np.asarray(function())[..., 0] - ours()).max()
        seconds = {function: [], ours: []}
        for _, (call, taken) in itertools.product(range(3), seconds.items()):
            start = time.process_time()
            np.asarray(call())
            taken.append(time.process_time() - start)
        their, our = (statistics.median(taken) for taken in seconds.values())
        rows.append(f"{name} | {gap:.1e} | {their / our:.1f} | {their:.2f} | {our:.3f}")
        if name == "momentum":  # the gap is that of their solver, by default at 1.4e-8
            tight = functools.partial(ode.odeint, rtol=TOLERANCE, atol=TOLERANCE)
            with mock.patch.object(ode, "odeint", tight):
                gap = np.abs(np.asarray(function())[..., 0] - ours()).max()
            rows.append(f"momentum, tolerance {TOLERANCE:.0e} | {gap:.1e} | - | - | -")
    return rows


def main():
    x, points, y = digits()
    for name, header, rows, keys in (
        ("kernels", "activation | hidden layers | kernel | largest gap", kernels(x[:200], points[:100]), 3),
        (
            "points",
            "neural-tangents | largest gap | ratio of processor times | theirs s | ours s",
            curves(x, points, y),
            1,
        ),
    ):
        write_rows(RESULTS / f"neural_tangents_{name}.md", header, rows, keys=keys)
        sys.stdout.write("\n".join((header, *rows, "")))


if __name__ == "__main__":
    main()
