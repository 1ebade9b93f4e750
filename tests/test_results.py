"""Results are one line at a prompt and a table in a notebook, which says what kind of claim each is."""

import functools
import importlib
import inspect
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import results
import torch
from scipy.sparse.linalg import LinearOperator

import odeopt
from odeopt.shown import Pictured, Shown

WINGS = ("dynamics", "kernels", "limits", "nets", "proofs", "rates", "spectra", "studies", "data")
# What is given, not found: rules, networks, operators; and what stands for files and sliders.
GIVEN = (odeopt.UpdateRule, odeopt.rules.Schedule, torch.nn.Module, LinearOperator, Exception)
ELSEWHERE = {"OutputFolder", "PredictionLoss"}


@functools.cache
def found(name):
    return getattr(results, name)()


ALL = ("of_equations", "of_spectra", "of_proofs", "of_networks", "of_studies")


@pytest.fixture(scope="module")
def every():
    return [result for name in ALL for result in found(name)]


def test_each_public_class_of_results_is_among_them(every):
    seen = {type(result) for result in every}
    wings = [importlib.import_module(f"odeopt.{wing}") for wing in WINGS]
    exported = {
        value for wing in wings for name in wing.__all__ if inspect.isclass(value := getattr(wing, name))
    }
    missing = {c.__name__ for c in exported - seen if not issubclass(c, GIVEN)} - ELSEWHERE
    assert missing == set()


@pytest.mark.parametrize("name", ALL)
def test_a_result_is_one_line_at_a_prompt_without_arrays_or_addresses(name):
    for result in found(name):
        line = repr(result)
        assert "\n" not in line and len(line) <= 150, line
        assert type(result).__name__ in line
        for dump in ("array(", "0x", "mappingproxy", "nan,"):
            assert dump not in line, line
        assert not re.search(r"\.\d{8}", line), line


def tables(name):
    return [r for r in found(name) if isinstance(r, Shown) and r._repr_html_() is not None]


@pytest.mark.parametrize("name", ALL)
def test_a_table_is_well_formed_html_with_the_same_cells_as_the_text(name):
    for result in tables(name):
        tree = ET.fromstring(result._repr_html_())
        head, *rows = [[cell.text or "" for cell in row] for row in tree.iter("tr")]
        assert rows and all(len(row) == len(head) for row in rows)
        text = result._summary().text(repr(result))
        for line, cells in zip(text.splitlines()[1 : len(rows) + 2], [head, *rows], strict=True):
            assert line.split() == " ".join(cells).split()
        assert not {*(e.tag for e in tree.iter())} & {"script", "style", "a", "img"}


def test_a_hostile_name_is_text_in_a_notebook_and_stays_in_its_line():
    hostile = type("<img src=x onerror=alert()>\n&", (odeopt.GradientDescent,), {})(0.1)
    measure = odeopt.spectral_measure(np.eye(2), [1.0, 2.0])
    forecast = odeopt.forecast(results.X, results.Y, methods=[hostile], target=0.5)
    for result in (odeopt.loss_curve(hostile, measure, [0, 1]), forecast):
        page = result._repr_html_()
        ET.fromstring(page)
        assert "<img" not in page and "&lt;img" in page
        assert "\n" not in repr(result)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("of_spectra", {"exact", "Gauss rule", "proved bounds", "rigorous", "measured"}),
        ("of_networks", {"measured", "estimated", "exact for the linear model"}),
        ("of_studies", {"predicted", "rigorous", "measured"}),
        ("of_equations", {"exact", "integrated", "verified"}),
    ],
)
def test_lines_say_what_kind_of_claim_they_are(name, kinds):
    lines = "\n".join(map(repr, found(name)))
    assert {kind for kind in kinds if kind not in lines} == set()


def test_estimates_are_not_called_exact():
    x = np.random.default_rng(0).standard_normal((30, 3))
    gram = odeopt.relu_gram(x)
    few = odeopt.spectral_measure(gram, np.ones(30), num_matvecs=3)
    rule = odeopt.HeavyBall(0.1, 0.9)
    curve = odeopt.predict(rule, few, gram[:2], [0, 50])
    assert not curve.exact.all() and "estimated within" in repr(curve) and "exact" not in repr(curve)
    assert "exact" not in repr(few)
    found = odeopt.spectra.effective_dimension(gram, 0.1, probes=4)
    assert "estimated" in repr(found) and "exact" not in repr(found)
    limit = odeopt.ode_limit(odeopt.HeavyBall(odeopt.rules.Cosine(0.01, steps=100), 0.9))
    mode = odeopt.dynamics.integrated_mode(odeopt.error_dynamics(limit))
    assert "numerical" in repr(mode) and "exact" not in repr(mode)


@pytest.mark.parametrize("name", ALL)
def test_pictures_have_names_of_axes_and_a_legend(name):
    for result in found(name):
        if not isinstance(result, Pictured) or repr(result).startswith("EnsembleCurve(the end"):
            continue
        ax = result.plot()
        assert ax.get_ylabel() and (ax.get_xlabel() or len(ax.figure.axes) > 1), result
        assert ax.get_legend() or ax.figure.legends, result
