"""The kernel of the same data by numpy and by torch on the CPU: seconds to build it, and of a product.

The ratios are written to ``benchmarks/results/gram.md``. numpy works in as many threads as there are cores,
at most OMP_NUM_THREADS; what numba compiles is in ``bench_products.py``. Nothing is asserted of the ratios:
on a CPU torch is about as fast as numpy, and is there for devices that numpy does not reach.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from large_kernel import clustered
from tables import write_rows

from odeopt import relu_gram_operator

pytestmark = pytest.mark.slow
N, ROUNDS = 10_000, 3
PRODUCTS = 7


def seconds(device, x, y):
    start = time.perf_counter()
    engine = "auto" if device else "numpy"
    operator = relu_gram_operator(x, device=device, engine=engine, storage="float32")
    built = time.perf_counter() - start
    product = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        result = operator @ y
        product.append(time.perf_counter() - start)
    return built, statistics.median(product), result


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_beside_numpy(threads):
    x, y = clustered(N)
    before, times = torch.get_num_threads(), {None: [], "cpu": []}
    torch.set_num_threads(threads)
    try:
        for _ in range(ROUNDS):  # in turn, so that a busy moment of the machine meets both
            results = []
            for device, found in times.items():
                *both, result = seconds(device, x, y)
                found.append(both)
                results.append(result)
    finally:
        torch.set_num_threads(before)
    # entries that round apart in float32, 2^-24 each
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6 * np.abs(results[0]).max())
    numpy, ours = (np.median(found, axis=0) for found in times.values())
    rows = [
        f"{part}, n = {N} | {threads} | {ratio:.2f}"
        for part, ratio in zip(("building", "a product"), numpy / ours, strict=True)
    ]
    path = Path(__file__).parent / "results" / "gram.md"
    write_rows(path, "numpy / torch, in one run | threads of torch | ratio", rows, keys=2)
