"""The README's figures are those of benchmarks/results; the tables are kept as they say."""

import importlib
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def scripts(monkeypatch):
    """Modules of the benchmarks, which are scripts and no package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return {name: importlib.import_module(name) for name in ("tables", "readme_tables")}


def test_figures_of_the_readme_are_those_of_the_results(scripts):
    """After a benchmark: python benchmarks/readme_tables.py."""
    assert scripts["readme_tables"].rendered(README) == README


@pytest.mark.parametrize(
    ("file", "old", "new", "shown"),
    [
        ("large_kernel.md", "| 20000 |", "| 21000 |", "| 21,000 |"),
        (
            "spectrum.md",
            "| eigh / 100 Lanczos steps, n = 1797 | ",
            "| eigh / 100 Lanczos steps, n = 1797 | 9",
            " 9",
        ),
        ("neural_tangents.md", "| 1797 | momentum | ", "| 1797 | momentum | 7", "solve (gap 7"),
    ],
)
def test_other_results_change_the_readme(scripts, tmp_path, file, old, new, shown):
    results = shutil.copytree(ROOT / "benchmarks/results", tmp_path / "results")
    text = (results / file).read_text()
    assert text.count(old) == 1
    (results / file).write_text(text.replace(old, new))
    found = scripts["readme_tables"].rendered(README, results)
    assert found != README
    assert shown in found


def test_text_beside_the_blocks_is_left_alone(scripts):
    beside = README.replace("## Limits", "## Bounds")
    assert scripts["readme_tables"].rendered(beside) == beside != README


def test_missing_block_is_named(scripts):
    with pytest.raises(ValueError, match=r"one block <!-- ratios --> \.\.\. <!-- end of ratios -->"):
        scripts["readme_tables"].rendered(README.replace("<!-- ratios -->", ""))


def test_rows_replace_those_of_their_key_and_are_sorted(scripts, tmp_path):
    path, header = tmp_path / "results" / "t.md", "n | what | s"
    tables = scripts["tables"]
    tables.write_rows(path, header, ["100 | b | 1.0", "20 | a | 2.0", "100 | a | 3.0"], keys=2)
    tables.write_rows(path, header, ["100 | b | 4.0"], keys=2)
    assert path.read_text().splitlines() == [
        "| n | what | s |",
        "|---|---|---|",
        "| 20 | a | 2.0 |",
        "| 100 | a | 3.0 |",
        "| 100 | b | 4.0 |",
    ]
    assert tables.read_rows(path)[2] == {"n": "100", "what": "b", "s": "4.0"}
    # A table with other columns is begun anew.
    tables.write_rows(path, "n | s", ["7 | 1"])
    assert path.read_text() == "| n | s |\n|---|---|\n| 7 | 1 |\n"


def test_empty_cells_are_kept(scripts, tmp_path):
    scripts["tables"].write_rows(tmp_path / "t.md", "a | b", ["1 | ", "2 | x"])
    assert scripts["tables"].read_rows(tmp_path / "t.md") == [{"a": "1", "b": ""}, {"a": "2", "b": "x"}]
