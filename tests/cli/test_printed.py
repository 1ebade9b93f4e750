"""What the commands print: tables of 80 columns without escape codes in a pipe, and one JSON document."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from odeopt import cli
from odeopt.cli.printed import called, say
from odeopt.studies.files import json_text

pytestmark = pytest.mark.usefixtures("axes_as_they_fall")

SMALL = ["--n", "10", "--width", "32", "--seeds", "1", "--steps", "20"]
LONG_RULES = [
    "--rule", "HeavyBall lr=0.0003 momentum=0.99 weight_decay=0.0001 to_start=true",
    "--rule", "HeavyBall lr=0.0001 momentum=0.5", "--rule", "Adam lr=0.0001",
]  # fmt: skip
COMMANDS = {
    "check": ["check", *SMALL, *LONG_RULES, "--classes", "--average", "polyak", "--out", "checked"],
    "predict": [
        "predict", "d.npz", *LONG_RULES[:2], "--rule", "Averaged gd lr=0.1", "--test", "0.2", "--target",
        "0.5", "--max-steps", "200", "--out", "predicted",
    ],
    "softmax": ["predict", "c.npz", "--test", "0.2", "--loss", "softmax", "--steps", "20"],
    "sweep": ["sweep", "--widths", "16", "--seeds", "1", "--steps", "9", "--n", "8", "--workers", "1",
              "--lr", "0.1", "--methods", "gd", "--out", "swept"],
    "certify": ["certify", "hb", "lr=0.01", "momentum=0.8", "--mu", "1", "--L", "10"],
}  # fmt: skip


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 4))
    np.savez("d.npz", x=x, y=x[:, 0])
    np.savez("c.npz", x=x, y=(x[:, 0] > 0).astype(int))

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["odeopt", *arguments])
        with pytest.raises(SystemExit) as status:
            cli.main()
        captured = capsys.readouterr()
        return status.value.code, captured.out, captured.err

    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_fits_80_columns_and_its_json_is_one_document(run, name):
    code, out, err = run(*COMMANDS[name])
    assert code == 0, err + out
    printed = out + err
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed
    assert "…" not in printed  # rich cuts what does not fit
    told = " ".join(err.split())
    assert ("--average is of methods by name; each --rule is taken as it is written" in told) == (
        name == "check"
    )
    if name == "check":  # its document is check.json
        text = Path("checked/check.json").read_text()
    else:
        code, text, _ = run(*COMMANDS[name], "--json")
        assert code == 0

    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    assert json.loads(text, parse_constant=refuse)


def test_numbers_that_json_has_not_are_null_and_arrays_are_lists():
    told = {"a": np.float32(np.inf), "b": np.array([1.5, np.nan]), "c": np.bool_(True), "d": -np.inf}
    assert json.loads(json_text(told)) == {"a": None, "b": [1.5, None], "c": True, "d": None}


def test_a_path_stays_whole_and_a_long_fraction_is_broken(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/" + "folder/" * 8
    say(f"Written to {path} and {'7' * 50}/{'3' * 20}", hang=2)
    first, second, *others = capsys.readouterr().out.splitlines()
    assert (first, second) == ("Written to", f"  {path}")
    assert max(map(len, others)) <= 40
    assert "".join(line.strip() for line in others) == "and" + "7" * 50 + "/" + "3" * 20


def test_tables_number_rules_of_one_class():
    class Method:
        def __init__(self, name):
            self.name = name

    assert list(called(map(Method, ["gd", "Adam(lr=1)", "Adam(lr=2)"])).values()) == [
        "gd",
        "Adam 1",
        "Adam 2",
    ]


def test_verifying_says_in_json_and_in_its_status_whether_a_certificate_holds(run, tmp_path):
    _, text, _ = run("certify", "gd", "lr=0.1", "--mu", "1", "--json")
    path = tmp_path / "proof.json"
    path.write_text(text)
    code, out, _ = run("certify", "--verify", str(path), "--json")
    told = json.loads(out)
    assert (code, told["holds"], {c["holds"] for c in told["checks"]}) == (0, True, {"yes"})
    content = json.loads(text)
    path.write_text(json.dumps(content | {"energy": content["energy"] + " + x**2/1000000000"}))
    code, out, _ = run("certify", "--verify", str(path), "--json")
    told = json.loads(out)
    assert (code, told["holds"]) == (1, False)
    assert any(line["holds"] != "yes" and line["reason"] for line in told["checks"])
