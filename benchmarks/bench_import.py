"""Claim of the front door: `import odeopt` takes at most the time of `import numpy`."""

import statistics
import subprocess
import sys

CODE = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"


def seconds(module):
    """Time of an import in a new process."""
    command = [sys.executable, "-c", CODE.format(module)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def bench_import(benchmark):
    found = {"numpy": [], "odeopt": []}
    for _ in range(9):  # in turn, so that a busy moment of the machine meets both
        for module, values in found.items():
            values.append(seconds(module))
    numpy, ours = (statistics.median(values) for values in found.values())
    benchmark.extra_info |= {"numpy_ms": 1e3 * numpy, "odeopt_ms": 1e3 * ours}
    benchmark.pedantic(seconds, ("odeopt",), rounds=1)
    assert ours <= numpy, f"import odeopt takes {ours:.4f} s, import numpy {numpy:.4f} s"
