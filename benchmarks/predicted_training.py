"""Predicted against trained loss of networks: how far apart, why, and how that falls with the width.

    python benchmarks/predicted_training.py                    # the whole study, some 15 minutes on two cores
    python benchmarks/predicted_training.py --quick            # small sizes, one minute, nothing is kept
    python benchmarks/predicted_training.py --data mnist.npz   # the causes on other data as well

The prediction is made before training: the discrete linear recursion of the method on the network's own
kernel H(0). Each run goes on for the number of steps that this prediction needs to bring the loss down by
the largest fall that is asked for, and a quarter more, but an MLP or CNN for no more than --longest steps.
Full batch, float64, networks of the NTK parametrisation. The tables are kept in
``benchmarks/results/predicted_training.md``.
"""

import argparse
import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    data,
    loss_curve,
    max_learning_rate,
    relu_gram,
    spectral_measure,
)
from odeopt.nets import (
    ConvReLU,
    DeepReLU,
    TwoLayerReLU,
    empirical_gram,
    empirical_operator,
    error_budget,
    train,
    trust_estimate,
)
from odeopt.rates import steps_to

RESULTS = Path(__file__).parent / "results" / "predicted_training.md"
FALLS = (100, 10_000)
MOST = 20_000  # steps of any run
MARGIN = 1.25  # narrow networks train more slowly than predicted
PARTS = ("drift and flips", "beyond the high-resolution ODE", "step-size correction", "finite width")

# What each network is, from its size: of the two-layer ones and the MLP the width, of the CNN the channels.
NETWORKS = {
    "two-layer, first layer": lambda size, seed: TwoLayerReLU(64, size, seed=seed),
    "two-layer, both layers": lambda size, seed: TwoLayerReLU(64, size, layers="both", seed=seed),
    "MLP, 3 hidden layers": lambda size, seed: DeepReLU(64, size, 3, seed=seed),
    "CNN, 2 convolutions": lambda size, seed: ConvReLU(8, size, seed=seed),
}


@dataclass(frozen=True)
class Problem:
    """Inputs of unit norm and targets; `zero_output` shifts the targets so that Delta_0 = -y for any net."""

    x: np.ndarray
    y: np.ndarray
    zero_output: bool = False

    @property
    def d(self):
        return self.x.shape[1]

    def targets(self, net):
        """Targets of one network; its outputs are read from the operator of a few examples at a time."""
        if not self.zero_output:
            return self.y
        return self.y + empirical_operator(net, self.x, dense=False).predictions


def digits(n=60, *, seed=None, centred=True, file=None):
    """Digits at unit norm, by default less their mean image; targets of mean 0 and unit variance."""
    x, y = data.load_digits(n, seed=seed) if file is None else data.load_npz(file)
    if file is not None:
        rows = np.random.default_rng(0).permutation(len(x))[:n]
        x, y = x[rows], y[rows]
    prepared = data.prepare(x - x.mean(axis=0) if centred else x, y)
    return Problem(prepared.x, prepared.y)


def rules(lam_min, lam_max, fraction=0.25, damping=2.0):
    """GD, HB at a multiple of the critical friction of the slowest mode, and NAG, at one learning rate."""
    lr = fraction * max_learning_rate(Nesterov(0.01), lam_max)
    return {
        "GD": GradientDescent(lr),
        "HB": HeavyBall.with_friction(lr, 2 * damping * lam_min**0.5),
        "NAG": Nesterov(lr, r=3),
    }


def steps_needed(rule, measure, fall):
    """Steps after which the predicted loss is below 1/fall of the initial one."""
    found = steps_to(rule, measure, measure.mass / 2 / fall, max_steps=MOST)
    return MOST if found.value is None else int(np.ceil(found.value))


def deviation(loss, predicted, fall):
    """Largest distance while the trained loss falls so far: relative to the initial and the current loss."""
    below = np.flatnonzero(loss <= loss[0] / fall)
    kept = slice(int(below[0]) + 1 if below.size else loss.size)
    gap = np.abs(loss - predicted)[kept]
    return float(gap.max() / loss[0]), float((gap / loss[kept]).max())


def trained(net, rule, problem, kernel, fall, longest=MOST):
    """Run and its prediction, for the steps predicted for the fall and some more."""
    y = problem.targets(net)
    start = empirical_operator(net, problem.x, dense=False).predictions
    measure = spectral_measure(kernel, start - y)
    steps = int(MARGIN * steps_needed(rule, measure, fall)) + 5
    run = train(net, rule, problem.x, y, min(longest, steps))
    return run, loss_curve(rule, measure, run.k).loss


# ---- the networks ------------------------------------------------------------------------------------


def network_rows(name, size, seeds, problem, longest):
    """Rows of the table of networks: one for each method, means over the seeds."""
    make = NETWORKS[name]
    found = {}
    for seed in range(seeds):
        operator = empirical_operator(make(size, seed), problem.x)
        kernel = operator.gram()
        lam = np.linalg.eigvalsh(kernel)[[0, -1]]
        for method, rule in rules(*lam).items():
            begin = time.perf_counter()
            found.setdefault(method, []).append(
                one_network(make(size, seed), rule, problem, operator, longest)
            )
            say(f"{name} {size}, seed {seed}, {method}: {time.perf_counter() - begin:.0f} s")
    return [network_row(f"{name}, {size}", method, runs) for method, runs in found.items()]


def one_network(net, rule, problem, operator, longest):
    """Figures of one run."""
    run, predicted = trained(net, rule, problem, operator.gram(), FALLS[-1], longest)
    measure = spectral_measure(operator.gram(), run.errors[0])
    figures = {
        "needed": [steps_needed(rule, measure, fall) for fall in FALLS],
        "reached": [first_below(run, fall) for fall in FALLS],
        "fall": float(run.loss[0] / run.loss.min()),
        "deviation": [deviation(run.loss, predicted, fall) for fall in FALLS],
    }
    budget = error_budget(run, operator, net=net, x=problem.x).until(FALLS[0])
    return figures | {"parts": {row["part"]: row["initial"] for row in budget.rows()}}


def first_below(run, fall):
    below = run.k[run.loss <= run.loss[0] / fall]
    return float(below[0]) if below.size else np.inf


def network_row(name, method, runs):
    def mean(*path):
        values = runs
        for key in path:
            values = [value[key] for value in values]
        return float(np.mean(values))

    cells = [name, method, str(len(runs)), f"{min(run['fall'] for run in runs):.3g}"]
    for i in range(len(FALLS)):
        needed, reached = mean("needed", i), mean("reached", i)
        if np.isfinite(reached):
            cells += [f"{needed:.0f} / {reached:.0f}"]
            cells += [f"{mean('deviation', i, 0):.5f}", percent(mean("deviation", i, 1))]
        else:
            cells += [f"{needed:.0f} / not run to the end", "", ""]
    cells += [shown(mean("parts", part)) if part in runs[0]["parts"] else "" for part in PARTS]
    return cells


# ---- the widths --------------------------------------------------------------------------------------


def of_width(problem, width, seed):
    """Two-layer network with a seed of the width's own: nets of one seed share their first rows."""
    return TwoLayerReLU(problem.d, width, seed=width + seed)


def width_study(widths, seeds, problem):
    """Deviations, shape (widths, seeds), by method and kind; kernels at the start and at the end."""
    limit = relu_gram(problem.x)
    lam = np.linalg.eigvalsh(limit)[[0, -1]]
    kinds = [f"{kind}, fall {fall:,}" for fall in FALLS for kind in ("/ L_0", "/ L_k")]
    found = {}
    for i, width in enumerate(widths):
        for seed in range(seeds):
            for method, rule in rules(*lam).items():
                net = of_width(problem, width, seed)
                run, predicted = trained(net, rule, problem, empirical_gram(net, problem.x), FALLS[-1])
                values = [value for fall in FALLS for value in deviation(run.loss, predicted, fall)]
                drift = np.linalg.norm(empirical_gram(net, problem.x) - run.initial_kernel, 2)
                for kind, value in zip(
                    [*kinds, "drift of the kernel"], [*values, drift / lam[1]], strict=True
                ):
                    found.setdefault((method, kind), np.zeros((len(widths), seeds)))[i, seed] = value
            gap = np.linalg.norm(run.initial_kernel - limit, 2) / lam[1]
            found.setdefault(("", "H(0) - H_inf"), np.zeros((len(widths), seeds)))[i, seed] = gap
        say(f"width {width} done")
    return found


def slope_and_error(widths, values):
    """Log-log slope of the seed means, and its standard error from the scatter between seeds."""
    x, mean = np.log(widths), values.mean(axis=1)
    slope = np.polyfit(x, np.log(mean), 1)[0]
    variation = np.sqrt(np.mean(values.var(axis=1, ddof=1) / mean**2))
    return float(slope), float(variation / np.sqrt(values.shape[1] * np.sum((x - x.mean()) ** 2)))


def width_rows(widths, found):
    rows = []
    for (method, kind), values in found.items():
        slope, error = slope_and_error(widths, values)
        cells = [
            f"{mean:.2g} ± {scatter:.1g}" for mean, scatter in zip(*mean_and_scatter(values), strict=True)
        ]
        rows.append([method, kind, f"{slope:.3f} ± {error:.3f}", *cells])
    return rows


def mean_and_scatter(values):
    return values.mean(axis=1), values.std(axis=1, ddof=1)


# ---- the causes --------------------------------------------------------------------------------------


def causes(file=None):
    """Settings that differ from the study's in one point: title to problem and options of the rules."""
    base = digits()
    zero = dataclasses.replace(base, zero_output=True)
    found = {
        "the study's setting": (base, {}),
        "learning rate / 4": (base, {"fraction": 0.25 / 4}),
        "HB at the critical friction": (base, {"damping": 1.0}),
        "60 other digits": (digits(seed=1), {}),
        "outputs 0 at the start": (zero, {}),
        "outputs 0, targets / 2": (dataclasses.replace(zero, y=base.y / 2), {}),
        "outputs 0, targets / 4": (dataclasses.replace(zero, y=base.y / 4), {}),
        "mean image kept": (digits(centred=False), {}),
        "mean image kept, targets / 2": (_halved(digits(centred=False)), {}),
        "mean image kept, 60 other digits": (digits(seed=1, centred=False), {}),
    }
    if file is not None:
        found[f"{file.stem}, mean image kept"] = (digits(file=file, centred=False), {})
        found[f"{file.stem}"] = (digits(file=file), {})
    return found


def _halved(problem):
    return dataclasses.replace(problem, y=problem.y / 2)


def cause_row(title, problem, how, width, seeds):
    """Deviations over a fall of 100 for one setting, and what the kernel says about it before training."""
    lam = np.linalg.eigvalsh(relu_gram(problem.x))[[0, -1]]
    named = rules(*lam, **how)
    found, travel, estimates = {method: [] for method in named}, [], []
    for seed in range(seeds):
        for method, rule in named.items():
            net = TwoLayerReLU(problem.d, width, seed=seed)
            kernel = empirical_gram(net, problem.x)
            if method == "GD":
                estimates.append(estimated(net, rule, problem, kernel))
            run, predicted = trained(net, rule, problem, kernel, FALLS[0])
            found[method].append(deviation(run.loss, predicted, FALLS[0]))
        error = run.errors[0]
        travel.append(np.sqrt(error @ np.linalg.solve(run.initial_kernel, error)))
    say(f"{title} done")
    cells = [title, f"{lam[0]:.3f}", f"{lam[1]:.2f}", f"{np.mean(travel):.1f}", f"{np.mean(estimates):.5f}"]
    for values in found.values():
        first, second = np.transpose(values)
        cells += [f"{first.mean():.5f} ± {first.std(ddof=1):.5f}", percent(second.mean())]
    return cells


def estimated(net, rule, problem, kernel):
    """Deviation that the kernels along the linear path foretell, without training."""
    y = problem.targets(net)
    start = empirical_operator(net, problem.x, dense=False).predictions
    needed = steps_needed(rule, spectral_measure(kernel, start - y), FALLS[0])
    estimate = trust_estimate(net, rule, problem.x, y, needed)
    return np.abs(estimate.corrected_loss - estimate.linear_loss).max() / estimate.linear_loss[0]


# ---- the report --------------------------------------------------------------------------------------

NETWORK_TITLES = (
    "network",
    "method",
    "seeds",
    "fall reached",
    "fall 100: steps predicted / trained",
    "max dL / L_0",
    "max dL / L_k",
    "fall 10,000: steps predicted / trained",
    "max dL / L_0",
    "max dL / L_k",
    *PARTS,
)
CAUSE_TITLES = ("setting", "lambda_min", "lambda_max", "travel", "GD estimated")
CAUSE_TITLES += ("GD / L_0", "GD / L_k", "HB / L_0", "HB / L_k", "NAG / L_0", "NAG / L_k")

HEAD = """# Predicted and trained loss

Made by `python benchmarks/predicted_training.py`. 60 of scikit-learn's digits, less their mean image, at
unit norm; labels scaled to mean 0 and variance 1; loss L = |u - y|^2 / 2; full batch; float64. All networks
in the NTK parametrisation. Predicted: the discrete linear recursion of the method on the network's own H(0),
known before training. One learning rate for the three methods, a quarter of NAG's stability limit; HB at
twice the critical friction, b = 4 sqrt(lambda_min); NAG with r = 3. dL is the largest distance of the trained
loss from the predicted one until the trained loss has fallen by the factor named, relative to the initial
loss L_0 or to the trained loss L_k of the same step. Figures are measured, means over seeds (and, after ±,
the standard deviation between seeds).
"""
NETWORK_TEXT = """## Networks

Steps are predicted before training and counted after it. The last columns are the parts of the error budget
over the fall by 100, each the largest over the steps, relative to L_0: they split the distance to the ODE of
the infinite network, of which the first is the distance to the prediction. Where H_inf has no closed form the
chain ends before the finite width.
"""
WIDTH_TEXT = """## Widths

Two-layer network, first layer trained, {seeds} seeds of its own for each width; the same learning rate and
friction at all widths, from H_inf. Slopes of the logarithm of the seed means, with the standard error that
the scatter between seeds gives. Kernels in spectral norm, relative to the one of H_inf; drift at the end of
the run.
"""
CAUSE_TEXT = """## What the deviation depends on

Two-layer network of width {width}, first layer trained, {seeds} seeds, over the fall by 100; one change at a
time. Travel is the distance |w - w_0| = (Delta_0' H(0)^-1 Delta_0)^(1/2) that the linear prediction lets the
weights go until the loss is 0. Estimated: the deviation of GD that the kernels along the linear path foretell
before training (`odeopt.nets.trust_estimate`), relative to L_0.

Weights travel in proportion to Delta_0, and the deviation goes with them: half the targets, half the
deviation relative to L_0. The learning rate does not matter. The data do, most of all: where the inputs share
a large mean, lambda_min is smaller, and the loss is still large when the weights have gone far. Rows named
after a file (`--data`) take 60 of its examples at random.
"""


def table(titles, rows):
    return "\n".join("| " + " | ".join(row) + " |" for row in (titles, ["---"] * len(titles), *rows))


def percent(value):
    return f"{100 * value:.1f} %"


def shown(value):
    return f"{value:.2g}"


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[2**p for p in range(8, 15)])
    parser.add_argument("--seeds", type=int, default=5, help="of the width study")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--longest", type=int, default=300, help="steps of an MLP or CNN")
    parser.add_argument("--data", type=Path, help=".npz file with x and y, for two more rows of causes")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="where the tables go")
    return parser.parse_args()


def sizes(chosen):
    """Sizes of the networks, widths and seeds of the width study, and width of the causes."""
    if chosen.quick:
        return {"MLP, 3 hidden layers": [128], "CNN, 2 convolutions": [8]}, [256, 1024], 2, 256
    return {"MLP, 3 hidden layers": [2048], "CNN, 2 convolutions": [128]}, chosen.widths, chosen.seeds, 4096


def network_section(chosen):
    large, _, _, width = sizes(chosen)
    rows = []
    for name in chosen.networks:
        seeds, longest = (1, chosen.longest) if name in large else (2, MOST)
        for size in large.get(name, [width, 4 * width]):
            rows += network_rows(name, size, seeds, digits(), longest)
    return NETWORK_TEXT + "\n" + table(NETWORK_TITLES, rows)


def width_section(chosen):
    _, widths, seeds, _ = sizes(chosen)
    rows = width_rows(widths, width_study(widths, seeds, digits()))
    titles = ("method", "measured", "slope", *(f"m = {m}" for m in widths))
    return WIDTH_TEXT.format(seeds=seeds) + "\n" + table(titles, rows)


def cause_section(chosen):
    _, _, seeds, width = sizes(chosen)
    rows = [cause_row(title, *setting, width, seeds) for title, setting in causes(chosen.data).items()]
    return CAUSE_TEXT.format(width=width, seeds=seeds) + "\n" + table(CAUSE_TITLES, rows)


SECTIONS = {"networks": network_section, "widths": width_section, "causes": cause_section}


def keep(path, section, head=HEAD, texts=(NETWORK_TEXT, WIDTH_TEXT, CAUSE_TEXT)):
    """Put a section in its place in the file; the others stay."""
    path.parent.mkdir(exist_ok=True)
    _, *held = path.read_text().split("\n## ") if path.exists() else [""]
    titles = {"## " + text.split("\n")[0]: "## " + text.strip() for text in held}
    titles[section.split("\n")[0]] = section.strip()
    order = [text.split("\n")[0] for text in texts]
    parts = [head.strip(), *(titles[title] for title in order if title in titles)]
    path.write_text("\n\n".join(parts) + "\n")


def main():
    chosen = options()
    out = chosen.out or (None if chosen.quick else RESULTS)
    begin = time.perf_counter()
    for name in chosen.sections:
        section = SECTIONS[name](chosen)
        say(section)
        if out is not None:
            keep(out, section)
    say(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
