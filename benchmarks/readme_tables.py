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
    parts = ("kernel", "Lanczos", "curves", "test kernel", "test curves", "total")
    lines = [f"| n | {' | '.join(parts)} | peak memory |", "|---" * (len(parts) + 2) + "|"]
    for row in read_rows(results / "large_kernel.md"):
        seconds = (f"{float(row[f'{part} processor s']):.1f} s" for part in parts)
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
            f"`eigh` takes {whole(eigh)} times the processor time of 100 Lanczos steps, on one thread;",
            "from the kernel to one curve, neural-tangents takes "
            f"{whole(closed['ratio warm'])} times as long for its closed form",
            f"(gap {closed[gap]} of the initial loss), "
            f"{whole(solve['ratio warm'])} times for its momentum solve (gap {solve[gap]}), both warm,",
            f"and {whole(tight['ratio warm'])} times with that solve's tolerance at 1e-12 "
            f"(gap {tight[gap]}; `benchmarks/results/`).",
        )
    )


def predicted(results: Path) -> str:
    """The largest deviation of a network from its prediction, over a fall of the loss by 100."""
    text = (results / "predicted_training.md").read_text()
    table = text.partition("## Networks")[2].partition("## Widths")[0]
    titles, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    )
    methods = ("GD", "HB", "NAG")
    first, current = titles.index("max dL / L_0"), titles.index("max dL / L_k")
    found = {(row[0], row[1]): f"{float(row[first]):.1e} ({row[current]})" for row in rows}
    lines = (
        f"| {network} | {' | '.join(found[network, method] for method in methods)} |"
        for network in dict.fromkeys(row[0] for row in rows)
    )
    return "\n".join((f"| network | {' | '.join(methods)} |", "|---|---|---|---|", *lines))


def proofs(results: Path) -> str:
    times = [float(row["ours / PEPit"]) for row in read_rows(results / "certificates.md")]
    return (
        f"Known rates are proved, in exact arithmetic and at values not met before, in {min(times):.2f} to "
        f"{max(times):.2f} of the time\nin which PEPit solves for them."
    )


BLOCKS: dict[str, Callable[[Path], str]] = {
    "predicted": predicted,
    "large_kernel": large_kernel,
    "ratios": ratios,
    "proofs": proofs,
}


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
