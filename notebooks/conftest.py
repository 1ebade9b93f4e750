"""Which notebooks are slow studies, run by ``make test-all`` alone."""

import pytest

# minutes of training over widths and seeds; what they show is asserted on smaller networks in tests/nets
SLOW = ("04_finite_width.ipynb", "05_paper_figures.ipynb")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
