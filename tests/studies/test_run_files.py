"""Files of a run: all of one run or none, whatever stops it, and one run at a time."""

import contextlib
import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from odeopt.studies.files import OutputFolder, json_text

OLD = {"a.json": b"old a", "b.npz": b"old b"}
NEW = {"a.json": b"new a", "b.npz": b"new b", "c.png": b"new c"}


def held(path):
    return {each.name: each.read_bytes() for each in path.iterdir()}


def test_files_replace_those_of_the_run_before_and_leave_others(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"mine")
    for files in (OLD, NEW):
        with OutputFolder(tmp_path) as folder:
            assert folder.replace(files) == tmp_path
    assert held(tmp_path) == {**NEW, "notes.txt": b"mine"}


# Forks a process for each step of a replacement, counted in calls that change the file system, and has the
# system kill it there.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from odeopt.studies.files import OutputFolder

def replace_and_die(path, left):
    def counted(call):
        def wrapped(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)
        return wrapped
    with OutputFolder(path) as folder:
        for name in ("unlink", "rename", "rmdir", "mkdir"):
            setattr(Path, name, counted(getattr(Path, name)))
        os.fsync = counted(os.fsync)
        folder.replace({"a.json": b"new a", "b.npz": b"new b", "c.png": b"new c"})

def shown(path):
    return {each.name: each.read_text() for each in path.iterdir() if each.is_file()}

found = []
for step in range(1, 100):
    path = Path(sys.argv[1], str(step))
    with OutputFolder(path) as folder:
        folder.replace({"a.json": b"old a", "b.npz": b"old b"})
    child = os.fork()
    if not child:
        replace_and_die(path, step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    at_once = shown(path)
    with OutputFolder(path):
        pass
    found.append([status, at_once, shown(path), sorted(os.listdir(path))])
    if status == 0:
        break
print(json.dumps(found))
"""


def test_killed_at_any_step_the_folder_shows_one_run_and_loses_none(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    old, new = ({name: text.decode() for name, text in files.items()} for files in (OLD, NEW))
    for status, at_once, next_time, names in found[:-1]:
        assert status == 9
        assert len({text.split()[0] for text in at_once.values()}) <= 1, at_once
        assert next_time in (old, new)
        assert names == sorted(next_time)  # nothing else lies about
    assert found[-1][0] == 0
    assert found[-1][1] == new
    assert len(found) > 10
    assert old in [after for _, _, after, _ in found]


@contextlib.contextmanager
def no_room():
    """Nothing larger than 100 bytes can be written: as a full disk, after the first bytes of a file.

    Within a test only: pytest itself writes between its phases, and perhaps to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_run_before_whole(tmp_path):
    with OutputFolder(tmp_path) as folder:
        folder.replace(OLD)
        full = pytest.raises(ValueError, match=r"could not be written \(File too large\).*untouched")
        with no_room(), full:
            folder.replace({"a.json": b"new a", "b.npz": bytes(1000)})
    assert held(tmp_path) == OLD


def test_one_run_at_a_time_holds_a_folder(tmp_path):
    with OutputFolder(tmp_path):
        with pytest.raises(ValueError, match="in use by another run"), OutputFolder(tmp_path):
            pass
        other = (
            "import sys; from odeopt.studies.files import OutputFolder; OutputFolder(sys.argv[1]).__enter__()"
        )
        done = subprocess.run(
            [sys.executable, "-c", other, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "in use by another run" in done.stderr
    with OutputFolder(tmp_path) as folder:
        folder.replace(NEW)
    assert held(tmp_path) == NEW


@pytest.mark.parametrize("make", [lambda path: path / "file", lambda path: path / "file" / "below"])
def test_what_is_no_folder_is_refused(tmp_path, make):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"out = .*file.* is not a writable folder"),
        OutputFolder(make(tmp_path)),
    ):
        pass


def test_json_has_null_for_numbers_that_it_lacks():
    value = {"a": float("nan"), "b": [np.float64(0.5), np.int64(3), np.inf], "c": (None, True, "t")}
    assert json.loads(json_text(value)) == {"a": None, "b": [0.5, 3, None], "c": [None, True, "t"]}
