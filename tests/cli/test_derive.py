"""odeopt derive and odeopt methods: equations, derivations line by line, and what each rule answers."""

import json
import sys

import pytest

from odeopt import cli
from odeopt.rules.names import RULES


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["odeopt", *arguments])
    with pytest.raises(SystemExit) as status:
        cli.main()
    captured = capsys.readouterr()
    return status.value.code, captured.out, captured.err


def test_derive_prints_the_equation_and_its_clock(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "derive", "Nesterov", "lr=0.01", "r=4", "--resolution", "1")
    assert code == 0
    assert "X'' + (4/t)*X'" in out
    assert "grad^2 f(X)[X']" in out
    assert "t = (k + 1) * 0.1" in out
    code, out, _ = run(monkeypatch, capsys, "derive", "GradientDescent", "lr=cosine:0.1:0:100")
    assert "X' + s(t)*grad f(X) = 0" in out
    code, out, _ = run(monkeypatch, capsys, "derive", "Adam", "lr=0.1", "bias_correction=false", "--json")
    assert json.loads(out)["equation"].startswith("X' = -M_0/")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["HeavyBal", "lr=0.1"], ["unknown method 'HeavyBal'", "did you mean HeavyBall?"]),
        (["HeavyBall", "lr=0.1", "momentum"], ["name=value", "'momentum'"]),
        (["HeavyBall", "lr=0.1", "beta=0.9"], ["HeavyBall takes lr, momentum", "beta"]),
        (["HeavyBall", "lr=0.1", "momentum=x"], ["momentum must be numbers"]),
        (["GradientDescent", "lr=cosine:0.1"], ["number of steps is not given", "cosine:START"]),
        (["HeavyBall", "lr=0.1", "momentum=0.9", "--regime", "slow"], ["regime must be one of"]),
    ],
)
def test_derive_refuses_in_one_line(monkeypatch, capsys, arguments, words):
    code, _, err = run(monkeypatch, capsys, "derive", *arguments)
    assert code == 2
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        (
            ["hb"],
            ["1. Update rule", "x_k = X(t)", "X(t - h) = X - h*X' + h**2*X''/2 + O(h**3)", "R_1 = 0"],
        ),
        (["Nesterov"], ["3. Expansion", "X'' + 3*X'/t + grad f(X) = 0", "X'(0) = 0"]),
        (
            ["adam"],
            ["m_{k,0} = M_0(t)", "M_0(t + h) = M_0 + h*M_0' + O(h**2)", "M_0' = a*(-M_0 + grad f(X))"],
        ),
        (["AdaGrad"], ["m_{k,0} = M_0(t)/h", "X' = -grad f(X)/sqrt(M_0)"]),
    ],
)
def test_steps_lead_from_the_rule_to_the_limit(monkeypatch, capsys, method, lines):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(monkeypatch, capsys, "derive", *method, "--steps")
    assert code == 0
    assert "no numbers given" in err
    assert max(map(len, (out + err).splitlines())) <= 80
    found = [line.strip() for line in out.splitlines()]
    assert all(line in found for line in lines)


def test_the_start_in_json_is_printed_as_all_other_formulas(monkeypatch, capsys):
    numbers = ("lr=0.0123456789", "momentum=0.987654321", "--resolution", "1", "--json")
    _, text, _ = run(monkeypatch, capsys, "derive", "hb", *numbers)
    assert json.loads(text)["initial"] == ["-0.0555556*grad f(X)"]


def test_a_derivation_is_the_same_as_text_latex_and_json(monkeypatch, capsys):
    _, out, _ = run(monkeypatch, capsys, "derive", "hb", "--latex", "--steps")
    assert out.splitlines()[1] == r"\ddot{X} + 1.02598\,\dot{X} + \nabla f(X) = 0"
    assert r"R_{2} = \ddot{X} + b \dot{X} + \nabla f(X)" in " ".join(out.split())
    _, text, err = run(monkeypatch, capsys, "derive", "hb", "--json")
    told = json.loads(text)
    assert err.startswith("odeopt: no numbers given: HeavyBall(lr=0.01, momentum=0.9)")
    assert [step["title"] for step in told["steps"]][:3] == [
        "Update rule", "Samples of a curve, t = k h", "Expansion",
    ]  # fmt: skip
    assert all(step["latex"] in out.replace("\n    ", " ") for step in told["steps"])


def test_methods_are_listed_with_their_equations_in_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(monkeypatch, capsys, "methods")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for shown in ("hb   HeavyBall(lr=0.01, momentum=0.9)", "X'' + (3/t)*X' + grad f(X) = 0", "SignDescent"):
        assert shown in out
    _, out, _ = run(monkeypatch, capsys, "methods", "--json")
    answers = {method["rule"].split("(")[0]: method["answers"] for method in json.loads(out)}
    assert set(answers) == set(RULES)
    assert {"loss curve", "proof of the ODE", "proof of the iteration"} <= {*answers["QHM"]}
    assert "proof of the ODE" in answers["Nesterov"]
    assert "proof of the iteration" not in answers["Nesterov"]  # its weights vary with k
    assert not {"loss curve", "proof of the ODE"} & {*answers["Adam"]}
