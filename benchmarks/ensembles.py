"""Ensembles: mean and variance over initialisations, of linearised and of trained networks, as predicted.

    python benchmarks/ensembles.py

The first layer of two-layer ReLU networks is trained by full-batch gradient descent and by heavy ball on 12
examples in 6 dimensions; 12 more points are watched. 200 networks of each width train, and the same ones
linearised, with the activations of the start frozen. Gaps of means and variances are told in their standard
errors, over all 24 inputs: the root of the mean square, near 1 where the law is the predicted one, and the
largest. Trained networks, whose activations move, leave the frozen ones by a bias that falls like m^-1/2 and
is none of the prediction: in the last columns, of the loss and of the mean (root mean square over inputs),
times m^1/2. Later steps are left out: the random kernel of a frozen network moves a variance by about k^2/m
of itself, which shows once next to nothing of it is left (step 32 of GD: the variances on the examples were
40 standard errors off at m = 2048 and 10 at m = 8192, those on the points 2.7). Kept in
``benchmarks/results/ensembles.md``.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from tables import write_rows

from odeopt import GradientDescent, HeavyBall, relu_gram, spectral_measure
from odeopt.kernels import NetworkKernel
from odeopt.nets import TwoLayerReLU, train
from odeopt.rules import iterate
from odeopt.spectra import ensemble

RESULTS = Path(__file__).parent / "results" / "ensembles.md"
HEADER = (
    "method | networks | m | k | means apart, s.e. | largest | variances apart, s.e. | largest | "
    "loss (s.e.) | predicted | m^1/2 (loss - frozen) (s.e.) | m^1/2 (mean - frozen)"
)
COUNT, STEPS, N = 200, np.array([0, 2, 4, 8]), 12
RULES = {"GD": GradientDescent(1.0), "HB": HeavyBall(0.5, 0.8)}
WIDTHS, LARGEST = (2048, 16_384), 4.0


def problem():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2 * N, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[:N], x[N:], np.sin(4 * x[:N, 0])


def predicted(rule, x, points, y):
    """Mean and variance on examples and points, and the expected loss."""
    nngp = NetworkKernel(weight_variance=(x.shape[1], 1.0), kind="nngp")
    measure = spectral_measure(relu_gram(x), -y)
    to_points = {
        "cross_kernel": relu_gram(points, x),
        "cross_nngp": nngp(points, x),
        "points_nngp": nngp.diagonal(points),
    }
    on_examples = ensemble(rule, measure, nngp(x), STEPS)
    on_points = ensemble(rule, measure, nngp(x), STEPS, **to_points)
    both = [(curve.mean, curve.variance) for curve in (on_examples, on_points)]
    mean, variance = (np.concatenate(pair, axis=1) for pair in zip(*both, strict=True))
    return mean, variance, on_examples.expected_loss(y)


def linearised(rule, net, x, points, y):
    """Predictions of the network whose activations stay those of the start."""
    w, a = net.weights.detach().numpy(), net.a.numpy() * net.output_scale
    inputs = np.concatenate([x, points])
    active = inputs @ w.T > 0
    kernel = (inputs @ x.T) * ((active * a**2) @ active[:N].T)
    start = (np.maximum(inputs @ w.T, 0) * a).sum(axis=1)
    run = iterate(rule, np.zeros(N), lambda z: kernel[:N] @ z + start[:N] - y)
    z = np.array(list(itertools.islice(run, STEPS[-1] + 1)))[STEPS]
    return start + z @ kernel.T


def trained(rule, net, x, points, y):
    run = train(net, rule, x, y, int(STEPS[-1]), record_at=STEPS, points=points)
    return np.concatenate([run.predictions, run.points.u], axis=1)


def runs_of_both(rule, width, x, points, y):
    """Predictions of the same networks, linearised and trained, shape (COUNT, len(STEPS), 2 N)."""
    both = {"frozen": [], "trained": []}
    for seed in range(COUNT):
        net = TwoLayerReLU(x.shape[1], width, seed=seed)
        for found, predictions in zip(both.values(), (linearised, trained), strict=True):
            found.append(predictions(rule, net, x, points, y))
    return {kind: np.array(found) for kind, found in both.items()}


def in_standard_errors(seen, mean, variance):
    """Gaps of means and of variances."""
    of_mean = (seen.mean(axis=0) - mean) / np.sqrt(variance / COUNT)
    return of_mean, (seen.var(axis=0, ddof=1) / variance - 1) / np.sqrt(2 / (COUNT - 1))


def cells(seen, expected, gaps, y):
    """What is told of one kind of network at one step."""
    found = []
    for gap in gaps:
        found += [f"{np.sqrt((gap**2).mean()):.2f}", f"{np.abs(gap).max():.1f}"]
    losses = loss(seen, y)
    return [*found, f"{losses.mean():.4f} ({losses.std() / np.sqrt(COUNT):.4f})", f"{expected:.4f}"]


def beyond(seen, frozen, width, y):
    """What sets trained networks off from the same ones with frozen activations, times the root of m."""
    losses, moved, root = loss(seen, y) - loss(frozen, y), (seen - frozen).mean(axis=0), np.sqrt(width)
    return [
        f"{root * losses.mean():+.3f} ({root * losses.std() / np.sqrt(COUNT):.3f})",
        f"{root * np.sqrt((moved**2).mean()):.3f}",
    ]


def loss(u, y):
    return 0.5 * ((u[:, :N] - y) ** 2).sum(axis=1)


def main():
    x, points, y = problem()
    rows = []
    for (name, rule), width in itertools.product(RULES.items(), WIDTHS):
        mean, variance, expected = predicted(rule, x, points, y)
        both = runs_of_both(rule, width, x, points, y)
        for kind, seen in both.items():
            gaps = in_standard_errors(seen, mean, variance)
            largest = max(np.abs(gap).max() for gap in gaps)
            if kind == "frozen" and largest > LARGEST:
                raise RuntimeError(f"{name}, m = {width}: frozen networks are {largest:.1f} s.e. away")
            for i, k in enumerate(STEPS):
                told = cells(seen[:, i], expected[i], [gap[i] for gap in gaps], y)
                told += ["-", "-"] if kind == "frozen" else beyond(seen[:, i], both["frozen"][:, i], width, y)
                rows.append(" | ".join([name, kind, str(width), str(k), *told]))
                sys.stdout.write(rows[-1] + "\n")
    write_rows(RESULTS, HEADER, rows, keys=4)


if __name__ == "__main__":
    main()
