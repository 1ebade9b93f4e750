"""Which runs with schedules nets.train takes: those that stay bounded, whatever their peak."""

from __future__ import annotations

import numpy as np
import pytest

from odeopt import Adam, GradientDescent, HeavyBall, max_learning_rate
from odeopt.nets import TwoLayerReLU, empirical_gram, train, train_batch, train_sgd
from odeopt.rules import Cosine, Warmup

X, Y, STEPS = np.eye(3), np.array([1.0, -1.0, 0.5]), 40


def net():
    return TwoLayerReLU(3, 60, seed=1)


def curvature():
    return float(np.linalg.eigvalsh(empirical_gram(net(), X))[-1])


RULE = pytest.mark.parametrize(
    "rule", [GradientDescent(Cosine(1.0, steps=STEPS)), HeavyBall(Warmup(8) * Cosine(1.0, steps=STEPS), 0.9)]
)


@RULE
def test_a_run_just_below_the_limit_trains_and_just_above_it_is_refused(rule):
    limit = max_learning_rate(rule, curvature(), num_steps=STEPS) / rule.lr.largest
    run = train(net(), rule.replace(lr=0.999 * limit * rule.lr), X, Y, STEPS)
    assert run.num_steps == STEPS
    above = rule.replace(lr=1.001 * limit * rule.lr)
    for trained in (
        lambda: train(net(), above, X, Y, STEPS),
        lambda: train_batch([net()], above, X, Y, STEPS),
        lambda: train_sgd(net(), above, X, Y, STEPS, batch_size=3),
    ):
        with pytest.raises(
            ValueError, match=r"grows 1\d[.\d]* times by k = \d+; take a peak of lr of at most"
        ):
            trained()
    train(net(), above, X, Y, STEPS, allow_unstable=True)


def test_a_rule_without_a_bound_is_refused_with_its_reason():
    with pytest.raises(ValueError, match=r"no stability limit is known .* not linear .* allow_unstable"):
        train(net(), Adam(Cosine(0.01, steps=STEPS)), X, Y, STEPS)
