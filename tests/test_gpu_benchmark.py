"""The benchmark of a GPU, small and on the CPU: every stage runs, agrees with float64, and has its row."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def gpu(monkeypatch):
    """The script, which is no part of a package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("gpu")


def test_every_stage_runs_and_agrees(gpu, tmp_path, monkeypatch):
    results = gpu.run("cpu", quick=True, out=tmp_path / "gpu.json")
    assert {name: found["error"] for name, found in results.items() if "error" in found} == {}
    assert json.loads((tmp_path / "gpu.json").read_text()) == results
    assert list(results) == [name for name, _ in gpu.stages(gpu.Card("cpu", True))]
    compared = {
        name: value
        for found in results.values()
        for name, value in found.items()
        if name.startswith(("product, ", "entries", "product of"))
    }
    assert {"entries, both, depth 3", "product, float32", "product of 8 vectors, float64"} <= {*compared}
    assert max(compared.values()) < 1e-14  # sums of up to 170 terms, relative to the largest
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "gpu.md")
    monkeypatch.setattr("sys.argv", ["gpu.py", "--table", str(tmp_path / "gpu.json")])
    gpu.main()
    table = (tmp_path / "gpu.md").read_text()
    assert "| 170 | torch (on cpu) |" in table
    assert "| kernels: product, float32 | " in table


def test_failing_stage_is_kept_and_the_others_go_on(gpu, monkeypatch):
    def broken(card):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpu, "loss_curves", broken)
    results = gpu.run("cpu", quick=True, only=["loss curves", "tiles"])
    assert results["loss curves"]["error"] == "RuntimeError: out of memory"
    assert results["tiles"]["engine"] == "torch (on cpu)"
    assert "| loss curves | RuntimeError: out of memory |" in gpu.table(results)
