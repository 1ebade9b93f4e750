"""The command line: files, JSON, one clear line and status 2 on refusal."""

import json
import subprocess
import sys

import numpy as np
import pytest

import odeopt
from odeopt import cli

pytestmark = pytest.mark.usefixtures("axes_as_they_fall")

SMALL = ["--n", "12", "--width", "128", "--seeds", "1", "--steps", "40"]


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", *arguments])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_check_writes_three_files_and_prints_the_tables(monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "check", *SMALL, "--out", str(tmp_path / "o"))
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["check.json", "check.png", "curves.npz"]
    for word in ("gd", "hb", "nag", "hm", "Delta''", "Error budget", "t^-3"):
        assert word in out


def test_check_writes_its_picture_as_vectors_for_a_paper_if_asked(monkeypatch, capsys, tmp_path):
    for asked, written in (("pdf, png", ["check.pdf", "check.png"]), ("svg", ["check.svg"])):
        options = [*SMALL, "--methods", "gd", "--out", str(tmp_path), "--pictures", asked]
        code, out, _ = run(monkeypatch, capsys, "check", *options)
        assert code == 0
        # a picture of an earlier run does not stay beside the numbers of this one
        assert sorted(path.name for path in tmp_path.iterdir()) == ["check.json", *written, "curves.npz"]
        assert written[0] in out
    for command in (["check"], ["predict", "d.npz"], ["sweep"]):  # told before anything is read or computed
        code, _, error = run(monkeypatch, capsys, *command, "--pictures", "doc")
        assert code == 2
        assert "png, pdf, svg, got 'doc'" in error


def test_json_output_is_the_file(monkeypatch, capsys, tmp_path):
    code, out, _ = run(
        monkeypatch, capsys, "check", *SMALL, "--methods", "gd", "--json", "--out", str(tmp_path)
    )
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "check.json").read_text())


def test_check_takes_schedules_decay_and_rules_of_ones_own(monkeypatch, capsys, tmp_path):
    (tmp_path / "halved_rules.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, out, _ = run(
        monkeypatch, capsys, "check", *SMALL, "--methods", "gd", "--lr", "warmup:0.1*cosine:0.1",
        "--weight-decay", "0.01", "--to-start", "--rule", "Adam lr=linear:0.01",
        "--rule", f"{tmp_path / 'halved_rules.py'}:Halved lr=0.1", "--json", "--out", str(tmp_path / "o"),
    )  # fmt: skip
    assert code == 0
    gd, adam, own = json.loads(out)["methods"]
    assert gd["hyperparameters"]["lr"]["left"] == {"schedule": "Warmup", "steps": 4, "start": 0.0}
    assert (gd["hyperparameters"]["weight_decay"], gd["hyperparameters"]["to_start"]) == (0.01, True)
    assert adam["hyperparameters"]["lr"] == {"schedule": "Linear", "start": 0.01, "steps": 40, "end": 0.0}
    assert "discrete_h0" in adam["notes"]
    assert own["rule"] == "Halved"
    assert own["weight_ode"] == "X' + 1/2*grad f(X) = 0"


@pytest.mark.slow
def test_methods_without_weight_decay_are_left_out_of_the_default_ones_and_that_is_said(
    monkeypatch, capsys, tmp_path
):
    code, out, err = run(
        monkeypatch, capsys, "check", *SMALL, "--weight-decay", "0.1", "--json",
        "--out", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    assert "odeopt: hm is left out, for it has no weight decay" in err
    methods = json.loads(out)["methods"]
    assert [m["name"] for m in methods] == ["gd", "hb", "nag"]
    assert [m["hyperparameters"]["weight_decay"] for m in methods] == [0.1] * 3


OWN = """
from dataclasses import dataclass
from odeopt import UpdateRule

@dataclass(frozen=True)
class Halved(UpdateRule):
    lr: float

    def step(self, k, iterates, memory, grad):
        return iterates[0] - self.lr / 2 * grad(iterates[0]), memory
"""


def test_own_data_file(monkeypatch, capsys, tmp_path):
    rng = np.random.default_rng(8)
    np.savez(tmp_path / "d.npz", x=rng.standard_normal((9, 5)), y=rng.standard_normal(9))
    code, out, _ = run(
        monkeypatch, capsys, "check", *SMALL, "--methods", "gd", "--n", "0", "--json",
        "--data", str(tmp_path / "d.npz"), "--out", str(tmp_path),
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["problem"]["n"] == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "gd,nagg"], ["unknown method 'nagg'", "did you mean 'nag'"]),
        (["--methods", "gd", "--lr", "5"], ["lr = 5", "stability limit"]),
        (["--r", "-2"], ["r must be nonnegative", "-2"]),
        (["--methods", "gd", "--lr", "cos:0.1"], ["lr must be numbers", "'cos' is not among linear:START"]),
        (["--methods", "gd", "--lr", "linear:0.1:-0.1"], ["lr must be nonnegative", "-0.1"]),
        (
            ["--methods", "gd", "--lr", "table:0.1/0.1"],
            ["num_steps = 40", "Table(2 values)", "after 2 steps"],
        ),
        (["--methods", "gd,hm", "--weight-decay", "0.1"], ["hm has no weight decay"]),
        (["--average", "mean"], ["average must be polyak", "'mean'"]),
        (["--decoupled"], ["--decoupled and --to-start", "give --weight-decay"]),
        (["--rule", "absent.py:Rule"], ["there is no file"]),
        (["--momenta", "0.2;0.5"], ["momenta", "0.2;0.5"]),
        (["--data", "missing.npz"], ["missing.npz"]),
        (["--width", "0"], ["width", "0"]),
        (["--out", "/proc/nowhere"], ["out", "/proc/nowhere", "writable"]),
    ],
)
def test_refusals_are_one_line_and_status_two(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "check", *SMALL, *arguments)
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("odeopt: ")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_duplicate_rows_in_a_file_are_named(monkeypatch, capsys, tmp_path):
    x = np.random.default_rng(9).standard_normal((5, 3))
    x[4] = 3 * x[1]
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(5.0))
    options = ["--data", str(tmp_path / "d.npz"), "--out", str(tmp_path / "o"), "--methods", "gd"]
    code, out, _ = run(monkeypatch, capsys, "check", *SMALL, *options)
    assert code == 0
    assert "Singular kernel, 1 zero eigenvalue(s): 1 group(s) of parallel rows (1, 4)" in " ".join(
        out.split()
    )
    code, out, err = run(monkeypatch, capsys, "check", *SMALL, *options, "--strict")
    assert (code, out) == (2, "")
    assert "parallel rows 1 and 4" in err


def certify(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", "certify", *arguments])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_certify_prints_the_claim_and_its_checks(monkeypatch, capsys):
    code, out, _ = certify(monkeypatch, capsys, "--friction", "3/sqrt(2)", "--mu", "1", "--L", "10")
    assert code == 0
    assert "exp(-sqrt(2) t) on F(1, 10)" in out
    assert out.count("yes") >= 8
    assert "NO" not in out


def test_certify_writes_json_that_it_verifies_and_notices_a_change(monkeypatch, capsys, tmp_path):
    code, text, _ = certify(
        monkeypatch, capsys, "HeavyBall", "lr=0.01", "momentum=0.8", "--mu", "1", "--json"
    )
    assert code == 0
    (tmp_path / "good.json").write_text(text)
    content = json.loads(text)
    content["energy"] += " + x**2/1000000000"
    (tmp_path / "bad.json").write_text(json.dumps(content))
    assert certify(monkeypatch, capsys, "--verify", str(tmp_path / "good.json"))[0] == 0
    code, out, _ = certify(monkeypatch, capsys, "--verify", str(tmp_path / "bad.json"))
    assert code == 1
    assert "NO" in out


def test_certify_an_iteration_and_latex(monkeypatch, capsys):
    arguments = ["GradientDescent", "lr=0.4", "--mu", "1", "--L", "4", "--iteration"]
    assert "^k on F(1, 4)" in certify(monkeypatch, capsys, *arguments)[1]
    assert r"\begin{aligned}" in certify(monkeypatch, capsys, *arguments, "--latex")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--friction", "2", "--mu", "0"], ["mu must be positive"]),
        (["--friction", "0", "--mu", "1"], ["friction must be positive"]),
        (["--friction", "two", "--mu", "1"], ["friction must be a number as 0.1, 1/3 or 3/sqrt(2)", "'two'"]),
        (["--friction", "2", "--mu", "1", "--L", "0.5"], ["L must be at least mu"]),
        (["--friction", "2", "--mu", "1", "--rate", "1.35"], ["rate = 1.35", "the best is 1.33333333"]),
        (["--r", "2.9", "--rate", "2"], ["power = 2", "r >= 3"]),
        (["HeavyBall", "lr=0.1", "momentum=0.5", "--r", "3"], ["name one of"]),
        ([], ["name one of"]),
        (["--verify", "missing.json"], ["missing.json", "cannot be read"]),
    ],
)
def test_certify_refuses_in_one_line(monkeypatch, capsys, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = certify(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("odeopt: ")]
    assert all(word in line for word in words)


def test_the_package_is_a_command():
    arguments = ["derive", "GradientDescent", "lr=0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "odeopt", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "X' + grad f(X) = 0" in done.stdout


def test_version_is_that_of_the_package(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"odeopt {odeopt.__version__}\n")
