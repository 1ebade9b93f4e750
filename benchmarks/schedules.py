"""Trained networks against their predictions under learning-rate schedules, beside a constant rate.

    python benchmarks/schedules.py            # some minutes on two cores
    python benchmarks/schedules.py --quick    # small sizes, nothing is kept

The prediction is the discrete recursion of the rule on the network's own kernel H(0), made before training;
what is told is the largest distance of the losses over the run, relative to the initial loss. Full batch,
float64, digits. The peak is a quarter of the stability limit of the constant rate. The table is kept in
``benchmarks/results/schedules.md``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tables import write_rows

from odeopt import GradientDescent, HeavyBall, data, loss_curve, max_learning_rate, spectral_measure
from odeopt.nets import DeepReLU, TwoLayerReLU, empirical_operator, train
from odeopt.rules import Cosine, InverseSqrt, Linear, Step, Warmup, WarmupStableDecay

RESULTS = Path(__file__).parent / "results" / "schedules.md"
HEADER = "network | rule | schedule | last loss / first | deviation | of constant rate"


def schedules(peak, steps):
    """The rate of each name, of one peak."""
    return {
        "constant": peak,
        "linear": Linear(peak, steps),
        "warm-up, cosine": Warmup(steps // 20) * Cosine(peak, steps),
        "inverse root": InverseSqrt(peak, steps // 10),
        "warm-up, stable, decay": WarmupStableDecay(peak, steps, steps // 10, steps // 5),
        "steps": Step(peak, (steps // 2, 3 * steps // 4), factor=0.5),
    }


def deviation(make, rule, sample, steps):
    """Largest distance of trained and predicted loss, and the last trained loss, relative to the first."""
    net = make()
    operator = empirical_operator(net, sample.x)
    k = np.unique(np.linspace(0, steps, 201).astype(int))
    run = train(net, rule, sample.x, sample.y, steps, record_at=k, allow_unstable=True)
    predicted = loss_curve(rule, spectral_measure(operator.gram(), run.errors[0]), k, bounds=False).loss
    return float(np.abs(run.loss - predicted).max() / run.loss[0]), float(run.loss[-1] / run.loss[0])


def study(networks, n, steps):
    """Rows of the table."""
    sample, rows = data.prepare(*data.load_digits(n)), []
    for name, make in networks.items():
        lam_max = float(np.linalg.eigvalsh(empirical_operator(make(), sample.x).gram())[-1])
        for method, rule in (
            ("gradient descent", GradientDescent(1.0)),
            ("heavy ball 0.9", HeavyBall(1.0, 0.9)),
        ):
            peak = 0.25 * max_learning_rate(GradientDescent(1.0), lam_max)
            reference = None
            for label, lr in schedules(peak, steps).items():
                size, last = deviation(make, rule.replace(lr=lr), sample, steps)
                reference = size if reference is None else reference
                rows.append(f"{name} | {method} | {label} | {last:.1e} | {size:.1e} | {size / reference:.2f}")
                sys.stderr.write(rows[-1] + "\n")
    return rows


def main():
    """Run the study and keep its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    width, deep, n, steps = (256, 32, 20, 100) if quick else (16384, 512, 60, 300)
    networks = {
        f"two-layer, m = {width}, n = {n}": lambda: TwoLayerReLU(64, width),
        f"MLP, 2 hidden layers of {deep}, n = {n}": lambda: DeepReLU(64, deep, 2),
    }
    rows = study(networks, n, steps)
    if not quick:
        write_rows(RESULTS, HEADER, rows, keys=3)


if __name__ == "__main__":
    main()
