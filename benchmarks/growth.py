"""How time and memory grow with n, stage by stage, and the same with the workers of a cluster.

    python benchmarks/growth.py                          # n = 1,250 to 20,000: some minutes on two cores
    python benchmarks/growth.py --large                  # n = 60,000 too: 9 GB
    python benchmarks/growth.py --sizes 1250 2500 --workers

Each size runs in a process of its own, whose peak memory is told. The seconds are those of the processor,
over all threads or workers: on p idle cores the kernel and its products take a p-th of them. The tables in
``benchmarks/results/growth.md`` end with the exponents a of fits c n^a to the upper half of the sizes, which
are below those of larger n; and with what a + b n + c n^2, fitted to all, says of larger n, and the plan of
their memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from large_kernel import clustered, measure_one, say
from scipy.optimize import nnls

from odeopt.kernels import cluster_relu_gram, memory_plan

RESULTS = Path(__file__).parent / "results" / "growth.md"
SIZES, LARGE, CLUSTERED = (1250, 2500, 5000, 10_000, 20_000), 60_000, (2500, 5000, 10_000)
COLUMNS = ("kernel", "product", "Lanczos", "curves", "peak GB")
AHEAD = (60_000, 200_000)
PRODUCTS = 5


def on_one_machine(n):
    """Processor seconds of the stages, and the peak memory in GB."""
    found = measure_one(n)
    return {name: seconds[1] for name, seconds in found["stages"].items()} | {"peak GB": found["peak GB"]}


def on_workers(n, workers):
    """The same over workers of one thread each, without Lanczos and curves, which are not theirs."""
    import distributed

    x, y = clustered(n)
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):

        def spent():
            return time.process_time() + sum(client.run(time.process_time).values())

        begin = spent()
        kernel = cluster_relu_gram(client, x)
        built = spent()
        for _ in range(PRODUCTS):
            kernel @ y
        done = spent()
        peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {
        "kernel": built - begin,
        "product": (done - built) / PRODUCTS,
        "peak GB": sum(peaks.values()) * 1024 / 1e9,
    }


def in_a_process(n, workers):
    """What one size takes, measured in a process of its own."""
    command = [sys.executable, __file__, "--one", str(n), "--workers", *map(str, workers)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def exponents(sizes, rows):
    """Of the fits c n^a to the upper half of the sizes."""
    upper = slice(len(sizes) // 2, None)
    return {
        name: np.polyfit(np.log(sizes[upper]), np.log([row[name] for row in rows[upper]]), 1)[0]
        for name in rows[0]
    }


def ahead(sizes, rows, n):
    """What a + b n + c n^2 says of n, with a, b, c >= 0 that fit all sizes in the relative sense."""
    powers = np.arange(3)
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        shares, _ = nnls(
            np.power.outer(np.array(sizes, dtype=float), powers) / values[:, None], np.ones(len(sizes))
        )
        found[name] = shares @ float(n) ** powers
    plan = memory_plan(n, 784, storage="float32", num_vectors=200, memory_limit=1e15)
    return found | {"peak GB": plan.total / 1e9}


def table(found):
    """Lines of Markdown: a table for one machine and one for each number of workers."""
    lines = [
        "Processor seconds of all threads or workers; peak memory of the processes that hold the kernel."
    ]
    for title, by_size in found.items():
        sizes, rows = list(by_size), list(by_size.values())
        names = [name for name in COLUMNS if name in rows[0]]
        lines += ["", f"## {title}", "", f"| n | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        listed = dict(zip(map("{:,}".format, sizes), rows, strict=True))
        if len(sizes) > 2:
            listed["exponent"] = exponents(sizes, rows)
            listed |= {f"{n:,}, by the fit and the plan": ahead(sizes, rows, n) for n in AHEAD}
        lines += [
            f"| {n} | {' | '.join(f'{row[name]:.3g}' for name in names)} |" for n, row in listed.items()
        ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--workers", type=int, nargs="*", default=(1, 2))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (workers,) = options.workers or (0,)
        found = on_workers(options.one, workers) if workers else on_one_machine(options.one)
        say(json.dumps(found))
        return
    sizes, found = [*options.sizes, *([LARGE] if options.large else [])], {}
    for workers in (0, *options.workers):
        title = (
            f"{workers} worker{'s'[: workers > 1]} of dask" if workers else "One machine, 200 Lanczos steps"
        )
        found[title] = {}
        for n in sizes if not workers else [n for n in sizes if n in CLUSTERED or n < min(CLUSTERED)]:
            found[title][n] = in_a_process(n, [workers] if workers else [])
            say(f"{title}, n = {n}: {found[title][n]}")
            RESULTS.write_text(table(found))


if __name__ == "__main__":
    main()
