"""Long commands stopped in the middle: earlier results stay, one line says what is kept, and it holds."""

import contextlib
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading

import numpy as np
import pytest
import typer

from odeopt import cli
from odeopt.cli.long_run import LongRun
from odeopt.studies import OutputFolder

pytestmark = pytest.mark.usefixtures("axes_as_they_fall")

CHECK = ["check", "--n", "8", "--width", "32", "--seeds", "1", "--steps", "20", "--methods", "gd,hb", "--out"]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", *map(str, arguments)])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def held(path):
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The folder of a check that ran to its end."""
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["odeopt", *CHECK, str(folder)])
        with pytest.raises(SystemExit) as status:
            cli.main()
    assert status.value.code == 0
    return folder


@pytest.fixture
def before(checked, tmp_path):
    """What an earlier check left in the folder of the next one."""
    shutil.copytree(checked, tmp_path, dirs_exist_ok=True)
    return held(tmp_path)


@pytest.fixture
def stopped(monkeypatch):
    """The next run gets a signal after some steps of a stage."""

    def stop(number, stage, step):
        shown = LongRun.__call__

        def show(self, name, done, total):
            shown(self, name, done, total)
            if (name, done) == (stage, step):
                signal.raise_signal(number)

        monkeypatch.setattr(LongRun, "__call__", show)

    return stop


SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
def test_a_stopped_check_leaves_the_results_of_the_run_before(
    monkeypatch, capsys, tmp_path, stopped, number, before
):
    handler = signal.getsignal(signal.SIGTERM)
    stopped(number, "hb", 7)
    code, out, err = run(monkeypatch, capsys, *CHECK, tmp_path, "--momenta", "0.5")
    assert (code, out) == (128 + number, "")
    assert "odeopt: interrupted; nothing of this run was kept" in err
    assert held(tmp_path) == before
    assert signal.getsignal(signal.SIGTERM) is handler


@SIGNALS
def test_a_stopped_prediction_goes_on_from_its_state(monkeypatch, capsys, tmp_path, stopped, number):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((40, 5)), y=rng.standard_normal(40))
    arguments = [
        "predict",
        tmp_path / "d.npz",
        "--methods",
        "gd",
        "--target",
        "0.2",
        "--matvecs",
        "25",
        "--json",
    ]
    whole = json.loads(run(monkeypatch, capsys, *arguments)[1])
    state = ["--state", tmp_path / "s.npz", "--out", tmp_path / "o"]
    with monkeypatch.context() as only:
        stopped(number, "lanczos", 9)
        code, _, err = run(only, capsys, *arguments, *state)
    monkeypatch.undo()
    assert code == 128 + number
    told = f"Lanczos steps up to 9 are kept in {tmp_path / 's.npz'}; the same command goes on"
    assert told in " ".join(err.split())
    assert list((tmp_path / "o").iterdir()) == []
    seen = []
    monkeypatch.setattr(LongRun, "__call__", lambda self, *told: seen.append(told))
    code, out, _ = run(monkeypatch, capsys, *arguments, *state)
    assert code == 0
    assert min(done for stage, done, _ in seen if stage == "lanczos") > 9
    assert json.loads(out) == whole
    assert sorted(held(tmp_path / "o")) == ["forecast.json", "forecast.npz", "forecast.png"]


def test_a_prediction_without_a_state_names_the_option(monkeypatch, capsys, tmp_path, stopped):
    np.savez(tmp_path / "d.npz", x=np.eye(5), y=np.arange(5.0))
    stopped(signal.SIGINT, "kernel", 5)
    code, _, err = run(monkeypatch, capsys, "predict", tmp_path / "d.npz")
    assert code == 130
    assert "nothing was kept; with --state FILE" in " ".join(err.split())


def test_an_interrupt_that_says_what_is_kept_is_believed(capsys):
    with pytest.raises(typer.Exit) as status, LongRun().kept(lambda done: "nothing"):
        raise KeyboardInterrupt("3 of 5 runs are kept in out")
    assert status.value.exit_code == 130
    assert capsys.readouterr().err.strip() == "odeopt: interrupted; 3 of 5 runs are kept in out"


KILLED = """
import os, signal, sys
from odeopt import cli
from odeopt.cli.long_run import LongRun

def die(self, stage, done, total):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

LongRun.__call__ = die
sys.argv = ["odeopt", *sys.argv[1:]]
cli.main()
"""


def test_a_killed_check_frees_its_folder_as_it_was(tmp_path, before):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *CHECK, str(tmp_path)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    assert held(tmp_path) == before
    with OutputFolder(tmp_path):  # which is refused where a run holds the folder
        assert held(tmp_path) == before


def test_on_a_full_disk_the_result_is_printed_and_the_old_files_stay(monkeypatch, capsys, tmp_path, before):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        code, out, err = run(monkeypatch, capsys, *CHECK, tmp_path, "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert [m["name"] for m in json.loads(out)["methods"]] == ["gd", "hb"]
    assert "could not be written (File too large); what an earlier run left there is untouched" in err
    assert held(tmp_path) == before


def test_on_a_full_disk_a_state_stays_as_it_was_and_is_named(monkeypatch, capsys, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((40, 5)), y=rng.standard_normal(40))
    arguments = [
        "predict",
        tmp_path / "d.npz",
        "--methods",
        "gd",
        "--target",
        "0.5",
        "--state",
        tmp_path / "s.npz",
    ]
    assert run(monkeypatch, capsys, *arguments, "--matvecs", 5)[0] == 0
    before, limits = held(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        code, _, err = run(monkeypatch, capsys, *arguments, "--matvecs", 9)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert f"state '{tmp_path / 's.npz'}' could not be written (File too large)" in err
    assert held(tmp_path) == before


def test_a_folder_in_use_is_refused_before_any_work(monkeypatch, capsys, tmp_path):
    seen = []
    monkeypatch.setattr(LongRun, "__call__", lambda self, *told: seen.append(told))
    with OutputFolder(tmp_path):
        code, out, err = run(monkeypatch, capsys, *CHECK, tmp_path)
    assert (code, out, seen) == (2, "", [])
    assert "is in use by another run" in err


WITHIN_A_TEXT = """
import signal
import odeopt.cli.app
from odeopt import cli

def interrupted():
    exec("signal.raise_signal(signal.SIGINT)")

odeopt.cli.app.run = interrupted
cli.main()
"""


def test_a_terminal_shows_each_stage_with_the_time_left_on_one_line(monkeypatch, capsys, tmp_path):
    rng = np.random.default_rng(0)
    x, rule = rng.standard_normal((60, 5)), "HeavyBall lr=0.001 momentum=0.9 weight_decay=0.001 to_start=true"
    np.savez(tmp_path / "d.npz", x=x, y=rng.standard_normal(60))
    np.savez(tmp_path / "c.npz", x=x, y=np.arange(60) % 3)
    monkeypatch.setenv("COLUMNS", "80")
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    read = []
    reader = threading.Thread(target=lambda: read.extend(_read(master)))
    reader.start()
    with os.fdopen(terminal, "w") as stderr, monkeypatch.context() as only:
        only.setattr(sys, "stderr", stderr)
        options = ["--test", "0.2", "--methods", "gd"]
        assert run(only, capsys, "predict", tmp_path / "d.npz", *options)[0] == 0
        options += ["--loss", "softmax", "--steps", "5", "--rule", rule]
        assert run(only, capsys, "predict", tmp_path / "c.npz", *options)[0] == 0
    reader.join()
    os.close(master)
    lines = [line for line in re.split(r"[\r\n]+", b"".join(read).decode()) if line.strip()]
    assert max(map(len, lines)) <= 80
    for stage in ("kernel", "lanczos", "methods", "test kernel", "test curves", "gd", "HeavyBall"):
        assert next(line for line in lines if line.startswith(stage)).endswith("left")
    assert not any("|" in line and "Memory" in line for line in lines)  # each begins a line of its own


def _read(terminal):
    """What is written to a terminal, until nobody holds it."""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            yield part


def test_an_interrupt_while_modules_are_loaded_ends_with_status_130_too(tmp_path):
    (tmp_path / "interrupted_within.py").write_text(WITHIN_A_TEXT)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-m", "interrupted_within"], env=os.environ | path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"odeopt: interrupted; nothing was kept\n")


def test_an_interrupt_of_a_command_that_keeps_nothing_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("odeopt.limits.ode.ode_limit", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, out, err = run(monkeypatch, capsys, "derive", "gd", "lr=0.1")
    assert (code, out, err) == (130, "", "odeopt: interrupted; nothing was kept\n")
