"""A product with a stored kernel beside the time in which its entries are read, by each engine.

All are taken in turn in one run, the least of some rounds. A busy machine stretches the seconds on the wall,
and the processor time of all threads little: both stand in ``benchmarks/results/products.md``, with the
largest error of some entries, relative to the largest of the product, against sums in extended precision.
"""

import copy
import dataclasses
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from large_kernel import clustered
from tables import write_rows

from odeopt import relu_gram_operator
from odeopt.kernels.products import share_by
from odeopt.kernels.threads import allowed_threads, in_order

pytestmark = pytest.mark.slow
N, ROUNDS, VECTORS = 20_000, 7, (1, 2, 4, 8)
RESULTS = Path(__file__).parent / "results" / "products.md"
HEADER = "product | vectors | ms a vector | / read | processor ms a vector | / read | error"


@numba.njit(nogil=True, fastmath={"reassoc"})
def total(entries):
    """Read everything once, at eight places at a time: nothing else was found to be faster."""
    part = entries.size // 8
    a, b = entries[:part], entries[part : 2 * part]
    c, d = entries[2 * part : 3 * part], entries[3 * part : 4 * part]
    e, f = entries[4 * part : 5 * part], entries[5 * part : 6 * part]
    g, h = entries[6 * part : 7 * part], entries[7 * part : 8 * part]
    s = t = u = v = np.float32(0)
    for j in range(part):
        s += a[j] + b[j]
        t += c[j] + d[j]
        u += e[j] + f[j]
        v += g[j] + h[j]
    return s + t + u + v


def in_turn(actions, rounds=ROUNDS):
    """Least seconds on the wall and of the processor of each action."""
    found = {name: [] for name in actions}
    for action in actions.values():
        action()
    for _ in range(rounds):
        for name, action in actions.items():
            wall, processor = time.perf_counter(), time.process_time()
            action()
            found[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: tuple(map(min, zip(*times, strict=True))) for name, times in found.items()}


def largest_error(operator, vector, count=40):
    """Of `count` entries of a product, whose rows are put together from the panels."""
    rows, panels = operator.plan.rows, operator._panels
    result, gap = operator @ vector, 0.0
    for i in np.random.default_rng(2).choice(N, count, replace=False):
        k = int(i) // rows
        above = [panel[:, i - start * rows] for start, panel in enumerate(panels[:k])]
        row = np.concatenate([*above, panels[k][i - k * rows]])
        gap = max(gap, abs(float((row.astype(np.longdouble) * vector).sum() - result[i])))
    return gap / np.abs(result).max()


def with_engine(operator, engine, threads):
    """The same kernel, multiplied by another engine and as many threads."""
    other = copy.copy(operator)
    other.plan, other._share = (
        dataclasses.replace(operator.plan, threads=threads),
        share_by(engine, "float32")[0],
    )
    return other


def test_products_beside_the_read():
    x, _ = clustered(N, d=64)
    kernel, threads = relu_gram_operator(x, storage="float32", engine="numba"), allowed_threads()
    workers = f"{threads} thread{'s' * (threads > 1)}"
    by_numba, by_numpy = f"numba, {workers}", f"numpy, {workers}"
    kernels = {by_numba: kernel, by_numpy: with_engine(kernel, "numpy", threads)}
    vectors = np.random.default_rng(1).standard_normal((N, max(VECTORS)))

    def read():
        return list(
            in_order(lambda chunk: [total(kernel._panels[k].ravel()) for k in chunk], kernel._chunks, threads)
        )

    actions = {("read", 1): read}
    for name, each in kernels.items():
        for count in VECTORS:
            actions[name, count] = lambda each=each, count=count: each @ vectors[:, :count]
    times, rows = in_turn(actions), []
    for (name, count), found in times.items():
        error = f"{largest_error(kernels[name], vectors[:, 0]):.0e}" if name in kernels and count == 1 else ""
        parts = (
            f"{1e3 * t / count:.1f} | {t / count / whole:.2f}"
            for t, whole in zip(found, times["read", 1], strict=True)
        )
        rows.append(f"{name} | {count} | {' | '.join(parts)} | {error}")
    RESULTS.unlink(missing_ok=True)  # ratios are to the read of the same run
    write_rows(RESULTS, HEADER, rows, keys=2)
    # the processor's: seconds on the wall are those of the machine's other work, too
    assert times[by_numba, 1][1] <= 1.5 * times["read", 1][1]
    assert times[by_numba, 1][1] <= 0.6 * times[by_numpy, 1][1]
