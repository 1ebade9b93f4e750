"""Against neural-tangents: kernels of finite networks with the same weights, an MLP and a CNN.

    python benchmarks/peer_empirical.py

Needs the extra ``peers`` in an environment of its own, see ``peers.py``. Both run in this one process, in
turn, on one thread each, in float64 and compiled where they compile; theirs is the fastest of :data:`WAYS`:
structured derivatives were that on the MLP, where all of its implementations were tried. Ours makes the
operator anew, with all checks of the module. Seconds are those of the processor, the median of five. Kept in
``benchmarks/results/neural_tangents_empirical.md``.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from peers import jax, nt, stax
from sklearn.datasets import load_digits
from tables import write_rows
from torch import nn

from odeopt.nets import empirical_operator

RESULTS = Path(__file__).parent / "results" / "neural_tangents_empirical.md"
HEADER = (
    "network | outputs | n | largest gap | theirs / ours, processor time | implementation | theirs s | ours s"
)
WAYS = ("STRUCTURED_DERIVATIVES",)
WIDTH, CHANNELS = 512, 32


def networks(outputs):
    """Of each their layers and ours."""
    plain = {"parameterization": "standard", "b_std": 0.1}
    same = {"padding": "SAME", **plain}
    dense = (stax.Dense(WIDTH, **plain), stax.Relu())
    conv = (stax.Conv(CHANNELS, (3, 3), **same), stax.Relu())
    yield (
        "MLP 3x512",
        stax.serial(*(3 * dense), stax.Dense(outputs, **plain)),
        [
            nn.Linear(64, WIDTH),
            nn.ReLU(),
            *(2 * [nn.Linear(WIDTH, WIDTH), nn.ReLU()]),
            nn.Linear(WIDTH, outputs),
        ],
        (64,),
    )
    yield (
        "CNN 2x32, pooled",
        stax.serial(*(2 * conv), stax.GlobalAvgPool(), stax.Dense(outputs, **plain)),
        [
            nn.Conv2d(1, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, outputs),
        ],
        (8, 8, 1),
    )  # fmt: skip


def with_weights(layers, params):
    """A module of ours of their weights, each layer of its own."""
    layers = [
        type(layer)(layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else layer
        for layer in layers
    ]
    module = nn.Sequential(*layers).double()
    held = (pair for pair in params if len(pair))
    for layer in module:
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        weight, bias = (np.array(each) for each in next(held))
        order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.transpose(order)))
            layer.bias.copy_(torch.from_numpy(bias.reshape(-1)))
    return module


def seconds(function):
    start = time.process_time()
    jax.block_until_ready(function())
    return time.process_time() - start


def compare(name, outputs, theirs, layers, shape, x):
    init, apply, _ = theirs
    pictures = x.reshape(-1, *shape)
    _, params = init(jax.random.PRNGKey(0), pictures.shape)
    module = with_weights(layers, params)
    inputs = np.moveaxis(pictures, -1, 1) if len(shape) == 3 else pictures

    def ours():
        return empirical_operator(module, inputs, dense=False).gram()

    gram, best = ours(), None
    for way in WAYS:
        kernel = jax.jit(
            nt.empirical_ntk_fn(apply, trace_axes=(), vmap_axes=0, implementation=nt.NtkImplementation[way])
        )

        def function(kernel=kernel):
            return kernel(pictures, None, params)

        found = np.asarray(function()).transpose(0, 2, 1, 3).reshape(gram.shape)
        gap = np.abs(found - gram).max() / gram.max()
        assert gap < 1e-12
        taken = statistics.median(seconds(function) for _ in range(5))
        if best is None or taken < best[0]:
            best = taken, way.lower().replace("_", " "), gap
    own = statistics.median(seconds(ours) for _ in range(5))
    cells = f"{best[2]:.0e} | {best[0] / own:.1f} | {best[1]} | {best[0]:.3f} | {own:.3f}"
    return f"{name} | {outputs} | {len(x)} | {cells}"


def main():
    torch.set_num_threads(1)
    for n in (128, 256):
        for name, *rest in networks(1):
            row = compare(name, 1, *rest, load_digits().data[:n] / 16)
            write_rows(RESULTS, HEADER, [row], keys=3)
            sys.stdout.write(f"{HEADER}\n{row}\n")


if __name__ == "__main__":
    main()
