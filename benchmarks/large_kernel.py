"""Data-set scale: kernel, one Lanczos run and the curves of all methods, for growing n.

    python benchmarks/large_kernel.py 5000 20000            # about two minutes on two cores
    python benchmarks/large_kernel.py 60000                 # up to 12 minutes and 18 GB

Prints, and keeps in ``benchmarks/results/large_kernel.md``, the seconds of each part and the peak memory of
the process. The data are synthetic: ten clusters in dimension 784, with spread within each.
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
HEADER = "n | storage | steps | kernel s | product s | Lanczos s | curves s | total s | peak GB"


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


def measure_one(n, steps, storage, state):
    x, y = clustered(n)
    begin = time.perf_counter()
    kernel = relu_gram_operator(x, storage=storage, num_vectors=steps)
    built = time.perf_counter()
    say(f"{kernel.plan}")
    kernel @ y
    once = time.perf_counter()
    measure = spectral_measure(kernel, -y, num_matvecs=steps, state=state)
    found = time.perf_counter()
    _, reached = curves(measure)
    done = time.perf_counter()
    say(
        f"interval {measure.interval}, smallest Ritz value {measure.lam_min:.4g}, storage error at most "
        f"{kernel.storage_error:.2g}, steps to 1 % {reached}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # kilobytes on Linux
    times = (built - begin, once - built, found - once, done - found, done - begin)
    shown = " | ".join(f"{seconds:.2f}" for seconds in times)
    return f"{n} | {kernel.plan.storage} | {steps} | {shown} | {peak:.1f}"


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("n", type=int, nargs="+")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--storage", default="float32")
    parser.add_argument("--state", default=None)
    options = parser.parse_args()
    for n in options.n:
        row = measure_one(n, options.steps, options.storage, options.state)
        say(f"{HEADER}\n{row}")
        write_rows(RESULTS, HEADER, [row])


if __name__ == "__main__":
    main()
