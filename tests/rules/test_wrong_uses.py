"""Wrong uses of the public functions that take a rule: each is refused in the package's words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sympy
from steps import LATE, NOT_LINEAR, SLIPS, descent, rule_of

from odeopt import (
    Adam,
    HeavyBall,
    SquaredLoss,
    UpdateRule,
    certify,
    discrete_rate,
    loss_curve,
    max_learning_rate,
    nets,
    ode_limit,
    spectral_measure,
    tune,
)
from odeopt.dynamics import predict_iterates
from odeopt.rates import crossover_step, steps_to, tune_for
from odeopt.rules import iterate, residual_polynomials, spectral_radius, transition_matrix
from odeopt.spectra import sgd_prediction

# words of numpy, sympy, torch and Python themselves
RAW = (
    "values to unpack", "truth value", "setting an array", "could not be broadcast", "operands could not",
    "has no attribute", "is not defined", "not subscriptable", "unsupported operand", "is ambiguous",
)  # fmt: skip


def plain(**options):
    return rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), m), **options)


RULES = {
    **{f"slip: {name}": rule_of(step) for name, (step, _) in SLIPS.items()},
    **{f"not linear: {name}": rule_of(step) for name, (step, _) in NOT_LINEAR.items()},
    **{f"k: {name}": descent(factor) for name, factor in LATE.items()},
    **{f"history {history!r}": plain(history=history) for history in (0, -1, 1.5, None, "2")},
    **{f"period {period!r}": plain(period=period) for period in (0, -1, 1.5, None, "2")},
    "memory in a list": plain(start=lambda x0: [x0]),
    "memory of a number": plain(start=lambda x0: (1.0,)),
    "memory of an object": plain(start=lambda x0: object()),
    "memory lost": rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), None), memories=1),
    "memory that grows": rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * grad(x[0]), (*m, x[0])), memories=1),
    "decay": rule_of(lambda s, k, x, m, grad: (x[0] - s.lr * (grad(x[0]) + 0.1 * x[0]), m)),
    "unstable at lr = 0": rule_of(
        lambda s, k, x, m, grad: (2 * x[1] - x[0] - s.lr * grad(x[0]), m), history=2
    ),
    "ascent": rule_of(lambda s, k, x, m, grad: (x[0] + s.lr * grad(x[0]), m)),
    "no gradient": rule_of(lambda s, k, x, m, grad: (x[0], m)),
    "a step that fails late": descent(lambda s, k: s.lr if k != 5 else 1 / 0),
    "Adam": Adam(0.1),
    "symbols": HeavyBall(sympy.Symbol("h", positive=True) ** 2, sympy.Rational(1, 2)),
    "text": "HeavyBall",
    "None": None,
    "a class": HeavyBall,
    "an abstract class": UpdateRule,
    "a number": 3,
    "a dict": {"lr": 0.1},
    "an array": np.ones(3),
}
EXACT = spectral_measure(np.diag([0.2, 0.5, 1.0]), np.ones(3))
LANCZOS = spectral_measure(np.diag(np.linspace(0.1, 1, 20)), np.ones(20), num_matvecs=6)
X, Y = np.random.default_rng(0).standard_normal((5, 3)), np.arange(5.0) - 2


def net():
    return nets.TwoLayerReLU(3, 8)


USES = {
    "iterate": lambda rule: list(itertools.islice(iterate(rule, np.ones(2), lambda z: z), 8)),
    "transition_matrix": lambda rule: transition_matrix(rule, [1.0]),
    "transition_matrix at k": lambda rule: transition_matrix(rule, [1.0], 5),
    "spectral_radius": lambda rule: spectral_radius(rule, [1.0]),
    "residual_polynomials": lambda rule: residual_polynomials(rule, [1.0], [3, 7]),
    "max_learning_rate": lambda rule: max_learning_rate(rule, 1.0),
    "discrete_rate": lambda rule: discrete_rate(rule, 0.1, 1.0),
    "crossover_step": lambda rule: crossover_step(rule, 0.1),
    "loss_curve": lambda rule: loss_curve(rule, EXACT, [0, 7]),
    "loss_curve with a bracket": lambda rule: loss_curve(rule, LANCZOS, [0, 7]),
    "predict_iterates": lambda rule: predict_iterates(
        rule, np.eye(2), SquaredLoss(), np.zeros(2), np.ones(2), [0, 4]
    ),
    "sgd_prediction": lambda rule: sgd_prediction(rule, np.eye(3), np.ones(3), 1, [0, 3]),
    "ode_limit": lambda rule: ode_limit(rule),
    "tune": lambda rule: tune(rule, 0.1, 1.0),
    "tune_for": lambda rule: tune_for(rule, EXACT, 10),
    "steps_to": lambda rule: steps_to(rule, EXACT, 0.1, max_steps=50),
    "certify": lambda rule: certify(rule, mu=0.1, L=1),
    "nets.train": lambda rule: nets.train(net(), rule, X, Y, 8, allow_unstable=True),
    "nets.train, checked": lambda rule: nets.train(net(), rule, X, Y, 8),
    "nets.train_batch": lambda rule: nets.train_batch([net(), net()], rule, X, Y, 8, allow_unstable=True),
    "nets.trust_estimate": lambda rule: nets.trust_estimate(net(), rule, X, Y, 8),
}


def drawn():
    rng = np.random.default_rng(11)
    pairs = list(itertools.product(USES, RULES))
    return [pairs[i] for i in sorted(rng.choice(len(pairs), 300, replace=False))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("use", "name"), drawn())
def test_wrong_uses_end_in_a_refusal_or_in_an_answer(use, name):
    """Some are no mistake for every function: a step that jumps in k can be run, and trains a network."""
    rule, said = RULES[name], None
    try:
        USES[use](rule)
    except ValueError as error:
        said = str(error)
    assert said is None or not any(words in said for words in RAW)
    assert said is None or not isinstance(rule, UpdateRule) or type(rule).__name__ in said


@pytest.mark.parametrize(
    "name", ["slip: history forgotten", "slip: memory forgotten", "text", "None", "a dict"]
)
@pytest.mark.parametrize("use", USES)
def test_what_can_never_be_run_is_refused_everywhere(use, name):
    with pytest.raises(ValueError):
        USES[use](RULES[name])
