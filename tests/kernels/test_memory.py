"""Memory that is free: the least of what the system, cgroups and limits of the process leave."""

import subprocess
import sys

import pytest

from odeopt.kernels import memory_plan
from odeopt.kernels.memory import available_memory, cgroups_free


def group(folder, version, limit, used, cache=None):
    names = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}[
        version
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    if cache is not None:
        (folder / "memory.stat").write_text(
            f"anon 5\n{'total_' if version == 1 else ''}inactive_file {cache}\n"
        )


def test_the_narrowest_of_nested_groups_counts(tmp_path):
    root, groups = tmp_path / "fs", tmp_path / "cgroup"
    groups.write_text("0::/outer/inner\n")
    group(root / "outer", 2, 1000, 900)
    group(root / "outer/inner", 2, "max", 800)
    assert cgroups_free(groups, root) == [100]
    group(root / "outer/inner", 2, 830, 800)
    assert min(cgroups_free(groups, root)) == 30
    group(root / "outer/inner", 2, 830, 800, cache=20)  # pages of files are given back when asked for
    assert min(cgroups_free(groups, root)) == 50


def test_groups_of_the_first_version_are_read_too(tmp_path):
    root, groups = tmp_path / "fs", tmp_path / "cgroup"
    groups.write_text("4:cpu,cpuacct:/a\n9:memory:/a/b\n1:name=systemd:/a\n")
    group(root / "memory", 1, 2**63 - 4096, 10)
    group(root / "memory/a", 1, 700, 200, cache=30)
    assert min(cgroups_free(groups, root)) == 530


def test_a_container_that_does_not_see_its_path_has_the_outermost_group(tmp_path):
    root, groups = tmp_path / "fs", tmp_path / "cgroup"
    groups.write_text("0::/docker/0123\n")
    group(root, 2, 500, 100)
    assert cgroups_free(groups, root) == [400]
    assert cgroups_free(tmp_path / "none", root) == []


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_limits_of_the_process_count(limit):
    code = f"""
import resource
from odeopt.kernels.memory import available_memory
resource.setrlimit(resource.{limit}, (3 << 30, resource.RLIM_INFINITY))
print(available_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 3 << 30


def test_something_is_free_here():
    assert available_memory() > 2**20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n must be an integer of at least 1"),
        ({"n": 10.5}, "n must be an integer"),
        ({"d": -1}, "d must be an integer"),
        ({"num_vectors": -1}, "num_vectors must be an integer"),
        ({"memory_limit": float("nan")}, "memory_limit must be a positive number of bytes, got nan"),
        ({"storage": "float16"}, "storage must be"),
    ],
)
def test_bad_options_of_a_plan_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        memory_plan(**{"n": 10, "d": 2, **options})
