"""Cross-entropy of ten classes, predicted and trained: training and test loss, and the fall with width.

    python benchmarks/cross_entropy.py            # some ten minutes on one core
    python benchmarks/cross_entropy.py --quick    # small sizes, half a minute, nothing is kept

The predictions are the method's own step on the outputs, U -> H (softmax(U) - Y), from the initial outputs of
the network: with its own kernel H(0) between examples and classes, and with the one infinite-width kernel of
all classes, whose rows of test inputs give the test curve. The tables are kept in
``benchmarks/results/cross_entropy.md``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    SoftmaxLoss,
    SquaredLoss,
    data,
    max_learning_rate,
    relu_gram,
)
from odeopt.dynamics import predict_iterates
from odeopt.nets import TwoLayerReLU, train, trust_estimate

RESULTS = Path(__file__).parent / "results" / "cross_entropy.md"
LOSS = SoftmaxLoss()
TEXT = """# Cross-entropy, predicted and trained

Made by `python benchmarks/cross_entropy.py`. {n} of scikit-learn's digits to train on and the {n} that
follow to test, less the mean training image, at unit norm; ten classes; two-layer networks of ten outputs,
first layer trained, full batch, float64, {steps} steps. One learning rate for the three methods, {share} of
NAG's stability limit at curvature 1/2; HB with momentum 0.9; NAG with r = 3. Predicted before training, from
the initial outputs. Gaps are the largest over the steps, relative to the initial loss, means over
{seeds} seeds.
"""
WIDTHS = """## Widths

Training loss from the network's own H(0) and from H_inf, test loss and test outputs from H_inf (outputs: root
mean square over test inputs and classes, relative to that of the trained outputs at the last step). Slopes
are those of the logarithms of the means against the logarithm of the width; 1/2 is the theory's.
"""
WIDTH_TITLES = (
    "method", "m", "training loss, first / last", "gap, H(0)", "gap, H_inf", "test loss, H_inf / trained",
    "gap, test", "gap, test outputs", "test accuracy, H_inf / trained",
)  # fmt: skip
REGIME = """## Where the lazy regime ends

{n} digits, m = {m}, one seed, {steps} steps of gradient descent at half of each loss's stability limit. It is
trusted until the deviation from the prediction with H(0) exceeds 10 % of the current loss: estimated before
training (`odeopt.nets.trust_estimate`) / measured. The squared loss falls exponentially, so that a small gap
soon exceeds a tenth of what is left. Cross-entropy leaves the prediction late, since it falls like 1/t only,
though its outputs go on growing and move the kernel further.
"""
REGIME_TITLES = (
    "loss", "trusted until", "loss, predicted / corrected / trained", "gap / L_0", "kernel drift, estimated",
)  # fmt: skip


def digits(n, tests):
    """Training inputs and one-hot classes, then those to test on."""
    x, labels = data.load_digits(n + tests)
    x = x - x[:n].mean(axis=0)
    x, y = x / np.linalg.norm(x, axis=1)[:, None], np.eye(10)[labels.astype(int)]
    return x[:n], y[:n], x[n:], y[n:]


def rules(kernel, share):
    lr = share * max_learning_rate(Nesterov(0.01), LOSS.smoothness * np.linalg.eigvalsh(kernel)[-1])
    return {"GD": GradientDescent(lr), "HB": HeavyBall(lr, 0.9), "NAG": Nesterov(lr, r=3)}


def gap(trained, predicted):
    return np.abs(trained - predicted).max() / trained[0]


def one_run(rule, m, seed, steps, problem):
    """The figures of one row for one seed."""
    x, y, tests, labels = problem
    net = TwoLayerReLU(64, m, outputs=10, seed=seed)
    with torch.no_grad():
        start = net(torch.from_numpy(tests)).numpy()
    run = train(net, rule, x, y, steps, objective=LOSS, points=tests)
    own = predict_iterates(rule, run.initial_kernel, LOSS, run.predictions[0], y, run.k)
    limit = predict_iterates(
        rule, relu_gram(x), LOSS, run.predictions[0], y, run.k, cross_kernel=relu_gram(tests, x), start=start
    )
    seen = run.points.loss(labels, LOSS), np.array([LOSS.value(u, labels) for u in limit.points])
    miss = np.sqrt(np.mean((run.points.u - limit.points) ** 2, axis=(1, 2))).max()
    right = [np.mean(u[-1].argmax(1) == labels.argmax(1)) for u in (run.points.u, limit.points)]
    return {
        "loss": (run.loss[0], run.loss[-1]),
        "gaps": (gap(run.loss, own.loss), gap(run.loss, limit.loss), gap(*seen)),
        "outputs": miss / np.sqrt(np.mean(run.points.u[-1] ** 2)),
        "test": (seen[1][-1], seen[0][-1]),
        "right": (right[1], right[0]),
    }


def width_section(chosen):
    problem = digits(chosen.n, chosen.n)
    rows, slopes = [], []
    for name, rule in rules(relu_gram(problem[0]), chosen.share).items():
        means = []
        for m in chosen.widths:
            runs = [one_run(rule, m, seed, chosen.steps, problem) for seed in range(chosen.seeds)]
            mean = {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}
            means.append([*mean["gaps"], mean["outputs"]])
            own, limit, test = mean["gaps"]
            rows.append((
                name, m, "{:.1f} / {:.3g}".format(*mean["loss"]), f"{own:.4f}", f"{limit:.4f}",
                "{:.2f} / {:.2f}".format(*mean["test"]), f"{test:.4f}", f"{mean['outputs']:.4f}",
                "{:.1%} / {:.1%}".format(*mean["right"]),
            ))  # fmt: skip
        found = np.polyfit(np.log(chosen.widths), np.log(means), 1)[0]
        slopes.append(
            "{}: {:.2f} (H(0)), {:.2f} (H_inf), {:.2f} (test), {:.2f} (test outputs)".format(name, *found)
        )
    return WIDTHS + "\n" + table(WIDTH_TITLES, rows) + "\n\nSlopes. " + "; ".join(slopes) + ".\n"


def regime_section(chosen):
    n, m, steps = (20, 256, 50) if chosen.quick else (60, 4096, 400)
    x, y, _, _ = digits(n, n)
    rows = []
    for name, loss in (("squared", SquaredLoss()), ("cross-entropy", LOSS)):
        rule = GradientDescent(
            0.5
            * max_learning_rate(GradientDescent(1.0), loss.smoothness * np.linalg.eigvalsh(relu_gram(x))[-1])
        )
        guess = trust_estimate(TwoLayerReLU(64, m, outputs=10), rule, x, y, steps, objective=loss)
        run = train(TwoLayerReLU(64, m, outputs=10), rule, x, y, steps, objective=loss)
        ends = guess.linear_loss[-1], guess.corrected_loss[-1], run.loss[-1]
        rows.append((
            name, f"{guess.trusted_until} / {guess.measured_until(run)}",
            "{:.3g} / {:.3g} / {:.3g}".format(*ends),
            f"{gap(run.loss, guess.linear_loss):.4f}", f"{guess.kernel_drift[-1]:.1%}",
        ))  # fmt: skip
    return REGIME.format(n=n, m=m, steps=steps) + "\n" + table(REGIME_TITLES, rows) + "\n"


def table(titles, rows):
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.25, help="of NAG's stability limit")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.widths, chosen.seeds, chosen.n, chosen.steps = [64, 256], 1, 40, 30
    head = TEXT.format(**vars(chosen))
    text = "\n".join([head, width_section(chosen), regime_section(chosen)])
    sys.stdout.write(text)
    if not chosen.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
