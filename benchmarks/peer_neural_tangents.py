"""Against neural-tangents on the same kernel: loss curves of GD and heavy ball, and ratios of times.

    python benchmarks/peer_neural_tangents.py 1024 1797

Needs the extra ``peers`` in an environment of its own, see ``peers.py``. Both run in this one process, in
turn: "cold" is the first call, with what it compiles, "warm" the median of three more, each from the kernel
to the curve; seconds and ratios are those of the processor, on one thread each. Their momentum solve takes
the default tolerances of jax's ``odeint``, 1.4e-8, and offers no others; it is run once more with each of
:data:`TOLERANCES` put in their place, so that the gap is seen to be its own error. Kept in
``benchmarks/results/neural_tangents.md``.
"""

import functools
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.linalg
from peers import jax, nt, ode
from tables import write_rows

from odeopt import (
    GradientDescent,
    HeavyBall,
    error_dynamics,
    loss_curve,
    mode_solution,
    ode_limit,
    relu_gram,
    spectral_measure,
)
from odeopt.data import load_digits, prepare

RESULTS = Path(__file__).parent / "results" / "neural_tangents.md"
HEADER = "n | neural-tangents | gap / initial loss | ratio cold | ratio warm | cold s | warm s | ours s"
STEPS = 64  # curves agree with eigh to 1e-12 relative
TOLERANCES = (1e-10, 1e-12)


def half_mean(fx, y):
    return 0.5 * jax.numpy.mean((fx - y) ** 2)


def problem(n):
    data = prepare(*load_digits(n))
    kernel = np.array(relu_gram(data.x))
    u0 = np.sqrt(0.5) * np.random.default_rng(0).standard_normal(n)
    return kernel, u0, data.y


def theirs(kernel, u0, y, times, friction):
    """Loss of both, with their factor 1/n in the gradient taken out of the time."""
    n = len(y)

    def closed():
        predict = nt.predict.gradient_descent_mse(kernel, y[:, None])
        fx = predict(t=n * times, fx_train_0=u0[:, None])
        return 0.5 * np.sum((np.asarray(fx)[..., 0] - y) ** 2, axis=-1)

    def momentum():
        lr = 1.0
        predict = nt.predict.gradient_descent(
            half_mean, kernel, y[:, None], learning_rate=lr, momentum=1 - friction / np.sqrt(n) * np.sqrt(lr)
        )
        state = predict(np.sqrt(n) * times, u0[:, None])
        fx = state.fx_train if hasattr(state, "fx_train") else state
        return 0.5 * np.sum((np.asarray(fx)[..., 0] - y) ** 2, axis=-1)

    return {"closed form": closed, "momentum": momentum}


def ours(kernel, u0, y, times, modes):
    def both():
        measure = spectral_measure(kernel, u0 - y, num_matvecs=STEPS)
        return {name: loss_curve(mode, measure, times, bounds=False).loss for name, mode in modes.items()}

    return both


def modes(lam, friction):
    lr = 0.5 / lam[-1]
    rules = {"gd": GradientDescent(lr), "hb": HeavyBall(lr, 1 - friction * np.sqrt(lr))}
    limits = {"gd": ode_limit(rules["gd"]), "hb": ode_limit(rules["hb"], clock="naive")}
    return {name: mode_solution(error_dynamics(limit)) for name, limit in limits.items()}


def timed(function):
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def compare(n):
    kernel, u0, y = problem(n)
    lam = scipy.linalg.eigvalsh(kernel)
    friction, times = 2 * np.sqrt(lam[0]), np.linspace(0, 40, 100)
    functions = {"ours": ours(kernel, u0, y, times, modes(lam, friction))}
    functions |= theirs(kernel, u0, y, times, friction)
    cold, warm, found = {}, {name: [] for name in functions}, {}
    for name, function in functions.items():
        found[name], cold[name] = timed(function)
    for _ in range(3):
        for name, function in functions.items():
            warm[name].append(timed(function)[1])
    warm = {name: statistics.median(values) for name, values in warm.items()}
    rows = []
    for name, mode in (("closed form", "gd"), ("momentum", "hb")):
        gap = relative_gap(found[name], found["ours"][mode])
        ratios = f"{cold[name] / cold['ours']:.1f} | {warm[name] / warm['ours']:.1f}"
        rows.append(
            f"{n} | {name} | {gap:.1e} | {ratios} | {cold[name]:.2f} | {warm[name]:.2f} | {warm['ours']:.3f}"
        )
    for tolerance in TOLERANCES:
        tight = functools.partial(ode.odeint, rtol=tolerance, atol=tolerance)
        with mock.patch.object(ode, "odeint", tight):
            loss, seconds = timed(functions["momentum"])
        gap = relative_gap(loss, found["ours"]["hb"])
        rows.append(f"{n} | momentum, tolerance {tolerance:.0e} | {gap:.1e} | - | - | {seconds:.2f} | - | -")
    return rows


def relative_gap(theirs, ours):
    return np.max(np.abs(theirs - ours)) / ours[0]


def main():
    for n in map(int, sys.argv[1:] or ["1024", "1797"]):
        rows = compare(n)
        write_rows(RESULTS, HEADER, rows, keys=2)
        sys.stdout.write("\n".join((HEADER, *rows)) + "\n")


if __name__ == "__main__":
    main()
