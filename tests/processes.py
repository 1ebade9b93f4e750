"""Where the project lies, and its Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*args, cwd=ROOT, python=sys.executable, env=None):
    """Run Python and return the finished process; its output is text."""
    return subprocess.run(
        [python, *map(str, args)],
        cwd=cwd,
        env=dict(os.environ) if env is None else env,
        capture_output=True,
        text=True,
        check=False,
    )


def output(*args, **options):
    """Run Python, which must succeed, and return what it printed."""
    done = run(*args, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
