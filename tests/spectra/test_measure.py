"""How measures and curves are shown: a line, not their arrays."""

import re

import numpy as np

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
