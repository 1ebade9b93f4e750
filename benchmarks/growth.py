"""How time and memory grow with n, stage by stage, and the same with the workers of a cluster.

    python benchmarks/growth.py                          # n = 1,250 to 20,000: some minutes on two cores
    python benchmarks/growth.py --large                  # n = 60,000 too: 9 GB
    python benchmarks/growth.py --sizes 1250 2500 --workers

Each size runs in a process of its own, whose peak memory is told. The seconds are those of the processor,
over all threads or workers: on p idle cores the kernel and its products take a p-th of them. Fits c n^a to
the upper half of the sizes give the exponents a, and what they say of n = 200,000: the last lines of the
tables in ``benchmarks/results/growth.md``.
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

from odeopt.kernels import cluster_relu_gram

RESULTS = Path(__file__).parent / "results" / "growth.md"
SIZES, LARGE, CLUSTERED = (1250, 2500, 5000, 10_000, 20_000), 60_000, (2500, 5000, 10_000)
COLUMNS = ("kernel", "product", "Lanczos", "curves", "peak GB")
AHEAD = 200_000
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


def fits(sizes, rows):
    """Exponents of the upper half of the sizes, and the values that they give at n = 200,000."""
    upper = slice(len(sizes) // 2, None)
    exponents, ahead = {}, {}
    for name in rows[0]:
        values = np.log([row[name] for row in rows][upper])
        exponents[name], constant = np.polyfit(np.log(sizes[upper]), values, 1)
        ahead[name] = np.exp(constant + exponents[name] * np.log(AHEAD))
    return exponents, ahead


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
            exponents, ahead = fits(sizes, rows)
            listed |= {"exponent": exponents, f"{AHEAD:,}, by the fit": ahead}
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
