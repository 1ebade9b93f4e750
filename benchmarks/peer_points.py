"""Against neural-tangents: kernels with biases and depth, and predictions on inputs that are not trained on.

    python benchmarks/peer_points.py

Needs the extra ``peers`` in an environment of its own, see ``peers.py``. Both run in this one process, in
turn, from the kernels to the predictions on 200 points at 100 times, of 1797 digits (squared loss) or on 50
of 200 digits (softmax); the seconds are those of the processor, the median of three after a first call that
compiles. Kept in ``benchmarks/results/neural_tangents_points.md`` and ``neural_tangents_kernels.md``.
"""

import functools
import itertools
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from peers import jax, nt, ode, stax
from sklearn.datasets import load_digits
from tables import write_rows

from odeopt import (
    GradientDescent,
    HeavyBall,
    SoftmaxLoss,
    error_dynamics,
    mode_solution,
    ode_limit,
    predict,
    prediction_dynamics,
    spectral_measure,
)
from odeopt.dynamics import integrate_predictions
from odeopt.kernels import ConvolutionKernel, NetworkKernel

RESULTS = Path(__file__).parent / "results"
STEPS, VARIANCES, TOLERANCE = 64, (1.69, 0.16), 1e-11
ACTIVATIONS = {"relu": stax.Relu, "erf": stax.Erf, "gelu": stax.Gelu}


def digits():
    """All digits, labels, and 200 of them moved by a pixel, which none of them is."""
    data = load_digits()
    pictures = data.images[np.random.default_rng(0).permutation(len(data.target))[:200]]
    sets = (data.data, np.roll(pictures, 1, axis=2).reshape(200, -1))
    return (*(x / np.linalg.norm(x, axis=1, keepdims=True) for x in sets), data.target)


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
    return rows + convolutions(np.random.default_rng(0).standard_normal((2, 5, 2, 6, 5)))


def convolutions(images):
    """The same for convolutions with global average pooling."""
    (weight, bias), rows, one = np.sqrt(VARIANCES), [], {"parameterization": "ntk"}
    for activation, depth, kind in itertools.product(ACTIVATIONS, (1, 3), ("nngp", "ntk")):
        layer = stax.Conv(1, (3, 3), padding="SAME", W_std=weight, b_std=bias, **one)
        last = stax.GlobalAvgPool(), stax.Dense(1, W_std=weight, b_std=bias, **one)
        _, _, kernel = stax.serial(*(depth * [layer, ACTIVATIONS[activation]()]), *last)
        found = ConvolutionKernel(depth, activation, *VARIANCES, kind)(*images)
        gap = np.abs(found - np.asarray(kernel(*np.moveaxis(images, 2, 4), kind))).max()
        assert gap < 1e-12
        rows.append(f"{activation}, pooled | {depth} | {kind} | {gap:.1e}")
    return rows


def theirs(kernel, cross, y, times, friction):
    """Predictions on examples and points, with their factor 1/n in the gradient taken out of the time."""
    n, zero, away = len(y), np.zeros((len(y), 1)), np.zeros((len(cross), 1))

    def half_mean(fx, targets):
        return 0.5 * jax.numpy.mean((fx - targets) ** 2)

    def closed():
        return nt.predict.gradient_descent_mse(kernel, y[:, None])(n * times, zero, away, cross)

    def momentum():
        run = nt.predict.gradient_descent(
            half_mean, kernel, y[:, None], learning_rate=1.0, momentum=1 - friction / np.sqrt(n)
        )
        return run(np.sqrt(n) * times, zero, away, cross)[:2]

    return {"closed form": closed, "momentum": momentum}


def limits(largest, friction):
    lr = 0.5 / largest
    return {
        "closed form": ode_limit(GradientDescent(lr)),
        "momentum": ode_limit(HeavyBall(lr, 1 - friction * np.sqrt(lr)), clock="naive"),
    }


def gaps(found, ours):
    return " | ".join(
        f"{np.abs(np.asarray(a).reshape(b.shape) - b).max():.1e}" for a, b in zip(found, ours, strict=True)
    )


def with_tolerance(function):
    """Their solution where that of jax's ``odeint`` is not the default one, of 1.4e-8."""
    tight = functools.partial(ode.odeint, rtol=TOLERANCE, atol=TOLERANCE)
    with mock.patch.object(ode, "odeint", tight):
        return function()


def processor_times(*functions):
    """Medians of three calls in turn, after those that compiled."""
    seconds = [[] for _ in functions]
    for _, (call, taken) in itertools.product(range(3), zip(functions, seconds, strict=True)):
        start = time.process_time()
        jax.block_until_ready(call())
        taken.append(time.process_time() - start)
    their, our = map(statistics.median, seconds)
    return f"{their / our:.1f} | {their:.2f} | {our:.3f}"


def curves(x, points, y):
    """Gaps of predictions on examples and points, and ratios of times from the kernels to the points."""
    network, friction, times = NetworkKernel(1, "relu", *VARIANCES), 0.5, np.linspace(0, 40, 100)
    kernel, cross = np.array(network(x)), np.array(network(points, x))
    equations, rows = limits(float(np.linalg.eigvalsh(kernel)[-1]), friction), []
    for name, function in theirs(kernel, cross, y, times, friction).items():
        mode = mode_solution(error_dynamics(equations[name]))

        def ours(matrix=cross, mode=mode):
            measure = spectral_measure(kernel, -y, num_matvecs=STEPS)
            return predict(mode, measure, matrix, times).u

        found, both = function(), (ours(kernel), ours())
        rows.append(f"{name} | {gaps(found, both)} | {processor_times(function, ours)}")
        if name == "momentum":  # the gap is that of their solver
            rows.append(
                f"{name}, tolerance {TOLERANCE:.0e} | {gaps(with_tolerance(function), both)} | - | - | -"
            )
    return rows


def softmax(x, points, labels):
    """The same for cross-entropy of ten classes, which both integrate, ours to 1e-10."""
    network, friction, times = NetworkKernel(1, "relu", *VARIANCES), 0.5, np.linspace(0, 20, 21)
    kernel, cross = np.array(network(x)), np.array(network(points, x))
    y, away = np.eye(10)[labels], np.zeros((len(points), 10))
    rows = []

    def cross_entropy(fx, targets):
        return -jax.numpy.sum(targets * jax.nn.log_softmax(fx))

    for name, equation in limits(float(np.linalg.eigvalsh(kernel)[-1]), friction).items():
        flow = name == "closed form"
        options = {} if flow else {"learning_rate": 1.0, "momentum": 1 - friction}
        dynamics = prediction_dynamics(equation, SoftmaxLoss())

        def function(options=options):
            run = nt.predict.gradient_descent(cross_entropy, kernel, y, **options)
            return run(times, np.zeros_like(y), away, cross)[:2]

        def ours(dynamics=dynamics):
            found = integrate_predictions(
                dynamics, kernel, np.zeros_like(y), y, times,
                cross_kernel=cross, start=away, rtol=1e-10, atol=1e-12,
            )  # fmt: skip
            return found.u, found.points

        title = f"softmax, {'flow' if flow else 'momentum'}"
        rows.append(f"{title} | {gaps(function(), ours())} | {processor_times(function, ours)}")
        rows.append(
            f"{title}, tolerance {TOLERANCE:.0e} | {gaps(with_tolerance(function), ours())} | - | - | -"
        )
    return rows


def main():
    x, points, labels = digits()
    header = (
        "neural-tangents | gap on examples | gap on points | ratio of processor times | theirs s | ours s"
    )
    few = np.random.default_rng(1).permutation(len(x))[:200]
    predicted = curves(x, points, 2.0 * (labels % 2) - 1) + softmax(x[few], points[:50], labels[few])
    for name, title, rows, keys in (
        ("kernels", "activation | hidden layers | kernel | largest gap", kernels(x[:200], points[:100]), 3),
        ("points", header, predicted, 1),
    ):
        write_rows(RESULTS / f"neural_tangents_{name}.md", title, rows, keys=keys)
        sys.stdout.write("\n".join((title, *rows, "")))


if __name__ == "__main__":
    main()
