"""Predicted against trained on data that were not trained on: test loss, test predictions, where to stop.

    python benchmarks/test_curves.py           # some ten minutes of processor time
    python benchmarks/test_curves.py --quick   # small sizes, half a minute, nothing is kept

Made before training: the discrete linear recursion of the method on the network's own kernels at the start,
H(0) of the examples and H_*(0) between test points and examples, from the network's own outputs there. Every
run goes on until this prediction has brought the training loss down by a factor of 100, an MLP or CNN for no
more than --longest steps. The tables are kept in ``benchmarks/results/test_curves.md``.
"""

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from predicted_training import (
    NETWORKS,
    deviation,
    keep,
    mean_and_scatter,
    percent,
    rules,
    say,
    slope_and_error,
    steps_needed,
    table,
)

from odeopt import data, loss_curve, predict, spectral_measure
from odeopt.kernels.inputs import unit_rows
from odeopt.nets import TwoLayerReLU, empirical_operator, train

RESULTS = Path(__file__).parent / "results" / "test_curves.md"
FALL = 100
LARGE = {"MLP, 3 hidden layers": (512, 2048), "CNN, 2 convolutions": (32, 128)}
FIGURES = {  # of one run: title of a column to its key
    "test loss, max dL / L_0": "test",
    "max dL / L_k": "test_now",
    "test predictions, max distance / error at 0": "predictions",
    "training loss, max dL / L_0": "training",
}

HEAD = """# Test loss, predicted and trained

Made by `python benchmarks/test_curves.py`. {n} of scikit-learn's digits are trained on and {p} others are the
test points; images less the mean of those trained on, at unit norm; labels scaled by those trained on; loss
L = |u - y|^2 / 2; full batch; float64; networks of the NTK parametrisation. Predicted: the discrete linear
recursion of the method on the network's own kernels at the start, known before training. One learning rate
for the three methods, a quarter of NAG's stability limit; HB at b = 4 sqrt(lambda_min); NAG with r = 3. Each
figure is the largest over a run in which the predicted training loss falls by 100: the distance of the
trained test loss from the predicted one, relative to that of the start or of the same step; the distance of
the vectors of test predictions, relative to the error at the start; and the distance of the training losses.
Means over seeds (and, after ±, the standard deviation between seeds).
"""
NETWORK_TEXT = """## Networks

Best step: where the test loss of the run is smallest, predicted before training and found by it; loss there:
that test loss of the trained network at the predicted and at its own best step, relative to the start.
"""
CLASS_TEXT = """## Ten classes

Two-layer network of ten outputs, both layers trained, {seeds} seeds of its own for each width; the same
digits, one-hot targets and squared loss, {longest} steps at most; H(0) of all outputs together. Accuracy on
the test points at the end of the run, and the share of them that prediction and network put into one class.
"""
WIDTH_TEXT = """## Widths

Two-layer network, {seeds} seeds of its own for each width. Slopes of the logarithm of the seed means, with
the standard error that the scatter between seeds gives. The theory bounds the drift by the order -1/2, which
the training loss has where the first layer is trained; test predictions come nearer faster, as does the drift
of the kernel itself (-0.66 to -0.69, predicted_training.md).
"""


@dataclass(frozen=True)
class Split:
    """Examples and test points, prepared alike."""

    x: np.ndarray
    y: np.ndarray
    points: np.ndarray
    values: np.ndarray


def digits(n, p):
    """Digits drawn at random: n examples, and p others less their mean and scaled as they are."""
    x, y = data.load_digits(n + p, seed=0)
    x = x - x[:n].mean(axis=0)
    prepared = data.prepare(x[:n], y[:n])
    values = (y[n:] - prepared.target_mean) / prepared.target_scale
    return Split(prepared.x, prepared.y, unit_rows(x[n:])[0], values)


def classes(n, p):
    """The same with one-hot targets."""
    plain, (_, labels) = digits(n, p), data.load_digits(n + p, seed=0)
    targets, _ = data.one_hot(labels.astype(int))
    return replace(plain, y=targets[:n], values=targets[n:])


def runs_of(make, problem, longest):
    """Figures of GD, HB and NAG for one network, which is made anew for each."""
    operator, cross = (empirical_operator(make(), *x) for x in ((problem.x,), (problem.points, problem.x)))
    kernel = operator.gram()
    measure = spectral_measure(kernel, operator.predictions - problem.y.reshape(-1))
    found = {}
    for method, rule in rules(*np.linalg.eigvalsh(kernel)[[0, -1]]).items():
        steps = min(longest, steps_needed(rule, measure, FALL))
        run = train(make(), rule, problem.x, problem.y, steps, points=problem.points, allow_unstable=True)
        start = cross.predictions.reshape(problem.values.shape)
        curve = predict(rule, measure, cross.gram(), run.k, start=start)
        found[method] = figures(run, curve, loss_curve(rule, measure, run.k).loss, problem.values)
    return found


def figures(run, curve, training, values):
    """Deviations of one run from its prediction, and where both say that it should have been stopped."""
    loss, best = run.points.loss(values), [each.best(values) for each in (curve, run.points)]
    test, now = deviation(loss, curve.loss(values), np.inf)
    gaps = np.linalg.norm((run.points.u - curve.u).reshape(len(run.k), -1), axis=1)
    found = {
        "steps": float(run.k[-1]),
        "test": test,
        "test_now": now,
        "predictions": gaps.max() / np.linalg.norm(run.points.u[0] - values),
        "training": deviation(run.loss, training, np.inf)[0],
        "best": run.k[best],
        "there": loss[best] / loss[0],
    }
    if values.ndim == 2:
        labels, (ours, its) = values.argmax(1), (each.u[-1].argmax(1) for each in (curve, run.points))
        found["accuracy"] = np.array([(ours == labels).mean(), (its == labels).mean(), (ours == its).mean()])
    return found


def network_rows(problem, chosen):
    rows = []
    for name, make in NETWORKS.items():
        sizes, seeds, longest = (
            (LARGE[name], 1, chosen.longest) if name in LARGE else ((4096, 16384), 2, 20_000)
        )
        for size in [size // 16 for size in sizes] if chosen.quick else sizes:
            begin = time.process_time()
            runs = [runs_of(partial(make, size, seed), problem, longest) for seed in range(seeds)]
            say(f"{name} {size}: {time.process_time() - begin:.0f} s of processor time")
            rows += [
                network_row(f"{name}, {size}", method, [run[method] for run in runs]) for method in runs[0]
            ]
    return rows


def network_row(name, method, runs):
    mean = {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}
    shown = [percent(mean[key]) if key == "test_now" else f"{mean[key]:.5f}" for key in FIGURES.values()]
    steps, loss = (" / ".join(f"{value:.3g}" for value in mean[key]) for key in ("best", "there"))
    return [name, method, str(len(runs)), f"{mean['steps']:.0f}", *shown, steps, loss]


def class_rows(problem, widths, seeds, longest):
    rows = []
    for width in widths:
        make = partial(TwoLayerReLU, 64, width, layers="both", outputs=10)
        runs = [runs_of(partial(make, seed=width + seed), problem, longest) for seed in range(seeds)]
        for method in runs[0]:
            mine = [run[method] for run in runs]
            correct = " / ".join(
                percent(value) for value in np.mean([run["accuracy"] for run in mine], axis=0)
            )
            rows.append([*network_row(f"m = {width}", method, mine), correct])
        say(f"ten classes, width {width} done")
    return rows


def width_rows(problem, widths, seeds):
    """Slopes for the two-layer networks; seeds are a width's own: nets of one seed share their first rows."""
    rows = []
    for name, make in list(NETWORKS.items())[:2]:
        found = {}
        for i, width in enumerate(widths):
            for seed in range(seeds):
                runs = runs_of(partial(make, width, width + seed), problem, 20_000)
                for method, run in runs.items():
                    for title, key in FIGURES.items():
                        values = found.setdefault((method, title), np.zeros((len(widths), seeds)))
                        values[i, seed] = run[key]
            say(f"{name}, width {width} done")
        for (method, title), values in found.items():
            slope, error = slope_and_error(widths, values)
            cells = [f"{m:.2g} ± {s:.1g}" for m, s in zip(*mean_and_scatter(values), strict=True)]
            rows.append([name, method, title, f"{slope:.3f} ± {error:.3f}", *cells])
    return rows


NETWORK_TITLES = ("network", "method", "seeds", "steps", *FIGURES)
NETWORK_TITLES += ("best step predicted / trained", "loss there")


def network_section(chosen):
    return (
        NETWORK_TEXT
        + "\n"
        + table(NETWORK_TITLES, network_rows(digits(chosen.examples, chosen.test), chosen))
    )


def width_section(chosen):
    widths, seeds = ([64, 256], 2) if chosen.quick else (chosen.widths, chosen.seeds)
    titles = ("network", "method", "measured", "slope", *(f"m = {m}" for m in widths))
    rows = width_rows(digits(chosen.examples, chosen.test), widths, seeds)
    return WIDTH_TEXT.format(seeds=seeds) + "\n" + table(titles, rows)


def class_section(chosen):
    widths, seeds = ([64, 256], 2) if chosen.quick else ([1024, 4096, 16384], 2)
    titles = (*NETWORK_TITLES, "accuracy predicted / trained / agreement")
    rows = class_rows(classes(chosen.examples, chosen.test), widths, seeds, chosen.longest)
    return CLASS_TEXT.format(seeds=seeds, longest=chosen.longest) + "\n" + table(titles, rows)


SECTIONS = {"networks": network_section, "widths": width_section, "classes": class_section}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 1024, 4096, 16384])
    parser.add_argument("--seeds", type=int, default=4, help="of the widths")
    parser.add_argument("--longest", type=int, default=200, help="steps of an MLP or CNN, and of ten classes")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    head = HEAD.format(n=chosen.examples, p=chosen.test)
    for name in chosen.sections:
        section = SECTIONS[name](chosen)
        if chosen.quick:
            say(section)
        else:
            keep(RESULTS, section, head, (NETWORK_TEXT, WIDTH_TEXT, CLASS_TEXT))


if __name__ == "__main__":
    main()
