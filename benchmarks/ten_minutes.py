"""Claim of the documentation: from a clone to a report in ten minutes, installation included.

    python benchmarks/ten_minutes.py

Clones the repository, installs it into a new environment by the last command of ``docs/ten_minutes.md``
(torch comes from where pip finds it) and runs the cells of that page, the last of which writes the report.
Seconds are those of the wall and, over all processes, of the processor; kept in
``benchmarks/results/ten_minutes.md``.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tables import write_rows

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/ten_minutes.md"


def timed(*command, cwd):
    """Run a command, which must succeed; return seconds on the wall and of the processor."""
    wall, before = time.perf_counter(), os.times()
    subprocess.run([*map(str, command)], cwd=cwd, check=True, capture_output=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - wall, used


def stages(folder):
    """Yield each stage with its times."""
    yield "clone", timed("git", "clone", "--quiet", ROOT, "odeopt", cwd=folder)
    clone, python = folder / "odeopt", folder / "venv/bin/python"
    page = (clone / "docs/ten_minutes.md").read_text()
    (what,) = re.findall(r'^pip install "(.*)"$', page, flags=re.M)
    yield "environment", timed(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    install = ("-m", "pip", "install", "--quiet", "--prefer-binary", "-c", "constraints.txt")
    yield f'pip install "{what}"', timed(python, *install, what, cwd=clone)
    cells = re.findall(r"^```\{code-cell\}\n(.*?)^```", page, flags=re.S | re.M)
    yield "the page", timed(python, "-c", "\n".join(cells), cwd=folder)
    if "<html" not in (folder / "report.html").read_text()[:2000]:
        sys.exit("no report was written")


def main():
    with tempfile.TemporaryDirectory() as folder:
        found = list(stages(Path(folder)))
    found.append(("together", tuple(map(sum, zip(*(times for _, times in found), strict=True)))))
    rows = [f"{i} | {name} | {wall:.0f} s | {used:.0f} s" for i, (name, (wall, used)) in enumerate(found, 1)]
    write_rows(RESULTS, "step | stage | wall | processor", rows)


if __name__ == "__main__":
    main()
