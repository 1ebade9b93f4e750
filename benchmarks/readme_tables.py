"""Write the measured figures of ``benchmarks/results`` into README.md.

    python benchmarks/readme_tables.py

A block of the README lies between the lines ``<!-- name -->`` and ``<!-- end of name -->``; :data:`BLOCKS`
says what stands there. The tests fail where a block differs from the results.
"""

from collections.abc import Callable
from pathlib import Path

from tables import read_rows

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results"


def large_kernel(results: Path) -> str:
    lines = ["| n | kernel | Lanczos | total | peak memory |", "|---|---|---|---|---|"]
    for row in read_rows(results / "large_kernel.md"):
        seconds = (f"{float(row[part]):.1f} s" for part in ("kernel s", "Lanczos s", "total s"))
        lines.append(f"| {int(row['n']):,} | {' | '.join(seconds)} | {row['peak GB']} GB |")
    return "\n".join(lines)


def ratios(results: Path) -> str:
    times = {row["times in one run"]: row["ratio"] for row in read_rows(results / "spectrum.md")}
    rows = {(row["n"], row["neural-tangents"]): row for row in read_rows(results / "neural_tangents.md")}
    closed, solve, tight = (
        rows["1797", name] for name in ("closed form", "momentum", "momentum, tolerance 1e-12")
    )
    gap, eigh = "gap / initial loss", times["eigh / 100 Lanczos steps, n = 1797"]
    return "\n".join(
        (
            "At n = 1797 and in one run each, "
            f"`eigh` takes {whole(eigh)} times as long as 100 Lanczos steps;",
            "from the kernel to the curves, neural-tangents takes "
            f"{whole(closed['ratio warm'])} times as long for its closed form",
            f"and {whole(solve['ratio warm'])} times for its momentum solve, both warm. "
            f"Its closed form and ours agree to {closed[gap]} of the",
            f"initial loss, its solve to {solve[gap]} at the default tolerance "
            f"and {tight[gap]} at 1e-12 (`benchmarks/results/`).",
        )
    )


BLOCKS: dict[str, Callable[[Path], str]] = {"large_kernel": large_kernel, "ratios": ratios}


def whole(number: str) -> str:
    return f"{float(number):.0f}"


def rendered(readme: str, results: Path = RESULTS) -> str:
    """Return a README with its blocks as the results say."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if readme.count(begin) != 1 or readme.count(end) != 1:
            raise ValueError(f"README.md must hold one block {begin.strip()} ... {end.strip()}; add it")
        before, _, rest = readme.partition(begin)
        readme = before + begin + block(results) + end + rest.partition(end)[2]
    return readme


if __name__ == "__main__":
    README.write_text(rendered(README.read_text()))
