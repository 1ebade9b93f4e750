"""Against neural-tangents on the same kernel: loss curves of GD and heavy ball, and ratios of times.

    python benchmarks/peer_neural_tangents.py 1024 1797

Needs the extra ``peers`` in an environment of its own, see ``peers.py``. Both run in this one process, in
turn: "cold" is their first call, with what it compiles, "warm" the median of three more, after each of which
ours is run five times; each goes from the kernel to one curve, and seconds and ratios are those of the
processor, on one thread each. Each of their curves is set beside ours of the same ODE, with as many Lanczos
steps as it needs: the least number with which the loss is within :data:`ACCURACY` of that of ``eigh``, as a
part of the initial loss. That is found beforehand and takes no part in the times; without ``eigh`` the
option `rtol` of ``spectral_measure`` stops where proved bounds are so near. Their momentum solve takes the
default tolerances of jax's ``odeint``, 1.4e-8, and offers no others; it is run once more, with what that
compiles, with each of :data:`TOLERANCES` put in their place: the gap is seen to be its own error, and the
ratio that of curves as near to each other. Kept in ``benchmarks/results/neural_tangents.md``.
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
HEADER = "n | neural-tangents | gap / initial loss | ratio warm | cold s | warm s | our steps | ours s"
ACCURACY = 1e-12
ROUNDS, OURS = 3, 5
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


def steps_needed(kernel, delta0, times, mode):
    """Lanczos steps of one curve."""
    exact = loss_curve(mode, spectral_measure(kernel, delta0), times, bounds=False).loss
    gaps = (
        (m, relative_gap(ours(kernel, delta0, times, mode, m)(), exact)) for m in range(1, len(delta0) + 1)
    )
    return next(m for m, gap in gaps if gap <= ACCURACY)


def ours(kernel, delta0, times, mode, steps):
    def curve():
        return loss_curve(mode, spectral_measure(kernel, delta0, num_matvecs=steps), times, bounds=False).loss

    return curve


def modes(lam, friction):
    lr = 0.5 / lam[-1]
    ball = HeavyBall(lr, 1 - friction * np.sqrt(lr))
    limits = {"closed form": ode_limit(GradientDescent(lr)), "momentum": ode_limit(ball, clock="naive")}
    return {name: mode_solution(error_dynamics(limit)) for name, limit in limits.items()}


def timed(function):
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def compare(n):
    kernel, u0, y = problem(n)
    lam = scipy.linalg.eigvalsh(kernel)
    friction, times = 2 * np.sqrt(lam[0]), np.linspace(0, 40, 100)
    functions, rows, gaps = theirs(kernel, u0, y, times, friction), [], {}
    for name, mode in modes(lam, friction).items():
        steps = steps_needed(kernel, u0 - y, times, mode)
        curve, warm, own = ours(kernel, u0 - y, times, mode, steps), [], []
        found, cold = timed(functions[name])
        gaps[name] = functools.partial(relative_gap, ours=curve())
        for _ in range(ROUNDS):
            warm.append(timed(functions[name])[1])
            own += [timed(curve)[1] for _ in range(OURS)]
        warm, own = statistics.median(warm), statistics.median(own)
        rows.append(
            f"{n} | {name} | {gaps[name](found):.1e} | {warm / own:.1f} | {cold:.2f} | {warm:.2f} | {steps} "
            f"| {own:.3f}"
        )
    for tolerance in TOLERANCES:
        tight = functools.partial(ode.odeint, rtol=tolerance, atol=tolerance)
        with mock.patch.object(ode, "odeint", tight):
            loss, seconds = timed(functions["momentum"])
        gap = gaps["momentum"](loss)
        ratio = seconds / own  # of the momentum curve, the last above
        rows.append(
            f"{n} | momentum, tolerance {tolerance:.0e} | {gap:.1e} | {ratio:.1f} | - | {seconds:.2f} "
            f"| {steps} | {own:.3f}"
        )
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
