"""Trained networks against their predictions under learning-rate schedules, beside a constant rate.

    python benchmarks/schedules.py            # some minutes on two cores
    python benchmarks/schedules.py --peaks    # the best peak, against a search over trained networks
    python benchmarks/schedules.py --quick    # small sizes, nothing is kept

The prediction is the discrete recursion of the rule on the network's own kernel H(0), made before training;
what is told is the largest distance of the losses over the run, relative to the initial loss. Full batch,
float64, digits. The peak is a quarter of the stability limit of the constant rate. The table is kept in
``benchmarks/results/schedules.md``.

With ``--peaks`` the best peak of a cosine (:func:`odeopt.rates.tune_for`, on each network's own kernel at the
start) is set beside a search: the same network trained with peaks 1 % apart. The least trained loss of one
network stands anywhere on a flat, rough stretch of peaks, so that several initialisations are trained and the
geometric mean of their losses is looked at. ``benchmarks/results/peaks.md`` holds, over the peak found, the
best peak of each network and that of the mean, with all peaks whose mean loss is within 5 % of the least; the
mean loss at the peak found over the least; and the same of the mean rates, -log(loss) / steps.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from tables import write_rows

from odeopt import GradientDescent, HeavyBall, data, loss_curve, max_learning_rate, spectral_measure
from odeopt.nets import DeepReLU, TwoLayerReLU, empirical_operator, train
from odeopt.rates import run_growth, tune_for
from odeopt.rules import Cosine, InverseSqrt, Linear, Step, Warmup, WarmupStableDecay

PEAKS = Path(__file__).parent / "results" / "peaks.md"
PEAK_HEADER = (
    "network | rule | steps | growth | best of each / found | best of the mean / found | within 5 % | "
    "loss at found / best | rate at found / best"
)
RESULTS = Path(__file__).parent / "results" / "schedules.md"
# Peaks that are tried, as multiples of the one found.
FACTORS = 1 + 0.01 * np.arange(-5, 9)
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


def peak_search(rule_type, steps, sample, width, factors, seed):
    """The growth of the rule found, and the trained losses over the first of multiples of its peak."""

    def network():
        return TwoLayerReLU(sample.x.shape[1], width, seed=seed)

    operator = empirical_operator(network(), sample.x)
    start = train(network(), GradientDescent(1e-9), sample.x, sample.y, 1, record_at=[0]).errors[0]
    measure = spectral_measure(operator.gram(), start)
    found = tune_for(rule_type, measure, steps, schedule=Cosine(1.0, steps))
    options = {"record_at": [0, steps], "allow_unstable": True}
    losses = []
    for factor in factors:
        run = train(network(), found.replace(lr=found.lr * factor), sample.x, sample.y, steps, **options)
        losses.append(float(run.loss[-1] / run.loss[0]) if run.diverged_at is None else np.inf)
    return run_growth(found, measure.lam_max, num_steps=steps).value, np.array(losses)


def peak_row(label, rule_type, steps, sample, width, factors, seeds):
    """Compare the peaks that are found with a search over trained networks."""
    runs = [peak_search(rule_type, steps, sample, width, factors, seed) for seed in range(seeds)]
    growths, losses = map(np.array, zip(*runs, strict=True))
    mean = np.exp(np.log(losses).mean(axis=0))
    here, best = mean[np.argmin(np.abs(factors - 1))], mean.min()
    flat = factors[mean <= 1.05 * best]
    each = ", ".join(f"{factors[i]:.2f}" for i in np.argmin(losses, axis=1))
    return (
        f"{label} | {rule_type.__name__} | {steps} | {growths.min():.3g} to {growths.max():.3g} | {each} | "
        f"{factors[np.argmin(mean)]:.2f} | {flat.min():.2f} to {flat.max():.2f} | {here / best:.2f} | "
        f"{np.log(here) / np.log(best):.3f}"
    )


def peaks(n, width, lengths, factors, seeds):
    """Rows of the table of peaks: digits less their mean image, as in predicted_training."""
    x, y = data.load_digits(n)
    sample, rows = data.prepare(x - x.mean(axis=0), y), []
    for rule_type in (GradientDescent, HeavyBall):
        for steps in lengths:
            label = f"two-layer, m = {width}, n = {n}"
            rows.append(peak_row(label, rule_type, steps, sample, width, factors, seeds))
            sys.stderr.write(rows[-1] + "\n")
    return rows


def main():
    """Run the study and keep its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peaks", action="store_true")
    parser.add_argument("--widths", type=int, nargs="+", default=[4096, 16384], help="of --peaks")
    asked = parser.parse_args()
    quick = asked.quick
    if asked.peaks:
        lengths, factors, seeds = (
            ((20,), 1 + 0.05 * np.arange(-2, 3), 2) if quick else ((30, 100), FACTORS, 4)
        )
        for width in [256] if quick else asked.widths:
            rows = peaks(20 if quick else 60, width, lengths, factors, seeds)
            if not quick:
                write_rows(PEAKS, PEAK_HEADER, rows, keys=3)
        return
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
