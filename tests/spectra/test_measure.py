"""How measures and curves are shown: a line, not their arrays; and what a measure is not asked or given."""

import re

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from odeopt import GradientDescent, loss_curve, predict, spectral_measure

KERNEL = np.diag([1.0, 2.0, 4.0])


def test_results_are_shown_in_a_line_with_their_kind():
    exact = spectral_measure(KERNEL, np.ones(3))
    assert repr(exact) == "SpectralMeasure(3 nodes from 1 to 4, mass 3, exact)"
    assert "Gauss rule by Lanczos" in repr(spectral_measure(KERNEL, np.ones(3), num_matvecs=2))
    shown = repr(loss_curve(GradientDescent(0.1), exact, [0, 10]))
    told = r"proved bounds, iteration GradientDescent\(lr=0.1\)"
    assert re.fullmatch(rf"LossCurve\(k = 0 to 10, loss 1.5 to 0.06\d+, {told}\)", shown)
    assert "no bounds" in repr(loss_curve(GradientDescent(0.1), exact, [0, 10], bounds=False))
    points = predict(GradientDescent(0.1), exact, np.ones((2, 3)), [0, 1, 2])
    assert repr(points).startswith("PointCurve(k = 0 to 2, predictions of shape (2,), exact but for rounding")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (3, "function must be one of nodes, got int"),
        (lambda lam: 1.0, r"function\(nodes\) must have shape \(n,\), got \(\)"),
        (lambda lam: lam[1:], r"nodes of shape \(2,\) to as many values, got \(1,\)"),
        (lambda lam: None, r"function\(nodes\) must hold real numbers"),
    ],
)
def test_a_function_that_has_no_value_at_each_node_is_refused(function, reason):
    measure = spectral_measure(np.diag([1.0, 4.0, 9.0]), np.ones(3), num_matvecs=2)
    for ask in (measure.integrate, measure.bounds):
        with pytest.raises(ValueError, match=reason):
            ask(function)


def test_an_operator_with_complex_products_is_refused():
    """Their imaginary part was dropped, and the bounds were called proved."""
    hidden = LinearOperator((2, 2), matvec=lambda x: (1 + 0.1j) * x, dtype=float)
    with pytest.raises(ValueError, match="must be real, but returned complex numbers"):
        spectral_measure(hidden, [1.0, 2.0], num_matvecs=1, interval=(0.0, 2.0))


@pytest.mark.parametrize("curves", [(), [3], lambda measure: measure])
def test_a_tolerance_without_a_list_of_curves_is_refused(curves):
    with pytest.raises(ValueError, match="with curves, a list of callables"):
        spectral_measure(np.eye(2), [1.0, 2.0], rtol=1e-3, curves=curves)
