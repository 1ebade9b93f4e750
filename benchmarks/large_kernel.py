"""Data-set scale: kernel, one Lanczos run and the curves of all methods, for growing n.

    python benchmarks/large_kernel.py 5000 20000            # about half a minute on two idle cores
    python benchmarks/large_kernel.py 60000 --test 10000    # some six minutes of processor time and 9 GB

Prints, and keeps in ``benchmarks/results/large_kernel.md``, the seconds of each part, on the wall and of the
processor, over all threads, and the peak memory of the process. With ``--test`` the same methods are
predicted on so many points more, from the same Lanczos vectors: once the kernel between these and the
examples, then a curve of predictions a method. The data are synthetic: ten clusters in dimension 784, with
spread within each.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from tables import write_rows

from odeopt import (
    GradientDescent,
    Nesterov,
    error_dynamics,
    loss_curve,
    mode_solution,
    ode_limit,
    predict,
    relu_gram_operator,
    spectral_measure,
    tune,
)
from odeopt.kernels import relu_cross_operator
from odeopt.rates import steps_to
from odeopt.rules import HeavyBall, NesterovConstant, TripleMomentum
from odeopt.spectra import seen_from

RESULTS = Path(__file__).parent / "results" / "large_kernel.md"
STAGES = ("kernel", "product", "Lanczos", "curves", "test kernel", "test curves", "total")
CLOCKS = ("s", "processor s")
HEADER = " | ".join(
    [
        "n",
        "test points",
        "storage",
        "products by",
        "steps",
        *(f"{each} {clock}" for clock in CLOCKS for each in STAGES),
        "peak GB",
    ]
)


def clustered(n, d=784, clusters=10, seed=0):
    """Rows near one of ten centres, at unit norm; targets are the labels with noise, of unit scale."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, d))
    labels = rng.integers(0, clusters, n)
    x = centres[labels] + 0.7 * rng.standard_normal((n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = labels + rng.standard_normal(n)  # without noise the leading eigenvectors would be the whole error
    y -= y.mean()
    return x, y / y.std()


def methods(measure):
    """Methods tuned on the spectrum that the error sees, the modes of three of their ODEs, and iterations."""
    high = measure.interval[1]
    low = max(measure.lam_min, 1e-6 * high)
    types = (GradientDescent, HeavyBall, NesterovConstant, TripleMomentum)
    rules = [*(tune(rule_type, low, high) for rule_type in types), Nesterov(1 / high, 3)]
    k = np.unique(np.geomspace(1, 2000, 100).astype(int))
    limits = [ode_limit(rule) for rule in (rules[0], rules[1], rules[-1])]
    modes = [(mode_solution(error_dynamics(limit)), k * float(limit.time_step)) for limit in limits]
    return rules, modes, k


def curves(measure):
    """Discrete and continuous loss curves of all methods, and the steps of each rule to 1 %."""
    rules, modes, k = methods(measure)
    found = [loss_curve(each, measure, grid) for each, grid in [*((rule, k) for rule in rules), *modes]]
    return found, [str(steps_to(rule, measure, 0.01 * measure.mass / 2, max_steps=2000)) for rule in rules]


def on_points(measure, seen, y):
    """Predictions of the same methods on test points: the estimated truncation, and what is best where."""
    rules, modes, k = methods(measure)
    found = [predict(each, measure, seen, grid) for each, grid in [*((rule, k) for rule in rules), *modes]]
    for curve in found:
        i, loss = curve.best(y), curve.loss(y) / (0.5 * y @ y)
        say(
            f"{curve.source}: best at k = {k[i]}, test loss {loss[i]:.4f} of that of the prediction 0; "
            f"Lanczos leaves out about {curve.error.max():.1g}"
        )
    return found


class Stages:
    """Seconds of one stage after the other, on the wall and of the processor."""

    def __init__(self):
        self.found, self._last = {}, self._now()

    def _now(self):
        return time.perf_counter(), time.process_time()

    def end(self, name):
        now = self._now()
        self.found[name] = [now[0] - self._last[0], now[1] - self._last[1]]
        self._last = now


def measure_one(n, steps=200, storage="float32", engine="auto", state=None, test=0):
    """Seconds of each stage, peak memory of the process, and how the kernel was kept and multiplied."""
    x, y = clustered(n + test)
    (x, points), (y, values) = np.split(x, [n]), np.split(y, [n])
    stages = Stages()
    kernel = relu_gram_operator(x, storage=storage, engine=engine, num_vectors=steps)
    stages.end("kernel")
    say(f"{kernel.plan}")
    kernel @ y
    stages.end("product")
    measure = spectral_measure(kernel, -y, num_matvecs=steps, state=state)
    stages.end("Lanczos")
    _, reached = curves(measure)
    stages.end("curves")
    if test:
        seen = seen_from(measure, relu_cross_operator(points, x))
        stages.end("test kernel")
        on_points(measure, seen, values)
        stages.end("test curves")
    say(
        f"interval {measure.interval}, smallest Ritz value {measure.lam_min:.4g}, storage error at most "
        f"{kernel.storage_error:.2g}, steps to 1 % {reached}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kilobytes on Linux
    return {"storage": kernel.plan.storage, "engine": kernel.engine, "stages": stages.found, "peak GB": peak}


def row_of(n, steps, found, test=0):
    """A line of the table: seconds on the wall, then those of the processor."""
    stages, parts = found["stages"], []
    for clock in (0, 1):
        parts += [f"{stages[each][clock]:.2f}" if each in stages else "" for each in STAGES[:-1]]
        parts.append(f"{sum(seconds[clock] for seconds in stages.values()):.2f}")
    cells = [n, test, found["storage"], found["engine"], steps, *parts, f"{found['peak GB']:.1f}"]
    return " | ".join(map(str, cells))


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("n", type=int, nargs="+")
    parser.add_argument("--test", type=int, default=0, help="number of test points")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--storage", default="float32")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--state", default=None)
    options = parser.parse_args()
    for n in options.n:
        found = measure_one(n, options.steps, options.storage, options.engine, options.state, options.test)
        row = row_of(n, options.steps, found, options.test)
        say(f"{HEADER}\n{row}")
        write_rows(RESULTS, HEADER, [row])


if __name__ == "__main__":
    main()
