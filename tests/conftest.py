"""What every test shares. The environment is set here, before numpy or torch is imported."""

import gc
import os

# One thread unless OMP_NUM_THREADS asks for more: for the small products of the tests a second one, where
# its core is busy, makes each of them many times slower. The tests are green with any number.
# An environment variable also reaches the subprocesses and notebook kernels that tests start.
_THREADS = os.environ.setdefault("OMP_NUM_THREADS", "1")
for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = _THREADS
os.environ["MPLBACKEND"] = "Agg"
# Else each of some thirty processes that tests start would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import signal
import sys
import zlib

import hypothesis
import numpy as np
import pytest

# A shell starts what runs in the background with SIGINT ignored, and so would be every process of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no time limit for a single one: a red test stays red.
hypothesis.settings.register_profile("odeopt", derandomize=True, deadline=None)
hypothesis.settings.load_profile("odeopt")


# Notebooks that take long; what they show is asserted on smaller problems in the tests of the wings.
SLOW_NOTEBOOKS = tuple(f"{number:02}_" for number in range(1, 11))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is collected lives to the end: searches for garbage pass it by, which took a tenth of all time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    """Mark the slow studies among the notebooks."""
    for item in items:
        if item.path.name.startswith(SLOW_NOTEBOOKS):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def rng(request):
    """Random numbers of the test's own: fixed by its name, whatever runs before it."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _threads_of_torch():
    # Only where torch is in use already: most tests do without, and loading it takes seconds.
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > int(_THREADS):
        torch.set_num_threads(int(_THREADS))


@pytest.fixture
def axes_as_they_fall(monkeypatch):
    """Axes are not fitted to their labels, most of the work of a picture; test_plot looks at that."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: None)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
