"""Test curves of networks are foretold before training: the headline of benchmarks/test_curves.py."""

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def study(monkeypatch):
    """The script, whose functions are used here as it uses them."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    return importlib.import_module("test_curves")


@pytest.mark.slow  # one network's fall is in test_width
def test_what_parts_a_network_from_its_prediction_on_new_points_falls_at_least_like_the_root_of_its_width(
    study,
):
    """From width 512 to 8192 by 4 = 16 ** 0.5, in the predictions, whose distance has no sign to cancel."""
    problem, seeds, found = study.digits(24, 24), 4, {}
    make = study.NETWORKS["two-layer, first layer"]
    for width in (512, 8192):
        runs = [study.runs_of(partial(make, width, width + seed), problem, 200) for seed in range(seeds)]
        for method in runs[0]:
            values = [(run[method]["predictions"], run[method]["test"]) for run in runs]
            found[method, width] = np.mean(values, axis=0)
    for method in ("GD", "HB", "NAG"):
        narrow, wide = found[method, 512], found[method, 8192]
        # One network scatters by about 0.3 from its mean, a ratio of means of 4 by 0.2 in the logarithm.
        assert np.log(narrow[0] / wide[0]) > np.log(4) - 3 * 0.2, method
        assert wide[1] < min(0.01, narrow[1]), method  # of the test loss at the start
