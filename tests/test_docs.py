"""The documentation: the code of every page runs (`make docs` builds the site)."""

import re
from pathlib import Path

import pytest
from processes import output

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").glob("**/*.md") if "{code-cell}" in path.read_text())
CELL = re.compile(r"^```\{code-cell\}.*?\n(.*?)^```", re.S | re.M)


def test_pages_that_compute_are_found():
    assert len(PAGES) >= 7


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page, tmp_path):
    output("-c", "\n".join(CELL.findall(page.read_text())), cwd=tmp_path)
