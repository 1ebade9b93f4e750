"""Data-set scale: kernel, one Lanczos run and the curves of all methods, for growing n.

    python benchmarks/large_kernel.py 5000 20000            # about half a minute on two idle cores
    python benchmarks/large_kernel.py 60000                 # some three minutes and 9 GB

Prints, and keeps in ``benchmarks/results/large_kernel.md``, the seconds of each part, on the wall and of the
processor, over all threads, and the peak memory of the process. The data are synthetic: ten clusters in
dimension 784, with spread within each.
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
    relu_gram_operator,
    spectral_measure,
    tune,
)
from odeopt.rates import steps_to
from odeopt.rules import HeavyBall, NesterovConstant, TripleMomentum

RESULTS = Path(__file__).parent / "results" / "large_kernel.md"
STAGES = ("kernel", "product", "Lanczos", "curves", "total")
CLOCKS = ("s", "processor s")
HEADER = " | ".join(
    [
        "n",
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


def curves(measure):
    """Discrete and continuous curves of all methods, tuned on the spectrum that the error sees."""
    high = measure.interval[1]
    low = max(measure.lam_min, 1e-6 * high)
    types = (GradientDescent, HeavyBall, NesterovConstant, TripleMomentum)
    rules = [*(tune(rule_type, low, high) for rule_type in types), Nesterov(1 / high, 3)]
    k = np.unique(np.geomspace(1, 2000, 100).astype(int))
    found = [loss_curve(rule, measure, k) for rule in rules]
    for rule in (rules[0], rules[1], rules[-1]):
        limit = ode_limit(rule)
        found.append(loss_curve(mode_solution(error_dynamics(limit)), measure, k * float(limit.time_step)))
    return found, [str(steps_to(rule, measure, 0.01 * measure.mass / 2, max_steps=2000)) for rule in rules]


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


def measure_one(n, steps=200, storage="float32", engine="auto", state=None):
    """Seconds of each stage, peak memory of the process, and how the kernel was kept and multiplied."""
    x, y = clustered(n)
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
    say(
        f"interval {measure.interval}, smallest Ritz value {measure.lam_min:.4g}, storage error at most "
        f"{kernel.storage_error:.2g}, steps to 1 % {reached}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kilobytes on Linux
    return {"storage": kernel.plan.storage, "engine": kernel.engine, "stages": stages.found, "peak GB": peak}


def row_of(n, steps, found):
    """A line of the table: seconds on the wall, then those of the processor."""
    parts = []
    for clock in (0, 1):
        seconds = [each[clock] for each in found["stages"].values()]
        parts += [*seconds, sum(seconds)]
    shown = " | ".join(f"{seconds:.2f}" for seconds in parts)
    return f"{n} | {found['storage']} | {found['engine']} | {steps} | {shown} | {found['peak GB']:.1f}"


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("n", type=int, nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--storage", default="float32")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--state", default=None)
    options = parser.parse_args()
    for n in options.n:
        found = measure_one(n, options.steps, options.storage, options.engine, options.state)
        row = row_of(n, options.steps, found)
        say(f"{HEADER}\n{row}")
        write_rows(RESULTS, HEADER, [row])


if __name__ == "__main__":
    main()
