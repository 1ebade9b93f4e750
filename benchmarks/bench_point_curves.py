"""Curves on digits that are not trained on: 100 Lanczos steps against eigh, accuracy and ratios of times.

1200 digits are trained on and 597 predicted, 3000 steps of three methods. All routes run in turn, in one
process from the kernels to the curves: Lanczos, the package's exact measure, and numpy's ``eigh`` with the
products that are needed and nothing else, no bound on what rounds and no check. Ratios are medians over the
turns, of processor time (and by the clock). Kept in ``benchmarks/results/point_curves.md``.
"""

import statistics
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tables import write_rows
from threadpoolctl import threadpool_limits

from odeopt import GradientDescent, HeavyBall, Nesterov, predict, relu_gram, spectral_measure
from odeopt.rules.displacement import displacement_polynomials
from odeopt.spectra import seen_from

pytestmark = pytest.mark.slow
RESULTS = Path(__file__).parent / "results" / "point_curves.md"
HEADER = (
    "outputs | Lanczos steps | BLAS threads | method | largest error | estimate | eigh / Lanczos (clock) | "
    "bare eigh / Lanczos (clock)"
)
TURNS = 5
GRID = np.unique(np.geomspace(1, 3000, 60).astype(int))


@pytest.fixture(scope="module")
def problem():
    digits = load_digits()
    x = digits.data / np.linalg.norm(digits.data, axis=1, keepdims=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1200], order[1200:]
    kernel, cross = relu_gram(x[train]), relu_gram(x[test], x[train])
    return kernel, cross, digits.target[train], digits.target[test]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("outputs", "steps", "block"), [(1, 100, False), (1, 150, False), (10, 100, False), (10, 42, True)]
)
def test_lanczos_predicts_what_eigh_predicts(problem, outputs, steps, block, threads):
    kernel, cross, train, test = problem
    errors = -np.eye(10)[train] if outputs == 10 else 1.0 - 2.0 * (train % 2)
    lr = 1 / float(np.linalg.eigvalsh(kernel)[-1])
    rules = {"GD": GradientDescent(lr), "HB": HeavyBall(lr, 0.9), "NAG": Nesterov(lr)}

    def route(num_matvecs):
        options = {"num_matvecs": num_matvecs, "block": block} if num_matvecs else {}
        measure = spectral_measure(kernel, errors, **options)
        seen = seen_from(measure, cross)
        return {name: predict(rule, measure, seen, GRID) for name, rule in rules.items()}

    def bare():
        values, vectors = np.linalg.eigh(kernel)
        along, images = (vectors.T @ errors).reshape(len(values), -1), (cross @ vectors).T
        factors = [displacement_polynomials(rule, values, GRID)[2] for rule in rules.values()]
        return [(factor * a) @ images for factor, a in product(factors, along.T)]

    with threadpool_limits(threads):
        curves = {m: route(m) for m in (steps, None)}
        ratios = ratios_of(lambda: route(steps), lambda: route(None), bare)
    shown = " | ".join(f"{processor:.1f} ({clock:.1f})" for processor, clock in ratios)
    rows, kind = [], f"{outputs} | {steps}{' of a block' * block} | {threads}"
    for name, found in curves[steps].items():
        exact = curves[None][name]
        error = np.abs(found.u - exact.u).reshape(len(GRID), -1).max(axis=1)
        # NAG's curve at k steps needs the kernel down to eigenvalues of 1/k^2: 100 steps see it for 2000
        early = GRID <= (2000 if name == "NAG" and steps == 100 else GRID[-1])
        assert error[early].max() < 1e-8
        rows.append(
            f"{kind} | {name} to k = {GRID[early][-1]} | {error[early].max():.0e} | "
            f"{found.error[early].max():.0e} | {shown}"
        )
        if outputs == 10:
            np.testing.assert_array_equal(found.u.argmax(axis=2), exact.u.argmax(axis=2))
            np.testing.assert_array_equal(found.accuracy(test), exact.accuracy(test))
    write_rows(RESULTS, HEADER, rows, keys=4)
    if threads == 1:  # two threads of BLAS gain eigh little, and the small products of Lanczos nothing
        assert ratios[0][0] >= (3 if outputs == 1 else 2.5 if block else 2)


def ratios_of(*routes):
    """How many times as long as the first route each other one takes, by the processor (and by the clock)."""
    taken = []
    for _ in range(TURNS):
        ends = []
        for route in routes:
            start = time.process_time(), time.perf_counter()
            route()
            ends.append((time.process_time() - start[0], time.perf_counter() - start[1]))
        taken.append([[other / first for other, first in zip(end, ends[0], strict=True)] for end in ends[1:]])
    return [
        tuple(statistics.median(column) for column in zip(*turns, strict=True))
        for turns in zip(*taken, strict=True)
    ]
