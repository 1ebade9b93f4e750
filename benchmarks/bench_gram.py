"""Kernels of data by numpy and by torch on the CPU, and kernels of modules by three routes.

Of data: seconds to build it, and of a product, in ``benchmarks/results/gram.md``. numpy works in as many
threads as there are cores, at most OMP_NUM_THREADS; what numba compiles is in ``bench_products.py``. Nothing
is asserted of the ratios: on a CPU torch is about as fast as numpy, and is there for devices that numpy does
not reach.

Of modules: processor seconds on one thread of the operator, which is checked by passes of the module that for
one output give the parts of the matrix too, of ``gram()`` by layers after it, and of both. Beside them those
of a step of training, a forward and a backward pass of all examples, of which the checks cannot do without
one; of ``gram()`` by a backward pass for each row, without the operator; and of ``vmap(jacrev)`` of
``torch.func`` with the product of its rows, which checks nothing and has 64 examples at a time. Where rows
are of fewer examples their seconds are multiplied to n, less than all would take; the errors are those of all
their entries, relative to the largest, against the rows of plain autograd. Written to
``benchmarks/results/module_gram.md``.
"""

import statistics
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from large_kernel import clustered
from tables import write_rows
from torch import nn
from torch.func import functional_call, jacrev, vmap

from odeopt import relu_gram_operator
from odeopt.nets import empirical_operator
from odeopt.nets.kernels import matrix

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


def mlp(outputs):
    layers = [nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, outputs)).double()


def cnn(outputs):
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    head = nn.Flatten(), nn.Linear(2048, outputs)
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, *head).double()


def functional(module, x):
    weights = {name: p.detach() for name, p in module.named_parameters()}

    def output(weights, example):
        return functional_call(module, weights, (example[None],))[0]

    gram = 0.0
    for part in vmap(jacrev(output), (None, 0), chunk_size=64)(weights, x).values():
        rows = part.reshape(len(x) * part.shape[1], -1)
        gram = gram + rows @ rows.T
    return gram.numpy()


def processor(action):
    start = time.process_time()
    result = action()
    return time.process_time() - start, result


def by_rows(module, x):
    """Seconds and value of ``gram()`` where no layer is seen, without the checks before it."""
    kernel = empirical_operator(module, x, dense=False)
    with mock.patch.object(matrix, "_by_layers", matrix._by_examples):
        return processor(kernel.gram)


CASES = [  # and on how many examples the rows are taken, which on all of the last would be minutes and 6 GB
    ("CNN", cnn, 1, 256, 256, 7),
    ("MLP 3x512", mlp, 1, 256, 256, 3),
    ("CNN", cnn, 10, 256, 256, 1),
    ("MLP 3x512", mlp, 10, 128, 32, 1),
]
HEADER = (
    "module | outputs | n | checked operator s | by layers s | both s | a step s | of rows n | by rows s | "
    "vmap(jacrev) s | rows / both | vmap / both | error by layers | error by vmap"
)


@pytest.mark.parametrize(("name", "make", "outputs", "n", "few", "rounds"), CASES)
def test_kernel_of_a_module_by_layers_by_rows_and_by_vmap(name, make, outputs, n, few, rounds):
    torch.manual_seed(0)
    module, x = make(outputs), torch.randn(n, 64, dtype=torch.float64)
    before, found = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):  # in turn, so that a busy moment of the machine meets all
            kernel = None
            checks, kernel = processor(lambda: empirical_operator(module, x, dense=False))
            layers, gram = processor(kernel.gram)
            step, _ = processor(lambda: module(x).sum().backward())
            vmapped, other = processor(lambda: functional(module, x[:few]))
            rows, exact = by_rows(module, x[:few])
            found.append((checks, layers, checks + layers, step, rows * n / few, vmapped * n / few))
    finally:
        torch.set_num_threads(before)
    checks, ours, both, step, rows, theirs = (statistics.median(times) for times in zip(*found, strict=True))
    size = len(exact)
    gap, gap_theirs = (np.abs(f[:size, :size] - exact).max() / np.abs(exact).max() for f in (gram, other))
    row = (
        f"{name} | {outputs} | {n} | {checks:.3f} | {ours:.3f} | {both:.3f} | {step:.3f} | {few} | "
        f"{rows:.2f} | {theirs:.2f} | {rows / both:.1f} | {theirs / both:.1f} | {gap:.1e} | {gap_theirs:.1e}"
    )
    write_rows(Path(__file__).parent / "results" / "module_gram.md", HEADER, [row], keys=3)
    assert gap < 1e-13  # sums over at most a million weights, in another order
    assert ours < theirs
