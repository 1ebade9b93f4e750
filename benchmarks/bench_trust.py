"""How far to trust a prediction is known before training, at a fraction of its cost.

Processor seconds of :func:`odeopt.nets.trust_estimate` and of the training that it foretells, in turn on one
thread, medians of three: 60 digits, 500 steps of gradient descent at a quarter of the stability limit of
Nesterov's method. The estimate checks the network and makes its kernel anew. Written to
``benchmarks/results/trust.md``.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from predicted_training import digits, rules
from tables import write_rows
from threadpoolctl import threadpool_limits

from odeopt.nets import ConvReLU, DeepReLU, TwoLayerReLU, empirical_operator, train, trust_estimate

pytestmark = pytest.mark.slow
STEPS, ROUNDS = 500, 3
HEADER = "network | estimate / training, processor time | estimate s | training s"
NETWORKS = {
    "two-layer, first layer, 4096": lambda: TwoLayerReLU(64, 4096),
    "MLP, 2 hidden layers, 1024": lambda: DeepReLU(64, 1024, 2),
    "CNN, 2 convolutions, 32": lambda: ConvReLU(8, 32),
}


def processor(action, *arguments):
    start = time.process_time()
    action(*arguments)
    return time.process_time() - start


@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_costs_at_most_a_fifth_of_the_training(name):
    make, problem = NETWORKS[name], digits()
    rule = rules(*np.linalg.eigvalsh(empirical_operator(make(), problem.x).gram())[[0, -1]])["GD"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # BLAS under numpy too: a thread that waits counts as processor time
            pairs = [
                [
                    processor(call, make(), rule, problem.x, problem.y, STEPS)
                    for call in (trust_estimate, train)
                ]
                for _ in range(ROUNDS)
            ]
    finally:
        torch.set_num_threads(before)
    estimate, training = (statistics.median(each) for each in zip(*pairs, strict=True))
    row = f"{name} | {estimate / training:.3f} | {estimate:.2f} | {training:.2f}"
    write_rows(Path(__file__).parent / "results" / "trust.md", HEADER, [row])
    assert estimate < 0.2 * training
