"""Sweeps that are killed, interrupted, started twice, or lose a worker: nothing is lost or half-written."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from odeopt import nets
from odeopt.nets import run_jobs

# A module of tasks for other processes; each execution leaves a line in a ledger.
TASKS = """
import os, signal, time
from pathlib import Path

def square(argument):
    value, ledger = argument
    # A sweep that is to be killed waits where it should have been: it cannot end before the signal.
    time.sleep(0.01 if value < int(os.environ.get("LAST", 200)) else 3600)
    with open(ledger, "a") as file:
        file.write(f"{value} {os.getpid()}\\n")
    return {"square": value**2}

def deadly(argument):
    value, ledger = argument
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(argument)
"""
SCRIPT = """
import concurrent.futures as cf, os, sys, types
import tasks

if __name__ == "__main__":
    folder, ledger, kind, path = sys.argv[1:]
    jobs = [({"value": v}, (v, ledger)) for v in range(200)]
    if kind == "threads":
        # a bare package: the wing's own brings torch, whose loading would take most of the time
        wing = sys.modules["odeopt.nets"] = types.ModuleType("odeopt.nets")
        wing.__path__ = [path]
    from odeopt.nets.sweeps.jobs import run_jobs
    options = {"executor": cf.ThreadPoolExecutor(2)} if kind == "threads" else {}
    try:
        run_jobs(tasks.square, jobs, folder, workers=2, **options)
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr, flush=True)
        os._exit(130)  # threads could not be left before they have ended
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """The module of tasks, importable here and in the processes started from here."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(p for p in (str(tmp_path), os.environ.get("PYTHONPATH")) if p)
    )
    sys.modules.pop("tasks", None)
    import tasks

    yield tasks
    sys.modules.pop("tasks", None)


def squares(tmp_path, count):
    return [({"value": v}, (v, tmp_path / "ledger")) for v in range(count)]


def script(tmp_path, kind):
    return [
        sys.executable,
        "script.py",
        str(tmp_path / "sweep"),
        str(tmp_path / "ledger"),
        kind,
        nets.__path__[0],
    ]


def finished(folder):
    return {p: p.stat().st_mtime_ns for p in (folder / "runs").glob("*.npz")} if folder.exists() else {}


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # a zombie whose new parent has not yet collected it
        return file.read().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("kind", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_two_hundred_runs_survive_five_kills_and_interrupts(tasks, tmp_path, kind):
    folder, ledger = tmp_path / "sweep", tmp_path / "ledger"
    command = script(tmp_path, kind)
    draw = random.Random(7)
    held = {}
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        enough = len(held) + draw.randint(5, 35)
        environment = os.environ | {"LAST": str(enough + 4)}
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        while len(finished(folder)) < enough and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.01))  # at any moment of a run and of a write
        process.send_signal(number)
        _, text = process.communicate()
        now = finished(folder)
        if number == signal.SIGINT:
            assert process.returncode == 130
            left = (
                f"{len(now)} of 200 runs are kept in {folder}; the same call does the other {200 - len(now)}"
            )
            assert text.splitlines()[0] == left
        else:
            assert process.returncode == -number
        assert held.items() <= now.items()  # nothing lost, nothing written again
        held = now
    subprocess.run(command, cwd=tmp_path, check=True)
    assert held.items() <= finished(folder).items()
    assert len(finished(folder)) == 200
    lines = [line.split() for line in ledger.read_text().splitlines()]
    assert {int(value) for value, _ in lines} == set(range(200))
    # Run again is only what was under way at a kill: at most the four that are submitted at a time.
    assert len(lines) <= 200 + 5 * 4
    index = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    assert sorted(entry["spec"]["value"] for entry in index) == list(range(200))
    results = run_jobs(tasks.square, [({"value": v}, (v, ledger)) for v in range(200)], folder)
    assert results.reused == 200
    assert [int(results.load(e)["square"]) for e in results.entries] == [v**2 for v in range(200)]
    assert not list((folder / "runs").glob(".*.part"))
    if kind == "processes":  # the workers of a killed sweep end by themselves
        while not all(gone(int(pid)) for _, pid in lines):
            time.sleep(0.05)


def test_a_second_sweep_in_a_folder_is_refused_and_the_first_goes_on(tasks, tmp_path):
    pytest.importorskip("fcntl")
    folder, command = tmp_path / "sweep", script(tmp_path, "threads")
    first = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"LAST": "10"})
    while len(finished(folder)) < 5:
        assert first.poll() is None
        time.sleep(0.002)
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert f"folder {folder} is in use by another sweep" in second.stderr
    while len(finished(folder)) < 10:
        assert first.poll() is None
        time.sleep(0.002)
    first.kill()
    first.wait()


@pytest.mark.slow
def test_a_run_that_kills_its_process_fails_alone(tasks, tmp_path):
    results = run_jobs(tasks.deadly, squares(tmp_path, 8), tmp_path / "sweep", workers=2)
    (failure,) = results.failures
    assert failure["spec"] == {"value": 3}
    assert "its process died" in failure["reason"]
    done = [int(results.load(e)["square"]) for e in results.entries if e["status"] == "done"]
    assert done == [0, 1, 4, 16, 25, 36, 49]


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker_finishes_all(tasks, tmp_path):
    distributed = pytest.importorskip("distributed")
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "dashboard_address": None,
        "local_directory": tmp_path,
    }
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        killed = []

        def kill_one(stage, done, total):
            if done == 40 and not killed:
                worker = next(iter(cluster.workers.values()))
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

        results = run_jobs(
            tasks.square, squares(tmp_path, 200), tmp_path / "sweep",
            executor=client.get_executor(), workers=4, progress=kill_one,
        )  # fmt: skip
    assert killed
    assert not results.failures
    assert [int(results.load(e)["square"]) for e in results.entries] == [v**2 for v in range(200)]
