"""A GPU beside float64 on the CPU: values, and rates beside those of the card itself.

    python benchmarks/gpu.py --out gpu.json                       # some three minutes on an H100
    python benchmarks/gpu.py --device cpu --quick --out cpu.json  # the same stages, small
    python benchmarks/gpu.py --table gpu.json                     # writes benchmarks/results/gpu.md

Each stage is printed and kept as it ends; one that fails is kept with its error, and the others go on.
"""

import argparse
import gc
import json
import statistics
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from gpu_networks import modules, off, several_outputs, training, widths
from large_kernel import clustered, curves

from odeopt import (
    GradientDescent,
    HeavyBall,
    Nesterov,
    loss_curve,
    relu_gram,
    relu_gram_operator,
    spectral_measure,
)
from odeopt.kernels.device import device_plan

RESULTS = Path(__file__).parent / "results" / "gpu.md"
STEPS = 200


class Card:
    """The device, its sizes of the stages, and its clock."""

    def __init__(self, name, quick):
        self.name, self.quick = name, quick
        self.is_gpu = torch.device(name).type == "cuda"
        self.steps = 20 if quick else STEPS
        self.read = self.gemm = None

    def wait(self):
        if self.is_gpu:
            torch.cuda.synchronize()

    def seconds(self, action, rounds=5, each=10):
        """Median over rounds of the mean of calls in a row, so that launches overlap with work."""
        rounds, each = (2, 1) if self.quick else (rounds, each)
        action()
        self.wait()
        found = []
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(each):
                action()
            self.wait()
            found.append((time.perf_counter() - start) / each)
        return statistics.median(found)

    def once(self, action):
        self.wait()
        start = time.perf_counter()
        result = action()
        self.wait()
        return time.perf_counter() - start, result

    def free(self):
        if self.is_gpu:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def ceilings(card):
    """What the card reads in a second, and how fast it multiplies matrices of float64."""
    size, n = (2**20, 256) if card.quick else (2**31, 8192)
    buffer = torch.rand(size, device=card.name)
    seconds = min(card.seconds(buffer.sum), card.seconds(buffer.max))
    card.read = 4 * size / seconds
    a, b = torch.rand(2, n, n, dtype=torch.float64, device=card.name)
    card.gemm = 2 * n**3 / card.seconds(lambda: a @ b)
    about = {"card": "cpu", "torch": torch.__version__, "numpy": np.__version__}
    if card.is_gpu:
        about |= {"card": torch.cuda.get_device_name(), "memory": torch.cuda.mem_get_info()[1]}
    return about | {"read GB/s": card.read / 1e9, "float64 GEMM TFLOP/s": card.gemm / 1e12}


def kernels(card):
    """Entries against the closed form in numpy, and products against extended precision."""
    n = 60 if card.quick else 3000
    x, y = clustered(n, 20)
    found = {}
    for layers, depth in (("first", 1), ("both", 1), ("both", 3)):
        operator = relu_gram_operator(x, device=card.name, storage="float64", layers=layers, depth=depth)
        exact = relu_gram(x, layers=layers, depth=depth)
        found[f"entries, {layers}, depth {depth}"] = off(operator @ np.eye(n), exact)
    for storage in ("float32", "float64"):
        operator = relu_gram_operator(x, device=card.name, storage=storage)
        stored = (operator @ np.eye(n)).astype(np.longdouble)
        found[f"product, {storage}"] = off(operator @ y, (stored * y).sum(axis=1))
        several = np.random.default_rng(0).standard_normal((n, 8))
        found[f"product of 8 vectors, {storage}"] = off(operator @ several, stored @ several)
        found[f"engine, {storage}"] = operator.engine
    return found


def loss_curves(card):
    """Curves by Lanczos on the device against those of numpy, relative to the loss of the step."""
    x, y = clustered(60, 20) if card.quick else clustered(5000)
    found = {}
    measures = [
        spectral_measure(relu_gram_operator(x, device=device, storage="float64"), -y, num_matvecs=card.steps)
        for device in (card.name, None)
    ]
    high = measures[1].interval[1]
    for rule in (GradientDescent(1 / high), HeavyBall(1 / high, 0.9), Nesterov(1 / high, 3)):
        ours, theirs = (loss_curve(rule, measure, range(card.steps + 1)).loss for measure in measures)
        found[type(rule).__name__] = float(np.abs(ours / theirs - 1).max())
    return found


def stored_row(operator, i):
    """Row i of the matrix that is stored, from the panels that hold it."""
    rows = operator.plan.rows
    above = [panel[:, i - k * rows] for k, panel in enumerate(operator._panels[: i // rows])]
    return torch.cat([*above, operator._panels[i // rows][i % rows]]).cpu().numpy()


def data_scale(card, n, d=784):
    """Building, products, 200 steps of Lanczos and all curves at one size."""
    x, y = clustered(n, d)
    card.free()
    built, operator = card.once(lambda: relu_gram_operator(x, device=card.name, storage="float32"))
    result = operator @ y
    some = np.random.default_rng(0).choice(n, min(n, 24), replace=False)
    exact = [(stored_row(operator, i).astype(np.longdouble) * y).sum() for i in some]
    found = {"n": n, "engine": operator.engine, "plan": str(operator.plan), "rows": operator.plan.rows}
    found["product, relative"] = float(np.abs(result[some] - np.array(exact)).max() / np.abs(result).max())
    vector = torch.from_numpy(y).to(card.name)
    on_device = operator._product_there if operator.engine == "triton" else None
    seconds = card.seconds((lambda: on_device(vector)) if on_device else (lambda: operator @ y))
    read = 2 * n * (n + 1)  # bytes of half a matrix of float32
    work = d * n * (n + operator.plan.rows)  # of the products of matrices in building
    panels, _ = card.once(lambda: [operator._compute(i)[1] for i in operator._indices()])
    found |= {
        "build s": built, "panels s": panels, "panels TFLOP/s": work / panels / 1e12,
        "product s": seconds, "product GB/s": read / seconds / 1e9, "of read": read / seconds / card.read,
        "product s, with transfers": card.seconds(lambda: operator @ y),
    }  # fmt: skip
    if card.is_gpu:
        found["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
    found["Lanczos s"], measure = card.once(lambda: spectral_measure(operator, -y, num_matvecs=card.steps))
    if not card.quick:
        found["curves s"], _ = card.once(lambda: curves(measure))
    found["total s"] = built + found["Lanczos s"] + found.get("curves s", 0.0)
    return found


def largest(card):
    """The same at the largest n whose half fits in float32, in thousands."""
    if card.quick:
        return data_scale(card, 170, 30)
    card.free()
    low, high = 1, 1000  # thousands
    while high - low > 1:
        middle = (low + high) // 2
        try:
            device_plan(1000 * middle, 784, device=card.name, storage="float32", num_vectors=card.steps)
            low = middle
        except ValueError:
            high = middle
    return data_scale(card, 1000 * low)


def tiles(card):
    """Other tiles, warps and stages of the compiled product: GB/s of each."""
    n, d = (60, 30) if card.quick else (60_000, 784)
    x, y = clustered(n, d)
    operator = relu_gram_operator(x, device=card.name, storage="float32")
    if operator.engine != "triton":
        return {"engine": operator.engine}
    from odeopt.kernels import fused

    found, vector = {}, torch.from_numpy(y).to(card.name)
    shipped = fused.WIDTH, fused.WARPS, fused.STAGES
    for each in (shipped, (32, 8, 4), (32, 8, 2), (32, 8, 1), (32, 4, 4), (64, 8, 3), (64, 16, 3)):
        fused.WIDTH, fused.WARPS, fused.STAGES = each
        seconds = card.seconds(lambda: operator._product_there(vector))
        found[str(each)] = 2 * n * (n + 1) / seconds / 1e9
    fused.WIDTH, fused.WARPS, fused.STAGES = shipped
    operator._fused = None
    found["torch instead"] = 2 * n * (n + 1) / card.seconds(lambda: operator @ y, 2, 2) / 1e9
    return found


def recomputed(card):
    """A product whose entries are computed anew, for what fits no memory."""
    n, d = (60, 30) if card.quick else (60_000, 784)
    x, y = clustered(n, d)
    operator = relu_gram_operator(x, device=card.name, storage="recompute")
    return {"n": n, "product s": card.seconds(lambda: operator @ y, 2, 2)}


def stages(card):
    sizes = (90, 120) if card.quick else (20_000, 60_000)
    d = 30 if card.quick else 784
    yield "ceilings", ceilings
    yield "kernels", kernels
    for n in sizes:
        yield f"n = {n}", lambda card, n=n: data_scale(card, n, d)
    yield "tiles", tiles
    yield "largest", largest
    yield "loss curves", loss_curves
    yield "training", training
    yield "recomputed", recomputed
    yield "several outputs", several_outputs
    yield "widths", widths
    yield "modules", modules


def run(device, quick=False, out=None, only=()):
    """Run the stages; return what each found, or its error."""
    card, results = Card(device, quick), {}
    for name, stage in stages(card):
        if only and name not in ("ceilings", *only):
            continue
        start = time.perf_counter()
        try:
            found = stage(card)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is kept and the others go on
            found = {"error": f"{type(error).__name__}: {error}", "where": traceback.format_exc()[-2000:]}
        card.free()
        results[name] = found | {"stage s": round(time.perf_counter() - start, 2)}
        sys.stdout.write(f"{name}: {json.dumps(results[name])}\n")
        sys.stdout.flush()
        if out:
            Path(out).write_text(json.dumps(results, indent=1))
    return results


def table(results):
    """The figures as Markdown: sizes, then differences from float64 on the CPU."""
    card = results["ceilings"]
    lines = [
        f"{card['card']}, torch {card['torch']}: reads {card['read GB/s']:.0f} GB/s, multiplies matrices of "
        f"float64 at {card['float64 GEMM TFLOP/s']:.1f} TFLOP/s.",
        "",
        "| n | by | build s | panels s | TFLOP/s | product ms | GB/s | of read | error | Lanczos s | all s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['n']:,} | {row['engine']} | {row['build s']:.2f} | {row['panels s']:.3f} | "
        f"{row['panels TFLOP/s']:.1f} | {1e3 * row['product s']:.3f} | {row['product GB/s']:.0f} | "
        f"{row['of read']:.2f} | {row['product, relative']:.1e} | {row['Lanczos s']:.2f} | "
        f"{row['total s']:.2f} |"
        for row in results.values()
        if "build s" in row
    ]
    lines += ["", "| difference from float64 on the CPU | relative |", "|---|---|"]
    for stage in ("kernels", "loss curves", "modules", "training", "several outputs"):
        found = results.get(stage, {"error": "not run"})
        shown = {k: v for k, v in found.items() if isinstance(v, float) and "s" not in k.split()}
        lines += [f"| {stage}: {k} | {v:.1e} |" for k, v in shown.items()]
        lines += [f"| {stage} | {found['error']} |"] if "error" in found else []
    return "\n".join(lines + width_lines(results.get("widths", {"error": "not run"}))) + "\n"


def width_lines(found):
    """How far trained networks are from their prediction, by width: means over the seeds."""
    if "error" in found:
        return ["", f"Widths: {found['error']}."]
    sizes = found["widths"]
    methods = {name: value for name, value in found.items() if isinstance(value, dict)}
    lines = [
        "",
        "Two-layer networks trained on the device, 60 digits less their mean image: largest distance of the",
        "trained loss from the recursion on the network's own H(0) while it falls by 100, relative to L_0;",
        f"means over {len(next(iter(methods.values()))['gaps'][0])} seeds.",
        "",
        "| method | log-log slope | " + " | ".join(f"{m:,}" for m in sizes) + " |",
        "|---|---|" + "---|" * len(sizes),
    ]
    for name, value in methods.items():
        means = " | ".join(f"{np.mean(gaps):.1e}" for gaps in value["gaps"])
        lines.append(f"| {name} | {value['slope'][0]:.3f} ± {value['slope'][1]:.3f} | {means} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--out")
    parser.add_argument("--table")
    options = parser.parse_args()
    if options.table:
        RESULTS.write_text(table(json.loads(Path(options.table).read_text())))
        return
    run(options.device, options.quick, options.out, options.only)


if __name__ == "__main__":
    main()
