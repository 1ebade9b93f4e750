"""A check with a test set: trained and predicted losses on it, nearer to each other the wider the network."""

import numpy as np
import pytest

from odeopt import Adam, check
from odeopt.studies import CheckSettings

RNG = np.random.default_rng(0)
X = RNG.standard_normal((24, 4))
Y = np.sin(X[:, 0])


@pytest.mark.parametrize(
    ("options", "classes"),
    [
        pytest.param({}, False, marks=pytest.mark.slow),
        ({"weight_decay": 0.05}, False),
        pytest.param({"layers": "both"}, False, marks=pytest.mark.slow),
        ({"average": 0.9}, True),
    ],
)
def test_predictions_on_a_test_set_near_the_trained_networks_with_width(options, classes):
    y = (Y > 0).astype(int) + (Y > 0.6) if classes else Y
    distance = []
    for width in (128, 8192):
        settings = CheckSettings(width=width, seeds=6, num_steps=60, **options)
        report = check(X, y, test=0.25, methods=["gd"], settings=settings, classes=classes)
        told = report["gd"].test
        curve = report["gd"].curves["test_trained"].mean(axis=0)
        assert told["trained"]["last"]["loss"] == pytest.approx(curve[-1], rel=1e-12)  # one mean of seeds
        assert told["trained"]["best"]["loss"] == pytest.approx(curve.min(), rel=1e-12)
        assert (told["trained"]["last"]["accuracy"] is None) is not classes
        distance.append([np.mean(np.square(values)) ** 0.5 for values in told["distance"].values()])
    # Both fall as m^(-1/2), by 8 here. Over 6 seeds each root mean square varies by a factor of about
    # exp(1/sqrt(12)), their ratio by exp(0.41), and log(8/3) = 0.98 is 2.4 of these deviations.
    assert (np.array(distance[0]) > 3 * np.array(distance[1])).all()
    assert report.problem["test"]["p"] == 6


def test_a_rule_that_is_not_linear_is_trained_alone_and_rows_in_both_sets_are_said():
    settings = CheckSettings(width=64, seeds=1, num_steps=5)
    report = check(X, Y, test=(X[:3], Y[:3]), methods=[Adam(0.001)], settings=settings)
    assert {*report["Adam"].test} == {"trained", "distance"}
    assert report["Adam"].test["distance"] == {}
    assert "3 of the 3 rows of test are rows of x too" in report.problem["test"]["note"]
