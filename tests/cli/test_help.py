"""Help that teaches: each ends with examples, and each example is a command that the parser takes."""

import shlex
import sys

import pytest
import typer

from odeopt import cli
from odeopt.cli.app import app
from odeopt.cli.examples import EXAMPLES
from odeopt.rules.schedule_text import SCHEDULE_FORMS


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_help_has_its_examples_within_80_columns(monkeypatch, capsys, name):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["odeopt", name, "--help"])
    with pytest.raises(SystemExit) as status:
        cli.main()
    out = capsys.readouterr().out
    assert status.value.code == 0
    lines = [line.strip() for line in out.splitlines()]
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out  # rich cuts what does not fit
    assert all(line in lines for line in EXAMPLES[name])
    assert all(form in lines for form in SCHEDULE_FORMS) == (name in ("check", "predict", "sweep"))


def test_every_command_has_examples_that_the_parser_takes():
    group = typer.main.get_command(app)
    assert set(group.commands) == set(EXAMPLES)
    for name, lines in EXAMPLES.items():
        for line in lines:
            program, command, *arguments = shlex.split(line)
            assert (program, command) == ("odeopt", name)
            group.commands[name].make_context(name, arguments)


@pytest.mark.parametrize("line", [*EXAMPLES["derive"], *EXAMPLES["certify"][:3]])
def test_examples_that_need_no_file_run(monkeypatch, capsys, line):
    monkeypatch.setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as status:
        cli.main()
    assert status.value.code == 0, capsys.readouterr().err
