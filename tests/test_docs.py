"""The documentation: the code and the commands of every page run (`make docs` builds the site)."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest
import typer
from processes import ROOT, output

from odeopt.cli.app import app

PAGES = sorted((ROOT / "docs").glob("**/*.md"))
RUN = [path for path in PAGES if "{code-cell}" in path.read_text()]
CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```", re.S | re.M)
FRONT_DOOR = (ROOT / "odeopt/__init__.pyi").read_text()


def test_pages_that_compute_are_found():
    assert len(RUN) >= 14


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page, tmp_path):
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    code = "\n".join(CELL.findall(page.read_text()))
    output("-c", code, cwd=tmp_path, env=os.environ | {"PATH": path})


def test_pages_hold_no_python_that_is_not_run():
    """A line that begins with ! is run, but its failure does not end a build."""
    not_run = re.compile(r"^(```python|!(?!\[))", flags=re.M)
    assert not [path.name for path in PAGES if not_run.search(path.read_text())]


def test_commands_of_the_pages_exist_with_their_options():
    commands = typer.main.get_command(app).commands
    found = [
        (path.name, name, option)
        for path in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        for name, rest in re.findall(r"(?:`|^)odeopt ([a-z]\w*)([^`]*)", path.read_text(), flags=re.M)
        for option in ["--help", *re.findall(r"--[a-z][a-z-]*", rest)]
    ]
    assert len(found) > 20
    for page, name, option in found:
        known = [text for p in commands[name].params for text in (*p.opts, *p.secondary_opts)]
        assert option in [*known, "--help"], f"{page}: odeopt {name} {option}"


def test_reference_holds_every_wing_and_what_stands_at_the_top():
    """That each name of a wing has its entry is checked by `docs/conf.py` as the site is built."""
    (wings,) = re.findall(r"^WINGS = (\[.*?\])", (ROOT / "docs/conf.py").read_text(), flags=re.M | re.S)
    wings = ast.literal_eval(wings)
    exported = re.findall(r"^from \. import (\w+) as", FRONT_DOOR, flags=re.M)
    assert sorted(wings) == sorted([*exported, "proofs.families"])
    page = (ROOT / "docs/api/index.md").read_text()
    listed = set(re.findall(r"^   odeopt\.([\w.]+)$", page, flags=re.M))
    top = re.findall(r"^from \.(\w+) import (\w+) as", FRONT_DOOR, flags=re.M)
    assert listed == {*wings, *(".".join(pair) for pair in top)}


def test_gallery_names_no_notebook_so_that_it_shows_all():
    assert re.search(r":glob:\n\ngallery/\*\n", (ROOT / "docs/gallery.md").read_text())
