"""Sweeps: failures kept with their reason, damaged files set aside, while the rest goes on."""

import concurrent.futures as cf
import importlib
import json
import linecache
import re
import sys
import zipfile

import numpy as np
import pytest
import torch

from odeopt import GradientDescent, HeavyBall, loss_curve, spectral_measure
from odeopt.data import load_digits, prepare
from odeopt.nets import TwoLayerReLU, empirical_gram, run_jobs, sweep, train
from odeopt.nets.sweeps.jobs import job_key
from odeopt.rules import rule_grid


def test_failures_are_kept_with_their_reason_and_retried_on_request(tmp_path):
    broken = {2, 5}

    def task(value):
        if value in broken:
            raise ValueError(f"no result for {value}\nat all")
        return {"value": value}

    some = [({"value": v}, v) for v in range(8)]
    with cf.ThreadPoolExecutor(2) as pool:
        first = run_jobs(task, some, tmp_path, executor=pool)
        assert [e["reason"] for e in first.failures] == [
            f"ValueError: no result for {v} at all" for v in (2, 5)
        ]
        broken.clear()
        again = run_jobs(task, some, tmp_path, executor=pool)
        assert (again.reused, len(again.failures)) == (8, 2)
        retried = run_jobs(task, some, tmp_path, executor=pool, retry_failed=True)
    assert (retried.reused, len(retried.failures)) == (6, 0)
    with pytest.raises(ValueError, match="it has no arrays"):
        first.load(first.failures[0])


@pytest.mark.parametrize("value", [{"x": object()}, 3.0, {"x": [object()]}])
def test_results_that_are_no_arrays_are_a_failure(tmp_path, value):
    with cf.ThreadPoolExecutor(1) as pool:
        results = run_jobs(lambda _: value, [({}, None)], tmp_path, executor=pool)
    assert results.failures


def test_progress_counts_what_is_there_already(tmp_path):
    some = [({"value": v}, v) for v in range(5)]
    seen = []
    with cf.ThreadPoolExecutor(1) as pool:
        run_jobs(lambda v: {"v": v}, some[:2], tmp_path, executor=pool)
        run_jobs(lambda v: {"v": v}, some, tmp_path, executor=pool, progress=lambda *told: seen.append(told))
    assert seen == [("runs", done, 5) for done in (2, 3, 4, 5)]


def test_refusals_of_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="not writable"):
        run_jobs(dict, [({}, {})], tmp_path / "file")
    with pytest.raises(ValueError, match="1 of 2 are repeated"):
        run_jobs(dict, [({"a": 1}, {}), ({"a": 1}, {})], tmp_path)
    with pytest.raises(ValueError, match="workers"):
        run_jobs(dict, [({}, {})], tmp_path, workers=0)
    refused = []

    def second(_):
        try:
            run_jobs(dict, [({"b": 1}, {})], tmp_path)
        except ValueError as error:
            refused.append(str(error))
        return {}

    with cf.ThreadPoolExecutor(1) as pool:
        run_jobs(second, [({}, None)], tmp_path, executor=pool)
    assert "in use by another sweep" in refused[0]


def test_a_key_is_that_of_the_content():
    assert job_key({"a": 1, "b": [1.5, None]}) == job_key({"b": [1.5, None], "a": 1})
    assert job_key({"a": 1}) != job_key({"a": 2})


# --- damaged files, earlier versions, a rule that was edited ------------------------------------


def small_sweep(folder, rules=None, **options):
    rules = rule_grid(HeavyBall, lr=[0.01], momentum=0.5) if rules is None else rules
    with cf.ThreadPoolExecutor(1) as pool:
        return sweep(rules, np.eye(4), np.arange(4.0), 10, folder, widths=[16], executor=pool, **options)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"loss.npy") + 200] ^= 1  # among the numbers of an array
    path.write_bytes(content)


def claim(path):
    """A header that promises more numbers than the file has bytes."""
    array = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000,), }"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_entry.npy", array.ljust(127) + b"\n")


def other(path):
    path.write_bytes(max(path.parent.glob("*.npz")).read_bytes())


def garble(path):
    """A header that is no Python, which numpy takes apart by tokens."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_entry.npy", b"\x93NUMPY\x01\x00\x10\x00" + b"{" * 16)


@pytest.mark.parametrize("damage", [cut, flip, claim, garble, other, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_named_and_set_aside_and_its_run_done_again(tmp_path, damage):
    fresh = small_sweep(tmp_path, seeds=[0, 1])
    whole = [fresh.load(entry)["loss"] for entry in fresh.entries]
    victim = min((tmp_path / "runs").glob("*.npz"))
    damage(victim)
    with pytest.warns(UserWarning, match=rf"{victim.name} cannot be read .* is set aside as .*\.damaged"):
        again = small_sweep(tmp_path, seeds=[0, 1])
    assert (again.reused, again.set_aside) == (1, (victim.name,))
    assert victim.with_name(f"{victim.name}.damaged").exists()
    for entry, loss in zip(again.entries, whole, strict=True):
        np.testing.assert_array_equal(again.load(entry)["loss"], loss)
    assert small_sweep(tmp_path, seeds=[0, 1]).set_aside == ()
    damage(victim)
    if damage is not other:  # a whole file of another run, which only the next sweep notices
        with pytest.raises(ValueError, match=rf"{victim.name} cannot be read"):
            again.load(next(entry for entry in again.entries if entry["key"] == victim.stem))


def test_a_full_disk_keeps_what_is_whole_and_says_how_to_go_on(tmp_path):
    """A limit on the size of files stands for the disk."""
    resource = pytest.importorskip("resource", reason="no limits on files on this system")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    small_sweep(tmp_path, seeds=[0])
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot be written .*the same call does the others"):
            small_sweep(tmp_path, seeds=[0, 1, 2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list((tmp_path / "runs").glob("*.npz"))) == 1
    assert not list(tmp_path.rglob("*.part"))
    assert small_sweep(tmp_path, seeds=[0, 1, 2]).reused == 1


def test_a_damaged_record_of_a_failure_is_set_aside_too(tmp_path):
    failed = small_sweep(tmp_path, [GradientDescent(50.0)])
    (path,) = (tmp_path / "runs").glob("*.json")
    path.write_text(path.read_text()[:20])
    with pytest.warns(UserWarning, match=path.name):
        again = small_sweep(tmp_path, [GradientDescent(50.0)])
    assert again.failures[0]["reason"] == failed.failures[0]["reason"]


def test_runs_of_an_earlier_version_are_read_under_their_old_key(tmp_path):
    done = small_sweep(tmp_path).entries[0]
    spec = {**done["spec"], "rule": {**done["spec"]["rule"], "type": "odeopt.methods.HeavyBall"}}
    entry = {**done, "spec": spec, "key": job_key(spec)}
    path = tmp_path / "runs" / f"{done['key']}.npz"
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    np.savez(path.with_name(f"{entry['key']}.npz"), **{**arrays, "_entry": np.array(json.dumps(entry))})
    path.unlink()
    again = small_sweep(tmp_path)
    assert again.reused == 1
    np.testing.assert_array_equal(again.load(again.entries[0])["loss"], arrays["loss"])


MINE = """
from dataclasses import dataclass
from odeopt import UpdateRule

def scaled(gradient):
    return OUTSIDE * gradient

class Mixed:
    def turned(self, gradient):
        return MIXED * gradient

@dataclass(frozen=True)
class Mine(Mixed, UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return iterates[0] - INSIDE * self.lr * self.turned(scaled(grad(iterates[0]))), memory
"""


@pytest.mark.parametrize("place", ["INSIDE", "OUTSIDE", "MIXED"])
def test_an_edited_rule_does_not_take_the_results_of_the_old_one(tmp_path, monkeypatch, place):
    monkeypatch.syspath_prepend(tmp_path)
    last = []
    for factor in ("1.0", "5.00"):
        (tmp_path / "mine.py").write_text(re.sub("[A-Z]{5,}", "1.0", MINE.replace(place, factor)))
        sys.modules.pop("mine", None)
        linecache.clearcache()
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two edits within a second look alike
        import mine

        results = small_sweep(tmp_path / "out", [mine.Mine(0.01)])
        assert results.reused == 0
        last.append(results.load(results.entries[0])["loss"][-1])
    assert last[1] < 0.99 * last[0]
    assert small_sweep(tmp_path / "out", [mine.Mine(0.01)]).reused == 1
    sys.modules.pop("mine", None)


# --- networks ----------------------------------------------------------------------------------


def test_a_sweep_of_networks_holds_what_training_and_theory_give(tmp_path):
    data = prepare(*load_digits(12))
    rules = [GradientDescent(0.1), *rule_grid(HeavyBall, lr=0.1, momentum=[0.5, 0.9])]
    with cf.ThreadPoolExecutor(1) as pool:
        results = sweep(rules, data.x, data.y, 30, tmp_path, widths=[32, 64], seeds=[0, 1], executor=pool)
    assert len(results.entries) == 12
    assert not results.failures
    entry = results.entries[7]  # the second rule, the second width, the second seed
    assert entry["spec"]["rule"] == {"type": "HeavyBall", "lr": 0.1, "momentum": 0.5}
    assert (entry["spec"]["width"], entry["spec"]["seed"]) == (64, 1)
    arrays = results.load(entry)
    net = TwoLayerReLU(64, 64, seed=1)
    measure = spectral_measure(
        empirical_gram(net, data.x), net(torch.tensor(data.x)).detach().numpy() - data.y
    )
    run = train(net, HeavyBall(0.1, 0.5), data.x, data.y, 30)
    np.testing.assert_array_equal(arrays["loss"], run.loss)
    np.testing.assert_allclose(
        arrays["linear_loss"], loss_curve(HeavyBall(0.1, 0.5), measure, range(31)).loss
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rules": []}, ["must not be empty"]),
        ({"rules": ["gd"]}, ["rules", "'gd'"]),
        ({"widths": [0]}, ["widths", "0"]),
        ({"widths": [16.7]}, ["widths", "integer", "16.7"]),
        ({"layers": "last"}, ["layers", "'last'"]),
        ({"reduction": "none"}, ["reduction", "'none'"]),
        ({"y": [1.0, 2.0]}, ["same length", "3 inputs", "2 targets"]),
        ({"seeds": [1, 1]}, ["repeated"]),
    ],
)
def test_sweep_refusals(tmp_path, change, words):
    options = {"rules": [GradientDescent(0.1)], **change}
    with pytest.raises(ValueError) as refused:
        sweep(options.pop("rules"), np.eye(3), options.pop("y", [1.0, 2.0, 3.0]), 5, tmp_path, **options)
    for word in words:
        assert word in str(refused.value)
